"""Columns in and out: what each kind of column costs a trade, and what numpy's columns cost a bar.

Bounds are in nanoseconds of the yardstick; for columns of trades they hold for `aggregate` as a whole, kernel included.
"""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.yardstick import assert_ns
from fastbars import BarBatch, aggregate

SYMBOLS = 500
MINUTE_NS = 60_000_000_000
NAMES = np.array([f"S{number:03d}USDT" for number in range(SYMBOLS)])


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
