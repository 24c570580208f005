"""`fastbars.read`: bars back out of a sink, of each the best row, or what was known at a moment."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from fastbars.bars import OHLCVBar, begins
from fastbars.log import log
from fastbars.sinks.declaration import SinkError, SinkRefused
from fastbars.sinks.json_rows import record_of_json
from fastbars.sinks.rows import COLUMNS, Column, ColumnKind, bar_of, best_of, number_of
from fastbars.sinks.text import files_of

__all__ = ["read"]

_MOST_READS = 100  # of a folder that changes meanwhile
_TIMES = tuple(column.name for column in COLUMNS if column.kind is ColumnKind.TIME)


def read(
    source: str,
    symbols: Sequence[str] | None = None,
    specs: Sequence[str] | None = None,
    *,
    exchange: str | None = None,
    market: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    as_of: datetime | None = None,
    strict: bool = False,
) -> list[OHLCVBar]:
    """Bars that a sink has kept: of each bar the best row, in the order of exchange, market, symbol, spec and time.

    Args:
        source: URL of the sink: "parquet:DIR", "duckdb:FILE", "jsonl:FILE" or "csv:FILE". A DuckDB table keeps the
            highest revision of each source only, so that `as_of` leaves out what was revised since.
        symbols, specs, exchange, market: only these; None: all.
        since, until: only bars that begin from `since` on and before `until`, aware datetimes.
        as_of: what was known at that moment: rows that were issued later are left out, so that a backtest sees no
            revision before it was there.
        strict: a Parquet file that is damaged is an error; else it is logged by name (`parquet_file_not_read`), and the
            others are read.

    Raises:
        SinkRefused: it is no URL of a sink that can be read. SinkError: it cannot be read.
        ValueError: a time has no zone. TypeError: symbols or specs are one text.
    """
    for name, value in (("symbols", symbols), ("specs", specs)):
        if isinstance(value, str):
            raise TypeError(f"{name} must be a list of strings")
    for name, time in (("since", since), ("until", until), ("as_of", as_of)):
        if time is not None and time.tzinfo is None:
            raise ValueError(f"{name} must have a time zone, got {time}")
    scheme, _, target = source.partition(":")
    wanted = _Wanted(symbols, specs, exchange, market, since, until, as_of)
    if scheme == "parquet" and target:
        bars = list(_of_parquet(Path(target.partition("?")[0]), wanted, strict=strict))
        bars.sort(key=_order)
        return bars
    if scheme in ("jsonl", "csv") and target:
        records = _of_lines(Path(target.partition("?")[0]), scheme, wanted)
    elif scheme == "duckdb" and target:
        records = _of_duckdb(Path(target), wanted)
    else:
        raise SinkRefused(f"{source!r:.200} cannot be read: parquet:DIR, duckdb:FILE, jsonl:FILE or csv:FILE")
    return sorted(map(bar_of, best_of(records)), key=_order)


def _order(bar: OHLCVBar) -> tuple[Any, ...]:
    return bar.exchange, bar.market, bar.symbol, bar.spec, begins(bar), bar.index or 0, bar.open_time, number_of(bar)


class _Wanted:
    # Which rows are asked for.

    def __init__(
        self, symbols: Sequence[str] | None, specs: Sequence[str] | None, exchange: str | None, market: str | None,
        since: datetime | None, until: datetime | None, as_of: datetime | None,
    ) -> None:  # fmt: skip
        self.equal = {
            "symbol": None if symbols is None else set(symbols), "spec": None if specs is None else set(specs),
            "exchange": None if exchange is None else {exchange}, "market": None if market is None else {market},
        }  # fmt: skip
        self.since, self.until, self.as_of = since, until, as_of

    def has(self, record: dict[str, Any]) -> bool:
        return (
            all(values is None or record[name] in values for name, values in self.equal.items())
            and (self.since is None or record["begins"] >= self.since)
            and (self.until is None or record["begins"] < self.until)
            and (self.as_of is None or record["issued_time"] <= self.as_of)
        )

    def as_sql(self) -> tuple[str, list[Any]]:
        # A condition with ? for each of the parameters; times as UTC without a zone.
        tests, parameters = ["true"], list[Any]()
        for name, values in self.equal.items():
            if values is not None:
                tests.append(f"list_contains(?, {name})")
                parameters.append(sorted(values))
        for text, time in (("begins >= ?", self.since), ("begins < ?", self.until), ("issued_time <= ?", self.as_of)):
            if time is not None:
                tests.append(text)
                parameters.append(time.astimezone(UTC).replace(tzinfo=None))
        return " and ".join(tests), parameters

    def has_date(self, date: str) -> bool:
        # Whether a partition of this date may have some.
        return not (
            (self.since is not None and date < f"{self.since.astimezone(UTC):%Y-%m-%d}")
            or (self.until is not None and date > f"{self.until.astimezone(UTC):%Y-%m-%d}")
        )


def _of_lines(path: Path, scheme: str, wanted: _Wanted) -> Iterator[dict[str, Any]]:
    files = files_of(path)
    if not files:
        raise SinkError(f"{path}: no such file")
    for file in files:
        try:
            with file.open(encoding="utf-8", errors="replace", newline="") as opened:
                lines: Iterable[list[str] | str] = csv.reader(opened) if scheme == "csv" else opened
                for number, line in enumerate(lines, 1):
                    if scheme == "csv" and number == 1:
                        continue
                    try:
                        record = _of_csv(line) if isinstance(line, list) else record_of_json(line)
                    except (ValueError, TypeError, KeyError, ArithmeticError) as error:  # cut by a crash
                        log.warning("row_not_read", file=str(file), line=number, error=str(error)[:200])
                        continue
                    if wanted.has(record):
                        yield record
        except (OSError, csv.Error) as error:
            raise SinkError(f"{file}: {error}") from error


def _of_csv(cells: Sequence[str]) -> dict[str, Any]:
    if len(cells) != len(COLUMNS):
        raise ValueError(f"has {len(cells)} columns, not {len(COLUMNS)}")
    return {column.name: _of_text(cell, column) for column, cell in zip(COLUMNS, cells, strict=True)}


def _of_text(cell: str, column: Column) -> Any:
    if cell == "" and column.optional:
        return None
    if column.kind is ColumnKind.TIME:
        return datetime.fromisoformat(cell)
    if column.kind is ColumnKind.DECIMAL:
        return Decimal(cell)
    if column.kind is ColumnKind.INTEGER:
        return int(cell)
    return cell == "true" if column.kind is ColumnKind.FLAG else cell


def _of_duckdb(path: Path, wanted: _Wanted) -> Iterator[dict[str, Any]]:
    import duckdb  # noqa: PLC0415 an extra, for those who ask

    if not path.exists():
        raise SinkError(f"{path}: no such file")
    names = [column.name for column in COLUMNS]
    try:
        with duckdb.connect(str(path), read_only=True) as connection:
            condition, parameters = wanted.as_sql()
            found = connection.execute(f"select * from bars_by_source where {condition}", parameters)
            while rows := found.fetchmany(10_000):
                for row in rows:
                    record = dict(zip(names, row, strict=True))
                    for name in _TIMES:
                        if record[name] is not None:
                            record[name] = record[name].replace(tzinfo=UTC)
                    if wanted.has(record):
                        yield record
    except duckdb.Error as error:
        raise SinkError(f"{path}: {error}") from error


def _of_parquet(folder: Path, wanted: _Wanted, *, strict: bool) -> Iterator[OHLCVBar]:
    import pyarrow.compute as pc  # noqa: PLC0415 an extra, for those who ask

    from fastbars.sinks.parquet import bars_of, best_rows, united  # noqa: PLC0415

    if not folder.is_dir():
        raise SinkError(f"{folder}: no such folder")
    condition = None
    tests = [pc.field(name).isin(sorted(values)) for name, values in wanted.equal.items() if values is not None]
    tests += [pc.field("begins") >= wanted.since] if wanted.since is not None else []
    tests += [pc.field("begins") < wanted.until] if wanted.until is not None else []
    tests += [pc.field("issued_time") <= wanted.as_of] if wanted.as_of is not None else []
    for test in tests:
        condition = test if condition is None else condition & test
    # All rows of a bar are of one date and one market, so that memory holds those of one at a time.
    for dated in sorted(folder.glob("date=*")):
        if not wanted.has_date(dated.name.removeprefix("date=")):
            continue
        for market in sorted(dated.glob("exchange=*/market=*")):
            tables = _tables_of(market, condition, strict=strict)
            if tables:
                yield from bars_of(best_rows(united(tables)))


def _tables_of(market: Path, condition: Any, *, strict: bool) -> list[Any]:
    # The rows of a market's folder. While it is read a sink may write files anew as one: then it is read again.
    import pyarrow as pa  # noqa: PLC0415 an extra, for those who ask
    import pyarrow.parquet as pq  # noqa: PLC0415

    from fastbars.sinks.parquet import files_in  # noqa: PLC0415

    names = [column.name for column in COLUMNS]
    files = files_in(market)
    for _ in range(_MOST_READS):
        tables: list[Any] = []
        for file in files:
            try:
                table = pq.read_table(file, columns=names, filters=condition, partitioning=None)
                if table.column_names != names:
                    raise pa.ArrowInvalid("its columns are not those of bars")
            except FileNotFoundError:
                break
            except (OSError, pa.ArrowException) as error:
                if strict:
                    raise SinkError(f"{file}: {error}") from error
                log.warning("parquet_file_not_read", file=str(file), error=str(error)[:200])
                continue
            tables.append(table)
        before, files = files, files_in(market)
        if files == before:
            return tables
    raise SinkError(f"{market}: its files change faster than they are read")
