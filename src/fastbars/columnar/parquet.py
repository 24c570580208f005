"""Bars as Parquet and as Arrow tables of pyarrow, and back: every field exact, in bounded memory.

Source: https://parquet.apache.org/docs/file-format/, https://arrow.apache.org/docs/python/parquet.html. Columns are
BAR_FIELDS: times as timestamps (ns, UTC), prices and sums as decimal128 with 38 digits, of the fewest decimals that all
values of a file need, texts as dictionaries; and `contract_size`, null where the market is not inverse.
Units: as in `fastbars.bars`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt

from fastbars.bars import BAR_FIELDS, REASONS, STATUSES, UNREPORTED, UNSEEN
from fastbars.columnar.replacing import replacing
from fastbars.columnar.rows import BarNames, Parts, Rows, joined, parts_of
from fastbars.columnar.tables import decimal_column, decimals_of, fill_decimals
from fastbars.errors import PrecisionError, SpecError, TapeError
from fastbars.kernel.fields import FIELDS, INT128, NO_ID, NO_PRICE, NO_TIME, ROW_DTYPE, Column, FieldKind, known_values
from fastbars.kernel.instruments import Instruments
from fastbars.kernel.limits import MAX_SCALE, NO_SUM, REPORTED_STATUS
from fastbars.specs import BarSpec
from fastbars.times import to_nanoseconds

ROW_GROUP = 65_536
"""Bars in a row group; less in the last one. It does not depend on how bars were written."""
CONTRACT = "contract_size"
MOST_BARS = 50_000_000
"""That are read into one batch: 13 GB."""

_MOST_FILES = 1_000_000
_MAGIC = b"PAR1"
_DIGITS = 38
_CONTRACT_SCALE = 18
_TEXTS = ("exchange", "market", "symbol", "spec", "status", "close_reason")
_SCALED = (FieldKind.PRICE, FieldKind.SIZE, FieldKind.QUOTE)
_TIMES = (FieldKind.TIME, FieldKind.MOMENT)
_MOST_DECIMALS = {FieldKind.PRICE: MAX_SCALE, FieldKind.SIZE: MAX_SCALE, FieldKind.QUOTE: 2 * MAX_SCALE}
_UNITS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}

Scales = dict[FieldKind, int]
"""Decimals of prices, sizes and quote sums."""


def pyarrow() -> Any:
    """The library. Raises ImportError with what to install."""
    try:
        import pyarrow as library  # noqa: PLC0415 an extra, and loaded for those who use it
    except ImportError as error:
        raise ImportError("Parquet and Arrow files need pyarrow: pip install 'fastbars[archives]'") from error
    return library


def pyarrow_parquet() -> Any:
    """Its module for Parquet."""
    pyarrow()
    import pyarrow.parquet as library  # noqa: PLC0415 likewise

    return library


def is_parquet(path: Path) -> bool:
    """Whether a file begins as Parquet does. Raises OSError."""
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def parquet_columns(path: Path) -> list[str]:
    """The names of the columns of a file. Raises TapeError: it is no Parquet."""
    try:
        return list(pyarrow_parquet().read_schema(path).names)
    except pyarrow().ArrowException as error:
        raise TapeError(f"{path}: cannot be read as Parquet: {error}") from None


# Rows to tables.


def fields_of(kind: FieldKind) -> tuple[str, ...]:
    """The fields of bars with the scale of this kind."""
    return tuple(name for name, column in FIELDS.items() if _scaled_as(column.kind) is kind)


def _scaled_as(kind: FieldKind | None) -> FieldKind | None:
    return FieldKind.SIZE if kind is FieldKind.LARGEST else kind


def widened(scales: Scales, rows: Rows) -> Scales:
    """The fewest decimals, at least those of `scales`, that rows need."""
    wide = dict(scales)
    for kind in _SCALED:
        for name in fields_of(kind):
            wide[kind] = decimals_of(rows, name, wide.get(kind, 0))
    return wide


def bar_schema(scales: Scales, without: Sequence[str] = ()) -> Any:
    """The columns of a file, but for those `without`."""
    arrow = pyarrow()
    columns = []
    for name in BAR_FIELDS:
        kind = _scaled_as(FIELDS[name].kind) if name in FIELDS else FieldKind.NAME
        if kind is FieldKind.NAME:
            own = arrow.dictionary(arrow.int32(), arrow.string())
        elif kind in _SCALED:
            own = arrow.decimal128(_DIGITS, scales.get(kind, 0))
        elif kind in _TIMES:
            own = arrow.timestamp("ns", tz="UTC")
        else:
            own = arrow.int32() if FIELDS[name].dtype is np.int32 and kind is FieldKind.COUNT else arrow.int64()
        columns.append(arrow.field(name, own, nullable=kind not in (FieldKind.NAME, FieldKind.TIME)))
    columns.append(arrow.field(CONTRACT, arrow.decimal128(_DIGITS, _CONTRACT_SCALE)))
    return arrow.schema([column for column in columns if column.name not in without])


def bar_table(rows: Rows, names: BarNames, scales: Scales, schema: Any, *, compact: bool = True) -> Any:
    """Rows as a table with the columns of `schema`.

    Args:
        rows: numbered by `names`.
        names: of markets, symbols and specs.
        scales: decimals of the columns.
        schema: of `bar_schema`.
        compact: dictionaries hold only the texts that occur; else all of `names`.

    Raises:
        PrecisionError: a value needs more than 38 digits; the message names bar, column and value.
    """
    arrow = pyarrow()
    symbol = rows["symbol_id"]
    markets = np.array([market for market, _, _ in names.symbols] or [0], np.int32)[symbol]
    words: dict[str, tuple[npt.NDArray[Any], Sequence[str]]] = {
        "exchange": (markets, [exchange for exchange, _ in names.markets]),
        "market": (markets, [market for _, market in names.markets]),
        "symbol": (symbol, [name for _, name, _ in names.symbols]),
        "spec": (rows["spec"], names.specs),
        "status": (rows["status"], STATUSES),
        "close_reason": (rows["reason"], REASONS),
    }
    made = []
    for field in schema:
        if field.name in words:
            made.append(_texts(arrow, *words[field.name], compact))
        elif field.name == CONTRACT:
            sizes = arrow.array([size for _, _, size in names.symbols] or [None], field.type)
            made.append(sizes.take(arrow.array(symbol)))
        else:
            made.append(_values(arrow, rows, names, field, scales))
    return arrow.table(made, schema=schema)


def _texts(arrow: Any, codes: npt.NDArray[Any], texts: Sequence[str], compact: bool) -> Any:
    numbers: dict[str, int] = {}
    codes = np.array([numbers.setdefault(text, len(numbers)) for text in texts] or [0], np.int32)[codes]
    texts = list(numbers)
    if compact:
        used, codes = np.unique(codes, return_inverse=True)
        texts = [texts[place] for place in used.tolist()]
    try:
        dictionary = arrow.array([str(text) for text in texts], arrow.string())
    except UnicodeEncodeError as error:
        raise TapeError(f"{error.object!r} is not Unicode text, and cannot be written to a table") from None
    return arrow.DictionaryArray.from_arrays(arrow.array(codes.astype(np.int32)), dictionary)


def _values(arrow: Any, rows: Rows, names: BarNames, field: Any, scales: Scales) -> Any:
    column = FIELDS[field.name]
    known = known_values(rows, column, True)
    validity = None if known is None or known.all() else arrow.py_buffer(np.packbits(known, bitorder="little"))
    if column.scale:
        scale = scales.get(_scaled_as(column.kind) or FieldKind.SIZE, 0)
        values, row = decimal_column(rows, field.name, scale)
        if values is None:
            raise _too_long(rows[row], names, field.name, scale)
    else:
        dtype = np.int32 if field.type == arrow.int32() else np.int64
        values = np.ascontiguousarray(rows[column.name], dtype)
    return arrow.Array.from_buffers(field.type, len(rows), [validity, arrow.py_buffer(values)])


def _too_long(row: Any, names: BarNames, field: str, scale: int) -> PrecisionError:
    market, symbol, _ = names.symbols[row["symbol_id"]]
    column = FIELDS[field]
    value = row[column.name]
    mantissa = (int(value["hi"]) << 64) + int(value["lo"]) if column.dtype is INT128 else int(value)
    shown = Decimal(mantissa).scaleb(-int(row[column.scale])) if abs(mantissa) < 10**28 else f"{mantissa:,}"
    opened = np.datetime64(int(row["open_time"]), "ns").astype("M8[s]")
    return PrecisionError(
        f"{' '.join([*names.markets[market], symbol])} {names.specs[row['spec']]} {opened}: {field} {shown} with the"
        f" {scale} decimals that others in its column have needs more than the {_DIGITS} digits of decimal128: write"
        " CSV, or partition by symbol"
    )


class TableFile:
    """A Parquet or Arrow IPC file of bars that is being written, in row groups of ROW_GROUP bars.

    Args:
        path: is overwritten.
        form: "parquet" or "arrow".
        names: of all rows that will come.
        scales: wide enough for them.
        without: columns that are left out.
    """

    def __init__(self, path: Path, form: str, names: BarNames, scales: Scales, without: Sequence[str] = ()) -> None:
        arrow = pyarrow()
        self._names, self._scales = names, scales
        self._compact = form == "parquet"
        self._schema = bar_schema(scales, without)
        self._waiting: list[Rows] = []
        self._count = 0
        if form == "parquet":
            self._writer: Any = pyarrow_parquet().ParquetWriter(
                path,
                self._schema,
                compression="zstd",
                use_dictionary=[name for name in self._schema.names if name in (*_TEXTS, CONTRACT)],
                version="2.6",
            )
        else:
            self._writer = arrow.ipc.new_file(path, self._schema)

    def write(self, rows: Rows) -> None:
        """Add rows."""
        self._waiting.append(rows)
        self._count += len(rows)
        while self._count >= ROW_GROUP:
            whole = joined(self._waiting)
            self._put(whole[:ROW_GROUP])
            self._waiting, self._count = [whole[ROW_GROUP:]], len(whole) - ROW_GROUP

    def close(self) -> None:
        """Write what is left and the footer."""
        if self._count:
            self._put(joined(self._waiting))
        self._waiting, self._count = [], 0
        self._writer.close()

    def abort(self) -> None:
        """Close it as it is."""
        self._writer.close()

    def _put(self, rows: Rows) -> None:
        table = bar_table(rows, self._names, self._scales, self._schema, compact=self._compact)
        if self._compact:
            self._writer.write_table(table, row_group_size=ROW_GROUP)
        else:
            self._writer.write_table(table, max_chunksize=ROW_GROUP)


def check_no_features(specs: Iterable[BarSpec]) -> None:
    """Raises SpecError for a spec whose bars have more than files of bars have columns for."""
    for spec in specs:
        if spec.features:
            raise SpecError(
                f"bars of {spec} have a footprint or flow, for which files of bars have no columns: write"
                " pyarrow.table(batch) instead, which has them"
            )


def write_bars(
    path: str | os.PathLike[str], rows: Rows, instruments: Instruments, specs: Sequence[BarSpec], *, ids: bool
) -> None:
    """Write the bars of a batch to one file, which is there as a whole or not at all.

    Raises:
        SpecError: a spec has features, for which these files have no columns.
    """
    check_no_features(specs)
    names = BarNames()
    numbered = names.numbered(rows, instruments, specs, ids=ids)
    with replacing(Path(path)) as part:
        file = TableFile(part, "parquet", names, widened({}, numbered))
        try:
            file.write(numbered)
        except BaseException:
            file.abort()
            raise
        file.close()


# Tables to rows.


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which bars are read; None: all.

    Attributes:
        exchange, market, symbols, specs: by name.
        since_ns, until_ns: of open_time, from and before.
    """

    exchange: str | None = None
    market: str | None = None
    symbols: frozenset[str] | None = None
    specs: frozenset[str] | None = None
    since_ns: int | None = None
    until_ns: int | None = None

    @staticmethod
    def of(
        exchange: str | None,
        market: str | None,
        symbols: str | Iterable[str] | None,
        specs: str | Iterable[str | BarSpec] | None,
        since: Any,
        until: Any,
    ) -> Wanted:
        """As users say it."""
        named = None if symbols is None else frozenset([symbols] if isinstance(symbols, str) else symbols)
        listed = specs.split(",") if isinstance(specs, str) else specs
        return Wanted(
            exchange,
            market,
            named,
            None if listed is None else frozenset(str(BarSpec.parse(spec)) for spec in listed),
            None if since is None else to_nanoseconds(since),
            None if until is None else to_nanoseconds(until),
        )

    def takes(self, keys: Mapping[str, str]) -> bool:
        """Whether a file in a folder with these partition keys can have any."""
        wanted = {
            "exchange": None if self.exchange is None else {self.exchange},
            "market": None if self.market is None else {self.market},
            "symbol": self.symbols,
            "spec": self.specs,
        }
        return all(names is None or keys.get(key, next(iter(names), "")) in names for key, names in wanted.items())


