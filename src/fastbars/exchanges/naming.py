"""Symbols as people write them, as exchanges write them, and as they arrive; and whose trades a live session takes.

Every name that a user gives passes `SymbolRules` once, at the door; behind it there are exact names only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal
from urllib.parse import parse_qs, urlsplit

from fastbars.bars import ExchangeBar
from fastbars.errors import FastbarsError, SubscriptionError
from fastbars.events import Quote, Ticker
from fastbars.exchanges.messages import Message, RawMessage, Stream

_LONGEST = 64  # characters of a symbol; the longest known, options, have about 30
_SHOWN = 80  # characters of a wrong one in a message
_REMEMBERED = 10_000  # names of subscriptions that have ended
_LOWER = "abcdefghijklmnopqrstuvwxyz"
# Of ASCII alone: elsewhere a change of case is not always undone by the other, and some names are Chinese.
_CASES = {"upper": str.maketrans(_LOWER, _LOWER.upper()), "lower": str.maketrans(_LOWER.upper(), _LOWER), "exact": {}}
_SEPARATORS = re.compile(r"[-/_: ]+")


@dataclass(frozen=True, slots=True)
class SymbolRules:
    """How an exchange writes its symbols.

    Attributes:
        pattern: regular expression of every name that it can have, and of none that it cannot.
        case: letters of a name in another case are put into this one, unless the name can be right as it is;
            "exact": case tells names apart, and nothing is changed.
        example: names, for the message about a wrong one.
        separator: between the parts of a name, "" for none; None: there is none to suggest.
        aliases: ending of a product's name -> ending of the name under which its data arrives, and by which acks
            may call it.
    """

    pattern: str = r"[^\s\x00-\x1f\x7f-\x9f\ud800-\udfff]+"
    case: Literal["upper", "lower", "exact"] = "exact"
    example: str = ""
    separator: str | None = None
    aliases: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def exact(self, symbol: str, exchange: str) -> str:
        """A symbol as the exchange writes it, from how somebody wrote it: blanks around it go, its case is put right.

        Raises:
            TypeError: it is no text. SubscriptionError: the exchange can have no symbol of that name.
        """
        if not isinstance(symbol, str):
            raise TypeError(f"{exchange}: symbols must be strings, {symbol!r:.80} is of type {type(symbol).__name__}")
        written = str.__str__(symbol)
        name = written.strip() if len(written) <= 2 * _LONGEST else written
        if 0 < len(name) <= _LONGEST:
            for tried in (name, name.translate(_CASES[self.case])):
                if re.fullmatch(self.pattern, tried):
                    return tried
        raise SubscriptionError(self._why_wrong(written, name, exchange), (written,))

    def arriving(self, symbol: str) -> str:
        """The name under which the data of a symbol arrives: mostly its own."""
        for ending, other in self.aliases.items():
            if symbol.endswith(ending):
                return symbol.removesuffix(ending) + other
        return symbol

    def check_apart(self, symbols: Iterable[str], exchange: str) -> None:
        """Raises SubscriptionError where two of these symbols arrive under one name: nobody could tell them apart."""
        if not self.aliases:
            return
        names: dict[str, str] = {}
        for symbol in symbols:
            other = names.setdefault(self.arriving(symbol), symbol)
            if other != symbol:
                raise SubscriptionError(
                    f"{exchange}: {other} and {symbol} are one market, and both arrive as {self.arriving(symbol)}:"
                    " subscribe to one of them",
                    (symbol,),
                )

    def _why_wrong(self, written: str, name: str, exchange: str) -> str:
        if not name:
            return f"{exchange}: a symbol must not be empty"
        shown = ascii(written[:_SHOWN])
        if len(name) > _LONGEST:
            return f"{exchange}: the symbol {shown}... has {len(written)} characters, the limit is {_LONGEST}"
        told = f"{exchange}: {shown} is no symbol of this exchange"
        if self.example:
            told += f", which has names like {self.example}"
        if self.case == "exact" and re.search("[A-Za-z]", self.pattern):
            told += " (upper and lower case are different names)" if self.example else ""
        if self.separator is not None:
            meant = _SEPARATORS.sub(self.separator, name.translate(_CASES[self.case]))
            if re.fullmatch(self.pattern, meant):
                told += f": did you mean {meant!r}?"
        return told


def streams_named(url: str) -> list[Stream]:
    """The (symbol, channel) pairs in an address: wss://host/ws/a@trade/b@trade, wss://host/stream?streams=a@trade."""
    try:
        parts = urlsplit(url)
    except ValueError:  # not a URL; connecting will say so
        return []
    named = parse_qs(parts.query).get("streams") or [parts.path.partition("/ws/")[2]]
    pairs = [name.partition("@") for name in named[0].split("/") if "@" in name[1:] and name[0] != "!"]
    return [(symbol, channel) for symbol, _, channel in pairs]


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
