"""Coinbase Advanced.

Market data for a "-USDC" product arrives under the name of its "-USD" product, whose trades they are.

Source: https://docs.cdp.coinbase.com/coinbase-app/advanced-trade-apis/websocket/websocket-channels and .../rest-api
Units: times in messages are RFC 3339 text; sizes are base units.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from fastbars.exchanges import (
    DELISTED,
    HALTED,
    NOTHING,
    Ack,
    Alias,
    CandleAsk,
    CandleHistory,
    CandlePaging,
    Exchange,
    ExchangeBar,
    Heartbeat,
    History,
    Hole,
    Ids,
    Keepalive,
    Limits,
    Listed,
    Listing,
    Message,
    Page,
    Paging,
    RawMessage,
    Refusal,
    RestApi,
    Stream,
    SymbolRules,
    Ticker,
    TradeFields,
    TradeReader,
    by_channel,
    decimals_of,
    integer_of,
    list_in,
    make_candle,
    make_quote,
    positive_in,
    read_past_trades,
    text_in,
    time_of,
)
from fastbars.exchanges.checked import BROKEN, LATEST_NS
from fastbars.exchanges.listing import Kind

# {"channel":"market_trades","timestamp":"2026-08-09T21:05:48.251397169Z","sequence_num":9,"events":[{"type":
#  "update","trades":[{"product_id":"BTC-USD","trade_id":"1068572091","price":"65083.67","size":"0.01034361",
#  "time":"2026-08-09T21:05:48.167634Z","side":"SELL"}]}]}; the first is a "snapshot" of 100 to 200 past trades. The
# side is the maker's: where that sells, the taker bought
_TRADES = TradeFields(
    match={("channel",): "market_trades"}, trades=("events", "trades"), symbol="product_id", price="price",
    size="size", time="time", time_unit="rfc3339", first_id="trade_id", integers_in_text=True, side="side", buy="SELL",
    sell="BUY", event_time=("timestamp",), event_time_unit="rfc3339", newest_first=True,
)  # fmt: skip
# {"trades":[{"trade_id":"34b080bf-...","product_id":"BTC-USD","price":"140.91","size":"4","time":
#  "2021-05-31T09:59:59.000Z","side":"BUY","bid":"","ask":""}],...}
_PAST_TRADES = TradeReader("market_trades", replace(_TRADES, match={}, trades=("trades",)))
_USD, _USDC = "-USD", "-USDC"
_KINDS: Mapping[str, Kind] = {"SPOT": "spot", "FUTURE": "future"}
_REST = RestApi("https://api.coinbase.com", 600.0)


def _read_trades(symbol: str, body: bytes) -> Page:
    answer = orjson.loads(body)
    list_in(answer["trades"], "trades")
    # A "-USDC" product is traded in the book of its "-USD" twin, and an answer may carry either name.
    twin = symbol.removesuffix(_USDC) + _USD if symbol.endswith(_USDC) else f"{symbol}C"
    return read_past_trades(_PAST_TRADES, symbol, answer, (twin,) if symbol.endswith((_USD, _USDC)) else ())


def _query(_: str, position: int, hole: Hole) -> Mapping[str, str]:
    start = min(hole.since_ns, hole.until_ns) // 10**9
    return {"limit": "1000", "start": str(start), "end": str(position // 10**9 + 1)}


_GRANULARITIES = {
    "1m": "ONE_MINUTE", "5m": "FIVE_MINUTE", "15m": "FIFTEEN_MINUTE", "30m": "THIRTY_MINUTE", "1h": "ONE_HOUR",
    "2h": "TWO_HOUR", "6h": "SIX_HOUR", "1d": "ONE_DAY",
}  # fmt: skip


# {"candles":[{"start":"1639508050","low":"140.21","high":"140.81","open":"140.31","close":"140.71",
#  "volume":"56437345"}]}, newest first; intervals without trades have none
def _read_candles(ask: CandleAsk, body: bytes) -> Iterable[ExchangeBar]:
    for c in list_in(orjson.loads(body)["candles"], "candles"):
        prices = [c[name] for name in ("open", "high", "low", "close")]
        yield make_candle(ask.symbol, ask.spec, _start_ns(c), prices, c["volume"])


def _candle_query(ask: CandleAsk) -> Mapping[str, str]:
    # Whether "end" is inclusive is not documented: a candle too many is dropped.
    return {
        "granularity": ask.interval, "start": str(ask.since_ns // 10**9), "end": str(ask.until_ns // 10**9),
        "limit": str(ask.limit + 1),
    }  # fmt: skip


def _start_ns(candle: Mapping[str, Any]) -> int:
    return integer_of(candle["start"], LATEST_NS // 10**9) * 10**9


# {"products":[{"product_id":"BTC-USDC","status":"online","is_disabled":false,"trading_disabled":false,
#  "cancel_only":false,"view_only":false,"auction_mode":false,"alias":"BTC-USD","product_type":"SPOT",
#  "base_currency_id":"BTC","quote_currency_id":"USDC","price_increment":"0.01","base_increment":"0.00000001",
#  "approximate_quote_24h_volume":"120000000"}],"num_products":1}; futures have {"future_product_details":{
#  "contract_expiry":"2025-11-28T16:00:00Z","contract_size":"0.01","contract_expiry_type":"EXPIRING"}}, and sizes in
# contracts
def _listed(one: Any) -> Listed:
    flags = ("is_disabled", "trading_disabled", "cancel_only")
    status = next((flag for flag in flags if one.get(flag) is True), None) or str(one.get("status") or "online")
    kind, details = _KINDS.get(str(one.get("product_type"))), one.get("future_product_details")
    base, quote, expiry_ns, contract = text_in(one, "base_currency_id"), text_in(one, "quote_currency_id"), None, None
    if kind == "future" and isinstance(details, dict):
        kind = "perpetual" if details.get("contract_expiry_type") == "PERPETUAL" else "future"
        base, contract = base or text_in(details, "contract_root_unit"), positive_in(details, "contract_size")
        expiry_ns = _time_of(details.get("contract_expiry")) if kind == "future" else None
    is_spot = kind in (None, "spot")
    return Listed(
        one["product_id"], status, kind, base, quote, None if is_spot else quote,
        positive_in(one, "price_increment"), positive_in(one, "base_increment"),
        contract, None if is_spot else False, expiry_ns,
        quote_volume=positive_in(one, "approximate_quote_24h_volume"),
    )  # fmt: skip


def _time_of(text: Any) -> int | None:
    try:
        return time_of(text)
    except BROKEN:
        return None


class Coinbase(Exchange):
    """The public market data endpoint; no key is needed."""

    name = "coinbase spot"
    docs = "https://docs.cdp.coinbase.com/coinbase-app/advanced-trade-apis/websocket/websocket-overview"
    channels: Mapping[str, Ids | None] = {
        "market_trades": "contiguous", "candles": None, "ticker": None, "ticker_batch": None, "level2": None,
        "status": None,
    }  # fmt: skip
    routes: Mapping[str, Sequence[str]] = {"wss://advanced-trade-ws.coinbase.com": tuple(channels)}
    default_channel = "market_trades"
    symbols = SymbolRules(r"[^\Wa-z]+(-[^\Wa-z]+)+", "upper", "BTC-USD", separator="-", aliases={_USDC: _USD})
    candles: Mapping[str, str] = {"5m": "candles"}
    acks = "streams"
    sends_recent_trades = True
    histories: Mapping[str, Sequence[History]] = {
        "market_trades": (
            History(
                _REST, "/api/v3/brokerage/market/products/{symbol}/ticker", Paging.BACKWARD_BY_TIME, 1000, _query,
                _read_trades, weight=1.0,
            ),
        )
    }  # fmt: skip
    # A span of more than 350 candles is refused.
    candle_history = CandleHistory(
        _REST, "/api/v3/brokerage/market/products/{symbol}/candles", 300, _GRANULARITIES, _candle_query, _read_candles,
        1.0, CandlePaging.WINDOWS,
        lacks=("quote_volume", "trade_count", "taker_buy_volume", "taker_buy_quote_volume", "first_trade_id",
               "last_trade_id"),
    )  # fmt: skip
    listing = Listing(
        _REST, "/api/v3/brokerage/market/products", ("products",), _listed,
        {"is_disabled": DELISTED, "trading_disabled": HALTED, "cancel_only": HALTED, "offline": HALTED,
         "delisted": DELISTED},
        weight=1.0,
    )  # fmt: skip
    # Per address: 8 connections a second, 8 unauthenticated messages a second.
    limits = Limits(500, 50, 8, connects=(8, 1.0), requests_shared=True)
    # Channels are closed after 60 to 90 s without updates, and a connection without a subscription after 5 s.
    greeting = (b'{"type":"subscribe","channel":"heartbeats"}',)
    keepalive = Keepalive(silence_s=5.0)

    def native_name(self, alias: Alias) -> str | None:
        return f"{alias.base}-{alias.quote}" if alias.kind == "spot" else None

    def subscribe(self, streams: Sequence[Stream], request_id: int) -> list[bytes]:  # noqa: ARG002
        return self._request("subscribe", streams)

    def unsubscribe(self, streams: Sequence[Stream], request_id: int) -> list[bytes]:  # noqa: ARG002
        return self._request("unsubscribe", streams)

    def _request(self, kind: str, streams: Sequence[Stream]) -> list[bytes]:
        return [
            orjson.dumps({"type": kind, "product_ids": symbols, "channel": channel})
            for channel, symbols in by_channel(streams).items()
        ]

    def fields(self, channel: str) -> TradeFields | None:  # noqa: ARG002
        return _TRADES

    def parse(self, message: Any) -> Iterable[Message]:
        if not isinstance(message, dict):
            return ()
        channel = message.get("channel")
        # {"type":"error","message":"failed to subscribe"}
        if message.get("type") == "error":
            return (Refusal(None, str(message.get("message"))),)
        if not isinstance(channel, str):
            return ()
        events = message["events"]
        if channel == "candles":
            # {"start":"1786279500","high":"1916.6","low":"1915.91","open":"1916.11","close":"1916.02",
            #  "volume":"13.9044026","product_id":"ETH-USD"}
            time_ns = self.event_time_ns(message)
            return [_candle(candle, time_ns) for event in events for candle in event["candles"]] or NOTHING
        if channel in ("ticker", "ticker_batch"):
            time_ns = self.event_time_ns(message)
            return [item for event in events for t in event["tickers"] for item in _ticker(t, time_ns)] or NOTHING
        if channel == "heartbeats":
            return (Heartbeat(),)
        if channel == "subscriptions":
            # Acks carry no request id but list all that the connection holds, hence `whole`.
            # {"channel":"subscriptions",...,"events":[{"subscriptions":{"market_trades":["BTC-USD","ETH-USD"]}}]}
            held = [item for event in events for item in event["subscriptions"].items()]
            streams = tuple((symbol, name) for name, symbols in held for symbol in symbols)
            return (Ack(streams=streams, whole=True),)
        return (RawMessage("level2" if channel == "l2_data" else channel, _symbol(events), message),)


def _candle(c: dict[str, Any], event_time_ns: int | None) -> Message:
    prices = [c[name] for name in ("open", "high", "low", "close")]
    return make_candle(c["product_id"], "5m", _start_ns(c), prices, c["volume"], event_time_ns=event_time_ns)


def _ticker(t: dict[str, Any], time_ns: int | None) -> Iterable[Message]:
    # {"type":"ticker","product_id":"BTC-USD","price":"65086.18","volume_24_h":"2867.54532609","low_24_h":"64675.22",
    #  "high_24_h":"65252.99",...,"best_bid":"65083.66","best_ask":"65083.67","best_bid_quantity":"0.20371215",
    #  "best_ask_quantity":"0.24290402"}; ticker_batch comes without the best bid and ask
    last, high, low, volume = decimals_of(t, "price", "high_24_h", "low_24_h", "volume_24_h")
    yield Ticker(t["product_id"], last, None, high, low, volume, None, None, time_ns)
    if t.get("best_bid"):
        bid, ask = ([t[f"best_{side}"], t[f"best_{side}_quantity"]] for side in ("bid", "ask"))
        yield make_quote(t["product_id"], bid, ask, time_ns)


def _symbol(events: Any) -> str | None:
    first = events[0] if isinstance(events, list) and events else None
    return first.get("product_id") if isinstance(first, dict) else None


ADVANCED = Coinbase()
MARKETS: dict[str, Exchange] = {"spot": ADVANCED}
