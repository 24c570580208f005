"""Tests of WebSocket messages with absurd numbers and types: each costs next to nothing, and the session goes on.

Every value in every message of every exchange's fixtures is replaced by what no exchange sends.
"""

from __future__ import annotations

import copy
import json
import random
import time
import tracemalloc
from collections.abc import Iterator
from decimal import Context, Decimal, Overflow, localcontext
from typing import Any

import orjson
import pytest

from exchange_fixtures import FIXTURES
from fastbars import KrakenWebSocketAdapter, StreamConfig, TickData
from fastbars.bars import ExchangeBar
from fastbars.events import MarketDataEvent, Quote, Ticker
from fastbars.exchanges import find_exchange
from fastbars.live.callbacks import Callbacks
from fastbars.live.session import Session
from fastbars.testing import ExchangeFixtures
from servers import START_NS, TradeServer, until

NUMBERS = [b"1E999999999", b"1E-999999999", b"1e400", b"-1", b"0.1", b"9" * 5_000, b"9" * 30, b"0", b"true", b"null"]
TEXTS = [
    "1E999999999", "1E99999999999", "1E-999999999", "9" * 5_000, "9" * 2_000 + ".5", "0." + "1" * 2_000, "NaN", "-1",
    "", "x" * 3_000, "x", "volume:1E999999999", "9999999999y", "M" * 3_000, "2026-13-45T99:99:99Z",
    "9999-12-31T23:59:59.999999999Z", "\u0663", "{}", "a.b" * 1_000, "\ud7ff\u0000",
]  # fmt: skip
HOSTILE = [*NUMBERS, b"[]", b"{}", b"[[[]]]", *map(orjson.dumps, TEXTS)]
MARK = "!!hostile!!"
SAMPLE = 5  # of them, for each place
# Markets that read messages in ways of their own.
NAMES = [name for name in FIXTURES if name not in ("binance us", "bybit linear")]


def places(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if way:
        yield way
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*way, key))


def mutants(fixtures: ExchangeFixtures, draw: random.Random) -> Iterator[bytes]:
    for payload in fixtures.payloads():
        try:
            message = json.loads(payload, parse_float=str)
        except ValueError:
            continue
        for *way, last in places(message):
            changed = copy.deepcopy(message)
            inner = changed
            for key in way:
                inner = inner[key]
            inner[last] = MARK
            before, _, after = orjson.dumps(changed).partition(orjson.dumps(MARK))
            for hostile in draw.sample(HOSTILE, SAMPLE):
                yield before + hostile + after


def session_of(fixtures: ExchangeFixtures, heard: list[Any]) -> Session:
    def hear(event: MarketDataEvent) -> None:
        heard.append(event.data)

    callbacks = Callbacks(on_event=hear)
    return Session(fixtures.exchange, StreamConfig(bars="1m"), callbacks, channel=fixtures.exchange.default_channel)


@pytest.mark.parametrize("name", NAMES)
def test_hostile_values_anywhere_in_any_message_cost_nothing_and_the_session_goes_on(name: str) -> None:
    fixtures, heard = FIXTURES[name], list[Any]()
    session = session_of(fixtures, heard)
    hostile = list(mutants(fixtures, random.Random(name)))
    slowest_s = 0.0
    for payload in hostile:
        since = time.thread_time()
        received = session.receive([payload], START_NS)
        slowest_s = max(slowest_s, time.thread_time() - since)
        assert received.errors <= 1
    assert slowest_s < 0.25  # a collection of garbage may fall into one of them
    for data in heard:
        if isinstance(data, ExchangeBar | Quote | Ticker | TickData):
            for value in (getattr(data, field) for field in data.__slots__):
                if isinstance(value, Decimal):
                    assert len(f"{value:f}") <= 256
    # What is good is read as before.
    before = session.stats.parse_errors, session.stats.invalid_json
    for good, _ in fixtures.trades:
        assert session.receive([good.encode()], START_NS).errors == 0
    assert (session.stats.parse_errors, session.stats.invalid_json) == before


@pytest.mark.parametrize("name", NAMES)
def test_hostile_values_take_no_memory(name: str) -> None:
    fixtures = FIXTURES[name]
    session = session_of(fixtures, [])
    hostile = list(mutants(fixtures, random.Random(name)))
    draw = random.Random(1)
    tracemalloc.start()
    try:
        for payload in draw.sample(hostile, min(len(hostile), 300)):
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            session.receive([payload], START_NS)
            _, peak = tracemalloc.get_traced_memory()
            assert peak - before < 1_000_000, payload[:300]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("depth", [900, 100_000])
