"""Tests of replacing a connection before the exchange ends it: no trade is lost, and none is there twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from websockets import http11
from websockets.asyncio.server import ServerConnection

from fastbars import BaseWebSocketAdapter, ConnectionState, OHLCVBar, StreamConfig, TickData, clocks
from fastbars.exchanges.binance import SPOT
from fastbars.exchanges.declaration import Limits
from servers import Request, TradeServer, acknowledge, keep_silent, trade, until

SYMBOLS = ["BTCUSDT", "ETHUSDT"]


pytestmark = pytest.mark.usefixtures("no_task_is_left_behind")


class Market(TradeServer):
    """Trades all the time, sends each trade to whoever has subscribed by then, and ends old connections.

    Args:
        lifetime_s: age at which a connection is cut without a word; None: never.
        delay_s: on every second connection messages come so much later.
        options: of `websockets.serve`.
    """

    def __init__(self, lifetime_s: float | None = None, delay_s: float = 0.0, **options: Any) -> None:
        super().__init__(self._answer, **options)
        self.lifetime_s = lifetime_s
        self.delay_s = delay_s
        self.deaf: set[int] = set()  # connections, by number, that are acknowledged and get nothing
        self.traded: Counter[str] = Counter()
        self.cut = 0
        self.listeners: list[Listener] = []
        self._wanted: dict[ServerConnection, set[str]] = {}
        self._numbers: dict[ServerConnection, int] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self.greet = self._greet

    async def open(self) -> None:
        await super().open()
        self._tasks.append(asyncio.create_task(self._trade()))

    async def shut(self) -> None:
        for listener in self.listeners:  # a test that failed left it connected: it would look for the market forever
            await listener.adapter.disconnect()
        for task in self._tasks:
            task.cancel()
        ended = await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        await super().shut()
        assert [each for each in ended if isinstance(each, Exception)] == []  # trading went on to the end

    async def _greet(self, connection: ServerConnection) -> None:
        self._wanted[connection] = set()
        self._numbers[connection] = len(self._numbers)
        if self.lifetime_s is not None:
            self._tasks.append(asyncio.create_task(self._cut(connection, self.lifetime_s)))

    async def _cut(self, connection: ServerConnection, after_s: float) -> None:
        await asyncio.sleep(after_s)
        if connection in self.connections:
            self.cut += 1
            connection.transport.abort()

    def _answer(self, request: Request) -> Request | None:
        self._wanted[self.asking].update(name.split("@")[0].upper() for name in request["params"])
        return acknowledge(request)

    async def _trade(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            now_ms = clocks.wall_ns() // 1_000_000
            for symbol in SYMBOLS:
                self.traded[symbol] += 1
                message = trade(self.traded[symbol], 0, symbol=symbol, start_ms=now_ms)
                for connection in self.connections:
                    number = self._numbers.get(connection)
                    if number is None or number in self.deaf or symbol not in self._wanted[connection]:
                        continue
                    if self.delay_s and number % 2:
                        loop.call_later(self.delay_s, self.send_now, connection, message)
                    else:
                        self.send_now(connection, message)
            await asyncio.sleep(0.002)


class Listener:
    """An adapter to a market, and everything that it told."""

    def __init__(self, market: Market, exchange: Any = SPOT, **knobs: Any) -> None:
        self.bars: list[OHLCVBar] = []
        self.ticks: list[TickData] = []
        self.states: list[ConnectionState] = []
        self.changes: list[tuple[ConnectionState, float]] = []
        self._market = market
        market.listeners.append(self)
        defaults: dict[str, Any] = {
            "bars": "1s", "grace": 0.2, "reconnect_delay": 0.01, "reconnect_max_delay": 0.01, "handover_overlap": 0.2,
        }  # fmt: skip
        self.adapter = BaseWebSocketAdapter(
            exchange,
            StreamConfig(**defaults | knobs),
            self.ticks.append,
            on_bar=self.bars.append,
            on_state=self._on_state,
            url=market.url,
        )

    def _on_state(self, state: ConnectionState) -> None:
        self.states.append(state)
        self.changes.append((state, clocks.wall_ns() / 1e9))

    async def start(self) -> None:
        await self.adapter.connect()
        await self.adapter.subscribe(SYMBOLS)

    async def catch_up(self) -> None:
        """Wait until the feed has come as far as the market is now; what it skips is for others to find."""
        traded = dict(self._market.traded)

        def has_come() -> bool:
            latest = {tick.symbol: tick.trade_id or 0 for tick in self.ticks}
            return all(latest.get(symbol, 0) >= traded[symbol] for symbol in SYMBOLS)

        await until(has_come)

    def assert_nothing_lost_or_doubled(self) -> None:
        for symbol in SYMBOLS:
            ids = [tick.trade_id for tick in self.ticks if tick.symbol == symbol]
            assert ids[0] is not None
            assert sorted(ids) == list(range(ids[0], ids[0] + len(ids)))  # type: ignore[type-var]
            assert self.adapter.session.missing(symbol) == []
            latest = {bar.open_time: bar for bar in self.bars if bar.symbol == symbol}
            bars = [latest[key] for key in sorted(latest)]
            last_ids = [bar.last_trade_id for bar in bars if bar.trade_count]  # a second without a trade has none
            if not last_ids:
                continue
            assert sum(bar.trade_count or 0 for bar in bars) == last_ids[-1] - ids[0] + 1  # type: ignore[operator]
            assert {str(bar.status) for bar in bars[1:]} <= {"COMPLETE", "PROVISIONAL"}


@pytest.mark.parametrize("delay_s", [0.0, 0.05])
async def test_a_market_that_cuts_connections_every_second_loses_no_trade_and_doubles_none(delay_s: float) -> None:
    async with Market(lifetime_s=3.5, delay_s=delay_s) as market:
        listener = Listener(market, connection_lifetime=1.0)
        await listener.start()
        await until(lambda: listener.adapter.stats().handovers >= 4)
        await asyncio.sleep(0.3)
        await listener.catch_up()
        listener.assert_nothing_lost_or_doubled()
        stats = listener.adapter.stats()
        assert stats.buffer.duplicates > 0  # both lines did carry the same trades
        assert listener.states == [ConnectionState.CONNECTING, ConnectionState.CONNECTED]
        assert market.cut == 0  # each was closed before
        await listener.adapter.disconnect()


async def test_what_lies_unread_when_the_overlap_ends_is_not_told_twice() -> None:
    async with Market(delay_s=0.05) as market:
        listener = Listener(market, handover_overlap=0.2)
        await listener.start()
        await market.connections[0].send(b'{"e":"serverShutdown","E":1723161240000}', text=True)
        await until(lambda: listener.adapter.stats().handovers == 1)
        listener.adapter.pause_reading()
        await asyncio.sleep(0.5)
        listener.adapter.resume_reading()
        await listener.catch_up()
        listener.assert_nothing_lost_or_doubled()
        assert listener.adapter.session.notifier.seen_by_callbacks is None
        await listener.adapter.disconnect()


async def test_a_handover_that_begins_in_the_overlap_of_the_last_one_tells_nothing_twice() -> None:
    async def slow_handshake(_: ServerConnection, __: http11.Request) -> None:
        if len(market.accepted_s) == 2:
            await asyncio.sleep(0.4)

    async with Market(delay_s=0.05, process_request=slow_handshake) as market:
        listener = Listener(market, handover_overlap=0.2)
        await listener.start()
        for count in (1, 2):
            await market.connections[-1].send(b'{"e":"serverShutdown","E":1723161240000}', text=True)
            await until(lambda: listener.adapter.stats().handovers == count)  # noqa: B023 it is waited for here
        await listener.catch_up()
        listener.assert_nothing_lost_or_doubled()
        await listener.adapter.disconnect()


async def test_a_notice_brings_a_successor_at_once() -> None:
    async with Market() as market:
        listener = Listener(market)
        await listener.start()
        await until(lambda: listener.ticks)
        (first,) = market.connections
        await first.send(b'{"e":"serverShutdown","E":1723161240000}', text=True)
        await until(lambda: listener.adapter.stats().handovers == 1)
        assert first not in market.connections
        assert first.close_code == 1000  # in peace
        await asyncio.sleep(0.1)
        listener.assert_nothing_lost_or_doubled()
        await listener.adapter.disconnect()


async def test_both_lines_run_for_the_overlap() -> None:
    async with Market() as market:
        listener = Listener(market, handover_overlap=0.5)
        await listener.start()
        await market.connections[0].send(b'{"e":"serverShutdown","E":1723161240000}', text=True)
        await until(lambda: listener.adapter.stats().handovers == 1)
        overlap_s = clocks.steady_s() - market.request_times_s[1]
        assert 0.5 <= overlap_s <= 0.5 + 0.01  # it begins with the first trade of the new one
        await listener.adapter.disconnect()


async def test_a_connection_cut_before_its_successor_is_ready_is_taken_over_all_the_same() -> None:
    async with Market() as market:
        listener = Listener(market, handover_overlap=60.0)
        await listener.start()
        (first,) = market.connections
        await first.send(b'{"e":"serverShutdown","E":1723161240000}', text=True)
        await until(lambda: len(market.requests) == 2)
        await asyncio.sleep(0.05)
        first.transport.abort()
        await until(lambda: listener.adapter.stats().handovers == 1)
        await asyncio.sleep(0.1)
        listener.assert_nothing_lost_or_doubled()
        assert listener.states == [ConnectionState.CONNECTING, ConnectionState.CONNECTED]
        await listener.adapter.disconnect()


async def test_a_successor_that_delivers_nothing_is_not_trusted(caplog: pytest.LogCaptureFixture) -> None:
    async with Market() as market:
        market.deaf.add(1)
        listener = Listener(market, handover_timeout=1.0)
        await listener.start()
        await market.connections[0].send(b'{"e":"serverShutdown","E":1723161240000}', text=True)
        await until(lambda: listener.adapter.stats().handovers == 1)
        assert len(market.accepted_s) == 3
        assert "the new connection gave no data for 1 s" in caplog.text
        listener.assert_nothing_lost_or_doubled()
        await listener.adapter.disconnect()


async def test_while_no_successor_can_be_had_the_old_connection_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    async with Market() as market:
        listener = Listener(market)
        await listener.start()
        assert market._server is not None
        market._server.close(close_connections=False)
        await market.connections[0].send(b'{"e":"serverShutdown","E":1723161240000}', text=True)
        await until(lambda: caplog.text.count("handover_failed") >= 3)
        count = len(listener.ticks)
        await until(lambda: len(listener.ticks) > count + 20)
        assert listener.states == [ConnectionState.CONNECTING, ConnectionState.CONNECTED]
        listener.assert_nothing_lost_or_doubled()
        await listener.adapter.disconnect()


async def test_what_is_subscribed_during_a_handover_is_subscribed_on_both() -> None:
    async with Market() as market:
        eager = replace(SPOT, limits=Limits(1024, 200, 1000))
        market.deaf.add(1)  # no successor is proven before it hears something
        listener = Listener(market, eager, handover_overlap=0.05)
        await listener.adapter.connect()
        await listener.adapter.subscribe(SYMBOLS[:1])
        await market.connections[0].send(b'{"e":"serverShutdown","E":1723161240000}', text=True)
        await until(lambda: len(market.requests) == 2)
        await asyncio.sleep(0.05)
        await listener.adapter.subscribe(["ADAUSDT"])
        await listener.adapter.unsubscribe(SYMBOLS[:1])
        asked = [name for request in market.requests[2:] for name in request["params"]]
        assert asked == ["adausdt@trade"] * 2 + ["btcusdt@trade"] * 2
        assert listener.adapter.stats().handovers == 0
        market.deaf.clear()
        await until(lambda: listener.adapter.stats().handovers == 1)
        assert listener.adapter.connections.first.subscriptions.confirmed == {("ADAUSDT", "trade")}
        assert listener.adapter.active_subscriptions == {"ADAUSDT": {"trade"}}
        await listener.adapter.disconnect()


async def test_a_request_under_way_on_a_connection_that_is_replaced_is_no_error() -> None:
    async with Market() as market:
        market.deaf.add(1)  # no successor is proven before it hears something
        listener = Listener(market)
        await listener.start()
        await market.connections[0].send(b'{"e":"serverShutdown","E":1723161240000}', text=True)
        await until(lambda: len(market.requests) == 2)
        market.answer = keep_silent
        subscribing = asyncio.create_task(listener.adapter.subscribe(["ADAUSDT"]))
        await until(lambda: len(market.requests) == 3)
        assert listener.adapter.stats().handovers == 0  # the old connection was asked
        market.answer = acknowledge
        market.deaf.clear()
        await subscribing
        await until(lambda: listener.adapter.stats().handovers == 1)
        assert ("ADAUSDT", "trade") in listener.adapter.connections.first.subscriptions.confirmed
        await listener.adapter.disconnect()


@pytest.mark.parametrize("when", ["before", "subscribing", "overlapping"])
async def test_disconnecting_during_a_handover_leaves_nothing(when: str) -> None:
    async with Market() as market:
        listener = Listener(market, handover_overlap=60.0)
        await listener.start()
        if when == "subscribing":
            market.answer = keep_silent
        await market.connections[0].send(b'{"e":"serverShutdown","E":1723161240000}', text=True)
        if when == "before":
            await until(lambda: len(market.accepted_s) == 2)
        else:
            await until(lambda: len(market.requests) == 2)
        await listener.adapter.disconnect()
        assert not market.connections


async def test_a_reconnect_on_request_during_a_handover_starts_over() -> None:
    async with Market() as market:
        listener = Listener(market, handover_overlap=60.0)
        await listener.start()
        await market.connections[0].send(b'{"e":"serverShutdown","E":1723161240000}', text=True)
        await until(lambda: len(market.requests) == 2)
        await listener.adapter.reconnect()
        assert len(market.connections) == 1
        assert len(market.accepted_s) == 3
        assert listener.adapter.stats().handovers == 0
        await listener.adapter.disconnect()


async def test_without_ids_the_old_connection_ends_first_and_the_bar_says_so() -> None:
    anonymous = replace(SPOT, channels={**SPOT.channels, "trade": "none"})
    async with Market() as market:
        listener = Listener(market, exchange=anonymous, connection_lifetime=1.0)
        await listener.start()
        await until(lambda: len(market.accepted_s) == 3)
        assert len(market.connections) == 1
        assert listener.adapter.stats().handovers == 0
        assert listener.states.count(ConnectionState.RECONNECTING) == 2
        ids = [tick.trade_id for tick in listener.ticks if tick.symbol == "BTCUSDT"]
        assert len(ids) == len(set(ids))  # nothing came over two connections
        await listener.adapter.disconnect()
        latest = {bar.open_time: bar for bar in listener.bars if bar.symbol == "BTCUSDT"}
        cuts = [time for state, time in listener.changes if state is ConnectionState.RECONNECTING]
        for bar in latest.values():
            cut = any(bar.open_time.timestamp() <= time < bar.close_time.timestamp() for time in cuts)
            assert str(bar.status) in (("GAP",) if cut else ("UNVERIFIABLE", "PARTIAL", "GAP"))
