"""PageClient: fetches pages of past trades from one exchange's REST API, within its limits, with retries.

Units: seconds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fastbars.errors import ParseError, RestError
from fastbars.exchanges.history import History, Hole, Page, read_page
from fastbars.live.connections.limits import RateLimiter
from fastbars.live.rest import Get, body_of
from fastbars.log import log

_ATTEMPTS = 6  # at one page
_BACKOFF_S = 0.5  # after the first failed attempt; it doubles
_LONGEST_BACKOFF_S = 30.0


@dataclass(slots=True)
class HealingStats:
    """What healing has done.

    Attributes:
        requests: GETs sent; `errors` of them failed.
        trades: trades received.
        passes: times that a hole was paged through.
        given_up: holes that stay.
        unpublished: missing ids that the REST API leaves out for good, though it has both their neighbours.
        waited_s: seconds spent waiting for the exchange's limits.
    """

    requests: int = 0
    errors: int = 0
    trades: int = 0
    passes: int = 0
    given_up: int = 0
    unpublished: int = 0
    waited_s: float = 0.0


class PageClient:
    """Fetches the pages of one history.

    Args:
        exchange: name for logs.
        history: what the REST API serves.
        get: fetches a URL.
        stats: where requests, errors and waiting are counted.
        limiter: of the exchange's request weights.
        api_key: sent where the history needs one.
        url: asks here instead of the history's own address.
        patience_s: a page for which the exchange asks to wait longer than this is given up.
        sleep: waits.
    """

    def __init__(
        self,
        exchange: str,
        history: History,
        get: Get,
        stats: HealingStats,
        limiter: RateLimiter,
        *,
        api_key: str | None,
        url: str | None,
        patience_s: float,
        sleep: Callable[[float], Awaitable[object]],
    ) -> None:
        self.history = history
        self.lacks_key = history.key_header is not None and api_key is None
        self._headers = {} if history.key_header is None or api_key is None else {history.key_header: api_key}
        self._exchange = exchange
        self._get = get
        self._stats = stats
        self._limiter = limiter
        self._url = (url or history.api.url).rstrip("/")
        self._patience_s = patience_s
        self._sleep = sleep

    async def fetch(self, hole: Hole, position: int) -> Page:
        """One page, at a position that the history's paging understands.

        Raises:
            RestError: permanent: asking again would not help; else as many attempts as are made have failed.
        """
        request = self.history.request(hole, position)
        url = self._url + request.path
        for attempt in range(_ATTEMPTS):
            self._stats.waited_s += await self._limiter.wait(request.weight)
            self._stats.requests += 1
            backoff_s = min(_BACKOFF_S * 2.0**attempt, _LONGEST_BACKOFF_S)
            try:
                body = body_of(await self._get(url, request.query, self._headers), f"GET {url}")
                return read_page(self.history, hole.symbol, body)
            except RestError as error:
                why = str(error)
                backoff_s = max(backoff_s, error.retry_after_s or 0.0)
                if error.permanent or backoff_s > self._patience_s:
                    self._stats.errors += 1
                    raise RestError(why, permanent=True) from None
            except ParseError as error:
                why = f"GET {url}: the answer cannot be read: {error}"
            self._stats.errors += 1
            log.info("rest_failed", exchange=self._exchange, url=url, why=why, retry_in_s=backoff_s)
            if attempt + 1 < _ATTEMPTS:
                self._stats.waited_s += backoff_s
                await self._sleep(backoff_s)
        raise RestError(f"{why} ({_ATTEMPTS} attempts)")
