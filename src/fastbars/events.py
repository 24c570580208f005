"""Market data events apart from bars and ticks, for consumers such as a trading engine.

Units: times int64 nanoseconds since the Unix epoch, UTC; prices quote units; sizes base units or contracts.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from fastbars.bars import ExchangeBar, OHLCVBar
from fastbars.ticks import TickData


@dataclass(frozen=True, slots=True)
class Quote:
    """Best bid and ask; None where that side is empty. `event_time_ns` is None where the exchange sends none."""

    symbol: str
    bid: Decimal | None
    bid_size: Decimal | None
    ask: Decimal | None
    ask_size: Decimal | None
    event_time_ns: int | None


@dataclass(frozen=True, slots=True)
class Ticker:
    """The exchange's rolling 24-hour statistics. What an exchange does not send is None."""

    symbol: str
    last: Decimal
    open: Decimal | None
    high: Decimal
    low: Decimal
    volume: Decimal
    quote_volume: Decimal | None
    trade_count: int | None
    event_time_ns: int | None


@dataclass(frozen=True, slots=True)
class MarketDataEvent:
    """A bar, tick, quote, ticker or exchange bar, with the times an engine needs.

    Attributes:
        exchange: name of the venue.
        symbol: as the exchange writes it.
        data: the object itself; its type says what it is.
        event_time_ns: the exchange's time of it (of a bar: its close_time), ns; None where it sends none.
        receive_time_ns: when this host received the message that caused it, ns of the local wall clock.
    """

    exchange: str
    symbol: str
    data: OHLCVBar | TickData | Quote | Ticker | ExchangeBar
    event_time_ns: int | None
    receive_time_ns: int
