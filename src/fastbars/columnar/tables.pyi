from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

def numpy_columns(rows: npt.NDArray[Any], texts: dict[str, Sequence[str]], ids: bool) -> dict[str, npt.NDArray[Any]]:
    """The fields of rows (ROW_DTYPE, contiguous) by name, each a column of its own memory.

    Prices and sums are the floats nearest to their exact values, NaN where a bar has no price; ids are -1 where they
    prove nothing (`ids` false) or nothing was traded; times are int64 ns.

    Args:
        texts: what the numbers of each field of texts stand for.

    Raises:
        IndexError: a row has a number that stands for no text. ValueError: one has a scale beyond 36.
    """

def decimal_column(rows: npt.NDArray[Any], field: str, scale: int) -> tuple[npt.NDArray[np.uint64] | None, int]:
    """A price or sum of rows (ROW_DTYPE, contiguous) as decimal128 mantissas at one scale; 0 where a bar has no price.

    Returns:
        (uint64[n, 2], low word first; -1), or (None, row) where a row needs more than 38 digits.
    """

def text_column(
    codes: npt.NDArray[np.int64], names: list[bytes]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
    """(int64[n + 1] offsets, uint8 characters): the name of each code, as Arrow's large_string holds it."""
