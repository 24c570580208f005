"""Anchored bars: the law of tests/path_law.py, and by hand what it says of one hole."""

from __future__ import annotations

import pytest

from fastbars import BarBuffer, BarSpec, BarStatus, OHLCVBar, SpecError, TickBatch
from path_law import check

HOUR_NS = 3600 * 10**9
START_NS = 1_700_000_000 // 3600 * HOUR_NS
SIZES = {1: 4, 2: 5, 3: 3, 4: 6, 5: 5, 6: 7, 7: 4, 8: 2, 9: 3}


def test_whatever_is_lost_and_comes_back_the_last_bars_are_those_of_the_whole_truth() -> None:
    for number in range(200):
        found, _ = check(number, 11)
        assert not found, (number, found[0])


def rows(bars: list[OHLCVBar]) -> list[tuple[object, ...]]:
    return [
        (bar.index, bar.status.value, bar.revision, bar.first_trade_id, bar.last_trade_id, bar.volume) for bar in bars
    ]


def add(buffer: BarBuffer, number: int, time_ns: int, size: int | None = None) -> list[OHLCVBar]:
    return buffer.add("S", time_ns, 100 + number, size or SIZES[number], side="buy", trade_id=number)


def with_a_hole(spec: str = "volume:10@1h", **options: float) -> BarBuffer:
    buffer = BarBuffer(spec, ids="contiguous", first_id=1, **options)  # type: ignore[arg-type]
    assert rows([bar for number in (1, 2, 3) for bar in add(buffer, number, START_NS + number)]) == [
        (0, "COMPLETE", 0, 1, 3, 12)
    ]
    assert rows([bar for number in (5, 6, 7, 8, 9) for bar in add(buffer, number, START_NS + number)]) == [
        (1, "GAP", 0, 5, 6, 12)
    ]
    return buffer


def page(buffer: BarBuffer, number: int, time_ns: int) -> TickBatch:
    batch = buffer.new_batch()
    batch.append("S", time_ns, 100 + number, SIZES[number], 1, number)
    return batch


def test_a_hole_that_is_healed_cuts_the_bars_behind_it_again() -> None:
    buffer = with_a_hole()
    assert rows(buffer.heal(page(buffer, 4, START_NS + 4))) == [
        (1, "HEALED", 1, 4, 5, 11),
        (2, "HEALED", 0, 6, 7, 11),
    ]
    (current,) = [buffer.current("S", "volume:10@1h")]
    assert current is not None
    assert rows([current]) == [(3, "PROVISIONAL", 0, 8, 9, 5)]
    assert rows(add(buffer, 10, START_NS + HOUR_NS, 1)) == [(3, "COMPLETE", 0, 8, 9, 5)]


def test_a_trade_that_comes_by_itself_makes_them_complete() -> None:
    buffer = with_a_hole()
    assert rows(add(buffer, 4, START_NS + 4)) == [(1, "COMPLETE", 1, 4, 5, 11), (2, "COMPLETE", 0, 6, 7, 11)]


def test_a_hole_ends_with_the_anchor_where_it_stays() -> None:
    buffer = with_a_hole()
    assert rows(add(buffer, 10, START_NS + HOUR_NS, 9)) == [(2, "GAP", 0, 7, 9, 9)]
    assert rows(add(buffer, 11, START_NS + HOUR_NS + 1, 1)) == [(0, "COMPLETE", 0, 10, 11, 10)]


def test_bars_that_no_longer_exist_are_retracted() -> None:
    buffer = BarBuffer("range:10@1h", ids="contiguous", first_id=1)
    bars: dict[int | None, OHLCVBar] = {}
    for number, price in ((1, 100), (3, 110), (4, 120), (5, 121), (6, 131), (2, 112)):
        for bar in buffer.add("S", START_NS + number, price, 1, side="buy", trade_id=number):
            bars[bar.index] = bar
    # By ids: 100 112 | 110 120 | 121 131
    assert {index: (bar.status, bar.first_trade_id, bar.last_trade_id) for index, bar in bars.items()} == {
        0: (BarStatus.COMPLETE, 1, 2),
        1: (BarStatus.COMPLETE, 3, 4),
        2: (BarStatus.COMPLETE, 5, 6),
    }


