"""Arrow columns: every type is read or refused by its name, nulls are found wherever they hide, and nothing crashes."""

from __future__ import annotations

import ctypes
import inspect
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from fastbars import FastbarsError, InvalidTickError, PrecisionError, aggregate
from fastbars.columnar.arrow import read_column, type_name
from fastbars.columnar.capsules import read_arrays

SECOND = 1_000_000_000
PRICES = ["1.50", "100", "0.25"]
NAMES = ["A", "a symbol longer than twelve bytes", "A"]
READ = "read"


def bars(column: str, values: Any) -> list[Any]:
    columns: dict[str, Any] = {
        "time_ns": [0, SECOND, 61 * SECOND],
        "price": PRICES,
        "size": ["1", "2", "3"],
        "symbol": NAMES,
        "side": [1, -1, 0],
        "trade_id": [7, 1, 8],
    }
    return aggregate(**{**columns, column: values}).to_bars()


# Every type factory of pyarrow, with one array of three values each: for which columns it can be read. "" where none.

DECIMALS = [Decimal(price) for price in PRICES]
SCALARS: dict[str, tuple[Any, str]] = {
    "null": (pa.nulls(3), ""),
    "bool_": (pa.array([True, False, True]), "side"),
    **{name: (pa.array([1, 0, 1], getattr(pa, name)()), "side trade_id symbol time_ns price size") for name in (
        "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")},
    **{name: (pa.array(np.array([1.5, 100, 0.25], np.float64)).cast(getattr(pa, name)()), "float") for name in (
        "float16", "float32", "float64")},
    **{name: (pa.array(PRICES, getattr(pa, name)()), "price size symbol") for name in (
        "string", "utf8", "large_string", "large_utf8", "string_view")},
    **{name: (pa.array([price.encode() for price in PRICES], getattr(pa, name)()), "price size symbol") for name in (
        "binary", "large_binary", "binary_view")},
    "fixed_size_binary": (pa.array([b"1.5", b"100", b"0.2"], pa.binary(3)), ""),
    **{name: (pa.array(DECIMALS, getattr(pa, name)(9, 2)), "price size") for name in (
        "decimal32", "decimal64", "decimal128")},
    "decimal256": (pa.array(DECIMALS, pa.decimal256(50, 2)), ""),
    "date32": (pa.array([0, 1, 2], pa.int32()).cast(pa.date32()), "time_ns"),
    "date64": (pa.array([0, 86_400_000, 172_800_000], pa.int64()).cast(pa.date64()), "time_ns"),
    "time32": (pa.array([0, 1, 2], pa.int32()).cast(pa.time32("s")), ""),
    "time64": (pa.array([0, 1, 2], pa.int64()).cast(pa.time64("ns")), ""),
    "timestamp": (pa.array([0, 1, 2], pa.timestamp("ms", "Asia/Tokyo")), "time_ns"),
    "duration": (pa.array([0, 1, 2], pa.duration("us")), ""),
    "month_day_nano_interval": (pa.array([(1, 2, 3)] * 3, pa.month_day_nano_interval()), ""),
    "list_": (pa.array([[1], [2], [3]]), ""),
    "large_list": (pa.array([[1], [2], [3]], pa.large_list(pa.int64())), ""),
    "list_view": (pa.array([[1], [2], [3]], pa.list_view(pa.int64())), ""),
    "large_list_view": (pa.array([[1], [2], [3]], pa.large_list_view(pa.int64())), ""),
    "map_": (pa.array([[("a", 1)]] * 3, pa.map_(pa.string(), pa.int64())), ""),
    "struct": (pa.array([{"a": 1, "b": 2}] * 3), ""),
    "dense_union": (pa.UnionArray.from_dense(
        pa.array([0, 0, 0], pa.int8()), pa.array([0, 1, 2], pa.int32()), [pa.array([1, 2, 3])]), ""),
    "sparse_union": (pa.UnionArray.from_sparse(pa.array([0, 0, 0], pa.int8()), [pa.array([1, 2, 3])]), ""),
    "union": (pa.UnionArray.from_sparse(pa.array([0, 0, 0], pa.int8()), [pa.array([1, 2, 3])]), ""),
    "dictionary": (pa.array(PRICES).dictionary_encode(), "price size symbol"),
    "run_end_encoded": (pa.RunEndEncodedArray.from_arrays(pa.array([1, 2, 3], pa.int32()), pa.array(PRICES)),
                        "price size symbol"),
    "bool8": (pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1, 0, 1], pa.int8())), "side"),
    "uuid": (pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"0" * 16] * 3, pa.binary(16))), ""),
    "json_": (pa.ExtensionArray.from_storage(pa.json_(), pa.array(PRICES)), ""),
    "opaque": (pa.ExtensionArray.from_storage(pa.opaque(pa.int64(), "x", "y"), pa.array([1, 2, 3])), ""),
    "fixed_shape_tensor": (pa.ExtensionArray.from_storage(
        pa.fixed_shape_tensor(pa.int64(), [1]), pa.array([[1], [2], [3]], pa.list_(pa.int64(), 1))), ""),
}  # fmt: skip
# Makes no type of a column.
NO_TYPES = {"field", "schema", "type_for_alias", "from_numpy_dtype", "infer_type", "unify_schemas"}


