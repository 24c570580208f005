"""PageClient: fetches pages of past trades from one exchange's REST API, within its limits, with retries.

Units: seconds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fastbars.errors import RestError
from fastbars.exchanges.history import History, Hole, Page, Request, read_page
from fastbars.live.connections.limits import RateLimiter
from fastbars.live.rest import Answer, Get
from fastbars.live.retries import RequestStats, RetryingClient


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
        goes_first: as in RetryingClient.
    """

    def __init__(
        self,
        exchange: str,
        history: History,
        get: Get,
        stats: RequestStats,
        limiter: RateLimiter,
        *,
        api_key: str | None,
        url: str | None,
        patience_s: float,
        sleep: Callable[[float], Awaitable[object]],
        goes_first: bool = True,
    ) -> None:
        self.history = history
        self.lacks_key = history.key_header is not None and api_key is None
        self._client = RetryingClient(
            exchange, get, stats, limiter,
            url=url or history.api.url,
            headers={} if history.key_header is None or api_key is None else {history.key_header: api_key},
            patience_s=patience_s, sleep=sleep, goes_first=goes_first,
        )  # fmt: skip

    async def fetch(self, hole: Hole, position: int) -> Page:
        """One page, at a position that the history's paging understands.

        Raises:
            RestError: permanent: asking again would not help; else as many attempts as are made have failed.
        """
        return await self._ask(hole.symbol, self.history.request(hole, position))

    async def latest(self, symbol: str) -> Page:
        """The latest trades. Raises RestError: as `fetch`, or because the exchange does not serve them alone."""
        request = self.history.latest_request(symbol)
        if request is None:
            raise RestError(f"{symbol}: the REST API does not say which trade is the latest", permanent=True)
        return await self._ask(symbol, request)

    async def _ask(self, symbol: str, request: Request) -> Page:
        async def read(answer: Answer) -> Page:
            return read_page(self.history, symbol, answer.body)

        return await self._client.fetch(request, read)
