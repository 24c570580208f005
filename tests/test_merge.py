"""The law that bars merge: any partition of the trades of some intervals gives the bars of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from functools import reduce
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import fastbars
from examples import examples
from fastbars._agg import BarKernel
from fastbars.bars import parse_specs
from fastbars.columnar.bar_batch import BarBatch
from fastbars.errors import PrecisionError
from fastbars.kernel.batch import TickBatch
from fastbars.kernel.ids import Ledger
from fastbars.kernel.instruments import Instruments
from oracle import Line, Oracle, Trade
from strategies import SECOND, TIME_SPECS, scenarios

SPECS = tuple(spec for spec in TIME_SPECS if spec not in ("1s", "5s"))
UNTIL_THE_END_NS = 2**62 - 2
# All that a merged bar promises: the other fields say how a bar was issued.
FIELDS = tuple(name for name in Line._fields if name not in ("status", "revision", "close_reason", "missing_count"))
Key = tuple[object, ...]


def aggregate(
    instruments: Instruments, specs: Sequence[str], trades: Sequence[Trade], part: Sequence[bool], *, by_id: bool
) -> BarBatch:
    """The bars of the chosen trades alone, each in its last revision.

    Trades left out go to a filler symbol, so that arrival numbers are those of the whole feed.
    """
    kernel = BarKernel(instruments, parse_specs(list(specs)), Ledger() if by_id else None, True, UNTIL_THE_END_NS)
    batch = TickBatch(instruments, ids=by_id, counts=True)
    for place, (trade, chosen) in enumerate(zip(trades, part, strict=True)):
        row = trade if chosen else trade._replace(symbol="filler", time_ns=0, first_id=place, last_id=place)
        given = row if by_id else row._replace(first_id=None, last_id=None)  # type: ignore[arg-type]
        batch.append(*given, time_unit="ns")
    closed, late = kernel.update(batch)
    assert not late
    rows = np.concatenate([closed.array(), kernel.flush().array()])
    filler = instruments.id("filler") if "filler" in instruments else -1
    last = {tuple(row[["symbol_id", "spec", "open_time"]].tolist()): place for place, row in enumerate(rows)}
    kept = [place for place in last.values() if rows[place]["symbol_id"] != filler]
    return BarBatch(rows[np.array(kept, np.intp)], instruments, kernel.specs, ids=by_id)


def values(bars: BarBatch) -> dict[Key, Key]:
    return {(bar.symbol, bar.spec, bar.open_time): tuple(getattr(bar, name) for name in FIELDS) for bar in bars}


def unique_ids(trades: list[Trade]) -> list[Trade]:
    seen: set[tuple[str, int]] = set()
    kept = []
    for trade in trades:
        own = {(trade.symbol, number) for number in range(trade.first_id, trade.last_id + 1)}
        if not own & seen:
            seen |= own
            kept.append(trade)
    return kept


@pytest.mark.parametrize("by_id", [True, False])
@settings(max_examples=examples(100))
@given(data=st.data())
def test_merging_any_partition_equals_aggregating_at_once(by_id: bool, data: st.DataObject) -> None:
    scenario = data.draw(scenarios(specs=SPECS, trades_only=True, most_events=24))
    # A void id is in no bar, and refused where ids prove nothing.
    trades = unique_ids([event for event in scenario.events if isinstance(event, Trade) and event.size])
    owners = data.draw(st.lists(st.integers(0, 2), min_size=len(trades), max_size=len(trades)))
    instruments = Instruments()
    for trade in trades:  # so that all parts have the same scales
        TickBatch(instruments, ids=False).append(trade.symbol, 0, trade.price, trade.size)
    whole = values(aggregate(instruments, scenario.specs, trades, [True] * len(trades), by_id=by_id))
    parts = [
        aggregate(instruments, scenario.specs, trades, [owner == part for owner in owners], by_id=by_id)
        for part in range(3)
    ]
    for order in permutations(parts):
        assert values(reduce(BarBatch.merge, order)) == whole
    a, b, c = parts
    assert values(a.merge(b.merge(c))) == values(a.merge(b).merge(c)) == whole
    oracle = Oracle(list(scenario.specs), "contiguous" if by_id else "none", lateness_s=9 * 10**9)
    lines = [line for trade in trades for line in oracle.add(trade)] + oracle.flush()
    last = {(line.symbol, line.spec, line.open_time): line for line in lines}
    assert whole == {key: tuple(getattr(line, name) for name in FIELDS) for key, line in last.items()}


def bars_of(instruments: Instruments, *rows: Trade, by_id: bool = True, specs: Sequence[str] = ("1m",)) -> BarBatch:
    return aggregate(instruments, specs, rows, [True] * len(rows), by_id=by_id)


def trade(second: int, trade_id: int, price: str = "1", size: str = "1", symbol: str = "A") -> Trade:
    return Trade(symbol, second * SECOND, Decimal(price), Decimal(size), 1, trade_id, trade_id)


def test_bars_with_different_scales_merge_exactly() -> None:
    instruments = Instruments()
    coarse = bars_of(instruments, trade(0, 1, "3", "2"))
    fine = bars_of(instruments, trade(1, 2, "3.000000001", "0.25"))
    for merged in (coarse.merge(fine)[0], fine.merge(coarse)[0]):
        assert (merged.open, merged.close) == (Decimal(3), Decimal("3.000000001"))
        assert merged.volume == Decimal("2.25")
        assert merged.quote_volume == merged.taker_buy_quote_volume == Decimal("6.75000000025")


def test_bars_of_one_side_only_are_kept_in_order() -> None:
    instruments = Instruments()
    left = bars_of(instruments, trade(0, 1), trade(120, 2), trade(0, 1, symbol="B"))
    right = bars_of(instruments, trade(60, 3), trade(121, 4))
    merged = left.merge(right)
    assert [(bar.symbol, bar.open_time.minute, bar.trade_count) for bar in merged] == [
        ("A", 0, 1), ("A", 2, 2), ("B", 0, 1), ("A", 1, 1),
    ]  # fmt: skip


def test_a_merged_bar_has_the_worse_status_and_the_later_revision() -> None:
    instruments = Instruments()
    left = bars_of(instruments, trade(0, 1), trade(60, 2), trade(120, 3))
    right = bars_of(instruments, trade(0, 1), trade(60, 3), trade(61, 2), trade(120, 5))
    assert [bar.status for bar in left] == ["PARTIAL", "COMPLETE", "PARTIAL"]
    assert [(bar.status, bar.revision) for bar in right] == [("PARTIAL", 1), ("GAP", 0), ("GAP", 0)]
    for merged in (left.merge(right), right.merge(left)):
        assert [(bar.status, bar.revision) for bar in merged] == [("PARTIAL", 1), ("GAP", 0), ("GAP", 0)]


def test_a_batch_is_not_changed_by_a_merge() -> None:
    instruments = Instruments()
    left, right = bars_of(instruments, trade(0, 1)), bars_of(instruments, trade(1, 2, "9"))
    before = left.to_bars(), right.to_bars()
    left.merge(right)
    assert (left.to_bars(), right.to_bars()) == before


def test_a_merged_sum_beyond_128_bits_is_refused_and_names_the_row() -> None:
    instruments = Instruments()
    largest = str(2**63 - 1)
    part = bars_of(instruments, trade(0, 1, largest, largest), trade(1, 2, largest, largest))
    with pytest.raises(PrecisionError, match="row 0: the merged sums do not fit 128 bits") as caught:
        part.merge(part)
    assert caught.value.row == 0


def test_path_driven_bars_do_not_merge() -> None:
    instruments = Instruments()
    part = bars_of(instruments, trade(0, 1), specs=["tick:5"])
    with pytest.raises(ValueError, match="path-driven bars cannot be merged"):
        part.merge(part)


def test_bars_of_other_settings_do_not_merge() -> None:
    instruments = Instruments()
    part = bars_of(instruments, trade(0, 1))
    for other in (
        bars_of(instruments, trade(0, 1), specs=["1h"]),
        bars_of(instruments, trade(0, 1), by_id=False),
    ):
        with pytest.raises(ValueError, match="bars merge where specs and ids are the same"):
            part.merge(other)
    with pytest.raises(ValueError, match="bars of two markets do not merge: '' and 'okx'"):
        part.merge(bars_of(Instruments("okx"), trade(0, 1)))
    with pytest.raises(ValueError, match="bars of two markets do not merge: 'binance spot' and 'binance usdm'"):
        bars_of(Instruments("binance", market="spot"), trade(0, 1)).merge(
            bars_of(Instruments("binance", market="usdm"), trade(0, 1))
        )
    inverse = Instruments()
    inverse.add("A", contract_size=100)
    with pytest.raises(ValueError, match="A: bars of two contract sizes do not merge: None and 100"):
        part.merge(bars_of(inverse, trade(0, 1)))


def test_two_results_of_aggregate_merge_by_the_names_of_their_symbols() -> None:
    trades: dict[str, Any] = {
        "time_ns": [second * SECOND for second in (0, 10, 20, 59, 60, 61)], "price": ["5", "1.25", "7", "2", "3", "9"],
        "size": ["1", "2", "0.5", "4", "1", "1"], "symbol": ["A", "B", "C", "B", "A", "C"],
        "side": [1, -1, 1, 1, 0, 1], "trade_id": [4, 10, 3, 11, 5, 4],
    }  # fmt: skip
    whole = values(fastbars.aggregate(**trades))
    for cut in range(7):
        parts: list[BarBatch] = [
            fastbars.aggregate(**{name: column[part] for name, column in trades.items()})
            for part in (slice(None, cut), slice(cut, None))
        ]
        for one, other in (parts, reversed(parts)):
            merged = one.merge(other)
            assert values(merged) == whole
            assert set(merged.instruments.symbols) == {"A", "B", "C"}
            assert [bar.symbol for bar in one] == [bar.symbol for bar in merged][: len(one)]


def test_the_trades_of_the_first_of_two_results_come_first_at_equal_times() -> None:
    early = fastbars.aggregate([0, 0], ["1", "2"], ["1", "1"], symbol="A")
    late = fastbars.aggregate([0, 0, 0], ["3", "4", "5"], ["1", "1", "1"], symbol="A")
    third = fastbars.aggregate([0], ["6"], ["1"], symbol="A")

    def ends(merged: BarBatch) -> tuple[str, str, int | None]:
        (bar,) = merged
        return str(bar.open), str(bar.close), bar.trade_count

    assert ends(early.merge(late)) == ("1", "5", 5)
    assert ends(late.merge(early)) == ("3", "2", 5)
    assert ends(early.merge(late).merge(third)) == ends(early.merge(late.merge(third))) == ("1", "6", 6)


def test_results_of_other_scales_keep_every_digit_when_they_merge() -> None:
    coarse = fastbars.aggregate([0], ["3"], ["2"], symbol="A")
    fine = fastbars.aggregate([1], ["3.000000001"], ["0.25"], symbol="A")
    merged = coarse.merge(fine)
    assert merged.instruments.scales("A") == (9, 2)
    assert (merged[0].quote_volume, merged[0].close) == (Decimal("6.75000000025"), Decimal("3.000000001"))
    assert coarse.instruments.scales("A") == (0, 0)


def test_a_batch_that_holds_a_bar_twice_does_not_merge() -> None:
    instruments = Instruments()
    part = bars_of(instruments, trade(0, 1))
    twice = BarBatch(np.concatenate([part.rows, part.rows]), instruments, part.specs, ids=True)
    with pytest.raises(ValueError, match="duplicate bar in the batch"):
        part.merge(twice)


def test_merging_with_nothing_changes_nothing() -> None:
    instruments = Instruments()
    part = bars_of(instruments, trade(0, 1))
    nothing = BarBatch(part.rows[:0], instruments, part.specs, ids=True)
    assert part.merge(nothing).to_bars() == nothing.merge(part).to_bars() == part.to_bars()


@pytest.mark.parametrize("turned", [False, True])
def test_one_side_may_have_the_finer_prices_and_the_other_the_finer_sizes(turned: bool) -> None:
    minute = 60_000_000_000
    halves = [
        fastbars.aggregate([0], ["1.25"], ["3"], symbol="A", trade_id=[1]),
        fastbars.aggregate([minute // 2], ["1.5"], ["0.01"], symbol="A", trade_id=[2]),
    ]
    whole = fastbars.aggregate([0, minute // 2], ["1.25", "1.5"], ["3", "0.01"], symbol="A", trade_id=[1, 2])
    first, second = reversed(halves) if turned else halves
    assert first.merge(second).to_bars() == whole.to_bars()
