"""Bars of archives with holes, repaired from the other archive and from the simulator's REST, against the truth."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any, Literal

import pytest
from aiohttp import web

import fastbars
from archive_faults import DAY_MS, Archive, Row, Truth
from examples import examples
from fastbars import BarBatch, OHLCVBar
from fastbars.archives import Kind, build, check
from fastbars.archives.repair import RepairReport
from fastbars.simulator.dialects import find_dialect
from fastbars.simulator.market import SimulatedMarket, SimulatedTrade
from fastbars.simulator.rest import SimulatedHistory

SPECS = ["1m", "1h", "1d", "tick:50"]
SYMBOL = "BTCUSDT"


class Venue:
    """A market of the simulator over some days, up to yesterday, its truth and its REST history."""

    def __init__(self, market: str, days: int = 3, rate: float = 0.008, voids_per_minute: float = 0.0) -> None:
        kind = find_dialect("binance")
        name, instruments = kind.list_market(market, [SYMBOL])
        today_ms = int(datetime.now(UTC).timestamp()) // 86_400 * DAY_MS
        self.start_ms = today_ms - (days + 1) * DAY_MS
        traded = SimulatedMarket(instruments, rate, 5, self.start_ms, voids_per_minute)
        trades: list[SimulatedTrade] = list(traded.advance(self.start_ms + days * DAY_MS - 1))
        (instrument,) = instruments
        self.truth = Truth(SYMBOL, market, [
            Row(trade.trade_id, trade.trade_id, instrument.tick_size * trade.price_ticks,
                instrument.step_size * trade.size_steps, trade.time_ms * 1000, trade.buyer_is_maker)
            for trade in trades
        ])  # fmt: skip
        self.history = SimulatedHistory(kind(name, instruments, traded.books).past_trades, lambda _: trades)

    @asynccontextmanager
    async def served(self) -> AsyncIterator[str]:
        async def answer(request: web.Request) -> web.Response:
            found = self.history.answer(request.path_qs, headers=request.headers)
            if found is None:
                return web.Response(status=404)
            return web.Response(status=found.status, body=found.body)

        app = web.Application()
        app.router.add_get("/{path:.*}", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()

    def bars(self, without: set[int] = frozenset()) -> list[OHLCVBar]:  # type: ignore[assignment]
        """What all trades make, but for some that nobody publishes."""
        rows = [row for row in self.truth.rows if row.first not in without]
        return fastbars.aggregate(
            [row.time_us * 1000 for row in rows], [row.price for row in rows], [row.size for row in rows],
            symbol=SYMBOL, side=[-1 if row.maker else 1 for row in rows], trade_id=[row.first for row in rows],
            exchange="binance", market=self.truth.market, bars=SPECS, time_unit="ns",
        ).to_bars()  # fmt: skip


def values(bar: OHLCVBar) -> tuple[object, ...]:
    found = bar.to_dict()
    for name in ("status", "revision", "close_reason", "missing_count", "unpublished_count"):
        found.pop(name)
    return tuple(found.items())


def by_time(bars: list[OHLCVBar]) -> list[OHLCVBar]:
    return sorted(bars, key=lambda bar: (bar.spec, bar.open_time, bar.first_trade_id or 0))


def the_bars(path: Path) -> list[OHLCVBar]:
    return BarBatch.from_parquet(path).to_bars()


def drop(archive: Archive, source_name: str, truth: Truth, ids: set[int]) -> list[Path]:
    """Files without these ids."""
    source = archive.copy(truth, source_name)
    for day, rows in source.rows.items():
        source.rows[day] = [row for row in rows if row.first not in ids]
    return archive.write(source, Random(1), header=False)


async def repaired(files: list[Path], to: Path, url: str | None, key: str | None = None) -> RepairReport:
    way: Literal["files", "rest"] = "files" if url is None else "rest"
    report = await asyncio.to_thread(build, files, SPECS, to, repair=way, rest_url=url, api_key=key)
    assert report.repaired is not None
    return report.repaired


@pytest.mark.real_clock
async def test_what_files_lack_comes_from_rest_and_the_bars_are_those_of_the_whole_truth(tmp_path: Path) -> None:
    venue = Venue("spot")
    ids = [row.first for row in venue.truth.rows]
    gone = {*ids[20:25], *ids[300:301], *ids[700:1400]}
    files = drop(Archive(tmp_path), "daily", venue.truth, gone)
    async with venue.served() as url:
        report = await repaired(files, tmp_path / "bars.parquet", url)
    bars, truth = by_time(the_bars(tmp_path / "bars.parquet")), by_time(venue.bars())
    assert [values(bar) for bar in bars] == [values(bar) for bar in truth]
    assert {number for one in report.filled for number in range(one.first, one.last + 1)} == gone
    assert {one.origin for one in report.filled} == {"REST"}
    assert (report.left, report.unpublished, report.disputed) == ([], [], [])
    for bar, whole in zip(bars, truth, strict=True):
        assert bar.first_trade_id is not None
        assert bar.last_trade_id is not None
        near = range(bar.first_trade_id - 1, bar.last_trade_id + 2)
        doubted = not gone.isdisjoint(near)
        wanted = "HEALED" if doubted and whole.status == "COMPLETE" else whole.status
        assert (bar.status, bar.revision) == (wanted, 0)


@pytest.mark.real_clock
async def test_what_daily_files_lack_comes_from_monthly_ones_and_no_request_is_made(tmp_path: Path) -> None:
    venue = Venue("spot")
    ids = [row.first for row in venue.truth.rows]
    archive = Archive(tmp_path)
    drop(archive, "daily", venue.truth, {*ids[20:25], *ids[700:1400]})
    drop(archive, "monthly", venue.truth, {*ids[100:101], *ids[1500:1520]})
    async with venue.served() as url:
        report = await repaired(archive.files, tmp_path / "bars.parquet", url)
    assert venue.history.requests == []
    bars, truth = by_time(the_bars(tmp_path / "bars.parquet")), by_time(venue.bars())
    assert [(values(bar), bar.status) for bar in bars] == [(values(bar), bar.status) for bar in truth]
    # The monthly files have more trades, so they are the first.
    assert [(one.first, one.last, one.origin) for one in report.filled] == [
        (ids[100], ids[100], "daily"), (ids[1500], ids[1519], "daily"),
    ]  # fmt: skip


@pytest.mark.real_clock
async def test_ids_that_rest_leaves_out_make_published_bars_and_real_holes_are_filled(tmp_path: Path) -> None:
    venue = Venue("usdm")
    ids = [row.first for row in venue.truth.rows]
    never, gone = {ids[30], *ids[500:503], ids[1000]}, {ids[32], *ids[800:850]}
    venue.history.omitted[SYMBOL] = never
    files = drop(Archive(tmp_path), "daily", venue.truth, never | gone)
    async with venue.served() as url:
        report = await repaired(files, tmp_path / "bars.parquet", url, key="key")
    assert {number for _, first, last in report.unpublished for number in range(first, last + 1)} == never
    assert {number for one in report.filled for number in range(one.first, one.last + 1)} == gone
    assert report.left == []
    bars, truth = by_time(the_bars(tmp_path / "bars.parquet")), by_time(venue.bars(never))
    timed = [(bar, whole) for bar, whole in zip(bars, truth, strict=True) if bar.spec != "tick:50"]
    assert [values(bar) for bar, _ in timed] == [values(whole) for _, whole in timed]
    for bar, _ in timed:
        assert bar.first_trade_id is not None
        assert bar.last_trade_id is not None
        if bar.status != "PARTIAL":
            near = set(range(bar.first_trade_id - 1, bar.last_trade_id + 2))
            wanted = "PUBLISHED" if near & never else "HEALED" if near & gone else "COMPLETE"
            # Two unpublished ids side by side may lie between two bars.
            assert bar.status == wanted or (bar.status == "PUBLISHED" and bar.unpublished_count is None)


@pytest.mark.real_clock
async def test_what_nobody_has_stays_a_gap_and_is_listed_with_the_reason(tmp_path: Path) -> None:
    venue = Venue("usdm", days=2)
    ids = [row.first for row in venue.truth.rows]
    gone = {*ids[50:60]}
    files = drop(Archive(tmp_path), "daily", venue.truth, gone)
    async with venue.served() as url:
        report = await repaired(files, tmp_path / "bars.parquet", url)  # without the key that it needs
    ((_, first, last, why),) = report.left
    assert (first, last) == (ids[50], ids[59])
    assert "without a key" in why
    bars = the_bars(tmp_path / "bars.parquet")
    at = datetime.fromtimestamp(venue.truth.rows[50].time_us / 1e6, UTC)
    assert {bar.status for bar in bars if bar.open_time <= at < bar.close_time and bar.spec == "1d"} <= {
        "GAP",
        "PARTIAL",
    }
    assert [bar.missing_count for bar in bars if bar.status == "GAP" and bar.spec == "1h"] in ([10], [None, None])


@pytest.mark.real_clock
async def test_of_several_contents_the_one_that_most_sources_have_is_taken(tmp_path: Path) -> None:
    venue = Venue("spot", days=2)
    rows = venue.truth.rows
    archive = Archive(tmp_path)
    daily, monthly = archive.copy(venue.truth, "daily"), archive.copy(venue.truth, "monthly")

    def change(source: object, place: int, by: str) -> None:
        own = source.rows[rows[place].day]  # type: ignore[attr-defined]
        at = own.index(rows[place])
        own[at] = own[at]._replace(price=own[at].price + Decimal(by))

    change(daily, 100, "1")  # REST sides with the monthly files
    change(monthly, 200, "1")  # REST sides with the daily files
    archive.write(daily, Random(1))
    archive.write(monthly, Random(1))
    async with venue.served() as url:
        report = await repaired(archive.files, tmp_path / "bars.parquet", url)
    bars, truth = by_time(the_bars(tmp_path / "bars.parquet")), by_time(venue.bars())
    assert [values(bar) for bar in bars] == [values(bar) for bar in truth]
    assert [(one.trade_id, "monthly" in one.taken_from, one.votes, one.sources) for one in report.disputed] == [
        (rows[100].first, True, 2, 3), (rows[200].first, False, 2, 3),
    ]  # fmt: skip
    # Without REST there are as many for each: the first source's is taken, and said so.
    report = await repaired(archive.files, tmp_path / "bars.parquet", None)
    assert [(one.trade_id, one.votes, one.sources) for one in report.disputed] == [
        (rows[100].first, 1, 2), (rows[200].first, 1, 2),
    ]  # fmt: skip


@pytest.mark.real_clock
async def test_rest_tells_missing_ids_from_unpublished_ones(tmp_path: Path) -> None:
    venue = Venue("usdm", days=2)
    ids = [row.first for row in venue.truth.rows]
    venue.history.omitted[SYMBOL] = {ids[30], *ids[500:503]}
    files = drop(Archive(tmp_path), "daily", venue.truth, {ids[30], ids[32], *ids[500:503]})

    async def found(**asked: Any) -> set[tuple[Kind, tuple[int, int], str]]:
        diagnosis = await asyncio.to_thread(check, files, **asked)
        return {(one.kind, ids_of, one.detail) for one in diagnosis.findings for ids_of in one.ranges}

    holes = {(ids[30], ids[30]), (ids[32], ids[32]), (ids[500], ids[502])}
    assert await found() == {(Kind.MISSING_OR_UNPUBLISHED, hole, "") for hole in holes}
    async with venue.served() as url:
        assert await found(rest=True, rest_url=url, api_key="key") == {
            (Kind.MISSING, (ids[32], ids[32]), "REST has them"),
            (Kind.UNPUBLISHED, (ids[30], ids[30]), ""),
            (Kind.UNPUBLISHED, (ids[500], ids[502]), ""),
        }
        kinds = {kind for kind, _, _ in await found(rest=True, rest_url=f"{url}/nowhere", api_key="key")}
    assert kinds == {Kind.MISSING_OR_UNPUBLISHED}


@pytest.mark.real_clock
@pytest.mark.parametrize("seed", range(examples(3)))
async def test_whatever_is_wrong_with_both_editions_the_bars_are_those_of_the_truth(tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    venue = Venue("spot", days=2, rate=0.004)
    archive = Archive(tmp_path)
    daily, monthly = archive.copy(venue.truth, "daily"), archive.copy(venue.truth, "monthly")
    for _ in range(30):
        source, other = random.sample((daily, monthly), 2)
        fault = random.randrange(5)
        if fault == 0:
            source.drop(random, [other])
        elif fault == 1:
            source.repeat(random, other_content=random.random() < 0.5)
        elif fault == 2:
            source.change(random)
        elif fault == 3:
            source.move(random)
        else:  # in neither
            day = random.choice(list(source.rows))
            at = random.randrange(2, len(source.rows[day]) - 12)
            gone = set(source.rows[day][at : at + random.choice((1, 9))])
            if not {row.first for row in gone} & source.touched:
                for one in (source, other):
                    one.touched |= {row.first for row in gone}
                    one.rows[day] = [row for row in one.rows[day] if row.first not in {each.first for each in gone}]
    archive.write(daily, random)
    archive.write(monthly, random)
    async with venue.served() as url:
        report = await repaired(archive.files, tmp_path / "bars.parquet", url)
    bars, truth = by_time(the_bars(tmp_path / "bars.parquet")), by_time(venue.bars())
    assert [values(bar) for bar in bars] == [values(bar) for bar in truth]
    assert {bar.status for bar in bars} <= {"COMPLETE", "HEALED", "PARTIAL"}
    assert report.left == []
    rows = sum(len(own) for source in (daily, monthly) for own in source.rows.values())
    found = {row.first for source in (daily, monthly) for own in source.rows.values() for row in own}
    assert (report.files, report.trades, report.duplicates) == (len(archive.files), rows, rows - len(found))
