"""Binance's dialect, the outgoing half: stream names, and the messages of each stream as Binance writes them.

Source: https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams and, for the futures,
https://developers.binance.com/docs/derivatives (websocket market streams); key order as in recorded messages.
Units: times in ms since the Unix epoch; numbers are text with the fixed decimals of the market.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import ROUND_HALF_EVEN, Context
from typing import NamedTuple

from fastbars.simulator.candles import INTERVALS, Candle, interval_end_ms
from fastbars.simulator.instruments import SimulatedInstrument
from fastbars.simulator.market import Book, SimulatedTrade

__all__ = ["AggregateTrade", "BinanceDialect", "Stream", "aggregate", "wrapped"]

_CHANNELS = ("trade", "aggTrade", "bookTicker", "ticker")
_DIVISION = Context(prec=50, rounding=ROUND_HALF_EVEN)  # for the ticker's percent and weighted average only
_SYMBOL_TYPE = {"usdm": 1, "coinm": 2}  # "st"; 1 was seen on USD-M, 2 is assumed


class Stream(NamedTuple):
    """A stream that the exchange has: name, the symbol's place in the list, channel, kline interval."""

    name: str
    instrument: int
    channel: str
    interval: str


class AggregateTrade(NamedTuple):
    """Trades of one symbol that followed each other in one ms, at one price, from one side."""

    instrument: int
    first_id: int
    last_id: int
    time_ms: int
    price_ticks: int
    size_steps: int
    buyer_is_maker: bool


def aggregate(trades: Sequence[SimulatedTrade]) -> Iterator[AggregateTrade]:
    """Merge the runs of equal symbol, ms, price and side in a batch of whole milliseconds."""
    run: AggregateTrade | None = None
    for trade in trades:
        if (
            run is not None
            and run.instrument == trade.instrument
            and run.time_ms == trade.time_ms
            and run.price_ticks == trade.price_ticks
            and run.buyer_is_maker == trade.buyer_is_maker
        ):
            run = run._replace(last_id=trade.trade_id, size_steps=run.size_steps + trade.size_steps)
            continue
        if run is not None:
            yield run
        run = AggregateTrade(
            trade.instrument,
            trade.trade_id,
            trade.trade_id,
            trade.time_ms,
            trade.price_ticks,
            trade.size_steps,
            trade.buyer_is_maker,
        )
    if run is not None:
        yield run


def wrapped(stream_name: str, payload: bytes) -> bytes:
    """Put a bare payload into the combined form of `/stream` connections."""
    return b'{"stream":"%b","data":%b}' % (stream_name.encode(), payload)


class BinanceDialect:
    """Names and messages of one market.

    Args:
        market: "spot", "usdm" or "coinm".
        instruments: what the exchange lists; trades name them by their place in it.
    """

    def __init__(self, market: str, instruments: Sequence[SimulatedInstrument]) -> None:
        self._market = market
        self._is_spot = market == "spot"
        self._instruments = instruments
        self._places = {instrument.symbol.lower(): place for place, instrument in enumerate(instruments)}
        self._intervals = INTERVALS if self._is_spot else INTERVALS[1:]  # futures have no 1s klines
        if self._is_spot:
            trade = '{"e":"trade","E":%%d,"s":"%s","t":%%d,"p":"%%s","q":"%%s","T":%%d,"m":%%s,"M":true}'
        else:
            trade = '{"e":"trade","E":%%d,"T":%%d,"s":"%s","t":%%d,"p":"%%s","q":"%%s","X":"MARKET","m":%%s}'
        self._trade_formats = [trade % instrument.symbol for instrument in instruments]

    def find_stream(self, name: str) -> Stream | None:
        """Return the stream of that name, None where the exchange has no such symbol or channel."""
        symbol, _, channel = name.partition("@")
        place = self._places.get(symbol)
        if place is None:
            return None
        if channel in _CHANNELS:
            return Stream(name, place, channel, "")
        channel, _, interval = channel.partition("_")
        if channel == "kline" and interval in self._intervals:
            return Stream(name, place, channel, interval)
        return None

    def trade(self, trade: SimulatedTrade, event_ms: int) -> bytes:
        """Write a `@trade` message."""
        place, trade_id, time_ms, price_ticks, size_steps, buyer_is_maker = trade
        instrument = self._instruments[place]
        price, size = instrument.price_text(price_ticks), instrument.size_text(size_steps)
        maker = "true" if buyer_is_maker else "false"
        if self._is_spot:
            text = self._trade_formats[place] % (event_ms, trade_id, price, size, time_ms, maker)
        else:
            text = self._trade_formats[place] % (event_ms, time_ms, trade_id, price, size, maker)
        return text.encode()

    def aggregate_trade(self, trade: AggregateTrade, aggregate_id: int, event_ms: int) -> bytes:
        """Write an `@aggTrade` message."""
        instrument = self._instruments[trade.instrument]
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
                f'"p":"{price}","q":"{size}","nq":"{size}",{tail},"st":{_SYMBOL_TYPE[self._market]}}}'
            )
        return text.encode()

    def kline(self, stream: Stream, candle: Candle, open_ms: int, event_ms: int, *, closed: bool) -> bytes:
        """Write a `@kline_<interval>` message; `closed` is its flag x."""
        instrument = self._instruments[stream.instrument]
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

    def book_ticker(self, place: int, book: Book, event_ms: int) -> bytes:
        """Write a `@bookTicker` message; spot's carries neither "e" nor a time."""
        instrument = self._instruments[place]
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
            f'"ps":"{pair}","st":{_SYMBOL_TYPE[self._market]}}}'
        ).encode()

    def ticker(self, place: int, day: Candle, *, open_ms: int, book: Book, last_steps: int, event_ms: int) -> bytes:
        """Write a `@ticker` message (24hrTicker).

        Args:
            place: the symbol's place.
            day: candle of the last day.
            open_ms: where that day begins.
            book: best bid and ask.
            last_steps: size of the last trade, 0 before the first.
            event_ms: event time, also the end of the day.
        """
        instrument = self._instruments[place]
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
