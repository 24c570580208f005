"""The slow twin of the kernel: plain Decimal, every bar and status worked out afresh after each event.

It keeps the trades themselves, not sums of them. After each trade, all that was ever issued is computed again
from the lists of trades, and what came out differently is issued again. Ids are a set of numbers, holes are
what that set lacks, the calendar is datetime's. Nothing here is shared with the package.

Units: times int ns since the epoch, UTC; prices, sizes and steps Decimal.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal, Inexact, localcontext
from itertools import pairwise
from typing import NamedTuple

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


class Trade(NamedTuple):
    """One row of a feed."""

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
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    quote_volume: Decimal
    trade_count: int
    taker_buy_volume: Decimal
    taker_buy_quote_volume: Decimal
    first_trade_id: int | None
    last_trade_id: int | None
    status: str
    revision: int
    close_reason: str


class Hole(NamedTuple):
    """Missing ids, and the times of the trades on both sides of them, the earlier one first."""

    first: int
    last: int
    since_ns: int
    until_ns: int


def nanoseconds(time: datetime) -> int:
    return (time - EPOCH) // timedelta(microseconds=1) * 1000


def instant(time_ns: int) -> datetime:
    return EPOCH + timedelta(microseconds=time_ns // 1000)


def interval(spec: str, time_ns: int) -> tuple[datetime, datetime]:
    """The interval of a time bar that holds `time_ns`: [open, close)."""
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


def _month_start(months: int) -> datetime:
    return datetime(1970 + months // 12, months % 12 + 1, 1, tzinfo=UTC)


@dataclass
class Bar:
    """The trades of one bar in order of arrival, and what is known about its borders."""

    open_ns: int
    close_ns: int
    arrivals: list[tuple[int, Trade]] = field(default_factory=list)
    reason: str = "trade"
    start: bool = False
    ended: bool = False
    unproven: bool = False
    down: bool = False
    lost: bool = False
    kept: bool = True
    revision: int = -1
    issued: tuple[object, ...] | None = None


class Oracle:
    """Trades in, the full history of issued bars out.

    Args:
        specs: texts of bar specs.
        ids: "contiguous" or "none".
        grace_s, lateness_s: whole or binary fractions of seconds.
        contract_sizes: of inverse symbols.
    """

    def __init__(
        self,
        specs: list[str],
        ids: str = "none",
        grace_s: float = 1,
        lateness_s: float = 60,
        contract_sizes: dict[str, Decimal] | None = None,
    ) -> None:
        self.specs = specs
        self.contiguous = ids == "contiguous"
        self.grace_ns = round(grace_s * 1_000_000_000)
        self.lateness_ns = round(lateness_s * 1_000_000_000)
        self.contract_sizes = contract_sizes or {}
        self.watermark_ns: int | None = None
        self.arrival = 0
        self.late: list[Trade] = []
        self.duplicates = 0
        self.accepted: dict[str, list[Trade]] = {}
        self.out_of_order: set[str] = set()
        self.tracks: dict[tuple[str, str], Track] = {}

    def add(self, trade: Trade) -> list[Line]:
        jumped = filled = False
        known = self.accepted.setdefault(trade.symbol, [])
        if self.contiguous and known:
            seen = {number for row in known for number in range(row.first_id, row.last_id + 1)}
            own = set(range(trade.first_id, trade.last_id + 1))
            if own <= seen:
                self.duplicates += 1
                return []
            if own & seen:
                self.late.append(trade)
                return []
            jumped = trade.first_id > max(seen) + 1
            filled = trade.first_id < max(seen)
            if jumped or filled:
                self.out_of_order.add(trade.symbol)
        known.append(trade)
        self.arrival += 1
        late = False
        lines: list[Line] = []
        for spec in self.specs:
            track = self._track(trade.symbol, spec)
            if jumped:
                lines += track.changes()
            placed, missed = track.place(trade, self.arrival)
            lines += placed
            if filled:
                lines += track.changes()
            late |= missed
        if late:
            self.late.append(trade)
        return lines

    def advance_watermark(self, time_ns: int) -> list[Line]:
        self.watermark_ns = time_ns if self.watermark_ns is None else max(self.watermark_ns, time_ns)
        return self._close(time_ns, "watermark")

    def advance_clock(self, time_ns: int, feed_up: bool) -> list[Line]:
        return self._close(time_ns, "clock" if feed_up else "gap")

    def flush(self, symbol: str | None = None) -> list[Line]:
        return [
            track.shut("end")
            for track in self.tracks.values()
            if track.current is not None and symbol in (None, track.symbol)
        ]

    def holes(self, symbol: str) -> list[Hole]:
        rows = sorted(self.accepted.get(symbol, []), key=lambda row: row.first_id)
        return [
            Hole(
                before.last_id + 1,
                behind.first_id - 1,
                min(before.time_ns, behind.time_ns),
                max(before.time_ns, behind.time_ns),
            )
            for before, behind in pairwise(rows)
            if before.last_id + 1 < behind.first_id
        ]

    def _close(self, time_ns: int, reason: str) -> list[Line]:
        return [
            track.shut(reason)
            for track in self.tracks.values()
            if track.timed and track.current is not None and track.current.close_ns <= time_ns - self.grace_ns
        ]

    def _track(self, symbol: str, spec: str) -> Track:
        # A dict keeps the order of first appearance, and all specs of a symbol appear together.
        return self.tracks.setdefault((symbol, spec), Track(self, symbol, spec))


class Track:
    """All bars of one symbol and spec."""

    def __init__(self, oracle: Oracle, symbol: str, spec: str) -> None:
        self.oracle = oracle
        self.symbol = symbol
        self.spec = spec
        self.timed = ":" not in spec
        self.current: Bar | None = None
        self.closed: list[Bar] = []
        self.first_open_ns: int | None = None
        self.times: list[int] = []

    def place(self, trade: Trade, arrival: int) -> tuple[list[Line], bool]:
        """The bars that this trade causes, and whether it came too late."""
        return self._place_timed(trade, arrival) if self.timed else (self._place_path(trade, arrival), False)

    def _place_path(self, trade: Trade, arrival: int) -> list[Line]:
        if self.current is None:
            self.current = Bar(trade.time_ns, trade.time_ns, start=not self.closed)
        bar = self.current
        bar.arrivals.append((arrival, trade))
        bar.open_ns = min(row.time_ns for _, row in bar.arrivals)
        bar.close_ns = max(row.time_ns for _, row in bar.arrivals)
        kind, _, step = self.spec.partition(":")
        reached = {"tick": self._count, "volume": self._volume, "value": self._quote}[kind](bar)
        return [self.shut("trade")] if reached >= Decimal(step) else []

    def _place_timed(self, trade: Trade, arrival: int) -> tuple[list[Line], bool]:
        opened, closes = map(nanoseconds, interval(self.spec, trade.time_ns))
        frontier = self.current or (max(self.closed, key=lambda bar: bar.open_ns) if self.closed else None)
        lines: list[Line] = []
        if frontier is not None and opened < frontier.open_ns:
            bar = next((bar for bar in self.closed if bar.open_ns == opened), None)
        elif frontier is not None and opened == frontier.open_ns:
            bar = frontier
        else:
            if self.current is not None:
                lines.append(self.shut("trade"))
            elif frontier is not None:
                frontier.unproven = frontier.ended = False
                frontier.down = frontier.down and not self.oracle.contiguous
                lines += self._changed(frontier)
            bar = self.current = Bar(opened, closes, start=self.first_open_ns is None)
            self.first_open_ns = opened if self.first_open_ns is None else self.first_open_ns
        if bar is None or bar is not self.current:
            if self._event_time() - closes > self.oracle.lateness_ns:
                if bar is not None:
                    bar.lost = True
                    lines += self._changed(bar)
                return lines, True
            if bar is None:
                assert self.first_open_ns is not None
                bar = Bar(opened, closes, start=opened < self.first_open_ns)
                self.closed.append(bar)
        bar.arrivals.append((arrival, trade))
        self.times.append(trade.time_ns)
        if bar is not self.current:
            lines += self._changed(bar)
        return lines, False

    def shut(self, reason: str) -> Line:
        bar = self.current
        assert bar is not None
        self.current = None
        bar.reason = reason
        bar.ended = reason == "end"
        bar.unproven = reason in ("watermark", "clock", "gap")
        bar.down = reason == "gap"
        self.closed.append(bar)
        if self.timed:
            for other in self.closed:
                if other is not bar and self._event_time() - other.close_ns > self.oracle.lateness_ns:
                    other.kept = False
        return next(self._changed(bar))

    def changes(self) -> list[Line]:
        """Every bar that would come out differently now than when it was last issued."""
        if not self.timed:
            return []
        bars = sorted(self.closed, key=lambda bar: bar.open_ns)
        return [line for bar in bars if bar.kept for line in self._changed(bar)]

    def _changed(self, bar: Bar) -> Iterator[Line]:
        values = self._values(bar)
        content = (*values, self._status(bar))
        if content != bar.issued and bar.kept:
            bar.issued = content
            bar.revision += 1
            yield Line(
                self.symbol,
                self.spec,
                instant(bar.open_ns),
                instant(bar.close_ns),
                *values,
                self._status(bar),
                bar.revision,
                bar.reason,
            )

    def _event_time(self) -> int:
        watermark = self.oracle.watermark_ns
        return max(self.times + ([] if watermark is None else [watermark]))

    def _status(self, bar: Bar) -> str:
        if self.timed:
            missing = self.oracle.contiguous and any(
                bar.open_ns <= hole.until_ns and hole.since_ns < bar.close_ns for hole in self.oracle.holes(self.symbol)
            )
        else:
            missing = self.symbol in self.oracle.out_of_order
        if bar.lost or bar.down or missing:
            return "GAP"
        if bar.start or bar.ended:
            return "PARTIAL"
        if not self.oracle.contiguous:
            return "UNVERIFIABLE"
        return "PROVISIONAL" if bar.unproven else "COMPLETE"

    def _count(self, bar: Bar) -> Decimal:
        return Decimal(sum(trade.trade_count for _, trade in bar.arrivals))

    def _volume(self, bar: Bar, sides: tuple[int, ...] = (-1, 0, 1)) -> Decimal:
        with localcontext(Context(prec=200, traps=[Inexact])):
            return sum((trade.size for _, trade in bar.arrivals if trade.side in sides), Decimal(0))

    def _quote(self, bar: Bar, sides: tuple[int, ...] = (-1, 0, 1)) -> Decimal:
        contract = self.oracle.contract_sizes.get(self.symbol)
        with localcontext(Context(prec=200, traps=[Inexact])):
            return sum(
                (
                    (trade.price if contract is None else contract) * trade.size
                    for _, trade in bar.arrivals
                    if trade.side in sides
                ),
                Decimal(0),
            )

    def _values(
        self, bar: Bar
    ) -> tuple[
        Decimal,
        Decimal,
        Decimal,
        Decimal,
        Decimal,
        Decimal,
        int,
        Decimal,
        Decimal,
        int | None,
        int | None,
    ]:
        by_id = self.oracle.contiguous
        if not self.timed:
            opening, closing = bar.arrivals[0][1], bar.arrivals[-1][1]
        elif by_id:
            opening = min((trade for _, trade in bar.arrivals), key=lambda trade: trade.first_id)
            closing = max((trade for _, trade in bar.arrivals), key=lambda trade: trade.last_id)
        else:
            in_order = sorted(bar.arrivals, key=lambda pair: (pair[1].time_ns, pair[0]))
            opening, closing = in_order[0][1], in_order[-1][1]
        prices = [trade.price for _, trade in bar.arrivals]
        return (
            opening.price,
            max(prices),
            min(prices),
            closing.price,
            self._volume(bar),
            self._quote(bar),
            int(self._count(bar)),
            self._volume(bar, (1,)),
            self._quote(bar, (1,)),
            min(trade.first_id for _, trade in bar.arrivals) if by_id else None,
            max(trade.last_id for _, trade in bar.arrivals) if by_id else None,
        )
