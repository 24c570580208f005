"""Rows to bar objects: what compiled code makes equals what the class itself makes of the same values."""

from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError, dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, strategies as st

from fastbars.bars import BAR_FIELDS, REASONS, STATUSES, OHLCVBar, parse_specs
from fastbars.columnar.bar_batch import BarBatch
from fastbars.kernel.fields import FIELDS, IDENTITY
from fastbars.kernel.instruments import Instruments
from fastbars.kernel.objects import BarMaker
from fastbars.kernel.rows import ROW_DTYPE

INT64 = st.integers(0, 2**63 - 1)
SUMS = st.one_of(st.integers(0, 2**127 - 1), st.integers(0, 2**64), st.integers(0, 10**6), st.just(0))
TIMES = st.integers(-4_600_000_000_000_000_000, 4_600_000_000_000_000_000)


def instruments() -> Instruments:
    known = Instruments("test", market="spot")
    known.add("A")
    known.add("INVERSE", contract_size=100)
    return known


def row_of(**values: Any) -> npt.NDArray[Any]:
    rows = np.zeros(1, ROW_DTYPE)
    for name, value in values.items():
        if name in ("volume", "quote_volume", "taker_volume", "taker_quote_volume"):
            rows[name]["lo"], rows[name]["hi"] = value & (2**64 - 1), value >> 64
        else:
            rows[name] = value
    return rows


def decimal(mantissa: int, scale: int) -> Decimal:
    sign, digits, _ = Decimal(mantissa).as_tuple()
    number = Decimal((sign, digits, -scale))
    while scale > 0 and number.as_tuple().digits[-1] == 0 and number:
        scale -= 1
        number = Decimal((sign, number.as_tuple().digits[:-1], -scale))
    return number if number else Decimal(0)


@given(
    st.tuples(TIMES, TIMES), st.tuples(INT64, INT64, INT64, INT64), st.tuples(SUMS, SUMS, SUMS, SUMS),
    st.tuples(st.integers(0, 18), st.integers(0, 18), st.integers(0, 36)), st.integers(0, 1), st.booleans(),
)  # fmt: skip
@example((-1, 0), (100, 100, 100, 100), (0, 2**64 - 1, 2**64, 1), (2, 0, 36), 0, True)
@example((951_782_400_000_000_000, -2_208_988_800_000_000_000), (1, 10, 1, 10), (10, 20, 0, 0), (1, 1, 2), 1, False)
def test_a_made_bar_equals_one_made_by_its_class(
    times: tuple[int, int],
    prices: tuple[int, int, int, int],
    sums: tuple[int, int, int, int],
    scales: tuple[int, int, int],
    symbol_id: int,
    ids: bool,
) -> None:
    opened, closed = sorted(times)
    open_, high, low, close = prices[0], max(prices), min(prices), prices[3]
    price_scale, size_scale, quote_scale = scales
    rows = row_of(
        open_time=opened, close_time=closed, open=open_, high=high, low=low, close=close, first_id=7, last_id=9,
        count=3, volume=sums[0], quote_volume=sums[1], taker_volume=sums[2], taker_quote_volume=sums[3],
        symbol_id=symbol_id, revision=2, status=5, reason=3, price_scale=price_scale, size_scale=size_scale,
        quote_scale=quote_scale, missing=-1 if ids else 5, unpublished=2 if ids else -1,
    )  # fmt: skip
    (bar,) = BarBatch(rows, instruments(), parse_specs("1m"), ids=ids)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    expected = OHLCVBar(
        ("A", "INVERSE")[symbol_id],
        "1m",
        epoch + timedelta(microseconds=opened // 1000),
        epoch + timedelta(microseconds=closed // 1000),
        decimal(open_, price_scale),
        decimal(high, price_scale),
        decimal(low, price_scale),
        decimal(close, price_scale),
        decimal(sums[0], size_scale),
        decimal(sums[1], quote_scale),
        3,
        decimal(sums[2], size_scale),
        decimal(sums[3], quote_scale),
        7 if ids else None,
        9 if ids else None,
        STATUSES[5],
        2,
        REASONS[3],
        symbol_id == 1,
        None if ids else 5,
        2 if ids else None,
        exchange="test",
        market="spot",
    )
    assert bar == expected
    assert bar.inverse == expected.inverse
    for each in fields(OHLCVBar):
        made, same = getattr(bar, each.name), getattr(expected, each.name)
        assert (type(made), str(made)) == (type(same), str(same)), each.name


def made_bar() -> OHLCVBar:
    rows = row_of(open=150, high=150, low=150, close=150, count=1, volume=1, price_scale=2)
    return BarBatch(rows, instruments(), parse_specs("1m"), ids=True)[0]


def test_a_made_bar_is_an_ordinary_frozen_object() -> None:
    bar = made_bar()
    assert type(bar) is OHLCVBar
    assert hash(bar) == hash(replace(bar))
    assert pickle.loads(pickle.dumps(bar)) == copy.copy(bar) == copy.deepcopy(bar) == replace(bar) == bar
    assert replace(bar, close=Decimal("1.5"), revision=1) != bar
    assert bar.to_dict()["open"] == Decimal("1.5")
    with pytest.raises(FrozenInstanceError):
        bar.open = Decimal(2)  # type: ignore[misc]
    with pytest.raises(ValueError, match="must be >= low"):
        replace(bar, high=Decimal(1))


def test_every_field_of_a_bar_is_a_column_of_its_row() -> None:
    assert sorted([*IDENTITY, *FIELDS]) == sorted(BAR_FIELDS)
    assert {column.name for column in FIELDS.values()} <= set(ROW_DTYPE.names or ())


def test_a_slot_of_another_class_is_none_of_the_bars() -> None:
    @dataclass(slots=True)
    class Other:
        symbol: str = ""

    class Bar:
        __slots__ = tuple(each.name for each in fields(OHLCVBar) if each.name != "symbol")
        symbol = Other.__dict__["symbol"]

    with pytest.raises(TypeError, match="symbol is not a slot"):
        BarMaker(Bar, STATUSES, REASONS)


def test_only_a_class_with_slots_can_be_made() -> None:
    @dataclass
    class NoSlots:
        exchange: str = ""

    with pytest.raises(TypeError, match="exchange is not a slot"):
        BarMaker(NoSlots, STATUSES, REASONS)


def test_other_rows_than_the_kernels_are_refused() -> None:
    maker = BarMaker(OHLCVBar, STATUSES, REASONS)
    with pytest.raises(ValueError, match="contiguous array of ROW_DTYPE"):
        maker.make(np.zeros(3), instruments(), ("1m",), True)
    with pytest.raises(ValueError, match="contiguous array of ROW_DTYPE"):
        maker.make(np.zeros(4, ROW_DTYPE)[::2], instruments(), ("1m",), True)
