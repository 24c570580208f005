"""`nats://USER:PASSWORD@HOST:PORT`: a message a row in a stream of JetStream.

    subject  SUBJECT.EXCHANGE.MARKET.SYMBOL.SPEC     what a subject cannot hold is %XX, what is empty is _
    header   Nats-Msg-Id                             of bar, source and revision: the server drops what it has already
    content  the row as JSON

Every message is acknowledged by the server, once it is in the stream, before the batch is confirmed. A stream is a
log: readers take the best row of each bar (`fastbars.sinks.rows.best_of`).
"""

from __future__ import annotations

import asyncio
import ssl
from hashlib import blake2b
from typing import Any
from urllib.parse import quote, urlsplit

from nats import errors
from nats.aio.client import Client
from nats.js import JetStreamContext, api, errors as stream_errors

from fastbars.redaction import without_credentials
from fastbars.sinks.declaration import SinkError, SinkRefused
from fastbars.sinks.json_rows import json_of
from fastbars.sinks.rows import COLUMNS, KEY, Rows
from fastbars.sinks.urls import (
    checked_name,
    host_names,
    is_untrusted,
    login_of,
    number_of_option,
    shown_url,
    split_options,
)
from fastbars.ticks import to_nanoseconds

__all__ = ["NatsSink"]

CONNECT_S = 10
ACKNOWLEDGED_S = 60.0
PENDING = 1_000  # messages that wait for their acknowledgement

_PLACES = {column.name: place for place, column in enumerate(COLUMNS)}
_SUBJECT = tuple(_PLACES[name] for name in ("exchange", "market", "symbol", "spec"))
_IDENTITY = tuple(_PLACES[name] for name in (*KEY, "source", "revision"))
_BEGINS = _PLACES["begins"]
_FAILURES = (errors.Error, OSError, asyncio.TimeoutError, EOFError)


