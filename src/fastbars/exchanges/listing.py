"""Declarations of REST endpoints for instruments, and pure functions that read their answers.

No socket and no clock: `live/listings.py` has those. An answer may have many megabytes; it is read piece by piece, so
that the thread reading it never holds the interpreter lock for long. What is said of an instrument and cannot be read
is unknown, and None; only its symbol is required.

Units: times int64 nanoseconds since the Unix epoch, UTC.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, NamedTuple

import orjson

from fastbars.errors import ParseError
from fastbars.exchanges.checked import LATEST_NS
from fastbars.exchanges.rest_api import RestApi

Kind = Literal["spot", "perpetual", "future", "option"]

# Why an instrument does not trade.
HALTED, DELISTED, NOT_YET = "halted", "delisted", "not trading yet"

MOST_INSTRUMENTS = 200_000  # the largest exchange lists a few thousand
MOST_PAGES = 50
_LONGEST_NAME = 100
_LONGEST_NUMBER = 60
_MOST_PLACES = 40
_LONGEST_ITEM = 2**18  # bytes; one instrument has a few thousand
_LONGEST_REST = 2**22  # bytes of an answer, apart from its instruments
_LONGEST_WHOLE = 2**21  # of an answer that is read in one piece
_KEY = re.compile(rb'"([^"\\]{1,100})"\s*:\s*\Z')
_DEEPEST = 32
# Strings and brackets. One match holds the interpreter from its first byte to its last, so a string has at most four
# million bytes, and with escapes in it 4,096 of them; what begins a longer one, or one without an end, is a lone quote.
_TOKEN = re.compile(rb'"(?:[^"\\]{0,4194304}+"|[^"\\]{0,4096}+(?:\\.[^"\\]{0,1024}+){0,4096}+")|["\[\]{}]', re.DOTALL)


class Listed(NamedTuple):
    """One instrument, as an exchange lists it; None: the exchange does not say.

    Attributes:
        symbol: as its stream is subscribed to.
        status: in the exchange's own words, such as "TRADING".
        kind: what it is.
        base, quote, settle: its assets, as people write them ("BTC", not "XBT"); `settle` of derivatives only.
        price_tick: smallest difference of two prices.
        size_step: smallest difference of two sizes.
        contract_size: quote units a contract where `inverse`, else base units a contract; None where sizes are base
            units.
        inverse: it is quoted in one asset and settled in the other; None for spot.
        expiry_ns: when it expires.
        listed_ns: when it was, or will be, listed.
        quote_volume: traded in the last 24 hours, in quote units.
        contracts: traded in the last 24 hours, in contracts.
    """

    symbol: str
    status: str
    kind: Kind | None = None
    base: str | None = None
    quote: str | None = None
    settle: str | None = None
    price_tick: Decimal | None = None
    size_step: Decimal | None = None
    contract_size: Decimal | None = None
    inverse: bool | None = None
    expiry_ns: int | None = None
    listed_ns: int | None = None
    quote_volume: Decimal | None = None
    contracts: Decimal | None = None


def text_in(one: Mapping[str, Any], key: str) -> str | None:
    """A name; None where there is none, or what is there is not one."""
    value = one.get(key)
    return value if isinstance(value, str) and 0 < len(value) <= _LONGEST_NAME and value.isprintable() else None


def positive_in(one: Any, *keys: object) -> Decimal | None:
    """A positive number, as text or as a number, at a path of keys; None where there is none."""
    for key in keys:
        one = one.get(key) if isinstance(one, dict) else None
    if isinstance(one, bool) or not isinstance(one, str | int | float) or len(text := str(one)) > _LONGEST_NUMBER:
        return None
    try:
        value = Decimal(text)
    except InvalidOperation:
        return None
    # Its digits are bounded, written out too.
    return value if value.is_finite() and value > 0 and -_MOST_PLACES <= value.adjusted() <= _MOST_PLACES else None


def time_in(one: Mapping[str, Any], key: str) -> int | None:
    """A time in ms, as a number or as text, in ns; None where there is none, or it is 0."""
    value = one.get(key)
    if isinstance(value, str) and len(value) <= _LONGEST_NUMBER and value.isascii() and value.isdigit():
        value = int(value)
    if type(value) is not int or not 0 < value <= LATEST_NS // 1_000_000:
        return None
    return value * 1_000_000


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
        keyed: where `items` leads to an object, its keys are given to `read` under this name.
        whole: instead of `items` and `read`, for answers that are small: reads the decoded answer.
        volumes: the endpoint that lists what was traded in the last 24 hours, of the same API: its instruments have
            `quote_volume` or `contracts`. None: there is none, or this one says it.
        names: the names that one symbol may have in `volumes`.
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
    keyed: str | None = None
    whole: Callable[[Any], list[Listed]] | None = field(default=None, repr=False)
    volumes: Listing | None = field(default=None, repr=False)
    names: Callable[[str], Sequence[str]] = field(default=lambda symbol: (symbol,), repr=False)

    def parse(self, body: bytes) -> tuple[list[Listed], str]:
        """The instruments of one answer, and the cursor of the next page ("" where this is the last).

        Raises:
            ParseError, and what malformed JSON leads to (ValueError, LookupError, TypeError, AttributeError).
        """
        if self.whole is not None:
            return self._parse_whole(body, self.whole), ""
        rest, places = split(body, self.items)
        why = self.failed(rest)
        if why is not None:
            raise ParseError(why)
        found: list[Listed] = []
        for start, stop in places:
            item = orjson.loads(body[start:stop])
            if self.keyed is not None:
                item[self.keyed] = _key_before(body, start)
            one = self.read(item)
            if one is not None:
                found.append(_checked(one))
        cursor: Any = "" if self.cursor is None else rest
        for key in self.cursor[1] if self.cursor is not None else ():
            cursor = cursor.get(key) or ""
        return found, str(cursor)[:1000]

    def _parse_whole(self, body: bytes, whole: Callable[[Any], list[Listed]]) -> list[Listed]:
        if len(body) > _LONGEST_WHOLE:
            raise ParseError(f"the answer has {len(body)} bytes, the limit is {_LONGEST_WHOLE}")
        found = whole(orjson.loads(body))
        if len(found) > MOST_INSTRUMENTS:
            raise ParseError(f"more than {MOST_INSTRUMENTS} instruments")
        return list(map(_checked, found))


def _checked(one: Listed) -> Listed:
    if not isinstance(one.symbol, str) or not 0 < len(one.symbol) <= _LONGEST_NAME:
        raise ParseError(f"{str(one.symbol)[:_LONGEST_NAME]!r} is not a symbol")
    return one


def _key_before(body: bytes, start: int) -> str:
    # The key of the value that begins here.
    key = _KEY.search(body, max(0, start - 2 * _LONGEST_NAME), start)
    if key is None:
        raise ParseError(f"an instrument without a key: {body[start : start + 100]!r}")
    return key.group(1).decode("utf-8", "replace")


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
