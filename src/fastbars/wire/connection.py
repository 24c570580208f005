"""The client connection: `websockets` does the protocol, and data messages are handed on here, synchronously.

A `PayloadConnection` is handed to `websockets.connect(create_connection=...)`. Handshake, proxies, TLS, pings,
close, fragments and compression stay with the library; whole data frames never reach it: a `FrameWalker` reads them
in place. Either way messages are handed on in wire order and never enter the library's queue, which is not read.

    socket -> data_received -> Wakeup -+-> handshake ------------------------------> websockets
                                       +-> FrameWalker -+-> TradeScanner, on_message
                                                        +-> other frames -> websockets -> process_event -> the same

Source: https://websockets.readthedocs.io/en/stable/reference/asyncio/client.html
"""

from __future__ import annotations

from asyncio import ReadTransport, TimerHandle
from collections.abc import Callable, Sequence
from typing import Any, cast

from websockets.asyncio.client import ClientConnection
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode
from websockets.protocol import State

from fastbars.clocks import steady_ns
from fastbars.wire.scanner import TradeScanner
from fastbars.wire.wakeup import Ending, Wakeup
from fastbars.wire.walker import FrameWalker

_DATA = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)
_END_OF_RESPONSE = b"\r\n\r\n"
CLOSE_TIMEOUT_S = 1.0  # from the first Close, whoever sent it, to the end of the socket


class PayloadConnection(ClientConnection):
    """A client connection that hands its data messages on, whole, once for each read of the socket.

    Args:
        on_payloads: called at the end of each read that completed messages, with those that on_message has not had.
        scanner: reads trade messages in place, before anything else does.
        on_message: called at once with each message that the scanner does not take; required with a scanner.
        ending: asked before on_payloads is called, where the scanner is all that may have taken messages.
        coalesce_s: pause after each read, so that the next read brings more; 0: none.
        args, kwargs: what `websockets` gives a ClientConnection.

    None of the callbacks must raise.

    Attributes:
        reading: whether the socket is read; short rests after a read do not count.
    """

    def __init__(
        self,
        *args: Any,
        on_payloads: Callable[[Sequence[bytes]], object],
        scanner: TradeScanner | None = None,
        on_message: Callable[[bytes], object] | None = None,
        ending: Ending | None = None,
        coalesce_s: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._payloads: list[bytes] = []
        self._scanner = scanner
        self._on_message = self._payloads.append if scanner is None or on_message is None else on_message
        self._fragments: list[bytes] = []
        self._response_tail = b""
        self._coalesce_s = coalesce_s
        self._rest: TimerHandle | None = None
        self._closing: TimerHandle | None = None
        self._resting = False
        self.reading = True
        self._wakeup = Wakeup(
            self._payloads,
            self._receive_response,
            on_payloads,
            self._begin_rest,
            ending=ending,
            scans=scanner is not None,
            rests=coalesce_s > 0,
        )
        # Transports call this directly, without a Python frame.
        self.data_received = self._wakeup.receive  # type: ignore[method-assign]

    @property
    def last_read_was_full(self) -> bool:
        """Whether the last read may have left something in the socket; set to False to ask again."""
        return self._wakeup.last_read_was_full

    @last_read_was_full.setter
    def last_read_was_full(self, value: bool) -> None:
        self._wakeup.last_read_was_full = value

    @property
    def last_receive_ns(self) -> int:
        """Time of the last read, or of the end of a pause, on the steady clock."""
        return self._wakeup.last_receive_ns

    def process_event(self, event: Any) -> None:
        """Take data frames out; leave the handshake and control frames to `websockets`."""
        if self.response is None or event.opcode not in _DATA:
            super().process_event(event)
            return
        frame: Frame = event
        payload = bytes(frame.data)
        if not frame.fin or self._fragments:
            self._fragments.append(payload)
            if not frame.fin:
                return
            payload = b"".join(self._fragments)
            self._fragments.clear()
        if self._scanner is None or not self._scanner.scan(payload):
            self._on_message(payload)

    def data_received(self, data: bytes) -> None:
        """Process one read of the socket: every message in it is handed on before this returns."""
        self._wakeup.receive(data)

    def send_data(self) -> None:
        """Send; once that begins to close the connection, `websockets` gets every byte."""
        self._wakeup.is_open = self.protocol.state is State.OPEN
        super().send_data()
        # After a Close `websockets` waits for the peer to end TCP (RFC 6455 section 7.1.1), and for a full send buffer
        # to drain, as long as `close` is not called. A peer that does neither must not hold the socket.
        if self._closing is None and self.protocol.state in (State.CLOSING, State.CLOSED):
            self._closing = self.loop.call_later(CLOSE_TIMEOUT_S, self.abort)

    def eof_received(self) -> None:
        """The server has ended the stream: `websockets` gets the rest of a cut frame, then the end."""
        if self._wakeup.walker is not None:
            self._wakeup.walker.stop()
        super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timers: the socket is closed."""
        for timer in (self._rest, self._closing):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def pause(self) -> None:
        """Stop reading the socket; the exchange's data waits in the operating system, then on the exchange."""
        if self.reading and not self.transport.is_closing():
            self.reading = False
            self._set_reading()

    def resume(self) -> None:
        """Read the socket again."""
        if not self.reading:
            self.reading = True
            self._wakeup.last_receive_ns = steady_ns()
            self._set_reading()

    def end_rest(self) -> None:
        """End a rest, so that the loop's next poll reads what has arrived."""
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
        if self._resting:
            self._resting = False
            self._set_reading()

    def abort(self) -> None:
        """Drop the connection without a closing handshake, which a dead peer would not answer."""
        self.transport.abort()

    def _receive_response(self, data: bytes) -> None:
        # Messages may follow the response to the handshake in the same read.
        if self.protocol.state is not State.CONNECTING:
            super().data_received(data)
            return
        seen = self._response_tail + data
        end = seen.find(_END_OF_RESPONSE)
        if end < 0:
            self._response_tail = seen[-len(_END_OF_RESPONSE) + 1 :]
            super().data_received(data)
            return
        end += len(_END_OF_RESPONSE) - len(self._response_tail)
        is_open = self._hand_on(data[:end])
        if is_open and all(isinstance(extension, PerMessageDeflate) for extension in self.protocol.extensions):
            sizes = (self.protocol.max_message_size, self.protocol.max_fragment_size)
            max_size = min((size for size in sizes if size is not None), default=None)
            walker = FrameWalker(self._on_message, self._hand_on, self._scanner, max_size)
            self._wakeup.walker = walker
            walker.feed(data[end:])
        elif data[end:]:
            super().data_received(data[end:])

    def _hand_on(self, data: bytes) -> bool:
        super().data_received(data)
        return self.protocol.state is State.OPEN

    def _begin_rest(self, until_next_turn: bool) -> None:
        if self._resting:
            return
        self._resting = True
        self._set_reading()
        if until_next_turn:
            # libuv would keep reading a flooded socket; asyncio's own loop takes turns by itself.
            self.loop.call_soon(self.end_rest)
        else:
            self._rest = self.loop.call_later(self._coalesce_s, self.end_rest)

    def _set_reading(self) -> None:
        transport = cast("ReadTransport", self.transport)
        if transport.is_closing():
            return
        wanted = self.reading and not self._resting
        if wanted != transport.is_reading():
            (transport.resume_reading if wanted else transport.pause_reading)()
