"""REPORTED bars: the exchange's own candles as bars, with the fields that these have."""

from __future__ import annotations

import json
import pickle
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import given, settings, strategies as st

from examples import examples
from fastbars import BarBatch, aggregate
from fastbars.bars import (
    BAR_FIELDS,
    STATUSES,
    UNREPORTED,
    BarStatus,
    CloseReason,
    ExchangeBar,
    OHLCVBar,
    parse_specs,
    reported,
)
from fastbars.cli.output import csv_line, json_line, table_line
from fastbars.columnar.lines import line_maker
from fastbars.errors import PrecisionError
from fastbars.kernel.instruments import Instruments
from fastbars.kernel.limits import REPORTED_STATUS
from fastbars.kernel.rows import merge_rows
from fastbars.live.delivery_log import decoded, encoded
from fastbars.verification import Verifier

NOON = datetime(2026, 10, 1, 12, tzinfo=UTC)


def candle(minute: int = 0, **others: Any) -> ExchangeBar:
    """As Hyperliquid sends it: no quote volume, no taker's part, no ids."""
    at = NOON + timedelta(minutes=minute)
    values: dict[str, Any] = {
        "symbol": "BTC", "spec": "1m", "open_time": at, "close_time": at + timedelta(minutes=1),
        "open": Decimal("100.5"), "high": Decimal(102), "low": Decimal("99.25"), "close": Decimal("101"),
        "volume": Decimal("3.5"), "quote_volume": None, "trade_count": 7, "taker_buy_volume": None,
        "taker_buy_quote_volume": None, "first_trade_id": None, "last_trade_id": None, "is_closed": True,
        "event_time_ns": None,
    }  # fmt: skip
    return ExchangeBar(exchange="hyperliquid", market="perpetuals", **(values | others))


BARE = candle(trade_count=None)


def test_a_reported_bar_has_the_fields_of_the_candle_and_no_others() -> None:
    bar = reported(candle(), revision=3)
    assert (bar.exchange, bar.market, bar.symbol, bar.spec) == ("hyperliquid", "perpetuals", "BTC", "1m")
    assert (bar.open_time, bar.close_time) == (NOON, NOON + timedelta(minutes=1))
    assert (bar.open, bar.high, bar.low, bar.close) == (Decimal("100.5"), Decimal(102), Decimal("99.25"), Decimal(101))
    assert (bar.volume, bar.quote_volume, bar.trade_count) == (Decimal("3.5"), None, 7)
    assert (bar.taker_buy_volume, bar.taker_buy_quote_volume) == (None, None)
    assert (bar.status, bar.revision, bar.close_reason) == (BarStatus.REPORTED, 3, CloseReason.CANDLE)
    assert (bar.missing_count, bar.unpublished_count, bar.vwap, bar.is_complete) == (None, None, None, False)


def test_a_candle_that_says_everything_makes_a_bar_that_says_it_too() -> None:
    whole = candle(
        quote_volume=Decimal(350), taker_buy_volume=Decimal(1), taker_buy_quote_volume=Decimal(100), first_trade_id=4,
        last_trade_id=10, is_closed=None,
    )  # fmt: skip
    bar = reported(whole)
    assert (bar.quote_volume, bar.taker_buy_volume, bar.taker_buy_quote_volume) == (
        Decimal(350),
        Decimal(1),
        Decimal(100),
    )
    assert (bar.first_trade_id, bar.last_trade_id, bar.vwap) == (4, 10, Decimal(100))
    assert reported(whole, inverse=True).vwap is None


def test_reported_stands_between_what_is_made_of_trades_and_what_lacks_some() -> None:
    assert STATUSES[STATUSES.index(BarStatus.REPORTED) - 1] is BarStatus.SAMPLED
    assert STATUSES[STATUSES.index(BarStatus.REPORTED) + 1] is BarStatus.PARTIAL
    assert STATUSES.index(BarStatus.REPORTED) == REPORTED_STATUS


