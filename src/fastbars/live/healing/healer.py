"""Healer: fetches the trades that are missing from the exchange's REST API and hands them to the session.

One worker a venue. It takes one hole at a time, the oldest first, pages through it within the exchange's limits,
and hands each page over in small parts, so that live data goes on meanwhile; trades of a page that belong to other
holes of the symbol are handed over with it. The session decides what becomes of a trade: one that has arrived by the
stream in the meantime is a duplicate, so it does not matter which comes first. A hole that stays is reported with the
reason.

    seen --0.5 s--> due --paged through--> gone: filled, or left out by the exchange for good
                     ^         |
                     |         +-> smaller than it was: a new hole, with all its attempts before it
                     +--1, 4, 15 s-- as it was, less than three times
                               +-> given up: as it was three times; a permanent error; too old; no history

A hole is known by its symbol and ids: one that changes is another one. What is remembered of holes that are gone is
forgotten with the next scan. Units: seconds for timers, int64 nanoseconds for exchange time.
"""

from __future__ import annotations

import asyncio
import heapq
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from fastbars.clocks import steady_s, wall_ns
from fastbars.errors import RestError
from fastbars.exchanges.history import Beginning, History, Hole, Page, left_out, number_range
from fastbars.exchanges.messages import Trade
from fastbars.live.connections.limits import RateLimiter, rest_limit
from fastbars.live.healing.beginning import begins_with_first, trade_before
from fastbars.live.healing.pages import HealingStats, PageClient
from fastbars.live.rest import Get
from fastbars.log import SparseLog, log

_PART = 250  # trades handed over between two turns of the event loop
_DELAY_S = 0.5  # before a hole is asked for: trades out of order fill it by themselves
_AGAIN_S = (1.0, 4.0, 15.0)  # before a hole that did not shrink is asked for again; then it is given up
# Where a venue leaves ids out, the first page begins this many ids before a hole, to show the neighbour; more with the
# second attempt, as that neighbour may be left out itself.
_MARGINS = (1, 50)
_SCANNED = 1_000  # holes scanned between two turns of the event loop
_BEGINNINGS = 32  # searched for before the next round of holes


class HealTarget(Protocol):
    """What has holes to heal: the `Repairs` of a session."""

    @property
    def symbols(self) -> Sequence[str]:
        """The symbols that may have holes."""

    def holes(self, symbol: str | None = None) -> Sequence[Hole]:
        """Every hole there is now (of one symbol)."""

    def holes_within(self, symbol: str, first: int, last: int) -> Sequence[Hole]:
        """The holes of one symbol that overlap these numbers, ascending."""

    def heal(self, symbol: str, trades: Sequence[Trade]) -> object:
        """Fold in those of these trades, from the REST API, that fall into holes."""

    def leave_out(self, symbol: str, ranges: Sequence[tuple[int, int]]) -> object:
        """The REST API leaves these ids out for good: they no longer count as missing."""

    def beginnings(self, symbol: str | None = None) -> Sequence[Beginning]:
        """The symbols (or one of them) whose first bars lack their beginning."""

    def reach_back(self, symbol: str, trade_id: int, time_ns: int) -> object:
        """Open a hole between this trade of the REST API and the symbol's first one."""


# Exchange time of the hole, symbol, first and last number, a unique number as tie-breaker, the hole, its target.
_Due = tuple[int, str, int, int, int, Hole, HealTarget]


