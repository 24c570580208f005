"""Arrow in and out, through the PyCapsule interface: columns of polars, pandas, DuckDB, and bars as a table.

Source: https://arrow.apache.org/docs/format/CDataInterface/PyCapsuleInterface.html. On the way in
`fastbars.columnar.capsules` reads the structures, and nothing is copied that lies as it is needed; on the way out
nanoarrow makes them (the extra `arrow`), and each column is converted once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fastbars.bars import BAR_FIELDS, FEATURE_FIELDS, LEVEL_FIELDS, control_of
from fastbars.columnar.capsules import ArrowData, read_arrays
from fastbars.columnar.columns import Texts, first_outside
from fastbars.columnar.tables import decimal_column, text_column
from fastbars.errors import InvalidTickError, PrecisionError
from fastbars.kernel.fields import FIELDS, IDENTITY, FieldKind, known_values

Kind = Literal["integer", "float", "boolean", "decimal", "time", "text", "object"]
_DTYPES = {
    "c": np.int8, "C": np.uint8, "s": np.int16, "S": np.uint16, "i": np.int32, "I": np.uint32, "l": np.int64,
    "L": np.uint64, "e": np.float16, "f": np.float32, "g": np.float64,
}  # fmt: skip
_INDICES = "cCsSiIlL"
_MOST_DIGITS = 38  # of decimal128
_DEVIATION_STEP = Decimal(1).scaleb(-18)
_ROUNDING = Context(prec=100, rounding=ROUND_HALF_EVEN, traps=[])
_RUN_ENDS = ("s", "i", "l")
_MOST_RUN_ENDS = 2**31 - 1
_TIMESTAMPS = {"s:": 1_000_000_000, "m:": 1_000_000, "u:": 1_000, "n:": 1}  # ns a unit
_NAMES = {
    "n": "null", "b": "bool", "c": "int8", "C": "uint8", "s": "int16", "S": "uint16", "i": "int32", "I": "uint32",
    "l": "int64", "L": "uint64", "e": "float16", "f": "float32", "g": "float64", "z": "binary", "Z": "large_binary",
    "vz": "binary_view", "u": "string", "U": "large_string", "vu": "string_view", "d": "decimal",
    "w": "fixed_size_binary", "tdD": "date32", "tdm": "date64", "tts": "time32[s]", "ttm": "time32[ms]",
    "ttu": "time64[us]", "ttn": "time64[ns]", "ts": "timestamp", "tss": "timestamp[s]", "tsm": "timestamp[ms]",
    "tsu": "timestamp[us]", "tsn": "timestamp[ns]", "tDs": "duration[s]", "tDm": "duration[ms]", "tDu": "duration[us]",
    "tDn": "duration[ns]", "tiM": "interval[months]", "tiD": "interval[days, ms]", "tin": "interval[months, days, ns]",
    "+l": "list", "+L": "large_list", "+vl": "list_view", "+vL": "large_list_view", "+w": "fixed_size_list",
    "+s": "struct", "+m": "map", "+ud": "dense_union", "+us": "sparse_union", "+r": "run_end_encoded",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Chunk:
    """A stretch of a column, where it lies.

    Attributes:
        kind: what it holds.
        values: of numbers and times as they are, of decimals the bytes, of texts `Texts`; of dictionary-encoded
            texts the codes, and `names` what they stand for.
        unit: ns a unit, of times; decimals, of decimals.
        width: bytes a value, of decimals.
    """

    kind: Kind
    values: Any
    unit: int = 1
    width: int = 0
    names: Texts | None = None

    def __len__(self) -> int:
        return len(self.values) // self.width if self.width else len(self.values)


def nanoarrow() -> Any:
    """The library. Raises ImportError with what to install."""
    try:
        import nanoarrow as library  # noqa: PLC0415 an extra, and loaded for those who use it
    except ImportError as error:
        raise ImportError("an Arrow table of bars needs nanoarrow: pip install 'fastbars[arrow]'") from error
    return library


def is_arrow(column: object) -> bool:
    """It offers itself through the Arrow PyCapsule interface."""
    return hasattr(column, "__arrow_c_stream__") or hasattr(column, "__arrow_c_array__")


def read_column(name: str, column: Any, rows: int | None = None) -> list[Chunk]:
    """The chunks of a column; a table counts as one where it has a single column.

    Args:
        name: for messages.
        column: has the PyCapsule interface.
        rows: how many it must have, where that is known: what expands to more is refused before it does.

    Raises:
        InvalidTickError: a value is null (with its row), wherever validity is kept, or the type is not one of those in
            Chunk (with its name), or the structures contradict themselves.
    """
    try:
        arrays = read_arrays(column)
    except InvalidTickError as error:
        raise InvalidTickError(f"column {name}: {error}") from None
    chunks: list[Chunk] = []
    row = 0
    for array in arrays:
        try:
            chunks.append(_chunk(name, array, row, rows))
        except InvalidTickError as error:
            if str(error).startswith(("column ", "row ")):
                raise
            raise InvalidTickError(f"column {name}: {error}") from None
        row += len(chunks[-1])
    return chunks


def _chunk(name: str, data: ArrowData, row: int, rows: int | None) -> Chunk:
    if data.type.format == "+s" and not data.type.extension:
        count = len(data.type.children)
        if count != 1:
            raise InvalidTickError(f"column {name} is a table of {count} columns, it must be one column")
        _no_nulls(name, _validity_of(data, data.offset, data.length), row)
        inner = data.child(0)
        return _typed(name, inner, *_part(inner, data.offset, data.length), row, rows)
    return _typed(name, data, data.offset, data.length, row, rows)


def _part(data: ArrowData, start: int, length: int) -> tuple[int, int]:
    # (where it begins in the buffers, length) of values `start` to `start + length` of an array.
    if start + length > data.length:
        raise InvalidTickError(
            f"an Arrow array of type {data.type.format!r} has {data.length} values, {start + length} are needed"
        )
    return data.offset + start, length


def _typed(name: str, data: ArrowData, start: int, length: int, row: int, rows: int | None) -> Chunk:
    _no_nulls(name, _validity_of(data, start, length), row)
    if data.type.extension:
        if data.type.extension == "arrow.bool8" and data.type.format == "c":
            return Chunk("boolean", _values(data, np.int8, start, length) != 0)
        raise InvalidTickError(
            f"column {name} has the Arrow extension type {data.type.extension!r} of {type_name(data.type.format)}, it"
            " must hold numbers, timestamps or strings"
        )
    if data.type.dictionary is not None:
        if data.type.format not in _INDICES:
            raise InvalidTickError(f"column {name} has a dictionary whose codes are {type_name(data.type.format)}")
        values = data.dictionary()
        codes = _values(data, _DTYPES[data.type.format], start, length)
        return _looked_up(name, values, values.offset, values.length, codes, row)
    if data.type.format == "+r":
        return _run_ends(name, data, start, length, row, rows)
    return _plain(name, data, start, length)


def _run_ends(name: str, data: ArrowData, start: int, length: int, row: int, rows: int | None) -> Chunk:
    # Each run of equal values has one entry, and the place behind its last row.
    if len(data.type.children) != 2 or data.type.children[0].format not in _RUN_ENDS:
        raise InvalidTickError(
            f"column {name} is run-end encoded, but not with run ends of 16, 32 or 64 bits and values"
        )
    if length > (_MOST_RUN_ENDS if rows is None else rows - row):
        raise InvalidTickError(
            f"column {name} has {row + length} rows, "
            + (f"run ends allow at most {_MOST_RUN_ENDS}" if rows is None else f"time_ns has {rows}")
        )
    ends_data, values = data.child(0), data.child(1)
    _no_nulls(name, _validity_of(ends_data, ends_data.offset, ends_data.length), row)
    ends = _values(ends_data, _DTYPES[ends_data.type.format], ends_data.offset, ends_data.length).astype(np.int64)
    if (np.diff(ends) <= 0).any() or (len(ends) and ends[0] <= 0):
        raise InvalidTickError(f"column {name} has run ends that do not rise")
    if length and (not len(ends) or ends[-1] < start + length):
        raise InvalidTickError(
            f"column {name} has runs of {ends[-1] if len(ends) else 0} rows, {start + length} are needed"
        )
    first, last = np.searchsorted(ends, [start, start + length - 1], side="right") if length else (0, -1)
    lengths = np.diff(np.minimum(ends[first : last + 1], start + length), prepend=start)
    codes = np.repeat(np.arange(first, last + 1, dtype=np.int64), lengths)
    return _looked_up(name, values, values.offset, values.length, codes, row)


def _looked_up(name: str, values: ArrowData, start: int, length: int, codes: npt.NDArray[Any], row: int) -> Chunk:
    # The values that codes refer to. A value that no code refers to may be null, or anything else.
    place = first_outside(codes, length)
    if place >= 0:
        raise InvalidTickError(f"row {row + place}: {name} has code {codes[place]} of {length} values", row + place)
    valid = _validity_of(values, start, length)
    if valid is not None:
        _no_nulls(name, valid[codes], row)
    if values.type.extension or values.type.dictionary is not None or values.type.format == "+r":
        kind = values.type.extension or ("dictionary" if values.type.dictionary else "run_end_encoded")
        raise InvalidTickError(f"column {name} has values of the Arrow type {kind} within another encoding")
    inner = _plain(name, values, start, length)
    if inner.kind == "text":
        return Chunk("text", codes, names=inner.values)
    if inner.width:
        return replace(inner, values=inner.values.reshape(-1, inner.width)[codes].reshape(-1))
    return replace(inner, values=inner.values[codes])


def _plain(name: str, data: ArrowData, start: int, length: int) -> Chunk:
    kind = data.type.format
    if kind in _DTYPES:
        return Chunk("float" if kind in "efg" else "integer", _values(data, _DTYPES[kind], start, length))
    if kind == "b":
        return Chunk("boolean", _bits(data, 1, start, length))
    if kind.startswith("ts") and kind[2:4] in _TIMESTAMPS:
        return Chunk("time", _values(data, np.int64, start, length), unit=_TIMESTAMPS[kind[2:4]])
    if kind in ("tdD", "tdm"):
        dtype, unit = (np.int32, 86_400_000_000_000) if kind == "tdD" else (np.int64, 1_000_000)
        return Chunk("time", _values(data, dtype, start, length), unit=unit)
    if match := re.fullmatch(r"d:(\d{1,3}),(-?\d{1,3})(?:,(\d{1,3}))?", kind):
        scale, bits_wide = int(match[2]), int(match[3] or 128)
        if bits_wide not in (32, 64, 128) or scale < 0:
            raise InvalidTickError(
                f"column {name} is decimal{bits_wide} of scale {scale}; decimals have up to 128 bits and a scale >= 0"
            )
        width = bits_wide // 8
        return Chunk("decimal", data.buffer(1, (start + length) * width)[start * width :], unit=scale, width=width)
    if kind in ("u", "z", "U", "Z"):
        return Chunk("text", _offset_texts(data, start, length))
    if kind in ("vu", "vz"):
        return Chunk("text", Texts.views(data.buffer(1, (start + length) * 16), data.variadic(), start, length))
    if kind == "n" and not length:
        return Chunk("integer", np.empty(0, np.int64))
    raise InvalidTickError(
        f"column {name} has the Arrow type {type_name(kind)}, it must hold numbers, timestamps or strings"
    )


def _offset_texts(data: ArrowData, start: int, length: int) -> Texts:
    if not length:
        return Texts.fixed(np.empty(0, "S1"))
    dtype = np.int32 if data.type.format in ("u", "z") else np.int64
    places = _values(data, dtype, start, length + 1)
    return Texts.offsets(places, data.buffer(2, int(places[-1])), 0, length)


def _values(data: ArrowData, dtype: Any, start: int, length: int) -> npt.NDArray[Any]:
    width = np.dtype(dtype).itemsize
    values: npt.NDArray[Any] = data.buffer(1, (start + length) * width).view(dtype)[start:]
    return values if values.flags.aligned else values.copy()


def _bits(data: ArrowData, place: int, start: int, length: int) -> npt.NDArray[np.bool_]:
    first = start // 8
    held = data.buffer(place, (start + length + 7) // 8)[first:]
    return np.unpackbits(held, bitorder="little")[start - 8 * first :][:length].astype(np.bool_)


def _validity_of(data: ArrowData, start: int, length: int) -> npt.NDArray[np.bool_] | None:
    # Which values are there; None: all.
    kind = data.type.format
    if kind == "n":
        return np.zeros(length, np.bool_)
    if kind == "+r" or kind.startswith("+u") or data.null_count == 0:
        return None
    if not data.has_buffer(0):
        if data.null_count > 0:
            raise InvalidTickError(
                f"an Arrow array of {type_name(kind)} has {data.null_count} nulls, and does not say where"
            )
        return None
    return _bits(data, 0, start, length)


def _no_nulls(name: str, valid: npt.NDArray[np.bool_] | None, row: int) -> None:
    if valid is not None and not valid.all():
        null = row + int(valid.argmin())
        raise InvalidTickError(f"row {null}: {name} is null", null)


def type_name(form: str) -> str:
    """A type as people write it, from the C data interface's format string."""
    head, _, rest = form.partition(":")
    name = _NAMES.get(head) or _NAMES.get(form[:3]) or _NAMES.get(form[:2])
    return f"{name}[{rest}]" if name and rest else name or repr(form)


