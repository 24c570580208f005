"""The delivery log: bars issued and bars confirmed since the last snapshot, so that a killed process loses none.

    PATH          snapshot N
    PATH.log.N    what was issued and confirmed after its state was copied

    log N grows --the state is copied, log N+1 begins--> both --snapshot N+1 is renamed over N--> log N is removed

A restart reads the snapshot and, in order, the logs from its number on, whichever of them there are: after a kill
between two of these steps it finds either snapshot N with logs N and N+1, or snapshot N+1 with both, of which N is
ignored. A process that was restored begins a log of its own behind those. Logs are written, not synced: what was
written outlives the process, not the machine. A write that a kill cut short is the last record of its file, and is
dropped.

    "fastbars delivery log 1\n" | records: length, 4 bytes | CRC-32 of the text, 4 bytes | text, JSON

The first record names the stream whose log it is; each other one has bars, or how far the consumers have confirmed.
"""

from __future__ import annotations

import os
import re
import stat
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from decimal import Decimal, DecimalException
from operator import attrgetter
from pathlib import Path
from typing import Any

import orjson

from fastbars.bars import LEVEL_FIELDS, BarStatus, CloseReason, FootprintLevel, OHLCVBar
from fastbars.errors import SnapshotError
from fastbars.kernel.limits import MOST_LEVELS

MOST_BYTES = 1 << 28
MOST_LOGS = 10_000
_MAGIC = b"fastbars delivery log 1\n"
_HEAD_BYTES = 8
_LONGEST_TEXT = 1024
_LONGEST_NUMBER = 64
LONGEST_STREAM = 64
_MOST_CONSUMERS = 100
MOST_NUMBER = 2**62
FIELDS = tuple(each.name for each in fields(OHLCVBar))
_KINDS = {each.name: str(each.type) for each in fields(OHLCVBar)}
_values = attrgetter(*FIELDS)
_DECIMAL = re.compile(r"-?\d+(\.\d+)?(E[+-]?\d{1,2})?", re.ASCII)


def encoded(bar: OHLCVBar) -> bytes:
    """A bar as one line of JSON."""
    return orjson.dumps(_values(bar), default=_encode)


def _encode(value: object) -> object:
    return list(value) if isinstance(value, FootprintLevel) else str(value)


def decoded(values: object) -> OHLCVBar:
    """The bar that `encoded` was given.

    Args:
        values: its JSON, read.

    Raises:
        ValueError: they are not those of a bar.
    """
    if not isinstance(values, list) or len(values) != len(FIELDS):
        raise ValueError("a bar does not have the fields of this version")
    try:
        return OHLCVBar(**{name: _decode(name, value) for name, value in zip(FIELDS, values, strict=True)})
    except (DecimalException, OverflowError) as error:
        raise ValueError(f"a bar has a value out of range: {error!r}") from None


def _decode(name: str, value: object) -> Any:
    kind = _KINDS[name]
    if value is None and kind.endswith("| None"):
        return None
    if (
        kind.startswith("Decimal")
        and type(value) is str
        and len(value) <= _LONGEST_NUMBER
        and _DECIMAL.fullmatch(value)
    ):
        return Decimal(value)
    if kind.startswith("int") and type(value) is int and 0 <= value < 2**63:
        return value
    if kind.startswith("datetime") and type(value) is str and len(value) <= _LONGEST_NUMBER:
        return datetime.fromisoformat(value).astimezone(UTC)
    if kind == "str" and type(value) is str and len(value) <= _LONGEST_TEXT:
        return value
    if kind == "bool" and type(value) is bool:
        return value
    if kind.startswith("tuple") and isinstance(value, list) and len(value) <= MOST_LEVELS:
        return tuple(_level(name, each) for each in value)
    if kind == "BarStatus":
        return BarStatus(str(value))
    if kind == "CloseReason":
        return CloseReason(str(value))
    raise ValueError(f"a bar's {name} is {value!a:.100}")


def _level(name: str, value: object) -> FootprintLevel:
    if not isinstance(value, list) or len(value) != len(LEVEL_FIELDS):
        raise ValueError(f"a bar's {name} has the level {value!a:.100}")
    texts = [text for text in value if isinstance(text, str) and len(text) <= _LONGEST_NUMBER]
    if len(texts) < len(value) or not all(map(_DECIMAL.fullmatch, texts)):
        raise ValueError(f"a bar's {name} has the level {value!a:.100}")
    return FootprintLevel(*map(Decimal, texts))


