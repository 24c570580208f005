"""Real and simulated messages, written out as archives: the same bars by `build`, `replay` and `aggregate`.

The trades are taken from the messages here with `json` alone, and written as the public archives have them.
"""

from __future__ import annotations

import gzip
import json
import zipfile
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import fastbars
from fastbars.archives import build
from fastbars.archives.output import open_output
from fastbars.columnar.lines import CSV_HEADER
from fastbars.simulator.binance import BinanceDialect
from fastbars.simulator.instruments import make_instruments
from fastbars.simulator.market import SimulatedMarket
from fastbars.tapes import read_tape

SPECS = ["1s", "1m", "5m"]
MS = 1_000_000


class Row(NamedTuple):
    """A trade, in the exchange's own words."""

    symbol: str
    first_id: int
    last_id: int
    price: str
    size: str
    time_ns: int
    maker: bool


def of_binance(message: Any) -> Iterator[Row]:
    trade = message.get("data", message)
    if trade.get("e") == "trade":
        yield Row(trade["s"], trade["t"], trade["t"], trade["p"], trade["q"], trade["T"] * MS, trade["m"])


def of_aggregates(message: Any) -> Iterator[Row]:
    trade = message.get("data", message)
    if trade.get("e") == "aggTrade":
        yield Row(trade["s"], trade["f"], trade["l"], trade["p"], trade["q"], trade["T"] * MS, trade["m"])


def of_bybit(message: Any) -> Iterator[Row]:
    if str(message.get("topic")).startswith("publicTrade."):
        for t in message["data"]:
            yield Row(t["s"], 0, 0, t["p"], t["v"], t["T"] * MS, t["S"] == "Sell")


def of_hyperliquid(message: Any) -> Iterator[Row]:
    if message["channel"] == "trades":
        for t in message["data"]:
            yield Row(t["coin"], 0, 0, t["px"], t["sz"], t["time"] * MS, t["side"] != "B")


def of_okx(message: Any) -> Iterator[Row]:
    if "data" in message and message["arg"]["channel"] == "trades":
        for t in message["data"]:
            yield Row(
                t["instId"],
                int(t["tradeId"]),
                int(t["tradeId"]),
                t["px"],
                t["sz"],
                int(t["ts"]) * MS,
                t["side"] != "buy",
            )


def of_coinbase(message: Any) -> Iterator[Row]:
    if message["channel"] == "market_trades":
        trades = [t for event in message["events"] for t in event["trades"]]
        for t in sorted(trades, key=lambda t: int(t["trade_id"])):
            number, time_ns = int(t["trade_id"]), pd.Timestamp(t["time"]).value
            yield Row(t["product_id"], number, number, t["price"], t["size"], time_ns, t["side"] == "BUY")


def rows_of(tape: Path, parse: Callable[[Any], Iterator[Row]]) -> list[Row]:
    rows = [row for record in read_tape(tape) for row in parse(json.loads(record.payload))]
    assert rows
    return rows


def text(header: str, lines: Iterator[str] | Sequence[str]) -> str:
    return "\n".join([*([header] if header else []), *lines, ""])


def truth(value: bool) -> str:
    return str(value).lower()


def trades_csv(folder: Path, rows: list[Row], date: str = "2024-08-08") -> Path:
    path = folder / f"{rows[0].symbol}-trades-{date}.csv"
    lines = [f"{r.first_id},{r.price},{r.size},0,{r.time_ns // MS},{truth(r.maker)}" for r in rows]
    path.write_text(text("id,price,qty,quote_qty,time,is_buyer_maker", lines))
    return path


def trades_zip(folder: Path, rows: list[Row]) -> Path:
    # As spot has it: no header, and another column.
    path = folder / f"{rows[0].symbol}-trades-2024-08-08.zip"
    lines = [f"{r.first_id},{r.price},{r.size},0,{r.time_ns // 1000},{r.maker!s},True" for r in rows]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(path.with_suffix(".csv").name, text("", lines))
    return path


