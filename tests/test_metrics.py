"""What a service shows of itself: metrics that Prometheus takes, health that says why, and no secret."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from fastbars import BarStatus
from fastbars.cli import main
from fastbars.clocks import steady_s
from fastbars.service.config import Config, read_config
from fastbars.service.metrics import BarCounts, Metrics
from fastbars.service.routes import routes_of
from fastbars.service.service import Service
from fastbars.simulator import FaultKind, Faults, SimulatedExchange
from test_sinks import bar

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "monitoring.md").read_text(encoding="utf-8")
PROMTOOL = shutil.which("promtool")


def said_by_promtool(text: str) -> str:
    assert PROMTOOL is not None
    checked = subprocess.run([PROMTOOL, "check", "metrics"], input=text.encode(), capture_output=True, check=False)
    return (checked.stdout + checked.stderr).decode()


def test_promtool_is_there() -> None:
    if PROMTOOL is None:
        if os.environ.get("CI") == "1":
            pytest.fail("promtool is missing: apt-get install prometheus")
        pytest.skip("the metrics are not checked by promtool: apt-get install prometheus")


def config_for(tmp_path: Path, server: SimulatedExchange, *, more: str = "") -> Config:
    path = tmp_path / "fastbars.toml"
    path.write_text(f"""
bars = "1s"
source = "host-a"
[venues.binance]
symbols = {server.symbols}
url = "{server.url}"
[web]
port = 0
{more}
""")
    return read_config(path)


@asynccontextmanager
async def serving(config: Config) -> AsyncIterator[Service]:
    service = Service(config, routes=routes_of)
    running = asyncio.create_task(service.run())
    try:
        while not service.streams:
            await asyncio.sleep(0.02)
            assert not running.done(), running.exception()
        yield service
    finally:
        service.stop()
        await running


async def get(service: Service, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(f"{service.web_url}{path}") as answer:
        return answer.status, await answer.text()


def values_of(text: str) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.mark.real_clock
async def test_what_is_scraped_is_what_happened(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with SimulatedExchange("binance", symbols=5, rate=500, seed=1, faults=Faults(1)) as server:
        more = f'[sinks.main]\nurl = "jsonl:{tmp_path / "bars.jsonl"}"'
        async with serving(config_for(tmp_path, server, more=more)) as service:
            await asyncio.sleep(2.5)
            _, text = await get(service, "/metrics")
            first = values_of(text)
            if PROMTOOL is not None:
                assert await asyncio.to_thread(said_by_promtool, text) == ""
            assert (await get(service, "/readyz"))[0] == 200
            assert service.web_url is not None
            done = await asyncio.to_thread(main, ["status", service.web_url])
            assert done == 0, capsys.readouterr().err
            shown = capsys.readouterr().out
            assert re.search(r"^binance +connected +5 +[\d,]+", shown, re.M)
            assert re.search(r"^main +up +", shown, re.M)
            assert server.faults is not None
            server.faults.inject(FaultKind.DROP)
            await asyncio.sleep(1.5)
            second = values_of((await get(service, "/metrics"))[1])
            stats = service.stats()
            assert stats is not None
    assert first["fastbars_connected", "binance"] == first["fastbars_sink_up", "main"] == 1
    assert first["fastbars_subscribed_symbols", "binance"] == 5
    assert 0 < first["fastbars_trades_total", "binance"] < second["fastbars_trades_total", "binance"]
    assert second["fastbars_connections_total", "binance"] == 2
    assert stats.buffer.trades >= second["fastbars_trades_total", "binance"]
    bars = sum(value for key, value in second.items() if key[0] == "fastbars_bars_total")
    assert 10 <= bars <= stats.buffer.bars
    assert second["fastbars_bars_total", "binance", "spot", "1s", "GAP"] >= 0
    assert second["fastbars_bar_delay_seconds_count", "binance", "spot"] > 0
    for key, value in first.items():
        if key[0].endswith(("_total", "_bucket", "_count")):
            assert second[key] >= value, key


@pytest.mark.real_clock
async def test_what_is_not_ready_says_why(tmp_path: Path) -> None:
    async with SimulatedExchange("binance", symbols=2, rate=50, seed=1) as server:
        config = config_for(tmp_path, server)
        config.venues["binance"].url = "ws://127.0.0.1:1/ws?token=secret-of-the-user"
        service = Service(config, routes=routes_of)
        running = asyncio.create_task(service.run())
        await asyncio.sleep(0.2)
        status, text = await get(service, "/readyz")
        assert (status, "not connected yet" in text) == (503, True)
        assert (await get(service, "/healthz"))[0] == 200
        for path in ("/metrics", "/stats", "/readyz"):
            assert "secret-of-the-user" not in (await get(service, path))[1]
        service.stop()
        await running


@pytest.mark.real_clock
async def test_a_scrape_a_second_costs_less_than_a_hundredth(tmp_path: Path) -> None:
    async with (
        SimulatedExchange("binance", symbols=200, rate=500, seed=1) as server,
        serving(config_for(tmp_path, server)) as service,
    ):
        await asyncio.sleep(1.0)
        await get(service, "/metrics")
        began_s = steady_s()
        for _ in range(20):
            await get(service, "/metrics")
        assert (steady_s() - began_s) / 20 < 0.010 * 3  # with the client's own work, on a busy machine


@pytest.mark.real_clock
async def test_the_page_names_every_metric(tmp_path: Path) -> None:
    async with (
        SimulatedExchange("binance", symbols=1, rate=50, seed=1) as server,
        serving(config_for(tmp_path, server)) as service,
    ):
        found = {
            one.name + {"counter": "_total", "info": "_info"}.get(one.type, "")
            for one in Metrics(service, BarCounts()).collect()
        }
    assert found == set(re.findall(r"`(fastbars_\w+)`", PAGE.partition("## Alerts")[0]))


def test_gaps_are_shown_of_the_worst_symbols_only() -> None:
    counts = BarCounts()
    for number in range(30):
        for _ in range(number):
            counts.add(bar(0, symbol=f"S{number}", status=BarStatus.GAP))
    shown: dict[str, Any] = {
        sample.labels["symbol"]: sample.value
        for family in counts.collect()
        for sample in family.samples
        if sample.name == "fastbars_symbol_gap_bars_total"
    }
    assert shown == {f"S{number}": number for number in range(29, 19, -1)}
