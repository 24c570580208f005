"""Bars written to files and read back: every field exact, whatever the batches; and files of others are refused."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from fastbars import BarBatch, BarStatus, ExchangeBar, Instruments, OHLCVBar, PrecisionError, TapeError, aggregate
from fastbars.archives import output
from fastbars.archives.output import open_output
from fastbars.bars import reported
from fastbars.cli.output import csv_line, json_line
from fastbars.columnar import parquet
from fastbars.columnar.lines import CSV_HEADER
from fastbars.errors import FastbarsError
from fastbars.kernel.fields import ROW_DTYPE
from fastbars.specs import parse_specs

START_NS = 1_700_000_000_000_000_000
MINUTE_NS = 60 * 10**9


def some_bars(count: int = 3000, *, ids: bool = True, seed: int = 1, market: str = "spot", **options: Any) -> BarBatch:
    rng = np.random.default_rng(seed)
    columns: dict[str, Any] = {
        "time_ns": START_NS + 1000 * np.sort(rng.integers(0, 10**10, count)),
        "price": rng.integers(1, 10**6, count),
        "size": rng.integers(1, 10**9, count),
        "symbol": rng.choice(["BTCUSDT", "ETH/USDT", "Ünïcode,=%", "币安人生USDT"], count) if not ids else "BTC-ü",
        "side": rng.choice([1, -1], count),
        "price_scale": 2,
        "size_scale": 8,
        "bars": "1m,1h,tick:100",
        "exchange": "binance",
        "market": market,
    }
    if ids:
        columns["trade_id"] = np.arange(100, 100 + count)
    return aggregate(**(columns | options))


def in_order(batch: BarBatch) -> list[OHLCVBar]:
    return sorted(batch.to_bars(), key=lambda bar: (bar.exchange, bar.market, bar.spec, bar.symbol, bar.open_time))


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def parts(batch: BarBatch, step: int) -> Iterator[BarBatch]:
    for start in range(0, len(batch), step):
        yield batch[start : start + step]


@pytest.mark.parametrize("ids", [True, False])
def test_bars_read_from_parquet_are_those_written(tmp_path: Path, ids: bool) -> None:
    bars = some_bars(ids=ids)
    bars.to_parquet(tmp_path / "bars.parquet")
    read = BarBatch.from_parquet(tmp_path / "bars.parquet")
    assert read.to_bars() == bars.to_bars()
    assert read.ids is ids
    assert [path.name for path in tmp_path.iterdir()] == ["bars.parquet"]


@pytest.mark.parametrize("form", output.OUTPUT_FORMATS)
def test_equal_bars_make_equal_bytes_however_they_come(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "_MOST_WAITING", 200)
    monkeypatch.setattr(parquet, "ROW_GROUP", 150)
    bars = some_bars(ids=False)
    made = set()
    for step in (7, 100, len(bars)):
        with open_output(tmp_path / f"bars.{form}") as out:
            for part in parts(bars, step):
                out.write(part)
        assert out.bars == len(bars)
        made.add(digest(tmp_path / f"bars.{form}"))
    assert len(made) == 1
    assert [path.name for path in tmp_path.iterdir()] == [f"bars.{form}"]


def test_text_is_that_of_the_command(tmp_path: Path) -> None:
    bars = some_bars()
    for form, line, head in (("csv", csv_line, [CSV_HEADER]), ("jsonl", json_line, [])):
        with open_output(tmp_path / f"x.{form}") as out:
            out.write(bars)
        assert (tmp_path / f"x.{form}").read_text("utf-8").splitlines() == [*head, *map(line, bars)]


def test_a_partitioned_folder_has_each_bar_once_and_takes_partitions_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "_MOST_WAITING", 100)
    bars = some_bars(ids=False)
    others = some_bars(ids=False, market="usdm", seed=2)
    for _ in range(2):
        with open_output(tmp_path / "bars", partition_by=["exchange", "market", "spec", "symbol", "date"]) as out:
            for part in (*parts(bars, 64), *parts(others, 64)):
                out.write(part)
        read = BarBatch.from_parquet(tmp_path / "bars", exchange="binance", market="spot")
        assert in_order(read) == in_order(bars)
    with pytest.raises(ValueError, match="these are of binance spot, binance usdm: choose with exchange= and market="):
        BarBatch.from_parquet(tmp_path / "bars")
    table = ds.dataset(tmp_path / "bars", partitioning="hive").to_table()
    assert table.num_rows == len(bars) + len(others)
    with pytest.raises(FastbarsError, match="is not of the partitions symbol: choose another folder"):
        open_output(tmp_path / "bars", partition_by=["symbol"])
    assert [path.name for path in tmp_path.iterdir()] == ["bars"]


def test_only_the_bars_wanted_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "ROW_GROUP", 50)
    bars = some_bars(ids=False)
    bars.to_parquet(tmp_path / "x.parquet")
    since, until = datetime(2023, 11, 14, 23, tzinfo=UTC), datetime(2023, 11, 15, 0, 30, tzinfo=UTC)
    read = BarBatch.from_parquet(
        tmp_path / "x.parquet", symbols="币安人生USDT", specs=["1m", "1h"], since=since, until=until
    )
    assert read.to_bars() == [
        bar
        for bar in bars
        if bar.symbol == "币安人生USDT" and bar.spec in ("1m", "1h") and since <= bar.open_time < until
    ]
    assert len(read)
    assert len(BarBatch.from_parquet(tmp_path / "x.parquet", specs="5m")) == 0


def row_of(**values: Any) -> npt.NDArray[Any]:
    rows = np.zeros(1, ROW_DTYPE)
    for name, value in {"first_id": 1, "last_id": 2, "count": 2, "high": 5, "low": 1, "open": 1, "close": 5}.items():
        rows[name] = value
    rows["open_time"], rows["close_time"] = START_NS, START_NS + MINUTE_NS
    for name, value in values.items():
        rows[name] = value
    return rows


def test_inverse_markets_and_the_widest_values_come_back(tmp_path: Path) -> None:
    inverse = Instruments("binance", False, "coinm")
    inverse.add("BTCUSD_PERP", 1, 0, "100")
    bars = BarBatch(
        np.concatenate([row_of(volume=(7, 0), quote_volume=(700, 0)), row_of(price_scale=1, quote_scale=4)]),
        inverse, parse_specs("1m"), ids=True,
    )  # fmt: skip
    bars.to_parquet(tmp_path / "x.parquet")
    read = BarBatch.from_parquet(tmp_path / "x.parquet")
    assert read.to_bars() == bars.to_bars()
    assert [bar.inverse for bar in read] == [True, True]
    assert read[:1].merge(read[:0]).instruments.contract_size("BTCUSD_PERP") == 100

    plain = Instruments("x", True, "spot")
    plain.add("S")
    widest = 10**38 - 1
    rows = row_of(volume=(widest & (2**64 - 1), widest >> 64), high=2**63 - 1, low=-(2**63) + 1, open=0, close=-1)
    bars = BarBatch(rows, plain, parse_specs("1m"), ids=True)
    bars.to_parquet(tmp_path / "x.parquet")
    assert BarBatch.from_parquet(tmp_path / "x.parquet").to_bars() == bars.to_bars()

    both = np.concatenate([rows, row_of(volume=(1, 0), size_scale=1)])
    with pytest.raises(PrecisionError, match=r"x spot S 1m 2023-11-14.*: volume .* needs more than the 38 digits"):
        BarBatch(both, plain, parse_specs("1m"), ids=True).to_parquet(tmp_path / "y.parquet")
    with pytest.raises(PrecisionError), open_output(tmp_path / "y.arrow") as out:
        out.write(BarBatch(both, plain, parse_specs("1m"), ids=True))
    assert [path.name for path in tmp_path.iterdir()] == ["x.parquet"]


def test_bars_without_some_fields_come_back(tmp_path: Path) -> None:
    opened = datetime(2025, 3, 1, tzinfo=UTC)
    candle = ExchangeBar(
        "S", "1m", opened, opened + timedelta(minutes=1), Decimal(2), Decimal("2.5"), Decimal(1), Decimal(2),
        Decimal("7.125"), None, None, None, None, None, None, True, None, exchange="x", market="y",
    )  # fmt: skip
    bars = [reported(candle, revision=3)]
    bars += [
        replace(bars[0], open_time=opened + timedelta(hours=1), close_time=opened + timedelta(hours=2), trade_count=7)
    ]
    unpriced = {"open": None, "high": None, "low": None, "close": None, "volume": Decimal(0), "trade_count": 0}
    bars += [replace(bars[0], symbol="T", status=BarStatus.GAP, quote_volume=Decimal(0), taker_buy_volume=Decimal(0),
                     taker_buy_quote_volume=Decimal(0), **unpriced)]  # type: ignore[arg-type]  # fmt: skip
    bars += [*some_bars(50, exchange="x", market="y")]
    BarBatch.from_bars(bars).to_parquet(tmp_path / "x.parquet")
    assert BarBatch.from_parquet(tmp_path / "x.parquet").to_bars() == bars
    with open_output(tmp_path / "x.csv") as out:
        out.write(BarBatch.from_bars(bars))
    assert (tmp_path / "x.csv").read_text("utf-8").splitlines()[1:] == [csv_line(bar) for bar in bars]

    def counted(table: pa.Table) -> pa.Table:
        return set_column(table, "taker_buy_volume", [None] * 3 + [None] + table["taker_buy_volume"].to_pylist()[4:])

    with pytest.raises(TapeError, match="row 2: taker_buy_volume is null, in a bar that is GAP"):
        BarBatch.from_parquet(altered(tmp_path / "x.parquet", counted))


def test_a_table_has_the_fewest_decimals_that_its_values_need(tmp_path: Path) -> None:
    names = Instruments("x", False, "spot")
    names.add("S")
    rows = np.concatenate(
        [row_of(open=100, low=100, high=500, close=500, price_scale=2, volume=(1000, 0), size_scale=2)]
    )
    BarBatch(rows, names, parse_specs("1m"), ids=True).to_parquet(tmp_path / "x.parquet")
    schema = pq.read_schema(tmp_path / "x.parquet")
    assert (schema.field("high").type.scale, schema.field("volume").type.scale) == (0, 0)
    assert schema.field("quote_volume").type == pa.decimal128(38, 0)


def test_what_was_there_stays_after_a_failure(tmp_path: Path) -> None:
    for name in ("x.csv", "x.parquet"):
        path = tmp_path / name
        path.write_text("mine")
        with pytest.raises(IndexError), open_output(path) as out:
            out.write(some_bars(100)[10**6])  # type: ignore[arg-type]
        assert path.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.csv", "x.parquet"]
    out.abort()
    with pytest.raises(ValueError, match="closed"):
        out.write(some_bars(100))


def altered(path: Path, change: Any) -> Path:
    pq.write_table(change(pq.read_table(path)), path)
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop_columns(["volume"]), "no column volume"),
        (lambda t: set_type(t, "open", pa.float64()), "column open is double, bars have decimal128"),
        (lambda t: set_type(t, "open_time", pa.timestamp("us")), "column open_time is timestamp.us., bars have timest"),
        (lambda t: set_type(t, "symbol", pa.large_binary()), "column symbol is large_binary, bars have strings"),
        (lambda t: set_column(t, "status", ["FINE"] * len(t)), "row 0: status 'FINE' is not known"),
        (lambda t: set_column(t, "spec", ["1m"] * (len(t) - 1) + ["x"]), "spec bar spec 'x' is not known"),
        (lambda t: set_column(t, "revision", [0, -1] + [0] * (len(t) - 2)), "row 1: revision -1 is out of range"),
        (lambda t: set_column(t, "symbol", [None, *"x" * (len(t) - 1)]), "row 0: symbol is null"),
    ],
)
def test_a_file_that_is_not_of_bars_is_refused(tmp_path: Path, change: Any, message: str) -> None:
    some_bars(100).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(TapeError, match=message):
        BarBatch.from_parquet(altered(tmp_path / "x.parquet", change))


def set_type(table: pa.Table, name: str, kind: pa.DataType) -> pa.Table:
    place = table.schema.get_field_index(name)
    column = table.column(name)
    plain = column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column
    return table.set_column(
        place, name, plain.cast(pa.binary()).cast(kind) if kind == pa.large_binary() else plain.cast(kind)
    )


def set_column(table: pa.Table, name: str, values: list[Any]) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), name, pa.array(values))


def test_a_file_that_others_rewrote_is_read(tmp_path: Path) -> None:
    bars = some_bars()
    bars.to_parquet(tmp_path / "x.parquet")

    def rewritten(table: pa.Table) -> pa.Table:
        for name in ("symbol", "spec"):
            table = set_type(table, name, pa.large_string())
        for name in ("open", "high"):
            table = table.set_column(
                table.schema.get_field_index(name), name, table.column(name).cast(pa.decimal128(20, 6))
            )
        return set_type(table.drop_columns(["contract_size"]), "open_time", pa.timestamp("us", "America/New_York"))

    assert BarBatch.from_parquet(altered(tmp_path / "x.parquet", rewritten)).to_bars() == bars.to_bars()


def test_what_is_no_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(TapeError, match="cannot be read as Parquet"):
        BarBatch.from_parquet(tmp_path / "x.parquet")
    (tmp_path / "folder").mkdir()
    with pytest.raises(FileNotFoundError):
        BarBatch.from_parquet(tmp_path / "folder")
    some_bars().to_parquet(tmp_path / "x.parquet")
    content = bytearray((tmp_path / "x.parquet").read_bytes())
    for cut in (len(content) // 2, 8, len(content) - 20):
        (tmp_path / "y.parquet").write_bytes(content[:cut])
        with pytest.raises(TapeError):
            BarBatch.from_parquet(tmp_path / "y.parquet")


def test_an_output_needs_a_known_format(tmp_path: Path) -> None:
    with pytest.raises(FastbarsError, match=r"the suffix names no format; known are \.parquet"):
        open_output(tmp_path / "x")
    with pytest.raises(FastbarsError, match="format 'xml' is not one of parquet, arrow, csv, jsonl"):
        open_output(tmp_path / "x", form="xml")
    with pytest.raises(FastbarsError, match="only Parquet can be partitioned, not csv"):
        open_output(tmp_path / "x.csv", form="csv", partition_by=["symbol"])
    with pytest.raises(FastbarsError, match="partitions hour: each must be one of"):
        open_output(tmp_path / "x", partition_by=["hour"])
    for name in ("x.csv", "x.parquet"):
        (tmp_path / name).mkdir()
        with pytest.raises(IsADirectoryError):
            open_output(tmp_path / name)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
