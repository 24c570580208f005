"""What the command writes: nothing is lost or destroyed, nothing blocks it, and nothing spoils file or terminal."""

from __future__ import annotations

import argparse
import csv
import io
import logging
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from fcntl import ioctl
from pathlib import Path
from struct import pack
from termios import TIOCSWINSZ
from typing import Any

import orjson
import pytest

import fastbars
from fastbars.bars import BAR_FIELDS
from fastbars.cli import main
from fastbars.cli.console import Console
from fastbars.cli.options import make_parser
from fastbars.cli.outlet import BlockedOutputError, Outlet
from fastbars.cli.output import columns_for, csv_line, header, table_line
from fastbars.cli.text import columns_of, fitted, printable
from servers import MINUTE_MS, free_port, trade, trades
from test_cli import BAR, COMMAND, REPLAY_CSV, one_line_of_error, simulated, tape, wait_for

__all__ = ["tape"]

HOSTILE = [
    "BTC,USDT", 'BTC"USDT', "BTC\nUSDT", "BTC\r\nUSDT", "\x1b[2J\x1b[31mBTC", "BTC\u202eTDSU", "BTC\u2066x\u2069",
    "BTC\x9b2J", "BTC\x07\x00", "BTC\u2028USDT", "=cmd|' /C calc'!A0", "币安人生USDT", "🐸USDT",
]  # fmt: skip
UTF8 = {"PYTHONUTF8": "0", "PYTHONIOENCODING": "", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C", "LANG": "C"}


def tape_of_symbols(path: Path, symbols: list[str]) -> Path:
    lines = []
    for minute in range(3):
        for symbol in symbols:
            message = orjson.loads(trade(minute + 1, minute * MINUTE_MS)) | {"s": symbol}
            lines.append(b"1 %b\n" % orjson.dumps(message))
    path.write_bytes(b"".join(lines))
    return path


def run(*words: object, env: dict[str, str] | None = None, **options: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*COMMAND, *map(str, words)], env=os.environ | (env or {}), check=False, timeout=60, **options
    )  # fmt: skip


