"""Bars in progress: each change once, as new as can be, at most once an interval, and in order with the issued bars."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given, settings, strategies as st

from examples import examples
from fake_clock import START_WALL_NS, FakeClockLoop
from fastbars import BarBuffer, OHLCVBar, SpecError, SubscriptionError, clocks
from fastbars.bars import CloseReason
from fastbars.exchanges import find_exchange
from fastbars.kernel.progress import Progress
from fastbars.live.callbacks import Callbacks
from fastbars.live.config import StreamConfig
from fastbars.live.delivery import BarLoops
from fastbars.live.session import Session
from fastbars.live.updates import UpdateCalls
from servers import MINUTE_MS, TradeServer, show, trade, trades, until
from test_streams import stream_of

START_MS = START_WALL_NS // 10**6
SPECS = ["1s", "5s", "tick:3"]
INTERVAL_S = 0.25


def on_fake_clock(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=FakeClockLoop) as runner:
        runner.run(main())


def turn(seconds: float) -> None:
    """Let time pass, as a callback does that works for so long."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, FakeClockLoop)
    loop.turn(seconds)


# What the kernel says.


def test_a_change_of_a_bar_in_progress_is_shown_once_to_each_reader() -> None:
    buffer, one, other = BarBuffer(["1m", "5m"], ids="contiguous"), Progress(), Progress()
    assert buffer.changed(one) == ([], -1)
    buffer.add("A", START_WALL_NS, "1", "2", "buy", 1)
    first = [buffer.current("A", "1m"), buffer.current("A", "5m")]
    assert buffer.changed(one) == (first, -1)
    assert buffer.changed(one) == ([], -1)
    buffer.add("B", START_WALL_NS + 1, "3", "1", "buy", 9)
    assert [(bar.symbol, bar.spec) for bar in buffer.changed(one)[0]] == [("B", "1m"), ("B", "5m")]
    buffer.add("A", START_WALL_NS + 2, "1", "2", "buy", 2)
    assert buffer.changed(one)[0] == [buffer.current("A", "1m"), buffer.current("A", "5m")]
    assert len(buffer.changed(other)[0]) == 4


def test_a_change_of_status_alone_is_shown_and_so_is_what_was_healed() -> None:
    buffer, progress = BarBuffer("1m", ids="contiguous"), Progress()
    for number in (1, 2, 4):
        buffer.add("A", START_WALL_NS + 60 * 10**9 * (number > 1) + number, "1", "2", "buy", number)
    assert [bar.status for bar in buffer.changed(progress)[0]] == ["GAP"]
    batch = buffer.new_batch()
    batch.append("A", START_WALL_NS + 60 * 10**9 + 3, "1", "2", "buy", 3)
    buffer.heal(batch)
    assert [(bar.status, bar.trade_count) for bar in buffer.changed(progress)[0]] == [("PROVISIONAL", 3)]
    none = BarBuffer("1m")
    progress = Progress()
    none.add("A", START_WALL_NS, "1", "2")
    none.changed(progress)
    none.lose(["A"], START_WALL_NS + 1, START_WALL_NS + 2)
    assert [bar.status for bar in none.changed(progress)[0]] == ["GAP"]


def test_the_next_bar_is_shown_though_it_looks_like_the_last_one() -> None:
    buffer, progress = BarBuffer("tick:2"), Progress()
    for number in range(3):
        buffer.add("A", START_WALL_NS, "1", "2")
        assert len(buffer.changed(progress)[0]) == (number != 1)


def test_many_are_read_in_parts_and_a_forgotten_one_comes_again() -> None:
    buffer, progress = BarBuffer(["1m", "1h"]), Progress()
    for number in range(100):
        buffer.add(f"S{number}", START_WALL_NS, "1", "2")
    seen, at = [], 0
    while at >= 0:
        bars, at = buffer.changed(progress, at, most=7, look=50)
        assert len(bars) <= 7
        seen += [(bar.symbol, bar.spec) for bar in bars]
    assert seen == [(f"S{number}", spec) for number in range(100) for spec in ("1m", "1h")]
    progress.forget(5, 1)
    progress.forget(-1, 1)
    progress.forget(10**6, 1)
    progress.forget(5, 2)
    assert [(bar.symbol, bar.spec) for bar in buffer.changed(progress)[0]] == [("S5", "1h")]
    with pytest.raises(ValueError, match="of a kernel with 2 specs, not 1"):
        BarBuffer("1m").changed(progress)


