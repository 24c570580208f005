from typing import Self, final

from fastbars.kernel.ids import Ledger
from fastbars.kernel.instruments import Instruments
from fastbars.kernel.trees import SpecTrees

SLOT_BYTES: int
"""Memory of one symbol and spec: its open bar and what is known of its past."""

RECORD_BYTES: int
"""Memory of a closed bar that can still be amended."""

@final
class BarTable:
    """What a `BarKernel` remembers; without one it is of no use."""

    def __new__(cls, instruments: Instruments, trees: SpecTrees, ledger: Ledger | None) -> Self: ...
