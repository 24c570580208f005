"""Trade ids that begin anew: lower, higher, at 1; what waits, what is a stray, and what bars say of it."""

from __future__ import annotations

import logging
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import fastbars
from examples import examples
from fastbars import BarBuffer, OHLCVBar, StreamConfig, TickData
from fastbars.exchanges import find_exchange
from fastbars.live.session import Session
from fastbars.tapes import Recording
from oracle import SERIES, Oracle, Trade
from servers import trade
from strategies import MINUTE, SECOND, line_of

START = 1_735_689_600 * SECOND


def minutes(bars: list[OHLCVBar], spec: str = "1m") -> dict[int, tuple[str, int | None, int]]:
    """The last issue of each bar: status, trades, revision, by minutes since the start."""
    return {
        (int(bar.open_time.timestamp()) * SECOND - START) // MINUTE: (bar.status, bar.trade_count, bar.revision)
        for bar in bars
        if bar.spec == spec
    }


class Feed:
    """A buffer, fed with one trade after another."""

    def __init__(self, specs: str | list[str] = "1m", **settings: object) -> None:
        self.late: list[TickData] = []
        self.buffer = BarBuffer(specs, ids="contiguous", on_late=self.late.append, **settings)  # type: ignore[arg-type]
        self.bars: list[OHLCVBar] = []

    def trade(
        self, seconds: float, trade_id: int, last_id: int | None = None, *, price: str = "1", size: str = "1"
    ) -> None:
        self.bars += self.buffer.add(
            "X", START + round(seconds * SECOND), price, size, "buy", trade_id, last_id, time_unit="ns"
        )

    def run(self, seconds: range, first_id: int) -> None:
        for count, second in enumerate(seconds):
            self.trade(second, first_id + count)

    def flush(self) -> dict[int, tuple[str, int | None, int]]:
        self.bars += self.buffer.flush_all()
        return minutes(self.bars)

    @property
    def latest(self) -> dict[int, tuple[str, int | None, int]]:
        return minutes(self.bars)


@pytest.mark.parametrize("first_id", [624_086, 26_941_000, 1, 0])
def test_bars_are_proven_again_behind_ids_that_begin_anew_lower(first_id: int) -> None:
    feed = Feed()
    feed.run(range(0, 300, 10), 26_941_144)
    feed.run(range(400, 700, 10), first_id)
    latest = feed.latest
    assert [latest[minute][0] for minute in range(5) if minute] == ["COMPLETE"] * 3 + ["GAP"]
    assert [latest[minute] for minute in (1, 2, 3)] == [("COMPLETE", 6, 0)] * 3
    assert 5 not in latest  # no trade is known of it
    assert latest[6] == ("GAP", 2, 0)
    assert [latest[minute] for minute in (7, 8, 9, 10)] == [("COMPLETE", 6, 0)] * 4
    assert feed.buffer.stats.series == 1
    assert feed.buffer.missing("X") == []
    assert feed.buffer.holes("X") == []
    assert feed.buffer.stats.duplicates == 0


def test_ids_that_go_on_higher_are_a_hole() -> None:
    feed = Feed()
    feed.run(range(0, 300, 10), 100)
    feed.run(range(400, 700, 10), 5_000_000)
    assert feed.buffer.missing("X") == [(130, 4_999_999)]
    assert feed.buffer.stats.series == 0
    assert feed.latest[4][0] == feed.latest[6][0] == "GAP"
    assert feed.latest[7] == ("COMPLETE", 6, 0)


def test_a_reset_without_a_pause_is_seen_by_the_bars_that_are_kept() -> None:
    feed = Feed()
    feed.run(range(600), 10_000)
    feed.run(range(600, 900), 10_100)  # ids of minute 1, ten minutes later
    latest = feed.latest
    assert latest[8] == ("COMPLETE", 60, 0)
    assert latest[9] == ("GAP", 60, 0)
    assert latest[10] == ("GAP", 60, 0)
    assert latest[11] == latest[12] == ("COMPLETE", 60, 0)
    assert feed.buffer.stats.duplicates == 0


