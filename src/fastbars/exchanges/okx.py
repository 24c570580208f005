"""OKX v5: spot, swaps, futures.

Sizes are base units on spot and contracts elsewhere. On inverse contracts (BTC-USD-SWAP) the sum of contracts x
contract size is the quote volume. On linear ones (BTC-USDT-SWAP) it is the sum of price x contracts: multiply by the
instrument's `ctVal` for quote units.

Source: https://www.okx.com/docs-v5/en/#order-book-trading-market-data and .../#public-data-rest-api-get-instruments
Units: times in messages are milliseconds, in text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Context, Decimal
from typing import Any

import orjson

from fastbars.exchanges import (
    DELISTED,
    HALTED,
    NOT_YET,
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
    Ids,
    Keepalive,
    Limits,
    Listed,
    Listing,
    Message,
    Notice,
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
    decimals_of,
    interval_of,
    list_in,
    make_candle,
    make_quote,
    nanoseconds_of,
    positive_in,
    read_past_trades,
    shown,
    text_in,
    time_in,
)
from fastbars.exchanges.listing import Kind

# Candles of 6h and longer are cut in UTC+8 unless their name says utc.
_INTERVALS = {
    "1m": "1m", "3m": "3m", "5m": "5m", "15m": "15m", "30m": "30m", "1h": "1H", "2h": "2H", "4h": "4H", "1d": "1Dutc",
}  # fmt: skip
_UNITS = {"s": "s", "m": "m", "H": "h", "D": "d", "W": "w", "M": "mo"}
_DIGITS = Context(prec=40)  # not the caller's
_CONTRACT_USD = {"BTC": Decimal(100)}  # inverse: all others 10
_NAMED = re.compile(r"channel:\s*([\w-]+),\s*instId:\s*([\w-]+)")


# {"arg":{"channel":"trades-all","instId":"BTC-USDT"},"data":[{"instId":"BTC-USDT","tradeId":"130639474",
#  "px":"42219.9","sz":"0.12060306","side":"buy","ts":"1630048897897"}]}; `trades` also has "count":"3". The REST
# API writes trades the same way, newest first
_TRADES = TradeFields(
    match={("arg", "channel"): "trades-all"}, trades=("data",), symbol="instId", price="px", size="sz", time="ts",
    first_id="tradeId", integers_in_text=True, side="side", buy="buy", sell="sell", event_time="ts",
)  # fmt: skip
_PAST_TRADES = TradeReader("trades-all", replace(_TRADES, match={("code",): "0"}))
_STREAM_HOST, _REST_HOST = "ws.okx.com", "www.okx.com"
_REST = RestApi(f"https://{_REST_HOST}", 600.0)


# {"code":"0","msg":"","data":[{"instId":"BTC-USDT","side":"sell","sz":"0.00001","px":"29963.2",
#  "tradeId":"242720720","ts":"1654161646974"}]}, newest first
def _read_trades(symbol: str, body: bytes) -> Page:
    answer = orjson.loads(body)
    if answer["code"] != "0":
        raise ParseError(f"okx {symbol}: {shown(answer.get('msg'))} (code {shown(answer['code'])})")
    list_in(answer["data"], "data")
    return read_past_trades(_PAST_TRADES, symbol, answer)


_TRY_LATER = ("50001", "50004", "50011", "50013", "50026", "50040", "50061")  # busy, timed out, too many requests


# {"code":"0","msg":"","data":[["1597026383085","3.721","3.743","3.677","3.708","8422410","22698348.04828491",
#  "12698348.04828491","1"]]}: start, open, high, low, close, volume (contracts on derivatives), in base units, in quote
# units, whether it is closed; newest first. Of linear contracts our sum of price x contracts is another than theirs,
# which has the contract's size in it.
def _read_candles(ask: CandleAsk, body: bytes) -> Iterable[ExchangeBar]:
    answer = orjson.loads(body)
    if answer["code"] != "0":
        why = f"{shown(answer.get('msg'))} (code {shown(answer['code'])})"
        raise ParseError(why) if answer["code"] in _TRY_LATER else RestError(why, permanent=True)
    has_quote = _is_spot(ask.symbol) or _is_inverse(ask.symbol)
    for start, open_, high, low, close, volume, _, quote, confirm in list_in(answer["data"], "data"):
        yield make_candle(
            ask.symbol, ask.spec, nanoseconds_of(start), (open_, high, low, close), volume,
            quote_volume=quote if has_quote else None, is_closed=confirm == "1",
        )  # fmt: skip


def _candle_query(ask: CandleAsk) -> Mapping[str, str]:
    # "after" and "before" are exclusive, and mean earlier and later.
    return {
        "instId": ask.symbol, "bar": ask.interval, "after": str(ask.until_ns // 10**6),
        "before": str(ask.since_ns // 10**6 - 1), "limit": str(ask.limit),
    }  # fmt: skip


_KINDS: Mapping[str, Kind] = {"SPOT": "spot", "SWAP": "perpetual", "FUTURES": "future", "OPTION": "option"}


# {"code":"0","msg":"","data":[{"instType":"SWAP","instId":"BTC-USD-SWAP","uly":"BTC-USD","baseCcy":"","quoteCcy":"",
#  "settleCcy":"BTC","ctVal":"100","ctMult":"1","ctValCcy":"USD","ctType":"inverse","listTime":"1611916828000",
#  "expTime":"","tickSz":"0.1","lotSz":"1","state":"live"}]}; spot has base and quote, and no contract
def _listed(one: Any) -> Listed:
    kind = _KINDS.get(str(one.get("instType")))
    base, quote, settle = (text_in(one, f"{name}Ccy") for name in ("base", "quote", "settle"))
    pair = (text_in(one, "uly") or "").split("-")
    if base is None and quote is None and len(pair) == 2:
        base, quote = pair
    contract, times = positive_in(one, "ctVal"), positive_in(one, "ctMult")
    is_inverse = {"inverse": True, "linear": False}.get(str(one.get("ctType")))
    return Listed(
        one["instId"], one["state"], kind, base, quote, None if kind == "spot" else settle,
        positive_in(one, "tickSz"), positive_in(one, "lotSz"),
        None if contract is None or times is None else _DIGITS.multiply(contract, times), is_inverse,
        None if kind in ("spot", "perpetual") else time_in(one, "expTime"), time_in(one, "listTime"),
    )  # fmt: skip


# {"code":"0","msg":"","data":[{"instType":"SWAP","instId":"BTC-USD-SWAP","last":"56956.1","vol24h":"1011",
#  "volCcy24h":"2.1",...}]}: `volCcy24h` is quote units on spot and base units elsewhere, `vol24h` there contracts. What
# that was worth in quote units is not said of linear contracts: it is counted at the last price.
def _day_of(one: Any) -> Listed:
    amount, last = positive_in(one, "volCcy24h"), positive_in(one, "last")
    if one.get("instType") != "SPOT":
        amount = None if amount is None or last is None else _DIGITS.multiply(amount, last)
    return Listed(one["instId"], "", quote_volume=amount, contracts=positive_in(one, "vol24h"))


def _failed(rest: Any) -> str | None:
    return None if rest["code"] == "0" else f"{rest.get('msg')} (code {rest['code']})"


def _is_spot(symbol: str) -> bool:
    return symbol.count("-") < 2  # "BTC-USDT"


def _is_inverse(symbol: str) -> bool:
    return symbol.partition("-")[2].startswith("USD-")  # "BTC-USD-SWAP"


def _is_swap(symbol: str) -> bool:
    return symbol.endswith("-SWAP")


def _is_future(symbol: str) -> bool:
    return symbol.count("-") == 2 and not _is_swap(symbol)  # "BTC-USD-261225"


class Okx(Exchange):
    """One of OKX's markets; either serves all instruments, and bars name the one that was chosen."""

    docs = "https://www.okx.com/docs-v5/en/#overview-websocket"
    # Of `trades` the id is that of the last of `count` trades at one price.
    channels: Mapping[str, Ids | None] = {
        "trades-all": "contiguous", "trades": "contiguous", "candle*": None, "bbo-tbt": None, "tickers": None,
        "books": None, "books*": None, "mark-price": None, "funding-rate": None, "open-interest": None,
    }  # fmt: skip
    routes: Mapping[str, Sequence[str]] = {
        f"wss://{_STREAM_HOST}:8443/ws/v5/business": ("trades-all", "candle*"),
        f"wss://{_STREAM_HOST}:8443/ws/v5/public": tuple(
            name for name in channels if name not in ("trades-all", "candle*")
        ),
    }
    default_channel = "trades-all"
    symbols = SymbolRules(r"[^\Wa-z]+(-[^\Wa-z]+)+", "upper", "BTC-USDT or BTC-USDT-SWAP", separator="-")
    candles: Mapping[str, str] = {spec: f"candle{interval}" for spec, interval in _INTERVALS.items()}
    acks = "streams"
    histories: Mapping[str, Sequence[History]] = {
        "trades-all": (
            History(
                _REST, "/api/v5/market/history-trades", Paging.BACKWARD_BY_ID, 100,
                lambda symbol, position, _: {"instId": symbol, "type": "1", "after": str(position), "limit": "100"},
                _read_trades, weight=1.0, reach_s=90 * 86_400.0,
                latest=lambda symbol: {"instId": symbol, "type": "1", "limit": "100"},
            ),
        )
    }  # fmt: skip
    # Its own endpoint has the latest 1,440, and the one in progress.
    candle_history = CandleHistory(
        _REST, "/api/v5/market/history-candles", 100,
        _INTERVALS, _candle_query, _read_candles, 1.0,
        CandlePaging.BACKWARD, recent=("/api/v5/market/candles", 1440),
        lacks=("trade_count", "taker_buy_volume", "taker_buy_quote_volume", "first_trade_id", "last_trade_id"),
    )  # fmt: skip
    listing = Listing(
        _REST, "/api/v5/public/instruments", ("data",), _listed,
        {"suspend": HALTED, "rebase": HALTED, "preopen": NOT_YET, "test": NOT_YET, "expired": DELISTED},
        weight=1.0, failed=_failed,
        questions=(  # options would need a request for each underlying
            Question({"instType": "SPOT"}, covers=_is_spot),
            Question({"instType": "SWAP"}, covers=_is_swap),
            Question({"instType": "FUTURES"}, covers=_is_future),
        ),
        volumes=Listing(
            _REST, "/api/v5/market/tickers", ("data",), _day_of, {}, weight=1.0, failed=_failed,
            questions=(
                Question({"instType": "SPOT"}, covers=_is_spot),
                Question({"instType": "SWAP"}, covers=_is_swap),
                Question({"instType": "FUTURES"}, covers=_is_future),
            ),
        ),
    )  # fmt: skip
    # Accounts of the European Economic Area, and of the USA and Australia.
    regions: Mapping[str, Mapping[str, str]] = {
        "eea": {_STREAM_HOST: "wseea.okx.com", _REST_HOST: "eea.okx.com"},
        "us": {_STREAM_HOST: "wsus.okx.com", _REST_HOST: "us.okx.com"},
    }
    # The length of a request is limited by its bytes; a connection may hold more than others were seen to use.
    limits = Limits(1000, 100, 3, request_bytes=65_536, requests_per_hour=480, connects=(3, 1.0))
    # It closes a connection on which it sent nothing for 30 s.
    keepalive = Keepalive(b"ping", interval_s=20.0, silence_s=30.0)

    def __init__(self, market: str) -> None:
        self.name = f"okx {market}"

    def native_name(self, alias: Alias) -> str | None:
        # BTC-USDT, BTC-USDT-SWAP, BTC-USD-260925; either market serves all
        if alias.kind != "spot" and not (alias.is_linear or (alias.is_inverse and alias.quote == "USD")):
            return None
        end = {"spot": "", "perpetual": "-SWAP", "future": f"-{alias.expiry}"}[alias.kind]
        return f"{alias.base}-{alias.quote}{end}"

    def subscribe(self, streams: Sequence[Stream], request_id: int) -> list[bytes]:
        return self._request("subscribe", streams, request_id)

    def unsubscribe(self, streams: Sequence[Stream], request_id: int) -> list[bytes]:
        return self._request("unsubscribe", streams, request_id)

    def _request(self, op: str, streams: Sequence[Stream], request_id: int) -> list[bytes]:
        names = [{"channel": channel, "instId": symbol} for symbol, channel in streams]
        return [orjson.dumps({"id": str(request_id), "op": op, "args": names})]

    def loads(self, payload: bytes) -> Any:
        return "pong" if payload == b"pong" else orjson.loads(payload)

    def fields(self, channel: str) -> TradeFields | None:
        if channel == "trades":
            return replace(
                _TRADES, match={("arg", "channel"): channel}, first_id=None, last_id="tradeId", trade_count="count"
            )
        return _TRADES

    def contract_size(self, symbol: str) -> Decimal | None:
        return _CONTRACT_USD.get(symbol.partition("-")[0], Decimal(10)) if _is_inverse(symbol) else None

    def parse(self, message: Any) -> Iterable[Message]:
        if message == "pong":
            return (Heartbeat(),)
        if not isinstance(message, dict):
            return ()
        # First, since acks also carry an "arg" with the channel, as data does.
        if "event" in message:
            return _control(message)
        arg = message.get("arg")
        if not isinstance(arg, dict):
            return ()
        channel, symbol, data = arg["channel"], arg.get("instId", ""), message["data"]
        if channel.startswith("candle"):
            return [_candle(symbol, channel.removeprefix("candle"), row) for row in data] or NOTHING
        # {"arg":{"channel":"bbo-tbt","instId":"BTC-USDT"},"data":[{"asks":[["8476.98","415","0","13"]],
        #  "bids":[["8476.97","256","0","12"]],"ts":"1597026383085","seqId":123456}]}
        if channel == "bbo-tbt":
            best = [[next(iter(book[side]), None) for side in ("bids", "asks")] for book in data]
            return [make_quote(symbol, bid, ask, self.event_time_ns(message)) for bid, ask in best] or NOTHING
        # {"arg":{"channel":"tickers","instId":"BTC-USDT"},"data":[{"instId":"BTC-USDT","last":"9999.99",
        #  "open24h":"9000","high24h":"10000","low24h":"8888.88","volCcy24h":"2222","vol24h":"22","ts":"1597026"}]}
        if channel == "tickers":
            return [self._ticker(t) for t in data] or NOTHING
        return (RawMessage(channel, symbol or None, message),)

    def _ticker(self, t: dict[str, Any]) -> Ticker:
        last, open_, high, low, volume, turnover = decimals_of(
            t, "last", "open24h", "high24h", "low24h", "vol24h", "volCcy24h"
        )
        is_spot = t["instId"].count("-") == 1  # elsewhere the turnover is in base units
        quote = turnover if is_spot else None
        return Ticker(t["instId"], last, open_, high, low, volume, quote, None, nanoseconds_of(t["ts"]))