def files_of(path: str | os.PathLike[str]) -> list[Path]:
    """The Parquet files of a path: itself, or those below a folder in order of their names.

    Raises:
        FileNotFoundError: there is none.
    """
    path = Path(path)
    if not path.is_dir():
        return [path]
    found: list[Path] = []
    for folder, below, files in os.walk(path):
        below[:] = sorted(name for name in below if not name.startswith((".", "_")))
        found += [Path(folder, name) for name in files if name.endswith(".parquet") and not name.startswith((".", "_"))]
        if len(found) > _MOST_FILES:
            raise TapeError(f"{path}: more than {_MOST_FILES:,} files")
    if not found:
        raise FileNotFoundError(2, "no Parquet files in the folder", str(path))
    return sorted(found)


def keys_of(path: Path) -> dict[str, str]:
    """The partition keys in the folders of a path, such as symbol=BTCUSDT."""
    parts = (part.partition("=") for part in path.parts[:-1] if "=" in part)
    return {key: unquote(value) for key, _, value in parts}


def read_rows(paths: Iterable[Path], names: BarNames, wanted: Wanted) -> Iterator[Rows]:
    """The rows of bars in Parquet files, in their order, at most ROW_GROUP at once.

    Args:
        paths: of files.
        names: numbers them; added to.
        wanted: which.

    Raises:
        TapeError: a file is no Parquet, or not of bars; the message names file, column and type, or row and value.
    """
    arrow = pyarrow()
    library = pyarrow_parquet()
    for path in paths:
        keys = keys_of(path)
        if not wanted.takes(keys):
            continue
        try:
            with library.ParquetFile(path) as file:
                present = set(file.schema_arrow.names)
                keys = {name: keys[name] for name in _TEXTS if name in keys and name not in present}
                kept = _check_schema(arrow, path, file.schema_arrow, keys)
                groups = _groups_of(file, wanted)
                row = 0
                for part in file.iter_batches(ROW_GROUP, groups, kept, use_threads=False):
                    rows = _Part(arrow, path, part, keys, row).rows(names)
                    row += len(rows)
                    yield _chosen(rows, names, wanted)
        except arrow.ArrowException as error:
            raise TapeError(f"{path}: cannot be read as Parquet: {error}") from None


