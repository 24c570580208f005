"""When a lost connection is tried again: what the exchange asks for is done, a permanent error is not tried."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from email.utils import formatdate
from http import HTTPStatus
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from fake_clock import Stopwatch
from fastbars import BinanceWebSocketAdapter, ConnectionState, StreamConfig, clocks
from fastbars.errors import SubscriptionError, WebSocketError, WSConnectionError
from fastbars.exchanges.binance import SPOT
from fastbars.live.connections.adapter import BaseWebSocketAdapter
from fastbars.live.connections.limits import RateLimiter
from fastbars.live.shared import SHARED, Shared
from servers import TradeServer, acknowledge, keep_silent, refuse, trade, until

MARGIN_S = 0.05  # between windows, for what the network does to distances

pytestmark = pytest.mark.usefixtures("no_task_is_left_behind")


class Gate:
    """Refuses handshakes with an HTTP status while `status` is set."""

    def __init__(self) -> None:
        self.status: int | None = None
        self.once = False
        self.retry_after: Callable[[], str] | None = None
        self.refused_s: list[float] = []

    def __call__(self, connection: ServerConnection, _: Request) -> Response | None:
        if self.status is None:
            return None
        self.refused_s.append(clocks.steady_s())
        response = connection.respond(HTTPStatus(self.status), "no\n")
        if self.retry_after is not None:
            response.headers["Retry-After"] = self.retry_after()
        if self.once:
            self.status = None
        return response


def adapter_of(server: TradeServer, **knobs: Any) -> BinanceWebSocketAdapter:
    quick: dict[str, Any] = {"close_by": "trades", "reconnect_delay": 0.01, "reconnect_max_delay": 0.01}
    return BinanceWebSocketAdapter(StreamConfig(**quick | knobs), url=server.url)


async def refused_once(status: int, retry_after: Callable[[], str] | None, **knobs: Any) -> float:
    """How long after a refusal, in the middle of a reconnect, the next attempt comes, s."""
    gate = Gate()
    async with TradeServer(process_request=gate) as server:
        adapter = adapter_of(server, **knobs)
        await adapter.connect()
        gate.status, gate.retry_after, gate.once = status, retry_after, True
        server.abort()
        await until(lambda: len(server.accepted_s) == 2)
        await adapter.disconnect()
        assert len(gate.refused_s) == 1
        return round(server.accepted_s[1] - gate.refused_s[0], 6)


@pytest.mark.parametrize("status", [418, 429, 503])
async def test_retry_after_in_seconds_is_waited_for(status: int) -> None:
    assert await refused_once(status, lambda: "1") == 1.0


async def test_retry_after_as_a_date_is_waited_for() -> None:
    assert await refused_once(429, lambda: formatdate(clocks.wall_ns() / 1e9 + 2, usegmt=True)) == 2.0


@pytest.mark.parametrize("status", [403, 418, 429])
async def test_a_ban_that_names_no_end_is_waited_out(status: int) -> None:
    assert await refused_once(status, None, ban_delay=0.5) == 0.5


async def test_other_refusals_are_tried_again_with_backoff() -> None:
    assert await refused_once(500, lambda: "9") <= 0.01  # `reconnect_delay`, or a part of it


async def test_a_ban_holds_for_every_connection_to_the_exchange() -> None:
    gate = Gate()
    gate.status, gate.retry_after = 429, lambda: "1"
    async with TradeServer(process_request=gate) as server:
        with pytest.raises(WSConnectionError, match=r"HTTP 429 \(server asks to retry after 1 s\)$"):
            await adapter_of(server).connect()
        gate.status = None
        another = adapter_of(server)
        await another.connect()
        assert server.accepted_s[0] - gate.refused_s[0] == 1.0
        await another.disconnect()


async def test_unknown_symbols_do_not_make_it_loop_and_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    errors: list[WebSocketError] = []
    async with TradeServer() as server:
        adapter = BinanceWebSocketAdapter(StreamConfig(reconnect_delay=0.01), url=server.url, on_error=errors.append)
        await adapter.connect()
        await adapter.subscribe(["BTCUSDT", "LUNAUSDT"])
        server.answer = refuse("lunausdt@trade")  # delisted meanwhile
        server.abort()
        await until(lambda: errors)
        assert isinstance(errors[0], SubscriptionError)
        assert errors[0].symbols == ("LUNAUSDT",)
        assert str(errors[0]) == "binance spot refused LUNAUSDT@trade: Invalid symbol. (code -1121)"
        assert adapter.active_subscriptions == {"BTCUSDT": {"trade"}}
        await server.send(trade(1, 0))
        await until(lambda: adapter.session.stats.trades == 1)
        assert (len(server.accepted_s), len(errors)) == (2, 1)
        assert caplog.text.count("subscription_refused") == 1
        await adapter.disconnect()


async def test_streams_that_get_no_answer_are_asked_for_again_while_the_others_flow() -> None:
    def answer(request: dict[str, Any]) -> dict[str, Any] | None:
        return None if "ethusdt@kline_1m" in request["params"] else acknowledge(request)

    async with TradeServer() as server:
        adapter = adapter_of(server, ack_timeout=0.6)
        await adapter.connect()
        for index in range(201):  # two requests
            adapter.connections.first.subscriptions.want([(f"S{index}", "trade")])
        adapter.connections.first.subscriptions.want([("ETHUSDT", "kline_1m")])
        server.answer = answer
        await adapter.reconnect()
        await until(lambda: sum("ethusdt@kline_1m" in request["params"] for request in server.requests) == 3)
        server.answer = acknowledge
        await until(lambda: ("ETHUSDT", "kline_1m") in adapter.connections.first.subscriptions.confirmed)
        assert len(adapter.connections.first.subscriptions.confirmed) == 202
        assert len(server.accepted_s) == 2
        asked = [name for request in server.requests for name in request["params"]]
        assert asked.count("s0@trade") == 1
        await adapter.disconnect()


async def test_a_stream_given_up_while_it_is_subscribed_is_ended_again() -> None:
    async with TradeServer(keep_silent) as server:
        adapter = adapter_of(server)
        await adapter.connect()
        subscribing = asyncio.create_task(adapter.subscribe(["BTCUSDT", "ETHUSDT"]))
        await until(lambda: server.requests)
        server.answer = acknowledge
        await adapter.unsubscribe(["ETHUSDT"])
        await server.send(b'{"result":null,"id":1}')
        await subscribing
        assert [request["method"] for request in server.requests] == ["SUBSCRIBE", "UNSUBSCRIBE", "UNSUBSCRIBE"]
        assert adapter.connections.first.subscriptions.confirmed == {("BTCUSDT", "trade")}
        await adapter.disconnect()


# Rate limits.


async def test_a_limiter_that_is_held_lets_nothing_pass_until_then() -> None:
    limiter = RateLimiter(100)
    limiter.hold(0.2)
    waits = await asyncio.gather(*(limiter.wait() for _ in range(3)))
    assert [round(waited_s, 6) for waited_s in waits] == [0.2] * 3


async def test_less_than_one_a_window_is_one_in_a_longer_window() -> None:
    limiter = RateLimiter(0.5, 0.1)  # one in 0.2 s
    assert await limiter.wait() == 0.0
    assert round(await limiter.wait(), 6) == 0.2 + MARGIN_S


async def test_a_wait_that_is_cancelled_does_not_let_others_pass_too_early() -> None:
    limiter = RateLimiter(2, 0.2)
    watch = Stopwatch()
    await limiter.wait()
    await limiter.wait()
    cancelled = asyncio.create_task(limiter.wait())
    await asyncio.sleep(0)
    cancelled.cancel()
    await limiter.wait()
    await limiter.wait()
    assert watch.seconds == 2 * (0.2 + MARGIN_S)  # the place of the cancelled one is lost


def test_connections_of_one_host_share_a_limit_and_others_do_not() -> None:
    shared = Shared()
    one = shared.stream_limiter("connects", "x", "wss://user:pass@host/a", 3, 1.0)
    assert shared.stream_limiter("connects", "x", "wss://host/b", 3, 1.0) is one
    assert shared.stream_limiter("connects", "y", "wss://host/a", 3, 1.0) is not one
    assert shared.stream_limiter("requests", "x", "wss://host/a", 3, 1.0) is not one
    assert shared.stream_limiter("connects", "x", "wss://host:81/a", 3, 1.0) is not one
    assert shared.stream_limiter("connects", "x", "wss://HOST:443/a", 3, 1.0) is one
    # A market of the same venue.
    assert shared.stream_limiter("connects", "x linear", "wss://host/linear", 3, 1.0) is one
    shared.reset()
    assert shared.stream_limiter("connects", "x", "wss://host/a", 3, 1.0) is not one


@pytest.mark.parametrize("streams", [1, 2])
async def test_the_limit_of_new_connections_is_kept_whatever_ends_them(streams: int) -> None:
    async def greet(connection: ServerConnection) -> None:
        number = len(server.accepted_s)
        if number % 3 == 0:
            connection.transport.abort()
        elif number % 3 == 1:
            await connection.send(trade(number, 0), text=True)
            await connection.close()
        else:  # it is about to close: a successor is brought up beside it
            await connection.send(b'{"e":"serverShutdown","E":1723161240000}', text=True)

    few = replace(SPOT, limits=replace(SPOT.limits, connects=(4, 0.5)))
    async with TradeServer(greet=greet) as server:
        config = StreamConfig(
            close_by="trades", reconnect_delay=0.001, reconnect_max_delay=0.001, handover_overlap=0.01,
            handover_timeout=0.1,
        )  # fmt: skip
        adapters = [BaseWebSocketAdapter(few, config, url=server.url) for _ in range(streams)]
        for adapter in adapters:
            adapter.connections.first.subscriptions.want([("BTCUSDT", "trade")])
            await adapter.connect()
        await until(lambda: len(server.accepted_s) >= 11)
        for adapter in adapters:
            await adapter.disconnect()
    for first, fifth in zip(server.accepted_s, server.accepted_s[4:], strict=False):
        assert fifth - first >= 0.5


async def test_a_disconnect_does_not_wait_for_a_rate_limit() -> None:
    async with TradeServer() as server:
        adapter = adapter_of(server)
        await adapter.connect()
        SHARED.stream_limiter("connects", adapter.exchange.name, server.url, 300, 300.0).hold(60)
        server.abort()
        await until(lambda: adapter.state is ConnectionState.RECONNECTING)
        watch = Stopwatch()
        await adapter.disconnect()
        assert watch.seconds == 0.0
