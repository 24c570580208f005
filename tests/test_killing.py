"""Streams that are killed with SIGKILL and started again, judged from outside; `python -m tests.killing` kills more."""

from __future__ import annotations

import pytest

from killing import VENUES, Plan, kill_all


@pytest.mark.real_clock
async def test_what_was_seen_around_a_kill_is_whole_or_says_that_it_is_not() -> None:
    lives = await kill_all(Plan(kills=2), seed=3)
    assert [fault for life in lives for fault in life.faults] == []
    assert [life.kills for life in lives] == [2] * len(VENUES)
    assert all(life.bars >= 5 for life in lives)
