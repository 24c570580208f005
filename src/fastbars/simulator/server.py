"""The embedded exchange: a real WebSocket server on loopback that speaks an exchange's dialect.

It either trades a synthetic market in real time, or serves recorded tapes as fast as they are taken. Tests,
demos and benchmarks connect to it as they would to the exchange.

Source: the documentation named by each dialect.
Units: times in ms since the Unix epoch, of the exchange's clock: the machine's, moved by `clock_offset_s`; `_s` times
on the machine's steady clock.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from fastbars.errors import TapeError
from fastbars.log import log
from fastbars.simulator.client import Client
from fastbars.simulator.delivery import send_tapes
from fastbars.simulator.dialect import Stream, Subscriber
from fastbars.simulator.dialects import find_dialect
from fastbars.simulator.faults import AT_ONCE, Fault, FaultKind, Faults
from fastbars.simulator.listings import ListingDesk, State
from fastbars.simulator.posts import PostConnection, post_of
from fastbars.simulator.publisher import Publisher
from fastbars.simulator.record import ConnectionRecord, Record
from fastbars.simulator.rest import RestDesk
from fastbars.simulator.tape_streams import streams_in

__all__ = ["SimulatedExchange", "SimulatorStats"]

MAX_BUFFERED_BYTES = 16 * 1024 * 1024  # of one client; beyond it the client is too slow and is disconnected
_TICK_S = 0.005
_PONG_TIMEOUT_S = 60.0
_END_CODE = 1001  # of a connection that has become too old or was silent for too long
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
        exchange: whose dialect it speaks, such as "bybit".
        market: as the library names the exchange's markets, such as "usdm"; the first one if None.
        symbols: how many, or their names.
        rate: trades a second over all symbols, in the mean.
        seed: same seed, same prices, sizes, ids and distances in time.
        tapes: recorded messages (Binance only) to serve instead of a synthetic market; symbols and rate are then
            unused. Each connection is served from the first message on, byte for byte, from its first
            acknowledged subscription on; what it has not subscribed to is left out; at the end it is closed
            with 1000.
        host: address to listen on.
        port: 0 takes a free one.
        clock_offset_s: how far the exchange's clock is ahead of this machine's.
        lifetime_s: age at which it closes a connection (1001), announced a little before where the exchange does so.
        silence_s: how long a silence it endures, instead of what the exchange does.
        halted, delisted: names that the exchange lists beside its symbols, and that do not trade.
        voids_per_minute: ids of the busiest symbol that are sent though nothing was traded; None: as many as the
            exchange sends (Binance's futures 14, the others none).
        record: note everything that is traded and sent, in `record`, and serve past trades at `rest_url`; memory grows.
        faults: what goes wrong; implies `record`.
        ssl: serve wss.

    Raises:
        UnknownExchangeError: no such exchange or market.
        ValueError: symbols or rate make no sense.
    """

    def __init__(
        self,
        exchange: str = "binance",
        *,
        market: str | None = None,
        symbols: int | Sequence[str] = 20,
        halted: Sequence[str] = (),
        delisted: Sequence[str] = (),
        rate: float = 20_000.0,
        seed: int = 1,
        tapes: Sequence[str | Path] = (),
        host: str = "127.0.0.1",
        port: int = 0,
        clock_offset_s: float = 0.0,
        lifetime_s: float | None = None,
        silence_s: float | None = None,
        voids_per_minute: float | None = None,
        record: bool = False,
        faults: Faults | None = None,
        ssl: ssl.SSLContext | None = None,
    ) -> None:
        self.stats = SimulatorStats()
        self.faults = faults
        self._tapes = tuple(tapes)
        self._tape_streams: Sequence[str] = ()
        # the clock never steps back, whatever happens to the machine's
        self._clock_base_ns = time.time_ns() + int(clock_offset_s * 1e9) - time.monotonic_ns()
        kind = find_dialect(exchange)
        self.market, self._instruments = kind.listing(market, symbols)
        self._dialect = kind(self.market, self._instruments)
        if tapes:
            self._dialect.serve_tapes(())  # an error where the dialect has none
        self._record = Record(self._instruments) if record or faults is not None else None
        # Instruments over REST, on the same port.
        stopped: dict[str, State] = {**dict.fromkeys(halted, "halted"), **dict.fromkeys(delisted, "delisted")}
        symbols_traded = [instrument.symbol for instrument in self._instruments]
        self.listing = ListingDesk(exchange.lower(), self.market, symbols_traded, stopped)
        # Past trades over REST, on the same port, where they are kept.
        self.rest: RestDesk | None = None
        if self._record is not None:
            self.rest = RestDesk(exchange, self.market, self._instruments, self._record.history)
        self._publisher = Publisher(self._dialect, rate, seed, self._now_ms(), self._record, voids_per_minute)
        self._lifetime_s = lifetime_s
        self._silence = None if kind.silence is None else (kind.silence[0], silence_s or kind.silence[1])
        self._host = host
        self._port = port
        self._ssl = ssl
        self._server: Server | None = None
        self._market_task: asyncio.Task[None] | None = None
        self._closing_tasks: set[asyncio.Task[None]] = set()
        self._clients: dict[ServerConnection, Client] = {}
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
            self._dialect.serve_tapes(self._tape_streams)
        self._server = await serve(
            self._serve_client,
            self._host,
            self._port,
            process_request=self._check_handshake,
            create_connection=PostConnection,
            compression=None,
            ssl=self._ssl,
            ping_interval=self._dialect.ping_interval_s,
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
        """Where trades come."""
        return self._url(self._dialect.paths[0])

    @property
    def rest_url(self) -> str:
        """Where instruments are served and, with `record`, past trades."""
        return f"{'http' if self._ssl is None else 'https'}://{self._host}:{self._port}"

    @property
    def combined_url(self) -> str:
        """Where Binance's messages come wrapped in {"stream","data"}."""
        return self._url("/stream")

    def _url(self, path: str) -> str:
        return f"{'ws' if self._ssl is None else 'wss'}://{self._host}:{self._port}{path}"

    @property
    def symbols(self) -> list[str]:
        """The symbols listed, as payloads write them; those of the tapes once these are served."""
        if self._tapes:
            return list(dict.fromkeys(name.partition("@")[0].upper() for name in self._tape_streams))
        return [instrument.symbol for instrument in self._instruments]

    @property
    def record(self) -> Record:
        """What it truly did. Raises RuntimeError where `record` was not asked for."""
        if self._record is None:
            raise RuntimeError("simulator: nothing is recorded; make it with record=True")
        return self._record

    @property
    def connections(self) -> set[ServerConnection]:
        """The open connections."""
        return {connection for connection, client in self._clients.items() if client.is_open}

    async def run_script(self, script: Sequence[tuple[float, Fault]]) -> None:
        """Inject faults at their times, in s from now (see `Faults.schedule`)."""
        assert self.faults is not None, "made without faults"
        started_s = time.monotonic()
        for at_s, fault in script:
            await asyncio.sleep(max(0.0, started_s + at_s - time.monotonic()))
            self.faults.inject(fault)

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
                now_ms, now_s = self._now_ms(), time.monotonic()
                self._publisher.advance(now_ms)
                self.stats.trades_generated = self._publisher.trades_generated
                if self.faults is not None:
                    self._apply(self.faults, now_s)
                for client in list(self._clients.values()):
                    self._beat(client, now_ms)
                    self.stats.messages_sent += client.deliver(now_s)
                    self._check(client, now_ms, now_s)
                await asyncio.sleep(_TICK_S)
        except Exception:  # noqa: BLE001 - a task's top: it logs and stops loudly
            log.exception("simulated market failed, closing every connection", symbols=len(self.symbols))
            if self._server is not None:
                self._server.close(code=1011)

    def _beat(self, client: Client, now_ms: int) -> None:
        every_ms, subscriber = self._dialect.heartbeat_ms, client.subscriber
        if every_ms is not None and now_ms - subscriber.last_beat_ms >= every_ms:
            subscriber.last_beat_ms = now_ms
            heartbeat = self._dialect.heartbeat(subscriber, now_ms)
            if heartbeat is not None:
                subscriber.pending.append(heartbeat)

    def _check(self, client: Client, now_ms: int, now_s: float) -> None:
        # Clients that are too slow, too old or too silent are closed.
        if not client.is_open:
            return
        buffered = client.connection.transport.get_write_buffer_size()
        if buffered > MAX_BUFFERED_BYTES:
            log.warning("client too slow, disconnecting", buffered_bytes=buffered, limit_bytes=MAX_BUFFERED_BYTES)
            self._in_background(client.connection.close(1008, "client is too slow"))
        if self._silence is not None and client.is_silent(*self._silence, now_s):
            self._in_background(client.connection.close(_END_CODE, "silence"))
        if client.notice_s is not None and now_s >= client.notice_s:
            client.notice_s = None
            notice = self._dialect.notice(now_ms)
            if notice is not None:
                client.subscriber.pending.append(notice)
        elif client.ends_s is not None and now_s >= client.ends_s:
            self._in_background(client.connection.close(_END_CODE, "lifetime"))

    def _apply(self, faults: Faults, now_s: float) -> None:
        # The faults that befall connections, or the clock.
        for kind in AT_ONCE:
            open_ = [client for client in self._clients.values() if client.is_open]
            if not open_ and kind is not FaultKind.CLOCK:
                continue  # they wait for one
            while (fault := faults.take_whole(kind)) is not None:
                faults.applied[kind] += 1
                if kind is FaultKind.CLOCK:
                    self._publisher.event_offset_ms = int(fault.seconds * 1000)
                    continue
                for client in faults.random.sample(open_, min(fault.count or len(open_), len(open_))):
                    self._befall(client, fault, now_s)

    def _befall(self, client: Client, fault: Fault, now_s: float) -> None:
        if fault.kind is FaultKind.DROP:
            client.connection.transport.abort()
        elif fault.kind is FaultKind.CLOSE:
            self._in_background(client.connection.close(fault.code, "fault"))
        elif fault.kind is FaultKind.STALL:
            client.stall(fault.seconds, now_s)
        else:
            client.ends_s, client.notice_s = now_s + fault.seconds, now_s

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._closing_tasks.add(task)
        task.add_done_callback(self._closing_tasks.discard)

    async def _check_handshake(self, connection: ServerConnection, request: Request) -> Response | None:
        answer = self.listing.answer(*post_of(request.path))
        if answer is None and self.rest is not None:
            answer = self.rest.answer(request.path)
        if answer is not None:
            await asyncio.sleep(answer.delay_s)
            response = connection.respond(HTTPStatus(answer.status), answer.body.decode())
            if answer.retry_after_s is not None:
                response.headers["Retry-After"] = f"{answer.retry_after_s:g}"
            return response
        body = self._dialect.get(request.path.partition("?")[0])
        if body is not None:
            return connection.respond(HTTPStatus.OK, body.decode())
        opening = self._dialect.open(request.path)
        if opening is None:
            return connection.respond(HTTPStatus.NOT_FOUND, f"no such path: {request.path}\n")
        if opening.refusal is not None:
            return connection.respond(HTTPStatus.BAD_REQUEST, opening.refusal.decode())
        fault = None if self.faults is None else self.faults.take(FaultKind.REFUSE)
        if fault is None:
            return None
        self.record.refused.append((time.monotonic(), fault.status))
        response = connection.respond(HTTPStatus(fault.status), "refused\n")
        if fault.retry_after_s is not None:
            response.headers["Retry-After"] = str(fault.retry_after_s)
        return response

    def _make_client(self, connection: ServerConnection, subscriber: Subscriber) -> Client:
        assert connection.request is not None
        now_s, noted = time.monotonic(), None
        if self._record is not None:
            number = len(self._record.connections)
            noted = self._record, ConnectionRecord(number, connection.request.path, now_s)
            self._record.connections.append(noted[1])
        client = Client(connection, subscriber, self._dialect, noted, self.faults)
        if self._lifetime_s is not None:
            client.ends_s = now_s + self._lifetime_s
            client.notice_s = client.ends_s - self._lifetime_s / 10
        return client

    async def _serve_client(self, connection: ServerConnection) -> None:
        self.stats.connections_accepted += 1
        assert connection.request is not None
        opening = self._dialect.open(connection.request.path)
        assert opening is not None
        subscriber = Subscriber(opening.combined, opening.route)
        client = self._clients[connection] = self._make_client(connection, subscriber)
        player: asyncio.Task[None] | None = None
        try:
            for greeting in self._dialect.greet():
                await connection.send(greeting, text=True)
            self._subscribe(client, opening.streams)
            if self._tapes and opening.streams:
                player = asyncio.create_task(self._play(connection, subscriber), name="simulator tape")
            async for message in connection:
                self.stats.commands += 1
                client.heard(message, time.monotonic())
                subscribed = await self._obey(client, message)
                if self._tapes and subscribed and player is None:
                    player = asyncio.create_task(self._play(connection, subscriber), name="simulator tape")
        except ConnectionClosed:
            pass  # lost without a close frame: nobody is left to be told
        finally:
            del self._clients[connection]
            if client.record is not None:
                client.record[1].closed_s = time.monotonic()
            for name in list(subscriber.streams):
                self._publisher.unsubscribe(subscriber, name)
            if player is not None:
                player.cancel()
                await asyncio.wait([player])

    def _subscribe(self, client: Client, streams: Sequence[Stream]) -> None:
        for stream in streams:
            self._publisher.subscribe(client.subscriber, stream, self._now_ms())
        client.holds(time.monotonic())

    async def _obey(self, client: Client, message: str | bytes) -> bool:
        """Carry out one command and answer it; True where it subscribed to something."""
        heard = self._dialect.hear(client.subscriber, message, self._now_ms())
        silent = False
        if self.faults is not None and heard.is_request:
            if self.faults.take(FaultKind.NEVER_ACK) is not None:
                return False
            late = self.faults.take(FaultKind.LATE_ACK)
            if late is not None:
                await asyncio.sleep(late.seconds)
            silent = bool(heard.subscribe) and self.faults.take(FaultKind.SILENT_SUBSCRIPTION) is not None
        for name in heard.unsubscribe:
            self._publisher.unsubscribe(client.subscriber, name)
        # before subscribing: no message of a stream precedes its acknowledgment
        for reply in heard.replies:
            await client.connection.send(reply, text=True)
            client.last_sent_s = time.monotonic()
        if not silent:
            self._subscribe(client, heard.subscribe)
        return bool(heard.subscribe)

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