@contextmanager
def command(*words: object, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([*COMMAND, *map(str, words)], stderr=subprocess.PIPE, **options) as process:
        try:
            yield process
        finally:
            process.kill()


def ends_within(process: subprocess.Popen[bytes], seconds: float) -> int:
    begun = time.monotonic()
    status = process.wait(seconds)
    assert time.monotonic() - begun < seconds
    return status


# Symbols.


def test_symbols_spoil_no_csv(tmp_path: Path) -> None:
    done = run("replay", tape_of_symbols(tmp_path / "t", HOSTILE), "--exchange", "binance", "--format", "csv",
               capture_output=True)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    rows = list(csv.DictReader(io.StringIO(done.stdout.decode(), newline="")))
    assert [row["symbol"] for row in rows] == HOSTILE * 3
    assert {len(row) for row in rows} == {len(BAR_FIELDS)}
    assert {row["volume"] for row in rows} == {"1"}


def test_a_field_is_quoted_only_where_it_has_to_be() -> None:
    assert csv_line(BAR).startswith(",,BTCUSDT,1m,")
    assert csv_line(replace(BAR, symbol="=1+1")).startswith(",,=1+1,1m,")  # it is data, and stays what it is
    assert csv_line(replace(BAR, symbol='a"b')).startswith(',,"a""b",1m,')
    assert csv_line(replace(BAR, exchange="a,b", market="c\nd")).startswith('"a,b","c\nd",BTCUSDT,1m,')


@pytest.mark.parametrize("form", ["table", "csv", "jsonl"])
def test_symbols_spoil_no_terminal(form: str, tmp_path: Path) -> None:
    shown = on_terminal("replay", tape_of_symbols(tmp_path / "t", HOSTILE), "--exchange", "binance", "--format", form)
    lines = shown.rstrip("\n").split("\n")
    assert len(lines) == 3 * len(HOSTILE) + (form != "jsonl")
    assert all(line.isprintable() for line in lines)
    assert "币安" in shown


def test_symbols_spoil_no_table_error_or_log_line(tmp_path: Path) -> None:
    for symbol in HOSTILE:
        assert table_line(replace(BAR, symbol=symbol)).isprintable()
    odd = tmp_path / "a\x1b[31m\nb\u202e"
    done = run("replay", odd, "--exchange", "binance", capture_output=True)
    assert done.returncode == 2
    assert done.stderr.decode().count("\n") == 1
    assert done.stderr.decode()[:-1].isprintable()
    out = io.StringIO()
    console = Console(out, progress=False)
    record = logging.LogRecord("x", logging.ERROR, "", 0, "odd %s", ("\x1b[31m\nred\u202e",), None)
    console.emit(record)
    console.close()
    assert out.getvalue() == "fastbars: odd \\x1b[31m\\nred\\u202e\n"


def test_wide_and_combining_characters_keep_the_columns_of_a_table() -> None:
    assert [columns_of(text) for text in ("BTC", "币安", "e\u0301", "🐸")] == [3, 4, 1, 2]
    for symbol in ("BTCUSDT", "币安人生", "e\u0301USDT"):
        line = table_line(replace(BAR, symbol=symbol))
        assert columns_of(line[: line.index("1m")]) == 20 + 12 + 15
    assert fitted("币安人生USDT", 5) == "币安…"
    assert columns_of(fitted("e" + "\u0301" * 10_000, 5)) <= 5
    assert len(fitted("e" + "\u0301" * 10_000, 5)) <= 11
    assert printable("a\tb\u00a0\ud800") == "a\\tb\\xa0\\ud800"


# Encoding.


@pytest.mark.parametrize(("form", "encoding"), [("table", "cp1252"), ("csv", ""), ("jsonl", "ascii")])
def test_output_is_utf8_whatever_the_locale(form: str, encoding: str, tmp_path: Path) -> None:
    env = UTF8 | {"PYTHONIOENCODING": encoding}
    symbols = ["BTCUSDT", "币安人生USDT"]
    words = ["replay", tape_of_symbols(tmp_path / "t", symbols), "--exchange", "binance", "--format", form]
    done = run(*words, env=env, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert run(*words, "-o", tmp_path / "out", env=env).returncode == 0
    for text in (done.stdout.decode("utf-8"), (tmp_path / "out").read_text("utf-8")):
        assert [text.count(symbol) for symbol in symbols] == [3, 3]
    done = run("replay", "没有.tape", "--exchange", "binance", env=env, capture_output=True)
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)


def test_symbols_of_the_command_line_are_utf8_whatever_the_locale(tmp_path: Path) -> None:
    tape_of_symbols(tmp_path / "t", ["币安人生USDT"])
    name = tmp_path / "币安人生USDT-1m-2024-08-08.csv"
    name.write_text("1723161300000,100,100,100,100,1,1723161359999,100,1,1,100,0\n")
    done = run("verify", tmp_path / "t", "--exchange", "binance", "--klines", name, env=UTF8, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode().startswith("         1 bars equal the exchange's candles")


# Pipes and signals.


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stream_whose_reader_has_stopped_ends_by_a_signal(number: signal.Signals) -> None:
    with simulated("--symbols", "2", "--rate", "30000") as url:
        words = ("stream", "binance", "BTCUSDT", "ETHUSDT", "--url", url, "--bars", "tick:1", "--format", "csv")
        with command(*words, stdout=subprocess.PIPE) as process:
            fill_pipe(process)
            process.send_signal(number)
            assert ends_within(process, 5) == 2
            assert process.stderr is not None
            errors = process.stderr.read().decode()
    assert re.fullmatch(r"fastbars: stdout is not being read: [\d,]+ lines were not written\n", errors)


def fill_pipe(process: subprocess.Popen[bytes]) -> None:
    """Wait until nothing more goes into the pipe, which nobody reads."""
    assert process.stdout is not None
    sizes = [0]
    deadline = time.monotonic() + 20
    while len(sizes) < 4 or sizes[-4] < 30_000 or sizes[-4] != sizes[-1]:
        assert time.monotonic() < deadline, sizes[-10:]
        assert process.poll() is None
        time.sleep(0.1)  # between two looks at what another process has written
        sizes.append(unread(process))


def unread(process: subprocess.Popen[bytes]) -> int:
    from termios import FIONREAD

    assert process.stdout is not None
    buffer = bytearray(4)
    ioctl(process.stdout.fileno(), FIONREAD, buffer)
    return int.from_bytes(buffer, sys.byteorder)


def test_a_replay_whose_reader_has_stopped_ends_by_a_signal(tmp_path: Path) -> None:
    path = tmp_path / "tape"
    path.write_bytes(b"".join(b"1 %b\n" % message for message in trades(1, 40_000)))
    for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)):
        words = ("replay", path, "--exchange", "binance", "--bars", "tick:1", "--format", "csv")
        with command(*words, stdout=subprocess.PIPE) as process:
            fill_pipe(process)
            process.send_signal(number)
            assert ends_within(process, 5) == status
            assert process.stderr is not None
            assert b"Traceback" not in process.stderr.read()


