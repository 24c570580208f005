"""Bars beside the exchange's candles: what differs is named, with its likely cause; what equals is counted."""

from __future__ import annotations

import asyncio
import gzip
import subprocess
import sys
import time
import unicodedata
import zipfile
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest

import fastbars
from fastbars import BarBuffer, BarStatus, ExchangeBar, OHLCVBar, StreamConfig, TickData, verification
from fastbars.cli import main
from fastbars.differences import Difference
from fastbars.errors import TapeError
from fastbars.exchanges import EXCHANGES, find_exchange
from fastbars.exchanges.binance import SPOT, USDM
from fastbars.exchanges.declaration import Exchange
from fastbars.exchanges.messages import Trade, make_candle
from fastbars.klines import name_of, read_klines
from fastbars.live.callbacks import Callbacks
from fastbars.live.session import Session
from fastbars.simulator import SimulatedExchange
from fastbars.specs import parse_specs
from fastbars.tapes import read_tape
from fastbars.tapes.recorder import Recording
from fastbars.tapes.zstd import compressor
from fastbars.ticks import to_datetime, to_nanoseconds
from fastbars.verification import COMPARED, CandleWatch, Verification, Verifier, verify
from servers import START_MS, START_NS, TradeServer, trade, until
from test_end_to_end import Recording as RunningKlines

D = Decimal
MINUTE_NS = 60_000_000_000
USDM_TAPE = ("binance_ws/usdm_btcusdt_20240808.raw.gz", "binance_klines/usdm_BTCUSDT-1m_20240808.csv")
SPOT_TAPE = ("binance_ws/spot_btcusdt_20240808.raw.gz", "binance_klines/spot_BTCUSDT-5m_20240808.csv")


def bars_of(*prices: str, ids: str = "contiguous", skip: tuple[int, ...] = ()) -> list[OHLCVBar]:
    """A minute a price, three trades a minute, the last one 1 higher; ids in `skip` are lost. The first is PARTIAL."""
    buffer = BarBuffer("1m", ids=ids)  # type: ignore[arg-type]
    bars: list[OHLCVBar] = []
    for minute, price in enumerate(prices):
        for number in range(3):
            trade_id = 3 * minute + number + 1
            if trade_id not in skip:
                time_ns = START_NS + minute * MINUTE_NS + number * 1_000_000_000
                value = D(price) + (1 if number == 2 else 0)
                bars += buffer.add_tick(TickData("X", time_ns, value, D(2), "buy", trade_id))
    return bars


def candle_of(bar: OHLCVBar, **changes: Any) -> ExchangeBar:
    """What an exchange says that agrees with a bar."""
    values = {name: getattr(bar, name) for name in COMPARED}
    values = values | {"is_closed": True, "event_time_ns": None} | changes
    return ExchangeBar(bar.symbol, bar.spec, bar.open_time, bar.close_time, **values)


def without_ids(bar: OHLCVBar, **changes: Any) -> ExchangeBar:
    nothing = dict.fromkeys(
        ("trade_count", "taker_buy_volume", "taker_buy_quote_volume", "first_trade_id", "last_trade_id", "quote_volume")
    )
    return candle_of(bar, **nothing | changes)


class Noted(Verifier):
    """A verifier that keeps its reports."""

    def __init__(self, **options: Any) -> None:
        self.reports: list[Difference] = []
        super().__init__(on_difference=self.reports.append, **options)

    @property
    def causes(self) -> list[str]:
        return [report.cause for report in self.reports]


def outcome(counts: Verification) -> tuple[int, int, int]:
    return counts.equal, counts.different, counts.partial


# Pairs.


def test_bars_and_candles_are_paired_whichever_comes_first() -> None:
    first, second, third = bars_of("10", "20", "30", "40")[:3]
    verifier = Noted()
    verifier.add_candle(candle_of(second))
    verifier.add_bar(first)
    verifier.add_bar(second)
    verifier.add_bar(third)
    verifier.add_candle(candle_of(third))
    assert outcome(verifier.finish()) == (2, 0, 1)
    assert verifier.reports == []


@pytest.mark.parametrize("name", COMPARED)
def test_a_difference_in_any_field_is_found_and_names_both_values(name: str) -> None:
    bar = bars_of("10", "20", "30")[1]
    verifier = Noted()
    verifier.add_bar(bar)
    verifier.add_candle(candle_of(bar, **{name: getattr(bar, name) + 1}))
    (report,) = verifier.reports
    assert (report.field, report.bar_value) == (name, getattr(bar, name))
    assert report.candle_value == getattr(bar, name) + 1
    assert str(report).startswith(
        f"X 1m 2024-08-08T23:55:00Z revision 0: {name} is {report.bar_value}, the exchange has {report.candle_value}; "
    )
    assert outcome(verifier.finish()) == (0, 1, 0)
    assert verifier.verification.first == report


def test_what_the_exchange_does_not_say_is_not_compared() -> None:
    bar = bars_of("10", "20", "30")[1]
    verifier = Noted()
    verifier.add_bar(bar)
    verifier.add_candle(without_ids(bar))
    assert outcome(verifier.finish()) == (1, 0, 0)


def test_digits_do_not_matter_where_numbers_are_equal() -> None:
    bar = bars_of("10", "20", "30")[1]
    verifier = Noted()
    verifier.add_bar(bar)
    verifier.add_candle(candle_of(bar, close=D("21.000"), volume=D("6.00000000")))
    assert outcome(verifier.finish()) == (1, 0, 0)


def test_a_running_candle_is_passed_over_and_the_final_one_compared() -> None:
    bar = bars_of("10", "20", "30")[1]
    verifier = Noted()
    verifier.add_bar(bar)
    verifier.add_candle(candle_of(bar, close=D(5), is_closed=False))
    verifier.add_candle(candle_of(bar))
    assert outcome(verifier.finish()) == (1, 0, 0)
    assert verifier.verification.running == 1


