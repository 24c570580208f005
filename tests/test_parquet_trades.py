"""Trades in Parquet files: whatever the types of the columns, the same trades as `aggregate` takes."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fastbars.archives import parquet
from fastbars.archives.columns import TradeColumns
from fastbars.archives.formats import ArchiveFile
from fastbars.archives.named import named_columns, named_format
from fastbars.archives.reading import read_trades
from fastbars.errors import FastbarsError, TapeError

COUNT = 1000
START = datetime(2025, 3, 1, tzinfo=UTC)
NAMES = {"time": "ts", "price": "px", "size": "q", "symbol": "s", "side": "taker", "id": "Trade_ID"}


def made() -> dict[str, Any]:
    rng = np.random.default_rng(1)
    return {
        "ts": [START + timedelta(milliseconds=int(ms)) for ms in np.sort(rng.integers(0, 10**8, COUNT))],
        "px": [Decimal(int(price)) / 100 for price in rng.integers(1, 10**7, COUNT)],
        "q": [Decimal(int(size)) / 10**8 for size in rng.integers(1, 10**11, COUNT)],
        "s": [["BTCUSDT", "币安人生USDT", ""][code] for code in rng.integers(0, 3, COUNT)],
        "taker": [bool(side) for side in rng.integers(0, 2, COUNT)],
        "Trade_ID": list(range(7, 7 + COUNT)),
        "other": ["unused"] * COUNT,
    }


def archive(path: Path, columns: Mapping[str, Any], *, symbol: str | None = None, **options: Any) -> ArchiveFile:
    pq.write_table(pa.table(dict(columns)), path, row_group_size=300)
    names = options.pop("names", NAMES)
    return ArchiveFile(path, named_format(names, **options), "x", "y", symbol, None, "trades")


def trades(file: ArchiveFile) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []
    for block in read_trades(file):
        assert isinstance(block, TradeColumns)
        assert block.first_row == len(found) + 1
        ids = block.first_id if block.first_id is not None else np.zeros(len(block.time_ns), np.int64)
        found += zip(
            [block.symbols[code] for code in block.symbol],
            block.time_ns.tolist(),
            [Decimal(price).scaleb(-block.price_scale) for price in block.price.tolist()],
            [Decimal(size).scaleb(-block.size_scale) for size in block.size.tolist()],
            block.side.tolist(),
            ids.tolist(),
            strict=True,
        )
    return found


def expected() -> list[tuple[Any, ...]]:
    columns = made()
    times = [(time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000 for time in columns["ts"]]
    sides = [1 if taker else -1 for taker in columns["taker"]]
    return list(zip(columns["s"], times, columns["px"], columns["q"], sides, columns["Trade_ID"], strict=True))


def milliseconds(columns: dict[str, Any]) -> list[int]:
    return [int(time.timestamp() * 1000) for time in columns["ts"]]


TYPES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "as made": lambda _: {},
    "decimals of 38 digits": lambda c: {
        "px": pa.array(c["px"], pa.decimal128(38, 18)),
        "q": pa.array(c["q"], pa.decimal128(38, 30)),
    },
    "decimals of 9 digits": lambda c: {"px": pa.array(c["px"], pa.decimal32(9, 2))},
    "texts": lambda c: {"px": [str(p) for p in c["px"]], "q": pa.array([f"{q:f}" for q in c["q"]], pa.large_string())},
    "mantissas": lambda c: {"px": [int(p * 100) for p in c["px"]], "q": [int(q * 10**8) for q in c["q"]]},
    "floats": lambda c: {"px": [float(p) for p in c["px"]], "q": [float(q) for q in c["q"]]},
    "another zone": lambda c: {"ts": pa.array(c["ts"], pa.timestamp("ns", "America/New_York"))},
    "no zone": lambda c: {"ts": pa.array([t.replace(tzinfo=None) for t in c["ts"]], pa.timestamp("ms"))},
    "milliseconds": lambda c: {"ts": milliseconds(c)},
    "sides as texts": lambda c: {"taker": ["Buy" if t else "SELL" for t in c["taker"]]},
    "sides as numbers": lambda c: {"taker": pa.array([1 if t else -1 for t in c["taker"]], pa.int8())},
    "dictionaries": lambda c: {
        "s": pa.array(c["s"]).dictionary_encode(),
        "taker": pa.array(["buy" if t else "sell" for t in c["taker"]]).dictionary_encode(),
    },
    "small ids": lambda c: {"Trade_ID": pa.array(c["Trade_ID"], pa.uint16())},
}  # fmt: skip


@pytest.mark.parametrize("kind", TYPES)
def test_columns_of_every_type_are_the_same_trades(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "_BLOCK_ROWS", 128)
    columns = made()
    scales: dict[str, Any] = {"price_scale": 2, "size_scale": 8} if kind in ("mantissas", "floats") else {}
    file = archive(tmp_path / "x.parquet", columns | TYPES[kind](columns), **scales)
    assert trades(file) == expected()


def test_a_side_is_that_of_the_taker(tmp_path: Path) -> None:
    names = {role: column for role, column in NAMES.items() if role != "side"} | {"maker": "taker"}
    file = archive(tmp_path / "x.parquet", made(), names=names)
    assert [trade[4] for trade in trades(file)] == [-trade[4] for trade in expected()]


def test_a_symbol_may_be_given_and_ids_left_out(tmp_path: Path) -> None:
    names = {role: NAMES[role] for role in ("time", "price", "size")}
    blocks = list(read_trades(archive(tmp_path / "x.parquet", made(), names=names, symbol="S")))
    assert [block.symbols for block in blocks] == [("S",)] * len(blocks)
    assert {block.first_id is None and block.last_id is None for block in blocks} == {True}
    assert {side for block in blocks for side in block.side.tolist()} == {0}


def test_numbers_that_do_not_fit_one_scale_are_read_all_the_same(tmp_path: Path) -> None:
    columns = {name: values[:4] for name, values in made().items()}
    columns["q"] = [Decimal(10**17), Decimal("0.00000001"), Decimal(3 * 10**16), Decimal("0.000000000000000001")]
    file = archive(tmp_path / "x.parquet", columns | {"q": pa.array(columns["q"], pa.decimal128(38, 18))})
    assert [trade[3] for trade in trades(file)] == columns["q"]


def changed(name: str, row: int, value: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda columns: columns | {name: [*columns[name][:row], value, *columns[name][row + 1 :]]}


REFUSED: dict[str, tuple[Callable[[dict[str, Any]], dict[str, Any]], str]] = {
    "a null": (changed("px", 700, None), "row 701: price is null"),
    "a negative size": (changed("q", 700, Decimal(-1)), "row 701: size -1.00000000 is not positive"),
    "floats": (lambda c: c | {"px": [float(p) for p in c["px"]]}, "column price holds floats, which have already lost"),
    "no price": (lambda c: {name: c[name] for name in c if name != "px"}, "no column holds the price: it has ts, q,"),
    "two prices": (lambda c: c | {"P_X": c["px"]}, "columns px and P_X are both the price"),
    "times as texts": (lambda c: c | {"ts": [str(t) for t in c["ts"]]}, "column time_ns holds texts"),
    "an odd side": (lambda c: c | {"taker": ["buy"] * 700 + ["hold"] * 300}, "row 701: taker 'hold' is not one of"),
    "years that are none": (
        lambda c: c | {"ts": [7] * COUNT},
        "ts 7 is in none of s, ms, us, ns: say which",
    ),
    "a nested price": (lambda c: c | {"px": [[1]] * COUNT}, "column price has the Arrow type list"),
    "ids beyond 64 bits": (lambda c: c | {"Trade_ID": pa.array([2**64 - 1] * COUNT, pa.uint64())}, "row 1: first_id"),
    "no trades": (lambda c: {name: pa.array(c[name])[:0] for name in c}, "it has no trades"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_what_cannot_be_taken_is_named(tmp_path: Path, fault: str) -> None:
    change, message = REFUSED[fault]
    with pytest.raises(TapeError, match=message) as caught:
        trades(archive(tmp_path / "x.parquet", change(made())))
    assert str(caught.value).startswith(str(tmp_path / "x.parquet"))


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    file = archive(tmp_path / "x.parquet", made())
    content = file.path.read_bytes()
    for damaged in (content[:-100], content[:4], content[:4] + bytes(500) + content[504:]):
        file.path.write_bytes(damaged)
        with pytest.raises(TapeError, match="cannot be read as Parquet"):
            trades(file)


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    rows = 1_000_000
    columns = {
        "ts": pa.array(np.arange(rows) + 1_740_000_000_000, pa.timestamp("ms")),
        "px": pa.array(np.arange(rows) % 1000 + 1),
        "q": pa.array(np.ones(rows, np.int64)),
    }
    pq.write_table(pa.table(columns), tmp_path / "x.parquet", row_group_size=rows)
    file = ArchiveFile(
        tmp_path / "x.parquet", named_format({"time": "ts", "price": "px", "size": "q"}), "", "", "S", None, "trades"
    )
    before = pa.total_allocated_bytes()
    most = 0
    tracemalloc.start()
    for _ in read_trades(file):
        most = max(most, pa.total_allocated_bytes() - before)
    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 12_000_000  # of 24 MB
    assert held < 12_000_000


def test_columns_are_named_once_and_by_their_roles() -> None:
    assert named_columns("time=ts, price=px,size=q") == {"time": "ts", "price": "px", "size": "q"}
    for text, message in (("time", "'time' is not ROLE=COLUMN"), ("time=a,time=b", "each role once")):
        with pytest.raises(FastbarsError, match=message):
            named_columns(text)
    needed = {"time": "t", "price": "p", "size": "q"}
    for columns, message in (
        ({"time": "t"}, "no column is named for price, size"),
        (needed | {"volume": "v"}, "column role 'volume' is not one of time, price"),
        (needed | {"side": "a", "maker": "b"}, "both side and maker"),
        (needed | {"first_id": "a"}, "ids are one column, id, or two"),
        (needed | {"id": "T"}, "column 'T' is named for both time and id"),
    ):
        with pytest.raises(FastbarsError, match=message):
            named_format(columns)
