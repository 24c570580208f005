"""Ordinary closes: the short way closes what it is meant for, and does what the general way does, to the last byte.

A kernel whose sums are near the end of 128 bits looks at each row alone, so that it closes all bars the general way:
with a symbol apart, whose sums are that large, one is the reference of another that differs from it in nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import example, given, settings, strategies as st

from examples import examples
from fastbars._agg import BarKernel
from fastbars.kernel.batch import TickBatch
from fastbars.kernel.fields import ROW_DTYPE
from fastbars.kernel.ids import Ledger
from fastbars.kernel.instruments import Instruments
from fastbars.specs import parse_specs

SECOND = 1_000_000_000
START = 1_700_000_040 * SECOND
FAR = START + 10_000 * 86_400 * SECOND
SYMBOLS = 3
EDGE = SYMBOLS  # the symbol apart
WATERMARK = -1

SPECS = ("1s", "1m", "1s,5s,1m", "1m,1s,7s,1h,5m,15m,1d", "2s,1mo,1d,tick:2", "1s,1d@Europe/Berlin")


class Terms(NamedTuple):
    """How a kernel is made: without ids they are arrival numbers."""

    specs: str
    ids: bool = True
    proof: bool = True
    lateness_s: int = 5
    fill: bool = False
    contract: bool = False


class Row(NamedTuple):
    """A trade: how much later than the one before it, and how its id differs from the next one of its symbol."""

    symbol: int
    later_ms: int
    skips: int
    price: int
    size: int
    side: int


def kernel_of(terms: Terms, *, general: bool) -> BarKernel:
    instruments = Instruments("x")
    for symbol in range(SYMBOLS + 1):
        instruments.add(f"S{symbol}", 2, 3, "100" if terms.contract and symbol == 1 else None)
    kernel = BarKernel(
        instruments, parse_specs(terms.specs), Ledger() if terms.ids else None, terms.proof, terms.lateness_s * SECOND,
        60 * SECOND, terms.fill,
    )  # fmt: skip
    # Seven times 2^124 and a bit: below 2^127, and so near that the next trade, whatever it is, might reach it.
    large = 1 << 62 if general else 1
    edge = [(EDGE, FAR, large, large if i < 7 else large // 4 * 3 or 1, 0, i) for i in range(8)]
    kernel.update(batch_of(instruments, edge, terms))
    assert not kernel.ordinary_closes
    return kernel


def batch_of(instruments: Instruments, rows: Sequence[tuple[int, ...]], terms: Terms) -> TickBatch:
    symbol, time, price, size, side, ids = (np.array(column) for column in zip(*rows, strict=True))
    named = {"first_id": ids, "last_id": ids} if terms.ids else {}
    return TickBatch.from_columns(
        instruments, time_ns=time, symbol_id=symbol.astype(np.int32), price=price, size=size, side=side.astype(np.int8),
        **named,
    )  # fmt: skip


def trades_of(rows: Iterable[Row], terms: Terms) -> list[tuple[int, ...]]:
    """Rows of a batch, or (WATERMARK, time) between two batches."""
    made: list[tuple[int, ...]] = []
    time, ids = START, [100] * SYMBOLS
    for row in rows:
        time = max(time + row.later_ms * SECOND // 1000, START)
        if row.symbol == WATERMARK:
            made.append((WATERMARK, time))
            continue
        number = max(ids[row.symbol] + row.skips, 0)
        ids[row.symbol] = max(ids[row.symbol], number + 1)
        made.append((row.symbol, time, row.price, row.size if terms.ids else max(row.size, 1), row.side, number))
    return made


def run(kernel: BarKernel, rows: Sequence[tuple[int, ...]], terms: Terms, cuts: Iterable[int]) -> list[Any]:
    """What a kernel says to rows that are cut anywhere: rows without the symbol apart, and trades that found no bar."""
    said: list[Any] = []
    ends = {*cuts, len(rows)} | {i + j for i, row in enumerate(rows) if row[0] == WATERMARK for j in (0, 1)}
    start = 0
    for end in sorted(end for end in ends if 0 < end <= len(rows)):
        if rows[start][0] == WATERMARK:
            kernel.advance_watermark(rows[start][1])
            issued = kernel.close_until(rows[start][1], 1)
            said.append((issued[issued["symbol_id"] != EDGE].tobytes(), []))
        else:
            issued, late = kernel.update(batch_of(kernel.instruments, rows[start:end], terms))
            said.append((issued[issued["symbol_id"] != EDGE].tobytes(), late))
        start = end
    return said


def state_of(kernel: BarKernel) -> dict[str, Any]:
    """A snapshot without the symbol apart."""
    parts = kernel.dump()
    for name, part in parts.items():
        if name.startswith(("slots", "pasts", "states")) and part:
            parts[name] = part[: len(part) // (SYMBOLS + 1) * SYMBOLS]
    for k in range(len(kernel.specs)):
        slots = np.frombuffer(parts[f"slots{k}"], np.int64).reshape(SYMBOLS, -1)
        pasts = np.frombuffer(parts[f"pasts{k}"], np.int64).reshape(SYMBOLS, -1).copy()
        # Its newest time is that of the open bar, at least, and need not be noted while the bar is open.
        pasts[:, 0] = np.maximum(pasts[:, 0], slots[:, 2])
        parts[f"pasts{k}"] = pasts.tobytes()
    return parts


terms_ = st.builds(
    Terms, st.sampled_from(SPECS), st.booleans(), st.booleans(), st.sampled_from([0, 1, 5, 90]), st.booleans()
)
# Mostly ordinary trades; now and then one that is late, void, seen before, or behind a hole.
rows_ = st.lists(
    st.builds(
        Row, st.sampled_from([0, 0, 0, 1, 1, 2, 0, 1, 2, WATERMARK]),
        st.sampled_from([0, 100, 400, 700, 1000, 1000, 1500, 3000, 6000, 61_000, -1500, 300, 300]),
        st.sampled_from([0] * 30 + [1, 3, -1, -2]), st.integers(1, 900), st.sampled_from([1, 7, 40, 999, 5, 5, 5, 0]),
        st.integers(-1, 1),
    ),
    max_size=60,
)  # fmt: skip


@settings(max_examples=examples(1000))
@given(terms_, rows_, st.sets(st.integers(1, 60), max_size=8))
@example(Terms("1s"), [Row(0, 1000, 0, 5, 1, 1)] * 9, set())
@example(Terms("1s,5s,1m", lateness_s=0), [Row(0, 1000, 0, 5, 1, 1)] * 99, {7})
@example(Terms("1s", ids=False), [Row(0, 1000, 0, 5, 1, 1)] * 9, set())
@example(Terms("1s", lateness_s=0), [Row(i % 2, 2000, 0, 5, 1, -1) for i in range(40)], set())
def test_both_ways_give_the_same_rows_and_the_same_snapshot(terms: Terms, rows: list[Row], cuts: set[int]) -> None:
    trades = trades_of(rows, terms)
    short, general = kernel_of(terms, general=False), kernel_of(terms, general=True)
    assert run(short, trades, terms, cuts) == run(general, trades, terms, cuts)
    states = state_of(short), state_of(general)
    # An ordinary void id is not noted in the specs that the root feeds.
    noted = [name for name in states[0] if not name.startswith("pasts") or all(row.size for row in rows)]
    assert [name for name in noted if states[0][name] != states[1][name]] == []
    assert not general.ordinary_closes


@pytest.mark.parametrize("specs", ["1s", "1s,5s,1m", "5s,1s,1d"])
@pytest.mark.parametrize("ids", [True, False])
@pytest.mark.parametrize("alone", [True, False])
def test_ordinary_bars_are_closed_the_short_way(specs: str, ids: bool, alone: bool) -> None:
    terms = Terms(specs, ids)
    kernel = kernel_of(terms, general=False)
    trades = trades_of([Row(i % SYMBOLS, 333, 0, 5, 1, 1) for i in range(600)], terms)
    said = run(kernel, trades, terms, range(1, 600) if alone else [])
    closed = sum(len(issued) for issued, _ in said) // ROW_DTYPE.itemsize
    # All but the first few, for which the tables had to grow.
    assert closed > 190
    assert closed - 8 <= kernel.ordinary_closes < closed


def test_bars_in_doubt_are_not() -> None:
    terms = Terms("1s")
    kernel = kernel_of(terms, general=False)
    rows = [Row(0, 1000, 3, 5, 1, 1)] * 50  # behind each a hole
    assert len(run(kernel, trades_of(rows, terms), terms, [])[0][0])
    assert not kernel.ordinary_closes
