"""Deribit's dialect: JSON-RPC, all numbers bare, trades of a tenth of a second in one message.

A request for channels is answered with those that it has; others are left out without a word. A connection on which the
client requests nothing for a minute is closed.

Source: https://docs.deribit.com
Units: times in ms; amounts are USD on inverse futures, base units elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import orjson

from fastbars.simulator.candles import Candle
from fastbars.simulator.dialect import DayStatistics, Dialect, Reaction, Stream, Subscriber, read_json
from fastbars.simulator.instruments import Naming
from fastbars.simulator.market import Book, SimulatedTrade
from fastbars.simulator.past_candles import PastCandles
from fastbars.simulator.rest import PastTrades, RestRequest, State

__all__ = ["DIALECT", "DeribitDialect"]

_CHARTS = {
    "1": "1m", "3": "3m", "5": "5m", "15": "15m", "30": "30m", "60": "1h", "120": "2h", "360": "6h", "720": "12h",
}  # fmt: skip
_RESOLUTIONS = {**_CHARTS, "10": "10m", "180": "3h"}
_KINDS = {"inverse": "future", "linear": "future", "option": "option", "spot": "spot"}


class DeribitDialect(Dialect):
    """All kinds of instruments; a simulated exchange lists those of one."""

    namings: ClassVar[Mapping[str, Naming]] = {
        "inverse": Naming("-PERPETUAL", contract_usd={"": 1}),
        "linear": Naming("_USDC-PERPETUAL"),
        "option": Naming("-25DEC26-100000-C"),
        "spot": Naming("_USDC"),
    }
    paths = ("/ws/api/v2",)
    trades_per_message = 1000
    batch_ms = 100
    silence = ("client", 60.0)

    def react(self, subscriber: Subscriber, message: str | bytes, now_ms: int) -> Reaction:
        request = read_json(message)
        method = None if request is None else request.get("method")
        if request is None or not isinstance(method, str):
            return Reaction([_failed(None, now_ms, -32700, "Parse error")], is_request=True)
        asked = request.get("id")
        if method == "public/test":
            return Reaction([_answer(asked, now_ms, {"version": "1.2.26"})])
        if method not in ("public/subscribe", "public/unsubscribe"):
            return Reaction([_failed(asked, now_ms, -32601, "Method not found")], is_request=True)
        channels = (request.get("params") or {}).get("channels")
        if not isinstance(channels, list):
            return Reaction([_failed(asked, now_ms, -32602, "Invalid params")], is_request=True)
        found = [stream for name in channels if (stream := self.find_stream(str(name))) is not None]
        answer = _answer(asked, now_ms, [stream.name for stream in found])
        if method == "public/unsubscribe":
            return Reaction([answer], unsubscribe=[stream.name for stream in found], is_request=True)
        return Reaction([answer], subscribe=found, is_request=True)

    def find_stream(self, name: str) -> Stream | None:
        """The stream of a channel such as "trades.BTC-PERPETUAL.100ms" or "chart.trades.BTC-PERPETUAL.1"."""
        kind, _, rest = name.removeprefix("chart.").partition(".")
        symbol, _, interval = rest.partition(".")
        place = self.places.get(symbol)
        if place is None:
            return None
        if name.startswith("chart."):
            return Stream(name, place, "kline", _CHARTS[interval]) if interval in _CHARTS and kind == "trades" else None
        channel = {"trades.100ms": "trade", "quote.": "quote", "ticker.100ms": "ticker"}.get(f"{kind}.{interval}")
        return None if channel is None else Stream(name, place, channel)

    def trades(self, stream: Stream, trades: Sequence[SimulatedTrade], event_ms: int, *, past: bool = False) -> bytes:
        return self._message(stream, f"[{','.join(map(self._trade, trades))}]")

    def _trade(self, trade: SimulatedTrade) -> str:
        price, size = self.texts(trade)
        side = "sell" if trade.buyer_is_maker else "buy"
        return (
            f'{{"trade_seq":{trade.trade_id},"trade_id":"{trade.trade_id * 3 + 7}","timestamp":{trade.time_ms},'
            f'"tick_direction":{trade.trade_id % 4},"price":{_number(price)},"mark_price":{_number(price)},'
            f'"instrument_name":"{self.instruments[trade.instrument].symbol}","index_price":{_number(price)},'
            f'"direction":"{side}","amount":{_number(size)},"contracts":{_number(size)}}}'
        )

    def kline(self, stream: Stream, candle: Candle, open_ms: int, event_ms: int, *, closed: bool) -> bytes | None:
        texts = self.candle_texts(stream.instrument, candle)
        # On inverse futures the candle counts USD, and the amount of it is base units.
        names = ("amount", "volume") if self.market == "inverse" else ("volume", "amount")
        volume, cost = (texts[name] for name in names)
        prices = ",".join(f'"{name}":{_number(texts[name])}' for name in ("open", "low", "high", "close"))
        data = f'{{"volume":{_number(volume)},"tick":{open_ms},{prices},"cost":{_number(cost)}}}'
        return self._message(stream, data)

    def quote(self, stream: Stream, book: Book, event_ms: int) -> bytes:
        bid, bid_size, ask, ask_size = map(_number, self.book_texts(stream.instrument, book))
        return self._message(
            stream,
            f'{{"timestamp":{event_ms},"instrument_name":"{self.symbol(stream)}","best_bid_price":{bid},'
            f'"best_bid_amount":{bid_size},"best_ask_price":{ask},"best_ask_amount":{ask_size}}}',
        )

    def ticker(self, stream: Stream, day: DayStatistics, event_ms: int) -> bytes:
        texts = {name: _number(text) for name, text in self.candle_texts(stream.instrument, day.candle).items()}
        usd, base = (
            (texts["volume"], texts["amount"]) if self.market == "inverse" else (texts["amount"], texts["volume"])
        )
        stats = f'"volume_usd":{usd},"volume":{base},"price_change":0.5,"low":{texts["low"]},"high":{texts["high"]}'
        return self._message(
            stream,
            f'{{"timestamp":{event_ms},"stats":{{{stats}}},"state":"open","last_price":{texts["close"]},'
            f'"instrument_name":"{self.symbol(stream)}"}}',
        )

    # {"jsonrpc":"2.0","result":{"trades":[{"trade_seq":1966042,...}],"has_more":true},"usIn":1,"usOut":2,"usDiff":1}
    def past_trades(self, request: RestRequest, history: PastTrades) -> object | None:
        if request.path != "/api/v2/public/get_last_trades_by_instrument":
            return None
        symbol = request.query["instrument_name"]
        if symbol not in self.places:
            return {"jsonrpc": "2.0", "error": {"message": "instrument not found", "code": 13020}}
        count = int(request.query.get("count", "10"))
        if not 1 <= count <= 1000:
            return {"jsonrpc": "2.0", "error": {"message": "Invalid params", "code": -32602}}
        start = history.from_id(symbol, int(request.query.get("start_seq", "0")))
        if request.query.get("sorting") == "desc":
            page = list(reversed(history.backward(symbol, history.count(symbol), count, start)))
        else:
            page = history.forward(symbol, start, count)
        rows = [orjson.loads(self._trade(trade)) for trade in page]
        return {"jsonrpc": "2.0", "result": {"trades": rows, "has_more": start + count < history.count(symbol)}}

    # {"jsonrpc":"2.0","result":{"status":"ok","ticks":[1554373800000],"open":[4963.42],"high":[4965.1],"low":[4960.0],
    #  "close":[4962.0],"volume":[29.0],"cost":[143460.0]}}, flat where nothing was traded
    def past_candles(self, request: RestRequest, candles: PastCandles) -> object | None:
        if request.path != "/api/v2/public/get_tradingview_chart_data":
            return None
        symbol, interval = request.query["instrument_name"], _RESOLUTIONS.get(request.query["resolution"])
        if symbol not in self.places or interval is None:
            return {"jsonrpc": "2.0", "error": {"message": "Invalid params", "code": -32602}}
        names = ("open", "high", "low", "close", "volume", "amount")
        chart: dict[str, list[float]] = {name: [] for name in ("ticks", *names)}
        begin_ms, end_ms = (int(request.query[f"{which}_timestamp"]) for which in ("start", "end"))
        for open_ms, candle in candles.rows(symbol, interval, begin_ms, end_ms):
            texts = self.candle_texts(self.places[symbol], candle)
            chart["ticks"].append(open_ms)
            for name in names:
                chart[name].append(float(texts[name]))
        # As in the stream: on inverse futures the cost is what counts USD.
        volume, cost = chart.pop("volume"), chart.pop("amount")
        if self.market == "inverse":
            volume, cost = cost, volume
        status = "ok" if chart["ticks"] else "no_data"
        return {"jsonrpc": "2.0", "result": {"status": status, **chart, "volume": volume, "cost": cost}}

    # {"jsonrpc":"2.0","result":[{"instrument_name":"BTC-PERPETUAL","is_active":true,"kind":"future",...}]}
    def list_instruments(self, request: RestRequest, states: Mapping[str, State]) -> object | None:
        if request.path != "/api/v2/public/get_instruments":
            return None
        kind = _KINDS[self.market]
        if request.query.get("kind", kind) != kind:
            return {"jsonrpc": "2.0", "result": []}
        listed = [
            {
                "instrument_name": symbol, "is_active": state == "trading", "kind": kind,
                "instrument_type": "reversed" if self.market == "inverse" else "linear",
                **({"settlement_period": "perpetual"} if symbol.endswith("-PERPETUAL") else {}),
                **_assets(symbol), "creation_timestamp": 1_534_167_754_000,
                **self._grid(symbol),
            }
            for symbol, state in states.items()
        ]  # fmt: skip
        return {"jsonrpc": "2.0", "result": listed}

    def _grid(self, symbol: str) -> dict[str, float]:
        place = self.places.get(symbol)  # one that was listed later has none
        if place is None:
            return {}
        instrument = self.instruments[place]
        return {"tick_size": float(instrument.tick_size), "min_trade_amount": float(instrument.step_size)}

    def _message(self, stream: Stream, data: str) -> bytes:
        return (
            f'{{"jsonrpc":"2.0","method":"subscription","params":{{"channel":"{stream.name}","data":{data}}}}}'
        ).encode()


def _number(text: str) -> str:
    # As the exchange writes numbers: without zeros at the end, but with one decimal.
    whole, _, decimals = text.partition(".")
    return f"{whole}.{decimals.rstrip('0') or '0'}"


def _assets(symbol: str) -> dict[str, str]:
    # Of "BTC-PERPETUAL", "BTC_USDC-PERPETUAL", "BTC_USDC".
    base, _, quote = symbol.partition("-")[0].partition("_")
    return {"base_currency": base, "quote_currency": quote or "USD", "settlement_currency": quote or base}


def _answer(asked: object, now_ms: int, result: object) -> bytes:
    return _written(asked, now_ms, "result", result)


def _failed(asked: object, now_ms: int, code: int, text: str) -> bytes:
    return _written(asked, now_ms, "error", {"message": text, "code": code})


def _written(asked: object, now_ms: int, key: str, value: object) -> bytes:
    times = {"usIn": now_ms * 1000, "usOut": now_ms * 1000 + 90, "usDiff": 90, "testnet": False}
    head: dict[str, Any] = {"jsonrpc": "2.0"} | ({} if asked is None else {"id": asked})
    return orjson.dumps(head | {key: value} | times)


DIALECT = DeribitDialect
