def steady_ns() -> int:
    """The steady clock: that of `time.monotonic_ns`, of asyncio's timers and of uvloop's."""

def steady_s() -> float:
    """The steady clock in seconds, as `loop.time()` tells it."""

def wall_ns() -> int:
    """The time of day: that of `time.time_ns`. It may step back."""

def hold(steady_ns: int, wall_ns: int) -> None:
    """Let both clocks of this process stand still at these times, until they are held at others or released.

    For tests. The timers of an event loop do not follow by themselves: its `time` has to read `steady_s`, too.
    """

def release() -> None:
    """Let the clocks run again."""
