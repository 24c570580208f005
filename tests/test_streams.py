"""Tests of `fastbars.stream`: the iterator that most users see, over real sockets."""

from __future__ import annotations

import asyncio
import gc
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import fastbars
from fastbars import MarketDataEvent, OHLCVBar, StreamConfig, TickData
from fastbars.errors import SpecError, SubscriptionError, TapeError, UnknownExchangeError, WSConnectionError
from fastbars.live.callbacks import Callbacks
from fastbars.simulator import SimulatedExchange
from fastbars.streams import BarStream
from servers import MINUTE_MS, START_NS, TradeServer, keep_silent, refuse, show, trade, trades, until

pytestmark = pytest.mark.usefixtures("no_task_is_left_behind")


BY_TRADES = StreamConfig(close_by="trades", reconnect_delay=0.01, reconnect_max_delay=0.01)


def stream_of(server: TradeServer | SimulatedExchange, *symbols: str, **options: Any) -> BarStream:
    options = {"config": BY_TRADES} | options
    return fastbars.stream("binance", symbols or ["BTCUSDT"], url=server.url, **options)


async def rest_of(bars: BarStream) -> list[OHLCVBar]:
    return [bar async for bar in bars]


def tape_of(path: Path, messages: list[bytes]) -> Path:
    path.write_bytes(b"".join(b"%d %b\n" % (n, message) for n, message in enumerate(messages)))
    return path


def minutes(count: int, a_minute: int = 3) -> list[bytes]:
    """Trades of `count` minutes."""
    step_ms = MINUTE_MS // a_minute
    return trades(1, count * a_minute, step_ms=step_ms)


# Iterating.


async def test_lists_of_bars_are_told_a_wakeup_and_one_that_raises_loses_none() -> None:
    told: list[list[str]] = []

    def on_bars(bars: list[OHLCVBar]) -> None:
        told.append(show(bars))
        raise RuntimeError("the user's mistake")

    async with TradeServer() as server, stream_of(server, bars=["1m", "tick:1"], on_bars=on_bars) as bars:
        await server.send(trade(1, 0))
        assert show([await anext(bars)]) == ["23:54:00 tick:1 100 100 100 100 v1 n1 1-1 PARTIAL r0 trade"]
        await bars.stop()
        assert show(await rest_of(bars)) == ["23:54:00 1m 100 100 100 100 v1 n1 1-1 PARTIAL r0 end"]
        assert bars.stats().session.callback_errors == 2
    assert told == [
        ["23:54:00 tick:1 100 100 100 100 v1 n1 1-1 PARTIAL r0 trade"],
        ["23:54:00 1m 100 100 100 100 v1 n1 1-1 PARTIAL r0 end"],
    ]


async def test_finished_bars_come_one_by_one_as_they_are_finished() -> None:
    async with TradeServer() as server, stream_of(server, bars=["1m", "tick:2"]) as bars:
        await server.send(trade(1, 0), trade(2, 1, "101"))
        assert show([await anext(bars)]) == ["23:54:00 tick:2 100 101 100 101 v2 n2 1-2 PARTIAL r0 trade"]
        waiting = asyncio.create_task(anext(bars))
        await server.send(trade(3, MINUTE_MS, "102"))
        assert show([await waiting]) == ["23:54:00 1m 100 101 100 101 v2 n2 1-2 PARTIAL r0 trade"]
        assert server.streams == ["btcusdt@trade"]
        assert bars.stats().session.trades == 3


async def test_once_the_servers_normal_close_ends_the_iteration_with_what_is_open() -> None:
    async with TradeServer() as server, stream_of(server, once=True) as bars:
        await server.send(*minutes(3))
        await server.close(1000)
        assert show(await rest_of(bars)) == [
            "23:54:00 1m 100 102 100 102 v3 n3 1-3 PARTIAL r0 trade",
            "23:55:00 1m 103 105 103 105 v3 n3 4-6 COMPLETE r0 trade",
            "23:56:00 1m 106 108 106 108 v3 n3 7-9 PARTIAL r0 end",
        ]
        assert await rest_of(bars) == []


