"""Stored bars on the page: what a sink keeps is listed, and read as far as needed; the commands."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from fastbars.bars import BarStatus, OHLCVBar
from fastbars.service.held import Series
from fastbars.service.page import Page
from fastbars.service.stored import StoredBars
from fastbars.sinks import Rows, SinkRefused, open_sink
from fastbars.sinks.rows import now
from test_page import BTC, NOON, View, bar, query, serving

pytestmark = pytest.mark.real_clock
DAYS = 3


async def write(url: str, bars: list[OHLCVBar]) -> None:
    sink = open_sink(url)
    await sink.open()
    await sink.write(Rows(bars, "host-a", [now()] * len(bars)))
    await sink.flush()
    await sink.close()


def many() -> list[OHLCVBar]:
    made = [bar(minute, f"{minute + 1}.10") for minute in range(0, DAYS * 1_440, 10)]
    made.append(bar(0, "7.7", revision=1, status=BarStatus.HEALED))
    made += [bar(0, symbol='<b>"ü/..'), bar(0, symbol="ETHUSDT", market="usdm")]
    return made


@pytest.mark.parametrize("scheme", ["parquet", "duckdb", "jsonl", "csv"])
async def test_what_a_sink_keeps_is_listed_and_the_latest_read(scheme: str, tmp_path: Path) -> None:
    url = f"{scheme}:{tmp_path / 'bars'}"
    await write(url, many())
    stored = StoredBars(url)
    assert set(stored.series()) == {BTC, BTC._replace(symbol='<b>"ü/..'), BTC._replace(symbol="ETHUSDT", market="usdm")}
    latest = stored.bars(BTC, None, None, 3)
    assert [one.open for one in latest] == [Decimal("4291.10"), Decimal("4301.10"), Decimal("4311.10")]
    before = stored.bars(BTC, None, latest[0].open_time, 2)
    assert [one.open for one in before] == [Decimal("4271.10"), Decimal("4281.10")]
    assert [one.status for one in stored.bars(BTC, None, NOON + timedelta(minutes=5), 500)] == [BarStatus.HEALED]
    assert stored.bars(BTC, NOON + timedelta(days=DAYS), None, 500) == []
    assert len(stored.bars(BTC, NOON + timedelta(minutes=1), NOON + timedelta(minutes=31), 500)) == 3
    assert stored.bars(BTC._replace(spec="5m"), None, None, 500) == []
    assert len(stored.bars(BTC, None, None, 5_000)) == DAYS * 144


async def test_held_bars_go_before_stored_ones_and_older_ones_follow(tmp_path: Path) -> None:
    url = f"parquet:{tmp_path}"
    await write(url, [bar(minute, f"{minute}.5") for minute in range(10)])
    page = Page(View(), StoredBars(url))
    page.add(bar(9, "9.6", revision=1, status=BarStatus.HEALED))
    page.add(bar(10, "10.5"))
    async with serving(page) as (address, session):

        async def opens(**others: Any) -> list[str]:
            async with session.get(f"{address}/bars", params=query(**others)) as answer:
                return [one["open"] for one in (await answer.json())["bars"]]

        assert await opens(limit=4) == ["7.5", "8.5", "9.6", "10.5"]
        assert await opens(limit=2, until="2025-01-31T12:02:00Z") == ["0.5", "1.5"]
        async with session.get(f"{address}/series") as answer:
            assert (await answer.json())["total"] == 1


async def test_a_store_that_has_gone_is_an_answer_and_no_crash(tmp_path: Path) -> None:
    with pytest.raises(SinkRefused, match="cannot be read"):
        StoredBars("kafka:file")
    async with serving(Page(View(), StoredBars(f"parquet:{tmp_path / 'nosuch'}"))) as (address, session):
        for path in ("/bars", "/series"):
            async with session.get(address + path, params=query() if path == "/bars" else {}) as answer:
                assert answer.status == 503
                assert "no such folder" in await answer.text()
        async with session.ws_connect(f"{address}/ws") as socket:
            await socket.send_json({"subscribe": BTC._asdict()})
            while (message := await socket.receive_json(timeout=20))["type"] != "error":
                pass
            assert "no such folder" in message["text"]


@asynccontextmanager
async def command(*arguments: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """A command that prints the page's address first."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "fastbars", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield process, (await asyncio.wait_for(process.stdout.readline(), 30)).decode().strip()
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_serve_shows_a_store_until_it_is_told_to_end(tmp_path: Path) -> None:
    url = f"jsonl:{tmp_path / 'bars.jsonl'}"
    await write(url, many())
    async with command("serve", url, "--no-browser") as (process, address), aiohttp.ClientSession() as session:
        async with session.get(f"{address}/") as answer:
            assert "<title>fastbars</title>" in await answer.text()
        async with session.get(f"{address}/series") as answer:
            assert (await answer.json())["total"] == 3
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), 20) == 0
    async with command("serve", "parquet:nosuch", "--no-browser") as (process, _):
        assert await process.wait() == 2
    async with command("serve", url, "--host", "0.0.0.0", "--no-browser") as (process, _):
        assert await process.wait() == 2


async def test_the_demo_opens_on_the_page() -> None:
    arguments = ("demo", "--web", "--no-browser", "--seconds", "60", "--symbols", "2", "--rate", "200")
    series = Series("binance", "spot", "BTCUSDT", "1s")
    async with command(*arguments) as (process, address), aiohttp.ClientSession() as session:
        bars: list[Any] = []
        async with asyncio.timeout(30):
            while not bars:
                async with session.get(f"{address}/bars", params=query(series)) as answer:
                    bars = (await answer.json())["bars"]
                await asyncio.sleep(0.1)
        assert bars[0]["spec"] == "1s"
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), 20) == 0
