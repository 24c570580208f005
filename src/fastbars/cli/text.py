"""Makes external text safe for a terminal: nothing in it moves the cursor or reverses a line."""

from __future__ import annotations

import sys
from io import TextIOWrapper
from unicodedata import category, east_asian_width


def printable(text: str) -> str:
    """The text with every character that a terminal would not print (control, bidi, line ends) as an escape."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def columns_of(text: str) -> int:
    """Terminal columns of a printable text: wide characters take two, combining ones none."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def _columns(one: str) -> int:
    if category(one) in ("Mn", "Me"):
        return 0
    return 2 if east_asian_width(one) in ("W", "F") else 1


def fitted(text: str, width: int) -> str:
    """At most `width` columns of a printable text, with "…" at the end if it was cut."""
    if columns_of(text) <= width and len(text) <= 2 * width:
        return text
    kept, taken = "", 0
    for one in text[: 2 * width]:
        taken += _columns(one)
        if taken > width - 1:
            break
        kept += one
    return kept + "…"


def speak_utf8() -> None:
    """Make stdout and stderr UTF-8 whatever the locale; what cannot be encoded is escaped."""
    for file in (sys.stdout, sys.stderr):
        if isinstance(file, TextIOWrapper):
            file.reconfigure(encoding="utf-8", errors="backslashreplace")
