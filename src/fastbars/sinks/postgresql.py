"""`postgresql://USER:PASSWORD@HOST:PORT/DATABASE`: a table with one row a bar and source, and a view of the best.

    COPY (binary) -> temporary table -> insert .. on conflict do update where its revision is higher -> commit

In one transaction a batch, which confirms it. Decimals are `numeric` without limits; times are `timestamptz`, whose
microsecond is that of a bar's times, so nothing is rounded.
"""

from __future__ import annotations

from typing import Any

import asyncpg

from fastbars.redaction import without_credentials
from fastbars.sinks.declaration import SinkError, SinkRefused
from fastbars.sinks.rows import COLUMNS, KEY, ColumnKind, Rows
from fastbars.sinks.urls import checked_name, is_untrusted, shown_url, split_options

__all__ = ["PostgresqlSink"]

CONNECT_S = 10.0
STATEMENT_S = 60.0

_TYPES = {
    ColumnKind.TEXT: "text",
    ColumnKind.TIME: "timestamp with time zone",
    ColumnKind.DECIMAL: "numeric",
    ColumnKind.INTEGER: "bigint",
    ColumnKind.FLAG: "boolean",
}
# Texts are compared by their bytes: as this program does, and quicker than by a language's rules.
_COLLATED = {ColumnKind.TEXT: 'text collate "C"'}
_NAMES = tuple(column.name for column in COLUMNS)
# Symbol and spec first: most queries name these two and a time. All of KEY is in it, with the source.
_PRIMARY = ("symbol", "spec", "begins", "exchange", "market", "number", "source")
_INCOMING = "fastbars_incoming"
_REFUSALS = (
    asyncpg.InvalidAuthorizationSpecificationError,  # and wrong passwords, which are a kind of it
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
    asyncpg.InvalidSchemaNameError,
)
_FAILURES = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # where a connection is lost in the middle of a COPY
    OSError,
    TimeoutError,
)


