"""One trade at a time, from text: BarBuffer.add, the ancestor's way, and a dict of bars in Decimal.

With nautilus_trader installed, its TradeTick and TimeBarAggregator are measured too. Its bars are cut by the timers of
its own clock, so that only its time is compared.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from benchmarks.ancestor import Buffer, add_text
from benchmarks.market import Row, columns, texts
from benchmarks.reference import DecimalBars
from fastbars import BarBuffer, TickData

pytestmark = pytest.mark.benchmark(timer=time.process_time, group="one trade at a time, from text")
TRADES = 100_000
ROUNDS = 9


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """(symbol, time_ns, price, size, side, trade id) as texts and ints, of 20 symbols."""
    return texts(columns(TRADES, 20))


def measure(benchmark: Any, make: Callable[[], Any], run: Callable[[Any], object]) -> Any:
    benchmark.extra_info["trades"] = TRADES
    made: list[Any] = []

    def setup() -> tuple[tuple[Any], dict[str, Any]]:
        made.append(make())
        return (made[-1],), {}

    benchmark.pedantic(run, setup=setup, rounds=ROUNDS, iterations=1, warmup_rounds=1)
    return made[-1]


def test_add(benchmark: Any, rows: list[Row]) -> None:
    def run(buffer: BarBuffer) -> None:
        for symbol, time_ns, price, size, side, trade_id in rows:
            buffer.add(symbol, time_ns, price, size, side=side, trade_id=trade_id)

    buffer = measure(benchmark, lambda: BarBuffer("1m", ids="contiguous"), run)
    assert buffer.stats.trades == TRADES


def test_add_tick_of_a_tick_made_from_text(benchmark: Any, rows: list[Row]) -> None:
    def run(buffer: BarBuffer) -> None:
        for symbol, time_ns, price, size, side, trade_id in rows:
            buffer.add_tick(TickData(symbol, time_ns, price, size, side, trade_id))

    measure(benchmark, lambda: BarBuffer("1m", ids="contiguous"), run)


def test_add_tick_of_a_tick_at_hand(benchmark: Any, rows: list[Row]) -> None:
    ticks = [TickData(*row) for row in rows]

    def run(buffer: BarBuffer) -> None:
        for tick in ticks:
            buffer.add_tick(tick)

    measure(benchmark, lambda: BarBuffer("1m", ids="contiguous"), run)


def test_the_ancestor(benchmark: Any, rows: list[Row]) -> None:
    benchmark.extra_info["reference"] = True
    millis = [(symbol, time_ns // 1_000_000, price, size, side) for symbol, time_ns, price, size, side, _ in rows]
    bars: list[Any] = []

    def run(buffer: Buffer) -> None:
        for symbol, time_ms, price, size, side in millis:
            add_text(buffer, symbol, time_ms, price, size, side)

    def make() -> Buffer:
        bars.clear()
        return Buffer(60, bars.append)

    measure(benchmark, make, run)
    ours = BarBuffer("1m")
    expected = [bar for row in rows for bar in ours.add(*row)]
    assert [(bar.symbol, bar.timestamp, bar.open, bar.high, bar.low, bar.close, bar.volume) for bar in bars] == [
        (bar.symbol, bar.open_time, bar.open, bar.high, bar.low, bar.close, bar.volume) for bar in expected
    ]


def test_a_dict_of_bars_in_decimal(benchmark: Any, rows: list[Row]) -> None:
    def run(bars: DecimalBars) -> None:
        for symbol, time_ns, price, size, side, trade_id in rows:
            bars.add(symbol, time_ns // 1_000_000, Decimal(price), Decimal(size), side == "buy", trade_id)

    measure(benchmark, DecimalBars, run)


def test_nautilus_trader(benchmark: Any, rows: list[Row]) -> None:
    pytest.importorskip("nautilus_trader", reason="nautilus_trader is a peer for an environment of its own")
    from nautilus_trader.common.component import TestClock
    from nautilus_trader.data.aggregation import TimeBarAggregator
    from nautilus_trader.model.data import BarType, TradeTick
    from nautilus_trader.model.enums import AggressorSide
    from nautilus_trader.model.identifiers import InstrumentId, TradeId
    from nautilus_trader.model.objects import Price, Quantity
    from nautilus_trader.test_kit.providers import TestInstrumentProvider

    instrument = TestInstrumentProvider.btcusdt_binance()
    sides = {"buy": AggressorSide.BUYER, "sell": AggressorSide.SELLER}
    names = {f"S{i}": InstrumentId.from_str(f"S{i}.SIM") for i in range(20)}
    closed: list[Any] = []

    def make() -> dict[str, Any]:
        closed.clear()
        return {
            symbol: TimeBarAggregator(
                instrument, BarType.from_str(f"{instrument.id}-1-MINUTE-LAST-INTERNAL"), closed.append, TestClock()
            )
            for symbol in names
        }

    def run(aggregators: dict[str, Any]) -> None:
        for symbol, time_ns, price, size, side, trade_id in rows:
            aggregators[symbol].handle_trade_tick(
                TradeTick(
                    names[symbol],
                    Price.from_str(price),
                    Quantity.from_str(size),
                    sides[side],
                    TradeId(str(trade_id)),
                    time_ns,
                    time_ns,
                )
            )

    measure(benchmark, make, run)
