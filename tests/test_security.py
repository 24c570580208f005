"""Tests of TLS, proxies and credentials: what is verified, what passes through, and what no log ever shows."""

from __future__ import annotations

import asyncio
import base64
import logging
import ssl
from types import TracebackType
from typing import Any, Self

import pytest
import trustme

import fastbars
from fastbars import BinanceWebSocketAdapter, ConnectionState, StreamConfig
from fastbars.errors import WSConnectionError
from fastbars.live.secrets import hidden, without_credentials
from servers import TradeServer, trade, until

pytestmark = pytest.mark.usefixtures("no_task_is_left_behind")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def server_context(authority: trustme.CA, name: str = "localhost") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


def client_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def secure(url: str) -> str:
    return url.replace("ws://127.0.0.1", "wss://localhost")


class Proxy:
    """An HTTP proxy on loopback that knows CONNECT and asks for a password."""

    def __init__(self, credentials: str) -> None:
        self.requests: list[str] = []
        self._expected = "Basic " + base64.b64encode(credentials.encode()).decode()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()
        if self._tasks:
            await asyncio.wait(self._tasks)

    @property
    def address(self) -> str:
        assert self._server is not None
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.requests.append(head.split("\r\n")[0])
        if f"Proxy-Authorization: {self._expected}" not in head:
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            writer.close()
            return
        host, _, port = head.split(" ")[1].rpartition(":")
        try:
            there, back = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            writer.close()
            return
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(self._pipe(reader, back), self._pipe(there, writer))

    @staticmethod
    async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                writer.write(data)
        except OSError:
            pass
        finally:
            writer.close()


def adapter_of(url: str, **knobs: Any) -> BinanceWebSocketAdapter:
    quick: dict[str, Any] = {"close_by": "trades", "reconnect_delay": 0.01, "reconnect_max_delay": 0.01}
    return BinanceWebSocketAdapter(StreamConfig(**quick | knobs), url=url)


async def hear_one_trade(server: TradeServer, adapter: BinanceWebSocketAdapter) -> None:
    await adapter.connect()
    await adapter.subscribe(["BTCUSDT"])
    await server.send(trade(1, 0))
    await until(lambda: adapter.session.stats.trades == 1)
    await adapter.disconnect()


# TLS.


async def test_trades_come_over_tls_where_the_certificate_is_trusted(authority: trustme.CA) -> None:
    async with TradeServer(ssl=server_context(authority)) as server:
        await hear_one_trade(server, adapter_of(secure(server.url), ssl=client_context(authority)))


async def test_certificates_are_verified_by_default(authority: trustme.CA) -> None:
    async with TradeServer(ssl=server_context(authority)) as server:
        adapter = adapter_of(secure(server.url))
        with pytest.raises(WSConnectionError, match=r"cannot connect to wss://localhost:.*CERTIFICATE_VERIFY_FAILED"):
            await adapter.connect()
        assert server.accepted_s == []


async def test_a_certificate_of_another_host_is_refused(authority: trustme.CA) -> None:
    async with TradeServer(ssl=server_context(authority, "elsewhere.example")) as server:
        adapter = adapter_of(secure(server.url), ssl=client_context(authority))
        with pytest.raises(WSConnectionError, match="Hostname mismatch"):
            await adapter.connect()


