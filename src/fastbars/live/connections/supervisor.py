"""Supervisor: keeps one connection up for weeks, and everything that is desired subscribed on it.

One task (see `lifecycle.py`) opens the connection, waits for its end, backs off and opens again:

    open -> in charge -> [keepalive, watchdog, subscriptions] -> ended, no successor -> gap -> back off -> open ...
      |          ^                                         |
      |          +--------------- its successor <----------+  before the exchange ends it, see `handover.py`
      +-> failed: cannot be tried again, or no attempt is left -> WSConnectionError

Everything else that wants the connection gone (keepalive, watchdog, circuit breaker, a user's `reconnect`) drops the
socket, and the task notices; so nothing ever cancels or awaits itself.

Why an order matters:

- What a connection carried is no longer covered before the next one is opened, and after all that it has brought. It is
  again with each symbol's confirmation, not when the handshake has succeeded (see `live/coverage.py`).
- A connection that has ended is judged (`RetryPolicy.judge`) before the delay of the next attempt is computed.
- What callbacks have seen is remembered from before a successor is opened until all of the overlap has been read, so
  that they are called once for a trade that both connections carry.

Units: seconds for timers, int64 nanoseconds for event and receive times.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Protocol

from fastbars.clocks import steady_s, wall_ns
from fastbars.errors import SubscriptionError, WSConnectionError
from fastbars.exchanges.declaration import Exchange
from fastbars.exchanges.messages import Ack, Heartbeat, Refusal, Stream, TokenWanted
from fastbars.live.connections import keepalive
from fastbars.live.connections.backoff import RetryPolicy, may_retry, retry_after_s
from fastbars.live.connections.connection import Connection, have_been_read
from fastbars.live.connections.handover import CANNOT_CONNECT, ConnectionPair, Handover, describe_failure
from fastbars.live.connections.lifecycle import Lifecycle
from fastbars.live.connections.silence import Rates
from fastbars.live.connections.states import ConnectionState
from fastbars.live.connections.subscriptions import Subscriptions
from fastbars.live.connections.watchdog import Watchdog
from fastbars.live.reader import Received
from fastbars.live.secrets import hidden, without_credentials
from fastbars.live.session import Session
from fastbars.log import log

_UNREAD_S = 0.05  # between two checks for unread data


class Route:
    """The address of a connection: the user's, or that at which the exchange serves what is subscribed.

    Args:
        exchange: names its addresses.
        default_channel: decides where nothing is subscribed or expected.
        given: the user's address, if any.
        index: number of the line; each line takes the next of the exchange's hosts.

    Attributes:
        expected: channels that will be subscribed; they decide while nothing is.
    """

    def __init__(self, exchange: Exchange, default_channel: str, given: str | None = None, index: int = 0) -> None:
        self.given = given
        self.expected: Collection[str] = ()
        self._exchange = exchange
        self._default_channel = default_channel
        self._index = index

    def url(self, channels: Collection[str]) -> str:
        """Where these channels are served. Raises SubscriptionError where no one connection serves all."""
        if self.given:
            return self.given
        asked = channels or self.expected or {self._default_channel}
        if self._index == 0:
            return self._exchange.url(asked)
        urls = self._exchange.urls(asked)
        return urls[self._index % len(urls)]

    def url_of(self, channel: str) -> str:
        """Where a channel is served."""
        return self.url({channel})

    @property
    def named_streams(self) -> Collection[Stream]:
        """The streams that the user's address subscribes to by itself."""
        return self._exchange.streams_in(self.given or "")


