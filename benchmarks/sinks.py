"""Bars a second of each sink, CPU a bar, and the memory that it adds, with servers of its own.

    python -m benchmarks.sinks [--bars 100000] [postgresql redis ...]

Every sink is measured in a process of its own: batches of 10,000 bars of 500 symbols, each written and confirmed
before the next. CPU is that of this side; memory is the most that the process had above what it had with its bars and
before the sink was imported.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from fastbars import BarStatus, OHLCVBar
from fastbars.sinks import Rows, open_sink
from fastbars.times import EPOCH

BATCH = 10_000
SYMBOLS = 500
FILES = ("jsonl", "csv", "parquet", "duckdb")
SERVERS = ("postgresql", "clickhouse", "redis", "nats", "kafka")


def bars_of(count: int) -> list[OHLCVBar]:
    """Bars as exchanges make them."""
    begin = EPOCH + timedelta(days=20_000)
    made = []
    for number in range(count):
        at = begin + timedelta(minutes=number // SYMBOLS)
        price = Decimal(6_000_000 + number % 997).scaleb(-2)
        volume = Decimal(10**9 + number * 7_919).scaleb(-8)
        made.append(
            OHLCVBar(
                exchange="binance", market="spot", symbol=f"SYM{number % SYMBOLS}USDT", spec="1m", open_time=at,
                close_time=at + timedelta(minutes=1), open=price, high=price + 1, low=price - 1, close=price,
                volume=volume, quote_volume=price * volume, trade_count=100, taker_buy_volume=volume / 2,
                taker_buy_quote_volume=price * volume / 2, first_trade_id=number * 100, last_trade_id=number * 100 + 99,
                status=BarStatus.COMPLETE, missing_count=0, unpublished_count=0, buy_count=40, sell_count=60,
                first_trade_time=at, last_trade_time=at + timedelta(seconds=59), largest_trade=Decimal("0.5"),
            )
        )  # fmt: skip
    return made


def _memory(name: str) -> int:
    # kB of VmRSS or VmHWM.
    found = re.search(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1])


async def measure(url: str, bars: list[OHLCVBar], before: int) -> dict[str, float]:
    """Write bars to one sink, in this process, which has so many kB before."""
    count = len(bars)
    sink = open_sink(url)
    await sink.open()
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    for at in range(0, count, BATCH):
        part = bars[at : at + BATCH]
        await sink.write(Rows(part, "host-a", [bar.close_time for bar in part]))
        await sink.flush()
    wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
    await sink.close()
    return {"bars": count / wall_s, "cpu": cpu_s / count * 1e6, "memory": (_memory("VmHWM") - before) / 1024}


@contextmanager
def url_of(kind: str, folder: Path) -> Iterator[str]:
    """A fresh place to write to."""
    if kind in FILES:
        yield f"{kind}:{folder / 'bars'}"
        return
    import sink_servers

    made: dict[str, Callable[[], Any]] = {
        "postgresql": sink_servers.PostgresqlServer, "clickhouse": sink_servers.ClickhouseServer,
        "redis": sink_servers.RedisServer, "nats": sink_servers.NatsServer, "kafka": sink_servers.KafkaServer,
    }  # fmt: skip
    server = made[kind]()
    try:
        server.start()
        yield server.url()
    finally:
        server.remove()


def main() -> int:
    """Measure what is named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", default=[*FILES, *SERVERS])
    parser.add_argument("--bars", type=int, default=100_000)
    parser.add_argument("--url", help=argparse.SUPPRESS)  # of a child
    options = parser.parse_args()
    if options.url:
        bars = bars_of(options.bars)
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew
        print(json.dumps(asyncio.run(measure(options.url, bars, _memory("VmRSS")))))
        return 0
    print(f"{'sink':<11} {'bars/s':>9} {'CPU, us/bar':>12} {'MB added':>9}")
    for kind in options.kinds:
        with tempfile.TemporaryDirectory() as folder, url_of(kind, Path(folder)) as url:
            command = [sys.executable, "-m", "benchmarks.sinks", "--bars", str(options.bars), "--url", url]
            said = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=os.environ).stdout
        found = json.loads(said)
        print(f"{kind:<11} {found['bars']:>9,.0f} {found['cpu']:>12.1f} {found['memory']:>9.0f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
