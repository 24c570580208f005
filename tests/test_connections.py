"""Tests of spreading symbols over connections: the exchange's limits hold as the exchange sees them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.frames import Frame

import fastbars
from fastbars import BaseWebSocketAdapter, ConnectionState, OHLCVBar, StreamConfig, clocks
from fastbars.bars import BarStatus
from fastbars.cli.output import csv_line
from fastbars.errors import SubscriptionError, WSConnectionError
from fastbars.exchanges.binance import SPOT
from fastbars.exchanges.declaration import Exchange, Limits
from fastbars.simulator import Fault, FaultKind, Faults, SimulatedExchange
from fastbars.streams import BarStream
from fastbars.tapes.recording import read_recording
from fastbars.ticks import to_nanoseconds
from servers import MINUTE_MS, Answer, Request, TradeServer, acknowledge, refuse, show, trade, until

pytestmark = pytest.mark.usefixtures("no_task_is_left_behind")


class StrictExchange(TradeServer):
    """Counts what its limits forbid, connection by connection, and sends each trade to whoever subscribed to it."""

    def __init__(self, limits: Limits, answer: Answer = acknowledge) -> None:
        super().__init__(self._obey, greet=self._greet)
        self.limits = limits
        self.held: dict[ServerConnection, set[str]] = {}
        self.offences: list[str] = []
        self._reply = answer
        self._times: dict[ServerConnection, list[float]] = {}

    async def _greet(self, connection: ServerConnection) -> None:
        self.held[connection] = set()
        self._times[connection] = []
        if self.limits.connects is not None:
            most, window_s = self.limits.connects
            recent = [at for at in self.accepted_s if self.accepted_s[-1] - at < window_s]
            self._forbid(len(recent) > most, f"{len(recent)} connects in {window_s} s")
        # Each frame as it arrives; pings and pongs count too.
        receive = connection.protocol.receive_data

        def count(data: bytes | bytearray) -> None:
            receive(data)
            for event in connection.protocol.events:
                if isinstance(event, Frame):
                    self._count(connection, len(event.data))

        connection.protocol.receive_data = count  # type: ignore[method-assign]

    def _count(self, connection: ServerConnection, size: int) -> None:
        now = clocks.steady_s()
        times = self._times[connection]
        times.append(now)
        recent = sum(now - at < 1.0 for at in times)
        self._forbid(recent > self.limits.requests_per_second, f"{recent} frames in a second")
        self._forbid(size > (self.limits.request_bytes or 2**31), f"a frame of {size} bytes")

    def _obey(self, request: Request) -> Request | None:
        names = request["params"]
        self._forbid(len(names) > self.limits.streams_per_request, f"{len(names)} streams in a request")
        reply = self._reply(request)
        connection = self.asking
        if reply is not None and "error" not in reply:
            held = self.held[connection]
            if request["method"] == "SUBSCRIBE":
                self._forbid(bool(held & set(names)), "a stream twice")
                held |= set(names)
            else:
                held -= set(names)
            self._forbid(len(held) > self.limits.streams_per_connection, f"{len(held)} streams on a connection")
        return reply

    async def _serve(self, connection: ServerConnection) -> None:
        await super()._serve(connection)
        self.held.pop(connection, None)

    def _forbid(self, offence: bool, what: str) -> None:
        if offence:
            self.offences.append(what)

    @property
    def spread(self) -> list[int]:
        """Streams held by each connection."""
        return sorted(len(held) for held in self.held.values())

    async def trade_all(self, trade_id: int, offset_ms: int) -> None:
        """One trade of every stream that is held."""
        for connection, held in list(self.held.items()):
            for name in sorted(held):
                symbol = name.split("@")[0].upper()
                connection.protocol.send_text(trade(trade_id, offset_ms, symbol=symbol))
            connection.send_data()


def exchange_of(limits: Limits) -> Exchange:
    return replace(SPOT, limits=limits)


class Streamed:
    """A stream from a strict exchange, and its bars."""

    def __init__(self, server: StrictExchange, symbols: Sequence[str] = (), **knobs: Any) -> None:
        self.states: list[ConnectionState] = []
        quick: dict[str, Any] = {"close_by": "trades", "reconnect_delay": 0.01, "reconnect_max_delay": 0.01}
        config = StreamConfig(**quick | knobs)
        exchange = exchange_of(server.limits)

        def make_adapter() -> BaseWebSocketAdapter:
            return BaseWebSocketAdapter(exchange, config, on_state=self.states.append, url=server.url)

        self.bars = BarStream(make_adapter, symbols, 100_000)

    async def __aenter__(self) -> BarStream:
        return await self.bars.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.bars.__aexit__(kind, error, trace)


def symbols_of(count: int, start: int = 0) -> list[str]:
    return [f"S{number}USDT" for number in range(start, start + count)]


SMALL = Limits(4, 3, 1000)


# To the letter.


@pytest.mark.parametrize(
    ("limits", "connections"),
    [
        (replace(SPOT.limits, request_bytes=4096), 3),
        (Limits(250, 50, 20, request_bytes=800, connects=(6, 1.0)), 12),
    ],
)
async def test_3000_symbols_over_many_connections_hold_the_limits_to_the_letter(
    limits: Limits, connections: int
) -> None:
    symbols = symbols_of(3_000)
    async with StrictExchange(limits) as server, Streamed(server, symbols, heartbeat_interval=0.3) as bars:
        assert server.offences == []
        assert len(server.held) == connections
        assert max(server.spread) - min(server.spread) <= 1
        assert {name for held in server.held.values() for name in held} == {f"{s.lower()}@trade" for s in symbols}
        for trade_id, offset_ms in ((1, 0), (2, MINUTE_MS)):
            await server.trade_all(trade_id, offset_ms)
        finished = [await anext(bars) for _ in range(3_000)]
        assert {bar.symbol for bar in finished} == set(symbols)
        assert {(bar.trade_count, bar.first_trade_id) for bar in finished} == {(1, 1)}
        assert bars.stats().session.trades == 6_000
        server.abort()  # everything at once
        await until(lambda: bars.stats().connections == 2 * connections, timeout_s=60)
        await until(lambda: len(server.held) == connections and sum(server.spread) == 3_000, timeout_s=60)
        assert server.offences == []


# Spreading.


async def test_one_connection_is_enough_where_the_limits_allow_it() -> None:
    async with StrictExchange(SMALL) as server, Streamed(server, symbols_of(4)) as bars:
        assert server.spread == [4]
        assert bars.adapter.state is ConnectionState.CONNECTED
        assert bars.adapter.active_subscriptions == {symbol: {"trade"} for symbol in symbols_of(4)}


async def test_symbols_are_spread_evenly_over_as_many_connections_as_are_needed() -> None:
    async with StrictExchange(SMALL) as server, Streamed(server, symbols_of(9)) as bars:
        assert server.spread == [3, 3, 3]
        await bars.subscribe(symbols_of(3, start=9))
        assert server.spread == [4, 4, 4]
        await bars.subscribe(symbols_of(2, start=12))
        assert server.spread == [2, 4, 4, 4]
        assert server.offences == []


async def test_a_smaller_limit_of_the_users_own_holds() -> None:
    async with StrictExchange(SMALL) as server, Streamed(server, symbols_of(6), streams_per_connection=2):
        assert server.spread == [2, 2, 2]


async def test_what_is_added_goes_where_there_is_room_and_what_is_held_stays_where_it_is() -> None:
    async with StrictExchange(SMALL) as server, Streamed(server, symbols_of(8)) as bars:
        await bars.unsubscribe(symbols_of(8)[::2][:2])
        assert server.spread == [2, 4]
        await bars.subscribe([*symbols_of(8)[1::2], "NEWUSDT"])
        assert server.spread == [3, 4]
        assert len(server.held) == 2
        assert server.offences == []


async def test_a_connection_that_has_become_empty_is_closed_and_its_counts_stay() -> None:
    async with StrictExchange(SMALL) as server, Streamed(server, symbols_of(8)) as bars:
        await server.trade_all(1, 0)
        await until(lambda: bars.stats().session.trades == 8)
        second = bars.adapter.connections.supervisors[1]
        await bars.unsubscribe([symbol for symbol, _ in second.subscriptions.desired])
        assert server.spread == [4]
        assert len(bars.adapter.connections.supervisors) == 1
        assert bars.stats().connections == 2
        assert bars.stats().session.trades == 8
        assert bars.stats().buffer.trades == 8
        ended = [await anext(bars) for _ in range(4)]
        assert {bar.close_reason for bar in ended} == {"end"}
        await bars.unsubscribe(list(bars.adapter.active_subscriptions))
        assert server.spread == [0]  # one stays
        await bars.subscribe(["NEWUSDT"])
        assert server.spread == [1]


@pytest.mark.parametrize("most", [2, 4, 8])
async def test_a_restart_with_another_number_of_connections_continues_from_the_same_snapshot(
    most: int, tmp_path: Path
) -> None:
    symbols = symbols_of(8)
    knobs: dict[str, Any] = {"state": tmp_path / "state", "heal": False}
    async with StrictExchange(replace(SMALL, streams_per_connection=8)) as server:
        async with Streamed(server, symbols, streams_per_connection=4, **knobs) as bars:
            assert server.spread == [4, 4]
            await server.trade_all(1, 0)
            await until(lambda: bars.stats().session.trades == 8)
        assert not server.held
        assert os.listdir(tmp_path) == ["state"]
        again = [symbols[3], "NEWUSDT", *symbols[:3:-1], *symbols[1:3]]
        async with Streamed(server, again, streams_per_connection=most, **knobs) as bars:
            assert len(server.held) == -(-8 // most)
            left = await asyncio.wait_for(anext(bars), 10)  # nobody asked for it again
            assert (left.symbol, left.status, left.close_reason) == ("S0USDT", BarStatus.PARTIAL, "end")
            await server.trade_all(2, MINUTE_MS)
            finished = [await anext(bars) for _ in range(7)]
            assert {(bar.symbol, bar.trade_count, bar.last_trade_id) for bar in finished} == {
                (symbol, 1, 1) for symbol in symbols[1:]
            }


async def test_refusals_of_several_connections_are_one_error_and_harm_no_other() -> None:
    async with StrictExchange(SMALL, refuse("s0usdt@trade", "s5usdt@trade")) as server, Streamed(server) as bars:
        with pytest.raises(SubscriptionError) as refused:
            await bars.subscribe(symbols_of(8))
        assert sorted(refused.value.symbols) == ["S0USDT", "S5USDT"]
        assert str(refused.value).count("binance spot refused") == 1
        assert sum(server.spread) == 6
        assert "S0USDT" not in bars.adapter.active_subscriptions


async def test_an_address_that_subscribes_by_itself_is_connected_to_once_where_trades_have_no_ids() -> None:
    async with TradeServer() as server:
        for ids, count in (("contiguous", 2), ("none", 1)):
            channels: dict[str, Any] = {**SPOT.channels, "trade": ids}
            exchange = replace(SPOT, channels=channels, limits=Limits(2, 2, 1000))
            adapter = BaseWebSocketAdapter(exchange, StreamConfig(), url=f"{server.url}/btcusdt@trade")
            await adapter.connect()
            if count == 1:
                with pytest.raises(
                    SubscriptionError, match="binance spot: a second connection to an address that subs"
                ):
                    await adapter.subscribe(symbols_of(3))
            else:
                await adapter.subscribe(symbols_of(3))
            assert len(adapter.connections.supervisors) == count
            await adapter.disconnect()


async def test_a_connection_all_of_whose_symbols_are_refused_is_closed() -> None:
    async with StrictExchange(Limits(1, 1, 1000), refuse("s1usdt@trade")) as server, Streamed(server) as bars:
        with pytest.raises(SubscriptionError, match="S1USDT"):
            await bars.subscribe(symbols_of(2))
        assert server.spread == [1]


async def test_more_than_one_address_may_have_is_refused_before_anything_is_asked() -> None:
    limits = Limits(4, 3, 1000, connections=3, streams=100)
    async with StrictExchange(limits) as server, Streamed(server) as bars:
        with pytest.raises(SubscriptionError) as refused:
            await bars.subscribe(symbols_of(9))
        assert str(refused.value) == (
            "binance spot: 9 streams need 3 connections of 4, and 2 are allowed from one address (one more is kept"
            " for handovers)"
        )
        with pytest.raises(SubscriptionError, match=r"101 streams are over the limit of 100 from one address$"):
            await bars.subscribe(symbols_of(101))
        with pytest.raises(SubscriptionError, match="unknown channel 'nosuch'"):
            await bars.subscribe(symbols_of(1), ["nosuch"])
        assert server.requests == []
        assert bars.adapter.active_subscriptions == {}
        await bars.subscribe(symbols_of(8))
        assert server.spread == [4, 4]


async def test_streams_of_different_routes_go_to_connections_of_their_own() -> None:
    async with StrictExchange(SMALL) as public, StrictExchange(SMALL) as market:
        routes = {public.url: ("trade", "bookTicker"), market.url: ("aggTrade", "kline_*")}
        exchange = replace(SPOT, routes=routes, limits=SMALL)
        adapter = BaseWebSocketAdapter(exchange, StreamConfig(close_by="trades"))
        await adapter.connect()
        await adapter.subscribe(["BTCUSDT"], ["kline_1m", "trade", "bookTicker"])
        assert (public.streams, market.streams) == (["btcusdt@trade", "btcusdt@bookTicker"], ["btcusdt@kline_1m"])
        await adapter.subscribe(symbols_of(4), ["kline_1m"])
        assert (public.spread, market.spread) == ([2], [2, 3])
        await adapter.disconnect()


# States and ends.


async def test_the_state_of_the_whole_is_told_and_only_when_it_changes() -> None:
    async with StrictExchange(SMALL) as server:
        streamed = Streamed(server, symbols_of(8))
        async with streamed as bars:
            next(iter(server.held)).transport.abort()
            await until(lambda: ConnectionState.RECONNECTING in streamed.states)
            assert bars.adapter.state is ConnectionState.CONNECTED
        names = [str(state) for state in streamed.states]
        assert names == ["connecting", "connected", "reconnecting", "connected", "disconnected"]


async def test_a_connection_that_is_lost_for_good_ends_the_whole_with_its_error() -> None:
    async with StrictExchange(SMALL) as server, Streamed(server, symbols_of(8), reconnect_attempts=0) as bars:
        await server.trade_all(1, 0)
        await until(lambda: bars.stats().session.trades == 8)
        next(iter(server.held)).transport.abort()
        left: list[OHLCVBar] = []
        with pytest.raises(WSConnectionError, match="gave up after 0 attempts"):
            left.extend([bar async for bar in bars])
        assert bars.adapter.state is ConnectionState.DISCONNECTED
        assert not server.held


async def adapter_of(server: StrictExchange, count: int, **knobs: Any) -> BaseWebSocketAdapter:
    """An adapter that is connected and subscribed to so many symbols."""
    quick: dict[str, Any] = {"close_by": "trades", "reconnect_delay": 0.01, "reconnect_max_delay": 0.01}
    adapter = BaseWebSocketAdapter(exchange_of(server.limits), StreamConfig(**quick | knobs), url=server.url)
    await adapter.connect()
    await adapter.subscribe(symbols_of(count))
    return adapter


@pytest.mark.parametrize("place", [0, 1, 2, 5])
async def test_an_error_of_our_own_on_any_connection_of_any_line_ends_all_of_them(place: int) -> None:
    async with StrictExchange(SMALL) as server:
        adapter = await adapter_of(server, 9, lines=2)
        supervisors = adapter.connections.supervisors
        await until(lambda: len(supervisors) == 6 and all(each.is_whole for each in supervisors))
        supervisors[place].fail(RuntimeError("unforeseen"))
        with pytest.raises(WSConnectionError, match="internal error: RuntimeError"):
            await adapter.wait_closed()
        assert adapter.state is ConnectionState.DISCONNECTED
        await until(lambda: not server.held)
        await adapter.connect()  # and it can be started again
        await until(lambda: all(each.is_whole for each in supervisors))
        await adapter.disconnect()
        await adapter.wait_closed()
        assert not server.held


async def test_a_line_that_has_given_up_is_tried_again_and_ends_nothing() -> None:
    async with StrictExchange(SMALL) as first, StrictExchange(SMALL) as second:
        exchange = replace(SPOT, limits=SMALL, routes={first.url: ("trade",), second.url: ("trade",)})
        config = StreamConfig(lines=2, reconnect_attempts=1, reconnect_delay=0.01, reconnect_max_delay=0.02)
        adapter = BaseWebSocketAdapter(exchange, config)
        await adapter.connect()
        await adapter.subscribe(symbols_of(6))
        supervisors = adapter.connections.supervisors
        await until(lambda: all(each.is_whole for each in supervisors))
        assert (first.spread, second.spread) == ([3, 3], [3, 3])
        await second.shut()
        gone = adapter.connections.of_line(1)
        await until(lambda: all(each.state is ConnectionState.DISCONNECTED for each in gone))
        assert adapter.state is ConnectionState.CONNECTED
        await second.open()
        await until(lambda: all(each.is_whole for each in supervisors))
        assert second.spread == [3, 3]
        await adapter.disconnect()


async def test_a_first_attempt_that_fails_for_one_of_several_connections_leaves_none_open() -> None:
    async with StrictExchange(SMALL) as public, StrictExchange(SMALL) as market:
        routes = {public.url: ("trade",), market.url: ("aggTrade",)}
        adapter = BaseWebSocketAdapter(replace(SPOT, routes=routes, limits=SMALL), StreamConfig(close_by="trades"))
        await adapter.subscribe(["AUSDT"], ["trade", "aggTrade"])
        await market.shut()
        for _ in range(2):
            with pytest.raises(WSConnectionError, match="cannot connect to"):
                await adapter.connect()
            assert adapter.state is ConnectionState.DISCONNECTED
            assert not public.held
        await market.open()
        await adapter.connect()
        await until(lambda: (public.spread, market.spread) == ([1], [1]))
        await adapter.close()
        assert adapter.state is ConnectionState.CLOSED
        with pytest.raises(WSConnectionError, match="closed for good"):
            await adapter.connect()


async def test_one_of_several_that_cannot_be_opened_is_an_error_of_that_call_alone() -> None:
    async with StrictExchange(SMALL) as server:
        adapter = await adapter_of(server, 4)
        assert server._server is not None
        server._server.close(close_connections=False)
        with pytest.raises(WSConnectionError, match="cannot connect to"):
            await adapter.subscribe(symbols_of(4, start=4))
        assert adapter.active_subscriptions.keys() == set(symbols_of(4))
        assert (adapter.state, len(adapter.connections.supervisors)) == (ConnectionState.CONNECTED, 1)
        await adapter.unsubscribe(symbols_of(4))
        await adapter.disconnect()


async def test_disconnecting_while_a_connection_is_added_leaves_nothing() -> None:
    async def slow_handshake(*_: object) -> None:
        await asyncio.sleep(0.5 if server.accepted_s else 0.0)

    async with TradeServer(process_request=slow_handshake) as server:
        adapter = BaseWebSocketAdapter(exchange_of(SMALL), StreamConfig(close_by="trades"), url=server.url)
        await adapter.connect()
        await adapter.subscribe(symbols_of(4))
        adding = asyncio.create_task(adapter.subscribe(symbols_of(4, start=4)))
        await until(lambda: len(adapter.connections.supervisors) == 2)
        await adapter.disconnect()
        await asyncio.wait([adding])
        assert adapter.state is ConnectionState.DISCONNECTED
        assert not server.connections


async def test_reconnecting_makes_every_connection_anew() -> None:
    async with StrictExchange(SMALL) as server:
        adapter = await adapter_of(server, 9)
        await adapter.reconnect()
        await until(lambda: server.spread == [3, 3, 3])
        assert adapter.stats().connections == 6
        await adapter.disconnect()
        await adapter.reconnect()  # connects where nothing is
        await until(lambda: server.spread == [3, 3, 3])
        await adapter.disconnect()


async def test_connections_have_numbers_of_their_own_which_modulo_the_lines_are_the_line() -> None:
    async with StrictExchange(SMALL) as server:
        adapter = await adapter_of(server, 9, lines=3)
        supervisors = adapter.connections.supervisors
        await until(lambda: all(each.is_whole for each in supervisors))
        adapter.connections._last_number = 65_499  # after some weeks
        seen: list[int] = []
        for count in (9, 18, 27, 36):
            await until(lambda: adapter.stats().connections == count)  # noqa: B023 it is waited for here
            await until(lambda: all(each.is_whole for each in supervisors))
            numbers = [connection.number for connection in adapter.connections.up]
            assert len({*numbers}) == 9
            assert [number % 3 for number in numbers] == [each.line for each in supervisors]
            seen += numbers
            server.abort()
        assert max(seen) < 65_536
        await adapter.disconnect()


async def test_a_slow_consumer_stops_the_reading_of_every_connection() -> None:
    async with StrictExchange(SMALL) as server, Streamed(server, symbols_of(8)) as bars:
        bars.adapter.pause_reading()
        await server.trade_all(1, 0)
        await bars.subscribe([])
        await asyncio.sleep(0.05)
        assert bars.stats().session.trades == 0
        assert bars.stats().pauses == 1
        bars.adapter.resume_reading()
        await until(lambda: bars.stats().session.trades == 8)


async def test_a_stream_of_the_one_line_adds_and_removes_symbols_while_it_runs() -> None:
    async with TradeServer() as server:
        config = StreamConfig(close_by="trades")
        async with fastbars.stream("binance", ["BTCUSDT"], url=server.url, config=config) as bars:
            await bars.subscribe(["ETHUSDT"])
            await server.send(trade(1, 0), trade(1, 0, symbol="ETHUSDT"))
            await until(lambda: bars.stats().session.trades == 2)
            await bars.unsubscribe(["BTCUSDT"])
            assert show([await anext(bars)]) == ["23:54:00 1m 100 100 100 100 v1 n1 1-1 PARTIAL r0 end"]
            assert server.streams == ["btcusdt@trade", "ethusdt@trade"]


# One session.


def latest_of(issued: list[OHLCVBar]) -> dict[str, list[OHLCVBar]]:
    """Symbol -> the last revision of each of its bars, but for the first and the last one."""
    latest = {(bar.symbol, bar.open_time): bar for bar in issued}
    by_symbol: dict[str, list[OHLCVBar]] = {}
    for key in sorted(latest):
        by_symbol.setdefault(key[0], []).append(latest[key])
    return {symbol: bars[1:-1] for symbol, bars in by_symbol.items()}


async def test_two_hundred_symbols_over_several_connections_have_one_session_one_healer_and_one_snapshot(
    tmp_path: Path,
) -> None:
    issued: list[OHLCVBar] = []
    faults = Faults(1)
    async with SimulatedExchange("binance", symbols=200, rate=1000.0, faults=faults) as simulated:
        config = StreamConfig(
            state=tmp_path / "bars.state", streams_per_connection=45, grace=0.2, rest_url=simulated.rest_url,
            state_interval=0.5,
        )  # fmt: skip
        stream = fastbars.stream(
            "binance", simulated.symbols, "1s", url=simulated.url, config=config, on_bars=issued.extend,
            record=tmp_path / "run",
        )  # fmt: skip

        def dropped() -> int:
            return sum(len(ids) for each in simulated.record.connections for ids in each.dropped.values())

        async with stream as bars:
            assert len(simulated.connections) == 5
            assert len(bars.adapter.connections.supervisors) == 5
            await until(lambda: len(bars.adapter.session.symbols) == 200)
            for _ in range(20):
                faults.inject(Fault(FaultKind.DROP_TRADE))
            await until(lambda: dropped() == 20)
            await until(lambda: bars.healing()[0].passes > 0)
            while bars.holes():  # noqa: ASYNC110 there is no event for that
                await asyncio.sleep(0.5)
            assert len(bars.healing()) == 1
            names = [name for name in os.listdir(tmp_path) if not name.startswith("bars.state.log")]
            assert sorted(names) == ["bars.state", "bars.state.lock", "run"]
            done = len(issued) + 400
            await until(lambda: len(issued) >= done)
        names = [name for name in os.listdir(tmp_path) if not name.startswith("bars.state.log")]
        assert sorted(names) == ["bars.state", "run"]
        latest = latest_of(issued)
        assert len(latest) == 200
        assert {str(bar.status) for each in latest.values() for bar in each} <= {"COMPLETE", "HEALED"}
        for symbol, found in latest.items():
            truth = simulated.record.seconds(symbol)
            for bar in found:
                candle = truth[to_nanoseconds(bar.open_time) // 1_000_000]
                assert (bar.trade_count, bar.volume) == (candle.trade_count, candle.volume)
    replaying = fastbars.replay(tmp_path / "run")
    assert [csv_line(bar) for bar in replaying][: len(issued)] == [csv_line(bar) for bar in issued]
    assert len(replaying.sessions) == 1
    assert len({entry.line for entry in read_recording(tmp_path / "run") if entry.payloads}) == 5


@pytest.mark.parametrize(
    ("kind", "heal", "hurt", "whole"),
    [
        ("binance", True, {"HEALED", "COMPLETE"}, "COMPLETE"),
        ("binance", False, {"GAP", "COMPLETE"}, "COMPLETE"),
        ("bybit", False, {"GAP", "UNVERIFIABLE"}, "UNVERIFIABLE"),
    ],
)
async def test_a_connection_that_is_lost_and_comes_back_hurts_the_bars_of_its_own_symbols_alone(
    kind: str, heal: bool, hurt: set[str], whole: str
) -> None:
    issued: list[OHLCVBar] = []
    faults = Faults(1)
    async with SimulatedExchange(kind, symbols=6, rate=600.0, faults=faults) as simulated:
        config = StreamConfig(
            streams_per_connection=2, grace=0.2, heal=heal, rest_url=simulated.rest_url, reconnect_delay=0.5,
            reconnect_max_delay=0.5,
        )  # fmt: skip
        stream = fastbars.stream(
            kind, simulated.symbols, "1s", market=simulated.market, url=simulated.url, config=config,
            on_bars=issued.extend,
        )  # fmt: skip
        async with stream as bars:
            first, second, third = bars.adapter.connections.supervisors
            await until(lambda: len(issued) > 20)
            faults.inject(Fault(FaultKind.REFUSE, status=503))
            second.retry.backoff._draw = lambda: 1.0  # the whole delay
            second.pair.drop("the test drops it")
            await until(lambda: not second.is_up)
            assert str(bars.adapter.state) == "reconnecting"
            await until(lambda: second.is_whole)
            assert (first.connections, second.connections, third.connections) == (1, 2, 1)
            its = {symbol for symbol, _ in second.subscriptions.desired}
            back_at = max(bar.open_time for bar in issued)
            await until(lambda: len({bar.open_time for bar in issued if bar.open_time > back_at}) > 5)
            assert not (heal and bars.holes())
    latest = latest_of(issued)
    for symbol in simulated.symbols:
        statuses = {str(bar.status) for bar in latest[symbol]}
        assert statuses == (hurt if symbol in its else {whole})
