"""Tests of one supervisor, without an adapter: what it reports, in which order, and what is covered meanwhile."""

from __future__ import annotations

import asyncio

import pytest

from fastbars import ConnectionState, StreamConfig
from fastbars.errors import SubscriptionError, WSConnectionError
from fastbars.exchanges.binance import SPOT
from fastbars.live.connections.silence import Rates
from fastbars.live.connections.supervisor import Route, Supervisor
from fastbars.live.session import Session
from servers import TradeServer, trade, until

QUICK = StreamConfig(reconnect_delay=0.01, reconnect_max_delay=0.01)


class Noted:
    """An observer that notes everything."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def next_number(self, line: Supervisor) -> int:
        return line.connections

    def starting(self, _: Supervisor) -> None:
        self.events.append("starting")

    def connected(self, line: Supervisor) -> None:
        self.events.append(f"connected, {line.state}")

    def state_changed(self, _: Supervisor, state: ConnectionState) -> None:
        self.events.append(str(state))

    def refused(self, error: SubscriptionError) -> None:
        self.events.append(f"refused {error.symbols}")

    def failed(self, _: Supervisor, error: Exception) -> None:
        self.events.append(f"failed {error!r}")

    async def ended(self, line: Supervisor) -> None:
        self.events.append(f"ended, {line.state}")


def supervised(server: TradeServer, observer: Noted, *, once: bool = False) -> Supervisor:
    session = Session(SPOT, QUICK, channel="trade")
    return Supervisor(session, Route(SPOT, "trade", server.url), Rates(10.0, 20.0), observer, once=once)


async def end(supervisor: Supervisor) -> None:
    supervisor.lifecycle.cancel()
    await supervisor.lifecycle.wait_ended()


async def test_what_happens_is_reported_in_order() -> None:
    observer = Noted()
    async with TradeServer() as server:
        supervisor = supervised(server, observer)
        await supervisor.lifecycle.connect()
        await supervisor.subscribe([("BTCUSDT", "trade")])
        server.abort()
        await until(lambda: supervisor.connections == 2 and supervisor.is_whole)
        await end(supervisor)
    assert observer.events == [
        "starting", "connecting", "connected, connecting", "connected",
        "reconnecting", "connected, reconnecting", "connected",
        "disconnected",
    ]  # fmt: skip
    assert server.streams == ["btcusdt@trade"] * 2


async def test_what_a_connection_carried_is_covered_until_it_is_lost_and_again_with_the_next_ones_trade() -> None:
    async with TradeServer() as server:
        supervisor = supervised(server, Noted())
        coverage = supervisor.session.coverage
        await supervisor.lifecycle.connect()
        await supervisor.subscribe([("BTCUSDT", "trade")])
        states = [coverage.state("BTCUSDT", 0)]  # acknowledged, which proves nothing on Binance
        await server.send(trade(1, 0))
        await until(lambda: supervisor.session.stats.trades == 1)
        states.append(coverage.state("BTCUSDT", 0))
        server.abort()
        await until(lambda: supervisor.connections == 2 and supervisor.is_whole)
        states.append(coverage.state("BTCUSDT", 0))
        await server.send(trade(2, 1))
        await until(lambda: supervisor.session.stats.trades == 2)
        states.append(coverage.state("BTCUSDT", 1))
        await end(supervisor)
        states.append(coverage.state("BTCUSDT", 1))
    assert [str(state) for state in states] == ["requested", "carrying", "absent", "carrying", "absent"]


async def test_an_unexpected_error_ends_it_and_is_reported_once() -> None:
    observer = Noted()
    async with TradeServer() as server:
        supervisor = supervised(server, observer)
        await supervisor.lifecycle.connect()
        supervisor.fail(RuntimeError("unforeseen"))
        with pytest.raises(WSConnectionError, match="internal error: RuntimeError"):
            await supervisor.lifecycle.wait_closed()
        await until(lambda: server.connections == [])
    assert observer.events[-3:] == [
        "failed RuntimeError('unforeseen')", "ended, connected", "disconnected",
    ]  # fmt: skip


async def test_with_once_it_ends_when_the_server_is_done() -> None:
    observer = Noted()
    async with TradeServer() as server:
        supervisor = supervised(server, observer, once=True)
        await supervisor.lifecycle.connect()
        await server.close(1000)
        await supervisor.lifecycle.wait_closed()
        assert supervisor.state is ConnectionState.DISCONNECTED
        assert len(server.accepted_s) == 1
    assert observer.events[-2:] == ["ended, connected", "disconnected"]


async def test_only_the_call_that_started_a_connection_ends_it_when_it_is_cancelled() -> None:
    async def hang(*_: object) -> None:
        await asyncio.sleep(60.0)

    async with TradeServer(process_request=hang) as server:
        supervisor = supervised(server, Noted())
        starting = asyncio.create_task(supervisor.lifecycle.connect())
        await until(lambda: supervisor.state is ConnectionState.CONNECTING)
        waiting = asyncio.create_task(supervisor.lifecycle.connect())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert (supervisor.state, supervisor.lifecycle.is_running) == (ConnectionState.CONNECTING, True)
        starting.cancel()
        await asyncio.wait([starting])
        assert (supervisor.state, supervisor.lifecycle.is_running) == (ConnectionState.DISCONNECTED, False)


def test_a_route_is_the_users_address_or_where_the_channels_are_served() -> None:
    first, second = Route(SPOT, "trade"), Route(SPOT, "trade", index=1)
    assert (first.url(()), second.url(())) == (SPOT.url(["trade"]), SPOT.urls(["trade"])[1])
    assert first.url(()) != second.url(())  # lines go to different hosts
    given = Route(SPOT, "trade", "ws://a/stream?streams=btcusdt@trade")
    assert given.url({"kline_1m"}) == given.given
    assert list(given.named_streams) == [("BTCUSDT", "trade")]
    with pytest.raises(SubscriptionError, match="unknown channel 'nosuch'"):
        first.url({"trade", "nosuch"})
