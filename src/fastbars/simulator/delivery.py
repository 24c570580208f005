"""Writes messages to a client's socket without waiting: whole, or cut into fragments and pieces.

Source: https://websockets.readthedocs.io/en/stable/howto/sansio.html (framing by the connection's protocol)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from websockets.asyncio.server import ServerConnection
from websockets.protocol import State

from fastbars.simulator.faults import Frame

__all__ = ["cut_off", "write_frames", "write_messages"]


def write_messages(connection: ServerConnection, messages: Sequence[bytes]) -> int:
    """Frame messages and write them at once: one system call instead of one per message.

    Returns:
        How many were written: all, or 0 if the connection is no longer open.
    """
    if not messages or connection.state is not State.OPEN:
        return 0
    for message in messages:
        connection.protocol.send_text(message)
    connection.transport.write(b"".join(connection.protocol.data_to_send()))
    return len(messages)


def write_frames(connection: ServerConnection, frames: Iterable[Frame], cut: Callable[[bytes], list[bytes]]) -> None:
    """Frame messages and write them: each as one frame, or cut into fragments and those into several writes."""
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


def cut_off(connection: ServerConnection, message: bytes) -> None:
    """Write the first half of a message's frame, and drop the connection."""
    connection.protocol.send_text(message)
    frame = b"".join(connection.protocol.data_to_send())
    connection.transport.write(frame[: len(frame) // 2])
    connection.transport.abort()
