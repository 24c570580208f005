"""Asks an exchange's REST API for trades that files lack, within its limits, as a live stream heals its holes.

Units: times int64 ns since the epoch; ids both inclusive.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbars.archives import ranges
from fastbars.archives.columns import TradeColumns
from fastbars.archives.findings import SeriesName
from fastbars.archives.ranges import NONE, Ranges
from fastbars.errors import FastbarsError, PrecisionError, UnknownExchangeError
from fastbars.exchanges import find_exchange
from fastbars.exchanges.history import Beginning, Hole, number_range
from fastbars.exchanges.messages import Trade
from fastbars.kernel.scaled import parse
from fastbars.live.healing.healer import Healer
from fastbars.live.rest import RestClient
from fastbars.live.shared import SHARED

__all__ = ["Answers", "ask"]

MOST_TRADES = 2_000_000  # of one symbol, kept in memory
_FOREVER_S = 1e12


@dataclass(slots=True)
class Answers:
    """What the REST API knows of ids that files lack.

    Attributes:
        blocks: its trades, each block ascending by id.
        ids: theirs.
        left_out: ids that it leaves out for good, though it has both their neighbours.
        why: for each range that stays missing, the reason.
    """

    blocks: list[TradeColumns] = field(default_factory=list)
    ids: Ranges = field(default_factory=lambda: NONE)
    left_out: Ranges = field(default_factory=lambda: NONE)
    why: list[tuple[int, int, str]] = field(default_factory=list)


async def ask(
    name: SeriesName,
    wanted: Ranges,
    times_ns: Ranges,
    *,
    api_key: str | None = None,
    rest_url: str | None = None,
    on_progress: Callable[[int], object] | None = None,
) -> Answers:
    """Fetch trades of one symbol by id.

    Args:
        name: whose; the API of the exchange's default trade channel is asked, whatever the dataset.
        wanted: ids.
        times_ns: for each of these ranges, times of the trades before and after it, or earlier and later ones.
        api_key: sent where the history needs one.
        rest_url: asks here instead of the exchange's own address.
        on_progress: called with the number of ids that are still wanted.
    """
    answers = Answers()
    try:
        exchange = find_exchange(name.exchange, name.market or None)
    except UnknownExchangeError as error:
        answers.why = [(first, last, str(error)) for first, last in wanted.tolist()]
        return answers
    history = exchange.history(exchange.default_channel, has_key=api_key is not None)
    target = _Missing(name.symbol, wanted, times_ns)
    limiter = None
    if history is not None:
        limiter = SHARED.rest_limiter(history.api.budget_name, history.api.weight_per_minute, rest_url)
    # A healer waits before it asks again, as trades may not have reached the API yet; these are old.
    passed_s = 0.0
    async with RestClient() as client:
        healer = Healer(
            exchange.name, history, [target], client,
            api_key=api_key, url=rest_url, horizon_s=_FOREVER_S, limiter=limiter, now=lambda: passed_s,
        )  # fmt: skip
        while True:
            due_s = await healer.heal_due()
            if on_progress is not None:
                on_progress(target.left)
            if due_s is None:
                break
            passed_s += due_s
            await asyncio.sleep(0)
    answers.blocks = target.blocks
    answers.ids = ranges.union(target.found)[0]
    answers.left_out = ranges.union(target.left_out)[0]
    reasons = {(hole.first, hole.last): why for hole, why in healer.reasons.items()}
    answers.why = [
        (hole.first, hole.last, reasons.get((hole.first, hole.last), "too many trades are missing"))
        for hole in [*target.holes(), *target.refused]
    ]
    return answers


class _Missing:
    """Ids that are wanted, ascending: what a `Healer` has to heal."""

    def __init__(self, symbol: str, wanted: Ranges, times_ns: Ranges) -> None:
        self.symbols: Sequence[str] = (symbol,)
        self.blocks: list[TradeColumns] = []
        self.found: list[Ranges] = []
        self.left_out: list[Ranges] = []
        self.refused: list[Hole] = []
        self._holes = [
            Hole(symbol, first, last, since, until)
            for (first, last), (since, until) in zip(wanted.tolist(), times_ns.tolist(), strict=True)
        ]
        self._lasts = [hole.last for hole in self._holes]
        self._taken = 0

    @property
    def left(self) -> int:
        return sum(hole.last - hole.first + 1 for hole in self._holes)

    def holes(self, symbol: str | None = None) -> Sequence[Hole]:  # noqa: ARG002 there is one
        return self._holes

    def holes_within(self, symbol: str, first: int, last: int) -> Sequence[Hole]:  # noqa: ARG002
        start = bisect_left(self._lasts, first)
        stop = bisect_right(self._holes, last, lo=start, key=lambda hole: hole.first)
        return self._holes[start:stop]

    def heal(self, symbol: str, trades: Sequence[Trade]) -> None:
        taken: list[tuple[Trade, tuple[int, int]]] = []
        for trade in trades:
            first, last = number_range(trade)
            # An aggregate that reaches beyond the hole would bring trades twice.
            if any(hole.first <= first and last <= hole.last for hole in self.holes_within(symbol, first, last)):
                taken.append((trade, (first, last)))
        block = _columns(symbol, taken)
        if block is not None and block.first_id is not None and block.last_id is not None:
            self.blocks.append(block)
            own = ranges.union([np.stack([block.first_id, block.last_id], 1)])[0]
            self.found.append(own)
            self._remove(own)
            self._taken += len(block.time_ns)
        if self._taken >= MOST_TRADES:
            self.refused, self._holes, self._lasts = self._holes, [], []

    def leave_out(self, symbol: str, found: Sequence[tuple[int, int]]) -> None:  # noqa: ARG002
        own = ranges.ranges_of(found)
        self.left_out.append(own)
        self._remove(own)

    def beginnings(self, symbol: str | None = None) -> Sequence[Beginning]:  # noqa: ARG002 there are none
        return ()

    def reach_back(self, symbol: str, trade_id: int, time_ns: int) -> None:  # noqa: ARG002 there are no beginnings
        raise FastbarsError(f"{symbol}: no beginning was asked for")

    def _remove(self, own: Ranges) -> None:
        for first, last in own.tolist():
            within = self.holes_within(self.symbols[0], first, last)
            if not within:
                continue
            start = bisect_left(self._lasts, first)
            rest: list[Hole] = []
            for hole in within:
                if hole.first < first:
                    rest.append(hole._replace(last=first - 1))
                if hole.last > last:
                    rest.append(hole._replace(first=last + 1))
            self._holes[start : start + len(within)] = rest
            self._lasts[start : start + len(within)] = [hole.last for hole in rest]


def _columns(symbol: str, trades: Iterable[tuple[Trade, tuple[int, int]]]) -> TradeColumns | None:
    rows: list[tuple[int, ...]] = []
    scales: list[tuple[int, int]] = []
    for trade, (first, last) in trades:
        try:
            (price, price_scale), (size, size_scale) = parse(trade.price), parse(trade.size)
        except PrecisionError:
            continue  # it stays missing
        rows.append((first, last, trade.time_ns, price, size, trade.side, trade.trade_count))
        scales.append((price_scale, size_scale))
    if not rows:
        return None
    of_price, of_size = (max(column) for column in zip(*scales, strict=True))
    scaled = [
        (first, last, time_ns, price * 10 ** (of_price - own[0]), size * 10 ** (of_size - own[1]), side, count)
        for (first, last, time_ns, price, size, side, count), own in zip(rows, scales, strict=True)
    ]
    fitting = [row for row in scaled if row[3] < 2**63 and row[4] < 2**63]
    table: npt.NDArray[Any] = np.array(fitting, np.int64).reshape(-1, 7)
    first, last, time_ns, price, size, side, count = np.ascontiguousarray(table.T)
    several = bool((first != last).any())
    return TradeColumns(
        (symbol,), np.zeros(len(table), np.int32), time_ns, price, of_price, size, of_size, side.astype(np.int8), first,
        last if several else first, count if several else None, 1,
    )  # fmt: skip
