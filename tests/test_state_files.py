"""State files: nobody shares one without knowing, and nothing keeps one for longer than it should."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import fastbars
from fastbars import StreamConfig
from fastbars.errors import SnapshotError, WSConnectionError
from fastbars.live.statefile import StateFile
from fastbars.simulator import SimulatedExchange

HOLDER = """
import sys
from fastbars.live.statefile import StateFile
held = StateFile(sys.argv[1])
held.keep()
print("held", flush=True)
sys.stdin.readline()
held.release()
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def holder_of(path: Path) -> subprocess.Popen[str]:
    """Another process that has the state file."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_two_processes_never_share_a_state_file(tmp_path: Path) -> None:
    path = tmp_path / "bars.state"
    other = holder_of(path)
    try:
        with pytest.raises(
            SnapshotError, match=rf"bars\.state: the state file is in use by another process \({other.pid}\)"
        ):
            StateFile(str(path))
    finally:
        other.communicate("\n")
    assert names(tmp_path) == []
    StateFile(str(path)).release()
    assert names(tmp_path) == []


def test_a_process_that_was_killed_keeps_no_state_file(tmp_path: Path) -> None:
    path = tmp_path / "bars.state"
    other = holder_of(path)
    other.kill()
    other.communicate()
    held = StateFile(str(path))  # its lock file is still there, and locks nothing
    held.release()
    assert names(tmp_path) == []


@pytest.mark.parametrize("spelling", ["relative", "dots", "link", "link to the folder"])
def test_two_spellings_of_a_path_are_one(spelling: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "link").symlink_to("folder/bars.state")
    (tmp_path / "other").symlink_to("folder")
    other = {
        "relative": "folder/bars.state",
        "dots": f"{tmp_path}/folder/../folder/./bars.state",
        "link": str(tmp_path / "link"),
        "link to the folder": "other/bars.state",
    }[spelling]
    held = StateFile(str(folder / "bars.state"))
    held.keep()
    with pytest.raises(SnapshotError, match=rf"in use by another stream of this process \({os.getpid()}\)"):
        StateFile(other)
    held.release()
    assert StateFile(other).path == folder / "bars.state"


def test_a_reservation_that_is_not_kept_ends_with_its_object_or_the_next_one(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    first = StateFile(path)
    second = StateFile(path)  # the first was made and not entered
    second.keep()
    with pytest.raises(SnapshotError, match="in use"):
        first.keep()
    second.path.write_bytes(b"what the second knows")
    second.release()
    with pytest.raises(SnapshotError, match="another stream has written the state file since"):
        first.keep()
    third = StateFile(path)
    third.keep()
    del third
    gc.collect()
    assert names(tmp_path) == ["s"]


async def bars_of(url: str, state: Path | str, count: int, **others: Any) -> list[Any]:
    config = StreamConfig(
        state=state, heal=False, backfill=0, grace=0.2, reconnect_attempts=1, reconnect_delay=0.05, connect_timeout=1,
        **others,
    )  # fmt: skip
    found = []
    async with fastbars.stream("binance", ["AUSDT"], bars="1s", url=url, config=config) as bars:
        async for bar in bars:
            found.append(bar)
            if len(found) == count:
                break
    return found


async def test_a_start_that_fails_gives_its_state_file_back(tmp_path: Path) -> None:
    path = tmp_path / "bars.state"
    async with SimulatedExchange("binance", symbols=["AUSDT"], rate=200) as exchange:
        await bars_of(exchange.url, path, 1)
        assert names(tmp_path) == ["bars.state"]
        with pytest.raises(WSConnectionError) as kept:
            await bars_of("ws://127.0.0.1:9/", path, 1)
        assert kept.value is not None  # as a log keeps it, and the stream with it
        unused = fastbars.stream("binance", ["AUSDT"], "1s", config=StreamConfig(state=path), url=exchange.url)
        (bar, *_) = await bars_of(exchange.url, path, 3)
        assert unused.adapter
        assert bar.status != "PARTIAL"  # it went on from the file
        assert names(tmp_path) == ["bars.state"]


async def test_two_streams_of_one_state_file_are_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "bars.state"
    async with SimulatedExchange("binance", symbols=["AUSDT"], rate=200) as exchange:
        config = StreamConfig(state=path, heal=False, backfill=0, grace=0.2)
        async with fastbars.stream("binance", ["AUSDT"], bars="1s", url=exchange.url, config=config) as bars:
            with pytest.raises(SnapshotError, match="the state file is in use by another stream of this process"):
                fastbars.stream("binance", ["AUSDT"], bars="1s", url=exchange.url, config=config)
            assert (await anext(bars)).symbol == "AUSDT"
        assert names(tmp_path) == ["bars.state"]
