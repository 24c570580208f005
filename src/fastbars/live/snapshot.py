"""Snapshot files: what a stream knows, kept on disk so that a restart goes on where it ended.

A file is written whole or not at all: beside the old one, synced, and renamed over it. It begins with a line of
text, a version and a checksum; a damaged file, or one of another version or another build, is refused and set aside.

    "fastbars snapshot <version>\n" | SHA-256 of the rest, 32 bytes | length of the head, 8 bytes | head, JSON | parts

Units: bytes; times int64 ns.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from fastbars.errors import SnapshotError

VERSION = 2
_MAGIC = b"fastbars snapshot "
_CHECKSUM_BYTES = 32
_LENGTH_BYTES = 8


def pack(content: Mapping[str, Any]) -> bytes:
    """A snapshot as the bytes of its file. Values are what JSON knows, or bytes."""
    parts = {name: value for name, value in content.items() if isinstance(value, bytes)}
    head = {name: value for name, value in content.items() if name not in parts}
    sizes = {name: len(part) for name, part in parts.items()}
    text = orjson.dumps({"head": head, "parts": sizes})
    body = b"".join([len(text).to_bytes(_LENGTH_BYTES, "little"), text, *parts.values()])
    return b"".join([_MAGIC, b"%d\n" % VERSION, hashlib.sha256(body).digest(), body])


def unpack(data: bytes) -> dict[str, Any]:
    """What `pack` was given.

    Raises:
        SnapshotError: it is no snapshot, of another version, or damaged.
    """
    line, newline, rest = data.partition(b"\n")
    if not line.startswith(_MAGIC) or not newline:
        raise SnapshotError("it is no snapshot of fastbars")
    version = line[len(_MAGIC) :]
    if version != b"%d" % VERSION:
        raise SnapshotError(f"it is of version {version.decode('ascii', 'replace')}, this is version {VERSION}")
    checksum, body = rest[:_CHECKSUM_BYTES], rest[_CHECKSUM_BYTES:]
    if hashlib.sha256(body).digest() != checksum:
        raise SnapshotError("it is damaged: its checksum does not match")
    size = int.from_bytes(body[:_LENGTH_BYTES], "little")
    described = orjson.loads(body[_LENGTH_BYTES : _LENGTH_BYTES + size])
    content: dict[str, Any] = described["head"]
    at = _LENGTH_BYTES + size
    for name, length in described["parts"].items():
        content[name] = body[at : at + length]
        at += length
    return content


def write(path: Path, data: bytes) -> None:
    """Put `data` in the place of the file, so that a crash at any moment leaves the old one or the new one.

    Raises:
        OSError: it cannot be written; the old file is untouched.
    """
    beside = path.with_name(f"{path.name}.new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
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
    return SnapshotError(f"{path}: the snapshot is refused: {why}. It was kept as {aside}; the next start begins anew")


def read(path: Path) -> dict[str, Any] | None:
    """The content of a snapshot file; None where there is no file.

    Raises:
        SnapshotError: it cannot be used; it was set aside.
        OSError: it cannot be read.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        return unpack(data)
    except SnapshotError as error:
        raise set_aside(path, str(error)) from error
    except (orjson.JSONDecodeError, LookupError, TypeError, ValueError) as error:
        raise set_aside(path, f"it cannot be read: {error!r}") from error
