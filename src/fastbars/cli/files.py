"""The file given by `-o`: what was in it before stays until there is something better.

A command writes to NAME.part in the same folder, and renames that when it has succeeded. Where the file is new, a live
stream writes to it at once, so that it can be watched; what is no ordinary file (/dev/stdout, a pipe) is written to as
it is.
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
        live: written over days: a new file is written to at once, and an old one is replaced only by bars.
        append: add to what is in the file.
        header: the first line that a file to append to must have; None: it needs none.

    Attributes:
        file: to write to.
        continues: there are bars in it already, so that it needs no header.

    Raises:
        OSError: it cannot be opened. FastbarsError: it has another header.
    """

    def __init__(self, path: Path, *, live: bool = False, append: bool = False, header: str | None = None) -> None:
        self._path = path
        # A link stays one. What is no ordinary file may have no other name, as /dev/stdout has none.
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
        """Close it, and let it take the place of the old one where it may; returns where else the bars are, or ""."""
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
        # What an earlier run has left there may be wanted, too.
        for number in range(1, _MOST_PARTS):
            self._written = self._target.with_name(f"{self._target.name}.part{number if number > 1 else ''}")
            with suppress(FileExistsError):
                return self._written.open("x", encoding="utf-8", newline="", errors="backslashreplace")
        raise FileExistsError(17, f"{_MOST_PARTS} parts are there already", str(self._written))

    def _check_header(self, header: str | None) -> bool:
        # True: there are bars already, or at least their header.
        if not stat.S_ISREG(self._target.stat().st_mode):
            return False
        with self._target.open("rb+") as file:
            first = file.readline(4096).rstrip(b"\r\n")
            if not file.seek(0, os.SEEK_END):
                return False
            if header is not None and first.decode("utf-8", "replace") != header:
                raise FastbarsError(f"{self._path}: begins with another header than these bars have: {first[:60]!r}")
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":  # the last line was cut off when its process was killed
                file.write(b"\n")
        return True


def refuse_own_input(output: Path | TextIO | None, tapes: Iterable[Path]) -> None:
    """Raises FastbarsError where a command would write to one of the files that it reads, whatever that is called."""
    try:
        if output is None:
            return
        written = output.stat() if isinstance(output, Path) else os.fstat(output.fileno())
    except (OSError, ValueError):  # it is not there yet, or no file
        return
    if not stat.S_ISREG(written.st_mode):
        return
    for path in _files_in(tapes):
        with suppress(OSError):
            if os.path.samestat(path.stat(), written):
                name = output if isinstance(output, Path) else "stdout"
                raise FastbarsError(f"{name}: is {path}, a tape that is read, and cannot be written to")


def _files_in(tapes: Iterable[Path]) -> Iterator[Path]:
    for tape in tapes:
        yield from (one for one in tape.rglob("*") if one.is_file()) if tape.is_dir() else [tape]
