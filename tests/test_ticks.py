"""TickData: one trade as an object."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from fastbars import BarBuffer
from fastbars.errors import InvalidTickError
from fastbars.ticks import TickData, TickSide, to_datetime, to_nanoseconds


@given(st.datetimes(datetime(1700, 1, 1), datetime(2200, 1, 1)), st.integers(-720, 720))  # noqa: DTZ001
def test_an_aware_datetime_goes_to_nanoseconds_and_back(time: datetime, offset_minutes: int) -> None:
    aware = time.replace(tzinfo=timezone(timedelta(minutes=offset_minutes)))
    assert to_nanoseconds(aware) % 1000 == 0
    assert to_datetime(to_nanoseconds(aware)) == aware
    assert to_datetime(to_nanoseconds(aware)).tzinfo is UTC


@given(st.integers(-(2**62), 2**62))
def test_a_datetime_cuts_nanoseconds_off_towards_the_past(time_ns: int) -> None:
    assert 0 <= time_ns - to_nanoseconds(to_datetime(time_ns)) < 1000


def test_a_naive_datetime_is_refused() -> None:
    naive = datetime(2024, 8, 9)  # noqa: DTZ001
    with pytest.raises(InvalidTickError, match="2024-08-09T00:00:00 has no time zone"):
        TickData("A", naive, "1", "1")


def test_a_tick_keeps_every_digit_and_nanosecond() -> None:
    tick = TickData("BTCUSDT", -1, "61837.630000001", 2, "buy", 7)
    assert (tick.symbol, tick.time_ns, tick.price, tick.volume) == (
        "BTCUSDT",
        -1,
        Decimal("61837.630000001"),
        Decimal(2),
    )
    assert tick.side is TickSide.BUY
    assert (tick.trade_id, tick.last_trade_id, tick.trade_count) == (7, 7, 1)
    assert tick.timestamp == datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)


def test_an_aggregated_tick_counts_its_ids_unless_told() -> None:
    assert TickData("A", 0, "1", "1", trade_id=5, last_trade_id=9).trade_count == 5
    assert TickData("A", 0, "1", "1", trade_id=5, last_trade_id=9, trade_count=3).trade_count == 3
    assert TickData("A", 0, "1", "1").trade_count == 1


def test_ids_that_run_backwards_and_empty_counts_are_refused() -> None:
    with pytest.raises(InvalidTickError, match="A: trade ids 9 to 5, count -3"):
        TickData("A", 0, "1", "1", trade_id=9, last_trade_id=5)
    with pytest.raises(InvalidTickError, match="count 0"):
        TickData("A", 0, "1", "1", trade_count=0)


@pytest.mark.parametrize("value", ["0", "-1", "NaN", "sNaN", "Infinity", Decimal(0), 0, -5])
def test_a_price_or_volume_that_is_not_positive_is_refused(value: str | int | Decimal) -> None:
    with pytest.raises(InvalidTickError, match=f"A: price {value} is not positive"):
        TickData("A", 0, value, "1")
    with pytest.raises(InvalidTickError, match=f"A: volume {value} is not positive"):
        TickData("A", 0, "1", value)


@pytest.mark.parametrize("value", ["abc", "", "1,5"])
def test_a_price_that_is_no_number_is_refused_by_name(value: str) -> None:
    with pytest.raises(InvalidTickError, match=f"A: price '{value}' is not a number"):
        TickData("A", 0, value, "1")


def test_a_float_is_a_type_error_because_it_has_lost_digits() -> None:
    with pytest.raises(TypeError, match=r"A: price 0\.1 is a float"):
        TickData("A", 0, 0.1, "1")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"A: volume 0\.1 is a float"):
        TickData("A", 0, "1", 0.1)  # type: ignore[arg-type]


def test_an_unknown_side_is_refused() -> None:
    with pytest.raises(ValueError, match="'long' is not a valid TickSide"):
        TickData("A", 0, "1", "1", "long")


def test_the_sign_of_a_side_is_that_of_the_taker() -> None:
    assert [side.sign for side in (TickSide.BUY, TickSide.SELL, TickSide.UNKNOWN)] == [1, -1, 0]


def test_a_tick_cannot_be_changed_and_compares_by_value() -> None:
    tick = TickData("A", 0, "1.0", "1")
    assert tick == TickData("A", 0, "1", "1.00")
    with pytest.raises(FrozenInstanceError):
        tick.price = Decimal(2)  # type: ignore[misc]


@pytest.mark.parametrize("kind", [np.int8, np.uint64, np.int64])
def test_integers_of_numpy_are_prices_and_sizes_at_every_entry(kind: Any) -> None:
    tick = TickData("X", 1_735_689_600_000_000_000, kind(7), kind(2))
    assert (tick.price, tick.volume, type(tick.price)) == (Decimal(7), Decimal(2), Decimal)
    buffer = BarBuffer("1m")
    buffer.add("X", 1_735_689_600_000_000_000, kind(7), kind(2))
    assert [(bar.close, bar.volume) for bar in buffer.flush_all()] == [(Decimal(7), Decimal(2))]


@pytest.mark.parametrize("value", [None, b"7", np.float32(7), np.bool_(True)])
def test_a_price_that_is_no_number_is_a_type_error_that_names_it(value: Any) -> None:
    with pytest.raises(TypeError, match=r"X: price .*; give Decimal, int or text"):
        TickData("X", 1_735_689_600_000_000_000, value, "1")
