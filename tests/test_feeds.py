"""One session, many connections: each has an event time of its own, and closes the bars of what it carries."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from examples import examples
from fastbars import OHLCVBar, StreamConfig, replay
from fastbars.errors import TapeError, WSConnectionError
from fastbars.exchanges.binance import SPOT
from fastbars.exchanges.declaration import Limits
from fastbars.kernel.arbiter import Arbiter, check_held
from fastbars.kernel.batch import TickBatch
from fastbars.kernel.instruments import Instruments
from fastbars.live.connections.adapter import BaseWebSocketAdapter
from fastbars.live.intake import MOST_FEEDS, Feed, Intake
from fastbars.live.session import Session
from fastbars.live.snapshots import pack, unpack
from fastbars.tapes import Recording
from fastbars.ticks import to_nanoseconds
from fastbars.wire.wakeup import Wakeup
from fastbars.wire.walker import FrameWalker
from servers import START_NS, frame, show, trade, until
from test_connections import StrictExchange, exchange_of

MS = 1_000_000
SECOND = 1_000 * MS
SYMBOLS = ("BTCUSDT", "ETHUSDT", "XRPUSDT")


def one(*numbers: int) -> frozenset[int]:
    return frozenset(numbers)


class Connections:
    """A session and its feeds, each read by a walker, as the connections of a stream do."""

    def __init__(self, *numbers: int, recording: Recording | None = None, reports: bool = False, **knobs: Any) -> None:
        record = None if recording is None else recording.session
        config = StreamConfig(**{"bars": "1s", "grace": 0.0, **knobs})
        self.session = Session(SPOT, config, channel="trade", record=record)
        self.walkers: dict[int, FrameWalker] = {}
        self.bars: list[OHLCVBar] = []
        self.reported: list[int] = []
        self.reports = reports
        self.left: list[bytes] = []
        self.at_ns = 0
        for number in numbers:
            self.open(number)

    def open(self, number: int) -> Feed:
        feed = self.session.open_feed(number)
        self.walkers[number] = FrameWalker(self.left.append, lambda _: True, self.session.scanner_of(feed))
        return feed

    def close(self, number: int) -> None:
        del self.walkers[number]
        self.session.close_feed(self.session.intake.feeds.opened[number])

    def read(self, number: int, *messages: bytes) -> list[str]:
        """One read of a socket; returns the bars that it issued."""
        self.at_ns += MS
        before = len(self.bars)
        self.walkers[number].feed(b"".join(map(frame, messages)))
        feed = self.session.intake.feeds.opened[number]
        if self.left or self.reports or not feed.finish(self.at_ns):
            received = self.session.receive(self.left, START_NS + self.at_ns, self.at_ns, line=number)
            self.left.clear()
            feed.note_data(received.data_messages)
            self.bars += received.bars
            self.reported.append(number)
        return names(self.bars[before:])

    def clock(self, second: float, unread: frozenset[int] = frozenset()) -> list[str]:
        """The exchange's clock shows this second after the start."""
        now_ns = self.session.now_ns(self.at_ns)
        assert now_ns is not None
        self.at_ns += START_NS + round(second * SECOND) - now_ns
        bars = self.session.advance_clock(self.at_ns, START_NS + self.at_ns, feed_up=True, unread=unread)
        self.bars += bars
        return names(bars)


def names(bars: list[OHLCVBar]) -> list[str]:
    return [
        f"{bar.symbol[:3]} {(to_nanoseconds(bar.open_time) - START_NS) // SECOND} {bar.close_reason}" for bar in bars
    ]


def btc(trade_id: int, second: float, **how: Any) -> bytes:
    return trade(trade_id, round(second * 1000), **how)


def eth(trade_id: int, second: float, **how: Any) -> bytes:
    return trade(trade_id, round(second * 1000), symbol="ETHUSDT", **how)


# What closes what.


