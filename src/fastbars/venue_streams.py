"""VenueStreams: the bars of several venues as one asynchronous iterator, made of a `BarStream` each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self

from fastbars.bar_stream import BarStream
from fastbars.bars import OHLCVBar
from fastbars.errors import UnknownExchangeError, WebSocketError, WSConnectionError
from fastbars.exchanges.history import Hole
from fastbars.live.connections.states import ConnectionState
from fastbars.live.delivery import BarLoop, OwnLoop
from fastbars.live.healing.pages import HealingStats
from fastbars.live.open_bars import OpenBars
from fastbars.live.past.repairer import Place, RepairStats
from fastbars.live.stats import HistoryStats, StreamStats, state_of, summed, together
from fastbars.live.universe import UniverseStats
from fastbars.log import log
from fastbars.specs import BarSpec

if TYPE_CHECKING:
    from fastbars.tapes.recorder import Recording
    from fastbars.verification import Verification


class VenueStreams(AsyncIterator[OHLCVBar]):
    """Finished bars of several venues as one asynchronous iterator; made by `stream`, and used as a `BarStream` is.

    Each venue has a stream of its own: connections, proofs, queue, state file. A loop is given the bars of each venue
    in their order; a venue with many bars keeps none of another waiting for more than one. A loop that is too slow
    stops the reading of the venues whose bars wait, `queue_size` of each.

    Entering connects all of them, or none: the error of the first that cannot be, which names it, is raised. From then
    on each reconnects by itself. One that fails for good ends alone: it is logged, given to `on_error`, and shown in
    `stats().venues`; once all have failed, the iteration raises that.

    Attributes:
        venues: the stream of each venue, by the names that they were given by, such as "bybit:linear".
        recording: of all of them, with its counters; None where nothing is recorded.
    """

    def __init__(
        self,
        venues: Mapping[str, BarStream],
        recording: Recording | None = None,
        on_error: Callable[[WebSocketError], object] | None = None,
        on_state: Callable[[ConnectionState], object] | None = None,
    ) -> None:
        self.venues = dict(venues)
        self.recording = recording
        self._on_error = on_error
        self._on_state = on_state
        self._state_seen = ConnectionState.DISCONNECTED
        self._watchers: list[asyncio.Task[None]] = []
        self._entered = False
        self._own_loop = OwnLoop(self._begin_loop)

    @property
    def history(self) -> dict[str, HistoryStats]:
        """As `BarStream.history`, of the venues with a history."""
        return {name: found for name, one in self.venues.items() if (found := one.history) is not None}

    @property
    def universe(self) -> dict[str, UniverseStats]:
        """As `BarStream.universe`, of the venues that were given `where(...)`."""
        return {name: found for name, one in self.venues.items() if (found := one.universe) is not None}

    @property
    def subscribed(self) -> dict[str, Collection[str]]:
        """The symbols that are subscribed to, by venue."""
        return {name: one.subscribed for name, one in self.venues.items()}

    @property
    def verification(self) -> Verification | None:
        """The results of all venues together; None where nothing is compared."""
        found = [one.verification for one in self.venues.values()]
        return summed([one for one in found if one is not None]) if any(one is not None for one in found) else None

    @property
    def state(self) -> ConnectionState:
        """Of all venues that have not failed: RECONNECTING while one of them is."""
        streams = list(self.venues.values())
        going = [one for one in streams if one.failure is None] or streams
        return state_of(one.adapter.state for one in going)

    def stats(self) -> StreamStats:
        """A snapshot of all counters, together; `venues` of it has them by venue."""
        return together({name: one.stats() for name, one in self.venues.items()})

    def current(self, symbol: str, spec: str | int | BarSpec, *, venue: str) -> OHLCVBar | None:
        """The bar in progress on one venue, as `BarStream.current`. Raises UnknownExchangeError too: no such venue."""
        return self._venue(venue).current(symbol, spec)

    def updates(self, seconds: float | None = None) -> BarLoop:
        """A loop that is given bars in progress as well, as `BarStream.updates`; issued bars of all venues come first.

        Raises:
            ValueError: the seconds are not positive. RuntimeError: the stream was not entered.
        """
        return self._begin_loop({name: one.open_bars(seconds) for name, one in self.venues.items()})

    def holes(self) -> dict[str, dict[Hole, str]]:
        """The trades that are missing now, by venue, each as `BarStream.holes` has them."""
        return {name: one.holes() for name, one in self.venues.items()}

    def repairs(self) -> dict[str, RepairStats]:
        """What repair by candles has done, by venue, where bars are repaired."""
        return {name: found for name, one in self.venues.items() if (found := one.repairs()) is not None}

    def unrepaired(self) -> dict[str, dict[Place, str]]:
        """The bars that lack trades, by venue, and why they stay so; "" where repair is under way."""
        return {name: one.unrepaired() for name, one in self.venues.items()}

    def healing(self) -> list[HealingStats]:
        """What healing has done, of each venue, in their order."""
        return [stats for one in self.venues.values() for stats in one.healing()]

    async def subscribe(self, symbols: Mapping[str, Sequence[str]], channels: Sequence[str] = ()) -> None:
        """Add symbols: `await bars.subscribe({"binance": ["ETHUSDT"]})`. The venues are those that it was made with.

        Raises:
            UnknownExchangeError, WSConnectionError: no such venue, or one that has failed for good; nothing is
                subscribed. Else as `BarStream.subscribe`: what other venues have refused stands in the notes.
        """
        streams = {name: self._venue(name) for name in _by_venue(symbols)}
        for name, one in streams.items():
            if one.failure is not None:
                raise WSConnectionError(f"{name} has ended for good: {one.failure}")
        await _all_of({name: one.subscribe(symbols[name], channels) for name, one in streams.items()})

    async def unsubscribe(self, symbols: Mapping[str, Sequence[str]], channels: Sequence[str] = ()) -> None:
        """Remove symbols; their open bars are issued (PARTIAL, `end`). Raises as `subscribe`."""
        streams = {name: self._venue(name) for name in _by_venue(symbols)}
        await _all_of({name: one.unsubscribe(symbols[name], channels) for name, one in streams.items()})

    async def stop(self) -> None:
        """Disconnect all and issue the open bars; the iteration yields what is left and ends."""
        await _all_of({name: one.stop() for name, one in self.venues.items()})
        if self._watchers:
            await asyncio.wait(self._watchers)

    async def __aenter__(self) -> Self:
        """Connect and subscribe, all venues at once.

        Raises:
            WSConnectionError, SubscriptionError: of the first venue that has failed; all others are stopped, and what
                they raised stands in its notes. RuntimeError: it was entered before.
        """
        if self._entered:
            raise RuntimeError("this stream was entered before; a stream runs once: make another with stream(...)")
        self._entered = True
        try:
            await _all_of({name: one.__aenter__() for name, one in self.venues.items()})
        except BaseException:
            for one in self.venues.values():
                with suppress(WebSocketError):  # the first error is the one that is raised
                    await one.stop()
            raise
        self._watchers = [
            asyncio.create_task(self._watch(name, one), name=f"fastbars venue {name}")
            for name, one in self.venues.items()
        ]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await _all_of({name: one.__aexit__(kind, error, trace) for name, one in self.venues.items()})
        await asyncio.wait(self._watchers)

    def __aiter__(self) -> BarLoop:
        """A loop of its own. What `anext(bars)` gave last is confirmed by it, and not given again."""
        self._own_loop.end()
        return self._begin_loop()

    async def __anext__(self) -> OHLCVBar:
        return await self._own_loop.take()

    def note_state(self, _: ConnectionState) -> None:
        """A connection state of a venue has changed: report that of the whole where it has."""
        state = self.state
        if state is not self._state_seen:
            self._state_seen = state
            if self._on_state is not None:
                self._on_state(state)

    def _begin_loop(self, open_bars: Mapping[str, OpenBars] | None = None) -> BarLoop:
        if not self._entered:
            raise RuntimeError(
                "this stream is not connected: enter it first, `async with stream(...) as bars:`,"
                " and iterate inside, `async for bar in bars:`"
            )
        ready = asyncio.Event()
        parts = {name: (one.loops, open_bars and open_bars[name]) for name, one in self.venues.items()}
        return BarLoop([(loops, loops.join(ready, open_ones or None)) for loops, open_ones in parts.values()], ready)

    def _venue(self, name: str) -> BarStream:
        found = self.venues.get(name)
        if found is None:
            raise UnknownExchangeError(f"unknown venue {name!r:.100}; this stream has {', '.join(self.venues)}")
        return found

    async def _watch(self, name: str, one: BarStream) -> None:
        await one.wait_ended()
        if one.failure is None:
            return
        going = [other for other, stream in self.venues.items() if stream.failure is None]
        log.error(
            "venue_failed", venue=name, exchange=one.adapter.exchange.name, error=str(one.failure), going_on=going
        )
        one.adapter.session.notifier.call(self._on_error, one.failure)
        one.adapter.session.notifier.call(self.note_state, self.state)


def _by_venue(symbols: Mapping[str, Sequence[str]]) -> Mapping[str, Sequence[str]]:
    if not isinstance(symbols, Mapping):
        raise TypeError(
            f'symbols of several venues are given by venue, {{"binance": ["BTCUSDT"]}}; got {symbols!r:.100}'
        )
    return symbols


async def _all_of(calls: Mapping[str, Awaitable[object]]) -> None:
    # At once, and all to their end; of what they raise the first, with the others in its notes.
    tasks = {name: asyncio.ensure_future(call) for name, call in calls.items()}
    if not tasks:
        return
    try:
        await asyncio.wait(tasks.values())
    except asyncio.CancelledError:
        for task in tasks.values():
            task.cancel()
        await asyncio.wait(tasks.values())
        raise
    errors = {name: error for name, task in tasks.items() if (error := task.exception()) is not None}
    for first, error in errors.items():
        for name, other in errors.items():
            if name != first:
                error.add_note(f"{name} failed too: {other}")
        raise error
