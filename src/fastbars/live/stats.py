"""StreamStats: the counters of a stream, of one connection or of several together. Units: as the names say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

from fastbars.buffer import BufferStats
from fastbars.live.session import SessionStats
from fastbars.live.states import ConnectionState

Counters = TypeVar("Counters", SessionStats, BufferStats)


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


def sum_of(parts: Sequence[StreamStats], state: ConnectionState) -> StreamStats:
    """The counters of several connections together; the latency is the largest, the event time the latest."""
    times = [part.event_time_ns for part in parts if part.event_time_ns is not None]
    return StreamStats(
        state,
        _added(SessionStats(), [part.session for part in parts]),
        _added(BufferStats(), [part.buffer for part in parts]),
        sum(part.connections for part in parts),
        max(part.latency_s for part in parts),
        max(times, default=None),
        sum(part.pauses for part in parts),
        sum(part.breaker_trips for part in parts),
        sum(part.handovers for part in parts),
        sum(part.resubscriptions for part in parts),
    )


def _added(into: Counters, parts: Sequence[Counters]) -> Counters:
    for field in fields(into):
        setattr(into, field.name, sum(getattr(part, field.name) for part in parts))
    return into
