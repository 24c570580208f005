"""Connection: one socket to an exchange, from the handshake to the close, and the requests that are sent over it.

    made -> open() -> the handshake succeeded -> drop(), or either side closes -> wait_ended() returns -> end()

It brings bytes until it ends, and is never reopened: others keep it up, replace it or open the next one. Its tasks (see
`run_task`) belong to it, and end with it.

Units: seconds on the loop's clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, cast

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from fastbars.clocks import steady_ns, steady_s
from fastbars.errors import SubscriptionError, WSConnectionError
from fastbars.live.carriage import Carriage
from fastbars.live.connections.limits import RateLimiter
from fastbars.live.connections.login import SessionToken, ask_first
from fastbars.live.connections.receiver import Receiver
from fastbars.live.connections.subscriptions import Subscriptions
from fastbars.live.reader import Received
from fastbars.live.secrets import wire_log, without_credentials
from fastbars.live.session import Session
from fastbars.live.shared import SHARED
from fastbars.log import log
from fastbars.wire import PayloadConnection
from fastbars.wire.connection import CLOSE_TIMEOUT_S

_NORMAL_CLOSURE = 1000
_CONNECTS = (60, 60.0)  # new connections a minute where the exchange names no limit


async def unread_of(connections: Sequence[Connection]) -> list[Connection]:
    """Let the event loop read what has arrived; returns those of which it has not read all, or is not reading."""
    for connection in connections:
        connection.last_read_was_full = False
    await asyncio.sleep(0)  # the loop polls its sockets between these two turns
    await asyncio.sleep(0)
    return [each for each in connections if each.last_read_was_full or not each.is_reading]


async def have_been_read(connections: Sequence[Connection]) -> bool:
    """Let the event loop read what has arrived; False: a read filled the buffer, and more may be left."""
    await unread_of(connections)
    return not any(connection.last_read_was_full for connection in connections)


class _Connect(connect):
    # Redirects are not followed: the target would get the headers, API keys included, and evade the rate limit.
    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


class Connection:
    """One socket to an exchange.

    Args:
        session: what its messages go to; its exchange and config say how to connect.
        url: where to connect.
        subscriptions: what is subscribed on it.
        on_received: called with the connection and the result of each wakeup that the session had to end.
        on_failure: called with an unexpected internal error.
        number: its number among the connections that feed the session.

    Attributes:
        socket: None before `open`.
        dropped_for: why this side dropped it; None while it has not.
        retiring: set when the exchange has announced that it is about to close it.
        replaced: another connection has taken its place.
    """

    def __init__(
        self,
        session: Session,
        url: str,
        subscriptions: Subscriptions,
        on_received: Callable[[Connection, Received], object],
        on_failure: Callable[[Exception], object],
        *,
        number: int = 0,
    ) -> None:
        self.exchange = exchange = session.exchange
        self.config = session.config
        self.url = url
        self.subscriptions = subscriptions
        self.socket: PayloadConnection | None = None
        self.dropped_for: str | None = None
        self.retiring = asyncio.Event()
        self.replaced = False
        self._opened_s = 0.0
        self._on_failure = on_failure
        self._receiver = Receiver(session, number, partial(on_received, self), on_failure)
        subscriptions.carriage = session.carriage(number)
        self._token = SessionToken(exchange, self.config.session_token)
        self._first_frames: list[bytes] = []
        self._tasks: list[asyncio.Task[None]] = []
        limits = exchange.limits
        # One place is left for the pongs that `websockets` sends by itself, which some exchanges count too.
        a_second = limits.requests_per_second - (1 if limits.requests_per_second >= 4 else 0)
        self._requests = (
            SHARED.stream_limiter("requests", exchange.name, url, a_second, 1.0)
            if limits.requests_shared
            else RateLimiter(a_second)
        )
        self._connects = SHARED.stream_limiter("connects", exchange.name, url, *(limits.connects or _CONNECTS))

    # Opening it.

    async def open(self) -> None:
        """Connect, as soon as the exchange's limit of new connections lets it.

        Raises:
            OSError, TimeoutError, WebSocketException, ValueError: it failed; `backoff.may_retry` knows more.
        """
        config, receiver = self.config, self._receiver
        options: dict[str, Any] = {
            "compression": None,
            "max_queue": None,
            "ping_interval": None,  # `keepalive` does it, and knows about paused reading
            "open_timeout": config.connect_timeout,
            "close_timeout": CLOSE_TIMEOUT_S,
            "max_size": config.max_message_bytes,
            "proxy": config.proxy,
            "logger": wire_log,
        }
        if config.ssl is not None:
            options["ssl"] = config.ssl
        scanner, ending = receiver.open()
        factory = partial(
            PayloadConnection,
            on_payloads=receiver.take_payloads,
            scanner=scanner,
            on_message=receiver.take_message,
            ending=ending,
            coalesce_s=config.coalesce,
        )
        made = cast("type[ClientConnection]", factory)
        try:
            waited_s = await self._connects.wait()
            if waited_s > 1.0:
                log.info("connect_throttled", exchange=self.exchange.name, waited_s=round(waited_s, 3))
            await ask_first(self.exchange, config, self.url)
            socket = await _Connect(self.url, create_connection=made, **options | config.connect_options)
        except BaseException:
            receiver.close()
            raise
        self.socket = cast("PayloadConnection", socket)
        self._opened_s = steady_s()
        if self._first_frames:
            self.run_task(self._log_in(self._first_frames), "session token")

    def hold_connects(self, seconds: float) -> None:
        """Make all connections of this process to the exchange wait for this long."""
        self._connects.hold(seconds)

    def run_task(self, duty: Coroutine[Any, Any, None], name: str) -> None:
        """Run a duty until the connection ends. An unexpected error drops it and stops everything."""
        self._tasks = [task for task in self._tasks if not task.done()]
        self._tasks.append(asyncio.create_task(self._run_task(duty), name=f"fastbars {self.exchange.name} {name}"))

    # While it is open.

    @property
    def number(self) -> int:
        """Its number among the connections that feed the session."""
        return self._receiver.number

    @property
    def carriage(self) -> Carriage:
        """What it tells of what it carries."""
        assert self.subscriptions.carriage is not None
        return self.subscriptions.carriage

    @property
    def is_open(self) -> bool:
        """Whether the handshake succeeded and neither side has begun to close."""
        return self.socket is not None and self.socket.state is State.OPEN

    @property
    def age_s(self) -> float:
        """How long it has been open."""
        return steady_s() - self._opened_s

    @property
    def latency_s(self) -> float:
        """Round trip of the last answered ping; 0 before the first."""
        return 0.0 if self.socket is None else self.socket.latency

    @property
    def data_messages(self) -> int:
        """Messages received on it that were data and could be read."""
        return self._receiver.data_messages

    @property
    def is_reading(self) -> bool:
        """Whether the socket is read, so that silence means something."""
        return self.socket is not None and self.socket.reading

    @property
    def last_read_was_full(self) -> bool:
        """Whether the last read may have left something behind in the socket; set to False to ask again.

        Setting it ends a pause of `coalesce` too, so that the loop's next polls read the socket.
        """
        return self.socket is not None and self.socket.last_read_was_full

    @last_read_was_full.setter
    def last_read_was_full(self, value: bool) -> None:
        if self.socket is not None:
            self.socket.last_read_was_full = value
            self.socket.end_rest()

    def silent_s(self, steady_ns: int) -> float:
        """For how long no data has come, at `steady_ns` of `time.monotonic_ns`; 0 while reading is paused."""
        if self.socket is None or not self.socket.reading:
            return 0.0
        return (steady_ns - self.socket.last_receive_ns) / 1e9

    def pause(self) -> None:
        """Stop reading the socket."""
        if self.socket is not None:
            self.socket.pause()

    def resume(self) -> None:
        """Read the socket again."""
        if self.socket is not None:
            self.socket.resume()

    async def send(self, payload: bytes) -> None:
        """Send a request once the exchange's limit lets it. Raises WSConnectionError: the connection was lost."""
        waited_s = await self._requests.wait()
        if waited_s > 1.0:
            log.debug("request_throttled", exchange=self.exchange.name, waited_s=round(waited_s, 3))
        try:
            if self.socket is None:
                raise WSConnectionError(f"{self.exchange.name}: not connected")
            await self.socket.send(payload, text=True)
        except ConnectionClosed as error:
            raise WSConnectionError(f"{self.exchange.name}: the connection was lost") from error

    async def ping(self) -> None:
        """Send a protocol ping once the exchange's limit lets it. Raises ConnectionClosed."""
        await self._requests.wait()
        assert self.socket is not None
        await self.socket.ping()
        log.debug("heartbeat", exchange=self.exchange.name, latency_s=self.latency_s)

    async def subscribe_desired(self, on_error: Callable[[SubscriptionError], object]) -> None:
        """Subscribe everything that is desired; what gets no answer is asked for again and again.

        Args:
            on_error: called with each refusal; it does not raise.

        Raises:
            WSConnectionError: the connection was lost.
        """
        for frame in self.exchange.greeting:
            await self.send(frame)
        while True:
            try:
                await self.subscriptions.subscribe(None, self.send)
                return
            except SubscriptionError as error:
                log.error("subscription_refused", exchange=self.exchange.name, error=str(error))
                on_error(error)
            if not self.subscriptions.desired.keys() - self.subscriptions.confirmed:
                return
            if not self.subscriptions.confirmed:
                self.drop("subscriptions were not confirmed")
                return
            await asyncio.sleep(self.config.ack_timeout)

    def log_in(self, reason: str) -> None:
        """Send the session token that the exchange asks for, where there is one, and subscribe again."""
        frames = self._token.frames(reason)
        if frames and self.socket is None:
            self._first_frames = frames  # it came right behind the handshake: `open` has not returned yet
        elif frames:
            self.run_task(self._log_in(frames), "session token")

    async def _log_in(self, frames: Sequence[bytes]) -> None:
        for frame in frames:
            await self.send(frame)
        try:  # requests sent before the token were ignored
            await self.subscriptions.refresh(self.send)
        except SubscriptionError as error:
            log.error("subscription_refused", exchange=self.exchange.name, error=str(error))

    # Ending it.

    def drop(self, reason: str) -> None:
        """Drop the socket without a closing handshake; the task that waits for its end notices."""
        if self.socket is not None and self.dropped_for is None:
            self.dropped_for = reason
            self.socket.abort()

    async def wait_ended(self) -> None:
        """Wait until the socket is closed, by whichever side."""
        assert self.socket is not None
        await self.socket.wait_closed()

    async def end(self, *, wanted: bool = True) -> None:
        """Close it where it is open, and leave nothing running.

        Args:
            wanted: False: it is the user who ends it, or the server has sent everything: nothing is lost by that.
        """
        asked_ns = steady_ns() if self.is_open else None
        if asked_ns is None:
            self._lose(wanted, None)
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        self.subscriptions.connection_lost()
        if self.socket is not None and not self.socket.reading:
            self.socket.abort()  # a closing handshake would wait for an answer that is not read
        try:
            await asyncio.gather(*tasks, return_exceptions=True)
            if self.socket is not None:
                await self.socket.close()
        finally:  # messages are taken until it is closed
            answered = self.socket is not None and self.socket.protocol.close_rcvd is not None
            self._lose(wanted, asked_ns if answered else None)
            self._receiver.close()

    def _lose(self, wanted: bool, asked_ns: int | None) -> None:
        # Bars that a snapshot keeps are for the next connection, or the next process.
        self.carriage.lost(wanted=wanted, kept=not wanted and self.config.state is not None, asked_ns=asked_ns)

    @property
    def ended_normally(self) -> bool:
        """Whether the server closed it with code 1000."""
        code = None if self.socket is None else self.socket.close_code
        return self.dropped_for is None and code == _NORMAL_CLOSURE

    @property
    def why_ended(self) -> str:
        """Why it ended, for logs and errors."""
        assert self.socket is not None
        reason = self.dropped_for or f"closed with code {self.socket.close_code} {self.socket.close_reason or ''}"
        url = without_credentials(self.url)
        return f"{self.exchange.name}: connection to {url} ended: {reason.rstrip()}"

    async def _run_task(self, duty: Coroutine[Any, Any, None]) -> None:
        try:
            await duty
        except (ConnectionClosed, WSConnectionError):
            pass  # the task that waits for its end sees it too
        except Exception as error:  # noqa: BLE001 a task's top: it logs and stops loudly
            log.exception("task_failed", exchange=self.exchange.name)
            self._on_failure(error)
            if self.socket is not None:
                self.socket.abort()
