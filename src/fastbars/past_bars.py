"""`fastbars.history`: bars of the past alone, of past trades or of the exchange's own candles, as columns.

Units: times int64 nanoseconds since the Unix epoch, UTC.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from fastbars.bars import OHLCVBar, begins, path_number
from fastbars.callbacks import check_callbacks
from fastbars.clocks import wall_ns
from fastbars.columnar.bar_batch import BarBatch
from fastbars.errors import RestError
from fastbars.exchanges import find_exchange
from fastbars.exchanges.declaration import Exchange
from fastbars.kernel.instruments import Instruments
from fastbars.live.config import StreamConfig
from fastbars.live.healing.pages import HealingStats, PageClient
from fastbars.live.past.candles import CandleClient
from fastbars.live.past.jobs import CANDLES_AT_ONCE, TooManyTradesError, pages_of
from fastbars.live.past.plan import HistoryFrom, Plan, make_plan
from fastbars.live.past.reports import filled, reported_bars
from fastbars.live.past.spans import Reach, Since, Span, check_reach, length_of, open_of, shifted
from fastbars.live.past.trades import PastTrades
from fastbars.live.rest import RestClient
from fastbars.live.shared import SHARED
from fastbars.specs import BarSpec
from fastbars.ticks import to_datetime, to_nanoseconds

Position = Mapping[tuple[str, str], datetime]
"""(symbol, spec) -> the time up to which all bars were given."""

_BATCH = 10_000  # bars, at most about so many at a time
_CLOCKS_DIFFER_NS = 5_000_000_000  # what ended less than this ago may lack trades


class Progress(NamedTuple):
    """How far a history has come.

    Attributes:
        symbol, specs: those that bars were given of.
        reached: up to where all their bars were given.
        until: where they end.
        bars: given so far, of all symbols.
    """

    symbol: str
    specs: tuple[str, ...]
    reached: datetime
    until: datetime
    bars: int


class PastBars:
    """The past of some symbols, as BarBatches in order of time for each symbol and spec; made by `history`.

    Iterate over it with `for` or `async for`, or take it whole by `to_batch()`. Each iteration asks the exchange anew,
    from `position` on: one that was left, or that failed, is continued by the next.

    Attributes:
        position: (symbol, spec) -> the time up to which all bars were given; `since=` of another call takes it.
    """

    def __init__(
        self,
        exchange: Exchange,
        symbols: Sequence[str],
        plan: Plan,
        since_ns: Mapping[tuple[str, str], int],
        until_ns: int,
        config: StreamConfig,
        channel: str,
        on_progress: Callable[[Progress], object] | None,
    ) -> None:
        self.position: dict[tuple[str, str], datetime] = {lane: to_datetime(at_ns) for lane, at_ns in since_ns.items()}
        self._exchange = exchange
        self._symbols = tuple(symbols)
        self._plan = plan
        self._until_ns = until_ns
        self._config = config
        self._channel = channel
        self._on_progress = on_progress
        self._bars = 0
        own, market = exchange.identity
        self._instruments = Instruments(own, exchange.negative_prices, market)

    # Iterating.

    async def __aiter__(self) -> AsyncIterator[BarBatch]:
        async with RestClient(ssl=self._config.ssl, proxy=self._config.proxy) as get:
            for symbol in self._symbols:
                async for bars in self._bars_of(symbol, get):
                    if bars:
                        yield self._batch(bars)

    def __iter__(self) -> Iterator[BarBatch]:
        # In a thread with an event loop of its own, so that it also works where one is running, as in a notebook.
        given: queue.Queue[BarBatch | BaseException | None] = queue.Queue(maxsize=2)
        left = threading.Event()

        async def bring() -> None:
            batches = aiter(self)
            async for batch in batches:
                while not left.is_set():
                    try:
                        given.put_nowait(batch)
                        break
                    except queue.Full:
                        await asyncio.sleep(0.01)
                if left.is_set():
                    return

        def run() -> None:
            try:
                asyncio.run(bring())
                given.put(None)
            except BaseException as error:  # noqa: BLE001 raised where it is iterated over
                given.put(error)

        thread = threading.Thread(target=run, name="fastbars history", daemon=True)
        thread.start()
        try:
            while (taken := given.get()) is not None:
                if isinstance(taken, BaseException):
                    raise taken
                yield taken
        finally:
            left.set()

    def to_batch(self) -> BarBatch:
        """All bars that are left, as one batch: symbol by symbol, then spec by spec, in order of time.

        Raises:
            RestError: the exchange refuses, or does not answer; `position` says how far it came.
        """
        bars = [bar for batch in self for bar in batch.to_bars()]
        symbols = {symbol: place for place, symbol in enumerate(self._symbols)}
        specs = {str(spec): place for place, spec in enumerate(self._plan.specs)}
        bars.sort(key=lambda bar: (symbols[bar.symbol], specs[bar.spec]))
        return self._batch(bars)

    def _batch(self, bars: Sequence[OHLCVBar]) -> BarBatch:
        return BarBatch.from_bars(bars, instruments=self._instruments, specs=self._plan.specs)

    # Bringing.

    async def _bars_of(self, symbol: str, get: RestClient) -> AsyncIterator[list[OHLCVBar]]:
        plan = self._plan
        begins = {spec: to_nanoseconds(self.position[symbol, str(spec)]) for spec in plan.specs}
        left = [spec for spec in plan.specs if begins[spec] < self._until_ns]
        most_pages = plan.most_pages(len(self._symbols))
        by_trades = [
            spec for spec in left
            if not spec.is_timed or spec not in plan.parts or (plan.wants_trades and most_pages)
        ]  # fmt: skip
        if by_trades:
            has_candles = all(spec in plan.parts for spec in by_trades)
            try:
                async for bars in self._by_trades(
                    symbol, by_trades, begins, get, most_pages if has_candles else float("inf")
                ):
                    yield bars
            except TooManyTradesError:
                by_trades = []
        for spec in left:
            if spec not in by_trades:
                async for bars in self._by_candles(symbol, spec, get):
                    yield bars

    async def _by_trades(
        self, symbol: str, specs: Sequence[BarSpec], begins: Mapping[BarSpec, int], get: RestClient, most_pages: float
    ) -> AsyncIterator[list[OHLCVBar]]:
        history, config = self._plan.trades, self._config
        assert history is not None
        limiter = SHARED.rest_limiter(history.api.budget_name, history.api.weight_per_minute, config.rest_url)
        client = PageClient(
            self._exchange.name, history, get, HealingStats(), limiter, api_key=config.api_key, url=config.rest_url,
            patience_s=config.heal_horizon, sleep=asyncio.sleep, goes_first=False,
        )  # fmt: skip
        past = PastTrades(
            self._exchange, self._channel, symbol, {spec: begins[spec] for spec in specs}, history, client,
            empty=config.empty,
        )  # fmt: skip
        pages, kept = 0, list[OHLCVBar]()
        while True:
            kept += await past.advance()
            pages += 1
            if pages == 1 and not past.is_caught_up:
                needed = pages_of(past, 1, self._until_ns)
                if needed > most_pages:
                    raise TooManyTradesError(f"{symbol}: about {needed:,.0f} pages of trades")
            ended = past.is_caught_up or all(past.reached_ns(spec) >= self._until_ns for spec in specs)
            if ended:
                kept += past.settled(all_of_them=True) + past.close_until(self._until_ns)
            if ended or len(kept) >= _BATCH:
                yield self._taken(symbol, specs, kept, None if ended else past)
                kept = []
            if ended:
                return

    def _taken(
        self, symbol: str, specs: Sequence[BarSpec], bars: list[OHLCVBar], past: PastTrades | None
    ) -> list[OHLCVBar]:
        # Those that are over by the end, each once, as it was last; and notes how far that is.
        until = to_datetime(self._until_ns)
        timed = {str(spec) for spec in specs if spec.is_timed}
        last = {
            (bar.spec, begins(bar), None if bar.spec in timed else path_number(bar)): bar
            for bar in bars
            if bar.close_time <= until
        }
        for spec in specs:
            reached_ns = self._until_ns if past is None else min(past.reached_ns(spec), self._until_ns)
            self.position[symbol, str(spec)] = to_datetime(max(reached_ns, 0))
        self._report(symbol, specs, len(last))
        return list(last.values())

    async def _by_candles(self, symbol: str, spec: BarSpec, get: RestClient) -> AsyncIterator[list[OHLCVBar]]:
        history, config, part = self._plan.candles, self._config, self._plan.parts[spec]
        assert history is not None
        limiter = SHARED.rest_limiter(history.api.budget_name, history.api.weight_per_minute, config.rest_url)
        client = CandleClient(self._exchange, get, limiter, url=config.rest_url, exchange_time_ns=wall_ns)
        inverse, lane = self._exchange.contract_size(symbol) is not None, (symbol, str(spec))
        end_ns, last = open_of(spec, self._until_ns), None
        at_ns = to_nanoseconds(self.position[lane])
        while at_ns < end_ns:
            per_bar = max((shifted(spec, at_ns, 1) - at_ns) // length_of(part), 1)
            until_ns = min(end_ns, shifted(spec, at_ns, max(CANDLES_AT_ONCE // per_bar, 1)))
            past = await client.past(symbol, part, at_ns, until_ns)
            reached_ns = until_ns if past.until_ns >= until_ns else open_of(spec, past.until_ns)
            begins_ns = open_of(spec, past.since_ns)
            begins_ns = begins_ns if begins_ns == past.since_ns else shifted(spec, begins_ns, 1)
            candles = [one for one in past.candles if begins_ns <= to_nanoseconds(one.open_time) < reached_ns]
            bars = reported_bars(candles, spec, inverse=inverse)
            if config.empty == "fill":
                bars = filled(bars, spec, last, reached_ns)
            last = bars[-1] if bars else last
            self.position[lane] = to_datetime(reached_ns)
            self._report(symbol, [spec], len(bars))
            yield bars
            if reached_ns <= at_ns:
                raise RestError(
                    f"{self._exchange.name} {symbol} {spec}: the REST API has no candles of {to_datetime(at_ns)} yet"
                )
            at_ns = reached_ns

    def _report(self, symbol: str, specs: Sequence[BarSpec], bars: int) -> None:
        self._bars += bars
        if self._on_progress is not None:
            reached = min(self.position[symbol, str(spec)] for spec in specs)
            self._on_progress(
                Progress(symbol, tuple(map(str, specs)), reached, to_datetime(self._until_ns), self._bars)
            )


def history(
    exchange: str | Exchange,
    symbols: Sequence[str],
    bars: str | int | BarSpec | Sequence[str | int | BarSpec] = "1m",
    since: Since | Position | None = None,
    until: datetime | int | None = None,
    *,
    last: Span | None = None,
    market: str | None = None,
    channel: str | None = None,
    history_from: HistoryFrom | None = None,
    config: StreamConfig | None = None,
    on_progress: Callable[[Progress], object] | None = None,
) -> PastBars:
    """Bars of the past: `for batch in history("binance", ["BTCUSDT"], "1h", last=500): ...`, or `.to_batch()`.

    Args:
        exchange, market, symbols, bars, channel: as in `stream`.
        since: where they begin: an aware datetime, rounded down to the beginning of an interval; the bar behind which
            they go on; or the `position` of another history.
        until: where they end, an aware datetime: only bars that are over by then are given; now, if None.
        last: instead of `since`: how many intervals of each spec, or a time, such as "3d".
        history_from: as in `stream`: "trades", "candles", or None for trades where they are few enough.
        config: other settings: `api_key`, `rest_url`, `empty`, `timezone`, `proxy`, ...; `bars` replaces its `bars`.
        on_progress: called with a Progress for each batch.

    Returns:
        Iterated over, synchronously or not, BarBatches in order of time for each symbol and spec. Requests keep the
        exchange's limits, together with those of the process's streams, behind their healing.

    Raises:
        UnknownExchangeError, SpecError, SubscriptionError, ValueError, TypeError: at once. RestError: while iterating.
    """
    if isinstance(symbols, str):
        raise TypeError("symbols must be a list of strings")
    check_callbacks(on_progress=on_progress)
    venue = find_exchange(exchange, market)
    exact = venue.exact_symbols(symbols)
    base = config or StreamConfig()
    settings = StreamConfig(
        bars=bars, timezone=base.timezone, origin=base.origin, empty=base.empty, api_key=base.api_key,
        rest_url=base.rest_url, ssl=base.ssl, proxy=base.proxy, heal_horizon=base.heal_horizon,
    )  # fmt: skip
    chosen = channel or venue.default_channel
    plan = make_plan(venue, chosen, settings.specs, history_from, has_key=settings.api_key is not None)
    now_ns = wall_ns()
    until_ns = now_ns if until is None else min(to_nanoseconds(until), now_ns)
    if until is None:
        until_ns -= _CLOCKS_DIFFER_NS
    begins = _begins_of(exact, settings.specs, since, last, now_ns)
    return PastBars(venue, exact, plan, begins, until_ns, settings, chosen, on_progress)


def _begins_of(
    symbols: Sequence[str], specs: Sequence[BarSpec], since: Any, last: Span | None, now_ns: int
) -> dict[tuple[str, str], int]:
    if isinstance(since, Mapping):
        lanes = [(symbol, str(spec)) for symbol in symbols for spec in specs]
        missing = [lane for lane in lanes if lane not in since]
        if missing or last is not None:
            raise ValueError(
                f"since= is a position without {' '.join(missing[0])}" if missing else "give since= or last=, not both"
            )
        return {lane: to_nanoseconds(since[lane]) for lane in lanes}
    reach = Reach.of(last, since, name="last")
    if reach is None:
        raise ValueError("give since=, where the bars begin, or last=, how many intervals or how long")
    check_reach(reach, specs, now_ns)
    return {(symbol, str(spec)): reach.since(spec, now_ns) for symbol in symbols for spec in specs}