def positions(given: object) -> dict[str, int]:
    """Consumer -> number of the first bar that it has not confirmed. Raises ValueError: it is something else."""
    if not isinstance(given, dict) or len(given) > _MOST_CONSUMERS:
        raise ValueError("it does not say who has confirmed what")
    for name, number in given.items():
        if len(name) > _LONGEST_TEXT or type(number) is not int or not 0 <= number <= MOST_NUMBER:
            raise ValueError(f"its consumer {name!a:.100} has confirmed {number!a:.100}")
    return given


@dataclass(slots=True)
class Logged:
    """What the logs of a stream say.

    Attributes:
        stream: random id of the stream; None where there is no log.
        next_log: number of the log that a new process writes.
        bars: by their numbers, in the order issued.
        confirmed: consumer -> number of the first bar that it has not confirmed.
    """

    stream: str | None = None
    next_log: int = 0
    bars: dict[int, OHLCVBar] = field(default_factory=dict)
    confirmed: dict[str, int] = field(default_factory=dict)


class DeliveryLog:
    """Appends to the logs of one stream.

    Args:
        path: of the snapshot.
        stream, exchange: random id of the stream whose logs they are, and name of its exchange.

    Attributes:
        number: of the log that is written now, or was written last.
        size: its bytes.
        is_open: whether one is written.
    """

    def __init__(self, path: Path, stream: str, exchange: str) -> None:
        self.number = 0
        self.size = 0
        self._path = path
        self._head = {"stream": stream, "exchange": exchange}
        self._descriptor = -1
        self._confirmed: dict[str, int] = {}  # what this log says of it

    @property
    def is_open(self) -> bool:
        """Whether a log is written."""
        return self._descriptor >= 0

    def begin(self, number: int) -> None:
        """Begin log `number`; the one before stays until `remove_logs`.

        Raises:
            OSError: it cannot be written; the one before is continued.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        before = self._descriptor, self.number, self.size
        self._descriptor, self.number, self.size = os.open(log_path(self._path, number), flags, 0o600), number, 0
        try:
            self._write(_MAGIC + _record(orjson.dumps({**self._head, "log": number, "fields": FIELDS})))
        except OSError:
            os.close(self._descriptor)
            self._descriptor, self.number, self.size = before
            raise
        self._confirmed = {}
        if before[0] >= 0:
            os.close(before[0])

    def write_bars(self, first: int, bars: Sequence[bytes]) -> None:
        """Append bars that are issued together, numbered from `first`. Raises OSError; nothing was appended."""
        if self._descriptor >= 0:
            self._write(_record(b'{"first":%d,"bars":[%s]}' % (first, b",".join(bars))))

    def write_confirmed(self, confirmed: Mapping[str, int]) -> None:
        """Append how far these consumers have confirmed, where that is new. Raises OSError; nothing was appended."""
        changed = {name: at for name, at in confirmed.items() if self._confirmed.get(name) != at}
        if changed and self._descriptor >= 0:
            self._write(_record(orjson.dumps({"confirmed": changed})))
            self._confirmed |= changed

    def close(self) -> None:
        """Write no more. Idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _write(self, data: bytes) -> None:
        if self.size + len(data) > MOST_BYTES:
            raise OSError(f"{log_path(self._path, self.number)} would be longer than {MOST_BYTES} bytes")
        try:
            done = os.write(self._descriptor, data)
            while done < len(data):
                done += os.write(self._descriptor, data[done:])
        except OSError:
            # A part of a record would make those behind it unreadable.
            os.ftruncate(self._descriptor, self.size)
            os.lseek(self._descriptor, self.size, os.SEEK_SET)
            raise
        self.size += len(data)


def _record(text: bytes) -> bytes:
    return b"%b%b%b" % (len(text).to_bytes(4, "little"), zlib.crc32(text).to_bytes(4, "little"), text)


def log_path(path: Path, number: int) -> Path:
    """The log that belongs to snapshot `number`."""
    return path.with_name(f"{path.name}.log.{number}")


def logs_of(path: Path) -> list[int]:
    """Numbers of the logs that lie beside a snapshot, ascending."""
    pattern = re.compile(re.escape(path.name) + r"\.log\.(0|[1-9]\d{0,17})", re.ASCII)
    with os.scandir(path.parent) as entries:
        found = [match for entry in entries if (match := pattern.fullmatch(entry.name))]
    return sorted(int(match[1]) for match in found)


def remove_logs(path: Path, before: int = MOST_NUMBER) -> None:
    """Remove the logs whose number is lower than `before`. Raises OSError."""
    for number in logs_of(path):
        if number < before:
            log_path(path, number).unlink(missing_ok=True)


