"""Kraken spot, WebSocket v2; symbols are "BTC/USD".

Source: https://docs.kraken.com/api/docs/websocket-v2/trade and https://docs.kraken.com/api/docs/rest-api
Units: times in messages are RFC 3339 text, in REST answers seconds with decimals; prices and sizes are JSON numbers,
read as text, digit for digit.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Context, Decimal
from itertools import product
from typing import Any

import orjson

from fastbars.bars import BarSpec
from fastbars.exchanges import (
    DELISTED,
    EXACT,
    HALTED,
    NOTHING,
    Ack,
    Alias,
    CandleAsk,
    CandleHistory,
    CandlePaging,
    Exchange,
    ExchangeBar,
    Heartbeat,
    History,
    Hole,
    Ids,
    Keepalive,
    Limits,
    Listed,
    Listing,
    Message,
    Page,
    Paging,
    ParseError,
    Question,
    RawMessage,
    Refusal,
    RestApi,
    RestError,
    Stream,
    SymbolRules,
    Ticker,
    TradeFields,
    TradeReader,
    by_channel,
    decimals_of,
    integer_of,
    list_in,
    make_candle,
    make_quote,
    positive_in,
    read_past_trades,
    shown,
    time_of,
)
from fastbars.exchanges.checked import LATEST_NS

# What these requests carry besides channel and symbols. The ticker also has the best bid and ask.
_OPTIONS: dict[tuple[str, str], dict[str, Any]] = {
    ("subscribe", "trade"): {"snapshot": True},
    ("subscribe", "ticker"): {"event_trigger": "bbo"},
    ("unsubscribe", "ticker"): {"event_trigger": "bbo"},
}
_DIGITS = Context(prec=40)  # not the caller's
_MOST_DECIMALS = 30
_REST = RestApi("https://api.kraken.com", 60.0)
# The REST API knows some assets by older names than the streams.
_REST_NAMES = {"BTC": "XBT", "DOGE": "XDG"}
_STREAM_NAMES = {old: new for new, old in _REST_NAMES.items()}
_PAST_TRADE = ("price", "size", "time", "side", "type", "misc", "id")  # in this order, without names
_PAST_TRADES = TradeReader(
    "trade",
    TradeFields(
        match={}, trades=("trades",), symbol=("symbol",), price="price", size="size", time="time", time_unit="s",
        first_id="id", side="side", buy="b", sell="s",
    ),
)  # fmt: skip


def _loads(payload: bytes) -> Any:
    return json.loads(payload, parse_float=str, parse_int=str)  # a float would lose digits, of times too


# {"error":[],"result":{"XXBTZUSD":[["30243.40000","0.34507674",1688669597.8277369,"b","m","",61044952]],
#  "last":"1688671969993150842"}}
def _read_trades(symbol: str, body: bytes) -> Page:
    answer = _loads(body)
    if answer["error"]:
        raise ParseError(f"kraken {symbol}: {shown(answer['error'])}")
    cursor = integer_of(answer["result"].pop("last"))
    ((pair, rows),) = answer["result"].items()
    trades = [dict(zip(_PAST_TRADE, row, strict=True)) for row in list_in(rows, "result")]
    page = read_past_trades(_PAST_TRADES, symbol, {"symbol": pair, "trades": trades}, _pair_names(symbol))
    return page._replace(cursor=cursor)


_MINUTES = {"1m": "1", "5m": "5", "15m": "15", "30m": "30", "1h": "60", "4h": "240", "1d": "1440"}
_TRY_LATER = ("Rate limit", "Too many requests", "Unavailable", "Busy", "Throttled", "Internal error", "Timeout")


# {"error":[],"result":{"XXBTZUSD":[[1688671200,"30306.1","30306.2","30305.7","30305.7","30306.1","3.39243896",23]],
#  "last":1688672160}}: start in s, open, high, low, close, vwap, volume, count, oldest first. The last one is in
# progress; intervals without trades are there, flat, with the count 0.
def _read_candles(ask: CandleAsk, body: bytes) -> Iterable[ExchangeBar]:
    answer = _loads(body)
    errors = answer["error"]
    if errors:
        is_passing = any(word in str(errors) for word in _TRY_LATER)
        raise ParseError(shown(errors)) if is_passing else RestError(shown(errors), permanent=True)
    answer["result"].pop("last", None)
    ((pair, rows),) = answer["result"].items()
    if pair not in _pair_names(ask.symbol):
        raise ParseError(f"requested {ask.symbol}, the answer is about {shown(pair)}")
    last = len(list_in(rows, "result")) - 1
    for place, (start, open_, high, low, close, _, volume, count) in enumerate(rows):
        start_ns = integer_of(start, LATEST_NS // 10**9) * 10**9
        candle = make_candle(ask.symbol, ask.spec, start_ns, (open_, high, low, close), volume, trade_count=count)
        yield replace(candle, is_closed=False) if place == last else candle


def _candle_query(ask: CandleAsk) -> Mapping[str, str]:
    # "since" is the time of a candle already known, and so exclusive.
    since_s = max(ask.since_ns // 10**9 - 1, 0)
    return {"pair": _rest_pair(ask.symbol), "interval": ask.interval, "since": str(since_s)}


def _rest_pair(symbol: str) -> str:
    return "".join(_REST_NAMES.get(asset, asset) for asset in symbol.split("/"))


def _pair_names(symbol: str) -> set[str]:
    # What an answer may call the pair: "SOLUSD", or with the letters that mark the class of older assets, "XXBTZUSD".
    sides = [
        {f"{mark}{name}" for mark in ("", "X", "Z") for name in (asset, _REST_NAMES.get(asset, asset))}
        for asset in symbol.split("/")
    ]
    return {mark.join(names) for names in product(*sides) for mark in ("", "/")}


def _query(symbol: str, position: int, _: Hole) -> Mapping[str, str]:
    return {"pair": _rest_pair(symbol), "since": str(position), "count": "1000"}


# {"error":[],"result":{"XXBTZUSD":{"altname":"XBTUSD","wsname":"XBT/USD","base":"XXBT","quote":"ZUSD","status":
#  "online","tick_size":"0.1","pair_decimals":1,"lot_decimals":8,...}}}
def _listed(one: Any) -> Listed | None:
    name = one.get("wsname")  # dark pools have none
    if not name:
        return None
    assets = [_STREAM_NAMES.get(asset, asset) for asset in name.split("/")]
    decimals = one.get("lot_decimals")
    step = Decimal((0, (1,), -decimals)) if type(decimals) is int and 0 <= decimals <= _MOST_DECIMALS else None
    base, quote = assets if len(assets) == 2 else (None, None)
    return Listed(
        "/".join(assets), one["status"], "spot", base, quote, price_tick=positive_in(one, "tick_size"), size_step=step
    )


# {"error":[],"result":{"XXBTZUSD":{"c":["30303.20000","0.0067"],"v":["4083.67","4412.73"],"p":["30706.77","30689.13"],
#  "t":[34619,38907],...}}}: of today, and of the last 24 hours; volume and its average price
def _day_of(one: Any) -> Listed:
    volume, price = (positive_in(dict(enumerate(one[name])), 1) for name in ("v", "p"))
    amount = None if volume is None or price is None else _DIGITS.multiply(volume, price)
    return Listed(one["pair"], "", quote_volume=amount)


def _failed(rest: Any) -> str | None:
    return str(rest["error"]) if rest["error"] else None


def _is_currency(symbol: str) -> bool:
    return symbol == symbol.upper()  # "AAPLx/USD", a tokenised stock, is listed only on request


class Kraken(Exchange):
    """The public v2 endpoint."""

    name = "kraken spot"
    docs = "https://docs.kraken.com/api/docs/websocket-v2/trade"
    channels: Mapping[str, Ids | None] = {"trade": "contiguous", "ohlc_*": None, "ticker": None, "book": None}
    routes: Mapping[str, Sequence[str]] = {"wss://ws.kraken.com/v2": tuple(channels)}
    default_channel = "trade"
    sends_recent_trades = True  # as `subscribe` asks for a snapshot
    # Tokenised stocks end with a small x: AAPLx/USD.
    symbols = SymbolRules(r"[^\Wa-z_][^\Wa-z_.]*(\.[A-Z]+)?x?/[^\Wa-z_]+", "upper", "BTC/USD", separator="/")
    candles: Mapping[str, str] = {spec: f"ohlc_{minutes}" for spec, minutes in _MINUTES.items()}
    histories: Mapping[str, Sequence[History]] = {
        "trade": (
            History(
                _REST, "/0/public/Trades", Paging.FORWARD_BY_CURSOR, 1000, _query, _read_trades, weight=1.0,
            ),
        )
    }  # fmt: skip
    # The latest 720, whatever is asked for; the quote volume would be a rounded vwap times the volume.
    candle_history = CandleHistory(
        _REST, "/0/public/OHLC", 720, _MINUTES, _candle_query, _read_candles, 1.0, CandlePaging.LATEST, reach_bars=720,
        surplus=None, lacks=("quote_volume", "taker_buy_volume", "taker_buy_quote_volume", "first_trade_id",
                             "last_trade_id"),
    )  # fmt: skip
    listing = Listing(
        _REST, "/0/public/AssetPairs", ("result",), _listed,
        {"cancel_only": HALTED, "post_only": HALTED, "maintenance": HALTED, "delisted": DELISTED},
        weight=1.0,
        failed=_failed, questions=(Question(covers=_is_currency),),
        volumes=Listing(
            _REST, "/0/public/Ticker", ("result",), _day_of, {}, weight=1.0, failed=_failed,
            questions=(Question(covers=_is_currency),), keyed="pair",
        ),
        names=lambda symbol: sorted(_pair_names(symbol)),
    )  # fmt: skip
    # About 150 connections in 10 minutes from one address; streams and requests are not documented.
    # "Already subscribed to one ohlc interval on this symbol".
    limits = Limits(1000, 100, 10, connects=(150, 600.0), exclusive=("ohlc_*",))
    # Kraken's own heartbeat comes about once a second, while anything is subscribed to.
    keepalive = Keepalive(b'{"method":"ping"}', interval_s=30.0, silence_s=40.0)

    def native_name(self, alias: Alias) -> str | None:
        return str(alias) if alias.kind == "spot" else None

    def subscribe(self, streams: Sequence[Stream], request_id: int) -> list[bytes]:
        return self._request("subscribe", streams, request_id)

    def unsubscribe(self, streams: Sequence[Stream], request_id: int) -> list[bytes]:
        return self._request("unsubscribe", streams, request_id)

    def _request(self, method: str, streams: Sequence[Stream], request_id: int) -> list[bytes]:
        frames = []
        for channel, symbols in by_channel(streams).items():
            kind, _, interval = channel.partition("_")
            params = {"channel": kind, "symbol": symbols, **_OPTIONS.get((method, kind), {})}
            params |= {"interval": int(interval)} if interval else {}
            frames.append(orjson.dumps({"method": method, "params": params, "req_id": request_id}))
        return frames

    def loads(self, payload: bytes) -> Any:
        return _loads(payload)

    def event_time_ns(self, message: Any) -> int | None:
        if not isinstance(message, dict):
            return None
        data = message.get("data")
        times = [each.get("timestamp") for each in data if isinstance(each, dict)] if isinstance(data, list) else []
        times.append(message.get("timestamp"))
        return max((time_of(time) for time in times if isinstance(time, str)), default=None)

    def fields(self, channel: str) -> TradeFields | None:  # noqa: ARG002
        # {"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","side":"buy","price":105944.2,"qty":0.00027625,
        #  "ord_type":"limit","trade_id":10218208,"timestamp":"2023-10-06T17:35:55.440295Z"}]}; "snapshot" has the
        # last 50 trades, some of which were seen before a reconnect
        return TradeFields(
            match={("channel",): "trade"}, trades=("data",), symbol="symbol", price="price", size="qty",
            json_numbers=True, time="timestamp", time_unit="rfc3339", first_id="trade_id", side="side", buy="buy",
            sell="sell", event_time="timestamp", event_time_unit="rfc3339",
        )  # fmt: skip

    def parse(self, message: Any) -> Iterable[Message]:
        if not isinstance(message, dict):
            return ()
        channel = message.get("channel")
        if not isinstance(channel, str):
            return self._control(message)
        data = message.get("data")
        if channel == "ohlc" and isinstance(data, list):
            return [_candle(c, self.event_time_ns(message)) for c in data] or NOTHING
        if channel == "ticker" and isinstance(data, list):
            return [item for t in data for item in _ticker(t)] or NOTHING
        if channel == "heartbeat":
            return (Heartbeat(),)
        first = data[0] if isinstance(data, list) and data else None
        return (RawMessage(channel, first.get("symbol") if isinstance(first, dict) else None, message),)

    def _control(self, message: dict[str, Any]) -> tuple[Message, ...]:
        # {"method":"subscribe","success":true,"result":{"channel":"trade","symbol":"BTC/USD","snapshot":true},
        #  "req_id":1,"time_in":"2023-09-25T09:04:31.742599Z","time_out":"..."}, one a symbol
        # {"method":"subscribe","success":false,"error":"Currency pair not supported X/Y","symbol":"X/Y","req_id":1}
        method, asked = message.get("method"), message.get("req_id")
        request_id = None if asked is None else int(asked)
        if method == "pong":
            return (Heartbeat(),)
        if message.get("success") is True:
            result = message.get("result") or {}
            interval = result.get("interval")
            channel = f"{result['channel']}_{interval}" if interval is not None else result["channel"]
            return (Ack(request_id, ((result["symbol"], channel),), ended=method == "unsubscribe"),)
        # A refusal names the symbol and not the channel: "" stands for every channel of it in the request.
        if "error" in message:
            symbol = message.get("symbol")
            return (Refusal(request_id, message["error"], () if symbol is None else ((symbol, ""),)),)
        return ()


def _candle(c: dict[str, Any], event_time_ns: int | None) -> Message:
    # {"symbol":"BTC/USD","open":106038.2,"high":106044.3,"low":106038.1,"close":106040.1,"trades":12,
    #  "volume":30.92768066,"vwap":106039.6,"interval_begin":"2023-10-04T16:25:00.000000000Z","interval":1}
    spec = str(BarSpec.parse(integer_of(c["interval"]) * 60))
    prices = [c[name] for name in ("open", "high", "low", "close")]
    begin_ns, count = time_of(c["interval_begin"]), integer_of(c["trades"])
    return make_candle(c["symbol"], spec, begin_ns, prices, c["volume"], trade_count=count, event_time_ns=event_time_ns)


def _ticker(t: dict[str, Any]) -> Iterable[Message]:
    # {"symbol":"ALGO/USD","bid":0.10025,"bid_qty":740.0,"ask":0.10036,"ask_qty":1361.44813783,"last":0.10035,
    #  "volume":997038.98383185,"vwap":0.10148,"low":0.09979,"high":0.10285,"change":-0.00017,"change_pct":-0.17}
    last, change, high, low, volume = decimals_of(t, "last", "change", "high", "low", "volume")
    time_ns = time_of(t["timestamp"]) if "timestamp" in t else None
    yield Ticker(t["symbol"], last, EXACT.subtract(last, change), high, low, volume, None, None, time_ns)
    yield make_quote(t["symbol"], [t["bid"], t["bid_qty"]], [t["ask"], t["ask_qty"]], time_ns)


SPOT = Kraken()
MARKETS: dict[str, Exchange] = {"spot": SPOT}