def factories() -> set[str]:
    """pyarrow's own functions that make a type."""
    makers = set()
    for name, made in vars(pa.types.lib).items():
        if not name.startswith("_") and callable(made) and not inspect.isclass(made) and hasattr(pa, name):
            doc = inspect.getdoc(made) or ""
            if "DataType" in doc.split("Returns", 1)[-1][:200] or "Create instance of" in doc[:80]:
                makers.add(name)
    return makers - NO_TYPES


def test_every_type_that_pyarrow_makes_is_tried() -> None:
    missing = {name for name in factories() if name not in SCALARS and name.rstrip("_") not in SCALARS}
    assert missing == set()
    assert len(factories()) > 30


def tried(column: str, values: Any) -> Any:
    """The bars, or the refusal; anything else is an error of ours."""
    columns: dict[str, Any] = {"time_ns": [0, SECOND, 61 * SECOND], "price": PRICES, "size": ["1", "2", "3"]}
    if column in ("price", "size"):
        columns[f"{column}_scale"] = 4
    try:
        return aggregate(**{**columns, column: values}, sort=True)
    except (InvalidTickError, PrecisionError) as error:
        return error


@pytest.mark.parametrize("column", ["time_ns", "price", "size", "symbol", "side", "trade_id"])
@pytest.mark.parametrize("name", SCALARS)
def test_every_type_is_read_or_refused_by_its_name(name: str, column: str) -> None:
    array, readable = SCALARS[name]
    whole = tried(column, array)
    if readable == "float":
        readable = "price size"
    if column in readable.split():
        if isinstance(whole, FastbarsError):  # values that break a rule, such as a price of 0
            assert getattr(whole, "row", None) is not None, whole
        else:
            assert sum(bar.trade_count for bar in whole) in (2, 3)  # two have one id
    else:
        assert isinstance(whole, InvalidTickError), f"{name} was read as {column}"
        assert str(whole).startswith((f"column {column} ", "row 0: "))
    # Sliced, in chunks and in a table: the same.
    for other in (
        pa.concat_arrays([array[:1], array])[1:] if name not in ("union", "dense_union", "sparse_union") else array,
        pa.chunked_array([array[:0], array[:2], array[2:]], array.type),
        pa.table({"x": pa.chunked_array([array], array.type)}),
        pa.record_batch({"x": array}),
        pa.table({"x": pa.chunked_array([array[:1], array[1:]], array.type)}).to_reader(),
    ):
        made = tried(column, other)
        if isinstance(whole, FastbarsError):
            assert isinstance(made, FastbarsError)
            assert getattr(made, "row", None) == getattr(whole, "row", None)
        else:
            assert not isinstance(made, FastbarsError), made
            assert made.to_bars() == whole.to_bars()


