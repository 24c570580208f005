"""Symbols as users write them, as exchanges write them, and as they arrive in messages.

A name from a user passes `SymbolRules` once, where it is given; all other code uses exact names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, NamedTuple

from fastbars.errors import SubscriptionError

_LONGEST = 64  # characters of a symbol; the longest known, options, have about 30
_SHOWN = 80  # characters of a wrong one in a message
_LOWER = "abcdefghijklmnopqrstuvwxyz"
# ASCII only: beyond it, a change of case cannot always be undone, and some names are Chinese.
_CASES = {"upper": str.maketrans(_LOWER, _LOWER.upper()), "lower": str.maketrans(_LOWER.upper(), _LOWER), "exact": {}}
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_SEPARATORS = re.compile(r"[-/_: ]+")
# BTC/USDT, BTC/USDT:USDT, BTC/USD:BTC-260925
_ALIAS = re.compile(r"([^\s/:]{1,30})/([^\s/:]{1,30})(?::([^\s/:-]{1,30})(?:-([0-9]{6}))?)?")


class Alias(NamedTuple):
    """One name for an instrument on all exchanges, as ccxt writes it.

        BTC/USDT                spot
        BTC/USDT:USDT           perpetual, settled in USDT: linear
        BTC/USD:BTC             perpetual, settled in BTC: inverse
        BTC/USDT:USDT-260925    future that expires on 2026-09-25

    Attributes:
        base, quote, settle: its assets; no `settle`: spot.
        expiry: its day in UTC, as YYMMDD; None: it does not expire.
    """

    base: str
    quote: str
    settle: str | None = None
    expiry: str | None = None

    def __str__(self) -> str:
        settle = "" if self.settle is None else f":{self.settle}"
        return f"{self.base}/{self.quote}{settle}" + ("" if self.expiry is None else f"-{self.expiry}")

    @property
    def kind(self) -> Literal["spot", "perpetual", "future"]:
        """What it names."""
        if self.settle is None:
            return "spot"
        return "perpetual" if self.expiry is None else "future"

    @property
    def day(self) -> str | None:
        """When it expires, as some exchanges write it: "5SEP26"; None: it does not, or there is no such month."""
        if self.expiry is None or not 1 <= int(self.expiry[2:4]) <= len(_MONTHS):
            return None
        return f"{int(self.expiry[4:])}{_MONTHS[int(self.expiry[2:4]) - 1]}{self.expiry[:2]}"

    @property
    def is_linear(self) -> bool:
        """A derivative that is settled in what it is quoted in."""
        return self.settle is not None and self.settle == self.quote

    @property
    def is_inverse(self) -> bool:
        """A derivative that is settled in what it is about."""
        return self.settle is not None and self.settle == self.base

    @property
    def others(self) -> tuple[Alias, ...]:
        """The same assets as another kind of instrument."""
        forms = (Alias(*self[:2]), *(Alias(*self[:2], settle, self.expiry) for settle in self[1::-1]))
        return tuple(form for form in forms if form != self)


def read_alias(text: object) -> Alias | None:
    """The alias that a text is; None: it is none."""
    if not isinstance(text, str) or len(text) > 2 * _LONGEST:
        return None
    match = _ALIAS.fullmatch(text.strip())
    return match and Alias(*match.groups())


@dataclass(frozen=True, slots=True)
class SymbolRules:
    """How an exchange writes its symbols.

    Attributes:
        pattern: regular expression that every possible name matches, and nothing else does.
        case: letters are converted to this case, unless the name matches as it is; "exact": names are case-sensitive,
            and nothing is converted.
        example: valid names, for error messages.
        separator: between the parts of a name, "" for none; None: unknown, and no name is suggested.
        aliases: suffix of a product's name -> suffix of the name under which its data arrives, and which acks may use.
    """

    pattern: str = r"[^\s\x00-\x1f\x7f-\x9f\ud800-\udfff]+"
    case: Literal["upper", "lower", "exact"] = "exact"
    example: str = ""
    separator: str | None = None
    aliases: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def exact(self, symbol: str, exchange: str) -> str:
        """A symbol as the exchange writes it: without surrounding blanks, in the right case.

        Raises:
            TypeError: it is not a string. SubscriptionError: the exchange cannot have a symbol of that name.
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
        """The name under which the data of a symbol arrives: usually its own."""
        for ending, other in self.aliases.items():
            if symbol.endswith(ending):
                return symbol.removesuffix(ending) + other
        return symbol

    def check_apart(self, symbols: Iterable[str], exchange: str) -> None:
        """Raise SubscriptionError if two of these symbols arrive under one name, as nothing then distinguishes them."""
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
        reason = f"{exchange}: {shown} is not a symbol of this exchange"
        if self.example:
            reason += f", which has names like {self.example}"
        if self.case == "exact" and re.search("[A-Za-z]", self.pattern):
            reason += " (upper and lower case are different names)" if self.example else ""
        if self.separator is not None:
            meant = _SEPARATORS.sub(self.separator, name.translate(_CASES[self.case]))
            if re.fullmatch(self.pattern, meant):
                reason += f": did you mean {meant!r}?"
        return reason
