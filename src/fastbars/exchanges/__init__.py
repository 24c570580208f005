"""The registry of exchanges, by name and market, and every name that an exchange file imports.

To add one: a module in this package, and a line (with its import) here.
"""

from __future__ import annotations

import inspect
from typing import Any

from fastbars.bars import ExchangeBar
from fastbars.errors import ParseError, RestError, UnknownExchangeError
from fastbars.events import Quote, Ticker
from fastbars.exchanges.candles import CandleAsk, CandleHistory, CandlePaging
from fastbars.exchanges.checked import integer_of, interval_of, shown
from fastbars.exchanges.declaration import Deltas, Exchange, Keepalive, Limits, by_channel
from fastbars.exchanges.history import History, Hole, Page, Paging, list_in, read_past_trades
from fastbars.exchanges.listing import (
    DELISTED,
    HALTED,
    NOT_YET,
    Listed,
    Listing,
    Question,
    positive_in,
    text_in,
    time_in,
)
from fastbars.exchanges.messages import (
    EXACT,
    NOTHING,
    Ack,
    Heartbeat,
    Message,
    Notice,
    RawMessage,
    Refusal,
    Stream,
    TokenWanted,
    Trade,
    decimal_of,
    decimals_of,
    make_candle,
    make_quote,
    make_trade,
    nanoseconds_of,
    time_of,
    time_of_seconds,
)
from fastbars.exchanges.naming import Alias, SymbolRules
from fastbars.exchanges.reader import TradeReader
from fastbars.exchanges.rest_api import RestApi
from fastbars.id_policy import Ids
from fastbars.wire.fields import TradeFields

# isort: split
# After the names above: each of these modules imports them from this package while the package is being initialised.
from fastbars.exchanges import binance, bybit, coinbase, deribit, hyperliquid, interactive_brokers, kraken, okx

__all__ = [
    "DELISTED",
    "EXACT",
    "EXCHANGES",
    "HALTED",
    "NOTHING",
    "NOT_YET",
    "Ack",
    "Alias",
    "CandleAsk",
    "CandleHistory",
    "CandlePaging",
    "Deltas",
    "Exchange",
    "ExchangeBar",
    "Heartbeat",
    "History",
    "Hole",
    "Ids",
    "Keepalive",
    "Limits",
    "Listed",
    "Listing",
    "Message",
    "Notice",
    "Page",
    "Paging",
    "ParseError",
    "Question",
    "Quote",
    "RawMessage",
    "Refusal",
    "RestApi",
    "RestError",
    "Stream",
    "SymbolRules",
    "Ticker",
    "TokenWanted",
    "Trade",
    "TradeFields",
    "TradeReader",
    "by_channel",
    "decimal_of",
    "decimals_of",
    "find_exchange",
    "integer_of",
    "interval_of",
    "list_in",
    "make_candle",
    "make_quote",
    "make_trade",
    "nanoseconds_of",
    "positive_in",
    "read_past_trades",
    "regions",
    "shown",
    "text_in",
    "time_in",
    "time_of",
    "time_of_seconds",
]

EXCHANGES: dict[str, dict[str, Exchange]] = {
    "binance": binance.MARKETS,
    "bybit": bybit.MARKETS,
    "hyperliquid": hyperliquid.MARKETS,
    "interactive_brokers": interactive_brokers.MARKETS,
    "okx": okx.MARKETS,
    "coinbase": coinbase.MARKETS,
    "kraken": kraken.MARKETS,
    "deribit": deribit.MARKETS,
}


def find_exchange(name: str | Exchange, market: str | None = None) -> Exchange:
    """Find an exchange by name and market (None: the first one); an Exchange object is returned as it is.

    Both may be one name, "bybit:linear". A market may carry the region whose hosts are used, such as "spot@eea"; "@eea"
    is the first market there.

    Raises:
        UnknownExchangeError: no such name, market or region; the message lists the known ones.
        TypeError: neither a name nor an Exchange, or a market given with an Exchange, which is one market already.
    """
    if isinstance(name, Exchange):
        if market is not None:
            raise TypeError(f"{name.name}: market={market!r} cannot be given with an Exchange, which is one market")
        return name
    given: Any = name
    if inspect.isclass(given) and issubclass(given, Exchange):
        raise TypeError(f"exchange must be an Exchange, got the class {given.__name__}: pass {given.__name__}()")
    if not isinstance(given, str):
        raise TypeError(f"exchange must be a name such as 'binance', or an Exchange, got {given!r:.100}")
    if market is None and ":" in given:
        name, _, market = given.partition(":")
    else:
        name = given
    if not isinstance(market, str | None):
        raise TypeError(f"{name}: market must be a name such as 'spot', got {market!r:.100}")
    markets = EXCHANGES.get(name.lower())
    if markets is None:
        raise UnknownExchangeError(f"unknown exchange {name!r}; known are {', '.join(EXCHANGES)}")
    kind, at, region = (market or "").lower().partition("@")
    # No market, or "@eea", is the first one; an empty text is a mistake and refused below.
    kind = kind or next(iter(markets)) if at or market is None else kind
    if kind not in markets:
        raise UnknownExchangeError(
            f"{name}: unknown market {market!r}; known are {', '.join(markets)}{_listed_regions(name)}"
        )
    exchange = markets[kind]
    if not at:
        return exchange
    if region not in exchange.regions:
        known = _listed_regions(name) or ", which has no regions"
        raise UnknownExchangeError(f"{name}: unknown region {region!r} of market {kind!r}{known}")
    # The same region gives the same object each time, as a market without one does; it is stale if the exchange that it
    # was made from has been replaced in EXCHANGES since.
    key = name.lower(), kind, region
    found = _REGIONAL.get(key)
    if found is None or found[0] is not exchange:
        found = _REGIONAL[key] = exchange, exchange.in_region(region, f"{key[0]} {kind}@{region}")
    return found[1]


def regions(name: str) -> list[str]:
    """The regions in which an exchange's markets are served, as in `market="spot@eea"`."""
    return list(dict.fromkeys(region for exchange in EXCHANGES[name].values() for region in exchange.regions))


_REGIONAL: dict[tuple[str, str, str], tuple[Exchange, Exchange]] = {}  # (from, made) of each that was requested


def _listed_regions(name: str) -> str:
    known = regions(name.lower())
    return f"; regions, as in 'spot@{known[0]}', are {', '.join(known)}" if known else ""
