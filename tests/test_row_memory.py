"""The memory of rows that nobody has any more is used for the next ones, and only then."""

from __future__ import annotations

import gc
import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from fastbars._agg import BarKernel
from fastbars.kernel.batch import TickBatch
from fastbars.kernel.ids import Ledger
from fastbars.kernel.instruments import Instruments
from fastbars.specs import parse_specs

SECOND = 1_000_000_000
START = 1_700_000_040 * SECOND

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the system cannot take memory back that is kept")


def bars(count: int, price: int, trades_a_bar: int = 1) -> npt.NDArray[Any]:
    """Rows of a kernel of its own: so many 1s bars of one symbol."""
    instruments = Instruments("x")
    instruments.add("A", 2, 3)
    trades = (count + 1) * trades_a_bar
    columns: dict[str, npt.NDArray[Any]] = {
        "time_ns": START + np.arange(trades, dtype=np.int64) // trades_a_bar * SECOND,
        "symbol_id": np.zeros(trades, np.int32),
        "price": np.full(trades, price),
        "size": np.ones(trades, np.int64),
        "side": np.ones(trades, np.int8),
        "first_id": np.arange(trades),
        "last_id": np.arange(trades),
    }
    kernel = BarKernel(instruments, parse_specs("1s"), Ledger())
    rows: npt.NDArray[Any] = kernel.update(TickBatch.from_columns(instruments, **columns))[0].array()
    assert len(rows) == count
    return rows


def address(rows: npt.NDArray[Any]) -> int:
    return int(rows.ctypes.data)


def test_memory_of_dead_rows_is_used_again() -> None:
    rows = bars(20_000, 5)
    first = address(rows)
    del rows
    gc.collect()
    again = bars(20_000, 7)
    assert address(again) == first
    assert (again["close"] == 7).all()


def test_rows_that_somebody_has_keep_their_memory() -> None:
    rows = bars(20_000, 5)
    part = rows[10:20]
    before = part.tobytes()
    del rows
    others = [bars(20_000, price) for price in range(6, 10)]
    assert len({address(other) for other in others}) == len(others)
    assert part.tobytes() == before


def test_few_rows_do_not_hold_the_memory_of_many() -> None:
    rows = bars(200_000, 5)
    many = address(rows)
    del rows
    # As many are expected, from the times alone, and the symbol trades in a few of these seconds.
    few = bars(60_000, 5)
    assert address(few) == many
    del few
    instruments = Instruments("x")
    instruments.add("A", 2, 3)
    time_ns = np.concatenate([START + np.arange(2_000) * SECOND, np.full(60_000, START + 60_000 * SECOND)])
    batch = TickBatch.from_columns(
        instruments, time_ns=time_ns, symbol_id=np.zeros(62_000, np.int32), price=np.full(62_000, 5),
        size=np.full(62_000, 5),
    )  # fmt: skip
    rows = BarKernel(instruments, parse_specs("1s"), None, False).update(batch)[0].array()
    assert len(rows) == 2_000
    assert address(rows) != many


def test_memory_that_was_kept_for_fewer_rows_is_still_as_large() -> None:
    many = bars(8_000, 5)
    first = address(many)
    del many
    few = bars(4_000, 6)  # less than what is worth keeping by itself
    assert address(few) == first
    del few
    again, other = bars(8_000, 7), bars(8_000, 8)
    assert address(again) == first
    assert (again["close"] == 7).all()
    assert (other["close"] == 8).all()
