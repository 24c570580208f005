"""SnapshotKeeper: the snapshot file of one session, read at the start, then written at intervals and at the end.

    reserved --restore--> restored --run--> idle --every `state_interval`--> copied --> being written --> idle
                                              +--finish--> what is being written is awaited, then a last one --> done

The state is copied in the event loop, between two wakeups, so that it is consistent; checksum and file are made in a
thread. Two writes at once would share one temporary file, so a write that has begun is never cancelled, only awaited.
Units: seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastbars.clocks import wall_ns
from fastbars.live import snapshots
from fastbars.live.session import Session
from fastbars.live.statefile import StateFile
from fastbars.log import log


class SnapshotKeeper:
    """Saves the state of a session, and restores it after a restart.

    The snapshots of a stream's sessions are PATH, PATH.1, PATH.2, ... in the order in which they were made.

    Args:
        session: whose state this is; it is restored from the file, where there is one.
        path: of the file, as the user gave it.

    Raises:
        SnapshotError: the file cannot be used, and was set aside; or another stream or process has it.
        OSError: it cannot be read, or its folder not written to.
    """

    def __init__(self, session: Session, path: str) -> None:
        self._session = session
        self._file = StateFile(path, session.config)
        self._writing: asyncio.Task[None] | None = None
        try:
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

    async def run(self) -> None:
        """Write a snapshot every `state_interval`, until cancelled."""
        while True:
            await asyncio.sleep(self._session.config.state_interval)
            await self._save()

    async def finish(self) -> None:
        """Write the last snapshot, once a write under way has ended."""
        if self._writing is not None:
            await asyncio.wait([self._writing])
        await self._save()

    def _restore(self, path: Path) -> None:
        content = snapshots.read(path)
        if content is None:
            return
        try:
            self._session.load(content, wall_ns())
        except (ValueError, LookupError, TypeError) as error:
            raise snapshots.set_aside(path, str(error)) from error
        log.info("snapshot_restored", exchange=self._session.exchange.name, path=str(path))

    async def _save(self) -> None:
        content = self._session.dump()
        if content is not None:
            self._writing = asyncio.create_task(self._write(content), name="fastbars snapshot")
            await asyncio.shield(self._writing)

    async def _write(self, content: Mapping[str, Any]) -> None:
        # A failed write loses only this snapshot: the stream continues, and the next write may succeed.
        path = self._file.path
        try:
            await asyncio.to_thread(_pack_and_write, path, content)
        except OSError as error:
            log.error("snapshot_not_written", exchange=self._session.exchange.name, path=str(path), error=str(error))


def _pack_and_write(path: Path, content: Mapping[str, Any]) -> None:
    snapshots.write(path, snapshots.pack(content))
