"""The exchange's clock: the machine's, moved by a fixed offset."""

from __future__ import annotations

from fastbars.clocks import steady_ns, wall_ns

__all__ = ["ExchangeClock"]


class ExchangeClock:
    """Milliseconds since the Unix epoch.

    Args:
        offset_s: how far it is ahead of the machine's clock.
    """

    def __init__(self, offset_s: float = 0.0) -> None:
        # Driven by the steady clock, so that it never steps back even if the wall clock does.
        self._base_ns = wall_ns() + int(offset_s * 1e9) - steady_ns()

    def now_ms(self) -> int:
        """The current time."""
        return (self._base_ns + steady_ns()) // 1_000_000
