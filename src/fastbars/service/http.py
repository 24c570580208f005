"""One web server for everything that a service shows: metrics, health, bars, the page.

    routes (metrics.py, health.py, ...) -> WebServer -> loopback, or anywhere with a token

Without a token it listens on loopback only, and answers only requests that name a loopback host, so that no web page
that somebody opens on this machine can read it (DNS rebinding). With one, every request needs it: as
`Authorization: Bearer TOKEN`, or in the cookie that `/?token=TOKEN` sets, which is what browsers are for.

aiohttp is imported when a server is started.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
from collections.abc import Awaitable, Callable, Mapping, Sequence
from ssl import SSLContext
from typing import TYPE_CHECKING, Protocol

from fastbars.errors import FastbarsError
from fastbars.log import log
from fastbars.redaction import keep_secret

if TYPE_CHECKING:
    from aiohttp import web

    from fastbars.bar_stream import BarStream
    from fastbars.live.stats import StreamStats

__all__ = ["Route", "View", "WebServer"]

MOST_REQUEST_BYTES = 1 << 20
MOST_CONNECTIONS = 512
_COOKIE = "fastbars_token"
_SHORTEST_TOKEN = 16
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:;"
        " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class View(Protocol):
    """What routes may read of a service, or of a stream that is shown by itself.

    Attributes:
        source: name of the stream in what it writes.
    """

    source: str

    @property
    def streams(self) -> Mapping[str, BarStream]:
        """The stream of each venue, by the names that they were given by; empty while none runs."""

    def stats(self) -> StreamStats | None:
        """All counters together; None while no stream runs."""


Handler = Callable[["web.Request"], Awaitable["web.StreamResponse"]]


class Route:
    """One address that the server answers.

    Args:
        path: such as "/metrics"; with aiohttp's `{name}` parts.
        handler: an async function of the request.
        is_open: answered without a token, as probes of an orchestrator have none; it must show nothing of value.
        on_stop: called when the server stops, to end answers that would last.
    """

    __slots__ = ("handler", "is_open", "method", "on_stop", "path")

    def __init__(
        self,
        path: str,
        handler: Handler,
        *,
        is_open: bool = False,
        method: str = "GET",
        on_stop: Callable[[], object] | None = None,
    ) -> None:
        self.path = path
        self.handler = handler
        self.is_open = is_open
        self.method = method
        self.on_stop = on_stop


class WebServer:
    """Answers its routes over HTTP until it is stopped.

    Args:
        routes: what it answers; every other path is 404.
        host, port: to listen on; port 0: any free one.
        token: that requests need; None: loopback only.
        ssl: for https.

    Raises:
        FastbarsError: a host that is not loopback, without a token; a token that is too short; no such port.
    """

    def __init__(
        self,
        routes: Sequence[Route],
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        token: str | None = None,
        ssl: SSLContext | None = None,
    ) -> None:
        if token is not None and len(token) < _SHORTEST_TOKEN:
            raise FastbarsError(f"the token has {len(token)} characters; at least {_SHORTEST_TOKEN} are needed")
        if token is None and not is_loopback(host):
            raise FastbarsError(
                f"without a token only this machine is answered, and {host!r:.100} is not loopback: set a token, or"
                " listen on 127.0.0.1"
            )
        if not 0 <= port <= 65_535:
            raise FastbarsError(f"port must be 0 to 65535, got {port}")
        keep_secret(token)
        self._routes = routes
        self._host = host
        self._port = port
        self._token = token
        self._ssl = ssl
        self._runner: web.AppRunner | None = None
        self._listening: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """Where it is found, without the token. Raises RuntimeError: it is not started."""
        if self._listening is None:
            raise RuntimeError("the web server is not started")
        host, port = self._listening.sockets[0].getsockname()[:2]
        scheme = "http" if self._ssl is None else "https"
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

    async def start(self) -> None:
        """Listen. Raises FastbarsError: the address cannot be used."""
        from aiohttp import web  # noqa: PLC0415 it takes 0.1 s, for those who ask for it

        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self._guarded(request, handler)

        app = web.Application(middlewares=[guard], client_max_size=MOST_REQUEST_BYTES)
        app.on_response_prepare.append(_add_headers)
        for route in self._routes:
            app.router.add_route(route.method, route.path, route.handler)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0, handle_signals=False)
        await runner.setup()
        server = runner.server
        assert server is not None

        def accepted() -> asyncio.BaseProtocol:
            # Counted before they ask for anything: who only connects must not use up the descriptors of the streams.
            return server() if len(server.connections) < MOST_CONNECTIONS else _Closed()

        try:
            self._listening = await asyncio.get_running_loop().create_server(
                accepted, self._host, self._port, ssl=self._ssl, backlog=128
            )
        except OSError as error:
            await runner.cleanup()
            raise FastbarsError(f"cannot listen on {self._host}:{self._port}: {error.strerror or error}") from error
        self._runner = runner
        log.info("web_server_started", url=self.url, token=self._token is not None)

    async def stop(self) -> None:
        """Answer what is being answered, shortly, and close. Idempotent."""
        runner, self._runner = self._runner, None
        listening, self._listening = self._listening, None
        if listening is not None:
            listening.close()
        if runner is not None:
            for route in self._routes:
                if route.on_stop is not None:
                    route.on_stop()
            await runner.cleanup()

    async def _guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        from aiohttp import web  # noqa: PLC0415 loaded already

        if self._token is None:
            if not is_loopback(host_of(request.headers.get("Host", ""))):
                raise web.HTTPForbidden(text="this server answers requests to a loopback address only")
        elif not self._is_open(request) and not self._has_token(request):
            raise web.HTTPUnauthorized(text="a token is needed", headers={"WWW-Authenticate": "Bearer"})
        if not _is_own_origin(request):
            raise web.HTTPForbidden(text="requests of other origins are not answered")
        if self._token is not None and self._is_token(request.query.get("token", "")):
            # Not to stand in the address, the history and the logs of proxies. The path as it was written, with one
            # slash: browsers take "//host/" for another host.
            found = web.HTTPFound("/" + request.rel_url.raw_path.lstrip("/\\"))
            found.set_cookie(
                _COOKIE,
                self._token,
                httponly=True,
                samesite="Strict",
                secure=self._ssl is not None,
                max_age=86_400 * 30,
            )
            raise found
        return await handler(request)

    def _is_open(self, request: web.Request) -> bool:
        return any(route.is_open and route.path == request.path for route in self._routes)

    def _has_token(self, request: web.Request) -> bool:
        given = request.headers.get("Authorization", "")
        return (
            self._is_token(given[len("Bearer ") :] if given.startswith("Bearer ") else "")
            or self._is_token(request.cookies.get(_COOKIE, ""))
            or self._is_token(request.query.get("token", ""))
        )

    def _is_token(self, given: str) -> bool:
        # Headers may hold bytes that are no text: aiohttp reads them as lone surrogates.
        assert self._token is not None
        return hmac.compare_digest(*(text.encode("utf-8", "surrogatepass") for text in (given, self._token)))


class _Closed(asyncio.Protocol):
    # A connection beyond the limit.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        transport.abort()


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)


def _is_own_origin(request: web.Request) -> bool:
    # A browser names the page that asks; only this server's own may, also for a WebSocket.
    origin = request.headers.get("Origin")
    return origin is None or origin.partition("://")[2] == request.headers.get("Host", "")


def host_of(header: str) -> str:
    """The host of a Host header, without its port."""
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.rpartition(":")[0] if header.count(":") == 1 else header


def is_loopback(host: str) -> bool:
    """Whether a host is this machine by itself: 127.0.0.0/8, ::1, localhost."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
