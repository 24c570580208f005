"""The kernel compared with plain C, DuckDB and polars: `python -m benchmarks.kernel`.

All in one process and interleaved, each round beginning with the next side; CPU time of all threads; 2 M trades in time
order over 5 minutes to 1-minute bars with all fields. Each side begins with fresh state. The peers have their tables
ready in memory; DuckDB finds open and close by the id, polars takes the first and the last of a group, which is faster
and right where rows are in order. C is benchmarks/reference.c, built here with -O3, the faster of its two variants;
its bars are compared with the kernel's.
"""

from __future__ import annotations

import argparse
import ctypes
import statistics
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import market
from fastbars._agg import BarKernel
from fastbars.kernel.ids import Ledger
from fastbars.specs import parse_specs

TRADES = 2_000_000
SPECS = ("1s", "1s,5s,1m,5m,15m,1h", "1m,5m,15m,1h,4h,1d", "tick:100", "volume:500", "value:30000000")
BAR = np.dtype(
    [(name, np.int64) for name in (
        "open_time", "close_time", "open", "high", "low", "close", "first_id", "last_id", "count", "volume",
        "taker_volume")]
    + [("symbol_id", np.int32), ("row", np.int32), ("quote_volume", np.int64, 2), ("taker_quote_volume", np.int64, 2)]
)  # fmt: skip
SQL = """
    select symbol_id, time_ns // 60000000000 as minute, arg_min(price, id), max(price), min(price), arg_max(price, id),
        sum(size), sum(price * size), count(*), sum(size) filter (side > 0), sum(price * size) filter (side > 0),
        min(id), max(id)
    from trades group by symbol_id, minute
"""


_POINTERS = ("time_ns", "price", "size", "first_id", "symbol_id", "side")


class _Columns(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in _POINTERS] + [("rows", ctypes.c_int64)]


