"""Shared fixtures, and the Hypothesis profile that every test runs under."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples import load_profile
from fastbars.live.shared import SHARED

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
