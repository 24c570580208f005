"""Throttle: at most so many events in any window of time; and those that connections of one host share.

It belongs to no event loop and holds no lock, so that one throttle can serve a whole process. Units: seconds.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from urllib.parse import urlsplit

# On the way to the exchange the network may bunch what was sent apart.
_MARGIN_S = 0.05


class _Booking:
    __slots__ = ("at_s",)

    def __init__(self, at_s: float) -> None:
        self.at_s = at_s


class Throttle:
    """Lets at most `count` events pass in any `window_s`, in the order in which they were asked for.

    Args:
        count: events a window; at least one.
        window_s: how long it is; a little is added for what the network does to the distances.
    """

    def __init__(self, count: float, window_s: float = 1.0) -> None:
        if count < 1:
            count, window_s = 1, window_s / count
        self._window_s = window_s + _MARGIN_S
        self._bookings: deque[_Booking] = deque(maxlen=int(count))
        self._held_until_s = 0.0

    async def wait(self) -> float:
        """Returns when the next event may happen, and counts it; the result is how long that took, s."""
        asked_s = time.monotonic()
        before = self._bookings[0] if len(self._bookings) == self._bookings.maxlen else None
        booking = _Booking(asked_s if before is None else max(asked_s, before.at_s + self._window_s))
        self._bookings.append(booking)
        while True:
            now = time.monotonic()
            free_s = self._held_until_s if before is None else max(self._held_until_s, before.at_s + self._window_s)
            if free_s <= now:
                booking.at_s = now
                return now - asked_s
            await asyncio.sleep(free_s - now)

    def hold(self, seconds: float) -> None:
        """Let nothing pass for so long: the exchange has said so."""
        self._held_until_s = max(self._held_until_s, time.monotonic() + seconds)


_shared: dict[tuple[str, str, str], Throttle] = {}


def shared_throttle(kind: str, exchange: str, url: str, count: float, window_s: float) -> Throttle:
    """The throttle that all connections of this process to one host of an exchange share.

    Args:
        kind: of the events, such as "connects".
        exchange, url: the exchange counts by host.
        count, window_s: the limit; another limit is another throttle.
    """
    venue = exchange.partition(" ")[0]  # its markets may be served by one host
    key = (f"{kind} {count:g}/{window_s:g}", venue, _host(url))
    throttle = _shared.get(key)
    if throttle is None:
        throttle = _shared[key] = Throttle(count, window_s)
    return throttle


def _host(url: str) -> str:
    # With its port, so that "wss://host/a" and "wss://HOST:443/b" are one.
    try:
        parts = urlsplit(url)
        port = parts.port or {"ws": 80, "http": 80}.get(parts.scheme, 443)
    except ValueError:  # it makes no sense, and connecting will say so
        return ""
    return f"{parts.hostname}:{port}"
