"""What a bar says about itself: what it lacks, what was healed, what nobody saw. Times in seconds after the epoch."""

from __future__ import annotations

from decimal import Decimal

import pytest

from fastbars.bars import OHLCVBar
from fastbars.buffer import BarBuffer, Empty
from fastbars.errors import InvalidTickError
from fastbars.id_policy import Ids
from fastbars.ticks import TickData, to_nanoseconds

SECOND = 1_000_000_000


def show(bars: list[OHLCVBar]) -> list[str]:
    """Open second, prices, trades, status, missing trades, revision, reason."""
    return [
        f"{to_nanoseconds(bar.open_time) // SECOND}:"
        f" {' '.join(str(price) for price in (bar.open, bar.high, bar.low, bar.close)).replace('None', '-')}"
        f" n{bar.trade_count} {bar.status} m{'?' if bar.missing_count is None else bar.missing_count} r{bar.revision}"
        f" {bar.close_reason}"
        for bar in bars
    ]


class Feed:
    """A buffer of 10-second bars, grace 0, lateness 20 s."""

    def __init__(self, ids: Ids = "contiguous", empty: Empty = "skip", *, horizon_s: float = 3600) -> None:
        self.late: list[TickData] = []
        self.buffer = BarBuffer("10s", ids=ids, empty=empty, grace_s=0, lateness_s=20, heal_horizon_s=horizon_s,
                                on_late=self.late.append)  # fmt: skip

    def trade(self, second: float, trade_id: int, price: int = 5) -> list[str]:
        number = trade_id if self.buffer.ids == "contiguous" else None
        return show(self.buffer.add_tick(TickData("A", round(second * SECOND), price, 1, trade_id=number)))

    def trades(self, *rows: tuple[float, int]) -> list[str]:
        return [text for second, trade_id in rows for text in self.trade(second, trade_id)]

    def heal(self, *rows: tuple[float, int], price: int = 5) -> list[str]:
        batch = self.buffer.new_batch()
        for second, trade_id in rows:
            batch.append("A", round(second * SECOND), Decimal(price), 1, 0, trade_id)
        return show(self.buffer.heal(batch))

    def clock(self, second: float, *, up: bool = True) -> list[str]:
        return show(self.buffer.advance_clock(round(second * SECOND), feed_up=up))

    def flush(self) -> list[str]:
        return show(self.buffer.flush_all())


# How many trades are missing.


def test_a_hole_inside_a_bar_is_counted() -> None:
    feed = Feed()
    feed.trades((0, 1), (10, 2), (12, 5), (14, 7))
    assert feed.trade(20, 8) == ["10: 5 5 5 5 n3 GAP m3 r0 trade"]


def test_a_hole_over_a_border_could_be_of_either_side_and_is_not_counted() -> None:
    feed = Feed()
    feed.trades((0, 1), (10, 2), (12, 5))
    assert feed.trade(20, 8) == ["10: 5 5 5 5 n2 GAP m? r0 trade"]
    # Id 7 at 19 s tells that 6 is of the first bar, and that the second one is whole.
    assert feed.trades((19, 7), (31, 9)) == [
        "10: 5 5 5 5 n3 GAP m3 r1 trade",
        "20: 5 5 5 5 n1 COMPLETE m0 r0 trade",
    ]


def test_what_is_not_proven_says_no_number() -> None:
    feed = Feed()
    feed.trades((0, 1), (10, 2))
    assert feed.clock(20) == ["10: 5 5 5 5 n1 PROVISIONAL m? r0 clock"]
    assert feed.trade(25, 3) == ["10: 5 5 5 5 n1 COMPLETE m0 r1 clock"]
    without = Feed(ids="none")
    without.trades((0, 1), (10, 2))
    assert without.trade(20, 3) == ["10: 5 5 5 5 n1 UNVERIFIABLE m? r0 trade"]


# Healing.


def test_a_bar_that_is_healed_says_so_and_the_bar_across_the_border_too() -> None:
    feed = Feed()
    feed.trades((0, 1), (10, 2), (22, 5), (30, 6))
    assert feed.heal((15, 3), (21, 4), price=7) == [
        "10: 5 7 5 7 n2 HEALED m0 r1 trade",
        "20: 7 7 5 5 n2 HEALED m0 r1 trade",
    ]
    assert feed.buffer.stats.healed == 2
    assert feed.buffer.stats.trades == 4


