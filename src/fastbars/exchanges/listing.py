"""REST endpoints of instruments, declared; and how their answers are read, as pure functions.

No socket and no clock: `live/connections/symbol_check.py` has those. An answer may have many
megabytes; it is read piece by piece, so that a thread that reads it never holds the interpreter for long.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from fastbars.errors import ParseError
from fastbars.exchanges.rest_api import RestApi

# Meanings of statuses in which an instrument does not trade.
HALTED, DELISTED, NOT_YET = "halted", "delisted", "not trading yet"

MOST_INSTRUMENTS = 200_000  # the largest exchange lists a few thousand
MOST_PAGES = 50
_LONGEST_NAME = 100
_LONGEST_ITEM = 2**18  # bytes; one instrument has a few thousand
_LONGEST_REST = 2**22  # bytes of an answer beside its instruments
_DEEPEST = 32
# Strings and brackets. One match holds the interpreter from its first byte to its last, so a string has at most four
# million bytes, and with escapes in it 4,096 of them; what begins a longer one, or one without an end, is a lone quote.
_TOKEN = re.compile(rb'"(?:[^"\\]{0,4194304}+"|[^"\\]{0,4096}+(?:\\.[^"\\]{0,1024}+){0,4096}+")|["\[\]{}]', re.DOTALL)


class Listed(NamedTuple):
    """One instrument.

    Attributes:
        symbol: as its stream is subscribed to.
        status: in the exchange's own word, such as "TRADING".
    """

    symbol: str
    status: str


@dataclass(frozen=True, eq=False)
class Question:
    """One request, and which instruments it lists.

    Attributes:
        query: of the request.
        body: of a POST; None: it is a GET.
        covers: whether the answer lists a symbol, if that exists.
    """

    query: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    covers: Callable[[str], bool] = field(default=lambda _: True, repr=False)


@dataclass(frozen=True, eq=False)
class Listing:
    """An exchange's endpoint of instruments.

    Attributes:
        api: where it is, and its rate limit.
        path: of the endpoint.
        items: keys that lead to the list (or object) of instruments in an answer.
        read: one instrument of it, decoded; None: it is of no interest.
        questions: the requests that together list all instruments; of a symbol that none covers nothing is known.
        stopped: status -> what it means, of those in which an instrument does not trade (HALTED, DELISTED, NOT_YET).
            Any other status, one that is not known here too, counts as trading.
        failed: what the rest of an answer, without its instruments, says of a failure; None: it is well.
        cursor: the query key that names the next page, and the keys that lead to its value in an answer.
        weight: of one request, as the exchange counts.
    """

    api: RestApi
    path: str
    items: tuple[str, ...]
    read: Callable[[Any], Listed | None] = field(repr=False)
    stopped: Mapping[str, str]
    weight: float
    questions: Sequence[Question] = (Question(),)
    failed: Callable[[Any], str | None] = field(default=lambda _: None, repr=False)
    cursor: tuple[str, tuple[str, ...]] | None = None

    def parse(self, body: bytes) -> tuple[list[Listed], str]:
        """The instruments of one answer, and the cursor of the next page ("" where this is the last).

        Raises:
            ParseError, and what reading broken JSON raises (ValueError, LookupError, TypeError, AttributeError).
        """
        rest, places = split(body, self.items)
        why = self.failed(rest)
        if why is not None:
            raise ParseError(why)
        found: list[Listed] = []
        for start, stop in places:
            one = self.read(orjson.loads(body[start:stop]))
            if one is None:
                continue
            if not isinstance(one.symbol, str) or not 0 < len(one.symbol) <= _LONGEST_NAME:
                raise ParseError(f"{str(one.symbol)[:_LONGEST_NAME]!r} is no symbol")
            found.append(one)
        cursor: Any = "" if self.cursor is None else rest
        for key in self.cursor[1] if self.cursor is not None else ():
            cursor = cursor.get(key) or ""
        return found, str(cursor)[:1000]


def split(body: bytes, keys: tuple[str, ...]) -> tuple[Any, list[tuple[int, int]]]:
    """An answer without its instruments, decoded, and where in it each of them stands.

    Args:
        body: a JSON object.
        keys: that lead to the list or object that holds the instruments.

    Raises:
        ParseError: there is no such list, or a part of the answer is too large. ValueError: it is no JSON.
    """
    path = ["", *keys]
    opened: list[str] = []  # the key of each bracket that is open
    places: list[tuple[int, int]] = []
    inside = begun = 0  # how deep the list lies, once it is reached; where the instrument begins
    key, key_stop, list_start = b"", -1, 0
    for token in _TOKEN.finditer(body):
        text = token.group()
        if text == b'"':
            raise ParseError("a text in the answer is too long, or has no end")
        if text[:1] == b'"':
            if not inside:
                key, key_stop = text[1:-1], token.end()
        elif text in b"[{":
            if len(opened) >= _DEEPEST:
                raise ParseError(f"the answer is nested deeper than {_DEEPEST}")
            is_near = 0 < key_stop < token.start() <= key_stop + 64  # a longer way is not looked at
            is_value = not inside and is_near and body[key_stop : token.start()].strip() == b":"
            opened.append(key.decode("utf-8", "replace") if is_value else "")
            if not inside and opened == path:
                inside, list_start = len(opened), token.end()
            elif len(opened) == inside + 1:
                begun = token.start()
        elif opened:
            opened.pop()
            if inside and len(opened) == inside:
                if token.end() - begun > _LONGEST_ITEM:
                    raise ParseError(f"an instrument of {token.end() - begun} bytes")
                if len(places) >= MOST_INSTRUMENTS:
                    raise ParseError(f"more than {MOST_INSTRUMENTS} instruments")
                places.append((begun, token.end()))
            elif inside and len(opened) < inside:
                if list_start + len(body) - token.start() > _LONGEST_REST:
                    raise ParseError(f"the answer has more than {_LONGEST_REST} bytes beside its instruments")
                return orjson.loads(body[:list_start] + body[token.start() :]), places
    raise ParseError(f"the answer has no whole list of instruments: {body[:200]!r}")