async def test_stopping_from_another_task_flushes_and_ends_the_iteration() -> None:
    async with TradeServer() as server, stream_of(server) as bars:
        await server.send(*minutes(2))
        consuming = asyncio.create_task(rest_of(bars))
        await until(lambda: bars.stats().session.trades == 6)
        await bars.stop()
        assert show(await consuming) == [
            "23:54:00 1m 100 102 100 102 v3 n3 1-3 PARTIAL r0 trade",
            "23:55:00 1m 103 105 103 105 v3 n3 4-6 PARTIAL r0 end",
        ]
        await bars.stop()


async def test_leaving_early_disconnects_and_what_was_left_can_still_be_had() -> None:
    async with TradeServer() as server:
        async with stream_of(server) as bars:
            await server.send(*minutes(3))
            async for bar in bars:
                assert bar.last_trade_id == 3
                break
        assert not server.connections
        assert [bar.last_trade_id for bar in await rest_of(bars)] == [6, 9]


async def test_several_symbols_and_specs_come_in_the_order_they_are_issued() -> None:
    async with TradeServer() as server, stream_of(server, "BTCUSDT", "ETHUSDT", bars="1m,5m") as bars:
        both = [trade(1, 0), trade(1, 0, symbol="ETHUSDT")]
        await server.send(*both, trade(2, 6 * MINUTE_MS), trade(2, 6 * MINUTE_MS, symbol="ETHUSDT"))
        issued = [await anext(bars) for _ in range(4)]
        assert [(bar.symbol, bar.spec) for bar in issued] == [
            ("BTCUSDT", "1m"),
            ("BTCUSDT", "5m"),
            ("ETHUSDT", "1m"),
            ("ETHUSDT", "5m"),
        ]


async def test_callbacks_are_told_beside_the_iterator() -> None:
    ticks: list[TickData] = []
    seen: list[OHLCVBar] = []
    events: list[MarketDataEvent] = []
    states: list[str] = []
    told: dict[str, list[Any]] = {"on_tick": ticks, "on_bar": seen, "on_event": events, "on_state": states}
    callbacks: dict[str, Any] = {name: heard.append for name, heard in told.items()}
    async with TradeServer() as server:
        async with stream_of(server, **callbacks) as bars:
            await server.send(*minutes(2))
            first = await anext(bars)
        assert [tick.trade_id for tick in ticks] == [1, 2, 3, 4, 5, 6]
        assert seen[0] is first
        assert [type(event.data).__name__ for event in events] == ["TickData"] * 6 + ["OHLCVBar"] * 2
        assert states == ["connecting", "connected", "disconnected"]


async def test_the_wall_clock_closes_bars_unless_only_trades_may() -> None:
    async with SimulatedExchange(symbols=["BTCUSDT"], rate=200.0) as exchange:
        config = StreamConfig(grace=1.0)
        async with stream_of(exchange, bars="1s", config=config) as bars:
            first, second = await anext(bars), await anext(bars)
            assert first.status == "PARTIAL"
            assert second.status in ("COMPLETE", "PROVISIONAL")
            assert second.first_trade_id == (first.last_trade_id or 0) + 1


# The end by failure.


async def test_when_reconnecting_has_failed_the_rest_comes_first_and_then_the_error_once() -> None:
    config = StreamConfig(close_by="trades", reconnect_attempts=2, reconnect_delay=0.01)
    async with TradeServer() as server, stream_of(server, config=config) as bars:
        await server.send(*minutes(2))
        await until(lambda: bars.stats().session.trades == 6)
        await server.shut()
        received: list[OHLCVBar] = []
        with pytest.raises(WSConnectionError, match="gave up after 2 attempts to reconnect"):
            await move(bars, received)
        assert show(received) == [
            "23:54:00 1m 100 102 100 102 v3 n3 1-3 PARTIAL r0 trade",
            "23:55:00 1m 103 105 103 105 v3 n3 4-6 GAP r0 end",  # lost, and nobody knows what came then
        ]
        assert await rest_of(bars) == []


