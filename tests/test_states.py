"""Tests of a connection's states, transition by transition, and of what is left when a call is cancelled anywhere."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from pathlib import Path
from typing import Any

import pytest

import fastbars
from fastbars import BinanceWebSocketAdapter, ConnectionState, StreamConfig
from fastbars.errors import WSConnectionError
from servers import RawServer, TradeServer, keep_silent, until

# Not the name alone: the folder that the tests lie in may bear it, too.
PACKAGE = str(Path(fastbars.__file__).parent)
DISCONNECTED, CONNECTING, CONNECTED, RECONNECTING, CLOSED = ConnectionState
QUICK = StreamConfig(close_by="clock", reconnect_delay=0.01, reconnect_max_delay=0.01, ack_timeout=5.0)


@pytest.fixture(autouse=True)
async def nothing_is_left_behind() -> AsyncIterator[None]:
    sockets = open_sockets()
    yield
    await nothing_runs()
    assert open_sockets() <= sockets


async def nothing_runs() -> None:
    """Of our own, that is: no task, no timer."""

    def ours(what: object) -> bool:
        return PACKAGE in repr(what) or "name='fastbars" in repr(what)

    await until(lambda: not [task for task in asyncio.all_tasks() if ours(task)])
    timers = getattr(asyncio.get_running_loop(), "_scheduled", [])
    assert [timer for timer in timers if not timer.cancelled() and ours(timer)] == []


def open_sockets() -> int:
    fds = "/proc/self/fd"
    if not os.path.isdir(fds):
        return 0
    count = 0
    for fd in os.listdir(fds):
        try:
            count += os.readlink(f"{fds}/{fd}").startswith("socket:")
        except OSError:
            continue
    return count


class Client:
    """An adapter and the states that it passed through."""

    def __init__(self, url: str, config: StreamConfig = QUICK) -> None:
        self.states: list[ConnectionState] = []
        self.adapter = BinanceWebSocketAdapter(config, url=url, on_state=self.states.append)


# One test a transition that others do not have.


async def test_closing_what_never_connected_is_for_good() -> None:
    client = Client("ws://127.0.0.1:1/ws")
    await client.adapter.close()
    assert client.states == [CLOSED]
    with pytest.raises(WSConnectionError, match=r"^binance spot: the connection was closed for good$"):
        await client.adapter.connect()
    with pytest.raises(WSConnectionError, match="closed for good"):
        await client.adapter.reconnect()
    await client.adapter.disconnect()
    await client.adapter.close()
    assert client.states == [CLOSED]


async def test_closing_while_connecting_is_for_good() -> None:
    async with RawServer(mute=True) as server:
        client = Client(server.url)
        connecting = asyncio.create_task(client.adapter.connect())
        await until(lambda: server.accepted)
        await client.adapter.close()
        await connecting
        assert client.states == [CONNECTING, DISCONNECTED, CLOSED]
        with pytest.raises(WSConnectionError, match="closed for good"):
            await client.adapter.connect()


async def test_closing_while_connected_is_for_good() -> None:
    async with TradeServer() as server:
        client = Client(server.url)
        await client.adapter.connect()
        await client.adapter.close()
        assert client.states == [CONNECTING, CONNECTED, DISCONNECTED, CLOSED]
        with pytest.raises(WSConnectionError, match="closed for good"):
            await client.adapter.connect()
        assert len(server.accepted_s) == 1


async def test_closing_while_reconnecting_is_for_good() -> None:
    async with TradeServer() as server:
        client = Client(server.url)
        await client.adapter.connect()
        await server.shut()
        await until(lambda: client.adapter.state is RECONNECTING)
        await client.adapter.close()
        assert client.states == [CONNECTING, CONNECTED, RECONNECTING, DISCONNECTED, CLOSED]


async def test_after_a_disconnect_it_can_connect_again_and_everything_desired_is_subscribed() -> None:
    async with TradeServer() as server:
        client = Client(server.url)
        for _ in range(2):
            await client.adapter.connect()
            await client.adapter.subscribe(["BTCUSDT"])
            await client.adapter.disconnect()
        assert client.states == [CONNECTING, CONNECTED, DISCONNECTED] * 2
        assert server.streams == ["btcusdt@trade"] * 2


async def test_connecting_while_a_disconnect_is_under_way_waits_for_its_end() -> None:
    async with RawServer() as server:  # never answers a close
        client = Client(server.url)
        await client.adapter.connect()
        ending = asyncio.create_task(client.adapter.disconnect())
        await until(lambda: client.adapter.state is DISCONNECTED)
        connecting = asyncio.create_task(client.adapter.connect())
        await asyncio.sleep(0.05)
        assert (client.adapter.state, server.accepted) == (CONNECTING, 1)
        server.writers[0].transport.abort()
        await asyncio.gather(ending, connecting)
        assert (client.adapter.state, server.accepted) == (CONNECTED, 2)
        server.writers[1].transport.abort()
        await client.adapter.disconnect()


async def test_connecting_again_and_again_while_ends_are_cancelled_leaves_one_connection() -> None:
    async with TradeServer() as server:
        client = Client(server.url)
        for _ in range(5):
            await client.adapter.connect()
            ending = asyncio.create_task(client.adapter.disconnect())
            await asyncio.sleep(0)
            ending.cancel()
        await client.adapter.connect()
        assert len(server.connections) == 1
        assert client.adapter.is_connected
        await client.adapter.close()
        assert not server.connections


async def test_states_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "fastbars")
    async with TradeServer() as server:
        client = Client(server.url)
        await client.adapter.connect()
        await client.adapter.close()
    logged = [record.message for record in caplog.records if record.message.startswith("state ")]
    names = ("connecting", "connected", "disconnected", "closed")
    assert logged == [f"state exchange='binance spot' state='{name}'" for name in names]


# Cancelling at every await.


class Cancelled:
    """Awaits something and cancels the task at the n-th time that it waits."""

    def __init__(self, awaitable: Awaitable[object], at: int) -> None:
        self.waits = 0
        self._awaitable = awaitable
        self._at = at

    def __await__(self) -> Generator[Any, Any, None]:
        inner = self._awaitable.__await__()
        try:
            waited_for = next(inner)
            while True:
                self.waits += 1
                if self.waits == self._at:
                    task = asyncio.current_task()
                    assert task is not None
                    task.cancel()
                try:
                    got = yield waited_for
                except BaseException as error:  # noqa: BLE001 it is handed on
                    waited_for = inner.throw(error)
                else:
                    waited_for = inner.send(got)
        except StopIteration:
            return


async def waits_of(make: Callable[[], Awaitable[object]], at: int) -> tuple[int, bool]:
    """How often it waited, and whether it was cancelled."""

    async def run() -> None:
        await cancelled

    cancelled = Cancelled(make(), at)
    task = asyncio.create_task(run())
    await asyncio.wait([task])
    if not task.cancelled() and task.exception() is not None:
        raise task.exception()  # type: ignore[misc]
    return cancelled.waits, task.cancelled()


async def test_a_connect_cancelled_at_any_await_leaves_nothing() -> None:
    async with TradeServer() as server:
        at, cancelled = 0, True
        while cancelled:
            at += 1
            client = Client(server.url)
            _, cancelled = await waits_of(client.adapter.connect, at)
            assert client.adapter.state is (DISCONNECTED if cancelled else CONNECTED)
            if not cancelled:
                await client.adapter.disconnect()
            await nothing_runs()
            assert not server.connections
        assert at > 1


async def test_a_disconnect_cancelled_at_any_await_still_ends_the_connection() -> None:
    async with TradeServer() as server:
        at, cancelled = 0, True
        while cancelled:
            at += 1
            client = Client(server.url)
            await client.adapter.connect()
            _, cancelled = await waits_of(client.adapter.disconnect, at)
            assert client.adapter.state is DISCONNECTED
            await nothing_runs()
            assert not server.connections
        assert at > 1


@pytest.mark.parametrize("operation", ["subscribe", "unsubscribe"])
async def test_a_subscribe_cancelled_at_any_await_leaves_a_connection_that_works(operation: str) -> None:
    async with TradeServer() as server:
        at, cancelled = 0, True
        while cancelled:
            at += 1
            client = Client(server.url)
            await client.adapter.connect()
            await client.adapter.subscribe(["ETHUSDT"])
            call = getattr(client.adapter, operation)
            _, cancelled = await waits_of(lambda call=call: call(["ETHUSDT", "BTCUSDT"]), at)  # type: ignore[misc]
            await client.adapter.subscribe(["BTCUSDT", "ETHUSDT"])
            assert client.adapter.connections.first.subscriptions.confirmed == {
                ("BTCUSDT", "trade"),
                ("ETHUSDT", "trade"),
            }
            await client.adapter.disconnect()
            await nothing_runs()
        assert at > 1


async def test_a_disconnect_at_any_turn_of_a_connect_leaves_nothing() -> None:
    async with TradeServer() as server:
        for turns in range(1, 40):
            client = Client(server.url)
            connecting = asyncio.create_task(client.adapter.connect())
            for _ in range(turns):
                await asyncio.sleep(0)
            await client.adapter.disconnect()
            await connecting
            assert client.adapter.state is DISCONNECTED
            await nothing_runs()
            await until(lambda: not server.connections)


async def test_a_close_at_any_turn_of_a_reconnect_leaves_nothing() -> None:
    async with TradeServer(keep_silent) as server:
        for turns in range(0, 60, 3):
            client = Client(server.url)
            await client.adapter.connect()
            assert server.connections
            server.abort()
            for _ in range(turns):
                await asyncio.sleep(0)
            await client.adapter.close()
            assert client.adapter.state is CLOSED
            await nothing_runs()
            assert not server.connections
