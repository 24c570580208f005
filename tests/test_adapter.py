"""Tests of the adapter's life against real servers that fail in every way a network and an exchange can."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection

from fake_clock import Stopwatch
from fastbars import (
    BaseWebSocketAdapter,
    BinanceWebSocketAdapter,
    ConnectionState,
    OHLCVBar,
    StreamConfig,
    TickData,
    clocks,
)
from fastbars.errors import WSConnectionError
from fastbars.exchanges.binance import SPOT
from servers import (
    BINARY,
    CLOSE,
    MINUTE_MS,
    RawServer,
    TradeServer,
    frame,
    free_port,
    keep_silent,
    show,
    trade,
    trades,
    until,
)

DISCONNECTED, CONNECTING, CONNECTED, RECONNECTING, CLOSED = ConnectionState


pytestmark = pytest.mark.usefixtures("no_task_is_left_behind")


class Client:
    """An adapter and everything it told."""

    def __init__(
        self,
        url: str,
        *,
        once: bool = False,
        kind: type[BinanceWebSocketAdapter] = BinanceWebSocketAdapter,
        **knobs: Any,
    ) -> None:
        self.bars: list[OHLCVBar] = []
        self.ticks: list[TickData] = []
        self.states: list[ConnectionState] = []
        defaults: dict[str, Any] = {"reconnect_delay": 0.01, "reconnect_max_delay": 0.01, "close_by": "trades"}
        self.adapter = kind(
            StreamConfig(**defaults | knobs),
            self.ticks.append,
            on_bar=self.bars.append,
            on_state=self.states.append,
            url=url,
            once=once,
        )

    async def start(self, *symbols: str) -> None:
        await self.adapter.connect()
        await self.adapter.subscribe(symbols or ["BTCUSDT"])

    async def heard(self, count: int) -> None:
        await until(lambda: self.adapter.session.stats.trades == count)

    @property
    def ids(self) -> list[int | None]:
        return [tick.trade_id for tick in self.ticks]


# Connecting.


async def test_connecting_subscribing_and_disconnecting_pass_through_the_states() -> None:
    async with TradeServer() as server:
        client = Client(server.url)
        assert (client.adapter.state, client.adapter.is_connected) == (DISCONNECTED, False)
        await client.start()
        assert (client.adapter.state, client.adapter.is_connected) == (CONNECTED, True)
        await server.send(*trades(1, 3))
        await client.heard(3)
        await client.adapter.disconnect()
        assert client.adapter.state is DISCONNECTED
        assert client.states == [CONNECTING, CONNECTED, DISCONNECTED]
        assert client.ids == [1, 2, 3]
        stats = client.adapter.stats()
        assert (stats.state, stats.connections, stats.pauses, stats.breaker_trips) == (DISCONNECTED, 1, 0, 0)
        assert (stats.session.trades, stats.buffer.trades, stats.latency_s) == (3, 3, 0.0)
        assert stats.event_time_ns == client.ticks[-1].time_ns + 1_000_000


async def test_a_refused_connection_is_an_error_that_names_exchange_and_address() -> None:
    url = f"ws://127.0.0.1:{free_port()}/ws"
    client = Client(url)
    with pytest.raises(WSConnectionError, match=f"binance spot: cannot connect to {url}: ") as failed:
        await client.adapter.connect()
    assert isinstance(failed.value.__cause__, OSError)
    assert client.adapter.state is DISCONNECTED
    assert client.states == [CONNECTING, DISCONNECTED]
    with pytest.raises(WSConnectionError, match="cannot connect"):
        await client.adapter.wait_closed()


async def test_after_a_refused_connection_connecting_again_can_succeed() -> None:
    async with TradeServer() as server:
        await server.shut()
        client = Client(server.url)
        with pytest.raises(WSConnectionError, match="cannot connect"):
            await client.adapter.connect()
        await server.open()
        await client.start()
        assert client.adapter.is_connected
        await client.adapter.disconnect()


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://127.0.0.1:80/ws", "scheme isn't ws or wss"),
        ("ws://127.0.0.1:99999/ws", "Port out of range 0-65535"),
        ("ws:///ws", "hostname isn't provided"),
    ],
)
async def test_an_address_that_makes_no_sense_is_an_error_without_a_traceback(
    url: str, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(WSConnectionError, match=why) as failed:
        await Client(url).adapter.connect()
    assert str(failed.value).startswith(f"binance spot: cannot connect to {url}: ")
    assert "Traceback" not in caplog.text


async def test_an_option_that_makes_no_sense_is_an_error_too() -> None:
    async with TradeServer() as server:
        client = Client(server.url, connect_options={"nosuch": 1})
        with pytest.raises(WSConnectionError, match="internal error: TypeError"):
            await client.adapter.connect()


async def test_a_server_that_does_not_answer_the_handshake_is_given_up_after_the_timeout() -> None:
    async with RawServer(mute=True) as server:
        client = Client(server.url, connect_timeout=0.1)
        with pytest.raises(WSConnectionError, match=r"timed out"):
            await client.adapter.connect()


async def test_connecting_twice_is_one_connection() -> None:
    async with TradeServer() as server:
        client = Client(server.url)
        await asyncio.gather(client.adapter.connect(), client.adapter.connect())
        await client.adapter.connect()
        await client.adapter.subscribe(["BTCUSDT"])
        assert len(server.accepted_s) == 1
        assert client.states == [CONNECTING, CONNECTED]
        await client.adapter.disconnect()
        await client.adapter.disconnect()
        assert client.states == [CONNECTING, CONNECTED, DISCONNECTED]


async def test_cancelling_a_second_connect_leaves_the_first_alone() -> None:
    async with RawServer(mute=True) as server:
        client = Client(server.url)
        first = asyncio.create_task(client.adapter.connect())
        await until(lambda: server.accepted)
        second = asyncio.create_task(client.adapter.connect())
        await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        assert client.states == [CONNECTING]
        await client.adapter.disconnect()
        await first


async def test_disconnecting_while_connecting_leaves_nothing() -> None:
    async with RawServer(mute=True) as server:
        client = Client(server.url)
        connecting = asyncio.create_task(client.adapter.connect())
        await until(lambda: server.accepted)
        await client.adapter.disconnect()
        await connecting
        assert client.states == [CONNECTING, DISCONNECTED]
        assert client.adapter.stats().connections == 0


async def test_cancelling_a_connect_takes_it_back() -> None:
    async with RawServer(mute=True) as server:
        client = Client(server.url)
        connecting = asyncio.create_task(client.adapter.connect())
        await until(lambda: server.accepted)
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        assert client.states == [CONNECTING, DISCONNECTED]
        server.mute = False
        await client.adapter.connect()
        assert client.adapter.is_connected
        server.writers[-1].transport.abort()
        await client.adapter.disconnect()


async def test_a_disconnect_that_is_cancelled_is_cancelled_and_still_ends_the_connection() -> None:
    async with RawServer() as server:  # it never answers a close
        client = Client(server.url)
        await client.adapter.connect()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.adapter.disconnect()
        assert client.adapter.state is DISCONNECTED
        server.writers[0].transport.abort()
        await until(lambda: not [task for task in asyncio.all_tasks() if "fastbars" in task.get_name()])


async def test_a_bar_that_begins_while_the_connection_is_being_closed_is_partial_and_no_gap() -> None:
    class Talkative(RawServer):
        async def farewell(self, _: asyncio.StreamWriter) -> bytes:
            return frame(trade(5, 2 * MINUTE_MS)) + frame(b"\x03\xe8", CLOSE)

    anonymous = replace(SPOT, channels={**SPOT.channels, "trade": "none"})
    before = trade(1, 0), trade(2, 1), trade(3, MINUTE_MS), trade(4, MINUTE_MS + 1)
    async with Talkative(behind=b"".join(map(frame, before))) as server:
        bars: list[OHLCVBar] = []
        adapter = BaseWebSocketAdapter(anonymous, StreamConfig(), on_bars=bars.extend, url=server.url)
        await adapter.connect()
        await adapter.disconnect()
        adapter.session.flush(0)
    assert [(bar.trade_count, str(bar.status)) for bar in bars] == [(2, "PARTIAL"), (2, "UNVERIFIABLE"), (1, "PARTIAL")]


async def test_messages_right_behind_the_handshake_reach_the_bars() -> None:
    async with RawServer(behind=b"".join(map(frame, trades(1, 4)))) as server:
        client = Client(server.url)
        await client.adapter.connect()
        assert client.ids == [1, 2, 3, 4]
        server.writers[0].transport.abort()
        await client.adapter.disconnect()


async def test_binary_frames_are_messages_like_others() -> None:
    async with RawServer(chunks=[frame(one, BINARY) for one in trades(1, 4)]) as server:
        client = Client(server.url)
        await client.adapter.connect()
        await client.heard(4)
        server.writers[0].transport.abort()
        await client.adapter.disconnect()


async def test_waiting_for_the_end_of_what_never_began_returns_at_once() -> None:
    await BinanceWebSocketAdapter().wait_closed()
    await BinanceWebSocketAdapter().disconnect()


# Losing the connection.


async def test_after_a_lost_connection_it_subscribes_again_and_the_hole_in_the_ids_is_a_gap() -> None:
    async with TradeServer() as server:
        client = Client(server.url)
        await client.start("BTCUSDT", "ETHUSDT")
        await server.send(trade(1, -1), *trades(2, 3), trade(1, 0, symbol="ETHUSDT"))
        await client.heard(5)
        server.abort()
        await until(lambda: server.streams == ["btcusdt@trade", "ethusdt@trade"] * 2)
        # 4 comes a second time, 5 and 6 were missed
        again = [trade(4, 2), *trades(7, 2, 30), trade(9, MINUTE_MS), trade(10, 2 * MINUTE_MS)]
        await server.send(*again, trade(2, 2 * MINUTE_MS, symbol="ETHUSDT"))
        await client.heard(11)
        await client.adapter.disconnect()
        assert show(bar for bar in client.bars if bar.symbol == "BTCUSDT") == [
            "23:53:00 1m 100 100 100 100 v1 n1 1-1 PARTIAL r0 trade",
            "23:54:00 1m 100 102 100 101 v5 n5 2-8 GAP r0 trade",
            "23:55:00 1m 100 100 100 100 v1 n1 9-9 COMPLETE r0 trade",
        ]
        assert client.adapter.session.missing("BTCUSDT") == [(5, 6)]
        assert client.adapter.session.buffer_stats.duplicates == 1
        assert client.states == [CONNECTING, CONNECTED, RECONNECTING, CONNECTED, DISCONNECTED]


@pytest.mark.parametrize("code", [1000, 1001, 1012, 4321])
async def test_a_close_of_the_server_with_any_code_is_followed_by_a_new_connection(code: int) -> None:
    async with TradeServer() as server:
        client = Client(server.url)
        await client.start()
        await server.close(code, "so long")
        await until(lambda: len(server.requests) == 2)
        assert client.adapter.is_connected
        await server.send(trade(1, 0))
        await client.heard(1)
        await client.adapter.disconnect()


async def test_once_a_normal_close_is_the_end_and_any_other_is_not() -> None:
    async with TradeServer() as server:
        client = Client(server.url, once=True)
        await client.start()
        await server.close(1012)
        await until(lambda: len(server.requests) == 2)
        await server.close(1000)
        await client.adapter.wait_closed()
        assert client.states == [CONNECTING, CONNECTED, RECONNECTING, CONNECTED, DISCONNECTED]
        await client.adapter.disconnect()


async def test_when_no_attempts_are_left_waiting_for_the_end_raises() -> None:
    async with TradeServer() as server:
        client = Client(server.url, reconnect_attempts=3)
        await client.start()
        await server.shut()
        with pytest.raises(WSConnectionError, match=r"cannot connect to .* \(gave up after 3 attempts to reconnect\)$"):
            await client.adapter.wait_closed()
        assert client.states == [CONNECTING, CONNECTED, RECONNECTING, DISCONNECTED]
        with pytest.raises(WSConnectionError, match="gave up after 3 attempts"):
            await client.adapter.wait_closed()
        await client.adapter.disconnect()


async def test_with_no_attempts_allowed_the_first_loss_is_the_end() -> None:
    async with TradeServer() as server:
        client = Client(server.url, reconnect_attempts=0)
        await client.start()
        await server.close(1012, "going down")
        expected = r"ended: closed with code 1012 going down \(gave up after 0 attempts"
        with pytest.raises(WSConnectionError, match=expected):
            await client.adapter.wait_closed()
        assert len(server.accepted_s) == 1


async def test_a_server_that_is_away_for_a_while_is_found_again() -> None:
    async with TradeServer() as server:
        client = Client(server.url)
        await client.start()
        await server.shut()
        await until(lambda: client.adapter.connections.first.retry.backoff.attempts > 3)
        assert client.adapter.state is RECONNECTING
        await client.adapter.subscribe(["ETHUSDT"])  # wanted from the next connection on
        await server.open()
        await until(lambda: len(server.streams) == 3)
        assert server.streams == ["btcusdt@trade", "btcusdt@trade", "ethusdt@trade"]
        await client.adapter.disconnect()


async def test_disconnecting_while_reconnecting_ends_it() -> None:
    async with TradeServer() as server:
        client = Client(server.url, reconnect_delay=60, reconnect_max_delay=60)
        await client.start()
        await server.shut()
        await until(lambda: client.adapter.connections.first.retry.backoff.attempts == 2)
        await client.adapter.disconnect()
        assert client.states == [CONNECTING, CONNECTED, RECONNECTING, DISCONNECTED]


async def test_a_server_that_accepts_and_closes_at_once_sees_growing_delays() -> None:
    async def slam(connection: ServerConnection) -> None:
        await connection.close(1013)

    async with TradeServer(greet=slam) as server:
        client = Client(server.url, reconnect_delay=0.05, reconnect_max_delay=10.0)
        client.adapter.connections.first.retry.backoff._draw = lambda: 1.0  # the whole delay, every time
        await client.adapter.connect()
        await until(lambda: len(server.accepted_s) == 6)
        await client.adapter.disconnect()
        delays = [round(later - earlier, 6) for earlier, later in pairwise(server.accepted_s)]
        assert delays == [0.0, 0.05, 0.1, 0.2, 0.4]


@pytest.mark.parametrize(
    ("payload", "resets"),
    [
        (trade(1, 0), True),
        (b'{"u":1,"s":"BTCUSDT","b":"99","B":"1","a":"101","A":"2"}', True),
        (b'{"e":"depthUpdate","E":1}', True),
        (b'{"result":null,"id":77}', False),
        (b'{"brand":"new"}', False),
        (b"not json", False),
        (b'{"e":"trade"}', False),
    ],
)
async def test_only_a_connection_that_gave_valid_data_starts_the_backoff_over(payload: bytes, resets: bool) -> None:
    async with TradeServer() as server:
        client = Client(server.url, reconnect_max_delay=0.02)
        await client.start()
        server.abort()
        await until(lambda: len(server.requests) == 2)
        assert client.adapter.connections.first.retry.backoff.attempts == 1
        messages = client.adapter.session.stats.messages
        await server.send(payload)
        await until(lambda: client.adapter.session.stats.messages > messages)
        assert client.adapter.connections.first.pair.current is not None
        line = client.adapter.connections.first.pair.current
        await until(lambda: line.age_s > 0.02)
        server.abort()
        await until(lambda: len(server.requests) == 3)
        assert client.adapter.connections.first.retry.backoff.attempts == (1 if resets else 2)
        await client.adapter.disconnect()


async def test_one_message_of_a_server_that_closes_behind_it_does_not_start_the_backoff_over() -> None:
    async def greet(connection: ServerConnection) -> None:
        await connection.send(trade(len(server.accepted_s), 0), text=True)
        await connection.close()

    async with TradeServer(greet=greet) as server:
        client = Client(server.url, reconnect_delay=0.05, reconnect_max_delay=10.0)
        client.adapter.connections.first.retry.backoff._draw = lambda: 1.0  # the whole delay, every time
        await client.adapter.connect()
        await until(lambda: len(server.accepted_s) == 6)
        assert client.adapter.session.stats.trades == 6
        await client.adapter.disconnect()
        delays = [round(later - earlier, 6) for earlier, later in pairwise(server.accepted_s)]
        assert delays == [0.0, 0.05, 0.1, 0.2, 0.4]


async def test_a_message_beyond_the_limit_closes_with_1009_and_a_new_connection_follows() -> None:
    async with TradeServer() as server:
        client = Client(server.url, max_message_bytes=1_000)
        await client.start()
        (first,) = server.connections
        await server.send(trade(1, 0), b" " * 1_001)
        await until(lambda: len(server.requests) == 2)
        assert first.close_code == 1009
        await server.send(trade(2, 1))
        await client.heard(2)
        assert client.ids == [1, 2]
        await client.adapter.disconnect()


# Reconnecting on request.


async def test_reconnect_drops_the_connection_and_returns_when_it_is_up_again() -> None:
    async with TradeServer() as server:
        client = Client(server.url)
        await client.start()
        await client.adapter.reconnect()
        assert (client.adapter.is_connected, len(server.accepted_s)) == (True, 2)
        await until(lambda: server.streams == ["btcusdt@trade"] * 2)
        await client.adapter.disconnect()


async def test_reconnect_before_any_connect_connects() -> None:
    async with TradeServer() as server:
        client = Client(server.url)
        await client.adapter.reconnect()
        assert client.states == [CONNECTING, CONNECTED]
        await client.adapter.disconnect()
        await client.adapter.reconnect()
        assert client.adapter.is_connected
        await client.adapter.disconnect()


async def test_reconnect_from_inside_a_callback_never_waits_for_itself() -> None:
    tasks: list[asyncio.Task[None]] = []
    async with TradeServer() as server:
        client = Client(server.url)

        def reconnect_at_first(tick: TickData) -> None:
            if tick.trade_id == 2:
                tasks.append(asyncio.create_task(client.adapter.reconnect()))

        client.adapter.session.notifier.callbacks.on_tick = reconnect_at_first
        await client.start()
        await server.send(*trades(1, 3))
        await until(lambda: tasks and tasks[0].done())
        assert tasks[0].exception() is None
        assert len(server.requests) == 2
        await server.send(trade(4, 10), trade(5, MINUTE_MS))
        await client.heard(5)
        await client.adapter.disconnect()
        assert show(client.bars) == ["23:54:00 1m 100 102 100 100 v4 n4 1-4 PARTIAL r0 trade"]


async def test_reconnect_while_it_is_reconnecting_already_waits_for_that() -> None:
    async with TradeServer() as server:
        client = Client(server.url)
        await client.start()
        await server.shut()
        await until(lambda: client.adapter.state is RECONNECTING)
        reconnecting = asyncio.create_task(client.adapter.reconnect())
        client.adapter.resume_reading()  # there is nothing to read from; it does no harm
        await server.open()
        await reconnecting
        assert (client.adapter.is_connected, client.adapter.stats().connections) == (True, 2)
        await client.adapter.disconnect()


async def test_two_reconnects_at_once_are_one() -> None:
    async with TradeServer() as server:
        client = Client(server.url)
        await client.start()
        await asyncio.gather(client.adapter.reconnect(), client.adapter.reconnect())
        assert len(server.accepted_s) == 2
        await client.adapter.disconnect()


async def test_reconnect_raises_where_it_cannot_be_brought_back() -> None:
    async with TradeServer() as server:
        client = Client(server.url, reconnect_attempts=2)
        await client.start()
        assert server._server is not None
        server._server.close(close_connections=False)
        with pytest.raises(WSConnectionError, match="gave up after 2 attempts"):
            await client.adapter.reconnect()
        assert client.adapter.state is DISCONNECTED


async def test_a_reconnect_on_request_does_not_end_a_stream_that_is_to_end_once() -> None:
    async with TradeServer() as server:
        client = Client(server.url, once=True)
        await client.start()
        await client.adapter.reconnect()
        assert client.adapter.is_connected
        await client.adapter.disconnect()


# Keepalive.


async def test_a_silent_server_that_answers_no_ping_is_dropped_after_the_timeout() -> None:
    async with RawServer() as server:
        client = Client(server.url, heartbeat_interval=0.1, heartbeat_timeout=0.3)
        watch = Stopwatch()
        await client.adapter.connect()
        await until(lambda: server.accepted == 2)
        assert 0.3 <= watch.seconds <= 0.3 + 0.1  # the timeout, noticed at the next heartbeat
        assert client.states[:3] == [CONNECTING, CONNECTED, RECONNECTING]
        for writer in server.writers:
            writer.transport.abort()
        await client.adapter.disconnect()


async def test_a_quiet_server_that_answers_pings_is_kept() -> None:
    async with TradeServer() as server:
        client = Client(server.url, heartbeat_interval=0.25, heartbeat_timeout=1.5)
        await client.start()
        await asyncio.sleep(4.6)  # three timeouts without a message
        assert len(server.accepted_s) == 1
        assert client.adapter.is_connected
        await client.adapter.disconnect()


async def test_the_latency_is_how_long_a_ping_takes() -> None:
    async def delay(connection: ServerConnection) -> None:
        receive, loop = connection.data_received, asyncio.get_running_loop()
        connection.data_received = lambda data: loop.call_later(0.25, receive, data)  # type: ignore[method-assign, assignment]

    async with TradeServer(greet=delay) as server:
        client = Client(server.url, heartbeat_interval=1.0)
        await client.adapter.connect()
        assert client.adapter.stats().latency_s == 0.0
        await asyncio.sleep(1.5)
        assert round(client.adapter.stats().latency_s, 6) == 0.25
        await client.adapter.disconnect()


async def test_no_silence_is_counted_while_reading_is_paused() -> None:
    async with TradeServer() as server:
        client = Client(server.url, heartbeat_interval=0.25, heartbeat_timeout=0.6)
        await client.start()
        client.adapter.pause_reading()
        await asyncio.sleep(1.9)
        assert len(server.accepted_s) == 1
        await server.send(trade(1, 0))
        client.adapter.resume_reading()
        await client.heard(1)
        assert len(server.accepted_s) == 1
        await client.adapter.disconnect()


# Circuit breaker.


async def test_the_breaker_trips_at_the_threshold_though_good_messages_lie_between() -> None:
    async with TradeServer() as server:
        client = Client(server.url, circuit_breaker_threshold=3, reconnect_delay=0.2, reconnect_max_delay=0.2)
        client.adapter.connections.first.retry.backoff._draw = lambda: 1.0
        await client.start()
        await server.send(trade(1, 0), b"bad", trade(2, 1), b'{"e":"trade"}', trade(3, 2))
        await client.heard(3)
        assert client.adapter.stats().breaker_trips == 0
        watch = Stopwatch()
        await server.send(trade(4, 3), b"bad", trade(5, 4))
        await until(lambda: len(server.requests) == 2)
        assert client.adapter.stats().breaker_trips == 1
        assert 0.2 <= watch.seconds < 0.21  # not at once: the exchange is not well
        assert client.ids == [1, 2, 3, 4, 5]
        await client.adapter.disconnect()


async def test_many_bad_messages_in_one_read_trip_the_breaker_as_often_as_they_reach_it() -> None:
    async with TradeServer() as server:
        client = Client(server.url, circuit_breaker_threshold=3)
        await client.start()
        await server.send(*[b"bad"] * 7)
        await until(lambda: len(server.requests) == 2)
        assert client.adapter.stats().breaker_trips == 2
        assert client.adapter.stats().session.invalid_json == 7
        await client.adapter.disconnect()


# Pausing.


async def test_a_pause_before_the_connection_holds_from_its_beginning() -> None:
    async with TradeServer() as server:
        client = Client(server.url)
        client.adapter.pause_reading()
        client.adapter.pause_reading()
        await client.adapter.connect()
        assert server.connections
        await server.send(trade(1, 0))
        await asyncio.sleep(0.05)
        assert client.ids == []
        client.adapter.resume_reading()
        await client.heard(1)
        assert client.adapter.stats().pauses == 1
        await client.adapter.disconnect()


async def test_disconnecting_while_paused_does_not_wait_for_an_answer_that_is_not_read() -> None:
    async with TradeServer() as server:
        client = Client(server.url)
        await client.start()
        client.adapter.pause_reading()
        watch = Stopwatch()
        await client.adapter.disconnect()
        assert watch.seconds == 0.0


# The clock.


def now_ms() -> int:
    return clocks.wall_ns() // 1_000_000


def recent(trade_id: int, age_ms: int, *, symbol: str = "BTCUSDT") -> bytes:
    """A trade of `age_ms` ago by this machine's clock, sent now."""
    return trade(trade_id, -age_ms, symbol=symbol, start_ms=now_ms(), event_ms=0)


