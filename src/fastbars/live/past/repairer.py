"""CandleRepairer: issues bars that lack trades again, from the exchange's own candles.

    lacking --its interval is over, and healing has ended--> due --asked for--> repaired: issued as REPORTED
                                                              ^         |
                                                              |         +--no answer, or a candle that cannot be its own
                                                              +-5, 20, 60, 300 s--+--the last time--> given up

A bar lacks trades where it is GAP or PARTIAL. It is asked for when its trades cannot be had any more: at once where the
exchange has no past trades that could heal it; else when healing has given up what it lacks. Bars of one symbol and
spec that follow each other are one request. Whoever knows better meanwhile wins: a bar that trades prove needs no
candle, and one that was issued from a candle is issued again when they do (`reissues.py`).

Units: seconds for timers, int64 nanoseconds for exchange time.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import NamedTuple

from fastbars.bars import OHLCVBar
from fastbars.clocks import steady_s
from fastbars.errors import RestError, SpecError
from fastbars.live.past.candle_bars import MOST_CANDLES, CandleBars, NoBar
from fastbars.live.reissues import EarlierBars
from fastbars.log import SparseLog
from fastbars.ticks import to_nanoseconds

_AGAIN_S = (5.0, 20.0, 60.0, 300.0)  # before a bar is asked for again; then it is given up
_LATE_TRIES = 2  # a candle that is absent, or of fewer trades than came, may not be finished
_LOOK_S = (2.0, 5.0, 15.0)  # before healing is looked at again; the last one from then on
_NEAR = 10  # bars that may lie between two that are asked for together
_MOST_GIVEN_UP = 10_000
_MOST_ROUNDS = 3  # times that a bar is taken up again, by late trades, after it was given up
_PART = 500  # bars looked at between two turns of the event loop

Span = tuple[int, int]


class Place(NamedTuple):
    """Which bar it is."""

    symbol: str
    spec: str
    open_time: datetime


@dataclass(slots=True)
class RepairStats:
    """What repair by candles has done.

    Attributes:
        repaired: bars issued as REPORTED.
        waiting: bars that lack trades now, and may yet be repaired.
        given_up: bars that stay as they are; `BarStream.unrepaired` says why.
        withdrawn: REPORTED bars taken back, as late trades contradicted their candles.
        requests: requests sent; `errors` of them failed.
    """

    repaired: int = 0
    waiting: int = 0
    given_up: int = 0
    withdrawn: int = 0
    requests: int = 0
    errors: int = 0


@dataclass(slots=True)
class _Wait:
    # A bar that lacks trades. `rounds`: how often it was given up before; `looks`: how often it was still being healed.
    bar: OHLCVBar
    rounds: int
    tries: int = 0
    looks: int = 0


class _GivenUp(NamedTuple):
    bar: OHLCVBar
    why: str
    rounds: int


@dataclass(slots=True)
class _Job:
    # Bars that one request is to repair.
    symbol: str
    spec: str
    asked_spec: str
    bars: list[OHLCVBar] = field(default_factory=list)


class CandleRepairer:
    """Repairs the bars of one session.

    Args:
        exchange: name for logs.
        earlier: knows the bars that lack trades.
        report: issues bars in place of those; returns the ones that were issued.
        candles: makes bars of the exchange's candles.
        still_healed: symbol -> the spans of time in which trades may yet be found by healing.
        horizon_s: a bar that ended so long ago is not healed any more.
        at_once: most requests at the same time.
        exchange_time_ns: the exchange's time now.
        now: a steady clock in seconds.

    Attributes:
        stats: what was done, but for what is counted elsewhere (see `count`).
    """

    def __init__(
        self,
        exchange: str,
        earlier: EarlierBars,
        report: Callable[[list[OHLCVBar]], list[OHLCVBar]],
        candles: CandleBars,
        *,
        still_healed: Callable[[str], Sequence[Span]],
        horizon_s: float,
        exchange_time_ns: Callable[[], int],
        at_once: int = 1,
        now: Callable[[], float] = steady_s,
    ) -> None:
        self.stats = RepairStats()
        self._given_up: OrderedDict[Place, _GivenUp] = OrderedDict()  # the last ones
        self._earlier = earlier
        self._report = report
        self._candles = candles
        self._still_healed = still_healed
        self._horizon_s = horizon_s
        self._at_once = at_once
        self._exchange_time_ns = exchange_time_ns
        self._now = now
        self._waiting: dict[Place, _Wait] = {}
        self._due: list[tuple[float, Place]] = []  # a heap
        self._jobs: deque[_Job] = deque()
        self._asking: set[asyncio.Task[None]] = set()
        self._awake = asyncio.Event()
        self._warnings = SparseLog(exchange=exchange)
        earlier.on_lacking = self.note

    def waiting(self) -> dict[Place, str]:
        """The bars that lack trades now, and why they stay so; "" where they may yet be repaired.

        Of those that were given up the latest 10,000.
        """
        lacking = {place: one.why for place, one in self._given_up.items() if self._earlier.is_lacking(one.bar)}
        return lacking | dict.fromkeys(self._waiting, "")

    def note(self, bar: OHLCVBar) -> None:
        """The bar lacks trades."""
        place = _place_of(bar)
        if place in self._waiting:
            return
        asked_spec, why = self._candles.asked_spec(bar.spec)
        if asked_spec is None:
            self._give_up(bar, why, 0)
            return
        given_up = self._given_up.get(place)
        rounds = 0 if given_up is None else given_up.rounds + 1
        if given_up is not None and rounds > _MOST_ROUNDS:
            self._give_up(bar, given_up.why, rounds)
            return
        self._waiting[place] = _Wait(bar, rounds)
        over_ns = to_nanoseconds(bar.close_time) + int(self._candles.settles_s * 1e9)
        self._again(place, max(0.0, (over_ns - self._exchange_time_ns()) / 1e9))
        self._awake.set()

    async def run(self) -> None:
        """Repair for ever; cancel it to end."""
        for bar in self._earlier.lacking():
            self.note(bar)
        try:
            while True:
                self._awake.clear()
                due_s = await self._ask_due()
                try:
                    async with asyncio.timeout(due_s):
                        await self._awake.wait()
                except TimeoutError:
                    pass
        finally:
            asking, self._asking = self._asking, set()
            for task in asking:
                task.cancel()
            if asking:
                await asyncio.wait(asking)
            self._waiting.clear()  # the next run begins with what is lacking then
            self._due.clear()
            self._jobs.clear()

    def count(self) -> RepairStats:
        """The counters, as they are now."""
        return replace(self.stats, waiting=len(self._waiting))

    # What is due.

    async def _ask_due(self) -> float | None:
        # Begins to ask for what is due; returns the seconds until more is, None where nothing waits.
        for task in [task for task in self._asking if task.done()]:
            self._asking.discard(task)
            task.result()
        self._jobs.extend(self._jobs_of(await self._take_due()))
        while self._jobs and len(self._asking) < self._at_once:
            job = self._jobs.popleft()
            self._asking.add(asyncio.create_task(self._ask(job), name=f"fastbars candles {job.symbol}"))
        return max(0.0, self._due[0][0] - self._now()) if self._due else None

    async def _take_due(self) -> list[OHLCVBar]:
        # The bars to ask for now, as they are made now.
        now, due = self._now(), list[OHLCVBar]()
        spans: dict[str, Sequence[Span]] = {}
        looked = 0
        while self._due and self._due[0][0] <= now:
            place = heapq.heappop(self._due)[1]
            looked += 1
            if looked % _PART == 0:
                await asyncio.sleep(0)
            wait = self._waiting.get(place)
            made = None if wait is None else self._made_now(wait.bar)
            if wait is None or made is None:
                continue
            if place.symbol not in spans:
                spans[place.symbol] = self._still_healed(place.symbol)
            if self._is_healed(made, spans[place.symbol]):
                self._again(place, _LOOK_S[min(wait.looks, len(_LOOK_S) - 1)])
                wait.looks += 1
            else:
                due.append(made)
        return due

    def _is_healed(self, bar: OHLCVBar, spans: Sequence[Span]) -> bool:
        open_ns, close_ns = to_nanoseconds(bar.open_time), to_nanoseconds(bar.close_time)
        if self._exchange_time_ns() - close_ns > self._horizon_s * 1e9:
            return False
        return any(since_ns < close_ns and until_ns >= open_ns for since_ns, until_ns in spans)

    def _jobs_of(self, due: list[OHLCVBar]) -> list[_Job]:
        jobs: list[_Job] = []
        due.sort(key=lambda bar: (bar.symbol, bar.spec, bar.open_time))
        for bar in due:
            job = jobs[-1] if jobs else None
            if job is None or (job.symbol, job.spec) != (bar.symbol, bar.spec) or not self._fits(job, bar):
                asked_spec, _ = self._candles.asked_spec(bar.spec)
                assert asked_spec is not None
                job = _Job(bar.symbol, bar.spec, asked_spec)
                jobs.append(job)
            job.bars.append(bar)
        jobs.sort(key=lambda job: job.bars[0].close_time)  # those that have waited longest first
        return jobs

    def _fits(self, job: _Job, bar: OHLCVBar) -> bool:
        length = bar.close_time - bar.open_time
        if bar.open_time - job.bars[-1].close_time > _NEAR * length:
            return False
        since_ns, until_ns = to_nanoseconds(job.bars[0].open_time), to_nanoseconds(bar.close_time)
        return self._candles.is_one_request(job.asked_spec, since_ns, until_ns)

    def _again(self, place: Place, delay_s: float) -> None:
        heapq.heappush(self._due, (self._now() + delay_s, place))

    # Asking.

    async def _ask(self, job: _Job) -> None:
        try:
            await self._repair(job)
        finally:
            self._awake.set()

    async def _repair(self, job: _Job) -> None:
        job.bars = [bar for bar in job.bars if self._made_now(bar) is not None]
        if not job.bars:
            return
        since_ns, until_ns = to_nanoseconds(job.bars[0].open_time), to_nanoseconds(job.bars[-1].close_time)
        if not self._candles.is_one_request(job.asked_spec, since_ns, until_ns):  # one bar alone
            for bar in job.bars:
                self._fail(bar, f"it would take more than {MOST_CANDLES} candles of {job.asked_spec}", most=0)
            return
        try:
            past = await self._candles.past(job.symbol, job.asked_spec, since_ns, until_ns)
        except (RestError, SpecError) as error:
            is_final = isinstance(error, SpecError) or error.permanent
            for bar in job.bars:
                self._fail(bar, str(error), most=0 if is_final else len(_AGAIN_S))
            return
        try:
            candles = self._candles.bars(job.symbol, job.spec, past.candles)
        except ValueError as error:
            for bar in job.bars:
                self._fail(bar, f"a candle contradicts itself: {error}", most=_LATE_TRIES)
            return
        found: list[OHLCVBar] = []
        for bar in job.bars:
            made = self._made_now(bar)
            if made is None:
                continue
            revision = self._earlier.next_revision(made)
            candle = self._candles.bar_of(past, candles.get(bar.open_time), made, revision, _LATE_TRIES)
            if isinstance(candle, NoBar):
                self._fail(made, candle.why, most=candle.tries)
            else:
                found.append(candle)
        await self._issue(found)

    def _made_now(self, bar: OHLCVBar) -> OHLCVBar | None:
        # As trades have it now; None: they have proven more.
        made = self._earlier.lacks(bar)
        if made is None:
            self._waiting.pop(_place_of(bar), None)
        return made

    async def _issue(self, bars: list[OHLCVBar]) -> None:
        for start in range(0, len(bars), _PART):
            part = bars[start : start + _PART]
            for bar in part:
                self._waiting.pop(_place_of(bar), None)
            self.stats.repaired += len(self._report(part))
            await asyncio.sleep(0)

    def _fail(self, made: OHLCVBar, why: str, *, most: int = len(_AGAIN_S)) -> None:
        # It is asked for again, or given up.
        place = _place_of(made)
        wait = self._waiting.get(place)
        if wait is None:
            return
        if wait.tries < most:
            # At the next multiple, so that bars that failed one after the other are asked for together.
            every_s = _AGAIN_S[wait.tries]
            self._again(place, 2 * every_s - self._now() % every_s)
            wait.tries += 1
            return
        del self._waiting[place]
        self._give_up(made, why, wait.rounds)
        stands = self._earlier.candle_of(made)
        if stands is not None and self._candles.contradicts(stands, made):
            self.stats.withdrawn += len(self._report([made]))

    def _give_up(self, bar: OHLCVBar, why: str, rounds: int) -> None:
        place = _place_of(bar)
        self.stats.given_up += place not in self._given_up
        self._given_up[place] = _GivenUp(bar, why, rounds)
        if len(self._given_up) > _MOST_GIVEN_UP:
            self._given_up.popitem(last=False)
        self._earlier.settle(bar)
        of = "" if self._candles.asked_spec(bar.spec)[0] is None else bar.symbol
        self._warnings.warn(
            "bar_not_repaired", of=of, symbol=bar.symbol,
            spec=bar.spec, open_time=bar.open_time.isoformat(), status=str(bar.status), why=why,
        )  # fmt: skip


def _place_of(bar: OHLCVBar) -> Place:
    return Place(bar.symbol, bar.spec, bar.open_time)
