"""Void ids compared with trades: rows of size 0 cost about what those of trades do, be they few or many.

The two are timed in turns, and the best of each is compared, so that what else the machine does weighs little. The
ratio is asserted with `--full` alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from benchmarks import market
from fastbars import BarBuffer, Instruments, TickBatch, aggregate
from fastbars._agg import BarKernel
from fastbars.exchanges import find_exchange
from fastbars.kernel.ids import Ledger
from fastbars.specs import parse_specs
from fastbars.wire.scanner import TradeScanner

SHARES = (0.01, 0.1, 0.5)
FEW, MANY = 20_000, 1_000_000
MOST = 1.3  # times as much, noise included
MOST_OF_PATHS = 1.7  # the ledger takes each row of a kernel that makes path-driven bars alone


def with_voids(trades: market.Columns, share: float) -> market.Columns:
    """The same rows, a share of them void, at random."""
    void = np.random.default_rng(7).random(len(trades["price"])) < share
    return trades | {"price": np.where(void, 0, trades["price"]), "size": np.where(void, 0, trades["size"])}


def kernel(trades: market.Columns, symbols: int, spec: str = "1m") -> Callable[[], object]:
    """Columns into a new kernel."""
    batch = market.batch(trades, symbols)
    made = BarKernel(batch.instruments, parse_specs(spec), Ledger())
    return lambda: made.update(batch)


def several_specs(trades: market.Columns, symbols: int) -> Callable[[], object]:
    """Columns into a new kernel that makes bars of time and of trades."""
    batch = market.batch(trades, symbols)
    made = BarKernel(batch.instruments, parse_specs(["1m", "5m", "tick:100"]), Ledger())
    return lambda: made.update(batch)


def path_driven(trades: market.Columns, symbols: int) -> Callable[[], object]:
    """Columns into a new kernel that makes bars of trades alone."""
    return kernel(trades, symbols, "tick:100")


def arrays(trades: market.Columns, symbols: int) -> Callable[[], object]:
    """Columns into `aggregate`."""
    names = ("time_ns", "price", "size", "symbol_id", "side", "first_id")
    time_ns, price, size, symbol, side, trade_id = (trades[name] for name in names)
    assert symbols
    return lambda: aggregate(
        time_ns, price, size, symbol=symbol, side=side, trade_id=trade_id, price_scale=2, size_scale=5
    )


def messages(trades: market.Columns, symbols: int) -> Callable[[], object]:
    """Messages into a batch."""
    assert symbols
    fields = find_exchange("binance").fields("trade")
    assert fields is not None
    instruments = Instruments("bench")
    scan, payloads = (
        TradeScanner(fields, TickBatch(instruments, ids=True, counts=True), instruments.add).scan,
        (market.messages(trades)),
    )
    return lambda: [scan(payload) for payload in payloads]


def one_by_one(trades: market.Columns, symbols: int) -> Callable[[], object]:
    """Texts into a buffer, one trade at a time."""
    assert symbols
    buffer = BarBuffer("1m", ids="contiguous")
    rows = [
        (f"S{s}", at, f"{price / 100:.2f}" if size else "0", f"{size / 100_000:.5f}" if size else "0", 1, number)
        for at, s, price, size, number in zip(
            *(trades[name].tolist() for name in ("time_ns", "symbol_id", "price", "size", "first_id")), strict=True
        )
    ]
    return lambda: [buffer.add(*row) for row in rows]


PARTS: dict[str, tuple[Callable[[market.Columns, int], Callable[[], object]], int]] = {
    "kernel, 1": (kernel, 1),
    "kernel, 500": (kernel, 500),
    "kernel of several specs, 500": (several_specs, 500),
    "path-driven kernel, 500": (path_driven, 500),
    "aggregate, 20": (arrays, 20),
    "scanner, 50": (messages, 50),
    "one by one, 50": (one_by_one, 50),
}


def best_ratio(
    make: Callable[[market.Columns, int], Callable[[], object]], plain: market.Columns, void: market.Columns,
    symbols: int, rounds: int,
) -> tuple[float, float]:  # fmt: skip
    """(ratio of the best times, ns a trade of the one without void ids)."""
    best = {False: float("inf"), True: float("inf")}
    for _ in range(rounds):
        for voids, trades in ((False, plain), (True, void)):
            work = make(trades, symbols)
            start = time.process_time()
            work()
            best[voids] = min(best[voids], time.process_time() - start)
    return best[True] / best[False], best[False] / len(plain["price"]) * 1e9


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("part", PARTS)
def test_void_ids_cost_no_more_than_trades(part: str, share: float, pytestconfig: Any) -> None:
    make, symbols = PARTS[part]
    full = pytestconfig.getoption("--full", default=False)
    objects = make in (messages, one_by_one)
    plain = market.columns((MANY // 5 if objects else MANY) if full else FEW, symbols)
    ratio, cost_ns = best_ratio(make, plain, with_voids(plain, share), symbols, 9 if full else 3)
    print(f"{part:<30} {share:>5.0%} void: {ratio:.2f} x {cost_ns:.1f} ns")
    if full:
        assert ratio <= (MOST_OF_PATHS if make is path_driven else MOST)
