"""Jobs: what brings the past of the lanes of one symbol, a page at a time.

A job takes a step when the keeper says so, and returns what it waits for then:

    MORE     nothing: it has more to ask for
    LIVE     a live bar, as everything up to now was brought; it decides how far the past must reach
    SOON     the exchange: it does not have the first live trades yet, which bars in progress are completed up to
    LATER    likewise: it does not have yet what is needed
    DONE     its lanes are joined

Units: times int64 nanoseconds since the Unix epoch, UTC.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Protocol

from fastbars.bars import OHLCVBar
from fastbars.exchanges.checked import LATEST_NS
from fastbars.exchanges.messages import Trade
from fastbars.live.past.candles import CandleClient
from fastbars.live.past.joining import Joining
from fastbars.live.past.reports import filled, reported_bars
from fastbars.live.past.spans import length_of, open_of, shifted
from fastbars.live.past.trades import PastTrades
from fastbars.specs import BarSpec
from fastbars.ticks import to_nanoseconds

CANDLES_AT_ONCE = 1_000
_LATE_NS = 5_000_000_000  # after its end a candle may still be absent
_MOST_PROOFS = 8
_FIRST_PAGES = 2  # after which the rate of a symbol's trades is known


class Waits(Enum):
    """What a job waits for."""

    MORE = "more"
    LIVE = "live"
    SOON = "soon"
    LATER = "later"
    DONE = "done"


class TooManyTradesError(Exception):
    """A span has more trades than may be asked for."""


def pages_of(past: PastTrades, pages: int, until_ns: int) -> float:
    """About how many pages a span has, by the first ones; 0 where they do not show it."""
    newest, begins_ns = past.newest, past.begins_ns
    if newest is None or newest.time_ns <= begins_ns:
        return 0.0
    return pages * (until_ns - begins_ns) / (newest.time_ns - begins_ns)


class Beginnings(Protocol):
    """The live bars that a stream began inside: the `Repairs` of a session."""

    def has_begun(self, symbol: str) -> bool:
        """Whether the symbol has traded live."""

    def prove_beginning(self, symbol: str, trades: Sequence[Trade]) -> bool:
        """Complete them with these trades; False: they do not reach far enough yet."""


class Job(Protocol):
    """Brings the past of some lanes of a symbol.

    Attributes:
        is_dropped: set when they are no longer wanted; what was asked for by then is not used.
    """

    symbol: str
    is_dropped: bool

    @property
    def specs(self) -> Sequence[BarSpec]:
        """Those of its lanes that are open."""

    @property
    def is_ready(self) -> bool:
        """Whether it has something to do, though no live bar came since it waits for one."""

    async def step(self) -> Waits:
        """Bring one page. Raises RestError; what was brought stays."""


class TradesJob:
    """Brings bars of time specs, made of trades.

    Args:
        joining: of the session.
        past: the trades, of all the specs.
        specs: of its lanes.
        most_pages: if the span has more pages, none of it is brought.
        now_ns: the exchange's time.
        beginnings: completes the live bars that a stream began inside.
    """

    def __init__(
        self, joining: Joining, symbol: str, past: PastTrades, specs: Sequence[BarSpec], most_pages: float,
        now_ns: Callable[[], int], beginnings: Beginnings,
    ) -> None:  # fmt: skip
        self.symbol = symbol
        self.is_dropped = False
        self._joining = joining
        self._past = past
        self._specs = tuple(specs)
        self._most_pages = most_pages
        self._now_ns = now_ns
        self._beginnings = beginnings
        self._proofs = 0  # attempts to complete the live bars that the stream began inside
        self._over_ns = LATEST_NS  # when the next bar is over that waits for its proof
        self._pages = 0
        self._kept: list[OHLCVBar] = []  # until the rate is known

    @property
    def specs(self) -> Sequence[BarSpec]:
        """Those of its lanes that are open."""
        return _open_ones(self, self._joining, self._specs)

    @property
    def is_ready(self) -> bool:
        """Whether its first live trade has come, a bar is over, or there is nothing to wait for any more."""
        return self._has_begun_inside() or self._now_ns() >= self._over_ns or not self.specs

    async def step(self) -> Waits:
        """Bring one page of trades. Raises RestError, TooManyTradesError."""
        past = self._past
        self._over_ns = LATEST_NS
        bars = self._kept + await past.advance()
        self._kept = []
        self._pages += 1
        if past.is_caught_up:
            bars += past.settled(all_of_them=True)
            if self._has_begun_inside() and self._beginnings.prove_beginning(self.symbol, past.latest):
                self._proofs = _MOST_PROOFS
        elif self._pages <= _FIRST_PAGES and self._most_pages != float("inf"):
            self._check_rate()
            if self._pages < _FIRST_PAGES:
                self._kept = bars
                return Waits.MORE
        waits = self._deliver(bars)
        if waits is Waits.LIVE and not self._beginnings.has_begun(self.symbol):
            # Nobody knows when the next trade comes, so what is over is given, and proven then.
            self._deliver(past.close_until(self._now_ns() - _LATE_NS))
            self._over_ns = max(past.next_close_ns, self._now_ns()) + _LATE_NS
        if waits is Waits.LIVE and self._has_begun_inside():
            self._proofs += 1
            return Waits.SOON
        return waits

    def _has_begun_inside(self) -> bool:
        return self._proofs < _MOST_PROOFS and self._beginnings.has_begun(self.symbol)

    def _check_rate(self) -> None:
        needed = pages_of(self._past, self._pages, self._now_ns())
        if needed > self._most_pages:
            raise TooManyTradesError(f"about {needed:,.0f} pages of trades, the budget is {self._most_pages:,.0f}")

    def _deliver(self, bars: list[OHLCVBar]) -> Waits:
        joining, seam = self._joining, self._joining.seam
        waits = Waits.DONE
        for spec in self.specs:
            name = str(spec)
            lane = self.symbol, name
            own = [bar for bar in bars if bar.spec == name]
            joining.add(self.symbol, name, own, self._past.reached_ns(spec))
            need = seam.need(lane)
            if need.is_met:
                joining.join(self.symbol, name)
            elif not self._past.is_caught_up:
                waits = Waits.MORE
            elif need.until_ns is None:
                waits = Waits.LIVE if waits is Waits.DONE else waits
            elif waits is not Waits.MORE:
                waits = Waits.LATER
        return waits


class PathJob:
    """Brings path-driven bars, from the trades before the first one that came live.

    They end there: the last of them and the first live one are PARTIAL.

    Args:
        joining, past, specs: as in TradesJob.
        first_id: the id of the first live trade; None: none has come yet.
    """

    def __init__(
        self, joining: Joining, symbol: str, past: PastTrades, specs: Sequence[BarSpec],
        first_id: Callable[[], int | None],
    ) -> None:  # fmt: skip
        self.symbol = symbol
        self.is_dropped = False
        self._joining = joining
        self._past = past
        self._specs = tuple(specs)
        self._first_id = first_id
        self._before_id: int | None = None

    @property
    def specs(self) -> Sequence[BarSpec]:
        """Those of its lanes that are open."""
        return _open_ones(self, self._joining, self._specs)

    @property
    def is_ready(self) -> bool:
        """Whether its first live trade is known, or there is nothing to wait for any more."""
        if self._before_id is None:
            self._before_id = self._first_id()
        return self._before_id is not None or not self.specs

    async def step(self) -> Waits:
        """Bring one page of trades. Raises RestError."""
        if not self.is_ready:
            return Waits.LIVE
        past, before_id = self._past, self._before_id
        if before_id is None:
            return Waits.DONE
        bars = await past.advance(before_id=before_id)
        has_all = past.newest_id >= before_id - 1
        if has_all:
            bars += past.end()
        until_ns = 0 if past.newest is None else past.newest.time_ns
        for spec in self.specs:
            own = [bar for bar in bars if bar.spec == str(spec)]
            self._joining.add(self.symbol, str(spec), own, until_ns)
            if has_all:
                self._joining.join(self.symbol, str(spec))
        if has_all:
            return Waits.DONE
        return Waits.LATER if past.is_caught_up else Waits.MORE


class CandleJob:
    """Brings the exchange's candles of one lane, REPORTED.

    Args:
        joining: of the session.
        client: of the exchange's candles.
        part: spec of the candles.
        inverse: their volume counts contracts.
        fills: intervals without trades have a flat bar.
        now_ns: the exchange's time.
    """

    def __init__(
        self, joining: Joining, client: CandleClient, symbol: str, spec: BarSpec, part: str, *, inverse: bool,
        fills: bool, now_ns: Callable[[], int],
    ) -> None:  # fmt: skip
        self.symbol = symbol
        self.is_dropped = False
        self._joining = joining
        self._client = client
        self._spec = spec
        self._part = part
        self._inverse = inverse
        self._fills = fills
        self._now_ns = now_ns
        self._last: OHLCVBar | None = None
        self._over_ns: int | None = None  # when the candles before the first live bar are all there; None: unknown

    @property
    def specs(self) -> Sequence[BarSpec]:
        """Its spec, while the lane is open."""
        return _open_ones(self, self._joining, [self._spec])

    @property
    def is_ready(self) -> bool:
        """Whether candles that came late are there by now, or there is nothing to wait for any more."""
        return not self.specs or (self._over_ns is not None and self._now_ns() >= self._over_ns)

    async def step(self) -> Waits:
        """Bring one page of candles. Raises RestError."""
        spec, name, seam = self._spec, str(self._spec), self._joining.seam
        lane = self.symbol, name
        if not self.specs:
            return Waits.DONE
        need = seam.need(lane)
        if need.is_met:
            self._joining.join(*lane)
            return Waits.DONE
        since_ns = need.mark_ns
        end_ns = open_of(spec, self._now_ns()) if need.until_ns is None else need.until_ns
        per_bar = max((shifted(spec, since_ns, 1) - since_ns) // length_of(self._part), 1)
        until_ns = min(end_ns, shifted(spec, since_ns, max(CANDLES_AT_ONCE // per_bar, 1)))
        reached_ns = since_ns
        if since_ns < until_ns:
            past = await self._client.past(self.symbol, self._part, since_ns, until_ns)
            if not self.specs:
                return Waits.DONE
            reached_ns = until_ns if past.until_ns >= until_ns else open_of(spec, past.until_ns)
            candles = [one for one in past.candles if to_nanoseconds(one.open_time) < reached_ns]
            if self._now_ns() - reached_ns < _LATE_NS:
                # The latest candles may come late: where there is none, it is not known yet that nothing was traded.
                latest_ns = max((to_nanoseconds(one.close_time) for one in candles), default=since_ns)
                reached_ns = max(open_of(spec, latest_ns), since_ns)
                candles = [one for one in candles if to_nanoseconds(one.open_time) < reached_ns]
            if past.since_ns > since_ns:  # the exchange reaches no further back: only whole intervals
                begins_ns = open_of(spec, past.since_ns)
                begins_ns = begins_ns if begins_ns == past.since_ns else shifted(spec, begins_ns, 1)
                candles = [one for one in candles if to_nanoseconds(one.open_time) >= begins_ns]
            bars = reported_bars(candles, spec, inverse=self._inverse)
            if self._fills:
                bars = filled(bars, spec, self._last, reached_ns)
            if bars:
                self._last = bars[-1]
            self._joining.add(*lane, bars, max(reached_ns, since_ns))
            need = seam.need(lane)
        if need.is_met:
            self._joining.join(*lane)
            return Waits.DONE
        if since_ns < until_ns < end_ns and reached_ns == until_ns:
            return Waits.MORE
        if need.until_ns is None:
            # Nobody knows when the next trade comes: what was not there yet is asked for once more.
            self._over_ns = end_ns + _LATE_NS if self._over_ns is None else LATEST_NS
            return Waits.LIVE
        return Waits.MORE if reached_ns >= until_ns else Waits.LATER


def _open_ones(job: Job, joining: Joining, specs: Sequence[BarSpec]) -> list[BarSpec]:
    if job.is_dropped:
        return []
    return [spec for spec in specs if joining.seam.is_lane_open((job.symbol, str(spec)))]
