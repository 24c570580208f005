from typing import Any

import numpy as np
import numpy.typing as npt

def rows_of_share(
    symbol_id: npt.NDArray[np.int32],
    share_of: npt.NDArray[np.uint8],
    share: int,
    places: npt.NDArray[np.int32],
    appeared: npt.NDArray[np.int64],
    first_row: int,
) -> int:
    """Find the rows of one share of the symbols.

    Args:
        symbol_id: int32[n], of a block of rows.
        share_of: uint8[symbols + 1], the share of each symbol, and of ids that are none.
        share: the one that is wanted.
        places: int32[more than n], gets the rows, ascending.
        appeared: int64[symbols], gets the first row of each symbol where it has none yet (-1).
        first_row: number of the block's first row.

    Returns:
        How many rows there are.
    """

def merge_shares(
    shares: list[list[npt.NDArray[Any]]], appeared: npt.NDArray[np.int64], trades: int, width: int
) -> npt.NDArray[Any]:
    """Bring the bars of all shares (ROW_DTYPE, a list of arrays of each, in order) into the order of one thread.

    Args:
        appeared: int64[symbols], the row of each symbol's first trade.
        trades: how many rows there were.
        width: how many bar specs.
    """
