"""The compiled reader of CSV against a slow one in Python: any trades, any spelling of them, any cut into pieces."""

from __future__ import annotations

import csv
import gzip
import io
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import example, given, settings, strategies as st

from examples import examples
from fastbars.archives import opening
from fastbars.archives.columns import TradeColumns
from fastbars.archives.declaration import Role
from fastbars.archives.formats import recognise
from fastbars.archives.parser import LONGEST_LINE, CsvParser
from fastbars.archives.reading import read_trades
from fastbars.errors import TapeError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ROLES = [Role.TRADE_ID, Role.PRICE, Role.SIZE, Role.UNUSED, Role.TIME, Role.SIDE, Role.SYMBOL]
SIDES = {"buy": 1, "sell": -1, "": 0, "true": 1, "false": -1}
Row = tuple[Any, ...]


def parser(roles: list[Role] = ROLES, *, unit_ns: int = 1000, rows: int = 1 << 15, **options: Any) -> CsvParser:
    symbol = None if Role.SYMBOL in roles else "A"
    return CsvParser(
        roles, unit_ns=unit_ns, span_ns=(0, 1 << 62), sides=SIDES, symbol=symbol, block_rows=rows, **options
    )


def blocks_of(text: bytes, cuts: list[int], own: CsvParser) -> Iterator[TradeColumns]:
    bounds = [0, *sorted({cut for cut in cuts if cut < len(text)}), len(text)]
    for piece in [*(text[start:stop] for start, stop in pairwise(bounds) if start < stop), b""]:
        full = own.feed(piece)
        while full:
            if (block := own.block()) is not None:
                yield block
            full = own.go_on()
    if (block := own.block()) is not None:
        yield block


def rows_of(blocks: list[TradeColumns], *, faultless: bool = True) -> list[Row]:
    rows: list[Row] = []
    for block in blocks:
        assert block.first_row == len(rows) + 1
        for name, scale in (("price", block.price_scale), ("size", block.size_scale)):
            # The fewest decimals; those of a row that was refused may be among them.
            assert not faultless or scale == 0 or (getattr(block, name) % 10 != 0).any()
        rows += [
            (
                block.symbols[block.symbol[i]], int(block.time_ns[i]),
                Decimal(int(block.price[i])).scaleb(-block.price_scale),
                Decimal(int(block.size[i])).scaleb(-block.size_scale), int(block.side[i]),
                None if block.first_id is None else int(block.first_id[i]),
            )
            for i in range(len(block.time_ns))
        ]  # fmt: skip
    return rows


def slow(text: bytes, separator: str = ",") -> list[Row]:
    """The same by `csv` and `Decimal`."""
    rows = []
    for fields in csv.reader(io.StringIO(text.decode(errors="surrogateescape"), newline=""), delimiter=separator):
        if not fields:
            continue
        trade_id, price, size, _, time, side, symbol = (field.strip(" \t") for field in fields)
        rows.append(
            (
                symbol,
                int(Decimal(time) * 1000),
                Decimal(price),
                Decimal(size),
                SIDES[side.lower()],
                int(Decimal(trade_id)),
            )
        )
    return rows


def decimals(most: int) -> st.SearchStrategy[str]:
    plain = st.builds(
        lambda number, places, zeros: f"{Decimal(number).scaleb(-places):f}"
        + ("0" * zeros if places else "." + "0" * zeros if zeros else ""),
        st.integers(0, most), st.integers(0, 12), st.integers(0, 9),
    )  # fmt: skip
    odd = st.sampled_from(["1e3", "2.5E-7", "+1.5", ".5", "7.", "007.50", "0.00000000", "123456789.123456789", "1e-18"])
    return plain | plain | plain | odd


def quoted(text: str, way: int) -> str:
    return text if way < 6 else f'"{text}"' if way < 8 else f" {text}\t"


