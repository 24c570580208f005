"""Tests of the embedded exchange, over real WebSockets on loopback; klines are recomputed from trades."""

from __future__ import annotations

import asyncio
import gzip
import os
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, ConnectionClosedOK, InvalidStatus

from fastbars import clocks
from fastbars.errors import TapeError, UnknownExchangeError
from fastbars.simulator import SimulatedExchange
from fastbars.simulator.binance import BinanceDialect
from fastbars.simulator.candles import INTERVALS, interval_end_ms, interval_start_ms
from fastbars.simulator.instruments import SimulatedInstrument
from fastbars.simulator.market import SimulatedMarket, SimulatedTrade
from fastbars.simulator.publisher import Publisher, Subscriber
from fastbars.simulator.record import Record
from fastbars.tapes import read_tape

TAPES = Path(os.environ.get("FASTBARS_TAPES", Path(__file__).parents[2] / "shared" / "tapes"))
START_MS = 1_723_161_255_342
DAY_MS = 86_400_000


def list_instruments(market: str, symbols: int | list[str]) -> list[SimulatedInstrument]:
    return BinanceDialect.list_market(market, symbols)[1]


# --- the market, without sockets --------------------------------------------------------------------


def trade_for(seed: int, steps_ms: list[int], rate: float = 5_000.0) -> list[SimulatedTrade]:
    market = SimulatedMarket(list_instruments("spot", 20), rate, seed, START_MS)
    trades: list[SimulatedTrade] = []
    now_ms = START_MS
    for step_ms in steps_ms:
        now_ms += step_ms
        trades += market.advance(now_ms)
    return trades


def test_the_same_seed_gives_the_same_market_however_often_it_is_asked() -> None:
    assert trade_for(7, [1] * 3000) == trade_for(7, [3000]) == trade_for(7, [1, 0, 999, 1500, -300, 800])
    assert trade_for(7, [3000]) != trade_for(8, [3000])


def test_ids_are_contiguous_and_times_never_decrease() -> None:
    trades = trade_for(1, [10_000])
    last: dict[int, SimulatedTrade] = {}
    for trade in trades:
        before = last.get(trade.instrument)
        assert before is None or (trade.trade_id == before.trade_id + 1 and trade.time_ms >= before.time_ms)
        assert trade.size_steps > 0
        assert trade.price_ticks > 0
        last[trade.instrument] = trade
    assert len(last) == 20
    assert all(START_MS <= trade.time_ms < START_MS + 10_000 for trade in trades)


def test_the_rate_is_kept_in_the_mean() -> None:
    assert 0.85 < len(trade_for(1, [20_000])) / (20 * 5_000) < 1.15
    assert trade_for(1, [20_000], rate=0) == []


def test_bursts_step_through_prices_within_one_millisecond() -> None:
    prices = defaultdict(list)
    for trade in trade_for(1, [5_000], rate=500.0):
        prices[trade.instrument, trade.time_ms, trade.buyer_is_maker].append(trade.price_ticks)
    sweeps = [ticks for ticks in prices.values() if len(ticks) >= 5 and len(set(ticks)) > 1]
    assert len(sweeps) > 20
    monotone = [ticks for ticks in sweeps if ticks in (sorted(ticks), sorted(ticks, reverse=True))]
    assert len(monotone) > 0.9 * len(sweeps)


def test_prices_and_sizes_are_written_with_the_decimals_of_the_market() -> None:
    spot = {instrument.symbol: instrument for instrument in list_instruments("spot", 20)}
    assert spot["BTCUSDT"].price_text(6183763) == "61837.63000000"
    assert spot["PEPEUSDT"].price_text(812) == "0.00000812"
    assert spot["PEPEUSDT"].size_text(40_000_000) == "40000000.00000000"
    assert all(instrument.price_decimals + instrument.size_decimals <= 8 for instrument in spot.values())
    btc = list_instruments("usdm", ["BTCUSDT"])[0]
    assert (btc.price_text(6180030), btc.size_text(6)) == ("61800.30", "0.006")
    assert list_instruments("coinm", ["BTCUSD_PERP"])[0].size_text(4) == "4"
    assert len({instrument.symbol for instrument in list_instruments("spot", 500)}) == 500


@pytest.mark.parametrize("symbols", [0, [], ["BTCUSDT", "BTCUSDT"], ["btcusdt"], "BTCUSDT", ['A"B']])
def test_symbols_that_make_no_sense_are_refused(symbols: Any) -> None:
    with pytest.raises(ValueError, match="simulator: "):
        SimulatedExchange(symbols=symbols)


