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

def decimals_of(rows: npt.NDArray[Any], field: str, least: int) -> int:
    """The fewest decimals, `least` or more, that every value of a price or sum needs (ROW_DTYPE, contiguous).

    Raises:
        ValueError: the field is neither.
    """

def fill_decimals(
    rows: npt.NDArray[Any],
    fields: tuple[str, ...],
    values: tuple[npt.NDArray[np.uint64], ...],
    scale: int,
    least: npt.NDArray[np.int8],
    most: int,
) -> int:
    """Write prices or sums that have one scale in a row into rows (ROW_DTYPE, contiguous), with that scale.

    Args:
        rows: written to.
        fields: up to 4, all prices, all sizes or all quote sums.
        values: of each field uint64[n, 2], decimal128 mantissas at `scale`, low word first.
        scale: of the values, 0 to 72.
        least: int8[n], the smallest scale that each row may have.
        most: the largest.

    Returns:
        -1, or the first row whose values do not fit (64 bits a price, 128 a sum, `most` decimals).
    """