def test_a_candle_that_is_still_updated_makes_no_bar() -> None:
    with pytest.raises(ValueError, match=r"hyperliquid BTC 1m 2026-10-01 12:00:00\+00:00: the candle is not closed"):
        reported(candle(is_closed=False))


def test_a_candle_that_contradicts_itself_makes_no_bar() -> None:
    with pytest.raises(ValueError, match=r"High \(99\) must be >= low"):
        reported(candle(high=Decimal(99)))
    with pytest.raises(ValueError, match="trade count"):
        reported(candle(trade_count=-1))


@pytest.mark.parametrize("name", UNREPORTED)
@pytest.mark.parametrize("status", [status for status in BarStatus if status is not BarStatus.REPORTED])
def test_only_a_reported_bar_may_lack_a_field(name: str, status: BarStatus) -> None:
    bar = reported(candle())
    whole: dict[str, Any] = {each: 0 if each == "trade_count" else Decimal(0) for each in UNREPORTED}
    with pytest.raises(ValueError, match=f"{name} is None: only a REPORTED bar may lack it, and this one is {status}"):
        replace(bar, status=status, **(whole | {name: None}))


def test_what_a_bar_lacks_is_shown_as_nothing() -> None:
    bar = reported(BARE)
    assert repr(bar) == (
        "<OHLCVBar hyperliquid perpetuals BTC 1m 2026-10-01 12:00:00Z O 100.5 H 102 L 99.25 C 101 V 3.5 trades -"
        " REPORTED>"
    )
    assert csv_line(bar) == (
        "hyperliquid,perpetuals,BTC,1m,2026-10-01T12:00:00Z,2026-10-01T12:01:00Z,100.5,102,99.25,101,3.5,,,,,,,"
        "REPORTED,0,candle,,,,,,,,"
    )
    line = json.loads(json_line(bar))
    assert line == json.loads(json.dumps(bar.to_dict(json=True)))
    assert (line["trade_count"], line["quote_volume"], line["volume"]) == (None, None, "3.5")
    assert table_line(bar).split()[-2:] == ["3.5", "REPORTED"]


def test_a_reported_bar_survives_pickle_and_the_delivery_log() -> None:
    bar = reported(BARE, revision=1, inverse=True)
    for again in (pickle.loads(pickle.dumps(bar)), decoded(orjson.loads(encoded(bar)))):
        assert again == bar
        assert again.inverse


def test_comparing_a_candle_with_itself_proves_nothing() -> None:
    verifier = Verifier()
    for minute in range(3):
        verifier.add_candle(candle(minute))
        verifier.add_bar(reported(candle(minute)))
    made = OHLCVBar(**{name: getattr(reported(candle(3)), name) for name in ("exchange", "market", "symbol", "spec",
        "open_time", "close_time", "open", "high", "low", "close", "volume", "trade_count")})  # fmt: skip
    verifier.add_candle(candle(3))
    verifier.add_bar(made)
    # Trades prove the first one after all.
    verifier.add_bar(replace(made, open_time=NOON, close_time=NOON + timedelta(minutes=1), revision=1))
    result = verifier.finish()
    assert (result.equal, result.reported, result.different, result.compared) == (2, 2, 0, 2)


# As columns.


def with_candles(batch: BarBatch) -> list[OHLCVBar]:
    """Bars of trades, and between them REPORTED ones of every shape."""
    shapes = [
        BARE, candle(1), candle(2, quote_volume=Decimal("350.25"), taker_buy_volume=Decimal("0.5")),
        candle(3, taker_buy_quote_volume=Decimal(-5), first_trade_id=8), candle(4, first_trade_id=0, last_trade_id=0),
    ]  # fmt: skip
    mine = [replace(reported(one), exchange="", market="", symbol="A") for one in shapes]
    return [*batch, *mine]


def of_trades(*, ids: bool) -> BarBatch:
    times = np.array([0, 100, 70_000, 200_000]) * 1_000_000
    given: dict[str, Any] = {"trade_id": np.array([1, 2, 3, 9])} if ids else {}
    return aggregate(
        symbol=["A", "B", "A", "A"], time_ns=times, price=["1.5", "7", "2.25", "3"], size=["1", "0.001", "3", "2"],
        bars=["1m", "5m"], **given,
    )  # fmt: skip