def test_a_slow_reader_gets_everything_in_order(tmp_path: Path) -> None:
    path = tmp_path / "tape"
    path.write_bytes(b"".join(b"1 %b\n" % message for message in trades(1, 30_000)))
    words = ("replay", path, "--exchange", "binance", "--bars", "tick:1", "--format", "csv")
    with command(*words, stdout=subprocess.PIPE) as process:
        fill_pipe(process)
        assert process.stdout is not None
        rows = process.stdout.read().decode().splitlines()
        assert process.wait(20) == 0
    assert [int(row.split(",")[15]) for row in rows[1:]] == list(range(1, 30_001))


def test_a_blocked_stderr_does_not_make_a_stream_deaf() -> None:
    read, write = os.pipe()
    try:
        with simulated("--symbols", "2", "--rate", "20000") as url:
            words = ("-vv", "stream", "binance", "BTCUSDT", "--url", url, "--bars", "tick:1", "--format", "csv")
            with subprocess.Popen([*COMMAND, *words], stdout=write, stderr=write) as process:
                os.close(write)
                write = -1
                wait_for(lambda: select.select([read], [], [], 0)[0])
                time.sleep(2)  # the process has long filled the pipe by then
                process.send_signal(signal.SIGTERM)
                assert ends_within(process, 6) == 2
    finally:
        os.close(read)
        if write >= 0:
            os.close(write)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_hangup_ends_a_stream_as_sigterm_does(number: signal.Signals, tmp_path: Path) -> None:
    output = tmp_path / "bars"
    with simulated("--symbols", "1", "--rate", "200") as url:
        words = ("stream", "binance", "BTCUSDT", "--url", url, "--bars", "tick:20,1mo", "--format", "csv", "-o", output)
        with command(*words) as process:
            wait_for(lambda: output.exists() and output.read_text().count("\n") > 2)
            process.send_signal(number)
            assert ends_within(process, 5) == 0
    assert sum(",1mo," in row for row in output.read_text().splitlines()) == 1
    assert output.read_text().splitlines()[-1].split(",")[17:20] == ["PARTIAL", "0", "end"]


def test_nohup_is_respected(tmp_path: Path) -> None:
    output = tmp_path / "bars"
    with simulated("--symbols", "1", "--rate", "200") as url:
        words = ("stream", "binance", "BTCUSDT", "--url", url, "--bars", "tick:20", "--format", "csv", "-o", output)
        with command(*words, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)) as process:
            wait_for(lambda: output.exists() and output.read_text().count("\n") > 2)
            process.send_signal(signal.SIGHUP)
            before = output.read_text().count("\n")
            wait_for(lambda: output.read_text().count("\n") > before)
            process.send_signal(signal.SIGTERM)
            assert ends_within(process, 5) == 0


def test_a_second_interrupt_ends_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it accepts, and never answers
        port = silent.getsockname()[1]
        with simulated("--symbols", "2", "--rate", "30000") as url:
            words = ("stream", "binance", "BTCUSDT", "--url", url, "--bars", "tick:1", "--format", "csv")
            with command(*words, stdout=subprocess.PIPE) as process:
                fill_pipe(process)
                process.send_signal(signal.SIGINT)
                time.sleep(0.3)  # two signals at once would be one
                process.send_signal(signal.SIGINT)
                assert ends_within(process, 0.9) in (-signal.SIGINT, 130)
        with command(
            "stream", "binance", "BTCUSDT", "--url", f"ws://127.0.0.1:{port}", stdout=subprocess.PIPE
        ) as process:
            silent.accept()[0].close()
            process.send_signal(signal.SIGINT)
            assert ends_within(process, 3) in (0, 2)


