"""The ledger of trade ids against a plain set of numbers."""

from __future__ import annotations

import pytest
from hypothesis import example, given, strategies as st

from fastbars._agg import BarKernel
from fastbars.bars import STATUSES, parse_specs
from fastbars.kernel.batch import TickBatch
from fastbars.kernel.ids import Ledger
from fastbars.kernel.instruments import Instruments


class Desk:
    """A kernel and its ledger; every row is one second after the last one."""

    def __init__(self, most_holes: int = 4096) -> None:
        self.instruments = Instruments()
        self.ledger = Ledger(most_holes)
        self.kernel = BarKernel(self.instruments, parse_specs("1h"), self.ledger)
        self.second = 0

    def send(self, *ranges: tuple[int, int]) -> list[int]:
        """Rows that were not placed."""
        batch = TickBatch(self.instruments, counts=True)
        for first, last in ranges:
            batch.append("A", self.second * 1_000_000_000, 1, 1, 0, first, last, last - first + 1)
            self.second += 1
        return [row for row, spec in self.kernel.update(batch)[1] if spec == -1]


def runs(numbers: set[int]) -> list[tuple[int, int]]:
    """Stretches of consecutive numbers: (first, last)."""
    starts = sorted(number for number in numbers if number - 1 not in numbers)
    ends = sorted(number for number in numbers if number + 1 not in numbers)
    return list(zip(starts, ends, strict=True))


ROWS = st.lists(
    st.builds(lambda first, more: (first, first + more), st.integers(0, 60), st.integers(0, 3)), max_size=60
)


@given(ROWS, st.integers(1, 7))
@example([(10, 10), (20, 20), (15, 15), (12, 13), (11, 11), (14, 14)], 1)
@example([(10, 12), (12, 13), (9, 10), (5, 5), (6, 9), (6, 8)], 2)
def test_holes_duplicates_and_overlaps_are_those_of_a_set_of_numbers(rows: list[tuple[int, int]], size: int) -> None:
    desk = Desk()
    seen: set[int] = set()
    duplicates = 0
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        wanted = []
        for place, (first, last) in enumerate(part):
            own = set(range(first, last + 1))
            if seen and own <= seen:
                duplicates += 1
            elif own & seen:
                wanted.append(place)
            else:
                seen |= own
        assert desk.send(*part) == wanted
        assert desk.kernel.duplicates == duplicates
        assert desk.ledger.missing(0) == runs(set(range(min(seen), max(seen))) - seen)
        assert desk.ledger.expected(0) == max(seen) + 1


def test_an_unknown_symbol_expects_and_misses_nothing() -> None:
    ledger = Ledger()
    for symbol_id in (-1, 0, 5):
        assert ledger.missing(symbol_id) == []
        assert ledger.expected(symbol_id) is None


def test_a_known_symbol_expects_nothing_before_its_first_trade() -> None:
    desk = Desk()
    desk.instruments.add("quiet")
    desk.send((7, 7))
    assert desk.ledger.expected(desk.instruments.id("quiet")) is None
    assert desk.ledger.expected(desk.instruments.id("A")) == 8


def test_past_most_holes_the_oldest_is_forgotten_and_its_ids_are_no_longer_placed() -> None:
    desk = Desk(most_holes=2)
    desk.send((0, 0), (2, 2), (4, 4), (6, 6))
    assert desk.ledger.missing(0) == [(3, 3), (5, 5)]
    assert desk.send((1, 1), (3, 3), (5, 5), (2, 2)) == [0]
    assert desk.ledger.missing(0) == []
    assert desk.kernel.duplicates == 1  # id 2 lies behind the forgotten hole


def test_bars_that_a_forgotten_hole_reached_into_stay_in_doubt() -> None:
    desk = Desk(most_holes=1)
    desk.send((0, 0))
    desk.second = 3600
    desk.send((1, 1), (3, 3), (5, 5), (4, 4))
    desk.second = 7200
    batch = TickBatch(desk.instruments)
    batch.append("A", desk.second * 1_000_000_000, 1, 1, 0, 6)
    rows, _ = desk.kernel.update(batch)
    assert desk.ledger.missing(0) == []
    assert rows["status"].tolist() == [STATUSES.index("GAP")]
    batch.clear()
    batch.append("A", 2 * desk.second * 1_000_000_000, 1, 1, 0, 7)
    rows, _ = desk.kernel.update(batch)
    assert rows["status"].tolist() == [0]  # COMPLETE


def test_the_largest_id_leaves_room_for_the_next() -> None:
    desk = Desk()
    desk.send((2**63 - 3, 2**63 - 2))
    assert desk.ledger.expected(0) == 2**63 - 1
    desk.send((0, 0))
    assert desk.ledger.missing(0) == [(1, 2**63 - 4)]


def test_less_than_one_hole_cannot_be_kept() -> None:
    with pytest.raises(ValueError, match="most_holes 0 is less than 1"):
        Ledger(0)