def test_a_connection_that_is_ahead_closes_no_bar_of_one_that_is_behind() -> None:
    both = Connections(1, 2)
    both.session.set_carriers("BTCUSDT", one(1))
    both.session.set_carriers("ETHUSDT", one(2))
    both.read(1, btc(1, 0.1))
    both.read(2, eth(1, 0.1))
    assert both.read(2, eth(2, 5)) == ["ETH 0 trade"]
    assert both.read(2, eth(3, 5.1)) == []
    assert both.read(1, btc(2, 0.9)) == []  # it belongs to its bar, though the other is 4 s ahead
    assert both.read(1, btc(3, 0.95, event_ms=1_000)) == ["BTC 0 watermark"]  # sent at the end of its bar, and on time
    assert [(bar.symbol, bar.trade_count, bar.revision) for bar in both.bars] == [("ETHUSDT", 1, 0), ("BTCUSDT", 3, 0)]


def test_a_symbol_that_two_connections_carry_closes_by_the_furthest() -> None:
    both = Connections(1, 2)
    for symbol in ("BTCUSDT", "ETHUSDT"):
        both.session.set_carriers(symbol, one(1, 2))
    both.read(1, btc(1, 0.1))
    assert both.read(2, eth(1, 1.5)) == ["BTC 0 watermark"]
    assert both.read(1, btc(2, 1.2)) == []
    assert both.read(2, eth(2, 1.9, event_ms=2_000)) == ["BTC 1 watermark", "ETH 1 watermark"]


def test_a_symbol_that_nobody_carries_is_closed_by_the_clock_alone() -> None:
    both = Connections(1, 2)
    both.read(1, btc(1, 0.1))
    both.session.set_carriers("BTCUSDT", one())
    assert both.read(1, eth(1, 5)) == []
    assert both.read(2, eth(2, 5.1)) == []
    assert "BTC 0 clock" in both.clock(6)


def test_where_nobody_has_said_who_carries_a_symbol_every_connection_does() -> None:
    both = Connections(1, 2)
    both.read(1, btc(1, 0.1))
    assert both.read(2, eth(1, 1)) == ["BTC 0 watermark"]


def test_where_all_subscriptions_are_named_a_symbol_is_carried_by_none_until_that_is_said() -> None:
    both = Connections(1, 2, lateness=0.5)
    both.session.follow("owner", [(symbol, "trade") for symbol in SYMBOLS], START_NS)
    both.session.set_carriers("ETHUSDT", one(2))
    both.read(2, eth(1, 8))
    # The other is 8 s behind, and its trades are late for nobody.
    assert both.read(1, btc(1, 0.1)) == []
    both.session.set_carriers("BTCUSDT", one(1))
    assert both.read(1, btc(2, 0.2)) == []
    assert both.read(1, btc(3, 1.5)) == ["BTC 0 trade"]
    assert [(bar.trade_count, bar.revision) for bar in both.bars] == [(2, 0)]
    assert both.session.buffer_stats.late == 0
    both.read(1, trade(1, 1_600, symbol="XRPUSDT"))
    assert both.clock(9, unread=one(1, 2))[-1] == "XRP 1 clock"  # nothing that is unread can be of it


def test_a_symbol_that_moves_is_closed_by_the_connection_that_it_moved_to() -> None:
    both = Connections(1, 2)
    both.session.set_carriers("BTCUSDT", one(1))
    both.session.set_carriers("ETHUSDT", one(2))
    both.read(1, btc(1, 0.1))
    both.read(2, eth(1, 0.2))
    both.session.set_carriers("BTCUSDT", one(1, 2))
    both.session.set_carriers("BTCUSDT", one(2))
    assert both.read(1, btc(2, 0.5, event_ms=3_000)) == []
    assert both.read(2, eth(2, 1.5)) == ["ETH 0 trade", "BTC 0 watermark"]


