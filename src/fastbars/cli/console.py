"""Console: a command's output on stderr: log lines, errors, and on a terminal one line of progress.

Everything goes through an `Outlet`, so that a blocked stderr blocks nothing else; lines without room are only counted.
"""

from __future__ import annotations

import logging
import threading
from typing import TextIO

from fastbars.cli.outlet import READER_TIMEOUT_S, Outlet
from fastbars.cli.output import terminal_width
from fastbars.cli.text import columns_of, fitted, printable


class Console(logging.Handler):
    """Writes to stderr, and handles log records.

    Args:
        file: stderr, or None where there is none.
        progress: show progress, if it is a terminal.
    """

    def __init__(self, file: TextIO | None, *, progress: bool) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("fastbars: %(message)s"))
        self._outlet = None if file is None else Outlet(file, "stderr")
        width = terminal_width(file)
        self._width = width if progress else None
        self._shown = 0
        self._dropped = 0
        self._turn = threading.Lock()

    @property
    def shows_progress(self) -> bool:
        """Whether `show` shows anything."""
        return self._width is not None

    def emit(self, record: logging.LogRecord) -> None:
        """Write a log record, with its traceback if it has one."""
        try:
            text = self.format(record)
        except Exception:  # noqa: BLE001 logging's own way with arguments that do not fit their text
            self.handleError(record)
            return
        first, *traceback = text.split("\n") if record.exc_info else [text]
        self.say("\n".join(map(printable, [first, *traceback])))

    def say(self, text: str) -> None:
        """Write lines that stay."""
        with self._turn:
            lost = f"fastbars: {self._dropped:,} log lines were dropped: stderr was blocked\n" if self._dropped else ""
            self._dropped = 0 if self._put(f"{self._erase()}{lost}{text}\n") else self._dropped + 1

    def show(self, text: str) -> None:
        """Show progress: one line, replaced by the next one or by the next `say`."""
        with self._turn:
            if self._width is not None:
                text = fitted(printable(text), self._width - 1)
                erase = self._erase()
                if self._put(erase + text):
                    self._shown = columns_of(text)

    def clear(self) -> None:
        """Erase the progress."""
        with self._turn:
            if self._shown:
                self._put(self._erase())

    def close(self) -> None:
        """Write what is waiting, unless stderr is blocked."""
        super().close()
        self.clear()
        if self._outlet is not None:
            try:
                self._outlet.close(READER_TIMEOUT_S)
            except OSError:
                return  # there is nowhere to report it

    def _erase(self) -> str:
        width, self._shown = self._shown, 0
        return f"\r{' ' * width}\r" if width else ""

    def _put(self, text: str) -> bool:
        return self._outlet is None or self._outlet.offer(text)