def to_stream(
    rows: npt.NDArray[Any],
    identity: dict[str, str],
    names: dict[str, Sequence[str]],
    *,
    ids: bool,
    inside: Sequence[Mapping[str, Any] | None] | None = None,
) -> object:
    """Bars as an Arrow stream of one record batch: a PyCapsule.

    Args:
        rows: of `fastbars.kernel.rows.ROW_DTYPE`.
        identity: the fields of IDENTITY, which are the same for all rows.
        names: what the numbers stand for, of each field that is a text.
        ids: first and last id are the exchange's; else they are null.
        inside: what is inside each bar; None: no spec asks for anything.

    Raises:
        PrecisionError: a column needs more than 38 digits at its largest scale.
    """
    library = nanoarrow()
    rows = np.ascontiguousarray(rows)
    children = {}
    for name in BAR_FIELDS:
        if name in IDENTITY:
            kind = library.large_string()
            texts = text_column(np.zeros(len(rows), np.int64), [identity[name].encode()])
            children[name] = (kind, library.c_array_from_buffers(kind, len(rows), [None, *texts]))
            continue
        column = FIELDS[name]
        values = rows[column.name]
        validity = _validity(known_values(rows, column, ids))
        buffers: list[Any]
        if column.kind is FieldKind.NAME:
            known = [text.encode() for text in names[name]]
            kind, buffers = library.large_string(), [None, *text_column(values.astype(np.int64), known)]
        elif column.scale:
            scale = int(rows[column.scale].max(initial=0))
            kind, buffers = library.decimal128(38, scale), [validity, _decimals(rows, name, scale)]
        elif column.kind in (FieldKind.TIME, FieldKind.MOMENT):
            kind, buffers = library.timestamp("ns", timezone="UTC"), [validity, np.ascontiguousarray(values)]
        elif column.kind is FieldKind.COUNT and column.dtype is np.int32:
            kind, buffers = library.int32(), [None, np.ascontiguousarray(values)]
        else:
            kind, buffers = library.int64(), [validity, np.ascontiguousarray(values, dtype=np.int64)]
        children[name] = (kind, library.c_array_from_buffers(kind, len(rows), buffers))
    if inside is not None:
        children |= _feature_columns(library, inside)
    table = library.c_array_from_buffers(
        library.struct({name: kind for name, (kind, _) in children.items()}),
        len(rows),
        [None],
        children=[array for _, array in children.values()],
    )
    return library.Array(table).__arrow_c_stream__()