class Healer:
    """Heals the holes of one session, or of several that share a venue.

    Args:
        exchange: name for logs.
        history: what the exchange's REST API serves; None: nothing, and `why_none` says why.
        targets: have the holes.
        get: fetches a URL.
        api_key: sent where the history needs one.
        url: asks here instead of the history's own address.
        first_id: the id of a symbol's first trade; None: not known.
        horizon_s: holes older than this, in exchange time, are given up.
        exchange_time_ns: the exchange's time now.
        limiter: of the exchange's request weights, where it is shared with others.
        now, sleep: a steady clock in seconds, and waiting by it; tests pass their own.

    Attributes:
        reasons: the holes that were given up, and why.
    """

    def __init__(
        self,
        exchange: str,
        history: History | None,
        targets: Sequence[HealTarget],
        get: Get,
        *,
        why_none: str = "the exchange serves no history of trades",
        api_key: str | None = None,
        url: str | None = None,
        first_id: int | None = None,
        horizon_s: float = 3600.0,
        exchange_time_ns: Callable[[], int] = wall_ns,
        limiter: RateLimiter | None = None,
        now: Callable[[], float] = steady_s,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self.stats = HealingStats()
        self.reasons: dict[Hole, str] = {}
        self._exchange = exchange
        self._why_none = why_none
        self._first_id = first_id
        self._targets = targets
        self._horizon_s = horizon_s
        self._exchange_time_ns = exchange_time_ns
        self._now = now
        # Failed attempts at each, and when the next one is due.
        self._tries: dict[Hole, tuple[int, float]] = {}
        self._beginnings: dict[Beginning, tuple[int, float]] = {}
        self._awake = asyncio.Event()
        self._warnings = SparseLog(exchange=exchange)
        self._pages: PageClient | None = None
        if history is not None:
            if limiter is None:
                limiter = RateLimiter(*rest_limit(history.api.weight_per_minute), now=now, sleep=sleep)
            self._pages = PageClient(
                exchange, history, get, self.stats, limiter,
                api_key=api_key, url=url, patience_s=horizon_s, sleep=sleep,
            )  # fmt: skip

    def wake(self) -> None:
        """Scan again now: there may be new holes."""
        self._awake.set()

    @property
    def is_able(self) -> bool:
        """Whether the exchange serves past trades, to whom has the key that this may take."""
        return self._pages is not None and not self._pages.lacks_key

    def spans(self, symbol: str) -> list[tuple[int, int]]:
        """The spans of time, ns, in which trades of a symbol may yet be found."""
        found: list[tuple[int, int]] = []
        for target in self._targets:
            for hole in target.holes(symbol):
                if hole not in self.reasons:
                    found.append((min(hole.since_ns, hole.until_ns), max(hole.since_ns, hole.until_ns)))
            for beginning in target.beginnings(symbol):
                if self._beginnings.get(beginning, (0, 0.0))[0] <= len(_AGAIN_S):
                    found.append((beginning.open_ns, beginning.first_ns))
        return found

    async def run(self) -> None:
        """Heal for ever; cancel it to end."""
        while True:
            due_s = await self.heal_due()
            try:
                async with asyncio.timeout(due_s):
                    await self._awake.wait()
            except TimeoutError:
                pass
            self._awake.clear()

    async def heal_due(self) -> float | None:
        """Heal every hole whose time has come; returns the seconds until the next one's, None without holes."""
        while True:
            now = self._now()
            due, next_at = await self._scan(now)
            if not due:
                # Holes first: their bars were whole, and REST APIs serve recent trades only.
                beginnings, next_beginning_at = self._due_beginnings(now)
                if not beginnings:
                    return min((at - now for at in (next_at, next_beginning_at) if at is not None), default=None)
                for beginning, target in beginnings[:_BEGINNINGS]:
                    await self._reach_back(beginning, target)
                    await asyncio.sleep(0)
            asked = False
            while due:
                hole, target = heapq.heappop(due)[-2:]
                # A hole that has changed since the scan waits for the next one. Before a request nothing has changed.
                if not asked or hole in target.holes_within(hole.symbol, hole.first, hole.last):
                    asked = await self._heal(hole, target) or asked
                    await asyncio.sleep(0)

    async def _scan(self, now: float) -> tuple[list[_Due], float | None]:
        # The holes that may be asked for now, a heap by age, and when the next of the others may be. There can be
        # thousands of them for each of thousands of symbols: the loop has its turn in between.
        due: list[_Due] = []
        next_at: float | None = None
        tries: dict[Hole, tuple[int, float]] = {}
        reasons: dict[Hole, str] = {}
        scanned = 0
        for target in self._targets:
            for symbol in target.symbols:
                for hole in target.holes(symbol):
                    scanned += 1
                    if scanned % _SCANNED == 0:
                        await asyncio.sleep(0)
                    if hole in self.reasons:
                        reasons[hole] = self.reasons[hole]
                        continue
                    _, at = tries[hole] = self._tries.get(hole) or (0, now + _DELAY_S)
                    if at <= now:
                        heapq.heappush(due, (min(hole.since_ns, hole.until_ns), *hole[:3], len(due), hole, target))
                    else:
                        next_at = at if next_at is None else min(next_at, at)
        self._tries, self.reasons = tries, reasons
        return due, next_at

    def _due_beginnings(self, now: float) -> tuple[list[tuple[Beginning, HealTarget]], float | None]:
        # The beginnings to search for now, and when the next of the others is due; one that cannot be found is not
        # searched for again.
        found: list[tuple[float, Beginning, int, HealTarget]] = []
        before, self._beginnings = self._beginnings, {}
        if self._pages is not None:
            for target in self._targets:
                for beginning in target.beginnings():
                    tries, at = self._beginnings[beginning] = before.get(beginning, (0, now))
                    if tries <= len(_AGAIN_S):
                        found.append((at, beginning, len(found), target))
        found.sort()
        later = [one[0] for one in found if one[0] > now]
        return [(one[1], one[-1]) for one in found if one[0] <= now], min(later, default=None)

    async def _reach_back(self, beginning: Beginning, target: HealTarget) -> None:
        pages, symbol = self._pages, beginning.symbol
        assert pages is not None
        tries = self._beginnings[beginning][0] + 1
        hole = Hole(symbol, beginning.first - 1, beginning.first - 1, beginning.open_ns, beginning.first_ns)
        why = self._why_not(hole)
        if why is None:
            try:
                trade = await trade_before(pages.history, beginning, pages.fetch)
                if trade is not None:
                    del self._beginnings[beginning]
                    target.reach_back(symbol, number_range(trade)[1], trade.time_ns)
                    return
                first_id = self._first_id
                if first_id is not None and await begins_with_first(pages.history, beginning, pages.fetch, first_id):
                    del self._beginnings[beginning]
                    target.reach_back(symbol, first_id - 1, beginning.open_ns - 1)
                    return
                why = "the REST API has no trade before it, or too many since"
            except RestError as error:
                why = str(error)
                if not error.permanent and tries <= len(_AGAIN_S):
                    self._beginnings[beginning] = tries, self._now() + _AGAIN_S[tries - 1]
                    return
        self._beginnings[beginning] = len(_AGAIN_S) + 1, self._now()
        log.info("beginning_not_found", exchange=self._exchange, symbol=symbol, first=beginning.first, why=why)

    async def _heal(self, hole: Hole, target: HealTarget) -> bool:
        # Returns whether the exchange was asked.
        tries = self._tries.pop(hole, (0, 0.0))[0]
        why = self._why_not(hole)
        if why is not None or self._pages is None:
            self._give_up(hole, why or self._why_none)
            return False
        try:
            await self._page_through(self._pages, hole, target, tries)
            omits = self._pages.history.omits
            why = f"the REST API leaves out {omits}" if omits else "the REST API did not return these trades"
            most_tries = len(_AGAIN_S)
        except RestError as error:
            why = str(error)
            most_tries = 0 if error.permanent else 1  # the client has made attempts of its own
        for rest in target.holes_within(hole.symbol, hole.first, hole.last):
            if rest.first < hole.first or rest.last > hole.last:
                continue
            # Where the rest is smaller than the hole was, something came, and more may come: attempts count anew.
            tried = tries if (rest.first, rest.last) == (hole.first, hole.last) else 0
            if tried >= most_tries:
                self._give_up(rest, why)
            else:
                self._tries[rest] = (tried + 1, self._now() + _AGAIN_S[min(tried, len(_AGAIN_S) - 1)])
        return True

    def _why_not(self, hole: Hole) -> str | None:
        # The reason not to request a hole; None: request it.
        if self._pages is None:
            return self._why_none
        history = self._pages.history
        age_s = (self._exchange_time_ns() - max(hole.since_ns, hole.until_ns)) / 1e9
        if age_s > self._horizon_s:
            return f"it is {age_s:.0f} s old, more than heal_horizon, {self._horizon_s:g} s"
        if history.reach_s is not None and age_s > history.reach_s:
            return f"it is {age_s:.0f} s old, and the REST API reaches {history.reach_s:.0f} s back"
        if self._pages.lacks_key:
            return f"the REST API needs a key (StreamConfig.api_key, sent as {history.key_header})"
        return None

    def _give_up(self, hole: Hole, why: str) -> None:
        self.reasons[hole] = why
        self.stats.given_up += 1
        self._warnings.warn(
            "hole_not_healed", of=hole.symbol, symbol=hole.symbol, first=hole.first, last=hole.last, why=why
        )

    async def _page_through(self, pages: PageClient, hole: Hole, target: HealTarget, tries: int) -> None:
        history = pages.history
        self.stats.passes += 1
        margin = 0
        if history.leaves_out_ids:
            margin = min(_MARGINS[min(tries, len(_MARGINS) - 1)], max(history.page_size // 2, 1))
        position: int | None = history.begin(hole, margin)
        while position is not None:
            page = await pages.fetch(hole, position)
            self.stats.trades += len(page.trades)
            wanted = _missing(page.trades, target)
            for start in range(0, len(wanted), _PART):
                target.heal(hole.symbol, wanted[start : start + _PART])
                await asyncio.sleep(0)
            if history.leaves_out_ids:
                self._leave_out(hole.symbol, page, target)
            position = history.follow(hole, position, page)

    def _leave_out(self, symbol: str, page: Page, target: HealTarget) -> None:
        # A page with both neighbours of missing ids proves that the exchange has no trades with those ids to give.
        found = [
            (max(hole.first, first), min(hole.last, last))
            for first, last in left_out(page)
            for hole in target.holes_within(symbol, first, last)
        ]
        if found:
            target.leave_out(symbol, found)
            self.stats.unpublished += sum(last - first + 1 for first, last in found)


def _missing(trades: Sequence[Trade], target: HealTarget) -> list[Trade]:
    # The trades of one symbol, ascending by id, that touch a hole.
    if not trades:
        return []
    ranges = [number_range(trade) for trade in trades]
    holes = target.holes_within(trades[0].symbol, ranges[0][0], max(last for _, last in ranges))
    firsts = [hole.first for hole in holes]  # they ascend by id and do not overlap
    found: list[Trade] = []
    for trade, (first, last) in zip(trades, ranges, strict=True):
        place = bisect_right(firsts, last) - 1  # the last hole that begins before the trade ends
        if place >= 0 and holes[place].last >= first:
            found.append(trade)
    return found
