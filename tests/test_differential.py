"""A seeded differential of the client connection against plain `websockets`.

Whatever a server sends, in whatever pieces, both hand on the same messages, answer with the same frames, end alike.

FASTBARS_DIFFERENTIAL_CASES=10000 runs that many; about a thousand are drawn unless it is set.
Source: https://datatracker.ietf.org/doc/html/rfc6455#section-5
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import struct
from collections.abc import Callable, Coroutine, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple, cast

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.headers import build_host
from websockets.uri import parse_uri
from websockets.utils import accept_key

import fastbars
from fastbars.wire import PayloadConnection
from servers import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, RawServer, frame

CASES = int(os.environ.get("FASTBARS_DIFFERENTIAL_CASES", "1000"))
SHARDS = 5  # of each loop's half, so that a failure names a smaller piece
LOOPBACK = 12
MOST_BYTES = 70_000
SILENT = logging.getLogger("test.differential")
SILENT.disabled = True

Run = Callable[[Coroutine[Any, Any, None]], None]
on_both_loops = pytest.mark.parametrize("run", [asyncio.run, fastbars.run], ids=["asyncio", "uvloop"])


class Outcome(NamedTuple):
    """What a stream of bytes came to.

    Attributes:
        messages: payloads handed on, in order.
        sent: (opcode, payload) of each frame that the client sent.
        half_closed: whether it has ended its side of TCP.
        closed: code and reason of the close, None while there was none.
    """

    messages: list[bytes]
    sent: list[tuple[int, bytes]]
    half_closed: bool
    closed: tuple[int, str] | None


# Streams of frames, good and bad.


def header(first: int, length: int, width: int, *, masked: bool = False) -> bytes:
    """A header whose length is written in 7, 16 or 64 bits, however short it is."""
    mask = 0x80 * masked
    if width == 7:
        return bytes([first, mask | length])
    return bytes([first, mask | (126 if width == 16 else 127)]) + struct.pack(">H" if width == 16 else ">Q", length)


def text_of(draw: random.Random) -> bytes:
    size = draw.choice([0, 1, 2, 5, 60, 124, 125, 126, 127, 128, 300, 1_000])
    if draw.random() < 0.03:
        size = draw.choice([65_534, 65_535, 65_536, 65_537, MOST_BYTES, MOST_BYTES + 1])
    payload = (draw.choice(["a", "{}", "€", "\U0001f600"]) * size).encode()[:size]
    if draw.random() < 0.15 and payload:  # no UTF-8, or cut in the middle of a character
        at = draw.randrange(len(payload))
        payload = (
            payload[:at] + draw.choice([b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xe2\x82", b"\xf4\x90"]) + payload[at:]
        )
    return payload


def control(draw: random.Random) -> bytes:
    return frame(draw.randbytes(draw.choice([0, 1, 4, 124, 125])), draw.choice([PING, PONG]))


def fragments(draw: random.Random) -> bytes:
    payload, stream = text_of(draw), b""
    cuts = sorted(draw.randrange(len(payload) + 1) for _ in range(draw.randrange(1, 4)))
    bounds = [0, *cuts, len(payload)]
    opcode = draw.choice([TEXT, BINARY])
    for number, (start, stop) in enumerate(pairwise(bounds)):
        last = number == len(bounds) - 2
        stream += frame(payload[start:stop], CONTINUATION if number else opcode, final=last)
        if not last and draw.random() < 0.4:
            stream += control(draw)
    return stream


def close(draw: random.Random) -> bytes:
    if draw.random() < 0.2:
        return frame(draw.choice([b"", b"\x03", b"\x03\xe8\xff", b"\x03\xe8" + b"x" * 123]), CLOSE)
    codes = [1000, 1001, 1002, 1003, 1004, 1005, 1006, 1007, 1011, 1012, 1015, 1016, 2999, 3000, 4999, 5000, 0, 999]
    return frame(struct.pack(">H", draw.choice(codes)) + draw.choice([b"", b"bye", "€".encode()]), CLOSE)


def broken(draw: random.Random) -> bytes:
    payload = draw.randbytes(draw.choice([0, 1, 5, 125]))
    size = len(payload)
    return draw.choice([
        header(0x81, size, 16) + payload,  # longer than it needs to be
        header(0x82, size, 64) + payload,
        header(0x81, 200, 64) + bytes(200),
        header(0x81, size, 7, masked=True) + b"mask" + payload,
        header(0x81 | draw.choice([0x40, 0x20, 0x10, 0x70]), size, 7) + payload,  # reserved bits
        header(0x01 | draw.choice([0x40, 0x20]), size, 7) + payload,
        header(0x80 | draw.choice([3, 4, 5, 6, 7, 11, 12, 13, 14, 15]), size, 7) + payload,  # reserved opcodes
        header(draw.choice([PING, PONG, CLOSE]), size, 7) + payload,  # a control frame in fragments
        header(0x80 | draw.choice([PING, CLOSE]), 126, 16) + bytes(126),  # and one that is too long
        header(0x81, 2**63, 64),
        header(0x81, 2**64 - 1, 64),
        header(0x82, MOST_BYTES + 1, 64),
        frame(payload, CONTINUATION),
        frame(payload, CONTINUATION, final=False),
        frame(payload, TEXT, final=False) + frame(payload, TEXT),
        frame(payload, TEXT, final=False) + frame(payload, CLOSE),
        draw.randbytes(20),
    ])  # fmt: skip


def stream_of(draw: random.Random) -> bytes:
    """Some good frames; then perhaps something bad, or a close; then perhaps more, which nobody should read."""
    makers: list[Callable[[], bytes]] = [
        lambda: frame(text_of(draw), TEXT), lambda: frame(draw.randbytes(draw.choice([0, 3, 126])), BINARY),
        partial(fragments, draw), partial(control, draw),
    ]  # fmt: skip
    parts = [draw.choice(makers)() for _ in range(draw.randrange(1, 6))]
    ending = draw.random()
    if ending < 0.35:
        parts.append(broken(draw))
    elif ending < 0.65:
        parts.append(close(draw))
    parts += [draw.choice(makers)() for _ in range(draw.randrange(3))]
    stream = b"".join(parts)
    return stream[: draw.randrange(len(stream) + 1)] if draw.random() < 0.2 else stream


def pieces_of(stream: bytes, draw: random.Random) -> Iterator[bytes]:
    most = len(stream) if len(stream) < 400 and draw.random() < 0.2 else draw.randrange(8)  # at each byte, or at a few
    cuts = sorted({draw.randrange(len(stream) + 1) for _ in range(most)} if most < len(stream) else range(len(stream)))
    for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        if stop > start:
            yield stream[start:stop]


# The two sides.


def handshake(protocol: ClientProtocol) -> bytes:
    """Sends the request; returns the server's response."""
    request = protocol.connect()
    protocol.send_request(request)
    protocol.data_to_send()
    accept = accept_key(request.headers["Sec-WebSocket-Key"])
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\n\r\n"
    ).encode()


