"""Recorded candles of Binance and Kraken, read as answers of their REST APIs, against the trades recorded with them."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest

import fastbars
from fastbars.bars import BarStatus, ExchangeBar, OHLCVBar
from fastbars.buffer import BarBuffer
from fastbars.exchanges import find_exchange
from fastbars.exchanges.candles import read_candles
from fastbars.ticks import TickData, to_nanoseconds

FIELDS = ("open", "high", "low", "close", "volume", "quote_volume", "trade_count", "taker_buy_volume",
          "taker_buy_quote_volume")  # fmt: skip


def read(name: str, market: str, symbol: str, spec: str, times_s: tuple[int, int], body: bytes) -> list[ExchangeBar]:
    history = find_exchange(name, market).candle_history
    assert history is not None
    ask = history.ask(symbol, spec, *(at * 10**9 for at in (*times_s, times_s[1])))
    return list(read_candles(history, ask, body))


def values(bar: OHLCVBar | ExchangeBar, lacks: Iterable[str]) -> dict[str, Any]:
    return {name: getattr(bar, name) for name in FIELDS if name not in lacks}


@pytest.mark.parametrize(
    ("tape", "market", "spec", "klines", "whole"),
    [
        ("usdm_btcusdt_20240808.raw.gz", "usdm", "1m", "usdm_BTCUSDT-1m_20240808.csv", 4),
        ("spot_btcusdt_20240808.raw.gz", "spot", "5m", "spot_BTCUSDT-5m_20240808.csv", 1),
    ],
)
def test_binances_klines_as_rest_sends_them_are_the_bars_of_the_trades(
    tape: str, market: str, spec: str, klines: str, whole: int, tapes: Path
) -> None:
    with (tapes / "binance_klines" / klines).open(newline="") as file:
        rows = [
            [int(row[name]) if name in ("open_time", "close_time", "count") else row[name] for name in row]
            for row in csv.DictReader(file)
        ]
    since_s, until_s = rows[0][0] // 1000, (rows[-1][6] + 1) // 1000  # type: ignore[operator]
    candles = read("binance", market, "BTCUSDT", spec, (since_s, until_s), orjson.dumps(rows))
    assert len(candles) == len(rows)
    assert [str(one.quote_volume) for one in candles] == [row[7] for row in rows]
    by_time = {one.open_time: one for one in candles}
    bars = fastbars.replay(tapes / "binance_ws" / tape, "binance", spec, market=market)
    complete = [bar for bar in bars if bar.status is BarStatus.COMPLETE]
    assert len(complete) == whole
    for bar in complete:
        assert values(by_time[bar.open_time], ()) == values(bar, ())


def test_krakens_ohlc_as_rest_sends_it_is_the_bars_of_the_trades(tapes: Path) -> None:
    rows = json.loads((tapes / "kraken_rest_pair/XBTUSDT_ohlc_1m_first_part.json").read_text())
    trades = json.loads((tapes / "kraken_rest_pair/XBTUSDT_trades_first_part.json").read_text(), parse_float=str)
    body = orjson.dumps({"error": [], "result": {"XBTUSDT": rows, "last": rows[-2][0]}})
    candles = read("kraken", "spot", "BTC/USDT", "1m", (rows[0][0], rows[-1][0] + 60), body)
    assert len(candles) == len(rows) == 97
    assert [one.is_closed for one in candles] == [None] * 96 + [False]
    buffer = BarBuffer("1m")
    bars: list[OHLCVBar] = []
    for price, size, time, side, _, _, number in trades:
        time_ns = int(Decimal(time) * 10**9)
        bars += buffer.add_tick(TickData("BTC/USDT", time_ns, price, size, "buy" if side == "b" else "sell", number))
    bars += buffer.flush_all()
    by_time = {to_nanoseconds(bar.open_time): bar for bar in bars}
    lacks = find_exchange("kraken").candle_history.lacks  # type: ignore[union-attr]
    equal = empty = 0
    for one in candles[1:]:  # the first minute had begun already
        bar = by_time.get(to_nanoseconds(one.open_time))
        if bar is None:
            assert one.trade_count == one.volume == 0
            empty += 1
        else:
            assert values(one, lacks) == values(bar, lacks)
            equal += 1
    assert (equal, empty) == (62, 34)
