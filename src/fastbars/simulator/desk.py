"""The subscription desk: which streams the exchange has, and who holds which of them.

Units: none.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from fastbars.simulator.binance import Stream
from fastbars.simulator.commands import MAX_STREAMS, Command, RefusalError
from fastbars.simulator.publisher import Publisher, Subscriber

__all__ = ["SubscriptionDesk"]


class SubscriptionDesk:
    """Looks streams up and books them in and out.

    Args:
        publisher: the synthetic market.
        tape_streams: names of the streams of the tapes; where there are any, the market's are not on offer.
    """

    def __init__(self, publisher: Publisher, tape_streams: Collection[str] = ()) -> None:
        self._publisher = publisher
        self._tape_streams = tape_streams

    def resolve(self, command: Command, held: int = 0) -> dict[str, Stream | None]:
        """Look up the streams of a command; all or none. The values are None for the streams of tapes.

        Args:
            command: names the streams.
            held: how many the connection has already.

        Raises:
            RefusalError: one of them does not exist, or the connection would have too many.
        """
        streams: dict[str, Stream | None] = {}
        for name in command.streams:
            stream = None if self._tape_streams else self._publisher.find_stream(name)
            if stream is None and name not in self._tape_streams:
                raise RefusalError.of_symbol(command.id)
            streams[name] = stream
        if held + len(streams) > MAX_STREAMS:
            raise RefusalError.of_request(f"Invalid request: more than {MAX_STREAMS} streams", id=command.id)
        return streams

    def subscribe(self, subscriber: Subscriber, streams: dict[str, Stream | None]) -> None:
        """Book the streams that `resolve` returned."""
        for name, stream in streams.items():
            if stream is None:
                subscriber.streams[name] = None
            else:
                self._publisher.subscribe(subscriber, stream)

    def unsubscribe(self, subscriber: Subscriber, names: Iterable[str]) -> None:
        """Book streams out; a name that is not held is passed over."""
        for name in names:
            if subscriber.streams.get(name) is None:
                subscriber.streams.pop(name, None)
            else:
                self._publisher.unsubscribe(subscriber, name)
