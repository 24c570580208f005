"""aggregate(): arrays in, bars out, compared with the kernel alone on the same columns; and bars to tables."""

from __future__ import annotations

import time
from typing import Any

import pytest

from benchmarks.market import PRICE_SCALE, SIZE_SCALE, Columns, batch, columns
from fastbars import BarBatch, aggregate
from fastbars._agg import BarKernel
from fastbars.kernel.ids import Ledger
from fastbars.kernel.scaled import to_text
from fastbars.specs import parse_specs

pytestmark = pytest.mark.benchmark(timer=time.process_time)
TRADES = 2_000_000
FEW = 200_000
ROUNDS = 7
MANY_ROUNDS = 41  # of short work


def arrays(symbols: int, trades: int = TRADES) -> Columns:
    return columns(trades, symbols, minutes=60)


def run(trades: Columns, **options: Any) -> BarBatch:
    return aggregate(
        trades["time_ns"],
        options.pop("price", trades["price"]),
        trades["size"],
        symbol=options.pop("symbol", trades["symbol_id"]),
        side=trades["side"],
        trade_id=trades["first_id"],
        size_scale=SIZE_SCALE,
        **{"price_scale": PRICE_SCALE, **options},
    )


@pytest.mark.parametrize("symbols", [1, 500, 5_000])
def test_aggregate(benchmark: Any, symbols: int) -> None:
    benchmark.group = f"arrays to bars, {symbols} symbols"
    benchmark.extra_info["trades"] = TRADES
    trades = arrays(symbols)
    made = benchmark.pedantic(lambda: run(trades), rounds=ROUNDS, iterations=1, warmup_rounds=1)
    assert int(made.rows["count"].sum()) == TRADES


@pytest.mark.parametrize("symbols", [1, 500, 5_000])
def test_kernel_alone(benchmark: Any, symbols: int) -> None:
    benchmark.group = f"arrays to bars, {symbols} symbols"
    benchmark.extra_info.update(trades=TRADES, reference=True)
    trades = batch(arrays(symbols), symbols)

    def fold() -> None:
        kernel = BarKernel(trades.instruments, parse_specs("1m"), Ledger(), True)
        kernel.update(trades)
        kernel.flush()

    benchmark.pedantic(fold, rounds=ROUNDS, iterations=1, warmup_rounds=1)


@pytest.mark.benchmark(group="aggregate, 20 symbols, kinds of columns")
@pytest.mark.parametrize(
    "kind", ["integers", "floats", "Arrow decimals", "Arrow texts", "Arrow symbols", "object symbols"]
)
def test_columns(benchmark: Any, kind: str) -> None:
    import numpy as np
    import pyarrow as pa

    benchmark.extra_info.update(trades=FEW, reference=kind == "integers")
    trades = arrays(20, FEW)
    texts = pa.array([to_text(price, PRICE_SCALE) for price in trades["price"].tolist()])
    names = pa.array([f"SYMBOL{symbol_id}" for symbol_id in trades["symbol_id"].tolist()])
    options: dict[str, Any] = {
        "integers": {},
        "floats": {"price": trades["price"] / 100},
        "Arrow decimals": {"price": texts.cast(pa.decimal128(20, 8)), "price_scale": None},
        "Arrow texts": {"price": texts, "price_scale": None},
        "Arrow symbols": {"symbol": names},
        "object symbols": {"symbol": np.array(names.to_pylist(), object)},
    }[kind]
    benchmark.pedantic(lambda: run(trades, **options), rounds=MANY_ROUNDS, iterations=1, warmup_rounds=1)


@pytest.mark.benchmark(group="a bar to a table")
@pytest.mark.parametrize("kind", ["objects", "Arrow", "polars", "pandas", "numpy"])
def test_tables(benchmark: Any, kind: str) -> None:
    import pyarrow as pa

    made = run(columns(400_000, 500, minutes=20))
    benchmark.extra_info.update(trades=len(made), reference=kind == "objects")
    convert = {
        "objects": made.to_bars,
        "Arrow": lambda: pa.table(made),
        "polars": made.to_polars,
        "pandas": made.to_pandas,
        "numpy": made.to_numpy,
    }[kind]
    benchmark.pedantic(convert, rounds=MANY_ROUNDS, iterations=1, warmup_rounds=1)
