"""Arrow in and out, through the PyCapsule interface: columns of polars, pandas, DuckDB, and bars as a table.

Source: https://arrow.apache.org/docs/format/CDataInterface/PyCapsuleInterface.html; nanoarrow holds the structures
(the extra `arrow`). Nothing is copied on the way in; on the way out each column is converted once.

Units: times int64 ns since the epoch, UTC; decimals as decimal128, one scale a column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fastbars.columns import Texts, decimal_column, text_column
from fastbars.errors import InvalidTickError, PrecisionError

Kind = Literal["integer", "float", "decimal", "time", "text", "object"]
_DTYPES = {
    "c": np.int8, "C": np.uint8, "s": np.int16, "S": np.uint16, "i": np.int32, "I": np.uint32, "l": np.int64,
    "L": np.uint64, "f": np.float32, "g": np.float64,
}  # fmt: skip
# Columns of a table of bars: the field of a row that they come from, and that of their scale.
COLUMNS = {
    "symbol": ("symbol_id", ""),
    "spec": ("spec", ""),
    "open_time": ("open_time", ""),
    "close_time": ("close_time", ""),
    "open": ("open", "price_scale"),
    "high": ("high", "price_scale"),
    "low": ("low", "price_scale"),
    "close": ("close", "price_scale"),
    "volume": ("volume", "size_scale"),
    "quote_volume": ("quote_volume", "quote_scale"),
    "trade_count": ("count", ""),
    "taker_buy_volume": ("taker_volume", "size_scale"),
    "taker_buy_quote_volume": ("taker_quote_volume", "quote_scale"),
    "first_trade_id": ("first_id", ""),
    "last_trade_id": ("last_id", ""),
    "status": ("status", ""),
    "revision": ("revision", ""),
    "close_reason": ("reason", ""),
    "missing_count": ("missing", ""),
}
_NO_PRICE = np.iinfo(np.int64).min  # at "high" of a bar without prices
_UNITS_NS = {"s": 1_000_000_000, "m": 1_000_000, "u": 1_000, "n": 1}


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
        raise ImportError("Arrow columns need nanoarrow: pip install 'fastbars[arrow]'") from error
    return library


def is_arrow(column: object) -> bool:
    """It offers itself through the Arrow PyCapsule interface."""
    return hasattr(column, "__arrow_c_stream__") or hasattr(column, "__arrow_c_array__")


def read_column(name: str, column: Any) -> list[Chunk]:
    """The chunks of a column; a table counts as one where it has a single column.

    Raises:
        InvalidTickError: a value is null (with its row), or the type is not one of those in Chunk.
    """
    chunks: list[Chunk] = []
    row = 0
    for array in nanoarrow().c_array_stream(column):
        chunks.append(_chunk(name, array, array.view(), row))
        row += len(chunks[-1])
    return chunks


class _Memory:
    """Bytes that belong to an Arrow array, which lives as long as numpy's view of them."""

    def __init__(self, address: int, size: int, owner: Any) -> None:
        self.owner = owner
        self.__array_interface__ = {"version": 3, "typestr": "|u1", "shape": (size,), "data": (address, True)}


def _chunk(name: str, array: Any, view: Any, row: int) -> Chunk:
    start, length, schema = view.offset, view.length, array.schema
    if schema.format == "+s":
        if schema.n_children != 1:
            raise InvalidTickError(f"column {name} is a table of {schema.n_children} columns, it must be one column")
        _no_nulls(name, array, view, start, length, row)
        inner = view.child(0)
        return _typed(name, array.child(0), schema.child(0), inner, inner.offset + start, length, row)
    return _typed(name, array, schema, view, start, length, row)


def _typed(name: str, owner: Any, schema: Any, view: Any, start: int, length: int, row: int) -> Chunk:
    _no_nulls(name, owner, view, start, length, row)
    kind = schema.format
    stop = start + length
    if kind in _DTYPES:
        values = _buffer(owner, view, 1, _DTYPES[kind])[start:stop]
        if schema.dictionary is not None:
            named = view.dictionary
            return Chunk(
                "text", values, names=_texts(name, owner, schema.dictionary, named, named.offset, named.length)
            )
        return Chunk("float" if kind in "fg" else "integer", values)
    if kind.startswith("ts"):
        return Chunk("time", _buffer(owner, view, 1, np.int64)[start:stop], unit=_UNITS_NS[kind[2]])
    if kind.startswith("d:"):
        _, scale, bits = (*map(int, kind[2:].split(",")), 128)[:3]
        width = bits // 8
        if bits > 128 or scale < 0:
            raise InvalidTickError(f"column {name} is decimal{bits} of scale {scale}; decimals have up to 128 bits")
        # By its address: nanoarrow has no view of narrow decimals.
        memory = np.asarray(_Memory(owner.buffers[1], stop * width, owner)) if stop else np.empty(0, np.uint8)
        return Chunk("decimal", memory[start * width :], unit=scale, width=width)
    return Chunk("text", _texts(name, owner, schema, view, start, length))


