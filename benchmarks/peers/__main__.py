"""`make bench-peers`: each peer in an environment of its own, rounds in turn, tables written into the documentation.

    python -m benchmarks.peers [--rounds 9] [--no-write]

A round of each job follows a round of the next, forwards and backwards, so that what disturbs the machine disturbs all.
A peer that cannot be installed or does not run is named in the tables as not measured.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import shutil
import statistics
import subprocess
import sys
import venv
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from benchmarks import market
from benchmarks.instructions import compiler
from fastbars.kernel.scaled import to_text

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parents[1]
WORK = PROJECT / "build" / "peers"
PAGES = (PROJECT / "docs" / "performance.md", PROJECT / "README.md")


@dataclass
class Job:
    """One thing that one library does."""

    peer: str
    function: str
    computes: str
    only: str = ""  # what sets it apart from the same library's other row
    times_ns: list[float] = field(default_factory=list)
    bars: set[int] = field(default_factory=set)
    fault: str = ""

    @property
    def median_ns(self) -> float:
        return statistics.median(self.times_ns)


# What pip is asked for, besides the peer's own name; fastbars runs in the project's own environment.
PEERS: dict[str, list[str]] = {
    "nautilus_trader": [],
    "cryptofeed": [],
    "tickbar": ["numpy"],
    "polars": ["numpy"],
    "duckdb": ["numpy", "pyarrow"],
    "pandas": ["numpy"],
    "numba": ["numpy"],
    "websockets": ["orjson", "uvloop"],
    "picows": ["orjson", "uvloop"],
    "aiohttp": ["orjson", "uvloop"],
}
TABLES = {
    "Columns to bars: a million trades of 500 symbols in time order, 1m bars, one thread": [
        Job("fastbars", "fastbars_columns", "18 fields, exact; order, duplicates and completeness by id"),
        Job("polars", "polars_columns", "7 fields in float64, first and last by row"),
        Job("duckdb", "duckdb_columns", "7 fields in float64, first and last by a row number"),
        Job("pandas", "pandas_columns", "7 fields in float64, first and last by row"),
        Job("numba", "numba_columns", "7 fields in float64, a plain loop compiled by it"),
        Job("tickbar", "tickbar_columns", "OHLCV, count, vwap in int64; symbols parted beforehand, not timed"),
    ],
    "One trade at a time: 100,000 objects of 20 symbols made beforehand, 1m bars": [
        Job("fastbars", "fastbars_objects", "18 fields, exact"),
        Job("nautilus_trader", "nautilus_objects", "OHLCV in fixed point, by timer"),
        Job("cryptofeed", "cryptofeed_objects", "OHLC, volume, vwap in Decimal, by the local clock"),
        Job("tickbar", "tickbar_objects", "OHLCV, count, vwap in int64, no symbol"),
        Job("the ancestor", "ancestor_objects", "OHLCV in Decimal, no late trades"),
    ],
    "One trade at a time, from texts: the object that the library wants is made in the time": [
        Job("fastbars", "fastbars_texts", "18 fields, exact; `BarBuffer.add` makes no object"),
        Job("nautilus_trader", "nautilus_objects_made", "as above"),
        Job("the ancestor", "ancestor_objects_made", "as above"),
    ],
    "From the socket: 200,000 Binance trades over loopback, as fast as they are taken, 1m bars": [
        Job("fastbars", "fastbars_socket", "18 fields, exact"),
        Job("websockets", "websockets_socket", "orjson, then 7 fields in Decimal in a dict"),
        Job("aiohttp", "aiohttp_socket", "orjson, then 7 fields in Decimal in a dict"),
        Job("picows", "picows_socket", "orjson, then 7 fields in Decimal in a dict"),
        Job("picows", "picows_socket_counting", "messages counted, not read", "counting only"),
    ],
}


def write_data() -> None:
    """The same trades as columns, as texts and as messages."""
    WORK.mkdir(parents=True, exist_ok=True)
    np.savez(WORK / "columns.npz", allow_pickle=False, **market.columns(1_000_000, 500))
    few = market.columns(100_000, 20)
    rows = zip(
        *(few[name].tolist() for name in ("symbol_id", "time_ns", "price", "size", "side", "first_id")), strict=True
    )
    texts = (
        f"S{symbol}\t{ns}\t{to_text(price, 2)}\t{to_text(size, 5)}\t{'buy' if side > 0 else 'sell'}\t{number}\n"
        for symbol, ns, price, size, side, number in rows
    )
    (WORK / "trades.tsv").write_text("".join(texts))
    (WORK / "messages.jsonl").write_bytes(b"\n".join(market.messages(market.columns(200_000, 20))) + b"\n")


def python_of(peer: str) -> Path | None:
    """The interpreter of the peer's environment; None where it cannot be installed."""
    if peer in ("fastbars", "the ancestor"):
        return Path(sys.executable)
    place = WORK / "venv" / peer
    python = place / "bin" / "python"
    if not (place / ".installed").exists():
        shutil.rmtree(place, ignore_errors=True)
        venv.create(place, with_pip=True)
        command = [str(python), "-m", "pip", "install", "--quiet", "--only-binary", ":all:", peer, *PEERS[peer]]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            return None
        (place / ".installed").touch()
    return python


