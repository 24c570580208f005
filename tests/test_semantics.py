"""The promises about bars, one worked case a sentence. Times in seconds after the epoch, grace 1 s, lateness 60 s."""

from __future__ import annotations

from decimal import Decimal

import pytest

from fastbars.bars import OHLCVBar
from fastbars.buffer import BarBuffer
from fastbars.ticks import TickData, to_nanoseconds

SECOND = 1_000_000_000


class Feed:
    """A buffer fed by seconds; every call returns (open second, O H L C, status, revision, reason) of each bar."""

    def __init__(self, bars: str | list[str] = "10s", ids: str = "contiguous", lateness_s: float = 60) -> None:
        self.late: list[TickData] = []
        assert ids in ("contiguous", "none")
        self.buffer = BarBuffer(
            bars,
            ids="contiguous" if ids == "contiguous" else "none",
            lateness_s=lateness_s,
            on_late=self.late.append,
        )

    def trade(self, second: float, trade_id: int, price: int = 5, last_id: int | None = None) -> list[str]:
        tick = TickData("A", round(second * SECOND), price, 1, trade_id=trade_id, last_trade_id=last_id)
        return show(self.buffer.add_tick(tick))

    def trades(self, *rows: tuple[float, int]) -> list[str]:
        return [text for second, trade_id in rows for text in self.trade(second, trade_id)]

    def watermark(self, second: float) -> list[str]:
        return show(self.buffer.advance_watermark(round(second * SECOND)))

    def clock(self, second: float, feed_up: bool = True) -> list[str]:
        return show(self.buffer.advance_clock(round(second * SECOND), feed_up=feed_up))

    def flush(self) -> list[str]:
        return show(self.buffer.flush_all())


def show(bars: list[OHLCVBar]) -> list[str]:
    return [
        f"{to_nanoseconds(bar.open_time) // SECOND}: {bar.open} {bar.high} {bar.low} {bar.close}"
        f" n{bar.trade_count} {bar.status} r{bar.revision} {bar.close_reason}"
        for bar in bars
    ]


# Interval.


def test_a_trade_on_the_boundary_opens_the_next_bar() -> None:
    feed = Feed()
    assert feed.trade(9.999_999_999, 1, 5) == []
    assert feed.trade(10, 2, 6) == ["0: 5 5 5 5 n1 PARTIAL r0 trade"]
    assert feed.trade(20, 3, 7) == ["10: 6 6 6 6 n1 COMPLETE r0 trade"]


def test_flooring_is_floor_division_before_1970_too() -> None:
    feed = Feed()
    assert feed.trades((-0.000_000_001, 1), (0, 2)) == ["-10: 5 5 5 5 n1 PARTIAL r0 trade"]


def test_weeks_start_monday() -> None:
    feed = Feed("1w")
    monday = 4 * 86400
    assert feed.trades((monday - 1, 1), (monday, 2)) == [f"{monday - 7 * 86400}: 5 5 5 5 n1 PARTIAL r0 trade"]


def test_months_are_those_of_the_calendar_leap_days_included() -> None:
    feed = Feed("1mo")
    february, march = 949_363_200, 951_868_800  # of the year 2000, 29 days apart
    assert feed.trades((march - 1, 1), (march, 2)) == [f"{february}: 5 5 5 5 n1 PARTIAL r0 trade"]


def test_a_skipped_interval_has_no_bar() -> None:
    feed = Feed()
    assert feed.trades((0, 1), (50, 2)) == ["0: 5 5 5 5 n1 PARTIAL r0 trade"]
    assert feed.trade(60, 3) == ["50: 5 5 5 5 n1 COMPLETE r0 trade"]


# Open and close.


def test_open_and_close_follow_the_ids_where_ids_are_contiguous() -> None:
    feed = Feed()
    feed.trade(0, 1)
    assert feed.trade(10, 3, 30) == ["0: 5 5 5 5 n1 GAP r0 trade"]
    # Id 2 comes last and has the latest time, but it was traded before id 3: it opens the bar.
    assert feed.trade(12, 2, 20) == ["0: 5 5 5 5 n1 PARTIAL r1 trade"]
    assert feed.trade(20, 4) == ["10: 20 30 20 30 n2 COMPLETE r0 trade"]


