from typing import Any

import numpy as np
import numpy.typing as npt
from typing_extensions import disjoint_base

from fastbars.kernel.batch import TickBatch
from fastbars.kernel.paths import BarPaths

@disjoint_base
class BarKernel(BarPaths):
    """Folds batches of trades into bars; the arguments are those of `BarRecords`."""

    def update(
        self, batch: TickBatch, ends: bool = False, places: npt.NDArray[np.int32] | None = None
    ) -> tuple[npt.NDArray[Any], list[tuple[int, int]]]:
        """Fold a batch of trades in: all of it or, if this raises, nothing.

        Args:
            batch: the trades.
            ends: also issue, behind the others, what `flush` would.
            places: int32[n], the rows to be folded in, ascending; the others are passed over. None: all.

        Returns:
            (rows, late): the bars issued, as a structured array of ROW_DTYPE, in the order of the trades that
            caused them, then of the specs; and (row of the batch, index of the spec) of each trade that came
            too late for its bar, the index -1 where the ledger could not place it.

        Raises:
            InvalidTickError: a row breaks a rule; the message and `row` name it.
            PrecisionError: with a row a sum leaves 128 bits; likewise.
            IndexError: `places` are not ascending, or no rows of the batch.
        """

    def heal(self, batch: TickBatch) -> tuple[npt.NDArray[Any], list[tuple[int, int]]]:
        """Fold in those trades of one symbol, from REST, that lie in holes, and pass over the others.

        Each bar that changes is issued once. Returns and raises as `update` does; also InvalidTickError where ids
        prove nothing, or for trades of several symbols.
        """
