"""A live stream: two redundant lines, recording, and a full hour that closes for all symbols at once.

Bounds are in nanoseconds of the machine on which docs/performance.md was measured; see benchmarks/yardstick.py.
"""

from __future__ import annotations

import tempfile

import pytest

from benchmarks import market
from benchmarks.yardstick import TRIES, assert_ns
from fastbars import StreamConfig
from fastbars.exchanges import find_exchange
from fastbars.live.session import Session
from fastbars.tapes.recorder import Recording
from fastbars.tapes.recording import read_recording

SYMBOLS = 50


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> int:
    """Of each side, in a try."""
    return 15 if request.config.getoption("--full") else 5


class Lines:
    """Feeds a session the same trades on each of its lines, as the event loop does; other ones each time."""

    def __init__(self, lines: int, a_wakeup: int, trades: int) -> None:
        messages = market.messages(market.columns((TRIES * 15 + 1) * trades, SYMBOLS, minutes=50.0))
        self.session = Session(find_exchange("binance"), StreamConfig(bars="1h", lines=lines), channel="trade")
        self.feeds = [self.session.open_feed(line) for line in range(lines)]
        self.parts = iter([messages[at : at + trades] for at in range(0, len(messages), trades)])
        self.part: list[list[bytes]] = []
        self.steady_ns = 10**9
        self.a_wakeup = a_wakeup
        self.prepare()
        self.feed()  # the session learns its symbols
        assert self.session.stats.trades == lines * trades
        assert self.session.stats.duplicates == (lines - 1) * trades

    def prepare(self) -> None:
        """Take the next trades, and have their messages in the cache, where those of a socket are too."""
        part = next(self.parts)
        self.part = [part[at : at + self.a_wakeup] for at in range(0, len(part), self.a_wakeup)]
        b"".join(part)

    def feed(self) -> None:
        for wakeup in self.part:
            self.steady_ns += 1_000
            for feed in self.feeds:
                scan = feed.scanner.scan  # type: ignore[union-attr]
                assert scan(wakeup[0]) if self.a_wakeup == 1 else all(map(scan, wakeup))
                if not feed.finish(self.steady_ns):
                    received = self.session.receive([], self.steady_ns, self.steady_ns, line=feed.number)
                    feed.note_data(received.data_messages)


# The aim at 100 a wakeup is 200, and 195 to 204 was measured: 150 of them are the scanning of both lines.
@pytest.mark.parametrize(("a_wakeup", "limit_ns"), [(1, 700.0), (100, 220.0)])
def test_two_redundant_lines(a_wakeup: int, limit_ns: float, rounds: int) -> None:
    lines = Lines(2, a_wakeup, 2_000)
    name = f"two lines, {a_wakeup} a wakeup, a trade"
    assert_ns(name, lines.feed, 2_000, limit_ns, rounds, before=lines.prepare)


@pytest.mark.parametrize(("a_wakeup", "limit_ns"), [(1, 300.0), (50, 150.0)])
def test_recording_a_message(a_wakeup: int, limit_ns: float, rounds: int) -> None:
    messages = market.messages(market.columns(2_000, SYMBOLS))
    wakeups = [messages[at : at + a_wakeup] for at in range(0, len(messages), a_wakeup)]
    recorded = 0
    with tempfile.TemporaryDirectory() as folder:
        # Nothing is written meanwhile: the writer's thread, of which another core has the time, would count as well.
        recording = Recording(folder, flush_s=3600.0)
        record = recording.session({}).messages

        def work() -> None:
            nonlocal recorded
            recorded += len(messages)
            for number, payloads in enumerate(wakeups):
                record(payloads, number, number, 0)

        assert_ns(f"recording, {a_wakeup} a wakeup, a message", work, len(messages), limit_ns, rounds)
        recording.close()
        read = [payload for entry in read_recording(folder) for payload in entry.payloads or ()]
        assert read == messages * (recorded // len(messages))
