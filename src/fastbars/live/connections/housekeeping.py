"""Housekeeping: what runs alongside the connections of a session: its clock, healing and snapshots.

Units: seconds.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from fastbars.clocks import steady_ns, steady_s, wall_ns
from fastbars.live.connections.cancelled import CancelledTasks
from fastbars.live.connections.connection import Connection, unread_of
from fastbars.live.healing.upkeep import Upkeep
from fastbars.live.session import Session
from fastbars.log import log

_INTERVAL_S = 0.05
_STOOD_STILL_S = 1.0  # later than this after an interval: the process was stopped, or something blocked the loop


class Feeding(Protocol):
    """The connections that feed the session."""

    @property
    def up(self) -> list[Connection]:
        """The connections that are up."""

    @property
    def is_paused(self) -> bool:
        """Whether reading is paused: unread trades may belong to the bars that the clock would close."""

    def fail(self, error: Exception) -> None:
        """An unexpected internal error ends them."""


class Housekeeping:
    """Closes a session's bars by the clock, and has it healed and saved, from `start` to `cancel`.

    It outlives single connections, and ends with the last: the call that ends the connections cancels it, and waits.

    Args:
        session: whose bars these are.
        upkeep: its healing and snapshots.
        feeding: its connections; no bar is closed while a trade of it may lie there unread.
    """

    def __init__(self, session: Session, upkeep: Upkeep, feeding: Feeding) -> None:
        self._session = session
        self._upkeep = upkeep
        self._feeding = feeding
        self._task: asyncio.Task[None] | None = None
        self._cancelled = CancelledTasks()  # the last snapshot may be under way there

    def reserve(self) -> None:
        """Reserve the state file, before anything connects. Raises SnapshotError: another stream has it."""
        self._upkeep.reserve()

    def start(self) -> None:
        """Start the task, unless it is running."""
        if self._task is None:
            name = f"fastbars clock {self._session.exchange.name}"
            self._task = asyncio.create_task(self._run(), name=name)

    def cancel(self) -> None:
        """End it; `wait_ended` waits until it has."""
        task, self._task = self._task, None
        self._cancelled.cancel(task)

    async def wait_ended(self) -> None:
        """Wait for the tasks that were cancelled, and release the state file."""
        await self._cancelled.wait_ended()
        self._upkeep.release()

    async def _run(self) -> None:
        # Healing and snapshots run whatever closes the bars.
        self._upkeep.start()
        try:
            if self._session.config.close_by == "trades":
                await asyncio.Event().wait()
            await self._close_by_clock()
        except Exception as error:  # noqa: BLE001 a task's top: it logs and stops loudly
            log.exception("clock_failed", exchange=self._session.exchange.name)
            self._feeding.fail(error)
        finally:
            await self._upkeep.stop()

    async def _close_by_clock(self) -> None:
        # On time where no trade comes, and never ahead of what has arrived on the connections that carry the symbol.
        session, feeding = self._session, self._feeding
        while True:
            before_s = steady_s()
            await asyncio.sleep(_INTERVAL_S)
            if steady_s() - before_s > _INTERVAL_S + _STOOD_STILL_S:
                # Not all that was sent meanwhile is here: some has not even left the exchange. Or that gave us up.
                await asyncio.sleep(max(_STOOD_STILL_S, session.grace_s))
            if not session.clock_is_due(steady_ns()):
                continue
            unread = {connection.number for connection in await unread_of(feeding.up)}
            if feeding.is_paused:
                continue
            feed_up = bool(feeding.up)
            session.advance_clock(steady_ns(), wall_ns(), feed_up=feed_up, unread=unread)