def test_open_and_close_follow_time_then_arrival_without_ids() -> None:
    feed = Feed(ids="none")
    for second, price in ((2, 20), (2, 21), (1, 10), (1, 11), (2, 22)):
        feed.trade(second, 0, price)
    assert feed.flush() == ["0: 10 22 10 22 n5 PARTIAL r0 end"]


def test_an_aggregated_row_counts_all_of_its_trades_and_carries_both_ids() -> None:
    feed = Feed()
    feed.trade(0, 5, last_id=9)
    feed.trade(1, 10)
    (bar,) = feed.buffer.flush_all()
    assert (bar.trade_count, bar.first_trade_id, bar.last_trade_id) == (6, 5, 10)


def test_a_bar_without_proving_ids_has_none() -> None:
    feed = Feed(ids="none")
    feed.trade(0, 7)
    (bar,) = feed.buffer.flush_all()
    assert (bar.first_trade_id, bar.last_trade_id) == (None, None)


# Status.


def test_the_first_bar_is_partial_and_the_second_complete() -> None:
    assert Feed().trades((5, 1), (15, 2), (25, 3)) == [
        "0: 5 5 5 5 n1 PARTIAL r0 trade",
        "10: 5 5 5 5 n1 COMPLETE r0 trade",
    ]


def test_without_ids_a_whole_bar_is_unverifiable() -> None:
    assert Feed(ids="none").trades((5, 0), (15, 0), (25, 0))[1] == "10: 5 5 5 5 n1 UNVERIFIABLE r0 trade"


def test_a_bar_closed_by_the_watermark_waits_grace_and_is_provisional_until_the_next_trade() -> None:
    feed = Feed()
    feed.trades((0, 1), (10, 2))
    assert feed.watermark(20.999_999_999) == []
    assert feed.watermark(21) == ["10: 5 5 5 5 n1 PROVISIONAL r0 watermark"]
    assert feed.trade(33, 3) == ["10: 5 5 5 5 n1 COMPLETE r1 watermark"]


def test_a_hole_at_the_end_of_a_provisional_bar_makes_it_a_gap() -> None:
    feed = Feed()
    feed.trades((0, 1), (10, 2))
    feed.clock(21)
    assert feed.trade(33, 4) == ["10: 5 5 5 5 n1 GAP r1 clock"]


def test_a_bar_closed_while_the_feed_was_down_is_a_gap_until_ids_prove_it() -> None:
    feed = Feed()
    feed.trades((0, 1), (10, 2))
    assert feed.clock(21, feed_up=False) == ["10: 5 5 5 5 n1 GAP r0 gap"]
    assert feed.trade(33, 3) == ["10: 5 5 5 5 n1 COMPLETE r1 gap"]


def test_a_bar_closed_while_the_feed_was_down_stays_a_gap_without_ids() -> None:
    feed = Feed(ids="none")
    feed.trades((0, 0), (10, 0))
    assert feed.clock(21, feed_up=False) == ["10: 5 5 5 5 n1 GAP r0 gap"]
    # The interval that nobody saw is a gap of its own.
    assert feed.trade(33, 0) == ["20: None None None None n0 GAP r0 trade"]


def test_what_is_open_at_the_end_is_partial_and_proven_if_trades_go_on() -> None:
    feed = Feed()
    feed.trades((0, 1), (10, 2))
    assert feed.flush() == ["10: 5 5 5 5 n1 PARTIAL r0 end"]
    assert feed.trade(20, 3) == ["10: 5 5 5 5 n1 COMPLETE r1 end"]


def test_no_watermark_or_clock_closes_a_path_driven_bar() -> None:
    feed = Feed("tick:2")
    feed.trade(0, 1)
    assert feed.watermark(10**9) == []
    assert feed.clock(10**9, feed_up=False) == []
    assert feed.trade(1, 2) == ["0: 5 5 5 5 n2 PARTIAL r0 trade"]


# Holes.


