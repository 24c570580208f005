"""Rows as JSON, for stores that keep text: a line of a file, a message, a value.

One object a row, by the names of COLUMNS: decimals as text without exponent, times as ISO 8601 text in UTC.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

import orjson

from fastbars.sinks.rows import COLUMNS, ColumnKind

__all__ = ["json_of", "record_of_json"]

_NAMES = tuple(column.name for column in COLUMNS)


def json_of(record: tuple[Any, ...]) -> bytes:
    """One row, in the order of COLUMNS, as JSON."""
    return orjson.dumps(dict(zip(_NAMES, record, strict=True)), _decimal_text, orjson.OPT_UTC_Z)


def record_of_json(content: bytes | str) -> dict[str, Any]:
    """The row by the names of COLUMNS. Raises ValueError, KeyError: it is none."""
    found = orjson.loads(content)
    if not isinstance(found, dict):
        raise ValueError(f"a row must be an object, got {type(found).__name__}")
    return {column.name: _value(column.kind, found[column.name]) for column in COLUMNS}


def _value(kind: ColumnKind, value: Any) -> Any:
    if value is None:
        return None
    if kind is ColumnKind.DECIMAL:
        return Decimal(value)
    return datetime.fromisoformat(value) if kind is ColumnKind.TIME else value


def _decimal_text(value: Any) -> str:
    # What JSON has no form for; times it has.
    if isinstance(value, Decimal):
        return format(value, "f")
    raise TypeError(f"a row has a {type(value).__name__}")
