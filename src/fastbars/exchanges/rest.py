"""What the exchanges' REST APIs serve of past trades, for healing.

Source: https://developers.binance.com/docs/binance-spot-api-docs/rest-api/market-data-endpoints,
https://developers.binance.com/docs/derivatives, https://www.okx.com/docs-v5/en/#order-book-trading-market-data,
https://docs.cdp.coinbase.com/coinbase-app/advanced-trade-apis, https://docs.kraken.com/api/docs/rest-api
Units: times in answers are ms (Binance, OKX), RFC 3339 text (Coinbase) or seconds with decimals (Kraken).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import replace
from decimal import Context
from itertools import product
from typing import Any

import orjson

from fastbars.errors import ParseError
from fastbars.exchanges.checked import LATEST_NS, integer_of, shown
from fastbars.exchanges.history import History, Hole, Page, Paging
from fastbars.exchanges.messages import Trade, decimal_of, nanoseconds_of, time_of

BINANCE_FUTURES_BUDGET = "binance futures"  # USD-M and COIN-M are counted together
_DAY_S = 86_400.0
_EXACT = Context(prec=256, traps=[])  # not the caller's, which may round


# The side of the taker, by what answers say: whether the buyer was the maker, the taker's side, or the maker's.
_BUYER_WAS_MAKER = {True: -1, False: 1}
_TAKER = {"buy": 1, "sell": -1, "b": 1, "s": -1}
_MAKER = {"SELL": 1, "BUY": -1}


def _list_of(answer: Any, what: str) -> list[Any]:
    if not isinstance(answer, list):
        raise ParseError(f"{what} is {shown(answer)}, not a list")
    return answer


def _check_instrument(asked: str, answered: object, known_as: Container[object] = ()) -> None:
    if answered != asked and answered not in known_as:
        raise ParseError(f"asked for {asked}, the answer is of {shown(answered)}")


def _trade(
    channel: str, symbol: str, time_ns: int, price: object, size: object, side: int, first: object, last: object,
    sequence: object = None,
) -> Trade:  # fmt: skip
    for text in (price, size):
        if decimal_of(text).is_signed():  # a hole is not filled with garbage: "-0" would be a void id
            raise ParseError(f"{symbol}: trade {shown(first)} has a price or size with a sign, {text!r}")
    first_id, last_id = integer_of(first), integer_of(last)
    number = None if sequence is None else integer_of(sequence)
    return Trade(
        channel, symbol, time_ns, str(price), str(size), side, first_id, last_id, last_id - first_id + 1, number
    )


# Binance: [{"id":28457,"price":"4.00000100","qty":"12.00000000","quoteQty":"48.000012","time":1499865549590,
#  "isBuyerMaker":true,"isBestMatch":true}]


def _binance_trades(channel: str) -> Callable[[str, bytes], Page]:
    def parse(symbol: str, body: bytes) -> Page:
        return Page(
            [
                _trade(channel, symbol, nanoseconds_of(one["time"]), one["price"], one["qty"],
                       _BUYER_WAS_MAKER[one["isBuyerMaker"]], one["id"], one["id"])
                for one in _list_of(orjson.loads(body), "the answer")
            ]
        )  # fmt: skip

    return parse


# [{"a":26129,"p":"0.01633102","q":"4.70443515","f":27781,"l":27781,"T":1498793709153,"m":true}]
def _binance_aggregates(symbol: str, body: bytes) -> Page:
    return Page(
        [
            _trade("aggTrade", symbol, nanoseconds_of(one["T"]), one["p"], one["q"], _BUYER_WAS_MAKER[one["m"]],
                   one["f"], one["l"], one["a"])
            for one in _list_of(orjson.loads(body), "the answer")
        ]
    )  # fmt: skip


def _from_id(limit: int) -> Callable[[str, int, Hole], Mapping[str, str]]:
    return lambda symbol, position, _: {"symbol": symbol, "fromId": str(position), "limit": str(limit)}


def _latest(limit: int) -> Callable[[str, int, Hole], Mapping[str, str]]:
    return lambda symbol, _position, _hole: {"symbol": symbol, "limit": str(limit)}


def _binance_spot(channel: str) -> History:
    # Aggregates carry the ids of their trades, so that single trades fill the holes between them.
    return History(
        "https://api.binance.com", "/api/v3/historicalTrades", Paging.FORWARD_BY_ID, 1000, _from_id(1000),
        _binance_trades(channel), weight=25.0, weight_per_minute=6000.0,
    )  # fmt: skip


def _binance_futures(url: str, prefix: str, weight: float) -> Mapping[str, Sequence[History]]:
    omits = "insurance fund and ADL trades, and void ids"
    with_key = History(
        url, f"{prefix}/historicalTrades", Paging.FORWARD_BY_ID, 500, _from_id(500), _binance_trades("trade"),
        weight=weight, weight_per_minute=2400.0, key_header="X-MBX-APIKEY", reach_s=30 * _DAY_S, omits=omits,
        leaves_out_ids=True,
        budget=BINANCE_FUTURES_BUDGET,
    )  # fmt: skip
    without = replace(
        with_key, path=f"{prefix}/trades", paging=Paging.RECENT, page_size=1000, query=_latest(1000), weight=5.0,
        key_header=None, omits=f"{omits}, and without a key (StreamConfig.api_key) all but the latest 1000 trades",
    )  # fmt: skip
    aggregates = replace(
        with_key, path=f"{prefix}/aggTrades", page_size=1000, query=_from_id(1000), parse=_binance_aggregates,
        weight=20.0, key_header=None, reach_s=_DAY_S, omits="", leaves_out_ids=False,
    )  # fmt: skip
    return {"trade": (with_key, without), "aggTrade": (aggregates,)}


BINANCE_SPOT: Mapping[str, Sequence[History]] = {
    channel: (_binance_spot(channel),) for channel in ("trade", "aggTrade")
}
BINANCE_US: Mapping[str, Sequence[History]] = {
    channel: (replace(one, url="https://api.binance.us", key_header="X-MBX-APIKEY"),)
    for channel, (one,) in BINANCE_SPOT.items()
}
BINANCE_USDM = _binance_futures("https://fapi.binance.com", "/fapi/v1", 200.0)
BINANCE_COINM = _binance_futures("https://dapi.binance.com", "/dapi/v1", 200.0)


# OKX: {"code":"0","msg":"","data":[{"instId":"BTC-USDT","side":"sell","sz":"0.00001","px":"29963.2",
#  "tradeId":"242720720","ts":"1654161646974"}]}, newest first
def _okx_trades(symbol: str, body: bytes) -> Page:
    answer = orjson.loads(body)
    if answer["code"] != "0":
        raise ParseError(f"okx {symbol}: {shown(answer.get('msg'))} (code {shown(answer['code'])})")
    rows = _list_of(answer["data"], "data")
    for one in rows:
        _check_instrument(symbol, one["instId"])
    return Page(
        [
            _trade("trades-all", symbol, nanoseconds_of(one["ts"]), one["px"], one["sz"], _TAKER[one["side"]],
                   one["tradeId"], one["tradeId"])
            for one in reversed(rows)
        ]
    )  # fmt: skip


OKX: Mapping[str, Sequence[History]] = {
    "trades-all": (
        History(
            "https://www.okx.com", "/api/v5/market/history-trades", Paging.BACKWARD_BY_ID, 100,
            lambda symbol, position, _: {"instId": symbol, "type": "1", "after": str(position), "limit": "100"},
            _okx_trades, weight=1.0, weight_per_minute=600.0, reach_s=90 * _DAY_S,
        ),
    )
}  # fmt: skip


# Coinbase: {"trades":[{"trade_id":"34b080bf-...","product_id":"BTC-USD","price":"140.91","size":"4","time":
#  "2021-05-31T09:59:59.000Z","side":"BUY","bid":"","ask":""}],...}, newest first; the side is the maker's
def _coinbase_trades(symbol: str, body: bytes) -> Page:
    rows = _list_of(orjson.loads(body)["trades"], "trades")
    # "-USDC" products are traded in the books of the "-USD" ones, whose name answers may carry.
    twin = symbol.removesuffix("-USDC") + "-USD" if symbol.endswith("-USDC") else f"{symbol}C"
    for one in rows:
        _check_instrument(symbol, one["product_id"], (twin,) if symbol.endswith(("-USD", "-USDC")) else ())
    return Page(
        [
            _trade("market_trades", symbol, time_of(one["time"]), one["price"], one["size"],
                   _MAKER[one["side"]], one["trade_id"], one["trade_id"])
            for one in reversed(rows)
        ]
    )  # fmt: skip


def _coinbase_query(symbol: str, position: int, hole: Hole) -> Mapping[str, str]:  # noqa: ARG001 as all of them
    start = min(hole.since_ns, hole.until_ns) // 10**9
    return {"limit": "1000", "start": str(start), "end": str(position // 10**9 + 1)}


COINBASE: Mapping[str, Sequence[History]] = {
    "market_trades": (
        History(
            "https://api.coinbase.com", "/api/v3/brokerage/market/products/{symbol}/ticker", Paging.BACKWARD_BY_TIME,
            1000, _coinbase_query, _coinbase_trades, weight=1.0, weight_per_minute=600.0,
        ),
    )
}  # fmt: skip

# Kraken's REST API knows some assets by older names than its streams.
KRAKEN_NAMES: Mapping[str, str] = {"BTC": "XBT", "DOGE": "XDG"}


# Kraken: {"error":[],"result":{"XXBTZUSD":[["30243.40000","0.34507674",1688669597.8277369,"b","m","",61044952]],
#  "last":"1688671969993150842"}}
def _kraken_trades(symbol: str, body: bytes) -> Page:
    answer = json.loads(body, parse_float=str, parse_int=str)  # a time is a number, and a float of it loses digits
    if answer["error"]:
        raise ParseError(f"kraken {symbol}: {shown(answer['error'])}")
    cursor = integer_of(answer["result"].pop("last"))
    ((pair, rows),) = answer["result"].items()
    _check_instrument(symbol, pair, _kraken_pairs(symbol))
    return Page(
        [
            _trade("trade", symbol, _time_of_seconds(time), price, size, _TAKER[side], number, number)
            for price, size, time, side, _, _, number in _list_of(rows, "result")
        ],
        cursor,
    )


def _time_of_seconds(text: object) -> int:
    # "1688669597.8277369" as ns
    seconds = decimal_of(text)
    if not 0 <= seconds <= LATEST_NS // 10**9:
        raise ParseError(f"{text!r} is not a time in seconds")
    return int(_EXACT.multiply(seconds, 10**9))


def _kraken_pairs(symbol: str) -> set[str]:
    # What an answer may call the pair: "SOLUSD", or with the letters that mark the class of older assets, "XXBTZUSD".
    sides = [
        {f"{mark}{name}" for mark in ("", "X", "Z") for name in (asset, KRAKEN_NAMES.get(asset, asset))}
        for asset in symbol.split("/")
    ]
    return {mark.join(names) for names in product(*sides) for mark in ("", "/")}


def _kraken_query(symbol: str, position: int, _: Hole) -> Mapping[str, str]:
    pair = "".join(KRAKEN_NAMES.get(asset, asset) for asset in symbol.split("/"))
    return {"pair": pair, "since": str(position), "count": "1000"}


KRAKEN: Mapping[str, Sequence[History]] = {
    "trade": (
        History(
            "https://api.kraken.com", "/0/public/Trades", Paging.FORWARD_BY_CURSOR, 1000, _kraken_query,
            _kraken_trades, weight=1.0, weight_per_minute=60.0,
        ),
    )
}  # fmt: skip
