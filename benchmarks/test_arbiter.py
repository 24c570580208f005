"""Two lines that bring the same trades: what arbitration adds to a trade of one of them."""

from __future__ import annotations

import time
from typing import Any

import pytest

from benchmarks import market
from fastbars import Instruments, TickBatch
from fastbars.kernel.arbiter import Arbiter

pytestmark = pytest.mark.benchmark(timer=time.process_time, group="arbitration of two lines", warmup=False)
MANY = 500_000
WAKEUP = 250  # of one symbol: within the 256 latest trades that the arbiter compares


@pytest.mark.parametrize("symbols", [1, 500])
def test_arbitration(benchmark: Any, symbols: int) -> None:
    trades = market.columns(MANY, symbols)

    def set_up() -> tuple[Any, ...]:
        instruments = Instruments("bench")
        for symbol in range(symbols):
            instruments.add(f"S{symbol}", market.PRICE_SCALE, market.SIZE_SCALE)
        batches = [
            TickBatch.from_columns(instruments, **{name: column[at : at + WAKEUP] for name, column in trades.items()})
            for at in range(0, MANY, WAKEUP)
        ]
        return (Arbiter(TickBatch(instruments), 2, 10**9), batches), {}

    def work(arbiter: Arbiter, batches: list[TickBatch]) -> int:
        passed = 0
        for number, batch in enumerate(batches):
            passed += len(arbiter.take(batch, 0, number))
            passed += len(arbiter.take(batch, 1, number))
        return passed

    benchmark.extra_info["trades"] = 2 * MANY
    assert benchmark.pedantic(work, setup=set_up, rounds=7, iterations=1) == MANY
