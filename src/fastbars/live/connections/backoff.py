"""When to try again, and when enough is enough. Units: seconds.

Source: https://www.rfc-editor.org/rfc/rfc9110#field.retry-after (a number of seconds, or an HTTP date)
"""

from __future__ import annotations

import random
import re
import ssl
from collections import deque
from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Literal

from websockets.exceptions import InvalidProxy, InvalidStatus, InvalidURI

from fastbars.clocks import wall_ns
from fastbars.live.config import StreamConfig

MOST_RETRY_AFTER_S = 3600.0
_MOST_HEADER_CHARACTERS = 100
_SECONDS = re.compile(r"[0-9]+(?:\.[0-9]*)?")  # some send decimals
_BANS = (403, 418, 429)
_PASSING = (408, 418, 425, 429)
_TRY_LATER = (*_BANS, 503)


class Backoff:
    """Delays between attempts to connect: none, then `first`, doubling up to `most`, each with full jitter.

    It starts over only by `reset`, which belongs after a connection that was good for a while: a server that accepts,
    sends a message and closes would otherwise be hammered.
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
        """The connection was good."""
        self.attempts = 0


class CircuitBreaker:
    """Trips at `threshold` errors within `window` seconds, however many good messages lie between them.

        closed --threshold errors--> open --backed off, connected again--> half open --valid data--> closed
                                      ^--------------any error----------------+

    Attributes:
        state: "closed": errors are few; "open": it has tripped, and a new connection is due after backing off;
            "half open": that connection is up and has yet to prove itself.
        trips: how often it has tripped; `trips_in_row` with less than a window between each and the next.
    """

    def __init__(self, threshold: int, window: float) -> None:
        self.state: Literal["closed", "open", "half open"] = "closed"
        self.trips = self.trips_in_row = 0
        self._window = window
        self._errors: deque[float] = deque(maxlen=threshold)
        self._tripped: float | None = None

    def record(self, now: float) -> bool:
        """Note an error at `now` (any steady clock). True: it has tripped, and starts over."""
        self._errors.append(now)
        few = len(self._errors) < (self._errors.maxlen or 0) or now - self._errors[0] > self._window
        if few and self.state != "half open":
            return False
        if self.state != "open":
            follows = self._tripped is not None and now - self._tripped <= self._window
            self.trips_in_row = self.trips_in_row + 1 if follows else 1
        self.state = "open"
        self.trips += 1
        self._tripped = now
        self._errors.clear()
        return True

    def connected(self) -> None:
        """A connection is up: after a trip it is on trial."""
        if self.state == "open":
            self.state = "half open"

    def succeeded(self) -> None:
        """A valid data message came."""
        if self.state == "half open":
            self.state = "closed"


class RetryPolicy:
    """Whether and when the next attempt to connect is made.

    Attributes:
        backoff, breaker: its parts; the breaker's trips in a row hold the backoff up.
    """

    def __init__(self, config: StreamConfig) -> None:
        self.backoff = Backoff(config.reconnect_delay, config.reconnect_max_delay)
        self.breaker = CircuitBreaker(config.circuit_breaker_threshold, config.circuit_breaker_window)
        self._most_attempts = config.reconnect_attempts
        self._good_after_s = config.reconnect_max_delay

    def judge(self, age_s: float, data_messages: int) -> None:
        """A connection has ended, or is replaced: it was up for so long and brought so many messages of data.

        One message proves nothing. A server that accepts, sends a trade and closes would be asked again without end.
        """
        if data_messages > 0 and age_s >= self._good_after_s:
            self.backoff.reset()
        if self.breaker.state == "open":
            self.backoff.attempts = max(self.backoff.attempts, self.breaker.trips_in_row)

    def next_delay_s(self, held_s: float) -> float | None:
        """Seconds until the next attempt, at least `held_s`; None where no attempt is left."""
        if self._most_attempts is not None and self.backoff.attempts >= self._most_attempts:
            return None
        return max(self.backoff.next_delay(), held_s)


def may_retry(reason: BaseException | int) -> bool:
    """Whether to try again can help, to connect or to ask a REST API: the one place where that is decided.

    False where the address or an option is malformed, and where the certificate was not accepted: what is
    wrong there is wrong the next time too, or an attack.

    Args:
        reason: the error of the attempt, or the HTTP status that answered a request.
    """
    if isinstance(reason, int):
        # Too many requests and faults of the server pass; what is wrong with the request, or its address, stays wrong.
        return not 300 <= reason < 500 or reason in _PASSING
    if isinstance(reason, ssl.SSLCertVerificationError | InvalidURI | InvalidProxy | ImportError):
        return False
    # Other ValueErrors come from options that do not fit; of an OSError one never knows.
    return isinstance(reason, OSError) or not isinstance(reason, ValueError)


def retry_after_s(error: BaseException, ban_s: float) -> float:
    """After how long the server asks to retry, after this error, s; 0 where it does not say.

    Args:
        error: of an attempt to connect.
        ban_s: what is assumed where it has banned this host (HTTP 403, 418, 429) and does not say for how long.
    """
    if not isinstance(error, InvalidStatus) or error.response.status_code not in _TRY_LATER:
        return 0.0
    given_s = seconds_of(error.response.headers.get("Retry-After"))
    if given_s is not None:
        return given_s
    return ban_s if error.response.status_code in _BANS else 0.0


def seconds_of(retry_after: str | None) -> float | None:
    """A Retry-After header, seconds or an HTTP date, as seconds from now; None where there is none or it says nothing.

    At most an hour: a header must not silence a stream for good. A longer ban is announced again.
    """
    if retry_after is None or len(retry_after) > _MOST_HEADER_CHARACTERS:
        return None
    if _SECONDS.fullmatch(retry_after.strip()):
        return min(float(retry_after), MOST_RETRY_AFTER_S)
    try:
        date = parsedate_to_datetime(retry_after)
        date = date if date.tzinfo is not None else date.replace(tzinfo=UTC)  # "-0000" means UTC
        left_s = date.timestamp() - wall_ns() / 1e9
    except (ValueError, TypeError, LookupError, OverflowError):  # what is no date fails in any of these ways
        return None
    return min(max(left_s, 0.0), MOST_RETRY_AFTER_S)


def date_ns_of(date: str | None) -> int | None:
    """A Date header as ns since the epoch; None where there is none or it says nothing."""
    if date is None or len(date) > _MOST_HEADER_CHARACTERS:
        return None
    try:
        time = parsedate_to_datetime(date)
        return int((time if time.tzinfo is not None else time.replace(tzinfo=UTC)).timestamp()) * 10**9
    except (ValueError, TypeError, LookupError, OverflowError):  # as above
        return None
