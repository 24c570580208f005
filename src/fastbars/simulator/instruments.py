"""The instruments of a simulated exchange: names, price and size grids, and how numbers are written.

Source: the grids follow exchangeInfo (`PRICE_FILTER.tickSize`, `LOT_SIZE.stepSize`) of comparable real
symbols.
Units: prices in ticks, sizes in steps, both int; a tick is 10**-price_decimals, a step 10**-size_decimals.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from functools import cached_property

__all__ = ["Naming", "SimulatedInstrument", "assets_in", "make_instruments"]

_DIGITS = Context(prec=50)  # not the caller's, which may round

# base asset, price, its decimals, decimals of the size, typical size; decimals add up to 8 at most, so that
# price x size is exact in the 8 decimals that Binance spot writes
_GRIDS: tuple[tuple[str, str, int, int, str], ...] = (
    ("BTC", "61837.63", 2, 5, "0.02"),
    ("ETH", "2664.41", 2, 4, "0.3"),
    ("SOL", "154.37", 2, 3, "4"),
    ("BNB", "512.8", 1, 3, "0.6"),
    ("XRP", "0.6123", 4, 0, "300"),
    ("DOGE", "0.10234", 5, 0, "2500"),
    ("PEPE", "0.00000812", 8, 0, "40000000"),
    ("ADA", "0.3391", 4, 1, "450"),
    ("SHIB", "0.00001396", 8, 0, "9000000"),
    ("AVAX", "21.94", 2, 2, "9"),
    ("LINK", "10.31", 2, 2, "15"),
    ("TRX", "0.1273", 4, 1, "1200"),
    ("DOT", "4.567", 3, 2, "30"),
    ("LTC", "59.21", 2, 3, "1.5"),
    ("BONK", "0.00001897", 8, 0, "7000000"),
    ("NEAR", "3.862", 3, 1, "40"),
    ("UNI", "5.83", 2, 2, "20"),
    ("ATOM", "4.62", 3, 2, "25"),
    ("1000SATS", "0.0002419", 7, 0, "600000"),
    ("APT", "5.71", 2, 2, "22"),
)
_QUOTES = ("USDT", "USDC", "USD", "EUR", "TRY", "BTC", "ETH")
_SYMBOL = re.compile(r"[A-Z0-9_/@-]{1,30}")


@dataclass(frozen=True)
class Naming:
    """The spelling of a market's symbols and numbers.

    Attributes:
        suffix: follows the base asset.
        text_decimals: decimals of all numbers; None: the grid's own.
        most_size_decimals: limit of the sizes' decimals, as on futures.
        contract_usd: base asset -> USD per contract, "" for all others; None: sizes are in base units.
        is_numbered: whether symbols are numbers.
    """

    suffix: str = ""
    text_decimals: int | None = None
    most_size_decimals: int | None = None
    contract_usd: Mapping[str, int] | None = None
    is_numbered: bool = False


@dataclass(frozen=True)
class SimulatedInstrument:
    """One symbol of the simulated exchange.

    Attributes:
        symbol: as the exchange writes it in payloads, such as "BTCUSDT" or "BTCUSD_PERP".
        price_decimals, size_decimals: the grids of price and size.
        text_decimals: decimals that are written; 8 on Binance spot, None (the grid's own) elsewhere.
        start_ticks: price at the start, in ticks.
        typical_steps: median size of a trade, in steps.
        contract_size: quote units per contract, for inverse contracts; None elsewhere.
    """

    symbol: str
    price_decimals: int
    size_decimals: int
    text_decimals: int | None
    start_ticks: int
    typical_steps: int
    contract_size: int | None

    @cached_property
    def tick_size(self) -> Decimal:
        """Quote units a tick."""
        return Decimal((0, (1,), -self.price_decimals))

    @cached_property
    def step_size(self) -> Decimal:
        """Base units (or contracts) a step."""
        return Decimal((0, (1,), -self.size_decimals))

    @property
    def amount_decimals(self) -> int:
        """Decimals in which the sum of price x size is written; base units of inverse contracts have 8."""
        if self.text_decimals is not None or self.contract_size is not None:
            return 8
        return self.price_decimals + self.size_decimals

    @property
    def price_format(self) -> str:
        """Format spec of prices that are `Decimal`."""
        return f".{self.price_decimals if self.text_decimals is None else self.text_decimals}f"

    @property
    def size_format(self) -> str:
        """Format spec of sizes that are `Decimal`."""
        return f".{self.size_decimals if self.text_decimals is None else self.text_decimals}f"

    def price_text(self, ticks: int) -> str:
        """Write a price: "61837.63000000" on Binance spot, "61837.63" elsewhere."""
        return _fixed_text(ticks, self.price_decimals, self.text_decimals)

    def size_text(self, steps: int) -> str:
        """Write a size, as `price_text` does a price."""
        return _fixed_text(steps, self.size_decimals, self.text_decimals)


def _fixed_text(mantissa: int, decimals: int, text_decimals: int | None) -> str:
    if text_decimals is not None and text_decimals != decimals:
        mantissa *= 10 ** (text_decimals - decimals)
        decimals = text_decimals
    if not decimals:
        return str(mantissa)
    digits = str(mantissa)
    if len(digits) <= decimals:
        digits = digits.zfill(decimals + 1)
    return f"{digits[:-decimals]}.{digits[-decimals:]}"


def assets_in(pair: str) -> tuple[str, str]:
    """Base and quote of a pair that is written without a separator, such as "BTCUSDT"."""
    quote = next((quote for quote in _QUOTES if pair.endswith(quote) and pair != quote), pair[-3:])
    return pair.removesuffix(quote), quote


def make_instruments(naming: Naming, symbols: int | Sequence[str]) -> list[SimulatedInstrument]:
    """Make the instruments of a market.

    Args:
        naming: how their symbols are spelled.
        symbols: how many, or their names; an unknown name gets the grid of one of the known ones.

    Raises:
        ValueError: no symbol, a name twice, or a name that is not made of A-Z, 0-9 and "_", "-", "/", "@".
    """
    if isinstance(symbols, str):
        raise ValueError(f"simulator: symbols must be a list of names or a number, got the text {symbols!r}")
    if isinstance(symbols, int):
        bases = [grid[0] for grid in _GRIDS] + [f"SIM{number:04d}" for number in range(len(_GRIDS), symbols)]
        if naming.is_numbered:
            bases = [str(265_598 + number) for number in range(max(symbols, 0))]
        names = [base + naming.suffix for base in bases[: max(symbols, 0)]]
    else:
        names = list(symbols)
    if not names or len(set(names)) != len(names):
        raise ValueError(f"simulator: symbols must be one or more without duplicates, got {symbols!r}")
    return [_instrument(naming, name) for name in names]


def _instrument(naming: Naming, name: str) -> SimulatedInstrument:
    if not _SYMBOL.fullmatch(name):
        raise ValueError(f"simulator: {name!r} is not a symbol; use 1 to 30 of A-Z, 0-9, '_', '-', '/' and '@'")
    known = {grid[0] + naming.suffix: grid for grid in _GRIDS}
    grid = known.get(name) or _GRIDS[zlib.crc32(name.encode()) % len(_GRIDS)]
    base, price, price_decimals, size_decimals, size = grid
    if naming.most_size_decimals is not None:
        size_decimals = min(size_decimals, naming.most_size_decimals)
    contract_size = None
    if naming.contract_usd is not None:
        contract_size = naming.contract_usd.get(base if name in known else "", naming.contract_usd[""])
        size_decimals, size = 0, "4"
    return SimulatedInstrument(
        symbol=name,
        price_decimals=price_decimals,
        size_decimals=size_decimals,
        text_decimals=naming.text_decimals,
        start_ticks=int(Decimal(price).scaleb(price_decimals, _DIGITS)),
        typical_steps=max(1, int(Decimal(size).scaleb(size_decimals, _DIGITS))),
        contract_size=contract_size,
    )
