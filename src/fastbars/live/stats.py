"""The counters of a stream: of its session, of redundant lines, of connections. Units: as named."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, TypeVar

from fastbars.buffer import BufferStats
from fastbars.live.connections.states import ConnectionState
from fastbars.sinks.declaration import SinkStats

T = TypeVar("T")


@dataclass(slots=True)
class DroppedTrades:
    """Trades of symbols that are not subscribed to.

    Attributes:
        never_subscribed: their symbols were never subscribed to.
        no_longer_subscribed: the subscription to their symbols had ended.
    """

    never_subscribed: int = 0
    no_longer_subscribed: int = 0


@dataclass(slots=True)
class SessionStats:
    """Counters of everything received; every message is in exactly one of the kinds from `trade_messages` on.

    Attributes:
        bytes: size of all messages.
        trade_messages: messages that carried trades of the channel that bars are made from.
        other_trade_messages: trades of another channel, not made into bars.
        exchange_bars, quotes, tickers, control: as their names say; control are acks, refusals, notices, heartbeats.
        raw: of a known kind that is handed on as it is, such as order books.
        ignored: trades that a user's own parser passed over.
        unknown: JSON of no known kind; handed on likewise.
        invalid_json: not JSON at all.
        parse_errors: of a known kind, but malformed.
        trades: trades accepted from messages (a refused one is in `refused` of the buffer), void ids among them.
        duplicates: trades dropped because their unique key was seen before, or another line had brought them; others
            that are known by number are counted in `duplicates` of the buffer.
        dropped: trades of symbols that are not subscribed to; also as `never_subscribed` and `no_longer_subscribed`.
        callback_errors: times that a callback raised, whichever it was: on_tick, on_bar, on_bars, on_late,
            on_exchange_bar, on_event, on_message, on_state, on_error, on_difference.
    """

    bytes: int = 0
    trade_messages: int = 0
    other_trade_messages: int = 0
    exchange_bars: int = 0
    quotes: int = 0
    tickers: int = 0
    control: int = 0
    raw: int = 0
    ignored: int = 0
    unknown: int = 0
    invalid_json: int = 0
    parse_errors: int = 0
    trades: int = 0
    duplicates: int = 0
    dropped: DroppedTrades = field(default_factory=DroppedTrades)
    callback_errors: int = 0

    @property
    def messages(self) -> int:
        """Payloads received, of any kind."""
        read = self.trade_messages + self.other_trade_messages + self.exchange_bars + self.quotes + self.tickers
        return read + self.control + self.raw + self.ignored + self.unknown + self.invalid_json + self.parse_errors

    @property
    def never_subscribed(self) -> int:
        """Trades dropped because their symbols were never subscribed to."""
        return self.dropped.never_subscribed

    @property
    def no_longer_subscribed(self) -> int:
        """Trades dropped because the subscription to their symbols had ended."""
        return self.dropped.no_longer_subscribed


@dataclass(frozen=True, slots=True)
class LineStats:
    """Counters of one of several lines that carry the same trades.

    Attributes:
        first: trades that it brought first.
        again: trades that another line had brought already.
        missed: trades that it did not bring, known once 256 later ones of the symbol have come.
        led: messages that it brought before another line did, by `lead_ns` in total.
    """

    first: int
    again: int
    missed: int
    led: int
    lead_ns: int

    @property
    def mean_lead_s(self) -> float:
        """How much earlier than another line it was, where it was first, on average; s."""
        return self.lead_ns / self.led / 1e9 if self.led else 0.0


@dataclass(slots=True)
class HistoryStats:
    """What became of the history of a stream.

    Attributes:
        lanes_open: symbols x specs whose live bars wait for their past, or whose first live bar is awaited.
        bars: of the past that were issued.
        requests: sent for them.
        held: live bars that wait.
        failed: symbol -> why it has no history, or not all of it.
    """

    lanes_open: int = 0
    bars: int = 0
    requests: int = 0
    held: int = 0
    failed: dict[str, str] = field(default_factory=dict)

    def progress(self) -> dict[str, int]:
        """The counts, for the log."""
        return {"lanes_open": self.lanes_open, "bars": self.bars, "failed": len(self.failed)}


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
        resubscriptions: streams subscribed again because they had fallen silent, or never brought anything.
        lines: of each redundant line; empty where there is one.
        clock_offset_s: the exchange's clock less the local wall clock, less the least delay of a message, s; None
            before the first message with a time.
        grace_s: how long watermark and clock wait after a bar's close_time, s: as set, or as learned.
        delay_p50_s, delay_p999_s: delay of the trades behind the fastest message, s: the median, and what 99.9 % do
            not exceed; measured with one trade a wakeup.
        never_heard: streams of which nothing had come within `StreamConfig.never_heard_after` of their subscription.
        symbols: symbols that traded.
        failure: why the stream has ended for good; empty where it has not.
        sinks: of each sink, by name.
        venues: of a stream of several venues, what each has, by the names that they were given by; the fields above are
            sums then, or the largest, the state is that of what goes on, and `failure` is set where all have failed.
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
    lines: tuple[LineStats, ...] = ()
    clock_offset_s: float | None = None
    grace_s: float = 1.0
    delay_p50_s: float = 0.0
    delay_p999_s: float = 0.0
    never_heard: int = 0
    symbols: int = 0
    failure: str = ""
    sinks: Mapping[str, SinkStats] = field(default_factory=dict)
    venues: Mapping[str, StreamStats] = field(default_factory=dict)


_BUSIEST_FIRST = (
    ConnectionState.RECONNECTING,
    ConnectionState.CONNECTING,
    ConnectionState.CONNECTED,
    ConnectionState.DISCONNECTED,
)


def state_of(states: Iterable[ConnectionState]) -> ConnectionState:
    """The state of several streams together: RECONNECTING while one of them is."""
    found = set(states)
    return next((state for state in _BUSIEST_FIRST if state in found), ConnectionState.CLOSED)


def together(venues: Mapping[str, StreamStats]) -> StreamStats:
    """The counters of several streams as those of one; see `StreamStats.venues`."""
    all_of = list(venues.values())
    failures = [one.failure for one in all_of]
    return StreamStats(
        state_of(one.state for one in all_of if not one.failure or all(failures)),
        summed([one.session for one in all_of]),
        summed([one.buffer for one in all_of]),
        sum(one.connections for one in all_of),
        max(one.latency_s for one in all_of),
        max((one.event_time_ns for one in all_of if one.event_time_ns is not None), default=None),
        sum(one.pauses for one in all_of),
        sum(one.breaker_trips for one in all_of),
        sum(one.handovers for one in all_of),
        sum(one.resubscriptions for one in all_of),
        grace_s=max(one.grace_s for one in all_of),
        delay_p50_s=max(one.delay_p50_s for one in all_of),
        delay_p999_s=max(one.delay_p999_s for one in all_of),
        never_heard=sum(one.never_heard for one in all_of),
        symbols=sum(one.symbols for one in all_of),
        failure="; ".join(failures) if all(failures) else "",
        sinks=all_of[0].sinks,  # which they share
        venues=venues,
    )


def summed(counts: Sequence[T]) -> T:
    """Sums of counters, field by field, of which some hold others; of a field that is no counter the first one set."""
    values: dict[str, Any] = {}
    for each in fields(counts[0]):  # type: ignore[arg-type]
        own = [getattr(one, each.name) for one in counts]
        if isinstance(own[0], int):
            values[each.name] = sum(own)
        elif is_dataclass(own[0]):
            values[each.name] = summed(own)
        else:
            values[each.name] = next((one for one in own if one is not None), None)
    return type(counts[0])(**values)
