"""Hyperliquid: perpetuals and spot; a coin is "BTC", "PURR/USDC" or "@107".

Source: https://hyperliquid.gitbook.io/hyperliquid-docs/for-developers/api/websocket and .../info-endpoint
Units: times in messages are milliseconds; sizes are base units.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import orjson

from fastbars.exchanges import (
    DELISTED,
    NOTHING,
    Ack,
    Alias,
    CandleAsk,
    CandleHistory,
    CandlePaging,
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
    Stream,
    SymbolRules,
    TradeFields,
    interval_of,
    list_in,
    make_candle,
    make_quote,
    nanoseconds_of,
    positive_in,
    shown,
    text_in,
)

_REST = RestApi("https://api.hyperliquid.xyz", 1200.0)
_MOST_DECIMALS = 30
_GREETING = "Websocket connection established"


_INTERVALS = ("1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "8h", "12h", "1d")


# [{"t":1681923600000,"T":1681924499999,"s":"BTC","i":"15m","o":"29295.0","c":"29258.0","h":"29309.0","l":"29250.0",
#  "v":"0.98639","n":189}], oldest first, the one in progress last
def _read_candles(ask: CandleAsk, body: bytes) -> Iterable[ExchangeBar]:
    answer = orjson.loads(body)
    for c in [] if answer is None else list_in(answer, "the answer"):  # null was seen where there are none
        if (c["s"], c["i"]) != (ask.symbol, ask.interval):
            raise ParseError(
                f"requested {ask.symbol} {ask.interval}, the answer is about {shown(c['s'])} {shown(c['i'])}"
            )
        prices = [c[name] for name in "ohlc"]
        yield make_candle(ask.symbol, ask.spec, nanoseconds_of(c["t"]), prices, c["v"], trade_count=c["n"])


def _candle_body(ask: CandleAsk) -> bytes:
    start, end = ask.since_ns // 10**6, (ask.until_ns - 1) // 10**6
    request = {"coin": ask.symbol, "interval": ask.interval, "startTime": start, "endTime": end}
    return orjson.dumps({"type": "candleSnapshot", "req": request})


def _candle_weight(candles: int) -> float:
    return 20.0 + candles // 60  # what an answer of so many items weighs


def _is_spot(symbol: str) -> bool:
    return "/" in symbol or symbol.startswith("@")  # "PURR/USDC", "@107"


def _is_perpetual(symbol: str) -> bool:
    return ":" not in symbol and not _is_spot(symbol)  # "dex:COIN" is of an exchange built on it


# {"universe":[{"name":"BTC","szDecimals":5,"maxLeverage":40,"isDelisted":true}],...} of "meta", and
# {"tokens":[{"name":"USDC","szDecimals":8,"index":0},{"name":"PURR","szDecimals":0,"index":1}],"universe":[{"name":
#  "PURR/USDC","tokens":[1,0],"index":0,"isCanonical":true}]} of "spotMeta". Prices have 5 significant digits, no tick.
def _listed(answer: Any) -> list[Listed]:
    tokens = {one["index"]: one for one in answer.get("tokens", ())}
    return [
        _spot(one, *(tokens.get(at, {}) for at in one["tokens"])) if "tokens" in one else _perpetual(one)
        for one in answer["universe"]
    ]


def _perpetual(one: Any) -> Listed:
    status = "isDelisted" if one.get("isDelisted") is True else "listed"
    base = text_in(one, "name")
    return Listed(one["name"], status, "perpetual", base, "USDC", "USDC", size_step=_step_of(one), inverse=False)


def _spot(one: Any, base: Any, quote: Any) -> Listed:
    names = text_in(base, "name"), text_in(quote, "name")
    return Listed(one["name"], "listed", "spot", *names, size_step=_step_of(base))


def _step_of(one: Any) -> Decimal | None:
    decimals = one.get("szDecimals")
    return Decimal((0, (1,), -decimals)) if type(decimals) is int and 0 <= decimals <= _MOST_DECIMALS else None


# [{"universe":[{"name":"BTC",...}],...},[{"dayNtlVlm":"1169046.29406",...}]], in the same order; of spot each names its
# {"coin":"PURR/USDC"}
def _days(answer: Any) -> list[Listed]:
    meta, days = answer
    names = [day["coin"] for day in days] if "tokens" in meta else [one["name"] for one in meta["universe"]]
    return [Listed(name, "", quote_volume=positive_in(day, "dayNtlVlm")) for name, day in zip(names, days, strict=True)]


class Hyperliquid(Exchange):
    """One of Hyperliquid's markets; either serves all coins, and bars name the one that was chosen."""

    docs = "https://hyperliquid.gitbook.io/hyperliquid-docs/for-developers/api/websocket"
    channels: Mapping[str, Ids | None] = {
        "trades": "unique", "candle_*": None, "bbo": None, "l2Book": None, "activeAssetCtx": None,
    }  # fmt: skip
    routes: Mapping[str, Sequence[str]] = {"wss://api.hyperliquid.xyz/ws": tuple(channels)}
    default_channel = "trades"
    # kPEPE is a thousand PEPE; perpetuals of builders have the lower-case name of their exchange in front.
    symbols = SymbolRules(
        r"k?[A-Z0-9]+|[@#][0-9]+|[A-Z0-9]+/[A-Z0-9]+|[a-z0-9]+:[A-Za-z0-9]+",
        example="BTC, kPEPE, @107, PURR/USDC or xyz:TSLA",
    )
    candles: Mapping[str, str] = {spec: f"candle_{spec}" for spec in _INTERVALS}
    # The latest 5,000. Answers about a span are documented to have 500 items at most; whether these do is not known.
    candle_history = CandleHistory(
        _REST, "/info", 500, {spec: spec for spec in _INTERVALS}, lambda _: {}, _read_candles, _candle_weight,
        CandlePaging.WINDOWS, reach_bars=5000, body=_candle_body,
        lacks=("quote_volume", "taker_buy_volume", "taker_buy_quote_volume", "first_trade_id", "last_trade_id"),
    )  # fmt: skip
    listing = Listing(
        _REST, "/info", ("universe",), _perpetual, {"isDelisted": DELISTED}, weight=20.0, whole=_listed,
        questions=(
            Question(body=b'{"type":"meta"}', covers=_is_perpetual),
            Question(body=b'{"type":"spotMeta"}', covers=_is_spot),
        ),
        volumes=Listing(
            _REST, "/info", (), _perpetual, {}, weight=20.0, whole=_days,
            questions=(
                Question(body=b'{"type":"metaAndAssetCtxs"}', covers=_is_perpetual),
                Question(body=b'{"type":"spotMetaAndAssetCtxs"}', covers=_is_spot),
            ),
        ),
    )  # fmt: skip
    acks = "streams"
    sends_recent_trades = True
    # Per address: 10 connections, 30 new ones a minute, 1,000 subscriptions, 2,000 messages a minute.
    limits = Limits(1000, 100, 30, connects=(30, 60.0), connections=10, streams=1000, requests_shared=True)
    # It closes a connection on which it sent nothing for 60 s.
    keepalive = Keepalive(b'{"method":"ping"}', interval_s=50.0, silence_s=60.0)

    def __init__(self, market: str) -> None:
        self.name = f"hyperliquid {market}"

    def native_name(self, alias: Alias) -> str | None:
        # Of spot only the listing knows the names, such as "@107".
        return alias.base if alias.kind == "perpetual" and alias[1:3] == ("USDC", "USDC") else None

    def subscribe(self, streams: Sequence[Stream], request_id: int) -> list[bytes]:  # noqa: ARG002
        return [orjson.dumps({"method": "subscribe", "subscription": _subscription(*stream)}) for stream in streams]

    def unsubscribe(self, streams: Sequence[Stream], request_id: int) -> list[bytes]:  # noqa: ARG002
        return [orjson.dumps({"method": "unsubscribe", "subscription": _subscription(*stream)}) for stream in streams]

    def loads(self, payload: bytes) -> Any:
        # The server greets with "Websocket connection established.", which is not JSON.
        return _GREETING if payload.strip(b'" \r\n').startswith(_GREETING.encode()) else orjson.loads(payload)

    def fields(self, channel: str) -> TradeFields | None:  # noqa: ARG002
        # {"channel":"trades","data":[{"coin":"BTC","side":"B","px":"105056.0","sz":"0.02222","time":1737900000000,
        #  "hash":"0x00...","tid":917211710228416,"users":["0x8a43...","0x6802..."]}]}; the first one after each
        # subscribe is history, which the window of keys recognises where it was seen before. `tid` is a hash, unique
        # with time and coin.
        return TradeFields(
            match={("channel",): "trades"}, trades=("data",), symbol="coin", price="px", size="sz", time="time",
            key="tid", side="side", buy="B", sell="A", event_time="time",
        )  # fmt: skip

    def parse(self, message: Any) -> Iterable[Message]:
        if message == _GREETING:
            return NOTHING
        if not isinstance(message, dict):
            return ()
        channel, data = message.get("channel"), message.get("data")
        # {"channel":"candle","data":{"t":1742428800000,"T":1742428859999,"s":"AAVE","i":"1m","o":"182.61","c":"182.65",
        #  "h":"182.65","l":"182.61","v":"0.91","n":2}}
        if channel == "candle" and isinstance(data, dict):
            spec = interval_of(data["i"]).replace("M", "mo")
            prices = [data[name] for name in "ohlc"]
            return (make_candle(data["s"], spec, nanoseconds_of(data["t"]), prices, data["v"], trade_count=data["n"]),)
        # {"channel":"bbo","data":{"coin":"ETH","time":1750900000838,"bbo":[{"px":"0.97925","sz":"4144.6","n":1},null]}}
        if channel == "bbo" and isinstance(data, dict):
            bid, ask = ([side["px"], side["sz"]] if side else None for side in data["bbo"])
            return (make_quote(data["coin"], bid, ask, self.event_time_ns(message)),)
        if channel == "subscriptionResponse" and isinstance(data, dict):
            # {"channel":"subscriptionResponse","data":{"method":"subscribe","subscription":{"type":"bbo",
            #  "coin":"BTC"}}}
            return (Ack(streams=_streams(data["subscription"]), ended=data["method"] == "unsubscribe"),)
        if channel == "pong":
            return (Heartbeat(),)
        if channel == "error":
            return (_refusal(str(data)),)
        if isinstance(channel, str):
            return (RawMessage(channel, data.get("coin") if isinstance(data, dict) else None, message),)
        return ()


