"""CandleClient: the candles of an exchange over REST, page by page, within its limits, with retries.

It has no socket and no clock of its own. Units: times int64 nanoseconds since the Unix epoch, UTC; seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

from fastbars.bars import BarSpec, ExchangeBar
from fastbars.clocks import wall_ns
from fastbars.errors import ParseError, RestError, SpecError
from fastbars.exchanges.candles import CandleAsk, CandleHistory, finest_of, grid_of, read_candles
from fastbars.exchanges.checked import LATEST_NS
from fastbars.exchanges.declaration import Exchange
from fastbars.live.connections.limits import RateLimiter
from fastbars.live.rest import Answer, Fetch
from fastbars.live.retries import RetryingClient
from fastbars.ticks import to_nanoseconds

_PART = 100  # candles read between two turns of the event loop
_SECOND_NS = 10**9


@dataclass(slots=True)
class CandleStats:
    """What was asked for.

    Attributes:
        requests: requests sent; `errors` of them failed.
        candles: closed candles received, with trades or without.
        waited_s: seconds spent waiting for the exchange's limits.
    """

    requests: int = 0
    errors: int = 0
    candles: int = 0
    waited_s: float = 0.0


class PastCandles(NamedTuple):
    """Candles, and the open times for which they are all that there are.

    Attributes:
        candles: closed ones, ascending by open time; intervals without trades have none.
        since_ns: the first open time served: later than the one asked for where the exchange does not reach so far
            back.
        until_ns: exclusive: the interval that begins here has not ended, or was not asked for.
    """

    candles: list[ExchangeBar]
    since_ns: int
    until_ns: int


class CandleClient:
    """Asks one exchange for its own candles.

    Its requests wait behind those of healing, which share the limiter.

    Args:
        exchange: has a `candle_history`.
        get: fetches a URL, or posts to it: a RestClient.
        limiter: of the exchange's request weights, which others share.
        url: asks here instead of the exchange's own address.
        patience_s: a request for which the exchange asks to wait longer than this is given up.
        exchange_time_ns: the exchange's time now.
        sleep: waits.

    Attributes:
        stats: what was asked for.

    Raises:
        RestError: the exchange serves no candles over REST.
    """

    def __init__(
        self,
        exchange: Exchange,
        get: Fetch,
        limiter: RateLimiter,
        *,
        url: str | None = None,
        patience_s: float = 120.0,
        exchange_time_ns: Callable[[], int] = wall_ns,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        history = exchange.candle_history
        if history is None:
            raise RestError(f"{exchange.name} serves no candles over REST", permanent=True)
        self.stats = CandleStats()
        self.history: CandleHistory = history
        self._exchange = exchange
        self._exchange_time_ns = exchange_time_ns
        self._sleep = sleep
        self._at_once = asyncio.Semaphore(history.at_once)
        self._client = RetryingClient(
            exchange.name, get, self.stats, limiter,
            url=url or history.api.url,
            headers={}, patience_s=patience_s, sleep=sleep, goes_first=False,
        )  # fmt: skip

    def supports(self, spec: str | BarSpec) -> bool:
        """Whether the exchange serves candles of a spec."""
        return str(spec) in self.history.intervals

    def finest(self, spec: str | BarSpec) -> str | None:
        """The longest spec served of which bars of `spec` can be merged, itself included; None: there is none."""
        return finest_of(self.history.intervals, str(spec))

    async def candles(self, symbol: str, spec: str, since_ns: int, until_ns: int) -> list[ExchangeBar]:
        """The closed candles of a span, ascending by open time; those of intervals without trades are left out.

        Args:
            symbol: as the exchange writes it.
            spec: one that it `supports`.
            since_ns, until_ns: open times, the second exclusive. A span that reaches beyond now ends now.

        Raises:
            RestError, SpecError: as `past`.
        """
        return (await self.past(symbol, spec, since_ns, until_ns)).candles

    async def past(self, symbol: str, spec: str, since_ns: int, until_ns: int) -> PastCandles:
        """The same, and for which open times they are all that there are.

        All are held until the last has come, at about 1 kB each: ask for a long span in parts.

        A candle that ended a moment ago is waited for, until the exchange has it with its last trades.

        Raises:
            RestError: the exchange refuses, or does not answer as it should; it names exchange, symbol and spec.
            SpecError: a spec that is not served.
        """
        history = self._served(symbol, spec)
        grid = grid_of(spec)
        # Rounded up within what can be a time at all, so that no odd bound is computed with.
        since_ns, until_ns = (grid.ceil(min(max(at_ns, 0), LATEST_NS)) for at_ns in (since_ns, until_ns))
        until_ns = min(until_ns, grid.floor(self._exchange_time_ns()))
        since_ns = max(since_ns, history.reach_ns(spec, self._exchange_time_ns()))
        if since_ns >= until_ns:
            return PastCandles([], min(since_ns, until_ns), until_ns)
        await self._settle(until_ns)
        found: dict[int, ExchangeBar] = {}
        until_served_ns = until_ns
        left = since_ns, until_ns
        while left[0] < left[1]:
            ask = history.ask(symbol, spec, *left, self._exchange_time_ns())
            page, date_ns = await self._page(ask)
            for candle in page:
                open_ns, close_ns = to_nanoseconds(candle.open_time), to_nanoseconds(candle.close_time)
                # Whatever the clock here says: what the exchange, or its server's clock, calls open, is open.
                if candle.is_closed is False or (date_ns is not None and close_ns >= date_ns + _SECOND_NS):
                    until_served_ns = min(until_served_ns, open_ns)
                else:
                    found[open_ns] = candle
            # What it reaches back to moves on while it is asked.
            reach_ns = history.reach_ns(spec, self._exchange_time_ns())
            if ask.since_ns < reach_ns:
                since_ns = max(since_ns, min(reach_ns, ask.until_ns))
            left = history.left(ask, left, page)
        candles = [found[open_ns] for open_ns in sorted(found) if since_ns <= open_ns < until_served_ns]
        self.stats.candles += len(candles)
        return PastCandles([one for one in candles if _has_trades(one)], since_ns, until_served_ns)

    async def running(self, symbol: str, spec: str) -> ExchangeBar | None:
        """The candle in progress; None where the exchange has none yet, or does not serve it.

        Raises:
            RestError, SpecError: as `past`.
        """
        history = self._served(symbol, spec)
        grid = grid_of(spec)
        open_ns = grid.floor(self._exchange_time_ns())
        page, date_ns = await self._page(history.ask(symbol, spec, open_ns, grid.shift(open_ns, 1), open_ns))
        if not page or page[-1].is_closed or not _has_trades(page[-1]):
            return None
        if date_ns is not None and to_nanoseconds(page[-1].close_time) < date_ns:
            return None  # the clock here is slow: it has ended
        return replace(page[-1], is_closed=False)

    def _served(self, symbol: str, spec: str) -> CandleHistory:
        if not self.supports(spec):
            served = ", ".join(self.history.intervals)
            raise SpecError(f"{self._exchange.name} {symbol}: no candles of {spec!r} over REST; those are {served}")
        return self.history

    async def _settle(self, until_ns: int) -> None:
        # Wait until the last candle wanted can be had whole.
        left_ns = until_ns + int(self.history.settles_s * 1e9) - self._exchange_time_ns()
        if left_ns > 0:
            await self._sleep(left_ns / 1e9)

    async def _page(self, ask: CandleAsk) -> tuple[list[ExchangeBar], int | None]:
        # The candles of one answer, ascending, and the time of the server.
        negative_prices = self._exchange.negative_prices
        exchange, market = self._exchange.identity
        where = f"{self._exchange.name} {ask.symbol} {ask.spec}"

        async def read(answer: Answer) -> tuple[list[ExchangeBar], int | None]:
            found: list[ExchangeBar] = []
            try:
                for candle in read_candles(self.history, ask, answer.body, negative_prices=negative_prices):
                    found.append(replace(candle, exchange=exchange, market=market))
                    if len(found) % _PART == 0:
                        await asyncio.sleep(0)
            except ParseError as error:
                raise ParseError(f"{where}: {error}") from error
            if len(found) > 1 and found[0].open_time > found[-1].open_time:
                found.reverse()
            return found, answer.date_ns

        async with self._at_once:
            try:
                return await self._client.fetch(self.history.request(ask), read)
            except RestError as error:
                told = str(error)
                raise RestError(
                    told if told.startswith(where) else f"{where}: {told}",
                    permanent=error.permanent, retry_after_s=error.retry_after_s,
                ) from error  # fmt: skip


def _has_trades(candle: ExchangeBar) -> bool:
    return bool(candle.volume) or bool(candle.trade_count)
