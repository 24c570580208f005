"""Subscriptions that are confirmed and bring nothing: said once, renewed once, said again ever more rarely."""

from __future__ import annotations

import asyncio
import re
from functools import partial
from typing import Any

import pytest

from fake_clock import Stopwatch
from fastbars import BinanceWebSocketAdapter, ConnectionState, StreamConfig, TickData, stream
from fastbars.errors import SubscriptionError, WebSocketError
from fastbars.live.connections.never_heard import NeverHeard
from servers import Request, TradeServer, acknowledge, refuse, trade, until

A, B, C = ("A", "trade"), ("B", "trade"), ("C", "kline_1m")


class Clock:
    """Looks once a second at a `NeverHeard` of 60 s; every subscription is confirmed."""

    def __init__(self, *streams: tuple[str, str]) -> None:
        self.now_s = 1000.0
        self.streams = list(streams)
        self.marks: dict[tuple[str, str], int] = {}
        self.tested = NeverHeard(60.0)
        self.said: list[tuple[float, list[str], list[str]]] = []
        self.tested.connected(self.now_s, self.marks)

    def run(self, seconds: int) -> list[tuple[float, list[str], list[str]]]:
        """What is said meanwhile: (at how many seconds, symbols, those that are renewed)."""
        said = []
        for _ in range(seconds):
            self.now_s += 1.0
            found = self.tested.find_due(self.now_s, self.streams, self.streams, self.marks)
            if found.streams:
                names = [symbol for symbol, _ in found.streams]
                said.append((self.now_s - 1000.0, names, [symbol for symbol, _ in found.renew]))
        return said


def test_what_is_never_heard_is_said_once_in_time_and_renewed_once_then_ever_more_rarely() -> None:
    clock = Clock(A, B, C)
    clock.marks[B] = 0
    assert clock.run(30) == []
    clock.marks[B] = 7
    assert clock.run(40) == [(61.0, ["A", "C"], ["A", "C"])]
    clock.marks[C] = 1
    assert clock.run(200_000)[:8] == [
        (181.0, ["A"], []),
        (421.0, ["A"], []),
        (901.0, ["A"], []),
        (1861.0, ["A"], []),
        (3781.0, ["A"], []),
        (7381.0, ["A"], []),
        (10_981.0, ["A"], []),
        (14_581.0, ["A"], []),
    ]
    assert clock.tested.reported == 2


def test_a_symbol_added_later_has_its_own_time_and_one_that_was_given_up_is_not_said() -> None:
    clock = Clock(A)
    clock.run(50)
    clock.streams = [B]
    assert clock.run(60) == []
    assert clock.run(2) == [(111.0, ["B"], ["B"])]
    clock.streams = [A]  # anew
    assert clock.run(60) == []
    assert clock.run(2) == [(173.0, ["A"], ["A"])]


def test_a_reconnect_reports_nothing_anew_and_time_without_a_connection_does_not_count() -> None:
    clock = Clock(A)
    clock.run(50)
    for _ in range(5):  # down for 100 s, up for 1 s
        clock.now_s += 100.0
        clock.tested.connected(clock.now_s, clock.marks)
        assert clock.run(1) == []
    clock.now_s += 100.0
    clock.tested.pause(clock.now_s)
    assert [names for _, names, _ in clock.run(10)] == [["A"]]
    for _ in range(100):
        clock.now_s += 100.0
        clock.tested.connected(clock.now_s, clock.marks)
        assert clock.run(1) == []
    assert [names for _, names, _ in clock.run(30)] == [["A"]]


def test_what_was_heard_on_the_last_connection_is_to_be_heard_on_the_next_too() -> None:
    clock = Clock(A, B)
    clock.run(1)
    clock.marks |= {A: 1, B: 1}
    assert clock.run(5000) == []  # fallen silent is another matter
    clock.tested.connected(clock.now_s, clock.marks)
    clock.run(1)
    clock.marks[A] = 2
    assert clock.run(61) == [(5061.0, ["B"], ["B"])]
    clock.marks[B] = 2
    clock.run(1)
    clock.tested.connected(clock.now_s, clock.marks)
    # B was said before, so that it has more time.
    assert clock.run(200) == [(5124.0, ["A"], ["A"]), (5184.0, ["B"], ["B"]), (5244.0, ["A"], [])]


