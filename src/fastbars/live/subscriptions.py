"""Which streams are wanted, which the exchange has confirmed, and the requests under way between the two.

Units: seconds.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from fastbars.errors import SubscriptionError, WSConnectionError
from fastbars.live.exchange import Ack, Exchange, Refusal, Stream

Send = Callable[[bytes], Awaitable[None]]


class Throttle:
    """Lets at most `per_second` requests pass in any second."""

    def __init__(self, per_second: float) -> None:
        self._sent: deque[float] = deque(maxlen=max(1, int(per_second)))
        self._lock = asyncio.Lock()

    async def wait(self) -> None:
        """Returns when the next request may be sent, and counts it."""
        loop = asyncio.get_running_loop()
        async with self._lock:
            if len(self._sent) == self._sent.maxlen:
                await asyncio.sleep(max(0.0, self._sent[0] + 1.0 - loop.time()))
            self._sent.append(loop.time())


class _Request:
    """One under way: what it asks for, what is not answered yet, and what was refused of it."""

    def __init__(self, request_id: int, streams: Sequence[Stream], *, ends: bool) -> None:
        self.request_id = request_id
        self.ends = ends
        self.left = set(streams)
        self.refused: dict[Stream, str] = {}  # by name, the others are not concerned
        self.answer: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()

    def take(self, message: Ack | Refusal) -> None:
        """An answer that belongs to it."""
        if isinstance(message, Refusal):
            if not message.streams:
                self._settle(message.reason)
                return
            named = self.left & set(message.streams)
            self.refused.update(dict.fromkeys(named, message.reason))
        elif message.whole and self.ends:
            named = self.left - set(message.streams)
        else:
            named = self.left & set(message.streams) if message.streams or message.whole else set(self.left)
        self.left -= named
        if not self.left:
            self._settle(None)

    def _settle(self, reason: str | None) -> None:
        if not self.answer.done():
            self.answer.set_result(reason)


class Subscriptions:
    """The streams of one connection.

    Attributes:
        desired: what the user wants; it survives reconnects.
        confirmed: what the exchange has acknowledged on this connection.
    """

    def __init__(self, exchange: Exchange, ack_timeout: float) -> None:
        self.desired: dict[Stream, None] = {}
        self.confirmed: set[Stream] = set()
        self._exchange = exchange
        self._ack_timeout = ack_timeout
        self._silence = f"no answer within {ack_timeout:g} s"
        self._waiting: dict[int, _Request] = {}
        self._last_id = 0
        self._turn = asyncio.Lock()  # a user's request and the one after a reconnect must not both be sent
        self._throttle = Throttle(exchange.limits.requests_per_second)

    def want(self, streams: Sequence[Stream]) -> None:
        """Raises SubscriptionError for an unknown channel, or more streams than a connection may have."""
        for _, channel in streams:
            self._exchange.check_channel(channel)
        limit = self._exchange.limits.streams_per_connection
        if len(self.desired.keys() | set(streams)) > limit:
            raise SubscriptionError(
                f"{self._exchange.name}: {len(self.desired)} streams and {len(streams)} more are over the limit of"
                f" {limit} a connection",
                tuple(symbol for symbol, _ in streams),
            )
        self.desired.update(dict.fromkeys(streams))

    def drop(self, streams: Sequence[Stream]) -> None:
        """They are no longer wanted."""
        for stream in streams:
            self.desired.pop(stream, None)

    def answer(self, message: Ack | Refusal) -> bool:
        """Relates an answer of the exchange to its request. False: it belongs to none."""
        requests = [request for request in self._waiting.values() if not request.answer.done()]
        if message.request_id is not None:
            requests = [request for request in requests if request.request_id == message.request_id]
        elif isinstance(message, Ack):
            requests = [
                request
                for request in requests
                if message.whole or (request.ends == message.ended and request.left & set(message.streams))
            ]
        elif message.streams:
            requests = [request for request in requests if request.left & set(message.streams)]
        else:
            requests = requests[:1] if self._exchange.acks == "streams" else []
        for request in requests:
            request.take(message)
        return bool(requests)

    def connection_lost(self) -> None:
        """Nothing is confirmed any more, and no answer will come."""
        self.confirmed.clear()
        for request in self._waiting.values():
            if not request.answer.done():
                request.answer.set_exception(WSConnectionError(f"{self._exchange.name}: the connection was lost"))

    async def subscribe(self, streams: Sequence[Stream] | None, send: Send) -> None:
        """Subscribe and wait for the acks; a refused request is tried again stream by stream.

        Args:
            streams: those of them that are not confirmed yet; None: all that are desired.
            send: sends a request.

        Raises:
            SubscriptionError: names the symbols that were refused; the others are subscribed. The refused ones
                are no longer desired. After a reconnect (streams None), those that merely got no answer still are.
            WSConnectionError: the connection was lost; all stay desired.
        """
        async with self._turn:
            wanted = list(self.desired) if streams is None else streams
            missing = [stream for stream in wanted if stream not in self.confirmed]
            refused = await self._request(missing, send, ends=False)
            self.confirmed.update(stream for stream in missing if stream not in refused)
        if refused:
            self.drop([stream for stream, why in refused.items() if streams is not None or why != self._silence])
            reasons = "; ".join(f"{symbol}@{channel}: {why}" for (symbol, channel), why in refused.items())
            raise SubscriptionError(f"{self._exchange.name} refused {reasons}", tuple(symbol for symbol, _ in refused))

    async def unsubscribe(self, streams: Sequence[Stream], send: Send) -> None:
        """Unsubscribe and wait for the acks. Raises SubscriptionError, WSConnectionError."""
        refused = await self._request(streams, send, ends=True)
        self.confirmed.difference_update(streams)
        if refused:
            raise SubscriptionError(f"{self._exchange.name} refused to unsubscribe {refused}")

    async def _request(self, streams: Sequence[Stream], send: Send, *, ends: bool) -> dict[Stream, str]:
        most = self._exchange.limits.streams_per_request
        refused: dict[Stream, str] = {}
        for start in range(0, len(streams), most):
            chunk = streams[start : start + most]
            reason, named = await self._ask(chunk, send, ends=ends)
            refused |= named
            if reason is None:
                continue
            if len(chunk) == 1:
                refused[chunk[0]] = reason
                continue
            for stream in chunk:
                reason, named = await self._ask([stream], send, ends=ends)
                refused |= named if reason is None else {stream: reason}
        return refused

    async def _ask(self, streams: Sequence[Stream], send: Send, *, ends: bool) -> tuple[str | None, dict[Stream, str]]:
        # The reason to refuse all of them, or None, and those refused by name.
        self._last_id += 1
        request = _Request(self._last_id, streams, ends=ends)
        self._waiting[request.request_id] = request
        build = self._exchange.unsubscribe if ends else self._exchange.subscribe
        try:
            for frame in build(streams, request.request_id):
                await self._throttle.wait()
                await send(frame)
            if self._exchange.acks != "none":
                async with asyncio.timeout(self._ack_timeout):
                    return await request.answer, request.refused
        except TimeoutError:
            # An exchange that is silent now would be silent once for every stream: none is asked for again.
            silent = [stream for stream in streams if stream in request.left]
            return None, request.refused | dict.fromkeys(silent, self._silence)
        finally:
            del self._waiting[request.request_id]
        return None, {}
