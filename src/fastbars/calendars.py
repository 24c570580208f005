"""Where the day, week, month and year bars of a time zone begin, and sessions begin and end, exactly.

Source: the IANA time zone database, through `zoneinfo`; exchanges' holidays and half days: `exchange-calendars`.
Units: boundaries int64 ns since the Unix epoch, UTC; origins seconds of wall-clock time.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from itertools import pairwise
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import numpy.typing as npt

from fastbars.clocks import wall_ns
from fastbars.errors import SpecError

_SECOND = timedelta(seconds=1)
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - wall-clock time, of no zone yet
_EPOCH_UTC = datetime(1970, 1, 1, tzinfo=UTC)
_MONDAY = datetime(1970, 1, 5)  # noqa: DTZ001
# Every valid trade time lies in these years (see `fastbars.kernel.batch`), and so does the interval around it.
_FIRST_YEAR = 1824
_LAST_YEAR = 2116
_LONGEST_ORIGIN_S = 7 * 86400
_FIRST_SESSIONS = date(1990, 1, 1)  # of exchanges: earlier trades are not sold
_NAMES_OF_UTC = frozenset(
    f"{place}{name}" for place in ("", "Etc/") for name in ("UTC", "UCT", "Universal", "Zulu", "GMT", "Greenwich")
)


def zone(name: str) -> tzinfo:
    """The time zone of an IANA name. Raises SpecError where there is none.

    UTC by any of its names needs no time zone files.
    """
    if name in _NAMES_OF_UTC:
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        if not _has_files():
            raise SpecError(
                f"time zone {name!r} cannot be looked up: this system has no time zone files; pip install tzdata"
            ) from error
        raise SpecError(
            f"time zone {name!r} is not known; an IANA name is expected, such as America/New_York"
        ) from error


def _has_files() -> bool:
    # Whether any zone is found: one that every release of the database has.
    try:
        ZoneInfo.no_cache("America/New_York")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def origin_seconds(origin: str | time | timedelta | int) -> int:
    """An origin in seconds: "17:00", "-07:00", "+00:00:30", a time of day, a timedelta, seconds.

    Raises:
        SpecError: it is of another type or form, is not a whole number of seconds, or is 7 days or longer.
    """
    if isinstance(origin, str):
        match = re.fullmatch(r"([+-]?)([0-9]{2,3}):([0-5][0-9])(?::([0-5][0-9]))?", origin)
        if match is None:
            raise SpecError(f"origin {origin!r} is not HH:MM or HH:MM:SS, with or without a sign")
        seconds = int(match[2]) * 3600 + int(match[3]) * 60 + int(match[4] or 0)
        seconds = -seconds if match[1] == "-" else seconds
    elif isinstance(origin, time):
        if origin.tzinfo is not None or origin.microsecond:
            raise SpecError(f"origin {origin!r} must be a time of day in whole seconds, without a zone")
        seconds = origin.hour * 3600 + origin.minute * 60 + origin.second
    elif isinstance(origin, timedelta):
        if origin % _SECOND:
            raise SpecError(f"origin {origin!r} must be whole seconds")
        seconds = origin // _SECOND
    elif isinstance(origin, int) and not isinstance(origin, bool):
        seconds = origin
    else:
        raise SpecError(f"origin {origin!r} is not text such as '17:00', a time, a timedelta or seconds")
    if abs(seconds) >= _LONGEST_ORIGIN_S:
        raise SpecError(f"origin {origin!r} is 7 days or more")
    return seconds


def origin_text(seconds: int) -> str:
    """The text of an origin, signed, as `origin_seconds` reads it."""
    minutes, rest = divmod(abs(seconds), 60)
    text = f"{'-' if seconds < 0 else '+'}{minutes // 60:02}:{minutes % 60:02}"
    return f"{text}:{rest:02}" if rest else text


@lru_cache(maxsize=64)
def boundaries(timezone: str, unit: str, count: int, origin_s: int) -> npt.NDArray[np.int64]:
    """Where the intervals of `count` days, weeks, months or years begin, over all valid trade times.

    Args:
        timezone: IANA name.
        unit: d, w, mo or y.
        count: units per interval; intervals of several are counted from 1970.
        origin_s: wall-clock seconds from midnight to the beginning.

    Returns:
        int64[n] ns since the epoch, ascending, read-only. Each is the first moment at which the wall clock has
        reached the beginning: the first of the two if it occurs twice, and the moment of the jump if the clock jumps
        over it. A day that a zone skipped has no interval.
    """
    there = zone(timezone)
    return _read_only(
        sorted(set(_moments(there, [start + timedelta(seconds=origin_s) for start in _starts(unit, count)])))
    )


@lru_cache(maxsize=64)
def session_boundaries(timezone: str, origin_s: int, length_s: int) -> npt.NDArray[np.int64]:
    """Where the sessions of each day begin and end, over all valid trade times.

    Args:
        timezone: IANA name.
        origin_s: wall-clock seconds from midnight to the beginning, under a day.
        length_s: wall-clock seconds from there to the end, under a day.

    Returns:
        int64[n] ns since the epoch, ascending, read-only: a time before all others, begin and end of each session, a
        time behind all. Each is the first moment at which the wall clock has reached it, as those of `boundaries`. A
        session that the clock jumps over is left out.
    """
    there = zone(timezone)
    opens = [start + timedelta(seconds=origin_s) for start in _starts("d", 1)]
    opened = _moments(there, opens)
    closed = _moments(there, [start + timedelta(seconds=length_s) for start in opens])
    return _as_sessions([pair for pair in zip(opened, closed, strict=True) if pair[0] < pair[1]])


@lru_cache(maxsize=64)
def exchange_boundaries(calendar: str) -> npt.NDArray[np.int64]:
    """Likewise, of the sessions of an exchange, its holidays left out and half days as short as they are.

    Args:
        calendar: its name in `exchange-calendars`, such as XNYS.

    Returns:
        As `session_boundaries`, from 1990, or where the calendar begins, to the end of next year. Breaks, such as that
        for lunch, are part of a session.

    Raises:
        SpecError: the package is not installed, has no such calendar, or its calendar is over.
    """
    try:
        import exchange_calendars  # noqa: PLC0415 an extra, and it brings pandas
    except ImportError as error:
        raise SpecError(
            f"sessions of calendar {calendar!r} need exchange-calendars: pip install fastbars[calendars]"
        ) from error
    now_s = wall_ns() // 1_000_000_000
    next_year = (_EPOCH + now_s * _SECOND).year + 1
    try:
        kind = type(exchange_calendars.get_calendar(calendar))
        first, last = kind.bound_min(), kind.bound_max()
        found = exchange_calendars.get_calendar(
            calendar,
            start=max(_FIRST_SESSIONS, first.date() if first is not None else _FIRST_SESSIONS),
            end=min(date(next_year, 12, 31), last.date() if last is not None else date.max),
        )
    except exchange_calendars.errors.CalendarError as error:
        raise SpecError(f"calendar {calendar!r} is not one of exchange-calendars: {error}") from error
    pairs = np.stack([found.opens_nanos, found.closes_nanos], axis=1) // 1_000_000_000
    if int(pairs[-1, 1]) < now_s:
        raise SpecError(
            f"calendar {calendar!r} ends on {found.last_session:%Y-%m-%d}: a newer exchange-calendars is needed"
        )
    return _as_sessions(pairs.tolist())


def _as_sessions(pairs: Sequence[Sequence[int]]) -> npt.NDArray[np.int64]:
    # Seconds at which sessions begin and end, in order. Those that overlap would put a trade into two bars.
    times = [moment for pair in pairs for moment in pair]
    if any(behind < before for before, behind in pairwise(times)):
        raise SpecError("sessions that overlap cannot be bars")
    years = ((datetime(year, 1, 1) - _EPOCH) // _SECOND for year in (_FIRST_YEAR - 1, _LAST_YEAR + 2))  # noqa: DTZ001
    first, last = years
    return _read_only([first, *times, last])


def _read_only(seconds: Sequence[int]) -> npt.NDArray[np.int64]:
    times = np.array(seconds, np.int64) * 1_000_000_000
    times.flags.writeable = False
    return times


def _moments(there: tzinfo, starts: Sequence[datetime]) -> list[int]:
    # Seconds since the epoch at which the wall clock reaches these times first.
    offsets = map(there.utcoffset, starts)
    later_offsets = map(there.utcoffset, [start.replace(fold=1) for start in starts])
    return [
        # Where the clock shows a time twice, the earlier offset is the larger one.
        (start - _EPOCH) // _SECOND - offset // _SECOND if later <= offset else _jump(there, start, later, offset)
        for start, offset, later in zip(starts, offsets, later_offsets, strict=True)
        if offset is not None and later is not None
    ]


def _starts(unit: str, count: int) -> list[datetime]:
    # Wall-clock midnights of the valid years; the first and the last lie outside, whatever the zone and origin.
    if unit in ("d", "w"):
        days = count * (7 if unit == "w" else 1)
        since = _MONDAY if unit == "w" else _EPOCH
        first = (date(_FIRST_YEAR, 1, 1) - since.date()).days // days
        last = (date(_LAST_YEAR, 1, 1) - since.date()).days // days + 1
        return [since + timedelta(days=n * days) for n in range(first, last + 1)]
    months = count * (12 if unit == "y" else 1)
    first = (_FIRST_YEAR - 1970) * 12 // months
    last = (_LAST_YEAR - 1970) * 12 // months + 1
    return [datetime(1970 + n * months // 12, n * months % 12 + 1, 1) for n in range(first, last + 1)]  # noqa: DTZ001


def _jump(there: tzinfo, wall: datetime, later: timedelta, offset: timedelta) -> int:
    # Seconds since the epoch at which the clock jumps over `wall`: after the first of these two, up to the second.
    before, at = (wall - later - _EPOCH) // _SECOND, (wall - offset - _EPOCH) // _SECOND
    while at - before > 1:
        middle = (before + at) // 2
        shown = (_EPOCH_UTC + middle * _SECOND).astimezone(there).replace(tzinfo=None)
        before, at = (before, middle) if shown >= wall else (middle, at)
    return at
