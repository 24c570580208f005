"""Counts the instructions of the hot parts under valgrind's callgrind.

    python -m benchmarks.instructions            # prints them

A process that only sets everything up is counted, then one a part that also does its work; the difference is the work.
What counts is executed in the compiled modules themselves: the interpreter and the C library do a little more or less
with every environment variable. So it depends not on the machine, but on the compiler and Python, which `compiler()`
names.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastbars.wire.scanner import TradeScanner
    from fastbars.wire.walker import FrameWalker

TRADES = 10_000
SYMBOLS = 50


def kernel() -> Callable[[], object]:
    """Columns of trades into a new kernel, one spec."""
    from benchmarks import market
    from fastbars._agg import BarKernel
    from fastbars.bars import parse_specs
    from fastbars.kernel.ids import Ledger

    batch = market.batch(market.columns(TRADES, SYMBOLS), SYMBOLS)
    made = BarKernel(batch.instruments, parse_specs("1m"), Ledger())
    return lambda: made.update(batch)


def add_tick() -> Callable[[], object]:
    """Trades as objects into a buffer."""
    from benchmarks import market
    from fastbars import BarBuffer

    ticks = market.ticks(market.columns(TRADES, SYMBOLS))
    buffer = BarBuffer("1m", ids="contiguous")
    return lambda: [buffer.add_tick(tick) for tick in ticks]


def scanner() -> Callable[[], object]:
    """Messages of Binance's into a batch."""
    from benchmarks import market

    scan, payloads = made_scanner().scan, market.messages(market.columns(TRADES, SYMBOLS))
    return lambda: [scan(payload) for payload in payloads]


def walker() -> Callable[[], object]:
    """Frames, each handed out as a message."""
    from fastbars.wire.walker import FrameWalker

    handing_out, chunks = FrameWalker(len, bool), framed()
    return lambda: feed(handing_out, chunks)


def walker_and_scanner() -> Callable[[], object]:
    """Frames whose messages are scanned where they lie."""
    from fastbars.wire.walker import FrameWalker

    taking, chunks = FrameWalker(len, bool, made_scanner()), framed()
    return lambda: feed(taking, chunks)


def made_scanner() -> TradeScanner:
    """A scanner of Binance's trades with a batch to fill."""
    from fastbars import Instruments, TickBatch
    from fastbars.exchanges import find_exchange
    from fastbars.wire.scanner import TradeScanner

    exchange = find_exchange("binance")
    fields = exchange.fields(exchange.default_channel)
    assert fields is not None
    instruments = Instruments("bench")
    return TradeScanner(fields, TickBatch(instruments, ids=True, counts=True), instruments.add)


def framed() -> list[bytes]:
    """Unmasked text frames, 64 KiB a chunk."""
    from benchmarks import market

    messages = market.messages(market.columns(TRADES, SYMBOLS))
    data = b"".join(
        (b"\x81" + len(each).to_bytes() if len(each) < 126 else b"\x81\x7e" + len(each).to_bytes(2)) + each
        for each in messages
    )
    return [data[start : start + 65_536] for start in range(0, len(data), 65_536)]


def feed(walker: FrameWalker, chunks: list[bytes]) -> None:
    """All chunks."""
    for chunk in chunks:
        walker.feed(chunk)


PARTS: dict[str, Callable[[], Callable[[], object]]] = {
    "add_tick": add_tick,
    "kernel": kernel,
    "scanner": scanner,
    "walker": walker,
    "walker and scanner": walker_and_scanner,
}


def available() -> bool:
    """Whether valgrind is here."""
    return shutil.which("valgrind") is not None


def compiler() -> str:
    """What the counts depend on: compiler, machine, Python."""
    first = subprocess.run(["cc", "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
    version = re.search(r"\d+\.\d+(?:\.\d+)?", first)
    kind = "clang" if "clang" in first else "gcc"
    python = ".".join(platform.python_version_tuple()[:2])
    return f"{kind} {version[0] if version else '?'}, {platform.machine()}, CPython {python}"


def executed(part: str | None) -> int:
    """Instructions of a process that sets every part up and does the work of one of them, or of none."""
    script = (
        "from benchmarks.instructions import PARTS; works = {part: make() for part, make in PARTS.items()};"
        f"works.get({part!r}, int)()"
    )
    # Hashes, and so the shapes of dicts, must not differ between processes.
    environment = os.environ | {"PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "callgrind.out"
        options = ["--tool=callgrind", f"--callgrind-out-file={out}", "--compress-strings=no", "--compress-pos=no"]
        command = ["valgrind", *options, sys.executable, "-c", script]
        done = subprocess.run(
            command, cwd=Path(__file__).parents[1], env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"callgrind of {part} ended with {done.returncode}:\n{done.stderr[-2000:]}")
        return own_cost(out.read_text().splitlines())


def own_cost(lines: Iterable[str]) -> int:
    """Instructions in the compiled modules of fastbars, what they call excluded.

    Source: https://valgrind.org/docs/manual/cl-format.html
    """
    cost, ours, called = 0, False, False
    for line in lines:
        if line.startswith("ob="):
            ours = "/fastbars/" in line and line.endswith(".so")
        elif line.startswith("calls="):
            called = True  # the next line is the cost of what is called
        elif line[:1].isdigit():
            if ours and not called:
                cost += int(line.split()[1])
            called = False
    return cost


def count() -> dict[str, float]:
    """Instructions a trade of each hot part."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        idle, *working = pool.map(executed, [None, *PARTS])
    return {part: (counted - idle) / TRADES for part, counted in zip(PARTS, working, strict=True)}


if __name__ == "__main__":
    for name, instructions in count().items():
        print(f"{name:<12} {instructions:10.2f} instructions a trade   ({compiler()})")