def test_open_and_close_of_the_bar_in_which_ids_begin_anew_are_those_of_time() -> None:
    feed = Feed(["1m", "5m", "1h"])
    for count, second in enumerate(range(0, 200, 10)):
        feed.trade(second, 500 + count, price=str(100 + count))
    for count, second in enumerate(range(270, 330, 10)):
        feed.trade(second, 1 + count, price=str(200 + count))
    feed.flush()
    hour = [bar for bar in feed.bars if bar.spec == "1h"][-1]
    assert [hour.open, hour.close, hour.high, hour.low] == [Decimal(each) for each in (100, 205, 205, 100)]
    assert (hour.first_trade_id, hour.last_trade_id, hour.trade_count) == (500, 6, 26)
    five = next(bar for bar in feed.bars if bar.spec == "5m")
    assert (five.open, five.close) == (Decimal(100), Decimal(202))
    assert (five.first_trade_id, five.last_trade_id) == (500, 3)
    assert (five.status, five.missing_count) == ("GAP", None)


def test_a_reset_at_a_boundary_leaves_the_bars_on_both_sides_in_doubt_and_no_others() -> None:
    feed = Feed()
    feed.run(range(0, 300, 20), 1000)
    feed.run(range(300, 600, 20), 7)
    latest = feed.latest
    assert [latest[minute][0] for minute in range(1, 9)] == ["COMPLETE"] * 3 + ["GAP"] * 2 + ["COMPLETE"] * 3


def test_a_reset_during_an_outage_leaves_all_of_it_in_doubt() -> None:
    feed = Feed()
    feed.run(range(0, 290, 10), 1000)
    feed.bars += feed.buffer.advance_clock(START + 295 * SECOND, feed_up=False)
    feed.bars += feed.buffer.advance_clock(START + 500 * SECOND, feed_up=True)
    feed.run(range(500, 720, 10), 1)
    latest = feed.latest
    assert [latest[minute][0] for minute in (1, 2, 3)] == ["COMPLETE"] * 3
    assert [latest[minute][0] for minute in (4, 5, 6, 7, 8)] == ["GAP"] * 5
    assert [latest[minute][0] for minute in (9, 10)] == ["COMPLETE"] * 2


def test_a_trade_waits_for_the_next_id_and_is_in_its_bar_then() -> None:
    feed = Feed()
    feed.run(range(0, 120, 10), 500)
    feed.trade(400, 7)
    assert (feed.buffer.stats.series, feed.buffer.current("X", "1m")) != (1, None)
    assert feed.buffer.current("X", "1m").trade_count == 6  # type: ignore[union-attr]
    feed.trade(401, 8)
    assert feed.buffer.stats.series == 1
    assert feed.buffer.current("X", "1m").trade_count == 2  # type: ignore[union-attr]


def test_a_trade_that_waits_past_its_bar_is_issued_with_it_once_it_is_confirmed() -> None:
    feed = Feed(empty="fill")
    feed.run(range(0, 120, 10), 500)
    feed.trade(400, 7)
    feed.bars += feed.buffer.advance_clock(START + 700 * SECOND)
    assert feed.latest[6][:2] == ("PROVISIONAL", 0)
    feed.trade(710, 8)
    assert feed.latest[6][:2] == ("GAP", 1)
    assert feed.late == []


def test_an_old_trade_sent_again_with_a_wrong_time_is_a_duplicate_once_its_series_goes_on() -> None:
    feed, undisturbed = Feed(), Feed()
    for one in (feed, undisturbed):
        one.run(range(0, 300, 10), 500)
        if one is feed:
            one.trade(295, 510)  # its own time was 100
        one.run(range(300, 600, 10), 530)
    assert feed.bars == undisturbed.bars
    assert (feed.buffer.stats.duplicates, feed.buffer.stats.series, feed.buffer.stats.trades) == (1, 0, 60)


def test_a_stray_whose_id_was_never_seen_is_late_and_never_silent() -> None:
    feed = Feed()
    feed.run(range(0, 300, 10), 500)
    feed.trade(295, 3, price="7.25", size="0.125")
    feed.run(range(300, 400, 10), 530)
    assert [(tick.trade_id, tick.price, tick.volume) for tick in feed.late] == [(3, Decimal("7.25"), Decimal("0.125"))]
    assert (feed.buffer.stats.late, feed.buffer.stats.duplicates) == (1, 0)
    assert feed.latest[4] == ("COMPLETE", 6, 0)