def test_a_bar_is_issued_once_however_many_trades_healed_it() -> None:
    feed = Feed()
    feed.trades((0, 1), (10, 2), (12, 1000), (20, 1001))
    assert feed.heal(*((11, number) for number in range(3, 1000))) == ["10: 5 5 5 5 n999 HEALED m0 r1 trade"]


def test_a_bar_that_is_half_healed_is_a_gap_that_lacks_less() -> None:
    feed = Feed()
    feed.trades((0, 1), (10, 2), (12, 6), (20, 7))
    assert feed.heal((11, 3)) == ["10: 5 5 5 5 n3 GAP m2 r1 trade"]
    assert feed.heal((11, 4), (11, 5)) == ["10: 5 5 5 5 n5 HEALED m0 r2 trade"]


def test_overlapping_answers_and_trades_that_nobody_missed_change_nothing() -> None:
    feed = Feed()
    feed.trades((0, 1), (10, 2), (12, 4), (20, 5))
    assert feed.heal((0, 1), (10, 2), (11, 3), (12, 4), (20, 5), (21, 6)) == ["10: 5 5 5 5 n3 HEALED m0 r1 trade"]
    assert feed.heal((11, 3)) == []
    assert feed.buffer.stats.healed == 1
    assert feed.trade(21, 6) == []  # it comes on the stream, as the next trade should


def test_a_trade_that_arrives_while_it_is_healed_is_a_duplicate_on_whichever_way_is_slower() -> None:
    feed = Feed()
    feed.trades((0, 1), (10, 2), (12, 5), (20, 6))
    assert feed.trade(11, 3) == ["10: 5 5 5 5 n3 GAP m1 r1 trade"]
    assert feed.heal((11, 3), (11, 4)) == ["10: 5 5 5 5 n4 HEALED m0 r2 trade"]
    assert feed.trade(11, 4) == []
    assert feed.buffer.stats.duplicates == 1


def test_the_open_bar_is_healed_before_it_is_issued() -> None:
    feed = Feed()
    feed.trades((0, 1), (10, 2), (12, 4))
    assert feed.heal((11, 3)) == []
    assert feed.trade(20, 5) == ["10: 5 5 5 5 n3 HEALED m0 r0 trade"]


def test_intervals_that_were_skipped_inside_a_hole_are_issued_once_trades_are_found_in_them() -> None:
    feed = Feed()
    feed.trades((0, 1), (10, 2), (42, 6), (50, 7))
    assert feed.heal((15, 3), (25, 4), (41, 5)) == [
        "10: 5 5 5 5 n2 HEALED m0 r1 trade",
        "20: 5 5 5 5 n1 HEALED m0 r0 trade",
        "40: 5 5 5 5 n2 HEALED m0 r1 trade",
    ]


def test_a_hole_keeps_its_bars_far_beyond_lateness() -> None:
    feed = Feed()
    feed.trades((0, 1), (10, 2), (12, 4), *((20 + 10 * n, 5 + n) for n in range(300)))
    assert feed.heal((11, 3)) == ["10: 5 5 5 5 n3 HEALED m0 r1 trade"]
    assert feed.late == []


def test_a_trade_of_a_hole_that_comes_late_on_the_stream_heals_too_but_not_by_rest() -> None:
    feed = Feed()
    feed.trades((0, 1), (10, 2), (12, 4), *((20 + 10 * n, 5 + n) for n in range(300)))
    assert feed.trade(11, 3) == ["10: 5 5 5 5 n3 COMPLETE m0 r1 trade"]


def test_beyond_the_horizon_a_hole_stays_and_its_trade_is_counted_as_lost() -> None:
    feed = Feed(horizon_s=100)
    feed.trades((0, 1), (10, 2), (12, 4), (20, 5), (121, 6))
    assert feed.trade(11, 3) == []
    assert [tick.trade_id for tick in feed.late] == [3]


