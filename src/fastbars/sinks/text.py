"""`jsonl:FILE`: each row as a line of JSON, appended."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import IO, Any

from fastbars.sinks.declaration import SinkError, SinkRefused
from fastbars.sinks.json_rows import json_of
from fastbars.sinks.rows import Rows

__all__ = ["JsonLinesSink"]


class JsonLinesSink:
    """Appends rows to a file, a line of JSON each, in the order issued; decimals are text, times ISO 8601 in UTC.

    A bar that is written again after a crash is there twice: readers take the best row of each bar.

    Args:
        url: "jsonl:FILE".

    Raises:
        SinkRefused: no file is named.
    """

    def __init__(self, url: str) -> None:
        self._path = Path(url.partition(":")[2])
        if not self._path.name:
            raise SinkRefused(f"{url!r:.200} names no file: jsonl:FILE")
        self.name = f"jsonl:{self._path}"
        self._file: IO[bytes] | None = None

    async def open(self) -> None:
        """Open the file to append; a last line that a crash has cut is ended. Raises SinkError, SinkRefused."""
        await self.close()
        try:
            self._file = await asyncio.to_thread(_open, self._path)
        except (FileNotFoundError, IsADirectoryError, PermissionError, NotADirectoryError) as error:
            raise SinkRefused(f"{self.name}: {error.strerror}") from error
        except OSError as error:
            raise SinkError(f"{self.name}: {error.strerror or error}") from error

    async def write(self, rows: Rows) -> None:
        """Append the rows. Raises SinkError."""
        content = b"".join(json_of(record) + b"\n" for record in rows.records)
        await self._do(lambda file: file.write(content))

    async def flush(self) -> None:
        """Wait until the disk has it. Raises SinkError."""
        await self._do(_sync)

    async def close(self) -> None:
        """Close the file."""
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except OSError:  # what was written since the last flush is not confirmed
                return

    async def _do(self, action: Any) -> None:
        if self._file is None:
            raise SinkError(f"{self.name}: not open")
        try:
            await asyncio.to_thread(action, self._file)
        except OSError as error:
            raise SinkError(f"{self.name}: {error.strerror or error}") from error


def _open(path: Path) -> IO[bytes]:
    file = path.open("ab+")
    if file.tell():
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":
            file.write(b"\n")
    return file


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())
