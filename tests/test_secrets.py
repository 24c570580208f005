"""Tests of what no text shows, passwords and keys wherever they were given, and of the way that REST takes."""

from __future__ import annotations

import asyncio
import base64
import logging
import struct
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
from websockets.frames import Frame, Opcode

import fastbars
from fastbars import BinanceWebSocketAdapter, StreamConfig, redaction
from fastbars.errors import FastbarsError, RestError, WebSocketError, WSConnectionError
from fastbars.exchanges import find_exchange
from fastbars.live.healing.upkeep import Upkeep
from fastbars.live.rest import RestClient, proxy_of
from fastbars.live.secrets import wire_log
from fastbars.live.session import Session
from fastbars.log import log
from fastbars.redaction import without_credentials
from servers import TradeServer, trade, until
from test_hostile_rest import Http

LISTEN_KEY = "pqia91ma19a5s61cv6a81va65sdf19v8a65a1a5s61cv6a81va65sdf19v8a65a1"
SECRETS = ("passw0rd", "k3y-of-mine", "qu3ry-key", "l1sten-to-me", "pr0xy-word", LISTEN_KEY)


@pytest.fixture(autouse=True)
def nothing_is_kept_of_other_tests() -> Iterator[None]:
    redaction._kept.clear()
    yield
    redaction._kept.clear()


pytestmark = pytest.mark.usefixtures("no_task_is_left_behind")


def all_of(error: BaseException) -> str:
    """An error and everything that hangs on it, shown in a traceback or not."""
    shown: list[str] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is not None:
            shown.append(f"{one!r} {one} {one.args}")
            waiting += [one.__cause__, one.__context__]
    return "\n".join(shown)


def written_in(folder: Path) -> str:
    return "".join(path.read_bytes().decode("latin-1") for path in folder.rglob("*") if path.is_file())


def secrets_in(text: str) -> list[str]:
    coded = [base64.b64encode(each.encode()).decode() for each in ("trader:passw0rd", "trader:pr0xy-word")]
    return [secret for secret in (*SECRETS, *coded) if secret in text]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"wss://stream.binance.com:9443/ws/{LISTEN_KEY}", "wss://stream.binance.com:9443/ws/***"),
        ("wss://h/ws/l1sten-to-me", "wss://h/ws/***"),
        ("wss://h/ws/abcdefghijkl?x=1", "wss://h/ws/***?x=1"),
        (f"wss://h/private/{LISTEN_KEY}/x", "wss://h/private/***/x"),
        ("wss://h/ws/btcusdt@trade/ethusdt@aggTrade", "wss://h/ws/btcusdt@trade/ethusdt@aggTrade"),
        ("wss://h/ws/!miniTicker@arr", "wss://h/ws/!miniTicker@arr"),
        ("wss://ws.okx.com:8443/ws/v5/business", "wss://ws.okx.com:8443/ws/v5/business"),
        ("wss://fstream.binance.com/public/ws", "wss://fstream.binance.com/public/ws"),
        ("wss://stream.bybit.com/v5/public/linear", "wss://stream.bybit.com/v5/public/linear"),
        ("https://api.binance.com/api/v3/historicalTrades", "https://api.binance.com/api/v3/historicalTrades"),
        ("https://h/api/v3/brokerage/market/products/BTC-USD/ticker",) * 2,
        (f"wss://h/stream?streams={LISTEN_KEY}", "wss://h/stream?streams=***"),
        ("see http://u:p@a/x and wss://b?listenKey=c.", "see http://***@a/x and wss://b?listenKey=***"),
        ("GET https://h/x?user=me&limit=5: refused", "GET https://h/x?user=***&limit=5: refused"),
        ("/var/lib/fastbars/recording-2026-11-30T12.jsonl.zst is full",) * 2,
        ("wss://", "wss://"),
        ("http://[::1", "http://[::1"),
    ],
)
def test_addresses_are_shown_without_their_secrets(text: str, shown: str) -> None:
    assert without_credentials(text) == shown


def test_what_was_given_as_a_secret_is_hidden_in_any_text_and_any_writing() -> None:
    StreamConfig(api_key="k3y/of mine", proxy="socks5://trader:pr0xy%2Dword@h:1", rest_url="https://h/?token=t0ken-x")
    for text in ("k3y/of mine", "k3y%2Fof%20mine", "pr0xy%2Dword", "pr0xy-word", "t0ken-x"):
        assert without_credentials(f"<{text}>") == "<***>"
        assert str(WebSocketError(f"<{text}>")) == "<***>"
        assert str(RestError(f"<{text}>")) == "<***>"
    assert without_credentials("trader") == "trader"


def test_no_more_secrets_are_kept_than_there_is_room_for() -> None:
    for number in range(3_000):
        redaction.keep_secret(f"secret-{number}")
    assert len(redaction._kept) == 1_000
    assert without_credentials("secret-2999") == "***"


