"""Tests of what keeps a connection up, and of how soon its death is known."""

from __future__ import annotations

import asyncio
import socket
import time
from dataclasses import replace

import pytest

import fastbars
from fake_clock import FakeClockLoop, Stopwatch
from fastbars import BaseWebSocketAdapter, StreamConfig
from fastbars.exchanges import find_exchange
from fastbars.exchanges.binance import SPOT
from fastbars.exchanges.declaration import Exchange, Keepalive
from fastbars.live.connections.connection import Connection
from fastbars.live.connections.keepalive import longest_silence_s
from fastbars.live.connections.subscriptions import Subscriptions
from fastbars.live.session import Session
from servers import PING, RawServer, TradeServer, frame, trade, until


def silence_of(exchange: Exchange, config: StreamConfig) -> float:
    connection = Connection(Session(exchange, config), "ws://a", Subscriptions(exchange, 1.0), print, print)
    return longest_silence_s(connection)


async def test_a_connection_is_given_up_when_the_exchange_has_broken_its_promise_or_earlier_where_asked() -> None:
    assert silence_of(find_exchange("coinbase"), StreamConfig()) == 5.0
    assert silence_of(find_exchange("coinbase"), StreamConfig(heartbeat_timeout=2.0)) == 2.0
    assert silence_of(replace(SPOT, keepalive=Keepalive()), StreamConfig()) == 60.0
    asked = replace(SPOT, keepalive=Keepalive(b"ping", interval_s=20.0, silence_s=30.0))
    assert silence_of(asked, StreamConfig()) == 30.0
    assert silence_of(asked, StreamConfig(application_ping_interval=25.0)) == 35.0  # the answer comes as much later
    assert silence_of(asked, StreamConfig(application_ping_interval=5.0)) == 30.0


async def test_a_dead_socket_is_known_when_the_promised_silence_is_over(caplog: pytest.LogCaptureFixture) -> None:
    exchange = replace(SPOT, keepalive=Keepalive(silence_s=0.4))
    async with RawServer() as server:  # answers no ping
        adapter = BaseWebSocketAdapter(exchange, StreamConfig(reconnect_delay=0.01), url=server.url)
        await adapter.connect()
        watch = Stopwatch()
        await until(lambda: server.accepted == 2)
        assert 0.4 <= watch.seconds <= 0.6  # noticed at the next ping
        assert "ended: no data received for 0.4 s" in caplog.text
        assert server.received[0] & 0x0F == PING  # it was asked first
        await adapter.disconnect()


async def test_a_quiet_server_that_answers_pings_is_not_given_up() -> None:
    exchange = replace(SPOT, keepalive=Keepalive(silence_s=2.0))
    async with TradeServer() as server:  # it says nothing by itself
        adapter = BaseWebSocketAdapter(exchange, StreamConfig(), url=server.url)
        await adapter.connect()
        await asyncio.sleep(5.0)
        assert adapter.stats().connections == 1
        await adapter.disconnect()


async def test_a_process_that_stood_still_asks_before_it_gives_a_connection_up() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, FakeClockLoop)
    exchange = replace(SPOT, keepalive=Keepalive(silence_s=2.0))
    async with TradeServer() as server:  # it says nothing by itself
        adapter = BaseWebSocketAdapter(exchange, StreamConfig(), url=server.url)
        await adapter.connect()
        await asyncio.sleep(0.5)
        loop.turn(60.0)  # as a slow callback or a suspended machine does
        await asyncio.sleep(5.0)
        assert adapter.stats().connections == 1
        await adapter.disconnect()


def test_a_process_that_stood_still_reads_what_has_come_before_it_gives_a_connection_up() -> None:
    async def main() -> int:
        exchange = replace(SPOT, keepalive=Keepalive(silence_s=0.6))
        loop = asyncio.get_running_loop()
        waker, woken = socket.socketpair()
        woken.setblocking(False)
        async with RawServer() as server:  # answers no ping
            adapter = BaseWebSocketAdapter(exchange, StreamConfig(), url=server.url)
            await adapter.connect()
            await until(lambda: server.received and server.received[0] & 0x0F == PING)

            def stand_still() -> None:
                loop.remove_reader(woken)
                server.writers[0].write(frame(trade(1, 0)))
                time.sleep(0.7)

            loop.add_reader(woken, stand_still)  # while it polls its sockets: timers come next, and reading after them
            waker.send(b"x")
            await until(lambda: adapter.stats().session.trades == 1 or adapter.stats().connections > 1)
            await adapter.disconnect()
        waker.close()
        woken.close()
        return adapter.stats().connections

    assert fastbars.run(main()) == 1
