"""Repairs: the holes in a session's bars, and the trades from a REST API that fill them; all that a healer needs.

Units: times int64 nanoseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import orjson

from fastbars.bars import OHLCVBar
from fastbars.buffer import BarBuffer
from fastbars.clocks import wall_ns
from fastbars.errors import InvalidTickError, PrecisionError
from fastbars.exchanges.history import Beginning, Hole, number_range
from fastbars.exchanges.messages import Trade
from fastbars.kernel.batch import TickBatch
from fastbars.live.intake import Intake
from fastbars.live.journal import Journal
from fastbars.log import SparseLog

_LAST_ID = 2**63 - 1
_ANY_LENGTH_S = 4e9
_PART = 250  # trades folded in together


class Repairs:
    """Lists the holes of one session, and takes the trades that fill them.

    Args:
        intake: the buffer whose bars are repaired.
        journal: where each repair is written before it takes effect.
        deliver: called with bars that are issued anew, and the local time; returns them as the user has them.
        warnings: of trades that cannot be taken.
        backfill_s: bars of at most this length that the stream began inside are completed; 0: none.
    """

    def __init__(
        self,
        intake: Intake,
        journal: Journal,
        deliver: Callable[[list[OHLCVBar], int], list[OHLCVBar]],
        warnings: SparseLog,
        backfill_s: float,
    ) -> None:
        self._intake = intake
        self._journal = journal
        self._deliver = deliver
        self._warnings = warnings
        self._backfill_s = backfill_s

    @property
    def symbols(self) -> Sequence[str]:
        """The symbols that may have holes."""
        return () if self._intake.buffer is None else self._intake.buffer.instruments.symbols

    def holes(self, symbol: str | None = None) -> list[Hole]:
        """The trades that are missing (of one symbol), where ids show it."""
        symbols = self.symbols if symbol is None else (symbol,)
        return [hole for each in symbols for hole in self.holes_within(each, 0, _LAST_ID)]

    def holes_within(self, symbol: str, first: int, last: int) -> list[Hole]:
        """The holes of one symbol that overlap these ids; fast, however many others there are."""
        buffer = self._intake.buffer
        return [] if buffer is None else [Hole(symbol, *hole) for hole in buffer.holes(symbol, first, last)]

    def heal(self, symbol: str, trades: Sequence[Trade], receive_time_ns: int | None = None) -> list[OHLCVBar]:
        """Fold in those trades of one symbol, from REST, that are missing; the others are ignored.

        `on_tick` is not called for them: they are late, and their order is not that of the stream.
        """
        buffer = self._intake.buffer
        if buffer is None or not trades:
            return []
        now_ns = _or_now(receive_time_ns)
        self._journal.write("heal", now_ns, {"symbol": symbol}, lambda: orjson.dumps([list(trade) for trade in trades]))
        bars: list[OHLCVBar] = []
        batch = buffer.new_batch()
        for trade in trades:
            try:
                try:
                    batch.append(*trade.row)
                except PrecisionError:
                    # Its scale does not fit the trades before it. Once those are folded, or refused, it may fit alone.
                    if not len(batch):
                        raise
                    bars += self._fill(buffer, batch, symbol)
                    batch.clear()
                    batch.append(*trade.row)
            except (PrecisionError, InvalidTickError, TypeError, OverflowError) as error:
                self._warnings.warn("healed_trade_refused", symbol=symbol, error=str(error))
        bars += self._fill(buffer, batch, symbol)
        return self._deliver(bars, now_ns)

    def _fill(self, buffer: BarBuffer, batch: TickBatch, symbol: str) -> list[OHLCVBar]:
        # Folds all rows but those that are refused.
        while len(batch):
            try:
                return buffer.heal(batch)
            except (PrecisionError, InvalidTickError) as error:
                if error.row is None:
                    raise
                self._warnings.warn("healed_trade_refused", symbol=symbol, error=str(error))
                batch = batch.without(error.row)
        return []

    def beginnings(self, symbol: str | None = None) -> list[Beginning]:
        """The symbols (or one of them) whose first bars lack their beginning and are to be completed."""
        buffer = self._intake.buffer
        if buffer is None or self._backfill_s <= 0:
            return []
        symbols = self.symbols if symbol is None else (symbol,)
        return [Beginning(each, *found) for each in symbols for found in buffer.beginning(each, self._backfill_s)]

    def reach_back(
        self, symbol: str, trade_id: int, time_ns: int, receive_time_ns: int | None = None
    ) -> list[OHLCVBar]:
        """Open a hole between a trade that REST has returned and the symbol's first one."""
        buffer = self._intake.buffer
        if buffer is None:
            return []
        now_ns = _or_now(receive_time_ns)
        self._journal.write("reach_back", now_ns, {"symbol": symbol, "trade_id": trade_id, "time_ns": time_ns})
        bars = buffer.reach_back(symbol, trade_id, time_ns)
        return self._deliver(bars, now_ns)

    def has_begun(self, symbol: str) -> bool:
        """Whether the symbol has traded."""
        return self._intake.buffer is not None and symbol in self._intake.buffer.instruments

    def prove_beginning(self, symbol: str, trades: Sequence[Trade]) -> bool:
        """Complete the bars that the symbol's first trade is in the middle of, however long they are.

        Args:
            trades: those before it, ascending by id, from REST.

        Returns:
            False: there are such bars, and the trades do not reach up to that first one.
        """
        buffer = self._intake.buffer
        if buffer is None:
            return False
        for first, _, open_ns in buffer.beginning(symbol, _ANY_LENGTH_S):
            if not trades or number_range(trades[-1])[1] < first - 1:
                return False
            before = next((one for one in reversed(trades) if one.time_ns < open_ns), None)
            if before is not None and number_range(before)[1] < first:
                self.reach_back(symbol, number_range(before)[1], before.time_ns)
                missing = [one for one in trades if number_range(before)[1] < number_range(one)[0] < first]
                for start in range(0, len(missing), _PART):
                    self.heal(symbol, missing[start : start + _PART])
                break  # the earliest of them: it includes the others
        return True

    def leave_out(
        self, symbol: str, ranges: Sequence[tuple[int, int]], receive_time_ns: int | None = None
    ) -> list[OHLCVBar]:
        """Mark ids that REST leaves out, though it has both neighbours, as unpublished; not asked for again."""
        buffer = self._intake.buffer
        if buffer is None:
            return []
        now_ns = _or_now(receive_time_ns)
        self._journal.write("leave_out", now_ns, {"symbol": symbol, "ranges": ranges})
        bars = buffer.leave_out(symbol, ranges)
        return self._deliver(bars, now_ns)


def _or_now(receive_time_ns: int | None) -> int:
    return wall_ns() if receive_time_ns is None else receive_time_ns