class Observer(Protocol):
    """The owner of a supervised connection: it is told what happens to it, and asked what to do with it."""

    def next_number(self, supervisor: Supervisor) -> int:
        """The number of its next connection, among those that feed the session."""

    def starting(self, supervisor: Supervisor) -> None:
        """It is about to connect. `connect` raises what this raises."""

    def connected(self, supervisor: Supervisor) -> None:
        """A connection was opened: the first one, or one after an outage."""

    def state_changed(self, supervisor: Supervisor, state: ConnectionState) -> None:
        """Its state has changed."""

    def refused(self, error: SubscriptionError) -> None:
        """The exchange has refused something outside any call that could raise it."""

    def failed(self, supervisor: Supervisor, error: Exception) -> None:
        """An unexpected internal error ends it."""

    async def ended(self, supervisor: Supervisor) -> None:
        """It has ended by itself, for good."""


class Supervisor:
    """Keeps one connection up.

    Args:
        session: what the connection feeds.
        route: where it goes.
        rates: of the symbols, learned by all connections of the session.
        observer: the owner, which is called on each event.
        line: number of the redundant line that it belongs to.
        once: end, instead of reconnecting, when the server closes normally (code 1000).

    Attributes:
        subscriptions: of the connection in charge.
        lifecycle: starts and ends it, and knows its state.
        pair: the connection in charge, and its successor.
        retry: when the next attempt is made.
        watchdog: acts on silence.
        connections: handshakes that succeeded.
    """

    def __init__(
        self, session: Session, route: Route, rates: Rates, observer: Observer, *, line: int = 0, once: bool = False
    ) -> None:
        self.session = session
        self.route = route
        self.line = line
        self.subscriptions = Subscriptions(session.exchange, session.config.ack_timeout)
        self.pair = ConnectionPair()
        self.retry = RetryPolicy(session.config)
        self.watchdog = Watchdog(session, rates, observer.refused, reports=line == 0)
        self.connections = 0
        self.lifecycle = Lifecycle(
            session.exchange.name,
            self._keep_connected,
            on_start=lambda: observer.starting(self),
            on_end=lambda: observer.ended(self),
            on_state=lambda state: observer.state_changed(self, state),
            on_error=self.fail,
        )
        self._observer = observer
        self._once = once
        self._data_messages = 0  # of the connections that were in charge before

    # State.

    @property
    def state(self) -> ConnectionState:
        """The state of the line."""
        return self.lifecycle.states.state

    @property
    def is_up(self) -> bool:
        """Whether its connection is up."""
        return self.state is ConnectionState.CONNECTED

    @property
    def is_whole(self) -> bool:
        """Whether it is up and everything desired is subscribed on it."""
        return self.is_up and not self.subscriptions.desired.keys() - self.subscriptions.confirmed

    @property
    def url(self) -> str:
        """Where it connects to. Raises SubscriptionError where no one connection serves all that is desired."""
        return self.route.url({channel for _, channel in self.subscriptions.desired})

    # Requests.

    async def reconnect(self) -> None:
        """Drop the connection, connect again, and wait until it is up. Raises WSConnectionError."""
        await self.lifecycle.reconnect(lambda: self.pair.drop("reconnect() was called"))

    async def subscribe(self, streams: Sequence[Stream]) -> None:
        """Subscribe, now or as soon as the connection is up; from here on after every reconnect.

        Raises:
            SubscriptionError: as `want` and `request`. WSConnectionError: the connection was lost.
        """
        self.want(streams)
        await self.request(streams)

    def want(self, streams: Sequence[Stream]) -> None:
        """Add streams to those that are desired; they are asked for by `request`, and after every reconnect.

        Raises:
            SubscriptionError: as `Subscriptions.want`, or no one connection serves all; nothing has changed.
        """
        added = [stream for stream in streams if stream not in self.subscriptions.desired]
        self.subscriptions.want(streams)
        try:
            self.url  # noqa: B018 it raises where no one connection serves all channels
        except SubscriptionError:
            self.subscriptions.drop(added)
            raise
        self.follow()

    async def request(self, streams: Sequence[Stream]) -> None:
        """Ask for those of these streams that are desired.

        Raises:
            SubscriptionError: as `Subscriptions.subscribe`. WSConnectionError: the connection was lost.
        """
        if self.pair.current is not None and self.is_up and self.url != self.pair.current.url:
            await self.reconnect()  # to where all of them are served
        desired = [stream for stream in streams if stream in self.subscriptions.desired]
        try:
            if self.is_up:
                await self._on_each(lambda each: each.subscriptions.subscribe(desired, each.send))
        finally:
            self.follow()  # what was refused is not subscribed to

    async def unsubscribe(self, streams: Sequence[Stream], *, wanted: bool = False) -> None:
        """End those of the subscriptions that it has; `wanted`: they move to another connection.

        Raises:
            SubscriptionError: the exchange refused. WSConnectionError: the connection was lost.
        """
        held = [stream for stream in streams if stream in self.subscriptions.desired]
        self.subscriptions.drop(held)
        if held:
            self.watchdog.silence.forget_connection()
        try:
            if self.is_up and held:
                await self._on_each(lambda each: each.subscriptions.unsubscribe(held, each.send, wanted=wanted))
        finally:
            self.follow()

    def follow(self) -> None:
        """Pass the subscriptions to the session, which drops trades of anything else."""
        self.session.follow(self, [*self.subscriptions.desired, *self.route.named_streams], wall_ns())

    def fail(self, error: Exception) -> None:
        """End the line because of an unexpected internal error."""
        self.lifecycle.fail(error)
        self.pair.drop("internal error")
        self._observer.failed(self, error)

    # The task.

    async def _keep_connected(self) -> None:
        config, lifecycle = self.session.config, self.lifecycle
        while True:
            connection = self._make(self.subscriptions)
            held_s = 0.0
            failed: WSConnectionError | None = None
            try:
                await self._open(connection)
            except CANNOT_CONNECT as error:
                held_s = retry_after_s(error, config.ban_delay)
                why = describe_failure(connection, error, held_s)
                # The failure of the first attempt is what `connect` raises; later ones are retried.
                if not may_retry(error) or self.state is ConnectionState.CONNECTING:
                    failed = WSConnectionError(why)
                    failed.__cause__ = hidden(error)
                failed = lifecycle.failure or failed  # an internal error, which came while it was being opened
            else:
                connection = await self._serve(connection)
                why = connection.why_ended
                lifecycle.raise_failure()
                if self._once and connection.ended_normally:
                    return
                lifecycle.states.move_to(ConnectionState.RECONNECTING)
            if failed is not None:  # not in the `except` above: that error shows credentials and would be its context
                raise failed
            delay_s = self.retry.next_delay_s(held_s)
            if delay_s is None:
                raise WSConnectionError(f"{why} (gave up after {config.reconnect_attempts} attempts to reconnect)")
            log.warning("reconnecting", exchange=self.session.exchange.name, why=why, delay_s=round(delay_s, 3))
            await asyncio.sleep(delay_s)

    async def _serve(self, connection: Connection) -> Connection:
        # Returns the connection that ended last: the one given, or what took its place.
        pair, lifecycle = self.pair, self.lifecycle
        # In charge before it is CONNECTED: a state callback may pause it, drop it, or subscribe on it.
        pair.current = connection
        self._begin(connection)
        self._observer.connected(self)
        lifecycle.states.move_to(ConnectionState.CONNECTED)
        self._put_in_charge(connection)
        if lifecycle.failure is not None:  # a message right behind the handshake caused it
            connection.drop("internal error")
        while True:
            handover = Handover(connection, self._make_successor, self._bring_up, overlap=self.session.drops_duplicates)
            pair.begin(handover)
            successor: Connection | None = None
            try:
                successor = await handover.wait()
            except asyncio.CancelledError:
                await connection.end(wanted=False)  # messages are taken until it is closed
                raise
            finally:
                # However it ended, cancellation included: nothing is sent on it any more, and it is judged, before
                # its closing handshake is waited for.
                pair.current = successor
                self._data_messages += connection.data_messages
                self.retry.judge(connection.age_s, connection.data_messages)
                if successor is not None:
                    self.subscriptions = successor.subscriptions
                await connection.end(wanted=not (self._once and connection.ended_normally))
            if successor is None:
                return connection
            connection = successor
            pair.handovers += 1
            log.info("handed_over", exchange=self.session.exchange.name, handovers=pair.handovers)
            self._put_in_charge(connection)
            connection.run_task(self._end_overlap(), "overlap")

    def _make(self, subscriptions: Subscriptions) -> Connection:
        # Numbered before the first byte: trades may follow right behind the handshake.
        number = self._observer.next_number(self)
        return Connection(self.session, self.url, subscriptions, self._take_received, self.fail, number=number)

    def _make_successor(self) -> Connection:
        exchange, config = self.session.exchange, self.session.config
        return self._make(Subscriptions(exchange, config.ack_timeout, self.subscriptions.desired))

    async def _open(self, connection: Connection) -> None:
        try:
            await connection.open()
        except CANNOT_CONNECT as error:
            held_s = retry_after_s(error, self.session.config.ban_delay)
            if held_s:  # a ban is of this host, not of this connection
                connection.hold_connects(held_s)
            raise

    def _begin(self, connection: Connection) -> None:
        # It is open: start what keeps it up.
        self.connections += 1
        self.retry.breaker.connected()
        if self.pair.is_paused:
            connection.pause()
        connection.carriage.opened(self.route.named_streams)
        keepalive.start(connection)
        log.info("connected", exchange=self.session.exchange.name, url=without_credentials(connection.url))

    def _put_in_charge(self, connection: Connection) -> None:
        connection.run_task(self._restore(connection), "subscriptions")
        connection.run_task(self.watchdog.watch(connection, self._data_messages), "silence")

    async def _bring_up(self, successor: Connection) -> None:
        # Opens a connection alongside the old one, and returns when everything is subscribed on it.
        self.session.begin_overlap(self)
        await self._open(successor)
        self._begin(successor)
        await self._subscribe_all(successor)

    async def _end_overlap(self) -> None:
        # The new connection may lag behind the old one.
        await asyncio.sleep(self.session.config.handover_overlap)
        while self.pair.is_paused or not await have_been_read(self.pair.all):  # noqa: ASYNC110 there is no event for that
            await asyncio.sleep(_UNREAD_S)
        if not self.pair.is_handing_over:
            self.session.notifier.end_overlap(self)

    async def _subscribe_all(self, connection: Connection) -> None:
        try:
            await connection.subscribe_desired(self._observer.refused)
        finally:
            if not self.session.takes_all:
                self.follow()  # what was refused is no longer desired

    async def _restore(self, connection: Connection) -> None:
        await self._subscribe_all(connection)
        connection.carriage.settled()

    def _take_received(self, connection: Connection, received: Received) -> None:
        # Handles the result of one wakeup, in the event loop's callback: nothing here may block.
        exchange, breaker = self.session.exchange, self.retry.breaker
        if connection.data_messages > 0:
            breaker.succeeded()
        for message in received.control:
            if isinstance(message, Ack | Refusal):
                if not connection.subscriptions.take_answer(message) and isinstance(message, Refusal):
                    log.warning("exchange_error", exchange=exchange.name, reason=message.reason)
            elif isinstance(message, TokenWanted):
                connection.log_in(message.reason)
            elif not isinstance(message, Heartbeat):
                log.warning("exchange_notice", exchange=exchange.name, reason=message.reason)
                connection.retiring.set()
        for _ in range(received.errors):
            if breaker.record(steady_s()):
                most = self.session.config.circuit_breaker_threshold
                connection.drop(f"circuit breaker: {most} unreadable messages")

    async def _on_each(self, request: Callable[[Connection], Awaitable[None]]) -> None:
        # During a handover there are two connections; errors of one that has been replaced meanwhile are ignored.
        for connection in self.pair.all:
            try:
                await request(connection)
            except WSConnectionError:
                if not connection.replaced:
                    raise
