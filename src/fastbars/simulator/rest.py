"""The REST history of the simulated exchange: past trades, page by page, in the words of the exchange, with faults.

No socket: `answer(path)` takes the path of a GET with its query and returns what to send.

Source: the endpoints named in `fastbars.exchanges.rest`.
Units: times in ms since the Unix epoch.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from fastbars.simulator.instruments import SimulatedInstrument
from fastbars.simulator.market import SimulatedTrade

__all__ = ["RestAnswer", "RestDesk", "RestFault"]

_PREFIXES = {"spot": "/api/v3", "us": "/api/v3", "usdm": "/fapi/v1", "coinm": "/dapi/v1"}
_KRAKEN_NAMES = {"BTC": "XBT", "DOGE": "XDG"}


@dataclass(frozen=True, slots=True)
class RestFault:
    """What goes wrong with one answer.

    Attributes:
        status: HTTP status instead of 200, with `retry_after_s`; 200: the answer itself is odd, as below.
        empty: it holds no trades.
        overlap: it holds as many trades more on the far side of where it was asked to begin.
        delay_s: it comes so much later.
        body: sent instead of it.
    """

    status: int = 200
    retry_after_s: float | None = None
    empty: bool = False
    overlap: int = 0
    delay_s: float = 0.0
    body: bytes | None = None


class RestAnswer(NamedTuple):
    """Status, Retry-After, body, and how long to wait before it is sent."""

    status: int
    retry_after_s: float | None
    body: bytes
    delay_s: float = 0.0


class RestDesk:
    """Answers requests for past trades.

    Args:
        exchange, market: whose words.
        instruments: what is traded.
        trades_of: symbol -> all its trades so far, by id.

    Attributes:
        faults: of the next answers, one each.
        omitted: symbol -> ids that the history does not have.
        requests: paths asked for, in order.
    """

    def __init__(
        self,
        exchange: str,
        market: str,
        instruments: Sequence[SimulatedInstrument],
        trades_of: Callable[[str], Sequence[SimulatedTrade]],
    ) -> None:
        self.faults: deque[RestFault] = deque()
        self.omitted: dict[str, set[int]] = {}
        self.requests: list[str] = []
        self._market = market
        self._instruments = {instrument.symbol: instrument for instrument in instruments}
        self._trades_of = trades_of
        self._handle = {
            "binance": self._binance, "okx": self._okx, "coinbase": self._coinbase, "kraken": self._kraken,
        }.get(exchange)  # fmt: skip

    def answer(self, target: str) -> RestAnswer | None:
        """What to send for a GET of `target`; None: this is no path of the REST API."""
        parts = urlsplit(target)
        if self._handle is None or not parts.path.startswith(("/api/v", "/fapi/", "/dapi/", "/0/")):
            return None
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.requests.append(target)
        fault = self.faults.popleft() if self.faults else RestFault()
        if fault.status != 200:
            return RestAnswer(fault.status, fault.retry_after_s, b'{"code":-1,"msg":"fault"}', fault.delay_s)
        if fault.body is not None:
            return RestAnswer(200, None, fault.body, fault.delay_s)
        try:
            answer = self._handle(parts.path, query, fault)
        except (KeyError, ValueError) as error:
            return RestAnswer(400, None, json.dumps({"code": -1100, "msg": repr(error)}).encode())
        return RestAnswer(200, None, json.dumps(answer).encode(), fault.delay_s)

    def _page(self, symbol: str, low: int, high: int, fault: RestFault) -> list[SimulatedTrade]:
        # Trades by place in the symbol's list; those omitted leave the page shorter.
        if fault.empty:
            return []
        omitted = self.omitted.get(symbol, set())
        trades = self._trades_of(symbol)
        return [trade for trade in trades[max(low, 0) : max(high, 0)] if trade.trade_id not in omitted]

    def _place_of_id(self, symbol: str, number: int) -> int:
        return bisect_left(self._trades_of(symbol), number, key=lambda trade: trade.trade_id)

    def _binance(self, path: str, query: dict[str, str], fault: RestFault) -> Any:
        symbol = query["symbol"]
        instrument = self._instruments[symbol]
        limit = min(int(query.get("limit", "500")), 1000 if self._market in ("spot", "us") else 500)
        if path == f"{_PREFIXES[self._market]}/historicalTrades":
            low = self._place_of_id(symbol, int(query["fromId"])) - fault.overlap
            page = self._page(symbol, low, low + limit, fault)
        elif path == f"{_PREFIXES[self._market]}/trades":
            count = len(self._trades_of(symbol))
            page = self._page(symbol, count - int(query.get("limit", "500")), count, fault)
        else:
            raise ValueError(path)
        return [
            {
                "id": trade.trade_id,
                "price": instrument.price_text(trade.price_ticks),
                "qty": instrument.size_text(trade.size_steps),
                "time": trade.time_ms,
                "isBuyerMaker": trade.buyer_is_maker,
            }
            for trade in page
        ]

    def _okx(self, path: str, query: dict[str, str], fault: RestFault) -> Any:
        symbol = query["instId"]
        instrument = self._instruments[symbol]
        if path != "/api/v5/market/history-trades":
            raise ValueError(path)
        high = self._place_of_id(symbol, int(query["after"])) + fault.overlap
        page = self._page(symbol, high - min(int(query.get("limit", "100")), 100), high, fault)
        data = [
            {
                "instId": symbol,
                "side": "sell" if trade.buyer_is_maker else "buy",
                "sz": instrument.size_text(trade.size_steps),
                "px": instrument.price_text(trade.price_ticks),
                "tradeId": str(trade.trade_id),
                "ts": str(trade.time_ms),
            }
            for trade in reversed(page)
        ]
        return {"code": "0", "msg": "", "data": data}

    def _coinbase(self, path: str, query: dict[str, str], fault: RestFault) -> Any:
        head, _, tail = path.partition("/products/")
        symbol, _, last = tail.partition("/")
        if head != "/api/v3/brokerage/market" or last != "ticker":
            raise ValueError(path)
        if symbol not in self._instruments and symbol.endswith("-USDC"):
            symbol = symbol.removesuffix("C")  # one market
        instrument = self._instruments[symbol]
        trades = self._trades_of(symbol)
        low = bisect_left(trades, int(query["start"]) * 1000, key=lambda trade: trade.time_ms)
        high = bisect_right(trades, int(query["end"]) * 1000, key=lambda trade: trade.time_ms) + fault.overlap
        page = self._page(symbol, max(low, high - int(query["limit"])), high, fault)
        return {
            "trades": [
                {
                    "trade_id": str(trade.trade_id),
                    "product_id": symbol,
                    "price": instrument.price_text(trade.price_ticks),
                    "size": instrument.size_text(trade.size_steps),
                    "time": f"{datetime.fromtimestamp(trade.time_ms / 1000, UTC):%Y-%m-%dT%H:%M:%S}"
                    f".{trade.time_ms % 1000:03d}Z",
                    "side": "BUY" if trade.buyer_is_maker else "SELL",  # the maker's
                }
                for trade in reversed(page)
            ]
        }

    def _kraken(self, path: str, query: dict[str, str], fault: RestFault) -> Any:
        if path != "/0/public/Trades":
            raise ValueError(path)
        names = {
            "".join(_KRAKEN_NAMES.get(asset, asset) for asset in symbol.split("/")): symbol
            for symbol in self._instruments
        }
        if query["pair"] not in names:
            return {"error": ["EQuery:Unknown asset pair"]}
        symbol = names[query["pair"]]
        instrument = self._instruments[symbol]
        trades = self._trades_of(symbol)
        since_ns = int(query["since"])
        low = bisect_right(trades, since_ns, key=lambda trade: trade.time_ms * 10**6) - fault.overlap
        high = low + int(query["count"])
        # A page does not end between trades of one time: the cursor could not go on from there.
        while 0 < high < len(trades) and trades[high].time_ms == trades[high - 1].time_ms:
            high += 1
        page = self._page(symbol, low, high, fault)
        rows = [
            [
                instrument.price_text(trade.price_ticks),
                instrument.size_text(trade.size_steps),
                trade.time_ms / 1000,
                "s" if trade.buyer_is_maker else "b",
                "m",
                "",
                trade.trade_id,
            ]
            for trade in page
        ]
        last_ns = trades[min(high, len(trades)) - 1].time_ms * 10**6 if trades and high > 0 else since_ns
        return {"error": [], "result": {query["pair"]: rows, "last": str(max(last_ns, since_ns))}}
