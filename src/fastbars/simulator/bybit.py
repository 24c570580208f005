"""Bybit's dialect (v5 public): several trades a message, UUIDs, klines that open at the previous close.

Its REST API serves no past trades by id or time.

Source: https://bybit-exchange.github.io/docs/v5/ws/connect
Units: times in ms; sizes are base units, on inverse contracts USD.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any, ClassVar
from uuid import UUID

import orjson

from fastbars.simulator.candles import Candle, interval_end_ms
from fastbars.simulator.dialect import DayStatistics, Dialect, Reaction, Stream, Subscriber, read_json
from fastbars.simulator.instruments import Naming, SimulatedInstrument, assets_in
from fastbars.simulator.market import Book, SimulatedTrade
from fastbars.simulator.past_candles import PastCandles
from fastbars.simulator.rest import RestRequest, State

__all__ = ["DIALECT", "BybitDialect"]

_MOST_CHARACTERS = 21_000  # of all topics of a connection
_INTERVALS = {
    "1": "1m", "3": "3m", "5": "5m", "15": "15m", "30": "30m", "60": "1h", "120": "2h", "240": "4h", "360": "6h",
    "720": "12h", "D": "1d", "W": "1w", "M": "1M",
}  # fmt: skip


class BybitDialect(Dialect):
    """Spot, linear and inverse contracts."""

    namings: ClassVar[Mapping[str, Naming]] = {
        "spot": Naming("USDT"),
        "linear": Naming("USDT", most_size_decimals=3),
        "inverse": Naming("USD", contract_usd={"": 1}),
    }
    trades_per_message = 1024
    silence = ("client", 600.0)

    def __init__(self, market: str, instruments: Sequence[SimulatedInstrument], books: Sequence[Book] = ()) -> None:
        super().__init__(market, instruments, books)
        self.paths = (f"/v5/public/{market}",)
        self._previous_close: dict[Stream, Decimal] = {}

    def react(self, subscriber: Subscriber, message: str | bytes, now_ms: int) -> Reaction:
        request = read_json(message)
        op = None if request is None else request.get("op")
        if request is None or op not in ("ping", "subscribe", "unsubscribe"):
            return Reaction([self._answer(op, None, "Invalid op", success=False)])
        asked = request.get("req_id", "")
        if op == "ping":
            if self.market == "spot":
                return Reaction([self._answer("ping", asked, "pong")])
            pong = {"req_id": asked, "op": "pong", "args": [str(now_ms)], "conn_id": "simulated"}
            return Reaction([orjson.dumps(pong)])
        topics = request.get("args")
        if not isinstance(topics, list) or not topics:
            return Reaction([self._answer(op, asked, "Invalid args", success=False)], is_request=True)
        if self.market == "spot" and len(topics) > 10:
            return Reaction([self._answer(op, asked, "args size >10", success=False)], is_request=True)
        held_characters = sum(map(len, subscriber.streams)) if op == "subscribe" else 0
        if held_characters + sum(len(str(topic)) for topic in topics) > _MOST_CHARACTERS:
            return Reaction([self._answer(op, asked, "args are too long", success=False)], is_request=True)
        if op == "unsubscribe":
            return Reaction([self._answer(op, asked, "")], unsubscribe=topics, is_request=True)
        streams = [self.find_stream(topic) for topic in topics]
        known = [stream for stream in streams if stream is not None]
        if len(known) < len(streams):
            bad = next(topic for topic, stream in zip(topics, streams, strict=True) if stream is None)
            refusal = self._answer(op, asked, f"Invalid symbol :[{bad}]", success=False)
            return Reaction([refusal], is_request=True)
        held = [stream.name for stream in known if stream.name in subscriber.streams]
        if held:
            refusal = self._answer(op, asked, f"error:already subscribed,topic:{held[0]}", success=False)
            return Reaction([refusal], is_request=True)
        return Reaction([self._answer(op, asked, "")], subscribe=known, is_request=True)

    def _answer(self, op: object, asked: object, text: str, *, success: bool = True) -> bytes:
        answer = {"success": success, "ret_msg": text, "conn_id": "simulated"}
        return orjson.dumps(answer | ({} if asked is None else {"req_id": asked}) | {"op": op})

    def find_stream(self, topic: object) -> Stream | None:
        """The stream of a topic such as "kline.1.BTCUSDT"."""
        kind, *middle, symbol = str(topic).split(".")
        place = self.places.get(symbol)
        if place is None:
            return None
        name = str(topic)
        if kind == "publicTrade" and not middle:
            return Stream(name, place, "trade")
        if kind == "kline" and middle[0] in _INTERVALS:
            return Stream(name, place, "kline", _INTERVALS[middle[0]])
        if kind == "orderbook" and middle == ["1"]:
            return Stream(name, place, "quote")
        return Stream(name, place, "ticker") if kind == "tickers" and not middle else None

    def trades(self, stream: Stream, trades: Sequence[SimulatedTrade], event_ms: int, *, past: bool = False) -> bytes:
        symbol = self.symbol(stream)
        rows = []
        for trade in trades:
            price, size = self.texts(trade)
            side = "Sell" if trade.buyer_is_maker else "Buy"
            rows.append(
                f'{{"T":{trade.time_ms},"s":"{symbol}","S":"{side}","v":"{size}","p":"{price}","L":"PlusTick",'
                f'"i":"{UUID(int=trade.trade_id * 7_919)}","BT":false,"RPI":false,"seq":{trade.trade_id}}}'
            )
        return self._message(stream, f"[{','.join(rows)}]", event_ms)

    def kline(self, stream: Stream, candle: Candle, open_ms: int, event_ms: int, *, closed: bool) -> bytes | None:
        whole = _opened_at(self._previous_close.get(stream, candle.open), candle)
        rows = [self._row(stream, whole, open_ms, event_ms, closed=closed)]
        if closed:  # the next candle comes in the same message
            self._previous_close[stream] = candle.close
            next_ms = interval_end_ms(stream.interval, open_ms)
            rows.append(self._row(stream, Candle.flat(candle.close), next_ms, event_ms, closed=False))
        return self._message(stream, f"[{','.join(rows)}]", event_ms)

    def _row(self, stream: Stream, candle: Candle, open_ms: int, event_ms: int, *, closed: bool) -> str:
        texts = self.candle_texts(stream.instrument, candle)
        return (
            f'{{"start":{open_ms},"end":{interval_end_ms(stream.interval, open_ms) - 1},'
            f'"interval":"{stream.name.split(".")[1]}","open":"{texts["open"]}","close":"{texts["close"]}",'
            f'"high":"{texts["high"]}","low":"{texts["low"]}","volume":"{texts["volume"]}",'
            f'"turnover":"{texts["amount"]}","confirm":{"true" if closed else "false"},"timestamp":{event_ms}}}'
        )

    def quote(self, stream: Stream, book: Book, event_ms: int) -> bytes:
        bid, bid_size, ask, ask_size = self.book_texts(stream.instrument, book)
        data = (
            f'{{"s":"{self.symbol(stream)}","b":[["{bid}","{bid_size}"]],"a":[["{ask}","{ask_size}"]],'
            f'"u":{book.update_id},"seq":{book.update_id}}}'
        )
        return self._message(stream, data, event_ms)

    def ticker(self, stream: Stream, day: DayStatistics, event_ms: int) -> bytes:
        texts = self.candle_texts(stream.instrument, day.candle)
        data = (
            f'{{"symbol":"{self.symbol(stream)}","lastPrice":"{texts["close"]}","prevPrice24h":"{texts["open"]}",'
            f'"highPrice24h":"{texts["high"]}","lowPrice24h":"{texts["low"]}","volume24h":"{texts["volume"]}",'
            f'"turnover24h":"{texts["amount"]}"}}'
        )
        return self._message(stream, data, event_ms)

    # {"retCode":0,"retMsg":"OK","result":{"category":"linear","symbol":"BTCUSDT","list":[["1670608800000","17071",
    #  "17073","17027","17055.5","268611","15.74462667"]]},"retExtInfo":{},"time":1672025956592}
    def past_candles(self, request: RestRequest, candles: PastCandles) -> object | None:
        if request.path != "/v5/market/kline":
            return None
        category, symbol = request.query["category"], request.query["symbol"]
        interval = _INTERVALS.get(request.query["interval"])
        if category != self.market or symbol not in self.places or interval is None:
            return {"retCode": 10001, "retMsg": "params error: Symbol Invalid", "result": {}, "retExtInfo": {}}
        since_ms, until_ms = int(request.query["start"]), int(request.query["end"])
        limit = min(int(request.query.get("limit", "200")), 1000)
        page: list[list[str]] = []
        close: Decimal | None = None
        for open_ms, candle in candles.rows(symbol, interval, 0, until_ms):
            whole = _opened_at(candle.open if close is None else close, candle)
            close = candle.close
            texts = self.candle_texts(self.places[symbol], whole)
            numbers = [texts[name] for name in ("open", "high", "low", "close", "volume", "amount")]
            page.append([str(open_ms), *numbers])
        asked = len(candles.rows(symbol, interval, since_ms, until_ms))
        page = page[len(page) - asked :][-limit:]
        result = {"category": category, "symbol": symbol, "list": page[::-1]}
        return {"retCode": 0, "retMsg": "OK", "result": result, "retExtInfo": {}, "time": candles.until_ms}

    # {"retCode":0,"retMsg":"OK","result":{"category":"linear","list":[{"symbol":"BTCUSDT","status":"Trading"}],
    #  "nextPageCursor":"500"}}
    def list_instruments(self, request: RestRequest, states: Mapping[str, State]) -> object | None:
        if request.path not in ("/v5/market/instruments-info", "/v5/market/tickers"):
            return None
        category = request.query["category"]
        if category != self.market:
            return {"retCode": 10001, "retMsg": f"no instruments of {category} here", "result": {"list": []}}
        # Without another status only those that trade, or are about to, are listed; spot has no such word for these.
        listed = ("trading",) if self.market == "spot" else ("trading", "not yet")
        symbols = [symbol for symbol, state in states.items() if state in listed]
        if request.path == "/v5/market/tickers":
            days = [self._day(symbol) for symbol in symbols if states[symbol] == "trading"]
            return {"retCode": 0, "retMsg": "OK", "result": {"category": self.market, "list": days}, "time": 0}
        start, stop = 0, len(symbols)
        if self.market != "spot":  # spot has one page
            start = int(request.query.get("cursor", "0"))
            stop = start + min(int(request.query.get("limit", "500")), 1000)
        page = [self._listed(symbol, states[symbol]) for symbol in symbols[start:stop]]
        result: dict[str, Any] = {"category": self.market, "list": page}
        if self.market != "spot":
            result["nextPageCursor"] = str(stop) if stop < len(symbols) else ""
        return {"retCode": 0, "retMsg": "OK", "result": result, "retExtInfo": {}, "time": 0}

    def _listed(self, symbol: str, state: State) -> dict[str, Any]:
        details = self.details(symbol)
        pair, _, expiry = symbol.partition("-")
        base, quote = (pair.removesuffix("PERP"), "USDC") if pair.endswith("PERP") else assets_in(pair)
        step = f"{details.step_size:f}"
        one: dict[str, Any] = {
            "symbol": symbol, "status": "Trading" if state == "trading" else "PreLaunch", "baseCoin": base,
            "quoteCoin": quote, "priceFilter": {"tickSize": f"{details.tick_size:f}"},
        }  # fmt: skip
        if self.market == "spot":
            return one | {"lotSizeFilter": {"basePrecision": step}}
        return one | {
            "contractType": self.market.capitalize() + ("Futures" if expiry else "Perpetual"),
            "settleCoin": base if self.market == "inverse" else quote, "lotSizeFilter": {"qtyStep": step},
            "launchTime": "1585526400000", "deliveryTime": "1790323200000" if expiry else "0",
        }  # fmt: skip

    def _day(self, symbol: str) -> dict[str, Any]:
        amount = f"{self.day_amount(symbol):f}"
        if self.market == "inverse":
            return {"symbol": symbol, "turnover24h": "1.5", "volume24h": amount}
        return {"symbol": symbol, "turnover24h": amount, "volume24h": "1.5"}

    def _message(self, stream: Stream, data: str, event_ms: int) -> bytes:
        return f'{{"topic":"{stream.name}","type":"snapshot","ts":{event_ms},"data":{data}}}'.encode()


def _opened_at(price: Decimal, candle: Candle) -> Candle:
    # As Bybit opens a candle: at the previous close, which counts for high and low.
    return replace(candle, open=price, high=max(candle.high, price), low=min(candle.low, price))


DIALECT = BybitDialect