def test_an_unknown_market_or_rate_is_refused() -> None:
    with pytest.raises(UnknownExchangeError, match="no market 'margin'; known are spot, usdm, coinm"):
        SimulatedExchange(market="margin")
    with pytest.raises(ValueError, match="rate is -1"):
        SimulatedExchange(rate=-1)


def test_intervals_are_cut_as_binance_cuts_them() -> None:
    thursday_ms = 1_723_161_255_342  # 2024-08-08 23:54:15.342 UTC
    starts = {interval: interval_start_ms(interval, thursday_ms) for interval in INTERVALS}
    assert starts["1s"] == 1_723_161_255_000
    assert starts["5m"] == 1_723_161_000_000
    assert starts["1d"] == 1_723_075_200_000
    assert starts["1w"] == 1_722_816_000_000  # Monday 2024-08-05
    assert starts["1M"] == 1_722_470_400_000  # 2024-08-01
    assert interval_end_ms("1M", thursday_ms) == 1_725_148_800_000  # 2024-09-01
    for interval in INTERVALS:
        end_ms = interval_end_ms(interval, thursday_ms)
        assert interval_start_ms(interval, end_ms) == end_ms
        assert interval_start_ms(interval, end_ms - 1) == starts[interval]


# --- messages, without sockets ----------------------------------------------------------------------


def run_market(
    market: str,
    symbols: list[str],
    streams: list[str],
    steps_ms: list[int],
    *,
    rate: float,
    start_ms: int = START_MS,
) -> list[dict[str, Any]]:
    dialect = BinanceDialect(market, list_instruments(market, symbols))
    voids = BinanceDialect.voids_per_minute.get(market, 0.0)
    publisher = Publisher(dialect, SimulatedMarket(dialect.instruments, rate, 3, start_ms, voids), start_ms)
    subscriber = Subscriber(combined=False)
    for name in streams:
        stream = dialect.find_stream(name)
        assert stream is not None, name
        publisher.subscribe(subscriber, stream)
    now_ms = start_ms
    for step_ms in steps_ms:
        now_ms += step_ms
        publisher.advance(now_ms)
    return [orjson.loads(message) for message in subscriber.pending]


def kline_of(trades: list[dict[str, Any]]) -> tuple[Any, ...]:
    """Recompute a kline from raw trade messages with fractions."""
    prices = [Fraction(trade["p"]) for trade in trades]
    sizes = [Fraction(trade["q"]) for trade in trades]
    takers = [not trade["m"] for trade in trades]
    values = [price * size for price, size in zip(prices, sizes, strict=True)]
    return (
        min(trade["t"] for trade in trades),
        max(trade["t"] for trade in trades),
        *(prices[0], max(prices), min(prices), prices[-1]),
        *(sum(sizes), sum(values), len(trades)),
        sum(size for size, taker in zip(sizes, takers, strict=True) if taker),
        sum(value for value, taker in zip(values, takers, strict=True) if taker),
    )


def fields_of(kline: dict[str, Any]) -> tuple[Any, ...]:
    texts = (Fraction(kline[key]) for key in "ohlcvq")
    return (kline["f"], kline["L"], *texts, kline["n"], Fraction(kline["V"]), Fraction(kline["Q"]))


def check_klines(messages: list[dict[str, Any]], symbol: str) -> dict[str, int]:
    """Compare each kline with the trades before it; returns how many closed ones of each interval."""
    trades: list[dict[str, Any]] = []
    compared: dict[str, int] = defaultdict(int)
    for message in messages:
        if message["s"] != symbol:
            continue
        if message["e"] == "trade":
            trades.append(message)
            continue
        kline = message["k"]
        inside = [trade for trade in trades if kline["t"] <= trade["T"] <= kline["T"]]
        assert fields_of(kline) == kline_of(inside) if inside else (kline["f"], kline["n"]) == (-1, 0)
        assert message["E"] > kline["T"] or not kline["x"]
        compared[kline["i"]] += kline["x"]
    for message in messages:  # and nothing came after the closing message that belongs before it
        if message["e"] == "kline" and message["s"] == symbol and message["k"]["x"]:
            whole = [trade for trade in trades if message["k"]["t"] <= trade["T"] <= message["k"]["T"]]
            assert len(whole) == message["k"]["n"]
    return compared