# The law of order.


class Given(NamedTuple):
    """What a consumer was given, when, how many bars had been issued by then, and what was current."""

    bar: OHLCVBar
    at_s: float
    issued: int
    current: OHLCVBar | None

    @property
    def pair(self) -> tuple[str, str]:
        return self.bar.symbol, self.bar.spec

    @property
    def is_open(self) -> bool:
        return self.bar.close_reason is CloseReason.OPEN


class Run:
    """A session with two consumers of bars in progress, callbacks and a loop, each as slow as it is told to be."""

    def __init__(self, exchange: str, callback_s: float, loop_s: float) -> None:
        config = StreamConfig(bars=SPECS, grace=0.1)
        self.venue = find_exchange(exchange)
        callbacks = Callbacks(on_bar=self.take)
        channel = self.venue.default_channel
        self.session = Session(self.venue, config, callbacks, channel=channel)
        self.session.notifier.in_next_turn = asyncio.get_running_loop().call_soon
        self.loops = BarLoops(self.session.delivery, 10**6, bool)
        self.loops.open()
        self.by_callback: list[Given] = []
        self.by_loop: list[Given] = []
        self.callback_s, self.loop_s = callback_s, loop_s
        self.ids: dict[str, int] = {}

    def note(self, given: list[Given], bar: OHLCVBar) -> None:
        current = self.session.current(bar.symbol, bar.spec)
        given.append(Given(bar, clocks.steady_s(), self.session.delivery.next_number, current))

    def take(self, bar: OHLCVBar) -> None:
        self.note(self.by_callback, bar)
        turn(self.callback_s)

    async def iterate(self) -> None:
        async for bar in self.loops.begin(self.session.open_bars(INTERVAL_S)):
            self.note(self.by_loop, bar)
            if self.loop_s:
                await asyncio.sleep(self.loop_s)

    def receive(self, *trades: tuple[str, int]) -> None:
        """Trades of (symbol, ms before now), as one wakeup."""
        now_ms = clocks.wall_ns() // 10**6
        payloads = []
        for symbol, ago_ms in trades:
            number = self.ids[symbol] = self.ids.get(symbol, 0) + 1
            message = {
                "binance": b'{"e":"trade","E":%d,"s":"%b","t":%d,"p":"%d.5","q":"2","T":%d,"m":false,"M":true}'
                % (now_ms, symbol.encode(), number, number, now_ms - ago_ms),
                "bybit": b'{"topic":"publicTrade.%b","ts":%d,"type":"snapshot","data":[{"i":"%d","T":%d,"p":"%d.5",'
                b'"v":"2","S":"Buy","s":"%b","BT":false}]}'
                % (symbol.encode(), now_ms, 10**12 + number, now_ms - ago_ms, number, symbol.encode()),
            }
            payloads.append(message[self.venue.name.partition(" ")[0]])
        self.session.receive(payloads, clocks.wall_ns(), clocks.steady_ns())

    async def go(self, steps: list[tuple[str, Any]]) -> None:
        self.session.coverage.end_outage(clocks.steady_ns())
        calls = UpdateCalls(self.session.notifier, self.session.open_bars(INTERVAL_S), self.take)
        tasks = [asyncio.create_task(calls.run()), asyncio.create_task(self.iterate())]
        for kind, value in [*steps, ("wait", 60.0)]:
            if kind == "trades":
                self.receive(*value)
            elif kind == "clock":
                self.session.advance_clock(clocks.steady_ns(), clocks.wall_ns(), feed_up=value)
            elif kind == "skip id":
                self.ids[value] = self.ids.get(value, 0) + 1
            elif kind == "flush":
                self.session.flush(clocks.wall_ns(), value)
            else:
                await asyncio.sleep(value)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for task in tasks:
            assert task.cancelled(), task.exception()

    def check(self, given: list[Given], slow_s: float) -> None:
        issued: dict[tuple[str, str], list[OHLCVBar]] = {}
        updates: dict[tuple[str, str], list[Given]] = {}
        closed = 0
        for one in given:
            if not one.is_open:
                closed += 1
                issued.setdefault(one.pair, []).append(one.bar)
                continue
            assert one.bar == one.current  # the latest wins: nothing older is given
            assert closed == one.issued  # everything that was issued came before it
            updates.setdefault(one.pair, []).append(one)
            if not one.bar.spec.startswith("tick"):
                assert all(bar.open_time < one.bar.open_time for bar in issued.get(one.pair, []))
        assert closed == self.session.delivery.next_number
        for own in updates.values():
            times = [one.at_s for one in own]
            assert all(later.bar != earlier.bar for earlier, later in pairwise(own))
            assert all(third - first > INTERVAL_S - 1e-6 for first, third in zip(times, times[2:], strict=False))
            if not slow_s:
                assert all(later - earlier > INTERVAL_S - 1e-6 for earlier, later in pairwise(times))
        for symbol in self.session.symbols:  # and nothing was left out
            for spec in SPECS:
                current = self.session.current(symbol, spec)
                if current is not None:
                    assert updates[symbol, spec][-1].bar == current