def protocol_of() -> ClientProtocol:
    assert build_host("h", 80, secure=False) == "h"
    return ClientProtocol(parse_uri("ws://h/"), max_size=MOST_BYTES, logger=SILENT)


def closed_of(protocol: ClientProtocol) -> tuple[int, str] | None:
    code, reason = protocol.close_code, protocol.close_reason
    return None if code is None else (code, reason or "")


def frames_of(data: bytes) -> list[tuple[int, bytes]]:
    """The frames that a client sent; they are masked."""
    found = []
    while data:
        length, at = data[1] & 0x7F, 2
        if length == 126:
            length, at = int.from_bytes(data[2:4], "big"), 4
        mask, payload = data[at : at + 4], data[at + 4 : at + 4 + length]
        found.append((data[0] & 0x0F, bytes(byte ^ mask[n % 4] for n, byte in enumerate(payload))))
        data = data[at + 4 + length :]
    return found


def plain(pieces: Sequence[bytes], *, ends: bool) -> Outcome:
    """What `websockets` makes of it, without a socket."""
    protocol = protocol_of()
    messages: list[bytes] = []
    fragments: list[bytes] = []
    sent: list[bytes] = []
    half_closed = False
    for number, piece in enumerate([handshake(protocol), *pieces, None if ends else b""]):
        if piece is None:
            protocol.receive_eof()
        elif piece:
            protocol.receive_data(piece)
        for event in protocol.events_received()[number == 0 :]:
            one = cast("Frame", event)
            if one.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                fragments.append(bytes(one.data))
                if one.fin:
                    messages.append(b"".join(fragments))
                    fragments.clear()
        for data in protocol.data_to_send():
            half_closed |= not data
            sent.append(data)
    return Outcome(messages, frames_of(b"".join(sent)), half_closed, closed_of(protocol))


