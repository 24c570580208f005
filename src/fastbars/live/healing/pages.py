"""PageClient: fetches pages of past trades from one exchange's REST API, within its limits, with retries.

Units: seconds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fastbars.exchanges.history import History, Hole, Page, read_page
from fastbars.live.connections.limits import RateLimiter
from fastbars.live.rest import Answer, Get
from fastbars.live.retries import RetryingClient


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
        self._client = RetryingClient(
            exchange, get, stats, limiter,
            url=url or history.api.url,
            headers={} if history.key_header is None or api_key is None else {history.key_header: api_key},
            patience_s=patience_s, sleep=sleep,
        )  # fmt: skip

    async def fetch(self, hole: Hole, position: int) -> Page:
        """One page, at a position that the history's paging understands.

        Raises:
            RestError: permanent: asking again would not help; else as many attempts as are made have failed.
        """

        async def read(answer: Answer) -> Page:
            return read_page(self.history, hole.symbol, answer.body)

        return await self._client.fetch(self.history.request(hole, position), read)
