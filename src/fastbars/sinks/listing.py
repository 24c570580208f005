"""Listing: what a sink keeps, by exchange, market, symbol and spec: how many rows, from when to when."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from fastbars.sinks.declaration import SinkError, SinkRefused

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
        source: "parquet:DIR" or "jsonl:FILE".

    Raises:
        SinkRefused: no URL of a sink that can be read.
    """

    def __init__(self, source: str) -> None:
        scheme, _, target = source.partition(":")
        if scheme not in ("parquet", "jsonl") or not target:
            raise SinkRefused(f"{source!r:.200} cannot be read: parquet:DIR or jsonl:FILE")
        self._is_parquet = scheme == "parquet"
        self._path = Path(target.partition("?")[0] if self._is_parquet else target)
        self._files: dict[Path, tuple[int, dict[SeriesKey, Extent]]] = {}

    def refresh(self) -> dict[SeriesKey, Extent]:
        """What there is now, in the order of names. Raises SinkError: it cannot be read."""
        try:
            found = self._refreshed()
        except OSError as error:
            raise SinkError(f"{self._path}: {error.strerror or error}") from error
        return dict(sorted(found.items()))

    def _refreshed(self) -> dict[SeriesKey, Extent]:
        if self._is_parquet and not self._path.is_dir():
            raise SinkError(f"{self._path}: no such folder")
        paths = self._path.glob("date=*/**/[!.]*.parquet") if self._is_parquet else [self._path]
        files: dict[Path, tuple[int, dict[SeriesKey, Extent]]] = {}
        for path in paths:
            try:
                changed_ns = path.stat().st_mtime_ns
                known = self._files.get(path)
                if known is None or known[0] != changed_ns:
                    known = changed_ns, _of_parquet(path) if self._is_parquet else _of_lines(path)
            except FileNotFoundError:
                if not self._is_parquet:
                    raise
                continue  # written anew with others meanwhile
            files[path] = known
        self._files = files
        return _united(own for _, own in files.values())


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
        tuple(row[name] for name in _COLUMNS): Extent(row["begins_count"], row["begins_min"], row["begins_max"])
        for row in grouped.to_pylist()
    }


def _of_lines(path: Path) -> dict[SeriesKey, Extent]:
    found: dict[SeriesKey, Extent] = {}
    with path.open("rb") as file:
        for line in file:
            try:
                row = json.loads(line)
                exchange, market, symbol, spec = (str(row[name]) for name in _COLUMNS)
                begins = datetime.fromisoformat(row["begins"])
            except (ValueError, TypeError, KeyError):
                continue  # cut by a crash; `read` says so
            key = exchange, market, symbol, spec
            own = Extent(1, begins, begins)
            found[key] = own if key not in found else _joined(own, found[key])
    return found