def test_a_trade_that_still_waits_at_the_end_is_taken() -> None:
    feed = Feed()
    feed.run(range(0, 120, 10), 500)
    feed.trade(400, 7, price="3", size="2")
    latest = feed.flush()
    assert latest[6] == ("GAP", 1, 0)
    assert feed.bars[-1].volume == 2
    assert feed.buffer.stats.series == 1


def test_trades_of_a_new_series_that_lacks_its_second_one_all_wait_and_all_count() -> None:
    feed = Feed()
    feed.run(range(0, 120, 10), 500)
    for second, trade_id in ((400, 7), (401, 9), (402, 11), (403, 12), (470, 13)):
        feed.trade(second, trade_id)
    assert feed.bars[-1].trade_count == 4
    assert feed.buffer.missing("X") == [(8, 8), (10, 10)]
    feed.trade(402, 10)
    assert feed.buffer.missing("X") == [(8, 8)]


def test_sixteen_trades_that_wait_are_a_series_though_no_two_are_neighbours() -> None:
    feed = Feed()
    feed.run(range(0, 120, 10), 500)
    for count in range(15):
        feed.trade(400 + count, 7 + 2 * count)
    assert feed.buffer.stats.series == 0
    feed.trade(415, 7 + 2 * 15)
    assert feed.buffer.stats.series == 1
    assert len(feed.buffer.missing("X")) == 15


def test_what_was_old_before_the_reset_stays_a_duplicate_behind_it() -> None:
    feed = Feed()
    feed.run(range(0, 300, 10), 500)
    feed.run(range(400, 460, 10), 1)
    before = feed.latest
    for second, trade_id in ((0, 500), (150, 515), (290, 529)):
        feed.trade(second, trade_id)  # above all ids of the new series
    assert feed.buffer.stats.duplicates == 3
    assert feed.latest == before
    feed.run(range(460, 600, 10), 7)
    assert feed.latest[8] == ("COMPLETE", 6, 0)


def test_an_old_trade_with_the_id_that_comes_next_is_a_duplicate_too() -> None:
    feed = Feed()
    feed.run(range(0, 300, 10), 1)
    feed.run(range(400, 430, 10), 1)
    feed.trade(30, 4)  # of the series before; the next one is 4 as well
    feed.run(range(430, 600, 10), 4)
    assert feed.buffer.stats.duplicates == 1
    assert feed.buffer.stats.trades == 50
    assert feed.latest[8] == ("COMPLETE", 6, 0)


def test_a_trade_of_the_old_series_that_comes_behind_the_reset_is_in_its_bar() -> None:
    feed = Feed()
    feed.run(range(0, 290, 10), 500)
    feed.trade(360, 1)
    feed.trade(361, 2)
    feed.trade(292, 530)  # 529 is missing
    assert feed.latest[4] == ("GAP", 6, 1)
    assert feed.buffer.missing("X") == [(529, 529)]
    feed.trade(291, 529)
    assert feed.latest[4] == ("GAP", 7, 2)
    assert feed.buffer.missing("X") == []
    bar = feed.bars[-1]
    assert (bar.first_trade_id, bar.last_trade_id) == (524, 530)


def test_a_trade_within_lateness_stays_late_and_fills_its_hole() -> None:
    feed = Feed()
    feed.run(range(0, 60, 10), 500)
    feed.trade(61, 507)
    feed.trade(62, 506)  # out of order
    feed.run(range(70, 200, 10), 508)
    assert (feed.buffer.stats.series, feed.buffer.stats.duplicates) == (0, 0)
    assert feed.latest[1] == ("COMPLETE", 7, 0)


def test_void_ids_begin_a_series_and_confirm_one() -> None:
    feed = Feed()
    feed.run(range(0, 120, 10), 500)
    feed.trade(400, 1, size="0")
    feed.trade(401, 2)
    feed.run(range(410, 600, 10), 3)
    assert feed.buffer.stats.series == 1
    assert feed.latest[6] == ("GAP", 2, 0)
    assert feed.latest[7] == ("COMPLETE", 6, 0)
    feed.trade(800, 1)
    feed.trade(801, 2, size="0")
    assert feed.buffer.stats.series == 2
    assert feed.buffer.stats.void_ids == 2


