"""BarQueue: finished bars that wait for a consumer. It is bounded by pausing its producer, so that no bar is dropped.

    reading --`most` bars wait--> paused --half of them are taken--> reading

Half, not one: pausing and resuming cost a system call each, and a consumer that barely keeps up would cause both for
every bar.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from fastbars.bars import OHLCVBar
from fastbars.errors import WSConnectionError


class BarQueue:
    """Bars of one stream, in the order issued.

    Args:
        most: bars that may wait before reading is paused; those of the same wakeup still come.
        pause: pauses the producer (True) or resumes it (False).
    """

    def __init__(self, most: int, pause: Callable[[bool], object]) -> None:
        self._most = most
        self._pause = pause
        self._bars: deque[OHLCVBar] = deque()
        self._ready = asyncio.Event()
        self._is_paused = False
        self._has_ended = False
        self._failure: WSConnectionError | None = None

    def put(self, bars: list[OHLCVBar]) -> None:
        """Append bars; pauses the producer at `most`."""
        self._bars.extend(bars)
        self._ready.set()
        if not self._is_paused and len(self._bars) >= self._most:
            self._is_paused = True
            self._pause(True)

    def end(self, failure: WSConnectionError | None = None) -> None:
        """No bar follows; `failure`, where given, is raised once, after the last bar."""
        self._has_ended = True
        if failure is not None:
            self._failure = failure
        self._ready.set()

    async def take_next(self) -> OHLCVBar | None:
        """Wait for the next bar; None: there are no more. Raises WSConnectionError: the stream has failed."""
        while not self._bars:
            if self._has_ended:
                failure, self._failure = self._failure, None
                if failure is not None:
                    raise failure
                return None
            self._ready.clear()
            await self._ready.wait()
        bar = self._bars.popleft()
        if self._is_paused and len(self._bars) <= self._most // 2:
            self._is_paused = False
            self._pause(False)
        return bar