@pytest.mark.parametrize("market", ["spot", "usdm"])
def test_every_kline_equals_its_trades_to_the_last_digit(market: str) -> None:
    intervals = INTERVALS if market == "spot" else INTERVALS[1:]
    streams = ["btcusdt@trade", "pepeusdt@trade"]
    streams += [f"{symbol}@kline_{interval}" for symbol in ("btcusdt", "pepeusdt") for interval in intervals]
    # across the end of a month, with stalls of seconds
    start_ms = interval_end_ms("1M", START_MS) - 64_321
    messages = run_market(market, ["BTCUSDT", "PEPEUSDT"], streams, [7, 5, 2_500, 11] * 50, rate=8.0, start_ms=start_ms)
    messages = [message for message in messages if message.get("X") != "NA"]  # void ids are in no kline
    for symbol in ("BTCUSDT", "PEPEUSDT"):
        compared = check_klines(messages, symbol)
        assert compared["1m"] == 3
        assert compared["15m"] == compared["12h"] == compared["1d"] == compared["1M"] == 1
        assert compared["1s"] == (126 if market == "spot" else 0)


def test_binance_futures_send_void_ids_at_the_rate_that_was_seen() -> None:
    for market, symbol in (("usdm", "BTCUSDT"), ("coinm", "BTCUSD_PERP"), ("spot", "BTCUSDT")):
        messages = run_market(market, [symbol], [f"{symbol.lower()}@trade"], [60_000] * 20, rate=5)
        ids = [message["t"] for message in messages]
        assert ids == list(range(ids[0], ids[0] + len(ids)))
        voids = [message for message in messages if message.get("X") == "NA"]
        assert {(void["p"], void["q"]) for void in voids} == (set() if market == "spot" else {("0", "0")})
        assert market == "spot" or 10 < len(voids) / 20 < 18


def test_void_ids_change_no_trade_but_its_id_and_are_in_no_history() -> None:
    dialect = BinanceDialect("usdm", list_instruments("usdm", 3))
    made = {}
    for voids in (0.0, 600.0):
        record = Record(dialect.instruments)
        market = SimulatedMarket(dialect.instruments, 200, 3, START_MS, voids)
        Publisher(dialect, market, START_MS, record).advance(START_MS + 10_000)
        made[voids] = [trade[1:] for trade in record.trades("BTCUSDT")]
        ids = {trade.trade_id for trade in record.trades("BTCUSDT")} | set(record.voids("BTCUSDT"))
        assert ids == set(range(min(ids), max(ids) + 1))
        assert bool(record.voids("BTCUSDT")) == bool(voids)
    assert made[0.0] == made[600.0]


def test_a_quiet_symbol_sends_flat_klines_at_its_last_close() -> None:
    messages = run_market("spot", ["BTCUSDT"], ["btcusdt@kline_1s"], [3_000], rate=0)
    klines = [message["k"] for message in messages]
    assert [kline["x"] for kline in klines] == [True, True, True]
    for kline in klines:
        assert fields_of(kline) == (-1, -1, *[Fraction("61837.63")] * 4, 0, 0, 0, 0, 0)


def test_open_klines_are_sent_every_two_seconds() -> None:
    messages = run_market("spot", ["BTCUSDT"], ["btcusdt@kline_1m"], [1] * 30_000, rate=10)
    assert [message["k"]["x"] for message in messages] == [False] * 15
    assert {later["E"] - earlier["E"] for earlier, later in pairwise(messages)} == {2_000}


def test_the_fields_of_each_message_are_those_of_the_market() -> None:
    channels = ["trade", "aggTrade", "kline_1m", "bookTicker", "ticker"]
    keys: dict[tuple[str, str], list[str]] = {}
    for market, symbol in (("spot", "BTCUSDT"), ("usdm", "BTCUSDT"), ("coinm", "BTCUSD_PERP")):
        streams = [f"{symbol.lower()}@{channel}" for channel in channels]
        for message in run_market(market, [symbol], streams, [20] * 110, rate=50):
            assert message["s"] == symbol
            keys[market, message.get("e", "bookTicker")] = list(message)
            if "k" in message:
                assert list(message["k"]) == list("tTsifLochlvnxqVQB")
    assert keys["spot", "trade"] == list("eEstpqTmM")
    assert keys["usdm", "trade"] == keys["coinm", "trade"] == list("eETstpqXm")
    assert keys["spot", "aggTrade"] == list("eEsapqflTmM")
    assert keys["usdm", "aggTrade"] == ["e", "E", "a", "s", "p", "q", "nq", "f", "l", "T", "m", "st"]
    assert keys["spot", "bookTicker"] == list("usbBaA")
    assert keys["coinm", "bookTicker"] == ["e", "u", "s", "b", "B", "a", "A", "T", "E", "ps", "st"]
    assert keys["spot", "24hrTicker"] == list("eEspPwxcQbBaAohlvqOCFLn")
    assert keys["usdm", "24hrTicker"] == list("eEspPwcQohlvqOCFLn")


