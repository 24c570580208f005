"""The interface of a simulated exchange: its requests, its messages and its REST answers.

A dialect knows no socket and no clock. It writes what the exchange would write, from the exchange's documentation and
without any code that the library reads messages with, so that a misreading of the documentation does not cancel out.

Units: times in ms since the Unix epoch; prices in ticks, sizes in steps (see `instruments`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar, Literal, NamedTuple

import orjson

from fastbars.errors import UnknownExchangeError
from fastbars.simulator.candles import Candle
from fastbars.simulator.instruments import Naming, SimulatedInstrument, make_instruments
from fastbars.simulator.market import AggregateTrade, Book, SimulatedTrade
from fastbars.simulator.past_candles import PastCandles
from fastbars.simulator.rest import PastTrades, RestRequest, State

__all__ = [
    "DayStatistics", "Dialect", "Opening", "Reaction", "Silence", "Stream", "Subscriber", "read_json",
    "time_text",
]  # fmt: skip

# Whose, and for how many seconds; "request": the client has requested nothing since the handshake.
Silence = tuple[Literal["client", "server", "both", "request"], float]


class Stream(NamedTuple):
    """A stream of the exchange.

    Attributes:
        name: unique within the dialect.
        instrument: the symbol's place in the list of instruments; -1: it has no symbol.
        channel: "trade", "aggTrade", "kline", "quote", "ticker", "heartbeat", "silent" for one that was acknowledged
            but does not exist, or "tape" for one served from a recording.
        interval: of a kline, as the simulator writes it: "1m", "1M".
    """

    name: str
    instrument: int
    channel: str
    interval: str = ""


class DayStatistics(NamedTuple):
    """The last day of a symbol.

    Attributes:
        open_ms: where it begins; it ends with the event time of its message.
        candle: of that time.
        book: best bid and ask at its end.
        last_steps: size of the last trade, 0 before the first.
    """

    open_ms: int
    candle: Candle
    book: Book
    last_steps: int


class Subscriber:
    """One client of the exchange.

    Attributes:
        combined: messages are wrapped and name their stream.
        route: the path that it has connected to, where each serves some channels only; "": all.
        streams: its subscriptions, by name, in order.
        pending: messages not yet sent, oldest first.
        muted: names of subscriptions that bring nothing any more, because of a fault.
        last_heartbeat_ms: when the last heartbeat was sent to it.
    """

    __slots__ = ("combined", "last_heartbeat_ms", "muted", "pending", "route", "streams")

    def __init__(self, combined: bool = False, route: str = "") -> None:
        self.combined = combined
        self.route = route
        self.streams: dict[str, Stream] = {}
        self.pending: list[bytes] = []
        self.muted: set[str] = set()
        self.last_heartbeat_ms = 0


@dataclass(frozen=True)
class Reaction:
    """The reaction to a client's message.

    Attributes:
        replies: sent before any message of a new stream, unless `history_first`.
        subscribe: streams that it is subscribed to from now on.
        with_history: they begin with past trades, if the dialect sends any.
        history_first: past trades are sent before the replies.
        unsubscribe: names of streams that it is no longer subscribed to.
        is_request: whether it was a request to subscribe or unsubscribe, to which faults of requests apply.
    """

    replies: Sequence[bytes] = ()
    subscribe: Sequence[Stream] = ()
    unsubscribe: Sequence[str] = ()
    is_request: bool = False
    with_history: bool = True
    history_first: bool = False


@dataclass(frozen=True)
class Opening:
    """The meaning of a handshake's path; on Binance it may name streams."""

    combined: bool = False
    streams: Sequence[Stream] = ()
    refusal: bytes | None = None
    route: str = ""


