"""The engine that fetches candles: spans, pages, answers that are hostile, and clocks that are wrong."""

from __future__ import annotations

import asyncio
import copy
import time
import tracemalloc
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given, strategies as st

from exchange_fixtures import FIXTURES
from fastbars.bars import OHLCVBar
from fastbars.buffer import BarBuffer
from fastbars.errors import ParseError, RestError, SpecError
from fastbars.exchanges import find_exchange
from fastbars.exchanges.candles import grid_of, read_candles
from fastbars.live.connections.limits import RateLimiter
from fastbars.live.past.candles import CandleClient
from fastbars.live.rest import Answer
from fastbars.testing import CandleFixture
from fastbars.ticks import to_nanoseconds

MINUTE_NS = 60 * 10**9
NOW_NS = 1_700_000_000 * 10**9 // MINUTE_NS * MINUTE_NS + 30 * 10**9  # half a minute into a minute


class Klines:
    """Binance's klines: one a minute, of a price that counts the minutes."""

    def __init__(self, *bodies: bytes | Answer) -> None:
        self.asked: list[Mapping[str, str]] = []
        self._first = list(bodies)

    async def __call__(
        self, url: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes | None = None
    ) -> Answer:
        assert url == "https://api.binance.com/api/v3/klines"
        assert headers == {}
        assert body is None
        self.asked.append(query)
        if self._first:
            given = self._first.pop(0)
            return given if isinstance(given, Answer) else Answer(200, None, given)
        since, until, limit = (int(query[name]) for name in ("startTime", "endTime", "limit"))
        rows = [row(open_ms) for open_ms in range(since, until + 1, 60_000)]
        return Answer(200, None, orjson.dumps(rows[:limit]))


