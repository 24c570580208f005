"""Many bars at once: consumers are given them in slices, between which the event loop has its turn; none is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from fake_clock import FakeClockLoop
from fastbars.bars import OHLCVBar
from fastbars.events import MarketDataEvent, Quote
from fastbars.exchanges.messages import RawMessage
from fastbars.live import callbacks as callbacks_module
from fastbars.live.callbacks import Callbacks, Notifier
from fastbars.live.config import StreamConfig
from fastbars.live.delivery import A_LOOK, CALLBACKS, BarLoops, Delivery
from test_delivery import bar, bars, seconds_of

SLICE = 16  # bars that take 1 ms each: the first look at the clock behind 5 ms
QUOTE = Quote("A", Decimal(1), Decimal(1), Decimal(2), Decimal(1), None)


def turn(seconds: float) -> None:
    """Let time pass, as a callback does that works for so long."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, FakeClockLoop)
    loop.turn(seconds)


class Calls:
    """A notifier, whose callbacks take 1 ms a bar, and what they were given: seconds of bars, or names of others."""

    def __init__(self, *, slices: bool = True, during: Callable[[int], object] = bool, **others: Any) -> None:
        self.seen: list[Any] = []
        self.during = during
        self.delivery = Delivery("test", ("test", "spot"), StreamConfig(bars="1s"))
        given = {"on_bar": self.take, "on_bars": self.take_list} | others
        self.notifier = Notifier("test", Callbacks(**given), self.delivery)
        self.loops = BarLoops(self.delivery, 1_000_000, bool)
        if slices:
            self.notifier.in_next_turn = asyncio.get_running_loop().call_soon

    def take(self, given: OHLCVBar) -> None:
        turn(0.001)
        (second,) = seconds_of([given])
        self.seen.append(second)
        self.during(second)

    def take_list(self, given: list[OHLCVBar]) -> None:
        self.seen.append(("all", len(given)))

    def issue(self, *seconds: int) -> None:
        assert len(self.notifier.notify_bars(bars(*seconds), 0)) == len(seconds)

    @property
    def confirmed(self) -> int:
        return self.delivery.positions[CALLBACKS]


async def test_bars_of_one_wakeup_are_passed_on_in_slices_in_order_and_confirmed_behind_the_last() -> None:
    calls = Calls()
    calls.issue(*range(40))
    for passed in (16, 32):
        assert (calls.seen, calls.confirmed) == ([*range(passed)], 0)
        await asyncio.sleep(0)
    assert (calls.seen, calls.confirmed) == ([*range(40), ("all", 40)], 40)
    await asyncio.sleep(0.1)
    assert len(calls.seen) == 41


async def test_without_an_event_loop_of_its_own_all_are_passed_on_at_once() -> None:
    calls = Calls(slices=False)
    calls.issue(*range(40))
    assert (calls.seen, calls.confirmed) == ([*range(40), ("all", 40)], 40)


async def test_few_bars_or_quick_callbacks_need_no_second_turn() -> None:
    seen: list[OHLCVBar] = []
    calls = Calls(on_bar=seen.append)
    calls.issue(*range(5_000))
    assert (len(seen), calls.seen, calls.confirmed) == (5_000, [("all", 5_000)], 5_000)
    slow = Calls()
    slow.issue(*range(SLICE))
    assert slow.seen == [*range(SLICE), ("all", SLICE)]


async def test_bars_and_revisions_that_come_meanwhile_follow_those_that_wait() -> None:
    calls = Calls()
    calls.issue(*range(40))
    calls.notifier.notify_bars([bar(3, revision=1)], 0)
    calls.issue(50, 51)
    assert calls.seen == [*range(16)]
    await asyncio.sleep(0)
    calls.issue(60)
    await asyncio.sleep(0.1)
    assert calls.confirmed == 44
    assert calls.seen == [*range(40), ("all", 40), 3, ("all", 1), 50, 51, ("all", 2), 60, ("all", 1)]


async def test_callbacks_slower_than_the_market_hold_it_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callbacks_module, "_MOST_WAITING", 30)
    calls = Calls()
    calls.issue(*range(50))  # 34 of them are left
    assert calls.seen == [*range(16)]
    calls.issue(90)
    assert calls.seen == [*range(50), ("all", 50), 90, ("all", 1)]
    await asyncio.sleep(0)
    assert calls.confirmed == 51


