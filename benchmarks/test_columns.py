"""Columns in and out: what each kind of column costs a trade, and what numpy's columns cost a bar.

Bounds are in nanoseconds of the yardstick; for columns of trades they hold for `aggregate` as a whole, kernel included.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from benchmarks.market import PRICE_SCALE, SIZE_SCALE, columns
from benchmarks.yardstick import assert_ns
from fastbars import BarBatch, aggregate
from fastbars.kernel.scaled import to_text

SYMBOLS = 500
MINUTE_NS = 60_000_000_000
NAMES = np.array([f"S{number:03d}USDT" for number in range(SYMBOLS)])
TRADES = {True: 2_000_000, False: 200_000}  # with and without --full
FEW = 50_000  # of what is made one by one

# What replaces columns of integers, and nanoseconds a trade for all of `aggregate`: what two million trades took, and a
# tenth more; for symbols as Arrow strings (20) and as objects (60) the aims, which leave room.
BOUNDS = {
    "integers": 9.5,
    "ids as uint64": 16,
    "times as datetime64[us]": 13.5,
    "floats": 22,
    "Arrow texts": 60,
    "Arrow decimals": 31,
    "Arrow decimals with idle digits": 37,
    "symbols as Arrow strings": 20,
    "symbols as Arrow string views": 22,
    "symbols as an Arrow dictionary": 14.5,
    "symbols as numpy texts": 24,
    "symbols as objects": 60,
    "symbols as a list": 25,
    "polars, strings and decimals": 40,
    "pandas, strings and floats": 25,
    "lists of int": 75,
    "lists of Decimal": 500,
}


def bars_of(scale: int, bars_a_symbol: int = 40) -> BarBatch:
    """Bars of two trades each; with more than 2**53 a mantissa where `scale` is large."""
    rows = np.arange(2 * SYMBOLS * bars_a_symbol)
    return aggregate(
        rows // (2 * SYMBOLS) * MINUTE_NS + rows % (2 * SYMBOLS) * 1_000_000,
        43_251 * 10**scale + rows,
        17 * 10**scale + rows % 1000 + 1,
        symbol=NAMES[rows % SYMBOLS],
        side=(rows % 3 - 1).astype(np.int8),
        trade_id=rows // SYMBOLS,
        price_scale=scale,
        size_scale=scale,
    )


@pytest.mark.parametrize(("values", "scale"), [("exact", 2), ("inexact", 8)])
def test_bars_to_numpy(values: str, scale: int) -> None:
    made = bars_of(scale)
    assert (abs(made.rows["quote_volume"]["lo"].astype(float)).max() > 2**53) == (values == "inexact")
    assert_ns(f"to_numpy, a bar, {values} floats", made.to_numpy, len(made), 150)


def as_decimals(mantissas: Any, scale: int, digits: int) -> Any:
    texts = pa.array([to_text(mantissa, scale) for mantissa in mantissas.tolist()])
    return texts.cast(pa.decimal128(18, digits))


def replacing(kind: str, trades: dict[str, Any]) -> dict[str, Any]:
    price, size = trades["price"], trades["size"]
    exact: dict[str, Any] = {"price_scale": None, "size_scale": None}
    if kind.startswith("symbols as "):
        names = NAMES[trades["symbol"]]
        strings = pa.array(names.tolist())  # each an object of its own
        made: dict[str, Any] = {
            "Arrow strings": strings,
            "Arrow string views": strings.cast(pa.string_view()),
            "an Arrow dictionary": pa.DictionaryArray.from_arrays(trades["symbol"], NAMES),
            "numpy texts": names,
            "objects": np.array(strings.to_pylist(), object),
            "a list": strings.to_pylist(),
        }
        return {"symbol": made[kind.removeprefix("symbols as ")]}
    if kind == "ids as uint64":
        return {"trade_id": trades["trade_id"].astype(np.uint64)}
    if kind.startswith("times"):
        return {"time_ns": trades["time_ns"].astype("datetime64[ns]").astype("datetime64[us]")}
    if kind == "floats":
        return {"price": price / 10**PRICE_SCALE, "size": size / 10**SIZE_SCALE}
    if kind == "Arrow texts":
        texts = [[to_text(each, scale) for each in column.tolist()] for column, scale in ((price, 2), (size, 5))]
        return exact | {"price": pa.array(texts[0]), "size": pa.array(texts[1])}
    if kind.startswith("Arrow decimals"):
        digits = (8, 8) if kind.endswith("idle digits") else (PRICE_SCALE, SIZE_SCALE)
        return exact | {"price": as_decimals(price, 2, digits[0]), "size": as_decimals(size, 5, digits[1])}
    if kind.startswith("polars"):
        frame = pl.DataFrame({"symbol": NAMES[trades["symbol"]], "id": trades["trade_id"], "side": trades["side"]})
        return exact | {
            "time_ns": pl.Series(trades["time_ns"]).cast(pl.Datetime("ns")),
            "price": pl.from_arrow(as_decimals(price, 2, PRICE_SCALE)),
            "size": pl.from_arrow(as_decimals(size, 5, SIZE_SCALE)),
            "symbol": frame["symbol"], "trade_id": frame["id"], "side": frame["side"],
        }  # fmt: skip
    if kind.startswith("pandas"):
        names = pd.Series(NAMES[trades["symbol"]].tolist())
        return {"symbol": names, "price": pd.Series(price / 10**PRICE_SCALE), "size": pd.Series(size / 10**SIZE_SCALE)}
    if kind == "lists of int":
        return {name: column.tolist() for name, column in trades.items()}
    if kind == "lists of Decimal":
        listed: dict[str, Any] = {name: column.tolist() for name, column in trades.items()}
        listed["price"] = [Decimal(each).scaleb(-PRICE_SCALE) for each in listed["price"]]
        listed["size"] = [Decimal(each).scaleb(-SIZE_SCALE) for each in listed["size"]]
        return exact | listed
    return {}


@pytest.mark.parametrize("kind", BOUNDS)
def test_a_column_of_this_kind(kind: str, request: pytest.FixtureRequest) -> None:
    rows = FEW if kind.startswith("lists") else TRADES[request.config.getoption("--full")]
    made = columns(rows, SYMBOLS, minutes=rows / SYMBOLS / 100)
    names = {"symbol": "symbol_id", "trade_id": "first_id"}
    trades = {name: made[names.get(name, name)] for name in ("time_ns", "price", "size", "symbol", "side", "trade_id")}
    given: dict[str, Any] = {**trades, "price_scale": PRICE_SCALE, "size_scale": SIZE_SCALE, **replacing(kind, trades)}
    bars = aggregate(**given)
    assert int(bars.rows["count"].sum()) == rows
    assert_ns(f"aggregate, a trade, {kind}", lambda: aggregate(**given), rows, BOUNDS[kind])