class Memory(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.ended = False

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def is_closing(self) -> bool:
        return False

    def is_reading(self) -> bool:
        return True

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def abort(self) -> None:
        pass


async def ours(pieces: Sequence[bytes], *, ends: bool, behind: int) -> Outcome:
    """What our connection makes of it; the first pieces may come in one read with the response."""
    protocol, transport = protocol_of(), Memory()
    messages: list[bytes] = []
    connection = PayloadConnection(protocol, on_payloads=messages.extend, ping_interval=None, close_timeout=None)
    connection.connection_made(transport)
    connection.data_received(handshake(protocol) + b"".join(pieces[:behind]))
    for piece in pieces[behind:]:
        connection.data_received(piece)
    if ends:
        connection.eof_received()
    outcome = Outcome(messages, frames_of(b"".join(transport.written)), transport.ended, closed_of(protocol))
    connection.connection_lost(None)
    return outcome


@on_both_loops
@pytest.mark.parametrize("shard", range(SHARDS))
def test_whatever_a_server_sends_comes_to_the_same_as_with_websockets(run: Run, shard: int) -> None:
    async def main() -> None:
        closes = 0
        for case in range(shard, CASES // 2, SHARDS):
            draw = random.Random(f"{run.__module__} {case}")
            pieces = list(pieces_of(stream_of(draw), draw))
            ends, behind = draw.random() < 0.3, draw.randrange(3)
            expected = plain(pieces, ends=ends)
            assert await ours(pieces, ends=ends, behind=behind) == expected, (case, pieces)
            closes += expected.closed is not None
        assert closes > CASES // 2 // SHARDS // 10  # the bad ones are among them

    run(main())


@on_both_loops
def test_every_cut_of_a_stream_of_all_kinds_comes_to_the_same(run: Run) -> None:
    stream = (
        frame("a€".encode()) + frame(b"x" * 126, BINARY) + frame(b"p", PING) + frame(b"\xe2", TEXT, final=False)
        + frame(b"q", PING) + frame(b"\x82\xac", CONTINUATION) + header(0x81, 5, 7) + b"after"
        + frame(b"\x03\xe8bye", CLOSE) + frame(b"behind")
    )  # fmt: skip

    async def main() -> None:
        whole = plain([stream], ends=False)
        assert whole.messages == ["a€".encode(), b"x" * 126, "€".encode(), b"after"]
        assert whole.closed is None  # until TCP ends
        assert whole.sent == [(PONG, b"p"), (PONG, b"q"), (CLOSE, b"\x03\xe8bye")]
        for cut in range(1, len(stream)):
            for pieces in ([stream[:cut], stream[cut:]], [stream[:cut], stream[cut : cut + 1], stream[cut + 1 :]]):
                assert await ours(pieces, ends=False, behind=cut % 2) == whole

    run(main())


# And over real sockets.


class Leaving(RawServer):
    """It ends TCP once the client has answered its close."""

    async def farewell(self, writer: asyncio.StreamWriter) -> bytes:
        writer.close()
        return b""


async def heard_by_plain(url: str) -> tuple[list[bytes], int | None]:
    messages: list[bytes] = []
    connection = await connect(url, compression=None, ping_interval=None, max_size=MOST_BYTES, logger=SILENT)
    try:
        while True:
            messages.append(await connection.recv(decode=False))
    except ConnectionClosed:
        pass
    await connection.wait_closed()
    return messages, connection.close_code


async def heard_by_ours(url: str) -> tuple[list[bytes], int | None]:
    messages: list[bytes] = []
    made = cast("type[ClientConnection]", partial(PayloadConnection, on_payloads=messages.extend))
    options: dict[str, Any] = {"max_size": MOST_BYTES, "logger": SILENT}
    connection = await connect(url, create_connection=made, compression=None, ping_interval=None, **options)
    await connection.wait_closed()
    return messages, connection.close_code


@on_both_loops
def test_over_sockets_it_comes_to_the_same_too(run: Run) -> None:
    async def main() -> None:
        for case in range(LOOPBACK):
            draw = random.Random(f"loopback {case}")
            good = b"".join(draw.choice([fragments, control])(draw) for _ in range(4)) + frame(text_of(draw))
            last = frame(b"\x03\xe9bye", CLOSE) if draw.random() < 0.7 else header(0xF1, 0, 7)
            pieces = list(pieces_of(good + last + frame(b"behind"), draw))
            heard = []
            for hear in (heard_by_plain, heard_by_ours):
                async with Leaving(pieces[0], pieces[1:]) as server:
                    heard.append(await hear(server.url))
            assert heard[0] == heard[1], case

    run(main())
