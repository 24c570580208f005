"""Findings of a check as data: what can be wrong with files of trades, where it is, and what came of it.

Units: days are dates in UTC by exchange time; ids both inclusive.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date
from enum import Enum
from typing import Any, NamedTuple

__all__ = ["DayReport", "Diagnosis", "FileReport", "Finding", "Kind", "SeriesName"]

MOST_RANGES = 1_000  # listed in a finding; `count` has them all


class Kind(Enum):
    """What a finding is about; `value` is its name in JSON, and `is_fault` whether bars of the files may be wrong."""

    DAMAGED = "damaged"
    EMPTY = "empty"
    CHECKSUM = "checksum"
    MALFORMED = "malformed"
    DAY_ABSENT = "day_absent"
    MISSING = "missing"
    MISSING_OR_UNPUBLISHED = "missing_or_unpublished"
    LACKS = "lacks"
    DIFFERS = "differs"
    CONFLICTING = "conflicting"
    OVERLAPPING = "overlapping"
    REVERSED = "reversed"
    LATE = "late"
    IDS_BEGIN_ANEW = "ids_begin_anew"
    OUTSIDE_PERIOD = "outside_period"
    TIME_PRECISION_LOST = "time_precision_lost"
    UNPUBLISHED = "unpublished"
    VOID = "void"
    REPEATED = "repeated"
    TIME_GOES_BACK = "time_goes_back"
    HEADER = "header"
    COLUMNS = "columns"
    TIME_UNIT = "time_unit"
    PRECISION = "precision"
    GIVEN_TWICE = "given_twice"
    NO_IDS = "no_ids"

    @property
    def is_fault(self) -> bool:
        """Whether bars made of these files may lack trades or be wrong; else the reader copes with it."""
        return self not in _NOTES

    @property
    def meaning(self) -> str:
        """In a few words."""
        return _MEANINGS[self]


_NOTES = frozenset({
    Kind.UNPUBLISHED, Kind.VOID, Kind.REPEATED, Kind.TIME_GOES_BACK, Kind.HEADER, Kind.COLUMNS, Kind.TIME_UNIT,
    Kind.PRECISION, Kind.GIVEN_TWICE, Kind.NO_IDS,
})  # fmt: skip
_MEANINGS = {
    Kind.DAMAGED: "the file is cut off or damaged",
    Kind.EMPTY: "the file has no trades",
    Kind.CHECKSUM: "the file is not the one that its checksum was made of",
    Kind.MALFORMED: "rows that are no trades, left out",
    Kind.DAY_ABSENT: "no file has a trade of this day, and ids do not prove that there was none",
    Kind.MISSING: "ids that no file has",
    Kind.MISSING_OR_UNPUBLISHED: "ids that no file has; this market leaves some out for good: ask REST to know",
    Kind.LACKS: "ids that other files of the same days have",
    Kind.DIFFERS: "the same ids with other content in other files of the same days",
    Kind.CONFLICTING: "an id again with other content",
    Kind.OVERLAPPING: "aggregates whose ids overlap",
    Kind.REVERSED: "rows whose last id is below their first",
    Kind.LATE: "rows behind higher ids",
    Kind.IDS_BEGIN_ANEW: "ids begin anew, lower",
    Kind.OUTSIDE_PERIOD: "rows of a time outside the file's day or month",
    Kind.TIME_PRECISION_LOST: "all times are whole seconds, those of other files are not",
    Kind.UNPUBLISHED: "ids that the exchange leaves out for good",
    Kind.VOID: "rows of size 0: an id was used up, nothing was traded",
    Kind.REPEATED: "rows that came twice, identical",
    Kind.TIME_GOES_BACK: "rows earlier than the row before them",
    Kind.HEADER: "with a header from here on, or without, or with one inside",
    Kind.COLUMNS: "other columns from here on",
    Kind.TIME_UNIT: "times are finer or coarser from here on",
    Kind.PRECISION: "fewer decimals from here on",
    Kind.GIVEN_TWICE: "the same file was given twice, and read once",
    Kind.NO_IDS: "no ids: holes and doubles cannot be seen",
}


class SeriesName(NamedTuple):
    """Whose trades, and which dataset ("trades", "aggTrades"). Files of one series are checked together."""

    exchange: str
    market: str
    symbol: str
    dataset: str

    def __str__(self) -> str:
        dataset = "" if self.dataset == "trades" else self.dataset
        return " ".join(filter(None, [self.exchange, self.market, self.symbol, dataset]))


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found.

    Attributes:
        kind: what.
        series: of whose trades; None: of a file that could not be read so far.
        day: UTC; None where it is of no single day.
        until: the last day, where it is of several.
        count: ids or, where there are none, rows; of absent days how many; 1 where it is about a file.
        ranges: (first, last) of these ids, ascending, at most 1,000 of them.
        files: those concerned, as they were given.
        row: number of the first row concerned in the first of the files, from 1 (of rows that could be read; of
            malformed ones and headers it is the line); None: it is about no row.
        detail: what else there is to say.
    """

    kind: Kind
    series: SeriesName | None = None
    day: date | None = None
    count: int = 1
    ranges: tuple[tuple[int, int], ...] = ()
    files: tuple[str, ...] = ()
    row: int | None = None
    detail: str = ""
    until: date | None = None


@dataclass(slots=True)
class DayReport:
    """Figures of one symbol and day.

    Attributes:
        rows: by source: "daily", "monthly" or "other".
        counts: ids or rows of each kind of finding on this day.
    """

    rows: dict[str, int] = field(default_factory=dict)
    counts: dict[Kind, int] = field(default_factory=dict)


class FileReport(NamedTuple):
    """What a file was found to be, and how many rows of it could be read."""

    path: str
    series: tuple[SeriesName, ...]
    source: str
    rows: int


@dataclass(slots=True)
class Diagnosis:
    """Result of a check.

    Attributes:
        findings: by series, then day, faults first.
        days: figures of each series and day.
        files: those that were read.
    """

    findings: list[Finding]
    days: dict[SeriesName, dict[date, DayReport]]
    files: list[FileReport]

    @property
    def faults(self) -> Iterator[Finding]:
        """The findings that may make bars wrong."""
        return (finding for finding in self.findings if finding.kind.is_fault)

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong: there is no fault."""
        return next(self.faults, None) is None

    def of(self, *kinds: Kind) -> list[Finding]:
        """The findings of these kinds."""
        return [finding for finding in self.findings if finding.kind in kinds]


def shown_ranges(ranges: Iterable[Any]) -> tuple[tuple[int, int], ...]:
    """At most as many ranges as a finding lists."""
    return tuple((int(first), int(last)) for first, last in list(ranges)[:MOST_RANGES])