def test_messages_nested_deeply_are_unreadable_and_no_more(name: str, depth: int) -> None:
    session = session_of(FIXTURES[name], [])
    nested = [b"[" * depth + b"]" * depth, b'{"data":' * depth + b"0" + b"}" * depth]
    received = session.receive(nested, START_NS)
    assert received.errors == session.stats.invalid_json <= 2
    assert session.stats.messages == 2


# The number that ended a stream.

KRAKEN_TICKER = (
    '{{"channel":"ticker","type":"update","data":[{{"symbol":"ALGO/USD","bid":0.10025,"bid_qty":740.0,"ask":0.10036,'
    '"ask_qty":1361.44813783,"last":{last},"volume":997038.98383185,"vwap":0.10148,"low":0.09979,"high":0.10285,'
    '"change":{change},"change_pct":-0.17}}]}}'
)


@pytest.mark.parametrize("number", ["1E99999999999", "1E999999", "-1E999999", "1E400", "9" * 2_000])
@pytest.mark.parametrize("place", ["last", "change"])
def test_a_kraken_number_beyond_any_range_is_a_parse_error(number: str, place: str) -> None:
    heard: list[Any] = []
    session = session_of(FIXTURES["kraken"], heard)
    numbers = {"last": "0.10035", "change": "-0.00017"} | {place: number}
    received = session.receive([KRAKEN_TICKER.format(**numbers).encode()], START_NS)
    assert (received.errors, session.stats.parse_errors, heard) == (1, 1, [])


def test_the_callers_decimal_context_neither_raises_nor_rounds() -> None:
    for context in (Context(prec=3), Context(prec=3, Emax=1, Emin=-1, traps=[Overflow])):
        heard: list[Any] = []
        session = session_of(FIXTURES["kraken"], heard)
        with localcontext(context):
            payload = KRAKEN_TICKER.format(last="12345.678901", change="0.000001")
            assert session.receive([payload.encode()], START_NS).errors == 0
        assert heard[0].open == Decimal("12345.678900")


async def test_numbers_beyond_any_range_trip_the_breaker_and_the_stream_goes_on() -> None:
    config = StreamConfig(reconnect_delay=0.01, reconnect_max_delay=0.02, close_by="trades")
    async with TradeServer(answer=lambda _: None) as server:
        adapter = KrakenWebSocketAdapter(config, url=server.url)
        await adapter.connect()
        bad = KRAKEN_TICKER.format(last="1E99999999999", change="1").encode()
        await server.send(*[bad] * 9)
        await until(lambda: adapter.session.stats.parse_errors == 9)
        assert adapter.is_connected
        await server.send(bad)
        await until(lambda: adapter.stats().breaker_trips == 1 and len(server.accepted_s) == 2)
        assert adapter.is_connected
        await adapter.disconnect()


# A user's parser.


class CustomError(Exception):
    """No error that anyone would know of."""


@pytest.mark.parametrize(
    "error", [CustomError, RecursionError, MemoryError, Overflow, StopIteration, AssertionError, ZeroDivisionError]
)
def test_whatever_a_users_parser_raises_is_a_parse_error(error: type[Exception]) -> None:
    def parse(_: dict[str, Any]) -> TickData | None:
        raise error

    session = Session(find_exchange("binance"), StreamConfig(bars="1m"), channel="trade", parse_message=parse)
    assert session.receive([b'{"e":"trade"}'] * 3, START_NS).errors == 3
    assert session.stats.parse_errors == 3


@pytest.mark.parametrize("result", ["text", 5, [], {"symbol": "A"}, object()])
def test_whatever_a_users_parser_returns_that_is_no_trade_is_a_parse_error(result: Any) -> None:
    session = Session(
        find_exchange("binance"), StreamConfig(bars="1m"), channel="trade", parse_message=lambda _: result
    )
    assert session.receive([b'{"e":"trade"}'], START_NS).errors == 1


def test_a_users_parser_may_give_numbers_of_any_exponent() -> None:
    def parse(_: dict[str, Any]) -> TickData | None:
        return TickData("A", START_NS, Decimal("1E+999999"), "1", trade_id=1)

    session = Session(find_exchange("binance"), StreamConfig(bars="1m"), channel="trade", parse_message=parse)
    since = time.thread_time()
    session.receive([b"{}"], START_NS)
    assert time.thread_time() - since < 0.1
    assert session.buffer_stats.refused == 1
