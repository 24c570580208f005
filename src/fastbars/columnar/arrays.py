"""`fastbars.aggregate`: columns of trades in, bars out.

Units: time_ns int64 nanoseconds since the Unix epoch, UTC; integer prices and sizes are mantissas at `price_scale` and
`size_scale`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastbars._agg import BarKernel
from fastbars.bars import REASONS, CloseReason
from fastbars.columnar.arrow import Chunk, is_arrow, read_column
from fastbars.columnar.bar_batch import BarBatch
from fastbars.columnar.columns import (
    Encoder,
    Texts,
    align,
    first_unsorted,
    integers_of,
    look_up,
    narrow_decimals,
    narrow_letters,
    number_anew,
    numbers_of_objects,
    round_floats,
)
from fastbars.columnar.inside import Inside, joined
from fastbars.errors import InvalidTickError, PrecisionError
from fastbars.kernel.batch import TickBatch, side_sign
from fastbars.kernel.ids import Ledger
from fastbars.kernel.instruments import Instruments
from fastbars.kernel.limits import MAX_SCALE
from fastbars.kernel.rows import ROW_DTYPE, IssuedRows
from fastbars.kernel.scaled import parse, to_scaled
from fastbars.specs import BarSpec, Origin, parse_specs
from fastbars.times import TimeUnit, check_units, is_doubtful, of_datetimes, of_objects, scale_up, unit_ns

Columns = dict[str, npt.NDArray[Any]]

# Rows that the kernel takes at once.
_BLOCK = 4_194_304
_BY_END = REASONS.index(CloseReason.END)
_LUMP = np.dtype((np.void, ROW_DTYPE.itemsize))
# Texts in these stand for few values: they are looked up where they lie.
_LOOKED_UP = ("symbol", "side")
# Ids up to so many times the rows are used as they are; sparser ones are numbered anew.
_SPARSE = 4


def aggregate(
    time_ns: Any,
    price: Any,
    size: Any,
    *,
    symbol: Any = None,
    side: Any = None,
    trade_id: Any = None,
    last_trade_id: Any = None,
    trade_count: Any = None,
    exchange: str = "",
    market: str = "",
    bars: str | int | BarSpec | Sequence[str | int | BarSpec] = "1m",
    price_scale: int | None = None,
    size_scale: int | None = None,
    negative_prices: bool = False,
    sort: bool = False,
    timezone: str | None = None,
    origin: Origin | None = None,
    time_unit: TimeUnit | None = None,
) -> BarBatch:
    """Cut trades, given as columns of equal length, into bars.

    A column is a numpy array, a sequence, or any object with the Arrow PyCapsule interface (of polars, pandas,
    pyarrow, DuckDB, ...; needs the extra `arrow`). Without `trade_id` the bars are UNVERIFIABLE at best, as ids prove
    nothing; the first bar of a symbol and spec is PARTIAL, and so is the last, which the end of input closes (`end`).

    Args:
        time_ns: exchange time, ascending: integers (ns since the epoch, or `time_unit`), datetime64 of any unit and
            byte order, Arrow timestamps (without a time zone both count as UTC), a zone-aware pandas index or Series,
            or objects: aware datetimes, pandas Timestamps.
        price: quote units, > 0 unless `negative_prices`: integers (mantissas at `price_scale`, 0 by default), decimals
            or texts (exact, each symbol with as many decimals as it needs, or up to `price_scale`), or floats, with
            `price_scale` only: the exact value of each is rounded to so many decimals, to the nearest, ties to even.
        size: base units, > 0: likewise, with `size_scale`. With `trade_id` a row of size 0 is void, whatever its price:
            its id is used up, and nothing was traded.
        symbol: integer ids >= 0 or texts; one text: all trades are of this symbol.
        side: 1 the taker bought, -1 the taker sold, 0 unknown; or booleans, true where the taker bought; or the texts
            buy, sell, unknown. Binance's `isBuyerMaker` (`m`) is true where the taker sold: give `~column`.
        trade_id: contiguous ids, as `BarBuffer(ids="contiguous")` takes them: they order trades, prove completeness,
            and a trade seen before is dropped.
        last_trade_id: of aggregated trades the id of the last one, where `trade_id` is that of the first.
        trade_count: of aggregated trades how many each row stands for; as many as it has ids by default, or one.
        exchange, market: whose trades these are, such as "binance" and "usdm": bars name both.
        bars: bar specs.
        price_scale, size_scale: decimals, 0 to 18.
        negative_prices: prices may be zero or negative (spreads, oil); else such a price is refused.
        sort: bring the trades into the order of time first (those of equal time keep theirs).
        timezone, origin: of day and longer bars that do not name their own (see `BarSpec.parse`).
        time_unit: what integer times count: "s", "ms", "us" or "ns". None: ns, but a column that looks like another
            unit is refused (see docs/semantics.md, "Arrays"). Times that carry their unit are unaffected.

    Returns:
        BarBatch, in the order of the trades that closed the bars; then what the end closed, in order of the symbols'
        first appearance, then of the specs.

    Raises:
        InvalidTickError: a column of another length or type, a null, a row that breaks a rule, or unsorted times;
            the message and `row` name the row.
        PrecisionError: a number cannot be held exactly; likewise.
        TypeError: floats without a scale, times as text or floats. SpecError: a bar spec is not known.
    """
    specs = parse_specs(bars, timezone=timezone, origin=origin)
    columns, names, own_scales, unsorted = take_columns(
        time_ns, price, size, symbol=symbol, side=side, trade_id=trade_id, last_trade_id=last_trade_id,
        trade_count=trade_count, price_scale=price_scale, size_scale=size_scale, negative_prices=negative_prices,
        time_unit=time_unit,
    )  # fmt: skip
    times = columns["time_ns"]
    scales = [
        own if isinstance(own, int) else _aligned(name, columns, own, names)
        for name, own in zip(("price", "size"), own_scales, strict=True)
    ]
    order = None
    if unsorted >= 0:
        if not sort:
            raise InvalidTickError(
                f"row {unsorted}: time_ns {times[unsorted]} is earlier than {times[unsorted - 1]} in the row before it;"
                " give the trades in order of time, or sort=True",
                unsorted,
            )
        order = np.argsort(times, kind="stable")
        single = columns.get("first_id") is columns.get("last_id")
        columns = {name: column[order] for name, column in columns.items()}
        if single and trade_id is not None:  # the kernel has a shorter way for equal columns that are one
            columns["last_id"] = columns["first_id"]
    instruments = Instruments(exchange, negative_prices, market)
    of_price, of_size = (repeat(scale) if isinstance(scale, int) else scale.tolist() for scale in scales)
    for name, price_of, size_of in zip(names, of_price, of_size, strict=False):
        instruments.add(name, price_of, size_of)
    try:
        made, inside = _run(columns, instruments, specs)
    except (InvalidTickError, PrecisionError) as error:
        if order is None or error.row is None:
            raise
        row = int(order[error.row])
        raise type(error)(f"{error} (after sorting; row {row} as given)", row) from None
    return BarBatch(made, instruments, specs, ids=trade_id is not None, inside=inside)


class Taken(NamedTuple):
    """Trades as columns of integers.

    Attributes:
        columns: by the names that TickBatch has.
        names: of the symbols that "symbol_id" counts.
        scales: decimals of price and size, each one for all rows or int8[n], one a row.
        unsorted: the first row that is earlier than the one before it, or -1.
    """

    columns: Columns
    names: Sequence[str]
    scales: tuple[int | npt.NDArray[np.int8], int | npt.NDArray[np.int8]]
    unsorted: int


def take_columns(
    time_ns: Any,
    price: Any,
    size: Any,
    *,
    symbol: Any = None,
    side: Any = None,
    trade_id: Any = None,
    last_trade_id: Any = None,
    trade_count: Any = None,
    price_scale: int | None = None,
    size_scale: int | None = None,
    negative_prices: bool = False,
    time_unit: TimeUnit | None = None,
) -> Taken:
    """Columns of every kind that `aggregate` takes, with the same arguments and errors, as integers."""
    times, unsorted = _times(time_ns, time_unit)
    rows = len(times)
    columns: Columns = {"time_ns": times}
    columns["symbol_id"], names = _symbols(symbol, rows)
    scales: list[int | npt.NDArray[np.int8]] = []
    for name, column, scale in (("price", price, price_scale), ("size", size, size_scale)):
        columns[name], own = _numbers(name, column, scale, columns["symbol_id"], negative_prices and name == "price")
        _same_length(name, columns[name], rows)
        scales.append(own)
    if side is not None:
        columns["side"] = _sides(side, rows)
    if trade_id is not None:
        columns["first_id"] = columns["last_id"] = _integers("trade_id", trade_id, rows)
        if last_trade_id is not None:
            columns["last_id"] = _integers("last_trade_id", last_trade_id, rows)
    elif last_trade_id is not None:
        raise TypeError("last_trade_id needs trade_id; for trades without ids give trade_count")
    if trade_count is not None:
        columns["count"] = _integers("trade_count", trade_count, rows)
    return Taken(columns, names, (scales[0], scales[1]), unsorted)


# The kernel, block by block.


def _run(
    columns: Columns, instruments: Instruments, specs: tuple[BarSpec, ...]
) -> tuple[npt.NDArray[Any], Inside | None]:
    ids = "first_id" in columns
    trades = TickBatch.wrap(instruments, columns)
    kernel = BarKernel(instruments, specs, Ledger() if ids else None, ids)
    parts = _fold(kernel, _blocks(instruments, trades, [*columns, "count"]))
    inside = joined([(part.array(), Inside.of(part)) for part in parts])
    made = _together([part.array() for part in parts])
    # Only trades of a series that began anew had to wait; to look for them in all rows is a tenth of the whole.
    return (_by_cause(made, len(trades)) if kernel.begun else made), inside


def _by_cause(made: npt.NDArray[Any], trades: int) -> npt.NDArray[Any]:
    # Bars that trades closed which had to wait until the end were numbered behind all others.
    waited = (made["row"] >= trades) & (made["reason"] != _BY_END)
    if waited.any():
        made["row"][waited] -= trades
    return made


def _together(parts: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    # As lumps of bytes: numpy would copy rows field by field.
    return parts[0] if len(parts) == 1 else np.concatenate([part.view(_LUMP) for part in parts]).view(ROW_DTYPE)


def _blocks(instruments: Instruments, trades: TickBatch, names: Iterable[str]) -> Iterator[tuple[TickBatch, int, bool]]:
    # ("count" by ids, where it was not given.)
    rows = len(trades)
    if rows <= _BLOCK:
        yield trades, 0, True
        return
    columns = {name: column for name in names if (column := trades.column(name)) is not None}
    for start in range(0, rows, _BLOCK):
        block = {name: column[start : start + _BLOCK] for name, column in columns.items()}
        yield TickBatch.wrap(instruments, block), start, start + _BLOCK >= rows


def _fold(kernel: BarKernel, blocks: Iterable[tuple[TickBatch, int, bool]]) -> list[IssuedRows]:
    # The bars that trades closed, then those that the end closed. A block is (its trades, the row it begins at, whether
    # it is the last).
    made = []
    for batch, start, ends in blocks:
        try:
            closed, late = kernel.update(batch, ends)
        except (InvalidTickError, PrecisionError) as error:
            if error.row is None:
                raise
            row = start + error.row
            raise type(error)(str(error).replace(f"row {error.row}", f"row {row}", 1), row) from None
        if late:
            row, spec = start + late[0][0], late[0][1]
            if spec < -1:  # not this one, but one before it, which had to wait
                row = kernel.stray(-1 - spec)[-1]
            raise InvalidTickError(f"row {row}: its trade id is too old to tell whether it was seen", row)
        if start and len(closed):
            numbers = closed["row"][: len(closed) - np.count_nonzero(closed["reason"] == _BY_END)]
            numbers += start
        made.append(closed)
    return made


# Columns as they come, to columns of integers.


def _chunks(name: str, column: Any, rows: int | None = None) -> list[Chunk]:
    dtype = getattr(column, "dtype", None)
    if isinstance(column, np.ma.MaskedArray):
        if np.ma.is_masked(column):
            row = int(np.ma.getmaskarray(column).argmax())
            raise InvalidTickError(f"row {row}: {name} is masked", row)
        column = column.data
    zoned = getattr(dtype, "tz", None) is not None and hasattr(dtype, "unit")  # of pandas
    # numpy's, and pandas' where they are numpy's, which need no Arrow; of objects pandas would let Arrow guess the
    # type, which cuts nanoseconds off.
    plain = zoned or (isinstance(dtype, np.dtype) and dtype.kind in "iufMbO")
    if is_arrow(column) and not plain:
        return read_column(name, column, rows)
    array = None
    if isinstance(column, list | tuple):
        if name in _LOOKED_UP and column and isinstance(column[0], str):
            return [Chunk("object", column)]
        array = _listed(column)
    if zoned:
        array = np.asarray(column, f"M8[{dtype.unit}]")  # type: ignore[union-attr]
    elif array is None:
        array = np.asarray(column)
    if array.ndim != 1:
        raise InvalidTickError(f"column {name} has {array.ndim} dimensions, not 1")
    kind = array.dtype.kind
    if kind in "iu":
        return [Chunk("integer", array)]
    if kind == "b" and name == "side":
        return [Chunk("boolean", array)]
    if kind == "f" and array.dtype.itemsize <= 8:
        return [Chunk("float", array)] if len(array) else []
    if kind == "M":
        return [Chunk("time", of_datetimes(array, name))]
    if kind == "S":
        return [Chunk("text", Texts.fixed(array))]
    if kind == "U" and array.dtype.byteorder in "=|<>"[:2]:
        width = array.dtype.itemsize // 4
        letters = np.ascontiguousarray(array).view(np.uint32)
        narrow = np.empty(len(letters), np.uint8)
        if width and narrow_letters(letters, narrow):
            return [Chunk("text", Texts.fixed(narrow.view(f"S{width}")))]
    if kind in "OUT":
        return [Chunk("object", array.astype(object))]
    raise InvalidTickError(f"column {name} has dtype {array.dtype}; it must hold numbers, times or texts")


def _listed(column: list[Any] | tuple[Any, ...]) -> npt.NDArray[Any] | None:
    # None: numpy finds a type for them all.
    integers = integers_of(column)
    if integers is not None:
        return integers
    types: set[Any] = set(map(type, column))
    if np.datetime64 in types:  # of several units numpy would take the finest, in which others may not fit
        types = {value.dtype if isinstance(value, np.datetime64) else type(value) for value in column}
    return np.array(column, object) if len(types) > 1 else None  # numpy would make one type of them


def _times(column: Any, time_unit: TimeUnit | None) -> tuple[npt.NDArray[np.int64], int]:
    """(times, the first row that is earlier than the one before it, or -1)."""
    factor = 1 if time_unit is None else unit_ns(time_unit)
    parts = []
    row = 0
    counted = False
    for chunk in _chunks("time_ns", column):
        if chunk.kind == "object":
            parts.append(of_objects(chunk.values, time_unit, "time_ns", row))
        elif chunk.kind == "time":
            parts.append(scale_up(chunk.values, chunk.unit, "time_ns", row))
        elif chunk.kind == "integer":
            counted = True
            parts.append(scale_up(chunk.values, factor, "time_ns", row))
        else:
            raise InvalidTickError(
                f"column time_ns holds {chunk.kind}s; it must hold integers (ns) or times"
                + (": pandas.to_datetime or polars' str.to_datetime reads them" if chunk.kind == "text" else "")
            )
        row += len(chunk)
    times = _joined(parts, np.int64)
    unsorted = first_unsorted(times)
    # In order, the first is the earliest: where it can only be in nanoseconds, no other needs to be looked at.
    if counted and time_unit is None and len(times) and (unsorted >= 0 or is_doubtful(times[0])):
        check_units(times)
    return times, unsorted


def _integers(name: str, column: Any, rows: int) -> npt.NDArray[Any]:
    chunks = _chunks(name, column, rows)
    for chunk in chunks:
        if chunk.kind != "integer":
            raise InvalidTickError(f"column {name} holds {chunk.kind}s, it must hold integers")
    parts = [chunk.values for chunk in chunks]
    joined = parts[0] if len(parts) == 1 else np.concatenate(parts) if parts else np.empty(0, np.int64)
    _same_length(name, joined, rows)
    return joined


def _sides(column: Any, rows: int) -> npt.NDArray[Any]:
    parts: list[npt.NDArray[Any]] = []
    row = 0
    for chunk in _chunks("side", column, rows):
        if chunk.kind == "integer":
            parts.append(chunk.values)
        elif chunk.kind == "boolean":
            parts.append(np.where(chunk.values, 1, -1).astype(np.int8))
        elif chunk.kind in ("object", "text"):
            encoded = _encoded_objects(chunk.values) if chunk.kind == "object" else _encoded("side", chunk)
            if encoded is None:
                parts.append(np.array([_sign(value, place) for place, value in enumerate(chunk.values, row)], np.int8))
            else:
                names, codes = encoded
                signs = [_sign(text, row + int((codes == i).argmax())) for i, text in enumerate(names)]
                parts.append(np.array(signs, np.int8)[codes])
        else:
            raise InvalidTickError(f"column side holds {chunk.kind}s, it must hold integers, booleans, buy or sell")
        row += len(chunk)
    joined = _joined(parts, np.int8)
    _same_length("side", joined, rows)
    return joined


def _encoded(name: str, chunk: Chunk) -> tuple[list[bytes], npt.NDArray[Any]]:
    # Each text that occurs, once, and which of them is in each row. Texts of a dictionary that no row has are left out.
    if chunk.names is None:
        encoder = Encoder()
        codes = np.empty(len(chunk), np.int32)
        _encode(name, encoder, chunk.values, codes)
        return encoder.names, codes
    codes = _looked_up(chunk.values, np.arange(len(chunk.names), dtype=np.int32))
    used = number_anew(codes, len(chunk.names))
    return [_text_at(name, chunk.names, place) for place in used.tolist()], codes


def _looked_up(codes: npt.NDArray[Any], places: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    ids = np.empty(len(codes), np.int32)
    look_up(codes, places, ids)
    return ids


def _encoded_objects(values: Sequence[Any] | npt.NDArray[Any]) -> tuple[list[bytes], npt.NDArray[Any]] | None:
    # As above; None: not all are texts.
    encoder = Encoder()
    codes = np.empty(len(values), np.int32)
    return (encoder.names, codes) if encoder.encode_objects(values, codes) < 0 else None


def _encode(name: str, encoder: Encoder, texts: Texts, ids: npt.NDArray[np.int32]) -> None:
    try:
        encoder.encode(texts, ids)
    except InvalidTickError as error:
        raise InvalidTickError(f"column {name}: {error}") from None


def _text_at(name: str, texts: Texts, place: int) -> bytes:
    try:
        return texts[place]
    except InvalidTickError as error:
        raise InvalidTickError(f"column {name}: {error}") from None


def _sign(value: Any, row: int) -> int:
    try:
        return side_sign(f"row {row}", value.decode(errors="replace") if isinstance(value, bytes) else value)
    except InvalidTickError as error:
        raise InvalidTickError(str(error), row) from None


def _joined(parts: list[npt.NDArray[Any]], dtype: Any) -> npt.NDArray[Any]:
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts) if parts else np.empty(0, dtype)


def _same_length(name: str, column: npt.NDArray[Any], rows: int) -> None:
    if len(column) != rows:
        raise InvalidTickError(f"column {name} has {len(column)} rows, time_ns has {rows}")


def _numbers(
    name: str, column: Any, scale: int | None, symbol_id: npt.NDArray[np.int32], signed: bool
) -> tuple[npt.NDArray[np.int64], int | npt.NDArray[np.int8]]:
    """(mantissas, their scale): one scale for all, or one a row."""
    if scale is not None and not 0 <= scale <= MAX_SCALE:
        raise PrecisionError(f"{name}_scale {scale} is outside 0 to {MAX_SCALE}")
    mantissas: list[npt.NDArray[np.int64]] = []
    scales: list[npt.NDArray[np.int8]] = []
    fixed = False
    row = 0
    for chunk in _chunks(name, column, len(symbol_id)):
        if chunk.kind in ("time", "boolean"):
            raise InvalidTickError(f"column {name} holds {chunk.kind}s, it must hold numbers")
        if chunk.kind == "float" and scale is None:
            raise TypeError(
                f"column {name} holds floats, which have already lost digits; give {name}_scale, the number of"
                " decimals to round them to"
            )
        mantissa, own = _mantissas(name, chunk, scale, row, symbol_id, signed)
        fixed = own is None
        mantissas.append(mantissa)
        if own is not None:
            if scale is not None and (own > scale).any():
                place = row + int((own > scale).argmax())
                raise PrecisionError(
                    f"row {place}: {name} needs {own.max()} decimals, the scale is fixed at {scale}", place
                )
            scales.append(own)
        row += len(chunk)
    whole = _joined(mantissas, np.int64)
    return whole, (scale or 0) if fixed or not scales else _joined(scales, np.int8)


def _mantissas(
    name: str, chunk: Chunk, scale: int | None, row: int, symbol_id: npt.NDArray[np.int32], signed: bool
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int8] | None]:
    rows = len(chunk)
    if chunk.kind == "integer":
        return scale_up(chunk.values, 1, name, row), None
    mantissa = np.empty(rows, np.int64)
    if chunk.kind == "float":
        assert scale is not None
        values = np.ascontiguousarray(chunk.values, np.float64)
        failed = round_floats(values, scale, mantissa)
        if failed >= 0:
            raise PrecisionError(
                f"row {row + failed}: {name} {values[failed]} does not fit 64 bits with {scale} decimals", row + failed
            )
        return mantissa, None
    scales = np.empty(rows, np.int8)
    if chunk.kind == "decimal":
        symbols = symbol_id[row : row + rows]
        if len(symbols) < rows:  # refused when all chunks are read
            symbols = np.zeros(rows, np.int32)
        failed = narrow_decimals(chunk.values, chunk.width, chunk.unit, mantissa, scales, symbols, signed)
        if failed >= 0:
            data = chunk.values[failed * chunk.width : (failed + 1) * chunk.width].tobytes()
            digits = int.from_bytes(data, "little", signed=True)
            _take_number(name, Decimal(f"{digits}E-{chunk.unit}"), row + failed, signed)
    elif chunk.kind == "text" and chunk.names is not None:
        names, codes = _encoded(name, chunk)
        known = []
        for place, text in enumerate(names):
            try:
                known.append(_take_number(name, text, None, signed))
            except (InvalidTickError, PrecisionError):
                _take_number(name, text, row + int((codes == place).argmax()), signed)  # raises likewise, with the row
        mantissa[:] = np.array([number for number, _ in known], np.int64)[codes]
        scales[:] = np.array([own for _, own in known], np.int8)[codes]
    elif chunk.kind == "text":
        failed = chunk.values.numbers(mantissa, scales, signed)
        if failed >= 0:
            _take_number(name, _text_at(name, chunk.values, failed), row + failed, signed)
    else:
        failed = numbers_of_objects(chunk.values, mantissa, scales, signed)
        if failed >= 0:
            _take_number(name, chunk.values[failed], row + failed, signed)
    return mantissa, scales


def _take_number(name: str, value: Any, row: int | None, signed: bool) -> tuple[int, int]:
    where = "" if row is None else f"row {row}: "
    try:
        mantissa, scale = parse(value)
    except PrecisionError as error:
        raise PrecisionError(f"{where}{name} {error}", row) from None
    except TypeError as error:
        raise TypeError(f"{where}{name}: {error}") from None
    if mantissa < 0 and not signed:  # of zero the kernel decides: it knows whether ids tell
        shown = value.decode() if isinstance(value, bytes) else value
        raise InvalidTickError(f"{where}{name} {shown} is not positive", row)
    return mantissa, scale


def _aligned(name: str, columns: Columns, scales: npt.NDArray[np.int8], names: Sequence[str]) -> npt.NDArray[np.int8]:
    symbol_scales = np.zeros(max(len(names), 1), np.int8)
    mantissa = columns[name]
    failed = align(mantissa, scales, columns["symbol_id"], symbol_scales)
    if failed >= 0:
        symbol = names[columns["symbol_id"][failed]]
        decimals = int(symbol_scales[columns["symbol_id"][failed]])
        number, own = int(mantissa[failed]), int(scales[failed])
        while own > 0 and number % 10 == 0:
            number, own = number // 10, own - 1
        # This says what is wrong in the words that a single number has.
        try:
            to_scaled(Decimal(f"{number}E-{own}"), decimals)
        except PrecisionError as error:
            raise PrecisionError(f"{symbol}: row {failed}: {name} {error}".removeprefix(": "), failed) from None
    return symbol_scales


def _symbols(column: Any, rows: int) -> tuple[npt.NDArray[np.int32], Sequence[str]]:
    """(ids, their names)."""
    if column is None or isinstance(column, str):
        return np.zeros(rows, np.int32), [column or ""]
    chunks = _chunks("symbol", column, rows)
    if all(chunk.kind == "integer" for chunk in chunks):
        return _numbered(_joined([chunk.values for chunk in chunks], np.int32), rows)
    encoder = Encoder()
    parts = []
    for chunk in chunks:
        ids = np.empty(len(chunk), np.int32)
        if chunk.kind == "object":
            failed = encoder.encode_objects(chunk.values, ids)
            if failed >= 0:
                value = chunk.values[failed]
                if isinstance(value, bytes):
                    value.decode()
                raise InvalidTickError(f"row {failed}: symbol {value!r} is not text", failed)
            return _checked(ids, rows), [name.decode(errors="surrogatepass") for name in encoder.names]
        if chunk.kind != "text":
            raise InvalidTickError(f"column symbol holds {chunk.kind}s; symbols are integer ids or texts")
        if chunk.names is None:
            _encode("symbol", encoder, chunk.values, ids)
        else:
            places = np.empty(len(chunk.names), np.int32)
            _encode("symbol", encoder, chunk.names, places)
            ids = _looked_up(chunk.values, places)
        parts.append(ids)
    texts = encoder.names
    joined = _checked(_joined(parts, np.int32), rows)
    if any(chunk.names is not None for chunk in chunks):
        texts = [texts[place] for place in number_anew(joined, len(texts)).tolist()]
    try:
        return joined, [name.decode() for name in texts]
    except UnicodeDecodeError as error:
        raise InvalidTickError(f"column symbol: {error.object!r} is not UTF-8") from None


def _checked(ids: npt.NDArray[np.int32], rows: int) -> npt.NDArray[np.int32]:
    _same_length("symbol", ids, rows)
    return ids


def _numbered(ids: npt.NDArray[Any], rows: int) -> tuple[npt.NDArray[np.int32], Sequence[str]]:
    _same_length("symbol", ids, rows)
    if not rows:
        return np.empty(0, np.int32), []
    least, most = int(ids.min()), int(ids.max())
    if least < 0:
        row = int((ids < 0).argmax())
        raise InvalidTickError(f"row {row}: symbol id {ids[row]} is negative", row)
    if most < max(_SPARSE * rows, 1024) and most < 2**31 - 1:
        return np.ascontiguousarray(ids, np.int32), [str(i) for i in range(most + 1)]
    known, places = np.unique(ids, return_inverse=True)
    return places.astype(np.int32), [str(i) for i in known.tolist()]
