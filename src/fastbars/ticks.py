"""TickData: one trade as an object, as `on_tick`, `BarBuffer.add_tick` and `parse_message` use it.

Units: time_ns int64 nanoseconds since the Unix epoch, UTC; price quote units; volume base units (contracts on
inverse markets). For batches see `fastbars.kernel.batch.TickBatch`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from operator import index as to_index
from typing import Any

import numpy as np

from fastbars.errors import InvalidTickError
from fastbars.kernel.batch import side_sign
from fastbars.kernel.scaled import DECIMALS
from fastbars.times import EPOCH, TimeUnit, to_nanoseconds

__all__ = ["EPOCH", "TickData", "TickSide", "to_datetime", "to_nanoseconds"]


def to_datetime(time_ns: int) -> datetime:
    """An aware UTC datetime; nanoseconds below a microsecond are cut off."""
    return EPOCH + timedelta(microseconds=time_ns // 1000)


class TickSide(StrEnum):
    """Which side took liquidity."""

    BUY = "buy"
    SELL = "sell"
    UNKNOWN = "unknown"

    @classmethod
    def _missing_(cls, value: object) -> TickSide | None:
        # As exchanges write it: "Buy", "SELL".
        return next((side for side in cls if isinstance(value, str) and side.value == value.lower()), None)

    @classmethod
    def of(cls, sign: int) -> TickSide:
        """The side with this sign."""
        return cls.BUY if sign > 0 else cls.SELL if sign < 0 else cls.UNKNOWN

    @property
    def sign(self) -> int:
        """1 the taker bought, -1 the taker sold, 0 unknown."""
        return 1 if self is TickSide.BUY else -1 if self is TickSide.SELL else 0


def _decimal(
    name: str, symbol: str, value: Decimal | int | str, *, void: bool = False, signed: bool = False
) -> Decimal:
    if isinstance(value, float):
        raise TypeError(f"{symbol}: {name} {value!r} is a float, which has already lost digits; give Decimal or text")
    try:
        number = Decimal(value, DECIMALS)
    except InvalidOperation:
        raise InvalidTickError(f"{symbol}: {name} {value!r} is not a number") from None
    except TypeError:
        try:
            number = Decimal(to_index(value))  # type: ignore[arg-type] # an integer of numpy's, or another library's
        except TypeError:
            raise TypeError(
                f"{symbol}: {name} {value!r} is {type(value).__name__}; give Decimal, int or text"
            ) from None
    if not number.is_finite() or (not signed and (number < 0 or (number == 0 and not void))):
        raise InvalidTickError(f"{symbol}: {name} {value} is not {'finite' if signed else 'positive'}")
    return number


@dataclass(frozen=True, slots=True, init=False)
class TickData:
    """One trade, or several that the exchange reported as one.

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
    ) -> None:
        if last_trade_id is None:
            last_trade_id = trade_id
        if trade_count is None:
            trade_count = 1 if trade_id is None or last_trade_id is None else last_trade_id - trade_id + 1
        size = _decimal("volume", symbol, volume, void=trade_id is not None)
        if not size:
            trade_count = 0
        elif trade_count < 1:
            raise InvalidTickError(f"{symbol}: trade ids {trade_id} to {last_trade_id}, count {trade_count}")
        try:
            time_ns = to_nanoseconds(timestamp, time_unit)
        except InvalidTickError as error:
            raise InvalidTickError(f"{symbol}: {error}") from None
        except TypeError as error:
            raise TypeError(f"{symbol}: {error}") from None
        put = object.__setattr__
        put(self, "symbol", symbol)
        put(self, "time_ns", time_ns)
        put(self, "price", _decimal("price", symbol, price, void=not size, signed=negative_prices))
        put(self, "volume", size)
        put(self, "side", TickSide(side) if isinstance(side, str) else TickSide.of(side_sign(symbol, side)))
        put(self, "trade_id", trade_id)
        put(self, "last_trade_id", last_trade_id)
        put(self, "trade_count", trade_count)

    @property
    def row(self) -> tuple[str, int, Decimal, Decimal, int, int | None, int | None, int]:
        """The trade as `TickBatch.append` takes it."""
        return (
            self.symbol,
            self.time_ns,
            self.price,
            self.volume,
            self.side.sign,
            self.trade_id,
            self.last_trade_id,
            self.trade_count,
        )

    @property
    def timestamp(self) -> datetime:
        """Exchange time as an aware UTC datetime (microseconds)."""
        return to_datetime(self.time_ns)