def seconds(client: Client) -> list[str]:
    return [f"{bar.status} r{bar.revision} {bar.close_reason}" for bar in client.bars]


async def test_the_clock_closes_the_bar_of_a_quiet_symbol_on_time() -> None:
    async with TradeServer() as server:
        client = Client(server.url, bars="1s", grace=0.05, close_by="clock")
        await client.start()
        await server.send(recent(1, 0))
        await until(lambda: client.bars)
        late_s = clocks.wall_ns() / 1e9 - client.bars[0].close_time.timestamp()
        assert seconds(client) == ["PARTIAL r0 clock"]
        assert 0.05 <= late_s <= 0.05 + 0.06  # the grace, and a turn of the clock
        await client.adapter.disconnect()


async def test_the_clock_closes_with_a_gap_while_the_feed_is_down() -> None:
    async with TradeServer() as server:
        client = Client(server.url, bars="1s", grace=0.05, close_by="clock")
        await client.start()
        # By the exchange's clock, which is what counts, the second has just begun: it cannot end before the shutdown.
        await server.send(trade(1, -2_000, event_ms=0), trade(2, 0, event_ms=0))
        await client.heard(2)
        await server.shut()
        await until(lambda: len(client.bars) == 2)
        assert client.adapter.state is RECONNECTING
        assert seconds(client) == ["PARTIAL r0 trade", "GAP r0 gap"]
        await server.open()
        await until(lambda: client.adapter.is_connected)
        assert server.connections
        await server.send(trade(3, 1_500, event_ms=1_500))
        await until(lambda: len(client.bars) == 3)
        assert seconds(client)[2] == "COMPLETE r1 gap"  # the next id proves that nothing was missed
        await client.adapter.disconnect()


