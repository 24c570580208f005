"""What an exchange is to the rest: a declaration and pure functions, and the messages they speak of.

An exchange file says where to connect, how to subscribe, and what a message means. Sockets, timers, scales and
batches are nowhere in it. Units: times int64 nanoseconds since the Unix epoch, UTC; prices and sizes as the
exchange wrote them, in text.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Any, NamedTuple, cast

from fastbars.bars import ExchangeBar
from fastbars.buffer import Ids
from fastbars.errors import ParseError, SubscriptionError
from fastbars.events import Quote, Ticker
from fastbars.ticks import TickData, TickSide
from fastbars.wire.fields import TradeFields


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

    def to_tick(self) -> TickData:
        """The trade as an object with Decimal fields."""
        side = TickSide.of(self.side)
        return TickData(
            self.symbol, self.time_ns, self.price, self.size, side, self.first_id, self.last_id, self.trade_count
        )


# All ten fields in one tuple: a third of what the named tuple's own constructor costs, once a trade.
make_trade = cast("Callable[[tuple[Any, ...]], Trade]", partial(tuple.__new__, Trade))


class Ack(NamedTuple):
    """The exchange confirmed a request."""

    request_id: int


class Refusal(NamedTuple):
    """The exchange refused a request, or a message it could not relate to one (request_id None)."""

    request_id: int | None
    reason: str


class Notice(NamedTuple):
    """The exchange announces that it is about to close the connection."""

    reason: str


class Ignored(NamedTuple):
    """A message that is known and has nothing for us, such as an order book."""

    kind: str


Message = Trade | ExchangeBar | Quote | Ticker | Ack | Refusal | Notice | Ignored


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


@dataclass(frozen=True, slots=True)
class Limits:
    """What the exchange allows a connection."""

    streams_per_connection: int
    streams_per_request: int
    requests_per_second: float


class Exchange(ABC):
    """A venue and market, declared.

    Attributes:
        name: "binance usdm", as errors and logs name it.
        channels: every channel that can be subscribed to, by name or prefix ("kline_"); of trade channels the
            value says what their ids prove, of others it is None.
        default_channel: the trade channel that bars are made from unless one is asked for.
        limits: what the exchange allows.
    """

    name: str
    channels: Mapping[str, Ids | None]
    default_channel: str
    limits: Limits

    @abstractmethod
    def url(self, channels: Iterable[str]) -> str:
        """Where these channels are served. Raises SubscriptionError where no one connection serves all."""

    @abstractmethod
    def subscribe(self, streams: Sequence[tuple[str, str]], request_id: int) -> bytes:
        """The request that subscribes to these (symbol, channel) pairs."""

    @abstractmethod
    def unsubscribe(self, streams: Sequence[tuple[str, str]], request_id: int) -> bytes:
        """The request that ends these (symbol, channel) pairs."""

    @abstractmethod
    def parse(self, message: Any) -> Iterable[Message]:
        """What a decoded JSON message means, in order; empty where its kind is unknown.

        Raises:
            ParseError, LookupError, TypeError, ValueError, AttributeError: it claims to be of a known kind and is not.
        """

    @abstractmethod
    def event_time_ns(self, message: Any) -> int | None:
        """When the exchange sent this message, ns; None where it does not say."""

    def fields(self, channel: str) -> TradeFields | None:  # noqa: ARG002
        """Where the trades of a trade channel stand, for the compiled scanner; None: `parse` alone reads them."""
        return None

    def contract_size(self, symbol: str) -> Decimal | None:  # noqa: ARG002
        """Quote units a contract on an inverse market; None on all others."""
        return None

    def ids(self, channel: str) -> Ids:
        """What the trade ids of a trade channel prove."""
        ids = self.channels.get(channel)
        if ids is None:
            raise SubscriptionError(f"{self.name}: {channel!r} is no trade channel; those are {self.trade_channels}")
        return ids

    @property
    def trade_channels(self) -> list[str]:
        """The channels that carry trades."""
        return [name for name, ids in self.channels.items() if ids is not None]

    def check_channel(self, channel: str) -> None:
        """Raises SubscriptionError for a channel that this exchange does not have."""
        if channel in self.channels and not channel.endswith("_"):
            return
        if any(name.endswith("_") and channel.startswith(name) and channel != name for name in self.channels):
            return
        raise SubscriptionError(f"{self.name}: unknown channel {channel!r}; known are {list(self.channels)}")
