"""The HTTP side of a simulated exchange: answers to REST requests, and refusals of handshakes.

`websockets` reads only GET requests, and some REST APIs take a POST: `PostConnection` rewrites one as a GET whose query
holds the body.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from email.utils import formatdate
from http import HTTPStatus
from urllib.parse import parse_qs, quote, urlsplit

from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from fastbars.clocks import steady_s
from fastbars.simulator.dialect import Dialect
from fastbars.simulator.faults import FaultKind, Faults
from fastbars.simulator.record import Record
from fastbars.simulator.rest import RestSimulator

__all__ = ["Handshakes", "PostConnection"]

_MAX_POST_BYTES = 4096
_BODY_KEY = "posted-body"


class PostConnection(ServerConnection):
    """A server connection whose request may be a POST."""

    _request_head: bytes | None = b""  # what was received of the request; None once it was passed on

    def data_received(self, data: bytes) -> None:
        """Bytes of the request, or of what follows the handshake."""
        if self._request_head is None:
            super().data_received(data)
            return
        self._request_head += data
        request = self._request_head
        # Fewer than five bytes may still turn out to be a POST.
        if request[:5] == b"POST "[: len(request)] and len(request) <= _MAX_POST_BYTES:
            head, blank, body = request.partition(b"\r\n\r\n")
            if not blank:
                return
            first, *fields = head.decode("latin-1").split("\r\n")
            lengths = [line.partition(":")[2] for line in fields if line.lower().startswith("content-length:")]
            if len(body) < int(lengths[0]):
                return
            query = f"{_BODY_KEY}={quote(body)}"
            request = f"GET {first.split(' ')[1]}?{query} HTTP/1.1\r\nHost: simulator\r\n\r\n".encode()
        self._request_head = None
        super().data_received(request)


def _split_post(target: str) -> tuple[str, str]:
    # The target of a request, and the body that was posted to it, "" for a GET.
    body = parse_qs(urlsplit(target).query).get(_BODY_KEY, [""])[0]
    return (target.partition("?")[0], body) if body else (target, "")


class Handshakes:
    """Answers requests before a WebSocket connection is open.

    Args:
        dialect: knows the paths.
        rest: answer REST requests, tried in this order.
        now_ms: the exchange's clock, which answers are dated by.
        faults: those that refuse handshakes. record: keeps which were refused. Both are None, or neither is.
    """

    def __init__(
        self,
        dialect: Dialect,
        rest: Sequence[RestSimulator],
        now_ms: Callable[[], int],
        faults: Faults | None,
        record: Record | None,
    ) -> None:
        self._dialect = dialect
        self._now_ms = now_ms
        self._rest = rest
        self._faults = faults
        self._record = record

    async def check(self, connection: ServerConnection, request: Request) -> Response | None:
        """The response to a request; None: the handshake proceeds."""
        # REST first: its paths are not the stream's, and faults of handshakes must not be used up by it.
        response = await self._answer_rest(connection, request)
        if response is not None:
            return response
        body = self._dialect.get(request.path.partition("?")[0])
        if body is not None:
            return connection.respond(HTTPStatus.OK, body.decode())
        opening = self._dialect.open(request.path)
        if opening is None:
            return connection.respond(HTTPStatus.NOT_FOUND, f"no such path: {request.path}\n")
        if opening.refusal is not None:
            return connection.respond(HTTPStatus.BAD_REQUEST, opening.refusal.decode())
        fault = None if self._faults is None else self._faults.take_one(FaultKind.REFUSE)
        if fault is None:
            return None
        if self._record is not None:
            self._record.refused.append((steady_s(), fault.status))
        return _respond(connection, fault.status, "refused\n", fault.retry_after_s)

    async def _answer_rest(self, connection: ServerConnection, request: Request) -> Response | None:
        target, body = _split_post(request.path)
        for rest in self._rest:
            answer = rest.answer(target, body, request.headers)
            if answer is not None:
                await asyncio.sleep(answer.delay_s)
                response = _respond(connection, answer.status, answer.body.decode(), answer.retry_after_s)
                del response.headers["Date"]
                response.headers["Date"] = formatdate(self._now_ms() // 1000, usegmt=True)
                return response
        return None


def _respond(connection: ServerConnection, status: int, body: str, retry_after_s: float | None) -> Response:
    response = connection.respond(HTTPStatus(status), body)
    if retry_after_s is not None:
        response.headers["Retry-After"] = f"{retry_after_s:g}"
    return response