@pytest.mark.parametrize("ids", [False, True])
def test_bars_make_a_batch_that_makes_the_same_bars(ids: bool) -> None:
    bars = with_candles(of_trades(ids=ids))
    batch = BarBatch.from_bars(bars)
    assert batch.to_bars() == bars
    assert [str(spec) for spec in batch.specs] == ["1m", "5m"]
    assert pickle.loads(pickle.dumps(batch)).to_bars() == bars
    assert batch[2:].to_bars() == bars[2:]


@pytest.mark.parametrize("ids", [False, True])
def test_columns_say_what_a_bar_lacks(ids: bool) -> None:
    bars = with_candles(of_trades(ids=ids))
    batch = BarBatch.from_bars(bars)
    table = pa.table(batch)
    for name in BAR_FIELDS:
        shown = table[name].to_pylist()
        assert shown == [getattr(bar, name) for bar in bars], name
    columns = batch.to_numpy()
    for name in ("volume", "quote_volume", "taker_buy_volume", "taker_buy_quote_volume"):
        floats = [np.nan if getattr(bar, name) is None else float(getattr(bar, name)) for bar in bars]
        assert np.array_equal(columns[name], floats, equal_nan=True), name
        assert list(batch[name]) == [getattr(bar, name) for bar in bars]
    for name in ("trade_count", "first_trade_id", "last_trade_id"):
        assert columns[name].tolist() == [-1 if getattr(bar, name) is None else getattr(bar, name) for bar in bars]
    frame = batch.to_pandas(floats=True)
    assert frame["trade_count"].isna().tolist() == [bar.trade_count is None for bar in bars]
    assert frame["quote_volume"].isna().tolist() == [bar.quote_volume is None for bar in bars]


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_lines_of_rows_are_those_of_the_objects(form: str) -> None:
    bars = with_candles(of_trades(ids=True))
    batch = BarBatch.from_bars(bars)
    one = {"csv": csv_line, "jsonl": json_line}[form]
    maker = line_maker(form, "contiguous")
    assert maker is not None
    assert maker.make(batch.rows, batch.instruments, ("1m", "5m"), batch.ids) == [one(bar) for bar in bars]


@given(st.lists(
    st.tuples(
        st.decimals(0, 10**9, places=8), st.none() | st.decimals(-(10**15), 10**15, places=12),
        st.none() | st.integers(0, 2**40), st.none() | st.decimals(0, 10**6, places=3),
        st.none() | st.integers(0, 2**60),
    ), min_size=1, max_size=8,
))  # fmt: skip
@settings(max_examples=examples(100))
def test_any_candles_make_a_batch_of_their_bars(
    drawn: list[tuple[Decimal, Decimal | None, int | None, Decimal | None, int | None]],
) -> None:
    bars = [
        reported(candle(
            minute, open=price, high=price, low=-price, close=price - 1, volume=price, quote_volume=quote,
            trade_count=count, taker_buy_volume=taker, first_trade_id=first, last_trade_id=first,
        ) if price > 0 else candle(minute))
        for minute, (price, quote, count, taker, first) in enumerate(drawn)
        if price >= 1 or not price
    ]  # fmt: skip
    batch = BarBatch.from_bars(bars)
    assert batch.to_bars() == bars
    assert [bar.to_dict(json=True) for bar in batch] == [
        {**bar.to_dict(json=True), **{n: plain(getattr(bar, n)) for n in DECIMAL_FIELDS}} for bar in bars
    ]


DECIMAL_FIELDS = (
    "open",
    "high",
    "low",
    "close",
    "volume",
    "quote_volume",
    "taker_buy_volume",
    "taker_buy_quote_volume",
)


def plain(value: Decimal | None) -> str | None:
    return None if value is None else format(value.normalize() + 0, "f")


