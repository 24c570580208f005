"""One request to an exchange's REST API. The HTTP client is imported when the first one is made.

Units: seconds, bytes.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Mapping
from http.client import HTTPException, HTTPResponse
from io import BytesIO
from ssl import SSLContext, create_default_context
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from urllib.parse import urlencode, urlsplit

from websockets.asyncio.client import connect_socks_proxy
from websockets.exceptions import InvalidProxy, InvalidURI, WebSocketException
from websockets.proxy import get_proxy, parse_proxy
from websockets.uri import WebSocketURI, parse_uri

from fastbars.errors import RestError
from fastbars.live.connections.backoff import date_ns_of, may_retry, seconds_of
from fastbars.live.secrets import hidden, target_of

if TYPE_CHECKING:
    import aiohttp

_TIMEOUT_S = 15.0
_MOST_BYTES = 32 * 2**20  # the largest known page, 1,000 trades, has 200 kB
_CHUNK_BYTES = 2**16
_REDIRECTS = range(300, 400)
_OK = 200
_SHOWN_BYTES = 200  # of the body of a refusal
_FAILURES: tuple[type[Exception], ...] = (
    OSError, TimeoutError, WebSocketException, HTTPException, InvalidProxy, InvalidURI, ImportError,
)  # fmt: skip


class Answer(NamedTuple):
    """An HTTP response.

    Attributes:
        status: of HTTP.
        retry_after_s: Retry-After, if it was sent.
        body: uncompressed.
        date_ns: when the server says that it sent it, in whole seconds, ns since the epoch; None: it does not say.
    """

    status: int
    retry_after_s: float | None
    body: bytes
    date_ns: int | None = None


def body_of(answer: Answer, request: str) -> bytes:
    """The body of an answer to a request, such as "GET https://host/path".

    Raises:
        RestError: it has another status than 200; whether and when to try again is in the error.
    """
    if answer.status == _OK:
        return answer.body
    raise RestError(
        f"{request}: HTTP {answer.status} {answer.body[:_SHOWN_BYTES]!r}",
        permanent=not may_retry(answer.status),
        retry_after_s=answer.retry_after_s,
    )


class Get(Protocol):
    """Fetches one URL. Raises RestError where no answer comes."""

    async def __call__(self, url: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Answer: ...


class Fetch(Protocol):
    """Fetches one URL, or posts a body to it. Raises RestError where no answer comes."""

    async def __call__(
        self, url: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes | None = None
    ) -> Answer: ...


class RestClient:
    """Keeps connections to one exchange's REST API; used as `async with RestClient() as get`.

    Args:
        timeout_s: for a whole answer.
        ssl: for https; None: certificates are verified against those that the system trusts.
        proxy: address of an HTTP or SOCKS proxy; True: what the environment or system says; None: none. As for streams.
        most_bytes: of an answer, uncompressed.
    """

    def __init__(
        self,
        timeout_s: float = _TIMEOUT_S,
        *,
        ssl: SSLContext | None = None,
        proxy: str | bool | None = True,
        most_bytes: int = _MOST_BYTES,
    ) -> None:
        self._timeout_s = timeout_s
        self._most_bytes = most_bytes
        self._ssl = ssl
        self._proxy = proxy
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> RestClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close what is open; a later call opens anew."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def __call__(
        self, url: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes | None = None
    ) -> Answer:
        """GET `url`, or POST `body` to it.

        Raises:
            RestError: no whole answer within the time, one that is too long, or a redirect, which is not followed; or
                the proxy cannot be used.
        """
        method = "GET" if body is None else "POST"
        request = _Request(method, url, query, headers, body)
        try:
            proxy = proxy_of(url, self._proxy)
            if proxy is not None and proxy.startswith("socks"):
                answer, location = await self._over_socks(proxy, request)
            else:
                answer, location = await self._over_http(proxy, request)
        except _failures() as error:
            what = f"{method} {url}: {str(error) or type(error).__name__}"
            raise RestError(what, permanent=not may_retry(error)) from hidden(error)
        if location is not None and answer.status in _REDIRECTS:
            # Its target would get the API key, and its answers would be taken for the exchange's.
            target = target_of(location, url)
            raise RestError(
                f"{method} {url}: HTTP {answer.status} redirects to {target}, which is not followed",
                permanent=not may_retry(answer.status),
            )
        return answer

    async def _over_http(self, proxy: str | None, request: _Request) -> tuple[Answer, str | None]:
        # Directly or through an HTTP proxy. Returns the answer and where it redirects to.
        if self._session is None:
            # A tenth of a second of imports, which the event loop need not wait for.
            client = await asyncio.to_thread(importlib.import_module, "aiohttp")
            if self._session is None:  # another request may have made it meanwhile
                self._session = client.ClientSession(timeout=client.ClientTimeout(total=self._timeout_s))
        async with self._session.request(
            request.method, request.url, params=dict(request.query), headers=dict(request.headers), data=request.body,
            proxy=proxy, ssl=True if self._ssl is None else self._ssl, allow_redirects=False,
        ) as response:  # fmt: skip
            received = bytearray()
            async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                received += chunk
                self._check_length(len(received), request)
            return _answer(response.status, response.headers, bytes(received)), response.headers.get("Location")

    async def _over_socks(self, proxy: str, request: _Request) -> tuple[Answer, str | None]:
        # aiohttp does not speak SOCKS; `websockets` does, and the stream uses the same proxy.
        parts = urlsplit(request.url)
        head = [
            f"{request.method} {parts.path or '/'}?{urlencode(dict(request.query))} HTTP/1.1",
            f"Host: {parts.netloc.rpartition('@')[2]}", "Connection: close", "Accept-Encoding: identity",
            *(f"{name}: {value}" for name, value in request.headers.items()),
            *([] if request.body is None else [f"Content-Length: {len(request.body)}"]),
        ]  # fmt: skip
        if any("\r" in line or "\n" in line for line in head):
            raise InvalidURI(request.url, "a header or parameter has a line break")
        context = None if parts.scheme == "http" else self._ssl or create_default_context()
        async with asyncio.timeout(self._timeout_s):
            socket = await connect_socks_proxy(parse_proxy(proxy), _as_websocket(request.url))
            reader, writer = await asyncio.open_connection(
                sock=socket, ssl=context, server_hostname=None if context is None else parts.hostname
            )
            try:
                writer.write("\r\n".join([*head, "", ""]).encode() + (request.body or b""))
                received = bytearray()
                while chunk := await reader.read(_CHUNK_BYTES):
                    received += chunk
                    self._check_length(len(received), request)
            finally:
                writer.transport.abort()
        response = HTTPResponse(_Received(bytes(received)), method=request.method)  # type: ignore[arg-type]
        response.begin()
        body = response.read()
        return _answer(response.status, response.headers, body), response.headers["Location"]

    def _check_length(self, length: int, request: _Request) -> None:
        if length > self._most_bytes:
            raise RestError(f"{request.method} {request.url}: the answer is longer than {self._most_bytes} bytes")


def _answer(status: int, headers: Any, body: bytes) -> Answer:
    # The headers of either client.
    return Answer(status, seconds_of(headers.get("Retry-After")), body, date_ns_of(headers.get("Date")))


def proxy_of(url: str, proxy: str | bool | None) -> str | None:
    """The proxy for a REST address: the one that `websockets` would take for a stream to that host.

    Args:
        proxy: an address; True: what the environment or system says, NO_PROXY included; None or False: none.

    Raises:
        websockets.exceptions.InvalidURI: malformed URL. InvalidProxy: malformed proxy address.
    """
    if proxy is True:
        proxy = get_proxy(_as_websocket(url))
    if not proxy:
        return None
    parse_proxy(proxy)
    return proxy


def _as_websocket(url: str) -> WebSocketURI:
    return parse_uri(f"ws{url[4:]}" if url.lower().startswith("http") else url)


class _Request(NamedTuple):
    method: str
    url: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes | None


class _Received:
    # Stands in for the socket from which the standard library reads an answer.
    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, _: str) -> BytesIO:
        return BytesIO(self._data)


def _failures() -> tuple[type[Exception], ...]:
    # Without importing the client, which a proxy may not need, and which another thread may be about to import.
    error = getattr(sys.modules.get("aiohttp"), "ClientError", None)
    return _FAILURES if error is None else (*_FAILURES, error)