async def move(bars: BarStream, received: list[OHLCVBar]) -> None:
    async for bar in bars:
        received.append(bar)


async def test_a_connection_lost_in_between_shows_as_gap_bars_and_the_iteration_goes_on() -> None:
    async with TradeServer() as server, stream_of(server) as bars:
        await server.send(trade(1, -1), trade(2, 0))
        await until(lambda: bars.stats().session.trades == 2)
        server.abort()
        await until(lambda: len(server.requests) == 2)
        await server.send(trade(5, 10), trade(6, MINUTE_MS))
        assert show([await anext(bars), await anext(bars)]) == [
            "23:53:00 1m 100 100 100 100 v1 n1 1-1 PARTIAL r0 trade",
            "23:54:00 1m 100 100 100 100 v2 n2 2-5 GAP r0 trade",
        ]
        assert bars.stats().connections == 2


async def test_an_error_on_entering_leaves_nothing_behind() -> None:
    async with TradeServer(refuse("nosuch@trade")) as server:
        refused = stream_of(server, "BTCUSDT", "NOSUCH")
        with pytest.raises(SubscriptionError, match="binance spot refused NOSUCH@trade"):
            await refused.__aenter__()
        assert refused.adapter.state == "disconnected"
        assert not server.connections
        await server.shut()
        with pytest.raises(WSConnectionError, match="cannot connect"):
            await stream_of(server).__aenter__()
    gc.collect()  # a future or task whose error nobody took would complain now


async def test_stopping_while_entering_ends_in_an_empty_iteration() -> None:
    async with TradeServer(keep_silent) as server:
        bars = stream_of(server)
        entering = asyncio.create_task(bars.__aenter__())
        await until(lambda: server.requests)
        await bars.stop()
        with pytest.raises(WSConnectionError, match="the connection was lost"):
            await entering
        assert await rest_of(bars) == []


async def test_cancelling_while_entering_leaves_nothing_behind() -> None:
    async with TradeServer(keep_silent) as server:
        bars = stream_of(server)
        entering = asyncio.create_task(bars.__aenter__())
        await until(lambda: server.requests)
        entering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await entering
        assert not server.connections


# A slow consumer.


async def test_a_slow_consumer_stops_the_reading_and_loses_no_bar(tmp_path: Path) -> None:
    messages = [trade(n, 20_000 * n, str(n), "0.5") + b" " * 1_000 for n in range(1, 12_001)]
    expected = list(fastbars.replay(tape_of(tmp_path / "tape", messages), "binance"))
    config = StreamConfig(close_by="trades", queue_size=16)
    # Whoever closes waits for what it has sent to be taken.
    async with TradeServer(close_timeout=30) as server, stream_of(server, config=config, once=True) as bars:
        sending = asyncio.create_task(server.send(*messages))
        await until(lambda: bars.stats().pauses)
        await asyncio.sleep(60)
        assert server.connections[0].transport.get_write_buffer_size() > 0  # the exchange itself has to wait
        trades_read = bars.stats().session.trades
        assert trades_read < len(messages)
        received = [await anext(bars) for _ in range(10)]
        closing = asyncio.create_task(server.close(1000))
        received += await rest_of(bars)
        await asyncio.gather(sending, closing)
        assert show(received) == show(expected)
        assert received == expected
        assert bars.stats().pauses > 1
    assert len(received) == 4_001