def test_neither_a_configuration_nor_a_recording_of_it_shows_secrets() -> None:
    config = StreamConfig(
        api_key="k3y-of-mine", rest_url=f"https://trader:passw0rd@h/{LISTEN_KEY}?apiKey=qu3ry-key",
        proxy="http://trader:pr0xy-word@h:1", connect_options={"additional_headers": {"X-Key": "l1sten-to-me"}},
    )  # fmt: skip
    session = Session(find_exchange("binance"), config, channel="trade")
    upkeep = Upkeep(session, f"wss://trader:passw0rd@h/ws/{LISTEN_KEY}")
    shown = f"{config} {config!r} {session.declaration('trade')} {session!r} {upkeep!r} {upkeep._client!r}"
    assert secrets_in(shown) == []


def test_a_traceback_in_a_log_shows_no_secrets(caplog: pytest.LogCaptureFixture) -> None:
    StreamConfig(api_key="k3y-of-mine")
    for message in ("k3y-of-mine", "harmless"):
        try:
            try:
                raise OSError(f"wss://trader:passw0rd@h refused {message}")
            except OSError as error:
                raise RuntimeError("it failed") from error
        except RuntimeError:
            log.exception("broken", key=message)
    assert secrets_in(caplog.text) == []
    assert caplog.text.count("RuntimeError: it failed") == 2
    assert "wss://***@h refused ***" in caplog.text


async def test_no_log_error_or_recording_of_a_stream_shows_any_secret(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.INFO, "websockets.server")  # the test's own server
    caplog.set_level(logging.DEBUG)
    async with TradeServer() as server, Http("400 k3y-of-mine", body=b"bad apiKey=k3y-of-mine " * 3) as rest:
        url = server.url.replace("ws://", "ws://trader:passw0rd@") + f"/{LISTEN_KEY}?listenKey=l1sten-to-me"
        config = StreamConfig(
            api_key="k3y-of-mine", rest_url=f"http://trader:passw0rd@{rest.host}/{LISTEN_KEY}", reconnect_attempts=1,
            reconnect_delay=0.01, reconnect_max_delay=0.01, proxy=None, bars="1s",
        )  # fmt: skip
        options: dict[str, Any] = {"url": url, "config": config, "record": tmp_path}
        stream = fastbars.stream("binance", ["BTCUSDT"], market="usdm", **options)
        with pytest.raises(WSConnectionError, match="gave up after 1 attempts") as failed:  # noqa: PT012
            async with stream as bars:
                for number, offset_ms in ((1, 0), (9, 1), (10, 2_000)):
                    await server.send(trade(number, offset_ms))
                await until(lambda: any(bars.holes().values()))
                shown = f"{bars.holes()} {bars.stats()} {bars!r} {bars.adapter!r}"
                await server.shut()
                async for bar in bars:
                    shown += repr(bar)
        assert any("k3y-of-mine" in request for request in rest.requests)  # that is where it belongs
        shown += caplog.text + all_of(failed.value)
    shown += written_in(tmp_path)
    assert "hole_not_healed" in shown
    assert secrets_in(shown) == []


@pytest.mark.parametrize("address", ["ftp://trader:passw0rd@h/x", "ws://trader:passw0rd@127.0.0.1:x/ws", "ws://["])
async def test_nothing_that_hangs_on_an_error_shows_secrets(address: str) -> None:
    adapter = BinanceWebSocketAdapter(StreamConfig(proxy=None), url=address)
    with pytest.raises(WSConnectionError, match="cannot connect") as failed:
        await adapter.connect()
    assert secrets_in(all_of(failed.value)) == []


# REST goes the way of the stream.


class Socks:
    """A SOCKS5 proxy on loopback that asks for a password (RFC 1928, RFC 1929)."""

    def __init__(self, login: str = "trader:pr0xy-word") -> None:
        self._login = login
        self.targets: list[str] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.address = f"socks5h://{self._login}@127.0.0.1:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def text() -> str:
            return (await reader.readexactly((await reader.readexactly(1))[0])).decode()

        try:
            await reader.readexactly((await reader.readexactly(2))[1])
            writer.write(b"\x05\x02")
            await reader.readexactly(1)
            good = f"{await text()}:{await text()}" == self._login
            writer.write(b"\x01\x00" if good else b"\x01\x01")
            kind = (await reader.readexactly(4))[3]
            host = await text() if kind == 3 else ".".join(map(str, await reader.readexactly(4)))
            (port,) = struct.unpack(">H", await reader.readexactly(2))
            self.targets.append(f"{host}:{port}")
            there, back = await asyncio.open_connection(host, port)
            writer.write(b"\x05\x00\x00\x01" + bytes(6))
            await asyncio.gather(self._pipe(reader, back), self._pipe(there, writer))
            back.close()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    @staticmethod
    async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                writer.write(data)
            writer.write_eof()
        except OSError:
            pass


