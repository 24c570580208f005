"""What the fixtures of all exchanges are written with: one time, and values as text."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from fastbars.bars import ExchangeBar
from fastbars.events import Quote, Ticker
from fastbars.testing import CandleFixture

D = Decimal

T_MS = 1_767_225_605_250  # 2026-01-01 00:00:05.250 UTC
T_NS = T_MS * 1_000_000
T_TEXT = "2026-01-01T00:00:05.250Z"
OPEN_MS = 1_767_225_600_000
OPEN = datetime(2026, 1, 1, tzinfo=UTC)

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)


def candle(
    symbol: str,
    spec: str,
    length: timedelta,
    numbers: str,
    *,
    quote: str | None = None,
    count: int | None = None,
    is_closed: bool | None = None,
    event_time_ns: int | None = None,
    open_time: datetime = OPEN,
) -> ExchangeBar:
    """Open, high, low, close and volume as text with spaces."""
    open_, high, low, close, volume = map(D, numbers.split())
    turnover = None if quote is None else D(quote)
    return ExchangeBar(
        symbol,
        spec,
        open_time,
        open_time + length,
        open_,
        high,
        low,
        close,
        volume,
        turnover,
        count,
        None,
        None,
        None,
        None,
        is_closed,
        event_time_ns,
    )


OPEN_NS = OPEN_MS * 1_000_000
MINUTE_NS = 60 * 10**9


def past(symbol: str, request: str, body: str, candles: Sequence[ExchangeBar], *, minutes: int = 2) -> CandleFixture:
    """A request for the candles of so many minutes, and its answer."""
    return CandleFixture(symbol, "1m", OPEN_NS, OPEN_NS + minutes * MINUTE_NS, request, body, candles)


def quote(symbol: str, numbers: str, time_ns: int | None) -> Quote:
    """Bid, its size, ask, its size as text with spaces; "-" is none."""
    bid, bid_size, ask, ask_size = (None if text == "-" else D(text) for text in numbers.split())
    return Quote(symbol, bid, bid_size, ask, ask_size, time_ns)


def ticker(symbol: str, numbers: str, time_ns: int | None, count: int | None = None) -> Ticker:
    """Last, open, high, low, volume, quote volume as text with spaces; "-" is none."""
    last, open_, high, low, volume, turnover = (None if text == "-" else D(text) for text in numbers.split())
    assert last is not None
    assert high is not None
    assert low is not None
    assert volume is not None
    return Ticker(symbol, last, open_, high, low, volume, turnover, count, time_ns)
