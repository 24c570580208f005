"""`fastbars.archives.build`: files of trades into bars, larger than memory, by several workers, and resumable.

    files -> chains (a symbol each) -> units (a file, or files that overlap) -> parts on disk -> joined -> output

A unit is made from its files alone, so units can be made in any order, anywhere. Its part is named by what it is made
from: files with size and time of change, specs, and the trade behind them. So an interrupted build goes on with the
parts that are there, a changed file makes a new part, and the output is the same to the last byte whatever happened.

Units: times int64 ns since the epoch, UTC.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from itertools import groupby
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import orjson

from fastbars.archives.borders import Joined
from fastbars.archives.declaration import ArchiveFile
from fastbars.archives.formats import recognise
from fastbars.archives.output import open_output
from fastbars.archives.reading import read_trades
from fastbars.archives.units import First, Made, Unit, fold_unit, load_made
from fastbars.clocks import steady_ns
from fastbars.columnar.parquet import check_no_features
from fastbars.errors import FastbarsError
from fastbars.log import log
from fastbars.specs import BarSpec, Origin, parse_specs

if TYPE_CHECKING:
    from fastbars.archives.repair import RepairReport

__all__ = ["BuildProgress", "BuildReport", "build"]

_PART_VERSION = 1
_MOST_FILES = 1_000_000
_FEW_ROWS = 16  # of a file that is only begun


@dataclass(frozen=True, slots=True)
class BuildProgress:
    """How far a build is.

    Attributes:
        files, bytes: done, also by an earlier process.
        total_files, total_bytes: of all.
        trades: read by this process so far.
        elapsed_s: since its start.
    """

    files: int
    bytes: int
    total_files: int
    total_bytes: int
    trades: int
    elapsed_s: float

    @property
    def left_s(self) -> float | None:
        """Seconds left at the rate so far; None: not known yet."""
        return self.elapsed_s * (self.total_bytes - self.bytes) / self.bytes if self.bytes else None


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What a build has made.

    Attributes:
        bars: written.
        trades: rows read. Of these: voids, whose ids were used up; duplicates, which came twice; dropped, of size 0
            where ids prove nothing.
        files: read; resumed: of these, by an earlier process.
        repaired: with `repair`, from where each hole was filled, and what stays missing.
    """

    bars: int
    trades: int
    voids: int
    duplicates: int
    dropped: int
    files: int
    resumed: int
    repaired: RepairReport | None = None


def build(
    files: Iterable[str | PathLike[str] | ArchiveFile],
    bars: str | int | BarSpec | Sequence[str | int | BarSpec] = "1m",
    to: str | PathLike[str] = "bars.parquet",
    *,
    form: str | None = None,
    partition_by: Sequence[str] = (),
    workers: int | Executor = 1,
    timezone: str | None = None,
    origin: Origin | None = None,
    contract_sizes: Mapping[str, str | int | Decimal] | None = None,
    on_progress: Callable[[BuildProgress], object] | None = None,
    repair: Literal["files", "rest"] | None = None,
    api_key: str | None = None,
    rest_url: str | None = None,
    **recognised: Any,
) -> BuildReport:
    """Make bars of files of trades.

    Bars are what `aggregate` makes of the same trades: ids prove what is complete, the first and the last bar of a
    symbol are PARTIAL. Files of a symbol go on from one another, whatever their order here; trades that several files
    have, such as a month and its days, count once, by their ids. Without ids a file whose period lies in that of
    another is left out, and a period that is missing leaves the bars beside it PARTIAL.

    While it works there is a folder beside the output, "NAME.parts"; an interrupted build that is called again goes on
    from there. Afterwards "NAME.manifest.json" says what was read.

    Args:
        files: paths, in any order, or of `recognise`.
        bars: bar specs.
        to, form, partition_by: as `fastbars.archives.output.open_output` takes them.
        workers: processes, or any executor whose workers see the same files, such as
            `fastbars.cluster.executor.RayExecutor`. Path-driven bars of a symbol are made by
            one worker.
        timezone, origin: of day and longer bars that do not name their own.
        contract_sizes: of symbols on inverse markets, in quote units; those of known exchanges are known.
        on_progress: called after each block of trades, or with workers after each file.
        repair: "files": each id that one edition lacks is taken from another; "rest": and what no file has from the
            exchange's REST API, within its limits. As `fastbars.archives.repair.repair` does it: by this process alone,
            without progress, and not resumed.
        api_key, rest_url: with repair="rest": sent where the exchange's history needs a key; the address to ask
            instead of the exchange's own.
        recognised: what `fastbars.archives.formats.recognise` takes, for all files: exchange, market, symbol, format,
            columns, time_unit, ids, ...

    Raises:
        TapeError: a file cannot be read, is of no known format or breaks a rule; the message names file and row. What
            was made of others is kept for the next call.
        FastbarsError: the files contradict each other; or a worker died. SpecError: a bar spec is not known. OSError.
    """
    specs = parse_specs(bars, timezone=timezone, origin=origin)
    check_no_features(specs)
    if repair not in (None, "files", "rest"):
        raise FastbarsError(f"repair {repair!r} is not 'files' or 'rest'")
    if repair is not None:
        given_files = list(files)
        if not given_files:
            raise FastbarsError("no files were given")
        return _repaired(
            given_files, bars, to, repair=repair, form=form, partition_by=partition_by, timezone=timezone,
            origin=origin, contract_sizes=contract_sizes, api_key=api_key, rest_url=rest_url, **recognised,
        )  # fmt: skip
    given = [file if isinstance(file, ArchiveFile) else recognise(file, **recognised) for file in files]
    if not given:
        raise FastbarsError("no files were given")
    target = Path(to)
    parts = target.with_name(f"{target.name}.parts")
    parts.mkdir(parents=True, exist_ok=True)
    sizes = tuple(sorted((symbol, str(size)) for symbol, size in (contract_sizes or {}).items()))
    with _executor(workers) as executor:
        work = _Build(specs, sizes, parts, executor, on_progress)
        chains = work.run(_chains(given))
    totals = [made for chain in chains for _, made in chain.made]
    with open_output(target, form=form, partition_by=partition_by) as output:
        for chain in chains:
            for batch in chain.bars(specs):
                output.write(batch)
    report = BuildReport(
        bars=output.bars,
        trades=sum(made.trades for made in totals),
        voids=sum(made.voids for made in totals),
        duplicates=sum(made.duplicates for made in totals),
        dropped=sum(made.dropped for made in totals),
        files=len(given),
        resumed=work.resumed,
    )
    _write_manifest(target.with_name(f"{target.name}.manifest.json"), chains, specs, report)
    shutil.rmtree(parts, ignore_errors=True)
    return report


