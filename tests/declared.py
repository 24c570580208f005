"""Nine kinds of trade message, declared and as documented, and a slow reader of such declarations."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from typing import Any

import orjson

from fastbars.wire.fields import Key, Literals, TradeFields

_BINANCE: dict[str, Any] = {
    "envelope": "data", "symbol": "s", "price": "p", "size": "q", "time": "T", "time_unit": "ms or us",
    "side": "m", "buy": False, "sell": True, "event_time": "E", "event_time_unit": "ms or us",
}  # fmt: skip
FIELDS = {
    "binance trade": TradeFields(match={"e": "trade"}, first_id="t", **_BINANCE),
    "binance aggTrade": TradeFields(match={"e": "aggTrade"}, first_id="f", last_id="l", sequence="a", **_BINANCE),
    "bybit": TradeFields(
        match={("topic",): "publicTrade.*"}, trades=("data",), symbol="s", price="p", size="v", time="T", side="S",
        buy="Buy", sell="Sell", sequence="seq", event_time=("ts",), skip={"BT": True},
    ),
    "hyperliquid": TradeFields(
        match={("channel",): "trades"}, trades=("data",), symbol="coin", price="px", size="sz", time="time",
        side="side", buy="B", sell="A", event_time="time",
    ),
    "okx": TradeFields(
        match={("arg", "channel"): ("trades", "trades-all")}, trades=("data",), symbol=("arg", "instId"), price="px",
        size="sz", time="ts", side="side", buy="buy", sell="sell", first_id="tradeId", integers_in_text=True,
    ),
    "coinbase": TradeFields(
        match={("channel",): "market_trades"}, trades=("events", "trades"), symbol="product_id", price="price",
        size="size", time="time", time_unit="rfc3339", side="side", buy="SELL", sell="BUY", first_id="trade_id",
        integers_in_text=True, event_time=("timestamp",), event_time_unit="rfc3339", newest_first=True,
    ),
    "kraken": TradeFields(
        match={("channel",): "trade"}, trades=("data",), symbol="symbol", price="price", size="qty", json_numbers=True,
        time="timestamp", time_unit="rfc3339", side="side", buy="buy", sell="sell", first_id="trade_id",
    ),
    "deribit": TradeFields(
        match={("method",): "subscription", ("params", "channel"): "trades.*"}, trades=("params", "data"),
        symbol="instrument_name", price="price", size="amount", json_numbers=True, time="timestamp", side="direction",
        buy="buy", sell="sell", first_id="trade_seq", event_time="timestamp",
    ),
    "seconds": TradeFields(
        match={"k": ("a", "b*", True)}, trades=("x", "y", "z"), symbol="n", price="price-of-the-trade", size="q",
        time="t", time_unit="s", trade_count="c",
    ),
}  # fmt: skip

MESSAGES: dict[str, bytes] = {
    "binance trade": b'{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":3735683259,"p":"61837.63000000",'
    b'"q":"0.02000000","T":1723161255342,"m":true,"M":true}',
    "binance aggTrade": b'{"stream":"btcusdt@aggTrade","data":{"e":"aggTrade","E":1617566591315,"s":"BTCUSDT",'
    b'"a":665076760,"p":"58001.03","q":"0.0862","f":745522870,"l":745522877,"T":1617566591314,"m":false}}',
    "bybit": b'{"topic":"publicTrade.BTCUSDT","type":"snapshot","ts":1786310819681,"data":[{"T":1786310819680,'
    b'"s":"BTCUSDT","S":"Sell","v":"0.004","p":"65114.20","i":"a9188a0a-82bc-50de-be60-03eedbe3cdd7","BT":false,'
    b'"seq":753843954913},{"T":1786310819681,"s":"BTCUSDT","S":"Buy","v":"1","p":"65114","i":"x","BT":false,"seq":2}]}',
    "hyperliquid": b'{"channel":"trades","data":[{"coin":"BTC","hash":"0x00","px":"105056.0","side":"B",'
    b'"sz":"0.02222","tid":917211710228416,"time":1737918847000,"users":["0x8a","0x68"]}]}',
    "okx": b'{"arg":{"channel":"trades","instId":"BTC-USDT"},"data":[{"instId":"BTC-USDT","tradeId":"130639474",'
    b'"px":"42219.9","sz":"0.12060306","side":"buy","ts":"1630048897897"}]}',
    "coinbase": b'{"channel":"market_trades","timestamp":"2026-08-09T21:05:48.251397169Z","sequence_num":9,"events":['
    b'{"type":"update","trades":[{"product_id":"BTC-USD","trade_id":"1068572091","price":"65083.67","size":"0.0103",'
    b'"time":"2026-08-09T21:05:48.167634Z","side":"SELL"},{"product_id":"BTC-USD","trade_id":"1068572090",'
    b'"price":"65083.6","size":"2","time":"2026-08-09T21:05:48Z","side":"BUY"}]}]}',
    "kraken": b'{"channel":"trade","type":"update","data":[{"symbol":"BTC\\/USD","side":"buy","price":105944.2,'
    b'"qty":2.7625e-04,"ord_type":"limit","trade_id":10218208,"timestamp":"2023-10-06T17:35:55.440295Z"}]}',
    "deribit": b'{"jsonrpc":"2.0","method":"subscription","params":{"channel":"trades.BTC-PERPETUAL.100ms","data":['
    b'{"trade_seq":30289442,"trade_id":"48079269","timestamp":1590484512188,"tick_direction":2,"price":8950.0,'
    b'"mark_price":8948.9,"instrument_name":"BTC-PERPETUAL","index_price":8955.88,"direction":"sell","amount":10.0}]}}',
    "seconds": b'{"x":{"y":{"z":{"k":"bcd","n":"\xe5\xb8\x81","price-of-the-trade":"1.5","q":"2","t":1617666461.465618,'
    b'"c":3}}}}',
}  # fmt: skip

# time_ns, symbol, price, size, side, first_id, last_id, count, sequence
Row = tuple[int, str, Decimal, Decimal, int, int, int, int, int]


def _is(value: Any, literals: Literals) -> bool:
    for literal in literals if isinstance(literals, tuple) else (literals,):
        if isinstance(literal, bool):
            if value is literal:
                return True
        elif isinstance(value, str) and (value.startswith(literal[:-1]) if literal.endswith("*") else value == literal):
            return True
    return False


def _time_ns(value: Any, unit: str) -> int:
    if unit == "rfc3339":
        whole, _, fraction = value.removesuffix("Z").partition(".")
        seconds = datetime.fromisoformat(whole + "+00:00").timestamp()
        return int(seconds) * 10**9 + int((fraction + "000000000")[:9])
    number = Decimal(value)
    if unit == "ms or us":
        unit = "us" if number >= 10**14 else "ms"
    return int(number * {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}[unit])


def read(fields: TradeFields, payload: bytes) -> tuple[list[Row], int | None]:
    """The trades of a trade message, and its event time; raises whatever it likes for one that is none."""
    orjson.loads(payload)
    root = json.loads(payload, parse_float=str, parse_int=str)
    if fields.envelope is not None:
        root = root.get(fields.envelope, root)
    trades = [root]
    for name in fields.trades:
        found: list[Any] = []
        for each in trades:
            found += each[name] if isinstance(each[name], list) else [each[name]]
        trades = found

    def get(trade: Any, key: Key) -> Any:
        if isinstance(key, str):
            return trade[key]
        value = root
        for name in key:
            value = value[name]
        return value

    rows: list[Row] = []
    times: list[int] = []
    for trade in reversed(trades) if fields.newest_first else trades:
        assert all(_is(get(trade, key), literals) for key, literals in fields.match.items())
        if fields.event_time is not None:
            with suppress(KeyError):  # a message need not say it
                times.append(_time_ns(get(trade, fields.event_time), fields.event_time_unit))
        if any(key in trade and _is(trade[key], literals) for key, literals in fields.skip.items()):
            continue
        side = 0
        if fields.side is not None:
            side = 1 if _is(trade[fields.side], fields.buy) else -1
            assert side == 1 or _is(trade[fields.side], fields.sell)
        first = int(trade[fields.first_id]) if fields.first_id else 0
        last = int(trade[fields.last_id]) if fields.last_id else first
        count = int(trade[fields.trade_count]) if fields.trade_count else last - first + 1
        sequence = int(get(trade, fields.sequence)) if fields.sequence else first
        time_ns = _time_ns(trade[fields.time], fields.time_unit)
        size = Decimal(trade[fields.size])
        numbers = Decimal(trade[fields.price]) if size else Decimal(0), size  # the price of a void id means nothing
        rows.append((time_ns, get(trade, fields.symbol), *numbers, side, first, last, count, sequence))
    return rows, max(times, default=None)
