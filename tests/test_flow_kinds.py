"""Imbalance and runs bars, fixed and adaptive, against the oracle, by hand and by hostile series."""

from __future__ import annotations

import pickle
import re
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import fastbars
from examples import examples
from fastbars import BarBuffer, BarSpec
from fastbars.errors import PrecisionError, SpecError
from flow_oracle import FlowOracle
from strategies import Scenario, buffer_for, expected, oracle_for, replay, scenarios

PAGE = Path(__file__).resolve().parents[1] / "docs" / "bar-kinds.md"
KINDS = tuple(
    f"{kind}:{measure}:{step}{modifier}"
    for kind in ("imbalance", "runs")
    for modifier in ("", ":adaptive")
    for measure, step in (("tick", 2), ("volume", 50), ("value", 3000))
)
BESIDE = ("imbalance:volume:0.5", "runs:value:9000000000000000000", "tick:3", "5s", "delta:100")


@settings(max_examples=examples(150))
@given(st.booleans().flatmap(lambda negative: scenarios(KINDS + BESIDE, negative_prices=negative)), st.integers(0, 40))
def test_every_bar_equals_the_oracle_in_any_batches_and_with_a_snapshot_between(scenario: Scenario, cut: int) -> None:
    lines = expected(oracle_for(scenario), scenario.events)
    assert replay(buffer_for(scenario), scenario.events, scenario.cuts) == lines
    first = buffer_for(scenario)
    before = replay(first, scenario.events[:cut], scenario.cuts, flush=False)
    second = buffer_for(scenario._replace(contract_sizes=()))
    second.load(pickle.loads(pickle.dumps(first.dump())), continues=True)
    behind = frozenset(place - cut for place in scenario.cuts if place >= cut)
    assert before + replay(second, scenario.events[cut:], behind) == lines


def ended(spec: str, rows: list[tuple[Any, Any, int]]) -> list[Any]:
    """Bars that end by their trades, of rows of price, size and side."""
    ids = list(range(1, len(rows) + 1))
    prices, sizes, sides = ([row[k] for row in rows] for k in range(3))
    columns: dict[str, Any] = {"price": prices, "size": sizes, "side": sides}
    bars = fastbars.aggregate(ids, symbol="A", bars=spec, trade_id=ids, negative_prices=True, **columns)
    return [bar for bar in bars if bar.close_reason == "trade"]


@pytest.mark.parametrize("spec", ["imbalance:volume:8:adaptive", "runs:tick:2"])
def test_the_example_that_the_page_works_out_by_hand_is_what_comes_out(spec: str) -> None:
    (table,) = re.findall(rf"^`{spec}`, by hand:\n\n((?:\|.*\n)+)", PAGE.read_text(encoding="utf-8"), re.M)
    head, _, *lines = [[cell.strip() for cell in line.strip("|").split(" |")] for line in table.splitlines()]
    rows = [dict(zip([*head[:-1], "ends"], line, strict=True)) for line in lines]
    trades = [(r["price"], r.get("size", "1"), {"buy": 1, "sell": -1, "unknown": 0}[r["side"]]) for r in rows]
    bars = ended(spec, trades)
    assert [bar.last_trade_id for bar in bars] == [int(row["trade"]) for row in rows if "ends bar" in row["ends"]]
    assert len(bars) > 1
    if "threshold" in rows[0]:
        kind, _, step, *_ = spec.split(":")
        oracle = FlowOracle(kind, Fraction(step), adaptive=True)
        for row in rows:
            assert oracle.threshold() == Fraction(row["threshold"])
            balance = Fraction(row["B - S"])
            if "ends bar" in row["ends"]:
                oracle.finished.append((max(balance, Fraction(0)), max(-balance, Fraction(0))))


