"""Joins the bars that units made each for itself: bars over a border merge, and what a border proves is judged.

A unit takes the beginning of its first bars and the end of its last ones for proven, where other files come before and
behind. Here it is judged: the trades of one unit go on where those of the other ended. A hole between them was seen by
the first, to which the trade behind its files was shown as a void id.

Units: times int64 ns since the epoch, UTC; rows are those of `fastbars.kernel.fields.ROW_DTYPE`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbars.archives.units import Border, Made, Unit, chunks_of
from fastbars.bars import REASONS, STATUSES, BarStatus, CloseReason
from fastbars.columnar.bar_batch import BarBatch
from fastbars.kernel.instruments import Instruments
from fastbars.kernel.rows import merge_rows
from fastbars.specs import BarSpec

__all__ = ["Joined"]

Rows = npt.NDArray[Any]

_PARTIAL, _GAP = STATUSES.index(BarStatus.PARTIAL), STATUSES.index(BarStatus.GAP)
_UNVERIFIABLE = STATUSES.index(BarStatus.UNVERIFIABLE)
_BY_END, _BY_TRADE = REASONS.index(CloseReason.END), REASONS.index(CloseReason.TRADE)


class _Held:
    # A bar at the end of the units so far, with which the next one may go on. Its status is what it is apart from its
    # end, and where ids prove nothing also from its beginning.

    def __init__(self, row: Rows, name: str, from_start: bool, judged: bool) -> None:
        self.row = row
        self.name = name
        self.from_start = from_start  # ids prove nothing, and it is the first of its symbol
        self.judged = judged  # its end too: it is known that nothing follows


class Joined:
    """The bars of a chain of units, in order.

    Args:
        exchange, market: as bars name them.
        specs: of the bars.
        ids: trade ids prove what is complete.
    """

    def __init__(self, exchange: str, market: str, specs: Sequence[BarSpec], *, ids: bool) -> None:
        self._exchange = exchange
        self._market = market
        self._specs = tuple(specs)
        self._ids = ids
        self._held: dict[tuple[str, int], _Held] = {}
        self._borders: dict[str, Border] = {}
        self._scales: dict[str, tuple[int, int, str]] = {}
        self._arrivals = 0

    def add(self, unit: Unit, made: Made, *, follows: bool = True) -> Iterator[BarBatch]:
        """The bars that are whole once this unit was added behind those before.

        Args:
            follows: nothing is missing between them but what ids show; else they do not prove each other's border.
        """
        if not follows:
            yield from self.end()
        self._take_scales(made)
        names = [symbol[0] for symbol in made.symbols]
        # (Ids that fell began anew.)
        befores = [self._borders.get(name) for name in names]
        continued = [
            before is not None and (not self._ids or border.first_id > before.last_id)
            for before, border in zip(befores, made.borders, strict=True)
        ]
        for name, border, goes_on in zip(names, made.borders, continued, strict=True):
            over = [
                key for key, held in self._held.items()
                if key[0] == name and not (goes_on and border.first_time_ns < int(held.row["close_time"][0]))
            ]  # fmt: skip
            yield from (self._release(key, proven=goes_on) for key in sorted(over, key=lambda key: key[1]))
        opened: set[tuple[str, int]] = set()
        for chunk in chunks_of(unit.part, made.rows):
            chunk["revision"] = 0
            if not self._ids:
                chunk["first_id"] += self._arrivals
                chunk["last_id"] += self._arrivals
            kept = np.ones(len(chunk), bool)
            for place in self._at_borders(chunk, names, opened):
                row = chunk[place : place + 1]
                number = int(row["symbol_id"][0])
                key = (names[number], int(row["spec"][0]))
                ends = int(row["reason"][0]) == _BY_END
                is_first = key not in opened
                from_start = is_first and not continued[number] and not self._ids
                if not self._ids and (ends or (is_first and continued[number])):
                    row["status"] = np.where(row["status"] == _PARTIAL, _UNVERIFIABLE, row["status"])
                if is_first and continued[number]:
                    from_start = yield from self._go_on(key, row, befores[number], made.borders[number])
                if is_first and not ends and (from_start or (unit.goes_on and not continued[number])):
                    _leave_open(row)
                opened.add(key)
                if ends:
                    judged = self._ids and unit.behind is None
                    self._held[key] = _Held(row.copy(), key[0], from_start, judged)
                    kept[place] = False
            if kept.any():
                rows = chunk if kept.all() else chunk[kept]
                yield BarBatch(rows, self._instruments(names), self._specs, ids=self._ids)
        self._arrivals += made.trades
        self._borders.update(zip(names, made.borders, strict=True))

    def end(self) -> Iterator[BarBatch]:
        """The bars that were held back; what comes next begins anew."""
        yield from (self._release(key, proven=False) for key in list(self._held))
        self._borders = {}

    def _at_borders(self, rows: Rows, names: Sequence[str], opened: set[tuple[str, int]]) -> list[int]:
        # The first row of each symbol and spec in this unit, and those that its end closed.
        keys = rows["symbol_id"].astype(np.int64) * len(self._specs) + rows["spec"]
        known, firsts = np.unique(keys, return_index=True)
        fresh = [
            place for key, place in zip(known.tolist(), firsts.tolist(), strict=True)
            if (names[key // len(self._specs)], key % len(self._specs)) not in opened
        ]  # fmt: skip
        return sorted({*fresh, *np.flatnonzero(rows["reason"] == _BY_END).tolist()})

    def _go_on(
        self, key: tuple[str, int], row: Rows, before: Border | None, border: Border
    ) -> Generator[BarBatch, None, bool]:
        # The first bar of a unit, where it goes on from the one before. Returns whether nothing proves its beginning.
        held = self._held.get(key)
        if held is not None and held.row["open_time"][0] == row["open_time"][0]:
            del self._held[key]
            if held.row["count"][0]:
                merged = merge_rows(held.row, row, self._ids)
                merged["reason"] = row["reason"]
                row[:] = merged
            else:  # a hole at the border, and nothing else
                row["status"] = max(row["status"][0], held.row["status"][0])
                row["missing"] += held.row["missing"]
            return held.from_start
        if held is not None:
            yield self._release(key, proven=True)
        if self._ids and before is not None and border.first_id > before.last_id + 1:
            row["status"], row["missing"] = _GAP, -1  # in which of the two bars they are missing is not known
        return False

    def _release(self, key: tuple[str, int], *, proven: bool) -> BarBatch:
        held = self._held.pop(key)
        if held.from_start or not (proven or held.judged):
            _leave_open(held.row)
        if proven:
            held.row["reason"] = _BY_TRADE
        held.row["symbol_id"] = 0
        return BarBatch(held.row, self._instruments([held.name]), self._specs, ids=self._ids)

    def _take_scales(self, made: Made) -> None:
        for name, price_scale, size_scale, contract in made.symbols:
            price, size, _ = self._scales.get(name, (0, 0, ""))
            self._scales[name] = (max(price, price_scale), max(size, size_scale), contract)

    def _instruments(self, names: Sequence[str]) -> Instruments:
        instruments = Instruments(self._exchange, market=self._market)
        for name in names:
            price_scale, size_scale, contract = self._scales[name]
            instruments.add(name, price_scale, size_scale, Decimal(contract) if contract else None)
        return instruments


def _leave_open(row: Rows) -> None:
    if row["status"][0] < _PARTIAL:
        row["status"] = _PARTIAL
        row["missing"] = -1
