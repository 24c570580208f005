"""`duckdb:FILE`: a table with one row a bar and source, and a view of the best.

DuckDB's decimals have 38 digits at one scale for a whole column, which is too few for the sums of all symbols
together; they are kept as text, exactly, and cast in queries: `cast(close as decimal(38, 10))`.

A file of DuckDB has one writer at a time, this process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from fastbars.sinks.declaration import SinkError, SinkRefused
from fastbars.sinks.rows import COLUMNS, KEY, ColumnKind, Rows

__all__ = ["DuckDBSink"]

_TYPES = {
    ColumnKind.TEXT: ("varchar", pa.string()), ColumnKind.TIME: ("timestamp", pa.timestamp("us")),
    ColumnKind.DECIMAL: ("varchar", pa.string()), ColumnKind.INTEGER: ("bigint", pa.int64()),
    ColumnKind.FLAG: ("boolean", pa.bool_()),
}  # fmt: skip
_NAMES = tuple(column.name for column in COLUMNS)
_QUOTED = {name: f'"{name}"' for name in _NAMES}
_PRIMARY = (*KEY, "source")
_OTHERS = tuple(name for name in _NAMES if name not in _PRIMARY)
_CREATE = (
    "create table if not exists bars_by_source ("
    + ", ".join(
        f"{_QUOTED[c.name]} {_TYPES[c.kind][0]}{'' if c.optional else ' not null'}" for c in COLUMNS
    )
    + f", primary key ({', '.join(_QUOTED[name] for name in _PRIMARY)}))"
)  # fmt: skip
# Its defaults are all cores, and most of the machine's memory.
_SETTINGS: dict[str, str | bool | int | float | list[str]] = {"threads": 1, "memory_limit": "256MB"}
_VIEW = f"""
    create or replace view bars as select * exclude (place) from (
        select *, row_number() over (
            partition by {", ".join(_QUOTED[name] for name in KEY)}
            order by rank, coalesce(trade_count, 0) desc, source
        ) as place from bars_by_source
    ) where place = 1 and status <> 'RETRACTED'
"""
_INSERT = f"""
    insert into bars_by_source select * from incoming
    on conflict do update set {", ".join(f"{_QUOTED[name]} = excluded.{_QUOTED[name]}" for name in _OTHERS)}
    where excluded.revision >= bars_by_source.revision
"""


class DuckDBSink:
    """Keeps bars in a DuckDB file: table `bars_by_source`, and view `bars` with the best row of each bar.

    Args:
        url: "duckdb:FILE".

    Raises:
        SinkRefused: no file is named.
    """

    def __init__(self, url: str) -> None:
        self._path = Path(url.partition(":")[2])
        if not self._path.name:
            raise SinkRefused(f"{url!r:.200} names no file: duckdb:FILE")
        self.name = f"duckdb:{self._path}"
        self._thread = ThreadPoolExecutor(1, "fastbars duckdb")  # a connection is of one thread
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._waiting: list[Rows] = []

    async def open(self) -> None:
        """Open the file, and make or check its table. Raises SinkError, SinkRefused."""
        self._waiting.clear()
        await self._do(self._open)

    async def write(self, rows: Rows) -> None:
        """Keep the rows for the next transaction."""
        self._waiting.append(rows)

    async def flush(self) -> None:
        """Write them in one transaction. Raises SinkError."""
        waiting, self._waiting = self._waiting, []
        for rows in waiting:
            await self._do(lambda rows=rows: self._insert(rows))  # type: ignore[misc]

    async def close(self) -> None:
        """Close the file."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, connection.close)

    async def _do(self, action: Callable[[], object]) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, action)
        except (duckdb.BinderException, duckdb.CatalogException) as error:
            raise SinkRefused(f"{self.name}: its table bars_by_source has another shape: {error}") from error
        except (duckdb.Error, OSError) as error:
            raise SinkError(f"{self.name}: {error}") from error

    def _open(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        try:
            connection = duckdb.connect(str(self._path), config=_SETTINGS)
        except duckdb.IOException as error:
            if "lock" in str(error):
                raise SinkError(f"{self.name}: another process has it open") from error
            raise SinkRefused(f"{self.name}: {error}") from error
        self._connection = connection
        connection.execute(_CREATE)
        shape = connection.execute("select * from bars_by_source limit 0").description or []
        if tuple(column[0] for column in shape) != _NAMES:
            raise SinkRefused(f"{self.name}: its table bars_by_source has other columns than those of bars")
        connection.execute(_VIEW)

    def _insert(self, rows: Rows) -> None:
        connection = self._connection
        if connection is None:
            raise SinkError(f"{self.name}: not open")
        # One statement may not have a bar twice: of each the last of the highest revision.
        latest: dict[tuple[Any, ...], int] = {}
        for place, key in enumerate(rows.keys()):
            other = latest.get(key)
            if other is None or rows.bars[other].revision <= rows.bars[place].revision:
                latest[key] = place
        kept = sorted(latest.values())
        columns = {}
        for column in COLUMNS:
            own = rows.column(column.name)
            values = [_plain(own[place], column.kind) for place in kept]
            columns[column.name] = pa.array(values, _TYPES[column.kind][1])
        incoming = pa.table(columns)
        connection.register("incoming", incoming)
        try:
            connection.execute(_INSERT)
        finally:
            connection.unregister("incoming")


def _plain(value: Any, kind: ColumnKind) -> Any:
    if isinstance(value, Decimal):
        return format(value, "f")
    if kind is ColumnKind.TIME and value is not None:
        return value.replace(tzinfo=None)  # UTC, as all times of bars are
    return str(value) if kind is ColumnKind.TEXT else value
