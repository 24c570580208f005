"""The REST API of a simulated exchange, with faults: past trades, page by page, and the list of instruments.

Requests and answers are written by the dialect; this module has what all exchanges share: requests are recorded, faults
spoil answers, wrong parameters are refused. No socket: `answer(target)` takes a request's path and query and returns
what to send.

Units: times in ms since the Unix epoch.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, NamedTuple
from urllib.parse import parse_qs, urlsplit

from fastbars.simulator.market import AggregateTrade, SimulatedTrade

__all__ = [
    "PastTrades", "RestAnswer", "RestFault", "RestRefusedError", "RestRequest", "RestSimulator", "SimulatedHistory",
    "SimulatedListing", "State",
]  # fmt: skip

State = Literal["trading", "halted", "delisted", "not yet"]
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class RestRequest(NamedTuple):
    """A GET with its headers, or a POST with its body."""

    path: str
    query: Mapping[str, str]
    body: str = ""
    headers: Mapping[str, str] = _NO_HEADERS


class RestRefusedError(Exception):
    """A request is refused as the exchange would: HTTP status, a value for the JSON of the answer, and Retry-After."""

    def __init__(self, status: int, answer: object, retry_after_s: float | None = None) -> None:
        super().__init__(status, answer, retry_after_s)
        self.status = status
        self.answer = answer
        self.retry_after_s = retry_after_s


class RestAnswer(NamedTuple):
    """Status, Retry-After, body, and the delay before it is sent."""

    status: int
    retry_after_s: float | None
    body: bytes
    delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class RestFault:
    """A fault of one answer.

    Attributes:
        status: HTTP status instead of 200, with `retry_after_s`; 200: the fault is in the answer, as below.
        empty: the answer has no content.
        overlap: its trades begin so many earlier (on pages that go backward, later) than requested.
        delay_s: before it is sent.
        body: sent instead of it.
    """

    status: int = 200
    retry_after_s: float | None = None
    empty: bool = False
    overlap: int = 0
    delay_s: float = 0.0
    body: bytes | None = None


class RestSimulator(ABC):
    """Answers requests of one kind.

    Attributes:
        faults: applied to the next answers, one each.
        requests: paths requested, in order; a POST is followed by a space and its body.
    """

    def __init__(self) -> None:
        self.faults: deque[RestFault] = deque()
        self.requests: list[str] = []

    def answer(self, target: str, body: str = "", headers: Mapping[str, str] = _NO_HEADERS) -> RestAnswer | None:
        """The answer to a GET of `target`, or a POST of `body` to it; None: not a request of this kind."""
        parts = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        # A fault is used up only by a request of this kind.
        fault = self.faults[0] if self.faults else RestFault()
        status, answer, retry_after_s = 200, None, None
        try:
            answer = self.find(RestRequest(parts.path, query, body, headers), fault)
        except RestRefusedError as refused:
            status, answer, retry_after_s = refused.status, refused.answer, refused.retry_after_s
        except (KeyError, ValueError) as error:
            status, answer = 400, {"code": -1100, "msg": repr(error)}
        if answer is None:
            return None
        self.requests.append(f"{target} {body}".rstrip())
        if self.faults:
            self.faults.popleft()
        if fault.status != 200:
            return RestAnswer(fault.status, fault.retry_after_s, b'{"code":-1,"msg":"fault"}', fault.delay_s)
        if fault.body is not None:
            return RestAnswer(200, None, fault.body, fault.delay_s)
        return RestAnswer(status, retry_after_s, json.dumps(answer, separators=(",", ":")).encode(), fault.delay_s)

    @abstractmethod
    def find(self, request: RestRequest, fault: RestFault) -> object | None:
        """The answer as a value for JSON; None: not a request of this kind. Raises KeyError, ValueError: refused."""


class PastTrades:
    """The trades so far as one request sees them: pages by place in a symbol's list, oldest first.

    Args:
        trades_of: symbol -> all its trades so far, by id.
        aggregates_of: the same for aggregate trades.
        omitted: symbol -> ids that are left out, which makes pages shorter.
        fault: of this answer.
        until_ms: trades of this time and later are not served yet; None: all are.
    """

    def __init__(
        self,
        trades_of: Callable[[str], Sequence[SimulatedTrade]],
        aggregates_of: Callable[[str], Sequence[AggregateTrade]],
        omitted: Mapping[str, Collection[int]],
        fault: RestFault,
        until_ms: int | None = None,
    ) -> None:
        self._until_ms = until_ms
        self._all_trades_of = trades_of
        self._all_aggregates_of = aggregates_of
        self._omitted = omitted
        self._fault = fault

    def _trades_of(self, symbol: str) -> Sequence[SimulatedTrade]:
        trades = self._all_trades_of(symbol)
        if self._until_ms is None:
            return trades
        return trades[: bisect_left(trades, self._until_ms, key=lambda trade: trade.time_ms)]

    def _aggregates_of(self, symbol: str) -> Sequence[AggregateTrade]:
        trades = self._all_aggregates_of(symbol)
        if self._until_ms is None:
            return trades
        return trades[: bisect_left(trades, self._until_ms, key=lambda trade: trade.time_ms)]

    def count(self, symbol: str) -> int:
        """Number of trades."""
        return len(self._trades_of(symbol))

    def from_id(self, symbol: str, trade_id: int) -> int:
        """Place of the first trade with this id or a higher one."""
        return bisect_left(self._trades_of(symbol), trade_id, key=lambda trade: trade.trade_id)

    def from_ms(self, symbol: str, time_ms: int) -> int:
        """Place of the first trade at this time or later."""
        return bisect_left(self._trades_of(symbol), time_ms, key=lambda trade: trade.time_ms)

    def after_ms(self, symbol: str, time_ms: int) -> int:
        """Place of the first trade later than this."""
        return bisect_right(self._trades_of(symbol), time_ms, key=lambda trade: trade.time_ms)

    def forward(self, symbol: str, start: int, limit: int, *, whole_times: bool = False) -> list[SimulatedTrade]:
        """A page that begins at a place; longer than `limit` if trades of one time must stay together."""
        trades, start = self._trades_of(symbol), start - self._fault.overlap
        stop = start + limit
        while whole_times and 0 < stop < len(trades) and trades[stop].time_ms == trades[stop - 1].time_ms:
            stop += 1
        return self._page(symbol, start, stop)

    def backward(self, symbol: str, stop: int, limit: int, start: int = 0) -> list[SimulatedTrade]:
        """A page that ends before a place, and does not begin before `start`."""
        stop = min(stop + self._fault.overlap, self.count(symbol))
        return self._page(symbol, max(start, stop - limit), stop)

    def aggregates(self, symbol: str, aggregate_id: int | None, limit: int) -> Sequence[AggregateTrade]:
        """A page of aggregate trades that begins with this id, or of the latest ones; none is left out."""
        found = self._aggregates_of(symbol)
        if aggregate_id is None:
            return [] if self._fault.empty else found[-limit:]
        start = bisect_left(found, aggregate_id, key=lambda trade: trade.aggregate_id) - self._fault.overlap
        return [] if self._fault.empty else found[max(start, 0) : max(start + limit, 0)]

    def _page(self, symbol: str, start: int, stop: int) -> list[SimulatedTrade]:
        if self._fault.empty:
            return []
        omitted = self._omitted.get(symbol, ())
        trades = self._trades_of(symbol)[max(start, 0) : max(stop, 0)]
        return [trade for trade in trades if trade.trade_id not in omitted]


class SimulatedHistory(RestSimulator):
    """Past trades over REST.

    Args:
        write: the exchange's own `Dialect.past_trades`.
        trades_of: symbol -> all its trades so far, by id.
        aggregates_of: the same for aggregate trades, where they are served.
        now_ms: the exchange's clock.

    Attributes:
        omitted: symbol -> ids that the history lacks.
        lag_ms: how long after its time a trade is in the history.
    """

    def __init__(
        self,
        write: Callable[[RestRequest, PastTrades], object | None],
        trades_of: Callable[[str], Sequence[SimulatedTrade]],
        aggregates_of: Callable[[str], Sequence[AggregateTrade]] = lambda _: (),
        now_ms: Callable[[], int] = lambda: 0,
    ) -> None:
        super().__init__()
        self.omitted: dict[str, set[int]] = {}
        self.lag_ms = 0
        self._now_ms = now_ms
        self._write = write
        self._trades_of = trades_of
        self._aggregates_of = aggregates_of

    def find(self, request: RestRequest, fault: RestFault) -> object | None:
        until_ms = self._now_ms() - self.lag_ms if self.lag_ms else None
        return self._write(request, PastTrades(self._trades_of, self._aggregates_of, self.omitted, fault, until_ms))


class SimulatedListing(RestSimulator):
    """Instruments over REST.

    Args:
        write: the exchange's own `Dialect.list_instruments`.
        states: symbol -> whether it trades; may be changed.

    Attributes:
        states: the same.
    """

    def __init__(
        self, write: Callable[[RestRequest, Mapping[str, State]], object | None], states: Mapping[str, State]
    ) -> None:
        super().__init__()
        self._write = write
        self.states = dict(states)

    def find(self, request: RestRequest, fault: RestFault) -> object | None:
        return self._write(request, {} if fault.empty else self.states)
