"""Symbols in the command: listed, read from a file, and chosen."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import fastbars
from fastbars.cli import main
from fastbars.cli.symbols import read_symbols, read_where
from fastbars.errors import FastbarsError
from fastbars.instrument_table import INSTRUMENT_FIELDS

COMMAND = [sys.executable, "-m", "fastbars"]


@pytest.fixture(scope="module")
def exchange() -> Iterator[str]:
    """The address of a simulated exchange, in a process of its own."""
    words = ["simulate", "--exchange", "binance", "--market", "usdm", "--symbols", "4", "--rate", "3000"]
    with subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.send_signal(signal.SIGINT)
        process.wait(10)


def rest(url: str) -> str:
    return "http://" + url.removeprefix("ws://").partition("/")[0]


@pytest.mark.parametrize(
    ("content", "symbols"),
    [
        (b"BTCUSDT\nETHUSDT\n", ["BTCUSDT", "ETHUSDT"]),
        (b"\xef\xbb\xbf# all of them\r\n\r\nBTCUSDT # the first\r\n  ETHUSDT,SOLUSDT BTCUSDT", [
            "BTCUSDT", "ETHUSDT", "SOLUSDT"]),
        ("#12\n@107\n#x\n币安人生USDT".encode(), ["#12", "@107", "币安人生USDT"]),
        (b"BTC/USDT:USDT-260925\n", ["BTC/USDT:USDT-260925"]),
    ],
)  # fmt: skip
def test_a_file_has_a_symbol_a_line_with_comments(tmp_path: Path, content: bytes, symbols: list[str]) -> None:
    path = tmp_path / "symbols.txt"
    path.write_bytes(content)
    assert read_symbols(path) == symbols


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "there is no symbol in it"),
        (b"# none\n\n , \n", "there is no symbol in it"),
        (b"BTCUSDT\n\xff\n", "line 2 is not UTF-8"),
        (b"A" * (4 * 2**20 + 1), "has at most 4194304 bytes"),
        (b"".join(b"S%d " % number for number in range(100_001)), "100,001 symbols, the limit is 100,000"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "symbols.txt"
    path.write_bytes(content)
    with pytest.raises(FastbarsError, match=why):
        read_symbols(path)


def test_a_choice_is_read_from_text() -> None:
    text = "quote=USDT|USDC, kind=perpetual,min-volume=1e6,name=B.*,inverse=false,status=any,exclude=BTC/USDT:USDT"
    assert read_where(text) == fastbars.where(
        quote=["USDT", "USDC"], kind="perpetual", min_volume="1e6", name="B.*", inverse=False, status=None,
        exclude=["BTC/USDT:USDT"],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("USDT", "'USDT' is not one of base=..., quote="),
        ("quote=", "'quote=' is not one of"),
        ("quotes=USDT", "'quotes=USDT' is not one of"),
        ("quote=A,quote=B", "quote is given twice"),
        ("inverse=yes", "inverse must be true or false, got 'yes'"),
        ("kind=swap", "kind is 'swap', it must be one of spot"),
        ("min_volume=much", "min_volume='much' is not a number"),
    ],
)
def test_a_choice_that_makes_no_sense_is_refused_in_words(text: str, why: str) -> None:
    with pytest.raises(FastbarsError, match=why):
        read_where(text)


def test_symbols_lists_instruments_in_every_format(
    exchange: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["symbols", "binance", "--market", "usdm", "--rest-url", rest(exchange), "--quote", "USDT"]
    assert main([*words, "--kind", "perpetual,future"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [
        "symbol", "alias", "kind", "status", "price_tick", "size_step", "contract_size", "expiry", "listed",
    ]  # fmt: skip
    assert lines[2].split() == [
        "BTCUSDT",
        "BTC/USDT:USDT",
        "perpetual",
        "trading",
        "0.01",
        "0.001",
        "2019-09-25T08:00:00Z",
    ]
    assert [line.split()[0] for line in lines[1:]] == ["BNBUSDT", "BTCUSDT", "ETHUSDT", "SOLUSDT"]
    assert main([*words, "--min-volume", "1", "--sort", "price_tick", "--descending", "--format", "jsonl"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [*rows[0]] == list(INSTRUMENT_FIELDS)
    assert rows[0]["symbol"] == "BNBUSDT"
    assert rows[0]["quote_volume"] == "1000000"
    path = tmp_path / "symbols.csv"
    assert main([*words, "--format", "csv", "-o", str(path)]) == 0
    with path.open(encoding="utf-8", newline="") as file:
        read = list(csv.DictReader(file))
    assert [row["symbol"] for row in read] == ["BNBUSDT", "BTCUSDT", "ETHUSDT", "SOLUSDT"]
    assert read[1]["price_tick"] == "0.01"
    assert read[1]["contract_size"] == ""
    names = tmp_path / "names"
    assert main([*words, "--name", "[BE].*", "--format", "names", "-o", str(names)]) == 0
    assert read_symbols(names) == ["BNBUSDT", "BTCUSDT", "ETHUSDT"]
    assert main([*words, "--sort", "volume"]) == 2
    assert "--sort: 'volume' is not one of exchange, market" in capsys.readouterr().err
    assert main(["symbols", "interactive_brokers"]) == 2
    assert "has no list of its instruments" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([], "the following arguments are required: SYMBOL"),
        (["BTCUSDT", "--where", "quote=USDT"], "--where chooses the symbols; none can be given beside it"),
        (["--symbols-from", "/nowhere/symbols"], "No such file"),
    ],
)
def test_a_command_without_symbols_or_with_too_many_says_so(words: list[str], why: str) -> None:
    done = subprocess.run([*COMMAND, "stream", "binance", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert why in done.stderr


def test_a_stream_takes_a_choice_a_file_and_aliases(exchange: str, tmp_path: Path) -> None:
    path = tmp_path / "symbols.txt"
    path.write_text("# two\nBTC/USDT:USDT\nETHUSDT\n", encoding="utf-8")
    source = ["--market", "usdm", "--url", exchange, "--rest-url", rest(exchange), "--bars", "tick:5"]
    for words, symbols in (
        (["--where", "quote=USDT,kind=perpetual,exclude=SOL/USDT:USDT"], {"BTCUSDT", "ETHUSDT", "BNBUSDT"}),
        (["--symbols-from", str(path), "sol/usdt:usdt"], {"BTCUSDT", "ETHUSDT", "SOLUSDT"}),
    ):
        command = [*COMMAND, "stream", "binance", *words, *source, "--format", "csv"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            found: set[str] = set()
            for line in process.stdout:
                found.add(line.split(",")[2])
                if found - {"symbol"} == symbols:
                    break
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=20)
        assert found - {"symbol"} == symbols
