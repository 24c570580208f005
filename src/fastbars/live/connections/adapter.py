"""BaseWebSocketAdapter: the live connection that users hold, a thin facade over its parts.

    Session         makes the bars: one for all connections
    Connections     the connections, each kept up by a Supervisor
    Subscriber      spreads what is subscribed over them
    Upkeep          healing and snapshots

Units: seconds for timers, int64 nanoseconds for event and receive times.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from fastbars.bars import ExchangeBar, OHLCVBar
from fastbars.callbacks import check_callbacks
from fastbars.clocks import wall_ns
from fastbars.errors import WebSocketError
from fastbars.events import MarketDataEvent
from fastbars.exchanges.declaration import Exchange
from fastbars.exchanges.messages import RawMessage, Stream, Trade
from fastbars.live.callbacks import Callbacks
from fastbars.live.config import StreamConfig
from fastbars.live.connections.connections import Connections
from fastbars.live.connections.states import ConnectionState
from fastbars.live.connections.subscriber import Subscriber
from fastbars.live.connections.symbol_check import SymbolCheck
from fastbars.live.healing.upkeep import Upkeep
from fastbars.live.journal import OpenRecorder
from fastbars.live.session import Session
from fastbars.live.stats import StreamStats
from fastbars.redaction import keep_address_secret
from fastbars.ticks import TickData


class BaseWebSocketAdapter:
    """A live connection to one exchange, or as many as what is subscribed needs: used as one, and with the same bars.

    Several are opened where the exchange's limits ask for them, or addresses differ; and as `config.lines` says, so
    that one can be lost.

    Args:
        exchange: the declaration of the exchange and market.
        config: every setting.
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
        callbacks: instead of the seven functions of a session, on_tick to on_message.

    Attributes:
        session: makes the bars.
        connections: all that there are.
        upkeep: healing and snapshots.

    Raises:
        SubscriptionError: several lines, and trades of the channel carry no ids.
        SnapshotError, OSError: with `config.state`.
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
        on_error: Callable[[WebSocketError], object] | None = None,
        url: str | None = None,
        channel: str | None = None,
        once: bool = False,
        record: OpenRecorder | None = None,
        callbacks: Callbacks | None = None,
    ) -> None:
        check_callbacks(on_state=on_state, on_error=on_error, parse_message=self.parse_message)
        self.exchange = exchange
        self.config = config or StreamConfig()
        own_parser = type(self).parse_message is not BaseWebSocketAdapter.parse_message
        self.session = Session(
            exchange,
            self.config,
            callbacks or Callbacks(on_tick, on_bar, on_bars, on_late, on_exchange_bar, on_event, on_message),
            channel=channel or exchange.default_channel,
            parse_message=self.parse_message if own_parser else None,
            record=record,
        )
        keep_address_secret(url)
        self.url_given = url
        self.upkeep = Upkeep(self.session, url)
        self.connections = Connections(self.session, url, self.upkeep, once=once, on_state=on_state, on_error=on_error)
        self._check = SymbolCheck(exchange, self.config, url, self.session.learn)
        self._subscriber = Subscriber(self.session, self.connections, self._check)
        if url is None or exchange.streams_in(url):
            self.take_subscribed_only()

    @property
    def state(self) -> ConnectionState:
        """Of all connections: CONNECTED while one that is up carries whatever is subscribed."""
        return self.connections.state

    @property
    def is_connected(self) -> bool:
        """Whether everything is connected."""
        return self.state is ConnectionState.CONNECTED

    @property
    def url(self) -> str:
        """Where the first connection goes."""
        return self.connections.first.url

    def stats(self) -> StreamStats:
        """A snapshot of all counters, of all connections together; latency is that of the slowest."""
        session, counts = self.session, self.connections.counts
        return StreamStats(
            self.state,
            session.stats,
            session.buffer_stats,
            counts.connections,
            max((connection.latency_s for connection in self.connections.up), default=0.0),
            session.event_time_ns,
            self.connections.pauses,
            counts.breaker_trips,
            counts.handovers,
            counts.resubscriptions,
            tuple(session.lines),
            never_heard=counts.never_heard,
            symbols=len(session.symbols),
            **session.timing(),
        )

    def parse_message(self, message: dict[str, Any]) -> TickData | None:
        """The trade in one decoded message, or None if it is not a trade; override it to read messages your own way.

        An override is called for every message and replaces the exchange's own reading of trades: slower, and
        one trade a message. Raises ParseError or ValueError for a message that is broken.
        """
        for item in self.exchange.read(message):
            if isinstance(item, Trade):
                return item.to_tick(negative_prices=self.exchange.negative_prices)
        return None

    # Connecting.

    async def connect(self) -> None:
        """Connect, and stay connected until `disconnect`. Where it is connected already, nothing happens.

        Of several lines the first is waited for; the others follow by themselves.

        Raises:
            WSConnectionError: the first attempt failed, or `close` was called.
        """
        self.session.notifier.in_next_turn = asyncio.get_running_loop().call_soon
        await self.connections.connect()

    async def disconnect(self) -> None:
        """Close every connection and wait until nothing is left running; `connect` starts them again."""
        self.session.notifier.finish()
        await self.connections.disconnect()
        self.session.notifier.in_next_turn = None
        self.session.notifier.finish()

    async def close(self) -> None:
        """Close every connection for good and wait until nothing is left running."""
        self.session.notifier.finish()
        await self.connections.close()
        self.session.notifier.in_next_turn = None
        self.session.notifier.finish()

    async def reconnect(self) -> None:
        """Drop every connection, connect again, and wait until they are up; several lines one after the other.

        Raises:
            WSConnectionError: one could not be brought back within `reconnect_attempts`, or was never up.
        """
        await self.connections.reconnect()

    async def wait_closed(self) -> None:
        """Wait until the connections have ended for good.

        Raises:
            WSConnectionError: one was lost and could not be brought back.
        """
        await self.connections.wait_closed()

    def pause_reading(self) -> None:
        """Stop reading all sockets, because a consumer is slow; the clock closes no bars meanwhile."""
        self.connections.pause()

    def resume_reading(self) -> None:
        """Read them again."""
        self.connections.resume()

    def flush(self, *, unsubscribed: bool = False) -> None:
        """Issue the open bars (PARTIAL, `end`): all, or those of symbols that are not subscribed, and were restored.

        Where a snapshot keeps them for a restart (StreamConfig.state), those of subscribed symbols stay open.
        """
        if not unsubscribed:
            self.session.flush(wall_ns())
            return
        for symbol in set(self.session.symbols) - self.active_subscriptions.keys():
            self.session.flush(wall_ns(), symbol)

    # Subscribing.

    @property
    def active_subscriptions(self) -> dict[str, set[str]]:
        """Symbol -> channels that are desired; they are subscribed again after a reconnect."""
        return self._subscriber.active

    @property
    def streams(self) -> list[Stream]:
        """The desired streams, as (symbol, channel) pairs."""
        return self._subscriber.streams

    def streams_of(self, symbols: Sequence[str], channels: Sequence[str] = ()) -> list[Stream]:
        """Symbols and channels as pairs; the channel that bars are made from where none is given.

        Raises:
            SubscriptionError, TypeError: as `Exchange.exact_symbols`.
        """
        return self._subscriber.streams_of(symbols, channels)

    async def resolve(self, symbols: Sequence[str]) -> list[str]:
        """The symbols as the exchange writes them; of aliases that follow no rule, its list of instruments tells them.

        Raises:
            SubscriptionError, TypeError: as `Exchange.exact_symbols`; or an alias of several instruments.
        """
        return await self._check.resolved(self.exchange.exact_symbols(symbols))

    async def subscribe(self, symbols: Sequence[str], channels: Sequence[str] = ()) -> None:
        """Subscribe, now or as soon as the connections are up, and after every reconnect; on as many as it takes.

        Args:
            symbols: as the exchange writes them; case is put right where the exchange has one case only.
            channels: names such as "trade" or "kline_1m"; the trade channel that bars are made from if empty.

        Raises:
            SubscriptionError: an unknown channel, more than the exchange's limits allow, or symbols that it refused,
                does not list, or has halted; the others are subscribed.
            WSConnectionError: a connection was lost meanwhile, and what it carries stays desired; or could not be
                opened.
        """
        await self.subscribe_streams(self.streams_of(await self.resolve(symbols), channels))

    async def subscribe_streams(self, streams: Sequence[Stream]) -> None:
        """As `subscribe`, given (symbol, channel) pairs."""
        await self._subscriber.subscribe(streams)

    async def unsubscribe(self, symbols: Sequence[str], channels: Sequence[str] = ()) -> None:
        """End subscriptions; the symbols' open bars are issued (PARTIAL, `end`) where no trade channel is left.

        Raises:
            SubscriptionError: the exchange refused. WSConnectionError: a connection was lost meanwhile.
        """
        await self.unsubscribe_streams(self.streams_of(await self.resolve(symbols), channels))

    async def unsubscribe_streams(self, streams: Sequence[Stream]) -> None:
        """As `unsubscribe`, given (symbol, channel) pairs."""
        await self._subscriber.unsubscribe(streams)

    @property
    def carried(self) -> list[list[Stream]]:
        """The streams that each connection carries; where there are several lines, those of the first one."""
        return [list(each.subscriptions.desired) for each in self.connections.of_line(0)]

    async def move_streams(self, streams: Sequence[Stream], to: int | None = None) -> None:
        """Carry (symbol, channel) pairs on another connection from now on, as far as they are subscribed.

        Where trade ids tell trades apart both carry them for `handover_overlap`, and no trade is missed; where they
        do not, or that is 0, the subscription ends first, and bars say that trades may be missing.

        Args:
            to: which connection, by its place in `carried`; None: another one that has room, or a new one.

        Raises:
            SubscriptionError: that connection cannot take them, or the exchange refused; those stay where they are.
            WSConnectionError: a connection was lost meanwhile, or could not be opened.
            ValueError: there is no such connection.
        """
        await self._subscriber.move(streams, to)

    def take_subscribed_only(self) -> None:
        """From now on, trades make bars only if their symbols are subscribed to; else that begins with `subscribe`."""
        self.connections.follow()
