"""Tests of what REST answers that are broken, absurd or not meant for us cost: a bounded time, and no bar its truth."""

from __future__ import annotations

import asyncio
import copy
import time
import tracemalloc
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Overflow
from email.utils import format_datetime
from types import TracebackType
from typing import Any, Self

import orjson
import pytest
from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus
from websockets.http11 import Response

from fastbars import BinanceWebSocketAdapter, StreamConfig
from fastbars.errors import ParseError, RestError, WSConnectionError
from fastbars.exchanges import find_exchange, history
from fastbars.exchanges.binance import SPOT, USDM
from fastbars.exchanges.coinbase import ADVANCED
from fastbars.exchanges.history import Beginning, History, Hole, Page, Paging, read_page
from fastbars.exchanges.kraken import SPOT as KRAKEN_SPOT
from fastbars.exchanges.messages import Trade
from fastbars.exchanges.okx import OKX as OKX_SPOT
from fastbars.exchanges.rest_api import RestApi
from fastbars.live.connections.backoff import MOST_RETRY_AFTER_S, retry_after_s, seconds_of
from fastbars.live.healing.healer import Healer
from fastbars.live.rest import Answer, RestClient

SECRETS = ("k3y-of-mine", "passw0rd", "t0ken")


class Http:
    """A server on loopback that answers each request alike, and notes what it was asked."""

    def __init__(self, status: str, *headers: str, body: bytes = b"[]") -> None:
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
        self._answer = "\r\n".join([*lines, "", ""]).encode() + body
        self.requests: list[str] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.host = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.requests.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(self._answer)
        writer.close()


# Redirects.


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_an_error_that_names_its_target_and_the_key_stays_here(status: int) -> None:
    async with Http("200 OK") as target:
        where = f"Location: http://someone:passw0rd@{target.host}/api?token=t0ken"
        async with Http(f"{status} Elsewhere", where) as server:
            client = RestClient()
            with pytest.raises(RestError, match=f"HTTP {status} redirects to {target.host}, which is not") as refused:
                await client(f"http://{server.host}/api", {"symbol": "A"}, {"X-MBX-APIKEY": "k3y-of-mine"})
            await client.close()
        assert refused.value.permanent
        assert [secret for secret in SECRETS if secret in str(refused.value)] == []
        assert "k3y-of-mine" in server.requests[0]
        assert target.requests == []


@pytest.mark.parametrize("where", ["Location: //[", "Location: ", "Location: ?x", "X: y"])
async def test_a_redirect_to_nowhere_is_an_error_too(where: str) -> None:
    async with Http("302 Found", where) as server, RestClient() as client:
        healer = Healer("venue", VENUE, [OneHole()], client, url=f"http://{server.host}", horizon_s=1e18)
        healer._exchange_time_ns = lambda: 0
        while (due_s := await healer.heal_due()) is not None:  # noqa: ASYNC110 a fraction of a second
            await asyncio.sleep(due_s)
        assert len(healer.reasons) == 1
        assert healer.stats.requests == len(server.requests) == 1


@pytest.mark.parametrize("status", [301, 307])
async def test_a_redirect_of_the_websocket_handshake_is_not_followed_either(status: int) -> None:
    async with Http("200 OK") as target:
        where = f"Location: ws://someone:passw0rd@{target.host}/ws?token=t0ken"
        async with Http(f"{status} Elsewhere", where) as server:
            headers = {"additional_headers": {"X-MBX-APIKEY": "k3y-of-mine"}}
            config = StreamConfig(connect_options=headers, proxy=None)
            adapter = BinanceWebSocketAdapter(config, url=f"ws://{server.host}/ws")
            with pytest.raises(WSConnectionError, match=f"HTTP {status}.*redirects to {target.host}") as refused:
                await adapter.connect()
        assert [secret for secret in SECRETS if secret in str(refused.value)] == []
        assert len(server.requests) == 1
        assert target.requests == []


# Answers of another instrument.

