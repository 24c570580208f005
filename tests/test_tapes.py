"""Tests of reading tapes: every line format, every compression, and every way a file can be broken."""

from __future__ import annotations

import builtins
import gzip
import os
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
import pytest

from fastbars.errors import TapeError
from fastbars.tapes import TapeRecord, read_tape, read_tapes

TAPES = Path(os.environ.get("FASTBARS_TAPES", Path(__file__).parents[2] / "shared" / "tapes"))
needs_tapes = pytest.mark.skipif(
    not TAPES.is_dir(),
    reason=f"no recorded tapes: {TAPES} is missing (set FASTBARS_TAPES to their directory)",
)

LINES = b'1723161254087896568 {"e":"trade","t":1}\n1723161254087896569 pong\n1723161254087896570 {"t":2}\n'
RECORDS = [
    TapeRecord(1723161254087896568, b'{"e":"trade","t":1}'),
    TapeRecord(1723161254087896569, b"pong"),
    TapeRecord(1723161254087896570, b'{"t":2}'),
]


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def read_until_error(path: Path) -> tuple[list[TapeRecord], str]:
    """Read until a TapeError; returns what came before it, and its message."""
    records: list[TapeRecord] = []
    tape = read_tape(path)
    with pytest.raises(TapeError) as caught:  # noqa: PT012 - what came before the error is wanted too
        while True:
            records.append(next(tape))
    return records, str(caught.value)


def zstd(content: bytes) -> bytes:
    if sys.version_info >= (3, 14):
        from compression import zstd as stdlib_zstd

        return stdlib_zstd.compress(content)
    return bytes(pytest.importorskip("zstandard").compress(content))


def test_local_nanoseconds_and_raw_message_are_read_unchanged(tmp_path: Path) -> None:
    assert list(read_tape(write(tmp_path / "tape.raw", LINES))) == RECORDS


def test_plain_gzip_and_zstd_are_told_by_content_not_by_name(tmp_path: Path) -> None:
    plain = write(tmp_path / "a.gz", LINES)
    gzipped = write(tmp_path / "b.zst", gzip.compress(LINES))
    zstandard = write(tmp_path / "c.raw", zstd(LINES))
    assert list(read_tape(plain)) == list(read_tape(gzipped)) == list(read_tape(zstandard)) == RECORDS


def test_joined_compressed_members_read_as_one_tape(tmp_path: Path) -> None:
    half = len(LINES) // 2  # in the middle of a line
    gzipped = write(tmp_path / "a", gzip.compress(LINES[:half]) + gzip.compress(LINES[half:]) + b"\0" * 512)
    zstandard = write(tmp_path / "b", zstd(LINES[:half]) + zstd(LINES[half:]))
    assert list(read_tape(gzipped)) == RECORDS
    assert list(read_tape(zstandard)) == RECORDS


def test_cryptofeed_seconds_become_exact_nanoseconds_and_only_received_messages_are_read(
    tmp_path: Path,
) -> None:
    content = (
        b"wss://ws.okx.com:8443/ws/v5/public <-> 1652459224.5300605\n"
        b'wss://ws.okx.com:8443/ws/v5/public <- 1652459225.2987883: {"op":"subscribe","args":[]}\n'
        b'https://www.binance.com/api/v1/depth?symbol=DOTUSDT -> 1617566592.1065369: {"lastUpdateId":1}\n'
        b'1626992741.06217: {"a": 1}\n'
        b'1626992741.3105128: {"a":2}\n'
        b'1626992742: {"a":3}'
    )
    assert list(read_tape(write(tmp_path / "tape", content))) == [
        TapeRecord(1626992741062170000, b'{"a": 1}'),
        TapeRecord(1626992741310512800, b'{"a":2}'),
        TapeRecord(1626992742000000000, b'{"a":3}'),
    ]


def test_json_lines_yield_what_was_received_with_the_time_taken_from_the_text(tmp_path: Path) -> None:
    content = (
        b'{"t": "connect", "ts": 1786310818.2235148, "addr": "wss://x", "raw": null}\n'
        b'{"t": "send", "ts": 1786310819.228447, "addr": "wss://x", "raw": "{}"}\n'
        b'{"t": "recv", "ts": 1786310819.526357123, "addr": null, "raw": "{\\"s\\":\\"\\u20ac\\"}"}\n'
        b'{"t":"recv","ts":null,"addr":null,"raw":"pong"}\n'
    )
    assert list(read_tape(write(tmp_path / "tape.jsonl", content))) == [
        TapeRecord(1786310819526357123, '{"s":"€"}'.encode()),
        TapeRecord(None, b"pong"),
    ]


def test_lines_of_several_formats_may_follow_each_other(tmp_path: Path) -> None:
    content = b'17 {"a":1}\n1.5: {"a":2}\n\n{"t":"recv","ts":2,"raw":"{}"}\n'
    assert list(read_tape(write(tmp_path / "tape", content))) == [
        TapeRecord(17, b'{"a":1}'),
        TapeRecord(1_500_000_000, b'{"a":2}'),
        TapeRecord(2_000_000_000, b"{}"),
    ]


def test_messages_longer_than_a_piece_are_read_whole(tmp_path: Path) -> None:
    payload = b'{"x":"' + b"y" * 1_000_000 + b'"}'
    path = write(tmp_path / "tape", gzip.compress(b"1 " + payload + b"\n2 {}\n"))
    assert list(read_tape(path)) == [TapeRecord(1, payload), TapeRecord(2, b"{}")]


def test_several_tapes_are_read_in_the_order_given(tmp_path: Path) -> None:
    first, second = write(tmp_path / "1", b"5 {}\n"), write(tmp_path / "2", b"3 []\n")
    assert list(read_tapes([first, str(second)])) == [TapeRecord(5, b"{}"), TapeRecord(3, b"[]")]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    records, message = read_until_error(tmp_path / "nowhere.gz")
    assert records == []
    assert str(tmp_path / "nowhere.gz") in message
    assert "No such file" in message


