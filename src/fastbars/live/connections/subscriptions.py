"""Which streams are desired, which the exchange has confirmed, and the requests under way between the two.

The states of a stream on one connection:

    desired     `want`                          -> it will be asked for, on this connection and on each that follows it
    requested   `subscribe` sends               -> confirmed: an ack that names it, or its request
                                                -> refused: no longer desired, and an error names it
                                                -> no answer: refused; after a reconnect still desired, and asked again
                                                -> the connection is lost: still desired
    confirmed   `unsubscribe` sends             -> neither desired nor confirmed
                `renew` sends both              -> confirmed, or refused
                the connection is lost          -> desired
    given up    `drop`, while it is requested   -> it is unsubscribed as soon as it is confirmed

`desired` outlives connections, and is shared by the two of a handover; everything else belongs to one connection. A
request that the exchange refuses as a whole is repeated stream by stream, so that one symbol harms no other.

Units: seconds.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence

from fastbars.clocks import steady_ns
from fastbars.errors import SubscriptionError, WSConnectionError
from fastbars.exchanges.declaration import Exchange
from fastbars.exchanges.messages import Ack, Refusal, Stream
from fastbars.live.carriage import Carriage
from fastbars.live.connections.limits import RateLimiter

_MOST_LOST = 3  # connections that are lost while one stream alone is not answered
_FATAL = "the exchange closed the connection each time it was asked for"
_NAMED = 10  # streams that an error shows; its `symbols` has them all

Send = Callable[[bytes], Awaitable[None]]


def refusal(exchange: str, reasons: Mapping[str, str], symbols: tuple[str, ...]) -> SubscriptionError:
    """The error that names what was refused, as (name: reason), of which it shows the first few."""
    return SubscriptionError(f"{exchange} refused {_shown(reasons)}", symbols)


def _refusal_of(exchange: str, refused: Mapping[Stream, str]) -> SubscriptionError:
    return refusal(exchange, _by_name(refused), tuple(symbol for symbol, _ in refused))


def _by_name(refused: Mapping[Stream, str]) -> dict[str, str]:
    return {f"{symbol}@{channel}": why for (symbol, channel), why in refused.items()}


def _shown(reasons: Mapping[str, str]) -> str:
    shown = "; ".join(f"{name}: {why}" for name, why in list(reasons.items())[:_NAMED])
    return shown + (f"; and {len(reasons) - _NAMED} more" if len(reasons) > _NAMED else "")


def joined(exchange: str, errors: Sequence[SubscriptionError]) -> SubscriptionError:
    """Several refusals as one."""
    if len(errors) == 1:
        return errors[0]
    reasons = "; ".join(str(error).removeprefix(f"{exchange} refused ") for error in errors)
    return SubscriptionError(
        f"{exchange} refused {reasons}", tuple(symbol for error in errors for symbol in error.symbols)
    )


class _Request:
    """A request under way: the streams asked for, those not answered yet, and those refused.

    It ends with the first of these: everything was answered; all that is left was refused; the connection is lost.
    `answer` is then the reason to refuse what is left, None, or the error.
    """

    def __init__(self, request_id: int, streams: Sequence[Stream], *, ends: bool) -> None:
        self.request_id = request_id
        self.ends = ends
        self.asked = streams
        self.left = set(streams)
        self.refused: dict[Stream, str] = {}  # by name; the others are unaffected
        self.answer: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()

    @property
    def unanswered(self) -> list[Stream]:
        """The streams not answered yet, in the order in which they were asked for."""
        return [stream for stream in self.asked if stream in self.left]

    def take_answer(self, message: Ack | Refusal) -> None:
        """Note an answer that belongs to it."""
        if isinstance(message, Refusal):
            if message.held and not self.ends:
                # Only what is known to be held is confirmed: what it names, or the one stream that was asked for.
                alone = not message.streams and len(self.left) == 1
                self.left -= self.left if alone else set(message.streams)
                self._settle(message.reason if self.left else None)
                return
            if not message.streams:
                self._settle(message.reason)
                return
            named = {stream for stream in self.left if {stream, (stream[0], "")} & set(message.streams)}
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

    Args:
        exchange: builds the requests and names the limits.
        ack_timeout: for the exchange to answer one, s.
        desired: shared with the connection that this one is to replace.

    Attributes:
        desired: what the user wants; it survives reconnects.
        confirmed: what the exchange has acknowledged on this connection.
        carriage: of the connection, told of each request and answer; None: of none.
    """

    def __init__(self, exchange: Exchange, ack_timeout: float, desired: dict[Stream, None] | None = None) -> None:
        self.desired: dict[Stream, None] = {} if desired is None else desired
        self.confirmed: set[Stream] = set()
        self.carriage: Carriage | None = None
        self._ending: set[Stream] = set()  # asked to end, and not answered: trades of it may still come
        self._exchange = exchange
        self._ack_timeout = ack_timeout
        self._no_answer = f"no answer within {ack_timeout:g} s"
        self._waiting: dict[int, _Request] = {}
        self._suspected: dict[Stream, int] = {}  # may have made the exchange close the connection -> how often
        self._last_id = 0
        # One at a time: a user's request and the one after a reconnect must not both ask for the same streams.
        self._turn = asyncio.Lock()
        an_hour = exchange.limits.requests_per_hour
        self._hourly = None if an_hour is None else RateLimiter(an_hour, 3600.0)

    def want(self, streams: Sequence[Stream]) -> None:
        """Add streams to the desired ones.

        Raises:
            SubscriptionError: an unknown channel, more streams than a connection may have, or two names of one market;
                nothing has changed.
        """
        for _, channel in streams:
            self._exchange.check_channel(channel)
        together = dict.fromkeys([*self.desired, *streams])
        places: dict[tuple[str, str], Stream] = {}
        for stream in together:
            place = self._exchange.exclusive_place(stream)
            other = stream if place is None else places.setdefault(place, stream)
            if other != stream:
                raise SubscriptionError(
                    f"{self._exchange.name}: {other[0]}@{other[1]} and {stream[0]}@{stream[1]} need a connection each",
                    (stream[0],),
                )
        everything = dict.fromkeys(symbol for symbol, _ in together)
        self._exchange.symbols.check_apart(everything, self._exchange.name)
        limit = self._exchange.limits.streams_per_connection
        if len(self.desired.keys() | set(streams)) > limit:
            raise SubscriptionError(
                f"{self._exchange.name}: {len(self.desired)} streams and {len(streams)} more are over the limit of"
                f" {limit} a connection",
                tuple(symbol for symbol, _ in streams),
            )
        self.desired.update(dict.fromkeys(streams))

    def drop(self, streams: Sequence[Stream]) -> None:
        """Remove streams from the desired ones."""
        for stream in streams:
            self.desired.pop(stream, None)

    def take_answer(self, message: Ack | Refusal) -> bool:
        """Relate an answer of the exchange to its request. False: it belongs to none.

        By its id where it has one; else by what it names; a refusal that names nothing is of the oldest request, where
        the exchange answers streams in the order in which they were asked for.
        """
        requests = [request for request in self._waiting.values() if not request.answer.done()]
        message = self._as_asked(message, requests)
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
            before = set(request.left)
            request.take_answer(message)
            granted = before - request.left - request.refused.keys()
            if self.carriage is not None and not request.ends:
                self.carriage.confirmed(granted)
        return bool(requests)

    def _as_asked(self, message: Ack | Refusal, requests: Sequence[_Request]) -> Ack | Refusal:
        # An answer may name the market that a product is an alias of.
        rules = self._exchange.symbols
        if not rules.aliases or not message.streams:
            return message
        asked = {
            (name, channel): (symbol, channel)
            for request in requests
            for symbol, channel in request.left
            if (name := rules.arriving(symbol)) != symbol
        }
        return message._replace(streams=tuple(asked.get(stream, stream) for stream in message.streams))

    def connection_lost(self) -> None:
        """Nothing is confirmed any more, and no answer will come."""
        self.confirmed.clear()
        self._ending.clear()
        for request in self._waiting.values():
            self._note_lost(request)
            if not request.answer.done():
                request.answer.set_exception(WSConnectionError(f"{self._exchange.name}: the connection was lost"))

    def _note_lost(self, request: _Request) -> None:
        # Instead of refusing a stream, an exchange may close the connection: where streams are answered one by one, it
        # is the first that is not. It comes last the next time, so that the others are confirmed, and is refused where
        # that happens again and again.
        left = request.unanswered
        if (
            self._exchange.acks != "streams"
            or request.ends
            or not left
            or left[0] not in self.desired
            or len(self.desired) == 1
        ):
            return
        suspect = left[0]
        if len(left) == 1 and next(reversed(self.desired)) == suspect:
            self._suspected[suspect] = self._suspected.get(suspect, 0) + 1
        else:
            self.desired[suspect] = self.desired.pop(suspect)

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
            fatal = {stream: _FATAL for stream in missing if self._suspected.get(stream, 0) >= _MOST_LOST}
            missing = [stream for stream in missing if stream not in fatal]
            refused = fatal | await self._request(missing, send, ends=False)
            for stream in (*missing, *fatal):
                self._suspected.pop(stream, None)
            granted = [stream for stream in missing if stream not in refused]
            self.confirmed.update(granted)
            if unwanted := [stream for stream in granted if stream not in self.desired]:
                await self._end(unwanted, send, wanted=False)  # they were given up meanwhile
        if refused:
            dropped = [stream for stream, why in refused.items() if streams is not None or why != self._no_answer]
            self.drop(dropped)
            if self.carriage is not None:
                self.carriage.ended(dropped, steady_ns(), wanted=False)
            raise _refusal_of(self._exchange.name, refused)

    async def unsubscribe(self, streams: Sequence[Stream], send: Send, *, wanted: bool = False) -> None:
        """Unsubscribe and wait for the acks; `wanted`: they move to another connection.

        Raises:
            SubscriptionError: the exchange refused. WSConnectionError: the connection was lost.
        """
        refused = await self._end(streams, send, wanted=wanted)
        if refused:
            raise SubscriptionError(f"{self._exchange.name} refused to unsubscribe {_shown(_by_name(refused))}")

    async def renew(self, streams: Sequence[Stream], send: Send) -> None:
        """End these subscriptions and begin them again, because nothing comes of them.

        Raises:
            SubscriptionError: the exchange refused, or does not answer. WSConnectionError: the connection was lost.
        """
        async with self._turn:
            streams = [stream for stream in streams if stream in self.desired]
            await self._end(streams, send, wanted=True)  # a refusal does not matter
            refused = await self._request(streams, send, ends=False)
            self.confirmed.update(stream for stream in streams if stream not in refused)
        if refused:
            raise _refusal_of(self._exchange.name, refused)

    async def refresh(self, send: Send) -> None:
        """Ask again for all that is confirmed, before the exchange forgets it.

        Raises:
            SubscriptionError: the exchange refused. WSConnectionError: the connection was lost.
        """
        async with self._turn:
            refused = await self._request([s for s in self.desired if s in self.confirmed], send, ends=False)
        if refused:
            raise _refusal_of(self._exchange.name, refused)

    async def _end(self, streams: Sequence[Stream], send: Send, *, wanted: bool) -> dict[Stream, str]:
        # Returns what was refused; none of them counts as confirmed any more.
        asked_ns = steady_ns()
        refused = await self._request(streams, send, ends=True)
        self.confirmed.difference_update(streams)
        unanswered = {stream for stream, why in refused.items() if why == self._no_answer}
        self._ending |= unanswered
        self._ending -= set(streams) - unanswered
        if self.carriage is not None:
            answered = [stream for stream in streams if stream not in unanswered]
            self.carriage.ended(answered, asked_ns, wanted=wanted)
            self.carriage.ended(unanswered, asked_ns, wanted=wanted, answered=False)
        return refused

    async def _request(self, streams: Sequence[Stream], send: Send, *, ends: bool) -> dict[Stream, str]:
        refused: dict[Stream, str] = {}
        chunks = deque(self._chunks(streams, ends=ends))
        while chunks:
            chunk = chunks.popleft()
            reason, left, named = await self._ask(chunk, send, ends=ends)
            refused |= named
            if reason is None:
                continue
            if len(chunk) == 1:
                refused[chunk[0]] = reason
            elif len(left) < len(chunk):  # some were held already: the others once more
                chunks.appendleft(left)
            else:
                chunks.extendleft([stream] for stream in reversed(left))
        return refused

    def _chunks(self, streams: Sequence[Stream], *, ends: bool) -> list[Sequence[Stream]]:
        # As many streams a request as the exchange allows, by number and by size.
        most, most_bytes = self._exchange.limits.streams_per_request, self._exchange.limits.request_bytes
        build = self._exchange.unsubscribe if ends else self._exchange.subscribe
        left = [streams[start : start + most] for start in range(0, len(streams), most)]
        chunks: list[Sequence[Stream]] = []
        while left:
            chunk = left.pop(0)
            if most_bytes is not None and len(chunk) > 1 and max(map(len, build(chunk, 2**31))) > most_bytes:
                left[:0] = [chunk[: len(chunk) // 2], chunk[len(chunk) // 2 :]]
            else:
                chunks.append(chunk)
        return chunks

    async def _ask(
        self, streams: Sequence[Stream], send: Send, *, ends: bool
    ) -> tuple[str | None, Sequence[Stream], dict[Stream, str]]:
        # The reason to refuse all that were not answered otherwise, or None; these; and those refused by name.
        self._last_id += 1
        request = _Request(self._last_id, streams, ends=ends)
        self._waiting[request.request_id] = request
        build = self._exchange.unsubscribe if ends else self._exchange.subscribe
        if self.carriage is not None and not ends:
            self.carriage.requested([stream for stream in streams if stream not in self._ending])
            self.carriage.requested([stream for stream in streams if stream in self._ending], by_trades=False)
        try:
            for frame in build(streams, request.request_id):
                if self._hourly is not None:
                    await self._hourly.wait()
                try:
                    await send(frame)
                except WSConnectionError:
                    self._note_lost(request)
                    raise
            if self._exchange.acks != "none":
                async with asyncio.timeout(self._ack_timeout):
                    return await request.answer, request.unanswered, request.refused
        except TimeoutError:
            if request.answer.done() and not request.answer.cancelled():
                # It came in the very turn of the loop in which time was up.
                return await request.answer, request.unanswered, request.refused
            # Asking stream by stream would wait for this timeout once a stream, so none is asked for again.
            return None, (), request.refused | dict.fromkeys(request.unanswered, self._no_answer)
        finally:
            del self._waiting[request.request_id]
            if request.answer.done() and not request.answer.cancelled():
                request.answer.exception()  # mark the exception as retrieved
        return None, (), {}
