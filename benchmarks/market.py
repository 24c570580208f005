"""Trades to measure with: the same market as columns, as objects, and as the messages an exchange sends."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from fastbars import Instruments, TickBatch, TickData, TickSide
from fastbars.kernel.scaled import to_text

START_NS = 1_723_161_240_000_000_000
PRICE_SCALE = 2
SIZE_SCALE = 5

Columns = dict[str, npt.NDArray[Any]]


def columns(trades: int, symbols: int, minutes: float = 5.0, seed: int = 1) -> Columns:
    """Trades in time order over `minutes`, symbols drawn at random, ids contiguous a symbol."""
    draw = np.random.default_rng(seed)
    symbol_id = draw.integers(0, symbols, trades).astype(np.int32)
    order = np.argsort(symbol_id, kind="stable")
    ids = np.empty(trades, np.int64)
    ids[order] = np.arange(trades) - np.searchsorted(symbol_id[order], np.arange(symbols))[symbol_id[order]]
    step_ns = int(minutes * 60e9 / trades)
    return {
        "time_ns": START_NS + np.arange(trades, dtype=np.int64) * step_ns // 1_000_000 * 1_000_000,
        "symbol_id": symbol_id,
        "price": 6_000_000 + draw.integers(-5, 6, trades).cumsum().clip(-5_000_000),
        "size": draw.integers(1, 1_000_000, trades),
        "side": draw.choice(np.array([-1, 1], np.int8), trades),
        "first_id": ids + 3_000_000_000,
        "last_id": ids + 3_000_000_000,
    }


def drawn(trades: int, symbols: int, per_bar: float, seed: int = 1) -> Columns:
    """Trades at random times, `per_bar` of each symbol a minute on average; else as `columns`."""
    minutes = trades / (symbols * per_bar)
    made = columns(trades, symbols, minutes, seed)
    times_ms = np.random.default_rng(seed + 1).integers(0, max(int(minutes * 60_000), 1), trades)
    times_ms.sort()
    made["time_ns"] = START_NS + times_ms * 1_000_000
    return made


def batch(trades: Columns, symbols: int) -> TickBatch:
    """The columns with instruments of their own."""
    instruments = Instruments("bench")
    for symbol in range(symbols):
        instruments.add(f"S{symbol}", PRICE_SCALE, SIZE_SCALE)
    return TickBatch.from_columns(instruments, **trades)


def messages(trades: Columns) -> list[bytes]:
    """The trades as Binance spot sends them."""
    return [
        orjson.dumps(
            {
                "e": "trade",
                "E": time_ns // 1_000_000 + 1,
                "s": f"S{symbol_id}",
                "t": trade_id,
                "p": f"{to_text(price, PRICE_SCALE)}",
                "q": f"{to_text(size, SIZE_SCALE)}",
                "T": time_ns // 1_000_000,
                "m": side < 0,
                "M": True,
            }
        )
        for time_ns, symbol_id, price, size, side, trade_id, _ in zip(
            *(column.tolist() for column in trades.values()), strict=True
        )
    ]


Row = tuple[str, int, str, str, str, int]


def texts(trades: Columns) -> list[Row]:
    """Of each trade: symbol, time_ns, price, size and side as texts and ints, and its id."""
    return [
        (
            f"S{symbol}",
            time_ns,
            to_text(price, PRICE_SCALE),
            to_text(size, SIZE_SCALE),
            "buy" if side > 0 else "sell",
            i,
        )
        for time_ns, symbol, price, size, side, i, _ in zip(*(each.tolist() for each in trades.values()), strict=True)
    ]


def ticks(trades: Columns) -> list[TickData]:
    """The trades as objects."""
    return [
        TickData(
            f"S{symbol_id}",
            time_ns,
            Decimal(price).scaleb(-PRICE_SCALE),
            Decimal(size).scaleb(-SIZE_SCALE),
            TickSide.BUY if side > 0 else TickSide.SELL,
            trade_id,
        )
        for time_ns, symbol_id, price, size, side, trade_id, _ in zip(
            *(column.tolist() for column in trades.values()), strict=True
        )
    ]