class PostgresqlSink:
    """Keeps bars in PostgreSQL, and in Timescale where its extension is installed in the database.

    Table `NAME_by_source` has one row for each bar and source, the highest revision; view `NAME` the best of each bar,
    and not those that are RETRACTED. Both are made where they are missing.

    Args:
        url: as `asyncpg.connect` takes it (`sslmode`, `sslrootcert`, .. in its query), and `table=NAME`, "bars" if not
            given. The connection must be a session of its own: pgbouncer in session mode.

    Raises:
        SinkRefused: the URL is malformed.
    """

    def __init__(self, url: str) -> None:
        self._dsn, options = split_options(url, {"table": "bars"})
        self._view = checked_name(url, "table", options["table"])
        self._table = f"{self._view}_by_source"
        self.name = shown_url(url)
        self._connection: asyncpg.Connection[Any] | None = None

    async def open(self) -> None:
        """Connect, and make or check the table. Raises SinkError, SinkRefused."""
        await self.close()
        try:
            self._connection = await asyncpg.connect(self._dsn, timeout=CONNECT_S, command_timeout=STATEMENT_S)
            async with self._connection.transaction():
                await self._prepare(self._connection)
            columns = ", ".join(f'"{name}"' for name in _NAMES)
            await self._connection.execute(
                f'create temporary table {_INCOMING} on commit delete rows as select {columns} from "{self._table}"'
                " with no data"
            )
        except (*_REFUSALS, asyncpg.ClientConfigurationError, ValueError) as error:
            raise SinkRefused(f"{self.name}: {_text(error)}") from None
        except _FAILURES as error:
            raise (SinkRefused if is_untrusted(error) else SinkError)(f"{self.name}: {_text(error)}") from None

    async def write(self, rows: Rows) -> None:
        """Write the rows in one transaction. Raises SinkError."""
        connection = self._connection
        if connection is None or connection.is_closed():
            raise SinkError(f"{self.name}: not connected")
        try:
            async with connection.transaction():
                await connection.copy_records_to_table(
                    _INCOMING, records=rows.records, columns=_NAMES, timeout=STATEMENT_S
                )
                await connection.execute(self._merge)
        except _REFUSALS as error:
            raise SinkRefused(f"{self.name}: {_text(error)}") from None
        except _FAILURES as error:
            raise SinkError(f"{self.name}: {_text(error)}") from None

    async def flush(self) -> None:
        """What `write` wrote is committed."""

    async def close(self) -> None:
        """Disconnect."""
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                await connection.close(timeout=1.0)
            except _FAILURES:
                connection.terminate()

    @property
    def _merge(self) -> str:
        own = ", ".join(_PRIMARY)
        changes = ", ".join(f'"{name}" = excluded."{name}"' for name in _NAMES if name not in _PRIMARY)
        columns = ", ".join(f'"{name}"' for name in _NAMES)
        # Of one revision that was written twice the first stays: it is the same row.
        return (
            f'insert into "{self._table}" as kept ({columns})'
            f" select distinct on ({own}) {columns} from {_INCOMING} order by {own}, revision desc"
            f" on conflict ({own}) do update set {changes}"
            " where excluded.revision > kept.revision"
        )

    async def _prepare(self, connection: asyncpg.Connection[Any]) -> None:
        # Two hosts may start at once, and "if not exists" is no protection from that.
        await connection.execute("select pg_advisory_xact_lock(hashtext($1))", f"fastbars {self._table}")
        if await connection.fetchval("select to_regclass($1)", f'"{self._table}"') is None:
            await connection.execute(self._create_table)
            await self._partition(connection)
        await self._check(connection)
        if await connection.fetchval("select to_regclass($1)", f'"{self._view}"') is None:
            await connection.execute(self._create_view)

    @property
    def _create_table(self) -> str:
        columns = ", ".join(
            f'"{column.name}" {_COLLATED.get(column.kind, _TYPES[column.kind])}{"" if column.optional else " not null"}'
            for column in COLUMNS
        )
        return f'create table "{self._table}" ({columns}, primary key ({", ".join(_PRIMARY)}))'

    @property
    def _create_view(self) -> str:
        # No window function and no "distinct on": conditions of every query reach the table through this.
        columns = ", ".join(f'kept."{name}"' for name in _NAMES)
        same = " and ".join(f"other.{name} = kept.{name}" for name in KEY)
        goodness = "({0}.rank, -coalesce({0}.trade_count, 0), {0}.source)"
        return (
            f'create view "{self._view}" as select {columns} from "{self._table}" kept'
            f" where kept.status <> 'RETRACTED' and not exists (select from \"{self._table}\" other where {same}"
            f" and {goodness.format('other')} < {goodness.format('kept')})"
        )

    async def _partition(self, connection: asyncpg.Connection[Any]) -> None:
        # Timescale: in partitions by time, which its compression and its policies of retention work on.
        if await connection.fetchval("select 1 from pg_extension where extname = 'timescaledb'"):
            await connection.execute("select create_hypertable($1::regclass, 'begins')", f'"{self._table}"')

    async def _check(self, connection: asyncpg.Connection[Any]) -> None:
        found = {
            name: (kind, not_null, has_default)
            for name, kind, not_null, has_default in await connection.fetch(
                "select attname, format_type(atttypid, atttypmod), attnotnull, atthasdef from pg_attribute"
                " where attrelid = to_regclass($1) and attnum > 0 and not attisdropped",
                f'"{self._table}"',
            )
        }
        for column in COLUMNS:
            if column.name not in found:
                raise SinkRefused(f"{self.name}: table {self._table} has no column {column.name}")
            kind, not_null, _ = found.pop(column.name)
            if kind != _TYPES[column.kind]:
                raise SinkRefused(
                    f"{self.name}: column {column.name} of table {self._table} is {kind}, not {_TYPES[column.kind]}"
                )
            if not_null and column.optional:
                raise SinkRefused(f"{self.name}: column {column.name} of table {self._table} takes no null")
        for name, (_, not_null, has_default) in found.items():
            if not_null and not has_default:
                raise SinkRefused(f"{self.name}: column {name} of table {self._table} takes no null, and is not ours")
        unique = await connection.fetch(
            "select array(select attname::text from pg_attribute where attrelid = indrelid and attnum = any (indkey))"
            " from pg_index where indrelid = to_regclass($1) and indisunique and indpred is null and indisvalid",
            f'"{self._table}"',
        )
        if not any(set(columns) == set(_PRIMARY) for (columns,) in unique):
            raise SinkRefused(
                f"{self.name}: table {self._table} has no primary key or unique index on {', '.join(_PRIMARY)}"
            )


def _text(error: BaseException) -> str:
    return without_credentials(str(error) or type(error).__name__)
