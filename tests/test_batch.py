"""TickBatch: trades as columns, and every way in which a row or a column can be wrong."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from fastbars.buffer import BarBuffer
from fastbars.errors import InvalidTickError, PrecisionError
from fastbars.kernel.batch import TickBatch
from fastbars.kernel.instruments import Instruments
from fastbars.kernel.scaled import to_decimal
from strategies import SYMBOLS, numbers

PRICES = numbers((1, 10**6, (0, 1, 5, 9)))
SIZES = numbers((1, 10**6, (0, 2, 4)))


def column(batch: TickBatch, name: str) -> list[int]:
    values = batch.column(name)
    assert values is not None
    listed: list[int] = values.tolist()
    return listed


@given(st.lists(st.tuples(st.sampled_from(SYMBOLS), PRICES, SIZES), max_size=300))
def test_rows_keep_their_value_whatever_scale_comes_after_them(rows: list[tuple[str, Decimal, Decimal]]) -> None:
    instruments = Instruments()
    batch = TickBatch(instruments)
    for number, (symbol, price, size) in enumerate(rows):
        batch.append(symbol, -number, price, size, 1, number)
    assert len(batch) == batch.length == len(rows)
    for number, (symbol, price, size) in enumerate(rows):
        price_scale, size_scale = batch.scales(symbol)
        assert to_decimal(column(batch, "price")[number], price_scale) == price
        assert to_decimal(column(batch, "size")[number], size_scale) == size
    assert column(batch, "symbol_id") == [instruments.id(symbol) for symbol, _, _ in rows]
    assert column(batch, "time_ns") == [-number for number in range(len(rows))]
    assert column(batch, "first_id") == column(batch, "last_id") == list(range(len(rows)))


def test_columns_that_are_not_kept_are_none_and_unknown_ones_a_key_error() -> None:
    batch = TickBatch(Instruments(), ids=False)
    assert [batch.column(name) for name in ("first_id", "last_id", "count", "sequence")] == [None] * 4
    with pytest.raises(KeyError, match="unknown column 'volume'"):
        batch.column("volume")


def test_a_sequence_is_the_first_id_unless_given() -> None:
    batch = TickBatch(Instruments(), counts=True, sequences=True)
    batch.append("A", 0, 1, 1, first_id=7, last_id=9)
    batch.append("A", 0, 1, 1, first_id=10, sequence=3)
    assert column(batch, "sequence") == [7, 3]


def test_a_count_is_the_span_of_the_ids_unless_given() -> None:
    batch = TickBatch(Instruments(), counts=True)
    batch.append("A", 0, 1, 1, first_id=7, last_id=9)
    batch.append("A", 0, 1, 1, first_id=10, last_id=19, count=4)
    assert column(batch, "count") == [3, 4]


def test_an_aggregated_trade_needs_a_count_column() -> None:
    batch = TickBatch(Instruments())
    with pytest.raises(InvalidTickError, match="A: this batch has no count column"):
        batch.append("A", 0, 1, 1, first_id=7, last_id=9)
    assert len(batch) == 0


def test_a_column_is_a_view_that_cannot_be_written() -> None:
    batch = TickBatch(Instruments(), ids=False)
    batch.append("A", 0, 1, 1)
    prices = batch.column("price")
    assert prices is not None
    with pytest.raises(ValueError, match="read-only"):
        prices[0] = 2


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("A", 0, "0", "1"), InvalidTickError, "okx A: price 0 is not positive"),
        (("A", 0, "1", "-2"), InvalidTickError, "okx A: size -2 is not positive"),
        (("A", 0, "1", "1", 2), InvalidTickError, "okx A: side 2 is not 1, 0 or -1"),
        (("A", 0, "1", "1", 0, None), InvalidTickError, "okx A: the trade has no id"),
        (("A", 0, "x", "1", 0, 1), PrecisionError, "okx A: 'x' is not a finite decimal number"),
        (("A", 0, "1", "1e-19", 0, 1), PrecisionError, "okx A: '1e-19' needs more than 18 decimals"),
        (("A", 0, "1", "1", 0, 1, 1, 2), InvalidTickError, "okx A: this batch has no count column"),
        (("A", 0, 1.5, "1", 0, 1), TypeError, "str, bytes, int or Decimal, not float"),
        (("A", 2**63, "1", "1", 0, 1), OverflowError, "too large"),
        (("A", 0, "1", "1", 0, 2**63), OverflowError, "too large|too big"),
    ],
)
def test_a_refused_row_leaves_the_batch_unchanged(
    arguments: tuple[object, ...], error: type[Exception], message: str
) -> None:
    batch = TickBatch(Instruments("okx"))
    batch.append("A", 0, "1", "1", 0, 0)
    with pytest.raises(error, match=message):
        batch.append(*arguments)  # type: ignore[arg-type]
    assert len(batch) == 1
    assert batch.instruments.scales("A") == (0, 0)


def test_a_price_that_does_not_fit_beside_what_was_seen_is_refused_with_both_sides() -> None:
    batch = TickBatch(Instruments("okx"), ids=False)
    batch.append("A", 0, "5000000000000000000", "5000000000000000000")
    with pytest.raises(
        PrecisionError, match=r"okx A: price 0\.25 needs 2 decimals, but prices up to 5000000000000000000"
    ):
        batch.append("A", 0, "0.25", "1")
    with pytest.raises(
        PrecisionError, match=r"okx A: size 0\.25 needs 2 decimals, but sizes up to 5000000000000000000"
    ):
        batch.append("A", 0, "1", "0.25")
    assert batch.instruments.scales("A") == (0, 0)
    assert column(batch, "price") == column(batch, "size") == [5 * 10**18]


def test_a_batch_keeps_its_scales_while_others_are_widened() -> None:
    instruments = Instruments()
    first, second = TickBatch(instruments, ids=False), TickBatch(instruments, ids=False)
    first.append("A", 0, "1", "1")
    second.append("A", 0, "1.5", "1")
    first.append("A", 0, "2", "1")
    assert (column(first, "price"), first.scales("A")) == ([1, 2], (0, 0))
    assert (column(second, "price"), second.scales("A")) == ([15], (1, 0))
    assert instruments.scales("A") == (0, 0)
    instruments.add("A", 3)
    first.append("A", 0, "1.25", "1")
    assert (column(first, "price"), first.scales("A")) == ([100, 200, 125], (2, 0))
    first.clear()
    first.append("A", 0, "1", "1")
    assert (column(first, "price"), first.scales("A")) == ([1000], (3, 0))


def test_a_batch_built_before_a_widening_is_taken_for_what_it_says_and_so_are_its_parts() -> None:
    for rows in (2, 1):
        buffer = BarBuffer("1m")
        stale = TickBatch(buffer.instruments, ids=False)
        stale.append("A", 0, "1.5", "1")
        stale.append("A", 1, "1.5", "0.25")
        buffer.instruments.add("A", price_scale=2)
        assert stale.part(0, rows).scales("A") == stale.without(0).scales("A") == stale.scales("A") == (1, 2)
        buffer.add_batch(stale.part(0, rows))
        (bar,) = buffer.flush_all()
        assert (bar.open, bar.volume) == (Decimal("1.5"), Decimal("1.25") if rows == 2 else Decimal(1))


def test_columns_given_before_a_widening_are_taken_for_what_they_say() -> None:
    buffer = BarBuffer("1m")
    buffer.instruments.add("A", 1)
    batch = TickBatch.from_columns(buffer.instruments, time_ns=[0, 1], symbol_id=[0, 0], price=[15, 25], size=[1, 1])
    buffer.instruments.add("A", 4, 4)
    buffer.add_batch(batch)
    (bar,) = buffer.flush_all()
    assert (bar.open, bar.close, bar.volume) == (Decimal("1.5"), Decimal("2.5"), Decimal(2))


def test_a_batch_of_other_instruments_is_refused() -> None:
    batch = TickBatch(Instruments(), ids=False)
    with pytest.raises(InvalidTickError, match="other instruments"):
        BarBuffer("1m").add_batch(batch)


# From columns.


def instruments_of_two() -> Instruments:
    instruments = Instruments("okx")
    instruments.add("A")
    instruments.add("B", 2, 3)
    return instruments


COLUMNS = {"time_ns": [0, 1], "symbol_id": [0, 1], "price": [100, 200], "size": [1, 2]}


def test_columns_of_any_integer_dtype_and_layout_are_taken() -> None:
    wide = np.arange(20, dtype=np.uint16)[::2] + 1
    batch = TickBatch.from_columns(
        instruments_of_two(), time_ns=wide, symbol_id=np.zeros(10, np.uint8), price=wide, size=wide
    )
    assert column(batch, "price") == list(range(1, 21, 2))


def test_columns_of_the_right_dtype_are_wrapped_without_a_copy() -> None:
    price = np.array([1, 2], np.int64)
    batch = TickBatch.from_columns(instruments_of_two(), **(COLUMNS | {"price": price}))
    view = batch.column("price")
    assert view is not None
    assert np.shares_memory(view, price)


def test_appending_to_wrapped_columns_never_writes_into_the_callers_memory() -> None:
    price = np.array([100, 200], np.int64)
    for clear in (False, True):
        batch = TickBatch.from_columns(instruments_of_two(), **(COLUMNS | {"price": price}))
        if clear:
            batch.clear()
        batch.append("A", 5, "7.25", "1")
        assert price.tolist() == [100, 200]
        assert column(batch, "price") == ([725] if clear else [10000, 200, 725])


def test_a_part_that_is_cleared_and_filled_again_leaves_its_origin_alone() -> None:
    batch = TickBatch(Instruments(), ids=False)
    batch.append("A", 0, 1, 1)
    batch.append("A", 0, 2, 1)
    part = batch.part(0, 2)
    part.clear()
    part.append("A", 0, 9, 1)
    assert (column(batch, "price"), column(part, "price")) == ([1, 2], [9])


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"volume": [1, 1]}, TypeError, "unknown columns .'volume'."),
        ({"price": None}, TypeError, "columns .'price'. are missing"),
        ({"first_id": [1, 2]}, TypeError, "first_id and last_id are given together"),
        ({"size": [1]}, InvalidTickError, "column size has 1 rows, the columns before it have 2"),
        ({"size": [[1], [2]]}, InvalidTickError, "column size has 2 dimensions, not 1"),
        ({"size": [1.0, 2.0]}, InvalidTickError, "column size has dtype float64, it must hold integers"),
        ({"symbol_id": [0, 2**31]}, InvalidTickError, "row 1: symbol_id 2147483648 is outside"),
        ({"side": [0, 200]}, InvalidTickError, "row 1: side 200 is outside -128 to 127"),
        ({"price": np.array([1, 2**63], np.uint64)}, InvalidTickError, "row 1: price 9223372036854775808 is outside"),
    ],
)
def test_wrong_columns_are_refused(changed: dict[str, object], error: type[Exception], message: str) -> None:
    columns: dict[str, object] = COLUMNS | changed
    with pytest.raises(error, match=message):
        TickBatch.from_columns(instruments_of_two(), **columns)  # type: ignore[arg-type]


EARLIEST, LATEST = -4_600_000_000_000_000_000, 4_600_000_000_000_000_000


@pytest.mark.parametrize(
    ("name", "value", "valid"),
    [
        ("time_ns", EARLIEST - 1, EARLIEST),
        ("time_ns", LATEST + 1, LATEST),
        ("price", 0, 1),
        ("size", -1, 1),
        ("side", 2, 1),
        ("side", -2, -1),
        ("count", 0, 1),
        ("count", 2**48, 2**48 - 1),
        ("first_id", -1, 0),
        ("last_id", 2**63 - 1, 2**63 - 2),
        ("last_id", 8, 9),
    ],
)
def test_the_last_valid_value_is_taken_and_the_next_one_refused_by_row_and_name(
    name: str, value: int, valid: int
) -> None:
    buffer = BarBuffer(["1m", "100y", "36600d"], ids="contiguous", exchange="okx")
    buffer.instruments.add("A")
    columns = {
        "time_ns": [0, 0], "symbol_id": [0, 0], "price": [1, 1], "size": [1, 1], "side": [0, 0],
        "first_id": [0, 9], "last_id": [8, 9], "count": [1, 1],
    }  # fmt: skip
    columns[name] = [columns[name][0], value]
    message = f"okx A: row 1: {'last_id' if name == 'last_id' else name} {value} is not"
    with pytest.raises(InvalidTickError, match=message) as caught:
        buffer.add_batch(TickBatch.from_columns(buffer.instruments, **columns))
    assert caught.value.row == 1
    columns[name] = [valid if name == "time_ns" else columns[name][0], valid]
    if name == "first_id":
        columns["first_id"], columns["last_id"] = [valid, 9], [8, 9]
    buffer.add_batch(TickBatch.from_columns(buffer.instruments, **columns))
    assert buffer.stats.trades == 2
    for bar in buffer.flush_all():
        assert bar.open_time < bar.close_time


def test_ids_are_needed_where_they_are_to_prove_completeness() -> None:
    buffer = BarBuffer("1m", ids="contiguous")
    with pytest.raises(InvalidTickError, match="no first_id column"):
        buffer.add_batch(TickBatch.from_columns(buffer.instruments, time_ns=[0], symbol_id=[0], price=[1], size=[1]))


def test_part_and_without_keep_every_column_of_the_rows_that_stay() -> None:
    batch = TickBatch(Instruments(), counts=True, sequences=True)
    for number in range(4):
        batch.append("A", number, number + 1, number + 2, -1, 10 * number, 10 * number + 3, 4, 100 + number)
    part, rest = batch.part(1, 3), batch.without(2)
    for name in ("time_ns", "symbol_id", "price", "size", "side", "first_id", "last_id", "count", "sequence"):
        whole = column(batch, name)
        assert column(part, name) == whole[1:3]
        assert column(rest, name) == whole[:2] + whole[3:]
    with pytest.raises(IndexError, match="row 4 is outside 0 to 3"):
        batch.without(4)


def test_an_empty_batch_issues_nothing() -> None:
    buffer = BarBuffer("1m", ids="contiguous")
    assert buffer.add_batch(buffer.new_batch()) == []
    nothing = TickBatch.from_columns(
        buffer.instruments, **{name: np.empty(0, np.int64) for name in ("time_ns", "symbol_id", "price", "size")}
    )
    assert buffer.add_batch(nothing) == []
    assert column(nothing, "price") == []


@pytest.mark.parametrize("field", ["time_ns", "first_id", "last_id", "count", "sequence"])
def test_a_float_where_an_integer_belongs_is_refused_and_the_batch_is_as_it_was(field: str) -> None:
    batch = TickBatch(Instruments(), counts=True, sequences=True)
    row: dict[str, Any] = {"time_ns": 1, "first_id": 1, "last_id": 1, "count": 1, "sequence": 1} | {field: 1.5}
    with pytest.raises(TypeError, match="float"):
        batch.append("A", price=1, size=1, **row)
    assert len(batch) == 0
