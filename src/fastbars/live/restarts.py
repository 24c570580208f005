"""SnapshotKeeper: the snapshot and the delivery log of one stream, read at the start, then written until the end.

    made --restored--> reserved --start, the log begins--> running --finish, a last snapshot without a log--> ended
    running: idle --due--> state copied, the next log begins --> being written --> idle, the old log is removed
    ended --start--> running        (disconnected, and connected again)

A snapshot is due every `state_interval`; at once where symbols traded that the last one does not know, or where the log
has grown long. The state is copied in the event loop, between two wakeups, so that it is consistent, and so that the
next log begins exactly there; checksum and file are made in a thread. Two writes at once would share one temporary
file, so a write that has begun is never cancelled, only awaited. Units: seconds, bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fastbars.clocks import steady_s, wall_ns
from fastbars.errors import SnapshotError
from fastbars.live import snapshots
from fastbars.live.delivery import knows_all, log_of
from fastbars.live.delivery_log import log_path, logs_of, read_logs, remove_logs
from fastbars.live.session import Session
from fastbars.live.statefile import StateFile
from fastbars.log import log

_LONG_LOG_BYTES = 1 << 25
_LOOK_S = 0.25


class SnapshotKeeper:
    """Saves the state of a session and what it has delivered, and restores both after a restart.

    Args:
        session: whose state this is; it is restored from the file, where there is one.
        path: of the file, as the user gave it.

    Raises:
        SnapshotError: the file, or a log beside it, cannot be used, and was set aside; or another stream or process
            has it.
        OSError: it cannot be read, or its folder not written to.
    """

    def __init__(self, session: Session, path: str) -> None:
        self._session = session
        self._delivery = session.delivery
        self._file = StateFile(path)
        self._writing: asyncio.Task[None] | None = None
        self._written: dict[str, Any] = {}  # the last snapshot, whose memory the next one uses again
        self._number = 0  # of the log that is written now, or begun next
        self._saved_at_s = 0.0
        self._saved_symbols = 0
        self._saved_changes = 0
        try:
            self._delivery.hold()
            self._restore(self._file.path)
        except BaseException:
            self._file.release()
            raise

    def reserve(self) -> None:
        """Keep the file for this session, before it connects.

        Raises:
            SnapshotError: another stream or process has it, or had it since this one was made.
        """
        self._file.keep()

    def release(self) -> None:
        """Release the reservation of the file."""
        self._file.release()

    def start(self) -> None:
        """Begin the log, and pass on what was not confirmed before. The file is reserved."""
        try:
            self._delivery.open_log(self._file.path, self._number)
        except OSError as error:
            self._report("delivery_log_not_written", error)
        self._session.notifier.begin(wall_ns())

    async def run(self) -> None:
        """Write snapshots, until cancelled."""
        interval_s = self._session.config.state_interval
        self._saved_at_s = steady_s()
        while True:
            await asyncio.sleep(min(interval_s, _LOOK_S))
            if (
                steady_s() - self._saved_at_s >= interval_s
                or len(self._session.symbols) > self._saved_symbols
                or self._delivery.log_bytes > _LONG_LOG_BYTES
            ):
                await self._save()

    async def finish(self) -> None:
        """Write the last snapshot, once a write under way has ended; no log is left behind it."""
        if self._writing is not None:
            await asyncio.wait([self._writing])
        await self._save(is_last=True)

    async def save_confirmed(self) -> None:
        """Where bars were confirmed since the last snapshot, write another one, unless another stream has the file."""
        if self._delivery.changes == self._saved_changes:
            return
        try:
            self._file.keep()
        except (SnapshotError, OSError) as error:  # what was confirmed will be delivered again
            self._report("snapshot_not_written", error)
            return
        try:
            await self.finish()
        finally:
            self._file.release()

    def _restore(self, path: Path) -> None:
        snapshots.refuse_others(path)
        try:
            content = snapshots.read(path)
            stream, number = log_of(content)
        except SnapshotError:
            _set_logs_aside(path)  # they are of no use without it
            raise
        except ValueError as error:
            _set_logs_aside(path)
            raise snapshots.set_aside(path, str(error)) from error
        try:
            logged = read_logs(path, number, stream, self._session.exchange.name)
            self._number = logged.next_log
            if content is None and logged.stream is None:
                return
            self._delivery.load(content or {})
            self._delivery.join(logged)
            if not self._session.has_own_parser:
                self._session.changes.take_charge()  # connections will say what is covered from here on
            is_exact = logged.stream is not None or knows_all(content or {})
            self._session.load((content or {}) | self._delivery.dump(number, is_last=is_exact)(), wall_ns())
        except SnapshotError as error:
            _set_logs_aside(path)
            raise SnapshotError(f"{error}. The logs were renamed; the next start does without them") from error
        except (ValueError, LookupError, TypeError) as error:
            _set_logs_aside(path)
            if content is None:
                raise SnapshotError(f"{path}: delivery log refused: {error}. It was renamed") from error
            raise snapshots.set_aside(path, str(error)) from error
        log.info("snapshot_restored", exchange=self._session.exchange.name, path=str(path), logs=self._number - number)

    async def _save(self, *, is_last: bool = False) -> None:
        # The state and the number of the log that begins behind it belong together: no await between the two.
        content = self._session.dump(self._written)
        self._saved_at_s, self._saved_symbols = steady_s(), len(self._session.symbols)
        if content is None:
            if is_last:
                self._delivery.close_log()
                if not self._delivery.next_number:  # no log has anything in it
                    remove_logs(self._file.path)
            return
        number = self._number + 1
        if is_last:
            self._delivery.close_log()
        else:
            try:
                self._delivery.open_log(self._file.path, number)
            except OSError as error:  # the last snapshot and its log go on
                self._report("delivery_log_not_written", error)
                return
        self._number, self._saved_changes = number, self._delivery.changes
        delivered = self._delivery.dump(number, is_last=is_last)
        self._writing = asyncio.create_task(self._write(content, delivered, number), name="fastbars snapshot")
        await asyncio.shield(self._writing)

    async def _write(self, content: dict[str, Any], delivered: Callable[[], dict[str, Any]], number: int) -> None:
        # A failed write loses only this snapshot: the last one and the logs behind it stay.
        self._written = {}
        try:
            await asyncio.to_thread(_pack_and_write, self._file.path, content, delivered, number)
        except OSError as error:
            self._report("snapshot_not_written", error)
        self._written = content

    def _report(self, event: str, error: Exception) -> None:
        log.error(event, exchange=self._session.exchange.name, path=str(self._file.path), error=str(error))


def _pack_and_write(
    path: Path, content: Mapping[str, Any], delivered: Callable[[], dict[str, Any]], number: int
) -> None:
    snapshots.write(path, snapshots.pieces_of({**content, **delivered()}))
    remove_logs(path, before=number)


def _set_logs_aside(path: Path) -> None:
    for number in logs_of(path):
        snapshots.set_aside(log_path(path, number), "")
