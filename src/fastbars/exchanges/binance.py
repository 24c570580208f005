"""Binance: spot, USD-M futures and COIN-M futures; and Binance.US.

Source: https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams,
https://developers.binance.com/docs/binance-spot-api-docs/rest-api and https://developers.binance.com/docs/derivatives
Units: times in messages are milliseconds, or microseconds if the URL requests them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson

from fastbars.exchanges import (
    DELISTED,
    HALTED,
    NOT_YET,
    Ack,
    Alias,
    CandleAsk,
    CandleHistory,
    CandlePaging,
    Exchange,
    ExchangeBar,
    History,
    Hole,
    Ids,
    Keepalive,
    Limits,
    Listed,
    Listing,
    Message,
    Notice,
    Page,
    Paging,
    Question,
    Quote,
    RawMessage,
    Refusal,
    RestApi,
    Stream,
    SymbolRules,
    Ticker,
    TradeFields,
    TradeReader,
    decimals_of,
    interval_of,
    list_in,
    make_candle,
    nanoseconds_of,
    positive_in,
    read_past_trades,
    text_in,
    time_in,
)
from fastbars.exchanges.checked import bare_integer_of as _int, bare_nanoseconds_of as _ns
from fastbars.exchanges.declaration import PROTOCOL_PINGS_ONLY
from fastbars.exchanges.listing import Kind
from fastbars.ticks import to_datetime

_DAY_S = 86_400.0
# The first files of its archive begin with trade 0 on spot, and on futures with aggregate 1; that single trades begin
# with 1 there is assumed.
_SPOT_FIRST: Mapping[str, int] = {"trade": 0, "aggTrade": 0}
_FUTURES_FIRST: Mapping[str, int] = {"trade": 1}
_CONTRACT_USD = {"BTCUSD": Decimal(100)}  # COIN-M: all others 10
# Passed on as RawMessage: events of the market and of accounts. Block trades too, whose ids are a separate series.
_RAW = frozenset({
    "depthUpdate", "markPriceUpdate", "forceOrder", "24hrMiniTicker", "blockTrade", "avgPrice", "1hTicker", "4hTicker",
    "1dTicker", "executionReport", "outboundAccountPosition", "balanceUpdate", "listStatus", "ACCOUNT_UPDATE",
    "ORDER_TRADE_UPDATE", "TRADE_LITE", "MARGIN_CALL", "ACCOUNT_CONFIG_UPDATE", "listenKeyExpired",
})  # fmt: skip
_FUTURES_CANDLES = {
    spec: f"kline_{spec.replace('mo', 'M')}"
    for spec in ("1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d", "1w", "1mo")
}
_SPOT_CANDLES = {"1s": "kline_1s", **_FUTURES_CANDLES}


# {"e":"trade","E":1723161255343,"s":"BTCUSDT","t":3735683259,"p":"61837.63000000","q":"0.02000000",
#  "T":1723161255342,"m":true,"M":true}; on futures with "X":"MARKET" and without "M"
# {"e":"aggTrade","E":1617566591315,"s":"BTCUSDT","a":665076760,"p":"58001.03000000","q":"0.08620500",
#  "f":745522877,"l":745522877,"T":1617566591314,"m":true,"M":true}
def _fields(channel: str) -> TradeFields:
    first_id, last_id, sequence = ("f", "l", "a") if channel == "aggTrade" else ("t", None, None)
    return TradeFields(
        match={"e": channel}, envelope="data", symbol="s", price="p", size="q", time="T", time_unit="ms or us",
        first_id=first_id, last_id=last_id, sequence=sequence, side="m", buy=False, sell=True,
        event_time="E", event_time_unit="ms or us",
    )  # fmt: skip


@dataclass(frozen=True)
class Binance(Exchange):
    """One of Binance's markets; the routes say which URL path serves which channels."""

    name: str
    channels: Mapping[str, Ids | None]
    routes: Mapping[str, Sequence[str]]
    limits: Limits
    keepalive: Keepalive = PROTOCOL_PINGS_ONLY
    docs: str = ""
    coin_margined: bool = False
    first_ids: Mapping[str, int] = field(default_factory=lambda: _FUTURES_FIRST, repr=False)
    default_channel: str = "trade"
    histories: Mapping[str, Sequence[History]] = field(default_factory=dict, repr=False)
    candles: Mapping[str, str] = field(default_factory=lambda: _FUTURES_CANDLES, repr=False)
    candle_history: CandleHistory | None = field(default=None, repr=False)
    listing: Listing | None = field(default=None, repr=False)

    acks_prove = False  # any name is acknowledged, on any route
    # Messages name symbols in upper case, requests in lower case; some are written in Chinese.
    symbols = SymbolRules(r"[^\Wa-z]+", "upper", "BTCUSDT or BTCUSD_PERP", separator="")

    def streams_in(self, url: str) -> list[Stream]:
        # wss://host/ws/a@trade/b@trade, wss://host/stream?streams=a@trade
        try:
            parts = urlsplit(url)
        except ValueError:  # not a URL; connecting will say so
            return []
        named = parse_qs(parts.query).get("streams") or [parts.path.partition("/ws/")[2]]
        pairs = [name.partition("@") for name in named[0].split("/") if "@" in name[1:] and name[0] != "!"]
        return [(symbol.upper(), channel) for symbol, _, channel in pairs]

    def subscribe(self, streams: Sequence[Stream], request_id: int) -> list[bytes]:
        return self._request("SUBSCRIBE", streams, request_id)

    def unsubscribe(self, streams: Sequence[Stream], request_id: int) -> list[bytes]:
        return self._request("UNSUBSCRIBE", streams, request_id)

    def _request(self, method: str, streams: Sequence[Stream], request_id: int) -> list[bytes]:
        names = [f"{symbol.lower()}@{channel}" for symbol, channel in streams]
        return [orjson.dumps({"method": method, "params": names, "id": request_id})]

    def fields(self, channel: str) -> TradeFields | None:
        return _fields(channel)

    def contract_size(self, symbol: str) -> Decimal | None:
        return _CONTRACT_USD.get(symbol.split("_", maxsplit=1)[0], Decimal(10)) if self.coin_margined else None

    def native_name(self, alias: Alias) -> str | None:
        # BTCUSDT; USD-M BTCUSDT and BTCUSDT_260925; COIN-M BTCUSD_PERP and BTCUSD_260925
        pair = f"{alias.base}{alias.quote}"
        if self.coin_margined:
            return f"{pair}_{alias.expiry or 'PERP'}" if alias.is_inverse and alias.quote == "USD" else None
        if self.name == "binance usdm":
            return pair + (f"_{alias.expiry}" if alias.expiry else "") if alias.is_linear else None
        return pair if alias.kind == "spot" else None

    def parse(self, message: Any) -> Iterable[Message]:
        if not isinstance(message, dict):
            return ()
        data = message.get("data", message)
        if not isinstance(data, dict):
            return ()
        kind = data.get("e")
        # Trades never come here: `fields` has them. Only replies to requests, and spot's bookTicker, have no "e".
        if kind == "kline":
            return (self._kline(data),)
        # spot sends {"u":50093239212,"s":"BTCUSDT","b":"61837.63","B":"3.78","a":"61837.64","A":"1.54"} without "e"
        if kind == "bookTicker" or (kind is None and "u" in data and "b" in data and "a" in data):
            bid, bid_size, ask, ask_size = decimals_of(data, *"bBaA")
            return (Quote(data["s"], bid, bid_size, ask, ask_size, self.event_time_ns(data)),)
        if kind == "24hrTicker":
            last, open_, high, low, v, q = decimals_of(data, *"cohlvq")
            return (Ticker(data["s"], last, open_, high, low, v, q, _int(data["n"]), _ns(data["E"])),)
        if kind == "serverShutdown":
            return (Notice("the server is about to shut down"),)
        if kind in _RAW:
            return (RawMessage(kind, data.get("s"), message),)
        return self._control(data) if kind is None else ()

    def _kline(self, data: dict[str, Any]) -> ExchangeBar:
        # {"e":"kline","E":1617566640068,"s":"BTCUSDT","k":{"t":1617566580000,"T":1617566639999,"s":"BTCUSDT","i":"1m",
        #  "f":745522651,"L":745523670,"o":"57994.6","c":"57999.99","h":"58018.03","l":"57974.41","v":"23.067122",
        #  "n":1020,"x":true,"q":"1337913.58654308","V":"11.413347","Q":"661954.86510045","B":"0"}}
        k = data["k"]
        open_, high, low, close, v, q, taker_v, taker_q = decimals_of(k, *"ohlcvqVQ")
        count, end_ns = _int(k["n"]), _ns(_int(k["T"]) + 1)
        first, last = (_int(k["f"]), _int(k["L"])) if count else (None, None)
        # On COIN-M these are base volumes, a rounded division.
        quote, taker_quote = (None, None) if self.coin_margined else (q, taker_q)
        return ExchangeBar(
            data["s"], interval_of(k["i"]).replace("M", "mo"), to_datetime(_ns(k["t"])), to_datetime(end_ns),
            open_, high, low, close, v, quote, count, taker_v, taker_quote, first, last, k["x"], _ns(data["E"]),
        )  # fmt: skip

    def _control(self, data: dict[str, Any]) -> tuple[Message, ...]:
        # {"result":null,"id":1} | {"code":2,"msg":"...","id":1} | {"error":{"code":-1121,"msg":"..."},"id":1}
        # A refusal without an id cannot be attributed: Binance could not read the request.
        error = data.get("error", data if "code" in data else None)
        if error is not None:
            return (Refusal(data.get("id"), f"{error.get('msg')} (code {error.get('code')})"),)
        if "result" in data and isinstance(data.get("id"), int):
            return (Ack(data["id"]),)
        return ()


