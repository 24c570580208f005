"""Candles over REST on every venue of the simulator, against the market's own trades: pages, faults, sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from copy import copy
from dataclasses import replace
from decimal import Context, Decimal, localcontext
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

import orjson
import pytest
from hypothesis import given, settings, strategies as st

from examples import examples
from fastbars.bars import ExchangeBar
from fastbars.clocks import wall_ns
from fastbars.exchanges import EXCHANGES, find_exchange
from fastbars.exchanges.candles import grid_of
from fastbars.live.connections.limits import RateLimiter
from fastbars.live.past.candles import CandleClient
from fastbars.live.rest import Answer, RestClient
from fastbars.simulator import SimulatedExchange
from fastbars.simulator.candles import EXACT, Candle, CandleBook
from fastbars.simulator.dialects import find_dialect
from fastbars.simulator.market import SimulatedMarket, SimulatedTrade
from fastbars.simulator.past_candles import SimulatedCandles
from fastbars.simulator.rest import RestFault

VENUES = [
    (venue, market)
    for venue, markets in EXCHANGES.items()
    for market, exchange in markets.items()
    if exchange.candle_history is not None
]
MARKETS = [*VENUES, ("bybit", "linear@eu"), ("okx", "spot@eea")]
# Of the fields that a candle may have, those of the oracle, in this order.
FIELDS = ("open", "high", "low", "close", "volume", "quote_volume", "trade_count", "taker_buy_volume",
          "taker_buy_quote_volume")  # fmt: skip
HOURS = 13  # more than Kraken's 720 minutes
NOW_MS = 1_700_000_000_000 // 60_000 * 60_000 + 30_000
DIGITS = Context(prec=60)

Row = tuple[Any, ...]


def truth(trades: list[tuple[int, Decimal, Decimal, bool]], spec: str, contract_usd: int | None) -> dict[int, Row]:
    """Open time in ns -> the fields of each interval with trades, from (ms, price, size, whether the taker sold)."""
    grid, made = grid_of(spec), dict[int, list[Any]]()
    for time_ms, price, size, sold in trades:
        row = made.setdefault(grid.floor(time_ms * 10**6), [price, price, price, price, 0, 0, 0, 0, 0])
        amount = DIGITS.multiply(price, size) if contract_usd is None else size * contract_usd
        row[1:4] = max(row[1], price), min(row[2], price), price
        row[4:7] = row[4] + size, DIGITS.add(row[5], amount), row[6] + 1
        if not sold:
            row[7:9] = row[7] + size, DIGITS.add(row[8], amount)
    return {open_ns: tuple(row) for open_ns, row in made.items()}


def opened_at_the_previous_close(rows: dict[int, Row]) -> dict[int, Row]:
    made, close = {}, None
    for open_ns, (open_, high, low, last, *rest) in sorted(rows.items()):
        first = open_ if close is None else close
        made[open_ns] = (first, max(high, first), min(low, first), last, *rest)
        close = last
    return made


def checked(candles: list[ExchangeBar], rows: dict[int, Row], venue: str, lacks: tuple[str, ...]) -> None:
    """That these candles are the rows, in order, in all fields but those that the venue lacks."""
    assert [one.open_time.timestamp() for one in candles] == [open_ns / 1e9 for open_ns in sorted(rows)]
    for one, (_, row) in zip(candles, sorted(rows.items()), strict=True):
        for name, wanted in zip(FIELDS, row, strict=True):
            got = getattr(one, name)
            assert got == (None if name in lacks else wanted), (venue, one.open_time, name, got, wanted)
            assert (got is None) == (name in lacks), (venue, name)


class Venue(NamedTuple):
    """The market of a venue without a socket: what its candles are, and who serves them."""

    symbol: str
    trades: list[tuple[int, Decimal, Decimal, bool]]
    seconds: dict[str, dict[int, Candle]]
    contract_usd: int | None
    dialect: Any


@cache
def venue_of(name: str, market: str, hours: int = HOURS, rate: float = 0.03) -> Venue:
    kind = find_dialect(name)
    market, instruments = kind.list_market(market, 1)
    start_ms = NOW_MS - hours * 3_600_000
    traded = SimulatedMarket(instruments, rate, 7, start_ms)
    (instrument,) = instruments
    made: dict[int, list[SimulatedTrade]] = {}
    for trade in traded.advance(NOW_MS):
        made.setdefault(trade.time_ms // 1000 * 1000, []).append(trade)
    seconds = {}
    with localcontext(EXACT):
        for open_ms, trades in made.items():
            book = CandleBook(instrument, open_ms)
            for trade in trades:
                book.add(trade)
            seconds[open_ms] = book.running("1s")
    sizes = [
        (one.time_ms, instrument.tick_size * one.price_ticks, instrument.step_size * one.size_steps, one.buyer_is_maker)
        for each in made.values()
        for one in each
    ]
    dialect = kind(market, instruments, traded.books)
    return Venue(instrument.symbol, sizes, {instrument.symbol: seconds}, instrument.contract_size, dialect)


class Clock:
    """The exchange's clock, which sleeping moves."""

    def __init__(self, now_ms: int = NOW_MS) -> None:
        self.now_s = 0.0
        self._start_ms = now_ms

    async def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        await asyncio.sleep(0)

    def ns(self) -> int:
        return self._start_ms * 10**6 + int(self.now_s * 1e9)

    def ms(self) -> int:
        return self.ns() // 10**6


