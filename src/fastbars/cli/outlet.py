"""Outlet: writes text in a separate thread, so that a reader that stops reading blocks nothing else.

All text is written, in order. While too much is waiting, callers block, in a way that a signal can interrupt. So an
event loop never writes, and a process whose stdout is blocked still ends on SIGINT and SIGTERM.
Units: sizes are characters, durations seconds.
"""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TextIO

from fastbars.clocks import steady_s

MOST_WAITING = 1 << 20
READER_TIMEOUT_S = 1.0  # how long the end waits for a reader that takes nothing
_PIECE = 1 << 13
_THREAD = "fastbars outlet"
_LOOK_S = 0.01  # interval at which an event loop checks for room


def is_writing() -> bool:
    """Whether any outlet is still writing, or blocked in it, so that the interpreter cannot exit normally."""
    return any(thread.name.startswith(_THREAD) for thread in threading.enumerate())


class BlockedOutputError(OSError):
    """The reader took nothing for the timeout, and some lines were not written."""


class Outlet:
    """Writes to one text file.

    Args:
        file: from now on written and flushed only by the thread.
        name: of the file, for errors.

    Raises:
        OSError: raised by `put`, `wait_for_room` and `close` if writing has failed.
    """

    def __init__(self, file: TextIO, name: str) -> None:
        self._file = file
        self._name = name
        self._waiting: list[str] = []
        self._size = 0  # characters waiting or being written
        self._lines = 0  # the same in lines
        self._failure: Exception | None = None
        self._closing = False
        self._progress_s = steady_s()
        self._timeout_s: float | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=f"{_THREAD} {name}", daemon=True)
        self._thread.start()

    @property
    def is_stuck(self) -> bool:
        """Whether the thread is still writing."""
        return self._thread.is_alive()

    def put(self, text: str) -> None:
        """Queue whole lines; blocks while too much is waiting."""
        with self._changed:
            while self._size >= MOST_WAITING and self._failure is None:
                self._changed.wait(self._timeout_s)
                self._check_timeout()
            self._add(text)

    async def wait_for_room(self) -> None:
        """Wait in an event loop until there is room for an `add`."""
        while self._size >= MOST_WAITING and self._failure is None:
            self._check_timeout()
            await asyncio.sleep(_LOOK_S)
        self._raise_failure()

    def add(self, text: str) -> None:
        """Queue whole lines, however much is waiting."""
        with self._changed:
            self._add(text)

    def offer(self, text: str) -> bool:
        """Queue whole lines if there is room. Returns False if there is none or writing has failed."""
        with self._changed:
            if self._size >= MOST_WAITING or self._failure is not None:
                return False
            self._add(text)
            return True

    @property
    def has_timeout(self) -> bool:
        """Whether a timeout was set."""
        return self._timeout_s is not None

    def set_timeout(self, timeout_s: float) -> None:
        """From now on, give up on a reader that has taken nothing for this long."""
        self._timeout_s = timeout_s
        self._progress_s = steady_s()

    def close(self, timeout_s: float | None = None) -> None:
        """Wait until all is written or, with a timeout, until nothing was taken for that long."""
        if timeout_s is not None:
            self.set_timeout(timeout_s)
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            while self._size and self._failure is None:
                self._changed.wait(self._timeout_s)
                self._check_timeout()
        # A blocked thread cannot be joined; `is_writing` makes the process exit without it.
        if not isinstance(self._failure, BlockedOutputError):
            self._thread.join()
        self._raise_failure()

    def _add(self, text: str) -> None:
        self._raise_failure()
        if not text:
            return
        self._waiting.append(text)
        self._size += len(text)
        self._lines += text.count("\n")
        self._changed.notify_all()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _check_timeout(self) -> None:
        if self._timeout_s is not None and steady_s() - self._progress_s >= self._timeout_s:
            self._failure = BlockedOutputError(
                f"{self._name} is not being read: {self._lines:,} lines were not written"
            )

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                text, self._waiting = "".join(self._waiting), []
                if not text:
                    return
            try:
                # In pieces without the lock, so that progress is seen even if the reader takes a large text slowly.
                for begin in range(0, len(text), _PIECE):
                    piece = text[begin : begin + _PIECE]
                    self._file.write(piece)
                    self._file.flush()
                    with self._changed:
                        self._size -= len(piece)
                        self._lines -= piece.count("\n")
                        self._progress_s = steady_s()
                        self._changed.notify_all()
            except (OSError, ValueError) as error:
                with self._changed:
                    self._failure = self._failure or _named(error, self._name)
                    self._changed.notify_all()
                return


def _named(error: Exception, name: str) -> Exception:
    if isinstance(error, OSError) and not isinstance(error, BrokenPipeError) and error.errno is not None:
        return OSError(error.errno, os.strerror(error.errno), name)
    return error
