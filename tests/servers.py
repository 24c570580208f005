"""Small real servers on loopback, with faults on demand, for the tests of live connections.

`TradeServer` is a WebSocket server that speaks just enough of Binance's dialect; what it answers and when it
fails is the test's choice. `RawServer` is plain TCP with the handshake done by hand, for what no well-behaved
server does. Nothing in the library is replaced by them.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import socket
import struct
from collections.abc import Awaitable, Callable, Iterable, Sequence
from ssl import SSLContext
from types import TracebackType
from typing import Any, Self, cast

import orjson
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from fastbars import clocks
from fastbars.bars import OHLCVBar

SECOND_MS = 1_000
MINUTE_MS = 60_000
START_MS = 1_723_161_240_000  # 2024-08-08 23:54:00 UTC, the beginning of a minute
START_NS = START_MS * 1_000_000

TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10

Request = dict[str, Any]
Answer = Callable[[Request], Request | None]


def trade(
    trade_id: int,
    offset_ms: int,
    price: str = "100",
    size: str = "1",
    *,
    symbol: str = "BTCUSDT",
    maker: bool = False,
    event_ms: int | None = None,
    start_ms: int = START_MS,
) -> bytes:
    """A spot trade as Binance writes it, `offset_ms` after `start_ms`; sent 1 ms later unless `event_ms` is given."""
    time_ms = start_ms + offset_ms
    sent_ms = time_ms + 1 if event_ms is None else start_ms + event_ms
    return (
        f'{{"e":"trade","E":{sent_ms},"s":"{symbol}","t":{trade_id},"p":"{price}","q":"{size}",'
        f'"T":{time_ms},"m":{str(maker).lower()},"M":true}}'
    ).encode()


def trades(first_id: int, count: int, offset_ms: int = 0, step_ms: int = 1, symbol: str = "BTCUSDT") -> list[bytes]:
    """A run of trades with rising ids, times and prices."""
    return [trade(first_id + n, offset_ms + n * step_ms, str(100 + n), symbol=symbol) for n in range(count)]


async def until(condition: Callable[[], object], timeout_s: float = 30.0) -> None:
    """Wait for a condition that nobody signals."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 there is no event for everything a test waits for
            await asyncio.sleep(0.002)


def acknowledge(request: Request) -> Request:
    """The answer to a request that is granted."""
    return {"result": None, "id": request["id"]}


def keep_silent(_: Request) -> None:
    """No answer to any request."""


def refuse(*streams: str) -> Answer:
    """Answers that refuse every request in which one of these streams stands, and grant the others."""

    def answer(request: Request) -> Request:
        if set(streams) & set(request["params"]):
            return {"error": {"code": -1121, "msg": "Invalid symbol."}, "id": request["id"]}
        return acknowledge(request)

    return answer


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


