"""The kernel at every density, compared with plain C and other libraries: `python -m benchmarks.kernel`.

A cell of the grid is so many symbols with so many trades a symbol and minute on average, at random times. All sides
make the same 1-minute bars with all their fields, those that the end of input closes included, and the bars are
compared. CPU time of all threads, sides in turn, each round beginning with the next.

- fastbars is `aggregate`: columns that are validated, a new kernel, ids followed and proven, rows in new memory. The
  kernel alone, on a batch of the same columns, shows how much of that is what comes before it.
- C is benchmarks/reference.c, built here with -O3, the faster of its two variants: it writes rows as wide as the
  kernel's into memory that is kept, checks ids and order, and validates, proves and amends nothing.
- DuckDB, polars and numba run in processes of their own (benchmarks/peers/column_jobs.py), on one thread, their tables
  ready in memory; DuckDB and polars order by id. tickbar knows one symbol, and makes OHLCV and the count alone.

A cell has a million trades, and more where two bars a symbol need them: 10 M for 5,000 symbols at 1,000 a bar.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import market
from benchmarks.pages import PERFORMANCE, measured, write
from benchmarks.peers.workers import Job, Worker, difference, python_of
from benchmarks.plain_c import VARIANTS, PlainC, fields
from fastbars import TickBatch, aggregate
from fastbars._agg import BarKernel
from fastbars.kernel.ids import Ledger
from fastbars.specs import parse_specs

COMMAND = "make bench-kernel"
TRADES = 1_000_000
LEAST_BARS = 2  # of each symbol
SYMBOLS = (1, 50, 500, 5_000)
PEERS = ("DuckDB", "polars", "numba", "tickbar")
SPECS = ("1m", "1m,5m,15m,1h,4h,1d", "1s", "1s,5s,1m,5m,15m,1h", "tick:100", "volume:500", "value:30000000")
TRIES = 3  # of a cell that breaks a bound


@dataclass(frozen=True)
class Bounds:
    """What --check holds a density to; None: not held."""

    times_c: float
    duckdb: float
    polars: float
    closed_ns: float | None = 40.0  # above C; where bars are long it is the trades of a bar that differ
    numba: float = 1.3  # ahead by at most


# What is aimed at, by trades a bar.
AIMS = {
    1000: Bounds(1.2, 3.5, 4.5, None),
    100: Bounds(1.2, 3.5, 4.5, None),
    20: Bounds(1.3, 4.0, 6.0),
    7: Bounds(1.5, 4.0, 6.0),
    2: Bounds(1.6, 4.0, 6.0),
    1: Bounds(1.8, 4.0, 6.0),
}
# What was reached, with a tenth to spare, by the symbols of a cell: up to so many.
BOUNDS = {
    1: {
        1000: Bounds(3.4, 2.3, 3.9, None, 1.1),
        100: Bounds(2.7, 4.0, 6.0, None, 1.0),
        20: Bounds(3.2, 3.6, 4.8, 175.0, 1.1),
        7: Bounds(2.8, 3.9, 4.6, 85.0, 1.4),
        2: Bounds(1.9, 4.9, 5.0, 34.0, 1.7),
        1: Bounds(1.85, 4.9, 4.2, 30.0, 1.8),
    },
    500: {
        1000: Bounds(1.75, 3.0, 4.0, None, 1.0),
        100: Bounds(1.75, 3.3, 4.5, None, 1.0),
        20: Bounds(1.9, 3.5, 5.0, 110.0, 1.1),
        7: Bounds(1.95, 3.9, 6.2, 57.0, 1.2),
        2: Bounds(2.1, 4.5, 5.8, 41.0, 1.7),
        1: Bounds(2.1, 4.5, 4.5, 39.0, 1.9),
    },
    5_000: {
        1000: Bounds(2.5, 2.9, 2.5, None, 1.1),
        100: Bounds(2.5, 2.9, 3.0, None, 1.2),
        20: Bounds(3.0, 2.5, 3.1, 290.0, 1.6),
        7: Bounds(3.4, 2.5, 3.7, 170.0, 2.0),
        2: Bounds(3.8, 2.7, 2.9, 112.0, 3.0),
        1: Bounds(3.6, 2.6, 2.5, 97.0, 3.2),
    },
}


def bounds_of(symbols: int, per_bar: int) -> Bounds:
    """What a cell is held to."""
    return BOUNDS[next((most for most in BOUNDS if symbols <= most), max(BOUNDS))][per_bar]


@dataclass
class Cell:
    """Symbols, trades a bar, and what was measured there: CPU nanoseconds a trade of every side, a round each."""

    symbols: int
    per_bar: int
    trades: int = 0
    bars: int = 0
    times: dict[str, list[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.trades = max(TRADES, self.symbols * self.per_bar * LEAST_BARS)

    @property
    def name(self) -> str:
        return f"{self.symbols:,} symbols x {self.per_bar:,} trades a bar"

    @property
    def c(self) -> str:
        """The faster variant of C."""
        return min(VARIANTS, key=lambda variant: statistics.median(self.times[variant]))

    def ratio(self, side: str, other: str) -> float:
        """How many times as long a side takes as another: of each round, their median."""
        pairs = zip(self.times[side], self.times[other], strict=True)
        return statistics.median(one / two for one, two in pairs)

    @property
    def closed_ns(self) -> float:
        """What a bar costs more than in C, all that the trades in it cost more included."""
        c = self.times[self.c]
        more = statistics.median(own - other for own, other in zip(self.times["fastbars"], c, strict=True))
        return more * self.trades / self.bars

    def broken(self, bounds: Bounds) -> dict[str, float]:
        """Bounds that do not hold, and by how much: what -> found by limit."""
        found = {f"times C, at most {bounds.times_c}": self.ratio("fastbars", self.c) / bounds.times_c}
        if bounds.closed_ns is not None:
            found[f"ns a closed bar above C, at most {bounds.closed_ns:.0f}"] = self.closed_ns / bounds.closed_ns
        for side, limit in (("DuckDB", bounds.duckdb), ("polars", bounds.polars)):
            if side in self.times:
                found[f"{side} by at least {limit}"] = limit / self.ratio(side, "fastbars")
        if "numba" in self.times:
            found[f"numba ahead by at most {bounds.numba}"] = 1 / self.ratio("numba", "fastbars") / bounds.numba
        return {what: by for what, by in found.items() if by > 1}

    def line(self, peers: list[str]) -> str:
        """A row of the table."""
        own, c = self.times["fastbars"], self.times[self.c]
        words = [
            f"{self.symbols:,}",
            f"{self.per_bar:,}",
            spread(own),
            f"{statistics.median(self.times['kernel']):.1f}",
        ]
        words.append(spread(c))
        words.append(f"{self.ratio('fastbars', self.c):.2f}")
        words.append(f"{self.closed_ns:,.0f}" if AIMS[self.per_bar].closed_ns else "")
        words += [f"{self.ratio(peer, 'fastbars'):.2f}" if peer in self.times else "" for peer in peers]
        return "| " + " | ".join(words) + " |"


def spread(values: list[float]) -> str:
    """Median, smallest and largest."""
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


class Grid:
    """Measures cells; a peer's process lives through all of them."""

    def __init__(self, folder: Path, peers: list[str], print_: Callable[[str], object] = print) -> None:
        self.folder, self.print = folder, print_
        self.plain = PlainC()
        self.wanted = peers
        self.workers: dict[str, Worker] = {}

    def workers_of(self, cell: Cell) -> dict[str, Worker]:
        """Those that work, with the columns of the cell."""
        for peer in list(self.wanted):
            if peer == "tickbar" and cell.symbols > 1:
                continue
            if peer in self.workers:
                self.workers[peer].run("load")
            else:
                python = python_of(peer.lower(), shared=True)
                if python is None:
                    self.wanted.remove(peer)
                    continue
                self.workers[peer] = Worker(python, Job(peer.lower(), f"columns {peer.lower()}"), self.folder)
            self.drop_if_lost(peer)
        return {peer: each for peer, each in self.workers.items() if peer != "tickbar" or cell.symbols == 1}

    def drop_if_lost(self, peer: str) -> None:
        """A peer whose process ended is measured no more, and is said to be."""
        if not self.workers[peer].works:
            worker = self.workers.pop(peer)
            self.wanted.remove(peer)
            worker.close()
            self.print(f"{peer} {worker.job.fault}")

    def measure(self, cell: Cell, rounds: int) -> Cell:
        """Fills the cell."""
        columns = market.drawn(cell.trades, cell.symbols, cell.per_bar)
        if self.wanted:
            np.savez(self.folder / "columns.npz", allow_pickle=False, **columns)
        workers = self.workers_of(cell)
        bars = aggregated(columns)
        cell.bars = len(bars)
        batch = market.batch(columns, cell.symbols)
        sides: dict[str, Callable[[], Any]] = {"fastbars": lambda: aggregated(columns), "kernel": lambda: folded(batch)}
        for variant in VARIANTS:
            sides[variant] = lambda variant=variant: self.plain.bars(  # type: ignore[misc]
                variant, columns, cell.symbols, cell.bars, ends=True
            )
        expected = in_order(bars)
        del bars
        for variant in VARIANTS:
            assert same(in_order(sides[variant]()), expected), f"{cell.name}: C, {variant}, makes other bars"
        for peer, worker in list(workers.items()):
            worker.run("write")
            worker.job.times_ns = []
            self.drop_if_lost(peer)
            if peer in self.workers and (fault := difference(self.folder, peer.lower(), expected)):
                raise AssertionError(f"{cell.name}: {fault}")
        del expected
        cell.times = {name: [] for name in sides}
        gc.collect()
        for number in range(rounds):
            order = [*sides, *workers]
            for name in order[number % len(order) :] + order[: number % len(order)]:
                if name in sides:
                    cell.times[name].append(nanoseconds(sides[name], cell.trades))
                elif name in self.workers:
                    workers[name].run()
                    self.drop_if_lost(name)
        cell.times |= {peer: each.job.times_ns for peer, each in workers.items() if peer in self.workers}
        return cell

    def close(self) -> None:
        """Ends the peers' processes."""
        for worker in self.workers.values():
            worker.close()


