"""What every sink keeps of a bar: its columns, which bar it is, and which of several rows of it is the best.

A bar is told from others by KEY: exchange, market, symbol, spec, `begins` (the beginning of its interval, or of its
anchor's) and `number` (of path-driven bars: its index, or what else tells those apart that begin at one time). Of the
rows of one bar

- those of one source (the name of a stream) are its revisions: the highest counts;
- of several sources the better status counts, whatever the revisions, then the more trades.

RETRACTED, where it wins, says that there is no such bar. Units: times int64 ns since the epoch, UTC.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from functools import cached_property
from operator import attrgetter
from typing import Any, NamedTuple

from fastbars.bars import BAR_FIELDS, STATUSES, BarStatus, CloseReason, OHLCVBar, begins, path_number
from fastbars.clocks import wall_ns
from fastbars.specs import BarSpec
from fastbars.ticks import to_datetime

__all__ = ["COLUMNS", "KEY", "Column", "ColumnKind", "Rows", "bar_of", "best_of"]


class ColumnKind(StrEnum):
    """What the values of a column are, None where a column is `optional`."""

    TEXT = "text"
    TIME = "time"  # an aware datetime, UTC
    DECIMAL = "decimal"  # a Decimal, finite, of up to 77 digits
    INTEGER = "integer"  # of 64 bits
    FLAG = "flag"  # a bool


class Column(NamedTuple):
    """A column of a table of bars.

    Attributes:
        name: of the column, and where it is one of a bar's fields, of that.
        kind: of its values.
        optional: some have None.
    """

    name: str
    kind: ColumnKind
    optional: bool = False


_TEXTS = {"exchange", "market", "symbol", "spec", "status", "close_reason"}
_TIMES = {"open_time", "close_time", "first_trade_time", "last_trade_time"}
_DECIMALS = {
    "open", "high", "low", "close", "volume", "quote_volume", "taker_buy_volume", "taker_buy_quote_volume",
    "largest_trade",
}  # fmt: skip
_NEVER_NONE = _TEXTS | {"open_time", "close_time", "volume", "revision"}


def _kind_of(name: str) -> ColumnKind:
    if name in _TEXTS:
        return ColumnKind.TEXT
    if name in _TIMES:
        return ColumnKind.TIME
    return ColumnKind.DECIMAL if name in _DECIMALS else ColumnKind.INTEGER


COLUMNS = (
    *(Column(name, _kind_of(name), name not in _NEVER_NONE) for name in BAR_FIELDS),
    Column("inverse", ColumnKind.FLAG),
    Column("anchor_time", ColumnKind.TIME, optional=True),
    Column("source", ColumnKind.TEXT),
    Column("issued_time", ColumnKind.TIME),
    # What tells bars apart and which of two is better, made here so that no store has to.
    Column("begins", ColumnKind.TIME),
    Column("number", ColumnKind.TEXT),
    Column("rank", ColumnKind.INTEGER),
)
"""In the order of every table. `rank`: 0 is the best status; `issued_time`: when the stream issued the bar."""
KEY = ("exchange", "market", "symbol", "spec", "begins", "number")
"""The columns that tell bars apart."""

RANKS = {status: rank for rank, status in enumerate(STATUSES)}
_BAR_COLUMNS = tuple(column.name for column in COLUMNS if column.name in BAR_FIELDS)
_values_of = attrgetter(*_BAR_COLUMNS)


class Rows(Sequence[OHLCVBar]):
    """A batch of bars from one source.

    Args:
        bars: as issued, in order.
        source: name of the stream that issued them.
        issued_times: when each was given to the sink, aware UTC.
    """

    __slots__ = ("__dict__", "bars", "issued_times", "source")

    def __init__(self, bars: Sequence[OHLCVBar], source: str, issued_times: Sequence[datetime]) -> None:
        self.bars = bars
        self.source = source
        self.issued_times = issued_times

    def __len__(self) -> int:
        return len(self.bars)

    def __getitem__(self, place: Any) -> Any:
        return self.bars[place]

    @cached_property
    def is_anchored(self) -> bool:
        """Whether a bar has an anchor."""
        return any(index is not None for index in self.column("index"))

    @cached_property
    def records(self) -> list[tuple[Any, ...]]:
        """One tuple a bar, in the order of COLUMNS."""
        return [record_of(bar, self.source, at) for bar, at in zip(self.bars, self.issued_times, strict=True)]

    def column(self, name: str) -> list[Any]:
        """The values of one of COLUMNS, a bar each."""
        bars = self.bars
        if name == "source":
            return [self.source] * len(bars)
        if name == "issued_time":
            return list(self.issued_times)
        if name in ("begins", "anchor_time") and not self.is_anchored:
            return self.column("open_time") if name == "begins" else [None] * len(bars)
        if name == "begins":
            return [begins(bar) for bar in bars]
        if name == "number":
            is_timed = all(map(_is_timed, set(self.column("spec"))))
            return [""] * len(bars) if is_timed else [number_of(bar) for bar in bars]
        if name == "rank":
            return list(map(RANKS.__getitem__, self.column("status")))
        return list(map(attrgetter(name), bars))

    def keys(self) -> Iterator[tuple[Any, ...]]:
        """What tells each bar from others; the values of KEY."""
        return (key_of(bar) for bar in self.bars)


def key_of(bar: OHLCVBar) -> tuple[str, str, str, str, datetime, str]:
    """The values of KEY."""
    return bar.exchange, bar.market, bar.symbol, bar.spec, begins(bar), number_of(bar)


def number_of(bar: OHLCVBar) -> str:
    """What tells path-driven bars apart that begin at one time, as text; empty for a time bar."""
    if _is_timed(bar.spec):
        return ""
    number = path_number(bar)
    if isinstance(number, tuple):
        return "/".join("" if end is None else format(end, "f") for end in number)
    return "" if number is None else str(number)


def record_of(bar: OHLCVBar, source: str, issued_time: datetime) -> tuple[Any, ...]:
    """One row, in the order of COLUMNS."""
    values = list(_values_of(bar))
    values[_STATUS] = str(bar.status)
    values[_REASON] = str(bar.close_reason)
    anchor_time = bar.anchor_time
    since = bar.open_time if anchor_time is None else anchor_time
    return (*values, bar.inverse, anchor_time, source, issued_time, since, number_of(bar), RANKS[bar.status])


_STATUS, _REASON = _BAR_COLUMNS.index("status"), _BAR_COLUMNS.index("close_reason")


def bar_of(record: dict[str, Any]) -> OHLCVBar:
    """The bar of a row, by the names of COLUMNS; others are left out. Raises ValueError, TypeError, KeyError."""
    values = {name: record[name] for name in _BAR_COLUMNS}
    for column in COLUMNS:
        if column.kind is ColumnKind.DECIMAL and values[column.name] is not None:
            values[column.name] = Decimal(values[column.name])
    values["status"] = BarStatus(values["status"])
    values["close_reason"] = CloseReason(values["close_reason"])
    return OHLCVBar(**values, inverse=bool(record["inverse"]))


def best_of(records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of rows by the names of COLUMNS, in any order, the best of each bar, in the order of the bars' first rows.

    A bar whose best row is RETRACTED is left out.
    """
    latest: dict[tuple[Any, ...], dict[str, Any]] = {}
    for record in records:
        own = (*(record[name] for name in KEY), record["source"])
        if own not in latest or latest[own]["revision"] < record["revision"]:
            latest[own] = record
    best: dict[tuple[Any, ...], dict[str, Any]] = {}
    for own, record in latest.items():
        key = own[:-1]
        if key not in best or _goodness(record) < _goodness(best[key]):
            best[key] = record
    return [record for record in best.values() if record["status"] != BarStatus.RETRACTED]


def _goodness(record: dict[str, Any]) -> tuple[Any, ...]:
    # Smaller is better; the source decides at last, so that every reader chooses the same.
    return record["rank"], -(record["trade_count"] or 0), record["source"]


def now() -> datetime:
    """The wall clock, as `issued_time` has it."""
    return to_datetime(wall_ns())


def _is_timed(spec: str) -> bool:
    known = _TIMED.get(spec)
    if known is None:
        if len(_TIMED) > 10_000:  # rows of files name what they like
            _TIMED.clear()
        known = _TIMED[spec] = BarSpec.parse(spec).is_timed
    return known


_TIMED: dict[str, bool] = {}
