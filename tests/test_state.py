"""The kernel's state: how large it is, that ticks allocate nothing, bars in progress, specs that feed each other."""

from __future__ import annotations

import gc
import sys
from decimal import Decimal

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings

from examples import examples
from fastbars._agg import BarKernel
from fastbars.bars import CloseReason
from fastbars.buffer import BarBuffer
from fastbars.errors import InvalidTickError, PrecisionError, SpecError
from fastbars.kernel.batch import TickBatch
from fastbars.kernel.ids import Ledger
from fastbars.kernel.instruments import Instruments
from fastbars.kernel.rows import IssuedRows
from fastbars.kernel.table import RECORD_BYTES, SLOT_BYTES
from fastbars.specs import parse_specs
from fastbars.ticks import TickData
from oracle import Trade
from strategies import (
    MINUTE,
    NESTED_SPECS,
    PATH_SPECS,
    SECOND,
    Flush,
    Scenario,
    buffer_for,
    expected,
    line_of,
    oracle_for,
    replay,
    scenarios,
)

Columns = dict[str, npt.NDArray[np.int64]]
SIX_SPECS = "1s,5s,1m,5m,15m,1h"


def feed(*rows: tuple[float, int]) -> tuple[Trade, ...]:
    return tuple(Trade("A", round(s * SECOND), Decimal(i), Decimal(1), 1, i, i) for s, i in rows)


# A minute closed early goes on being amended while seconds within it open and close.
FLUSHED_MINUTE = Scenario(
    ("1m", "1s", "5m"), "contiguous", 0, 60, (*feed((1, 1), (2, 2)), Flush(None), *feed((3, 3), (3.5, 4), (61, 5)))
)


