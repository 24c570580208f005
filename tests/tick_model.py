"""The plain dataclass that TickData was before its fields became C fields: what TickData must do, in slow Python."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from operator import index as to_index
from typing import Any

from fastbars.errors import InvalidTickError
from fastbars.kernel.batch import TickBatch, side_sign
from fastbars.kernel.scaled import DECIMALS, to_decimal
from fastbars.ticks import TickSide, to_datetime
from fastbars.times import TimeUnit, to_nanoseconds


def decimal_of(name: str, symbol: str, value: Any, *, void: bool = False, signed: bool = False) -> Decimal:
    if isinstance(value, float):
        raise TypeError(f"{symbol}: {name} {value!r} is a float, which has already lost digits; give Decimal or text")
    try:
        number = Decimal(value, DECIMALS)
    except InvalidOperation:
        raise InvalidTickError(f"{symbol}: {name} {value!r} is not a number") from None
    except TypeError:
        try:
            number = Decimal(to_index(value))
        except TypeError:
            raise TypeError(
                f"{symbol}: {name} {value!r} is {type(value).__name__}; give Decimal, int or text"
            ) from None
    if not number.is_finite() or (not signed and (number < 0 or (number == 0 and not void))):
        raise InvalidTickError(f"{symbol}: {name} {value} is not {'finite' if signed else 'positive'}")
    return number


@dataclass(frozen=True, slots=True, init=False)
class TickModel:
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
        timestamp: Any,
        price: Any,
        volume: Any,
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
        size = decimal_of("volume", symbol, volume, void=trade_id is not None)
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
        put(self, "price", decimal_of("price", symbol, price, void=not size, signed=negative_prices))
        put(self, "volume", size)
        put(self, "side", TickSide(side) if isinstance(side, str) else TickSide.of(side_sign(symbol, side)))
        put(self, "trade_id", trade_id)
        put(self, "last_trade_id", last_trade_id)
        put(self, "trade_count", trade_count)

    @property
    def row(self) -> tuple[Any, ...]:
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
        return to_datetime(self.time_ns)


def model_of(batch: TickBatch, row: int) -> TickModel:
    """One row of a batch."""
    names = ("symbol_id", "time_ns", "price", "size", "side", "first_id", "last_id", "count")
    columns = {name: batch.column(name) for name in names}
    given = {name: int(column[row]) for name, column in columns.items() if column is not None}
    symbol = batch.instruments.symbol(given["symbol_id"])
    price_scale, size_scale = batch.scales(symbol)
    return TickModel(
        symbol,
        given["time_ns"],
        to_decimal(given["price"], price_scale),
        to_decimal(given["size"], size_scale),
        TickSide.of(given.get("side", 0)),
        given.get("first_id"),
        given.get("last_id"),
        given.get("count", 1),
        time_unit="ns",
        negative_prices=batch.instruments.negative_prices,
    )
