"""Getting messages to clients: live ones without waiting, those of a tape as fast as the client takes them.

Source: https://websockets.readthedocs.io/en/stable/howto/sansio.html (framing through the connection's
protocol)
Units: none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

from websockets.asyncio.server import ServerConnection
from websockets.protocol import State

from fastbars.simulator.faults import Frame
from fastbars.simulator.tape_streams import stream_of
from fastbars.tapes import read_tapes

__all__ = ["send_tapes", "write_frames", "write_messages"]

_BATCH = 32  # messages handed to the socket at once
_SKIPS_PER_YIELD = 1024


def write_messages(connection: ServerConnection, messages: Sequence[bytes]) -> int:
    """Frame messages and hand them to the socket in one piece: one system call instead of one a message.

    Returns:
        How many were handed over: all, or 0 where the connection is no longer open.
    """
    if not messages or connection.state is not State.OPEN:
        return 0
    for message in messages:
        connection.protocol.send_text(message)
    connection.transport.write(b"".join(connection.protocol.data_to_send()))
    return len(messages)


def write_frames(connection: ServerConnection, frames: Iterable[Frame], cut: Callable[[bytes], list[bytes]]) -> None:
    """Frame messages and hand them to the socket: each as a frame, or cut into fragments and these into pieces."""
    protocol = connection.protocol
    for frame in frames:
        if connection.state is not State.OPEN:
            return
        if not frame.is_cut:
            send = protocol.send_binary if frame.is_binary else protocol.send_text
            send(frame.payload)
            connection.transport.write(b"".join(protocol.data_to_send()))
            continue
        fragments = cut(frame.payload)
        protocol.send_text(fragments[0], fin=False)
        for number, fragment in enumerate(fragments[1:], 2):
            protocol.send_continuation(fragment, fin=number == len(fragments))
        for piece in cut(b"".join(protocol.data_to_send())):
            connection.transport.write(piece)


async def send_tapes(connection: ServerConnection, tapes: Iterable[str | Path], subscribed: Collection[str]) -> int:
    """Send the messages of tapes, byte for byte, and wait whenever the client is behind.

    Args:
        connection: who gets them.
        tapes: what is read, from the beginning.
        subscribed: names of the streams wanted; may change while the tapes are played.

    Returns:
        How many messages were sent.

    Raises:
        ConnectionClosed: the client has left before the end.
        TapeError: a tape cannot be read.
    """
    sent = skipped = 0
    batch: list[bytes] = []
    for record in read_tapes(tapes):
        if stream_of(record.payload) in subscribed:
            batch.append(record.payload)
        else:
            skipped += 1
        if len(batch) == _BATCH or skipped == _SKIPS_PER_YIELD:
            await _send_all(connection, batch)
            sent += len(batch)
            batch, skipped = [], 0
    await _send_all(connection, batch)
    return sent + len(batch)


async def _send_all(connection: ServerConnection, messages: Sequence[bytes]) -> None:
    if messages:
        write_messages(connection, messages[:-1])
        await connection.send(messages[-1], text=True)  # waits while the write buffer is full
    await asyncio.sleep(0)  # lets the connection's commands be read
