"""The kinds of bars that end by their trades, against the oracle: range, renko, delta and cusum."""

from __future__ import annotations

import pickle

from hypothesis import given, settings, strategies as st

from examples import examples
from strategies import Scenario, buffer_for, expected, oracle_for, replay, scenarios

OF_PRICES = ("range:0.5", "range:300", "cusum:2.5", "cusum:20000", "renko:0.5", "renko:10", "renko:700.25")
KINDS = (
    *OF_PRICES,
    "renko:9000000000000000000",
    "cusum:0.000000000000000003",
    "delta:0.5",
    "delta:100",
    "delta:1000000000",
)
BESIDE = ("tick:3", "volume:50", "5s", "1m")


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
