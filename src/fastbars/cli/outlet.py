"""Outlet: text written in a thread of its own, so that a reader who stops reading holds nothing else up.

What is handed over is written in its order and all of it; whoever hands it over waits while too much is waiting, in a
way that a signal can end. So an event loop never writes, and a process whose stdout is blocked still ends by SIGINT and
SIGTERM. Units: sizes are characters, durations seconds.
"""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TextIO

from fastbars.clocks import steady_s

MOST_WAITING = 1 << 20
READER_TIMEOUT_S = 1.0  # for a reader who has stopped reading, once it is time to end
_PIECE = 1 << 13
_THREAD = "fastbars outlet"
_LOOK_S = 0.01  # between two looks of an event loop whether there is room


def is_writing() -> bool:
    """Whether any outlet still writes, or tries to, so that the interpreter cannot end in the ordinary way."""
    return any(thread.name.startswith(_THREAD) for thread in threading.enumerate())


class BlockedOutputError(OSError):
    """Nobody reads what is written, and it was time to end."""


class Outlet:
    """Writes to one text file.

    Args:
        file: written to and flushed by the thread alone, from now on.
        name: of the file, for errors.

    Raises:
        OSError: of `put`, `wait_for_room` and `close`: what writing has raised.
    """

    def __init__(self, file: TextIO, name: str) -> None:
        self._file = file
        self._name = name
        self._waiting: list[str] = []
        self._size = 0  # characters that wait or are being written
        self._lines = 0  # of the same, in lines
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
        """Hand over whole lines; waits while too much is waiting."""
        with self._changed:
            while self._size >= MOST_WAITING and self._failure is None:
                self._changed.wait(self._timeout_s)
                self._check_timeout()
            self._add(text)

    async def wait_for_room(self) -> None:
        """Wait, in an event loop, until there is room again for what `add` hands over."""
        while self._size >= MOST_WAITING and self._failure is None:
            self._check_timeout()
            await asyncio.sleep(_LOOK_S)
        self._raise_failure()

    def add(self, text: str) -> None:
        """Hand over whole lines, however much is waiting."""
        with self._changed:
            self._add(text)

    def offer(self, text: str) -> bool:
        """Hand over whole lines where there is room; False: there was none, or writing has failed."""
        with self._changed:
            if self._size >= MOST_WAITING or self._failure is not None:
                return False
            self._add(text)
            return True

    @property
    def has_timeout(self) -> bool:
        """Whether a reader who takes nothing is waited for a limited time only."""
        return self._timeout_s is not None

    def set_timeout(self, timeout_s: float) -> None:
        """From now on, give up on a reader who has taken nothing for so long."""
        self._timeout_s = timeout_s
        self._progress_s = steady_s()

    def close(self, timeout_s: float | None = None) -> None:
        """Wait until all is written or, with a timeout, until nothing was taken for so long."""
        if timeout_s is not None:
            self.set_timeout(timeout_s)
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            while self._size and self._failure is None:
                self._changed.wait(self._timeout_s)
                self._check_timeout()
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
