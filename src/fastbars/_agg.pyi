from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from typing_extensions import disjoint_base

from fastbars.batch import TickBatch
from fastbars.instruments import Instruments
from fastbars.ledger import Ledger
from fastbars.state import BarState

class _Spec(Protocol):
    @property
    def rule(self) -> tuple[str, int, int]: ...
    @property
    def boundaries(self) -> npt.NDArray[np.int64] | None: ...

@disjoint_base
class BarKernel(BarState):
    """Folds batches of trades into bars.

    Args:
        instruments: the symbols and their scales.
        specs: one or more bar specs.
        ledger: follows the trade ids; None where they prove nothing, and trades are ordered by time, arrival.
        proof: the ids stand for every trade, so that bars can be COMPLETE.
        lateness_ns: how long after its close_time, in event time, a bar can still be amended, ns.
    """

    proof: bool
    lateness_ns: int
    watermark_ns: int
    def __init__(
        self,
        instruments: Instruments,
        specs: Iterable[_Spec],
        ledger: Ledger | None = None,
        proof: bool = True,
        lateness_ns: int = 60_000_000_000,
    ) -> None: ...
    def update(self, batch: TickBatch) -> tuple[npt.NDArray[Any], list[tuple[int, int]]]:
        """Fold a batch of trades in: all of it or, if this raises, nothing.

        Returns:
            (rows, late): the bars issued, as a structured array of ROW_DTYPE, in the order of the trades that
            caused them, then of the specs; and (row of the batch, index of the spec) of each trade that came
            too late for its bar, the index -1 where the ledger could not place it.

        Raises:
            InvalidTickError: a row breaks a rule; the message and `row` name it.
            PrecisionError: with a row a sum leaves 128 bits; likewise.
        """

    def close_until(self, time_ns: int, reason: int) -> npt.NDArray[Any]:
        """Issue the open time bars whose close_time is at or before `time_ns` (ns); reason indexes CloseReason."""

    def flush(self, symbol_id: int | None = None) -> npt.NDArray[Any]:
        """Issue every open bar (of one symbol), in order of first appearance, then of the specs."""

    def advance_watermark(self, time_ns: int) -> None:
        """Event time of the connection has reached `time_ns` (ns): it ages the bars that can be amended."""

    def note_lost(self, symbol_id: int, time_ns: int) -> npt.NDArray[Any]:
        """A trade of this symbol and time was lost: its bars are GAP; issued ones are issued again."""

def merge_rows(rows: npt.NDArray[Any], others: npt.NDArray[Any], by_id: bool) -> npt.NDArray[Any]:
    """Merge bar i of `others` into bar i of `rows` (ROW_DTYPE both), for all i.

    Args:
        by_id: order by first_id and last_id; else by (time, arrival).

    Raises:
        PrecisionError: merged sums do not fit 128 bits, or the scales cannot be brought together.
        ValueError: the lengths differ.
    """
