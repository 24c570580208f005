from typing import Final

import numpy as np
import numpy.typing as npt

BUCKET: Final = 4096
SEGMENT: np.dtype[np.void]

def segments(
    time_ns: npt.NDArray[np.int64],
    price: npt.NDArray[np.int64],
    price_scale: int,
    size: npt.NDArray[np.int64],
    size_scale: int,
    side: npt.NDArray[np.int8] | None,
    first_id: npt.NDArray[np.int64] | None,
    last_id: npt.NDArray[np.int64] | None,
    count: npt.NDArray[np.int64] | None,
    first_row: int,
    before_ns: int,
) -> tuple[npt.NDArray[np.void], int, int, tuple[int, int, int]]:
    """Sum up rows of one symbol in segments.

    Args:
        time_ns, price, ...: as `TradeColumns` has them.
        first_row: number of the first row in its file.
        before_ns: time of the row before it; -(2**63): there is none.

    Returns:
        (SEGMENT[n], time of the last row, rows whose last id is below their first or a million above it, decimals in
        use of times in seconds, of prices and of sizes). A segment has `first` and `last` id (-1: without ids),
        `since` and `until`, times of its first and last row, ns, `row`, number of the first, `rows` and `voids` among
        them, `backs`, rows that are earlier than the one before, `day`, since the epoch, `digest`, the sum of the
        hashes of its rows modulo 2**64, and `own`, the last id of its first row.

    Raises:
        ValueError: columns differ in length, or a scale is not from 0 to 18.
    """
