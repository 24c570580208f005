"""Tests of the two clocks that the library reads, and of the loop of the tests, which turns them."""

from __future__ import annotations

import time

from fastbars import clocks


def test_the_clocks_are_those_of_the_machine_until_they_are_held_and_after_they_are_released() -> None:
    def assert_running() -> None:
        before = time.monotonic_ns(), time.time_ns()
        steady_ns, steady_s, wall_ns = clocks.steady_ns(), clocks.steady_s(), clocks.wall_ns()
        after = time.monotonic_ns(), time.time_ns()
        assert before[0] <= steady_ns <= after[0]
        assert before[0] <= round(steady_s * 1e9) + 1_000
        assert round(steady_s * 1e9) - 1_000 <= after[0]
        assert before[1] <= wall_ns <= after[1]

    assert_running()
    clocks.hold(1_500_000_000, -7)
    try:
        assert (clocks.steady_ns(), clocks.steady_s(), clocks.wall_ns()) == (1_500_000_000, 1.5, -7)
        clocks.hold(1_600_000_000, 8)
        assert (clocks.steady_s(), clocks.wall_ns()) == (1.6, 8)
    finally:
        clocks.release()
    assert_running()