def test_inverse_klines_count_contracts_and_write_base_units() -> None:
    streams = ["btcusd_perp@trade", "btcusd_perp@kline_1m"]
    messages = run_market("coinm", ["BTCUSD_PERP"], streams, [60_000], rate=20)
    kline = next(message["k"] for message in messages if message["e"] == "kline" and message["k"]["x"])
    trades = [message for message in messages if message["e"] == "trade" and message["T"] <= kline["T"]]
    trades = [trade for trade in trades if trade["X"] != "NA"]
    assert kline["v"] == str(sum(int(trade["q"]) for trade in trades))
    base = sum(Fraction(trade["q"]) * 100 / Fraction(trade["p"]) for trade in trades)
    assert abs(Fraction(kline["q"]) - base) <= Fraction(len(trades), 2 * 10**8)
    assert len(kline["q"].partition(".")[2]) == 8


def test_aggregate_trades_cover_every_trade_once() -> None:
    messages = run_market("spot", ["BTCUSDT"], ["btcusdt@trade", "btcusdt@aggTrade"], [9] * 500, rate=300)
    trades = {message["t"]: message for message in messages if message["e"] == "trade"}
    aggregates = [message for message in messages if message["e"] == "aggTrade"]
    assert len(aggregates) < len(trades)
    assert [one["a"] for one in aggregates] == list(range(aggregates[0]["a"], aggregates[0]["a"] + len(aggregates)))
    covered: list[int] = []
    for one in aggregates:
        members = [trades[trade_id] for trade_id in range(one["f"], one["l"] + 1)]
        assert {(member["p"], member["m"], member["T"]) for member in members} == {(one["p"], one["m"], one["T"])}
        assert sum(Fraction(member["q"]) for member in members) == Fraction(one["q"])
        covered += range(one["f"], one["l"] + 1)
    assert covered == sorted(trades)


def test_the_ids_of_aggregate_trades_go_on_while_nobody_is_subscribed() -> None:
    dialect = BinanceDialect("spot", list_instruments("spot", ["BTCUSDT"]))
    record = Record(dialect.instruments)
    publisher = Publisher(dialect, SimulatedMarket(dialect.instruments, 300, 3, START_MS), START_MS, record)
    subscriber, stream = Subscriber(), dialect.find_stream("btcusdt@aggTrade")
    assert stream is not None
    publisher.advance(START_MS + 1_000)
    for second in (1, 3):
        publisher.subscribe(subscriber, stream)
        publisher.advance(START_MS + 1_000 * (second + 1))
        publisher.unsubscribe(subscriber, stream.name)
        publisher.advance(START_MS + 1_000 * (second + 2))
    sent = [orjson.loads(bytes(message)) for message in subscriber.pending]
    traded = record.aggregates("BTCUSDT")
    assert [one.aggregate_id for one in traded] == list(range(traded[0].aggregate_id, traded[-1].aggregate_id + 1))
    assert [later.first_id - earlier.last_id for earlier, later in pairwise(traded)] == [1] * (len(traded) - 1)
    ids = {one.aggregate_id: (one.first_id, one.last_id) for one in traded}
    assert [(one["f"], one["l"]) for one in sent] == [ids[one["a"]] for one in sent]
    assert sum(later["a"] - earlier["a"] > 1 for earlier, later in pairwise(sent)) == 1