def row(open_ms: int, **changed: Any) -> list[Any]:
    price = str(open_ms // 60_000)
    fields = {
        "t": open_ms, "o": price, "h": price, "l": price, "c": price, "v": "2", "T": open_ms + 59_999, "q": "3.5",
        "n": 2, "V": "1", "Q": "1.5", "B": "0",
    }  # fmt: skip
    return list((fields | changed).values())


class Time:
    """A steady clock that sleeping moves, and the exchange's with it."""

    def __init__(self, now_ns: int = NOW_NS) -> None:
        self.now_s = 0.0
        self.start_ns = now_ns
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds
        await asyncio.sleep(0)

    def exchange_ns(self) -> int:
        return self.start_ns + int(self.now_s * 1e9)

    def client(self, get: Any, exchange: Any = None, weight: float = 6000.0) -> CandleClient:
        limiter = RateLimiter(weight, 60.0, now=lambda: self.now_s, sleep=self.sleep)
        exchange = exchange or find_exchange("binance", "spot")
        return CandleClient(exchange, get, limiter, exchange_time_ns=self.exchange_ns, sleep=self.sleep)


async def test_a_span_comes_in_pages_and_the_minute_in_progress_is_no_part_of_it() -> None:
    get, time = Klines(), Time()
    open_ns = NOW_NS // MINUTE_NS * MINUTE_NS
    past = await time.client(get).past("BTCUSDT", "1m", open_ns - 2500 * MINUTE_NS, NOW_NS + MINUTE_NS)
    assert [int(query["limit"]) for query in get.asked] == [1000, 1000, 500]
    assert len(past.candles) == 2500
    assert past[1:] == (open_ns - 2500 * MINUTE_NS, open_ns)
    one = past.candles[-1]
    assert (one.exchange, one.market, one.symbol, one.spec) == ("binance", "spot", "BTCUSDT", "1m")
    assert one.close == Decimal(open_ns // MINUTE_NS - 1)
    assert (one.quote_volume, one.trade_count, one.taker_buy_volume) == (Decimal("3.5"), 2, Decimal(1))
    times = [one.open_time for one in past.candles]
    assert times == sorted(set(times))


def test_a_spec_of_which_bars_can_be_merged_is_the_longest_that_divides_them() -> None:
    client = Time().client(Klines())
    assert client.supports("1mo")
    assert not client.supports("7m")
    assert [client.finest(spec) for spec in ("1m", "7m", "10m", "45m", "1d@Asia/Tokyo", "2w", "1y", "tick:5")] == [
        "1m", "1m", "5m", "15m", None, "1w", "1mo", None,
    ]  # fmt: skip


async def test_a_spec_that_is_not_served_is_an_error_that_lists_those_that_are() -> None:
    with pytest.raises(SpecError, match="binance spot BTCUSDT: no candles of '7m' over REST; those are 1s, 1m, 3m"):
        await Time().client(Klines()).candles("BTCUSDT", "7m", 0, NOW_NS)


async def test_a_candle_that_has_just_ended_is_waited_for() -> None:
    open_ns = NOW_NS // MINUTE_NS * MINUTE_NS
    time, get = Time(open_ns + 5 * 10**8), Klines()
    (one,) = await time.client(get).candles("BTCUSDT", "1m", open_ns - MINUTE_NS, open_ns)
    assert time.slept[0] == 1.5
    assert one.close == open_ns // MINUTE_NS - 1


@pytest.mark.parametrize("late_s", [0, 30, 59])
async def test_what_the_servers_clock_calls_open_is_not_closed(late_s: int) -> None:
    # The clock here is a minute fast: the server says that the last minute is not over.
    open_ns = NOW_NS // MINUTE_NS * MINUTE_NS
    body = orjson.dumps([row((open_ns - MINUTE_NS * n) // 10**6) for n in (2, 1)])
    date_ns = open_ns - MINUTE_NS + late_s * 10**9
    get = Klines(Answer(200, None, body, date_ns))
    past = await Time().client(get).past("BTCUSDT", "1m", open_ns - 2 * MINUTE_NS, open_ns)
    assert [int(one.close) for one in past.candles] == [open_ns // MINUTE_NS - 2]
    assert past.until_ns == open_ns - MINUTE_NS


async def test_a_ban_is_kept_by_all_who_share_the_limit() -> None:
    get, limiter = Klines(Answer(429, 7.0, b"{}")), RateLimiter(6000.0, 60.0)
    client = CandleClient(find_exchange("binance", "spot"), get, limiter, exchange_time_ns=lambda: NOW_NS)
    asked = asyncio.create_task(client.candles("BTCUSDT", "1m", NOW_NS - 3 * MINUTE_NS, NOW_NS))
    while not client.stats.errors:  # noqa: ASYNC110 a turn or two
        await asyncio.sleep(0.001)
    waited_s = await limiter.wait(1.0)  # healing, say
    assert 6.0 < waited_s <= 7.0
    assert len(await asked) == 2
    assert (client.stats.requests, client.stats.errors, client.stats.candles) == (2, 1, 2)


async def test_a_refusal_names_exchange_symbol_and_spec() -> None:
    get = Klines(Answer(400, None, b'{"code":-1121,"msg":"Invalid symbol."}'))
    with pytest.raises(RestError, match=r"binance spot NONE 1m: GET https://api.binance.com/api/v3/klines: HTTP 400"):
        await Time().client(get).candles("NONE", "1m", NOW_NS - 5 * MINUTE_NS, NOW_NS)


# Answers that are hostile.

SINCE_MS = (NOW_NS // MINUTE_NS - 3) * 60_000  # of the first of three minutes that have ended
THREE = [SINCE_MS, SINCE_MS + 60_000, SINCE_MS + 120_000]


def rows_of(*times_ms: int) -> list[list[Any]]:
    return [row(time_ms) for time_ms in times_ms]


def changed(place: int, value: Any) -> bytes:
    """The three rows, with one value of the second changed."""
    rows = rows_of(*THREE)
    rows[1][place] = value
    return orjson.dumps(rows)


HOSTILE = {
    "a candle twice": (orjson.dumps(rows_of(*THREE, THREE[-1])), "is there twice"),
    "out of order": (orjson.dumps(rows_of(THREE[0], THREE[2], THREE[1])), "is out of order"),
    "of another span": (orjson.dumps(rows_of(SINCE_MS - 120_000)), "requested were"),
    "of the future": (orjson.dumps(rows_of(THREE[2] + 120_000)), "requested were"),
    "beyond one end": (orjson.dumps(rows_of(SINCE_MS - 60_000)), "and none of the span requested"),
    "off the grid": (orjson.dumps(rows_of(SINCE_MS + 1)), "where no interval of 1m does"),
    "an end that is none": (changed(0, 9 * 10**18), "is not an integer from 0"),
    "high below low": (changed(2, "1"), "has open"),
    "low above close": (changed(3, str(10**9)), "has open"),
    "a price of zero": (changed(3, "0"), "has open"),
    "a negative volume": (changed(5, "-2"), "has volume -2"),
    "a negative amount": (changed(7, "-2"), "quote volume -2"),
    "takers that bought more than was traded": (changed(9, "2.1"), "of takers that bought 2.1"),
    "a float": (changed(1, 1.5), "not a number written as text"),
    "a number of a million digits": (changed(1, "1" * 10**6), "not a number of at most"),
    "an exponent": (changed(5, "1e999"), "is not between"),
    "a count in words": (changed(8, "many"), "'many' is"),
    "a count below zero": (changed(8, -1), "-1 is not an integer"),
    "a true count": (changed(8, True), "True is not an integer"),
    "null": (changed(4, None), "not a number written as text"),
    "too few values": (orjson.dumps([[SINCE_MS, "1"]]), "cannot be read"),
    "an object": (b'{"code":0}', "not a list"),
    "no JSON": (b"<html>", "cannot be read"),
    "nested deeply": (b"[" * 100_000 + b"]" * 100_000, "cannot be read"),
    "too many bytes": (b" " * (2 * 2**20 + 1), "the limit is 2097152"),
}


@pytest.mark.parametrize("kind", list(HOSTILE))
async def test_a_hostile_answer_is_an_error_that_says_what_is_wrong_and_is_asked_for_again(kind: str) -> None:
    body, why = HOSTILE[kind]
    until_ns = (SINCE_MS + 180_000) * 10**6
    client = Time().client(Klines(*[body] * 6))
    with pytest.raises(RestError, match=r"^binance spot BTCUSDT 1m: GET https://api.*6 attempts") as error:
        await client.candles("BTCUSDT", "1m", SINCE_MS * 10**6, until_ns)
    assert why in str(error.value)
    assert len(str(error.value)) < 700
    good = Time().client(Klines(body))
    assert len(await good.candles("BTCUSDT", "1m", SINCE_MS * 10**6, until_ns)) == 3
    assert (good.stats.requests, good.stats.errors) == (2, 1)


async def test_a_candle_too_many_at_either_end_is_dropped() -> None:
    body = orjson.dumps(rows_of(SINCE_MS - 60_000, *THREE, THREE[-1] + 60_000))
    past = await Time().client(Klines(body)).past("BTCUSDT", "1m", SINCE_MS * 10**6, (SINCE_MS + 180_000) * 10**6)
    assert [int(one.open_time.timestamp()) * 1000 for one in past.candles] == THREE


async def test_newest_first_is_as_good_as_oldest_first() -> None:
    body = orjson.dumps(rows_of(*THREE[::-1]))
    past = await Time().client(Klines(body)).past("BTCUSDT", "1m", SINCE_MS * 10**6, (SINCE_MS + 180_000) * 10**6)
    assert [int(one.open_time.timestamp()) * 1000 for one in past.candles] == THREE


async def test_a_server_that_sends_one_candle_a_page_is_still_read_to_the_end() -> None:
    bodies = [orjson.dumps(rows_of(time_ms)) for time_ms in THREE]
    client = Time().client(Klines(*bodies))
    past = await client.past("BTCUSDT", "1m", SINCE_MS * 10**6, (SINCE_MS + 180_000) * 10**6)
    assert len(past.candles) == client.stats.requests == 3


@pytest.mark.parametrize("bound", [-(10**30), -1, 0, 10**30])
async def test_odd_bounds_are_spans_without_candles(bound: int) -> None:
    get = Klines()
    past = await Time().client(get).past("BTCUSDT", "1m", bound if bound > 0 else 0, min(bound, 10**30))
    assert past.candles == []
    assert get.asked == []


async def test_what_the_exchange_calls_open_is_not_closed_whatever_the_clock_says() -> None:
    # The clock here is ten minutes fast; Kraken's last row is the one in progress.
    rows = [[time_ms // 1000, "1", "2", "1", "2", "1.5", "3", 2] for time_ms in THREE]
    body = orjson.dumps({"error": [], "result": {"XXBTZUSD": rows, "last": 0}})

    async def get(url: str, query: Mapping[str, str], headers: Mapping[str, str], body_: bytes | None = None) -> Answer:
        return Answer(200, None, body)

    client = Time(NOW_NS + 10 * MINUTE_NS).client(get, find_exchange("kraken"))
    past = await client.past("BTC/USD", "1m", SINCE_MS * 10**6, NOW_NS + 10 * MINUTE_NS)
    assert [int(one.open_time.timestamp()) * 1000 for one in past.candles] == THREE[:2]
    assert past.until_ns == THREE[2] * 10**6


async def test_a_refusal_in_an_answer_of_status_200_is_permanent() -> None:
    asked = []

    async def get(url: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes | None = None) -> Answer:
        asked.append(url)
        return Answer(200, None, b'{"retCode":10001,"retMsg":"params error: symbol invalid","result":{}}')

    client = Time().client(get, find_exchange("bybit", "linear"))
    why = r"^bybit linear NONE 1m: 'params error: symbol invalid' \(code 10001\)"
    with pytest.raises(RestError, match=why) as error:
        await client.candles("NONE", "1m", SINCE_MS * 10**6, NOW_NS)
    assert error.value.permanent
    assert len(asked) == 1


async def test_healing_goes_first() -> None:
    limiter = RateLimiter(10.0, 60.0)
    passed: list[str] = []

    async def ask(name: str, *, goes_first: bool) -> None:
        await (limiter.wait(4.0) if goes_first else limiter.wait_behind(4.0))
        passed.append(name)

    await ask("candles 1", goes_first=False)  # 4 of 10; a quarter is left to others, so another 4 would be too much
    waiting = [asyncio.create_task(ask(f"candles {n}", goes_first=False)) for n in (2, 3)]
    await asyncio.sleep(0)
    await asyncio.gather(*waiting, *(asyncio.create_task(ask(f"healing {n}", goes_first=True)) for n in (1, 2)))
    assert passed[:2] == ["candles 1", "healing 1"]
    assert passed.index("healing 2") < passed.index("candles 3")


async def test_no_more_requests_at_once_than_the_exchange_allows() -> None:
    at_once, most = 0, 0

    async def get(url: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes | None = None) -> Answer:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0)
        at_once -= 1
        return Answer(200, None, b"[]")

    client = Time().client(get)
    spans = [client.candles(f"S{n}", "1m", SINCE_MS * 10**6, NOW_NS) for n in range(20)]
    assert await asyncio.gather(*spans) == [[]] * 20
    assert most == client.history.at_once == 4


# Numbers and types that make no sense, anywhere in the documented answer of every venue.

RAW = [
    b"1E999999999", b"-1", b"1.5", b"true", b"null", b"[]", b"{}", b"9" * 5_000, b'"NaN"', b'"-5"', b'""', b'"x"',
    b'"1E-999999999"', b'"' + b"9" * 5_000 + b'"', '"\u0663"'.encode(), b'"1_0"', b"[" * 200 + b"]" * 200,
]  # fmt: skip
CASES = [(name, case) for name, fixtures in FIXTURES.items() for case in fixtures.past_candles]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value in a decoded answer."""
    found = [path] if path else []
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            found += places(value[key], (*path, key))
    return found


@pytest.mark.parametrize(("name", "case"), CASES, ids=[f"{name}-{case.symbol}" for name, case in CASES])
def test_absurd_values_in_an_answer_are_errors_or_change_only_what_they_stand_for(
    name: str, case: CandleFixture
) -> None:
    exchange = FIXTURES[name].exchange
    history = exchange.candle_history
    assert history is not None
    ask = history.ask(case.symbol, case.spec, case.since_ns, case.until_ns, case.until_ns)
    answer = orjson.loads(case.body)
    tracemalloc.start()
    since_s, read, made = time.thread_time(), 0, 0
    for *way, last in places(answer):
        changed_answer = copy.deepcopy(answer)
        inner = changed_answer
        for key in way:
            inner = inner[key]
        inner[last] = "!!"
        written = orjson.dumps(changed_answer)
        for raw in RAW:
            made += 1
            try:
                candles = list(read_candles(history, ask, written.replace(b'"!!"', raw), negative_prices=False))
            except (ParseError, RestError):
                continue
            read += 1
            for one in candles:
                assert 0 < one.low <= min(one.open, one.close) <= max(one.open, one.close) <= one.high
                assert one.volume >= 0
                assert case.since_ns <= to_nanoseconds(one.open_time) < case.until_ns
                assert max(len(str(value)) for value in (one.open, one.high, one.volume)) <= 128
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert read < made * 0.6  # what stands where nothing is read changes nothing
    assert peak < 8_000_000
    assert time.thread_time() - since_s < 5.0


# Declarations.


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"page_size": 0}, "page_size must be 1 to 6000, got 0"),
        ({"page_size": 6001}, "page_size must be 1 to 6000, got 6001"),
        ({"intervals": {}}, "intervals is empty"),
        ({"intervals": {"01m": "1m"}}, "intervals has '01m', which bars write '1m'"),
        ({"intervals": {"tick:5": "1m"}}, "has no intervals of a fixed length"),
        ({"intervals": {"1d@Asia/Tokyo": "1d"}}, "has no intervals of a fixed length"),
        ({"intervals": {"soon": "1m"}}, "bar spec 'soon'"),
    ],
)
def test_an_endpoint_that_cannot_be_is_refused_where_it_is_declared(changes: dict[str, Any], why: str) -> None:
    history = find_exchange("kraken").candle_history
    assert history is not None
    with pytest.raises(ValueError, match=why):
        replace(history, **changes)


def test_what_is_no_endpoint_is_refused_with_the_class() -> None:
    kind = type(find_exchange("kraken"))
    with pytest.raises(TypeError, match=r"Mine.candle_history must be CandleHistory\(...\), or None, got 7"):
        type("Mine", (kind,), {"candle_history": 7})
    with pytest.raises(TypeError, match=r"Mine\.history is not an attribute .*; CandleHistory is for candle_history"):
        type("Mine", (kind,), {"history": find_exchange("kraken").candle_history})


def test_a_region_has_candles_of_its_own_host_and_a_limit_of_its_own() -> None:
    for name, market, url in (
        ("bybit", "linear@tr", "https://api.bybit.tr"), ("okx", "spot@eea", "https://eea.okx.com"),
    ):  # fmt: skip
        history, common = (find_exchange(name, one).candle_history for one in (market, market.partition("@")[0]))
        assert history is not None
        assert common is not None
        assert history.api.url == url
        assert history.api.budget_name != common.api.budget_name
        assert replace(history, api=common.api) == common


async def test_an_exchange_without_candles_over_rest_says_so() -> None:
    exchange = copy.copy(find_exchange("kraken"))
    exchange.candle_history = None
    with pytest.raises(RestError, match=r"^kraken spot serves no candles over REST$"):
        Time().client(Klines(), exchange)


# The grid.


@given(
    spec=st.sampled_from(["1s", "1m", "7m", "4h", "1d", "1w", "2w", "1mo", "5mo", "1y"]),
    time_ns=st.integers(10**17, 3 * 10**18), count=st.integers(0, 20),
)  # fmt: skip
def test_the_grid_is_where_bars_begin(spec: str, time_ns: int, count: int) -> None:
    grid = grid_of(spec)
    (bar,) = _bars_at(spec, time_ns)
    open_ns, close_ns = to_nanoseconds(bar.open_time), to_nanoseconds(bar.close_time)
    assert grid.floor(time_ns) == open_ns
    assert grid.shift(open_ns, 1) == close_ns
    assert grid.ceil(time_ns) == (open_ns if time_ns == open_ns else close_ns)
    assert grid.count(open_ns, grid.shift(open_ns, count)) == count
    assert close_ns - open_ns <= grid.longest_ns
    assert grid.shift(grid.shift(open_ns, count), -count) == open_ns


def _bars_at(spec: str, time_ns: int) -> list[OHLCVBar]:
    buffer = BarBuffer(spec)
    buffer.add("A", time_ns, "1", "1", time_unit="ns")
    return buffer.flush_all()
