"""The dialect of Interactive Brokers' Client Portal Gateway: samples that carry only what has changed, and no acks.

It serves market data once `/iserver/accounts` was called or a session was given, and requests one on each connection.
Empty updates come between the others; a subscription begins with the previous close.

Source: https://www.interactivebrokers.com/campus/ibkr-api-page/cpapi-v1/#websockets
Units: times in ms; sizes may have separators.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import ClassVar

import orjson

from fastbars.simulator.dialect import Dialect, Reaction, Stream, Subscriber, read_json
from fastbars.simulator.instruments import Naming, SimulatedInstrument
from fastbars.simulator.market import Book, SimulatedTrade
from fastbars.simulator.past_candles import PastCandles
from fastbars.simulator.rest import RestRefusedError, RestRequest

__all__ = ["DIALECT", "InteractiveBrokersDialect"]


_MOST_CANDLES = 1000
_VOLUME_FACTOR = 100
_UNITS_MS = {"min": 60_000, "h": 3_600_000, "d": 86_400_000}


class InteractiveBrokersDialect(Dialect):
    """One gateway; symbols are contract ids."""

    namings: ClassVar[Mapping[str, Naming]] = {"gateway": Naming(is_numbered=True)}
    paths = ("/v1/api/ws",)
    trades_per_message = 10**6
    batch_ms = 250
    history = 1
    heartbeat_ms = 10_000
    silence = ("client", 60.0)
    is_sampled = True

    def __init__(self, market: str, instruments: Sequence[SimulatedInstrument], books: Sequence[Book] = ()) -> None:
        super().__init__(market, instruments, books)
        self._is_ready = False
        self._known: dict[int, dict[str, str]] = {}  # the latest values sent to all clients

    def greet(self) -> Sequence[bytes]:
        return (b'{"message":"waiting for session"}',)

    def get(self, path: str) -> bytes | None:
        if path != "/v1/api/iserver/accounts":
            return None
        self._is_ready = True
        return b'{"accounts":["DU1234567"],"selectedAccount":"DU1234567"}'

    def react(self, subscriber: Subscriber, message: str | bytes, now_ms: int) -> Reaction:
        text = message.decode("utf-8", "replace") if isinstance(message, bytes) else message
        if text in ("tic", "ech+hb"):
            return Reaction([b'{"topic":"tic","alive":true}'])
        session = read_json(text)
        if session is not None and isinstance(session.get("session"), str):
            self._is_ready = True
            return Reaction([b'{"topic":"sts","args":{"authenticated":true,"competing":false,"connected":true}}'])
        kind, _, rest = text.partition("+")
        conid, _, fields = rest.partition("+")
        asked = read_json(fields)
        if kind not in ("smd", "umd") or asked is None:
            return Reaction([orjson.dumps({"topic": "error", "error": "unknown message", "code": 1})])
        place = self.places.get(conid)
        if kind == "umd":
            return Reaction(unsubscribe=[f"smd+{conid}"], is_request=True)
        if place is None or not self._is_ready:  # an unknown contract gets no answer
            return Reaction(is_request=True)
        topic, instrument = f"smd+{conid}", self.instruments[place]
        before = f"C{instrument.price_text(self.books[place].bid_ticks)}"
        close = {"conid": int(conid), "_updated": now_ms, "31": before, "topic": topic}
        nothing = {"topic": topic, "server_id": "q1"}
        replies = [orjson.dumps(close), orjson.dumps(nothing)]
        return Reaction(replies, subscribe=[Stream(topic, place, "trade")], is_request=True)

    def trades(self, stream: Stream, trades: Sequence[SimulatedTrade], event_ms: int, *, past: bool = False) -> bytes:
        price, size = self.texts(trades[-1])
        bid, bid_size, ask, ask_size = self.book_texts(stream.instrument, self.books[stream.instrument])
        fields = {
            "31": price, "7059": _separated(size), "84": bid, "88": _separated(bid_size), "86": ask,
            "85": _separated(ask_size),
        }  # fmt: skip
        known = self._known.setdefault(stream.instrument, {})
        changed = {name: text for name, text in fields.items() if past or known.get(name) != text}
        known.update(fields)  # by a past one too: while nobody had subscribed it was not sent
        symbol = self.symbol(stream)
        head = {"server_id": "q1", "conidEx": symbol, "conid": int(symbol), "_updated": event_ms, "6119": "q1"}
        return orjson.dumps({**head, **changed, "6509": "RpB", "topic": stream.name})

    # {"symbol":"AAPL","priceFactor":100,"startTime":"20230818-08:00:00","timePeriod":"1d","barLength":60,
    #  "volumeFactor":1,"data":[{"o":174.7,"c":174.72,"h":174.75,"l":174.52,"v":2137.5,"t":1692345600000}],"points":1};
    # none of intervals without trades. The period ends at "startTime".
    def past_candles(self, request: RestRequest, candles: PastCandles) -> object | None:
        if request.path != "/v1/api/iserver/marketdata/history":
            return None
        conid, period, bar = (request.query[key] for key in ("conid", "period", "bar"))
        interval = f"{bar.removesuffix('in')}"
        if conid not in self.places or not bar.endswith("min"):
            raise RestRefusedError(500, {"error": "Chart data unavailable"})
        end_ms = candles.until_ms
        if "startTime" in request.query:
            end_ms = _time_ms(request.query["startTime"])
        number = period.rstrip("mindh")
        begin_ms = end_ms - int(number) * _UNITS_MS[period.removeprefix(number)]
        data = []
        for open_ms, candle in candles.rows(conid, interval, begin_ms, end_ms - 1):
            if candle.trade_count:
                texts = self.candle_texts(self.places[conid], candle)
                prices = {name[0]: float(texts[name]) for name in ("open", "close", "high", "low")}
                data.append({**prices, "v": float(candle.volume / _VOLUME_FACTOR), "t": open_ms})
        data = data[-_MOST_CANDLES:]
        head = {"symbol": conid, "text": conid, "priceFactor": 100, "timePeriod": period, "volumeFactor": 100}
        return head | {"mdAvailability": "S", "data": data, "points": len(data) - 1, "travelTime": 48}

    def heartbeat(self, subscriber: Subscriber, now_ms: int) -> bytes | None:
        return f'{{"topic":"system","hb":{now_ms}}}'.encode()


def _time_ms(text: str) -> int:
    # "20260101-00:00:00"
    return int(datetime.strptime(f"{text}+0000", "%Y%m%d-%H:%M:%S%z").timestamp()) * 1000


def _separated(size: str) -> str:
    whole, point, fraction = size.partition(".")
    return f"{int(whole):,}{point}{fraction}"


DIALECT = InteractiveBrokersDialect
