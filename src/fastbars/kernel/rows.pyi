from typing import Any

import numpy.typing as npt

from fastbars.kernel.fields import ROW_DTYPE as ROW_DTYPE

NO_ROWS: npt.NDArray[Any]
"""The empty array that a batch gives which issues nothing (read-only)."""

def merge_rows(rows: npt.NDArray[Any], others: npt.NDArray[Any], by_id: bool) -> npt.NDArray[Any]:
    """Merge bar i of `others` into bar i of `rows` (ROW_DTYPE both), for all i.

    Args:
        by_id: order by first_id and last_id; else by (time, arrival).

    Raises:
        PrecisionError: merged sums do not fit 128 bits, or the scales cannot be brought together.
        ValueError: the lengths differ.
    """

def check_scales(rows: npt.NDArray[Any]) -> None:
    """Raises ValueError: a scale of these rows (ROW_DTYPE) is none that a kernel can have issued."""
