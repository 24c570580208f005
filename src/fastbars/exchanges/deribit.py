"""Deribit: inverse and linear futures, options and spot, all of one address; symbols such as "BTC-PERPETUAL".

Source: https://docs.deribit.com (JSON-RPC over WebSocket, v2.1.1)
Units: times in messages are milliseconds; prices and amounts are JSON numbers, read as text, digit for digit. An amount
is in USD on inverse futures and in base units elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from typing import Any

import orjson

from fastbars.exchanges import (
    DELISTED,
    Ack,
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
    Stream,
    SymbolRules,
    Ticker,
    TradeFields,
    TradeReader,
    decimal_of,
    decimals_of,
    integer_of,
    list_in,
    make_candle,
    make_quote,
    nanoseconds_of,
    positive_in,
    read_past_trades,
    text_in,
    time_in,
)
from fastbars.exchanges.listing import Kind
from fastbars.exchanges.naming import Alias

_TRADES = "trades.100ms"  # "raw" is for clients that have logged in
# `trade_seq` is documented as the number of a trade within its instrument. That it has no holes was not confirmed on a
# recording: declare "unique" here if one shows holes that the REST API does not fill.
_TRADE_IDS: Ids = "contiguous"
_CHANNELS: Mapping[str, Ids | None] = {
    _TRADES: _TRADE_IDS, "chart.trades.*": None, "quote": None, "ticker.*": None, "book.*": None,
}  # fmt: skip
# The day is left out: it does not begin at midnight UTC on every chart.
_MINUTES = {"1m": 1, "3m": 3, "5m": 5, "10m": 10, "15m": 15, "30m": 30, "1h": 60, "2h": 120, "3h": 180, "6h": 360,
            "12h": 720}  # fmt: skip
_SPECS = {str(minutes): spec for spec, minutes in _MINUTES.items()}
_UNKNOWN = "the exchange knows none of these channels"
_DAY_S = 86_400.0
# 500 credits a request, of which 10,000 come back each second; what an address without a login has is not documented.
_REST = RestApi("https://www.deribit.com", 600.0)
_CANDLES_A_PAGE = 1000  # the most of one answer is not documented; others ask for several thousand
_PAST_TRADES_REACH_S = _DAY_S  # documented of searches by time; by number it may be longer


def _loads(payload: bytes) -> Any:
    return json.loads(payload, parse_float=str, parse_int=str)  # a float would lose digits


# {"trade_seq":30289442,"trade_id":"48079269","timestamp":1590484512188,"tick_direction":2,"price":8950.0,
#  "mark_price":8948.9,"instrument_name":"BTC-PERPETUAL","index_price":8955.88,"direction":"sell","amount":10.0}, with
# "liquidation", "block_trade_id" or "combo_id" where the trade was one: the exchange's candles count all
def _fields(match: Mapping[str | tuple[str, ...], str], trades: tuple[str, ...]) -> TradeFields:
    return TradeFields(
        match=match, trades=trades, symbol="instrument_name", price="price", size="amount", json_numbers=True,
        time="timestamp", first_id="trade_seq", side="direction", buy="buy", sell="sell", event_time="timestamp",
    )  # fmt: skip


_PAST_TRADES = TradeReader(_TRADES, _fields({}, ("result", "trades")))


# {"jsonrpc":"2.0","result":{"trades":[{...}],"has_more":true},"usIn":1,"usOut":2,"usDiff":1,"testnet":false}
def _read_trades(symbol: str, body: bytes) -> Page:
    answer = _loads(body)
    list_in(answer["result"]["trades"], "result.trades")
    return read_past_trades(_PAST_TRADES, symbol, answer)


def _from_number(symbol: str, position: int, _: Hole) -> Mapping[str, str]:
    return {"instrument_name": symbol, "start_seq": str(position), "count": "1000", "sorting": "asc"}


_HISTORY = History(
    _REST, "/api/v2/public/get_last_trades_by_instrument", Paging.FORWARD_BY_ID, 1000, _from_number, _read_trades,
    weight=1.0, reach_s=_PAST_TRADES_REACH_S,
)  # fmt: skip


def _name_of(stream: Stream) -> str:
    # "quote" of BTC-PERPETUAL is "quote.BTC-PERPETUAL", "ticker.100ms" of it "ticker.BTC-PERPETUAL.100ms", and
    # "chart.trades.1" of it "chart.trades.BTC-PERPETUAL.1"
    symbol, channel = stream
    kind, dot, interval = channel.rpartition(".")
    return f"{kind}.{symbol}.{interval}" if dot else f"{channel}.{symbol}"


def _stream_of(name: str) -> Stream:
    # Names of instruments have no dot.
    parts = name.split(".")
    place = 2 if parts[0] == "chart" else 1
    return parts[place], ".".join(parts[:place] + parts[place + 1 :])


# {"jsonrpc":"2.0","result":{"status":"ok","ticks":[1554373800000],"open":[4963.42],"high":[4965.1],"low":[4960.0],
#  "close":[4962.0],"volume":[29.0],"cost":[143460.0]},"usIn":1}, oldest first, with candles of intervals without trades
def _read_candles(*, is_inverse: bool) -> Callable[[CandleAsk, bytes], Iterable[ExchangeBar]]:
    def read(ask: CandleAsk, body: bytes) -> Iterable[ExchangeBar]:
        answer = _loads(body)
        if (why := _error_of(answer.get("error"))) is not None:
            raise ParseError(f"deribit {ask.symbol}: {why}")
        chart = answer["result"]
        if chart["status"] == "no_data":
            return
        names = ("ticks", "open", "high", "low", "close", "volume", "cost")
        columns = [list_in(chart[name], f"result.{name}") for name in names]
        for tick, *prices, volume, cost in zip(*columns, strict=True):
            counted, quote_volume = (cost, None) if is_inverse else (volume, cost)
            yield make_candle(ask.symbol, ask.spec, nanoseconds_of(tick), prices, counted, quote_volume=quote_volume)

    return read


def _candle_query(ask: CandleAsk) -> Mapping[str, str]:
    times = {"start_timestamp": str(ask.since_ns // 10**6), "end_timestamp": str(ask.last_ns // 10**6)}
    return {"instrument_name": ask.symbol, "resolution": ask.interval, **times}


def _candle_history(*, is_inverse: bool) -> CandleHistory:
    lacks = ("trade_count", "taker_buy_volume", "taker_buy_quote_volume", "first_trade_id", "last_trade_id")
    return CandleHistory(
        _REST, "/api/v2/public/get_tradingview_chart_data", _CANDLES_A_PAGE,
        {spec: str(minutes) for spec, minutes in _MINUTES.items()}, _candle_query, _read_candles(is_inverse=is_inverse),
        1.0, CandlePaging.WINDOWS, lacks=(*lacks, "quote_volume") if is_inverse else lacks,
    )  # fmt: skip


# {"jsonrpc":"2.0","result":[{"instrument_name":"BTC-PERPETUAL","is_active":true,"kind":"future","settlement_period":
#  "perpetual","instrument_type":"reversed","base_currency":"BTC","quote_currency":"USD","settlement_currency":"BTC",
#  "tick_size":0.5,"min_trade_amount":10,"contract_size":10,"creation_timestamp":1534167754000,
#  "expiration_timestamp":32503708800000}]}: futures of both markets are in one answer
def _listed(one: Any, market: str) -> Listed | None:
    is_inverse = one.get("instrument_type") == "reversed" if one["kind"] == "future" else None
    if market != {True: "inverse", False: "linear", None: one["kind"]}[is_inverse]:
        return None
    is_perpetual = one.get("settlement_period") == "perpetual"
    kind: Kind = "perpetual" if is_perpetual else one["kind"]
    never = kind in ("perpetual", "spot")
    return Listed(
        one["instrument_name"], "open" if one["is_active"] else "closed", kind, text_in(one, "base_currency"),
        text_in(one, "quote_currency"), None if kind == "spot" else text_in(one, "settlement_currency"),
        positive_in(one, "tick_size"), positive_in(one, "min_trade_amount"),
        Decimal(1) if is_inverse else None,  # amounts are in USD, not in the contracts that `contract_size` is about
        is_inverse, None if never else time_in(one, "expiration_timestamp"), time_in(one, "creation_timestamp"),
    )  # fmt: skip


def _listing(kind: str, market: str) -> Listing:
    query = {"currency": "any", "kind": kind, "expired": "false"}
    return Listing(
        _REST, "/api/v2/public/get_instruments", ("result",), partial(_listed, market=market), {"closed": DELISTED},
        weight=1.0, questions=(Question(query),), failed=lambda rest: _error_of(rest.get("error")),
    )  # fmt: skip


def _error_of(error: Any) -> str | None:
    return None if error is None else f"{error.get('message')} (code {error.get('code')})"


@dataclass(frozen=True)
class Deribit(Exchange):
    """One of Deribit's kinds of instruments. All are served by one address."""

    name: str
    symbols: SymbolRules
    listing: Listing | None = field(default=None, repr=False)
    candle_history: CandleHistory | None = field(default=None, repr=False)
    is_inverse: bool = False
    negative_prices: bool = False

    channels = _CHANNELS
    default_channel = _TRADES
    routes = {"wss://www.deribit.com/ws/api/v2": tuple(_CHANNELS)}  # noqa: RUF012 the class is frozen
    docs = "https://docs.deribit.com"
    candles = {spec: f"chart.trades.{minutes}" for spec, minutes in _MINUTES.items()}  # noqa: RUF012
    histories = {_TRADES: (_HISTORY,)}  # noqa: RUF012
    # Subscribing costs 3,000 credits of 30,000, of which 10,000 come back each second; an address may have 32
    # connections. How many channels one may hold is not documented: others use 500.
    limits = Limits(500, 100, 3, connections=32)
    # Any request keeps a connection alive, and its answer tells that it is.
    keepalive = Keepalive(b'{"jsonrpc":"2.0","id":0,"method":"public/test","params":{}}', 15.0, silence_s=40.0)

    def native_name(self, alias: Alias) -> str | None:
        # BTC/USD:BTC is BTC-PERPETUAL, BTC/USDC:USDC-260925 is BTC_USDC-25SEP26, BTC/USDC is BTC_USDC
        market = self.name.partition(" ")[2]
        pair = f"{alias.base}_{alias.quote}"
        if alias.kind == "spot":
            return pair if market == "spot" else None
        if not (alias.is_inverse and alias.quote == "USD" if market == "inverse" else alias.is_linear):
            return None
        end = "PERPETUAL" if alias.expiry is None else alias.day
        if market not in ("inverse", "linear") or end is None:
            return None
        return f"{alias.base if market == 'inverse' else pair}-{end}"

    def subscribe(self, streams: Sequence[Stream], request_id: int) -> list[bytes]:
        return self._request("public/subscribe", streams, request_id)

    def unsubscribe(self, streams: Sequence[Stream], request_id: int) -> list[bytes]:
        return self._request("public/unsubscribe", streams, request_id)

    def _request(self, method: str, streams: Sequence[Stream], request_id: int) -> list[bytes]:
        # The answer to both is a list of channels: even ids are of those that subscribe.
        asked = 2 * request_id + (method == "public/unsubscribe")
        params = {"channels": [_name_of(stream) for stream in streams]}
        return [orjson.dumps({"jsonrpc": "2.0", "id": asked, "method": method, "params": params})]

    def loads(self, payload: bytes) -> Any:
        return _loads(payload)

    def contract_size(self, symbol: str) -> Decimal | None:  # noqa: ARG002
        return Decimal(1) if self.is_inverse else None  # amounts are in USD

    def fields(self, channel: str) -> TradeFields | None:  # noqa: ARG002
        # {"jsonrpc":"2.0","method":"subscription","params":{"channel":"trades.BTC-PERPETUAL.100ms","data":[{...}]}}
        return _fields(
            {("method",): "subscription", ("params", "channel"): "trades.*"}, ("params", "data")
        )  # fmt: skip

    def parse(self, message: Any) -> Iterable[Message]:
        if not isinstance(message, dict):
            return ()
        if message.get("method") == "heartbeat":
            return (Heartbeat(),)
        if message.get("method") != "subscription":
            return self._control(message)
        name, data = message["params"]["channel"], message["params"]["data"]
        symbol, channel = _stream_of(name)
        if channel.startswith("chart.trades."):
            return self._chart(symbol, channel.rpartition(".")[2], data)
        if channel == "quote":
            # {"timestamp":1550658624149,"instrument_name":"BTC-PERPETUAL","best_bid_price":3914.97,
            #  "best_bid_amount":40.0,"best_ask_price":3996.61,"best_ask_amount":50.0}
            bid, ask = (_best(data[f"best_{side}_price"], data[f"best_{side}_amount"]) for side in ("bid", "ask"))
            return (make_quote(symbol, bid, ask, nanoseconds_of(data["timestamp"])),)
        if channel.startswith("ticker."):
            return (self._ticker(symbol, data, message),)
        return (RawMessage(channel.partition(".")[0], symbol, message),)

    def _chart(self, symbol: str, resolution: str, data: Any) -> Iterable[Message]:
        # {"volume":0.05219351,"tick":1573645080000,"open":8869.79,"low":8788.25,"high":8870.31,"cost":460.0,
        #  "close":8791.25}: volume in base units, cost in quote units
        spec = _SPECS.get(resolution)
        if spec is None:
            return (RawMessage("chart", symbol, data),)
        prices = [data[name] for name in ("open", "high", "low", "close")]
        volume, quote_volume = (data["cost"], None) if self.is_inverse else (data["volume"], data["cost"])
        return (make_candle(symbol, spec, nanoseconds_of(data["tick"]), prices, volume, quote_volume=quote_volume),)

    def _ticker(self, symbol: str, data: dict[str, Any], message: Any) -> Message:
        # {"timestamp":1623060194301,"stats":{"volume_usd":284061480,"volume":7871.02139035,"price_change":0.7229,
        #  "low":35213.5,"high":36824.5},"last_price":36457.5,...}; the day's first price is not in it, and an
        # instrument that has not traded has no last price
        stats = data["stats"]
        if data.get("last_price") is None or stats.get("high") is None or stats.get("low") is None:
            return RawMessage("ticker", symbol, message)
        last, high, low = decimals_of({**stats, "last": data["last_price"]}, "last", "high", "low")
        (volume,) = decimals_of(stats, "volume_usd" if self.is_inverse else "volume")
        return Ticker(symbol, last, None, high, low, volume, None, None, nanoseconds_of(data["timestamp"]))

    def _control(self, message: dict[str, Any]) -> tuple[Message, ...]:
        # {"jsonrpc":"2.0","id":7,"result":["trades.BTC-PERPETUAL.100ms"],"usIn":1,"usOut":2,"usDiff":1}: the channels
        # of the request that are now subscribed to; one that the exchange does not know is left out
        # {"jsonrpc":"2.0","id":7,"error":{"message":"Invalid params","code":-32602},...}
        if "jsonrpc" not in message:
            return ()
        asked = message.get("id")
        request_id, ended = (None, 0) if asked is None else divmod(integer_of(asked), 2)
        if "error" in message:
            return (Refusal(request_id, _error_of(message["error"]) or ""),)
        result = message.get("result")
        if not isinstance(result, list):
            return (Heartbeat(),) if "result" in message else ()
        streams = tuple(_stream_of(name) for name in result)
        return (Ack(request_id, streams, ended=bool(ended)),) if streams else (Refusal(request_id, _UNKNOWN),)