async def test_rest_goes_over_the_socks_proxy_of_the_stream() -> None:
    async with Socks() as proxy, TradeServer() as server, Http("200 OK", "Retry-After: 7", body=b"[1]") as rest:
        adapter = BinanceWebSocketAdapter(StreamConfig(proxy=proxy.address), url=server.url)
        await adapter.connect()
        await adapter.disconnect()
        client = RestClient(proxy=proxy.address)
        answer = await client(f"http://{rest.host}/a", {"b": "c d"}, {"X-Key": "e"})
        assert answer == (200, 7.0, b"[1]", None)
        assert len(proxy.targets) == 2
        assert proxy.targets[1] == rest.host
        assert rest.requests[0].startswith("GET /a?b=c+d HTTP/1.1\r\n")
        assert "X-Key: e" in rest.requests[0]
        posted = await client(f"http://{rest.host}/a", {}, {}, b"{}")
        assert posted.status == 200
        assert rest.requests[1].startswith("POST /a")
        with pytest.raises(RestError, match="longer than 2 bytes"):
            await RestClient(proxy=proxy.address, most_bytes=2)(f"http://{rest.host}/a", {}, {})


async def test_a_redirect_behind_a_socks_proxy_is_not_followed_either() -> None:
    async with Socks() as proxy, Http("302 Found", "Location: http://elsewhere/x?token=t0ken") as rest:
        with pytest.raises(RestError, match=r"HTTP 302 redirects to elsewhere, which is not followed$"):
            await RestClient(proxy=proxy.address)(f"http://{rest.host}/a", {}, {})


async def test_a_wrong_password_of_a_socks_proxy_is_an_error_that_shows_none() -> None:
    async with Socks() as proxy:
        StreamConfig(proxy=proxy.address.replace("pr0xy-word", "wr0ng-word"))
        with pytest.raises(RestError) as failed:
            await RestClient(proxy=proxy.address.replace("pr0xy-word", "wr0ng-word"))("http://h/a", {}, {})
        assert "wr0ng-word" not in str(failed.value)


@pytest.mark.parametrize("proxy", ["gopher://h:1", "socks5h://h:1/path", "http://user@h"])
async def test_a_proxy_that_cannot_be_used_is_an_error_that_is_not_tried_again(proxy: str) -> None:
    with pytest.raises(RestError) as failed:
        await RestClient(proxy=proxy)("http://h/a", {}, {})
    assert failed.value.permanent
    assert isinstance(failed.value, FastbarsError)


@pytest.mark.parametrize(
    ("environment", "url", "proxy"),
    [
        ({"https_proxy": "http://p:1"}, "https://api.x/a", "http://p:1"),
        ({"http_proxy": "http://p:1"}, "http://api.x/a", "http://p:1"),
        ({"http_proxy": "http://p:1"}, "https://api.x/a", None),
        ({"all_proxy": "http://p:1"}, "https://api.x/a", None),
        ({"socks_proxy": "http://p:1", "https_proxy": "http://q:2"}, "https://api.x/a", "socks5h://p:1"),
        ({"wss_proxy": "socks5://p:1", "https_proxy": "http://q:2"}, "https://api.x/a", "socks5://p:1"),
        ({"https_proxy": "http://p:1", "no_proxy": "api.x"}, "https://api.x/a", None),
        ({"https_proxy": "http://p:1", "no_proxy": "x"}, "https://api.x/a", None),
        ({"https_proxy": "http://p:1", "no_proxy": "other.x"}, "https://api.x/a", "http://p:1"),
        ({"https_proxy": "http://p:1", "no_proxy": "*"}, "https://api.x/a", None),
        ({}, "https://api.x/a", None),
    ],
)
def test_the_environment_names_the_same_proxy_for_rest_as_for_the_stream(
    environment: dict[str, str], url: str, proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http", "https", "ws", "wss", "socks", "all", "no"):
        monkeypatch.delenv(f"{name}_proxy", raising=False)
        monkeypatch.delenv(f"{name}_proxy".upper(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert proxy_of(url, True) == proxy
    assert proxy_of(url, None) is None
    assert proxy_of(url, "http://given:1") == "http://given:1"


@pytest.mark.parametrize("token", ["short-token-1", "0123456789abcdef" * 8])
def test_the_session_token_is_shown_in_no_error_and_no_log_of_messages(
    token: str, caplog: pytest.LogCaptureFixture
) -> None:
    StreamConfig(session_token=token)
    assert token not in without_credentials(f"unexpected answer to {token}")
    caplog.set_level(logging.DEBUG, "fastbars.websockets")
    frame = Frame(Opcode.TEXT, b'{"session":"%b"}' % token.encode())
    wire_log.debug("> %s", frame)
    assert caplog.messages != []
    assert token[:12] not in caplog.text
    assert token[-12:] not in caplog.text