class PlainC:
    """reference.c, built once."""

    def __init__(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            library = Path(folder, "reference.so")
            compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
            source = Path(__file__).with_name("reference.c")
            subprocess.run([compiler, "-O3", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
            self.library = ctypes.CDLL(str(library))
        assert self.library.bar_bytes() == BAR.itemsize

    def bars(self, variant: str, trades: market.Columns, symbols: int) -> Any:
        """The bars that close; by_trade or by_stretch."""
        pointers = [trades[name].ctypes.data for name in _POINTERS]
        columns = _Columns(*pointers, len(trades["time_ns"]))
        bars = np.empty(8 * symbols, BAR)
        problems = np.zeros(2, np.int64)
        states = np.zeros(self.library.state_bytes() * symbols + 64, np.uint8)
        start = (states.ctypes.data + 63) // 64 * 64
        count = getattr(self.library, variant)(
            ctypes.c_void_p(start), ctypes.byref(columns), ctypes.c_void_p(bars.ctypes.data),
            ctypes.c_void_p(problems.ctypes.data),
        )  # fmt: skip
        assert not problems.any()
        return bars[:count]


def fastbars_side(trades: market.Columns, symbols: int, specs: str) -> Callable[[], tuple[float, Any]]:
    """Folds the columns with a fresh kernel: (seconds, rows)."""
    batch = market.batch(trades, symbols)

    def work() -> tuple[float, Any]:
        kernel = BarKernel(batch.instruments, parse_specs(specs), Ledger())
        start = time.process_time()
        rows, late = kernel.update(batch)
        taken = time.process_time() - start
        assert not late
        return taken, rows

    return work


def timed(work: Callable[[], Any]) -> Callable[[], tuple[float, Any]]:
    """The same with its CPU seconds."""

    def run() -> tuple[float, Any]:
        start = time.process_time()
        result = work()
        return time.process_time() - start, result

    return run


def peers(trades: market.Columns) -> Iterator[tuple[str, Callable[[], Any]]]:
    """DuckDB and polars, where they are installed."""
    names = {"time_ns": "time_ns", "symbol_id": "symbol_id", "price": "price", "size": "size", "side": "side"}
    table = {name: trades[source] for name, source in names.items()} | {"id": trades["first_id"]}
    if find_spec("duckdb") and find_spec("polars"):
        import duckdb
        import polars as pl

        frame = pl.DataFrame(table)
        database = duckdb.connect()
        database.execute("create table trades as select * from frame")
        yield "DuckDB", lambda: database.execute(SQL).fetchnumpy()
        price, size, identity, bought = pl.col("price"), pl.col("size"), pl.col("id"), pl.col("side") > 0
        query = (
            frame.lazy()
            .group_by("symbol_id", (pl.col("time_ns") // 60_000_000_000).alias("minute"))
            .agg(
                price.first().alias("open"), price.max().alias("high"), price.min().alias("low"),
                price.last().alias("close"), size.sum(), (price * size).sum().alias("quote"),
                pl.len().alias("count"), size.filter(bought).sum().alias("taker"),
                (price * size).filter(bought).sum().alias("taker_quote"), identity.min().alias("first"),
                identity.max().alias("last"),
            )
        )  # fmt: skip
        yield "polars", query.collect
    else:
        print("DuckDB and polars are not installed: pip install -e .[test]")


def same_bars(rows: Any, bars: Any) -> bool:
    """Whether the kernel's rows are C's bars, in every field."""
    plain = (
        "open_time", "close_time", "open", "high", "low", "close", "first_id", "last_id", "count", "symbol_id", "row",
    )  # fmt: skip
    same = len(rows) == len(bars) and all((rows[name] == bars[name]).all() for name in plain)
    for name in ("volume", "taker_volume"):
        same = same and bool((rows[name]["lo"] == bars[name].astype(np.uint64)).all())
    for name in ("quote_volume", "taker_quote_volume"):
        low, high = bars[name][:, 0].astype(np.uint64), bars[name][:, 1]
        same = same and bool((rows[name]["lo"] == low).all() and (rows[name]["hi"] == high).all())
    return same


def measure(symbols: int, rounds: int, c: PlainC) -> dict[str, list[float]]:
    """Nanoseconds a trade of every side, a round each."""
    trades = market.columns(TRADES, symbols)
    trades["last_id"] = trades["first_id"]  # a trade has one id
    sides = {"1m": fastbars_side(trades, symbols, "1m")}
    for variant in ("by_trade", "by_stretch"):
        sides[f"C, {variant}"] = timed(lambda variant=variant: c.bars(variant, trades, symbols))  # type: ignore[misc]
    sides |= {name: timed(work) for name, work in peers(trades)}
    # With thousands of symbols nearly each trade ends a second: that would measure the making of bars.
    specs = [each for each in SPECS if symbols <= 1000 or not each.startswith("1s")]
    sides |= {each: fastbars_side(trades, symbols, each) for each in specs}
    times: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        results = {}
        names = list(sides)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            seconds, results[name] = sides[name]()
            times[name].append(seconds / TRADES * 1e9)
        if number == 0:
            assert same_bars(results["1m"], results["C, by_trade"])
            assert same_bars(results["1m"], results["C, by_stretch"])
    return times


def main() -> None:
    """Prints a table: nanoseconds a trade, and the ratio to the kernel with its spread over the rounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--symbols", type=int, nargs="+", default=[1, 500, 5000])
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    c = PlainC()
    for symbols in given.symbols:
        times = measure(symbols, given.rounds, c)
        print(f"\n{symbols} symbols{'':<22} {'median (min to max) ns/trade':>30}   ratio to 1m (min to max)")
        best = min(("C, by_trade", "C, by_stretch"), key=lambda name: statistics.median(times[name]))
        for name, values in times.items():
            ratios = sorted(value / own for value, own in zip(values, times["1m"], strict=True))
            text = f"{statistics.median(values):8.2f} ({min(values):.2f} to {max(values):.2f})"
            spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
            print(f"  {name:<34} {text:>30}   {spread}{'  fastest C' if name == best else ''}")
        print(f"  1m is {statistics.median(times['1m']) / statistics.median(times[best]):.2f} times the fastest C")
        for finest, six in (("1m", SPECS[2]), ("1s", SPECS[1])):
            if six in times:
                ratio = statistics.median(times[six]) / statistics.median(times[finest])
                print(f"  {six} is {ratio:.2f} times {finest}")


if __name__ == "__main__":
    main()