@st.composite
def texts(draw: st.DrawFn) -> tuple[bytes, str]:
    separator = draw(st.sampled_from([",", ";", "\t", "|"]))
    lines = []
    ways = st.integers(0, 8) if draw(st.booleans()) and separator != "\t" else st.just(0)
    for _ in range(draw(st.integers(0, 30))):
        fields = [
            str(draw(st.integers(0, 10 ** draw(st.integers(1, 18))))),
            draw(decimals(10 ** draw(st.integers(1, 13)))),
            draw(decimals(10 ** draw(st.integers(1, 13)))),
            draw(st.sampled_from(["", "1.5", "x" * 70, "\u5e01"])),
            draw(st.sampled_from(["1735689600000000", "1735689600000000.125", "0", "12"])),
            draw(st.sampled_from(["buy", "SELL", "Sell", "True", "false", ""])),
            draw(st.sampled_from(["BTCUSDT", "\u5e01\u5b89USDT", "ETH-USD", "A" * 100])),
        ]
        end = draw(st.sampled_from(["\n", "\n", "\n", "\r\n", "\n\n", "\r\n\r\n"]))
        lines.append(separator.join(quoted(field, draw(ways)) for field in fields) + end)
    text = "".join(lines)
    if draw(st.booleans()):
        text = text.rstrip("\r\n")
    return text.encode(), separator


@given(texts(), st.lists(st.integers(1, 4000), max_size=6), st.sampled_from([1, 2, 7, 1000]))
@settings(max_examples=examples(60), deadline=None)
@example((b"1,0.5,1,,0,buy,A\n" * 3 + b"2,0.25,1,,0,buy,A", ","), [], 1000)
def test_any_text_cut_anywhere_is_read_as_csv_and_decimal_read_it(
    given_text: tuple[bytes, str], cuts: list[int], rows: int
) -> None:
    text, separator = given_text
    made = list(blocks_of(text, cuts, parser(rows=rows, separator=separator.encode())))
    assert rows_of(made) == slow(text, separator)
    assert all(len(block.time_ns) <= rows for block in made)


def test_a_number_that_does_not_fit_at_the_scale_of_its_block_begins_another_one() -> None:
    text = b"1,0.5,1,,0,buy,A\n2,9000000000000000000,0.000000000000000001,,0,buy,A\n3,1,1,,0,buy,A\n"
    made = list(blocks_of(text, [], parser()))
    assert [len(block.time_ns) for block in made] == [1, 2]
    assert rows_of(made) == slow(text)


@pytest.mark.parametrize("length", [8, 9, 16, 17, 18, 19])
def test_whole_numbers_of_any_length_are_exact(length: int) -> None:
    number = int("9123456789012345678"[:length])
    text = f"{number},1,1,,{number % 10**15},buy,A\n".encode() * 2
    assert [row[5] for row in rows_of(list(blocks_of(text, [], parser())))] == [number, number]


@pytest.mark.parametrize(
    ("row", "place", "reason"),
    [
        (b"x,1,1,,0,buy,A", 0, "not a finite decimal number"),
        (b"-1,1,1,,0,buy,A", 0, "negative"),
        (b"1.5,1,1,,0,buy,A", 0, "not a whole number"),
        (b"9223372036854775808,1,1,,0,buy,A", 0, "does not fit 64 bits"),
        (b"1,1.2.3,1,,0,buy,A", 1, "not a finite decimal number"),
        (b"1,nan,1,,0,buy,A", 1, "not a finite decimal number"),
        (b"1,1,,,0,buy,A", 2, "empty"),
        (b"1,1,0.1234567890123456789,,0,buy,A", 2, "more than 18 decimals"),
        (b"1,1,1,,0.0000001,buy,A", 4, "finer than nanoseconds"),
        (b"1,1,1,,9e18,buy,A", 4, "not plausible"),
        (b"1,1,1,,0,bought,A", 5, "not a side"),
        (b"1,1,1,,0,buy,", 6, "not a symbol"),
        (b"1,1,1,,0,buy,\xff", 6, "not UTF-8"),
        (b"1,1,1,,0,buy," + b"A" * 121, 6, "at most 120 bytes"),
        (b"1,1,1,,0,buy", 5, "fewer columns"),
        (b"1,1,1,,0,buy,A,", 6, "more columns"),
        (b'1,1,1,,0,"buy,A', 5, "within quotes"),
        (b'1,1,1,,0,"buy"x,A', 5, "behind a closing quote"),
        (b'1,1,1,,0,bu"y,A', 5, "a quote within"),
        (b"1,1,1,,0,buy,A\rB", 6, "carriage return"),
        (b"1,1,1," + b"y" * LONGEST_LINE + b",0,buy,A", -1, "long"),
        (b"1,1,1,\0,\0,buy,A", 4, "not a finite decimal number"),
    ],
)
def test_a_malformed_row_is_named_by_line_and_column_behind_those_before_it(
    row: bytes, place: int, reason: str
) -> None:
    good = b"7,1,1,,0,buy,A\n"
    own = parser()
    with pytest.raises(ValueError, match=r".") as error:
        list(blocks_of(good * 3 + b"\n" + row + b"\n" + good, [], own))
    line, column, value, why = error.value.args[0]
    assert (line, column) == (5, place)
    assert reason in why
    assert len(value) <= 60
    block = own.block()
    assert block is not None
    assert len(block.time_ns) == 3


