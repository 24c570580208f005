"""Subscriber: checks and normalises what users subscribe to, and passes it on to the lines."""

from __future__ import annotations

from collections.abc import Sequence

from fastbars.clocks import wall_ns
from fastbars.exchanges.messages import Stream
from fastbars.live.connections.redundancy import Lines
from fastbars.live.connections.symbol_check import SymbolCheck
from fastbars.live.session import Session


class Subscriber:
    """Subscribes and unsubscribes, now or as soon as a connection is up.

    Args:
        session: makes the bars.
        lines: carry the streams.
        check: checks symbols against the exchange's listing.
    """

    def __init__(self, session: Session, lines: Lines, check: SymbolCheck) -> None:
        self._exchange = session.exchange
        self._session = session
        self._lines = lines
        self._check = check

    @property
    def streams(self) -> list[Stream]:
        """The desired streams."""
        return list(self._lines.first.subscriptions.desired)

    @property
    def active(self) -> dict[str, set[str]]:
        """Symbol -> channels that are desired."""
        active: dict[str, set[str]] = {}
        for symbol, channel in self.streams:
            active.setdefault(symbol, set()).add(channel)
        return active

    def streams_of(self, symbols: Sequence[str], channels: Sequence[str]) -> list[Stream]:
        """Symbols and channels as pairs; the channel that bars are made from where none is given.

        Raises:
            SubscriptionError, TypeError: as `Exchange.exact_symbols`.
        """
        if isinstance(symbols, str) or isinstance(channels, str):
            raise TypeError("symbols and channels must be lists of strings")
        exact = self._exchange.exact_symbols(symbols)
        return [(symbol, channel) for channel in channels or [self._session.channel] for symbol in exact]

    async def subscribe(self, streams: Sequence[Stream]) -> None:
        """Subscribe to what the exchange lists. Raises SubscriptionError, WSConnectionError."""
        await self._check.subscribe(self._exact(streams), self.streams, self._lines.subscribe)

    async def unsubscribe(self, streams: Sequence[Stream]) -> None:
        """End subscriptions; the open bars of symbols without a trade channel are issued.

        Raises:
            SubscriptionError: the exchange refused. WSConnectionError: the connection was lost meanwhile.
        """
        streams = self._exact(streams)
        try:
            await self._lines.unsubscribe(streams)
        finally:
            active = self.active
            for symbol in dict.fromkeys(symbol for symbol, _ in streams):
                if not active.get(symbol, set()) & set(self._exchange.trade_channels):
                    self._session.flush(wall_ns(), symbol)

    def _exact(self, streams: Sequence[Stream]) -> list[Stream]:
        # Both names of one market are refused by `Subscriptions.want`, which knows all that is desired.
        rules, name = self._exchange.symbols, self._exchange.name
        return list(dict.fromkeys((rules.exact(symbol, name), channel) for symbol, channel in streams))
