"""A symbol's first trade of all: nothing was traded before it, so that the bar that begins with it is whole."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import orjson
import pytest

import fastbars
from fastbars import BarBuffer, BarStatus, OHLCVBar, StreamConfig
from fastbars.exchanges import find_exchange
from fastbars.exchanges.history import Beginning, Hole, Page, Paging
from fastbars.live.healing.beginning import MOST_TRADES, begins_with_first
from fastbars.simulator import SimulatedExchange
from test_healing import Venue, time_of

MINUTE_NS = 60 * 10**9
START_NS = 1_700_000_040_000_000_000  # a minute


def bars_of(first: int, base: int | None, specs: list[str], ids: str = "contiguous") -> list[OHLCVBar]:
    """Bars of ten trades, a second apart from the middle of a minute on, and one in the next minute."""
    buffer = BarBuffer(specs, ids=ids, first_id=base)  # type: ignore[arg-type]
    bars: list[OHLCVBar] = []
    for number in range(11):
        time_ns = START_NS + (30 + number) * 10**9 if number < 10 else START_NS + MINUTE_NS
        bars += buffer.add("A", time_ns, "1.5", "2", trade_id=first + number)
    return bars


@pytest.mark.parametrize(
    ("first", "base", "status"),
    [
        (1, 1, BarStatus.COMPLETE), (0, 0, BarStatus.COMPLETE),
        (2, 1, BarStatus.PARTIAL), (1, 0, BarStatus.PARTIAL), (1, None, BarStatus.PARTIAL), (0, 1, BarStatus.PARTIAL),
    ],
)  # fmt: skip
def test_a_bar_that_begins_with_the_first_id_is_complete(first: int, base: int | None, status: BarStatus) -> None:
    for specs in (["1m"], ["tick:10"], ["10s", "1m", "1d", "tick:4"]):
        for spec in set(specs) - {"1d"}:
            bar = next(bar for bar in bars_of(first, base, specs) if bar.spec == spec)
            assert (bar.first_trade_id, bar.status) == (first, status)


def test_where_ids_do_not_prove_a_first_id_proves_nothing_either() -> None:
    assert {bar.status for bar in bars_of(1, 1, ["1m"], "sequenced")} <= {BarStatus.PARTIAL, BarStatus.UNVERIFIABLE}
    with pytest.raises(ValueError, match="first_id -1 is negative"):
        BarBuffer("1m", ids="contiguous", first_id=-1)


def test_no_time_before_the_first_trade_is_filled() -> None:
    buffer = BarBuffer("1s", ids="contiguous", first_id=1, empty="fill")
    bars = buffer.add("A", START_NS, "1", "1", trade_id=1)
    bars += buffer.add("A", START_NS + 3 * 10**9, "1", "1", trade_id=2)
    assert [(bar.open_time.second, bar.trade_count, bar.status) for bar in bars] == [
        (0, 1, BarStatus.COMPLETE), (1, 0, BarStatus.COMPLETE), (2, 0, BarStatus.COMPLETE),
    ]  # fmt: skip


def test_a_snapshot_keeps_what_the_first_id_proves() -> None:
    buffers = [BarBuffer(["1m", "tick:2"], ids="contiguous", first_id=1) for _ in range(2)]
    buffers[0].add("A", START_NS + 5 * 10**9, "5", "1", trade_id=1)
    state = buffers[0].dump()
    assert state is not None
    buffers[1].load(state, continues=True)
    bars = buffers[1].add("A", START_NS + MINUTE_NS, "6", "1", trade_id=2)
    assert {(bar.spec, bar.status) for bar in bars} == {("1m", BarStatus.COMPLETE), ("tick:2", BarStatus.COMPLETE)}


def test_a_trade_before_the_declared_first_one_is_taken_all_the_same() -> None:
    buffer = BarBuffer("1m", ids="contiguous", first_id=1)
    buffer.add("A", START_NS + 2, "5", "1", trade_id=1)
    buffer.add("A", START_NS + 1, "4", "1", trade_id=0)
    (bar,) = buffer.add("A", START_NS + MINUTE_NS, "6", "1", trade_id=2)
    assert (bar.open, bar.close, bar.volume, bar.first_trade_id) == (Decimal(4), Decimal(5), Decimal(2), 0)


@pytest.mark.parametrize(
    ("first", "first_id", "opened", "begins", "requests"),
    [
        (50, 0, 0, True, 1),
        (50, 3, 2, True, 1),
        (50, 0, 1, False, 1),  # the first trade of all lies before the bar
        (0, 0, 0, False, 0),  # it is the first already
        (MOST_TRADES + 1, 0, 0, False, 0),
    ],
)
async def test_the_first_trade_of_all_is_asked_for_once(
    first: int, first_id: int, opened: int, begins: bool, requests: int
) -> None:
    venue = Venue(Paging.FORWARD_BY_ID, newest=100, page_size=100)
    history, asked = venue.history(page_size=venue.page_size), list[int]()

    async def fetch(_: Hole, position: int) -> Page:
        asked.append(position)
        return history.parse("A", orjson.dumps([one.first_id for one in venue.page(position)]))

    beginning = Beginning("A", first, time_of(first), time_of(opened))
    assert await begins_with_first(history, beginning, fetch, first_id) is begins
    assert len(asked) == requests


async def test_a_symbol_subscribed_to_before_it_is_listed_begins_complete() -> None:
    bars: list[OHLCVBar] = []
    async with SimulatedExchange(
        "binance", market="usdm", symbols=["BTCUSDT"], coming=["NEWUSDT"], rate=400.0, record=True
    ) as server:
        stream = fastbars.stream(
            "binance", ["BTCUSDT", "NEWUSDT"], ["1s", "tick:20"], market="usdm", url=server.url, on_bar=bars.append
        )
        async with stream:
            await asyncio.sleep(3.3)
            server.change_state("NEWUSDT", "trading")
            await asyncio.sleep(5)
    new = [bar for bar in bars if bar.symbol == "NEWUSDT"]
    for spec in ("1s", "tick:20"):
        first = next(bar for bar in new if bar.spec == spec)
        assert (first.first_trade_id, first.status, first.revision) == (1, BarStatus.COMPLETE, 0)
    of_btc = next(bar for bar in bars if bar.symbol == "BTCUSDT")
    assert of_btc.status == BarStatus.PARTIAL


async def test_the_first_bar_of_a_symbol_that_a_universe_finds_late_is_healed_from_its_first_trade_on() -> None:
    bars: list[OHLCVBar] = []
    async with SimulatedExchange(
        "binance", symbols=["BTCUSDT", "ETHUSDT"], coming=["NEWUSDT"], rate=200.0, record=True
    ) as server:
        config = StreamConfig(rest_url=server.rest_url, listing_interval=10.0)
        async with fastbars.stream(
            "binance", fastbars.where(), "1m", url=server.url, config=config, on_bar=bars.append
        ):
            await asyncio.sleep(5)
            server.change_state("NEWUSDT", "trading")
            await asyncio.sleep(70)
        traded = list(server.record.history("NEWUSDT"))
    first = [bar for bar in bars if bar.symbol == "NEWUSDT" and bar.open_time.minute == 54][-1]
    in_it = [trade for trade in traded if trade.time_ms < first.close_time.timestamp() * 1000]
    assert (first.first_trade_id, first.last_trade_id) == (0, in_it[-1].trade_id)
    assert first.trade_count == len(in_it)
    assert first.status == BarStatus.HEALED


def test_what_is_declared_must_be_ids_of_trade_channels() -> None:
    assert find_exchange("binance").first_ids == {"trade": 0, "aggTrade": 0}
    for market in ("usdm", "coinm"):
        assert find_exchange("binance", market).first_ids == {"trade": 1}
