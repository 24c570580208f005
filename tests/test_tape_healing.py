"""Recorded markets with trades taken away: each bar says how many it lacks, and is healed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from fastbars import OHLCVBar
from fastbars.bars import BarStatus
from fastbars.exchanges import find_exchange
from fastbars.exchanges.history import History
from fastbars.live.callbacks import Callbacks
from fastbars.live.config import StreamConfig
from fastbars.live.healing.healer import Healer
from fastbars.live.rest import Answer
from fastbars.live.session import Session
from fastbars.tapes import read_tape
from fastbars.ticks import to_nanoseconds
from test_end_to_end import official_klines, values

TAPES = [
    ("usdm_btcusdt_20240808.raw.gz", "usdm", "1m", "usdm_BTCUSDT-1m_20240808.csv", 4),
    ("spot_btcusdt_20240808.raw.gz", "spot", "5m", "spot_BTCUSDT-5m_20240808.csv", 1),
]


class Torn:
    """A tape without every k-th trade, or without those before a time; a REST API has them all."""

    def __init__(self, path: Path, market: str, spec: str, every: int, after_ms: int = 0) -> None:
        exchange = find_exchange("binance", market)
        history = exchange.history("trade", has_key=True)
        assert history is not None
        self.history: History = history
        self.bars: dict[int, OHLCVBar] = {}
        self.trades: dict[int, dict[str, object]] = {}
        config = StreamConfig(bars=spec, close_by="trades", heal_horizon=86_400.0)
        if after_ms:  # healing comes after the tape
            config = replace(config, backfill=3600.0, lateness=3600.0)
        self.session = Session(exchange, config, Callbacks(on_bar=self.note), channel="trade")
        kept = []
        for record in read_tape(path):
            data = orjson.loads(record.payload).get("data", {})
            if data.get("e") == "trade":
                self.trades[data["t"]] = {
                    "id": data["t"], "price": data["p"], "qty": data["q"], "time": data["T"], "isBuyerMaker": data["m"],
                }  # fmt: skip
                if data["t"] % every == 0 or data["T"] < after_ms:
                    continue
            kept.append(record.payload)
        for start in range(0, len(kept), 1000):
            self.session.receive(kept[start : start + 1000], 0)

    def note(self, bar: OHLCVBar) -> None:
        self.bars[to_nanoseconds(bar.open_time) // 1_000_000] = bar

    @property
    def first_ms(self) -> int:
        return int(str(next(iter(self.trades.values()))["time"]))

    async def get(self, url: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Answer:
        assert url.endswith("/historicalTrades")
        assert set(headers) <= {"X-MBX-APIKEY"}
        first, limit = int(query["fromId"]), int(query["limit"])
        page = [self.trades[number] for number in range(first, first + limit) if number in self.trades]
        return Answer(200, None, orjson.dumps(page))

    async def heal(self) -> None:
        now = [0.0]

        async def sleep(seconds: float) -> None:
            now[0] += seconds
            await asyncio.sleep(0)

        healer = Healer(
            "binance", self.history, [self.session.repairs], self.get, api_key="k", horizon_s=86_400.0,
            now=lambda: now[0], sleep=sleep, exchange_time_ns=lambda: self.session.event_time_ns or 0,
        )  # fmt: skip
        while (due_s := await healer.heal_due()) is not None:
            await sleep(due_s)


@pytest.mark.parametrize("every", [10, 37, 100, 1009])
@pytest.mark.parametrize(("tape", "market", "spec", "klines", "whole"), TAPES)
async def test_minutes_that_lack_trades_say_how_many_and_healed_they_equal_the_klines(
    tape: str, market: str, spec: str, klines: str, whole: int, every: int, tapes: Path
) -> None:
    official = official_klines(tapes / "binance_klines" / klines)
    torn = Torn(tapes / "binance_ws" / tape, market, spec, every)
    damaged = [bar for bar in torn.bars.values() if bar.status is BarStatus.GAP]
    for open_ms, bar in list(torn.bars.items())[1:]:
        close_ms = to_nanoseconds(bar.close_time) // 1_000_000
        ids = [number for number, one in torn.trades.items() if open_ms <= int(str(one["time"])) < close_ms]
        # Where the missing trade was next to a border, ids do not tell whose it was.
        if all(number % every for number in (ids[0] - 1, ids[0], ids[-1], ids[-1] + 1)):
            assert bar.missing_count == official[open_ms]["trade_count"] - (bar.trade_count or 0)
            assert bar.status is (BarStatus.GAP if bar.missing_count else BarStatus.COMPLETE)
        else:
            assert (bar.status, bar.missing_count) == (BarStatus.GAP, None)
        if bar.status is BarStatus.COMPLETE:
            assert values(bar) == official[open_ms]
    await torn.heal()
    assert torn.session.repairs.holes() == []
    proven = {open_ms: bar for open_ms, bar in torn.bars.items() if bar.is_complete}
    assert len(proven) == whole
    for open_ms, bar in proven.items():
        assert values(bar) == official[open_ms]
        assert bar.missing_count == 0
    healed = {open_ms for open_ms, bar in proven.items() if bar.status is BarStatus.HEALED}
    assert healed >= {to_nanoseconds(bar.open_time) // 1_000_000 for bar in damaged} & proven.keys()
    assert len(healed) == whole or every == 1009


def test_with_more_holes_than_are_kept_no_count_is_claimed(tapes: Path) -> None:
    tape, market, spec, klines, _ = TAPES[0]
    official = official_klines(tapes / "binance_klines" / klines)
    torn = Torn(tapes / "binance_ws" / tape, market, spec, 3)
    holes = torn.session.repairs.holes()
    assert len(holes) == 4096
    assert max(hole.last for hole in holes) < max(torn.trades)  # there were more
    for open_ms, bar in list(torn.bars.items())[1:]:
        assert bar.status is BarStatus.GAP
        assert bar.missing_count in (None, official[open_ms]["trade_count"] - (bar.trade_count or 0))
    assert [bar.missing_count for bar in torn.bars.values()].count(None) > 0
