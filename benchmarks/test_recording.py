"""Recording messages: CPU time of all threads until the last byte is in the file; compressing included."""

from __future__ import annotations

import tempfile
import time
from typing import Any

import pytest

from benchmarks import market
from fastbars.tapes.recorder import Recording
from fastbars.tapes.recording import read_recording

pytestmark = pytest.mark.benchmark(timer=time.process_time, group="recording", warmup=False)
MESSAGES = 200_000


@pytest.mark.parametrize("a_wakeup", [1, 50])
def test_record(benchmark: Any, a_wakeup: int) -> None:
    messages = market.messages(market.columns(MESSAGES, 500))
    wakeups = [messages[start : start + a_wakeup] for start in range(0, MESSAGES, a_wakeup)]
    folders: list[tempfile.TemporaryDirectory[str]] = []

    def set_up() -> tuple[Any, ...]:
        folders.append(tempfile.TemporaryDirectory())
        recording = Recording(folders[-1].name)
        return (recording, recording.session({})), {}

    def work(recording: Recording, recorder: Any) -> None:
        for number, payloads in enumerate(wakeups):
            recorder.messages(payloads, number, number, 0)
        recording.close()

    benchmark.extra_info["trades"] = MESSAGES
    benchmark.pedantic(work, setup=set_up, rounds=7, iterations=1)
    entries = [entry.payloads for entry in read_recording(folders[-1].name) if entry.payloads is not None]
    assert entries == wakeups
    for folder in folders:
        folder.cleanup()
