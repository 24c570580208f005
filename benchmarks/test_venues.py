"""Each venue's messages in memory: what the scanner costs a trade, and one message a read all the way to the bars.

Of a session that runs: symbols, their decimals and as many unique ids as are kept are known, and no page of memory is a
new one.
"""

from __future__ import annotations

import pytest

from benchmarks.venues import VENUES, Messages, Reading, Scanning, messages
from benchmarks.yardstick import assert_ns
from fastbars.simulator.dialects import find_dialect

SCANNER_NS = 110.0  # a trade
WAKEUP_NS = 200.0  # a trade, one message of about three a read
ONE_TRADE_NS = 225.0  # the same where a message is one trade; the aim is 200, found were 194 to 213
ROUNDS = 3


@pytest.fixture(scope="module")
def trades(pytestconfig: pytest.Config) -> int:
    """How many trades are read before anything is measured, and then in each measurement."""
    return 5_000 if pytestconfig.getoption("--full") else 1_500


def parts(name: str, trades: int, a_read: int) -> tuple[list[list[bytes]], int]:
    """Reads of so many messages, in parts of equal length, a part a measurement; and the trades of a part."""
    count = 1 + 5 * (ROUNDS + 1)  # to begin with; and of every try of `assert_ns`
    sent = messages(name, trades * count)
    chunks = Messages(sent.payloads, sent.trades).chunks(a_read)
    size = len(chunks) // count
    return [chunks[start : start + size] for start in range(0, size * count, size)], sent.trades // count


@pytest.mark.parametrize("name", VENUES)
def test_the_scanner_takes_a_trade_of_every_venue(name: str, trades: int) -> None:
    (first, *others), each = parts(name, trades, 100)
    scanning = Scanning(name)
    scanning.settle(first)
    left = iter(others)
    assert_ns(f"{name}, scanner", lambda: scanning.feed(next(left)), each, SCANNER_NS, ROUNDS)
    assert not scanning.left  # the scanner took them all


@pytest.mark.parametrize("name", VENUES)
def test_one_message_a_read_from_its_bytes_to_the_bars(name: str, trades: int) -> None:
    (first, *others), each = parts(name, trades, 1)
    reading = Reading(name)
    reading.read(first)
    left = iter(others)
    limit = ONE_TRADE_NS if find_dialect(VENUES[name].exchange).trades_per_message == 1 else WAKEUP_NS
    assert_ns(f"{name}, one message a read", lambda: reading.read(next(left)), each, limit, ROUNDS)
    assert reading.in_python == 0
