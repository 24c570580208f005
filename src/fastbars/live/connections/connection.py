"""Line: one socket to an exchange, from the handshake to the close; its requests, its pings, its silence.

An adapter has one line, and for a short while two: when a connection is replaced before the exchange ends it,
both carry the same trades, as redundant lines do, and the ledger drops what comes twice.

Units: seconds on the loop's clock.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, cast

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from fastbars.errors import RestError, SubscriptionError, WSConnectionError
from fastbars.exchanges.declaration import Exchange
from fastbars.live.config import StreamConfig
from fastbars.live.connections.limits import Throttle, shared_throttle
from fastbars.live.connections.subscriptions import Subscriptions
from fastbars.live.intake import Feed, Intake
from fastbars.live.rest import RestClient
from fastbars.live.secrets import wire_log, without_credentials
from fastbars.log import log
from fastbars.wire import PayloadConnection
from fastbars.wire.connection import CLOSE_TIMEOUT_S
from fastbars.wire.scanner import TradeScanner

_NORMAL_CLOSURE = 1000
_HTTP_OK = 200
_FIRST_TIMEOUT_S = 5.0  # for what is asked before connecting
_LOGIN_EVERY_S = 5.0
_REFRESH = 0.8  # of its lifetime, a subscription is made again
_CONNECTS = (60, 60.0)  # new connections a minute where the exchange names no limit


async def have_been_read(lines: Sequence[Line]) -> bool:
    """Let what has arrived be read; False: a read was full, and may have left something behind."""
    for line in lines:
        line.last_read_was_full = False
    await asyncio.sleep(0)  # the loop polls its sockets between these two turns
    await asyncio.sleep(0)
    return not any(line.last_read_was_full for line in lines)


class _Connect(connect):
    # A redirect's target would get the headers, keys among them, past the limit of new connections.
    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


class Line:
    """One socket to an exchange.

    Args:
        exchange, config, url: where to connect, and how.
        subscriptions: what is subscribed on it.
        on_payloads: called with the line and the messages of each wakeup.
        on_message: called with each message that the scanner does not take, if there is a scanner; with the time of
            the wall clock and of a steady one, ns, and the number of the line.
        scanner: takes the session's trade messages before anybody else.
        intake: ends wakeups of which the scanner took every message, without telling anybody.
        on_failure: called with an error of our own, which nobody expected; after one of these two has raised, no
            message follows.

    Attributes:
        number: of the connections of its adapter, from 0.
        connection: None before `open`.
        opened_s: when the handshake had succeeded.
        dropped_for: why this side dropped it; None while it has not.
        retiring: set when the exchange has announced that it is about to close it.
        replaced: another line has taken its place.
    """

    def __init__(
        self,
        exchange: Exchange,
        config: StreamConfig,
        url: str,
        subscriptions: Subscriptions,
        on_payloads: Callable[[Line, Sequence[bytes]], object],
        on_failure: Callable[[Exception], object],
        on_message: Callable[[bytes, int, int, int], object] | None = None,
        scanner: TradeScanner | None = None,
        intake: Intake | None = None,
    ) -> None:
        self.exchange = exchange
        self.config = config
        self.url = url
        self.subscriptions = subscriptions
        self.connection: PayloadConnection | None = None
        self.number = 0
        self.opened_s = 0.0
        self.dropped_for: str | None = None
        self.retiring = asyncio.Event()
        self.replaced = False
        self._on_payloads = on_payloads
        self._on_failure = on_failure
        self._on_message = on_message
        self._scanner = scanner
        self._feed = None if intake is None else Feed(intake, self._fail)
        self._told_messages = 0
        self._failed = False
        self._asked_for_token_s = float("-inf")
        self._first_frames: list[bytes] = []
        self._duties: list[asyncio.Task[None]] = []
        limits = exchange.limits
        # One place is left for the pongs that `websockets` sends by itself, which some exchanges count too.
        requests = limits.requests_per_second - (1 if limits.requests_per_second >= 4 else 0)
        shared = limits.requests_shared
        self._requests = (
            shared_throttle("requests", exchange.name, url, requests, 1.0) if shared else Throttle(requests)
        )
        self._connects = shared_throttle("connects", exchange.name, url, *(limits.connects or _CONNECTS))

    async def open(self) -> None:
        """Connect, as soon as the exchange's limit of new connections lets it.

        Raises:
            OSError, TimeoutError, WebSocketException, ValueError: it failed; `backoff.may_retry` knows more.
        """
        config = self.config
        options: dict[str, Any] = {
            "compression": None,
            "max_queue": None,
            "ping_interval": None,  # the heartbeat below does it, and knows about paused reading
            "open_timeout": config.connect_timeout,
            "close_timeout": CLOSE_TIMEOUT_S,
            "max_size": config.max_message_bytes,
            "proxy": config.proxy,
            "logger": wire_log,
        }
        if config.ssl is not None:
            options["ssl"] = config.ssl
        factory = partial(
            PayloadConnection,
            on_payloads=partial(self._digest, self._on_payloads, self),
            scanner=self._scanner,
            on_message=None if self._on_message is None else self._digest_one,
            ending=self._feed,
            coalesce_s=config.coalesce,
        )
        made = cast("type[ClientConnection]", factory)
        waited_s = await self._connects.wait()
        if waited_s > 1.0:
            log.info("connect_throttled", exchange=self.exchange.name, waited_s=round(waited_s, 3))
        for url in self.exchange.asked_first(self.url, config.rest_url):
            await self._ask_first(url)
        connection = await _Connect(self.url, create_connection=made, **options | config.connect_options)
        self.connection = cast("PayloadConnection", connection)
        self.opened_s = asyncio.get_running_loop().time()

    def hold_connects(self, seconds: float) -> None:
        """No connection of this process to the exchange is tried for so long."""
        self._connects.hold(seconds)

    def start(self) -> None:
        """Begin its duties: pings."""
        if self._first_frames:
            self.attend(self._log_in(self._first_frames), "session token")
        self.attend(self._beat(), "heartbeat")
        if self.exchange.keepalive.payload is not None:
            self.attend(self._ping(self.exchange.keepalive.payload), "application ping")
        if self.exchange.limits.subscription_lifetime_s is not None:
            self.attend(self._refresh(self.exchange.limits.subscription_lifetime_s), "refresh")

    def attend(self, duty: Coroutine[Any, Any, None], name: str) -> None:
        """Run a duty until the line ends. An error that nobody expected drops the line and stops everything."""
        self._duties = [task for task in self._duties if not task.done()]
        self._duties.append(asyncio.create_task(self._attend(duty), name=f"fastbars {self.exchange.name} {name}"))

    @property
    def is_open(self) -> bool:
        """Whether the handshake succeeded and neither side has begun to close."""
        return self.connection is not None and self.connection.state is State.OPEN

    @property
    def age_s(self) -> float:
        """How long it has been open."""
        return asyncio.get_running_loop().time() - self.opened_s

    @property
    def data_messages(self) -> int:
        """Messages received on it that were data and could be read."""
        return self._told_messages + (0 if self._feed is None else self._feed.messages)

    def note_data(self, messages: int) -> None:
        """So many messages were data, beside those of quiet wakeups; from here on there can be such."""
        self._told_messages += messages
        if self._feed is not None:
            self._feed.is_proven = True

    @property
    def is_reading(self) -> bool:
        """Whether the socket is read, so that silence means something."""
        return self.connection is not None and self.connection.reading

    @property
    def last_read_was_full(self) -> bool:
        """Whether the last read may have left something behind in the socket; set it to False to ask anew.

        That ends a rest too, so that the loop's next polls tell.
        """
        return self.connection is not None and self.connection.last_read_was_full

    @last_read_was_full.setter
    def last_read_was_full(self, value: bool) -> None:
        if self.connection is not None:
            self.connection.last_read_was_full = value
            self.connection.end_rest()

    def pause(self) -> None:
        """Stop reading the socket."""
        if self.connection is not None:
            self.connection.pause()

    def resume(self) -> None:
        """Read the socket again."""
        if self.connection is not None:
            self.connection.resume()

    async def wait_due(self) -> None:
        """Wait until it should be replaced: the exchange's lifetime of a connection is nearly over, or a notice came.

        Between a twentieth and a tenth of the lifetime is left, and time for the overlap; drawn, so that the
        connections of a pool are not replaced all at once.
        """
        config = self.config
        lifetime_s = config.connection_lifetime or self.exchange.limits.lifetime_s
        if lifetime_s is None:
            await self.retiring.wait()
            return
        due_s = lifetime_s * random.uniform(0.9, 0.95)  # noqa: S311 no cryptography
        due_s = max(due_s - config.handover_overlap, lifetime_s / 2)
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, due_s - self.age_s)):
                await self.retiring.wait()

    async def wait_ended(self) -> None:
        """Wait until the socket is closed, by whichever side."""
        assert self.connection is not None
        await self.connection.wait_closed()

    async def end(self) -> None:
        """Close it where it is open, and leave nothing running."""
        duties, self._duties = self._duties, []
        for task in duties:
            task.cancel()
        self.subscriptions.connection_lost()
        connection = self.connection
        if connection is not None and not connection.reading:
            connection.abort()  # a closing handshake would wait for an answer that is not read
        await asyncio.gather(*duties, return_exceptions=True)
        if connection is not None:
            await connection.close()

    async def restore(self, on_error: Callable[[SubscriptionError], object]) -> None:
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
        """The exchange wants the session token: send it, where there is one, and subscribe again."""
        now_s = asyncio.get_running_loop().time()
        if now_s - self._asked_for_token_s < _LOGIN_EVERY_S:
            return  # it is on its way
        self._asked_for_token_s = now_s
        token = self.config.session_token
        if token is None:
            log.warning("session_token_wanted", exchange=self.exchange.name, reason=reason)
            return
        frames = self.exchange.login(token)
        if self.connection is None:  # it came right behind the handshake
            self._first_frames = frames
        else:
            self.attend(self._log_in(frames), "session token")

    async def _log_in(self, frames: Sequence[bytes]) -> None:
        for frame in frames:
            await self.send(frame)
        try:  # what was asked for before that was not heard
            await self.subscriptions.refresh(self.send)
        except SubscriptionError as error:
            log.error("subscription_refused", exchange=self.exchange.name, error=str(error))

    async def _ask_first(self, url: str) -> None:
        # Where it cannot be asked the stream begins all the same: somebody else may have asked.
        config = self.config
        ssl = config.ssl or config.connect_options.get("ssl")
        try:
            async with RestClient(_FIRST_TIMEOUT_S, ssl=ssl, proxy=config.proxy) as client:
                answer = await client(url, {}, {})
            why = None if answer.status == _HTTP_OK else f"HTTP {answer.status} {answer.body[:200]!r}"
        except RestError as error:
            why = str(error)
        if why is not None:
            why = why.replace(url, without_credentials(url))
            log.warning("not_asked_first", exchange=self.exchange.name, url=without_credentials(url), why=why)

    async def send(self, payload: bytes) -> None:
        """Send a request once the exchange's limit lets it. Raises WSConnectionError: the connection was lost."""
        waited_s = await self._requests.wait()
        if waited_s > 1.0:
            log.debug("request_throttled", exchange=self.exchange.name, waited_s=round(waited_s, 3))
        try:
            if self.connection is None:
                raise WSConnectionError(f"{self.exchange.name}: not connected")
            await self.connection.send(payload, text=True)
        except ConnectionClosed as error:
            raise WSConnectionError(f"{self.exchange.name}: the connection was lost") from error

    def drop(self, reason: str) -> None:
        """Drop the socket without a closing handshake; whoever waits for its end notices."""
        if self.connection is not None and self.dropped_for is None:
            self.dropped_for = reason
            self.connection.abort()

    @property
    def ended_normally(self) -> bool:
        """Whether the server closed it with code 1000."""
        code = None if self.connection is None else self.connection.close_code
        return self.dropped_for is None and code == _NORMAL_CLOSURE

    @property
    def why_ended(self) -> str:
        """Why it ended, for logs and errors."""
        connection = self.connection
        assert connection is not None
        reason = self.dropped_for or f"closed with code {connection.close_code} {connection.close_reason or ''}"
        url = without_credentials(self.url)
        return f"{self.exchange.name}: connection to {url} ended: {reason.rstrip()}"

    def _digest_one(self, payload: bytes) -> None:
        assert self._on_message is not None
        self._digest(self._on_message, payload, time.time_ns(), time.monotonic_ns(), self.number)

    def _digest(self, reader: Callable[..., object], *arguments: object) -> None:
        if self._failed:
            return
        try:
            reader(*arguments)
        except Exception as error:  # noqa: BLE001 nothing above it could: it logs and stops loudly
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self._failed = True
        log.exception("session_failed", exchange=self.exchange.name)
        self._on_failure(error)

    async def _attend(self, duty: Coroutine[Any, Any, None]) -> None:
        try:
            await duty
        except (ConnectionClosed, WSConnectionError):
            pass  # who waits for the line's end sees it too
        except Exception as error:  # noqa: BLE001 a task's top: it logs and stops loudly
            log.exception("attendant_failed", exchange=self.exchange.name)
            self._on_failure(error)
            if self.connection is not None:
                self.connection.abort()

    async def _beat(self) -> None:
        # Pings, and gives the connection up when not a byte has come for too long.
        connection = self.connection
        assert connection is not None
        while True:
            silent = (time.monotonic_ns() - connection.last_receive_ns) / 1e9 if connection.reading else 0.0
            left = self.config.heartbeat_timeout - silent
            if left <= 0:
                self.drop(f"not a byte for {silent:.1f} s")
                return
            await asyncio.sleep(min(self.config.heartbeat_interval, left))
            await self._requests.wait()
            await connection.ping()
            log.debug("heartbeat", exchange=self.exchange.name, latency_s=connection.latency)

    async def _refresh(self, lifetime_s: float) -> None:
        # The exchange forgets subscriptions that are so old.
        while True:
            await asyncio.sleep(lifetime_s * _REFRESH)
            try:
                await self.subscriptions.refresh(self.send)
            except SubscriptionError as error:
                log.error("subscription_refused", exchange=self.exchange.name, error=str(error))
            log.debug("subscriptions_refreshed", exchange=self.exchange.name)

    async def _ping(self, payload: bytes) -> None:
        interval_s = self.config.application_ping_interval or self.exchange.keepalive.interval_s
        while True:
            await asyncio.sleep(interval_s)
            await self.send(payload)
            log.debug("application_ping", exchange=self.exchange.name)
