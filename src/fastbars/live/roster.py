"""Roster: the symbols whose trades a live session takes, and the name under which each is subscribed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from fastbars.bars import ExchangeBar
from fastbars.errors import FastbarsError
from fastbars.events import Quote, Ticker
from fastbars.exchanges.messages import Message, RawMessage, Stream
from fastbars.exchanges.naming import SymbolRules

_REMEMBERED = 10_000  # names of subscriptions that have ended


class NotSubscribedError(FastbarsError):
    """A trade of a symbol that is not subscribed to; never raised outside the session."""


class Roster:
    """The symbols whose trades a live session takes, by the names under which they were subscribed.

    Several connections can feed one session: a trade is taken if any of them is subscribed to its symbol.

    Args:
        rules: of the exchange.
        channel: the trade channel that bars are made from.
    """

    def __init__(self, rules: SymbolRules, channel: str) -> None:
        self._rules = rules
        self._channel = channel
        self._streams: dict[object, frozenset[Stream]] = {}
        self._names: dict[str, str] = {}  # name in messages, or as subscribed -> as subscribed
        self._traded: frozenset[str] = frozenset()
        self._ended: dict[str, None] = {}

    @property
    def streams(self) -> frozenset[Stream]:
        """All that is subscribed to."""
        return frozenset[Stream]().union(*self._streams.values())

    def follow(self, owner: object, streams: Iterable[Stream]) -> list[str]:
        """Set the streams of one connection. Returns the symbols whose trades are no longer taken."""
        self._streams[owner] = frozenset(streams)
        if not self._streams[owner]:
            del self._streams[owner]
        now = self.streams
        self._names = {self._rules.arriving(symbol): symbol for symbol, _ in now}
        self._names |= {symbol: symbol for symbol, _ in now}
        before, self._traded = self._traded, frozenset(symbol for symbol, channel in now if channel == self._channel)
        gone = sorted(before - self._traded)
        for symbol in gone:
            for name in (symbol, self._rules.arriving(symbol)):
                self._ended.pop(name, None)
                self._ended[name] = None
        for name in list(self._ended)[: max(0, len(self._ended) - _REMEMBERED)]:
            del self._ended[name]
        return gone

    def symbol_of(self, name: str) -> str | None:
        """The subscribed symbol whose trades arrive under this name; None: no connection is subscribed to it."""
        symbol = self._names.get(name)
        return symbol if symbol in self._traded else None

    def has_ended(self, name: str) -> bool:
        """Whether trades of this name were subscribed to before; the latest 10,000 names are remembered."""
        return name in self._ended

    def renamed(self, item: Message) -> Message:
        """The message with its symbol as subscribed; trades, and messages without a symbol, unchanged."""
        if not self._rules.aliases or not isinstance(item, ExchangeBar | Quote | Ticker | RawMessage):
            return item
        symbol = None if item.symbol is None else self._names.get(item.symbol)
        if symbol is None or symbol == item.symbol:
            return item
        return item._replace(symbol=symbol) if isinstance(item, RawMessage) else replace(item, symbol=symbol)
