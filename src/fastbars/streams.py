"""`fastbars.stream`, the entry point for most users, and `fastbars.run`, asyncio on uvloop."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import replace
from os import PathLike
from ssl import SSLContext
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

from fastbars.bars import ExchangeBar, OHLCVBar
from fastbars.callbacks import check_callbacks
from fastbars.differences import Difference
from fastbars.errors import SubscriptionError, WebSocketError, WSConnectionError
from fastbars.events import MarketDataEvent
from fastbars.exchanges import find_exchange
from fastbars.exchanges.declaration import Exchange
from fastbars.exchanges.history import Hole
from fastbars.exchanges.messages import RawMessage
from fastbars.live.callbacks import Callbacks
from fastbars.live.config import StreamConfig
from fastbars.live.connections.adapter import BaseWebSocketAdapter
from fastbars.live.connections.states import ConnectionState
from fastbars.live.connections.subscriptions import joined
from fastbars.live.delivery import BarLoop, BarLoops
from fastbars.live.healing.pages import HealingStats
from fastbars.live.open_bars import OpenBars, check_interval
from fastbars.live.stats import StreamStats
from fastbars.live.updates import UpdateCalls
from fastbars.log import log
from fastbars.specs import BarSpec
from fastbars.ticks import TickData

if TYPE_CHECKING:
    from fastbars.tapes.recorder import Recording
    from fastbars.verification import CandleWatch, Verification

T = TypeVar("T")

UPDATES_S = 0.25


class BarStream(AsyncIterator[OHLCVBar]):
    """Finished bars as an asynchronous iterator; made by `stream`.

    Each loop, `async for bar in bars`, is given every bar; the first one from the first bar, a later one from the first
    that no other loop has confirmed. A loop confirms a bar by asking for the next one; all loops confirm by leaving
    `async with` without an exception. With `StreamConfig.state` a restart delivers again what was not confirmed.
    If the slowest loop falls behind, the socket is no longer read; no bar is ever dropped. The iteration ends after
    `stop()`, or when the connection has ended for good; bars that are open then come last (PARTIAL, `end`). Enter it by
    `async with`, once: before that there is nothing to iterate over, and afterwards the iteration yields what is left.

    Attributes:
        adapter: the connections, and the session that they feed.
        recording: of this run, with its counters; None where nothing is recorded.
        verification: result so far of the comparison with the exchange's candles; None where nothing is compared.
    """

    def __init__(
        self,
        make_adapter: Callable[[], BaseWebSocketAdapter],
        symbols: Sequence[str],
        queue_size: int,
        recording: Recording | None = None,
        watch: CandleWatch | None = None,
        updates_s: float = UPDATES_S,
        on_update: Callable[[OHLCVBar], object] | None = None,
    ) -> None:
        check_interval(updates_s)
        self.recording = recording
        self._candles = watch
        if recording is not None:
            recording.join()
        self._is_recorded = recording is not None
        try:
            self.adapter = make_adapter()
            self._loops = BarLoops(self.adapter.session.delivery, queue_size, self._pause_reading)
        except BaseException:
            if recording is not None:
                recording.leave()
            raise
        if watch is not None:
            watch.verifier.missing = self._missing
            watch.notify = self.adapter.session.notifier.call
        self._symbols = symbols
        self._updates_s = updates_s
        self._on_update = on_update
        self._entered = False
        self._own_loop: BarLoop | None = None  # of `anext(bars)`
        self._watcher: asyncio.Task[None] | None = None

    @property
    def verification(self) -> Verification | None:
        return None if self._candles is None else self._candles.verifier.verification

    def stats(self) -> StreamStats:
        """A snapshot of all counters, of all connections together."""
        return self.adapter.stats()

    def current(self, symbol: str, spec: str | int | BarSpec) -> OHLCVBar | None:
        """The bar in progress, exact up to the last trade received; None while none is open.

        Its close_reason is `open`, its status what is known now, as in `BarBuffer.current`.

        Raises:
            SpecError: the stream has no such spec. SubscriptionError: no symbol of the exchange can be written so.
        """
        (exact,) = self._exact([symbol])
        return self.adapter.session.current(exact, spec)

    def updates(self, seconds: float | None = None) -> BarLoop:
        """A loop that is given bars in progress as well: `async for bar in bars.updates()`.

        Their close_reason is `open`. It is given those that have changed, each at most once in so many seconds (None:
        as the stream's `updates`), as they are when it takes them. Issued bars come first: the bar before an update is
        never behind it, and of a bar that was issued no update follows. Otherwise it is a loop like any other.

        Raises:
            ValueError: the seconds are not positive. RuntimeError: the stream was not entered.
        """
        open_bars = OpenBars(self.adapter.session.intake, self._updates_s if seconds is None else seconds)
        return self._begin_loop(open_bars)

    def holes(self) -> dict[Hole, str]:
        """The trades that are missing now, and why they stay so; "" where healing is under way."""
        return self.adapter.upkeep.holes()

    def healing(self) -> list[HealingStats]:
        """What healing has done; one for all connections."""
        return [self.adapter.upkeep.stats]

    async def subscribe(self, symbols: Sequence[str], channels: Sequence[str] = ()) -> None:
        """Add symbols, over as many connections as it takes.

        Args:
            symbols: as the exchange writes them.
            channels: such as "kline_1m"; the trade channel that bars are made from if empty.

        Raises:
            SubscriptionError: an unknown channel, more than the exchange's limits allow, or symbols that it
                refused; the others are subscribed. WSConnectionError: a connection was lost, or could not be opened.
        """
        exact = self._exact(symbols)
        refused: list[SubscriptionError] = []
        try:
            await self.adapter.subscribe(exact, channels)
        except SubscriptionError as error:
            refused.append(error)
        if self._candles is not None and not channels:
            held = self.adapter.active_subscriptions
            watched = [symbol for symbol in exact if symbol in held and self._candles.watches(symbol)]
            self._candles.symbols.update(watched)
            try:
                await self.adapter.subscribe(watched, self._candles.channels)
            except SubscriptionError as error:
                refused.append(error)
        if refused:
            raise joined(self.adapter.exchange.name, refused)

    async def unsubscribe(self, symbols: Sequence[str], channels: Sequence[str] = ()) -> None:
        """Remove symbols; their open bars are issued (PARTIAL, `end`). Raises SubscriptionError, WSConnectionError."""
        exact = self._exact(symbols)
        if self._candles is not None and not channels:
            self._candles.symbols.difference_update(exact)
            await self.adapter.unsubscribe(exact, self._candles.channels)
        await self.adapter.unsubscribe(exact, channels)

    async def stop(self) -> None:
        """Disconnect and issue the open bars; the iteration yields what is left and ends."""
        await self.adapter.disconnect()
        if self._watcher is not None:
            await asyncio.wait([self._watcher])
        if self.recording is not None and self._is_recorded:
            self._is_recorded = False
            await asyncio.to_thread(self.recording.leave)

    async def __aenter__(self) -> Self:
        """Connect and subscribe.

        Raises:
            WSConnectionError, SubscriptionError: as `subscribe`. RuntimeError: it was entered before.
        """
        if self._entered:
            raise RuntimeError("this stream was entered before; a stream runs once: make another with stream(...)")
        self._entered = True
        try:
            await self.adapter.connect()
            self._watcher = asyncio.create_task(self._watch(), name="fastbars stream")
            await self.subscribe(self._symbols)
            if self._symbols:
                self.adapter.flush(unsubscribed=True)
        except BaseException:
            await self.stop()
            self._loops.end()
            raise
        log.prepare()
        self._loops.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._loops.confirm_all()
        await self.stop()
        await self.adapter.upkeep.save_confirmed()

    def __aiter__(self) -> BarLoop:
        """A loop of its own. What `anext(bars)` gave last is confirmed by it, and not given again."""
        if self._own_loop is not None:
            self._own_loop.confirm()
            self._own_loop.leave()
            self._own_loop = None
        return self._begin_loop()

    async def __anext__(self) -> OHLCVBar:
        if self._own_loop is None:
            self._own_loop = self._begin_loop()
        return await anext(self._own_loop)

    def _begin_loop(self, open_bars: OpenBars | None = None) -> BarLoop:
        if not self._entered:
            raise RuntimeError(
                "this stream is not connected: enter it first, `async with stream(...) as bars:`,"
                " and iterate inside, `async for bar in bars:`"
            )
        return self._loops.begin(open_bars)

    def _exact(self, symbols: Sequence[str]) -> list[str]:
        if isinstance(symbols, str):
            raise TypeError("symbols and channels must be lists of strings")
        return self.adapter.exchange.exact_symbols(symbols)

    def _pause_reading(self, paused: bool) -> None:
        if paused:
            self.adapter.pause_reading()
        else:
            self.adapter.resume_reading()

    def _missing(self, symbol: str) -> list[tuple[int, int]]:
        return sorted(self.adapter.session.missing(symbol))

    async def _watch(self) -> None:
        # Waits until all connections have ended for good, by `stop` or by a failure. The open bars are issued before
        # the queue ends.
        failure: WSConnectionError | None = None
        updating = asyncio.create_task(self._call_updates(), name="fastbars updates")
        try:
            await self.adapter.wait_closed()
        except WSConnectionError as error:
            failure = error
        finally:
            updating.cancel()
            await asyncio.wait([updating])
        self.adapter.flush()
        if self._candles is not None:
            self._candles.verifier.finish()
        self._loops.end(failure)

    async def _call_updates(self) -> None:
        if self._on_update is None:
            return
        session = self.adapter.session
        calls = UpdateCalls(session.notifier, OpenBars(session.intake, self._updates_s), self._on_update)
        try:
            await calls.run()
        except Exception as error:  # noqa: BLE001 a task's top: it logs and stops loudly
            log.exception("updates_failed", exchange=session.exchange.name)
            self.adapter.connections.fail(error)


def stream(
    exchange: str | Exchange,
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
    on_tick: Callable[[TickData], object] | None = None,
    on_bar: Callable[[OHLCVBar], object] | None = None,
    on_bars: Callable[[list[OHLCVBar]], object] | None = None,
    on_update: Callable[[OHLCVBar], object] | None = None,
    updates: float = UPDATES_S,
    on_late: Callable[[TickData], object] | None = None,
    on_exchange_bar: Callable[[ExchangeBar], object] | None = None,
    on_event: Callable[[MarketDataEvent], object] | None = None,
    on_message: Callable[[RawMessage], object] | None = None,
    on_state: Callable[[ConnectionState], object] | None = None,
    on_error: Callable[[WebSocketError], object] | None = None,
    verify: bool | float = False,
    on_difference: Callable[[Difference], object] | None = None,
    record: str | PathLike[str] | Recording | None = None,
) -> BarStream:
    """Stream finished bars: `async with stream("binance", ["BTCUSDT"], bars=["1m", "5m"]) as bars: ...`.

    Args:
        exchange, market: such as "binance" and "usdm"; the exchange's first market if None. Or an Exchange of your own.
        symbols: as the exchange writes them; case is put right where the exchange has one case only.
        bars: bar specs.
        channel: trade channel that bars are made from; the exchange's default one if None.
        url: connect here instead of the exchange's own address.
        config: every other setting; `bars` replaces its `bars`.
        once: end when the server closes normally, instead of reconnecting.
        ssl, proxy, lines: as in StreamConfig, whose values hold where these are not given.
        on_tick, on_bar, on_bars, on_late, on_exchange_bar, on_event, on_message, on_state, on_error: plain functions,
            called as in BaseWebSocketAdapter; on_bars for each list of bars issued in one wakeup. One that
            raises is logged and counted in `stats().session.callback_errors`, and nothing is lost.
        on_update: likewise, called with the bars in progress (their close_reason is `open`): with those that have
            changed, each at most once in `updates` seconds, as it is then; behind the bars issued before it.
        updates: seconds between two updates of a bar, for `on_update` and `BarStream.updates`.
        verify: compare bars with the exchange's own candles, which are then subscribed to as well: of all symbols, or
            of this share of them, chosen by name; see `BarStream.verification`.
        on_difference: called with each Difference of `verify`.
        record: folder, or Recording, to write every input of the run to: `replay` makes the same bars from it.
            A Recording that several streams share ends with the last of them.

    Raises:
        UnknownExchangeError, SpecError, ValueError, TypeError: at once; with `record` also OSError, and TapeError
            where zstd is missing or the Recording has ended; with `state` SnapshotError and OSError.
        SubscriptionError: at once for what cannot be a symbol of the exchange; on entering for what it refuses.
        WSConnectionError: on entering.
    """
    if isinstance(symbols, str):
        raise TypeError("symbols must be a list of strings")
    venue = find_exchange(exchange, market)
    symbols = venue.exact_symbols(symbols)
    base = config or StreamConfig()
    settings = replace(
        base,
        bars=bars,
        ssl=ssl or base.ssl,
        proxy=base.proxy if proxy is True else proxy,
        lines=base.lines if lines is None else lines,
    )
    callbacks = Callbacks(on_tick, on_bar, on_bars, on_late, on_exchange_bar, on_event, on_message)
    check_callbacks(on_state=on_state, on_error=on_error, on_update=on_update, on_difference=on_difference)
    watch: CandleWatch | None = None
    recording: Recording | None = None
    # Both are loaded for those who ask for them.
    if verify is not False:
        from fastbars.verification import CandleWatch  # noqa: PLC0415

        watch = CandleWatch(venue, settings.specs, float(verify), on_difference)
    if record is not None:
        from fastbars.tapes.recorder import Recording  # noqa: PLC0415

        recording = record if isinstance(record, Recording) else Recording(record)

    def make_adapter() -> BaseWebSocketAdapter:
        def take_bars(issued: list[OHLCVBar]) -> None:
            if watch is not None:
                watch.add_bars(issued)
            adapter.session.notifier.call(on_bars, issued)

        def take_candle(candle: ExchangeBar) -> None:
            if watch is not None:
                watch.add_candle(candle)
            adapter.session.notifier.call(on_exchange_bar, candle)

        own = callbacks
        if watch is not None:
            own = replace(callbacks, on_bars=take_bars, on_exchange_bar=take_candle)
        adapter = BaseWebSocketAdapter(
            venue, settings, callbacks=own, on_state=on_state, on_error=on_error, url=url, channel=channel, once=once,
            record=None if recording is None else recording.session,
        )  # fmt: skip
        if symbols:
            adapter.take_subscribed_only()
        return adapter

    try:
        return BarStream(make_adapter, symbols, settings.queue_size, recording, watch, updates, on_update)
    except BaseException:
        if recording is not None and recording is not record:
            recording.close()
        raise


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on uvloop (on Windows: on asyncio's own loop).

    Raises:
        RuntimeError: an event loop is running in this thread already. TypeError: `main` is no coroutine.
    """
    given: Any = main
    if not asyncio.iscoroutine(given):
        called = f": call it, run({given.__name__}())" if inspect.iscoroutinefunction(given) else ""
        raise TypeError(f"run() takes a coroutine, got {given!r:.100}{called}")
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        main.close()
        raise RuntimeError(
            "fastbars.run() starts an event loop, and one is running in this thread already, as in a notebook:"
            " `await` the coroutine instead"
        )
    if sys.platform == "win32":
        return asyncio.run(main)
    import uvloop  # noqa: PLC0415 it is not there on Windows

    return uvloop.run(main)
