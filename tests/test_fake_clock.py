"""Tests of the two clocks that the library reads, and of the loop of the tests, which turns them."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from fake_clock import START_STEADY_NS, START_WALL_NS, Stopwatch
from fastbars import clocks
from servers import until


def test_the_clocks_are_those_of_the_machine_until_they_are_held_and_after_they_are_released() -> None:
    def assert_running() -> None:
        before = time.monotonic_ns(), time.time_ns()
        steady_ns, steady_s, wall_ns = clocks.steady_ns(), clocks.steady_s(), clocks.wall_ns()
        after = time.monotonic_ns(), time.time_ns()
        assert before[0] <= steady_ns <= after[0]
        assert before[0] <= round(steady_s * 1e9) + 1_000
        assert round(steady_s * 1e9) - 1_000 <= after[0]
        assert before[1] <= wall_ns <= after[1]

    assert_running()
    clocks.hold(1_500_000_000, -7)
    try:
        assert (clocks.steady_ns(), clocks.steady_s(), clocks.wall_ns()) == (1_500_000_000, 1.5, -7)
        clocks.hold(1_600_000_000, 8)
        assert (clocks.steady_s(), clocks.wall_ns()) == (1.6, 8)
    finally:
        clocks.release()
    assert_running()


async def test_waiting_takes_its_time_exactly_and_none_of_ours() -> None:
    watch, began_s = Stopwatch(), time.monotonic()
    await asyncio.sleep(86_400.25)
    assert watch.seconds == 86_400.25
    assert asyncio.get_running_loop().time() == clocks.steady_s()
    assert clocks.wall_ns() - START_WALL_NS == clocks.steady_ns() - START_STEADY_NS
    assert time.monotonic() - began_s < 3_600


async def test_work_takes_no_time_however_long_it_lasts() -> None:
    watch = Stopwatch()
    time.sleep(0.02)  # noqa: ASYNC251 a machine that is busy with something else
    await asyncio.sleep(0)
    assert watch.seconds == 0
    async with asyncio.timeout(0.001):
        time.sleep(0.02)  # noqa: ASYNC251
        await asyncio.sleep(0)


async def test_timers_come_in_their_order_and_at_their_times() -> None:
    watch = Stopwatch()
    told: list[tuple[float, float]] = []

    def tell(delay_s: float) -> None:
        told.append((delay_s, watch.seconds))

    for delay_s in (0.3, 0.1, 0.2):
        asyncio.get_running_loop().call_later(delay_s, tell, delay_s)
    await asyncio.sleep(0.25)
    assert told == [(0.1, 0.1), (0.2, 0.2)]
    await asyncio.sleep(0.05)
    assert told[2:] == [(0.3, 0.3)]


async def test_what_is_on_its_way_through_sockets_arrives_before_time_passes() -> None:
    watch, served = Stopwatch(), asyncio.Event()
    echoed = 0

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1_000_000):
            writer.write(data)
        writer.close()
        await writer.wait_closed()
        served.set()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    alarm = asyncio.get_running_loop().call_later(0.000_001, pytest.fail, "time passed meanwhile")
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    for size in (1, 100, 3_000_000):  # more than a socket holds
        writer.write(b"x" * size)
        echoed += len(await reader.readexactly(size))
    writer.close()
    await served.wait()
    assert (echoed, watch.seconds) == (3_000_101, 0)
    alarm.cancel()
    server.close()
    await server.wait_closed()


async def test_a_thread_of_the_loop_is_waited_for_before_time_passes() -> None:
    watch, released = Stopwatch(), threading.Event()
    threading.Timer(0.05, released.set).start()
    async with asyncio.timeout(0.001):
        assert await asyncio.to_thread(released.wait, 30)
    assert watch.seconds == 0


async def test_a_wait_in_vain_ends_in_time() -> None:
    watch = Stopwatch()
    with pytest.raises(TimeoutError):
        await until(lambda: False, timeout_s=0.5)
    assert watch.seconds == 0.5


@pytest.mark.real_clock
async def test_where_a_test_asks_for_it_time_is_real() -> None:
    began_ns = time.monotonic_ns()
    await asyncio.sleep(0.01)
    assert time.monotonic_ns() - began_ns >= 10_000_000
    assert began_ns < clocks.steady_ns() <= time.monotonic_ns()
