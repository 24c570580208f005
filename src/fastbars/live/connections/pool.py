"""Pool: the connections over which a stream's symbols are spread, by what the exchange allows one connection.

Which symbol goes where is decided by `placement.py`; here connections are opened before anything is subscribed on them,
those that have become empty are closed, and one that is lost for good ends all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from fastbars.callbacks import check_callbacks
from fastbars.clocks import wall_ns
from fastbars.errors import SubscriptionError, WSConnectionError
from fastbars.exchanges.declaration import Exchange
from fastbars.exchanges.messages import Stream
from fastbars.live.config import StreamConfig
from fastbars.live.connections.adapter import BaseWebSocketAdapter
from fastbars.live.connections.placement import Place, Placement
from fastbars.live.connections.states import ConnectionState
from fastbars.live.connections.subscriptions import joined
from fastbars.live.stats import StreamStats, sum_of
from fastbars.log import log

_S = ConnectionState


class Pool:
    """Connections to one exchange, used as one.

    Args:
        exchange, config: as in BaseWebSocketAdapter.
        make: makes a connection, not connected yet, that reports its states to the function it is given.
        on_state: called with each new state of the whole.

    Attributes:
        adapters: the connections; there is always one.
    """

    def __init__(
        self,
        exchange: Exchange,
        config: StreamConfig,
        make: Callable[[Callable[[ConnectionState], object]], BaseWebSocketAdapter],
        on_state: Callable[[ConnectionState], object] | None = None,
    ) -> None:
        check_callbacks(on_state=on_state)
        self._exchange = exchange
        self._make = make
        self._on_state = on_state
        self._placement = Placement(exchange, config)
        self._state = _S.DISCONNECTED
        self._closed: list[StreamStats] = []  # counters of the connections that were closed
        self._watchers: dict[BaseWebSocketAdapter, asyncio.Task[None]] = {}
        self._ended = asyncio.Event()
        self._ending = False
        self._failure: WSConnectionError | None = None
        self._paused = False
        self._turn = asyncio.Lock()
        self.adapters = [make(self._report_state)]

    @property
    def state(self) -> ConnectionState:
        """Of the whole: RECONNECTING while any connection is, CONNECTED while it can be used otherwise."""
        states = [adapter.state for adapter in self.adapters]
        for state in (_S.RECONNECTING, _S.CONNECTED, _S.CONNECTING, _S.DISCONNECTED):
            if state in states:
                return state
        return _S.CLOSED

    @property
    def active_subscriptions(self) -> dict[str, set[str]]:
        """Symbol -> channels that are desired."""
        active: dict[str, set[str]] = {}
        for adapter in self.adapters:
            for symbol, channels in adapter.active_subscriptions.items():
                active.setdefault(symbol, set()).update(channels)
        return active

    def stats(self) -> StreamStats:
        """A snapshot of all counters, summed; latency is that of the slowest connection."""
        if len(self.adapters) == 1 and not self._closed:
            return self.adapters[0].stats()
        return sum_of([*(adapter.stats() for adapter in self.adapters), *self._closed], self.state)

    async def connect(self) -> None:
        """Open the first connection; the others follow as symbols come. Raises WSConnectionError."""
        self._ending = False
        self._ended.clear()
        await self._connect(self.adapters[0])

    async def disconnect(self) -> None:
        """Close every connection and wait until nothing of them is left running."""
        self._ending = True
        await asyncio.gather(*(adapter.disconnect() for adapter in self.adapters))
        if self._watchers:
            await asyncio.wait(list(self._watchers.values()))
        self._ended.set()

    async def subscribe(self, symbols: Sequence[str], channels: Sequence[str] = ()) -> None:
        """Subscribe on as many connections as it takes.

        Raises:
            SubscriptionError: an unknown channel, more streams than the exchange allows, or symbols that it refused,
                does not list, or has halted; the others are subscribed.
            WSConnectionError: a connection could not be opened, or was lost meanwhile.
        """
        streams = self.adapters[0].streams_of(symbols, channels)
        held = {stream for adapter in self.adapters for stream in adapter.streams}
        await self.adapters[0].symbol_check.subscribe(streams, held, self._subscribe)

    async def _subscribe(self, streams: Sequence[Stream]) -> None:
        async with self._turn:
            placed = await self._place(streams)
            # The limits were checked; what can still fail concerns single symbols.
            results = await asyncio.gather(
                *(adapter.subscribe_unchecked(streams) for adapter, streams in placed.items()), return_exceptions=True
            )
            await self._close_empty()
        _raise_all(self._exchange.name, results)

    async def unsubscribe(self, symbols: Sequence[str], channels: Sequence[str] = ()) -> None:
        """End subscriptions wherever they are; a connection that has none left is closed.

        Raises:
            SubscriptionError: the exchange refused. WSConnectionError: the connection was lost meanwhile.
        """
        async with self._turn:
            wanted = set(self._streams(symbols, channels))
            carried = {adapter: [s for s in adapter.streams if s in wanted] for adapter in self.adapters}
            results = await asyncio.gather(
                *(adapter.unsubscribe_streams(streams) for adapter, streams in carried.items() if streams),
                return_exceptions=True,
            )
            await self._close_empty()
        _raise_all(self._exchange.name, results)

    def exact_symbols(self, symbols: Sequence[str]) -> list[str]:
        """Symbols as the exchange writes them, each once. Raises SubscriptionError, TypeError."""
        if isinstance(symbols, str):
            raise TypeError("symbols and channels must be lists of strings")
        return self._exchange.exact_symbols(symbols)

    def pause_reading(self) -> None:
        """Stop reading all sockets, because a consumer is slow."""
        self._paused = True
        for adapter in self.adapters:
            adapter.pause_reading()

    def resume_reading(self) -> None:
        """Read them again."""
        self._paused = False
        for adapter in self.adapters:
            adapter.resume_reading()

    def release(self) -> None:
        """Issue the restored bars of symbols that are not subscribed (PARTIAL, `end`): they get no more trades."""
        for adapter in self.adapters:
            for symbol in set(adapter.session.symbols) - adapter.active_subscriptions.keys():
                adapter.session.flush(wall_ns(), symbol)

    def flush(self) -> None:
        """Close every open bar with reason `end`."""
        for adapter in self.adapters:
            adapter.session.flush(wall_ns())

    async def wait_closed(self) -> None:
        """Wait until all connections have ended for good. Raises WSConnectionError: one could not be brought back."""
        await self._ended.wait()
        if self._failure is not None:
            raise self._failure

    def _streams(self, symbols: Sequence[str], channels: Sequence[str]) -> list[Stream]:
        streams = self.adapters[0].streams_of(symbols, channels)
        for channel in {channel for _, channel in streams}:
            self._exchange.check_channel(channel)
        return streams

    async def _place(self, streams: Sequence[Stream]) -> dict[BaseWebSocketAdapter, list[Stream]]:
        # Which connection takes what; opens those that are missing.
        places = [_place_of(adapter) for adapter in self.adapters]

        def make(channel: str) -> Place[BaseWebSocketAdapter]:
            adapter = self._make(self._report_state)
            if self._paused:
                adapter.pause_reading()
            adapter.expect({channel})
            return _place_of(adapter)

        first = self.adapters[0]
        places = self._placement.place(streams, places, lambda channel: first.url_of({channel}), make)
        for place in places:
            if place.connection not in self.adapters:
                await self._connect(place.connection)
        return {place.connection: place.given for place in places if place.given}

    async def _connect(self, adapter: BaseWebSocketAdapter) -> None:
        await adapter.connect()
        if adapter not in self.adapters:
            self.adapters.append(adapter)
        self._watchers[adapter] = asyncio.create_task(self._watch(adapter), name=f"fastbars {self._exchange.name} pool")

    async def _watch(self, adapter: BaseWebSocketAdapter) -> None:
        # A connection that is lost for good ends all: else some symbols would be missing silently.
        try:
            await adapter.wait_closed()
        except WSConnectionError as error:
            if self._failure is None:
                self._failure = error
        del self._watchers[adapter]
        if self._failure is not None and not self._ending:
            self._ending = True
            await asyncio.gather(*(other.disconnect() for other in self.adapters))
        if not self._watchers:
            self._ended.set()

    async def _close_empty(self) -> None:
        for adapter in self.adapters[1:]:
            if not adapter.streams:
                self.adapters.remove(adapter)
                await adapter.disconnect()
                self._closed.append(adapter.stats())
                log.info("connection_empty", exchange=self._exchange.name, left=len(self.adapters))

    def _report_state(self, _: ConnectionState) -> None:
        state = self.state
        if state is not self._state:
            self._state = state
            self.adapters[0].session.notifier.call(self._on_state, state)


def _place_of(adapter: BaseWebSocketAdapter) -> Place[BaseWebSocketAdapter]:
    return Place(adapter, adapter.url if adapter.streams else None, adapter.streams, adapter.session.symbols)


def _raise_all(exchange: str, results: Sequence[BaseException | None]) -> None:
    errors = [error for error in results if error is not None]
    refused = [error for error in errors if isinstance(error, SubscriptionError)]
    for error in errors:
        if not isinstance(error, SubscriptionError):
            raise error
    if refused:
        raise joined(exchange, refused)