def test_trades_before_the_first_look_are_heard_and_those_of_a_snapshot_are_not() -> None:
    clock = Clock(A, B)
    clock.marks |= {A: 5, B: 5}
    clock.tested.connected(clock.now_s, clock.marks)  # both were restored
    clock.marks[A] = 6
    assert clock.run(61) == [(61.0, ["B"], ["B"])]


# Through real servers.


def config_of(**settings: Any) -> StreamConfig:
    defaults: dict[str, Any] = {
        "never_heard_after": 0.4,
        "stale_interval": 0.05,
        "reconnect_delay": 0.01,
        "close_by": "trades",
    }
    return StreamConfig(**defaults | settings)


class Feed:
    """Sends a trade of BTCUSDT every 10 ms on each connection that has asked for it."""

    def __init__(self, server: TradeServer) -> None:
        self.server = server
        self.sent = 0

    async def __aenter__(self) -> Feed:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        while True:
            if self.server.requests:
                self.sent += 1
                for connection in list(self.server.connections):
                    self.server.send_now(connection, trade(self.sent, self.sent * 10))
            await asyncio.sleep(0.01)


async def test_a_silent_symbol_beside_one_that_trades_is_said_and_renewed_and_the_other_is_undisturbed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    errors: list[WebSocketError] = []
    async with TradeServer() as server, Feed(server):
        adapter = BinanceWebSocketAdapter(config_of(), url=server.url, on_error=errors.append)
        await adapter.connect()
        watch = Stopwatch()
        await adapter.subscribe(["BTCUSDT", "BTCUSTD"])
        await until(lambda: errors)
        assert 0.4 < watch.seconds <= 0.4 + 0.05 + 0.002  # and a look, and what `until` adds
        await until(lambda: len(server.requests) == 3)
        await until(lambda: adapter.session.stats.trades > 100)
        stats = adapter.stats()
        assert adapter.session.missing("BTCUSDT") == []
        await adapter.disconnect()
    assert [request["params"] for request in server.requests[1:]] == [["btcustd@trade"]] * 2
    assert [request["method"] for request in server.requests] == ["SUBSCRIBE", "UNSUBSCRIBE", "SUBSCRIBE"]
    assert isinstance(errors[0], SubscriptionError)
    assert errors[0].symbols == ("BTCUSTD",)
    assert re.fullmatch(
        r"binance spot: no data for 0\.[4-9]\d? s on 1 confirmed subscriptions: BTCUSTD@trade",
        str(errors[0]),
    )
    assert (stats.connections, stats.never_heard, stats.resubscriptions) == (1, 1, 1)
    assert "never_heard exchange='binance spot' count=1 renewed=1" in caplog.text


async def test_a_connection_on_which_nothing_ever_comes_reports_all_its_subscriptions() -> None:
    errors: list[WebSocketError] = []
    async with TradeServer() as server:
        bars = stream("binance", ["A", "B"], url=server.url, config=config_of(), on_error=errors.append, verify=True)
        async with bars:
            await until(lambda: errors)
            assert bars.stats().never_heard == 4
        assert isinstance(errors[0], SubscriptionError)
        assert errors[0].symbols == ("A", "B")
        assert "A@trade" in str(errors[0])
        assert "B@kline_1m" in str(errors[0])


def is_connected_again(adapter: BinanceWebSocketAdapter, connections: int) -> bool:
    return adapter.is_connected and adapter.stats().connections == connections


async def test_a_reconnect_does_not_report_anew_and_a_symbol_added_later_is_reported_by_itself() -> None:
    errors: list[WebSocketError] = []
    states: list[ConnectionState] = []
    async with TradeServer() as server, Feed(server):
        config = config_of(never_heard_after=1.0)
        adapter = BinanceWebSocketAdapter(config, url=server.url, on_error=errors.append, on_state=states.append)
        await adapter.connect()
        await adapter.subscribe(["BTCUSDT", "SILENT"])
        await until(lambda: errors)
        for connections in (2, 3):
            server.abort()
            await until(partial(is_connected_again, adapter, connections))
            assert len(adapter.connections.first.subscriptions.confirmed) == 2
        await adapter.subscribe(["ADDED"])
        await until(lambda: len(errors) == 2)
        assert [error.symbols for error in errors if isinstance(error, SubscriptionError)] == [("SILENT",), ("ADDED",)]
        await adapter.unsubscribe(["SILENT", "ADDED"])
        await asyncio.sleep(1.5)
        assert len(errors) == 2
        await adapter.disconnect()


