"""Bybit v5: spot, linear and inverse contracts.

Source: https://bybit-exchange.github.io/docs/v5/ws/connect, .../websocket/public/trade and .../market/instrument
Units: times in messages are milliseconds; sizes are base units, on inverse contracts USD.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from typing import Any

import orjson

from fastbars.bars import BarSpec
from fastbars.exchanges import (
    DELISTED,
    NOT_YET,
    NOTHING,
    Ack,
    Alias,
    CandleAsk,
    CandleHistory,
    CandlePaging,
    Deltas,
    Exchange,
    ExchangeBar,
    Heartbeat,
    Ids,
    Keepalive,
    Limits,
    Listed,
    Listing,
    Message,
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
    decimals_of,
    integer_of,
    interval_of,
    list_in,
    make_candle,
    make_quote,
    nanoseconds_of,
    positive_in,
    shown,
    text_in,
    time_in,
)
from fastbars.exchanges.listing import Kind

_TOPIC = re.compile(r"topic:\s*([A-Za-z]+(?:\.\w+)?)\.([^\s,.\]]+)")
_STREAM_HOST, _REST_HOST = "stream.bybit.com", "api.bybit.com"
_DOMAINS = {
    "tr": "bybit.tr", "kz": "bybit.kz", "ge": "bybitgeorgia.ge", "id": "bybit.id", "jp": "manepa.jp", "eu": "bybit.eu",
}  # fmt: skip
_REGIONS = {
    region: {_STREAM_HOST: f"stream.{domain}", _REST_HOST: f"api.{domain}"} for region, domain in _DOMAINS.items()
} | {
    region: {_REST_HOST: f"api.bybit.{region}"}
    for region in ("nl", "ae")  # their streams are served by the common host
}
_SPECS = {"D": "1d", "W": "1w", "M": "1mo"}  # intervals of candles; all others are minutes
_MINUTES = {"1m": 1, "3m": 3, "5m": 5, "15m": 15, "30m": 30, "1h": 60, "2h": 120, "4h": 240, "6h": 360, "12h": 720}
_CANDLES = {spec: f"kline.{minutes}" for spec, minutes in _MINUTES.items()} | {
    spec: f"kline.{interval}" for interval, spec in _SPECS.items()
}
_ONE_USD = Decimal(1)  # a contract
_KINDS: Mapping[str, Kind] = {"spot": "spot", "Perpetual": "perpetual", "Futures": "future"}
_MONTH_CODES = "FGHJKMNQUVXZ"
_CHANNELS: Mapping[str, Ids | None] = {
    "publicTrade": "unique", "kline.*": None, "orderbook.*": None, "tickers": None, "allLiquidation": None,
}  # fmt: skip


@dataclass(frozen=True)
class Bybit(Exchange):
    """One of Bybit's markets."""

    name: str
    routes: Mapping[str, Sequence[str]]
    limits: Limits
    is_inverse: bool = False
    listing: Listing | None = field(default=None, repr=False)
    candle_history: CandleHistory | None = field(default=None, repr=False)

    channels = _CHANNELS
    default_channel = "publicTrade"
    candles = _CANDLES
    docs = "https://bybit-exchange.github.io/docs/v5/ws/connect"
    keepalive = Keepalive(b'{"op":"ping"}', interval_s=20.0, silence_s=40.0)
    candle_open = "previous close"
    regions = _REGIONS
    symbols = SymbolRules(r"[^\Wa-z_]+(-\d+[A-Z]{3}\d+)?", "upper", "BTCUSDT or BTC-25DEC26", separator="")

    def subscribe(self, streams: Sequence[Stream], request_id: int) -> list[bytes]:
        return self._request("subscribe", streams, request_id)

    def unsubscribe(self, streams: Sequence[Stream], request_id: int) -> list[bytes]:
        return self._request("unsubscribe", streams, request_id)

    def _request(self, op: str, streams: Sequence[Stream], request_id: int) -> list[bytes]:
        topics = [f"{channel}.{symbol}" for symbol, channel in streams]
        return [orjson.dumps({"op": op, "args": topics, "req_id": str(request_id)})]

    def fields(self, channel: str) -> TradeFields | None:  # noqa: ARG002
        # {"topic":"publicTrade.BTCUSDT","type":"snapshot","ts":1700000000124,"data":[{"T":1700000000123,"s":"BTCUSDT",
        #  "S":"Buy","v":"0.001","p":"16578.50","L":"PlusTick","i":"20f43950-d8dd-5b31-9112-a178eb6023af","BT":false}]}
        # Up to 1,024 in one message; block and RPI trades count as the exchange counts them.
        return TradeFields(
            match={("topic",): "publicTrade.*"}, trades=("data",), symbol="s", price="p", size="v", time="T", key="i",
            side="S", buy="Buy", sell="Sell", event_time=("ts",),
        )  # fmt: skip

    def contract_size(self, symbol: str) -> Decimal | None:  # noqa: ARG002
        return _ONE_USD if self.is_inverse else None

    def native_name(self, alias: Alias) -> str | None:
        # BTCUSDT; linear BTCUSDT, BTCPERP (USDC), BTCUSDT-25SEP26, BTC-25SEP26 (USDC); inverse BTCUSD and BTCUSDU26
        base, quote, _, expiry = alias
        if self.identity[1].partition("@")[0] == "spot":
            return f"{base}{quote}" if alias.kind == "spot" else None
        if not (alias.is_inverse and quote == "USD" if self.is_inverse else alias.is_linear):
            return None
        if expiry is None:
            return f"{base}PERP" if quote == "USDC" else f"{base}{quote}"
        if alias.day is None:
            return None
        if self.is_inverse:
            return f"{base}{quote}{_MONTH_CODES[int(expiry[2:4]) - 1]}{expiry[:2]}"
        return f"{base}{'' if quote == 'USDC' else quote}-{alias.day}"

    def parse(self, message: Any) -> Iterable[Message]:
        return self._parse(Deltas(), message)

    def parser(self) -> Callable[[Any], Iterable[Message]]:
        return partial(self._parse, Deltas())

    def _parse(self, deltas: Deltas, message: Any) -> Iterable[Message]:
        if not isinstance(message, dict):
            return ()
        topic = message.get("topic")
        if not isinstance(topic, str):
            return self._control(message)
        kind, _, rest = topic.partition(".")
        symbol = rest.rpartition(".")[2]
        data = message["data"]
        if kind == "kline":
            return [self._kline(symbol, k, nanoseconds_of(message["ts"])) for k in data] or NOTHING
        # {"topic":"orderbook.1.BTCUSDT","type":"snapshot","ts":1700000000124,"data":{"s":"BTCUSDT",
        #  "b":[["16493.50","0.006"]],"a":[["16611.00","0.029"]],"u":18521288}}; of level 1 there are snapshots only
        if topic.startswith("orderbook.1."):
            bid, ask = (next(iter(data[side]), None) for side in "ba")
            return (make_quote(symbol, bid, ask, self.event_time_ns(message)),)
        if kind == "tickers":
            fields = deltas.merge(topic, data, anew=message.get("type") == "snapshot")
            return (self._ticker(symbol, fields, message),)
        return (RawMessage(kind, symbol, message),)

    def _kline(self, symbol: str, k: dict[str, Any], event_time_ns: int) -> ExchangeBar:
        # {"start":1700000040000,"end":1700000099999,"interval":"1","open":"16649.5","close":"16677","high":"16677",
        #  "low":"16608","volume":"2.081","turnover":"34666.4005","confirm":false,"timestamp":1700000050123}
        interval = interval_of(k["interval"])
        return make_candle(
            symbol,
            _SPECS.get(interval) or str(BarSpec.parse(integer_of(interval) * 60)),
            nanoseconds_of(k["start"]),
            [k[name] for name in ("open", "high", "low", "close")],
            k["volume"],
            quote_volume=None if self.is_inverse else k["turnover"],  # there it is base units, a rounded division
            is_closed=k["confirm"],
            event_time_ns=event_time_ns,
        )

    def _ticker(self, symbol: str, fields: dict[str, Any], message: Any) -> Message:
        # {"topic":"tickers.BTCUSDT","type":"delta","data":{"symbol":"BTCUSDT","lastPrice":"17216.00"},"ts":1}
        try:
            last, open_, high, low, volume = decimals_of(
                fields, "lastPrice", "prevPrice24h", "highPrice24h", "lowPrice24h", "volume24h"
            )
            quote = None if self.is_inverse else decimals_of(fields, "turnover24h")[0]
        except KeyError:  # a delta, and the snapshot that it changes was not seen
            return RawMessage("tickers", symbol, message)
        return Ticker(symbol, last, open_, high, low, volume, quote, None, self.event_time_ns(message))

    def _control(self, message: dict[str, Any]) -> tuple[Message, ...]:
        # {"success":true,"ret_msg":"","conn_id":"...","req_id":"7","op":"subscribe"}; a ping is answered on spot with
        # op "ping" and ret_msg "pong", elsewhere with op "pong"
        op = message.get("op")
        # Before `success` is looked at: the futures' pong has none.
        if op in ("ping", "pong"):
            return (Heartbeat(),)
        if op not in ("subscribe", "unsubscribe"):
            return (RawMessage(op, None, message),) if isinstance(op, str) else ()
        asked = message.get("req_id") or ""
        request_id = int(asked) if asked.isdecimal() else None  # int() refuses thousands of digits: ValueError
        reason = message.get("ret_msg") or ""
        if message["success"]:
            return (Ack(request_id, ended=op == "unsubscribe"),)
        # {"success":false,"ret_msg":"error:already subscribed,topic:publicTrade.BTCUSDT",...}: one topic that is held
        # makes Bybit refuse the whole request, so `held` has all the others requested again
        held = "already subscribed" in reason
        named = _TOPIC.findall(reason) if held else []
        return (Refusal(request_id, reason, tuple((symbol, channel) for channel, symbol in named), held),)


