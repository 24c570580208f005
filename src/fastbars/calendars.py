"""Where the day, week, month and year bars of a time zone begin: exact boundaries as int64 nanoseconds.

Source: the IANA time zone database, through `zoneinfo`. Units: boundaries ns since the Unix epoch, UTC; origins
seconds of wall-clock time.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import numpy.typing as npt

from fastbars.errors import SpecError

_SECOND = timedelta(seconds=1)
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - wall-clock time, of no zone yet
_EPOCH_UTC = datetime(1970, 1, 1, tzinfo=UTC)
_MONDAY = datetime(1970, 1, 5)  # noqa: DTZ001
# Every valid trade time lies in these years (see `fastbars.kernel.batch`), and so does the interval around it.
_FIRST_YEAR = 1824
_LAST_YEAR = 2116
_LONGEST_ORIGIN_S = 7 * 86400
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
    starts = [start + timedelta(seconds=origin_s) for start in _starts(unit, count)]
    offsets = map(there.utcoffset, starts)
    later_offsets = map(there.utcoffset, [start.replace(fold=1) for start in starts])
    seconds = {
        # Where the clock shows a time twice, the earlier offset is the larger one.
        (start - _EPOCH) // _SECOND - offset // _SECOND if later <= offset else _jump(there, start, later, offset)
        for start, offset, later in zip(starts, offsets, later_offsets, strict=True)
        if offset is not None and later is not None
    }
    times = np.array(sorted(seconds), np.int64) * 1_000_000_000
    times.flags.writeable = False
    return times


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
