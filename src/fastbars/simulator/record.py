"""The ground truth of a simulated exchange: every trade, and what was sent on each connection, for tests.

Units: `_s` times on the machine's steady clock, `_ms` since the Unix epoch on the exchange's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple, Self

from fastbars.simulator.candles import EXACT, Candle
from fastbars.simulator.dialect import Stream
from fastbars.simulator.instruments import SimulatedInstrument
from fastbars.simulator.market import AggregateTrade, SimulatedTrade

__all__ = ["ConnectionRecord", "Record", "RecordedTrade", "SimulatorStats", "TradeMessage"]


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

    @classmethod
    def of(cls, payload: bytes, stream: Stream, trades: Sequence[SimulatedTrade], event_ms: int) -> Self:
        """Attach trades to a payload."""
        message = cls(payload)
        message.stream, message.trades, message.event_ms = stream, tuple(trades), event_ms
        return message

    def rewritten(self, payload: bytes) -> TradeMessage:
        """Another payload with the same trades."""
        return TradeMessage.of(payload, self.stream, self.trades, self.event_ms)


class RecordedTrade(NamedTuple):
    """One trade of the market."""

    trade_id: int
    time_ms: int
    price: Decimal
    size: Decimal
    buyer_is_maker: bool


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
        sent: symbol -> ids of the trades sent, in order, each as often as it was sent.
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


class Record:
    """Everything that the exchange traded and sent.

    Args:
        instruments: those traded.

    Attributes:
        connections: in the order of their handshakes.
        refused: (when, HTTP status) of each refused handshake.
    """

    def __init__(self, instruments: Sequence[SimulatedInstrument]) -> None:
        self.connections: list[ConnectionRecord] = []
        self.refused: list[tuple[float, int]] = []
        self._instruments = instruments
        self._trades: dict[str, list[SimulatedTrade]] = {instrument.symbol: [] for instrument in instruments}
        self._aggregates: dict[str, list[AggregateTrade]] = {instrument.symbol: [] for instrument in instruments}
        self._voids: dict[str, dict[int, int]] = {instrument.symbol: {} for instrument in instruments}
        self._seconds: dict[str, dict[int, Candle]] = {instrument.symbol: {} for instrument in instruments}

    def note_trades(self, trades: Sequence[SimulatedTrade]) -> None:
        """Note trades of the market."""
        for trade in trades:
            symbol = self._instruments[trade.instrument].symbol
            if trade.size_steps:
                self._trades[symbol].append(trade)
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
        self.connections.append(connection)
        return connection

    def note_sent(self, connection: ConnectionRecord, message: bytes) -> None:
        """Note a message that was sent."""
        if isinstance(message, TradeMessage):
            symbol = self._instruments[message.stream.instrument].symbol
            connection.sent[symbol].extend(trade.trade_id for trade in message.trades if trade.size_steps)

    def note_dropped(self, connection: ConnectionRecord, trade: SimulatedTrade) -> None:
        """A fault took a trade away."""
        if trade.size_steps:
            connection.dropped[self._instruments[trade.instrument].symbol].append(trade.trade_id)

    def history(self, symbol: str) -> list[SimulatedTrade]:
        """All trades of a symbol so far, by id, as the market made them."""
        return self._trades[symbol]

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
