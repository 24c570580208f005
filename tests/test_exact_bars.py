"""Volume and value bars of exactly the step: the trade that ends a bar is split."""

from __future__ import annotations

from hypothesis import given, settings

from examples import examples
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
