"""What a bar costs where few trades are in it: `aggregate` beside plain C; benchmarks.kernel measures the whole grid.

Here only C, few trades and a few rounds. A busy neighbour takes more from the kernel, which writes to more memory, than
from C. The aims are 1.2, 1.5 and 1.6 for 100, 7 and 2 trades a bar; the limits are what was reached.
"""

from __future__ import annotations

from functools import partial

import pytest

from benchmarks import market
from benchmarks.kernel import aggregated
from benchmarks.plain_c import VARIANTS, PlainC
from benchmarks.yardstick import Work, assert_ratio, smallest

TRADES = 200_000
LIMITS = {(500, 100): 1.6, (500, 7): 2.2, (500, 2): 2.8, (1, 7): 3.3}  # times C


@pytest.fixture(scope="module")
def plain() -> PlainC:
    return PlainC()


@pytest.mark.parametrize(("symbols", "per_bar"), LIMITS)
def test_a_bar_costs_what_it_costs_in_c(plain: PlainC, symbols: int, per_bar: int) -> None:
    trades = market.drawn(TRADES, symbols, per_bar)
    bars = len(aggregated(trades))
    sides: dict[str, Work] = {
        variant: partial(plain.bars, variant, trades, symbols, bars, ends=True) for variant in VARIANTS
    }
    assert all(len(plain.bars(variant, trades, symbols, bars, ends=True)) == bars for variant in VARIANTS)
    times = dict(zip(sides, smallest(*sides.values()), strict=True))
    faster = min(times, key=lambda variant: times[variant])
    name = f"{symbols} symbols x {per_bar} trades a bar"
    assert_ratio(name, lambda: aggregated(trades), sides[faster], LIMITS[symbols, per_bar])