@pytest.mark.parametrize("content", [b"", gzip.compress(b"")], ids=["plain", "gzip"])
def test_an_empty_tape_is_an_error_that_says_so(tmp_path: Path, content: bytes) -> None:
    records, message = read_until_error(write(tmp_path / "tape", content))
    assert records == []
    assert message.endswith("the tape is empty")


@pytest.mark.parametrize(
    "line",
    [
        b"not a tape line",
        b'{"e":"trade"}',
        b"17231612540878",
        b"1.2.3: {}",
        b'{"t":"recv","ts":"soon","raw":"{}"}',
        b'{"t":"recv","ts":1,"raw":null}',
        b'{"t":"recv","ts":1,',
    ],
)
def test_an_unreadable_line_is_named_by_number_after_all_before_it_was_read(tmp_path: Path, line: bytes) -> None:
    path = write(tmp_path / "tape", LINES + line + b"\n" + LINES)
    records, message = read_until_error(path)
    assert records == RECORDS
    assert message.startswith(f"{path}, line 4: ")


@pytest.mark.parametrize("last", [b'99 {"a":1', b"99 12", b"99", b'99 {"a":"x"}}', b"1.5: [1,", b'{"t":"recv","ts":1'])
def test_a_last_line_that_was_cut_off_is_an_error_after_all_before_it_was_read(tmp_path: Path, last: bytes) -> None:
    records, message = read_until_error(write(tmp_path / "tape", LINES + last))
    assert records == RECORDS
    assert "line 4: the last line is cut off" in message


def test_a_complete_last_line_needs_no_newline(tmp_path: Path) -> None:
    assert list(read_tape(write(tmp_path / "tape", LINES[:-1]))) == RECORDS
    assert list(read_tape(write(tmp_path / "tape", b"7 pong"))) == [TapeRecord(7, b"pong")]


@pytest.mark.parametrize("compress", [gzip.compress, zstd], ids=["gzip", "zstd"])
def test_a_cut_off_compressed_stream_yields_what_is_complete_then_raises(tmp_path: Path, compress: Any) -> None:
    # incompressible text, so that the cut falls into the middle of the messages
    lines = [b'%d {"x":"%b"}' % (number, os.urandom(60).hex().encode()) for number in range(20_000)]
    content = compress(b"\n".join(lines) + b"\n")
    records, message = read_until_error(write(tmp_path / "tape", content[: len(content) // 2]))
    assert 5_000 < len(records) < 15_000
    assert [b"%d %b" % (record.receive_time_ns or 0, record.payload) for record in records] == lines[: len(records)]
    assert f"line {len(records) + 1}: the compressed data ends early" in message


def test_a_damaged_compressed_stream_is_a_tape_error(tmp_path: Path) -> None:
    content = bytearray(gzip.compress(LINES))
    content[-6] ^= 0xFF  # the checksum
    records, message = read_until_error(write(tmp_path / "tape", bytes(content)))
    assert records in ([], RECORDS)
    assert "damaged" in message


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="zstd is in the standard library here")
def test_zstd_without_its_package_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "tape.zst", zstd(LINES))
    real_import = builtins.__import__

    def no_zstandard(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "zstandard":
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_zstandard)
    with pytest.raises(TapeError, match=r'pip install "fastbars\[cli\]"'):
        next(read_tape(path))


REAL_TAPES = [
    ("binance_ws/spot_btcusdt_20240808.raw.gz", 41249, 1723161253937085768),
    ("cryptofeed/BINANCE_spot_20210404_aggTrade_kline.ws.gz", 4716, 1617566591326123000),
    ("cryptofeed/BINANCE_FUTURES_20210722_aggTrade_kline.ws.gz", 1535, 1626992741062170000),
    ("cryptofeed/OKX_20220513_trades.ws.gz", 410, 1652459225503749100),
    ("bybit_v5/linear_BTCUSDT_20260809.jsonl.gz", 223, 1786310819526357000),
    ("coinbase_advanced/BTC-USD_ETH-USD_20260809.jsonl.gz", None, 1786309548629007800),
    ("hyperliquid_ws/hyperliquid_btc_20250126.raw.gz", 55, 1737918843893903000),
]


@needs_tapes
@pytest.mark.parametrize(("name", "count", "first_ns"), REAL_TAPES)
def test_real_tapes_are_read_whole_and_every_message_is_json(name: str, count: int | None, first_ns: int) -> None:
    records = list(read_tape(TAPES / name))
    if count is None:  # what was sent stands on the same tape
        count = gzip.decompress((TAPES / name).read_bytes()).count(b'{"t": "recv"')
    assert len(records) == count
    assert records[0].receive_time_ns == first_ns
    assert all(type(orjson.loads(record.payload)) in (dict, list) for record in records)


@needs_tapes
def test_a_real_raw_tape_can_be_put_together_again_from_its_records() -> None:
    path = TAPES / "binance_ws/spot_btcusdt_20240808.raw.gz"
    text = gzip.decompress(path.read_bytes())
    rebuilt = b"".join(b"%d %b\n" % (record.receive_time_ns or 0, record.payload) for record in read_tape(path))
    assert rebuilt == text


@needs_tapes
def test_reading_stops_where_the_reader_stops() -> None:
    tape = read_tape(TAPES / "binance_ws/usdm_btcusdt_20240808.raw.gz")
    first = list(islice(tape, 3))
    assert first[2].payload.startswith(b'{"stream":"btcusdt@trade","data":{"e":"trade","E":1723161256322')
    tape.close()  # type: ignore[attr-defined]
