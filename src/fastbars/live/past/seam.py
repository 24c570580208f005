"""The seam between history and live bars: for each symbol and spec the past first, then what came meanwhile.

It stands between kernel and delivery and knows no socket, no timer and no exchange. A lane is one symbol and one spec:

    closed --open--> past: live bars are held, those of the past pass, in order --join--> closed: the held bars pass

What the past has covered is known by one time for each lane, its mark: everything before it was delivered, or was not
traded. A lane may be joined once the mark has reached its first held bar, and has passed every held bar at the front
that is worse than a candle (PARTIAL, GAP): of those the past has a better one; and every one at the front that healing
has brought: between those there may be bars that it has not brought yet, and would bring after later ones. Which of two
bars of one interval is issued, and with which revision, is decided by `EarlierBars`, as for bars of an earlier process.

What is held is bounded: a bar that is issued again takes the place of its earlier issue, and beyond `MOST_HELD` bars in
all, the lane that holds most is joined without its history. Marks outlive a restart, so that history that was delivered
is not asked for again. Units: times int64 nanoseconds since the Unix epoch, UTC.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from operator import attrgetter
from typing import Any, NamedTuple

import orjson

from fastbars.bars import STATUSES, BarStatus, OHLCVBar, PathNumber, begins, path_number
from fastbars.live.delivery_log import decoded, encoded
from fastbars.live.reissues import EarlierBars
from fastbars.ticks import to_nanoseconds

MOST_HELD = 200_000
MOST_LANES = 1_000_000
_RANK = {status: rank for rank, status in enumerate(STATUSES)}
_WORST_GOOD = _RANK[BarStatus.PARTIAL] - 1
_FROM_REST = (BarStatus.HEALED, BarStatus.PUBLISHED)

Lane = tuple[str, str]  # symbol, spec
_Key = tuple[datetime, PathNumber]
_open_time = attrgetter("open_time")


class Need(NamedTuple):
    """What a lane still needs before it may be joined.

    Attributes:
        mark_ns: up to where the past has covered it.
        until_ns: up to where it must; None: no live bar has come yet, so that nobody knows.
    """

    mark_ns: int
    until_ns: int | None

    @property
    def is_met(self) -> bool:
        """Whether nothing is missing."""
        return self.until_ns is not None and self.mark_ns >= self.until_ns


class Seam:
    """Holds the live bars of lanes whose past is on its way.

    Args:
        earlier: judges the bars that pass by those that were issued before.
        path_specs: names of the specs whose bars are told apart by their first trade as well.
    """

    def __init__(self, earlier: EarlierBars, path_specs: Iterable[str] = ()) -> None:
        self.earlier = earlier
        self._paths = frozenset(path_specs)
        self._held: dict[Lane, dict[_Key, OHLCVBar]] = {}  # of open lanes
        self._marks: dict[Lane, int] = {}
        self._spans: dict[Lane, tuple[int, int]] = {}  # which time the past has covered, of each lane
        self._count = 0
        self._fresh: set[str] = set()  # symbols of which bars were held since they were last asked for
        self._abandoned: list[Lane] = []  # likewise, joined because too many bars were held

    @property
    def is_open(self) -> bool:
        """Whether there is an open lane."""
        return bool(self._held)

    @property
    def held(self) -> int:
        """How many bars are held."""
        return self._count

    def lanes(self) -> list[Lane]:
        """The open ones."""
        return list(self._held)

    def is_lane_open(self, lane: Lane) -> bool:
        """Whether its bars are held."""
        return lane in self._held

    def open(self, lane: Lane, since_ns: int) -> int:
        """Hold the lane's bars from now on; the past begins at its mark, or without one at this time. Returns where.

        Idempotent.
        """
        mark_ns = self._marks.setdefault(lane, since_ns)
        if lane not in self._held:
            self._held[lane] = {}
            self._spans[lane] = mark_ns, mark_ns
        return mark_ns

    def hold(self, bars: list[OHLCVBar]) -> list[OHLCVBar]:
        """Those of these bars that pass; the others are held."""
        if not self._marks:
            return bars
        passing: list[OHLCVBar] = []
        for bar in bars:
            held = self._held.get((bar.symbol, bar.spec))
            if held is None:
                if not self._is_answered(bar):
                    passing.append(bar)
                continue
            key = begins(bar), path_number(bar) if bar.spec in self._paths else None
            if key not in held:
                self._count += 1
            held[key] = bar
            self._fresh.add(bar.symbol)
        while self._count > MOST_HELD:
            lane = max(self._held, key=lambda lane: len(self._held[lane]))
            self._abandoned.append(lane)
            passing += self.join(lane)
        self._note(passing)
        return passing

    def need(self, lane: Lane) -> Need:
        """What an open lane still needs."""
        mark_ns, held = self._marks[lane], self._held[lane]
        until_ns: int | None = None
        for bar in sorted(held.values(), key=_open_time):
            if until_ns is None:
                until_ns = to_nanoseconds(bar.open_time)
            close_ns = to_nanoseconds(bar.close_time)
            if close_ns <= mark_ns:
                continue
            if lane[1] in self._paths or (_RANK[bar.status] <= _WORST_GOOD and bar.status not in _FROM_REST):
                break
            until_ns = close_ns
        return Need(mark_ns, until_ns)

    def first_held(self, lane: Lane) -> OHLCVBar | None:
        """The first live bar that is held of a lane."""
        return next(iter(self._held.get(lane, {}).values()), None)

    def take_fresh(self) -> set[str]:
        """The symbols of which bars were held since this was last called."""
        fresh, self._fresh = self._fresh, set()
        return fresh

    def take_abandoned(self) -> list[Lane]:
        """The lanes that were joined because too many bars were held, since this was last called."""
        abandoned, self._abandoned = self._abandoned, []
        return abandoned

    def pass_past(self, lane: Lane, bars: list[OHLCVBar], until_ns: int) -> list[OHLCVBar]:
        """The bars of the past that pass: all, unless the lane was joined meanwhile; the mark moves to `until_ns`."""
        if lane not in self._held:
            return []
        self._marks[lane] = max(self._marks[lane], until_ns)
        since_ns, reached_ns = self._spans[lane]
        self._spans[lane] = since_ns, max(reached_ns, until_ns)
        return bars

    def join(self, lane: Lane) -> list[OHLCVBar]:
        """End the past of a lane; returns the bars that were held. Idempotent."""
        held = self._held.pop(lane, {})
        self._count -= len(held)
        bars = [bar for bar in sorted(held.values(), key=_open_time) if not self._is_answered(bar)]
        self._note(bars)
        return bars

    def _is_answered(self, bar: OHLCVBar) -> bool:
        # Where live it is not known whether there were trades, and the past has covered the time: it has had the bar,
        # or there were none.
        if bar.open is not None:
            return False
        since_ns, until_ns = self._spans.get((bar.symbol, bar.spec), (0, 0))
        return since_ns <= to_nanoseconds(bar.open_time) and to_nanoseconds(bar.close_time) <= until_ns

    def _note(self, bars: Iterable[OHLCVBar]) -> None:
        for bar in bars:
            lane = bar.symbol, bar.spec
            mark_ns = self._marks.get(lane)
            if mark_ns is not None:
                self._marks[lane] = max(mark_ns, to_nanoseconds(bar.close_time))

    def note_issued(self, bars: Iterable[OHLCVBar]) -> None:
        """Bars that an earlier process has issued since its snapshot."""
        self._note(bars)

    # Snapshots.

    def dump(self) -> Callable[[], bytes]:
        """All of it, for `load`: copied now, put into words when it is called, in any thread."""
        marks = [
            [*lane, mark_ns, lane in self._held, *self._spans.get(lane, (0, 0))]
            for lane, mark_ns in self._marks.items()
        ]
        bars = [bar for held in self._held.values() for bar in held.values()]
        return lambda: b'{"marks":%b,"held":[%b]}' % (orjson.dumps(marks), b",".join(map(encoded, bars)))

    def load(self, part: object) -> None:
        """Restore what `dump` returned; None changes nothing. Raises ValueError: it is something else."""
        if part is None:
            return
        content: Any = orjson.loads(part) if isinstance(part, bytes) else None
        if not isinstance(content, dict):
            raise ValueError("it does not say what history was delivered")
        marks, listed = content.get("marks"), content.get("held")
        if not isinstance(marks, list) or not isinstance(listed, list):
            raise ValueError("it does not say what history was delivered")
        if len(marks) > MOST_LANES or len(listed) > MOST_HELD:
            raise ValueError(f"it has {len(marks)} marks and {len(listed)} held bars of a history")
        restored = Seam(self.earlier, self._paths)
        for one in marks:
            if not isinstance(one, list) or list(map(type, one)) != [str, str, int, bool, int, int]:
                raise ValueError("it has a malformed mark of a history")
            symbol, spec, mark_ns, is_open, since_ns, until_ns = one
            if not all(0 <= at_ns < 2**63 for at_ns in (mark_ns, since_ns, until_ns)):
                raise ValueError(f"it has a mark of a history at {mark_ns}, of {since_ns} to {until_ns}")
            restored._marks[symbol, spec] = mark_ns
            restored._spans[symbol, spec] = since_ns, until_ns
            if is_open:
                restored._held[symbol, spec] = {}
        for values in listed:
            bar = decoded(values)
            self.earlier.check(bar)
            if (bar.symbol, bar.spec) not in restored._held:
                raise ValueError("it holds a bar of a history that was not awaited")
            restored.hold([bar])
        self._held, self._marks, self._spans = restored._held, restored._marks, restored._spans
        self._count = restored._count
