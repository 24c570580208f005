"""What differs between a bar and the exchange's candle: a light module, as the types of `fastbars.stream` name it."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from fastbars.bars import ExchangeBar, OHLCVBar

Series = tuple[str, str, str, str]  # exchange, market, symbol, spec


def series_of(bar: OHLCVBar | ExchangeBar) -> Series:
    """What the bar is one of."""
    return bar.exchange, bar.market, bar.symbol, bar.spec


@dataclass(frozen=True, slots=True)
class Difference:
    """The first field in which a bar differs from the exchange's candle.

    Attributes:
        bar, candle: those compared.
        field: name of the field.
        bar_value, candle_value: its value in each.
        cause: the likely reason.
    """

    bar: OHLCVBar
    candle: ExchangeBar
    field: str
    bar_value: Decimal | int | None
    candle_value: Decimal | int | None
    cause: str

    def __str__(self) -> str:
        bar = self.bar
        values = [format(v, "f") if isinstance(v, Decimal) else v for v in (self.bar_value, self.candle_value)]
        series = " ".join(filter(None, series_of(bar)))
        name = f"{series} {bar.open_time:%Y-%m-%dT%H:%M:%SZ} revision {bar.revision}"
        return f"{name}: {self.field} is {values[0]}, the exchange has {values[1]}; {self.cause}"
