"""Declarations of REST endpoints for instruments, and pure functions that read their answers.

No socket and no clock: `live/connections/symbol_check.py` has those. An answer may have many megabytes; it is read
piece by piece, so that the thread reading it never holds the interpreter lock for long.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from fastbars.errors import ParseError
from fastbars.exchanges.rest_api import RestApi

# Why an instrument does not trade.
HALTED, DELISTED, NOT_YET = "halted", "delisted", "not trading yet"

MOST_INSTRUMENTS = 200_000  # the largest exchange lists a few thousand
MOST_PAGES = 50
_LONGEST_NAME = 100
_LONGEST_ITEM = 2**18  # bytes; one instrument has a few thousand
_LONGEST_REST = 2**22  # bytes of an answer, apart from its instruments
_DEEPEST = 32
# Strings and brackets. One match holds the interpreter from its first byte to its last, so a string has at most four
# million bytes, and with escapes in it 4,096 of them; what begins a longer one, or one without an end, is a lone quote.
_TOKEN = re.compile(rb'"(?:[^"\\]{0,4194304}+"|[^"\\]{0,4096}+(?:\\.[^"\\]{0,1024}+){0,4096}+")|["\[\]{}]', re.DOTALL)


class Listed(NamedTuple):
    """One instrument.

    Attributes:
        symbol: as its stream is subscribed to.
        status: in the exchange's own words, such as "TRADING".
    """

    symbol: str
    status: str


@dataclass(frozen=True, eq=False)
class Question:
    """One request, and the instruments that it lists.

    Attributes:
        query: of the request.
        body: of a POST; None: it is a GET.
        covers: whether the answer would list a symbol, if it exists.
    """

    query: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    covers: Callable[[str], bool] = field(default=lambda _: True, repr=False)


@dataclass(frozen=True, eq=False)
class Listing:
    """An exchange's endpoint that lists instruments.

    Attributes:
        api: where it is, and its rate limit.
        path: of the endpoint.
        items: path of keys to the list (or object) of instruments in an answer.
        read: makes a Listed of one decoded instrument; None: skip it.
        questions: the requests that together list all instruments; a symbol that none covers is not checked.
        stopped: statuses in which an instrument does not trade -> HALTED, DELISTED or NOT_YET. Any other status counts
            as trading, unknown ones included.
        failed: reads the error from an answer without its instruments; None: there is none.
        cursor: the query key of the next page, and the path of keys to its value in an answer.
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
            ParseError, and what malformed JSON leads to (ValueError, LookupError, TypeError, AttributeError).
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
                raise ParseError(f"{str(one.symbol)[:_LONGEST_NAME]!r} is not a symbol")
            found.append(one)
        cursor: Any = "" if self.cursor is None else rest
        for key in self.cursor[1] if self.cursor is not None else ():
            cursor = cursor.get(key) or ""
        return found, str(cursor)[:1000]


def split(body: bytes, keys: tuple[str, ...]) -> tuple[Any, list[tuple[int, int]]]:
    """Split an answer into the decoded rest and the byte range of each instrument.

    Args:
        body: a JSON object.
        keys: path to the list or object that holds the instruments.

    Raises:
        ParseError: there is no such list, or a part of the answer is too large. ValueError: it is not JSON.
    """
    # Only strings and brackets are looked at; orjson checks the pieces later. Three states, in this order: before the
    # list (`inside` is 0, keys are remembered), within it (`inside` is its depth, only brackets count), and at the
    # bracket that closes it, where the function returns.
    path = ["", *keys]
    opened: list[str] = []  # the key of each open bracket; "" for one without
    places: list[tuple[int, int]] = []
    inside = begun = 0  # depth of the list once reached; where the current instrument begins
    key, key_stop, list_start = b"", -1, 0
    for token in _TOKEN.finditer(body):
        text = token.group()
        if text == b'"':
            raise ParseError("a string in the answer is too long or unterminated")
        if text[:1] == b'"':
            if not inside:
                key, key_stop = text[1:-1], token.end()
        elif text in b"[{":
            if len(opened) >= _DEEPEST:
                raise ParseError(f"the answer is nested deeper than {_DEEPEST}")
            is_near = 0 < key_stop < token.start() <= key_stop + 64  # beyond that many blanks it is not a key
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
                    raise ParseError(f"an instrument has {token.end() - begun} bytes, the limit is {_LONGEST_ITEM}")
                if len(places) >= MOST_INSTRUMENTS:
                    raise ParseError(f"more than {MOST_INSTRUMENTS} instruments")
                places.append((begun, token.end()))
            elif inside and len(opened) < inside:
                if list_start + len(body) - token.start() > _LONGEST_REST:
                    raise ParseError(f"the answer has more than {_LONGEST_REST} bytes apart from its instruments")
                return orjson.loads(body[:list_start] + body[token.start() :]), places
    raise ParseError(f"the answer has no complete list of instruments: {body[:200]!r}")
