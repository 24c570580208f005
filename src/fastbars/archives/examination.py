"""Examines files of trades: reads each once, into ledgers, and says what is wrong with it alone.

Units: times int64 ns since the epoch; days since the epoch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastbars.archives import ranges
from fastbars.archives.checksums import checksum_fault
from fastbars.archives.columns import TradeColumns
from fastbars.archives.findings import FileReport, Finding, Kind, SeriesName
from fastbars.archives.formats import ArchiveFile, recognise
from fastbars.archives.ledger import DAY_NS, LATENESS_NS, RowLedger, Series
from fastbars.archives.opening import first_row
from fastbars.archives.reading import Malformed, read_trades
from fastbars.errors import TapeError

__all__ = ["OTHER", "Examined", "Part", "by_series", "by_symbol", "date_of", "examine", "parts_of"]

OTHER = "other"
_EPOCH = date(1970, 1, 1)
_MOST_DAILY_NS = DAY_NS
_MOST_MALFORMED = 10_000  # lines of a file

SeriesFiles = dict[SeriesName, list[tuple["Examined", RowLedger]]]


def examine(
    files: Iterable[str | PathLike[str] | ArchiveFile],
    recognised: Callable[[Path], ArchiveFile] = recognise,
    on_progress: Callable[[Path, int], object] | None = None,
) -> tuple[list[Examined], list[Finding]]:
    """Read each file once, whatever is wrong with it.

    Args:
        files: paths, or of `recognise`; one that is given twice is read once, which is a finding.
        recognised: says what a file is.
        on_progress: called after each block with the file and the rows read of it.

    Raises:
        TapeError: a file cannot be opened, or its format is not known.
    """
    examined: list[Examined] = []
    findings: list[Finding] = []
    seen: dict[Path, Path] = {}
    for file in files:
        given = file.path if isinstance(file, ArchiveFile) else Path(file)
        real = given.resolve()
        if real in seen:
            findings.append(Finding(Kind.GIVEN_TWICE, files=(str(given), str(seen[real]))))
            continue
        seen[real] = given
        one = Examined(given)
        try:
            one.checksum = checksum_fault(given)
            one.file = file if isinstance(file, ArchiveFile) else recognised(given)
            one.head = tuple(first_row(given))
            one.read(on_progress)
        except TapeError as error:
            if isinstance(error.__cause__, OSError) or (one.file is None and _has_rows(given)):
                raise
            one.error = error
        examined.append(one)
    return examined, findings


def by_series(examined: Iterable[Examined]) -> SeriesFiles:
    """The files, and the ledgers in them, of each series."""
    found: SeriesFiles = defaultdict(list)
    for one in examined:
        for symbol, ledger in one.ledgers.items():
            found[one.name_of(symbol)].append((one, ledger))
    return dict(sorted(found.items()))


def _has_rows(path: Path) -> bool:
    try:
        return bool(first_row(path))
    except TapeError:
        return False


def date_of(day: int) -> date:
    """The date of a day since the epoch."""
    return _EPOCH + timedelta(days=int(day))


@dataclass(slots=True)
class Examined:
    """One file: its ledgers, and what was wrong on the way.

    Attributes:
        path: as it was given.
        file: what it is; None: it could not be told.
        ledgers: by symbol.
        error: where reading ended, if not at the end.
        checksum: what is wrong with it by its checksum.
        head: its first row.
        malformed, headers: how many lines are no trades and no headers, and the first of them; and those that are
            headers inside.
    """

    path: Path
    file: ArchiveFile | None = None
    ledgers: dict[str, RowLedger] = field(default_factory=dict)
    error: TapeError | None = None
    checksum: str = ""
    head: tuple[str, ...] = ()
    malformed: tuple[int, Malformed | None] = (0, None)
    headers: tuple[int, Malformed | None] = (0, None)

    @property
    def header(self) -> tuple[str, ...]:
        """The names of the columns; empty where the first row is a trade."""
        return () if any(text.isascii() and text.isdigit() for text in self.head) else self.head

    @property
    def source(self) -> str:
        """ "daily", "monthly" or "other"."""
        period = None if self.file is None else self.file.period
        if period is None:
            return OTHER
        return "daily" if period.until_ns - period.since_ns <= _MOST_DAILY_NS else "monthly"

    @property
    def period_days(self) -> range:
        """The days of its name, else those in which it has rows."""
        period = None if self.file is None else self.file.period
        if period is not None:
            return range(period.since_ns // DAY_NS, -(-period.until_ns // DAY_NS))
        days = [day for ledger in self.ledgers.values() for series in ledger.series for day in series.days]
        return range(min(days), max(days) + 1) if days else range(0)

    def name_of(self, symbol: str) -> SeriesName:
        """Whose trades those of a symbol are."""
        assert self.file is not None
        return SeriesName(self.file.exchange, self.file.market, symbol, self.file.kind)

    def read(self, on_progress: Callable[[Path, int], object] | None) -> None:
        """Read it into ledgers. Raises TapeError where it ends; what came before stays."""
        assert self.file is not None
        try:
            for block in read_trades(self.file, self._note):
                for symbol, part in by_symbol(block):
                    ledger = self.ledgers.get(symbol)
                    if ledger is None:
                        ledger = self.ledgers[symbol] = RowLedger()
                    ledger.take(part)
                if on_progress is not None:
                    on_progress(self.path, block.first_row - 1 + len(block.time_ns))
        finally:
            for ledger in self.ledgers.values():
                ledger.finish()

    def _note(self, line: Malformed) -> None:
        if line.is_header:
            self.headers = self.headers[0] + 1, self.headers[1] or line
        else:
            self.malformed = self.malformed[0] + 1, self.malformed[1] or line
        if self.headers[0] + self.malformed[0] > _MOST_MALFORMED:
            raise TapeError(f"{line.message} (and {_MOST_MALFORMED:,} lines before it)")

    def again(self, symbol: str) -> Iterator[TradeColumns]:
        """Read the blocks of a symbol anew; a damaged file ends where it ended before."""
        assert self.file is not None
        try:
            for block in read_trades(self.file, _ignore):
                yield from (part for name, part in by_symbol(block) if name == symbol)
        except TapeError:
            if self.error is None:
                raise

    def findings(self) -> Iterator[Finding]:
        """What is wrong with it alone."""
        files = (str(self.path),)
        if self.error is not None:
            rows = sum(ledger.rows for ledger in self.ledgers.values())
            read = rows or self.malformed[0] or self.error.__cause__ is not None
            kind = Kind.DAMAGED if read else Kind.EMPTY
            yield Finding(kind, files=files, row=rows + 1 if rows else None, detail=str(self.error))
        for kind, (lines, first) in ((Kind.MALFORMED, self.malformed), (Kind.HEADER, self.headers)):
            if first is not None:
                text = first.message if kind is Kind.MALFORMED else "inside"
                yield Finding(kind, self._series(), None, lines, (), files, detail=text, row=first.line)
        if self.checksum:
            yield Finding(Kind.CHECKSUM, files=files, detail=self.checksum)
        for symbol, ledger in self.ledgers.items():
            yield from self._of_symbol(self.name_of(symbol), ledger, files)

    def _series(self) -> SeriesName | None:
        return self.name_of(next(iter(self.ledgers))) if len(self.ledgers) == 1 else None

    def _of_symbol(self, name: SeriesName, ledger: RowLedger, files: tuple[str, ...]) -> Iterator[Finding]:
        period = self.period_days
        outside: dict[int, int] = defaultdict(int)
        for series in ledger.series:
            for number, day in series.days.items():
                if day.voids:
                    yield Finding(Kind.VOID, name, date_of(number), day.voids, files=files)
                if number not in period:
                    outside[number] += day.rows
            if series.late:
                yield Finding(Kind.LATE, name, None, series.late, files=files, row=series.late_row)
        for first, last in ranges.ranges_of((number, number) for number in outside).tolist():
            rows = sum(outside[number] for number in range(first, last + 1))
            until = date_of(last) if last > first else None
            yield Finding(Kind.OUTSIDE_PERIOD, name, date_of(first), rows, files=files, until=until)
        if ledger.backs:
            yield Finding(Kind.TIME_GOES_BACK, name, None, ledger.backs, files=files, row=ledger.back_row)
        if ledger.wrong:
            yield Finding(Kind.REVERSED, name, None, ledger.wrong, files=files)

    def report(self) -> FileReport:
        """What it was found to be."""
        names = tuple(self.name_of(symbol) for symbol in self.ledgers)
        return FileReport(str(self.path), names, self.source, sum(ledger.rows for ledger in self.ledgers.values()))


def _ignore(_: Malformed) -> None:
    pass


def by_symbol(block: TradeColumns) -> Iterator[tuple[str, TradeColumns]]:
    """The rows of each symbol in a block."""
    if len(block.symbols) == 1 or not len(block.symbol) or (block.symbol == block.symbol[0]).all():
        if len(block.symbol):
            yield block.symbols[block.symbol[0]], block
        return
    order = np.argsort(block.symbol, kind="stable")
    numbers = block.symbol[order]
    starts = np.concatenate([[0], np.flatnonzero(numbers[1:] != numbers[:-1]) + 1])
    for start, places in zip(starts, np.split(order, starts[1:]), strict=True):
        yield block.symbols[numbers[start]], _taken(block, places)


def _taken(block: TradeColumns, places: npt.NDArray[np.intp]) -> TradeColumns:
    # Rows of one symbol, whose numbers in the file are then no longer exact: that of the first stands for them.
    def column(values: Any) -> Any:
        return None if values is None else values[places]

    first = column(block.first_id)
    last = first if block.last_id is block.first_id else column(block.last_id)
    return block._replace(
        symbol=column(block.symbol), time_ns=column(block.time_ns), price=column(block.price), size=column(block.size),
        side=column(block.side), first_id=first, last_id=last, count=column(block.count),
        first_row=block.first_row + int(places[0]),
    )  # fmt: skip


class Part(NamedTuple):
    """A series of ids in one file: in which epoch, counted by where ids begin anew, and which rows.

    `number` is that of the file among those of its series.
    """

    epoch: int
    source: str
    number: int
    file: Examined
    series: Series
    rows: tuple[int, int]


def parts_of(files: Sequence[tuple[Examined, RowLedger]]) -> list[Part]:
    """The rows of one series, in parts between which ids begin anew: in a file or from one file to the next."""
    by_source: dict[str, list[tuple[Examined, Series, bool, tuple[int, int], int]]] = defaultdict(list)
    for number, (file, ledger) in enumerate(files):
        behind = [series.row for series in ledger.series[1:]] + [2**62]
        for i, (series, until) in enumerate(zip(ledger.series, behind, strict=True)):
            by_source[file.source].append((file, series, i > 0, (series.row, until), number))
    breaks: list[int] = []
    for parts in by_source.values():
        parts.sort(key=lambda part: part[1].since_ns)
        bottom, top, since, newest = 0, -1, 0, 0
        for _, series, is_later, _, _ in parts:
            if not len(series.ids):
                continue
            first, last = int(series.ids[0, 0]), int(series.ids[-1, 1])
            is_new = is_later
            if top >= 0 and not is_new:
                late_ns = series.since_ns - LATENESS_NS
                below = ranges.common(series.ids, np.array([[0, top]]))
                is_new = ranges.count(below) * 2 > ranges.count(series.ids) and (
                    late_ns > newest or (first < bottom and late_ns > since)
                )
            if is_new:
                breaks.append(series.since_ns)
            if is_new or top < 0:
                bottom, top, since, newest = first, last, series.since_ns, series.until_ns
            bottom, top, newest = min(bottom, first), max(top, last), max(newest, series.until_ns)
    # Two sources see the same one, if not in the same row.
    breaks.sort()
    breaks = [at for i, at in enumerate(breaks) if not i or at - breaks[i - 1] > DAY_NS]
    made = []
    for source, parts in by_source.items():
        for file, series, _, rows, number in parts:
            epoch = int(np.searchsorted(breaks, series.since_ns, "right"))
            made.append(Part(epoch, source, number, file, series, rows))
    return made
