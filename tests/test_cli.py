"""Tests of the `fastbars` command: in this process for its output, as a process of its own for signals and pipes."""

from __future__ import annotations

import asyncio
import gzip
import io
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest

from fastbars.bars import BAR_FIELDS, BarStatus, CloseReason, ExchangeBar, OHLCVBar
from fastbars.cli import commands, main
from fastbars.cli.demo import Verdict, _summarise, _table, demo
from fastbars.cli.output import BarText, csv_line, json_line, table_line, text_of
from fastbars.cli.signals import on_signals
from fastbars.errors import WSConnectionError
from fastbars.exchanges.binance import SPOT
from fastbars.live.connections.adapter import BaseWebSocketAdapter
from servers import MINUTE_MS, free_port, trade, trades

D = Decimal
COMMAND = [sys.executable, "-m", "fastbars"]


def wait_for(condition: Callable[[], object], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)  # of another process: no event of this one tells


@contextmanager
def simulated(*arguments: str) -> Iterator[str]:
    """`fastbars simulate` as a process of its own; gives its URL, and ends it by SIGTERM."""
    with subprocess.Popen([*COMMAND, "simulate", *arguments], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()
            assert process.wait(10) == 0


@contextmanager
def signalled(when: Callable[[], object], number: signal.Signals = signal.SIGINT) -> Iterator[None]:
    """Send this process a signal as soon as `when` holds, while the body runs."""

    def watch() -> None:
        wait_for(when)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=watch)
    thread.start()
    yield
    thread.join()


@pytest.fixture
def tape(tmp_path: Path) -> Path:
    """Three minutes of trades of two symbols."""
    messages = [
        message
        for minute in range(3)
        for symbol in ("BTCUSDT", "ETHUSDT")
        for message in trades(1 + 3 * minute, 3, minute * MINUTE_MS, 500, symbol)
    ]
    path = tmp_path / "tape.raw"
    path.write_bytes(b"".join(b"%d %b\n" % (n, message) for n, message in enumerate(messages)))
    return path


# Replaying.

REPLAY_CSV = """\
exchange,market,symbol,spec,open_time,close_time,open,high,low,close,volume,quote_volume,trade_count,\
taker_buy_volume,taker_buy_quote_volume,first_trade_id,last_trade_id,status,revision,close_reason,\
missing_count,unpublished_count,buy_count,sell_count,first_trade_time,last_trade_time,largest_trade,index
binance,spot,BTCUSDT,1m,2024-08-08T23:54:00Z,2024-08-08T23:55:00Z,100,102,100,102,3,303,3,3,303,1,3,PARTIAL,0,trade,,0,3,0,2024-08-08T23:54:00Z,2024-08-08T23:54:01Z,1,
binance,spot,ETHUSDT,1m,2024-08-08T23:54:00Z,2024-08-08T23:55:00Z,100,102,100,102,3,303,3,3,303,1,3,PARTIAL,0,trade,,0,3,0,2024-08-08T23:54:00Z,2024-08-08T23:54:01Z,1,
binance,spot,BTCUSDT,1m,2024-08-08T23:55:00Z,2024-08-08T23:56:00Z,100,102,100,102,3,303,3,3,303,4,6,COMPLETE,0,trade,0,0,3,0,2024-08-08T23:55:00Z,2024-08-08T23:55:01Z,1,
binance,spot,ETHUSDT,1m,2024-08-08T23:55:00Z,2024-08-08T23:56:00Z,100,102,100,102,3,303,3,3,303,4,6,COMPLETE,0,trade,0,0,3,0,2024-08-08T23:55:00Z,2024-08-08T23:55:01Z,1,
binance,spot,BTCUSDT,1m,2024-08-08T23:56:00Z,2024-08-08T23:57:00Z,100,102,100,102,3,303,3,3,303,7,9,PARTIAL,0,end,,0,3,0,2024-08-08T23:56:00Z,2024-08-08T23:56:01Z,1,
binance,spot,ETHUSDT,1m,2024-08-08T23:56:00Z,2024-08-08T23:57:00Z,100,102,100,102,3,303,3,3,303,7,9,PARTIAL,0,end,,0,3,0,2024-08-08T23:56:00Z,2024-08-08T23:56:01Z,1,
"""


