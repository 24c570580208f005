"""Reads files of klines as Binance's public archive has them, and as they are found on disks.

Plain CSV, gzip, zstd or zip, recognised by the first bytes and not by the name; with or without a byte order mark and a
header, with any line ends, times in milli- or microseconds. Symbol and spec are taken from the name.

Source: https://github.com/binance/binance-public-data
Units: times in the files are milliseconds or, for spot since 2025, microseconds since the Unix epoch, UTC.
"""

from __future__ import annotations

import codecs
import csv
import lzma
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import IO
from unicodedata import normalize
from urllib.parse import unquote

from fastbars.bars import ExchangeBar
from fastbars.errors import TapeError
from fastbars.kernel.scaled import DECIMALS
from fastbars.tapes.reader import decompressed
from fastbars.ticks import to_datetime

__all__ = ["name_of", "read_klines"]

_Names = tuple[str, str, str, str]  # exchange, market, symbol, spec

_CHUNK_BYTES = 1 << 18
_LONGEST_LINE = 4096
_LONGEST_NUMBER = 64
_MOST_DIGITS = 40  # before or after the decimal point
_MOST_TIME_DIGITS = 16
_MOST_EMPTY_LINES = 10_000
_COLUMNS = 11  # one more is in the files, and unused
_UNNAMED = "the name lacks symbol or spec; an example is BTCUSDT-1m-2024-08-08.csv"
_ZIP_MAGIC = b"PK"
# What is raised for a file that is cut off or damaged, or for a zip that is encrypted or packed in an unknown way.
_DAMAGED = (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, struct.error, NotImplementedError, RuntimeError)
# Whole words only: of "🐸USDT" nothing is the name of another symbol.
_NAMED = re.compile(r"(?:^|(?<=[_.\s]))([^-_.\sa-z]+(?:_(?:PERP|[0-9]{6}))?)-([0-9]+(?:mo|[smhdw]))(?=[-_.\s]|$)")


def name_of(path: Path | str) -> tuple[str, str] | None:
    """(symbol, spec) from the name of a file; None if they are not in it.

    Names are as in the archive, "BTCUSDT-1m-2024-08-08.zip", in any script, and as downloads may spell them:
    percent-encoded, or with letters taken apart (NFD).
    """
    # Undoes what the locale has made of UTF-8.
    name = Path(path).name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    match = _NAMED.search(normalize("NFC", unquote(name)))
    return None if match is None else (match[1], match[2])


def read_klines(
    path: Path, symbol: str | None = None, spec: str | None = None, *, exchange: str = "", market: str = ""
) -> Iterator[ExchangeBar]:
    """Read a file of klines, as in Binance's public archive.

    Args:
        path: CSV, also compressed with gzip or zstd, or a zip with CSV files in it. Its name, or else that of the file
            in the zip, gives symbol and spec as the archive's names do ("BTCUSDT-1m-2024-08-08.csv").
        symbol, spec: override those of the name.
        exchange, market: that the candles name, as bars do; no file has them.

    Raises:
        TapeError: neither the name nor the caller gives symbol and spec; the file is missing, damaged or empty, or a
            row is malformed. The message names file and line.
    """
    path = Path(path)
    if not (symbol and spec) and name_of(path) is None and path.suffix.lower() != ".zip" and path.exists():
        raise TapeError(f"{path}: {_UNNAMED}")
    try:
        for member, lines in _texts(path):
            where = f"{path}, {member}" if member else str(path)
            named = name_of(path) or name_of(member) or (None, None)
            its_symbol, its_spec = symbol or named[0], spec or named[1]
            if not its_symbol or not its_spec:
                raise TapeError(f"{where}: {_UNNAMED}")
            yield from _klines(lines, where, (exchange, market, its_symbol, its_spec))
    except OSError as error:
        raise TapeError(f"{path}: cannot be read: {error.strerror or error}") from error
    except _DAMAGED as error:
        raise TapeError(f"{path}: the compressed data ends early or is damaged: {error}") from error