def _candle(symbol: str, interval: str, row: Sequence[str]) -> ExchangeBar:
    # ["1597026383085","8533.02","8553.74","8527.17","8548.26","45247","529.5858061","5529.5858061","1"]
    name = interval_of(interval).removesuffix("utc")
    spec = name[:-1] + _UNITS[name[-1]]
    time_ns = nanoseconds_of(row[0])
    return make_candle(symbol, spec, time_ns, row[1:5], row[5], quote_volume=row[7], is_closed=row[8] == "1")


def _control(message: dict[str, Any]) -> tuple[Message, ...]:
    # {"id":"1","event":"subscribe","arg":{"channel":"trades-all","instId":"BTC-USDT"},"connId":"a4d3ae55"}, one an arg
    # {"id":"1","event":"error","code":"60012","msg":"Invalid request: {...}","connId":"a4d3ae55"}
    # Each arg of a request is answered apart, so an ack names one stream; an error names them only in its text.
    event, asked, arg = message["event"], message.get("id") or "", message.get("arg") or {}
    request_id = int(asked) if asked.isdecimal() else None
    if event in ("subscribe", "unsubscribe"):
        return (Ack(request_id, ((arg["instId"], arg["channel"]),), ended=event == "unsubscribe"),)
    if event == "error":
        named = tuple((symbol, channel) for channel, symbol in _NAMED.findall(message["msg"]))
        return (Refusal(request_id, f"{message['msg']} (code {message['code']})", named),)
    # {"event":"notice","code":"64008","msg":"The connection will soon be closed for a service upgrade. ..."}
    if event == "notice":
        return (Notice(message["msg"]),)
    return (RawMessage(event, arg.get("instId"), message),)


OKX = Okx("spot")
MARKETS: dict[str, Exchange] = {"spot": OKX, "derivatives": Okx("derivatives")}