def test_unpublished_ids_are_those_of_the_series_at_hand() -> None:
    feed = Feed()
    feed.trade(0, 100)
    feed.trade(10, 105)
    feed.run(range(400, 500, 10), 1)
    feed.trade(500, 13)
    feed.trade(580, 14)
    assert feed.buffer.missing("X") == [(11, 12), (101, 104)]
    feed.bars += feed.buffer.leave_out("X", [(0, 12)])
    assert feed.buffer.missing("X") == [(101, 104)]
    assert feed.latest[8][0] == "PUBLISHED"
    assert feed.latest[6][0] == "GAP"  # its series began there


def test_aggregated_trades_begin_anew_by_their_first_and_last_ids() -> None:
    feed = Feed()
    for count in range(12):
        feed.trade(10 * count, 500 + 5 * count, 504 + 5 * count)
    for count in range(20):
        feed.trade(400 + 10 * count, 10 + 3 * count, 12 + 3 * count)
    assert feed.buffer.stats.series == 1
    assert feed.latest[7] == ("COMPLETE", 18, 0)
    bar = next(bar for bar in feed.bars if minutes([bar]).get(7))
    assert (bar.first_trade_id, bar.last_trade_id) == (16, 33)


def test_ids_can_begin_anew_many_times_in_one_bar() -> None:
    feed = Feed(["1m", "1d"])
    for series in range(40):
        feed.run(range(series * 600, series * 600 + 200, 10), 1 + series % 3)
    feed.flush()
    (day,) = [bar for bar in feed.bars if bar.spec == "1d"]
    assert (day.trade_count, day.status, feed.buffer.stats.series) == (800, "GAP", 39)
    assert day.last_trade_id == 20
    assert feed.latest[391] == ("COMPLETE", 6, 0)


def test_rest_begins_no_series_and_fills_no_hole_of_another_one() -> None:
    feed = Feed()
    feed.run(range(0, 60, 10), 500)
    feed.trade(70, 510)  # 506 to 509 are missing
    feed.run(range(400, 500, 10), 1)
    assert feed.buffer.missing("X") == [(506, 509)]
    batch = feed.buffer.new_batch()
    for trade_id, second in ((506, 450), (507, 62), (3, 900), (4, 901)):
        batch.append("X", START + second * SECOND, "1", "1", 1, trade_id, time_unit="ns")
    feed.bars += feed.buffer.heal(batch)
    assert feed.buffer.stats.healed == 1  # 507, at a time at which it can have been traded
    assert feed.buffer.missing("X") == [(506, 506), (508, 509)]
    assert feed.latest[1][:2] == ("GAP", 2)
    assert feed.buffer.stats.series == 1


def test_holes_of_the_old_series_are_given_up_once_their_ids_mean_new_trades() -> None:
    feed = Feed()
    feed.run(range(0, 60, 10), 10)
    feed.trade(70, 20)
    feed.trade(400, 1)
    feed.trade(401, 2)
    assert feed.buffer.missing("X") == [(16, 19)]
    feed.run(range(410, 600, 10), 3)
    assert feed.buffer.missing("X") == []
    assert feed.latest[0][0] == feed.latest[1][0] == "GAP"


def test_the_beginning_of_a_series_is_not_asked_for() -> None:
    feed = Feed()
    feed.run(range(30, 60, 10), 500)
    assert feed.buffer.beginning("X", 60) != []
    feed.run(range(200, 300, 10), 1)
    assert feed.buffer.beginning("X", 60) == []


def test_path_driven_bars_are_in_doubt_from_the_reset_on() -> None:
    feed = Feed("tick:10")
    feed.run(range(0, 300, 10), 500)
    feed.run(range(400, 700, 10), 1)
    assert [bar.status for bar in feed.bars] == ["PARTIAL", "COMPLETE", "COMPLETE", "GAP", "GAP", "GAP"]
    assert [(bar.first_trade_id, bar.last_trade_id) for bar in feed.bars[2:4]] == [(520, 529), (1, 10)]


def test_while_trades_wait_scales_may_widen() -> None:
    feed = Feed()
    feed.run(range(0, 120, 10), 500)
    feed.trade(400, 7, price="2.5", size="3.25")
    feed.buffer.instruments.add("X", 6, 7)
    feed.trade(401, 8, price="1.000001", size="0.0000001")
    feed.flush()
    bar = feed.bars[-1]
    assert (bar.open, bar.close, bar.volume) == (Decimal("2.5"), Decimal("1.000001"), Decimal("3.2500001"))


