"""Finished rows to objects: ours, and the class's own constructor fed with the same values."""

from __future__ import annotations

import operator
import time
from typing import Any

import pytest

from benchmarks.market import batch, columns
from fastbars import OHLCVBar
from fastbars._agg import BarKernel
from fastbars.bars import BAR_FIELDS, REASONS, STATUSES
from fastbars.columnar.bar_batch import BarBatch
from fastbars.kernel.scaled import to_decimal
from fastbars.specs import parse_specs
from fastbars.ticks import to_datetime

pytestmark = pytest.mark.benchmark(timer=time.process_time)
ROUNDS = 41
NAMES = [
    "open_time", "close_time", "first_time", "last_time", "open", "high", "low", "close", "first_id", "last_id",
    "count", "volume", "quote_volume", "taker_volume", "taker_quote_volume", "row", "symbol_id", "spec", "revision",
    "status", "reason", "price_scale", "size_scale", "quote_scale", "buy_count", "sell_count", "last_trade_time",
    "largest",
]  # fmt: skip
EVERY_FIELD = operator.attrgetter(*BAR_FIELDS)


@pytest.fixture(scope="module")
def bars() -> BarBatch:
    trades = batch(columns(400_000, 500, 20), 500)
    kernel = BarKernel(trades.instruments, parse_specs("1m"))
    return BarBatch(kernel.update(trades)[0], trades.instruments, kernel.specs, ids=True)


def plainly(bars: BarBatch) -> list[OHLCVBar]:
    """Field by field in Python, checks of the class included."""
    made = []
    for (
        opened, closed, first, _, open_, high, low, close, first_id, last_id, count, volume, quote, taker_volume,
        taker_quote, _, symbol_id, _, revision, status, reason, price_scale, size_scale, quote_scale, bought, sold,
        last, largest,
    ) in bars.rows[NAMES].tolist():  # fmt: skip
        made.append(
            OHLCVBar(
                bars.instruments.symbol(symbol_id),
                "1m",
                to_datetime(opened),
                to_datetime(closed),
                to_decimal(open_, price_scale),
                to_decimal(high, price_scale),
                to_decimal(low, price_scale),
                to_decimal(close, price_scale),
                to_decimal(volume[0] + (volume[1] << 64), size_scale),
                to_decimal(quote[0] + (quote[1] << 64), quote_scale),
                count,
                to_decimal(taker_volume[0] + (taker_volume[1] << 64), size_scale),
                to_decimal(taker_quote[0] + (taker_quote[1] << 64), quote_scale),
                first_id,
                last_id,
                STATUSES[status],
                revision,
                REASONS[reason],
                buy_count=bought,
                sell_count=sold,
                first_trade_time=to_datetime(first),
                last_trade_time=to_datetime(last),
                largest_trade=to_decimal(largest, size_scale),
                exchange=bars.instruments.exchange,
                market=bars.instruments.market,
            )
        )
    return made


@pytest.mark.benchmark(group="a finished row to a bar object")
@pytest.mark.parametrize("read", [False, True], ids=["made", "made, all fields read"])
def test_rows_to_objects(benchmark: Any, bars: BarBatch, read: bool) -> None:
    benchmark.extra_info["trades"] = len(bars)
    run = (lambda: list(map(EVERY_FIELD, bars.to_bars()))) if read else bars.to_bars
    benchmark.pedantic(run, rounds=ROUNDS, iterations=1, warmup_rounds=1)


@pytest.mark.benchmark(group="a finished row to a bar object")
def test_rows_to_objects_in_python(benchmark: Any, bars: BarBatch) -> None:
    benchmark.extra_info.update(trades=len(bars), reference=True)
    made = benchmark.pedantic(lambda: plainly(bars), rounds=9, iterations=1)
    assert made == bars.to_bars()
