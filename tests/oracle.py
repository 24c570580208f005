"""The slow twin of the kernel: plain Decimal, every bar and status worked out afresh after each event.

It keeps the trades themselves, not sums of them. After each trade, all that was ever issued is computed again
from the lists of trades, and what came out differently is issued again. Ids are a set of numbers, holes are
what that set lacks, coverage is a list of spans, the calendar is datetime's. Nothing here is shared with the package.

Units: times int ns since the epoch, UTC; prices, sizes and steps Decimal.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Context, Decimal, Inexact, localcontext
from fractions import Fraction
from functools import cache
from itertools import accumulate, pairwise
from math import ceil, floor, inf
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from flow_oracle import FlowOracle

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MONDAY = datetime(1970, 1, 5, tzinfo=UTC)
SPANS = {
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
MONTHS = {"mo": 1, "y": 12}
# The ids of a symbol that began anew n times are raised by as many of these: so they ascend from series to series.
SERIES = 10**30
MOST_WAITING = 16
ROUNDING_NS = 1_000_000  # how far outside of its hole REST may date a trade
MOST_PASSED = 1000
MOST_BRICKS = 100  # of one trade, as bars of their own
MOST_PARTS = 100  # of one trade, in as many bars


class Trade(NamedTuple):
    """One row of a feed; of size 0: where ids are contiguous, they are used up, and nothing was traded."""

    symbol: str
    time_ns: int
    price: Decimal
    size: Decimal
    side: int = 0
    first_id: int = 0
    last_id: int = 0
    trade_count: int = 1


class Line(NamedTuple):
    """An issued bar, every field of it."""

    symbol: str
    spec: str
    open_time: datetime
    close_time: datetime
    open: Decimal | None
    high: Decimal | None
    low: Decimal | None
    close: Decimal | None
    volume: Decimal
    quote_volume: Decimal
    trade_count: int
    taker_buy_volume: Decimal
    taker_buy_quote_volume: Decimal
    first_trade_id: int | None
    last_trade_id: int | None
    buy_count: int
    sell_count: int
    first_trade_time: datetime | None
    last_trade_time: datetime | None
    largest_trade: Decimal | None
    footprint: tuple[tuple[Decimal, Decimal, Decimal, Decimal], ...] | None
    delta: Decimal | None
    delta_high: Decimal | None
    delta_low: Decimal | None
    vwap_deviation: Decimal | None
    status: str
    revision: int
    close_reason: str
    missing_count: int | None


class Hole(NamedTuple):
    """Missing ids, and the times of the trades on both sides of them, the earlier one first."""

    first: int
    last: int
    since_ns: int
    until_ns: int

    @property
    def is_seam(self) -> bool:
        """It lies between two series: how many ids are missing cannot be known."""
        return self.first // SERIES != (self.last + 1) // SERIES


class Begun(NamedTuple):
    """A series of ids that began behind another one."""

    time_ns: int
    before_ns: int  # the latest time of a trade before it


@dataclass
class Waiting:
    """Trades of a symbol that may begin a new series, by id, with the number of their arrival."""

    trades: list[tuple[int, Trade]] = field(default_factory=list)
    sure_ns: int = 0
    passed: int = 0


def raised(trade: Trade, series: int) -> Trade:
    """A trade with the ids that it has in this series, as they are kept here."""
    above = series * SERIES
    return trade._replace(first_id=trade.first_id % SERIES + above, last_id=trade.last_id % SERIES + above)


class Span(NamedTuple):
    """Time in which trades may be missing, or nobody wanted them, both ends inclusive."""

    since_ns: float
    until_ns: float  # inf: to this day
    lost: bool
    spec: str | None = None  # a trade came too late for this one alone
    trade_count: int = 0  # known to be lost

    @property
    def is_plain(self) -> bool:
        return self.lost and self.spec is None and not self.trade_count


def nanoseconds(time: datetime) -> int:
    return (time - EPOCH) // timedelta(microseconds=1) * 1000


def instant(time_ns: int) -> datetime:
    return EPOCH + timedelta(microseconds=time_ns // 1000)


def interval(spec: str, time_ns: int) -> tuple[datetime, datetime]:
    """The interval of a time bar that holds `time_ns`: [open, close)."""
    spec = spec.partition("+")[0]
    if is_session(spec):
        return _session(spec, instant(time_ns))
    digits = len(spec) - len(spec.lstrip("0123456789"))
    count, unit = int(spec[:digits]), spec[digits:]
    second = EPOCH + timedelta(seconds=time_ns // 1_000_000_000)
    if unit in MONTHS:
        count *= MONTHS[unit]
        month = (second.year - 1970) * 12 + second.month - 1
        first = month - month % count
        return _month_start(first), _month_start(first + count)
    origin = MONDAY if unit == "w" else EPOCH
    step = SPANS[unit] * count
    opened = origin + (second - origin) // step * step
    return opened, opened + step


def is_path(spec: str) -> bool:
    return ":" in spec.partition("+")[0] and not is_session(spec)


def is_session(spec: str) -> bool:
    return spec.startswith("session:")


@cache
def _hours(spec: str, day: date) -> tuple[datetime, datetime]:
    """When the session of a day begins and ends."""
    hours, _, zone = spec.removeprefix("session:").partition("@")
    there = ZoneInfo(zone or "UTC")
    begins, ends = (time.fromisoformat(text) for text in hours.split("-"))
    last = day + timedelta(days=ends <= begins)
    return tuple(datetime.combine(*at, there).astimezone(UTC) for at in ((day, begins), (last, ends)))  # type: ignore[return-value]


def _session(spec: str, moment: datetime) -> tuple[datetime, datetime]:
    """The session that holds a moment, or what lies between two of them."""
    around = [_hours(spec, moment.date() + timedelta(days=n)) for n in range(-2, 4)]
    for (opened, closed), (behind, _) in pairwise(around):
        if opened <= moment < closed:
            return opened, closed
        if closed <= moment < behind:
            return closed, behind
    raise AssertionError(moment)


def is_outside(spec: str, opened_ns: int) -> bool:
    """Whether the interval that begins there lies between two sessions."""
    return is_session(spec) and all(
        _hours(spec.partition("+")[0], instant(opened_ns).date() + timedelta(days=n))[0] != instant(opened_ns)
        for n in range(-2, 2)
    )


def _month_start(months: int) -> datetime:
    return datetime(1970 + months // 12, months % 12 + 1, 1, tzinfo=UTC)


@dataclass
class Bar:
    """The trades of one bar in order of arrival, and what is known about its borders."""

    open_ns: int
    close_ns: int
    arrivals: list[tuple[int, Trade]] = field(default_factory=list)
    reason: str = "trade"
    healed: bool = False
    touched: bool = False
    carry: Decimal | None = None
    kept: bool = True
    edges: tuple[Decimal, Decimal] | None = None  # of a brick: where it opens and closes
    parts: dict[int, tuple[Decimal, Decimal]] = field(default_factory=dict)  # of split trades, by arrival
    revision: int = -1
    issued: tuple[object, ...] | None = None


class Oracle:
    """Trades in, the full history of issued bars out.

    Args:
        specs: texts of bar specs.
        ids: "contiguous" or "none".
        grace_s, lateness_s, heal_horizon_s: whole or binary fractions of seconds.
        fill: intervals without trades have flat bars.
        contract_sizes: of inverse symbols.
        covers_itself: a symbol's first trade covers it.
    """

    def __init__(
        self,
        specs: list[str],
        ids: str = "none",
        grace_s: float = 1,
        lateness_s: float = 60,
        contract_sizes: dict[str, Decimal] | None = None,
        heal_horizon_s: float = 3600,
        fill: bool = False,
        covers_itself: bool = True,
    ) -> None:
        self.specs = specs
        self.lateness_ns = round(lateness_s * 1_000_000_000)
        self.horizon_ns = max(round(heal_horizon_s * 1_000_000_000), self.lateness_ns)
        self.fill = fill
        self.covers_itself = covers_itself
        self.down = False
        self.up_ns: float = -inf  # the clock said last that the feed is up
        self.fresh_paths: set[tuple[str, str]] = set()  # path-driven bars of these are behind time that nobody wanted
        self.gaps: dict[str, list[Span]] = {}  # by symbol, in the order in which it came to be known
        self.began: dict[str, int] = {}  # time of the first trade, or refused trade
        self.proven: dict[str, int] = {}  # latest time of an id that came as the newest
        self.starts: dict[str, int] = {}  # time of the id where the symbol begins
        self.sure: dict[tuple[str, int], int] = {}  # missing id -> bars that close later were all kept
        self.healed = 0
        self.contiguous = ids == "contiguous"
        self.grace_ns = round(grace_s * 1_000_000_000)
        self.contract_sizes = contract_sizes or {}
        self.watermark_ns: int | None = None
        self.arrival = 0
        self.late: list[Trade] = []
        self.duplicates = 0
        self.voids = 0
        self.void_times: dict[str, list[int]] = {}  # of those that did not fill a hole
        self.accepted: dict[str, list[Trade]] = {}
        self.out_of_order: set[str] = set()
        self.tracks: dict[tuple[str, str], Track] = {}
        self.begun: dict[str, list[Begun]] = {}  # each series but a symbol's first
        self.waiting: dict[str, Waiting] = {}
        self.rows = 0
        for symbol in self.contract_sizes:
            self._know(symbol)

    def _know(self, symbol: str) -> list[Span]:
        return self.gaps.setdefault(symbol, [Span(-inf, inf, lost=False)])

    def add(self, trade: Trade) -> list[Line]:
        self.rows += 1
        symbol = trade.symbol
        self._know(symbol)
        if not self.contiguous or not self.accepted.get(symbol):
            return self._take(trade)
        series = self._older_series(trade)
        if series is not None:
            return self._take(raised(trade, series))
        trade = raised(trade, len(self.begun.get(symbol, [])))
        newest_id = max(row.last_id for row in self.accepted[symbol])
        if trade.first_id > newest_id:
            self._leave_behind(trade)
        elif self._is_too_late(symbol, min(trade.last_id, newest_id), trade.time_ns):
            return self._wait(trade)
        return self._take(trade)

    def _older_series(self, trade: Trade) -> int | None:
        """The series before the last that a trade belongs to, by its time and its id's."""
        begun = self.begun.get(trade.symbol, [])
        if not begun or trade.time_ns >= begun[-1].time_ns:
            return None
        for series in reversed(range(len(begun))):
            if series and trade.time_ns < begun[series - 1].time_ns:
                continue
            if not self._is_too_late(trade.symbol, trade.last_id + series * SERIES, trade.time_ns):
                return series
        return None

    def _is_too_late(self, symbol: str, number: int, time_ns: int) -> bool:
        """Whether a time is more than lateness behind that of the next known id."""
        rows = sorted(self.accepted[symbol], key=lambda row: row.first_id)
        known = [(rows[0].first_id, rows[0].time_ns), (rows[-1].last_id, rows[-1].time_ns)]
        for before, behind in pairwise(rows):
            if before.last_id + 1 < behind.first_id:
                series = behind.first_id // SERIES
                ends = before.last_id // SERIES != series
                known.append((before.last_id, self.begun[symbol][series - 1].before_ns if ends else before.time_ns))
                known.append((behind.first_id, behind.time_ns))
        exact = min((one for one, _ in known if one >= number), default=None)
        known = [(one, made_ns) for one, made_ns in known if one == exact]
        for track in self.tracks.values():
            if track.symbol == symbol and track.timed:
                for bar in [bar for bar in track.closed if bar.kept] + [track.current]:
                    if bar is not None and bar.arrivals:
                        trades = [one for _, one in bar.arrivals]
                        first = min(one.first_id for one in trades)
                        if first != exact:
                            known.append((first, min(one.time_ns for one in trades)))
        behind_it = [(one, made_ns) for one, made_ns in known if one >= number]
        if not behind_it:
            return False
        nearest = min(one for one, _ in behind_it)
        return time_ns - self.lateness_ns > max(made_ns for one, made_ns in behind_it if one == nearest)

    def _wait(self, trade: Trade) -> list[Line]:
        """A trade that may begin a new series."""
        waiting = self.waiting.setdefault(trade.symbol, Waiting())
        own = set(range(trade.first_id, trade.last_id + 1))
        theirs = {number for _, one in waiting.trades for number in range(one.first_id, one.last_id + 1)}
        if own <= theirs:
            self.duplicates += 1
            return []
        if own & theirs:
            if trade.size:
                self.late.append(trade)
            else:
                self.voids += 1
            return []
        if not waiting.trades:
            waiting.sure_ns, waiting.passed = self._sure_from(trade.symbol), 0
        waiting.trades = sorted([*waiting.trades, (self.rows, trade)], key=lambda pair: pair[1].first_id)
        follow = any(before.last_id + 1 == behind.first_id for (_, before), (_, behind) in pairwise(waiting.trades))
        if not follow and len(waiting.trades) < MOST_WAITING:
            return []
        return sorted(self._begin(trade.symbol), key=lambda line: self.specs.index(line.spec))

    def _begin(self, symbol: str) -> list[Line]:
        """The trades that wait are a new series."""
        waiting = self.waiting.pop(symbol)
        begun = self.begun.setdefault(symbol, [])
        tracks = [track for track in self.tracks.values() if track.symbol == symbol and track.timed]
        times = [time for track in tracks for time in track.times] + self.void_times.get(symbol, [])
        newest = max(self.accepted[symbol], key=lambda row: row.last_id)
        begun.append(Begun(waiting.trades[0][1].time_ns, max([*times, newest.time_ns])))
        self.sure[symbol, -len(begun)] = waiting.sure_ns
        return [line for _, trade in waiting.trades for line in self._take(raised(trade, len(begun)), waited=True)]

    def _leave_behind(self, trade: Trade) -> None:
        """The series goes on with this trade: those that wait and are older are strays."""
        waiting = self.waiting.get(trade.symbol)
        if waiting is None:
            return
        waiting.passed += 1
        strays = [one for one in waiting.trades if one[1].time_ns < trade.time_ns or waiting.passed >= MOST_PASSED]
        waiting.trades = [one for one in waiting.trades if one not in strays]
        if not waiting.trades:
            del self.waiting[trade.symbol]
        seen = {number for row in self.accepted[trade.symbol] for number in range(row.first_id, row.last_id + 1)}
        for _, stray in strays:
            if set(range(stray.first_id, stray.last_id + 1)) <= seen:
                self.duplicates += 1
            elif stray.size:
                self.late.append(stray)
            else:
                self.voids += 1

    def _take(self, trade: Trade, *, waited: bool = False) -> list[Line]:
        jumped = filled = False
        known = self.accepted.get(trade.symbol, [])
        behind_seam = None
        if waited:
            begun = self.begun[trade.symbol][-1]
            ends = sorted((begun.before_ns, begun.time_ns))
            behind_seam = (ends[0], ends[1], self.sure[trade.symbol, -len(self.begun[trade.symbol])])
        if self.contiguous and known:
            seen = {number for row in known for number in range(row.first_id, row.last_id + 1)}
            own = set(range(trade.first_id, trade.last_id + 1))
            if own <= seen:
                self.duplicates += 1
                return []
            if own & seen:
                if trade.size:
                    self.late.append(trade)
                else:
                    self.voids += 1
                return []
            jumped = trade.first_id > max(seen) + 1
            filled = trade.first_id < max(seen)
            before = dict(self.sure), {name: list(series) for name, series in self.begun.items()}
            has_place = self._has_place(trade, self._reach(trade) if filled else None)
            self.sure, self.begun = before
            if trade.size and not has_place and not waited:
                self.late.append(trade)
                return self.lose([trade.symbol], trade.time_ns, trade.time_ns)
            if jumped or (filled and (trade.size or trade.last_id + 1 != min(seen))):
                self.out_of_order.add(trade.symbol)
        reach = self._reach(trade) if jumped or filled else None
        if not known or trade.first_id < min(row.first_id for row in known):
            self.starts[trade.symbol] = min(self.starts.get(trade.symbol, trade.time_ns), trade.time_ns)
        if not filled:
            self.proven[trade.symbol] = max(self.proven.get(trade.symbol, trade.time_ns), trade.time_ns)
        self.accepted.setdefault(trade.symbol, []).append(trade)
        self.arrival += 1
        self._cover_by(trade.symbol, trade.time_ns)
        if not trade.size:
            return self._use_up(trade, filled=filled)
        late = False
        lines: list[Line] = []
        for spec in self.specs:
            track = self._track(trade.symbol, spec)
            if jumped:
                lines += track.changes()
            placed, missed = track.place(
                trade, self.arrival, reach if filled else None, waited=reach or behind_seam if waited else None
            )
            lines += placed
            if filled:
                lines += track.changes()
            late |= missed
        if late:
            self.late.append(trade)
        return lines

    def _has_place(self, trade: Trade, reach: tuple[int, int, int] | None) -> bool:
        """Whether some bar can take a trade; path-driven ones always can."""
        if any(is_path(spec) for spec in self.specs):
            return True
        tracks = [self.tracks.get((trade.symbol, spec)) for spec in self.specs]
        return any(track is None or track.can_take(trade, reach) for track in tracks)

    # Coverage.

    def _cover_by(self, symbol: str, time_ns: int) -> None:
        """Without a connection a trade covers a symbol that nobody has covered."""
        self.began.setdefault(symbol, time_ns)
        (open_since,) = [gap.since_ns for gap in self._know(symbol) if gap.until_ns == inf and not gap.lost] or (inf,)
        if self.covers_itself and time_ns >= open_since:
            self.gaps[symbol] = [
                gap._replace(until_ns=time_ns) if gap.until_ns == inf else gap for gap in self._know(symbol)
            ]

    def begin_earlier(self, symbol: str, time_ns: int) -> None:
        """A symbol began with a refused trade, whose time was later than that of its first one."""
        if self.covers_itself:
            self.gaps[symbol] = [
                gap._replace(until_ns=min(gap.until_ns, time_ns)) if gap.since_ns == -inf < gap.until_ns < inf else gap
                for gap in self._know(symbol)
            ]

    def _end_paths(self, symbol: str, *, lost: bool) -> None:
        """A gap is over, or nobody wants more: without ids, path-driven bars cannot know what was traded in it."""
        if self.contiguous or symbol not in self.began:
            return
        if lost:
            self.out_of_order.add(symbol)
        else:
            self.fresh_paths |= {(symbol, spec) for spec in self.specs}

    def change(self, symbol: str, changed: Any, reached: tuple[float, float]) -> list[Line]:
        """What comes of another list of gaps; intervals that were skipped may have become GAP between two times."""
        before = self._know(symbol)
        self.gaps[symbol] = after = changed(before)
        if before == after:
            return []
        lines: list[Line] = []
        for track in [track for (name, _), track in self.tracks.items() if name == symbol and track.timed]:
            lines += track.changes()
            lines += track.skipped(*reached)
        return lines

    def _open_gap(self, symbol: str) -> Span | None:
        return next((gap for gap in self._know(symbol) if gap.until_ns == inf), None)

    def cover(self, symbols: Sequence[str] | None, from_ns: int) -> list[Line]:
        lines: list[Line] = []
        for symbol in list(self.gaps) if symbols is None else symbols:
            self._know(symbol)
            opened = self._open_gap(symbol)
            if opened is not None:
                ended = opened._replace(until_ns=max(from_ns, opened.since_ns))
                self._end_paths(symbol, lost=opened.lost)
                lines += self.change(
                    symbol, lambda gaps, one=opened, end=ended: [end if gap is one else gap for gap in gaps], (0, -1)
                )
        return lines

    def uncover(self, symbols: Sequence[str] | None, since_ns: float, *, lost: bool) -> list[Line]:
        lines: list[Line] = []
        for symbol in list(self.gaps) if symbols is None else [one for one in symbols if one in self.gaps]:
            gaps, opened = self._know(symbol), self._open_gap(symbol)
            others = [gap for gap in gaps if gap is not opened]
            if not lost and (opened is None or opened.lost):
                self._end_paths(symbol, lost=False)
            if opened is None:
                new = [*gaps, Span(since_ns, inf, lost)]
                reached = (since_ns, inf)
            elif opened.lost == lost:
                new = [*others, opened._replace(since_ns=min(since_ns, opened.since_ns))]
                reached = (since_ns, opened.since_ns)
            elif lost and symbol not in self.began:
                continue
            else:
                turned_ns = max(since_ns, opened.since_ns)
                new = [*others, opened._replace(until_ns=turned_ns), Span(turned_ns, inf, lost)]
                reached = (turned_ns, inf)
                self._end_paths(symbol, lost=opened.lost)
            lines += self.change(symbol, lambda _, new=new: new, reached)
        return lines

    def lose(self, symbols: Sequence[str] | None, since_ns: int, until_ns: int, trades: int = 0) -> list[Line]:
        lines: list[Line] = []
        if since_ns > until_ns:
            return lines
        for symbol in list(self.gaps) if symbols is None else [one for one in symbols if one in self.gaps]:
            span = Span(since_ns, until_ns, lost=True, trade_count=trades)
            self._end_paths(symbol, lost=True)
            lines += self.change(symbol, lambda gaps, one=span: [*gaps, one], (since_ns, until_ns))
        return lines

    def note_lost(self, symbol: str, time_ns: int) -> list[Line]:
        self._know(symbol)
        self._cover_by(symbol, time_ns)
        for spec in [spec for spec in self.specs if not is_path(spec)]:
            track = self._track(symbol, spec)
            if track.end_ns is None:
                track.end_ns = nanoseconds(interval(spec, time_ns)[0])
        return self.lose([symbol], time_ns, time_ns, 0 if self.contiguous else 1)

    def bridge(self, symbols: Sequence[str] | None, since_ns: int, until_ns: int) -> list[Line]:
        lines: list[Line] = []
        for symbol in list(self.gaps) if symbols is None else [one for one in symbols if one in self.gaps]:
            left: list[Span] = []
            for gap in self._know(symbol):
                if not gap.is_plain or gap.since_ns > until_ns or gap.until_ns < since_ns or since_ns > until_ns:
                    left.append(gap)
                    continue
                if gap.since_ns < since_ns:
                    left.append(gap._replace(until_ns=since_ns - 1))
                if gap.until_ns > until_ns:
                    left.append(gap._replace(since_ns=until_ns + 1))
            lines += self.change(symbol, lambda _, left=left: left, (0, -1))
        return lines

    def _use_up(self, trade: Trade, *, filled: bool) -> list[Line]:
        """A void id: it proves what a trade would prove, and is in no bar."""
        self.voids += 1
        if not filled:
            self.void_times.setdefault(trade.symbol, []).append(trade.time_ns)
        lines: list[Line] = []
        for track in [track for (symbol, _), track in self.tracks.items() if symbol == trade.symbol and track.timed]:
            lines += track.changes()
        return lines

    def heal(self, trades: list[Trade]) -> list[Line]:
        """Trades of one symbol from REST: those that are missing are taken, and each bar is issued once."""
        lines: list[Line] = []
        for trade in trades:
            self._know(trade.symbol)
        if not trades or trades[0].symbol not in self.accepted:
            return lines
        symbol, specs = trades[0].symbol, [spec for spec in self.specs if not is_path(spec)]
        reached: list[int] = []
        self.rows += len(trades)
        for each in trades:
            series = self._older_series(each)
            trade = raised(each, len(self.begun.get(symbol, [])) if series is None else series)
            (hole,) = [
                hole
                for hole in self.holes(trade.symbol)
                if not hole.is_seam
                if hole.first <= trade.first_id and trade.last_id <= hole.last
                if hole.since_ns - ROUNDING_NS <= trade.time_ns <= hole.until_ns + ROUNDING_NS
            ] or (None,)
            self.arrival += 1
            if hole is None:
                continue
            before = dict(self.sure)
            reach = self._reach(trade)
            tracks = [self.tracks.get((symbol, spec)) for spec in specs]
            if trade.size and tracks and not any(one is None or one.can_take(trade, reach) for one in tracks):
                self.sure = before
                continue
            reached += [trade.time_ns, hole.since_ns, hole.until_ns]
            self.accepted[trade.symbol].append(trade)
            if not trade.size:
                continue
            self.healed += 1
            for spec in specs:
                lines += self._track(symbol, spec).place(trade, self.arrival, reach, healing=True)[0]
        for track in [self.tracks[symbol, spec] for spec in specs if (symbol, spec) in self.tracks]:
            for bar in [*track.closed, *([track.current] if track.current else [])]:
                bar.healed |= bool(reached) and bar.open_ns <= max(reached) and min(reached) < bar.close_ns
            lines += track.changes()
            lines += track.skipped(min(reached), max(reached)) if reached else []
        return lines

    def _reach(self, trade: Trade) -> tuple[int, int, int]:
        """Since when, until when the hole lasts that this trade opens or lies in, and from when on bars are kept."""
        now = self._sure_from(trade.symbol)
        rows = self.accepted[trade.symbol]
        newest, oldest = max(rows, key=lambda row: row.last_id), min(rows, key=lambda row: row.first_id)
        if trade.first_id > newest.last_id and trade.first_id // SERIES > newest.last_id // SERIES:
            begun = self.begun[trade.symbol][-1]
            since_ns, until_ns = sorted((begun.before_ns, trade.time_ns))
            return since_ns, until_ns, self.sure[trade.symbol, -len(self.begun[trade.symbol])]
        if trade.first_id > newest.last_id:
            missing = range(newest.last_id + 1, trade.first_id)
            since_ns, until_ns = sorted((newest.time_ns, trade.time_ns))
        elif trade.last_id < oldest.first_id:
            missing = range(trade.last_id + 1, oldest.first_id)
            since_ns, until_ns = sorted((oldest.time_ns, trade.time_ns))
        else:
            (hole,) = [one for one in self.holes(trade.symbol) if one.first <= trade.first_id <= one.last]
            if hole.is_seam:
                return self._enter_seam(trade, hole, now)
            missing = range(hole.first, hole.last + 1)
            since_ns, until_ns = hole.since_ns, hole.until_ns
            sure = self.sure[trade.symbol, hole.first]
            if not since_ns <= trade.time_ns <= until_ns:
                self.sure.update({(trade.symbol, number): max(sure, now) for number in missing})
            return since_ns, until_ns, sure
        self.sure.update({(trade.symbol, number): now for number in missing})
        return since_ns, until_ns, now

    def _enter_seam(self, trade: Trade, seam: Hole, now: int) -> tuple[int, int, int]:
        """A trade of the series before a seam, or behind it: what lies between it and its series is missing."""
        own, behind = trade.first_id // SERIES, (seam.last + 1) // SERIES
        sure = self.sure[trade.symbol, -behind]
        if not seam.since_ns <= trade.time_ns <= seam.until_ns:
            self.sure[trade.symbol, -behind] = max(sure, now)
        left = range(trade.last_id + 1, seam.last + 1) if own == behind else range(seam.first, trade.first_id)
        self.sure.update({(trade.symbol, number): self.sure[trade.symbol, -behind] for number in left})
        if own < behind:
            begun = self.begun[trade.symbol][behind - 1]
            self.begun[trade.symbol][behind - 1] = begun._replace(before_ns=max(begun.before_ns, trade.time_ns))
        return seam.since_ns, seam.until_ns, sure

    def _sure_from(self, symbol: str) -> int:
        """Bars that close later than this are all kept now."""
        tracks = [track for track in self.tracks.values() if track.timed and track.symbol == symbol]
        times = [time for track in tracks for time in track.times] + self.void_times.get(symbol, [])
        times += [] if self.watermark_ns is None else [self.watermark_ns]
        return max(times, default=0) - self.lateness_ns

    def feed_down(self, time_ns: float, up_ns: float = inf) -> list[Line]:
        if self.down:
            return []
        self.down = True
        lines: list[Line] = []
        for symbol in [symbol for symbol in self.gaps if (gap := self._open_gap(symbol)) is None or gap.lost]:
            heard = [up_ns, -inf if self.watermark_ns is None else self.watermark_ns]
            heard += [track.event_time() for (name, _), track in self.tracks.items() if name == symbol]
            if any(not is_path(spec) for spec in self.specs):
                heard += self.void_times.get(symbol, [])
            heard_ns = time_ns if max(heard) == -inf else max(heard)
            lines += self.uncover([symbol], min(time_ns, heard_ns), lost=True)
        return lines

    def feed_up(self, time_ns: int) -> list[Line]:
        if not self.down:
            return []
        self.down = False
        lost = [symbol for symbol in self.gaps if (gap := self._open_gap(symbol)) is not None and gap.lost]
        return self.cover(lost, time_ns)

    def advance_watermark(self, time_ns: int) -> list[Line]:
        self.watermark_ns = time_ns if self.watermark_ns is None else max(self.watermark_ns, time_ns)
        return self._close(time_ns, "watermark")

    def advance_clock(self, time_ns: int, feed_up: bool) -> list[Line]:
        if feed_up:
            lines = self.feed_up(time_ns)
            self.up_ns = max(self.up_ns, time_ns)
        else:
            lines = self.feed_down(time_ns - self.grace_ns - 1, self.up_ns)
        return lines + self._close(time_ns, "clock" if feed_up else "gap")

    def flush(self, symbol: str | None = None) -> list[Line]:
        lines: list[Line] = []
        begun: list[tuple[int, list[Line]]] = []
        for waits in [name for name in self.gaps if name in self.waiting and symbol in (None, name)]:
            arrival = self.waiting[waits].trades[0][0]
            begun.append((arrival, sorted(self._begin(waits), key=lambda line: self.specs.index(line.spec))))
        lines += [line for _, own in sorted(begun) for line in own]
        for name in dict.fromkeys(name for name, _ in self.tracks):
            if symbol not in (None, name):
                continue
            tracks = [track for (one, _), track in self.tracks.items() if one == name]
            opened = self._open_gap(name)
            own = self.uncover([name], self._end_of(tracks), lost=False) if opened is None or opened.lost else []
            own += [line for track in tracks if track.current is not None for line in track.end("end")]
            self._end_paths(name, lost=False)
            lines += sorted(own, key=lambda line: self.specs.index(line.spec))
        return lines

    def _end_of(self, tracks: list[Track]) -> float:
        """Up to when a symbol that ends now was covered."""
        timed = [track for track in tracks if track.timed]
        passed: list[float] = [track.event_time() for track in tracks]
        passed += [track.end_ns for track in timed if track.current is None and track.end_ns is not None]
        still_open: list[float] = [track.current.close_ns - 1 for track in timed if track.current is not None]
        return min([max(passed, default=-inf), *still_open])

    def missing(self, symbol: str) -> list[tuple[int, int]]:
        """The ids that can be asked for: of the last series, and of the one before where they mean no others."""
        series = len(self.begun.get(symbol, []))
        newest_id = max((row.last_id for row in self.accepted.get(symbol, [])), default=0) % SERIES
        listed = []
        for hole in self.holes(symbol):
            first, last = hole.first % SERIES, hole.last % SERIES
            before = hole.first // SERIES == series - 1 and first > newest_id
            if not hole.is_seam and (hole.first // SERIES == series or before):
                listed.append((first, last))
        return sorted(listed)

    def holes(self, symbol: str) -> list[Hole]:
        rows = sorted(self.accepted.get(symbol, []), key=lambda row: row.first_id)
        found = []
        for before, behind in pairwise(rows):
            if before.last_id + 1 < behind.first_id:
                before_ns, series = before.time_ns, behind.first_id // SERIES
                if before.last_id // SERIES < series:
                    before_ns = self.begun[symbol][series - 1].before_ns
                ends = sorted((before_ns, behind.time_ns))
                found.append(Hole(before.last_id + 1, behind.first_id - 1, ends[0], ends[1]))
        return found

    def _close(self, time_ns: int, reason: str) -> list[Line]:
        lines = []
        for track in self.tracks.values():
            if not track.timed:
                continue
            if track.current is not None and track.current.close_ns <= time_ns - self.grace_ns:
                opened = self._open_gap(track.symbol)
                is_down = opened is not None and opened.lost and opened.since_ns < track.current.close_ns
                lines += track.end("gap" if is_down and reason == "clock" else reason)
            if track.current is None:
                lines += track.pass_time(time_ns - self.grace_ns, reason)
        return lines

    def _track(self, symbol: str, spec: str) -> Track:
        # A dict keeps the order of first appearance, and all specs of a symbol appear together.
        if (symbol, spec) not in self.tracks:
            self.tracks[symbol, spec] = Track(self, symbol, spec)
        return self.tracks[symbol, spec]


class Track:
    """All bars of one symbol and spec."""

    def __init__(self, oracle: Oracle, symbol: str, spec: str) -> None:
        self.oracle = oracle
        self.symbol = symbol
        self.spec = spec
        self.cut, *self.features = spec.split("+")
        self.timed = not is_path(spec)
        self.current: Bar | None = None
        self.closed: list[Bar] = []
        self.times: list[int] = []
        self.path: list[Trade] = []
        self.flow: FlowOracle | None = None
        self.end_ns: int | None = None  # of the last interval that is over
        self.let_go_ns = -inf
        self.evicted_ns = -inf
        if not self.timed:
            oracle.fresh_paths.add((symbol, spec))

    def place(
        self,
        trade: Trade,
        arrival: int,
        reach: tuple[int, int, int] | None,
        *,
        healing: bool = False,
        waited: tuple[int, int, int] | None = None,
    ) -> tuple[list[Line], bool]:
        """The bars that this trade causes, and whether it came too late; `reach` is that of the hole it lies in.

        `waited`: likewise, of the hole before a trade that had to wait for others of its series.
        """
        if not self.timed:
            return self._place_path(trade, arrival), False
        return self._place_timed(trade, arrival, reach, healing, waited)

    def _place_path(self, trade: Trade, arrival: int) -> list[Line]:
        self.times.append(trade.time_ns)
        if self.current is None:
            self.current = Bar(trade.time_ns, trade.time_ns)
        bar = self.current
        bar.arrivals.append((arrival, trade))
        bar.open_ns = min(row.time_ns for _, row in bar.arrivals)
        bar.close_ns = max(row.time_ns for _, row in bar.arrivals)
        self.path.append(trade)
        kind, _, text = self.cut.partition(":")
        if kind in ("imbalance", "runs"):
            return [self.shut("trade")] if self._is_flow_reached(bar, kind, *text.split(":")) else []
        text, _, modifier = text.partition(":")
        step = Decimal(text)
        if modifier == "exact":
            return self._place_parts(trade, arrival, step, by_value=kind == "value")
        if kind == "renko":
            return self._place_bricks(trade, step)
        if kind == "cusum":
            return [self.shut("trade")] if self._is_sampled(step) else []
        reached = {
            "tick": self._count,
            "volume": self._volume,
            "value": self._quote,
            "range": self._range,
            "delta": self._delta,
        }[kind](bar)
        return [self.shut("trade")] if reached >= step else []

    def _place_parts(self, trade: Trade, arrival: int, step: Decimal, *, by_value: bool) -> list[Line]:
        """The bars that a trade fills: it lies on a line, behind what the open bar holds, and is cut at each step."""
        contract = self.oracle.contract_sizes.get(self.symbol)
        assert self.current is not None
        with localcontext(Context(prec=200, traps=[Inexact])):
            paid = trade.price if contract is None else contract
            self.current.arrivals.pop()
            held = (self._quote if by_value else self._volume)(self.current)
            self.current.arrivals.append((arrival, trade))
            whole = paid * trade.size if by_value else trade.size
            cuts: list[Decimal] = []
            while (at := step * (len(cuts) + 1) - held) <= whole and len(cuts) <= MOST_PARTS:
                cuts.append(at)
            if len(cuts) > MOST_PARTS or (len(cuts) == MOST_PARTS and cuts[-1] < whole):
                cuts[MOST_PARTS - 1 :] = [whole]
            ends = cuts if cuts and cuts[-1] == whole else [*cuts, whole]
            sizes, values = [Decimal(0)], [Decimal(0)]
            for end in ends:
                if end == whole:
                    sizes.append(trade.size)
                elif by_value:
                    sizes.append(Decimal(floor(Fraction(end) / Fraction(paid) * 10**6)).scaleb(-6))
                else:
                    sizes.append(end)
                values.append((paid * trade.size if end == whole else end) if by_value else paid * sizes[-1])
            lines = []
            for number in range(len(ends)):
                if number:
                    self.current = Bar(trade.time_ns, trade.time_ns, [(arrival, trade)])
                self.current.parts[arrival] = sizes[number + 1] - sizes[number], values[number + 1] - values[number]
                if number < len(cuts):
                    lines.append(self.shut("trade"))
        return lines

    def _is_flow_reached(self, bar: Bar, kind: str, measure: str, step: str, adaptive: str = "") -> bool:
        contract = self.oracle.contract_sizes.get(self.symbol)
        if self.flow is None:
            self.flow = FlowOracle(kind, Fraction(step), bool(adaptive))
        return self.flow.is_reached(
            self.path,
            len(bar.arrivals),
            {
                "tick": lambda trade: Fraction(trade.trade_count),
                "volume": lambda trade: Fraction(trade.size),
                "value": lambda trade: (
                    abs(Fraction(trade.price if contract is None else contract)) * Fraction(trade.size)
                ),
            }[measure],
        )

    def _is_sampled(self, step: Decimal) -> bool:
        """Whether the filter of Lopez de Prado, over all of the path, samples its last trade."""
        up = down = Decimal(0)
        sampled = False
        with localcontext(Context(prec=200, traps=[Inexact])):
            for before, trade in pairwise(self.path):
                up = max(Decimal(0), up + trade.price - before.price)
                down = min(Decimal(0), down + trade.price - before.price)
                sampled = max(up, -down) >= step
                if up >= step:
                    up = Decimal(0)
                elif down <= -step:
                    down = Decimal(0)
        return sampled

    def _place_bricks(self, trade: Trade, step: Decimal) -> list[Line]:
        """The bricks that the last trade of the path completes."""
        move = self._move_of_last(Fraction(step))
        if move is None:
            return []
        up = 1 if move[0] < move[1] else -1
        crossed = range(move[0], move[1], up)
        bricks = [(line, line + up) for line in crossed] if len(crossed) <= MOST_BRICKS else [move]
        lines = []
        for number, (opened, closed) in enumerate(bricks):
            if number:
                self.current = Bar(trade.time_ns, trade.time_ns)
            assert self.current is not None
            with localcontext(Context(prec=200, traps=[Inexact])):
                self.current.edges = step * opened, step * closed
            lines.append(self.shut("trade"))
        return lines

    def _move_of_last(self, step: Fraction) -> tuple[int, int] | None:
        """From which line of the grid to which one the last trade of the path moves, in whole bricks, if in any.

        Bricks are what lies between two lines; there is none yet between those around the first price.
        """
        move = None
        left = right = 0
        for number, trade in enumerate(self.path):
            below, above = floor(Fraction(trade.price) / step), ceil(Fraction(trade.price) / step)
            move = None
            if number == 0:
                left, right = below, above
            elif below > right:
                move, left, right = (right, below), below - 1, below
            elif above < left:
                move, left, right = (left, above), above, above + 1
        return move

    def _place_timed(
        self,
        trade: Trade,
        arrival: int,
        reach: tuple[int, int, int] | None,
        healing: bool,
        waited: tuple[int, int, int] | None,
    ) -> tuple[list[Line], bool]:
        opened, closes = map(nanoseconds, interval(self.cut, trade.time_ns))
        if self._is_before(opened):
            if self.current or self.closed or self.times or self.oracle.void_times.get(self.symbol):
                return self._amend(trade, arrival, reach, healing, waited)
            self.end_ns = opened
            self.oracle.begin_earlier(self.symbol, trade.time_ns)
        lines: list[Line] = self.changes() if reach is None else []  # its id is the newest, and proves bars before it
        bar = self.current
        if bar is None or bar.open_ns != opened:
            if bar is not None:
                lines += self.end("trade")
            if self.end_ns is not None and self.end_ns < opened:
                lines += self.pass_time(opened, "trade")
            bar = self.current = Bar(opened, closes)
            self.end_ns = opened if self.end_ns is None else self.end_ns
        bar.arrivals.append((arrival, trade))
        bar.healed |= healing
        self.times.append(trade.time_ns)
        return lines, False

    def _is_before(self, opened: int) -> bool:
        """Whether an interval is behind the open bar, or the last one that is over."""
        return self.end_ns is not None and opened < self._over_ns

    @property
    def _over_ns(self) -> int:
        assert self.end_ns is not None
        return self.end_ns if self.current is None else self.current.open_ns

    def can_take(self, trade: Trade, reach: tuple[int, int, int] | None) -> bool:
        opened, closes = map(nanoseconds, interval(self.cut, trade.time_ns))
        return not self._is_before(opened) or not self._misses(opened, closes, reach)

    def _misses(self, opened: int, closes: int, reach: tuple[int, int, int] | None) -> bool:
        if is_outside(self.spec, opened):
            return False
        bar = next((bar for bar in self.closed if bar.open_ns == opened), None)
        age_ns = self.event_time() - closes
        if closes <= self.let_go_ns:
            return True
        if age_ns <= self.oracle.lateness_ns:
            return False
        if reach is None or age_ns > self.oracle.horizon_ns:
            return True
        if bar is not None:
            return not bar.kept
        since_ns, until_ns, sure_ns = reach
        before = max(self.evicted_ns, self.oracle.began[self.symbol])
        return closes <= before and not (since_ns < closes and until_ns >= opened and closes >= sure_ns)

    def _amend(
        self,
        trade: Trade,
        arrival: int,
        reach: tuple[int, int, int] | None,
        healing: bool,
        waited: tuple[int, int, int] | None,
    ) -> tuple[list[Line], bool]:
        opened, closes = map(nanoseconds, interval(self.cut, trade.time_ns))
        limits = reach or waited
        if is_outside(self.spec, opened):
            return self.changes() if reach is None else [], False
        bar = next((bar for bar in self.closed if bar.open_ns == opened and bar.kept), None)
        if self._misses(opened, closes, limits):
            span = Span(trade.time_ns, trade.time_ns, True, self.spec, trade.trade_count)
            self.oracle.gaps[self.symbol] = [*self.oracle.gaps[self.symbol], span]
            if healing:
                return [], True
            lines = self.changes() if reach is None else [] if bar is None else self._issue_changes(bar)
            return lines + self.skipped(trade.time_ns, trade.time_ns), True
        if bar is None:
            bar = Bar(opened, closes)
            self.closed.append(bar)
        bar.arrivals.append((arrival, trade))
        self.times.append(trade.time_ns)
        if healing:
            bar.healed = bar.touched = True
            return [], False
        return self.changes() if reach is None else self._issue_changes(bar), False

    # Intervals without trades.

    def pass_time(self, until_ns: int, reason: str) -> list[Line]:
        """The bars of intervals without trades that end by `until_ns`."""
        lines: list[Line] = []
        while (found := self._next_empty()) is not None and found[1] <= until_ns:
            opened, closes = found
            lost = self._is_lost(opened, closes)
            if lost or self.oracle.fill:
                lines += self._issue_empty(opened, closes, "gap" if lost and reason != "trade" else reason)
                self._let_go()
            self.end_ns = closes
        return lines

    def _issue_empty(self, opened: int, closes: int, reason: str) -> list[Line]:
        bar = Bar(opened, closes, reason=reason)
        before = [one for one in self.closed if one.kept and one.open_ns < opened]
        bar.carry = self._close_of(max(before, key=lambda one: one.open_ns)) if before else None
        self.closed.append(bar)
        return list(self._changed(bar))

    def skipped(self, since_ns: float, until_ns: float) -> list[Line]:
        """Those that were passed over between two times, and turn out to be GAP."""
        lines: list[Line] = []
        if self.end_ns is None or self.symbol not in self.oracle.began or not self.timed:
            return lines
        since_ns = max(since_ns, self.oracle.began[self.symbol], self.evicted_ns, self.let_go_ns)
        looked = False
        while since_ns <= until_ns and (found := self._next_lost(int(since_ns))) is not None:
            opened, closes = found
            if opened > until_ns or closes > self._over_ns:
                break
            looked = True
            if self._is_lost(opened, closes) and not any(bar.open_ns == opened and bar.kept for bar in self.closed):
                lines += self._issue_empty(opened, closes, "gap")
            since_ns = closes
        if looked:
            self._let_go()
        return lines

    def _next_empty(self) -> tuple[int, int] | None:
        if self.end_ns is None or self.current is not None:
            return None
        newest = max((bar for bar in self.closed if bar.kept), key=lambda bar: bar.open_ns, default=None)
        if not self.oracle.fill or newest is None or self._close_of(newest) is None:
            return self._next_lost(self.end_ns)
        at: float = self.end_ns
        while at != inf:
            opened, closes = self._with_bar(int(at))
            spans = self._spans(opened, closes)
            if not spans or any(span.lost for span in spans):
                return opened, closes
            at = max(closes, *(span.until_ns for span in spans))
            if at != inf:
                at = max(closes, self._with_bar(int(at))[0])
        return None

    def _next_lost(self, since_ns: int) -> tuple[int, int] | None:
        """The first interval from a time on that may be GAP."""
        oracle = self.oracle
        if oracle.contiguous and not oracle.holes(self.symbol) and oracle.starts.get(self.symbol, -inf) < since_ns:
            since_ns = max(since_ns, oracle.proven.get(self.symbol, since_ns))
        return min(
            (
                (opened, closes)
                for span in oracle.gaps[self.symbol]
                if span.lost and span.until_ns >= since_ns and span.spec in (None, self.spec)
                for opened, closes in [self._with_bar(max(since_ns, int(span.since_ns)))]
                if opened <= span.until_ns
            ),
            default=None,
        )

    def _with_bar(self, time_ns: int) -> tuple[int, int]:
        """The interval of a time; outside of sessions, that of the next one."""
        opened, closes = map(nanoseconds, interval(self.spec, time_ns))
        return self._with_bar(closes) if is_outside(self.spec, opened) else (opened, closes)

    def _is_lost(self, opened: int, closes: int) -> bool:
        """A gap reaches an interval without trades, and no id proves that it was empty."""
        after: float = -inf
        oracle = self.oracle
        if oracle.contiguous and not self._in_doubt(opened, closes) and oracle.starts.get(self.symbol, -inf) < opened:
            after = oracle.proven.get(self.symbol, -inf)
        return after < closes and any(span.lost and span.until_ns >= after for span in self._spans(opened, closes))

    def _spans(self, opened: int, closes: int) -> list[Span]:
        """The gaps that reach an interval."""
        return [
            span
            for span in self.oracle.gaps[self.symbol]
            if span.since_ns < closes and span.until_ns >= opened and span.spec in (None, self.spec)
        ]

    # Issuing.

    def end(self, reason: str) -> list[Line]:
        """As `shut`; of the time between two sessions nothing is issued."""
        bar = self.current
        assert bar is not None
        if not is_outside(self.spec, bar.open_ns):
            return [self.shut(reason)]
        self.current = None
        self.end_ns = bar.close_ns
        self._let_go()
        return []

    def shut(self, reason: str) -> Line:
        bar = self.current
        assert bar is not None
        self.current = None
        bar.reason = reason
        self.closed.append(bar)
        (line,) = self._changed(bar)
        if self.timed:
            self.end_ns = bar.close_ns
            self._let_go()
        else:
            self.oracle.fresh_paths.discard((self.symbol, self.spec))
        return line

    def _let_go(self) -> None:
        newest = max((bar for bar in self.closed if bar.kept), key=lambda bar: bar.open_ns, default=None)
        for bar in self.closed:
            age_ns = self.event_time() - bar.close_ns
            if bar is newest or not bar.kept or age_ns <= self.oracle.lateness_ns:
                continue
            if self.oracle.contiguous:
                held = self._proven_ns < bar.close_ns or self._in_doubt(bar.open_ns, bar.close_ns)
            else:  # until the next trade it may turn out that the symbol was silent
                held = bar.close_ns > max(self.times, default=-inf)
            if held and age_ns <= self.oracle.horizon_ns:
                continue
            bar.kept = False
            self.evicted_ns = max(self.evicted_ns, bar.close_ns)
            if held:
                self.let_go_ns = max(self.let_go_ns, bar.close_ns)

    @property
    def _proven_ns(self) -> float:
        return self.oracle.proven.get(self.symbol, -inf)

    def changes(self) -> list[Line]:
        """Every bar that would come out differently now than when it was last issued."""
        if not self.timed:
            return []
        bars = sorted(self.closed, key=lambda bar: bar.open_ns)
        return [line for bar in bars if bar.kept for line in self._issue_changes(bar)]

    def _issue_changes(self, bar: Bar) -> list[Line]:
        """A bar, and the flat ones right behind it, which have its close."""
        lines = list(self._changed(bar))
        while self.oracle.fill:
            next_ns = self._with_bar(bar.close_ns)[0] if self.timed else bar.close_ns
            behind = [one for one in self.closed if one.open_ns == next_ns and one.kept and not one.arrivals]
            if not behind or self._close_of(bar) in (None, behind[0].carry):
                break
            behind[0].carry = self._close_of(bar)
            bar = behind[0]
            lines += self._changed(bar)
        return lines

    def _changed(self, bar: Bar) -> Iterator[Line]:
        values = self._values(bar)
        content = (*values, self._status(bar), self._missing(bar))
        if (content != bar.issued or bar.touched) and bar.kept:
            bar.issued = content
            bar.touched = False
            bar.revision += 1
            interval = (self.symbol, self.spec, instant(bar.open_ns), instant(bar.close_ns))
            yield Line._make((*interval, *values, self._status(bar), bar.revision, bar.reason, self._missing(bar)))

    def event_time(self) -> float:
        watermark = self.oracle.watermark_ns
        voids = self.oracle.void_times.get(self.symbol, []) if self.timed else []
        return max(self.times + voids + ([] if watermark is None else [watermark]), default=-inf)

    # What is known.

    def _in_doubt(self, opened: int, closes: int) -> bool:
        return self.oracle.contiguous and any(
            opened <= hole.until_ns and hole.since_ns < closes for hole in self.oracle.holes(self.symbol)
        )

    def _status(self, bar: Bar) -> str:
        if not self.timed:
            return self._status_of_path(bar)
        spans = self._spans(bar.open_ns, bar.close_ns)
        if not self.oracle.contiguous:
            return "GAP" if any(span.lost for span in spans) else "PARTIAL" if spans else "UNVERIFIABLE"
        begun, ended = self._has_begun(bar), self._proven_ns >= bar.close_ns
        behind = [] if ended else [span for span in spans if span.until_ns >= self._proven_ns]
        before = [] if begun else [span for span in spans if span.since_ns <= self.oracle.starts.get(self.symbol, -inf)]
        if (
            self._in_doubt(bar.open_ns, bar.close_ns)
            or any(span.trade_count for span in spans)
            or any(span.lost for span in behind + before)
        ):
            return "GAP"
        if not begun or behind:
            return "PARTIAL"
        if not ended:
            return "PROVISIONAL"
        return "HEALED" if bar.healed else "COMPLETE"

    def _has_begun(self, bar: Bar) -> bool:
        """Whether ids prove its beginning: one from before it has come."""
        start_ns = self.oracle.starts.get(self.symbol)
        return start_ns is not None and start_ns < bar.open_ns

    def _status_of_path(self, bar: Bar) -> str:
        opened = None if self.oracle.contiguous else self.oracle._open_gap(self.symbol)
        if self.symbol in self.oracle.out_of_order or (opened is not None and opened.lost):
            return "GAP"
        if (self.symbol, self.spec) in self.oracle.fresh_paths or bar.reason == "end":
            return "PARTIAL"
        if opened is not None and not self.oracle.covers_itself:
            return "PARTIAL"
        return "COMPLETE" if self.oracle.contiguous else "UNVERIFIABLE"

    def _missing(self, bar: Bar) -> int | None:
        """How many trades the bar lacks, where ids tell."""
        status = self._status(bar)
        if status in ("COMPLETE", "HEALED"):
            return 0
        if status != "GAP" or not self.oracle.contiguous or not self.timed:
            return None
        if not self._has_begun(bar) or self._proven_ns < bar.close_ns:
            return None
        lost = [span for span in self._spans(bar.open_ns, bar.close_ns) if span.trade_count]
        if not all(bar.open_ns <= span.since_ns <= span.until_ns < bar.close_ns for span in lost):
            return None
        lacking = sum(span.trade_count for span in lost)
        for hole in self.oracle.holes(self.symbol):
            if bar.open_ns <= hole.until_ns and hole.since_ns < bar.close_ns:
                if hole.is_seam or not bar.open_ns <= hole.since_ns <= hole.until_ns < bar.close_ns:
                    return None
                lacking += hole.last - hole.first + 1
        return lacking

    def _close_of(self, bar: Bar) -> Decimal | None:
        """The last close as of this bar, shown or not."""
        return self._opening_and_closing(bar)[1].price if bar.arrivals else bar.carry

    def _opening_and_closing(self, bar: Bar) -> tuple[Trade, Trade]:
        trades = [trade for _, trade in bar.arrivals]
        if not self.timed:
            return trades[0], trades[-1]
        if self.oracle.contiguous:
            return min(trades, key=lambda trade: trade.first_id), max(trades, key=lambda trade: trade.last_id)
        in_order = sorted(bar.arrivals, key=lambda pair: (pair[1].time_ns, pair[0]))
        return in_order[0][1], in_order[-1][1]

    def _count(self, bar: Bar, sides: tuple[int, ...] = (-1, 0, 1)) -> Decimal:
        return Decimal(sum(trade.trade_count for _, trade in bar.arrivals if trade.side in sides))

    def _volume(self, bar: Bar, sides: tuple[int, ...] = (-1, 0, 1)) -> Decimal:
        with localcontext(Context(prec=200, traps=[Inexact])):
            return sum(
                (
                    bar.parts[number][0] if number in bar.parts else trade.size
                    for number, trade in bar.arrivals
                    if trade.side in sides
                ),
                Decimal(0),
            )

    def _range(self, bar: Bar) -> Decimal:
        prices = [trade.price for _, trade in bar.arrivals]
        with localcontext(Context(prec=200, traps=[Inexact])):
            return max(prices) - min(prices)

    def _delta(self, bar: Bar) -> Decimal:
        with localcontext(Context(prec=200, traps=[Inexact])):
            return abs(self._volume(bar, (1,)) - self._volume(bar, (-1,)))

    def _quote(self, bar: Bar, sides: tuple[int, ...] = (-1, 0, 1)) -> Decimal:
        contract = self.oracle.contract_sizes.get(self.symbol)
        with localcontext(Context(prec=200, traps=[Inexact])):
            return sum(
                (
                    bar.parts[number][1]
                    if number in bar.parts
                    else (trade.price if contract is None else contract) * trade.size
                    for number, trade in bar.arrivals
                    if trade.side in sides
                ),
                Decimal(0),
            )

    def _values(self, bar: Bar) -> tuple[Any, ...]:
        nothing = Decimal(0)
        if not bar.arrivals:
            flat = bar.carry if self.oracle.fill and self._status(bar) != "GAP" else None
            four = (flat, flat, flat, flat)
            if bar.edges is not None:
                four = (bar.edges[0], max(bar.edges), min(bar.edges), bar.edges[1])
            sums = (nothing, nothing, 0, nothing, nothing, None, None)
            return (*four, *sums, 0, 0, None, None, None, *self._inside(bar))
        opening, closing = self._opening_and_closing(bar)
        prices = [trade.price for _, trade in bar.arrivals]
        by_id = self.oracle.contiguous
        edges = bar.edges or (opening.price, closing.price)
        return (
            edges[0],
            max(*prices, *edges),
            min(*prices, *edges),
            edges[1],
            self._volume(bar),
            self._quote(bar),
            int(self._count(bar)),
            self._volume(bar, (1,)),
            self._quote(bar, (1,)),
            min(trade.first_id for _, trade in bar.arrivals) % SERIES if by_id else None,
            max(trade.last_id for _, trade in bar.arrivals) % SERIES if by_id else None,
            int(self._count(bar, (1,))),
            int(self._count(bar, (-1,))),
            instant(min(trade.time_ns for _, trade in bar.arrivals)),
            instant(max(trade.time_ns for _, trade in bar.arrivals)),
            max(trade.size for _, trade in bar.arrivals),
            *self._inside(bar),
        )

    def _inside(self, bar: Bar) -> tuple[Any, ...]:
        trades = [trade for _, trade in bar.arrivals]
        footprint = delta = highest = lowest = deviation = None
        for feature in self.features:
            name, _, step = feature.partition(":")
            if name == "footprint":
                footprint = self._footprint(trades, Decimal(step))
            else:
                delta, highest, lowest = self._flow(trades)
                if trades and self.symbol not in self.oracle.contract_sizes:
                    deviation = self._deviation(trades)
        return footprint, delta, highest, lowest, deviation

    def _footprint(self, trades: list[Trade], step: Decimal) -> tuple[tuple[Decimal, ...], ...] | None:
        levels: dict[int, list[Trade]] = {}
        for trade in trades:
            if abs(Fraction(trade.price)) * 10 ** -int(step.as_tuple().exponent) >= 2**63:
                return None
            levels.setdefault(Fraction(trade.price) // Fraction(step), []).append(trade)
        with localcontext(Context(prec=200, traps=[Inexact])):
            return tuple(
                (
                    step * level,
                    *(sum((one.size for one in levels[level] if one.side == side), Decimal(0)) for side in (1, -1, 0)),
                )
                for level in sorted(levels)
            )

    def _flow(self, trades: list[Trade]) -> tuple[Decimal | None, ...]:
        def place(trade: Trade) -> int:
            return (trade.first_id if self.oracle.contiguous else trade.time_ns) if self.timed else 0

        with localcontext(Context(prec=200, traps=[Inexact])):
            deltas = list(accumulate((trade.size * trade.side for trade in trades), initial=Decimal(0)))
        if not trades or [place(trade) for trade in trades] != sorted(map(place, trades)):
            return deltas[-1], None, None
        return deltas[-1], max(deltas[1:]), min(deltas[1:])

    def _deviation(self, trades: list[Trade]) -> Decimal:
        weights = [Fraction(trade.size) for trade in trades]
        prices = [Fraction(trade.price) for trade in trades]
        mean = Fraction(sum(w * p for w, p in zip(weights, prices, strict=True))) / sum(weights)
        spread = Fraction(sum(w * (p - mean) * (p - mean) for w, p in zip(weights, prices, strict=True)))
        variance = spread / sum(weights)
        with localcontext(Context(prec=150)):
            root = (Decimal(variance.numerator) / Decimal(variance.denominator)).sqrt()
        return Context(prec=28).plus(root)
