"""Trades to bars: the kernel alone, objects, messages; each compared with plain Python in the same run.

Set-up is outside the timed part; the first round's bars are checked against the reference.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from benchmarks import market
from benchmarks.reference import Bar, DecimalBars
from fastbars import BarBuffer, OHLCVBar, StreamConfig
from fastbars._agg import BarKernel
from fastbars.bars import parse_specs
from fastbars.columnar.bar_batch import BarBatch
from fastbars.exchanges import find_exchange
from fastbars.kernel.ids import Ledger
from fastbars.live.session import Session
from fastbars.ticks import to_nanoseconds

pytestmark = pytest.mark.benchmark(timer=time.process_time, warmup=False)
FEW = 20_000
MANY = 1_000_000


def measure(benchmark: Any, set_up: Callable[[], tuple[Any, ...]], work: Callable[..., Any], trades: int) -> Any:
    """Time `work(*set_up())`, more often where it is short; returns what its last round returned."""
    benchmark.extra_info["trades"] = trades
    rounds = 21 if trades == FEW else 7
    return benchmark.pedantic(work, setup=lambda: (set_up(), {}), rounds=rounds, iterations=1)


def comparable(bar: OHLCVBar) -> tuple[Any, ...]:
    return (
        bar.symbol, to_nanoseconds(bar.open_time) // 1_000_000, bar.open, bar.high, bar.low, bar.close, bar.volume,
        bar.quote_volume, bar.trade_count, bar.taker_buy_volume, bar.taker_buy_quote_volume,
        bar.first_trade_id, bar.last_trade_id,
    )  # fmt: skip


def expected(trades: market.Columns) -> set[tuple[Any, ...]]:
    reference = DecimalBars()
    reference.add_messages(market.messages(trades))
    return {tuple(getattr(bar, name) for name in Bar.__slots__) for bar in reference.closed}


@pytest.mark.parametrize("symbols", [1, 500, 5000])
def test_kernel(benchmark: Any, symbols: int) -> None:
    benchmark.group = f"kernel, {symbols} symbols"
    trades = market.columns(MANY, symbols)

    def set_up() -> tuple[Any, ...]:
        batch = market.batch(trades, symbols)
        return BarKernel(batch.instruments, parse_specs("1m"), Ledger()), batch

    rows, late = measure(benchmark, set_up, lambda kernel, batch: kernel.update(batch), MANY)
    assert len(rows) == 4 * symbols
    assert not late


def test_kernel_six_specs(benchmark: Any) -> None:
    benchmark.group = "kernel, 500 symbols"
    trades = market.columns(MANY, 500)
    specs = parse_specs("1s,5s,1m,5m,15m,1h")

    def set_up() -> tuple[Any, ...]:
        batch = market.batch(trades, 500)
        return BarKernel(batch.instruments, specs, Ledger()), batch

    measure(benchmark, set_up, lambda kernel, batch: kernel.update(batch), MANY)


def test_columns_to_bar_objects(benchmark: Any) -> None:
    benchmark.group = "trades to bars"
    trades = market.columns(FEW, 20)

    def set_up() -> tuple[Any, ...]:
        batch = market.batch(trades, 20)
        return BarKernel(batch.instruments, parse_specs("1m"), Ledger()), batch

    def work(kernel: BarKernel, batch: Any) -> list[OHLCVBar]:
        rows, _ = kernel.update(batch)
        return BarBatch(rows, batch.instruments, parse_specs("1m"), ids=True).to_bars()

    bars = measure(benchmark, set_up, work, FEW)
    assert {comparable(bar) for bar in bars} == expected(trades)


def test_tick_objects_to_bar_objects(benchmark: Any) -> None:
    benchmark.group = "trades to bars"
    ticks = market.ticks(market.columns(FEW, 20))

    def work(buffer: BarBuffer) -> BarBuffer:
        for tick in ticks:
            buffer.add_tick(tick)
        return buffer

    buffer = measure(benchmark, lambda: (BarBuffer("1m", ids="contiguous"),), work, FEW)
    assert buffer.stats.trades == FEW


def test_decimals_to_a_dict_of_bars(benchmark: Any) -> None:
    benchmark.group = "trades to bars"
    benchmark.extra_info["reference"] = True
    ticks = market.ticks(market.columns(FEW, 20))

    def work(reference: DecimalBars) -> None:
        for tick in ticks:
            trade_id = tick.trade_id or 0
            reference.add(tick.symbol, tick.time_ns // 1_000_000, tick.price, tick.volume, tick.side == "buy", trade_id)

    measure(benchmark, lambda: (DecimalBars(),), work, FEW)


def test_messages_to_bar_objects(benchmark: Any) -> None:
    benchmark.group = "messages to bars"
    trades = market.columns(FEW, 20)
    payloads = market.messages(trades)
    bars: list[OHLCVBar] = []

    def set_up() -> tuple[Any, ...]:
        bars.clear()
        return (Session(find_exchange("binance"), StreamConfig(bars="1m", close_by="trades")),)

    def work(session: Session) -> None:
        for start in range(0, FEW, 64):
            bars.extend(session.receive(payloads[start : start + 64], 0).bars)

    measure(benchmark, set_up, work, FEW)
    assert {comparable(bar) for bar in bars} == expected(trades)


def test_orjson_and_decimals_to_a_dict_of_bars(benchmark: Any) -> None:
    benchmark.group = "messages to bars"
    benchmark.extra_info["reference"] = True
    payloads = market.messages(market.columns(FEW, 20))
    measure(benchmark, lambda: (DecimalBars(),), lambda reference: reference.add_messages(payloads), FEW)
