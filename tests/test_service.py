"""`fastbars run`: what a configuration says is what runs, and what it says wrongly is named by line and key."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from fastbars.cli import main
from fastbars.live.config import StreamConfig
from fastbars.service.config import KNOBS, Config, ConfigError, read_config
from fastbars.service.notify import Notifier
from fastbars.service.service import Service
from fastbars.service.toml_lines import lines_of
from fastbars.simulator import FaultKind, Faults, SimulatedExchange
from servers import until

GOOD = """\
source = "host-a"
bars = ["1m", "tick:100@1d"]

[venues."binance:usdm"]
symbols = ["BTCUSDT", "btcusdc"]
  [venues."binance:usdm".stream]
  lateness = 5

[venues.bybit]
where = { quote = "USDT", status = "trading" }

[stream]
heal_horizon = 100
state = "bars.state"

[sinks.main]
url = "jsonl:${FOLDER}/bars.jsonl"

[web]
port = 9100
"""


def read(tmp_path: Path, text: str) -> Any:
    path = tmp_path / "fastbars.toml"
    path.write_text(text)
    return read_config(path, {"FOLDER": str(tmp_path), "KEY": "secret-of-the-user"})


def test_what_is_written_is_what_runs(tmp_path: Path) -> None:
    config = read(tmp_path, GOOD)
    assert config.specs == ("1m", "tick:100@1d")
    assert config.symbols("binance:usdm") == ["BTCUSDT", "BTCUSDC"]
    assert str(config.symbols("bybit")) == "quote=USDT,status=trading"
    assert (config.stream_config("binance:usdm").lateness, config.stream_config("bybit").lateness) == (5, 60)
    assert config.stream_config("bybit").heal_horizon == 100
    assert config.stream_config("bybit").state == "bars.bybit-spot.state"  # a file for each venue
    assert config.sinks["main"].url == f"jsonl:{tmp_path}/bars.jsonl"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("lateness = 5", "lateness = -1", r'7: venues."binance:usdm".stream.lateness: lateness must not be negative'),
        ("lateness = 5", 'lateness = "x"', r'7: venues."binance:usdm".stream.lateness: expected float'),
        ("lateness = 5", "latness = 5", r'7: venues."binance:usdm".stream.latness: no such key; did you mean lat'),
        ("heal_horizon = 100", "heal_horizon = 0", "13: stream.heal_horizon: heal_horizon must be positive, got 0"),
        ('"1m", ', '"1q", ', "2: bars: bar spec '1q' is not known"),
        ("port =", "prot =", r"20: web.prot: no such key; did you mean port\?"),
        ("port = 9100", "port = true", "20: web.port: expected int, got bool"),
        ('status = "trading"', "stats = 3", "10: venues.bybit.where.stats: no such key; did you mean status"),
        ("binance:usdm\"]\nsym", "binance:usdx\"]\nsym", "4: venues.\"binance:usdx\": binance: unknown market 'usdx'"),
        ("[venues.bybit]", '[venues."bybit:nosuch"]', "9: venues.\"bybit:nosuch\": bybit: unknown market"),
        ('symbols = ["BTCUSDT", "btcusdc"]', "symbols = []", '4: venues."binance:usdm": needs either symbols or where'),
        ('"btcusdc"]', '"A B"]', '5: venues."binance:usdm".symbols: '),
        ('quote = "USDT"', 'kind = "x"', r"10: venues.bybit.where: where: .*'x'"),
        ("${FOLDER}", "${NOSUCH}", "17: sinks.main.url: the environment has no NOSUCH"),
        ("jsonl:$", "jsnl:$", "17: sinks.main.url: .* is no URL of a sink"),
        ("[venues.bybit]", "[venues.binance]\nsymbols = ['A']\n[venues.\"binance:spot\"]", "is the same venue as"),
        ('source = "host-a"', "source = 5", "1: source: expected str, got int"),
        ("[stream]", "[stream", ":12: is not TOML"),
        ("[web]", "[we]", r"19: we: no such key; did you mean web\?"),
    ],
)  # fmt: skip
def test_what_is_written_wrongly_is_named_by_line_and_key(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(ConfigError, match=message) as raised:
        read(tmp_path, GOOD.replace(old, new, 1))
    assert str(tmp_path / "fastbars.toml:") in str(raised.value)


def test_secrets_of_the_environment_are_never_shown(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        read(tmp_path, GOOD + '\n[sinks.other]\nurl = "nosuch://user:${KEY}@host/base"\n')
    assert "secret-of-the-user" not in str(raised.value)
    config = read(tmp_path, GOOD.replace("heal_horizon = 100", 'api_key = "${KEY}"'))
    assert config.stream_config("bybit").api_key == "secret-of-the-user"
    assert "secret-of-the-user" not in repr(config.stream_config("bybit"))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nosuch.toml: No such file"):
        read_config(tmp_path / "nosuch.toml")
    (tmp_path / "large.toml").write_text("#" * (1 << 21))
    with pytest.raises(ConfigError, match="has more than 1,048,576 bytes"):
        read_config(tmp_path / "large.toml")
    (tmp_path / "bytes.toml").write_bytes(b"a = 1\nb = '\xff'")
    with pytest.raises(ConfigError, match=r"bytes.toml:2: is not UTF-8"):
        read_config(tmp_path / "bytes.toml")


def test_every_setting_of_a_stream_is_a_key() -> None:
    left_out = {"bars", "bar_resolution", "ssl", "origin", "connect_options", "close_by"}
    assert set(KNOBS) | left_out == set(StreamConfig.__dataclass_fields__)


def test_lines_of_keys() -> None:
    text = (
        '# c\na = 1\n"b c".d = [\n 1, # ]\n 2,\n]\n[t."x.y"]\nk = """\n[no]\nz = 1\n"""\nw = { p = 1, q.r = 2 }\n'
        "[[l]]\nm = 1\n[[l]]\n[l.n]\no = 2\n"
    )
    assert lines_of(text) == {
        ("a",): 2, ("b c", "d"): 3, ("t", "x.y"): 7, ("t", "x.y", "k"): 8, ("t", "x.y", "w"): 12,
        ("t", "x.y", "w", "p"): 12, ("t", "x.y", "w", "q", "r"): 12, ("l",): 13, ("l", 0): 13, ("l", 0, "m"): 14,
        ("l", 1): 15, ("l", 1, "n"): 16, ("l", 1, "n", "o"): 17,
    }  # fmt: skip


def test_the_example_is_checked_and_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "fastbars.toml"
    assert main(["init", str(path)]) == 0
    assert main(["run", "--check", str(path)]) == 0
    assert "1m, 5m of binance 2 symbols; sinks: file" in capsys.readouterr().err
    assert main(["init", str(path)]) == 2
    # And everything that stands there as a comment is right too, or says what is missing.
    lines = path.read_text().splitlines()
    text = "\n".join(line.removeprefix("# ") if " = " in line or "[" in line else line for line in lines)
    config = read_config_of(tmp_path, text)
    assert (config.web.port, config.history, config.stream_config("binance").repair) == (9100, "1d", "candles")


def read_config_of(tmp_path: Path, text: str) -> Any:
    path = tmp_path / "all.toml"
    path.write_text(text)
    return read_config(path, {"BINANCE_KEY": "a key of theirs", "FASTBARS_TOKEN": "a token that is long"})


def test_the_configuration_of_the_page_is_checked(tmp_path: Path) -> None:
    page = (Path(__file__).resolve().parents[1] / "docs" / "configuration.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "fastbars.toml").write_text(text)
    config = read_config(tmp_path / "fastbars.toml", {"LOG_FOLDER": str(tmp_path)})
    assert list(config.sinks) == ["files", "lines"]
    assert config.stream_config("bybit:linear").repair == "candles"
    for key in Config.__struct_fields__:
        assert re.search(rf"\b{key}\b", page), key


def test_what_systemd_is_told(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "3000000"})
        assert notifier.watchdog_s == 1.5
        notifier.ready("5 symbols")
        notifier.reloading()
        notifier.alive()
        notifier.stopping()
        found = [manager.recv(1000).decode() for _ in range(4)]
    assert found[0] == "READY=1\nSTATUS=5 symbols"
    assert found[1].startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert found[2:] == ["WATCHDOG=1", "STOPPING=1"]
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready("nobody listens")
    assert Notifier({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid() + 1)}).watchdog_s is None


class Running:
    """A service as a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path) -> None:
        self.process = process
        self.folder = folder

    def bars(self) -> list[dict[str, Any]]:
        path = self.folder / "bars.jsonl"
        return [orjson.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []

    async def event(self, name: str) -> dict[str, Any]:
        """Wait for an event of its log."""
        assert self.process.stderr is not None
        while True:
            line = await asyncio.wait_for(self.process.stderr.readline(), 20)
            assert line, f"it ended before {name}"
            found: dict[str, Any] = orjson.loads(line)
            if found["event"] == name:
                return found


@asynccontextmanager
async def running(folder: Path, text: str, **environ: str) -> AsyncIterator[Running]:
    (folder / "fastbars.toml").write_text(text)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "fastbars", "run", "fastbars.toml", cwd=folder, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **environ},
    )  # fmt: skip
    try:
        yield Running(process, folder)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def text_for(server: SimulatedExchange, symbols: list[str], url: str = "") -> str:
    return f"""
bars = "1s"
source = "host-a"
[venues.binance]
symbols = {symbols}
url = "{url or server.url}"
[stream]
state = "bars.state"
grace = 0.1
[sinks.main]
url = "jsonl:bars.jsonl"
[log]
format = "json"
"""


