"""How far back a history goes: what users give, as the beginning of the first interval of each spec.

Units: times int64 nanoseconds since the Unix epoch, UTC.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

from fastbars.bars import OHLCVBar
from fastbars.errors import SpecError
from fastbars.exchanges.candles import grid_of
from fastbars.exchanges.checked import LATEST_NS
from fastbars.specs import BarKind, BarSpec
from fastbars.ticks import to_datetime, to_nanoseconds

MOST_BARS = 1_000_000  # of one symbol and spec
_DAY_NS = 86_400 * 10**9
_SPAN = re.compile(r"([0-9]{1,6})(s|m|h|d|w|mo|y)")

Span = int | str | timedelta
"""How much history: bars of each spec, or a time such as "3d"."""
Since = datetime | int | OHLCVBar
"""Where history begins: an aware datetime, ns since the epoch, or the bar behind which it goes on."""


@lru_cache(maxsize=64)
def _boundaries_of(spec: BarSpec) -> list[int]:
    found = spec.boundaries
    if found is None:
        return []
    # The time between two sessions has no bar.
    times: list[int] = (found[1:-1:2] if spec.kind is BarKind.SESSION else found).tolist()
    return times


def open_of(spec: BarSpec, time_ns: int) -> int:
    """Where the interval of a time spec begins that a time lies in; outside of sessions, that of the last one."""
    if not spec.is_zoned:
        return grid_of(str(spec)).floor(time_ns)
    boundaries = _boundaries_of(spec)
    return boundaries[max(bisect_right(boundaries, time_ns) - 1, 0)]


def shifted(spec: BarSpec, open_ns: int, count: int) -> int:
    """Where the interval begins that is so many after (or before) the one that begins at `open_ns`."""
    if not spec.is_zoned:
        return grid_of(str(spec)).shift(open_ns, count)
    boundaries = _boundaries_of(spec)
    place = bisect_right(boundaries, open_ns) - 1 + count
    return boundaries[min(max(place, 0), len(boundaries) - 1)]


def length_of(spec: str) -> int:
    """The length of the first interval of a time spec, ns."""
    return shifted(BarSpec.parse(spec), 0, 1)


class Reach(NamedTuple):
    """How far back a history goes, as the user said it.

    Attributes:
        bars: of each spec; else None.
        span: a time spec, such as that of "3d"; else None.
        since_ns: a point of time; else None.
    """

    bars: int | None = None
    span: BarSpec | None = None
    since_ns: int | None = None

    @staticmethod
    def of(history: Span | None, since: Since | None, name: str = "history") -> Reach | None:
        """What `history=` (or as its name is) and `since=` say; None where neither is given.

        Raises:
            ValueError, TypeError: both are given, or one of them makes no sense; the message says what would.
        """
        if history is None and since is None:
            return None
        if history is not None and since is not None:
            raise ValueError(f"give {name}={history!r} or since={since!r}, not both")
        if since is not None:
            time_ns = to_nanoseconds(since.close_time if isinstance(since, OHLCVBar) else since)
            if not 0 <= time_ns <= LATEST_NS:
                raise ValueError(f"since={since!r} is outside of 1970 to {to_datetime(LATEST_NS):%Y}")
            return Reach(since_ns=time_ns)
        if isinstance(history, int) and not isinstance(history, bool):
            if not 0 < history <= MOST_BARS:
                raise ValueError(f"{name}={history} bars: it must be 1 to {MOST_BARS:,}")
            return Reach(bars=history)
        if isinstance(history, timedelta):
            seconds = history.total_seconds()
            if seconds < 1 or seconds > LATEST_NS / 1e9 or seconds != int(seconds):
                raise ValueError(f"{name}={history!r} must be whole seconds, at least one")
            return Reach(span=BarSpec.parse(int(seconds)))
        if isinstance(history, str) and _SPAN.fullmatch(history):
            return Reach(span=BarSpec.parse(history))
        wrong = ValueError if isinstance(history, str | float) else TypeError
        raise wrong(f"{name}={history!r} must be a number of bars, such as 500, or a time, such as '3d' or '12h'")

    def since(self, spec: BarSpec, now_ns: int) -> int:
        """Where the first bar of a spec begins; of a path-driven one, where its first trade may be.

        Raises:
            SpecError: bars of a path-driven spec cannot be counted back. ValueError: that is in the future, or more
                bars than `MOST_BARS`.
        """
        if self.bars is not None:
            if not spec.is_timed:
                raise SpecError(
                    f"history={self.bars} counts intervals of time, and {spec} has none: give a time, such as"
                    " history='3d', or since="
                )
            return shifted(spec, open_of(spec, now_ns), -self.bars)
        if self.since_ns is not None:
            time_ns = self.since_ns
            if time_ns > now_ns:
                raise ValueError(f"since={to_datetime(time_ns)} is in the future: it is {to_datetime(now_ns)}")
        else:
            assert self.span is not None
            time_ns = _before(now_ns, self.span)
        if not spec.is_timed:
            return time_ns
        open_ns = open_of(spec, time_ns)
        length_ns = shifted(spec, open_ns, 1) - open_ns
        if length_ns > 0 and (now_ns - open_ns) // length_ns > MOST_BARS:
            raise ValueError(
                f"history since {to_datetime(open_ns)} has {(now_ns - open_ns) // length_ns:,} intervals of {spec},"
                f" the limit is {MOST_BARS:,}"
            )
        return open_ns


def _before(now_ns: int, span: BarSpec) -> int:
    if span.unit in ("mo", "y"):  # by the calendar: to the day, or the last one of that month
        months = int(span.step) * (12 if span.unit == "y" else 1)
        first_ns = grid_of("1mo").shift(grid_of("1mo").floor(now_ns), -months)
        last_ns = grid_of("1mo").shift(first_ns, 1) - _DAY_NS
        inside_ns = now_ns - grid_of("1mo").floor(now_ns)
        return min(first_ns + inside_ns, last_ns + inside_ns % _DAY_NS)
    return max(now_ns - span.rule[1], 0)


def check_reach(reach: Reach, specs: Sequence[BarSpec], now_ns: int) -> None:
    """Raise ValueError or SpecError, as `Reach.since`, for any of the specs."""
    for spec in specs:
        reach.since(spec, now_ns)
