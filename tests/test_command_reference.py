"""The command reference is what the parser says, and every example of `--help` is run, against embedded exchanges."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import ModuleType

import pytest

from fastbars.bars import OHLCVBar
from fastbars.cli import main
from fastbars.cli.commands import COMMANDS
from fastbars.cli.examples import EXAMPLES
from fastbars.cli.options import make_parser
from fastbars.simulator import SimulatedExchange
from fastbars.sinks import Rows, open_sink
from servers import START_NS, free_port, trade
from test_wheel_check import TOOLS, load_tool

pytestmark = pytest.mark.real_clock

TRADES = "id,price,qty,quote_qty,time,is_buyer_maker\n" + "".join(
    f"{number},{100 + number % 7},2,{2 * (100 + number % 7)},{1_709_769_600_000 + 60_000 * number},{number % 3 == 0}\n"
    for number in range(1, 1_440)
)


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    return load_tool(TOOLS / "command_reference.py")


def test_the_command_reference_is_what_the_parser_says(tool: ModuleType) -> None:
    assert tool.PAGE.read_text(encoding="utf-8") == tool.reference(), "run: python tools/command_reference.py"


def test_every_command_has_examples_and_its_help_shows_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert EXAMPLES.keys() == COMMANDS.keys()
    for command, examples in EXAMPLES.items():
        with pytest.raises(SystemExit):
            main([command, "--help"])
        shown = capsys.readouterr().out
        assert [line for line, _ in examples if f"\n  {line}\n" not in shown] == []


def test_an_example_is_of_its_command() -> None:
    for command, examples in EXAMPLES.items():
        for line, _ in examples:
            assert make_parser().parse_args(shlex.split(line)[1:]).command == command


# Running them.


class Venues:
    """Embedded exchanges in a thread of their own: Binance spot and USD-M, and Bybit's linear market."""

    def __init__(self) -> None:
        self.urls: dict[str, str] = {}
        self.rest_urls: dict[str, str] = {}

    @contextmanager
    def serving(self) -> Iterator[Venues]:
        started = threading.Event()
        loop = asyncio.new_event_loop()
        stopped = asyncio.Event()

        async def serve() -> None:
            async with AsyncExitStack() as stack:
                for name, rate, past_s in (
                    ("binance:spot", 100.0, 0.0),
                    ("binance:past", 10.0, 3600.0),
                    ("binance:usdm", 100.0, 0.0),
                    ("bybit:linear", 100.0, 0.0),
                ):
                    exchange, _, market = name.replace("past", "spot").partition(":")
                    server = SimulatedExchange(
                        exchange, market=market, symbols=2, rate=rate, record=True, past_s=past_s
                    )
                    await stack.enter_async_context(server)
                    self.urls[name], self.rest_urls[name] = server.url, server.rest_url
                started.set()
                await stopped.wait()

        thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
        thread.start()
        try:
            assert started.wait(20)
            yield self
        finally:
            loop.call_soon_threadsafe(stopped.set)
            thread.join()
            loop.close()


@pytest.fixture(scope="module")
def venues() -> Iterator[Venues]:
    with Venues().serving() as served:
        yield served


@contextmanager
def interrupted(when: Callable[[], object]) -> Iterator[None]:
    """Ctrl-C as soon as `when` holds."""
    given_up = threading.Event()

    def watch() -> None:
        while not given_up.wait(0.01):
            if when():
                return os.kill(os.getpid(), signal.SIGINT)
        return None

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        given_up.set()
        thread.join()


