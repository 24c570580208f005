"""How many examples Hypothesis tries: what HYPOTHESIS_PROFILE names, "default" if nothing.

    quick    a tenth, for a second run of tests that have run already
    default  every run of the suite
    deep     ten times as many, for a night

A test that needs more or fewer than the others says how many for the default profile:
`@settings(max_examples=examples(400))`.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

_PROFILES = {"quick": 0.1, "default": 1.0, "deep": 10.0}
_FACTOR = _PROFILES[os.environ.get("HYPOTHESIS_PROFILE", "default")]
_EXAMPLES = 150


def examples(count: int) -> int:
    """As many examples as the profile makes of a number that is meant for the default one."""
    return max(1, round(count * _FACTOR))


def load_profile() -> None:
    """Let every test of this process run with as many."""
    settings.register_profile(
        "fastbars",
        max_examples=examples(_EXAMPLES),
        deadline=None,
        derandomize=bool(os.environ.get("CI")),
        suppress_health_check=[HealthCheck.too_slow],
    )
    settings.load_profile("fastbars")