def long_columns(rows: int, symbols: int = 3) -> Columns:
    """Trades in time order, ids contiguous a symbol; long enough to be checked as they are folded in."""
    symbol_id = np.arange(rows) * 7 // 5 % symbols
    ids = np.empty(rows, np.int64)
    for symbol in range(symbols):
        ids[symbol_id == symbol] = np.arange(np.count_nonzero(symbol_id == symbol)) + 5
    return {
        "time_ns": np.arange(rows) * (SECOND // 100),
        "symbol_id": symbol_id,
        "price": 100 + np.arange(rows) * 37 % 101,
        "size": 1 + np.arange(rows) * 11 % 13,
        "side": np.arange(rows) % 3 - 1,
        "first_id": ids,
        "last_id": ids,
    }


def contents(given: IssuedRows | npt.NDArray[np.void]) -> list[tuple[object, ...]]:
    """All fields but the row of the batch and the padding."""
    rows = np.asarray(given)
    names = [name for name in rows.dtype.names or () if name != "row" and rows.dtype[name] != np.dtype("V7")]
    return list(rows[names].tolist())


def instruments_of(symbols: int = 3) -> Instruments:
    instruments = Instruments("test")
    for symbol in range(symbols):
        instruments.add(f"S{symbol}", 2, 3)
    return instruments


def test_an_open_bar_takes_304_bytes_at_most_and_a_closed_one_240() -> None:
    assert SLOT_BYTES <= 304
    assert RECORD_BYTES <= 240


@pytest.mark.parametrize("specs", ["1h", SIX_SPECS.replace("1s,5s,", ""), "tick:1000000", "1h,volume:1000000000"])
def test_ticks_inside_open_bars_allocate_nothing(specs: str) -> None:
    instruments = instruments_of()
    kernel = BarKernel(instruments, parse_specs(specs), Ledger())
    columns = long_columns(1000)
    parts = [
        TickBatch.from_columns(instruments, **{name: column[start : start + 100] for name, column in columns.items()})
        for start in range(0, 1000, 100)
    ]
    for part in parts[:5]:
        kernel.update(part)
    gc.collect()
    before = sys.getallocatedblocks()
    for part in parts[5:]:
        kernel.update(part)
    # A few blocks for this loop's own objects; an allocation a tick would be 500.
    assert sys.getallocatedblocks() - before <= 10


# Bars in progress.


@settings(max_examples=examples(150))
@given(scenarios(specs=(*NESTED_SPECS, *PATH_SPECS), most_specs=5, trades_only=True, most_events=30))
def test_a_bar_in_progress_is_what_a_flush_would_give_and_reading_it_changes_nothing(scenario: Scenario) -> None:
    buffer, undisturbed = buffer_for(scenario), buffer_for(scenario)
    for event in scenario.events:
        assert isinstance(event, Trade)
        batch, other = buffer.new_batch(), undisturbed.new_batch()
        batch.append(*event, time_unit="ns")
        other.append(*event, time_unit="ns")
        assert buffer.add_batch(batch) == undisturbed.add_batch(other)
        for spec in scenario.specs:
            buffer.current(event.symbol, spec)
    symbols = {event.symbol for event in scenario.events if isinstance(event, Trade)}
    waited = buffer.stats.series
    shown = {symbol: [buffer.current(symbol, spec) for spec in scenario.specs] for symbol in symbols}
    closed = buffer.flush_all()
    assert closed == undisturbed.flush_all()
    if buffer.stats.series > waited:
        return  # trades that waited for others of a new series of ids were taken first
    # A flush goes by the first trade of each symbol that was in a bar, which need not be its first row with a size.
    by_symbol = [bar for symbol in dict.fromkeys(bar.symbol for bar in closed) for bar in shown.pop(symbol)]
    assert not any(bar for bars in shown.values() for bar in bars)
    values = [line_of(bar)._replace(status="", close_reason="") for bar in by_symbol if bar is not None]
    assert values == [line_of(bar)._replace(status="", close_reason="") for bar in closed]


def test_a_bar_in_progress_shows_what_is_known_about_it_now() -> None:
    buffer = BarBuffer(["1m", "1s", "tick:10"], ids="contiguous")
    assert buffer.current("A", "1m") is None
    buffer.add_tick(TickData("A", 0, 5, 1, "buy", 1))
    bar = buffer.current("A", "1m")
    assert bar is not None
    assert (bar.status, bar.close_reason, bar.revision) == ("PARTIAL", CloseReason.OPEN, 0)
    buffer.add_tick(TickData("A", MINUTE, 6, 1, "sell", 2))
    buffer.add_tick(TickData("A", MINUTE + SECOND, 7, 2, "buy", 3))
    bar = buffer.current("A", 60)
    assert bar is not None
    assert (bar.status, bar.trade_count) == ("PROVISIONAL", 2)
    assert (bar.open, bar.close) == (Decimal(6), Decimal(7))
    assert (bar.volume, bar.quote_volume, bar.taker_buy_volume) == (Decimal(3), Decimal(20), Decimal(2))
    assert bar.first_trade_id == 2
    buffer.add_tick(TickData("A", MINUTE + SECOND, 8, 1, "buy", 5))
    statuses = [bar.status for spec in buffer.specs if (bar := buffer.current("A", spec)) is not None]
    assert statuses == ["GAP", "GAP", "GAP"]
    buffer.flush_all()
    assert buffer.current("A", "1m") is None
    with pytest.raises(SpecError, match="bar spec 5m is not one of 1m, 1s, tick:10"):
        buffer.current("A", "5m")


def test_without_ids_a_bar_in_progress_is_unverifiable() -> None:
    buffer = BarBuffer("1m")
    buffer.add_tick(TickData("A", 0, 5, 1))
    buffer.add_tick(TickData("A", MINUTE, 5, 1))
    bar = buffer.current("A", "1m")
    assert bar is not None
    assert (bar.status, bar.first_trade_id) == ("UNVERIFIABLE", None)


# Specs that feed each other.


@settings(max_examples=examples(200))
@given(scenarios(specs=NESTED_SPECS, most_specs=6))
@example(FLUSHED_MINUTE)
def test_specs_that_feed_each_other_give_the_bars_of_the_oracle(scenario: Scenario) -> None:
    assert replay(buffer_for(scenario), scenario.events, scenario.cuts) == expected(
        oracle_for(scenario), scenario.events
    )


@pytest.mark.parametrize("specs", [("1s", "1m", "1h"), ("1h", "1m", "1s"), ("7s", "5s", "35s", "1m")])
def test_a_sum_that_overflows_only_above_names_the_row_at_which_it_does(specs: tuple[str, ...]) -> None:
    # Each second fits; the hour does not. The row is that of the hour, not that of the second's end.
    instruments = Instruments("test")
    instruments.add("A")
    largest = 2**63 - 1
    seconds = np.array([0, 1, 2, 2])
    ids = np.arange(4)
    columns = {"time_ns": seconds * SECOND, "symbol_id": ids * 0, "price": ids * 0 + largest, "size": ids * 0 + largest}
    for rows in (1, 2, 4):
        kernel = BarKernel(instruments, parse_specs(list(specs)), Ledger())
        failed = []
        for start in range(0, 4, rows):
            part = {name: column[start : start + rows] for name, column in columns.items()}
            batch = TickBatch.from_columns(
                instruments, **part, first_id=ids[start : start + rows], last_id=ids[start : start + rows]
            )
            try:
                kernel.update(batch)
            except PrecisionError as error:
                failed.append((start, error.row))
        assert failed[0] == (2 // rows * rows, 2 % rows)


@pytest.mark.parametrize("specs", ["1h", "1s,1m,1h", "tick:1000"])
@pytest.mark.parametrize("rows", [1, 40])
def test_a_sum_of_both_sides_overflows_where_neither_side_does(specs: str, rows: int) -> None:
    # Both sides of the taker are summed apart; what must fit is the whole.
    instruments = Instruments("test")
    instruments.add("A")
    price, size, places = 2**62, 2**60 + 12345, np.arange(40)
    columns = {
        "time_ns": places * SECOND, "symbol_id": places * 0, "price": places * 0 + price, "size": places * 0 + size,
        "side": 1 - places % 2 * 2, "first_id": places, "last_id": places,
    }  # fmt: skip
    first_beyond = next(row for row in range(40) if price * size * (row + 1) >= 2**127)
    assert price * size * (first_beyond // 2 + 1) < 2**127
    kernel = BarKernel(instruments, parse_specs(specs), Ledger())
    failed = []
    for start in range(0, 40, rows):
        part = {name: column[start : start + rows] for name, column in columns.items()}
        try:
            kernel.update(TickBatch.from_columns(instruments, **part))
        except PrecisionError as error:
            failed.append(start + (error.row or 0))
    assert failed[0] == first_beyond


@pytest.mark.parametrize("specs", ["1h", "1s,1h", "tick:1000"])
def test_a_scale_is_not_followed_by_a_bar_whose_sides_fit_it_apart_alone(specs: str) -> None:
    # Ten times the quote sum of four trades fits 128 bits, ten times that of five does not.
    price, size = 2**62, 9 * 10**17
    assert 40 * price * size < 2**127 <= 50 * price * size
    for sides in ((1, 1, -1, -1), (1, 1, 1, 1), (1, 1, 1, -1, -1), (1, 1, 1, 1, 1)):
        instruments = Instruments("test")
        instruments.add("A")
        kernel = BarKernel(instruments, parse_specs(specs), Ledger())
        for row, side in enumerate(sides):
            batch = TickBatch(instruments)
            batch.append("A", row * SECOND, price, size, side, first_id=row, last_id=row)
            kernel.update(batch)
        batch = TickBatch(instruments)
        batch.append("A", 5 * SECOND, 1, "0.1", 1, first_id=len(sides), last_id=len(sides))
        if len(sides) == 4:
            kernel.update(batch)
        else:
            with pytest.raises(PrecisionError, match="do not fit 128"):
                kernel.update(batch)


# A long batch, which is checked as it is folded in.

FLAWS = {
    "symbol id": ("symbol_id", (-1, 3, 2**31 - 1)),
    "price": ("price", (0, -1, -(2**63))),
    "size": ("size", (0, -5, -(2**63))),
    "time_ns": ("time_ns", (2**63 - 1, -(2**63), 4_600_000_000_000_000_001)),
    "side": ("side", (2, -2, 127, -128)),
    "first_id": ("first_id", (-1, -(2**63))),
}


@pytest.mark.parametrize("ids", [True, False])
@pytest.mark.parametrize("place", [0, 1, 4097, 19_999])
@pytest.mark.parametrize("before", [0, 5000], ids=["the first batch", "a later batch"])
@pytest.mark.parametrize("specs", ["1s,1m", "tick:7,volume:9"])
@pytest.mark.parametrize("name", FLAWS)
def test_a_flaw_in_a_long_batch_names_the_row_and_changes_nothing(
    name: str, specs: str, before: int, place: int, ids: bool
) -> None:
    column, values = FLAWS[name]
    instruments = instruments_of()
    columns = long_columns(before + 20_000)
    good = {name: values[before:] for name, values in columns.items()}
    for value in values:
        if ids and column == "size" and value == 0:
            continue  # a void id is no flaw
        bad = dict(good)
        bad[column] = bad[column].copy()
        if column == "first_id":
            bad["last_id"] = bad["last_id"].copy()
        bad[column][place] = value
        kernels = [BarKernel(instruments, parse_specs(specs), Ledger() if ids else None) for _ in range(2)]
        for kernel in kernels:
            kernel.update(
                TickBatch.from_columns(instruments, **{name: each[:before] for name, each in columns.items()})
            )
        with pytest.raises(InvalidTickError, match=f"row {place}: {name} ") as caught:
            kernels[0].update(TickBatch.from_columns(instruments, **bad))
        assert caught.value.row == place
        rows = [kernel.update(TickBatch.from_columns(instruments, **good))[0] for kernel in kernels]
        assert contents(rows[0]) == contents(rows[1])
        assert contents(kernels[0].flush()) == contents(kernels[1].flush())


@pytest.mark.parametrize("specs", ["1s,1m,7s,tick:50,volume:2,value:300", "tick:50,volume:2,value:300"])
@pytest.mark.parametrize("with_counts", [True, False])
@pytest.mark.parametrize("symbols", [1, 3, 40])
@pytest.mark.parametrize("factor", [1, 10**12, 4 * 10**15])
def test_a_long_batch_gives_the_bars_of_its_rows_one_by_one(
    factor: int, symbols: int, with_counts: bool, specs: str
) -> None:
    # With the largest sizes do not sum within 64 bits, nor is it certain beforehand that all sums fit 128.
    instruments = instruments_of(symbols)
    columns = long_columns(6000, symbols)
    columns["size"] = columns["size"] * factor
    columns["price"] = columns["price"] * factor
    if with_counts:
        columns["count"] = 1 + np.arange(6000) % 4
    whole = BarKernel(instruments, parse_specs(specs), Ledger())
    single = BarKernel(instruments, whole.specs, Ledger())
    rows = [whole.update(TickBatch.from_columns(instruments, **columns))[0], whole.flush()]
    parts = []
    for row in range(6000):
        part = {name: column[row : row + 1] for name, column in columns.items()}
        parts.append(single.update(TickBatch.from_columns(instruments, **part))[0])
    parts.append(single.flush())
    assert contents(np.concatenate(rows)) == contents(np.concatenate(parts))


def test_times_that_run_backwards_go_to_the_bars_they_belong_to() -> None:
    instruments = instruments_of(1)
    columns = long_columns(200, 1)
    columns["time_ns"] = columns["time_ns"][::-1].copy()
    kernel = BarKernel(instruments, parse_specs("1s"), Ledger())
    rows, late = kernel.update(TickBatch.from_columns(instruments, **columns))
    assert not late
    last = {row["open_time"]: row["count"] for row in np.concatenate([rows, kernel.flush()])}
    assert last == {0: 100, SECOND: 100}


def test_columns_that_are_strided_or_read_only_give_the_same_bars() -> None:
    instruments = instruments_of()
    columns = long_columns(2000)
    strided = {name: np.repeat(column, 2)[::2] for name, column in columns.items()}
    for column in columns.values():
        column.flags.writeable = False
    rows = [
        BarKernel(instruments, parse_specs("1s"), Ledger()).update(TickBatch.from_columns(instruments, **given))[0]
        for given in (columns, strided)
    ]
    assert len(rows[0])
    assert contents(rows[0]) == contents(rows[1])


def test_the_ledger_reads_what_the_kernel_took_without_asking_it_and_outlives_it() -> None:
    instruments = instruments_of(1)
    ledger = Ledger()
    kernel = BarKernel(instruments, parse_specs("1h"), ledger)
    kernel.update(TickBatch.from_columns(instruments, **long_columns(50, 1)))
    assert ledger.expected(0) == 55
    del kernel
    gc.collect()
    assert ledger.expected(0) == 55
