"""TradeColumns: a block of trades as they stand in a file, the one form in which files of every format are read.

Units: times int64 nanoseconds since the Unix epoch, UTC; price x 10**price_scale and size x 10**size_scale.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["TradeColumns"]


class TradeColumns(NamedTuple):
    """Some rows of a file, in the order of the file.

    Attributes:
        symbols: the names that `symbol` counts; the same object from block to block of a file while none is new.
        symbol: int32[n], place in `symbols`.
        time_ns: int64[n], exchange time, ns since the epoch.
        price: int64[n], quote units x 10**price_scale.
        price_scale: decimals of this block's prices, 0 to 18: as many as the row with most of them needs.
        size: int64[n], base units or contracts x 10**size_scale; 0 where an id was used up and nothing traded.
        size_scale: likewise, of the sizes.
        side: int8[n], 1 the taker bought, -1 the taker sold, 0 unknown.
        first_id, last_id: int64[n], of the trades that a row stands for, the same object where each stands for one;
            None where the format has no ids that are numbers.
        count: int64[n], trades in a row, where the format says; None: one, or as many as there are ids.
        first_row: number of the block's first row in its file, from 1; neither header nor blank lines count.
    """

    symbols: tuple[str, ...]
    symbol: npt.NDArray[np.int32]
    time_ns: npt.NDArray[np.int64]
    price: npt.NDArray[np.int64]
    price_scale: int
    size: npt.NDArray[np.int64]
    size_scale: int
    side: npt.NDArray[np.int8]
    first_id: npt.NDArray[np.int64] | None
    last_id: npt.NDArray[np.int64] | None
    count: npt.NDArray[np.int64] | None  # type: ignore[assignment]  # not the method of tuples
    first_row: int
