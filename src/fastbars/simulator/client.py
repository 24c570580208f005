"""One client of a simulated exchange: its socket, the messages waiting for it, and when it is disconnected.

Units: `_s` times on a steady clock, `_ms` since the Unix epoch on the exchange's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from websockets.asyncio.server import ServerConnection
from websockets.protocol import State

from fastbars.clocks import steady_s
from fastbars.log import log
from fastbars.simulator.delivery import cut_off, write_frames, write_messages
from fastbars.simulator.dialect import Dialect, Silence, Stream, Subscriber
from fastbars.simulator.faults import Fault, FaultKind, Faults, Frame
from fastbars.simulator.market import SimulatedTrade
from fastbars.simulator.record import ConnectionRecord, Record, TradeMessage

__all__ = ["Client"]

MAX_BUFFERED_BYTES = 16 * 1024 * 1024  # unsent, of one client; beyond it the client is too slow and is disconnected
_END_CODE = 1001  # of a connection that has become too old or was silent for too long


class Client:
    """One connection.

    Args:
        connection: its socket.
        subscriber: its streams and messages.
        dialect: how messages are written.
        record: (of the exchange, of this connection); None: nothing is recorded.
        faults: those to apply; None: none.

    Attributes:
        ends_s: when it is closed for its age; None: never.
        notice_s: when that is announced; None: already announced, or never.
        last_received_s: when the client last sent something; None: it never did. last_sent_s: when the exchange did.
    """

    def __init__(
        self,
        connection: ServerConnection,
        subscriber: Subscriber,
        dialect: Dialect,
        record: tuple[Record, ConnectionRecord] | None,
        faults: Faults | None,
    ) -> None:
        self.connection = connection
        self.subscriber = subscriber
        self.record = record
        self.ends_s: float | None = None
        self.notice_s: float | None = None
        self.last_received_s: float | None = None
        self.last_sent_s = self._opened_s = steady_s()
        self._dialect = dialect
        self._faults = faults
        self._delayed: list[Frame] = []
        self._stalled_until_s: float | None = None
        self._lag_s = 0.0
        self._closing: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether neither side has begun to close."""
        return self.connection.state is State.OPEN and not self.connection.transport.is_closing()

    def note_request(self, message: str | bytes, now_s: float) -> None:
        """Note a message from the client."""
        self.last_received_s = now_s
        if self.record is not None:
            self.record[1].requests.append((now_s, message if isinstance(message, bytes) else message.encode()))

    def note_streams(self, now_s: float) -> None:
        """Note the streams that it holds, after a change."""
        if self.record is not None:
            noted, streams = self.record[1], self.subscriber.streams
            noted.most_streams = max(noted.most_streams, len(streams))
            for name in streams:
                noted.subscribed.setdefault(name, now_s)

    def note_end(self, now_s: float) -> None:
        """Note that the connection has ended."""
        if self.record is not None:
            self.record[1].closed_s = now_s
            self.note("left" if self.connection.protocol.close_rcvd_then_sent else "closed")
            for frame in self._delayed:  # a fault has kept them from being sent at all
                if isinstance(frame.payload, TradeMessage):
                    for trade in frame.payload.trades:
                        self._note_dropped(trade)

    def note(self, what: str, streams: Sequence[Stream] | None = None) -> None:
        """Note what happened, to these streams or to the whole connection."""
        if self.record is not None:
            for stream in (None,) if streams is None else streams:
                self.record[0].note_event(self.record[1], what, stream)

    # Ending. A connection is lost (DROP), or closed by one task: `_closing`, started by whatever comes first.

    def begin_close(self, code: int, reason: str) -> None:
        """Start the closing handshake, without waiting for the client's answer."""
        if self._closing is None:
            self._closing = asyncio.create_task(self.connection.close(code, reason))

    async def wait_closed(self) -> None:
        """Wait for the closing handshake, if one was started."""
        if self._closing is not None:
            await asyncio.wait([self._closing])

    def apply(self, fault: Fault, now_s: float) -> None:
        """Apply a fault of connections."""
        if fault.kind is FaultKind.MUTE:
            self._mute(fault.symbol)
            return
        self.note(fault.kind)
        if fault.kind is FaultKind.DROP:
            self.connection.transport.abort()
        elif fault.kind is FaultKind.CLOSE:
            self.begin_close(fault.code, "fault")
        elif fault.kind is FaultKind.STALL:
            # Reading stops as well as writing, so that pings get no answer: the client must notice by itself.
            self._stalled_until_s = now_s + fault.seconds
            self.connection.transport.pause_reading()
        elif fault.kind is FaultKind.LAG:
            self._lag_s = max(self._lag_s, fault.seconds)  # never less, or messages would overtake each other
        else:  # LIFETIME: announced now, closed later by `check_limits`
            self.ends_s, self.notice_s = now_s + fault.seconds, now_s

    def _mute(self, symbol: str) -> None:
        streams = [
            stream
            for stream in self.subscriber.streams.values()
            if stream.instrument >= 0 and symbol in ("", self._dialect.symbol(stream))
        ]
        self.subscriber.muted.update(stream.name for stream in streams)
        self.note("mute", streams)

    def check_limits(self, silence: Silence | None, now_ms: int, now_s: float) -> None:
        """Close it if the client is too slow, or the connection too old or silent for too long."""
        if not self.is_open:
            return
        buffered = self.connection.transport.get_write_buffer_size()
        if buffered > MAX_BUFFERED_BYTES:
            log.warning("client too slow, disconnecting", buffered_bytes=buffered, limit_bytes=MAX_BUFFERED_BYTES)
            self.begin_close(1008, "client is too slow")
        if silence is not None and self._is_silent(silence, now_s):
            self.begin_close(_END_CODE, "silence")
        # The notice goes out in an earlier turn than the close, or it would be lost with the socket.
        if self.notice_s is not None and now_s >= self.notice_s:
            self.notice_s = None
            notice = self._dialect.notice(now_ms)
            if notice is not None:
                self.subscriber.pending.append(notice)
        elif self.ends_s is not None and now_s >= self.ends_s:
            self.begin_close(_END_CODE, "lifetime")

    def _is_silent(self, silence: Silence, now_s: float) -> bool:
        whose, seconds = silence
        if whose == "request":
            return self.last_received_s is None and now_s - self._opened_s > seconds
        received_s = self._opened_s if self.last_received_s is None else self.last_received_s
        times = {"client": received_s, "server": self.last_sent_s, "both": max(received_s, self.last_sent_s)}
        return now_s - times[whose] > seconds

    # Messages.

    def add_heartbeat(self, now_ms: int) -> None:
        """Queue a heartbeat, if one is due."""
        every_ms, subscriber = self._dialect.heartbeat_ms, self.subscriber
        if every_ms is not None and now_ms - subscriber.last_heartbeat_ms >= every_ms:
            subscriber.last_heartbeat_ms = now_ms
            heartbeat = self._dialect.heartbeat(subscriber, now_ms)
            if heartbeat is not None:
                subscriber.pending.append(heartbeat)

    def deliver(self, now_s: float) -> int:
        """Send the pending messages, unless stalled. Returns how many were sent."""
        if self._stalled_until_s is not None:
            if now_s < self._stalled_until_s:
                return 0
            self._stalled_until_s = None
            self.connection.transport.resume_reading()
        if not self.is_open or not (self.subscriber.pending or self._delayed):
            return 0
        messages, self.subscriber.pending = self.subscriber.pending, []
        self.last_sent_s = now_s
        if self._faults is None:
            sent = write_messages(self.connection, messages)
            self._note_sent(messages[:sent])
            return sent
        return self._deliver_with(self._faults, messages, now_s)

    def _deliver_with(self, faults: Faults, messages: Sequence[bytes], now_s: float) -> int:
        if messages and not self._lag_s and faults.take_one(FaultKind.CUT_OFF) is not None:
            sent = write_messages(self.connection, messages[:-1])
            self._note_sent(messages[:sent])
            self.note(FaultKind.CUT_OFF)
            cut_off(self.connection, messages[-1])
            return sent
        frames = [Frame(message) for message in messages]
        if faults.has_message_faults:
            frames = faults.apply_to_messages(messages, now_s, self._rewrite, self._note_dropped, self._spoil)
        if self._lag_s:
            frames = [frame._replace(due_s=max(frame.due_s, now_s + self._lag_s)) for frame in frames]
        # Delayed frames that are due go first: they are older than everything in `frames`.
        due = [frame for frame in self._delayed if frame.due_s <= now_s]
        self._delayed = [frame for frame in self._delayed if frame.due_s > now_s]
        for frame in frames:
            (due if frame.due_s <= now_s else self._delayed).append(frame)
        write_frames(self.connection, due, faults.cut)
        self._note_sent([frame.payload for frame in due])
        return len(due)

    def _rewrite(self, message: TradeMessage, trades: Sequence[SimulatedTrade]) -> bytes:
        payload = self._dialect.trades(message.stream, trades, message.event_ms)
        return self._dialect.wrap(message.stream, payload) if self.subscriber.combined else payload

    def _spoil(self, message: TradeMessage) -> TradeMessage:
        # The price of its newest trade gets 19 decimals.
        trade = message.trades[-1]
        price, _ = self._dialect.texts(trade)
        point = price.partition(".")[2]
        longer = price + ("." if not point else "") + "0" * (18 - len(point)) + "1"
        payload = bytes(message).replace(price.encode(), longer.encode(), 1)
        spoilt = message.rewritten(payload)
        spoilt.unfit = trade.trade_id
        return spoilt

    async def reply(self, reply: bytes) -> None:
        """Send an answer, as late as everything else."""
        now_s = steady_s()
        self.last_sent_s = now_s
        if self._lag_s:
            self._delayed.append(Frame(reply, due_s=now_s + self._lag_s))
        else:
            await self.connection.send(reply, text=True)

    def _note_sent(self, messages: Sequence[bytes]) -> None:
        if self.record is not None:
            for message in messages:
                self.record[0].note_sent(self.record[1], message)

    def _note_dropped(self, trade: SimulatedTrade) -> None:
        if self.record is not None:
            self.record[0].note_dropped(self.record[1], trade)