def test_replay_writes_csv(tape: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", str(tape), "--exchange", "binance", "--format", "csv"]) == 0
    assert capsys.readouterr() == (REPLAY_CSV, "")


def test_replay_writes_json_lines_with_decimals_as_text(tape: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", str(tape), "--exchange", "binance", "--format", "jsonl", "--bars", "1h,tick:4"]) == 0
    lines = [orjson.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["symbol"], line["spec"], line["last_trade_id"], line["status"]) for line in lines] == [
        ("BTCUSDT", "tick:4", 4, "PARTIAL"),
        ("ETHUSDT", "tick:4", 4, "PARTIAL"),
        ("BTCUSDT", "tick:4", 8, "COMPLETE"),
        ("ETHUSDT", "tick:4", 8, "COMPLETE"),
        ("BTCUSDT", "1h", 9, "PARTIAL"),
        ("BTCUSDT", "tick:4", 9, "PARTIAL"),
        ("ETHUSDT", "1h", 9, "PARTIAL"),
        ("ETHUSDT", "tick:4", 9, "PARTIAL"),
    ]
    assert list(lines[4]) == list(BAR_FIELDS)
    assert (lines[4]["open"], lines[4]["quote_volume"], lines[4]["trade_count"]) == ("100", "909", 9)
    assert lines[4]["open_time"] == "2024-08-08T23:00:00Z"


def test_replay_writes_a_table_by_default(tape: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", str(tape), "--exchange", "binance"]) == 0
    header, first, *_, last = capsys.readouterr().out.splitlines()
    assert " ".join(header.split()) == (
        "exchange market symbol spec open_time open high low close volume trades status"
    )
    assert first.split() == (
        ["binance", "spot", "BTCUSDT", "1m", "2024-08-08T23:54:00Z", "100", "102", "100", "102", "3", "3", "PARTIAL"]
    )
    assert last.split()[2:5] == ["ETHUSDT", "1m", "2024-08-08T23:56:00Z"]
    assert header.index("open_time") == first.index("2024") == last.index("2024")


def test_replay_into_a_file_writes_nothing_else(tape: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "bars.csv"
    assert main(["replay", str(tape), "--exchange", "Binance", "--format", "csv", "-o", str(output)]) == 0
    assert output.read_bytes() == REPLAY_CSV.encode()
    assert capsys.readouterr() == ("", "")


def test_several_tapes_replay_as_one_stream(tape: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = tape.read_bytes().splitlines(keepends=True)
    first, second = tmp_path / "1.gz", tmp_path / "2"
    first.write_bytes(gzip.compress(b"".join(lines[:7])))
    second.write_bytes(b"".join(lines[7:]))
    assert main(["replay", str(first), str(second), "--exchange", "binance", "--format", "csv"]) == 0
    assert capsys.readouterr().out == REPLAY_CSV


def test_replay_as_a_process_of_its_own_writes_the_same(tape: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "-v", "replay", tape, "--exchange", "binance", "--format", "csv"], capture_output=True, check=False
    )
    assert (done.returncode, done.stdout.decode(), done.stderr) == (0, REPLAY_CSV, b"")


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path: Path) -> None:
    tape = tmp_path / "tape"
    tape.write_bytes(b"".join(b"1 %b\n" % message for message in trades(1, 20_000)))
    command = [*COMMAND, "replay", str(tape), "--exchange", "binance", "--bars", "tick:1", "--format", "csv"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b"exchange,market,symbol,spec,")
        process.stdout.close()
        assert process.wait(20) == 0
        assert process.stderr.read() == b""


def test_what_was_finished_before_a_cut_off_tape_is_written(tape: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = tape.read_bytes()
    cut = tape.with_name("cut.gz")
    cut.write_bytes(gzip.compress(content)[:-4])
    assert main(["replay", str(cut), "--exchange", "binance", "--format", "csv"]) == 2
    out, err = capsys.readouterr()
    assert out == REPLAY_CSV
    assert err.count("\n") == 1
    assert err.startswith(f"fastbars: {cut}, line 19: the compressed data ends early or is damaged")
    tape.write_bytes(content[:-30])
    assert main(["replay", str(tape), "--exchange", "binance", "--format", "csv"]) == 2
    out, err = capsys.readouterr()
    assert out.splitlines()[:-1] == REPLAY_CSV.splitlines()[:-1]
    assert out.splitlines()[-1].endswith(
        ",7,8,PARTIAL,0,end,,0,2,0,2024-08-08T23:56:00Z,2024-08-08T23:56:00.500000Z,1,"
    )
    assert err.startswith(f"fastbars: {tape}, line 18: the last line is cut off")


# Errors.


def one_line_of_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err.startswith("fastbars: ")
    return err.removeprefix("fastbars: ").rstrip("\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("replay TAPE --exchange bitso", "unknown exchange 'bitso'; known are binance"),
        ("stream bitso BTCUSDT", "unknown exchange 'bitso'; known are binance"),
        ("replay TAPE --exchange binance --market margin", "binance: unknown market 'margin'; known are spot,"),
        ("stream binance BTCUSDT --market margin", "binance: unknown market 'margin'; known are spot, usdm, coinm"),
        ("simulate --market margin", "simulator: no market 'margin'; known are spot, usdm, coinm"),
        ("replay TAPE --exchange binance --bars 1m,7x", "bar spec '7x' is not known; valid are 1s 5s 1m"),
        ("stream binance BTCUSDT --bars 1M", "bar spec '1M' is not known (a month is written mo); valid are"),
        ("stream binance BTCUSDT --bars 1m,1m", "a bar spec is given twice in 1m, 1m"),
        ("replay TAPE --exchange binance --channel nosuch", "binance spot: 'nosuch' is not a trade channel; those are"),
        ("replay missing --exchange binance", "missing: cannot be read: No such file or directory"),
        ("replay TAPE --exchange binance -o /nosuch/file", "[Errno 2] No such file or directory: '/nosuch/file'"),
        ("simulate --tape missing", "missing: cannot be read: No such file or directory"),
        ("stream binance BTCUSDT --url http://127.0.0.1/", "binance spot: cannot connect to http://127.0.0.1/: "),
        ("stream binance BTCUSDT --url ws://127.0.0.1:99999", "binance spot: cannot connect to ws://127.0.0.1:99999: "),
    ],
)
def test_an_error_is_one_clear_line_and_status_2(
    arguments: str, message: str, tape: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(tape) if word == "TAPE" else word for word in arguments.split()]
    assert one_line_of_error(words, capsys).startswith(message)


def test_a_refused_connection_is_one_clear_line(capsys: pytest.CaptureFixture[str]) -> None:
    url = f"ws://127.0.0.1:{free_port()}/ws"
    error = one_line_of_error(["stream", "binance", "BTCUSDT", "--url", url], capsys)
    assert error.startswith(f"binance spot: cannot connect to {url}: ")


def test_a_taken_port_is_one_clear_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert "address already in use" in one_line_of_error(["simulate", "--port", str(port)], capsys).lower()


def test_errors_of_a_process_of_its_own_are_one_line_too(tape: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    for arguments, message in (
        (["replay", str(empty), "--exchange", "binance"], f"fastbars: {empty}: the tape is empty\n"),
        (
            ["stream", "binance", "BTCUSDT", "--url", "ws://127.0.0.1:99999"],
            "fastbars: binance spot: cannot connect to ws://127.0.0.1:99999: Port out of range 0-65535\n",
        ),
    ):
        done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (2, message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "the following arguments are required: COMMAND"),
        ("nosuch", "invalid choice: 'nosuch'"),
        ("demo --symbols 0", "argument --symbols: 0 is not positive"),
        ("demo --seconds nan", "argument --seconds: nan is not positive"),
        ("simulate --rate -5", "argument --rate: -5 is not positive"),
        ("simulate --rate inf", "argument --rate: inf is not positive"),
        ("simulate --port 99999", "argument --port: 99999 is not a port"),
        ("replay --exchange binance", "the following arguments are required: TAPE"),
        ("stream binance", "the following arguments are required: SYMBOL"),
        ("stream binance BTCUSDT --format xml", "argument --format: invalid choice: 'xml'"),
    ],
)
def test_arguments_that_are_wrong_are_named(arguments: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments.split())
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err


def test_an_interrupt_that_nobody_handles_is_status_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setitem(commands.COMMANDS, "replay", interrupted)
    assert main(["replay", "x", "--exchange", "binance"]) == 130


# Streaming.


def check_stream_against_replay(
    folder: Path, tape: Path, symbols: list[str], options: list[str], *, market: str = "spot"
) -> list[dict[str, str]]:
    """Stream a served tape and replay it: both files must be equal, byte for byte. Returns the rows."""
    streamed, replayed = folder / "streamed", folder / "replayed"
    common = ["--market", market, "--format", "csv", *options]
    with simulated("--tape", str(tape), "--market", market) as url:
        live = ["stream", "binance", *symbols, "--url", url, "--once", "--close-by", "trades", "-o", str(streamed)]
        assert main([*live, *common]) == 0
    assert main(["replay", str(tape), "--exchange", "binance", "-o", str(replayed), *common]) == 0
    assert streamed.read_bytes() == replayed.read_bytes()
    header, *lines = streamed.read_text().splitlines()
    return [dict(zip(header.split(","), line.split(","), strict=True)) for line in lines]


def test_a_stream_of_a_served_tape_equals_its_replay_byte_for_byte(tape: Path, tmp_path: Path) -> None:
    rows = check_stream_against_replay(tmp_path, tape, ["BTCUSDT", "ETHUSDT"], ["--bars", "1m,tick:2"])
    assert len(rows) == 6 + 10


@pytest.mark.parametrize(
    ("file", "market", "symbols", "options", "rows"),
    [
        (
            "binance_ws/usdm_btcusdt_20240808.raw.gz",
            "usdm",
            ["BTCUSDT"],
            ["--bars", "1m,5m,tick:500"],
            {"1m": 6, "5m": 2, "tick:500": 43},
        ),
        ("binance_ws/spot_btcusdt_20240808.raw.gz", "spot", ["BTCUSDT"], ["--bars", "1m,5m"], {"1m": 7, "5m": 3}),
        (
            "cryptofeed/BINANCE_spot_20210404_aggTrade_kline.ws.gz",
            "spot",
            ["BTCUSDT", "ETHUSDT", "DOTUSDT"],
            ["--channel", "aggTrade", "--bars", "5s,1m"],
            {"1m": 6},
        ),
    ],
)
def test_a_stream_of_a_real_tape_equals_its_replay_byte_for_byte(
    file: str, market: str, symbols: list[str], options: list[str], rows: dict[str, int], tapes: Path, tmp_path: Path
) -> None:
    issued = check_stream_against_replay(tmp_path, tapes / file, symbols, options, market=market)
    for spec, count in rows.items():
        assert sum(row["spec"] == spec for row in issued) == count
    assert {row["symbol"] for row in issued} == set(symbols)


def test_a_refused_symbol_is_one_clear_line_that_names_it(capsys: pytest.CaptureFixture[str]) -> None:
    with simulated("--exchange", "bybit", "--symbols", "2", "--rate", "10") as url:
        error = one_line_of_error(["stream", "bybit", "BTCUSDT", "NOSUCH", "--url", url], capsys)
    assert error == "bybit spot refused NOSUCH@publicTrade: Invalid symbol :[publicTrade.NOSUCH]"


def test_an_interrupt_ends_the_stream_with_a_flush_and_status_0(tmp_path: Path) -> None:
    output = tmp_path / "bars"

    def both_have_traded() -> bool:
        content = output.read_bytes() if output.exists() else b""
        return b"BTCUSDT,tick:5," in content and b"ETHUSDT,tick:5," in content

    with simulated("--symbols", "2", "--rate", "400") as url, signalled(both_have_traded):
        arguments = ["stream", "binance", "BTCUSDT", "ETHUSDT", "--url", url, "--bars", "tick:5,1mo", "--format", "csv"]
        assert main([*arguments, "-o", str(output)]) == 0
    rows = [line.split(",") for line in output.read_text().splitlines()[1:]]
    assert rows[-1][19] == "end"
    assert sorted((*row[:4], *row[17:20]) for row in rows if row[3] == "1mo") == [
        ("binance", "spot", "BTCUSDT", "1mo", "PARTIAL", "0", "end"),
        ("binance", "spot", "ETHUSDT", "1mo", "PARTIAL", "0", "end"),
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stream_as_a_process_of_its_own_ends_by_a_signal_with_status_0(number: signal.Signals) -> None:
    with simulated("--symbols", "1", "--rate", "100") as url:
        command = [*COMMAND, "-vv", "stream", "binance", "BTCUSDT", "--url", url, "--bars", "tick:20,1mo"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("exchange ")
            assert process.stdout.readline().split()[:4] == [
                "binance",
                "spot",
                "BTCUSDT",
                "tick:20",
            ]  # each line at once
            process.send_signal(number)
            out, err = process.communicate(timeout=10)
            assert process.returncode == 0
        assert " 1mo " in out
        assert out.splitlines()[-1].endswith("PARTIAL")
        assert "fastbars: connected exchange='binance spot'" in err
        assert "Traceback" not in err


# Simulating.


def test_simulate_prints_its_address_first_and_ends_by_an_interrupt(capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()

    def listening() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    with signalled(listening):
        assert main(["simulate", "--symbols", "1", "--rate", "1", "--port", str(port)]) == 0
    assert capsys.readouterr().out == f"ws://127.0.0.1:{port}/ws\n"


async def test_where_signals_cannot_be_handled_the_rest_works(monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr(asyncio.get_running_loop(), "add_signal_handler", unsupported)
    with on_signals(lambda: None):
        pass


# Bars as text.

MINUTE = datetime(2024, 8, 8, 23, 54, tzinfo=UTC)
BAR = OHLCVBar(
    "BTCUSDT",
    "1m",
    MINUTE,
    MINUTE + timedelta(minutes=1),
    D("1E+2"),
    D("102.50"),
    D("0.00000001"),
    D("101"),
    D("3E-8"),
    D("305.1"),
    3,
    D(0),
    D("0E-10"),
    1,
    3,
    BarStatus.COMPLETE,
    1,
    CloseReason.CLOCK,
)
NO_PRICES: dict[str, Any] = dict.fromkeys(("open", "high", "low", "close", "first_trade_id", "last_trade_id"))
NO_TRADES: dict[str, Any] = {"volume": D(0), "quote_volume": D(0), "trade_count": 0, "status": BarStatus.GAP}
HOLE = replace(BAR, **NO_PRICES, **NO_TRADES, taker_buy_quote_volume=D(0), revision=0)


def test_one_field_as_text() -> None:
    assert [text_of(value) for value in (None, D("1E+3"), D("1E-7"), 7, BarStatus.GAP, "x")] == [
        "",
        "1000",
        "0.0000001",
        "7",
        "GAP",
        "x",
    ]
    assert text_of(MINUTE + timedelta(microseconds=5)) == "2024-08-08T23:54:00.000005Z"


def test_a_bar_as_csv_json_and_table_row() -> None:
    assert csv_line(BAR) == (
        ",,BTCUSDT,1m,2024-08-08T23:54:00Z,2024-08-08T23:55:00Z,100,102.50,0.00000001,101,0.00000003,305.1,3,0,"
        "0.0000000000,1,3,COMPLETE,1,clock,,,,,,,,"
    )
    assert orjson.loads(json_line(BAR))["low"] == "0.00000001"
    assert table_line(BAR).split()[-3:] == ["3", "COMPLETE", "r1"]
    assert table_line(BAR).split()[3:7] == ["100", "102.50", "0.00000001", "101"]


def test_a_bar_without_trades_has_empty_fields() -> None:
    assert (
        csv_line(HOLE) == ",,BTCUSDT,1m,2024-08-08T23:54:00Z,2024-08-08T23:55:00Z,,,,,0,0,0,0,0,,,GAP,0,clock,,,,,,,,"
    )
    hole = orjson.loads(json_line(HOLE))
    assert (hole["open"], hole["first_trade_id"], hole["volume"], hole["trade_count"]) == (None, None, "0", 0)
    assert table_line(HOLE).split() == ["BTCUSDT", "1m", "2024-08-08T23:54:00Z", "0", "0", "GAP"]


def test_lines_of_each_format_and_what_stands_before_them() -> None:
    assert BarText("jsonl").header is None
    assert BarText("jsonl").line(BAR) == json_line(BAR) + "\n"
    assert BarText("csv").header == ",".join(BAR_FIELDS)
    assert BarText("csv").line(BAR) == csv_line(BAR) + "\n"
    assert BarText("table").line(BAR) == table_line(BAR) + "\n"


# The demo.

CANDLE = ExchangeBar(
    "BTCUSDT",
    "1m",
    MINUTE,
    MINUTE + timedelta(minutes=1),
    D(100),
    D("102.5"),
    D("0.00000001"),
    D(101),
    D("0.00000003"),
    D("305.1"),
    3,
    D(0),
    D(0),
    1,
    3,
    True,
    0,
)


def test_a_verdict_compares_every_field_and_the_last_revision_counts() -> None:
    verdict = Verdict()
    verdict.add_bar(replace(BAR, close=D(100), revision=0))
    verdict.add_bar(replace(BAR, symbol="ETHUSDT", status=BarStatus.PARTIAL))
    assert verdict.of(BAR) is None
    assert verdict.count() == (0, 0, 1)
    verdict.add_candle(replace(CANDLE, is_closed=False))
    assert verdict.count() == (0, 0, 1)
    verdict.add_candle(CANDLE)
    assert verdict.count() == (0, 1, 0)
    verdict.add_bar(BAR)
    assert verdict.count() == (1, 0, 0)
    assert (verdict.issued, verdict.partial) == (3, 1)
    for name, wrong in {
        "close_time": MINUTE,
        "open": D(1),
        "volume": D(1),
        "quote_volume": None,
        "trade_count": 4,
        "taker_buy_volume": D(1),
        "taker_buy_quote_volume": D(1),
        "first_trade_id": 0,
        "last_trade_id": 4,
    }.items():
        changed: dict[str, Any] = {name: wrong}
        verdict.add_candle(replace(CANDLE, **changed))
        assert verdict.of(BAR) is False, name


def test_the_demo_fails_where_a_candle_differs_or_none_could_be_compared(capsys: pytest.CaptureFixture[str]) -> None:
    adapter = BaseWebSocketAdapter(SPOT)
    verdict = Verdict()
    assert _summarise(adapter, verdict, 0, 1.0, 0.1) == 1
    verdict.add_bar(BAR)
    verdict.add_candle(CANDLE)
    assert _summarise(adapter, verdict, 10, 1.0, 0.1) == 0
    assert "all of them, to the last digit" in capsys.readouterr().out
    verdict.add_bar(replace(BAR, symbol="ETHUSDT"))
    verdict.add_candle(replace(CANDLE, symbol="ETHUSDT", high=D(103)))
    assert _summarise(adapter, verdict, 10, 1.0, 0.1) == 1
    out = capsys.readouterr().out
    assert "different: <OHLCVBar ETHUSDT 1m 2024-08-08 23:54:00Z" in out
    assert "1 DIFFERENT" in out


def test_the_table_shows_the_last_bar_of_each_symbol_and_whether_it_equals_its_candle() -> None:
    console = pytest.importorskip("rich.console").Console(width=160, file=io.StringIO())
    verdict = Verdict()
    later = replace(BAR, open_time=BAR.close_time, close_time=BAR.close_time + timedelta(minutes=1))
    for bar in (later, BAR, replace(BAR, symbol="ADAUSDT"), replace(BAR, symbol="ETHUSDT")):
        verdict.add_bar(bar)
    verdict.add_candle(replace(CANDLE, symbol="ADAUSDT"))
    verdict.add_candle(replace(CANDLE, symbol="ETHUSDT", low=D(0)))
    console.print(_table(verdict))
    rows = [line.split() for line in console.file.getvalue().splitlines() if "USDT" in line]
    assert rows == [
        ["ADAUSDT", "23:54:00", "100", "102.50", "0.00000001", "101", "0.00000003", "3", "COMPLETE", "equal"],
        ["BTCUSDT", "23:55:00", "100", "102.50", "0.00000001", "101", "0.00000003", "3", "COMPLETE", "…"],
        ["ETHUSDT", "23:54:00", "100", "102.50", "0.00000001", "101", "0.00000003", "3", "COMPLETE", "different"],
    ]


@pytest.mark.parametrize("screen", ["plain", "terminal", "without rich"])
def test_the_demo_adds_up(screen: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    if screen == "terminal":
        monkeypatch.setenv("FORCE_COLOR", "1")
        pytest.importorskip("rich")
    elif screen == "without rich":
        monkeypatch.setitem(sys.modules, "rich.console", None)
    assert main(["demo", "--symbols", "3", "--seconds", "3.2", "--rate", "600"]) == 0
    out = capsys.readouterr().out
    assert ("equal to the exchange's candles" in out) == (screen != "terminal")
    summary = {line[:20].strip(): line[20:].split()[0] for line in out.splitlines() if line[20:].split()}
    number = {name: int(value.replace(",", "")) for name, value in summary.items() if value.replace(",", "").isdigit()}
    assert number["trades received"] > 100
    assert number["bars compared"] == number["equal"] >= 3
    assert number["bars issued"] >= number["bars compared"] + 3
    assert number["trades not in a bar"] == 0
    assert "0 GAP" in out
    assert "all of them, to the last digit" in out


@pytest.mark.real_clock
async def test_an_embedded_exchange_that_does_not_start_is_an_error_with_its_status() -> None:
    with pytest.raises(WSConnectionError, match=r"the embedded exchange did not start \(exit status 2\)"):
        await demo(-1, 1.0, 10.0)


def test_the_first_trade_of_these_tapes_is_where_it_is_said_to_be() -> None:
    assert b'"T":1723161240000' in trade(1, 0)
