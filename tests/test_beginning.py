"""Bars that a stream began inside: what was traded before is looked for, fetched, and the bar is whole."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings, strategies as st

import fastbars
from examples import examples
from fastbars import OHLCVBar, StreamConfig
from fastbars.bars import BarStatus
from fastbars.buffer import BarBuffer
from fastbars.cli.output import csv_line
from fastbars.exchanges import find_exchange
from fastbars.exchanges.history import Beginning, Hole, Page, Paging
from fastbars.exchanges.messages import Trade
from fastbars.live.healing.beginning import MOST_TRADES, trade_before
from fastbars.live.session import Session
from fastbars.simulator import SimulatedExchange
from fastbars.tapes.recorder import Recording
from servers import START_NS, show, trade, until
from test_end_to_end import official_klines, values
from test_healing import SECOND, Venue, time_of
from test_live_healing import VENUES, fields, truth
from test_tape_healing import TAPES, Torn

ALL = list(Paging)


async def found(venue: Venue, beginning: Beginning, asked: list[int] | None = None) -> int | None:
    history = venue.history(page_size=venue.page_size)

    async def fetch(hole: Hole, position: int) -> Page:
        if asked is not None:
            asked.append(position)
        page = history.parse("A", orjson.dumps([one.first_id for one in venue.page(position)]))
        return page._replace(trades=sorted(page.trades, key=lambda one: one.time_ns))

    before = await trade_before(history, beginning, fetch)
    return None if before is None else before.first_id


@settings(max_examples=examples(200))
@given(
    st.sampled_from([paging for paging in ALL if paging is not Paging.RECENT]),
    st.integers(1, 900), st.integers(0, 300), st.sets(st.integers(0, 900), max_size=6), st.integers(2, 100),
    st.integers(0, 3),
)  # fmt: skip
def test_the_last_trade_before_a_bar_is_found_whatever_the_paging(
    paging: Paging, first: int, seen_after: int, omitted: set[int], page_size: int, overlap: int
) -> None:
    venue = Venue(paging, omitted=sorted(omitted), page_size=page_size, overlap=overlap)
    opened = max(first - seen_after, 0)
    beginning = Beginning("A", first, time_of(first), time_of(opened))
    served = [number for number in range(opened) if number not in omitted]
    before = asyncio.run(found(venue, beginning))
    if before is None:
        assert not served or page_size < 30
    elif page_size < 30:  # with so many requests it may be an earlier one: a valid answer, and more to fetch
        assert before in served
    else:
        assert before == served[-1]


async def test_a_far_beginning_takes_few_requests() -> None:
    venue, asked = Venue(Paging.FORWARD_BY_ID, newest=20_000, page_size=100), list[int]()
    assert await found(venue, Beginning("A", 15_000, time_of(15_000), time_of(3_333)), asked) == 3_332
    assert len(asked) <= 16


async def test_a_beginning_that_lacks_too_many_trades_is_left_alone() -> None:
    newest = MOST_TRADES + 3_000
    venue = Venue(Paging.BACKWARD_BY_TIME, newest=newest, page_size=1000)
    assert await found(venue, Beginning("A", newest, time_of(newest), time_of(newest - MOST_TRADES + 1))) is not None
    assert await found(venue, Beginning("A", newest, time_of(newest), time_of(1_000))) is None


async def test_the_latest_trades_hold_the_beginning_or_not() -> None:
    venue = Venue(Paging.RECENT, page_size=100)
    assert await found(venue, Beginning("A", 990, time_of(990), time_of(950))) == 949
    assert await found(venue, Beginning("A", 990, time_of(990), time_of(850))) is None


@pytest.mark.parametrize("paging", ALL)
async def test_where_nothing_was_traded_before_there_is_nothing_to_be_found(paging: Paging) -> None:
    venue = Venue(paging)
    assert await found(venue, Beginning("A", 40, time_of(40), 0)) is None


# The kernel.


def buffer_that_began_inside(bars: str | Sequence[str] = "10s") -> BarBuffer:
    buffer = BarBuffer(bars, ids="contiguous", grace_s=0)
    add(buffer, 8, 13)
    return buffer


def add(buffer: BarBuffer, *rows: int) -> list[str]:
    """Ids (and prices), one after the other, and the last number their second."""
    batch = buffer.new_batch()
    for number in rows[:-1]:
        batch.append("A", rows[-1] * SECOND, str(number), "1", 1, number)
    return show(buffer.add_batch(batch))


def heal(buffer: BarBuffer, *trades: tuple[int, int]) -> list[str]:
    batch = buffer.new_batch()
    for number, second in trades:
        batch.append("A", second * SECOND, str(number), "1", 1, number)
    return show(buffer.heal(batch))


def test_an_open_bar_whose_beginning_is_fetched_closes_as_healed() -> None:
    buffer = buffer_that_began_inside()
    assert buffer.beginning("A", 60) == [(8, 13 * SECOND, 10 * SECOND)]
    assert show(buffer.reach_back("A", 5, 9 * SECOND)) == []
    assert buffer.beginning("A", 60) == []
    assert buffer.holes("A") == [(6, 7, 9 * SECOND, 13 * SECOND)]
    assert heal(buffer, (6, 11), (7, 12)) == []
    assert add(buffer, 9, 20) == ["00:00:10 10s 6 8 6 8 v3 n3 6-8 HEALED r0 trade"]


def test_a_bar_that_was_issued_as_partial_is_issued_again_as_healed() -> None:
    buffer = buffer_that_began_inside()
    assert add(buffer, 9, 20) == ["00:00:10 10s 8 8 8 8 v1 n1 8-8 PARTIAL r0 trade"]
    assert show(buffer.reach_back("A", 6, 9 * SECOND)) == []
    assert heal(buffer, (7, 12)) == ["00:00:10 10s 7 8 7 8 v2 n2 7-8 HEALED r1 trade"]


def test_a_bar_that_lacked_nothing_is_healed_by_the_trade_before_it() -> None:
    buffer = buffer_that_began_inside()
    add(buffer, 9, 20)
    assert show(buffer.reach_back("A", 7, 9 * SECOND)) == ["00:00:10 10s 8 8 8 8 v1 n1 8-8 HEALED r1 trade"]


def test_a_bar_in_which_the_trade_lies_as_well_stays_partial() -> None:
    buffer = buffer_that_began_inside(["10s", "1m"])
    assert buffer.beginning("A", 60) == [(8, 13 * SECOND, 0), (8, 13 * SECOND, 10 * SECOND)]
    assert buffer.beginning("A", 10) == [(8, 13 * SECOND, 10 * SECOND)]
    buffer.reach_back("A", 7, 9 * SECOND)
    assert add(buffer, 9, 60) == [
        "00:00:10 10s 8 8 8 8 v1 n1 8-8 HEALED r0 trade",
        "00:00:00 1m 8 8 8 8 v1 n1 8-8 PARTIAL r0 trade",
    ]


def test_the_trade_that_proved_one_beginning_is_missing_where_a_longer_bar_is_to_be_whole() -> None:
    buffer = buffer_that_began_inside(["10s", "1m"])
    buffer.reach_back("A", 6, 9 * SECOND)
    assert heal(buffer, (7, 12)) == []
    assert buffer.beginning("A", 60) == [(7, 9 * SECOND, 0)]
    assert show(buffer.reach_back("A", 4, -SECOND)) == []
    assert buffer.holes("A") == [(5, 6, -SECOND, 9 * SECOND)]
    assert heal(buffer, (5, 8)) == ["00:00:00 10s 5 5 5 5 v1 n1 5-5 GAP r0 trade"]
    assert heal(buffer, (6, 9)) == ["00:00:00 10s 5 6 5 6 v2 n2 5-6 HEALED r1 trade"]
    assert add(buffer, 9, 60) == [
        "00:00:10 10s 7 8 7 8 v2 n2 7-8 HEALED r0 trade",
        "00:00:00 1m 5 8 5 8 v4 n4 5-8 HEALED r0 trade",
    ]


def test_what_is_not_fetched_stays_missing_and_is_no_complete_bar() -> None:
    buffer = buffer_that_began_inside()
    buffer.reach_back("A", 5, 9 * SECOND)
    heal(buffer, (7, 12))
    assert add(buffer, 9, 20) == ["00:00:10 10s 7 8 7 8 v2 n2 7-8 GAP r0 trade"]
    assert buffer.missing("A") == [(6, 6)]


@pytest.mark.parametrize(("number", "second"), [(8, 9), (9, 9), (7, 14)])
def test_a_trade_that_is_not_before_the_first_one_proves_nothing(number: int, second: int) -> None:
    buffer = buffer_that_began_inside()
    assert buffer.reach_back("A", number, second * SECOND) == []
    assert buffer.reach_back("B", number, second * SECOND) == []
    assert buffer.holes("A") == []
    assert add(buffer, 9, 20) == ["00:00:10 10s 8 8 8 8 v1 n1 8-8 PARTIAL r0 trade"]


def test_a_beginning_of_trades_whose_ids_prove_nothing_is_not_looked_for() -> None:
    buffer = BarBuffer("10s", ids="none")
    buffer.add("A", 13 * SECOND, "1", "1")
    assert buffer.beginning("A", 60) == []
    assert buffer.beginning("B", 60) == []
    assert buffer.reach_back("A", 1, 9 * SECOND) == []


def test_a_recording_repeats_what_was_fetched(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    session = Session(find_exchange("binance"), StreamConfig(bars="1m"), channel="trade", record=recording.session)
    bars = session.receive([trade(8, 3_000), trade(9, 61_000)], START_NS, 1).bars
    bars += session.repairs.reach_back("BTCUSDT", 6, START_NS - SECOND)
    bars += session.repairs.heal("BTCUSDT", [Trade("trade", "BTCUSDT", START_NS + SECOND, "99", "1", 1, 7, 7)])
    bars += session.flush(START_NS)
    recording.close()
    assert [str(bar.status) for bar in bars] == ["PARTIAL", "HEALED", "PARTIAL"]
    assert [csv_line(bar) for bar in fastbars.replay(tmp_path)] == [csv_line(bar) for bar in bars]


def test_backfill_says_how_far_it_goes() -> None:
    for backfill, heal_horizon, count in ((60.0, 3600.0, 1), (0.0, 3600.0, 0), (2.0, 3600.0, 0), (60.0, 2.0, 0)):
        config = StreamConfig(bars="1m", backfill=backfill, heal_horizon=heal_horizon)
        session = Session(find_exchange("binance"), config, channel="trade")
        session.receive([trade(8, 3_000)], START_NS, 1)
        assert len(session.repairs.beginnings()) == count
    with pytest.raises(ValueError, match="backfill must not be negative"):
        StreamConfig(backfill=-1)


# A tape, and real sockets.


@pytest.mark.parametrize(("tape", "market", "spec", "klines", "whole"), TAPES)
async def test_the_minute_that_a_stream_began_inside_equals_the_kline(
    tape: str, market: str, spec: str, klines: str, whole: int, tapes: Path
) -> None:
    official = official_klines(tapes / "binance_klines" / klines)
    step_ms = 60_000 if spec == "1m" else 300_000
    first_ms = Torn(tapes / "binance_ws" / tape, market, spec, 10**9).first_ms
    # Began a third into the first whole bar: what is before is in the REST API alone.
    opened_ms = (first_ms // step_ms + 1) * step_ms
    torn = Torn(tapes / "binance_ws" / tape, market, spec, 10**9, after_ms=opened_ms + step_ms // 3)
    assert torn.bars[opened_ms].status is BarStatus.PARTIAL
    assert len(torn.session.repairs.beginnings()) <= 1
    await torn.heal()
    assert torn.bars[opened_ms].status is BarStatus.HEALED
    assert torn.bars[opened_ms].missing_count == 0
    assert values(torn.bars[opened_ms]) == official[opened_ms]
    assert sum(bar.is_complete for bar in torn.bars.values()) == whole


@pytest.mark.parametrize(("name", "market"), VENUES)
async def test_the_first_bar_of_a_live_stream_is_whole(name: str, market: str) -> None:
    bars: dict[tuple[str, datetime], OHLCVBar] = {}
    async with SimulatedExchange(name, market=market, symbols=2, rate=400, record=True, seed=3) as exchange:
        await until(lambda: all(len(exchange.record.trades(symbol)) > 500 for symbol in exchange.symbols))
        config = StreamConfig(rest_url=exchange.rest_url, grace=0.2)
        stream = fastbars.stream(name, exchange.symbols, "1s", market=market, url=exchange.url, config=config)
        async with stream as feed, asyncio.timeout(20):
            async for bar in feed:
                bars[bar.symbol, bar.open_time] = bar
                firsts = [min(key for key in bars if key[0] == symbol) for symbol, _ in bars]
                if len(set(firsts)) == 2 and all(bars[first].is_complete for first in firsts) and len(bars) > 4:
                    break
    for bar in bars.values():
        if bar.is_complete and bar.trade_count:
            assert fields(bar) == truth(exchange, bar.symbol, bar.open_time)