def read_bars(paths: Iterable[Path], wanted: Wanted) -> Parts:
    """The bars in Parquet files: what one batch of them is made of.

    Raises:
        TapeError: see `read_rows`; or there are more than MOST_BARS. ValueError: bars of several markets.
    """
    names = BarNames()
    parts = []
    count = 0
    for rows in read_rows(paths, names, wanted):
        parts.append(rows)
        count += len(rows)
        if count > MOST_BARS:
            raise TapeError(f"more than {MOST_BARS:,} bars: read fewer at once, by symbols=, specs=, since= and until=")
    rows = joined(parts)
    rows["row"] = np.arange(len(rows))
    return parts_of(rows, names)


def _check_schema(arrow: Any, path: Path, schema: Any, keys: Mapping[str, str]) -> list[str]:
    """The columns to read. Raises TapeError where they are not those of bars."""
    types = arrow.types

    def is_text(own: Any) -> bool:
        held = own.value_type if types.is_dictionary(own) else own
        return bool(types.is_string(held) or types.is_large_string(held) or types.is_string_view(held))

    checks: dict[FieldKind, tuple[Callable[[Any], Any], str]] = {
        FieldKind.NAME: (is_text, "strings"),
        **dict.fromkeys(
            _TIMES, (lambda own: types.is_timestamp(own) and own.tz is not None, "timestamps with a time zone")
        ),
        **dict.fromkeys((*_SCALED, FieldKind.LARGEST), (types.is_decimal128, "decimal128")),
    }
    kept = []
    for name in (*BAR_FIELDS, CONTRACT):
        if name in keys:
            continue
        found = schema.get_all_field_indices(name)
        if len(found) != 1:
            if not found and name in (CONTRACT, *UNSEEN):  # earlier versions wrote files without them
                continue
            raise TapeError(
                f"{path}: {'no column' if not found else 'several columns'} {name}: a file of bars has one of each of"
                f" {', '.join(BAR_FIELDS)}"
            )
        own = schema.field(found[0]).type
        kind = FieldKind.QUOTE if name == CONTRACT else FIELDS[name].kind if name in FIELDS else FieldKind.NAME
        fits, expected = checks.get(FieldKind.COUNT if kind is None else kind, (types.is_integer, "integers"))
        if not fits(own):
            raise TapeError(f"{path}: column {name} is {own}, bars have {expected}")
        kept.append(name)
    return kept


