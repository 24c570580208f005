"""A server connection that understands POST requests too, which `websockets` does not: Hyperliquid's REST API has them.

A POST is handed on as a GET whose query holds the body; whoever answers requests finds it there.
"""

from __future__ import annotations

from urllib.parse import parse_qs, quote, urlsplit

from websockets.asyncio.server import ServerConnection

__all__ = ["PostConnection", "post_of"]

_MOST_BYTES = 4096
_KEY = "posted-body"


class PostConnection(ServerConnection):
    """One connection; see the module."""

    _head: bytes | None = b""  # of a request that may be a POST; None once it is known

    def data_received(self, data: bytes) -> None:
        """Bytes of the request, or of what follows the handshake."""
        if self._head is None:
            super().data_received(data)
            return
        self._head += data
        request = self._head
        if request[:5] == b"POST "[: len(request)] and len(request) <= _MOST_BYTES:
            head, blank, body = request.partition(b"\r\n\r\n")
            if not blank:
                return
            path, *fields = head.decode("latin-1").split("\r\n")
            lengths = [line.partition(":")[2] for line in fields if line.lower().startswith("content-length:")]
            if len(body) < int(lengths[0]):
                return
            query = f"{_KEY}={quote(body)}"
            request = f"GET {path.split(' ')[1]}?{query} HTTP/1.1\r\nHost: simulator\r\n\r\n".encode()
        self._head = None
        super().data_received(request)


def post_of(target: str) -> tuple[str, str]:
    """The path of a request, and the body that was posted to it, "" for a GET."""
    body = parse_qs(urlsplit(target).query).get(_KEY, [""])[0]
    return (target.partition("?")[0], body) if body else (target, "")