def test_an_answer_whose_times_cannot_be_those_of_the_hole_fills_nothing() -> None:
    feed = Feed()
    feed.trades((0, 1), (100, 2), (102, 4), (110, 5))
    # Another unit of time, or garbage: the trade would be in no bar, and the hole would be gone.
    assert feed.heal((0.101, 3)) == []
    assert feed.heal((101_000, 3)) == []
    assert feed.buffer.missing("A") == [(3, 3)]
    assert feed.heal((101, 3)) == ["100: 5 5 5 5 n3 HEALED m0 r1 trade"]


def test_an_old_bar_that_was_let_go_is_not_made_anew_from_one_trade() -> None:
    feed = Feed()
    feed.trades((0, 1), (10, 2), (20, 3), (30, 4), (60, 5), (90, 6))
    # Times run backwards here: the hole's trade is of a bar that is gone. No other can take it, so it stays missing.
    feed.trade(91, 9)
    assert feed.trade(12, 7) == []
    assert [tick.trade_id for tick in feed.late] == [7]
    assert feed.buffer.missing("A") == [(7, 8)]
    assert feed.flush() == ["90: 5 5 5 5 n2 GAP m? r0 end"]


def test_trades_without_ids_heal_nothing() -> None:
    feed = Feed(ids="none")
    feed.trade(0, 1)
    with pytest.raises(InvalidTickError, match="without ids"):
        feed.buffer.heal(feed.buffer.new_batch())


def test_a_healed_trade_that_does_not_fit_changes_nothing() -> None:
    feed = Feed()
    feed.trades((0, 1), (10, 2), (12, 5), (20, 6))
    batch = feed.buffer.new_batch()
    batch.append("A", 11 * SECOND, 5, 1, 0, 3)
    bad = feed.buffer.new_batch().from_columns(
        feed.buffer.instruments,
        time_ns=[11 * SECOND] * 2, symbol_id=[0, 0], price=[5, 0], size=[1, 1], first_id=[3, 4], last_id=[3, 4],
    )  # fmt: skip
    with pytest.raises(InvalidTickError, match="row 1: price 0"):
        feed.buffer.heal(bad)
    assert feed.buffer.holes("A") == [(3, 4, 10 * SECOND, 12 * SECOND)]
    assert feed.buffer.stats.healed == 0


# While the feed is down.


def test_intervals_that_nobody_saw_are_gaps_without_prices_and_proven_by_the_next_id() -> None:
    feed = Feed()
    feed.trades((0, 1), (10, 2))
    assert feed.clock(15, up=False) == []
    assert feed.clock(41, up=False) == [
        "10: 5 5 5 5 n1 GAP m? r0 gap",
        "20: - - - - n0 GAP m? r0 gap",
        "30: - - - - n0 GAP m? r0 gap",
    ]
    assert feed.trade(45, 3) == [
        "10: 5 5 5 5 n1 COMPLETE m0 r1 gap",
        "20: - - - - n0 COMPLETE m0 r1 gap",
        "30: - - - - n0 COMPLETE m0 r1 gap",
    ]


def test_a_quiet_symbol_is_not_called_complete_after_an_outage_until_its_next_trade() -> None:
    feed = Feed()
    feed.trades((0, 1), (10, 2))
    feed.clock(12, up=False)
    feed.clock(14, up=True)
    assert feed.clock(20) == ["10: 5 5 5 5 n1 GAP m? r0 clock"]
    assert feed.clock(30) == []  # the feed was up all the time
    assert feed.trade(31, 3) == ["10: 5 5 5 5 n1 COMPLETE m0 r1 clock"]


def test_an_outage_is_healed_interval_by_interval() -> None:
    feed = Feed()
    feed.trades((0, 1), (10, 2))
    feed.clock(15, up=False)
    feed.clock(41, up=False)
    feed.clock(42)
    assert feed.trade(45, 5) == []
    assert feed.heal((18, 3), (33, 4), price=8) == [
        "10: 5 8 5 8 n2 HEALED m0 r1 gap",
        "20: - - - - n0 HEALED m0 r1 gap",
        "30: 8 8 8 8 n1 HEALED m0 r1 gap",
    ]
    assert feed.trade(50, 6) == ["40: 5 5 5 5 n1 HEALED m0 r0 trade"]


