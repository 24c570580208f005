"""What recorded markets come to, beside the exchange's own candles: equal to the last digit, in every field.

The candles were made by the exchange from the same trades, so they share no code with what is tested.
"""

from __future__ import annotations

import csv
from bisect import bisect_left
from collections import defaultdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest

import fastbars
from fastbars import ExchangeBar, OHLCVBar, StreamConfig
from fastbars.bars import BarStatus
from fastbars.exchanges import find_exchange
from fastbars.live.session import Callbacks, Session
from fastbars.simulator import SimulatedExchange
from fastbars.tapes import read_tape
from fastbars.ticks import to_nanoseconds

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
    ("tape", "market", "covered", "closed"),
    [
        ("BINANCE_spot_20210404_aggTrade_kline.ws.gz", "spot", 0, 0),
        ("BINANCE_FUTURES_20210722_aggTrade_kline.ws.gz", "usdm", 0, 0),
    ],
)
def test_every_running_kline_whose_trades_were_recorded_equals_our_bar_of_exactly_those_trades(
    tape: str, market: str, covered: int, closed: int, tapes: Path
) -> None:
    recording = Recording(tapes / "cryptofeed" / tape, market)
    compared: list[ExchangeBar] = []
    for kline in recording.klines:
        messages = recording.covering(kline) if kline.trade_count else None
        if messages is None:
            continue
        bar = recording.bar_of(kline, messages)
        assert [getattr(bar, name) for name in KLINE_FIELDS] == [getattr(kline, name) for name in KLINE_FIELDS]
        compared.append(kline)
    assert (len(compared), sum(kline.is_closed for kline in compared)) == (covered, closed)


@pytest.mark.parametrize("market", ["spot", "usdm", "coinm"])
async def test_live_bars_of_every_market_equal_the_candles_that_the_exchange_made_by_itself(market: str) -> None:
    symbols = ["BTCUSD_PERP", "ETHUSD_PERP"] if market == "coinm" else ["BTCUSDT", "ETHUSDT"]
    # A market has 1s candles on spot only; an hour's running candle is compared by its ids elsewhere.
    spec = "1s" if market == "spot" else "1m"
    candles: list[ExchangeBar] = []
    trades: list[Any] = []
    async with SimulatedExchange(market=market, symbols=symbols, rate=2_000.0) as exchange:
        stream = fastbars.stream(
            "binance",
            symbols,
            "1s",
            market=market,
            url=exchange.url,
            on_exchange_bar=candles.append,
            on_tick=trades.append,
        )
        async with stream as bars:
            await stream.adapter.subscribe(symbols, [f"kline_{spec}"])
            issued: dict[tuple[str, Any], OHLCVBar] = {}
            async for bar in bars:
                issued[bar.symbol, bar.open_time] = bar
                if sum(bar.status is BarStatus.COMPLETE for bar in issued.values()) >= 4:
                    break
    complete = [bar for bar in issued.values() if bar.status is BarStatus.COMPLETE]
    for bar in complete:
        inside = [one for one in trades if one.symbol == bar.symbol and bar.open_time <= one.timestamp < bar.close_time]
        assert bar.trade_count == len(inside)
        assert bar.volume == sum(one.volume for one in inside)
        assert (bar.open, bar.close) == (inside[0].price, inside[-1].price)
    if market == "spot":
        closed = {(one.symbol, one.open_time): one for one in candles if one.is_closed}
        pairs = [(bar, closed[bar.symbol, bar.open_time]) for bar in complete if (bar.symbol, bar.open_time) in closed]
        assert pairs
        for bar, candle in pairs:
            assert [getattr(bar, name) for name in KLINE_FIELDS] == [getattr(candle, name) for name in KLINE_FIELDS]
