"""A day in fast motion: `fastbars run` on seven simulated venues, with faults, restarts of its databases, and reloads.

    python tools/service_day.py --seconds 600

The service is a process of its own, and writes to PostgreSQL, Redis and Parquet. A fault a second hits a venue; the
two servers are killed and started by turns; a reload removes symbols and adds them again; `/metrics` is scraped each
second.
In the end every bar in every sink must equal the exchange's own trades, or say why it does not.

Units: seconds; open times in ms since the Unix epoch.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import AsyncExitStack, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any

import aiohttp

import fastbars
from fastbars.exchanges import find_exchange
from fastbars.simulator import FaultKind, Faults, SimulatedExchange
from fastbars.sinks.rows import bar_of

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1] / "tests")]
import soak  # noqa: E402 it is beside this file
from sink_servers import PostgresqlServer, RedisServer  # noqa: E402
from test_sink_servers import PostgresqlPlace, RedisPlace  # noqa: E402

VENUES = (
    ("binance", "spot"), ("binance", "usdm"), ("bybit", "linear"), ("hyperliquid", "perp"), ("okx", "spot"),
    ("coinbase", "spot"), ("kraken", "spot"),
)  # fmt: skip
SYMBOLS = 20  # of each
RATE = 100.0
SETTLE_S = 20.0
RELOAD_S, RESTART_S = 15.0, 20.0
_KINDS = [kind for kind in FaultKind if kind is not FaultKind.RENEW_IDS]


def serve_exchanges(pipe: Connection, seconds: float, seed: int) -> None:
    """Run the exchanges and their faults until asked to stop; then send their records."""
    asyncio.run(_serve_exchanges(pipe, seconds, seed))


async def _serve_exchanges(pipe: Connection, seconds: float, seed: int) -> None:
    async with AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(
                SimulatedExchange(
                    name, market=market, symbols=SYMBOLS, rate=RATE, seed=seed + n, faults=Faults(seed + n)
                )
            )
            for n, (name, market) in enumerate(VENUES)
        ]
        pipe.send([(server.url, server.symbols) for server in servers])
        await asyncio.to_thread(pipe.recv)  # everything is subscribed
        random, ends = Random(seed), time.monotonic() + seconds
        while time.monotonic() < ends:
            await asyncio.sleep(1.0)
            faults = random.choice(servers).faults
            assert faults is not None
            faults.inject(random.choice(_KINDS))
            faults.inject(FaultKind.DROP)
        pipe.send(None)
        await asyncio.to_thread(pipe.recv)
        pipe.send([soak.truth_of(server) for server in servers])


def text_of(places: list[Any], urls: dict[str, str], left_out: int | None) -> str:
    """The configuration; without some symbols of each venue where `left_out` is given."""
    lines = ['bars = "5s"', 'source = "host-a"']
    for (name, market), (url, symbols) in zip(VENUES, places, strict=True):
        kept = [symbol for n, symbol in enumerate(symbols) if left_out is None or n % 5 != left_out]
        rest = "http://" + url.partition("://")[2].partition("/")[0]
        lines += [f'[venues."{name}:{market}"]', f"symbols = {kept}", f'url = "{url}"']
        lines += [f'[venues."{name}:{market}".stream]', f'rest_url = "{rest}"']
    lines += [
        "[stream]", 'state = "bars.state"', "heartbeat_interval = 0.5", "heartbeat_timeout = 2.0",
        "reconnect_delay = 0.1", "reconnect_max_delay = 1.0", "ban_delay = 1.0", "ack_timeout = 2.5",
        "stale_interval = 0.25", "stale_after = 3.0", "lateness = 10.0", "check_symbols = false",
        *(line for name, url in urls.items() for line in (f"[sinks.{name}]", f'url = "{url}"')),
        "[web]", "port = 0", "[log]", 'format = "json"',
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


class Watched:
    """The service's process: its events, its memory, its metrics."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.events: Counter[str] = Counter()
        self.errors: list[str] = []
        self.url = ""
        self.memory: list[tuple[float, float]] = []
        self.scrapes = self.failed_scrapes = 0

    async def read(self) -> None:
        """Follow its log."""
        assert self.process.stderr is not None
        while line := await self.process.stderr.readline():
            if os.environ.get("SERVICE_LOG"):
                sys.stderr.write(line.decode())
            with suppress(ValueError):
                event = json.loads(line)
                self.events[event["event"]] += 1
                if event["event"] == "web_server_started":
                    self.url = event["url"]
                if event["level"] in ("error", "critical") and len(self.errors) < 10:
                    self.errors.append(line.decode()[:300])

    async def wait_for(self, event: str, seconds: float = 30.0) -> None:
        """Until it was logged."""
        ends = time.monotonic() + seconds
        while not self.events[event]:
            assert time.monotonic() < ends, f"no {event} in {seconds} s: {self.events} {self.errors}"
            await asyncio.sleep(0.05)

    async def scrape(self) -> None:
        """Scrape it each second, and note its memory."""
        async with aiohttp.ClientSession() as session:
            while True:
                await asyncio.sleep(1.0)
                pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])  # noqa: ASYNC240
                self.memory.append((time.monotonic(), pages * os.sysconf("SC_PAGE_SIZE") / 1024))
                try:
                    async with session.get(f"{self.url}/metrics", timeout=aiohttp.ClientTimeout(2.0)) as answer:
                        await answer.read()
                        self.scrapes += answer.status == 200
                except (aiohttp.ClientError, TimeoutError):
                    self.failed_scrapes += 1

    def slope(self) -> tuple[float, float]:
        """KiB a second over the last two thirds, and their mean in KiB."""
        samples = self.memory[len(self.memory) // 3 :]
        mean_t = sum(at for at, _ in samples) / len(samples)
        mean_m = sum(size for _, size in samples) / len(samples)
        spread = sum((at - mean_t) ** 2 for at, _ in samples)
        return sum((at - mean_t) * (size - mean_m) for at, size in samples) / spread, mean_m


async def day(seconds: float, seed: int, folder: Path) -> bool:
    """Run it. Returns whether nothing was wrong."""
    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe()
    exchanges = context.Process(target=serve_exchanges, args=(theirs, seconds - SETTLE_S, seed), daemon=True)
    exchanges.start()
    database, broker = PostgresqlServer(), RedisServer()
    servers: list[PostgresqlServer | RedisServer] = [database, broker]
    for server in servers:
        await asyncio.to_thread(server.start)
    try:
        places = await asyncio.to_thread(pipe.recv)
        redis = RedisPlace(broker, "bars")
        urls = {
            "postgresql": database.url(),
            "redis": redis.url,
            "parquet": f"parquet:{folder}/bars?batch=2",
        }
        config = folder / "fastbars.toml"
        config.write_text(text_of(places, urls, None))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "fastbars", "run", str(config), cwd=folder, stderr=asyncio.subprocess.PIPE,
            limit=1 << 20,
        )  # fmt: skip
        service = Watched(process)
        tasks = [asyncio.create_task(service.read())]
        await service.wait_for("service_ready", 60.0)
        pipe.send(None)
        tasks += [asyncio.create_task(service.scrape()), asyncio.create_task(restart(servers))]
        reloading = asyncio.create_task(reload(service, config, places, urls))
        await asyncio.to_thread(pipe.recv)  # the last fault
        reloading.cancel()
        tasks[2].cancel()
        await asyncio.wait([reloading, tasks[2]])
        for server in servers:
            await asyncio.to_thread(server.start)
        config.write_text(text_of(places, urls, None))
        process.send_signal(signal.SIGHUP)
        await asyncio.sleep(SETTLE_S)
        tasks[1].cancel()
        process.send_signal(signal.SIGTERM)
        status = await asyncio.wait_for(process.wait(), 60.0)
        pipe.send(None)
        truths = await asyncio.to_thread(pipe.recv)
        rows = {
            "postgresql": await PostgresqlPlace(database, urls["postgresql"]).read(),
            "redis": best(await redis.read()),
            "parquet": [record_of(bar) for bar in await asyncio.to_thread(fastbars.read, f"parquet:{folder}/bars")],
        }
        return report(service, status, rows, truths)
    finally:
        exchanges.kill()
        for server in servers:
            server.remove()


