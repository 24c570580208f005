"""Snapshot files: the state of a stream on disk, from which a restart continues.

A file is written whole or not at all: to a new file, which is synced and renamed over the old one. It begins with a
line of text, a version and a checksum; a file that is damaged, or of another version or build, is refused and set
aside.

    "fastbars snapshot <version>\n" | SHA-256 of the rest, 32 bytes | length of the head, 8 bytes | head, JSON | parts

Units: bytes; times int64 ns.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from fastbars.errors import SnapshotError

VERSION = 4
MOST_BYTES = 4 << 30
_LONGEST_LINE = 64
_MOST_OTHERS = 1000
_MAGIC = b"fastbars snapshot "
_CHECKSUM_BYTES = 32
_LENGTH_BYTES = 8


def pieces_of(content: Mapping[str, Any]) -> list[bytes]:
    """A snapshot as the bytes of its file, in pieces. Values are what JSON knows, or bytes.

    No piece is copied: a thread that copies a hundred megabytes holds the interpreter, and the event loop, up.
    """
    parts = {name: value for name, value in content.items() if isinstance(value, bytes)}
    head = {name: value for name, value in content.items() if name not in parts}
    sizes = {name: len(part) for name, part in parts.items()}
    text = orjson.dumps({"head": head, "parts": sizes})
    body = [len(text).to_bytes(_LENGTH_BYTES, "little"), text, *parts.values()]
    checksum = hashlib.sha256()
    for piece in body:
        checksum.update(piece)
    return [_MAGIC + b"%d\n" % VERSION, checksum.digest(), *body]


def pack(content: Mapping[str, Any]) -> bytes:
    """A snapshot as the bytes of its file."""
    return b"".join(pieces_of(content))


def unpack(data: bytes) -> dict[str, Any]:
    """What `pack` was given.

    Raises:
        SnapshotError: it is no snapshot, of another version, or damaged.
    """
    newline = data.find(b"\n", 0, _LONGEST_LINE)
    line, rest = data[: max(newline, 0)], data[newline + 1 :]
    if not line.startswith(_MAGIC):
        raise SnapshotError("it is not a fastbars snapshot")
    version = line[len(_MAGIC) :]
    if version != b"%d" % VERSION:
        named = version.decode("ascii", "backslashreplace")
        raise SnapshotError(f"it is of version {named}, this fastbars reads version {VERSION} only")
    checksum, body = rest[:_CHECKSUM_BYTES], rest[_CHECKSUM_BYTES:]
    if hashlib.sha256(body).digest() != checksum:
        raise SnapshotError("it is damaged: its checksum does not match")
    size = int.from_bytes(body[:_LENGTH_BYTES], "little")
    at = _LENGTH_BYTES + size
    if len(body) < at:
        raise SnapshotError(f"its head of {size} bytes is cut off")
    try:
        described = orjson.loads(body[_LENGTH_BYTES:at])
    except orjson.JSONDecodeError as error:  # nested too deeply, too
        raise SnapshotError(f"its head cannot be read: {error}") from None
    content = described.get("head") if isinstance(described, dict) else None
    parts = described.get("parts") if isinstance(described, dict) else None
    if not isinstance(content, dict) or not isinstance(parts, dict):
        raise SnapshotError("its head does not describe it")
    for name, length in parts.items():
        if type(length) is not int or not 0 <= length <= len(body) - at:
            raise SnapshotError("its parts are longer than it is")
        content[name] = body[at : at + length]
        at += length
    if at != len(body):
        raise SnapshotError(f"it is {len(body) - at} bytes longer than its parts")
    return content


def write(path: Path, pieces: Iterable[bytes]) -> None:
    """Replace the file by these bytes; a crash at any moment leaves the old file or the new one, whole.

    Raises:
        OSError: it cannot be written; the old file is untouched.
    """
    beside = path.with_name(f"{path.name}.new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    if os.name == "posix":
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def set_aside(path: Path, why: str) -> SnapshotError:
    """Rename a snapshot that cannot be used; returns the error that says so."""
    aside = path.with_name(f"{path.name}.refused-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}")
    path.replace(aside)
    return SnapshotError(f"{path}: snapshot refused: {why}. It was renamed to {aside}; the next start does without it")


def refuse_others(path: Path) -> None:
    """Set aside PATH.1, PATH.2, ..., which earlier versions wrote for further connections: nothing of them is used.

    Raises:
        SnapshotError: there was one.
    """
    refused: SnapshotError | None = None
    for number in range(1, _MOST_OTHERS):
        other = path.with_name(f"{path.name}.{number}")
        try:
            with other.open("rb") as file:
                line = file.read(_LONGEST_LINE).partition(b"\n")[0]
        except OSError:
            break
        if line.startswith(_MAGIC) and line != _MAGIC + b"%d" % VERSION:
            refused = set_aside(other, "it is that of a further connection, as earlier versions wrote it")
    if refused is not None:
        raise refused


def read(path: Path) -> dict[str, Any] | None:
    """The content of a snapshot file; None where there is no file.

    Raises:
        SnapshotError: it cannot be used; it was set aside.
        OSError: it cannot be read.
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise SnapshotError(f"{path}: the snapshot is not a regular file")
        if found.st_size > MOST_BYTES:
            raise set_aside(path, f"it has {found.st_size} bytes, more than {MOST_BYTES}")
        with path.open("rb") as file:
            data = file.read(found.st_size)
    except FileNotFoundError:
        return None
    try:
        return unpack(data)
    except SnapshotError as error:
        raise set_aside(path, str(error)) from error
