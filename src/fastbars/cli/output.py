"""Bars as text: table, CSV and JSON lines. Times are ISO 8601 UTC with Z, decimals in plain notation.

Symbols are external data: in CSV they are quoted if necessary, and on a terminal their control characters are escaped.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TextIO

import numpy.typing as npt
import orjson

from fastbars.bars import OHLCVBar, json_value
from fastbars.buffer import BarBuffer
from fastbars.cli.text import columns_of, fitted, printable
from fastbars.columnar.lines import CSV_HEADER, line_maker, quoted
from fastbars.kernel.rows import IssuedRows

Columns = Sequence[tuple[str, int]]

_COLUMNS: Columns = (
    ("exchange", 19),
    ("market", 11),
    ("symbol", 14),
    ("spec", 12),
    ("open_time", 27),
    ("open", 14),
    ("high", 14),
    ("low", 14),
    ("close", 14),
    ("volume", 18),
    ("trade_count", 8),
    ("status", 15),
)
# On a narrower terminal, the first of these that fits.
_NARROW: Sequence[Columns] = (
    _COLUMNS[2:],
    (("symbol", 12), ("spec", 6), ("time", 14), ("open", 11), ("high", 11), ("low", 11), ("close", 11), ("volume", 12),
     ("trade_count", 8), ("status", 15)),
    (("symbol", 10), ("spec", 4), ("time", 14), ("close", 12), ("volume", 12), ("trade_count", 7), ("status", 15)),
    (("symbol", 10), ("time", 14), ("close", 12), ("status", 15)),
    (("symbol", 10), ("close", 12), ("status", 12)),
)  # fmt: skip
_TITLES = {"trade_count": "trades"}
_LEFT = {"exchange", "market", "symbol", "spec", "open_time", "time", "status"}


def text_of(value: Any) -> str:
    """One field as text; None is empty."""
    return "" if value is None else str(json_value(value))


def csv_line(bar: OHLCVBar) -> str:
    """The bar in the order of BAR_FIELDS; a name with a comma, a quote or a line end is quoted (RFC 4180)."""
    line = _plain_line("csv", bar)
    if line is not None:
        return line
    exchange, market, symbol, *others = bar.to_dict().values()
    return ",".join([*map(quoted, (exchange, market, symbol)), *map(text_of, others)])


def json_line(bar: OHLCVBar) -> str:
    """The bar as one JSON object; decimals are text, so that no reader rounds them."""
    line = _plain_line("jsonl", bar)
    return orjson.dumps(bar.to_dict(json=True)).decode() if line is None else line


def _plain_line(form: str, bar: OHLCVBar) -> str | None:
    # By compiled code, where the values of the bar are of the types that those of nearly all bars are.
    maker = line_maker(form, "none")
    return None if maker is None or type(bar) is not OHLCVBar else maker.line_of(bar)


def table_line(bar: OHLCVBar, columns: Columns = _COLUMNS) -> str:
    """The bar as a row under the header of these columns; on a terminal, cells that do not fit are cut with "…"."""
    on_terminal = columns is not _COLUMNS
    cells = [printable(_cell(bar, name, short=on_terminal)) for name, _ in columns]
    if bar.revision and columns[-1][1] >= 15:
        cells[-1] += f" r{bar.revision}"
    if on_terminal:
        cells = [fitted(cell, width) for cell, (_, width) in zip(cells, columns, strict=True)]
    return _align(cells, columns)


def _cell(bar: OHLCVBar, name: str, *, short: bool) -> str:
    if name == "time":
        return f"{bar.open_time:%m-%d %H:%M:%S}"
    text = text_of(getattr(bar, name))
    if short and name not in _LEFT and "." in text:
        text = text.rstrip("0").rstrip(".")
    return text


def _align(cells: Iterable[str], columns: Columns) -> str:
    padded = []
    for cell, (name, width) in zip(cells, columns, strict=True):
        space = " " * (width - columns_of(cell))
        padded.append(cell + space if name in _LEFT else space + cell)
    return " ".join(padded).rstrip()


def _width_of(columns: Columns) -> int:
    return sum(width for _, width in columns) + len(columns) - 1


def columns_for(width: int | None) -> Columns:
    """The columns of a table that fit a terminal of this width; all of them without a terminal."""
    if width is None:
        return _COLUMNS
    for columns in (list(_COLUMNS), *_NARROW):
        if _width_of(columns) <= width:
            return columns
    symbol = max(1, (width - 1) // 2)
    return ("symbol", symbol), ("close", max(1, width - 1 - symbol))


def header(columns: Columns) -> str:
    """The first line of a table."""
    titles = [_TITLES.get(name, name) for name, _ in columns]
    if columns is not _COLUMNS:
        titles = [fitted(title, width) for title, (_, width) in zip(titles, columns, strict=True)]
    return _align(titles, columns)


def terminal_width(file: TextIO | None) -> int | None:
    """Width of the terminal that a file writes to, in columns; None if it is not a terminal."""
    try:
        if file is None or not file.isatty():
            return None
        columns = os.environ.get("COLUMNS", "")
        width = int(columns) if columns.isdecimal() else os.get_terminal_size(file.fileno()).columns
    except (OSError, ValueError):
        return 80
    return width or 80


class BarText:
    """Bars as the lines of a format.

    Args:
        form: "table", "csv" or "jsonl".
        width: of the terminal, in columns; None: the output is not a terminal.

    Attributes:
        header: the line before the first bar; None: the format has none.
    """

    def __init__(self, form: str, width: int | None = None) -> None:
        self._on_terminal = width is not None
        self._form = form
        columns = columns_for(width)
        lines: dict[str, tuple[str | None, Callable[[OHLCVBar], str]]] = {
            "table": (header(columns), lambda bar: table_line(bar, columns)),
            "csv": (CSV_HEADER, csv_line),
            "jsonl": (None, json_line),
        }
        self.header, self._line = lines[form]

    def line(self, bar: OHLCVBar) -> str:
        """One bar, one line, with its end."""
        return self._whole(self._line(bar))

    def lines(self, buffer: BarBuffer, rows: IssuedRows | npt.NDArray[Any]) -> list[str]:
        """The lines of bars that a buffer has issued; made without bar objects, but for tables."""
        policy = buffer.policy
        maker = line_maker(self._form, policy.name)
        if maker is None:
            return list(map(self.line, buffer.bars_of(rows)))
        return list(map(self._whole, maker.make(rows, buffer.instruments, buffer.spec_names, policy.numbered)))

    def _whole(self, line: str) -> str:
        return (printable(line) if self._on_terminal else line) + "\n"
