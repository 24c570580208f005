"""The instruments endpoints of the simulated exchanges, in the words of each.

No socket: `answer(target, body)` takes the path of a request with its query and returns what to send.

Source: the endpoints named in `fastbars.exchanges.listings`.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

from fastbars.simulator.rest import RestAnswer, RestFault

__all__ = ["ListingDesk", "State"]

State = Literal["trading", "halted", "delisted"]
_Write = Callable[[Mapping[str, State], dict[str, str], str], Any]  # of the states, a query and a body
_KRAKEN_NAMES = {"BTC": "XBT", "DOGE": "XDG"}
_BINANCE = {
    "spot": ("/api/v3/exchangeInfo", "status", {"trading": "TRADING", "halted": "BREAK", "delisted": "BREAK"}),
    "us": ("/api/v3/exchangeInfo", "status", {"trading": "TRADING", "halted": "HALT", "delisted": "BREAK"}),
    "usdm": ("/fapi/v1/exchangeInfo", "status",
             {"trading": "TRADING", "halted": "TRADING_HALT", "delisted": "SETTLING"}),
    "coinm": ("/dapi/v1/exchangeInfo", "contractStatus",
              {"trading": "TRADING", "halted": "TRADING_HALT", "delisted": "DELIVERED"}),
}  # fmt: skip


class ListingDesk:
    """Answers requests for the instruments.

    Args:
        exchange, market: whose words.
        symbols: those that trade.
        stopped: symbol -> "halted" or "delisted", of those that are listed and do not trade.

    Attributes:
        faults: of the next answers, one each.
        requests: paths asked for, in order; of a POST with its body behind a blank.
    """

    def __init__(self, exchange: str, market: str, symbols: Sequence[str], stopped: Mapping[str, State]) -> None:
        self.faults: deque[RestFault] = deque()
        self.requests: list[str] = []
        self._market = market
        self.states: dict[str, State] = {**dict.fromkeys(symbols, "trading"), **stopped}
        endpoints: dict[str, tuple[str, _Write]] = {
            "binance": (_BINANCE.get(market, _BINANCE["spot"])[0], self._binance),
            "bybit": ("/v5/market/instruments-info", self._bybit),
            "okx": ("/api/v5/public/instruments", self._okx),
            "coinbase": ("/api/v3/brokerage/market/products", self._coinbase),
            "kraken": ("/0/public/AssetPairs", self._kraken),
            "hyperliquid": ("/info", self._hyperliquid),
        }
        self._path, self._write = endpoints.get(exchange, ("", _nothing))

    def answer(self, target: str, body: str = "") -> RestAnswer | None:
        """What to send for a GET of `target`, or a POST of `body` to it; None: that is no endpoint of instruments."""
        parts = urlsplit(target)
        if parts.path != self._path:
            return None
        self.requests.append(f"{target} {body}".rstrip())
        fault = self.faults.popleft() if self.faults else RestFault()
        if fault.status != 200:
            return RestAnswer(fault.status, fault.retry_after_s, b'{"code":-1,"msg":"fault"}', fault.delay_s)
        if fault.body is not None:
            return RestAnswer(200, None, fault.body, fault.delay_s)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        try:
            answer = self._write({} if fault.empty else self.states, query, body)
        except (KeyError, ValueError) as error:
            return RestAnswer(400, None, json.dumps({"code": -1100, "msg": repr(error)}).encode())
        return RestAnswer(200, None, json.dumps(answer, separators=(",", ":")).encode(), fault.delay_s)

    def _binance(self, states: Mapping[str, State], query: dict[str, str], _: str) -> Any:
        _, key, words = _BINANCE[self._market]
        if set(query) - {"showPermissionSets"}:
            raise ValueError(f"Not all sent parameters were read: {sorted(query)}")
        symbols = [
            {"symbol": symbol, key: words[state], "filters": [{"filterType": "PRICE_FILTER", "tickSize": "0.01"}]}
            for symbol, state in states.items()
        ]
        return {"timezone": "UTC", "serverTime": 0, "rateLimits": [], "exchangeFilters": [], "symbols": symbols}

    def _bybit(self, states: Mapping[str, State], query: dict[str, str], _: str) -> Any:
        if query["category"] != self._market:
            return {"retCode": 10001, "retMsg": f"no instruments of {query['category']} here", "result": {"list": []}}
        # Only those that trade are listed unless another status is asked for.
        symbols = [symbol for symbol, state in states.items() if state == "trading"]
        start, stop = 0, len(symbols)
        if self._market != "spot":  # there all come on one page
            start = int(query.get("cursor", "0"))
            stop = start + min(int(query.get("limit", "500")), 1000)
        page = [{"symbol": symbol, "status": "Trading", "lotSizeFilter": {}} for symbol in symbols[start:stop]]
        result: dict[str, Any] = {"category": self._market, "list": page}
        if self._market != "spot":
            result["nextPageCursor"] = str(stop) if stop < len(symbols) else ""
        return {"retCode": 0, "retMsg": "OK", "result": result, "retExtInfo": {}, "time": 0}

    def _okx(self, states: Mapping[str, State], query: dict[str, str], _: str) -> Any:
        words = {"trading": "live", "halted": "suspend", "delisted": "expired"}
        data = [
            {"instType": kind, "instId": symbol, "state": words[state], "tickSz": "0.1"}
            for symbol, state in states.items()
            if (kind := _okx_kind(symbol)) == query["instType"]
        ]
        return {"code": "0", "msg": "", "data": data}

    def _coinbase(self, states: Mapping[str, State], query: dict[str, str], _: str) -> Any:
        products = [
            {
                "product_id": symbol,
                "status": "delisted" if state == "delisted" else "online",
                "is_disabled": state == "delisted",
                "trading_disabled": state != "trading",
                "cancel_only": False,
                "alias": symbol.removesuffix("C") if symbol.endswith("-USDC") else "",
                "alias_to": [f"{symbol}C"] if symbol.endswith("-USD") else [],
            }
            for symbol, state in states.items()
        ]
        return {"products": products, "num_products": len(products), "query": query}

    def _kraken(self, states: Mapping[str, State], _: dict[str, str], __: str) -> Any:
        result = {}
        for symbol, state in states.items():
            if state == "delisted":
                continue  # gone
            assets = [_KRAKEN_NAMES.get(asset, asset) for asset in symbol.split("/")]
            status = "online" if state == "trading" else "cancel_only"
            result["".join(assets)] = {"altname": "".join(assets), "wsname": "/".join(assets), "status": status}
        return {"error": [], "result": result}

    def _hyperliquid(self, states: Mapping[str, State], _: dict[str, str], body: str) -> Any:
        kind = json.loads(body)["type"]
        spot = {symbol: state for symbol, state in states.items() if "/" in symbol or symbol.startswith("@")}
        if kind == "spotMeta":
            universe: list[Any] = [{"name": symbol, "tokens": [1, 0], "isCanonical": True} for symbol in spot]
            return {"tokens": [{"name": "USDC", "index": 0}], "universe": universe}
        if kind != "meta":
            raise ValueError(kind)
        universe = [
            {"szDecimals": 5, "name": symbol, "maxLeverage": 40} | ({} if state == "trading" else {"isDelisted": True})
            for symbol, state in states.items()
            if symbol not in spot
        ]
        return {"universe": universe, "marginTables": []}


def _okx_kind(symbol: str) -> str:
    if symbol.endswith("-SWAP"):
        return "SWAP"
    return "FUTURES" if symbol.count("-") == 2 else "SPOT"


def _nothing(_: Mapping[str, State], __: dict[str, str], ___: str) -> Any:
    raise ValueError("no endpoint of instruments")