def _feature_columns(library: Any, inside: Sequence[Mapping[str, Any] | None]) -> dict[str, tuple[Any, Any]]:
    # The fields FEATURE_FIELDS, null where a bar has none.
    def decimals(name: str, values: list[Any]) -> tuple[Any, Any]:
        scale = max((max(0, -value.as_tuple().exponent) for value in values if value is not None), default=0)
        kind = library.decimal128(_MOST_DIGITS, scale)
        validity = _validity(np.array([value is not None for value in values], np.bool_))
        return kind, library.c_array_from_buffers(kind, len(values), [validity, _mantissas(name, values, scale)])

    made = {}
    for name in FEATURE_FIELDS:
        values = [None if each is None else each[name] for each in inside]
        if name == "footprint":
            levels = [level for footprint in values for level in footprint or ()]
            parts = {part: decimals(part, [getattr(level, part) for level in levels]) for part in LEVEL_FIELDS}
            level = library.struct({part: kind for part, (kind, _) in parts.items()})
            held = library.c_array_from_buffers(level, len(levels), [None], children=[own for _, own in parts.values()])
            ends = np.cumsum([0, *(len(footprint or ()) for footprint in values)], dtype=np.int64)
            validity = _validity(np.array([footprint is not None for footprint in values], np.bool_))
            kind = library.large_list(level)
            made[name] = kind, library.c_array_from_buffers(kind, len(values), [validity, ends], children=[held])
            made["point_of_control"] = decimals(name, [control_of(footprint) for footprint in values])
        elif name == "vwap_deviation":
            made[name] = decimals(name, [None if value is None else _rounded(value) for value in values])
        else:
            made[name] = decimals(name, values)
    return made


