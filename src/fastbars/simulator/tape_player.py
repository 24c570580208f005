"""Recorded messages instead of a synthetic market: served byte for byte, as fast as each client reads.

Once a connection has subscribed to something, it is served the messages of its subscriptions from the beginning; at the
end it is closed with 1000.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from pathlib import Path

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from fastbars.errors import TapeError
from fastbars.log import log
from fastbars.simulator.delivery import write_messages
from fastbars.simulator.dialect import Dialect
from fastbars.simulator.record import SimulatorStats
from fastbars.tapes import read_tapes

__all__ = ["TapePlayer"]

_BATCH = 32  # messages handed to the socket at once
_SKIPS_PER_YIELD = 1024


class TapePlayer:
    """Plays tapes to connections.

    Args:
        tapes: read from the beginning for each connection; empty: a synthetic market is traded instead.
        dialect: that of the messages.
        stats: counts the messages sent.

    Attributes:
        streams: those of the tapes, in the order of their first messages, once loaded.
        finished: set when a tape has been played to its end and none is still being played.
    """

    def __init__(self, tapes: Sequence[str | Path], dialect: Dialect, stats: SimulatorStats) -> None:
        self.streams: Sequence[str] = ()
        self.finished = asyncio.Event()
        self._tapes = tapes
        self._dialect = dialect
        self._stats = stats
        self._playing = 0

    @property
    def has_tapes(self) -> bool:
        """Whether there is anything to play."""
        return bool(self._tapes)

    async def load(self) -> None:
        """Read the tapes once, to find their streams.

        Raises:
            TapeError: a tape cannot be read to its end, or none has a message of a stream.
        """
        self.streams = await asyncio.to_thread(self._find_streams)
        self._dialect.serve_tapes(self.streams)

    def _find_streams(self) -> list[str]:
        names = dict.fromkeys(self._dialect.stream_of(record.payload) for record in read_tapes(self._tapes))
        found = [name for name in names if name is not None]
        if not found:
            raise TapeError(f"{', '.join(map(str, self._tapes))}: no message of a Binance stream")
        return found

    async def play(self, connection: ServerConnection, subscribed: Collection[str]) -> None:
        """Serve the tapes to one connection, then close it.

        Args:
            connection: the client's.
            subscribed: names of its streams; may change while the tapes are played.
        """
        self._playing += 1
        self.finished.clear()
        completed = False
        try:
            await self._send(connection, subscribed)
            completed = True  # before closing: once the client is gone, this task is cancelled
            await connection.close(1000)
        except ConnectionClosed:
            pass  # the client has left before the end
        except TapeError as error:
            log.error("the tape has changed since the start", error=str(error))
            await connection.close(1011, "the tape cannot be read")
        finally:
            self._playing -= 1
            if completed and not self._playing:
                self.finished.set()

    async def _send(self, connection: ServerConnection, subscribed: Collection[str]) -> None:
        sent = skipped = 0
        batch: list[bytes] = []
        for record in read_tapes(self._tapes):
            if self._dialect.stream_of(record.payload) in subscribed:
                batch.append(record.payload)
            else:
                skipped += 1
            if len(batch) == _BATCH or skipped == _SKIPS_PER_YIELD:
                await _send_all(connection, batch)
                sent += len(batch)
                batch, skipped = [], 0
        await _send_all(connection, batch)
        self._stats.messages_sent += sent + len(batch)


async def _send_all(connection: ServerConnection, messages: Sequence[bytes]) -> None:
    if messages:
        write_messages(connection, messages[:-1])
        await connection.send(messages[-1], text=True)  # waits while the write buffer is full
    await asyncio.sleep(0)  # lets the connection's requests be read
