"""What `import fastbars` costs, and what it leaves alone: each in a process of its own."""

from __future__ import annotations

import subprocess
import sys


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_import_leaves_table_libraries_and_live_parts_alone() -> None:
    code = "import sys, fastbars; print(*sorted({name.split('.')[0] for name in sys.modules}), *sys.modules)"
    loaded = set(run(code).split())
    assert not loaded & {"pandas", "polars", "pyarrow", "duckdb", "nanoarrow", "websockets", "uvloop", "zoneinfo"}
    assert not loaded & {"structlog", "fastbars.live", "fastbars.arrays", "fastbars.calendars"}


def test_import_takes_at_most_60_ms_longer_than_numpy() -> None:
    # CPU time, so that a busy machine does not decide; the best of some tries, so that cold caches do not.
    code = (
        "import time; a = time.process_time_ns(); import numpy; b = time.process_time_ns(); import fastbars;"
        " print((time.process_time_ns() - b) // 1000)"
    )
    best_us = min(int(run(code)) for _ in range(5))
    assert best_us <= 60_000, f"fastbars takes {best_us / 1000:.1f} ms to import after numpy"
