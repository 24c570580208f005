"""The file given by `-o`, whose old content is kept until the command has succeeded.

A command writes to NAME.part in the same folder, and renames it when it has succeeded. A live stream writes a new file
directly, so that it can be watched. Anything but a regular file (/dev/stdout, a pipe) is written to directly.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TextIO

from fastbars.errors import FastbarsError

_MOST_PARTS = 1000


class OutputFile:
    """A file to write to, opened.

    Args:
        path: as the user wrote it.
        live: written over days: a new file is written directly, and an old one is replaced only if there are bars.
        append: append to the file.
        header: the first line that a file to append to must have; None: none is required.

    Attributes:
        file: to write to.
        continues: it has bars already, so no header is written.

    Raises:
        OSError: it cannot be opened. FastbarsError: it has another header.
    """

    def __init__(self, path: Path, *, live: bool = False, append: bool = False, header: str | None = None) -> None:
        self._path = path
        # A symbolic link is followed, not replaced. Other files may have no real path, such as /dev/stdout.
        self._target = path if path.exists() and not path.is_file() else Path(os.path.realpath(path))
        self._written = self._target
        self.continues = False
        self._is_new = not self._target.exists()
        self._live = live
        try:
            if append:
                self.continues = not self._is_new and self._check_header(header)
                self.file: TextIO = self._target.open("a", encoding="utf-8", newline="", errors="backslashreplace")
            elif self._is_new and live:
                self.file = self._target.open("x", encoding="utf-8", newline="", errors="backslashreplace")
            elif self._is_new or stat.S_ISREG(self._target.stat().st_mode):
                self.file = self._open_part()
            else:
                self.file = self._target.open("w", encoding="utf-8", newline="", errors="backslashreplace")
        except OSError as error:
            raise OSError(error.errno, error.strerror or str(error), str(path)) from error
        self._append = append

    def finish(self, bars: int, *, succeeded: bool) -> str:
        """Close it and replace the old file if the command succeeded. Returns where the bars are otherwise, or ""."""
        with suppress(OSError) if not succeeded else nullcontext():
            self.file.close()
        is_part = self._written != self._target
        if self._append or (not is_part and not self._is_new):
            return ""
        if not bars and (not succeeded or (self._live and is_part)):
            self._written.unlink()
            return ""
        if is_part and not succeeded:
            return str(self._path.with_name(self._written.name))
        if is_part:
            with suppress(OSError):
                self._written.chmod(stat.S_IMODE(self._target.stat().st_mode))
            self._written.replace(self._target)
        return ""

    def _open_part(self) -> TextIO:
        # A part that an earlier run has left may still be wanted.
        for number in range(1, _MOST_PARTS):
            self._written = self._target.with_name(f"{self._target.name}.part{number if number > 1 else ''}")
            with suppress(FileExistsError):
                return self._written.open("x", encoding="utf-8", newline="", errors="backslashreplace")
        raise FileExistsError(17, f"there are {_MOST_PARTS} parts already", str(self._written))

    def _check_header(self, header: str | None) -> bool:
        # Whether the file already has a header.
        if not stat.S_ISREG(self._target.stat().st_mode):
            return False
        with self._target.open("rb+") as file:
            first = file.readline(4096).rstrip(b"\r\n")
            if not file.seek(0, os.SEEK_END):
                return False
            if header is not None and first.decode("utf-8", "replace") != header:
                raise FastbarsError(f"{self._path}: its header differs from that of these bars: {first[:60]!r}")
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":  # the last line was cut off when its process was killed
                file.write(b"\n")
        return True


def refuse_own_input(output: Path | TextIO | None, tapes: Iterable[Path]) -> None:
    """Raise FastbarsError if a command would write to one of its input files, under whatever name."""
    try:
        if output is None:
            return
        written = output.stat() if isinstance(output, Path) else os.fstat(output.fileno())
    except (OSError, ValueError):  # it does not exist yet, or is not a file
        return
    if not stat.S_ISREG(written.st_mode):
        return
    for path in _files_in(tapes):
        with suppress(OSError):
            if os.path.samestat(path.stat(), written):
                name = output if isinstance(output, Path) else "stdout"
                raise FastbarsError(f"{name} is the input tape {path}, and cannot be written to")


def _files_in(tapes: Iterable[Path]) -> Iterator[Path]:
    for tape in tapes:
        yield from (one for one in tape.rglob("*") if one.is_file()) if tape.is_dir() else [tape]
