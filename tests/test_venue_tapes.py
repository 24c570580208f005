"""Recorded messages of five venues, replayed: every trade counted, bars equal the oracle's and the venue's candles.

The trades are read a second time here, with `json` and `Decimal` alone; the candles were made by the venues.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import fastbars
from fastbars.bars import BarStatus, ExchangeBar, OHLCVBar
from fastbars.cli import main
from fastbars.exchanges import find_exchange
from fastbars.live.callbacks import Callbacks
from fastbars.live.config import StreamConfig
from fastbars.live.session import Session
from fastbars.tapes import read_tape
from oracle import Line, Oracle, Trade as OracleTrade

D = Decimal
MS = 1_000_000
SPECS = ["1m", "1s", "tick:7"]


def exact_ns(text: str) -> int:
    """RFC 3339 to ns, by another way than the library's."""
    whole, _, fraction = text.rstrip("Z").partition(".")
    seconds = int(datetime.strptime(whole, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC).timestamp())
    return seconds * 10**9 + int(D(f"0.{fraction or 0}") * 10**9)


def bybit_trades(message: Any) -> Iterator[OracleTrade]:
    if str(message.get("topic")).startswith("publicTrade."):
        for t in message["data"]:
            yield OracleTrade(t["s"], t["T"] * MS, D(t["p"]), D(t["v"]), {"Buy": 1, "Sell": -1}[t["S"]])


def hyperliquid_trades(message: Any) -> Iterator[OracleTrade]:
    if message["channel"] == "trades":
        for t in message["data"]:
            yield OracleTrade(t["coin"], t["time"] * MS, D(t["px"]), D(t["sz"]), 1 if t["side"] == "B" else -1)


def okx_trades(message: Any) -> Iterator[OracleTrade]:
    if "data" in message and message["arg"]["channel"] == "trades":
        for t in message["data"]:
            side, number = (1 if t["side"] == "buy" else -1), int(t["tradeId"])
            yield OracleTrade(t["instId"], int(t["ts"]) * MS, D(t["px"]), D(t["sz"]), side, number, number)


def coinbase_trades(message: Any) -> Iterator[OracleTrade]:
    if message["channel"] == "market_trades":
        trades = [t for event in message["events"] for t in event["trades"]]
        for t in sorted(trades, key=lambda t: int(t["trade_id"])):
            side, number = (-1 if t["side"] == "BUY" else 1), int(t["trade_id"])
            yield OracleTrade(t["product_id"], exact_ns(t["time"]), D(t["price"]), D(t["size"]), side, number, number)


TAPES: dict[str, tuple[str, str, str | None, str, Callable[[Any], Iterator[OracleTrade]], int]] = {
    "bybit btc": ("bybit_v5/linear_BTCUSDT_20260809.jsonl.gz", "bybit", "linear", "none", bybit_trades, 56),
    "bybit eth": ("bybit_v5/linear_ETHUSDT_20260809.jsonl.gz", "bybit", "linear", "none", bybit_trades, 23),
    "hyperliquid": (
        "hyperliquid_ws/hyperliquid_btc_20250126.raw.gz", "hyperliquid", None, "none", hyperliquid_trades, 64,
    ),
    "okx": ("cryptofeed/OKX_20220513_trades.ws.gz", "okx", None, "contiguous", okx_trades, 74),
    "coinbase": (
        "coinbase_advanced/BTC-USD_ETH-USD_20260809.jsonl.gz", "coinbase", None, "contiguous", coinbase_trades, 279,
    ),
}  # fmt: skip


def told_by_oracle(trades: Iterable[OracleTrade], ids: str, contract_sizes: dict[str, Decimal]) -> list[Line]:
    oracle = Oracle(SPECS, ids, contract_sizes=contract_sizes)
    issued = [line for trade in trades for line in oracle.add(trade)]
    assert oracle.duplicates == 0
    return issued + oracle.flush()


def as_lines(bars: Iterable[OHLCVBar]) -> list[Line]:
    return [Line(**{name: getattr(bar, name) for name in Line._fields}) for bar in bars]