HOSTILE: dict[str, list[tuple[Any, Any, int]]] = {
    "one side": [(100, 1, 1)] * 4000,
    "constant price without sides": [(100, 1, 0), (101, 1, 0)] + [(101, 1, 0)] * 4000,
    "alternating bursts": [(100, 1, 1 if n // 40 % 2 else -1) for n in range(4000)],
    "one giant trade": [(100, 1, 1)] * 100 + [(100, 10**12, 1)] + [(100, 1, 1)] * 4000,
    "large at the ends": [(100, 500 if n % 20 == 19 else 1, 1) for n in range(4000)],
}


@pytest.mark.parametrize("kind", ["imbalance", "runs"])
@pytest.mark.parametrize("series", HOSTILE)
def test_hostile_series_neither_collapse_nor_explode(kind: str, series: str) -> None:
    bars = ended(f"{kind}:volume:40:adaptive", HOSTILE[series])
    assert bars
    for bar in bars:
        # A quarter of the step and no less: ten trades of size 1; four steps and no more behind the trade that ends it.
        assert bar.volume >= 10
        assert bar.largest_trade > 1 or bar.trade_count >= 10
    assert max(bar.trade_count for bar in bars) <= 200
    rest = len(HOSTILE[series]) - bars[-1].last_trade_id
    assert rest <= 200


def test_bars_do_not_depend_on_when_the_scales_became_wide() -> None:
    rows = [(100 + n % 7, 1 + n * n % 13, (n * n % 5 > 1) - (n * n % 5 < 2)) for n in range(600)]
    for spec in KINDS:
        fine: list[tuple[Any, Any, int]] = [(f"{price}.00", size, side) for price, size, side in rows]
        fine[300] = ("100.25", "1.125", 0)
        early = [("100.125", "0.0000625", 0), *fine]
        late = [("100", "0.0000625", 0), *fine]
        assert [bar.last_trade_id for bar in ended(spec, early)] == [bar.last_trade_id for bar in ended(spec, late)]
    assert [bar.volume for bar in ended("imbalance:volume:2.5:adaptive", [(1, 3, 1)] * 4)] == [3] * 4


def test_a_sum_that_leaves_its_range_is_an_error_and_changes_nothing() -> None:
    # Of prices of both signs the quote sum of the bar stays small, and the amounts bought do not.
    buffer = BarBuffer("runs:value:9000000000000000000", ids="contiguous", negative_prices=True)
    batch = buffer.new_batch()
    batch.append("A", 0, Decimal("1.000000000000000001"), Decimal("1.000000000000000001"), 1, 0, 0)
    assert buffer.add_batch(batch) == []
    before = buffer.dump()["states0"]
    batch.clear()
    for number in range(1, 9):
        price = Decimal("9.2") if number % 2 else Decimal("-9.2")
        batch.append("A", number, price, Decimal("9.2"), 1, number, number)
    with pytest.raises(PrecisionError, match="A"):
        buffer.add_batch(batch)
    assert buffer.dump()["states0"] == before
    (bar,) = buffer.flush_all()
    assert bar.trade_count == 1


@pytest.mark.parametrize("spec", KINDS)
def test_any_state_that_is_loaded_does_no_harm(spec: str) -> None:
    buffer = BarBuffer(spec, ids="contiguous", negative_prices=True)
    buffer.add("A", 0, 1, 1, "buy", trade_id=1)
    dumped = buffer.dump()
    state = np.frombuffer(dumped["states0"], np.int64)
    refused = 0
    for place in range(len(state)):
        for value in (0, 1, -1, 2, 2**18 + 1, 2**63 - 1, -(2**63)):
            hostile = state.copy()
            hostile[place] = value
            buffer = BarBuffer(spec, ids="contiguous", negative_prices=True)
            try:
                buffer.load(dumped | {"states0": hostile.tobytes()})
            except ValueError:
                refused += 1
                continue
            for number in range(4):
                assert len(buffer.add("A", 1, 5 - number, 10**6, "sell", trade_id=2 + number)) <= 1
    assert refused > 40


@pytest.mark.parametrize("spec", KINDS)
def test_a_batch_that_is_refused_leaves_the_state_as_it_was(spec: str) -> None:
    # The sums of the day leave their range.
    buffer = BarBuffer([spec, "1d"], ids="contiguous")
    batch = buffer.new_batch()
    batch.append("A", 0, 100, 1, 1, 0, 0)
    assert buffer.add_batch(batch) == []
    before = buffer.dump()["states0"]
    batch.clear()
    for number in range(1, 7):
        batch.append("A", number, 9 * 10**18, 9 * 10**18, 1, number, number)
    with pytest.raises(PrecisionError):
        buffer.add_batch(batch)
    assert buffer.dump()["states0"] == before


def test_specs_are_read_written_and_refused() -> None:
    for text in KINDS:
        spec = BarSpec.parse(text)
        assert str(spec) == text
        assert pickle.loads(pickle.dumps(spec)) == spec
    assert BarSpec.parse("runs:value:2.50:adaptive").step == Decimal("2.5")
    for text in (
        "imbalance:5",
        "runs:price:5",
        "imbalance:tick:2.5",
        "runs:volume:5:exact",
        "tick:volume:5",
        "delta:5:adaptive",
        "runs:value:1e6",
        "imbalance:volume:0",
    ):
        with pytest.raises(SpecError):
            BarSpec.parse(text)
