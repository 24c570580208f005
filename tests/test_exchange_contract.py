"""The contract that every exchange keeps, on fixtures written from its documentation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from exchange_fixtures import FIXTURES
from fastbars import StreamConfig
from fastbars.bars import BarStatus
from fastbars.buffer import BarBuffer
from fastbars.errors import ParseError
from fastbars.exchanges import EXCHANGES, find_exchange
from fastbars.exchanges.bybit import LINEAR
from fastbars.exchanges.hyperliquid import HYPERLIQUID
from fastbars.exchanges.interactive_brokers import GATEWAY, read_number
from fastbars.exchanges.messages import Trade, time_of
from fastbars.exchanges.okx import OKX
from fastbars.live import adapters
from fastbars.live.callbacks import Callbacks
from fastbars.live.session import Session
from fastbars.testing import CHECKS, ExchangeFixtures, check_exchange
from fastbars.wire.scanner import TradeScanner

BROKEN = (ParseError, LookupError, TypeError, ValueError, AttributeError)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", list(FIXTURES))
def test_the_contract_is_kept(name: str, check: Callable[[ExchangeFixtures], None]) -> None:
    check(FIXTURES[name])


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"trades": [("{}", [Trade("trade", "AB", 1, "1", "1", 1, 1, 1)])]}, r"binance spot: \{\}\n  expected \[Trade"),
        ({"unknown": ['{"result":null,"id":7}']}, r"expected \[\]\n  got      \[Ack"),
        ({"garbage": ["{}"]}, r"binance spot: \{\}\n  expected an error\n  got      \[\]"),
        ({"empty": ["{}"]}, r"expected \[Heartbeat\(\)\]"),
        ({"event_times": [('{"E":5}', 6)]}, r"event time of .*\n  expected 6\n  got      5000000"),
        ({"subscribes": [([("AB", "trade")], ["x"])]}, r"subscribe .*\n  expected \['x'\]"),
        ({"contracts": {"AB": Decimal(1)}}, r"contract sizes"),
    ],
)
def test_who_breaks_the_contract_is_told_what_was_expected(changes: dict[str, Any], why: str) -> None:
    check_exchange(FIXTURES["binance spot"])
    with pytest.raises(AssertionError, match=why):
        check_exchange(replace(FIXTURES["binance spot"], **changes))


@pytest.mark.parametrize(
    ("trades", "why"),
    [
        ([], "trades must begin with a payload of one trade of the default channel 'trade'"),
        ([("{}", [])], "trades must begin with a payload of one trade"),
        ([("{}", [Trade("aggTrade", "AB", 1, "1", "1", 1, 1, 1)])], "of the default channel 'trade'"),
        ([FIXTURES["binance spot"].trades[0], ("{}", [])], "each payload in trades must contain a trade"),
    ],
)
def test_fixtures_that_check_nothing_are_refused(trades: list[Any], why: str) -> None:
    with pytest.raises(ValueError, match=f"^binance spot: .*{why}"):
        replace(FIXTURES["binance spot"], trades=trades)


def test_a_documented_message_is_left_by_the_scanner_only_where_that_is_declared() -> None:
    left: list[tuple[str, str]] = []
    for name, fixtures in FIXTURES.items():
        for payload, meaning in fixtures.trades:
            channel = next(item.channel for item in meaning if isinstance(item, Trade))
            declared = fixtures.exchange.fields(channel)
            if declared is None:
                assert fixtures.exchange.ids(channel) == "sampled"
                continue
            batch = BarBuffer(ids=fixtures.exchange.ids(channel)).new_batch()
            if not TradeScanner(declared, batch, batch.instruments.add).scan(payload.encode()):
                left.append((name, channel))
    # A history that is not in time order, and a trade without its count.
    assert left == [("hyperliquid", "trades"), ("okx", "trades")]


def test_known_kinds_with_nothing_in_them_are_among_the_fixtures() -> None:
    without = [name for name, fixtures in FIXTURES.items() if not fixtures.empty]
    assert all(name.startswith("binance") for name in without)  # which sends each trade by itself


def test_every_exchange_and_market_has_fixtures() -> None:
    looked_at = {fixtures.exchange.name: fixtures.exchange for fixtures in FIXTURES.values()}
    known = {exchange.name: exchange for markets in EXCHANGES.values() for exchange in markets.values()}
    assert looked_at.items() <= known.items()
    assert known.keys() - looked_at.keys() == {"hyperliquid spot", "okx derivatives"}
    for other, same in (("hyperliquid spot", "hyperliquid perp"), ("okx derivatives", "okx spot")):
        assert type(known[other]) is type(known[same])
        assert vars(known[other]).keys() - {"trade_readers"} == {"name"}  # they differ in nothing else


def test_bars_name_exchange_and_market_as_they_are_asked_for() -> None:
    for venue, markets in EXCHANGES.items():
        for market, exchange in markets.items():
            assert exchange.identity == (venue, market)
    assert find_exchange("okx", "derivatives@eea").identity == ("okx", "derivatives@eea")


@pytest.mark.parametrize("name", list(FIXTURES))
def test_every_exchange_says_where_it_is_documented_and_when_a_connection_is_dead(name: str) -> None:
    exchange = FIXTURES[name].exchange
    assert exchange.keepalive.silence_s is not None
    assert exchange.docs.startswith("https://")


def test_limits_are_what_the_exchanges_document() -> None:
    facts: dict[str, Any] = {
        name: (f.exchange.limits.requests_per_second, f.exchange.limits.connects, f.exchange.limits.lifetime_s)
        for name, f in FIXTURES.items()
    }
    assert facts["binance spot"] == (5, (300, 300.0), 86_400.0)
    assert facts["binance usdm"] == (10, (300, 300.0), 86_400.0)
    assert facts["bybit linear"] == (10, (500, 300.0), None)
    assert facts["hyperliquid"] == (30, (30, 60.0), None)
    assert facts["okx"] == (3, (3, 1.0), None)
    assert facts["coinbase"] == (8, (8, 1.0), None)
    assert facts["kraken"] == (10, (150, 600.0), None)
    assert facts["deribit"] == (3, None, None)
    assert facts["interactive_brokers"] == (10, None, None)
    assert (OKX.limits.requests_per_hour, LINEAR.limits.request_bytes) == (480, 21_000)
    assert FIXTURES["bybit spot"].exchange.limits.streams_per_request == 10
    assert (HYPERLIQUID.limits.connections, HYPERLIQUID.limits.streams) == (10, 1000)
    assert GATEWAY.limits.subscription_lifetime_s == 900.0


def test_a_trade_seen_twice_counts_once_where_ids_are_unique() -> None:
    for name in ("bybit linear", "hyperliquid"):
        fixtures = FIXTURES[name]
        session = Session(fixtures.exchange, StreamConfig(close_by="trades"))
        for payload, _ in (*fixtures.trades, *fixtures.trades):
            session.receive([payload.encode()], 0)
        different = {item for _, meaning in fixtures.trades for item in meaning}
        assert session.buffer_stats.trades == len(different)
        assert session.stats.duplicates == 2 * sum(len(m) for _, m in fixtures.trades) - len(different)


def sample(fields_text: str, time_ms: int) -> bytes:
    return f'{{"conid":41,"_updated":{time_ms},{fields_text},"topic":"smd+41"}}'.encode()


def test_samples_are_made_of_changes_and_bars_of_them_are_sampled() -> None:
    bars: list[Any] = []
    session = Session(GATEWAY, StreamConfig(close_by="trades"), Callbacks(on_bar=bars.append))
    start_ms = 1_767_225_600_000
    for text, offset_ms in [
        ('"31":"10","7059":"5"', -30_000),
        ('"31":"10","7059":"5"', 100),  # the same snapshot after a reconnect
        ('"31":"11"', 1_000),  # size as before
        ('"7059":"1,200"', 2_000),  # price as before
        ('"84":"9"', 3_000),  # a bid
        ('"31":"C12"', 4_000),  # the previous close
        ('"31":"10.5"', 61_000),
    ]:
        session.receive([sample(text, start_ms + offset_ms)], 0)
    assert [(bar.open, bar.close, bar.volume, bar.trade_count, bar.status) for bar in bars] == [
        (10, 10, 5, 1, BarStatus.PARTIAL),
        (11, 11, 1205, 2, BarStatus.SAMPLED),
    ]
    assert (session.stats.quotes, session.stats.raw) == (1, 2)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1300", "1300"), ("1300.25", "1300.25"), ("0.5", "0.5"), (".5", ".5"), ("-1.5", "-1.5"), ("1.300", "1.300"),
        ("1,300", "1300"), ("1,300.25", "1300.25"), ("12,345,678", "12345678"), ("12,345,678.9", "12345678.9"),
        ("1.300,5", "1300.5"), ("1.300.000", "1300000"), ("1.300.000,25", "1300000.25"), ("1.300,250", "1300.250"),
        ("1 300", "1300"), ("1 300,5", "1300.5"), ("1 300.5", "1300.5"), ("1\u00a0300\u00a0000", "1300000"),
        ("1\u202f300,5", "1300.5"), ("1'300.5", "1300.5"), ("1\u2019300", "1300"), ("-1,300.5", "-1300.5"),
        ("C189.60", None), ("H189.60", None), ("C", None), ("c1,300", None), ("", None),
    ],
)  # fmt: skip
def test_numbers_of_the_gateway_are_read_whatever_their_separators(text: str, number: str | None) -> None:
    assert read_number(text) == number


@pytest.mark.parametrize(
    "text",
    [
        "1,5", "0,5", "1,30", "1300,5", "0,125", "0,001", "12,34,567", "1,300,00", "1.300.25", "1,300,25",
        "1,300.250,5", "1 30", "1 3000", "1,300 000", "1, 300", ",300", "1.", ".", "-", "+", "--1", "1-", "1e5", "1E-7",
        "0x10", "\u0661", "1x5", "1%", "5K", "$5", " ", "1__300", "1.300,", "9" * 65,
    ],
)  # fmt: skip
def test_numbers_of_the_gateway_that_could_be_read_in_two_ways_are_refused(text: str) -> None:
    with pytest.raises(ParseError, match=r"is not a number, or it is ambiguous|is not a number written as text"):
        read_number(text)


@pytest.mark.parametrize("value", [5, 1.5, True, ["1"], {"a": 1}])
def test_numbers_of_the_gateway_are_text(value: Any) -> None:
    with pytest.raises(ParseError, match="is not a number written as text"):
        read_number(value)


def test_a_halt_or_a_previous_close_makes_no_sample_nor_does_the_price_behind_it() -> None:
    ticks: list[Any] = []
    session = Session(GATEWAY, StreamConfig(close_by="trades"), Callbacks(on_tick=ticks.append))
    for n, text in enumerate([
        '"31":"C9","7059":"5"',  # the previous close, which is not of today
        '"31":"10"',
        '"31":"H10"',  # halted
        '"7059":"1,200"',  # of whatever it is, the price is not known
        '"7059":"5"',
        '"31":"10"',  # it stands where it stood
        '"31":"10.5"',
        '"31":"1,5"',  # 1.5, or worse
        '"7059":"6"',  # of which nobody knows the price
        '"31":"11"',
    ]):  # fmt: skip
        session.receive([sample(text, 1_767_225_600_000 + n)], 0)
    assert [(tick.price, tick.volume) for tick in ticks] == [(10, 5), (Decimal("10.5"), 5), (11, 6)]
    assert session.stats.parse_errors == 1


def test_the_gateways_rest_address_follows_from_that_of_its_stream() -> None:
    for url, rest_url, asked in (
        ("wss://localhost:5000/v1/api/ws", None, "https://localhost:5000/v1/api/iserver/accounts"),
        ("ws://10.0.0.1:99/v1/api/ws/", None, "http://10.0.0.1:99/v1/api/iserver/accounts"),
        ("wss://h/v1/api/ws", "http://other:1", "http://other:1/v1/api/iserver/accounts"),
        ("wss://h/v1/api/ws", "http://other:1/v1/api/", "http://other:1/v1/api/iserver/accounts"),
        ("wss://api.ibkr.com/v1/api/ws", None, "https://api.ibkr.com/v1/api/iserver/accounts"),
    ):
        assert GATEWAY.asked_first(url, rest_url) == [asked]
    assert [name for name, f in FIXTURES.items() if f.exchange.asked_first("wss://h/ws", None)] == [
        "interactive_brokers"
    ]
    assert [name for name, f in FIXTURES.items() if f.exchange.login("token")] == ["interactive_brokers"]
    assert GATEWAY.login("abc") == [b'{"session":"abc"}']


def test_a_ticker_of_changes_is_whole_after_its_snapshot() -> None:
    def message(kind: str, data: str) -> bytes:
        return f'{{"topic":"tickers.AB","type":"{kind}","ts":5,"data":{data}}}'.encode()

    events: list[Any] = []
    session = Session(LINEAR, StreamConfig(close_by="trades"), Callbacks(on_event=events.append))
    whole = (
        '{"symbol":"AB","lastPrice":"2","prevPrice24h":"1","highPrice24h":"3","lowPrice24h":"0.5","volume24h":"10",'
        '"turnover24h":"20"}'
    )
    for kind, data in [
        ("delta", '{"symbol":"AB","lastPrice":"1"}'),
        ("snapshot", whole),
        ("delta", '{"symbol":"AB","lastPrice":"2.5"}'),
    ]:
        session.receive([message(kind, data)], 0)
    assert [(event.data.last, event.data.high) for event in events] == [(2, 3), (Decimal("2.5"), 3)]
    assert (session.stats.tickers, session.stats.raw) == (2, 1)


def test_a_time_keeps_every_digit() -> None:
    assert time_of("1970-01-01T00:00:01Z") == 1_000_000_000
    assert time_of("1970-01-01T00:00:00.000000001Z") == 1
    assert time_of("2026-08-09T21:05:48.251397169Z") % 10**9 == 251_397_169
    for text in ("1970-01-01T00:00:01", "1970-01-01T00:00:01.1234567890Z", "1970-01-01T00:00:01.xZ", "soonZ"):
        with pytest.raises(BROKEN):
            time_of(text)


def test_a_named_adapter_is_its_exchanges_first_market() -> None:
    named: dict[str, Any] = {(made := getattr(adapters, each)).exchange_name: made for each in adapters.__all__}
    assert len(named) == 8
    for name, adapter in named.items():
        assert adapter().exchange is find_exchange(name) is next(iter(EXCHANGES[name].values()))
    assert named["bybit"](market="inverse").exchange is EXCHANGES["bybit"]["inverse"]
