"""The clients that are measured, each in a process of its own: `python -m benchmarks.wire_clients NAME URL`.

Prints a JSON object: CPU nanoseconds from the request to the close, messages, closed bars, and what else is known.
All but `count` make 1-minute bars. What they have to build by hand is as fast as plain Python gets it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import ssl
import sys
import time
from decimal import Decimal
from typing import Any

import orjson

MINUTE_MS = 60_000


class DictBars:
    """1-minute bars as dicts of floats or Decimals, the way most feeds are written."""

    def __init__(self, number: Any) -> None:
        self.open: dict[str, list[Any]] = {}
        self.number = number
        self.messages = 0
        self.bars = 0

    def add(self, payload: bytes | str) -> None:
        message = orjson.loads(payload)
        if message.get("e") != "trade":
            return
        self.messages += 1
        minute = message["T"] // MINUTE_MS
        price, size = self.number(message["p"]), self.number(message["q"])
        bar = self.open.get(message["s"])
        if bar is None or bar[0] != minute:
            self.bars += bar is not None
            taker = size if not message["m"] else 0
            self.open[message["s"]] = [minute, price, price, price, price, size, price * size, 1, taker]
            return
        bar[2] = max(bar[2], price)
        bar[3] = min(bar[3], price)
        bar[4] = price
        bar[5] += size
        bar[6] += price * size
        bar[7] += 1
        if not message["m"]:
            bar[8] += size


class Clock:
    """CPU time between the request and the close."""

    def __init__(self) -> None:
        self.start_ns = time.process_time_ns()
        self.rss = rss_bytes()

    def result(self, messages: int, bars: int, **others: Any) -> dict[str, Any]:
        cpu_ns = time.process_time_ns() - self.start_ns
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        grown = max(rss_bytes() - self.rss, 0)
        return {"cpu_ns": cpu_ns, "messages": messages, "bars": bars, "grown": grown, "peak": peak - self.rss, **others}


def rss_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def trusting(url: str) -> dict[str, Any]:
    """Options for a self-signed certificate."""
    if not url.startswith("wss"):
        return {}
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return {"ssl": context}


async def fastbars_client(url: str, *, scans: str = "", coalesce: float = 0.0) -> dict[str, Any]:
    """The library, from its adapter down."""
    import structlog  # noqa: F401  # else loaded with the first line that is logged: the blaster's first message says nothing

    import fastbars
    from fastbars.wire.scanner import TradeScanner
    from fastbars.wire.wakeup import Ending

    config = fastbars.StreamConfig(
        bars="1m", coalesce=coalesce, close_by="clock", connect_options={"proxy": None, **trusting(url)}
    )
    bars = 0
    late: list[tuple[float, float]] = []
    waits: list[int] = []

    def count(issued: list[Any]) -> None:
        nonlocal bars
        bars += sum(bar.revision == 0 for bar in issued)

    adapter = fastbars.BinanceWebSocketAdapter(config, on_bars=count, url=url, once=True)
    session: Any = adapter.session
    if scans == "general":  # without the layout memory
        declared = session.exchange.fields(session.channel)
        batch, symbol_id = session.intake.batch, session._admission.symbol_id
        session.intake.feeds.take_scanners(lambda: TradeScanner(declared, batch, symbol_id, remembers=False))
    await adapter.connect()

    async def tick() -> None:
        loop = asyncio.get_running_loop()
        while True:
            due, cpu = loop.time() + 0.010, time.process_time()
            await asyncio.sleep(0.010)
            # Late by the clock, and by what this process did meanwhile: others may have had the processor.
            late.append((loop.time() - due, time.process_time() - cpu - 0.010))

    if scans == "latency":
        connection: Any = adapter.connections.up[0].socket
        ending = connection._wakeup.ending

        def note_wait(steady_ns: int) -> bool:
            done: bool = ending.finish(steady_ns)
            if session.event_time_ns is not None:
                waits.append(time.time_ns() - session.event_time_ns)
            return done

        connection._wakeup.ending = Ending(note_wait)
    timer = asyncio.create_task(tick()) if scans == "timer" else None
    clock = Clock()
    await adapter.connections.up[0].send(b"go")
    await adapter.wait_closed()
    if timer is not None:
        timer.cancel()
    stats = session.stats
    own_ms = max((max(min(both), 0.0) for both in late), default=0.0) * 1e3
    others: dict[str, Any] = {
        "own_ms": own_ms,
        "late_ms": max((by_clock for by_clock, _ in late), default=0.0) * 1e3,
        "trades": stats.trades,
    }
    if waits:
        waits = sorted(waits[len(waits) // 10 :])
        others["latency_us"] = [waits[int(len(waits) * part)] / 1e3 for part in (0.5, 0.99, 0.999)]
    return clock.result(stats.trade_messages, bars, **others)


async def walking_client(url: str) -> dict[str, Any]:
    """The walker in a `websockets` connection, counting bytes of nothing: what receiving alone costs."""
    from functools import partial

    from websockets.asyncio.client import connect

    from fastbars import Instruments, TickBatch
    from fastbars.exchanges import find_exchange
    from fastbars.wire import PayloadConnection
    from fastbars.wire.scanner import TradeScanner

    fields = find_exchange("binance", "spot").fields("trade")
    assert fields is not None
    instruments = Instruments()
    batch = TickBatch(instruments, counts=True)
    scanner = TradeScanner(fields, batch, instruments.add)
    made: Any = partial(
        PayloadConnection, on_payloads=lambda _: batch.clear(), scanner=scanner, on_message=lambda _: None
    )
    options: dict[str, Any] = {"compression": None, "max_queue": None, "proxy": None} | trusting(url)
    connection = await connect(url, create_connection=made, **options)
    clock = Clock()
    await connection.send("go")
    await connection.wait_closed()
    return clock.result(scanner.take_counts()[0], 0)


async def websockets_client(url: str) -> dict[str, Any]:
    """`websockets`, orjson, Decimal."""
    from websockets.asyncio.client import connect

    bars = DictBars(Decimal)
    async with connect(url, compression=None, max_size=None, proxy=None, **trusting(url)) as connection:
        clock = Clock()
        await connection.send("go")
        async for message in connection:
            bars.add(message)
        return clock.result(bars.messages, bars.bars)


async def aiohttp_client(url: str) -> dict[str, Any]:
    """aiohttp, orjson, floats."""
    import aiohttp

    bars = DictBars(float)
    options: dict[str, Any] = {"ssl": False} if url.startswith("wss") else {}
    async with aiohttp.ClientSession() as session, session.ws_connect(url, max_msg_size=0, **options) as connection:
        clock = Clock()
        await connection.send_str("go")
        async for message in connection:
            bars.add(message.data)
        return clock.result(bars.messages, bars.bars)


async def picows_client(url: str) -> dict[str, Any]:
    """picows with a listener in Python, orjson, floats."""
    import picows

    bars = DictBars(float)

    class Listener(picows.WSListener):
        def on_ws_frame(self, transport: Any, frame: Any) -> None:
            if frame.msg_type == picows.WSMsgType.TEXT:
                bars.add(frame.get_payload_as_bytes())
            elif frame.msg_type == picows.WSMsgType.CLOSE:
                transport.disconnect()

    options = {"ssl_context": trusting(url)["ssl"]} if url.startswith("wss") else {}
    transport, _ = await picows.ws_connect(Listener, url, **options)
    clock = Clock()
    transport.send(picows.WSMsgType.TEXT, b"go")
    await transport.wait_disconnected()
    return clock.result(bars.messages, bars.bars)


class Empty(asyncio.Protocol):
    """Does nothing with what it receives."""

    def __init__(self) -> None:
        self.reads = 0
        self.closed = asyncio.Event()

    def data_received(self, data: bytes) -> None:  # noqa: ARG002
        self.reads += 1

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self.closed.set()


class Greeted(asyncio.Protocol):
    """Waits for the response to the handshake."""

    def __init__(self) -> None:
        self.answered = asyncio.Event()

    def data_received(self, data: bytes) -> None:  # noqa: ARG002
        self.answered.set()


async def empty_client(url: str) -> dict[str, Any]:
    """A uvloop protocol that does nothing: what being woken up costs, in a process that has numpy too."""
    import numpy as np  # noqa: F401

    loop = asyncio.get_running_loop()
    port = int(url.rsplit(":", 1)[1].split("/", maxsplit=1)[0])
    transport, greeted = await loop.create_connection(Greeted, "127.0.0.1", port)
    transport.write(b"GET / HTTP/1.1\r\nSec-WebSocket-Key: x\r\n\r\n")
    await greeted.answered.wait()
    protocol = Empty()
    transport.set_protocol(protocol)
    clock = Clock()
    transport.write(b"go")
    await protocol.closed.wait()
    return clock.result(protocol.reads, 0)


CLIENTS = {
    "fastbars": fastbars_client,
    "fastbars, general scanner": lambda url: fastbars_client(url, scans="general"),
    "fastbars, timer": lambda url: fastbars_client(url, scans="timer"),
    "fastbars, latency": lambda url: fastbars_client(url, scans="latency"),
    "fastbars, coalesce": lambda url: fastbars_client(url, coalesce=0.001),
    "fastbars, coalesce, latency": lambda url: fastbars_client(url, coalesce=0.001, scans="latency"),
    "fastbars, aiofastnet": fastbars_client,
    "walk and scan": walking_client,
    "websockets + orjson + Decimal": websockets_client,
    "aiohttp + orjson": aiohttp_client,
    "picows + orjson": picows_client,
    "empty protocol": empty_client,
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=CLIENTS)
    parser.add_argument("url")
    arguments = parser.parse_args()
    import uvloop

    async def run() -> dict[str, Any]:
        if arguments.name.endswith("aiofastnet"):
            import aiofastnet

            aiofastnet.patch_loop()
        return await CLIENTS[arguments.name](arguments.url)

    json.dump(uvloop.run(run()), sys.stdout)


if __name__ == "__main__":
    main()
