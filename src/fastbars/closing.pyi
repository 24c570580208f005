from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from typing_extensions import disjoint_base

from fastbars.instruments import Instruments
from fastbars.ledger import Ledger
from fastbars.state import BarState

class _Spec(Protocol):
    @property
    def rule(self) -> tuple[str, int, int]: ...
    @property
    def boundaries(self) -> npt.NDArray[np.int64] | None: ...

@disjoint_base
class BarClosing(BarState):
    """Opens, closes, amends and judges bars; the part of the kernel that needs no batch.

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
    def __init__(
        self,
        instruments: Instruments,
        specs: Iterable[_Spec],
        ledger: Ledger | None = None,
        proof: bool = True,
        lateness_ns: int = 60_000_000_000,
        horizon_ns: int = 3_600_000_000_000,
        fill: bool = False,
    ) -> None: ...
    def close_until(self, time_ns: int, reason: int) -> npt.NDArray[Any]:
        """Issue the open time bars whose close_time is at or before `time_ns` (ns); reason indexes CloseReason."""

    def flush(self, symbol_id: int | None = None) -> npt.NDArray[Any]:
        """Issue every open bar (of one symbol), in order of first appearance, then of the specs."""

    def current(self, symbol_id: int, spec: int) -> npt.NDArray[Any]:
        """The open bar of a symbol and spec as one row, its status as known now; no row while none is open.

        Raises:
            IndexError: there is no such symbol or spec.
        """

    def feed_down(self, time_ns: int) -> None:
        """The feed is down since this time (ns); nothing changes where it is down already."""

    def feed_up(self, time_ns: int) -> None:
        """The feed is up since this time (ns); nothing changes where it is up already."""

    def advance_watermark(self, time_ns: int) -> None:
        """Event time of the connection has reached `time_ns` (ns): it ages the bars that can be amended."""

    def note_lost(self, symbol_id: int, time_ns: int) -> npt.NDArray[Any]:
        """A trade of this symbol and time was lost: its bars are GAP; issued ones are issued again."""
