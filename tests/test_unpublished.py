"""Ids that the exchange's history leaves out: counted apart from missing ones, and their bars are PUBLISHED."""

from __future__ import annotations

import asyncio
from pathlib import Path

import orjson
import pytest
from aiohttp import web
from hypothesis import given, settings, strategies as st

import fastbars
from examples import examples
from fastbars import BarBuffer, OHLCVBar, StreamConfig
from fastbars.errors import InvalidTickError
from servers import START_MS, TradeServer, trade, until

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
T0 = START_MS * 1_000_000


def fed(*seconds_and_ids: tuple[float, int], bars: str = "1m") -> tuple[BarBuffer, list[OHLCVBar]]:
    buffer = BarBuffer(bars, ids="contiguous")
    made: list[OHLCVBar] = []
    for seconds, trade_id in seconds_and_ids:
        made += buffer.add("A", T0 + round(seconds * SECOND), str(100 + trade_id), "1", 1, trade_id)
    return buffer, made


def told(bars: list[OHLCVBar]) -> list[tuple[str, int, int | None, int | None, int | None]]:
    return [(str(b.status), b.revision, b.trade_count, b.missing_count, b.unpublished_count) for b in bars]


def test_a_bar_that_lacks_only_unpublished_ids_is_published() -> None:
    buffer, bars = fed((-1, 1), (0, 2), (20, 5), (60, 6))
    assert told(bars)[-1] == ("GAP", 0, 2, 2, 0)
    assert told(buffer.leave_out("A", [(3, 4)])) == [("PUBLISHED", 1, 2, 0, 2)]
    assert (buffer.missing("A"), buffer.holes("A")) == ([], [])
    assert buffer.leave_out("A", [(3, 4)]) == []
    (published,) = fed((-1, 1), (0, 2), (20, 5), (60, 6))[0].leave_out("A", [(1, 9)])
    assert not published.is_complete


def test_unpublished_ids_between_two_bars_may_be_of_either() -> None:
    buffer, _ = fed((-1, 1), (0, 2), (60, 4), (120, 5))
    assert told(buffer.leave_out("A", [(3, 3)])) == [("PUBLISHED", 1, 1, 0, None), ("PUBLISHED", 1, 1, 0, None)]


def test_unpublished_ids_beside_missing_ones_are_counted_apart() -> None:
    buffer, bars = fed((-1, 1), (0, 2), (20, 5), (30, 7), (60, 8))
    assert told(bars)[-1] == ("GAP", 0, 3, 3, 0)
    assert told(buffer.leave_out("A", [(3, 4)])) == [("GAP", 1, 3, 1, 2)]
    assert buffer.missing("A") == [(6, 6)]
    assert told(buffer.leave_out("A", [(6, 6)])) == [("PUBLISHED", 2, 3, 0, 3)]


def test_many_runs_of_unpublished_ids_are_one_revision() -> None:
    buffer, _ = fed((-1, 1), (0, 2), (20, 5), (30, 7), (60, 8))
    assert told(buffer.leave_out("A", [(3, 4), (6, 6)])) == [("PUBLISHED", 1, 3, 0, 3)]


def test_what_a_hole_has_beyond_the_ids_left_out_stays_missing() -> None:
    buffer, _ = fed((-1, 1), (0, 2), (20, 8), (60, 9))
    assert told(buffer.leave_out("A", [(4, 5)])) == [("GAP", 1, 2, 3, 2)]
    assert (buffer.missing("A"), buffer.unpublished("A")) == ([(3, 3), (6, 7)], [(4, 5)])
    assert told(buffer.leave_out("A", [(1, 99)])) == [("PUBLISHED", 2, 2, 0, 5)]


def test_ids_that_were_seen_and_ids_to_come_are_not_touched() -> None:
    buffer, _ = fed((-1, 1), (0, 2), (20, 4), (60, 5))
    assert buffer.leave_out("A", [(1, 2), (6, 99)]) == buffer.leave_out("B", [(3, 3)]) == []
    assert buffer.missing("A") == [(3, 3)]
    with pytest.raises(InvalidTickError, match="A: there are no ids from 5 to 4"):
        buffer.leave_out("A", [(5, 4)])


