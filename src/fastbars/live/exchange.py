"""What an exchange is to the rest: a declaration and pure functions, and the messages they speak of.

An exchange file says where to connect, how to subscribe, and what a message means. Sockets, timers, scales and
batches are nowhere in it. Units: times int64 nanoseconds since the Unix epoch, UTC; prices and sizes as the
exchange wrote them, in text; durations in seconds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

import orjson

from fastbars.bars import BarSpec, ExchangeBar
from fastbars.buffer import Ids
from fastbars.errors import ParseError, SubscriptionError
from fastbars.events import Quote, Ticker
from fastbars.ticks import TickData, TickSide, to_datetime, to_nanoseconds
from fastbars.wire.fields import TradeFields

if TYPE_CHECKING:
    from fastbars.live.history import History

Stream = tuple[str, str]  # symbol, channel


class Trade(NamedTuple):
    """One trade, or several that the exchange reports as one, in the exchange's own text."""

    channel: str
    symbol: str
    time_ns: int
    price: str
    size: str
    side: int  # 1 the taker bought, -1 the taker sold, 0 unknown
    first_id: int | None = None
    last_id: int | None = None
    trade_count: int = 1
    sequence: int | None = None  # where the exchange numbers messages apart from trades
    key: str | None = None  # where ids are "unique" only: what tells it from every other of its symbol and time

    @property
    def row(self) -> tuple[Any, ...]:
        """The trade as `TickBatch.append` takes it."""
        return self[1:10]

    def to_tick(self) -> TickData:
        """The trade as an object with Decimal fields."""
        side = TickSide.of(self.side)
        return TickData(
            self.symbol, self.time_ns, self.price, self.size, side, self.first_id, self.last_id, self.trade_count
        )


# All eleven fields in one tuple: a third of what the named tuple's own constructor costs, once a trade.
make_trade = cast("Callable[[tuple[Any, ...]], Trade]", partial(tuple.__new__, Trade))


class Ack(NamedTuple):
    """The exchange confirmed a request, or some of its streams.

    It names a request (`request_id` alone: all streams of it), streams of a request (both), or streams alone: then
    it answers whatever request of that kind is under way for them. An ack may come for streams that nobody asked
    about just now; it belongs to nothing then.

    Attributes:
        request_id: as given to `subscribe` or `unsubscribe`; None where the exchange does not repeat it.
        streams: those confirmed; empty where the request is named and stands for all of its own.
        ended: it confirms an unsubscribe.
        whole: `streams` are all that the connection now holds on the channels of `streams`, or on all channels
            where it is empty: a subscribe is confirmed for those in it, an unsubscribe for those not in it.
    """

    request_id: int | None = None
    streams: tuple[Stream, ...] = ()
    ended: bool = False
    whole: bool = False


class Refusal(NamedTuple):
    """The exchange refused a request, or some of its streams, or a message that it could not relate to one.

    Attributes:
        request_id: as in Ack.
        reason: in the exchange's words.
        streams: those refused, where it names them; the others of the request are not concerned. A channel of ""
            stands for every channel of the symbol that the request asks for. Where it names
            neither a request nor streams, it belongs to the oldest request under way if the exchange's `acks` are
            "streams", and to none otherwise.
    """

    request_id: int | None
    reason: str
    streams: tuple[Stream, ...] = ()


class Notice(NamedTuple):
    """The exchange announces that it is about to close the connection."""

    reason: str


class Beat(NamedTuple):
    """A sign of life: the exchange's own heartbeat (`answers` False), or its answer to our application ping."""

    answers: bool = False


class RawMessage(NamedTuple):
    """A message that is none of the others, as the exchange sent it: an order book, an account's order, ...

    Attributes:
        kind: the exchange's word for it; "unknown" where the exchange file does not know it.
        symbol: as the exchange writes it; None where the message is of no one symbol.
        message: the decoded JSON of the whole message.
    """

    kind: str
    symbol: str | None
    message: Any


Message = Trade | ExchangeBar | Quote | Ticker | Ack | Refusal | Notice | Beat | RawMessage


def decimal_of(text: object) -> Decimal:
    """A number that the exchange wrote as text. Raises ParseError for anything else, floats above all."""
    if not isinstance(text, str):
        raise ParseError(f"{text!r} is not a number in text")
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise ParseError(f"{text!r} is not a number") from None
    if not number.is_finite():
        raise ParseError(f"{text!r} is not a finite number")
    return number


def by_channel(streams: Iterable[Stream]) -> dict[str, list[str]]:
    """Channel -> its symbols, for exchanges whose requests name one channel."""
    symbols: dict[str, list[str]] = {}
    for symbol, channel in streams:
        symbols.setdefault(channel, []).append(symbol)
    return symbols


def decimals_of(fields: Mapping[str, Any], *names: str) -> list[Decimal]:
    """Several numbers of a message. Raises ParseError, or KeyError where one is missing."""
    return [decimal_of(fields[name]) for name in names]