def test_a_jump_ahead_flags_every_bar_that_the_hole_reaches_into() -> None:
    feed = Feed()
    feed.trades((0, 1), (10, 2), (20, 3))
    assert feed.trade(35, 6) == ["20: 5 5 5 5 n1 GAP r0 trade"]
    assert feed.buffer.missing("A") == [(4, 5)]
    assert feed.trade(40, 7) == ["30: 5 5 5 5 n1 GAP r0 trade"]
    assert feed.trade(50, 8) == ["40: 5 5 5 5 n1 COMPLETE r0 trade"]


def test_a_hole_between_a_trade_and_the_boundary_trade_is_a_gap_on_both_sides() -> None:
    feed = Feed()
    feed.trades((0, 1), (10, 2))
    assert feed.trade(20, 4) == ["10: 5 5 5 5 n1 GAP r0 trade"]
    assert feed.trade(30, 5) == ["20: 5 5 5 5 n1 GAP r0 trade"]


def test_a_trade_inside_a_hole_heals_the_bars_it_had_reached_into() -> None:
    feed = Feed()
    feed.trades((0, 1), (10, 2), (22, 4), (30, 5))
    assert feed.trade(15, 3, 9) == [
        "10: 5 9 5 9 n2 COMPLETE r1 trade",
        "20: 5 5 5 5 n1 COMPLETE r1 trade",
    ]
    assert feed.buffer.missing("A") == []


def test_a_hole_splits_around_the_trade_that_falls_into_it() -> None:
    feed = Feed()
    feed.trades((0, 1), (10, 2), (40, 8))
    feed.trade(25, 5)
    assert feed.buffer.missing("A") == [(3, 4), (6, 7)]
    feed.trades((26, 6), (27, 7), (15, 3))
    assert feed.buffer.missing("A") == [(4, 4)]


def test_a_fill_that_heals_one_bar_leaves_the_other_flagged() -> None:
    feed = Feed()
    feed.trades((0, 1), (10, 2), (22, 5), (30, 6))
    # Ids 3 and 4 are missing between 10 s and 22 s; id 4 at 19 s clears the bar of 20 s, not that of 10 s.
    assert feed.trade(19, 4) == ["10: 5 5 5 5 n2 GAP r1 trade", "20: 5 5 5 5 n1 COMPLETE r1 trade"]


def test_a_fill_that_lies_ahead_in_time_makes_the_rest_of_its_hole_reach_further() -> None:
    feed = Feed()
    feed.trades((0, 1), (0, 4), (10, 5), (20, 6))
    # Ids 2 and 3 were missing at 0 s; with id 3 traded at 20 s, id 2 may lie anywhere up to there.
    assert feed.trade(20, 3) == ["10: 5 5 5 5 n1 GAP r1 trade"]


def test_a_duplicate_is_dropped_and_counted() -> None:
    feed = Feed()
    feed.trades((0, 1), (1, 2), (0, 1), (5, 2), (1, 2))
    assert feed.flush() == ["0: 5 5 5 5 n2 PARTIAL r0 end"]
    assert feed.buffer.stats.duplicates == 3
    assert feed.buffer.stats.trades == 2


def test_a_row_that_overlaps_what_was_seen_is_not_placed() -> None:
    feed = Feed()
    feed.trade(0, 5, last_id=7)
    assert feed.trade(1, 7, 9, last_id=9) == []
    assert feed.trade(1, 3, 9, last_id=5) == []
    assert [(tick.trade_id, tick.last_trade_id, tick.price) for tick in feed.late] == [
        (7, 9, Decimal(9)),
        (3, 5, Decimal(9)),
    ]
    assert feed.flush() == ["0: 5 5 5 5 n3 PARTIAL r0 end"]
    assert feed.buffer.stats.late == 2


def test_ids_below_the_first_one_are_taken_and_what_lies_between_is_a_hole() -> None:
    feed = Feed()
    feed.trade(10, 100)
    assert feed.trade(5, 90) == ["0: 5 5 5 5 n1 GAP r0 trade"]
    assert feed.buffer.missing("A") == [(91, 99)]
    assert feed.trade(7, 91, last_id=99) == ["0: 5 5 5 5 n10 PARTIAL r1 trade"]


# Late trades.