def _repaired(
    files: Sequence[str | PathLike[str] | ArchiveFile],
    bars: str | int | BarSpec | Sequence[str | int | BarSpec],
    to: str | PathLike[str],
    *,
    repair: str,
    **others: Any,
) -> BuildReport:
    from fastbars.archives.repair import repair as repair_files  # noqa: PLC0415 it can ask exchanges

    report = repair_files(files, bars, to, rest=repair == "rest", **others)
    return BuildReport(
        bars=report.bars, trades=report.trades, voids=report.voids, duplicates=report.duplicates, dropped=0,
        files=report.files, resumed=0, repaired=report,
    )  # fmt: skip


@dataclass(slots=True)
class _Chain:
    # The files of one symbol, or of several where columns name them: for each unit its groups of files that overlap,
    # and its first trade.
    groups: list[tuple[tuple[ArchiveFile, ...], ...]]
    firsts: list[First | None]
    made: list[tuple[Unit, Made]]

    @property
    def file(self) -> ArchiveFile:
        return self.groups[0][0][0]

    @property
    def ids(self) -> bool:
        return self.file.format.policy.proves

    def units(self, specs: tuple[BarSpec, ...], sizes: tuple[tuple[str, str], ...], parts: Path) -> list[Unit]:
        timed = all(spec.is_timed for spec in specs)
        if not timed or (self.ids and self.file.symbol is None):
            return [
                _named(
                    Unit(tuple(group for groups in self.groups for group in groups), specs, sizes, None, False, parts)
                )
            ]
        units = []
        for place, groups in enumerate(self.groups):
            first, behind, before = self.firsts[place], None, None
            if self.ids and first is not None:
                # (Ids that fall begin anew: then neither proves anything of the other.)
                behind = next((other for other in self.firsts[place + 1 :] if other), None)
                before = next((other for other in self.firsts[:place][::-1] if other), None)
                behind = behind if behind is not None and behind.id > first.id else None
            goes_on = first is not None and before is not None and before.id < first.id
            units.append(_named(Unit(groups, specs, sizes, behind, goes_on, parts)))
        return units

    def unite(self, place: int, *, overlap: bool) -> None:
        # Makes one unit of this one and the next: by id, or the one behind the other.
        both = self.groups[place] + self.groups[place + 1]
        self.groups[place : place + 2] = [(tuple(file for group in both for file in group),) if overlap else both]
        self.firsts[place : place + 2] = [self.firsts[place] or self.firsts[place + 1]]

    def bars(self, specs: Sequence[BarSpec]) -> Iterator[Any]:
        joined = Joined(self.file.exchange, self.file.market, specs, ids=self.ids)
        before: Unit | None = None
        for unit, made in self.made:
            yield from joined.add(unit, made, follows=before is None or self.ids or _adjoin(before, unit))
            before = unit
        yield from joined.end()


