"""Session bars: the hours of a day in a zone, or of an exchange's calendar; what is traded outside belongs to none."""

from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from examples import examples
from fastbars.bars import OHLCVBar
from fastbars.buffer import BarBuffer, Empty
from fastbars.columnar.arrays import aggregate
from fastbars.errors import SpecError
from fastbars.specs import BarKind, BarSpec
from strategies import SESSION_SPECS, Scenario, buffer_for, expected, oracle_for, replay, scenarios

MIXED = (*SESSION_SPECS, "1s", "1m", "1h", "1d", "tick:3")
NEW_YORK = "session:09:30-16:00@America/New_York"
ZONES = ("America/New_York", "Europe/Berlin", "America/Sao_Paulo", "Asia/Beirut", "Australia/Lord_Howe", "Pacific/Apia")


@settings(max_examples=examples(60))
@given(scenarios(specs=MIXED, most_specs=4, covers=True))
def test_any_feed_makes_the_session_bars_of_the_oracle(scenario: Scenario) -> None:
    assert replay(buffer_for(scenario), scenario.events, scenario.cuts) == expected(
        oracle_for(scenario), scenario.events
    )


def first_shown(zone: str, wall: datetime) -> datetime:
    """The minute at which the clock of a zone shows a time, or a later one, first."""
    minute = wall.replace(tzinfo=UTC) - timedelta(hours=27)
    while minute.astimezone(ZoneInfo(zone)).replace(tzinfo=None) < wall:
        minute += timedelta(minutes=1)
    return minute


