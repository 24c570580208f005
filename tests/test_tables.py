"""Bars as columns of numpy: each value as plain Python gives it, to the last bit."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings, strategies as st

from examples import examples
from fastbars.bars import BAR_FIELDS, REASONS, STATUSES
from fastbars.columnar.bar_batch import BarBatch
from fastbars.columnar.tables import numpy_columns
from fastbars.kernel.fields import FIELDS, NO_PRICE, NO_TIME, ROW_DTYPE, FieldKind
from fastbars.kernel.instruments import Instruments
from fastbars.specs import parse_specs

SPECS = parse_specs(["1s", "5m"])
MANY = 150  # more than are taken at once
HIGHEST_SCALE = 36


def batch_of(rows: npt.NDArray[Any], symbols: int = 3, *, ids: bool = True) -> BarBatch:
    instruments = Instruments("test", False, "spot")
    for number in range(symbols):
        instruments.add(f"S{number}" * (number + 1))
    return BarBatch(rows, instruments, SPECS, ids=ids)


def rows_with(values: list[int], scale: int) -> npt.NDArray[Any]:
    """A row a value, in every price and sum that has room for it."""
    rows = np.zeros(len(values), ROW_DTYPE)
    for column in FIELDS.values():
        if column.scale:
            rows[column.scale] = scale
            if rows[column.name].dtype.names:
                rows[column.name] = [(value & (2**64 - 1), value >> 64) for value in values]
            else:
                rows[column.name] = [value if -(2**63) < value < 2**63 else 1 for value in values]
    return rows


def exact(values: npt.NDArray[Any]) -> list[int]:
    if values.dtype.names:
        return [(int(high) << 64) + int(low) for low, high in values.tolist()]
    return [int(value) for value in values.tolist()]


def bits(values: Any) -> list[bytes]:
    return [struct.pack("<d", value) for value in values]


def assert_nearest(rows: npt.NDArray[Any]) -> None:
    columns = batch_of(rows).to_numpy()
    for field, column in FIELDS.items():
        if column.scale:
            scales = rows[column.scale].tolist()
            # An int over an int is rounded correctly, however large they are.
            wanted = [value / 10**scale for value, scale in zip(exact(rows[column.name]), scales, strict=True)]
            if column.kind is FieldKind.LARGEST:  # 0: there is none
                wanted = [value or math.nan for value in wanted]
            assert bits(columns[field]) == bits(wanted), field


@given(
    st.lists(
        st.integers(-(2**127), 2**127 - 1) | st.integers(-(2**63) + 1, 2**63 - 1) | st.integers(-(2**55), 2**55),
        min_size=1, max_size=4,
    ),
    st.integers(0, HIGHEST_SCALE),
)  # fmt: skip
@settings(max_examples=examples(300))
@example([2**127 - 1, -(2**127), 0, 1], 0)
@example([2**127 - 1, -(2**127), 0, -1], HIGHEST_SCALE)
@example([2**53, 2**53 + 1, 2**53 - 1, 2**54 + 2], 0)
@example([10**36 * 3, 5**36, 2**63 - 1, -(2**63) + 1], 28)
def test_prices_and_sums_are_the_floats_nearest_to_them(values: list[int], scale: int) -> None:
    assert_nearest(rows_with(values, scale))


@given(st.integers(2**53, 2**54 - 1), st.integers(0, 30), st.integers(0, HIGHEST_SCALE), st.integers(-1, 1))
@settings(max_examples=examples(300))
def test_halfway_between_two_floats_the_even_one_is_taken(odd: int, power: int, scale: int, beside: int) -> None:
    # An odd number of 54 bits lies halfway between two floats, and so does it times 10**scale over 10**scale.
    value = (odd | 1) * 2**power * 10**scale + beside
    if value < 2**127:
        assert_nearest(rows_with([value, -value], scale))


@pytest.mark.parametrize("scale", range(HIGHEST_SCALE + 1))
def test_at_every_scale_every_length_of_number_is_rounded_rightly(scale: int) -> None:
    lengths = [2**bit + beside for bit in range(127) for beside in (-1, 0, 1)]
    assert_nearest(rows_with(lengths + [-value for value in lengths], scale))


def test_scales_may_differ_from_row_to_row() -> None:
    rows = rows_with([10**20 + place for place in range(MANY)], 0)
    rows["quote_scale"] = np.arange(MANY) % (HIGHEST_SCALE + 1)
    rows["size_scale"] = np.arange(MANY) % 19
    assert_nearest(rows)


def some_rows() -> npt.NDArray[Any]:
    draw = np.random.default_rng(4)
    rows = np.zeros(MANY, ROW_DTYPE)
    for column in FIELDS.values():
        if column.dtype is not FIELDS["volume"].dtype and column.kind is not FieldKind.NAME:
            rows[column.name] = draw.integers(-1, 1000, MANY)
    rows["symbol_id"], rows["spec"] = draw.integers(0, 3, MANY), draw.integers(0, 2, MANY)
    rows["status"], rows["reason"] = draw.integers(0, len(STATUSES), MANY), draw.integers(0, len(REASONS), MANY)
    rows["high"][::7] = NO_PRICE
    rows["count"][::5] = 0
    rows["last_trade_time"][::3] = NO_TIME
    return rows


@pytest.mark.parametrize("ids", [True, False])
def test_every_other_column_says_what_the_rows_say(ids: bool) -> None:
    rows = some_rows()
    batch = batch_of(rows, ids=ids)
    columns = batch.to_numpy()
    assert list(columns) == list(BAR_FIELDS)
    assert {len(column) for column in columns.values()} == {MANY}
    texts = {
        "symbol": ("S0", "S1S1", "S2S2S2"), "spec": ("1s", "5m"), "status": STATUSES, "close_reason": REASONS
    }  # fmt: skip
    for field, column in FIELDS.items():
        values = rows[column.name]
        if column.kind is FieldKind.NAME:
            assert columns[field].tolist() == [texts[field][number] for number in values.tolist()]
        elif column.kind is FieldKind.PRICE:
            priced = (rows["high"] != NO_PRICE).tolist()
            shown = columns[field].tolist()
            assert [value for value, has in zip(shown, priced, strict=True) if has] == values[priced].tolist()
            assert [np.isnan(value) for value in shown] == [not has for has in priced]
        elif column.kind is FieldKind.ID:
            assert columns[field].tolist() == np.where((rows["count"] > 0) & ids, values, -1).tolist()
        elif column.kind is FieldKind.TIME:
            assert columns[field].dtype == np.dtype("datetime64[ns]")
            assert columns[field].astype(np.int64).tolist() == values.tolist()
        elif column.kind is FieldKind.MOMENT:
            known = rows["last_trade_time"] != NO_TIME
            assert np.isnat(columns[field]).tolist() == (~known).tolist()
            assert columns[field][known].astype(np.int64).tolist() == values[known].tolist()
        elif not column.scale:
            assert columns[field].dtype == column.dtype
            assert columns[field].tolist() == values.tolist()
    assert set(columns["exchange"].tolist()) == {"test"}
    assert set(columns["market"].tolist()) == {"spot"}


def test_columns_of_a_part_and_of_the_whole_agree_and_own_their_memory() -> None:
    batch = batch_of(some_rows())
    whole, part = batch.to_numpy(), batch[3:140:2].to_numpy()
    before = batch.rows.tobytes()
    for name in BAR_FIELDS:
        assert part[name].tolist() == pytest.approx(whole[name][3:140:2].tolist(), nan_ok=True)
        assert part[name].flags.c_contiguous
        assert part[name].flags.writeable
        whole[name][:] = whole[name][0]
    assert batch.rows.tobytes() == before


@pytest.mark.parametrize(
    ("column", "value", "error", "message"),
    [
        ("symbol_id", 3, IndexError, "row 140: 3 is outside the 3 texts"),
        ("symbol_id", -1, IndexError, "row 140: -1 is outside the 3 texts"),
        ("spec", 2, IndexError, "row 140: 2 is outside the 2 texts"),
        ("status", 200, IndexError, "row 140: 200 is outside"),
        ("quote_scale", 37, ValueError, "row 140: scale 37 is outside 0 to 36"),
        ("price_scale", -1, ValueError, "row 140: scale -1 is outside 0 to 36"),
    ],
)
def test_rows_that_say_what_there_is_not_are_refused(
    column: str, value: int, error: type[Exception], message: str
) -> None:
    rows = rows_with(list(range(MANY)), 2)
    rows[column][140] = value
    with pytest.raises(error, match=message):
        batch_of(rows).to_numpy()


def test_rows_of_another_layout_and_missing_texts_are_refused() -> None:
    texts: dict[str, Sequence[str]] = {
        "symbol": (), "spec": ("1s",), "status": STATUSES, "close_reason": REASONS
    }  # fmt: skip
    with pytest.raises(ValueError, match="rows are a contiguous array of ROW_DTYPE"):
        numpy_columns(np.zeros(3, np.int64), texts, True)
    with pytest.raises(KeyError, match="symbol"):
        numpy_columns(np.zeros(3, ROW_DTYPE), {}, True)
    assert {len(column) for column in numpy_columns(np.zeros(0, ROW_DTYPE), texts, True).values()} == {0}