def test_a_late_trade_amends_its_own_bar_and_never_the_current_one() -> None:
    feed = Feed(ids="none")
    feed.trades((0, 0), (10, 0))
    assert feed.trade(20, 0, 6) == ["10: 5 5 5 5 n1 UNVERIFIABLE r0 trade"]
    assert feed.trade(15, 0, 99) == ["10: 5 99 5 99 n2 UNVERIFIABLE r1 trade"]
    assert feed.flush() == ["20: 6 6 6 6 n1 PARTIAL r0 end"]


def test_a_late_trade_of_a_skipped_interval_issues_its_bar() -> None:
    feed = Feed(ids="none")
    feed.trades((0, 0), (30, 0))
    assert feed.trade(15, 0, 7) == ["10: 7 7 7 7 n1 UNVERIFIABLE r0 trade"]


def test_a_bar_older_than_the_first_one_is_partial() -> None:
    feed = Feed(ids="none")
    feed.trade(30, 0)
    assert feed.trade(15, 0, 7) == ["10: 7 7 7 7 n1 PARTIAL r0 trade"]


def test_a_trade_exactly_lateness_behind_is_taken_and_a_nanosecond_more_is_not() -> None:
    feed = Feed(ids="none")
    feed.trades((0, 0), (10, 0), (80, 0))
    assert feed.trade(15, 0) == ["10: 5 5 5 5 n2 UNVERIFIABLE r1 trade"]
    feed.trade(80.000_000_001, 0)
    assert feed.trade(15, 0, 77) == ["10: 5 5 5 5 n2 GAP r2 trade"]
    assert [(tick.time_ns, tick.price) for tick in feed.late] == [(15 * SECOND, Decimal(77))]
    assert (feed.buffer.stats.late, feed.buffer.stats.trades) == (1, 5)


def test_a_second_trade_beyond_lateness_changes_nothing_more() -> None:
    feed = Feed(ids="none", lateness_s=0)
    feed.trades((0, 0), (10, 0), (20.5, 0))
    assert feed.trade(15, 0) == ["10: 5 5 5 5 n1 GAP r1 trade"]
    assert feed.trade(16, 0) == []
    assert feed.buffer.stats.late == 2


def test_the_watermark_ages_bars_that_can_be_amended() -> None:
    feed = Feed(ids="none")
    feed.trades((0, 0), (10, 0))
    feed.watermark(70)
    assert feed.trade(5, 0) == ["0: 5 5 5 5 n2 PARTIAL r1 trade"]
    feed.watermark(70.1)
    assert feed.trade(5, 0) == ["0: 5 5 5 5 n2 GAP r2 trade"]
    assert len(feed.late) == 1


def test_a_late_trade_that_is_the_newest_of_its_symbol_ages_the_bars_before_it() -> None:
    feed = Feed(ids="none", lateness_s=5)
    feed.trades((0, 0), (10, 0))
    feed.clock(21)
    assert feed.trade(19, 0) == ["10: 5 5 5 5 n2 UNVERIFIABLE r1 clock"]
    assert feed.trade(9, 0) == ["0: 5 5 5 5 n1 GAP r1 trade"]


def test_a_trade_after_the_clock_closed_its_bar_is_merged_into_it() -> None:
    feed = Feed()
    feed.trades((0, 1), (10, 2))
    feed.clock(21)
    assert feed.trade(19, 3, 8) == ["10: 5 8 5 8 n2 PROVISIONAL r1 clock"]
    assert feed.trade(25, 4) == ["10: 5 8 5 8 n2 COMPLETE r2 clock"]


# Trades lost on the way.


def test_a_lost_trade_flags_the_open_and_the_closed_bar_where_no_id_would_reveal_it() -> None:
    feed = Feed(ids="none")
    feed.trades((0, 0), (10, 0), (20, 0))
    assert show(feed.buffer.note_lost("A", 15 * SECOND)) == ["10: 5 5 5 5 n1 GAP r1 trade"]
    assert feed.buffer.note_lost("A", 25 * SECOND) == []
    assert feed.trade(30, 0) == ["20: 5 5 5 5 n1 GAP r0 trade"]
    assert feed.buffer.stats.refused == 2


