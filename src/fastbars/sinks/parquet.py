"""`parquet:DIR`: bars in Parquet files, in Hive partitions by date, exchange, market and group of symbols.

    DIR/date=2026-12-01/exchange=binance/market=spot/group=3/SOURCE-TIME-RANDOM.parquet

Each flush writes a file a partition: beside, synced, and renamed, so that a file is there as a whole or not at all.

    small files --COMPACT_FILES of this source in one partition--> written anew as one, then removed
         ^-- that one is small itself: it has fewer than LARGE_ROWS rows --+-- else it stays as it is

So each row is written a few times, memory is bounded, and a day has few files. A crash between writing and removing
leaves rows twice, which readers take once. All revisions are kept, for `as_of`. Readers take of each bar the best row
(`fastbars.read`); a row that was written twice is harmless.

The date is that of `begins`, UTC. Decimals are decimal128, or decimal256 where a file needs more than 38 digits; the
scale is one that all values lately had room in.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Context, Decimal
from functools import partial
from itertools import repeat
from operator import sub
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl
from zlib import crc32

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fastbars.bars import BAR_FIELDS, REASONS, BarStatus, CloseReason, OHLCVBar
from fastbars.log import log
from fastbars.sinks.declaration import SinkError, SinkRefused
from fastbars.sinks.mantissas import read_mantissas
from fastbars.sinks.rows import COLUMNS, KEY, RANKS, ColumnKind, Rows
from fastbars.times import EPOCH

__all__ = ["ParquetSink", "table_of"]

GROUPS = 4
BATCH_S = 10.0
COMPACT_FILES = 64
LARGE_ROWS = 30_000  # of a file: it is left as it is
_MOST_GROUPS = 1_024
_MOST_PARTITIONS = 1_000  # whose files are remembered
_MOST_SYMBOLS = 100_000
_LONGEST_NAME = 80
_DAY_US = 86_400_000_000
_TIME = pa.timestamp("us", "UTC")
_TYPES = {
    ColumnKind.TEXT: pa.string(), ColumnKind.TIME: _TIME, ColumnKind.INTEGER: pa.int64(), ColumnKind.FLAG: pa.bool_(),
}  # fmt: skip
# Texts that repeat: written once a file.
_REPEATED = {"exchange", "market", "symbol", "spec", "status", "close_reason", "source"}
# Of these, files say what their smallest and largest values are.
_SEARCHED = [*KEY, "issued_time"]
_SAFE = re.compile(r"[^A-Za-z0-9_.-]")
_LARGEST_DIGITS = 76
_ENDING, _WRITING = ".parquet", ".writing"
_EPOCH_DAY = date(1970, 1, 1)


class ParquetSink:
    """Writes rows to a folder of Parquet files.

    Args:
        url: "parquet:DIR", with `?groups=N` (4: how many groups the symbols of a market are divided into, by a hash of
            their names) and `&batch=S` (10: how many seconds a bar waits for others of its file).

    Raises:
        SinkRefused: no folder is named, or an option is none.
    """

    def __init__(self, url: str) -> None:
        target, _, query = url.partition(":")[2].partition("?")
        self._folder = Path(target)
        if not target:
            raise SinkRefused(f"{url!r:.200} names no folder: parquet:DIR")
        options = dict(parse_qsl(query, keep_blank_values=True))
        self._groups = int(_option(url, options, "groups", GROUPS, 1, _MOST_GROUPS))
        self.batch_s = _option(url, options, "batch", BATCH_S, 0.0, 3_600.0)
        if options:
            raise SinkRefused(f"{url!r:.200}: no such option: {next(iter(options))!r:.50}; known are groups and batch")
        self.name = f"parquet:{self._folder}"
        self._waiting: list[Rows] = []
        self._scales: dict[str, int] = {}  # of decimals, by column: what they were lately
        self._small: dict[tuple[Path, str], dict[str, int]] = {}  # (partition, source) -> small files and their rows
        self._places: dict[tuple[str, str, str], int] = {}  # (exchange, market, symbol) -> number of its group
        self._numbers: dict[tuple[str, str, int], int] = {}  # (exchange, market, group) -> its number

    async def open(self) -> None:
        """Make the folder. Raises SinkError, SinkRefused."""
        self._waiting.clear()
        self._small.clear()
        await self._do(lambda: self._folder.mkdir(parents=True, exist_ok=True))

    async def write(self, rows: Rows) -> None:
        """Keep the rows for the next file."""
        self._waiting.append(rows)

    async def flush(self) -> None:
        """Write them, and wait until the disk has them. Raises SinkError."""
        waiting, self._waiting = self._waiting, []
        for rows in waiting:
            await self._do(partial(self._write, rows))

    async def close(self) -> None:
        """Nothing stays open."""

    async def _do(self, action: Callable[[], object]) -> None:
        try:
            await asyncio.to_thread(action)
        except (FileExistsError, NotADirectoryError, PermissionError) as error:
            raise SinkRefused(f"{self.name}: {error.strerror or error}") from error
        except OSError as error:
            raise SinkError(f"{self.name}: {error.strerror or error}") from error

    def _write(self, rows: Rows) -> None:
        if not len(rows):
            return
        for partition, table in self._partitions_of(rows, table_of(rows, self._scales)):
            self._write_file(partition, _narrowed(table), rows.source)

    def _partitions_of(self, rows: Rows, table: pa.Table) -> Iterator[tuple[Path, pa.Table]]:
        # Each folder, and its rows.
        if len(self._places) > _MOST_SYMBOLS:
            self._places.clear()
            self._numbers.clear()
        known = self._places
        symbols = list(zip(rows.column("exchange"), rows.column("market"), rows.column("symbol"), strict=True))
        for exchange, market, symbol in set(symbols) - known.keys():
            named = exchange, market, crc32(symbol.encode("utf-8", "surrogatepass")) % self._groups
            known[exchange, market, symbol] = self._numbers.setdefault(named, len(self._numbers))
        groups = list(self._numbers)
        group = np.fromiter(map(known.__getitem__, symbols), np.int64, len(symbols))
        day = table.column("begins").cast(pa.int64()).to_numpy() // _DAY_US
        order = np.lexsort((group, day))
        ends = np.flatnonzero((np.diff(day[order]) != 0) | (np.diff(group[order]) != 0)) + 1
        ordered = table.take(pa.array(order)) if len(ends) else table
        begins = [0, *ends.tolist()]
        for begin, end in zip(begins, [*begins[1:], len(order)], strict=True):
            first = order[begin]
            folder = self._folder_of(*groups[int(group[first])], _EPOCH_DAY + timedelta(days=int(day[first])))
            yield folder, ordered.slice(begin, end - begin)

    def _folder_of(self, exchange: str, market: str, group: int, day: date) -> Path:
        return (
            self._folder / f"date={day}" / f"exchange={_safe(exchange) or '-'}" / f"market={_safe(market) or '-'}"
            / f"group={group}"
        )  # fmt: skip

    def _compact(self, partition: Path, source: str) -> None:
        # The smallest first, as many as make one large file.
        small = self._small[partition, source]
        chosen: list[str] = []
        rows = 0
        for name in sorted(small, key=small.__getitem__):
            if chosen and rows + small[name] > LARGE_ROWS:
                break
            rows += small[name]
            chosen.append(name)
        table = united([pq.ParquetFile(partition / name).read() for name in chosen])
        order = [(name, "ascending") for name in ("symbol", "spec", "begins", "number", "revision", "issued_time")]
        self._place_file(partition, table.sort_by(order), source)
        for name in chosen:
            (partition / name).unlink(missing_ok=True)
            small.pop(name, None)

    def _write_file(self, partition: Path, table: pa.Table, source: str) -> None:
        partition.mkdir(parents=True, exist_ok=True)
        own = partition, source
        if own not in self._small:
            if len(self._small) >= _MOST_PARTITIONS:
                self._small.clear()
            self._small[own] = _small_files(partition, source)
        self._place_file(partition, table, source)
        if len(self._small[own]) < COMPACT_FILES:
            return
        try:
            self._compact(partition, source)
        except (OSError, pa.ArrowException) as error:  # what was written stays as it is
            log.warning("parquet_not_compacted", folder=str(partition), error=str(error))
            self._small[own].clear()

    def _place_file(self, partition: Path, table: pa.Table, source: str) -> None:
        name = f"{_file_name(source)}-{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{secrets.token_hex(4)}"
        temporary = partition / f".{name}{_WRITING}"
        try:
            with temporary.open("wb") as file:
                pq.write_table(
                    table, file, compression="zstd", compression_level=1, use_dictionary=sorted(_REPEATED),
                    write_statistics=_SEARCHED,
                )  # fmt: skip
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(partition / f"{name}{_ENDING}")
        finally:
            temporary.unlink(missing_ok=True)
        if table.num_rows < LARGE_ROWS:
            self._small[partition, source][f"{name}{_ENDING}"] = table.num_rows
        with contextlib.suppress(OSError):  # not every platform syncs folders
            descriptor = os.open(partition, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _option(url: str, options: dict[str, str], name: str, default: float, least: float, most: float) -> float:
    text = options.pop(name, "")
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not least <= value <= most:
        raise SinkRefused(f"{url!r:.200}: {name} must be a number from {least:g} to {most:g}, got {text!r:.50}")
    return value


def _safe(text: str) -> str:
    return _SAFE.sub(lambda match: "".join(f"%{byte:02X}" for byte in match[0].encode()), text)


def _file_name(source: str) -> str:
    # Its part of the name of a file; file systems limit how long that is.
    safe = _safe(source)
    return safe if len(safe) <= _LONGEST_NAME else f"{safe[:_LONGEST_NAME]}-{crc32(source.encode()):08x}"


def _small_files(partition: Path, source: str) -> dict[str, int]:
    # Those of this source, and their rows. What a process that was killed has begun to write is removed.
    own = re.compile(rf"(\.?){re.escape(_file_name(source))}-\d{{8}}T\d{{12}}-[0-9a-f]{{8}}({_ENDING}|{_WRITING})")
    found = {}
    for file in partition.iterdir():
        match = own.fullmatch(file.name)
        if match is None:
            continue
        if match[2] == _WRITING:
            file.unlink(missing_ok=True)
            continue
        try:
            rows = pq.read_metadata(file).num_rows
        except (OSError, pa.ArrowException):  # damaged: readers name it
            continue
        if rows < LARGE_ROWS:
            found[file.name] = rows
    return found


def table_of(rows: Rows, scales: dict[str, int] | None = None) -> pa.Table:
    """The rows as an Arrow table with the columns of COLUMNS.

    Args:
        scales: of decimal columns, which are tried first, and noted.
    """
    known: dict[str, int] = {} if scales is None else scales
    ranks = pa.array(rows.column("rank"), pa.int64())
    arrays: dict[str, Any] = {}
    for column in COLUMNS:
        name = column.name
        if column.kind is ColumnKind.DECIMAL:
            arrays[name] = _decimal_column(rows, name, known)
        elif column.kind is ColumnKind.TIME:
            alike = name == "begins" and not rows.is_anchored
            arrays[name] = arrays["open_time"] if alike else _times(rows.column(name))
        elif name == "rank":
            arrays[name] = ranks
        elif name == "status":
            arrays[name] = _STATUS_TEXTS.take(ranks)
        elif name == "close_reason":
            arrays[name] = _REASON_TEXTS.take(pa.array(map(_REASONS.__getitem__, rows.column(name)), pa.int64()))
        elif name == "source":
            arrays[name] = pa.repeat(pa.scalar(rows.source, pa.string()), len(rows))
        else:
            arrays[name] = pa.array(rows.column(name), _TYPES[column.kind])
    return pa.table(arrays)


_STATUS_TEXTS = pa.array(list(map(str, RANKS)), pa.string())
_REASONS = {reason: number for number, reason in enumerate(REASONS)}
_REASON_TEXTS = pa.array(list(map(str, REASONS)), pa.string())


def _times(values: Sequence[datetime | None]) -> pa.Array:
    try:
        since: Any = list(map(sub, values, repeat(EPOCH)))  # in C, a list at once
    except TypeError:
        since = [None if value is None else value - EPOCH for value in values]
    return pa.array(since, pa.duration("us")).cast(pa.int64()).cast(_TIME)


def _decimal_column(rows: Rows, name: str, scales: dict[str, int]) -> pa.Array:
    # As one column, exact: at this scale where it holds them, for that is quickly found, else at the largest of them.
    # Raises SinkError: they need more than 76 digits in one column.
    scale = scales.get(name)
    if scale is not None:
        numbers, known = np.empty((len(rows), 2), np.int64), np.empty(len(rows), np.uint8)
        if read_mantissas(list(rows.bars), name, scale, numbers, known) < 0:
            bits = None if known.all() else pa.py_buffer(np.packbits(known, bitorder="little"))
            return pa.Array.from_buffers(pa.decimal128(38, scale), len(rows), [bits, pa.py_buffer(numbers)])
    array = _decimals(rows.column(name), scale)
    scales[name] = array.type.scale
    return array


def _decimals(values: Sequence[Decimal | None], scale: int | None) -> pa.Array:
    if scale is not None:
        try:
            return pa.array(values, pa.decimal128(38, scale))
        except pa.ArrowInvalid:
            pass
    try:
        array = pa.array(values)  # as many digits as they have
    except pa.ArrowInvalid as error:
        raise SinkError(f"values of one file need more than {_LARGEST_DIGITS} digits: {error}") from error
    if pa.types.is_decimal128(array.type):
        return array.cast(pa.decimal128(38, max(array.type.scale, 0)))
    if pa.types.is_decimal256(array.type):
        return array.cast(pa.decimal256(_LARGEST_DIGITS, max(array.type.scale, 0)))
    return pa.nulls(len(values), pa.decimal128(38, 0))


def _narrowed(table: pa.Table) -> pa.Table:
    # Columns that were wide for other rows' sake are so no more.
    for place, column in enumerate(COLUMNS):
        own = table.column(place)
        if pa.types.is_decimal256(own.type):
            (narrow,) = _at_one_scale([own], own.type.scale)
            table = table.set_column(place, column.name, narrow)
    return table


def united(tables: Sequence[pa.Table]) -> pa.Table:
    """Tables of different scales as one."""
    columns = []
    for column in COLUMNS:
        parts = [table.column(column.name) for table in tables]
        kinds = {part.type for part in parts}
        if len(kinds) > 1:
            parts = _at_one_scale(parts, max(kind.scale for kind in kinds))
        columns.append(pa.chunked_array([chunk for part in parts for chunk in part.chunks], parts[0].type))
    return pa.table(columns, [column.name for column in COLUMNS])


def files_in(folder: Path) -> list[Path]:
    """The files below a folder, the oldest of a source first."""
    return sorted(folder.rglob(f"[!.]*{_ENDING}"))


def best_rows(table: pa.Table) -> pa.Table:
    """Of each bar the best row, as `rows.best_of`; bars whose best row is RETRACTED are left out."""
    keys = [_codes(table.column(name)) for name in KEY]
    source = _codes(table.column("source"))
    revision = table.column("revision").to_numpy()
    count = table.column("trade_count").fill_null(0).to_numpy()
    rank = table.column("rank").to_numpy()
    # The latest revision of each source, then the best source. What is sorted first stands last.
    latest = _firsts([*keys, source], [-revision])
    best = latest[_firsts([own[latest] for own in keys], [rank[latest], -count[latest], source[latest]])]
    shown = best[rank[best] != RANKS[BarStatus.RETRACTED]]
    return table.take(pa.array(np.sort(shown)))


def _firsts(keys: Sequence[npt.NDArray[np.int64]], order: Sequence[npt.NDArray[np.int64]]) -> npt.NDArray[np.intp]:
    # The place of the first of all with equal keys, in this order; where that is equal too, of the first there.
    places = np.lexsort((*reversed(order), *reversed(keys)))
    if not len(places):
        return places
    is_first = np.ones(len(places), np.bool_)
    is_first[1:] = np.logical_or.reduce([np.diff(key[places]) != 0 for key in keys])
    return places[is_first]


def _codes(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    # Numbers in the order of the values.
    if not pa.types.is_string(column.type):
        own: npt.NDArray[np.int64] = column.cast(pa.int64()).to_numpy()
        return own
    array = column.combine_chunks().dictionary_encode()
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    texts = array.dictionary.to_pylist()
    ranks = np.empty(len(texts), np.int64)
    ranks[sorted(range(len(texts)), key=texts.__getitem__)] = np.arange(len(texts))
    found: npt.NDArray[np.int64] = ranks[array.indices.to_numpy()]
    return found


def bars_of(table: pa.Table) -> Iterator[OHLCVBar]:
    """The bar of each row. Raises ValueError: it is none."""
    names = [*_BAR_NAMES, "inverse"]
    for batch in table.to_batches(max_chunksize=10_000):
        columns = [batch.column(name).to_pylist() for name in names]
        for values in zip(*columns, strict=True):
            fields = dict(zip(names, values, strict=True))
            fields["status"] = BarStatus(fields["status"])
            fields["close_reason"] = CloseReason(fields["close_reason"])
            yield OHLCVBar(**fields)


_BAR_NAMES = [column.name for column in COLUMNS if column.name in BAR_FIELDS]


def _at_one_scale(parts: Sequence[pa.ChunkedArray], scale: int) -> list[pa.ChunkedArray]:
    wide = [part.cast(pa.decimal256(_LARGEST_DIGITS, scale)) for part in parts]
    most = max((abs(value) for part in wide for value in _ends(part)), default=Decimal(0))
    if most.scaleb(scale, _EXACT) >= 10**38:  # a cast to decimal128 would go wrong without a word
        return wide
    return [part.cast(pa.decimal128(38, scale)) for part in wide]  # which all readers know


def _ends(part: pa.ChunkedArray) -> list[Decimal]:
    found = pc.min_max(part)
    return [value for value in (found["min"].as_py(), found["max"].as_py()) if value is not None]


_EXACT = Context(prec=200)
