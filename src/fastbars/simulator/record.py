"""The ground truth of a simulated exchange: every trade, and what was sent on each connection, for tests.

Units: `_s` times on the machine's steady clock, `_ms` since the Unix epoch on the exchange's.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple, Self

from fastbars.simulator.candles import EXACT, Candle
from fastbars.simulator.dialect import Stream
from fastbars.simulator.instruments import SimulatedInstrument
from fastbars.simulator.market import AggregateTrade, SimulatedTrade

__all__ = ["ConnectionEvent", "ConnectionRecord", "Record", "RecordedTrade", "SimulatorStats", "TradeMessage"]


@dataclass
class SimulatorStats:
    """Counters since the exchange was started.

    Attributes:
        trades_generated: trades of the synthetic market, whether or not any client received them.
        messages_sent: market data messages sent, summed over clients.
        connections_accepted: opening handshakes that succeeded.
        commands: messages received from clients, refused ones too.
    """

    trades_generated: int = 0
    messages_sent: int = 0
    connections_accepted: int = 0
    commands: int = 0


class TradeMessage(bytes):
    """A message of the trade channel together with the trades in it."""

    stream: Stream
    trades: Sequence[SimulatedTrade]
    event_ms: int
    unfit: int | None = None  # id of a trade in it that was written with too many decimals

    @classmethod
    def of(cls, payload: bytes, stream: Stream, trades: Sequence[SimulatedTrade], event_ms: int) -> Self:
        """Attach trades to a payload."""
        message = cls(payload)
        message.stream, message.trades, message.event_ms = stream, tuple(trades), event_ms
        return message

    def rewritten(self, payload: bytes) -> TradeMessage:
        """Another payload with the same trades."""
        message = TradeMessage.of(payload, self.stream, self.trades, self.event_ms)
        message.unfit = self.unfit
        return message


class RecordedTrade(NamedTuple):
    """One trade of the market."""

    trade_id: int
    time_ms: int
    price: Decimal
    size: Decimal
    buyer_is_maker: bool


class ConnectionEvent(NamedTuple):
    """Something that happened on a connection.

    Attributes:
        at_ms: when.
        what: "carried": from now on the symbol's trades are sent; "acked": the answer to a request that named it was
            sent; "ended": its trades are no longer sent; "opened"; "left" where the client closed it, else "closed"; or
            the name of a fault.
        symbol: "": all of the connection.
    """

    at_ms: int
    what: str
    symbol: str = ""


@dataclass
class ConnectionRecord:
    """One connection.

    Attributes:
        number: counts from 0 in the order of the handshakes.
        path: of the handshake.
        opened_s, closed_s: closed_s is None while it is open.
        requests: (when, what the client sent).
        subscribed: name of a stream -> when it was first requested.
        most_streams: largest number held at the same time.
        sent: symbol -> ids of the trades sent, in order, each as often as it was sent. sent_ms: when each was.
        unfit: symbol -> ids of the trades sent with a price that no bar can hold.
        events: what happened on it, in order.
        dropped: symbol -> ids of the trades that a fault removed.
    """

    number: int
    path: str
    opened_s: float
    closed_s: float | None = None
    requests: list[tuple[float, bytes]] = field(default_factory=list)
    subscribed: dict[str, float] = field(default_factory=dict)
    most_streams: int = 0
    sent: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    dropped: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    sent_ms: dict[str, array[int]] = field(default_factory=lambda: defaultdict(lambda: array("q")))
    unfit: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    events: list[ConnectionEvent] = field(default_factory=list)


class Record:
    """Everything that the exchange traded and sent.

    Args:
        instruments: those traded.
        now_ms: the exchange's clock.

    Attributes:
        connections: in the order of their handshakes.
        refused: (when, HTTP status) of each refused handshake.
        renewals: symbol -> (when, the first new id) each time its ids began anew.
        samples: (symbol, when, trade) of each sample that was sent, or would have been to whoever had subscribed; of
            exchanges that send samples only.
    """

    def __init__(self, instruments: Sequence[SimulatedInstrument], now_ms: Callable[[], int] = lambda: 0) -> None:
        self.connections: list[ConnectionRecord] = []
        self.refused: list[tuple[float, int]] = []
        self.renewals: dict[str, list[tuple[int, int]]] = {instrument.symbol: [] for instrument in instruments}
        self.samples: list[tuple[str, int, SimulatedTrade]] = []
        self.now_ms = now_ms
        self._instruments = instruments
        self._trades: dict[str, list[SimulatedTrade]] = {instrument.symbol: [] for instrument in instruments}
        self._served: dict[str, list[SimulatedTrade]] = {instrument.symbol: [] for instrument in instruments}
        self._aggregates: dict[str, list[AggregateTrade]] = {instrument.symbol: [] for instrument in instruments}
        self._voids: dict[str, dict[int, int]] = {instrument.symbol: {} for instrument in instruments}
        self._seconds: dict[str, dict[int, Candle]] = {instrument.symbol: {} for instrument in instruments}

    def note_trades(self, trades: Sequence[SimulatedTrade]) -> None:
        """Note trades of the market."""
        for trade in trades:
            symbol = self._instruments[trade.instrument].symbol
            if trade.size_steps:
                self._trades[symbol].append(trade)
                self._served[symbol].append(trade)
            else:
                self._voids[symbol][trade.trade_id] = trade.time_ms

    def note_aggregate(self, trade: AggregateTrade) -> None:
        """Note an aggregate trade."""
        self._aggregates[self._instruments[trade.instrument].symbol].append(trade)

    def note_second(self, place: int, open_ms: int, candle: Candle) -> None:
        """Note the candle of a second that has ended, unless it is without trades."""
        if candle.trade_count:
            self._seconds[self._instruments[place].symbol][open_ms] = candle

    def add_connection(self, path: str, opened_s: float) -> ConnectionRecord:
        """Begin the record of a connection."""
        connection = ConnectionRecord(len(self.connections), path, opened_s)
        self.note_event(connection, "opened")
        self.connections.append(connection)
        return connection

    def note_sent(self, connection: ConnectionRecord, message: bytes) -> None:
        """Note a message that was sent."""
        if isinstance(message, TradeMessage):
            symbol = self._instruments[message.stream.instrument].symbol
            ids = [trade.trade_id for trade in message.trades if trade.size_steps]
            connection.sent[symbol].extend(ids)
            connection.sent_ms[symbol].extend([self.now_ms()] * len(ids))
            if message.unfit is not None:
                connection.unfit[symbol].append(message.unfit)

    def note_event(self, connection: ConnectionRecord, what: str, stream: Stream | None = None) -> None:
        """Note what happened on a connection, to one stream of trades or to all."""
        if stream is None:
            connection.events.append(ConnectionEvent(self.now_ms(), what))
        elif stream.channel in ("trade", "aggTrade"):
            symbol = self._instruments[stream.instrument].symbol
            connection.events.append(ConnectionEvent(self.now_ms(), what, symbol))

    def note_renewal(self, place: int, first_id: int) -> None:
        """Note that the ids of a symbol begin anew; of the trades before, none is served any more where ids fall."""
        symbol = self._instruments[place].symbol
        self.renewals[symbol].append((self.now_ms(), first_id))
        served = self._served[symbol]
        if served and first_id <= served[-1].trade_id:
            served.clear()

    def note_sample(self, trade: SimulatedTrade, event_ms: int) -> None:
        """Note a sample."""
        self.samples.append((self._instruments[trade.instrument].symbol, event_ms, trade))

    def note_dropped(self, connection: ConnectionRecord, trade: SimulatedTrade) -> None:
        """A fault took a trade away."""
        if trade.size_steps:
            connection.dropped[self._instruments[trade.instrument].symbol].append(trade.trade_id)

    def history(self, symbol: str) -> list[SimulatedTrade]:
        """The trades of a symbol so far that the exchange still serves, by id, as the market made them."""
        return self._served[symbol]

    def aggregates(self, symbol: str) -> list[AggregateTrade]:
        """All aggregate trades of a symbol so far, by id."""
        return self._aggregates[symbol]

    def trades(self, symbol: str) -> list[RecordedTrade]:
        """All trades of a symbol, in order."""
        grids = {instrument.symbol: instrument for instrument in self._instruments}
        tick, step = grids[symbol].tick_size, grids[symbol].step_size
        return [
            RecordedTrade(
                t.trade_id,
                t.time_ms,
                EXACT.multiply(tick, t.price_ticks),
                EXACT.multiply(step, t.size_steps),
                t.buyer_is_maker,
            )
            for t in self._trades[symbol]
        ]

    def voids(self, symbol: str) -> dict[int, int]:
        """Void id -> time in ms: ids used up without a trade; they are in no other list."""
        return self._voids[symbol]

    def seconds(self, symbol: str) -> dict[int, Candle]:
        """Open time in ms -> the candle of each second with trades, in plain Decimal, as the exchange computed it."""
        return self._seconds[symbol]

    def sent(self, symbol: str) -> set[int]:
        """Ids of the trades of a symbol that were sent on any connection."""
        return {number for connection in self.connections for number in connection.sent.get(symbol, ())}