async def test_the_queue_holds_no_more_than_its_size_and_what_one_read_brought() -> None:
    config = StreamConfig(close_by="trades", queue_size=5)
    async with TradeServer() as server, stream_of(server, config=config) as bars:
        await server.send(*(trade(minute + 1, minute * MINUTE_MS) for minute in range(5)))
        await until(lambda: bars.stats().session.trades == 5)
        assert bars.stats().pauses == 0
        await server.send(trade(6, 5 * MINUTE_MS))
        await until(lambda: bars.stats().pauses == 1)
        await server.send(trade(7, 6 * MINUTE_MS))
        await asyncio.sleep(0.05)
        assert bars.stats().session.trades == 6
        for last_id in (1, 2):
            assert (await anext(bars)).last_trade_id == last_id
        await asyncio.sleep(0.05)
        assert bars.stats().session.trades == 6  # half of it must be gone before reading goes on
        assert (await anext(bars)).last_trade_id == 3
        await until(lambda: bars.stats().session.trades == 7)


# Arguments.


def test_arguments_that_make_no_sense_are_errors_at_once() -> None:
    with pytest.raises(TypeError, match="symbols must be a list of strings"):
        fastbars.stream("binance", "BTCUSDT")
    with pytest.raises(UnknownExchangeError, match="unknown exchange 'bitso'"):
        fastbars.stream("bitso", ["BTCUSDT"])
    with pytest.raises(UnknownExchangeError, match="unknown market 'margin'"):
        fastbars.stream("binance", ["BTCUSDT"], market="margin")
    with pytest.raises(SpecError, match="bar spec '1 m' is not known"):
        fastbars.stream("binance", ["BTCUSDT"], bars="1 m")
    with pytest.raises(SubscriptionError, match="'kline_1m' is not a trade channel"):
        fastbars.stream("binance", ["BTCUSDT"], channel="kline_1m")
    with pytest.raises(TypeError, match="on_nothing"):
        fastbars.stream("binance", ["BTCUSDT"], on_nothing=print)  # type: ignore[call-overload]


def test_a_stream_connects_to_the_route_of_its_trade_channel() -> None:
    of = fastbars.stream("binance", ["BTCUSDT"], market="usdm", channel="aggTrade")
    assert of.adapter.url == "wss://fstream.binance.com/market/ws"
    assert of.adapter.session.channel == "aggTrade"


def test_bars_given_replace_those_of_the_configuration() -> None:
    of = fastbars.stream("binance", ["BTCUSDT"], "5m", config=StreamConfig(bars="1h", queue_size=7))
    assert [str(spec) for spec in of.adapter.config.specs] == ["5m"]
    assert of.adapter.config.queue_size == 7


def test_run_gives_what_the_coroutine_returns_and_runs_it_on_uvloop() -> None:
    async def main() -> str:
        return type(asyncio.get_running_loop()).__module__

    uvloop = pytest.importorskip("uvloop")
    assert fastbars.run(main()) == uvloop.Loop.__module__


def test_the_public_names_load_on_first_use_and_no_others_exist() -> None:
    for name in fastbars.__all__:
        assert getattr(fastbars, name) is not None
    assert dir(fastbars) == fastbars.__all__
    with pytest.raises(AttributeError, match="module 'fastbars' has no attribute 'nosuch'"):
        fastbars.nosuch  # noqa: B018


# Replaying tapes.


def test_a_replay_closes_by_trades_and_ends_with_what_is_open(tmp_path: Path) -> None:
    bars = fastbars.replay(tape_of(tmp_path / "tape", minutes(2)), "binance", ["1m", "tick:4"])
    assert show(bars) == [
        "23:54:00 1m 100 102 100 102 v3 n3 1-3 PARTIAL r0 trade",
        "23:54:00 tick:4 100 103 100 103 v4 n4 1-4 PARTIAL r0 trade",
        "23:55:00 1m 103 105 103 105 v3 n3 4-6 PARTIAL r0 end",
        "23:55:20 tick:4 104 105 104 105 v2 n2 5-6 PARTIAL r0 end",
    ]


def test_several_tapes_are_one_stream_in_the_order_given(tmp_path: Path) -> None:
    messages = minutes(40)
    whole = tape_of(tmp_path / "whole", messages)
    parts = [tape_of(tmp_path / str(start), messages[start : start + 50]) for start in range(0, 120, 50)]
    assert list(fastbars.replay(parts, "binance")) == list(fastbars.replay(str(whole), "binance"))


