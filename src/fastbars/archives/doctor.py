"""The doctor: checks files of trades against themselves and against each other.

    file -> blocks -> RowLedger for each symbol -> findings of the file
                          `-> of all files of a series, by source: missing, doubled, daily against monthly
                                `-> doubtful ids are read again (`comparison.py`): identical, or with other content

Files of one exchange, market, symbol and dataset are one series. Their **source** is "daily" or "monthly", by their
names, or "other"; within a source no id may come twice, between sources all must be alike. Units: times int64 ns
since the epoch; days since the epoch.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date
from functools import cached_property, partial
from itertools import combinations, pairwise
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbars.archives import ranges
from fastbars.archives.asking import Answers, ask
from fastbars.archives.columns import TradeColumns
from fastbars.archives.comparison import Place, Verdict, compare, days_of
from fastbars.archives.declaration import ArchiveFile
from fastbars.archives.examination import OTHER, Examined, Part, by_series, date_of, examine, parts_of
from fastbars.archives.findings import DayReport, Diagnosis, Finding, Kind, SeriesName, shown_ranges
from fastbars.archives.formats import recognise
from fastbars.archives.ledger import DAY_NS, Day, RowLedger, summed
from fastbars.archives.ranges import NONE, Ranges
from fastbars.archives.segments import BUCKET
from fastbars.errors import UnknownExchangeError
from fastbars.exchanges import find_exchange

__all__ = ["EpochCheck", "SeriesCheck", "ask_for_all", "check"]

_TELLING_ROWS = 100  # as many rows by chance do not all have whole seconds, or a decimal less


def check(
    files: Iterable[str | PathLike[str] | ArchiveFile],
    *,
    rest: bool = False,
    api_key: str | None = None,
    rest_url: str | None = None,
    on_progress: Callable[[Path, int], object] | None = None,
    on_asking: Callable[[str], object] | None = None,
    **recognised: Any,
) -> Diagnosis:
    """Check files of trades: what they lack, have twice, or contradict each other about.

    Memory is bounded by the number of holes in the ids, not by that of rows.

    Args:
        files: as `fastbars.archives.build` takes them.
        rest: ask the exchange's REST API for the ids that no file has, within its limits: it has them, or leaves them
            out for good.
        api_key: sent where the exchange's history needs one.
        rest_url: asks here instead of the exchange's own address.
        on_progress: called after each block with the file and the rows read of it.
        on_asking: called with how far the asking has come.
        recognised: what `fastbars.archives.formats.recognise` takes, for all files: exchange, market, symbol, format,
            columns, time_unit, ids, ...

    Returns:
        What was found, and figures of each day.

    Raises:
        TapeError: a file cannot be opened, or its format is not known.
    """
    examined, findings = examine(files, partial(recognise, **recognised), on_progress)
    for one in examined:
        findings += one.findings()
    series = [SeriesCheck(name, own) for name, own in by_series(examined).items()]
    if rest:
        asyncio.run(ask_for_all(series, api_key, rest_url, on_asking))
    days: dict[SeriesName, dict[date, DayReport]] = {}
    for checked in series:
        findings += checked.findings()
        days[checked.name] = checked.days(findings)
    findings.sort(key=_place_of)
    return Diagnosis(findings, days, [one.report() for one in examined])


async def ask_for_all(
    series: Iterable[SeriesCheck],
    api_key: str | None,
    rest_url: str | None,
    on_asking: Callable[[str], object] | None = None,
    *,
    disputed: bool = False,
) -> None:
    """Ask REST for the ids that no file has (and for those with several contents); the epochs have the answers."""
    for one in series:
        for epoch in one.epochs().values():
            wanted, _ = epoch.missing()
            if disputed:
                wanted = ranges.union([wanted, epoch.disputed()])[0]

            def tell(left: int, name: SeriesName = one.name) -> None:
                if on_asking is not None:
                    on_asking(f"{name}: {left:,} ids to ask for")

            if len(wanted):
                epoch.answers = await ask(
                    one.name, wanted, epoch.times_around(wanted),
                    api_key=api_key, rest_url=rest_url, on_progress=tell,
                )  # fmt: skip


def _place_of(finding: Finding) -> tuple[Any, ...]:
    return (
        finding.series or ("",) * 4, finding.day or date.min, not finding.kind.is_fault, finding.kind.value,
        finding.files, finding.ranges,
    )  # fmt: skip


class SeriesCheck:
    """The files of one exchange, market, symbol and dataset against each other.

    Args:
        name: whose trades.
        files: as `by_series` has them.
    """

    def __init__(self, name: SeriesName, files: Sequence[tuple[Examined, RowLedger]]) -> None:
        self.name = self._name = name
        self.files = self._files = files
        self._parts = parts_of(files)
        self._epochs: dict[int, EpochCheck] = {}
        self._has_ids = any(len(part.series.ids) for part in self._parts)
        self._leaves_out = leaves_ids_out(name)

    def findings(self) -> Iterator[Finding]:
        """What is wrong with them together."""
        yield from self._layouts()
        if not self._has_ids:
            yield Finding(Kind.NO_IDS, self._name, files=self._paths(self._parts))
        epochs = self.epochs()
        for number, epoch in epochs.items():
            if number:
                first = min(epoch.parts, key=lambda part: part.series.since_ns)
                day = date_of(first.series.since_ns // DAY_NS)
                yield Finding(
                    Kind.IDS_BEGIN_ANEW, self._name, day, files=(str(first.file.path),), row=first.series.row,
                    detail=f"from {first.series.ids[0, 0]} on",
                )  # fmt: skip
            yield from epoch.findings()
        yield from self._absent({number: epoch.parts for number, epoch in epochs.items()})

    def epochs(self) -> dict[int, EpochCheck]:
        """The check of each stretch without ids that begin anew, in order."""
        if not self._epochs:
            parts: dict[int, list[Part]] = defaultdict(list)
            for part in self._parts:
                parts[part.epoch].append(part)
            self._epochs = {number: EpochCheck(self._name, parts[number], self._leaves_out) for number in sorted(parts)}
        return self._epochs

    def days(self, findings: Iterable[Finding]) -> dict[date, DayReport]:
        """Figures of each day."""
        reports: dict[date, DayReport] = defaultdict(DayReport)
        for part in self._parts:
            for number, day in part.series.days.items():
                rows = reports[date_of(number)].rows
                rows[part.source] = rows.get(part.source, 0) + day.rows
        for finding in findings:
            if finding.series == self._name and finding.day is not None:
                counts = reports[finding.day].counts
                counts[finding.kind] = counts.get(finding.kind, 0) + finding.count
        return dict(sorted(reports.items()))

    def _absent(self, epochs: Mapping[int, Sequence[Part]]) -> Iterator[Finding]:
        # A day without rows, unless the ids go on from the last before it to the first behind it.
        present = {
            number for part in self._parts for number in part.series.days if number in part.file.period_days
        }  # fmt: skip
        wanted = {number for file, _ in self._files for number in file.period_days}
        if not present:
            return
        proven: set[int] = set()
        for parts in epochs.values():
            together = ranges.union([part.series.ids for part in parts])[0]
            place = _DayPlaces(parts)
            holes = ranges.between(together)
            before, behind = place.of(holes[:, 0] - 1), place.of(holes[:, 1] + 1)
            days = sorted({number for part in parts for number in part.series.days if number in part.file.period_days})
            if not len(together):
                continue
            for day, following in pairwise(days):
                if following - day > 1 and not ((before <= day) & (behind >= following)).any():
                    proven.update(range(day + 1, following))
            if together[0, 0] <= 1:  # nothing was traded before the first id
                proven.update(range(min(wanted), days[0]))
        absent = [
            number
            for number in range(min(wanted | present), max(wanted | present) + 1)
            if number not in present and number not in proven
        ]
        for first, last in ranges.ranges_of((number, number) for number in absent).tolist():
            files = tuple(
                str(file.path) for file, _ in self._files if any(day in file.period_days for day in (first, last))
            )
            yield Finding(
                Kind.DAY_ABSENT, self._name, date_of(first), last - first + 1, files=files, until=date_of(last),
                detail="" if min(present) < first < max(present) else "no file has a trade on its other side",
            )  # fmt: skip

    def _layouts(self) -> Iterator[Finding]:
        # What changes from one file to the next, in order of time.
        for source in sorted({part.source for part in self._parts}):
            files = [(file, ledger) for file, ledger in self._files if file.source == source and ledger.rows]
            files.sort(key=lambda one: one[1].series[0].since_ns)
            for (earlier, before), (file, ledger) in pairwise(files):
                yield from self._changes(before, ledger, file)
                yield from self._other_columns(earlier, file, ledger)

    def _other_columns(self, before: Examined, file: Examined, ledger: RowLedger) -> Iterator[Finding]:
        day, files = date_of(ledger.series[0].since_ns // DAY_NS), (str(file.path),)
        if bool(file.header) != bool(before.header):
            yield Finding(Kind.HEADER, self._name, day, files=files, detail="with one" if file.header else "without")
        if len(file.head) != len(before.head):
            detail = f"{len(before.head)} columns, now {len(file.head)}"
            yield Finding(Kind.COLUMNS, self._name, day, files=files, detail=detail)
        elif file.header and before.header and file.header != before.header:
            yield Finding(Kind.COLUMNS, self._name, day, files=files, detail=f"now {','.join(file.header)}"[:200])

    def _changes(self, before: RowLedger, ledger: RowLedger, file: Examined) -> Iterator[Finding]:
        if min(before.rows, ledger.rows) < _TELLING_ROWS:
            return
        day = date_of(ledger.series[0].since_ns // DAY_NS)
        files = (str(file.path),)
        (time, price, size), (was_time, was_price, was_size) = ledger.decimals, before.decimals
        if time == 0 < was_time:
            yield Finding(Kind.TIME_PRECISION_LOST, self._name, day, ledger.rows, files=files)
        elif time != was_time and 0 not in (time, was_time):
            yield Finding(
                Kind.TIME_UNIT, self._name, day, files=files, detail=f"{was_time} decimals of a second, now {time}"
            )
        for what, now, was in (("prices", price, was_price), ("sizes", size, was_size)):
            if now < was:
                detail = f"{what} had {was} decimals, now {now}"
                yield Finding(Kind.PRECISION, self._name, day, files=files, detail=detail)

    @staticmethod
    def _paths(parts: Iterable[Part]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(str(part.file.path) for part in parts))


class _DayPlaces:
    # The day that an id lies in, by the least and greatest id of each day.
    def __init__(self, parts: Iterable[Part]) -> None:
        days: dict[int, Day] = {}
        for part in parts:
            for number, day in part.series.days.items():
                if number in part.file.period_days and day.last >= 0:
                    known = days.setdefault(number, Day())
                    known.first, known.last = min(known.first, day.first), max(known.last, day.last)
        places = sorted((day.first, number) for number, day in days.items())
        self._firsts = np.array([first for first, _ in places], np.int64)
        self._days = np.array([number for _, number in places], np.int64)

    def of(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        if not len(self._days):
            return np.zeros(len(ids), np.int64)
        found: npt.NDArray[np.int64] = self._days[np.maximum(np.searchsorted(self._firsts, ids, "right") - 1, 0)]
        return found


class EpochCheck:
    """The rows of one series between two points at which ids begin anew.

    Attributes:
        parts: these rows, file by file.
        answers: what REST said of ids that are missing or disputed; None: it was not asked.
    """

    def __init__(self, name: SeriesName, parts: Sequence[Part], leaves_out: bool) -> None:
        self._name = name
        self.parts = self._parts = parts
        self.answers: Answers | None = None
        self._leaves_out = leaves_out
        self._sources = sorted({part.source for part in parts})
        self._ids: dict[str, Ranges] = {}
        self._repeated = NONE
        for source in self._sources:
            own = [part.series for part in parts if part.source == source]
            self._ids[source], between = ranges.union([series.ids for series in own])
            self._repeated = ranges.union([self._repeated, between, *(series.repeated for series in own)])[0]
        self._places = _DayPlaces(parts)

    def findings(self) -> Iterator[Finding]:
        """What is wrong with them."""
        missing, unpublished = self.missing()
        kind = Kind.MISSING_OR_UNPUBLISHED if self._leaves_out else Kind.MISSING
        if (answers := self.answers) is not None:
            unpublished = ranges.union([unpublished, ranges.common(answers.left_out, missing)])[0]
            yield from self._by_day(Kind.MISSING, ranges.common(answers.ids, missing), detail="REST has them")
            missing = ranges.without(ranges.without(missing, answers.ids), answers.left_out)
            asked = {why for _, _, why in answers.why}
            yield from self._by_day(kind, missing, detail=next(iter(asked)) if len(asked) == 1 else "")
        else:
            yield from self._by_day(kind, missing)
        yield from self._by_day(Kind.UNPUBLISHED, unpublished)
        for source in self._sources:
            yield from self._lacking(source)
        yield from self._of_verdict()
        for day in self._unequal_days:
            yield Finding(Kind.DIFFERS, self._name, date_of(day), files=self._files(day))

    def missing(self) -> tuple[Ranges, Ranges]:
        """(ids that nobody has, those among all such that are known to be unpublished)."""
        holes = ranges.between(ranges.union(self._ids.values())[0])
        if not len(holes) or not self._leaves_out:
            return holes, NONE
        # What two archives leave out, both with its neighbours, the exchange does not publish.
        lists = np.zeros(len(holes), np.int64)
        for ids in self._ids.values():
            own = ranges.between(ids)
            place = np.minimum(np.searchsorted(own[:, 0], holes[:, 0]), max(len(own) - 1, 0))
            lists += (own[place] == holes).all(axis=1) if len(own) else 0
        return holes[lists < 2], holes[lists >= 2]

    def disputed(self) -> Ranges:
        """First ids of rows that have several contents."""
        verdict = self._verdict
        found = np.concatenate([verdict.conflicting, verdict.differing])["first"]
        return ranges.union([np.stack([found, found], 1)])[0]

    def times_around(self, ids: Ranges) -> Ranges:
        """For each range, the beginning of the day of the id before it, and the end of that of the id behind, ns."""
        before, behind = self._places.of(ids[:, 0] - 1), self._places.of(ids[:, 1] + 1)
        return np.stack([before * DAY_NS, (np.maximum(before, behind) + 1) * DAY_NS], 1)

    @cached_property
    def _unequal_days(self) -> list[int]:
        # Without ids, those of which two sources have different rows.
        if any(map(len, self._ids.values())):
            return []
        pairs = combinations(self._sources, 2)
        return sorted({day for source, other in pairs for day, _ in self._unequal(source, other)})

    @cached_property
    def _verdict(self) -> Verdict:
        doubtful = [self._repeated]
        for source, other in combinations(self._sources, 2):
            both = ranges.common(self._ids[source], self._ids[other])
            if len(both):
                unequal = ((bucket * BUCKET, (bucket + 1) * BUCKET - 1) for _, bucket in self._unequal(source, other))
                doubtful.append(ranges.common(both, ranges.ranges_of(unequal)))
        wanted = ranges.union(doubtful)[0]
        return compare(self.places(self._sources) if len(wanted) else [], wanted)

    def places(self, sources: Sequence[str]) -> list[Place]:
        """The parts, their sources numbered in this order."""
        return [
            Place(
                sources.index(part.source), part.number, part.rows, part.series.ids,
                _reader(part.file, self._name.symbol),
            )
            for part in self._parts
        ]  # fmt: skip

    def _lacking(self, source: str) -> Iterator[Finding]:
        others = [ids for other, ids in self._ids.items() if other != source and len(ids)]
        own = self._ids[source]
        if not others or not len(own):
            return
        lacking = ranges.without(ranges.union(others)[0], own)
        # Only where the source should have them: between ids that one file of it has, or in the days of one.
        spans = [part.series.ids for part in self._parts if part.source == source and len(part.series.ids)]
        within = ranges.ranges_of((int(ids[0, 0]), int(ids[-1, 1])) for ids in spans)
        if source != OTHER:
            days = {day for part in self._parts if part.source == source for day in part.file.period_days}
            within = ranges.union([within, *(self._span(part, days) for part in self._parts if part.source != source)])[
                0
            ]
        yield from self._by_day(Kind.LACKS, ranges.common(lacking, within), source)

    @staticmethod
    def _span(part: Part, days: set[int]) -> Ranges:
        # The ids of a file on these days.
        own = [(day.first, day.last) for number, day in part.series.days.items() if number in days and day.last >= 0]
        return ranges.ranges_of(own)

    def _by_day(self, kind: Kind, found: Ranges, source: str | None = None, detail: str = "") -> Iterator[Finding]:
        if not len(found):
            return
        if source is None:
            # Of a hole that reaches over days without rows, the first of these.
            before, behind = self._places.of(found[:, 0] - 1), self._places.of(found[:, 1] + 1)
            days = np.where(behind - before > 1, before + 1, before)
        else:
            days = self._places.of(found[:, 0])
        for day in np.unique(days).tolist():
            own = found[days == day]
            files = self._files(day, source)
            yield Finding(kind, self._name, date_of(day), ranges.count(own), shown_ranges(own), files, detail=detail)

    def _files(self, day: int, source: str | None = None) -> tuple[str, ...]:
        return tuple(
            dict.fromkeys(
                str(part.file.path)
                for part in self._parts
                if day in part.file.period_days and source in (None, part.source)
            )
        )

    def _unequal(self, source: str, other: str) -> list[tuple[int, int]]:
        # (day, bucket) of which two sources have different rows, on days that both are meant to have.
        mine, theirs = (
            summed(part.series.digests() for part in self._parts if part.source == each) for each in (source, other)
        )
        table = np.concatenate([mine, theirs])
        table = table[np.lexsort((table["bucket"], table["day"]))]
        first, second = table[:-1], table[1:]
        pair = (first["day"] == second["day"]) & (first["bucket"] == second["bucket"])
        pair &= (first["rows"] != second["rows"]) | (first["digest"] != second["digest"])
        covered = [
            {day for part in self._parts if part.source == each for day in part.file.period_days}
            for each in (source, other)
        ]
        pair &= np.isin(first["day"], list(covered[0] & covered[1]))
        return list(zip(first["day"][pair].tolist(), first["bucket"][pair].tolist(), strict=True))

    def _of_verdict(self) -> Iterator[Finding]:
        verdict = self._verdict
        files = {part.number: part.file for part in self._parts}
        for kind, rows in (
            (Kind.REPEATED, verdict.repeated),
            (Kind.CONFLICTING, verdict.conflicting),
            (Kind.DIFFERS, verdict.differing),
        ):
            days = days_of(rows)
            for day in np.unique(days).tolist():
                own = rows[days == day]
                listed = ranges.union([np.stack([own["first"], own["last"]], 1)])[0]
                paths = tuple(dict.fromkeys(str(files[number].path) for number in own["file"].tolist()))
                yield Finding(kind, self._name, date_of(day), len(own), shown_ranges(listed), paths, int(own["row"][0]))
        yield from self._by_day(Kind.OVERLAPPING, ranges.without(self._repeated, verdict.explained))


def _reader(file: Examined, symbol: str) -> Callable[[], Iterable[TradeColumns]]:
    return lambda: file.again(symbol)


def leaves_ids_out(name: SeriesName) -> bool:
    """Whether the exchange is declared never to publish some ids of this market."""
    try:
        exchange = find_exchange(name.exchange, name.market or None)
    except UnknownExchangeError:
        return False
    return any(history.leaves_out_ids for history in exchange.histories.get(exchange.default_channel, ()))