def test_where_no_candle_says_that_it_is_final_the_next_one_says_it() -> None:
    _, second, third = bars_of("10", "20", "30", "40")[:3]
    verifier = Noted()
    verifier.add_bar(second)
    verifier.add_candle(candle_of(second, volume=D(1), is_closed=None))
    verifier.add_candle(candle_of(second, is_closed=None))
    assert verifier.verification.compared == 0
    verifier.add_candle(candle_of(third, volume=D(1), is_closed=None))
    assert outcome(verifier.verification) == (1, 0, 0)
    verifier.add_bar(third)
    assert outcome(verifier.finish()) == (1, 0, 0)  # the last one may not be final
    assert verifier.verification.without_candle == 1


def test_bars_and_candles_without_their_other_half_are_counted() -> None:
    _, second, third = bars_of("10", "20", "30", "40")[:3]
    verifier = Noted()
    verifier.add_bar(second)
    verifier.add_candle(candle_of(third))
    flat = candle_of(third, volume=D(0), trade_count=0)
    verifier.add_candle(replace(flat, open_time=third.close_time, close_time=third.close_time + timedelta(minutes=1)))
    counts = verifier.finish()
    assert (counts.without_candle, counts.without_bar, counts.empty) == (1, 1, 1)
    assert counts.compared == 0


def test_what_waits_longer_than_the_patience_is_given_up_so_that_memory_is_bounded() -> None:
    bars = bars_of(*map(str, range(10, 60)))[1:]
    verifier = Noted(patience_s=120)
    for bar in bars:
        verifier.add_bar(bar)
        assert len(verifier._waiting) <= 3
    assert verifier.verification.without_candle == len(bars) - 3
    verifier.add_bar(replace(bars[0], revision=1))  # its verdict was given
    assert len(verifier._waiting) <= 3


def test_bars_that_are_not_cut_by_time_are_passed_over() -> None:
    buffer = BarBuffer("tick:1", ids="contiguous")
    verifier = Noted()
    for bar in buffer.add_tick(TickData("X", START_NS, D(1), D(1), "buy", 1)):
        verifier.add_bar(bar)
    assert verifier.finish() == Verification()


# Revisions.


def test_a_provisional_bar_is_given_time_for_its_next_revision() -> None:
    bar = bars_of("10", "20", "30")[1]
    early = replace(bar, status=BarStatus.PROVISIONAL, trade_count=2, volume=D(4), last_trade_id=5)
    verifier = Noted()
    verifier.add_bar(early)
    verifier.add_candle(candle_of(bar))
    assert outcome(verifier.verification) == (0, 0, 0)
    verifier.add_bar(replace(bar, revision=1))
    assert outcome(verifier.verification) == (1, 0, 0)
    assert outcome(verifier.finish()) == (1, 0, 0)
    assert verifier.reports == []


def test_a_provisional_bar_that_stays_different_is_reported_in_the_end() -> None:
    bar = bars_of("10", "20", "30")[1]
    verifier = Noted()
    verifier.add_bar(replace(bar, status=BarStatus.PROVISIONAL, volume=D(4)))
    verifier.add_candle(candle_of(bar))
    assert verifier.reports == []
    assert outcome(verifier.finish()) == (0, 1, 0)
    assert verifier.causes == ["the bar is PROVISIONAL: it closed before its last trades came"]


def test_a_bar_that_a_later_revision_mends_counts_as_equal() -> None:
    bar = bars_of("10", "20", "30")[1]
    verifier = Noted()
    verifier.add_candle(candle_of(bar))
    verifier.add_bar(replace(bar, high=D(50)))
    verifier.add_bar(replace(bar, high=D(50), revision=1))
    verifier.add_bar(replace(bar, revision=2))
    assert outcome(verifier.finish()) == (1, 0, 0)
    assert verifier.verification.mended == 1
    assert [report.bar.revision for report in verifier.reports] == [0, 1]


def test_a_bar_counts_by_its_latest_revision_however_late_it_heals() -> None:
    whole = bars_of("10", *["20"] * 2_000)
    gap = bars_of("10", *["20"] * 2_000, skip=(5,))[1]
    assert gap.status is BarStatus.GAP
    verifier = Noted(patience_s=60)
    for bar in whole[:-1]:
        verifier.add_candle(candle_of(bar))
        verifier.add_bar(gap if bar.open_time == gap.open_time else bar)
    assert outcome(verifier.verification)[1] == 1
    verifier.add_bar(replace(whole[1], status=BarStatus.HEALED, revision=1))
    assert (outcome(verifier.verification)[1], verifier.verification.mended) == (0, 1)
    assert verifier.finish() == Verification(
        equal=1_998, partial=1, mended=1, first=verifier.reports[0]
    )  # each bar but the first, once
    assert len(verifier.reports) == 1


def test_a_late_revision_that_differs_after_all_is_reported_and_no_longer_mended() -> None:
    bar, *others = bars_of(*["20"] * 60)[1:-1]
    verifier = Noted()
    verifier.add_candle(candle_of(bar))
    verifier.add_bar(replace(bar, high=D(50)))
    verifier.add_bar(replace(bar, revision=1))
    for other in others:
        verifier.add_bar(other)
    verifier.add_bar(replace(bar, revision=2, low=D(1)))
    counts = verifier.finish()
    assert (counts.equal, counts.different, counts.mended) == (0, 1, 0)
    assert [(report.bar.revision, report.field) for report in verifier.reports] == [(0, "high"), (2, "low")]


