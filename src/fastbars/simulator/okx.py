"""OKX's dialect (v5): an ack for each stream, "ping" and "pong" as bare text, numbers and times as text.

Past trades are paged from the newest backward.

Source: https://www.okx.com/docs-v5/en/#overview-websocket
Units: times in ms; sizes are base units on spot and contracts elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import orjson

from fastbars.simulator.candles import Candle
from fastbars.simulator.dialect import (
    DayStatistics,
    Dialect,
    Opening,
    Reaction,
    Stream,
    Subscriber,
    read_json,
)
from fastbars.simulator.instruments import Naming
from fastbars.simulator.market import AggregateTrade, Book, SimulatedTrade
from fastbars.simulator.past_candles import PastCandles
from fastbars.simulator.rest import PastTrades, RestRequest, State

__all__ = ["DIALECT", "OKXDialect"]

_CHANNELS = {"trades-all": "trade", "trades": "aggTrade", "bbo-tbt": "quote", "tickers": "ticker"}
# The path that serves a channel; candles are on "business", too.
_PATHS = {"trades-all": "business", "trades": "public", "bbo-tbt": "public", "tickers": "public"}
_INTERVALS = {
    "1s": "1s", "1m": "1m", "3m": "3m", "5m": "5m", "15m": "15m", "30m": "30m", "1H": "1h", "2H": "2h", "4H": "4h",
    "1Dutc": "1d", "1Wutc": "1w", "1Mutc": "1M",
}  # fmt: skip
_REST = "/api/v5/market"
_LATEST = 1440  # candles that "candles" has


class OKXDialect(Dialect):
    """Spot and derivatives on the same addresses."""

    namings: ClassVar[Mapping[str, Naming]] = {
        "spot": Naming("-USDT"),
        "derivatives": Naming("-USD-SWAP", contract_usd={"BTC": 100, "": 10}),
    }
    paths = ("/ws/v5", "/ws/v5/business", "/ws/v5/public")
    silence = ("both", 30.0)

    def open(self, path: str) -> Opening | None:
        # "/ws/v5" exists only here: it serves every channel, so that one address is enough.
        opening = super().open(path)
        route = path.partition("?")[0].removeprefix("/ws/v5").strip("/")
        return None if opening is None else replace(opening, route=route)

    def react(self, subscriber: Subscriber, message: str | bytes, now_ms: int) -> Reaction:
        if message in ("ping", b"ping"):
            return Reaction([b"pong"])
        request = read_json(message)
        op, args = (None, None) if request is None else (request.get("op"), request.get("args"))
        if request is None or op not in ("subscribe", "unsubscribe") or not isinstance(args, list):
            return Reaction([_error(None, "60012", f"Invalid request: {message!r}")], is_request=True)
        asked = request.get("id")
        replies: list[bytes] = []
        streams: list[Stream] = []
        for arg in args:
            stream = self.find_stream(arg, subscriber.route) if isinstance(arg, dict) else None
            if stream is None:
                named = ",".join(f"{key}:{value}" for key, value in arg.items()) if isinstance(arg, dict) else arg
                replies.append(_error(asked, "60018", f"Wrong URL or {named} doesn't exist."))
                continue
            answer: dict[str, Any] = {} if asked is None else {"id": asked}
            replies.append(orjson.dumps(answer | {"event": op, "arg": arg, "connId": "simulated"}))
            streams.append(stream)
        if op == "unsubscribe":
            return Reaction(replies, unsubscribe=[stream.name for stream in streams], is_request=True)
        return Reaction(replies, subscribe=streams, is_request=True)

    def find_stream(self, arg: dict[str, Any], route: str = "") -> Stream | None:
        """The stream of an argument such as {"channel":"trades-all","instId":"BTC-USDT"}; None: not on this route."""
        channel, symbol = str(arg.get("channel")), str(arg.get("instId"))
        place = self.places.get(symbol)
        if place is None or (route and route != _PATHS.get(channel, "business")):
            return None
        name = f"{channel}:{symbol}"
        interval = _INTERVALS.get(channel.removeprefix("candle"))
        if channel.startswith("candle") and interval is not None:
            return Stream(name, place, "kline", interval)
        return Stream(name, place, _CHANNELS[channel]) if channel in _CHANNELS else None

    def notice(self, now_ms: int) -> bytes | None:
        text = "The connection will soon be closed for a service upgrade. Please reconnect."
        return orjson.dumps({"event": "notice", "code": "64008", "msg": text, "connId": "simulated"})

    def trades(self, stream: Stream, trades: Sequence[SimulatedTrade], event_ms: int, *, past: bool = False) -> bytes:
        (trade,) = trades
        price, size = self.texts(trade)
        return self._trade(stream, trade.trade_id, price, size, trade.time_ms, is_sell=trade.buyer_is_maker)

    def aggregate_trade(self, stream: Stream, trade: AggregateTrade, event_ms: int) -> bytes:
        price, size = self.texts(trade)
        count = f',"count":"{trade.last_id - trade.first_id + 1}"'
        return self._trade(stream, trade.last_id, price, size, trade.time_ms, is_sell=trade.buyer_is_maker, more=count)

    def _trade(
        self, stream: Stream, trade_id: int, price: str, size: str, time_ms: int, *, is_sell: bool, more: str = ""
    ) -> bytes:
        return self._message(
            stream,
            f'{{"instId":"{self.symbol(stream)}","tradeId":"{trade_id}","px":"{price}","sz":"{size}",'
            f'"side":"{"sell" if is_sell else "buy"}","ts":"{time_ms}"{more}}}',
        )

    def kline(self, stream: Stream, candle: Candle, open_ms: int, event_ms: int, *, closed: bool) -> bytes | None:
        texts = self.candle_texts(stream.instrument, candle)
        values = [texts[name] for name in ("open", "high", "low", "close", "volume", "volume", "amount")]
        return self._message(stream, orjson.dumps([str(open_ms), *values, "1" if closed else "0"]).decode())

    def quote(self, stream: Stream, book: Book, event_ms: int) -> bytes:
        bid, bid_size, ask, ask_size = self.book_texts(stream.instrument, book)
        return self._message(
            stream,
            f'{{"asks":[["{ask}","{ask_size}","0","1"]],"bids":[["{bid}","{bid_size}","0","1"]],"ts":"{event_ms}",'
            f'"seqId":{book.update_id}}}',
        )

    def ticker(self, stream: Stream, day: DayStatistics, event_ms: int) -> bytes:
        texts = self.candle_texts(stream.instrument, day.candle)
        return self._message(
            stream,
            f'{{"instId":"{self.symbol(stream)}","last":"{texts["close"]}","open24h":"{texts["open"]}",'
            f'"high24h":"{texts["high"]}","low24h":"{texts["low"]}","vol24h":"{texts["volume"]}",'
            f'"volCcy24h":"{texts["amount"]}","ts":"{event_ms}"}}',
        )

    # {"code":"0","msg":"","data":[{"instId":"BTC-USDT","side":"sell","sz":"0.00001","px":"29963.2",
    #  "tradeId":"242720720","ts":"1654161646974"}]}
    def past_trades(self, request: RestRequest, history: PastTrades) -> object | None:
        if request.path != "/api/v5/market/history-trades":
            return None
        symbol = request.query["instId"]
        if symbol not in self.places:
            return {"code": "51001", "msg": "Instrument ID or Spread ID doesn't exist.", "data": []}
        limit = min(int(request.query.get("limit", "100")), 100)
        after = request.query.get("after")
        stop = history.count(symbol) if after is None else history.from_id(symbol, int(after))
        page = history.backward(symbol, stop, limit)
        data = []
        for trade in reversed(page):
            price, size = self.texts(trade)
            side = "sell" if trade.buyer_is_maker else "buy"
            ids = {"tradeId": str(trade.trade_id), "ts": str(trade.time_ms)}
            data.append({"instId": symbol, "side": side, "sz": size, "px": price, **ids})
        return {"code": "0", "msg": "", "data": data}

    # {"code":"0","msg":"","data":[["1597026383085","3.721","3.743","3.677","3.708","8422410","22698348.04828491",
    #  "12698348.04828491","1"]]}
    def past_candles(self, request: RestRequest, candles: PastCandles) -> object | None:
        if request.path not in (f"{_REST}/candles", f"{_REST}/history-candles"):
            return None
        symbol, interval = request.query["instId"], _INTERVALS.get(request.query.get("bar", "1m"))
        if symbol not in self.places:
            return {"code": "51001", "msg": "Instrument ID or Spread ID doesn't exist.", "data": []}
        if interval is None:
            return {"code": "51000", "msg": "Parameter bar error", "data": []}
        is_latest = request.path.endswith("/candles")
        before_ms, after_ms = int(request.query.get("before", "-1")), int(request.query.get("after", str(2**61)))
        limit = min(int(request.query.get("limit", "100")), 300 if is_latest else 100)
        rows = candles.rows(symbol, interval, before_ms + 1, after_ms - 1)
        if is_latest:
            latest = candles.rows(symbol, interval)[-_LATEST:]
            rows = [row for row in rows if row[0] >= latest[0][0]]
        else:
            rows = [row for row in rows if candles.is_closed(interval, row[0])]
        instrument = self.instruments[self.places[symbol]]
        data = []
        for open_ms, candle in rows[-limit:][::-1]:
            texts = self.candle_texts(self.places[symbol], candle)
            numbers = [texts[name] for name in ("open", "high", "low", "close", "volume", "amount")]
            # In base units on derivatives, in quote units on spot; and in quote units.
            quote = numbers[-1]
            if instrument.contract_size is not None:
                quote = format(candle.volume * instrument.contract_size, "f")
            confirm = "1" if candles.is_closed(interval, open_ms) else "0"
            data.append([str(open_ms), *numbers, quote, confirm])
        return {"code": "0", "msg": "", "data": data}

    # {"code":"0","msg":"","data":[{"instType":"SWAP","instId":"BTC-USDT-SWAP","state":"live"}]}
    def list_instruments(self, request: RestRequest, states: Mapping[str, State]) -> object | None:
        if request.path not in ("/api/v5/public/instruments", "/api/v5/market/tickers"):
            return None
        kind = request.query["instType"]
        listed = {symbol: state for symbol, state in states.items() if _type_of(symbol) == kind}
        if request.path == "/api/v5/market/tickers":
            data = [self._day(symbol, kind) for symbol, state in listed.items() if state == "trading"]
        else:
            data = [self._listed(symbol, kind, state) for symbol, state in listed.items()]
        return {"code": "0", "msg": "", "data": data}

    def _listed(self, symbol: str, kind: str, state: State) -> dict[str, Any]:
        details, (base, quote, *_) = self.details(symbol), symbol.split("-")
        words = {"trading": "live", "halted": "suspend", "delisted": "expired", "not yet": "preopen"}
        one = {
            "instType": kind, "instId": symbol, "state": words[state], "tickSz": f"{details.tick_size:f}",
            "lotSz": f"{details.step_size:f}", "listTime": "1611916828000", "expTime": "",
        }  # fmt: skip
        if kind == "SPOT":
            return one | {"baseCcy": base, "quoteCcy": quote, "settleCcy": "", "uly": "", "ctVal": "", "ctMult": ""}
        is_inverse = quote == "USD"
        return one | {
            "baseCcy": "", "quoteCcy": "", "settleCcy": base if is_inverse else quote, "uly": f"{base}-{quote}",
            "ctVal": str(details.contract_size or 1) if is_inverse else "0.01", "ctMult": "1",
            "ctType": "inverse" if is_inverse else "linear", "expTime": "1790323200000" if kind == "FUTURES" else "",
        }  # fmt: skip

    def _day(self, symbol: str, kind: str) -> dict[str, Any]:
        amount = self.day_amount(symbol)
        contracts = int(amount / (self.details(symbol).contract_size or 1))
        in_base = f"{amount:f}" if kind == "SPOT" else f"{amount / 4:f}"
        return {"instType": kind, "instId": symbol, "last": "4", "vol24h": str(contracts), "volCcy24h": in_base}

    def _message(self, stream: Stream, data: str) -> bytes:
        channel, _, symbol = stream.name.partition(":")
        return f'{{"arg":{{"channel":"{channel}","instId":"{symbol}"}},"data":[{data}]}}'.encode()


def _error(asked: object, code: str, text: str) -> bytes:
    answer: dict[str, Any] = {} if asked is None else {"id": asked}
    return orjson.dumps(answer | {"event": "error", "code": code, "msg": text, "connId": "simulated"})


def _type_of(symbol: str) -> str:
    if symbol.endswith("-SWAP"):
        return "SWAP"
    return "FUTURES" if symbol.count("-") == 2 else "SPOT"


DIALECT = OKXDialect