class TradeServer:
    """A WebSocket server that notes every request and answers as it is told.

    Args:
        answer: what a request is answered with; None: nothing.
        greet: awaited with each new connection before its requests are read.
        options: of `websockets.serve`.

    Attributes:
        requests: everything asked, in order; `request_times_s` when, on a steady clock.
        accepted_s: when each connection was accepted, on the same clock.
        paths: the path of each connection.
        connections: those that are open, oldest first.
        asking: the one whose request is answered.
    """

    def __init__(
        self,
        answer: Answer = acknowledge,
        greet: Callable[[ServerConnection], Awaitable[object]] | None = None,
        **options: Any,
    ) -> None:
        self.answer = answer
        self.greet = greet
        self.requests: list[Request] = []
        self.request_times_s: list[float] = []
        self.accepted_s: list[float] = []
        self.paths: list[str] = []
        self.connections: list[ServerConnection] = []
        self.asking: ServerConnection
        self._options = {"compression": None, "ping_interval": None, "close_timeout": 0.5} | options
        self._server: Server | None = None
        self._port = 0
        self._kept = socket.socket()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.shut()
        self._kept.close()

    async def open(self) -> None:
        """Listen; after `shut`, on the same port again."""
        self._server = await serve(self._serve, "127.0.0.1", self._port, **self._options)
        self._kept.close()
        self._port = next(iter(self._server.sockets)).getsockname()[1]

    async def shut(self) -> None:
        """Close every connection and stop listening: to connect is refused from here on."""
        if self._server is not None:
            server, self._server = self._server, None
            server.close()
            await server.wait_closed()
            # Bound and not listening: nobody else is given the port meanwhile.
            self._kept = socket.socket()
            self._kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._kept.bind(("127.0.0.1", self._port))

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"ws://127.0.0.1:{self._port}/ws"

    @property
    def streams(self) -> list[str]:
        """The streams asked for in SUBSCRIBE requests, in order."""
        return [name for request in self.requests if request["method"] == "SUBSCRIBE" for name in request["params"]]

    async def send(self, *payloads: bytes) -> None:
        """Send messages to every connection, in one turn of the loop, so that one read of the client completes them."""
        for connection in self.connections:
            for payload in payloads[:-1]:
                connection.protocol.send_text(payload)
            await connection.send(payloads[-1], text=True)

    def send_now(self, connection: ServerConnection, payload: bytes) -> None:
        """Send one message to one connection, without waiting; nothing where either side is just closing it."""
        if connection not in self.connections or connection.transport.is_closing():
            return
        if connection.protocol.state is State.OPEN:
            connection.protocol.send_text(payload)
            connection.send_data()

    async def close(self, code: int, reason: str = "") -> None:
        """Close every connection with a close frame."""
        await asyncio.gather(*(connection.close(code, reason) for connection in self.connections))

    def abort(self) -> None:
        """Drop every connection without one."""
        for connection in self.connections:
            connection.transport.abort()

    async def _serve(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        self.accepted_s.append(clocks.steady_s())
        self.paths.append(connection.request.path)
        self.connections.append(connection)
        try:
            if self.greet is not None:
                await self.greet(connection)
            async for message in connection:
                request = orjson.loads(message)
                self.request_times_s.append(clocks.steady_s())
                self.requests.append(request)
                self.asking = connection
                answer = self.answer(request)
                if answer is not None:
                    await connection.send(orjson.dumps(answer), text=True)
        except ConnectionClosed:
            pass  # a test dropped it, or the client did
        finally:
            self.connections.remove(connection)


def frame(payload: bytes, opcode: int = TEXT, *, final: bool = True) -> bytes:
    """A frame as a server sends it (RFC 6455 section 5.2)."""
    head = bytes([0x80 * final | opcode])
    if len(payload) < 126:
        return head + bytes([len(payload)]) + payload
    if len(payload) < 65_536:
        return head + b"\x7e" + struct.pack(">H", len(payload)) + payload
    return head + b"\x7f" + struct.pack(">Q", len(payload)) + payload


class RawServer:
    """A TCP server that answers the opening handshake, and then sends what it was given and nothing else.

    It reads, so that the client can write, but answers neither pings nor, where `farewell` is left as it is, closes.

    Args:
        behind: bytes written together with the handshake's response, in one piece.
        chunks: bytes written afterwards, each piece by itself.
        mute: do not even answer the handshake.
        deaf: read nothing once the handshake is done, so that what the client writes piles up on its side.
        ssl: speak TLS.
    """

    def __init__(
        self,
        behind: bytes = b"",
        chunks: Sequence[bytes] = (),
        *,
        mute: bool = False,
        deaf: bool = False,
        ssl: SSLContext | None = None,
    ) -> None:
        self.mute = mute
        self.deaf = deaf
        self.ssl = ssl
        self.behind = behind
        self.chunks = chunks
        self.accepted = 0
        self.received = b""
        self._over = asyncio.Event()
        self.writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.ssl)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self._over.set()
        for writer in self.writers:
            writer.transport.abort()
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        """Where it listens."""
        assert self._server is not None
        where = "ws://127.0.0.1" if self.ssl is None else "wss://localhost"
        return f"{where}:{self._server.sockets[0].getsockname()[1]}/ws"

    def _was_closed(self) -> bool:
        # Whether a close frame is among those received; a client's are short, and masked.
        at = 0
        while at + 1 < len(self.received):
            if self.received[at] == 0x80 | CLOSE:
                return True
            length = self.received[at + 1] & 0x7F
            if length == 126:
                length = 2 + int.from_bytes(self.received[at + 2 : at + 4], "big")
            at += 6 + length
        return False

    async def farewell(self, _: asyncio.StreamWriter) -> bytes:
        """What a close frame is answered with."""
        return b""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self.writers.append(writer)
        try:
            if self.mute:
                await reader.read()
                return
            request = (await reader.readuntil(b"\r\n\r\n")).decode()
            fields = {key.lower(): value for key, _, value in (line.partition(": ") for line in request.split("\r\n"))}
            key = fields["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
            accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
            writer.write(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                + f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
                + self.behind
            )
            await writer.drain()
            for chunk in self.chunks:
                writer.write(chunk)
                await writer.drain()
            if self.deaf:
                cast("asyncio.Transport", writer.transport).pause_reading()
                await self._over.wait()
                return
            while data := await reader.read(65_536):
                self.received += data
                if self._was_closed() and (goodbye := await self.farewell(writer)):
                    writer.write(goodbye)
                    break
        except OSError:
            pass  # the client dropped it, or the test did
        finally:
            writer.close()


def show(bars: Iterable[OHLCVBar]) -> list[str]:
    """Bars as text, one line each: start in UTC, spec, OHLC, volume, trades, ids, status, revision and reason."""
    return [
        f"{bar.open_time:%H:%M:%S} {bar.spec} {bar.open} {bar.high} {bar.low} {bar.close} v{bar.volume}"
        f" n{bar.trade_count} {bar.first_trade_id}-{bar.last_trade_id} {bar.status} r{bar.revision} {bar.close_reason}"
        for bar in bars
    ]
