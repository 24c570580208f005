"""A WebSocket server that floods: after the first message of a client it sends prepared trades and closes.

    python server.py MESSAGES          # one message a line; prints its URL

Frames are made beforehand and written in large chunks, so that the client is what is measured.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import sys
from pathlib import Path

CHUNK_BYTES = 65_536
MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, CLOSE = 0x81, 0x88
MASKED_HEADER = 2 + 4


def frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """An unmasked frame of a payload of less than 64 KiB."""
    size = bytes([len(payload)]) if len(payload) < 126 else b"\x7e" + len(payload).to_bytes(2, "big")
    return bytes([opcode]) + size + payload


def unmasked(data: bytes) -> bytes:
    """The payload of a client's frame; empty: it is none."""
    if len(data) < MASKED_HEADER or data[0] != TEXT:
        return b""
    start = 4 if data[1] & 0x7F == 126 else 2
    mask = data[start : start + 4]
    return bytes(byte ^ mask[n % 4] for n, byte in enumerate(data[start + 4 :]))


async def serve(data: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Handshake, one request, its acknowledgement, the flood, the end."""
    request = await reader.readuntil(b"\r\n\r\n")
    key = re.search(rb"(?i)sec-websocket-key: *(\S+)", request)
    assert key is not None
    accept = base64.b64encode(hashlib.sha1(key[1] + MAGIC).digest()).decode()
    upgrade = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    writer.write(f"{upgrade}Sec-WebSocket-Accept: {accept}\r\n\r\n".encode())
    # Whole at once over loopback: a subscription, or the first word of a client that subscribes to nothing.
    found = re.search(rb'"id": *(\d+)', unmasked(await reader.read(CHUNK_BYTES)))
    writer.write(frame(b'{"result":null,"id":%s}' % (found[1] if found else b"1")))
    for start in range(0, len(data), CHUNK_BYTES):
        writer.write(data[start : start + CHUNK_BYTES])
        await writer.drain()
    writer.write(frame((1000).to_bytes(2, "big"), CLOSE))
    await writer.drain()
    await reader.read(1)  # the client's answer; then it waits for the server to hang up
    writer.close()


async def main(data: bytes) -> None:
    """Serve for ever."""
    server = await asyncio.start_server(lambda reader, writer: serve(data, reader, writer), "127.0.0.1", 0)
    print(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(b"".join(frame(line) for line in Path(sys.argv[1]).read_bytes().splitlines())))
