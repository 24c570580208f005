"""The engine that fetches candles: spans, pages, answers that are hostile, and clocks that are wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import orjson
import pytest

from fastbars.errors import RestError, SpecError
from fastbars.exchanges import find_exchange
from fastbars.live.connections.limits import RateLimiter
from fastbars.live.past.candles import CandleClient
from fastbars.live.rest import Answer

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
    time, get = Time(), Klines(Answer(429, 7.0, b"{}"))
    open_ns = NOW_NS // MINUTE_NS * MINUTE_NS
    client = time.client(get)
    assert len(await client.candles("BTCUSDT", "1m", open_ns - 3 * MINUTE_NS, open_ns)) == 3
    assert time.now_s >= 7.0
    assert (client.stats.requests, client.stats.errors, client.stats.candles) == (2, 1, 3)


async def test_a_refusal_names_exchange_symbol_and_spec() -> None:
    get = Klines(Answer(400, None, b'{"code":-1121,"msg":"Invalid symbol."}'))
    with pytest.raises(RestError, match=r"binance spot NONE 1m: GET https://api.binance.com/api/v3/klines: HTTP 400"):
        await Time().client(get).candles("NONE", "1m", NOW_NS - 5 * MINUTE_NS, NOW_NS)