def test_the_ticker_summarizes_the_market_since_its_start() -> None:
    messages = run_market("spot", ["BTCUSDT"], ["btcusdt@trade", "btcusdt@ticker"], [10_000] * 800, rate=0.05)
    ticker = [message for message in messages if message["e"] == "24hrTicker"][-1]
    trades = [message for message in messages if message["e"] == "trade" and message["T"] < ticker["C"] // 1000 * 1000]
    expected = kline_of(trades)
    assert (ticker["F"], ticker["L"], ticker["n"]) == (expected[0], expected[1], len(trades))
    assert [Fraction(ticker[key]) for key in "ohlcvq"] == list(expected[2:8])
    assert ticker["O"] == START_MS
    assert Fraction(ticker["p"]) == expected[5] - expected[2]


# --- the server -------------------------------------------------------------------------------------


@asynccontextmanager
async def running(**options: Any) -> AsyncIterator[SimulatedExchange]:
    options = {"symbols": ["BTCUSDT", "ETHUSDT"], "rate": 400.0, **options}
    async with asyncio.timeout(90), SimulatedExchange(**options) as exchange:
        yield exchange


async def request(client: ClientConnection, method: str, *params: str, command_id: Any = 1) -> Any:
    """Send a command and return the reply to it, passing over market data."""
    await client.send(orjson.dumps({"method": method, "params": params, "id": command_id}).decode())
    return await reply(client)


async def reply(client: ClientConnection) -> Any:
    while True:
        message = orjson.loads(await client.recv())
        if not {"e", "u", "stream"} & message.keys():
            return message


async def collect(client: ClientConnection, enough: Callable[[list[Any]], bool]) -> list[Any]:
    messages: list[Any] = []
    while not enough(messages):
        messages.append(orjson.loads(await client.recv()))
    return messages


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - the exchange has no event for everything a test waits for
        await asyncio.sleep(0.002)


@pytest.mark.asyncio
async def test_a_subscription_is_acknowledged_and_its_trades_follow_without_a_hole() -> None:
    async with running() as exchange, connect(exchange.url) as client:
        assert await request(client, "SUBSCRIBE", "btcusdt@trade", command_id=7) == {"result": None, "id": 7}
        trades = await collect(client, lambda messages: len(messages) == 300)
        assert {trade["s"] for trade in trades} == {"BTCUSDT"}
        assert [trade["t"] for trade in trades] == list(range(trades[0]["t"], trades[0]["t"] + 300))
        assert all(earlier["T"] <= later["T"] for earlier, later in pairwise(trades))
        assert all(trade["T"] < trade["E"] for trade in trades)


@pytest.mark.asyncio
async def test_one_second_klines_on_the_wire_equal_the_trades_on_the_wire() -> None:
    async with running(rate=2_000.0) as exchange, connect(exchange.url) as client:
        await request(client, "SUBSCRIBE", "btcusdt@trade", "btcusdt@kline_1s")
        messages = await collect(client, lambda messages: sum(one["e"] == "kline" for one in messages) == 3)
        begun = next(index for index, one in enumerate(messages) if one["e"] == "kline")
        assert check_klines(messages[begun + 1 :], "BTCUSDT") == {"1s": 2}


@pytest.mark.asyncio
async def test_combined_connections_name_the_stream_and_bare_ones_do_not() -> None:
    async with running() as exchange:
        async with connect(exchange.combined_url + "?streams=btcusdt@trade/ethusdt@trade", max_queue=None) as client:
            messages = await collect(client, lambda messages: len(messages) == 50)
            assert all(list(one) == ["stream", "data"] for one in messages)
            assert all(one["stream"] == one["data"]["s"].lower() + "@trade" for one in messages)
        async with connect(exchange.url + "/ethusdt@trade/btcusdt@bookTicker", max_queue=None) as client:
            messages = await collect(client, lambda messages: len(messages) == 50)
            assert {(one.get("e"), one["s"]) for one in messages} == {("trade", "ETHUSDT"), (None, "BTCUSDT")}


@pytest.mark.asyncio
async def test_subscriptions_are_listed_in_order_and_nothing_comes_after_unsubscribing() -> None:
    async with running() as exchange, connect(exchange.url) as client:
        await request(client, "SUBSCRIBE", "ethusdt@trade", "btcusdt@trade", "btcusdt@trade")
        listed = await request(client, "LIST_SUBSCRIPTIONS", command_id="a")
        assert listed == {"result": ["ethusdt@trade", "btcusdt@trade"], "id": "a"}
        assert await request(client, "UNSUBSCRIBE", "ethusdt@trade", "btcusdt@kline_1m") == {
            "result": None,
            "id": 1,
        }
        messages = await collect(client, lambda messages: len(messages) == 100)
        assert {one["s"] for one in messages} == {"BTCUSDT"}
        await request(client, "UNSUBSCRIBE", "btcusdt@trade")
        assert await request(client, "LIST_SUBSCRIPTIONS", command_id=None) == {"result": [], "id": None}
        generated = exchange.stats.trades_generated
        await until(lambda: exchange.stats.trades_generated > generated + 100)
        await client.send('{"method":"LIST_SUBSCRIPTIONS","id":9}')
        assert orjson.loads(await client.recv()) == {"result": [], "id": 9}  # the very next message
        assert exchange.stats.commands == 6


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("message", "code", "known_id"),
    [
        ("{not json", 3, None),
        ("[1]", 2, None),
        ('{"method":"SUBSCRIBE","params":["btcusdt@trade"],"id":-1}', 2, None),
        ('{"method":"SUBSCRIBE","params":["btcusdt@trade"],"id":1.5}', 2, None),
        ('{"method":"FOLLOW","params":[],"id":4}', 2, 4),
        ('{"params":[],"id":"x"}', 2, "x"),
        ('{"method":"SUBSCRIBE","params":"btcusdt@trade","id":5}', 2, 5),
        ('{"method":"SUBSCRIBE","params":[1],"id":6}', 2, 6),
        ('{"method":"SUBSCRIBE","id":7}', 2, 7),
    ],
)
async def test_a_request_that_is_not_understood_is_answered_with_code_and_text(
    message: str, code: int, known_id: Any
) -> None:
    async with running() as exchange, connect(exchange.url) as client:
        await client.send(message)
        refusal = orjson.loads(await client.recv())
        assert refusal["code"] == code
        assert refusal["msg"].startswith("Invalid JSON: " if code == 3 else "Invalid request: ")
        assert refusal.get("id") == known_id
        assert (await request(client, "LIST_SUBSCRIPTIONS"))["result"] == []


