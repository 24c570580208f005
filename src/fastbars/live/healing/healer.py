"""Healer: fetches the trades that are missing from the exchange's REST API and hands them to the session.

One worker a venue. It takes one hole at a time, the oldest first, pages through it within the exchange's weights,
and hands each page over in small parts, so that live data goes on meanwhile; what a page has for other holes of the
symbol is handed over with it. The session decides what becomes of a trade: what has arrived in the meantime is a
duplicate there, so the race between both ways has no loser. A hole that stays is reported with the reason.

    hole seen -> wait a little (it may fill by itself) -> page, page, ... -> filled | asked again later | given up

Units: seconds for timers, int64 nanoseconds for exchange time.
"""

from __future__ import annotations

import asyncio
import heapq
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from fastbars.clocks import steady_s, wall_ns
from fastbars.errors import ParseError, RestError
from fastbars.exchanges.history import Beginning, History, Hole, Page, left_out, number_range, read_page
from fastbars.exchanges.messages import Trade
from fastbars.live.connections.backoff import MOST_RETRY_AFTER_S
from fastbars.live.connections.limits import RateLimiter, rest_limit
from fastbars.live.healing.beginning import trade_before
from fastbars.live.rest import Answer, Get
from fastbars.log import log

_PART = 250  # trades handed over between two turns of the event loop
_DELAY_S = 0.5  # before a hole is asked for: trades out of order fill it by themselves
_AGAIN_S = (1.0, 4.0, 15.0)  # before a hole that did not shrink is asked for again; then it is given up
_ATTEMPTS = 6  # at one page
# Where ids are left out: so many before a hole its first page begins, so that it shows the neighbour; with each look,
# as that neighbour can be left out itself.
_MARGINS = (1, 50)
_BACKOFF_S = 0.5
_LONGEST_BACKOFF_S = 30.0
_HTTP_OK = 200
_SCANNED = 1_000  # holes looked at between two turns of the event loop
_BEGINNINGS = 32  # looked for before holes have their turn again


class Patient(Protocol):
    """Who has the holes: a session."""

    @property
    def symbols(self) -> Sequence[str]:
        """The symbols that may have holes."""

    def holes(self, symbol: str | None = None) -> Sequence[Hole]:
        """Every hole there is now (of one symbol)."""

    def holes_within(self, symbol: str, first: int, last: int) -> Sequence[Hole]:
        """Those of one symbol that reach into these numbers, ascending."""

    def heal(self, symbol: str, trades: Sequence[Trade]) -> object:
        """Take the trades of the REST API that fall into holes, and nothing else of them."""

    def leave_out(self, symbol: str, ranges: Sequence[tuple[int, int]]) -> object:
        """The REST API leaves these ids out for good: what is missing of them is so no longer."""

    def beginnings(self) -> Sequence[Beginning]:
        """The symbols whose first bars lack their beginning."""

    def reach_back(self, symbol: str, trade_id: int, time_ns: int) -> object:
        """The REST API has this trade before the symbol's first one: what lies between them is a hole."""


# When the first of its trades was made, symbol, first and last number, a number that no other has, hole, whose.
_Due = tuple[int, str, int, int, int, Hole, Patient]


@dataclass(slots=True)
class HealingStats:
    """What healing has done.

    Attributes:
        requests: GETs sent; `errors` of them came to nothing.
        trades: trades received.
        passes: times that a hole was paged through.
        given_up: holes that stay.
        unpublished: missing ids that the REST API leaves out for good, though it has both their neighbours.
        waited_s: seconds spent waiting for the exchange's limits.
    """

    requests: int = 0
    errors: int = 0
    trades: int = 0
    passes: int = 0
    given_up: int = 0
    unpublished: int = 0
    waited_s: float = 0.0


