"""BarSpec, OHLCVBar and BarBatch."""

from __future__ import annotations

import decimal
import json
import pickle
import re
from dataclasses import FrozenInstanceError, fields, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, strategies as st

import fastbars
from fastbars import BarBuffer, TickData
from fastbars._agg import BarKernel
from fastbars.bars import (
    BAR_FIELDS,
    FEATURE_FIELDS,
    REASONS,
    STATUSES,
    BarKind,
    BarSpec,
    BarStatus,
    CloseReason,
    OHLCVBar,
    parse_specs,
)
from fastbars.columnar.bar_batch import BarBatch
from fastbars.errors import SpecError
from fastbars.kernel.batch import TickBatch
from fastbars.kernel.ids import Ledger
from fastbars.kernel.instruments import Instruments
from fastbars.kernel.rows import ROW_DTYPE

SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("text", "kind", "step", "rule"),
    [
        ("1s", BarKind.TIME, 1, ("time", SECOND, 0)),
        ("15m", BarKind.TIME, 15, ("time", 900 * SECOND, 0)),
        ("4h", BarKind.TIME, 4, ("time", 14400 * SECOND, 0)),
        ("1d", BarKind.TIME, 1, ("time", 86400 * SECOND, 0)),
        ("1w", BarKind.TIME, 1, ("time", 7 * 86400 * SECOND, 4 * 86400 * SECOND)),
        ("1mo", BarKind.TIME, 1, ("months", 1, 0)),
        ("3mo", BarKind.TIME, 3, ("months", 3, 0)),
        ("1y", BarKind.TIME, 1, ("months", 12, 0)),
        ("100y", BarKind.TIME, 100, ("months", 1200, 0)),
        ("tick:1000", BarKind.TICK, 1000, ("tick", 1000, 0)),
        ("volume:0.5", BarKind.VOLUME, Decimal("0.5"), ("volume", 0, 0)),
        ("value:1000000", BarKind.VALUE, 1000000, ("value", 0, 0)),
    ],
)
def test_a_spec_is_read_and_written_as_its_text(
    text: str, kind: BarKind, step: int | Decimal, rule: tuple[str, int, int]
) -> None:
    spec = BarSpec.parse(text)
    assert (spec.kind, spec.step, spec.rule) == (kind, step, rule)
    assert str(spec) == text
    assert BarSpec.parse(str(spec)) == spec == BarSpec.parse(spec)


@given(st.sampled_from(("tick", "volume", "value")), st.integers(1, 10**18), st.integers(0, 12))
def test_a_path_spec_is_written_without_exponent_or_trailing_zeros(kind: str, mantissa: int, scale: int) -> None:
    number = Decimal(mantissa).scaleb(-scale) if kind != "tick" else Decimal(mantissa)
    spec = BarSpec.parse(f"{kind}:{number:f}")
    assert spec.step == number
    assert "E" not in str(spec)
    assert BarSpec.parse(str(spec)) == spec == BarSpec.parse(f"{kind}:{number:f}{'0' if '.' in f'{number:f}' else ''}")


@pytest.mark.parametrize(
    ("seconds", "text"), [(1, "1s"), (60, "1m"), (90, "90s"), (3600, "1h"), (86400, "1d"), (604800, "7d")]
)
def test_a_number_of_seconds_becomes_the_longest_fixed_unit(seconds: int, text: str) -> None:
    assert str(BarSpec.parse(seconds)) == text


@pytest.mark.parametrize(
    "text",
    ["", "m", "1", "0m", "-1m", "1.5m", "1M", "1 m", "1m ", "101y", "1201mo", "36601d", "9999999999s", "tick", "tick:",
     "tick:0", "tick:1.5", "tick:-1", "volume:0", "volume:.", "volume:1e3", "volume:1.2.3",
     "value:99999999999999999999",
     "volume:0.0000000000000000001", "ranges:5", "\uff11m", 0, -60, True, None, 1.5],
)  # fmt: skip
def test_what_is_no_spec_is_refused_with_what_would_be_valid(text: Any) -> None:
    with pytest.raises(SpecError, match="valid are 1s 5s 1m 5m"):
        BarSpec.parse(text)


def test_a_capital_m_is_told_how_a_month_is_written() -> None:
    with pytest.raises(SpecError, match=r"bar spec '1M' is not known \(a month is written mo\)"):
        BarSpec.parse("1M")


def test_several_specs_come_as_text_with_commas_or_as_a_list() -> None:
    wanted = (BarSpec.parse("1m"), BarSpec.parse("tick:5"))
    assert parse_specs("1m,tick:5") == parse_specs(["1m", wanted[1]]) == parse_specs((60, "tick:5")) == wanted
    assert parse_specs(60) == parse_specs(wanted[0]) == wanted[:1]