WITH_NULL: dict[str, Any] = {
    "string": pa.array(["1", None, "3"]),
    "string_view": pa.array(["1", None, "a text longer than twelve"], pa.string_view()),
    "decimal": pa.array([Decimal(1), None, Decimal(3)]),
    "dictionary codes": pa.DictionaryArray.from_arrays(pa.array([0, None, 0], pa.int8()), ["1", "2"]),
    "dictionary values": pa.DictionaryArray.from_arrays(pa.array([0, 1, 0], pa.uint16()), pa.array(["1", None])),
    "decimals of a dictionary": pa.DictionaryArray.from_arrays(
        pa.array([1, 0, 1], pa.int64()), pa.array([None, Decimal(3)])),
    "runs": pa.RunEndEncodedArray.from_arrays(pa.array([1, 3], pa.int16()), pa.array(["1", None])),
    "slice of runs": pa.RunEndEncodedArray.from_arrays(pa.array([4, 7], pa.int64()), pa.array(["1", None]))[3:6],
    "null": pa.nulls(3),
    "struct": pa.table({"x": pa.array(["1", None, "3"])}),
    "record of null": pa.chunked_array(
        [pa.StructArray.from_arrays([pa.array(["1", "2", "3"])], ["x"], mask=pa.array([False, True, False]))]),
    "chunks": pa.chunked_array([["1"], [None, "3"]]),
    "slice": pa.array(["x"] * 9 + ["1", None, "3"])[9:],
    "slice of a slice": pa.array([None] * 9 + ["1", None, "3"])[1:][8:],
    "polars": pl.Series(["1", None, "3"]),
    "polars categories": pl.Series(["1", None, "3"], dtype=pl.Categorical),
    "polars enum": pl.Series(["1", None, "3"], dtype=pl.Enum(["1", "3"])),
}  # fmt: skip


@pytest.mark.parametrize("column", ["price", "symbol"])
@pytest.mark.parametrize("name", WITH_NULL)
def test_a_null_is_found_wherever_it_is_kept(name: str, column: str) -> None:
    if column == "symbol" and "decimal" in name:
        pytest.skip("decimals are no symbols")
    row = 0 if name == "null" else 1
    with pytest.raises(InvalidTickError, match=f"row {row}: {column} is null") as raised:
        bars(column, WITH_NULL[name])
    assert raised.value.row == row


@pytest.mark.parametrize(
    "array",
    [
        pa.array([True, None, False]),
        pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1, None, 0], pa.int8())),
        pa.array([1, None, -1], pa.int8()),
        pa.array(["buy", None, "sell"]),
    ],
)
def test_a_null_side_is_no_unknown_side(array: Any) -> None:
    with pytest.raises(InvalidTickError, match="row 1: side is null"):
        bars("side", array)


def test_what_no_row_has_may_be_anything() -> None:
    codes = pa.array([0, 3, 0], pa.int8())
    dictionary = pa.DictionaryArray.from_arrays(codes, pa.array(["1", None, "no number", "2"]))
    assert bars("price", dictionary) == bars("price", ["1", "2", "1"])
    batch = aggregate([0, 1, 2], ["1"] * 3, ["1"] * 3, symbol=dictionary)
    assert batch.instruments.symbols == ("1", "2")
    with pytest.raises(ValueError, match="row 1: price b'x' is not a finite") as raised:
        bars("price", pa.DictionaryArray.from_arrays(pa.array([0, 1, 0]), pa.array(["1", "x"])))
    assert getattr(raised.value, "row", None) == 1


@pytest.mark.parametrize("index", [pa.int8, pa.int16, pa.int32, pa.int64, pa.uint8, pa.uint16, pa.uint32, pa.uint64])
@pytest.mark.parametrize(
    "values",
    [pa.array(PRICES), pa.array(PRICES, pa.string_view()), pa.array(DECIMALS), pa.array(DECIMALS, pa.decimal32(9, 2))],
    ids=str,
)
def test_dictionaries_of_every_index_and_runs_of_every_end_hold_the_values(
    index: Callable[[], Any], values: Any
) -> None:
    plain = bars("price", PRICES)
    codes = pa.array([2, 0, 1], index())
    shuffled = pa.concat_arrays([values[1:], values[:1]])
    assert bars("price", pa.DictionaryArray.from_arrays(codes, shuffled)) == plain
    if index in (pa.int16, pa.int32, pa.int64):
        runs = pa.RunEndEncodedArray.from_arrays(pa.array([1, 2, 5], index()), values)
        assert bars("price", runs[:3]) == plain
        longer = pa.RunEndEncodedArray.from_arrays(
            pa.array([7, 9, 10, 11, 90], index()), pa.concat_arrays([values[:1], values, values[:1]])
        )
        assert bars("price", longer[8:11]) == plain


