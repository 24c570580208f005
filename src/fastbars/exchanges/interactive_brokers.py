"""Interactive Brokers through the Client Portal Gateway: sampled last prices, best bid and ask; a symbol is a conid.

The gateway runs beside you, is logged in by you, and has a certificate of its own: pass
`connect_options={"ssl": ...}`. Its brokerage session wants REST `/tickle` every few minutes, also from you.

Source: https://www.interactivebrokers.com/campus/ibkr-api-page/cpapi-v1/#websockets
Units: times in messages are milliseconds; numbers are text and may have separators, "1,300".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import orjson

from fastbars.buffer import Ids
from fastbars.live.exchange import Deltas, Exchange, Heartbeat, Limits
from fastbars.live.messages import (
    Beat,
    Message,
    RawMessage,
    Refusal,
    Stream,
    decimal_of,
    make_quote,
    make_trade,
    nanoseconds_of,
)
from fastbars.live.naming import SymbolRules

_LAST, _LAST_SIZE, _BID, _BID_SIZE, _ASK, _ASK_SIZE = "31", "7059", "84", "88", "86", "85"
_FIELDS = [_LAST, _BID, _ASK_SIZE, _ASK, _BID_SIZE, _LAST_SIZE]


class InteractiveBrokers(Exchange):
    """The gateway on this machine."""

    name = "interactive_brokers"
    docs = "https://www.interactivebrokers.com/campus/ibkr-api-page/cpapi-v1/#websockets"
    channels: Mapping[str, Ids | None] = {"smd": "sampled"}
    routes: Mapping[str, Sequence[str]] = {"wss://localhost:5000/v1/api/ws": ("smd",)}
    default_channel = "smd"
    symbols = SymbolRules("[1-9][0-9]*", example="265598: the contract id (conid), in digits")
    acks = "none"
    # 100 market data lines are what an account has at first. A subscription ends by itself after 10 minutes.
    limits = Limits(100, 10, 10, subscription_lifetime_s=600.0)
    # The gateway wants "tic" once a minute, and sends a heartbeat every 10 s.
    heartbeat = Heartbeat(b"tic", interval_s=30.0, silence_s=20.0)

    def subscribe(self, streams: Sequence[Stream], request_id: int) -> list[bytes]:  # noqa: ARG002
        fields = orjson.dumps({"fields": _FIELDS})
        return [f"smd+{symbol}+".encode() + fields for symbol, _ in streams]

    def unsubscribe(self, streams: Sequence[Stream], request_id: int) -> list[bytes]:  # noqa: ARG002
        return [f"umd+{symbol}+{{}}".encode() for symbol, _ in streams]

    def event_time_ns(self, message: Any) -> int | None:
        # The gateway's heartbeat carries its own clock, which is no exchange's.
        time = message.get("_updated") if isinstance(message, dict) else None
        return nanoseconds_of(time) if isinstance(time, int) else None

    def parse(self, message: Any) -> Iterable[Message]:
        return self._parse(message, Deltas())

    def parser(self) -> Callable[[Any], Iterable[Message]]:
        deltas = Deltas()
        return lambda message: self._parse(message, deltas)

    def _parse(self, message: Any, deltas: Deltas) -> Iterable[Message]:
        topic = message.get("topic") if isinstance(message, dict) else None
        if not isinstance(topic, str):
            return ()
        # {"topic":"smd+265598","conid":265598,"conidEx":"265598","server_id":"q2","_updated":1712500000593,"6119":"q2",
        #  "6509":"RpB","31":"189.60","7059":"100","84":"189.56","85":"500","86":"189.61","88":"200"}; later ones carry
        # only what has changed
        if topic.startswith("smd+"):
            symbol, time_ns = topic[4:], nanoseconds_of(message["_updated"])
            before = deltas.merge(topic, {}).copy()
            fields = deltas.merge(topic, {name: message[name] for name in _FIELDS if name in message})
            return self._sample(symbol, time_ns, before, fields) or (RawMessage("smd", symbol, message),)
        # {"topic":"system","hb":1772100000535}
        if topic == "system" and "hb" in message:
            return (Beat(),)
        if topic == "tic":
            return (Beat(answers=True),)
        # {"topic":"sts","args":{"connected":true,"authenticated":false,"competing":false,"message":"","fail":""}}
        if topic == "sts" and message["args"].get("authenticated") is False:
            return (Refusal(None, "the gateway is not logged in"),)
        return (RawMessage(topic.partition("+")[0], None, message),)

    def _sample(self, symbol: str, time_ns: int, before: dict[str, Any], fields: dict[str, Any]) -> list[Message]:
        # A sample is a change of the last price or size, both known; a repeated snapshot is none.
        items: list[Message] = []
        price, size = _number(fields.get(_LAST)), _number(fields.get(_LAST_SIZE))
        known = (before.get(_LAST), before.get(_LAST_SIZE))
        if price and size and decimal_of(size) and known != (fields[_LAST], fields[_LAST_SIZE]):
            items.append(make_trade(("smd", symbol, time_ns, price, size, 0, None, None, 1, None, None)))
        names = (_BID, _BID_SIZE, _ASK, _ASK_SIZE)
        if any(before.get(name) != fields.get(name) for name in names):
            bid, bid_size, ask, ask_size = (_number(fields.get(name)) for name in names)
            bid_side, ask_side = [bid, bid_size or "0"] if bid else None, [ask, ask_size or "0"] if ask else None
            items.append(make_quote(symbol, bid_side, ask_side, time_ns))
        return items


def _number(text: Any) -> str | None:
    # A letter in front says that it is no current price: C the previous close, H halted.
    if text is None or text == "" or text[0].isalpha():
        return None
    return str(text.replace(",", ""))


GATEWAY = InteractiveBrokers()
MARKETS: dict[str, Exchange] = {"gateway": GATEWAY}
