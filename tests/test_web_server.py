"""The web server: who is answered, and that nobody else is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from fastbars.errors import FastbarsError
from fastbars.service import http
from fastbars.service.http import Route, WebServer, host_of, is_loopback

pytestmark = pytest.mark.real_clock
TOKEN = "a token that is long enough"


async def _hello(_: web.Request) -> web.Response:
    return web.Response(text="hello")


@asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[tuple[WebServer, aiohttp.ClientSession]]:
    server = WebServer([Route("/hello", _hello), Route("/healthz", _hello, is_open=True)], **options)
    await server.start()
    try:
        async with aiohttp.ClientSession() as session:
            yield server, session
    finally:
        await server.stop()


async def status(session: aiohttp.ClientSession, url: str, **headers: str) -> int:
    async with session.get(url, headers=headers, allow_redirects=False) as answer:
        return answer.status


async def test_without_a_token_only_loopback_is_answered() -> None:
    async with serving() as (server, session):
        assert await status(session, f"{server.url}/hello") == 200
        assert await status(session, f"{server.url}/other") == 404
        assert await status(session, f"{server.url}/hello", Host="example.com") == 403  # a page that points here
        assert await status(session, f"{server.url}/hello", Host="localhost:1") == 200
        assert await status(session, f"{server.url}/hello", Origin="http://example.com") == 403
        assert await status(session, f"{server.url}/hello", Origin=server.url) == 200


async def test_with_a_token_every_request_needs_it() -> None:
    async with serving(token=TOKEN, host="0.0.0.0") as (server, session):
        url = server.url.replace("0.0.0.0", "127.0.0.1")
        assert await status(session, f"{url}/hello") == 401
        assert await status(session, f"{url}/hello", Authorization="Bearer wrong") == 401
        assert await status(session, f"{url}/hello", Authorization=f"Bearer {TOKEN}") == 200
        assert await status(session, f"{url}/healthz") == 200  # of probes, which have none
        assert await status(session, f"{url}/hello?token=wrong") == 401
        async with session.get(f"{url}/hello", params={"token": TOKEN}, allow_redirects=False) as answer:
            assert (answer.status, answer.headers["Location"]) == (302, "/hello")
            cookie = answer.cookies["fastbars_token"]
            assert cookie["httponly"]
            assert cookie["samesite"] == "Strict"
        jar = {"Cookie": f"fastbars_token={cookie.coded_value}"}
        assert await status(session, f"{url}/hello", **jar) == 200


async def answered(url: str, request: bytes) -> bytes:
    """What is answered to a request that clients of good faith would not write."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    try:
        writer.write(request)
        return await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    finally:
        writer.close()


@pytest.mark.parametrize("path", ["/healthz", "/hello", "/", "/unknown"])
@pytest.mark.parametrize("given", ["?token=wrong", "?token=", f"?token={TOKEN[:-1]}", "?token=wrong&token=wrong", ""])
async def test_nobody_is_given_the_token_who_does_not_have_it(path: str, given: str) -> None:
    async with serving(token=TOKEN) as (server, session):
        async with session.get(f"{server.url}{path}{given}", allow_redirects=False) as answer:
            shown = f"{answer.headers} {await answer.text()}"
        assert "Set-Cookie" not in answer.headers
        assert TOKEN not in shown
        assert answer.status == (200 if path == "/healthz" else 401)


async def test_a_token_in_the_address_of_an_open_route_is_checked_too() -> None:
    async with serving(token=TOKEN) as (server, session):
        for given, cookies in (("wrong", 0), (TOKEN, 1)):
            async with session.get(f"{server.url}/healthz", params={"token": given}, allow_redirects=False) as answer:
                assert (answer.status, len(answer.cookies)) == (302 if cookies else 200, cookies)


@pytest.mark.parametrize("path", ["//example.com/", "/\\example.com/", "/%5cexample.com/", "/%0d%0aX-Own:1", "///a"])
async def test_a_token_in_an_address_leads_to_no_other_host(path: str) -> None:
    async with serving(token=TOKEN) as (server, _):
        text = f"GET {path}?token={TOKEN.replace(' ', '%20')} HTTP/1.1\r\nHost: a\r\n\r\n"
        head = (await answered(server.url, text.encode())).decode()
    assert head.startswith("HTTP/1.1 302 ")
    location = next(line for line in head.splitlines() if line.startswith("Location: ")).removeprefix("Location: ")
    assert location.startswith("/")
    assert location[1:2] not in {"/", "\\"}
    assert not any(line.startswith("X-Own") for line in head.splitlines())


@pytest.mark.parametrize("header", [b"Authorization: Bearer \xff\xfe", b"Cookie: fastbars_token=\xff", b"X: \xff"])
async def test_bytes_that_are_no_text_are_a_wrong_token(header: bytes) -> None:
    async with serving(token=TOKEN) as (server, _):
        request = b"GET /hello HTTP/1.1\r\nHost: a\r\n" + header + b"\r\n\r\n"
        assert (await answered(server.url, request)).startswith(b"HTTP/1.1 401 ")


async def test_connections_beyond_the_limit_are_closed_and_the_others_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MOST_CONNECTIONS", 5)
    async with serving() as (server, session):
        port = int(server.url.rpartition(":")[2])
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(5)]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await asyncio.wait_for(reader.read(), 10) == b""  # closed at once, though it has asked for nothing
        writer.close()
        for one, other in idle:
            other.write(b"GET /hello HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert (await asyncio.wait_for(one.read(), 10)).endswith(b"hello")
            other.close()
        assert await status(session, f"{server.url}/hello") == 200  # there is room again


async def test_what_is_answered_loads_nothing_from_elsewhere() -> None:
    async with serving() as (server, session), session.get(f"{server.url}/hello") as answer:
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"host": "0.0.0.0"}, "is not loopback"),
        ({"host": "example.com"}, "is not loopback"),
        ({"token": "short"}, "at least 16 are needed"),
        ({"port": 70_000}, "port must be 0 to 65535"),
    ],
)
def test_what_would_be_open_to_all_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(FastbarsError, match=message):
        WebServer([], **options)


async def test_an_address_in_use_is_named() -> None:
    async with serving() as (server, _):
        port = int(server.url.rpartition(":")[2])
        with pytest.raises(FastbarsError, match=rf"cannot listen on 127\.0\.0\.1:{port}: "):
            await WebServer([], port=port).start()


def test_hosts() -> None:
    assert [host_of(text) for text in ("a:1", "[::1]:80", "::1", "a", "")] == ["a", "::1", "::1", "a", ""]
    inside, outside = ("127.0.0.2", "::1", "LOCALHOST"), ("10.0.0.1", "localhost.example.com", "")
    assert all(map(is_loopback, inside))
    assert not any(map(is_loopback, outside))
