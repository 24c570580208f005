"""Binance's dialect: requests and stream names, the messages of each stream, and REST, as Binance writes them.

A malformed request is refused with `{"code","msg"[,"id"]}`. Names are not checked: Binance acknowledges any, and one
that does not exist stays silent.

Source: https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams,
https://developers.binance.com/docs/binance-spot-api-docs/rest-api and, for the futures,
https://developers.binance.com/docs/derivatives (websocket market streams); key order as in recorded messages.
Units: times in ms since the Unix epoch; numbers are text with the fixed decimals of the market.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context
from typing import Any, ClassVar

import orjson

from fastbars.simulator.candles import INTERVALS, Candle, interval_end_ms
from fastbars.simulator.dialect import (
    DayStatistics,
    Dialect,
    Opening,
    Reaction,
    Stream,
    Subscriber,
    read_json,
)
from fastbars.simulator.instruments import Naming, SimulatedInstrument, assets_in
from fastbars.simulator.market import AggregateTrade, Book, SimulatedTrade
from fastbars.simulator.past_candles import PastCandles
from fastbars.simulator.rest import PastTrades, RestRefusedError, RestRequest, State

__all__ = ["DIALECT", "BinanceDialect"]

MAX_STREAMS = 1024  # a connection

_METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS")
_INVALID_REQUEST = 2
_INVALID_JSON = 3

_CHANNELS = {"trade": "trade", "aggTrade": "aggTrade", "bookTicker": "quote", "ticker": "ticker"}
# USD-M: route -> the channels that it serves. "all" exists only here, so that one address can serve everything. Without
# a route everything is acknowledged, and only what "public" serves is sent.
_PUBLIC, _MARKET = ("trade", "quote"), ("aggTrade", "kline", "ticker")
_ROUTES = {"": _PUBLIC, "public": _PUBLIC, "market": _MARKET, "all": (*_PUBLIC, *_MARKET)}
_DIVISION = Context(prec=50, rounding=ROUND_HALF_EVEN)  # for the ticker's percent and weighted average only
_SYMBOL_TYPE = {"usdm": 1, "coinm": 2}  # "st"; 1 was seen on USD-M, 2 is assumed
# Streams of recorded messages, by their event.
_CHANNEL_OF_EVENT = {
    "trade": "trade",
    "aggTrade": "aggTrade",
    "24hrTicker": "ticker",
    "24hrMiniTicker": "miniTicker",
    "bookTicker": "bookTicker",
    "depthUpdate": "depth",
    "markPriceUpdate": "markPrice",
}
_COMBINED_PREFIX = b'{"stream":"'

_REST_PREFIXES = {"spot": "/api/v3", "us": "/api/v3", "usdm": "/fapi/v1", "coinm": "/dapi/v1"}
# Market -> the key of an instrument's status, and its values if the instrument does not trade.
_STATUSES: Mapping[str, tuple[str, Mapping[State, str]]] = {
    "spot": ("status", {"halted": "BREAK", "delisted": "BREAK", "not yet": "PRE_TRADING"}),
    "us": ("status", {"halted": "HALT", "delisted": "BREAK", "not yet": "PRE_TRADING"}),
    "usdm": ("status", {"halted": "TRADING_HALT", "delisted": "SETTLING", "not yet": "PENDING_TRADING"}),
    "coinm": ("contractStatus", {"halted": "TRADING_HALT", "delisted": "DELIVERED", "not yet": "PENDING_TRADING"}),
}


CommandId = int | str | None


@dataclass(frozen=True)
class Command:
    """A valid request: its method, the stream names, and the id to answer with."""

    method: str
    streams: tuple[str, ...]
    id: CommandId


class RefusalError(Exception):
    """A request is refused; `reply` is the message for the client."""

    def __init__(self, reply: bytes) -> None:
        super().__init__(reply)
        self.reply = reply

    @classmethod
    def of_request(cls, text: str, code: int = _INVALID_REQUEST, **known_id: CommandId) -> RefusalError:
        """Refuse a malformed request; give `id=` if it could be read."""
        return cls(orjson.dumps({"code": code, "msg": text, **known_id}))


def acknowledge(command: Command, result: list[str] | None = None) -> bytes:
    """Write the reply to a command that was executed."""
    return orjson.dumps({"result": result, "id": command.id})


class BinanceDialect(Dialect):
    """Binance's markets; `us` is as `spot`."""

    namings: ClassVar[Mapping[str, Naming]] = {
        "spot": Naming("USDT", text_decimals=8),
        "usdm": Naming("USDT", most_size_decimals=3),
        "coinm": Naming("USD_PERP", contract_usd={"BTC": 100, "": 10}),
        "us": Naming("USDT", text_decimals=8),
    }
    paths = ("/ws", "/stream")
    ping_interval_s = 20.0
    # As the first files of its archive show; futures begin at 1.
    first_ids: ClassVar[Mapping[str, int]] = {"spot": 0, "us": 0}
    # For BTCUSDT on USD-M, according to four reports; COIN-M is assumed to be the same.
    voids_per_minute: ClassVar[Mapping[str, float]] = {"usdm": 14.0, "coinm": 14.0}
    serves_tapes = True

    def __init__(self, market: str, instruments: Sequence[SimulatedInstrument], books: Sequence[Book] = ()) -> None:
        super().__init__(market, instruments, books)
        self._is_spot = market in ("spot", "us")
        if market == "usdm":
            self.paths = ("/all/ws", "/all/stream")
        self._places = {instrument.symbol.lower(): place for place, instrument in enumerate(instruments)}
        self._intervals = INTERVALS if self._is_spot else INTERVALS[1:]  # futures have no 1s klines
        self._tape_streams: Collection[str] = ()
        if self._is_spot:
            trade = '{"e":"trade","E":%%d,"s":"%s","t":%%d,"p":"%%s","q":"%%s","T":%%d,"m":%%s,"M":true}'
        else:
            trade = '{"e":"trade","E":%%d,"T":%%d,"s":"%s","t":%%d,"p":"%%s","q":"%%s","X":"%%s","m":%%s}'
        self._trade_formats = [trade % instrument.symbol for instrument in instruments]

    def open(self, path: str) -> Opening | None:
        # USD-M: "/public/ws", "/market/stream?streams=..."
        head, _, rest = path.lstrip("/").partition("/")
        route = head if self.market == "usdm" and head in _ROUTES else ""
        parsed = read_path(rest if route else path)
        if parsed is None:
            return None
        combined, names = parsed
        try:
            return Opening(combined, self._resolve(Command("SUBSCRIBE", names, None), 0, route), route=route)
        except RefusalError as refusal:
            return Opening(combined, (), refusal.reply)

    def react(self, subscriber: Subscriber, message: str | bytes, now_ms: int) -> Reaction:
        try:
            command = read_command(message)
            if command.method == "LIST_SUBSCRIPTIONS":
                return Reaction([acknowledge(command, list(subscriber.streams))])
            if command.method == "UNSUBSCRIBE":
                return Reaction([acknowledge(command)], unsubscribe=command.streams, is_request=True)
            streams = self._resolve(command, len(subscriber.streams), subscriber.route)
        except RefusalError as refusal:
            return Reaction([refusal.reply], is_request=True)
        return Reaction([acknowledge(command)], subscribe=streams, is_request=True)

    def _resolve(self, command: Command, held: int, route: str) -> list[Stream]:
        # All of a command's streams, or a refusal of all. Those that do not exist, or not on this route, are silent.
        streams: list[Stream] = []
        for name in dict.fromkeys(command.streams):
            stream = self.find_stream(name)
            is_served = stream is not None and (self.market != "usdm" or stream.channel in (*_ROUTES[route], "tape"))
            streams.append(stream if stream is not None and is_served else Stream(name, -1, "silent"))
        if held + len(streams) > MAX_STREAMS:
            raise RefusalError.of_request(f"Invalid request: more than {MAX_STREAMS} streams", id=command.id)
        return streams

    def wrap(self, stream: Stream, payload: bytes) -> bytes:
        return b'{"stream":"%b","data":%b}' % (stream.name.encode(), payload)

    def notice(self, now_ms: int) -> bytes | None:
        return f'{{"e":"serverShutdown","E":{now_ms}}}'.encode()

    def find_stream(self, name: str) -> Stream | None:
        """Return the stream of that name; None: the exchange has no such symbol or channel."""
        if self._tape_streams:
            return Stream(name, -1, "tape") if name in self._tape_streams else None
        symbol, _, channel = name.partition("@")
        place = self._places.get(symbol)
        if place is None:
            return None
        if channel in _CHANNELS:
            return Stream(name, place, _CHANNELS[channel])
        channel, _, interval = channel.partition("_")
        if channel == "kline" and interval in self._intervals:
            return Stream(name, place, channel, interval)
        return None

    def trades(self, stream: Stream, trades: Sequence[SimulatedTrade], event_ms: int, *, past: bool = False) -> bytes:
        (trade,) = trades
        price, size = self.texts(trade)
        maker = _boolean(trade.buyer_is_maker)
        message = self._trade_formats[trade.instrument]
        if self._is_spot:
            text = message % (event_ms, trade.trade_id, price, size, trade.time_ms, maker)
        else:
            # {"e":"trade",...,"t":6543210987,"p":"0","q":"0","X":"NA","m":true}: a void id, nothing was traded
            kind = "MARKET" if trade.size_steps else "NA"
            price, size = (price, size) if trade.size_steps else ("0", "0")
            text = message % (event_ms, trade.time_ms, trade.trade_id, price, size, kind, maker)
        return text.encode()

    def aggregate_trade(self, stream: Stream, trade: AggregateTrade, event_ms: int) -> bytes:
        symbol = self.symbol(stream)
        price, size = self.texts(trade)
        ids = f'"f":{trade.first_id},"l":{trade.last_id}'
        tail = f'{ids},"T":{trade.time_ms},"m":{_boolean(trade.buyer_is_maker)}'
        if self._is_spot:
            text = (
                f'{{"e":"aggTrade","E":{event_ms},"s":"{symbol}","a":{trade.aggregate_id},'
                f'"p":"{price}","q":"{size}",{tail},"M":true}}'
            )
        else:
            text = (
                f'{{"e":"aggTrade","E":{event_ms},"a":{trade.aggregate_id},"s":"{symbol}",'
                f'"p":"{price}","q":"{size}","nq":"{size}",{tail},"st":{_SYMBOL_TYPE[self.market]}}}'
            )
        return text.encode()

    def kline(self, stream: Stream, candle: Candle, open_ms: int, event_ms: int, *, closed: bool) -> bytes:
        # `closed` is the flag x of `@kline_<interval>`.
        symbol, interval = self.symbol(stream), stream.interval
        texts, close_ms = self.candle_texts(stream.instrument, candle), interval_end_ms(interval, open_ms) - 1
        return (
            f'{{"e":"kline","E":{event_ms},"s":"{symbol}","k":{{"t":{open_ms},"T":{close_ms},"s":"{symbol}",'
            f'"i":"{interval}","f":{candle.first_id},"L":{candle.last_id},'
            f'"o":"{texts["open"]}","c":"{texts["close"]}","h":"{texts["high"]}","l":"{texts["low"]}",'
            f'"v":"{texts["volume"]}","n":{candle.trade_count},"x":{_boolean(closed)},"q":"{texts["amount"]}",'
            f'"V":"{texts["taker_volume"]}","Q":"{texts["taker_amount"]}","B":"0"}}}}'
        ).encode()

    def quote(self, stream: Stream, book: Book, event_ms: int) -> bytes:
        # Spot's `@bookTicker` carries neither "e" nor a time.
        symbol, quotes = self.symbol(stream), self._book_fields(stream, book)
        if self._is_spot:
            return f'{{"u":{book.update_id},"s":"{symbol}",{quotes}}}'.encode()
        pair = symbol.partition("_")[0]
        return (
            f'{{"e":"bookTicker","u":{book.update_id},"s":"{symbol}",{quotes},"T":{event_ms},"E":{event_ms},'
            f'"ps":"{pair}","st":{_SYMBOL_TYPE[self.market]}}}'
        ).encode()

    def ticker(self, stream: Stream, day: DayStatistics, event_ms: int) -> bytes:
        open_ms, candle, book, last_steps = day
        instrument = self.instruments[stream.instrument]
        texts, price = self.candle_texts(stream.instrument, candle), instrument.price_format
        change = candle.close - candle.open
        percent = _DIVISION.divide(change * 100, candle.open)
        if not candle.trade_count:
            average = candle.close
        elif instrument.contract_size is None:
            average = _DIVISION.divide(candle.amount, candle.volume)
        else:
            average = _DIVISION.divide(candle.volume * instrument.contract_size, candle.amount)
        previous, quotes = "", ""
        if self._is_spot:
            previous, quotes = f'"x":"{texts["open"]}",', f"{self._book_fields(stream, book)},"
        return (
            f'{{"e":"24hrTicker","E":{event_ms},"s":"{instrument.symbol}","p":"{change:{price}}",'
            f'"P":"{percent:.3f}","w":"{average:{price}}",{previous}"c":"{texts["close"]}",'
            f'"Q":"{instrument.size_text(last_steps)}",{quotes}"o":"{texts["open"]}","h":"{texts["high"]}",'
            f'"l":"{texts["low"]}","v":"{texts["volume"]}","q":"{texts["amount"]}","O":{open_ms},"C":{event_ms},'
            f'"F":{candle.first_id},"L":{candle.last_id},"n":{candle.trade_count}}}'
        ).encode()

    def _book_fields(self, stream: Stream, book: Book) -> str:
        bid, bid_size, ask, ask_size = self.book_texts(stream.instrument, book)
        return f'"b":"{bid}","B":"{bid_size}","a":"{ask}","A":"{ask_size}"'

    # REST.

    # [{"id":28457,"price":"4.00000100","qty":"12.00000000","time":1499865549590,"isBuyerMaker":true}]
    def past_trades(self, request: RestRequest, history: PastTrades) -> object | None:
        prefix, _, kind = request.path.rpartition("/")
        if prefix != _REST_PREFIXES[self.market] or kind not in ("historicalTrades", "trades", "aggTrades"):
            return None
        if kind == "historicalTrades" and self.market != "spot" and not request.headers.get("X-MBX-APIKEY"):
            raise RestRefusedError(401, {"code": -2014, "msg": "API-key format invalid."})
        symbol = request.query["symbol"]
        if symbol not in self.places:
            raise RestRefusedError(400, {"code": -1121, "msg": "Invalid symbol."})
        most = 500 if kind == "historicalTrades" and not self._is_spot else 1000
        limit = min(int(request.query.get("limit", "500")), most)
        if kind == "aggTrades":
            first = request.query.get("fromId")
            return self._past_aggregates(history.aggregates(symbol, None if first is None else int(first), limit))
        if kind == "historicalTrades" and "fromId" in request.query:
            page = history.forward(symbol, history.from_id(symbol, int(request.query["fromId"])), limit)
        else:
            page = history.backward(symbol, history.count(symbol), limit)
        rows = []
        for trade in page:
            price, size = self.texts(trade)
            rest = {"time": trade.time_ms, "isBuyerMaker": trade.buyer_is_maker}
            rows.append({"id": trade.trade_id, "price": price, "qty": size, **rest})
        return rows

    # [{"a":26129,"p":"0.01633102","q":"4.70443515","f":27781,"l":27781,"T":1498793709153,"m":true}]
    def _past_aggregates(self, page: Sequence[AggregateTrade]) -> list[object]:
        rows: list[object] = []
        for trade in page:
            price, size = self.texts(trade)
            ids = {"f": trade.first_id, "l": trade.last_id, "T": trade.time_ms, "m": trade.buyer_is_maker}
            rows.append({"a": trade.aggregate_id, "p": price, "q": size, **ids})
        return rows

    # [[1499040000000,"0.01634790","0.80000000","0.01575800","0.01577100","148976.11427815",1499644799999,
    #  "2434.19055334",308,"1756.87402397","28.46694368","0"]]
    def past_candles(self, request: RestRequest, candles: PastCandles) -> object | None:
        if request.path != f"{_REST_PREFIXES[self.market]}/klines":
            return None
        symbol, interval = request.query["symbol"], request.query["interval"]
        if symbol not in self.places:
            raise RestRefusedError(400, {"code": -1121, "msg": "Invalid symbol."})
        if interval not in self._intervals:
            raise RestRefusedError(400, {"code": -1120, "msg": "Invalid interval."})
        since_ms, until_ms = int(request.query["startTime"]), int(request.query["endTime"])
        limit = min(int(request.query.get("limit", "500")), 1000 if self._is_spot else 1500)
        rows = candles.rows(symbol, interval, since_ms, until_ms)
        if self.market != "coinm":
            rows = rows[:limit]
        elif until_ms - since_ms > 200 * 86_400_000:
            raise RestRefusedError(400, {"code": -4093, "msg": "Time range is more than 200 days."})
        else:
            rows = rows[-limit:]
        page = []
        for open_ms, candle in rows:
            texts = self.candle_texts(self.places[symbol], candle)
            numbers = [texts[name] for name in ("open", "high", "low", "close", "volume")]
            rest = [texts["amount"], candle.trade_count, texts["taker_volume"], texts["taker_amount"], "0"]
            page.append([open_ms, *numbers, interval_end_ms(interval, open_ms) - 1, *rest])
        return page

    def list_instruments(self, request: RestRequest, states: Mapping[str, State]) -> object | None:
        if request.path == f"{_REST_PREFIXES[self.market]}/ticker/24hr":
            return [self._day(symbol) for symbol, state in states.items() if state == "trading"]
        if request.path != f"{_REST_PREFIXES[self.market]}/exchangeInfo":
            return None
        if set(request.query) - {"showPermissionSets"}:
            raise ValueError(f"Not all sent parameters were read: {sorted(request.query)}")
        symbols = [self._listed(symbol, state) for symbol, state in states.items()]
        return {"timezone": "UTC", "serverTime": 0, "rateLimits": [], "exchangeFilters": [], "symbols": symbols}

    def _listed(self, symbol: str, state: State) -> dict[str, Any]:
        key, words = _STATUSES[self.market]
        details = self.details(symbol)
        pair, _, contract = symbol.partition("_")
        base, quote = assets_in(pair)
        tick, step = (f"{size:f}" for size in (details.tick_size, details.step_size))
        one: dict[str, Any] = {
            "symbol": symbol, key: words.get(state, "TRADING"), "baseAsset": base, "quoteAsset": quote,
            "filters": [
                {"minPrice": tick, "maxPrice": "1000000", "tickSize": tick, "filterType": "PRICE_FILTER"},
                {"minQty": step, "maxQty": "1000000", "stepSize": step, "filterType": "LOT_SIZE"},
            ],
        }  # fmt: skip
        if self._is_spot:
            return one
        expires = contract.isdigit()
        one |= {
            "pair": pair, "contractType": "CURRENT_QUARTER" if expires else "PERPETUAL", "onboardDate": 1569398400000,
            "deliveryDate": 1790323200000 if expires else 4133404800000,
            "marginAsset": base if self.market == "coinm" else quote,
        }  # fmt: skip
        return one if details.contract_size is None else one | {"contractSize": details.contract_size}

    def _day(self, symbol: str) -> dict[str, Any]:
        amount, details = self.day_amount(symbol), self.details(symbol)
        if details.contract_size is not None:
            return {
                "symbol": symbol,
                "volume": str(int(amount / details.contract_size)),
                "baseVolume": "1.5",
                "count": 9,
            }
        return {"symbol": symbol, "volume": "1.5", "quoteVolume": f"{amount:f}", "count": 9}

    # Recorded messages.

    def serve_tapes(self, streams: Collection[str]) -> None:
        self._tape_streams = frozenset(streams)

    def stream_of(self, payload: bytes) -> str | None:
        # Combined messages name their stream. Raw ones have symbol and event; the update speed of a depth is lost.
        if payload.startswith(_COMBINED_PREFIX):
            end = payload.find(b'"', len(_COMBINED_PREFIX))
            if end > 0:
                return payload[len(_COMBINED_PREFIX) : end].decode("utf-8", "replace")
        message = read_json(payload)
        if message is None:
            return None
        if isinstance(message.get("stream"), str):
            return str(message["stream"])
        channel, symbol = _channel_of(message), message.get("s")
        return f"{symbol.lower()}@{channel}" if channel and isinstance(symbol, str) else None


