"""Bars of a time zone's days, weeks, months and years, against a clock that is read minute by minute."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import example, given, settings, strategies as st

from examples import examples
from fastbars.bars import OHLCVBar
from fastbars.buffer import BarBuffer
from fastbars.errors import SpecError
from fastbars.kernel.batch import TickBatch
from fastbars.live.config import StreamConfig
from fastbars.specs import BarSpec, parse_specs

HOUR = timedelta(hours=1)
# Midnight does not exist: Sao Paulo, Beirut, Havana, Cairo; occurs twice: Azores, St Johns (00:01 back to 23:01),
# Havana; a day left out: Apia, Kwajalein; offsets of 45, 30 and 20 minutes, and of half an hour of summer time.
ZONES = (
    "America/New_York", "Europe/Berlin", "America/Sao_Paulo", "Asia/Beirut", "America/Havana", "Africa/Cairo",
    "Atlantic/Azores", "America/St_Johns", "Pacific/Apia", "Pacific/Kwajalein", "Asia/Kathmandu", "Asia/Kolkata",
    "Australia/Lord_Howe", "Africa/Casablanca", "Etc/GMT+5",
)  # fmt: skip
ORIGINS = ("+00:00", "+17:00", "-07:00", "+23:30", "+00:30", "-24:00")


def only_bar(spec: str | BarSpec, moment: datetime) -> OHLCVBar:
    """The bar of a single trade."""
    buffer = BarBuffer(spec)
    batch = buffer.new_batch()
    batch.append("A", int(moment.timestamp()) * 10**9, "1", "1", 0, 1)
    assert buffer.add_batch(batch) == []
    (bar,) = buffer.flush_all()
    return bar


# The oracle: it reads the clock of the zone at every minute of some days, and starts a bar at the first minute
# that shows the wanted time or later. (After 1972 all zones of the list are whole minutes from UTC.)


@lru_cache(maxsize=4096)
def first_shown(zone: str, wall: datetime) -> datetime:
    there = ZoneInfo(zone)
    minute = wall.replace(tzinfo=UTC) - 27 * HOUR
    while minute.astimezone(there).replace(tzinfo=None) < wall:
        minute += timedelta(minutes=1)
    return minute


def candidates(unit: str, count: int, around: date) -> list[date]:
    """Dates on which an interval may begin, some on both sides of `around`."""
    if unit in ("mo", "y"):
        months = count * (12 if unit == "y" else 1)
        place = ((around.year - 1970) * 12 + around.month - 1) // months
        return [
            date(1970 + (n * months) // 12, (n * months) % 12 + 1, 1) for n in (place - 1, place, place + 1, place + 2)
        ]
    days = count * (7 if unit == "w" else 1)
    epoch = date(1970, 1, 5 if unit == "w" else 1)
    place = (around - epoch).days // days
    reach = range(-9 // days - 2, 9 // days + 4)
    return [epoch + timedelta(days=(place + n) * days) for n in reach]


def expected(zone: str, unit: str, count: int, origin: timedelta, moment: datetime) -> tuple[datetime, datetime]:
    days = candidates(unit, count, moment.date())
    starts = sorted({first_shown(zone, datetime.combine(day, time()) + origin) for day in days})
    return next((opened, closed) for opened, closed in pairwise(starts) if opened <= moment < closed)


def timedelta_of(origin: str) -> timedelta:
    hours, minutes = origin[1:].split(":")
    return (timedelta(hours=int(hours)) + timedelta(minutes=int(minutes))) * (-1 if origin[0] == "-" else 1)


# Moments close to where clocks were changed, and any others.
CHANGES = st.sampled_from((
    datetime(2024, 3, 10, 7, tzinfo=UTC), datetime(2024, 11, 3, 6, tzinfo=UTC), datetime(2017, 10, 15, 3, tzinfo=UTC),
    datetime(2018, 2, 18, 2, tzinfo=UTC), datetime(2011, 12, 30, 10, tzinfo=UTC), datetime(1993, 8, 20, 12, tzinfo=UTC),
    datetime(2009, 11, 1, 2, 31, tzinfo=UTC), datetime(2023, 10, 29, 1, tzinfo=UTC),
    datetime(2022, 3, 26, 22, tzinfo=UTC), datetime(2024, 4, 25, 22, tzinfo=UTC), datetime(2024, 11, 3, 5, tzinfo=UTC),
))  # fmt: skip
MOMENTS = st.one_of(
    st.builds(lambda change, seconds: change + timedelta(seconds=seconds), CHANGES, st.integers(-90_000, 90_000)),
    st.builds(
        lambda seconds: datetime(1973, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds), st.integers(0, 4_400_000_000)
    ),
)
UNITS = st.sampled_from((("d", 1), ("w", 1), ("mo", 1), ("y", 1), ("d", 3), ("mo", 3)))


@settings(max_examples=examples(50))
@given(st.sampled_from(ZONES), UNITS, st.sampled_from(ORIGINS), MOMENTS)
@example("America/St_Johns", ("d", 1), "+00:00", datetime(2009, 11, 1, 2, 45, tzinfo=UTC))
@example("Pacific/Apia", ("d", 1), "+17:00", datetime(2011, 12, 30, 11, tzinfo=UTC))
def test_a_zoned_bar_begins_when_the_wall_clock_first_shows_its_time(
    zone: str, unit: tuple[str, int], origin: str, moment: datetime
) -> None:
    name, count = unit
    bar = only_bar(f"{count}{name}{origin}@{zone}", moment)
    wanted = expected(zone, name, count, timedelta_of(origin), moment.replace(microsecond=0))
    assert (bar.open_time, bar.close_time) == wanted


@pytest.mark.parametrize(
    ("spec", "moment", "opened", "hours"),
    [
        # Sources: the IANA database; the clock was changed on these days.
        ("1d@America/New_York", "2024-03-10T12:00Z", "2024-03-10T05:00Z", 23),
        ("1d@America/New_York", "2024-11-03T12:00Z", "2024-11-03T04:00Z", 25),
        ("1d+17:00@America/New_York", "2024-03-10T12:00Z", "2024-03-09T22:00Z", 23),
        ("1w-07:00@America/New_York", "2024-03-12T12:00Z", "2024-03-10T21:00Z", 168),
        ("1w@Europe/Berlin", "2024-03-31T12:00Z", "2024-03-24T23:00Z", 167),
        ("1d@America/Sao_Paulo", "2017-10-15T12:00Z", "2017-10-15T03:00Z", 23),  # 00:00 became 01:00
        ("1d@America/Havana", "2024-11-03T12:00Z", "2024-11-03T04:00Z", 25),  # 01:00 became 00:00 again
        ("1d@Pacific/Apia", "2011-12-30T10:00Z", "2011-12-30T10:00Z", 24),  # 30 December was left out
        ("1d@Pacific/Apia", "2011-12-30T09:59Z", "2011-12-29T10:00Z", 24),
        ("1mo@Asia/Kolkata", "2024-08-31T18:30Z", "2024-08-31T18:30Z", 720),
        ("1y@Asia/Kathmandu", "1985-12-31T18:30Z", "1985-12-31T18:30Z", 8760 - 0.25),  # the offset grew by 15 minutes
        ("1mo+08:00", "2024-02-01T07:59Z", "2024-01-01T08:00Z", 744),
        ("1d@America/New_York", "1850-01-01T12:00Z", "1850-01-01T04:56:02Z", 24),  # local mean time
        ("4h+01:00", "1970-01-01T00:30Z", "1969-12-31T21:00Z", 4),
        ("1d+17:00", "1969-12-31T16:00Z", "1969-12-30T17:00Z", 24),
    ],
)
def test_bars_on_the_days_of_known_clock_changes(spec: str, moment: str, opened: str, hours: float) -> None:
    bar = only_bar(spec, datetime.fromisoformat(moment))
    assert bar.open_time == datetime.fromisoformat(opened)
    assert bar.close_time - bar.open_time == hours * HOUR
    assert bar.spec == spec


@pytest.mark.parametrize(
    "spec", ["1d@America/New_York", "100y@Asia/Tokyo", "36600d+17:00@Asia/Tokyo", "1w-07:00@Asia/Tokyo"]
)
def test_the_boundaries_reach_beyond_every_valid_time(spec: str) -> None:
    boundaries = BarSpec.parse(spec).boundaries
    assert boundaries is not None
    assert boundaries.dtype == np.int64
    assert boundaries[0] <= -4_600_000_000_000_000_000
    assert boundaries[-1] > 4_600_000_000_000_000_000
    assert (np.diff(boundaries) > 0).all()
    assert not boundaries.flags.writeable


@pytest.mark.parametrize(
    "text",
    ["1d@America/New_York", "1d+17:00@America/New_York", "1w-07:00@America/New_York", "3mo-24:00:30@Asia/Tokyo",
     "1y@Etc/GMT+5", "4h+01:00", "1d+17:00", "1mo+08:00", "7m+00:00:30"],
)  # fmt: skip
def test_a_zoned_spec_is_read_and_written_as_its_text(text: str) -> None:
    spec = BarSpec.parse(text)
    assert str(spec) == text
    assert BarSpec.parse(str(spec)) == spec


def test_one_and_the_same_calendar_is_one_and_the_same_spec() -> None:
    assert BarSpec.parse("1d@UTC") == BarSpec.parse("1d") == BarSpec.parse("1d+24:00") == BarSpec.parse("1d+00:00@UTC")
    assert BarSpec.parse("4h+05:00") == BarSpec.parse("4h+01:00") == BarSpec.parse("4h-03:00")
    assert BarSpec.parse("1d-07:00@Asia/Tokyo") == BarSpec.parse("1d+17:00@Asia/Tokyo")
    assert BarSpec.parse("1d@Asia/Tokyo") != BarSpec.parse("1d")


@pytest.mark.parametrize("origin", ["17:00", time(17), timedelta(hours=17), 61_200])
def test_an_origin_is_text_a_time_a_timedelta_or_seconds(origin: Any) -> None:
    assert str(BarSpec.parse("1d", timezone="Asia/Tokyo", origin=origin)) == "1d+17:00@Asia/Tokyo"


def test_a_zone_for_all_leaves_shorter_bars_and_those_with_their_own_as_they_are() -> None:
    specs = parse_specs("1m,4h+01:00,1d,1w@Asia/Tokyo,1mo-07:00,tick:5", timezone="America/New_York", origin="17:00")
    assert list(map(str, specs)) == [
        "1m", "4h+01:00", "1d+17:00@America/New_York", "1w+17:00@Asia/Tokyo", "1mo-07:00@America/New_York", "tick:5",
    ]  # fmt: skip
    assert StreamConfig(bars="1d", timezone="Asia/Tokyo").specs == parse_specs("1d@Asia/Tokyo")
    assert BarBuffer("1d", timezone="Asia/Tokyo", origin="17:00").specs == parse_specs("1d+17:00@Asia/Tokyo")


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("1d@Mars/Olympus", {}, "time zone 'Mars/Olympus' is not known"),
        ("1d@../../etc/passwd", {}, "is not known"),
        ("1d@", {}, "names no time zone"),
        ("1h@Asia/Tokyo", {}, "bar spec 1h is shorter than a day"),
        ("1h", {"timezone": "Asia/Tokyo"}, "shorter than a day"),
        ("tick:5", {"timezone": "Asia/Tokyo"}, "is not cut by time"),
        ("tick:5", {"origin": "17:00"}, "is not cut by time"),
        ("1d+17", {}, r"origin '\+17' is not HH:MM"),
        ("1d+17:60", {}, "is not HH:MM"),
        ("1w+168:00", {}, "is 7 days or more"),
        ("1d", {"origin": "five"}, "is not HH:MM"),
        ("1d", {"origin": 1.5}, "is not text such as '17:00'"),
        ("1d", {"origin": timedelta(microseconds=1)}, "must be whole seconds"),
        ("1d", {"origin": time(17, tzinfo=UTC)}, "without a zone"),
        ("1d@Asia/Tokyo@Asia/Tokyo", {}, "is not known"),
    ],
)
def test_a_zone_or_origin_that_makes_no_sense_is_refused(text: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        BarSpec.parse(text, **options)


def test_an_unknown_zone_for_all_is_refused_even_where_no_bar_would_use_it() -> None:
    with pytest.raises(SpecError, match="time zone 'Mars' is not known"):
        parse_specs("1m", timezone="Mars")


@given(st.sampled_from(ZONES[:4]), st.lists(st.integers(0, 40 * 86400), min_size=1, max_size=60), st.booleans())
def test_every_trade_is_in_the_one_day_bar_that_covers_it(zone: str, seconds: list[int], shuffled: bool) -> None:
    start = int(datetime(2024, 10, 20, tzinfo=UTC).timestamp())
    times = [(start + second) * 10**9 for second in (seconds if shuffled else sorted(seconds))]
    buffer = BarBuffer(["1h", "1d"], timezone=zone, lateness_s=10**7)
    batch: TickBatch = buffer.new_batch()
    for number, time_ns in enumerate(times):
        batch.append("A", time_ns, "1", "1", 0, number)
    bars = [bar for bar in buffer.add_batch(batch) + buffer.flush_all() if "@" in bar.spec]
    last = {bar.open_time: bar for bar in bars}
    counts: dict[tuple[datetime, datetime], int] = {}
    for time_ns in times:
        moment = datetime.fromtimestamp(time_ns // 10**9, UTC)
        key = expected(zone, "d", 1, timedelta(), moment)
        counts[key] = counts.get(key, 0) + 1
    assert {(bar.open_time, bar.close_time): bar.trade_count for bar in last.values()} == counts


WITHOUT_FILES = """
import sys, zoneinfo
sys.modules["tzdata"] = None
zoneinfo.reset_tzpath(to=[])
from fastbars import BarBuffer, SpecError, aggregate
for spec in ("1d@UTC", "1d@Etc/UTC", "1w+17:00@GMT", "1mo+01:00", "3mo-07:00", "1y+00:30"):
    buffer = BarBuffer(spec)
    buffer.add("X", 1_735_693_200_000_000_000, "1", "1")
    print(spec, buffer.flush_all()[0].open_time.isoformat())
print(aggregate([0], ["1"], ["1"], bars="1d", timezone="UTC", origin="17:00")[0].open_time.isoformat())
for name in ("America/New_York", "Nowhere"):
    try:
        BarBuffer(f"1d@{name}")
    except SpecError as error:
        print(error)
"""


def test_utc_needs_no_time_zone_files_and_what_does_says_what_to_install() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_FILES], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "1d@UTC 2025-01-01T00:00:00+00:00",
        "1d@Etc/UTC 2025-01-01T00:00:00+00:00",
        "1w+17:00@GMT 2024-12-30T17:00:00+00:00",
        "1mo+01:00 2025-01-01T01:00:00+00:00",
        "3mo-07:00 2024-12-31T17:00:00+00:00",
        "1y+00:30 2025-01-01T00:30:00+00:00",
        "1969-12-31T17:00:00+00:00",
        *(
            f"time zone '{name}' cannot be looked up: this system has no time zone files; pip install tzdata"
            for name in ("America/New_York", "Nowhere")
        ),
    ]
