"""A WebSocket server on loopback that sends trades as fast as they are taken, or at a given pace.

Run in a process of its own, so that its CPU time is not the client's: `python -m benchmarks.wire_blaster --messages N`.
It prints its port, serves one client after another, waits for each to say something, sends, and closes with 1000.

The frames: payloads of 165 bytes, as Binance spot sends a trade, 500 symbols in an order drawn anew for each round.
Symbols, prices, sizes and sides differ in length, their sum does not. Ids are contiguous a symbol.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import random
import socket
import ssl
import time

import numpy as np

SYMBOLS = 500
PAYLOAD_BYTES = 165
ROUNDS = 100  # of all symbols in a block: ids and times of the next block differ in their upper digits alone
BLOCK_MESSAGES = SYMBOLS * ROUNDS
BLOCK_MS = 10_000
START_MS = 1_723_161_200_000
FIRST_ID = 3_735_000_000


class Market:
    """One block of frames, turned into whichever block is asked for."""

    def __init__(self, *, shuffled: bool = False) -> None:
        draw = random.Random(1)
        names = ["ABCDEFGH"[n % 8] * (n % 6 + 1) + f"{n:03}US" for n in range(SYMBOLS)]  # 6 to 11 bytes
        frames = []
        for number in range(ROUNDS):
            draw.shuffle(names)
            for place, name in enumerate(names):
                digits = 12 - len(name)
                price = f"{draw.randrange(10 ** (digits - 1), 10**digits)}.{draw.randrange(100):02}000000"
                is_maker = draw.random() < 0.5
                size = f"{draw.randrange(10, 100) if is_maker else draw.randrange(10)}.{draw.randrange(1, 10**5):05}000"
                time_ms = START_MS + (number * SYMBOLS + place) * BLOCK_MS // BLOCK_MESSAGES
                pairs: list[tuple[str, object]] = [
                    ("e", '"trade"'), ("E", time_ms), ("s", f'"{name}"'), ("t", FIRST_ID + number), ("p", f'"{price}"'),
                    ("q", f'"{size}"'), ("b", draw.randrange(10**9, 10**10)), ("a", draw.randrange(10**9, 10**10)),
                    ("T", time_ms), ("m", str(is_maker).lower()), ("M", "true"),
                ]  # fmt: skip
                if shuffled:
                    draw.shuffle(pairs)
                text = "{" + ",".join(f'"{key}":{value}' for key, value in pairs) + "}"
                assert len(text) == PAYLOAD_BYTES, (len(text), text)
                frames.append(b"\x81\x7e" + PAYLOAD_BYTES.to_bytes(2, "big") + text.encode())
        bytes_a_frame = len(frames[0])
        self._stream = np.frombuffer(b"".join(frames), np.uint8).copy()
        self._places = [
            np.array([n * bytes_a_frame + frame.index(key) + 4 for n, frame in enumerate(frames)])[:, None]
            + np.arange(digits)
            for key, digits in ((b'"E":', 9), (b'"T":', 9), (b'"t":', 8))
        ]

    def block(self, number: int) -> bytes:
        """The frames of a block, one after the other."""
        time_digits = str((START_MS + number * BLOCK_MS) // BLOCK_MS).encode()
        id_digits = str((FIRST_ID + number * ROUNDS) // ROUNDS).encode()
        for places, digits in zip(self._places, (time_digits, time_digits, id_digits), strict=True):
            self._stream[places] = np.frombuffer(digits, np.uint8)
        return self._stream.tobytes()

    def payloads(self, messages: int) -> list[bytes]:
        """The payloads alone."""
        size = PAYLOAD_BYTES + 4
        return [
            stream[start + 4 : start + size]
            for stream in (self.block(number) for number in range(-(-messages // BLOCK_MESSAGES)))
            for start in range(0, len(stream), size)
        ][:messages]


def client_of(listener: socket.socket, context: ssl.SSLContext | None) -> socket.socket:
    """The next client, once the handshake is done and it has said that it is ready."""
    client, _ = listener.accept()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if context is not None:
        client = context.wrap_socket(client, server_side=True)
    request = b""
    while b"\r\n\r\n" not in request:
        request += client.recv(65_536)
    lines = request.decode().split("\r\n")
    fields = {key.lower(): value for key, _, value in (line.partition(": ") for line in lines)}
    key = fields["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
    client.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        + f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
    )
    client.recv(65_536)
    return client


def send_all(client: socket.socket, market: Market, messages: int) -> None:
    """As fast as the client takes them."""
    blocks = -(-messages // BLOCK_MESSAGES)
    ready = [market.block(number) for number in range(blocks)] if blocks <= 20 else None
    client.sendall(b"\x81\x02{}")
    for number in range(blocks):
        block = market.block(number) if ready is None else ready[number]
        left = messages - number * BLOCK_MESSAGES
        client.sendall(block if left >= BLOCK_MESSAGES else block[: left * (PAYLOAD_BYTES + 4)])


def send_paced(client: socket.socket, market: Market, messages: int, rate: float) -> None:
    """One frame a write, `rate` a second; each says in "E" and "T", in microseconds, when it was due."""
    head = b"\x81\x7e" + (PAYLOAD_BYTES + 6).to_bytes(2, "big")
    parts = []
    for number in range(-(-messages // BLOCK_MESSAGES)):
        stream, size = market.block(number), PAYLOAD_BYTES + 4
        for start in range(0, min(len(stream), (messages - number * BLOCK_MESSAGES) * size), size):
            frame = stream[start : start + size]
            event, trade = frame.index(b'"E":') + 4, frame.index(b'"T":') + 4
            parts.append((head + frame[4:event], frame[event + 13 : trade], frame[trade + 13 :]))
    start_ns = time.perf_counter_ns()
    wall_us = time.time_ns() // 1000
    for number, (before, between, after) in enumerate(parts):
        due_ns = int(number * 1e9 / rate)
        while time.perf_counter_ns() - start_ns < due_ns:
            pass
        at_us = wall_us + due_ns // 1000
        client.send(b"%b%d%b%d%b" % (before, at_us, between, at_us, after))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--messages", type=int, required=True)
    parser.add_argument("--rate", type=float, default=0.0, help="messages a second; 0: as fast as they are taken")
    parser.add_argument("--certificate", help="serve wss with this file of key and certificate")
    arguments = parser.parse_args()
    market = Market()
    context = None
    if arguments.certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(arguments.certificate)
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    while True:
        client = client_of(listener, context)
        try:
            if arguments.rate:
                send_paced(client, market, arguments.messages, arguments.rate)
            else:
                send_all(client, market, arguments.messages)
            client.sendall(b"\x88\x02\x03\xe8")
            if context is None:
                client.shutdown(socket.SHUT_WR)  # for clients that do not know what a close frame is
            client.recv(65_536)  # the client's close; it is the server that ends the connection
        except OSError:
            pass  # the client has gone
        finally:
            client.close()


if __name__ == "__main__":
    main()