@pytest.mark.parametrize(
    "values", [pa.array([0, SECOND, 61 * SECOND]), pa.array([0, 1, 61], pa.timestamp("s"))], ids=["int", "timestamp"]
)
def test_times_come_out_of_dictionaries_and_runs(values: Any) -> None:
    plain = bars("time_ns", [0, SECOND, 61 * SECOND])
    assert bars("time_ns", values.dictionary_encode()) == plain
    assert bars("time_ns", pa.RunEndEncodedArray.from_arrays(pa.array([1, 2, 3], pa.int32()), values)) == plain


def test_encodings_within_encodings_are_refused_by_name() -> None:
    runs = pa.RunEndEncodedArray.from_arrays(pa.array([3], pa.int32()), pa.array(["1"]).dictionary_encode())
    with pytest.raises(InvalidTickError, match="column price has values of the Arrow type dictionary within another"):
        bars("price", runs)


def duckdb_types() -> list[str]:
    return [
        "1::tinyint", "1::smallint", "1::integer", "1::bigint", "1::hugeint", "1::utinyint", "1::usmallint",
        "1::uinteger",
        "1::ubigint", "1::uhugeint", "1.5::float", "1.5::double", "1.5::decimal(4,1)", "1.5::decimal(9,1)",
        "1.5::decimal(18,1)", "1.5::decimal(38,1)", "'x'", "'a text longer than twelve bytes'", "'ab'::blob", "true",
        "date '2025-01-01'", "time '12:00'", "'12:00:00+00'::timetz",
        "timestamp '2025-01-01'", "timestamp_s '2025-01-01'",
        "timestamp_ms '2025-01-01'", "timestamp_ns '2025-01-01'", "timestamptz '2025-01-01'",
        "interval 1 day",
        "uuid '00000000-0000-0000-0000-000000000000'", "'101'::bit", "[1, 2]", "[1, 2]::integer[2]", "{'a': 1, 'b': 2}",
        "map {'a': 1}", "'a'::enum('a', 'b')", "null", "union_value(k := 1)", "'{}'::json",
    ]  # fmt: skip


@pytest.mark.parametrize("column", ["time_ns", "price", "symbol", "side"])
def test_every_type_of_duckdb_is_read_or_refused(column: str) -> None:
    duckdb = pytest.importorskip("duckdb", reason="DuckDB has no wheel for musl")
    connection = duckdb.connect()
    read = 0
    for expression in duckdb_types():
        relation = connection.sql(f"select {expression} as x from range(3)")
        made = tried(column, relation)
        read += not isinstance(made, FastbarsError)
    assert read >= {"time_ns": 12, "price": 10, "symbol": 8, "side": 5}[column]


@pytest.mark.parametrize("column", ["time_ns", "price", "symbol", "side"])
def test_every_type_of_polars_is_read_or_refused(column: str) -> None:
    values: list[Any] = [
        *(pl.Series([1, 1, 1], dtype=kind) for kind in (
            pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.Int128, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64)),
        *(pl.Series([1, 1, 1]).cast(kind) for kind in (
            pl.Float32, pl.Float64, pl.Decimal(20, 3), pl.String, pl.Binary, pl.Boolean, pl.Date, pl.Time,
            pl.Datetime("ms"), pl.Datetime("us", "Asia/Tokyo"), pl.Datetime("ns"), pl.Duration("ms"))
          if kind != pl.Binary),
        pl.Series([b"1", b"1", b"1"]), pl.Series(["a", "b", "a"], dtype=pl.Categorical),
        pl.Series(["a", "b", "a"], dtype=pl.Enum(["a", "b"])), pl.Series([[1], [1], [1]]),
        pl.Series([[1], [1], [1]], dtype=pl.Array(pl.Int64, 1)), pl.Series([{"a": 1, "b": 1}] * 3),
        pl.Series([None] * 3), pl.Series(["1", "2", "3"]).gather([0, 1, 2]),
        pl.concat([pl.Series(["1"]), pl.Series(["2", "a text longer than twelve"])], rechunk=False),
    ]  # fmt: skip
    for series in values:
        made = tried(column, series)
        if isinstance(made, FastbarsError):
            assert str(made).startswith((f"column {column} ", "row "))


