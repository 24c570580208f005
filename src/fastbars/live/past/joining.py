"""Joining: what a session is given of its past, as inputs that are recorded; the seam decides what is issued when.

Units: times int64 nanoseconds.
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from fastbars.bars import OHLCVBar
from fastbars.clocks import wall_ns
from fastbars.live.callbacks import Notifier
from fastbars.live.delivery_log import decoded, encoded
from fastbars.live.journal import Journal
from fastbars.live.past.beginnings import Beginnings
from fastbars.live.past.seam import Seam


class Joining:
    """Opens lanes, adds bars of the past to them, and joins them with what came live.

    Args:
        notifier: passes bars on.
        journal: where each input is written before it takes effect.

    Attributes:
        bars: of the past that were issued.
        beginnings: of bars in progress that the stream began inside; None: those are shown as they are.
    """

    def __init__(self, notifier: Notifier, journal: Journal) -> None:
        self.bars = 0
        self.beginnings: Beginnings | None = None
        self._notifier = notifier
        self._journal = journal

    @property
    def seam(self) -> Seam:
        """Where the bars wait."""
        return self._notifier.delivery.seam

    def open(self, symbol: str, spec: str, since_ns: int, receive_time_ns: int | None = None) -> int:
        """Hold the live bars of a lane from now on. Returns where its past begins: there, or where it had come to."""
        fields = {"symbol": symbol, "spec": spec, "since_ns": since_ns}
        self._journal.write("past_begins", _or_now(receive_time_ns), fields)
        return self.seam.open((symbol, spec), since_ns)

    def add(
        self, symbol: str, spec: str, bars: Sequence[OHLCVBar], until_ns: int, receive_time_ns: int | None = None
    ) -> list[OHLCVBar]:
        """Issue bars of the past of a lane, in order of time: all there are up to `until_ns`."""
        now_ns = _or_now(receive_time_ns)
        fields = {"symbol": symbol, "spec": spec, "until_ns": until_ns}
        self._journal.write("past", now_ns, fields, lambda: b"[%b]" % b",".join(map(encoded, bars)))
        passing = self.seam.pass_past((symbol, spec), list(bars), until_ns)
        issued = self._notifier.notify_past(passing, now_ns)
        self.bars += len(issued)
        return issued

    def add_recorded(self, symbol: str, spec: str, body: bytes, until_ns: int, receive_time_ns: int) -> list[OHLCVBar]:
        """The same, in a replay. Raises ValueError: it is not what `add` has recorded."""
        listed = orjson.loads(body)
        if not isinstance(listed, list):
            raise ValueError("it lists no bars")
        bars = [decoded(values) for values in listed]
        for bar in bars:
            self._notifier.delivery.earlier.check(bar)
        return self.add(symbol, spec, bars, until_ns, receive_time_ns)

    def join(self, symbol: str, spec: str, receive_time_ns: int | None = None) -> list[OHLCVBar]:
        """The past of a lane ends: issue the bars that were held, and hold no more. Idempotent."""
        now_ns = _or_now(receive_time_ns)
        self._journal.write("past_ends", now_ns, {"symbol": symbol, "spec": spec})
        return self._notifier.notify_joined(self.seam.join((symbol, spec)), now_ns)

    def end(self, symbol: str | None, receive_time_ns: int) -> list[OHLCVBar]:
        """A subscription ends, or (None) the stream: join whatever is open. Not recorded: what ends it is."""
        bars = [
            bar for lane in self.seam.lanes() if symbol is None or lane[0] == symbol for bar in self.seam.join(lane)
        ]
        return self._notifier.notify_joined(bars, receive_time_ns)


def _or_now(receive_time_ns: int | None) -> int:
    return wall_ns() if receive_time_ns is None else receive_time_ns
