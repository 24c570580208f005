"""The dialects, by the exchange's name. Adding one: a module beside this one, and a line here."""

from __future__ import annotations

from fastbars.errors import UnknownExchangeError
from fastbars.simulator.binance import BinanceDialect
from fastbars.simulator.bybit import BybitDialect
from fastbars.simulator.coinbase import CoinbaseDialect
from fastbars.simulator.dialect import Dialect
from fastbars.simulator.hyperliquid import HyperliquidDialect
from fastbars.simulator.interactive_brokers import InteractiveBrokersDialect
from fastbars.simulator.kraken import KrakenDialect
from fastbars.simulator.okx import OKXDialect

DIALECTS: dict[str, type[Dialect]] = {
    dialect.exchange: dialect
    for dialect in (
        BinanceDialect,
        BybitDialect,
        HyperliquidDialect,
        InteractiveBrokersDialect,
        OKXDialect,
        CoinbaseDialect,
        KrakenDialect,
    )
}


def find_dialect(exchange: str) -> type[Dialect]:
    """The dialect of an exchange. Raises UnknownExchangeError, which lists the known ones."""
    dialect = DIALECTS.get(exchange.lower())
    if dialect is None:
        raise UnknownExchangeError(f"simulator: no dialect of {exchange!r}; known are {', '.join(DIALECTS)}")
    return dialect
