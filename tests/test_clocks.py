"""The exchange's clock beside the local one, how late trades come, and the grace that is learned from it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, strategies as st

import fastbars
from fastbars import StreamConfig
from fastbars.cli.output import csv_line
from fastbars.exchanges import find_exchange
from fastbars.live.clock import ExchangeClock, TradeDelays
from fastbars.live.session import Session
from fastbars.simulator import SimulatedExchange
from fastbars.simulator.faults import Fault, FaultKind, Faults
from fastbars.tapes.recorder import Recording
from servers import START_NS, trade, until

MS = 1_000_000
SECOND = 1_000_000_000
LEARNS = StreamConfig(bars="1s", grace="auto", reconnect_delay=0.05, reconnect_max_delay=0.05)


def learned(delays_ms: list[float]) -> float:
    delays = TradeDelays()
    for delay_ms in delays_ms:
        delays.add(round(delay_ms * MS))
    return delays.grace_ns / SECOND


def test_grace_is_a_second_until_a_thousand_delays_are_known() -> None:
    assert learned([400.0] * 999) == 1.0
    assert learned([400.0] * 1000) == pytest.approx(0.4, rel=0.125)


def test_grace_is_what_all_but_one_in_a_thousand_need() -> None:
    assert learned([300.0] * 998 + [2000.0] * 2) == pytest.approx(2.0, rel=0.125)
    assert learned([300.0] * 999 + [2000.0]) == pytest.approx(0.3, rel=0.125)


@pytest.mark.parametrize(("delay_ms", "grace_s"), [(-5.0, 0.05), (0.0, 0.05), (3.0, 0.05), (9999.0, 10.0)])
def test_grace_stays_within_its_bounds(delay_ms: float, grace_s: float) -> None:
    assert learned([delay_ms] * 1000) == grace_s


def test_trades_of_the_past_that_an_exchange_sends_by_itself_do_not_count() -> None:
    assert learned([60_000.0] * 5000) == 1.0
    assert learned([60_000.0, 80.0] * 1000) == pytest.approx(0.08, rel=0.125)


def test_what_was_long_ago_fades() -> None:
    delays = TradeDelays()
    for delay_ns in [5 * SECOND] * 1000 + [100 * MS] * 1_000_000:
        delays.add(delay_ns)
    assert delays.grace_ns / SECOND == pytest.approx(0.1, rel=0.125)
    assert delays.samples == 1_001_000


@given(st.lists(st.integers(0, 10 * SECOND), min_size=1, max_size=300), st.sampled_from((0.5, 0.9, 0.999)))
def test_a_quantile_is_at_most_an_eighth_above_the_true_one(values: list[int], share: float) -> None:
    delays = TradeDelays()
    for value in values:
        delays.add(value)
    true = next(value for n, value in enumerate(sorted(values), 1) if n >= share * len(values))
    assert true <= delays.quantile_ns(share) <= max(MS, 1.125 * true + 1)


def test_without_delays_there_is_no_quantile() -> None:
    assert TradeDelays().quantile_ns(0.5) == 0


def test_the_clock_offset_is_the_exchanges_clock_less_the_local_one_and_follows_its_steps() -> None:
    clock = ExchangeClock()
    clock.note_wall(1_000 * SECOND, 0)
    offsets = [clock.offset_ns]
    clock.observe(1_003 * SECOND, 0)
    offsets.append(clock.offset_ns)
    clock.note_wall(1_011 * SECOND, 10 * SECOND)  # the wall clock was put forward by a second
    offsets.append(clock.offset_ns)
    clock.note_wall(0, None)  # a replay of a plain tape
    assert [*offsets, clock.offset_ns] == [None, 3 * SECOND, 2 * SECOND, 2 * SECOND]


def lived(session: Session, seconds: int, delay_ms: int, seed: int = 1) -> list[fastbars.OHLCVBar]:
    """Ten trades a second, which come up to `delay_ms` later than the messages about nothing."""
    random, bars = Random(seed), []
    for n in range(10 * seconds):
        steady_ns = n * 100 * MS
        delayed_ms = random.randrange(delay_ms)
        payload = trade(n, 100 * n - delayed_ms, event_ms=100 * n)
        bars += session.receive([payload], START_NS - 7 * SECOND + steady_ns, steady_ns).bars
        if session.clock_is_due(steady_ns + 50 * MS):
            bars += session.advance_clock(steady_ns + 50 * MS, START_NS + steady_ns, feed_up=True)
    return bars


def test_a_session_learns_its_grace_and_waits_as_long_as_trades_need(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    session = Session(find_exchange("binance"), LEARNS, channel="trade", record=recording.session)
    assert session.grace_s == 1.0
    bars = lived(session, 300, 400)
    assert session.grace_s == pytest.approx(0.4, rel=0.15)
    timing = session.timing()
    assert timing["clock_offset_s"] == 7.0
    assert timing["grace_s"] == session.grace_s
    assert timing["delay_p50_s"] == pytest.approx(0.2, rel=0.2)
    assert timing["delay_p999_s"] == pytest.approx(0.4, rel=0.15)
    bars += session.flush(START_NS)
    recording.close()
    # What was learned decided when bars closed; a replay learns the same from what was recorded.
    assert [csv_line(bar) for bar in fastbars.replay(tmp_path)] == [csv_line(bar) for bar in bars]


def test_a_grace_that_is_set_is_not_learned() -> None:
    session = Session(find_exchange("binance"), replace(LEARNS, grace=0.7), channel="trade")
    lived(session, 300, 400)
    assert session.grace_s == 0.7
    assert session.timing()["delay_p999_s"] == pytest.approx(0.4, rel=0.15)


def test_a_shorter_grace_closes_a_bar_as_much_earlier() -> None:
    session = Session(find_exchange("binance"), LEARNS, channel="trade")
    lived(session, 300, 100)
    graced_ns = round(session.grace_s * SECOND)
    assert 90 * MS < graced_ns < 120 * MS
    # The last trade was at most 100 ms older than 299.9 s; its bar ends at 300 s, and the clock is exact.
    assert not session.clock_is_due(300 * SECOND + graced_ns - 1)
    assert session.clock_is_due(300 * SECOND + graced_ns)


async def test_statistics_tell_the_offset_of_an_exchange_whose_clock_is_ahead_and_is_set_back() -> None:
    faults = Faults(1)
    async with SimulatedExchange(symbols=1, rate=300, clock_offset_s=20.0, faults=faults) as exchange:
        config = replace(LEARNS, grace=0.2)
        feed = fastbars.stream("binance", exchange.symbols, url=exchange.url, config=config)
        assert feed.stats().clock_offset_s is None
        async with feed:
            await until(lambda: feed.stats().session.trades > 50)
            await until(lambda: feed.stats().clock_offset_s == pytest.approx(20.0, abs=0.01))
            stats = feed.stats()
            assert stats.grace_s == 0.2
            assert 0 < stats.delay_p50_s <= stats.delay_p999_s < 2.0
            # Event times that are 3 s ahead of trade times: the clock follows them, and trades seem late by as much.
            faults.inject(Fault(FaultKind.CLOCK, seconds=3.0))
            await until(lambda: feed.stats().clock_offset_s == pytest.approx(23.0, abs=0.01))
            await until(lambda: feed.stats().delay_p999_s > 2.8)


async def test_a_grace_is_learned_over_a_real_socket() -> None:
    faults = Faults(1)
    faults.inject(Fault(FaultKind.CLOCK, seconds=0.4))  # by which every trade seems late
    async with SimulatedExchange(symbols=1, rate=2000, faults=faults) as exchange:
        feed = fastbars.stream("binance", exchange.symbols, url=exchange.url, config=LEARNS)
        assert feed.stats().grace_s == 1.0
        async with feed:
            await until(lambda: feed.stats().grace_s != 1.0)
            assert 0.4 <= feed.stats().grace_s <= 0.45  # what is counted together lies an eighth apart


@pytest.mark.parametrize("grace", [-1, -0.1])
def test_a_negative_grace_is_refused_and_auto_is_none(grace: float) -> None:
    with pytest.raises(ValueError, match="grace must not be negative"):
        StreamConfig(grace=grace)
    assert StreamConfig(grace="auto").grace == "auto"


def test_another_word_for_grace_is_refused() -> None:
    with pytest.raises(ValueError, match="grace must be seconds or 'auto', got 'fast'"):
        StreamConfig(grace="fast")  # type: ignore[arg-type]
