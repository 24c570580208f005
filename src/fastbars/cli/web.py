"""`fastbars serve` and `fastbars demo --web`: the page, over stored bars, or over an embedded exchange."""

from __future__ import annotations

import argparse
import asyncio
import os
import webbrowser
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from random import uniform
from typing import TYPE_CHECKING

from fastbars.cli.console import Console
from fastbars.cli.signals import on_signals
from fastbars.errors import FastbarsError
from fastbars.redaction import without_credentials
from fastbars.service.http import WebServer
from fastbars.service.page import Page
from fastbars.streams import run, stream

if TYPE_CHECKING:
    from fastbars.bar_stream import BarStream
    from fastbars.live.stats import StreamStats

__all__ = ["demo_on_page", "serve_stored"]

_DEMO_SPECS = ("1s", "5s", "1m", "tick:100@1m")  # anchored: cut again when a gap heals
_DEMO_PAST_S = 600.0
_OUTAGE_EVERY_S = 20.0


class _View:
    # What the page is shown of: a stream, or none.

    def __init__(self, source: str) -> None:
        self.source = source
        self.streams: Mapping[str, BarStream] = {}

    def stats(self) -> StreamStats | None:
        for one in self.streams.values():
            return one.stats()
        return None


def serve_stored(options: argparse.Namespace, console: Console) -> int:
    """Show stored bars until a signal. Raises FastbarsError: they cannot be read, or the address cannot be used."""
    from fastbars.service.stored import StoredBars  # noqa: PLC0415

    token = None
    if options.token_env is not None:
        token = os.environ.get(options.token_env)
        if not token:
            raise FastbarsError(f"the environment has no {options.token_env}")
    try:
        stored = StoredBars(options.source)
        series = len(list(stored.series()))  # mistakes are told at once
    except ModuleNotFoundError as error:
        raise FastbarsError(f'fastbars serve needs {error.name}: pip install "fastbars[archives]"') from None
    shown = without_credentials(options.source)
    page = Page(_View(shown), stored)

    async def serve() -> None:
        ended = asyncio.Event()
        with on_signals(ended.set):
            async with _serving(page, options.host, options.port, token) as url:
                console.say(f"{shown}: {series:,} symbols and specs; Ctrl-C ends")
                _open(url, is_wanted=options.browser)
                await ended.wait()

    run(serve())
    return 0


def demo_on_page(options: argparse.Namespace, console: Console) -> int:
    """Stream from an embedded exchange whose connections break now and then, and show it on the page."""
    run(_demo(options, console))
    return 0


async def _demo(options: argparse.Namespace, console: Console) -> None:
    from fastbars.live.config import StreamConfig  # noqa: PLC0415
    from fastbars.simulator import Fault, FaultKind, Faults, SimulatedExchange  # noqa: PLC0415
    from fastbars.simulator.dialects import find_dialect  # noqa: PLC0415

    view = _View("demo")
    page = Page(view)
    ended = asyncio.Event()
    faults = Faults()
    names = [one.symbol for one in find_dialect("binance").list_market("spot", options.symbols)[1]]

    async def break_connections() -> None:
        while True:
            await asyncio.sleep(uniform(0.8, 1.2) * _OUTAGE_EVERY_S)  # noqa: S311 no secret
            faults.inject(FaultKind.DROP)
            faults.inject(Fault(FaultKind.REFUSE, count=3, status=503))

    async def follow(bars: BarStream) -> None:
        async for bar in bars:
            page.add(bar)

    exchange = SimulatedExchange(
        "binance", symbols=options.symbols, rate=options.rate, past_s=_DEMO_PAST_S, faults=faults
    )
    with on_signals(ended.set):
        async with (
            exchange,
            stream(
                "binance", names, _DEMO_SPECS, url=exchange.url, verify=True,
                config=StreamConfig(rest_url=exchange.rest_url, reconnect_max_delay=1.5),  # back while one looks
            ) as bars,
            _serving(page, "127.0.0.1", options.port, None) as url,
        ):  # fmt: skip
            view.streams = {"binance": bars}
            console.say(
                f"embedded exchange: {options.symbols} symbols, about {options.rate:,.0f} trades a second, connections"
                f" that break every {_OUTAGE_EVERY_S:g} s; {options.seconds:g} s, Ctrl-C ends"
            )
            _open(url, is_wanted=options.browser)
            tasks = [asyncio.create_task(break_connections()), asyncio.create_task(follow(bars))]
            waiting = asyncio.create_task(ended.wait())
            try:
                await asyncio.wait([*tasks, waiting], timeout=options.seconds, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (*tasks, waiting):
                    task.cancel()
                await asyncio.wait([*tasks, waiting])
                view.streams = {}
            for task in tasks:
                with suppress(asyncio.CancelledError):
                    task.result()


@asynccontextmanager
async def _serving(page: Page, host: str, port: int, token: str | None) -> AsyncIterator[str]:
    server = WebServer(page.routes(), host, port, token=token)
    await server.start()
    try:
        yield server.url
    finally:
        await server.stop()


def _open(url: str, *, is_wanted: bool) -> None:
    print(url, flush=True)
    if is_wanted:
        webbrowser.open(url)