# Structures that lie.


class ArrowArray(ctypes.Structure):
    """The C structure, to be spoilt."""


ArrowArray._fields_ = [
    ("length", ctypes.c_int64), ("null_count", ctypes.c_int64), ("offset", ctypes.c_int64),
    ("n_buffers", ctypes.c_int64), ("n_children", ctypes.c_int64), ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ("children", ctypes.c_void_p), ("dictionary", ctypes.c_void_p), ("release", ctypes.c_void_p),
    ("private_data", ctypes.c_void_p),
]  # fmt: skip


def structure_of(capsule: object) -> ArrowArray:
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return ArrowArray.from_address(pointer(capsule, b"arrow_array"))


class Spoilt:
    """An array whose C structure was changed; what was there is put back before it is released."""

    def __init__(self, array: Any, **changes: Any) -> None:
        self.array, self.changes = array, changes

    def __arrow_c_array__(self, requested_schema: object = None) -> tuple[object, object]:
        schema, array = self.array.__arrow_c_array__()
        structure = structure_of(array)
        for name, value in self.changes.items():
            if name == "buffer":
                place, address = value
                structure.buffers[place] = address
            else:
                setattr(structure, name, value)
        return schema, array


def test_a_structure_that_contradicts_itself_is_refused() -> None:
    numbers, texts, views = pa.array([1, 2, 3]), pa.array(PRICES), pa.array([*PRICES[:2], "x" * 20], pa.string_view())
    coded = texts.dictionary_encode()
    for spoilt, message in (
        (Spoilt(numbers, length=-1), "length -1"),
        (Spoilt(numbers, length=2**62), "has length 4611686018427387904"),
        (Spoilt(numbers, offset=-5), "offset -5"),
        (Spoilt(numbers, offset=2**63 - 1), "offset 9223372036854775807"),
        (Spoilt(numbers, null_count=-2), "-2 nulls"),
        (Spoilt(numbers, null_count=1), "has 1 nulls, and does not say where"),
        (Spoilt(numbers, n_buffers=1), "has 1 buffers, buffer 1 is needed"),
        (Spoilt(numbers, n_buffers=-1), "has -1 buffers"),
        (Spoilt(numbers, buffers=None), "has 2 buffers"),
        (Spoilt(numbers, buffer=(1, None)), "lacks a buffer of 24 bytes"),
        (Spoilt(pa.array([{"x": 1}] * 3), n_children=0), "has 0 children, its type has 1"),
        (Spoilt(texts, buffer=(1, None)), "lacks a buffer of 16 bytes"),
        (Spoilt(texts, buffer=(2, None)), "lacks a buffer of 11 bytes"),
        (Spoilt(views, n_buffers=2), "has 2 buffers, it must have 3 or more"),
        (Spoilt(views, buffer=(3, None)), "does not say how long its buffers are"),
        (Spoilt(views, n_buffers=3), "text 2 leads out of its buffer"),
        (Spoilt(coded, dictionary=None), "differ in whether they have a dictionary"),
    ):  # fmt: skip
        column = "trade_id" if spoilt.array is numbers else "price"
        with pytest.raises(InvalidTickError, match=f"column {column}:? .*{message}"):
            bars(column, spoilt)


def test_texts_never_lie_outside_their_buffers() -> None:
    address = (ctypes.c_int32 * 4)(0, 2**30, 2, 3)
    for column in ("price", "symbol", "side"):
        spoilt = Spoilt(pa.array(["1", "22", "3"]), buffer=(1, ctypes.addressof(address)))
        with pytest.raises(InvalidTickError, match=f"column {column}: text 0 leads out of its buffer"):
            bars(column, spoilt)
    views = np.array([[1, 0x31, 0, 0], [20, 0, 5, 0], [1, 0x31, 0, 0]], np.int32)
    for column in ("price", "symbol", "side"):
        spoilt = Spoilt(pa.array(["1", "2" * 20, "3"], pa.string_view()), buffer=(1, views.ctypes.data))
        with pytest.raises(InvalidTickError, match=f"column {column}: text 1 leads out of its buffer|side '1' is not"):
            bars(column, spoilt)


