"""Listing: what a sink keeps, by exchange, market, symbol and spec: how many rows, from when to when."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from fastbars.sinks.declaration import SinkError, SinkRefused
from fastbars.sinks.text import files_of

__all__ = ["Extent", "Listing", "SeriesKey"]

SeriesKey = tuple[str, str, str, str]
"""(exchange, market, symbol, spec)"""
_COLUMNS = ["exchange", "market", "symbol", "spec"]


class Extent(NamedTuple):
    """What there is of one series.

    Attributes:
        rows: revisions included.
        first, last: when the first and the last bar begin.
    """

    rows: int
    first: datetime
    last: datetime


class Listing:
    """Lists a sink. Files that have not changed since are not read again.

    Args:
        source: "parquet:DIR", "duckdb:FILE", "jsonl:FILE" or "csv:FILE".

    Raises:
        SinkRefused: no URL of a sink that can be read.
    """

    def __init__(self, source: str) -> None:
        self._scheme, _, target = source.partition(":")
        if self._scheme not in _READERS or not target:
            raise SinkRefused(f"{source!r:.200} cannot be read: parquet:DIR, duckdb:FILE, jsonl:FILE or csv:FILE")
        self._path = Path(target.partition("?")[0])
        self._files: dict[Path, tuple[int, dict[SeriesKey, Extent]]] = {}

    def refresh(self) -> dict[SeriesKey, Extent]:
        """What there is now, in the order of names. Raises SinkError: it cannot be read."""
        files: dict[Path, tuple[int, dict[SeriesKey, Extent]]] = {}
        for path in self._paths():
            try:
                changed_ns = path.stat().st_mtime_ns
                known = self._files.get(path)
                if known is None or known[0] != changed_ns:
                    known = changed_ns, _READERS[self._scheme](path)
            except FileNotFoundError:
                continue  # written anew with others meanwhile
            except OSError as error:
                raise SinkError(f"{path}: {error.strerror or error}") from error
            files[path] = known
        self._files = files
        return dict(sorted(_united(own for _, own in files.values()).items()))

    def _paths(self) -> Iterable[Path]:
        if self._scheme == "parquet":
            if not self._path.is_dir():
                raise SinkError(f"{self._path}: no such folder")
            return self._path.glob("date=*/**/[!.]*.parquet")
        files = [self._path] if self._scheme == "duckdb" else files_of(self._path)
        if not files or not files[0].exists():
            raise SinkError(f"{self._path}: no such file")
        return files


def _united(parts: Iterable[dict[SeriesKey, Extent]]) -> dict[SeriesKey, Extent]:
    found: dict[SeriesKey, Extent] = {}
    for part in parts:
        for key, own in part.items():
            other = found.get(key)
            found[key] = own if other is None else _joined(own, other)
    return found


def _joined(one: Extent, other: Extent) -> Extent:
    return Extent(one.rows + other.rows, min(one.first, other.first), max(one.last, other.last))


def _of_parquet(path: Path) -> dict[SeriesKey, Extent]:
    import pyarrow as pa  # noqa: PLC0415 an extra, for those who ask
    import pyarrow.parquet as pq  # noqa: PLC0415

    try:
        table = pq.read_table(path, columns=[*_COLUMNS, "begins"], partitioning=None)
        grouped = table.group_by(_COLUMNS).aggregate([("begins", "count"), ("begins", "min"), ("begins", "max")])
    except pa.ArrowException as error:
        raise SinkError(f"{path}: {error}") from error
    return {
        (row["exchange"], row["market"], row["symbol"], row["spec"]): Extent(
            row["begins_count"], row["begins_min"], row["begins_max"]
        )
        for row in grouped.to_pylist()
    }


def _of_duckdb(path: Path) -> dict[SeriesKey, Extent]:
    import duckdb  # noqa: PLC0415 an extra, for those who ask

    names = ", ".join(_COLUMNS)
    query = f"select {names}, count(*), min(begins), max(begins) from bars_by_source group by {names}"
    try:
        with duckdb.connect(str(path), read_only=True) as connection:
            rows = connection.execute(query).fetchall()
    except duckdb.Error as error:
        raise SinkError(f"{path}: {error}") from error
    return {
        (exchange, market, symbol, spec): Extent(count, first.replace(tzinfo=UTC), last.replace(tzinfo=UTC))
        for exchange, market, symbol, spec, count, first, last in rows
    }


def _of_lines(path: Path) -> dict[SeriesKey, Extent]:
    with path.open("rb") as file:
        return _counted(_json_rows(file))


def _of_csv(path: Path) -> dict[SeriesKey, Extent]:
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        try:
            return _counted(csv.DictReader(file))
        except csv.Error as error:
            raise SinkError(f"{path}: {error}") from error


def _json_rows(file: Iterable[bytes]) -> Iterator[Mapping[str, Any]]:
    for line in file:
        try:
            row = json.loads(line)
        except ValueError:
            continue  # cut by a crash; `read` says so
        if isinstance(row, dict):
            yield row


def _counted(rows: Iterable[Mapping[str, Any]]) -> dict[SeriesKey, Extent]:
    found: dict[SeriesKey, Extent] = {}
    for row in rows:
        try:
            key = str(row["exchange"]), str(row["market"]), str(row["symbol"]), str(row["spec"])
            begins = datetime.fromisoformat(row["begins"])
        except (ValueError, TypeError, KeyError):
            continue
        own = Extent(1, begins, begins)
        found[key] = own if key not in found else _joined(own, found[key])
    return found


_READERS = {"parquet": _of_parquet, "duckdb": _of_duckdb, "jsonl": _of_lines, "csv": _of_csv}