# Requests to both futures APIs are counted together.
_SPOT_REST = RestApi("https://api.binance.com", 6000.0)
_US_REST = RestApi("https://api.binance.us", 6000.0)
_USDM_REST = RestApi("https://fapi.binance.com", 2400.0, "binance futures")
_COINM_REST = RestApi("https://dapi.binance.com", 2400.0, "binance futures")
_KEY_HEADER = "X-MBX-APIKEY"


# Past trades.


# [{"id":28457,"price":"4.00000100","qty":"12.00000000","quoteQty":"48.000012","time":1499865549590,
#  "isBuyerMaker":true,"isBestMatch":true}]
_PAST_TRADE = TradeFields(
    match={}, trades=("trades",), symbol=("symbol",), price="price", size="qty", time="time", first_id="id",
    side="isBuyerMaker", buy=False, sell=True,
)  # fmt: skip
# [{"a":26129,"p":"0.01633102","q":"4.70443515","f":27781,"l":27781,"T":1498793709153,"m":true}]
_PAST_AGGREGATE = replace(
    _fields("aggTrade"), match={}, envelope=None, trades=("trades",), symbol=("symbol",), event_time=None
)


def _read_trades(channel: str, fields: TradeFields = _PAST_TRADE) -> Callable[[str, bytes], Page]:
    reader = TradeReader(channel, fields)

    def read(symbol: str, body: bytes) -> Page:
        trades = list_in(orjson.loads(body), "the answer")
        return read_past_trades(reader, symbol, {"symbol": symbol, "trades": trades})

    return read


