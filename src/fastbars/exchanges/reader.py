"""TradeReader: reads the trades of decoded messages by the same `TradeFields` as the compiled scanner.

The scanner takes messages of exactly the declared shape; this reads those too, and others that the scanner leaves:
trades out of order, texts with escapes, unusually long numbers. Where both read a message, they agree.
Units: times int64 nanoseconds since the Unix epoch, UTC; prices and sizes in the exchange's own text.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from fastbars.errors import ParseError
from fastbars.exchanges.checked import BROKEN, LATEST_NS, bare_integer_of, integer_of, shown
from fastbars.exchanges.messages import RefusedTrade, Trade, make_trade, time_of, time_of_seconds
from fastbars.times import UNITS_NS
from fastbars.wire.fields import Key, Literals, TimeUnit, TradeFields

_MOST_NS = 2**63 - 1  # the kernel refuses trades with times this far off, and counts them as lost
_FIRST_US = 10**14  # a time from here on is in microseconds where a declaration says "ms or us"


class TradeReader:
    """Reads the trades of one channel out of decoded messages.

    Args:
        channel: the trade channel.
        fields: where its trades are in its messages.
    """

    def __init__(self, channel: str, fields: TradeFields) -> None:
        self.channel = channel
        self._fields = fields
        self._path = fields.trades
        matchers = [(key, _matcher(literals)) for key, literals in fields.match.items()]
        self._message_matchers = [(key, matches) for key, matches in matchers if isinstance(key, tuple)]
        self._trade_matchers = [(key, matches) for key, matches in matchers if isinstance(key, str)]
        self._skipped = [(key, _matcher(literals)) for key, literals in fields.skip.items()]
        self._trade_of = _trade_maker(channel, fields)
        self._trade_time = _time_reader(fields.time_unit, fields)
        self._event_time = _time_reader(fields.event_time_unit, fields, LATEST_NS)
        self._order = None if fields.key is None and not fields.has_ids else _key_of_order(fields)

    def read(self, message: Any, refused: list[RefusedTrade] | None = None) -> list[Trade] | None:
        """The trades of a message; None if it is not a trade message of this channel.

        They are sorted by id, or by time where ids are only unique.

        Args:
            refused: gets what cannot be read, and the other trades are returned; None: that is an error.

        Raises:
            one of BROKEN: it is a trade message, but not as declared.
        """
        if refused is None:
            return self._read(message, None)
        try:
            return self._read(message, refused)
        except BROKEN as error:  # not even its trades can be told apart
            refused.append(RefusedTrade(self.channel, self._symbol_of({}, self._root(message) or {}), None, str(error)))
            return []

    def _read(self, message: Any, refused: list[RefusedTrade] | None) -> list[Trade] | None:
        root = self._root(message)
        if root is None:
            return None
        # Matchers decide whether it is a trade message at all (None); only after them is a missing key an error.
        for path, matches in self._message_matchers:
            if not matches(_value_at(root, path)):
                return None
        if not self._path:
            for key, matches in self._trade_matchers:
                if not matches(root.get(key)):
                    return None
            return self._read_trades([root], root, refused)
        if self._path[0] not in root:
            return None  # an ack that names the channel
        # One level of the path after the other; each may hold one object or a list of them.
        found: list[Any] = [root]
        for name in self._path:
            found = [each for outer in found for each in _listed(outer[name])]
        for each in found:
            if not isinstance(each, dict):
                reason = f"a trade of {self.channel!r} is {shown(each)}, not an object"
                if refused is None:
                    raise ParseError(reason)
                refused.append(RefusedTrade(self.channel, self._symbol_of({}, root), None, reason))
        found = [each for each in found if isinstance(each, dict)]
        for key, matches in self._trade_matchers:
            if not all(matches(each.get(key)) for each in found):
                return None
        if self._fields.newest_first:
            found.reverse()
        trades = self._read_trades(found, root, refused)
        if self._order is not None and len(trades) > 1:
            trades.sort(key=self._order)
        return trades

    def event_time_ns(self, message: Any) -> int | None:
        """When the exchange sent a message, ns, read from where trade messages have it; None if it is not there."""
        root, key = self._root(message), self._fields.event_time
        if root is None or key is None:
            return None
        try:
            if isinstance(key, tuple) or not self._path:
                time = _value_at(root, key) if isinstance(key, tuple) else root.get(key)
                return None if time is None else self._event_time(time)
            found: list[Any] = [root]
            for name in self._path:
                found = [each for outer in found for each in _listed(outer.get(name)) if isinstance(each, dict)]
            return max([self._event_time(each[key]) for each in found if each.get(key) is not None], default=None)
        except BROKEN:
            return None  # only trades decide whether a message is malformed

    def _read_trades(self, found: list[Any], root: dict[str, Any], refused: list[RefusedTrade] | None) -> list[Trade]:
        if self._skipped:
            found = [each for each in found if not any(matches(each.get(key)) for key, matches in self._skipped)]
        trade_of = self._trade_of
        try:
            return [trade_of(each, root) for each in found]
        except BROKEN as error:
            if refused is None:
                raise self._named(error) from None
        trades: list[Trade] = []
        for each in found:
            try:
                trades.append(trade_of(each, root))
            except BROKEN as error:
                symbol, reason = self._symbol_of(each, root), str(self._named(error))
                refused.append(RefusedTrade(self.channel, symbol, self._time_of(each), reason))
        return trades

    def _named(self, error: Exception) -> Exception:
        return ParseError(f"a trade of {self.channel!r} has no {error}") if type(error) is KeyError else error

    def _symbol_of(self, trade: dict[str, Any], root: dict[str, Any]) -> str | None:
        # Of a trade that cannot be read as a whole.
        key = self._fields.symbol
        symbol = trade.get(key) if isinstance(key, str) else _value_at(root, key)
        return symbol if isinstance(symbol, str) else None

    def _time_of(self, trade: dict[str, Any]) -> int | None:
        try:
            return self._trade_time(trade[self._fields.time])
        except BROKEN:
            return None

    def _root(self, message: Any) -> dict[str, Any] | None:
        if not isinstance(message, dict):
            return None
        envelope = self._fields.envelope
        if envelope is None:
            return message
        root = message.get(envelope, message)
        return root if isinstance(root, dict) else None


def _trade_maker(channel: str, fields: TradeFields) -> Callable[[dict[str, Any], dict[str, Any]], Trade]:
    # A function of a trade and the root of its message; the declaration is evaluated here, not once per trade.
    symbol_key, symbol_path = _key_or_path(fields.symbol)
    sequence_key, sequence_path = _key_or_path(fields.sequence)
    price_key, size_key, time_key, side_key, unique_key = (
        fields.price,
        fields.size,
        fields.time,
        fields.side,
        fields.key,
    )
    first_key, last_key, count_key = fields.first_id, fields.last_id, fields.trade_count
    time_ns_of, side_of = _time_reader(fields.time_unit, fields), _side_reader(fields)
    integer = _integer_reader(fields)

    def trade_of(trade: dict[str, Any], root: dict[str, Any]) -> Trade:
        symbol = trade[symbol_key] if symbol_key is not None else _value_at(root, symbol_path)
        if not isinstance(symbol, str):
            raise ParseError(f"the symbol {shown(symbol)} is not text")
        count = 1 if count_key is None else integer(trade.get(count_key, 1))
        first = last = sequence = None
        if first_key is not None:
            first = last = integer(trade[first_key])
            if last_key is not None:
                last = integer(trade[last_key])
                if count_key is None:
                    count = last - first + 1
        elif last_key is not None:
            last = integer(trade[last_key])
            first = last - count + 1
        if sequence_key is not None:
            sequence = integer(trade[sequence_key])
        elif sequence_path:
            sequence = integer(_value_at(root, sequence_path))
        return make_trade((
            channel, symbol, time_ns_of(trade[time_key]), trade[price_key], trade[size_key],
            0 if side_key is None else side_of(trade[side_key]),
            first, last, count, sequence, None if unique_key is None else _unique(trade[unique_key]),
        ))  # fmt: skip

    return trade_of


def _key_or_path(key: Key | None) -> tuple[str | None, tuple[str, ...]]:
    return (None, key or ()) if not isinstance(key, str) else (key, ())


def _has_numbers_in_text(fields: TradeFields) -> bool:
    # In the message itself, or because `loads` keeps the text of all numbers so as not to lose decimals.
    return fields.integers_in_text or fields.json_numbers or "s" in (fields.time_unit, fields.event_time_unit)


def _integer_reader(fields: TradeFields) -> Callable[[Any], Any]:
    # A bare number is not checked here but by the batch: a trade that the batch refuses is counted as lost.
    return integer_of if _has_numbers_in_text(fields) else lambda value: value


def _time_reader(unit: TimeUnit, fields: TradeFields, latest_ns: int = _MOST_NS) -> Callable[[object], int]:
    if unit == "rfc3339":
        return time_of
    if unit == "s":
        return time_of_seconds
    integer = integer_of if _has_numbers_in_text(fields) else bare_integer_of
    if unit == "ms or us":
        most_us, most_ms = latest_ns // 1_000, latest_ns // 1_000_000

        def read_ms_or_us(value: object) -> int:
            if type(value) is int and 0 <= value <= most_ms and value < _FIRST_US:  # as nearly always
                return value * 1_000_000
            number = integer(value, most_us)
            return number * 1_000 if number >= _FIRST_US else bare_integer_of(number, most_ms) * 1_000_000

        return read_ms_or_us
    factor = UNITS_NS[unit]
    most = latest_ns // factor

    def read_integer(value: object) -> int:
        if type(value) is int and 0 <= value <= most:
            return value * factor
        return integer(value, most) * factor

    return read_integer


def _side_reader(fields: TradeFields) -> Callable[[object], int]:
    bought, sold = _matcher(fields.buy), _matcher(fields.sell)

    def read(value: object) -> int:
        if bought(value):
            return 1
        if sold(value):
            return -1
        raise ParseError(f"the side {shown(value)} is neither {fields.buy!r} nor {fields.sell!r}")

    return read


def _matcher(literals: Literals) -> Callable[[object], bool]:
    # Tests whether a value is one of the literals; a text that ends with "*" matches all that begin with the rest.
    if isinstance(literals, tuple):
        each = [_matcher(literal) for literal in literals]
        return lambda value: any(matches(value) for matches in each)
    if isinstance(literals, bool):
        return partial(operator.is_, literals)
    if literals.endswith("*"):
        start = literals[:-1]
        return lambda value: isinstance(value, str) and value.startswith(start)
    return partial(operator.eq, literals)


def _unique(value: object) -> str:
    if isinstance(value, str):
        return value
    return str(bare_integer_of(value))


def _value_at(root: Any, path: tuple[str, ...]) -> Any:
    # None if there is no such path.
    value = root
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _listed(value: Any) -> Iterable[Any]:
    return value if isinstance(value, list) else [value]


def _key_of_order(fields: TradeFields) -> Callable[[Trade], Any]:
    return _id_of_trade if fields.has_ids else _time_of_trade


def _time_of_trade(trade: Trade) -> int:
    return trade.time_ns


def _id_of_trade(trade: Trade) -> Any:
    return trade.first_id