def test_a_lost_trade_flags_a_bar_that_only_a_late_trade_opens() -> None:
    feed = Feed(ids="none")
    feed.trade(0, 0)
    assert feed.buffer.note_lost("A", 15 * SECOND) == []
    assert feed.trade(20, 0)[1:] == ["10: None None None None n0 GAP r0 trade"]
    assert feed.trade(12, 0) == ["10: 5 5 5 5 n1 GAP r1 trade"]


def test_a_lost_trade_with_contiguous_ids_is_revealed_by_the_next_one() -> None:
    feed = Feed()
    feed.trades((0, 1), (10, 2))
    assert feed.buffer.note_lost("A", 15 * SECOND) == []
    assert feed.trade(20, 4) == ["10: 5 5 5 5 n1 GAP r0 trade"]


# Tick, volume and value bars.


def test_a_path_driven_bar_ends_with_the_trade_that_reaches_the_step_whole() -> None:
    buffer = BarBuffer(["tick:2", "volume:3", "value:10"], ids="contiguous")
    bars = [
        (bar.spec, bar.trade_count, str(bar.volume), str(bar.quote_volume))
        for trade_id, price, size in ((1, 2, 2), (2, 3, "7.5"), (3, 9, "2.9"))
        for bar in buffer.add_tick(TickData("A", trade_id, price, size, trade_id=trade_id))
    ]
    assert bars == [
        ("tick:2", 2, "9.5", "26.5"),
        ("volume:3", 2, "9.5", "26.5"),
        ("value:10", 2, "9.5", "26.5"),
        ("value:10", 1, "2.9", "26.1"),
    ]


def test_a_path_driven_bar_spans_its_earliest_and_latest_trade_and_opens_with_the_first_to_arrive() -> None:
    feed = Feed("tick:3", ids="none")
    feed.trade(20, 0, 1)
    feed.trade(10, 0, 2)
    (text,) = feed.trade(15, 0, 3)
    assert text == "10: 1 3 1 3 n3 PARTIAL r0 trade"


@pytest.mark.parametrize("second_id", [3, 0])
def test_path_driven_bars_are_a_gap_from_the_first_missing_or_disordered_id_on(second_id: int) -> None:
    feed = Feed("tick:1")
    feed.trade(0, 1)
    assert feed.trade(1, second_id)[0].split()[6] == "GAP"
    assert feed.trade(2, 4 if second_id else 2)[0].split()[6] == "GAP"
    assert feed.trade(3, 5 if second_id else 3)[0].split()[6] == "GAP"


def test_lateness_does_not_apply_to_path_driven_bars() -> None:
    feed = Feed("tick:1", ids="none", lateness_s=0)
    feed.trade(10**6, 0)
    assert feed.trade(0, 0) == ["0: 5 5 5 5 n1 UNVERIFIABLE r0 trade"]
    assert feed.late == []


# Inverse contracts.


def test_an_inverse_contract_counts_contracts_and_values_them_at_the_contract_size() -> None:
    buffer = BarBuffer("1m")
    buffer.instruments.add("BTCUSD_PERP", contract_size=100)
    buffer.add_tick(TickData("BTCUSD_PERP", 0, "61837.1", 3, "buy"))
    buffer.add_tick(TickData("BTCUSD_PERP", 1, "61838.15", 4, "sell"))
    (bar,) = buffer.flush_all()
    assert (bar.volume, bar.quote_volume, bar.taker_buy_quote_volume, bar.vwap) == (
        Decimal(7),
        Decimal(700),
        Decimal(300),
        None,
    )
    assert (bar.open, bar.close) == (Decimal("61837.1"), Decimal("61838.15"))


def test_a_contract_size_made_known_before_the_first_trade_holds_even_if_others_traded_already() -> None:
    buffer = BarBuffer(["1m", "value:200"])
    buffer.instruments.add("I")
    buffer.add_tick(TickData("other", 0, 1, 1))
    buffer.instruments.add("I", contract_size="100")
    buffer.add_tick(TickData("I", 0, 7, 1))
    (bar,) = buffer.add_tick(TickData("I", 0, 7, 1))
    assert (bar.spec, bar.quote_volume) == ("value:200", Decimal(200))
    assert [bar.quote_volume for bar in buffer.flush_symbol("I")] == [200]
