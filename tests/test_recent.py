"""Tests of the bounded window of trade keys."""

from __future__ import annotations

from fastbars.live.recent import RecentKeys


def test_a_key_is_new_once_for_each_symbol() -> None:
    recent = RecentKeys()
    assert [recent.add("BTC", "a"), recent.add("BTC", "a"), recent.add("ETH", "a"), recent.add("BTC", "b")] == [
        True,
        False,
        True,
        True,
    ]


def test_symbol_and_key_do_not_run_into_each_other() -> None:
    recent = RecentKeys()
    assert recent.add("BTC1", "2")
    assert recent.add("BTC", "12")


def test_the_oldest_key_is_forgotten_beyond_the_limit() -> None:
    recent = RecentKeys(limit=2)
    assert all(recent.add("BTC", key) for key in "abc")
    assert len(recent) == 2
    assert not recent.add("BTC", "b")
    assert recent.add("BTC", "a")
    assert len(recent) == 2
