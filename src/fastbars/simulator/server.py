"""The embedded exchange: a real WebSocket server on loopback that speaks Binance's dialect.

It either trades a synthetic market in real time, or serves recorded tapes as fast as they are taken. Tests,
demos and benchmarks connect to it as they would to Binance.

Source: https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams
Units: times in ms since the Unix epoch, of the exchange's clock: the machine's, moved by `clock_offset_s`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from types import TracebackType

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.protocol import State

from fastbars.errors import TapeError
from fastbars.log import log
from fastbars.simulator.commands import Command, RefusalError, acknowledge, parse_command, parse_path
from fastbars.simulator.delivery import send_tapes, write_messages
from fastbars.simulator.desk import SubscriptionDesk
from fastbars.simulator.instruments import list_instruments
from fastbars.simulator.publisher import Publisher, Subscriber
from fastbars.simulator.tape_streams import streams_in

__all__ = ["SimulatedExchange", "SimulatorStats"]

MAX_BUFFERED_BYTES = 16 * 1024 * 1024  # of one client; beyond it the client is too slow and is disconnected
_TICK_S = 0.005
_PING_INTERVAL_S = 20.0
_PONG_TIMEOUT_S = 60.0
_CLOSE_TIMEOUT_S = 1.0  # how long a client that has stopped reading can delay `stop`


@dataclass
class SimulatorStats:
    """What the exchange has done since its start.

    Attributes:
        trades_generated: trades of the synthetic market, heard or not.
        messages_sent: market data messages handed to sockets, each client's counted.
        connections_accepted: opening handshakes that succeeded.
        commands: messages received from clients, refused ones too.
    """

    trades_generated: int = 0
    messages_sent: int = 0
    connections_accepted: int = 0
    commands: int = 0


class SimulatedExchange:
    """An exchange to connect to on this machine.

        async with SimulatedExchange(symbols=["BTCUSDT"], rate=100) as exchange:
            ...  # connect to exchange.url and subscribe to "btcusdt@trade"

    Args:
        market: "spot", "usdm" or "coinm"; decides the fields of the messages.
        symbols: how many, or their names.
        rate: trades a second over all symbols, in the mean.
        seed: same seed, same prices, sizes, ids and distances in time.
        tapes: recorded Binance messages to serve instead of a synthetic market; symbols and rate are then
            unused. Each connection is served from the first message on, byte for byte, from its first
            acknowledged subscription on; what it has not subscribed to is left out; at the end it is closed
            with 1000.
        host: address to listen on.
        port: 0 takes a free one.
        clock_offset_s: how far the exchange's clock is ahead of this machine's.

    Raises:
        UnknownExchangeError: no such market.
        ValueError: symbols or rate make no sense.
    """

    def __init__(
        self,
        *,
        market: str = "spot",
        symbols: int | Sequence[str] = 20,
        rate: float = 20_000.0,
        seed: int = 1,
        tapes: Sequence[str | Path] = (),
        host: str = "127.0.0.1",
        port: int = 0,
        clock_offset_s: float = 0.0,
    ) -> None:
        self.stats = SimulatorStats()
        self._tapes = tuple(tapes)
        self._tape_streams: Sequence[str] = ()
        # the clock never steps back, whatever happens to the machine's
        self._clock_base_ns = time.time_ns() + int(clock_offset_s * 1e9) - time.monotonic_ns()
        self._instruments = list_instruments(market, symbols)
        self._publisher = Publisher(market, self._instruments, rate, seed, self._now_ms())
        self._desk = SubscriptionDesk(self._publisher)
        self._host = host
        self._port = port
        self._server: Server | None = None
        self._market_task: asyncio.Task[None] | None = None
        self._closing_tasks: set[asyncio.Task[None]] = set()
        self._clients: dict[ServerConnection, Subscriber] = {}
        self._playing = 0
        self._finished = asyncio.Event()

    async def start(self) -> None:
        """Open the port and the market.

        Raises:
            OSError: the port is taken.
            TapeError: a tape cannot be read to its end, or holds no message of a Binance stream.
            RuntimeError: it was started before.
        """
        if self._server is not None:
            raise RuntimeError("simulator: already started; make a new SimulatedExchange to start again")
        if self._tapes:
            self._tape_streams = await asyncio.to_thread(streams_in, self._tapes)
            self._desk = SubscriptionDesk(self._publisher, set(self._tape_streams))
        self._server = await serve(
            self._serve_client,
            self._host,
            self._port,
            process_request=self._check_path,
            compression=None,
            ping_interval=_PING_INTERVAL_S,
            ping_timeout=_PONG_TIMEOUT_S,
            close_timeout=_CLOSE_TIMEOUT_S,
        )
        self._port = next(iter(self._server.sockets)).getsockname()[1]
        if not self._tapes:
            self._market_task = asyncio.create_task(self._run_market(), name="simulator market")

    async def stop(self) -> None:
        """Close every connection with 1001, then the port; no task is left. A second call does nothing."""
        self._finished.set()
        if self._market_task is not None:
            self._market_task.cancel()
            await asyncio.wait([self._market_task])
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
        if self._closing_tasks:
            await asyncio.wait(self._closing_tasks)

    async def __aenter__(self) -> SimulatedExchange:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def port(self) -> int:
        """The port listened on; 0 before the start, where none was given."""
        return self._port

    @property
    def url(self) -> str:
        """Where messages come bare."""
        return f"ws://{self._host}:{self._port}/ws"

    @property
    def combined_url(self) -> str:
        """Where messages come wrapped in {"stream","data"}."""
        return f"ws://{self._host}:{self._port}/stream"

    @property
    def symbols(self) -> list[str]:
        """The symbols listed, as payloads write them; those of the tapes once these are served."""
        if self._tapes:
            return list(dict.fromkeys(name.partition("@")[0].upper() for name in self._tape_streams))
        return [instrument.symbol for instrument in self._instruments]

    @property
    def connections(self) -> set[ServerConnection]:
        """The open connections."""
        return {connection for connection in self._clients if connection.state is State.OPEN}

    async def disconnect_all(self, code: int = 1012, reason: str = "") -> None:
        """Close every connection as WebSockets close, with a close frame."""
        await asyncio.gather(*(connection.close(code, reason) for connection in self.connections))

    def abort_all(self) -> None:
        """Drop every connection without a close frame, as a failing network does."""
        for connection in self.connections:
            connection.transport.abort()

    async def wait_finished(self) -> None:
        """Wait until a tape was played to its end and is played to nobody else, or until `stop`."""
        await self._finished.wait()

    def _now_ms(self) -> int:
        return (self._clock_base_ns + time.monotonic_ns()) // 1_000_000

    async def _run_market(self) -> None:
        try:
            while True:
                self._publisher.advance(self._now_ms())
                self.stats.trades_generated = self._publisher.trades_generated
                for connection, subscriber in list(self._clients.items()):
                    if subscriber.pending:
                        messages, subscriber.pending = subscriber.pending, []
                        self.stats.messages_sent += write_messages(connection, messages)
                        self._check_backlog(connection)
                await asyncio.sleep(_TICK_S)
        except Exception:  # noqa: BLE001 - a task's top: it logs and stops loudly
            log.exception("simulated market failed, closing every connection", symbols=len(self.symbols))
            if self._server is not None:
                self._server.close(code=1011)

    def _check_backlog(self, connection: ServerConnection) -> None:
        buffered = connection.transport.get_write_buffer_size()
        if buffered > MAX_BUFFERED_BYTES and connection.state is State.OPEN:
            log.warning("client too slow, disconnecting", buffered_bytes=buffered, limit_bytes=MAX_BUFFERED_BYTES)
            task = asyncio.create_task(connection.close(1008, "client is too slow"))
            self._closing_tasks.add(task)
            task.add_done_callback(self._closing_tasks.discard)

    def _check_path(self, connection: ServerConnection, request: Request) -> Response | None:
        parsed = parse_path(request.path)
        if parsed is None:
            return connection.respond(HTTPStatus.NOT_FOUND, f"no such path: {request.path}\n")
        try:
            self._desk.resolve(Command("SUBSCRIBE", parsed[1], None))
        except RefusalError as refusal:
            return connection.respond(HTTPStatus.BAD_REQUEST, refusal.reply.decode())
        return None

    async def _serve_client(self, connection: ServerConnection) -> None:
        self.stats.connections_accepted += 1
        assert connection.request is not None
        combined, names = parse_path(connection.request.path) or (False, ())
        subscriber = Subscriber(combined)
        self._clients[connection] = subscriber
        player: asyncio.Task[None] | None = None
        try:
            self._desk.subscribe(subscriber, self._desk.resolve(Command("SUBSCRIBE", names, None)))
            if self._tapes and names:
                player = asyncio.create_task(self._play(connection, subscriber), name="simulator tape")
            async for message in connection:
                self.stats.commands += 1
                subscribed = await self._obey(connection, subscriber, message)
                if self._tapes and subscribed and player is None:
                    player = asyncio.create_task(self._play(connection, subscriber), name="simulator tape")
        except ConnectionClosed:
            pass  # lost without a close frame: nobody is left to be told
        finally:
            del self._clients[connection]
            self._desk.unsubscribe(subscriber, list(subscriber.streams))
            if player is not None:
                player.cancel()
                await asyncio.wait([player])

    async def _obey(self, connection: ServerConnection, subscriber: Subscriber, message: str | bytes) -> bool:
        """Carry out one command and answer it; True where it subscribed to something."""
        try:
            command = parse_command(message)
            if command.method == "LIST_SUBSCRIPTIONS":
                await connection.send(acknowledge(command, list(subscriber.streams)), text=True)
                return False
            if command.method == "UNSUBSCRIBE":
                self._desk.unsubscribe(subscriber, command.streams)
                await connection.send(acknowledge(command), text=True)
                return False
            streams = self._desk.resolve(command, held=len(subscriber.streams))
        except RefusalError as refusal:
            await connection.send(refusal.reply, text=True)
            return False
        # before subscribing: no message of a stream precedes its acknowledgment
        await connection.send(acknowledge(command), text=True)
        self._desk.subscribe(subscriber, streams)
        return True

    async def _play(self, connection: ServerConnection, subscriber: Subscriber) -> None:
        """Serve the tapes from their beginning to one connection, then close it."""
        self._playing += 1
        self._finished.clear()
        completed = False
        try:
            self.stats.messages_sent += await send_tapes(connection, self._tapes, subscriber.streams)
            completed = True  # before closing: when the client is gone, this task is cancelled
            await connection.close(1000)
        except ConnectionClosed:
            pass  # the client has left before the end
        except TapeError as error:
            log.error("the tape has changed since the start", error=str(error))
            await connection.close(1011, "the tape cannot be read")
        finally:
            self._playing -= 1
            if completed and not self._playing:
                self._finished.set()