def _subscription(symbol: str, channel: str) -> dict[str, str]:
    kind, _, interval = channel.partition("_")
    return {"type": kind, "coin": symbol} | ({"interval": interval} if interval else {})


def _streams(subscription: Any) -> tuple[Stream, ...]:
    coin, kind, interval = (subscription.get(name) for name in ("coin", "type", "interval"))
    return ((coin, f"{kind}_{interval}" if interval else kind),) if isinstance(coin, str) else ()


def _refusal(text: str) -> Message:
    # {"channel":"error","data":"Already subscribed: {\"type\":\"bbo\",\"coin\":\"BTC\"}"}; not every text
    # ends with a subscription
    streams: tuple[Stream, ...] = ()
    try:
        subscription = orjson.loads(text[text.index("{") :])
        streams = _streams(subscription.get("subscription", subscription))
    except (ValueError, AttributeError):
        pass
    # The connection already is in the state that was requested: that confirms it.
    if streams and text.startswith(("Already subscribed", "Already unsubscribed")):
        return Ack(streams=streams, ended=text.startswith("Already unsubscribed"))
    return Refusal(None, text, streams)


HYPERLIQUID = Hyperliquid("perp")
MARKETS: dict[str, Exchange] = {"perp": HYPERLIQUID, "spot": Hyperliquid("spot")}