def test_no_spec_and_a_spec_given_twice_are_refused() -> None:
    with pytest.raises(SpecError, match="no bar spec is given"):
        parse_specs([])
    with pytest.raises(SpecError, match="a bar spec is given twice in 1m, 5m, 1m"):
        parse_specs("1m,5m,1m")


# OHLCVBar.

NOON = datetime(2024, 8, 9, 12, tzinfo=UTC)
BAR = OHLCVBar(
    "BTCUSDT", "1m", NOON, NOON + timedelta(minutes=1), Decimal(5), Decimal(9), Decimal(4), Decimal(6),
    Decimal(3), Decimal(20), 2, Decimal(1), Decimal(5), 7, 8, BarStatus.COMPLETE, 1,
)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"high": Decimal(3)}, "High .3. must be >= low .4."),
        ({"high": Decimal("4.5")}, "High .4.5. must be >= open .5."),
        ({"high": Decimal("5.5")}, "High .5.5. must be >= close .6."),
        ({"low": Decimal("5.5")}, "Low .5.5. must be <= open .5."),
        ({"open": Decimal(7), "low": Decimal("6.5")}, "Low .6.5. must be <= close .6."),
        ({"volume": Decimal(-1)}, "Volume .-1.* must be >= 0"),
        ({"quote_volume": Decimal(-1)}, "quote volume .-1.* must be >= 0"),
        ({"trade_count": -1}, "trade count .-1.* must be >= 0"),
        ({"open": None}, "all None, in a bar without trades, or none is"),
        ({"open": None, "high": None, "low": None, "close": None}, "all None, in a bar without trades, or none is"),
        ({"open_time": NOON.replace(tzinfo=None)}, "must have a time zone"),
        ({"close_time": NOON - timedelta(seconds=1)}, "must be >= open time"),
    ],
)
def test_a_bar_that_contradicts_itself_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(BAR, **changes)


def test_a_gap_bar_without_trades_has_no_prices() -> None:
    bar = OHLCVBar("A", "1m", NOON, NOON, None, None, None, None, Decimal(0), status=BarStatus.GAP)
    assert bar.vwap is None
    assert repr(bar) == "<OHLCVBar A 1m 2024-08-09 12:00:00Z O - H - L - C - V 0 trades 0 GAP>"


def test_vwap_is_quote_volume_by_volume_and_none_on_inverse_markets() -> None:
    assert BAR.vwap == Decimal(20) / Decimal(3)
    assert replace(BAR, volume=Decimal(0)).vwap is None
    assert replace(BAR, inverse=True).vwap is None


def test_a_bar_shows_its_revision_and_plain_numbers() -> None:
    assert repr(BAR) == "<OHLCVBar BTCUSDT 1m 2024-08-09 12:00:00Z O 5 H 9 L 4 C 6 V 3 trades 2 COMPLETE rev 1>"
    assert "V 100 " in repr(replace(BAR, volume=Decimal("1E+2"), revision=0))


def test_only_complete_and_healed_bars_are_complete() -> None:
    assert {status for status in BarStatus if replace(BAR, status=status).is_complete} == {"COMPLETE", "HEALED"}


def test_a_bar_is_a_dict_in_the_order_of_its_fields() -> None:
    assert BAR.to_dict() == {name: getattr(BAR, name) for name in BAR_FIELDS}
    assert list(BAR.to_dict()) == list(BAR_FIELDS)
    assert {field.name for field in fields(OHLCVBar)} - set(BAR_FIELDS) == {"inverse", *FEATURE_FIELDS}


def test_a_bar_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        BAR.high = Decimal(1)  # type: ignore[misc]


def test_statuses_and_reasons_stand_in_the_order_that_the_kernel_counts_them() -> None:
    assert STATUSES == (
        "COMPLETE", "HEALED", "PUBLISHED", "RETRACTED", "PROVISIONAL", "UNVERIFIABLE", "SAMPLED", "REPORTED", "PARTIAL",
        "GAP",
    )  # fmt: skip
    assert REASONS == ("trade", "watermark", "clock", "gap", "end", "candle", "anchor", "open")
    assert tuple(CloseReason) == REASONS


# BarBatch.


def three_bars() -> BarBatch:
    instruments = Instruments()
    kernel = BarKernel(instruments, parse_specs("1s"))
    batch = TickBatch(instruments, ids=False)
    for second, price in enumerate(("1.50", "100", "0.25", "7")):
        batch.append("A", second * SECOND, price, "2.0", 1)
    return BarBatch(kernel.update(batch)[0], instruments, kernel.specs, ids=False)