def test_a_symbol_that_is_new_is_placed_before_the_wakeup_that_brings_it_closes_anything() -> None:
    both = Connections(1, 2)
    for symbol in ("BTCUSDT", "ETHUSDT"):
        both.session.set_carriers(symbol, one(2))
    assert both.read(1, btc(1, 0.1, event_ms=9_000)) == []
    assert both.read(2, eth(1, 0.2)) == []
    assert both.read(2, eth(2, 1.0)) == ["ETH 0 trade", "BTC 0 watermark"]


def test_groups_of_carriers_that_are_gone_are_used_again() -> None:
    both = Connections(1, 2)
    kernel = both.session.intake.kernel
    assert kernel is not None
    both.read(1, btc(1, 0.1), eth(1, 0.1))
    for number in range(3, 300):
        both.open(number)
        for symbol in ("BTCUSDT", "ETHUSDT"):
            both.session.set_carriers(symbol, one(number))
        both.close(number)
    assert kernel.groups <= 4
    # The new group has the event time of its own connections, not that of those before.
    both.read(2, trade(1, 500, symbol="XRPUSDT", event_ms=500))
    both.session.set_carriers("XRPUSDT", one(2))
    assert kernel.watermark_of(2) == START_NS + 500 * MS


def test_a_connection_has_an_event_time_of_its_own_and_the_session_the_latest() -> None:
    both = Connections(1, 2)
    feeds = both.session.intake.feeds
    both.read(1, btc(1, 5))
    both.read(2, eth(1, 2))
    assert (feeds.event_time_of(1), feeds.event_time_of(2)) == (START_NS + 5_001 * MS, START_NS + 2_001 * MS)
    assert (both.session.event_time_ns, feeds.event_time_of(3)) == (START_NS + 5_001 * MS, None)
    both.close(1)
    # Whoever asks how far it came may do so when it is gone.
    assert (both.session.event_time_ns, feeds.event_time_of(1)) == (START_NS + 5_001 * MS, START_NS + 5_001 * MS)
    both.open(1)
    assert feeds.event_time_of(1) is None


def test_counters_are_those_of_all_connections_also_of_closed_ones() -> None:
    both = Connections(1, 2)
    both.read(1, btc(1, 0.1), btc(2, 0.2))
    both.read(2, eth(1, 0.1))
    before = both.session.stats
    assert (before.trades, before.trade_messages) == (3, 3)
    both.close(1)
    assert both.session.stats == before
    both.open(1)
    both.read(1, btc(3, 0.3))
    assert (both.session.stats.trades, both.session.stats.trade_messages) == (4, 4)


def test_the_clock_is_that_of_the_connection_which_is_least_behind() -> None:
    both = Connections(1, 2)
    both.read(1, btc(1, 5))
    both.read(2, eth(1, 2))  # 3 s late
    assert both.session.now_ns(both.at_ns) == START_NS + 5_001 * MS + MS


def test_without_redundant_lines_nothing_is_released() -> None:
    assert Intake(print).release(None) == []
    assert Intake(print).release(5) == []


@given(st.integers(0, 2**32))
@settings(max_examples=examples(60))
def test_what_other_connections_bring_changes_no_bar_of_what_one_carries(seed: int) -> None:
    dice = Random(seed)
    together = Connections(1, 2, 3, bars=["1s", "3s"], grace=0.2, lateness=5.0)
    alone = {number: Connections(number, bars=["1s", "3s"], grace=0.2, lateness=5.0) for number in (1, 2, 3)}
    lag_ms = {number: dice.choice((0, 0, 400, 8_000)) for number in alone}
    for number, symbol in enumerate(SYMBOLS, 1):
        for each in (together, alone[number]):
            each.session.set_carriers(symbol, one(number))
    ids = dict.fromkeys(SYMBOLS, 0)
    for at_ms in range(0, 20_000, 40):
        number = dice.choice((1, 2, 3))
        symbol = SYMBOLS[number - 1]
        ids[symbol] += dice.choice((1,) * 30 + (2, 0))
        late_ms = dice.choice((0, 0, 0, 30, 900))
        message = trade(
            max(ids[symbol], 1), at_ms - lag_ms[number] - late_ms, str(100 + at_ms % 7), symbol=symbol,
            event_ms=at_ms - lag_ms[number],
        )  # fmt: skip
        for each in (together, alone[number]):
            each.read(number, message)
    for each in (together, *alone.values()):
        each.bars += each.session.flush(START_NS)
    for number, symbol in enumerate(SYMBOLS, 1):
        assert show(bar for bar in together.bars if bar.symbol == symbol) == show(alone[number].bars)


