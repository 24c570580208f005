from typing import Self

from typing_extensions import disjoint_base

@disjoint_base
class ExchangeClock:
    """Estimates the exchange's clock from the event times of its messages.

    The largest (event time - steady time) of the last 30 to 60 s is the offset: that message travelled fastest.
    So the estimate lags the exchange by the least delay, and a step of the local wall clock does not touch it.
    """

    def __new__(cls) -> Self: ...
    def leaps(self, event_time_ns: int, now_ns: int) -> bool:
        """Whether an event time is garbage: one far ahead of the exchange's clock is; two in a row are not."""

    def observe(self, event_time_ns: int, steady_ns: int) -> None:
        """A message that the exchange sent at `event_time_ns` arrived at `steady_ns` of a steady clock."""

    def now_ns(self, steady_ns: int) -> int | None:
        """The exchange's time at `steady_ns`; None before the first message with a time."""

    def note_wall(self, wall_ns: int, steady_ns: int | None) -> None:
        """The local wall clock showed `wall_ns` when the steady clock showed `steady_ns`."""

    @property
    def offset_ns(self) -> int | None:
        """The exchange's clock less the local wall clock, when both were last read; None before.

        The least delay of a message is in it: it makes the exchange's clock seem that much slow.
        """

@disjoint_base
class TradeDelays:
    """How late trades come, by the exchange's clock as estimated here; and the grace that this asks for.

    A delay counts from the trade's time to its arrival, less the least delay of a message, which the clock lags. Those
    above 10 s say nothing (trades of the past that an exchange sends by itself): no grace waits for them.
    A histogram of fixed buckets, an eighth of an octave each: what it says is at most 12.5 % too much.

    Args:
        grace_ns: stays as it is given; negative: it is learned.
    """

    @property
    def grace_ns(self) -> int: ...
    @property
    def samples(self) -> int: ...
    def __new__(cls, grace_ns: int = -1) -> Self: ...
    def add(self, delay_ns: int) -> bool:
        """Take one trade's delay. True: the grace has changed."""

    def quantile_ns(self, share: float) -> int:
        """The delay that this share of the latest trades did not exceed, at most 12.5 % too much; 0 without any."""