def test_a_line_without_an_end_costs_no_memory() -> None:
    own = parser()
    assert own.feed(b"1" * 16_000) is False
    with pytest.raises(ValueError, match="without a line end"):
        own.feed(b"1" * 1_000_000)


@pytest.mark.parametrize("cut", range(1, 40))
def test_times_as_texts_and_with_decimals(cut: int) -> None:
    text = b"1,1,2024-02-29T23:59:59.123456789Z,1.5\n2,1,2024-02-29 23:59:59.5+00:00,1.5\n3,1,2024-02-29T23:59:59,1.5\n"
    roles = [Role.TRADE_ID, Role.SIZE, Role.TIME, Role.PRICE]
    times = [row[1] for row in rows_of(list(blocks_of(text, [cut, cut + 7], parser(roles, unit_ns=0))))]
    whole = int((datetime(2024, 2, 29, 23, 59, 59, tzinfo=UTC) - EPOCH) / timedelta(microseconds=1)) * 1000
    assert times == [whole + 123_456_789, whole + 500_000_000, whole]
    for wrong in (b"2023-02-29T00:00:00Z", b"2024-02-29T00:00:00+01:00", b"2024-02-29", b"yesterday"):
        with pytest.raises(ValueError, match="not a time"):
            list(blocks_of(b"1,1," + wrong + b",1.5\n", [], parser(roles, unit_ns=0)))
    seconds = list(blocks_of(b"1,1,1585180700.0647,2\n2,1,1585180701,2\n", [], parser(roles, unit_ns=10**9)))
    assert [row[1] for row in rows_of(seconds)] == [1_585_180_700_064_700_000, 1_585_180_701_000_000_000]


class Sample(NamedTuple):
    name: str
    text: str
    exchange: str
    market: str
    symbol: str | None
    trades: list[Row]