OKX = (
    "OKX", OKX_SPOT.histories["trades-all"][0], "BTC-USDT",
    {"code": "0", "msg": "", "data": [{"instId": "BTC-USDT", "side": "sell", "sz": "0.00001", "px": "29963.2",
                                       "tradeId": "242720720", "ts": "1654161646974"}]},
)  # fmt: skip
COINBASE = (
    "Coinbase", ADVANCED.histories["market_trades"][0], "BTC-USD",
    {"trades": [{"trade_id": "105", "product_id": "BTC-USD", "price": "140.91", "size": "4", "side": "BUY",
                 "time": "2021-05-31T09:59:59.000Z"}]},
)  # fmt: skip
KRAKEN = (
    "Kraken", KRAKEN_SPOT.histories["trade"][0], "BTC/USD",
    {"error": [], "result": {"XXBTZUSD": [["30243.4", "0.3", 1688669597.5, "b", "m", "", 61044952]],
                             "last": "1688671969993150842"}},
)  # fmt: skip
BINANCE = (
    "Binance", SPOT.histories["trade"][0], "BTCUSDT",
    [{"id": 28457, "price": "4.1", "qty": "12.0", "time": 1499865549590, "isBuyerMaker": True}],
)  # fmt: skip
AGGREGATES = (
    "Binance aggregates", USDM.histories["aggTrade"][0], "BTCUSDT",
    [{"a": 26129, "p": "0.0163", "q": "4.7", "f": 27781, "l": 27781, "T": 1498793709153, "m": True}],
)  # fmt: skip
ANSWERS: list[tuple[str, History, str, Any]] = [OKX, COINBASE, KRAKEN, BINANCE, AGGREGATES]
of_each_answer = pytest.mark.parametrize(
    ("served", "symbol", "answer"), [each[1:] for each in ANSWERS], ids=[each[0] for each in ANSWERS]
)


@of_each_answer
def test_each_answer_is_read_as_it_is(served: History, symbol: str, answer: Any) -> None:
    (one,) = read_page(served, symbol, orjson.dumps(answer)).trades
    assert one.symbol == symbol


@pytest.mark.parametrize(
    ("served", "symbol", "answer"),
    [
        (OKX[1], "ETH-USDT", OKX[3]),
        (COINBASE[1], "ETH-USD", COINBASE[3]),
        (COINBASE[1], "BTC-EUR", COINBASE[3]),
        (KRAKEN[1], "ETH/USD", KRAKEN[3]),
        (KRAKEN[1], "BTC/EUR", KRAKEN[3]),
        (KRAKEN[1], "BTC/USDT", KRAKEN[3]),
    ],
)
def test_an_answer_of_another_instrument_is_refused(served: History, symbol: str, answer: Any) -> None:
    with pytest.raises(ParseError, match=f"requested {symbol}, the answer is about"):
        read_page(served, symbol, orjson.dumps(answer))


@pytest.mark.parametrize(
    ("symbol", "pair"),
    [
        ("BTC/USD", "XXBTZUSD"), ("BTC/USD", "XBTUSD"), ("BTC/USD", "BTC/USD"), ("ETH/BTC", "XETHXXBT"),
        ("DOGE/USD", "XDGUSD"), ("SOL/USD", "SOLUSD"), ("USDT/USD", "USDTZUSD"), ("EUR/USD", "ZEURZUSD"),
    ],
)  # fmt: skip
def test_kraken_may_call_a_pair_by_its_older_names(symbol: str, pair: str) -> None:
    answer: Any = copy.deepcopy(KRAKEN[3])
    answer["result"][pair] = answer["result"].pop("XXBTZUSD")
    assert len(read_page(KRAKEN[1], symbol, orjson.dumps(answer)).trades) == 1


def test_coinbase_may_call_a_usdc_product_by_the_name_of_its_usd_product() -> None:
    assert read_page(COINBASE[1], "BTC-USDC", orjson.dumps(COINBASE[3])).trades[0].symbol == "BTC-USDC"


# Numbers and types that make no sense.

