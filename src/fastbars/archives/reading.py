"""`read_trades`: the trades of a file as columns, whatever its format."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
import numpy.typing as npt

from fastbars.archives.columns import TradeColumns
from fastbars.archives.formats import ArchiveFile, Role
from fastbars.archives.opening import texts
from fastbars.archives.parquet import read_parquet
from fastbars.errors import PrecisionError, TapeError
from fastbars.kernel.scaled import parse
from fastbars.times import UNITS_NS

__all__ = ["read_trades"]

_BLOCK_ROWS = 1 << 16
_EARLIEST_NS, _LATEST_NS = 1_104_537_600 * 10**9, 4_102_444_800 * 10**9  # 2005 to 2100


def read_trades(file: ArchiveFile) -> Iterator[TradeColumns]:
    """The trades of a file, in blocks of a bounded size, in the order of the file.

    Raises:
        TapeError: the file is missing, damaged or empty, or a row is malformed: the message names file, line, column
            and value. The blocks before it have been yielded.
    """
    if file.is_parquet:
        yield from read_parquet(file)
        return
    done = 0
    for member, pieces in texts(file.path):
        where = f"{file.path}, {member}" if member else str(file.path)
        for block in _blocks(file, where, pieces, done):
            done = block.first_row - 1 + len(block.time_ns)
            yield block
    if not done:
        raise TapeError(f"{file.path}: it has no trades")


def _blocks(file: ArchiveFile, where: str, pieces: Iterator[bytes], done: int) -> Iterator[TradeColumns]:
    rows = csv.reader(_lines(pieces))
    first = next((row for row in rows if row), None)
    if first is None:
        return
    roles: Sequence[Role] = file.format.columns
    head = [first]
    if not any(text.isascii() and text.isdigit() for text in first):
        roles = [file.format.names.get(name.lower().replace("_", "").strip(), Role.UNUSED) for name in first]
        head = []
    unit = 0
    while block := [*head, *islice((row for row in rows if row), _BLOCK_ROWS)]:
        head = []
        if not unit:
            unit = _unit(file, int(block[0][roles.index(Role.TIME)]))
        try:
            yield _block(file, roles, block, unit, done + 1)
        except (ValueError, IndexError, PrecisionError) as error:
            raise TapeError(f"{where}, near line {rows.line_num}: {error}") from error
        done += len(block)


def _lines(pieces: Iterator[bytes]) -> Iterator[str]:
    rest = b""
    begun = False
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield (line if begun else line.removeprefix(codecs.BOM_UTF8)).decode("utf-8", "replace") + "\n"
            begun = True
    if rest:
        yield rest.decode("utf-8", "replace")


def _unit(file: ArchiveFile, time: int) -> int:
    for unit in file.format.units:
        if _EARLIEST_NS <= time * UNITS_NS[unit] < _LATEST_NS:
            return UNITS_NS[unit]
    raise TapeError(f"{file.path}: time {time} is in none of {', '.join(file.format.units)}")


def _block(file: ArchiveFile, roles: Sequence[Role], rows: list[list[str]], unit: int, first_row: int) -> TradeColumns:
    def column(role: Role) -> list[str]:
        place = roles.index(role)
        return [row[place] for row in rows]

    def ids(role: Role) -> npt.NDArray[np.int64]:
        return np.array([int(text) for text in column(role)], np.int64)

    def numbers(role: Role) -> tuple[npt.NDArray[np.int64], int]:
        read = [parse(text) for text in column(role)]
        scale = max(own for _, own in read)
        return np.array([mantissa * 10 ** (scale - own) for mantissa, own in read], np.int64), scale

    price, price_scale = numbers(Role.PRICE)
    size, size_scale = numbers(Role.SIZE)
    if Role.FIRST_ID in roles:
        first_id, last_id = ids(Role.FIRST_ID), ids(Role.LAST_ID)
    else:
        first_id = last_id = ids(Role.TRADE_ID)
    return TradeColumns(
        (file.symbol or "",),
        np.zeros(len(rows), np.int32),
        ids(Role.TIME) * unit,
        price,
        price_scale,
        size,
        size_scale,
        np.array([file.format.sides[text.lower()] for text in column(Role.SIDE)], np.int8),
        first_id,
        last_id,
        None,
        first_row,
    )
