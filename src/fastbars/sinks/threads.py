"""A thread of its own for a library that blocks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

__all__ = ["OneThread"]

_Result = TypeVar("_Result")


class OneThread:
    """Runs functions one after the other, also where the wait for one was cancelled. It begins with the first.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._executor: ThreadPoolExecutor | None = None

    async def run(self, function: Callable[..., _Result], *values: object) -> _Result:
        """The result of a call in the thread; raises what it raises."""
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, thread_name_prefix=self._name)
        return await asyncio.get_running_loop().run_in_executor(self._executor, function, *values)

    def end(self) -> None:
        """It ends behind what it runs now."""
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=False)
