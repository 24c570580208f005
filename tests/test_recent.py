"""Tests of the bounded window of trade keys."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, strategies as st

from fastbars import BarBuffer, StreamConfig
from fastbars.exchanges.hyperliquid import HYPERLIQUID
from fastbars.kernel.recent import RecentKeys
from fastbars.live.session import Session

BTC, ETH = 0, 1
SECOND = 10**9


def test_a_key_is_new_once_for_each_symbol() -> None:
    recent = RecentKeys()
    assert [recent.add(BTC, "a"), recent.add(BTC, "a"), recent.add(ETH, "a"), recent.add(BTC, "b")] == [
        True,
        False,
        True,
        True,
    ]


def test_time_is_part_of_a_trades_identity() -> None:
    recent = RecentKeys()
    assert recent.add(BTC, "7", 1)
    assert recent.add(BTC, "7", 2)
    assert not recent.add(BTC, "7", 1)


def test_the_least_number_of_each_symbol_is_kept_however_busy_the_others_are() -> None:
    recent = RecentKeys(least=3, most=50, window_ns=0)
    assert all(recent.add(ETH, str(number), number) for number in range(3))
    assert all(recent.add(BTC, str(number), number * SECOND) for number in range(2000))
    assert [recent.add(ETH, str(number), number) for number in range(3)] == [False] * 3
    assert len(recent) == 6


def test_keys_within_the_window_are_kept_until_there_are_most_of_them() -> None:
    recent = RecentKeys(least=2, most=5, window_ns=SECOND)
    assert all(recent.add(BTC, str(number), number) for number in range(9))
    assert len(recent) == 5
    assert [recent.add(BTC, str(number), number) for number in (4, 8)] == [False, False]
    assert all(recent.add(ETH, str(number), number) for number in range(4))  # 2 more than `most`, and no more
    assert len(recent) == 7
    assert recent.add(BTC, "late", 2 * SECOND)  # all others are older than the window
    assert recent.add(BTC, "later", 2 * SECOND)
    assert [recent.add(BTC, str(number), number) for number in (7, 8)] == [True, True]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "least 0 and most 1048576 must be positive"),
        ((5, 4), "least 5 and most 4 must be positive, in this order"),
        ((1, 1, -1), "window -1 ns is outside 0 to"),
    ],
)
def test_a_window_without_room_is_refused(arguments: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RecentKeys(*arguments)
    with pytest.raises(IndexError, match="symbol id -1 is outside 0 to"):
        RecentKeys().add(-1, "a")


class PlainKeys:
    """What RecentKeys does, told with lists."""

    def __init__(self, least: int, most: int, window: int) -> None:
        self.least, self.most, self.window = least, most, window
        self.of: dict[int, list[tuple[str, int]]] = {}
        self.newest: dict[int, int] = {}

    def add(self, symbol: int, key: str, time: int) -> bool:
        own = self.of.setdefault(symbol, [])
        if (key, time) in own:
            return False
        self.newest[symbol] = max(time, self.newest.get(symbol, time))
        while len(own) >= self.least and (
            sum(map(len, self.of.values())) >= self.most or own[0][1] < self.newest[symbol] - self.window
        ):
            own.pop(0)
        own.append((key, time))
        return True


TRADES = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30).map(str), st.integers(0, 12)), max_size=250)


@given(st.integers(1, 6), st.integers(0, 30), st.integers(0, 12), TRADES, st.integers(0, 250))
def test_the_window_remembers_what_lists_would_and_so_does_its_snapshot(
    least: int, more: int, window: int, trades: list[tuple[int, str, int]], cut: int
) -> None:
    recent, plain = RecentKeys(least, least + more, window), PlainKeys(least, least + more, window)
    for number, trade in enumerate(trades):
        if number == cut:
            made = RecentKeys(least, least + more, window)
            made.load(recent.dump(4), 4)
            recent = made
        assert recent.add(*trade) == plain.add(*trade)
        assert len(recent) == sum(map(len, plain.of.values()))


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0, 1, 1, 150, 400]), st.integers(-2, 3)), max_size=12))
def test_crowds_of_one_time_and_times_that_go_back_are_remembered_as_lists_would(
    crowds: list[tuple[int, int, int]],
) -> None:
    recent, plain, time = RecentKeys(200, 500, 5), PlainKeys(200, 500, 5), 10
    for symbol, many, later in crowds:
        time += later
        for number in range(many):
            assert recent.add(symbol, str(number), time) == plain.add(symbol, str(number), time)
        for number in range(0, many, 7):
            assert recent.add(symbol, str(number), time) == plain.add(symbol, str(number), time)
        assert len(recent) == sum(map(len, plain.of.values()))


def test_a_long_run_forgets_the_oldest_and_nothing_else() -> None:
    recent = RecentKeys(1000, 1000)
    for number in range(20_000):
        assert recent.add(BTC, f"{number:032x}", number)
        if number >= 1000 and number % 97 == 0:
            assert not recent.add(BTC, f"{number - 999:032x}", number - 999)
    assert len(recent) == 1000


def test_a_damaged_snapshot_of_keys_is_refused_and_changes_nothing() -> None:
    recent = RecentKeys()
    for symbol in (BTC, BTC, ETH):
        recent.add(symbol, str(len(recent)), 5)
    parts = recent.dump(2)
    counts, keys = parts["key_counts"], parts["keys"]
    assert (len(counts), len(keys)) == (8, 72)
    for damaged, symbols, message in (
        ({}, 2, "does not say which ids were seen"),
        (parts | {"key_counts": [2, 1]}, 2, "does not say which ids were seen"),
        (parts, 3, "does not say which ids were seen"),
        (parts | {"key_counts": (-1).to_bytes(4, "little", signed=True) + counts[4:]}, 2, "has -1 ids of symbol 0"),
        (parts | {"keys": keys[:-1]}, 2, "has 71 bytes of ids where it says 3"),
        (parts | {"key_counts": b"\xff\xff\xff\x7f" * 2}, 2, "bytes of ids where it says 4294967294"),
        (parts | {"keys": keys[:24] * 3}, 2, "has an id of symbol 0 twice"),
        (parts | {"keys": bytes(72)}, 2, "or one that is none"),
    ):
        with pytest.raises(ValueError, match=message):
            recent.load(damaged, symbols)
    assert [recent.add(BTC, "0", 5), recent.add(ETH, "2", 5), len(recent)] == [False, False, 3]
    with pytest.raises(ValueError, match="has 72 bytes of ids where it says 3"):
        RecentKeys(least=1, most=1).load({"keys": keys, "key_counts": b"\x03\0\0\0"}, 1)


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


def message_of(coin: str, trades: Iterable[tuple[int, int]]) -> bytes:
    return message(*trades).replace(b'"coin":"A"', f'"coin":"{coin}"'.encode())


MINUTE_MS = 60_000


def feed(session: Session, time_ms: int, payload: bytes) -> None:
    session.receive([payload], time_ms * 10**6, time_ms * 10**6)


def test_a_quiet_symbols_replay_counts_once_however_much_the_others_traded() -> None:
    session = Session(HYPERLIQUID, StreamConfig(bars="1h", lateness=1), channel="trades")
    quiet = [(number, number * MINUTE_MS) for number in range(1, 11)]
    for trade in quiet:
        feed(session, trade[1], message_of("QUIET", [trade]))
    for block in range(200):
        time_ms = 11 * MINUTE_MS + block * 10_000
        feed(session, time_ms, message_of("BUSY", [(10**6 + 1000 * block + each, time_ms) for each in range(1000)]))
    feed(session, 50 * MINUTE_MS, message_of("QUIET", quiet))
    assert session.stats.duplicates == 10
    bars = {bar.symbol: bar for bar in session.flush(0)}
    assert (bars["QUIET"].trade_count, bars["BUSY"].trade_count) == (10, 200_000)


def test_a_restart_knows_the_unique_ids_that_were_seen() -> None:
    config = StreamConfig(bars="1h")
    first, second = (Session(HYPERLIQUID, config, channel="trades") for _ in range(2))
    for coin in ("A", "B"):
        feed(first, 8, message_of(coin, [(1, 5), (2, 6), (3, 7)]))
    content = first.dump() or {}
    second.load(content, 0)
    for coin in ("B", "A"):
        feed(second, 9, message_of(coin, [(2, 6), (3, 7), (4, 8)]))
    assert (second.stats.duplicates, second.stats.trades) == (4, 2)
    assert [(bar.symbol, bar.trade_count, bar.volume) for bar in second.flush(0)] == [
        ("A", 4, Decimal(4)), ("B", 4, Decimal(4)),
    ]  # fmt: skip


def test_a_snapshot_whose_ids_are_damaged_is_refused_and_leaves_a_session_that_goes_on() -> None:
    first, second = (Session(HYPERLIQUID, StreamConfig(bars="1h"), channel="trades") for _ in range(2))
    feed(first, 8, message((1, 5), (2, 6)))
    content = first.dump() or {}
    damages: list[dict[str, Any]] = [{"keys": b""}, {"key_counts": b""}, {"counters": []}, {"instruments": "A"}]
    for damage in damages:
        with pytest.raises(ValueError, match="the snapshot"):
            second.load(content | damage, 0)
    feed(second, 8, message((1, 5), (2, 6)))
    assert (second.stats.trades, second.stats.duplicates) == (2, 0)
    assert {"keys", "key_counts"}.isdisjoint(BarBuffer(ids="unique").dump())