a_trade = st.tuples(st.sampled_from(["AUSDT", "BUSDT", "CUSDT"]), st.sampled_from([0, 0, 0, 3, 700, 1_500, 6_000]))
steps = st.one_of(
    st.tuples(st.just("trades"), st.lists(a_trade, min_size=1, max_size=8)),
    st.tuples(st.just("wait"), st.sampled_from([0.0, 0.001, 0.05, 0.2, 0.25, 0.3, 1.0, 1.5])),
    st.tuples(st.just("clock"), st.booleans()),
    st.tuples(st.just("skip id"), st.sampled_from(["AUSDT", "BUSDT"])),
    st.tuples(st.just("flush"), st.sampled_from(["AUSDT", "BUSDT"])),
)
costs = st.sampled_from([0.0, 0.0, 0.0007, 0.004, 0.03, 0.4])
MANY = [("trades", [(f"S{n}USDT", 0) for n in range(60)]), ("wait", 1.0), ("trades", [("S0USDT", 0)]), ("wait", 0.4)]


@settings(max_examples=examples(120))
@given(st.sampled_from(["binance", "bybit"]), st.lists(steps, min_size=1, max_size=25), costs, costs)
@example("binance", [*MANY, ("clock", True), *MANY, ("clock", True), *MANY], 0.001, 0.004)
@example("bybit", [*MANY, ("clock", True), *MANY, ("clock", True), *MANY], 0.004, 0.001)
def test_updates_come_between_the_issued_bars_that_they_belong_between(
    exchange: str, steps: list[tuple[str, Any]], callback_s: float, loop_s: float
) -> None:
    async def main() -> None:
        run = Run(exchange, callback_s, loop_s)
        await run.go(steps)
        run.check(run.by_callback, callback_s)
        run.check(run.by_loop, loop_s)

    on_fake_clock(main)


async def test_a_callback_that_closes_bars_is_given_no_update_of_what_it_has_closed() -> None:
    run = Run("binance", 0.0, 0.0)

    def close_all(bar: OHLCVBar) -> None:
        run.take(bar)
        if bar.close_reason is CloseReason.OPEN and len(run.by_callback) == 1:
            run.session.flush(clocks.wall_ns())

    run.receive(*((symbol, 0) for symbol in ("AUSDT", "BUSDT")))
    calls = UpdateCalls(run.session.notifier, run.session.open_bars(INTERVAL_S), close_all)
    calling = asyncio.create_task(calls.run())
    await asyncio.sleep(2.0)
    calling.cancel()
    assert [one.is_open for one in run.by_callback] == [True] + [False] * 6


