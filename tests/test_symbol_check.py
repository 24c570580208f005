"""Symbols are checked against the exchange's listing before they are subscribed: over real sockets, at every entry."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any, Self

import orjson
import pytest
from aiohttp import web

import fastbars
from fake_clock import Stopwatch
from fastbars import BaseWebSocketAdapter, BinanceWebSocketAdapter, StreamConfig
from fastbars.errors import SubscriptionError
from fastbars.exchanges import find_exchange
from fastbars.live import listings
from fastbars.live.connections.symbol_check import SymbolCheck
from fastbars.live.shared import SHARED
from servers import TradeServer, acknowledge, free_port, refuse, trade, until

SYMBOLS = {"BTCUSDT": "TRADING", "ETHUSDT": "TRADING", "BNBUSDT": "TRADING", "LUNAUSDT": "BREAK", "OLDUSDT": "SETTLING"}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def exchange_info(symbols: dict[str, str]) -> bytes:
    return orjson.dumps({"timezone": "UTC", "symbols": [{"symbol": n, "status": s} for n, s in symbols.items()]})


class RestServer:
    """A real HTTP server that answers every request with `body`, or as `handler` does.

    Attributes:
        asked: method, path with query, and body of each request.
    """

    def __init__(self, body: bytes = b"", status: int = 200, handler: Handler | None = None) -> None:
        self.body = body
        self.status = status
        self.asked: list[tuple[str, str, bytes]] = []
        self._handler = handler
        self._runner = web.ServerRunner(web.Server(self._answer), shutdown_timeout=0.1)
        self.url = ""

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked.append((request.method, request.path_qs, await request.read()))
        if self._handler is not None:
            return await self._handler(request)  # type: ignore[arg-type]
        return web.Response(body=self.body, status=self.status)


def config_of(rest: RestServer, **settings: Any) -> StreamConfig:
    return StreamConfig(rest_url=rest.url, close_by="trades", reconnect_delay=0.01, heal=False, **settings)


async def test_a_symbol_that_is_not_listed_is_refused_with_the_nearest_names_and_the_others_flow() -> None:
    async with TradeServer() as server, RestServer(exchange_info(SYMBOLS)) as rest:
        adapter = BinanceWebSocketAdapter(config_of(rest), url=server.url)
        await adapter.connect()
        with pytest.raises(SubscriptionError) as refused:
            await adapter.subscribe(["BTCUSDT", "BTCUSD", "LUNAUSDT", "OLDUSDT", "ETHUSDT"])
        assert refused.value.symbols == ("BTCUSD", "LUNAUSDT", "OLDUSDT")
        assert str(refused.value) == (
            "binance spot refused BTCUSD: not listed (nearest: BTCUSDT, ETHUSDT, BNBUSDT); LUNAUSDT: halted, its"
            " status is BREAK (nearest: BNBUSDT); OLDUSDT: delisted, its status is SETTLING"
        )
        assert server.streams == ["btcusdt@trade", "ethusdt@trade"]
        assert adapter.active_subscriptions == {"BTCUSDT": {"trade"}, "ETHUSDT": {"trade"}}
        await server.send(trade(1, 0), trade(1, 0, symbol="ETHUSDT"))
        await until(lambda: adapter.session.stats.trades == 2)
        await adapter.disconnect()
    assert rest.asked == [("GET", "/api/v3/exchangeInfo?showPermissionSets=false", b"")]


async def test_what_the_listing_and_what_the_exchange_refuses_is_one_error() -> None:
    async with TradeServer(refuse("ethusdt@trade")) as server, RestServer(exchange_info(SYMBOLS)) as rest:
        adapter = BinanceWebSocketAdapter(config_of(rest), url=server.url)
        await adapter.connect()
        with pytest.raises(SubscriptionError) as refused:
            await adapter.subscribe(["ETHUSDT", "ZZZ", "BTCUSDT"])
        assert refused.value.symbols == ("ZZZ", "ETHUSDT")
        assert str(refused.value) == (
            "binance spot refused ZZZ: not listed; ETHUSDT@trade: Invalid symbol. (code -1121)"
        )
        assert adapter.active_subscriptions == {"BTCUSDT": {"trade"}}
        await adapter.disconnect()


@pytest.mark.parametrize("lines", [1, 2])
async def test_every_entry_of_a_stream_checks_its_symbols_with_one_request(lines: int) -> None:
    async with TradeServer() as server, RestServer(exchange_info(SYMBOLS)) as rest:
        config = config_of(rest, lines=lines)
        entering = fastbars.stream("binance", ["BTCUSDT", "NOSUCH"], url=server.url, config=config)
        with pytest.raises(SubscriptionError, match=r"^binance spot refused NOSUCH: not listed"):
            await entering.__aenter__()
        async with fastbars.stream("binance", ["BTCUSDT"], url=server.url, config=config) as bars:
            for subscribe in (bars.subscribe, bars.adapter.subscribe):
                with pytest.raises(SubscriptionError) as refused:
                    await subscribe(["ETHUSDT", "NOSUCH"], ["kline_1m", "trade"])
                assert refused.value.symbols == ("NOSUCH",)
            with pytest.raises(SubscriptionError, match="NOSUCH"):
                await bars.adapter.subscribe_streams([("NOSUCH", "trade")])
            assert bars.adapter.active_subscriptions == {"BTCUSDT": {"trade"}, "ETHUSDT": {"kline_1m", "trade"}}
        assert not any("nosuch" in name for name in server.streams)
    assert len(rest.asked) == 1


async def test_candles_of_the_symbols_granted_are_compared_though_others_were_refused() -> None:
    async with (
        TradeServer() as server,
        RestServer(exchange_info(SYMBOLS)) as rest,
        fastbars.stream("binance", ["BTCUSDT"], url=server.url, config=config_of(rest), verify=True) as bars,
    ):
        with pytest.raises(SubscriptionError, match="NOSUCH"):
            await bars.subscribe(["ETHUSDT", "NOSUCH"])
        assert bars.adapter.active_subscriptions == {symbol: {"trade", "kline_1m"} for symbol in ("BTCUSDT", "ETHUSDT")}


async def test_symbols_refused_open_no_connection() -> None:
    async with TradeServer() as server, RestServer(exchange_info(SYMBOLS)) as rest:
        config = config_of(rest, streams_per_connection=1)
        async with fastbars.stream("binance", ["BTCUSDT"], url=server.url, config=config) as bars:
            with pytest.raises(SubscriptionError):
                await bars.subscribe([f"NO{number}" for number in range(20)])
            assert len(server.paths) == 1


async def test_a_symbol_refused_before_connecting_is_not_wanted() -> None:
    async with TradeServer() as server, RestServer(exchange_info(SYMBOLS)) as rest:
        adapter = BinanceWebSocketAdapter(config_of(rest), url=server.url)
        with pytest.raises(SubscriptionError, match="NOSUCH"):
            await adapter.subscribe(["NOSUCH", "BTCUSDT"])
        await adapter.connect()
        await until(lambda: server.requests)
        assert server.streams == ["btcusdt@trade"]
        await adapter.disconnect()


async def test_what_is_held_stays_held_when_it_is_halted() -> None:
    async with TradeServer() as server, RestServer(exchange_info(SYMBOLS)) as rest:
        adapter = BinanceWebSocketAdapter(config_of(rest), url=server.url)
        await adapter.connect()
        await adapter.subscribe(["BTCUSDT"])
        rest.body = exchange_info(SYMBOLS | {"BTCUSDT": "BREAK"})
        SHARED.listings.clear()
        await adapter.subscribe(["BTCUSDT"])  # nothing new
        server.abort()
        await until(lambda: server.streams == ["btcusdt@trade"] * 2)
        await adapter.disconnect()
    assert len(rest.asked) == 1


async def test_a_name_listed_a_moment_ago_is_asked_for_once_more() -> None:
    async with RestServer(exchange_info(SYMBOLS)) as rest:
        spot = SymbolCheck(find_exchange("binance"), config_of(rest), "ws://elsewhere")
        assert await spot.refused(["BTCUSDT"]) == {}
        rest.body = exchange_info(SYMBOLS | {"NEWUSDT": "TRADING"})
        await asyncio.sleep(5.0)  # as old as a listing may be by which a name is refused
        assert list(await spot.refused(["NEWUSDT"])) == ["NEWUSDT"]
        await asyncio.sleep(0.001)
        assert await spot.refused(["NEWUSDT"]) == {}
        assert await spot.refused(["NEWUSDT", "BTCUSDT"]) == {}
    assert len(rest.asked) == 2


@pytest.mark.parametrize(
    "settings", [{"check_symbols": False, "rest_url": "given"}, {"rest_url": None}], ids=["setting", "url alone"]
)
async def test_nothing_is_asked_where_the_check_is_off(settings: dict[str, Any]) -> None:
    async with TradeServer() as server, RestServer(exchange_info(SYMBOLS)) as rest:
        settings = settings | ({"rest_url": rest.url} if settings["rest_url"] else {})
        adapter = BinanceWebSocketAdapter(StreamConfig(close_by="trades", **settings), url=server.url)
        await adapter.connect()
        await adapter.subscribe(["NOSUCH"])
        assert server.streams == ["nosuch@trade"]
        await adapter.disconnect()
    assert rest.asked == []


async def test_an_exchange_without_a_listing_refuses_nothing() -> None:
    assert await SymbolCheck(find_exchange("interactive_brokers"), StreamConfig()).refused(["1"]) == {}


def closed_port() -> str:
    return f"http://127.0.0.1:{free_port()}"


@pytest.mark.parametrize(
    ("body", "status", "why"),
    [
        (b"no", 403, "HTTP 403 b'no'"),
        (b"<html>", 200, "the answer has no complete list of instruments"),
        (b'{"symbols":[]}', 200, "it lists no instrument"),
        (b'{"symbols":[{"status":"TRADING"}]}', 200, "KeyError('symbol')"),
        (b'{"symbols":[{"symbol":"A"' + b" " * 65 * 2**20, 200, "the answer is longer than 67108864 bytes"),
        (None, 0, "Cannot connect"),
    ],
)
async def test_a_listing_that_cannot_be_had_costs_one_warning(
    body: bytes | None, status: int, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with TradeServer() as server, RestServer(body or b"", status) as rest:
        config = StreamConfig(rest_url=rest.url if body is not None else closed_port(), close_by="trades")
        async with fastbars.stream("binance", ["NOSUCH"], url=server.url, config=config, verify=True) as bars:
            await bars.subscribe(["NEITHER"])
        assert [name for name in server.streams if "trade" in name] == ["nosuch@trade", "neither@trade"]
    warnings = [one for one in caplog.messages if "symbols_not_checked" in one]
    assert len(warnings) == 1
    assert warnings[0].startswith("symbols_not_checked exchange='binance spot' symbols=1 why=")
    assert why in warnings[0]


async def test_a_listing_that_never_ends_delays_a_stream_by_no_more_than_the_timeout(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(listings, "TIMEOUT_S", 0.5)

    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.01)

    async with TradeServer() as server, RestServer(handler=drip) as rest:
        watch = Stopwatch()
        async with fastbars.stream("binance", ["NOSUCH"], url=server.url, config=config_of(rest)):
            assert watch.seconds == 0.5
        assert server.streams == ["nosuch@trade"]
    assert caplog.text.count("symbols_not_checked") == 1
    assert listings.TIMEOUT_S < 10.0


async def test_an_exchange_that_asks_to_retry_later_is_asked_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listings, "RETRY_S", 0.0)
    answers = [web.Response(status=429, headers={"Retry-After": "0.3"}), web.Response(body=exchange_info(SYMBOLS))]

    async def answer(_: web.Request) -> web.StreamResponse:
        return answers.pop(0)

    async with RestServer(handler=answer) as rest:
        spot = SymbolCheck(find_exchange("binance"), config_of(rest))
        watch = Stopwatch()
        while not await spot.refused(["NOSUCH"]):  # noqa: ASYNC110 time must pass
            await asyncio.sleep(0.01)
        assert 0.3 <= watch.seconds <= 0.31
    assert len(rest.asked) == 2


async def test_a_listing_waits_for_the_weights_that_healing_has_used_and_not_for_long(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with RestServer(exchange_info(SYMBOLS)) as rest:
        limiter = SHARED.rest_limiter("https://api.binance.com", 6000.0, rest.url)
        limiter.hold(0.3)
        watch = Stopwatch()
        spot = SymbolCheck(find_exchange("binance"), config_of(rest))
        assert list(await spot.refused(["NOSUCH"])) == ["NOSUCH"]
        assert watch.seconds == 0.3
        await limiter.wait(6000.0)  # more than may be used at once
        SHARED.listings.clear()
        assert await spot.refused(["NOSUCH"]) == {}
        assert re.search(r"the exchange's REST weights are used up for 1[45] s", caplog.text)
    assert len(rest.asked) == 1


async def test_passwords_of_the_rest_address_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    url = closed_port().replace("://", "://user:hush@")
    spot = SymbolCheck(find_exchange("binance"), StreamConfig(rest_url=url))
    assert await spot.refused(["A"]) == {}
    assert "symbols_not_checked" in caplog.text
    assert "hush" not in caplog.text


async def test_bybit_is_asked_page_by_page() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        page = int(request.query.get("cursor", "0"))
        result = {
            "list": [{"symbol": f"S{page}USDT", "status": "Trading"}],
            "nextPageCursor": str(page + 1) * (page < 2),
        }
        return web.json_response({"retCode": 0, "retMsg": "OK", "result": result})

    async with RestServer(handler=answer) as rest:
        linear = SymbolCheck(find_exchange("bybit", "linear"), config_of(rest))
        assert list(await linear.refused(["S0USDT", "S1USDT", "S2USDT", "S3USDT"])) == ["S3USDT"]
    path = "/v5/market/instruments-info?category=linear&limit=1000"
    assert [asked for _, asked, _ in rest.asked] == [path, f"{path}&cursor=1", f"{path}&cursor=2"]


async def test_hyperliquid_is_asked_by_post_for_perpetuals_and_spot() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        names = {"meta": ["BTC"], "spotMeta": ["PURR/USDC", "@107"]}[(await request.json())["type"]]
        return web.json_response({"universe": [{"name": name} for name in names]})

    async with RestServer(handler=answer) as rest:
        both = SymbolCheck(find_exchange("hyperliquid"), config_of(rest))
        refused = await both.refused(["BTC", "@107", "PURR/USDC", "purr/usdc", "dex:BTC"])
    assert refused == {"purr/usdc": "not listed (nearest: PURR/USDC)"}
    assert sorted(rest.asked) == [("POST", "/info", b'{"type":"meta"}'), ("POST", "/info", b'{"type":"spotMeta"}')]


async def test_okx_is_asked_for_the_kinds_of_instruments_that_are_subscribed() -> None:
    lists = {"SPOT": ["BTC-USDT"], "SWAP": ["BTC-USDT-SWAP"], "FUTURES": ["BTC-USD-261225"]}

    async def answer(request: web.Request) -> web.StreamResponse:
        names = lists[request.query["instType"]]
        return web.json_response({"code": "0", "msg": "", "data": [{"instId": n, "state": "live"} for n in names]})

    async with RestServer(handler=answer) as rest:
        okx = SymbolCheck(find_exchange("okx"), config_of(rest))
        assert list(await okx.refused(["BTC-USDT", "BTCUSDT"])) == ["BTCUSDT"]
        assert [path for _, path, _ in rest.asked] == ["/api/v5/public/instruments?instType=SPOT"]
        wanted = ["BTC-USDT-SWAP", "BTC-USD-261225", "BTC-USD-270101", "BTC-USD-261225-90000-C", "ZZ-USDT-SWAP"]
        assert list(await okx.refused(wanted)) == ["BTC-USD-270101", "ZZ-USDT-SWAP"]
        assert len(rest.asked) == 3
        lists["SPOT"] = []
        SHARED.listings.clear()
        assert list(await okx.refused(["ZZ-USDT", "ZZ-USDT-SWAP"])) == ["ZZ-USDT-SWAP"]  # spot cannot be known


async def test_many_unknown_symbols_are_refused_without_holding_the_loop() -> None:
    listed = {f"{a}{b}USDT": "TRADING" for a in range(60) for b in range(60)}
    unknown = [f"X{number}USDT" for number in range(1000)] + ["Y" * 10**6]
    turns_s: list[float] = []

    async def watch() -> None:
        while True:
            before_s = time.thread_time()  # of this thread alone: what other programs take does not count
            await asyncio.sleep(0)
            turns_s.append(time.thread_time() - before_s)

    async with RestServer(exchange_info(listed)) as rest:
        spot = SymbolCheck(find_exchange("binance"), config_of(rest))
        watching = asyncio.create_task(watch())
        refused = await spot.refused(unknown)
        watching.cancel()
    assert list(refused) == unknown
    assert sum("nearest" in why for why in refused.values()) == 10
    assert max(turns_s) <= 0.1


async def test_a_cancelled_check_leaves_nothing_running_and_the_next_one_asks() -> None:
    waits = asyncio.Event()

    async def answer(_: web.Request) -> web.StreamResponse:
        await waits.wait()
        return web.Response(body=exchange_info(SYMBOLS))

    async with RestServer(handler=answer) as rest:
        spot = SymbolCheck(find_exchange("binance"), config_of(rest))
        first, second = (asyncio.create_task(spot.refused(["NOSUCH"])) for _ in range(2))
        await until(lambda: rest.asked)
        first.cancel()
        await until(lambda: len(rest.asked) == 2)
        waits.set()
        assert list(await second) == ["NOSUCH"]
        assert first.cancelled()


async def test_several_lines_check_once_and_log_once(caplog: pytest.LogCaptureFixture) -> None:
    async with TradeServer(acknowledge) as server, RestServer(b"", 500) as rest:
        adapter = BaseWebSocketAdapter(find_exchange("binance"), config_of(rest, lines=3), url=server.url)
        await adapter.connect()
        await adapter.subscribe(["BTCUSDT"])
        await adapter.disconnect()
    assert len(rest.asked) == 1
    assert caplog.text.count("symbols_not_checked") == 1