async def test_a_certificate_that_turns_bad_while_reconnecting_stops_instead_of_looping(authority: trustme.CA) -> None:
    async with TradeServer(ssl=server_context(authority)) as server:
        adapter = adapter_of(secure(server.url), ssl=client_context(authority))
        await adapter.connect()
        await server.shut()
        server._options["ssl"] = server_context(trustme.CA())
        await server.open()
        with pytest.raises(WSConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
            await adapter.wait_closed()
        assert adapter.state is ConnectionState.DISCONNECTED
        assert len(server.accepted_s) == 1


async def test_tls_settings_reach_the_connection_through_stream(authority: trustme.CA) -> None:
    async with TradeServer(ssl=server_context(authority)) as server:
        options: dict[str, Any] = {"url": secure(server.url), "ssl": client_context(authority), "proxy": None}
        async with fastbars.stream("binance", ["BTCUSDT"], bars="tick:1", **options) as bars:
            await server.send(trade(1, 0))
            assert (await anext(bars)).trade_count == 1


# Proxies.


async def test_a_proxy_with_a_password_is_passed_through(authority: trustme.CA) -> None:
    async with Proxy("trader:s3cret") as proxy, TradeServer(ssl=server_context(authority)) as server:
        url = secure(server.url)
        adapter = adapter_of(url, ssl=client_context(authority), proxy=f"http://trader:s3cret@{proxy.address}")
        await hear_one_trade(server, adapter)
        port = url.rpartition(":")[2].split("/")[0]
        assert proxy.requests == [f"CONNECT localhost:{port} HTTP/1.1"]


async def test_a_wrong_password_for_the_proxy_is_an_error_that_shows_no_password() -> None:
    async with Proxy("trader:s3cret") as proxy, TradeServer() as server:
        adapter = adapter_of(server.url, proxy=f"http://trader:wr0ng@{proxy.address}")
        with pytest.raises(WSConnectionError, match="407") as failed:
            await adapter.connect()
        assert "wr0ng" not in text_of(failed.value)
        assert server.accepted_s == []


# Credentials.


def text_of(error: BaseException) -> str:
    """The error and all that a traceback would show of its causes."""
    shown: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        shown.append(f"{cause!r} {cause}")
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return "\n".join(shown)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("wss://user:pass@host/ws", "wss://***@host/ws"),
        ("wss://user:p@ss@host:1/ws", "wss://***@host:1/ws"),
        ("wss://user@host", "wss://***@host"),
        ("to http://u:p@a and wss://x:y@b", "to http://***@a and wss://***@b"),
        ("wss://host/ws?apiKey=abc&streams=btcusdt@trade", "wss://host/ws?apiKey=***&streams=btcusdt@trade"),
        ("wss://host/ws?streams=a&token=abc", "wss://host/ws?streams=a&token=***"),
        ("wss://host/ws?X-Signature=abc%20", "wss://host/ws?X-Signature=***"),
        ("wss://host/stream?streams=btcusdt@trade", "wss://host/stream?streams=btcusdt@trade"),
        ("wss://host/ws/btcusdt@trade", "wss://host/ws/btcusdt@trade"),
        ("nothing to hide", "nothing to hide"),
    ],
)
def test_credentials_are_hidden_in_any_text(text: str, shown: str) -> None:
    assert without_credentials(text) == shown


def test_an_error_that_shows_credentials_is_no_cause() -> None:
    harmless, telling = OSError("refused"), OSError("wss://user:pass@host refused")
    assert hidden(harmless) is harmless
    assert hidden(telling) is None


async def test_no_log_at_any_level_and_no_error_shows_credentials(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "websockets.server")  # the test's own server
    caplog.set_level(logging.DEBUG)
    headers = {"X-MBX-APIKEY": "k3y-of-mine", "Authorization": "Bearer t0ken", "Cookie": "session=c00kie"}
    async with Proxy("trader:s3cret") as proxy, TradeServer() as server:
        url = server.url.replace("ws://", "ws://someone:passw0rd@") + "?apiKey=qu3ry&listenKey=l1sten"
        knobs: dict[str, Any] = {
            "connect_options": {"additional_headers": headers},
            "proxy": f"http://trader:s3cret@{proxy.address}",
            "reconnect_attempts": 2,
        }
        adapter = adapter_of(url, **knobs)
        await hear_one_trade(server, adapter)
        await adapter.connect()
        await adapter.reconnect()
        await server.shut()
        with pytest.raises(WSConnectionError, match="gave up after 2 attempts") as failed:
            await adapter.wait_closed()
        shown = caplog.text + text_of(failed.value) + repr(adapter.config)
        for bad in (f"ftp://someone:passw0rd@{proxy.address}", f"ws://someone:passw0rd@{proxy.address}:x"):
            with pytest.raises(WSConnectionError, match="cannot connect") as failed:
                await adapter_of(bad).connect()
            shown += text_of(failed.value)
        with pytest.raises(WSConnectionError, match="cannot connect") as failed:
            await adapter_of(server.url, proxy=f"gopher://trader:s3cret@{proxy.address}").connect()
        shown += text_of(failed.value) + caplog.text
        assert "connected exchange='binance spot' url='ws://***@127.0.0.1" in shown
    assert "> Sec-WebSocket-Key" in shown  # the handshake was logged
    secrets = ("k3y-of-mine", "t0ken", "c00kie", "passw0rd", "s3cret", "qu3ry", "l1sten")
    coded = [base64.b64encode(text.encode()).decode() for text in ("trader:s3cret", "someone:passw0rd")]
    assert [secret for secret in (*secrets, *coded) if secret in shown] == []
