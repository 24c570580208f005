"""How the streaming package that this one descends from makes bars, reimplemented in plain Python from its description.

One frozen `TickData` a trade, checked, with an aware datetime and two `Decimal`s; `BarBuffer.add_tick` floors the
datetime to the bar, keeps a dict of open bars, and makes a checked bar object when a tick of another bar comes. Price,
size and time alone: no counts, quote volumes, sides or ids.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum


class Side(Enum):
    """Which side took liquidity."""

    BUY = "buy"
    SELL = "sell"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Tick:
    """One trade."""

    symbol: str
    timestamp: datetime
    price: Decimal
    volume: Decimal
    side: Side = Side.UNKNOWN

    def __post_init__(self) -> None:
        if self.price <= 0:
            raise ValueError(f"Price must be positive, got {self.price}")
        if self.volume < 0:
            raise ValueError(f"Volume must be non-negative, got {self.volume}")


@dataclass(frozen=True)
class Bar:
    """A finished bar."""

    symbol: str
    timestamp: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal

    def __post_init__(self) -> None:
        if self.high < self.low:
            raise ValueError(f"High ({self.high}) must be >= low ({self.low})")
        if self.high < self.open or self.high < self.close:
            raise ValueError(f"High ({self.high}) must be >= open and close")
        if self.low > self.open or self.low > self.close:
            raise ValueError(f"Low ({self.low}) must be <= open and close")
        if self.volume < 0:
            raise ValueError(f"Volume must be non-negative, got {self.volume}")


@dataclass
class OpenBar:
    """A bar in the making."""

    timestamp: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal


class Buffer:
    """Ticks in, bars out."""

    def __init__(self, resolution_s: int = 60, on_bar: Callable[[Bar], object] | None = None) -> None:
        self.resolution_s = resolution_s
        self.on_bar = on_bar
        self.bars: dict[str, OpenBar] = {}

    def add_tick(self, tick: Tick) -> Bar | None:
        """Fold one tick in; the bar that it closed, if any."""
        opened = self._floor(tick.timestamp)
        bar = self.bars.get(tick.symbol)
        finished = None
        if bar is not None and bar.timestamp != opened:
            finished = Bar(tick.symbol, bar.timestamp, bar.open, bar.high, bar.low, bar.close, bar.volume)
            if self.on_bar is not None:
                self.on_bar(finished)
            bar = None
        if bar is None:
            self.bars[tick.symbol] = OpenBar(opened, tick.price, tick.price, tick.price, tick.price, tick.volume)
        else:
            bar.high = max(bar.high, tick.price)
            bar.low = min(bar.low, tick.price)
            bar.close = tick.price
            bar.volume += tick.volume
        return finished

    def _floor(self, timestamp: datetime) -> datetime:
        seconds = int(timestamp.timestamp())
        return datetime.fromtimestamp(seconds - seconds % self.resolution_s, tz=UTC)


def add_text(buffer: Buffer, symbol: str, time_ms: int, price: str, size: str, side: str) -> Bar | None:
    """A trade as an exchange sends it, by way of a Tick."""
    return buffer.add_tick(
        Tick(symbol, datetime.fromtimestamp(time_ms / 1000, tz=UTC), Decimal(price), Decimal(size), Side(side))
    )
