"""When to try again, and when enough is enough: Backoff and CircuitBreaker. Units: seconds."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable


class Backoff:
    """Delays between attempts to connect: none, then `first`, doubling up to `most`, each with full jitter.

    It starts over only by `reset`, which belongs after a valid data message: a server that accepts and then
    refuses would otherwise be hammered.
    """

    def __init__(self, first: float, most: float, draw: Callable[[], float] = random.random) -> None:
        self.attempts = 0
        self._first = first
        self._most = most
        self._draw = draw

    def next_delay(self) -> float:
        """Seconds to wait before the next attempt."""
        attempt, self.attempts = self.attempts, self.attempts + 1
        if attempt == 0:
            return 0.0
        return min(self._most, self._first * 2.0 ** min(attempt - 1, 32)) * self._draw()

    def reset(self) -> None:
        """A valid data message came: the connection is good."""
        self.attempts = 0


class CircuitBreaker:
    """Trips at `threshold` errors within `window` seconds, however many good messages lie between them."""

    def __init__(self, threshold: int, window: float) -> None:
        self._window = window
        self._errors: deque[float] = deque(maxlen=threshold)

    def record(self, now: float) -> bool:
        """Note an error at `now` (any steady clock). True: it has tripped, and starts over."""
        self._errors.append(now)
        if len(self._errors) < (self._errors.maxlen or 0) or now - self._errors[0] > self._window:
            return False
        self._errors.clear()
        return True