# One held trade.


def test_a_held_trade_stops_the_bars_of_its_own_symbol_alone() -> None:
    lines = Connections(0, 1, lines=2, line_wait=0.25)
    lines.read(0, btc(1, 0.1), btc(3, 0.3), eth(1, 0.1))
    assert lines.read(1, btc(1, 0.1)) == []
    assert lines.read(0, eth(2, 1.0)) == ["ETH 0 trade"]  # that of BTC would have closed with it
    assert lines.read(0, eth(3, 1.5, event_ms=2_000)) == ["ETH 1 watermark"]
    assert lines.read(1, btc(2, 0.2)) == ["BTC 0 watermark"]
    assert [bar.trade_count for bar in lines.bars if bar.symbol == "BTCUSDT"] == [3]


def test_the_clock_closes_the_bars_of_others_while_a_trade_is_held_and_then_its_own() -> None:
    lines = Connections(0, 1, lines=2, line_wait=5.0)
    lines.read(0, btc(1, 0.1), btc(3, 0.3), eth(1, 0.4))
    assert lines.clock(1.2) == ["ETH 0 clock"]
    assert not lines.session.clock_is_due(lines.at_ns)
    assert lines.clock(6) == ["BTC 0 clock"]
    assert lines.session.missing("BTCUSDT") == [(2, 2)]


def test_held_trades_outlive_a_restart() -> None:
    lines = Connections(0, 1, lines=2, line_wait=5.0)
    lines.read(0, btc(1, 0.1), btc(3, 0.3, price="103"), btc(5, 0.5, price="105"), eth(1, 0.1))
    content = lines.session.dump()
    assert content is not None
    for count in (1, 2):  # also where there is one line from then on
        after = Connections(0, lines=count)
        after.session.load(unpack(pack(content)), START_NS)
        current = after.session.intake.buffer.current("BTCUSDT", "1s")  # type: ignore[union-attr]
        assert current is not None
        assert (current.trade_count, str(current.high), current.last_trade_id) == (3, "105", 5)
        assert after.session.missing("BTCUSDT") == [(2, 2), (4, 4)]
    # The first process goes on as if nothing had been asked.
    lines.read(1, btc(2, 0.2), btc(4, 0.4))
    assert lines.session.missing("BTCUSDT") == []


def test_held_trades_at_other_scales_outlive_a_restart_too() -> None:
    lines = Connections(0, 1, lines=2, line_wait=5.0)
    lines.read(0, btc(1, 0.1), btc(3, 0.3, price="1234567.5"), btc(5, 0.5, price="0.123456789"))
    content = lines.session.dump()
    assert content is not None
    after = Connections(0, lines=2)
    after.session.load(content, START_NS)
    current = after.session.intake.buffer.current("BTCUSDT", "1s")  # type: ignore[union-attr]
    assert current is not None
    assert (current.trade_count, str(current.high), str(current.low)) == (3, "1234567.5", "0.123456789")