def make_quote(
    symbol: str, bid: Sequence[object] | None, ask: Sequence[object] | None, event_time_ns: int | None
) -> Quote:
    """The best bid and ask, each as (price, size, ...) in text; None or empty where there is none."""
    bid_price, bid_size = map(decimal_of, bid[:2]) if bid else (None, None)
    ask_price, ask_size = map(decimal_of, ask[:2]) if ask else (None, None)
    return Quote(symbol, bid_price, bid_size, ask_price, ask_size, event_time_ns)


def nanoseconds_of(milliseconds: object) -> int:
    """A time in ms, bare or in text, as ns. Raises ParseError, ValueError for anything else."""
    if isinstance(milliseconds, str):
        milliseconds = int(milliseconds)
    if not isinstance(milliseconds, int):
        raise ParseError(f"{milliseconds!r} is not a time in ms")
    return milliseconds * 1_000_000


def time_of(text: str) -> int:
    """Nanoseconds of an RFC 3339 time such as "2026-08-09T21:05:48.251397169Z", every digit kept."""
    whole, _, fraction = text.removesuffix("Z").partition(".")
    if not text.endswith("Z") or (fraction and not (fraction.isascii() and fraction.isdigit() and len(fraction) <= 9)):
        raise ParseError(f"{text!r} is not a time in UTC")
    seconds = datetime.fromisoformat(whole).replace(tzinfo=UTC)
    return to_nanoseconds(seconds) + int(fraction.ljust(9, "0"))