async def test_what_stays_silent_after_a_renewal_and_a_reconnect_is_reported_too() -> None:
    errors: list[WebSocketError] = []
    async with TradeServer() as server, Feed(server):
        config = config_of(stale_after=0.3, stale_factor=1.0)
        adapter = BinanceWebSocketAdapter(config, url=server.url, on_error=errors.append)
        await adapter.connect()
        await adapter.subscribe(["BTCUSDT", "ETHUSDT"])
        for number in range(15):
            await server.send(trade(number, number * 10, symbol="ETHUSDT"))
            await asyncio.sleep(0.06)  # each is seen as a gap of its own
        await until(lambda: errors)
        assert adapter.stats().connections == 2
        await adapter.disconnect()
    assert [error.symbols for error in errors if isinstance(error, SubscriptionError)] == [("ETHUSDT",)]
    eth = [one for one in server.requests if "ethusdt@trade" in one["params"]]
    assert [one["method"] for one in eth][:4] == ["SUBSCRIBE", "UNSUBSCRIBE", "SUBSCRIBE", "SUBSCRIBE"]


async def test_a_parser_with_names_of_its_own_does_not_make_symbols_look_silent() -> None:
    class Own(BinanceWebSocketAdapter):
        def parse_message(self, message: dict[str, Any]) -> TickData | None:
            if message.get("e") != "trade":
                return None
            return TickData("BTC", message["T"] * 10**6, message["p"], message["q"], trade_id=message["t"])

    errors: list[WebSocketError] = []
    async with TradeServer() as server, Feed(server):
        adapter = Own(config_of(), url=server.url, on_error=errors.append)
        await adapter.connect()
        await adapter.subscribe(["BTCUSDT"])
        await until(lambda: adapter.session.stats.trades > 80)
        assert adapter.session.symbols == ("BTC",)
        await adapter.disconnect()
    assert errors == []


async def test_a_parser_that_keeps_the_names_does_not_hide_a_silent_symbol_beside_other_connections() -> None:
    class Own(BinanceWebSocketAdapter):
        def parse_message(self, message: dict[str, Any]) -> TickData | None:
            if message.get("e") != "trade":
                return None
            return TickData(message["s"], message["T"] * 10**6, message["p"], message["q"], trade_id=message["t"])

    errors: list[WebSocketError] = []
    async with TradeServer() as server, Feed(server):
        adapter = Own(config_of(streams_per_connection=1), url=server.url, on_error=errors.append)
        await adapter.connect()
        await adapter.subscribe(["BTCUSDT", "SILENT"])
        await until(lambda: errors)
        assert len(adapter.connections.supervisors) == 2
        assert adapter.session.symbols == ("BTCUSDT",)
        await adapter.disconnect()
    assert [error.symbols for error in errors if isinstance(error, SubscriptionError)] == [("SILENT",)]


async def test_redundant_lines_report_a_silent_symbol_once() -> None:
    errors: list[WebSocketError] = []
    async with TradeServer() as server, Feed(server):
        bars = stream(
            "binance", ["BTCUSDT", "SILENT"], url=server.url, config=config_of(lines=2), on_error=errors.append
        )
        async with bars:
            await until(lambda: errors)
            await asyncio.sleep(0.3)
            assert len(errors) == 1
            assert bars.stats().never_heard == 1


async def test_a_renewal_that_is_refused_is_told_and_ends_nothing() -> None:
    errors: list[WebSocketError] = []
    asked: list[list[str]] = []

    def answer(request: Request) -> Request | None:
        asked.append(request["params"])
        return acknowledge(request) if len(asked) < 3 else refuse("silent@trade")(request)

    async with TradeServer(answer) as server, Feed(server):
        adapter = BinanceWebSocketAdapter(config_of(), url=server.url, on_error=errors.append)
        await adapter.connect()
        await adapter.subscribe(["BTCUSDT", "SILENT"])
        await until(lambda: len(errors) == 2)
        assert "Invalid symbol" in str(errors[1])
        trades = adapter.session.stats.trades
        await until(lambda: adapter.session.stats.trades > trades + 10)
        assert adapter.stats().connections == 1
        await adapter.disconnect()


@pytest.mark.parametrize("value", [0, -1.0])
def test_the_time_must_be_positive(value: float) -> None:
    with pytest.raises(ValueError, match="never_heard_after must be positive"):
        StreamConfig(never_heard_after=value)