def held_rows(**changes: int) -> bytes:
    names_of = ("symbol", "time_ns", "price", "size", "first", "last", "first_id", "last_id", "count", "price_scale",
                "size_scale", "side")  # fmt: skip
    row = dict.fromkeys(names_of, 1) | {"symbol": 0} | changes
    return np.array([[row[name] for name in names_of]], np.int64).tobytes()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("text", "not rows of 12 numbers"),
        (b"\0" * 95, "not rows of 12 numbers"),
        (held_rows(symbol=1), "symbol 1 outside 0 to 0"),
        (held_rows(symbol=-1), "symbol -1 outside 0 to 0"),
        (held_rows(first=-5), "first id -5 outside"),
        (held_rows(last=2**63 - 1), "last id 9223372036854775807 outside"),
        (held_rows(first=7), "last id is below its first"),
        (held_rows(count=0), "count 0 outside"),
        (held_rows(price_scale=19), "price scale 19 outside 0 to 18"),
        (held_rows(size_scale=-1), "size scale -1 outside 0 to 18"),
        (held_rows(side=2), "side 2 outside -1 to 1"),
        (held_rows() * 65_537, "more than 65536 trades of a symbol"),
    ],
)
def test_held_trades_of_a_snapshot_are_checked_before_anything_changes(content: Any, why: str) -> None:
    instruments = Instruments()
    instruments.add("A")
    with pytest.raises(ValueError, match=why):
        check_held(content, 1)
    lines = Connections(0, lines=2)
    lines.read(0, btc(1, 0.1))
    dumped = lines.session.dump()
    assert dumped is not None
    after = Connections(0, lines=2)
    with pytest.raises(ValueError, match=why):
        after.session.load(dumped | {"held": content}, START_NS)
    assert len(after.session.symbols) == 0
    after.session.load(dumped, START_NS)
    assert list(after.session.symbols) == ["BTCUSDT"]


def test_an_arbiter_that_holds_trades_loads_no_others() -> None:
    instruments = Instruments()
    instruments.add("A")
    arbiter = Arbiter(TickBatch(instruments, counts=True), 2, 0)
    arbiter.load(held_rows())
    assert (arbiter.held, arbiter.holds(0), arbiter.holds(1), arbiter.holds(-1)) == (1, True, False, False)
    assert arbiter.dump() == held_rows()
    with pytest.raises(ValueError, match="holds none"):
        arbiter.load(held_rows())
    assert len(arbiter.flush()) == 1


# One full socket.


def test_what_lies_unread_on_one_connection_stops_the_clock_for_what_only_that_one_carries() -> None:
    three = Connections(1, 2)
    carried = {"BTCUSDT": one(1), "ETHUSDT": one(2), "XRPUSDT": one(1, 2)}
    for number, (symbol, connections) in enumerate(carried.items(), 1):
        three.session.set_carriers(symbol, connections)
        three.read(min(connections), trade(number, 100, symbol=symbol))
    three.session.set_carriers("ADAUSDT", one(1))
    assert three.clock(1, unread=one(1)) == ["ETH 0 clock", "XRP 0 clock"]
    assert not three.session.clock_is_due(three.at_ns, one(1))
    assert three.session.clock_is_due(three.at_ns)
    assert three.clock(1.1) == ["BTC 0 clock"]


def test_a_symbol_waits_for_every_connection_where_it_is_not_known_which_carry_it() -> None:
    both = Connections(1, 2)
    both.read(1, btc(1, 0.1))
    both.read(2, eth(1, 0.1))
    both.session.set_carriers("ETHUSDT", one())  # one that nobody carries waits for none
    assert both.clock(1, unread=one(2)) == ["ETH 0 clock"]
    assert both.clock(1.1) == ["BTC 0 clock"]