def make_candle(
    symbol: str,
    spec: str,
    open_time_ns: int,
    prices: Iterable[object],
    volume: object,
    *,
    quote_volume: object = None,
    trade_count: int | None = None,
    is_closed: bool | None = None,
    event_time_ns: int | None = None,
) -> ExchangeBar:
    """An exchange's candle of which open time and spec are known.

    Args:
        symbol, spec: the spec in our words, such as "1m".
        open_time_ns: ns since the epoch.
        prices: open, high, low, close, in text.
        volume, quote_volume: in text.
        trade_count, is_closed, event_time_ns: None where the exchange does not say.

    Raises:
        ParseError: a number is none. SpecError (a ValueError): the spec is none.
    """
    open_, high, low, close = map(decimal_of, prices)
    kind, step, _ = BarSpec.parse(spec).rule
    open_time = to_datetime(open_time_ns)
    close_time = to_datetime(open_time_ns + step)
    if kind == "months":
        months = open_time.year * 12 + open_time.month - 1 + step
        close_time = open_time.replace(year=months // 12, month=months % 12 + 1)
    quote = None if quote_volume is None else decimal_of(quote_volume)
    return ExchangeBar(
        symbol, spec, open_time, close_time, open_, high, low, close, decimal_of(volume), quote, trade_count,
        None, None, None, None, is_closed, event_time_ns,
    )  # fmt: skip


class Deltas:
    """The latest value of each field of messages that carry only what has changed."""

    def __init__(self) -> None:
        self._fields: dict[str, dict[str, Any]] = {}

    def merge(self, key: str, changed: Mapping[str, Any], *, anew: bool = False) -> dict[str, Any]:
        """All fields known under this key once those changed are put in; `anew` forgets the earlier ones first."""
        fields = self._fields.setdefault(key, {})
        if anew:
            fields.clear()
        fields.update(changed)
        return fields


@dataclass(frozen=True, slots=True)
class Limits:
    """What the exchange allows. None: it names no such limit.

    Attributes:
        streams_per_connection: streams that one connection may hold.
        streams_per_request: streams that one call of `subscribe` or `unsubscribe` is given at most. (They may
            become several frames, each of which counts for the next limits.)
        requests_per_second: frames that the client may send in a second, application pings included.
        requests_shared: that limit counts all connections from one address together, not each by itself.
        request_bytes: size of one frame that the client sends.
        requests_per_hour: subscribe and unsubscribe frames in an hour, a connection.
        connects: (how many, in how many seconds) new connections from one address.
        connections: open at the same time from one address.
        streams: held by all connections from one address together.
        lifetime_s: age at which the exchange cuts a connection.
        subscription_lifetime_s: age at which it ends a subscription by itself, so that it must be asked for again.
    """

    streams_per_connection: int
    streams_per_request: int
    requests_per_second: float
    request_bytes: int | None = None
    requests_per_hour: int | None = None
    connects: tuple[int, float] | None = None
    connections: int | None = None
    streams: int | None = None
    lifetime_s: float | None = None
    subscription_lifetime_s: float | None = None
    requests_shared: bool = False


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """How a connection is kept alive, and how its death shows; protocol pings and pongs are beside this.

    Attributes:
        payload: the application ping that the client must send, as a text frame; None: none is asked for.
        interval_s: how often.
        silence_s: on a live connection something comes at least this often, be it a protocol ping, the exchange's
            heartbeat, or the answer to `payload`; None: that is not known.
    """

    payload: bytes | None = None
    interval_s: float = 0.0
    silence_s: float | None = None


PROTOCOL_PINGS_ONLY = Heartbeat()


class Exchange(ABC):
    """A venue and market, declared.

    Attributes:
        name: "binance usdm", as errors and logs name it.
        docs: where the exchange documents its messages.
        routes: URL -> the keys of `channels` that it serves, in the order of preference.
        channels: every channel that can be subscribed to; one that ends with "*" stands for all that begin with
            the rest ("kline_*"). Of trade channels the value says what their ids prove, of others it is None.
        default_channel: the trade channel that bars are made from unless one is asked for.
        limits: what the exchange allows.
        heartbeat: how a connection is kept alive.
        greeting: frames that the client sends first on each connection, before it subscribes to anything. They
            count for the limits; an ack of them belongs to no request.
        acks: what an ack names: "request" (its id, perhaps with streams), "streams" (these alone), or "none": there
            is no ack at all, and a request is granted once it is sent.
        candle_open: what the open of the exchange's candles is. "previous close" is folded into high and low too,
            so that such a candle differs from a bar where the first trade has another price.
        candles: bar spec -> channel of the exchange's own candles of it; those that it has, cut like ours.
        histories: trade channel -> what the REST API serves of its trades, in the order of preference; channels
            that are not in it cannot be healed.
    """

    name: str
    channels: Mapping[str, Ids | None]
    default_channel: str
    limits: Limits
    routes: Mapping[str, Sequence[str]]
    docs: str = ""
    heartbeat: Heartbeat = PROTOCOL_PINGS_ONLY
    greeting: tuple[bytes, ...] = ()
    acks: Literal["request", "streams", "none"] = "request"
    candle_open: Literal["first trade", "previous close"] = "first trade"
    candles: Mapping[str, str] = MappingProxyType({})
    histories: Mapping[str, Sequence[History]] = MappingProxyType({})

    def url(self, channels: Iterable[str]) -> str:
        """Where these channels are served. Raises SubscriptionError where no one connection serves all."""
        return self.urls(channels)[0]

    def urls(self, channels: Iterable[str]) -> list[str]:
        """Everywhere that these channels are served, in the order of preference; redundant lines go to several."""
        asked = {self.declared(channel) for channel in channels} or {self.default_channel}
        urls = [url for url, served in self.routes.items() if asked <= set(served)]
        if not urls:
            raise SubscriptionError(f"{self.name}: no one connection serves {sorted(asked)}; routes are {self.routes}")
        return urls

    @abstractmethod
    def subscribe(self, streams: Sequence[Stream], request_id: int) -> list[bytes]:
        """The text frames that subscribe to these (symbol, channel) pairs, at most `streams_per_request`.

        Every frame carries `request_id`, where the exchange's requests have ids.
        """

    @abstractmethod
    def unsubscribe(self, streams: Sequence[Stream], request_id: int) -> list[bytes]:
        """The text frames that end these (symbol, channel) pairs."""

    @abstractmethod
    def parse(self, message: Any) -> Iterable[Message]:
        """What a decoded message means, in order; empty where its kind is unknown.

        The trades of one message come out in time order, whatever the exchange's order is.

        Raises:
            ParseError, LookupError, TypeError, ValueError, AttributeError: it claims to be of a known kind and is not.
        """

    def parser(self) -> Callable[[Any], Iterable[Message]]:
        """A `parse` for one session: the exchange's own, or, where messages carry changes only, one that remembers."""
        return self.parse

    @abstractmethod
    def event_time_ns(self, message: Any) -> int | None:
        """When the exchange sent this message, ns; None where it does not say."""

    def fields(self, channel: str) -> TradeFields | None:  # noqa: ARG002
        """Where the trades of a trade channel stand, for the compiled scanner; None: `parse` alone reads them."""
        return None

    def loads(self, payload: bytes) -> Any:
        """Decode a payload. Numbers that matter must not become floats. Raises ValueError: it is not JSON."""
        return orjson.loads(payload)

    def contract_size(self, symbol: str) -> Decimal | None:  # noqa: ARG002
        """Quote units a contract on an inverse market; None on all others."""
        return None

    def ids(self, channel: str) -> Ids:
        """What the trade ids of a trade channel prove."""
        ids = self.channels.get(channel)
        if ids is None:
            raise SubscriptionError(f"{self.name}: {channel!r} is no trade channel; those are {self.trade_channels}")
        return ids

    def history(self, channel: str, *, has_key: bool) -> History | None:
        """The REST history that heals a channel: the best one that needs no key, or for which there is one."""
        served = self.histories.get(channel, ())
        usable = [one for one in served if has_key or one.key_header is None]
        return next(iter((*usable, *served)), None)

    @property
    def trade_channels(self) -> list[str]:
        """The channels that carry trades."""
        return [name for name, ids in self.channels.items() if ids is not None]

    def declared(self, channel: str) -> str:
        """The key of `channels` that a channel falls under. Raises SubscriptionError where there is none."""
        if channel in self.channels and not channel.endswith("*"):
            return channel
        for name in self.channels:
            if name.endswith("*") and channel.startswith(name[:-1]) and channel[len(name) - 1 :] not in ("", "*"):
                return name
        raise SubscriptionError(f"{self.name}: unknown channel {channel!r}; known are {list(self.channels)}")

    def check_channel(self, channel: str) -> None:
        """Raises SubscriptionError for a channel that this exchange does not have."""
        self.declared(channel)
