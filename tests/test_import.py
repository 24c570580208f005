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
    assert not loaded & {"structlog", "fastbars.live", "fastbars.columnar.arrays", "fastbars.calendars"}
    assert not loaded & {"fastbars.testing", "fastbars.exchanges", "pytest"}


def test_the_contract_of_exchanges_needs_no_test_framework() -> None:
    loaded = set(run("import sys, fastbars.testing; print(*sys.modules)").split())
    assert not loaded & {"pytest", "_pytest", "unittest", "hypothesis"}


def test_import_takes_at_most_60_ms_longer_than_numpy() -> None:
    # CPU time, so that a busy machine does not decide; the best of some tries, so that cold caches do not; that of the
    # importing thread, so that the threads of numpy do not, which spin for a while after their start.
    code = (
        "import time; import numpy; begin = time.thread_time_ns(); import fastbars;"
        " print((time.thread_time_ns() - begin) // 1000)"
    )
    best_us = min(int(run(code)) for _ in range(5))
    assert best_us <= 60_000, f"fastbars takes {best_us / 1000:.1f} ms to import after numpy"


OPTIMIZED = """
import locale
from fastbars import BarBuffer, InvalidTickError, TickBatch, Instruments, aggregate
assert False, "asserts are off"
for name in ("de_DE.UTF-8", "C", ""):
    try:
        locale.setlocale(locale.LC_ALL, name)
    except locale.Error:
        pass
for bad in ({"price": ["0"]}, {"time_ns": [1735689600000]}, {"side": [5]}):
    try:
        aggregate(**{"time_ns": [0], "price": ["1"], "size": ["1"], **bad})
    except InvalidTickError as error:
        print(error.row)
buffer = BarBuffer("1m", ids="contiguous")
buffer.add("X", 0, "1234567.5", "1", 1, 7)
buffer.add("X", 1, "1234567.25", "1", 1, 9)
(bar,) = buffer.flush_all()
print(bar.to_dict(json=True)["quote_volume"], bar.status, bar.missing_count, bar)
"""


def test_neither_optimizing_nor_the_locale_changes_a_bar_or_a_refusal() -> None:
    done = subprocess.run([sys.executable, "-OO", "-c", OPTIMIZED], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "0", "0", "0",
        "2469134.75 GAP None <OHLCVBar X 1m 1970-01-01 00:00:00Z O 1234567.5 H 1234567.5 L 1234567.25 C 1234567.25 V 2"
        " trades 2 GAP>",
    ]  # fmt: skip
