"""Pool: the connections over which a stream's symbols are spread, by what the exchange allows one connection.

A symbol stays where it is, or was before a restart: to move it would cut its bars. New symbols go to the connection
that holds the fewest streams, after as many connections were opened as are needed; one that has become empty is closed.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence

from fastbars.callbacks import check_callbacks
from fastbars.clocks import wall_ns
from fastbars.errors import SubscriptionError, WSConnectionError
from fastbars.exchanges.declaration import Exchange
from fastbars.exchanges.messages import Stream
from fastbars.live.config import StreamConfig
from fastbars.live.connections.adapter import BaseWebSocketAdapter
from fastbars.live.connections.states import ConnectionState
from fastbars.live.connections.subscriptions import joined
from fastbars.live.stats import StreamStats, sum_of
from fastbars.log import log

_S = ConnectionState


class _Load:
    """What a connection holds, or will."""

    def __init__(self, streams: Collection[Stream], exchange: Exchange) -> None:
        self.streams = len(streams)
        self._place_of = exchange.exclusive_place
        self._taken = set(map(self._place_of, streams)) - {None}

    def can_take(self, stream: Stream) -> bool:
        """Whether nothing on it excludes the stream."""
        return self._place_of(stream) not in self._taken

    def add(self, stream: Stream) -> None:
        """It will hold the stream too."""
        self.streams += 1
        self._taken |= {self._place_of(stream)} - {None}


class Pool:
    """Connections to one exchange, used as one.

    Args:
        exchange, config: as in BaseWebSocketAdapter.
        make: a connection that tells its states to the function given; it is not connected yet.
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
        limits = exchange.limits
        self._exchange = exchange
        self._make = make
        self._on_state = on_state
        self._lines = config.lines
        self._most_streams = min(limits.streams_per_connection, config.streams_per_connection or 2**62)
        # One place is left for the connection that is about to replace another.
        self._most_connections = 2**62 if limits.connections is None else max(1, limits.connections - 1)
        self._state = _S.DISCONNECTED
        self._closed: list[StreamStats] = []  # what the connections that are gone had counted
        self._watchers: dict[BaseWebSocketAdapter, asyncio.Task[None]] = {}
        self._ended = asyncio.Event()
        self._ending = False
        self._failure: WSConnectionError | None = None
        self._paused = False
        self._turn = asyncio.Lock()
        self.adapters = [make(self._tell_state)]

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
            shares = await self._place(streams)
            # What the limits allow was checked; what is left to go wrong concerns single symbols.
            results = await asyncio.gather(
                *(adapter.subscribe_unchecked(streams) for adapter, streams in shares.items()), return_exceptions=True
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
            shares = {adapter: [s for s in adapter.streams if s in wanted] for adapter in self.adapters}
            results = await asyncio.gather(
                *(adapter.unsubscribe_streams(streams) for adapter, streams in shares.items() if streams),
                return_exceptions=True,
            )
            await self._close_empty()
        _raise_all(self._exchange.name, results)

    def exact_symbols(self, symbols: Sequence[str]) -> list[str]:
        """Symbols as the exchange writes them, each once. Raises SubscriptionError, TypeError."""
        if isinstance(symbols, str):
            raise TypeError("symbols and channels are lists, not one text")
        return self._exchange.exact_symbols(symbols)

    def pause_reading(self) -> None:
        """Stop reading all sockets, because a consumer is behind."""
        self._paused = True
        for adapter in self.adapters:
            adapter.pause_reading()

    def resume_reading(self) -> None:
        """Read them again."""
        self._paused = False
        for adapter in self.adapters:
            adapter.resume_reading()

    def release(self) -> None:
        """Issue what a snapshot brought of symbols that are not subscribed (PARTIAL, `end`): nothing more will come."""
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

    def _check_names(self, streams: Sequence[Stream]) -> None:
        # Both names of one market, on whichever connections.
        held = [stream for adapter in self.adapters for stream in adapter.streams]
        symbols = dict.fromkeys(symbol for symbol, _ in [*held, *streams])
        self._exchange.symbols.check_apart(symbols, self._exchange.name)

    async def _place(self, streams: Sequence[Stream]) -> dict[BaseWebSocketAdapter, list[Stream]]:
        # Which connection takes what; opens those that are missing. Streams of other routes go elsewhere.
        shares: dict[BaseWebSocketAdapter, list[Stream]] = {}
        self._check_names(streams)
        held = {stream: adapter for adapter in self.adapters for stream in adapter.streams}
        new: dict[str, list[Stream]] = {}
        for stream in dict.fromkeys(streams):
            if stream in held:
                shares.setdefault(held[stream], []).append(stream)
            else:
                new.setdefault(self.adapters[0].url_of({stream[1]}), []).append(stream)
        self._check_limits(new, len(held))
        for url, its_streams in sorted(new.items(), key=lambda item: item[0] != self.adapters[0].url):
            unused = [adapter for adapter in self.adapters if not adapter.streams and adapter not in shares]
            ours = [
                adapter for adapter in self.adapters if adapter in unused or (adapter.streams and adapter.url == url)
            ]
            loads = {adapter: _Load(adapter.streams, self._exchange) for adapter in ours}
            everything = [*(stream for adapter in ours for stream in adapter.streams), *its_streams]
            for _ in range(self._needed(everything) - len(ours)):
                adapter = await self._open({stream[1] for stream in its_streams})
                loads[adapter] = _Load((), self._exchange)
            # First those whose bars a connection knows, from before or from a snapshot; then the others.
            knows = {symbol: adapter for adapter in loads for symbol in adapter.session.symbols}
            for stream in sorted(its_streams, key=lambda stream: stream[0] not in knows):
                chosen = self._choose(stream, loads, knows.get(stream[0]))
                if chosen is None:  # those that have room hold what excludes it
                    chosen = await self._open({stream[1]})
                    loads[chosen] = _Load((), self._exchange)
                loads[chosen].add(stream)
                shares.setdefault(chosen, []).append(stream)
        return shares

    async def _open(self, channels: set[str]) -> BaseWebSocketAdapter:
        adapter = self._make(self._tell_state)
        if self._paused:
            adapter.pause_reading()
        adapter.expect(channels)
        await self._connect(adapter)
        return adapter

    def _choose(
        self, stream: Stream, loads: Mapping[BaseWebSocketAdapter, _Load], known: BaseWebSocketAdapter | None
    ) -> BaseWebSocketAdapter | None:
        # The connection that holds least, of those that can take the stream.
        able = [one for one, load in loads.items() if load.streams < self._most_streams and load.can_take(stream)]
        return known if known in able else min(able, key=lambda one: loads[one].streams, default=None)

    def _needed(self, streams: Collection[Stream]) -> int:
        # By their number, and by those of one symbol that exclude each other.
        apart = Counter(map(self._exchange.exclusive_place, streams))
        apart.pop(None, 0)
        return max([-(-len(streams) // self._most_streams), *apart.values()])

    def _check_limits(self, new: dict[str, list[Stream]], held: int) -> None:
        count = held + sum(map(len, new.values()))
        symbols = tuple(symbol for streams in new.values() for symbol, _ in streams)
        limits = self._exchange.limits
        if limits.streams is not None and count > limits.streams:
            raise SubscriptionError(
                f"{self._exchange.name}: {count} streams are over the limit of {limits.streams} from one address",
                symbols,
            )
        connections = 0
        for url in {adapter.url for adapter in self.adapters if adapter.streams} | new.keys():
            at_url = [stream for adapter in self.adapters if adapter.url == url for stream in adapter.streams]
            connections += self._needed([*at_url, *new.get(url, ())])
        connections *= self._lines
        if connections > self._most_connections:
            raise SubscriptionError(
                f"{self._exchange.name}: {count} streams need {connections} connections of {self._most_streams}, and"
                f" {self._most_connections} are allowed from one address, beside one for replacing another",
                symbols,
            )

    async def _connect(self, adapter: BaseWebSocketAdapter) -> None:
        await adapter.connect()
        if adapter not in self.adapters:
            self.adapters.append(adapter)
        self._watchers[adapter] = asyncio.create_task(self._watch(adapter), name=f"fastbars {self._exchange.name} pool")

    async def _watch(self, adapter: BaseWebSocketAdapter) -> None:
        # One connection that is lost for good ends all: some symbols would be missing without a word.
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

    def _tell_state(self, _: ConnectionState) -> None:
        state = self.state
        if state is not self._state:
            self._state = state
            self.adapters[0].session.tell(self._on_state, state)


def _raise_all(exchange: str, results: Sequence[BaseException | None]) -> None:
    errors = [error for error in results if error is not None]
    refused = [error for error in errors if isinstance(error, SubscriptionError)]
    for error in errors:
        if not isinstance(error, SubscriptionError):
            raise error
    if refused:
        raise joined(exchange, refused)