def _from_id(limit: int) -> Callable[[str, int, Hole], Mapping[str, str]]:
    return lambda symbol, position, _: {"symbol": symbol, "fromId": str(position), "limit": str(limit)}


def _latest(symbol: str) -> Mapping[str, str]:
    return {"symbol": symbol, "limit": "500"}


def _spot_histories(api: RestApi, key_header: str | None) -> Mapping[str, Sequence[History]]:
    return {
        # An aggregate carries the ids of its trades, so holes between aggregates are filled with single trades.
        channel: (
            History(
                api, "/api/v3/historicalTrades", Paging.FORWARD_BY_ID, 1000, _from_id(1000), _read_trades(channel),
                weight=25.0, key_header=key_header, latest=_latest,
            ),
        )
        for channel in ("trade", "aggTrade")
    }  # fmt: skip


def _futures_histories(api: RestApi, prefix: str) -> Mapping[str, Sequence[History]]:
    omits = "insurance fund and ADL trades, and void ids"
    with_key = History(
        api, f"{prefix}/historicalTrades", Paging.FORWARD_BY_ID, 500, _from_id(500), _read_trades("trade"),
        weight=200.0, key_header=_KEY_HEADER, reach_s=30 * _DAY_S, omits=omits,
        leaves_out_ids=True, latest=_latest,
    )  # fmt: skip
    without = replace(
        with_key, path=f"{prefix}/trades", paging=Paging.RECENT, page_size=1000, weight=5.0,
        query=lambda symbol, _position, _hole: {"symbol": symbol, "limit": "1000"},
        key_header=None, omits=f"{omits}, and without a key (StreamConfig.api_key) all but the latest 1000 trades",
    )  # fmt: skip
    aggregates = replace(
        with_key, path=f"{prefix}/aggTrades", page_size=1000, query=_from_id(1000),
        parse=_read_trades("aggTrade", _PAST_AGGREGATE), weight=20.0, key_header=None, reach_s=_DAY_S, omits="",
        leaves_out_ids=False,
    )  # fmt: skip
    return {"trade": (with_key, without), "aggTrade": (aggregates,)}


