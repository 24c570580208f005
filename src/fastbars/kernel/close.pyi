from collections.abc import Iterable
from typing import Any

import numpy.typing as npt
from typing_extensions import disjoint_base

from fastbars.kernel.amend import BarRecords

@disjoint_base
class BarClosing(BarRecords):
    """Opens and closes bars; the arguments are those of `BarRecords`."""

    def load(self, parts: dict[str, Any]) -> None:
        """Take over what `dump` returned; symbols and scales must be there already. All of it is checked.

        Raises:
            ValueError: this kernel has seen trades, or the dump is of another build or another shape, or damaged; the
                kernel is as it was.
        """

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

    def beginning(self, symbol_id: int, longest_ns: int) -> list[tuple[int, int, int]]:
        """Where a symbol began inside bars that can still be amended: (id, time, open_time) of each, ascending.

        Bars that open more than `longest_ns` before the first trade do not count.
        """

    def leave_out(self, symbol_id: int, ranges: Iterable[tuple[int, int]]) -> npt.NDArray[Any]:
        """The exchange's history leaves these ids out: holes that lie in them are unpublished. Returns ROW_DTYPE rows.

        Raises:
            InvalidTickError: they are no ids.
        """

    def reach_back(self, symbol_id: int, trade_id: int, time_ns: int) -> npt.NDArray[Any]:
        """A trade before the symbol's first one is known: bars that open behind it are proven at their beginning.

        What lies between the two is a hole, for `heal`. Returns the bars that lack nothing, as `update` does.
        """
