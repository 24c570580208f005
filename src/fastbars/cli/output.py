"""Bars as text: table, CSV and JSON lines. Times are ISO 8601 UTC with Z, decimals in plain notation."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any, TextIO

import orjson

from fastbars.bars import BAR_FIELDS, OHLCVBar

_COLUMNS = (
    ("symbol", 14),
    ("spec", 12),
    ("open_time", 27),
    ("open", 14),
    ("high", 14),
    ("low", 14),
    ("close", 14),
    ("volume", 18),
    ("trade_count", 8),
    ("status", 12),
)


def text_of(value: Any) -> str:
    """One field as text; None is empty."""
    if value is None:
        return ""
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return str(value)


def csv_line(bar: OHLCVBar) -> str:
    """The bar in the order of BAR_FIELDS. No field needs quotes: symbols hold neither commas nor quotes."""
    return ",".join(text_of(value) for value in bar.to_dict().values())


def json_line(bar: OHLCVBar) -> str:
    """The bar as one JSON object; decimals are text, so that no reader rounds them."""
    fields = {
        name: value if value is None or isinstance(value, int) else text_of(value)
        for name, value in bar.to_dict().items()
    }
    return orjson.dumps(fields).decode()


def table_line(bar: OHLCVBar) -> str:
    """The bar as a row under `HEADERS["table"]`."""
    cells = [text_of(getattr(bar, name)) for name, _ in _COLUMNS]
    cells[-1] += f" r{bar.revision}" if bar.revision else ""
    return _align(cells)


def _align(cells: Iterable[str]) -> str:
    padded = (
        cell.ljust(width) if name in {"symbol", "spec", "open_time", "status"} else cell.rjust(width)
        for cell, (name, width) in zip(cells, _COLUMNS, strict=True)
    )
    return " ".join(padded).rstrip()


HEADERS = {
    "table": _align("trades" if name == "trade_count" else name for name, _ in _COLUMNS),
    "csv": ",".join(BAR_FIELDS),
    "jsonl": None,
}
LINES: dict[str, Callable[[OHLCVBar], str]] = {"table": table_line, "csv": csv_line, "jsonl": json_line}


class BarWriter:
    """Writes bars to a text file as they come, each line flushed where somebody may be watching."""

    def __init__(self, file: TextIO, form: str, *, live: bool = False) -> None:
        self._file = file
        self._line = LINES[form]
        self._live = live
        header = HEADERS[form]
        if header is not None:
            self._file.write(header + "\n")
        if live:
            self._file.flush()

    def write(self, bar: OHLCVBar) -> None:
        """One bar, one line."""
        self._file.write(self._line(bar) + "\n")
        if self._live:
            self._file.flush()
