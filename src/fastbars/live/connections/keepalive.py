"""Keepalive: pings that keep a connection up and show when it is dead, and subscriptions that are renewed in time.

    protocol ping         every `heartbeat_interval`, or half of the longest silence; any byte that comes proves life
    application ping      every `Keepalive.interval_s`, where the exchange wants it
    subscription refresh  before `Limits.subscription_lifetime_s` is over, where the exchange forgets them

Units: seconds.
"""

from __future__ import annotations

import asyncio

from fastbars.clocks import steady_ns
from fastbars.errors import SubscriptionError
from fastbars.live.connections.connection import Connection, have_been_read
from fastbars.log import log

_REFRESH = 0.8  # of its lifetime, a subscription is made again


def start(connection: Connection) -> None:
    """Start the tasks that keep a connection up until it ends."""
    exchange = connection.exchange
    connection.run_task(_ping(connection), "heartbeat")
    if exchange.keepalive.payload is not None:
        connection.run_task(_ping_as_message(connection, exchange.keepalive.payload), "application ping")
    if exchange.limits.subscription_lifetime_s is not None:
        connection.run_task(_refresh(connection, exchange.limits.subscription_lifetime_s), "refresh")


def longest_silence_s(connection: Connection) -> float:
    """Seconds without data after which the connection is dropped: as set, or fewer where the exchange promises more."""
    config, keepalive = connection.config, connection.exchange.keepalive
    if keepalive.silence_s is None:
        return config.heartbeat_timeout
    promised_s = keepalive.silence_s
    if keepalive.payload is not None:  # what is promised may be the answer to it
        promised_s += max(0.0, _application_interval_s(connection) - keepalive.interval_s)
    return min(config.heartbeat_timeout, promised_s)


def _application_interval_s(connection: Connection) -> float:
    return connection.config.application_ping_interval or connection.exchange.keepalive.interval_s


async def _ping(connection: Connection) -> None:
    # Silence proves a connection dead only if a ping was sent and everything that came since was read: a process that
    # was suspended, or blocked in a slow callback, has done neither.
    longest_s = longest_silence_s(connection)
    asked_ns: int | None = None
    while True:
        left_s = longest_s - connection.silent_s(steady_ns())
        # At least twice in that time: a live server answers, however quiet the market is.
        shortest_s = min(connection.config.heartbeat_interval, longest_s / 2)
        await asyncio.sleep(min(shortest_s, left_s) if left_s > 0 else shortest_s)
        if connection.silent_s(steady_ns()) >= longest_s:
            await have_been_read([connection])
            now_ns = steady_ns()
            silent_s = connection.silent_s(now_ns)
            if silent_s >= longest_s and asked_ns is not None and now_ns - asked_ns < silent_s * 1e9:
                connection.drop(f"no data received for {silent_s:.1f} s")
                return
        await connection.ping()
        asked_ns = steady_ns()


async def _ping_as_message(connection: Connection, payload: bytes) -> None:
    while True:
        await asyncio.sleep(_application_interval_s(connection))
        await connection.send(payload)
        log.debug("application_ping", exchange=connection.exchange.name)


async def _refresh(connection: Connection, lifetime_s: float) -> None:
    while True:
        await asyncio.sleep(lifetime_s * _REFRESH)
        try:
            await connection.subscriptions.refresh(connection.send)
        except SubscriptionError as error:
            log.error("subscription_refused", exchange=connection.exchange.name, error=str(error))
        log.debug("subscriptions_refreshed", exchange=connection.exchange.name)
