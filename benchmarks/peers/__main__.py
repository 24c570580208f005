"""`make bench-peers`: each peer in an environment of its own, rounds in turn, tables written into the documentation.

    python -m benchmarks.peers [--rounds 9] [--trades 2000000] [--tables 1 2 3 4 5] [--no-write]

A round of each job follows a round of the next, forwards and backwards, so that what disturbs the machine disturbs
all. A peer that cannot be installed or does not run is named in the tables as not measured. Bars made of columns are
compared.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from benchmarks import market
from benchmarks.pages import PERFORMANCE, measured, write
from benchmarks.peers.workers import HERE, WORK, Job, Worker, difference, python_of, version_of
from fastbars.kernel.scaled import to_text

COMMAND = "make bench-peers"
SYMBOLS = 500  # of the tables of columns


@dataclass
class Table:
    """What several libraries do; the first job is the one that the others are compared with."""

    title: str
    jobs: list[Job]
    per_bar: int = 0  # of columns: trades a symbol and minute
    by_kind: bool = False  # several things: each job is compared with the first one of the same `only`
    faults: str = ""


def column_jobs() -> list[Job]:
    """Columns in, bars as columns out."""
    plain_c = "the same fields, volumes in 64 bits; ids and order checked, nothing proven or amended; memory kept"
    return [
        Job("fastbars", "columns fastbars", "all fields, exact in 128 bits; order, duplicates, completeness by id"),
        Job("plain C", "columns plain_c", plain_c,
            ahead="plain C, written for these columns, is the floor: it validates, proves and amends nothing."),
        Job("plain C", "columns plain_c_by_stretch", plain_c,
            ahead="plain C, written for these columns, is the floor: it validates, proves and amends nothing."),
        Job("numba", "columns numba", "the same fields, sums in 64 bits; ids not looked at, memory kept",
            ahead="numba compiles a plain loop over these very columns; its sums may overflow, and it looks at no id."),
        Job("duckdb", "columns duckdb", "the same fields, exact in 128 bits; first and last by id"),
        Job("polars", "columns polars", "the same fields, sums in 64 bits; first and last by id"),
        Job("tickbar", "columns tickbar", "OHLCV, count, vwap in 64 bits; symbols parted beforehand, not timed",
            ahead="tickbar knows one symbol, and makes half of the fields: the trades were parted for it beforehand."),
    ]  # fmt: skip


TABLES = [
    *(
        Table(f"Columns to bars: {SYMBOLS} symbols, {per_bar} trades a bar, 1m, one thread", column_jobs(), per_bar)
        for per_bar in (100, 7)
    ),
    Table(
        "Bars that end by their trades: one symbol, 200,000 trades, about 100 a bar, one thread",
        by_kind=True,
        jobs=[
            Job("fastbars", "kinds fastbars_volume", "all fields, exact; order and completeness by id", "volume"),
            Job("finmlkit", "kinds finmlkit_volume", "OHLCV, counts and sums by side in floats; no ids", "volume"),
            Job("nautilus_trader", "kinds nautilus_volume", "OHLCV in fixed point; splits the last trade", "volume"),
            Job("fastbars", "kinds fastbars_renko", "as above", "renko"),
            Job("nautilus_trader", "kinds nautilus_renko", "OHLCV in fixed point", "renko"),
            Job("fastbars", "kinds fastbars_cusum", "as above", "CUSUM"),
            Job("finmlkit", "kinds finmlkit_cusum", "as above; of logarithms, a threshold for each trade", "CUSUM"),
            Job("fastbars", "kinds fastbars_footprint", "as above, bought and sold at each level", "footprint"),
            Job("finmlkit", "kinds finmlkit_footprint", "as above, with counts and imbalances, in floats", "footprint"),
        ],
    ),
    Table(
        "One trade at a time, from texts: 20 symbols, 1m; the object that a library wants is made in the time",
        [
            Job("fastbars", "fastbars_texts", "all fields, exact", "`add`"),
            Job("fastbars", "fastbars_objects_made", "as above", "`TickData` and `add_tick`"),
            Job("nautilus_trader", "nautilus_objects_made", "OHLCV in fixed point, by timer"),
            Job("the ancestor", "ancestor_objects_made", "OHLCV in Decimal, no late trades"),
        ],
    ),
    Table(
        "One trade at a time, as objects made beforehand: 20 symbols, 1m",
        [
            Job("fastbars", "fastbars_objects", "all fields, exact", "`add_tick`"),
            Job("tickbar", "tickbar_objects", "OHLCV, count, vwap in 64 bits, no symbol",
                ahead="tickbar's object has a time, a price and a size in integers: no symbol, side, id or scale."),
            Job("nautilus_trader", "nautilus_objects", "OHLCV in fixed point, by timer"),
            Job("the ancestor", "ancestor_objects", "OHLCV in Decimal, no late trades"),
        ],
    ),
    Table(
        "From the socket: 200,000 Binance trades over loopback, as fast as they are taken, 1m",
        [
            Job("fastbars", "fastbars_socket", "all fields, exact"),
            Job("C program", "c_socket", "the same scanner with layout memory, ids unchecked, no status",
                ahead="the C program is the floor: blocking reads of one socket, one interval, no ids, no loop."),
            Job("picows", "picows_socket", "orjson, then 7 fields in Decimal in a dict"),
            Job("picows", "picows_socket_counting", "messages counted, not read", "counting only",
                ahead="picows counts messages there, and reads none."),
            Job("aiohttp", "aiohttp_socket", "orjson, then 7 fields in Decimal in a dict"),
            Job("websockets", "websockets_socket", "orjson, then 7 fields in Decimal in a dict"),
        ],
    ),
]  # fmt: skip


def write_data() -> None:
    """The same trades as texts and as messages."""
    WORK.mkdir(parents=True, exist_ok=True)
    few = market.columns(100_000, 20)
    rows = zip(
        *(few[name].tolist() for name in ("symbol_id", "time_ns", "price", "size", "side", "first_id")), strict=True
    )
    texts = (
        f"S{symbol}\t{ns}\t{to_text(price, 2)}\t{to_text(size, 5)}\t{'buy' if side > 0 else 'sell'}\t{number}\n"
        for symbol, ns, price, size, side, number in rows
    )
    (WORK / "trades.tsv").write_text("".join(texts))
    np.savez(WORK / "kinds.npz", allow_pickle=False, **market.drawn(200_000, 1, 100))
    (WORK / "messages.jsonl").write_bytes(b"\n".join(market.messages(market.columns(200_000, 20))) + b"\n")


def measure(table: Table, versions: dict[str, str], rounds: int, trades: int) -> None:
    """All jobs of a table, rounds in turn."""
    folder = WORK / f"columns-{table.per_bar}" if table.per_bar else WORK
    folder.mkdir(parents=True, exist_ok=True)
    if table.per_bar:
        columns = market.drawn(trades, SYMBOLS, table.per_bar)
        np.savez(folder / "columns.npz", allow_pickle=False, **columns)
    server = subprocess.Popen(
        [sys.executable, str(HERE / "server.py"), str(WORK / "messages.jsonl")], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    url = server.stdout.readline().strip()
    workers: list[Worker] = []
    try:
        for job in table.jobs:
            python = python_of(job.peer)
            if python is None:
                job.fault = "could not be installed"
                continue
            versions[job.peer] = version_of(job.peer, python)
            workers.append(Worker(python, job, folder, url))
        if table.per_bar:
            compare(workers, folder)
        for number in range(rounds):
            print(f"  round {number + 1} of {rounds}", file=sys.stderr, flush=True)
            for worker in workers if number % 2 == 0 else workers[::-1]:
                worker.run()
    finally:
        for worker in workers:
            worker.close()
        server.kill()
        server.wait()


def compare(workers: list[Worker], folder: Path) -> None:
    """Ends the run where a library makes other bars than fastbars does."""
    for worker in workers:
        worker.run("write")
    first = workers[0].job.function.split()[-1]
    with np.load(folder / f"{first}.npz") as made:
        expected = {name: made[name] for name in made.files}
    for worker in workers:
        name = worker.job.function.split()[-1]
        if worker.works and (fault := difference(folder, name, expected)):
            raise SystemExit(fault)


def lines_of(table: Table, versions: dict[str, str]) -> list[str]:
    """A Markdown table; below it, why somebody is ahead."""
    jobs = [job for job in table.jobs if not is_slower_variant(job, table.jobs)]

    def ours_of(job: Job) -> Job:
        return next(each for each in jobs if not table.by_kind or each.only == job.only)

    head = "| library | ns a trade: median (min to max) | times the time of fastbars | what it makes |"
    lines = [f"**{table.title}**", "", head, "|---|---|---|---|"]
    for job in jobs:
        name = f"{job.peer} {versions.get(job.peer, '')}".strip() + (f", {job.only}" if job.only else "")
        computes = f" {job.computes} |"
        if not job.times_ns:
            lines.append(f"| {name} | not measured: {job.fault} | |{computes}")
            continue
        spread = f"{number(job.median_ns)} ({number(min(job.times_ns))} to {number(max(job.times_ns))})"
        ours = ours_of(job)
        ratio = "1" if job is ours else number(job.median_ns / ours.median_ns)
        lines.append(f"| {name} | {spread} | {ratio} |{computes}")
    ahead = [job.ahead for job in jobs if job.ahead and job.times_ns and job.median_ns < ours_of(job).median_ns]
    return [*lines, "", *([f"Ahead: {' '.join(ahead)}", ""] if ahead else [])]


def is_slower_variant(job: Job, jobs: list[Job]) -> bool:
    """Whether another row of the same library, with nothing that sets it apart, is faster."""
    rivals = [each for each in jobs if (each.peer, each.only) == (job.peer, job.only) and each.times_ns]
    return bool(rivals) and job is not min(rivals, key=lambda each: each.median_ns)


def number(value: float) -> str:
    """Two figures at least."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--trades", type=int, default=2_000_000, help="of the tables of columns")
    parser.add_argument("--tables", type=int, nargs="+", default=list(range(1, len(TABLES) + 1)))
    parser.add_argument("--no-write", action="store_true")
    options = parser.parse_args()
    write_data()
    versions: dict[str, str] = {}
    tables = [TABLES[place - 1] for place in options.tables]
    for table in tables:
        print(f"{datetime.now(UTC):%H:%M:%S}  {table.title}", file=sys.stderr, flush=True)
        measure(table, versions, options.rounds, options.trades)
        print("\n".join(lines_of(table, versions)), flush=True)
    if options.no_write:
        return
    where = measured(COMMAND, options.rounds) + " Each library in an environment of its own."
    body = [line for table in tables for line in lines_of(table, versions)]
    write(PERFORMANCE, COMMAND, [where, "", *body[:-1]])


if __name__ == "__main__":
    main()
