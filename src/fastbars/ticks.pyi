from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Self

import numpy as np

from fastbars.kernel.batch import TickBatch
from fastbars.times import EPOCH, TimeUnit, to_nanoseconds

__all__ = ["EPOCH", "TickData", "TickSide", "to_datetime", "to_nanoseconds"]

def to_datetime(time_ns: int) -> datetime:
    """An aware UTC datetime; nanoseconds below a microsecond are cut off."""

class TickSide(StrEnum):
    """Which side took liquidity."""

    BUY = "buy"
    SELL = "sell"
    UNKNOWN = "unknown"
    @classmethod
    def _missing_(cls, value: object) -> TickSide | None: ...
    @classmethod
    def of(cls, sign: int) -> TickSide:
        """The side with this sign."""

    @property
    def sign(self) -> int:
        """1 the taker bought, -1 the taker sold, 0 unknown."""

@dataclass(frozen=True, slots=True, init=False)
class TickData:
    """One trade, or several that the exchange reported as one.

    To its users a frozen dataclass. Decimals have the exponents that were given: "1.50" is Decimal("1.50").
    `dataclasses.replace(tick, price=Decimal(2))` checks the new trade as the first one was: where its price is not
    positive, `negative_prices=True` stands among the changes.

    Args:
        symbol: as the exchange writes it.
        timestamp: exchange time; an aware datetime, a pandas Timestamp, a numpy datetime64 (UTC), or integer
            nanoseconds since the epoch.
        price: > 0, quote units; Decimal, int or text, never float. With `negative_prices` any finite one.
        volume: > 0, base units or contracts; types as for the price. 0 with a `trade_id`: the exchange used the id up
            though nothing was traded (a void id); the price may then be 0, and `trade_count` is.
        side: of the taker: a TickSide or its text; 1 or True, the taker bought; -1 or False, the taker sold; 0,
            unknown. Binance's `m` (`isBuyerMaker`) is true where the taker sold: give `not m`.
        trade_id: of the first trade, where the exchange numbers them.
        last_trade_id: of the last trade of an aggregated one; `trade_id` by default.
        trade_count: trades in it; last_trade_id - trade_id + 1 by default.
        time_unit: what an integer timestamp counts; None: nanoseconds, and one that looks like another unit is refused.
        negative_prices: the price may be zero or negative, as in a spread. Only a buffer that allows them takes it.

    Raises:
        InvalidTickError: price or volume not positive, a naive timestamp or none, or one that looks like another unit.
        TypeError: price, volume or timestamp is a float, or the timestamp is text.
    """

    symbol: str
    time_ns: int
    price: Decimal
    volume: Decimal
    side: TickSide
    trade_id: int | None
    last_trade_id: int | None
    trade_count: int
    def __init__(
        self,
        symbol: str,
        timestamp: datetime | np.datetime64 | int | np.integer[Any],
        price: Decimal | int | str,
        volume: Decimal | int | str,
        side: TickSide | str | int | bool = TickSide.UNKNOWN,
        trade_id: int | None = None,
        last_trade_id: int | None = None,
        trade_count: int | None = None,
        *,
        time_unit: TimeUnit | None = None,
        negative_prices: bool = False,
    ) -> None: ...
    @property
    def row(self) -> tuple[str, int, Decimal, Decimal, int, int | None, int | None, int]:
        """The trade as `TickBatch.append` takes it."""

    @property
    def timestamp(self) -> datetime:
        """Exchange time as an aware UTC datetime (microseconds)."""

    def __hash__(self) -> int: ...
    def __reduce__(self) -> tuple[Any, ...]: ...
    def __getstate__(self) -> list[Any]: ...
    def __setstate__(self, state: list[Any]) -> None: ...
    def __replace__(self, **changes: Any) -> Self: ...

def tick_of(batch: TickBatch, row: int) -> TickData:
    """One row of a batch as an object. Raises IndexError where there is no such row."""
