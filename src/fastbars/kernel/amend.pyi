from collections.abc import Iterable
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt
from typing_extensions import disjoint_base

from fastbars.kernel.ids import Ledger
from fastbars.kernel.instruments import Instruments
from fastbars.kernel.table import BarState

class _Spec(Protocol):
    @property
    def rule(self) -> tuple[str, int, int]: ...
    @property
    def boundaries(self) -> npt.NDArray[np.int64] | None: ...

@disjoint_base
class BarRecords(BarState):
    """Closed bars that can still be amended: amends, proves and judges them.

    Args:
        instruments: the symbols and their scales.
        specs: one or more bar specs.
        ledger: follows the trade ids; None where they prove nothing, and trades are ordered by time, arrival.
        proof: the ids stand for every trade, so that bars can be COMPLETE.
        lateness_ns: how long after its close_time, in event time, a bar can still be amended, ns.
        horizon_ns: likewise, for a bar into which a hole reaches, or whose end is not proven.
        fill: issue intervals without trades, flat at the last close.
    """

    proof: bool
    lateness_ns: int
    horizon_ns: int
    fill: bool
    watermark_ns: int
    healed: int
    """Trades that were taken by `heal`."""
    def __new__(
        cls,
        instruments: Instruments,
        specs: Iterable[_Spec],
        ledger: Ledger | None = None,
        proof: bool = True,
        lateness_ns: int = 60_000_000_000,
        horizon_ns: int = 3_600_000_000_000,
        fill: bool = False,
    ) -> Self: ...
