"""Opens archive files: plain, gzip, zstd or zip, recognised by the first bytes and not by the name.

Source: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT (zip).
"""

from __future__ import annotations

import codecs
import csv
import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from fastbars.columnar.parquet import is_parquet, parquet_columns
from fastbars.errors import TapeError
from fastbars.tapes.reader import decompressed

__all__ = ["first_row", "texts"]

_CHUNK_BYTES = 1 << 18
_LONGEST_LINE = 4096
_ZIP_MAGIC = b"PK"
# What is raised for a file that is cut off or damaged, or for a zip that is encrypted or packed in an unknown way.
_DAMAGED = (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, struct.error, NotImplementedError, RuntimeError)


def texts(path: Path) -> Iterator[tuple[str, Iterator[bytes]]]:
    """(name in the zip or "", its bytes in pieces of a bounded size) of each text in a file.

    Raises:
        TapeError: the file is missing or damaged, or the zip has no CSV file.
    """
    with _named(path), path.open("rb") as file:
        if file.read(2) == _ZIP_MAGIC:
            with zipfile.ZipFile(file) as archive:
                members = [one for one in archive.infolist() if one.filename.lower().endswith(".csv")]
                members = [one for one in members if not one.filename.startswith("__MACOSX/")]
                if not members:
                    raise TapeError(f"{path}: no CSV file is in the zip")
                for member in members:
                    with archive.open(member) as text:
                        yield member.filename, _chunks(text)
        else:
            file.seek(0)
            yield "", decompressed(_chunks(file), path)


def first_row(path: Path) -> list[str]:
    """The fields of the first line that is not blank; of Parquet the names of the columns.

    Raises:
        TapeError: as `texts`, or the file is empty.
    """
    with _named(path):
        if is_parquet(path):
            return parquet_columns(path)
    for _, pieces in texts(path):
        head = b""
        for piece in pieces:
            head = (head + piece).removeprefix(codecs.BOM_UTF8).lstrip(b"\r\n")
            if b"\n" in head or len(head) > _LONGEST_LINE:
                break
        line = head[:_LONGEST_LINE].split(b"\n", 1)[0].decode("utf-8", "replace").rstrip("\r")
        if line:
            return next(csv.reader([line]))
    raise TapeError(f"{path}: it has no rows")


@contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TapeError(f"{path}: cannot be read: {error.strerror or error}") from error
    except _DAMAGED as error:
        raise TapeError(f"{path}: the compressed data ends early or is damaged: {error}") from error


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    return iter(lambda: file.read(_CHUNK_BYTES), b"")