async def test_the_loop_is_not_blocked_longer_than_a_slice_by_18000_bars_in_progress() -> None:
    run = Run("binance", 0.0, 0.0)
    for first in range(0, 6_000, 500):
        run.receive(*((f"S{number}USDT", 0) for number in range(first, first + 500)))
    seen = 0

    def take(_: OHLCVBar) -> None:
        nonlocal seen
        seen += 1
        turn(0.0001)

    calls = UpdateCalls(run.session.notifier, run.session.open_bars(10.0), take)
    calling = asyncio.create_task(calls.run())
    longest_ns, before_ns = 0, clocks.steady_ns()
    while seen < 18_000:
        await asyncio.sleep(0)
        longest_ns, before_ns = max(longest_ns, clocks.steady_ns() - before_ns), clocks.steady_ns()
    calling.cancel()
    assert longest_ns <= 5_000_000 + 16 * 100_000


async def test_a_failure_in_on_update_is_counted_and_updates_go_on() -> None:
    run, seen = Run("binance", 0.0, 0.0), []

    def take(bar: OHLCVBar) -> None:
        seen.append(bar)
        raise RuntimeError("the user's mistake")

    calls = UpdateCalls(run.session.notifier, run.session.open_bars(INTERVAL_S), take)
    calling = asyncio.create_task(calls.run())
    for _ in range(3):
        run.receive(("AUSDT", 0))
        await asyncio.sleep(INTERVAL_S)
    calling.cancel()
    assert [bar.trade_count for bar in seen if bar.spec == "5s"] == [1, 2, 3]
    assert run.session.notifier.errors == len(seen)


# Streams.


async def test_a_stream_shows_the_bar_in_progress_at_any_moment() -> None:
    async with TradeServer() as server, stream_of(server, bars=["1m", "5m"]) as bars:
        assert bars.current("BTCUSDT", "1m") is None
        await server.send(trade(1, 0), trade(2, 1, "101"))
        await until(lambda: bars.stats().session.trades == 2)
        bar = bars.current("btcusdt", "5m")
        assert bar is not None
        assert show([bar]) == ["23:50:00 5m 100 101 100 101 v2 n2 1-2 PARTIAL r0 open"]
        with pytest.raises(SpecError, match="bar spec 2m is not one of 1m, 5m"):
            bars.current("BTCUSDT", "2m")
        with pytest.raises(SubscriptionError):
            bars.current("BTC USDT", "1m")
        assert bars.current("ETHUSDT", 60) is None


async def test_before_the_first_trade_another_spec_is_refused_too() -> None:
    async with TradeServer() as server, stream_of(server) as bars:
        with pytest.raises(SpecError, match="bar spec 5m is not one of 1m"):
            bars.current("BTCUSDT", "5m")


async def test_a_loop_over_updates_is_given_both_and_others_only_issued_bars() -> None:
    async with TradeServer() as server, stream_of(server, updates=1.0) as bars:
        plain = asyncio.create_task(_all_of(aiter(bars)))
        both = asyncio.create_task(_all_of(bars.updates()))
        quick = asyncio.create_task(_all_of(bars.updates(0.5)))
        for number in range(4):
            await server.send(trade(number + 1, number))
            await asyncio.sleep(0.5)
        await server.send(trade(5, MINUTE_MS))
        await asyncio.sleep(2.0)
        await bars.stop()
        issued = [
            "23:54:00 1m 100 100 100 100 v4 n4 1-4 PARTIAL r0 trade",
            "23:55:00 1m 100 100 100 100 v1 n1 5-5 PARTIAL r0 end",
        ]
        assert show(await plain) == issued
        opens = [f"23:54:00 1m 100 100 100 100 v{n} n{n} 1-{n} PARTIAL r0 open" for n in range(1, 5)]
        newest = "23:55:00 1m 100 100 100 100 v1 n1 5-5 PROVISIONAL r0 open"
        assert show(await quick) == [*opens, issued[0], newest, issued[1]]
        seen = show(await both)
        assert [line for line in seen if "open" not in line] == issued
        assert seen[-3:] == [issued[0], newest, issued[1]]
        assert len(seen) < len(opens) + 3


