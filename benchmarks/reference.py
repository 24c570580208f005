"""The plain-Python ways to make bars that fastbars is measured against, exact and with all fields kept."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

import orjson

MINUTE_MS = 60_000


@dataclass(slots=True)
class Bar:
    """One bar of one symbol."""

    symbol: str
    open_ms: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    quote_volume: Decimal
    count: int
    taker_volume: Decimal
    taker_quote_volume: Decimal
    first_id: int
    last_id: int


class DecimalBars:
    """A dict of open bars, `Decimal` throughout: what most people write first, and write correctly."""

    def __init__(self) -> None:
        self.open: dict[str, Bar] = {}
        self.closed: list[Bar] = []

    def add(self, symbol: str, time_ms: int, price: Decimal, size: Decimal, taker_bought: bool, trade_id: int) -> None:
        """Fold one trade in."""
        open_ms = time_ms - time_ms % MINUTE_MS
        quote = price * size
        taker, taker_quote = (size, quote) if taker_bought else (Decimal(0), Decimal(0))
        bar = self.open.get(symbol)
        if bar is None or bar.open_ms != open_ms:
            if bar is not None:
                self.closed.append(bar)
            self.open[symbol] = Bar(
                symbol, open_ms, price, price, price, price, size, quote, 1, taker, taker_quote, trade_id, trade_id
            )
            return
        bar.high = max(bar.high, price)
        bar.low = min(bar.low, price)
        bar.close = price
        bar.volume += size
        bar.quote_volume += quote
        bar.count += 1
        bar.taker_volume += taker
        bar.taker_quote_volume += taker_quote
        bar.last_id = trade_id

    def add_messages(self, messages: Iterable[bytes]) -> None:
        """Decode with orjson, prices and sizes into Decimal, and fold in."""
        for message in messages:
            trade = orjson.loads(message)
            self.add(trade["s"], trade["T"], Decimal(trade["p"]), Decimal(trade["q"]), not trade["m"], trade["t"])