_REST = RestApi(f"https://{_REST_HOST}", 7200.0)
_TRY_LATER = (10000, 10006, 10016, 10018)  # server time-out, too many visits, server error, address blocked


# {"retCode":0,"retMsg":"OK","result":{"category":"linear","symbol":"BTCUSDT","list":[["1670608800000","17071","17073",
#  "17027","17055.5","268611","15.74462667"]]},"retExtInfo":{},"time":1672025956592}: start, open, high, low, close,
# volume, turnover (on inverse contracts base units), newest first. The open is the previous close, which counts for
# high and low.
def _read_candles(category: str) -> Callable[[CandleAsk, bytes], Iterable[ExchangeBar]]:
    def read(ask: CandleAsk, body: bytes) -> Iterable[ExchangeBar]:
        answer = orjson.loads(body)
        code, result = answer["retCode"], answer.get("result")
        if code != 0:
            why = f"{shown(answer.get('retMsg'))} (code {shown(code)})"
            raise ParseError(why) if code in _TRY_LATER else RestError(why, permanent=True)
        if (result["category"], result["symbol"]) != (category, ask.symbol):
            raise ParseError(f"requested {category} {ask.symbol}, the answer is about {shown(result.get('symbol'))}")
        for start, open_, high, low, close, volume, turnover, *_ in list_in(result["list"], "list"):
            yield make_candle(
                ask.symbol, ask.spec, nanoseconds_of(start), (open_, high, low, close), volume,
                quote_volume=None if category == "inverse" else turnover,
            )  # fmt: skip

    return read


