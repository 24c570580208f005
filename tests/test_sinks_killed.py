"""kill -9 of a stream with sinks and `state=`: each bar is in each sink once, and is what was traded."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

import fastbars
from coverage_law import Truth, Venue
from fastbars import BarStatus
from fastbars.simulator import SimulatedExchange
from killing import Life, judge
from servers import until

CHILD = """
import asyncio, sys
import fastbars
async def main():
    url, rest, folder, *symbols = sys.argv[1:]
    config = fastbars.StreamConfig(
        state=folder + "/state", state_interval=0.4, grace=0.2, lateness=1.0, rest_url=rest, queue_size=50
    )
    sinks = {name: name + ":" + folder + "/bars." + name for name in ("jsonl", "csv", "duckdb")}
    sinks["parquet"] = "parquet:" + folder + "/parquet?batch=0.3"
    async with fastbars.stream("binance", symbols, "1s", config=config, url=url, source="host-a", sinks=sinks) as bars:
        await asyncio.to_thread(sys.stdin.readline)
    print({name: (own.waiting, own.confirmed > 0) for name, own in bars.stats().sinks.items()}, flush=True)
asyncio.run(main())
"""
KEPT = {
    "jsonl": "jsonl:{}/bars.jsonl", "csv": "csv:{}/bars.csv", "duckdb": "duckdb:{}/bars.duckdb",
    "parquet": "parquet:{}/parquet",
}  # fmt: skip


async def run_child(server: SimulatedExchange, folder: Path, seconds: float, *, is_killed: bool) -> str:
    """Let a child stream until some bars more are in its file, and so long; kill it, or let it end in order."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(folder / "child.py"), server.url, server.rest_url, str(folder), *server.symbols,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    before = size_of(folder / "bars.jsonl")
    try:
        await until(lambda: size_of(folder / "bars.jsonl") > before, timeout_s=30.0)
        await asyncio.sleep(seconds)
        if is_killed:
            process.kill()
            await process.wait()
            return ""
        said, _ = await process.communicate(b"\n")
        assert process.returncode == 0
        return said.decode()
    finally:
        if process.returncode is None:
            process.kill()


def size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


@pytest.mark.real_clock
async def test_a_stream_that_is_killed_leaves_each_bar_once_in_each_sink(tmp_path: Path) -> None:
    (tmp_path / "child.py").write_text(CHILD)
    venue = Venue("contiguous", "binance", "spot")
    async with SimulatedExchange("binance", symbols=3, rate=60, seed=5, tick_s=0.02, record=True) as server:
        since_ms = server.record.now_ms()
        await run_child(server, tmp_path, 1.3, is_killed=True)
        said = await run_child(server, tmp_path, 2.0, is_killed=False)
        truth = Truth(server, venue, {symbol: [(since_ms, None)] for symbol in server.symbols})
        assert said.strip() == str(dict.fromkeys(("jsonl", "csv", "duckdb", "parquet"), (0, True)))
        found = {name: fastbars.read(url.format(tmp_path)) for name, url in KEPT.items()}
        for name, bars in found.items():
            life = Life(venue)
            judge(life, bars, truth)
            assert life.faults == [], name
            assert len({(bar.symbol, bar.open_time) for bar in bars}) == len(bars) >= 12
            assert BarStatus.GAP not in {bar.status for bar in bars}, name  # ids and REST prove what happened meanwhile
    assert found["csv"] == found["jsonl"] == found["duckdb"] == found["parquet"]