@pytest.mark.real_clock
async def test_a_service_waits_for_the_network_reloads_and_ends_in_order(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = SimulatedExchange("binance", symbols=6, rate=600, seed=1, port=port)
    first, second = server.symbols[:3], server.symbols[2:5]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        text = text_for(server, first, f"ws://127.0.0.1:{port}/ws")
        async with running(tmp_path, text, NOTIFY_SOCKET=str(tmp_path / "notify")) as service:
            waited = await service.event("service_waits")
            assert "cannot connect" in waited["error"]
            async with server:
                ready = await service.event("service_ready")
                assert (ready["symbols"], ready["level"]) == (3, "info")
                (tmp_path / "fastbars.toml").write_text("nonsense")
                service.process.send_signal(signal.SIGHUP)
                assert "is not TOML" in (await service.event("reload_refused"))["error"]
                await asyncio.sleep(1.5)
                (tmp_path / "fastbars.toml").write_text(
                    text_for(server, second, f"ws://127.0.0.1:{port}/ws").replace('"1s"', '"2s"')
                )
                service.process.send_signal(signal.SIGHUP)
                assert (await service.event("reload_needs_restart"))["keys"] == ["bars"]
                reloaded = await service.event("reloaded")
                assert (reloaded["added"], reloaded["removed"]) == ({"binance": second[1:]}, {"binance": first[:2]})
                await asyncio.sleep(2.5)
                service.process.send_signal(signal.SIGTERM)
                assert await service.process.wait() == 0
        told: list[str] = []
        while len(told) < 50:
            try:
                told.append(manager.recv(1000).decode().partition("\n")[0].partition(":")[0])
            except BlockingIOError:
                break
    assert told[0].startswith("STATUS=waiting")
    assert told[-6:] == ["READY=1", "RELOADING=1", "READY=1", "RELOADING=1", "READY=1", "STOPPING=1"]
    bars = service.bars()
    assert {bar["symbol"] for bar in bars} == {*first, *second}
    kept = [bar for bar in bars if bar["symbol"] == first[2] and bar["revision"] == 0]
    assert len(kept) >= 3
    assert {bar["status"] for bar in kept[1:-1]} <= {"COMPLETE", "PROVISIONAL"}  # no reload has cut it


@pytest.mark.real_clock
async def test_a_reload_while_it_connects_and_one_that_is_refused(tmp_path: Path) -> None:
    accepted, release = asyncio.Event(), asyncio.Event()
    async with SimulatedExchange("bybit", symbols=4, rate=100, seed=3) as server:

        async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            accepted.set()
            await release.wait()
            onward, back = await asyncio.open_connection("127.0.0.1", int(server.url.split(":")[2].split("/")[0]))
            await asyncio.gather(_pass_on(reader, back), _pass_on(onward, writer), return_exceptions=True)

        gate = await asyncio.start_server(hold, "127.0.0.1", 0)
        held_port = gate.sockets[0].getsockname()[1]
        url = re.sub(r":\d+", f":{held_port}", server.url)
        first, second = server.symbols[:2], server.symbols[1:3]
        path = tmp_path / "fastbars.toml"

        def written(symbols: list[str]) -> None:
            lines = text_for(server, symbols, url).replace("jsonl:", f"jsonl:{tmp_path}/")
            lines = lines.replace("venues.binance", "venues.bybit")
            path.write_text(lines.replace("bars.state", f"{tmp_path}/bars.state"))

        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(str(tmp_path / "notify"))
            manager.setblocking(False)
            written(first)
            notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
            service = Service(read_config(path), path, notifier=notifier)
            running = asyncio.create_task(service.run())
            try:
                await asyncio.wait_for(accepted.wait(), 10)
                written(second)
                await service.reload()
                with pytest.raises(BlockingIOError):  # not ready, and not said to be
                    manager.recv(1000)
                release.set()
                await until(lambda: service.streams and set(service.streams["bybit"].subscribed) == set(second))
                written([*second, "NOSUCHUSDT"])
                await service.reload()
                assert set(service.streams["bybit"].subscribed) == set(second)
                assert service.config.symbols("bybit") == second
                written([*second, server.symbols[3]])
                await service.reload()
                assert set(service.streams["bybit"].subscribed) == {*second, server.symbols[3]}
            finally:
                release.set()
                service.stop()
                await asyncio.wait_for(running, 15)
                gate.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()


@pytest.mark.real_clock
async def test_what_was_not_confirmed_comes_again_after_a_kill(tmp_path: Path) -> None:
    async with SimulatedExchange("binance", symbols=3, rate=300, seed=2, faults=Faults(1)) as server:
        text = text_for(server, server.symbols)
        for _ in range(2):
            async with running(tmp_path, text) as service:
                await service.event("service_ready")
                await asyncio.sleep(2.3)
                service.process.kill()
        assert server.faults is not None
        server.faults.inject(FaultKind.DROP)
        async with running(tmp_path, text) as service:
            await service.event("service_ready")
            await asyncio.sleep(1.5)
            service.process.send_signal(signal.SIGTERM)
            assert await service.process.wait() == 0
    latest: dict[tuple[str, str], int] = {}
    for bar in service.bars():
        key = bar["symbol"], bar["open_time"]
        assert bar["revision"] >= latest.get(key, 0)
        latest[key] = bar["revision"]
    for symbol in server.symbols:
        times = sorted(at for own, at in latest if own == symbol)
        assert len(times) >= 6


async def test_a_folder_that_is_not_there_ends_it_with_the_error(tmp_path: Path) -> None:
    path = tmp_path / "fastbars.toml"
    state = (tmp_path / "missing" / "bars.state").as_posix()
    path.write_text(f'[venues.binance]\nsymbols = ["BTCUSDT"]\n[stream]\nstate = "{state}"\n')
    with pytest.raises(FileNotFoundError, match="missing"):
        await Service(read_config(path)).run()


async def test_a_refused_symbol_ends_it_with_the_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "fastbars.toml"
    path.write_text('[venues.binance]\nsymbols = ["BTC/USDT/X"]\n')
    assert await asyncio.to_thread(main, ["run", "--check", str(path)]) == 2
    assert "fastbars.toml:2: venues.binance.symbols" in capsys.readouterr().err
