"""Bars that wait for their consumer: order, when reading stops and goes on, and how it ends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fastbars.errors import WSConnectionError
from fastbars.live.delivery import BarQueue


async def test_reading_stops_when_enough_bars_wait_and_goes_on_when_half_of_them_are_taken() -> None:
    paused: list[bool] = []
    queue = BarQueue(4, paused.append)
    bars: list[Any] = list(range(10))
    queue.put(bars[:3])
    assert paused == []
    queue.put(bars[3:6])  # those of one wakeup all come
    queue.put(bars[6:7])
    assert paused == [True]
    taken: list[Any] = [await queue.take_next() for _ in range(4)]
    assert paused == [True]
    taken.append(await queue.take_next())
    assert (taken, paused) == ([0, 1, 2, 3, 4], [True, False])
    queue.put(bars[7:])
    assert paused == [True, False, True]
    queue.end()
    taken = [await queue.take_next() for _ in range(6)]
    assert taken == [5, 6, 7, 8, 9, None]


async def test_a_failure_comes_once_and_after_the_last_bar() -> None:
    queue = BarQueue(100, lambda _: None)
    bar: Any = "bar"
    queue.put([bar])
    queue.end(WSConnectionError("lost for good"))
    assert await queue.take_next() == bar
    with pytest.raises(WSConnectionError, match="lost for good"):
        await queue.take_next()
    assert await queue.take_next() is None


async def test_whoever_waits_gets_the_next_bar_or_the_end() -> None:
    queue = BarQueue(100, lambda _: None)
    bar: Any = "bar"
    waiting = asyncio.create_task(queue.take_next())
    await asyncio.sleep(0)
    assert not waiting.done()
    queue.put([bar])
    assert await waiting == bar
    waiting = asyncio.create_task(queue.take_next())
    await asyncio.sleep(0)
    queue.end()
    assert await waiting is None