async def test_no_clock_closes_a_bar_while_reading_is_paused() -> None:
    async with TradeServer() as server:
        client = Client(server.url, bars="1s", grace=0.0, close_by="clock")
        await client.start()
        await server.send(recent(1, 0))
        await client.heard(1)
        client.adapter.pause_reading()
        await until(lambda: client.adapter.session.clock_is_due(clocks.steady_ns()))
        await asyncio.sleep(0.2)  # four turns of the clock
        assert client.bars == []
        client.adapter.resume_reading()
        await until(lambda: client.bars)
        assert seconds(client) == ["PARTIAL r0 clock"]
        await client.adapter.disconnect()


async def test_a_burst_that_filled_the_last_read_does_not_hold_the_clock_back() -> None:
    async with TradeServer() as server:
        client = Client(server.url, bars="1s", grace=0.0, close_by="clock")
        await client.start()
        connection = client.adapter.connections.first.pair.current
        assert connection is not None
        for count in range(1, 200):  # until a read ends exactly with the burst
            await server.send(recent(count, 0) + b" " * 100_000)
            await client.heard(count)
            # Where the clock has just closed the second that it belongs to, there is nothing left to close.
            if connection.last_read_was_full and (not client.bars or client.bars[-1].last_trade_id != count):
                break
        assert connection.last_read_was_full
        bars = len(client.bars)
        await until(lambda: len(client.bars) > bars)
        assert seconds(client)[-1].endswith("clock")
        await client.adapter.disconnect()