@settings(max_examples=examples(4))
@given(
    st.sampled_from(ZONES),
    # Around the days on which these zones change their clocks.
    st.dates(date(2011, 12, 28), date(2012, 1, 1)) | st.dates(date(2024, 3, 8), date(2024, 4, 8)),
    st.integers(0, 1439),
    st.integers(1, 1439),
)
def test_a_session_begins_and_ends_when_the_clock_shows_it_first(zone: str, day: date, at: int, length: int) -> None:
    begins = datetime.combine(day, time(at // 60, at % 60))
    ends = begins + timedelta(minutes=length)
    spec = BarSpec.parse(f"session:{begins:%H:%M}-{ends:%H:%M}@{zone}")
    bounds = spec.boundaries
    assert bounds is not None
    opened, closed = (int(first_shown(zone, wall).timestamp()) * 10**9 for wall in (begins, ends))
    sessions = set(zip(bounds[1:-1:2].tolist(), bounds[2:-1:2].tolist(), strict=True))
    assert ((opened, closed) in sessions) == (opened < closed)


@pytest.mark.parametrize(
    ("spec", "day", "hours"),
    [
        (NEW_YORK, "2024-03-11", 6.5),
        ("session:00:00-23:59@America/New_York", "2024-03-10", 23 - 1 / 60),
        ("session:00:00-23:59@America/New_York", "2024-11-03", 25 - 1 / 60),
        ("session:18:00-17:00@America/Chicago", "2024-03-09", 22),
        ("session:18:00-17:00@America/Chicago", "2024-11-02", 24),
    ],
)
def test_a_session_is_as_long_as_the_clock_makes_it(spec: str, day: str, hours: float) -> None:
    parsed = BarSpec.parse(spec)
    begins = datetime.fromisoformat(day) + timedelta(seconds=parsed.origin_s)
    opened = begins.replace(tzinfo=ZoneInfo(parsed.timezone)).timestamp()
    (bar,) = bars_of(spec, [opened, opened + 60])
    assert bar.open_time.timestamp() == opened
    assert (bar.close_time - bar.open_time) / timedelta(hours=1) == pytest.approx(hours)
    assert bar.trade_count == 2


def bars_of(spec: str | list[str], seconds: list[float], *, empty: Empty = "skip") -> list[OHLCVBar]:
    buffer = BarBuffer(spec, ids="contiguous", empty=empty)
    batch = buffer.new_batch()
    for number, second in enumerate(seconds):
        batch.append("A", int(second * 1000), f"{100 + number}", "1", 0, number, number, time_unit="ms")
    return [*buffer.add_batch(batch), *buffer.flush_all()]


def utc(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def test_what_is_traded_outside_is_in_no_bar_and_proves_the_one_before() -> None:
    times = ["2024-01-02 13:00", "2024-01-02 14:30", "2024-01-02 20:59", "2024-01-02 21:00", "2024-01-03 00:00",
             "2024-01-03 15:00", "2024-01-04 02:00"]  # fmt: skip
    buffer = BarBuffer([NEW_YORK], ids="contiguous", on_late=lambda trade: pytest.fail(f"{trade} is late"))
    batch = buffer.new_batch()
    for number, text in enumerate(times):
        batch.append("A", int(utc(text)), f"{100 + number}", "1", 0, number, number, time_unit="s")
    bars = [*buffer.add_batch(batch), *buffer.flush_all()]
    found: list[Any] = [(bar.open, bar.close, bar.trade_count, str(bar.status)) for bar in bars]
    assert found == [
        (101, 102, 2, "COMPLETE"), (105, 105, 1, "COMPLETE"),
    ]  # fmt: skip


def test_a_flat_session_has_the_close_of_the_session_before_not_of_what_was_traded_between() -> None:
    bars = bars_of(NEW_YORK, [utc(text) for text in ("2024-01-02 15:00", "2024-01-02 23:00", "2024-01-05 15:00")],
                   empty="fill")  # fmt: skip
    found: list[Any] = [(f"{bar.open_time:%d %H:%M}", bar.close, bar.trade_count) for bar in bars]
    assert found == [
        ("02 14:30", 100, 1), ("03 14:30", 100, 0), ("04 14:30", 100, 0), ("05 14:30", 102, 1),
    ]  # fmt: skip


@settings(max_examples=examples(30))
@given(st.lists(st.integers(0, 5 * 86400), min_size=1, max_size=60))
def test_minutes_make_up_sessions_as_trades_do(seconds: list[int]) -> None:
    times = np.sort(np.array(seconds, np.int64) + int(utc("2024-03-08 00:00"))) * 10**9
    prices = np.arange(len(times)) + 100
    bars = aggregate(times, prices, np.ones_like(times), bars=["1m", NEW_YORK])
    own = [bar for bar in bars if bar.spec == NEW_YORK]
    made = list(aggregate(times, prices, np.ones_like(times), bars="1m").resample(NEW_YORK))
    values = [(bar.open_time, bar.close_time, bar.open, bar.close, bar.volume, bar.trade_count) for bar in own]
    assert [(bar.open_time, bar.close_time, bar.open, bar.close, bar.volume, bar.trade_count) for bar in made] == values


def test_hours_that_do_not_nest_are_refused_and_sessions_make_up_nothing() -> None:
    bars = aggregate(np.array([52200 * 10**9]), [1], [1], bars=["1h"])
    with pytest.raises(SpecError, match="no bars of 1h make up whole ones of session:09:30-16:00"):
        bars.resample(NEW_YORK)
    with pytest.raises(SpecError, match="hold those of sessions alone"):
        aggregate(np.array([52200 * 10**9]), [1], [1], bars=[NEW_YORK]).resample("1w")


@pytest.mark.parametrize(
    "text", [NEW_YORK, "session:18:00-17:00@America/Chicago", "session:00:00-00:00:01", "session:09:30-00:00"]
)
def test_a_session_is_read_and_written_as_its_text(text: str) -> None:
    spec = BarSpec.parse(text)
    assert (str(spec), spec.kind, spec.is_timed) == (text, BarKind.SESSION, True)
    assert pickle.loads(pickle.dumps(spec)) == spec == BarSpec.parse(str(spec))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("session:09:30-09:30", "between two times of a day"), ("session:24:00-01:00", "between two times of a day"),
        ("session:09:30-16:00@", "no time zone"), ("session:09:30-16:00@Nowhere", "'Nowhere' is not known"),
        ("session:09:30-16:61", "not HH:MM"), ("session:", "is not known"), ("session:9", "9"),
    ],
)  # fmt: skip
def test_hours_that_make_no_sense_are_refused(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        BarSpec.parse(text)


@pytest.mark.parametrize(
    "fields", [{"unit": "s"}, {"origin_s": 86400}, {"origin_s": -1}, {"calendar": "XNYS"}, {"calendar": "../x"}]
)
def test_fields_that_are_no_session_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(SpecError):
        replace(BarSpec.parse(NEW_YORK), **fields)


@pytest.mark.filterwarnings("ignore:Series.values")
def test_the_sessions_of_an_exchange_know_its_holidays_and_half_days() -> None:
    pytest.importorskip("exchange_calendars", reason="an extra")
    spec = BarSpec.parse("session:XNYS")
    assert (str(spec), spec.calendar) == ("session:XNYS", "XNYS")
    days = ["2024-11-27", "2024-11-28", "2024-11-29", "2024-12-01", "2024-12-02"]  # Thanksgiving, a half day, a Sunday
    trades = [utc(f"{day} {hour}") for day in days for hour in ("14:29", "14:30", "17:59", "18:00", "21:00")]
    bars = bars_of("session:XNYS", trades)
    assert [(f"{bar.open_time:%d %H:%M}", f"{bar.close_time:%H:%M}", bar.trade_count) for bar in bars] == [
        ("27 14:30", "21:00", 3), ("29 14:30", "18:00", 2), ("02 14:30", "21:00", 3),
    ]  # fmt: skip
    with pytest.raises(SpecError, match="'NOPE' is not one of exchange-calendars"):
        BarSpec.parse("session:NOPE")


@pytest.mark.filterwarnings("ignore:Series.values")
def test_sessions_that_follow_at_once_leave_nothing_between() -> None:
    pytest.importorskip("exchange_calendars", reason="an extra")
    bars = bars_of("session:24/7", [utc("2024-01-01 23:59"), utc("2024-01-02 00:00"), utc("2024-01-03 00:00")])
    assert [bar.trade_count for bar in bars] == [1, 1, 1]
    assert all(before.close_time == behind.open_time for before, behind in pairwise(bars))


def test_without_the_package_a_calendar_says_what_to_install_and_nothing_else_needs_it() -> None:
    code = (
        "import sys; sys.modules['exchange_calendars'] = None\n"
        "from fastbars import BarSpec, BarBuffer\n"
        f"BarBuffer([{NEW_YORK!r}])\n"
        "assert 'pandas' not in sys.modules\n"
        "try: BarSpec.parse('session:XNYS')\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(
        "SpecError sessions of calendar 'XNYS' need exchange-calendars: pip install fastbars["
    )
