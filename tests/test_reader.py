"""The reader in Python: what it reads of declared messages, and a seeded differential of the scanner beside it.

FASTBARS_DIFFERENTIAL_CASES=10000 runs that many; about a thousand are drawn unless it is set.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from declared import FIELDS, MESSAGES
from exchange_fixtures import FIXTURES
from fastbars.errors import FastbarsError, ParseError
from fastbars.exchanges.checked import BROKEN
from fastbars.exchanges.messages import Trade
from fastbars.exchanges.reader import TradeReader
from fastbars.kernel.batch import TickBatch
from fastbars.kernel.instruments import Instruments
from fastbars.kernel.recent import RecentKeys
from fastbars.wire.fields import TradeFields
from fastbars.wire.scanner import TradeScanner

CASES = int(os.environ.get("FASTBARS_DIFFERENTIAL_CASES", "1000"))

Loads = Callable[[bytes], Any]


def as_text(payload: bytes) -> Any:
    orjson.loads(payload)
    return json.loads(payload, parse_float=str, parse_int=str)


# Kind -> where the trades stand, how messages are decoded, and some messages.
KINDS: dict[str, tuple[TradeFields, Loads, list[bytes]]] = {
    name: (fields, as_text if fields.json_numbers or fields.time_unit == "s" else orjson.loads, [MESSAGES[name]])
    for name, fields in FIELDS.items()
}
for _name, _fixtures in FIXTURES.items():
    for _channel in _fixtures.exchange.trade_channels:
        _declared = _fixtures.exchange.fields(_channel)
        _payloads = [
            payload.encode()
            for payload, meaning in _fixtures.trades
            if any(isinstance(item, Trade) and item.channel == _channel for item in meaning)
        ]
        if _declared is not None and _payloads:
            KINDS[f"{_name} {_channel} of the exchange"] = _declared, _fixtures.exchange.loads, _payloads


class Rows:
    """A batch, and its rows in comparable form."""

    def __init__(self, fields: TradeFields) -> None:
        self.instruments = Instruments("test")
        ids = fields.first_id is not None or fields.last_id is not None
        self.batch = TickBatch(self.instruments, ids=ids, counts=True, sequences=True)

    def values(self) -> list[Any]:
        names = ("time_ns", "symbol_id", "price", "size", "side", "first_id", "last_id", "count", "sequence")
        columns = [column.tolist() for name in names if (column := self.batch.column(name)) is not None]
        symbols = self.instruments.symbols
        return [columns, symbols, [self.batch.scales(symbol) for symbol in symbols]]


def scanned(fields: TradeFields, payload: bytes) -> tuple[list[Any], int | None] | None:
    rows = Rows(fields)
    scanner = TradeScanner(fields, rows.batch, rows.instruments.add)
    return (rows.values(), scanner.take_event_time()) if scanner.scan(payload) else None


def read(fields: TradeFields, loads: Loads, payload: bytes) -> tuple[list[Any], int | None] | None:
    rows, recent, reader = Rows(fields), RecentKeys(), TradeReader("c", fields)
    try:
        message = loads(payload)
        trades = reader.read(message)
        if trades is None:
            return None
        for trade in trades:
            if trade.key is None or recent.add(rows.instruments.add(trade.symbol), trade.key, trade.time_ns):
                rows.batch.append(*trade.row)
    except (*BROKEN, FastbarsError):
        return None
    return rows.values(), reader.event_time_ns(message)


NUMBERS = [
    "0",
    "1",
    "0.1",
    "2.50",
    "1e3",
    "1.5E-7",
    "12345678.12345678",
    "00.5",
    "-1",
    "1e30",
    "",
    "x",
    "123456789" * 2,
]
INTEGERS = [0, 1, 41, 10**14, 10**14 - 1, 2**53, 10**18 - 1, 10**18, -1, 1.5, 4_600_000_000_000_000_001]
TEXTS = ["buy", "sell", "SELL", "A/B", "\u5e01", 'q"', "x" * 300, "", "2026-01-01T00:00:05.25Z", "1969-12-31T23:59:59Z"]


def varied(value: Any, draw: random.Random) -> Any:
    """Another value of the same kind, mostly; now and then of any kind, or the same message in another shape."""
    if isinstance(value, dict):
        pairs = [(key, varied(each, draw)) for key, each in value.items() if draw.random() > 0.01]
        if draw.random() < 0.3:
            draw.shuffle(pairs)
        if draw.random() < 0.2:
            pairs.append((draw.choice(["zz", "", "a longer name than eight"]), draw.choice([None, [], {}, 1.5, "\n"])))
        return dict(pairs)
    if isinstance(value, list):
        most = 3 if value and isinstance(value[0], dict) and draw.random() < 0.4 else 1
        return [
            varied(each, draw) for each in value for _ in range(draw.randint(0 if draw.random() < 0.02 else 1, most))
        ]
    if draw.random() < 0.85:
        return value
    if isinstance(value, bool):
        return draw.choice([True, False, None, 0, "true"])
    if isinstance(value, int):
        return value + draw.randint(-3, 3) if draw.random() < 0.7 else draw.choice(INTEGERS)
    if isinstance(value, str) and value[:1].isdigit() and draw.random() < 0.8:
        if value.isdigit() and draw.random() < 0.7:
            return str(int(value) + draw.randint(-3, 3))
        return draw.choice(NUMBERS)
    return draw.choice([*TEXTS, *TEXTS, None, 5, {}, []])


def payload_of(kind: str, draw: random.Random) -> bytes:
    _, _, payloads = KINDS[kind]
    message = varied(json.loads(draw.choice(payloads), parse_float=lambda text: f"#{text}"), draw)
    separators = draw.choice([(",", ":"), (", ", ": "), ("\n,", "\t:")])
    text = json.dumps(message, separators=separators, ensure_ascii=draw.random() < 0.5)
    payload = re_number(text).encode()
    if draw.random() < 0.05:
        at = draw.randrange(len(payload))
        payload = payload[:at] + bytes([draw.randrange(256)]) + payload[at + 1 :]
    return payload


def re_number(text: str) -> str:
    """Numbers with decimals back to how they were written."""
    parts = text.split('"#')
    return parts[0] + "".join(part.replace('"', "", 1) for part in parts[1:])


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_scanner_takes_is_what_the_reader_reads(kind: str) -> None:
    fields, loads, _ = KINDS[kind]
    taken = 0
    cases = max(1, CASES // len(KINDS))
    for case in range(cases):
        payload = payload_of(kind, random.Random(f"{kind} {case}"))
        outcome = scanned(fields, payload)
        if outcome is not None:
            taken += 1
            assert read(fields, loads, payload) == outcome, payload
    assert cases // 20 < taken < cases  # neither all left nor all taken


@pytest.mark.parametrize("kind", KINDS)
def test_the_documented_messages_are_read(kind: str) -> None:
    fields, loads, payloads = KINDS[kind]
    for payload in payloads:
        assert read(fields, loads, payload) is not None


LEAST: dict[str, Any] = {"match": {("kind",): "trades"}, "trades": ("data",), "symbol": "s", "price": "p", "size": "q"}


def one(number: int, **more: Any) -> dict[str, Any]:
    return {"s": "AB", "p": "1", "q": "2", "t": number} | more


def message(*trades: Any) -> dict[str, Any]:
    return {"kind": "trades", "data": list(trades)}


def test_trades_come_in_the_order_of_their_ids() -> None:
    reader = TradeReader("c", TradeFields(**LEAST, time="t", first_id="i"))
    trades = reader.read(message(one(7, i=3), one(9, i=1), one(8, i=2)))
    assert trades is not None
    assert [(trade.first_id, trade.time_ns) for trade in trades] == [(1, 9_000_000), (2, 8_000_000), (3, 7_000_000)]


def test_trades_whose_ids_do_not_rise_come_in_the_order_of_time_and_else_as_they_were_sent() -> None:
    reader = TradeReader("c", TradeFields(**LEAST, time="t", key="i"))
    trades = reader.read(message(one(7, i="c"), one(5, i="b"), one(7, i="a")))
    assert trades is not None
    assert [trade.key for trade in trades] == ["b", "c", "a"]


def test_newest_first_is_turned_round() -> None:
    reader = TradeReader("c", TradeFields(**LEAST, time="t", newest_first=True))
    assert [trade.time_ns for trade in reader.read(message(one(2), one(1))) or ()] == [1_000_000, 2_000_000]


def test_the_first_id_is_worked_out_from_the_last_one_and_the_count() -> None:
    reader = TradeReader("c", TradeFields(**LEAST, time="t", last_id="i", trade_count="n"))
    first, second = reader.read(message(one(1, i=9, n=3), one(1, i=10))) or []
    assert (first.first_id, first.last_id, first.trade_count) == (7, 9, 3)
    assert (second.first_id, second.last_id, second.trade_count) == (10, 10, 1)


@pytest.mark.parametrize(
    "other", [{"kind": "books", "data": [one(1)]}, {"data": [one(1)]}, {"kind": "trades"}, [], "trades", None, 5]
)
def test_what_is_no_trade_message_is_not_read(other: Any) -> None:
    assert TradeReader("c", TradeFields(**LEAST, time="t")).read(other) is None


def test_a_trade_message_without_a_trade_is_empty_and_not_unknown() -> None:
    assert TradeReader("c", TradeFields(**LEAST, time="t")).read(message()) == []


@pytest.mark.parametrize(
    ("trade", "why"),
    [
        ({"s": "AB", "p": "1", "t": 1}, "a trade of 'c' has no 'q'"),
        (one(1, s=5), "the symbol 5 is not text"),
        (one(1, side="hold"), "the side 'hold' is neither 'buy' nor 'sell'"),
        (one(1, t="1"), "'1' is text, not an integer"),
        (one(1, t=-1), "-1 is not an integer"),
        (one(1, t=True), "True is not an integer"),
    ],
)
def test_a_trade_message_that_is_not_as_declared_is_an_error_that_says_why(trade: dict[str, Any], why: str) -> None:
    reader = TradeReader("c", TradeFields(**LEAST, time="t", side="side", buy="buy", sell="sell"))
    with pytest.raises(ParseError, match=f"^{why}"):
        reader.read(message({"side": "buy"} | trade))