NS = 1_735_689_600_000_000_000
SAMPLES = [
    Sample("BTCUSDT-trades-2024-08-08.csv", "5,61837.63000000,0.10000000,6183.76,1735689600000,True,True\n",
           "binance", "spot", "BTCUSDT", [("BTCUSDT", NS, Decimal("61837.63"), Decimal("0.1"), -1, 5)]),
    Sample("BTCUSDT-trades-2025-01-01.csv",
           "id,price,qty,quote_qty,time,is_buyer_maker\n5,0.5,2,1,1735689600000,false\n",
           "binance", "usdm", "BTCUSDT", [("BTCUSDT", NS, Decimal("0.5"), Decimal(2), 1, 5)]),
    Sample("BTCUSD_PERP-aggTrades-2025-01.csv",
           "agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker\n"
           "1,0.5,2,5,7,1735689600000,false\n",
           "binance", "coinm", "BTCUSD_PERP", [("BTCUSD_PERP", NS, Decimal("0.5"), Decimal(2), 1, 5)]),
    Sample("BTCUSDT-aggTrades-2025-01-01.csv", "1,0.5,2,5,5,1735689600000000,True,True\n",
           "binance", "spot", "BTCUSDT", [("BTCUSDT", NS, Decimal("0.5"), Decimal(2), -1, 5)]),
    Sample("BTCUSD2025-01-01.csv.gz",
           "timestamp,symbol,side,size,price,tickDirection,trdMatchID,grossValue,homeNotional,foreignNotional\n"
           "1735689600.0001,BTCUSD,Sell,100,61837.5,ZeroMinusTick,b6b95ac3-d9b8,2e+10,0.042,281.3\n",
           "bybit", "inverse", "BTCUSD", [("BTCUSD", NS + 100_000, Decimal("61837.5"), Decimal(100), -1, None)]),
    Sample("BTCUSDT_2025-01-01.csv", "id,timestamp,price,volume,side,rpi\n1,1735689600000,0.5,2,buy,0\n",
           "bybit", "spot", "BTCUSDT", [("BTCUSDT", NS, Decimal("0.5"), Decimal(2), 1, None)]),
    Sample("BTC-USDT-SWAP-trades-2025-01-01.csv",
           "instrument_name,trade_id,side,price,size,created_time\nBTC-USDT-SWAP,5,sell,0.5,2,1735689600000\n",
           "okx", "derivatives", "BTC-USDT-SWAP", [("BTC-USDT-SWAP", NS, Decimal("0.5"), Decimal(2), -1, 5)]),
    Sample("XBTUSD.csv", "1735689600,0.5,2\n1735689600.25,0.5,2\n",
           "kraken", "spot", "XBTUSD", [("XBTUSD", NS, Decimal("0.5"), Decimal(2), 0, None),
                                        ("XBTUSD", NS + 250_000_000, Decimal("0.5"), Decimal(2), 0, None)]),
    Sample("binance_trades_2025-01-01_BTCUSDT.csv.gz",
           "exchange,symbol,timestamp,local_timestamp,id,side,price,amount\n"
           "binance,BTCUSDT,1735689600000000,1735689600000009,5,buy,0.5,2\n",
           "binance", "spot", "BTCUSDT", [("BTCUSDT", NS, Decimal("0.5"), Decimal(2), 1, 5)]),
    Sample("deribit_trades_2025-01-01_FUTURES.csv.gz",
           "exchange,symbol,timestamp,local_timestamp,id,side,price,amount\n"
           "deribit,BTC-PERPETUAL,1735689600000000,1735689600000009,ETH-1,unknown,0.5,2\n",
           "deribit", "", None, [("BTC-PERPETUAL", NS, Decimal("0.5"), Decimal(2), 0, None)]),
]  # fmt: skip


def packed(path: Path, text: bytes) -> None:
    path.write_bytes(gzip.compress(text[:7]) + gzip.compress(text[7:]) if path.suffix == ".gz" else text)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