def _adjoin(before: Unit, unit: Unit) -> bool:
    # Whether no period is missing between the files of two units; where names give none, it is not known that one is.
    last, first = before.files[-1].period, unit.files[0].period
    return last is None or first is None or first.since_ns <= last.until_ns


def _chains(files: Sequence[ArchiveFile]) -> list[_Chain]:
    if len(files) > _MOST_FILES:
        raise FastbarsError(f"{len(files):,} files are more than {_MOST_FILES:,}")
    by_name = sorted(files, key=lambda file: (_series(file), str(file.path)))
    seen: set[Path] = set()
    for file in by_name:
        real = file.path.resolve()
        if real in seen:
            raise FastbarsError(f"{file.path} is given twice")
        seen.add(real)
    chains = []
    for series, several in groupby(by_name, _series):
        members = list(several)
        if len({(file.kind, file.format.policy.proves) for file in members}) > 1:
            raise FastbarsError(
                f"{' '.join(filter(None, series))}: {members[0].path.name} and others are of different kinds, in which"
                " the same trades would count twice: give files of one kind"
            )
        chains.append(_chain(members))
    return chains


def _series(file: ArchiveFile) -> tuple[str, str, str]:
    return (file.exchange, file.market, file.symbol or "")


def _chain(files: list[ArchiveFile]) -> _Chain:
    firsts = {file.path: _first_of(file) for file in files}
    ids = files[0].format.policy.proves

    def order(file: ArchiveFile) -> tuple[int, int, int]:
        first = firsts[file.path]
        since = file.period.since_ns if file.period else first.time_ns if first else 0
        length = file.period.until_ns - file.period.since_ns if file.period else 0
        return (since, -length, first.id if first else -1)

    groups: list[list[ArchiveFile]] = []
    until = 0
    for file in sorted(files, key=order):
        if groups and file.period is not None and file.period.since_ns < until:
            if ids:
                groups[-1].append(file)
            elif file.period.until_ns <= until:
                log.info("archive_left_out", file=str(file.path), within=str(groups[-1][-1].path))
                continue
            else:
                raise FastbarsError(f"{file.path} and {groups[-1][-1].path} overlap, and have no ids: give one")
        else:
            groups.append([file])
        until = max(until, file.period.until_ns if file.period else 0)
    return _Chain(
        [(tuple(group),) for group in groups],
        [min((first for file in group if (first := firsts[file.path])), default=None, key=lambda one: one.id)
         for group in groups],
        [],
    )  # fmt: skip


def _first_of(file: ArchiveFile) -> First | None:
    for block in read_trades(file, block_rows=_FEW_ROWS):
        return First(int(block.time_ns[0]), -1 if block.first_id is None else int(block.first_id[0]))
    return None


def _named(unit: Unit) -> Unit:
    described = [
        _PART_VERSION, [str(spec) for spec in unit.specs], unit.contract_sizes,
        unit.behind and list(unit.behind), unit.goes_on,
        [[_described(file) for file in group] for group in unit.groups],
    ]  # fmt: skip
    name = hashlib.sha256(orjson.dumps(described)).hexdigest()[:24]
    return replace(unit, part=unit.part / f"{name}.rows")


def _described(file: ArchiveFile) -> dict[str, Any]:
    state = file.path.stat()
    return {
        "path": str(file.path.resolve()), "size": state.st_size, "changed_ns": state.st_mtime_ns,
        "exchange": file.exchange, "market": file.market, "symbol": file.symbol,
        "format": {name: value for name, value in asdict(file.format).items() if name != "source"},
    }  # fmt: skip


