"""Columns of trades of every kind: the same symbols and numbers as plain Python makes of the values one by one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import example, given, settings, strategies as st

from examples import examples
from fastbars import BarBatch, aggregate
from fastbars.columnar.columns import (
    Encoder,
    Texts,
    first_outside,
    integers_of,
    look_up,
    narrow_decimals,
    narrow_letters,
    number_anew,
    numbers_of_objects,
    round_floats,
)
from fastbars.errors import InvalidTickError, PrecisionError
from fastbars.kernel.batch import TickBatch
from fastbars.kernel.instruments import Instruments
from fastbars.kernel.scaled import parse

LETTERS = st.text("AB0-\u00e9\u20ac\U0001f600", max_size=20) | st.text(max_size=40)
# Alike but for one place, at every length about those that are held in words.
ALIKE = st.builds(
    lambda length, place, letter: "".join(letter if i == place else "X" for i in range(length)),
    st.integers(0, 40), st.integers(0, 40), st.sampled_from("YZ"),
)  # fmt: skip
NAMES = st.lists(LETTERS | ALIKE, min_size=1, max_size=40).map(
    lambda names: [name.replace("\0", "") for name in names]
)  # fmt: skip


def of(column: Any, rows: int) -> BarBatch:
    """A bar a trade, of the trade's symbol."""
    return aggregate(np.arange(rows), np.ones(rows, int), np.ones(rows, int), symbol=column, bars="tick:1")


def dictionary(names: list[str], bits: int = 16) -> Any:
    values = ["unused", *dict.fromkeys(names), "not used, either"]
    codes = [values.index(name, 1) for name in names]
    return pa.DictionaryArray.from_arrays(pa.array(codes, {8: pa.int8(), 16: pa.int16()}[bits]), pa.array(values))


