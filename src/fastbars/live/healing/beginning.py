"""The last trade before a time, found over REST: where a bar that a stream began inside, or a history, truly begins.

That trade's id proves which trades come between; they are a hole then, and healed as any other. Where ids say where to
look, the search leaps back, as far as the rate of the trades seen so far suggests, then closes in; where times do, it
asks at the time.

Units: times int64 nanoseconds since the Unix epoch, UTC.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastbars.exchanges.history import Beginning, History, Hole, Page, Paging, number_range
from fastbars.exchanges.messages import Trade

MOST_TRADES = 20_000  # a beginning that lacks more is not fetched
_MOST_REQUESTS = 24
_FIRST_REACH_NS = 60_000_000_000  # how far before the bar's beginning times are asked for, at first
LONGEST_REACH_NS = 3_600_000_000_000

Fetch = Callable[[Hole, int], Awaitable[Page]]


async def trade_before(
    history: History,
    beginning: Beginning,
    fetch: Fetch,
    most_trades: int = MOST_TRADES,
    longest_reach_ns: int = LONGEST_REACH_NS,
) -> Trade | None:
    """Find the last trade before `beginning.open_ns`; None: the exchange has none, or too many trades follow it.

    Every trade after it up to `beginning.first` is in the bar, or in a later one.

    Args:
        fetch: one page of the history, at a position that the hole's paging understands; ascending by id.
        most_trades: more may not follow it.
        longest_reach_ns: where times say where to look: how far before the beginning they are looked at, about.
    """
    if history.paging in (Paging.BACKWARD_BY_TIME, Paging.FORWARD_BY_CURSOR):
        found = await _by_time(history, beginning, fetch, longest_reach_ns)
    else:
        found = await _by_id(history, beginning, fetch, most_trades)
    return found if found is not None and beginning.first - number_range(found)[1] <= most_trades else None


async def begins_with_first(history: History, beginning: Beginning, fetch: Fetch, first_id: int) -> bool:
    """Whether the first trade of a symbol, the one with this id, is in the bar: then nothing was traded before it.

    Asked only where ids say where to look, and few trades follow.
    """
    if history.paging is not Paging.FORWARD_BY_ID or not 0 < beginning.first - first_id <= MOST_TRADES:
        return False
    page = await fetch(Hole(beginning.symbol, first_id, first_id, beginning.open_ns, beginning.first_ns), first_id)
    return any(number_range(one)[0] == first_id and one.time_ns >= beginning.open_ns for one in page.trades)


async def _by_id(history: History, beginning: Beginning, fetch: Fetch, most_trades: int) -> Trade | None:
    size, newer, older, leap = history.page_size, beginning.first, None, history.page_size
    newer_ns = beginning.first_ns
    for turn in range(_MOST_REQUESTS):
        if older is None:
            at = max(newer - leap, 0)
        else:
            below = number_range(older)[1]
            at = max(below + 1, newer - size)
            if newer - below > size:
                at = (below + newer) // 2
                if turn % 3 and older.time_ns < beginning.open_ns < newer_ns:  # else in half, whatever the rates
                    share = (beginning.open_ns - older.time_ns) / (newer_ns - older.time_ns)
                    at = below + 1 + min(max(round((newer - below) * share) - size // 2, 0), newer - below - 2)
        position = min(at + size, newer) if history.paging is Paging.BACKWARD_BY_ID else at
        hole = Hole(beginning.symbol, at, newer - 1, beginning.open_ns, beginning.first_ns)
        page = await fetch(hole, position)
        trades = [trade for trade in page.trades if number_range(trade)[1] < newer]
        border = _border(trades, beginning.open_ns)
        if 0 < border < len(trades):
            return trades[border - 1]
        if trades and border == 0:
            before_ns, newer, newer_ns = newer_ns, number_range(trades[0])[0], trades[0].time_ns
            passed_ns = before_ns - newer_ns
            if passed_ns > 0:  # as many ids again for as much time
                leap = max(leap, min(leap * 64, round(leap * 1.1 * (newer_ns - beginning.open_ns) / passed_ns / 2)))
        elif trades:
            older = trades[-1]
        elif older is None:
            return None
        else:
            newer = at
        if older is not None and number_range(older)[1] + 1 >= newer:
            return older
        if older is None and (history.paging is Paging.RECENT or at == 0 or beginning.first - newer > most_trades):
            return None
        leap *= 2
    return older


async def _by_time(history: History, beginning: Beginning, fetch: Fetch, longest_reach_ns: int) -> Trade | None:
    reach_ns, older, position = _FIRST_REACH_NS, None, None
    for _ in range(_MOST_REQUESTS):
        hole = Hole(beginning.symbol, 0, beginning.first - 1, beginning.open_ns - reach_ns, beginning.open_ns)
        page = await fetch(hole, history.begin(hole) if position is None else position)
        trades = [trade for trade in page.trades if number_range(trade)[1] < beginning.first]
        border = _border(trades, beginning.open_ns)
        if 0 < border < len(trades):
            return trades[border - 1]
        position = None
        if trades and border:
            older, position = trades[-1], page.cursor
            if position is None:
                return older
        elif older is not None or reach_ns > longest_reach_ns:
            return older
        else:
            reach_ns *= 8
    return older


def _border(trades: list[Trade], open_ns: int) -> int:
    # How many of them, ascending by id, come before the first one that is not older.
    return next((place for place, trade in enumerate(trades) if trade.time_ns >= open_ns), len(trades))