def test_a_long_tape_is_read_in_batches_that_do_not_show(tmp_path: Path) -> None:
    messages = trades(1, 10_000, step_ms=100)
    replaying = fastbars.replay(tape_of(tmp_path / "tape", messages), "binance")
    bars = list(replaying)
    assert [bar.trade_count for bar in bars] == [600] * 16 + [400]
    assert replaying.session.stats.messages == 10_000


def test_the_bars_before_a_fault_of_the_tape_come_first(tmp_path: Path) -> None:
    tape = tape_of(tmp_path / "tape", minutes(2))
    tape.write_bytes(tape.read_bytes() + b"\x00garbage\n" + b"7 {}\n")
    received: list[OHLCVBar] = []
    with pytest.raises(TapeError, match="line 7: not a line of any tape format"):
        received.extend(fastbars.replay(tape, "binance"))
    assert [bar.last_trade_id for bar in received] == [3, 6]
    with pytest.raises(TapeError, match="missing: cannot be read"):
        list(fastbars.replay(tmp_path / "missing", "binance"))


def test_a_replay_tells_the_callbacks_with_the_recorded_times_of_receipt(tmp_path: Path) -> None:
    events: list[MarketDataEvent] = []
    tape = tape_of(tmp_path / "tape", [trade(1, 0), trade(2, MINUTE_MS)])
    list(fastbars.replay(tape, "binance", callbacks=Callbacks(on_event=events.append)))
    assert [event.event_time_ns for event in events] == [
        START_NS,
        START_NS + 60_000_000_000,
        START_NS + 60_000_000_000,
        START_NS + 120_000_000_000,
    ]
    assert [event.receive_time_ns for event in events] == [1, 1, 1, 0]


def test_a_replay_of_another_channel_or_exchange_is_refused_at_once() -> None:
    with pytest.raises(SubscriptionError, match="'kline_1m' is not a trade channel"):
        fastbars.replay("tape", "binance", channel="kline_1m")
    with pytest.raises(UnknownExchangeError, match="unknown exchange 'nosuch'"):
        fastbars.replay("tape", "nosuch")
    with pytest.raises(SpecError, match="bar spec '9x' is not known"):
        fastbars.replay("tape", "binance", "9x")


async def test_a_stream_of_a_served_tape_equals_its_replay(tmp_path: Path) -> None:
    messages = [*minutes(5), *trades(40, 5, 5 * MINUTE_MS)]  # with a hole
    tape = tape_of(tmp_path / "tape", messages)
    async with SimulatedExchange(tapes=[tape]) as exchange, stream_of(exchange, bars="1m,tick:4", once=True) as bars:
        assert await rest_of(bars) == list(fastbars.replay(tape, "binance", "1m,tick:4"))


async def test_a_stream_can_be_entered_though_more_bars_wait_for_its_loop_than_its_queue_holds(tmp_path: Path) -> None:
    # Reading was paused before anybody could iterate, so that the answer to the first request was never read.
    config = StreamConfig(state=tmp_path / "state", queue_size=5, grace=0.1, check_symbols=False)
    async with SimulatedExchange(symbols=["BTCUSDT"], rate=50, record=True) as exchange:
        with suppress(ZeroDivisionError):
            async with fastbars.stream("binance", ["BTCUSDT"], "1s", url=exchange.url, config=config):
                await asyncio.sleep(20.0)
                raise ZeroDivisionError  # nothing that was issued is confirmed
        async with fastbars.stream("binance", ["BTCUSDT"], "1s", url=exchange.url, config=config) as bars:
            loop = aiter(bars)
            taken = [await anext(loop) for _ in range(9)]
        opened = [bar.open_time for bar in taken]
        assert opened == sorted(opened)
        assert taken[0].status == "PARTIAL"
