"""Bars of archives that have holes: each id is taken from the file that has it, what no file has from REST.

    files of a source, by time -> rows that are to be taken --\\
    files of another source    ->                              |-- merged by id --> kernel --> bars
    trades from REST           ->                              /

Each id is taken once: from the source that has the most (daily or monthly files), what this lacks from the others, the
rest from REST. Where an id has several contents, the one that most sources have is taken, REST among them; of as many,
the first one of the first source. Bars that REST completed are HEALED. Units: times int64 ns since the epoch.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from os import PathLike
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastbars._agg import BarKernel
from fastbars.archives import ranges
from fastbars.archives.asking import Answers
from fastbars.archives.columns import TradeColumns
from fastbars.archives.comparison import rows_at, rows_of
from fastbars.archives.declaration import ArchiveFile
from fastbars.archives.doctor import EpochCheck, SeriesCheck, ask_for_all
from fastbars.archives.examination import Part, by_series, examine
from fastbars.archives.findings import SeriesName
from fastbars.archives.formats import recognise
from fastbars.archives.output import open_output
from fastbars.archives.ranges import NONE, Ranges
from fastbars.bars import STATUSES, BarStatus
from fastbars.columnar.bar_batch import BarBatch
from fastbars.errors import PrecisionError, UnknownExchangeError
from fastbars.exchanges import find_exchange
from fastbars.kernel.batch import TickBatch
from fastbars.kernel.fields import ROW_DTYPE
from fastbars.kernel.ids import Ledger
from fastbars.kernel.instruments import Instruments
from fastbars.specs import BarSpec, Origin, parse_specs

__all__ = ["Disputed", "Filled", "Left", "RepairReport", "SeriesRepair", "repair"]

REST = "REST"
MOST_LATE = 2_000_000  # rows out of order of a file that are brought into it
MOST_DISPUTED = 100_000  # ids of a series that are put to the vote; of more the first content is taken
_COMPLETE, _HEALED = STATUSES.index(BarStatus.COMPLETE), STATUSES.index(BarStatus.HEALED)
_FIRST, _LAST, _TIME, _PRICE, _SIZE, _SIDE, _COUNT = range(7)
_Rows = npt.NDArray[np.int64]  # [n, 7], at the series' scales


class Filled(NamedTuple):
    """Ids that the best source lacks, and where they were taken from: "REST", or another source."""

    series: SeriesName
    first: int
    last: int
    origin: str


class Left(NamedTuple):
    """Ids that nobody has, and why REST does not; "" where it was not asked."""

    series: SeriesName
    first: int
    last: int
    why: str


class Disputed(NamedTuple):
    """An id with several contents, whose was taken, and how many sources of how many have that."""

    series: SeriesName
    trade_id: int
    taken_from: str
    row: int
    votes: int
    sources: int


@dataclass(slots=True)
class RepairReport:
    """What a repair did.

    Attributes:
        filled: from where each range came.
        unpublished: ranges that the exchange leaves out for good.
        left: ranges that stay missing; their bars are GAP.
        disputed: ids with several contents.
        bars: how many were made.
        files, trades: read; of the trades voids, whose ids were used up, and duplicates, which came twice.
    """

    filled: list[Filled] = field(default_factory=list)
    unpublished: list[tuple[SeriesName, int, int]] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    disputed: list[Disputed] = field(default_factory=list)
    bars: int = 0
    files: int = 0
    trades: int = 0
    voids: int = 0
    duplicates: int = 0


def repair(
    files: Iterable[str | PathLike[str] | ArchiveFile],
    bars: str | int | BarSpec | Sequence[str | int | BarSpec],
    to: str | PathLike[str],
    *,
    rest: bool = True,
    form: str | None = None,
    partition_by: Sequence[str] = (),
    timezone: str | None = None,
    origin: Origin | None = None,
    api_key: str | None = None,
    rest_url: str | None = None,
    contract_sizes: Mapping[str, str | int | Decimal] | None = None,
    on_progress: Callable[[str], object] | None = None,
    **recognised: Any,
) -> RepairReport:
    """Make bars of files that have holes, and fill these from each other and from REST.

    The files are read twice; memory holds the bars of one symbol, 288 bytes each, and the trades from REST.

    Args:
        files: as for `check`.
        bars: bar specs.
        to, form, partition_by: as for `open_output`.
        rest: ask the exchange's REST API for what no file has, within its limits.
        timezone, origin: of day and longer bars that do not name their own (see `BarSpec.parse`).
        api_key: sent where the exchange's history needs one.
        rest_url: asks here instead of the exchange's own address.
        contract_sizes: of symbols on inverse markets, in quote units; those of known exchanges are known.
        on_progress: called with what is being done.
        recognised: what `fastbars.archives.formats.recognise` takes, for all files: exchange, market, symbol, format,
            columns, time_unit, ids, ...

    Returns:
        From where each id came that the best source lacks, and what stays missing.

    Raises:
        TapeError: a file cannot be opened, or its format is not known. PrecisionError: a number cannot be held exactly
            beside others. OSError: the output cannot be written.
    """
    specs = parse_specs(bars, timezone=timezone, origin=origin)
    tell = on_progress or (lambda _: None)
    examined, _ = examine(
        files, partial(recognise, **recognised), lambda path, rows: tell(f"{path.name}: {rows:,} rows")
    )
    series = [SeriesCheck(name, own) for name, own in by_series(examined).items()]
    if rest:
        asyncio.run(ask_for_all(series, api_key, rest_url, tell, disputed=True))
    report = RepairReport(files=len(examined))
    with open_output(to, form=form, partition_by=partition_by) as output:
        for one in series:
            tell(f"{one.name}: making bars")
            output.write(SeriesRepair(one, contract_sizes).bars(specs, report))
    return report


class SeriesRepair:
    """Plans and makes the bars of one series.

    Args:
        check: the check of the series.
        contract_sizes: as for `repair`.
    """

    def __init__(self, check: SeriesCheck, contract_sizes: Mapping[str, str | int | Decimal] | None = None) -> None:
        self._contract_size = (contract_sizes or {}).get(check.name.symbol)
        self.name = check.name
        self._check = check
        self._epochs = check.epochs()

    def bars(self, specs: Sequence[BarSpec], report: RepairReport) -> BarBatch:
        """The bars of the series, in order of their closing; what was done is added to the report."""
        made: list[npt.NDArray[Any]] = []
        instruments = self._instruments()
        scales = instruments.scales(self.name.symbol)
        kernel: BarKernel | None = None
        has_ids = any(check_has_ids(epoch.parts) for epoch in self._epochs.values())
        healed: list[Ranges] = []
        taken = 0
        for number in sorted(self._epochs):
            plan = _Plan(self.name, self._epochs[number], report)
            if kernel is None:
                horizon_ns = self._span_ns() + 10**15
                ledger = Ledger(max(4096, len(plan.left_out) + 1)) if has_ids else None
                kernel = BarKernel(instruments, specs, ledger, has_ids, horizon_ns=horizon_ns)
            made += _folded(kernel, instruments, plan, scales)
            taken += plan.taken
            healed.append(_around(plan.rest.ids) if plan.rest is not None else NONE)
        assert kernel is not None
        made.append(kernel.flush().array())
        trades = sum(ledger.rows for _, ledger in self._check.files)
        report.trades += trades
        report.voids += kernel.voids
        report.duplicates += trades - taken + kernel.duplicates
        rows = _latest(np.concatenate([np.empty(0, ROW_DTYPE), *made]), specs)
        if has_ids:
            _mark_healed(rows, ranges.union(healed)[0])
        report.bars += len(rows)
        return BarBatch(rows, instruments, specs, ids=has_ids)

    def _span_ns(self) -> int:
        series = [part.series for epoch in self._epochs.values() for part in epoch.parts]
        return max(one.until_ns for one in series) - min(one.since_ns for one in series)

    def _instruments(self) -> Instruments:
        name = self.name
        contract_size, signed = self._contract_size, False
        try:
            exchange = find_exchange(name.exchange, name.market or None)
            contract_size = contract_size or exchange.contract_size(name.symbol)
            signed = exchange.negative_prices
        except UnknownExchangeError:
            pass
        decimals = [ledger.decimals[1:] for _, ledger in self._check.files]
        decimals += [
            (block.price_scale, block.size_scale)
            for epoch in self._epochs.values()
            for block in (() if epoch.answers is None else epoch.answers.blocks)
        ]
        price_scale, size_scale = (max(column) for column in zip(*decimals, strict=True))
        instruments = Instruments(name.exchange, signed, name.market)
        instruments.add(name.symbol, price_scale, size_scale, contract_size)
        return instruments


def check_has_ids(parts: Sequence[Part]) -> bool:
    """Whether rows of these parts have ids that prove something."""
    return any(len(part.series.ids) for part in parts)


class _Plan:
    # From which file each id of an epoch is taken.
    def __init__(self, name: SeriesName, epoch: EpochCheck, report: RepairReport) -> None:
        self.name = name
        self.rest = rest = epoch.answers
        self.left_out = ranges.union([epoch.missing()[1], NONE if rest is None else rest.left_out])[0]
        self.parts = epoch.parts
        self._epoch = epoch
        self.taken = 0  # rows of files
        sizes: dict[str, int] = defaultdict(int)
        for part in self.parts:
            sizes[part.source] += sum(day.rows for day in part.series.days.values())
        self.sources = sorted(sizes, key=lambda source: (-sizes[source], source))
        self.takes: dict[tuple[int, int], Ranges] = {}
        self.has_ids = check_has_ids(self.parts)
        self.disputed = NONE
        self.chosen: dict[int, npt.NDArray[np.int64]] = {}
        if not self.has_ids:
            self.sources = self.sources[:1]  # nothing tells which rows of two sources are the same
            return
        taken = NONE
        first_source = ranges.union([part.series.ids for part in self.parts if part.source == self.sources[0]])[0]
        lacking = ranges.between(first_source)
        for source in self.sources:
            for part in self.in_order(source):
                take = ranges.without(part.series.ids, taken)
                self.takes[part.number, part.rows[0]] = take
                taken = ranges.union([taken, take])[0]
                if source != self.sources[0]:
                    report.filled += (
                        Filled(name, first, last, source) for first, last in ranges.common(take, lacking).tolist()
                    )
        self._settle(name, epoch.disputed(), report)
        missing = ranges.between(taken)
        if rest is not None:
            found = ranges.common(rest.ids, missing)
            report.filled += (Filled(name, first, last, REST) for first, last in found.tolist())
            missing = ranges.without(missing, rest.ids)
        left_out = ranges.common(self.left_out, missing)
        report.unpublished += ((name, first, last) for first, last in left_out.tolist())
        missing = ranges.without(missing, self.left_out)
        why = [] if rest is None else rest.why
        for first, last in missing.tolist():
            reasons = [reason for low, high, reason in why if low <= last and first <= high]
            report.left.append(Left(name, first, last, reasons[0] if reasons else ""))

    def in_order(self, source: str) -> list[Part]:
        own = [part for part in self.parts if part.source == source]
        return sorted(own, key=lambda part: part.series.since_ns)

    def _settle(self, name: SeriesName, disputed: Ranges, report: RepairReport) -> None:
        # Puts each id with several contents to the vote.
        if not len(disputed) or ranges.count(disputed) > MOST_DISPUTED:
            return
        voices = [rows_at(self._epoch.places(self.sources), disputed)]
        for block in self.rest.blocks if self.rest is not None else ():
            assert block.first_id is not None
            places = np.flatnonzero(ranges.holds(disputed, block.first_id))
            voices.append(rows_of(block, places, len(self.sources)))
        parts = {part.number: part for part in self.parts}
        by_id: dict[int, list[Any]] = defaultdict(list)
        for row in np.concatenate(voices):
            by_id[int(row["first"])].append(row)
        chosen: dict[int, list[int]] = defaultdict(list)
        for trade_id, rows in sorted(by_id.items()):
            backers: dict[tuple[Any, ...], set[int]] = defaultdict(set)
            for row in rows:
                backers[_content(row)].add(int(row["source"]))
            own = [row for row in rows if row["source"] < len(self.sources)]
            if not own:
                continue
            best = max(own, key=lambda row: (len(backers[_content(row)]), -row["source"], -row["file"], -row["row"]))
            chosen[int(best["file"])].append(int(best["row"]))
            part = parts[int(best["file"])]
            report.disputed.append(
                Disputed(name, trade_id, str(part.file.path), int(best["row"]), len(backers[_content(best)]),
                         len(set().union(*backers.values())))
            )  # fmt: skip
        self.disputed = disputed
        self.chosen = {number: np.array(rows, np.int64) for number, rows in chosen.items()}


def _content(row: Any) -> tuple[Any, ...]:
    return tuple(row[name].item() for name in ("last", "time", "price", "price_scale", "size", "size_scale", "side"))


def _folded(
    kernel: BarKernel, instruments: Instruments, plan: _Plan, scales: tuple[int, int]
) -> Iterator[npt.NDArray[Any]]:
    streams = [_source_rows(plan, source, scales) for source in plan.sources]
    if plan.has_ids:
        streams += [_rows_out_of_order(plan, source, scales) for source in plan.sources]
    if plan.rest is not None and plan.has_ids:
        streams.append(_rest_rows(plan.rest, plan, scales))
    left_out = plan.left_out.tolist()
    symbol = instruments.symbols[0]
    for rows, reached in _merged(streams, plan.has_ids):
        columns: dict[str, npt.NDArray[Any]] = {
            "time_ns": rows[:, _TIME], "symbol_id": np.zeros(len(rows), np.int32), "price": rows[:, _PRICE],
            "size": rows[:, _SIZE], "side": rows[:, _SIDE].astype(np.int8),
        }  # fmt: skip
        if plan.has_ids:
            columns["first_id"], columns["last_id"] = rows[:, _FIRST], rows[:, _LAST]
        if (rows[:, _COUNT] > 0).any():
            columns["count"] = np.where(rows[:, _COUNT] > 0, rows[:, _COUNT], rows[:, _LAST] - rows[:, _FIRST] + 1)
        columns = {name: np.ascontiguousarray(column) for name, column in columns.items()}
        closed, _ = kernel.update(TickBatch.wrap(instruments, columns))
        yield closed.array()
        due = 0
        while due < len(left_out) and left_out[due][1] < reached:
            due += 1
        if due:
            yield kernel.leave_out(instruments.id(symbol), [tuple(pair) for pair in left_out[:due]]).array()
            del left_out[:due]


def _source_rows(plan: _Plan, source: str, scales: tuple[int, int]) -> Iterator[_Rows]:
    # Those that come in order of ids; the others are in `_rows_out_of_order`.
    for part in plan.in_order(source):
        for rows, ahead in _part_rows(plan, part, scales):
            plan.taken += len(rows)
            if part.series.below > MOST_LATE:
                yield rows
            elif ahead.any():
                yield rows[ahead]


def _rows_out_of_order(plan: _Plan, source: str, scales: tuple[int, int]) -> Iterator[_Rows]:
    # Brought into order, and rows that came again among them: the first one of an id counts.
    found = [
        rows[~ahead]
        for part in plan.in_order(source)
        if 0 < part.series.below <= MOST_LATE
        for rows, ahead in _part_rows(plan, part, scales)
    ]
    table = np.concatenate([np.empty((0, 7), np.int64), *found])
    if len(table):
        yield table[np.argsort(table[:, _FIRST], kind="stable")]


def _part_rows(plan: _Plan, part: Part, scales: tuple[int, int]) -> Iterator[tuple[_Rows, npt.NDArray[np.bool_]]]:
    # (the rows that are to be taken, whether each has a higher id than all before it).
    chosen = plan.chosen.get(part.number, np.empty(0, np.int64))
    since, until = part.rows
    top = -1
    for block in part.file.again(plan.name.symbol):
        if block.first_row >= until:
            break
        numbers = block.first_row + np.arange(len(block.time_ns))
        mask = (numbers >= since) & (numbers < until)
        if plan.has_ids:
            assert block.first_id is not None
            disputed = ranges.holds(plan.disputed, block.first_id)
            taken = ranges.holds(plan.takes[part.number, since], block.first_id)
            mask &= np.where(disputed, np.isin(numbers, chosen), taken)
        if mask.any():
            rows = _table(block, np.flatnonzero(mask), scales)
            if plan.has_ids:
                tops = np.maximum.accumulate(np.concatenate([[top], rows[:-1, _FIRST]]))
                top = max(int(tops[-1]), int(rows[-1, _FIRST]))
                yield rows, rows[:, _FIRST] > tops
            else:
                yield rows, np.ones(len(rows), bool)


def _rest_rows(rest: Answers, plan: _Plan, scales: tuple[int, int]) -> Iterator[_Rows]:
    taken = ranges.union(plan.takes.values())[0]
    parts = []
    for block in rest.blocks:
        assert block.first_id is not None
        places = np.flatnonzero(~ranges.holds(taken, block.first_id))
        parts.append(_table(block, places, scales))
    if parts:
        table = np.concatenate(parts)
        if len(table):
            yield table[np.argsort(table[:, _FIRST], kind="stable")]


def _table(block: TradeColumns, places: npt.NDArray[np.intp], scales: tuple[int, int]) -> _Rows:
    table = np.empty((len(places), 7), np.int64)
    first, last, count = block.first_id, block.last_id, block.count
    table[:, _FIRST] = 0 if first is None else first[places]
    table[:, _LAST] = table[:, _FIRST] if last is None else last[places]
    table[:, _TIME], table[:, _SIDE] = block.time_ns[places], block.side[places]
    table[:, _PRICE] = _at_scale(block.price[places], block.price_scale, scales[0])
    table[:, _SIZE] = _at_scale(block.size[places], block.size_scale, scales[1])
    table[:, _COUNT] = 0 if count is None else count[places]
    return table


def _at_scale(mantissa: npt.NDArray[np.int64], own: int, scale: int) -> npt.NDArray[np.int64]:
    if own == scale:
        return mantissa
    made: npt.NDArray[np.int64]
    if own > scale:  # zeros
        made = mantissa // 10 ** (own - scale)
        return made
    factor = 10 ** (scale - own)
    if len(mantissa) and int(np.abs(mantissa).max()) * factor >= 2**63:
        raise PrecisionError(f"{int(mantissa.max())} with {own} decimals does not fit beside others with {scale}")
    made = mantissa * factor
    return made


def _merged(streams: Sequence[Iterator[_Rows]], by_id: bool) -> Iterator[tuple[_Rows, int]]:
    # (rows in order of ids, the id before which no more come), of streams that are in that order but for few rows.
    if not by_id:
        for stream in streams:
            for rows in stream:
                yield rows, 0
        return
    heads = [next(stream, None) for stream in streams]
    while any(head is not None for head in heads):
        bound = min(int(head[:, _FIRST].max()) for head in heads if head is not None)
        ready = []
        for i, head in enumerate(heads):
            if head is None:
                continue
            now = head[:, _FIRST] <= bound
            ready.append(head[now])
            heads[i] = head[~now] if not now.all() else next(streams[i], None)
        rows = np.concatenate(ready)
        if len(ready) > 1:
            rows = rows[np.argsort(rows[:, _FIRST], kind="stable")]
        yield rows, bound


def _around(ids: Ranges) -> Ranges:
    # With the neighbours: their bars were in doubt too.
    return ranges.union([ids + np.array([-1, 1])])[0]


def _mark_healed(rows: npt.NDArray[Any], healed: Ranges) -> None:
    if not len(healed):
        return
    mine = np.flatnonzero((rows["status"] == _COMPLETE) & (rows["count"] > 0))
    place = np.searchsorted(healed[:, 1], rows["first_id"][mine])
    touched = (place < len(healed)) & (healed[np.minimum(place, len(healed) - 1), 0] <= rows["last_id"][mine])
    rows["status"][mine[touched]] = _HEALED


def _latest(rows: npt.NDArray[Any], specs: Sequence[BarSpec]) -> npt.NDArray[Any]:
    # The last revision of each bar, in order of closing. Path-driven bars have no revisions, and keep their order.
    paths = np.array([not spec.is_timed for spec in specs])
    place = np.where(paths[rows["spec"]], np.arange(1, len(rows) + 1), 0)
    order = np.lexsort((rows["revision"], place, rows["open_time"], rows["spec"]))
    rows, place = rows[order], place[order]
    last = np.ones(len(rows), bool)
    last[:-1] = (
        (rows["spec"][1:] != rows["spec"][:-1])
        | (rows["open_time"][1:] != rows["open_time"][:-1])
        | (place[1:] != place[:-1])
    )
    rows, place = rows[last], place[last]
    rows["revision"] = 0  # none was delivered before
    return rows[np.lexsort((place, rows["spec"], rows["close_time"]))]
