"""Kraken's dialect (spot, v2): numbers are JSON numbers, one ack a symbol, a snapshot of past trades on demand.

A connection holds candles of one interval per symbol; another one is refused.

Source: https://docs.kraken.com/api/docs/websocket-v2/trade
Units: times as RFC 3339 text; sizes are base units.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Context
from typing import Any, ClassVar

import orjson

from fastbars.simulator.candles import Candle, interval_end_ms
from fastbars.simulator.dialect import DayStatistics, Dialect, Reaction, Stream, Subscriber, read_json, time_text
from fastbars.simulator.instruments import Naming
from fastbars.simulator.market import SimulatedTrade
from fastbars.simulator.past_candles import PastCandles
from fastbars.simulator.rest import PastTrades, RestRequest, State

__all__ = ["DIALECT", "KrakenDialect"]

_REST_NAMES = {"BTC": "XBT", "DOGE": "XDG"}  # of assets, in the REST API
# Answers of the REST API put a letter for their class in front of older assets; newer ones are named as in requests.
_CLASSES = {"X": ("ETC", "ETH", "LTC", "XBT", "XLM", "XMR", "XRP", "ZEC"), "Z": ("CAD", "EUR", "GBP", "JPY", "USD")}
_MOST_CANDLES = 720
_DIVISION = Context(prec=50)
_INTERVALS = {1: "1m", 5: "5m", 15: "15m", 30: "30m", 60: "1h", 240: "4h", 1440: "1d"}


class KrakenDialect(Dialect):
    """The public v2 endpoint."""

    namings: ClassVar[Mapping[str, Naming]] = {"spot": Naming("/USD")}
    paths = ("/v2",)
    trades_per_message = 1000
    history = 50
    heartbeat_ms = 1000

    def react(self, subscriber: Subscriber, message: str | bytes, now_ms: int) -> Reaction:
        request = read_json(message)
        method = None if request is None else request.get("method")
        head = {"method": method, "time_in": time_text(now_ms), "time_out": time_text(now_ms)}
        if request is not None and "req_id" in request:
            head["req_id"] = request["req_id"]
        if request is not None and method == "ping":
            return Reaction([orjson.dumps(head | {"method": "pong"})])
        if request is None or method not in ("subscribe", "unsubscribe"):
            return Reaction([orjson.dumps(head | {"error": "Malformed request", "success": False})], is_request=True)
        params = request.get("params")
        asked = params if isinstance(params, dict) else {}
        replies: list[bytes] = []
        streams: list[Stream] = []
        for symbol in asked.get("symbol") or ():
            stream = self.find_stream(asked, symbol)
            if stream is None:
                text = f"Currency pair not supported {symbol}"
                replies.append(orjson.dumps(head | {"error": text, "success": False, "symbol": symbol}))
                continue
            if method == "subscribe" and stream.channel == "kline" and _holds_interval(subscriber, stream):
                text = "Already subscribed to one ohlc interval on this symbol"
                replies.append(orjson.dumps(head | {"error": text, "success": False, "symbol": symbol}))
                continue
            result: dict[str, Any] = {"channel": asked["channel"], "symbol": symbol}
            result |= {key: asked[key] for key in ("interval", "snapshot") if key in asked}
            replies.append(orjson.dumps(head | {"result": result, "success": True}))
            streams.append(stream)
        if method == "unsubscribe":
            return Reaction(replies, unsubscribe=[stream.name for stream in streams], is_request=True)
        return Reaction(replies, subscribe=streams, is_request=True, with_history=asked.get("snapshot") is True)

    def find_stream(self, asked: dict[str, Any], symbol: object) -> Stream | None:
        """The stream of the params of a request and one of its symbols."""
        place, channel = self.places.get(str(symbol)), asked.get("channel")
        if place is None:
            return None
        if channel == "ohlc" and asked.get("interval") in _INTERVALS:
            interval = _INTERVALS[asked["interval"]]
            return Stream(f"ohlc_{asked['interval']}:{symbol}", place, "kline", interval)
        if channel in ("trade", "ticker"):
            return Stream(f"{channel}:{symbol}", place, "trade" if channel == "trade" else "ticker")
        return None

    def trades(self, stream: Stream, trades: Sequence[SimulatedTrade], event_ms: int, *, past: bool = False) -> bytes:
        symbol = self.symbol(stream)
        rows = []
        for trade in trades:
            price, size = self.texts(trade)
            rows.append(
                f'{{"symbol":"{symbol}","side":"{"sell" if trade.buyer_is_maker else "buy"}","price":{price},'
                f'"qty":{size},"ord_type":"market","trade_id":{trade.trade_id},'
                f'"timestamp":"{time_text(trade.time_ms)}"}}'
            )
        return self._message("trade", ",".join(rows), "snapshot" if past else "update")

    def kline(self, stream: Stream, candle: Candle, open_ms: int, event_ms: int, *, closed: bool) -> bytes | None:
        texts, minutes = self.candle_texts(stream.instrument, candle), stream.name.partition(":")[0].split("_")[1]
        numbers = ",".join(f'"{name}":{texts[name]}' for name in ("open", "high", "low", "close", "volume"))
        row = (
            f'{{"symbol":"{self.symbol(stream)}",{numbers},"trades":{candle.trade_count},"vwap":{texts["close"]},'
            f'"interval_begin":"{time_text(open_ms, 9)}","interval":{minutes},'
            f'"timestamp":"{time_text(interval_end_ms(stream.interval, open_ms))}"}}'
        )
        return self._message("ohlc", row)

    def ticker(self, stream: Stream, day: DayStatistics, event_ms: int) -> bytes:
        texts = self.candle_texts(stream.instrument, day.candle)
        bid, bid_size, ask, ask_size = self.book_texts(stream.instrument, day.book)
        row = (
            f'{{"symbol":"{self.symbol(stream)}","bid":{bid},"bid_qty":{bid_size},"ask":{ask},"ask_qty":{ask_size},'
            f'"last":{texts["close"]},"volume":{texts["volume"]},"vwap":{texts["close"]},"low":{texts["low"]},'
            f'"high":{texts["high"]},"change":{day.candle.close - day.candle.open},"change_pct":0.0,'
            f'"timestamp":"{time_text(event_ms)}"}}'
        )
        return self._message("ticker", row)

    def heartbeat(self, subscriber: Subscriber, now_ms: int) -> bytes | None:
        return b'{"channel":"heartbeat"}' if subscriber.streams else None

    # {"error":[],"result":{"XXBTZUSD":[["30243.40000","0.34507674",1688669597.8277369,"b","m","",61044952]],
    #  "last":"1688671969993150842"}}
    def past_trades(self, request: RestRequest, history: PastTrades) -> object | None:
        if request.path != "/0/public/Trades":
            return None
        symbol = {"".join(_rest_assets(symbol)): symbol for symbol in self.places}.get(request.query["pair"])
        if symbol is None:
            return {"error": ["EQuery:Unknown asset pair"]}
        since_ns = int(request.query["since"])
        start = history.after_ms(symbol, since_ns // 10**6)
        # A page never ends between trades of the same time, as the cursor could not continue from there.
        page = history.forward(symbol, start, int(request.query["count"]), whole_times=True)
        rows: list[list[object]] = []
        for trade in page:
            price, size = self.texts(trade)
            side = "s" if trade.buyer_is_maker else "b"
            rows.append([price, size, trade.time_ms / 1000, side, "m", "", trade.trade_id])
        last_ns = max([since_ns, *(trade.time_ms * 10**6 for trade in page[-1:])])
        return {"error": [], "result": {_rest_key(symbol): rows, "last": str(last_ns)}}

    # {"error":[],"result":{"XXBTZUSD":[[1688671200,"30306.1","30306.2","30305.7","30305.7","30306.1","3.39243896",23]],
    #  "last":1688672160}}, flat where nothing was traded
    def past_candles(self, request: RestRequest, candles: PastCandles) -> object | None:
        if request.path != "/0/public/OHLC":
            return None
        symbol = {"".join(_rest_assets(symbol)): symbol for symbol in self.places}.get(request.query["pair"])
        interval = _INTERVALS.get(int(request.query.get("interval", "1")))
        if symbol is None:
            return {"error": ["EQuery:Unknown asset pair"]}
        if interval is None:
            return {"error": ["EGeneral:Invalid arguments"]}
        rows = candles.rows(symbol, interval)[-_MOST_CANDLES:]
        since_ms = int(request.query.get("since", "0")) * 1000
        page: list[list[object]] = []
        for place, (open_ms, candle) in enumerate(rows):
            if open_ms <= since_ms and place < len(rows) - 1:
                continue  # the last one is there whatever `since` is
            texts = self.candle_texts(self.places[symbol], candle)
            numbers = [texts[name] for name in ("open", "high", "low", "close")]
            vwap = format(_DIVISION.divide(candle.amount, candle.volume), ".5f") if candle.trade_count else "0.0"
            page.append([open_ms // 1000, *numbers, vwap, texts["volume"], candle.trade_count])
        last = page[-2][0] if len(page) > 1 else since_ms // 1000
        return {"error": [], "result": {_rest_key(symbol): page, "last": last}}

    # {"error":[],"result":{"XXBTZUSD":{"altname":"XBTUSD","wsname":"XBT/USD","status":"online"}}}
    def list_instruments(self, request: RestRequest, states: Mapping[str, State]) -> object | None:
        if request.path not in ("/0/public/AssetPairs", "/0/public/Ticker"):
            return None
        result: dict[str, Any] = {}
        for symbol, state in states.items():
            if state in ("delisted", "not yet"):
                continue  # not listed at all
            assets, details = _rest_assets(symbol), self.details(symbol)
            if request.path == "/0/public/Ticker":
                volume = f"{self.day_amount(symbol) / 4:f}"
                result[_rest_key(symbol)] = {"c": ["4", "1"], "v": ["0", volume], "p": ["4.5", "4"], "t": [0, 9]}
                continue
            status = "online" if state == "trading" else "cancel_only"
            result[_rest_key(symbol)] = {
                "altname": "".join(assets), "wsname": "/".join(assets), "status": status,
                "tick_size": f"{details.tick_size:f}", "lot_decimals": details.size_decimals,
            }  # fmt: skip
        return {"error": [], "result": result}

    def _message(self, channel: str, data: str, kind: str = "update") -> bytes:
        return f'{{"channel":"{channel}","type":"{kind}","data":[{data}]}}'.encode()


def _holds_interval(subscriber: Subscriber, wanted: Stream) -> bool:
    # A connection holds one interval per symbol.
    return any(held.channel == "kline" and held.instrument == wanted.instrument for held in subscriber.streams.values())


def _rest_assets(symbol: str) -> list[str]:
    return [_REST_NAMES.get(asset, asset) for asset in symbol.split("/")]


def _rest_key(symbol: str) -> str:
    # "XXBTZUSD", but "SOLUSD": a pair has the letters where both of its assets have one.
    assets = _rest_assets(symbol)
    classes = [mark for asset in assets for mark, members in _CLASSES.items() if asset in members]
    if len(classes) < len(assets):
        return "".join(assets)
    return "".join(mark + asset for mark, asset in zip(classes, assets, strict=True))


DIALECT = KrakenDialect
