"""Hyperliquid's dialect: a greeting that is not JSON, history first, several trades a message, hashes as ids.

Its REST API takes a POST, and serves only the latest trades.

Source: https://hyperliquid.gitbook.io/hyperliquid-docs/for-developers/api/websocket
Units: times in ms; sizes are base units.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import orjson

from fastbars.simulator.candles import INTERVALS, Candle, interval_end_ms
from fastbars.simulator.dialect import Dialect, Reaction, Stream, Subscriber, read_json
from fastbars.simulator.instruments import Naming
from fastbars.simulator.market import Book, SimulatedTrade
from fastbars.simulator.past_candles import PastCandles
from fastbars.simulator.rest import RestRefusedError, RestRequest, State

__all__ = ["DIALECT", "HyperliquidDialect"]

_MOST_CANDLES = 5000
_CHANNELS = {"trades": "trade", "bbo": "quote"}
_MULTIPLIER = 0x9E3779B97F4A7C15  # spreads consecutive ids over 50 bits


class HyperliquidDialect(Dialect):
    """Perpetuals and spot on one address."""

    namings: ClassVar[Mapping[str, Naming]] = {"perp": Naming(), "spot": Naming()}
    paths = ("/ws",)
    trades_per_message = 1000
    history = 30
    silence = ("server", 60.0)

    def greet(self) -> Sequence[bytes]:
        return (b"Websocket connection established.",)

    def react(self, subscriber: Subscriber, message: str | bytes, now_ms: int) -> Reaction:
        request = read_json(message)
        method = None if request is None else request.get("method")
        if method == "ping":
            return Reaction([b'{"channel":"pong"}'])
        if request is None or method not in ("subscribe", "unsubscribe"):
            return Reaction([_error("Error parsing JSON into valid websocket request", None)])
        asked = request.get("subscription")
        stream = self.find_stream(asked) if isinstance(asked, dict) else None
        if stream is None:
            return Reaction([_error("Invalid subscription ", asked)], is_request=True)
        answer = orjson.dumps({"channel": "subscriptionResponse", "data": {"method": method, "subscription": asked}})
        held = stream.name in subscriber.streams
        if method == "unsubscribe":
            if not held:
                return Reaction([_error("Already unsubscribed: ", asked)], is_request=True)
            return Reaction([answer], unsubscribe=[stream.name], is_request=True)
        if held:
            return Reaction([_error("Already subscribed: ", asked)], is_request=True)
        # Sent to test clients: a list of past trades may be empty.
        empty = [b'{"channel":"trades","data":[]}'] if stream.channel == "trade" else []
        return Reaction([answer, *empty], subscribe=[stream], is_request=True)

    def find_stream(self, asked: dict[str, Any]) -> Stream | None:
        """The stream of a subscription such as {"type":"trades","coin":"BTC"}."""
        kind, coin, interval = (str(asked.get(name, "")) for name in ("type", "coin", "interval"))
        place = self.places.get(coin)
        if place is None:
            return None
        if kind == "candle" and interval in INTERVALS[1:]:
            return Stream(f"candle.{interval}.{coin}", place, "kline", interval)
        return Stream(f"{kind}.{coin}", place, _CHANNELS[kind]) if kind in _CHANNELS else None

    def trades(self, stream: Stream, trades: Sequence[SimulatedTrade], event_ms: int, *, past: bool = False) -> bytes:
        coin = self.symbol(stream)
        rows = []
        for trade in trades:
            price, size = self.texts(trade)
            tid = trade.trade_id * _MULTIPLIER % 2**50
            rows.append(
                f'{{"coin":"{coin}","side":"{"A" if trade.buyer_is_maker else "B"}","px":"{price}","sz":"{size}",'
                f'"time":{trade.time_ms},"hash":"0x{tid:064x}","tid":{tid},"users":["0x{1:040x}","0x{2:040x}"]}}'
            )
        return f'{{"channel":"trades","data":[{",".join(rows)}]}}'.encode()

    def kline(self, stream: Stream, candle: Candle, open_ms: int, event_ms: int, *, closed: bool) -> bytes | None:
        texts, end_ms = self.candle_texts(stream.instrument, candle), interval_end_ms(stream.interval, open_ms)
        return (
            f'{{"channel":"candle","data":{{"t":{open_ms},"T":{end_ms - 1},"s":"{self.symbol(stream)}",'
            f'"i":"{stream.interval}","o":"{texts["open"]}","c":"{texts["close"]}","h":"{texts["high"]}",'
            f'"l":"{texts["low"]}","v":"{texts["volume"]}","n":{candle.trade_count}}}}}'
        ).encode()

    def quote(self, stream: Stream, book: Book, event_ms: int) -> bytes:
        bid, bid_size, ask, ask_size = self.book_texts(stream.instrument, book)
        return (
            f'{{"channel":"bbo","data":{{"coin":"{self.symbol(stream)}","time":{event_ms},'
            f'"bbo":[{{"px":"{bid}","sz":"{bid_size}","n":1}},{{"px":"{ask}","sz":"{ask_size}","n":1}}]}}}}'
        ).encode()

    # [{"t":1681923600000,"T":1681924499999,"s":"BTC","i":"15m","o":"29295.0","c":"29258.0","h":"29309.0",
    #  "l":"29250.0","v":"0.98639","n":189}] of {"type":"candleSnapshot","req":{"coin":"BTC","interval":"15m",
    #  "startTime":1681923600000,"endTime":1681924499999}}
    def past_candles(self, request: RestRequest, candles: PastCandles) -> object | None:
        if request.path != "/info" or (asked := orjson.loads(request.body)).get("type") != "candleSnapshot":
            return None
        coin, interval, start_ms, end_ms = (asked["req"][key] for key in ("coin", "interval", "startTime", "endTime"))
        if coin not in self.places or interval not in INTERVALS[1:]:
            raise RestRefusedError(422, "Failed to deserialize the JSON body into the target type")
        traded = [row for row in candles.rows(coin, interval) if row[1].trade_count][-_MOST_CANDLES:]
        if not traded:
            return []
        page = []
        for open_ms, candle in candles.rows(coin, interval, max(start_ms, traded[0][0]), end_ms):
            if not candle.trade_count:
                continue
            texts, last_ms = self.candle_texts(self.places[coin], candle), interval_end_ms(interval, open_ms) - 1
            numbers = {name[0]: texts[name] for name in ("open", "close", "high", "low", "volume")}
            page.append({"t": open_ms, "T": last_ms, "s": coin, "i": interval, **numbers, "n": candle.trade_count})
        return page

    # {"universe":[{"name":"BTC","szDecimals":5,"maxLeverage":40,"isDelisted":true}]} of {"type":"meta"}, and
    # {"tokens":[...],"universe":[{"name":"PURR/USDC","tokens":[1,0],"isCanonical":true}]} of {"type":"spotMeta"}
    def list_instruments(self, request: RestRequest, states: Mapping[str, State]) -> object | None:
        if request.path != "/info":
            return None
        kind = orjson.loads(request.body)["type"]
        if kind == "candleSnapshot":
            return None
        listed = {symbol: state for symbol, state in states.items() if state != "not yet"}
        spot = [symbol for symbol in listed if "/" in symbol or symbol.startswith("@")]
        others = [symbol for symbol in listed if symbol not in spot]
        if kind in ("spotMeta", "spotMetaAndAssetCtxs"):
            meta: dict[str, Any] = self._spot_meta(spot)
            days = [{"coin": symbol, "dayNtlVlm": f"{self.day_amount(symbol):f}"} for symbol in spot]
            return meta if kind == "spotMeta" else [meta, days]
        if kind not in ("meta", "metaAndAssetCtxs"):
            raise ValueError(kind)
        universe = [
            {"szDecimals": self.details(symbol).size_decimals, "name": symbol, "maxLeverage": 40}
            | ({} if listed[symbol] == "trading" else {"isDelisted": True})
            for symbol in others
        ]
        meta = {"universe": universe, "marginTables": []}
        return meta if kind == "meta" else [meta, [{"dayNtlVlm": f"{self.day_amount(symbol):f}"} for symbol in others]]

    def _spot_meta(self, symbols: Sequence[str]) -> dict[str, Any]:
        tokens: list[dict[str, Any]] = [{"name": "USDC", "szDecimals": 8, "index": 0}]
        universe: list[dict[str, Any]] = []
        for at, symbol in enumerate(symbols, 1):
            name = symbol.partition("/")[0].replace("@", "TOKEN")
            tokens.append({"name": name, "szDecimals": self.details(symbol).size_decimals, "index": at})
            universe.append({"name": symbol, "tokens": [at, 0], "index": at, "isCanonical": "/" in symbol})
        return {"tokens": tokens, "universe": universe}


def _error(text: str, asked: object) -> bytes:
    named = "" if asked is None else orjson.dumps(asked).decode()
    return orjson.dumps({"channel": "error", "data": text + named})


DIALECT = HyperliquidDialect
