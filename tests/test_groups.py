"""Symbols in groups: each has the bars that it would have alone, with its group's watermark as its own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from examples import examples
from fastbars._agg import BarKernel
from fastbars.bars import REASONS, CloseReason, OHLCVBar
from fastbars.buffer import BarBuffer
from fastbars.errors import PrecisionError
from fastbars.kernel.batch import TickBatch
from fastbars.kernel.instruments import Instruments
from fastbars.kernel.rows import IssuedRows
from fastbars.specs import parse_specs
from oracle import Trade
from strategies import SECOND, SYMBOLS, Clock, Event, Flush, Heal, Scenario, Watermark, buffer_for, line_of, scenarios

LOWEST, HIGHEST = -(2**63), 2**63 - 1
WATERMARK = REASONS.index(CloseReason.WATERMARK)
GROUPS = 4
Bars = dict[str, list[Any]]


class Grouped:
    """A buffer whose symbols are in groups, each with a watermark of its own."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.buffer = buffer_for(scenario)
        self.bars: Bars = defaultdict(list)
        self.ids = {symbol: self.buffer.instruments.add(symbol) for symbol in SYMBOLS}
        while self.kernel.groups < GROUPS:
            self.kernel.add_group()

    @property
    def kernel(self) -> BarKernel:
        return self.buffer._kernel

    def move(self, symbol: str, group: int) -> None:
        self.kernel.set_group([self.ids[symbol]], group)

    def watermark(self, time_ns: int, group: int) -> None:
        self.kernel.advance_watermark(time_ns, group)
        self.issue(self.buffer.issue(self.kernel.close_until(time_ns - self.buffer.grace_ns, WATERMARK, group)))

    def give(self, event: Event) -> None:
        self.issue(given_to(self.buffer, event))

    def issue(self, bars: Sequence[OHLCVBar]) -> None:
        for bar in bars:
            self.bars[bar.symbol].append(line_of(bar))

    def restart(self) -> None:
        content = self.buffer.dump()
        self.buffer = buffer_for(self.scenario)
        for symbol in SYMBOLS:
            self.buffer.instruments.add(symbol)
        self.buffer.load(content, continues=True)


class Apart:
    """The same, with a buffer for each symbol."""

    def __init__(self, scenario: Scenario) -> None:
        self.buffers = {symbol: buffer_for(scenario) for symbol in SYMBOLS}
        self.groups = dict.fromkeys(SYMBOLS, 0)
        self.watermarks = [LOWEST] * GROUPS
        self.bars: Bars = {symbol: [] for symbol in SYMBOLS}

    def move(self, symbol: str, group: int) -> None:
        self.groups[symbol] = group
        self.buffers[symbol]._kernel.advance_watermark(self.watermarks[group])

    def watermark(self, time_ns: int, group: int) -> None:
        self.watermarks[group] = max(self.watermarks[group], time_ns)
        for symbol, own in self.groups.items():
            if own == group:
                self.bars[symbol] += map(line_of, self.buffers[symbol].advance_watermark(time_ns))

    def give(self, event: Event) -> None:
        for symbol, buffer in self.buffers.items():
            of_one = event.symbol if isinstance(event, Trade | Flush) else None
            if isinstance(event, Heal):
                of_one = event.trades[0].symbol
            if of_one in (None, symbol):
                self.bars[symbol] += map(line_of, given_to(buffer, event))


def given_to(buffer: BarBuffer, event: Event) -> list[OHLCVBar]:
    if isinstance(event, Clock):
        return buffer.advance_clock(event.time_ns, feed_up=event.feed_up)
    if isinstance(event, Flush):
        return buffer.flush_all() if event.symbol is None else buffer.flush_symbol(event.symbol)
    batch = buffer.new_batch()
    if isinstance(event, Trade):
        batch.append(*event, time_unit="ns")
        return buffer.add_batch(batch)
    assert isinstance(event, Heal)
    for trade in event.trades:
        batch.append(*trade, time_unit="ns")
    return buffer.heal(batch) if buffer.ids == "contiguous" else []


@given(scenarios(), st.lists(st.tuples(st.integers(0, 40), st.sampled_from(SYMBOLS), st.integers(0, GROUPS - 1))),
       st.integers(0, 60))  # fmt: skip