# Past candles.


# [[1499040000000,"0.01634790","0.80000000","0.01575800","0.01577100","148976.11427815",1499644799999,
#  "2434.19055334",308,"1756.87402397","28.46694368","0"]], oldest first, the one in progress last; intervals without
# trades are there, with the last close as their prices. On COIN-M the volumes in the 8th and 11th place are base units.
def _read_candles(coin_margined: bool) -> Callable[[CandleAsk, bytes], Iterable[ExchangeBar]]:
    def read(ask: CandleAsk, body: bytes) -> Iterable[ExchangeBar]:
        for row in list_in(orjson.loads(body), "the answer"):
            open_ms, open_, high, low, close, volume, _, quote, count, taker_volume, taker_quote, *_ = row
            yield make_candle(
                ask.symbol, ask.spec, nanoseconds_of(_int(open_ms)), (open_, high, low, close), volume,
                quote_volume=None if coin_margined else quote, trade_count=_int(count), taker_buy_volume=taker_volume,
                taker_buy_quote_volume=None if coin_margined else taker_quote,
            )  # fmt: skip

    return read


def _candle_query(ask: CandleAsk) -> Mapping[str, str]:
    return {
        "symbol": ask.symbol, "interval": ask.interval, "startTime": ask.since_ms, "endTime": ask.before_ms,
        "limit": str(ask.limit),
    }  # fmt: skip


def _candle_history(
    api: RestApi, path: str, candles: Mapping[str, str], weight: float | Callable[[int], float]
) -> CandleHistory:
    intervals = {spec: channel.removeprefix("kline_") for spec, channel in candles.items()}
    lacks = ("first_trade_id", "last_trade_id")
    if api is not _COINM_REST:
        return CandleHistory(
            api, path, 1000, intervals, _candle_query, _read_candles(coin_margined=False), weight, lacks=lacks
        )
    # Of a span it answers with the last candles, and a span has 200 days at most.
    return CandleHistory(
        api, path, 1000, intervals, _candle_query, _read_candles(coin_margined=True), weight, CandlePaging.BACKWARD,
        longest_s=200 * _DAY_S, lacks=(*lacks, "quote_volume", "taker_buy_quote_volume"),
    )  # fmt: skip


