"""Repair by candles through sockets: the simulator loses what it likes, and serves candles with each venue's habits."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import fastbars
from fastbars import BarStatus, OHLCVBar, StreamConfig, replay
from fastbars.bars import CloseReason
from fastbars.exchanges import find_exchange
from fastbars.simulator import SimulatedExchange
from fastbars.simulator.faults import Fault, FaultKind, Faults
from fastbars.simulator.record import RecordedTrade
from fastbars.simulator.rest import RestFault
from servers import until

MINUTE_MS = 60_000
LACKING = (BarStatus.GAP, BarStatus.PARTIAL)
Key = tuple[str, int]


class Run:
    """A stream of minutes over sockets that is torn by an outage."""

    def __init__(self, name: str, market: str, *, symbols: int = 2, rate: float = 1.0, **settings: Any) -> None:
        self.name, self.market = name, market
        self.faults = Faults(1)
        self.server = SimulatedExchange(
            name, market=market, symbols=symbols, rate=rate, faults=self.faults, seed=3, record=True, tick_s=0.25,
            voids_per_minute=0.0,
        )  # fmt: skip
        self.settings = {"reconnect_delay": 4.0, "reconnect_max_delay": 4.0, "grace": 0.5} | settings
        self.bars: list[OHLCVBar] = []

    def open(self, **options: Any) -> fastbars.BarStream:
        config = StreamConfig(rest_url=self.server.rest_url, repair="candles", **self.settings)
        return fastbars.stream(
            self.name, self.server.symbols, "1m", market=self.market, url=self.server.url, config=config,
            on_bars=self.bars.extend, **options,
        )  # fmt: skip

    async def tear(self, feed: fastbars.BarStream, seconds: float) -> None:
        """Lose the connections, and refuse others for a while."""
        connections = feed.stats().connections
        for _ in range(int(seconds / 4) + 1):
            self.faults.inject(Fault(FaultKind.REFUSE, count=1, status=503))
        self.server.abort_all()
        await until(lambda: feed.stats().connections > connections, 4 * seconds)

    @property
    def latest(self) -> dict[Key, OHLCVBar]:
        return {(bar.symbol, int(bar.open_time.timestamp() * 1000)): bar for bar in self.bars}

    def minutes(self, symbol: str) -> dict[int, list[RecordedTrade]]:
        found: defaultdict[int, list[RecordedTrade]] = defaultdict(list)
        for trade in self.server.record.trades(symbol):
            found[trade.time_ms // MINUTE_MS * MINUTE_MS].append(trade)
        return found

    def judge(self) -> None:
        """Every minute with trades has the prices of all of them, and none passes for proven."""
        opens_before = find_exchange(self.name, self.market).candle_open == "previous close"
        for symbol in self.server.symbols:
            truth, before = self.minutes(symbol), None
            own = {open_ms: bar for (of, open_ms), bar in self.latest.items() if of == symbol}
            ended = [open_ms for open_ms, bar in own.items() if bar.close_reason is not CloseReason.END]
            assert [open_ms for open_ms in truth if min(own) <= open_ms <= max(ended) and open_ms not in own] == []
            for open_ms, trades in sorted(truth.items()):
                bar = own.get(open_ms)
                prices = [trade.price for trade in trades]
                if bar is not None and open_ms in ended:
                    assert bar.status not in LACKING, bar
                    if bar.status is BarStatus.REPORTED and opens_before and before is not None:
                        assert bar.open == before
                        prices = [before, *prices]
                    assert (bar.high, bar.low, bar.close) == (max(prices), min(prices), prices[-1]), bar
                    assert bar.volume == sum((trade.size for trade in trades), Decimal(0)), bar
                    assert bar.trade_count in (None, len(trades)), bar
                before = trades[-1].price
        revisions: defaultdict[tuple[str, object], list[int]] = defaultdict(list)
        for bar in self.bars:
            revisions[bar.symbol, bar.open_time].append(bar.revision)
        assert [seen for seen in revisions.values() if seen != list(range(len(seen)))] == []

    def of_status(self, status: BarStatus) -> list[OHLCVBar]:
        return [bar for bar in self.latest.values() if bar.status is status]


@pytest.mark.parametrize(("name", "market"), [
    ("bybit", "linear"), ("bybit", "inverse"), ("hyperliquid", "perp"), ("kraken", "spot"),
    ("coinbase", "spot"), ("okx", "derivatives"),
])  # fmt: skip
async def test_what_an_outage_has_torn_is_issued_from_the_candles_of_the_venue(name: str, market: str) -> None:
    # Where the exchange could prove, nothing is healed: it has no key, or the user does not want it.
    run = Run(name, market, heal=False)
    async with run.server, run.open() as feed:
        await asyncio.sleep(100)
        await run.tear(feed, 80)
        await asyncio.sleep(150)
        assert run.of_status(BarStatus.REPORTED)
        stats = feed.repairs()
        assert stats is not None
        assert (stats.given_up, stats.waiting) == (0, 0), feed.unrepaired()
        assert stats.repaired == sum(bar.status is BarStatus.REPORTED for bar in run.bars)
        assert 0 < stats.requests <= 2 * stats.repaired
        assert feed.unrepaired() == {}
    run.judge()


async def test_a_hole_older_than_the_horizon_is_repaired_and_a_younger_one_healed() -> None:
    run = Run("binance", "spot", heal_horizon=120.0)
    async with run.server, run.open() as feed:
        await asyncio.sleep(70)
        assert run.server.rest is not None
        run.server.rest.faults.extend([RestFault(status=503)] * 60)
        await run.tear(feed, 40)
        await until(lambda: run.of_status(BarStatus.REPORTED), 1000)
        run.server.rest.faults.clear()
        await asyncio.sleep(60)
        healed = len(run.of_status(BarStatus.HEALED))
        await run.tear(feed, 20)
        await until(lambda: len(run.of_status(BarStatus.HEALED)) > healed, 400)
        await until(lambda: not [why for why in feed.unrepaired().values() if not why], 400)
    run.judge()


async def test_a_recorded_run_is_replayed_with_its_candles_and_a_restart_keeps_them(tmp_path: Path) -> None:
    run = Run("bybit", "linear", symbols=1, state=str(tmp_path / "state"))
    async with run.server:
        async with run.open(record=tmp_path / "tape") as feed:
            await asyncio.sleep(90)
            await run.tear(feed, 70)
            await asyncio.sleep(80)
            run.server.candles.faults.extend([RestFault(status=400)] * 10)  # type: ignore[union-attr]
        before, first = run.latest, list(run.bars)
        reported = {key for key, bar in before.items() if bar.status is BarStatus.REPORTED}
        assert reported
        await asyncio.sleep(45)
        run.server.candles.faults.clear()  # type: ignore[union-attr]
        async with run.open() as feed:
            await asyncio.sleep(130)
            assert feed.unrepaired() == {}
    assert list(replay(tmp_path / "tape")) == first
    assert {key for key, bar in run.latest.items() if bar.status is BarStatus.REPORTED} > reported
    for key in reported:
        assert run.latest[key] == before[key]
    run.judge()


async def test_a_stream_from_elsewhere_asks_nobody() -> None:
    run = Run("bybit", "linear", symbols=1)
    async with run.server:
        config = StreamConfig(repair="candles", grace=0.5)
        stream = fastbars.stream(
            "bybit", run.server.symbols, "1m", market="linear", url=run.server.url, config=config,
            on_bars=run.bars.extend,
        )  # fmt: skip
        async with stream as feed:
            await asyncio.sleep(70)
            (why,) = feed.unrepaired().values()
            assert "set rest_url to the REST API to use" in why
    assert run.bars[0].status is BarStatus.PARTIAL
