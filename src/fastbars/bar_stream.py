"""BarStream: the bars of one venue and market as an asynchronous iterator, with all that can be asked of its stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Self

from fastbars.bars import OHLCVBar
from fastbars.errors import SubscriptionError, WSConnectionError
from fastbars.exchanges.history import Hole
from fastbars.live.brake import Brake
from fastbars.live.connections.adapter import BaseWebSocketAdapter
from fastbars.live.connections.subscriptions import joined
from fastbars.live.delivery import LOOPS, BarLoop, BarLoops, OwnLoop
from fastbars.live.healing.pages import HealingStats
from fastbars.live.open_bars import OpenBars, check_interval
from fastbars.live.past.repairer import Place, RepairStats
from fastbars.live.stats import HistoryStats, StreamStats
from fastbars.live.universe import UniverseStats, UniverseWatch
from fastbars.live.updates import UpdateCalls
from fastbars.log import log
from fastbars.specs import BarSpec

if TYPE_CHECKING:
    from fastbars.live.past.keeper import PastKeeper
    from fastbars.sinks.worker import SinkWorkers
    from fastbars.tapes.recorder import Recording
    from fastbars.verification import CandleWatch, Verification

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
        loops: those that iterate over it.
        failure: why it has ended for good; None: it has not, or was stopped, or the server closed it (`once`).
        recording: of this run, with its counters; None where nothing is recorded.
        verification: result so far of the comparison with the exchange's candles; None where nothing is compared.
    """

    def __init__(
        self,
        make_adapter: Callable[[], BaseWebSocketAdapter],
        symbols: Sequence[str] | UniverseWatch,
        queue_size: int,
        recording: Recording | None = None,
        watch: CandleWatch | None = None,
        updates_s: float = UPDATES_S,
        on_update: Callable[[OHLCVBar], object] | None = None,
        make_past: Callable[[BaseWebSocketAdapter], PastKeeper] | None = None,
        sinks: SinkWorkers | None = None,
    ) -> None:
        check_interval(updates_s)
        self.recording = recording
        self._candles = watch
        if recording is not None:
            recording.join()
        self._is_recorded = recording is not None
        try:
            self.adapter = make_adapter()
            self._brake = Brake(self.adapter.pause_reading, self.adapter.resume_reading)
            self.loops = BarLoops(self.adapter.session.delivery, queue_size, partial(self._brake.hold, LOOPS))
            self._past = None if make_past is None else make_past(self.adapter)
        except BaseException:
            if recording is not None:
                recording.leave()
            raise
        if watch is not None:
            watch.verifier.missing = self._missing
            watch.notify = self.adapter.session.notifier.call
        self._sinks = sinks
        if sinks is not None:
            sinks.join(self.adapter.session.delivery, self._brake.hold, queue_size)
        self._symbols = symbols
        self._updates_s = updates_s
        self._on_update = on_update
        self.failure: WSConnectionError | None = None
        self._entered = False
        self._sinks_left = False
        self._own_loop = OwnLoop(self._begin_loop)
        self._watcher: asyncio.Task[None] | None = None

    @property
    def universe(self) -> UniverseStats | None:
        """The symbols of a stream that was given `where(...)`, and what became of others; None for any other stream."""
        return self._symbols.stats if isinstance(self._symbols, UniverseWatch) else None

    @property
    def subscribed(self) -> Collection[str]:
        """The symbols that are subscribed to."""
        return self.adapter.active_subscriptions.keys()

    @property
    def verification(self) -> Verification | None:
        return None if self._candles is None else self._candles.verifier.verification

    def stats(self) -> StreamStats:
        """A snapshot of all counters, of all connections together."""
        stats = self.adapter.stats()
        if self.failure is not None:
            stats = replace(stats, failure=str(self.failure))
        return stats if self._sinks is None else replace(stats, sinks=self._sinks.stats())

    @property
    def history(self) -> HistoryStats | None:
        """What became of the history so far; None where none was asked for."""
        return None if self._past is None else self._past.snapshot()

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
        return self._begin_loop(self.open_bars(seconds))

    def open_bars(self, seconds: float | None = None) -> OpenBars:
        """The bars in progress for one more consumer, as `updates` gives them. Raises ValueError."""
        return self.adapter.session.open_bars(self._updates_s if seconds is None else seconds)

    def holes(self) -> dict[Hole, str]:
        """The trades that are missing now, and why they stay so; "" where healing is under way."""
        return self.adapter.upkeep.holes()

    def repairs(self) -> RepairStats | None:
        """What repair by candles has done; None where bars are not repaired."""
        return self.adapter.upkeep.repair_stats

    def unrepaired(self) -> dict[Place, str]:
        """The bars that lack trades, where `repair="candles"`, and why they stay so; "" where repair is under way."""
        return self.adapter.upkeep.unrepaired()

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
        exact = await self.adapter.resolve(self._exact(symbols))
        refused: list[SubscriptionError] = []
        wanted = [] if self._past is None or channels else [each for each in exact if each not in self._subscribed]
        if self._past is not None and wanted:  # before anything of them can come
            self._past.want(wanted)
        try:
            await self.adapter.subscribe(exact, channels)
        except SubscriptionError as error:
            refused.append(error)
        finally:
            if self._past is not None and wanted:
                self._past.forget([each for each in wanted if each not in self._subscribed])
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
        exact = await self.adapter.resolve(self._exact(symbols))
        if self._candles is not None and not channels:
            self._candles.symbols.difference_update(exact)
            await self.adapter.unsubscribe(exact, self._candles.channels)
        try:
            await self.adapter.unsubscribe(exact, channels)
        finally:
            if self._past is not None:
                self._past.forget([each for each in exact if each not in self._subscribed])

    @property
    def _subscribed(self) -> set[str]:
        # Of which bars are made.
        channel = self.adapter.session.channel
        return {symbol for symbol, channels in self.adapter.active_subscriptions.items() if channel in channels}

    async def wait_ended(self) -> None:
        """Wait until it has ended for good, whatever the reason; `failure` has it. It was entered."""
        if self._watcher is not None:
            await asyncio.wait([self._watcher])

    async def stop(self) -> None:
        """Disconnect and issue the open bars; the iteration yields what is left and ends."""
        if isinstance(self._symbols, UniverseWatch):
            await self._symbols.cancel()
        if self._past is not None:
            await self._past.stop()
        await self.adapter.disconnect()
        await self.wait_ended()
        if self.recording is not None and self._is_recorded:
            self._is_recorded = False
            await asyncio.to_thread(self.recording.leave)

    async def __aenter__(self) -> Self:
        """Connect and subscribe.

        Raises:
            WSConnectionError, SubscriptionError: as `subscribe`; SubscriptionError also where `where(...)` chooses
                nothing, and RestError where the exchange's list of instruments cannot be had.
            RuntimeError: it was entered before.
        """
        if self._entered:
            raise RuntimeError("this stream was entered before; a stream runs once: make another with stream(...)")
        self._entered = True
        try:
            if self._sinks is not None:
                await self._sinks.open()
            if not isinstance(self._symbols, UniverseWatch):
                self._symbols = await self.adapter.resolve(self._symbols)
                if self._past is not None:
                    self._past.want(self._symbols)
            await self.adapter.connect()
            self._watcher = asyncio.create_task(self._watch(), name="fastbars stream")
            if isinstance(self._symbols, UniverseWatch):
                await self._symbols.begin(self, self.adapter.session.notifier.call)
            else:
                await self.subscribe(self._symbols)
            if self._symbols:
                self.adapter.flush(unsubscribed=True)
        except BaseException:
            await self.stop()
            self.loops.end()
            await self._leave_sinks()
            raise
        log.prepare()
        self._brake.release()
        self.loops.open()
        if self._past is not None:
            self._past.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.loops.confirm_all()
        await self.stop()
        await self._leave_sinks()
        await self.adapter.upkeep.save_confirmed()

    async def _leave_sinks(self) -> None:
        sinks, self._sinks_left = (None if self._sinks_left else self._sinks), True
        if sinks is not None:
            await sinks.leave()

    def __aiter__(self) -> BarLoop:
        """A loop of its own. What `anext(bars)` gave last is confirmed by it, and not given again."""
        self._own_loop.end()
        return self._begin_loop()

    async def __anext__(self) -> OHLCVBar:
        return await self._own_loop.take()

    def _begin_loop(self, open_bars: OpenBars | None = None) -> BarLoop:
        if not self._entered:
            raise RuntimeError(
                "this stream is not connected: enter it first, `async with stream(...) as bars:`,"
                " and iterate inside, `async for bar in bars:`"
            )
        return self.loops.begin(open_bars)

    def _exact(self, symbols: Sequence[str]) -> list[str]:
        if isinstance(symbols, str):
            raise TypeError("symbols and channels must be lists of strings")
        return self.adapter.exchange.exact_symbols(symbols)

    def _missing(self, symbol: str) -> list[tuple[int, int]]:
        return sorted(self.adapter.session.missing(symbol))

    async def _watch(self) -> None:
        # Waits until all connections have ended for good, by `stop` or by a failure. The open bars are issued before
        # the queue ends.
        updating = asyncio.create_task(self._call_updates(), name="fastbars updates")
        try:
            await self.adapter.wait_closed()
        except WSConnectionError as error:
            self.failure = error
        finally:
            updating.cancel()
            await asyncio.wait([updating])
            if isinstance(self._symbols, UniverseWatch):
                await self._symbols.cancel()
        self.adapter.flush()
        if self._candles is not None:
            self._candles.verifier.finish()
        self.loops.end(self.failure)

    async def _call_updates(self) -> None:
        if self._on_update is None:
            return
        session = self.adapter.session
        calls = UpdateCalls(session.notifier, self.open_bars(), self._on_update)
        try:
            await calls.run()
        except Exception as error:  # noqa: BLE001 a task's top: it logs and stops loudly
            log.exception("updates_failed", exchange=session.exchange.name)
            self.adapter.connections.fail(error)