@pytest.mark.asyncio
@pytest.mark.parametrize("market", ["spot", "usdm", "coinm", "us"])
async def test_a_stream_that_does_not_exist_is_acknowledged_and_silent_and_the_others_flow(market: str) -> None:
    names = ["nosuch@trade", "btcusdt@depth", "BTCUSDT@trade", "btcusdt@kline_7m", "btcusdt", ""]
    async with running(market=market) as exchange, connect(exchange.url) as client:
        known = exchange.symbols[1]
        asked = [*names, f"{known.lower()}@trade"]
        assert await request(client, "SUBSCRIBE", *asked, command_id=3) == {"result": None, "id": 3}
        messages = await collect(client, lambda messages: len(messages) == 100)
        assert {(one["s"], one["e"]) for one in messages} == {(known, "trade")}
        assert await request(client, "UNSUBSCRIBE", *asked) == {"result": None, "id": 1}
        assert (await request(client, "LIST_SUBSCRIPTIONS"))["result"] == []


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("route", "events"),
    [
        ("/public", {"trade", "bookTicker"}), ("/market", {"aggTrade", "kline"}), ("", {"trade", "bookTicker"}),
        ("/all", {"trade", "bookTicker", "aggTrade", "kline"}),
    ],
)  # fmt: skip
async def test_each_route_of_usd_margined_futures_acknowledges_all_and_sends_its_own(
    route: str, events: set[str]
) -> None:
    names = [f"btcusdt@{channel}" for channel in ("trade", "bookTicker", "aggTrade", "kline_1m")]
    async with running(market="usdm") as exchange:
        base = exchange.url.removesuffix("/all/ws")
        async with connect(f"{base}{route}/ws") as client:
            assert await request(client, "SUBSCRIBE", *names) == {"result": None, "id": 1}
            messages = await collect(client, lambda messages: {one["e"] for one in messages} >= events)
            assert {one["e"] for one in messages} == events
        async with connect(f"{base}{route}/stream?streams={'/'.join(names)}") as client:
            messages = await collect(client, lambda messages: len(messages) == 50)
            assert {one["data"]["e"] for one in messages} <= events
    async with running(market="coinm") as exchange:
        with pytest.raises(InvalidStatus):
            await connect(exchange.url.removesuffix("/ws") + "/market/ws")


@pytest.mark.asyncio
async def test_futures_have_no_one_second_klines() -> None:
    async with running(market="usdm") as exchange, connect(exchange.url) as client:
        assert (await request(client, "SUBSCRIBE", "btcusdt@kline_1s", "btcusdt@kline_1m")) == {"result": None, "id": 1}
        messages = await collect(client, lambda messages: len(messages) == 2)
        assert {one["k"]["i"] for one in messages} == {"1m"}


@pytest.mark.asyncio
async def test_a_connection_holds_1024_streams_at_most() -> None:
    async with running(symbols=1025, rate=0) as exchange, connect(exchange.url) as client:
        names = [symbol.lower() + "@trade" for symbol in exchange.symbols]
        assert await request(client, "SUBSCRIBE", *names[:1024]) == {"result": None, "id": 1}
        refusal = await request(client, "SUBSCRIBE", names[1024], command_id=2)
        assert refusal == {"code": 2, "msg": "Invalid request: more than 1024 streams", "id": 2}


