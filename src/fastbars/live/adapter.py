"""BaseWebSocketAdapter: one connection to an exchange, kept up, and the session that it feeds.

One supervisor task owns the socket: it connects, subscribes what is desired, waits until the connection ends,
and tries again with backoff. Everything else that wants the connection gone drops the socket, and the
supervisor notices; so nothing ever cancels or awaits itself.

    connect() -> supervisor -> open -> CONNECTED -> [subscriptions, heartbeat] -> closed -> RECONNECTING -> open ...

Units: seconds for timers, int64 nanoseconds for event and receive times.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidURI, WebSocketException

from fastbars.bars import ExchangeBar, OHLCVBar
from fastbars.buffer import BufferStats
from fastbars.callbacks import call
from fastbars.errors import SubscriptionError, WSConnectionError
from fastbars.events import MarketDataEvent
from fastbars.live.backoff import Backoff, CircuitBreaker
from fastbars.live.config import StreamConfig
from fastbars.live.exchange import Ack, Beat, Exchange, RawMessage, Refusal, Stream, Trade
from fastbars.live.recorder import OpenRecorder
from fastbars.live.session import Callbacks, Session, SessionStats
from fastbars.live.states import ConnectionState, check_transition
from fastbars.live.subscriptions import Subscriptions
from fastbars.log import log
from fastbars.ticks import TickData
from fastbars.wire import PayloadConnection

_CLOCK_INTERVAL_S = 0.05
_NORMAL_CLOSURE = 1000


@dataclass(frozen=True, slots=True)
class StreamStats:
    """A snapshot of every counter of a stream.

    Attributes:
        state: of the connection.
        session: what was received.
        buffer: what became of the trades.
        connections: handshakes that succeeded.
        latency_s: round trip of the last answered ping, s; 0 before the first.
        event_time_ns: latest event time of the exchange, ns; None before the first.
        pauses: times that reading was paused for a slow consumer.
        breaker_trips: times that the circuit breaker dropped the connection.
    """

    state: ConnectionState
    session: SessionStats
    buffer: BufferStats
    connections: int
    latency_s: float
    event_time_ns: int | None
    pauses: int
    breaker_trips: int


class BaseWebSocketAdapter:
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
        url: connect here instead of the exchange's own address.
        channel: trade channel that bars are made from; the exchange's default one if None.
        once: end, instead of reconnecting, when the server closes normally (code 1000).
        record: opens the recorder of what the session consumes; None: nothing is recorded.
    """

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
        url: str | None = None,
        channel: str | None = None,
        once: bool = False,
        record: OpenRecorder | None = None,
    ) -> None:
        self.exchange = exchange
        self.config = config or StreamConfig()
        own_parser = type(self).parse_message is not BaseWebSocketAdapter.parse_message
        self.session = Session(
            exchange,
            self.config,
            Callbacks(on_tick, on_bar, on_bars, on_late, on_exchange_bar, on_event, on_message),
            channel=channel or exchange.default_channel,
            parse_message=self.parse_message if own_parser else None,
            record=record,
        )
        self._url = url
        self._once = once
        self._on_state = on_state
        self._state = ConnectionState.DISCONNECTED
        self._subscriptions = Subscriptions(exchange, self.config.ack_timeout)
        self._backoff = Backoff(self.config.reconnect_delay, self.config.reconnect_max_delay)
        self._breaker = CircuitBreaker(self.config.circuit_breaker_threshold, self.config.circuit_breaker_window)
        self._connection: PayloadConnection | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._clock: asyncio.Task[None] | None = None
        self._state_changed = asyncio.Event()
        self._dropped_for: str | None = None
        self._connected_url = ""
        self._failure: Exception | None = None
        self._paused = False
        self._connections = 0
        self._pauses = 0
        self._breaker_trips = 0

    # What users call.

    @property
    def state(self) -> ConnectionState:
        """Where the connection stands."""
        return self._state

    @property
    def is_connected(self) -> bool:
        """Whether the connection is up."""
        return self._state is ConnectionState.CONNECTED

    @property
    def active_subscriptions(self) -> dict[str, set[str]]:
        """Symbol -> channels that are desired; they are subscribed again after a reconnect."""
        active: dict[str, set[str]] = {}
        for symbol, channel in self._subscriptions.desired:
            active.setdefault(symbol, set()).add(channel)
        return active

    @property
    def url(self) -> str:
        """Where it connects to."""
        channels = {channel for _, channel in self._subscriptions.desired}
        return self._url or self.exchange.url(channels or {self.session.channel})

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
        )

    def parse_message(self, message: dict[str, Any]) -> TickData | None:
        """One decoded message as a trade, or None where it is none; override it to read messages your own way.

        An override is called for every message and replaces the exchange's own reading of trades: slower, and
        one trade a message. Raises ParseError or ValueError for a message that is broken.
        """
        for item in self.exchange.parse(message):
            if isinstance(item, Trade):
                return item.to_tick()
        return None

    async def connect(self) -> None:
        """Connect, and stay connected until `disconnect`. Does nothing where that is under way already.

        Raises:
            WSConnectionError: the first attempt failed.
        """
        starts = self._supervisor is None or self._supervisor.done()
        if starts:
            self._failure = None
            self._set_state(ConnectionState.CONNECTING)
            self._supervisor = asyncio.create_task(self._supervise(), name=f"fastbars {self.exchange.name}")
        try:
            await self._wait_until_settled()
        except asyncio.CancelledError:
            if starts:  # who merely waited for the work of another call leaves that alone
                await self.disconnect()
            raise
        if self._failure is not None:
            raise self._failure

    async def disconnect(self) -> None:
        """Close the connection for good and wait until nothing of it is left running."""
        supervisor, clock = self._supervisor, self._clock
        self._supervisor = self._clock = None
        tasks = [task for task in (supervisor, clock) if task is not None]
        for task in tasks:
            task.cancel()
        try:
            if tasks:
                await asyncio.wait(tasks)
        finally:
            self._set_state(ConnectionState.DISCONNECTED)

    async def reconnect(self) -> None:
        """Drop the connection, connect anew, and wait until it is up again.

        Raises:
            WSConnectionError: it could not be brought back within `reconnect_attempts`, or was never up.
        """
        if self._supervisor is None or self._supervisor.done():
            await self.connect()
            return
        if self.is_connected:
            self._drop("reconnect() was called")
            while self.is_connected:
                await self._next_state()
        await self._wait_until_settled()
        if self._failure is not None:
            raise self._failure

    async def subscribe(self, symbols: Sequence[str], channels: Sequence[str] = ()) -> None:
        """Subscribe, now or as soon as the connection is up, and after every reconnect.

        Args:
            symbols: as the exchange writes them.
            channels: names such as "trade" or "kline_1m"; the trade channel that bars are made from if empty.

        Raises:
            SubscriptionError: an unknown channel, too many streams, or symbols that the exchange refused; the
                others are subscribed.
            WSConnectionError: the connection was lost meanwhile; all of them stay desired.
        """
        streams = self._streams(symbols, channels)
        added = [stream for stream in streams if stream not in self._subscriptions.desired]
        self._subscriptions.want(streams)
        try:
            url = self.url
        except SubscriptionError:  # no one connection serves all channels
            self._subscriptions.drop(added)
            raise
        if self.is_connected and url != self._connected_url:
            await self.reconnect()  # to where all of them are served
        if self.is_connected:
            await self._subscriptions.subscribe(streams, self._send)

    async def unsubscribe(self, symbols: Sequence[str], channels: Sequence[str] = ()) -> None:
        """End subscriptions; the symbols' open bars are issued (PARTIAL, `end`) where no trade channel is left.

        Raises:
            SubscriptionError: the exchange refused. WSConnectionError: the connection was lost meanwhile.
        """
        streams = [s for s in self._streams(symbols, channels) if s in self._subscriptions.desired]
        self._subscriptions.drop(streams)
        if self.is_connected and streams:
            await self._subscriptions.unsubscribe(streams, self._send)
        active = self.active_subscriptions
        for symbol in symbols:
            if not active.get(symbol, set()) & set(self.exchange.trade_channels):
                self.session.flush(time.time_ns(), symbol)

    def pause_reading(self) -> None:
        """Stop reading the socket, because a consumer is behind; no clock closes bars meanwhile."""
        if not self._paused:
            self._paused = True
            self._pauses += 1
            if self._connection is not None:
                self._connection.pause()

    def resume_reading(self) -> None:
        """Read the socket again."""
        self._paused = False
        if self._connection is not None:
            self._connection.resume()

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

    async def _supervise(self) -> None:
        try:
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
        self._set_state(ConnectionState.DISCONNECTED)

    async def _keep_connected(self) -> None:
        while True:
            try:
                connection = await self._open()
            except (OSError, TimeoutError, WebSocketException, ValueError) as error:
                why = f"{self.exchange.name}: cannot connect to {self.url}: {error or type(error).__name__}"
                # The URL or an option makes no sense, and never will; a bad certificate, also an OSError, may pass.
                hopeless = isinstance(error, InvalidURI | ValueError) and not isinstance(error, OSError)
                if hopeless or self._state is ConnectionState.CONNECTING:
                    raise WSConnectionError(why) from error
                if self._failure is not None:
                    raise self._failure from error
            else:
                why = await self._serve(connection)
                if self._failure is not None:
                    raise self._failure
                if self._once and connection.close_code == _NORMAL_CLOSURE and self._dropped_for is None:
                    return
                self._set_state(ConnectionState.RECONNECTING)
            attempts = self.config.reconnect_attempts
            if attempts is not None and self._backoff.attempts >= attempts:
                raise WSConnectionError(f"{why} (gave up after {attempts} attempts to reconnect)")
            delay = self._backoff.next_delay()
            log.warning("reconnecting", exchange=self.exchange.name, why=why, delay_s=round(delay, 3))
            await asyncio.sleep(delay)

    async def _open(self) -> PayloadConnection:
        factory = partial(PayloadConnection, on_payloads=self._on_payloads)
        options: dict[str, Any] = {
            "compression": None,
            "max_queue": None,
            "ping_interval": None,  # the heartbeat below does it, and knows about paused reading
            "open_timeout": self.config.connect_timeout,
            "close_timeout": 2.0,
            "max_size": self.config.max_message_bytes,
        } | self.config.connect_options
        self._dropped_for = None
        self._connected_url = self.url
        made = cast("type[ClientConnection]", factory)
        return cast("PayloadConnection", await connect(self._connected_url, create_connection=made, **options))

    async def _serve(self, connection: PayloadConnection) -> str:
        # Returns why the connection ended.
        self._connection = connection
        self._connections += 1
        if self._paused:
            connection.pause()
        if self._clock is None and self.config.close_by == "clock":
            self._clock = asyncio.create_task(self._run_clock(), name=f"fastbars clock {self.exchange.name}")
        self._set_state(ConnectionState.CONNECTED)
        log.info("connected", exchange=self.exchange.name, url=self.url)
        attendants = [
            asyncio.create_task(self._attend(self._restore_subscriptions(), connection)),
            asyncio.create_task(self._attend(self._beat(connection), connection)),
        ]
        if self._failure is not None:  # what came right behind the handshake could not be digested
            connection.abort()
        try:
            await connection.wait_closed()
        finally:
            for task in attendants:
                task.cancel()
            await asyncio.gather(*attendants, return_exceptions=True)
            self._subscriptions.connection_lost()
            if not connection.reading:
                connection.abort()  # a closing handshake would wait for an answer that is not read
            await connection.close()
            self._connection = None
        reason = self._dropped_for or f"closed with code {connection.close_code} {connection.close_reason or ''}"
        return f"{self.exchange.name}: connection to {self.url} ended: {reason.rstrip()}"

    async def _attend(self, duty: Coroutine[Any, Any, None], connection: PayloadConnection) -> None:
        try:
            await duty
        except (ConnectionClosed, WSConnectionError):
            pass  # the supervisor sees it too
        except Exception as error:  # noqa: BLE001 a task's top: it logs and stops loudly
            log.exception("attendant_failed", exchange=self.exchange.name)
            self._fail(error)
            connection.abort()

    async def _restore_subscriptions(self) -> None:
        try:
            await self._subscriptions.subscribe(None, self._send)
        except SubscriptionError as error:
            log.error("subscription_refused", exchange=self.exchange.name, error=str(error))
            if self._subscriptions.desired.keys() - self._subscriptions.confirmed:
                self._drop("subscriptions were not confirmed")

    async def _beat(self, connection: PayloadConnection) -> None:
        # Pings, and gives the connection up when not a byte has come for too long.
        loop = asyncio.get_running_loop()
        while True:
            silent = loop.time() - connection.last_receive_s if connection.reading else 0.0
            left = self.config.heartbeat_timeout - silent
            if left <= 0:
                self._drop(f"not a byte for {silent:.1f} s")
                return
            await asyncio.sleep(min(self.config.heartbeat_interval, left))
            await connection.ping()
            log.debug("heartbeat", exchange=self.exchange.name, latency_s=connection.latency)

    async def _run_clock(self) -> None:
        try:
            while True:
                await asyncio.sleep(_CLOCK_INTERVAL_S)
                if not self.session.clock_is_due(time.monotonic_ns()):
                    continue
                # What has arrived is read first: the loop polls its sockets between these two turns.
                connection = self._connection
                if connection is not None:
                    connection.last_read_was_full = False
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                if self._paused or (connection is not None and connection.last_read_was_full):
                    continue
                self.session.advance_clock(time.monotonic_ns(), time.time_ns(), feed_up=self.is_connected)
        except Exception as error:  # noqa: BLE001 a task's top: it logs and stops loudly
            log.exception("clock_failed", exchange=self.exchange.name)
            self._fail(error)

    def _on_payloads(self, payloads: Sequence[bytes]) -> None:
        try:
            self._receive(payloads)
        except Exception as error:  # noqa: BLE001 a task's top: it logs and stops loudly
            log.exception("session_failed", exchange=self.exchange.name)
            self._fail(error)

    def _receive(self, payloads: Sequence[bytes]) -> None:
        stats = self.session.stats
        before = stats.messages - stats.control - stats.unknown
        received = self.session.receive(payloads, time.time_ns(), time.monotonic_ns())
        if stats.messages - stats.control - stats.unknown - received.errors > before:
            self._backoff.reset()
        for message in received.control:
            if isinstance(message, Beat):
                continue
            if not isinstance(message, Ack | Refusal):
                log.warning("exchange_notice", exchange=self.exchange.name, reason=message.reason)
            elif not self._subscriptions.answer(message) and isinstance(message, Refusal):
                log.warning("exchange_error", exchange=self.exchange.name, reason=message.reason)
        now = time.monotonic()
        for _ in range(received.errors):
            if self._breaker.record(now):
                self._breaker_trips += 1
                self._backoff.attempts = max(self._backoff.attempts, 1)
                self._drop(f"circuit breaker: {self.config.circuit_breaker_threshold} unreadable messages")

    # Small things.

    def _streams(self, symbols: Sequence[str], channels: Sequence[str]) -> list[Stream]:
        if isinstance(symbols, str) or isinstance(channels, str):
            raise TypeError("symbols and channels are lists, not one text")
        return [(symbol, channel) for channel in channels or [self.session.channel] for symbol in symbols]

    async def _send(self, payload: bytes) -> None:
        if self._connection is None:
            raise WSConnectionError(f"{self.exchange.name}: not connected")
        try:
            await self._connection.send(payload, text=True)
        except ConnectionClosed as error:
            raise WSConnectionError(f"{self.exchange.name}: the connection was lost") from error

    def _drop(self, reason: str) -> None:
        if self._connection is not None and self._dropped_for is None:
            self._dropped_for = reason
            self._connection.abort()

    def _fail(self, error: Exception) -> None:
        self._failure = WSConnectionError(f"{self.exchange.name}: internal error: {error!r}")
        self._failure.__cause__ = error
        self._drop("internal error")

    def _set_state(self, state: ConnectionState) -> None:
        if state is self._state:
            return
        check_transition(self._state, state)
        self._state = state
        changed, self._state_changed = self._state_changed, asyncio.Event()
        changed.set()
        log.debug("state", exchange=self.exchange.name, state=str(state))
        if self.session.recorder is not None:
            self.session.recorder.note("state", time.time_ns(), {"state": str(state), "url": self._connected_url})
        if self._on_state is not None:
            call(self._on_state, state)

    async def _next_state(self) -> None:
        await self._state_changed.wait()

    async def _wait_until_settled(self) -> None:
        while self._state in (ConnectionState.CONNECTING, ConnectionState.RECONNECTING):
            await self._next_state()
