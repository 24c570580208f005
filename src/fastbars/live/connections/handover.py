"""Handover: the replacement of a connection before the exchange ends it, so that no trade is lost.

    connection  ----------------------------------------x  closed
    successor               open  subscribed  proves itself |---------------->
                age or notice ^   both feed the session     ^ takes over

Make before break, where the session drops what comes twice; where it cannot, the connection is dropped and
opened again, and the bars say so.

    WAITING     its time comes -> BRINGING UP
    BRINGING UP opened, subscribed, has brought data -> proven: the successor takes over
                failed -> ended, and after a delay another is made; the old connection carries on
    either      the exchange ends the old connection -> a successor that is open takes over, ready or not
                this side drops it -> no successor: the reason for the drop may hold for both

Units: seconds.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress

from websockets.exceptions import InvalidStatus, WebSocketException

from fastbars.errors import WSConnectionError
from fastbars.live.connections.backoff import Backoff, retry_after_s
from fastbars.live.connections.connection import Connection
from fastbars.live.secrets import target_of, without_credentials
from fastbars.log import log

CANNOT_CONNECT = (OSError, TimeoutError, WebSocketException, ValueError)
_POLL_S = 0.05


class Handover:
    """Waits until a connection's time is over, and brings its successor up.

    Args:
        old: the connection to be replaced.
        make: a new connection to the same place.
        bring_up: opens it and subscribes everything on it.
        overlap: two connections at once are harmless.

    Attributes:
        proven: everything is subscribed on it, and it delivers.
    """

    def __init__(
        self,
        old: Connection,
        make: Callable[[], Connection],
        bring_up: Callable[[Connection], Awaitable[None]],
        *,
        overlap: bool,
    ) -> None:
        self._old = old
        self._make = make
        self._bring_up = bring_up
        self._overlap = overlap
        self.proven = False
        self._candidate: Connection | None = None

    @property
    def successor(self) -> Connection | None:
        """The successor, where it is open alongside the old connection."""
        return self._candidate if self._candidate is not None and self._candidate.is_open else None

    @property
    def is_under_way(self) -> bool:
        """Whether a successor is being brought up, or runs alongside the old connection."""
        return self._candidate is not None

    async def wait(self) -> Connection | None:
        """Wait until the old connection has ended or is no longer needed; returns its successor, in charge from now on.

        With a successor the old connection may still be open; without one (None) it has ended.
        """
        name = f"fastbars {self._old.exchange.name}"
        making = asyncio.create_task(self._replace(), name=f"{name} handover")
        ended = asyncio.create_task(self._old.wait_ended(), name=f"{name} end")
        successor: Connection | None = None
        wanted = True
        try:
            await asyncio.wait({making, ended}, return_when=asyncio.FIRST_COMPLETED)
            if making.done():
                making.result()
            if self._old.dropped_for is None:
                successor = self.successor
                self._old.replaced = successor is not None
        except asyncio.CancelledError:
            wanted = False  # it is the user who ends both
            raise
        finally:
            making.cancel()
            ended.cancel()
            # Until both have ended; a second cancellation leaves them to end by themselves.
            await asyncio.wait([making, ended])
            discarded, self._candidate = self._candidate, None
            if discarded is not None and discarded is not successor:
                # Closing may take a while: both at once.
                await asyncio.gather(discarded.end(wanted=wanted), self._old.end(wanted=wanted))
        return successor

    async def _replace(self) -> None:
        old, config = self._old, self._old.config
        await _wait_due(old)
        log.info("handing_over", exchange=old.exchange.name, age_s=round(old.age_s, 3))
        if not self._overlap or not config.handover_overlap:
            old.drop("its lifetime is nearly over, and two connections at once would count every trade twice")
            await old.wait_ended()
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
                why = describe_failure(candidate, error, held_s)
            self._candidate = None
            await candidate.end()
            delay = max(backoff.next_delay(), held_s)
            log.warning("handover_failed", exchange=old.exchange.name, why=why, delay_s=round(delay, 3))
            await asyncio.sleep(delay)

    async def _prove(self, candidate: Connection) -> None:
        # Trades from before its acks come over the old connection only, so both run for a while. And it must deliver
        # data, if the old one does.
        config = self._old.config
        before = self._old.data_messages
        await asyncio.sleep(config.handover_overlap)
        left_s = config.handover_timeout
        while candidate.data_messages == 0 and left_s > 0:
            if not candidate.is_open:
                raise WSConnectionError(candidate.why_ended)
            await asyncio.sleep(_POLL_S)
            left_s -= _POLL_S
        if candidate.data_messages == 0 and self._old.data_messages > before:
            raise WSConnectionError(f"the new connection gave no data for {config.handover_timeout:g} s")
        if not candidate.is_open:
            raise WSConnectionError(candidate.why_ended)


async def _wait_due(connection: Connection) -> None:
    # Until the exchange's lifetime of a connection is nearly over, or a notice came. Between a twentieth and a tenth of
    # the lifetime is left, and time for the overlap; drawn, so that the connections of a stream are not replaced all
    # at once.
    config = connection.config
    lifetime_s = config.connection_lifetime or connection.exchange.limits.lifetime_s
    if lifetime_s is None:
        await connection.retiring.wait()
        return
    due_s = lifetime_s * random.uniform(0.9, 0.95)  # noqa: S311 no cryptography
    due_s = max(due_s - config.handover_overlap, lifetime_s / 2)
    with suppress(TimeoutError):
        async with asyncio.timeout(max(0.0, due_s - connection.age_s)):
            await connection.retiring.wait()


def describe_failure(connection: Connection, error: Exception, held_s: float) -> str:
    """Why a connection could not be opened, for logs and errors; without credentials."""
    what = without_credentials(str(error) or type(error).__name__)
    if isinstance(error, InvalidStatus) and "Location" in error.response.headers:
        target = target_of(error.response.headers["Location"], connection.url)
        what += f", which redirects to {target} and is not followed"
    wait = f" (server asks to retry after {held_s:.0f} s)" if held_s else ""
    return f"{connection.exchange.name}: cannot connect to {without_credentials(connection.url)}: {what}{wait}"


class ConnectionPair:
    """The connection in charge and, while that is replaced, its successor; pauses and resumes both.

    Attributes:
        current: in charge; None while there is none.
        handovers: times that a successor took over.
        is_paused: reading is paused, on connections yet to come too.
    """

    def __init__(self) -> None:
        self.current: Connection | None = None
        self.handovers = 0
        self.is_paused = False
        self._handover: Handover | None = None

    @property
    def all(self) -> list[Connection]:
        """The connections that are up."""
        successor = None if self._handover is None else self._handover.successor
        return [each for each in (self.current, successor) if each is not None]

    @property
    def is_handing_over(self) -> bool:
        """Whether a successor is being brought up, or runs alongside the connection in charge."""
        return self._handover is not None and self._handover.is_under_way

    def begin(self, handover: Handover) -> None:
        """Let this handover replace the connection in charge."""
        self._handover = handover

    def drop(self, reason: str) -> None:
        """Drop the connection in charge; the task that waits for its end notices."""
        if self.current is not None:
            self.current.drop(reason)

    def pause(self) -> None:
        """Stop reading."""
        if not self.is_paused:
            self.is_paused = True
            for connection in self.all:
                connection.pause()

    def resume(self) -> None:
        """Read again."""
        self.is_paused = False
        for connection in self.all:
            connection.resume()
