"""What the fuzzer runs: compiled code beside a slower twin that it must equal. An AssertionError is a finding.

The twins are those of the tests: `websockets`' own parser, orjson with `Decimal`, arithmetic on whole numbers.
"""

from __future__ import annotations

import re
from itertools import pairwise

import orjson

from declared import FIELDS, MESSAGES, Row, read
from fastbars import scaled
from fastbars.errors import PrecisionError
from fastbars.wire.walker import FrameWalker
from test_scanner import Scan
from test_walker import MAX_SIZE, Reader, as_websockets

_KINDS = tuple(MESSAGES)
_INPUTS_A_SCANNER = 512  # making one takes longer than many inputs, but what it has met must not pile up

_scanners: dict[str, tuple[Scan, Scan]] = {}
_inputs: dict[str, int] = {}


def _general_and_remembering(kind: str) -> tuple[Scan, Scan]:
    # Two scanners with the same past; the second one has the shape of the documented message in its memory.
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
    if scale > scaled.MAX_SCALE or -scale > 20:
        return None
    mantissa = int(significant) * 10 ** max(0, -scale)
    if mantissa >= 2**63:
        return None
    return (-mantissa if match[1] == b"-" else mantissa), max(0, scale)


def numbers(data: bytes) -> None:
    """Decimal text: the compiled parser beside arithmetic on whole numbers."""
    try:
        parsed = scaled.parse(data)
    except PrecisionError:
        parsed = None
    assert parsed == _exact(data), (data, parsed, _exact(data))


def scanner(data: bytes) -> None:
    """Messages (a byte says of which exchange, NUL bytes part them), with the memory of layouts and without.

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
    """The bytes that a server sends, cut where the first bytes say: the walker beside `websockets`' own parser.

    With a scanner behind it, the trades are those of the messages one by one.
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