def _futures_weight(candles: int) -> float:
    return 1.0 if candles < 100 else 2.0 if candles < 500 else 5.0 if candles <= 1000 else 10.0


# Instruments.

_STOPPED = {
    "HALT": HALTED, "BREAK": HALTED, "TRADING_HALT": HALTED, "TRADING_CANCEL_ONLY": HALTED, "END_OF_DAY": HALTED,
    "POST_TRADING": HALTED, "PRE_TRADING": NOT_YET, "AUCTION_MATCH": HALTED, "PENDING_TRADING": NOT_YET,
    "DELIVERING": DELISTED, "DELIVERED": DELISTED, "SETTLING": DELISTED, "CLOSE": DELISTED,
}  # fmt: skip


def _listed(one: Any) -> Listed:
    # Of {"timezone":"UTC",...,"symbols":[{"symbol":"ETHBTC","status":"TRADING","baseAsset":"ETH","quoteAsset":"BTC",
    #  "filters":[{"filterType":"PRICE_FILTER","tickSize":"0.00001000"},{"filterType":"LOT_SIZE","stepSize":"0.1"}]}]}
    # On futures with {"contractType":"PERPETUAL","deliveryDate":4133404800000,"onboardDate":1569398400000,
    #  "marginAsset":"USDT"}; COIN-M has "contractStatus", and "contractSize":100. Perpetuals have a date far ahead.
    filters = one.get("filters")
    by_type = {each.get("filterType"): each for each in filters if isinstance(each, dict)} if filters else {}
    base, quote, settle = (text_in(one, f"{name}Asset") for name in ("base", "quote", "margin"))
    contract = text_in(one, "contractType")  # none where it is about to begin
    kind: Kind | None = "spot"
    if "contractType" in one:
        kind = None if contract is None else "perpetual" if "PERPETUAL" in contract else "future"
    return Listed(
        one["symbol"], str(one.get("status") or one.get("contractStatus")), kind, base, quote,
        None if kind == "spot" else settle,
        positive_in(by_type.get("PRICE_FILTER"), "tickSize"), positive_in(by_type.get("LOT_SIZE"), "stepSize"),
        positive_in(one, "contractSize"), None if kind == "spot" or settle is None else settle == base != quote,
        time_in(one, "deliveryDate") if kind == "future" else None, time_in(one, "onboardDate"),
    )  # fmt: skip


# [{"symbol":"BNBBTC","quoteVolume":"15.30000000",...}]; on COIN-M {"symbol":"BTCUSD_PERP","volume":"59",
#  "baseVolume":"0.62",...}, in contracts and base units
def _day_of(one: Any) -> Listed:
    contracts = positive_in(one, "volume") if "baseVolume" in one else None
    return Listed(one["symbol"], "", quote_volume=positive_in(one, "quoteVolume"), contracts=contracts)


def _listing(api: RestApi, prefix: str, weight: float, day_weight: float, **query: str) -> Listing:
    day = Listing(api, f"{prefix}/ticker/24hr", (), _day_of, {}, day_weight)
    return Listing(
        api, f"{prefix}/exchangeInfo", ("symbols",), _listed, _STOPPED, weight, (Question(query),), volumes=day
    )


# The markets.

_EVERY_3_MIN = Keepalive(silence_s=400.0)  # how often the exchange pings
_EVERY_20_S = Keepalive(silence_s=45.0)
_SPOT_DOCS = "https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams"
_FUTURES_DOCS = "https://developers.binance.com/docs/derivatives"
_FUTURES_ONLY = ("markPrice", "markPrice@1s", "forceOrder")


