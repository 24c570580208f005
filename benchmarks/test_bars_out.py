"""What one bar costs on its way out: to the callback, to whoever asks for the bar in progress, to objects, to text."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from benchmarks.yardstick import ROUNDS, TRIES, assert_ns
from fastbars import BarBuffer, OHLCVBar
from fastbars._agg import BarKernel
from fastbars.bars import parse_specs
from fastbars.cli.output import BarText, csv_line, json_line
from fastbars.columnar.bar_batch import BarBatch
from fastbars.kernel.batch import TickBatch
from fastbars.kernel.ids import Ledger
from fastbars.kernel.rows import IssuedRows

SECOND = 1_000_000_000
T0 = 1_700_000_040 * SECOND
BARS = 1_000
SYMBOLS = 20
NAMES = [f"S{place}USDT" for place in range(SYMBOLS)]


def issued(buffer: BarBuffer, *, trades: int = 7) -> IssuedRows:
    """BARS rows of bars whose prices and sums differ from each other, as a kernel issues them."""
    draw = np.random.default_rng(1)
    kernel = BarKernel(buffer.instruments, buffer.specs, Ledger())
    batch = TickBatch(buffer.instruments)
    for bar in range(BARS + 1):
        for trade in range(trades):
            place = bar * trades + trade
            price, size = 6_000_000 + int(draw.integers(-500, 500)), 1 + int(draw.integers(0, 10**6))
            time_ns = T0 + bar * SECOND + trade
            batch.append("BTCUSDT", time_ns, f"{price / 100:.2f}", f"{size / 10**5:.5f}", 1 - 2 * (place % 2), place)
    rows, _ = kernel.update(batch)
    assert len(rows) == BARS
    return rows


@pytest.fixture(scope="module")
def buffer() -> BarBuffer:
    return BarBuffer("1s", ids="contiguous", exchange="binance", market="spot")


@pytest.fixture(scope="module")
def rows(buffer: BarBuffer) -> IssuedRows:
    return issued(buffer)


def trades(part: int) -> list[tuple[str, int, str, str, str, int]]:
    """Two trades a bar of each symbol, as texts; each part goes on where the last one ended."""
    first = part * BARS // SYMBOLS
    return [
        (
            symbol,
            T0 + bar * SECOND + trade,
            f"6{bar % 97:03}.{trade}{place}",
            f"0.0{bar % 89 + trade + 1}",
            side,
            2 * bar + trade,
        )
        for bar in range(first, first + BARS // SYMBOLS)
        for trade, side in enumerate(("buy", "sell"))
        for place, symbol in enumerate(NAMES)
    ]


@pytest.mark.parametrize("name", ["on_bar", "on_bars"])
def test_a_finished_bar_to_the_callback(name: str) -> None:
    # All of it: two trades from text, the kernel's close, the object, the call.
    taken: deque[object] = deque(maxlen=BARS)
    callback: dict[str, Any] = {name: taken.append}
    add = BarBuffer("1s", ids="contiguous", **callback).add
    parts = iter([trades(part) for part in range(2 + ROUNDS * TRIES)])

    def work() -> None:
        for trade in next(parts):
            add(*trade)

    work()
    taken.clear()
    work()
    assert len(taken) == BARS
    assert_ns(f"a finished bar of two trades to {name}", work, BARS, 2_500)


def test_the_bar_in_progress() -> None:
    buffer = BarBuffer(["1s", "1m", "1h"], ids="contiguous")
    for place in range(100):
        buffer.add(NAMES[place % SYMBOLS], T0 + place, f"6000{place % 7}.12", f"0.0{place + 1}", "buy", place // 20)
    symbol = NAMES[3]

    def work() -> None:
        for _ in range(BARS):
            buffer.current(symbol, "1h")

    bar = buffer.current(symbol, "1h")
    assert bar is not None
    assert bar.trade_count == 5
    assert_ns("current(symbol, spec)", work, BARS, 2_500)


def test_rows_to_objects(buffer: BarBuffer, rows: IssuedRows) -> None:
    assert len({(bar.open, bar.high, bar.low, bar.close) for bar in buffer.bars_of(rows)}) == BARS
    assert_ns("OHLCVBar", lambda: buffer.bars_of(rows), BARS, 1_400)


def test_rows_with_sums_beyond_64_bits_to_objects(buffer: BarBuffer, rows: IssuedRows) -> None:
    wide = rows.array().copy()
    for name in ("volume", "quote_volume", "taker_volume", "taker_quote_volume"):
        wide[name]["hi"] = 5
    made = BarBatch(wide, buffer.instruments, parse_specs("1s"), ids=True)
    assert min(bar.taker_buy_volume or 0 for bar in made) * 10**5 > 2**64
    assert_ns("OHLCVBar, sums beyond 64 bits", made.to_bars, BARS, 2_000)


def test_one_bar_of_a_batch(buffer: BarBuffer, rows: IssuedRows) -> None:
    made = BarBatch(rows, buffer.instruments, parse_specs("1s"), ids=True)
    assert_ns("batch[i]", lambda: [made[place] for place in range(BARS)], BARS, 4_500)


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_rows_to_lines_of_the_command(buffer: BarBuffer, rows: IssuedRows, form: str) -> None:
    text = BarText(form)
    assert_ns(f"a line of {form}, from the row", lambda: text.lines(buffer, rows), BARS, 1_500)


@pytest.mark.parametrize("line", [csv_line, json_line])
def test_objects_to_lines_of_the_command(buffer: BarBuffer, rows: IssuedRows, line: Callable[[OHLCVBar], str]) -> None:
    made = buffer.bars_of(rows)
    assert_ns(f"{line.__name__}, from the object", lambda: list(map(line, made)), BARS, 2_500)