def halves(array: Any) -> Any:
    return pa.chunked_array(
        [array[: len(array) // 2], array[len(array) // 2 : len(array) // 2], array[len(array) // 2 :]]
    )


KINDS: dict[str, Callable[[list[str]], Any]] = {
    "string": lambda names: pa.array(names, pa.string()),
    "large_string": lambda names: pa.array(names, pa.large_string()),
    "string_view": lambda names: pa.array(names, pa.string_view()),
    "slice": lambda names: pa.array(["before", *names, "behind"], pa.string())[1:-1],
    "slice of views": lambda names: pa.array(["before and before", *names, "behind"], pa.string_view())[1:-1],
    "chunks": lambda names: halves(pa.array(names, pa.string())),
    "dictionary": dictionary,
    "slice of a dictionary": lambda names: dictionary(["A", *names, "B"])[1:-1],
    "chunks with dictionaries of their own": lambda names: pa.chunked_array(
        [dictionary(names[:3], 8), dictionary(names[3:], 8)]
    ),
    "list": list,
    "tuple": tuple,
    "objects": lambda names: np.array(names, object),
    "every other object": lambda names: np.array([each for name in names for each in (name, "else")], object)[::2],
    "bytes": lambda names: [name.encode() for name in names],
    "objects of bytes": lambda names: np.array([name.encode() for name in names], object),
    "numpy text": np.array,
    "polars": pl.Series,
    "polars, categorical": lambda names: pl.Series(names).cast(pl.Categorical),
    "pandas": pd.Series,
    "pandas, objects": lambda names: pd.Series(names, dtype=object),
    "pandas, string": lambda names: pd.Series(names, dtype="string"),
    "pandas, category": lambda names: pd.Series(names, dtype="category"),
    "run ends": lambda names: pa.RunEndEncodedArray.from_arrays(pa.array(range(1, len(names) + 1), pa.int32()), names),
}


@pytest.mark.parametrize("kind", KINDS)
@given(NAMES)
@settings(max_examples=examples(60))
@example(["A", "B", "A", "", "AA", "A" * 16, "A" * 17, "A" * 15])
@example([f"S{number}" for number in range(700)])
def test_symbols_of_every_kind_are_numbered_as_they_first_occur(kind: str, names: list[str]) -> None:
    if "dictionaries" in kind:
        names = names[:100]
    made = of(KINDS[kind](names), len(names))
    known = list(dict.fromkeys(names))
    if "dictionar" in kind or kind == "run ends" or "categor" in kind:
        # By the place in the dictionary, of which those that no row has are left out.
        assert sorted(made.instruments.symbols) == sorted(known)
    else:
        assert list(made.instruments.symbols) == known
    symbols = made.to_numpy()["symbol"].tolist() if len(made) else []
    order = np.argsort(made.rows["first_time"], kind="stable")
    assert [symbols[place] for place in order] == names


@given(NAMES, st.booleans())
def test_objects_and_texts_get_the_same_numbers_from_one_encoder(names: list[str], objects_first: bool) -> None:
    encoder = Encoder()
    kept = encoder.names
    ids = [np.full(len(names), -9, np.int32) for _ in range(3)]
    texts = Texts.fixed(np.array([name.encode() for name in names], "S160"))
    steps: list[Callable[[], Any]] = [
        lambda: encoder.encode(texts, ids[0]),
        lambda: encoder.encode_objects(np.array(names, object), ids[1]),
    ]
    for step in steps[:: -1 if objects_first else 1]:
        step()
    assert encoder.encode_objects([name.encode() for name in names], ids[2]) == -1
    known = list(dict.fromkeys(names))
    assert [name.decode() for name in encoder.names] == known
    assert ids[0].tolist() == ids[1].tolist() == ids[2].tolist() == [known.index(name) for name in names]
    assert kept == []  # a copy: what is done to it does not reach the table
    encoder.names.clear()
    assert len(encoder.names) == len(known)


class Text(str):
    __slots__ = ()

    def __hash__(self) -> int:
        raise AssertionError("the text decides, not what a class makes of it")


def test_symbols_of_odd_texts_are_taken_or_refused_with_their_row() -> None:
    names = ["A", Text("A"), np.str_("A"), b"A", "\udc80", "\udc80", "B"]
    made = of(np.array(names, object), len(names))
    assert made.instruments.symbols == ("A", "\udc80", "B")
    assert made.rows["symbol_id"].tolist() == [0, 0, 0, 0, 1, 1, 2]
    for column in (["A", 5], np.array(["A", 5], object), ["A", None], np.array(["A", None], object), ["A", 1.5]):
        with pytest.raises(InvalidTickError, match=r"row 1: symbol .* is not text") as raised:
            of(column, 2)
        assert raised.value.row == 1
    with pytest.raises(UnicodeDecodeError):
        of(np.array(["A", b"\xff"], object), 2)
    with pytest.raises(InvalidTickError, match="is not UTF-8"):
        of(pa.array([b"A", b"\xff"], pa.binary()), 2)
    with pytest.raises(InvalidTickError, match="column symbol has 2 rows, time_ns has 3"):
        of(["A", "B"], 3)


def test_objects_that_were_never_set_are_no_text() -> None:
    ids = np.zeros(2, np.int32)
    assert Encoder().encode_objects(np.empty(2, object), ids) == 0
    assert Encoder().encode_objects([], ids[:0]) == -1


@pytest.mark.parametrize("count", [255, 256, 257, 511, 512, 513, 70_000])
def test_every_number_of_symbols_finds_room_in_the_table(count: int) -> None:
    names = [f"{number * 7919:x}/{'USDT' * (number % 6)}" for number in range(count)]
    ids = np.zeros(count, np.int32)
    encoder = Encoder()
    for _ in range(2):
        assert encoder.encode_objects(names, ids) == -1
        assert ids.tolist() == list(range(count))


def test_texts_lie_beyond_two_gigabytes() -> None:
    start = 2**31 + 5
    try:
        data = np.empty(start + 8, np.uint8)  # untouched but for its end
    except MemoryError:
        pytest.skip("there is no address space for it")
    data[start:] = np.frombuffer(b"ETHUSDT!", np.uint8)
    texts = Texts.offsets(np.array([start, start + 3, start + 7, start + 8, start + 9]), data, 0, 4)
    ids = np.zeros(4, np.int32)
    encoder = Encoder()
    with pytest.raises(InvalidTickError, match="text 3 leads out of its buffer"):
        encoder.encode(texts, ids)
    assert encoder.names == [b"ETH", b"USDT", b"!"]
    assert ids.tolist()[:3] == [0, 1, 2]


@given(
    st.sampled_from([np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]),
    st.lists(st.integers(-3, 100), max_size=60), st.integers(0, 110),
)  # fmt: skip
@example(np.int8, [5] * 9000 + [-1], 6)
@example(np.uint64, [5] * 9000 + [6], 6)
@example(np.int64, [5] * 4096, 6)
def test_codes_of_every_width_are_looked_up(dtype: Any, values: list[int], count: int) -> None:
    codes = np.array([value % 256 if dtype is np.uint8 else max(value, np.iinfo(dtype).min) for value in values], dtype)
    wrong = [place for place, code in enumerate(codes.tolist()) if not 0 <= code < count]
    assert first_outside(codes, count) == (wrong[0] if wrong else -1)
    ids, places = np.zeros(len(codes), np.int32), np.arange(count, dtype=np.int32)[::-1].copy()
    if wrong:
        with pytest.raises(IndexError, match=f"row {wrong[0]}: its code is outside 0 to {count - 1}"):
            look_up(codes, places, ids)
        return
    look_up(codes, places, ids)
    assert ids.tolist() == [count - 1 - code for code in codes.tolist()]
    used = number_anew(ids, count)
    assert used.tolist() == sorted({count - 1 - code for code in codes.tolist()})
    assert used[ids].tolist() == [count - 1 - code for code in codes.tolist()]


def test_numbers_outside_of_their_range_are_refused() -> None:
    for ids, count in (([3], 3), ([-1], 3), ([0], 0), ([2**31 - 1], 2**20)):
        with pytest.raises(ValueError, match="an id is outside"):
            number_anew(np.array(ids, np.int32), count)
    with pytest.raises(ValueError, match="-1 ids"):
        number_anew(np.zeros(1, np.int32), -1)
    with pytest.raises(ValueError, match="columns differ in length"):
        look_up(np.zeros(2, np.int8), np.zeros(1, np.int32), np.zeros(1, np.int32))


@given(st.lists(st.integers(0, 0x10FFFF), max_size=9000))
@example([127] * 9000)
@example([127] * 8999 + [128])
@example([128] + [65] * 9000)
@example([0x10041])
def test_letters_are_narrowed_where_all_are_ascii(letters: list[int]) -> None:
    narrow = np.zeros(len(letters), np.uint8)
    ascii_only = narrow_letters(np.array(letters, np.uint32), narrow)
    assert ascii_only == all(letter < 128 for letter in letters)
    if ascii_only:
        assert narrow.tolist() == letters


# Sides.


@pytest.mark.parametrize("make", [list, lambda sides: np.array(sides, object), np.array, pa.array, pl.Series])
def test_sides_as_texts_are_looked_up(make: Callable[[list[str]], Any]) -> None:
    sides = ["buy", "sell", "unknown", "sell", "BUY", "buy"]
    rows = len(sides)
    made: Any = aggregate(np.arange(rows), [1] * rows, [1] * rows, side=make(sides), bars="tick:1")
    assert [bar.taker_buy_volume for bar in made] == [1, 0, 0, 0, 1, 1]
    with pytest.raises(InvalidTickError, match="row 3: side 'long'") as raised:
        aggregate(np.arange(rows), [1] * rows, [1] * rows, side=make([*sides[:3], "long", "short", "buy"]))
    assert raised.value.row == 3


# Numbers.


@given(st.lists(st.integers(-(2**64), 2**64) | st.integers(-100, 100) | st.booleans() | st.floats(0, 1), max_size=9))
def test_a_list_of_integers_is_a_column_or_left_to_numpy(values: list[Any]) -> None:
    fits = [type(value) is int and -(2**63) <= value < 2**63 for value in values]
    for given_values in (values, tuple(values)):
        made = integers_of(given_values)
        if values and all(fits):
            assert made is not None
            assert (made.dtype, made.tolist()) == (np.dtype(np.int64), values)
        else:
            assert made is None
    assert integers_of(np.array([1, 2])) is None


def smallest(value: Fraction) -> int:
    return next(scale for scale in range(77) if (value * 10**scale).denominator == 1)


@given(
    st.lists(st.tuples(st.integers(-(2**63) + 1, 2**63 - 1) | st.integers(-5000, 5000), st.integers(0, 2)), min_size=1),
    st.sampled_from([4, 8, 16]), st.integers(0, 18), st.booleans(),
)  # fmt: skip
@settings(max_examples=examples(400))
@example([(150, 0), (125, 0), (150, 0), (100, 1)], 16, 2, False)
@example([(0, 0), (0, 0)], 8, 18, False)
def test_decimals_take_no_more_digits_than_their_symbol_needs(
    rows: list[tuple[int, int]], width: int, scale: int, signed: bool
) -> None:
    bound = 2 ** (8 * width - 1) - 1
    numbers = [max(-bound, min(bound, number)) for number, _ in rows]
    data = np.frombuffer(b"".join(number.to_bytes(width, "little", signed=True) for number in numbers), np.uint8)
    symbols = np.array([symbol for _, symbol in rows], np.int32)
    mantissas, scales = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int8)
    failed = narrow_decimals(data, width, scale, mantissas, scales, symbols, signed)
    negative = [place for place, number in enumerate(numbers) if number < 0 and not signed]
    assert failed == (negative[0] if negative else -1)
    count = negative[0] if negative else len(rows)
    needed = [smallest(Fraction(number, 10**scale)) for number in numbers[:count]]
    for place in range(count):
        assert Fraction(int(mantissas[place]), 10 ** int(scales[place])) == Fraction(numbers[place], 10**scale)
        same = [own for own, symbol in zip(needed, symbols[: place + 1], strict=False) if symbol == symbols[place]]
        assert needed[place] <= scales[place] <= max(same)


def test_decimals_of_a_symbol_whose_digits_are_known_are_taken_as_they_stand() -> None:
    data = np.frombuffer(b"".join(number.to_bytes(16, "little") for number in (125, 150, 100, 100)), np.uint8)
    mantissas, scales = np.zeros(4, np.int64), np.zeros(4, np.int8)
    assert narrow_decimals(data, 16, 2, mantissas, scales, np.array([0, 0, 0, 1], np.int32)) == -1
    assert mantissas.tolist() == [125, 150, 100, 1]  # the last is the first of its symbol
    assert scales.tolist() == [2, 2, 2, 0]


@given(st.lists(st.tuples(st.integers(1, 10**9), st.sampled_from("AB")), min_size=1, max_size=8), st.integers(0, 6))
def test_decimals_and_texts_give_the_same_scales_and_bars(rows: list[tuple[int, str]], scale: int) -> None:
    texts = [format(Decimal(number).scaleb(-scale), "f") for number, _ in rows]
    names = [name for _, name in rows]
    columns = [
        texts, [Decimal(text) for text in texts], pa.array(texts), pa.array(texts).dictionary_encode(),
        pa.array([Decimal(text) for text in texts], pa.decimal128(18, 6)),
        halves(pa.array([Decimal(text) for text in texts], pa.decimal128(38, 20))),
        pa.array([Decimal(text) for text in texts], pa.decimal64(18, 6)), np.array(texts), np.array(texts, object),
    ]  # fmt: skip
    made = [aggregate(np.arange(len(rows)), column, [1] * len(rows), symbol=names, bars="tick:1") for column in columns]
    for batch in made[1:]:
        assert batch.rows.tobytes() == made[0].rows.tobytes()
        assert [batch.instruments.scales(name) for name in batch.instruments.symbols] == [
            made[0].instruments.scales(name) for name in made[0].instruments.symbols
        ]


def test_a_decimal_that_does_not_fit_its_symbols_scale_is_named_without_idle_zeros() -> None:
    texts = ["0.5", "9000000000000000000", "0.25"]
    for column in (texts, pa.array([Decimal(text) for text in texts], pa.decimal128(38, 4))):
        with pytest.raises(
            PrecisionError, match=r"row 1: price Decimal\('9000000000000000000'\) does not fit at scale 2"
        ):
            aggregate([0, 1, 2], column, [1, 1, 1])
    texts = ["0.25", "90000000000000000.5", "0.0025"]
    with pytest.raises(PrecisionError, match=r"row 1: price Decimal\('90000000000000000.5'\) does not fit at scale 4"):
        aggregate([0, 1, 2], pa.array([Decimal(text) for text in texts], pa.decimal128(38, 4)), [1, 1, 1])


def test_more_decimals_than_times_are_refused() -> None:
    column = halves(pa.array([Decimal("1.5")] * 9, pa.decimal128(9, 2)))
    with pytest.raises(InvalidTickError, match="column price has 9 rows, time_ns has 3"):
        aggregate([0, 1, 2], column, [1, 1, 1])


@given(
    st.lists(
        st.decimals(allow_nan=True, allow_infinity=True, places=3) | st.integers(-(2**70), 2**70) | st.text(max_size=4)
        | st.none() | st.floats() | st.booleans() | st.integers(0, 10**6).map(str),
        max_size=6,
    ),
    st.booleans(),
)  # fmt: skip
@settings(max_examples=examples(200))
def test_objects_are_read_as_single_numbers_are(values: list[Any], signed: bool) -> None:
    column = np.empty(len(values), object)
    column[:] = values
    mantissas, scales = np.zeros(len(values), np.int64), np.zeros(len(values), np.int8)
    failed = numbers_of_objects(column, mantissas, scales, signed)
    for place, value in enumerate(values):
        wanted: tuple[int, int] | None = None
        with suppress(PrecisionError, TypeError):
            wanted = parse(value)
        if wanted is None or (wanted[0] < 0 and not signed):
            assert failed == place
            return
        assert (mantissas[place], scales[place]) == wanted
    assert failed == -1


def nearest_of(value: float, scale: int) -> int:
    nearest: int = round(Fraction(value) * 10**scale)
    return nearest


@given(
    st.lists(st.floats(-1e15, 1e15) | st.integers(-(10**9), 10**9).map(lambda n: n / 8), max_size=8), st.integers(0, 18)
)
@settings(max_examples=examples(400))
@example([0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 0.49999999999999994, -0.49999999999999994], 0)
@example([2.0**50 - 0.5, 2.0**50, 2.0**50 + 0.5, 2.0**50 - 0.125, -(2.0**50) + 0.5, 2.0**51 + 0.5, 2.0**52 + 1], 0)
@example([1.005, 1.115, 2.675, 1.0000000000000002, 0.285, -1.005], 2)
def test_floats_are_rounded_as_their_exact_values(values: list[float], scale: int) -> None:
    kept = [value for value in values if abs(nearest_of(value, scale)) < 9_223_372_036_854_700_000]
    mantissas = np.zeros(len(kept), np.int64)
    assert round_floats(np.array(kept), scale, mantissas) == -1
    assert mantissas.tolist() == [nearest_of(value, scale) for value in kept]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 1e19, -1e19])
def test_floats_that_are_no_number_of_64_bits_stop_it_there(bad: float) -> None:
    assert round_floats(np.array([1.0, 2.0, bad, 3.0]), 0, np.zeros(4, np.int64)) == 2


# Ids.


@pytest.mark.parametrize("dtype", [np.uint64, np.int32, np.int64])
def test_one_column_of_ids_stays_one(dtype: Any) -> None:
    # The kernel has a shorter way for rows of one id each, and knows them by their memory.
    numbers: npt.NDArray[Any] = np.arange(3).astype(dtype)
    instruments = Instruments()
    instruments.add("A")
    columns = {name: np.ones(3, np.int64) for name in ("time_ns", "price", "size")}
    columns |= {"symbol_id": np.zeros(3, np.int32), "first_id": numbers, "last_id": numbers}
    batch = TickBatch.wrap(instruments, columns)
    first, last = batch.column("first_id"), batch.column("last_id")
    assert first is not None
    assert last is not None
    assert np.shares_memory(first, last)
    apart = TickBatch.wrap(instruments, columns | {"last_id": numbers + 1})
    last = apart.column("last_id")
    assert last is not None
    assert last.tolist() == [1, 2, 3]
    assert not np.shares_memory(first, last)
