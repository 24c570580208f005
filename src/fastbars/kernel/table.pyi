from collections.abc import Iterable
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from typing_extensions import disjoint_base

from fastbars.kernel.ids import Ledger
from fastbars.kernel.instruments import Instruments
from fastbars.kernel.rows import BarRows

SLOT_BYTES: int
"""Memory of one symbol and spec: its open bar and what is known of its past."""

RECORD_BYTES: int
"""Memory of a closed bar that can still be amended."""

@disjoint_base
class BarState(BarRows):
    """Open and closed bars of every symbol and spec; the part of the kernel that only remembers."""

    instruments: Instruments
    ledger: Ledger | None
    specs: tuple[Any, ...]
    next_close_ns: int
    duplicates: int
    voids: int
    """Rows of size 0 taken: their ids are used up, and nothing was traded."""
    is_blank: bool
    """No trade was taken, and nothing noted."""
    trade_times_ns: npt.NDArray[np.int64]
    """int64[n], time of the latest trade of each symbol by its id, ns."""
    def dump(self) -> dict[str, Any]:
        """The whole state as numbers and bytes, for `load` in a process of the same build."""

    def __new__(cls, instruments: Instruments, specs: Iterable[Any], ledger: Ledger | None = None) -> Self: ...