def test_a_restart_keeps_what_waits_and_which_ids_are_old() -> None:
    feed = Feed(["1m", "1h"])
    feed.run(range(0, 300, 10), 500)
    feed.trade(400, 1, price="9.5")
    restarted = Feed(["1m", "1h"])
    restarted.buffer.load(feed.buffer.dump())
    for one in (feed, restarted):
        one.run(range(410, 600, 10), 2)
        one.trade(150, 515)
        one.flush()
    assert {(bar.spec, bar.open_time): line_of(bar)._replace(revision=0) for bar in restarted.bars} == {
        (bar.spec, bar.open_time): line_of(bar)._replace(revision=0)
        for bar in feed.bars
        if (bar.spec, bar.open_time) in {(one.spec, one.open_time) for one in restarted.bars}
    }
    assert restarted.buffer.stats.series == 1
    assert restarted.buffer.stats.duplicates == 1
    assert next(bar for bar in restarted.bars if minutes([bar]).get(6)).open == Decimal("9.5")


def test_ids_as_high_as_they_get_begin_anew_too() -> None:
    feed = Feed(["1m", "1h"])
    for series in range(6):
        feed.run(range(series * 600, series * 600 + 200, 10), 2**62 - 30 - series)
    feed.run(range(3700, 3900, 10), 1)
    assert feed.buffer.stats.series == 6
    assert feed.latest[63] == ("COMPLETE", 6, 0)
    feed.flush()
    assert {bar.trade_count for bar in feed.bars if bar.spec == "1h"} == {120, 20}


def test_a_restart_behind_a_reset_goes_on_as_if_there_had_been_none() -> None:
    feed = Feed(["1m", "1h"])
    feed.run(range(0, 300, 10), 500)
    feed.trade(400, 1)
    feed.trade(401, 2)
    feed.trade(470, 4)
    restarted = Feed(["1m", "1h"])
    restarted.buffer.load(feed.buffer.dump(), continues=True)
    assert restarted.buffer.missing("X") == [(3, 3)]
    for one in (feed, restarted):
        one.bars.clear()
        one.trade(290, 529)
        one.run(range(480, 600, 10), 5)
        one.flush()
    assert [line_of(bar) for bar in restarted.bars] == [line_of(bar) for bar in feed.bars]
    assert restarted.buffer.stats.series == 1
    assert next(bar for bar in restarted.bars if bar.spec == "1h").first_trade_id == 500


def test_a_damaged_series_in_a_snapshot_is_refused() -> None:
    feed = Feed()
    feed.run(range(0, 300, 10), 500)
    feed.run(range(400, 420, 10), 1)
    feed.trade(800, 1)
    content = feed.buffer.dump()
    for place in range(0, len(content["series"]), 8):
        damaged = bytearray(content["series"])
        damaged[place : place + 8] = b"\xff" * 7 + b"\x7f"
        try:
            buffer = BarBuffer("1m", ids="contiguous")
            buffer.load({**content, "series": bytes(damaged)})
        except ValueError:
            continue
        buffer.add("X", START + 900 * SECOND, "1", "1", "buy", 2)
        buffer.flush_all()
    with pytest.raises(ValueError, match="series"):
        BarBuffer("1m", ids="contiguous").load({**content, "series": content["series"][:-1]})


def test_each_reset_is_logged_with_exchange_symbol_and_ids(caplog: pytest.LogCaptureFixture) -> None:
    buffer = BarBuffer("1m", ids="contiguous", exchange="testnet")
    with caplog.at_level(logging.WARNING, "fastbars"):
        for trade_id, second in ((500, 0), (501, 1), (7, 400), (8, 401)):
            buffer.add("X", START + second * SECOND, "1", "1", "buy", trade_id)
    assert [record.getMessage() for record in caplog.records] == [
        "ids_began_anew exchange='testnet' seen=1 symbol='X' newest_id=501 first_id=7"
    ]


def columns(feed: list[tuple[int, int]]) -> dict[str, Any]:
    return {
        "time_ns": np.array([START + second * SECOND for second, _ in feed]),
        "symbol": ["X"] * len(feed),
        "price": np.arange(1, len(feed) + 1),
        "size": np.ones(len(feed), np.int64),
        "trade_id": np.array([trade_id for _, trade_id in feed]),
    }


RESET = [(10 * n, 500 + n) for n in range(30)] + [(400 + 10 * n, 1 + n) for n in range(30)]