@pytest.mark.parametrize("name", list(TAPES))
def test_every_recorded_trade_is_counted_and_bars_equal_the_oracles_in_every_field(name: str, tapes: Path) -> None:
    path, exchange, market, ids, read, count = TAPES[name]
    trades = [trade for record in read_tape(tapes / path) for trade in read(json.loads(record.payload))]
    assert len(trades) == count
    replay = fastbars.replay(tapes / path, exchange, SPECS, market=market)
    bars = list(replay)
    venue = find_exchange(exchange, market)
    symbols = {trade.symbol for trade in trades}
    sizes = {symbol: size for symbol in symbols if (size := venue.contract_size(symbol)) is not None}
    assert as_lines(bars) == told_by_oracle(trades, ids, sizes)
    (session,) = replay.sessions
    stats = session.stats
    assert (stats.trades, session.buffer_stats.trades, session.buffer_stats.late) == (count, count, 0)
    assert (stats.duplicates, stats.parse_errors, stats.invalid_json, stats.unknown) == (0, 0, 0, 0)
    assert sum(bar.trade_count or 0 for bar in bars if bar.spec == "1m" and bar.revision == 0) == count


@pytest.mark.parametrize(
    ("path", "exchange", "counts"),
    [
        ("bybit_v5/linear_control_20260809.jsonl.gz", "bybit", {"control": 17}),
        ("bybit_v5/linear_BTCUSDT_20260809.jsonl.gz", "bybit", {"tickers": 185, "exchange_bars": 22}),
        ("hyperliquid_ws/hyperliquid_btc_20250126.raw.gz", "hyperliquid", {"raw": 46}),
        ("cryptofeed/OKX_20220513_trades.ws.gz", "okx", {"control": 18, "tickers": 28, "raw": 290}),
        ("coinbase_advanced/BTC-USD_ETH-USD_20260809.jsonl.gz", "coinbase", {"control": 30, "tickers": 160}),
    ],
)
def test_every_other_message_of_a_tape_is_understood_too(
    path: str, exchange: str, counts: dict[str, int], tapes: Path
) -> None:
    replay = fastbars.replay(tapes / path, exchange)
    list(replay)
    (session,) = replay.sessions
    assert {kind: getattr(session.stats, kind) for kind in counts} == counts
    assert (session.stats.unknown, session.stats.parse_errors) == (0, 0)


class Watch:
    """Ticks and candles of a replay in the order of their coming."""

    def __init__(self) -> None:
        self.seen: list[fastbars.TickData | ExchangeBar] = []

    @property
    def callbacks(self) -> Callbacks:
        return Callbacks(on_tick=self.seen.append, on_exchange_bar=self.seen.append)

    def candles_with_trades_so_far(self) -> Iterator[tuple[ExchangeBar, list[fastbars.TickData]]]:
        """Each candle, with all trades of its interval that came before it or after."""
        for item in self.seen:
            if isinstance(item, ExchangeBar):
                inside = [
                    tick
                    for tick in self.seen
                    if isinstance(tick, fastbars.TickData)
                    and tick.symbol == item.symbol
                    and item.open_time <= tick.timestamp < item.close_time
                ]
                yield item, inside


def prefix_of(ticks: list[fastbars.TickData], volume: Decimal) -> list[fastbars.TickData]:
    """The first trades whose sizes sum up to a volume."""
    total, taken = D(0), 0
    while total < volume and taken < len(ticks):
        total += ticks[taken].volume
        taken += 1
    assert total == volume, f"no sum of the first trades is {volume}: {total}"
    return ticks[:taken]


@pytest.mark.parametrize("symbol", ["BTCUSDT", "ETHUSDT"])
def test_bybits_running_klines_are_our_trades_with_the_previous_close_folded_in(symbol: str, tapes: Path) -> None:
    watch = Watch()
    path = tapes / f"bybit_v5/linear_{symbol}_20260809.jsonl.gz"
    bars = list(fastbars.replay(path, "bybit", "1m", market="linear", callbacks=watch.callbacks))
    compared = 0
    candles = list(watch.candles_with_trades_so_far())
    previous_close = next(candle.close for candle, _ in candles if candle.is_closed)
    last_open = max(candle.open_time for candle, _ in candles)  # the recording covers its beginning
    for candle, inside in candles:
        if candle.open_time != last_open:
            continue
        ticks = prefix_of(inside, candle.volume)
        prices = [previous_close, *(tick.price for tick in ticks)]
        assert (candle.open, candle.high, candle.low, candle.close) == (
            previous_close, max(prices), min(prices), prices[-1],
        )  # fmt: skip
        assert candle.quote_volume == sum((tick.price * tick.volume for tick in ticks), D(0))
        compared += 1
    assert compared >= 10
    last_candle, bar = candles[-1][0], bars[-1]
    assert (bar.volume, bar.quote_volume, bar.close) == (
        last_candle.volume, last_candle.quote_volume, last_candle.close,
    )  # fmt: skip
    assert find_exchange("bybit", "linear").candle_open == "previous close"


