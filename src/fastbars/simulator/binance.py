"""Binance's dialect: stream names, and the messages of each stream as Binance writes them.

Source: https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams and, for the futures,
https://developers.binance.com/docs/derivatives (websocket market streams); key order as in recorded messages.
Units: times in ms since the Unix epoch; numbers are text with the fixed decimals of the market.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from decimal import ROUND_HALF_EVEN, Context

from fastbars.simulator.candles import INTERVALS, Candle, interval_end_ms
from fastbars.simulator.commands import MAX_STREAMS, Command, RefusalError, acknowledge, parse_command, parse_path
from fastbars.simulator.dialect import AggregateTrade, Dialect, Heard, Opening, Stream, Subscriber
from fastbars.simulator.instruments import BINANCE, SimulatedInstrument
from fastbars.simulator.market import Book, SimulatedTrade

__all__ = ["BinanceDialect"]

_CHANNELS = {"trade": "trade", "aggTrade": "aggTrade", "bookTicker": "quote", "ticker": "ticker"}
_ROUTES = {"public": ("trade", "quote"), "market": ("aggTrade", "kline", "ticker")}  # of USD-M
_DIVISION = Context(prec=50, rounding=ROUND_HALF_EVEN)  # for the ticker's percent and weighted average only
_VOIDS_PER_MINUTE = 14.0  # of BTCUSDT on USD-M, as four reports have it; COIN-M is taken to be alike
_SYMBOL_TYPE = {"usdm": 1, "coinm": 2}  # "st"; 1 was seen on USD-M, 2 is assumed


class BinanceDialect(Dialect):
    """Binance's markets; `us` is as `spot`. Any stream name is acknowledged; one that does not exist stays silent."""

    exchange = "binance"
    namings = BINANCE
    paths = ("/ws", "/stream")
    ping_interval_s = 20.0

    def __init__(self, market: str, instruments: Sequence[SimulatedInstrument]) -> None:
        super().__init__(market, instruments)
        self._is_spot = market in ("spot", "us")
        self.voids_per_minute = 0.0 if self._is_spot else _VOIDS_PER_MINUTE
        self._places = {instrument.symbol.lower(): place for place, instrument in enumerate(instruments)}
        self._intervals = INTERVALS if self._is_spot else INTERVALS[1:]  # futures have no 1s klines
        self._tape_streams: Collection[str] = ()
        if self._is_spot:
            trade = '{"e":"trade","E":%%d,"s":"%s","t":%%d,"p":"%%s","q":"%%s","T":%%d,"m":%%s,"M":true}'
        else:
            trade = '{"e":"trade","E":%%d,"T":%%d,"s":"%s","t":%%d,"p":"%%s","q":"%%s","X":"%%s","m":%%s}'
        self._trade_formats = [trade % instrument.symbol for instrument in instruments]

    def serve_tapes(self, streams: Collection[str]) -> None:
        self._tape_streams = frozenset(streams)

    def open(self, path: str) -> Opening | None:
        # USD-M: "/public/ws", "/market/stream?streams=..."; without a route everything is served here.
        head, _, rest = path.lstrip("/").partition("/")
        route = head if self.market == "usdm" and head in _ROUTES else ""
        parsed = parse_path(rest if route else path)
        if parsed is None:
            return None
        combined, names = parsed
        try:
            return Opening(combined, self._resolve(Command("SUBSCRIBE", names, None), 0, route), route=route)
        except RefusalError as refusal:
            return Opening(combined, (), refusal.reply)

    def hear(self, subscriber: Subscriber, message: str | bytes, now_ms: int) -> Heard:
        try:
            command = parse_command(message)
            if command.method == "LIST_SUBSCRIPTIONS":
                return Heard([acknowledge(command, list(subscriber.streams))])
            if command.method == "UNSUBSCRIBE":
                return Heard([acknowledge(command)], unsubscribe=command.streams, is_request=True)
            streams = self._resolve(command, len(subscriber.streams), subscriber.route)
        except RefusalError as refusal:
            return Heard([refusal.reply], is_request=True)
        return Heard([acknowledge(command)], subscribe=streams, is_request=True)

    def _resolve(self, command: Command, held: int, route: str) -> list[Stream]:
        # All of a command's streams, or a refusal of all; what does not exist, or not on this route, is silent.
        streams: list[Stream] = []
        for name in dict.fromkeys(command.streams):
            stream = self.find_stream(name)
            is_served = stream is not None and (not route or stream.channel in _ROUTES[route])
            streams.append(stream if stream is not None and is_served else Stream(name, -1, "silent"))
        if held + len(streams) > MAX_STREAMS:
            raise RefusalError.of_request(f"Invalid request: more than {MAX_STREAMS} streams", id=command.id)
        return streams

    def wrap(self, stream: Stream, payload: bytes) -> bytes:
        return b'{"stream":"%b","data":%b}' % (stream.name.encode(), payload)

    def notice(self, now_ms: int) -> bytes | None:
        return f'{{"e":"serverShutdown","E":{now_ms}}}'.encode()

    def find_stream(self, name: str) -> Stream | None:
        """Return the stream of that name, None where the exchange has no such symbol or channel."""
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

    def trades(
        self,
        stream: Stream,
        trades: Sequence[SimulatedTrade],
        event_ms: int,
        *,
        past: bool = False,
    ) -> bytes:
        ((place, trade_id, time_ms, price_ticks, size_steps, buyer_is_maker),) = trades
        instrument = self.instruments[place]
        price, size = instrument.price_text(price_ticks), instrument.size_text(size_steps)
        maker = "true" if buyer_is_maker else "false"
        if self._is_spot:
            text = self._trade_formats[place] % (event_ms, trade_id, price, size, time_ms, maker)
        else:
            # {"e":"trade",...,"t":6543210987,"p":"0","q":"0","X":"NA","m":true}: a void id, nothing was traded
            kind = "MARKET" if size_steps else "NA"
            price, size = (price, size) if size_steps else ("0", "0")
            text = self._trade_formats[place] % (event_ms, time_ms, trade_id, price, size, kind, maker)
        return text.encode()

    def aggregate_trade(self, stream: Stream, trade: AggregateTrade, aggregate_id: int, event_ms: int) -> bytes:
        instrument = self.instruments[trade.instrument]
        price, size = instrument.price_text(trade.price_ticks), instrument.size_text(trade.size_steps)
        ids = f'"f":{trade.first_id},"l":{trade.last_id}'
        tail = f'{ids},"T":{trade.time_ms},"m":{_boolean(trade.buyer_is_maker)}'
        if self._is_spot:
            text = (
                f'{{"e":"aggTrade","E":{event_ms},"s":"{instrument.symbol}","a":{aggregate_id},'
                f'"p":"{price}","q":"{size}",{tail},"M":true}}'
            )
        else:
            text = (
                f'{{"e":"aggTrade","E":{event_ms},"a":{aggregate_id},"s":"{instrument.symbol}",'
                f'"p":"{price}","q":"{size}","nq":"{size}",{tail},"st":{_SYMBOL_TYPE[self.market]}}}'
            )
        return text.encode()

    def kline(self, stream: Stream, candle: Candle, open_ms: int, event_ms: int, *, closed: bool) -> bytes:
        # `closed` is the flag x of `@kline_<interval>`.
        instrument = self.instruments[stream.instrument]
        price, size, amount = self._decimals(instrument)
        symbol, interval = instrument.symbol, stream.interval
        close_ms = interval_end_ms(interval, open_ms) - 1
        return (
            f'{{"e":"kline","E":{event_ms},"s":"{symbol}","k":{{"t":{open_ms},"T":{close_ms},"s":"{symbol}",'
            f'"i":"{interval}","f":{candle.first_id},"L":{candle.last_id},'
            f'"o":"{candle.open:{price}}","c":"{candle.close:{price}}",'
            f'"h":"{candle.high:{price}}","l":"{candle.low:{price}}",'
            f'"v":"{candle.volume:{size}}","n":{candle.trade_count},"x":{_boolean(closed)},'
            f'"q":"{candle.amount:{amount}}","V":"{candle.taker_volume:{size}}",'
            f'"Q":"{candle.taker_amount:{amount}}","B":"0"}}}}'
        ).encode()

    def quote(self, stream: Stream, book: Book, event_ms: int) -> bytes:
        # Spot's `@bookTicker` carries neither "e" nor a time.
        instrument = self.instruments[stream.instrument]
        symbol = instrument.symbol
        quotes = (
            f'"b":"{instrument.price_text(book.bid_ticks)}","B":"{instrument.size_text(book.bid_steps)}",'
            f'"a":"{instrument.price_text(book.ask_ticks)}","A":"{instrument.size_text(book.ask_steps)}"'
        )
        if self._is_spot:
            return f'{{"u":{book.update_id},"s":"{symbol}",{quotes}}}'.encode()
        pair = symbol.partition("_")[0]
        return (
            f'{{"e":"bookTicker","u":{book.update_id},"s":"{symbol}",{quotes},"T":{event_ms},"E":{event_ms},'
            f'"ps":"{pair}","st":{_SYMBOL_TYPE[self.market]}}}'
        ).encode()

    def ticker(self, stream: Stream, day: Candle, *, open_ms: int, book: Book, last_steps: int, event_ms: int) -> bytes:
        instrument = self.instruments[stream.instrument]
        price, size, amount = self._decimals(instrument)
        change = day.close - day.open
        percent = _DIVISION.divide(change * 100, day.open)
        if not day.trade_count:
            average = day.close
        elif instrument.contract_size is None:
            average = _DIVISION.divide(day.amount, day.volume)
        else:
            average = _DIVISION.divide(day.volume * instrument.contract_size, day.amount)
        quotes = previous = ""
        if self._is_spot:
            previous = f'"x":"{day.open:{price}}",'
            quotes = (
                f'"b":"{instrument.price_text(book.bid_ticks)}","B":"{instrument.size_text(book.bid_steps)}",'
                f'"a":"{instrument.price_text(book.ask_ticks)}","A":"{instrument.size_text(book.ask_steps)}",'
            )
        return (
            f'{{"e":"24hrTicker","E":{event_ms},"s":"{instrument.symbol}","p":"{change:{price}}",'
            f'"P":"{percent:.3f}","w":"{average:{price}}",{previous}"c":"{day.close:{price}}",'
            f'"Q":"{instrument.size_text(last_steps)}",{quotes}"o":"{day.open:{price}}",'
            f'"h":"{day.high:{price}}","l":"{day.low:{price}}","v":"{day.volume:{size}}",'
            f'"q":"{day.amount:{amount}}","O":{open_ms},"C":{event_ms},'
            f'"F":{day.first_id},"L":{day.last_id},"n":{day.trade_count}}}'
        ).encode()

    def _decimals(self, instrument: SimulatedInstrument) -> tuple[str, str, str]:
        """Format specs of price, size and amount."""
        fixed = instrument.text_decimals
        price = instrument.price_decimals if fixed is None else fixed
        size = instrument.size_decimals if fixed is None else fixed
        return f".{price}f", f".{size}f", f".{instrument.amount_decimals}f"


def _boolean(value: bool) -> str:
    return "true" if value else "false"
