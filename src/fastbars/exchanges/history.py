"""Declarations of REST endpoints for past trades, and paging through a hole as pure functions.

No socket, no clock, no retry: `live/healing/healer.py` has those. Units: times int64 nanoseconds since the Unix
epoch, UTC; weights as the exchange counts them.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from enum import Enum
from itertools import pairwise
from typing import Any, NamedTuple

from fastbars.errors import ParseError
from fastbars.exchanges.checked import LATEST_NS, integer_of, shown
from fastbars.exchanges.messages import Trade, decimal_of
from fastbars.exchanges.reader import TradeReader
from fastbars.exchanges.rest_api import RestApi

MOST_PAGE_BYTES = 2 * 2**20  # the largest page known, 1,000 trades, has 200 kB
MOST_PAGE_TRADES = 2_000  # the largest page requested has 1,000


class Hole(NamedTuple):
    """Trades of a symbol that are missing.

    Attributes:
        symbol: as the exchange writes it.
        first, last: their ids, both inclusive; message numbers on channels that number messages.
        since_ns, until_ns: times of the trades before and after them; not always in this order.
    """

    symbol: str
    first: int
    last: int
    since_ns: int
    until_ns: int


class Beginning(NamedTuple):
    """The point inside a bar at which a stream began.

    Attributes:
        symbol: as the exchange writes it.
        first: id of the first trade seen, and `first_ns` its time.
        open_ns: beginning of that bar; trades from there on are wanted.
    """

    symbol: str
    first: int
    first_ns: int
    open_ns: int


class Paging(Enum):
    """How the pages of an endpoint follow each other."""

    FORWARD_BY_ID = "by id, ascending: a page begins at the id requested"
    BACKWARD_BY_ID = "by id, descending: a page ends before the id requested"
    BACKWARD_BY_TIME = "by time, descending: a page ends at the time requested"
    FORWARD_BY_CURSOR = "by a cursor in ns, ascending: each page says where the next one begins"
    RECENT = "one page, of the latest trades"


class Page(NamedTuple):
    """Trades of one answer, ascending by id, and where the next page begins (with FORWARD_BY_CURSOR only)."""

    trades: list[Trade]
    cursor: int | None = None


class Request(NamedTuple):
    """One request: path, query, and weight in the exchange's rate limit. With a body it is a POST of JSON."""

    path: str
    query: Mapping[str, str]
    weight: float
    body: bytes | None = None


@dataclass(frozen=True)
class History:
    """An exchange's REST history of one trade channel.

    Attributes:
        api: where it is, and its rate limit.
        path: of the endpoint; `{symbol}` stands for the symbol.
        paging: how pages follow each other.
        page_size: most trades a page.
        query: (symbol, position, hole) -> the query; the position is an id or a time in ns, as `paging` says.
        parse: (symbol, body) -> Page. Raises what `Exchange.parse` may raise for a body that it cannot read.
        weight: of one request, as the exchange counts.
        key_header: the header that carries the user's API key; None: no key is needed.
        reach_s: how far back the exchange serves trades; None: no limit.
        omits: which trades it never serves, for the message about a hole that remains; empty: none.
        leaves_out_ids: some ids are never served; those missing between two neighbours in one answer are not requested
            again.
        latest: symbol -> the query for the latest trades; None: an endpoint by time needs none, another has none.
    """

    api: RestApi
    path: str
    paging: Paging
    page_size: int
    query: Callable[[str, int, Hole], Mapping[str, str]] = field(repr=False)
    parse: Callable[[str, bytes], Page] = field(repr=False)
    weight: float
    key_header: str | None = None
    reach_s: float | None = None
    omits: str = ""
    leaves_out_ids: bool = False
    latest: Callable[[str], Mapping[str, str]] | None = field(default=None, repr=False)

    def begin(self, hole: Hole, margin: int = 0) -> int:
        """The position of the first page; with FORWARD_BY_ID, `margin` ids before the hole."""
        if self.paging is Paging.FORWARD_BY_ID:
            return max(hole.first - margin, 0)
        if self.paging is Paging.BACKWARD_BY_ID:
            return hole.last + 1
        if self.paging is Paging.BACKWARD_BY_TIME:
            return max(hole.since_ns, hole.until_ns)
        if self.paging is Paging.FORWARD_BY_CURSOR:
            return min(hole.since_ns, hole.until_ns) - 1
        return 0

    def request(self, hole: Hole, position: int) -> Request:
        """The request for the page at a position."""
        return Request(self.path.format(symbol=hole.symbol), self.query(hole.symbol, position, hole), self.weight)

    def latest_request(self, symbol: str) -> Request | None:
        """The request for the latest trades; None: there is none."""
        return (
            None if self.latest is None else Request(self.path.format(symbol=symbol), self.latest(symbol), self.weight)
        )

    def follow(self, hole: Hole, position: int, page: Page) -> int | None:
        """The position of the next page; None: this was the last.

        Every step makes progress, so that no answer, however odd, leads to endless requests.
        """
        if not page.trades or self.paging is Paging.RECENT:
            return None
        first, last = _number(page.trades[0], first=True), _number(page.trades[-1], first=False)
        after: int | None
        if self.paging is Paging.FORWARD_BY_ID:
            # Ids are known to be left out only between two neighbours in one answer, so pages overlap by one trade; a
            # short page is then the last, as it would only bring that trade again.
            after = last if self.leaves_out_ids else last + 1
            if self.leaves_out_ids and len(page.trades) < self.page_size:
                return None
            return after if position < after <= hole.last else None
        if self.paging is Paging.BACKWARD_BY_ID:
            return first if hole.first < first < position else None  # the position is exclusive
        if self.paging is Paging.BACKWARD_BY_TIME:
            # The position is inclusive, so that trades of the same time are not skipped; a page that is not full is
            # the last one, and one of a single time cannot be passed.
            after = page.trades[0].time_ns
            return after if first > hole.first and after < position and len(page.trades) >= self.page_size else None
        after = page.cursor
        return after if last < hole.last and after is not None and after > position else None


