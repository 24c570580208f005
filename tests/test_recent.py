"""Tests of the bounded window of trade keys."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from fastbars import StreamConfig
from fastbars.exchanges.hyperliquid import HYPERLIQUID
from fastbars.kernel.recent import RecentKeys
from fastbars.live.session import Session


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


def test_time_is_part_of_a_trades_identity() -> None:
    recent = RecentKeys()
    assert recent.add("BTC", "7", 1)
    assert recent.add("BTC", "7", 2)
    assert not recent.add("BTC", "7", 1)


def test_a_window_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="limit must be positive, got 0"):
        RecentKeys(0)


@given(
    st.integers(1, 40),
    st.lists(
        st.tuples(st.sampled_from(["A", "B", "AB"]), st.text(max_size=20) | st.integers(0, 30).map(str)), max_size=300
    ),
)
def test_the_window_remembers_what_a_list_of_the_latest_would(limit: int, trades: list[tuple[str, str]]) -> None:
    recent = RecentKeys(limit)
    latest: list[tuple[str, str]] = []
    for symbol, key in trades:
        new = (symbol, key) not in latest
        assert recent.add(symbol, key) == new
        if new:
            latest = [*latest, (symbol, key)][-limit:]
        assert len(recent) == len(latest)


def test_a_long_run_forgets_the_oldest_and_nothing_else() -> None:
    recent = RecentKeys(1000)
    for number in range(20_000):
        assert recent.add("BTC", f"{number:032x}", number)
        if number >= 1000 and number % 97 == 0:
            assert not recent.add("BTC", f"{number - 999:032x}", number - 999)
    assert len(recent) == 1000


# The scanner and Python share one window.


def message(*trades: tuple[int, int]) -> bytes:
    rows = ",".join(
        f'{{"coin":"A","side":"B","px":"2","sz":"1","time":{time_ms},"hash":"0x0","tid":{tid}}}'
        for tid, time_ms in trades
    )
    return f'{{"channel":"trades","data":[{rows}]}}'.encode()


def test_what_the_scanner_took_python_knows_and_the_other_way_round() -> None:
    session = Session(HYPERLIQUID, StreamConfig(close_by="trades"), channel="trades")
    session.receive([message((1, 5), (2, 6))], 0)  # scanned
    session.receive([message((3, 7), (1, 5), (2, 6))], 0)  # not in time order: parsed
    session.receive([message((3, 7), (3, 7), (4, 8)), message((4, 8))], 0)  # scanned, also one that holds nothing new
    stats = session.stats
    assert (stats.trades, stats.duplicates, stats.trade_messages, stats.messages) == (4, 5, 4, 4)
    assert (stats.parse_errors, session.buffer_stats.trades) == (0, 4)
    assert session.event_time_ns == 8_000_000


def test_a_message_that_the_scanner_gives_up_half_way_leaves_nothing_behind_in_the_window() -> None:
    session = Session(HYPERLIQUID, StreamConfig(close_by="trades"), channel="trades")
    whole = message((1, 5), (2, 6), (3, 7))
    session.receive([whole.replace(b'"px":"2","sz":"1","time":7', b'"px":"0","sz":"1","time":7')], 0)
    assert (session.stats.trades, session.stats.duplicates, session.buffer_stats.refused) == (2, 0, 1)
    session.receive([whole], 0)
    assert (session.stats.trades, session.stats.duplicates) == (2, 3)
