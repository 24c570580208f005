"""Bars that wait for their consumers: each loop gets all of them, confirms for itself, and holds up what it must."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import orjson
import pytest

from fastbars.bars import BarStatus, CloseReason, OHLCVBar
from fastbars.errors import WSConnectionError
from fastbars.live.config import StreamConfig
from fastbars.live.delivery import CALLBACKS, BarLoop, BarLoops, Delivery
from fastbars.live.delivery_log import encoded
from fastbars.live.reissues import EarlierBars, contradicts
from fastbars.specs import parse_specs

START = datetime(2024, 8, 8, tzinfo=UTC)


def bar(second: int, status: str = "COMPLETE", trades: int = 5, revision: int = 0, **others: Any) -> OHLCVBar:
    opened = START + timedelta(seconds=second)
    fields: dict[str, Any] = {
        "exchange": "test", "market": "spot", "symbol": "A", "spec": "1s",
        "open_time": opened, "close_time": opened + timedelta(seconds=1),
        "open": Decimal(1), "high": Decimal("1.5"), "low": Decimal("1E-8"), "close": Decimal(1),
        "volume": Decimal(trades), "trade_count": trades, "status": BarStatus(status), "revision": revision,
    }  # fmt: skip
    return OHLCVBar(**fields | others)


def bars(*seconds: int) -> list[OHLCVBar]:
    return [bar(second) for second in seconds]


def seconds_of(given: list[OHLCVBar]) -> list[int]:
    return [int((one.open_time - START).total_seconds()) for one in given]


class Stream:
    """A delivery, its loops, and when reading was paused."""

    def __init__(self, most: int = 100, *, callbacks: bool = False) -> None:
        self.delivery = Delivery("test", ("test", "spot"), StreamConfig(bars=["1s", "tick:1"]))
        if callbacks:
            self.delivery.add_consumer(CALLBACKS)
        self.paused: list[bool] = []
        self.loops = BarLoops(self.delivery, most, self.paused.append)
        self.loops.open()

    def issue(self, *seconds: int) -> None:
        self.delivery.issue(bars(*seconds))
        self.delivery.confirm(CALLBACKS, self.delivery.next_number)

    async def take(self, loop: BarLoop, count: int) -> list[int]:
        return seconds_of([await anext(loop) for _ in range(count)])


async def rest_of(loop: BarLoop) -> list[int]:
    return seconds_of([one async for one in loop])


async def test_reading_stops_when_enough_bars_wait_and_goes_on_when_half_of_them_are_taken() -> None:
    stream = Stream(4)
    stream.issue(0, 1, 2)
    assert stream.paused == []
    stream.issue(3, 4, 5)  # those of one wakeup all come
    stream.issue(6)
    assert stream.paused == [True]
    loop = stream.loops.begin()
    assert await stream.take(loop, 4) == [0, 1, 2, 3]
    assert stream.paused == [True]
    assert await stream.take(loop, 1) == [4]
    assert stream.paused == [True, False]
    stream.issue(7, 8, 9)
    assert stream.paused == [True, False, True]
    stream.loops.end()
    assert await rest_of(loop) == [5, 6, 7, 8, 9]


async def test_a_failure_comes_once_in_each_loop_and_after_the_last_bar() -> None:
    stream = Stream()
    stream.issue(0)
    loops = [stream.loops.begin(), stream.loops.begin()]
    stream.loops.end(WSConnectionError("lost for good"))
    for loop in loops:
        assert await stream.take(loop, 1) == [0]
        with pytest.raises(WSConnectionError, match="lost for good"):
            await anext(loop)
        assert await rest_of(loop) == []
    assert await rest_of(stream.loops.begin()) == []


async def test_whoever_waits_gets_the_next_bar_or_the_end() -> None:
    stream = Stream()
    loop = stream.loops.begin()
    waiting = asyncio.create_task(stream.take(loop, 1))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    stream.issue(7)
    assert await waiting == [7]
    ending = asyncio.create_task(rest_of(loop))
    await asyncio.sleep(0.1)
    stream.loops.end()
    assert await ending == []


async def test_two_loops_each_get_every_bar_and_the_slower_one_holds_reading_up() -> None:
    stream = Stream(4)
    stream.issue(0, 1, 2)

    async def collect(pause_s: float) -> list[int]:
        taken = []
        async for one in stream.loops.begin():
            taken.append(one)
            await asyncio.sleep(pause_s)
        return seconds_of(taken)

    fast, slow = asyncio.create_task(collect(0)), asyncio.create_task(collect(1))
    await asyncio.sleep(0.5)
    stream.issue(3, 4)
    assert stream.paused == [True]  # the slow one has taken one of five
    await asyncio.sleep(1)
    assert stream.paused == [True]
    await asyncio.sleep(1)
    assert stream.paused == [True, False]
    stream.loops.end()
    assert await fast == await slow == [0, 1, 2, 3, 4]


async def test_a_loop_that_was_left_holds_nothing_up_while_another_one_runs() -> None:
    stream = Stream(4)
    stream.issue(0, 1, 2, 3)
    runs, left = stream.loops.begin(), stream.loops.begin()
    assert await stream.take(left, 1) == [0]
    assert await stream.take(runs, 4) == [0, 1, 2, 3]
    assert stream.paused == [True]
    del left
    assert stream.paused == [True, False]
    assert stream.delivery.positions == {"loops": 3}


async def test_a_later_loop_begins_with_the_first_bar_that_no_loop_has_confirmed() -> None:
    stream = Stream()
    stream.issue(0, 1, 2)
    first = stream.loops.begin()
    assert await stream.take(first, 2) == [0, 1]
    later = stream.loops.begin()
    assert await stream.take(later, 2) == [1, 2]


async def test_after_the_last_loop_was_left_the_next_one_begins_with_what_was_not_confirmed() -> None:
    stream = Stream()
    stream.issue(0, 1, 2)

    async def fail_at_the_second() -> None:
        async for one in stream.loops.begin():
            if seconds_of([one]) == [1]:
                raise ConnectionError  # a database is down

    with pytest.raises(ConnectionError):
        await fail_at_the_second()
    stream.issue(3)
    assert await stream.take(stream.loops.begin(), 3) == [1, 2, 3]


async def test_leaving_without_an_exception_confirms_what_the_loops_have_been_given() -> None:
    stream = Stream()
    stream.issue(0, 1, 2)
    async for _ in stream.loops.begin():
        break
    stream.loops.confirm_all()
    assert stream.delivery.positions == {"loops": 1}
    assert await stream.take(stream.loops.begin(), 2) == [1, 2]


async def test_where_callbacks_take_the_bars_those_that_no_loop_takes_are_given_up_and_reading_goes_on() -> None:
    stream = Stream(4, callbacks=True)
    stream.issue(0, 1, 2)
    assert stream.delivery.positions == {"callbacks": 3, "loops": 0}
    stream.issue(3, 4)
    assert stream.paused == []
    assert stream.delivery.positions == {"callbacks": 5}
    loop = stream.loops.begin()
    stream.issue(5)
    assert await stream.take(loop, 1) == [5]


async def test_bars_that_all_have_confirmed_are_kept_no_longer() -> None:
    stream = Stream(callbacks=True)
    loop = stream.loops.begin()
    for second in range(1000):
        stream.issue(second)
        assert await stream.take(loop, 1) == [second]
        kept = [number for number in range(second + 1) if stream.delivery.bar(number) is not None]
        assert kept == [second]


def test_without_loops_and_state_nothing_is_kept() -> None:
    delivery = Delivery("test", ("test", "spot"), StreamConfig(bars="1s"))
    issued = bars(0, 1)
    assert delivery.issue(issued) is issued
    assert (delivery.next_number, delivery.bar(0)) == (0, None)


# What an earlier process has issued.

WORST_FIRST = ("GAP", "PARTIAL", "SAMPLED", "UNVERIFIABLE", "PROVISIONAL", "PUBLISHED", "HEALED", "COMPLETE")


def earlier_of(*given: OHLCVBar) -> EarlierBars:
    earlier = EarlierBars(("test", "spot"), parse_specs(["1s", "tick:1"]), 60)
    for one in given:
        earlier.add(one)
    return earlier


@pytest.mark.parametrize("logged", WORST_FIRST)
@pytest.mark.parametrize("made", WORST_FIRST)
def test_the_better_status_stands_and_what_replaces_it_continues_the_revisions(logged: str, made: str) -> None:
    earlier = earlier_of(bar(0, logged, trades=5, revision=3))
    issued = earlier.judge(bar(0, made, trades=6))
    if WORST_FIRST.index(made) < WORST_FIRST.index(logged):
        assert issued is None
    else:
        assert issued == bar(0, made, trades=6, revision=4)


def test_of_two_bars_of_one_status_the_one_with_more_trades_stands() -> None:
    earlier = earlier_of(bar(0, "GAP", trades=5), bar(1, "GAP", trades=5))
    assert earlier.judge(bar(0, "GAP", trades=4)) is None
    assert earlier.judge(bar(1, "GAP", trades=6)) == bar(1, "GAP", trades=6, revision=1)


def test_the_same_bar_again_is_not_issued() -> None:
    earlier = earlier_of(bar(0, revision=2))
    assert earlier.judge(bar(0)) is None
    assert earlier.judge(bar(0, volume=Decimal(9))) == bar(0, volume=Decimal(9), revision=3)


def test_a_bar_that_was_replaced_is_judged_no_more_and_its_revisions_rise() -> None:
    earlier = earlier_of(bar(0, "PROVISIONAL", revision=1))
    issued = [earlier.judge(bar(0, status)) for status in ("GAP", "HEALED", "GAP", "GAP")]
    assert issued[0] is None
    assert [one and (one.status, one.revision) for one in issued[1:]] == [("HEALED", 2), ("GAP", 3), ("GAP", 4)]
    again = EarlierBars(("test", "spot"), parse_specs(["1s"]), 60)
    again.load(earlier.dump()())
    assert again.judge(bar(0, "PARTIAL")) == bar(0, "PARTIAL", revision=5)
    assert again.judge(bar(0, "PARTIAL", revision=30)) == bar(0, "PARTIAL", revision=30)


def test_other_bars_pass_as_they_are_and_those_far_behind_are_forgotten() -> None:
    earlier = earlier_of(bar(0), bar(1), bar(0, symbol="B"))
    for passing in (bar(5), bar(0, symbol="C"), bar(0, spec="tick:1")):
        assert earlier.judge(passing) is passing
    assert len(earlier) == 3
    assert earlier.judge(bar(63)) == bar(63)  # the first one can still change for 60 s after it could have been late
    assert len(earlier) == 2
    assert earlier.judge(bar(64)) == bar(64)
    assert len(earlier) == 1


def test_path_driven_bars_of_one_time_are_told_apart_by_their_first_trade() -> None:
    ticks = [bar(0, spec="tick:1", first_trade_id=number, last_trade_id=number) for number in (1, 2, 3)]
    earlier = earlier_of(ticks[0], ticks[1])
    assert earlier.judge(ticks[0]) is None
    assert earlier.judge(ticks[2]) is ticks[2]


# Bars that candles replace.


def candle_of(one: OHLCVBar, **others: Any) -> OHLCVBar:
    fields: dict[str, Any] = {"status": BarStatus.REPORTED, "close_reason": CloseReason.CANDLE, "trade_count": None}
    return replace(one, **fields | {"revision": 0, "volume": Decimal(9)} | others)


def repairing() -> tuple[EarlierBars, list[OHLCVBar]]:
    earlier = EarlierBars(("test", "spot"), parse_specs(["1s", "tick:1"]), 60, repairs=True)
    told: list[OHLCVBar] = []
    earlier.on_lacking = told.append
    return earlier, told


def shown(*given: OHLCVBar | None) -> list[tuple[str, int] | None]:
    return [None if one is None else (str(one.status), one.revision) for one in given]


@pytest.mark.parametrize("status", ["GAP", "PARTIAL"])
def test_a_candle_replaces_a_bar_that_lacks_trades_and_trades_that_prove_more_replace_it(status: str) -> None:
    earlier, told = repairing()
    lacking = bar(0, status, trades=3)
    assert earlier.judge(lacking) is lacking
    assert told == earlier.lacking() == [lacking]
    reported = earlier.report(candle_of(lacking))
    assert shown(reported) == [("REPORTED", 1)]
    assert earlier.lacking() == []
    # What the kernel counts goes on, whatever of it is issued.
    made = [bar(0, "GAP", 4, 1), bar(0, "PARTIAL", 5, 2), bar(0, "PROVISIONAL", 6, 3), bar(0, "COMPLETE", 6, 4)]
    assert shown(*map(earlier.judge, made)) == [None, None, ("PROVISIONAL", 2), ("COMPLETE", 3)]


@pytest.mark.parametrize("better", [s for s in WORST_FIRST if s not in ("GAP", "PARTIAL")])
def test_a_candle_is_issued_once_more_where_trades_are_lost_after_all(better: str) -> None:
    earlier, _ = repairing()
    earlier.judge(bar(0, "GAP", trades=3))
    candle = candle_of(bar(0))
    earlier.report(candle)
    assert shown(earlier.judge(bar(0, better, 4, 1))) == [(better, 2)]
    again = earlier.judge(bar(0, "GAP", 4, 2))
    assert again == replace(candle, revision=3)
    assert shown(earlier.judge(bar(0, "GAP", 5, 3)), earlier.judge(bar(0, better, 6, 4))) == [None, (better, 4)]


def test_a_candle_that_comes_too_late_is_not_issued() -> None:
    earlier, _ = repairing()
    earlier.judge(bar(0, "GAP", trades=3))
    earlier.judge(bar(0, "HEALED", trades=6, revision=1))
    assert earlier.lacking() == []
    assert earlier.report(candle_of(bar(0))) is None
    assert shown(earlier.judge(bar(0, "GAP", 6, 2))) == [("GAP", 2)]


def test_the_same_candle_again_is_not_issued_and_another_one_is() -> None:
    earlier, _ = repairing()
    earlier.judge(bar(0, "GAP", trades=3))
    candle = candle_of(bar(0))
    issued = (earlier.report(candle), earlier.report(candle), earlier.report(replace(candle, volume=Decimal(10))))
    assert shown(*issued) == [("REPORTED", 1), None, ("REPORTED", 2)]


def test_late_trades_that_contradict_a_candle_ask_for_another_and_take_it_back() -> None:
    earlier, told = repairing()
    earlier.judge(bar(0, "GAP", trades=3))
    earlier.report(candle_of(bar(0), trade_count=5, volume=Decimal(5)))
    told.clear()
    assert earlier.judge(bar(0, "GAP", 5, 1)) is None  # it may be of them
    assert told == []
    late = bar(0, "GAP", 6, 2)
    assert earlier.judge(late) is None
    assert told == earlier.lacking() == [late]
    assert earlier.lacks(bar(0)) == late
    withdrawn = earlier.withdraw(late)
    assert withdrawn == replace(late, revision=2)
    assert earlier.withdraw(late) is None
    assert earlier.lacking() == []
    assert shown(earlier.judge(bar(0, "GAP", 7, 3)), earlier.judge(bar(0, "HEALED", 8, 4))) == [
        ("GAP", 3), ("HEALED", 4),
    ]  # fmt: skip


@pytest.mark.parametrize("values", [
    {"trade_count": 4}, {"volume": Decimal("4.9")}, {"high": Decimal("1.4")}, {"low": Decimal("0.1")},
])  # fmt: skip
def test_a_candle_of_fewer_trades_than_were_received_contradicts_them(values: dict[str, Any]) -> None:
    made = bar(0, "GAP")
    assert contradicts(candle_of(made), made) == ""
    assert contradicts(candle_of(made, **values), made)
    empty = replace(made, open=None, high=None, low=None, close=None, volume=Decimal(0), trade_count=0)
    assert contradicts(candle_of(made, **values), empty) == ""


def test_bars_that_lack_trades_wait_for_their_candles_across_a_restart() -> None:
    earlier, _ = repairing()
    for second in (0, 1, 2):
        earlier.judge(bar(second, "GAP"))
    earlier.report(candle_of(bar(1)))
    earlier.judge(bar(1, "GAP", 6, 1))
    earlier.settle(bar(2))
    again, _ = repairing()
    again.load(earlier.dump()())
    assert again.dump()() == earlier.dump()()
    assert again.lacking() == [bar(0, "GAP")]
    assert shown(again.judge(bar(1, "GAP", 7, 2)), again.judge(bar(1, "HEALED", 8, 3))) == [None, ("HEALED", 2)]
    assert shown(again.report(candle_of(bar(0)))) == [("REPORTED", 1)]
    # What was issued behind the snapshot is known by its log.
    logged, _ = repairing()
    for one in (bar(0, "GAP"), bar(1, "GAP"), candle_of(bar(1), revision=1)):
        logged.add(one)
    assert logged.lacking() == [bar(0, "GAP")]
    assert shown(logged.judge(bar(1, "GAP")), logged.judge(bar(1, "COMPLETE", 6, 1))) == [None, ("COMPLETE", 2)]


def test_what_waits_for_a_candle_is_not_forgotten_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    earlier, _ = repairing()
    for second in (0, 1):
        earlier.judge(bar(second, "GAP"))
    earlier.settle(bar(1))
    for second in (100, 101):
        earlier.judge(bar(second))
    assert earlier.lacking() == [bar(0, "GAP")]
    assert len(earlier) == 2  # nothing behind one that waits is either
    earlier.settle(bar(0))
    earlier.judge(bar(102))
    assert len(earlier) == 0
    monkeypatch.setattr("fastbars.live.reissues.MOST_LACKING", 3)
    for second in range(200, 205):
        earlier.judge(bar(second, "GAP"))
    assert seconds_of(earlier.lacking()) == [202, 203, 204]


@pytest.mark.parametrize("part", [
    b"{}", b"[1]", b"[[1,0,0]]", b"[[2,0,0,null,null,null]]", b'[[1,0,-1,null,null,null]]', b"[[1,0,0,null,null,null]]",
])  # fmt: skip
def test_what_is_no_list_of_issued_bars_is_refused(part: bytes) -> None:
    earlier, _ = repairing()
    with pytest.raises(ValueError, match=r"it |bar"):
        earlier.load(part)
    swapped = orjson.dumps([[1, 0, 0, orjson.loads(encoded(bar(0))), orjson.loads(encoded(bar(1))), None]])
    with pytest.raises(ValueError, match="two bars as one"):
        earlier.load(swapped)
    not_reported = orjson.dumps([[1, 0, 0, orjson.loads(encoded(bar(0))), None, orjson.loads(encoded(bar(0)))]])
    with pytest.raises(ValueError, match="candle that is COMPLETE"):
        earlier.load(not_reported)