def test_a_partial_bar_whose_beginning_is_fetched_late_is_compared_after_all() -> None:
    bar, *others = bars_of(*["20"] * 60)[1:-1]
    verifier = Noted()
    verifier.add_candle(candle_of(bar))
    verifier.add_bar(replace(bar, status=BarStatus.PARTIAL, volume=D(1)))
    for other in others:
        verifier.add_bar(other)
    verifier.add_bar(replace(bar, status=BarStatus.HEALED, revision=1))
    counts = verifier.finish()
    assert (counts.equal, counts.partial, counts.without_candle) == (1, 0, len(others))


@pytest.mark.parametrize("late", ["bar", "candle"])
def test_a_half_that_comes_after_its_time_is_compared_and_counted_once(late: str) -> None:
    first, bar, *others = bars_of(*["20"] * 60)[:-1]
    verifier = Noted()
    verifier.add_bar(first)
    if late == "candle":
        verifier.add_bar(bar)
    else:
        verifier.add_candle(candle_of(bar))
    for other in others:
        verifier.add_bar(other)
    counts = verifier.verification
    assert (counts.without_bar, counts.without_candle - len(others) + 2) == ((0, 1) if late == "candle" else (1, 0))
    verifier.add_bar(bar)
    verifier.add_candle(candle_of(bar))
    assert verifier.finish() == Verification(equal=1, partial=1, without_candle=len(others))


def test_what_is_kept_for_late_revisions_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "_MOST_UNPROVEN", 5)
    monkeypatch.setattr(verification, "_MOST_SETTLED", 3)
    monkeypatch.setattr(verification, "_MOST_WAITING", 7)
    bars = bars_of(*["20"] * 60)[1:-1]
    verifier = Noted()
    for number, bar in enumerate(bars):
        verifier.add_bar(replace(bar, status=BarStatus.GAP) if number % 2 else bar)
        verifier.add_candle(candle_of(bar, volume=D(7)) if number % 2 else candle_of(bar))
        assert len(verifier._unproven) <= 5
        assert len(verifier._settled) <= 3
    verifier.add_bar(replace(bars[1], revision=1))  # it was let go, and its candle with it
    verifier.add_candle(candle_of(bars[1]))
    counts = verifier.finish()
    assert (counts.equal, counts.different, counts.without_candle, counts.without_bar) == (29, 28, 0, 0)
    for bar in bars:  # whose end never comes
        ahead = timedelta(days=9)
        verifier.add_candle(
            candle_of(replace(bar, open_time=bar.open_time + ahead, close_time=bar.close_time + 2 * ahead))
        )
        assert len(verifier._waiting) <= 8


def test_a_bar_that_ends_far_ahead_holds_no_verdict_up() -> None:
    bars = bars_of(*["20"] * 60)[1:-1]
    month = replace(bars[0], spec="1mo", close_time=bars[0].open_time + timedelta(days=31), status=BarStatus.PARTIAL)
    verifier = Noted()
    verifier.add_bar(month)
    for bar in bars:
        verifier.add_bar(bar)
    assert verifier.verification.without_candle == len(bars) - 2
    assert len(verifier._waiting) == 3


@pytest.mark.parametrize("source", ["recording", "stream"])
def test_bars_that_heal_ten_minutes_later_are_equal_in_recordings_and_streams(source: str, tmp_path: Path) -> None:
    missing = 8
    watch = CandleWatch(SPOT, parse_specs("1m"), 1)
    recording = Recording(tmp_path / "run") if source == "recording" else None
    session = Session(
        SPOT,
        StreamConfig(bars="1m"),
        Callbacks(on_exchange_bar=watch.verifier.add_candle, on_bars=watch.add_bars),
        channel="trade",
        record=None if recording is None else recording.session,
    )
    for minute in range(12):
        messages = [trade(3 * minute + n, 60_000 * minute + n, "1") for n in (1, 2, 3) if 3 * minute + n != missing]
        session.receive([*messages, kline(minute - 1)], START_NS, minute)
    assert recording is not None or watch.verifier.verification.different == 1
    session.repairs.heal(
        "BTCUSDT", [Trade("trade", "BTCUSDT", START_NS + 120_002_000_000, "1", "1", 1, missing, missing)], 13
    )
    session.flush(14)
    watch.verifier.finish()
    if recording is not None:
        recording.close()
    counts = watch.verifier.verification if recording is None else verify(tmp_path / "run")
    assert (counts.equal, counts.different, counts.mended) == (10, 0, 1)


# Candles that come again.


@pytest.mark.parametrize("minutes", [0, 5, 50])
def test_a_candle_that_comes_again_is_no_error(minutes: int) -> None:
    first, bar, *others = bars_of(*["20"] * 60)[:-1]
    verifier = Noted()
    for one in (first, bar):
        verifier.add_bar(one)
    verifier.add_candle(candle_of(bar))
    for other in others[:minutes]:
        verifier.add_candle(candle_of(other))
        verifier.add_bar(other)
    for _ in range(3):
        verifier.add_candle(candle_of(bar))
    assert verifier.finish() == Verification(equal=1 + minutes, partial=1)
    assert verifier.reports == []


def test_a_candle_that_comes_again_with_newer_content_replaces_the_earlier_one() -> None:
    bar = bars_of("10", "20", "30")[1]
    verifier = Noted()
    verifier.add_bar(bar)
    verifier.add_candle(candle_of(bar, volume=D(5), event_time_ns=1))
    verifier.add_candle(candle_of(bar, event_time_ns=3))
    verifier.add_candle(candle_of(bar, volume=D(5), event_time_ns=2))  # an older state, by another line
    counts = verifier.finish()
    assert (counts.equal, counts.different, counts.mended) == (1, 0, 1)


