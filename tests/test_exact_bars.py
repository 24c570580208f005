"""Volume and value bars of exactly the step: the trade that ends a bar is split."""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from examples import examples
from fastbars.bars import OHLCVBar
from fastbars.buffer import BarBuffer
from fastbars.errors import SpecError
from fastbars.exchanges.binance import SPOT
from fastbars.live.past.plan import make_plan
from fastbars.specs import BarSpec
from strategies import Scenario, buffer_for, expected, oracle_for, replay, scenarios

EXACT_SPECS = (
    "volume:0.5:exact", "volume:3:exact", "volume:50:exact", "volume:7000:exact",
    "value:0.01:exact", "value:1000:exact", "value:77777:exact", "value:9000000000000000000:exact",
)  # fmt: skip


@settings(max_examples=examples(150))
@given(scenarios(specs=(*EXACT_SPECS, "volume:50", "tick:3", "1m"), most_specs=4, markets=("plain", "widening")))
def test_any_feed_is_split_as_the_oracle_splits_it(scenario: Scenario) -> None:
    assert replay(buffer_for(scenario), scenario.events, scenario.cuts) == expected(
        oracle_for(scenario), scenario.events
    )


@settings(max_examples=examples(50))
@given(scenarios(specs=EXACT_SPECS, most_specs=3, markets=("plain", "widening"), negative_prices=True))
def test_prices_below_zero_take_back_what_was_paid(scenario: Scenario) -> None:
    assert replay(buffer_for(scenario), scenario.events, scenario.cuts) == expected(
        oracle_for(scenario), scenario.events
    )


def total(numbers: Iterable[Decimal | None]) -> Decimal:
    return sum((number for number in numbers if number is not None), Decimal(0))


def bars_of(spec: str, trades: list[tuple[str, str]]) -> list[OHLCVBar]:
    buffer = BarBuffer(spec, ids="contiguous")
    batch = buffer.new_batch()
    for number, (price, size) in enumerate(trades):
        batch.append("A", 1_700_000_000 + number, price, size, 1 - 2 * (number % 2), number, number, time_unit="s")
    return [*buffer.add_batch(batch), *buffer.flush_all()]


PRICES = st.integers(1, 10**6).map(lambda number: f"{number / 100:.2f}")
SIZES = st.integers(1, 10**7).map(lambda number: f"{number / 10**5:.5f}")


@settings(max_examples=examples(60))
@given(st.lists(st.tuples(PRICES, SIZES), min_size=1, max_size=30), st.sampled_from(("volume", "value")))
def test_each_bar_has_the_step_and_all_bars_have_all_that_was_traded(trades: list[tuple[str, str]], kind: str) -> None:
    *full, last = bars_of(f"{kind}:70.125:exact", [(price, size) for price, size in trades])
    step = Decimal("70.125")
    for bar in full:
        own = total([bar.volume if kind == "volume" else bar.quote_volume])
        # Where one trade fills more than a hundred, the hundredth has all that is left.
        assert own == step or (
            own > step and bar.largest_trade is not None and bar.largest_trade >= total([bar.volume])
        )
    assert total(bar.volume for bar in [*full, last]) == total(Decimal(size) for _, size in trades)
    assert total(bar.quote_volume for bar in [*full, last]) == sum(
        Decimal(price) * Decimal(size) for price, size in trades
    )
    bought = total(Decimal(size) for _, size in trades[::2])
    assert total(bar.taker_buy_volume for bar in [*full, last]) == bought
    for before, behind in pairwise([*full, last]):
        assert before.last_trade_id is not None
        assert behind.first_trade_id in (before.last_trade_id, before.last_trade_id + 1)


def test_the_parts_of_a_trade_share_its_id_and_its_whole_size() -> None:
    bars = bars_of("volume:10:exact", [("100", "4"), ("101", "29"), ("99", "7")])
    found: list[Any] = [
        (bar.volume, bar.quote_volume, bar.trade_count, bar.first_trade_id, bar.last_trade_id) for bar in bars
    ]
    assert found == [
        (10, 400 + 606, 2, 0, 1), (10, 1010, 1, 1, 1), (10, 1010, 1, 1, 1), (10, 303 + 693, 2, 1, 2),
    ]  # fmt: skip
    assert [bar.largest_trade for bar in bars] == [29, 29, 29, 29]
    assert [str(bar.close_reason) for bar in bars] == ["trade"] * 4


def test_by_value_sizes_are_rounded_down_and_the_last_part_has_what_is_left() -> None:
    bars = bars_of("value:100:exact", [("70", "1"), ("300", "1.0000001")])
    assert [(str(bar.quote_volume), str(bar.volume)) for bar in bars] == [
        ("100", "1.1"), ("100", "0.333333"), ("100", "0.333333"), ("70.00003", "0.2333341"),
    ]  # fmt: skip


def test_no_trade_makes_more_than_a_hundred_bars() -> None:
    bars = bars_of("volume:0.001:exact", [("100", "1000000000"), ("100", "0.0005")])
    assert [len(bars), bars[98].volume, bars[99].volume] == [101, Decimal("0.001"), 10**9 - Decimal("0.099")]
    assert (bars[100].first_trade_id, bars[100].volume) == (1, Decimal("0.0005"))


@pytest.mark.parametrize("text", ["volume:50:exact", "value:0.5:exact"])
def test_an_exact_spec_is_read_and_written_as_its_text(text: str) -> None:
    spec = BarSpec.parse(text)
    assert (str(spec), spec.modifier) == (text, "exact")
    assert pickle.loads(pickle.dumps(spec)) == spec


@pytest.mark.parametrize("text", ["tick:5:exact", "range:5:exact", "volume:5:exactly", "volume:5:exact+flow"])
def test_what_cannot_be_split_is_refused(text: str) -> None:
    with pytest.raises(SpecError):
        BarSpec.parse(text)


def test_there_is_no_history_of_exact_bars() -> None:
    with pytest.raises(SpecError, match="no history of volume:5:exact: several of its bars can begin with one trade"):
        make_plan(SPOT, "trade", [BarSpec.parse("volume:5:exact")], None, has_key=False)
