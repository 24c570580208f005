"""Bars and their status: OHLCVBar, ExchangeBar, BarStatus, CloseReason.

Units: times are int64 nanoseconds since the Unix epoch, UTC, in columns and aware UTC datetimes in
objects; prices are quote units, volumes base units (contracts on inverse markets).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal
from enum import StrEnum
from typing import Any, NamedTuple

from fastbars.specs import BarKind, BarSpec, parse_specs

__all__ = [
    "BAR_FIELDS",
    "REASONS",
    "STATUSES",
    "BarCallback",
    "BarKind",
    "BarSpec",
    "BarStatus",
    "CloseReason",
    "ExchangeBar",
    "FootprintLevel",
    "OHLCVBar",
    "parse_specs",
    "reported",
]


class BarStatus(StrEnum):
    """How far a bar can be trusted, best first. Where several hold, the worst is given."""

    COMPLETE = "COMPLETE"  # the trade ids prove that every trade is in it, at both ends
    HEALED = "HEALED"  # it had a hole, which was filled from REST
    PUBLISHED = "PUBLISHED"  # it lacks only ids that the exchange's history leaves out
    RETRACTED = "RETRACTED"  # with what is known now there is no such bar: its anchor's bars were cut again
    PROVISIONAL = "PROVISIONAL"  # no hole inside; the next trade, which proves the end, has not come yet
    UNVERIFIABLE = "UNVERIFIABLE"  # the exchange's trades carry no ids that could prove it
    SAMPLED = "SAMPLED"  # made from sampled last prices, not from trades
    REPORTED = "REPORTED"  # not made here: it is the exchange's own candle
    PARTIAL = "PARTIAL"  # the stream began or ended inside it
    GAP = "GAP"  # trades are known to be missing


class CloseReason(StrEnum):
    """The event that closed a bar."""

    TRADE = "trade"  # a trade of a later interval, or the one that reached the step
    WATERMARK = "watermark"  # event time on the connection passed close_time + grace
    CLOCK = "clock"  # the corrected wall clock passed close_time + grace
    GAP = "gap"  # the clock, while the feed was down
    END = "end"  # end of input or of the subscription
    CANDLE = "candle"  # the exchange closed its own candle: a REPORTED bar
    ANCHOR = "anchor"  # the interval of its anchor ended
    OPEN = "open"  # not closed yet: what `BarBuffer.current` shows


STATUSES = tuple(BarStatus)
REASONS = tuple(CloseReason)
# Not the caller's context, whose digits, range, rounding and traps are the caller's affair.
_EXACT = Context(prec=256, traps=[])
_VWAP = Context(prec=28, rounding=ROUND_HALF_EVEN, Emin=-999_999, Emax=999_999, capitals=1, clamp=0, flags=[], traps=[])


class FootprintLevel(NamedTuple):
    """What was traded at one price level of a bar.

    Attributes:
        price: where the level begins, a multiple of its step; it covers prices from there to below the next level's.
        buy_volume, sell_volume: of trades whose taker bought, and sold; base units.
        unknown_volume: of trades whose side is not known.
    """

    price: Decimal
    buy_volume: Decimal
    sell_volume: Decimal
    unknown_volume: Decimal

    @property
    def volume(self) -> Decimal:
        """Of all sides."""
        return _EXACT.add(_EXACT.add(self.buy_volume, self.sell_volume), self.unknown_volume)


@dataclass(frozen=True, slots=True)
class OHLCVBar:
    """A finished bar; the fields are those of a Binance kline, and what proves them.

    Args:
        exchange, market: whose symbol it is, such as "binance" and "usdm"; empty where none was named. By keyword only.
        symbol: as the exchange writes it.
        spec: text of the BarSpec, such as "1m".
        open_time: inclusive, aware UTC; of the first trade for path-driven bars.
        close_time: exclusive, aware UTC; of the last trade for path-driven bars.
        open, high, low, close: quote units; None in a GAP bar without trades.
        volume: base units; contracts on inverse markets.
        quote_volume: exact sum of price x size; of contracts x contract size on inverse markets. This one and the next
            three are None in a REPORTED bar whose candle does not have them, and in no other.
        trade_count: trades in it; 0: none in the interval, or a brick of a renko bar's move over several.
        taker_buy_volume, taker_buy_quote_volume: the part in which the taker bought.
        first_trade_id, last_trade_id: None where the exchange's ids prove nothing, or its candle does not have them.
        status: how far it can be trusted.
        revision: 0 the first time; one more each time that anything about this bar changed.
        close_reason: what closed it.
        inverse: volume counts contracts, so there is no vwap.
        missing_count: trades that it lacks: 0 where it is proven complete, None where ids do not tell (none prove
            anything, or the hole reaches over its border, or its begin or end is not proven).
        unpublished_count: ids in it that the exchange's history leaves out for good; None where ids do not tell.
        buy_count, sell_count: the trades whose taker bought, and sold; those of unknown side are in neither, so that
            trade_count - buy_count - sell_count are of unknown side. These five are None where they are not known: in
            every REPORTED bar, and in bars made by hand that do not say.
        first_trade_time, last_trade_time: times of the earliest and the latest trade in it, aware UTC; None without
            trades.
        largest_trade: size of the largest trade; of trades that the exchange sums up, of the largest such row; None
            without trades.
        index: its number within the interval of its anchor, from 0; None where its spec has no anchor.
        footprint: the price levels with trades, ascending, of specs with `+footprint:STEP`; None of other specs, where
            a bar has more than 2,000 levels, and where it is not known. Its volumes sum to those of the bar.
        delta: volume bought less volume sold, of specs with `+flow`, as the next three; None of other specs.
        delta_high, delta_low: the largest and the smallest that delta was, behind any of the trades in their order;
            None without trades, and where a trade came out of order, so that it is not known.
        vwap_deviation: the volume-weighted standard deviation of the price from the vwap, to 28 digits; None without
            trades and on inverse markets.

    Raises:
        ValueError: high, low, open and close contradict each other; a sum is negative (the quote volume only where a
            price is); or one is None, and the bar is not REPORTED.
    """

    exchange: str = field(default="", kw_only=True)
    market: str = field(default="", kw_only=True)
    symbol: str
    spec: str
    open_time: datetime
    close_time: datetime
    open: Decimal | None
    high: Decimal | None
    low: Decimal | None
    close: Decimal | None
    volume: Decimal
    quote_volume: Decimal | None = Decimal(0)
    trade_count: int | None = 0
    taker_buy_volume: Decimal | None = Decimal(0)
    taker_buy_quote_volume: Decimal | None = Decimal(0)
    first_trade_id: int | None = None
    last_trade_id: int | None = None
    status: BarStatus = BarStatus.UNVERIFIABLE
    revision: int = 0
    close_reason: CloseReason = CloseReason.TRADE
    inverse: bool = field(default=False, repr=False, compare=False)
    missing_count: int | None = None
    unpublished_count: int | None = None
    buy_count: int | None = None
    sell_count: int | None = None
    first_trade_time: datetime | None = None
    last_trade_time: datetime | None = None
    largest_trade: Decimal | None = None
    index: int | None = None
    footprint: tuple[FootprintLevel, ...] | None = None
    delta: Decimal | None = None
    delta_high: Decimal | None = None
    delta_low: Decimal | None = None
    vwap_deviation: Decimal | None = None

    def __post_init__(self) -> None:
        prices = (self.open, self.high, self.low, self.close)
        if self.open is None or self.high is None or self.low is None or self.close is None:
            if any(price is not None for price in prices) or self.trade_count:
                raise ValueError("Open, high, low and close are all None, in a bar without trades, or none is")
        else:
            if self.high < self.low:
                raise ValueError(f"High ({self.high}) must be >= low ({self.low})")
            if self.high < self.open:
                raise ValueError(f"High ({self.high}) must be >= open ({self.open})")
            if self.high < self.close:
                raise ValueError(f"High ({self.high}) must be >= close ({self.close})")
            if self.low > self.open:
                raise ValueError(f"Low ({self.low}) must be <= open ({self.open})")
            if self.low > self.close:
                raise ValueError(f"Low ({self.low}) must be <= close ({self.close})")
        if self.status is not BarStatus.REPORTED:
            for name in UNREPORTED:
                if getattr(self, name) is None:
                    raise ValueError(f"{name} is None: only a REPORTED bar may lack it, and this one is {self.status}")
        signed = self.low is not None and self.low < 0
        quote, count = self.quote_volume, self.trade_count
        if self.volume < 0 or (quote is not None and quote < 0 and not signed) or (count is not None and count < 0):
            raise ValueError(
                f"Volume ({self.volume}), quote volume ({self.quote_volume}) and trade count ({self.trade_count})"
                " must be >= 0"
            )
        if self.open_time.tzinfo is None or self.close_time.tzinfo is None:
            raise ValueError("Open and close time must have a time zone")
        if self.close_time < self.open_time:
            raise ValueError(f"Close time ({self.close_time}) must be >= open time ({self.open_time})")

    @property
    def vwap(self) -> Decimal | None:
        """quote_volume / volume, to 28 digits; None without trades, without a quote volume, and on inverse markets."""
        if self.inverse or not self.volume or self.quote_volume is None:
            return None
        return _VWAP.divide(self.quote_volume, self.volume)

    @property
    def point_of_control(self) -> Decimal | None:
        """Price of the level of the footprint with the most volume, of several the lowest; None without a footprint."""
        return control_of(self.footprint)

    @property
    def anchor_time(self) -> datetime | None:
        """Where the interval of its anchor begins; None where its spec has none. With `index`: which bar it is."""
        if self.index is None:
            return None
        anchor = _anchor_of(self.spec)
        return None if anchor is None else anchor.begin_of(self.open_time)

    @property
    def is_complete(self) -> bool:
        """Every trade is proven to be in it."""
        return self.status in (BarStatus.COMPLETE, BarStatus.HEALED)

    def to_dict(self, *, json: bool = False) -> dict[str, Any]:
        """The fields by name, in the order of BAR_FIELDS.

        Args:
            json: as `json.dumps` takes them: decimals as text without exponent, times as ISO 8601 text in UTC, status
                and close reason as plain text.
        """
        values = {name: getattr(self, name) for name in BAR_FIELDS}
        return {name: json_value(value) for name, value in values.items()} if json else values

    def __reduce__(self) -> tuple[Any, ...]:
        # By the constructor, so that a pickle is checked as any other bar is.
        return _bar_of, (type(self), *(getattr(self, own.name) for own in fields(self)))

    def __repr__(self) -> str:
        def text(value: Decimal | None) -> str:
            return "-" if value is None else f"{value:f}"

        names = " ".join(filter(None, (self.exchange, self.market, self.symbol, self.spec)))
        return (
            f"<OHLCVBar {names} {self.open_time:%Y-%m-%d %H:%M:%S}Z"
            f" O {text(self.open)} H {text(self.high)} L {text(self.low)} C {text(self.close)}"
            f" V {text(self.volume)} trades {'-' if self.trade_count is None else self.trade_count} {self.status}"
            f"{f' rev {self.revision}' if self.revision else ''}>"
        )


def control_of(footprint: tuple[FootprintLevel, ...] | None) -> Decimal | None:
    """The point of control of a footprint: see `OHLCVBar.point_of_control`."""
    return max(footprint, key=lambda level: (level.volume, -level.price)).price if footprint else None


@functools.cache
def _anchor_of(spec: str) -> BarSpec | None:
    return BarSpec.parse(spec).anchor


def _bar_of(kind: type[OHLCVBar], exchange: str, market: str, *others: Any) -> OHLCVBar:
    return kind(*others, exchange=exchange, market=market)


def json_value(value: object) -> object:
    """A field as `json.dumps` takes it."""
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return str(value) if isinstance(value, StrEnum) else value


PathNumber = int | tuple[Decimal | None, Decimal | None] | None
"""What distinguishes path-driven bars that begin at one time."""


def path_number(bar: OHLCVBar) -> PathNumber:
    """Of a path-driven bar: its first trade's id; of one without trades (a brick), its ends; its index if anchored."""
    if bar.index is not None:
        return bar.index
    return bar.first_trade_id if bar.trade_count else (bar.open, bar.close)


