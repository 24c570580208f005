"""RowLedger: what a check remembers of one symbol's rows in one file, whatever their number.

It is made from segments (`segments.pyx`), block by block: which ids there are, as ranges; which came again; how many
came late; and for each day and bucket of ids a digest, so that whether two files are alike is known without their rows.
Where ids begin anew, another `Series` begins. Units: times int64 ns since the epoch; days since the epoch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbars.archives import ranges
from fastbars.archives.columns import TradeColumns
from fastbars.archives.ranges import NONE, Ranges
from fastbars.archives.segments import BUCKET, segments
from fastbars.errors import TapeError

__all__ = ["DAY_NS", "Day", "RowLedger", "Series", "summed"]

DAY_NS = 86_400 * 10**9
LATENESS_NS = 60 * 10**9  # a lower id so much later than all before it is of another series, as in live streams
_NEVER = -(2**63)
_MOST_SERIES = 64  # of a file; from there on lower ids came late
MOST_RANGES = 1 << 22  # of a file: 67 MB
_MOST_PENDING = 1 << 18  # entries before they are merged
_DIGEST = np.dtype([("day", "i8"), ("bucket", "i8"), ("rows", "i8"), ("digest", "u8")])
_MOST_SEGMENTS, _MOST_BLOCKS = 1 << 14, 64  # before they are looked at


@dataclass(slots=True)
class Day:
    """Rows of one day: how many, how many of them void, and their least and greatest id (without ids -1)."""

    rows: int = 0
    voids: int = 0
    first: int = 2**63 - 1
    last: int = -1


@dataclass(slots=True)
class Series:
    """Ids that rise from one to the next, until they begin anew.

    Attributes:
        since_ns, until_ns: times of its first row and of its newest.
        row: number of its first row in the file.
        ids: those that it has.
        repeated: those that it has more than once.
        below: rows, counted by ids, that came behind a higher id; `late` without those that came again.
        late_row: number of the first of them in the file; 0: there is none.
        days: its rows by day.
    """

    since_ns: int
    row: int
    until_ns: int = _NEVER
    ids: Ranges = field(default_factory=lambda: NONE)
    repeated: Ranges = field(default_factory=lambda: NONE)
    below: int = 0
    again: int = 0
    late_row: int = 0
    days: dict[int, Day] = field(default_factory=dict)
    _top: int = -1
    _bottom: int = 2**63 - 1
    _latest: int = -2
    _pending: list[Ranges] = field(default_factory=list)
    _digests: list[npt.NDArray[Any]] = field(default_factory=list)

    @property
    def late(self) -> int:
        """Ids seen for the first time behind a higher one."""
        return self.below - self.again

    def digests(self) -> npt.NDArray[Any]:
        """(day, bucket, rows, digest) of each day and bucket of ids, in ascending order."""
        self._digests = [summed(self._digests)]
        return self._digests[0]

    def settle(self) -> None:
        """Merge what was added."""
        if self._pending:
            parts, self._pending = self._pending, []
            self.again += sum(map(ranges.count, parts)) + ranges.count(self.ids)
            self.ids, repeated = ranges.union([self.ids, *parts])
            self.again -= ranges.count(self.ids)
            if len(repeated):
                self.repeated = ranges.union([self.repeated, repeated])[0]

    def add(self, runs: npt.NDArray[Any], parts: npt.NDArray[Any]) -> None:
        """Add segments, and the runs that they make."""
        _count_days(self.days, parts)
        self._digests.append(_digests_of(parts))
        if sum(map(len, self._digests)) > max(_MOST_PENDING, 2 * len(self._digests[0])):
            self._digests = [summed(self._digests)]
            self._check(len(self._digests[0]))
        if runs["first"][0] < 0:  # without ids
            self.until_ns = max(self.until_ns, int(parts["until"].max()))
            return
        tops = _before(runs["last"], self._top)
        back = runs["first"] <= tops
        if back.any():
            self.below += int((np.minimum(runs["last"], tops) - runs["first"])[back].sum()) + int(back.sum())
            self.late_row = self.late_row or int(runs["row"][back.argmax()])
        self.until_ns = max(self.until_ns, int(runs["until"][runs["last"] > tops].max(initial=_NEVER)))
        self._top, self._latest = max(self._top, int(runs["last"].max())), int(runs["last"][-1])
        self._bottom = min(self._bottom, int(runs["first"].min()))
        self._pending.append(np.stack([runs["first"], runs["last"]], 1))
        if sum(map(len, self._pending)) > max(_MOST_PENDING, len(self.ids)):
            self.settle()
            self._check(len(self.ids))

    def _check(self, count: int) -> None:
        if count > MOST_RANGES:
            raise TapeError(
                f"the ids have more than {MOST_RANGES:,} holes: they do not rise by one from trade to trade, and prove"
                " nothing (ids='none')"
            )

    def begins_anew(self, runs: npt.NDArray[Any]) -> int:
        """The first of these runs that is not of this series; their number, if none is."""
        tops = _before(runs["last"], self._top)
        back = runs["first"] <= tops
        if runs["first"][0] < 0 or not back.any():
            return len(runs)
        newest = _before(np.where(runs["last"] > tops, runs["until"], _NEVER), self.until_ns)
        bottoms = np.minimum.accumulate(np.concatenate([[self._bottom], runs["first"][:-1]]))
        # The next id confirms it, which is old as well: a single row is one that came again, or has a wrong time.
        anew = back & (runs["rows"] > 1) & (runs["own"] < tops)
        anew[0] &= int(runs["first"][0]) != self._latest + 1  # goes on with what came before
        since = runs["since"] - LATENESS_NS
        anew &= (since > newest) | ((runs["first"] < bottoms) & (since > self.since_ns))
        return int(anew.argmax()) if anew.any() else len(runs)


class RowLedger:
    """Takes the rows of one symbol of a file, block by block; how they are cut into blocks makes no difference.

    Args:
        most_segments: so many are kept before they are looked at.

    Attributes:
        rows: taken so far.
        series: one, or several where ids begin anew.
        backs: rows that are earlier than the one before them; the first in the segment from row `back_row` on.
        wrong: rows whose last id is below their first.
        decimals: in use: of times (in seconds), prices and sizes.
    """

    def __init__(self, most_segments: int = _MOST_SEGMENTS) -> None:
        self.rows = 0
        self._most_segments = most_segments
        self.series: list[Series] = []
        self.backs = self.back_row = self.wrong = 0
        self.decimals = (0, 0, 0)
        self._before_ns = _NEVER
        self._held: list[npt.NDArray[Any]] = []
        self._segments = 0

    def take(self, block: TradeColumns) -> None:
        """Add a block of rows, all of one symbol."""
        last = None if block.last_id is block.first_id else block.last_id
        parts, self._before_ns, wrong, decimals = segments(
            block.time_ns, block.price, block.price_scale, block.size, block.size_scale, block.side, block.first_id,
            last, block.count, block.first_row, self._before_ns,
        )  # fmt: skip
        if not len(parts):
            return
        self.rows += len(block.time_ns)
        self.wrong += wrong
        self.decimals = tuple(map(max, self.decimals, decimals))  # type: ignore[assignment]
        backs = int(parts["backs"].sum())
        if backs:
            self.back_row = self.back_row or int(parts["row"][parts["backs"].argmax()])
            self.backs += backs
        self._held.append(parts)
        self._segments += len(parts)
        if self._segments > self._most_segments or len(self._held) > _MOST_BLOCKS:
            parts = np.concatenate(self._held)
            # Of a run of one row the next block decides whether the next id follows, and it begins a series.
            begins = int(_run_starts(parts)[-1])
            until = begins if parts["rows"][begins:].sum() == 1 else len(parts)
            self._held, self._segments = [parts[until:]], 0
            self._absorb(parts[:until])

    def finish(self) -> None:
        """No more rows come."""
        held, self._held = self._held, []
        if held:
            self._absorb(np.concatenate(held))
        for series in self.series:
            series.settle()

    def _absorb(self, parts: npt.NDArray[Any]) -> None:
        while len(parts):
            if not self.series:
                self.series.append(Series(int(parts["since"][0]), int(parts["row"][0])))
            starts = _run_starts(parts)
            runs = parts[starts]
            ends = np.append(starts[1:], len(parts)) - 1
            runs["last"], runs["until"] = parts["last"][ends], parts["until"][ends]
            runs["rows"] = np.add.reduceat(parts["rows"], starts)
            own = self.series[-1].begins_anew(runs) if len(self.series) < _MOST_SERIES else len(runs)
            if own:
                until = len(parts) if own == len(runs) else int(starts[own])
                self.series[-1].add(runs[:own], parts[:until])
                parts = parts[until:]
            if len(parts):
                self.series.append(Series(int(parts["since"][0]), int(parts["row"][0])))


def _run_starts(parts: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
    # Where ids do not follow on those before; without ids all is one run.
    follows = (parts["first"][1:] == parts["last"][:-1] + 1) | (parts["first"][1:] < 0)
    return np.concatenate([[0], np.flatnonzero(~follows) + 1])


def _before(values: npt.NDArray[Any], start: int) -> npt.NDArray[Any]:
    # The greatest of those before each.
    return np.maximum.accumulate(np.concatenate([[start], values[:-1]]))


def _count_days(days: dict[int, Day], parts: npt.NDArray[Any]) -> None:
    order = np.argsort(parts["day"], kind="stable")
    numbers = parts["day"][order]
    starts = np.flatnonzero(np.concatenate([[True], numbers[1:] != numbers[:-1]]))
    sums = (
        np.add.reduceat(parts["rows"][order], starts).tolist(),
        np.add.reduceat(parts["voids"][order], starts).tolist(),
        np.minimum.reduceat(parts["first"][order], starts).tolist(),
        np.maximum.reduceat(parts["last"][order], starts).tolist(),
    )
    for number, rows, voids, first, last in zip(numbers[starts].tolist(), *sums, strict=True):
        day = days.setdefault(number, Day())
        day.rows += rows
        day.voids += voids
        day.first, day.last = min(day.first, first), max(day.last, last)


def _digests_of(parts: npt.NDArray[Any]) -> npt.NDArray[Any]:
    # Neighbours of one day and bucket as one: holes make many of them.
    buckets = np.where(parts["first"] < 0, -1, parts["first"] // BUCKET)
    starts = _starts(parts["day"], buckets)
    made = np.empty(len(starts), _DIGEST)
    made["day"], made["bucket"] = parts["day"][starts], buckets[starts]
    made["rows"] = np.add.reduceat(parts["rows"], starts)
    made["digest"] = np.add.reduceat(parts["digest"], starts)
    return made


def _starts(days: npt.NDArray[np.int64], buckets: npt.NDArray[np.int64]) -> npt.NDArray[np.intp]:
    return np.flatnonzero(np.concatenate([[True], (buckets[1:] != buckets[:-1]) | (days[1:] != days[:-1])]))


def summed(tables: Iterable[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Tables of digests as one, each day and bucket once, in ascending order."""
    table = np.concatenate([np.empty(0, _DIGEST), *tables])
    if not len(table):
        return table
    table = table[np.lexsort((table["bucket"], table["day"]))]
    starts = np.flatnonzero(
        np.concatenate(
            [[True], (table["bucket"][1:] != table["bucket"][:-1]) | (table["day"][1:] != table["day"][:-1])]
        )
    )
    made = table[starts]
    made["rows"] = np.add.reduceat(table["rows"], starts)
    made["digest"] = np.add.reduceat(table["digest"], starts)
    return made
