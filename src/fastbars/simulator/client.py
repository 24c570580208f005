"""One client of a simulated exchange: its socket, what waits to be sent on it, and what goes wrong with it.

Units: seconds on a steady clock.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Literal

from websockets.asyncio.server import ServerConnection
from websockets.protocol import State

from fastbars.simulator.delivery import write_frames, write_messages
from fastbars.simulator.dialect import Dialect, Subscriber
from fastbars.simulator.faults import Faults, Frame
from fastbars.simulator.market import SimulatedTrade
from fastbars.simulator.record import ConnectionRecord, Record, TradeMessage

__all__ = ["Client"]


class Client:
    """One connection.

    Args:
        connection: its socket.
        subscriber: its streams and messages.
        dialect: how messages are written.
        record: of the exchange, and of this connection; None where nothing is noted.
        faults: what goes wrong; None: nothing.

    Attributes:
        ends_s: when it is closed for its age; None: never.
        notice_s: when that is announced; None: it was, or there is nothing to announce.
        last_heard_s: when the client sent something; last_sent_s: when the exchange did.
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
        self.last_heard_s = self.last_sent_s = time.monotonic()
        self._dialect = dialect
        self._faults = faults
        self._delayed: list[Frame] = []
        self._stalled_until_s: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether neither side has begun to close."""
        return self.connection.state is State.OPEN

    def stall(self, seconds: float, now_s: float) -> None:
        """Neither write nor read for a while; pings get no answer either."""
        self._stalled_until_s = now_s + seconds
        self.connection.transport.pause_reading()

    def heard(self, message: str | bytes, now_s: float) -> None:
        """The client sent something."""
        self.last_heard_s = now_s
        if self.record is not None:
            self.record[1].requests.append((now_s, message if isinstance(message, bytes) else message.encode()))

    def holds(self, now_s: float) -> None:
        """Its streams have changed."""
        if self.record is not None:
            noted, streams = self.record[1], self.subscriber.streams
            noted.most_streams = max(noted.most_streams, len(streams))
            for name in streams:
                noted.subscribed.setdefault(name, now_s)

    def is_silent(self, whose: Literal["client", "server", "both"], seconds: float, now_s: float) -> bool:
        """Whether nothing came from that side for so long."""
        times = {
            "client": self.last_heard_s,
            "server": self.last_sent_s,
            "both": max(self.last_heard_s, self.last_sent_s),
        }
        return now_s - times[whose] > seconds

    def deliver(self, now_s: float) -> int:
        """Hand over what is pending; returns how many messages that were."""
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
            self._note(messages[:sent])
            return sent
        return self._deliver_with(self._faults, messages, now_s)

    def _deliver_with(self, faults: Faults, messages: Sequence[bytes], now_s: float) -> int:
        frames = [Frame(message) for message in messages]
        if faults.waits:
            frames = faults.shape(messages, now_s, self._rewrite, self._note_dropped)
        due = [frame for frame in self._delayed if frame.due_s <= now_s]
        self._delayed = [frame for frame in self._delayed if frame.due_s > now_s]
        for frame in frames:
            (due if frame.due_s <= now_s else self._delayed).append(frame)
        write_frames(self.connection, due, faults.cut)
        self._note([frame.payload for frame in due])
        return len(due)

    def _rewrite(self, message: TradeMessage, trades: Sequence[SimulatedTrade]) -> bytes:
        payload = self._dialect.trades(message.stream, trades, message.event_ms)
        return self._dialect.wrap(message.stream, payload) if self.subscriber.combined else payload

    def _note(self, messages: Sequence[bytes]) -> None:
        if self.record is not None:
            for message in messages:
                self.record[0].note_sent(self.record[1], message)

    def _note_dropped(self, trade: SimulatedTrade) -> None:
        if self.record is not None:
            self.record[0].note_dropped(self.record[1], trade)