def test_aggregate_gives_the_bars_of_a_buffer() -> None:
    buffer = BarBuffer(["1m", "5m", "tick:7"], ids="contiguous")
    bars: list[OHLCVBar] = []
    for place, (second, trade_id) in enumerate(RESET):
        bars += buffer.add("X", START + second * SECOND, place + 1, 1, 0, trade_id)
    bars += buffer.flush_all()
    made = fastbars.aggregate(**columns(RESET), bars=["1m", "5m", "tick:7"])
    final = {(bar.spec, bar.open_time, bar.first_trade_id): line_of(bar) for bar in bars}
    assert {(bar.spec, bar.open_time, bar.first_trade_id): line_of(bar) for bar in made.to_bars()} == final
    assert {line.status for line in final.values()} == {"PARTIAL", "COMPLETE", "GAP"}


def test_aggregate_takes_a_last_trade_that_still_waits() -> None:
    made = fastbars.aggregate(**columns([*RESET[:30], (400, 1)]), bars="1m")
    assert sum(bar.trade_count or 0 for bar in {bar.open_time: bar for bar in made.to_bars()}.values()) == 31
    closed_by_the_last = made.rows[made.rows["row"] == 30]
    assert len(closed_by_the_last) == 1
    assert made.rows["row"].max() == 30


def test_sorting_brings_a_series_into_order_before_it_is_judged() -> None:
    shuffled = RESET[30:] + RESET[:30]
    made = fastbars.aggregate(**columns(shuffled), bars="1m", sort=True)
    plain = fastbars.aggregate(**columns(RESET), bars="1m")
    assert [bar.status for bar in made.to_bars()] == [bar.status for bar in plain.to_bars()]


# Two lines.


class Brought(NamedTuple):
    """A wakeup: when, by which line, which trades as (seconds, id)."""

    at_s: float
    line: int
    trades: list[tuple[float, int]]


def two_lines(wakeups: list[Brought], record: Recording | None = None) -> Session:
    config = StreamConfig(bars=["1m"], lines=2, line_wait=0.25)
    session = Session(
        find_exchange("binance"), config, channel="trade", record=None if record is None else record.session
    )
    for at_s, line, trades in wakeups:
        messages = [trade(trade_id, round(second * 1000), "1") for second, trade_id in trades]
        session.receive(messages, START, round(at_s * SECOND), line=line)
    return session


def both(seconds: range, first_id: int) -> list[Brought]:
    return [
        Brought(second + line / 10, line, [(second, first_id + count)])
        for count, second in enumerate(seconds)
        for line in (0, 1)
    ]


def taken(session: Session) -> tuple[int, int]:
    return session.buffer_stats.trades, session.buffer_stats.series


def test_two_lines_follow_ids_that_begin_anew() -> None:
    session = two_lines(both(range(0, 300, 10), 500) + both(range(400, 700, 10), 1))
    assert taken(session) == (60, 1)
    assert session.missing("BTCUSDT") == []
    assert session.intake.arbiter is not None
    assert session.intake.arbiter.held == 0


