"""`jsonl:FILE` and `csv:FILE`: each row as a line, appended; a file that is full is set aside under a number.

    bars.jsonl --`rotate` MB, or the day is over--> bars.jsonl.1, bars.jsonl.2, ...: the highest is the newest

A line that a crash has cut is ended at the next start, and readers pass over it. A row that was not confirmed is
written again: readers take the best row of each bar.
"""

from __future__ import annotations

import asyncio
import csv
import io
import os
import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import IO, Any
from urllib.parse import parse_qsl

from fastbars.sinks.declaration import SinkError, SinkRefused
from fastbars.sinks.json_rows import json_of
from fastbars.sinks.rows import COLUMNS, Rows, now

__all__ = ["CsvSink", "JsonLinesSink", "files_of"]

_NAMES = tuple(column.name for column in COLUMNS)
_MB = 1_000_000


class _Lines:
    # A file that lines are appended to, and the ones before it.

    def __init__(self, url: str, header: bytes) -> None:
        target, _, query = url.partition(":")[2].partition("?")
        self.path = Path(target)
        if not self.path.name:
            raise SinkRefused(f"{url!r:.200} names no file: {url.partition(':')[0]}:FILE")
        options = dict(parse_qsl(query, keep_blank_values=True))
        rotate = options.pop("rotate", "")
        if options or not re.fullmatch(r"[1-9]\d{0,5}|day|", rotate):
            raise SinkRefused(f"{url!r:.200}: the only option is rotate=MB, from 1 to 999999, or rotate=day")
        self._most = int(rotate) * _MB if rotate.isdigit() else None
        self._is_daily = rotate == "day"
        self._day = date.min  # of what is in the file, by the wall clock, UTC
        self._header = header
        self._file: IO[bytes] | None = None
        self.name = f"{url.partition(':')[0]}:{self.path}"

    async def open(self) -> None:
        await self.close()
        try:
            self._file = await asyncio.to_thread(self._opened)
        except (FileNotFoundError, IsADirectoryError, PermissionError, NotADirectoryError) as error:
            raise SinkRefused(f"{self.name}: {error.strerror}") from error
        except OSError as error:
            raise SinkError(f"{self.name}: {error.strerror or error}") from error

    async def append(self, content: bytes) -> None:
        if self._is_daily and self._file is not None and self._day != now().date():
            if self._file.tell() > len(self._header):
                await self._begin_anew()
            self._day = now().date()
        await self._do(lambda file: file.write(content))

    async def flush(self) -> None:
        await self._do(_sync)
        if self._most is not None and self._file is not None and self._file.tell() >= self._most:
            await self._begin_anew()

    async def close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except OSError:  # what was written since the last flush is not confirmed
                return

    async def _begin_anew(self) -> None:
        await self._do(_sync)
        await self.close()
        try:
            await asyncio.to_thread(self._set_aside)
        except OSError as error:
            raise SinkError(f"{self.name}: {error.strerror or error}") from error
        await self.open()

    async def _do(self, action: Callable[[IO[bytes]], object]) -> None:
        if self._file is None:
            raise SinkError(f"{self.name}: not open")
        try:
            await asyncio.to_thread(action, self._file)
        except OSError as error:
            raise SinkError(f"{self.name}: {error.strerror or error}") from error

    def _opened(self) -> IO[bytes]:
        file = self.path.open("ab+")
        try:
            if file.tell() and self.path.is_file():
                if self._header:
                    file.seek(0)
                    if file.readline() != self._header:
                        raise SinkRefused(f"{self.name}: its first line is not the header of bars: name another file")
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    file.write(b"\n")
                self._day = datetime.fromtimestamp(self.path.stat().st_mtime, UTC).date()
            else:
                self._day = now().date()
                file.write(self._header)
        except BaseException:
            file.close()
            raise
        return file

    def _set_aside(self) -> None:
        numbers = [number for number, _ in _set_aside_of(self.path)]
        self.path.rename(self.path.with_name(f"{self.path.name}.{max(numbers, default=0) + 1}"))


class JsonLinesSink:
    """Appends rows to a file, a line of JSON each, in the order issued; decimals are text, times ISO 8601 in UTC.

    Args:
        url: "jsonl:FILE", with `?rotate=MB` to set the file aside where it is larger, or `?rotate=day` at midnight UTC.

    Raises:
        SinkRefused: no file is named, or an option is wrong.
    """

    def __init__(self, url: str) -> None:
        self._lines = _Lines(url, b"")
        self.name = self._lines.name

    async def open(self) -> None:
        """Open the file to append. Raises SinkError, SinkRefused."""
        await self._lines.open()

    async def write(self, rows: Rows) -> None:
        """Append the rows. Raises SinkError."""
        await self._lines.append(b"".join(json_of(record) + b"\n" for record in rows.records))

    async def flush(self) -> None:
        """Wait until the disk has it. Raises SinkError."""
        await self._lines.flush()

    async def close(self) -> None:
        """Close the file."""
        await self._lines.close()


class CsvSink:
    """Appends rows to a CSV file with a header; decimals without exponent, times ISO 8601 in UTC, None is empty.

    Args:
        url: "csv:FILE", with `?rotate=MB` to set the file aside where it is larger, or `?rotate=day` at midnight UTC.

    Raises:
        SinkRefused: no file is named, or an option is wrong.
    """

    def __init__(self, url: str) -> None:
        self._lines = _Lines(url, ",".join(_NAMES).encode() + b"\n")
        self.name = self._lines.name

    async def open(self) -> None:
        """Open the file to append. Raises SinkError, SinkRefused: also where it has another header."""
        await self._lines.open()

    async def write(self, rows: Rows) -> None:
        """Append the rows. Raises SinkError."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(map(_plain, record) for record in rows.records)
        await self._lines.append(text.getvalue().encode())

    async def flush(self) -> None:
        """Wait until the disk has it. Raises SinkError."""
        await self._lines.flush()

    async def close(self) -> None:
        """Close the file."""
        await self._lines.close()


def files_of(path: Path) -> list[Path]:
    """The file, behind those that were set aside, the oldest first."""
    return [*(file for _, file in sorted(_set_aside_of(path))), *([path] if path.exists() else [])]


def _set_aside_of(path: Path) -> list[tuple[int, Path]]:
    pattern = re.compile(re.escape(path.name) + r"\.([1-9]\d{0,8})")
    folder = path.parent
    found = ((pattern.fullmatch(file.name), file) for file in (folder.iterdir() if folder.is_dir() else ()))
    return [(int(match[1]), file) for match, file in found if match]


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else value