def aggregated(columns: market.Columns) -> Any:
    """The rows of fastbars' bars."""
    return aggregate(
        columns["time_ns"], columns["price"], columns["size"], symbol=columns["symbol_id"], side=columns["side"],
        trade_id=columns["first_id"], price_scale=market.PRICE_SCALE, size_scale=market.SIZE_SCALE,
    ).rows  # fmt: skip


def folded(batch: TickBatch) -> Any:
    """The rows of a new kernel's bars."""
    return BarKernel(batch.instruments, parse_specs("1m"), Ledger()).update(batch, ends=True)[0]


def nanoseconds(work: Callable[[], Any], trades: int) -> float:
    """CPU time a trade; what comes of it is let go outside the time."""
    start = time.process_time()
    result = work()
    taken = time.process_time() - start
    del result
    return taken / trades * 1e9


def in_order(rows: Any) -> dict[str, Any]:
    """The values that all sides make, in the order of symbols and times."""
    made = fields(rows)
    order = np.lexsort((made["open_time"], made["symbol_id"]))
    return {name: column[order] for name, column in made.items()}


def same(made: dict[str, Any], expected: dict[str, Any]) -> bool:
    """Whether all values are equal."""
    return all(np.array_equal(made[name], expected[name]) for name in expected)


def print_specs(rounds: int) -> None:
    """What other bars cost, beside 1m and 1s: the kernel alone, a million trades over five minutes."""
    print(f"\n| bars | {' | '.join(f'{symbols:,} symbols' for symbols in (1, 500, 5_000))} |\n|---|---|---|---|")
    times: dict[tuple[str, int], list[float]] = {}
    for symbols in (1, 500, 5_000):
        batch = market.batch(market.columns(TRADES, symbols), symbols)
        for number in range(rounds):
            # With thousands of symbols nearly each trade ends a second: that would measure the making of bars.
            specs = [each for each in SPECS if symbols <= 1000 or not each.startswith("1s")]
            for each in specs[number % len(specs) :] + specs[: number % len(specs)]:
                kernel = BarKernel(batch.instruments, parse_specs(each), Ledger())
                taken = nanoseconds(lambda kernel=kernel, batch=batch: kernel.update(batch), TRADES)  # type: ignore[misc]
                times.setdefault((each, symbols), []).append(taken)
    for each in SPECS:
        words = []
        for symbols in (1, 500, 5_000):
            own, finest = times.get((each, symbols)), times.get(("1s" if each.startswith("1s") else "1m", symbols))
            if own is None or finest is None:
                words.append("")
                continue
            ratio = statistics.median(one / two for one, two in zip(own, finest, strict=True))
            words.append(spread(own) + ("" if own is finest else f", {ratio:.2f}x"))
        print(f"| `{each}` | {' | '.join(words)} |")


