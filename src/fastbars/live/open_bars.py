"""OpenBars: the bars in progress as one consumer is given them: those that changed, each at most once an interval.

Nothing is queued and no trade pays for it. A round begins once the interval is over and goes through all symbols and
specs; a bar is read when the consumer takes it. So it is as new as can be, however slow the consumer is, and an update
of a bar that was issued meanwhile does not exist.

    idle --`interval_s` after the last round began--> a round --all were looked at--> idle

Units: seconds.
"""

from __future__ import annotations

from collections.abc import Iterable

from fastbars.bars import OHLCVBar
from fastbars.clocks import steady_s
from fastbars.kernel.progress import Progress
from fastbars.live.intake import Intake
from fastbars.live.past.beginnings import Beginnings
from fastbars.live.past.seam import Seam

_A_LOOK = 1 << 16  # bars looked at before the event loop has its turn: some 3 ms


class OpenBars:
    """The changed bars in progress of one session, for one consumer.

    Args:
        intake: where they are made.
        seam: holds issued bars whose past comes first; of those symbols and specs none is given meanwhile.
        interval_s: between two rounds, of which each has a bar at most once.
        beginnings: what bars lack because the stream began inside them; None: they are given as they are.

    Raises:
        ValueError: the interval is not positive.
    """

    def __init__(self, intake: Intake, seam: Seam, interval_s: float, beginnings: Beginnings | None = None) -> None:
        check_interval(interval_s)
        self._intake = intake
        self._seam = seam
        self._beginnings = beginnings
        self._begun = 0  # beginnings that were had
        if beginnings is not None:
            beginnings.want_all()
        self._interval_s = interval_s
        self._progress = Progress()
        self._next_s = steady_s()  # when the next round begins
        self._at: int | None = None  # where the round goes on; None: there is none

    @property
    def wait_s(self) -> float:
        """How long there will be none to take, at least; 0 in a round."""
        return max(0.0, self._next_s - steady_s()) if self._at is None else 0.0

    def take(self, most: int = 1) -> list[OHLCVBar]:
        """Up to so many of those that changed; none where the round is over, or has gone through many without one."""
        buffer, beginnings = self._intake.buffer, self._beginnings
        if self._at is None:
            now_s = steady_s()
            if now_s < self._next_s:
                return []
            self._next_s = now_s + self._interval_s
            self._at = 0
        if buffer is None:
            self._at = None
            return []
        if not self._at and beginnings is not None:
            self._forget(beginnings.had[self._begun :])  # no trade has changed those
            self._begun = len(beginnings.had)
        bars, behind = buffer.changed(self._progress, self._at, look=_A_LOOK, most=most)
        self._at = None if behind < 0 else behind
        if self._seam.is_open:
            held = [bar for bar in bars if self._seam.is_lane_open((bar.symbol, bar.spec))]
            self.give_back(held)
            bars = [bar for bar in bars if bar not in held]
        return bars if beginnings is None else list(map(beginnings.shown, bars))

    def give_back(self, bars: Iterable[OHLCVBar]) -> None:
        """They were taken, and not looked at: the next round has them, as they are then."""
        self._forget((bar.symbol, bar.spec) for bar in bars)

    def _forget(self, pairs: Iterable[tuple[str, str]]) -> None:
        buffer = self._intake.buffer
        if buffer is not None:
            for symbol, spec in pairs:
                self._progress.forget(buffer.instruments.id(symbol), buffer.spec_names.index(spec))


def check_interval(interval_s: float) -> None:
    """Raise ValueError for seconds between updates that cannot be."""
    if not 0 < interval_s < float("inf"):
        raise ValueError(f"updates must be a positive number of seconds, got {interval_s!r}")