# Wakeups without Python.


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("lines", [1, 2])
def test_wakeups_that_end_by_themselves_give_the_same_bars_on_several_connections(seed: int, lines: int) -> None:
    quiet = Connections(0, 1, lines=lines, grace="auto")
    loud = Connections(0, 1, lines=lines, grace="auto", reports=True)
    dice = Random(seed)
    pending: list[list[bytes]] = [[], []]
    for trade_id in range(1, 1_500):
        symbol = dice.choice(SYMBOLS[:2])
        message = trade(
            trade_id // 2, trade_id * 10 - dice.choice((0, 0, 0, 30)), str(100 + trade_id % 7), symbol=symbol
        )
        for number in range(2) if lines == 2 else (SYMBOLS.index(symbol),):
            if dice.random() < 0.95:
                pending[number].append(message)
        for number in range(2):
            if pending[number] and dice.random() < 0.4:
                for each in (quiet, loud):
                    each.read(number, *pending[number])
                pending[number] = []
        if trade_id == 500:
            for each in (quiet, loud):
                each.session.set_carriers("BTCUSDT", one(0))
                each.session.set_carriers("ETHUSDT", one(0, 1))
    for each in (quiet, loud):
        each.bars += each.session.flush(START_NS)
    assert show(quiet.bars) == show(loud.bars)
    assert quiet.session.stats == loud.session.stats
    assert quiet.session.lines == loud.session.lines
    assert len(quiet.bars) > 20
    assert len(quiet.reported) < len(loud.reported) * 0.8


def test_a_wakeup_of_a_redundant_line_ends_by_itself() -> None:
    lines = Connections(0, 1, lines=2)
    for number in (0, 1):
        lines.read(number, btc(1, 0.1))
    lines.reported.clear()
    for trade_id in range(2, 50):
        for number in (0, 1):
            lines.read(number, btc(trade_id, 0.1 + trade_id / 1000))
    assert lines.reported == []
    assert [line.first for line in lines.session.lines] == [49, 0]
    assert lines.session.lines[1].again == 49


@pytest.mark.parametrize("lines", [1, 2])
def test_an_ordinary_wakeup_runs_no_python_function_on_any_of_several_connections(lines: int) -> None:
    stream = Connections(0, 1, lines=lines)
    for number in (0, 1):
        stream.session.set_carriers(SYMBOLS[number], one(0, 1) if lines == 2 else one(number))
        stream.read(number, trade(1, 100, symbol=SYMBOLS[number]))
    if lines == 2:
        for number in (0, 1):
            stream.read(number, trade(1, 100, symbol=SYMBOLS[1 - number]))
    feeds = stream.session.intake.feeds.opened
    reads = []
    for number in (0, 1):
        wakeup = Wakeup([], print, print, print, ending=feeds[number].ending, scans=True)
        wakeup.walker, wakeup.is_open = stream.walkers[number], True
        reads.append(wakeup.receive)
    called: list[str] = []

    def note(profiled: FrameType, event: str, _: Any) -> None:
        if event == "call":
            called.append(profiled.f_code.co_name)

    for trade_id in range(2, 20):
        for number in (0, 1):
            data = frame(trade(trade_id, 100 + trade_id, symbol=SYMBOLS[0 if lines == 2 else number]))
            sys.setprofile(note)
            try:
                reads[number](data)
            finally:
                sys.setprofile(None)
    assert called == []
    assert stream.session.stats.trades == (2 if lines == 1 else 4) + 36
    assert stream.session.stats.duplicates == (0 if lines == 1 else 20)


# Recordings.