def _candle_history(category: str) -> CandleHistory:
    def query(ask: CandleAsk) -> Mapping[str, str]:
        return {
            "category": category, "symbol": ask.symbol, "interval": ask.interval, "start": ask.since_ms,
            "end": ask.before_ms, "limit": str(ask.limit),
        }  # fmt: skip

    lacks = ("trade_count", "taker_buy_volume", "taker_buy_quote_volume", "first_trade_id", "last_trade_id")
    return CandleHistory(
        _REST, "/v5/market/kline", 1000, {spec: name.removeprefix("kline.") for spec, name in _CANDLES.items()}, query,
        _read_candles(category), 1.0, CandlePaging.BACKWARD,
        lacks=(*lacks, "quote_volume") if category == "inverse" else lacks,
    )  # fmt: skip


def _failed(rest: Any) -> str | None:
    return None if rest["retCode"] == 0 else f"{rest.get('retMsg')} (code {rest['retCode']})"


# {"retCode":0,"retMsg":"OK","result":{"category":"linear","list":[{"symbol":"BTCUSDT","contractType":"LinearPerpetual",
#  "status":"Trading","baseCoin":"BTC","quoteCoin":"USDT","settleCoin":"USDT","launchTime":"1585526400000",
#  "deliveryTime":"0","priceFilter":{"tickSize":"0.10"},"lotSizeFilter":{"qtyStep":"0.001"}}],"nextPageCursor":""}};
# spot has no contract, and "lotSizeFilter":{"basePrecision":"0.000001"}. Without `status` those that trade or soon will
def _listed(one: Any) -> Listed:
    base, quote, settle = (text_in(one, f"{name}Coin") for name in ("base", "quote", "settle"))
    contract = text_in(one, "contractType")
    kind = _KINDS.get("spot" if contract is None else contract.removeprefix("Linear").removeprefix("Inverse"))
    is_inverse = None if contract is None else contract.startswith("Inverse")
    return Listed(
        one["symbol"], one["status"], kind, base, quote, settle if contract is not None else None,
        positive_in(one, "priceFilter", "tickSize"),
        positive_in(one, "lotSizeFilter", "basePrecision" if contract is None else "qtyStep"),
        _ONE_USD if is_inverse else None, is_inverse,
        time_in(one, "deliveryTime") if kind == "future" else None, time_in(one, "launchTime"),
    )  # fmt: skip