@pytest.mark.parametrize("quirk", [bytes, lambda text: b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n") + b"\r\n\r\n"])
def test_each_format_is_recognised_and_read(tmp_path: Path, sample: Sample, quirk: Callable[[bytes], bytes]) -> None:
    path = tmp_path / sample.name
    packed(path, quirk(sample.text.encode()))
    file = recognise(path)
    assert (file.exchange, file.market, file.symbol) == (sample.exchange, sample.market, sample.symbol)
    assert rows_of(list(read_trades(file))) == sample.trades


def test_columns_of_ones_own_by_name_and_by_number(tmp_path: Path) -> None:
    (tmp_path / "named.csv").write_text("px;ts;maker;qty;sym\n0.5;2025-01-01T00:00:00Z;True;2;\u5e01\n", "utf-8")
    columns = {"time": "ts", "price": "px", "size": "qty", "maker": "maker", "symbol": "sym"}
    made = rows_of(list(read_trades(recognise(tmp_path / "named.csv", columns=columns))))
    assert made == [("\u5e01", NS, Decimal("0.5"), Decimal(2), -1, None)]
    (tmp_path / "bare.csv").write_text("0.5,1735689600,5,2\n")
    columns = {"time": "2", "price": "1", "size": "4", "id": "3"}
    made = rows_of(list(read_trades(recognise(tmp_path / "bare.csv", columns=columns, symbol="A"))))
    assert made == [("A", NS, Decimal("0.5"), Decimal(2), 0, 5)]


def zipped(path: Path, members: dict[str, bytes], **options: Any) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, **options) as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return path


@pytest.mark.parametrize("fast", [True, False], ids=["isal", "zlib"])
def test_a_zip_is_read_member_by_member_and_checked(
    tmp_path: Path, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not fast:
        import zlib

        monkeypatch.setattr(opening, "inflater", lambda: zlib)
    else:
        pytest.importorskip("isal")
    row = b"5,0.5,2,1,1735689600000,False,True\n"
    path = zipped(
        tmp_path / "BTCUSDT-trades-2025-01-01.zip",
        {"BTCUSDT-a.csv": row * 20_000, "BTCUSDT-b.csv": row, "__MACOSX/c.csv": b"x", "notes.txt": b"y"},
    )
    blocks = list(read_trades(recognise(path)))
    assert sum(len(block.time_ns) for block in blocks) == 20_001
    assert blocks[-1].first_row == 20_001
    content = path.read_bytes()
    for damage in (len(content) // 2, 45):
        path.write_bytes(content[:damage] + bytes([content[damage] ^ 0x55]) + content[damage + 1 :])
        with pytest.raises(TapeError, match=r"BTCUSDT-trades-2025-01-01\.zip"):
            list(read_trades(recognise(path)))
    path.write_bytes(content[:-40])
    with pytest.raises(TapeError, match="damaged"):
        recognise(path)


def test_a_zip_that_lies_about_its_size_or_is_encrypted_is_refused(tmp_path: Path) -> None:
    row = b"5,0.5,2,1,1735689600000,False,True\n"
    path = zipped(tmp_path / "BTCUSDT-trades-2025-01-01.zip", {"a.csv": row * 100_000})
    content = path.read_bytes()
    size = (len(row) * 100_000).to_bytes(4, "little")
    path.write_bytes(content.replace(size, (1000).to_bytes(4, "little")))
    with pytest.raises(TapeError, match="more than the 1,000 bytes that it claims"):
        list(read_trades(recognise(path)))
    central = content.rindex(b"PK\1\2")
    path.write_bytes(content[: central + 8] + b"\1" + content[central + 9 :])
    with pytest.raises(TapeError, match="encrypted"):
        list(read_trades(recognise(path)))


def test_a_change_of_the_unit_within_a_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT-trades-2025-01-01.csv"
    path.write_text("5,0.5,2,1,1735689600000,False,True\n6,0.5,2,1,1735689600000000,False,True\n")
    with pytest.raises(TapeError, match=r"line 2, column 5 \(time\): '1735689600000000': not plausible"):
        list(read_trades(recognise(path)))


def test_a_file_of_another_symbol_than_its_name_says_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "BTC-USDT-trades-2025-01-01.csv"
    path.write_text(
        "instrument_name,trade_id,side,price,size,created_time\nBTC-USDT,5,sell,0.5,2,1735689600000\n"
        "ETH-USDT,5,sell,0.5,2,1735689600000\n"
    )
    with pytest.raises(TapeError, match="'ETH-USDT', and by its name of 'BTC-USDT' alone"):
        list(read_trades(recognise(path)))


def test_blocks_share_their_columns_with_nobody(tmp_path: Path) -> None:
    own = parser([Role.TIME, Role.PRICE, Role.SIZE], rows=2)
    made = list(blocks_of(b"1,1,1\n2,2,2\n3,3,3\n", [], own))
    assert [block.time_ns.tolist() for block in made] == [[1000, 2000], [3000]]
    assert all(np.array_equal(block.price, block.size) for block in made)