@settings(max_examples=examples(300))
def test_the_symbols_of_any_groups_have_the_bars_that_each_would_have_alone(
    scenario: Scenario, moves: list[tuple[int, str, int]], restarts_at: int
) -> None:
    grouped, apart = Grouped(scenario), Apart(scenario)
    for place, event in enumerate(scenario.events):
        for at, symbol, group in moves:
            if at == place:
                grouped.move(symbol, group)
                apart.move(symbol, group)
        if place == restarts_at:
            grouped.restart()
        for each in (grouped, apart):
            if isinstance(event, Watermark):
                each.watermark(event.time_ns, place % GROUPS)
            else:
                each.give(event)
    for each in (grouped, apart):
        each.give(Flush(None))
    assert {symbol: grouped.bars[symbol] for symbol in SYMBOLS} == apart.bars


def batch_of(instruments: Instruments, *trades: tuple[str, float]) -> TickBatch:
    batch = TickBatch(instruments, ids=False)
    for symbol, second in trades:
        batch.append(symbol, round(second * SECOND), "5", "1", time_unit="ns")
    return batch


def kernel_of(symbols: str, spec: str = "10s") -> tuple[BarKernel, Instruments]:
    instruments = Instruments()
    for symbol in symbols:
        instruments.add(symbol)
    return BarKernel(instruments, parse_specs(spec)), instruments


