"""The page: bars to look at, `GET /bars` and `/series` for programs, and the WebSocket that keeps the page up to date.

    bars as issued -> HeldBars (latest revisions, bounded) -> /bars, /ws
    stored bars (a sink that can be read) ----------------^

Every answer is bounded. Prices, sums and ids are text, exactly as they are; what the page draws it makes itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib import resources
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from fastbars.bars import OHLCVBar
from fastbars.errors import FastbarsError
from fastbars.plotting.palette import STATUS_COLOURS, STATUS_OPACITY, css
from fastbars.service.held import MOST_BYTES, HeldBars, Series, bar_key, sorted_bars, wire_bars
from fastbars.service.http import Route, View
from fastbars.service.live_page import LivePage
from fastbars.specs import BarSpec

if TYPE_CHECKING:
    from aiohttp import web

__all__ = ["Page", "Stored"]

MOST_BARS = 5_000  # of one answer
MOST_SYMBOLS = 200
_MOST_TEXT = 200
_DEFAULT_BARS = 500
_TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
_FILES = ("page.js", "chart.js", "page.css", "icon.svg", "lightweight-charts.js")
_ARROW = "application/vnd.apache.arrow.stream"
_OWN_COLUMNS = ("source", "issued_time", "begins", "number", "rank")  # of sinks, not of bars
_SERIES_S = 1.0


class Stored(Protocol):
    """Bars that are kept elsewhere; see `stored.py`. Its methods may block, and are called in a thread."""

    def series(self) -> Iterable[Series]:
        """Those with bars."""

    def bars(self, series: Series, since: datetime | None, until: datetime | None, limit: int) -> list[OHLCVBar]:
        """The latest that open from `since` on and before `until`, in order. Raises FastbarsError."""


class Page:
    """What the page and its programs are shown.

    Args:
        view: of the service.
        stored: where bars are that are no longer held; None: nowhere.
        held_bytes: memory for held bars, about.
    """

    def __init__(self, view: View, stored: Stored | None = None, held_bytes: int = MOST_BYTES) -> None:
        self._view = view
        self._stored = stored
        self.held = HeldBars(held_bytes)
        self.live = LivePage(view, self._first)
        self._listed: tuple[float, list[dict[str, Any]]] = (-_SERIES_S, [])

    def add(self, bar: OHLCVBar) -> None:
        """Take a bar as it was issued."""
        self.held.add(bar)
        self.live.add(bar)

    def routes(self) -> list[Route]:
        """The page at "/", its files, and what it asks for."""
        folder = resources.files("fastbars.service").joinpath("web")
        contents = {name: folder.joinpath(name).read_bytes() for name in ("index.html", *_FILES)}
        contents["palette.css"] = (css() + _status_css()).encode()
        contents["palette.js"] = b"".join(
            b"export const %s = %s;\n" % (name, orjson.dumps(table))
            for name, table in ((b"STATUS_COLOURS", STATUS_COLOURS), (b"STATUS_OPACITY", STATUS_OPACITY))
        )

        def of_file(name: str) -> Route:
            async def file(_: web.Request) -> web.Response:
                return self._file(name, contents[name])

            return Route("/" if name == "index.html" else f"/web/{name}", file)

        return [
            *map(of_file, contents),
            Route("/series", self._answer_series),
            Route("/bars", self._answer_bars),
            Route("/ws", self.live.serve, on_stop=self.live.end),
        ]

    def _file(self, name: str, content: bytes) -> web.Response:
        from aiohttp import web  # noqa: PLC0415 loaded already

        response = web.Response(body=content, content_type=_TYPES[name.rpartition(".")[2]], charset="utf-8")
        response.enable_compression()
        return response

    async def _answer_series(self, request: web.Request) -> web.Response:
        query = _Query(request, {"search", "limit"})
        search = query.text("search").casefold().split()
        limit = query.number("limit", 50, MOST_SYMBOLS)
        found = await self._symbols()
        if search:
            found = [one for one in found if all(word in one["words"] for word in search)]
            found.sort(key=lambda one: (not one["symbol"].casefold().startswith(search[0]), len(one["symbol"])))
        shown = [{name: value for name, value in one.items() if name != "words"} for one in found[:limit]]
        return _json({"symbols": shown, "total": len(found), "source": self._view.source})

    async def _symbols(self) -> list[dict[str, Any]]:
        # Symbols with their specs, each as JSON has it; made once a second at most.
        now_s = asyncio.get_running_loop().time()
        if now_s - self._listed[0] < _SERIES_S:
            return list(self._listed[1])
        stored = () if self._stored is None else await _in_thread(self._stored.series)
        streams = [
            (one.adapter.session.exchange.identity, one.adapter.session.config.specs, list(one.subscribed))
            for one in self._view.streams.values()
        ]
        series = [*self.held.series(), *stored]
        listed: list[dict[str, Any]] = await _in_thread(_listed, streams, series)
        self._listed = (now_s, listed)
        return list(listed)

    async def _answer_bars(self, request: web.Request) -> web.Response:
        from aiohttp import web  # noqa: PLC0415 loaded already

        query = _Query(request, {"exchange", "market", "symbol", "spec", "since", "until", "limit", "format"})
        series = Series(*(query.text(name, needed=True) for name in Series._fields))
        since, until = query.time("since"), query.time("until")
        limit = query.number("limit", _DEFAULT_BARS, MOST_BARS)
        form = query.text("format") or ("arrow" if _ARROW in request.headers.get("Accept", "") else "json")
        if form not in ("json", "arrow"):
            raise query.error("format", f"must be json or arrow, got {form!r}")
        bars = await self._bars(series, since, until, limit)
        encode, kind = (_arrow, _ARROW) if form == "arrow" else (wire_bars, "application/json")
        return web.Response(body=await _in_thread(encode, series, bars), content_type=kind)

    async def _first(self, series: Series, limit: int) -> bytes:
        bars = await self._bars(series, None, None, min(limit, MOST_BARS))
        return bytes(await _in_thread(wire_bars, series, bars))

    async def _bars(self, series: Series, since: datetime | None, until: datetime | None, limit: int) -> list[OHLCVBar]:
        # In threads, so that neither the stream nor other pages wait for many bars.
        held: list[OHLCVBar] = await _in_thread(sorted_bars, self.held.bars(series), since, until, limit)
        if self._stored is None or len(held) >= limit:
            return held
        stored: list[OHLCVBar] = await _in_thread(self._stored.bars, series, since, until, limit)
        # What is held is newer; looked up again, as time has passed.
        both = {bar_key(bar): bar for bar in stored}
        both |= {bar_key(bar): bar for bar in self.held.bars(series)}
        return sorted_bars(both.values(), since, until, limit)


def _listed(
    streams: Iterable[tuple[tuple[str, str], Iterable[BarSpec], Iterable[str]]], series: Iterable[Series]
) -> list[dict[str, Any]]:
    specs: dict[tuple[str, str, str], dict[str, None]] = {}
    for identity, own, symbols in streams:
        names = dict.fromkeys(map(str, own))
        for symbol in symbols:
            specs.setdefault((*identity, symbol), {}).update(names)
    for one in series:
        specs.setdefault(one[:3], {})[one.spec] = None
    return [
        {
            "exchange": exchange, "market": market, "symbol": symbol, "specs": list(names),
            "words": f"{exchange} {market} {symbol}".casefold(),
        }
        for (exchange, market, symbol), names in specs.items()
    ]  # fmt: skip


async def _in_thread(call: Any, *arguments: Any) -> Any:
    from aiohttp import web  # noqa: PLC0415 loaded already

    try:
        return await asyncio.to_thread(call, *arguments)
    except ModuleNotFoundError as error:
        text = f'this needs {error.name}: pip install "fastbars[archives]"'
        raise web.HTTPNotImplemented(text=text) from None
    except FastbarsError as error:
        raise web.HTTPServiceUnavailable(text=str(error)) from None


def _arrow(_: Series, bars: list[OHLCVBar]) -> bytes:
    import pyarrow as pa  # noqa: PLC0415 an extra, for those who ask

    from fastbars.sinks.parquet import table_of  # noqa: PLC0415
    from fastbars.sinks.rows import Rows, now  # noqa: PLC0415

    table = table_of(Rows(bars, "", [now()] * len(bars))).drop_columns(list(_OWN_COLUMNS))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _status_css() -> str:
    return "".join(f'[data-status="{status}"]{{--status:var(--{colour})}}' for status, colour in STATUS_COLOURS.items())


def _json(content: Any) -> web.Response:
    from aiohttp import web  # noqa: PLC0415 loaded already

    return web.Response(body=orjson.dumps(content), content_type="application/json")


class _Query:
    # The parameters of a request, checked; what is wrong is answered with 400 and says which.

    def __init__(self, request: web.Request, known: set[str]) -> None:
        self._query = request.query
        for name in request.query:
            if name not in known:
                raise self.error(name[:40], f"no such parameter; known are {', '.join(sorted(known))}")

    def error(self, name: str, message: str) -> Exception:
        from aiohttp import web  # noqa: PLC0415 loaded already

        return web.HTTPBadRequest(text=f"{name}: {message}")

    def text(self, name: str, *, needed: bool = False) -> str:
        value = self._query.get(name, "")
        if len(value) > _MOST_TEXT:
            raise self.error(name, f"has {len(value)} characters, at most {_MOST_TEXT} are allowed")
        if needed and name not in self._query:
            raise self.error(name, "is missing")
        return value

    def number(self, name: str, default: int, most: int) -> int:
        text = self.text(name) or str(default)
        if not (text.isascii() and text.isdigit() and len(text) <= 9 and 1 <= int(text) <= most):
            raise self.error(name, f"must be 1 to {most}, got {text!r:.40}")
        return int(text)

    def time(self, name: str) -> datetime | None:
        text = self.text(name)
        if not text:
            return None
        try:
            time = datetime.fromisoformat(text.replace(" ", "+"))  # "+" of a zone is a blank in a query
        except ValueError:
            time = None
        if time is None or time.tzinfo is None:
            raise self.error(name, f"must be a time with a zone, such as 2025-01-31T12:00:00Z, got {text!r:.60}")
        return time.astimezone(UTC)
