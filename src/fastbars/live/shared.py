"""What all streams of a process share: rate limits and listings, as exchanges count by address; and the state files.

This is the only such place. `SHARED` is the process's own; a test clears it with `reset`. Units: seconds.
"""

from __future__ import annotations

from typing import Protocol
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

from fastbars.live.connections.limits import RateLimiter, rest_limit
from fastbars.live.listings import ListingCache

Key = tuple[str, str, str, float, float]


class Reservation(Protocol):
    """A state file reserved for one stream; see `statefile.py`."""

    is_kept: bool

    def release(self) -> None:
        """Release it."""


class Shared:
    """Rate limits by exchange and host, the listings of instruments, and the reserved state files.

    Attributes:
        listings: what exchanges have answered about their instruments.
        state_files: by their paths, those that are reserved, as long as their streams live.
    """

    def __init__(self) -> None:
        self.listings = ListingCache()
        self.state_files: WeakValueDictionary[str, Reservation] = WeakValueDictionary()
        self._limiters: dict[Key, RateLimiter] = {}

    def stream_limiter(self, kind: str, exchange: str, url: str, most: float, window_s: float) -> RateLimiter:
        """The limit that all connections to one host of an exchange keep together.

        Args:
            kind: of the events, such as "connects".
            exchange, url: the exchange counts by host. Its markets may be served by one host.
            most, window_s: the limit; another limit is another limiter.
        """
        return self._limiter(kind, exchange.partition(" ")[0], _host_of(url), most, window_s)

    def rest_limiter(self, budget: str, weight_per_minute: float, rest_url: str | None = None) -> RateLimiter:
        """The limit that all who ask an exchange's REST API keep together.

        Args:
            budget: its name, as declared; markets that the exchange counts together declare the same.
            weight_per_minute: what the exchange allows.
            rest_url: where it is asked, if not at the exchange's own address: that host counts by itself.
        """
        host = "" if rest_url is None else _host_of(rest_url)
        return self._limiter("weights", budget, host, *rest_limit(weight_per_minute))

    def reset(self) -> None:
        """Forget everything, as in a new process."""
        self._limiters.clear()
        self.listings.clear()
        for state_file in list(self.state_files.values()):
            state_file.release()

    def _limiter(self, kind: str, owner: str, host: str, most: float, window_s: float) -> RateLimiter:
        key = kind, owner, host, most, window_s
        limiter = self._limiters.get(key)
        if limiter is None:
            limiter = self._limiters[key] = RateLimiter(most, window_s)
        return limiter


def _host_of(url: str) -> str:
    # With its port, so that "wss://host/a" and "wss://HOST:443/b" are one; without users and passwords.
    try:
        parts = urlsplit(url)
        port = parts.port or {"ws": 80, "http": 80}.get(parts.scheme, 443)
    except ValueError:  # malformed: connecting will say so
        return ""
    return f"{parts.hostname}:{port}"


SHARED = Shared()
