"""The running market and its subscribers: turns the passage of time into messages for each of them.

No clock and no socket: `advance(now_ms)` trades until then and appends the messages to the subscribers' `pending`
lists, in the order in which the exchange sends them. Whole seconds are ended one by one, so that the closing kline of
an interval comes after the last trade of that interval and before the first trade of the next.

Units: times in ms since the Unix epoch, of the exchange's clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from decimal import localcontext

from fastbars.simulator.candles import EXACT, CandleBook, interval_end_ms, interval_start_ms
from fastbars.simulator.dialect import DayStatistics, Dialect, Stream, Subscriber
from fastbars.simulator.market import SimulatedMarket, SimulatedTrade, merge_runs
from fastbars.simulator.record import Record, TradeMessage

__all__ = ["Publisher", "Subscriber"]


class Publisher:
    """A market, its klines, and the subscriptions to both.

    Args:
        dialect: how messages are written.
        market: the source of trades; void ids are sent on the trade channel only.
        start_ms: when the market opens.
        record: keeps every trade and every candle of a second; None: nothing is recorded.

    Attributes:
        trades_generated: all trades since the start, whether or not any client received them.
        event_offset_ms: by how much event times are off the market's clock.
    """

    def __init__(self, dialect: Dialect, market: SimulatedMarket, start_ms: int, record: Record | None = None) -> None:
        instruments = dialect.instruments
        self.trades_generated = 0
        self.event_offset_ms = 0
        self._dialect = dialect
        self._market = market
        self._record = record
        self._candles = [CandleBook(instrument, start_ms) for instrument in instruments]
        self._next_second_ms = interval_end_ms("1s", start_ms)
        self._last_steps = [0] * len(instruments)
        self._next_aggregate_ids = [book.next_trade_id // 2 for book in self._market.books]
        # Trades that were sent, or would have been. Those in `_waiting` are not in it: a new subscriber gets them live.
        self._past: list[deque[SimulatedTrade]] = [deque(maxlen=dialect.history) for _ in instruments]
        self._waiting: dict[int, list[SimulatedTrade]] = {}  # for the next batch, by symbol
        self._next_batch_ms = start_ms
        self._listeners: dict[Stream, list[Subscriber]] = {}
        # Streams that are looked up for each trade or symbol, by the symbol's place.
        self._by_place: dict[str, dict[int, Stream]] = {"trade": {}, "aggTrade": {}, "quote": {}}

    def subscribe(self, subscriber: Subscriber, stream: Stream, now_ms: int = 0, *, with_history: bool = True) -> None:
        """Send the stream's messages to the subscriber from now on, after past trades if the exchange sends them.

        Idempotent.
        """
        subscriber.muted.discard(stream.name)
        if stream.name in subscriber.streams:
            return
        subscriber.streams[stream.name] = stream
        if with_history and stream.channel == "trade" and self._past[stream.instrument]:
            past = list(self._past[stream.instrument])
            payload = self._dialect.trades(stream, past, now_ms + self.event_offset_ms, past=True)
            subscriber.pending.append(self._with_trades(stream, past, now_ms, payload))
        self._listeners.setdefault(stream, []).append(subscriber)
        if stream.channel in self._by_place:
            self._by_place[stream.channel][stream.instrument] = stream

    def unsubscribe(self, subscriber: Subscriber, name: str) -> None:
        """Stop sending the stream to the subscriber, if it had it."""
        subscriber.muted.discard(name)
        stream = subscriber.streams.pop(name, None)
        if stream is None:
            return
        self._listeners[stream].remove(subscriber)
        if not self._listeners[stream]:
            del self._listeners[stream]
            if stream.channel in self._by_place:
                del self._by_place[stream.channel][stream.instrument]

    def advance(self, now_ms: int) -> None:
        """Trade up to, but not including, `now_ms` and queue the messages of subscribers."""
        event_ms = now_ms + self.event_offset_ms
        # Trades of a second, then its end, then the next second: however late this is called, the order is the same.
        with localcontext(EXACT):
            while self._next_second_ms <= now_ms:
                self._trade(self._market.advance(self._next_second_ms), event_ms)
                self._end_second(self._next_second_ms, event_ms)
                self._next_second_ms += 1000
            self._trade(self._market.advance(now_ms), event_ms)
        if now_ms >= self._next_batch_ms:
            self._next_batch_ms = now_ms + self._dialect.batch_ms
            waiting, self._waiting = self._waiting, {}
            most = self._dialect.trades_per_message
            for place, trades in waiting.items():
                self._past[place].extend(trade for trade in trades if trade.size_steps)
                if self._dialect.is_sampled and self._record is not None:
                    self._record.note_sample(trades[-1], event_ms)
                stream = self._by_place["trade"].get(place)
                if stream is not None:
                    for start in range(0, len(trades), most):
                        self._send_trades(stream, trades[start : start + most], event_ms)

    def renew_ids(self, place: int, first_id: int | None) -> None:
        """Let the ids of a symbol begin anew; None: far above those before."""
        book = self._market.books[place]
        book.next_trade_id = book.next_trade_id + 10**6 if first_id is None else first_id
        if self._record is not None:
            self._record.note_renewal(place, book.next_trade_id)

    def _trade(self, made: list[SimulatedTrade], event_ms: int) -> None:
        trades = [trade for trade in made if trade.size_steps]
        self.trades_generated += len(trades)
        # Added to its candle before it is sent, so that a candle holds every trade sent before it.
        candles, last_steps, streams = self._candles, self._last_steps, self._by_place["trade"]
        one_by_one = self._dialect.trades_per_message == 1
        for trade in made:
            place = trade.instrument
            if trade.size_steps:
                candles[place].add(trade)
                last_steps[place] = trade.size_steps
            if not one_by_one:
                self._waiting.setdefault(place, []).append(trade)
                continue
            self._past[place].append(trade)
            stream = streams.get(place)
            if stream is not None:
                self._send_trades(stream, [trade], event_ms)
        if self._record is not None:
            self._record.note_trades(made)
        self._send_aggregates(trades, event_ms)
        streams = self._by_place["quote"]
        if streams:
            for place in dict.fromkeys(trade.instrument for trade in trades):
                stream = streams.get(place)
                if stream is not None:
                    self._send(stream, self._dialect.quote(stream, self._market.books[place], event_ms))

    def _send_aggregates(self, trades: Sequence[SimulatedTrade], event_ms: int) -> None:
        # Numbered even without subscribers, so that a client that was disconnected can see that it missed some.
        streams, next_ids, record = self._by_place["aggTrade"], self._next_aggregate_ids, self._record
        at = 0
        for run in merge_runs(trades):
            first, at = at, next(place for place in range(at, len(trades)) if trades[place].trade_id == run.last_id) + 1
            trade = run._replace(aggregate_id=next_ids[run.instrument])
            next_ids[run.instrument] += 1
            if record is not None:
                record.note_aggregate(trade)
            stream = streams.get(run.instrument)
            if stream is not None:
                payload = self._dialect.aggregate_trade(stream, trade, event_ms)
                self._send(stream, self._with_trades(stream, trades[first:at], event_ms, payload))

    def _end_second(self, boundary_ms: int, event_ms: int) -> None:
        last_ms = boundary_ms - 1
        for stream in self._listeners:
            place = stream.instrument
            if stream.channel == "kline":
                closed = interval_end_ms(stream.interval, last_ms) == boundary_ms
                # Every 2 s; half of the symbols in odd seconds, so that they do not all come at once.
                if closed or (boundary_ms // 1000 + place) % 2 == 0:
                    candle = self._candles[place].running(stream.interval)
                    open_ms = interval_start_ms(stream.interval, last_ms)
                    message = self._dialect.kline(stream, candle, open_ms, event_ms, closed=closed)
                    if message is not None:
                        self._send(stream, message)
            elif stream.channel == "ticker":
                open_ms, candle = self._candles[place].last_day(last_ms)
                day = DayStatistics(open_ms, candle, self._market.books[place], self._last_steps[place])
                self._send(stream, self._dialect.ticker(stream, day, event_ms))
        for place, candles in enumerate(self._candles):
            if self._record is not None:
                self._record.note_second(place, boundary_ms - 1000, candles.running("1s"))
            candles.end_second(boundary_ms)

    def _send_trades(self, stream: Stream, trades: list[SimulatedTrade], event_ms: int) -> None:
        payload = self._dialect.trades(stream, trades, event_ms)
        self._send(stream, self._with_trades(stream, trades, event_ms, payload))

    # With its trades attached, for the record and for faults that remove one.
    def _with_trades(self, stream: Stream, trades: Sequence[SimulatedTrade], event_ms: int, payload: bytes) -> bytes:
        if self._record is None:
            return payload
        return TradeMessage.of(payload, stream, trades[-1:] if self._dialect.is_sampled else trades, event_ms)

    def _send(self, stream: Stream, payload: bytes) -> None:
        for subscriber in self._listeners[stream]:
            if stream.name in subscriber.muted:
                continue
            if subscriber.combined:
                wrapped = self._dialect.wrap(stream, payload)
                payload_trades = payload if isinstance(payload, TradeMessage) else None
                subscriber.pending.append(wrapped if payload_trades is None else payload_trades.rewritten(wrapped))
            else:
                subscriber.pending.append(payload)
