"""The page's server: bars as they are, bounded, to whoever asks, by HTTP and by WebSocket."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import aiohttp
import pyarrow as pa
import pytest

from fastbars.bar_stream import BarStream
from fastbars.bars import BarStatus, FootprintLevel, OHLCVBar
from fastbars.live.stats import StreamStats
from fastbars.service import live_page
from fastbars.service.held import BAR_BYTES, LEVEL_BYTES, HeldBars, Series, series_of, sorted_bars
from fastbars.service.http import WebServer
from fastbars.service.page import Page
from fastbars.simulator import SimulatedExchange
from fastbars.streams import stream

pytestmark = pytest.mark.real_clock
NOON = datetime(2025, 1, 31, 12, tzinfo=UTC)
BTC = Series("binance", "spot", "BTCUSDT", "1m")
TOKEN = "a token that is long enough"


class View:
    """What a page sees of a service."""

    source = "host-a"

    def __init__(self, streams: Mapping[str, BarStream] | None = None) -> None:
        self.streams: Mapping[str, BarStream] = streams or {}

    def stats(self) -> StreamStats | None:
        return next((one.stats() for one in self.streams.values()), None)


def bar(minute: int, price: str = "42219.95123", **changes: Any) -> OHLCVBar:
    made = OHLCVBar(
        exchange="binance", market="spot", symbol="BTCUSDT", spec="1m",
        open_time=NOON + timedelta(minutes=minute), close_time=NOON + timedelta(minutes=minute + 1),
        open=Decimal(price), high=Decimal(price), low=Decimal(price), close=Decimal(price),
        volume=Decimal("0.10000000"), trade_count=1, first_trade_id=9_007_199_254_740_993 + minute,
        last_trade_id=9_007_199_254_740_993 + minute, status=BarStatus.COMPLETE, missing_count=0,
    )  # fmt: skip
    return replace(made, **changes)


@asynccontextmanager
async def serving(page: Page, **options: Any) -> AsyncIterator[tuple[str, aiohttp.ClientSession]]:
    server = WebServer(page.routes(), **options)
    await server.start()
    try:
        async with aiohttp.ClientSession() as session:
            yield server.url, session
    finally:
        await server.stop()


def query(series: Series = BTC, **others: Any) -> dict[str, str]:
    return {**series._asdict(), **{name: str(value) for name, value in others.items()}}


async def test_bars_are_sent_to_the_last_digit_in_order_and_bounded() -> None:
    page = Page(View())
    for minute in (2, 0, 1):
        page.add(bar(minute, price=f"0.{minute}2345678901234567"))
    page.add(bar(1, "7.10", revision=1, status=BarStatus.HEALED))
    page.add(bar(3))
    page.add(bar(3, revision=1, status=BarStatus.RETRACTED))
    async with serving(page) as (url, session):
        async with session.get(f"{url}/bars", params=query()) as answer:
            bars = (await answer.json())["bars"]
        assert [one["open"] for one in bars] == ["0.02345678901234567", "7.10", "0.22345678901234567"]
        assert [(one["status"], one["revision"]) for one in bars][1] == ("HEALED", 1)
        assert bars[0]["first_trade_id"] == "9007199254740993"  # which a number of JavaScript would round
        for parameters, opens in (
            ({"limit": 1}, ["0.22345678901234567"]),
            ({"until": "2025-01-31T12:01:00Z"}, ["0.02345678901234567"]),
            ({"since": "2025-01-31T13:01:00+01:00", "until": "2025-01-31T12:02:00Z"}, ["7.10"]),
            ({"since": "2025-01-31T12:03:00Z"}, []),
        ):
            async with session.get(f"{url}/bars", params=query(**parameters)) as answer:
                assert [one["open"] for one in (await answer.json())["bars"]] == opens


async def test_bars_as_arrow_have_the_same_decimals() -> None:
    page = Page(View())
    page.add(bar(0, "0.12345678901234567"))
    page.add(bar(1, "7"))
    async with serving(page) as (url, session):
        for parameters, headers in ((query(format="arrow"), {}), (query(), {"Accept": page_arrow()})):
            async with session.get(f"{url}/bars", params=parameters, headers=headers) as answer:
                assert answer.content_type == page_arrow()
                table = pa.ipc.open_stream(await answer.read()).read_all()
            assert table["open"].to_pylist() == [Decimal("0.12345678901234567"), Decimal(7)]
            assert table["open_time"].to_pylist()[0] == NOON
            assert not {"source", "rank"} & set(table.column_names)


def page_arrow() -> str:
    return "application/vnd.apache.arrow.stream"


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"limit": "5001"}, "limit: must be 1 to 5000, got '5001'"),
        ({"limit": "0"}, "limit: must be 1 to 5000"),
        ({"limit": "1" * 199}, "limit: must be 1 to 5000"),
        ({"limit": "٣"}, "limit: must be 1 to 5000"),
        ({"since": "2025-01-31T12:00:00"}, "since: must be a time with a zone"),
        ({"until": "yesterday"}, "until: must be a time with a zone"),
        ({"format": "csv"}, "format: must be json or arrow"),
        ({"symbol": "A" * 201}, "symbol: has 201 characters, at most 200"),
        ({"lmit": "1"}, "lmit: no such parameter"),
    ],
)
async def test_what_is_asked_wrongly_is_named(parameters: dict[str, str], message: str) -> None:
    async with (
        serving(Page(View())) as (url, session),
        session.get(f"{url}/bars", params={**query(), **parameters}) as answer,
    ):
        assert answer.status == 400
        assert message in await answer.text()


async def test_symbols_are_searched_among_many() -> None:
    page = Page(View())
    for number in range(1_000):
        page.add(bar(0, symbol=f"COIN{number}USDT"))
    page.add(bar(0, symbol="BTCUSDT"))
    page.add(bar(0, symbol="BTCUSDT", spec="5m", close_time=NOON + timedelta(minutes=5)))
    page.add(bar(0, symbol="WBTCUSDT", market="usdm"))
    async with serving(page) as (url, session):

        async def found(**parameters: str) -> Any:
            async with session.get(f"{url}/series", params=parameters) as answer:
                return await answer.json()

        assert (await found())["total"] == 1_002
        assert len((await found(limit="200"))["symbols"]) == 200
        names = [one["symbol"] for one in (await found(search="btc"))["symbols"]]
        assert names == ["BTCUSDT", "WBTCUSDT"]
        (one,) = (await found(search="Usdm BTC"))["symbols"]
        assert (one["symbol"], one["market"]) == ("WBTCUSDT", "usdm")
        assert (await found(search="btcusdt"))["symbols"][0]["specs"] == ["1m", "5m"]
        assert (await found(search="nosuch")) == {"symbols": [], "total": 0, "source": "host-a"}


async def test_everything_of_the_page_needs_the_token() -> None:
    page = Page(View())
    async with serving(page, token=TOKEN) as (url, session):
        for route in page.routes():
            async with session.get(f"{url}{route.path}", params=query()) as answer:
                assert answer.status == 401, route.path
        async with session.get(f"{url}/bars", params=query(), headers={"Authorization": f"Bearer {TOKEN}"}) as answer:
            assert answer.status == 200


async def test_a_server_that_stops_waits_for_no_page() -> None:
    server = WebServer(Page(View()).routes())
    await server.start()
    async with aiohttp.ClientSession() as session, session.ws_connect(f"{server.url}/ws") as socket:
        await of_kind(socket, "status")
        stopping = asyncio.create_task(server.stop())
        while (received := await socket.receive(timeout=20)).type is aiohttp.WSMsgType.TEXT:
            pass
        assert (received.data, received.extra) == (1001, "the service has ended")
        await asyncio.wait_for(stopping, 20)


async def test_a_page_of_another_origin_gets_no_socket() -> None:
    async with serving(Page(View())) as (url, session):
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await session.ws_connect(f"{url}/ws", headers={"Origin": "http://example.com"})


async def of_kind(socket: aiohttp.ClientWebSocketResponse, kind: str) -> Any:
    while True:
        message = await socket.receive_json(timeout=20)
        if message["type"] == kind:
            return message


async def test_a_subscribed_page_is_sent_what_is_held_and_then_what_is_issued() -> None:
    page = Page(View())
    page.add(bar(0))
    async with serving(page) as (url, session), session.ws_connect(f"{url}/ws") as socket:
        await socket.send_json({"subscribe": BTC._asdict(), "limit": 10})
        first = await of_kind(socket, "bars")
        assert (first["first"], [one["open"] for one in first["bars"]]) == (True, ["42219.95123"])
        assert (await of_kind(socket, "update"))["bar"] is None
        page.add(bar(0, symbol="ETHUSDT"))
        page.add(bar(1, "8.0"))
        assert [one["open"] for one in (await of_kind(socket, "bars"))["bars"]] == ["8.0"]
        await socket.send_json({"unsubscribe": BTC._asdict()})
        await socket.send_json({"subscribe": BTC._replace(symbol="ETHUSDT")._asdict()})
        assert (await of_kind(socket, "bars"))["series"][2] == "ETHUSDT"
        page.add(bar(2))
        page.add(bar(1, "9.0", symbol="ETHUSDT"))
        assert (await of_kind(socket, "bars"))["bars"][0]["open"] == "9.0"
    while page.live.pages:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def test_what_is_issued_while_stored_bars_are_read_comes_behind_them() -> None:
    reading, go_on = threading.Event(), threading.Event()

    class Slow:
        def series(self) -> list[Series]:
            return [BTC]

        def bars(self, series: Series, *_: object) -> list[OHLCVBar]:
            assert series == BTC
            reading.set()
            assert go_on.wait(20)
            return [bar(0)]

    page = Page(View(), Slow())
    async with serving(page) as (url, session), session.ws_connect(f"{url}/ws") as socket:
        await socket.send_json({"subscribe": BTC._asdict()})
        assert await asyncio.to_thread(reading.wait, 20)
        for revision in range(3):  # on the page before and after it was looked at
            page.add(bar(1, f"{revision}.5", revision=revision))
        go_on.set()
        first = await of_kind(socket, "bars")
        assert first["first"]
        assert [one["open"] for one in first["bars"]] == ["42219.95123", "2.5"]
        later = [(await of_kind(socket, "bars"))["bars"][0]["revision"] for _ in range(3)]
        assert later == [0, 1, 2]  # which a page leaves out but for the highest


@pytest.mark.parametrize(
    "message",
    ["{", "[]", "{}", '{"subscribe": 5}', '{"subscribe": {"exchange": 1, "market": "", "symbol": "", "spec": ""}}',
     '{"subscribe": {"exchange": "a", "market": "", "symbol": "b", "spec": "1m"}, "limit": 1000000}'],
)  # fmt: skip
async def test_a_malformed_message_ends_the_socket_with_a_reason(message: str) -> None:
    async with serving(Page(View())) as (url, session), session.ws_connect(f"{url}/ws") as socket:
        await socket.send_str(message)
        while (received := await socket.receive(timeout=20)).type is aiohttp.WSMsgType.TEXT:
            pass
        assert (received.data, str(received.extra).partition(":")[0]) == (1008, "malformed message")


async def test_pages_and_what_each_looks_at_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_page, "MOST_PAGES", 1)
    async with serving(Page(View())) as (url, session), session.ws_connect(f"{url}/ws") as socket:
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await session.ws_connect(f"{url}/ws")
        for number in range(live_page.MOST_SERIES + 1):
            await socket.send_json({"subscribe": BTC._replace(symbol=f"S{number}")._asdict()})
        while (received := await socket.receive(timeout=20)).type is aiohttp.WSMsgType.TEXT:
            pass
        assert received.extra == f"malformed message: more than {live_page.MOST_SERIES} series"


async def test_a_page_that_does_not_read_is_dropped_and_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_page, "MOST_QUEUED_BYTES", 200_000)
    monkeypatch.setattr(live_page, "_FAREWELL_S", 0.2)
    page = Page(View())
    async with serving(page) as (url, session), session.ws_connect(f"{url}/ws") as good:
        host, port = url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=1_024)
        key = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        writer.write(f"GET /ws HTTP/1.1\r\nHost: {host}\r\n{key}Sec-WebSocket-Version: 13\r\n\r\n".encode())
        await reader.readuntil(b"\r\n\r\n")
        text = b'{"subscribe":{"exchange":"binance","market":"spot","symbol":"BTCUSDT","spec":"1m"}}'
        writer.write(bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text)
        await good.send_json({"subscribe": BTC._asdict()})
        await of_kind(good, "bars")
        while page.live.pages < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        sent = 0
        async with asyncio.timeout(60):
            while not page.live.dropped:  # until the sockets' buffers are full, and the queue behind them
                for _ in range(100):
                    page.add(bar(sent % 1_000, revision=sent // 1_000))
                    sent += 1
                for _ in range(100):
                    await of_kind(good, "bars")
        page.add(bar(5_000, "1.5"))
        assert (await of_kind(good, "bars"))["bars"][0]["open"] == "1.5"
        while page.live.pages != 1:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert page.live.dropped == 1
        writer.close()


async def test_the_bar_in_progress_and_the_state_of_the_feed_follow_a_stream() -> None:
    async with (
        SimulatedExchange(symbols=["BTCUSDT"], rate=200) as exchange,
        stream("binance", ["BTCUSDT"], ["1m", "tick:50"], url=exchange.url) as bars,
    ):
        page = Page(View({"binance": bars}))
        async with serving(page) as (url, session), session.ws_connect(f"{url}/ws") as socket:
            async with session.get(f"{url}/series") as answer:
                assert (await answer.json())["symbols"][0]["specs"] == ["1m", "tick:50"]
            await socket.send_json({"subscribe": BTC._asdict()})
            seen = [await of_kind(socket, "update") for _ in range(4)]
            counts = [one["bar"]["trade_count"] for one in seen if one["bar"] is not None]
            assert counts == sorted(set(counts))
            assert len(counts) >= 3
            while (status := await of_kind(socket, "status"))["venues"]["binance"]["rate"] is None:
                pass
            assert status["venues"]["binance"]["state"] == "connected"
            assert 50 < status["venues"]["binance"]["rate"] < 800
            assert (status["source"], status["live"], status["holes"]) == ("host-a", True, [])


def test_held_bars_are_bounded_by_bytes_evenly_over_all_series() -> None:
    held = HeldBars(100 * BAR_BYTES)
    for minute in range(1_000):
        held.add(bar(minute))
        if minute % 10 == 0:
            held.add(bar(minute, symbol="ETHUSDT"))
    assert held.bytes <= 100 * BAR_BYTES
    btc, eth = (sorted_bars(held.bars(one), None, None, 500) for one in (BTC, BTC._replace(symbol="ETHUSDT")))
    assert btc[-1] == bar(999)
    assert eth[-1].open_time == bar(990).open_time
    assert 30 <= len(eth) <= 60
    assert held.bytes == (len(btc) + len(eth)) * BAR_BYTES
    for number in range(1_000):  # more series than there is room for bars
        held.add(bar(0, symbol=f"S{number}"))
    assert held.bytes <= 100 * BAR_BYTES
    assert held.bars(BTC._replace(symbol="S999")) != []
    levels = tuple(FootprintLevel(Decimal(n), Decimal(1), Decimal(1), Decimal(1)) for n in range(150))
    large = bar(1, spec="1m+footprint:1", footprint=levels)
    held.add(large)
    assert held.bars(series_of(large)) == [large]
    assert held.bytes <= 100 * BAR_BYTES + LEVEL_BYTES * 150


def test_a_held_bar_is_estimated_no_smaller_than_it_is() -> None:
    one = bar(0, "42219.95123", quote_volume=Decimal("4221.995123"), first_trade_time=NOON, last_trade_time=NOON)
    values = [getattr(one, name) for name in one.__slots__]
    own = sys.getsizeof(one) + sum(sys.getsizeof(value) for value in values if not isinstance(value, str))
    assert own < BAR_BYTES
