"""What `import fastbars` costs, and what it leaves alone: each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import fastbars


def run(code: str, environment: dict[str, str] | None = None) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.strip()


BARS = "from fastbars import BarBatch, BarBuffer, BarSpec, BarStatus, Instruments, OHLCVBar, TickBatch, TickData"


def loaded_by(code: str) -> set[str]:
    return set(run(f"import sys; {code}; print(*{{name.split('.')[0] for name in sys.modules}}, *sys.modules)").split())


def test_import_leaves_table_libraries_and_live_parts_alone() -> None:
    loaded = loaded_by(BARS)
    assert "numpy" in loaded
    assert not loaded & {"pandas", "polars", "pyarrow", "duckdb", "nanoarrow", "websockets", "uvloop", "zoneinfo"}
    assert not loaded & {"structlog", "fastbars.live", "fastbars.columnar.arrays", "fastbars.calendars"}
    assert not loaded & {"fastbars.testing", "fastbars.exchanges", "pytest"}


def test_a_stream_loads_neither_the_log_nor_what_it_was_not_asked_for() -> None:
    loaded = loaded_by("import fastbars; fastbars.stream('binance', ['BTCUSDT'])")
    assert {"websockets", "fastbars.live.session"} <= loaded
    assert not loaded & {
        "structlog",
        "rich",
        "aiohttp",
        "fastbars.tapes",
        "fastbars.verification",
        "fastbars.simulator",
    }


def test_the_log_is_loaded_beforehand_where_its_first_line_would_be_in_the_way() -> None:
    assert "structlog" not in loaded_by("from fastbars.log import log")
    assert "structlog" in loaded_by("from fastbars.log import log; log.prepare()")


def test_the_version_is_printed_without_numpy_asyncio_or_the_log() -> None:
    code = "import sys\nfrom fastbars.cli import main\ntry: main(['--version'])\nexcept SystemExit: print(*sys.modules)"
    shown, loaded = run(code).splitlines()
    assert shown == f"fastbars {fastbars.__version__}"
    assert not set(loaded.split()) & {"numpy", "asyncio", "structlog", "importlib.metadata", "fastbars.bars"}


def test_every_public_name_is_listed_and_the_object_of_its_module() -> None:
    assert dir(fastbars) == fastbars.__all__
    for name in fastbars.__all__:
        value = getattr(fastbars, name)
        assert getattr(value, "__name__", name) == name
        assert vars(fastbars)[name] is value  # looked up once
    with pytest.raises(AttributeError, match="module 'fastbars' has no attribute 'Bar'"):
        _ = fastbars.Bar


def test_modules_of_public_names_are_attributes_without_an_import_of_their_own() -> None:
    code = "import fastbars; print(fastbars.errors.SpecError is fastbars.SpecError, fastbars.bars.OHLCVBar.__name__)"
    assert run(code) == "True OHLCVBar"


def test_the_log_loads_structlog_with_the_first_line_that_is_due() -> None:
    code = (
        "import sys; from fastbars.log import log; log.info('never', a=1); before = 'structlog' in sys.modules;"
        " log.warning('now', a='b'); print(before, 'structlog' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr.strip()) == ("False True", "now a='b'")


def test_the_contract_of_exchanges_needs_no_test_framework() -> None:
    loaded = set(run("import sys, fastbars.testing; print(*sys.modules)").split())
    assert not loaded & {"pytest", "_pytest", "unittest", "hypothesis"}


def test_import_takes_at_most_40_ms_longer_than_numpy(tmp_path: Path) -> None:
    # With bytecode that is kept, as an installed package has it, wherever this is run.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(tmp_path)
    # CPU time, so that a busy machine does not decide; the best of some tries, so that cold caches do not; that of the
    # importing thread, so that the threads of numpy do not, which spin for a while after their start.
    code = (
        f"import time; import numpy; begin = time.thread_time_ns(); {BARS};"
        " print((time.thread_time_ns() - begin) // 1000)"
    )
    best_us = min(int(run(code, environment)) for _ in range(5))
    assert best_us <= 40_000, f"fastbars takes {best_us / 1000:.1f} ms to import after numpy"


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
