"""The running market and who listens to it: turns the passing of time into messages for each subscriber.

No clock and no socket: `advance(now_ms)` trades until then and leaves the messages in the subscribers'
`pending` lists, in the order in which the exchange sends them. Whole seconds are ended one by one, so that
the closing kline of an interval stands behind the last trade of that interval and before the first trade of
the next.

Units: times in ms since the Unix epoch, of the exchange's clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import localcontext

from fastbars.simulator.binance import BinanceDialect, Stream, aggregate, wrapped
from fastbars.simulator.candles import EXACT, CandleBook, interval_end_ms, interval_start_ms
from fastbars.simulator.instruments import SimulatedInstrument
from fastbars.simulator.market import SimulatedMarket, SimulatedTrade

__all__ = ["Publisher", "Subscriber"]


class Subscriber:
    """One client of the exchange.

    Attributes:
        combined: messages are wrapped and name their stream.
        streams: names subscribed to, in order; the values are None for the streams of a tape.
        pending: messages not yet handed to the socket, oldest first.
    """

    __slots__ = ("combined", "pending", "streams")

    def __init__(self, combined: bool) -> None:
        self.combined = combined
        self.streams: dict[str, Stream | None] = {}
        self.pending: list[bytes] = []


class Publisher:
    """A market, its klines, and the subscriptions to both.

    Args:
        market: "spot", "usdm" or "coinm".
        instruments: what is traded.
        rate: trades a second over all symbols.
        seed: same seed, same trades.
        start_ms: when the market opens.

    Attributes:
        trades_generated: all trades since the start, heard or not.
    """

    def __init__(
        self, market: str, instruments: Sequence[SimulatedInstrument], rate: float, seed: int, start_ms: int
    ) -> None:
        self.trades_generated = 0
        self._dialect = BinanceDialect(market, instruments)
        self._market = SimulatedMarket(instruments, rate, seed, start_ms)
        self._candles = [CandleBook(instrument, start_ms) for instrument in instruments]
        self._next_second_ms = interval_end_ms("1s", start_ms)
        self._last_steps = [0] * len(instruments)
        self._next_aggregate_ids = [book.next_trade_id // 2 for book in self._market.books]
        self._listeners: dict[Stream, list[Subscriber]] = {}
        # the two that are looked up for each trade or symbol, by the symbol's place
        self._by_place: dict[str, dict[int, Stream]] = {"trade": {}, "aggTrade": {}, "bookTicker": {}}

    def find_stream(self, name: str) -> Stream | None:
        """Return the stream of that name, None where the exchange does not have it."""
        return self._dialect.find_stream(name)

    def subscribe(self, subscriber: Subscriber, stream: Stream) -> None:
        """Send the stream's messages to the subscriber from now on; once, however often this is asked."""
        if stream.name in subscriber.streams:
            return
        subscriber.streams[stream.name] = stream
        self._listeners.setdefault(stream, []).append(subscriber)
        if stream.channel in self._by_place:
            self._by_place[stream.channel][stream.instrument] = stream

    def unsubscribe(self, subscriber: Subscriber, name: str) -> None:
        """Send nothing more of the stream to the subscriber; nothing happens where it had none."""
        stream = subscriber.streams.pop(name, None)
        if stream is None:
            return
        self._listeners[stream].remove(subscriber)
        if not self._listeners[stream]:
            del self._listeners[stream]
            if stream.channel in self._by_place:
                del self._by_place[stream.channel][stream.instrument]

    def advance(self, now_ms: int) -> None:
        """Trade until before `now_ms` and leave the messages with the subscribers."""
        with localcontext(EXACT):
            while self._next_second_ms <= now_ms:
                self._trade(self._market.advance(self._next_second_ms), now_ms)
                self._end_second(self._next_second_ms, now_ms)
                self._next_second_ms += 1000
            self._trade(self._market.advance(now_ms), now_ms)

    def _trade(self, trades: list[SimulatedTrade], event_ms: int) -> None:
        self.trades_generated += len(trades)
        candles, last_steps, streams = self._candles, self._last_steps, self._by_place["trade"]
        for trade in trades:
            place = trade.instrument
            candles[place].add(trade)
            last_steps[place] = trade.size_steps
            stream = streams.get(place)
            if stream is not None:
                self._send(stream, self._dialect.trade(trade, event_ms))
        streams = self._by_place["aggTrade"]
        if streams:
            for run in aggregate(trades):
                aggregate_id = self._next_aggregate_ids[run.instrument]
                self._next_aggregate_ids[run.instrument] += 1
                stream = streams.get(run.instrument)
                if stream is not None:
                    self._send(stream, self._dialect.aggregate_trade(run, aggregate_id, event_ms))
        streams = self._by_place["bookTicker"]
        if streams:
            for place in dict.fromkeys(trade.instrument for trade in trades):
                stream = streams.get(place)
                if stream is not None:
                    book = self._market.books[place]
                    self._send(stream, self._dialect.book_ticker(place, book, event_ms))

    def _end_second(self, boundary_ms: int, event_ms: int) -> None:
        last_ms = boundary_ms - 1
        for stream in self._listeners:
            place = stream.instrument
            if stream.channel == "kline":
                closed = interval_end_ms(stream.interval, last_ms) == boundary_ms
                # every 2 s, half of the symbols in odd seconds, so that they do not all come at once
                if closed or (boundary_ms // 1000 + place) % 2 == 0:
                    candle = self._candles[place].running(stream.interval)
                    open_ms = interval_start_ms(stream.interval, last_ms)
                    self._send(stream, self._dialect.kline(stream, candle, open_ms, event_ms, closed=closed))
            elif stream.channel == "ticker":
                open_ms, day = self._candles[place].last_day(last_ms)
                book = self._market.books[place]
                steps = self._last_steps[place]
                message = self._dialect.ticker(
                    place, day, open_ms=open_ms, book=book, last_steps=steps, event_ms=event_ms
                )
                self._send(stream, message)
        for candles in self._candles:
            candles.end_second(boundary_ms)

    def _send(self, stream: Stream, payload: bytes) -> None:
        for subscriber in self._listeners[stream]:
            subscriber.pending.append(wrapped(stream.name, payload) if subscriber.combined else payload)