def _best(price: object, amount: object) -> list[object] | None:
    # Where there is none the amount is 0, and the price null or 0.
    return [price, amount] if price is not None and decimal_of(amount) else None


def _market(name: str, pattern: str, example: str, kind: str, *, is_inverse: bool = False) -> Deribit:
    symbols = SymbolRules(pattern, "upper", example)
    candles = _candle_history(is_inverse=is_inverse)
    return Deribit(f"deribit {name}", symbols, _listing(kind, name), candles, is_inverse)


_EXPIRY = r"[0-9]{1,2}[A-Z]{3}[0-9]{2}"
INVERSE = _market(
    "inverse", rf"[A-Z0-9]+-(PERPETUAL|{_EXPIRY})", "BTC-PERPETUAL or BTC-25DEC26", "future", is_inverse=True
)
LINEAR = _market(
    "linear", rf"[A-Z0-9]+_[A-Z]+-(PERPETUAL|{_EXPIRY})", "BTC_USDC-PERPETUAL or BTC_USDC-25DEC26", "future"
)
OPTION = _market("option", rf"[A-Z0-9]+(_[A-Z]+)?-{_EXPIRY}-[0-9]+([dD][0-9]+)?-[CP]", "BTC-25DEC26-100000-C", "option")
SPOT = _market("spot", "[A-Z0-9]+_[A-Z0-9]+", "BTC_USDC", "spot")
MARKETS: dict[str, Exchange] = {"inverse": INVERSE, "linear": LINEAR, "option": OPTION, "spot": SPOT}
