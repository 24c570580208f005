"""Columns of trades to 1-minute bars with all fields, by each library; worker.py imports it where the library is.

A job gets the columns of benchmarks/market.py. It returns (work, fields): what is timed, and what turns its result into
named int64 columns, so that results can be compared. A third one, where there is one, makes the argument of `work`
before each round. All sums are exact here: hugeint in DuckDB, and int64 elsewhere, which holds what is measured and
would overflow silently beyond. Tables are in memory beforehand; one thread; queries are the fastest right ones that
were found for each library.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

MINUTE_NS = 60_000_000_000
NAMES = (
    "symbol_id", "open_time", "open", "high", "low", "close", "volume", "quote_volume", "taker_volume",
    "taker_quote_volume", "count", "first_id", "last_id", "first_time", "last_time",
)  # fmt: skip

Columns = dict[str, Any]
Job = (
    tuple[Callable[..., Any], Callable[[Any], Columns]]
    | tuple[Callable[[Any], Any], Callable[[Any], Columns], Callable[[], Any]]
)


def table(columns: Columns) -> Columns:
    """The columns under the names that queries use."""
    names = ("time_ns", "symbol_id", "price", "size", "side")
    return {name: columns[name] for name in names} | {"id": columns["first_id"]}


def fastbars(columns: Columns) -> Job:
    import fastbars
    from plain_c import fields

    def work() -> Any:
        return fastbars.aggregate(
            columns["time_ns"], columns["price"], columns["size"], symbol=columns["symbol_id"], side=columns["side"],
            trade_id=columns["first_id"], price_scale=2, size_scale=5,
        )  # fmt: skip

    return work, lambda bars: fields(bars.rows)


def plain_c(columns: Columns, variant: str = "by_trade") -> Job:
    from plain_c import PlainC, fields

    plain, symbols = PlainC(), int(columns["symbol_id"].max()) + 1
    room = len(plain.bars(variant, columns, symbols, ends=True))
    plain = PlainC()
    return lambda: plain.bars(variant, columns, symbols, room, ends=True), fields


def plain_c_by_stretch(columns: Columns) -> Job:
    return plain_c(columns, "by_stretch")


def duckdb(columns: Columns) -> Job:
    import duckdb
    import pyarrow as pa

    connection = duckdb.connect()
    connection.execute("SET threads = 1")
    connection.register("arrow", pa.table(table(columns)))
    connection.execute("CREATE TABLE trades AS SELECT * FROM arrow")
    query = f"""SELECT symbol_id, time_ns // {MINUTE_NS} AS open_time, arg_min(price, id) AS open, max(price) AS high,
        min(price) AS low, arg_max(price, id) AS close, sum(size) AS volume, sum(price * size) AS quote_volume,
        sum(CASE WHEN side > 0 THEN size ELSE 0 END) AS taker_volume,
        sum(CASE WHEN side > 0 THEN price * size ELSE 0 END) AS taker_quote_volume,
        count(*) AS count, min(id) AS first_id, max(id) AS last_id, min(time_ns) AS first_time,
        max(time_ns) AS last_time FROM trades GROUP BY symbol_id, open_time"""

    def fields(bars: Any) -> Columns:
        made = {name: bars[name].cast(pa.int64()).to_numpy() for name in NAMES}
        return made | {"open_time": made["open_time"] * MINUTE_NS}

    return lambda: connection.sql(query).to_arrow_table(), fields


def polars(columns: Columns) -> Job:
    import polars as pl

    price, size, number, time = (pl.col(name) for name in ("price", "size", "id", "time_ns"))
    quote, bought = pl.col("quote"), pl.col("side") > 0
    # Columns beforehand instead of filters in each group: twice as fast where bars are short.
    query = (
        pl.DataFrame(table(columns))
        .lazy()
        .with_columns((time // MINUTE_NS).alias("open_time"), (price * size).alias("quote"))
        .with_columns(
            pl.when(bought).then(size).otherwise(0).alias("taker"),
            pl.when(bought).then(quote).otherwise(0).alias("taker_quote"),
        )
        .group_by("symbol_id", "open_time")
        .agg(
            price.min_by("id").alias("open"), price.max().alias("high"), price.min().alias("low"),
            price.max_by("id").alias("close"), size.sum().alias("volume"), quote.sum().alias("quote_volume"),
            pl.col("taker").sum().alias("taker_volume"), pl.col("taker_quote").sum().alias("taker_quote_volume"),
            pl.len().alias("count"), number.min().alias("first_id"), number.max().alias("last_id"),
            time.min().alias("first_time"), time.max().alias("last_time"),
        )
    )  # fmt: skip

    def fields(bars: Any) -> Columns:
        made = {name: bars[name].cast(pl.Int64).to_numpy() for name in NAMES}
        return made | {"open_time": made["open_time"] * MINUTE_NS}

    return query.collect, fields


@functools.cache
def compiled() -> Any:
    """A plain loop, compiled by numba. Rows come in order of time, and ids are neither checked nor compared."""
    import numba

    @numba.njit(cache=False)
    def fold(time_ns: Any, symbol: Any, price: Any, size: Any, side: Any, number: Any, states: Any, bars: Any) -> int:
        # A row of states and bars: the fields in the order of NAMES; states[:, 0] is the time at which the bar closes.
        count = 0
        states[:] = 0
        for row in range(len(time_ns)):
            state, now, value, amount = states[symbol[row]], time_ns[row], price[row], size[row]
            if now >= state[0]:
                if state[10]:
                    bars[count] = state
                    bars[count, 0] = symbol[row]
                    count += 1
                state[1] = now - now % MINUTE_NS
                state[0] = state[1] + MINUTE_NS
                state[2] = state[3] = state[4] = value
                state[6:11] = 0
                state[11], state[13] = number[row], now
            state[3] = max(state[3], value)
            state[4] = min(state[4], value)
            state[5] = value
            state[6] += amount
            state[7] += value * amount
            if side[row] > 0:
                state[8] += amount
                state[9] += value * amount
            state[10] += 1
            state[12], state[14] = number[row], now
        for key in range(len(states)):
            if states[key, 10]:
                bars[count] = states[key]
                bars[count, 0] = key
                count += 1
        return count

    return fold


def numba(columns: Columns) -> Job:
    given = list(table(columns).values())
    symbols = int(columns["symbol_id"].max()) + 1
    states = np.zeros((symbols, len(NAMES)), np.int64)
    bars = np.empty((len(columns["price"]) + symbols, len(NAMES)), np.int64)  # kept: its pages are touched once

    def work() -> Any:
        return bars[: compiled()(*given, states, bars)]

    return work, lambda made: {name: made[:, place].copy() for place, name in enumerate(NAMES)}


def tickbar(columns: Columns) -> Job:
    """OHLCV and count alone, symbol by symbol: they are parted beforehand, which is not timed."""
    from tickbar.tickbar import TickAggregator

    order = np.argsort(columns["symbol_id"], kind="stable")
    edges = np.searchsorted(columns["symbol_id"][order], np.arange(columns["symbol_id"].max() + 2))
    parts = [
        [np.ascontiguousarray(columns[name][order[start:stop]]) for name in ("time_ns", "price", "size")]
        for start, stop in pairwise(edges)
    ]

    def set_up() -> list[Any]:
        made = [TickAggregator(60) for _ in parts]
        for aggregator, part in zip(made, parts, strict=True):
            aggregator.push_from_numpy(
                *(column[:1] for column in part)
            )  # the first one costs 17 us, whatever it brings
        return made

    def work(made: list[Any]) -> list[Any]:
        for aggregator, part in zip(made, parts, strict=True):
            aggregator.push_from_numpy(*(column[1:] for column in part))
        return [aggregator.finalize() for aggregator in made]

    def fields(made: list[Any]) -> Columns:
        # Floats that hold what is measured here exactly.
        rows = np.array([[symbol_id, *row] for symbol_id, bars in enumerate(made) for row in bars.to_records()])
        names = ("symbol_id", "open_time", "open", "high", "low", "close", "volume", "count")
        return {name: rows[:, place].astype(np.int64) for place, name in enumerate(names)}

    return work, fields, set_up


JOBS: dict[str, Callable[[Columns], Job]] = {
    job.__name__: job for job in (fastbars, plain_c, plain_c_by_stretch, duckdb, polars, numba, tickbar)
}