def aggregates_csv(folder: Path, rows: list[Row]) -> Path:
    path = folder / f"{rows[0].symbol}-aggTrades-2024-08-08.csv"
    lines = [
        f"{n},{r.price},{r.size},{r.first_id},{r.last_id},{r.time_ns // MS},{truth(r.maker)}"
        for n, r in enumerate(rows)
    ]
    path.write_text(
        text("agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker", lines)
    )
    return path


def parquet(folder: Path, rows: list[Row]) -> Path:
    columns: dict[str, Any] = {
        "ts": pa.array([row.time_ns for row in rows], pa.timestamp("ns", "UTC")),
        "px": pa.array([Decimal(row.price) for row in rows]),
        "qty": [row.size for row in rows],
        "pair": [row.symbol for row in rows],
        "buyer_maker": [row.maker for row in rows],
        "first": [row.first_id for row in rows],
        "last": [row.last_id for row in rows],
    }
    pq.write_table(pa.table(columns), folder / "own.parquet", row_group_size=1000)
    return folder / "own.parquet"


def tardis_of(venue: str) -> Callable[[Path, list[Row]], Path]:
    def write(folder: Path, rows: list[Row]) -> Path:
        path = folder / f"{venue}_trades_2024-08-08_SPOT.csv.gz"
        lines = [
            f"{venue},{r.symbol},{r.time_ns // 1000},{r.time_ns // 1000 + 7},{r.first_id},"
            f"{'sell' if r.maker else 'buy'},{r.price},{r.size}"
            for r in rows
        ]
        header = "exchange,symbol,timestamp,local_timestamp,id,side,price,amount"
        path.write_bytes(gzip.compress(text(header, lines).encode(), mtime=0))
        return path

    return write


PARQUET = {"time": "ts", "price": "px", "size": "qty", "symbol": "pair", "maker": "buyer_maker"}
PROVING = PARQUET | {"first_id": "first", "last_id": "last"}


class Source(NamedTuple):
    """A tape, the archives that it is written as, and what these are not named for."""

    tape: str
    exchange: str
    market: str
    channel: str | None
    parse: Callable[[Any], Iterator[Row]]
    archives: tuple[tuple[Callable[[Path, list[Row]], Path], dict[str, Any]], ...]
    ids: bool
    only: str | None = None  # of the symbols of the tape


TAPES = {
    "binance spot": Source(
        "binance_ws/spot_btcusdt_20240808.raw.gz", "binance", "spot", "trade", of_binance,
        ((trades_csv, {}), (trades_zip, {}), (parquet, {"columns": PROVING}), (tardis_of("binance"), {})), True,
    ),
    "binance usdm": Source(
        "binance_ws/usdm_btcusdt_20240808.raw.gz", "binance", "usdm", "trade", of_binance,
        ((trades_csv, {}), (trades_zip, {}), (parquet, {"columns": PROVING})), True,
    ),
    "binance spot aggregates": Source(
        "cryptofeed/BINANCE_spot_20210404_aggTrade_kline.ws.gz", "binance", "spot", "aggTrade", of_aggregates,
        ((aggregates_csv, {}), (parquet, {"columns": PROVING})), True, "BTCUSDT",
    ),
    "bybit": Source(
        "bybit_v5/linear_BTCUSDT_20260809.jsonl.gz", "bybit", "linear", None, of_bybit,
        ((parquet, {"columns": PARQUET}),), False,
    ),
    "hyperliquid": Source(
        "hyperliquid_ws/hyperliquid_btc_20250126.raw.gz", "hyperliquid", "perp", None, of_hyperliquid,
        ((parquet, {"columns": PARQUET}),), False,
    ),
    "okx": Source(
        "cryptofeed/OKX_20220513_trades.ws.gz", "okx", "spot", None, of_okx, ((parquet, {"columns": PROVING}),), True,
        "BTC-USDT",  # the others are contracts, whose size an array does not say
    ),
    "coinbase": Source(
        "coinbase_advanced/BTC-USD_ETH-USD_20260809.jsonl.gz", "coinbase", "spot", None, of_coinbase,
        ((parquet, {"columns": PROVING}), (tardis_of("coinbase"), {})), True,
    ),
}  # fmt: skip


def sorted_lines(path: Path) -> list[str]:
    header, *lines = path.read_text("utf-8").splitlines()
    assert header == CSV_HEADER
    return sorted(lines)