def test_coinbases_running_candles_are_our_trades(tapes: Path) -> None:
    watch = Watch()
    path = tapes / "coinbase_advanced/BTC-USD_ETH-USD_20260809.jsonl.gz"
    bars = list(fastbars.replay(path, "coinbase", "5m", callbacks=watch.callbacks))
    compared: dict[str, int] = defaultdict(int)
    last_open = max(bar.open_time for bar in bars)  # the history before the recording covers its beginning
    for candle, inside in watch.candles_with_trades_so_far():
        if candle.open_time == last_open:
            ticks = prefix_of(inside, candle.volume)
            prices = [tick.price for tick in ticks]
            assert (candle.open, candle.high, candle.low, candle.close) == (
                prices[0], max(prices), min(prices), prices[-1],
            )  # fmt: skip
            compared[candle.symbol] += 1
    assert compared == {"BTC-USD": 3, "ETH-USD": 3}


def kraken_messages(rows: list[list[Any]]) -> list[bytes]:
    """Trades of the REST API as WebSocket v2 sends them, three a message."""
    trades = []
    for price, size, time, side, kind, _, number in rows:
        whole, _, fraction = str(time).partition(".")
        moment = datetime.fromtimestamp(int(whole), UTC)
        trades.append(
            f'{{"symbol":"BTC/USDT","side":"{ {"b": "buy", "s": "sell"}[side] }","price":{price},"qty":{size},'
            f'"ord_type":"{ {"l": "limit", "m": "market"}[kind] }","trade_id":{number},'
            f'"timestamp":"{moment:%Y-%m-%dT%H:%M:%S}.{fraction.ljust(9, "0")}Z"}}'
        )
    return [
        f'{{"channel":"trade","type":"update","data":[{",".join(trades[start : start + 3])}]}}'.encode()
        for start in range(0, len(trades), 3)
    ]


def test_bars_of_krakens_trades_equal_its_candles_and_the_oracle(tapes: Path) -> None:
    folder = tapes / "kraken_rest_pair"
    rows = json.loads((folder / "XBTUSDT_trades_first_part.json").read_text(), parse_float=D)
    official = json.loads((folder / "XBTUSDT_ohlc_1m_first_part.json").read_text())
    bars: list[OHLCVBar] = []
    session = Session(
        find_exchange("kraken"), StreamConfig(bars=SPECS, close_by="trades"), Callbacks(on_bar=bars.append)
    )
    for payload in kraken_messages(rows):
        session.receive([payload], 0)
    session.flush(0)
    trades = [
        OracleTrade("BTC/USDT", int(D(str(time)) * 10**9), D(price), D(size), 1 if side == "b" else -1, number, number)
        for price, size, time, side, _, _, number in rows
    ]
    assert (session.stats.trades, len(trades), session.stats.parse_errors) == (299, 299, 0)
    assert as_lines(bars) == told_by_oracle(trades, "contiguous", {})
    minutes = {int(bar.open_time.timestamp()): bar for bar in bars if bar.spec == "1m"}
    equal = empty = 0
    for start, open_, high, low, close, _, volume, count in official[1:]:  # the first minute had begun already
        if count == 0:
            assert start not in minutes
            empty += 1
            continue
        bar = minutes[start]
        assert (bar.open, bar.high, bar.low, bar.close) == (D(open_), D(high), D(low), D(close))
        assert (bar.volume, bar.trade_count) == (D(volume), count)
        equal += 1
    assert (equal, empty) == (62, 34)
    assert {bar.status for bar in list(minutes.values())[1:-1]} == {BarStatus.COMPLETE}


@pytest.mark.parametrize("name", list(TAPES))
def test_the_command_replays_each_venues_tape(name: str, tapes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, exchange, market, _, _, count = TAPES[name]
    words = ["replay", str(tapes / path), "--exchange", exchange, "--format", "jsonl"]
    assert main([*words, "--market", market] if market else words) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert sum(line["trade_count"] for line in lines if line["revision"] == 0) == count
