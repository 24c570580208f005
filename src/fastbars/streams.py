"""`fastbars.stream`: the one line for most users; and `fastbars.run`, asyncio on uvloop."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import replace
from os import PathLike
from ssl import SSLContext
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from fastbars.bars import OHLCVBar
from fastbars.errors import WSConnectionError
from fastbars.exchanges import find_exchange
from fastbars.live.adapter import BaseWebSocketAdapter
from fastbars.live.config import StreamConfig
from fastbars.live.healing import HealingStats
from fastbars.live.history import Hole
from fastbars.live.pool import Pool
from fastbars.live.redundancy import RedundantAdapter
from fastbars.live.states import ConnectionState
from fastbars.live.stats import StreamStats
from fastbars.specs import BarSpec
from fastbars.tapes.recorder import Recording
from fastbars.verification import CandleWatch, Difference, Verification

T = TypeVar("T")


class BarStream(AsyncIterator[OHLCVBar]):
    """Finished bars as an asynchronous iterator; made by `stream`.

    Bars wait in a bounded queue. A consumer that falls behind first stops the reading of the socket; no bar is
    ever dropped. The iteration ends after `stop()`, or when the connection has ended for good; what is open
    then comes out last (PARTIAL, `end`).

    Attributes:
        pool: the connections.
        recording: of this run, with its counters; None where nothing is recorded.
        verification: what the comparison with the exchange's candles has come to; None where nothing is compared.
    """

    def __init__(
        self,
        make_pool: Callable[[Callable[[list[OHLCVBar]], object]], Pool],
        symbols: Sequence[str],
        queue_size: int,
        recording: Recording | None = None,
        watch: CandleWatch | None = None,
    ) -> None:
        self.recording = recording
        self._candles = watch
        self.pool = make_pool(self._put)
        if watch is not None:
            watch.verifier.missing = self._missing
        self._symbols = symbols
        self._queue_size = queue_size
        self._bars: deque[OHLCVBar] = deque()
        self._ready = asyncio.Event()
        self._paused = False
        self._ended = False
        self._failure: WSConnectionError | None = None
        self._watcher: asyncio.Task[None] | None = None

    @property
    def verification(self) -> Verification | None:
        return None if self._candles is None else self._candles.verifier.verification

    @property
    def adapter(self) -> BaseWebSocketAdapter:
        """The first connection, and the only one unless the exchange's limits ask for more."""
        return self.pool.adapters[0]

    def stats(self) -> StreamStats:
        """A snapshot of all counters, of all connections together."""
        return self.pool.stats()

    def holes(self) -> dict[Hole, str]:
        """The trades that are missing now, and why they stay so; "" where healing is under way."""
        upkeeps = [adapter.upkeep for adapter in self.pool.adapters]
        return {hole: why for upkeep in upkeeps if upkeep is not None for hole, why in upkeep.holes().items()}

    def healing(self) -> list[HealingStats]:
        """What healing has done, on each connection."""
        upkeeps = [adapter.upkeep for adapter in self.pool.adapters]
        return [upkeep.stats for upkeep in upkeeps if upkeep is not None]

    async def subscribe(self, symbols: Sequence[str], channels: Sequence[str] = ()) -> None:
        """Add symbols, over as many connections as it takes.

        Args:
            symbols: as the exchange writes them.
            channels: such as "kline_1m"; the trade channel that bars are made from if empty.

        Raises:
            SubscriptionError: an unknown channel, more than the exchange's limits allow, or symbols that it
                refused; the others are subscribed. WSConnectionError: a connection was lost, or not to be had.
        """
        exact = self.pool.exact_symbols(symbols)
        await self.pool.subscribe(exact, channels)
        if self._candles is not None and not channels:
            await self.pool.subscribe(list(filter(self._candles.watches, exact)), self._candles.channels)

    async def unsubscribe(self, symbols: Sequence[str], channels: Sequence[str] = ()) -> None:
        """Remove symbols; their open bars come out (PARTIAL, `end`). Raises SubscriptionError, WSConnectionError."""
        exact = self.pool.exact_symbols(symbols)
        if self._candles is not None and not channels:
            await self.pool.unsubscribe(exact, self._candles.channels)
        await self.pool.unsubscribe(exact, channels)

    async def stop(self) -> None:
        """Disconnect and issue what is open; the iteration gives what is left and ends."""
        await self.pool.disconnect()
        if self._watcher is not None:
            await asyncio.wait([self._watcher])
        if self.recording is not None:
            await asyncio.to_thread(self.recording.close)

    async def __aenter__(self) -> Self:
        try:
            await self.pool.connect()
            self._watcher = asyncio.create_task(self._watch(), name="fastbars stream")
            await self.subscribe(self._symbols)
            if self._symbols:
                self.pool.release()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> OHLCVBar:
        while not self._bars:
            if self._ended:
                if self._failure is not None:
                    failure, self._failure = self._failure, None
                    raise failure
                raise StopAsyncIteration
            self._ready.clear()
            await self._ready.wait()
        bar = self._bars.popleft()
        if self._paused and len(self._bars) <= self._queue_size // 2:
            self._paused = False
            self.pool.resume_reading()
        return bar

    def _put(self, bars: list[OHLCVBar]) -> None:
        self._bars.extend(bars)
        self._ready.set()
        if not self._paused and len(self._bars) >= self._queue_size:
            self._paused = True
            self.pool.pause_reading()

    def _missing(self, symbol: str) -> list[tuple[int, int]]:
        return sorted(hole for adapter in self.pool.adapters for hole in adapter.session.missing(symbol))

    async def _watch(self) -> None:
        try:
            await self.pool.wait_closed()
        except WSConnectionError as error:
            self._failure = error
        self.pool.flush()
        if self._candles is not None:
            self._candles.verifier.finish()
        self._ended = True
        self._ready.set()


