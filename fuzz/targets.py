"""The fuzz targets: compiled code compared with slower code that must give the same. An AssertionError is a finding.

The reference code is that of the tests: `websockets`' own parser, orjson with `Decimal`, arithmetic on whole numbers.
"""

from __future__ import annotations

import atexit
import hashlib
import logging
import re
import shutil
import tempfile
from functools import cache
from itertools import pairwise
from pathlib import Path

import orjson

import hostile
from declared import FIELDS, MESSAGES, Row, read
from fastbars.errors import ParseError, PrecisionError, SnapshotError, TapeError
from fastbars.exchanges import EXCHANGES
from fastbars.exchanges.checked import BROKEN
from fastbars.exchanges.history import History, Hole, number_range, read_page
from fastbars.exchanges.listing import Listing
from fastbars.kernel import limits, scaled
from fastbars.live import snapshots
from fastbars.tapes import read_tape
from fastbars.tapes.reader import TapeRecord, _parse_line
from fastbars.tapes.recording import MAGIC, write_block
from fastbars.tapes.replay import replay
from fastbars.tapes.zstd import compressor
from fastbars.wire.walker import FrameWalker
from test_archive_parser import Row as CsvRow, blocks_of, parser, rows_of, slow
from test_scanner import Scan
from test_walker import MAX_SIZE, Reader, as_websockets

_KINDS = tuple(MESSAGES)
_INPUTS_A_SCANNER = 512  # making one is slow, but its symbols must not pile up

_FOLDER = Path(tempfile.mkdtemp(prefix="fastbars-fuzz-"))
atexit.register(shutil.rmtree, _FOLDER, ignore_errors=True)
logging.getLogger("fastbars").setLevel(logging.CRITICAL)  # cut files are logged

_scanners: dict[str, tuple[Scan, Scan]] = {}
_inputs: dict[str, int] = {}


def _general_and_remembering(kind: str) -> tuple[Scan, Scan]:
    # Two scanners with the same history; the second one remembers the layout of the documented message.
    number = _inputs[kind] = _inputs.get(kind, -1) + 1
    if number % _INPUTS_A_SCANNER == 0:
        _scanners[kind] = Scan(FIELDS[kind], remembers=False), Scan(FIELDS[kind])
    for scan in _scanners[kind]:
        assert _taken(scan, MESSAGES[kind]) is not None
    return _scanners[kind]


def _taken(scan: Scan, message: bytes) -> tuple[list[Row], int | None] | None:
    if not scan.scanner.scan(message):
        return None
    taken = scan.rows(), scan.scanner.take_event_time()
    scan.batch.clear()
    return taken


_NUMBER = re.compile(rb"([+-]?)([0-9]*)\.?([0-9]*)(?:[eE]([+-]?[0-9]+))?")


def _exact(text: bytes) -> tuple[int, int] | None:
    # (mantissa, smallest scale) by whole numbers alone; None where it is no number or does not fit.
    match = _NUMBER.fullmatch(text)
    if match is None or not match[2] + match[3] or len(text) > scaled.MAX_TEXT:
        return None
    digits = (match[2] + match[3]).lstrip(b"0")
    significant = digits.rstrip(b"0")
    if not significant:
        return 0, 0
    scale = len(match[3]) - int(match[4] or 0) - (len(digits) - len(significant))
    if scale > limits.MAX_SCALE or -scale > 20:
        return None
    mantissa = int(significant) * 10 ** max(0, -scale)
    if mantissa >= 2**63:
        return None
    return (-mantissa if match[1] == b"-" else mantissa), max(0, scale)


def numbers(data: bytes) -> None:
    """Decimal text: the compiled parser against arithmetic on whole numbers."""
    try:
        parsed = scaled.parse(data)
    except PrecisionError:
        parsed = None
    assert parsed == _exact(data), (data, parsed, _exact(data))


def scanner(data: bytes) -> None:
    """Messages (the first byte selects the exchange, NUL bytes separate them), with the memory of layouts and without.

    What is taken is JSON for orjson too, and its trades are those that orjson and `Decimal` make of it.
    """
    if not data:
        return
    kind = _KINDS[data[0] % len(_KINDS)]
    general, remembering = _general_and_remembering(kind)
    for message in data[1:].split(b"\0"):
        taken = _taken(general, message)
        assert _taken(remembering, message) == taken, (kind, message)
        if taken is not None:
            assert _taken(remembering, message) == taken, (kind, message)
            orjson.loads(message)
            assert read(FIELDS[kind], message) == taken, (kind, message)


