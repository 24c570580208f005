"""Tests of noticing what is no longer heard: by rates that are learned, and never because a symbol is merely quiet."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from websockets.asyncio.server import ServerConnection

from examples import examples
from fastbars import BaseWebSocketAdapter, BinanceWebSocketAdapter, ConnectionState, OHLCVBar, StreamConfig, clocks
from fastbars.exchanges.binance import SPOT
from fastbars.live.connections.silence import Found, Rates, Silence
from servers import Request, TradeServer, acknowledge, trade, until

NOTHING = Found(None, [], [])


pytestmark = pytest.mark.usefixtures("no_task_is_left_behind")


class Market:
    """Symbols that trade every so many seconds, looked at every second; no clock but its own."""

    def __init__(self, periods_s: Sequence[float], least_s: float = 10.0, factor: float = 20.0) -> None:
        self.rates = Rates(least_s, factor)
        self.silence = Silence(self.rates)
        self.periods_s = list(periods_s)
        self.now_s = 0.0
        self.times = [-(2**62)] * len(periods_s)
        self.messages = 0
        self.dead: set[int] = set()
        self.unwatched: set[int] = set()

    def run(self, seconds: int) -> list[tuple[float, Found]]:
        """Whatever was found, and when."""
        found = []
        for _ in range(seconds):
            self.now_s += 1.0
            for index, period_s in enumerate(self.periods_s):
                if index not in self.dead and self.now_s % period_s < 1.0:
                    self.times[index] = round(self.now_s * 1e9)
                    self.messages += 1
            watched = [each for each in range(len(self.times)) if each not in self.unwatched]
            seen = self.silence.find_silent(self.now_s, self.messages, np.array(self.times), watched)
            if seen != NOTHING:
                found.append((self.now_s, seen))
        return found


def test_quiet_symbols_are_not_dead_ones() -> None:
    market = Market([1, 60, 900, 3600])
    assert market.run(20_000) == []


@pytest.mark.parametrize("forgets", [True, False])
def test_what_is_left_of_a_busy_connection_is_not_silent_for_being_quiet(forgets: bool) -> None:
    market = Market([1, 60])
    market.run(600)
    market.dead = {0}  # it has moved to another connection, which watches it
    if forgets:
        market.silence.forget_connection()
    found = [(now_s, each.everything_s) for now_s, each in market.run(600) if each.everything_s is not None]
    assert found[:1] == ([] if forgets else [(621.0, 20.0 + 1.0)])


def test_a_busy_symbol_that_falls_silent_is_renewed_and_in_vain_reconnected_and_then_let_be() -> None:
    market = Market([1, 1, 60])
    assert market.run(1_000) == []
    market.dead = {1}
    found = market.run(1_000)
    assert [seen for _, seen in found] == [Found(None, [1], []), Found(None, [], [1])]
    assert [when for when, _ in found] == [1_021.0, 1_062.0]  # 20 gaps of a second, then twice as long
    market.dead = set()
    assert market.run(1_000) == []
    market.dead = {1}
    assert len(market.run(1_000)) == 2


def test_a_slow_symbol_is_given_as_much_more_time() -> None:
    market = Market([1, 60])
    market.run(6_000)
    market.dead = {1}
    ((when, found), _) = market.run(5_000)
    assert found == Found(None, [1], [])
    assert 6_000 + 20 * 59 <= when <= 6_000 + 20 * 60 + 1


def test_a_symbol_whose_rate_is_not_known_is_not_judged() -> None:
    market = Market([1, 1])
    market.run(10)
    market.dead = {1}
    assert market.run(10_000) == []


def test_what_one_connection_has_learned_of_a_symbol_holds_for_the_next_one_that_carries_it() -> None:
    market = Market([1, 1])
    market.run(100)
    market.silence = Silence(market.rates)  # of the connection that symbol 1 has moved to
    market.dead = {1}
    found = market.run(100)
    assert [(when, seen.symbols) for when, seen in found][:1] == [(122.0, [1])]


def test_what_is_subscribed_to_again_has_been_silent_since_then() -> None:
    market = Market([1, 1])
    market.run(100)
    market.dead = market.unwatched = {1}
    assert market.run(18) == []
    market.unwatched = set()
    assert [(when, seen.symbols) for when, seen in market.run(25)] == [(140.0, [1])]  # 119 and 20 gaps of a second


def test_a_connection_that_is_not_read_stops_the_learning_of_its_own_symbols_alone() -> None:
    market = Market([1, 1])
    busy = Silence(market.rates)
    for _ in range(20):
        market.run(1)
        busy.restart(market.now_s, [1])
    market.dead = {0, 1}
    assert [seen.symbols for _, seen in market.run(30) if seen.symbols] == [[0]]


def test_when_everything_falls_silent_the_connection_is_and_waits_longer_each_time() -> None:
    market = Market([1, 2])
    market.run(100)
    market.dead = {0, 1}
    times = [when for when, seen in market.run(400) if seen.everything_s is not None]
    assert times[0] == 121.0
    market.silence.restart(market.now_s)
    assert [seen for _, seen in market.run(20)] == []


def test_after_a_restart_the_silence_before_it_does_not_count_and_teaches_nothing() -> None:
    market = Market([1, 1])
    market.run(100)
    market.now_s += 10_000
    market.silence.restart(market.now_s)
    assert market.run(100) == []
    market.dead = {1}
    ((when, _), _) = market.run(100)
    assert when - market.now_s + 100 == 21.0


def test_a_symbol_with_bursts_is_measured_by_its_longest_pauses_too() -> None:
    market = Market([1, 1])
    for _ in range(30):
        market.dead = set()
        market.run(50)
        market.dead = {1}
        assert market.run(18) == []  # nearly as long as 20 usual gaps
    assert market.run(30) == []  # 48 s: less than three of the longest
    assert len(market.run(7)) == 1


@settings(max_examples=examples(25))
@given(st.lists(st.integers(1, 50), min_size=1, max_size=5), st.integers(1, 30), st.integers(3, 30))
def test_what_trades_regularly_is_never_found_silent_and_what_stops_always_is(
    periods_s: list[int], least_s: int, factor: int
) -> None:
    market = Market([1.0, *map(float, periods_s)], float(least_s), float(factor))
    assert market.run(50 * 60) == []
    market.dead = set(range(1, len(periods_s) + 1))
    longest_s = max(least_s, factor * max(periods_s), 3 * max(periods_s)) + 60
    renewed = {symbol for _, seen in market.run(int(longest_s)) for symbol in seen.symbols}
    assert renewed == market.dead


# Through the adapter.


class PartlyDeaf(TradeServer):
    """Trades two symbols all the time, each for those who subscribed to it last."""

    def __init__(self, *, mends: bool) -> None:
        super().__init__(self._answer)
        self.mends = mends
        self.dead: set[str] = set()
        self._ids = 0
        self._task: asyncio.Task[None] | None = None

    def _answer(self, request: Request) -> Request:
        if self.mends and request["method"] == "SUBSCRIBE":
            self.dead -= {name.split("@")[0].upper() for name in request["params"]}
        return acknowledge(request)

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self._task = asyncio.create_task(self._trade())
        return self

    async def shut(self) -> None:
        if self._task is not None:
            self._task.cancel()
            (ended,) = await asyncio.gather(self._task, return_exceptions=True)
            assert isinstance(ended, asyncio.CancelledError)  # trading went on to the end
        await super().shut()

    async def _trade(self) -> None:
        while True:
            self._ids += 1
            for symbol in {"BTCUSDT", "ETHUSDT"} - self.dead:
                message = trade(self._ids, 0, symbol=symbol, start_ms=clocks.wall_ns() // 1_000_000)
                for connection in self.connections:
                    self.send_now(connection, message)
            await asyncio.sleep(0.01)


def adapter_of(server: TradeServer, **knobs: Any) -> BinanceWebSocketAdapter:
    quick: dict[str, Any] = {
        "reconnect_delay": 0.01, "reconnect_max_delay": 0.01,
        "stale_interval": 0.02, "stale_after": 1.5, "stale_factor": 5.0,
    }  # fmt: skip
    return BinanceWebSocketAdapter(StreamConfig(**quick | knobs), url=server.url)


async def test_one_subscription_that_went_dead_on_a_live_socket_is_renewed(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "fastbars")
    async with PartlyDeaf(mends=True) as server:
        adapter = adapter_of(server)
        await adapter.connect()
        await adapter.subscribe(["BTCUSDT", "ETHUSDT"])
        await until(lambda: adapter.session.stats.trades > 100)
        assert len(server.requests) == 1
        server.dead = {"ETHUSDT"}
        await until(lambda: len(server.requests) == 3)
        assert [(request["method"], request["params"]) for request in server.requests[1:]] == [
            ("UNSUBSCRIBE", ["ethusdt@trade"]),
            ("SUBSCRIBE", ["ethusdt@trade"]),
        ]
        assert adapter.stats().resubscriptions == 1
        assert "subscription_silent exchange='binance spot' count=1 symbols=['ETHUSDT']" in caplog.text
        await asyncio.sleep(3.4)
        assert len(server.requests) == 3
        assert (len(server.accepted_s), adapter.is_connected) == (1, True)
        await adapter.disconnect()


class Forgetful(PartlyDeaf):
    """Sends the last second of ETHUSDT, where it was dead, a moment after its subscription; knows how many there were.

    It does not send a trade twice: SPOT's ids are not made to tell.
    """

    def __init__(self) -> None:
        super().__init__(mends=True)
        self.traded: Counter[int] = Counter()
        self.cuts = False  # the connection, when ETHUSDT is subscribed again
        self._past: deque[tuple[int, bytes]] = deque(maxlen=200)

    def _answer(self, request: Request) -> Request:
        if request["method"] == "SUBSCRIBE":
            if self.cuts:
                self.cuts = False
                self.asking.transport.abort()
                return acknowledge(request)
            if self.mends and self.dead:
                since_ms = clocks.wall_ns() // 1_000_000 - 1_000
                past = [message for time_ms, message in self._past if time_ms > since_ms]
                asyncio.get_running_loop().call_later(0.05, self._send_past, self.asking, past)
        return super()._answer(request)

    def _send_past(self, connection: ServerConnection, past: list[bytes]) -> None:
        for message in past:
            self.send_now(connection, message)

    async def _trade(self) -> None:
        while True:
            self._ids += 1
            now_ms = clocks.wall_ns() // 1_000_000
            self.traded[now_ms // 1000] += 1
            message = trade(self._ids, 0, symbol="ETHUSDT", start_ms=now_ms)
            self._past.append((now_ms, message))
            for connection in self.connections:
                if "ETHUSDT" not in self.dead:
                    self.send_now(connection, message)
                self.send_now(connection, trade(self._ids, 0, start_ms=now_ms))
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("when", ["renewed", "cut while renewing", "cut before it is noticed"])
async def test_what_a_silent_subscription_has_missed_is_in_no_bar_that_looks_whole(when: str) -> None:
    bars: list[OHLCVBar] = []
    exchange = replace(SPOT, channels={**SPOT.channels, "trade": "unique"})
    config = StreamConfig(
        bars="1s", grace=0.5, reconnect_delay=0.01, stale_interval=0.02, stale_factor=5.0,
        stale_after=60.0 if when == "cut before it is noticed" else 1.5,
    )  # fmt: skip
    async with Forgetful() as server:
        adapter = BaseWebSocketAdapter(exchange, config, on_bar=bars.append, url=server.url)
        await adapter.connect()
        await adapter.subscribe(["BTCUSDT", "ETHUSDT"])
        for _ in range(2):  # the second is not as old each time
            count = adapter.session.stats.trades
            await until(lambda: adapter.session.stats.trades > count + 1_000)  # noqa: B023 it is waited for here
            if when == "cut before it is noticed":
                server.mends, server.dead = False, {"ETHUSDT"}  # acknowledged, and nothing comes of it
                server.abort()
                await asyncio.sleep(2.7)
                server.mends = True
                server.abort()
            else:
                server.cuts = when == "cut while renewing"
                server.dead = {"ETHUSDT"}
            await until(lambda: not server.dead)
        await asyncio.sleep(3.0)
        await adapter.disconnect()
    latest = {bar.open_time: bar for bar in bars if bar.symbol == "ETHUSDT"}
    whole = [bar for bar in latest.values() if str(bar.status) == "UNVERIFIABLE"]
    assert len(whole) >= 3
    assert "GAP" in {str(bar.status) for bar in latest.values()}
    for bar in whole:
        assert bar.trade_count == server.traded[int(bar.open_time.timestamp())], str(bar)


async def test_where_renewing_does_not_help_the_connection_is_made_anew(caplog: pytest.LogCaptureFixture) -> None:
    async with PartlyDeaf(mends=False) as server:
        adapter = adapter_of(server)
        await adapter.connect()
        await adapter.subscribe(["BTCUSDT", "ETHUSDT"])
        await until(lambda: adapter.session.stats.trades > 100)
        server.dead = {"ETHUSDT"}
        await until(lambda: len(server.accepted_s) == 2)
        assert "still no trades of 1 symbols after resubscribing: ['ETHUSDT']" in caplog.text
        await asyncio.sleep(5.0)
        assert len(server.accepted_s) == 2  # taken for quiet now
        await adapter.disconnect()


async def test_a_socket_on_which_everything_fell_silent_is_made_anew(caplog: pytest.LogCaptureFixture) -> None:
    async with PartlyDeaf(mends=True) as server:
        adapter = adapter_of(server, heartbeat_interval=0.05)
        await adapter.connect()
        await adapter.subscribe(["BTCUSDT", "ETHUSDT"])
        await until(lambda: adapter.session.stats.trades > 100)
        server.dead = {"BTCUSDT", "ETHUSDT"}
        await until(lambda: len(server.accepted_s) == 2)  # though it answers pings
        assert "though the socket is open" in caplog.text
        count = adapter.session.stats.trades
        await until(lambda: adapter.session.stats.trades > count)
        assert adapter.state is ConnectionState.CONNECTED
        await adapter.disconnect()


async def test_while_reading_is_paused_nothing_is_silent() -> None:
    async with PartlyDeaf(mends=True) as server:
        adapter = adapter_of(server)
        await adapter.connect()
        await adapter.subscribe(["BTCUSDT", "ETHUSDT"])
        await until(lambda: adapter.session.stats.trades > 100)
        adapter.pause_reading()
        await asyncio.sleep(4.0)
        adapter.resume_reading()
        await asyncio.sleep(0.2)
        assert (len(server.accepted_s), len(server.requests)) == (1, 1)
        await adapter.disconnect()