def _channels(aggregates: Ids, *more: str) -> dict[str, Ids | None]:
    others = ("kline_*", "bookTicker", "ticker", "miniTicker", "depth", "depth*", *more)
    return {"trade": "contiguous", "aggTrade": aggregates, **dict.fromkeys(others)}


_SPOT_IDS = _channels("contiguous", "ticker_*", "avgPrice", "blockTrade")
# A futures aggTrade leaves out insurance fund and ADL trades, so only its own number `a` is contiguous.
_FUTURES_IDS = _channels("sequenced", *_FUTURES_ONLY)
_SPOT_LIMITS = Limits(1024, 200, 5, connects=(300, 300.0), lifetime_s=_DAY_S)
_FUTURES_LIMITS = Limits(1024, 200, 10, connects=(300, 300.0), lifetime_s=_DAY_S)

_SPOT_HOSTS = ("stream.binance.com:9443", "stream.binance.com:443", "data-stream.binance.vision")
_SPOT_ROUTES = {f"wss://{host}/ws": tuple(_SPOT_IDS) for host in _SPOT_HOSTS}
_USDM_ROUTES = {
    "wss://fstream.binance.com/public/ws": ("trade", "bookTicker", "depth", "depth*"),
    "wss://fstream.binance.com/market/ws": ("aggTrade", "kline_*", "ticker", "miniTicker", *_FUTURES_ONLY),
}
SPOT = Binance(
    "binance spot", _SPOT_IDS, _SPOT_ROUTES, _SPOT_LIMITS, _EVERY_20_S, _SPOT_DOCS,
    histories=_spot_histories(_SPOT_REST, None), candles=_SPOT_CANDLES, first_ids=_SPOT_FIRST,
    candle_history=_candle_history(_SPOT_REST, "/api/v3/klines", _SPOT_CANDLES, 2.0),
    listing=_listing(_SPOT_REST, "/api/v3", 20.0, 80.0, showPermissionSets="false"),
)  # fmt: skip
USDM = Binance(
    "binance usdm", _FUTURES_IDS, _USDM_ROUTES, _FUTURES_LIMITS, _EVERY_3_MIN, _FUTURES_DOCS,
    histories=_futures_histories(_USDM_REST, "/fapi/v1"),
    candle_history=_candle_history(_USDM_REST, "/fapi/v1/klines", _FUTURES_CANDLES, _futures_weight),
    listing=_listing(_USDM_REST, "/fapi/v1", 1.0, 40.0),
)  # fmt: skip
COINM = Binance(
    "binance coinm", _FUTURES_IDS, {"wss://dstream.binance.com/ws": tuple(_FUTURES_IDS)}, _FUTURES_LIMITS,
    _EVERY_3_MIN, _FUTURES_DOCS, True,
    histories=_futures_histories(_COINM_REST, "/dapi/v1"),
    candle_history=_candle_history(_COINM_REST, "/dapi/v1/klines", _FUTURES_CANDLES, _futures_weight),
    listing=_listing(_COINM_REST, "/dapi/v1", 1.0, 40.0),
)  # fmt: skip
US = Binance(
    "binance us", _SPOT_IDS, {"wss://stream.binance.us:9443/ws": tuple(_SPOT_IDS)},
    replace(_SPOT_LIMITS, connects=None), _EVERY_3_MIN, "https://docs.binance.us",
    histories=_spot_histories(_US_REST, _KEY_HEADER), candles=_SPOT_CANDLES, first_ids=_SPOT_FIRST,
    candle_history=_candle_history(_US_REST, "/api/v3/klines", _SPOT_CANDLES, 2.0),
    listing=_listing(_US_REST, "/api/v3", 20.0, 80.0),
)  # fmt: skip
MARKETS: dict[str, Exchange] = {"spot": SPOT, "usdm": USDM, "coinm": COINM, "us": US}
