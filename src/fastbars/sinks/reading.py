"""`fastbars.read`: bars back out of a sink, of each the best row, or what was known at a moment."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastbars.bars import OHLCVBar
from fastbars.log import log
from fastbars.sinks.declaration import SinkError, SinkRefused
from fastbars.sinks.rows import COLUMNS, ColumnKind, bar_of, best_of

__all__ = ["read"]

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
) -> list[OHLCVBar]:
    """Bars that a sink has kept: of each bar the best row, in the order of exchange, market, symbol, spec and time.

    Args:
        source: URL of the sink: "parquet:DIR" or "jsonl:FILE".
        symbols, specs, exchange, market: only these; None: all.
        since, until: only bars that begin from `since` on and before `until`, aware datetimes.
        as_of: what was known at that moment: rows that were issued later are left out, so that a backtest sees no
            revision before it was there.

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
        records = _of_parquet(Path(target.partition("?")[0]), wanted)
    elif scheme == "jsonl" and target:
        records = _of_lines(Path(target), wanted)
    else:
        raise SinkRefused(f"{source!r:.200} cannot be read: parquet:DIR or jsonl:FILE")
    best = best_of(records)
    best.sort(
        key=lambda one: (
            one["exchange"],
            one["market"],
            one["symbol"],
            one["spec"],
            one["begins"],
            one["index"] or 0,
            one["open_time"],
        )
    )
    return [bar_of(record) for record in best]


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

    def has_date(self, date: str) -> bool:
        # Whether a partition of this date may have some.
        return not (
            (self.since is not None and date < f"{self.since.astimezone(UTC):%Y-%m-%d}")
            or (self.until is not None and date > f"{self.until.astimezone(UTC):%Y-%m-%d}")
        )


def _of_lines(path: Path, wanted: _Wanted) -> Iterator[dict[str, Any]]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    record = json.loads(line)
                    for name in _TIMES:
                        if record[name] is not None:
                            record[name] = datetime.fromisoformat(record[name])
                except (ValueError, TypeError, KeyError) as error:
                    log.warning("row_not_read", file=str(path), line=number, error=str(error))  # cut by a crash
                    continue
                if wanted.has(record):
                    yield record
    except OSError as error:
        raise SinkError(f"{path}: {error.strerror or error}") from error


def _of_parquet(folder: Path, wanted: _Wanted) -> Iterator[dict[str, Any]]:
    import pyarrow as pa  # noqa: PLC0415 an extra, for those who ask
    import pyarrow.compute as pc  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    if not folder.is_dir():
        raise SinkError(f"{folder}: no such folder")
    condition = None
    tests = [pc.field(name).isin(sorted(values)) for name, values in wanted.equal.items() if values is not None]
    tests += [pc.field("begins") >= wanted.since] if wanted.since is not None else []
    tests += [pc.field("begins") < wanted.until] if wanted.until is not None else []
    tests += [pc.field("issued_time") <= wanted.as_of] if wanted.as_of is not None else []
    for test in tests:
        condition = test if condition is None else condition & test
    for dated in sorted(folder.glob("date=*")):
        if not wanted.has_date(dated.name.removeprefix("date=")):
            continue
        for file in sorted(dated.rglob("[!.]*.parquet")):
            try:
                table = pq.read_table(file, filters=condition, partitioning=None)
            except FileNotFoundError:  # written anew with others meanwhile, and read there
                continue
            except (OSError, pa.ArrowException) as error:
                raise SinkError(f"{file}: {error}") from error
            yield from table.to_pylist()
