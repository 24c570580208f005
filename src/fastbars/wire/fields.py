"""TradeFields: where trades are in an exchange's messages, declared once for scanner and reader.

A key is either a name within the trade object, "p", or a path of names from the root of the message,
("arg", "instId"). Arrays on a path are iterated over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

Key = str | tuple[str, ...]
# The value required at a key: text, true or false, or one of several. A text that ends with "*" is a prefix.
Literals = str | bool | tuple[str | bool, ...]

TimeUnit = Literal["ms", "us", "ns", "ms or us", "s", "rfc3339"]


@dataclass(frozen=True, kw_only=True)
class TradeFields:
    """The trade messages of one channel.

    A message is a trade message if everything in `match` is in it. The compiled scanner (`wire/scanner.pyx`) takes
    those that look exactly as declared; the reader in Python (`exchanges/reader.py`) reads those too, and rarer shapes
    of them. All other messages go to the exchange's `parse`.

    Attributes:
        match: key -> the value required there: {"e": "trade"}, {("channel",): "trades"}, {("topic",): "publicTrade.*"}.
        trades: path from the root to the trade, or to the array of trades: (), ("data",), ("events", "trades").
        envelope: a name at the root that, if present, holds the message proper: "data" of Binance's combined streams.
            Paths then begin inside it.
        symbol: the instrument, text.
        price, size: a positive number in text; also a JSON number if `json_numbers` is set. Where trades have ids, a
            size of 0 means that nothing was traded and the id is void, whatever the price.
        json_numbers: prices and sizes are JSON numbers; their text is read, digit for digit.
        integers_in_text: times, ids and counts are texts, "1630048897897"; else they are bare.
        time: the trade's own time.
        time_unit: "ms", "us", "ns": an integer; "ms or us": by magnitude, microseconds from 10**14
            on; "s": decimal seconds; "rfc3339", always in text: such as "2023-10-06T17:35:55.440295Z".
        first_id: the trade's id, or the first of those that it stands for: a non-negative integer.
            Leave it out if ids are not numbers or do not rise.
        key: text or integer that tells the trade from every other of its symbol and time, if ids are only unique. A
            message whose trades are not in time order is then left to the reader.
        last_id: the last id it stands for; None: first_id again. Without `first_id`, but with `trade_count`, the first
            one is worked out.
        trade_count: how many trades it stands for; None: last_id - first_id + 1, or 1 without ids. The reader takes a
            trade without it for one.
        sequence: the number of the message, if the exchange numbers messages separately from trades.
        side: key of the taker's side; None: unknown.
        buy, sell: the value at `side` if the taker bought, and if the taker sold. If an exchange gives the maker's
            side, the two are declared the other way round.
        event_time, event_time_unit: when the exchange sent the message; a name within the trade means the latest
            of the message's trades. None: unknown.
        newest_first: the trades of a message are sent newest first and are taken in reverse. If their ids are not in
            order then, the message is left to the reader.
        skip: key within the trade -> its value in a trade that does not count.
    """

    match: Mapping[Key, Literals]
    trades: tuple[str, ...] = ()
    envelope: str | None = None
    symbol: Key
    price: str
    size: str
    json_numbers: bool = False
    integers_in_text: bool = False
    time: str
    time_unit: TimeUnit = "ms"
    first_id: str | None = None
    key: str | None = None
    last_id: str | None = None
    trade_count: str | None = None
    sequence: Key | None = None
    side: str | None = None
    buy: str | bool = ""
    sell: str | bool = ""
    event_time: Key | None = None
    event_time_unit: TimeUnit = "ms"
    newest_first: bool = False
    skip: Mapping[str, Literals] = field(default_factory=dict)

    @property
    def has_ids(self) -> bool:
        """Whether the trades have ids that rise."""
        return self.first_id is not None or self.last_id is not None

    def __post_init__(self) -> None:
        for unit in (self.time_unit, self.event_time_unit):
            if unit not in get_args(TimeUnit):
                raise ValueError(f"time unit {unit!r} is not one of {', '.join(get_args(TimeUnit))}")
        if self.side is not None and (self.buy == self.sell or "" in (self.buy, self.sell)):
            raise ValueError(
                f"side {self.side!r} needs different literals for buy and sell, got {self.buy!r} and {self.sell!r}"
            )
        if self.last_id is not None and self.first_id is None and self.trade_count is None:
            raise ValueError(f"last_id {self.last_id!r} is given without first_id or trade_count")
        paths = [key for key in (*self.match, self.symbol, self.sequence, self.event_time) if isinstance(key, tuple)]
        for path in paths:
            if not path or path == self.trades:
                raise ValueError(f"the path {path} names no value outside the trades at {self.trades}")
            if self.trades and path[: len(self.trades)] == self.trades:
                raise ValueError(f"{path} is inside the trade; name it {path[-1]!r}")
