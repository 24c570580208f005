from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from typing_extensions import disjoint_base

@disjoint_base
class Texts:
    """A column of texts where it lies, in numpy's or Arrow's memory; made by one of the static methods."""

    length: int
    @staticmethod
    def fixed(array: npt.NDArray[np.bytes_]) -> Texts:
        """Of equal width, padded with zeros."""
    @staticmethod
    def offsets(places: npt.NDArray[Any], data: npt.NDArray[np.uint8], start: int, length: int) -> Texts:
        """Arrow's string (int32 places) and large_string (int64): text i is data[places[i] : places[i + 1]]."""
    @staticmethod
    def views(views: npt.NDArray[np.uint8], data: list[npt.NDArray[np.uint8]], start: int, length: int) -> Texts:
        """Arrow's string_view."""
    def numbers(self, mantissa: npt.NDArray[np.int64], scale: npt.NDArray[np.int8], signed: bool = False) -> int:
        """Read each as a decimal, not negative unless `signed`, into its mantissa and smallest scale.

        -1, or the row that is none.
        """
    def __len__(self) -> int: ...
    def __getitem__(self, key: int, /) -> bytes: ...

@disjoint_base
class Encoder:
    """Texts to ids: 0, 1, ... in the order in which they first occur, across all columns given."""

    @property
    def names(self) -> list[bytes]:
        """The texts, by their ids; of objects in UTF-8, a lone surrogate encoded like any other character."""
    def encode(self, texts: Texts, ids: npt.NDArray[np.int32]) -> None:
        """Write the id of each text to `ids`."""
    def encode_objects(self, values: npt.NDArray[np.object_] | Sequence[Any], ids: npt.NDArray[np.int32]) -> int:
        """Likewise of objects; -1, or the first that is neither str nor bytes in UTF-8."""

def first_unsorted(time_ns: npt.NDArray[np.int64]) -> int:
    """The first row that is earlier than the one before it; -1: there is none."""

def round_floats(values: npt.NDArray[np.float64], scale: int, mantissa: npt.NDArray[np.int64]) -> int:
    """The integer nearest to the exact value x 10**scale, ties to even; -1, or the row that does not fit 64 bits."""

def narrow_decimals(
    data: npt.NDArray[np.uint8],
    width: int,
    scale: int,
    mantissa: npt.NDArray[np.int64],
    scales: npt.NDArray[np.int8],
    symbol_id: npt.NDArray[np.int32],
    signed: bool = False,
) -> int:
    """Arrow decimals of `width` bytes (4, 8, 16) to the smallest scale of each, or to one that a row of its symbol
    before it needs; -1, or the row that is negative (unless `signed`) or needs more than 64 bits or 18 decimals."""

def first_outside(codes: npt.NDArray[Any], count: int) -> int:
    """The first code outside 0 to count - 1, in a contiguous column of integers of any width; -1: there is none."""

def look_up(codes: npt.NDArray[Any], places: npt.NDArray[np.int32], ids: npt.NDArray[np.int32]) -> None:
    """Write places[code] to `ids` for each code, of any width. Raises IndexError for one that has no place."""

def number_anew(ids: npt.NDArray[np.int32], count: int) -> npt.NDArray[np.intp]:
    """Which of the numbers 0 to count - 1 occur; `ids` become their places among these."""

def narrow_letters(letters: npt.NDArray[np.uint32], narrow: npt.NDArray[np.uint8]) -> bool:
    """Whether all code points are ASCII: then they stand in `narrow`, one byte each."""

def integers_of(values: Any) -> npt.NDArray[np.int64] | None:
    """A list or tuple of nothing but int as a column; None: it is another, is empty, or holds one beyond 64 bits."""

def numbers_of_objects(
    values: npt.NDArray[np.object_], mantissa: npt.NDArray[np.int64], scale: npt.NDArray[np.int8], signed: bool = False
) -> int:
    """Read each as `fastbars.kernel.scaled.parse` does, not negative unless `signed`; -1, or the first that is none."""

def align(
    mantissa: npt.NDArray[np.int64],
    scales: npt.NDArray[np.int8],
    symbol_id: npt.NDArray[np.int32] | None,
    symbol_scales: npt.NDArray[np.int8],
) -> int:
    """Bring every row, in place, to the largest scale of its symbol, and write those scales; -1, or the row that does
    not fit 64 bits there. Without `symbol_id` there is one symbol."""