def test_beyond_the_bound_bars_stay_gap_up_to_the_next_anchor() -> None:
    buffer = with_a_hole(recut_trades=4)
    (bar,) = buffer.heal(page(buffer, 4, START_NS + 4))
    assert (bar.index, bar.status, bar.missing_count) == (1, BarStatus.GAP, None)
    assert rows(add(buffer, 10, START_NS + 10, 5)) == [(2, "GAP", 0, 7, 10, 14)]
    assert rows(add(buffer, 11, START_NS + HOUR_NS, 10)) == [(0, "COMPLETE", 0, 11, 11, 10)]


def test_the_clock_closes_a_bar_at_the_end_of_its_anchor_and_the_next_trade_proves_it() -> None:
    buffer = BarBuffer("tick:100@1h", ids="contiguous", first_id=1)
    add(buffer, 1, START_NS)
    add(buffer, 2, START_NS + 1)
    (bar,) = buffer.advance_clock(START_NS + 2 * HOUR_NS)
    assert (bar.status, bar.close_reason, bar.index) == (BarStatus.PROVISIONAL, "anchor", 0)
    (bar,) = add(buffer, 3, START_NS + 2 * HOUR_NS)
    assert (bar.status, bar.revision, bar.last_trade_id) == (BarStatus.COMPLETE, 1, 2)


def test_what_a_flush_ends_is_partial_up_to_the_next_anchor() -> None:
    buffer = BarBuffer("tick:2@1h", ids="contiguous", first_id=1)
    add(buffer, 1, START_NS)
    assert [bar.status for bar in buffer.flush_all()] == [BarStatus.PARTIAL]
    add(buffer, 2, START_NS + 2)
    assert [(bar.index, bar.status) for bar in add(buffer, 3, START_NS + 3)] == [(1, BarStatus.PARTIAL)]
    add(buffer, 4, START_NS + HOUR_NS)
    assert [bar.status for bar in add(buffer, 5, START_NS + HOUR_NS)] == [BarStatus.COMPLETE]


def test_where_ids_prove_nothing_late_trades_go_to_their_place() -> None:
    buffer = BarBuffer("tick:2@1h", lateness_s=60)
    second = 10**9
    got = [bar for at in (0, 1, 3, 4) for bar in buffer.add("S", START_NS + at * second, 100 + at, 1)]
    assert [(bar.index, str(bar.open), str(bar.close)) for bar in got] == [(0, "100", "101"), (1, "103", "104")]
    (bar,) = buffer.add("S", START_NS + 2 * second, 102, 1)
    assert (bar.index, str(bar.open), str(bar.close), bar.revision) == (1, "102", "103", 1)
    late: list[int] = []
    buffer = BarBuffer("tick:2@1h", lateness_s=60, on_late=lambda tick: late.append(tick.time_ns))
    buffer.add("S", START_NS + 100 * second, 100, 1)
    assert buffer.add("S", START_NS, 100, 1) == []
    assert late == [START_NS]
    (bar,) = buffer.add("S", START_NS + 101 * second, 100, 1)
    assert bar.status is BarStatus.GAP


def test_an_anchor_may_be_a_session() -> None:
    buffer = BarBuffer("tick:2@session:09:00-10:00", ids="contiguous", first_id=1)
    nine = START_NS // (24 * HOUR_NS) * 24 * HOUR_NS + 9 * HOUR_NS
    bars = []
    for number, at in enumerate((-2, -1, 0, 1, 2, HOUR_NS, HOUR_NS + 1, 24 * HOUR_NS), 1):
        bars += add(buffer, number, nine + at, 1)
    assert [(bar.index, bar.first_trade_id, bar.last_trade_id) for bar in bars] == [(0, 3, 4), (1, 5, 5)]


@pytest.mark.parametrize(
    "text", ["tick:5@", "tick:5@tick:5", "volume:tick:5", "tick:5:exactly", "1m+nothing", "time:5", "tick:5@1x", "5@1d"]
)
def test_what_is_no_anchored_spec_is_an_error(text: str) -> None:
    with pytest.raises(SpecError):
        BarSpec.parse(text)


def test_what_is_inside_bars_is_cut_again_with_them() -> None:
    buffer = with_a_hole("volume:10@1h+footprint:1")
    healed = buffer.heal(page(buffer, 4, START_NS + 4))
    assert [[(str(level.price), str(level.buy_volume)) for level in bar.footprint or ()] for bar in healed] == [
        [("104", "6"), ("105", "5")],
        [("106", "7"), ("107", "4")],
    ]
