"""Trades in Parquet files as columns: record batch by record batch, in bounded memory, only the columns that are used.

Source: https://parquet.apache.org/docs/file-format/. Numbers are decimals, texts or integers (mantissas), all exact;
floats have lost digits already, and are refused unless a scale is stated.
Units: as in `fastbars.archives.columns`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbars.archives.columns import TradeColumns
from fastbars.archives.declaration import ArchiveFile, Role
from fastbars.columnar.arrays import Taken, take_columns
from fastbars.columnar.columns import align
from fastbars.columnar.parquet import pyarrow, pyarrow_parquet
from fastbars.errors import InvalidTickError, PrecisionError, TapeError
from fastbars.kernel.limits import MAX_SCALE
from fastbars.times import UNITS_NS, TimeUnit

__all__ = ["read_parquet"]

_BLOCK_ROWS = 1 << 16
_LOOKED_AT = 256  # one of the first rows nearly always has all decimals
_EARLIEST_NS, _LATEST_NS = 1_104_537_600 * 10**9, 4_102_444_800 * 10**9  # 2005 to 2100
_NEEDED = (Role.TIME, Role.PRICE, Role.SIZE)
_MOST_METADATA = 1 << 28  # bytes of a footer, and of what it lists


def read_parquet(file: ArchiveFile) -> Iterator[TradeColumns]:
    """The trades of a Parquet file, in blocks of at most 65,536 rows, in the order of the file.

    Columns are found by the names of `file.format`: times as timestamps of any unit and zone (without one: UTC) or
    integers of one of its units; prices and sizes as decimals, texts, or integers, which are mantissas; sides as
    booleans, texts or 1 and -1; symbols as texts, dictionaries or integers. Floats need the scales of the format.

    Args:
        file: of `recognise`.

    Raises:
        TapeError: the file is damaged or no Parquet, a column is missing or of another type, or a row is malformed: the
            message names file, column and type, or row and value. The blocks before it have been yielded.
    """
    arrow = pyarrow()
    path = file.path
    try:
        with _open(path) as opened:
            roles = _roles(file, opened.schema_arrow)
            symbols = _Symbols(file.symbol)
            unit = None
            first_row = 1
            for batch in opened.iter_batches(_BLOCK_ROWS, columns=list(roles.values()), use_threads=False):
                if not batch.num_rows:
                    continue
                if unit is None:
                    unit = _unit(arrow, file, batch.column(roles[Role.TIME]), roles[Role.TIME])
                try:
                    yield from _blocks(arrow, file, batch, roles, unit, symbols, first_row)
                except (InvalidTickError, PrecisionError, TypeError) as error:
                    raise TapeError(_at(path, error, first_row)) from None
                first_row += batch.num_rows
            if first_row == 1:
                raise TapeError(f"{path}: it has no trades")
    except (arrow.ArrowException, OSError) as error:
        raise TapeError(f"{path}: cannot be read as Parquet: {error}") from None


def _open(path: Path) -> Any:
    # A buffer, so that a row group is read page by page, whatever its size.
    library = pyarrow_parquet()
    schema = library.read_schema(path)  # before anything is decoded: which columns are texts
    texts = [
        name
        for name, kind in zip(schema.names, schema.types, strict=True)
        if pyarrow().types.is_string(kind) or pyarrow().types.is_large_string(kind)
    ]
    return library.ParquetFile(
        path,
        read_dictionary=texts,
        buffer_size=1 << 20,
        pre_buffer=False,
        thrift_string_size_limit=_MOST_METADATA,
        thrift_container_size_limit=_MOST_METADATA,
    )


def _roles(file: ArchiveFile, schema: Any) -> dict[Role, str]:
    found: dict[Role, str] = {}
    for name in schema.names:
        role = file.format.names.get(name.lower().replace("_", "").replace(" ", ""), Role.UNUSED)
        if role is Role.UNUSED:
            continue
        if role in found or len(schema.get_all_field_indices(name)) > 1:
            raise TapeError(f"{file.path}: columns {found.get(role, name)} and {name} are both the {role.name.lower()}")
        found[role] = name
    for role in _NEEDED:
        if role not in found:
            raise TapeError(
                f"{file.path}: no column holds the {role.name.lower()}: it has {', '.join(schema.names)}; name it, as"
                f" in --columns {role.name.lower()}=NAME"
            )
    if file.symbol is not None:
        found.pop(Role.SYMBOL, None)
    elif Role.SYMBOL not in found:
        raise TapeError(f"{file.path}: neither its name nor a column says which symbol's trades it has")
    return found


def _unit(arrow: Any, file: ArchiveFile, column: Any, name: str) -> TimeUnit | None:
    # That of integers: the only one there is, or that in which the first time has a plausible date.
    units = file.format.units
    if not arrow.types.is_integer(column.type) or not units:
        return None
    if len(units) == 1:
        return units[0]
    time = column[0].as_py()
    for unit in units:
        if time is not None and _EARLIEST_NS <= time * UNITS_NS[unit] < _LATEST_NS:
            return unit
    raise TapeError(f"{file.path}: row 1: {name} {time} is in none of {', '.join(units)}: say which, by --time-unit")


def _at(path: Path, error: Exception, first_row: int) -> str:
    row = getattr(error, "row", None)
    text = str(error)
    return f"{path}: {text if row is None else text.replace(f'row {row}', f'row {first_row + row}', 1)}"


class _Symbols:
    # The symbols of a file, numbered as they come.

    def __init__(self, only: str | None) -> None:
        self._numbers: dict[str, int] = {} if only is None else {only: 0}
        self.names: tuple[str, ...] = () if only is None else (only,)

    def numbered(self, taken: Taken) -> npt.NDArray[np.int32]:
        before = len(self._numbers)
        numbers = [self._numbers.setdefault(name, len(self._numbers)) for name in taken.names]
        if len(self._numbers) > before:
            self.names = tuple(self._numbers)
        ids = taken.columns["symbol_id"]
        return ids if numbers == list(range(len(numbers))) else np.array(numbers, np.int32)[ids]


def _blocks(
    arrow: Any,
    file: ArchiveFile,
    batch: Any,
    roles: Mapping[Role, str],
    unit: TimeUnit | None,
    symbols: _Symbols,
    first_row: int,
) -> Iterator[TradeColumns]:
    def column(role: Role) -> Any:
        if role not in roles:
            return None
        held = batch.column(roles[role])
        held.null_count  # noqa: B018  counted here, it need not be looked for row by row
        return held

    price, price_scale = _number(arrow, column(Role.PRICE), file.format.price_scale)
    size, size_scale = _number(arrow, column(Role.SIZE), file.format.size_scale)
    ids = (Role.FIRST_ID, Role.LAST_ID) if Role.FIRST_ID in roles else (Role.TRADE_ID, Role.UNUSED)
    side = column(Role.SIDE)
    taken = take_columns(
        column(Role.TIME),
        price,
        size,
        symbol=column(Role.SYMBOL) if file.symbol is None else file.symbol,
        side=None if side is None else _side(arrow, file, side, roles[Role.SIDE]),
        trade_id=column(ids[0]) if file.format.policy.numbered else None,
        last_trade_id=column(ids[1]) if file.format.policy.numbered else None,
        trade_count=column(Role.COUNT),
        price_scale=price_scale,
        size_scale=size_scale,
        negative_prices=True,
        time_unit=unit,
    )
    columns = taken.columns
    columns["symbol_id"] = symbols.numbered(taken)
    count = batch.num_rows
    columns.setdefault("side", np.zeros(count, np.int8))
    single = columns.get("first_id") is columns.get("last_id")
    for name, dtype in (("first_id", np.int64), ("last_id", np.int64), ("count", np.int64), ("side", np.int8)):
        if name in columns:
            columns[name] = _exactly(name, columns[name], dtype)
    if single and "first_id" in columns:
        columns["last_id"] = columns["first_id"]
    yield from _aligned(columns, taken.scales, symbols.names, first_row, 0, count)


def _number(arrow: Any, column: Any, scale: int | None) -> tuple[Any, int | None]:
    # Decimals that all fit 64 bits, as nearly all do, at the smallest scale that holds them; others as they came.
    if not arrow.types.is_decimal128(column.type) or column.null_count or scale is not None:
        return column, scale
    words = np.frombuffer(column.buffers()[1], np.uint64).reshape(-1, 2)[column.offset :][: len(column)]
    own = column.type.scale
    if not 0 <= own <= MAX_SCALE or words[:, 1].any():
        return column, None
    values = words[:, 0].astype(np.int64)
    if values.min() < 0:  # of 64 bits without a sign
        return column, None
    while own and not (values[:_LOOKED_AT] % 10).any() and not (values % 10).any():
        values //= 10
        own -= 1
    return values, own


def _exactly(name: str, values: npt.NDArray[Any], dtype: Any) -> npt.NDArray[Any]:
    cast = np.ascontiguousarray(values, dtype)
    if cast.dtype != values.dtype and (wrong := cast != values).any():
        row = int(wrong.argmax())
        raise InvalidTickError(f"row {row}: {name} {values[row]} is out of range", row)
    return cast


def _side(arrow: Any, file: ArchiveFile, column: Any, name: str) -> Any:
    # As texts and booleans mean in this format; numbers mean what they do everywhere.
    sides = file.format.sides
    types = arrow.types
    if types.is_boolean(column.type):
        truth = sides.get("true", 1)
        if column.null_count:
            return column  # refused, with its row
        bought = column.cast(arrow.uint8()).to_numpy().view(np.int8)
        return (2 * truth) * bought - np.int8(truth)
    encoded = column if types.is_dictionary(column.type) else None
    if encoded is None and (types.is_string(column.type) or types.is_large_string(column.type)):
        encoded = column.dictionary_encode()
    if encoded is None or encoded.null_count or not sides:
        return column
    texts = encoded.dictionary.to_pylist()
    codes = encoded.indices.to_numpy(zero_copy_only=False)
    signs = np.array([sides.get(str(text).lower(), 2) for text in texts] or [2], np.int8)[codes]
    if (signs == 2).any():
        row = int((signs == 2).argmax())
        raise InvalidTickError(f"row {row}: {name} {texts[codes[row]]!r} is not one of {', '.join(sides)}", row)
    return signs


def _aligned(
    columns: Mapping[str, npt.NDArray[Any]],
    scales: tuple[Any, Any],
    symbols: tuple[str, ...],
    first_row: int,
    start: int,
    stop: int,
) -> Iterator[TradeColumns]:
    # All rows of a block have one scale; where they do not fit 64 bits with it, the block is halved.
    numbers = []
    for name, one_or_each in zip(("price", "size"), scales, strict=True):
        values = columns[name][start:stop]
        if isinstance(one_or_each, int):
            numbers.append((values, one_or_each))
            continue
        scale = one_or_each[start:stop]
        if scale[0] == scale.min() == scale.max():
            numbers.append((values, int(scale[0])))
            continue
        own = np.zeros(1, np.int8)
        values = values.copy()
        failed = align(values, np.ascontiguousarray(scale), None, own)
        if failed >= 0:
            middle = (start + stop) // 2
            yield from _aligned(columns, scales, symbols, first_row, start, middle)
            yield from _aligned(columns, scales, symbols, first_row, middle, stop)
            return
        numbers.append((values, int(own[0])))
    (price, price_scale), (size, size_scale) = numbers
    names = ("first_id", "last_id", "count")
    first, last, count = (columns[name][start:stop] if name in columns else None for name in names)
    if columns.get("first_id") is columns.get("last_id"):
        last = first
    yield TradeColumns(
        symbols, columns["symbol_id"][start:stop], columns["time_ns"][start:stop], price, price_scale, size, size_scale,
        columns["side"][start:stop], first, last, count, first_row + start,
    )  # fmt: skip