def test_codes_and_runs_that_lead_nowhere_are_refused() -> None:
    for code in (2, -1, 127):
        codes = pa.array([0, code, 1], pa.int8())
        broken = pa.DictionaryArray.from_arrays(codes, pa.array(["1", "2"]), safe=False)
        with pytest.raises(InvalidTickError, match=f"row 1: price has code {code} of 2 values"):
            bars("price", broken)
    good = pa.RunEndEncodedArray.from_arrays(pa.array([1, 3], pa.int32()), pa.array(["1", "2"]))
    with pytest.raises(InvalidTickError, match=r"column price has runs of 3 rows, 1000000 are needed|time_ns has 3"):
        bars("price", Spoilt(good, length=1_000_000))
    with pytest.raises(
        InvalidTickError, match="column time_ns has 281474976710656 rows, run ends allow at most 2147483647"
    ):
        bars("time_ns", Spoilt(good, length=2**48))
    ends = np.array([1, 2, 3], np.int32)
    held = pa.Array.from_buffers(pa.int32(), 3, [None, pa.py_buffer(ends)])
    falling = pa.RunEndEncodedArray.from_arrays(held, pa.array(["1", "2", "3"]))
    ends[:] = [2, 1, 3]
    with pytest.raises(InvalidTickError, match="column price has run ends that do not rise"):
        bars("price", falling)


def test_a_capsule_is_read_once_and_must_be_one() -> None:
    class Held:
        def __init__(self, **made: Any) -> None:
            for name, value in made.items():
                setattr(self, name, lambda value=value: value)

    array = pa.array(PRICES)
    pair = array.__arrow_c_array__()
    held = Held(__arrow_c_array__=pair)
    assert len(read_column("price", held)) == 1
    with pytest.raises(InvalidTickError, match="column price: the Arrow schema was released: a capsule can be"):
        bars("price", held)
    stream = Held(__arrow_c_stream__=pa.chunked_array([array]).__arrow_c_stream__())
    assert bars("price", stream) == bars("price", PRICES)
    with pytest.raises(InvalidTickError, match="column price: the Arrow stream was released"):
        bars("price", stream)
    for wrong in (Held(__arrow_c_array__=(pair[1], pair[0])), Held(__arrow_c_array__=(1, 2)),
                  Held(__arrow_c_stream__=pair[1]), Held(__arrow_c_stream__=None)):  # fmt: skip
        with pytest.raises(InvalidTickError, match="is no PyCapsule of the name 'arrow_"):
            bars("price", wrong)
    with pytest.raises(InvalidTickError, match="gave int, not two capsules"):
        bars("price", Held(__arrow_c_array__=5))


def test_a_stream_that_fails_says_why() -> None:
    schema = pa.schema({"x": pa.string()})

    def batches() -> Any:
        yield pa.record_batch({"x": ["1"]})
        raise ValueError("the disk is gone")

    with pytest.raises(InvalidTickError, match=r"column price: the Arrow stream failed with error .*the disk is gone"):
        bars("price", pa.RecordBatchReader.from_batches(schema, batches()))


def test_memory_lives_as_long_as_what_was_read_from_it() -> None:
    (chunk,) = read_column("price", pa.array([f"{n}.25" for n in range(10_000)], pa.string_view()))
    (data,) = read_arrays(pa.array(range(10_000)))
    numbers = data.buffer(1, 80_000).view(np.int64)
    del data
    assert chunk.values[9_999] == b"9999.25"
    assert numbers[-1] == 9_999
    assert not numbers.flags.writeable


def test_types_have_the_names_that_people_know() -> None:
    assert [type_name(form) for form in ("+us:0,1", "w:16", "tDn", "vz", "tsn:UTC", "+vL", "??")] == [
        "sparse_union[0,1]", "fixed_size_binary[16]", "duration[ns]", "binary_view", "timestamp[ns][UTC]",
        "large_list_view", "'??'",
    ]  # fmt: skip
    with pytest.raises(
        InvalidTickError, match=r"column symbol has the Arrow extension type 'arrow.uuid' of fixed_size"
    ):
        bars("symbol", SCALARS["uuid"][0])
    with pytest.raises(InvalidTickError, match="column price has the Arrow type list, it must hold numbers"):
        bars("price", SCALARS["list_"][0])