def test_without_ids_what_nobody_saw_stays_a_gap() -> None:
    feed = Feed(ids="none")
    feed.trades((0, 1), (10, 2))
    feed.clock(15, up=False)
    assert feed.clock(31, up=False) == ["10: 5 5 5 5 n1 GAP m? r0 gap", "20: - - - - n0 GAP m? r0 gap"]
    feed.clock(32)
    feed.trade(35, 3)
    assert feed.trade(40, 4) == ["30: 5 5 5 5 n1 GAP m? r0 trade"]
    assert feed.trade(50, 5) == ["40: 5 5 5 5 n1 UNVERIFIABLE m? r0 trade"]


# Intervals without trades.


def test_a_filled_interval_is_flat_at_the_last_close_and_has_the_status_of_its_proof() -> None:
    feed = Feed(empty="fill")
    feed.trades((0, 1), (10, 2))
    assert feed.clock(30) == ["10: 5 5 5 5 n1 PROVISIONAL m? r0 clock", "20: 5 5 5 5 n0 PROVISIONAL m? r0 clock"]
    assert feed.trade(35, 3) == ["10: 5 5 5 5 n1 COMPLETE m0 r1 clock", "20: 5 5 5 5 n0 COMPLETE m0 r1 clock"]


def test_intervals_between_two_trades_are_filled_before_the_second_one_opens_its_bar() -> None:
    feed = Feed(empty="fill")
    feed.trades((0, 1), (10, 2))
    assert feed.trade(40, 3) == [
        "10: 5 5 5 5 n1 COMPLETE m0 r0 trade",
        "20: 5 5 5 5 n0 COMPLETE m0 r0 trade",
        "30: 5 5 5 5 n0 COMPLETE m0 r0 trade",
    ]


def test_where_trades_may_be_missing_there_is_a_gap_and_no_flat_bar() -> None:
    feed = Feed(empty="fill")
    feed.trades((0, 1), (10, 2))
    assert feed.trade(30, 4) == ["10: 5 5 5 5 n1 GAP m? r0 trade", "20: - - - - n0 GAP m? r0 trade"]
    assert feed.heal((14, 3), price=9) == [
        "10: 5 9 5 9 n2 HEALED m0 r1 trade",
        "20: 9 9 9 9 n0 HEALED m0 r1 trade",
    ]


def test_flat_bars_follow_the_close_that_they_were_made_from() -> None:
    feed = Feed(ids="none", empty="fill")
    feed.trades((0, 1), (10, 2))
    assert feed.trade(40, 3)[1:] == [
        "20: 5 5 5 5 n0 UNVERIFIABLE m? r0 trade",
        "30: 5 5 5 5 n0 UNVERIFIABLE m? r0 trade",
    ]
    assert feed.trade(25, 4, price=8) == [
        "20: 8 8 8 8 n1 UNVERIFIABLE m? r1 trade",
        "30: 8 8 8 8 n0 UNVERIFIABLE m? r1 trade",
    ]


def test_while_the_feed_is_down_there_is_no_flat_bar() -> None:
    feed = Feed(empty="fill")
    feed.trades((0, 1), (10, 2))
    feed.clock(20)
    feed.clock(25, up=False)
    assert feed.clock(40, up=False) == ["20: - - - - n0 GAP m? r0 gap", "30: - - - - n0 GAP m? r0 gap"]


def test_after_the_end_of_a_subscription_nothing_is_filled() -> None:
    feed = Feed(empty="fill")
    feed.trades((0, 1), (10, 2))
    assert show(feed.buffer.flush_symbol("A")) == ["10: 5 5 5 5 n1 PARTIAL m? r0 end"]
    assert feed.clock(60) == []
    assert feed.trade(65, 9) == ["10: 5 5 5 5 n1 GAP m? r1 end"]


def test_a_leap_of_time_fills_no_more_than_can_be_of_use() -> None:
    feed = Feed(ids="none", empty="fill")
    feed.trades((0, 1), (10, 2))
    assert len(feed.trade(4 * 10**9, 3)) == 100_001
