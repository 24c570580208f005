"""The messages of exchanges as typed values, and the conversion of their text.

`Exchange.read` makes them, the session consumes them. Units: times int64 nanoseconds since the Unix epoch, UTC; prices
and sizes of trades as the exchange wrote them, in text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Context, Decimal
from functools import lru_cache, partial
from typing import Any, NamedTuple, cast

from fastbars.bars import BarSpec, ExchangeBar
from fastbars.errors import ParseError
from fastbars.events import Quote, Ticker
from fastbars.exchanges.checked import LATEST_NS, integer_of, interval_of, shown
from fastbars.kernel.scaled import DECIMALS
from fastbars.ticks import TickData, TickSide, to_datetime, to_nanoseconds

Stream = tuple[str, str]  # symbol, channel

_MOST_DIGITS = 128  # characters of a number, as the kernel reads them
_MOST_EXPONENT = 64
_MOST_TIME_CHARACTERS = 40
EXACT = Context(prec=256, traps=[])  # not the caller's, which may round
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")


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
    key: str | None = None  # where ids are only "unique": its id, unique together with symbol and time

    @property
    def row(self) -> tuple[Any, ...]:
        """The arguments of `TickBatch.append`; the time is in ns whatever its magnitude."""
        return *self[1:10], "ns"

    def to_tick(self, *, negative_prices: bool = False) -> TickData:
        """The trade as an object with Decimal fields."""
        side = TickSide.of(self.side)
        return TickData(
            self.symbol,
            self.time_ns,
            self.price,
            self.size,
            side,
            self.first_id,
            self.last_id,
            self.trade_count,
            time_unit="ns",
            negative_prices=negative_prices,
        )


class RefusedTrade(NamedTuple):
    """A trade that could not be read: a loss, of which bars must tell.

    Attributes:
        channel: the trade channel.
        symbol: None where not even that can be read; then it may be of any.
        time_ns: None where it cannot be read.
        reason: what is wrong with it.
    """

    channel: str
    symbol: str | None
    time_ns: int | None
    reason: str


# All eleven fields in one tuple: called once a trade, it costs a third of the named tuple's own constructor.
make_trade = cast("Callable[[tuple[Any, ...]], Trade]", partial(tuple.__new__, Trade))


class Ack(NamedTuple):
    """The exchange confirmed a request, or some of its streams.

    It names a request (`request_id` alone: all of its streams), streams of a request (both), or streams alone: then it
    answers whichever pending request asks for them. An ack of streams without a pending request is ignored.

    Attributes:
        request_id: as given to `subscribe` or `unsubscribe`; None where the exchange does not repeat it.
        streams: those confirmed; empty: all of the request's.
        ended: it confirms an unsubscribe.
        whole: `streams` are all that the connection now holds on their channels (on every channel, if empty): a
            subscribe is confirmed for those in it, an unsubscribe for those not in it.
    """

    request_id: int | None = None
    streams: tuple[Stream, ...] = ()
    ended: bool = False
    whole: bool = False


class Refusal(NamedTuple):
    """The exchange refused a request, some of its streams, or a message that it could not attribute.

    Attributes:
        request_id: as in Ack.
        reason: in the exchange's words.
        streams: those refused, if it names them; the others of the request are not affected. A channel of "" stands for
            every channel of the symbol in the request. A refusal that names neither a request nor streams belongs to
            the oldest pending request if the exchange's `acks` are "streams", else to none.
        held: the reason is that the connection already holds `streams` (or, if none is named, one of the request's).
            Those count as confirmed; the others were not processed and are requested again.
    """

    request_id: int | None
    reason: str
    streams: tuple[Stream, ...] = ()
    held: bool = False


class Notice(NamedTuple):
    """The exchange announces that it is about to close the connection."""

    reason: str


class Heartbeat(NamedTuple):
    """A sign of life: the exchange's own heartbeat, its answer to our application ping, or an empty list."""


class TokenWanted(NamedTuple):
    """The exchange requires the user's session token (StreamConfig.session_token) on this connection."""

    reason: str


class RawMessage(NamedTuple):
    """A message without a type of its own, as the exchange sent it: an order book, an account's order, ...

    Attributes:
        kind: the exchange's name for it; "unknown" if `parse` does not know it.
        symbol: as the exchange writes it; None if the message is not about one symbol.
        message: the decoded JSON of the whole message.
    """

    kind: str
    symbol: str | None
    message: Any


Message = (
    Trade | RefusedTrade | ExchangeBar | Quote | Ticker
    | Ack | Refusal | Notice | Heartbeat | TokenWanted | RawMessage
)  # fmt: skip

# What a message of a known kind means that has nothing in it, such as an empty list of trades: a sign of life.
NOTHING: tuple[Message, ...] = (Heartbeat(),)


def decimal_of(text: object) -> Decimal:
    """A number that the exchange wrote as text. Raises ParseError for anything else, floats in particular.

    Text with more digits, or a larger exponent, than any price or sum is refused too: expanded, it could take
    gigabytes.
    """
    if not isinstance(text, str):
        raise ParseError(f"{shown(text)} is not a number written as text")
    if len(text) > _MOST_DIGITS or not _NUMBER.fullmatch(text):
        raise ParseError(f"{shown(text)} is not a number of at most {_MOST_DIGITS} characters")
    number = Decimal(text, DECIMALS)
    if not -_MOST_EXPONENT <= number.adjusted() <= _MOST_EXPONENT:
        raise ParseError(f"{text!r} is not between 1e-{_MOST_EXPONENT} and 1e{_MOST_EXPONENT}")
    return number


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
    """A time in ms, as a number or as text, in ns. Raises ParseError for anything else, and for times before 1970."""
    return integer_of(milliseconds, LATEST_NS // 1_000_000) * 1_000_000


def time_of(text: object) -> int:
    """Nanoseconds of an RFC 3339 time such as "2026-08-09T21:05:48.251397169Z", every digit kept."""
    if not isinstance(text, str) or len(text) > _MOST_TIME_CHARACTERS:
        raise ParseError(f"{shown(text)} is not a time in UTC")
    whole, _, fraction = text.removesuffix("Z").partition(".")
    if not text.endswith("Z") or (fraction and not (fraction.isascii() and fraction.isdigit() and len(fraction) <= 9)):
        raise ParseError(f"{text!r} is not a time in UTC")
    seconds = datetime.fromisoformat(whole).replace(tzinfo=UTC)
    return to_nanoseconds(seconds) + int(fraction.ljust(9, "0"))


def time_of_seconds(text: object) -> int:
    """Nanoseconds of a time in seconds with decimals, in text such as "1688669597.8277369", every digit kept."""
    seconds = decimal_of(text)
    if not 0 <= seconds <= LATEST_NS // 10**9:
        raise ParseError(f"{text!r} is not a time in seconds")
    return int(EXACT.multiply(seconds, 10**9))


@lru_cache(maxsize=64)
def _rule_of(spec: str) -> tuple[str, int, int]:
    return BarSpec.parse(spec).rule


def make_candle(
    symbol: str,
    spec: str,
    open_time_ns: int,
    prices: Iterable[object],
    volume: object,
    *,
    quote_volume: object = None,
    trade_count: object = None,
    taker_buy_volume: object = None,
    taker_buy_quote_volume: object = None,
    is_closed: bool | None = None,
    event_time_ns: int | None = None,
) -> ExchangeBar:
    """Make an exchange's candle from its open time and spec.

    Args:
        symbol, spec: the spec as `BarSpec` writes it, such as "1m".
        open_time_ns: nanoseconds since the epoch.
        prices: open, high, low, close, in text.
        volume, quote_volume, taker_buy_volume, taker_buy_quote_volume: in text.
        trade_count, is_closed, event_time_ns: None where the exchange does not say.

    Raises:
        ParseError: a value is not a number. SpecError (a ValueError): the spec is not valid.
    """
    open_, high, low, close = map(decimal_of, prices)
    trade_count = None if trade_count is None else integer_of(trade_count)
    kind, step, _ = _rule_of(interval_of(spec))
    if kind not in ("time", "months"):
        raise ParseError(f"{spec!r} is not the interval of a candle")
    open_time = to_datetime(open_time_ns)
    close_time = to_datetime(open_time_ns + step)
    if kind == "months":
        months = open_time.year * 12 + open_time.month - 1 + step
        close_time = open_time.replace(year=months // 12, month=months % 12 + 1)
    optional = (quote_volume, taker_buy_volume, taker_buy_quote_volume)
    quote, taker, taker_quote = (None if text is None else decimal_of(text) for text in optional)
    return ExchangeBar(
        symbol, spec, open_time, close_time, open_, high, low, close, decimal_of(volume), quote, trade_count,
        taker, taker_quote, None, None, is_closed, event_time_ns,
    )  # fmt: skip