def closed(rows: IssuedRows) -> list[tuple[int, int]]:
    return [(int(row["symbol_id"]), int(row["close_time"]) // SECOND) for row in rows]


def test_time_that_passes_for_one_group_closes_no_bar_of_another() -> None:
    kernel, instruments = kernel_of("AB")
    assert kernel.add_group() == 1
    kernel.set_group([1], 1)
    kernel.update(batch_of(instruments, ("A", 1), ("B", 2)))
    assert (kernel.next_close_in(0), kernel.next_close_in(1)) == (10 * SECOND, 10 * SECOND)
    assert closed(kernel.close_until(60 * SECOND, WATERMARK, 1)) == [(1, 10)]
    assert (kernel.next_close_in(0), kernel.next_close_in(1)) == (10 * SECOND, HIGHEST)
    assert kernel.next_close_ns == 10 * SECOND
    assert closed(kernel.close_until(60 * SECOND, WATERMARK)) == [(0, 10)]


def test_a_symbol_takes_its_next_closing_to_the_group_that_it_moves_to() -> None:
    kernel, instruments = kernel_of("AB")
    kernel.update(batch_of(instruments, ("A", 1), ("B", 12)))
    kernel.add_group()
    kernel.set_group([1], 1)
    assert kernel.next_close_in(1) == 20 * SECOND
    kernel.set_group([0], 1)
    assert kernel.next_close_in(1) == 10 * SECOND
    assert [kernel.group_of(symbol_id) for symbol_id in (0, 1)] == [1, 1]
    assert closed(kernel.close_until(60 * SECOND, WATERMARK)) == []  # nobody is left in it
    assert closed(kernel.close_until(60 * SECOND, WATERMARK, 1)) == [(0, 10), (1, 20)]


def test_the_event_time_of_a_symbol_does_not_fall_in_a_group_that_is_behind() -> None:
    kernel, instruments = kernel_of("A")
    kernel.update(batch_of(instruments, ("A", 1)))
    kernel.advance_watermark(100 * SECOND)
    kernel.add_group()
    kernel.set_group([0], 1)
    assert kernel.watermark_of(0) == 100 * SECOND
    kernel.advance_watermark(90 * SECOND, 1)
    assert kernel.watermark_of(0) == 100 * SECOND
    kernel.advance_watermark(110 * SECOND, 1)
    assert kernel.watermark_of(0) == 110 * SECOND


def test_a_symbol_that_has_not_traded_has_seen_no_watermark() -> None:
    kernel, _ = kernel_of("A")
    kernel.advance_watermark(100 * SECOND)
    kernel.add_group()
    kernel.set_group([0], 1)
    assert kernel.watermark_of(0) == LOWEST


def test_a_trade_is_late_by_the_watermark_of_its_own_group() -> None:
    instruments = Instruments()
    kernel = BarKernel(instruments, parse_specs("1s"), lateness_ns=30 * SECOND, horizon_ns=30 * SECOND)
    for symbol in "AB":
        instruments.add(symbol)
    kernel.add_group()
    kernel.set_group([1], 1)
    for second in (1, 2):
        kernel.update(batch_of(instruments, ("A", second), ("B", second)))
    kernel.advance_watermark(100 * SECOND, 1)
    for second in (3, 4):
        kernel.update(batch_of(instruments, ("A", second), ("B", second)))
    rows, late = kernel.update(batch_of(instruments, ("A", 1.5), ("B", 1.5)))
    assert closed(rows) == [(0, 2)]
    assert late == [(1, 0)]


def test_time_does_not_pass_for_a_symbol_whose_trades_wait_elsewhere() -> None:
    kernel, instruments = kernel_of("AB")
    kernel.update(batch_of(instruments, ("A", 1), ("B", 2)))
    kernel.hold(0, True)
    assert closed(kernel.close_until(15 * SECOND, WATERMARK)) == [(1, 10)]
    assert kernel.next_close_ns == HIGHEST  # nobody looks again and again at what waits
    kernel.hold(0, False)
    assert kernel.next_close_ns == 10 * SECOND
    assert closed(kernel.close_until(15 * SECOND, WATERMARK)) == [(0, 10)]


def test_a_group_begins_anew_only_without_symbols() -> None:
    kernel, instruments = kernel_of("AB")
    kernel.add_group()
    kernel.advance_watermark(100 * SECOND, 1)
    kernel.restart_group(1, 50 * SECOND)
    kernel.set_group([0], 1)
    assert kernel.watermark_of(0) == 50 * SECOND
    with pytest.raises(ValueError, match="group 1 still has A"):
        kernel.restart_group(1, 0)
    kernel.update(batch_of(instruments, ("A", 1)))
    assert kernel.next_close_in(1) == 10 * SECOND


def test_groups_and_symbols_that_are_not_there_are_refused() -> None:
    kernel, _ = kernel_of("A")
    for group in (-1, 1, 2**31 - 1):
        with pytest.raises(IndexError, match=f"group {group} is outside the 1"):
            kernel.close_until(5, WATERMARK, group)
        with pytest.raises(IndexError, match=f"group {group} is outside the 1"):
            kernel.advance_watermark(5, group)
        with pytest.raises(IndexError, match=f"group {group} is outside the 1"):
            kernel.set_group([0], group)
    kernel.add_group()
    with pytest.raises(IndexError, match="symbol id 1 is outside the 1"):
        kernel.set_group([0, 1], 1)
    assert kernel.group_of(0) == 0  # all or nothing
    with pytest.raises(IndexError, match="symbol id -1 is outside the 1"):
        kernel.hold(-1, True)


def test_a_batch_that_is_undone_leaves_groups_and_what_closes_next_in_them_as_they_were() -> None:
    kernel, instruments = kernel_of("AB")
    kernel.add_group()
    kernel.set_group([1], 1)
    kernel.update(batch_of(instruments, ("B", 1)))
    huge = TickBatch(instruments, ids=False)
    for symbol in "AB":
        for _ in range(30):
            huge.append(symbol, 25 * SECOND, str(9 * 10**18), str(9 * 10**18), time_unit="ns")
    with pytest.raises(PrecisionError):
        kernel.update(huge)
    assert (kernel.next_close_in(0), kernel.next_close_in(1)) == (HIGHEST, 10 * SECOND)
    kernel.update(batch_of(instruments, ("A", 21)))
    assert closed(kernel.close_until(60 * SECOND, WATERMARK, 1)) == [(1, 10)]
    assert closed(kernel.close_until(60 * SECOND, WATERMARK, 0)) == [(0, 30)]


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("groups", [], "no groups"),
        ("groups", [[5]], "not pairs of times"),
        ("groups", [[5, 2**63]], "64 bits"),
        ("groups", [[0, 0], [2**62 + 2**61, HIGHEST]], "watermark 6917529027641081856 ns is out of range"),
        ("groups", [[0, HIGHEST]], "no group for B"),
        ("groups", [[0, 0], [0, HIGHEST]], "bar of B would be closed too late"),
        ("members", b"", "members have 0 bytes"),
    ],
)
def test_groups_of_a_snapshot_are_checked(name: str, value: Any, why: str) -> None:
    kernel, instruments = kernel_of("AB")
    kernel.add_group()
    kernel.set_group([1], 1)
    kernel.update(batch_of(instruments, ("A", 1), ("B", 1)))
    content = kernel.dump()
    other = BarKernel(instruments, parse_specs("10s"))
    with pytest.raises(ValueError, match=why):
        other.load(content | {name: value})
    assert other.groups == 1
    other.load(content)
    assert (other.groups, other.group_of(1)) == (2, 1)
    assert closed(other.close_until(60 * SECOND, WATERMARK, 1)) == [(1, 10)]