def parsed(text: str) -> Cell:
    """A cell as SYMBOLSxTRADES."""
    symbols, _, per_bar = text.partition("x")
    cell = Cell(int(symbols), int(per_bar))
    if cell.per_bar not in AIMS:
        raise argparse.ArgumentTypeError(f"trades a bar are one of {', '.join(map(str, AIMS))}, not {per_bar}")
    return cell


def main(words: list[str] | None = None) -> int:
    """Prints the table, a row a cell; with --check the exit status is 1 where a bound breaks in each of three tries."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kernel")
    parser.add_argument("--cells", type=parsed, nargs="+", help="such as 500x7; by default all")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS), help="none given: C alone")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--check", action="store_true", help="hold the bounds")
    parser.add_argument("--write", action="store_true", help="the table into docs/performance.md")
    parser.add_argument("--specs", action="store_true", help="also other kinds of bars, and six specs at once")
    given = parser.parse_args(words)
    cells = given.cells or [Cell(symbols, per_bar) for symbols in SYMBOLS for per_bar in AIMS]
    peers = list(given.peers)
    titles = [
        "symbols",
        "trades a bar",
        "fastbars, ns a trade",
        "the kernel alone",
        "plain C",
        "times C",
        "ns a bar above C",
    ]
    titles += [f"{peer}, times" for peer in peers]
    lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    print("\n".join(lines))
    lost: list[str] = []
    missed: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        grid = Grid(Path(folder), list(given.peers))
        try:
            for cell in cells:
                grid.measure(cell, given.rounds)
                lines.append(cell.line(peers))
                print(lines[-1], flush=True)
                broken = cell.broken(bounds_of(cell.symbols, cell.per_bar)) if given.check else {}
                missed += [f"AIM   {cell.name}: {what}, missed by {by - 1:.0%}"
                           for what, by in cell.broken(AIMS[cell.per_bar]).items()]  # fmt: skip
                for _ in range(TRIES - 1):
                    if not broken:
                        break
                    second = grid.measure(Cell(cell.symbols, cell.per_bar), given.rounds)
                    again = second.broken(bounds_of(cell.symbols, cell.per_bar))
                    broken = {what: min(by, again[what]) for what, by in broken.items() if what in again}
                lost += [f"LOST  {cell.name}: {what}, missed by {by - 1:.0%}" for what, by in broken.items()]
        finally:
            grid.close()
    if given.write:
        write(PERFORMANCE, COMMAND, [measured(COMMAND, given.rounds), "", *lines])
    if given.specs:
        print_specs(given.rounds)
    if given.check:
        print("\n".join([*missed, *(lost or ["All bounds hold."])]))
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
