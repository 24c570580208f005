from collections.abc import Iterator
from typing import Any, final

import numpy.typing as npt

from fastbars.kernel.fields import ROW_DTYPE as ROW_DTYPE

@final
class IssuedRows:
    """Bars that a kernel has issued, as it keeps them: objects, text and columns are made of them without a copy.

    Indexed and iterated over, they are the array that `array` gives.
    """

    @property
    def inside(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any]] | None:
        """What is inside the bars: arrays of `fields.SHOWN_DTYPE` and `fields.LEVEL_DTYPE`; None where no spec asks."""

    def array(self) -> npt.NDArray[Any]:
        """The rows as a structured array of ROW_DTYPE, made when it is first asked for; it shares their memory."""

    def number(self, first: int) -> None:
        """Number the rows from this one on, from 0: their column "row"."""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]: ...
    def __len__(self) -> int: ...
    def __getitem__(self, index: Any, /) -> Any: ...
    def __iter__(self) -> Iterator[Any]: ...

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
