"""Interactive Brokers through the Client Portal Gateway: sampled last prices, best bid and ask; a symbol is a conid.

You run the gateway and log in to it. Its certificate is self-signed: pass `connect_options={"ssl": ...}`. Its brokerage
session needs a REST `/tickle` every few minutes, which you have to send. `/iserver/accounts`, which it requires before
it serves market data, is called here before each connection.

Source: https://www.interactivebrokers.com/campus/ibkr-api-page/cpapi-v1/#websockets
Units: times in messages are milliseconds; numbers are text and may have separators, "1,300".
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import orjson

from fastbars.exchanges import (
    EXACT,
    NOTHING,
    CandleAsk,
    CandleHistory,
    CandlePaging,
    Deltas,
    Exchange,
    ExchangeBar,
    Heartbeat,
    Ids,
    Keepalive,
    Limits,
    Message,
    ParseError,
    RawMessage,
    Refusal,
    RestApi,
    Stream,
    SymbolRules,
    TokenWanted,
    decimal_of,
    list_in,
    make_candle,
    make_quote,
    make_trade,
    nanoseconds_of,
    shown,
)
from fastbars.exchanges.candles import grid_of
from fastbars.ticks import to_datetime

_LAST, _LAST_SIZE, _BID, _BID_SIZE, _ASK, _ASK_SIZE = "31", "7059", "84", "88", "86", "85"
# Longer ones begin with the session, not with the hour or day of UTC.
_BARS = {"1m": "1min", "2m": "2min", "3m": "3min", "5m": "5min", "10m": "10min", "15m": "15min", "30m": "30min"}
_FIELDS = [_LAST, _BID, _ASK_SIZE, _ASK, _BID_SIZE, _LAST_SIZE]


# {"symbol":"AAPL","text":"APPLE INC","priceFactor":100,"startTime":"20230818-08:00:00","timePeriod":"1d",
#  "barLength":60,"mdAvailability":"S","volumeFactor":1,"data":[{"o":174.7,"c":174.72,"h":174.75,"l":174.52,
#  "v":2137.5,"t":1692345600000}],"points":1}, oldest first, the one in progress last. The prices in "data" are plain;
# `priceFactor` belongs to other fields. Volumes are in units of `volumeFactor`: not confirmed where it is not 1.
def _read_candles(ask: CandleAsk, body: bytes) -> Iterable[ExchangeBar]:
    answer = json.loads(body, parse_float=str, parse_int=str)  # a float would lose digits
    if "error" in answer:
        raise ParseError(shown(answer["error"]))
    factor = decimal_of(answer.get("volumeFactor", "1"))
    for row in list_in(answer["data"], "data"):
        prices = [row[name] for name in "ohlc"]
        volume = EXACT.multiply(decimal_of(row["v"]), factor)
        yield make_candle(ask.symbol, ask.spec, nanoseconds_of(row["t"]), prices, f"{volume:f}")


def _candle_query(ask: CandleAsk) -> Mapping[str, str]:
    # "startTime" is where the period ends (as measured; the documentation can be read either way). Without one it ends
    # now, which alone brings the latest candles.
    until_ns = grid_of(ask.spec).shift(ask.until_ns, 1) if ask.is_latest else ask.until_ns  # the one in progress, too
    minutes = (until_ns - ask.since_ns) // (60 * 10**9)
    period = f"{minutes}min" if minutes <= 30 else f"{-(-minutes // 60)}h"
    if minutes > 480:
        period = f"{-(-minutes // 1440)}d"
    query = {"conid": ask.symbol, "period": period, "bar": ask.interval, "outsideRth": "true"}
    if not ask.is_latest:
        query["startTime"] = f"{to_datetime(ask.until_ns):%Y%m%d-%H:%M:%S}"
    return query


class InteractiveBrokers(Exchange):
    """The gateway on this machine."""

    name = "interactive_brokers gateway"
    docs = "https://www.interactivebrokers.com/campus/ibkr-api-page/cpapi-v1/#websockets"
    channels: Mapping[str, Ids | None] = {"smd": "sampled"}
    routes: Mapping[str, Sequence[str]] = {"wss://localhost:5000/v1/api/ws": ("smd",)}
    default_channel = "smd"
    symbols = SymbolRules("[1-9][0-9]*", example="265598: the contract id (conid), in digits")
    # At most 1,000 candles an answer, in periods of whole days where they are longer than 8 hours. It may go further
    # back than the period, as that counts hours of trading: what was not asked for is dropped.
    candle_history = CandleHistory(
        RestApi("https://localhost:5000", 600.0), "/v1/api/iserver/marketdata/history", 479, _BARS, _candle_query,
        _read_candles, 1.0, CandlePaging.WINDOWS, surplus=None,
        lacks=("quote_volume", "trade_count", "taker_buy_volume", "taker_buy_quote_volume", "first_trade_id",
               "last_trade_id"),
    )  # fmt: skip
    acks = "none"
    negative_prices = True
    # A new account is entitled to 100 symbols at once. A subscription expires after 15 minutes.
    limits = Limits(100, 10, 10, subscription_lifetime_s=900.0)
    # The gateway expects "tic" once a minute, and sends a heartbeat every 10 s.
    keepalive = Keepalive(b"tic", interval_s=30.0, silence_s=20.0)

    def subscribe(self, streams: Sequence[Stream], request_id: int) -> list[bytes]:  # noqa: ARG002
        fields = orjson.dumps({"fields": _FIELDS})
        return [f"smd+{symbol}+".encode() + fields for symbol, _ in streams]

    def unsubscribe(self, streams: Sequence[Stream], request_id: int) -> list[bytes]:  # noqa: ARG002
        return [f"umd+{symbol}+{{}}".encode() for symbol, _ in streams]

    def login(self, token: str) -> list[bytes]:
        return [orjson.dumps({"session": token})]

    def asked_first(self, url: str, rest_url: str | None) -> list[str]:
        # For wss://localhost:5000/v1/api/ws it is https://localhost:5000/v1/api/iserver/accounts.
        stream = urlsplit(url)
        path = stream.path.rstrip("/").removesuffix("/ws")
        scheme = "http" if stream.scheme == "ws" else "https"
        base = (
            f"{scheme}://{stream.netloc}{path}" if rest_url is None else rest_url.rstrip("/").removesuffix(path) + path
        )
        return [f"{base}/iserver/accounts"]

    def event_time_ns(self, message: Any) -> int | None:
        # The gateway's heartbeat carries its own clock, not an exchange's.
        time = message.get("_updated") if isinstance(message, dict) else None
        return nanoseconds_of(time) if isinstance(time, int) else None

    def parse(self, message: Any) -> Iterable[Message]:
        return self._parse(Deltas(), message)

    def parser(self) -> Callable[[Any], Iterable[Message]]:
        return partial(self._parse, Deltas())

    def _parse(self, deltas: Deltas, message: Any) -> Iterable[Message]:
        if not isinstance(message, dict):
            return ()
        # {"message":"waiting for session"}: the socket came without the session's cookie
        if message.get("message") == "waiting for session":
            return (TokenWanted("waiting for session"),)
        topic = message.get("topic")
        if not isinstance(topic, str):
            return ()
        # {"topic":"smd+265598","conid":265598,"conidEx":"265598","server_id":"q2","_updated":1712500000593,"6119":"q2",
        #  "6509":"RpB","31":"189.60","7059":"100","84":"189.56","85":"500","86":"189.61","88":"200"}; later ones carry
        # only what has changed, and some nothing at all, not even a time
        if topic.startswith("smd+"):
            changed = {name: message[name] for name in _FIELDS if name in message}
            if not changed and "_updated" not in message:
                return NOTHING
            symbol, time_ns = topic[4:], nanoseconds_of(message["_updated"])
            return self._sample(symbol, time_ns, changed, deltas) or (RawMessage("smd", symbol, message),)
        # {"topic":"system","hb":1772100000535}
        if topic == "system" and "hb" in message:
            return (Heartbeat(),)
        if topic == "tic":
            return (Heartbeat(),)
        # {"topic":"sts","args":{"connected":true,"authenticated":false,"competing":false,"message":"","fail":""}}
        if topic == "sts" and message["args"].get("authenticated") is False:
            return (Refusal(None, "the gateway is not logged in"),)
        return (RawMessage(topic.partition("+")[0], None, message),)

    def _sample(self, symbol: str, time_ns: int, changed: dict[str, Any], deltas: Deltas) -> list[Message]:
        before = deltas.merge(symbol, {}).copy()
        # Forgotten first: if one of the new values cannot be read, the old ones must not pass for current.
        deltas.merge(symbol, dict.fromkeys(changed))
        fields = deltas.merge(symbol, {name: read_number(value) for name, value in changed.items()})
        # A sample is a change of the last price or size, with both known. Values sent again are not one, nor is a price
        # that is the same after a halt as before.
        items: list[Message] = []
        price, size = fields.get(_LAST), fields.get(_LAST_SIZE)
        if price and size and decimal_of(size) and fields.get("sampled") != (price, size):
            deltas.merge(symbol, {"sampled": (price, size)})
            items.append(make_trade(("smd", symbol, time_ns, price, size, 0, None, None, 1, None, None)))
        names = (_BID, _BID_SIZE, _ASK, _ASK_SIZE)
        if any(before.get(name) != fields.get(name) for name in names):
            bid, bid_size, ask, ask_size = (fields.get(name) for name in names)
            bid_side, ask_side = [bid, bid_size or "0"] if bid else None, [ask, ask_size or "0"] if ask else None
            items.append(make_quote(symbol, bid_side, ask_side, time_ns))
        return items


# Whole numbers in groups of three, or without groups; then decimals. Blanks may be of any kind, "1 300" or "1'300".
_GROUPED = re.compile(r"([+-]?)([1-9][0-9]{0,2})((?P<by>[,.' ])[0-9]{3}(?:(?P=by)[0-9]{3})*)(?:([,.])([0-9]+))?")
_PLAIN = re.compile(r"[+-]?[0-9]*(?:\.[0-9]+)?")
_BLANKS = str.maketrans("\u00a0\u2009\u202f\u2019", "   '")
_LONGEST = 64


def read_number(text: Any) -> str | None:
    """A number from the gateway without separators; None if it is not a current value.

    A letter in front marks those: C the previous close, H halted. "1,300" is 1300 and "1.300" 1.3, as the gateway
    writes them. A decimal comma is read only where a separator of another kind shows that it is one: "1.300,5". Any
    other ("1,5", "0,125") is refused, because in the same notation "1,300" would be 1.3.

    Raises:
        ParseError: it is not a number, or it is ambiguous.
    """
    if text is None or text == "":
        return None
    if not isinstance(text, str) or len(text) > _LONGEST:
        raise ParseError(f"{text!r:.80} is not a number written as text")
    if text[0].isalpha():
        return None
    text = text.translate(_BLANKS)
    grouped = _GROUPED.fullmatch(text)
    if grouped is not None:
        sign, first, groups, by, point, decimals = grouped.groups()
        only_one_point = by == "." and point is None and groups.count(".") == 1
        if by != point and not only_one_point:
            return f"{sign}{first}{groups.replace(by, '')}" + (f".{decimals}" if point else "")
    if not _PLAIN.fullmatch(text) or not text.strip("+-"):
        raise ParseError(f"{text!r} is not a number, or it is ambiguous")
    return str(text)


GATEWAY = InteractiveBrokers()
MARKETS: dict[str, Exchange] = {"gateway": GATEWAY}
