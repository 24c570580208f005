"""RetryingClient: requests to one exchange's REST API, within its limits, with retries. Units: seconds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol, TypeVar

from fastbars.errors import ParseError, RestError
from fastbars.exchanges.history import Request
from fastbars.live.connections.limits import RateLimiter
from fastbars.live.rest import Answer, body_of
from fastbars.log import log

_ATTEMPTS = 6  # at one request
_BACKOFF_S = 0.5  # after the first failed attempt; it doubles
_LONGEST_BACKOFF_S = 30.0
_JSON = {"Content-Type": "application/json"}

T = TypeVar("T")


class RequestStats(Protocol):
    """What is counted: requests sent, `errors` of them failed, and seconds spent waiting for the exchange's limits."""

    requests: int
    errors: int
    waited_s: float


class RetryingClient:
    """Asks one REST API.

    Args:
        exchange: name for logs.
        get: fetches a URL, or posts to it, as RestClient does.
        stats: where requests, errors and waiting are counted.
        limiter: of the exchange's request weights.
        url: scheme and host, or more, that a request's path is appended to.
        headers: sent with each request.
        patience_s: a request for which the exchange asks to wait longer than this is given up.
        sleep: waits.
        goes_first: others that share the limiter wait for it, not the other way round.
    """

    def __init__(
        self,
        exchange: str,
        get: Callable[..., Awaitable[Answer]],
        stats: RequestStats,
        limiter: RateLimiter,
        *,
        url: str,
        headers: Mapping[str, str],
        patience_s: float,
        sleep: Callable[[float], Awaitable[object]],
        goes_first: bool = True,
    ) -> None:
        self._exchange = exchange
        self._get = get
        self._stats = stats
        self._wait = limiter.wait if goes_first else limiter.wait_behind
        self._limiter = limiter
        self._url = url.rstrip("/")
        self._headers = headers
        self._patience_s = patience_s
        self._sleep = sleep

    async def fetch(self, request: Request, read: Callable[[Answer], Awaitable[T]]) -> T:
        """What `read` makes of the answer to a request; it is asked again where that raises ParseError.

        Raises:
            RestError: permanent: asking again would not help; else as many attempts as are made have failed.
        """
        url = self._url + request.path
        what = f"{'GET' if request.body is None else 'POST'} {url}"
        for attempt in range(_ATTEMPTS):
            self._stats.waited_s += await self._wait(request.weight)
            self._stats.requests += 1
            backoff_s = min(_BACKOFF_S * 2.0**attempt, _LONGEST_BACKOFF_S)
            try:
                if request.body is None:
                    answer = await self._get(url, request.query, self._headers)
                else:
                    answer = await self._get(url, request.query, {**self._headers, **_JSON}, request.body)
                body_of(answer, what)
                return await read(answer)
            except RestError as error:
                why = str(error)
                if error.retry_after_s is not None:
                    # It counts by address: whoever else asks now would be refused too, and banned for longer.
                    self._limiter.hold(error.retry_after_s)
                    backoff_s = max(backoff_s, error.retry_after_s)
                if error.permanent or backoff_s > self._patience_s:
                    self._stats.errors += 1
                    raise RestError(why, permanent=True) from None
            except ParseError as error:
                why = f"{what}: the answer cannot be read: {error}"
            self._stats.errors += 1
            log.info("rest_failed", exchange=self._exchange, url=url, why=why, retry_in_s=backoff_s)
            if attempt + 1 < _ATTEMPTS:
                self._stats.waited_s += backoff_s
                await self._sleep(backoff_s)
        raise RestError(f"{why} ({_ATTEMPTS} attempts)")
