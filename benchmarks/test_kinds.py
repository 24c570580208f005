"""What bars that end by their trades cost, beside 1m bars of the same number on the same trades, in the same run.

At most 2.5 times is the aim at every density; where the limit is another one, that is what was reached. The step of
each kind is searched for until it makes about as many bars as there are minutes.
"""

from __future__ import annotations

from decimal import Decimal
from functools import partial
from typing import Any

import pytest

from benchmarks import market
from benchmarks.yardstick import assert_ratio
from fastbars import aggregate

TRADES = 200_000
AIM = 2.5
# Kind -> how finely its step is given.
KINDS = {
    "tick:{}": "1", "volume:{}": "0.01", "value:{}": "1", "range:{}": "0.01", "renko:{}": "0.01", "delta:{}": "0.01",
    "cusum:{}": "0.01", "imbalance:tick:{}": "1", "imbalance:volume:{}": "0.01", "runs:tick:{}": "1",
    "runs:value:{}": "1", "imbalance:volume:{}:adaptive": "0.01", "runs:tick:{}:adaptive": "1",
}  # fmt: skip
# What was reached where that is more, with a tenth to spare: kinds without a loop of their own in the kernel are folded
# in trade by trade. By symbols and trades a bar, in the order of the cells.
CELLS = ((1, 100), (1, 7), (500, 100), (500, 7))
REACHED = {
    "imbalance:tick:{}": (5.3, 2.5, 4.3, 2.5),
    "imbalance:volume:{}": (5.7, 2.5, 4.3, 2.6),
    "runs:tick:{}": (5.8, 2.5, 4.3, 2.5),
    "runs:value:{}": (5.6, 2.5, 4.3, 2.6),
    "imbalance:volume:{}:adaptive": (14.7, 6.6, 10.0, 6.5),
    "runs:tick:{}:adaptive": (9.4, 3.8, 7.9, 4.2),
}
LIMITS = {(kind, *cell): limit for kind, limits in REACHED.items() for cell, limit in zip(CELLS, limits, strict=True)}


def aggregated(trades: market.Columns, spec: str) -> Any:
    return aggregate(
        trades["time_ns"], trades["price"], trades["size"], bars=spec, symbol=trades["symbol_id"], side=trades["side"],
        trade_id=trades["first_id"], price_scale=market.PRICE_SCALE, size_scale=market.SIZE_SCALE,
    )  # fmt: skip


def spec_for(trades: market.Columns, kind: str, bars: int) -> tuple[str, int]:
    """The spec whose bars are about as many, and how many they are."""
    unit = Decimal(KINDS[kind])
    low, high = 1, 1 << 40  # steps in units; more is fewer bars
    while high - low > 1:
        middle = round((low * high) ** 0.5)
        if middle in (low, high):
            break
        low, high = (middle, high) if len(aggregated(trades, kind.format(middle * unit))) > bars else (low, middle)
    made = {kind.format(step * unit): len(aggregated(trades, kind.format(step * unit))) for step in (low, high)}
    return min(made.items(), key=lambda item: abs(item[1] - bars))


@pytest.mark.parametrize(("symbols", "per_bar"), CELLS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_of_bar_costs_little_more_than_time_bars(
    kind: str, symbols: int, per_bar: int, pytestconfig: pytest.Config
) -> None:
    if (symbols, per_bar) != (1, 100) and not pytestconfig.getoption("--full"):
        pytest.skip("of the long form")
    trades = market.drawn(TRADES, symbols, per_bar)
    minutes = len(aggregated(trades, "1m"))
    spec, bars = spec_for(trades, kind, minutes)
    name = f"{spec}, {bars:,} bars beside {minutes:,} of 1m, {symbols} symbols"
    limit = LIMITS.get((kind, symbols, per_bar), AIM)
    assert_ratio(name, partial(aggregated, trades, spec), partial(aggregated, trades, "1m"), limit)
