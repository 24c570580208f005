"""ExchangeClock: the exchange's time as seen from here. Units: int nanoseconds."""

from __future__ import annotations

_WINDOW_NS = 30_000_000_000


class ExchangeClock:
    """Estimates the exchange's clock from the event times of its messages.

    The largest (event time - steady time) of the last 30 to 60 s is the offset: that message travelled fastest.
    So the estimate lags the exchange by the least delay, and a step of the local wall clock does not touch it.
    """

    def __init__(self) -> None:
        self._best: int | None = None
        self._previous: int | None = None
        self._since_ns = 0

    def observe(self, event_time_ns: int, steady_ns: int) -> None:
        """A message that the exchange sent at `event_time_ns` arrived at `steady_ns` of a steady clock."""
        offset = event_time_ns - steady_ns
        if self._best is None or steady_ns - self._since_ns > _WINDOW_NS:
            self._previous, self._best, self._since_ns = self._best, offset, steady_ns
        elif offset > self._best:
            self._best = offset

    def now_ns(self, steady_ns: int) -> int | None:
        """The exchange's time at `steady_ns`; None before the first message with a time."""
        if self._best is None:
            return None
        best = self._best if self._previous is None else max(self._best, self._previous)
        return steady_ns + best