def read_command(message: str | bytes) -> Command:
    """Read a client's request.

    Raises:
        RefusalError: it is not a JSON object, or its id is not an unsigned integer, text or null, its method is
            unknown, or its params are not a list of stream names.
    """
    try:
        request = orjson.loads(message)
    except orjson.JSONDecodeError as error:
        raise RefusalError.of_request(
            f"Invalid JSON: {error.msg} at column {error.colno}", code=_INVALID_JSON
        ) from None
    if not isinstance(request, dict):
        raise RefusalError.of_request("Invalid request: not a JSON object")
    command_id = request.get("id")
    is_number = isinstance(command_id, int) and not isinstance(command_id, bool) and command_id >= 0
    if not (command_id is None or is_number or isinstance(command_id, str)):
        raise RefusalError.of_request("Invalid request: id is neither an unsigned integer nor text")
    method = request.get("method")
    if method not in _METHODS:
        raise RefusalError.of_request(
            f"Invalid request: method {method!r} is none of {', '.join(_METHODS)}", id=command_id
        )
    if method == "LIST_SUBSCRIPTIONS":
        return Command(method, (), command_id)
    params = request.get("params")
    if not isinstance(params, list) or not params or not all(isinstance(name, str) for name in params):
        raise RefusalError.of_request("Invalid request: params is not a list of stream names", id=command_id)
    return Command(method, tuple(params), command_id)


def read_path(path: str) -> tuple[bool, tuple[str, ...]] | None:
    """A request path such as "/ws/btcusdt@trade" or "/stream?streams=btcusdt@trade/ethusdt@trade".

    Returns:
        Whether messages are wrapped, and the stream names; None for a path that the exchange does not have.
    """
    path, _, query = path.partition("?")
    root, _, rest = path.strip("/").partition("/")
    if root == "ws":
        return False, tuple(name for name in rest.split("/") if name)
    if root == "stream" and not rest:
        for parameter in query.split("&"):
            key, _, value = parameter.partition("=")
            if key == "streams":
                return True, tuple(name for name in value.replace("%40", "@").split("/") if name)
        return True, ()
    return None


def _channel_of(message: dict[str, Any]) -> str | None:
    event = message.get("e")
    if event == "kline":
        kline = message.get("k")
        return f"kline_{kline['i']}" if isinstance(kline, dict) and "i" in kline else None
    if event is None and message.keys() >= {"u", "b", "B", "a", "A"}:  # spot's bookTicker names no event
        return "bookTicker"
    return _CHANNEL_OF_EVENT.get(event) if isinstance(event, str) else None


def _boolean(value: bool) -> str:
    return "true" if value else "false"


DIALECT = BinanceDialect
