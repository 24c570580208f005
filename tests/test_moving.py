"""Symbols move from one connection to another, at any time: no bar is cut, and each trade counts once."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

import fastbars
from examples import examples
from fastbars import BaseWebSocketAdapter, OHLCVBar, StreamConfig, TickData
from fastbars.cli.output import csv_line
from fastbars.errors import SubscriptionError, WSConnectionError
from fastbars.exchanges.binance import SPOT
from fastbars.exchanges.declaration import Exchange
from fastbars.exchanges.messages import Stream
from fastbars.live.connections.supervisor import Supervisor
from fastbars.simulator import SimulatedExchange
from fastbars.ticks import to_nanoseconds
from servers import TradeServer, acknowledge, keep_silent, trade, until

pytestmark = pytest.mark.usefixtures("no_task_is_left_behind")

OVERLAP_S = 0.3


def with_ids(ids: Any) -> Exchange:
    return replace(SPOT, channels={**SPOT.channels, "trade": ids})


def config_of(**knobs: Any) -> StreamConfig:
    defaults: dict[str, Any] = {
        "grace": 0.2, "heal": False, "reconnect_delay": 0.05, "reconnect_max_delay": 0.1,
        "handover_overlap": OVERLAP_S, "handover_timeout": 2.0, "ack_timeout": 1.0,
    }  # fmt: skip
    return StreamConfig(**defaults | knobs)


def carried(stream: fastbars.BarStream) -> list[set[str]]:
    """The symbols of each connection."""
    return [{symbol for symbol, _ in each.subscriptions.desired} for each in stream.adapter.connections.supervisors]


def trades_of(stream: fastbars.BarStream, *symbols: str) -> list[Stream]:
    channel = stream.adapter.session.channel
    return [(symbol, channel) for symbol in symbols]


class Run:
    """A stream from a simulated exchange, everything that it issued, and what the exchange says of it."""

    def __init__(self, simulated: SimulatedExchange, exchange: str | Exchange, **knobs: Any) -> None:
        self.issued: list[OHLCVBar] = []
        self.ticks: list[TickData] = []
        record = knobs.pop("record", None)
        self.simulated = simulated
        self.stream = fastbars.stream(
            exchange, simulated.symbols, "1s", market=simulated.market if isinstance(exchange, str) else None,
            url=simulated.url, config=config_of(**knobs), on_bars=self.issued.extend, on_tick=self.ticks.append,
            record=record,
        )  # fmt: skip

    async def go_on(self, seconds: int, symbol: str | None = None) -> None:
        """Until so many more bars (of one symbol) have been issued."""

        def count() -> int:
            return len({bar.open_time for bar in self.issued if bar.symbol == (symbol or self.simulated.symbols[0])})

        most = count() + seconds
        await until(lambda: count() >= most)

    def latest(self, symbol: str) -> list[OHLCVBar]:
        """The last revision of each bar between the first one and the last one, which are not whole."""
        bars = {bar.open_time: bar for bar in self.issued if bar.symbol == symbol}
        return [bars[time] for time in sorted(bars)][1:-1]

    def equals_truth(self, bar: OHLCVBar) -> bool:
        candle = self.simulated.record.seconds(bar.symbol)[to_nanoseconds(bar.open_time) // 1_000_000]
        return (bar.trade_count, bar.volume, bar.open, bar.high, bar.low, bar.close) == (
            candle.trade_count, candle.volume, candle.open, candle.high, candle.low, candle.close,
        )  # fmt: skip


TELLING = [
    ("binance", "binance", "COMPLETE"),
    ("kraken", "kraken", "COMPLETE"),
    ("coinbase", "coinbase", "COMPLETE"),
    ("deribit", "deribit", "COMPLETE"),
    ("binance", with_ids("sequenced"), "UNVERIFIABLE"),
    ("bybit", "bybit", "UNVERIFIABLE"),
    ("hyperliquid", "hyperliquid", "UNVERIFIABLE"),
]


@pytest.mark.parametrize(("kind", "exchange", "status"), TELLING)
async def test_a_symbol_moved_in_mid_bar_lacks_nothing_where_ids_tell_trades_apart(
    kind: str, exchange: str | Exchange, status: str
) -> None:
    async with SimulatedExchange(kind, symbols=3, rate=300.0, record=True) as simulated:
        run = Run(simulated, exchange)
        async with run.stream as bars:
            first, second, third = simulated.symbols
            await run.go_on(3)
            for moved in (first, second):
                await bars.adapter.move_streams(trades_of(bars, moved))
                await run.go_on(2)
            assert carried(bars) == [{third}, {first, second}] or carried(bars) == [{third}, {first}, {second}]
            await bars.adapter.move_streams(trades_of(bars, first), to=0)
            await run.go_on(2)
            assert first in carried(bars)[0]
            assert bars.adapter.session.notifier.seen_by_callbacks is None
            await run.go_on(1)
        for symbol in simulated.symbols:
            found = run.latest(symbol)
            assert len(found) > 6
            assert {str(bar.status) for bar in found} == {status}
            assert [bar for bar in found if not run.equals_truth(bar)] == []
        assert len(run.ticks) == bars.stats().buffer.trades
        stats = bars.stats()
        assert stats.session.duplicates + stats.buffer.duplicates > 0  # two connections did carry the same trades
        assert stats.session.dropped.no_longer_subscribed == 0


@pytest.mark.parametrize("ids", ["none", "sampled"])
async def test_a_symbol_moved_where_ids_prove_nothing_has_a_gap_there_and_doubles_no_trade(ids: str) -> None:
    async with SimulatedExchange("binance", symbols=2, rate=300.0, record=True) as simulated:
        run = Run(simulated, with_ids(ids))
        async with run.stream as bars:
            moved, other = simulated.symbols
            await run.go_on(3)
            await bars.adapter.move_streams(trades_of(bars, moved))
            assert carried(bars) == [{other}, {moved}]
            await run.go_on(4, moved)
        whole = "SAMPLED" if ids == "sampled" else "UNVERIFIABLE"
        assert {str(bar.status) for bar in run.latest(other)} == {whole}
        assert {str(bar.status) for bar in run.latest(moved)} == {whole, "GAP"}
        gaps = [bar for bar in run.latest(moved) if str(bar.status) == "GAP"]
        assert len(gaps) <= 3  # the second of the move, and a grace on either side
        for bar in [*run.latest(other), *run.latest(moved)]:
            assert str(bar.status) == "GAP" or run.equals_truth(bar)
        assert len(set(run.ticks)) == len(run.ticks)


async def test_a_connection_all_of_whose_symbols_have_moved_is_closed_and_they_move_on_over_two_lines_alike() -> None:
    async with SimulatedExchange("binance", symbols=4, rate=300.0, record=True) as simulated:
        run = Run(simulated, "binance", lines=2, streams_per_connection=2)
        async with run.stream as bars:
            connections = bars.adapter.connections
            await until(lambda: all(each.is_whole for each in connections.supervisors))
            assert Counter(each.line for each in connections.supervisors) == {0: 2, 1: 2}
            await run.go_on(2)
            await bars.unsubscribe(simulated.symbols[2:])
            (staying,), (leaving,) = ([symbol for symbol, _ in each] for each in bars.adapter.carried)
            await bars.adapter.move_streams(bars.adapter.carried[1], to=0)
            assert carried(bars) == [{leaving, staying}] * 2
            assert [each.line for each in connections.supervisors] == [0, 1]
            await run.go_on(2)
        for symbol in simulated.symbols[:2]:
            assert {str(bar.status) for bar in run.latest(symbol)} == {"COMPLETE"}
            assert all(run.equals_truth(bar) for bar in run.latest(symbol))


async def test_a_move_is_recorded_and_its_replay_gives_the_same_bars(tmp_path: Path) -> None:
    async with SimulatedExchange("bybit", symbols=3, rate=300.0, record=True) as simulated:
        run = Run(simulated, "bybit", record=tmp_path)
        async with run.stream as bars:
            await run.go_on(2)
            await bars.adapter.move_streams(trades_of(bars, simulated.symbols[0]))
            await run.go_on(2)
            await bars.adapter.move_streams(trades_of(bars, *simulated.symbols), to=1)
            await run.go_on(2)
    replaying = fastbars.replay(tmp_path)
    assert [csv_line(bar) for bar in replaying] == [csv_line(bar) for bar in run.issued]
    assert len(replaying.sessions) == 1


# What fails meanwhile.


class Served:
    """An adapter to a server that a test controls, with two symbols on one connection and one on another."""

    def __init__(self, server: TradeServer, exchange: Exchange = SPOT, **knobs: Any) -> None:
        self.ticks: list[int | None] = []
        self.adapter = BaseWebSocketAdapter(
            exchange, config_of(close_by="trades", **knobs), lambda tick: self.ticks.append(tick.trade_id),
            url=server.url,
        )  # fmt: skip

    async def __aenter__(self) -> BaseWebSocketAdapter:
        await self.adapter.connect()
        await self.adapter.subscribe(["AUSDT", "BUSDT"])
        return self.adapter

    async def __aexit__(self, *_: object) -> None:
        await self.adapter.disconnect()


A = [("AUSDT", "trade")]


def spread(adapter: BaseWebSocketAdapter) -> list[list[str]]:
    return [sorted(symbol for symbol, _ in streams) for streams in adapter.carried]


async def test_both_carry_it_for_the_overlap_and_what_comes_twice_is_told_once() -> None:
    async with TradeServer() as server:
        served = Served(server)
        async with served as adapter:
            await server.send(trade(1, 0, symbol="AUSDT"))
            moving = asyncio.create_task(adapter.move_streams(A))
            await until(lambda: len(server.requests) == 2)
            await asyncio.sleep(0.01)
            await server.send(*(trade(n, n, symbol="AUSDT") for n in (2, 3)))  # over both
            assert spread(adapter) == [["AUSDT", "BUSDT"], ["AUSDT"]]
            assert adapter.active_subscriptions == {"AUSDT": {"trade"}, "BUSDT": {"trade"}}
            await moving
            assert server.request_times_s[2] - server.request_times_s[1] == pytest.approx(OVERLAP_S, abs=0.05)
            assert spread(adapter) == [["BUSDT"], ["AUSDT"]]
            assert [request["method"] for request in server.requests] == ["SUBSCRIBE", "SUBSCRIBE", "UNSUBSCRIBE"]
            await until(lambda: adapter.session.notifier.seen_by_callbacks is None)
            assert served.ticks == [1, 2, 3]
            assert adapter.stats().buffer.duplicates == 2


async def test_what_the_new_connection_refuses_stays_where_it_is() -> None:
    async with TradeServer() as server, Served(server) as adapter:
        server.answer = lambda request: {"error": {"code": 1, "msg": "no"}, "id": request["id"]}
        with pytest.raises(SubscriptionError, match="binance spot refused AUSDT@trade"):
            await adapter.move_streams(A)
        server.answer = acknowledge
        assert spread(adapter) == [["AUSDT", "BUSDT"]]
        assert len(server.connections) == 1
        with pytest.raises(ValueError, match="binance spot: there is no connection 1, there are 1"):
            await adapter.move_streams(A, to=1)
        await adapter.move_streams([("NOSUCH", "trade")])  # nothing is subscribed
        await adapter.move_streams(A, to=0)  # it is there
        assert spread(adapter) == [["AUSDT", "BUSDT"]]
        assert len(server.accepted_s) == 2


@pytest.mark.parametrize("ids", ["contiguous", "none"])
async def test_what_cannot_be_opened_leaves_everything_as_it_is(ids: str) -> None:
    async with TradeServer() as server, Served(server, with_ids(ids)) as adapter:
        assert server._server is not None
        server._server.close(close_connections=False)
        with pytest.raises(WSConnectionError, match="cannot connect"):
            await adapter.move_streams(A)
        assert spread(adapter) == [["AUSDT", "BUSDT"]]
        assert adapter.is_connected
        assert adapter.connections.first.is_whole


async def test_a_new_connection_that_is_lost_and_does_not_come_back_leaves_it_on_the_old_one() -> None:
    async with TradeServer() as server, Served(server) as adapter:
        moving = asyncio.create_task(adapter.move_streams(A))
        await until(lambda: len(server.requests) == 2)
        server.answer = keep_silent
        server.connections[1].transport.abort()
        with pytest.raises(WSConnectionError, match="binance spot: 1 streams could not be moved"):
            await moving
        assert spread(adapter) == [["AUSDT", "BUSDT"]]
        assert adapter.connections.first.is_whole


async def test_an_old_connection_that_is_lost_meanwhile_is_no_error() -> None:
    async with TradeServer() as server, Served(server) as adapter:
        moving = asyncio.create_task(adapter.move_streams(A))
        await until(lambda: len(server.requests) == 2)
        server.connections[0].transport.abort()
        await moving
        assert spread(adapter) == [["BUSDT"], ["AUSDT"]]
        await until(lambda: all(each.is_whole for each in adapter.connections.supervisors))


async def test_what_is_unsubscribed_while_it_moves_is_ended_on_both_and_comes_back_on_one() -> None:
    async with TradeServer() as server, Served(server) as adapter:
        moving = asyncio.create_task(adapter.move_streams(A))
        await until(lambda: len(server.requests) == 2)
        await asyncio.sleep(0.01)
        await adapter.unsubscribe(["AUSDT"])
        assert adapter.active_subscriptions == {"BUSDT": {"trade"}}
        await moving
        assert spread(adapter) == [["BUSDT"]]
        await adapter.subscribe(["AUSDT"])
        assert spread(adapter) == [["AUSDT", "BUSDT"]]


@pytest.mark.parametrize("ids", ["contiguous", "none"])
async def test_disconnecting_while_something_moves_loses_no_subscription(ids: str) -> None:
    async with TradeServer() as server, Served(server, with_ids(ids)) as adapter:
        server.answer = keep_silent
        moving = asyncio.create_task(adapter.move_streams(A))
        await until(lambda: len(server.requests) == 2)
        await adapter.disconnect()
        await asyncio.wait([moving])
        assert adapter.active_subscriptions == {"AUSDT": {"trade"}, "BUSDT": {"trade"}}
        server.answer = acknowledge
        await adapter.connect()
        await until(lambda: all(each.is_whole for each in adapter.connections.supervisors))
        assert Counter(name for each in spread(adapter) for name in each) == {"AUSDT": 1, "BUSDT": 1}


@pytest.mark.parametrize("ids", ["contiguous", "none"])
async def test_a_move_that_is_cancelled_leaves_it_carried(ids: str) -> None:
    async with TradeServer() as server, Served(server, with_ids(ids)) as adapter:
        server.answer = keep_silent
        moving = asyncio.create_task(adapter.move_streams(A))
        await until(lambda: len(server.requests) == 2)
        server.answer = acknowledge
        moving.cancel()
        await asyncio.wait([moving])
        assert moving.cancelled()
        assert adapter.active_subscriptions == {"AUSDT": {"trade"}, "BUSDT": {"trade"}}
        await until(lambda: any(carries(each, "AUSDT") for each in adapter.connections.supervisors))
        connections = 4 if ids == "none" else 2  # both begin anew
        await until(lambda: adapter.stats().connections == connections and adapter.is_connected)
        await adapter.unsubscribe(["AUSDT"])
        assert spread(adapter) == [["BUSDT"]]


def carries(supervisor: Supervisor, symbol: str) -> bool:
    return supervisor.is_up and (symbol, "trade") in supervisor.subscriptions.confirmed


async def test_streams_move_before_anything_is_connected_too() -> None:
    adapter = BaseWebSocketAdapter(SPOT, config_of())
    await adapter.subscribe(["AUSDT", "BUSDT"])
    await adapter.move_streams(A)
    assert spread(adapter) == [["BUSDT"], ["AUSDT"]]
    await adapter.move_streams(A, to=0)
    assert spread(adapter) == [["AUSDT", "BUSDT"]] or spread(adapter) == [["BUSDT", "AUSDT"]]


# Everything at once.


class Turmoil:
    """Subscribes, unsubscribes, moves, drops and reconnects at random, several at a time, and cancels some of it."""

    def __init__(self, run: Run, seed: int) -> None:
        self._bars = run.stream
        self._symbols = run.simulated.symbols
        self._random = Random(seed)
        self._running: set[asyncio.Task[None]] = set()

    async def rage(self, steps: int) -> None:
        """So many things happen, and what can end of its own has ended."""
        random = self._random
        for _ in range(steps):
            await asyncio.sleep(random.uniform(0.0, 0.4))
            task = asyncio.create_task(self._do_something(random.sample(self._symbols, random.randint(1, 4))))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
            if random.random() < 0.15:
                await asyncio.sleep(random.uniform(0.0, 0.3))
                task.cancel()
        while self._running:
            await asyncio.wait(self._running)

    async def _do_something(self, symbols: list[str]) -> None:
        adapter, random = self._bars.adapter, self._random
        with suppress(SubscriptionError, WSConnectionError, ValueError):
            match random.choices(("add", "end", "move", "drop", "reconnect"), (5, 3, 8, 2, 1))[0]:
                case "add":
                    await self._bars.subscribe(symbols)
                case "end":
                    await self._bars.unsubscribe(symbols)
                case "move":
                    await adapter.move_streams(trades_of(self._bars, *symbols), random.choice((None, None, 0, 1, 2)))
                case "drop":
                    random.choice(adapter.connections.supervisors).pair.drop("it happens")
                case "reconnect":
                    await adapter.reconnect()


@pytest.mark.parametrize("seed", range(examples(3)))
@pytest.mark.parametrize("lines", [1, 2])
@pytest.mark.parametrize("kind", ["binance", "kraken"])
async def test_whatever_is_done_at_once_each_symbol_is_carried_once_and_each_bar_tells_the_truth(
    kind: str, lines: int, seed: int, tmp_path: Path
) -> None:
    most = 2 + seed % 3
    async with SimulatedExchange(kind, symbols=8, rate=400.0, record=True) as simulated:
        run = Run(
            simulated, kind, lines=lines, streams_per_connection=most, heal=True, rest_url=simulated.rest_url,
            record=tmp_path,
        )  # fmt: skip
        async with run.stream as bars:
            supervisors = bars.adapter.connections.supervisors
            await Turmoil(run, seed).rage(30)
            await bars.subscribe(simulated.symbols)
            await until(lambda: all(each.is_whole for each in supervisors), 30)
            for line in range(lines):
                held = [s for each in bars.adapter.connections.of_line(line) for s, _ in each.subscriptions.desired]
                assert sorted(held) == sorted(simulated.symbols)
            assert max(len(each.subscriptions.desired) for each in supervisors) <= most
            await run.go_on(4)
        latest = {(bar.symbol, bar.open_time): bar for bar in run.issued}
        whole = [bar for bar in latest.values() if str(bar.status) in ("COMPLETE", "HEALED", "UNVERIFIABLE")]
        assert len(whole) > 40
        assert [bar for bar in whole if not run.equals_truth(bar)] == []
    assert [csv_line(bar) for bar in fastbars.replay(tmp_path)] == [csv_line(bar) for bar in run.issued]
