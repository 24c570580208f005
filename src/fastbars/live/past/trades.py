"""PastTrades: all trades of one symbol from a time on, from the REST history of its exchange, folded into bars.

Pages are always taken forwards, whatever the paging of the endpoint, and folded by kernels of their own, so that little
is in memory however long the span is. The ids prove about those bars what they prove about those of a stream: a page
that lacks trades makes holes, which are asked for once more, and stay visible where the exchange does not have them.

    find the last trade before the span --> page, page, ... --> caught up --> page --> ...
                                                |
                                                +-> bars that no trade can change any more

Time specs are folded from the last trade before the span on, so that their first bar is proven too; path-driven ones
begin with the first trade of the span. Units: times int64 nanoseconds since the Unix epoch, UTC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Protocol

from fastbars.bars import OHLCVBar, PathNumber, begins, path_number
from fastbars.buffer import BarBuffer, Empty
from fastbars.errors import InvalidTickError, PrecisionError, RestError
from fastbars.exchanges.checked import LATEST_NS
from fastbars.exchanges.declaration import Exchange
from fastbars.exchanges.history import Beginning, History, Hole, Page, Paging, left_out, number_range
from fastbars.exchanges.messages import Trade
from fastbars.live.healing.beginning import MOST_TRADES, trade_before
from fastbars.log import SparseLog
from fastbars.specs import BarSpec
from fastbars.ticks import to_datetime, to_nanoseconds

_LAST_ID = 2**62
_SETTLED_NS = 5_000_000_000  # trades of one page after another can be out of order in time by so much
_FIRST_WINDOW_NS = 60_000_000_000
_LONGEST_WINDOW_NS = 86_400_000_000_000
_FULL, _SPARSE = 2, 0.5  # pages a window, beyond and below which the next one is shorter and longer
_REACH_NS = 30 * 86_400_000_000_000  # how far before the span the last trade is looked for
_MOST_FIRST_PAGES = 500  # gone through backward to find a symbol's first trade
_MOST_PAGES = 10_000  # of one window or hole

_Key = tuple[str, datetime, PathNumber]


class Fetch(Protocol):
    """Fetches pages of one history. Raises RestError."""

    async def fetch(self, hole: Hole, position: int) -> Page:
        """One page, at a position that the paging understands; ascending by id."""

    async def latest(self, symbol: str) -> Page:
        """The latest trades."""


def why_not_trades(history: History | None, *, has_key: bool) -> str | None:
    """The reason why a history cannot be made of past trades; None: it can."""
    if history is None:
        return "the exchange serves no past trades"
    if history.key_header is not None and not has_key:
        return f"past trades need an API key (StreamConfig.api_key, sent as {history.key_header})"
    if history.paging is Paging.RECENT:
        return "without an API key (StreamConfig.api_key) the exchange serves the latest trades alone"
    return None


class PastTrades:
    """Folds the past trades of one symbol into bars, page by page.

    Args:
        exchange, channel: whose trades they are, and of which channel.
        symbol: as the exchange writes it.
        since_ns: spec -> where its first bar begins: the beginning of an interval. Bars before it are not given.
        history, fetch: the endpoint, and what fetches its pages.
        empty: as in StreamConfig.

    Attributes:
        newest: the latest trade taken; None before the first.
        trades: how many were taken.
        is_caught_up: the last page had nothing that was not known.
        latest: the trades of the bars in progress, and the one before them; empty where they are more than may be kept.
    """

    def __init__(
        self,
        exchange: Exchange,
        channel: str,
        symbol: str,
        since_ns: Mapping[BarSpec, int],
        history: History,
        fetch: Fetch,
        *,
        empty: Empty = "skip",
    ) -> None:
        self.newest: Trade | None = None
        self.trades = 0
        self.is_caught_up = False
        self.latest: list[Trade] = []
        self._symbol = symbol
        self._made = _MadeBars({str(spec): time_ns for spec, time_ns in since_ns.items()})
        self._history = history
        self._fetch = fetch
        self._warnings = SparseLog(exchange=exchange.name)
        self._position: int | None = None  # with FORWARD_BY_CURSOR
        self._window_ns = _FIRST_WINDOW_NS
        self._first_id = 0  # of the symbol
        self._has_begun = False
        self._asked = -1  # the last id of the holes that were asked for again
        own, market = exchange.identity
        self._timed: BarBuffer | None = None
        self._paths: BarBuffer | None = None
        for kind in (True, False):
            specs = [spec for spec in since_ns if spec.is_timed is kind]
            if not specs:
                continue
            made = BarBuffer(
                specs, ids=exchange.ids(channel), exchange=own, market=market, empty=empty,
                negative_prices=exchange.negative_prices, grace_s=0.0,
            )  # fmt: skip
            made.instruments.add(symbol, contract_size=exchange.contract_size(symbol))
            if kind:
                self._timed = made
            else:
                self._paths = made

    @property
    def _buffers(self) -> list[BarBuffer]:
        return [buffer for buffer in (self._timed, self._paths) if buffer is not None]

    @property
    def begins_ns(self) -> int:
        """Where the span begins."""
        return min(self._made.since_ns.values())

    @property
    def newest_id(self) -> int:
        """The id of the latest trade taken; -1 before the first."""
        return -1 if self.newest is None else number_range(self.newest)[1]

    async def _begin(self) -> None:
        # Find where the span begins; a symbol that has not traded yet has no beginning, and is asked for it again.
        history, begins_ns = self._history, self.begins_ns
        if history.paging in (Paging.BACKWARD_BY_TIME, Paging.FORWARD_BY_CURSOR):
            known = Beginning(self._symbol, _LAST_ID, LATEST_NS, begins_ns)
            self._position = begins_ns - 1
        else:
            latest = (await self._fetch.latest(self._symbol)).trades
            if not latest:
                return
            newest = latest[-1]
            if newest.time_ns < begins_ns:  # nothing was traded since
                self._take_first(newest)
                self._has_begun = True
                return
            known = Beginning(self._symbol, number_range(newest)[0], newest.time_ns, begins_ns)
        found = await trade_before(history, known, self._fetch.fetch, _LAST_ID, _REACH_NS)
        if found is not None:
            self._take_first(found)
        elif self._position is None:
            await self._find_first(known)
        self._has_begun = True

    async def _find_first(self, known: Beginning) -> None:
        # There is no trade before the span, as the symbol was listed in it.
        if self._history.paging is Paging.FORWARD_BY_ID:
            page = await self._fetch.fetch(Hole(self._symbol, 0, known.first, 0, known.first_ns), 0)
            if page.trades and page.trades[0].time_ns >= self.begins_ns:
                return
        else:
            position = known.first
            for _ in range(_MOST_FIRST_PAGES):
                page = await self._fetch.fetch(Hole(self._symbol, 0, position - 1, 0, known.first_ns), position)
                if not page.trades:
                    self._first_id = position
                    return
                position = number_range(page.trades[0])[0]
        raise RestError(
            f"{self._symbol}: the REST API does not tell which trade was the last one before"
            f" {to_datetime(self.begins_ns)}",
            permanent=True,
        )

    def _take_first(self, trade: Trade) -> None:
        # The last trade before the span: of time specs, so that the first bar is proven.
        self.newest = trade
        if self._timed is not None:
            self._keep([trade])
            self._fold(self._timed, [trade])
        if self._history.paging is Paging.FORWARD_BY_CURSOR:
            self._position = max(trade.time_ns - 1, 0)

    async def advance(self, *, before_id: int | None = None) -> list[OHLCVBar]:
        """Take the next page, and return the bars that nothing can change any more, in order of time for each spec.

        Args:
            before_id: trades of this id and later ones are not taken.

        Raises:
            RestError: the exchange does not answer, or does not reach as far back as the span; what was taken stays.
        """
        if not self._has_begun:
            await self._begin()
            if not self._has_begun:
                self.is_caught_up = True
                return []
        page, window = await self._next_page()
        known = self.newest_id
        fresh = [trade for trade in page.trades if number_range(trade)[1] > known]
        if before_id is not None:
            fresh = [trade for trade in fresh if (trade.last_id or 0) < before_id]
        self.is_caught_up = not fresh and window
        self._take(fresh)
        if self._history.leaves_out_ids:
            for buffer in self._buffers:
                self._note(buffer.leave_out(self._symbol, left_out(page)))
        elif self._timed is not None:
            await self._ask_again(self._timed)
        return self.settled()

    async def _next_page(self) -> tuple[Page, bool]:
        # The next trades, ascending by id, some of them known perhaps; and whether there are no more if it has none.
        paging, size, after = self._history.paging, self._history.page_size, max(self.newest_id + 1, self._first_id)
        newest_ns = self.begins_ns if self.newest is None else self.newest.time_ns
        if paging is Paging.FORWARD_BY_ID:
            at = max(after - 1, 0) if self._history.leaves_out_ids else after
            return await self._fetch.fetch(Hole(self._symbol, at, _LAST_ID, newest_ns, LATEST_NS), at), True
        if paging is Paging.BACKWARD_BY_ID:
            hole = Hole(self._symbol, after, after + size - 1, newest_ns, LATEST_NS)
            return await self._page_through(hole, after + size), True
        if paging is Paging.FORWARD_BY_CURSOR:
            position = self.begins_ns - 1 if self._position is None else self._position
            page = await self._fetch.fetch(Hole(self._symbol, after, _LAST_ID, newest_ns, LATEST_NS), position)
            if page.cursor is not None and page.trades:
                self._position = max(page.cursor, position)
            return page, True
        return await self._next_window(after, newest_ns)

    async def _next_window(self, after: int, newest_ns: int) -> tuple[Page, bool]:
        # Pages go backward through a window of time, which is as long as a page or two have trades.
        since_ns = max(newest_ns, self._position or 0)
        until_ns = min(since_ns + self._window_ns, LATEST_NS)
        page = await self._page_through(Hole(self._symbol, after, _LAST_ID, since_ns, until_ns), until_ns)
        pages = len(page.trades) / self._history.page_size
        if pages > _FULL:
            self._window_ns = max(self._window_ns // 4, 1_000_000_000)
        elif pages < _SPARSE:
            self._window_ns = min(self._window_ns * 4, _LONGEST_WINDOW_NS)
        ends = not any(number_range(trade)[0] >= after for trade in page.trades)
        if ends and until_ns < LATEST_NS:
            latest = await self._fetch.fetch(Hole(self._symbol, after, _LAST_ID, since_ns, LATEST_NS), LATEST_NS)
            times = [trade.time_ns for trade in latest.trades if number_range(trade)[0] >= after]
            ends = not times
            if times and min(times) >= until_ns:  # else they came after the window was asked for
                self._position = until_ns
        return page, ends

    async def _page_through(self, hole: Hole, begin: int | None = None) -> Page:
        # All pages of a hole as one.
        trades: dict[int, Trade] = {}
        position: int | None = self._history.begin(hole) if begin is None else begin
        for _ in range(_MOST_PAGES):
            if position is None:
                break
            page = await self._fetch.fetch(hole, position)
            trades |= {number_range(trade)[0]: trade for trade in page.trades}
            position = self._history.follow(hole, position, page)
        return Page([trades[number] for number in sorted(trades)])

    async def _ask_again(self, buffer: BarBuffer) -> None:
        # What one answer lacked, the next may have; once.
        for first, last, since_ns, until_ns in buffer.holes(self._symbol, self._asked + 1):
            self._asked = last
            page = await self._page_through(Hole(self._symbol, first, last, since_ns, until_ns))
            for each in self._buffers:
                batch = each.new_batch()
                for trade in page.trades:
                    batch.append(*trade.row)
                self._note(each.heal(batch))

    def _take(self, trades: Sequence[Trade]) -> None:
        if not trades:
            return
        self.newest = trades[-1]
        self.trades += len(trades)
        self._keep(trades)
        begins_ns = self.begins_ns
        if self._timed is not None:
            self._fold(self._timed, trades)
        if self._paths is not None:
            self._fold(self._paths, [trade for trade in trades if trade.time_ns >= begins_ns])

    def _keep(self, trades: Sequence[Trade]) -> None:
        # Before they are folded: of the bars in progress by then, so of a page more than needed.
        self.latest += trades
        opens = [] if self._timed is None else [
            to_nanoseconds(bar.open_time)
            for spec in self._timed.spec_names
            if (bar := self._timed.current(self._symbol, spec)) is not None
        ]  # fmt: skip
        first = next((at for at, one in enumerate(self.latest) if opens and one.time_ns >= min(opens)), 0)
        del self.latest[: max(first - 1, 0)]
        if len(self.latest) > MOST_TRADES:
            self.latest.clear()

    def _fold(self, buffer: BarBuffer, trades: Sequence[Trade]) -> None:
        batch = buffer.new_batch()
        for trade in trades:
            try:
                try:
                    batch.append(*trade.row)
                except PrecisionError:  # its scale does not fit the trades before it; alone it may
                    self._note(buffer.add_live(batch))
                    batch.clear()
                    batch.append(*trade.row)
            except (PrecisionError, InvalidTickError, TypeError, OverflowError) as error:
                self._warnings.warn("past_trade_refused", symbol=self._symbol, error=str(error))
                self._note(buffer.note_lost(self._symbol, trade.time_ns))
        self._note(buffer.add_live(batch))

    def _note(self, bars: Sequence[OHLCVBar]) -> None:
        for bar in bars:
            self._made.note(bar, None if self._is_timed(bar.spec) else path_number(bar))

    def _is_timed(self, spec: str) -> bool:
        return self._timed is not None and spec in self._timed.spec_names

    def settled(self, *, all_of_them: bool = False) -> list[OHLCVBar]:
        """The bars that nothing can change any more, and that were not returned before.

        Args:
            all_of_them: those that could still change too; one that does is returned again, with the next revision.
        """
        until_ns = -1 if self.newest is None else self.newest.time_ns - _SETTLED_NS
        return self._made.settled(until_ns, all_of_them=all_of_them)

    def reached_ns(self, spec: BarSpec | str) -> int:
        """Up to where all bars of a spec were returned: the beginning of the first one that was not."""
        buffer = self._timed if self._is_timed(str(spec)) else self._paths
        current = None if buffer is None else buffer.current(self._symbol, str(spec))
        return self._made.reached_ns(str(spec), None if current is None else to_nanoseconds(current.open_time))

    @property
    def next_close_ns(self) -> int:
        """When the next bar of time with trades is over."""
        if self._timed is None:
            return LATEST_NS
        bars = [self._timed.current(self._symbol, spec) for spec in self._timed.spec_names]
        return min(
            (to_nanoseconds(bar.close_time) for bar in bars if bar is not None and bar.trade_count), default=LATEST_NS
        )

    def close_until(self, time_ns: int) -> list[OHLCVBar]:
        """Close the bars of time that were over by then: PROVISIONAL, until a trade behind them proves them."""
        if self._timed is not None:
            for spec in self._timed.spec_names:
                self.reached_ns(spec)
            self._note(self._timed.advance_watermark(time_ns))
        return self.settled(all_of_them=True)

    def end(self) -> list[OHLCVBar]:
        """The path-driven bar in progress, closed: its trades end here (PARTIAL, `end`)."""
        if self._paths is not None:
            self._note(self._paths.flush_symbol(self._symbol))
        return self.settled(all_of_them=True)


class _MadeBars:
    # Bars on their way out: those that can still change wait, and how often each of them was returned is known.

    def __init__(self, since_ns: dict[str, int]) -> None:
        self.since_ns = since_ns
        self._waiting: dict[_Key, OHLCVBar] = {}
        self._returned: dict[_Key, int] = {}
        self._reached_ns = dict(since_ns)

    def note(self, bar: OHLCVBar, number: PathNumber) -> None:
        if to_nanoseconds(bar.open_time) >= self.since_ns[bar.spec]:
            self._waiting[bar.spec, begins(bar), number] = bar

    def settled(self, until_ns: int, *, all_of_them: bool) -> list[OHLCVBar]:
        ready = [
            (key, bar)
            for key, bar in self._waiting.items()
            if all_of_them or to_nanoseconds(bar.close_time) <= until_ns
        ]
        ready.sort(key=lambda each: each[1].open_time)  # those of one time stay in the order in which they came
        bars: list[OHLCVBar] = []
        for key, bar in ready:
            del self._waiting[key]
            bars.append(replace(bar, revision=self._returned.get(key, 0)))
            if to_nanoseconds(bar.close_time) > until_ns:
                self._returned[key] = self._returned.get(key, 0) + 1
            else:
                self._returned.pop(key, None)
        return bars

    def reached_ns(self, spec: str, current_ns: int | None) -> int:
        waiting = [to_nanoseconds(open_time) for own, open_time, _ in self._waiting if own == spec]
        if current_ns is not None:
            waiting.append(current_ns)
        if waiting:
            self._reached_ns[spec] = max(self._reached_ns[spec], min(waiting))
        return self._reached_ns[spec]
