"""RedundantAdapter: several lines that carry the same trades and feed one session, so that losing one loses nothing.

Each line is an adapter with a supervisor, subscriptions and handovers of its own; where the exchange declares several
hosts, they go to different ones. The session's arbiter lets the first arrival of each trade go on. Trades without ids
would count twice, so that such channels are refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

from fastbars.callbacks import check_callbacks
from fastbars.errors import SubscriptionError, WSConnectionError
from fastbars.exchanges.declaration import Exchange
from fastbars.exchanges.messages import Stream
from fastbars.live.config import StreamConfig
from fastbars.live.connections.backoff import Backoff
from fastbars.live.connections.connection import Line
from fastbars.live.connections.states import ConnectionState
from fastbars.live.connections.supervisor import BaseWebSocketAdapter
from fastbars.live.stats import StreamStats
from fastbars.log import log


class _Member(BaseWebSocketAdapter):
    """One of the lines; the first of them is the RedundantAdapter itself."""

    redundant = True
    index = 0
    group: Sequence[_Member] = ()
    ends_whole = False  # of the first: all lines are being closed, and one was whole

    def url_of(self, channels: Collection[str]) -> str:
        """Where these channels are served for this line: each takes the next of the exchange's hosts."""
        if self._url:
            return self._url
        urls = self.exchange.urls(channels or {self.session.channel})
        return urls[self.index % len(urls)]

    @property
    def is_whole(self) -> bool:
        """Whether it is up and everything desired is subscribed on it."""
        return self._is_up and not self._subscriptions.desired.keys() - self._subscriptions.confirmed

    def _take(self, line: Line) -> None:
        super()._take(line)
        line.number = line.number * self.config.lines + self.index

    def _begin_outage(self) -> None:
        ends_whole = self.group[0].ends_whole
        if not ends_whole and not any(member.is_whole for member in self.group if member is not self):
            super()._begin_outage()


