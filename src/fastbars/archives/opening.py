"""Opens archive files: plain, gzip, zstd or zip, recognised by the first bytes and not by the name.

Deflated data is inflated by ISA-L where it is installed (extra `archives`), in a third of the time that zlib takes.

Source: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT (zip), RFC 1952 (gzip).
"""

from __future__ import annotations

import codecs
import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO, Any, NamedTuple

from fastbars.columnar.parquet import is_parquet, parquet_columns
from fastbars.errors import TapeError
from fastbars.log import log
from fastbars.tapes.reader import decompressed

__all__ = ["Head", "first_row", "head_of", "named", "split_head", "texts"]

_CHUNK_BYTES = 1 << 16
_PACKED_BYTES = 1 << 16
_LONGEST_HEAD = 1 << 15
_ZIP_MAGIC = b"PK"
_GZIP_MAGIC = b"\x1f\x8b"
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_ENCRYPTED = 1
_SEPARATORS = ",;\t|"
# What is raised for a file that is cut off or damaged, or for a zip that is packed in an unknown way.
_DAMAGED = (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, struct.error, NotImplementedError, RuntimeError)


class Head(NamedTuple):
    """The beginning of a text.

    Attributes:
        separator: between columns.
        rows: the fields of the first lines that are not blank, two at most.
    """

    separator: str
    rows: list[list[str]]


def texts(path: Path) -> Iterator[tuple[str, Iterator[bytes]]]:
    """(name in the zip or "", its bytes in pieces of a bounded size) of each text in a file.

    Raises:
        TapeError: the file is missing, damaged or encrypted, or the zip has no CSV file.
    """
    with named(path), path.open("rb", buffering=0) as file:  # pieces are larger than any buffer
        magic = file.read(2)
        file.seek(0)
        if magic == _ZIP_MAGIC:
            yield from _members(path, file)
        elif magic == _GZIP_MAGIC:
            yield "", _gunzipped(file)
        else:
            yield "", decompressed(_chunks(file), path)


def head_of(path: Path) -> Head:
    """The first lines of the first text; of Parquet, in their place, the names of the columns.

    Raises:
        TapeError: as `texts`, or the file is empty.
    """
    with named(path):
        if is_parquet(path):
            return Head(",", [parquet_columns(path)])
        for _, pieces in texts(path):
            head = b""
            for piece in pieces:
                head = (head + piece).removeprefix(codecs.BOM_UTF8).lstrip(b"\r\n")
                if head.count(b"\n") >= 2 or len(head) > _LONGEST_HEAD:
                    break
            if head:
                return split_head(head)
    raise TapeError(f"{path}: it has no rows")


def split_head(head: bytes) -> Head:
    """The first two lines of a text, split into their fields."""
    lines = [line for line in head[:_LONGEST_HEAD].decode("utf-8", "replace").split("\n") if line.strip()][:2]
    first = lines[0] if lines else ""
    separator = max(_SEPARATORS, key=first.count)
    return Head(separator, [[_bare(field) for field in line.split(separator)] for line in lines])


def _bare(field: str) -> str:
    return field.strip().removeprefix('"').removesuffix('"').strip()


def first_row(path: Path) -> list[str]:
    """The fields of the first line that is not blank; of Parquet the names of the columns. Raises as `head_of`."""
    return head_of(path).rows[0]


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Errors of the file system and of compressed data, as a TapeError that names the file."""
    try:
        yield
    except OSError as error:
        raise TapeError(f"{path}: cannot be read: {error.strerror or error}") from error
    except _DAMAGED as error:
        raise TapeError(f"{path}: the compressed data ends early or is damaged: {error}") from error


@cache
def inflater() -> Any:
    """isal.isal_zlib, or zlib where it is not installed."""
    try:
        from isal import isal_zlib  # noqa: PLC0415 - an optional extra
    except ImportError:
        log.info("isal_missing", advice='pip install "fastbars[archives]" inflates archives three times faster')
        return zlib
    return isal_zlib


def _members(path: Path, file: IO[bytes]) -> Iterator[tuple[str, Iterator[bytes]]]:
    with zipfile.ZipFile(file) as archive:
        members = [one for one in archive.infolist() if one.filename.lower().endswith(".csv")]
        members = [one for one in members if not one.filename.startswith("__MACOSX/")]
        if not members:
            raise TapeError(f"{path}: no CSV file is in the zip")
        for member in members:
            if member.flag_bits & _ENCRYPTED:
                raise TapeError(f"{path}, {member.filename}: it is encrypted")
            if member.compress_type == zipfile.ZIP_DEFLATED:
                yield member.filename, _inflated(file, member)
            else:
                with archive.open(member) as text:
                    yield member.filename, _chunks(text)


def _inflated(file: IO[bytes], member: zipfile.ZipInfo) -> Iterator[bytes]:
    file.seek(member.header_offset)
    magic, name, extra = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    if magic != b"PK\3\4":
        raise zipfile.BadZipFile(f"{member.filename}: its local header is missing")
    file.seek(name + extra, 1)
    at, left, size, checksum = file.tell(), member.compress_size, 0, 0
    deflate = inflater()
    stream = deflate.decompressobj(-zlib.MAX_WBITS)
    is_full = False  # the last piece of text: more of it may be held back, though all input was taken
    while not stream.eof:
        packed = stream.unconsumed_tail
        if not packed and not is_full:
            file.seek(at)
            packed = file.read(min(left, _PACKED_BYTES))
            at += len(packed)
            left -= len(packed)
            if not packed:
                raise EOFError(f"{member.filename} is cut off")
        text = _decompressed(stream, packed)
        is_full = len(text) == _CHUNK_BYTES
        size += len(text)
        if size > member.file_size:
            raise zipfile.BadZipFile(f"{member.filename} has more than the {member.file_size:,} bytes that it claims")
        checksum = deflate.crc32(text, checksum)
        if text:
            yield text
    if size != member.file_size or checksum != member.CRC:
        raise zipfile.BadZipFile(f"{member.filename}: length or CRC-32 is not that of the directory")


def _decompressed(stream: Any, packed: bytes) -> bytes:
    try:
        text: bytes = stream.decompress(packed, _CHUNK_BYTES)
    except inflater().error as error:
        raise EOFError(str(error)) from error
    return text


def _gunzipped(file: IO[bytes]) -> Iterator[bytes]:
    # One member behind the other.
    deflate = inflater()
    packed = file.read(_PACKED_BYTES)
    while packed:
        stream = deflate.decompressobj(zlib.MAX_WBITS | 16)
        while not stream.eof:
            text = _decompressed(stream, packed)
            packed = stream.unconsumed_tail
            if text:
                yield text
            if packed or stream.eof or len(text) == _CHUNK_BYTES:
                continue  # of a full piece of text more may be held back
            packed = file.read(_PACKED_BYTES)
            if not packed:
                raise EOFError("no end mark")
        packed = stream.unused_data.lstrip(b"\0")  # files may be padded with zeros
        while not packed and (piece := file.read(_PACKED_BYTES)):
            packed = piece.lstrip(b"\0")


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    return iter(lambda: file.read(_CHUNK_BYTES), b"")
