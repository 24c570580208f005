"""The exchanges, by name and market. Adding one: a file beside this one, and a line here."""

from __future__ import annotations

from fastbars.errors import UnknownExchangeError
from fastbars.exchanges import binance, bybit, coinbase, hyperliquid, interactive_brokers, kraken, okx
from fastbars.live.exchange import Exchange

EXCHANGES: dict[str, dict[str, Exchange]] = {
    "binance": binance.MARKETS,
    "bybit": bybit.MARKETS,
    "hyperliquid": hyperliquid.MARKETS,
    "interactive_brokers": interactive_brokers.MARKETS,
    "okx": okx.MARKETS,
    "coinbase": coinbase.MARKETS,
    "kraken": kraken.MARKETS,
}


def find_exchange(name: str, market: str | None = None) -> Exchange:
    """The exchange of this name and market (None: its first one). Raises UnknownExchangeError, which lists them."""
    markets = EXCHANGES.get(name.lower())
    if markets is None:
        raise UnknownExchangeError(f"unknown exchange {name!r}; known are {', '.join(EXCHANGES)}")
    exchange = markets.get(next(iter(markets)) if market is None else market.lower())
    if exchange is None:
        raise UnknownExchangeError(f"{name}: unknown market {market!r}; known are {', '.join(markets)}")
    return exchange
