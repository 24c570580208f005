"""The ledger of a file's rows against plain sets, and however the rows are cut into blocks."""

from __future__ import annotations

from collections import Counter
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from examples import examples
from fastbars.archives import ranges
from fastbars.archives.columns import TradeColumns
from fastbars.archives.ledger import DAY_NS, RowLedger
from fastbars.archives.segments import segments
from fastbars.errors import TapeError

START_NS = 19_800 * DAY_NS


def block(rows: list[tuple[int, int]], first_row: int, price: int = 100, price_scale: int = 2) -> TradeColumns:
    ids, times = np.array([row[0] for row in rows], np.int64), np.array([row[1] for row in rows], np.int64)
    ones = np.ones(len(rows), np.int64)
    return TradeColumns(
        ("A",), np.zeros(len(rows), np.int32), times, price * ones, price_scale, ones, 0, ones.astype(np.int8),
        ids, ids, None, first_row,
    )  # fmt: skip


def rows_of(random: Random) -> list[tuple[int, int]]:
    """Ids that skip, come again, late, and begin anew; each with its time."""
    made: list[tuple[int, int]] = []
    number, time_ns = random.choice((0, 1, 4_090, 10**15)), START_NS
    for _ in range(random.randrange(1, 60)):
        number += random.choice((1, 1, 1, 1, 2, 5_000))
        time_ns += random.choice((0, 10**6, 10**9, DAY_NS // 3))
        made.append((number, time_ns))
    for _ in range(random.randrange(4)):
        at = random.randrange(len(made))
        row = made[at] if random.random() < 0.5 else made.pop(at)
        made.insert(random.randrange(len(made) + 1), row)
        made = made or [row]
    if random.random() < 0.3:
        made += [(i + 1, time_ns + 2 * DAY_NS + i * 10**9) for i in range(random.randrange(2, 9))]
    return made


def contents(ledger: RowLedger) -> list[object]:
    return [
        ledger.rows, ledger.backs, ledger.decimals,
        *((one.since_ns, one.until_ns, one.row, one.ids.tolist(), one.repeated.tolist(), one.late, one.late_row,
           one.days, one.digests().tolist()) for one in ledger.series),
    ]  # fmt: skip


@settings(max_examples=examples(150))
@given(st.integers(0, 2**32))
def test_how_rows_are_cut_into_blocks_makes_no_difference(seed: int) -> None:
    random = Random(seed)
    rows = rows_of(random)
    whole, cut = RowLedger(), RowLedger(most_segments=0)
    whole.take(block(rows, 1))
    at = 0
    while at < len(rows):
        size = random.choice((1, 1, 2, 7))
        cut.take(block(rows[at : at + size], at + 1))
        at += size
    whole.finish()
    cut.finish()
    assert contents(whole) == contents(cut)


@settings(max_examples=examples(150))
@given(st.integers(0, 2**32))
def test_it_has_the_ids_that_came_and_those_that_came_again(seed: int) -> None:
    rows = rows_of(Random(seed))
    ledger = RowLedger()
    ledger.take(block(rows, 1))
    ledger.finish()
    borders = [*(one.row - 1 for one in ledger.series), len(rows)]
    assert borders[0] == 0
    for series, since, until in zip(ledger.series, borders, borders[1:], strict=False):
        seen = Counter(number for number, _ in rows[since:until])
        assert {i for first, last in series.ids.tolist() for i in range(first, last + 1)} == set(seen)
        again = {number for number, times in seen.items() if times > 1}
        assert {i for first, last in series.repeated.tolist() for i in range(first, last + 1)} == again
        late, top = 0, -1
        known: set[int] = set()
        for number, _ in rows[since:until]:
            late += number < top and number not in known
            top, known = max(top, number), known | {number}
        assert series.late == late
        days = Counter(time_ns // DAY_NS for _, time_ns in rows[since:until])
        assert {number: day.rows for number, day in series.days.items()} == days


def test_a_digest_does_not_depend_on_how_numbers_are_written() -> None:
    found = set()
    for price, scale in ((5, 0), (50, 1), (500_000_000_000, 11)):
        ledger = RowLedger()
        ledger.take(block([(1, START_NS)], 1, price, scale))
        ledger.finish()
        found.add((ledger.series[0].digests()["digest"][0], ledger.decimals))
    assert len(found) == 1
    with pytest.raises(ValueError, match="scales 19 and 0"):
        RowLedger().take(block([(1, START_NS)], 1, 5, 19))


def test_columns_of_unequal_length_are_refused() -> None:
    ones = np.ones(3, np.int64)
    for short in range(2):
        columns = [ones, ones]
        columns[short] = ones[:2]
        with pytest.raises(ValueError, match="columns have"):
            segments(columns[0], columns[1], 0, ones, 0, None, None, None, None, 1, 0)


sets = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 6)).map(lambda pair: (pair[0], sum(pair))), max_size=8)


@settings(max_examples=examples(150))
@given(sets, sets)
def test_sets_of_ids_are_sets(some: list[tuple[int, int]], others: list[tuple[int, int]]) -> None:
    def plain(pairs: object) -> set[int]:
        return {i for first, last in np.asarray(pairs).reshape(-1, 2).tolist() for i in range(first, last + 1)}

    a, b = ranges.ranges_of(some), ranges.ranges_of(others)
    assert plain(a) == plain(some)
    assert (a[1:, 0] > a[:-1, 1] + 1).all()
    assert ranges.count(a) == len(plain(some))
    assert plain(ranges.without(a, b)) == plain(some) - plain(others)
    assert plain(ranges.common(a, b)) == plain(some) & plain(others)
    both, doubles = ranges.union([a, b])
    assert plain(both) == plain(some) | plain(others)
    assert plain(doubles) == plain(some) & plain(others)
    numbers = np.arange(70)
    assert set(numbers[ranges.holds(a, numbers)].tolist()) == plain(some)
    if len(a):
        assert plain(ranges.between(a)) == set(range(int(a[0, 0]), int(a[-1, 1]))) - plain(some)


def test_ids_that_do_not_rise_by_one_are_given_up_before_memory_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastbars.archives.ledger.MOST_RANGES", 100_000)
    ledger = RowLedger(most_segments=1 << 20)
    ids = np.arange(400_000) * 2
    ones = np.ones(len(ids), np.int64)
    ledger.take(TradeColumns(
        ("A",), np.zeros(len(ids), np.int32), START_NS + ids, ones, 0, ones, 0, ones.astype(np.int8), ids, ids, None, 1
    ))  # fmt: skip
    with pytest.raises(TapeError, match="more than 100,000 holes"):
        ledger.finish()


def test_the_same_id_again_and_again_is_one_repeated_id() -> None:
    ledger = RowLedger()
    ledger.take(block([(7, START_NS)] * 5_000, 1))
    ledger.finish()
    (series,) = ledger.series
    assert (series.ids.tolist(), series.repeated.tolist(), series.late) == ([[7, 7]], [[7, 7]], 0)