def _groups_of(file: Any, wanted: Wanted) -> list[int]:
    # Those whose statistics do not rule them out.
    groups = list(range(file.metadata.num_row_groups))
    field = file.schema_arrow.field("open_time")
    if (wanted.since_ns is None and wanted.until_ns is None) or field.type.unit != "ns":
        return groups
    place = file.schema_arrow.get_field_index("open_time")
    kept = []
    for group in groups:
        known = file.metadata.row_group(group).column(place).statistics
        if known is not None and known.has_min_max:
            if wanted.since_ns is not None and known.max_raw < wanted.since_ns:
                continue
            if wanted.until_ns is not None and known.min_raw >= wanted.until_ns:
                continue
        kept.append(group)
    return kept


def _chosen(rows: Rows, names: BarNames, wanted: Wanted) -> Rows:
    mask = np.ones(len(rows), np.bool_)
    symbols = np.array(
        [
            (wanted.symbols is None or symbol in wanted.symbols)
            and wanted.exchange in (None, names.markets[market][0])
            and wanted.market in (None, names.markets[market][1])
            for market, symbol, _ in names.symbols
        ],
        np.bool_,
    )
    specs = np.array([wanted.specs is None or spec in wanted.specs for spec in names.specs], np.bool_)
    if len(rows):
        mask &= symbols[rows["symbol_id"]] & specs[rows["spec"]]
    if wanted.since_ns is not None:
        mask &= rows["open_time"] >= wanted.since_ns
    if wanted.until_ns is not None:
        mask &= rows["open_time"] < wanted.until_ns
    return rows if mask.all() else joined([rows[mask]])


