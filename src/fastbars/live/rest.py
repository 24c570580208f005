"""One request to an exchange's REST API. The HTTP client is imported when the first one is made.

Units: seconds, bytes.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Mapping
from ssl import SSLContext
from typing import TYPE_CHECKING, NamedTuple, Protocol

from fastbars.errors import RestError
from fastbars.live.backoff import seconds_of
from fastbars.live.secrets import host_of

if TYPE_CHECKING:
    import aiohttp

_TIMEOUT_S = 15.0
_MOST_BYTES = 32 * 2**20  # the largest known page, 1,000 trades, has 200 kB
_CHUNK_BYTES = 2**16
_REDIRECTS = range(300, 400)


class Answer(NamedTuple):
    """What came back: the HTTP status, Retry-After in seconds where it was sent, and the body."""

    status: int
    retry_after_s: float | None
    body: bytes


class Get(Protocol):
    """Fetches one URL. Raises RestError where no answer comes."""

    async def __call__(self, url: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Answer: ...


class RestClient:
    """Keeps connections to one exchange's REST API; used as `async with RestClient() as get`.

    Args:
        timeout_s: for a whole answer.
        ssl: for https; None: certificates are verified against those that the system trusts.
        proxy: address of an HTTP proxy; True: what the environment says; None: none.
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
            RestError: no whole answer within the time, one that is too long, or a redirect, which is not followed.
        """
        if self._session is None:
            # A tenth of a second of imports, which the event loop need not wait for.
            client = await asyncio.to_thread(importlib.import_module, "aiohttp")
            timeout = client.ClientTimeout(total=self._timeout_s)
            self._session = client.ClientSession(timeout=timeout, trust_env=self._proxy is True)
        client = importlib.import_module("aiohttp")
        method = "GET" if body is None else "POST"
        try:
            proxy = self._proxy if isinstance(self._proxy, str) else None
            ssl = True if self._ssl is None else self._ssl
            async with self._session.request(
                method, url, params=dict(query), headers=dict(headers), data=body, proxy=proxy, ssl=ssl,
                allow_redirects=False,
            ) as response:  # fmt: skip
                if "Location" in response.headers and response.status in _REDIRECTS:
                    # Its target would get the API key, and its answers would be taken for the exchange's.
                    target = host_of(response.headers["Location"], url)
                    raise RestError(
                        f"{method} {url}: HTTP {response.status} redirects to {target}, which is not followed",
                        hopeless=True,
                    )
                received = bytearray()
                async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                    received += chunk
                    if len(received) > self._most_bytes:
                        raise RestError(f"{method} {url}: the answer is longer than {self._most_bytes} bytes")
                return Answer(response.status, seconds_of(response.headers.get("Retry-After")), bytes(received))
        except (client.ClientError, TimeoutError, OSError) as error:
            raise RestError(f"{method} {url}: {error or type(error).__name__}") from error