class _Build:
    # Units on their way to parts.

    def __init__(
        self,
        specs: tuple[BarSpec, ...],
        sizes: tuple[tuple[str, str], ...],
        parts: Path,
        executor: Executor | None,
        on_progress: Callable[[BuildProgress], object] | None,
    ) -> None:
        self._specs = specs
        self._sizes = sizes
        self._parts = parts
        self._executor = executor
        self._on_progress = on_progress
        self._began_ns = steady_ns()
        self._total = self._done = (0, 0)  # files, bytes
        self._trades = 0
        self.resumed = 0

    def run(self, chains: list[_Chain]) -> list[_Chain]:
        units = {id(chain): chain.units(self._specs, self._sizes, self._parts) for chain in chains}
        everything = [unit for chain in chains for unit in units[id(chain)]]
        self._total = (sum(len(unit.files) for unit in everything), sum(map(_bytes_of, everything)))
        made = self._make(everything)
        for chain in chains:
            chain.made = [(unit, made[unit.part]) for unit in units[id(chain)]]
            # Only now it is known where the trades of each file end, and whether any are not void.
            while len(chain.made) > 1 and self._unite(chain):
                again = chain.units(self._specs, self._sizes, self._parts)
                made = self._make([unit for unit in again if unit.part not in made]) | made
                chain.made = [(unit, made[unit.part]) for unit in again]
        return chains

    def _unite(self, chain: _Chain) -> bool:
        # Makes one unit of two of which one reaches into the other, or where ids that were used up lie at the border:
        # they prove, but no bar of a unit that begins or ends with them could say so. False: there are none.
        for place, (unit, made) in enumerate(chain.made):
            border = made.borders[0] if chain.ids and made.borders else None
            if border is not None and (not border.traded or (place and border.void_first)):
                chain.unite(max(place - 1, 0), overlap=False)
                return True
            if border is not None and border.void_last and place + 1 < len(chain.made):
                chain.unite(place, overlap=False)
                return True
            if place + 1 == len(chain.made):
                break
            behind, next_made = chain.made[place + 1]
            ends = {symbol[0]: border for symbol, border in zip(made.symbols, made.borders, strict=True)}
            for symbol, border in zip(next_made.symbols, next_made.borders, strict=True):
                end = ends.get(symbol[0])
                if end is None or border.first_time_ns > end.last_time_ns:
                    continue
                if chain.ids and border.first_id <= end.last_id:
                    chain.unite(place, overlap=True)
                    return True
                if not chain.ids and border.first_time_ns < end.last_time_ns:
                    raise FastbarsError(
                        f"{unit.files[-1].path} and {behind.files[0].path} overlap in time, and have no ids"
                    )
        return False

    def _make(self, units: list[Unit]) -> dict[Path, Made]:
        made: dict[Path, Made] = {}
        waiting = []
        for unit in units:
            earlier = load_made(unit.part)
            if earlier is None:
                waiting.append(unit)
                continue
            made[unit.part] = earlier
            self.resumed += len(unit.files)
            self._note(unit, 0)
        if self._executor is None:
            for unit in waiting:
                made[unit.part] = fold_unit(unit, self._note_trades)
                self._note(unit, 0)
            return made
        # The largest first, so that none is left alone at the end.
        waiting.sort(key=_bytes_of, reverse=True)
        futures: dict[Future[Made], Unit] = {self._executor.submit(fold_unit, unit): unit for unit in waiting}
        try:
            while futures:
                for future in wait(futures, return_when=FIRST_COMPLETED).done:
                    unit = futures.pop(future)
                    made[unit.part] = _result_of(future, unit)
                    self._note(unit, made[unit.part].trades)
        finally:
            for future in futures:
                future.cancel()
        return made

    def _note(self, unit: Unit, trades: int) -> None:
        self._done = (self._done[0] + len(unit.files), self._done[1] + _bytes_of(unit))
        self._note_trades(trades)

    def _note_trades(self, trades: int) -> None:
        self._trades += trades
        if self._on_progress is not None:
            elapsed_s = (steady_ns() - self._began_ns) / 1e9
            self._on_progress(BuildProgress(*self._done, *self._total, self._trades, elapsed_s))


def _result_of(future: Future[Made], unit: Unit) -> Made:
    try:
        return future.result()
    except BrokenExecutor as error:
        raise FastbarsError(
            f"a worker died, perhaps for want of memory, while {unit.files[0].path} and others were read: {error};"
            " the same call goes on from here"
        ) from error


def _bytes_of(unit: Unit) -> int:
    return sum(file.path.stat().st_size for file in unit.files)


@contextmanager
def _executor(workers: int | Executor) -> Iterator[Executor | None]:
    if isinstance(workers, Executor):
        yield workers
    elif workers == 1:
        yield None
    else:
        if workers < 1:
            raise ValueError(f"workers must be at least 1, not {workers}")
        # Not by fork: threads of other libraries may hold locks.
        pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _ignore_interrupts)
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that waits for this one ends it


def _write_manifest(path: Path, chains: Sequence[_Chain], specs: Sequence[BarSpec], report: BuildReport) -> None:
    content = {
        "bars": [str(spec) for spec in specs],
        "report": asdict(report),
        "files": [
            {
                "path": str(file.path),
                "size": file.path.stat().st_size,
                "changed_ns": file.path.stat().st_mtime_ns,
                "format": file.format.name,
                "exchange": file.exchange,
                "market": file.market,
                "symbol": file.symbol,
            }
            for chain in chains
            for unit, _ in chain.made
            for file in unit.files
        ],
    }
    temporary = path.with_suffix(f".{os.getpid()}")
    temporary.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2))
    temporary.replace(path)