@pytest.mark.parametrize("lines", [1, 500])
def test_a_reader_that_has_seen_enough_ends_a_stream_quietly(lines: int) -> None:
    with simulated("--symbols", "1", "--rate", "2000") as url:
        words = ("stream", "binance", "BTCUSDT", "--url", url, "--bars", "tick:1", "--format", "csv")
        with command(*words, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            for _ in range(lines):
                assert process.stdout.readline().count(b",") >= 17
            process.stdout.close()
            assert ends_within(process, 5) == 0
            assert process.stderr.read() == b""


def test_a_reader_that_has_seen_enough_ends_verify_quietly(tmp_path: Path) -> None:
    path, klines = tmp_path / "tape", tmp_path / "BTCUSDT-1s-2024-08-08.csv"
    path.write_bytes(b"".join(b"1 %b\n" % message for message in trades(1, 4_000, 0, 1_000)))
    start = 1_723_161_240_000
    klines.write_text(
        "".join(f"{start + 1000 * n},1,1,1,1,9,{start + 1000 * n + 999},9,9,9,9,0\n" for n in range(4_000))
    )
    with command("verify", path, "--exchange", "binance", "--klines", klines, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b"binance spot BTCUSDT 1s ")
        process.stdout.close()
        assert ends_within(process, 20) == 0
        assert process.stderr.read() == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_clear_line(tmp_path: Path, tape: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = run("replay", tape, "--exchange", "binance", stdout=full, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (2, b"fastbars: [Errno 28] No space left on device: 'stdout'\n")
    done = run("replay", tape, "--exchange", "binance", "-o", "/dev/full", capture_output=True)
    assert (done.returncode, done.stderr) == (2, b"fastbars: [Errno 28] No space left on device: '/dev/full'\n")


def test_a_closed_stdout_is_one_clear_line(tape: Path) -> None:
    words = [*COMMAND, "replay", str(tape), "--exchange", "binance"]
    done = subprocess.run(["sh", "-c", '"$@" >&-', "sh", *words], capture_output=True, check=False)
    assert done.returncode == 2
    assert done.stderr.decode() == "fastbars: [Errno 9] Bad file descriptor: 'stdout'\n"


# Outlets.


class Slow(io.StringIO):
    """A file that takes nothing until it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.taking = False

    def write(self, text: str) -> int:
        while not self.taking:
            time.sleep(0.001)  # the outlet's own thread, which has no loop
        return super().write(text)


def test_an_outlet_is_bounded_keeps_the_order_and_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastbars.cli.outlet.MOST_WAITING", 100)
    file = Slow()
    outlet = Outlet(file, "slow")
    count = 0
    while outlet.offer(f"{count}\n"):
        count += 1
    assert 30 < count < 60
    file.taking = True
    for number in range(count, 5_000):
        outlet.put(f"{number}\n")
        assert outlet._size <= 110
    outlet.close()
    assert file.getvalue() == "".join(f"{number}\n" for number in range(5_000))
    assert not outlet.is_stuck


def test_an_outlet_says_how_much_was_not_written() -> None:
    file = Slow()
    outlet = Outlet(file, "slow")
    for number in range(7):
        outlet.put(f"{number}\n")
    with pytest.raises(BlockedOutputError, match="slow is not being read: 7 lines were not written"):
        outlet.close(0.05)
    assert outlet.is_stuck
    file.taking = True
    wait_for(lambda: not outlet.is_stuck)


# Files.


def test_a_command_that_fails_before_its_first_bar_leaves_the_file_as_it_was(tmp_path: Path, tape: Path) -> None:
    kept = tmp_path / "bars.csv"
    damaged = tmp_path / "damaged"
    damaged.write_bytes(b"no tape\n")
    for words in (
        ["replay", str(tmp_path / "none.tape"), "--exchange", "binance"],
        ["replay", str(damaged), "--exchange", "binance"],
        ["replay", str(tape), "--exchange", "bitso"],
        ["replay", str(tape), "--exchange", "binance", "--bars", "7x"],
        ["stream", "binance", "BTCUSDT", "--url", f"ws://127.0.0.1:{free_port()}"],
        ["stream", "binance", "BTCUSDT", "--url", f"ws://127.0.0.1:{free_port()}", "--append"],
    ):
        kept.write_text("bars of yesterday\n")
        before = {*tmp_path.iterdir()}
        if "--append" in words:
            kept.write_text(",".join(BAR_FIELDS) + "\n")
            words += ["--format", "csv"]
        content = kept.read_text()
        assert main([*words, "-o", str(kept)]) == 2
        assert kept.read_text() == content
        assert {*tmp_path.iterdir()} == before
        kept.unlink()
        if "--append" not in words:
            assert main([*words, "-o", str(kept)]) == 2
            assert not kept.exists()


def test_a_command_that_fails_later_keeps_both_and_says_where(
    tmp_path: Path, tape: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tape.write_bytes(tape.read_bytes() + b"no line of a tape\n")
    kept = tmp_path / "bars.csv"
    kept.write_text("bars of yesterday\n")
    for part in ("bars.csv.part", "bars.csv.part2"):
        error = one_line_of_error(
            ["replay", str(tape), "--exchange", "binance", "--format", "csv", "-o", str(kept)], capsys
        )
        assert error.endswith(f"; what was written before is in {tmp_path / part}")
        assert kept.read_text() == "bars of yesterday\n"
        assert (tmp_path / part).read_text() == REPLAY_CSV


def test_the_old_file_is_replaced_whole_with_its_mode_and_behind_its_link(tape: Path, tmp_path: Path) -> None:
    kept, link = tmp_path / "bars.csv", tmp_path / "link"
    kept.write_text("bars of yesterday\n" * 1000)
    kept.chmod(0o640)
    link.symlink_to(kept)
    assert main(["replay", str(tape), "--exchange", "binance", "--format", "csv", "-o", str(link)]) == 0
    assert link.is_symlink()
    assert kept.read_text() == REPLAY_CSV
    assert kept.stat().st_mode & 0o777 == 0o640
    assert {*tmp_path.iterdir()} == {kept, link, tape}


def test_what_is_no_ordinary_file_is_written_to_as_it_is(tape: Path, tmp_path: Path) -> None:
    words = ("replay", tape, "--exchange", "binance", "--format", "csv", "-o")
    assert run(*words, "/dev/stdout", capture_output=True).stdout.decode() == REPLAY_CSV
    assert run(*words, "/dev/null").returncode == 0
    os.mkfifo(tmp_path / "fifo")
    with command(*words, tmp_path / "fifo") as process:
        assert (tmp_path / "fifo").read_text() == REPLAY_CSV
        assert process.wait(10) == 0
    done = run(*words, tmp_path, capture_output=True)
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)
    assert b"Is a directory" in done.stderr


@pytest.mark.parametrize("spelling", ["same", "dots", "symlink", "hard link", "second tape", "in a folder", "stdout"])
def test_a_tape_is_never_its_own_output(
    spelling: str, tape: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = tape.read_bytes()
    tapes, output = [tape], tape
    if spelling == "dots":
        (tmp_path / "folder").mkdir()
        output = tmp_path / "folder" / ".." / tape.name
    elif spelling == "symlink":
        output = tmp_path / "link"
        output.symlink_to(tape)
    elif spelling == "hard link":
        output = tmp_path / "link"
        output.hardlink_to(tape)
    elif spelling == "second tape":
        tapes = [tape.rename(tmp_path / "first"), tape]
        tape.write_bytes(content)
    elif spelling == "in a folder":
        tapes = [tmp_path]
    if spelling == "stdout":
        with tape.open("ab") as file:
            done = run("replay", tape, "--exchange", "binance", stdout=file, stderr=subprocess.PIPE)
        assert done.returncode == 2
        error = done.stderr.decode()
    else:
        error = one_line_of_error(["replay", *map(str, tapes), "--exchange", "binance", "-o", str(output)], capsys)
    assert ", and cannot be written to" in error
    assert tape.read_bytes() == content


def served(tape: Path, *words: object) -> int:
    with simulated("--tape", str(tape)) as url:
        common = ["--url", url, "--once", "--close-by", "trades", "--format", "csv"]
        return main(["stream", "binance", "BTCUSDT", "ETHUSDT", *common, *map(str, words)])


def test_a_stream_replaces_an_old_file_or_goes_on_behind_it(tape: Path, tmp_path: Path) -> None:
    output = tmp_path / "bars.csv"
    head, *bars = REPLAY_CSV.splitlines(keepends=True)
    output.write_text("bars of yesterday\n")
    assert served(tape, "-o", output) == 0
    assert output.read_text() == REPLAY_CSV
    output.write_text(REPLAY_CSV[:-5])  # it was killed in the middle of a line
    assert served(tape, "-o", output, "--append") == 0
    assert output.read_text() == REPLAY_CSV[:-5] + "\n" + "".join(bars)
    output.unlink()
    assert served(tape, "-o", output, "--append") == 0
    assert output.read_text() == head + "".join(bars)


def test_bars_are_not_appended_under_another_header(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "bars.csv"
    output.write_text("time,price\n1,2\n")
    words = ["stream", "binance", "BTCUSDT", "--url", "ws://127.0.0.1:9", "--format", "csv", "--append"]
    assert "its header differs from that of these bars: b'time,price'" in one_line_of_error(
        [*words, "-o", str(output)], capsys
    )
    assert output.read_text() == "time,price\n1,2\n"
    assert one_line_of_error(words, capsys) == "--append needs -o FILE"


# The terminal.


def on_terminal(*words: object, columns: int = 200, env: dict[str, str] | None = None) -> str:
    """What a command shows on a terminal so wide; stderr is on it, too."""
    ours, theirs = pty.openpty()
    ioctl(ours, TIOCSWINSZ, pack("HHHH", 24, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        [*COMMAND, *map(str, words)], stdin=theirs, stdout=theirs, stderr=theirs, env=environment | (env or {})
    )
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 1 << 16):
            shown += piece
    except OSError:  # it has ended
        pass
    finally:
        os.close(ours)
        process.wait(20)
    return shown.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("columns", [1, 20, 36, 54, 79, 80, 100, 120, 156, 158, 159, 200])
def test_a_table_fits_the_terminal(columns: int) -> None:
    chosen = columns_for(columns)
    long = replace(BAR, symbol="币安人生币安人生USDT", high=BAR.high and BAR.high * 10**15, revision=12)
    for bar in (BAR, long):
        assert max(columns_of(header(chosen)), columns_of(table_line(bar, chosen))) <= max(columns, 3)
    assert {"symbol", "close"} <= {name for name, _ in chosen}
    assert len(chosen) == (12 if columns >= 191 else 10) if columns >= 117 else len(chosen) < 10


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_the_table_of_a_command_fits_the_terminal(columns: int, tape: Path) -> None:
    shown = on_terminal("replay", tape, "--exchange", "binance", columns=columns).splitlines()
    assert len(shown) == 7
    assert max(map(len, shown)) <= columns
    assert all("BTCUSDT" in line or "ETHUSDT" in line for line in shown[1:])
    told = on_terminal("replay", tape, "--exchange", "binance", env={"COLUMNS": "60"}).splitlines()
    assert max(map(len, told)) <= 60


def test_without_a_terminal_nothing_is_cut(tape: Path) -> None:
    done = run("replay", tape, "--exchange", "binance", env={"COLUMNS": "40"}, capture_output=True)
    assert done.stdout.decode().splitlines()[0].split()[-1] == "status"
    assert b"2024-08-08T23:54:00Z" in done.stdout


def test_a_stream_shows_that_it_goes_on_until_bars_do(tape: Path, tmp_path: Path) -> None:
    with simulated("--tape", str(tape)) as url:
        common = ["stream", "binance", "BTCUSDT", "ETHUSDT", "--url", url, "--once", "--close-by", "trades"]
        shown = on_terminal(*common)
        into_file = on_terminal(*common, "-o", tmp_path / "bars")
        quiet = on_terminal(*common, "-o", tmp_path / "bars", "-q")
        recorded = on_terminal("record", *common[1:7], "-o", tmp_path / "run")
    assert re.search(r"\w+: \d+ trades of \d symbols, 0 bars", shown)
    assert len([line for line in shown.split("\n") if "USDT" in line]) == 6
    assert re.search(r": \d+ trades of \d symbols, \d bars", into_file)
    assert into_file.rstrip(" ").endswith("\r")
    assert quiet == ""
    assert re.search(r": \d+ messages in \d files, \d\.\d MB", recorded)
    assert "\x1b" not in shown + into_file + recorded


def test_nothing_is_shown_where_nobody_watches(tape: Path, tmp_path: Path) -> None:
    with simulated("--tape", str(tape)) as url:
        words = ("stream", "binance", "BTCUSDT", "--url", url, "--once", "-o", tmp_path / "bars")
        done = run(*words, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.parametrize("columns", [80])
def test_the_demo_fits_the_terminal_and_shows_its_start(columns: int) -> None:
    shown = on_terminal("demo", "--symbols", "2", "--seconds", "3.2", "--rate", "300", columns=columns)
    assert "starting the embedded exchange" in shown
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown).replace("\r", "\n").splitlines()
    summary = lines[max(n for n, line in enumerate(lines) if line.startswith("trades received")) :]
    rows = [line for line in lines if line.strip().startswith(("BTC", "ETH"))]
    assert rows
    assert max(map(len, rows)) <= columns
    assert columns < 80 or max(map(len, summary)) <= columns


# Options.


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["--version"])
    assert exit_.value.code == 0
    assert capsys.readouterr().out == f"fastbars {fastbars.__version__}\n"


@pytest.mark.parametrize(
    "words",
    [
        "-v replay T",
        "replay -v T",
        "replay T -v",
        "replay T --verbose",
        "-vv replay T",
        "-v replay T -v",
        "replay T -vv",
    ],
)
def test_more_is_logged_wherever_the_option_stands(words: str) -> None:
    options = make_parser().parse_args(words.split())
    assert options.verbose + options.verbose_behind == words.replace("--verbose", "-v").count("v")


def test_quiet_stands_anywhere_too() -> None:
    for words in ("-q stream binance X", "stream -q binance X", "stream binance X --quiet"):
        options = make_parser().parse_args(words.split())
        assert options.quiet or options.quiet_behind


BAD: dict[str, list[str]] = {
    "exchange": ["", "bitso", "\x1b[31m"],
    "symbols": [""],
    "tapes": ["", "/nosuch", "."],
    "--exchange": ["", "bitso", "币安"],
    "--market": ["", "margin"],
    "--bars": ["", ",", "1x", "0m", "99999999999999999999m", "1m,1m", "tick:0", "volume:1e999999999", "x" * 5000],
    "--channel": ["", "nosuch", "kline_1m"],
    "--format": ["", "xml"],
    "--output": ["", "/proc/nosuch/file"],
    "--url": ["", "nonsense", "http://127.0.0.1", "ws://", "ws://[::1", "ws://127.0.0.1:99999", "ws://127.0.0.1:x"],
    "--symbols": ["", "x", "0", "-1", "1.5", "9" * 5000, "1000000000"],
    "--seconds": ["", "x", "0", "-1", "nan", "inf", "1e300"],
    "--rate": ["", "x", "0", "-5", "nan", "inf", "1e300"],
    "--seed": ["", "x", "1.5", "9" * 5000],
    "--port": ["", "x", "-1", "65536", "9" * 5000],
    "--lines": ["", "x", "0", "-1", "99999", "1000000000"],
    "--verify": ["x", "0", "-1", "1.5", "nan", "inf"],
    "--file-mb": ["", "x", "0", "-1", "nan", "1e300"],
    "--file-s": ["", "x", "0", "-1", "nan", "1e300"],
    "--record": ["", "/proc/nosuch"],
    "--close-by": ["", "hand"],
    "--klines": ["", "/nosuch", ".", "/dev/null"],
    "--tape": ["", "/nosuch"],
    "files": ["", "/nosuch", "."],
    "--symbols-from": ["", "/nosuch", ".", "/dev/null"],
    "--where": ["", "x", "quote", "kind=boat", "min_volume=x", "nosuch=1"],
    "--rest-url": ["", "nonsense", "ws://127.0.0.1", "http://[::1"],
    "--api-key": [""],
    "--and": ["", "bitso"],
    "--repair": ["", "hand"],
    "--history": ["", "x", "0", "-1", "3x", "9" * 5000],
    "--last": ["", "x", "0", "-1", "3x", "9" * 5000],
    "--history-from": ["", "hand"],
    "--since": ["", "x", "2026-13-01", "9" * 5000],
    "--until": ["", "x", "2026-13-01", "9" * 5000],
    "--base": [""],
    "--quote": [""],
    "--settle": [""],
    "--kind": ["", "boat"],
    "--status": ["", "boat"],
    "--name": ["", "("],
    "--min-volume": ["", "x", "-1", "nan"],
    "--sort": ["", "nosuch"],
    "--symbol": [""],
    "--file-format": ["", "nosuch"],
    "--columns": ["", "x", "time=", "nosuch=1"],
    "--time-unit": ["", "h"],
    "--ids": ["", "some"],
    "--partition-by": ["", "nosuch"],
    "--workers": ["", "x", "0", "-1", "1.5"],
    "file": ["", "/nosuch/file", "."],
    "url": ["", "nonsense", "ftp://127.0.0.1", "http://127.0.0.1:9", "http://[::1", "http://127.0.0.1:x"],
    "--token-env": ["", "NO_SUCH_VARIABLE"],
    "source": ["", "nonsense", "parquet:/nosuch", "nats://127.0.0.1"],
    "--host": ["", "0.0.0.0"],
    "--on": ["", "http://127.0.0.1", "x:y"],
}
WHOLE = {
    "demo": "--seconds 0.1", "replay": "TAPE --exchange binance", "record": "binance BTCUSDT -o OUT --url ws://127.0.0.1:9",
    "verify": "TAPE --exchange binance", "stream": "binance BTCUSDT --url ws://127.0.0.1:9", "simulate": "",
    "history": "binance BTCUSDT --rest-url http://127.0.0.1:9 -o OUT", "symbols": "binance --rest-url http://127.0.0.1:9",
    "check": "TAPE", "build": "TAPE --bars 1m -o OUT", "resample": "TAPE --bars 1h",
    "run": "FILE --check", "init": "/nosuch/file", "status": "http://127.0.0.1:9", "serve": "parquet:.",
}  # fmt: skip


def bad_command_lines() -> Iterator[tuple[str, ...]]:
    """Every option of every command with every bad value."""
    commands: Any = next(one for one in make_parser()._actions if isinstance(one, argparse._SubParsersAction))
    for name, parser in commands.choices.items():
        for action in parser._actions:
            option = action.option_strings[-1] if action.option_strings else action.dest
            if action.nargs == 0:
                continue
            for value in BAD[option]:
                words = WHOLE[name].split()
                if option == "exchange":
                    words[0] = value
                elif option == "symbols":
                    words[1] = value
                elif option in ("tapes", "files", "file", "url", "source"):
                    words[0] = value
                else:
                    words.append(f"{option}={value}")
                yield (name, *words)


@pytest.mark.parametrize(
    "words", list(bad_command_lines()), ids=lambda words: " ".join(words)[:60].encode("unicode_escape").decode()
)
def test_every_bad_value_is_one_clear_line_and_status_2(
    words: tuple[str, ...], tape: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"TAPE": str(tape), "OUT": str(tmp_path / "out"), ".": str(tmp_path)}
    try:
        status: Any = main([places.get(word, word) for word in words])
    except SystemExit as exit_:
        status = exit_.code
    out, err = capsys.readouterr()
    assert status == 2
    assert out.count("\n") <= 1  # the header of a table that has got no rows
    assert err.startswith("fastbars")
    assert err.count("\n") == 1
    assert err[:-1].isprintable()
    assert len(err) < 700


def test_the_callers_of_a_command_see_no_handler_left_behind(tape: Path, tmp_path: Path) -> None:
    before = [*logging.getLogger().handlers]
    assert main(["replay", str(tape), "--exchange", "binance", "-o", str(tmp_path / "x")]) == 0
    assert logging.getLogger().handlers == before
