"""The exchanges, by name and market. Adding one: a file beside this one, and a line here."""

from __future__ import annotations

import inspect
from typing import Any

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


def find_exchange(name: str | Exchange, market: str | None = None) -> Exchange:
    """The exchange of this name and market (None: its first one); one that is given as an object is itself.

    Raises:
        UnknownExchangeError: there is none of this name and market; the message lists them.
        TypeError: neither a name nor an Exchange, or a market beside an Exchange, which is one market.
    """
    if isinstance(name, Exchange):
        if market is not None:
            raise TypeError(f"{name.name}: market={market!r} goes with an exchange's name; an Exchange is one market")
        return name
    given: Any = name
    if inspect.isclass(given) and issubclass(given, Exchange):
        raise TypeError(f"exchange must be an Exchange, got the class {given.__name__}: pass {given.__name__}()")
    if not isinstance(given, str):
        raise TypeError(f"exchange must be a name such as 'binance', or an Exchange, got {given!r:.100}")
    if not isinstance(market, str | None):
        raise TypeError(f"{name}: market must be a name such as 'spot', got {market!r:.100}")
    markets = EXCHANGES.get(name.lower())
    if markets is None:
        raise UnknownExchangeError(f"unknown exchange {name!r}; known are {', '.join(EXCHANGES)}")
    exchange = markets.get(next(iter(markets)) if market is None else market.lower())
    if exchange is None:
        raise UnknownExchangeError(f"{name}: unknown market {market!r}; known are {', '.join(markets)}")
    return exchange
