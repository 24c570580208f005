"""Recording: writes everything that the sessions of a run consume to rotating files, from a thread of its own.

The sessions' thread only copies what it hands over, once a wakeup; the writer's thread compresses and writes. What
was handed over is written within `flush_s`, in a block that can be read by itself.
Units: int64 nanoseconds; seconds and bytes where a name says so.
"""

from __future__ import annotations

import atexit
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from os import PathLike, fsync
from pathlib import Path
from typing import Any, BinaryIO

from fastbars.clocks import steady_s, wall_ns
from fastbars.errors import TapeError
from fastbars.log import log
from fastbars.tapes.entries import BLOCK_BYTES, MOST_WAITING_BYTES, Entries, SessionRecorder
from fastbars.tapes.recording import (
    EVENT,
    MAGIC,
    MOST_SESSIONS,
    NOTE,
    SUFFIX,
    VERSION,
    event_entry,
    write_block,
)
from fastbars.tapes.zstd import compressor

_LEVEL = 1  # zstd's fastest ordinary one


@dataclass(slots=True)
class RecordingStats:
    """Counters of a recording.

    Attributes:
        messages: payloads handed over.
        raw_bytes: size of all entries.
        safe_bytes: size of the entries that were written to a file.
        written_bytes: size of the files.
        blocks, files: how many.
        waits: times that a session waited because the disk was too slow.
    """

    messages: int = 0
    raw_bytes: int = 0
    safe_bytes: int = 0
    written_bytes: int = 0
    blocks: int = 0
    files: int = 0
    waits: int = 0


class RecordingFiles:
    """The files of one run: each begins with the run's name and its sessions so far, and ends past a size or an age.

    They belong to the writer's thread; only `declare` may be called from another.

    Args:
        folder: where they go; created if missing.
        file_bytes, file_s: as in `Recording`.

    Raises:
        TapeError: this installation has no zstd. OSError: the folder cannot be made or written to.
    """

    def __init__(self, folder: Path, file_bytes: int, file_s: float, stats: RecordingStats) -> None:
        self.folder = folder
        self.run = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}Z-{secrets.token_hex(2)}"
        self._file_bytes = file_bytes
        self._file_s = file_s
        self._stats = stats
        self._compress = compressor(folder, _LEVEL)
        self._declarations: list[bytes] = []
        self._file: BinaryIO | None = None
        self._size = 0
        self._begun_s = 0.0
        folder.mkdir(parents=True, exist_ok=True)
        self._begin()

    @property
    def session_count(self) -> int:
        """How many sessions were declared."""
        return len(self._declarations)

    def declare(self, entry: bytes) -> None:
        """Repeat this entry, which declares a session, in every later file, so that each can be read by itself."""
        self._declarations.append(entry)

    def write(self, raw: bytes) -> None:
        """Write whole entries as one block."""
        if self._file is None or self._size >= self._file_bytes or steady_s() - self._begun_s >= self._file_s:
            self.end()
            self._begin()
        self._put(write_block(raw, self._compress))
        self._stats.blocks += 1

    def end(self) -> None:
        """End the current file; its contents are synced to disk."""
        if self._file is not None:
            fsync(self._file.fileno())
            self._file.close()
            self._file = None

    def _begin(self) -> None:
        self._stats.files += 1
        number = self._stats.files
        fields = {"note": "file", "version": VERSION, "run": self.run, "number": number}
        raw = b"".join([event_entry(NOTE, 0, wall_ns(), fields), *self._declarations])
        self._file = (self.folder / f"{self.run}-{number:06}{SUFFIX}").open("xb", buffering=0)
        self._size = 0
        self._begun_s = steady_s()
        self._put(MAGIC + write_block(raw, self._compress))

    def _put(self, data: bytes) -> None:
        assert self._file is not None
        view = memoryview(data)
        while view:  # an unbuffered file may take less than all
            view = view[self._file.write(view) :]
        self._size += len(data)
        self._stats.written_bytes += len(data)


