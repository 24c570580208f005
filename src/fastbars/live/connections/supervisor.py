"""BaseWebSocketAdapter: a connection to an exchange, kept up for weeks, and the session that it feeds.

One supervisor task owns the socket: it connects, subscribes what is desired, waits until the connection ends,
and tries again with backoff. Everything else that wants the connection gone drops the socket, and the
supervisor notices; so nothing ever cancels or awaits itself.

    connect() -> supervisor -> open -> CONNECTED -> [subscriptions, heartbeat] -> closed -> RECONNECTING -> open ...

Before the exchange ends a connection because of its age, a second one is opened beside it and takes its place.

Units: seconds for timers, int64 nanoseconds for event and receive times.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

from fastbars.bars import ExchangeBar, OHLCVBar
from fastbars.callbacks import check_callbacks
from fastbars.errors import SubscriptionError, WebSocketError, WSConnectionError
from fastbars.events import MarketDataEvent
from fastbars.exchanges.declaration import Exchange
from fastbars.exchanges.messages import Ack, Heartbeat, RawMessage, Refusal, TokenWanted, Trade
from fastbars.kernel.recent import RecentKeys
from fastbars.live.callbacks import Callbacks
from fastbars.live.closing import close_by_clock
from fastbars.live.config import StreamConfig
from fastbars.live.connections.backoff import Backoff, CircuitBreaker, may_retry, retry_after_s
from fastbars.live.connections.connection import Line, have_been_read
from fastbars.live.connections.handover import CANNOT_CONNECT, Handover, why_not
from fastbars.live.connections.never_heard import NeverHeard
from fastbars.live.connections.states import ConnectionState, check_transition
from fastbars.live.connections.subscriber import Subscriber
from fastbars.live.connections.subscriptions import Subscriptions
from fastbars.live.connections.symbol_check import SymbolCheck
from fastbars.live.connections.watchdog import Silence
from fastbars.live.healing.upkeep import Upkeep
from fastbars.live.journal import OpenRecorder
from fastbars.live.repairs import HISTORY_S
from fastbars.live.secrets import hidden, without_credentials
from fastbars.live.session import Session
from fastbars.live.stats import StreamStats
from fastbars.log import log
from fastbars.redaction import keep_address_secret
from fastbars.ticks import TickData
from fastbars.wire import PayloadConnection

_UNREAD_S = 0.05  # until the sockets are looked at once more


class BaseWebSocketAdapter(Subscriber):
    """A live connection to one exchange.

    Args:
        exchange: the declaration of the exchange and market.
        config: every knob.
        on_tick: called for each trade, as TickData.
        on_bar, on_bars: called for each issued bar, and for each list of bars issued in one wakeup.
        on_late: called for each trade that came too late for a bar.
        on_exchange_bar: called for each kline or candle of the exchange.
        on_event: called with a MarketDataEvent for each bar, tick, quote, ticker and exchange bar.
        on_message: called with a RawMessage for each message that is none of these, such as an order book.
        on_state: called with each new ConnectionState.
        on_error: called with each SubscriptionError that no call of yours could raise: after a reconnect, and of
            subscriptions that were confirmed and of which nothing came (`StreamConfig.never_heard_after`).
        url: connect here instead of the exchange's own address. Until something is subscribed to, an address that
            names no streams says by itself what comes: trades of all symbols make bars.
        channel: trade channel that bars are made from; the exchange's default one if None.
        once: end, instead of reconnecting, when the server closes normally (code 1000).
        record: opens the recorder of what the session consumes; None: nothing is recorded.
        session: what its messages go to; one of its own if None. Redundant lines share one.
    """

    redundant = False

    def __init__(
        self,
        exchange: Exchange,
        config: StreamConfig | None = None,
        on_tick: Callable[[TickData], object] | None = None,
        *,
        on_bar: Callable[[OHLCVBar], object] | None = None,
        on_bars: Callable[[list[OHLCVBar]], object] | None = None,
        on_late: Callable[[TickData], object] | None = None,
        on_exchange_bar: Callable[[ExchangeBar], object] | None = None,
        on_event: Callable[[MarketDataEvent], object] | None = None,
        on_message: Callable[[RawMessage], object] | None = None,
        on_state: Callable[[ConnectionState], object] | None = None,
        on_error: Callable[[WebSocketError], object] | None = None,
        url: str | None = None,
        channel: str | None = None,
        once: bool = False,
        record: OpenRecorder | None = None,
        session: Session | None = None,
    ) -> None:
        check_callbacks(on_state=on_state, on_error=on_error, parse_message=self.parse_message)
        self.exchange = exchange
        self.config = config or StreamConfig()
        if self.config.lines > 1 and not self.redundant:
            raise ValueError(f"{exchange.name}: lines={self.config.lines} needs stream() or a RedundantAdapter")
        own_parser = type(self).parse_message is not BaseWebSocketAdapter.parse_message
        self.session = session or Session(
            exchange,
            self.config,
            Callbacks(on_tick, on_bar, on_bars, on_late, on_exchange_bar, on_event, on_message),
            channel=channel or exchange.default_channel,
            parse_message=self.parse_message if own_parser else None,
            record=record,
        )
        self.upkeep = None if session is not None else Upkeep(self.session, url)
        keep_address_secret(url)
        self._url = url
        self._expected: Collection[str] = ()
        self._once = once
        self._on_state = on_state
        self._on_error = on_error
        self._state = ConnectionState.DISCONNECTED
        self._subscriptions = Subscriptions(exchange, self.config.ack_timeout)
        self.symbol_check = SymbolCheck(exchange, self.config, url)
        self._backoff = Backoff(self.config.reconnect_delay, self.config.reconnect_max_delay)
        self._breaker = CircuitBreaker(self.config.circuit_breaker_threshold, self.config.circuit_breaker_window)
        first_s = self.config.never_heard_after or 4.0 * self.config.stale_after
        self._silence = Silence(self.config.stale_after, self.config.stale_factor, NeverHeard(first_s))
        self._line: Line | None = None
        self._handover: Handover | None = None
        self._ending: list[asyncio.Task[None]] = []  # what a disconnect has cancelled
        self._supervisor: asyncio.Task[None] | None = None
        self._clock: asyncio.Task[None] | None = None
        self._state_changed = asyncio.Event()
        self._failure: WSConnectionError | None = None
        self._paused = False
        self._data_messages = 0  # of the lines that were in charge before
        self._connections = 0
        if url is None or exchange.streams_in(url):
            self.take_subscribed_only()
        self._pauses = 0
        self._breaker_trips = 0
        self._handovers = 0

    # What users call.

    @property
    def state(self) -> ConnectionState:
        """Where the connection stands."""
        return self._state

    @property
    def is_connected(self) -> bool:
        """Whether the connection is up."""
        return self.state is ConnectionState.CONNECTED

    @property
    def _is_up(self) -> bool:
        return self._state is ConnectionState.CONNECTED

    @property
    def url(self) -> str:
        """Where it connects to."""
        return self.url_of({channel for _, channel in self._subscriptions.desired} or self._expected)

    @property
    def url_given(self) -> str | None:
        """The address that the user gave, if any."""
        return self._url

    def url_of(self, channels: Collection[str]) -> str:
        """Where these channels are served. Raises SubscriptionError where no one connection serves all."""
        return self._url or self.exchange.url(channels or {self.session.channel})

    def expect(self, channels: Collection[str]) -> None:
        """Connect to where these channels are served, though nothing is subscribed yet."""
        self._expected = channels

    def stats(self) -> StreamStats:
        """A snapshot of all counters."""
        return StreamStats(
            self._state,
            self.session.stats,
            self.session.buffer_stats,
            self._connections,
            0.0 if self._connection is None else self._connection.latency,
            self.session.event_time_ns,
            self._pauses,
            self._breaker_trips,
            self._handovers,
            self._silence.resubscriptions,
            never_heard=self._silence.reported,
            **self.session.timing(),
        )

    def parse_message(self, message: dict[str, Any]) -> TickData | None:
        """One decoded message as a trade, or None where it is none; override it to read messages your own way.

        An override is called for every message and replaces the exchange's own reading of trades: slower, and
        one trade a message. Raises ParseError or ValueError for a message that is broken.
        """
        for item in self.exchange.read(message):
            if isinstance(item, Trade):
                return item.to_tick(negative_prices=self.exchange.negative_prices)
        return None

    async def connect(self) -> None:
        """Connect, and stay connected until `disconnect`. Does nothing where that is under way already.

        Raises:
            WSConnectionError: the first attempt failed, or it was closed for good.
        """
        if self._state is ConnectionState.CLOSED:
            raise WSConnectionError(f"{self.exchange.name}: it was closed for good")
        starts = self._supervisor is None or self._supervisor.done()
        if starts:
            self._failure = None
            if self.upkeep is not None:
                self.upkeep.reserve()
            self._supervisor = asyncio.create_task(self._supervise(self._ending), name=f"fastbars {self.exchange.name}")
            self._set_state(ConnectionState.CONNECTING)
        try:
            await self._wait_until_settled()
        except asyncio.CancelledError:
            if starts:  # who merely waited for the work of another call leaves that alone
                await self.disconnect()
            raise
        if self._failure is not None:
            raise self._failure

    async def disconnect(self) -> None:
        """Close the connection and wait until nothing of it is left running; `connect` starts it again."""
        supervisor, clock = self._supervisor, self._clock
        self._supervisor = self._clock = None
        self._ending = [task for task in (*self._ending, supervisor, clock) if task is not None and not task.done()]
        for task in self._ending:
            task.cancel()
        self._set_state(ConnectionState.DISCONNECTED)
        if self._ending:
            await asyncio.wait(self._ending)
        if self.upkeep is not None:
            self.upkeep.release()

    async def close(self) -> None:
        """Close the connection for good and wait until nothing of it is left running."""
        try:
            await self.disconnect()
        finally:
            self._set_state(ConnectionState.CLOSED)

    async def reconnect(self) -> None:
        """Drop the connection, connect anew, and wait until it is up again.

        Raises:
            WSConnectionError: it could not be brought back within `reconnect_attempts`, or was never up.
        """
        if self._supervisor is None or self._supervisor.done():
            await self.connect()
            return
        if self._is_up:
            self._drop("reconnect() was called")
            while self._is_up:
                await self._state_changed.wait()
        await self._wait_until_settled()
        if self._failure is not None:
            raise self._failure

    def pause_reading(self) -> None:
        """Stop reading the socket, because a consumer is behind; no clock closes bars meanwhile."""
        if not self._paused:
            self._paused = True
            self._pauses += 1
            for line in self._lines:
                line.pause()

    def resume_reading(self) -> None:
        """Read the socket again."""
        self._paused = False
        for line in self._lines:
            line.resume()

    async def wait_closed(self) -> None:
        """Wait until the connection has ended for good.

        Raises:
            WSConnectionError: it was lost and could not be brought back.
        """
        if self._supervisor is not None:
            await asyncio.wait([self._supervisor])
        if self._failure is not None:
            raise self._failure

    # The supervisor.

    async def _supervise(self, earlier: Sequence[asyncio.Task[None]]) -> None:
        try:
            if earlier:  # one connection ends before the next begins
                await asyncio.wait(earlier)
            await self._keep_connected()
        except asyncio.CancelledError:
            raise
        except WSConnectionError as error:
            self._failure = error
        except Exception as error:  # noqa: BLE001 a task's top: it logs and stops loudly
            log.exception("supervisor_failed", exchange=self.exchange.name)
            self._fail(error)
        if self._clock is not None:
            clock, self._clock = self._clock, None
            clock.cancel()
            await asyncio.wait([clock])
        if self.upkeep is not None:
            self.upkeep.release()
        self._set_state(ConnectionState.DISCONNECTED)

    async def _keep_connected(self) -> None:
        while True:
            line = self._new_line(self._subscriptions)
            held_s = 0.0
            failed: WSConnectionError | None = None
            try:
                await self._open(line)
            except CANNOT_CONNECT as error:
                held_s = retry_after_s(error, self.config.ban_delay)
                why = why_not(line, error, held_s)
                if not may_retry(error) or self._state is ConnectionState.CONNECTING:
                    failed = WSConnectionError(why)
                    failed.__cause__ = hidden(error)
                if self._failure is not None:
                    failed = self._failure
            else:
                line = await self._serve(line)
                why = line.why_ended
                if self._failure is not None:
                    raise self._failure
                if self._once and line.ended_normally:
                    return
                self._set_state(ConnectionState.RECONNECTING)
            if failed is not None:  # not above, where an error that shows credentials would be its context
                raise failed
            attempts = self.config.reconnect_attempts
            if attempts is not None and self._backoff.attempts >= attempts:
                raise WSConnectionError(f"{why} (gave up after {attempts} attempts to reconnect)")
            delay = max(self._backoff.next_delay(), held_s)
            log.warning("reconnecting", exchange=self.exchange.name, why=why, delay_s=round(delay, 3))
            await asyncio.sleep(delay)

    def _new_line(self, subscriptions: Subscriptions) -> Line:
        listeners = (self._receive, self._fail, self.session.take, self.session.scanner, self.session.intake)
        return Line(self.exchange, self.config, self.url, subscriptions, *listeners)

    async def _open(self, line: Line) -> None:
        try:
            await line.open()
        except CANNOT_CONNECT as error:
            held_s = retry_after_s(error, self.config.ban_delay)
            if held_s:  # a ban is of this host, not of this connection
                line.hold_connects(held_s)
            raise

    async def _serve(self, line: Line) -> Line:
        # Returns the line that ended last: the one given, or what took its place.
        self._line = line
        self._take(line)
        if self._clock is None:
            self._clock = asyncio.create_task(self._run_clock(), name=f"fastbars clock {self.exchange.name}")
        self._set_state(ConnectionState.CONNECTED)
        self._attend(line)
        if self._failure is not None:  # what came right behind the handshake could not be digested
            line.drop("internal error")
        while True:
            overlap = self.session.drops_duplicates
            self._handover = Handover(line, self._new_successor, self._bring_up, overlap=overlap)
            successor: Line | None = None
            try:
                successor = await self._handover.wait()
            except asyncio.CancelledError:
                await line.end()  # what comes until it is shut is taken; the outage begins behind that
                raise
            finally:
                self._line = successor
                self._data_messages += line.data_messages
                self._judge(line)
                if successor is None:
                    self._begin_outage()
                else:
                    self._subscriptions = successor.subscriptions
                    if not self._handover.proven:  # the exchange was faster: something may not be subscribed yet
                        self._begin_outage()
                await line.end()
            if successor is None:
                return line
            line = successor
            self._handovers += 1
            log.info("handed_over", exchange=self.exchange.name, handovers=self._handovers)
            self._attend(line)
            line.attend(self._forget_told(), "overlap")

    def _judge(self, line: Line) -> None:
        # A line that has ended, or is replaced: was it good? One message proves nothing. A server that accepts, sends a
        # trade and closes would be asked again without end.
        if line.data_messages > 0 and line.age_s >= self.config.reconnect_max_delay:
            self._backoff.reset()
        if self._breaker.state == "open":
            self._backoff.attempts = max(self._backoff.attempts, self._breaker.trips_in_row)

    def _new_successor(self) -> Line:
        desired = self._subscriptions.desired
        return self._new_line(Subscriptions(self.exchange, self.config.ack_timeout, desired))

    def _begin_outage(self) -> None:
        self.session.begin_outage(time.monotonic_ns())

    async def _bring_up(self, line: Line) -> None:
        # A line beside another one, until everything is subscribed on it.
        if self.session.told is None:
            self.session.told = RecentKeys()
        await self._open(line)
        self._take(line)
        await self._subscribe_all(line)

    async def _forget_told(self) -> None:
        # What the new line carries may lag behind what the old one did.
        await asyncio.sleep(self.config.handover_overlap)
        while self._paused or not await have_been_read(self._lines):  # noqa: ASYNC110 an empty socket is no event
            await asyncio.sleep(_UNREAD_S)
        if not self.redundant and (self._handover is None or not self._handover.is_under_way):
            self.session.told = None

    def _attend(self, line: Line) -> None:
        line.attend(self._restore(line), "subscriptions")
        line.attend(self._silence.watch(line, self.session, self._data_messages, self._tell_error), "silence")

    def _take(self, line: Line) -> None:
        # It is open: its duties begin.
        self._connections += 1
        line.number = self._connections - 1
        self._breaker.connected()
        if self._paused:
            line.pause()
        line.start()
        log.info("connected", exchange=self.exchange.name, url=without_credentials(line.url))

    async def _subscribe_all(self, line: Line) -> None:
        try:
            await line.restore(self._tell_error)
        finally:
            if not self.session.takes_all:
                self._follow()  # what was refused is no longer desired

    async def _restore(self, line: Line) -> None:
        await self._subscribe_all(line)
        since_ns, until_ns = self.session.end_outage(time.monotonic_ns(), time.time_ns())
        if since_ns is not None and until_ns is not None:
            await asyncio.sleep(HISTORY_S)
            self.session.note_down(since_ns, until_ns, time.time_ns())
            self.session.unheard.clear()

    async def _run_clock(self) -> None:
        # Healing and snapshots go on whatever closes bars.
        if self.upkeep is not None:
            self.upkeep.start()
        try:
            if self.config.close_by == "trades":
                await asyncio.Event().wait()
            await close_by_clock(
                self.session, self._read, lambda: self._paused, lambda: self.is_connected and not self.session.is_down
            )
        except Exception as error:  # noqa: BLE001 a task's top: it logs and stops loudly
            log.exception("clock_failed", exchange=self.exchange.name)
            self._fail(error)
        finally:
            if self.upkeep is not None:
                await self.upkeep.stop()

    def _receive(self, line: Line, payloads: Sequence[bytes]) -> None:
        received = self.session.receive(payloads, time.time_ns(), time.monotonic_ns(), line=line.number)
        data_messages = self.session.take_data_messages()
        if data_messages > 0:
            line.note_data(data_messages)
            self._breaker.succeeded()
        for message in received.control:
            if isinstance(message, Ack | Refusal):
                if not line.subscriptions.answer(message) and isinstance(message, Refusal):
                    log.warning("exchange_error", exchange=self.exchange.name, reason=message.reason)
            elif isinstance(message, TokenWanted):
                line.log_in(message.reason)
            elif not isinstance(message, Heartbeat):
                log.warning("exchange_notice", exchange=self.exchange.name, reason=message.reason)
                line.retiring.set()
        for _ in range(received.errors):
            if self._breaker.record(time.monotonic()):
                self._breaker_trips += 1
                line.drop(f"circuit breaker: {self.config.circuit_breaker_threshold} unreadable messages")

    # Small things.

    @property
    def _lines(self) -> list[Line]:
        successor = None if self._handover is None else self._handover.successor
        return [line for line in (self._line, successor) if line is not None]

    def _read(self) -> list[Line]:
        # Whose sockets the clock waits for.
        return self._lines

    @property
    def _connection(self) -> PayloadConnection | None:
        return None if self._line is None else self._line.connection

    def _drop(self, reason: str) -> None:
        if self._line is not None:
            self._line.drop(reason)

    def _tell_error(self, error: SubscriptionError) -> None:
        self.session.tell(self._on_error, error)

    def _fail(self, error: Exception) -> None:
        self._failure = WSConnectionError(f"{self.exchange.name}: internal error: {error!r}")
        self._failure.__cause__ = hidden(error)
        self._drop("internal error")

    def _set_state(self, state: ConnectionState) -> None:
        if state is self._state or self._state is ConnectionState.CLOSED:
            return
        check_transition(self._state, state)
        self._state = state
        changed, self._state_changed = self._state_changed, asyncio.Event()
        changed.set()
        log.debug("state", exchange=self.exchange.name, state=str(state))
        self.session.note_state(str(state), "" if self._line is None else without_credentials(self._line.url))
        self.session.tell(self._on_state, state)

    async def _wait_until_settled(self) -> None:
        while self._state in (ConnectionState.CONNECTING, ConnectionState.RECONNECTING):
            await self._state_changed.wait()
