"""BarSpec, OHLCVBar and BarBatch."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from fastbars._agg import BarKernel
from fastbars.bars import (
    BAR_FIELDS,
    REASONS,
    STATUSES,
    BarBatch,
    BarKind,
    BarSpec,
    BarStatus,
    CloseReason,
    OHLCVBar,
    parse_specs,
)
from fastbars.batch import TickBatch
from fastbars.errors import SpecError
from fastbars.instruments import Instruments
from fastbars.rows import ROW_DTYPE

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
     "volume:0.0000000000000000001", "range:5", "\uff11m", 0, -60, True, None, 1.5],
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
    assert {field.name for field in fields(OHLCVBar)} - set(BAR_FIELDS) == {"inverse"}


def test_a_bar_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        BAR.high = Decimal(1)  # type: ignore[misc]


def test_statuses_and_reasons_stand_in_the_order_that_the_kernel_counts_them() -> None:
    assert STATUSES == ("COMPLETE", "HEALED", "PROVISIONAL", "UNVERIFIABLE", "SAMPLED", "PARTIAL", "GAP")
    assert REASONS == ("trade", "watermark", "clock", "gap", "end", "open")
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
    assert batch[np.int64(1)] == bars[1]  # type: ignore[call-overload]


@pytest.mark.parametrize("place", [3, -4, 99])
def test_a_place_outside_a_batch_is_an_index_error(place: int) -> None:
    with pytest.raises(IndexError):
        three_bars()[place]
    with pytest.raises(IndexError):
        three_bars()[:0][0]


def test_columns_and_objects_hold_the_same_values() -> None:
    batch = three_bars()
    assert batch.rows.dtype == ROW_DTYPE
    assert batch.rows["open"].tolist() == [150, 10000, 25]
    assert batch.rows["price_scale"].tolist() == [2, 2, 2]
    assert [str(bar.quote_volume) for bar in batch] == ["3", "200", "0.5"]
    assert [str(bar.taker_buy_volume) for bar in batch] == ["2", "2", "2"]


def test_a_kernel_without_a_spec_or_with_negative_lateness_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one bar spec"):
        BarKernel(Instruments(), [])
    with pytest.raises(ValueError, match="lateness -1 ns and heal horizon 3600000000000 ns must not be negative"):
        BarKernel(Instruments(), parse_specs("1m"), lateness_ns=-1)
