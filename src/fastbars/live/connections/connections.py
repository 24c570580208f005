"""Connections: all supervised connections of one session, as many as its symbols need, on each of its lines.

    session <- connections -+- line 0: supervisor, supervisor, ...   each carries some of the streams
                            `- line 1: supervisor, supervisor, ...   the same streams again, where `lines` says so

A stream is carried where its supervisor has it among its desired ones; which ones those are changes at any time (see
`subscriber.py`). Where the exchange declares several hosts, lines go to different ones. The session drops what comes
twice: trades without ids would count twice, so that such channels are refused to several lines.

    state of all    CONNECTED while everything is carried by a connection that is up; else the worst of line 0
    giving up       is up to line 0: one of its connections that is lost for good ends all, or some symbols would be
                    missing silently; connections of other lines are tried again and again until they are ended
    an error        that is internal, on any connection, ends all of them
    empty           a connection that carries nothing any more is closed, unless it is the last one of its line

Every Connection has a number of its own among those that are there; modulo the number of lines it is the line.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, fields
from typing import Self

from fastbars.clocks import wall_ns
from fastbars.errors import SubscriptionError, WebSocketError, WSConnectionError
from fastbars.live.connections.backoff import Backoff
from fastbars.live.connections.connection import Connection
from fastbars.live.connections.housekeeping import Housekeeping
from fastbars.live.connections.silence import Rates
from fastbars.live.connections.states import ConnectionState
from fastbars.live.connections.supervisor import Route, Supervisor
from fastbars.live.healing.upkeep import Upkeep
from fastbars.live.secrets import without_credentials
from fastbars.live.session import Session
from fastbars.log import log

_S = ConnectionState
_WORST_FIRST = (_S.RECONNECTING, _S.CONNECTED, _S.CONNECTING, _S.DISCONNECTED)
_NUMBERS = 1 << 16  # a recording has two bytes for the number of a connection


@dataclass
class ConnectionCounts:
    """Counters of connections; named as in StreamStats."""

    connections: int = 0
    breaker_trips: int = 0
    handovers: int = 0
    resubscriptions: int = 0
    never_heard: int = 0

    def add(self, supervisor: Supervisor) -> Self:
        """Add those of one supervisor."""
        self.connections += supervisor.connections
        self.breaker_trips += supervisor.retry.breaker.trips
        self.handovers += supervisor.pair.handovers
        self.resubscriptions += supervisor.watchdog.resubscriptions
        self.never_heard += supervisor.watchdog.reported
        return self

    def copy(self) -> ConnectionCounts:
        """The same counts, which change no more."""
        return ConnectionCounts(*(getattr(self, field.name) for field in fields(self)))


class Connections:
    """The connections that feed one session, used as one.

    Args:
        session: what they feed.
        url: the user's address, if any.
        upkeep: of the session, while it is connected.
        once: as in BaseWebSocketAdapter.
        on_state: called with each new state of the whole.
        on_error: called with each refusal that no call of a user's could raise.

    Attributes:
        supervisors: each keeps one connection up; every line has at least one. Clock, healing and snapshots run while
            one of line 0 does.
        pauses: times that reading was paused.

    Raises:
        SubscriptionError: several lines, and trades of the session's channel have no ids.
    """

    def __init__(
        self,
        session: Session,
        url: str | None,
        upkeep: Upkeep,
        *,
        once: bool = False,
        on_state: Callable[[ConnectionState], object] | None = None,
        on_error: Callable[[WebSocketError], object] | None = None,
    ) -> None:
        exchange, lines = session.exchange, session.config.lines
        if lines > 1 and not exchange.id_policy(session.channel).deduplicates:
            raise SubscriptionError(
                f"{exchange.name}: {session.channel}: trades have no ids, several lines would count them twice"
            )
        self.pauses = 0
        self._session = session
        self._url = url
        self._once = once
        self._on_state = on_state
        self._on_error = on_error
        self._state_seen = _S.DISCONNECTED
        self._failure: WSConnectionError | None = None
        self._all_ended = asyncio.Event()
        self._joining: dict[Supervisor, asyncio.Task[None]] = {}  # of other lines, not connected for the first time
        self._closed = ConnectionCounts()  # of those that were closed because they carried nothing
        self._last_number = -lines
        self._rates = Rates(session.config.stale_after, session.config.stale_factor)
        self._housekeeping = Housekeeping(session, upkeep, self)
        self.supervisors: list[Supervisor] = []
        for line in range(lines):
            self.supervisors.append(self.make(line))

    @property
    def first(self) -> Supervisor:
        """The one that is always there."""
        return self.supervisors[0]

    def of_line(self, line: int) -> list[Supervisor]:
        """Those of one line."""
        return [each for each in self.supervisors if each.line == line]

    @property
    def state(self) -> ConnectionState:
        """Of the whole: RECONNECTING while something is carried by no connection that is up."""
        up = [each for each in self.supervisors if each.is_up]
        carried = {stream for each in up for stream in each.subscriptions.desired}
        # What carries nothing is replaced by the same place of another line, and there is but one of them.
        states = [
            _S.CONNECTED if up and self._lines > 1 and each.subscriptions.desired.keys() <= carried else each.state
            for each in self.of_line(0)
        ]
        return next((state for state in _WORST_FIRST if state in states), _S.CLOSED)

    @property
    def up(self) -> list[Connection]:
        """The connections that are up."""
        return [connection for each in self.supervisors for connection in each.pair.all]

    @property
    def is_paused(self) -> bool:
        """Whether nothing is read."""
        return self.first.pair.is_paused

    @property
    def is_running(self) -> bool:
        """Whether they are connected, or being connected."""
        return any(each.lifecycle.is_running for each in self.of_line(0))

    @property
    def counts(self) -> ConnectionCounts:
        """Counters of all connections that there were."""
        counts = self._closed.copy()
        for each in self.supervisors:
            counts.add(each)
        return counts

    @property
    def _lines(self) -> int:
        return self._session.config.lines

    # Opening and closing them.

    async def connect(self) -> None:
        """Open those of line 0; the others follow by themselves.

        Raises:
            WSConnectionError: the first attempt of one failed; then none is left open.
        """
        if not self.is_running:
            self._failure = None
            self._all_ended.clear()
        try:
            errors = await all_of(*(each.lifecycle.connect() for each in self.of_line(0)))
        except asyncio.CancelledError:
            if not self.is_running:  # it was this call that started them, and it has been cancelled
                await self.disconnect()
            raise
        for error in errors:
            if error is not None:
                self._failure = next(
                    (each.lifecycle.failure for each in self.of_line(0) if each.lifecycle.failure), None
                )
                if self.is_running:
                    await self.disconnect()
                raise error
        self._join_others()

    async def disconnect(self) -> None:
        """Close all and wait until nothing of them is left running."""
        joining = list(self._joining.values())
        self._joining.clear()
        # Everything is cancelled before the first await: this call may be cancelled in any await.
        for task in joining:
            task.cancel()
        for each in self.supervisors:
            each.lifecycle.cancel()
        self._housekeeping.cancel()
        try:
            for each in list(self.supervisors):
                await each.lifecycle.wait_ended()
            if joining:
                await asyncio.wait(joining)
            await self._housekeeping.wait_ended()
        finally:
            self._all_ended.set()

    async def close(self) -> None:
        """Close all for good."""
        try:
            await self.disconnect()
        finally:
            for each in self.supervisors:
                each.lifecycle.close()

    async def reconnect(self) -> None:
        """Reconnect them, one line after the other, so that of several one is always up. Raises WSConnectionError."""
        if not self.is_running:
            await self.connect()
            return
        for line in range(self._lines):
            again = [each for each in self.of_line(line) if line == 0 or each.is_up]
            for error in await all_of(*(each.reconnect() for each in again)):
                if error is not None:
                    raise error

    async def wait_closed(self) -> None:
        """Wait until all have ended for good. Raises WSConnectionError: one could not be brought back."""
        if self.is_running or self._failure is not None:
            await self._all_ended.wait()
        for each in self.of_line(0):
            if each.lifecycle.is_running:  # it has done everything but end
                await all_of(each.lifecycle.wait_closed())
        if self._failure is not None:
            raise self._failure

    def make(self, line: int, channels: Collection[str] = ()) -> Supervisor:
        """A supervisor, not connected yet, that goes to where these channels are served."""
        session = self._session
        route = Route(session.exchange, session.channel, self._url, line)
        route.expected = channels
        made = Supervisor(session, route, self._rates, self, line=line, once=self._once)
        if self.supervisors and self.is_paused:
            made.pair.pause()
        return made

    async def add(self, supervisor: Supervisor) -> None:
        """Add one, and connect it where the others are.

        Raises:
            WSConnectionError: it cannot be connected, and is not added.
            SubscriptionError: what the user's address subscribes to by itself would count twice.
        """
        exchange, named = self._session.exchange, supervisor.route.named_streams
        if named and not exchange.id_policy(self._session.channel).deduplicates:
            raise SubscriptionError(
                f"{exchange.name}: a second connection to an address that subscribes to {len(named)} streams by itself"
                f" would count their trades twice: {self._session.channel} has no ids",
                tuple(symbol for symbol, _ in named),
            )
        connects = self.is_running
        self.supervisors.append(supervisor)
        if not connects:
            return
        if supervisor.line > 0:
            self._join_others()
            return
        try:
            await supervisor.lifecycle.connect()
        except BaseException:
            self.supervisors.remove(supervisor)
            raise

    async def close_empty(self, but: Collection[Supervisor]) -> None:
        """Close those that carry nothing, but for these, and one of each line."""
        kept = {self.of_line(line)[0] for line in range(self._lines)}.union(but)
        for each in self.supervisors[:]:
            if each in kept or each.subscriptions.desired or each not in self.supervisors:
                continue
            self.supervisors.remove(each)
            if each in self._joining:
                self._joining.pop(each).cancel()
            each.lifecycle.cancel()
            await each.lifecycle.wait_ended()
            self._session.follow(each, (), wall_ns())
            self._closed.add(each)
            log.info("connection_empty", exchange=self._session.exchange.name, left=len(self.supervisors))
            self._report_state()

    def _join_others(self) -> None:
        for each in self.supervisors:
            if each.line > 0 and not each.lifecycle.is_running and each not in self._joining:
                self._start_joining(each)

    def _start_joining(self, supervisor: Supervisor) -> None:
        name = f"fastbars {self._session.exchange.name} line {supervisor.line}"
        self._joining[supervisor] = asyncio.create_task(self._join(supervisor), name=name)

    async def _join(self, supervisor: Supervisor) -> None:
        # Retries until it is connected for the first time; from then on it reconnects by itself.
        config, exchange = self._session.config, self._session.exchange
        backoff = Backoff(config.reconnect_delay, config.reconnect_max_delay)
        while True:
            try:
                await supervisor.lifecycle.connect()
                break
            except WSConnectionError as error:
                log.warning("line_not_connected", exchange=exchange.name, line=supervisor.line, why=str(error))
            await asyncio.sleep(backoff.next_delay())
        self._joining.pop(supervisor, None)

    # What holds for all of them.

    def follow(self) -> None:
        """Pass the subscriptions to the session, which drops trades of anything else."""
        for each in self.supervisors:
            each.follow()

    def pause(self) -> None:
        """Stop reading all sockets."""
        if not self.is_paused:
            self.pauses += 1
        for each in self.supervisors:
            each.pair.pause()

    def resume(self) -> None:
        """Read them again."""
        for each in self.supervisors:
            each.pair.resume()

    # Called by the supervisors; see `supervisor.Observer`.

    def next_number(self, supervisor: Supervisor) -> int:
        """The number of a new connection: no other one that is there has it."""
        taken = {connection.number for connection in self.up}
        for _ in range(len(taken) + 1):
            self._last_number = (self._last_number + self._lines) % (_NUMBERS - _NUMBERS % self._lines)
            number = self._last_number + supervisor.line
            if number not in taken:
                break
        return number

    def starting(self, supervisor: Supervisor) -> None:
        """Reserve the state file before the first one connects."""
        if supervisor.line == 0:
            self._housekeeping.reserve()

    def connected(self, supervisor: Supervisor) -> None:
        """Start clock, healing and snapshots, once one of line 0 is connected."""
        if supervisor.line == 0:
            self._housekeeping.start()

    def state_changed(self, supervisor: Supervisor, state: ConnectionState) -> None:
        """Write the state of one to the recording, and report a change of the whole to the user."""
        connection = supervisor.pair.current
        log.debug("state", exchange=self._session.exchange.name, state=str(state))
        self._session.note_state(str(state), "" if connection is None else without_credentials(connection.url))
        self._report_state()

    def refused(self, error: SubscriptionError) -> None:
        """Report to `on_error` what no call of the user's can raise."""
        self._session.notifier.call(self._on_error, error)

    def failed(self, supervisor: Supervisor, error: Exception) -> None:
        """End all for an internal error on any connection; one of line 0 does so when it has ended."""
        if supervisor.line > 0:
            self.fail(error)

    def fail(self, error: Exception) -> None:
        """End all for an internal error outside the connections, or on one of another line."""
        running = [each for each in self.of_line(0) if each.lifecycle.is_running]
        (running or self.supervisors)[0].fail(error)

    async def ended(self, supervisor: Supervisor) -> None:
        """One has ended by itself: with an error it ends all, and the last of line 0 ends everything else."""
        failure, others = supervisor.lifecycle.failure, [each for each in self.supervisors if each is not supervisor]
        if supervisor.line > 0:
            if failure is not None and self._failure is None and supervisor not in self._joining and self.is_running:
                self._start_joining(supervisor)
            return
        # A first attempt that fails is raised by the call that made it, and ends no other.
        is_loss = failure is not None and supervisor.state is not _S.CONNECTING
        if not is_loss and any(each.lifecycle.is_running for each in others if each.line == 0):
            return
        if failure is not None:
            if self._failure is not None:
                return  # the one that has failed before ends all
            self._failure = failure
        for task in self._joining.values():
            task.cancel()
        self._joining.clear()
        for each in others:
            each.lifecycle.cancel()
        self._housekeeping.cancel()
        for each in others:
            await each.lifecycle.wait_ended()
        await self._housekeeping.wait_ended()
        self._all_ended.set()

    def _report_state(self) -> None:
        state = self.state
        if state is not self._state_seen:
            self._state_seen = state
            self._session.notifier.call(self._on_state, state)


async def all_of(*calls: Awaitable[None]) -> list[BaseException | None]:
    """Await them all together; returns what each has raised, or None.

    A single one is awaited directly, without a task, so that cancelling reaches it.
    """
    if len(calls) != 1:
        return list(await asyncio.gather(*calls, return_exceptions=True))
    try:
        await calls[0]
    except Exception as error:  # noqa: BLE001 the caller handles it
        return [error]
    return [None]
