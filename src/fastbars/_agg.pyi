from typing import Any

import numpy.typing as npt
from typing_extensions import disjoint_base

from fastbars.batch import TickBatch
from fastbars.closing import BarClosing

@disjoint_base
class BarKernel(BarClosing):
    """Folds batches of trades into bars; the arguments are those of `BarClosing`."""

    def update(self, batch: TickBatch, ends: bool = False) -> tuple[npt.NDArray[Any], list[tuple[int, int]]]:
        """Fold a batch of trades in: all of it or, if this raises, nothing.

        Args:
            batch: the trades.
            ends: also issue, behind the others, what `flush` would.

        Returns:
            (rows, late): the bars issued, as a structured array of ROW_DTYPE, in the order of the trades that
            caused them, then of the specs; and (row of the batch, index of the spec) of each trade that came
            too late for its bar, the index -1 where the ledger could not place it.

        Raises:
            InvalidTickError: a row breaks a rule; the message and `row` name it.
            PrecisionError: with a row a sum leaves 128 bits; likewise.
        """

    def heal(self, batch: TickBatch) -> tuple[npt.NDArray[Any], list[tuple[int, int]]]:
        """Fold in those trades of one symbol, from REST, that lie in holes, and pass over the others.

        Each bar that changes is issued once. Returns and raises as `update` does; also InvalidTickError where ids
        prove nothing, or for trades of several symbols.
        """

    def beginning(self, symbol_id: int, longest_ns: int) -> list[tuple[int, int, int]]:
        """Where a symbol began inside bars that can still be amended: (id, time, open_time) of each, ascending.

        Bars that open more than `longest_ns` before the first trade do not count.
        """

    def reach_back(self, symbol_id: int, trade_id: int, time_ns: int) -> npt.NDArray[Any]:
        """A trade before the symbol's first one is known: bars that open behind it are proven at their beginning.

        What lies between the two is a hole, for `heal`. Returns the bars that lack nothing, as `update` does.
        """

def merge_rows(rows: npt.NDArray[Any], others: npt.NDArray[Any], by_id: bool) -> npt.NDArray[Any]:
    """Merge bar i of `others` into bar i of `rows` (ROW_DTYPE both), for all i.

    Args:
        by_id: order by first_id and last_id; else by (time, arrival).

    Raises:
        PrecisionError: merged sums do not fit 128 bits, or the scales cannot be brought together.
        ValueError: the lengths differ.
    """