def test_an_older_state_of_a_candle_that_never_says_it_is_final_changes_nothing() -> None:
    _, second, third = bars_of("10", "20", "30", "40")[:3]
    verifier = Noted()
    for bar in (second, third):
        verifier.add_bar(bar)
    verifier.add_candle(candle_of(second, is_closed=None))
    verifier.add_candle(candle_of(second, is_closed=None, volume=D(1)))
    verifier.add_candle(candle_of(third, is_closed=None))
    verifier.add_candle(candle_of(second, is_closed=None, volume=D(1), close=D(20)))  # by a slower line
    verifier.add_candle(candle_of(second, is_closed=None))  # in a snapshot behind a reconnect
    assert outcome(verifier.finish()) == (1, 0, 0)
    assert verifier.reports == []


# Causes.


def test_the_missing_ids_of_a_gap_are_named() -> None:
    whole = bars_of("10", "20", "30", "40")
    gap = bars_of("10", "20", "30", "40", skip=(5,))[1]
    assert gap.status is BarStatus.GAP
    verifier = Noted()
    verifier.missing = lambda _: [(1, 2), (5, 5), (90, 99)]
    verifier.add_bar(gap)
    verifier.add_candle(candle_of(whole[1]))
    verifier.finish()
    assert verifier.causes == ["the bar is GAP: 1 trade missing, of ids 5"]
    assert (verifier.reports[0].field, verifier.reports[0].bar_value, verifier.reports[0].candle_value) == (
        "volume",
        4,
        6,
    )


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"first_trade_id": 3, "volume": D(8)}, "the bar has the trades 4 to 6, the candle 3 to 6"),
        ({"trade_count": 5, "volume": D(10)}, "the bar lacks 2 trades"),
        ({"trade_count": 2, "volume": D(4)}, "the candle leaves out 1 trade of the bar"),
        (
            {"open": D(11), "low": D(11)},
            "both count the same trades: the exchange may open a candle at the close before (venue semantics)",
        ),
        ({"close": D(7)}, "unknown"),
    ],
)
def test_the_likely_cause_of_a_difference_is_named(changes: dict[str, Any], cause: str) -> None:
    bar = bars_of("10", "20", "30")[1]
    verifier = Noted()
    verifier.add_bar(bar)
    verifier.add_candle(candle_of(bar, **changes))
    assert verifier.causes == [cause]


def test_where_ids_prove_nothing_the_cause_says_so() -> None:
    bar = bars_of("10", "20", "30", ids="none")[1]
    assert bar.status is BarStatus.UNVERIFIABLE
    verifier = Noted()
    verifier.add_bar(bar)
    verifier.add_candle(without_ids(bar, volume=D(8)))
    verifier.finish()
    assert verifier.causes == ["trades are missing, which its ids cannot show: the bar is UNVERIFIABLE"]
    verifier = Noted()
    verifier.add_bar(bar)
    verifier.add_candle(without_ids(bar, volume=D(8), trade_count=4))
    assert verifier.causes == ["the bar lacks 1 trade, which its ids cannot show: it is UNVERIFIABLE"]


def test_a_candle_that_may_not_be_final_is_named_as_the_cause() -> None:
    _, second, third = bars_of("10", "20", "30", "40")[:3]
    verifier = Noted()
    verifier.add_bar(second)
    verifier.add_candle(without_ids(second, volume=D(2), is_closed=None))
    verifier.add_candle(without_ids(third, is_closed=None))
    assert verifier.causes == ["the candle may not be final: this exchange does not say when one is"]


# Venues.


def test_a_candle_that_opens_at_the_close_before_is_equal_where_the_exchange_declares_it() -> None:
    bars = bars_of("10", "20", "15", "16")[:3]
    candles = [
        candle_of(bars[0]),
        candle_of(bars[1], open=D(11), low=D(11)),  # closed at 11 before
        candle_of(bars[2], open=D(21), high=D(21)),
    ]
    for declared, counts in (("previous close", (2, 0, 1)), ("first trade", (0, 2, 1))):
        verifier = Noted(candle_open=declared)
        for bar, candle in zip(bars, candles, strict=True):
            verifier.add_candle(candle)
            verifier.add_bar(bar)
        assert outcome(verifier.finish()) == counts


def test_an_open_that_is_not_the_close_before_is_a_difference_all_the_same() -> None:
    bars = bars_of("10", "20", "30")[:2]
    verifier = Noted(candle_open="previous close")
    verifier.add_candle(candle_of(bars[0]))
    verifier.add_candle(candle_of(bars[1], open=D(12), low=D(12)))
    verifier.add_bar(bars[1])
    assert [(report.field, report.bar_value, report.candle_value) for report in verifier.reports] == [("open", 20, 12)]


# Tapes.


def test_all_whole_minutes_of_the_recorded_markets_equal_binances_klines(tapes: Path) -> None:
    usdm = verify(tapes / USDM_TAPE[0], "binance", klines=[tapes / USDM_TAPE[1]], market="usdm")
    assert usdm == Verification(equal=4, partial=2)
    spot = verify(tapes / SPOT_TAPE[0], "binance", klines=[tapes / SPOT_TAPE[1]])
    assert spot == Verification(equal=1, partial=2)