def replayed(tape: Path, source: Source, folder: Path) -> list[str]:
    bars = list(fastbars.replay(tape, source.exchange, SPECS, market=source.market, channel=source.channel))
    with open_output(folder / "replayed.csv") as out:
        out.write(fastbars.BarBatch.from_bars([bar for bar in bars if source.only in (None, bar.symbol)]))
    return sorted_lines(folder / "replayed.csv")


def aggregated(rows: list[Row], source: Source, folder: Path) -> list[str]:
    with open_output(folder / "aggregated.csv") as out:
        out.write(
            fastbars.aggregate(
                [row.time_ns for row in rows],
                [row.price for row in rows],
                [row.size for row in rows],
                symbol=[row.symbol for row in rows],
                side=[not row.maker for row in rows],
                trade_id=[row.first_id for row in rows] if source.ids else None,
                last_trade_id=[row.last_id for row in rows] if source.ids else None,
                exchange=source.exchange,
                market=source.market,
                bars=SPECS,
                sort=True,
            )
        )
    return sorted_lines(folder / "aggregated.csv")


def built(archive: Path, source: Source, options: dict[str, Any]) -> list[str]:
    to = archive.with_suffix(".bars.csv")
    build([archive], SPECS, to, exchange=source.exchange, market=source.market, **options)
    return sorted_lines(to)


@pytest.mark.parametrize("name", TAPES)
def test_tapes_as_archives_make_the_same_bars(name: str, tapes: Path, tmp_path: Path) -> None:
    source = TAPES[name]
    rows = [row for row in rows_of(tapes / source.tape, source.parse) if source.only in (None, row.symbol)]
    bars = aggregated(rows, source, tmp_path)
    assert replayed(tapes / source.tape, source, tmp_path) == bars
    for write, options in source.archives:
        assert built(write(tmp_path, rows), source, options) == bars


@pytest.mark.parametrize("market", ["spot", "usdm"])
def test_a_simulated_market_as_archives_makes_the_same_bars(market: str, tmp_path: Path) -> None:
    start_ms = 1_723_161_540_000
    instruments = make_instruments(BinanceDialect.namings[market], 3)
    traded = SimulatedMarket(instruments, 60.0, 5, start_ms, 40.0 if market == "usdm" else 0.0)
    dialect = BinanceDialect(market, instruments, traded.books)
    messages = []
    for trade in traded.advance(start_ms + 90_000):
        stream = dialect.find_stream(f"{instruments[trade.instrument].symbol.lower()}@trade")
        assert stream is not None
        messages.append(dialect.wrap(stream, dialect.trades(stream, [trade], trade.time_ms)))
    tape = tmp_path / "tape.raw"
    tape.write_bytes(b"".join(b"1 %b\n" % message for message in messages))
    rows = rows_of(tape, of_binance)
    assert len(rows) > 3000
    assert market == "spot" or any(row.size == "0" for row in rows)
    source = Source("", "binance", market, "trade", of_binance, (), True)
    bars = aggregated(rows, source, tmp_path)
    assert replayed(tape, source, tmp_path) == bars
    writers: list[tuple[Callable[[Path, list[Row]], Path], dict[str, Any]]] = [(parquet, {"columns": PROVING})]
    if market == "spot":
        writers.append((tardis_of("binance"), {}))
    for write, options in writers:
        assert built(write(tmp_path, rows), source, options) == bars
    # A file for each symbol and minute, in no order, by two workers.
    files = []
    for symbol in {row.symbol for row in rows}:
        for minute in {row.time_ns // 10**9 // 60 for row in rows}:
            folder = tmp_path / f"{symbol}-{minute}"
            folder.mkdir()
            part = [row for row in rows if (row.symbol, row.time_ns // 10**9 // 60) == (symbol, minute)]
            if part:
                files.append(trades_csv(folder, part, f"2024-08-{minute % 28 + 1:02}"))
    build(sorted(files, reverse=True), SPECS, tmp_path / "bars.csv", exchange="binance", market=market, workers=2)
    assert sorted_lines(tmp_path / "bars.csv") == bars