def read_logs(path: Path, number: int, stream: str | None, exchange: str) -> Logged:
    """What the logs say that belong to snapshot `number`, or to none: then `number` is 0.

    Args:
        path: of the snapshot.
        stream: id of the stream that wrote the snapshot; None: there is none.
        exchange: whose bars they must be.

    Raises:
        SnapshotError: a log cannot be used; the message says which and why, and it is where it was.
        OSError: one cannot be read.
    """
    logged = Logged(next_log=number)
    left = MOST_BYTES
    there = set(logs_of(path))
    while logged.next_log in there:
        one = log_path(path, logged.next_log)
        data = _read(one, left)
        left -= len(data)
        texts = _texts_of(one, data)
        head = next(texts, None)
        if head is None:  # killed before its first record was written: it says nothing, and will be written anew
            break
        is_first = logged.next_log == number
        if not _is_head(one, head, logged.next_log, stream if is_first else logged.stream):
            if is_first:
                raise SnapshotError(f"{one}: delivery log refused: it belongs to another snapshot")
            break  # of an older stream, whose snapshot was removed
        if head.get("exchange") != exchange:
            raise SnapshotError(
                f"{one}: delivery log refused: its exchange is {head.get('exchange')!a:.100}, not {exchange!r}"
            )
        logged.stream = head["stream"]
        has_records = False
        for text in texts:
            has_records = True
            try:
                _take(text, logged)
            except ValueError as error:
                raise SnapshotError(f"{one}: delivery log refused: {error}") from None
        if not has_records and logged.next_log + 1 not in there:
            break
        logged.next_log += 1
        if logged.next_log > number + MOST_LOGS:
            raise SnapshotError(f"{one}: delivery log refused: it is the last of more than {MOST_LOGS}")
    return logged


def _read(path: Path, most: int) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise SnapshotError(f"{path}: the delivery log is not a regular file")
        if found.st_size > most:
            raise SnapshotError(f"{path}: delivery log refused: it has {found.st_size} bytes, more than {most}")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(found.st_size)
    finally:
        os.close(descriptor)


def _texts_of(path: Path, data: bytes) -> Iterator[Any]:
    # The records, less the last one where it was cut short. Zeros at the end: the machine went down, and the file
    # system had kept the place but not what was written there; no record ends with one.
    data = data.rstrip(b"\0")
    if not data.startswith(_MAGIC):
        if _MAGIC.startswith(data):
            return
        raise SnapshotError(f"{path}: delivery log refused: it is not a fastbars delivery log of version 1")
    at = len(_MAGIC)
    while at < len(data):
        size, checksum = (int.from_bytes(data[at + k : at + k + 4], "little") for k in (0, 4))
        end = at + _HEAD_BYTES + size
        text = data[at + _HEAD_BYTES : end]
        if zlib.crc32(text) != checksum or end > len(data) or size == 0:
            if end >= len(data):
                return
            raise SnapshotError(f"{path}: delivery log refused: damaged at byte {at}, its checksum does not match")
        try:
            record = orjson.loads(text)
        except orjson.JSONDecodeError as error:  # nested too deeply, too
            raise SnapshotError(f"{path}: delivery log refused: a record cannot be read: {error}") from None
        if not isinstance(record, dict):
            raise SnapshotError(f"{path}: delivery log refused: malformed record at byte {at}")
        yield record
        at = end


def _is_head(path: Path, head: dict[str, Any], number: int, stream: str | None) -> bool:
    # Whether it is the log of this number and stream; None: of any.
    own = head.get("stream")
    if type(own) is not str or not 0 < len(own) <= LONGEST_STREAM or head.get("log") != number:
        raise SnapshotError(f"{path}: delivery log refused: its first record does not say whose it is")
    if head.get("fields") != list(FIELDS):
        raise SnapshotError(f"{path}: delivery log refused: its bars have other fields than those of this version")
    return stream is None or own == stream


def _take(record: dict[str, Any], logged: Logged) -> None:
    if "confirmed" in record:
        for name, number in positions(record["confirmed"]).items():
            logged.confirmed[name] = max(number, logged.confirmed.get(name, 0))
        if len(logged.confirmed) > _MOST_CONSUMERS:
            raise ValueError("it has too many consumers")
        return
    first, bars = record.get("first"), record.get("bars")
    if type(first) is not int or not 0 <= first <= MOST_NUMBER or not isinstance(bars, list):
        raise ValueError("a record has neither bars nor confirmations")
    if first < next(reversed(logged.bars), -1):
        raise ValueError(f"its bar {first} stands behind a later one")
    logged.bars.update(enumerate(map(decoded, bars), first))
