"""What recorded markets come to, beside the exchange's own candles: equal to the last digit, in every field.

The candles were made by the exchange from the same trades, so they share no code with what is tested.
"""

from __future__ import annotations

import asyncio
import csv
from bisect import bisect_left
from collections import defaultdict
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest

import fastbars
from fastbars import ExchangeBar, OHLCVBar, StreamConfig, TickData
from fastbars.bars import BarStatus
from fastbars.exchanges import find_exchange
from fastbars.live.adapters import BinanceWebSocketAdapter
from fastbars.live.callbacks import Callbacks
from fastbars.live.session import Session
from fastbars.simulator import Fault, FaultKind, Faults, SimulatedExchange
from fastbars.tapes import read_tape
from fastbars.ticks import to_nanoseconds
from servers import until

# Column of the exchange's archive -> field of a bar.
COLUMNS = {
    "open": "open",
    "high": "high",
    "low": "low",
    "close": "close",
    "volume": "volume",
    "quote_volume": "quote_volume",
    "count": "trade_count",
    "taker_buy_volume": "taker_buy_volume",
    "taker_buy_quote_volume": "taker_buy_quote_volume",
}
KLINE_FIELDS = (
    "open_time",
    "close_time",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "quote_volume",
    "trade_count",
    "taker_buy_volume",
    "taker_buy_quote_volume",
    "first_trade_id",
    "last_trade_id",
)


def official_klines(path: Path) -> dict[int, dict[str, Decimal]]:
    """Open time in ms -> our field name -> the exchange's value."""
    with path.open(newline="") as file:
        return {
            int(row["open_time"]): {field: Decimal(row[column]) for column, field in COLUMNS.items()}
            for row in csv.DictReader(file)
        }


def values(bar: OHLCVBar) -> dict[str, Decimal]:
    return {field: Decimal(getattr(bar, field)) for field in COLUMNS.values()}


