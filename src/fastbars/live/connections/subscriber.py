"""Subscriber: what is desired of a connection, by its users, and what they hear of it; the base of the adapter."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence

from fastbars.errors import SubscriptionError, WSConnectionError
from fastbars.exchanges.declaration import Exchange
from fastbars.exchanges.messages import Stream
from fastbars.live.connections.connection import Line
from fastbars.live.connections.subscriptions import Subscriptions
from fastbars.live.connections.symbol_check import SymbolCheck
from fastbars.live.session import Session


class Subscriber(ABC):
    """Subscribes and unsubscribes, now or as soon as the connection is up; after a reconnect the adapter does."""

    exchange: Exchange
    session: Session
    symbol_check: SymbolCheck
    _subscriptions: Subscriptions
    _line: Line | None

    @property
    @abstractmethod
    def url(self) -> str:
        """Where it connects to."""

    @property
    @abstractmethod
    def url_given(self) -> str | None:
        """The address that the user gave, if any."""

    @property
    @abstractmethod
    def _is_up(self) -> bool: ...

    @property
    @abstractmethod
    def _lines(self) -> Sequence[Line]: ...

    @abstractmethod
    async def reconnect(self) -> None:
        """Drop the connection, connect anew, and wait until it is up again."""

    @property
    def active_subscriptions(self) -> dict[str, set[str]]:
        """Symbol -> channels that are desired; they are subscribed again after a reconnect."""
        active: dict[str, set[str]] = {}
        for symbol, channel in self._subscriptions.desired:
            active.setdefault(symbol, set()).add(channel)
        return active

    @property
    def streams(self) -> list[Stream]:
        """What is desired, as (symbol, channel) pairs."""
        return list(self._subscriptions.desired)

    def streams_of(self, symbols: Sequence[str], channels: Sequence[str] = ()) -> list[Stream]:
        """Symbols and channels as pairs; the channel that bars are made from where none is given.

        Raises:
            SubscriptionError, TypeError: as `Exchange.exact_symbols`.
        """
        if isinstance(symbols, str) or isinstance(channels, str):
            raise TypeError("symbols and channels are lists, not one text")
        exact = self.exchange.exact_symbols(symbols)
        return [(symbol, channel) for channel in channels or [self.session.channel] for symbol in exact]

    async def subscribe(self, symbols: Sequence[str], channels: Sequence[str] = ()) -> None:
        """Subscribe, now or as soon as the connection is up, and after every reconnect.

        Args:
            symbols: as the exchange writes them; case is put right where the exchange has one case only.
            channels: names such as "trade" or "kline_1m"; the trade channel that bars are made from if empty.

        Raises:
            SubscriptionError: an unknown channel, too many streams, or symbols that the exchange refused, does not
                list, or has halted; the others are subscribed.
            WSConnectionError: the connection was lost meanwhile; all of them stay desired.
        """
        await self.subscribe_streams(self.streams_of(symbols, channels))

    async def subscribe_streams(self, streams: Sequence[Stream]) -> None:
        """As `subscribe`, given (symbol, channel) pairs."""
        exact = self._exact(streams)
        await self.symbol_check.subscribe(exact, self._subscriptions.desired, self.subscribe_unchecked)

    async def subscribe_unchecked(self, streams: Sequence[Stream]) -> None:
        """As `subscribe_streams`, of symbols that the exchange is known to have."""
        added = [stream for stream in streams if stream not in self._subscriptions.desired]
        self._subscriptions.want(streams)
        try:
            url = self.url
        except SubscriptionError:  # no one connection serves all channels
            self._subscriptions.drop(added)
            raise
        self._follow()
        if self._line is not None and self._is_up and url != self._line.url:
            await self.reconnect()  # to where all of them are served
        try:
            if self._is_up:
                await self._ask(lambda line: line.subscriptions.subscribe(streams, line.send))
        finally:
            self._follow()  # what was refused is not subscribed to

    async def unsubscribe(self, symbols: Sequence[str], channels: Sequence[str] = ()) -> None:
        """End subscriptions; the symbols' open bars are issued (PARTIAL, `end`) where no trade channel is left.

        Raises:
            SubscriptionError: the exchange refused. WSConnectionError: the connection was lost meanwhile.
        """
        await self.unsubscribe_streams(self.streams_of(symbols, channels))

    async def unsubscribe_streams(self, streams: Sequence[Stream]) -> None:
        """As `unsubscribe`, given (symbol, channel) pairs."""
        streams = self._exact(streams)
        try:
            await self._let_go(streams)
        finally:
            active = self.active_subscriptions
            for symbol in dict.fromkeys(symbol for symbol, _ in streams):
                if not active.get(symbol, set()) & set(self.exchange.trade_channels):
                    self.session.flush(time.time_ns(), symbol)

    async def _let_go(self, streams: Sequence[Stream]) -> None:
        held = [stream for stream in streams if stream in self._subscriptions.desired]
        self._subscriptions.drop(held)
        try:
            if self._is_up and held:
                await self._ask(lambda line: line.subscriptions.unsubscribe(held, line.send))
        finally:
            self._follow()

    def _exact(self, streams: Sequence[Stream]) -> list[Stream]:
        # Both names of one market are refused by `Subscriptions.want`, which knows all that is desired.
        rules, name = self.exchange.symbols, self.exchange.name
        return list(dict.fromkeys((rules.exact(symbol, name), channel) for symbol, channel in streams))

    def take_subscribed_only(self) -> None:
        """From now on, trades make bars only if their symbols are subscribed to; else that begins with `subscribe`."""
        self._follow()

    def _follow(self) -> None:
        desired = list(self._subscriptions.desired)
        self.session.follow(self, [*desired, *self.exchange.streams_in(self.url_given or "")], time.time_ns())

    async def _ask(self, request: Callable[[Line], Awaitable[None]]) -> None:
        # During a handover there are two lines; what becomes of one that has been replaced meanwhile is no matter.
        for line in self._lines:
            try:
                await request(line)
            except WSConnectionError:
                if not line.replaced:
                    raise
