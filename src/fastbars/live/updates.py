"""UpdateCalls: calls `on_update` with the bars in progress that have changed, in slices, behind the bars issued before.

No callback is called while an issued bar still waits for its own (see `callbacks.py`): so an update comes behind the
bar before it, and an issued bar waits for none longer than a slice. Units: seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fastbars.bars import OHLCVBar
from fastbars.clocks import steady_ns
from fastbars.live.callbacks import Notifier
from fastbars.live.delivery import A_LOOK, SLICE_NS
from fastbars.live.open_bars import OpenBars


class UpdateCalls:
    """Calls one callback for the bars in progress of a session, while `run` runs.

    Args:
        notifier: of the session; it calls it, and counts its errors.
        open_bars: what has changed.
        on_update: the user's.
    """

    def __init__(self, notifier: Notifier, open_bars: OpenBars, on_update: Callable[[OHLCVBar], object]) -> None:
        self._notifier = notifier
        self._open_bars = open_bars
        self._on_update = on_update

    async def run(self) -> None:
        """Call it in each round, until cancelled."""
        while True:
            await asyncio.sleep(self._open_bars.wait_s)
            if not self._notifier.is_behind:
                self._call_some(steady_ns() + SLICE_NS)

    def _call_some(self, until_ns: int) -> None:
        delivery = self._notifier.delivery
        while bars := self._open_bars.take(A_LOOK):
            issued = delivery.next_number
            for place, bar in enumerate(bars, 1):
                self._notifier.call(self._on_update, bar)
                if delivery.next_number != issued:  # the callback has closed bars, which may be among these
                    self._open_bars.give_back(bars[place:])
                    return
            if steady_ns() >= until_ns:
                return
