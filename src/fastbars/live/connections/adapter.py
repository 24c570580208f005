"""BaseWebSocketAdapter: the live connection that users hold, a thin facade over its parts.

    Session         makes the bars
    Lines           the connection, or several; each kept up by a Supervisor
    Subscriber      subscribes and unsubscribes
    Upkeep          healing and snapshots

Units: seconds for timers, int64 nanoseconds for event and receive times.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from fastbars.bars import ExchangeBar, OHLCVBar
from fastbars.callbacks import check_callbacks
from fastbars.errors import WebSocketError
from fastbars.events import MarketDataEvent
from fastbars.exchanges.declaration import Exchange
from fastbars.exchanges.messages import RawMessage, Stream, Trade
from fastbars.live.callbacks import Callbacks
from fastbars.live.config import StreamConfig
from fastbars.live.connections.redundancy import Lines
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
    """A live connection to one exchange.

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
    """

    redundant = False  # whether it may have several lines

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
        if self.config.lines > 1 and not self.redundant:
            raise ValueError(f"{exchange.name}: lines={self.config.lines} needs stream() or a RedundantAdapter")
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
        self.lines = Lines(self.session, url, self.upkeep, once=once, on_state=on_state, on_error=on_error)
        self.symbol_check = SymbolCheck(exchange, self.config, url)
        self._subscriber = Subscriber(self.session, self.lines, self.symbol_check)
        if url is None or exchange.streams_in(url):
            self.take_subscribed_only()

    @property
    def state(self) -> ConnectionState:
        """The state of the connection; of several lines, CONNECTED while any is."""
        return self.lines.state

    @property
    def is_connected(self) -> bool:
        """Whether the connection is up."""
        return self.state is ConnectionState.CONNECTED

    @property
    def url(self) -> str:
        """Where it connects to."""
        return self.lines.first.url

    def url_of(self, channels: Collection[str]) -> str:
        """Where these channels are served. Raises SubscriptionError where no one connection serves all."""
        return self.lines.first.route.url(channels)

    def stats(self) -> StreamStats:
        """A snapshot of all counters; those of connections over all lines together, latency that of the first."""
        session, lines = self.session, self.lines.supervisors
        first = self.lines.first
        return StreamStats(
            self.state,
            session.stats,
            session.buffer_stats,
            sum(line.connections for line in lines),
            0.0 if first.pair.current is None else first.pair.current.latency_s,
            session.event_time_ns,
            first.pair.pauses,
            sum(line.retry.breaker.trips for line in lines),
            sum(line.pair.handovers for line in lines),
            sum(line.watchdog.resubscriptions for line in lines),
            tuple(session.lines),
            never_heard=first.watchdog.reported,
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
        await self.lines.connect()

    async def disconnect(self) -> None:
        """Close the connection and wait until nothing of it is left running; `connect` starts it again."""
        await self.lines.disconnect()

    async def close(self) -> None:
        """Close the connection for good and wait until nothing of it is left running."""
        await self.lines.close()

    async def reconnect(self) -> None:
        """Drop the connection, connect again, and wait until it is up; several lines one after the other.

        Raises:
            WSConnectionError: it could not be brought back within `reconnect_attempts`, or was never up.
        """
        await self.lines.reconnect()

    async def wait_closed(self) -> None:
        """Wait until the connection has ended for good.

        Raises:
            WSConnectionError: it was lost and could not be brought back.
        """
        await self.lines.wait_closed()

    def expect(self, channels: Collection[str]) -> None:
        """Connect to where these channels are served, though nothing is subscribed yet."""
        self.lines.expect(channels)

    def pause_reading(self) -> None:
        """Stop reading, because a consumer is slow; the clock closes no bars meanwhile."""
        self.lines.pause()

    def resume_reading(self) -> None:
        """Read again."""
        self.lines.resume()

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

    async def subscribe(self, symbols: Sequence[str], channels: Sequence[str] = ()) -> None:
        """Subscribe, now or as soon as the connection is up, and after every reconnect.

        Args:
            symbols: as the exchange writes them; case is put right where the exchange has one case only.
            channels: names such as "trade" or "kline_1m"; the trade channel that bars are made from if empty.

        Raises:
            SubscriptionError: an unknown channel, too many streams, or symbols that the exchange refused, does not
                list, or has halted; the others are subscribed.
            WSConnectionError: the connection was lost meanwhile; all of them stay desired.
        """
        await self.subscribe_streams(self.streams_of(symbols, channels))

    async def subscribe_streams(self, streams: Sequence[Stream]) -> None:
        """As `subscribe`, given (symbol, channel) pairs."""
        await self._subscriber.subscribe(streams)

    async def subscribe_unchecked(self, streams: Sequence[Stream]) -> None:
        """As `subscribe_streams`, of symbols that the exchange is known to have."""
        await self.lines.subscribe(streams)

    async def unsubscribe(self, symbols: Sequence[str], channels: Sequence[str] = ()) -> None:
        """End subscriptions; the symbols' open bars are issued (PARTIAL, `end`) where no trade channel is left.

        Raises:
            SubscriptionError: the exchange refused. WSConnectionError: the connection was lost meanwhile.
        """
        await self.unsubscribe_streams(self.streams_of(symbols, channels))

    async def unsubscribe_streams(self, streams: Sequence[Stream]) -> None:
        """As `unsubscribe`, given (symbol, channel) pairs."""
        await self._subscriber.unsubscribe(streams)

    def take_subscribed_only(self) -> None:
        """From now on, trades make bars only if their symbols are subscribed to; else that begins with `subscribe`."""
        self.lines.follow()


class RedundantAdapter(BaseWebSocketAdapter):
    """`config.lines` connections to one exchange, used as one; arguments as in BaseWebSocketAdapter.

    It is CONNECTED while any of its lines is. The first line's attempts decide about giving up.

    Raises:
        SubscriptionError: trades of the channel carry no ids.
    """

    redundant = True

    def __init__(self, exchange: Exchange, config: StreamConfig | None = None, *args: Any, **options: Any) -> None:
        super().__init__(exchange, config or StreamConfig(lines=2), *args, **options)
