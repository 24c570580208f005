"""The port that a simulated exchange listens on: WebSockets and REST, with or without TLS."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable

from websockets.asyncio.server import Server, ServerConnection, serve

from fastbars.simulator.handshakes import Handshakes, PostConnection

__all__ = ["Listener"]

_PONG_TIMEOUT_S = 60.0
_CLOSE_TIMEOUT_S = 1.0  # how long a client that no longer reads can delay `stop`


class Listener:
    """One port.

    Args:
        host: address to listen on.
        port: 0 takes a free one.
        tls: serve wss and https; None: ws and http.

    Attributes:
        port: the one listened on, once it has started.
    """

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None) -> None:
        self.port = port
        self._host = host
        self._tls = tls
        self._server: Server | None = None

    @property
    def has_started(self) -> bool:
        """Whether it was ever started, even if it has stopped since."""
        return self._server is not None

    async def start(
        self,
        serve_client: Callable[[ServerConnection], Awaitable[None]],
        handshakes: Handshakes,
        ping_interval_s: float | None,
    ) -> None:
        """Open the port. Raises OSError: it is taken."""
        self._server = await serve(
            serve_client,
            self._host,
            self.port,
            process_request=handshakes.check,
            create_connection=PostConnection,
            compression=None,
            ssl=self._tls,
            ping_interval=ping_interval_s,
            ping_timeout=_PONG_TIMEOUT_S,
            close_timeout=_CLOSE_TIMEOUT_S,
        )
        self.port = next(iter(self._server.sockets)).getsockname()[1]

    def close(self, code: int) -> None:
        """Start closing every connection with this code, and the port."""
        if self._server is not None:
            self._server.close(code=code)

    async def stop(self) -> None:
        """Close every connection with 1001, then the port."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    def url(self, path: str) -> str:
        """The WebSocket URL of a path."""
        return f"{'ws' if self._tls is None else 'wss'}://{self._host}:{self.port}{path}"

    @property
    def rest_url(self) -> str:
        """The URL of the REST API."""
        return f"{'http' if self._tls is None else 'https'}://{self._host}:{self.port}"
