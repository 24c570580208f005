"""CancelledTasks: tasks that were cancelled and may take a while to end, such as to close a socket or write a file."""

from __future__ import annotations

import asyncio


class CancelledTasks:
    """Those of one owner. Each is remembered until it is done, and cancelled once more with the next one.

    Attributes:
        pending: those that had not ended when one was cancelled last.
    """

    def __init__(self) -> None:
        self.pending: tuple[asyncio.Task[None], ...] = ()

    def cancel(self, task: asyncio.Task[None] | None) -> None:
        """Cancel a task (None: there is none), and those before it again. Awaits nothing."""
        self.pending = tuple(each for each in (*self.pending, task) if each is not None and not each.done())
        for each in self.pending:
            each.cancel()

    async def wait_ended(self) -> None:
        """Wait until all of them have ended."""
        if self.pending:
            await asyncio.wait(self.pending)
