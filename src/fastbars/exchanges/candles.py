"""Declarations of REST endpoints for an exchange's own candles, and paging through a span as pure functions.

No socket, no clock, no retry: `live/past/candles.py` has those. Units: times int64 nanoseconds since the Unix epoch,
UTC; weights as the exchange counts them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from functools import lru_cache
from typing import NamedTuple

from fastbars.bars import BarSpec, ExchangeBar
from fastbars.errors import ParseError, RestError, SpecError
from fastbars.exchanges.checked import LATEST_NS, shown
from fastbars.exchanges.history import MOST_PAGE_BYTES, Request
from fastbars.exchanges.rest_api import RestApi
from fastbars.ticks import to_datetime, to_nanoseconds

_DAY_NS = 86_400 * 10**9
MOST_PAGE_CANDLES = 6_000  # the largest page known has 5,000


class Grid:
    """The intervals of a time spec: where they begin, and how many there are.

    Args:
        spec: such as "1m", "1w" or "1mo", in UTC.

    Raises:
        SpecError: it is not cut by time, or in a time zone of its own.
    """

    def __init__(self, spec: str) -> None:
        kind, self._step, self._origin = BarSpec.parse(spec).rule
        if kind not in ("time", "months"):
            raise SpecError(f"bar spec {spec!r} has no intervals of a fixed length in UTC, as candles have")
        self._is_monthly = kind == "months"

    @property
    def longest_ns(self) -> int:
        """How long an interval is, at most."""
        return self._step * (31 * _DAY_NS if self._is_monthly else 1)

    def floor(self, time_ns: int) -> int:
        """Where the interval begins that a time lies in."""
        if self._is_monthly:
            return self._month_ns(self._month(time_ns) // self._step * self._step)
        return (time_ns - self._origin) // self._step * self._step + self._origin

    def ceil(self, time_ns: int) -> int:
        """The first beginning of an interval at a time or after it."""
        floor = self.floor(time_ns)
        return floor if floor == time_ns else self.shift(floor, 1)

    def shift(self, open_ns: int, count: int) -> int:
        """Where the interval begins that is so many after (or before) one that begins at `open_ns`; from 1970 on."""
        if self._is_monthly:
            return self._month_ns(max(self._month(open_ns) + count * self._step, 0))
        return max(open_ns + count * self._step, 0)

    def count(self, since_ns: int, until_ns: int) -> int:
        """How many intervals begin from one beginning to another, which is exclusive."""
        if self._is_monthly:
            return max(self._month(until_ns) - self._month(since_ns), 0) // self._step
        return max(until_ns - since_ns, 0) // self._step

    def _month(self, time_ns: int) -> int:
        # Months since January 1970.
        time = to_datetime(min(max(time_ns, 0), LATEST_NS))
        return (time.year - 1970) * 12 + time.month - 1

    def _month_ns(self, month: int) -> int:
        return to_nanoseconds(datetime(1970 + month // 12, month % 12 + 1, 1, tzinfo=to_datetime(0).tzinfo))


grid_of = lru_cache(maxsize=256)(Grid)


class CandlePaging(Enum):
    """How the pages of an endpoint follow each other. Each request names a span; an answer has at most a page of it."""

    FORWARD = "a page has the first candles of the span"
    BACKWARD = "a page has the last candles of the span"
    WINDOWS = "a span of more intervals than a page has is refused, or its answer cut anywhere"
    LATEST = "one page, of the latest candles, whatever the span"


class CandleAsk(NamedTuple):
    """One request for candles.

    Attributes:
        symbol: as the exchange writes it.
        spec: of the candles, such as "1m".
        interval: the exchange's own name of it.
        since_ns, until_ns: open times wanted, the second exclusive; both begin an interval.
        limit: most candles wanted.
        is_latest: no candle later than these has ended yet.
        is_recent: the endpoint of the latest candles has them all.
    """

    symbol: str
    spec: str
    interval: str
    since_ns: int
    until_ns: int
    limit: int
    is_latest: bool = False
    is_recent: bool = False

    @property
    def last_ns(self) -> int:
        """The last open time wanted."""
        return grid_of(self.spec).shift(self.until_ns, -1)

    @property
    def since_ms(self) -> str:
        """The first open time wanted, in ms, as text."""
        return str(self.since_ns // 10**6)

    @property
    def before_ms(self) -> str:
        """The last ms before the first open time not wanted, as text: the same, whether an end is inclusive or not."""
        return str((self.until_ns - 1) // 10**6)


@dataclass(frozen=True)
class CandleHistory:
    """An exchange's REST endpoint of its own candles.

    Attributes:
        api: where it is, and its rate limit.
        path: of the endpoint; `{symbol}` stands for the symbol.
        page_size: most candles a page.
        intervals: bar spec -> the exchange's name of the interval; only those with the same intervals as our bars.
        query: makes the query of a request.
        parse: (request, body) -> its candles, in ascending or descending order, the one in progress and those without
            trades included. Raises what `Exchange.parse` may raise for a body that it cannot read, and RestError for a
            refusal in an answer of status 200.
        weight: of one request, as the exchange counts: a number, or a function of the candles asked for.
        paging: how pages follow each other.
        reach_bars: how many candles back from now it serves; None: no limit is known.
        longest_s: the longest span of a request; None: no limit is known.
        body: makes the body of a POST; None: it is a GET.
        recent: (path, candles): the endpoint of the latest so many candles, where it is not `path`. It alone serves the
            one in progress.
        surplus: how many candles beyond either end of the span an answer may have; None: any number. They are dropped.
            More of them show that the answer is about another span.
        at_once: most requests at the same time.
        settles_s: how long after its end a candle may still lack its last trades, or be absent.
        lacks: for the documentation: what its candles do not tell, though bars have it.

    Raises:
        ValueError: values that contradict each other. SpecError: a spec of `intervals` has no fixed intervals.
    """

    api: RestApi
    path: str
    page_size: int
    intervals: Mapping[str, str]
    query: Callable[[CandleAsk], Mapping[str, str]] = field(repr=False)
    parse: Callable[[CandleAsk, bytes], Iterable[ExchangeBar]] = field(repr=False)
    weight: float | Callable[[int], float]
    paging: CandlePaging = CandlePaging.FORWARD
    reach_bars: int | None = None
    longest_s: float | None = None
    body: Callable[[CandleAsk], bytes] | None = field(default=None, repr=False)
    recent: tuple[str, int] | None = None
    surplus: int | None = 1
    at_once: int = 4
    settles_s: float = 2.0
    lacks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.page_size <= MOST_PAGE_CANDLES:
            raise ValueError(f"CandleHistory.page_size must be 1 to {MOST_PAGE_CANDLES}, got {self.page_size}")
        if not self.intervals:
            raise ValueError("CandleHistory.intervals is empty: it serves no candles")
        for spec in self.intervals:
            Grid(spec)
            if str(BarSpec.parse(spec)) != spec:
                raise ValueError(f"CandleHistory.intervals has {spec!r}, which bars write {str(BarSpec.parse(spec))!r}")

    def ask(self, symbol: str, spec: str, since_ns: int, until_ns: int, now_ns: int) -> CandleAsk:
        """The first request for a span, which must have intervals; for its end where pages go backward.

        Args:
            symbol, spec, since_ns, until_ns: as in CandleAsk.
            now_ns: the exchange's time.

        Raises:
            SpecError: a spec that is not served.
        """
        if spec not in self.intervals:
            raise SpecError(f"bar spec {spec!r} has no candles; those are {', '.join(self.intervals)}")
        grid = grid_of(spec)
        is_backward, is_recent = self.paging is CandlePaging.BACKWARD, False
        if self.recent is not None:
            # Either endpoint has its own part of the span; one candle fewer than there are, as the next may begin now.
            border_ns = grid.shift(grid.floor(now_ns), 2 - self.recent[1])
            if since_ns < border_ns < until_ns:
                since_ns, until_ns = (border_ns, until_ns) if is_backward else (since_ns, border_ns)
            is_recent = since_ns >= border_ns
        count = grid.count(since_ns, until_ns)
        most = count if self.longest_s is None else max(int(self.longest_s * 1e9) // grid.longest_ns, 1)
        if self.paging is CandlePaging.WINDOWS:
            most = min(most, self.page_size)
        if count > most:
            count = most
            if is_backward:
                since_ns = grid.shift(until_ns, -most)
            else:
                until_ns = grid.shift(since_ns, most)
        is_latest, limit = until_ns >= grid.floor(now_ns), min(count, self.page_size)
        return CandleAsk(symbol, spec, self.intervals[spec], since_ns, until_ns, limit, is_latest, is_recent)

    def request(self, ask: CandleAsk) -> Request:
        """The request as it is sent."""
        path = self.recent[0] if self.recent is not None and ask.is_recent else self.path
        weight = self.weight if isinstance(self.weight, int | float) else self.weight(ask.limit)
        body = None if self.body is None else self.body(ask)
        return Request(path.format(symbol=ask.symbol), self.query(ask), weight, body)

    def left(self, ask: CandleAsk, span: tuple[int, int], candles: list[ExchangeBar]) -> tuple[int, int]:
        """(since, until) of what is still to be asked for after an answer; empty where that was all.

        Every step makes progress, so that no answer, however odd, leads to endless requests.

        Args:
            ask: the request.
            span: the whole span that it was made for.
            candles: of the answer, ascending, within the span of the request.
        """
        since_ns, until_ns = span
        if self.paging is CandlePaging.LATEST:
            return until_ns, until_ns
        if self.paging is CandlePaging.BACKWARD:
            return since_ns, to_nanoseconds(candles[0].open_time) if candles else ask.since_ns
        if self.paging is CandlePaging.WINDOWS or not candles:
            return ask.until_ns, until_ns
        return to_nanoseconds(candles[-1].close_time), until_ns

    def reach_ns(self, spec: str, now_ns: int) -> int:
        """The first open time that it serves now; 0 without a limit."""
        grid = grid_of(spec)
        return 0 if self.reach_bars is None else grid.shift(grid.floor(now_ns), 1 - self.reach_bars)


def finest_of(intervals: Iterable[str], spec: str) -> str | None:
    """The longest of these specs whose intervals can be merged into those of `spec`, itself included; None: none can.

    Raises:
        SpecError: `spec` is malformed.
    """
    wanted = BarSpec.parse(spec)
    served = list(intervals)
    if str(wanted) in served:
        return str(wanted)
    kind, step, origin = wanted.rule
    found: tuple[int, str] | None = None
    for one in served:
        one_kind, one_step, one_origin = BarSpec.parse(one).rule
        if kind == "months":  # calendar months begin at midnight
            divides = step % one_step == 0 if one_kind == kind else one_origin == 0 and _DAY_NS % one_step == 0
        else:
            divides = kind == one_kind == "time" and step % one_step == 0 and (origin - one_origin) % one_step == 0
        length = one_step * (31 * _DAY_NS if one_kind == "months" else 1)
        if divides and (found is None or length > found[0]):
            found = length, one
    return None if found is None else found[1]


def read_candles(
    history: CandleHistory, ask: CandleAsk, body: bytes, *, negative_prices: bool = False
) -> Iterator[ExchangeBar]:
    """The candles of an answer that lie in the span, in the order of the answer, checked one by one.

    Args:
        negative_prices: prices may be zero or negative.

    Raises:
        ParseError: the answer cannot be read, whatever the parser raised; it is too long, about another symbol, spec or
            span, out of order, or has a candle twice; or a candle contradicts itself. RestError: it is a refusal.
    """
    if len(body) > MOST_PAGE_BYTES:
        raise ParseError(f"the answer has {len(body)} bytes, the limit is {MOST_PAGE_BYTES}")
    grid = grid_of(ask.spec)
    first_ns, last_ns = 0, LATEST_NS
    if history.surplus is not None:
        first_ns, last_ns = grid.shift(ask.since_ns, -history.surplus), grid.shift(ask.last_ns, history.surplus)
    before_ns, sign, inside = -1, 0, 0
    try:
        for count, candle in enumerate(history.parse(ask, body)):
            if count >= MOST_PAGE_CANDLES:
                raise ParseError(f"the answer has more than {MOST_PAGE_CANDLES} candles")
            open_ns = _open_of(ask, candle, grid)
            if not first_ns <= open_ns <= last_ns:
                raise ParseError(
                    f"the answer has a candle of {candle.open_time}, requested were {to_datetime(ask.since_ns)} to"
                    f" {to_datetime(ask.last_ns)}"
                )
            if count:
                direction = (open_ns > before_ns) - (open_ns < before_ns)
                if direction in (0, -sign):
                    what = "is there twice" if direction == 0 else "is out of order"
                    raise ParseError(f"the candle of {candle.open_time} {what}")
                sign = direction
            before_ns = open_ns
            if ask.since_ns <= open_ns < ask.until_ns:
                _check_values(candle, negative_prices)
                inside += 1
                yield candle
        # A page that begins at one end of the span and has only what lies beyond it hides what the span may have.
        if before_ns >= 0 and not inside and history.paging in (CandlePaging.FORWARD, CandlePaging.BACKWARD):
            raise ParseError(f"the answer has a candle of {to_datetime(before_ns)}, and none of the span requested")
    except (ParseError, RestError):
        raise
    except Exception as error:  # a malformed answer may make a parser raise anything
        raise ParseError(f"the answer cannot be read: {type(error).__name__}: {shown(error)}") from error


def _open_of(ask: CandleAsk, candle: ExchangeBar, grid: Grid) -> int:
    if candle.symbol != ask.symbol or candle.spec != ask.spec:
        raise ParseError(
            f"requested {ask.symbol} {ask.spec}, the answer is about {shown(candle.symbol)} {shown(candle.spec)}"
        )
    open_ns = to_nanoseconds(candle.open_time)
    if grid.floor(open_ns) != open_ns:
        raise ParseError(f"a candle begins at {candle.open_time}, where no interval of {ask.spec} does")
    close_ns = to_nanoseconds(candle.close_time)
    if close_ns != grid.shift(open_ns, 1):
        raise ParseError(f"the candle of {candle.open_time} ends at {candle.close_time}: that is not {ask.spec}")
    return open_ns


def _check_values(candle: ExchangeBar, negative_prices: bool) -> None:
    prices = candle.open, candle.high, candle.low, candle.close
    if candle.low > min(prices) or candle.high < max(prices) or (candle.low <= 0 and not negative_prices):
        raise ParseError(
            f"the candle of {candle.open_time} has open {candle.open}, high {candle.high}, low {candle.low},"
            f" close {candle.close}"
        )
    if candle.volume < 0 or (candle.quote_volume is not None and candle.quote_volume < 0 and not negative_prices):
        raise ParseError(
            f"the candle of {candle.open_time} has volume {candle.volume}, quote volume {candle.quote_volume}"
        )
    if candle.taker_buy_volume is not None and not 0 <= candle.taker_buy_volume <= candle.volume:
        raise ParseError(
            f"the candle of {candle.open_time} has volume {candle.volume}, of takers that bought"
            f" {candle.taker_buy_volume}"
        )