def begins(bar: OHLCVBar) -> datetime:
    """What tells a bar from others of its spec: where its interval begins, that of its anchor where it has one."""
    return bar.open_time if bar.index is None else bar.anchor_time or bar.open_time


LEVEL_FIELDS = ("price", "buy_volume", "sell_volume", "unknown_volume")
"""Of a FootprintLevel."""
FEATURE_FIELDS = ("footprint", "delta", "delta_high", "delta_low", "vwap_deviation")
"""The fields of specs with features; in tables only where a spec has some, and in no line of CSV or JSON."""
BAR_FIELDS = tuple(f.name for f in fields(OHLCVBar) if f.name not in ("inverse", *FEATURE_FIELDS))
UNREPORTED = ("quote_volume", "trade_count", "taker_buy_volume", "taker_buy_quote_volume")
"""The fields that a candle may lack, and that every bar made of trades has."""
UNSEEN = ("buy_count", "sell_count", "first_trade_time", "last_trade_time", "largest_trade")
"""The fields that no candle has: of trades alone."""


@dataclass(frozen=True, slots=True)
class ExchangeBar:
    """A bar as the exchange itself made it (a kline or candle message); it is never a tick.

    Fields as in OHLCVBar; exchange and market are empty until a session takes it. `is_closed` is False while the
    exchange still updates it, `event_time_ns` says when the exchange sent it (ns since the epoch). What an exchange
    does not send is None, of these two as well.
    """

    exchange: str = field(default="", kw_only=True)
    market: str = field(default="", kw_only=True)
    symbol: str
    spec: str
    open_time: datetime
    close_time: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    quote_volume: Decimal | None
    trade_count: int | None
    taker_buy_volume: Decimal | None
    taker_buy_quote_volume: Decimal | None
    first_trade_id: int | None
    last_trade_id: int | None
    is_closed: bool | None
    event_time_ns: int | None


def reported(
    candle: ExchangeBar,
    *,
    inverse: bool = False,
    revision: int = 0,
    close_reason: CloseReason = CloseReason.CANDLE,
) -> OHLCVBar:
    """The REPORTED bar of a candle: its fields are those that the candle has, the others None.

    Args:
        candle: of the exchange, closed.
        inverse: its volume counts contracts.
        revision: of the bar.
        close_reason: of the bar.

    Raises:
        ValueError: the exchange still updates the candle, or its values contradict each other.
    """
    if candle.is_closed is False:
        raise ValueError(
            f"{candle.exchange} {candle.symbol} {candle.spec} {candle.open_time}: the candle is not closed yet"
        )
    values = {own.name: getattr(candle, own.name) for own in fields(ExchangeBar) if own.name in BAR_FIELDS}
    if candle.trade_count == 0:  # whatever stands there: it is no trade's
        values["first_trade_id"] = values["last_trade_id"] = None
    return OHLCVBar(**values, status=BarStatus.REPORTED, revision=revision, close_reason=close_reason, inverse=inverse)


BarCallback = Callable[[OHLCVBar], object]
