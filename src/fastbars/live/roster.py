"""Whose trades a live session takes, and under which name each symbol is subscribed."""

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
    """A trade of a symbol that nobody has subscribed to; it never leaves the session."""


class Roster:
    """Whose trades a live session takes, and which name each symbol was asked for by.

    Several connections can feed one session: what any of them is subscribed to is taken.

    Args:
        rules: of the exchange.
        channel: the trade channel that bars are made from.
    """

    def __init__(self, rules: SymbolRules, channel: str) -> None:
        self._rules = rules
        self._channel = channel
        self._streams: dict[object, frozenset[Stream]] = {}
        self._names: dict[str, str] = {}  # as it arrives, or was asked for -> as it was asked for
        self._traded: frozenset[str] = frozenset()
        self._ended: dict[str, None] = {}

    @property
    def streams(self) -> frozenset[Stream]:
        """All that is subscribed to."""
        return frozenset[Stream]().union(*self._streams.values())

    def follow(self, owner: object, streams: Iterable[Stream]) -> list[str]:
        """One of the connections is subscribed to these streams alone. Returns the symbols no longer taken."""
        self._streams[owner] = frozenset(streams)
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

    def taken(self, name: str) -> str | None:
        """The symbol whose trades arrive under this name, as it was asked for; None: nobody is subscribed to it."""
        symbol = self._names.get(name)
        return symbol if symbol in self._traded else None

    def has_ended(self, name: str) -> bool:
        """Whether trades of this name were subscribed to once; of very many, the latest are remembered."""
        return name in self._ended

    def renamed(self, item: Message) -> Message:
        """What is no trade, under the name that its symbol was asked for by."""
        if not self._rules.aliases or not isinstance(item, ExchangeBar | Quote | Ticker | RawMessage):
            return item
        symbol = None if item.symbol is None else self._names.get(item.symbol)
        if symbol is None or symbol == item.symbol:
            return item
        return item._replace(symbol=symbol) if isinstance(item, RawMessage) else replace(item, symbol=symbol)