def stream(
    exchange: str,
    symbols: Sequence[str],
    bars: str | int | BarSpec | Sequence[str | int | BarSpec] = "1m",
    *,
    market: str | None = None,
    channel: str | None = None,
    url: str | None = None,
    config: StreamConfig | None = None,
    once: bool = False,
    ssl: SSLContext | None = None,
    proxy: str | Literal[True] | None = True,
    lines: int | None = None,
    on_bars: Callable[[list[OHLCVBar]], object] | None = None,
    verify: bool | float = False,
    on_difference: Callable[[Difference], object] | None = None,
    record: str | PathLike[str] | Recording | None = None,
    **callbacks: Any,
) -> BarStream:
    """Stream finished bars: `async with stream("binance", ["BTCUSDT"], bars=["1m", "5m"]) as bars: ...`.

    Args:
        exchange, market: such as "binance" and "usdm"; the exchange's first market if None.
        symbols: as the exchange writes them; case is put right where the exchange has one case only.
        bars: bar specs.
        channel: trade channel that bars are made from; the exchange's default one if None.
        url: connect here instead of the exchange's own address.
        config: every other knob; its `bars` are replaced by `bars`.
        once: end when the server closes normally, instead of reconnecting.
        ssl, proxy, lines: as in StreamConfig, whose values hold where these are not given.
        on_bars: called for each list of bars issued in one wakeup.
        verify: compare bars with the exchange's own candles, which are then subscribed to as well: of all symbols, or
            of this share of them, chosen by name; see `BarStream.verification`.
        on_difference: called with each Difference of `verify`.
        record: folder, or Recording, that all that bars are made from is written to: `replay` makes the same bars.
        callbacks: on_tick, on_bar, on_late, on_exchange_bar, on_event, on_message, on_state, on_error of
            BaseWebSocketAdapter.

    Raises:
        UnknownExchangeError, SpecError, ValueError: at once; with `record` also OSError, and TapeError where zstd is
            missing.
        SubscriptionError: at once for what cannot be a symbol of the exchange; on entering for what it refuses.
        WSConnectionError: on entering.
    """
    if isinstance(symbols, str):
        raise TypeError("symbols are a list, not one text")
    venue = find_exchange(exchange, market)
    symbols = venue.exact_symbols(symbols)
    settings = replace(config or StreamConfig(), bars=bars)
    settings = replace(settings, ssl=ssl or settings.ssl, proxy=settings.proxy if proxy is True else proxy)
    settings = replace(settings, lines=settings.lines if lines is None else lines)
    on_state_of_all = callbacks.pop("on_state", None)
    recording = record if record is None or isinstance(record, Recording) else Recording(record)

    watch = None if verify is False else CandleWatch(venue, settings.specs, float(verify), on_difference)
    if watch is not None:
        callbacks["on_exchange_bar"] = _both(watch.verifier.add_candle, callbacks.get("on_exchange_bar"))

    def make_pool(put: Callable[[list[OHLCVBar]], object]) -> Pool:
        def deliver(issued: list[OHLCVBar]) -> None:
            put(issued)
            if watch is not None:
                watch.add_bars(issued)
            if on_bars is not None:
                on_bars(issued)

        opener = None if recording is None else recording.session

        def make_adapter(on_state: Callable[[ConnectionState], object]) -> BaseWebSocketAdapter:
            options = {
                "url": url,
                "channel": channel,
                "once": once,
                "record": opener,
                "on_state": on_state,
                **callbacks,
            }
            kind = RedundantAdapter if settings.lines > 1 else BaseWebSocketAdapter
            made = kind(venue, settings, on_bars=deliver, **options)
            if symbols:
                made.take_subscribed_only()
            return made

        return Pool(venue, settings, make_adapter, on_state_of_all)

    return BarStream(make_pool, symbols, settings.queue_size, recording, watch)


def _both(first: Callable[[T], object], second: Callable[[T], object] | None) -> Callable[[T], object]:
    def call_both(value: T) -> None:
        first(value)
        if second is not None:
            second(value)

    return call_both if second is not None else first


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on uvloop (on Windows: on asyncio's own loop)."""
    if sys.platform == "win32":
        return asyncio.run(main)
    import uvloop  # noqa: PLC0415 it is not there on Windows

    return uvloop.run(main)