class NatsSink:
    """Keeps bars in a stream of NATS JetStream.

    Args:
        url: of one server or several, separated by commas; `tls://` for TLS. In its query: `stream=NAME` ("BARS"),
            `subject=NAME` before exchange and symbol ("bars"), `window_s=N`, for how long a new stream knows messages
            again (600 s), `creds=FILE` and `ca=FILE`, credentials and certificates of authorities.

    Raises:
        SinkRefused: the URL is malformed.
    """

    def __init__(self, url: str) -> None:
        defaults = {"stream": "BARS", "subject": "bars", "window_s": "600", "creds": "", "ca": ""}
        rest, options = split_options(url, defaults)
        if urlsplit(rest).query or urlsplit(rest).path.strip("/"):
            raise SinkRefused(f"{shown_url(url)}: only {', '.join(defaults)} can be given behind the server")
        self._stream = checked_name(url, "stream", options["stream"])
        self._subject = checked_name(url, "subject", options["subject"])
        self._window_s = number_of_option(url, "window_s", options["window_s"], 1, 86_400)
        scheme = "tls" if url.startswith("tls:") else "nats"
        self._servers = [f"{scheme}://{host}" for host in host_names(url, 4222)]
        self._ca = options["ca"]
        self._is_secure = scheme == "tls"
        self._options: dict[str, Any] = {}
        self._login = login_of(url)
        if options["creds"]:
            self._options["user_credentials"] = options["creds"]
        self.name = shown_url(url)
        self._client: Client | None = None
        self._context: JetStreamContext | None = None
        self._lost: asyncio.Future[None] | None = None
        self._error: Exception | None = None

    async def open(self) -> None:
        """Connect, and make or check the stream. Raises SinkError, SinkRefused."""
        await self.close()
        lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def note_closed() -> None:
            if not lost.done():
                lost.set_result(None)

        async def note_error(error: Exception) -> None:
            self._error = error

        self._lost, self._error = lost, None
        try:
            tls = await asyncio.to_thread(_Tls, self._ca)
            self._client = Client()
            async with asyncio.timeout(CONNECT_S):
                await self._client.connect(
                    self._servers, name="fastbars", allow_reconnect=False, max_reconnect_attempts=1,
                    reconnect_time_wait=0, connect_timeout=CONNECT_S, closed_cb=note_closed,
                    disconnected_cb=note_closed, error_cb=note_error, ping_interval=10, max_outstanding_pings=2,
                    tls=tls, **self._options, **self._credentials(tls),
                )  # fmt: skip
            self._check_secure(tls)
            self._context = self._client.jetstream(timeout=CONNECT_S, publish_async_max_pending=2 * PENDING)
            await self._prepare(self._context)
        except FileNotFoundError as error:
            raise SinkRefused(f"{self.name}: no such file: {error.filename or self._ca}") from None
        except SinkRefused:
            await self.close()
            raise
        except _FAILURES as error:
            failure = self._failure(error)
            await self.close()
            raise failure from None

    async def write(self, rows: Rows) -> None:
        """Publish the rows, and wait until the server has them. Raises SinkError."""
        for at in range(0, len(rows), PENDING):
            try:
                await self._publish(rows.records[at : at + PENDING])
            except _FAILURES as error:
                raise self._failure(error) from None

    async def flush(self) -> None:
        """All are acknowledged."""

    async def close(self) -> None:
        """Disconnect."""
        client, self._client, self._context = self._client, None, None
        if client is not None and not client.is_closed:
            try:
                async with asyncio.timeout(2.0):
                    await client.close()
            except _FAILURES:
                return

    async def _publish(self, records: list[tuple[Any, ...]]) -> None:
        context, lost = self._context, self._lost
        if context is None or lost is None or lost.done():
            raise SinkError(f"{self.name}: not connected")
        waiting: set[asyncio.Future[Any]] = set()
        try:
            for record in records:
                headers = {"Nats-Msg-Id": message_id(record)}
                waiting.add(
                    await context.publish_async(
                        self._subject_of(record), json_of(record), stream=self._stream, headers=headers
                    )
                )
            all_of_them: asyncio.Future[Any] = asyncio.gather(*waiting)
            waiting.add(all_of_them)
            either: set[asyncio.Future[Any]] = {all_of_them, lost}
            await asyncio.wait(either, timeout=ACKNOWLEDGED_S, return_when=asyncio.FIRST_COMPLETED)
            if not all_of_them.done():
                raise SinkError(
                    f"{self.name}: {'connection lost' if lost.done() else f'no answer for {ACKNOWLEDGED_S:g} s'}"
                )
            all_of_them.result()
        finally:
            for future in waiting:
                if not future.cancel() and not future.cancelled():
                    future.exception()  # retrieved, and not logged by asyncio

    async def _prepare(self, context: JetStreamContext) -> None:
        wanted = f"{self._subject}.>"
        try:
            found = (await context.stream_info(self._stream)).config
        except stream_errors.NotFoundError:
            config = api.StreamConfig(
                name=self._stream, subjects=[wanted], storage=api.StorageType.FILE, duplicate_window=self._window_s
            )
            found = (await context.add_stream(config)).config
        if wanted not in (found.subjects or ()):
            raise SinkRefused(f"{self.name}: stream {self._stream} takes {found.subjects}, not {wanted}")

    def _credentials(self, tls: _Tls) -> dict[str, Any]:
        # As functions, which are called when they are sent.
        user, password = self._login

        def shown(value: str) -> str:
            self._check_secure(tls)
            return value

        if not user:
            return {}
        if not password:
            return {"token": lambda: shown(user)}
        return {"user": user, "password": lambda: shown(password)}

    def _check_secure(self, tls: _Tls) -> None:
        # nats-py goes on without TLS where the server, or who is between, does not ask for it.
        if self._is_secure and not tls.is_used:
            raise SinkRefused(f"{self.name}: the server offers no TLS")

    def _subject_of(self, record: tuple[Any, ...]) -> str:
        return ".".join((self._subject, *(quote(record[place], safe="@:+/=,;|-_~!") or "_" for place in _SUBJECT)))

    def _failure(self, error: BaseException) -> SinkError:
        if isinstance(error, SinkError):
            return error
        told = self._error if self._error is not None and not str(error) else error
        text = f"{self.name}: {without_credentials(str(told) or type(told).__name__)}"
        words = str(told).lower()
        is_refusal = is_untrusted(told) or "authorization" in words or "permissions violation" in words or (
            isinstance(error, stream_errors.BadRequestError)
        )  # fmt: skip
        return SinkRefused(text) if is_refusal else SinkError(text)


class _Tls(ssl.SSLContext):
    # A context that knows whether it was used.

    def __new__(cls, authorities: str) -> _Tls:
        made = super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)
        if authorities:
            made.load_verify_locations(cafile=authorities)
        else:
            made.load_default_certs()
        made.is_used = False
        return made

    is_used: bool

    def wrap_bio(self, *values: Any, **named: Any) -> ssl.SSLObject:
        self.is_used = True
        return super().wrap_bio(*values, **named)


def message_id(record: tuple[Any, ...]) -> str:
    """What the server knows a message by: 32 hexadecimal digits of bar, source and revision."""
    values = (record[place] if place != _BEGINS else to_nanoseconds(record[place]) for place in _IDENTITY)
    return blake2b("\0".join(map(str, values)).encode(), digest_size=16).hexdigest()
