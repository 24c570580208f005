"""The coverage ledger, through BarBuffer: what its gaps make of bars, and of intervals without trades."""

from __future__ import annotations

import time

import pytest
from hypothesis import assume, given, settings, strategies as st

from examples import examples
from fastbars import BarBuffer
from fastbars.bars import OHLCVBar
from fastbars.id_policy import Ids
from strategies import NESTED_SPECS, Scenario, buffer_for, expected, oracle_for, replay, scenarios

S = 1_000_000_000
MINUTE = 60 * S


class Feed:
    """A buffer of one-minute bars, and the last issue of each bar of X by its minute."""

    def __init__(self, ids: Ids = "none", specs: str = "1m", empty: str = "skip", **settings: float) -> None:
        self.last: dict[int, OHLCVBar] = {}
        self.buffer = BarBuffer(specs.split(","), ids=ids, empty=empty, on_bar=self.note, **settings)  # type: ignore[arg-type]

    def note(self, bar: OHLCVBar) -> None:
        if bar.symbol == "X" and bar.spec == str(self.buffer.specs[0]):
            self.last[int(bar.open_time.timestamp()) // 60] = bar

    def trades(self, *rows: float | tuple[float, int]) -> None:
        for row in rows:
            second, trade_id = row if isinstance(row, tuple) else (row, None)
            self.buffer.add("X", round(second * S), "1", "1", 0, trade_id)

    @property
    def statuses(self) -> dict[int, str]:
        return {minute: str(bar.status) for minute, bar in sorted(self.last.items())}


def test_trades_from_rest_land_in_intervals_that_were_skipped() -> None:
    feed = Feed("contiguous")
    feed.trades((1, 1), (61, 2), (70, 3), (1000, 6))
    rest = feed.buffer.new_batch()
    for second, trade_id in ((400, 4), (640, 5)):
        rest.append("X", second * S, "1", "1", 0, trade_id)
    feed.buffer.heal(rest)
    feed.trades((1060, 7))
    assert feed.buffer.missing("X") == []
    assert feed.buffer.stats.healed == 2
    assert feed.statuses == {0: "PARTIAL", 1: "HEALED", 6: "HEALED", 10: "HEALED", 16: "HEALED"}


def test_a_trade_from_rest_that_no_bar_can_take_leaves_its_hole_open() -> None:
    feed = Feed("contiguous", lateness_s=1, heal_horizon_s=60)
    feed.trades((1, 1), (61, 2), (1000, 4))
    rest = feed.buffer.new_batch()
    rest.append("X", 400 * S, "1", "1", 0, 3)
    feed.buffer.heal(rest)
    assert (feed.buffer.missing("X"), feed.buffer.stats.healed) == ([(3, 3)], 0)


def test_a_trade_from_rest_that_is_dated_outside_its_hole_is_refused() -> None:
    feed = Feed("contiguous")
    feed.trades((1, 1), (61, 2), (70, 4), (130, 5))
    rest = feed.buffer.new_batch()
    rest.append("X", 100 * S, "1", "1", 0, 3)
    assert feed.buffer.heal(rest) == []
    assert feed.buffer.missing("X") == [(3, 3)]


@pytest.mark.parametrize("empty", ["skip", "fill"])
def test_a_minute_all_of_whose_trades_were_refused_is_a_gap(empty: str) -> None:
    feed = Feed(empty=empty)
    feed.trades(1, 61)
    feed.buffer.note_lost("X", 130 * S)
    feed.trades(200)
    assert feed.statuses[2] == "GAP"
    assert feed.last[2].close is None
    assert feed.buffer.stats.refused == 1


def test_a_refused_trade_begins_a_symbol() -> None:
    feed = Feed()
    assert feed.buffer.note_lost("X", 130 * S) == []
    feed.buffer.advance_clock(181 * S)
    assert feed.statuses == {2: "GAP"}
    feed.trades(250)
    feed.buffer.advance_clock(301 * S)
    assert feed.statuses == {2: "GAP", 4: "UNVERIFIABLE"}


def test_a_first_trade_older_than_a_refused_one_begins_the_bars() -> None:
    feed = Feed()
    feed.buffer.note_lost("X", 10**9 * S)
    feed.trades(1, 61, 121)
    assert feed.statuses == {0: "PARTIAL", 1: "UNVERIFIABLE"}


def test_an_ended_subscription_that_begins_again_cuts_two_bars_and_issues_nothing_between() -> None:
    feed = Feed()
    feed.trades(1, 61, 70)
    feed.buffer.flush_symbol("X")
    feed.trades(620, 661, 721)
    assert feed.statuses == {0: "PARTIAL", 1: "PARTIAL", 10: "PARTIAL", 11: "UNVERIFIABLE"}


def test_a_gap_that_is_known_later_makes_bars_of_what_was_skipped() -> None:
    feed = Feed(lateness_s=3600)
    feed.trades(1, 61, 70, 400, 460)
    assert feed.statuses == {0: "PARTIAL", 1: "UNVERIFIABLE", 6: "UNVERIFIABLE"}
    feed.buffer.lose(["X"], 200 * S, 320 * S)
    assert feed.statuses == {
        0: "PARTIAL", 1: "UNVERIFIABLE", 3: "GAP", 4: "GAP", 5: "GAP", 6: "UNVERIFIABLE",
    }  # fmt: skip
    feed.buffer.bridge(["X"], 200 * S, 320 * S)
    assert feed.last[5].status == "UNVERIFIABLE"
    assert (feed.last[5].revision, feed.last[5].close) == (1, None)


def test_nothing_is_made_before_the_first_trade() -> None:
    feed = Feed()
    feed.trades(601, 661)
    feed.buffer.lose(["X"], 0, 659 * S)
    assert feed.statuses == {10: "GAP"}


def test_a_silent_symbol_that_recovers_has_gap_bars_until_it_does() -> None:
    feed = Feed()
    feed.trades(1, 61, 70)
    feed.buffer.advance_watermark(400 * S)
    feed.buffer.lose(["X"], 70 * S, 405 * S)
    feed.trades(410, 421, 481)
    assert feed.statuses == {0: "PARTIAL"} | dict.fromkeys(range(1, 7), "GAP") | {7: "UNVERIFIABLE"}


def test_ids_bridge_a_gap() -> None:
    feed = Feed("contiguous")
    feed.trades((1, 1), (61, 2), (70, 3))
    feed.buffer.uncover(["X"], 80 * S)
    feed.buffer.advance_clock(200 * S)
    assert feed.statuses == {0: "PARTIAL", 1: "GAP", 2: "GAP"}
    feed.buffer.cover(["X"], 210 * S)
    feed.trades((220, 4))
    assert feed.statuses == {0: "PARTIAL", 1: "COMPLETE", 2: "COMPLETE"}
    assert feed.last[2].close is None


def test_two_gaps_in_one_bar_end_one_by_one() -> None:
    feed = Feed(lateness_s=600)
    feed.trades(1, 61, 121)
    feed.buffer.lose(["X"], 70 * S, 75 * S)
    feed.buffer.lose(["X"], 90 * S, 95 * S)
    assert feed.statuses[1] == "GAP"
    feed.buffer.bridge(["X"], 69 * S, 76 * S)
    assert feed.statuses[1] == "GAP"
    feed.buffer.bridge(["X"], 89 * S, 96 * S)
    assert (feed.statuses[1], feed.last[1].revision) == ("UNVERIFIABLE", 2)


def test_a_trade_too_late_for_a_second_is_in_its_hour_all_the_same() -> None:
    feed = Feed(specs="1h,1s", lateness_s=5)
    feed.trades(3601, 3602, 3603, 3700, 3602.5, 7201, 10801)
    bars = [bar for bar in feed.last.values() if bar.spec == "1h"]
    assert [(bar.trade_count, str(bar.status)) for bar in bars] == [(5, "PARTIAL"), (1, "UNVERIFIABLE")]
    assert feed.buffer.stats.late == 1


def test_a_flat_bar_is_not_made_of_what_may_be_lost_or_was_not_wanted() -> None:
    feed = Feed(empty="fill", lateness_s=3600)
    feed.trades(1, 61)
    feed.buffer.lose(["X"], 130 * S, 140 * S)
    feed.trades(310)
    assert feed.statuses == {0: "PARTIAL", 1: "UNVERIFIABLE", 2: "GAP", 3: "UNVERIFIABLE", 4: "UNVERIFIABLE"}
    assert [feed.last[minute].close is None for minute in (2, 3, 4)] == [True, False, False]
    feed.buffer.uncover(["X"], 320 * S, lost=False)
    feed.buffer.cover(["X"], 700 * S)
    feed.trades(790)
    assert {minute: feed.statuses[minute] for minute in feed.last if minute > 4} == {5: "PARTIAL", 12: "UNVERIFIABLE"}


def test_many_gaps_stay_few_and_cheap() -> None:
    feed = Feed(lateness_s=60)
    feed.trades(1)
    begun = time.process_time()
    for minute in range(1, 5000):
        feed.trades(60 * minute + 1)
        feed.buffer.lose(["X"], (60 * minute + 10) * S, (60 * minute + 10) * S, trades=1)
    assert time.process_time() - begun < 5
    assert len(feed.buffer.gaps("X")) <= 65


def test_gaps_are_fused_but_never_across_a_kept_bar() -> None:
    feed = Feed(specs="1m", lateness_s=10**6)
    feed.trades(*[60 * minute + 1 for minute in range(401)])
    for minute in range(1, 400, 2):
        feed.buffer.lose(["X"], (60 * minute + 10) * S, (60 * minute + 10) * S, trades=1)
        feed.buffer.lose(["X"], (60 * minute + 20) * S, (60 * minute + 20) * S, trades=1)
    assert [feed.statuses[minute] for minute in range(1, 9)] == ["GAP", "UNVERIFIABLE"] * 4
    assert 200 <= len(feed.buffer.gaps("X")) < 402


@pytest.mark.parametrize("ids", ["contiguous", "none"])
def test_a_snapshot_keeps_gaps_that_are_open_and_over(ids: Ids) -> None:
    feed, again = Feed(ids), Feed(ids)
    feed.trades((1, 1), (61, 2))
    feed.buffer.lose(["X"], 70 * S, 75 * S)
    feed.buffer.uncover(["X"], 90 * S)
    again.buffer.load(feed.buffer.dump())
    assert again.buffer.gaps("X") == feed.buffer.gaps("X") != []
    for one in (feed, again):
        one.buffer.advance_clock(300 * S)
    assert again.statuses == {1: "GAP", 2: "GAP", 3: "GAP"}
    assert {bar.revision for bar in again.last.values()} == {1000}


def test_a_restored_buffer_counts_on() -> None:
    feed = Feed(lateness_s=1)
    feed.trades(1, 61, 200, 62)
    feed.buffer.note_lost("X", 210 * S)
    again = Feed(lateness_s=1)
    again.buffer.load(feed.buffer.dump())
    assert again.buffer.stats.late == feed.buffer.stats.late == 1
    assert again.buffer.stats.refused == 1
    assert again.buffer.stats.trades == feed.buffer.stats.trades


def test_a_buffer_that_does_not_cover_itself_needs_to_be_told() -> None:
    feed = Feed()
    feed.buffer.covers_itself = False
    feed.trades(1, 61)
    feed.buffer.cover(["X"], 70 * S)
    feed.trades(121, 181)
    assert feed.statuses == {0: "PARTIAL", 1: "PARTIAL", 2: "UNVERIFIABLE"}


def test_days_of_a_time_zone_have_gaps_too() -> None:
    buffer = BarBuffer("1d@Europe/Berlin", ids="none", lateness_s=10**7)
    bars = [bar for day in range(4) for bar in buffer.add("X", day * 86400 * S, "1", "1")]
    assert [str(bar.status) for bar in bars] == ["PARTIAL", "UNVERIFIABLE", "UNVERIFIABLE"]
    (again,) = buffer.lose(["X"], 86400 * S + S, 86400 * S + 2 * S)
    assert (str(again.status), again.open_time.hour) == ("GAP", 23)


@settings(max_examples=examples(200))
@given(scenarios(covers=True))
def test_any_changes_of_coverage_give_the_bars_of_the_oracle(scenario: Scenario) -> None:
    # A difference that is known: where nothing waits for late trades, one that is years late and that a path-driven bar
    # takes is forgotten; the time bar that lacks it counts one missing trade less.
    assume(scenario.lateness_s or not any(":" in spec for spec in scenario.specs))
    assert replay(buffer_for(scenario), scenario.events, scenario.cuts) == expected(
        oracle_for(scenario), scenario.events
    )


@settings(max_examples=examples(100))
@given(scenarios(specs=NESTED_SPECS, most_specs=4, covers=True))
def test_they_do_with_specs_that_feed_each_other(scenario: Scenario) -> None:
    assert replay(buffer_for(scenario), scenario.events, scenario.cuts) == expected(
        oracle_for(scenario), scenario.events
    )


@settings(max_examples=examples(60))
@given(scenarios(covers=True), st.integers(0, 40))
def test_a_snapshot_between_them_changes_nothing(scenario: Scenario, cut: int) -> None:
    whole, half = buffer_for(scenario), buffer_for(scenario)
    after = buffer_for(scenario._replace(contract_sizes=()))
    lines = replay(half, scenario.events[:cut], flush=False)
    after.load(half.dump(), continues=True)
    assert lines + replay(after, scenario.events[cut:]) == replay(whole, scenario.events)


def test_a_silence_that_is_found_late_makes_gaps_of_flat_bars_without_ids() -> None:
    feed: dict[int, str] = {}
    buffer = BarBuffer("1s", ids="none", empty="fill", lateness_s=2)
    buffer.on_bar = lambda bar: feed.update({bar.open_time.minute * 60 + bar.open_time.second: str(bar.status)})
    for second in (0, 1):
        buffer.add("X", second * S, "1", "1")
    for second in range(2, 12):
        buffer.advance_clock(second * S)
    assert feed[5] == "UNVERIFIABLE"
    buffer.uncover(["X"], S)
    assert {second: feed[second] for second in (1, 2, 5, 9)} == dict.fromkeys((1, 2, 5, 9), "GAP")


def test_a_flat_bar_keeps_its_price_where_a_bar_without_one_comes_between_it_and_the_last_trade() -> None:
    seen: list[tuple[int, str, str]] = []
    buffer = BarBuffer("1s", ids="contiguous", empty="fill", grace_s=0, lateness_s=0)
    buffer.on_bar = lambda bar: seen.append((bar.open_time.second, str(bar.status), str(bar.close)))
    buffer.add("A", 11 * S, "1", "0", trade_id=20)  # a void id
    buffer.add("A", 10 * S, "1", "1", trade_id=21)
    buffer.advance_watermark(13 * S)
    buffer.uncover(["A"], 11 * S)
    buffer.add("A", 13 * S, "1", "1", trade_id=22)
    assert seen[-2:] == [(11, "GAP", "None"), (12, "COMPLETE", "1")]