async def test_where_only_trades_close_bars_no_clock_does() -> None:
    async with TradeServer() as server:
        client = Client(server.url, bars="1s", grace=0.0, close_by="trades")
        await client.start()
        await server.send(recent(1, 0))
        await client.heard(1)
        await until(lambda: client.adapter.session.clock_is_due(clocks.steady_ns()))
        await asyncio.sleep(0.2)  # four turns of the clock
        assert client.bars == []
        await client.adapter.disconnect()


async def test_the_clock_runs_again_after_connecting_anew() -> None:
    async with TradeServer() as server:
        client = Client(server.url, bars="1s", grace=0.0, close_by="clock", reconnect_attempts=0)
        await client.start()
        server.abort()
        with pytest.raises(WSConnectionError, match="gave up after 0 attempts"):
            await client.adapter.wait_closed()
        await client.start()
        await server.send(recent(1, 0))
        await until(lambda: client.bars)
        assert seconds(client) == ["PARTIAL r0 clock"]
        await client.adapter.disconnect()


# What a user's own code breaks.


class Thirteen(TickData):
    """A trade that cannot be taken, for a reason that nobody expects."""

    @property
    def row(self) -> Any:
        raise RuntimeError("thirteen")


class Explosive(BinanceWebSocketAdapter):
    """Its parser makes such a trade of that with id 13, and raises what no parser should at id 14."""

    def parse_message(self, message: dict[str, Any]) -> TickData | None:
        if message.get("t") == 13:
            return Thirteen("BTCUSDT", 1, "1", "1")
        if message.get("t") == 14:
            raise RuntimeError("fourteen")
        return super().parse_message(message)


