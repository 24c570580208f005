"""Tests of thousands of small holes: neither to find nor to heal nor to give them up holds the loop up."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import Mapping

import pytest

from fastbars import StreamConfig
from fastbars.exchanges import find_exchange
from fastbars.live.healing.healer import Healer
from fastbars.live.rest import Answer
from fastbars.live.session import Session
from servers import START_MS, trade

HOLES = 4096  # as many as are kept of a symbol
LONGEST_TURN_S = 0.05


def session_with_holes(count: int, spread_ms: int, *symbols: str) -> Session:
    """Of every three ids two are missing; a trade that came every `spread_ms`."""
    session = Session(find_exchange("binance"), StreamConfig(bars=["1s", "1m"]), channel="trade")
    for symbol in symbols:
        for start in range(0, count + 1, 100):
            numbers = range(start, min(start + 100, count + 1))
            session.receive([trade(3 * number, number * spread_ms, symbol=symbol) for number in numbers], 0)
    assert len(session.repairs.holes()) == count * len(symbols)
    return session


async def heal(session: Session, answer: str, spread_ms: int) -> tuple[Healer, list[float]]:
    """Heal until nothing is left to do; returns how long each turn of the loop took of this thread's own time, s."""
    history = find_exchange("binance").history("trade", has_key=False)
    now = [0.0]
    turns: list[float] = []

    async def get(url: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Answer:
        if answer == "refused":
            return Answer(400, None, b"no")
        if answer == "empty":
            return Answer(200, None, b"[]")
        first = int(query["fromId"])
        rows = b",".join(
            b'{"id":%d,"price":"100.5","qty":"0.25","time":%d,"isBuyerMaker":true}'
            % (number, START_MS + number * spread_ms // 3)
            for number in range(first, first + 1000)
        )
        return Answer(200, None, b"[%b]" % rows)

    def clock() -> float:
        now[0] += 1.0
        return now[0]

    async def no_wait(_: float) -> None:
        await asyncio.sleep(0)

    async def watch() -> None:
        while True:
            before = time.thread_time()
            await asyncio.sleep(0)
            turns.append(time.thread_time() - before)

    healer = Healer(
        "venue", None if answer == "none" else history, [session.repairs], get, now=clock, sleep=no_wait,
        exchange_time_ns=lambda: 0,
    )  # fmt: skip
    gc.collect()
    gc.freeze()
    watcher = asyncio.create_task(watch())
    while await healer.heal_due() is not None:
        pass
    watcher.cancel()
    return healer, turns


@pytest.mark.parametrize("spread_ms", [5, 800])  # many holes in a bar, and hardly a bar without
@pytest.mark.parametrize("answer", ["full", "empty", "refused", "none"])
async def test_4096_small_holes_never_hold_the_loop_up(
    answer: str, spread_ms: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "fastbars")
    session = session_with_holes(HOLES, spread_ms, "BTCUSDT")
    since = time.thread_time()
    healer, turns = await heal(session, answer, spread_ms)
    assert time.thread_time() - since < 4.0
    assert sorted(turns)[-3] < LONGEST_TURN_S  # twice, something else may have fallen into a turn
    if answer == "full":
        assert session.repairs.holes() == []
        assert healer.stats.requests <= 3 * HOLES // 1000 * 3
    else:
        assert healer.reasons.keys() == set(session.repairs.holes())
        assert healer.stats.given_up == HOLES
        assert caplog.text.count("hole_not_healed") == 13  # the 1st, 2nd, 4th, ... 4096th


async def test_holes_of_many_symbols_never_hold_the_loop_up_either() -> None:
    session = session_with_holes(500, 5, *(f"S{number}USDT" for number in range(40)))
    healer, turns = await heal(session, "none", 5)
    assert healer.stats.given_up == 20_000
    assert sorted(turns)[-3] < LONGEST_TURN_S


def test_bars_that_close_under_thousands_of_holes_take_no_longer_for_them() -> None:
    since = time.thread_time()
    session_with_holes(HOLES, 800, "BTCUSDT")
    assert time.thread_time() - since < 3.0


def test_holes_within_a_range_of_ids_are_those_that_reach_into_it() -> None:
    session = session_with_holes(5, 5, "BTCUSDT")  # (1, 2), (4, 5), (7, 8), (10, 11), (13, 14)

    def within(first: int, last: int) -> list[tuple[int, int]]:
        return [hole[1:3] for hole in session.repairs.holes_within("BTCUSDT", first, last)]

    assert within(5, 10) == [(4, 5), (7, 8), (10, 11)]
    assert within(6, 6) == within(12, 12) == within(15, 99) == []
    assert within(0, 99) == [hole[1:3] for hole in session.repairs.holes()]
    assert session.repairs.holes_within("ETHUSDT", 0, 99) == []
