"""The format of recordings, and reading them back: everything that the sessions of a run consumed, in order.

    file   = MAGIC, then blocks
    block  = "FBLK", size u32, raw size u32, CRC-32 u32 of the data, CRC-32 u32 of all before it; the data: one zstd
             frame of entries
    entry  = kind u8, 0 u8, session u16, line u16, 0 u16, size u32, receive time i64, steady time i64; then `size` bytes
             1 messages: count u32, that many lengths u32, the payloads one after the other
             2 event, an input: length u32 of a JSON object with "event", the object, a body
             3 note, of which no bar depends: as an event

All numbers are little-endian. Each block can be read by itself: a truncated file loses no more than its last one.
docs/recording.md has it at length. Units: times int64 nanoseconds; receive times since the Unix epoch.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import orjson

from fastbars.errors import TapeError
from fastbars.log import log
from fastbars.tapes.zstd import PIECE_BYTES, Decompressor, decompressors, pieces_of

VERSION = 1
MAGIC = b"\x89FBREC\r\n\x1a" + bytes([VERSION])
SUFFIX = ".fbr"
BLOCK_MARK = b"FBLK"
BLOCK_HEAD = struct.Struct("<4sIIII")
ENTRY_HEAD = struct.Struct("<BxHHxxIqq")
LENGTH = struct.Struct("<I")
MESSAGES, EVENT, NOTE = 1, 2, 3
# Limits of what is read: our recorder writes no larger block, no more messages in one wakeup and no more sessions in a
# run. (A snapshot that a session was restored from is one entry, and so in one block.)
MOST_BLOCK_BYTES = 256 << 20
MOST_MESSAGES = 1 << 20
MOST_SESSIONS = 4096
_LONGEST_RUN = 128
NO_TIME = -(2**63)


class Entry(NamedTuple):
    """One thing that a session consumed, or a note.

    Attributes:
        run: which run of the recorder it belongs to.
        session: which of the run's sessions, from 1; 0: none.
        line: which of the session's connections.
        receive_time_ns: of the local wall clock.
        steady_ns: of the run's steady clock; None where it was not given.
        payloads: the messages of one wakeup, in wire order; None for an event or note.
        fields: of an event or note: "event" or "note" has its name.
        body: bytes that belong to an event, such as a REST response.
    """

    run: str
    session: int
    line: int
    receive_time_ns: int
    steady_ns: int | None
    payloads: list[bytes] | None
    fields: dict[str, Any]
    body: bytes


def is_recording(path: Path) -> bool:
    """Whether this is a folder of recordings, or one file of a recording."""
    if path.is_dir():
        return True
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC) - 1) == MAGIC[:-1]
    except OSError:
        return False


def read_recording(*paths: str | PathLike[str]) -> Iterator[Entry]:
    """Yield the entries of recordings in the order recorded: folders in the order of their files' names, and files.

    The last block of a run may have been cut off when it ended, by `kill -9` or a full disk, be it the whole file; that
    is logged, and what came before it is whole.

    Raises:
        TapeError: a file is missing, is no recording or is of another version; or it is damaged elsewhere than at the
            end of its run. What came before that place, and all other runs, are yielded first.
    """
    files = [file for path in paths for file in _files_of(Path(path))]
    reading = _Reading()
    for path in files:
        yield from reading.entries_of(path)
    if reading.failure is None and reading.run == "" and all(file.stat().st_size == 0 for file in files):
        raise TapeError(f"{files[0]}: the recording is empty")
    if reading.failure is not None:
        raise reading.failure


class _Reading:
    # The state of reading: the current run, and the first fault. After a fault the rest of its run is skipped.
    def __init__(self) -> None:
        self.run = ""
        self.number = 0
        self.cut = ""
        self.lost = ""  # the run that is not read any further
        self.failure: TapeError | None = None

    def entries_of(self, path: Path) -> Iterator[Entry]:
        entries = _entries_of(path)
        while True:
            try:
                entry = next(entries, None)
                if entry is None:
                    return
                if isinstance(entry, str):
                    self.cut = entry
                    continue
                if entry.fields.get("note") == "file":
                    self._begin(entry, path)
            except TapeError as error:
                self._fail(error, self.run)
                return
            if entry.run == self.lost != "":
                return
            yield entry

    def _begin(self, entry: Entry, path: Path) -> None:
        run, number = entry.run, entry.fields["number"]
        if run == self.run and run != self.lost:
            if self.cut:
                raise TapeError(f"{self.cut}; but the run continues in {path}")
            if number != self.number + 1:
                raise TapeError(f"{path}: file {self.number + 1} of the run {run} is missing before it")
        self.run, self.number, self.cut = run, number, ""

    def _fail(self, error: TapeError, run: str) -> None:
        self.lost = run
        if self.failure is None:
            self.failure = error
        else:
            log.error("recording_damaged", error=str(error))


def _files_of(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(path.glob(f"*{SUFFIX}"))
    if not files:
        raise TapeError(f"{path}: the folder holds no recording (*{SUFFIX})")
    return files


def _entries_of(path: Path) -> Iterator[Entry | str]:
    # Yields a text instead of an entry where the file was cut off.
    run = ""
    try:
        with path.open("rb") as file:
            magic = file.read(len(MAGIC))
            if magic != MAGIC:
                if magic == MAGIC[: len(magic)]:
                    yield _cut(path, 0, len(magic))
                    return
                if magic[:-1] == MAGIC[:-1]:
                    raise TapeError(f"{path}: a recording of version {magic[-1]}; this fastbars reads {VERSION}")
                raise TapeError(f"{path}: not a recording")
            for block in _blocks(file, path):
                if isinstance(block, str):
                    yield block
                    return
                for entry in _entries(block, path, run):
                    run = entry.run
                    yield entry
    except OSError as error:
        raise TapeError(f"{path}: cannot be read: {error.strerror or error}") from error


def _cut(path: Path, place: int, size: int) -> str:
    text = f"{path}: truncated after byte {place}"
    log.warning("recording_cut_off", file=str(path), byte=place, lost_bytes=size)
    return text


def _blocks(file: BinaryIO, path: Path) -> Iterator[bytes | str]:
    new_decompressor, error_type = decompressors(path)
    while True:
        place = file.tell()
        head = file.read(BLOCK_HEAD.size)
        if not head:
            return
        if len(head) < BLOCK_HEAD.size:
            yield _cut(path, place, len(head))
            return
        mark, size, raw_size, checksum, head_checksum = BLOCK_HEAD.unpack(head)
        intact = mark == BLOCK_MARK and zlib.crc32(head[:-4]) == head_checksum
        data = file.read(size) if intact else b""
        if intact and len(data) == size and zlib.crc32(data) == checksum:
            try:
                raw = _decompressed(data, raw_size, new_decompressor())
            except error_type as error:
                raise TapeError(f"{path}, byte {place}: a block cannot be decompressed: {error}") from error
            except ValueError as error:
                raise TapeError(f"{path}, byte {place}: a block {error}") from None
            yield raw
            continue
        # A truncated block is followed by nothing, or by zeros that the file system wrote when the power failed.
        if intact or not mark.strip(b"\0"):
            lost = len(head) + len(data)
            while rest := file.read(PIECE_BYTES):
                lost += len(rest)
                if rest.strip(b"\0"):
                    break
            else:
                yield _cut(path, place, lost)
                return
        raise TapeError(f"{path}, byte {place}: a block is damaged")


def _decompressed(data: bytes, size: int, decompressor: Decompressor) -> bytes:
    # Piece by piece, so that a block that is larger than it says costs no more than one piece.
    if size > MOST_BLOCK_BYTES:
        raise ValueError(f"declares {size} bytes, more than {MOST_BLOCK_BYTES}")
    pieces = []
    length = 0
    for piece in pieces_of(data):
        pieces.append(decompressor.decompress(piece))
        length += len(pieces[-1])
        if length > size:
            raise ValueError(f"has {length} bytes or more but declares {size}")
        if decompressor.eof:
            break
    if length != size:
        raise ValueError(f"has {length} bytes but declares {size}")
    return b"".join(pieces)


def _entries(block: bytes, path: Path, run: str) -> Iterator[Entry]:
    place = 0
    try:
        while place < len(block):
            kind, session, line, size, receive_time_ns, steady_ns = ENTRY_HEAD.unpack_from(block, place)
            place += ENTRY_HEAD.size
            end = place + size
            if end > len(block):
                raise ValueError(f"it declares {size} bytes, and {len(block) - place} are left")
            if session > MOST_SESSIONS:
                raise ValueError(f"session {session} is above {MOST_SESSIONS}")
            steady = None if steady_ns == NO_TIME else steady_ns
            payloads: list[bytes] | None = None
            fields: dict[str, Any] = {}
            body = b""
            if kind == MESSAGES:
                payloads = _payloads(block, place, end)
            elif kind in (EVENT, NOTE):
                (length,) = LENGTH.unpack_from(block, place)
                if place + 4 + length > end:
                    raise ValueError(f"an object of {length} bytes in an entry of {size}")
                fields = orjson.loads(block[place + 4 : place + 4 + length])
                body = block[place + 4 + length : end]
                if not isinstance(fields, dict):
                    raise ValueError("an event is not a JSON object")
                if fields.get("note") == "file":
                    run = _run_of(fields)
            else:
                raise TapeError(f"{path}: an entry of unknown kind {kind}")
            place = end
            yield Entry(run, session, line, receive_time_ns, steady, payloads, fields, body)
    except (struct.error, ValueError, IndexError) as error:
        raise TapeError(f"{path}: malformed entry: {error}") from error


def _run_of(fields: dict[str, Any]) -> str:
    run, number = fields.get("run"), fields.get("number")
    if not isinstance(run, str) or not 0 < len(run) <= _LONGEST_RUN or type(number) is not int or number < 1:
        raise ValueError("a file does not name its run and its number in it")
    return run


def _payloads(block: bytes, place: int, end: int) -> list[bytes]:
    (count,) = LENGTH.unpack_from(block, place)
    if count > min(MOST_MESSAGES, (end - place) // 4):
        raise ValueError(f"{count} messages in an entry of {end - place} bytes; at most {MOST_MESSAGES} are allowed")
    start = place + 4 + 4 * count
    lengths = struct.unpack_from(f"<{count}I", block, place + 4)
    payloads = []
    if start + sum(lengths) != end:
        raise ValueError(f"{count} messages of {sum(lengths)} bytes in an entry of {end - place}")
    for length in lengths:
        payloads.append(block[start : start + length])
        start += length
    return payloads


def event_entry(kind: int, session: int, receive_time_ns: int, fields: Mapping[str, Any], body: bytes = b"") -> bytes:
    """Encode an event or a note as an entry."""
    text = orjson.dumps(fields, default=str)  # a path becomes text
    size = LENGTH.size + len(text) + len(body)
    head = ENTRY_HEAD.pack(kind, session, 0, size, receive_time_ns, NO_TIME)
    return b"%b%b%b%b" % (head, LENGTH.pack(len(text)), text, body)


def write_block(raw: bytes, compress: Callable[[bytes], bytes]) -> bytes:
    """Encode whole entries as a block."""
    data = compress(raw)
    head = BLOCK_HEAD.pack(BLOCK_MARK, len(data), len(raw), zlib.crc32(data), 0)[:-4]
    return head + LENGTH.pack(zlib.crc32(head)) + data
