"""A wakeup that ends without the session comes to the same as one that the session finishes."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given, strategies as st

from fastbars import BinanceWebSocketAdapter, Instruments, StreamConfig, TickBatch, clocks
from fastbars.bars import OHLCVBar
from fastbars.buffer import BarBuffer
from fastbars.exchanges import find_exchange
from fastbars.live.callbacks import Callbacks
from fastbars.live.clock import ExchangeClock
from fastbars.live.intake import Feed, Intake
from fastbars.live.session import Session
from fastbars.wire.scanner import TradeScanner
from fastbars.wire.walker import FrameWalker
from servers import RawServer, TradeServer, frame, show, trade, trades, until

SPOT = find_exchange("binance", "spot")
DEPTH = b'{"e":"depthUpdate","E":1723161240005,"s":"BTCUSDT","U":1,"u":2,"b":[],"a":[]}'
ACK = b'{"result":null,"id":1}'
BOUND = 2**63


class Wakeups:
    """A session fed by a walker, one read after another, as a connection feeds it."""

    def __init__(self, *, quiet: bool, **knobs: Any) -> None:
        self.events: list[Any] = []
        callbacks = Callbacks(on_bars=self.events.append, on_late=self.events.append, on_message=self.events.append)
        self.session = Session(SPOT, StreamConfig(**knobs), callbacks, channel="trade")
        self.failures: list[Exception] = []
        self.feed = self.session.open_feed(0, 0, self.failures.append)
        if quiet:
            self.feed.note_data(1)
        self.walker = FrameWalker(self._take, lambda _: True, self.feed.scanner)
        self.bars: list[OHLCVBar] = []
        self.reported: list[int] = []
        self.reads = 0

    def _take(self, payload: bytes) -> None:
        self.session.take_message(payload, clocks.wall_ns(), clocks.steady_ns(), 0)

    def read(self, data: bytes) -> None:
        self.reads += 1
        self.walker.feed(data)
        if not self.feed.finish(clocks.steady_ns()):
            received = self.session.receive([], clocks.wall_ns(), clocks.steady_ns())
            self.bars += received.bars
            self.reported.append(received.data_messages)

    def state(self) -> tuple[Any, ...]:
        session = self.session
        left = session.flush(0)
        return (
            show(self.bars), show(left), self.events, asdict(session.stats), asdict(session.buffer_stats),
            session.event_time_ns, session.intake.delays.samples, session.repairs.holes("BTCUSDT"),
        )  # fmt: skip


def market(seed: int, count: int) -> list[bytes]:
    """Trades of two symbols over 40 minutes, with all that can go wrong, and messages that are none."""
    draw = random.Random(seed)
    messages, ids = [], {"BTCUSDT": 0, "ETHUSDT": 0}
    for n in range(count):
        symbol = draw.choice(list(ids))
        ids[symbol] += 1 if draw.random() < 0.98 else 3  # a hole
        offset_ms = n * 2_400_000 // count - (90_000 if draw.random() < 0.02 else 0)  # late
        number = ids[symbol] if draw.random() < 0.98 else max(1, ids[symbol] - 2)  # again, or out of a hole
        price = "9" * 19 if draw.random() < 0.01 else f"{draw.randrange(1, 1000)}.{draw.randrange(100)}"
        messages.append(trade(number, offset_ms, price, symbol=symbol))
        if draw.random() < 0.05:
            messages.append(draw.choice([DEPTH, ACK, b"{cut", b'{"e":"trade"}']))
    return messages


@pytest.mark.parametrize("knobs", [{}, {"grace": "auto"}, {"close_by": "trades"}, {"bars": ["5m", "tick:50"]}])
@pytest.mark.parametrize("seed", range(5))
def test_quiet_wakeups_give_the_same_bars_counters_and_times_as_reported_ones(seed: int, knobs: dict[str, Any]) -> None:
    stream = b"".join(map(frame, market(seed, 3_000)))
    draw = random.Random(seed)
    cuts = sorted(draw.sample(range(1, len(stream)), 1_500))
    quiet, reported = Wakeups(quiet=True, **knobs), Wakeups(quiet=False, **knobs)
    for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        quiet.read(stream[start:stop])
        reported.read(stream[start:stop])
    for one, other in zip(quiet.state(), reported.state(), strict=True):
        assert one == other
    assert len(quiet.reported) < 1_400 < len(reported.reported) == reported.reads
    quietly = quiet.feed.data_messages - 1
    assert quietly > 500
    assert quietly + sum(quiet.reported) == sum(reported.reported)  # each message is reported or counted, once
    assert quiet.failures == []


def test_a_wakeup_is_reported_where_a_bar_closes_a_hole_opens_a_symbol_begins_or_python_took_a_message() -> None:
    one = Wakeups(quiet=True)
    wakeups: list[tuple[list[bytes], bool]] = [
        ([trade(1, 0)], True),  # a symbol that is new
        ([trade(2, 1)], False),
        ([trade(3, 2), trade(4, 3)], False),
        ([], False),
        ([trade(4, 3)], False),  # a duplicate
        ([trade(7, 4)], True),  # a hole
        ([trade(8, 5), DEPTH], True),
        ([trade(9, 60_000)], True),  # a bar closes
        ([trade(10, 60_001)], False),
        ([trade(1, 60_002, symbol="ETHUSDT")], True),
        ([trade(2, 60_003, symbol="ETHUSDT")], False),
        ([trade(11, 60_004, event_ms=121_000)], True),  # the watermark closes both
    ]
    for messages, reported in wakeups:
        before = len(one.reported)
        one.read(b"".join(map(frame, messages)))
        assert (messages, len(one.reported) > before) == (messages, reported)


def test_until_a_connection_has_brought_data_every_wakeup_is_reported() -> None:
    one = Wakeups(quiet=False)
    for n in range(1, 5):
        one.read(frame(trade(n, n)))
    assert one.reported == [1, 1, 1, 1]
    one.feed.note_data(4)
    one.read(frame(trade(5, 5)))
    assert (len(one.reported), one.feed.data_messages) == (4, 5)
    assert one.session.stats.trades == 5


def test_an_error_of_our_own_is_reported_once_and_from_then_on_every_wakeup_is_reported() -> None:
    intake, instruments = Intake(print), Instruments()
    batch = TickBatch(instruments, counts=True)
    fields = SPOT.fields("trade")
    assert fields is not None
    scanned = TradeScanner(fields, batch, instruments.add)
    intake.begin(BarBuffer("1m"), batch, lambda: scanned)  # of other instruments
    failures: list[Exception] = []
    feed = Feed(intake, failures.append)
    feed.note_data(1)
    assert scanned.scan(trade(1, 0))
    assert not feed.finish(clocks.steady_ns())
    assert [str(failure) for failure in failures] == ["the batch belongs to other instruments than this kernel"]
    assert scanned.scan(trade(2, 0))
    assert not feed.finish(clocks.steady_ns())
    assert len(failures) == 1


async def test_the_first_trade_of_a_connection_is_reported_and_then_only_what_matters(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bars: list[OHLCVBar] = []
    async with TradeServer() as server:
        config = StreamConfig(close_by="trades", reconnect_delay=0.01)
        adapter = BinanceWebSocketAdapter(config, on_bar=bars.append, url=server.url)
        await adapter.connect()
        await adapter.subscribe(["BTCUSDT"])
        finished: list[int] = []
        receive = adapter.session.receive

        def noted(payloads: Sequence[bytes], *times: int, line: int = 0) -> Any:
            finished.append(line)
            return receive(payloads, *times, line=line)

        monkeypatch.setattr(adapter.session, "receive", noted)
        for number, payload in enumerate(trades(1, 30), 1):
            await server.send(payload)
            await until(lambda number=number: adapter.session.stats.trades == number)  # type: ignore[misc]
        assert finished == [0]
        server.abort()
        await until(lambda: len(server.streams) == 2)
        assert adapter.connections.first.retry.backoff.attempts == 1
        await server.send(trade(31, 60_000))
        await until(lambda: len(bars) == 1)
        assert (
            adapter.connections.first.retry.backoff.attempts == 1
        )  # it starts over by the time that a connection is up
        assert finished[-1] == 1
        reported = len(finished)
        await server.send(trade(32, 60_001))
        await until(lambda: adapter.session.stats.trades == 32)
        assert len(finished) == reported
        line: Any = adapter.connections.first.pair.current
        assert (line.data_messages, adapter.stats().session.messages) == (2, 34)
        await adapter.disconnect()


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
async def test_a_read_may_be_any_kind_of_bytes(wrap: Callable[[bytes], Any]) -> None:
    from test_wire import connected, flat

    reads: list[list[bytes]] = []
    async with RawServer() as server, connected(server.url, reads) as connection:
        before_ns = clocks.steady_ns()
        connection.data_received(wrap(frame(b"one") + frame(b"two")[:3]))
        assert before_ns <= connection.last_receive_ns <= clocks.steady_ns()
        connection.data_received(wrap(frame(b"two")[3:]))
    assert flat(reads) == [b"one", b"two"]


def test_an_event_time_that_is_garbage_is_logged_in_a_quiet_wakeup_too(caplog: pytest.LogCaptureFixture) -> None:
    one = Wakeups(quiet=True)
    one.read(frame(trade(1, 0)))
    one.read(frame(trade(2, 1)))
    before_ns = one.session.event_time_ns
    with caplog.at_level(logging.WARNING):
        one.read(frame(trade(3, 2, event_ms=2 * 3_600_000)))
    assert "event_time_leaps" in caplog.text
    assert (one.session.event_time_ns, one.bars) == (before_ns, [])


@given(st.integers(-BOUND, BOUND - 1), st.integers(-BOUND, BOUND - 1), st.integers(-BOUND, BOUND - 1))
def test_a_clock_goes_as_far_as_its_numbers_and_no_further(event_ns: int, steady_ns: int, later_ns: int) -> None:
    clock = ExchangeClock()
    clock.observe(event_ns, steady_ns)
    offset_ns = max(1 - BOUND, min(event_ns - steady_ns, BOUND - 1))
    assert clock.now_ns(later_ns) == max(-BOUND, min(later_ns + offset_ns, BOUND - 1))
    assert clock.leaps(event_ns, later_ns) == (event_ns - later_ns > 3_600 * 10**9)
