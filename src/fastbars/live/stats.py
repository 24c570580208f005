"""StreamStats: the counters of a stream, of one connection or of several together. Units: as the names say."""

from __future__ import annotations

from dataclasses import dataclass

from fastbars.buffer import BufferStats
from fastbars.live.session import SessionStats
from fastbars.live.states import ConnectionState


@dataclass(frozen=True, slots=True)
class StreamStats:
    """A snapshot of every counter of a stream.

    Attributes:
        state: of the connection.
        session: what was received.
        buffer: what became of the trades.
        connections: handshakes that succeeded.
        latency_s: round trip of the last answered ping, s; 0 before the first.
        event_time_ns: latest event time of the exchange, ns; None before the first.
        pauses: times that reading was paused for a slow consumer.
        breaker_trips: times that the circuit breaker dropped the connection.
        handovers: times that a connection was replaced before the exchange ended it.
        resubscriptions: streams subscribed again because they had fallen silent.
    """

    state: ConnectionState
    session: SessionStats
    buffer: BufferStats
    connections: int
    latency_s: float
    event_time_ns: int | None
    pauses: int
    breaker_trips: int
    handovers: int = 0
    resubscriptions: int = 0