def has_text(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("line", [line for line, _ in EXAMPLES["stream"]])
def test_an_example_of_stream_runs(line: str, venues: Venues, folder: Path) -> None:
    words = shlex.split(line)[1:]
    wanted = make_parser().parse_args(words)
    own = "binance:past" if wanted.history else f"binance:{wanted.market or 'spot'}"
    words += ["--url", venues.urls[own]]
    words += [] if wanted.others else ["--rest-url", venues.rest_urls[own]]
    words += [] if wanted.history else ["--bars", f"{wanted.bars},tick:2"]  # no need to wait for minutes
    for venue, *_ in wanted.others:
        words += ["--url", f"{venue}={venues.urls[venue]}"]
    output = wanted.output or Path("seen")
    words += [] if wanted.output else ["-o", str(output)]
    with interrupted(lambda: has_text(output) and output.read_text(encoding="utf-8").count("\n") > 9):
        assert main(words) == 0
    shown = output.read_text(encoding="utf-8")
    assert [spec for spec in wanted.bars.split(",") if spec not in shown] == []  # open bars end with the stream
    assert [venue for venue, *_ in wanted.others if venue.partition(":")[0] not in shown] == []


def test_the_examples_of_record_replay_and_verify_run(
    venues: Venues, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded = [b"%d %s\n" % (START_NS, trade(n, n * 20_000)) for n in range(12)]
    Path("usdm_btcusdt.raw.gz").write_bytes(gzip.compress(b"".join(recorded)))
    (endless, _), (with_candles, _) = EXAMPLES["record"]
    connection = ["--url", venues.urls["binance:spot"], "--rest-url", venues.rest_urls["binance:spot"]]
    assert main([*shlex.split(endless)[1:], *connection, "--seconds", "0.3"]) == 0
    assert main([*shlex.split(with_candles)[1:], *connection, "--seconds", "1.2", "--bars", "1s"]) == 0
    capsys.readouterr()
    for line, _ in EXAMPLES["replay"]:
        assert main(shlex.split(line)[1:]) == 0
        assert "BTCUSDT" in capsys.readouterr().out
    for line, _ in EXAMPLES["verify"]:
        assert main(shlex.split(line)[1:]) in (0, 1)
        assert re.search(r"\d bars? equal", capsys.readouterr().out), line


def test_the_examples_of_history_and_symbols_run(
    venues: Venues, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for line, _ in (*EXAMPLES["history"], *EXAMPLES["symbols"]):
        words = shlex.split(line)[1:]
        wanted = make_parser().parse_args(words)
        assert main([*words, "--rest-url", venues.rest_urls["binance:usdm" if wanted.market else "binance:past"]]) == 0
        shown = wanted.output.read_text(encoding="utf-8") if wanted.output else capsys.readouterr().out
        assert "BTCUSDT" in shown, line


def test_the_examples_of_check_build_and_resample_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("BTCUSDT-trades-2024-03-07.csv").write_text(TRADES, encoding="utf-8")
    for line, _ in (*EXAMPLES["check"], *EXAMPLES["build"], *EXAMPLES["resample"]):
        assert main(shlex.split(line)[1:]) == 0, (line, capsys.readouterr())
        assert line.startswith("fastbars build") or capsys.readouterr().out or Path("larger.parquet").stat().st_size
    assert Path("bars.parquet").is_file()
    assert any(Path("bars").rglob("*.parquet"))


@pytest.mark.parametrize("line", [line for line, _ in EXAMPLES["simulate"]])
def test_an_example_of_simulate_runs(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()

    def listening() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    with interrupted(listening):
        assert main([*shlex.split(line)[1:], "--port", str(port)]) == 0
    assert f"127.0.0.1:{port}" in capsys.readouterr().out


def test_the_examples_of_demo_run() -> None:
    # The page takes 9 s to make its market's past: test_page_stored.py runs that one.
    lines = [line for line, _ in EXAMPLES["demo"] if "--web" not in line]
    quick = ["--symbols", "5", "--rate", "2000", "--seconds", "0.6", "--no-browser"]
    running = [
        subprocess.Popen([sys.executable, "-m", "fastbars", *shlex.split(line)[1:], *quick], stdout=subprocess.PIPE)
        for line in lines
    ]
    ended = [(*demo.communicate(timeout=60), demo.returncode) for demo in running]
    for shown, _, status in ended:
        assert b"trades received" in shown
        assert status in (0, 1)  # 1: no bar has ended in so short a time


def test_the_examples_of_serve_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    opened = datetime(2025, 1, 31, tzinfo=UTC)
    one = Decimal(1)
    bar = OHLCVBar("BTCUSDT", "1m", opened, opened + timedelta(minutes=1), one, one, one, one, one)

    async def write(url: str) -> None:
        sink = open_sink(url)
        await sink.open()
        await sink.write(Rows([bar], "host-a", [opened]))
        await sink.flush()
        await sink.close()

    for line, _ in EXAMPLES["serve"]:
        words, port = shlex.split(line)[1:], free_port()
        asyncio.run(write(words[1]))

        def listening(port: int = port) -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        with interrupted(listening):
            assert main([*words, "--port", str(port), "--no-browser"]) == 0
        assert capsys.readouterr().out == f"http://127.0.0.1:{port}\n"


def test_the_examples_of_init_run_and_status_run(
    venues: Venues, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (init, _), (check, _), (run, _), (status, _) = *EXAMPLES["init"], *EXAMPLES["run"], *EXAMPLES["status"]
    assert main(shlex.split(init)[1:]) == 0
    assert main(shlex.split(check)[1:]) == 0
    port = free_port()
    written = Path("fastbars.toml").read_text(encoding="utf-8")
    changed = written.replace("[venues.binance]", f'[venues.binance]\nurl = "{venues.urls["binance:spot"]}"')
    changed = changed.replace("[stream]", f'[stream]\nrest_url = "{venues.rest_urls["binance:spot"]}"', 1)
    changed = changed.replace('"5m"]', '"5m", "tick:2"]', 1) + f"\n[web]\nport = {port}\n"
    Path("fastbars.toml").write_text(changed, encoding="utf-8")
    words = shlex.split(status)[1:]
    words[-1] = words[-1].replace("9100", str(port))
    capsys.readouterr()
    with subprocess.Popen([sys.executable, "-m", "fastbars", *shlex.split(run)[1:]], stderr=subprocess.PIPE) as service:
        deadline = time.monotonic() + 20
        try:
            while main(words) != 0 or not has_text(folder / "bars.jsonl"):
                assert service.poll() is None, (service.pid, service.stderr and service.stderr.read().decode())
                assert time.monotonic() < deadline, capsys.readouterr().err
                time.sleep(0.05)  # of another process: no event of this one tells
        finally:
            with contextlib.suppress(ProcessLookupError):
                service.terminate()
        assert service.wait(20) == 0
    assert "binance" in capsys.readouterr().out
    assert "BTCUSDT" in Path("bars.jsonl").read_text(encoding="utf-8")