def list_in(answer: Any, name: str) -> list[Any]:
    """An answer, or the part of it called `name`, which must be a list. Raises ParseError if it is not."""
    if not isinstance(answer, list):
        raise ParseError(f"{name} is {shown(answer)}, not a list")
    return answer


def read_past_trades(reader: TradeReader, symbol: str, answer: Any, known_as: Container[object] = ()) -> Page:
    """Read the trades of an answer by its `TradeFields`, as those of streams are read.

    Args:
        symbol: the one requested.
        known_as: other names that the answer may use for it.

    Raises:
        one of BROKEN: the answer is malformed, or about another instrument.
    """
    trades = reader.read(answer)
    if trades is None:
        raise ParseError(f"{symbol}: no trades in the answer {shown(answer)}")
    for trade in trades:
        if trade.symbol != symbol and trade.symbol not in known_as:
            raise ParseError(f"requested {symbol}, the answer is about {shown(trade.symbol)}")
        for number in (trade.first_id, trade.last_id, 0 if trade.sequence is None else trade.sequence):
            integer_of(number)
        for text in (trade.price, trade.size):
            if decimal_of(text).is_signed():  # "-0" would count as a void id, and close the hole
                raise ParseError(f"{symbol}: trade {trade.first_id} has a price or size with a sign, {text!r}")
    return Page([trade._replace(symbol=symbol) for trade in trades])


def read_page(history: History, symbol: str, body: bytes) -> Page:
    """The trades of an answer, ascending by id, in whatever order the exchange sent them.

    Raises:
        ParseError: it cannot be read, whatever the parser raised; it is too long, or of another symbol; an id or a time
            is out of range.
    """
    if len(body) > MOST_PAGE_BYTES:
        raise ParseError(f"{symbol}: the answer has {len(body)} bytes, the limit is {MOST_PAGE_BYTES}")
    try:
        page = history.parse(symbol, body)
        if len(page.trades) > MOST_PAGE_TRADES:
            raise ParseError(f"{symbol}: the answer has {len(page.trades)} trades, the limit is {MOST_PAGE_TRADES}")
        for trade in page.trades:
            if trade.symbol != symbol:
                raise ParseError(f"requested {symbol}, the answer is about {shown(trade.symbol)}")
            if not isinstance(trade.time_ns, int) or not 0 <= trade.time_ns <= LATEST_NS:
                raise ParseError(f"{symbol}: a trade of the REST API has the time {shown(trade.time_ns)}")
        return page._replace(trades=sorted(page.trades, key=number_range))
    except ParseError:
        raise
    except Exception as error:  # a malformed answer may make a parser raise anything
        raise ParseError(f"{symbol}: the answer cannot be read: {shown(error)}") from error


def left_out(page: Page) -> list[tuple[int, int]]:
    """(first, last) of each range of ids missing from an answer that has both neighbours."""
    ranges = [number_range(trade) for trade in page.trades]
    return [(last + 1, first - 1) for (_, last), (first, _) in pairwise(ranges) if last + 1 < first]


def number_range(trade: Trade) -> tuple[int, int]:
    """(first, last) of a trade's ids, or of the message numbers on channels that number messages."""
    return _number(trade, first=True), _number(trade, first=False)


def _number(trade: Trade, *, first: bool) -> int:
    number: Any = trade.sequence if trade.sequence is not None else trade.first_id if first else trade.last_id
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < 2**63:
        raise ParseError(f"{trade.symbol}: a trade of the REST API has the id {shown(number)}")
    return number
