"""Tests of the end of a connection: after a Close, whoever sent it, the socket is gone within twice the close timeout.

They run on uvloop too, whose time nobody turns: there the timeout is short.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import trustme

import fastbars
from fake_clock import FakeClockLoop, Stopwatch
from fastbars import BinanceWebSocketAdapter, ConnectionState, StreamConfig
from fastbars.live.connections import connection as live_connection
from fastbars.wire import connection as wire_connection
from fastbars.wire.connection import CLOSE_TIMEOUT_S
from servers import CLOSE, RawServer, TradeServer, frame, trade, until

Run = Callable[[Coroutine[Any, Any, None]], None]


def run_on_fake_clock(main: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=FakeClockLoop) as runner:
        runner.run(main)


pytestmark = pytest.mark.parametrize("run", [run_on_fake_clock, fastbars.run], ids=["asyncio", "uvloop"])
over_both = pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])


@pytest.fixture(autouse=True)
def short_timeout_on_uvloop(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    if run is fastbars.run:
        for module in (wire_connection, live_connection):
            monkeypatch.setattr(module, "CLOSE_TIMEOUT_S", 0.1)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def contexts(authority: trustme.CA, secure: bool) -> tuple[ssl.SSLContext | None, ssl.SSLContext | None]:
    """Of a server and of a client that trusts it."""
    if not secure:
        return None, None
    of_server, of_client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(of_server)
    authority.configure_trust(of_client)
    return of_server, of_client


def adapter_of(url: str, context: ssl.SSLContext | None = None, **knobs: Any) -> BinanceWebSocketAdapter:
    quick: dict[str, Any] = {"close_by": "trades", "reconnect_delay": 0.01, "reconnect_max_delay": 0.01, "ssl": context}
    once = knobs.pop("once", False)
    return BinanceWebSocketAdapter(StreamConfig(**quick | knobs), url=url, once=once)


async def soon(wanted: Coroutine[Any, Any, object]) -> None:
    watch = Stopwatch()
    await wanted
    if isinstance(asyncio.get_running_loop(), FakeClockLoop):
        assert watch.seconds <= 2 * CLOSE_TIMEOUT_S
    else:
        assert watch.seconds < 10.0  # it ends at all: a machine that is busy may be slow


@pytest.mark.parametrize(("secure", "code"), [(False, 1000), (False, 1001), (True, 1000)])
def test_a_close_of_a_server_that_leaves_the_socket_open_ends_the_connection(
    run: Run, authority: trustme.CA, secure: bool, code: int
) -> None:
    async def main() -> None:
        of_server, of_client = contexts(authority, secure)
        goodbye = frame(code.to_bytes(2, "big"), CLOSE)
        async with RawServer(behind=frame(trade(1, 0)) + goodbye, ssl=of_server) as server:
            adapter = adapter_of(server.url, of_client, once=True)
            await adapter.connect()
            if code == 1000:
                await soon(adapter.wait_closed())
                assert adapter.state is ConnectionState.DISCONNECTED
            else:
                await soon(until(lambda: server.accepted > 1))
            await adapter.disconnect()

    run(main())


@over_both
def test_a_peer_that_never_answers_a_close_is_left_when_disconnecting(
    run: Run, authority: trustme.CA, secure: bool
) -> None:
    async def main() -> None:
        of_server, of_client = contexts(authority, secure)
        async with RawServer(ssl=of_server) as server:
            adapter = adapter_of(server.url, of_client)
            await adapter.connect()
            await soon(adapter.disconnect())
            await until(lambda: server.received)
            assert server.received[0] == 0x80 | CLOSE

    run(main())


@over_both
def test_a_peer_that_stops_reading_is_left_when_disconnecting(run: Run, authority: trustme.CA, secure: bool) -> None:
    async def main() -> None:
        of_server, of_client = contexts(authority, secure)
        async with RawServer(deaf=True, ssl=of_server) as server:
            adapter = adapter_of(server.url, of_client)
            await adapter.connect()
            (connection,) = adapter.connections.up
            stuck = asyncio.create_task(connection.send(b"x" * 20_000_000))
            assert connection.socket is not None
            await asyncio.sleep(0)  # the transport has them now, and the socket takes no more
            await soon(adapter.disconnect())
            await asyncio.wait([stuck])
            assert connection.socket.transport.is_closing()

    run(main())


def test_a_message_beyond_the_limit_ends_the_connection_though_the_server_ignores_the_close(run: Run) -> None:
    async def main() -> None:
        async with RawServer(behind=frame(b"x" * 2_000)) as server:
            adapter = adapter_of(server.url, max_message_bytes=1_000)
            await adapter.connect()
            await soon(until(lambda: server.accepted > 1))
            await adapter.disconnect()

    run(main())


def test_both_connections_of_a_handover_are_left_at_once(run: Run) -> None:
    async def main() -> None:
        notice = frame(b'{"e":"serverShutdown","E":1723161240000}')
        async with RawServer(behind=notice) as server:  # it answers no request either
            adapter = adapter_of(server.url, handover_overlap=60.0)
            await adapter.connect()
            await until(lambda: server.accepted == 2)
            await until(lambda: len(adapter.connections.up) == 2)
            await soon(adapter.disconnect())

    run(main())


def test_a_close_while_a_symbol_is_served_reconnects_and_goes_on(run: Run) -> None:
    async def main() -> None:
        async with TradeServer(close_timeout=None) as server:
            adapter = adapter_of(server.url)
            await adapter.connect()
            await adapter.subscribe(["BTCUSDT"])
            (connection,) = server.connections
            connection.protocol.send_close(1001)
            connection.send_data()  # and TCP stays as it is
            await soon(until(lambda: len(server.accepted_s) == 2))
            await until(lambda: server.streams.count("btcusdt@trade") == 2)
            await server.send(trade(1, 0))
            await until(lambda: adapter.session.stats.trades == 1)
            await adapter.disconnect()

    run(main())