async def test_an_error_of_a_users_parser_is_a_parse_error_whatever_its_type() -> None:
    async with TradeServer() as server:
        client = Client(server.url, kind=Explosive)
        await client.start()
        await server.send(trade(12, 0), trade(14, 1), trade(15, 2))
        await until(lambda: client.adapter.session.stats.trades == 2)
        assert client.adapter.session.stats.parse_errors == 1
        assert client.adapter.is_connected
        await client.adapter.disconnect()


async def test_an_error_that_nobody_expected_stops_loudly(caplog: pytest.LogCaptureFixture) -> None:
    async with TradeServer() as server:
        client = Client(server.url, kind=Explosive)
        await client.start()
        await server.send(trade(12, 0), trade(13, 1))
        with pytest.raises(WSConnectionError, match=r"internal error: RuntimeError\('thirteen'\)") as failed:
            await client.adapter.wait_closed()
        assert isinstance(failed.value.__cause__, RuntimeError)
        assert "session_failed exchange='binance spot'" in caplog.text
        assert client.adapter.state is DISCONNECTED


async def test_an_error_behind_the_handshake_stops_as_loudly() -> None:
    async with RawServer(behind=frame(trade(13, 0))) as server:
        client = Client(server.url, kind=Explosive)
        with pytest.raises(WSConnectionError, match=r"internal error: RuntimeError\('thirteen'\)"):
            await client.adapter.connect()
        with pytest.raises(WSConnectionError, match="thirteen"):
            await client.adapter.wait_closed()
        assert client.adapter.state is DISCONNECTED