def test_a_batch_is_a_sequence_of_its_bars() -> None:
    batch = three_bars()
    bars = batch.to_bars()
    assert [str(bar.close) for bar in bars] == ["1.5", "100", "0.25"]
    assert len(batch) == 3
    assert list(batch) == bars
    assert [batch[place] for place in (0, 1, 2, -1, -2, -3)] == bars + bars[::-1]
    assert batch[1:].to_bars() == bars[1:]
    assert batch[::-2].to_bars() == bars[::-2]
    assert list(reversed(batch)) == bars[::-1]
    assert bars[1] in batch
    assert batch.index(bars[2]) == 2
    assert batch[np.int64(1)] == bars[1]


@pytest.mark.parametrize("place", [3, -4, 99])
def test_a_place_outside_a_batch_is_an_index_error(place: int) -> None:
    with pytest.raises(IndexError):
        three_bars()[place]
    with pytest.raises(IndexError):
        three_bars()[:0][0]


@pytest.mark.parametrize(
    ("index", "places"),
    [
        ([2, 0], [2, 0]),
        ([], []),
        ([-1, 0, 0, -3], [2, 0, 0, 0]),
        (np.array([1]), [1]),
        (np.array([2, 1], np.uint8), [2, 1]),
        (np.array([-1, -2], ">i2"), [2, 1]),
        (np.flatnonzero(np.zeros(3)), []),
        (np.zeros(3, bool), []),
        (np.array([True, False, True]), [0, 2]),
        ([True, False, True], [0, 2]),
        (range(1, 3), [1, 2]),
        (pd.Series([2, 1], index=[7, 8]), [2, 1]),
        (pd.Series([False, True, True]), [1, 2]),
        (pl.Series([0, 2]), [0, 2]),
        (pa.array([2, 2]), [2, 2]),
        (np.array([0, 2], object), [0, 2]),
        (slice(None, None, -1), [2, 1, 0]),
        (slice(-(10**30), 10**30), [0, 1, 2]),
    ],
)
def test_bars_are_chosen_as_numpy_chooses(index: Any, places: list[int]) -> None:
    for batch in (three_bars(), three_bars()[:]):
        bars = batch.to_bars()
        chosen = batch[index]
        assert isinstance(chosen, BarBatch)
        assert chosen.to_bars() == [bars[place] for place in places]
    turned = three_bars()[::-1]  # rows that do not lie one after the other
    assert turned[index].to_bars() == [turned.to_bars()[place] for place in places]


@pytest.mark.parametrize(
    ("index", "error", "message"),
    [
        ([0, 3], IndexError, "bar 3 is outside a batch of 3"),
        ([-4], IndexError, "bar -4 is outside a batch of 3"),
        (np.array([2**64 - 1, 0], np.uint64), IndexError, "bar 18446744073709551615 is outside"),
        ([10**30], IndexError, f"bar {10**30} is outside"),
        (-(10**30), IndexError, f"bar -{10**30} is outside"),
        ([True, False], IndexError, "a mask of 2 booleans does not fit 3 bars"),
        (np.ones(4, bool), IndexError, "a mask of 4 booleans does not fit 3 bars"),
        (np.ones(0, bool), IndexError, "a mask of 0 booleans does not fit 3 bars"),
        (np.array([0.0, 1.0]), TypeError, "not by an array of float64"),
        (np.array([]), TypeError, "not by an array of float64"),
        ([0.5], TypeError, "not by an array of float64"),
        (1.0, TypeError, "not by float"),
        (True, TypeError, "not by bool"),
        (np.bool_(True), TypeError, "not by bool"),
        (None, TypeError, "not by NoneType"),
        (..., TypeError, "not by ellipsis"),
        ((0, 1), TypeError, "not by tuple"),
        ([[0, 1]], TypeError, "one dimension"),
        (["close"], TypeError, "not by an array of <U5"),
        ([None], TypeError, "integer"),
        ([0, None], TypeError, "integer"),
        (np.array([True, 0], object), TypeError, "cannot be mixed"),
        (np.array([1], "m8[s]"), TypeError, "not by an array of timedelta64"),
        ("wap", KeyError, "no column 'wap'; a bar has exchange, market, symbol, spec, open_time"),
    ],
)
def test_what_chooses_no_bar_is_refused(index: Any, error: type[Exception], message: str) -> None:
    batch = three_bars()
    with pytest.raises(error, match=re.escape(message)):
        batch[index]


