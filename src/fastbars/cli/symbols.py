"""Symbols for a command: given, from a file, or chosen; and the `symbols` command, which lists them."""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import orjson

from fastbars.cli.bar_writer import outlet_to_stdout
from fastbars.cli.console import Console
from fastbars.cli.files import OutputFile
from fastbars.cli.output import terminal_width, text_of
from fastbars.cli.text import columns_of, fitted, printable
from fastbars.errors import FastbarsError
from fastbars.exchanges.instruments import Instrument, Where, where
from fastbars.instrument_table import INSTRUMENT_FIELDS, instruments
from fastbars.streams import run

_MOST_BYTES = 4 * 2**20
_MOST_SYMBOLS = 100_000
_COLUMNS = (
    "symbol", "alias", "kind", "status", "price_tick", "size_step", "contract_size", "expiry", "listed_at",
    "quote_volume",
)  # fmt: skip
_RIGHT = {"price_tick", "size_step", "contract_size", "quote_volume"}
_FLAGS = {"true": True, "false": False}
_WIDEST = 30  # columns of a cell on a terminal


def symbols_of(options: argparse.Namespace) -> list[str] | Where:
    """What a command's options say: names, those of a file, or a choice.

    Raises:
        FastbarsError: a choice beside names, or a file or choice that makes no sense. OSError.
    """
    names = [*options.symbols, *(read_symbols(options.symbols_from) if options.symbols_from else ())]
    if options.where is None:
        return names
    if names:
        raise FastbarsError("--where chooses the symbols; none can be given beside it")
    return read_where(options.where)


def read_symbols(path: Path) -> list[str]:
    """The symbols in a file, or in stdin where it is "-": separated by line ends, blanks or commas.

    A "#" at the beginning of a line, or behind a blank, begins a comment, unless a digit follows it.

    Raises:
        OSError: it cannot be read. FastbarsError: it is too long, is not UTF-8, or has no symbol.
    """
    if str(path) == "-":
        text = sys.stdin.buffer.read(_MOST_BYTES + 1)
    else:
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES + 1)
    if len(text) > _MOST_BYTES:
        raise FastbarsError(f"{path}: a file of symbols has at most {_MOST_BYTES} bytes")
    try:
        lines = text.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        line = text[: error.start].count(b"\n") + 1
        raise FastbarsError(f"{path}: line {line} is not UTF-8") from None
    symbols = list(dict.fromkeys(symbol for line in lines for symbol in _names_in(line)))
    if not symbols:
        raise FastbarsError(f"{path}: there is no symbol in it")
    if len(symbols) > _MOST_SYMBOLS:
        raise FastbarsError(f"{path}: it has {len(symbols):,} symbols, the limit is {_MOST_SYMBOLS:,}")
    return symbols


def _names_in(line: str) -> Iterator[str]:
    for name in line.replace(",", " ").split():
        if name[0] == "#" and not name[1:2].isdigit():  # "#12" is a symbol of Hyperliquid
            return
        yield name


def read_where(text: str) -> Where:
    """A choice, such as "quote=USDT,kind=perpetual|future,min_volume=1e6".

    Raises:
        FastbarsError: it cannot be understood.
    """
    chosen: dict[str, object] = {}
    known = ("base", "quote", "settle", "kind", "status", "inverse", "name", "exclude", "min_volume")
    for part in text.split(","):
        name, given, value = part.partition("=")
        name = name.strip().replace("-", "_")
        if name not in known or not given or not value:
            raise FastbarsError(f"--where: {part!r:.60} is not one of {'=..., '.join(known)}=...")
        if name in chosen:
            raise FastbarsError(f"--where: {name} is given twice")
        if name == "inverse":
            if value not in _FLAGS:
                raise FastbarsError(f"--where: inverse must be true or false, got {value!r:.60}")
            chosen[name] = _FLAGS[value]
        elif name in ("name", "min_volume"):
            chosen[name] = value
        else:
            chosen[name] = None if name == "status" and value == "any" else value.split("|")
    return _where(chosen)


def _where(chosen: dict[str, object]) -> Where:
    try:
        return where(**chosen)  # type: ignore[arg-type]
    except (ValueError, TypeError) as error:
        raise FastbarsError(str(error)) from None


def list_symbols(options: argparse.Namespace, _: Console) -> int:
    """The `symbols` command."""
    chosen: dict[str, object] = {
        name: getattr(options, name) for name in ("base", "quote", "settle", "kind", "name", "min_volume")
    }
    chosen["status"] = None if options.status == "any" else options.status
    chosen["inverse"] = options.inverse
    if options.sort is not None and options.sort not in INSTRUMENT_FIELDS:
        raise FastbarsError(f"--sort: {options.sort!r:.60} is not one of {', '.join(INSTRUMENT_FIELDS)}")
    table = run(
        instruments(
            options.exchange, _where(chosen), market=options.market, volume=options.volume, rest_url=options.rest_url
        )
    )
    if options.sort is not None or options.descending:
        table = table.sorted(options.sort or "symbol", descending=options.descending)
    write: dict[str, Callable[[Iterable[Instrument]], str]] = {
        "table": lambda rows: _as_table(list(rows), terminal_width(sys.stdout) if options.output is None else None),
        "csv": _as_csv,
        "jsonl": lambda rows: "".join(orjson.dumps(row.to_dict(json=True)).decode() + "\n" for row in rows),
        "names": lambda rows: "".join(f"{row.symbol}\n" for row in rows),
    }
    text = write[options.format](table)
    if options.output is None:
        with outlet_to_stdout() as outlet:
            outlet.put(text)
        return 0
    output = OutputFile(options.output)
    try:
        output.file.write(text)
    except BaseException:
        output.finish(0, succeeded=False)
        raise
    output.finish(1, succeeded=True)
    return 0


def _as_csv(rows: Iterable[Instrument]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(INSTRUMENT_FIELDS)
    for row in rows:
        writer.writerow("" if value is None else value for value in row.to_dict(json=True).values())
    return text.getvalue()


def _as_table(rows: Sequence[Instrument], width: int | None) -> str:
    shown = [name for name in _COLUMNS if name != "quote_volume" or any(row.quote_volume is not None for row in rows)]
    cells = [[name.removesuffix("_at") for name in shown]]
    for row in rows:
        values = row.to_dict(json=True)
        cells.append([printable(text_of(_short(values[name]))) for name in shown])
    widths = [max(columns_of(line[at]) for line in cells) for at in range(len(shown))]
    if width is not None:  # on a terminal, what does not fit is left out on the right
        widths = [min(each, _WIDEST) for each in widths]
        while len(widths) > 1 and sum(widths) + len(widths) - 1 > width:
            widths.pop()
    return "".join(_line(line, widths, shown) for line in cells)


def _short(value: object) -> object:
    return value.removesuffix("T00:00:00Z") if isinstance(value, str) else value


def _line(cells: Sequence[str], widths: Sequence[int], names: Sequence[str]) -> str:
    parts = []
    for text, width, name in zip(cells, widths, names, strict=False):
        cell = fitted(text, width) if columns_of(text) > width else text
        blanks = " " * (width - columns_of(cell))
        parts.append(blanks + cell if name in _RIGHT else cell + blanks)
    return " ".join(parts).rstrip() + "\n"