# {"retCode":0,"result":{"category":"linear","list":[{"symbol":"BTCUSDT","turnover24h":"2352.94","volume24h":"49"}]}};
# on inverse contracts the volume counts USD
def _day_of(category: str, one: Any) -> Listed:
    if category == "inverse":
        return Listed(one["symbol"], "", contracts=positive_in(one, "volume24h"))
    return Listed(one["symbol"], "", quote_volume=positive_in(one, "turnover24h"))


def _listing(category: str) -> Listing:
    return Listing(
        _REST, "/v5/market/instruments-info", ("result", "list"), _listed,
        {"PreLaunch": NOT_YET, "PendingOpen": NOT_YET, "Settling": DELISTED, "Delivering": DELISTED,
         "Closed": DELISTED},
        weight=1.0, failed=_failed,
        # Spot serves all on one page, whatever the limit.
        questions=(Question({"category": category, "limit": "1000"}),), cursor=("cursor", ("result", "nextPageCursor")),
        volumes=Listing(
            _REST, "/v5/market/tickers", ("result", "list"), partial(_day_of, category), {}, weight=1.0, failed=_failed,
            questions=(Question({"category": category}),),
        ),
    )  # fmt: skip


def _market(name: str, streams_per_request: int, *, is_inverse: bool = False) -> Bybit:
    # 21,000 characters of topics a connection, each of 35 at most; requests a second are not documented.
    limits = Limits(600, streams_per_request, 10, request_bytes=21_000, connects=(500, 300.0))
    routes = {f"wss://{_STREAM_HOST}/v5/public/{name}": tuple(_CHANNELS)}
    return Bybit(f"bybit {name}", routes, limits, is_inverse, _listing(name), _candle_history(name))


SPOT, LINEAR, INVERSE = _market("spot", 10), _market("linear", 500), _market("inverse", 500, is_inverse=True)
MARKETS: dict[str, Exchange] = {"spot": SPOT, "linear": LINEAR, "inverse": INVERSE}
