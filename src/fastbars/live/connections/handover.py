"""Handover: the replacement of a line before the exchange ends it, so that no trade is lost.

    line      ----------------------------------------x  closed
    successor             open  subscribed  proves itself |---------------->
              age or notice ^   both feed the session     ^ takes over

Make before break, where the session drops what comes twice; where it cannot, the line is dropped and connected
anew, and the bars say so. Units: seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from websockets.exceptions import InvalidStatus, WebSocketException

from fastbars.errors import WSConnectionError
from fastbars.live.connections.backoff import Backoff, retry_after_s
from fastbars.live.connections.connection import Line
from fastbars.live.secrets import target_of, without_credentials
from fastbars.log import log

CANNOT_CONNECT = (OSError, TimeoutError, WebSocketException, ValueError)
_LOOK_S = 0.05


class Handover:
    """Waits until a line's time is over, and brings its successor up.

    Args:
        line: which is to be replaced.
        make: a new line to the same place.
        bring_up: opens it and subscribes everything on it.
        overlap: two lines at once are harmless.

    Attributes:
        successor: it is up, but not in charge yet; None otherwise.
        proven: everything is subscribed on it, and it delivers.
    """

    def __init__(
        self,
        line: Line,
        make: Callable[[], Line],
        bring_up: Callable[[Line], Awaitable[None]],
        *,
        overlap: bool,
    ) -> None:
        self._line = line
        self._make = make
        self._bring_up = bring_up
        self._overlap = overlap
        self.proven = False
        self._candidate: Line | None = None

    @property
    def successor(self) -> Line | None:
        return self._candidate if self._candidate is not None and self._candidate.is_open else None

    @property
    def is_under_way(self) -> bool:
        """A successor is being brought up, or runs beside the line."""
        return self._candidate is not None

    async def wait(self) -> Line | None:
        """Wait until the line has ended, or need no longer be: then returns its successor, which is in charge now.

        A line that the exchange ends is succeeded by one that is up already, ready or not; one that this side
        has dropped is not.
        """
        name = f"fastbars {self._line.exchange.name}"
        making = asyncio.create_task(self._replace(), name=f"{name} handover")
        ended = asyncio.create_task(self._line.wait_ended(), name=f"{name} end")
        successor: Line | None = None
        try:
            await asyncio.wait({making, ended}, return_when=asyncio.FIRST_COMPLETED)
            if making.done():
                making.result()
            if self._line.dropped_for is None:
                successor = self.successor
                self._line.replaced = successor is not None
        finally:
            making.cancel()
            ended.cancel()
            # Until both have ended; a second cancellation leaves them to end by themselves.
            await asyncio.wait([making, ended])
            discarded, self._candidate = self._candidate, None
            if discarded is not None and discarded is not successor:
                # Each may take its time to close; both at once take no longer.
                await asyncio.gather(discarded.end(), self._line.end())
        return successor

    async def _replace(self) -> None:
        line, config = self._line, self._line.config
        await line.wait_due()
        log.info("handing_over", exchange=line.exchange.name, age_s=round(line.age_s, 3))
        if not self._overlap or not config.handover_overlap:
            line.drop("its time is over, and two lines would give every trade twice")
            await line.wait_ended()
            return
        backoff = Backoff(config.reconnect_delay, config.reconnect_max_delay)
        while True:
            self._candidate = candidate = self._make()
            try:
                await self._bring_up(candidate)
                await self._prove(candidate)
                self.proven = True
                return
            except (*CANNOT_CONNECT, WSConnectionError) as error:
                held_s = retry_after_s(error, config.ban_delay)
                why = why_not(candidate, error, held_s)
            self._candidate = None
            await candidate.end()
            delay = max(backoff.next_delay(), held_s)
            log.warning("handover_failed", exchange=line.exchange.name, why=why, delay_s=round(delay, 3))
            await asyncio.sleep(delay)

    async def _prove(self, candidate: Line) -> None:
        # What was traded before its acks comes over the old line only, so both run for a while. And it must
        # deliver, where the old line does.
        config = self._line.config
        before = self._line.data_messages
        await asyncio.sleep(config.handover_overlap)
        left_s = config.handover_timeout
        while candidate.data_messages == 0 and left_s > 0:
            if not candidate.is_open:
                raise WSConnectionError(candidate.why_ended)
            await asyncio.sleep(_LOOK_S)
            left_s -= _LOOK_S
        if candidate.data_messages == 0 and self._line.data_messages > before:
            raise WSConnectionError(f"the new connection gave no data for {config.handover_timeout:g} s")
        if not candidate.is_open:
            raise WSConnectionError(candidate.why_ended)


def why_not(line: Line, error: Exception, held_s: float) -> str:
    """What to say of a line that could not be brought up."""
    what = without_credentials(str(error) or type(error).__name__)
    if isinstance(error, InvalidStatus) and "Location" in error.response.headers:
        what += f", which redirects to {target_of(error.response.headers['Location'], line.url)} and is not followed"
    wait = f" (it wants to be left alone for {held_s:.0f} s)" if held_s else ""
    return f"{line.exchange.name}: cannot connect to {without_credentials(line.url)}: {what}{wait}"
