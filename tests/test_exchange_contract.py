"""The contract that every exchange keeps, on fixtures written from its documentation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import fastbars
from exchange_fixtures import FIXTURES, Fixtures
from fastbars import StreamConfig
from fastbars.bars import BarStatus
from fastbars.buffer import BarBuffer
from fastbars.errors import ParseError, SubscriptionError
from fastbars.exchanges import EXCHANGES, find_exchange
from fastbars.exchanges.bybit import LINEAR
from fastbars.exchanges.declaration import Limits
from fastbars.exchanges.hyperliquid import HYPERLIQUID
from fastbars.exchanges.interactive_brokers import GATEWAY, read_number
from fastbars.exchanges.messages import Heartbeat, RawMessage, Trade, time_of
from fastbars.exchanges.okx import OKX
from fastbars.kernel.batch import TickBatch
from fastbars.live import adapters
from fastbars.live.callbacks import Callbacks
from fastbars.live.session import Session
from fastbars.wire.scanner import TradeScanner

FOLDER = Path(fastbars.__file__).parent / "exchanges"
EXCHANGE_FILES = [FOLDER / f"{name}.py" for name in EXCHANGES]
BROKEN = (ParseError, LookupError, TypeError, ValueError, AttributeError)

every_exchange = pytest.mark.parametrize("name", list(FIXTURES))


def cases(*kinds: str) -> list[Any]:
    return list(_cases(*kinds))


def _cases(*kinds: str) -> Iterator[Any]:
    for name, fixtures in FIXTURES.items():
        for kind in kinds:
            for number, (payload, meaning) in enumerate(getattr(fixtures, kind)):
                yield pytest.param(name, payload, meaning, id=f"{name}-{kind}-{number}")


def read(fixtures: Fixtures, payload: str) -> list[Any]:
    return list(fixtures.exchange.reader()(fixtures.exchange.loads(payload.encode())))


def test_every_exchange_and_market_has_fixtures() -> None:
    looked_at = {id(fixtures.exchange) for fixtures in FIXTURES.values()}
    known = {id(exchange) for markets in EXCHANGES.values() for exchange in markets.values()}
    assert looked_at == known


@pytest.mark.parametrize(
    ("name", "payload", "meaning"),
    cases("trades", "candles", "quotes", "tickers", "acks", "refusals", "heartbeats", "notices"),
)
def test_each_payload_means_what_the_documentation_says(name: str, payload: str, meaning: list[Any]) -> None:
    assert read(FIXTURES[name], payload) == list(meaning)
    assert list(FIXTURES[name].exchange.read(FIXTURES[name].exchange.loads(payload.encode()))) == list(meaning)


@pytest.mark.parametrize(
    ("name", "payload", "kind", "symbol"),
    [(name, *case) for name, fixtures in FIXTURES.items() for case in fixtures.raw],
)
def test_what_has_no_type_of_its_own_is_handed_on_as_it_is(
    name: str, payload: str, kind: str, symbol: str | None
) -> None:
    message = FIXTURES[name].exchange.loads(payload.encode())
    assert read(FIXTURES[name], payload) == [RawMessage(kind, symbol, message)]


@pytest.mark.parametrize(("name", "payload"), [(name, p) for name, f in FIXTURES.items() for p in f.unknown])
def test_what_is_unknown_means_nothing(name: str, payload: str) -> None:
    assert read(FIXTURES[name], payload) == []


@every_exchange
def test_a_known_kind_with_nothing_in_it_is_a_sign_of_life_and_no_error(name: str) -> None:
    fixtures = FIXTURES[name]
    assert fixtures.empty or name.startswith("binance")  # which sends each trade by itself
    told: list[RawMessage] = []
    session = Session(fixtures.exchange, StreamConfig(close_by="trades"), Callbacks(on_message=told.append))
    for payload in fixtures.empty:
        assert read(fixtures, payload) == [Heartbeat()]
        assert session.receive([payload.encode()], 0).errors == 0
    assert (session.stats.control, session.stats.messages) == (len(fixtures.empty),) * 2
    assert (session.take_data_messages(), told) == (0, [])


@pytest.mark.parametrize(("name", "payload"), [(name, p) for name, f in FIXTURES.items() for p in f.garbage])
def test_what_claims_to_be_of_a_known_kind_and_is_not_is_an_error(name: str, payload: str) -> None:
    with pytest.raises(BROKEN):
        read(FIXTURES[name], payload)


@every_exchange
def test_garbage_costs_no_good_message_beside_it_and_is_counted(name: str) -> None:
    fixtures = FIXTURES[name]
    good, meaning = fixtures.trades[0]
    trades = [item for item in meaning if isinstance(item, Trade)]
    told: list[RawMessage] = []
    session = Session(fixtures.exchange, StreamConfig(close_by="trades"), Callbacks(on_message=told.append))
    payloads = [p.encode() for p in (*fixtures.garbage, good, *fixtures.unknown, "{cut")]
    received = session.receive(payloads, 0)
    stats = session.stats
    assert stats.trades == len(trades)
    assert stats.parse_errors == len(fixtures.garbage)
    assert (stats.unknown, stats.invalid_json, stats.messages) == (len(fixtures.unknown), 1, len(payloads))
    assert received.errors == len(fixtures.garbage) + 1
    assert [message.kind for message in told] == ["unknown"] * len(fixtures.unknown)


@pytest.mark.parametrize(("name", "payload", "time_ns"), cases("event_times"))
def test_event_time_is_when_the_exchange_sent_a_message(name: str, payload: str, time_ns: int | None) -> None:
    exchange = FIXTURES[name].exchange
    assert exchange.event_time_ns(exchange.loads(payload.encode())) == time_ns


@pytest.mark.parametrize(("name", "streams", "frames"), cases("requests"))
def test_subscribing_sends_the_documented_bytes(name: str, streams: Any, frames: list[str]) -> None:
    assert [frame.decode() for frame in FIXTURES[name].exchange.subscribe(streams, 7)] == list(frames)


@pytest.mark.parametrize(("name", "streams", "frames"), cases("ends"))
def test_unsubscribing_sends_the_documented_bytes(name: str, streams: Any, frames: list[str]) -> None:
    assert [frame.decode() for frame in FIXTURES[name].exchange.unsubscribe(streams, 7)] == list(frames)


@every_exchange
def test_every_channel_has_one_route_and_an_unknown_one_is_refused(name: str) -> None:
    exchange = FIXTURES[name].exchange
    for channel in exchange.channels:
        asked = channel.replace("*", "1m")
        exchange.check_channel(asked)
        assert exchange.url([asked]).startswith("wss://")
    assert exchange.url([]) == exchange.url([exchange.default_channel])
    assert exchange.default_channel in exchange.trade_channels
    for channel in ("", "nonsense", *(each for each in exchange.channels if each.endswith("*"))):
        with pytest.raises(SubscriptionError, match="unknown channel"):
            exchange.check_channel(channel)


@every_exchange
def test_symbols_are_declared_with_examples_that_are_right(name: str) -> None:
    fixtures = FIXTURES[name]
    rules = fixtures.exchange.symbols
    names, _, _ = rules.example.partition(": ")  # what is behind it explains them
    examples = names.replace(" or ", ", ").split(", ")
    for symbol in examples:
        assert fixtures.exchange.exact_symbols([symbol, f" {symbol}\n"]) == [symbol]
        if rules.case != "exact":
            assert fixtures.exchange.exact_symbols([symbol.lower(), symbol.upper()]) == [symbol]
    traded = {item.symbol for _, meaning in fixtures.trades for item in meaning if isinstance(item, Trade)}
    assert fixtures.exchange.exact_symbols(sorted(traded)) == sorted(traded)


@pytest.mark.parametrize("scans", [True, False])
@every_exchange
def test_trades_of_what_is_not_or_no_longer_subscribed_to_make_no_bars_on_any_exchange(name: str, scans: bool) -> None:
    exchange = FIXTURES[name].exchange
    channel = exchange.default_channel
    read_so_far = [
        (payload.encode(), [item for item in meaning if isinstance(item, Trade)])
        for payload, meaning in FIXTURES[name].trades
    ]
    of_channel = [(payload, trades) for payload, trades in read_so_far if trades and trades[0].channel == channel]
    (symbol,) = {trade.symbol for _, trades in of_channel for trade in trades}
    session = Session(exchange, StreamConfig(close_by="trades"), channel=channel)
    if not scans:
        session.intake.scanner = None
    payload, trades = of_channel[0]
    session.follow("line", [], 0)
    # A sample is a change, so that another message is one where they are sampled.
    session.receive([payload.replace(b"189.60", b"189.5") if exchange.ids(channel) == "sampled" else payload], 0)
    assert (session.stats.never_subscribed, session.stats.trades, session.symbols) == (len(trades), 0, ())
    session.follow("line", [(symbol, channel)], 0)
    session.receive([payload], 0)  # what was dropped is not held to be known
    assert (session.stats.trades, session.stats.duplicates, session.symbols) == (len(trades), 0, (symbol,))
    session.follow("line", [], 0)
    session.flush(0, symbol)
    session.receive([payload], 0)
    if exchange.ids(channel) == "contiguous":  # elsewhere it is known already, by its key or as the same sample
        assert session.stats.no_longer_subscribed == len(trades)
    assert (session.stats.trades, session.flush(0)) == (len(trades), [])


@every_exchange
def test_limits_and_heartbeat_are_data_that_make_sense(name: str) -> None:
    exchange = FIXTURES[name].exchange
    limits, keepalive = exchange.limits, exchange.keepalive
    for each in fields(Limits):
        value = getattr(limits, each.name)
        values = value if isinstance(value, tuple) else (value,)
        assert all(number is None or isinstance(number, bool) or number > 0 for number in values), each.name
    assert limits.streams_per_request <= limits.streams_per_connection
    assert (keepalive.payload is None) == (keepalive.interval_s == 0)
    assert keepalive.silence_s is not None
    assert exchange.docs.startswith("https://")
    assert exchange.name.split()[0] in EXCHANGES
    streams = [(f"SYMBOL{n:04}USDT", exchange.default_channel) for n in range(limits.streams_per_request)]
    for frame in exchange.subscribe(streams, 10**6):
        assert limits.request_bytes is None or len(frame) <= limits.request_bytes


@pytest.mark.parametrize("name", list(FIXTURES))
def test_contract_sizes_are_those_of_inverse_markets(name: str) -> None:
    exchange = FIXTURES[name].exchange
    assert {symbol: exchange.contract_size(symbol) for symbol in FIXTURES[name].contracts} == FIXTURES[name].contracts


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
    assert facts["interactive_brokers"] == (10, None, None)
    assert (OKX.limits.requests_per_hour, LINEAR.limits.request_bytes) == (480, 21_000)
    assert FIXTURES["bybit spot"].exchange.limits.streams_per_request == 10
    assert (HYPERLIQUID.limits.connections, HYPERLIQUID.limits.streams) == (10, 1000)
    assert GATEWAY.limits.subscription_lifetime_s == 900.0


@pytest.mark.parametrize(("name", "payload", "meaning"), cases("trades"))
def test_trades_of_a_message_stand_in_time_order_and_carry_what_their_ids_promise(
    name: str, payload: str, meaning: list[Any]
) -> None:
    exchange = FIXTURES[name].exchange
    trades = [item for item in read(FIXTURES[name], payload) if isinstance(item, Trade)]
    assert trades
    assert [trade.time_ns for trade in trades] == sorted(trade.time_ns for trade in trades)
    for trade in trades:
        ids = exchange.ids(trade.channel)
        assert (trade.first_id is not None) == (ids in ("contiguous", "sequenced"))
        assert (trade.key is not None) == (ids == "unique")
        assert (trade.sequence is not None) == (trade.channel == "aggTrade")


@every_exchange
def test_one_minute_of_trades_becomes_a_bar_of_the_status_that_the_ids_allow(name: str) -> None:
    fixtures = FIXTURES[name]
    payload, meaning = fixtures.trades[0]
    first = meaning[0]
    assert isinstance(first, Trade)
    issued: list[Any] = []
    session = Session(fixtures.exchange, StreamConfig(close_by="trades"), Callbacks(on_bar=issued.append))
    session.receive([payload.encode()], 0)
    session.receive([payload.encode()], 0)  # once more, word for word
    session.flush(0)
    (bar,) = issued
    assert (bar.status, bar.trade_count) == (BarStatus.PARTIAL, 1)
    assert (bar.close, bar.volume) == (Decimal(first.price), Decimal(first.size))


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
    with pytest.raises(ParseError, match=r"is no number, or could be read in two ways|is not a number in text"):
        read_number(text)


@pytest.mark.parametrize("value", [5, 1.5, True, ["1"], {"a": 1}])
def test_numbers_of_the_gateway_are_text(value: Any) -> None:
    with pytest.raises(ParseError, match="is not a number in text"):
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


def test_every_exchange_has_an_adapter_by_name_and_a_first_market() -> None:
    named: dict[str, Any] = {(made := getattr(adapters, each)).exchange_name: made for each in adapters.__all__}
    assert set(named) == set(EXCHANGES)
    for name, markets in EXCHANGES.items():
        first = next(iter(markets.values()))
        assert find_exchange(name) is first
        assert named[name]().exchange is first
    assert named["bybit"](market="inverse").exchange is EXCHANGES["bybit"]["inverse"]


def columns_of(batch: TickBatch) -> dict[str, list[int]]:
    names = ("symbol_id", "time_ns", "price", "size", "side", "first_id", "last_id", "count", "sequence")
    return {name: list(column) for name in names if (column := batch.column(name)) is not None}


@pytest.mark.parametrize(("name", "payload", "meaning"), cases("trades"))
def test_the_scanner_takes_from_messages_what_is_read_from_them(name: str, payload: str, meaning: list[Any]) -> None:
    exchange = FIXTURES[name].exchange
    trades = [item for item in meaning if isinstance(item, Trade)]
    declared = exchange.fields(trades[0].channel)
    if declared is None:
        assert exchange.ids(trades[0].channel) == "sampled"
        return
    buffers = [BarBuffer(ids=exchange.ids(trades[0].channel)) for _ in range(2)]
    scanned, parsed = (buffer.new_batch() for buffer in buffers)
    scanner = TradeScanner(declared, scanned, buffers[0].instruments.add)
    for trade in trades:
        parsed.append(*trade.row)
    history = name == "hyperliquid" and len(trades) > 1  # which is not in time order
    if history or (declared.trade_count is not None and f'"{declared.trade_count}"' not in payload):
        assert not scanner.scan(payload.encode())
        return
    assert scanner.scan(payload.encode())
    assert columns_of(scanned) == columns_of(parsed)
    assert scanner.take_event_time() == exchange.event_time_ns(exchange.loads(payload.encode()))