RAW = [b"1E999999999", b"1E99999999999", b"-1", b"1.5", b"true", b"null", b"[]", b"{}", b"9" * 5_000, b"1e400"]
TEXTS = ["1E999999999", "1E-999999999", "9" * 5_000, "NaN", "-5", "", "x", "\u0663", "1_0", "0x10", "9" * 19 + "9"]
MARK = "!!"


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all that is no list and no object in a decoded message, and of these too."""
    found = [path] if path else []
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            found += places(value[key], (*path, key))
    return found


def mutations(answer: Any) -> list[bytes]:
    made = []
    for *way, last in places(answer):
        changed = copy.deepcopy(answer)
        inner = changed
        for key in way:
            inner = inner[key]
        inner[last] = MARK
        written = orjson.dumps(changed)
        made += [written.replace(b'"!!"', hostile) for hostile in (*RAW, *map(orjson.dumps, TEXTS))]
    return made


@of_each_answer
def test_absurd_numbers_and_types_anywhere_cost_no_time_and_no_memory(
    served: History, symbol: str, answer: Any
) -> None:
    since = time.thread_time()
    tracemalloc.start()
    bodies = mutations(answer)
    read = 0
    for body in bodies:
        try:
            trades = read_page(served, symbol, body).trades
        except ParseError:
            continue
        read += 1
        for one in trades:
            assert type(one.first_id) is type(one.last_id) is type(one.time_ns) is int
            assert 0 <= one.first_id < 2**63
            assert 0 <= one.last_id < 2**63
            assert 0 <= one.time_ns <= 4_600_000_000_000_000_000
            assert len(one.price) <= 128
            assert len(one.size) <= 128
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert read < len(bodies) / 2
    assert peak < 8_000_000
    assert time.thread_time() - since < 5.0


@pytest.mark.parametrize("depth", [500, 100_000])
@of_each_answer
def test_an_answer_nested_deeply_is_unreadable_and_no_more(
    served: History, symbol: str, answer: Any, depth: int
) -> None:
    with pytest.raises(ParseError):
        read_page(served, symbol, b"[" * depth + b"]" * depth)
    with pytest.raises(ParseError):
        read_page(served, symbol, b'{"trades":' * depth + b"0" + b"}" * depth)


def test_an_answer_of_too_many_bytes_or_trades_is_unreadable() -> None:
    with pytest.raises(ParseError, match="bytes, the limit is 2097152"):
        read_page(BINANCE[1], "BTCUSDT", b" " * (history.MOST_PAGE_BYTES + 1))
    with pytest.raises(ParseError, match="2001 trades, the limit is 2000"):
        read_page(VENUE, "A", b"2001")


# Parsers that raise.


def trade(number: Any, time_ns: Any = 5, symbol: str = "A") -> Trade:
    return Trade("trade", symbol, time_ns, "1", "1", 1, number, number)


def parse(symbol: str, body: bytes) -> Page:
    if body.isdigit():
        return Page([trade(number) for number in range(int(body))])
    raise {b"recursion": RecursionError, b"memory": MemoryError, b"decimal": Overflow, b"zero": ZeroDivisionError}[body]


VENUE = History(
    RestApi("http://venue", 60_000.0), "/trades", Paging.FORWARD_BY_ID, 10,
    lambda _, position, __: {"at": str(position)}, parse, weight=1.0,
)  # fmt: skip


class OneHole:
    symbols = ("A",)

    def __init__(self) -> None:
        self.healed: list[int | None] = []

    def holes(self, symbol: str | None = None) -> Sequence[Hole]:  # noqa: ARG002
        return [] if self.healed else [Hole("A", 3, 3, 2, 4)]

    def holes_within(self, symbol: str, first: int, last: int) -> Sequence[Hole]:
        return [hole for hole in self.holes(symbol) if hole.first <= last and first <= hole.last]

    def heal(self, symbol: str, trades: Sequence[Trade]) -> None:  # noqa: ARG002
        self.healed += [one.first_id for one in trades]

    def beginnings(self, symbol: str | None = None) -> Sequence[Beginning]:  # noqa: ARG002
        return []

    def reach_back(self, symbol: str, trade_id: int, time_ns: int) -> None:
        raise NotImplementedError

    def leave_out(self, symbol: str, ranges: Sequence[tuple[int, int]]) -> None:
        raise NotImplementedError


@pytest.mark.parametrize("body", [b"recursion", b"memory", b"decimal", b"zero", b"unknown"])
async def test_whatever_a_parser_raises_is_an_unreadable_answer_that_is_asked_for_again(body: bytes) -> None:
    answers = [body, body, b"9"]

    async def get(url: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Answer:
        return Answer(200, None, answers.pop(0))

    async def no_wait(_: float) -> None:
        await asyncio.sleep(0)

    hole = OneHole()
    now = [0.0]

    def clock() -> float:
        now[0] += 1.0
        return now[0]

    healer = Healer("venue", VENUE, [hole], get, now=clock, sleep=no_wait, exchange_time_ns=lambda: 0)
    while await healer.heal_due() is not None:
        pass
    assert hole.healed == [3]
    assert healer.stats.errors == 2


@pytest.mark.parametrize("number", [True, -1, 1.0, "5", None, 2**63])
def test_ids_of_the_wrong_type_or_range_are_unreadable(number: Any) -> None:
    page = Page([trade(number)])
    with pytest.raises(ParseError, match="has the id"):
        read_page(History(**{**vars(VENUE), "parse": lambda *_: page}), "A", b"")


@pytest.mark.parametrize(("price", "size"), [("1", "-0"), ("-0", "1"), ("1", "-0.00"), ("-1", "1"), ("1", "-1")])
def test_a_price_or_size_with_a_sign_fills_no_hole(price: str, size: str) -> None:
    row = {"id": 5, "price": price, "qty": size, "time": 1_700_000_000_000, "isBuyerMaker": True}
    (served,) = find_exchange("binance", "spot").histories["trade"]
    with pytest.raises(ParseError, match="BTCUSDT: trade 5 has a price or size with a sign, '-"):
        served.parse("BTCUSDT", orjson.dumps([row]))


@pytest.mark.parametrize("time_ns", [-1, 1.0, "5", None, 2**63])
def test_times_of_the_wrong_type_or_range_are_unreadable(time_ns: Any) -> None:
    page = Page([trade(1, time_ns)])
    with pytest.raises(ParseError, match="has the time"):
        read_page(History(**{**vars(VENUE), "parse": lambda *_: page}), "A", b"")


# Retry-After.


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0), (" 7 ", 7.0), ("0.5", 0.5), ("0", 0.0), ("99999999999", MOST_RETRY_AFTER_S),
        ("9" * 90, MOST_RETRY_AFTER_S), ("9" * 400, None), ("Fri, 31 Dec 9999 23:59:59 GMT", MOST_RETRY_AFTER_S),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0), ("Thu, 01 Jan 1970 00:00:00 -0000", 0.0), (None, None), ("", None),
        ("-5", None), ("inf", None), ("nan", None), ("1e9", None), ("soon", None), ("\u0667", None),
        ("Fri, 99 Foo 9999 99:99:99 GMT", None), ("31 Dec 99999999999999999999", None),
    ],
)  # fmt: skip
def test_retry_after_is_seconds_or_a_date_at_most_an_hour_and_else_nothing(
    text: str | None, seconds: float | None
) -> None:
    assert seconds_of(text) == seconds


def test_a_date_of_retry_after_counts_from_now() -> None:
    given = seconds_of(format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True))
    assert given is not None
    assert 85.0 < given <= 90.0


@pytest.mark.parametrize(("given", "seconds"), [("99999999999", MOST_RETRY_AFTER_S), ("rubbish", 60.0), ("5", 5.0)])
def test_a_handshake_that_is_refused_silences_a_stream_for_an_hour_at_most(given: str, seconds: float) -> None:
    error = InvalidStatus(Response(429, "Too Many Requests", Headers({"Retry-After": given})))
    assert retry_after_s(error, 60.0) == seconds


async def test_a_retry_after_of_rest_is_capped_and_garbage_is_ignored() -> None:
    for given, seconds in (("99999999999", MOST_RETRY_AFTER_S), ("rubbish", None)):
        async with Http("429 Too Many Requests", f"Retry-After: {given}") as server, RestClient() as get:
            assert (await get(f"http://{server.host}/", {}, {})).retry_after_s == seconds


def test_every_history_of_every_exchange_is_read_here() -> None:
    declared = {
        one.parse
        for name, market in (("binance", "spot"), ("binance", "usdm"), ("okx", "spot"), ("coinbase", None),
                             ("kraken", None), ("deribit", None))
        for served in find_exchange(name, market).histories.values()
        for one in served
    }  # fmt: skip
    # Spot trades and those of aggregates, futures trades, aggregates, OKX, Coinbase, Kraken, Deribit.
    assert len(declared) == 8