class _Part:
    """A record batch of a file of bars.

    Args:
        arrow: pyarrow.
        path: for messages.
        batch: has the columns of bars, checked by `_check_schema`.
        keys: of the columns that the folders name instead.
        start: the row in the file at which it begins.
    """

    def __init__(self, arrow: Any, path: Path, batch: Any, keys: Mapping[str, str], start: int) -> None:
        self._arrow, self._path, self._batch, self._keys, self._start = arrow, path, batch, keys, start

    def rows(self, names: BarNames) -> Rows:
        """As rows, numbered by `names`."""
        rows = np.zeros(self._batch.num_rows, ROW_DTYPE)
        if not len(rows):
            return rows
        self._take_names(rows, names)
        for name, column in FIELDS.items():
            if column.kind is FieldKind.TIME:
                rows[column.name] = self._times(name)
            elif column.kind is FieldKind.MOMENT:
                rows[column.name] = self._times(name, nullable=True) if self._has(name) else NO_TIME
            elif column.kind is not FieldKind.NAME and not column.scale:
                rows[column.name] = self._integers(name, column) if self._has(name) else -1
        self._check_unknown(rows, rows["count"] < 0, "trade_count")
        unpriced = self._take_decimals(rows, names)
        _take_unseen(rows, unpriced)
        return rows

    def _has(self, name: str) -> bool:
        return name in self._batch.schema.names

    def _fail(self, place: int, name: str, what: str) -> TapeError:
        return TapeError(f"{self._path}: row {self._start + int(place)}: {name} {what}")

    def _check_unknown(self, rows: Rows, nulls: npt.NDArray[np.bool_], name: str) -> None:
        wrong = nulls & ((rows["status"] != REPORTED_STATUS) | (name not in UNREPORTED))
        if wrong.any():
            place = int(wrong.argmax())
            status = STATUSES[rows["status"][place]]
            raise self._fail(place, name, f"is null, in a bar that is {status}")

    def _column(self, name: str, *, nullable: bool = False) -> Any:
        column = self._batch.column(name)
        if not nullable and column.null_count:
            raise self._fail(int(np.asarray(column.is_null()).argmax()), name, "is null")
        return column

    def _times(self, name: str, *, nullable: bool = False) -> npt.NDArray[np.int64]:
        column = self._column(name, nullable=nullable)
        values = np.frombuffer(column.buffers()[1], np.int64)[column.offset :][: len(column)]
        nulls = np.asarray(column.is_null())
        values = np.where(nulls, 0, values)
        factor = _UNITS[column.type.unit]
        most = np.iinfo(np.int64).max // factor
        wrong = (values > most) | (values < -most)
        if wrong.any():
            raise self._fail(int(wrong.argmax()), name, "is out of range")
        return np.where(nulls, NO_TIME, values * factor)

    def _integers(self, name: str, field: Column) -> npt.NDArray[Any]:
        column = self._column(name, nullable=field.kind is not FieldKind.COUNT)
        values = column.fill_null(-1).cast(self._arrow.int64()).to_numpy(zero_copy_only=False)
        known = np.asarray(column.is_valid())
        least = NO_ID + 1 if field.kind is FieldKind.ID else 0
        wrong = known & ((values < least) | (values > np.iinfo(field.dtype).max))
        if wrong.any():
            place = int(wrong.argmax())
            raise self._fail(place, name, f"{values[place]} is out of range")
        return np.asarray(np.where(known, values, NO_ID if least else -1).astype(field.dtype))

    def _codes(self, name: str) -> tuple[npt.NDArray[np.int32], list[str]]:
        if name in self._keys:
            return np.zeros(self._batch.num_rows, np.int32), [self._keys[name]]
        column = self._column(name)
        if not self._arrow.types.is_dictionary(column.type):
            column = column.dictionary_encode()
        codes = column.indices.cast(self._arrow.int32()).to_numpy(zero_copy_only=False)
        texts = column.dictionary.to_pylist()
        if any(text is None for text in texts):
            raise self._fail(0, name, "has a null in its dictionary")
        return codes, texts

    def _take_names(self, rows: Rows, names: BarNames) -> None:
        for name, known in (("status", STATUSES), ("close_reason", REASONS)):
            codes, texts = self._codes(name)
            numbers = {str(text): number for number, text in enumerate(known)}
            mapped = np.array([numbers.get(text, -1) for text in texts] or [-1], np.int16)[codes]
            if (mapped < 0).any():
                place = int((mapped < 0).argmax())
                raise self._fail(place, name, f"{texts[codes[place]]!r} is not known")
            rows[FIELDS[name].name] = mapped
        codes, texts = self._codes("spec")
        try:
            numbered = [names.spec(str(BarSpec.parse(text))) for text in texts]
        except SpecError as error:
            raise self._fail(0, "spec", str(error)) from None
        rows["spec"] = np.array(numbered, np.int32)[codes]
        keys = [self._codes(name) for name in ("exchange", "market", "symbol")]
        sizes = None
        if CONTRACT in self._batch.schema.names:
            encoded = self._batch.column(CONTRACT).dictionary_encode(null_encoding="encode")
            sizes = encoded.dictionary.to_pylist()
            keys.append((encoded.indices.to_numpy(zero_copy_only=False), sizes))
        stacked = np.stack([codes.astype(np.int32) for codes, _ in keys], axis=1)
        found, places = np.unique(stacked, axis=0, return_inverse=True)
        together = []
        for combination in found.tolist():
            exchange, market, symbol, *size = (texts[code] for code, (_, texts) in zip(combination, keys, strict=True))
            contract = size[0].normalize() if size and size[0] is not None else None
            if contract is not None and contract <= 0:
                raise self._fail(0, CONTRACT, f"{contract} is not positive")
            together.append(names.symbol(names.market(exchange, market), symbol, contract))
        rows["symbol_id"] = np.array(together, np.int32)[places.reshape(-1)]

    def _take_decimals(self, rows: Rows, names: BarNames) -> npt.NDArray[np.bool_]:
        # Returns where there are no prices.
        least = np.zeros(len(rows), np.int8)
        unpriced = np.asarray(self._batch.column("open").is_null())
        for kind in _SCALED:
            fields = tuple(filter(self._has, fields_of(kind)))
            columns = [self._column(name, nullable=True) for name in fields]
            scale = max(column.type.scale for column in columns)
            if not 0 <= min(column.type.scale for column in columns) <= scale <= 2 * MAX_SCALE:
                raise TapeError(f"{self._path}: column {fields[0]} has a scale of {scale}, bars have 0 to 36")
            values = []
            unknown = {}
            for name, column in zip(fields, columns, strict=True):
                nulls = np.asarray(column.is_null())
                if nulls.any() and kind is FieldKind.PRICE and not np.array_equal(nulls, unpriced):
                    raise self._fail(int((nulls != unpriced).argmax()), name, "and open are not null together")
                if nulls.any():
                    unknown[name] = nulls
                wide = column.cast(self._arrow.decimal128(_DIGITS, scale)) if column.type.scale != scale else column
                pairs = np.frombuffer(wide.buffers()[1], np.uint64).reshape(-1, 2)[wide.offset :][: len(wide)].copy()
                pairs[nulls] = 0
                values.append(pairs)
            for tried in (least, np.zeros(len(rows), np.int8)):
                failed = fill_decimals(rows, fields, tuple(values), scale, tried, _MOST_DECIMALS[kind])
                if failed < 0 or kind is not FieldKind.QUOTE:
                    break
            if failed >= 0:
                shown = [column[failed].as_py() for column in columns]
                raise self._fail(failed, " ".join(fields), f"{shown} cannot be held exactly")
            for name, nulls in unknown.items():
                if FIELDS[name].kind in (FieldKind.SIZE, FieldKind.QUOTE):
                    self._check_unknown(rows, nulls, name)
                    rows[FIELDS[name].name][nulls] = (0, NO_SUM)
            if kind is FieldKind.SIZE:
                scales = [max(0, -int(size.as_tuple().exponent)) if size else -1 for _, _, size in names.symbols]
                contracts = np.array(scales or [-1], np.int8)[rows["symbol_id"]]
                least = rows["size_scale"] + np.where(contracts < 0, rows["price_scale"], contracts).astype(np.int8)
        return unpriced


def _take_unseen(rows: Rows, unpriced: npt.NDArray[np.bool_]) -> None:
    # What a row has besides the fields of a bar, as `from_bars` has it.
    lowest, highest = NO_PRICE, np.iinfo(np.int64).max
    untimed = (rows["first_time"] == NO_TIME) | (rows["last_trade_time"] == NO_TIME)
    rows["last_trade_time"][untimed] = NO_TIME
    rows["first_time"] = np.where(untimed, rows["open_time"], rows["first_time"])
    rows["last_time"] = np.where(
        untimed, np.maximum(rows["open_time"], rows["close_time"] - 1), rows["last_trade_time"]
    )
    empty = rows["count"] == 0
    for name, value in (("first_time", highest), ("last_time", lowest), ("first_id", highest), ("last_id", lowest)):
        rows[name][empty] = value
    rows["high"][unpriced] = lowest
    rows["low"][unpriced] = highest