def _klines(lines: Iterator[bytes], where: str, names: _Names) -> Iterator[ExchangeBar]:
    number = found = empty = 0
    rows = csv.reader(_bounded(lines))
    try:
        for number, row in enumerate(rows, 1):
            if not row:
                empty += 1
                if empty > _MOST_EMPTY_LINES:
                    raise ValueError(f"more than {_MOST_EMPTY_LINES:,} empty lines")
            elif number > 1 or not _is_header(row):
                found += 1
                yield _kline(row, names)
    except (ValueError, OverflowError, csv.Error) as error:
        line = max(number, rows.line_num)
        raise TapeError(f"{where}, line {line}: not a kline: {error or type(error).__name__}") from error
    if not found:
        raise TapeError(f"{where}: it has no klines")


def _texts(path: Path) -> Iterator[tuple[str, Iterator[bytes]]]:
    # (name in the zip or "", lines) of each text in a file.
    with path.open("rb") as file:
        if file.read(2) == _ZIP_MAGIC:
            with zipfile.ZipFile(file) as archive:
                members = [one for one in archive.infolist() if one.filename.lower().endswith(".csv")]
                members = [one for one in members if not one.filename.startswith("__MACOSX/")]
                if not members:
                    raise TapeError(f"{path}: no CSV file is in the zip")
                for member in members:
                    with archive.open(member) as text:
                        yield _in_utf8(member.filename), _lines(_chunks(text))
        else:
            file.seek(0)
            yield "", _lines(decompressed(_chunks(file), path))


def _in_utf8(name: str) -> str:
    # Some packers write UTF-8 without flagging it, and zipfile then decodes it as code page 437.
    try:
        return name.encode("cp437").decode("utf-8")
    except UnicodeError:
        return name


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    return iter(lambda: file.read(_CHUNK_BYTES), b"")


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        lines = (rest + chunk).splitlines(keepends=True)
        # What may continue in the next chunk waits: a line without an end, or one whose \r may belong to a \r\n.
        rest = lines.pop() if lines and not lines[-1].endswith(b"\n") else b""
        yield from lines
        if len(rest) > _LONGEST_LINE:
            break
    if rest:
        yield rest


def _bounded(lines: Iterator[bytes]) -> Iterator[str]:
    for number, line in enumerate(lines, 1):
        # Cut, so that a line without an end costs no memory; what is left is not a kline and raises.
        text = (line.removeprefix(codecs.BOM_UTF8) if number == 1 else line)[: _LONGEST_LINE + 1]
        yield text.decode("utf-8", "replace")


def _is_header(row: Sequence[str]) -> bool:
    # No field is a whole number; a kline whose first field is damaged still has others, and is an error.
    return not any(text.isascii() and text.isdigit() for text in row)


def _kline(row: Sequence[str], names: _Names) -> ExchangeBar:
    # open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,taker_buy_quote_volume,ignore
    if sum(map(len, row)) + len(row) > _LONGEST_LINE:
        raise ValueError(f"more than {_LONGEST_LINE:,} characters without a line end")
    if len(row) < _COLUMNS:
        raise ValueError(f"{_COLUMNS} columns are needed, there are {len(row)}")
    longest = max(row, key=len)
    if len(longest) > _LONGEST_NUMBER:
        raise ValueError(f"{longest[:20]!r}... is {len(longest)} characters long")
    unit = 1_000 if len(row[0]) > 14 else 1_000_000
    opened, closed, count = _integer(row[0]) * unit, (_integer(row[6]) + 1) * unit, _integer(row[8])
    open_, high, low, close, volume, quote, taker, taker_quote = (_decimal(row[i]) for i in (1, 2, 3, 4, 5, 7, 9, 10))
    exchange, market, symbol, spec = names
    return ExchangeBar(
        symbol, spec, to_datetime(opened), to_datetime(closed), open_, high, low, close, volume,
        quote, count, taker, taker_quote, None, None, True, None, exchange=exchange, market=market,
    )  # fmt: skip


def _integer(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _MOST_TIME_DIGITS):
        raise ValueError(f"{text!r} is not a time or count")
    return int(text)


def _decimal(text: str) -> Decimal:
    try:
        value = Decimal(text, DECIMALS)
    except InvalidOperation:
        raise ValueError(f"{text!r} is not a price or volume") from None
    # Written out in plain notation, a number with an absurd exponent would take gigabytes.
    if not value.is_finite() or not -_MOST_DIGITS <= value.adjusted() <= _MOST_DIGITS:
        raise ValueError(f"{text!r} is not a price or volume")
    return value