def _rounded(deviation: Decimal) -> Decimal:
    # Of 28 digits, which may lie far behind the point: a column has one scale.
    return deviation.quantize(_DEVIATION_STEP, context=_ROUNDING)


def objects_to_stream(columns: dict[str, tuple[str, list[Any]]], count: int) -> object:
    """Lists of Python values as an Arrow stream of one record batch: a PyCapsule. None is null.

    Args:
        columns: name -> (kind, values): "text"; "boolean"; "time", int64 ns; or "decimal", Decimals.
        count: values of each column.

    Raises:
        PrecisionError: a column needs more than 38 digits at its largest scale.
    """
    library = nanoarrow()
    children = {}
    for name, (form, values) in columns.items():
        known = np.array([value is not None for value in values], np.bool_)
        validity = _validity(known)
        buffers: list[Any]
        if form == "text":
            kind = library.large_string()
            texts = [(value or "").encode("utf-8", "replace") for value in values]
            buffers = [validity, *text_column(np.arange(count, dtype=np.int64), texts)]
        elif form == "boolean":
            bits = np.packbits(np.array([bool(value) for value in values], np.bool_), bitorder="little")
            kind, buffers = library.bool_(), [validity, bits]
        elif form == "time":
            kind = library.timestamp("ns", timezone="UTC")
            buffers = [validity, np.array([value or 0 for value in values], np.int64)]
        else:
            scale = max((max(0, -value.as_tuple().exponent) for value in values if value is not None), default=0)
            kind, buffers = library.decimal128(_MOST_DIGITS, scale), [validity, _mantissas(name, values, scale)]
        children[name] = (kind, library.c_array_from_buffers(kind, count, buffers))
    table = library.c_array_from_buffers(
        library.struct({name: kind for name, (kind, _) in children.items()}),
        count,
        [None],
        children=[array for _, array in children.values()],
    )
    return library.Array(table).__arrow_c_stream__()