def test_one_trade_taken_from_a_tape_is_named_with_bar_field_values_and_cause(tapes: Path, tmp_path: Path) -> None:
    lines = [(record.receive_time_ns, record.payload) for record in read_tape(tapes / USDM_TAPE[0])]
    messages = [orjson.loads(payload) for _, payload in lines if b'"e":"trade"' in payload]
    trades = [message.get("data", message) for message in messages]
    gone = trades[len(trades) // 2]
    damaged = tmp_path / "tape.gz"
    with gzip.open(damaged, "wb", 1) as file:
        for time_ns, payload in lines:
            if f'"t":{gone["t"]},'.encode() not in payload:
                file.write(f"{time_ns} ".encode() + payload + b"\n")
    reports: list[Difference] = []
    counts = verify(damaged, "binance", klines=[tapes / USDM_TAPE[1]], market="usdm", on_difference=reports.append)
    assert (counts.equal, counts.different, counts.partial) == (3, 1, 2)
    (report,) = reports
    assert report == counts.first
    assert report.bar.open_time <= to_datetime(gone["T"] * 1_000_000) < report.bar.close_time
    assert report.field == "volume"
    assert report.candle_value is not None
    assert report.bar_value == report.candle_value - D(gone["q"])
    assert report.cause == f"the bar is GAP: 1 trade missing, of ids {gone['t']}"


@pytest.mark.parametrize(
    ("tape", "market", "least"),
    [
        ("cryptofeed/BINANCE_spot_20210404_aggTrade_kline.ws.gz", "spot", 50),
        ("cryptofeed/BINANCE_FUTURES_20210722_aggTrade_kline.ws.gz", "usdm", 10),
    ],
)
def test_running_klines_equal_what_their_own_trades_come_to(tape: str, market: str, least: int, tapes: Path) -> None:
    running = RunningKlines(tapes / tape, market)
    verifier = Noted()
    for kline in running.klines:
        covering = running.covering(kline) if kline.first_trade_id is not None else None
        if covering:
            one = Noted()
            bar = running.bar_of(kline, covering)
            one.add_bar(replace(bar, status=BarStatus.COMPLETE))
            one.add_candle(replace(kline, is_closed=True))
            verifier.verification.equal += one.finish().equal
            verifier.reports += one.reports
    assert verifier.reports == []
    assert verifier.verification.equal >= least


@pytest.mark.parametrize(("symbol", "equal", "different"), [("BTCUSDT", 19, 0), ("ETHUSDT", 10, 10)])
def test_bybits_running_klines_equal_their_trades_once_their_open_is_the_close_before(
    symbol: str, equal: int, different: int, tapes: Path
) -> None:
    bybit = find_exchange("bybit", "linear")
    klines: list[ExchangeBar] = []
    ticks: list[TickData] = []
    session = Session(bybit, StreamConfig(), Callbacks(on_exchange_bar=klines.append, on_tick=ticks.append))
    for record in read_tape(tapes / f"bybit_v5/linear_{symbol}_20260809.jsonl.gz"):
        session.receive([record.payload], 0)
    outcomes = {"previous close": Verification(), "first trade": Verification()}
    for before, kline in pairwise(klines):
        start_ns = to_nanoseconds(kline.open_time)
        if to_nanoseconds(klines[0].open_time) == start_ns:  # it had begun before the tape
            continue
        buffer = BarBuffer("1m", ids="none", exchange="bybit", market="linear")
        counted = D(0)  # a running candle is some milliseconds behind the trades: it has those that make its volume
        for tick in ticks:
            if tick.time_ns >= start_ns and counted < kline.volume:
                buffer.add_tick(tick)
                counted += tick.volume
        if not counted:
            continue
        (bar,) = buffer.flush_all()
        for declared, counts in outcomes.items():
            verifier = Noted(candle_open=declared)
            if before.is_closed:
                verifier.add_candle(before)
            verifier.add_candle(replace(kline, is_closed=True))
            verifier.add_bar(replace(bar, status=BarStatus.UNVERIFIABLE))
            counts.equal += verifier.finish().equal
            counts.different += verifier.finish().different
    assert bybit.candle_open == "previous close"
    assert outcomes["previous close"] == Verification(equal=equal)
    assert outcomes["first trade"].different == different


def test_krakens_flat_candles_of_empty_minutes_are_as_they_should_be(tapes: Path) -> None:
    trades = orjson.loads((tapes / "kraken_rest_pair/XBTUSDT_trades_first_part.json").read_bytes())
    candles = orjson.loads((tapes / "kraken_rest_pair/XBTUSDT_ohlc_1m_first_part.json").read_bytes())
    verifier = Noted(patience_s=1e6)
    for open_s, *prices, _vwap, volume, count in candles:
        verifier.add_candle(
            make_candle("XBTUSDT", "1m", open_s * 1_000_000_000, prices, volume, trade_count=count, is_closed=True)
        )
    buffer = BarBuffer("1m", ids="contiguous", on_bar=verifier.add_bar)
    for price, size, time_s, *_, trade_id in trades:
        time_ns = int(D(time_s) * 1_000_000_000)
        buffer.add_tick(TickData("XBTUSDT", time_ns, price, size, trade_id=trade_id))
    buffer.flush_all()
    counts = verifier.finish()
    assert verifier.reports == []
    assert (counts.equal, counts.partial, counts.empty) == (61, 2, 34)


# Files.

KLINES = (
    "1723161240000,1,1,1,1,3,1723161299999,3,3,3,3,0\n"
    "1723161300000,1,1,1,1,3,1723161359999,3,3,3,3,0\n"
    "1723161360000,1,1,1,1,2,1723161419999,2,2,2,2,0\n"
)


def tape_of(path: Path, minutes: int) -> Path:
    messages = [trade(3 * minute + n + 1, minute * 60_000 + n, "1") for minute in range(minutes) for n in range(3)]
    path.write_bytes(b"".join(b"1 %b\n" % message for message in messages))
    return path


@pytest.mark.parametrize("name", ["BTCUSDT-1m-2024-08-08.csv", "spot_BTCUSDT-1m_20240808.csv", "BTCUSDT-1m.csv"])
def test_the_name_of_a_file_of_klines_tells_symbol_and_spec(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(KLINES)
    assert [(candle.symbol, candle.spec, str(candle.volume)) for candle in read_klines(path)] == [
        ("BTCUSDT", "1m", "3"),
        ("BTCUSDT", "1m", "3"),
        ("BTCUSDT", "1m", "2"),
    ]


def test_microseconds_and_a_header_are_read_as_well(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSD_PERP-1h-2025.csv"
    path.write_text("open_time,open\n1735689600000000,1,2,1,2,5,1735693199999999,9,3,4,8,0\n")
    (candle,) = read_klines(path)
    assert (candle.symbol, candle.spec, candle.trade_count) == ("BTCUSD_PERP", "1h", 3)
    assert (candle.open_time.isoformat(), candle.close_time.isoformat()) == (
        "2025-01-01T00:00:00+00:00",
        "2025-01-01T01:00:00+00:00",
    )


def test_a_file_that_holds_no_klines_is_an_error_that_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT-1m.csv"
    path.write_text(KLINES + "1723161420000,x,1,1,1,2,1723161479999,2,2,2,2,0\n")
    with pytest.raises(TapeError, match=r"BTCUSDT-1m.csv, line 4: not a kline: "):
        list(read_klines(path))
    path.write_text(KLINES + "1723161420000,1\n")
    with pytest.raises(TapeError, match=r"line 4: not a kline: 11 columns are needed, there are 2"):
        list(read_klines(path))
    (tmp_path / "klines.csv").write_text(KLINES)
    with pytest.raises(TapeError, match=r"klines.csv: the name lacks symbol or spec"):
        list(read_klines(tmp_path / "klines.csv"))
    with pytest.raises(TapeError, match=r"ETHUSDT-1m.csv: cannot be read: No such file"):
        list(read_klines(tmp_path / "ETHUSDT-1m.csv"))


def test_a_missing_file_of_klines_is_missing_whatever_its_name(tmp_path: Path) -> None:
    for name in ("mine.csv", "mine.zip", "mine"):
        with pytest.raises(TapeError, match=rf"{name}: cannot be read: No such file"):
            list(read_klines(tmp_path / name))


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("币安人生USDT-1m-2026-01-02.csv", ("币安人生USDT", "1m")),
        ("%E5%B8%81%E5%AE%89%E4%BA%BA%E7%94%9FUSDT-1m-2026-01-02.zip", ("币安人生USDT", "1m")),
        ("spot_我踏马来了USDT-1h-2026-01.csv.gz", ("我踏马来了USDT", "1h")),
        (unicodedata.normalize("NFD", "ガUSDT-1d-2026.csv"), ("ガUSDT", "1d")),
        ("🐸USDT-1m.csv", ("🐸USDT", "1m")),
        ("1000PEPEUSDT-1mo-2024-01.zip", ("1000PEPEUSDT", "1mo")),
        ("BTCUSDT_250627-4h-2025-05 (1).zip", ("BTCUSDT_250627", "4h")),
        ("ETHUSD_PERP-1w-2025-05.zip.part", ("ETHUSD_PERP", "1w")),
        ("btcUSDT-1m.csv", None),
        ("a-USDT.csv", None),
    ],
)
def test_names_of_any_script_tell_the_whole_symbol(name: str, named: tuple[str, str] | None) -> None:
    assert name_of(Path("folder", name)) == named


def packed(folder: Path, form: str, rows: str) -> Path:
    """A file of klines as it is downloaded."""
    name = "BTCUSDT-1m-2024-08-08"
    text = rows.encode()
    header = b"open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,x,ignore\n"
    path = folder / f"{name}.csv"
    if form == "zip":
        path = folder / f"{name}.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"{name}.csv", text)
            archive.writestr(f"__MACOSX/._{name}.csv", b"\0\1")
            archive.writestr("README.txt", b"klines")
    elif form == "zip of two, named by its members":
        path = folder / "download.zip"
        first, *others = rows.splitlines(keepends=True)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr("data/BTCUSDT-1m-2024-08-08.csv", first)
            archive.writestr("data/BTCUSDT-1m-2024-08-09.csv", "".join(others))
    elif form == "gz":
        path = folder / f"{name}.csv.gz"
        path.write_bytes(gzip.compress(text[:50]) + gzip.compress(text[50:]))
    elif form == "gz by another name":
        path.write_bytes(gzip.compress(text))
    elif form == "zst":
        path = folder / f"{name}.csv.zst"
        path.write_bytes(compressor(path, 3)(text))
    else:
        path.write_bytes(
            {
                "byte order mark": b"\xef\xbb\xbf" + text,
                "byte order mark and header": b"\xef\xbb\xbf" + header + text,
                "CRLF": (header + text).replace(b"\n", b"\r\n"),
                "CR": text.replace(b"\n", b"\r"),
                "no end of the last line": text.rstrip(),
                "quoted": b"\n".join(b",".join(b'"%b"' % cell for cell in row.split(b",")) for row in text.split()),
            }[form]
        )
    return path


FORMS = [
    "zip", "zip of two, named by its members", "gz", "gz by another name", "zst", "byte order mark",
    "byte order mark and header", "CRLF", "CR", "no end of the last line", "quoted",
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("factor", [1, 1000])
def test_klines_are_read_as_they_are_downloaded(form: str, factor: int, tmp_path: Path) -> None:
    begins = [(START_MS + minute * 60_000) * factor for minute in range(3)]
    rows = "".join(f"{begin},1,1,1,1,3,{begin + 60_000 * factor - 1},3,3,3,3,0\n" for begin in begins)
    if form == "zst":
        pytest.importorskip("zstandard")
    path = packed(tmp_path, form, rows)
    assert verify(tape_of(tmp_path / "tape", 4), "binance", klines=path) == Verification(equal=2, partial=2)


@pytest.mark.parametrize("form", ["zip", "gz"])
def test_a_damaged_file_of_klines_is_one_clear_error_wherever_it_is_cut(form: str, tmp_path: Path) -> None:
    path = packed(tmp_path, form, KLINES)
    content = path.read_bytes()
    for end in range(len(content)):
        path.write_bytes(content[:end])
        with pytest.raises(TapeError, match=r"^[^\n]*BTCUSDT-1m-2024-08-08[^\n]*: [^\n]+$"):
            list(read_klines(path))
        broken = bytearray(content)
        broken[end] ^= 0x55
        path.write_bytes(broken)
        with suppress(TapeError):
            list(read_klines(path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it has no klines"),
        (b"open_time,open\r\n", "it has no klines"),
        (b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>", "it has no klines"),
        (b"1723161240000,1,1,1,1,3,17231612", "line 1: not a kline: 11 columns are needed, there are 7"),
        (b"1723161240000,1,NaN,1,1,3,1723161299999,3,3,3,3,0", "line 1: not a kline: 'NaN' is not a price or volume"),
        (b"1723161240000,1E+999999999,1,1,1,3,1723161299999,3,3,3,3", "'1E+999999999' is not a price or volume"),
        (b"1723161240000,1,1,1,1,3,1723161299999,3," + b"9" * 3000 + b",3,3", "is 3000 characters long"),
        (b"9" * 60 + b",1,1,1,1,3,1723161299999,3,3,3,3", "line 1: not a kline: "),
        (b"0" * 1_000_000, "line 1: not a kline: more than 4,096 characters without a line end"),
        (b"1,\xff\xfe", "line 1: not a kline: "),
        (b"17231612 40000,1,1,1,1,3,1723161299999,3,3,3,3", "not a kline: '17231612 40000' is not a time or count"),
        (b"-1723161240000,1,1,1,1,3,1723161299999,3,3,3,3", "a kline: '-1723161240000' is not a time or count"),
        (b"1723161240000,one,1,1,1,3,1723161299999,3,3,3,3", "line 1: not a kline: 'one' is not a price or volume"),
        (b"1723161240000,1,1,1,1,3,1723161299999,3,1_0,3,3", "line 1: not a kline: '1_0' is not a time or count"),
        (b"\n" * 3_000_000, "line 10001: not a kline: more than 10,000 empty lines"),
    ],
)
def test_what_is_no_klines_is_one_clear_error_that_costs_nothing(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT-1m.csv"
    path.write_bytes(content)
    with pytest.raises(TapeError) as error:
        list(read_klines(path))
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < len(str(path)) + 120


def test_a_zip_without_klines_or_names_says_so(tmp_path: Path) -> None:
    path = tmp_path / "download.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", b"")
    with pytest.raises(TapeError, match=r"download\.zip: no CSV file is in the zip"):
        list(read_klines(path))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("klines.csv", KLINES)
    with pytest.raises(TapeError, match=r"download\.zip, klines\.csv: the name lacks symbol or spec"):
        list(read_klines(path))
    assert [candle.spec for candle in read_klines(path, "BTCUSDT", "1m")] == ["1m"] * 3


def test_a_day_of_seconds_is_verified_within_five_seconds(tmp_path: Path) -> None:
    tape, klines = tmp_path / "tape", tmp_path / "BTCUSDT-1s-2024-08-08.csv"
    with tape.open("wb") as trades, klines.open("w") as candles:
        for second in range(86_400):
            trades.write(b"1 %b\n" % trade(second + 1, 1000 * second, "1"))
            ms = START_MS + 1000 * second
            candles.write(f"{ms},1,1,1,1,1,{ms + 999},1,1,1,1,0\n")
    # In a process of its own: what measures coverage here makes each line three times as slow.
    code = (
        "import sys, time, fastbars\n"
        "begun = time.process_time()\n"
        "counts = fastbars.verify(sys.argv[1], 'binance', klines=[sys.argv[2]])\n"
        "print(counts.equal, counts.partial, counts.different, time.process_time() - begun)\n"
    )
    told = subprocess.run([sys.executable, "-c", code, tape, klines], capture_output=True, text=True, check=True).stdout
    assert told.split()[:3] == ["86398", "2", "0"]
    assert float(told.split()[3]) < 5


def test_the_holes_of_a_bar_are_found_at_once_however_many_there_are() -> None:
    gap = replace(bars_of("10", "20", "30", skip=(5,))[1], status=BarStatus.GAP)
    holes = [(3 * n + 2, 3 * n + 2) for n in range(4_096)]
    verifier = Noted(missing=lambda _: holes)
    begun = time.process_time()
    for n in range(10_000):
        after = timedelta(minutes=n)
        bar = replace(
            gap,
            open_time=gap.open_time + after,
            close_time=gap.close_time + after,
            first_trade_id=3 * n + 1,
            last_trade_id=3 * n + 3,
        )
        verifier.add_bar(bar)
        verifier.add_candle(candle_of(bar, volume=D(6), trade_count=3))
    verifier.finish()
    assert verifier.causes[0] == "the bar is GAP: 1 trade missing, of ids 2"
    assert verifier.causes[4_095:4_097] == [
        "the bar is GAP: 1 trade missing, of ids 12287",
        "the bar is GAP: 1 trade missing",
    ]
    assert time.process_time() - begun < 3


def test_candles_before_the_tape_do_not_count_and_those_inside_it_do(tmp_path: Path) -> None:
    tape = tape_of(tmp_path / "tape", 4)
    before = "1723161180000,1,1,1,1,3,1723161239999,3,3,3,3,0\n"
    path = tmp_path / "BTCUSDT-1m.csv"
    path.write_text(before + KLINES)
    counts = verify(tape, "binance", klines=[path])
    assert (outcome(counts), counts.without_bar) == ((1, 1, 2), 0)
    assert counts.first is not None
    assert str(counts.first) == (
        "binance spot BTCUSDT 1m 2024-08-08T23:56:00Z revision 0: volume is 3, the exchange has 2;"
        " the candle leaves out 1 trade of the bar"
    )


def test_the_verify_command_prints_differences_and_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tape = tape_of(tmp_path / "tape", 3)
    path = tmp_path / "BTCUSDT-1m.csv"
    path.write_text(KLINES)
    assert main(["verify", str(tape), "--exchange", "binance", "--klines", str(path)]) == 0
    assert capsys.readouterr().out.split("\n")[0].split() == (
        ["1", "bars", "equal", "the", "exchange's", "candles", "in", "every", "field", "that", "these", "have"]
    )
    path.write_text(KLINES.replace("1,1,1,1,3,1723161359999", "1,1,1,1,4,1723161359999"))
    assert main(["verify", str(tape), "--exchange", "binance", "--klines", str(path)]) == 1
    out = capsys.readouterr().out
    assert out.startswith(
        "binance spot BTCUSDT 1m 2024-08-08T23:55:00Z revision 0: volume is 3, the exchange has 4; unknown\n"
    )
    assert "         1 do not\n" in out


# Live.


async def test_a_stream_compares_its_bars_while_it_runs(tmp_path: Path) -> None:
    reports: list[Difference] = []
    async with SimulatedExchange(symbols=5, rate=500.0) as exchange:
        stream = fastbars.stream(
            "binance", exchange.symbols, ["1s", "tick:10"], url=exchange.url, verify=True, record=tmp_path,
            on_difference=reports.append,
        )  # fmt: skip
        async with stream:
            await until(lambda: stream.verification is not None and stream.verification.equal >= 10)
    counts = stream.verification
    assert counts is not None
    assert (counts.different, counts.without_bar, reports) == (0, 0, [])
    assert counts.partial > 0
    again = verify(tmp_path)  # its candles were recorded too
    assert (again.equal, again.different) == (counts.equal, 0)


def kline(minute: int, **changes: object) -> bytes:
    """A closed kline of three trades at 1."""
    start_ms = START_MS + 60_000 * minute
    k = {
        "t": start_ms, "T": start_ms + 59_999, "s": "BTCUSDT", "i": "1m", "f": 3 * minute + 1, "L": 3 * minute + 3,
        "o": "1", "c": "1", "h": "1", "l": "1", "v": "3", "n": 3, "x": True, "q": "3", "V": "3", "Q": "3", "B": "0",
    }  # fmt: skip
    message = {"e": "kline", "E": start_ms + 60_001, "s": "BTCUSDT", "k": k | changes}
    return orjson.dumps(message)


async def test_klines_of_another_route_are_subscribed_on_a_connection_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reports: list[Difference] = []
    async with TradeServer() as trades, TradeServer() as klines:
        routed = replace(USDM, routes={trades.url: ("trade",), klines.url: ("kline_*",)})
        monkeypatch.setitem(EXCHANGES["binance"], "usdm", routed)
        config = StreamConfig(heal=False)  # REST is not patched
        stream = fastbars.stream(
            "binance", ["BTCUSDT"], market="usdm", verify=1, on_difference=reports.append, config=config
        )
        async with stream:
            assert (trades.streams, klines.streams) == (["btcusdt@trade"], ["btcusdt@kline_1m"])
            for minute in range(4):
                await trades.send(*(trade(3 * minute + n, 60_000 * minute + n, "1") for n in (1, 2, 3)))
            await until(lambda: stream.stats().session.trades == 12)
            await klines.send(kline(0), kline(1), kline(2, V="2", x=False), kline(2, V="2"))
            await until(lambda: reports)
            await stream.unsubscribe(["BTCUSDT"])
            assert [request["params"] for request in klines.requests][1:] == [["btcusdt@kline_1m"]]
    (report,) = reports
    assert (report.field, report.bar_value, report.candle_value) == ("taker_buy_volume", 3, 2)
    # The first bar is whole: it begins with the market's first trade of all.
    assert stream.verification == Verification(equal=2, different=1, partial=1, running=1, first=report)


def test_a_share_of_the_symbols_is_the_same_at_each_start() -> None:
    watch = CandleWatch(SPOT, parse_specs("1m"), 0.25)
    symbols = [f"SYM{number}USDT" for number in range(1_000)]
    watched = [symbol for symbol in symbols if watch.watches(symbol)]
    assert 200 < len(watched) < 300
    assert watched == [symbol for symbol in symbols if CandleWatch(SPOT, parse_specs("1m"), 0.25).watches(symbol)]
    assert all(CandleWatch(SPOT, parse_specs("1m"), 1).watches(symbol) for symbol in symbols)


def test_what_cannot_be_verified_is_told_at_once() -> None:
    with pytest.raises(ValueError, match="binance usdm: no candles of 1s, tick:5 to verify bars with; there are 1m"):
        fastbars.stream("binance", ["X"], ["1s", "tick:5"], market="usdm", verify=True)
    with pytest.raises(ValueError, match=r"at most 1, got 1\.5"):
        fastbars.stream("binance", ["X"], verify=1.5)


@pytest.mark.parametrize("venue", [market for markets in EXCHANGES.values() for market in markets.values()])
def test_the_channels_of_candles_are_channels_of_the_exchange(venue: Exchange) -> None:
    for spec, channel in venue.candles.items():
        venue.check_channel(channel)
        assert [str(one) for one in parse_specs(spec)] == [spec]


@pytest.mark.real_clock
async def test_the_stream_command_prints_its_verdict() -> None:
    async with TradeServer() as server:
        command = ["stream", "binance", "BTCUSDT", "--url", server.url, "--once", "--verify", "--lines", "2"]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "fastbars", *command, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        await until(lambda: len(server.streams) == 4)  # trades and klines, on both lines
        await server.send(*(trade(3 * minute + n, 60_000 * minute + n, "1") for minute in range(3) for n in (1, 2, 3)))
        await server.send(kline(1))
        await server.close(1000)
        _, err = await process.communicate()
    assert process.returncode == 0
    assert "         1 bars equal the exchange's candles" in err.decode()