def _texts(name: str, owner: Any, schema: Any, view: Any, start: int, length: int) -> Texts:
    if schema.format in ("u", "U"):
        places = _buffer(owner, view, 1, np.int32 if schema.format == "u" else np.int64)
        return Texts.offsets(places, _buffer(owner, view, 2, np.uint8), start, length)
    if schema.format == "vu":
        data = [_buffer(owner, view, i, np.uint8) for i in range(2, view.n_buffers - 1)]
        return Texts.views(_buffer(owner, view, 1, np.uint8), data, start, length)
    raise InvalidTickError(
        f"column {name} has the Arrow type {schema.format!r}, it must hold numbers, timestamps or strings"
    )


def _buffer(owner: Any, view: Any, place: int, dtype: Any) -> npt.NDArray[Any]:
    buffer = view.buffer(place)
    if not buffer.size_bytes:
        return np.empty(0, dtype)
    seen = np.frombuffer(buffer, np.uint8)
    return np.asarray(_Memory(seen.ctypes.data, seen.size, owner)).view(dtype)


def _no_nulls(name: str, owner: Any, view: Any, start: int, length: int, row: int) -> None:
    if view.null_count == 0:
        return
    bits = _buffer(owner, view, 0, np.uint8)
    if len(bits) == 0:
        return
    valid = np.unpackbits(bits, bitorder="little")[start : start + length]
    if not valid.all():
        null = row + int(valid.argmin())
        raise InvalidTickError(f"row {null}: {name} is null", null)


def to_stream(
    rows: npt.NDArray[Any],
    names: dict[str, Sequence[str]],
    *,
    ids: bool,
    requested_schema: object = None,
) -> object:
    """Bars as an Arrow stream of one record batch: a PyCapsule.

    Args:
        rows: of `fastbars.rows.ROW_DTYPE`.
        names: what the numbers stand for, of symbol, spec, status and close_reason.
        ids: first and last id are the exchange's; else they are null.
        requested_schema: of the PyCapsule interface.

    Raises:
        PrecisionError: a column needs more than 38 digits at its largest scale.
    """
    library = nanoarrow()
    rows = np.ascontiguousarray(rows)
    encoded = {name: [text.encode() for text in texts] for name, texts in names.items()}
    # Empty intervals have no ids, and no prices where trades may be missing.
    traded, priced = rows["count"] > 0, rows["high"] != _NO_PRICE
    if not priced.all():
        rows = rows.copy()
        for name in ("open", "high", "low", "close"):
            rows[name][~priced] = 0
    valid = {
        "first_trade_id": traded & ids,
        "last_trade_id": traded & ids,
        "missing_count": rows["missing"] >= 0,
        **dict.fromkeys(("open", "high", "low", "close"), priced),
    }
    children = {}
    for name, (field, scale_field) in COLUMNS.items():
        buffers: list[Any]
        if name in encoded:
            kind, buffers = library.large_string(), [None, *text_column(rows[field].astype(np.int64), encoded[name])]
        elif scale_field:
            scale = int(rows[scale_field].max(initial=0))
            kind = library.decimal128(38, scale)
            buffers = [_validity(valid.get(name)), _decimals(rows, name, field, scale)]
        elif name.endswith("time"):
            kind, buffers = library.timestamp("ns", timezone="UTC"), [None, np.ascontiguousarray(rows[field])]
        elif name == "revision":
            kind, buffers = library.int32(), [None, np.ascontiguousarray(rows[field])]
        else:
            kind = library.int64()
            buffers = [_validity(valid.get(name)), np.ascontiguousarray(rows[field])]
        children[name] = (kind, library.c_array_from_buffers(kind, len(rows), buffers))
    table = library.c_array_from_buffers(
        library.struct({name: kind for name, (kind, _) in children.items()}),
        len(rows),
        [None],
        children=[array for _, array in children.values()],
    )
    return library.Array(table).__arrow_c_stream__(requested_schema)


def _validity(valid: npt.NDArray[np.bool_] | None) -> npt.NDArray[np.uint8] | None:
    return None if valid is None or valid.all() else np.packbits(valid, bitorder="little")


def _decimals(rows: npt.NDArray[Any], name: str, field: str, scale: int) -> npt.NDArray[np.uint64]:
    values, row = decimal_column(rows, field, scale)
    if values is None:
        raise PrecisionError(
            f"row {row}: column {name} has {scale} decimals, and with them this value needs more than the 38 digits of"
            " decimal128",
            row,
        )
    return values