class Healer:
    """Heals the holes of one session, or of several that share a venue.

    Args:
        exchange: name for logs.
        history: what the exchange's REST API serves; None: nothing, and `why_none` says why.
        patients: whose holes these are.
        get: fetches a URL.
        api_key: sent where the history needs one.
        url: asks here instead of the history's own address.
        horizon_s: holes older than this, in exchange time, are given up.
        exchange_time_ns: the exchange's time now.
        limiter: of the exchange's weights, where others use them too.
        now, sleep: a steady clock in seconds, and waiting by it; a test has its own.
    """

    def __init__(
        self,
        exchange: str,
        history: History | None,
        patients: Sequence[Patient],
        get: Get,
        *,
        why_none: str = "the exchange serves no history of trades",
        api_key: str | None = None,
        url: str | None = None,
        horizon_s: float = 3600.0,
        exchange_time_ns: Callable[[], int] = wall_ns,
        limiter: RateLimiter | None = None,
        now: Callable[[], float] = steady_s,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self.stats = HealingStats()
        self.reasons: dict[Hole, str] = {}
        self._exchange = exchange
        self._history = history
        self._why_none = why_none
        self._patients = patients
        self._get = get
        self._headers: dict[str, str] = {}
        if history is not None and history.key_header is not None and api_key is not None:
            self._headers[history.key_header] = api_key
        self._url = url or (history.url if history is not None else "")
        self._horizon_s = horizon_s
        self._exchange_time_ns = exchange_time_ns
        self._now = now
        self._sleep = sleep
        self._limiter = limiter or RateLimiter(
            *rest_limit(history.weight_per_minute if history is not None else 1.0), now=now, sleep=sleep
        )
        self._tries: dict[Hole, tuple[int, float]] = {}
        self._begun: dict[Beginning, tuple[int, float]] = {}
        self._given_up: dict[str, int] = {}
        self._awake = asyncio.Event()

    def wake(self) -> None:
        """There may be new holes."""
        self._awake.set()

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
                begun, next_begun_at = self._begun_due(now)
                if not begun:
                    return min((at - now for at in (next_at, next_begun_at) if at is not None), default=None)
                for beginning, patient in begun[:_BEGINNINGS]:
                    await self._reach_back(beginning, patient)
                    await asyncio.sleep(0)
            asked = False
            while due:
                hole, patient = heapq.heappop(due)[-2:]
                # As it was? Else it is looked at in the next round. Without a request nothing has changed.
                if not asked or hole in patient.holes_within(hole.symbol, hole.first, hole.last):
                    asked = await self._heal(hole, patient) or asked
                    await asyncio.sleep(0)

    async def _scan(self, now: float) -> tuple[list[_Due], float | None]:
        # The holes that may be asked for now, a heap by age, and when the next of the others may be. There can be
        # thousands of them for each of thousands of symbols: the loop has its turn in between.
        due: list[_Due] = []
        next_at: float | None = None
        tries: dict[Hole, tuple[int, float]] = {}
        reasons: dict[Hole, str] = {}
        scanned = 0
        for patient in self._patients:
            for symbol in patient.symbols:
                for hole in patient.holes(symbol):
                    scanned += 1
                    if scanned % _SCANNED == 0:
                        await asyncio.sleep(0)
                    if hole in self.reasons:
                        reasons[hole] = self.reasons[hole]
                        continue
                    _, at = tries[hole] = self._tries.get(hole) or (0, now + _DELAY_S)
                    if at <= now:
                        heapq.heappush(due, (min(hole.since_ns, hole.until_ns), *hole[:3], len(due), hole, patient))
                    else:
                        next_at = at if next_at is None else min(next_at, at)
        self._tries, self.reasons = tries, reasons
        return due, next_at

    def _begun_due(self, now: float) -> tuple[list[tuple[Beginning, Patient]], float | None]:
        # The beginnings that are looked for now, and when the next of the others is; what cannot be found is not asked
        # for again.
        found: list[tuple[float, Beginning, int, Patient]] = []
        begun, self._begun = self._begun, {}
        if self._history is not None:
            for patient in self._patients:
                for beginning in patient.beginnings():
                    tries, at = self._begun[beginning] = begun.get(beginning, (0, now))
                    if tries <= len(_AGAIN_S):
                        found.append((at, beginning, len(found), patient))
        found.sort()
        later = [one[0] for one in found if one[0] > now]
        return [(one[1], one[-1]) for one in found if one[0] <= now], min(later, default=None)

    async def _reach_back(self, beginning: Beginning, patient: Patient) -> None:
        history, symbol = self._history, beginning.symbol
        assert history is not None
        tries = self._begun[beginning][0] + 1
        hole = Hole(symbol, beginning.first - 1, beginning.first - 1, beginning.open_ns, beginning.first_ns)
        why = self._why_not(hole)
        if why is None:
            try:
                trade = await trade_before(history, beginning, lambda asked, at: self._fetch(history, asked, at))
                if trade is not None:
                    del self._begun[beginning]
                    patient.reach_back(symbol, number_range(trade)[1], trade.time_ns)
                    return
                why = "the REST API has no trade before it, or too many since"
            except RestError as error:
                why = str(error)
                if not error.hopeless and tries <= len(_AGAIN_S):
                    self._begun[beginning] = tries, self._now() + _AGAIN_S[tries - 1]
                    return
        self._begun[beginning] = len(_AGAIN_S) + 1, self._now()
        log.info("beginning_not_found", exchange=self._exchange, symbol=symbol, first=beginning.first, why=why)

    async def _heal(self, hole: Hole, patient: Patient) -> bool:
        # Returns whether the exchange was asked.
        tries = self._tries.pop(hole, (0, 0.0))[0]
        why = self._why_not(hole)
        if why is not None:
            self._give_up(hole, why)
            return False
        try:
            await self._page_through(hole, patient, tries)
            why = f"the REST API leaves out {self._history.omits}" if self._history and self._history.omits else ""
            why = why or "the REST API did not return these trades"
            most_tries = len(_AGAIN_S)
        except RestError as error:
            why = str(error)
            most_tries = 0 if error.hopeless else 1
        for rest in patient.holes_within(hole.symbol, hole.first, hole.last):
            if rest.first < hole.first or rest.last > hole.last:
                continue
            # A rest that is smaller than the hole was: something came, and the rest may come too.
            tried = tries if (rest.first, rest.last) == (hole.first, hole.last) else 0
            if tried >= most_tries:
                self._give_up(rest, why)
            else:
                self._tries[rest] = (tried + 1, self._now() + _AGAIN_S[min(tried, len(_AGAIN_S) - 1)])
        return True

    def _why_not(self, hole: Hole) -> str | None:
        history = self._history
        if history is None:
            return self._why_none
        age_s = (self._exchange_time_ns() - max(hole.since_ns, hole.until_ns)) / 1e9
        if age_s > self._horizon_s:
            return f"it is {age_s:.0f} s old, more than heal_horizon, {self._horizon_s:g} s"
        if history.reach_s is not None and age_s > history.reach_s:
            return f"it is {age_s:.0f} s old, and the REST API reaches {history.reach_s:.0f} s back"
        if history.key_header is not None and not self._headers:
            return f"the REST API needs a key (StreamConfig.api_key, sent as {history.key_header})"
        return None

    def _give_up(self, hole: Hole, why: str) -> None:
        self.reasons[hole] = why
        self.stats.given_up += 1
        # The 1st, 2nd, 4th, 8th, ... of a symbol is logged; `reasons` has them all.
        seen = self._given_up[hole.symbol] = self._given_up.get(hole.symbol, 0) + 1
        if seen & (seen - 1) == 0:
            log.warning(
                "hole_not_healed", exchange=self._exchange, symbol=hole.symbol, first=hole.first, last=hole.last,
                seen=seen, why=why,
            )  # fmt: skip

    async def _page_through(self, hole: Hole, patient: Patient, tries: int) -> None:
        history = self._history
        assert history is not None
        self.stats.passes += 1
        margin = 0
        if history.leaves_out_ids:
            margin = min(_MARGINS[min(tries, len(_MARGINS) - 1)], max(history.page_size // 2, 1))
        position: int | None = history.begin(hole, margin)
        while position is not None:
            page = await self._fetch(history, hole, position)
            self.stats.trades += len(page.trades)
            wanted = _missing(page.trades, patient)
            for start in range(0, len(wanted), _PART):
                patient.heal(hole.symbol, wanted[start : start + _PART])
                await asyncio.sleep(0)
            if history.leaves_out_ids:
                self._leave_out(hole.symbol, page, patient)
            position = history.follow(hole, position, page)

    def _leave_out(self, symbol: str, page: Page, patient: Patient) -> None:
        # An answer with both neighbours of missing ids tells that the exchange has no trade of them to give.
        found = [
            (max(hole.first, first), min(hole.last, last))
            for first, last in left_out(page)
            for hole in patient.holes_within(symbol, first, last)
        ]
        if found:
            patient.leave_out(symbol, found)
            self.stats.unpublished += sum(last - first + 1 for first, last in found)

    async def _fetch(self, history: History, hole: Hole, position: int) -> Page:
        # One page. Raises RestError when there is no hope, or after as many attempts as are made.
        request = history.request(hole, position)
        url = self._url.rstrip("/") + request.path
        for attempt in range(_ATTEMPTS):
            self.stats.waited_s += await self._limiter.wait(request.weight)
            self.stats.requests += 1
            backoff_s = min(_BACKOFF_S * 2.0**attempt, _LONGEST_BACKOFF_S)
            try:
                answer = await self._get(url, request.query, self._headers)
                if answer.status == _HTTP_OK:
                    return read_page(history, hole.symbol, answer.body)
                why = f"HTTP {answer.status} {answer.body[:200]!r}"
                backoff_s = max(backoff_s, min(answer.retry_after_s or 0.0, MOST_RETRY_AFTER_S))
                if _hopeless(answer) or backoff_s > self._horizon_s:
                    raise RestError(f"GET {url}: {why}", hopeless=True)
            except RestError as error:
                if error.hopeless:
                    self.stats.errors += 1
                    raise
                why = str(error)
            except ParseError as error:
                why = f"the answer cannot be read: {error}"
            self.stats.errors += 1
            log.info("rest_failed", exchange=self._exchange, url=url, why=why, retry_in_s=backoff_s)
            if attempt + 1 < _ATTEMPTS:
                self.stats.waited_s += backoff_s
                await self._sleep(backoff_s)
        raise RestError(f"GET {url}: {why} ({_ATTEMPTS} attempts)")


def _hopeless(answer: Answer) -> bool:
    # Too many requests and faults of the server pass; what is wrong with the request, or its address, stays wrong.
    return 300 <= answer.status < 500 and answer.status not in (408, 418, 425, 429)


def _missing(trades: Sequence[Trade], patient: Patient) -> list[Trade]:
    # The trades of one symbol, ascending by id, that touch a hole.
    if not trades:
        return []
    ranges = [number_range(trade) for trade in trades]
    holes = patient.holes_within(trades[0].symbol, ranges[0][0], max(last for _, last in ranges))
    firsts = [hole.first for hole in holes]  # they ascend by id and do not overlap
    found: list[Trade] = []
    for trade, (first, last) in zip(trades, ranges, strict=True):
        place = bisect_right(firsts, last) - 1  # the last hole that begins before the trade ends
        if place >= 0 and holes[place].last >= first:
            found.append(trade)
    return found