async def test_an_own_parser_replaces_the_reading_of_trades_through_the_whole_adapter() -> None:
    async with TradeServer() as server:
        client = Client(server.url, kind=Explosive)
        await client.start()
        await server.send(*trades(1, 3), trade(4, MINUTE_MS))
        await client.heard(4)
        await client.adapter.disconnect()
        assert show(client.bars) == ["23:54:00 1m 100 102 100 102 v3 n3 1-3 PARTIAL r0 trade"]


@pytest.mark.parametrize("where", ["clock", "task", "supervisor"])
async def test_an_error_of_our_own_in_any_task_stops_loudly(
    where: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError(where)

    async with TradeServer() as server:
        client = Client(server.url, bars="1s", close_by="clock")
        if where == "clock":
            monkeypatch.setattr(client.adapter.session, "clock_is_due", fail)
        elif where == "task":
            monkeypatch.setattr(client.adapter.connections.first.subscriptions, "subscribe", fail)
        else:
            monkeypatch.setattr(client.adapter.connections.first, "_serve", fail)
        await asyncio.gather(client.adapter.connect(), return_exceptions=True)
        with pytest.raises(WSConnectionError, match=f"internal error: RuntimeError\\('{where}'\\)"):
            await client.adapter.wait_closed()
        assert f"{where}_failed exchange='binance spot'" in caplog.text
        assert client.adapter.state is DISCONNECTED


async def test_a_clock_that_fails_while_the_feed_is_down_ends_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    async with TradeServer() as server:
        client = Client(server.url, bars="1s", close_by="clock")
        await client.start()
        await server.shut()
        await until(lambda: client.adapter.state is RECONNECTING)

        def fail(_: int) -> bool:
            raise RuntimeError("clock")

        monkeypatch.setattr(client.adapter.session, "clock_is_due", fail)
        with pytest.raises(WSConnectionError, match=r"internal error: RuntimeError\('clock'\)"):
            await client.adapter.wait_closed()


async def test_callbacks_that_raise_lose_no_bar_and_no_state(caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("not my day")

    bars: list[OHLCVBar] = []
    async with TradeServer() as server:
        adapter = BaseWebSocketAdapter(
            SPOT, StreamConfig(close_by="trades"), fail, on_bar=fail, on_bars=bars.extend, on_state=fail, url=server.url
        )
        await adapter.connect()
        await adapter.subscribe(["BTCUSDT"])
        await server.send(trade(1, 0), trade(2, MINUTE_MS))
        await until(lambda: bars)
        await adapter.disconnect()
        assert show(bars) == ["23:54:00 1m 100 100 100 100 v1 n1 1-1 PARTIAL r0 trade"]
        assert adapter.session.stats.callback_errors == 6  # those of on_state, too
        assert caplog.text.count("callback_failed") == 6


# Control messages.


async def test_what_the_exchange_says_by_itself_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with TradeServer() as server:
        client = Client(server.url)
        await client.start()
        await server.send(b'{"code":3,"msg":"Invalid JSON"}', b'{"result":null,"id":99}', trade(1, 0))
        await client.heard(1)
        assert client.adapter.session.stats.control == 3
        server.answer = keep_silent  # what the notice leads to is not of interest here
        await server.send(b'{"e":"serverShutdown","E":1723161240000}', trade(2, 0))
        await client.heard(2)
        assert client.adapter.session.stats.control == 4
        assert "exchange_notice exchange='binance spot' reason='the server is about to shut down'" in caplog.text
        assert "exchange_error exchange='binance spot' reason='Invalid JSON (code 3)'" in caplog.text
        await client.adapter.disconnect()


async def test_disconnecting_while_a_subscription_waits_ends_its_waiting() -> None:
    async with TradeServer(keep_silent) as server:
        client = Client(server.url)
        await client.adapter.connect()
        subscribing = asyncio.create_task(client.adapter.subscribe(["BTCUSDT"]))
        await until(lambda: server.requests)
        await client.adapter.disconnect()
        with pytest.raises(WSConnectionError, match="the connection was lost"):
            await subscribing