def driven(recording: Recording | None, seed: int, lines: int) -> list[OHLCVBar]:
    """A run with everything that can happen to connections, by chance."""
    dice = Random(seed)
    stream = Connections(recording=recording, lines=lines, bars=["1s", "3s"], grace=0.1, lateness=2.0, line_wait=0.05)
    ids = dict.fromkeys(SYMBOLS, 0)
    behind_ms = {}
    at_ms = 0
    for _ in range(400):
        at_ms += dice.randrange(40)
        numbers = list(stream.walkers)
        doing = dice.random()
        if not numbers or (doing < 0.03 and len(numbers) < 4):
            number = next(each for each in range(dice.randrange(6), 20) if each not in stream.walkers)
            stream.open(number)
            behind_ms[number] = dice.choice((0, 0, 700))
        elif doing < 0.05:
            number = dice.choice(numbers)
            for symbol in SYMBOLS:
                carriers = stream.session.carriers.of(symbol)
                if carriers is not None and number in carriers:
                    stream.session.set_carriers(symbol, carriers - {number})
            stream.close(number)
        elif doing < 0.15:
            stream.session.set_carriers(
                dice.choice(SYMBOLS), one(*dice.sample(numbers, dice.randrange(len(numbers) + 1)))
            )
        elif doing < 0.2 and stream.session.event_time_ns is not None:
            stream.at_ns = max(stream.at_ns, at_ms * MS)
            stream.bars += stream.session.advance_clock(
                stream.at_ns,
                START_NS,
                feed_up=dice.random() < 0.9,
                unread=one(*dice.sample(numbers, dice.randrange(2))),
            )
        else:
            number, symbol = dice.choice(numbers), dice.choice(SYMBOLS)
            ids[symbol] += dice.choice((1,) * 40 + (2,))
            moment = at_ms - behind_ms[number] - dice.choice((0, 0, 300))
            stream.at_ns = max(stream.at_ns, at_ms * MS)
            stream.read(number, trade(ids[symbol], moment, str(100 + ids[symbol] % 5), symbol=symbol))
    return stream.bars + stream.session.flush(START_NS)


@given(st.integers(0, 2**32), st.sampled_from((1, 2)))
@settings(max_examples=examples(40))
def test_a_recording_of_several_connections_gives_the_same_bars(
    tmp_path_factory: pytest.TempPathFactory, seed: int, lines: int
) -> None:
    path = tmp_path_factory.mktemp("recording")
    recording = Recording(path)
    recorded = driven(recording, seed, lines)
    recording.close()
    assert recorded == driven(None, seed, lines)
    assert list(replay(path)) == recorded


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("feed", {}),
        ("feed", {"number": [], "line": 0, "opens": False}),
        ("feed", {"number": "x", "line": 0, "opens": True}),
        ("feed", {"number": -1, "line": 0, "opens": True}),
        ("feed", {"number": 2**40, "line": 0, "opens": True}),
        ("feed", {"number": 1, "line": 1, "opens": True}),
        ("carriers", {}),
        ("carriers", {"symbol": 5, "connections": []}),
        ("carriers", {"symbol": "A", "connections": 5}),
        ("carriers", {"symbol": "A", "connections": ["x"]}),
        ("carriers", {"symbol": "A", "connections": list(range(MOST_FEEDS + 1))}),
        ("clock", {"steady_ns": 0, "exchange_time_ns": 0, "feed_up": True, "unread": [{}]}),
    ],
)
def test_malformed_inputs_of_a_recording_are_refused(tmp_path: Path, name: str, fields: dict[str, Any]) -> None:
    recording = Recording(tmp_path)
    stream = Connections(1, recording=recording)
    stream.read(1, btc(1, 0.1))
    stream.session._journal.write("feed", 0, {"number": 2, "line": 0, "opens": True})
    stream.session._journal.write(name, 0, fields)
    recording.close()
    with pytest.raises(TapeError, match=f"malformed input '{name}'"):
        list(replay(tmp_path))


