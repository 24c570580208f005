"""`parquet:DIR`: bars in Parquet files, in Hive partitions by date, exchange, market and group of symbols.

    DIR/date=2026-12-01/exchange=binance/market=spot/group=3/SOURCE-TIME-RANDOM.parquet

Each flush writes a file a partition: beside, synced, and renamed, so that a file is there as a whole or not at all.
Where a partition has COMPACT_FILES files of this source they are written anew as one, and the old ones removed; a crash
in between leaves rows twice, which readers take once. All revisions are kept, for `as_of`. Readers take of each bar the
best row (`fastbars.read`); a row that was written twice is harmless.

The date is that of `begins`, UTC. Decimals are decimal128, or decimal256 where a file needs more than 38 digits; the
scale is the largest in the file.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from decimal import Context, Decimal
from functools import partial
from pathlib import Path
from urllib.parse import parse_qsl
from zlib import crc32

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fastbars.bars import begins
from fastbars.log import log
from fastbars.sinks.declaration import SinkError, SinkRefused
from fastbars.sinks.rows import COLUMNS, ColumnKind, Rows

__all__ = ["ParquetSink", "table_of"]

GROUPS = 8
BATCH_S = 10.0
COMPACT_FILES = 64
_MOST_GROUPS = 1_024
_TIME = pa.timestamp("us", "UTC")
_TYPES = {
    ColumnKind.TEXT: pa.string(), ColumnKind.TIME: _TIME, ColumnKind.INTEGER: pa.int64(), ColumnKind.FLAG: pa.bool_(),
}  # fmt: skip
# Texts that repeat: written once a file.
_REPEATED = {"exchange", "market", "symbol", "spec", "status", "close_reason", "source"}
_SAFE = re.compile(r"[^A-Za-z0-9_.-]")
_LARGEST_DIGITS = 76
_ENDING = ".parquet"


class ParquetSink:
    """Writes rows to a folder of Parquet files.

    Args:
        url: "parquet:DIR", with `?groups=N` (8: how many groups the symbols of a market are divided into, by a hash of
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
        self._counts: dict[Path, int] = {}  # files of this source, by partition

    async def open(self) -> None:
        """Make the folder. Raises SinkError, SinkRefused."""
        self._waiting.clear()
        self._counts.clear()
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
        places: dict[tuple[str, str, int, date], list[int]] = {}
        groups: dict[str, int] = {}
        for place, bar in enumerate(rows.bars):
            symbol = bar.symbol
            group = groups.get(symbol)
            if group is None:
                group = groups[symbol] = crc32(symbol.encode()) % self._groups
            key = bar.exchange, bar.market, group, begins(bar).astimezone(UTC).date()
            own = places.get(key)
            if own is None:
                own = places[key] = []
            own.append(place)
        for key, own in places.items():
            partition, part = self._partition(*key), rows
            if len(own) != len(rows):
                part = Rows([rows.bars[n] for n in own], rows.source, [rows.issued_times[n] for n in own])
            self._write_file(partition, table_of(part, self._scales), rows.source)
            self._count(partition, rows.source)

    def _partition(self, exchange: str, market: str, group: int, day: date) -> Path:
        return (
            self._folder / f"date={day}" / f"exchange={_safe(exchange) or '-'}" / f"market={_safe(market) or '-'}"
            / f"group={group}"
        )  # fmt: skip

    def _count(self, partition: Path, source: str) -> None:
        count = self._counts.get(partition)
        self._counts[partition] = len(_files_of(partition, source)) if count is None else count + 1
        if self._counts[partition] >= COMPACT_FILES:
            try:
                self._compact(partition, source)
            except (OSError, pa.ArrowException) as error:  # what was written stays as it is
                log.warning("parquet_not_compacted", folder=str(partition), error=str(error))
                self._counts[partition] = 0
            if len(self._counts) > 10_000:
                self._counts.clear()

    def _compact(self, partition: Path, source: str) -> None:
        files = _files_of(partition, source)
        table = united([pq.ParquetFile(file).read() for file in files])
        order = [(name, "ascending") for name in ("symbol", "spec", "begins", "number", "revision", "issued_time")]
        self._write_file(partition, table.sort_by(order), source)
        for file in files:
            file.unlink(missing_ok=True)
        self._counts[partition] = 1

    def _write_file(self, partition: Path, table: pa.Table, source: str) -> None:
        partition.mkdir(parents=True, exist_ok=True)
        name = f"{_safe(source)}-{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{secrets.token_hex(4)}"
        temporary = partition / f".{name}.writing"
        try:
            with temporary.open("wb") as file:
                pq.write_table(table, file, compression="zstd", compression_level=1, use_dictionary=sorted(_REPEATED))
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(partition / f"{name}{_ENDING}")
        finally:
            temporary.unlink(missing_ok=True)
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


def _files_of(partition: Path, source: str) -> list[Path]:
    return sorted(partition.glob(f"{_safe(source)}-*{_ENDING}"))


def table_of(rows: Rows, scales: dict[str, int] | None = None) -> pa.Table:
    """The rows as an Arrow table with the columns of COLUMNS.

    Args:
        scales: of decimal columns, which are tried first, and noted.
    """
    known: dict[str, int] = {} if scales is None else scales
    arrays, names = [], []
    for column in COLUMNS:
        values = rows.column(column.name)
        if column.kind is ColumnKind.DECIMAL:
            array = _decimals(values, known.get(column.name))
            known[column.name] = array.type.scale
        elif column.name in _REPEATED:
            array = pa.array(map(str, values), pa.string()) if column.name in _ENUMS else pa.array(values, pa.string())
        elif column.kind is ColumnKind.TIME:
            array = pa.array(list(map(_micros, values)), pa.int64()).cast(_TIME)
        else:
            array = pa.array(values, _TYPES[column.kind])
        arrays.append(array)
        names.append(column.name)
    return pa.table(arrays, names)


_ENUMS = {"status", "close_reason"}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _micros(time: datetime | None) -> int | None:
    if time is None:
        return None
    since = time - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def _decimals(values: Sequence[Decimal | None], scale: int | None) -> pa.Array:
    # As one column, exact: at this scale where it holds them, for that is quickly found, else at the largest of them.
    # Raises SinkError: they need more than 76 digits in one column.
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
