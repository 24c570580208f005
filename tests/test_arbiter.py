"""Two lines, one stream: what goes on is every trade once, in order, as soon as either line has brought it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, strategies as st

from fastbars import BarBuffer, Instruments, TickBatch
from fastbars.kernel.arbiter import Arbiter
from fastbars.kernel.scaled import to_text

WAIT_NS = 100


class Brought(NamedTuple):
    """A wakeup: which line brought which ids, and when."""

    line: int
    at_ns: int
    ids: tuple[int, ...]


class Lines:
    """An arbiter with what it has let through so far."""

    def __init__(self, lines: int = 2, wait_ns: int = WAIT_NS) -> None:
        self.instruments = Instruments("x")
        self.batch = TickBatch(self.instruments, counts=True)
        self.arbiter = Arbiter(TickBatch(self.instruments, counts=True), lines, wait_ns)

    def bring(self, line: int, at_ns: int, *ids: int, symbol: str = "A", price: str = "1") -> list[int]:
        self.batch.clear()
        for trade_id in ids:
            self.batch.append(symbol, trade_id, price, "1", 1, trade_id)
        return ids_of(self.arbiter.take(self.batch, line, at_ns))


def ids_of(batch: TickBatch) -> list[int]:
    column = batch.column("first_id")
    assert column is not None
    return [int(each) for each in column]


def test_of_two_arrivals_the_first_goes_on_and_the_second_is_dropped() -> None:
    lines = Lines()
    assert lines.bring(0, 0, 1, 2, 3) == [1, 2, 3]
    assert lines.bring(1, 5, 1, 2, 3, 4) == [4]
    assert lines.bring(0, 9, 4, 5) == [5]
    assert lines.arbiter.duplicates == 4


def test_a_batch_of_which_every_row_is_next_goes_on_as_it_is() -> None:
    lines = Lines()
    for line, ids, goes_on in (
        (0, (1, 2), True),
        (1, (1, 2), False),
        (1, (3,), True),
        (1, (5,), False),
        (0, (4,), False),
    ):
        lines.batch.clear()
        for trade_id in ids:
            lines.batch.append("A", trade_id, "1", "1", 1, trade_id)
        assert (lines.arbiter.take(lines.batch, line, 0) is lines.batch) is goes_on
        assert len(lines.batch) == len(ids)


def test_a_hole_of_one_line_is_filled_from_the_other_in_order() -> None:
    lines = Lines()
    assert lines.bring(0, 0, 1, 2, 5, 6) == [1, 2]
    assert lines.arbiter.held == 2
    assert lines.bring(1, 1, 1, 2, 3) == [3]
    assert lines.bring(1, 2, 4) == [4, 5, 6]
    assert lines.arbiter.held == 0
    assert lines.bring(1, 3, 5, 6, 7) == [7]


def test_what_is_held_goes_on_when_its_time_is_over() -> None:
    lines = Lines()
    lines.bring(0, 0, 1, 4)
    assert lines.arbiter.next_release_ns == WAIT_NS
    assert ids_of(lines.arbiter.expire(WAIT_NS - 1)) == []
    assert ids_of(lines.arbiter.expire(WAIT_NS)) == [4]
    assert lines.arbiter.next_release_ns == 2**63 - 1
    assert lines.bring(1, WAIT_NS + 1, 2, 3, 4) == [2, 3]  # too late for the order; the ledger takes them in


def test_each_hole_has_its_own_time() -> None:
    lines = Lines()
    lines.bring(0, 0, 1, 4)
    lines.bring(0, 50, 8)
    assert lines.bring(0, WAIT_NS, 9) == [4]
    assert lines.bring(0, WAIT_NS + 50, 10) == [8, 9, 10]


def test_what_every_line_has_gone_past_is_not_waited_for() -> None:
    lines = Lines()
    assert lines.bring(0, 0, 1, 2) == [1, 2]
    assert lines.bring(0, 1, 5) == []
    assert lines.bring(1, 2, 6) == [5, 6]


def test_symbols_do_not_wait_for_each_other() -> None:
    lines = Lines()
    lines.bring(0, 0, 1, 3)
    assert lines.bring(0, 1, 70, symbol="B") == [70]
    assert lines.arbiter.held == 1


def test_everything_held_goes_on_at_the_end() -> None:
    lines = Lines()
    lines.bring(0, 0, 1, 3, 9, 5)
    assert ids_of(lines.arbiter.flush()) == [3, 5, 9]
    assert ids_of(lines.arbiter.flush()) == []


def test_a_held_row_follows_a_scale_that_is_widened_meanwhile() -> None:
    lines = Lines()
    lines.bring(0, 0, 1, 3, price="1.5")
    lines.bring(1, 1, 1, price="1.5")
    lines.batch.clear()
    lines.batch.append("A", 2, "1.25", "0.001", 1, 2)
    out = lines.arbiter.take(lines.batch, 1, 2)
    price, size = out.column("price"), out.column("size")
    assert price is not None
    assert size is not None
    scales = out.scales("A")
    assert scales == (2, 3)
    assert [to_text(int(one), scales[0]) for one in price] == ["1.25", "1.5"]
    assert [to_text(int(one), scales[1]) for one in size] == ["0.001", "1"]
    assert lines.instruments.scales("A") == (0, 0)  # until a buffer has taken them


def test_a_held_row_that_a_wider_scale_has_no_room_for_is_refused_and_not_a_void_id() -> None:
    instruments = Instruments("x", negative_prices=True)
    instruments.add("A")
    arbiter = Arbiter(TickBatch(instruments), 2, WAIT_NS)
    one, huge = np.array([1]), np.array([2**62])
    for trade_id, price, size in ((1, one, one), (3, one, huge), (5, -huge, one), (6, one, one)):
        column = np.array([trade_id])
        columns = {"time_ns": one, "symbol_id": one * 0, "price": price, "size": size}
        arbiter.take(TickBatch.wrap(instruments, columns | {"first_id": column, "last_id": column}), 0, 0)
    instruments.add("A", 1, 1)
    buffer = BarBuffer("1m", ids="contiguous", instruments=instruments)
    seen = []
    released = arbiter.expire(WAIT_NS)
    while True:
        prices, sizes = released.column("price"), released.column("size")
        assert prices is not None
        assert sizes is not None
        seen.append((ids_of(released), prices.tolist(), sizes.tolist()))
        buffer.add_live(released)
        if not arbiter.deferred:
            break
        released = arbiter.expire(WAIT_NS)
    assert seen == [([3], [-(2**63)], [-(2**63)]), ([5, 6], [-(2**63), 10], [-(2**63), 10])]
    assert (buffer.stats.refused, buffer.stats.void_ids, buffer.stats.trades) == (2, 0, 1)


def test_rows_that_no_scale_has_room_for_together_go_on_one_batch_after_the_other() -> None:
    lines = Lines()
    lines.bring(0, 0, 1, price="1")
    lines.bring(0, 0, 3, price="1.000000000000000001")
    lines.bring(0, 0, 4, 5, price="60000")
    released = lines.arbiter.expire(WAIT_NS)
    assert (ids_of(released), released.scales("A")) == ([3], (18, 0))
    assert lines.arbiter.deferred
    released = lines.arbiter.expire(WAIT_NS)
    assert (ids_of(released), released.scales("A")) == ([4, 5], (0, 0))
    assert (int(lines.arbiter.deferred), lines.arbiter.held) == (0, 0)


def test_first_arrivals_lead_times_and_misses_are_counted_for_each_line() -> None:
    lines = Lines()
    lines.bring(0, 0, 1, 2)
    lines.bring(1, 30, 1, 2, 3)
    lines.bring(0, 40, 3)
    lines.bring(1, 50, 4)  # line 0 never brings it
    assert lines.arbiter.counted(0) == (2, 1, 0, 2, 60)
    assert lines.arbiter.counted(1) == (2, 2, 0, 1, 10)
    lines.bring(0, 60, *range(5, 5 + 256))
    assert lines.arbiter.counted(0)[2] == 1
    assert lines.arbiter.counted(1)[2] == 0


def test_what_makes_no_sense_is_refused() -> None:
    instruments = Instruments("x")
    with pytest.raises(ValueError, match="lines must be 2 to 8, got 1"):
        Arbiter(TickBatch(instruments), 1, 0)
    with pytest.raises(ValueError, match="wait -1 ns is outside 0 to"):
        Arbiter(TickBatch(instruments), 2, -1)
    with pytest.raises(ValueError, match="redundant lines need trade ids"):
        Arbiter(TickBatch(instruments, ids=False), 2, 0)
    arbiter = Arbiter(TickBatch(instruments), 2, 0)
    with pytest.raises(ValueError, match="line 2 is outside 0 to 1"):
        arbiter.take(TickBatch(instruments), 2, 0)
    with pytest.raises(ValueError, match="line -1 is outside 0 to 1"):
        arbiter.counted(-1)
    with pytest.raises(ValueError, match="belongs to other instruments"):
        arbiter.take(TickBatch(Instruments("y")), 0, 0)


@st.composite
def wakeups(draw: st.DrawFn) -> list[Brought]:
    """Lines that bring parts of the same rising ids, each in order, interleaved in time."""
    count = draw(st.integers(1, 40))
    lines = draw(st.integers(2, 3))
    events: list[Brought] = []
    for line in range(lines):
        kept = [trade_id for trade_id in range(count) if draw(st.integers(0, 9)) > 1]
        at_ns = 0
        while kept:
            size = draw(st.integers(1, 6))
            at_ns += draw(st.integers(0, 60))
            events.append(Brought(line, at_ns, tuple(kept[:size])))
            kept = kept[size:]
    return sorted(events, key=lambda event: event.at_ns)


@given(wakeups())
def test_every_trade_of_any_line_goes_on_once_and_what_came_in_time_in_order(events: list[Brought]) -> None:
    lines = Lines(3)
    out: list[int] = []
    arrived: dict[int, int] = {}
    for event in events:
        for trade_id in event.ids:
            arrived.setdefault(trade_id, event.at_ns)
        out += lines.bring(event.line, event.at_ns, *event.ids)
    out += ids_of(lines.arbiter.flush())
    assert sorted(out) == sorted(arrived)
    # One that stands behind a later one came after that had waited its time, or before the first of all.
    for place, trade_id in enumerate(out):
        ahead = [other for other in out[:place] if other > trade_id]
        if ahead and trade_id > out[0]:
            assert arrived[trade_id] >= min(arrived[other] for other in ahead) + WAIT_NS or all(
                any(other > trade_id for event in events if event.line == line for other in event.ids)
                for line in range(3)
            )


@given(wakeups())
def test_with_patience_enough_only_what_no_line_brought_is_missing_and_all_is_in_order(events: list[Brought]) -> None:
    lines = Lines(3, 10**9)
    out: list[int] = []
    for event in events:
        out += lines.bring(event.line, event.at_ns, *event.ids)
    out += ids_of(lines.arbiter.flush())
    behind_the_first = [trade_id for trade_id in out if trade_id > out[0]]
    assert behind_the_first == sorted(behind_the_first)
    assert len(set(out)) == len(out)
    counted = [lines.arbiter.counted(line) for line in range(3)]
    assert sum(first for first, *_ in counted) == len(out)
    assert sum(first + again for first, again, *_ in counted) == sum(len(event.ids) for event in events)


@given(wakeups(), st.booleans())
def test_rows_that_go_on_unchanged_are_those_of_the_general_way(events: list[Brought], sequences: bool) -> None:
    # Rows with a scale that the instruments do not have yet are never passed on unchanged.
    assert brought(events, price_scale=1, sequences=sequences) == brought(events, price_scale=0, sequences=sequences)


def brought(events: list[Brought], *, price_scale: int, sequences: bool) -> list[object]:
    """Rows that go on in each wakeup, in every column, and what is counted."""
    instruments = Instruments("x")
    instruments.add("B", 1, 0)
    instruments.add("A", price_scale, 0)
    batch = TickBatch(instruments, counts=True, sequences=sequences)
    arbiter = Arbiter(TickBatch(instruments, counts=True, sequences=sequences), 3, WAIT_NS)
    seen: list[object] = []
    for event in events:
        batch.clear()
        for trade_id in event.ids:
            sequence = trade_id if sequences else None
            batch.append("AB"[trade_id % 7 == 0], trade_id, f"{trade_id}.5", "2", 1, trade_id + 3, sequence=sequence)
        seen.append(columns_of(arbiter.take(batch, event.line, event.at_ns)))
        if event.at_ns % 11 == 0:
            seen.append(columns_of(arbiter.flush()))
        seen.append((arbiter.held, arbiter.duplicates, arbiter.next_release_ns))
    return [*seen, *(arbiter.counted(line) for line in range(3))]


def columns_of(batch: TickBatch) -> list[object]:
    names = ("symbol_id", "time_ns", "price", "size", "side", "first_id", "last_id", "count", "sequence")
    columns = [batch.column(name) for name in names]
    return [None if column is None else column.tolist() for column in columns]