class Dialect(ABC):
    """One exchange's market.

    Args:
        market: one of `namings`.
        instruments: what the exchange lists; trades name them by their place in it.
        books: best bid and ask of each, updated by the market.

    A list of instruments says of each what was traded of it in 24 hours: `day_amounts`, symbol -> quote units, and a
    million where it does not say.

    Attributes:
        namings: market -> how its symbols are named; the first market is the default one.
        paths: the request paths that it serves; the first one serves trades.
        trades_per_message: at most; a message never mixes symbols.
        batch_ms: how long trades wait for others before they are sent.
        history: how many past trades a new subscriber to trades gets first.
        heartbeat_ms: interval of the exchange's own heartbeats; None: it sends none.
        ping_interval_s: interval of its protocol pings; None: it sends none.
        silence: after which it closes a connection; None: it never does.
        is_sampled: of the trades of a message, only the last is sent.
        first_ids: market -> id of a symbol's first trade; 1 elsewhere.
        voids_per_minute: market -> void ids of its busiest symbol: sent although nothing was traded.
        serves_tapes: whether recorded messages can be served by stream.
    """

    namings: ClassVar[Mapping[str, Naming]]
    paths: tuple[str, ...]
    trades_per_message: ClassVar[int] = 1
    batch_ms: ClassVar[int] = 0
    history: ClassVar[int] = 0
    heartbeat_ms: ClassVar[int | None] = None
    ping_interval_s: ClassVar[float | None] = None
    silence: ClassVar[Silence | None] = None
    is_sampled: ClassVar[bool] = False
    first_ids: ClassVar[Mapping[str, int]] = {}
    voids_per_minute: ClassVar[Mapping[str, float]] = {}
    serves_tapes: ClassVar[bool] = False

    def __init__(self, market: str, instruments: Sequence[SimulatedInstrument], books: Sequence[Book] = ()) -> None:
        self.market = market
        self.instruments = instruments
        self.places = {instrument.symbol: place for place, instrument in enumerate(instruments)}
        self.books = books
        self.day_amounts: dict[str, Decimal] = {}
        self._unknown: dict[str, SimulatedInstrument] = {}

    @classmethod
    def list_market(cls, market: str | None, symbols: int | Sequence[str]) -> tuple[str, list[SimulatedInstrument]]:
        """The market's name, and its instruments. Raises UnknownExchangeError, ValueError."""
        name = next(iter(cls.namings)) if market is None else market
        if name not in cls.namings:
            raise UnknownExchangeError(f"simulator: no market {market!r}; known are {', '.join(cls.namings)}")
        return name, make_instruments(cls.namings[name], symbols)

    # Requests.

    def open(self, path: str) -> Opening | None:
        """The meaning of a request path; None: the exchange does not have it."""
        return Opening() if path.partition("?")[0].rstrip("/") in {known.rstrip("/") for known in self.paths} else None

    def greet(self) -> Sequence[bytes]:
        """The messages sent first on each connection."""
        return ()

    @abstractmethod
    def react(self, subscriber: Subscriber, message: str | bytes, now_ms: int) -> Reaction:
        """Interpret a client's message."""

    # REST.

    def past_trades(self, request: RestRequest, history: PastTrades) -> object | None:
        """Answer a request for past trades with a value for JSON; None: the exchange has no such path.

        Raises:
            RestRefusedError: the request is refused.
            KeyError, ValueError: a parameter is missing or wrong; the request is refused with 400.
        """
        return None

    def past_candles(self, request: RestRequest, candles: PastCandles) -> object | None:
        """Answer a request for candles; as `past_trades`."""
        return None

    def list_instruments(self, request: RestRequest, states: Mapping[str, State]) -> object | None:
        """Answer a request for the instruments, given the state of each; as `past_trades`."""
        return None

    def details(self, symbol: str) -> SimulatedInstrument:
        """The grids of a symbol that is listed, whether or not it is ever traded."""
        if symbol in self.places:
            return self.instruments[self.places[symbol]]
        if symbol not in self._unknown:
            self._unknown[symbol] = make_instruments(self.namings[self.market], [symbol])[0]
        return self._unknown[symbol]

    def day_amount(self, symbol: str) -> Decimal:
        """What was traded of a symbol in 24 hours, in quote units."""
        return self.day_amounts.get(symbol, Decimal(1_000_000))

    def get(self, path: str) -> bytes | None:
        """The answer to a GET on the WebSocket host; None: there is no such path."""
        return None

    # Messages.

    @abstractmethod
    def trades(self, stream: Stream, trades: Sequence[SimulatedTrade], event_ms: int, *, past: bool = False) -> bytes:
        """Write trades of one symbol, oldest first, as one message; `past`: they are history."""

    def aggregate_trade(self, stream: Stream, trade: AggregateTrade, event_ms: int) -> bytes:
        """Write an aggregate trade."""
        raise NotImplementedError

    def kline(self, stream: Stream, candle: Candle, open_ms: int, event_ms: int, *, closed: bool) -> bytes | None:
        """Write a candle; None: none is sent now."""
        raise NotImplementedError

    def quote(self, stream: Stream, book: Book, event_ms: int) -> bytes:
        """Write the best bid and ask."""
        raise NotImplementedError

    def ticker(self, stream: Stream, day: DayStatistics, event_ms: int) -> bytes:
        """Write the statistics of the last day."""
        raise NotImplementedError

    def heartbeat(self, subscriber: Subscriber, now_ms: int) -> bytes | None:
        """Write a heartbeat; None: this client gets none."""
        return None

    def notice(self, now_ms: int) -> bytes | None:
        """Write the notice that the connection is about to be closed; None: the exchange sends none."""
        return None

    def wrap(self, stream: Stream, payload: bytes) -> bytes:
        """The combined form of a message, if the exchange has one."""
        return payload

    # Recorded messages, where `serves_tapes`.

    def serve_tapes(self, streams: Collection[str]) -> None:
        """From now on, offer the streams of recorded messages and no others."""
        raise NotImplementedError

    def stream_of(self, payload: bytes) -> str | None:
        """The stream that a recorded message came from; None for replies and other messages outside streams."""
        raise NotImplementedError

    # Helpers that most dialects write with.

    def symbol(self, stream: Stream) -> str:
        """The symbol of a stream."""
        return self.instruments[stream.instrument].symbol

    def texts(self, trade: SimulatedTrade | AggregateTrade) -> tuple[str, str]:
        """Price and size of a trade as text."""
        instrument = self.instruments[trade.instrument]
        return instrument.price_text(trade.price_ticks), instrument.size_text(trade.size_steps)

    def book_texts(self, place: int, book: Book) -> tuple[str, str, str, str]:
        """Bid, its size, ask, its size as text."""
        instrument = self.instruments[place]
        return (
            instrument.price_text(book.bid_ticks),
            instrument.size_text(book.bid_steps),
            instrument.price_text(book.ask_ticks),
            instrument.size_text(book.ask_steps),
        )

    def candle_texts(self, place: int, candle: Candle) -> dict[str, str]:
        """Prices, volumes and amounts of a candle as text, by the names of its fields."""
        instrument = self.instruments[place]
        formats = {
            **dict.fromkeys(("open", "high", "low", "close"), instrument.price_format),
            **dict.fromkeys(("volume", "taker_volume"), instrument.size_format),
            **dict.fromkeys(("amount", "taker_amount"), f".{instrument.amount_decimals}f"),
        }
        return {name: format(getattr(candle, name), spec) for name, spec in formats.items()}


def read_json(message: str | bytes) -> dict[str, Any] | None:
    """A JSON object; None for anything else."""
    try:
        request = orjson.loads(message)
    except orjson.JSONDecodeError:
        return None
    return request if isinstance(request, dict) else None


def time_text(time_ms: int, digits: int = 6) -> str:
    """A time as RFC 3339 text in UTC, with so many decimals."""
    # By hand, because the library reads it with datetime: the two must not share a mistake.
    days, ms_of_day = divmod(time_ms, 86_400_000)
    era_day = days + 719_468
    era, day_of_era = divmod(era_day, 146_097)
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    month_index = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * month_index + 2) // 5 + 1
    month = month_index + 3 if month_index < 10 else month_index - 9
    year = year_of_era + era * 400 + (month <= 2)
    seconds, ms = divmod(ms_of_day, 1000)
    clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return f"{year:04}-{month:02}-{day:02}T{clock}.{f'{ms:03}'.ljust(digits, '0')}Z"
