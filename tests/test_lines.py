"""Two lines that carry the same trades: whatever one of them loses, the bars are those of a line that lost nothing."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

import fastbars
from examples import examples
from fastbars import OHLCVBar, StreamConfig, SubscriptionError, TickData, WSConnectionError
from fastbars.cli.output import csv_line
from fastbars.exchanges import find_exchange
from fastbars.exchanges.binance import SPOT
from fastbars.live.connections.adapter import BaseWebSocketAdapter
from fastbars.live.session import Session
from fastbars.simulator import Fault, FaultKind, Faults, SimulatedExchange
from fastbars.tapes import Recording
from fastbars.ticks import to_nanoseconds
from fastbars.verification import Verifier
from servers import CLOSE, START_NS, RawServer, TradeServer, frame, refuse, trade, until

WAIT_S = 0.25
MS = 1_000_000
TWO = StreamConfig(bars=["1s", "tick:3"], lines=2, line_wait=WAIT_S)


def session_of(config: StreamConfig, recording: Recording | None = None) -> Session:
    record = None if recording is None else recording.session
    return Session(find_exchange("binance"), config, channel="trade", record=record)


def message(trade_id: int) -> bytes:
    return trade(trade_id, 100 * trade_id, str(100 + trade_id % 7))


def final(bars: list[OHLCVBar]) -> list[str]:
    return [csv_line(bar) for bar in bars]


def bars_of_one_line(count: int) -> list[str]:
    session = session_of(StreamConfig(bars=["1s", "tick:3"]))
    bars: list[OHLCVBar] = []
    for trade_id in range(count):
        bars += session.receive([message(trade_id)], START_NS, trade_id * MS).bars
    return final(bars + session.flush(START_NS))


@st.composite
def two_lossy_lines(draw: st.DrawFn) -> tuple[int, list[tuple[int, int, list[int]]]]:
    """Each line loses stretches; none is lost by both; both run within the wait of each other."""
    count = draw(st.integers(1, 60))
    lost_by = [draw(st.sampled_from((None, None, 0, 1))) for _ in range(count)]
    lost_by[0] = None
    events: list[tuple[int, int, list[int]]] = []
    for line in range(2):
        lag_ms = draw(st.integers(0, 100))
        for trade_id in range(count):
            if lost_by[trade_id] != line:
                events.append((trade_id + lag_ms + draw(st.integers(0, 20)), line, [trade_id]))
    events.sort(key=lambda event: (event[0], event[1], event[2]))
    # A line keeps its order.
    for line in range(2):
        places = [place for place, event in enumerate(events) if event[1] == line]
        ids = sorted(trade_id for place in places for trade_id in events[place][2])
        for place, trade_id in zip(places, ids, strict=True):
            events[place] = (events[place][0], line, [trade_id])
    # The very first trade is nobody's hole: both have it, and it is not waited for.
    first = next(place for place, event in enumerate(events) if event[2] == [0])
    return count, events[first:] if first == 0 else [events[first], *events[:first], *events[first + 1 :]]


@given(two_lossy_lines())
@settings(max_examples=examples(150))
def test_bars_of_two_lossy_lines_equal_those_of_one_that_lost_nothing(
    feed: tuple[int, list[tuple[int, int, list[int]]]],
) -> None:
    count, events = feed
    session = session_of(TWO)
    bars: list[OHLCVBar] = []
    for at_ms, line, ids in events:
        bars += session.receive([message(trade_id) for trade_id in ids], START_NS, at_ms * MS, line=line).bars
    bars += session.flush(START_NS)
    assert final(bars) == bars_of_one_line(count)
    first, second = session.lines
    assert first.first + second.first == count
    assert session.stats.duplicates == first.again + second.again
    assert session.buffer_stats.duplicates == 0


def test_what_both_lines_lost_is_a_gap_once_both_have_gone_past_it() -> None:
    session = session_of(TWO)
    bars = []
    for at_ms, line, ids in ((0, 0, range(9)), (1, 1, range(9)), (2, 0, (12,)), (3, 1, (13, 25)), (4, 0, (13, 25))):
        bars += session.receive([message(n) for n in ids], START_NS, at_ms * MS, line=line).bars
    timed = [bar for bar in bars if bar.spec == "1s"]
    assert [(str(bar.status), bar.last_trade_id) for bar in timed] == [("GAP", 8), ("GAP", 13)]
    assert session.missing("BTCUSDT") == [(9, 11), (14, 24)]


def test_what_the_other_line_does_not_bring_in_time_is_a_gap_and_is_mended_when_it_comes_at_last() -> None:
    session = session_of(TWO)
    session.receive([message(n) for n in range(10)], START_NS, 0, line=0)
    assert session.receive([message(12)], START_NS, 1, line=0).bars == []
    assert not session.clock_is_due(round(WAIT_S * 1e9))
    due_ns = 1 + round(WAIT_S * 1e9)
    assert session.clock_is_due(due_ns)
    issued = session.advance_clock(due_ns, START_NS, feed_up=True)
    assert [(bar.spec, str(bar.status)) for bar in issued if bar.spec == "1s"] == [("1s", "GAP")]
    mended = session.receive([message(10), message(11)], START_NS, due_ns + 5, line=1).bars
    assert [(bar.spec, str(bar.status), bar.revision) for bar in mended if bar.spec == "1s"] == [("1s", "COMPLETE", 1)]


def test_nothing_is_closed_over_the_heads_of_trades_that_wait() -> None:
    session = session_of(StreamConfig(bars="1s", lines=2, grace=0))
    session.receive([message(1), message(3)], START_NS, 0, line=0)
    later = trade(500, 60_000, symbol="ETHUSDT")  # its event time is a minute on
    assert session.receive([later], START_NS, 1, line=1).bars == []
    bars = session.receive([message(2)], START_NS, 2, line=1).bars
    assert [(bar.symbol, bar.trade_count, str(bar.close_reason)) for bar in bars] == [("BTCUSDT", 3, "watermark")]


def test_a_recording_of_two_lines_repeats_what_was_held_and_for_how_long(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    session = session_of(TWO, recording)
    bars = []
    bars += session.receive([message(n) for n in range(10)], START_NS, 0, line=0).bars
    bars += session.receive([message(n) for n in range(14, 30)], START_NS, 5, line=2).bars  # line 0, connected anew
    bars += session.receive([message(n) for n in range(12)], START_NS, 7, line=1).bars
    bars += session.advance_clock(7 + round(WAIT_S * 1e9), START_NS, feed_up=True)
    bars += session.receive([message(n) for n in range(12, 40)], START_NS, 2 * round(WAIT_S * 1e9), line=1).bars
    bars += session.flush(START_NS)
    recording.close()
    assert any(str(bar.status) == "GAP" for bar in bars)
    assert final(list(fastbars.replay(tmp_path))) == final(bars)


def test_a_number_of_lines_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="lines must be 1 to 8, got 9"):
        StreamConfig(lines=9)
    with pytest.raises(ValueError, match="line_wait must not be negative"):
        StreamConfig(line_wait=-1)


# Live.

PATIENT = StreamConfig(lines=2, reconnect_delay=0.05, reconnect_max_delay=0.2)


class Candles:
    """What the simulated exchange itself says of the market, over a connection that nobody disturbs."""

    def __init__(self, url: str, symbols: list[str]) -> None:
        self.verifier = Verifier()
        config = StreamConfig(close_by="trades")
        self.adapter = BaseWebSocketAdapter(SPOT, config, on_exchange_bar=self.verifier.add_candle, url=url)
        self.symbols = symbols

    async def __aenter__(self) -> Verifier:
        await self.adapter.connect()
        await self.adapter.subscribe(self.symbols, ["kline_1s"])
        return self.verifier

    async def __aexit__(self, *_: object) -> None:
        await self.adapter.disconnect()


def both_are_whole(stream: fastbars.BarStream) -> bool:
    return all(member.is_whole for member in stream.adapter.connections.supervisors)


def is_back(stream: fastbars.BarStream, connections: int) -> bool:
    return stream.stats().connections == connections and both_are_whole(stream)


def has_at_least(bars: list[OHLCVBar], count: int) -> bool:
    return len(bars) >= count


async def test_killing_one_of_two_lines_every_second_loses_nothing(tmp_path: Path) -> None:
    """Ten seconds; FASTBARS_LINES_SECONDS makes it longer."""
    seconds = float(os.environ.get("FASTBARS_LINES_SECONDS", "8"))
    issued: list[OHLCVBar] = []
    states: list[str] = []
    random, faults = Random(7), Faults(1)
    async with (
        SimulatedExchange(symbols=10, rate=2000.0, faults=faults) as exchange,
        Candles(exchange.url, exchange.symbols) as them,
    ):
        candles = set(exchange.connections)
        stream = fastbars.stream(
            "binance", exchange.symbols, ["1s", "tick:50"], url=exchange.url, config=PATIENT, on_bars=issued.extend,
            record=tmp_path, on_state=lambda state: states.append(str(state)),
        )  # fmt: skip
        async with stream:
            await until(lambda: len(exchange.connections) == 3 and both_are_whole(stream))
            loop = asyncio.get_running_loop()
            end_s, kills = loop.time() + seconds, 0
            while loop.time() < end_s:
                lines = sorted(exchange.connections - candles, key=lambda one: one.remote_address)
                faults.inject(Fault(FaultKind.REFUSE, status=503))  # or it may be back before anything is traded
                random.choice(lines).transport.abort()
                kills += 1
                await asyncio.sleep(1)
                # The one that was lost must be subscribed again before the next is.
                await until(partial(is_back, stream, 2 + kills), 20)
            assert stream.stats().connections == 2 + kills
        for bar in issued:
            them.add_bar(bar)
        counts = them.finish()
    assert {str(bar.status) for bar in issued} == {"COMPLETE", "PARTIAL"}
    assert {bar.revision for bar in issued} <= {0, 1}
    assert [stats.requests for stats in stream.healing()] == [0]
    assert stream.holes() == {}
    assert not [bar for bar in issued if bar.spec == "tick:50" and bar.revision]
    assert counts.different == 0
    assert counts.equal >= 10 * (seconds - 2)
    first, second = stream.stats().lines
    assert first.first + second.first == stream.stats().buffer.trades
    assert first.missed + second.missed > 0
    assert min(first.first, second.first, first.led, second.led) > 0
    assert states[:3] == ["connecting", "connected", "disconnected"]  # never reconnecting: one line was always up
    assert final(list(fastbars.replay(tmp_path))) == final(issued)


async def test_where_ids_are_only_unique_one_of_two_lines_can_be_lost_as_well() -> None:
    issued: list[OHLCVBar] = []
    async with SimulatedExchange("bybit", symbols=5, rate=300.0, record=True) as exchange:
        stream = fastbars.stream(
            "bybit", exchange.symbols, "1s", market=exchange.market, url=exchange.url, config=PATIENT,
            on_bars=issued.extend,
        )  # fmt: skip
        async with stream:
            await until(lambda: len(exchange.connections) == 2 and len(issued) > 10)
            for kill in range(3):
                await until(partial(both_are_whole, stream))
                await asyncio.sleep(2.5)  # a line carries from a grace behind its acks until one before its end
                member = stream.adapter.connections.supervisors[kill % 2]
                connections = stream.stats().connections
                member.pair.drop("the test kills it")
                # That the line is lost is noticed some turns of the loop later; until then both look whole.
                await until(lambda: stream.stats().connections > connections)  # noqa: B023 it is waited for here
                before = len(issued)
                await until(partial(has_at_least, issued, before + 5))
        truth = {symbol: exchange.record.seconds(symbol) for symbol in exchange.symbols}
    latest = {(bar.symbol, bar.open_time): bar for bar in issued}
    whole = [bar for bar in latest.values() if str(bar.status) != "PARTIAL"]
    assert [bar for bar in whole if str(bar.status) != "UNVERIFIABLE"] == []
    assert len(whole) > 15
    for bar in whole:
        candle = truth[bar.symbol][to_nanoseconds(bar.open_time) // 1_000_000]
        assert (bar.trade_count, bar.volume) == (candle.trade_count, candle.volume)
    assert stream.stats().session.duplicates > 100


@pytest.mark.parametrize("kind", ["bybit", "hyperliquid"])
@pytest.mark.parametrize("knobs", [{"lines": 2}, {"connection_lifetime": 1.0, "handover_overlap": 0.3}])
async def test_where_ids_are_only_unique_each_trade_of_two_connections_is_told_once(
    kind: str, knobs: dict[str, Any]
) -> None:
    ticks: list[TickData] = []
    async with SimulatedExchange(kind, symbols=2, rate=300.0) as exchange:
        stream = fastbars.stream(
            kind, exchange.symbols, "1s", market=exchange.market, url=exchange.url, config=StreamConfig(**knobs),
            on_tick=ticks.append,
        )  # fmt: skip
        async with stream:
            await until(lambda: stream.stats().session.duplicates > 100)
    assert len(ticks) == stream.stats().buffer.trades > 100


async def test_a_bar_that_begins_while_both_lines_are_being_closed_is_partial_and_no_gap() -> None:
    class Talkative(RawServer):
        async def farewell(self, writer: asyncio.StreamWriter) -> bytes:
            goodbye = frame(b"\x03\xe8", CLOSE)
            if writer is self.writers[0]:
                return goodbye
            await until(
                lambda: adapter.connections.first.pair.current is None
            )  # the first is shut, the second still is not
            return frame(trade(3, 2000)) + goodbye

    exchange = replace(SPOT, channels={**SPOT.channels, "trade": "unique"})
    async with Talkative(behind=frame(trade(1, 0)) + frame(trade(2, 1000))) as server:
        bars: list[OHLCVBar] = []
        config = StreamConfig(bars="1s", lines=2)
        adapter = BaseWebSocketAdapter(exchange, config, on_bars=bars.extend, url=server.url)
        await adapter.connect()
        await until(lambda: all(member.is_whole for member in adapter.connections.supervisors))
        await adapter.disconnect()
        adapter.session.flush(0)
    latest = {bar.open_time: str(bar.status) for bar in bars}
    assert list(latest.values()) == ["PARTIAL", "UNVERIFIABLE", "PARTIAL"]


async def test_lines_go_to_different_hosts_where_the_exchange_declares_several() -> None:
    exchange = replace(SPOT, routes={"ws://a/ws": ("trade",), "ws://b/ws": ("trade",), "ws://c/ws": ("kline_*",)})
    adapter = BaseWebSocketAdapter(exchange, StreamConfig(lines=3))
    assert [member.url for member in adapter.connections.supervisors] == ["ws://a/ws", "ws://b/ws", "ws://a/ws"]


async def test_a_line_that_cannot_connect_yet_is_tried_until_it_can() -> None:
    async with TradeServer() as first, TradeServer() as second:
        exchange = replace(SPOT, routes={first.url: ("trade",), second.url: ("trade",)})
        await second.shut()
        adapter = BaseWebSocketAdapter(exchange, replace(PATIENT, bars="1s", heal=False))
        await adapter.connect()
        await adapter.subscribe(["BTCUSDT"])
        assert adapter.is_connected
        await second.open()
        await until(lambda: second.requests)
        assert adapter.connections.supervisors[1].is_whole
        await first.send(trade(1, 0), trade(2, 1))
        await second.send(trade(1, 0), trade(2, 1), trade(3, 2))
        await until(lambda: adapter.session.buffer_stats.trades == 3)
        await first.shut()
        await until(lambda: not adapter.connections.supervisors[0].is_up)
        assert str(adapter.state) == "connected"
        await second.send(trade(4, 1_000))
        await until(lambda: adapter.session.buffer_stats.trades == 4)
        assert second.streams == ["btcusdt@trade"]
        await adapter.unsubscribe(["BTCUSDT"])
        assert [line.subscriptions.desired for line in adapter.connections.supervisors] == [{}, {}]
        await adapter.disconnect()
        assert str(adapter.state) == "disconnected"
        assert second.connections == []


async def test_a_slow_consumer_pauses_both_lines() -> None:
    async with TradeServer() as server:
        adapter = BaseWebSocketAdapter(SPOT, PATIENT, url=server.url)
        await adapter.connect()
        await until(lambda: len(server.connections) == 2 and adapter.connections.supervisors[1].is_up)
        adapter.pause_reading()
        assert [line.is_reading for line in adapter.connections.up] == [False, False]
        adapter.resume_reading()
        assert [line.is_reading for line in adapter.connections.up] == [True, True]
        await adapter.reconnect()
        assert adapter.stats().connections == 4
        await adapter.close()
        assert str(adapter.state) == "closed"


def test_trades_without_ids_are_refused_for_several_lines() -> None:
    exchange = replace(SPOT, channels={**SPOT.channels, "trade": "none"})
    with pytest.raises(SubscriptionError, match="binance spot: trade: trades have no ids"):
        BaseWebSocketAdapter(exchange, PATIENT)


async def test_a_symbol_that_the_exchange_refuses_is_refused_for_all_lines() -> None:
    async with TradeServer(refuse("nosuch@trade")) as server:
        adapter = BaseWebSocketAdapter(SPOT, PATIENT, url=server.url)
        await adapter.connect()
        await until(lambda: adapter.connections.supervisors[1].is_up)
        with pytest.raises(SubscriptionError, match="NOSUCH"):
            await adapter.subscribe(["BTCUSDT", "NOSUCH"])
        assert all(member.is_whole for member in adapter.connections.supervisors)
        assert [set(line.subscriptions.desired) for line in adapter.connections.supervisors] == [
            {("BTCUSDT", "trade")}
        ] * 2
        await adapter.disconnect()


async def test_an_error_of_our_own_on_one_line_ends_all_of_them() -> None:
    async with TradeServer() as server:
        adapter = BaseWebSocketAdapter(SPOT, PATIENT, url=server.url)
        await adapter.connect()
        await until(lambda: adapter.connections.supervisors[1].is_up)
        adapter.connections.supervisors[1].fail(RuntimeError("unforeseen"))
        with pytest.raises(WSConnectionError, match="internal error: RuntimeError"):
            await adapter.wait_closed()
        await adapter.disconnect()
        assert server.connections == []


async def test_connecting_again_while_a_line_is_still_tried_leaves_no_second_attempt_behind(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with TradeServer() as first, TradeServer() as second:
        exchange = replace(SPOT, routes={first.url: ("trade",), second.url: ("trade",)})
        await second.shut()
        adapter = BaseWebSocketAdapter(
            exchange, replace(PATIENT, reconnect_delay=5.0, reconnect_max_delay=5.0, heal=False)
        )
        await adapter.connect()
        await until(lambda: caplog.text.count("line_not_connected") == 2)  # the next attempt is up to 5 s away
        await adapter.connect()
        assert len([task for task in asyncio.all_tasks() if "line 1" in task.get_name()]) == 1
        await adapter.disconnect()
        assert [task for task in asyncio.all_tasks() if "line 1" in task.get_name()] == []


async def test_what_comes_right_behind_the_handshake_counts_for_the_line_that_brought_it() -> None:
    async with RawServer() as server:
        adapter = BaseWebSocketAdapter(SPOT, replace(PATIENT, heal=False), url=server.url)
        await adapter.connect()
        server.behind = frame(trade(1, 0))  # of the second line, which connects from here on
        await until(lambda: adapter.session.stats.trade_messages)
        assert [line.first for line in adapter.stats().lines] == [0, 1]
        for writer in server.writers:  # it answers no close
            writer.transport.abort()
        await adapter.disconnect()