def test_closed_bars_are_not_kept_for_unpublished_ids_beyond_lateness() -> None:
    buffer = BarBuffer("1s", ids="contiguous", lateness_s=2, heal_horizon_s=3600)
    for seconds, trade_id in ((-2.0, 0), (0.0, 1), (0.5, 3), (1.0, 4), (2.0, 5)):
        buffer.add("A", T0 + round(seconds * SECOND), "1", "1", 1, trade_id)
    buffer.leave_out("A", [(2, 2)])
    for seconds, trade_id in ((60.0, 6), (61.0, 7)):
        buffer.add("A", T0 + round(seconds * SECOND), "1", "1", 1, trade_id)
    assert buffer.add("A", T0 + 3 * SECOND // 10, "1", "1", 1, 2) == []  # its bar was let go
    assert buffer.stats.late == 1


def test_thousands_of_unpublished_ids_push_no_hole_out() -> None:
    buffer, _ = fed((-1, 1), (0, 2), (1, 4))
    for number in range(5, 5_005):
        buffer.add("A", T0 + 2 * SECOND + number, "1", "1", 1, 2 * number)
        buffer.leave_out("A", [(2 * number - 1, 2 * number - 1)])
    assert buffer.missing("A")[0] == (3, 3)
    assert len(buffer.unpublished("A")) == 4094


@given(st.lists(st.tuples(st.integers(3, 30), st.integers(3, 30)), max_size=12), st.sets(st.integers(3, 30)))
@settings(max_examples=examples(200))
def test_each_id_is_seen_missing_or_unpublished(ranges: list[tuple[int, int]], seen: set[int]) -> None:
    buffer, _ = fed((-1, 1), (1, 2), *((number, number) for number in sorted(seen)), (40, 31))
    ranges = [(min(one), max(one)) for one in ranges]
    for one in ranges:
        buffer.leave_out("A", [one])
    lacking = set(range(3, 31)) - seen
    left_out = {number for first, last in ranges for number in range(first, last + 1)} & lacking
    assert {n for first, last in buffer.unpublished("A") for n in range(first, last + 1)} == left_out
    assert {n for first, last in buffer.missing("A") for n in range(first, last + 1)} == lacking - left_out
    (closed,) = buffer.add("A", T0 + MINUTE, "1", "1", 1, 32)
    assert (closed.missing_count, closed.unpublished_count) == (len(lacking - left_out), len(left_out))
    assert closed.status == ("GAP" if lacking - left_out else "PUBLISHED" if left_out else "COMPLETE")


def test_an_open_bar_closes_published() -> None:
    buffer, _ = fed((-1, 1), (0, 2), (20, 5))
    assert buffer.leave_out("A", [(3, 4)]) == []
    assert told(buffer.add("A", T0 + MINUTE, "1", "1", 1, 6)) == [("PUBLISHED", 0, 2, 0, 2)]


def test_a_trade_that_comes_after_all_makes_the_bar_complete() -> None:
    buffer, _ = fed((-1, 1), (0, 2), (20, 4), (60, 5))
    buffer.leave_out("A", [(3, 3)])
    assert told(buffer.add("A", T0 + 10 * SECOND, "1", "1", 1, 3)) == [("COMPLETE", 2, 3, 0, 0)]


def test_path_driven_bars_behind_unpublished_ids_stay_gap() -> None:
    buffer, bars = fed((-1, 1), (0, 2), (20, 4), (60, 5), bars="tick:2")
    assert [(bar.status, bar.unpublished_count) for bar in bars] == [("PARTIAL", None), ("GAP", None)]
    assert buffer.leave_out("A", [(3, 3)]) == []


def test_a_snapshot_keeps_unpublished_ids_apart() -> None:
    buffer, _ = fed((-1, 1), (0, 2), (20, 5))
    buffer.leave_out("A", [(3, 4)])
    again = BarBuffer("1m", ids="contiguous")
    again.load(buffer.dump(), continues=True)
    assert again.missing("A") == []
    assert told(again.add("A", T0 + MINUTE, "1", "1", 1, 6)) == [("PUBLISHED", 0, 2, 0, 2)]


def test_columns_have_the_unpublished_count() -> None:
    buffer, _ = fed((-1, 1), (0, 2), (60, 4), (61, 6), (120, 7))
    bars = buffer.leave_out("A", [(3, 5)])
    assert told(bars) == [("PUBLISHED", 1, 1, 0, None), ("PUBLISHED", 1, 2, 0, None)]
    assert bars[0].to_dict(json=True)["unpublished_count"] is None


@pytest.mark.parametrize("lines", [1, 2])
async def test_what_the_rest_api_leaves_out_is_asked_for_once_and_its_bar_published(tmp_path: Path, lines: int) -> None:
    listed = [100, 101, 104, 106, 107, 108]  # of 100 to 108: 102 and 103 are void, 105 of the insurance fund
    asked: list[str] = []

    async def past_trades(request: web.Request) -> web.Response:
        asked.append(request.query_string)
        first = int(request.query["fromId"])
        rows = [
            {"id": n, "price": "100", "qty": "1", "quoteQty": "100", "time": START_MS + n * 100, "isBuyerMaker": False}
            for n in listed
            if n >= first
        ]
        return web.Response(body=orjson.dumps(rows), content_type="application/json")

    app = web.Application()
    app.router.add_get("/fapi/v1/historicalTrades", past_trades)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    bars: list[OHLCVBar] = []
    try:
        async with TradeServer() as server:
            config = StreamConfig(
                rest_url=f"http://127.0.0.1:{runner.addresses[0][1]}", api_key="k" * 8, check_symbols=False,
                lines=lines, backfill=0,
            )  # fmt: skip
            stream = fastbars.stream(
                "binance", ["BTCUSDT"], "1s", market="usdm", url=server.url, proxy=None, config=config, record=tmp_path
            )
            async with stream:

                async def read() -> None:
                    async for bar in stream:
                        bars.append(bar)

                reading = asyncio.create_task(read())
                await until(lambda: len(server.connections) == lines)
                await server.send(*(trade(n, n * 100) for n in (99, 100, 101, 107, 108, 109, 110)))
                try:
                    await until(lambda: any(bar.status == "PUBLISHED" for bar in bars), 6)
                finally:
                    print("DBG", told(bars), stream.holes(), stream.healing(), asked, stream.stats())
                assert stream.holes() == {}
                await stream.stop()
                await reading
    finally:
        await runner.cleanup()
    latest = {bar.open_time: bar for bar in bars}
    published = [bar for bar in latest.values() if bar.status == "PUBLISHED"]
    assert told(published) == [("PUBLISHED", 2, 7, 0, 3)]
    assert sum("fromId=101" in query for query in asked) == 1
    replayed = list(fastbars.replay(tmp_path, "1s"))
    assert told(replayed) == told(bars)
