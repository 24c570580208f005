"""The parts alone: frames to messages, messages to rows, and C for comparison with the kernel of test_bars.py.

Each has a reference that does the same otherwise, in the same run.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import orjson
import pytest
from websockets.frames import Frame
from websockets.protocol import CLIENT, OPEN, Protocol

from benchmarks import instructions, market
from benchmarks.plain_c import PlainC
from benchmarks.test_bars import MANY
from fastbars.wire.walker import FrameWalker

pytestmark = pytest.mark.benchmark(timer=time.process_time)
ROUNDS = 9


def measure(benchmark: Any, group: str, work: Callable[[], object], *, reference: bool = False) -> None:
    """Time `work`, which goes over all trades of instructions.TRADES."""
    benchmark.group = group
    benchmark.extra_info.update(trades=instructions.TRADES, **({"reference": True} if reference else {}))
    benchmark.pedantic(work, rounds=ROUNDS, iterations=1, warmup_rounds=1)


def test_walker(benchmark: Any) -> None:
    walker, chunks = FrameWalker(len, bool), instructions.framed()
    measure(benchmark, "frames to messages", lambda: instructions.feed(walker, chunks))


def test_websockets_parser(benchmark: Any) -> None:
    chunks = instructions.framed()
    sizes: list[int] = []

    def work() -> None:
        protocol = Protocol(CLIENT, state=OPEN)
        for chunk in chunks:
            protocol.receive_data(chunk)
            sizes.extend(len(event.data) for event in protocol.events_received() if isinstance(event, Frame))

    measure(benchmark, "frames to messages", work, reference=True)
    assert len(sizes) == instructions.TRADES * (ROUNDS + 1)


def payloads() -> list[bytes]:
    return market.messages(market.columns(instructions.TRADES, instructions.SYMBOLS))


def test_scanner(benchmark: Any) -> None:
    scan, given = instructions.made_scanner().scan, payloads()
    assert all(map(scan, given))
    measure(benchmark, "messages to rows", lambda: [scan(payload) for payload in given])


def test_orjson_and_decimals(benchmark: Any) -> None:
    given = payloads()

    def work() -> list[tuple[Any, ...]]:
        trades = map(orjson.loads, given)
        return [(t["s"], t["T"], Decimal(t["p"]), Decimal(t["q"]), t["m"], t["t"]) for t in trades]

    measure(benchmark, "messages to rows", work, reference=True)


@pytest.mark.parametrize("symbols", [1, 500, 5000])
def test_plain_c(benchmark: Any, symbols: int) -> None:
    benchmark.group = f"kernel, {symbols} symbols"
    benchmark.extra_info.update(trades=MANY, reference=True)
    plain, trades = PlainC(), market.columns(MANY, symbols)
    bars = benchmark.pedantic(plain.bars, ("by_trade", trades, symbols), rounds=7, iterations=1, warmup_rounds=1)
    assert len(bars) == 4 * symbols