class _Twin(_Member):
    """Any line but the first."""

    def __init__(self, first: RedundantAdapter, index: int, **options: Any) -> None:
        super().__init__(first.exchange, first.config, session=first.session, **options)
        self._silence.never_heard = None  # a trade is heard on any line: the first one reports
        self.index = index
        self._first = first
        self._trying: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Connect, again and again until it succeeds for the first time; from then on it reconnects by itself."""
        self._trying = asyncio.create_task(self._try(), name=f"fastbars {self.exchange.name} line {self.index}")

    async def end(self) -> None:
        """Close it for now and leave nothing running."""
        if self._trying is not None:
            self._trying.cancel()
            await asyncio.wait([self._trying])
        await self.disconnect()

    async def _try(self) -> None:
        backoff = Backoff(self.config.reconnect_delay, self.config.reconnect_max_delay)
        while True:
            try:
                await self.connect()
                return
            except WSConnectionError as error:
                log.warning("line_not_connected", exchange=self.exchange.name, line=self.index, why=str(error))
            await asyncio.sleep(backoff.next_delay())

    async def _run_clock(self) -> None:
        """The first line has the clock."""

    def _fail(self, error: Exception) -> None:
        super()._fail(error)
        self._first._fail(error)


class RedundantAdapter(_Member):
    """`config.lines` connections to one exchange, used as one; arguments as in BaseWebSocketAdapter.

    It is CONNECTED while any of its lines is. The first line's attempts decide about giving up.

    Raises:
        SubscriptionError: trades of the channel carry no ids.
    """

    def __init__(
        self,
        exchange: Exchange,
        config: StreamConfig | None = None,
        *args: Any,
        on_state: Callable[[ConnectionState], object] | None = None,
        **options: Any,
    ) -> None:
        check_callbacks(on_state=on_state)
        config = config or StreamConfig(lines=2)
        channel = options.get("channel") or exchange.default_channel
        if exchange.ids(channel) == "none":
            raise SubscriptionError(
                f"{exchange.name}: {channel}: trades have no ids, several lines would count them twice"
            )
        super().__init__(exchange, config, *args, on_state=self._tell_state, **options)
        self._on_state_of_all = on_state
        self._told_state = ConnectionState.DISCONNECTED
        shared = {name: options[name] for name in ("url", "channel", "once", "on_error") if name in options}
        self._twins = [_Twin(self, index, on_state=self._tell_state, **shared) for index in range(1, config.lines)]
        self.group = (self, *self._twins)
        for twin in self._twins:
            twin.group = self.group

    @property
    def state(self) -> ConnectionState:
        """CONNECTED while any line is, else that of the first line."""
        if any(member._is_up for member in self.group):
            return ConnectionState.CONNECTED
        return self._state

    def stats(self) -> StreamStats:
        """A snapshot of all counters; those of connections over all lines together, latency that of the first."""
        parts = [BaseWebSocketAdapter.stats(member) for member in self.group]
        counters = ("connections", "breaker_trips", "handovers", "resubscriptions")
        sums = {name: sum(getattr(part, name) for part in parts) for name in counters}
        return replace(parts[0], state=self.state, lines=tuple(self.session.lines), **sums)

    async def connect(self) -> None:
        """Open the first line; the others follow by themselves. Raises WSConnectionError: the first attempt failed."""
        await super().connect()
        for twin in self._twins:
            if twin.state is ConnectionState.DISCONNECTED:
                twin.start()

    async def disconnect(self) -> None:
        """Close all lines and wait until nothing of them is left running."""
        # Until the last is shut, it may bring what the others no longer do: the outage begins behind it.
        self.ends_whole |= any(member.is_whole for member in self.group)
        try:
            await asyncio.gather(super().disconnect(), *(twin.end() for twin in self._twins))
        finally:
            if self.ends_whole:
                self.ends_whole = False
                self._begin_outage()

    async def reconnect(self) -> None:
        """Connect the lines anew, one after the other, so that one is always up. Raises WSConnectionError."""
        await super().reconnect()
        for twin in self._twins:
            if twin.is_connected:
                await twin.reconnect()

    async def subscribe_unchecked(self, streams: Sequence[Stream]) -> None:
        """Subscribe on every line.

        Raises:
            SubscriptionError: as one line does. WSConnectionError: every line was lost meanwhile.
        """
        results = await asyncio.gather(
            super().subscribe_unchecked(streams),
            *(twin.subscribe_unchecked(streams) for twin in self._twins),
            return_exceptions=True,
        )
        errors = [error for error in results if error is not None]
        refused = [error for error in errors if isinstance(error, SubscriptionError)]
        if refused or len(errors) == len(results):
            raise (refused or errors)[0]
        for error in errors:
            if not isinstance(error, WSConnectionError):
                raise error

    async def unsubscribe_streams(self, streams: Sequence[Stream]) -> None:
        """End subscriptions on every line. Raises SubscriptionError, WSConnectionError."""
        results = await asyncio.gather(*(twin._let_go(streams) for twin in self._twins), return_exceptions=True)
        await super().unsubscribe_streams(streams)
        for error in results:
            if error is not None and not isinstance(error, WSConnectionError):
                raise error

    def expect(self, channels: Collection[str]) -> None:
        """Connect to where these channels are served, though nothing is subscribed yet."""
        super().expect(channels)
        for twin in self._twins:
            twin.expect(channels)

    def pause_reading(self) -> None:
        """Stop reading all sockets, because a consumer is behind; no clock closes bars meanwhile."""
        super().pause_reading()
        for twin in self._twins:
            twin.pause_reading()

    def resume_reading(self) -> None:
        """Read the sockets again."""
        super().resume_reading()
        for twin in self._twins:
            twin.resume_reading()

    def _read(self) -> list[Line]:
        return [line for member in self.group for line in member._lines]

    def _tell_state(self, _: ConnectionState) -> None:
        state = self.state
        if state is not self._told_state:
            self._told_state = state
            self.session.tell(self._on_state_of_all, state)