@pytest.mark.parametrize(
    ("tape", "market", "spec", "klines", "whole"),
    [
        ("usdm_btcusdt_20240808.raw.gz", "usdm", "1m", "usdm_BTCUSDT-1m_20240808.csv", 4),
        ("spot_btcusdt_20240808.raw.gz", "spot", "5m", "spot_BTCUSDT-5m_20240808.csv", 1),
    ],
)
def test_bars_of_a_recorded_market_equal_the_exchanges_klines_in_all_nine_fields(
    tape: str, market: str, spec: str, klines: str, whole: int, tapes: Path
) -> None:
    official = official_klines(tapes / "binance_klines" / klines)
    bars = list(fastbars.replay(tapes / "binance_ws" / tape, "binance", spec, market=market))
    complete = [bar for bar in bars if bar.status is BarStatus.COMPLETE]
    assert len(complete) == whole
    assert {bar.status for bar in bars if bar not in complete} == {BarStatus.PARTIAL}  # the first and the last
    for bar in complete:
        assert values(bar) == official[to_nanoseconds(bar.open_time) // 1_000_000]


def test_the_minutes_of_the_spot_market_sum_up_to_its_five_minutes(tapes: Path) -> None:
    (official,) = [
        row
        for open_ms, row in official_klines(tapes / "binance_klines/spot_BTCUSDT-5m_20240808.csv").items()
        if open_ms == 1_723_161_300_000
    ]
    bars = fastbars.replay(tapes / "binance_ws/spot_btcusdt_20240808.raw.gz", "binance", "1m")
    minutes = [bar for bar in bars if bar.status is BarStatus.COMPLETE]
    assert len(minutes) == 5
    sums = ("volume", "quote_volume", "trade_count", "taker_buy_volume", "taker_buy_quote_volume")
    assert {name: sum(values(bar)[name] for bar in minutes) for name in sums} == {name: official[name] for name in sums}
    assert (minutes[0].open, minutes[-1].close) == (official["open"], official["close"])
    assert max(bar.high for bar in minutes if bar.high) == official["high"]
    assert min(bar.low for bar in minutes if bar.low) == official["low"]


class Recording:
    """The aggregates and klines of a tape that has both on one socket."""

    def __init__(self, path: Path, market: str) -> None:
        self.exchange = find_exchange("binance", market)
        self.aggregates: dict[str, list[tuple[int, int, bytes]]] = defaultdict(list)
        self.klines: list[ExchangeBar] = []
        session = Session(self.exchange, StreamConfig(), Callbacks(on_exchange_bar=self.klines.append))
        for record in read_tape(path):
            data: dict[str, Any] = orjson.loads(record.payload).get("data", {})
            if data.get("e") == "aggTrade":
                self.aggregates[data["s"]].append((data["f"], data["l"], record.payload))
            elif data.get("e") == "kline":
                session.receive([record.payload], 0)

    def covering(self, kline: ExchangeBar) -> list[bytes] | None:
        """The messages that hold exactly the trades of a kline; None where one of them was not recorded."""
        assert kline.first_trade_id is not None
        assert kline.last_trade_id is not None
        aggregates = self.aggregates[kline.symbol]
        place = bisect_left(aggregates, kline.first_trade_id, key=lambda one: one[0])
        messages = []
        expected = kline.first_trade_id
        for first, last, payload in aggregates[place:]:
            if first != expected or last > kline.last_trade_id:
                return None
            messages.append(payload)
            expected = last + 1
            if last == kline.last_trade_id:
                return messages
        return None

    def bar_of(self, kline: ExchangeBar, messages: list[bytes]) -> OHLCVBar:
        """What the kernel makes of these messages alone."""
        config = StreamConfig(bars=kline.spec, close_by="trades")
        session = Session(self.exchange, config, channel="aggTrade")
        assert session.receive(messages, 0).bars == []
        (bar,) = session.flush(0)
        return bar


@pytest.mark.parametrize(
    ("tape", "market", "covered"),
    [
        ("BINANCE_spot_20210404_aggTrade_kline.ws.gz", "spot", 51),
        ("BINANCE_FUTURES_20210722_aggTrade_kline.ws.gz", "usdm", 15),
    ],
)
def test_every_running_kline_whose_trades_were_recorded_equals_our_bar_of_exactly_those_trades(
    tape: str, market: str, covered: int, tapes: Path
) -> None:
    recording = Recording(tapes / "cryptofeed" / tape, market)
    compared = 0
    for kline in recording.klines:
        messages = recording.covering(kline) if kline.trade_count else None
        if messages is None:
            continue
        bar = recording.bar_of(kline, messages)
        assert [getattr(bar, name) for name in KLINE_FIELDS] == [getattr(kline, name) for name in KLINE_FIELDS]
        compared += 1
    assert compared == covered


async def test_live_bars_equal_the_candles_that_the_exchange_made_by_itself() -> None:
    symbols = ["BTCUSDT", "ETHUSDT"]
    closed: dict[tuple[str, datetime], ExchangeBar] = {}
    issued: dict[tuple[str, datetime], OHLCVBar] = {}

    def note(candle: ExchangeBar) -> None:
        if candle.is_closed:
            closed[candle.symbol, candle.open_time] = candle

    async with SimulatedExchange(symbols=symbols, rate=2_000.0) as exchange:
        stream = fastbars.stream("binance", symbols, "1s", url=exchange.url, on_exchange_bar=note)
        async with stream as bars:
            await stream.adapter.subscribe(symbols, ["kline_1s"])
            async for bar in bars:
                issued[bar.symbol, bar.open_time] = bar
                pairs = [
                    (one, closed[key])
                    for key, one in issued.items()
                    if key in closed and one.status is BarStatus.COMPLETE
                ]
                if len(pairs) >= 4:
                    break
    for one, candle in pairs:
        assert [getattr(one, name) for name in KLINE_FIELDS] == [getattr(candle, name) for name in KLINE_FIELDS]


async def test_live_bars_of_contracts_equal_the_sums_of_their_trades() -> None:
    symbols = {"BTCUSD_PERP": 100, "ETHUSD_PERP": 10}
    trades: list[TickData] = []
    complete: list[OHLCVBar] = []
    async with SimulatedExchange(market="coinm", symbols=list(symbols), rate=2_000.0) as exchange:
        stream = fastbars.stream(
            "binance", list(symbols), "1s", market="coinm", url=exchange.url, on_tick=trades.append
        )
        async with stream as bars:
            async for bar in bars:
                if bar.status is BarStatus.COMPLETE:
                    complete.append(bar)
                if len({bar.symbol for bar in complete}) == 2:
                    break
    for bar in complete:
        inside = [one for one in trades if one.symbol == bar.symbol and bar.open_time <= one.timestamp < bar.close_time]
        contracts = sum(one.volume for one in inside)
        assert (bar.trade_count, bar.open, bar.close) == (len(inside), inside[0].price, inside[-1].price)
        assert (bar.volume, bar.quote_volume) == (contracts, contracts * symbols[bar.symbol])
        assert bar.vwap is None


async def test_no_bar_is_falsely_complete_while_the_connection_is_cut_again_and_again() -> None:
    candles: dict[tuple[str, datetime], ExchangeBar] = {}
    bars: dict[tuple[str, datetime], OHLCVBar] = {}

    def take_candle(candle: ExchangeBar) -> None:
        if candle.is_closed:
            candles[candle.symbol, candle.open_time] = candle

    def take_bar(bar: OHLCVBar) -> None:
        earlier = bars.get((bar.symbol, bar.open_time))
        assert bar.revision == (0 if earlier is None else earlier.revision + 1)
        bars[bar.symbol, bar.open_time] = bar

    config = StreamConfig(bars="1s", reconnect_delay=0.05, reconnect_max_delay=0.2)
    faults = Faults(1)
    async with SimulatedExchange(symbols=5, rate=2000, seed=7, faults=faults) as exchange:
        witness = BinanceWebSocketAdapter(config, on_exchange_bar=take_candle, url=exchange.url)
        adapter = BinanceWebSocketAdapter(config, on_bar=take_bar, url=exchange.url)
        await witness.connect()
        await witness.subscribe(exchange.symbols, ["kline_1s"])
        await adapter.connect()
        await adapter.subscribe(exchange.symbols)
        for cuts, pause_s in enumerate((1.7, 0.4, 2.3, 1.1, 0.2, 1.6), start=1):
            await asyncio.sleep(pause_s)
            assert adapter.connections.up
            (connection,) = adapter.connections.up
            faults.inject(Fault(FaultKind.REFUSE, status=503))  # or it may be back before anything is traded
            connection.drop("the test kills it")
            await until(lambda: adapter.stats().connections > cuts)  # noqa: B023 it is waited for here
        await asyncio.sleep(1.5)
        await adapter.disconnect()
        assert all(key in candles for key in bars)
        await witness.disconnect()
    proven = [key for key, bar in bars.items() if bar.status is BarStatus.COMPLETE]
    gaps = [key for key, bar in bars.items() if bar.status is BarStatus.GAP]
    assert len(proven) >= 5
    assert len(gaps) >= 5
    for key in proven:
        assert [getattr(bars[key], name) for name in KLINE_FIELDS] == [
            getattr(candles[key], name) for name in KLINE_FIELDS
        ]
    # Which side of a boundary the missing trades fell on, ids cannot tell: then the bars of both sides are in doubt.
    lacking = [(candles[key].trade_count or 0) - (bars[key].trade_count or 0) for key in gaps]
    assert min(lacking) >= 0
    assert max(lacking) > 0
    assert adapter.stats().connections == 7
