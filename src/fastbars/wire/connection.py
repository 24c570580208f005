"""The client connection: `websockets` does the protocol, its data payloads leave here, synchronously.

A `PayloadConnection` is handed to `websockets.connect(create_connection=...)`. Handshake, proxies, TLS, pings,
close and fragmentation stay with the library. Data payloads do not enter its queue, which nobody would read:
all that one read of the socket completes leave together, in wire order, in one call of `on_payloads`.

Source: https://websockets.readthedocs.io/en/stable/reference/asyncio/client.html
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.frames import Frame, Opcode

_DATA = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)
# A read of this many bytes or more may have left some behind in the socket.
_FULL_READ = 65_536


class PayloadConnection(ClientConnection):
    """A client connection that hands whole messages on, a list for each read of the socket.

    Args:
        on_payloads: called with the messages' bytes; it must not raise.
        args, kwargs: what `websockets` gives a ClientConnection.
    """

    def __init__(self, *args: Any, on_payloads: Callable[[Sequence[bytes]], object], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._on_payloads = on_payloads
        self._payloads: list[bytes] = []
        self._fragments: list[bytes] = []
        self.reading = True
        self.last_read_was_full = False
        self.last_receive_s = self.loop.time()

    def process_event(self, event: Any) -> None:
        """Take data frames out; leave the handshake and control frames to `websockets`."""
        if self.response is None or event.opcode not in _DATA:
            super().process_event(event)
            return
        frame: Frame = event
        if not frame.fin or self._fragments:
            self._fragments.append(bytes(frame.data))
            if not frame.fin:
                return
            self._payloads.append(b"".join(self._fragments))
            self._fragments.clear()
        else:
            self._payloads.append(bytes(frame.data))

    def data_received(self, data: bytes) -> None:
        """One read of the socket: let `websockets` digest it, then hand on what it completed."""
        self.last_receive_s = self.loop.time()
        self.last_read_was_full = len(data) >= _FULL_READ
        super().data_received(data)
        if self._payloads:
            payloads, self._payloads = self._payloads, []
            self._on_payloads(payloads)

    def pause(self) -> None:
        """Stop reading the socket; the exchange's data waits in the operating system, then on the exchange."""
        if self.reading and not self.transport.is_closing():
            self.reading = False
            self.transport.pause_reading()

    def resume(self) -> None:
        """Read the socket again."""
        if not self.reading:
            self.reading = True
            self.last_receive_s = self.loop.time()
            if not self.transport.is_closing():
                self.transport.resume_reading()

    def abort(self) -> None:
        """Drop the connection without a closing handshake, as one does with a peer that no longer answers."""
        self.transport.abort()
