"""The clients of a simulated exchange: each from handshake to end, and the faults and deliveries of all.

Units: `_s` times on a steady clock, `_ms` since the Unix epoch on the exchange's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from fastbars.clocks import steady_s
from fastbars.simulator.client import Client
from fastbars.simulator.clock import ExchangeClock
from fastbars.simulator.dialect import Dialect, Reaction, Silence, Stream, Subscriber
from fastbars.simulator.faults import AT_ONCE, OF_THE_EXCHANGE, FaultKind, Faults
from fastbars.simulator.publisher import Publisher
from fastbars.simulator.record import Record, SimulatorStats
from fastbars.simulator.tape_player import TapePlayer

__all__ = ["Clients"]


@dataclass
class _Deferred:
    """Answers that are not sent with what they answer.

    Attributes:
        due_s: when they are sent at the latest.
        behind_next: they are sent behind the answers to the next request, where one comes.
        reaction: what they belong to.
    """

    due_s: float
    behind_next: bool
    reaction: Reaction


class Clients:
    """All clients of one exchange.

    Args:
        dialect: interprets their requests.
        publisher: serves their subscriptions.
        tapes: played to clients that subscribe, if there are any.
        clock: the exchange's.
        stats: counts connections, requests and messages.
        record: keeps what each was sent; None: nothing is recorded.
        faults: those to apply; None: none.
        lifetime_s: age at which a connection is closed; None: never.
        silence: after which a connection is closed; None: never.
    """

    def __init__(
        self,
        dialect: Dialect,
        publisher: Publisher,
        tapes: TapePlayer,
        clock: ExchangeClock,
        stats: SimulatorStats,
        *,
        record: Record | None,
        faults: Faults | None,
        lifetime_s: float | None,
        silence: Silence | None,
    ) -> None:
        self._dialect = dialect
        self._publisher = publisher
        self._tapes = tapes
        self._clock = clock
        self._stats = stats
        self._record = record
        self._faults = faults
        self._lifetime_s = lifetime_s
        self._silence = silence
        self._clients: dict[ServerConnection, Client] = {}
        self._deferred: dict[Client, list[_Deferred]] = {}

    @property
    def connections(self) -> set[ServerConnection]:
        """The open connections."""
        return {connection for connection, client in self._clients.items() if client.is_open}

    async def serve(self, connection: ServerConnection) -> None:
        """Serve one client from its handshake to its end."""
        self._stats.connections_accepted += 1
        assert connection.request is not None
        opening = self._dialect.open(connection.request.path)
        assert opening is not None
        subscriber = Subscriber(opening.combined, opening.route)
        client = self._clients[connection] = self._make_client(connection, connection.request.path, subscriber)
        player: asyncio.Task[None] | None = None
        try:
            for greeting in self._dialect.greet():
                await connection.send(greeting, text=True)
            self._subscribe(client, opening.streams)
            if opening.streams:
                player = self._start_tapes(client)
            async for message in connection:
                self._stats.commands += 1
                client.note_request(message, steady_s())
                if await self._carry_out(client, message) and player is None:
                    player = self._start_tapes(client)
        except ConnectionClosed:
            pass  # lost without a close frame
        finally:
            del self._clients[connection]
            client.note_end(steady_s())
            self._forget_answers(client)
            for name in list(subscriber.streams):
                self._publisher.unsubscribe(subscriber, name)
            # No task outlives its connection, because `stop` waits only for connections.
            await client.wait_closed()
            if player is not None:
                player.cancel()
                await asyncio.wait([player])

    def advance(self, now_ms: int, now_s: float) -> None:
        """Send each client its pending messages, apply faults, and close connections that are due."""
        if self._faults is not None:
            self._apply(self._faults, now_s)
        for client in list(self._clients.values()):
            client.add_heartbeat(now_ms)
            self._send_deferred(client, now_s)
            self._stats.messages_sent += client.deliver(now_s)
            client.check_limits(self._silence, now_ms, now_s)

    def _make_client(self, connection: ServerConnection, path: str, subscriber: Subscriber) -> Client:
        now_s = steady_s()
        noted = None if self._record is None else (self._record, self._record.add_connection(path, now_s))
        client = Client(connection, subscriber, self._dialect, noted, self._faults)
        if self._lifetime_s is not None:
            client.ends_s = now_s + self._lifetime_s
            client.notice_s = client.ends_s - self._lifetime_s / 10
        return client

    def _start_tapes(self, client: Client) -> asyncio.Task[None] | None:
        if not self._tapes.has_tapes:
            return None
        return asyncio.create_task(
            self._tapes.play(client.connection, client.subscriber.streams), name="simulator tape"
        )

    def _subscribe(self, client: Client, streams: Sequence[Stream], *, with_history: bool = True) -> None:
        for stream in streams:
            self._publisher.subscribe(client.subscriber, stream, self._clock.now_ms(), with_history=with_history)
        client.note("carried", streams)
        client.note_streams(steady_s())

    async def _carry_out(self, client: Client, message: str | bytes) -> bool:
        """Execute and answer one request. Returns whether it subscribed to something."""
        reaction = self._dialect.react(client.subscriber, message, self._clock.now_ms())
        subscribes = reaction.subscribe
        if self._faults is not None and reaction.is_request:
            # Before anything is done: a request without an ack must have no effect, and a late one a late effect.
            if self._faults.take_one(FaultKind.NEVER_ACK) is not None:
                return False
            late = self._faults.take_one(FaultKind.LATE_ACK)
            if late is not None:
                await asyncio.sleep(late.seconds)
            if subscribes and self._faults.take_one(FaultKind.SILENT_SUBSCRIPTION) is not None:
                subscribes = ()
        ended = [client.subscriber.streams[name] for name in reaction.unsubscribe if name in client.subscriber.streams]
        client.note("ended", ended)
        for name in reaction.unsubscribe:
            self._publisher.unsubscribe(client.subscriber, name)
        if self._faults is not None and reaction.is_request and self._defer_answers(client, reaction, self._faults):
            self._subscribe(client, subscribes, with_history=reaction.with_history)
            return bool(reaction.subscribe)
        if reaction.history_first:
            # Queued behind the history rather than sent, so that no live trade comes between the two.
            self._subscribe(client, subscribes)
            client.subscriber.pending.extend(reaction.replies)
            client.note("acked", reaction.subscribe)
            return bool(reaction.subscribe)
        # Sent before subscribing, so that no message of a stream precedes its ack.
        for reply in reaction.replies:
            await client.reply(reply)
        client.note("acked", reaction.subscribe)
        self._subscribe(client, subscribes, with_history=reaction.with_history)
        self._answer_deferred(client)
        return bool(reaction.subscribe)

    # Answers that come apart from what was done: each is (due, answers, the streams that they confirm).

    def _defer_answers(self, client: Client, reaction: Reaction, faults: Faults) -> bool:
        if faults.take_one(FaultKind.LOST_ACK) is not None:
            client.note(FaultKind.LOST_ACK, reaction.subscribe)
            return True
        for kind in (FaultKind.SLOW_ACK, FaultKind.SWAPPED_ACKS):
            fault = faults.take_one(kind)
            if fault is not None:
                client.note(kind, reaction.subscribe)
                waiting = self._deferred.setdefault(client, [])
                waiting.append(_Deferred(steady_s() + fault.seconds, kind is FaultKind.SWAPPED_ACKS, reaction))
                return True
        return False

    def _answer_deferred(self, client: Client) -> None:
        # Right behind the answer to a later request.
        for deferred in self._deferred.get(client, ()):
            if deferred.behind_next:
                deferred.due_s = 0.0

    def _send_deferred(self, client: Client, now_s: float) -> None:
        waiting = self._deferred.get(client)
        if waiting is None:
            return
        for deferred in [one for one in waiting if one.due_s <= now_s]:
            waiting.remove(deferred)
            client.subscriber.pending.extend(deferred.reaction.replies)
            client.note("acked", deferred.reaction.subscribe)

    def _forget_answers(self, client: Client) -> None:
        self._deferred.pop(client, None)

    def _apply(self, faults: Faults, now_s: float) -> None:
        # Faults of connections and of the clock; all others are applied where messages, handshakes and requests pass.
        for kind in AT_ONCE:
            open_clients = [client for client in self._clients.values() if client.is_open]
            if not open_clients and kind not in OF_THE_EXCHANGE:
                continue  # the fault waits for a connection
            while (fault := faults.take_whole(kind)) is not None:
                faults.applied[kind] += 1
                if kind is FaultKind.CLOCK:
                    self._publisher.event_offset_ms = int(fault.seconds * 1000)
                    continue
                if kind is FaultKind.RENEW_IDS:
                    symbol = fault.symbol or faults.random.choice(list(self._dialect.places))
                    self._publisher.renew_ids(self._dialect.places[symbol], fault.first_id)
                    continue
                # A count of 0 means all; a fault for more connections than there are takes those that are open.
                count = min(fault.count or len(open_clients), len(open_clients))
                for client in faults.random.sample(open_clients, count):
                    client.apply(fault, now_s)
