from typing import Any

import numpy as np
import numpy.typing as npt

def fold_bars(
    rows: npt.NDArray[Any],
    starts: npt.NDArray[np.int64],
    series: npt.NDArray[np.int64],
    opens: npt.NDArray[np.int64],
    closes: npt.NDArray[np.int64],
    spec: int,
    by_id: bool,
) -> npt.NDArray[Any]:
    """Fold stretches of bars into one longer bar each.

    Args:
        rows: ROW_DTYPE, the bars of each symbol together, in order of time, none twice.
        starts: int64[n + 1], where each stretch begins; the last one ends at the last number.
        series: int64[2 n], where the rows of its symbol begin and end.
        opens, closes: int64[n], ns, the interval of each longer bar, which its stretch lies in.
        spec: number of the longer bars' spec.
        by_id: ids are the exchange's, and contiguous.

    Returns:
        Rows, one a stretch.

    Raises:
        PrecisionError: a sum does not fit 128 bits, or scales cannot be brought together.
    """
