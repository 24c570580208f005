"""Subscriber: what users subscribe to, checked, and spread over the connections; it moves streams between them too.

    subscribe      checked against the listing -> placed on each line (see `placement.py`) -> connections that are
                   missing are opened -> requested and confirmed
    unsubscribe    ended wherever it is carried -> connections that have become empty are closed
    move           where ids tell trades apart: requested on the new one -> both carry it for the overlap -> ended on
                   the old one; no trade is missed, and what comes twice counts once
                   else: ended on the old one -> requested on the new one; the bars say what that may have lost

While a stream is moved it is desired on both, so that whichever of the two is lost meanwhile, the other still has it. A
move that fails or is cancelled leaves it where it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, NamedTuple

from fastbars.clocks import wall_ns
from fastbars.errors import SubscriptionError, WSConnectionError
from fastbars.exchanges.messages import Stream
from fastbars.live.connections.connection import Connection, have_been_read
from fastbars.live.connections.connections import Connections, all_of
from fastbars.live.connections.placement import Place, Placement
from fastbars.live.connections.subscriptions import joined
from fastbars.live.connections.supervisor import Route, Supervisor
from fastbars.live.connections.symbol_check import SymbolCheck
from fastbars.live.session import Session

_UNREAD_S = 0.05  # between two checks for unread data

Given = dict[Supervisor, list[Stream]]


class Subscriber:
    """Subscribes, unsubscribes and moves, now or as soon as the connections are up.

    Args:
        session: makes the bars.
        connections: carry the streams.
        check: checks symbols against the exchange's listing.
    """

    def __init__(self, session: Session, connections: Connections, check: SymbolCheck) -> None:
        self._exchange = session.exchange
        self._session = session
        self._connections = connections
        self._check = check
        self._placement = Placement(session.exchange, session.config)
        self._turn = asyncio.Lock()  # places are decided one after the other
        self._opened: set[Supervisor] = set()  # in this turn; they carry nothing yet

    @property
    def streams(self) -> list[Stream]:
        """The desired streams."""
        carried = [each.subscriptions.desired for each in self._connections.of_line(0)]
        return list(dict.fromkeys(stream for desired in carried for stream in desired))

    @property
    def active(self) -> dict[str, set[str]]:
        """Symbol -> channels that are desired."""
        active: dict[str, set[str]] = {}
        for symbol, channel in self.streams:
            active.setdefault(symbol, set()).add(channel)
        return active

    def streams_of(self, symbols: Sequence[str], channels: Sequence[str]) -> list[Stream]:
        """Symbols and channels as pairs; the channel that bars are made from where none is given.

        Raises:
            SubscriptionError, TypeError: as `Exchange.exact_symbols`.
        """
        if isinstance(symbols, str) or isinstance(channels, str):
            raise TypeError("symbols and channels must be lists of strings")
        exact = self._exchange.exact_symbols(symbols)
        return [(symbol, channel) for channel in channels or [self._session.channel] for symbol in exact]

    async def subscribe(self, streams: Sequence[Stream]) -> None:
        """Subscribe to what the exchange lists, on as many connections as it takes.

        Raises:
            SubscriptionError: an unknown channel, more than the exchange allows, or symbols that are not listed or
                refused; the others are subscribed. WSConnectionError: a connection was lost, or could not be opened.
        """
        await self._check.subscribe(self._exact(streams), self.streams, self._subscribe)

    async def unsubscribe(self, streams: Sequence[Stream]) -> None:
        """End subscriptions wherever they are; the open bars of symbols without a trade channel are issued.

        Raises:
            SubscriptionError: the exchange refused. WSConnectionError: a connection was lost meanwhile.
        """
        streams = self._exact(streams)
        for channel in {channel for _, channel in streams}:
            self._exchange.check_channel(channel)
        try:
            held = [
                (each, [stream for stream in streams if stream in each.subscriptions.desired])
                for each in self._connections.supervisors
            ]
            async with self._emptied():
                await self._request({each: its for each, its in held if its}, Supervisor.unsubscribe)
        finally:
            active = self.active
            for symbol in dict.fromkeys(symbol for symbol, _ in streams):
                if not active.get(symbol, set()) & set(self._exchange.trade_channels):
                    self._session.flush(wall_ns(), symbol)

    async def move(self, streams: Sequence[Stream], to: int | None = None) -> None:
        """Carry these streams, as far as they are desired, on another connection.

        Args:
            to: its place among those of each line, from 0; None: any that has room, or a new one.

        Raises:
            SubscriptionError: the connection cannot take them, or the exchange refused; those stay where they are.
            WSConnectionError: a connection was lost meanwhile, or could not be opened.
        """
        streams = self._exact(streams)
        config = self._session.config
        overlaps = self._session.drops_duplicates and config.handover_overlap > 0 and self._connections.is_running
        moved = object()
        async with self._emptied():
            async with self._deciding():
                moves = [move for line in range(config.lines) for move in await self._moves(line, streams, to)]
                if overlaps:
                    self._session.begin_overlap(moved)
                    for move in moves:
                        move.target.want(move.streams)
            if not overlaps:
                self._raise(await all_of(*map(_cut_over, moves)))
                return
            try:
                errors = await all_of(*map(_begin, moves))
                await self._overlap(moves)
                self._raise([*errors, *await all_of(*map(_end, moves))])
            except asyncio.CancelledError:
                for move in moves:
                    _give_up(move)
                raise
            finally:
                self._end_overlap(moved, moves)

    # Placing.

    async def _subscribe(self, streams: Sequence[Stream]) -> None:
        given: Given = {}
        async with self._emptied():
            async with self._deciding():
                for line in range(self._session.config.lines):
                    placed = self._placement.place(
                        streams, self._places(line), self._route(line).url_of, partial(self._make, line)
                    )
                    await self._open(placed)
                    given |= {place.connection: place.given for place in placed if place.given}
                for supervisor, its_streams in given.items():
                    supervisor.want(its_streams)
            # The limits were checked; what can still fail concerns single symbols.
            await self._request(given, Supervisor.request)

    async def _moves(self, line: int, streams: Sequence[Stream], to: int | None) -> list[Move]:
        # Opens the connections that are missing.
        places = self._places(line)
        url_of, make = self._route(line).url_of, partial(self._make, line)
        moves: list[Move] = []
        for source in places[:]:
            leaving = [stream for stream in streams if stream in source.streams]
            if to is None:
                placed = self._placement.place(leaving, places, url_of, make, [source]) if leaving else places
                if len(placed) > len(places):
                    self._placement.check_count(len(placed))
                places = placed
            elif not 0 <= to < len(places):
                raise ValueError(f"{self._exchange.name}: there is no connection {to}, there are {len(places)}")
            elif leaving and source is not places[to]:
                self._placement.assign(leaving, places[to], url_of)
            for place in places:
                if place.given:
                    moves.append(Move(source.connection, place.connection, place.given))
                    place.given = []
        await self._open(places)
        return moves

    def _places(self, line: int) -> list[Place[Supervisor]]:
        return [
            Place(each, each.url if each.subscriptions.desired else None, each.subscriptions.desired)
            for each in self._connections.of_line(line)
        ]

    def _route(self, line: int) -> Route:
        return self._connections.of_line(line)[0].route

    def _make(self, line: int, channel: str) -> Place[Supervisor]:
        return Place(self._connections.make(line, {channel}), None)

    async def _open(self, places: Sequence[Place[Supervisor]]) -> None:
        for place in places:
            if place.connection not in self._connections.supervisors:
                self._opened.add(place.connection)
                await self._connections.add(place.connection)

    @asynccontextmanager
    async def _deciding(self) -> AsyncIterator[None]:
        async with self._turn:
            try:
                yield
            finally:
                self._opened.clear()

    @asynccontextmanager
    async def _emptied(self) -> AsyncIterator[None]:
        # However it ends, no connection that carries nothing is left.
        try:
            yield
        finally:
            await self._connections.close_empty(self._opened)

    # Requests.

    async def _request(
        self, given: Given, request: Callable[[Supervisor, Sequence[Stream]], Coroutine[Any, Any, None]]
    ) -> None:
        # What is lost on one line and not on another is no error: it is asked for again when that line is back.
        errors = await all_of(*(request(supervisor, streams) for supervisor, streams in given.items()))
        by_line: dict[int, list[BaseException]] = {supervisor.line: [] for supervisor in given}
        for supervisor, error in zip(given, errors, strict=True):
            if error is not None:
                by_line[supervisor.line].append(error)
        lost = [any(isinstance(error, WSConnectionError) for error in each) for each in by_line.values()]
        ignored = (SubscriptionError,) if all(lost) else (SubscriptionError, WSConnectionError)
        others = [error for each in by_line.values() for error in each if not isinstance(error, ignored)]
        refused = [each for each in by_line.values() if any(isinstance(error, SubscriptionError) for error in each)]
        self._raise([*others, *(refused[0] if refused else ())])

    def _raise(self, errors: Sequence[BaseException | None]) -> None:
        # All refusals as one; any other error first.
        refused = [error for error in errors if isinstance(error, SubscriptionError)]
        for error in errors:
            if error is not None and not isinstance(error, SubscriptionError):
                raise error
        if refused:
            raise joined(self._exchange.name, refused)

    async def _overlap(self, moves: Sequence[Move]) -> None:
        # Until all are confirmed on their new connections, and have been for the overlap.
        config = self._session.config
        left_s = config.handover_timeout
        while True:
            before = [move.target.pair.current for move in moves]
            await asyncio.sleep(config.handover_overlap)
            left_s -= config.handover_overlap
            now = [move.target.pair.current for move in moves]
            if left_s <= 0 or (before == now and all(move.is_confirmed for move in moves)):
                return

    def _end_overlap(self, moved: object, moves: Sequence[Move]) -> None:
        # The new connections may lag behind the old ones.
        connection = moves[0].target.pair.current if moves else None
        if connection is None:
            self._session.notifier.end_overlap(moved)
        else:
            connection.run_task(self._read_overlap(moved), "overlap")

    async def _read_overlap(self, moved: object) -> None:
        connections = self._connections
        try:
            await asyncio.sleep(self._session.config.handover_overlap)
            while connections.is_paused or not await have_been_read(connections.up):  # noqa: ASYNC110 there is no event for that
                await asyncio.sleep(_UNREAD_S)
        finally:
            self._session.notifier.end_overlap(moved)

    def _exact(self, streams: Sequence[Stream]) -> list[Stream]:
        # Both names of one market are refused by `Placement.place`, which knows all that is desired.
        exact = self._exchange.exact_symbol
        return list(dict.fromkeys((exact(symbol), channel) for symbol, channel in streams))


class Move(NamedTuple):
    """Streams that go from one connection to another."""

    source: Supervisor
    target: Supervisor
    streams: list[Stream]

    @property
    def is_confirmed(self) -> bool:
        """Whether the new connection carries all that is still wanted there."""
        subscriptions = self.target.subscriptions
        wanted = [stream for stream in self.streams if stream in subscriptions.desired]
        return not wanted or (self.target.is_up and subscriptions.confirmed.issuperset(wanted))


async def _begin(move: Move) -> None:
    # A connection that is lost meanwhile asks for them when it is back.
    with suppress(WSConnectionError):
        await move.target.request(move.streams)


async def _end(move: Move) -> None:
    moved = [stream for stream in move.streams if stream in move.target.subscriptions.desired]
    if move.is_confirmed:
        with suppress(WSConnectionError):  # what is lost has ended too
            await move.source.unsubscribe(moved, wanted=True)
        return
    with suppress(SubscriptionError, WSConnectionError):
        await move.target.unsubscribe(moved)
    raise WSConnectionError(f"{move.target.session.exchange.name}: {len(moved)} streams could not be moved")


def _give_up(move: Move) -> None:
    # What is still carried by the old connection stays there alone.
    source, target, streams = move
    given_up = [
        each for each in streams if each in source.subscriptions.desired and each in target.subscriptions.desired
    ]
    target.subscriptions.drop(given_up)
    target.follow()
    if target.pair.current is not None and given_up:
        target.pair.current.run_task(_end_given_up(target.pair.current, given_up), "move")


async def _end_given_up(connection: Connection, streams: Sequence[Stream]) -> None:
    with suppress(SubscriptionError):
        await connection.subscriptions.unsubscribe(streams, connection.send)


async def _cut_over(move: Move) -> None:
    source, target, streams = move
    held = object()
    try:
        try:
            target.session.follow(held, streams, wall_ns())  # they are wanted all the time
            await source.unsubscribe(streams, wanted=True)
        except SubscriptionError:
            source.pair.drop("streams that are moved away could not be ended")  # they would count twice
        except WSConnectionError:
            pass  # what is lost has ended too
        await target.subscribe(streams)
    except SubscriptionError:
        await source.subscribe([stream for stream in streams if stream not in target.subscriptions.desired])
        raise
    except asyncio.CancelledError:
        # What the exchange has heard of it is unknown: both begin anew, so that each stream comes once.
        target.subscriptions.want(streams)
        for each in (source, target):
            each.pair.drop("a move was cancelled")
        raise
    finally:
        target.session.follow(held, (), wall_ns())