def test_a_column_by_name_holds_the_exact_values_of_the_bars() -> None:
    batch = fastbars.aggregate(
        [0, SECOND, 2 * SECOND], ["1.50", "100", "0.25"], ["2", "3", "0.1"], symbol="A", trade_id=[4, 5, 7], bars="1s"
    )
    for name in ("open", "high", "low", "close", "volume", "quote_volume", "taker_buy_volume", "symbol", "spec",
                 "trade_count", "first_trade_id", "status", "revision", "close_reason"):  # fmt: skip
        assert batch[name].tolist() == [getattr(bar, name) for bar in batch]
    assert str(batch["close"][0]) == "1.5"
    assert batch["open_time"].dtype == np.dtype("datetime64[ns]")
    assert [n if n >= 0 else None for n in batch["missing_count"].tolist()] == [bar.missing_count for bar in batch]
    assert batch[:0]["close"].tolist() == []


def bar_and_gaps() -> BarBatch:
    instruments = Instruments()
    kernel = BarKernel(instruments, parse_specs("1s"), Ledger())
    batch = TickBatch(instruments)
    batch.append("A", 0, "1.5", "1", 0, 1)
    kernel.update(batch)
    kernel.feed_down(SECOND // 2)
    rows = kernel.close_until(3 * SECOND, REASONS.index(CloseReason.GAP))
    return BarBatch(rows, instruments, kernel.specs, ids=True)


def test_a_bar_without_prices_has_none_in_every_form() -> None:
    batch = bar_and_gaps()
    assert batch["close"].tolist() == [Decimal("1.5"), None, None]
    floats = batch.to_numpy()
    assert np.isnan(floats["close"]).tolist() == [False, True, True]
    assert floats["first_trade_id"].tolist() == [1, -1, -1]
    frame = batch.to_pandas(floats=True)
    assert frame["high"].isna().tolist() == [False, True, True]
    assert frame["last_trade_id"].isna().tolist() == [False, True, True]
    assert frame["missing_count"].isna().tolist() == [bar.missing_count is None for bar in batch]
    assert frame["volume"].tolist() == [1.0, 0.0, 0.0]
    assert "<td></td>" in batch._repr_html_()
    assert batch[1].to_dict(json=True)["close"] is None


def test_pandas_gets_floats_or_exact_decimals_with_the_index_asked_for() -> None:
    batch = three_bars()
    floats = batch.to_pandas(floats=True, index="open_time")
    assert floats.index.equals(pd.DatetimeIndex([bar.open_time for bar in batch]).as_unit("ns"))
    assert floats["close"].tolist() == [1.5, 100.0, 0.25]
    assert str(floats["close"].dtype) == "float64"
    assert str(floats["close_time"].dtype) == "datetime64[ns, UTC]"
    exact = batch.to_pandas(index=["symbol", "open_time"])
    assert exact.index.names == ["symbol", "open_time"]
    assert exact["close"].tolist() == [Decimal("1.5"), Decimal(100), Decimal("0.25")]
    assert "close" not in batch.to_pandas(index="close").columns
    with pytest.raises(KeyError, match="no column 'time' for the index; a bar has exchange, market, symbol"):
        batch.to_pandas(index="time")


def test_a_batch_says_what_it_holds() -> None:
    batch = three_bars()
    assert repr(batch) == "<BarBatch 3 bars of 1s: A, 1970-01-01 00:00:00Z to 1970-01-01 00:00:03Z>"
    assert repr(batch[:1]).startswith("<BarBatch 1 bar of 1s: A, ")
    assert repr(batch[:0]) == "<BarBatch 0 bars of 1s>"
    names = ["\x1b[31mred", "x" * 100, "<b>&", "D", "E"]
    many = fastbars.aggregate([0] * 5, ["1"] * 5, ["1"] * 5, symbol=names, bars="1m,1h")
    text = repr(many)
    assert text == (
        f"<BarBatch 10 bars of 1m, 1h: '\\x1b[31mred', {'x' * 31}\N{HORIZONTAL ELLIPSIS}, <b>& and 2 more,"
        " 1970-01-01 00:00:00Z to 1970-01-01 01:00:00Z>"
    )


def test_a_notebook_gets_a_table_of_bounded_size_in_which_no_symbol_is_markup() -> None:
    symbol = "<script>alert('x')</script>" + "y" * 1000
    rows = 5_000
    batch = fastbars.aggregate(
        np.arange(rows) * SECOND, np.ones(rows, int), np.ones(rows, int), symbol=symbol, bars="1s"
    )
    html = batch._repr_html_()
    assert html.count("<tr>") == 1 + 10 + 1
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert len(html) < 20_000
    assert "1970-01-01T00:00:00Z" in html
    assert "1970-01-01T01:23:19Z" in html
    assert three_bars()._repr_html_().count("<tr>") == 4
    assert three_bars()[:0]._repr_html_().count("<tr>") == 1


def test_a_bar_goes_through_json() -> None:
    bar = replace(BAR, close=Decimal("1E-8"), low=Decimal("1E-8"), volume=Decimal("1E+2"))
    made = json.loads(json.dumps(bar.to_dict(json=True)))
    assert list(made) == list(BAR_FIELDS)
    assert (made["close"], made["volume"], made["open_time"]) == ("0.00000001", "100", "2024-08-09T12:00:00Z")
    assert (made["status"], made["close_reason"], made["trade_count"]) == ("COMPLETE", "trade", 2)
    assert type(bar.to_dict(json=True)["status"]) is str
    assert Decimal(made["close"]) == bar.close
    assert datetime.fromisoformat(made["open_time"]) == bar.open_time


CONTEXTS = {
    "prec=1": decimal.Context(prec=1),
    "traps everything": decimal.Context(prec=3, traps=list(decimal.Context().flags)),
    "rounds up, narrow, lower case": decimal.Context(prec=2, rounding=decimal.ROUND_UP, Emax=1, Emin=-1, capitals=0),
    "clamps": decimal.Context(prec=4, Emax=2, Emin=-2, clamp=1),
}


@pytest.mark.parametrize("context", CONTEXTS.values(), ids=CONTEXTS)
def test_nothing_depends_on_the_decimal_context_of_the_caller(context: decimal.Context) -> None:
    def everything() -> list[Any]:
        buffer = BarBuffer("1m,volume:2.5,value:1000000.5,tick:3")
        buffer.add("X", 0, "61837.63", "0.3", True)
        buffer.add("X", 1, Decimal("61840.0200000001"), "0.4")
        buffer.add_tick(TickData("X", 2, "0.00000001", "123456789.12345678", "buy"))
        bars = buffer.flush_all()
        table = fastbars.aggregate(
            [0, 1], [Decimal("61837.63"), Decimal("1E-9")], ["1e3", "2.000000001"], symbol="X", bars="1m"
        )
        merged = table.merge(fastbars.aggregate([2], ["1234567.1"], ["1.1"], symbol="X"))
        frame = table.to_pandas(floats=True).to_dict()
        return [
            [bar.to_dict(json=True) for bar in bars], [repr(bar) for bar in bars], [str(bar.vwap) for bar in bars],
            repr(table), table._repr_html_(), merged.to_bars(), str(frame), [bar.vwap for bar in merged],
            [str(value) for value in merged["quote_volume"]], table.to_polars().rows(),
            pickle.loads(pickle.dumps(bars)),
            [str(BarSpec.parse(text)) for text in ("tick:1000", "volume:0.000012345", "3mo", "value:123456789.5")],
            buffer.instruments.scales("X"), pickle.loads(pickle.dumps(buffer)).stats,
        ]  # fmt: skip

    with decimal.localcontext(decimal.DefaultContext):
        expected = everything()
    with decimal.localcontext(context):
        assert everything() == expected
    assert expected[2][0] != "0"


def test_errors_are_the_same_under_every_decimal_context() -> None:
    for context in (decimal.DefaultContext, *CONTEXTS.values(), decimal.Context(traps=[])):
        with decimal.localcontext(context):
            with pytest.raises(fastbars.InvalidTickError, match="X: price 'abc' is not a number"):
                TickData("X", 0, "abc", "1")
            with pytest.raises(fastbars.InvalidTickError, match="X: volume sNaN is not positive"):
                TickData("X", 0, "1", "sNaN")
            with pytest.raises(fastbars.SpecError, match="needs a positive whole step"):
                BarSpec.parse("tick:1.5")


def test_columns_and_objects_hold_the_same_values() -> None:
    batch = three_bars()
    assert batch.rows.dtype == ROW_DTYPE
    assert batch.rows["open"].tolist() == [15, 10000, 25]
    assert batch.rows["price_scale"].tolist() == [1, 2, 2]  # that of its symbol when the bar was issued
    assert [str(bar.quote_volume) for bar in batch] == ["3", "200", "0.5"]
    assert [str(bar.taker_buy_volume) for bar in batch] == ["2", "2", "2"]


def test_a_kernel_without_a_spec_or_with_negative_lateness_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one bar spec"):
        BarKernel(Instruments(), [])
    with pytest.raises(ValueError, match="lateness -1 ns and heal horizon 3600000000000 ns are outside 0 to"):
        BarKernel(Instruments(), parse_specs("1m"), lateness_ns=-1)
