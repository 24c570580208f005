from typing import Any, Generic, Self, TypeVar

import numpy.typing as npt
from typing_extensions import disjoint_base

from fastbars.kernel.instruments import Instruments
from fastbars.kernel.rows import IssuedRows

_T = TypeVar("_T")

@disjoint_base
class BarMaker(Generic[_T]):
    """Makes objects of a class of bars from finished rows; the class's own constructor and its checks are passed by.

    Args:
        bar: a class with a slot for each of `fastbars.kernel.fields.FIELDS` and IDENTITY, and `inverse`.
        statuses, reasons: the members that stand for the kernel's numbers.

    Raises:
        TypeError: a field is not a slot.
    """

    def __new__(cls, bar: type[_T], statuses: tuple[Any, ...], reasons: tuple[Any, ...]) -> Self: ...
    def make(
        self, rows: IssuedRows | npt.NDArray[Any], instruments: Instruments, specs: tuple[str, ...], ids: bool
    ) -> list[_T]:
        """One object a row.

        Args:
            rows: as a kernel issues them; or a contiguous array of ROW_DTYPE.
            instruments: names exchange, market and symbols.
            specs: texts of the bar specs.
            ids: first_id and last_id are the exchange's trade ids; else they count arrivals and are left out.
        """
