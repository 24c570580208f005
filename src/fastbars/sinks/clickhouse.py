"""`clickhouse://USER:PASSWORD@HOST:PORT/DATABASE`: a table with one row a bar and source, and a view of the best.

A batch is one insert over HTTP. The table's engine, ReplacingMergeTree by revision, drops rows of lower revisions when
it merges its parts, and the view reads it by FINAL, as if it had. Decimals are Decimal(38, 18) for prices and
Decimal(76, 18) or (76, 36) for sums, which hold every value that bars are made of; one that does not fit is an error.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, ProgrammingError
from urllib3.exceptions import HTTPError

from fastbars.redaction import without_credentials
from fastbars.sinks.declaration import SinkError, SinkRefused
from fastbars.sinks.json_rows import json_of
from fastbars.sinks.rows import COLUMNS, KEY, Column, ColumnKind, Rows
from fastbars.sinks.threads import OneThread
from fastbars.sinks.urls import checked_name, host_names, is_untrusted, login_of, shown_url, split_options

__all__ = ["ClickhouseSink"]

CONNECT_S = 10
ANSWER_S = 60
ROWS_OF_A_CHUNK = 500

_SCALES = {
    "quote_volume": (76, 36),
    "taker_buy_quote_volume": (76, 36),
    "volume": (76, 18),
    "taker_buy_volume": (76, 18),
}
_PRICE = (38, 18)
_NAMES = tuple(column.name for column in COLUMNS)
_DECIMALS = tuple(column.name for column in COLUMNS if column.kind is ColumnKind.DECIMAL)
_OPTIONS = {"ca_cert", "verify", "client_cert", "client_cert_key", "server_host_name", "http_proxy", "https_proxy"}
_ORDER = ("symbol", "spec", "begins", "exchange", "market", "number", "source")
# Authentication, users, access, no such database.
_REFUSED = {"81", "192", "193", "194", "291", "492", "497", "516"}
_CODE = re.compile(r"Code: (\d+)|code (\d+)")


class ClickhouseSink:
    """Keeps bars in ClickHouse.

    Table `NAME_by_source` has a row for each bar and source once its parts are merged; view `NAME` has the best of
    each bar, and not those that are RETRACTED. Both are made where they are missing.

    Args:
        url: `clickhouses://` for HTTPS. In its query `table=NAME`, "bars" if not given, and of clickhouse-connect's
            options those of TLS and proxies.

    Raises:
        SinkRefused: the URL is malformed.
    """

    def __init__(self, url: str) -> None:
        rest, options = split_options(url, {"table": "bars"})
        self._view = checked_name(url, "table", options["table"])
        self._table = f"{self._view}_by_source"
        parts = urlsplit(rest)
        given = dict(parse_qsl(parts.query))
        if not given.keys() <= _OPTIONS:
            raise SinkRefused(f"{shown_url(url)}: no such option: {', '.join(sorted(given.keys() - _OPTIONS)):.100}")
        is_secure = parts.scheme == "clickhouses"
        (server, *others) = host_names(rest, 8443 if is_secure else 8123)
        if others:
            raise SinkRefused(f"{shown_url(url)}: one server can be given")
        self._database = checked_name(url, "database", parts.path.strip("/") or "default")
        user, password = login_of(url)
        host, _, port = server.rpartition(":")
        self._options: dict[str, Any] = {
            "host": host.strip("[]"), "port": int(port), "username": user or "default", "password": password,
            "database": self._database, "secure": is_secure, "connect_timeout": CONNECT_S,
            "send_receive_timeout": ANSWER_S, "query_retries": 0, "autogenerate_session_id": False, **given,
        }  # fmt: skip
        self.name = shown_url(url)
        self._thread = OneThread("fastbars clickhouse")
        self._client: Client | None = None

    async def open(self) -> None:
        """Connect, and make or check the table. Raises SinkError, SinkRefused."""
        await self._thread.run(self._open)

    async def write(self, rows: Rows) -> None:
        """Insert the rows. Raises SinkError; SinkRefused: a decimal does not fit its column."""
        if rows:
            await self._thread.run(self._write, rows)

    async def flush(self) -> None:
        """What `write` inserted is in the table."""

    async def close(self) -> None:
        """Disconnect."""
        client, self._client = self._client, None
        if client is not None:
            await self._thread.run(client.close)
        self._thread.end()

    def _open(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
        try:
            self._client = clickhouse_connect.get_client(**self._options)
            self._prepare(self._client)
        except (ClickHouseError, HTTPError, OSError) as error:
            raise self._failure(error) from None

    def _write(self, rows: Rows) -> None:
        if self._client is None:
            raise SinkError(f"{self.name}: not connected")
        for name in _DECIMALS:
            self._check_digits(name, rows)
        try:
            self._client.raw_insert(
                f"`{self._table}`",
                _NAMES,
                _chunks(rows),
                settings={"date_time_input_format": "best_effort"},
                fmt="JSONEachRow",
            )
        except (ClickHouseError, HTTPError, OSError) as error:
            raise self._failure(error) from None

    def _check_digits(self, name: str, rows: Rows) -> None:
        # ClickHouse would round what has more decimals than the column, and tell nobody.
        digits, scale = _SCALES.get(name, _PRICE)
        for place, value in enumerate(rows.column(name)):
            if value is not None and not _fits(value, digits, scale):
                bar = rows.bars[place]
                raise SinkRefused(
                    f"{self.name}: {bar.exchange} {bar.symbol} {bar.spec} {bar.open_time:%Y-%m-%d %H:%M:%S}: {name}"
                    f" {value:f} does not fit Decimal({digits}, {scale})"
                )

    def _prepare(self, client: Client) -> None:
        columns = ", ".join(f"`{column.name}` {_type_of(column)}" for column in COLUMNS)
        own = ", ".join(_ORDER)
        if not self._engine_of(client, self._table):
            # By years: a batch may hold bars of many months, of which ClickHouse takes 100 in an insert.
            client.command(
                f"create table if not exists `{self._table}` ({columns}) engine = ReplacingMergeTree(revision)"
                f" partition by toYear(begins) order by ({own})"
            )
        self._check(client)
        if not self._engine_of(client, self._view):
            key = ", ".join(name for name in _ORDER if name in KEY)
            names = ", ".join(f"`{name}`" for name in _NAMES)
            # Conditions on columns of KEY reach the table through "limit by".
            client.command(
                f"create view if not exists `{self._view}` as select {names} from (select {names} from"
                f" `{self._table}` final order by rank, coalesce(trade_count, 0) desc, source limit 1 by {key})"
                " where status != 'RETRACTED'"
            )

    def _engine_of(self, client: Client, table: str) -> str:
        return "".join(
            self._ask(client, "engine", "system.tables", f"database = currentDatabase() and name = '{table}'")
        )

    def _check(self, client: Client) -> None:
        own = f"database = currentDatabase() and table = '{self._table}'"
        found = dict(
            zip(
                self._ask(client, "name", "system.columns", own),
                self._ask(client, "type", "system.columns", own),
                strict=True,
            )
        )
        for column in COLUMNS:
            if column.name not in found:
                raise SinkRefused(f"{self.name}: table {self._table} has no column {column.name}")
            if found[column.name] != _type_of(column):
                raise SinkRefused(
                    f"{self.name}: column {column.name} of table {self._table} is {found[column.name]},"
                    f" not {_type_of(column)}"
                )
        engine = self._engine_of(client, self._table)
        if not engine.endswith("ReplacingMergeTree"):
            raise SinkRefused(f"{self.name}: table {self._table} is a {engine}, not a ReplacingMergeTree")

    def _ask(self, client: Client, column: str, table: str, condition: str) -> list[str]:
        return [row[0] for row in client.query(f"select {column} from {table} where {condition}").result_rows]

    def _failure(self, error: Exception) -> SinkError:
        text = f"{self.name}: {without_credentials(str(error) or type(error).__name__)[:1000]}"
        codes = {code for pair in _CODE.findall(str(error)) for code in pair if code}
        is_refusal = isinstance(error, ProgrammingError) or is_untrusted(error) or codes & _REFUSED
        return SinkRefused(text) if is_refusal else SinkError(text)


def _chunks(rows: Rows) -> Generator[bytes, None, None]:
    # Of the body of a request: not all at once in memory.
    for at in range(0, len(rows), ROWS_OF_A_CHUNK):
        yield b"".join(json_of(record) + b"\n" for record in rows.records[at : at + ROWS_OF_A_CHUNK])


def _type_of(column: Column) -> str:
    if column.kind is ColumnKind.TEXT:
        return "String" if column.name == "number" else "LowCardinality(String)"
    if column.kind is ColumnKind.DECIMAL:
        kind = "Decimal({}, {})".format(*_SCALES.get(column.name, _PRICE))
    else:
        kind = {ColumnKind.TIME: "DateTime64(6, 'UTC')", ColumnKind.INTEGER: "Int64", ColumnKind.FLAG: "Bool"}[
            column.kind
        ]
    return f"Nullable({kind})" if column.optional else kind


def _fits(value: Decimal, digits: int, scale: int) -> bool:
    exponent = value.as_tuple().exponent
    return isinstance(exponent, int) and exponent >= -scale and value.adjusted() < digits - scale
