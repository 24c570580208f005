"""`read_trades`: the trades of a file as columns, whatever its format."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal, InvalidOperation
from functools import partial
from itertools import chain
from typing import NamedTuple

from fastbars.archives.columns import TradeColumns
from fastbars.archives.declaration import ArchiveFile, Role
from fastbars.archives.formats import is_header
from fastbars.archives.opening import Head, named, split_head, texts
from fastbars.archives.parquet import read_parquet
from fastbars.archives.parser import LONGEST_LINE, CsvParser
from fastbars.errors import TapeError
from fastbars.times import EARLIEST_S, LATEST_S, UNITS_NS

__all__ = ["Malformed", "OnMalformed", "read_trades"]

_PLAUSIBLE_NS = EARLIEST_S * 10**9, LATEST_S * 10**9
BLOCK_ROWS = 1 << 14
_BY_TEXT = 0  # in the place of a unit: RFC 3339


class _Layout(NamedTuple):
    # What the columns of a text are, and what an integer time counts there.
    head: Head
    roles: Sequence[Role]
    has_header: bool
    unit_ns: int


class Malformed(NamedTuple):
    """A line that is no trade, and what a TapeError says of it; `is_header`: it is a header inside the file."""

    line: int
    message: str
    is_header: bool


OnMalformed = Callable[[Malformed], object]


def read_trades(
    file: ArchiveFile, on_malformed: OnMalformed | None = None, *, block_rows: int = BLOCK_ROWS
) -> Iterator[TradeColumns]:
    """The trades of a file, in blocks of a bounded size, in the order of the file.

    Args:
        file: what it is.
        on_malformed: called with each line of a text that is no trade, which is then left out; what it raises ends the
            reading. None: such a line is an error.
        block_rows: most rows of a block of a text.

    Raises:
        TapeError: the file is missing, damaged or empty, or a row is malformed: the message names file, line, column
            and value. The blocks before it have been yielded.
    """
    if file.is_parquet:
        yield from read_parquet(file)
        return
    done = 0
    with named(file.path):
        for member, pieces in texts(file.path):
            where = f"{file.path}, {member}" if member else str(file.path)
            before = done
            for block in _blocks(file, where, pieces, on_malformed, block_rows):
                yield block._replace(first_row=before + block.first_row) if before else block
                done += len(block.time_ns)
    if not done:
        raise TapeError(f"{file.path}: it has no trades")


def _blocks(
    file: ArchiveFile, where: str, pieces: Iterator[bytes], on_malformed: OnMalformed | None, block_rows: int
) -> Iterator[TradeColumns]:
    head = b""
    for piece in pieces:
        head += piece
        if head.strip(b"\r\n").count(b"\n") >= 2 or len(head) > 2 * LONGEST_LINE:
            break
    text = head.removeprefix(codecs.BOM_UTF8)
    if not text.strip():
        return
    layout = _layout(file, where, split_head(text.lstrip(b"\r\n")))
    parser = CsvParser(
        layout.roles,
        separator=layout.head.separator.encode(),
        unit_ns=layout.unit_ns,
        span_ns=_PLAUSIBLE_NS,
        sides=file.format.sides,
        symbol=None if Role.SYMBOL in layout.roles else file.symbol or "",
        block_rows=block_rows,
    )
    if layout.has_header:
        blank = len(text) - len(text.lstrip(b"\r\n"))
        end = text.find(b"\n", blank) + 1 or len(text)
        parser.lines = text.count(b"\n", 0, end)
        text = text[end:]

    def taken(step: Callable[[], bool]) -> bool:
        while True:
            try:
                return step()
            except ValueError as error:
                if on_malformed is None or not parser.can_skip:
                    raise
                line, _, value, _ = error.args[0]
                is_header = file.format.role(value.decode("utf-8", "replace")) != Role.UNUSED
                on_malformed(Malformed(line, str(_malformed(where, layout, error)), is_header))
                step = parser.skip

    try:
        for piece in chain([text] if text else [], pieces, [b""]):
            full = taken(partial(parser.feed, piece))
            while full:
                yield _checked(file, where, parser.block())
                full = taken(parser.go_on)
    except (ValueError, TapeError) as error:
        if (block := parser.block()) is not None:
            yield _checked(file, where, block)
        if isinstance(error, TapeError):
            raise
        raise _malformed(where, layout, error) from None
    if (block := parser.block()) is not None:
        yield _checked(file, where, block)


def _checked(file: ArchiveFile, where: str, block: TradeColumns | None) -> TradeColumns:
    assert block is not None
    if file.symbol and block.symbols != (file.symbol,):
        other = next(symbol for symbol in block.symbols if symbol != file.symbol)
        raise TapeError(f"{where}: it has trades of {other!r}, and by its name of {file.symbol!r} alone")
    return block


def _layout(file: ArchiveFile, where: str, head: Head) -> _Layout:
    first = head.rows[0]
    roles: list[Role]
    if file.format.columns and not is_header(first):
        roles = [*file.format.columns, *[Role.UNUSED] * len(first)][: max(len(first), len(file.format.columns))]
        has_header, row = False, first
    else:
        if not is_header(first):
            raise TapeError(f"{where}: it has no header, which {file.format.name} need; the first row is {first}")
        roles = [file.format.role(name) for name in first]
        has_header, row = True, head.rows[1] if len(head.rows) > 1 else []
    for role in (Role.TIME, Role.PRICE, Role.SIZE):
        if roles.count(role) != 1:
            raise TapeError(f"{where}: {roles.count(role)} columns are {role.name.lower()}, not one: {first}")
    time = row[roles.index(Role.TIME)] if len(row) > roles.index(Role.TIME) else None
    return _Layout(head, roles, has_header, 1 if time is None else _unit_ns(file, where, time))


def _unit_ns(file: ArchiveFile, where: str, time: str) -> int:
    # By plausibility of the date, for each text: Binance changed from milliseconds to microseconds.
    try:
        number = Decimal(time)
    except InvalidOperation:
        if time[4:5] == "-":
            return _BY_TEXT
        raise TapeError(f"{where}: {time[:60]!r} is not a time") from None
    for unit in file.format.units:
        if _PLAUSIBLE_NS[0] <= number * UNITS_NS[unit] < _PLAUSIBLE_NS[1]:
            return UNITS_NS[unit]
    raise TapeError(f"{where}: time {time[:60]} is not between 1990 and 2100 in any of {', '.join(file.format.units)}")


def _malformed(where: str, layout: _Layout, error: ValueError) -> TapeError:
    line, place, value, reason = error.args[0]
    text = value.decode("utf-8", "replace")
    if place < 0:
        return TapeError(f"{where}, line {line}: {reason}: {text!r}")
    name = layout.head.rows[0][place] if layout.has_header else layout.roles[place].name.lower()
    return TapeError(f"{where}, line {line}, column {place + 1} ({name[:60]}): {text!r}: {reason}")