async def test_any_other_callback_and_the_end_come_behind_the_bars_that_wait() -> None:
    def event(given: MarketDataEvent) -> None:
        if isinstance(given.data, Quote):
            others.append("quote")

    others: list[Any] = []
    calls = Calls(on_message=lambda _: others.append("message"), on_event=event)
    others = calls.seen
    cases: list[tuple[str | None, Callable[[], None]]] = [
        ("message", lambda: calls.notifier.notify_message(RawMessage("unknown", None, {}))),
        ("quote", lambda: calls.notifier.notify_event(QUOTE, 0)),
        (None, calls.notifier.finish),
    ]
    for name, other in cases:
        calls.seen.clear()
        calls.issue(*range(40))
        assert calls.seen == [*range(16)]
        other()
        assert calls.seen == [*range(40), ("all", 40), *([] if name is None else [name])]
        await asyncio.sleep(0)
        assert len(calls.seen) == 41 + (name is not None)


async def test_what_nobody_listens_to_interrupts_no_slices() -> None:
    calls = Calls()
    calls.issue(*range(40))
    calls.notifier.notify_message(RawMessage("unknown", None, {}))
    calls.notifier.notify_event(QUOTE, 0)
    assert calls.seen == [*range(16)]


async def test_a_callback_that_fails_costs_no_bar() -> None:
    def fail(second: int) -> None:
        if second % 10 == 5:
            raise ValueError(second)

    calls = Calls(during=fail)
    calls.issue(*range(40))
    await asyncio.sleep(0.1)
    assert (calls.seen, calls.notifier.errors, calls.confirmed) == ([*range(40), ("all", 40)], 4, 40)


async def test_a_callback_that_is_interrupted_leaves_the_rest_to_the_next_turn() -> None:
    def stop(second: int) -> None:
        if second == 5:
            raise asyncio.CancelledError

    calls = Calls(during=stop)
    with pytest.raises(asyncio.CancelledError):
        calls.issue(*range(40))
    assert calls.seen == [*range(6)]
    await asyncio.sleep(0.1)
    assert (calls.seen, calls.confirmed) == ([*range(40), ("all", 40)], 40)


async def test_a_callback_that_issues_more_has_them_passed_on_before_it_returns() -> None:
    def more(second: int) -> None:
        if second == 20:
            calls.issue(100, 101)
            calls.seen.append("returned")

    calls = Calls(during=more)
    calls.issue(*range(30))
    await asyncio.sleep(0.1)
    assert calls.seen == [*range(21), 100, 101, ("all", 2), "returned", *range(21, 30), ("all", 30)]


def test_an_event_loop_that_is_closed_takes_no_turn_and_costs_no_bar() -> None:
    async def begin() -> Calls:
        return Calls()

    with asyncio.Runner(loop_factory=FakeClockLoop) as runner:
        calls = runner.run(begin())
        loop = runner.get_loop()
    assert isinstance(loop, FakeClockLoop)
    seen: list[OHLCVBar] = []

    def take(given: OHLCVBar) -> None:
        loop.turn(0.001)
        seen.append(given)

    calls.notifier.callbacks.on_bar = take
    calls.issue(*range(40))
    assert (seconds_of(seen), calls.seen, calls.confirmed) == ([*range(40)], [("all", 40)], 40)


# Loops.


async def test_a_loop_over_many_bars_lets_others_have_their_turn() -> None:
    calls = Calls(on_bar=None, on_bars=None)
    calls.loops.open()
    calls.issue(*range(100))
    turns: list[int] = []
    seen: list[int] = []

    async def count() -> None:
        while True:
            turns.append(len(seen))
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    calls.loops.end()
    async for one in calls.loops.begin():
        turn(0.001)
        seen += seconds_of([one])
    counting.cancel()
    assert seen == [*range(100)]
    assert turns[1:] == [A_LOOK * part - 1 for part in range(1, 7)]


async def test_a_loop_that_is_cancelled_between_slices_loses_no_bar() -> None:
    calls = Calls(on_bar=None, on_bars=None)
    calls.issue(*range(100))
    calls.loops.end()
    seen: list[int] = []

    async def take() -> None:
        async for one in calls.loops.begin():
            turn(0.001)
            seen.extend(seconds_of([one]))

    taking = asyncio.create_task(take())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert seen == [*range(A_LOOK - 1)]
    taking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taking
    async for one in calls.loops.begin():
        seen += seconds_of([one])
    assert seen == [*range(100)]
