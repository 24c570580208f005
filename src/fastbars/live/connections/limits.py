"""RateLimiter: at most so much weight in any window of time; for frames, for new connections, and for REST requests.

It belongs to no event loop and holds no lock, so that one limiter can serve a whole process (see `live/shared.py`).
Units: seconds; weights as the exchange counts them, 1 an event where it counts events.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from fastbars.clocks import steady_s

# On the way to the exchange the network may bunch what was sent apart.
_MARGIN_S = 0.05
_LEAST_SLEEP_S = 1e-9  # less is what rounding leaves of a wait that is over
# Of a REST API's weights a minute so much is used, in as many parts as there are windows: no minute takes more. Longer
# windows would make a late request wait longer, shorter ones would leave much unused between requests of much weight.
_REST_SHARE = 0.95
_REST_WINDOWS = 4
# Of a window so much is left to those who do not wait behind others.
_LEFT_SHARE = 0.25
_LEAST_WAIT_S = 0.01  # between two looks of one who waits behind others


class _Booking:
    __slots__ = ("at_s", "weight")

    def __init__(self, at_s: float, weight: float) -> None:
        self.at_s = at_s
        self.weight = weight


class RateLimiter:
    """Lets events of at most `most` weight pass in any `window_s`, in the order in which they were asked for.

    Args:
        most: weight a window; of less than 1, one event in as much longer a window.
        window_s: how long it is; a little is added for what the network does to the distances.
        now, sleep: a steady clock and waiting by it; a test has its own.
    """

    def __init__(
        self,
        most: float,
        window_s: float = 1.0,
        *,
        now: Callable[[], float] = steady_s,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        if most < 1:
            most, window_s = 1, window_s / most
        self._most = most
        self._window_s = window_s + _MARGIN_S
        self._now = now
        self._sleep = sleep
        self._bookings: deque[_Booking] = deque()  # those that still weigh on later ones
        self._booked = 0.0  # their weight
        self._last: _Booking | None = None
        self._held_until_s = 0.0

    async def wait(self, weight: float = 1.0) -> float:
        """Wait until the next event may happen, and count it; returns the seconds waited.

        An event that weighs more than a whole window passes alone.
        """
        asked_s = self._now()
        before, last = self._make_room(weight), self._last
        booking = self._last = _Booking(max(asked_s, self._free_s(before, last)), min(weight, self._most))
        self._bookings.append(booking)
        self._booked += booking.weight
        while True:
            now = self._now()
            left_s = self._free_s(before, last) - now
            if left_s < _LEAST_SLEEP_S:
                booking.at_s = now
                return now - asked_s
            await self._sleep(left_s)

    async def wait_behind(self, weight: float = 1.0) -> float:
        """Wait as `wait` does, but without a place in the queue; returns the seconds waited.

        Whoever calls `wait` meanwhile goes first, and a quarter of each window is left to such callers.
        """
        asked_s = self._now()
        # As much as can ever be free: an event that weighs nearly a window passes when the window is empty.
        left = min(self._most * _LEFT_SHARE, max(self._most - weight, 0.0))
        while (delay_s := self.delay_s(weight + left)) > 0:
            await self._sleep(max(delay_s, _LEAST_WAIT_S))
        await self.wait(weight)
        return self._now() - asked_s

    def delay_s(self, weight: float = 1.0) -> float:
        """How long `wait` would take if it were asked now, s."""
        over, before = self._booked + min(weight, self._most) - self._most, None
        for booking in self._bookings:
            if over <= 0:
                break
            over, before = over - booking.weight, booking
        return max(0.0, self._free_s(before, self._last) - self._now())

    def hold(self, seconds: float) -> None:
        """Let nothing pass for this long, as the exchange has demanded."""
        self._held_until_s = max(self._held_until_s, self._now() + seconds)

    def _make_room(self, weight: float) -> _Booking | None:
        # Those that must have left the window before an event of this weight passes; the last of them says when that
        # is. Later events pass later still, so that they need not be checked again.
        last_to_leave = None
        while self._bookings and self._booked + min(weight, self._most) > self._most:
            last_to_leave = self._bookings.popleft()
            self._booked -= last_to_leave.weight
        return last_to_leave

    def _free_s(self, before: _Booking | None, last: _Booking | None) -> float:
        # When both have passed long enough ago. It is asked again after each sleep: a hold moves what was booked.
        free_s = self._held_until_s
        if last is not None:
            free_s = max(free_s, last.at_s)  # nothing overtakes
        return free_s if before is None else max(free_s, before.at_s + self._window_s)


def rest_limit(weight_per_minute: float) -> tuple[float, float]:
    """The (weight, window in seconds) that is kept where the exchange allows so much a minute."""
    return _REST_SHARE * weight_per_minute / _REST_WINDOWS, 60.0 / _REST_WINDOWS