def walker(data: bytes) -> None:
    """The bytes of a server, split where the first bytes say: the walker against `websockets`' own parser.

    With a scanner after it, the trades are those of the messages one by one.
    """
    if len(data) < 4:
        return
    kind, stream = _KINDS[data[0] % len(_KINDS)], data[4:]
    cuts = sorted({0, len(stream), *(256 * data[1] // 8 + place for place in data[2:4])})
    chunks = [stream[start:stop] for start, stop in pairwise(cuts)]
    reader = Reader(MAX_SIZE)
    for chunk in chunks:
        reader.feed(chunk)
    assert reader.outcome() == as_websockets(stream), (stream, cuts)

    one_by_one, in_place = _general_and_remembering(kind)
    left: list[bytes] = []
    one_by_one.batch.clear()
    for payload in reader.payloads[: reader.in_place]:
        if not one_by_one.scanner.scan(payload):
            left.append(payload)
    handed: list[bytes] = []
    in_place.batch.clear()
    others = Reader(MAX_SIZE, walking=False)
    scanning = FrameWalker(handed.append, others.hand_on, in_place.scanner, MAX_SIZE)
    for chunk in chunks:
        scanning.feed(chunk)
    if not others.payloads:  # those of several frames never meet the scanner in here
        assert (handed, in_place.rows()) == (left, one_by_one.rows()), (kind, stream, cuts)


# Files. Their content is refused with the right error, or used without harm.


@cache
def _dumped(kind: int) -> dict[str, object]:
    return hostile.used(kind).dump()


def snapshot(data: bytes) -> None:
    """A snapshot with some of its values changed (or, above 127, the body of one), loaded and used."""
    if not data:
        return
    if data[0] > 127:
        body = data[1:]
        try:
            content = snapshots.unpack(b"fastbars snapshot 3\n" + hashlib.sha256(body).digest() + body)
        except SnapshotError:
            return
    else:
        content = hostile.change(_dumped(data[0] % len(hostile.KINDS)), data[1:])
        content = snapshots.unpack(snapshots.pack({name: _packable(value) for name, value in content.items()}))
    buffer = hostile.made(data[0])
    try:
        buffer.load(content)
    except ValueError:
        assert hostile.is_untouched(buffer)
        return
    hostile.exercise(buffer)


def _packable(value: object) -> object:
    # Numbers beyond 64 bits become floats in JSON.
    if isinstance(value, list | tuple):
        return [_packable(each) for each in value]
    return float(value) if isinstance(value, int) and not -(2**63) <= value < 2**64 else value


def recording(data: bytes) -> None:
    """A recording: the entries of a block or, above 127, the bytes after the head of a file; read and replayed."""
    if not data:
        return
    path = _FOLDER / "recording.fbr"
    path.write_bytes(MAGIC + (data[1:] if data[0] > 127 else write_block(data[1:], compressor(path, 1))))
    try:
        for bar in replay(path):
            assert bar.volume >= 0
    except TapeError:
        return


def tape(data: bytes) -> None:
    """A tape, plain or compressed: a plain one gives the same as when read line by line."""
    path = _FOLDER / "tape"
    path.write_bytes(data)
    records: list[TapeRecord] = []
    try:
        for record in read_tape(path):
            records.append(record)
    except TapeError:
        pass
    if data[:2] != b"\x1f\x8b" and data[:4] != b"\x28\xb5\x2f\xfd" and data[: len(MAGIC) - 1] != MAGIC[:-1]:
        expected = _records_of(data, path)
        assert records[: len(expected)] == expected
        assert len(records) <= len(expected) + 1  # a last line without an end may be whole


def _records_of(data: bytes, path: Path) -> list[TapeRecord]:
    records = []
    for number, line in enumerate(data.split(b"\n")[:-1], 1):
        try:
            record = _parse_line(line, path, number)
        except TapeError:
            break
        if record is not None:
            records.append(record)
    return records


# Answers of REST APIs.


def rest_parsers() -> list[History | Listing]:
    """Everything that reads an answer, always in the same order."""
    found: dict[int, History | Listing] = {}
    for markets in EXCHANGES.values():
        for exchange in markets.values():
            for channel in exchange.channels:
                for has_key in (False, True):
                    history = exchange.history(channel, has_key=has_key)
                    if history is not None:
                        found.setdefault(id(history), history)
            if exchange.listing is not None:
                found.setdefault(id(exchange.listing), exchange.listing)
                if exchange.listing.volumes is not None:
                    found.setdefault(id(exchange.listing.volumes), exchange.listing.volumes)
    return list(found.values())


_PARSERS = rest_parsers()


def csv(data: bytes) -> None:
    """The text of a CSV file; the first four bytes say the separator, the rows of a block, and where it is cut.

    However it is cut and whatever the blocks, there are the same rows, and the same fault behind them. Where there is
    no fault, they are those that `csv` and `Decimal` read.
    """
    if len(data) < 4:
        return
    separator, text = b",;\t|"[data[0] % 4 :][:1], data[4:]
    cuts = list(range(data[2] + 1, len(text), data[2] * 3 + 7))
    rows, fault = _csv_rows(text, cuts, separator, data[1] + 1)
    assert (rows, fault) == _csv_rows(text, [], separator, 1 << 15)
    if fault is None:
        assert rows == slow(text, separator.decode())


def _csv_rows(text: bytes, cuts: list[int], separator: bytes, block_rows: int) -> tuple[list[CsvRow], object]:
    own, blocks = parser(rows=block_rows, separator=separator), []
    try:
        for block in blocks_of(text, cuts, own):
            blocks.append(block)
    except ValueError as error:
        if (last := own.block()) is not None:
            blocks.append(last)
        return rows_of(blocks, faultless=False), error.args
    return rows_of(blocks), None


def rest(data: bytes) -> None:
    """An answer of the REST API that the first byte names: trades within bounds, or an unreadable answer."""
    if not data:
        return
    parser, body = _PARSERS[data[0] % len(_PARSERS)], data[1:]
    if isinstance(parser, Listing):
        try:
            listed, cursor = parser.parse(body)
        except BROKEN:
            return
        assert all(one.symbol for one in listed)
        assert len(cursor) <= 1000
        return
    hole = Hole("A", 5, 9, 0, 10**9)
    try:
        page = read_page(parser, "A", body)
    except ParseError:
        return
    for trade in page.trades:
        first, last = number_range(trade)
        assert 0 <= first <= last < 2**63
        assert len(trade.price) <= 200
    position = parser.follow(hole, parser.begin(hole), page)
    assert position is None or isinstance(position, int)