def test_a_recording_may_begin_with_feeds_that_opened_before(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    stream = Connections(1, recording=recording)
    stream.session._journal.write("feed", 0, {"number": 5, "line": 0, "opens": False})
    stream.read(1, btc(1, 0.1))
    recording.close()
    assert [bar.trade_count for bar in replay(tmp_path)] == [1]


# What a feed may be.


def test_feeds_are_numbered_and_bounded() -> None:
    session = Session(SPOT, StreamConfig(lines=2), channel="trade")
    feed = session.open_feed(3)
    assert (feed.number, feed.line) == (3, 1)
    with pytest.raises(ValueError, match="the feed 3 is open"):
        session.open_feed(3)
    with pytest.raises(ValueError, match="feed 4: there is no line 2"):
        session.open_feed(4, 2)
    with pytest.raises(ValueError, match="feed -2: numbers are not negative"):
        session.open_feed(-2)
    session.close_feed(feed)
    session.close_feed(feed)
    assert session.intake.feeds.opened == {}
    feeds = Intake(print).feeds
    for number in range(MOST_FEEDS):
        feeds.open(number, 0)
    with pytest.raises(ValueError, match="4096 feeds are open at most"):
        feeds.open(MOST_FEEDS, 0)


def test_each_connection_has_a_scanner_that_remembers_its_own_layouts() -> None:
    both = Connections(1, 2)
    feeds = both.session.intake.feeds
    scanners = {id(feed.scanner) for feed in (feeds.everything, *feeds.opened.values())}
    assert len(scanners) == 3
    later = Session(SPOT, StreamConfig())  # the channel is not known yet
    feed = later.open_feed(0)
    scans = [feed.scanner is not None]
    for number in (1, 2):
        later.receive([btc(number, 0.1)], START_NS, number * MS, line=0)
        scans.append(feed.scanner is not None)
    assert scans == [False, True, True]
    assert (later.stats.trades, feed.scanned[2]) == (2, 1)


# On sockets.


async def test_a_connection_that_is_not_read_delays_the_bars_of_what_it_alone_carries() -> None:
    async with StrictExchange(Limits(1, 1, 1000)) as server:
        bars: list[OHLCVBar] = []
        config = StreamConfig(bars="1s", grace=0.0, close_by="clock")
        adapter = BaseWebSocketAdapter(exchange_of(server.limits), config, on_bar=bars.append, url=server.url)
        await adapter.connect()
        await adapter.subscribe(["AUSDT", "BUSDT"])
        await server.trade_all(1, 0)
        await until(lambda: adapter.session.stats.trades == 2)
        carrying = {symbol: each for each in adapter.connections.up for symbol, _ in each.subscriptions.confirmed}
        for symbol, connection in carrying.items():
            adapter.session.set_carriers(symbol, one(connection.number))
        stalled = carrying["AUSDT"]
        stalled.pause()
        await until(lambda: bars)
        await server.trade_all(2, 1_100)
        await until(lambda: len(bars) == 2)
        await asyncio.sleep(0.5)
        assert [(bar.symbol, str(bar.close_reason)) for bar in bars] == [("BUSDT", "clock"), ("BUSDT", "clock")]
        stalled.resume()
        await until(lambda: len(bars) == 4)
        assert [(bar.symbol, bar.trade_count, bar.revision) for bar in bars[2:]] == [("AUSDT", 1, 0), ("AUSDT", 1, 0)]
        await adapter.disconnect()


async def test_the_feeds_of_a_session_are_those_of_the_connections_that_are_up() -> None:
    async with StrictExchange(Limits(1, 1, 1000)) as server:
        config = StreamConfig(close_by="trades", reconnect_delay=0.01, reconnect_max_delay=0.01)
        adapter = BaseWebSocketAdapter(exchange_of(server.limits), config, url=server.url)
        feeds = adapter.session.intake.feeds
        await adapter.connect()
        await adapter.subscribe(["AUSDT", "BUSDT"])
        first = set(feeds.opened)
        assert first == {connection.number for connection in adapter.connections.up}
        assert len(first) == 2
        server.abort()
        await until(lambda: len(adapter.connections.up) == 2 and first.isdisjoint(feeds.opened))
        await until(lambda: len(server.held) == 2)
        assert set(feeds.opened) == {connection.number for connection in adapter.connections.up}
        await adapter.disconnect()
        assert feeds.opened == {}
        await server.shut()
        with pytest.raises(WSConnectionError):
            await adapter.connect()
        assert feeds.opened == {}