def client_of(
    name: str, market: str, venue: Venue, page_size: int | None = None, weight: float = 1e9
) -> tuple[CandleClient, SimulatedCandles, Clock]:
    """A client of a venue without a socket."""
    clock = Clock()
    served = SimulatedCandles(venue.dialect.past_candles, venue.seconds.__getitem__, clock.ms)

    async def get(url: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes | None = None) -> Answer:
        target = urlsplit(url).path + (f"?{urlencode(query)}" if query else "")
        answer = served.answer(target, (body or b"").decode(), headers)
        assert answer is not None, target
        await clock.sleep(answer.delay_s)
        return Answer(answer.status, answer.retry_after_s, answer.body, clock.ms() // 1000 * 10**9)

    exchange = copy(find_exchange(name, market))
    history = exchange.candle_history
    assert history is not None
    if page_size is not None:
        object.__setattr__(exchange, "candle_history", replace(history, page_size=page_size))
    limiter = RateLimiter(weight, 60.0, now=lambda: clock.now_s, sleep=clock.sleep)
    return CandleClient(exchange, get, limiter, exchange_time_ns=clock.ns, sleep=clock.sleep), served, clock


def expected(name: str, market: str, venue: Venue, spec: str, since_ns: int, until_ns: int) -> dict[int, Row]:
    rows = truth(venue.trades, spec, venue.contract_usd)
    if find_exchange(name, market).candle_open == "previous close":
        rows = opened_at_the_previous_close(rows)
    return {open_ns: row for open_ns, row in rows.items() if since_ns <= open_ns < until_ns}


@pytest.mark.parametrize(("name", "market"), MARKETS)
async def test_all_candles_of_a_venue_are_its_trades_summed_up(name: str, market: str) -> None:
    venue = venue_of(name, market.partition("@")[0])
    client, served, _ = client_of(name, market, venue)
    for spec in client.history.intervals:
        hours = 0.5 if spec == "1s" else 14
        since_ns = 0 if client.history.reach_bars else int(NOW_MS - hours * 3_600_000) * 10**6
        past = await client.past(venue.symbol, spec, since_ns, NOW_MS * 10**6)
        rows = expected(name, market, venue, spec, past.since_ns, past.until_ns)
        checked(past.candles, rows, name, client.history.lacks)
        assert len(rows) > 150 or spec != "1m"
        assert past.until_ns == grid_of(spec).floor(NOW_MS * 10**6)
        assert {(one.exchange, one.market) for one in past.candles} <= {(name, market)}
    assert client.stats.errors == 0
    assert len(served.requests) == client.stats.requests


# What a venue answers with status 200 when it is busy; the others use a status.
BUSY = b"busy"
BUSY_ANSWERS = {
    "okx": b'{"code":"50011","msg":"Too Many Requests","data":[]}',
    "bybit": b'{"retCode":10006,"retMsg":"Too many visits!","result":{}}',
    "kraken": b'{"error":["EGeneral:Too many requests"],"result":{}}',
    "interactive_brokers": b'{"error":"Chart data unavailable"}',
}
FAULTS = st.sampled_from([
    RestFault(status=429, retry_after_s=3.0), RestFault(status=500), RestFault(status=418, retry_after_s=20.0),
    RestFault(overlap=3), RestFault(overlap=1), RestFault(delay_s=61.0),
    RestFault(body=b"<html>"), RestFault(body=b"[[]]"),
    RestFault(body=BUSY),
])  # fmt: skip


@given(
    venue=st.sampled_from(VENUES), spec=st.sampled_from(["1m", "5m", "15m", "1h", "1d"]), since=st.integers(-60, 800),
    length=st.integers(-5, 800), page_size=st.integers(1, 90),
    faults=st.lists(st.none() | FAULTS, max_size=12).filter(lambda drawn: longest_run(drawn) < 6),
)  # fmt: skip
@settings(max_examples=examples(60))
def test_any_span_in_any_pages_with_any_faults_gives_the_same_candles(
    venue: tuple[str, str], spec: str, since: int, length: int, page_size: int, faults: list[RestFault | None]
) -> None:
    name, market = venue
    made = venue_of(name, market)
    client, served, _ = client_of(name, market, made, page_size)
    if not client.supports(spec):
        spec = "1m"
    since_ns = (NOW_MS - since * 60_000) * 10**6
    until_ns = since_ns + length * 60 * 10**9
    for fault in faults:
        is_busy = fault is not None and fault.body == BUSY
        served.faults.append(RestFault(body=BUSY_ANSWERS.get(name, BUSY)) if is_busy else fault or RestFault())
    past = asyncio.run(client.past(made.symbol, spec, since_ns, until_ns))
    grid = grid_of(spec)
    wanted_since, wanted_until = grid.ceil(since_ns), min(grid.ceil(until_ns), grid.floor(NOW_MS * 10**6))
    if client.history.reach_bars is None and wanted_since < wanted_until:
        assert past[1:] == (wanted_since, wanted_until)
    else:
        assert past.since_ns >= min(wanted_since, wanted_until)
        assert past.until_ns == wanted_until
    rows = expected(name, market, made, spec, past.since_ns, past.until_ns)
    checked(past.candles, rows, name, client.history.lacks)


def longest_run(faults: list[RestFault | None]) -> int:
    """The most faults one after the other: six attempts are made at a page."""
    longest = run = 0
    for fault in faults:
        run = 0 if fault is None else run + 1
        longest = max(longest, run)
    return longest


@pytest.mark.parametrize(("name", "market"), VENUES)
async def test_the_candle_in_progress_has_what_was_traded_so_far(name: str, market: str) -> None:
    venue = venue_of(name, market)
    client, _, _ = client_of(name, market, venue)
    spec = client.finest("1h")
    assert spec is not None
    running = await client.running(venue.symbol, spec)
    now_ns = NOW_MS * 10**6
    rows = expected(name, market, venue, spec, grid_of(spec).floor(now_ns), now_ns)
    assert len(rows) == 1
    assert running is not None
    checked([running], rows, name, client.history.lacks)
    assert running.is_closed is False
    assert (running.exchange, running.market) == (name, market)


async def test_how_far_back_a_venue_reaches_is_told() -> None:
    venue = venue_of("kraken", "spot")
    client, _, _ = client_of("kraken", "spot", venue)
    open_ns = grid_of("1m").floor(NOW_MS * 10**6)
    past = await client.past(venue.symbol, "1m", 0, NOW_MS * 10**6)
    assert past.since_ns == open_ns - 719 * 60 * 10**9
    assert await client.past(venue.symbol, "1m", 0, past.since_ns) == ([], past.since_ns, past.since_ns)
    venue = venue_of("hyperliquid", "perp", 90, 0.01)
    client, _, _ = client_of("hyperliquid", "perp", venue)
    past = await client.past(venue.symbol, "1m", 0, NOW_MS * 10**6)
    assert past.since_ns == open_ns - 4999 * 60 * 10**9
    assert client.stats.requests == 10
    rows = expected("hyperliquid", "perp", venue, "1m", past.since_ns, open_ns)
    checked(past.candles, rows, "hyperliquid", client.history.lacks)


async def test_the_latest_candles_and_the_older_ones_come_from_endpoints_of_their_own() -> None:
    venue = venue_of("okx", "spot", 40, 0.01)
    client, served, _ = client_of("okx", "spot", venue)
    past = await client.past(venue.symbol, "1m", (NOW_MS - 39 * 3_600_000) * 10**6, NOW_MS * 10**6)
    rows = expected("okx", "spot", venue, "1m", past.since_ns, past.until_ns)
    checked(past.candles, rows, "okx", client.history.lacks)
    assert len(rows) > 300
    paths = [request.partition("?")[0].rpartition("/")[2] for request in served.requests]
    assert paths == ["candles"] * 15 + ["history-candles"] * 10  # 1,439 minutes, of which the last is in progress
    assert client.stats.errors == 0


@pytest.mark.parametrize(
    ("name", "market", "weights"),
    [
        ("binance", "spot", [2.0] * 5), ("binance", "usdm", [1.0, 1.0, 2.0, 2.0, 5.0]), ("okx", "spot", [1.0] * 5),
        ("hyperliquid", "perp", [20.0, 21.0, 21.0, 28.0, 28.0]),
    ],
)  # fmt: skip
def test_a_request_weighs_what_the_exchange_counts(name: str, market: str, weights: list[float]) -> None:
    history = find_exchange(name, market).candle_history
    assert history is not None
    now_ns = grid_of("1m").floor(NOW_MS * 10**6)
    asks = [history.ask("AB", "1m", now_ns - n * 60 * 10**9, now_ns, now_ns) for n in (1, 99, 100, 499, 500)]
    assert [history.request(ask).weight for ask in asks] == weights


async def test_a_minute_that_has_just_ended_is_had_whole_though_the_exchange_is_late() -> None:
    venue = venue_of("binance", "spot", 1, 3.0)
    client, _, clock = client_of("binance", "spot", venue)
    clock.now_s = 30.2  # the minute ended 0.2 s ago, and its last second is not in the exchange's candle yet
    end_ns = (NOW_MS + 30_000) * 10**6
    last = expected("binance", "spot", venue, "1m", end_ns - 60 * 10**9, end_ns)
    candles = await client.candles(venue.symbol, "1m", end_ns - 60 * 10**9, end_ns)
    checked(candles, last, "binance", client.history.lacks)


async def test_a_budget_that_is_used_up_is_waited_for() -> None:
    venue = venue_of("binance", "spot")
    client, served, clock = client_of("binance", "spot", venue, 100)
    served.most_per_minute = 3
    past = await client.past(venue.symbol, "1m", (NOW_MS - 11 * 3_600_000) * 10**6, NOW_MS * 10**6)
    rows = expected("binance", "spot", venue, "1m", past.since_ns, past.until_ns)
    checked(past.candles, rows, "binance", client.history.lacks)
    assert client.stats.errors > 0
    assert clock.now_s < 200.0


# Through sockets.


@pytest.mark.real_clock
@pytest.mark.parametrize(("name", "market"), VENUES)
async def test_candles_of_an_hour_before_the_start_come_through_a_socket(name: str, market: str) -> None:
    async with SimulatedExchange(name, market=market, symbols=1, rate=0.5, record=True, past_s=3600.0) as exchange:
        assert exchange.candles is not None
        exchange.candles.faults.extend([RestFault(status=429, retry_after_s=0.0), RestFault(status=503)])
        (symbol,) = exchange.symbols
        declared = find_exchange(name, market)
        async with RestClient() as get:
            limiter, turn = RateLimiter(1e6), lambda _: asyncio.sleep(0)
            client = CandleClient(declared, get, limiter, url=exchange.rest_url, sleep=turn)
            now_ns = wall_ns()
            past = await client.past(symbol, "5m", now_ns - 2 * 3_600 * 10**9, now_ns)
            running = await client.running(symbol, "1m")
        trades = [(one.time_ms, one.price, one.size, one.buyer_is_maker) for one in exchange.record.trades(symbol)]
        rows = truth(trades, "5m", find_dialect(name).list_market(market, 1)[1][0].contract_size)
    if declared.candle_open == "previous close":
        rows = opened_at_the_previous_close(rows)
    assert len(past.candles) >= 11
    wanted = {at: row for at, row in rows.items() if past.since_ns <= at < past.until_ns}
    checked(past.candles, wanted, name, client.history.lacks)
    assert running is None or running.is_closed is False
    assert client.stats.errors == 2


async def test_past_trades_and_candles_of_the_simulator_agree() -> None:
    exchange = SimulatedExchange("binance", symbols=1, rate=0.5, record=True, past_s=3600.0)
    assert exchange.rest is not None
    assert exchange.candles is not None
    (symbol,) = exchange.symbols
    answer = exchange.rest.answer(f"/api/v3/historicalTrades?symbol={symbol}&limit=1000")
    assert answer is not None
    rows = orjson.loads(answer.body)
    minute_ms = rows[0]["time"] // 60_000 * 60_000 + 60_000  # the first that is whole
    answer = exchange.candles.answer(
        f"/api/v3/klines?symbol={symbol}&interval=1m&startTime={minute_ms}&endTime={minute_ms + 299_999}"
    )
    assert answer is not None
    counts = {row[0]: (row[8], Decimal(row[5])) for row in orjson.loads(answer.body)}
    assert len(counts) == 5
    for open_ms, (count, volume) in counts.items():
        inside = [Decimal(row["qty"]) for row in rows if open_ms <= row["time"] < open_ms + 60_000]
        assert (count, volume) == (len(inside), sum(inside))


def test_the_table_in_the_documentation_is_what_is_declared() -> None:
    text = (Path(__file__).parents[1] / "docs/exchanges.md").read_text(encoding="utf-8")
    table = text.partition("| exchange and market | specs |")[2].partition("\n\n")[0]
    told: dict[str, tuple[list[str], str, list[str]]] = {}
    for line in table.splitlines()[2:]:
        names, specs, reach, lacks = (cell.strip() for cell in line.strip("|").split("|"))
        for name in names.split(", "):
            told[name.strip("`")] = specs.split(), reach, lacks.partition(";")[0].split(", ") if lacks else []
    words = {
        "quote_volume": "quote volume", "trade_count": "trades", "taker_buy_volume": "taker's volumes",
        "taker_buy_quote_volume": "taker's quote volume",
    }  # fmt: skip
    for venue, market in VENUES:
        history = find_exchange(venue, market).candle_history
        assert history is not None
        missing = [words[name] for name in words if name in history.lacks]
        if "taker's volumes" in missing:
            missing.remove("taker's quote volume")
        reach = f"{history.reach_bars:,} candles" if history.reach_bars else ""
        assert told.pop(f"{venue} {market}") == (list(history.intervals), reach, missing)
    assert told == {}