async def test_on_update_is_called_until_the_stream_stops_and_what_is_wrong_is_refused() -> None:
    seen: list[OHLCVBar] = []
    async with TradeServer() as server, stream_of(server, on_update=seen.append, on_bar=seen.append) as bars:
        await server.send(trade(1, 0))
        await asyncio.sleep(1.0)
        await server.send(trade(2, MINUTE_MS))
        await asyncio.sleep(1.0)
        await bars.stop()
        await asyncio.sleep(1.0)
        assert show(seen) == [
            "23:54:00 1m 100 100 100 100 v1 n1 1-1 PARTIAL r0 open",
            "23:54:00 1m 100 100 100 100 v1 n1 1-1 PARTIAL r0 trade",
            "23:55:00 1m 100 100 100 100 v1 n1 2-2 PROVISIONAL r0 open",
            "23:55:00 1m 100 100 100 100 v1 n1 2-2 PARTIAL r0 end",
        ]
        for wrong in (0.0, -1.0, float("inf"), float("nan")):
            with pytest.raises(ValueError, match="updates must be a positive number of seconds"):
                stream_of(server, updates=wrong)
        with pytest.raises(TypeError, match="on_update must be a plain function"):
            stream_of(server, on_update=_all_of)
        with pytest.raises(RuntimeError, match="not connected"):
            stream_of(server).updates()


async def test_updates_are_no_part_of_what_is_confirmed_logged_or_waited_for(tmp_path: Any) -> None:
    config = StreamConfig(close_by="trades", state=str(tmp_path / "bars.state"), queue_size=2)
    async with TradeServer() as server:
        async with stream_of(server, config=config) as bars:
            loop = bars.updates()
            for number in range(50):
                await server.send(trade(number + 1, number))
                await until(lambda wanted=number + 1: bars.stats().session.trades == wanted)  # type: ignore[misc]
                update = await anext(loop)
                assert (update.close_reason, update.trade_count) == ("open", number + 1)
            assert bars.stats().pauses == 0
            assert bars.adapter.session.delivery.next_number == 0
        async with stream_of(server, config=config) as bars:  # nothing is delivered again
            await server.send(trade(51, MINUTE_MS))
            bar = await anext(bars)
            assert (bar.close_reason, bar.trade_count, bar.revision) == ("trade", 50, 0)


async def test_a_loop_over_updates_that_is_left_holds_nothing_up() -> None:
    config = StreamConfig(close_by="trades", queue_size=2)
    async with TradeServer() as server, stream_of(server, config=config, bars="tick:1,1m") as bars:
        loop = aiter(bars)
        await server.send(trade(1, 0))
        async for bar in bars.updates():
            if bar.close_reason == "open":
                break
        gc.collect()
        await server.send(*trades(2, 9))
        assert [(await anext(loop)).first_trade_id for _ in range(10)] == [*range(1, 11)]


async def _all_of(loop: Any) -> list[OHLCVBar]:
    return [bar async for bar in loop]


async def test_while_the_past_of_a_symbol_is_on_its_way_no_update_of_it_is_given() -> None:
    run = Run("binance", 0.0, 0.0)
    loops = [asyncio.create_task(run.iterate())]
    run.session.past.open("AUSDT", "1s", 0)
    run.receive(("AUSDT", 0), ("BUSDT", 0))
    await asyncio.sleep(1.2)
    run.receive(("AUSDT", 0), ("BUSDT", 0))
    await asyncio.sleep(1.0)
    seen = {(given.bar.symbol, given.bar.spec) for given in run.by_loop}
    assert seen == {("AUSDT", "5s"), ("AUSDT", "tick:3"), ("BUSDT", "1s"), ("BUSDT", "5s"), ("BUSDT", "tick:3")}
    run.session.past.join("AUSDT", "1s")
    await asyncio.sleep(1.0)
    own = [given.bar.close_reason for given in run.by_loop if given.pair == ("AUSDT", "1s")]
    assert own == ["trade", "open"]
    loops[0].cancel()
    await asyncio.wait(loops)
