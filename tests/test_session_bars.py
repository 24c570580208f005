"""Session bars: the hours of a day in a zone, or of an exchange's calendar; what is traded outside belongs to none."""

from __future__ import annotations

from hypothesis import given, settings

from examples import examples
from strategies import SESSION_SPECS, Scenario, buffer_for, expected, oracle_for, replay, scenarios

MIXED = (*SESSION_SPECS, "1s", "1m", "1h", "1d", "tick:3")


@settings(max_examples=examples(100))
@given(scenarios(specs=MIXED, most_specs=4, covers=True))
def test_any_feed_makes_the_session_bars_of_the_oracle(scenario: Scenario) -> None:
    assert replay(buffer_for(scenario), scenario.events, scenario.cuts) == expected(
        oracle_for(scenario), scenario.events
    )
