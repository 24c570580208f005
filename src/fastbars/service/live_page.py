"""LivePage: what a page that is open is sent over its WebSocket.

    page: {"subscribe": {exchange, market, symbol, spec}, "limit": 500} -> {"type": "bars", "first": true, ...}
          then each issued bar as {"type": "bars"}, the bar in progress as {"type": "update"}, and each second
          {"type": "status"}

Only what somebody looks at is made. A page that reads too slowly is dropped, with a reason; others are kept waiting
for none. Units: seconds on a steady clock.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import orjson

from fastbars.bars import OHLCVBar
from fastbars.clocks import steady_s, wall_ns
from fastbars.errors import FastbarsError
from fastbars.log import log
from fastbars.redaction import without_credentials
from fastbars.service.held import Series, series_of, wire_bar, wire_bars
from fastbars.service.http import View
from fastbars.ticks import to_datetime

if TYPE_CHECKING:
    from aiohttp import web

__all__ = ["LivePage"]

MOST_PAGES = 32
MOST_SERIES = 8  # of one page
MOST_QUEUED_BYTES = 8 << 20  # of one page
UPDATES_S, STATUS_S = 0.25, 1.0
_MOST_MESSAGE_BYTES = 4_096
_MOST_FIRST_BARS = 2_000
_MOST_HOLES = 50
_FAREWELL_S = 5.0  # for a slow page to read why it is dropped
_GOODBYE_S = 1.0
_HEARTBEAT_S = 20.0
_GOING_AWAY, _POLICY, _TRY_AGAIN_LATER = 1001, 1008, 1013

First = Callable[[Series, int], Awaitable[bytes]]


class _Page:
    # One WebSocket: what waits for it, and what it looks at.

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self.socket = socket
        self.series: set[Series] = set()
        self.later: dict[Series, list[bytes]] = {}  # behind the first bars, which are being read
        self.is_dropped = False
        self.is_ended = False
        self._queue: deque[bytes] = deque()
        self._bytes = 0
        self._ready = asyncio.Event()

    def send(self, message: bytes) -> None:
        if self.is_dropped:
            return
        self._queue.append(message)
        self._bytes += len(message)
        self.is_dropped = self._bytes > MOST_QUEUED_BYTES
        self._ready.set()

    async def write(self) -> None:
        # Until it is cancelled, or the page is dropped.
        while not self.is_dropped:
            if not self._queue:
                self._ready.clear()
                await self._ready.wait()
                continue
            message = self._queue.popleft()
            await self.socket.send_str(message.decode())
            self._bytes -= len(message)

    async def wait_over(self) -> None:
        # Until it is dropped, or ended by this side.
        while not self.is_dropped and not self.is_ended:
            self._ready.clear()
            await self._ready.wait()

    def end(self) -> None:
        self.is_ended = True
        self._ready.set()


class LivePage:
    """Keeps open pages up to date.

    Args:
        view: of the service.
        first: the latest bars of a series, so many, as JSON.
    """

    def __init__(self, view: View, first: First) -> None:
        self._view = view
        self._first = first
        self._pages: set[_Page] = set()
        self._watched: dict[Series, int] = {}
        self._shown: dict[Series, OHLCVBar | None] = {}
        self._rates: dict[str, tuple[float, int, float]] = {}  # of a venue: (when, its trades, a second since)
        self._task: asyncio.Task[None] | None = None
        self.dropped = 0

    @property
    def pages(self) -> int:
        """Open ones."""
        return len(self._pages)

    def add(self, bar: OHLCVBar) -> None:
        """Send a bar as it was issued to those that look at its series."""
        if self._watched:
            series = series_of(bar)
            if series in self._watched:
                self._send(series, {"type": "bars", "series": list(series), "bars": [wire_bar(bar)]})

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer one page, until it goes."""
        from aiohttp import web  # noqa: PLC0415 loaded already

        if len(self._pages) >= MOST_PAGES:
            raise web.HTTPServiceUnavailable(text=f"{MOST_PAGES} pages are open, which is the most")
        socket = web.WebSocketResponse(max_msg_size=_MOST_MESSAGE_BYTES, heartbeat=_HEARTBEAT_S)
        await socket.prepare(request)
        page = _Page(socket)
        self._pages.add(page)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._watch(), name="fastbars page")
        page.send(self._status())
        tasks = [asyncio.create_task(call) for call in (page.write(), page.wait_over(), self._read(page))]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                with suppress(ConnectionError, RuntimeError):  # the page has gone
                    task.result()
            if page.is_dropped:
                self.dropped += 1
                log.warning("page_dropped", reason="it reads too slowly", pages=len(self._pages))
                with suppress(TimeoutError, ConnectionError, RuntimeError):
                    async with asyncio.timeout(_FAREWELL_S):
                        await socket.close(code=_TRY_AGAIN_LATER, message=b"this page reads too slowly")
                if request.transport is not None:
                    request.transport.abort()
            elif page.is_ended:
                with suppress(TimeoutError, ConnectionError, RuntimeError):
                    async with asyncio.timeout(_GOODBYE_S):
                        await socket.close(code=_GOING_AWAY, message=b"the service has ended")
        finally:
            self._pages.discard(page)
            for series in list(page.series):
                self._unwatch(page, series)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        return socket

    def end(self) -> None:
        """End all sockets: the server stops. A page tries again by itself."""
        for page in self._pages:
            page.end()

    async def _read(self, page: _Page) -> None:
        from aiohttp import WSMsgType  # noqa: PLC0415 loaded already

        async for message in page.socket:
            if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                continue
            try:
                await self._obey(page, orjson.loads(message.data))
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                await page.socket.close(code=_POLICY, message=f"malformed message: {error}".encode()[:120])
                return

    async def _obey(self, page: _Page, message: dict[str, Any]) -> None:
        if "subscribe" in message:
            series = _named(message["subscribe"])
            limit = int(message.get("limit", 500))
            if not 1 <= limit <= _MOST_FIRST_BARS:
                raise ValueError(f"limit must be 1 to {_MOST_FIRST_BARS}")
            if series not in page.series:
                if len(page.series) >= MOST_SERIES:
                    raise ValueError(f"more than {MOST_SERIES} series")
                page.series.add(series)
                self._watched[series] = self._watched.get(series, 0) + 1
            await self._send_first(page, series, limit)
        elif "unsubscribe" in message:
            self._unwatch(page, _named(message["unsubscribe"]))
        else:
            raise ValueError("neither subscribe nor unsubscribe")

    async def _send_first(self, page: _Page, series: Series, limit: int) -> None:
        # What is issued while it waits is sent behind it.
        from aiohttp import web  # noqa: PLC0415 loaded already

        later = page.later[series] = []
        try:
            bars = await self._first(series, limit)
        except web.HTTPException as error:
            page.send(orjson.dumps({"type": "error", "series": list(series), "text": error.text}))
            bars = wire_bars(series, ())
        finally:
            del page.later[series]
        page.send(b'{"type":"bars","first":true,"series":%s,%s' % (orjson.dumps(list(series)), bars[1:]))
        for message in later:
            page.send(message)
        current = self._current(series)
        page.send(_update(series, current))

    def _unwatch(self, page: _Page, series: Series) -> None:
        if series in page.series:
            page.series.discard(series)
            self._watched[series] -= 1
            if not self._watched[series]:
                del self._watched[series]
                self._shown.pop(series, None)

    def _send(self, series: Series, message: Any) -> None:
        encoded = message if isinstance(message, bytes) else orjson.dumps(message)
        for page in self._pages:
            if series in page.later:
                page.later[series].append(encoded)
            elif series in page.series:
                page.send(encoded)

    async def _watch(self) -> None:
        # While a page is open: what changes without a bar being issued.
        status_s = 0.0
        while self._pages:
            try:
                for series in list(self._watched):
                    current = self._current(series)
                    if series not in self._shown or current != self._shown[series]:
                        self._shown[series] = current
                        self._send(series, _update(series, current))
                if steady_s() >= status_s:
                    status_s = steady_s() + STATUS_S
                    status = self._status()
                    for page in list(self._pages):
                        page.send(status)
            except Exception:  # noqa: BLE001 a task's top: what fails is logged, and pages stay open
                log.exception("page_failed")
            await asyncio.sleep(UPDATES_S)

    def _current(self, series: Series) -> OHLCVBar | None:
        for stream in self._view.streams.values():
            if stream.adapter.session.exchange.identity == (series.exchange, series.market):
                try:
                    return stream.current(series.symbol, series.spec)
                except (FastbarsError, ValueError):
                    return None
        return None

    def _status(self) -> bytes:
        stats = self._view.stats()
        venues: dict[str, Any] = {}
        sinks: dict[str, Any] = {}
        if stats is not None:
            streams = self._view.streams
            for name, own in (stats.venues or dict.fromkeys(streams, stats)).items():
                now_ns = wall_ns()
                age_s = None
                if own.event_time_ns is not None:
                    age_s = max(0.0, (now_ns - own.event_time_ns) / 1e9 + (own.clock_offset_s or 0.0))
                holes = streams[name].holes() if name in streams else {}
                checked = streams[name].verification if name in streams else None
                venues[name] = {
                    "state": str(own.state), "failure": without_credentials(own.failure),
                    "connections": own.connections, "trades": own.session.trades,
                    "rate": self._rate(name, own.session.trades), "symbols": own.symbols,
                    "age_s": age_s, "delay_s": own.delay_p50_s, "delay_p999_s": own.delay_p999_s,
                    "holes": len(holes), "late": own.buffer.late, "refused": own.buffer.refused,
                    "equal": None if checked is None else checked.equal,
                    "different": None if checked is None else checked.different,
                }  # fmt: skip
            sinks = {
                name: {
                    "state": str(own.state), "waiting": own.waiting, "confirmed": own.confirmed,
                    "lag_s": own.lag_s, "error": without_credentials(own.error),
                }
                for name, own in stats.sinks.items()
            }  # fmt: skip
        content = {
            "type": "status", "source": self._view.source, "time": to_datetime(wall_ns()).isoformat(),
            "venues": venues, "sinks": sinks, "holes": self._holes(), "live": bool(self._view.streams),
        }  # fmt: skip
        return orjson.dumps(content)

    def _rate(self, name: str, trades: int) -> float | None:
        now_s = steady_s()
        before = self._rates.get(name)
        if before is None or trades < before[1]:
            self._rates[name] = (now_s, trades, 0.0)
            return None
        elapsed_s = now_s - before[0]
        if elapsed_s < STATUS_S / 2:  # asked for out of turn, by a page that has just come
            return before[2] or None
        rate = (trades - before[1]) / elapsed_s
        self._rates[name] = (now_s, trades, rate)
        return rate

    def _holes(self) -> list[dict[str, Any]]:
        # Of the symbols that somebody looks at: what is missing, and what becomes of it.
        symbols = {(series.exchange, series.market, series.symbol) for series in self._watched}
        found: list[dict[str, Any]] = []
        for stream in self._view.streams.values():
            identity = stream.adapter.session.exchange.identity
            for hole, why in stream.holes().items():
                if (*identity, hole.symbol) in symbols and len(found) < _MOST_HOLES:
                    since_ns, until_ns = sorted((hole.since_ns, hole.until_ns))
                    found.append({
                        "exchange": identity[0], "market": identity[1], "symbol": hole.symbol,
                        "first": str(hole.first), "last": str(hole.last),
                        "since": to_datetime(since_ns).isoformat(), "until": to_datetime(until_ns).isoformat(),
                        "why": without_credentials(why),
                    })  # fmt: skip
        return found


def _update(series: Series, bar: OHLCVBar | None) -> bytes:
    return orjson.dumps({"type": "update", "series": list(series), "bar": None if bar is None else wire_bar(bar)})


def _named(content: dict[str, Any]) -> Series:
    values = [content[name] for name in Series._fields]
    if not all(isinstance(value, str) and len(value) <= 200 for value in values):
        raise ValueError("a series is named by four texts")
    return Series(*values)