def test_a_line_that_is_behind_across_the_reset_neither_doubles_nor_holds() -> None:
    ahead = [Brought(second, 0, [(second, 500 + second // 10)]) for second in range(0, 300, 10)]
    ahead += [Brought(400 + count, 0, [(400 + count, 1 + count)]) for count in range(5)]
    behind = [Brought(405, 1, [(second, 500 + second // 10) for second in range(0, 300, 10)])]
    behind += [Brought(406, 1, [(400 + count, 1 + count) for count in range(5)])]
    session = two_lines(ahead + behind + both(range(410, 700, 10), 6))
    assert taken(session) == (64, 1)
    assert session.intake.arbiter is not None
    assert session.intake.arbiter.held == 0


def test_the_other_line_still_fills_a_hole_behind_the_reset() -> None:
    session = two_lines(
        [
            *both(range(0, 300, 10), 500),
            Brought(400, 0, [(400, 1), (401, 2), (402, 3)]),
            Brought(403, 0, [(403, 5)]),
        ]
    )
    assert session.intake.arbiter is not None
    assert session.intake.arbiter.held == 1
    session.receive([trade(4, 402_500, "1")], START, round(403.1 * SECOND), line=1)
    assert session.intake.arbiter.held == 0
    assert (taken(session), session.missing("BTCUSDT")) == ((35, 1), [])


def test_what_was_held_of_the_old_series_goes_on_with_the_reset() -> None:
    session = two_lines(
        [
            *both(range(0, 300, 10), 500),
            Brought(399.9, 0, [(300, 532)]),  # 530 and 531 are missing on this line
            Brought(400, 0, [(400, 1), (401, 2)]),
        ]
    )
    assert session.intake.arbiter is not None
    assert session.intake.arbiter.held == 0
    assert taken(session) == (33, 1)
    assert session.missing("BTCUSDT") == [(530, 531)]
    session.receive([trade(530, 298_000, "1"), trade(531, 299_000, "1")], START, round(400.2 * SECOND), line=1)
    assert session.missing("BTCUSDT") == []


def test_few_ids_that_begin_at_one_again_are_no_repetitions_to_the_arbiter() -> None:
    session = two_lines(both(range(0, 300, 10), 1) + both(range(400, 700, 10), 1))
    assert taken(session) == (60, 1)


def test_a_recording_replays_a_reset(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    live = two_lines(both(range(0, 300, 10), 500) + both(range(400, 700, 10), 1), recording)
    bars = live.flush(START)
    recording.close()
    assert bars
    again = list(fastbars.replay(tmp_path))
    assert [line_of(bar) for bar in again][-len(bars) :] == [line_of(bar) for bar in bars]


# Any feed whose ids begin anew, against the oracle.


@st.composite
def renewed_feeds(draw: st.DrawFn) -> list[Trade]:
    """Some series of some length, with repetitions, holes, trades out of order, and old ones sent again."""
    events: list[Trade] = []
    sent: list[Trade] = []
    now = 0
    for _ in range(draw(st.integers(1, 4))):
        number = draw(st.sampled_from((0, 1, 5, 40, 300)))
        now += draw(st.sampled_from((1, 20, 61, 70, 500))) * SECOND
        for _ in range(draw(st.integers(1, 14))):
            now += draw(st.sampled_from((0, 1, 7, 30))) * SECOND
            count = draw(st.sampled_from((1, 1, 1, 2)))
            size = Decimal(draw(st.sampled_from((1, 1, 1, 2, 0))))
            one = Trade("A", now, Decimal(draw(st.integers(1, 9))), size, 1, number, number + count - 1, count)
            number += count + draw(st.sampled_from((0, 0, 0, 0, 0, 1, 2)))
            kind = draw(st.sampled_from(("plain",) * 8 + ("again", "wrong time", "early")))
            if kind == "early" and events:
                events.insert(len(events) - 1, one)
            else:
                events.append(one)
            if kind == "again" and sent:
                events.append(draw(st.sampled_from(sent)))
            if kind == "wrong time" and sent:
                events.append(draw(st.sampled_from(sent))._replace(time_ns=now))
            sent.append(one)
    return events


@settings(max_examples=examples(150))
@given(
    renewed_feeds(),
    st.sampled_from((["1m"], ["1s", "5m"], ["tick:3"], ["1m", "1h", "volume:4"])),
    st.frozensets(st.integers(0, 60)),
    st.sampled_from((0, 5, 60)),
)
def test_any_feed_that_begins_anew_equals_the_oracle_however_it_is_cut(
    feed: list[Trade], specs: list[str], cuts: frozenset[int], lateness_s: float
) -> None:
    late: list[TickData] = []
    buffer = BarBuffer(specs, ids="contiguous", lateness_s=lateness_s, on_late=late.append)
    oracle = Oracle(specs, "contiguous", lateness_s=lateness_s)
    wanted = [line for one in feed for line in oracle.add(one)] + oracle.flush()
    batch, bars = buffer.new_batch(), []
    for place, one in enumerate(feed):
        batch.append(*one, time_unit="ns")
        if place in cuts:
            bars += buffer.add_batch(batch)
            batch.clear()
    bars += buffer.add_batch(batch)
    bars += buffer.flush_all()
    assert [line_of(bar) for bar in bars] == wanted
    assert buffer.missing("A") == oracle.missing("A")
    assert [(tick.time_ns, tick.trade_id) for tick in late] == [
        (one.time_ns, one.first_id % SERIES) for one in oracle.late
    ]
    assert (buffer.stats.duplicates, buffer.stats.void_ids) == (oracle.duplicates, oracle.voids)
    assert buffer.stats.series == len(oracle.begun.get("A", []))
