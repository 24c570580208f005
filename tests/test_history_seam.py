"""Where history and live bars meet: what the past must reach before a lane is joined, and where it begins."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random

import pytest

from fastbars import StreamConfig, clocks
from fastbars.bars import BarStatus, OHLCVBar
from fastbars.exchanges import find_exchange
from fastbars.exchanges.history import Paging
from fastbars.live.callbacks import Callbacks
from fastbars.live.healing.pages import HealingStats, PageClient
from fastbars.live.past.candles import CandleClient
from fastbars.live.past.jobs import CandleJob, Waits
from fastbars.live.past.seam import Need, Seam
from fastbars.live.past.trades import PastTrades
from fastbars.live.reissues import EarlierBars
from fastbars.live.session import Session
from fastbars.live.shared import SHARED
from fastbars.specs import parse_specs
from fastbars.ticks import to_nanoseconds
from history_law import Made, World

START = datetime(2024, 8, 8, tzinfo=UTC)
START_NS = to_nanoseconds(START)
LANE = ("A", "1s")
_S = 10**9


def bar(second: int, status: BarStatus) -> OHLCVBar:
    opened = START + timedelta(seconds=second)
    return OHLCVBar(
        exchange="test", market="spot", symbol="A", spec="1s", open_time=opened,
        close_time=opened + timedelta(seconds=1), open=Decimal(1), high=Decimal(1), low=Decimal(1), close=Decimal(1),
        volume=Decimal(1), trade_count=1, status=status,
    )  # fmt: skip


@pytest.mark.parametrize("front", [BarStatus.HEALED, BarStatus.PUBLISHED, BarStatus.GAP, BarStatus.PARTIAL])
def test_the_past_passes_what_healing_brings_at_the_front(front: BarStatus) -> None:
    # Healing has brought the bars at 3 and 5 s, and would bring that at 4 s after the lane was joined.
    seam = Seam(EarlierBars(("test", "spot"), parse_specs(["1s"]), 60.0))
    seam.open(LANE, START_NS)
    live = [bar(3, front), bar(5, BarStatus.GAP), bar(6, BarStatus.COMPLETE), bar(7, BarStatus.GAP)]
    assert seam.hold(live) == []
    seam.pass_past(LANE, [], START_NS + 3 * _S)
    assert seam.need(LANE) == Need(START_NS + 3 * _S, START_NS + 6 * _S)
    seam.pass_past(LANE, [], START_NS + 6 * _S)
    assert seam.need(LANE).is_met
    assert seam.join(LANE) == live


def test_live_bars_alone_are_joined_where_they_begin() -> None:
    seam = Seam(EarlierBars(("test", "spot"), parse_specs(["1s"]), 60.0))
    seam.open(LANE, START_NS)
    seam.hold([bar(3, BarStatus.COMPLETE), bar(5, BarStatus.HEALED)])
    assert seam.need(LANE).until_ns == START_NS + 3 * _S


@pytest.mark.parametrize("paging", [Paging.BACKWARD_BY_ID, Paging.FORWARD_BY_ID])
async def test_a_symbol_that_first_trades_after_it_was_asked_for_has_all_of_its_past(paging: Paging) -> None:
    world = World(Random(1), "contiguous", paging, page_size=7, leaves_out=False, has_candles=False)
    exchange = world.exchange()
    history = exchange.history("trade", has_key=True)
    assert history is not None
    now_ms = world.now_ms() - 10_000
    since_ns = now_ms // 1000 * 1000 * 10**6
    world.trades["BTCUSDT"] = []

    limiter = SHARED.rest_limiter(history.api.budget_name, history.api.weight_per_minute)
    client = PageClient(
        "binance", history, world, HealingStats(), limiter, api_key=None, url=None, patience_s=5.0, sleep=asyncio.sleep,  # type: ignore[arg-type]
    )  # fmt: skip
    (spec,) = parse_specs(["1s"])
    past = PastTrades(find_exchange("binance", "spot"), "trade", "BTCUSDT", {spec: since_ns}, history, client)
    assert await past.advance() == []
    assert past.is_caught_up
    world.trades["BTCUSDT"] = [
        Made(900_000_000 + place, now_ms + place * 400, Decimal(100), Decimal(1)) for place in range(12)
    ]
    found = []
    for _ in range(6):
        found += await past.advance()
    found += past.settled(all_of_them=True)
    assert past.is_caught_up
    assert past.newest_id == 900_000_011
    assert sum(one.trade_count or 0 for one in found) >= 9  # all but those of the bar in progress


async def test_a_candle_that_came_late_is_given_before_the_next_trade_and_asked_for_once() -> None:
    world = World(Random(1), "contiguous", Paging.BACKWARD_BY_ID, 7, leaves_out=False, has_candles=True, lag_ms=900)
    await asyncio.sleep(1.2 - world.now_ms() % 1000 / 1000)  # 0.2 s into a second
    now_ms = world.now_ms()
    world.trades["BTCUSDT"] = [Made(1, now_ms - 100, Decimal(100), Decimal(1))]  # its second is in progress
    exchange = world.exchange()
    (spec,) = parse_specs(["1s"])
    session = Session(exchange, StreamConfig(bars=["1s"], check_symbols=False), Callbacks(), channel="trade")
    client = CandleClient(exchange, world, SHARED.rest_limiter("candles of a test", 6000.0))  # type: ignore[arg-type]
    job = CandleJob(
        session.past, client, "BTCUSDT", spec, "1s", inverse=False, fills=False, now_ns=clocks.wall_ns
    )  # fmt: skip
    session.past.open("BTCUSDT", "1s", (now_ms // 1000 - 5) * _S)
    seen = [(await job.step(), session.past.bars, job.is_ready)]
    await asyncio.sleep(7.0)
    seen.append((Waits.LIVE, session.past.bars, job.is_ready))
    seen.append((await job.step(), session.past.bars, job.is_ready))
    await asyncio.sleep(60.0)
    seen.append((Waits.LIVE, session.past.bars, job.is_ready))
    live = Waits.LIVE
    assert seen == [(live, 0, False), (live, 0, True), (live, 1, False), (live, 1, False)]