class Recording:
    """A run being recorded; `session` opens the recorder of each of its sessions.

        open --close, or the last stream leaves--> closing --all is written--> ended
          +--writing fails--> failed: what is handed over is dropped, and the sessions continue unrecorded

    Args:
        folder: where the files go; created if missing. Runs may share a folder.
        file_bytes: a file is ended and the next begun past this size.
        file_s: or past this age.
        flush_s: how long what was handed over may wait to be written.
        on_failure: called once, in the writer's thread, when writing fails; the run continues unrecorded.

    Attributes:
        failure: why writing failed; None while it has not.

    Raises:
        TapeError: this installation has no zstd. OSError: the folder cannot be made or written to.
    """

    def __init__(
        self,
        folder: str | PathLike[str],
        *,
        file_bytes: int = 256 << 20,
        file_s: float = 3600.0,
        flush_s: float = 1.0,
        on_failure: Callable[[Exception], object] | None = None,
    ) -> None:
        for name, value in (("file_bytes", file_bytes), ("file_s", file_s), ("flush_s", flush_s)):
            if value <= 0:
                raise ValueError(f"{name} must be positive, got {value}")
        self._stats = RecordingStats()
        self.failure: Exception | None = None
        self.on_failure = on_failure
        self._files = RecordingFiles(Path(folder), file_bytes, file_s, self._stats)
        self._flush_s = flush_s
        self._streams = 0
        # The fields below may only be used while holding the lock of `_changed`.
        self._changed = threading.Condition()
        self._closing = False
        self._entries = Entries(self._wake, self._wait)
        self._thread = threading.Thread(target=self._write, name="fastbars recording", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    @property
    def folder(self) -> Path:
        """Where the files go."""
        return self._files.folder

    @property
    def stats(self) -> RecordingStats:
        """The counters, as they are now."""
        return replace(self._stats, messages=self._entries.messages, raw_bytes=self._entries.raw_bytes)

    @property
    def run(self) -> str:
        """The name of the run, which its files begin with."""
        return self._files.run

    def join(self) -> None:
        """Record another stream; the recording ends when every stream has left.

        Raises:
            TapeError: the recording has ended.
        """
        with self._changed:
            self._check_open()
            self._streams += 1

    def leave(self) -> None:
        """A stream has ended; the recording ends with the last one."""
        with self._changed:
            self._streams -= 1
            ends = self._streams == 0
        if ends:
            self.close()

    def session(self, declaration: Mapping[str, Any]) -> SessionRecorder:
        """Open the recorder of another session, given `Session.declaration()`.

        Raises:
            TapeError: the recording has ended, or has as many sessions as it can number.
        """
        self._check_open()
        number = self._files.session_count + 1
        if number > MOST_SESSIONS:
            raise TapeError(f"{self.folder}: the recording of run {self.run} has {MOST_SESSIONS} sessions, the maximum")
        entry = event_entry(EVENT, number, wall_ns(), {"event": "session", **declaration})
        # First for later files, then in the current one: a file begun in between has it twice rather than never.
        self._files.declare(entry)
        self._entries.add(entry)
        return SessionRecorder(self._entries, number)

    def close(self) -> None:
        """Write what is waiting and end the file; what is handed over later is not recorded. Idempotent."""
        with self._changed:
            if self._closing:
                return
            self._closing = True
            self._entries.close()
            self._changed.notify_all()
        self._thread.join()
        atexit.unregister(self.close)

    def _check_open(self) -> None:
        if self._closing:
            raise TapeError(f"{self.folder}: the recording of run {self.run} has ended; make another one")

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _wait(self) -> None:
        # Loss is worse than delay: a session waits here rather than leave a gap in the recording.
        with self._changed:
            self._stats.waits += 1
            self._changed.wait_for(lambda: self._entries.size < MOST_WAITING_BYTES or self._entries.is_closed)

    def _write(self) -> None:
        # The writer's thread. It holds the lock only to take what is waiting, not while it compresses and writes.
        entries = self._entries
        try:
            going_on = True
            while going_on:
                with self._changed:
                    self._changed.wait_for(lambda: entries.size or self._closing)
                    self._changed.wait_for(lambda: entries.size >= BLOCK_BYTES or self._closing, self._flush_s)
                    raw = entries.take()
                    going_on = not self._closing
                    self._changed.notify_all()
                if raw:
                    self._files.write(raw)
                    self._stats.safe_bytes += len(raw)
            self._files.write(event_entry(NOTE, 0, wall_ns(), {"note": "end"}))
            self._files.end()
        except Exception as error:  # noqa: BLE001 a thread's top: it logs and stops loudly
            log.exception("recording_failed", folder=str(self.folder), run=self.run)
            with self._changed:
                self.failure = error
                entries.close()
                entries.take()
                self._changed.notify_all()
            if self.on_failure is not None:
                self.on_failure(error)
