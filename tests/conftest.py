"""Shared fixtures, and the Hypothesis profile that every test runs under."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import pytest

from examples import load_profile
from fake_clock import FakeClockLoop
from fastbars.live.shared import SHARED
from servers import until

load_profile()

PROJECT = Path(__file__).resolve().parents[1]


def pytest_collection_finish() -> None:
    """What has been loaded stays: to look through it again and again stops every loop for up to a second."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)  # it is pytest-xdist's
def pytest_xdist_auto_num_workers() -> int:
    """One and a half for each core: much of the suite waits for clocks and sockets."""
    cores = os.cpu_count() or 1
    return cores + cores // 2


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop of a test, on the fake clock where it does not ask for the real one."""
    if item.get_closest_marker("real_clock") is None:
        return {"fake clock": FakeClockLoop}
    return {"real clock": asyncio.new_event_loop}


@pytest.fixture
async def no_task_is_left_behind() -> AsyncIterator[None]:
    """For `usefixtures`: whatever a test began in its loop has ended with it."""
    yield
    assert [task.get_name() for task in asyncio.all_tasks() if "fastbars" in task.get_name()] == []
    await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})


@pytest.fixture(autouse=True)
def nothing_shared_is_left_behind() -> Iterator[None]:
    """Rate limits and listings outlive connections, by host and port; another test's server may get the same port."""
    yield
    SHARED.reset()


@pytest.fixture(scope="session")
def tapes() -> Path:
    """The folder of recorded market data; tests that need it are skipped where it is not there."""
    given = os.environ.get("FASTBARS_TAPES")
    folder = Path(given) if given else PROJECT.parent / "shared" / "tapes"
    if not folder.is_dir():
        pytest.skip(f"no recorded tapes at {folder}: set FASTBARS_TAPES to the folder that holds them")
    return folder
