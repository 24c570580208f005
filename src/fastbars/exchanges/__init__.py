"""The exchanges, by name and market. Adding one: a file beside this one, and a line here."""

from __future__ import annotations

from fastbars.errors import UnknownExchangeError
from fastbars.exchanges import binance
from fastbars.live.exchange import Exchange

EXCHANGES: dict[str, dict[str, Exchange]] = {
    "binance": binance.MARKETS,
}


def find_exchange(name: str, market: str = "spot") -> Exchange:
    """The exchange of this name and market. Raises UnknownExchangeError, which lists the known ones."""
    markets = EXCHANGES.get(name.lower())
    if markets is None:
        raise UnknownExchangeError(f"unknown exchange {name!r}; known are {', '.join(EXCHANGES)}")
    exchange = markets.get(market.lower())
    if exchange is None:
        raise UnknownExchangeError(f"{name}: unknown market {market!r}; known are {', '.join(markets)}")
    return exchange