async def restart(servers: list[Any]) -> None:
    """Kill one server and start it again, by turns."""
    for turn in range(10**6):
        await asyncio.sleep(RESTART_S)
        server = servers[turn % len(servers)]
        server.kill()
        await asyncio.sleep(RESTART_S / 4)
        await asyncio.to_thread(server.start)


async def reload(service: Watched, config: Path, places: list[Any], urls: dict[str, str]) -> None:
    """Leave some symbols out, and take them in again."""
    for turn in range(10**6):
        await asyncio.sleep(RELOAD_S)
        config.write_text(text_of(places, urls, turn // 2 % 5 if turn % 2 == 0 else None))  # noqa: ASYNC240
        service.process.send_signal(signal.SIGHUP)


def best(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The best row of each bar."""
    from fastbars.sinks.rows import best_of  # noqa: PLC0415

    return best_of(records)


def record_of(bar: fastbars.OHLCVBar) -> dict[str, Any]:
    """A bar as the row that `read` made it of."""
    from datetime import UTC, datetime  # noqa: PLC0415

    from fastbars.sinks.rows import COLUMNS, record_of as made  # noqa: PLC0415

    return dict(zip((column.name for column in COLUMNS), made(bar, "host-a", datetime.now(UTC)), strict=True))


def report(service: Watched, status: int, rows: dict[str, list[dict[str, Any]]], truths: list[soak.Truth]) -> bool:
    """Print the results. Returns whether nothing was wrong."""
    good = status == 0
    seen: dict[str, set[Any]] = {}
    for sink, records in rows.items():
        bars = [bar_of(record) for record in records]
        keys = Counter((bar.exchange, bar.market, bar.symbol, bar.open_time) for bar in bars)
        twice = sum(count > 1 for count in keys.values())
        seen[sink] = set(keys)
        verdict, statuses = soak.Verdict(), Counter(str(bar.status) for bar in bars)
        for (name, market), truth in zip(VENUES, truths, strict=True):
            exchange = find_exchange(name, market)
            ids = exchange.ids(exchange.default_channel)
            by_symbol: dict[str, list[list[Any]]] = {}
            for bar in bars:
                if (bar.exchange, bar.market) == exchange.identity:
                    by_symbol.setdefault(bar.symbol, []).append(soak.row_of(bar))
            for symbol, own in by_symbol.items():
                traded = [row[1] for row in own if row[3]]
                for row in own:
                    if row[1] < max(traded, default=0):
                        soak.judge_bar(verdict, ids, symbol, row[1], row[2:], truth)
        print(f"{sink:12}{len(bars):>8} bars, twice {twice}, wrong {verdict.wrong}: {dict(statuses)}")
        for example in verdict.examples[:3]:
            print("   ", example)
        good &= not twice and not verdict.wrong and len(bars) > 0
    everywhere = set.union(*seen.values())
    for sink, own_keys in seen.items():
        if lacking := everywhere - own_keys:
            good = False
            print(f"{sink} lacks {len(lacking)} bars, such as {sorted(lacking)[:2]}")
    slope, mean = service.slope()
    flat = slope * (service.memory[-1][0] - service.memory[0][0]) < 0.1 * mean
    events = service.events
    print(f"exit {status}; scrapes {service.scrapes}, failed {service.failed_scrapes}; reloads {events['reloaded']};"
          f" sinks down {events['sink_down']}, up {events['sink_up']}")  # fmt: skip
    print(f"memory {mean / 1024:.1f} MiB, slope {slope:+.2f} KiB/s ({'flat' if flat else 'GROWING'})")
    for error in service.errors:
        print("   ", error.strip())
    good &= flat and service.events["reloaded"] > 0 and service.scrapes > 10 * max(1, service.failed_scrapes)
    print("PASSED" if good else "FAILED")
    return good


def main() -> int:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600.0, help="how long, 60 at least")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if options.seconds < 60:
        parser.error("--seconds must be 60 at least")
    with tempfile.TemporaryDirectory() as folder:
        return 0 if fastbars.run(day(options.seconds, options.seed, Path(folder))) else 1


if __name__ == "__main__":
    sys.exit(main())
