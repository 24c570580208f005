"""What fastbars grew out of, in plain Python: `Decimal`, `datetime`, a dict of open bars, a checked dataclass a trade.

Written anew from a description of what rustybt's streaming package computes: open, high, low, close and volume of the
trades of an interval, found by flooring a `datetime`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal


@dataclass(frozen=True)
class Tick:
    """One trade."""

    symbol: str
    timestamp: datetime
    price: Decimal
    volume: Decimal
    side: str

    def __post_init__(self) -> None:
        if self.price <= 0:
            raise ValueError("price must be positive")
        if self.volume <= 0:
            raise ValueError("volume must be positive")


@dataclass(frozen=True)
class Candle:
    """A finished bar."""

    symbol: str
    timestamp: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal

    def __post_init__(self) -> None:
        if not self.low <= min(self.open, self.close) <= max(self.open, self.close) <= self.high:
            raise ValueError("prices contradict each other")


@dataclass
class _Open:
    start: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    count: int


class Buffer:
    """Ticks in, candles out."""

    def __init__(self, resolution_s: int = 60) -> None:
        self.resolution = timedelta(seconds=resolution_s)
        self.open: dict[str, _Open] = {}
        self.closed: list[Candle] = []

    def add_tick(self, tick: Tick) -> Candle | None:
        """Fold one in; a candle where its interval is over."""
        start = self._start_of(tick.timestamp)
        bar = self.open.get(tick.symbol)
        finished = None
        if bar is not None and bar.start != start:
            finished = Candle(tick.symbol, bar.start, bar.open, bar.high, bar.low, bar.close, bar.volume)
            self.closed.append(finished)
            bar = None
        if bar is None:
            self.open[tick.symbol] = _Open(start, tick.price, tick.price, tick.price, tick.price, tick.volume, 1)
            return finished
        bar.high = max(bar.high, tick.price)
        bar.low = min(bar.low, tick.price)
        bar.close = tick.price
        bar.volume += tick.volume
        bar.count += 1
        return finished

    def _start_of(self, time: datetime) -> datetime:
        seconds = int(self.resolution.total_seconds())
        return datetime.fromtimestamp(int(time.timestamp()) // seconds * seconds, tz=UTC)
