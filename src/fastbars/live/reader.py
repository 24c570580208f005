"""MessageReader: reads the messages that the scanner did not take, one by one, and passes on their contents.

Messages that cannot be read are counted, logged (the 1st, 2nd, 4th, 8th, ... of a kind) and skipped; what trades they
may have had is a loss, and the bars say so:

    what cannot be read                             is a loss
    a trade, alone or among others                  of its symbol, at its time
    ... nor its time, or that is garbage            of its symbol, when the message was sent; else now
    ... nor its symbol; a message that is no JSON;  of all that its connection alone carries, from one grace before the
    one that may be of trades, and is malformed     message was sent (else before now) until then
Units: times int64 nanoseconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from fastbars.bars import ExchangeBar, OHLCVBar
from fastbars.errors import ParseError
from fastbars.events import Quote, Ticker
from fastbars.exchanges.checked import BROKEN, LATEST_NS, read_with
from fastbars.exchanges.declaration import Exchange
from fastbars.exchanges.messages import (
    Ack,
    Heartbeat,
    Message,
    Notice,
    RawMessage,
    Refusal,
    RefusedTrade,
    TokenWanted,
    Trade,
)
from fastbars.live.admission import Admission
from fastbars.live.callbacks import Notifier
from fastbars.live.connections.never_heard import CandleCount
from fastbars.live.stats import SessionStats
from fastbars.log import SparseLog
from fastbars.ticks import TickData

_SHOWN_BYTES = 200  # of a message in a log
_NOT_DATA = ("control", "unknown", "parse_errors")

Control = Ack | Refusal | Notice | Heartbeat | TokenWanted


@dataclass(slots=True)
class Received:
    """Result of one batch of messages.

    Attributes:
        bars: those that were issued.
        control: acks, refusals, notices and heartbeats, for the connection.
        errors: messages that could not be read.
        data_messages: messages that were data and could be read; they prove that the connection is alive.
    """

    bars: list[OHLCVBar] = field(default_factory=list)
    control: list[Control] = field(default_factory=list)
    errors: int = 0
    data_messages: int = 0


class MessageReader:
    """Reads the messages of one session.

    Args:
        exchange: says what they mean.
        admission: takes the trades.
        notifier: calls the user's callbacks with everything else.
        counters: every message is counted once, by its kind.
        warnings: of what cannot be read.
        parse_message: a user's own parser, used for trades instead of the exchange's.

    Attributes:
        candles: how many came of each subscription.
    """

    def __init__(
        self,
        exchange: Exchange,
        admission: Admission,
        notifier: Notifier,
        counters: SessionStats,
        warnings: SparseLog,
        parse_message: Callable[[dict[str, Any]], TickData | None] | None = None,
    ) -> None:
        self.candles = CandleCount(exchange.candles)
        self.parse_message = parse_message
        self._exchange = exchange
        self._read = exchange.reader()
        self._admission = admission
        self._notifier = notifier
        self._counters = counters
        self._warnings = warnings

    def read(self, payload: bytes, received: Received) -> int | None:
        """Read one message; returns the time at which it was sent, ns; None if it carries none."""
        counters = self._counters
        counters.bytes += len(payload)
        try:
            message = self._exchange.loads(payload)
        except Exception as error:  # noqa: BLE001 whatever it is, RecursionError too, the next message may be good
            self._skip("invalid_json", error, payload, received)
            counters.invalid_json += 1
            self._admission.wakeup.sent_ns = None
            self._admission.lose_any()
            return None
        sent_ns = self._admission.wakeup.sent_ns = self._sent_ns(message)
        try:
            kind = self._dispatch(message, payload, received)
            setattr(counters, kind, getattr(counters, kind) + 1)
            received.data_messages += kind not in _NOT_DATA
            if kind == "unknown":
                self._warnings.warn("unknown_message", payload=ascii(payload[:_SHOWN_BYTES]))
        except BROKEN as error:
            self._skip("parse_error", error, payload, received)
            counters.parse_errors += 1
            if self.parse_message is not None or not self._has_trade_reader:
                self._admission.lose_any()
        return sent_ns

    def _sent_ns(self, message: Any) -> int | None:
        try:
            time_ns = read_with(self._exchange.event_time_ns, message)
        except BROKEN:
            return None  # whatever else is wrong with the message is found when it is read
        return time_ns if time_ns is not None and 0 <= time_ns <= LATEST_NS else None

    @property
    def _has_trade_reader(self) -> bool:
        # Then what `parse` reads has no trades of the channel that bars are made from.
        channel = self._admission.channel or self._exchange.default_channel
        return any(reader.channel == channel for reader in self._exchange.trade_readers)

    def _dispatch(self, message: Any, payload: bytes, received: Received) -> str:
        # Passes on every item of a message. Returns the name of its counter: of several items, the first's.
        if self.parse_message is not None and isinstance(message, dict):
            tick = read_with(self.parse_message, message)
            if tick is not None:
                tick = self._under_subscribed_name(tick, message)
                if tick is not None:
                    self._admission.take_tick(tick)
                return "trade_messages"
        kinds: list[str] = []
        refused: Exception | None = None
        for item in read_with(self._read, message):
            try:
                if isinstance(item, RefusedTrade):
                    raise ParseError(item.reason)
                kinds.append(self._dispatch_item(item, received))
            except BROKEN as error:  # the other items of the message may be good
                refused = error
                if isinstance(item, RefusedTrade):
                    self._admission.refuse(item)
                elif isinstance(item, Trade):
                    self._admission.refuse(RefusedTrade(*item[:3], str(error)))
        if refused is not None:
            self._skip("parse_error", refused, payload, received)
            return kinds[0] if kinds else "parse_errors"
        if not kinds:
            self._notifier.notify_message(RawMessage("unknown", None, message))
            return "unknown"
        return kinds[0]

    def _dispatch_item(self, item: Message, received: Received) -> str:
        now_ns = self._admission.wakeup.receive_time_ns
        if self._admission.roster is not None:
            item = self._admission.roster.renamed(item)
        if isinstance(item, Trade):
            if self.parse_message is not None:  # it has declined this message
                return "ignored"
            return "trade_messages" if self._admission.take_trade(item) else "other_trade_messages"
        if isinstance(item, Quote | RawMessage) and self._exchange.acks == "none":
            self._admission.note_sign(item)
        if isinstance(item, ExchangeBar):
            self.candles.add(item)
            exchange, market = self._exchange.identity
            self._notifier.notify_exchange_bar(replace(item, exchange=exchange, market=market), now_ns)
            return "exchange_bars"
        if isinstance(item, Quote | Ticker):
            self._notifier.notify_event(item, now_ns)
            return "quotes" if isinstance(item, Quote) else "tickers"
        if isinstance(item, RawMessage):
            self._notifier.notify_message(item)
            return "raw"
        if not isinstance(item, RefusedTrade):
            received.control.append(item)
        return "control"

    def _under_subscribed_name(self, tick: TickData, message: Any) -> TickData | None:
        # A user's parser may have names of its own for symbols; subscriptions use those of the exchange.
        roster = self._admission.roster
        if roster is None or roster.symbol_of(tick.symbol) == tick.symbol:
            return tick
        try:
            items = read_with(self._exchange.read, message)
            names = [item.symbol for item in items if isinstance(item, Trade)]
        except BROKEN:
            names = []
        name = names[0] if names else tick.symbol
        symbol = self._admission.subscribed_name(name)
        if symbol is None or name != tick.symbol:
            return None if symbol is None else tick
        return TickData(
            symbol, tick.time_ns, tick.price, tick.volume, tick.side, tick.trade_id, tick.last_trade_id,
            tick.trade_count, negative_prices=True,
        )  # fmt: skip

    def _skip(self, kind: str, error: Exception, payload: bytes, received: Received) -> None:
        received.errors += 1
        text = ascii(payload[:_SHOWN_BYTES])
        self._warnings.warn(kind, error=f"{type(error).__name__}: {error}", payload=text)
