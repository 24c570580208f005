"""Coinbase Advanced's dialect: trades in batches, newest first, history before the ack, the maker's side.

A "-USDC" product is its "-USD" market: acks and data name that one.

Source: https://docs.cdp.coinbase.com/coinbase-app/advanced-trade-apis/websocket/websocket-channels
Units: times as RFC 3339 text; sizes are base units.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import orjson

from fastbars.simulator.candles import Candle, interval_end_ms
from fastbars.simulator.dialect import DayStatistics, Dialect, Reaction, Stream, Subscriber, read_json, time_text
from fastbars.simulator.instruments import Naming, SimulatedInstrument
from fastbars.simulator.market import Book, SimulatedTrade
from fastbars.simulator.past_candles import PastCandles
from fastbars.simulator.rest import PastTrades, RestRefusedError, RestRequest, State

__all__ = ["DIALECT", "CoinbaseDialect"]

_GRANULARITIES = {
    "ONE_MINUTE": "1m", "FIVE_MINUTE": "5m", "FIFTEEN_MINUTE": "15m", "THIRTY_MINUTE": "30m", "ONE_HOUR": "1h",
    "TWO_HOUR": "2h", "SIX_HOUR": "6h", "ONE_DAY": "1d",
}  # fmt: skip
_MOST_CANDLES = 350
_CHANNELS = {"market_trades": "trade", "ticker": "ticker"}


class CoinbaseDialect(Dialect):
    """The public market data endpoint."""

    namings: ClassVar[Mapping[str, Naming]] = {"spot": Naming("-USD")}
    paths = ("/",)
    trades_per_message = 10**6
    batch_ms = 250
    history = 100
    heartbeat_ms = 1000
    silence = ("request", 5.0)

    def __init__(self, market: str, instruments: Sequence[SimulatedInstrument], books: Sequence[Book] = ()) -> None:
        super().__init__(market, instruments, books)
        self._sequence = 0
        self._heartbeats = 0

    def react(self, subscriber: Subscriber, message: str | bytes, now_ms: int) -> Reaction:
        request = read_json(message)
        kind, channel = (None, None) if request is None else (request.get("type"), request.get("channel"))
        if request is None or kind not in ("subscribe", "unsubscribe") or not isinstance(channel, str):
            return Reaction([_error("failure to parse message")], is_request=True)
        if channel == "heartbeats":
            streams = [Stream("heartbeats:heartbeats", -1, "heartbeat")]
        else:
            found = [self.find_stream(channel, symbol) for symbol in request.get("product_ids") or ()]
            streams = [stream for stream in found if stream is not None]
            if len(streams) < len(found) or not found:
                return Reaction([_error("failure to subscribe")], is_request=True)
        names = [stream.name for stream in streams]
        held = [name for name in subscriber.streams if kind == "subscribe" or name not in names]
        ack = self._subscriptions([*held, *names] if kind == "subscribe" else held, now_ms)
        if kind == "unsubscribe":
            return Reaction([ack], unsubscribe=names, is_request=True)
        # As recorded: the snapshot of past trades comes before the ack.
        return Reaction([ack], subscribe=streams, is_request=channel != "heartbeats", history_first=True)

    def find_stream(self, channel: str, product: object) -> Stream | None:
        """The stream of a channel and a product."""
        symbol = self._symbol_of(product)
        if symbol is None:
            return None
        name, place = f"{channel}:{symbol}", self.places[symbol]
        if channel == "candles":
            return Stream(name, place, "kline", "5m")
        return Stream(name, place, _CHANNELS[channel]) if channel in _CHANNELS else None

    def _symbol_of(self, product: object) -> str | None:
        # "BTC-USDC" is traded in the book of "BTC-USD", and acks and data use that name.
        symbol = str(product)
        if symbol not in self.places and symbol.endswith("-USDC"):
            symbol = symbol.removesuffix("C")
        return symbol if symbol in self.places else None

    def _subscriptions(self, names: Sequence[str], now_ms: int) -> bytes:
        held: dict[str, list[str]] = {}
        for name in dict.fromkeys(names):
            channel, _, symbol = name.partition(":")
            held.setdefault(channel, []).append(symbol)
        return self._message("subscriptions", orjson.dumps({"subscriptions": held}).decode(), now_ms)

    def trades(self, stream: Stream, trades: Sequence[SimulatedTrade], event_ms: int, *, past: bool = False) -> bytes:
        symbol = self.symbol(stream)
        rows = []
        for trade in reversed(trades):
            price, size = self.texts(trade)
            rows.append(
                f'{{"product_id":"{symbol}","trade_id":"{trade.trade_id}","price":"{price}","size":"{size}",'
                f'"time":"{time_text(trade.time_ms)}","side":"{_maker_side(trade)}"}}'
            )
        kind = "snapshot" if past else "update"
        return self._message("market_trades", f'{{"type":"{kind}","trades":[{",".join(rows)}]}}', event_ms)

    def kline(self, stream: Stream, candle: Candle, open_ms: int, event_ms: int, *, closed: bool) -> bytes | None:
        texts = self.candle_texts(stream.instrument, candle)
        fields = ",".join(f'"{name}":"{texts[name]}"' for name in ("high", "low", "open", "close", "volume"))
        row = f'{{"start":"{open_ms // 1000}",{fields},"product_id":"{self.symbol(stream)}"}}'
        return self._message("candles", f'{{"type":"update","candles":[{row}]}}', event_ms)

    def ticker(self, stream: Stream, day: DayStatistics, event_ms: int) -> bytes:
        texts = self.candle_texts(stream.instrument, day.candle)
        bid, bid_size, ask, ask_size = self.book_texts(stream.instrument, day.book)
        row = (
            f'{{"type":"ticker","product_id":"{self.symbol(stream)}","price":"{texts["close"]}",'
            f'"volume_24_h":"{texts["volume"]}","low_24_h":"{texts["low"]}","high_24_h":"{texts["high"]}",'
            f'"price_percent_chg_24_h":"0","best_bid":"{bid}","best_ask":"{ask}","best_bid_quantity":"{bid_size}",'
            f'"best_ask_quantity":"{ask_size}"}}'
        )
        return self._message("ticker", f'{{"type":"update","tickers":[{row}]}}', event_ms)

    def heartbeat(self, subscriber: Subscriber, now_ms: int) -> bytes | None:
        if "heartbeats:heartbeats" not in subscriber.streams:
            return None
        self._heartbeats += 1
        event = f'{{"current_time":"{time_text(now_ms)}","heartbeat_counter":{self._heartbeats}}}'
        return self._message("heartbeats", event, now_ms)

    # {"trades":[{"trade_id":"34b080bf","product_id":"BTC-USD","price":"140.91","size":"4","time":
    #  "2021-05-31T09:59:59.000Z","side":"BUY"}]}, newest first
    def past_trades(self, request: RestRequest, history: PastTrades) -> object | None:
        head, _, tail = request.path.partition("/products/")
        product, _, last = tail.partition("/")
        if head != "/api/v3/brokerage/market" or last != "ticker":
            return None
        symbol = self._symbol_of(product)
        if symbol is None:
            raise ValueError(f"unknown product {product}")
        start = history.from_ms(symbol, int(request.query["start"]) * 1000)
        stop = history.after_ms(symbol, int(request.query["end"]) * 1000)
        page = history.backward(symbol, stop, int(request.query["limit"]), start)
        trades = []
        for trade in reversed(page):
            price, size = self.texts(trade)
            texts = {"price": price, "size": size, "time": time_text(trade.time_ms, 3), "side": _maker_side(trade)}
            trades.append({"trade_id": str(trade.trade_id), "product_id": symbol, **texts})
        return {"trades": trades}

    # {"candles":[{"start":"1639508050","low":"140.21","high":"140.81","open":"140.31","close":"140.71",
    #  "volume":"56437345"}]}, newest first, none of intervals without trades
    def past_candles(self, request: RestRequest, candles: PastCandles) -> object | None:
        head, _, tail = request.path.partition("/products/")
        product, _, last = tail.partition("/")
        if head != "/api/v3/brokerage/market" or last != "candles":
            return None
        symbol, interval = self._symbol_of(product), _GRANULARITIES.get(request.query["granularity"])
        if symbol is None or interval is None:
            raise RestRefusedError(400, {"error": "INVALID_ARGUMENT", "error_details": "valid product is required"})
        start_ms, end_ms = int(request.query["start"]) * 1000, int(request.query["end"]) * 1000
        length_ms = interval_end_ms(interval, 0)
        if (end_ms - start_ms) // length_ms >= _MOST_CANDLES:
            why = f"number of candles requested should be less than {_MOST_CANDLES}"
            raise RestRefusedError(400, {"error": "INVALID_ARGUMENT", "error_details": why})
        page = []
        for open_ms, candle in candles.rows(symbol, interval, start_ms, end_ms):
            if candle.trade_count:
                texts = self.candle_texts(self.places[symbol], candle)
                numbers = {name: texts[name] for name in ("low", "high", "open", "close", "volume")}
                page.append({"start": str(open_ms // 1000), **numbers})
        return {"candles": page[::-1][: int(request.query.get("limit", str(_MOST_CANDLES)))]}

    # {"products":[{"product_id":"BTC-USDC","status":"online","is_disabled":false,"trading_disabled":false,
    #  "cancel_only":false,"alias":"BTC-USD","alias_to":[]}],"num_products":1}
    def list_instruments(self, request: RestRequest, states: Mapping[str, State]) -> object | None:
        if request.path != "/api/v3/brokerage/market/products":
            return None
        products = [
            {
                "product_id": symbol,
                "product_type": "SPOT",
                "base_currency_id": symbol.split("-")[0],
                "quote_currency_id": symbol.split("-")[-1],
                "price_increment": f"{self.details(symbol).tick_size:f}",
                "base_increment": f"{self.details(symbol).step_size:f}",
                "approximate_quote_24h_volume": f"{self.day_amount(symbol):f}",
                "status": "delisted" if state == "delisted" else "online",
                "is_disabled": state == "delisted",
                "trading_disabled": state != "trading",
                "cancel_only": False,
                "alias": symbol.removesuffix("C") if symbol.endswith("-USDC") else "",
                "alias_to": [f"{symbol}C"] if symbol.endswith("-USD") else [],
            }
            for symbol, state in states.items()
        ]
        return {"products": products, "num_products": len(products)}

    def _message(self, channel: str, event: str, event_ms: int) -> bytes:
        self._sequence += 1
        head = f'"channel":"{channel}","timestamp":"{time_text(event_ms, 9)}","sequence_num":{self._sequence}'
        return f'{{{head},"events":[{event}]}}'.encode()


def _error(text: str) -> bytes:
    return orjson.dumps({"type": "error", "message": text})


def _maker_side(trade: SimulatedTrade) -> str:
    return "BUY" if trade.buyer_is_maker else "SELL"


DIALECT = CoinbaseDialect
