"""Read recorded raw messages, byte for byte, from the three tape formats in use, and from fastbars' own recordings.

A tape is lines of text, plain or compressed with gzip or zstd (recognised by the first bytes, not by the
file's name). Each line shows which format it has, so files of different origin can be joined:

    1723161254087896568 {"e":"trade",...}           local time in ns, a space, the raw message
    1617566591.326123: {"e":"trade",...}            cryptofeed: local time in s, a colon, the raw message
    wss://... <- 1652459225.29: {"op":"sub...       cryptofeed: other traffic; skipped
    {"t":"recv","ts":1786310819.5,..,"raw":"..."}   JSON lines; only "recv" lines are messages

Source: https://github.com/bmoscon/cryptofeed (its raw data collection) for the second format.
Units: receive times are int nanoseconds since the Unix epoch, of the recording machine's clock.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import orjson

from fastbars.errors import TapeError
from fastbars.tapes.recording import is_recording, read_recording
from fastbars.tapes.zstd import Decompressor, decompressors, pieces_of

__all__ = ["TapeRecord", "decompressed", "read_tape", "read_tapes"]

_CHUNK_BYTES = 1 << 18
_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
# Limits of one line, and of all lines between two messages: no recorded message is longer than 4 MB.
_LONGEST_LINE = 16 << 20
_MOST_SKIPPED = 64 << 20
_LONGEST_NUMBER = 19
_HEARTBEATS = (b"ping", b"pong")  # the exchanges' only messages that are not JSON


class TapeRecord(NamedTuple):
    """One received message.

    Attributes:
        receive_time_ns: local time of receipt, ns since the Unix epoch; None where the tape does not have it.
        payload: the message as it was received.
    """

    receive_time_ns: int | None
    payload: bytes


def read_tape(path: str | PathLike[str]) -> Iterator[TapeRecord]:
    """Yield the received messages of one tape in the order recorded.

    The file is opened at the first `next()` and read in pieces, so a tape may be larger than memory; whatever it
    holds, no more than 64 MB are used. Of a recording these are the messages of all sessions and connections, without
    their other inputs.

    Args:
        path: a tape, plain, gzip or zstd; or a recording: a folder or one of its files.

    Raises:
        TapeError: the file is missing, empty or not readable, a line is not of a known format or longer than 16 MB,
            64 MB hold no message, or the end was cut off. Every complete message before that place is yielded first.
            The message names file and line.
    """
    path = Path(path)
    if is_recording(path):
        for entry in read_recording(path):
            yield from (TapeRecord(entry.receive_time_ns, payload) for payload in entry.payloads or ())
        return
    line_number = skipped = 0
    rest = b""
    try:
        with path.open("rb") as file:
            for line, is_whole in _lines(decompressed(iter(lambda: file.read(_CHUNK_BYTES), b""), path)):
                if len(line) > _LONGEST_LINE:
                    where = f"{path}, line {line_number + 1}"
                    raise TapeError(f"{where}: the line has more than {_LONGEST_LINE} bytes: {_excerpt(line)}")
                if not is_whole:
                    rest = line
                    break
                line_number += 1
                record = _parse_line(line, path, line_number)
                if record is not None:
                    skipped = 0
                    yield record
                    continue
                skipped += len(line) + 1
                if skipped > _MOST_SKIPPED:
                    raise TapeError(f"{path}, line {line_number}: the last {skipped} bytes hold no message")
    except OSError as error:
        raise TapeError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (EOFError, zlib.error) as error:
        where = f"{path}, line {line_number + 1}"
        raise TapeError(f"{where}: the compressed data ends early or is damaged: {error}") from error
    if rest:
        line_number += 1
        yield from _last_line(rest, path, line_number)
    if line_number == 0:
        raise TapeError(f"{path}: the tape is empty")


def read_tapes(paths: Iterable[str | PathLike[str]]) -> Iterator[TapeRecord]:
    """Yield the messages of several tapes, one tape after the other in the order given.

    Raises:
        TapeError: as `read_tape`.
    """
    for path in paths:
        yield from read_tape(path)


def _lines(pieces: Iterator[bytes]) -> Iterator[tuple[bytes, bool]]:
    # Each line, and whether it ended with a newline: if not, it is the last one, or too long. The pieces of a long line
    # are joined once.
    waiting: list[bytes] = []
    length = 0
    for piece in pieces:
        first, *others = piece.split(b"\n")
        waiting.append(first)
        length += len(first)
        if length > _LONGEST_LINE:
            break
        if others:
            yield b"".join(waiting), True
            for line in others[:-1]:
                yield line, True
            waiting, length = [others[-1]], len(others[-1])
    if length:
        yield b"".join(waiting), False


def _last_line(line: bytes, path: Path, line_number: int) -> Iterator[TapeRecord]:
    """Read a last line that has no newline: some recorders write it so, but it may also have been cut off."""
    cut_off = TapeError(f"{path}, line {line_number}: the last line is cut off: {_excerpt(line)}")
    try:
        record = _parse_line(line, path, line_number)
    except TapeError as error:
        raise cut_off from error
    if record is None:
        return
    if record.payload not in _HEARTBEATS:
        if record.payload[:1] not in (b"{", b"["):  # a cut-off number would still be JSON
            raise cut_off
        try:
            orjson.loads(record.payload)
        except orjson.JSONDecodeError as error:
            raise cut_off from error
    yield record


def _parse_line(line: bytes, path: Path, line_number: int) -> TapeRecord | None:
    """Read one line of any format; None for a line that is not a received message."""
    head, _, payload = line.partition(b" ")
    if head.isdigit() and payload and len(head) <= _LONGEST_NUMBER:
        return TapeRecord(int(head), payload)
    if head[-1:] == b":" and payload:
        time_ns = _seconds_to_ns(head[:-1])
        if time_ns is not None:
            return TapeRecord(time_ns, payload)
    if line.startswith(b"{"):
        return _parse_json_line(line, path, line_number)
    if line.startswith((b"wss://", b"ws://", b"https://", b"http://")) or not line.strip():
        return None
    raise TapeError(f"{path}, line {line_number}: not a line of any tape format: {_excerpt(line)}")


def _parse_json_line(line: bytes, path: Path, line_number: int) -> TapeRecord | None:
    try:
        fields = json.loads(line, parse_float=str, parse_int=str)  # the time must not pass through a float
        kind, time_text, raw = fields["t"], fields["ts"], fields.get("raw")
    except (ValueError, KeyError, RecursionError) as error:
        what = 'not a JSON line with "t" and "ts"'
        raise TapeError(f"{path}, line {line_number}: {what}: {_excerpt(line)}") from error
    if kind != "recv":
        return None
    time_ns = None if time_text is None else _seconds_to_ns(str(time_text).encode())
    if not isinstance(raw, str) or (time_ns is None and time_text is not None):
        what = '"recv" needs a number "ts" and a text "raw"'
        raise TapeError(f"{path}, line {line_number}: {what}: {_excerpt(line)}")
    return TapeRecord(time_ns, raw.encode("utf-8", "surrogatepass"))


def _seconds_to_ns(text: bytes) -> int | None:
    """Turn seconds such as b"1626992741.06217" into int nanoseconds, digit by digit; None if it is no number.

    Digits beyond the ninth decimal are cut off.
    """
    whole, _, fraction = text.partition(b".")
    if not whole.isdigit() or (fraction and not fraction.isdigit()) or len(whole) > _LONGEST_NUMBER - 9:
        return None
    return int(whole) * 1_000_000_000 + int(fraction[:9].ljust(9, b"0"))


def _excerpt(line: bytes) -> str:
    text = line[:60].decode("utf-8", "replace")
    return repr(text + "..." if len(line) > 60 else text)


def decompressed(chunks: Iterator[bytes], path: Path) -> Iterator[bytes]:
    """Yield the text of a file given in chunks of at least four bytes, in pieces of a bounded size.

    Raises:
        EOFError, zlib.error: the stream ends early or is damaged; all that could be decompressed came before.
        TapeError: zstd cannot be read in this installation, or the zstd data is damaged.
    """
    first = next(chunks, b"")
    if first.startswith(_GZIP_MAGIC):
        yield from _members(first, chunks, lambda: zlib.decompressobj(wbits=31), zlib.error)
    elif first.startswith(_ZSTD_MAGIC):
        new_decompressor, error_type = decompressors(path)
        yield from _members(first, chunks, new_decompressor, error_type)
    elif first:
        yield first
        yield from chunks


def _members(
    first: bytes,
    chunks: Iterator[bytes],
    new_member: Callable[[], Decompressor],
    error_type: type[Exception],
) -> Iterator[bytes]:
    """Decompress the members (gzip) or frames (zstd) of a stream, one after the other."""
    member: Decompressor | None = None
    chunks = (piece for chunk in chain([first], chunks) for piece in pieces_of(chunk))
    data = next(chunks, b"")
    while data:
        if member is None:
            data = data.lstrip(b"\0")  # gzip files may be padded with zeros
            if not data:
                data = next(chunks, b"")
                continue
            member = new_member()
        try:
            text = member.decompress(data)
        except error_type as error:
            raise EOFError(str(error)) from error
        if text:
            yield text
        data = b""
        if member.eof:
            data, member = member.unused_data, None
        data = data or next(chunks, b"")
    if member is not None:
        raise EOFError("no end mark")
