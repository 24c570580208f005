"""ExchangeClock and TradeDelays: the exchange's time as seen from here, and how late trades come by it.

Units: int nanoseconds, where a name does not say otherwise.
"""

from __future__ import annotations

from bisect import bisect_left

_WINDOW_NS = 30_000_000_000
_LEAP_NS = 3_600_000_000_000

_MS = 1_000_000
# Upper ends of the histogram's buckets: eight an octave, from 1 ms to 16 s.
_ENDS = tuple(_MS * (8 + i % 8 << i // 8) // 8 for i in range(8 * 14 + 1))
_ENOUGH = 1000  # samples before a grace is learned
_EVERY = 128  # samples between two looks
_MOST_SAMPLES = 2**16  # then all count half, so that what was long ago fades
_QUANTILE = 0.999
FIRST_GRACE_NS = 1_000_000_000
LEAST_GRACE_NS = 50_000_000
MOST_GRACE_NS = 10_000_000_000


class ExchangeClock:
    """Estimates the exchange's clock from the event times of its messages.

    The largest (event time - steady time) of the last 30 to 60 s is the offset: that message travelled fastest.
    So the estimate lags the exchange by the least delay, and a step of the local wall clock does not touch it.
    """

    def __init__(self) -> None:
        self._best: int | None = None
        self._previous: int | None = None
        self._since_ns = 0
        self._leapt = False
        self._met: tuple[int, int] | None = None

    def leaps(self, event_time_ns: int, now_ns: int) -> bool:
        """Whether an event time is garbage: one far ahead of the exchange's clock is; two in a row are not."""
        self._leapt = event_time_ns - now_ns > _LEAP_NS and not self._leapt
        return self._leapt

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

    def note_wall(self, wall_ns: int, steady_ns: int | None) -> None:
        """The local wall clock showed `wall_ns` when the steady clock showed `steady_ns`."""
        if steady_ns is not None:
            self._met = wall_ns, steady_ns

    @property
    def offset_ns(self) -> int | None:
        """The exchange's clock less the local wall clock, when they last met; None before.

        The least delay of a message is in it: it makes the exchange's clock seem that much behind.
        """
        if self._met is None:
            return None
        wall_ns, steady_ns = self._met
        now_ns = self.now_ns(steady_ns)
        return None if now_ns is None else now_ns - wall_ns


class TradeDelays:
    """How late trades come, by the exchange's clock as estimated here; and the grace that this asks for.

    A delay counts from the trade's time to its arrival, less the least delay of a message, which the clock lags. Those
    above `MOST_GRACE_NS` say nothing (trades of the past that an exchange sends by itself): no grace waits for them.
    A histogram of fixed buckets, an eighth of an octave each: what it says is at most 12.5 % too much.
    """

    def __init__(self) -> None:
        self.grace_ns = FIRST_GRACE_NS
        self.samples = 0
        self._counts = [0] * len(_ENDS)
        self._total = 0
        self._until_look = _ENOUGH

    def add(self, delay_ns: int) -> bool:
        """Take one trade's delay. True: the grace has changed."""
        if delay_ns > MOST_GRACE_NS:
            return False
        self._counts[bisect_left(_ENDS, delay_ns)] += 1
        self._total += 1
        self.samples += 1
        self._until_look -= 1
        if self._until_look:
            return False
        self._until_look = _EVERY
        before = self.grace_ns
        self.grace_ns = max(LEAST_GRACE_NS, min(self.quantile_ns(_QUANTILE), MOST_GRACE_NS))
        if self._total >= _MOST_SAMPLES:
            self._counts = [count // 2 for count in self._counts]
            self._total = sum(self._counts)
        return self.grace_ns != before

    def quantile_ns(self, share: float) -> int:
        """The delay that this share of the latest trades did not exceed, at most 12.5 % too much; 0 without any."""
        left = share * self._total
        for end, count in zip(_ENDS, self._counts, strict=True):
            left -= count
            if left <= 0 and self._total:
                return end
        return 0
