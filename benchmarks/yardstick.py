"""Bounds in nanoseconds that hold on any machine: each is measured in turn with a fixed piece of work, the yardstick.

A nanosecond here is one of the machine on which docs/performance.md was measured: what the yardstick took there is
NOMINAL_NS, and what something takes is its time over that of the yardstick beside it, times NOMINAL_NS. CPU time of all
threads, the smallest of many short rounds on each side, so that a busy neighbour is no loss.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from decimal import Decimal

NOMINAL_NS = 275.0  # of one step of the yardstick
STEPS = 2_000
TRIES = 5
ROUNDS = 7

# The long form holds everything to its bound. The short one, which runs in CI beside whatever else the machine does,
# allows so much more: a bound is not for what a neighbour makes of a figure.
SHORT_FORM = 1.25
_allowed = [1.0]

HELD: list[str] = []  # a row of Markdown for each bound: what, found, at most

Work = Callable[[], object]

_TEXTS = [f"{number}.{number % 97:02}" for number in range(100, 300)]


def yardstick() -> None:
    """STEPS steps of what every Python program does: numbers from text, sums, and places in a dict."""
    sums: dict[int, Decimal] = {}
    for step in range(STEPS):
        key = step & 63
        sums[key] = sums.get(key, Decimal(0)) + Decimal(_TEXTS[step % 200])


def seconds(work: Work) -> float:
    """CPU time of one call, without a garbage collection in it."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        start = time.process_time_ns()
        work()
        return (time.process_time_ns() - start) / 1e9
    finally:
        if collecting:
            gc.enable()


def smallest(*works: Work, rounds: int = ROUNDS, before: Work = bool) -> list[float]:
    """The smallest time of each, taken in turn; `before` each round something is done that is not timed."""
    best = [float("inf")] * len(works)
    for _ in range(rounds):
        before()
        for place, work in enumerate(works):
            best[place] = min(best[place], seconds(work))
    return best


def nanoseconds(work: Work, calls: int, rounds: int = ROUNDS, before: Work = bool) -> float:
    """What each of the `calls` units of `work` takes, in nanoseconds of the machine named above."""
    own, stick = smallest(work, yardstick, rounds=rounds, before=before)
    return own / calls / (stick / STEPS) * NOMINAL_NS


def use_short_form() -> None:
    """Bounds hold with SHORT_FORM from here on."""
    _allowed[0] = SHORT_FORM


def is_within(found: float, limit: float) -> bool:
    """Whether a figure that was measured otherwise keeps to its bound."""
    return found <= limit * _allowed[0]


def assert_ns(name: str, work: Work, calls: int, limit: float, rounds: int = ROUNDS, before: Work = bool) -> float:
    """At most `limit` nanoseconds a unit, in the best of several tries; returns it, and keeps a row for the summary."""
    best = float("inf")
    for _ in range(TRIES):
        best = min(best, nanoseconds(work, calls, rounds, before))
        if is_within(best, limit):
            break
    HELD.append(f"| {name} | {best:,.0f} ns | {limit:,.0f} |")
    assert is_within(best, limit), f"{name}: {best:,.1f} ns, more than {limit:,.1f}"
    return best


def assert_ratio(name: str, work: Work, reference: Work, limit: float, rounds: int = ROUNDS) -> float:
    """`work` takes at most `limit` times as long as `reference` in the best of several tries; else as `assert_ns`."""
    best = float("inf")
    for _ in range(TRIES):
        own, other = smallest(work, reference, rounds=rounds)
        best = min(best, own / other)
        if is_within(best, limit):
            break
    HELD.append(f"| {name} | {best:.2f} times its reference | {limit:.2f} |")
    assert is_within(best, limit), f"{name}: {best:.3f} times its reference, more than {limit:.3f}"
    return best