@pytest.mark.asyncio
async def test_a_wrong_path_or_too_many_streams_in_the_url_fail_the_handshake() -> None:
    async with running() as exchange:
        for url, status in (
            (exchange.url[:-3] + "/spot", 404),
            (exchange.url + "".join(f"/{number}" for number in range(1025)), 400),
        ):
            with pytest.raises(InvalidStatus) as caught:
                await connect(url)
            assert caught.value.response.status_code == status


@pytest.mark.asyncio
async def test_every_client_gets_every_trade() -> None:
    async with running() as exchange, connect(exchange.url) as one, connect(exchange.combined_url) as two:
        await request(one, "SUBSCRIBE", "btcusdt@trade")
        await request(two, "SUBSCRIBE", "btcusdt@trade")
        wrapped = [message["data"] for message in await collect(two, lambda messages: len(messages) == 100)]
        bare = await collect(one, lambda messages: bool(messages) and messages[-1] == wrapped[-1])
        assert bare[-100:] == wrapped
        assert exchange.stats.connections_accepted == 2
        assert exchange.stats.messages_sent >= 200


@pytest.mark.asyncio
async def test_the_exchanges_clock_can_be_ahead_of_this_machines() -> None:
    async with running(clock_offset_s=3_600.0) as ahead, running() as level:
        for exchange, offset_ms in ((ahead, 3_600_000), (level, 0)):
            async with connect(exchange.url + "/btcusdt@trade") as client:
                traded_ms = orjson.loads(await client.recv())["T"] - offset_ms
            now_ms = clocks.wall_ns() // 1_000_000
            assert now_ms - 60_000 < traded_ms <= now_ms  # it is as late as the machine is busy, and never early


@pytest.mark.asyncio
async def test_connections_can_be_closed_with_a_code_or_dropped_without_one() -> None:
    async with running() as exchange:
        async with connect(exchange.url) as client:
            await until(lambda: len(exchange.connections) == 1)
            await exchange.disconnect_all(code=1012)
            with pytest.raises(ConnectionClosed) as closed:
                await client.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1012
        async with connect(exchange.url + "/btcusdt@trade") as client:
            await client.recv()
            exchange.abort_all()
            with pytest.raises(ConnectionClosedError) as dropped:
                await collect(client, lambda _: False)
            assert dropped.value.rcvd is None
        await until(lambda: not exchange.connections)


