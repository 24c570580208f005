"""Placement: decides which connection carries which stream, within the exchange's limits; it opens none.

    a stream that is carried already    stays where it is, unless that connection is to be left
    any other                           goes to the connection that carries least, of those that can take it
    what no connection can take         goes to a new one

Streams that are served at different addresses need different connections, and so do those that exclude each other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Generic, TypeVar

from fastbars.errors import SubscriptionError
from fastbars.exchanges.declaration import Exchange
from fastbars.exchanges.messages import Stream
from fastbars.live.config import StreamConfig

T = TypeVar("T")
_UNLIMITED = 2**62


def most_streams(exchange: Exchange, config: StreamConfig) -> int:
    """How many streams of one channel the exchange allows at once, on all connections of a line together."""
    limits = exchange.limits
    each = min(limits.streams_per_connection, config.streams_per_connection or _UNLIMITED)
    # One place is left for the connection that is about to replace another.
    connections = _UNLIMITED if limits.connections is None else max(1, limits.connections - 1) // config.lines
    return min(limits.streams or _UNLIMITED, each * connections)


class Place(Generic[T]):
    """A connection as placement sees it.

    Args:
        connection: the connection itself, opaque here.
        url: where it goes; None where it carries nothing yet, and may go anywhere.
        streams: what it carries.

    Attributes:
        given: what it is to carry from now on, what it carries already included where that was asked for again.
    """

    def __init__(self, connection: T, url: str | None, streams: Iterable[Stream] = ()) -> None:
        self.connection = connection
        self.url = url
        self.streams = set(streams)
        self.given: list[Stream] = []

    def give(self, stream: Stream) -> None:
        """Assign a stream to it."""
        self.streams.add(stream)
        self.given.append(stream)


class Placement:
    """Places streams on connections, within the limits of one exchange.

    Args:
        exchange, config: the limits that it declares, and those that the user has set.
    """

    def __init__(self, exchange: Exchange, config: StreamConfig) -> None:
        limits = exchange.limits
        self._exchange = exchange
        self._lines = config.lines
        self._most_streams = min(limits.streams_per_connection, config.streams_per_connection or _UNLIMITED)
        # One place is left for the connection that is about to replace another.
        self._most_connections = _UNLIMITED if limits.connections is None else max(1, limits.connections - 1)

    def place(
        self,
        streams: Sequence[Stream],
        places: Sequence[Place[T]],
        url_of: Callable[[str], str],
        make: Callable[[str], Place[T]],
        leave: Collection[Place[T]] = (),
    ) -> list[Place[T]]:
        """Give each stream a place; `given` of each place says which. Returns all places, new ones included.

        Args:
            places: the connections there are; the first one's address is served first.
            url_of: where a channel is served.
            make: a new connection for a channel, not connected yet.
            leave: connections that are to give up what they carry of these streams, and take none. They carry it
                until it has moved, so that it still counts there.

        Raises:
            SubscriptionError: more than the exchange allows, or two names of one market; nothing was made.
        """
        every = list(places)
        moving = set(streams)
        carrier = {
            stream: place for place in every for stream in place.streams if place not in leave or stream not in moving
        }
        self._check_names([*carrier, *streams])
        new: dict[str, list[Stream]] = {}
        for stream in dict.fromkeys(streams):
            if stream in carrier:
                carrier[stream].give(stream)
            else:
                new.setdefault(url_of(stream[1]), []).append(stream)
        self._check_limits(new, carrier)
        for url, its_streams in sorted(new.items(), key=lambda item: item[0] != every[0].url):
            ours = [place for place in every if place.url in (None, url) and place not in leave]
            carried = [stream for place in ours for stream in place.streams]
            missing = self._needed([*carried, *its_streams]) - len(ours)
            ours += [make(its_streams[0][1]) for _ in range(missing)]
            taken = {place: set(map(self._exchange.exclusive_place, place.streams)) for place in ours}
            for stream in its_streams:
                excluded = self._exchange.exclusive_place(stream)
                able = [
                    place
                    for place in ours
                    if len(place.streams) < self._most_streams and (excluded is None or excluded not in taken[place])
                ]
                if able:
                    place = min(able, key=lambda able: len(able.streams))
                else:  # those that have room hold what excludes it
                    place = make(stream[1])
                    taken[place] = set()
                    ours.append(place)
                place.url = url
                place.give(stream)
                taken[place].add(excluded)
            every += [place for place in ours if place not in every]
        return every

    def assign(self, streams: Sequence[Stream], place: Place[T], url_of: Callable[[str], str]) -> None:
        """Give these streams to one connection.

        Raises:
            SubscriptionError: it cannot take them; nothing has changed.
        """
        urls = {url_of(channel) for _, channel in streams} | ({place.url} - {None})
        if len(urls) > 1 or self._needed({*place.streams, *streams}) > 1:
            raise SubscriptionError(
                f"{self._exchange.name}: a connection to {place.url} that carries {len(place.streams)} of at most"
                f" {self._most_streams} streams cannot take these {len(streams)}",
                tuple(symbol for symbol, _ in streams),
            )
        (place.url,) = urls
        for stream in streams:
            place.give(stream)

    def check_count(self, connections: int) -> None:
        """Raises SubscriptionError: so many connections a line are more than one address may have."""
        if connections * self._lines > self._most_connections:
            raise SubscriptionError(
                f"{self._exchange.name}: {connections * self._lines} connections are over the limit of"
                f" {self._most_connections} from one address (one more is kept for handovers)"
            )

    def _needed(self, streams: Collection[Stream]) -> int:
        # Connections, by the number of streams, and by those of one symbol that exclude each other.
        apart = Counter(map(self._exchange.exclusive_place, streams))
        apart.pop(None, 0)
        return max([-(-len(streams) // self._most_streams), *apart.values()])

    def _check_names(self, streams: Sequence[Stream]) -> None:
        # Both names of one market, on whichever connections.
        self._exchange.symbols.check_apart(dict.fromkeys(symbol for symbol, _ in streams), self._exchange.name)

    def _check_limits(self, new: dict[str, list[Stream]], carrier: dict[Stream, Place[T]]) -> None:
        count = len(carrier) + sum(map(len, new.values()))
        symbols = tuple(symbol for streams in new.values() for symbol, _ in streams)
        most = self._exchange.limits.streams
        if most is not None and count > most:
            raise SubscriptionError(
                f"{self._exchange.name}: {count} streams are over the limit of {most} from one address", symbols
            )
        connections = 0
        for url in {place.url for place in carrier.values() if place.url is not None} | new.keys():
            at_url = [stream for stream, place in carrier.items() if place.url == url]
            connections += self._needed([*at_url, *new.get(url, ())])
        connections *= self._lines
        if connections > self._most_connections:
            raise SubscriptionError(
                f"{self._exchange.name}: {count} streams need {connections} connections of {self._most_streams}, and"
                f" {self._most_connections} are allowed from one address (one more is kept for handovers)",
                symbols,
            )