def test_a_batch_of_inverse_bars_keeps_them_so() -> None:
    bar = reported(candle(quote_volume=Decimal(350)), inverse=True)
    batch = BarBatch.from_bars([bar])
    assert batch.to_bars() == [bar]
    assert batch[0].vwap is None
    assert batch.instruments.contract_size("BTC") == 100


def test_bars_of_two_markets_make_no_batch() -> None:
    bars = [reported(candle()), replace(reported(candle(1)), market="spot")]
    with pytest.raises(ValueError, match=r"of one market: hyperliquid spot BTC 1m 2026-10-01T12:01:00Z is of"):
        BarBatch.from_bars(bars)
    with pytest.raises(ValueError, match="of one market"):
        BarBatch.from_bars(bars[:1], instruments=Instruments("bybit", market="spot"))


@pytest.mark.parametrize(("name", "value"), [
    ("volume", Decimal("0.0000000000000000001")), ("quote_volume", Decimal(2**127)), ("volume", Decimal("1e999999")),
    ("quote_volume", Decimal("NaN")), ("high", Decimal(2) ** 63),
])  # fmt: skip
def test_a_value_that_no_row_holds_names_its_bar(name: str, value: Decimal) -> None:
    bar = object.__new__(OHLCVBar)
    for field in fields(OHLCVBar):
        object.__setattr__(bar, field.name, value if field.name == name else getattr(reported(candle()), field.name))
    with pytest.raises(PrecisionError, match=rf"hyperliquid perpetuals BTC 1m 2026-10-01T12:00:00Z: {name}"):
        BarBatch.from_bars([bar])


def test_no_bars_make_an_empty_batch() -> None:
    batch = BarBatch.from_bars([], specs=parse_specs("1m"))
    assert (len(batch), batch.to_bars(), len(pa.table(batch))) == (0, [], 0)


def test_a_reported_bar_merges_with_no_other() -> None:
    bars = [reported(candle(minute)) for minute in range(2)]
    one, other = BarBatch.from_bars(bars), BarBatch.from_bars(bars[1:])
    with pytest.raises(ValueError, match=r"BTC 1m 2026-10-01T12:01:00Z: a REPORTED bar .* does not merge"):
        one.merge(other)
    assert BarBatch.from_bars(bars[:1]).merge(other).to_bars() == bars
    with pytest.raises(ValueError, match="row 0: a REPORTED bar is no set of trades"):
        merge_rows(one.rows, one.rows, False)


def test_bars_of_two_batches_of_objects_merge_as_their_trades_do() -> None:
    def batch(first: int, price: str) -> BarBatch:
        made = aggregate(symbol=["A"] * 2, time_ns=[0, 1], price=[price, "2"], size=["1", "1"],
                         trade_id=[first, first + 1], bars="1m")  # fmt: skip
        return BarBatch.from_bars(made.to_bars())

    (merged,) = batch(7, "5").merge(batch(3, "4"))
    assert (merged.open, merged.close, merged.high, merged.trade_count) == (Decimal(4), Decimal(2), Decimal(5), 4)


def test_numbers_beyond_64_bits_stand_beside_others() -> None:
    wide, large = Decimal("12345678901234567890.123456789012345678"), Decimal(2**60)
    bars = [
        reported(candle(0, quote_volume=Decimal("0.1"))), reported(candle(1, quote_volume=wide, volume=large)),
        reported(candle(2, quote_volume=Decimal("1e-30"), volume=Decimal("1e-18"))), reported(candle(3)),
        reported(candle(4, volume=Decimal(9 * 10**18), taker_buy_volume=Decimal("1e-18"))),
    ]  # fmt: skip
    batch = BarBatch.from_bars(bars)
    assert batch.to_bars() == bars
    assert batch[::2].to_bars() == bars[::2]


def test_a_candle_without_trades_has_no_ids() -> None:
    bar = reported(candle(trade_count=0, volume=Decimal(0), first_trade_id=7, last_trade_id=6))
    assert (bar.trade_count, bar.first_trade_id, bar.last_trade_id) == (0, None, None)
    assert BarBatch.from_bars([bar]).to_bars() == [bar]
