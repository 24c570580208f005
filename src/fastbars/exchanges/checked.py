"""Validation of values in messages: type and size are checked before anything else is done with them.

Multiplying, padding or converting an unchecked value could cost gigabytes, if a hostile server sent it: a text repeated
a million times, an expanded exponent, a number with thousands of digits.
Units: times int64 nanoseconds since the Unix epoch, UTC.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable
from typing import Any, TypeVar

from fastbars.errors import ParseError
from fastbars.kernel import limits

LATEST_NS = limits.LATEST_NS  # no trade may be later, so a later time is garbage

# What a parser may raise on a malformed message.
BROKEN = (ParseError, LookupError, TypeError, ValueError, AttributeError, OverflowError)

_MOST_INTEGER_DIGITS = 19  # of 2**63
_MOST_INTERVAL_CHARACTERS = 16
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 100


def shown(value: object) -> str:
    """The repr of a value for an error message, shortened."""
    return _SHORT.repr(value)


def integer_of(value: object, most: int = 2**63 - 1) -> int:
    """An integer from 0 to `most`, as a number or as text. Raises ParseError for others: true, 1.0, "-1", "1e3"."""
    if isinstance(value, str) and len(value) <= _MOST_INTEGER_DIGITS and value.isascii() and value.isdigit():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise ParseError(f"{shown(value)} is not an integer from 0 to {most}")
    return value


def bare_integer_of(value: object, most: int = 2**63 - 1) -> int:
    """An integer from 0 to `most`, as a number only. Raises ParseError for anything else, text included."""
    if isinstance(value, str):
        raise ParseError(f"{shown(value)} is text, not an integer")
    return integer_of(value, most)


def bare_nanoseconds_of(time: object) -> int:
    """A time in ms, or from 10**14 on (the year 5138) in us, as ns. Raises ParseError for anything else, even text."""
    number = bare_integer_of(time, LATEST_NS // 1_000)
    return number * 1_000 if number >= 10**14 else integer_of(number, LATEST_NS // 1_000_000) * 1_000_000


def interval_of(text: object) -> str:
    """An exchange's name for a candle's interval, such as "1H". Raises ParseError for anything else."""
    if not isinstance(text, str) or not 0 < len(text) <= _MOST_INTERVAL_CHARACTERS:
        raise ParseError(f"{shown(text)} is not the interval of a candle")
    return text


T = TypeVar("T")


def read_with(parse: Callable[[Any], T], message: Any) -> T:
    """Call a parser, an exchange's or a user's, with a message.

    Raises:
        one of BROKEN: any other exception of the parser, RecursionError included, becomes a ParseError of the message.
    """
    try:
        return parse(message)
    except BROKEN:
        raise
    except Exception as error:
        raise ParseError(f"{type(error).__name__}: {shown(error)}") from error
