"""Lines: the connections that feed one session: one, or several that carry the same trades, so that one can be lost.

Each line is a supervisor with a connection, subscriptions and handovers of its own; where the exchange declares several
hosts, they go to different ones. The session's arbiter passes on the first arrival of each trade. Trades without ids
would count twice, so that such channels are refused to several lines.

    state of all    CONNECTED while any line is, else that of the first
    an outage       begins when a line is lost and no other one has everything subscribed
    giving up       is up to the first line; the others try again and again until they are ended
    an error        that is internal, on any line, ends all of them
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence

from fastbars.clocks import steady_ns
from fastbars.errors import SubscriptionError, WebSocketError, WSConnectionError
from fastbars.exchanges.messages import Stream
from fastbars.live.connections.backoff import Backoff
from fastbars.live.connections.connection import Connection
from fastbars.live.connections.housekeeping import Housekeeping
from fastbars.live.connections.states import ConnectionState
from fastbars.live.connections.supervisor import Route, Supervisor
from fastbars.live.healing.upkeep import Upkeep
from fastbars.live.secrets import without_credentials
from fastbars.live.session import Session
from fastbars.log import log


class Lines:
    """One connection, or `config.lines` that are used as one.

    Args:
        session: what they feed.
        url: the user's address, if any.
        upkeep: of the session, while it is connected.
        once: as in BaseWebSocketAdapter.
        on_state: called with each new state of the whole.
        on_error: called with each refusal that no call of a user's could raise.

    Attributes:
        supervisors: the lines; clock, healing and snapshots run while the first one does.

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
        exchange, count = session.exchange, session.config.lines
        if count > 1 and not exchange.id_policy(session.channel).deduplicates:
            raise SubscriptionError(
                f"{exchange.name}: {session.channel}: trades have no ids, several lines would count them twice"
            )
        self._session = session
        self._on_state = on_state
        self._on_error = on_error
        self._state_seen = ConnectionState.DISCONNECTED
        self._ends_whole = False  # all lines are being closed, and one was whole
        self._joining: dict[int, asyncio.Task[None]] = {}  # lines that have not been connected for the first time
        self._housekeeping = Housekeeping(session, upkeep, self)
        self.supervisors = tuple(
            Supervisor(session, Route(exchange, session.channel, url, index), self, index=index, once=once)
            for index in range(count)
        )

    @property
    def first(self) -> Supervisor:
        """The line that decides about giving up."""
        return self.supervisors[0]

    @property
    def state(self) -> ConnectionState:
        """CONNECTED while any line is, else that of the first one."""
        return ConnectionState.CONNECTED if any(line.is_up for line in self.supervisors) else self.first.state

    @property
    def connections(self) -> list[Connection]:
        """All that are up."""
        return [connection for line in self.supervisors for connection in line.pair.all]

    @property
    def is_paused(self) -> bool:
        """Whether nothing is read."""
        return self.first.pair.is_paused

    # Requests.

    async def connect(self) -> None:
        """Open the first line; the others follow by themselves. Raises WSConnectionError: the first attempt failed."""
        try:
            await self.first.lifecycle.connect()
        except asyncio.CancelledError:
            if not self.first.lifecycle.is_running:  # it was this call that started it, and it has been cancelled
                await self.disconnect()
            raise
        for line in self.supervisors[1:]:
            if not line.lifecycle.is_running and line.index not in self._joining:
                name = f"fastbars {self._session.exchange.name} line {line.index}"
                self._joining[line.index] = asyncio.create_task(self._join(line), name=name)

    async def disconnect(self) -> None:
        """Close all and wait until nothing of them is left running."""
        if len(self.supervisors) > 1:
            # Until the last one is closed it may bring trades: the outage begins after it.
            self._ends_whole |= any(line.is_whole for line in self.supervisors)
        joining = list(self._joining.values())
        self._joining.clear()
        # Everything is cancelled before the first await: this call may be cancelled in any await.
        for task in joining:
            task.cancel()
        for line in self.supervisors:
            line.lifecycle.cancel()
        self._housekeeping.cancel()
        try:
            for line in self.supervisors:
                await line.lifecycle.wait_ended()
            if joining:
                await asyncio.wait(joining)
            await self._housekeeping.wait_ended()
        finally:
            if self._ends_whole:
                self._ends_whole = False
                self._session.begin_outage(steady_ns())

    async def close(self) -> None:
        """Close all for good."""
        try:
            await self.disconnect()
        finally:
            for line in self.supervisors:
                line.lifecycle.close()

    async def reconnect(self) -> None:
        """Reconnect them, one after the other, so that of several one is always up. Raises WSConnectionError."""
        await self.first.reconnect()
        for line in self.supervisors[1:]:
            if line.is_up:
                await line.reconnect()

    async def wait_closed(self) -> None:
        """Wait until the first has ended for good. Raises WSConnectionError: it could not be brought back."""
        await self.first.lifecycle.wait_closed()

    async def subscribe(self, streams: Sequence[Stream]) -> None:
        """Subscribe on every line.

        Raises:
            SubscriptionError: as one line does. WSConnectionError: every line was lost meanwhile.
        """
        results = await _all(*(line.subscribe(streams) for line in self.supervisors))
        errors = [error for error in results if error is not None]
        refused = [error for error in errors if isinstance(error, SubscriptionError)]
        if refused or len(errors) == len(results):
            raise (refused or errors)[0]
        for error in errors:
            if not isinstance(error, WSConnectionError):
                raise error

    async def unsubscribe(self, streams: Sequence[Stream]) -> None:
        """End subscriptions on every line. Raises SubscriptionError; WSConnectionError: the first was lost."""
        first, *others = await _all(*(line.unsubscribe(streams) for line in self.supervisors))
        for error in (first, *(error for error in others if not isinstance(error, WSConnectionError))):
            if error is not None:
                raise error

    def expect(self, channels: Collection[str]) -> None:
        """Connect to where these channels are served, though nothing is subscribed yet."""
        for line in self.supervisors:
            line.route.expected = channels

    def follow(self) -> None:
        """Pass the subscriptions to the session, which drops trades of anything else."""
        for line in self.supervisors:
            line.follow()

    def pause(self) -> None:
        """Stop reading all sockets."""
        for line in self.supervisors:
            line.pair.pause()

    def resume(self) -> None:
        """Read them again."""
        for line in self.supervisors:
            line.pair.resume()

    # Called by the supervisors; see `supervisor.Observer`.

    def starting(self, line: Supervisor) -> None:
        """Reserve the state file before the first line connects."""
        if line is self.first:
            self._housekeeping.reserve()

    def connected(self, line: Supervisor) -> None:
        """Start clock, healing and snapshots, once the first line is connected."""
        if line is self.first:
            self._housekeeping.start()

    def state_changed(self, line: Supervisor, state: ConnectionState) -> None:
        """Write the state of the line to the recording, and report a change of the whole to the user."""
        session, connection = self._session, line.pair.current
        log.debug("state", exchange=session.exchange.name, state=str(state))
        session.note_state(str(state), "" if connection is None else without_credentials(connection.url))
        if self.state is not self._state_seen:
            self._state_seen = self.state
            session.notifier.call(self._on_state, self._state_seen)

    def refused(self, error: SubscriptionError) -> None:
        """Report to `on_error` what no call of the user's can raise."""
        self._session.notifier.call(self._on_error, error)

    def failed(self, line: Supervisor, error: Exception) -> None:
        """End the first line, and so all, for an internal error on any line."""
        if line is not self.first:
            self.first.fail(error)

    def fail(self, error: Exception) -> None:
        """End all lines for an internal error outside the connections."""
        self.first.fail(error)

    async def ended(self, line: Supervisor) -> None:
        """End clock, healing and snapshots with the first line."""
        if line is self.first:
            self._housekeeping.cancel()
            await self._housekeeping.wait_ended()

    def is_covered(self, line: Supervisor) -> bool:
        """Whether another line has everything, or all are being closed and `disconnect` begins the outage."""
        return self._ends_whole or any(other.is_whole for other in self.supervisors if other is not line)

    async def _join(self, line: Supervisor) -> None:
        # Retries until the line is connected for the first time; from then on it reconnects by itself.
        config, exchange = self._session.config, self._session.exchange
        backoff = Backoff(config.reconnect_delay, config.reconnect_max_delay)
        while True:
            try:
                await line.lifecycle.connect()
                break
            except WSConnectionError as error:
                log.warning("line_not_connected", exchange=exchange.name, line=line.index, why=str(error))
            await asyncio.sleep(backoff.next_delay())
        del self._joining[line.index]


async def _all(*calls: Awaitable[None]) -> list[BaseException | None]:
    # What each has raised, or None. A single one is awaited directly, without a task, so that cancelling reaches it.
    if len(calls) > 1:
        return list(await asyncio.gather(*calls, return_exceptions=True))
    try:
        await calls[0]
    except Exception as error:  # noqa: BLE001 the caller handles it
        return [error]
    return [None]