@pytest.mark.asyncio
async def test_a_client_that_does_not_read_is_disconnected_with_1008(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastbars.simulator.client.MAX_BUFFERED_BYTES", 100_000)
    async with (
        running(rate=5_000.0) as exchange,
        connect(exchange.url + "/btcusdt@trade", max_queue=1) as client,
    ):
        await until(lambda: exchange.stats.messages_sent > 1_000 and not exchange.connections)
        with pytest.raises(ConnectionClosedError) as closed:
            await collect(client, lambda _: False)
        assert closed.value.rcvd is None or closed.value.rcvd.code == 1008


@pytest.mark.asyncio
async def test_stopping_closes_with_1001_and_leaves_no_task() -> None:
    before = asyncio.all_tasks()
    exchange = SimulatedExchange(symbols=2, rate=500)
    await exchange.start()
    with pytest.raises(RuntimeError, match="already started"):
        await exchange.start()
    client = await connect(exchange.url + "/btcusdt@trade")
    await client.recv()
    await exchange.stop()
    await exchange.stop()
    with pytest.raises(ConnectionClosed) as closed:
        await collect(client, lambda _: False)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1001
    await client.wait_closed()
    await until(lambda: asyncio.all_tasks() == before)


@pytest.mark.asyncio
async def test_a_taken_port_is_an_os_error() -> None:
    async with running() as exchange:
        with pytest.raises(OSError, match="in use"):
            await SimulatedExchange(port=exchange.port).start()


# --- tapes ------------------------------------------------------------------------------------------

BARE = b'{"e":"trade","E":5,"s":"ETHUSDT","t":9,"p":"1.0","q":"2","T":4,"m":true,"M":true}'
KLINE = b'{"e":"kline","E":5,"s":"ETHUSDT","k":{"t":0,"i":"1m","x":true}}'
COMBINED = b'{"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate",   "s":"BTCUSDT"}}'
BOOK = b'{"u":1,"s":"ETHUSDT","b":"1","B":"1","a":"2","A":"1"}'
NO_STREAM = b'{"result":null,"id":1}'


def tape_file(path: Path, *payloads: bytes) -> Path:
    path.write_bytes(gzip.compress(b"".join(b"%d %b\n" % (n, payload) for n, payload in enumerate(payloads))))
    return path


async def receive_all(client: ClientConnection) -> tuple[list[bytes], int | None]:
    """Receive until the close; returns the messages and the close code."""
    received = []
    try:
        while True:
            received.append(await client.recv(decode=False))
    except ConnectionClosedOK as closed:
        return received, closed.rcvd.code if closed.rcvd else None


@pytest.mark.asyncio
async def test_a_tape_is_served_byte_for_byte_to_each_connection_and_closed_with_1000(tmp_path: Path) -> None:
    first = tape_file(tmp_path / "1", COMBINED, NO_STREAM, BARE)
    second = tape_file(tmp_path / "2", KLINE, BOOK, BARE)
    async with running(tapes=[first, second]) as exchange:
        assert exchange.symbols == ["BTCUSDT", "ETHUSDT"]
        for _ in range(2):
            async with connect(exchange.url) as client:
                names = ["btcusdt@depth@100ms", "ethusdt@trade", "ethusdt@kline_1m", "ethusdt@bookTicker"]
                assert await request(client, "SUBSCRIBE", *names) == {"result": None, "id": 1}
                assert await receive_all(client) == ([COMBINED, BARE, KLINE, BOOK, BARE], 1000)
            await exchange.wait_finished()


@pytest.mark.asyncio
async def test_only_subscribed_streams_of_a_tape_are_served(tmp_path: Path) -> None:
    async with running(tapes=[tape_file(tmp_path / "1", COMBINED, BARE, KLINE, BOOK)]) as exchange:
        async with connect(exchange.url + "/ethusdt@kline_1m") as client:
            assert await receive_all(client) == ([KLINE], 1000)
        async with connect(exchange.url) as client:
            assert await request(client, "SUBSCRIBE", "ethusdt@trade", "solusdt@trade") == {"result": None, "id": 1}
            assert await receive_all(client) == ([BARE], 1000)


@pytest.mark.asyncio
async def test_a_tape_waits_for_a_slow_client_and_obeys_it_while_playing(tmp_path: Path) -> None:
    payloads = [BARE.replace(b'"t":9', b'"t":%d' % number) for number in range(60_000)]
    async with (
        running(tapes=[tape_file(tmp_path / "1", *payloads)]) as exchange,
        connect(exchange.url) as client,
    ):
        await request(client, "SUBSCRIBE", "ethusdt@trade")
        received = [await client.recv(decode=False) for _ in range(1_000)]
        assert received == payloads[:1_000]
        await until(lambda: not client.transport.is_reading())  # the client is full, the exchange has to wait
        await client.send('{"method":"UNSUBSCRIBE","params":["ethusdt@trade"],"id":5}')
        rest, code = await receive_all(client)
        acknowledged = rest.index(b'{"result":null,"id":5}')
        assert rest[:acknowledged] == payloads[1_000 : 1_000 + acknowledged]
        assert acknowledged < 59_000
        assert rest[acknowledged + 1 :] == []
        assert code == 1000


@pytest.mark.asyncio
async def test_a_tape_that_cannot_be_served_fails_the_start(tmp_path: Path) -> None:
    with pytest.raises(TapeError, match="no message of a Binance stream"):
        await SimulatedExchange(tapes=[tape_file(tmp_path / "1", NO_STREAM)]).start()
    with pytest.raises(TapeError, match="cannot be read"):
        await SimulatedExchange(tapes=[tmp_path / "missing"]).start()


@pytest.mark.asyncio
@pytest.mark.skipif(
    not TAPES.is_dir(),
    reason=f"no recorded tapes: {TAPES} is missing (set FASTBARS_TAPES to their directory)",
)
async def test_a_real_tape_arrives_as_it_was_recorded() -> None:
    path = TAPES / "binance_ws/spot_btcusdt_20240808.raw.gz"
    trades = [record.payload for record in read_tape(path) if b'"stream":"btcusdt@trade"' in record.payload]
    async with running(tapes=[path]) as exchange, connect(exchange.combined_url) as client:
        assert exchange.symbols == ["BTCUSDT"]
        await request(client, "SUBSCRIBE", "btcusdt@trade")
        assert await receive_all(client) == (trades, 1000)
        await exchange.wait_finished()
        assert exchange.stats.messages_sent == len(trades) == 9757
