"""Sixteen things that went wrong in other libraries of this kind, each by its name, and what happens here instead.

Most of them have tests in depth elsewhere; these say in one place that none of them happens.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import numpy as np
import orjson
import pytest
from websockets.asyncio.server import ServerConnection

import fastbars
from fastbars import BarBuffer, BinanceWebSocketAdapter, ConnectionState, OHLCVBar, StreamConfig, TickData, clocks
from fastbars.exchanges import find_exchange
from fastbars.live.connections.backoff import CircuitBreaker
from fastbars.live.connections.silence import Rates, Silence
from fastbars.live.session import Session
from servers import MINUTE_MS, START_MS, START_NS, TradeServer, trade, trades, until

MINUTE_NS = 60_000_000_000
QUICK: dict[str, Any] = {"close_by": "trades", "reconnect_delay": 0.01, "reconnect_max_delay": 0.01}


pytestmark = pytest.mark.usefixtures("no_task_is_left_behind")


def adapter_of(server: TradeServer, **knobs: Any) -> tuple[BinanceWebSocketAdapter, list[OHLCVBar]]:
    bars: list[OHLCVBar] = []
    return BinanceWebSocketAdapter(StreamConfig(**QUICK | knobs), on_bar=bars.append, url=server.url), bars


def buffer_with(*ticks: tuple[int, int, str]) -> tuple[BarBuffer, list[OHLCVBar]]:
    """A buffer given trades as (id, time in ns, price), and the bars that came out."""
    buffer = BarBuffer("1m", ids="contiguous")
    bars = [bar for number, time_ns, price in ticks for bar in buffer.add_tick(tick(number, time_ns, price))]
    return buffer, bars


def tick(number: int, time_ns: int, price: str = "100", size: str = "1") -> TickData:
    return TickData("BTCUSDT", time_ns, price, size, trade_id=number)


def row(*fields: Any) -> tuple[Any, ...]:
    """Fields of a bar beside each other, numbers of any kind."""
    return fields


def test_1_only_the_first_trade_of_a_message_of_several_was_parsed() -> None:
    session = Session(find_exchange("bybit", "linear"), StreamConfig(close_by="trades"), channel="publicTrade")
    rows = [
        {"T": START_MS + n, "s": "BTCUSDT", "S": "Buy", "v": "0.5", "p": str(100 + n), "i": f"id-{n}", "BT": False}
        for n in range(7)
    ]
    message = {"topic": "publicTrade.BTCUSDT", "type": "snapshot", "ts": START_MS + 9, "data": rows}
    session.receive([orjson.dumps(message)], START_NS)
    (bar,) = session.flush(START_NS)
    assert row(bar.trade_count, bar.open, bar.close, bar.volume) == (7, 100, 106, Decimal("3.5"))


def test_2_naive_local_times_were_called_utc() -> None:
    _, (bar,) = buffer_with((1, START_NS, "100"), (2, START_NS + MINUTE_NS, "100"))
    assert bar.open_time.tzinfo is UTC
    assert bar.open_time.utcoffset() == timedelta(0)
    assert bar.open_time.isoformat() == "2024-08-08T23:54:00+00:00"
    assert bar.open_time.timestamp() * 1_000 == START_MS


def test_3_an_update_of_a_candle_was_taken_for_a_trade_and_its_volume_added_again_and_again() -> None:
    session = Session(find_exchange("binance"), StreamConfig(close_by="trades"), channel="trade")
    kline = {
        "e": "kline", "E": START_MS, "s": "BTCUSDT",
        "k": {"t": START_MS, "T": START_MS + 59_999, "s": "BTCUSDT", "i": "1m", "f": 1, "L": 2, "o": "1", "c": "1",
              "h": "1", "l": "1", "v": "1000", "n": 2, "x": False, "q": "1000", "V": "1", "Q": "1", "B": "0"},
    }  # fmt: skip
    session.receive([trade(1, 0, size="2"), *[orjson.dumps(kline)] * 5, trade(2, 1, size="3")], START_NS)
    (bar,) = session.flush(START_NS)
    assert row(bar.volume, bar.trade_count) == (5, 2)
    assert session.stats.exchange_bars == 5


def test_4_a_late_trade_closed_the_current_bar_and_reopened_an_old_one() -> None:
    buffer, bars = buffer_with((1, 0, "100"), (3, MINUTE_NS, "103"))
    late = buffer.add_tick(tick(2, 1, "102"))
    current = buffer.add_tick(tick(4, 2 * MINUTE_NS, "104"))
    assert [row(bar.open_time.minute, bar.close, bar.revision) for bar in bars] == [(0, 100, 0)]
    assert [row(bar.open_time.minute, bar.close, bar.revision) for bar in late] == [(0, 102, 1)]
    assert [row(bar.open_time.minute, bar.close, bar.trade_count) for bar in current] == [(1, 103, 1)]


async def test_5_a_reconnect_inside_the_listening_task_cancelled_and_awaited_itself() -> None:
    reconnects: list[asyncio.Task[None]] = []
    async with TradeServer() as server:
        adapter, _ = adapter_of(server)
        adapter.session.notifier.callbacks.on_tick = lambda _: reconnects.append(
            asyncio.create_task(adapter.reconnect())
        )
        await adapter.connect()
        await adapter.subscribe(["BTCUSDT"])
        await server.send(trade(1, 0))
        await until(lambda: reconnects and reconnects[0].done())
        assert reconnects[0].exception() is None
        assert (adapter.state, len(server.accepted_s)) == (ConnectionState.CONNECTED, 2)
        await adapter.disconnect()


async def test_6_after_one_failed_reconnect_nothing_tried_again() -> None:
    async with TradeServer() as server:
        adapter, _ = adapter_of(server)
        await adapter.connect()
        await adapter.subscribe(["BTCUSDT"])
        await server.shut()
        await until(lambda: adapter.connections.first.retry.backoff.attempts >= 5)
        await server.open()
        await until(lambda: server.streams == ["btcusdt@trade"] * 2)
        assert adapter.is_connected
        await adapter.disconnect()


def test_7_every_message_reset_the_error_count_so_that_the_circuit_breaker_could_not_trip() -> None:
    breaker = CircuitBreaker(threshold=3, window=60.0)
    tripped = []
    for second in range(3):
        tripped.append(breaker.record(float(second)))
        breaker.succeeded()  # a good message after each bad one
    assert tripped == [False, False, True]


def test_8_an_exception_in_a_callback_lost_the_finished_bar() -> None:
    def fail(_: object) -> None:
        raise RuntimeError("not my day")

    buffer = BarBuffer("1m", ids="contiguous", on_bar=fail, on_bars=fail)
    buffer.add_tick(tick(1, 0))
    (bar,) = buffer.add_tick(tick(2, MINUTE_NS))
    assert (bar.trade_count, buffer.stats.bars, buffer.stats.callback_errors) == (1, 1, 2)


async def test_9_bars_of_quiet_symbols_never_closed() -> None:
    async with TradeServer() as server:
        adapter, bars = adapter_of(server, bars="1s", grace=0.05, close_by="clock")
        await adapter.connect()
        await adapter.subscribe(["BTCUSDT"])
        await server.send(trade(1, 0, start_ms=clocks.wall_ns() // 1_000_000))  # and never again
        await until(lambda: bars)
        assert (bars[0].close_reason, bars[0].trade_count) == ("clock", 1)
        await adapter.disconnect()


def test_10_flat_bars_came_out_during_an_outage() -> None:
    buffer, _ = buffer_with((1, 0, "100"), (2, MINUTE_NS, "101"))
    closed = buffer.advance_clock(10 * MINUTE_NS, feed_up=False)
    assert {(bar.status, bar.close_reason) for bar in closed} == {("GAP", "gap")}
    assert [(bar.open_time.minute, bar.open is None) for bar in closed] == [
        (1, False),
        *((n, True) for n in range(2, 9)),
    ]
    after = buffer.add_tick(tick(9, 20 * MINUTE_NS, "109"))
    assert [bar for bar in after if bar.open_time.minute > 1 and bar.status != "GAP"] == []
    (bar,) = buffer.add_tick(tick(10, 21 * MINUTE_NS, "110"))
    assert row(bar.open, bar.trade_count) == (109, 1)


def test_11_the_first_bar_was_wrong_or_the_fix_for_it_dropped_good_ones() -> None:
    _, bars = buffer_with(*((n, n * MINUTE_NS // 2 + 7, str(100 + n)) for n in range(8)))
    assert [row(bar.status, bar.trade_count, bar.open) for bar in bars] == [
        ("PARTIAL", 2, 100),  # the stream began inside it: it comes out, and says so
        ("COMPLETE", 2, 102),
        ("COMPLETE", 2, 104),
    ]


def test_12_the_last_trade_of_a_batch_was_dropped() -> None:
    for count in (1, 2, 7):
        session = Session(find_exchange("binance"), StreamConfig(close_by="trades"), channel="trade")
        session.receive(trades(1, count), START_NS)
        (bar,) = session.flush(START_NS)
        assert row(bar.trade_count, bar.last_trade_id, bar.close) == (count, count, 99 + count)


def test_13_the_volume_of_tokens_with_huge_supply_overflowed() -> None:
    size = "9223372036.854775807"  # the largest that 64 bits hold
    buffer = BarBuffer("1m", ids="contiguous")
    for number in range(1_000):
        buffer.add_tick(tick(number, number, "0.00000001", size))
    (bar,) = buffer.flush_all()
    assert bar.volume == Decimal(size) * 1_000
    assert bar.quote_volume == Decimal(size) * 1_000 * Decimal("0.00000001")


def test_14_a_stale_subscription_on_a_live_socket_went_unnoticed_or_quiet_symbols_were_cut() -> None:
    silence = Silence(Rates(least_s=10.0, factor=20.0))
    times = np.zeros(3, np.int64)
    found = []
    for second in range(3_000):
        times[0] = second  # trades every second
        times[1] = second // 300  # every five minutes
        times[2] = min(second, 1_000)  # every second, until its subscription dies
        seen = silence.find_silent(float(second), second, times, range(3))
        found += seen.symbols
        assert seen.everything_s is None
    assert found == [2]


async def test_15_queues_were_unbounded_so_that_memory_grew_and_bars_lagged_by_minutes() -> None:
    config = StreamConfig(close_by="trades", queue_size=5)
    async with (
        TradeServer() as server,
        fastbars.stream("binance", ["BTCUSDT"], url=server.url, config=config) as bars,
    ):
        await server.send(*(trade(minute + 1, minute * MINUTE_MS) for minute in range(6)))
        await until(lambda: bars.stats().pauses == 1)
        await server.send(trade(7, 6 * MINUTE_MS))
        await asyncio.sleep(0.05)
        assert bars.stats().session.trades == 6  # the seventh waits on the exchange's side
        received = [(await anext(bars)).last_trade_id for _ in range(5)]
        await until(lambda: bars.stats().session.trades == 7)
        assert [*received, (await anext(bars)).last_trade_id] == [1, 2, 3, 4, 5, 6]


async def test_16_the_backoff_was_reset_before_any_valid_message_so_that_a_refusing_server_was_hammered() -> None:
    async def slam(connection: ServerConnection) -> None:
        await connection.send(b'{"code":3,"msg":"go away"}', text=True)
        await connection.close(1013)

    async with TradeServer(greet=slam) as server:
        adapter, _ = adapter_of(server, reconnect_delay=0.05, reconnect_max_delay=10.0)
        adapter.connections.first.retry.backoff._draw = lambda: 1.0  # the whole delay, every time
        await adapter.connect()
        await until(lambda: len(server.accepted_s) == 5)
        await adapter.disconnect()
        delays = [round(later - earlier, 6) for earlier, later in pairwise(server.accepted_s)]
        assert delays == [0.0, 0.05, 0.1, 0.2]