def version_of(peer: str, python: Path) -> str:
    """What is installed there."""
    if peer == "the ancestor":
        return ""
    code = f"from importlib.metadata import version; print(version({peer!r}))"
    return subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True).stdout.strip()


class Worker:
    """A process that works when it is asked to."""

    def __init__(self, python: Path, job: Job, url: str) -> None:
        self.job = job
        self.log = (WORK / f"{job.function}.log").open("w")
        words = [str(word) for word in (python, HERE / "worker.py", job.function, WORK, url)]
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True, cwd=WORK
        )
        self.works = bool(self._line())

    def run(self) -> None:
        """One round."""
        assert self.process.stdin is not None
        if not self.works:
            return
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        if (answer := self._line()) is None:
            self.works = False
            return
        self.job.times_ns.append(answer["ns"])
        self.job.bars.add(int(answer["bars"]))

    def close(self) -> None:
        """Ends it, and says what went wrong if something did."""
        assert self.process.stdin is not None
        if not self.works:
            self.log.flush()
            said = Path(self.log.name).read_text().strip().splitlines() or ["no output"]
            self.job.fault = f"does not run: {said[-1][:80]}"
        self.process.stdin.close()
        self.process.wait(30)

    def _line(self) -> dict[str, float] | None:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found: dict[str, float] | None = json.loads(line) if line else None
        return found


def measure(jobs: list[Job], versions: dict[str, str], rounds: int) -> None:
    """All jobs of a table, rounds in turn."""
    server = subprocess.Popen(
        [sys.executable, str(HERE / "server.py"), str(WORK / "messages.jsonl")], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    url = server.stdout.readline().strip()
    workers = []
    try:
        for job in jobs:
            python = python_of(job.peer)
            if python is None:
                job.fault = "could not be installed"
                continue
            versions[job.peer] = version_of(job.peer, python)
            workers.append(Worker(python, job, url))
        for number in range(rounds):
            for worker in workers if number % 2 == 0 else workers[::-1]:
                worker.run()
    finally:
        for worker in workers:
            worker.close()
        server.kill()
        server.wait()


def table(title: str, jobs: list[Job], versions: dict[str, str], brief: bool) -> list[str]:
    """A Markdown table; brief: without what each computes."""
    ours = jobs[0].median_ns
    head = ["| library | ns a trade: median (min to max) | times the time of fastbars |", "|---|---|---|"]
    lines = [f"**{title}**", "", *([head[0], head[1]] if brief else [f"{head[0]} what it makes |", f"{head[1]}---|"])]
    for job in jobs:
        name = f"{job.peer} {versions.get(job.peer, '')}".strip() + (f", {job.only}" if job.only else "")
        computes = "" if brief else f" {job.computes} |"
        if job.fault:
            lines.append(f"| {name} | not measured: {job.fault} | |{computes}")
            continue
        spread = f"{number(job.median_ns)} ({number(min(job.times_ns))} to {number(max(job.times_ns))})"
        ratio = "1" if job is jobs[0] else number(job.median_ns / ours)
        lines.append(f"| {name} | {spread} | {ratio} |{computes}")
    return [*lines, ""]


def number(value: float) -> str:
    """Two figures at least."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def processor() -> str:
    """Its name, as the system gives it."""
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text()) if sys.platform == "linux" else None
    return found[1] if found else platform.processor()


def write(page: Path, lines: list[str]) -> None:
    """Between the page's markers."""
    text = page.read_text(encoding="utf-8")
    begin, end = "<!-- peers: written by make bench-peers -->", "<!-- peers: end -->"
    before, _, rest = text.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        sys.exit(f"{page}: no markers {begin} and {end}")
    page.write_text("\n".join([before + begin, "", *lines, end]) + after, encoding="utf-8")


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--no-write", action="store_true")
    options = parser.parse_args()
    write_data()
    versions: dict[str, str] = {}
    for title, jobs in TABLES.items():
        print(title, flush=True)
        measure(jobs, versions, options.rounds)
        print("\n".join(table(title, jobs, versions, brief=False)), flush=True)
    where = (
        f"`make bench-peers`, {datetime.now(UTC):%Y-%m-%d}, {processor()}, {platform.system()} {platform.machine()}, "
        f"{compiler().replace(', ' + platform.machine(), '')}: CPU time a trade over {options.rounds} rounds in "
        "turn, each library in an environment of its own."
    )
    if not options.no_write:
        for page in PAGES:
            brief = page.name == "README.md"
            body = [line for title, jobs in TABLES.items() for line in table(title, jobs, versions, brief)]
            write(page, [where, "", *body])


if __name__ == "__main__":
    main()