def _mantissas(name: str, values: list[Any], scale: int) -> npt.NDArray[np.uint8]:
    whole = bytearray()
    for row, value in enumerate(values):
        sign, digits, exponent = (0, (0,), 0) if value is None else value.as_tuple()
        places = exponent + scale
        if scale > _MOST_DIGITS or len(digits) + places > _MOST_DIGITS:
            raise PrecisionError(
                f"row {row}: column {name} has {scale} decimals, and with them {value} needs more than the"
                f" {_MOST_DIGITS} digits of decimal128",
                row,
            )
        mantissa = int("".join(map(str, digits))) * 10**places
        whole += (-mantissa if sign else mantissa).to_bytes(16, "little", signed=True)
    return np.frombuffer(bytes(whole), np.uint8)


def _validity(valid: npt.NDArray[np.bool_] | None) -> npt.NDArray[np.uint8] | None:
    return None if valid is None or valid.all() else np.packbits(valid, bitorder="little")


def _decimals(rows: npt.NDArray[Any], name: str, scale: int) -> npt.NDArray[np.uint64]:
    values, row = decimal_column(rows, name, scale)
    if values is None:
        raise PrecisionError(
            f"row {row}: column {name} has {scale} decimals, and with them this value needs more than the 38 digits of"
            " decimal128",
            row,
        )
    return values
