"""Tests of the client connection, over real sockets: each runs on asyncio's own loop and on uvloop."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast

import pytest
from websockets.asyncio.client import ClientConnection, connect

import fastbars
from fastbars import Instruments, TickBatch
from fastbars.exchanges import find_exchange
from fastbars.wire import PayloadConnection
from fastbars.wire.scanner import TradeScanner
from servers import BINARY, CLOSE, CONTINUATION, PING, TEXT, RawServer, TradeServer, frame, trade, trades, until

Run = Callable[[Coroutine[Any, Any, None]], None]
on_both_loops = pytest.mark.parametrize("run", [asyncio.run, fastbars.run], ids=["asyncio", "uvloop"])


@asynccontextmanager
async def connected(url: str, reads: list[list[bytes]], **options: Any) -> AsyncIterator[PayloadConnection]:
    """A connection as the adapter makes it; each read that completes messages is appended to `reads`."""

    def note(payloads: Sequence[bytes]) -> None:
        reads.append(list(payloads))

    own = {name: options.pop(name) for name in ("scanner", "on_message", "coalesce_s") if name in options}
    made = cast("type[ClientConnection]", partial(PayloadConnection, on_payloads=note, **own))
    options = {"compression": None, "ping_interval": None, "max_queue": None, "close_timeout": 0.2} | options
    connection = cast("PayloadConnection", await connect(url, create_connection=made, **options))
    try:
        yield connection
    finally:
        connection.abort()
        await connection.wait_closed()


def flat(reads: list[list[bytes]]) -> list[bytes]:
    return [payload for read in reads for payload in read]


def client_frames(data: bytes) -> list[tuple[int, bytes]]:
    """The short frames that a client sent: (opcode, payload); they are masked."""
    frames = []
    while data:
        length = data[1] & 0x7F
        mask, payload = data[2:6], data[6 : 6 + length]
        frames.append((data[0] & 0x0F, bytes(byte ^ mask[n % 4] for n, byte in enumerate(payload))))
        data = data[6 + length :]
    return frames


@on_both_loops
def test_messages_right_behind_the_handshake_response_are_not_lost(run: Run) -> None:
    messages = trades(1, 50)

    async def main() -> None:
        reads: list[list[bytes]] = []
        async with RawServer(behind=b"".join(map(frame, messages))) as server, connected(server.url, reads):
            assert reads == [messages]

    run(main())


@on_both_loops
def test_all_that_one_read_completes_leaves_together_in_wire_order(run: Run) -> None:
    stream = [frame(b"1"), frame(b"2", BINARY), frame(b"", TEXT), frame(b"x" * 70_000), frame(b"y" * 300, BINARY)]

    async def main() -> None:
        reads: list[list[bytes]] = []
        async with RawServer() as server, connected(server.url, reads) as connection:
            connection.data_received(b"".join(stream) + frame(b"cut off")[:4])
            assert reads == [[b"1", b"2", b"", b"x" * 70_000, b"y" * 300]]
            connection.data_received(frame(b"cut off")[4:])
            assert reads[1:] == [[b"cut off"]]

    run(main())


@on_both_loops
def test_fragments_interleaved_with_pings_are_one_message_in_its_place(run: Run) -> None:
    stream = (
        frame(b"before")
        + frame(b'{"a', TEXT, final=False)
        + frame(b"one", PING)
        + frame(b'":', CONTINUATION, final=False)
        + frame(b"", CONTINUATION, final=False)
        + frame(b"two", PING)
        + frame(b"1}", CONTINUATION)
        + frame(b"after", BINARY)
    )

    async def main() -> None:
        reads: list[list[bytes]] = []
        async with RawServer(chunks=[stream]) as server, connected(server.url, reads):
            await until(lambda: len(flat(reads)) == 3)
            assert flat(reads) == [b"before", b'{"a":1}', b"after"]
            await until(lambda: len(server.received) >= 2 * 9)
            assert client_frames(server.received) == [(10, b"one"), (10, b"two")]  # the pings were answered

    run(main())


async def test_any_cut_of_the_byte_stream_gives_the_same_messages() -> None:
    messages = [*trades(1, 20), b"x" * 66_000, b"", b"[]", *trades(50, 5)]
    stream = b""
    for number, one in enumerate(messages):
        in_two = frame(one[:5], TEXT, final=False) + frame(b"", PING) + frame(one[5:], CONTINUATION)
        stream += in_two if number % 3 == 1 else frame(one)
    draw = random.Random(7)
    async with RawServer() as server:
        for pieces in (1, 2, 3, 10, 400, len(stream)):
            cuts = sorted(draw.sample(range(1, len(stream)), pieces - 1))
            reads: list[list[bytes]] = []
            async with connected(server.url, reads) as connection:
                for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True):
                    connection.data_received(stream[start:stop])
            assert flat(reads) == messages
            assert all(reads)  # a read that completes nothing tells nobody


@on_both_loops
def test_a_burst_larger_than_any_buffer_arrives_whole_and_in_order(run: Run) -> None:
    messages = trades(1, 40_000)

    async def main() -> None:
        reads: list[list[bytes]] = []
        async with TradeServer() as server, connected(server.url, reads) as connection:
            await server.send(*messages)
            await until(lambda: len(flat(reads)) == len(messages))
            assert flat(reads) == messages
            assert 1 < len(reads) < 4_000
            assert connection.close_code is None

    run(main())


@on_both_loops
@pytest.mark.parametrize("fragmented", [False, True])
def test_a_message_beyond_the_limit_closes_with_1009_and_those_before_it_count(run: Run, fragmented: bool) -> None:
    long = frame(b"x" * 1001)
    if fragmented:
        long = frame(b"x" * 600, TEXT, final=False) + frame(b"x" * 401, CONTINUATION)

    async def main() -> None:
        reads: list[list[bytes]] = []
        async with (
            RawServer(chunks=[frame(b"x" * 1000) + long]) as server,
            connected(server.url, reads, max_size=1000) as connection,
        ):
            await until(lambda: client_frames(server.received))
            opcode, payload = client_frames(server.received)[0]
            assert (opcode, int.from_bytes(payload[:2], "big")) == (CLOSE, 1009)
            assert flat(reads) == [b"x" * 1000]
            connection.abort()
            await connection.wait_closed()

    run(main())


@on_both_loops
def test_pausing_really_stops_the_reading_and_resuming_loses_nothing(run: Run) -> None:
    messages = [one + b" " * 2_000 for one in trades(1, 10_000)]

    async def main() -> None:
        reads: list[list[bytes]] = []
        async with TradeServer() as server, connected(server.url, reads) as connection:
            sending = asyncio.create_task(server.send(*messages))
            await until(lambda: reads)
            connection.pause()
            connection.pause()  # twice is once
            before = len(flat(reads))
            # The server is stuck: what it could not hand over waits on its side.
            transport = server.connections[0].transport
            stuck = [-2, -1]
            while len(set(stuck[-2:])) > 1:
                await asyncio.sleep(0.05)
                stuck.append(transport.get_write_buffer_size())
            assert stuck[-1] > 1_000_000
            assert (connection.reading, len(flat(reads))) == (False, before)
            assert before < len(messages)
            paused_ns = connection.last_receive_ns
            connection.resume()
            # the time of the pause is no silence of the exchange
            assert (connection.reading, connection.last_receive_ns > paused_ns) == (True, True)
            connection.resume()
            await until(lambda: len(flat(reads)) == len(messages))
            assert flat(reads) == messages
            await sending

    run(main())


@on_both_loops
def test_pausing_and_resuming_a_connection_that_is_gone_does_nothing(run: Run) -> None:
    async def main() -> None:
        reads: list[list[bytes]] = []
        async with RawServer() as server, connected(server.url, reads) as connection:
            connection.pause()
            connection.abort()
            connection.resume()
            assert connection.reading
            connection.pause()
            assert connection.reading
            await connection.wait_closed()
            assert connection.close_code == 1006

    run(main())


async def test_a_read_that_fills_the_buffer_is_told_from_one_that_empties_the_socket() -> None:
    reads: list[list[bytes]] = []
    async with RawServer() as server, connected(server.url, reads) as connection:
        connection.data_received(frame(b"x" * 65_536))
        assert connection.last_read_was_full
        connection.data_received(frame(b"x"))
        assert not connection.last_read_was_full


async def test_text_that_is_no_utf_8_is_handed_on_for_the_session_to_judge() -> None:
    reads: list[list[bytes]] = []
    async with RawServer(behind=frame(b'{"s":"\xff\xfe"}')) as server, connected(server.url, reads):
        assert reads == [[b'{"s":"\xff\xfe"}']]


@on_both_loops
def test_a_scanner_takes_trades_in_place_and_the_rest_comes_in_wire_order(run: Run) -> None:
    book = b'{"e":"depthUpdate","s":"BTCUSDT"}'
    messages = [trade(1, 0), trade(2, 1), book, trade(3, 2), b"{cut", trade(4, 3)]
    in_two = frame(trade(5, 4)[:9], final=False) + frame(trade(5, 4)[9:], CONTINUATION)
    stream = b"".join(map(frame, messages)) + in_two + frame(trade(6, 5))

    async def main() -> None:
        instruments = Instruments()
        batch = TickBatch(instruments, counts=True)
        fields = find_exchange("binance", "spot").fields("trade")
        assert fields is not None
        seen: list[tuple[bytes, int]] = []
        reads: list[list[bytes]] = []
        async with (
            RawServer(chunks=[stream[:200], stream[200:]]) as server,
            connected(
                server.url,
                reads,
                scanner=TradeScanner(fields, batch, instruments.add),
                on_message=lambda payload: seen.append((payload, len(batch))),
            ),
        ):
            await until(lambda: len(batch) == 6)
            assert seen == [(book, 2), (b"{cut", 3)]  # each behind the trades that were sent before it
            assert [int(i) for i in batch.column("first_id")] == [1, 2, 3, 4, 5, 6]  # type: ignore[union-attr]
            assert not flat(reads)

    run(main())


@on_both_loops
def test_a_flood_starves_neither_timers_nor_other_sockets(run: Run) -> None:
    message = b"x" * 1_000
    flood = frame(message) * 60_000

    async def main() -> None:
        reads: list[list[bytes]] = []
        quiet: list[list[bytes]] = []
        gaps: list[float] = []
        loop = asyncio.get_running_loop()
        async with RawServer(chunks=[flood]) as server, RawServer() as other:
            async with connected(server.url, reads), connected(other.url, quiet):
                while sum(map(len, reads)) < 60_000:
                    since = loop.time()
                    await asyncio.sleep(0.005)
                    gaps.append(loop.time() - since)
                    if len(gaps) == 2:
                        other.writers[0].write(frame(b"hello"))
            assert flat(quiet) == [b"hello"]
        assert max(map(len, reads)) <= 1_000  # a read is bounded, and after each of these the loop has its turn
        assert len(gaps) > 2

    run(main())


@on_both_loops
def test_coalescing_brings_many_messages_in_one_read_and_loses_none(run: Run) -> None:
    messages = trades(1, 300)

    async def main() -> None:
        reads: dict[float, list[list[bytes]]] = {0.0: [], 0.02: []}
        for coalesce_s, own in reads.items():
            async with TradeServer() as server, connected(server.url, own, coalesce_s=coalesce_s) as connection:
                for message in messages:
                    await server.send(message)
                    await asyncio.sleep(0)
                await until(lambda own=own: len(flat(own)) == len(messages))  # type: ignore[misc]
                assert flat(own) == messages
                assert connection.reading
                connection.end_rest()
                connection.end_rest()  # twice is once
        assert len(reads[0.02]) < 100

    run(main())


@on_both_loops
def test_a_pause_outlasts_a_rest_and_a_rest_outlasts_nothing(run: Run) -> None:
    async def main() -> None:
        reads: list[list[bytes]] = []
        async with TradeServer() as server, connected(server.url, reads, coalesce_s=60.0) as connection:
            await server.send(*trades(1, 1))
            await until(lambda: reads)
            await server.send(*trades(2, 1))
            connection.pause()
            connection.end_rest()
            await asyncio.sleep(0.05)
            assert len(flat(reads)) == 1
            connection.resume()
            await until(lambda: len(flat(reads)) == 2)
            assert flat(reads) == [*trades(1, 1), *trades(2, 1)]

    run(main())


@on_both_loops
def test_once_the_connection_closes_every_byte_is_left_to_websockets(run: Run) -> None:
    async def main() -> None:
        reads: list[list[bytes]] = []
        async with RawServer() as server, connected(server.url, reads) as connection:
            connection.data_received(frame(b"before") + frame(b"cut off")[:4])
            walker = connection._wakeup.walker
            assert walker is not None
            assert (walker.done, walker.kept_bytes) == (False, 4)
            closing = asyncio.create_task(connection.close())
            await until(lambda: client_frames(server.received))
            connection.data_received(frame(b"cut off")[4:])
            assert (walker.done, walker.kept_bytes) == (True, 0)
            await closing
        assert flat(reads)[0] == b"before"

    run(main())
