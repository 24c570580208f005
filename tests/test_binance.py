"""Tests of what Binance's messages mean: one row a payload, as recorded or documented, key order and all."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import orjson
import pytest

from fastbars import BinanceWebSocketAdapter, StreamConfig
from fastbars.bars import ExchangeBar
from fastbars.errors import ParseError, SubscriptionError, UnknownExchangeError
from fastbars.events import Quote, Ticker
from fastbars.exchanges import EXCHANGES, find_exchange
from fastbars.exchanges.binance import COINM, MARKETS, SPOT, US, USDM
from fastbars.exchanges.messages import Ack, Message, Notice, RawMessage, Refusal, Trade, decimal_of
from fastbars.live.callbacks import Callbacks
from fastbars.live.session import Session
from fastbars.ticks import TickSide

D = Decimal

SPOT_TRADE = (
    '{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":3735683259,"p":"61837.63000000","q":"0.02000000",'
    '"T":1723161255342,"m":true,"M":true}'
)
SPOT_TRADE_US = (
    '{"e":"trade","E":1723161255343210,"s":"BTCUSDT","t":3735683259,"p":"61837.63000000","q":"0.02000000",'
    '"T":1723161255342109,"m":false,"M":true}'
)
USDM_TRADE = (
    '{"e":"trade","E":1723161256322,"T":1723161256321,"s":"BTCUSDT","t":5266583935,"p":"61800.30","q":"0.006",'
    '"X":"MARKET","m":false}'
)
USDM_INSURANCE = (
    '{"e":"trade","E":1596034530241,"T":1596034530235,"s":"ETHUSDT","t":73701056,"p":"2366.55","q":"0.070",'
    '"X":"INSURANCE_FUND","m":true}'
)
COINM_TRADE = (
    '{"e":"trade","E":1723161257687,"T":1723161257679,"s":"BTCUSD_PERP","t":849714402,"p":"61804.8","q":"4",'
    '"X":"MARKET","m":false}'
)
SPOT_AGGREGATE = (
    '{"e":"aggTrade","E":1617566591315,"s":"BTCUSDT","a":665076760,"p":"58001.03000000","q":"0.08620500",'
    '"f":745522877,"l":745522880,"T":1617566591314,"m":true,"M":true}'
)
USDM_AGGREGATE = (
    '{"e":"aggTrade","E":1626992741575,"a":16599292,"s":"CTKUSDT","p":"1.01100","q":"10","nq":"10","f":23961322,'
    '"l":23961322,"T":1626992741421,"m":false,"st":1}'
)
SPOT_KLINE = (
    '{"e":"kline","E":1617566640068,"s":"BTCUSDT","k":{"t":1617566580000,"T":1617566639999,"s":"BTCUSDT","i":"1m",'
    '"f":745522651,"L":745523670,"o":"57994.60000000","c":"57999.99000000","h":"58018.03000000","l":"57974.41000000",'
    '"v":"23.06712200","n":1020,"x":true,"q":"1337913.58654308","V":"11.41334700","Q":"661954.86510045","B":"0"}}'
)
SPOT_BOOK = '{"u":50093239212,"s":"BTCUSDT","b":"61837.63","B":"3.78826000","a":"61837.64","A":"1.54698000"}'
USDM_BOOK = (
    '{"e":"bookTicker","u":600859600576,"s":"SUSHIUSDT","b":"7.6110","B":"2","a":"7.6120","A":"297",'
    '"T":1626992741012,"E":1626992741017,"ps":"SUSHIUSDT","st":1}'
)
SPOT_TICKER = (
    '{"e":"24hrTicker","E":1672515782136,"s":"BNBBTC","p":"0.0015","P":"250.00","w":"0.0018","x":"0.0009",'
    '"c":"0.0025","Q":"10","b":"0.0024","B":"10","a":"0.0026","A":"100","o":"0.0010","h":"0.0026","l":"0.0009",'
    '"v":"10000","q":"18","O":0,"C":86400000,"F":0,"L":18150,"n":18151}'
)
USDM_MARK = (
    '{"e":"markPriceUpdate","E":1562305380000,"s":"BTCUSDT","p":"11794.15000000","i":"11784.62659091",'
    '"P":"11784.25641265","r":"0.00038167","T":1562306400000,"st":1}'
)
FORCE_ORDER = '{"e":"forceOrder","E":1568014460893,"o":{"s":"BTCUSDT","S":"SELL","q":"0.014","p":"9910"}}'
DEPTH = '{"e":"depthUpdate","E":1672515782136,"s":"BNBBTC","U":157,"u":160,"b":[["0.0024","10"]],"a":[["0.0026","1"]]}'
MINI = '{"e":"24hrMiniTicker","E":1672515782136,"s":"BNBBTC","c":"0.0025","o":"0.0010","h":"0.0025","l":"0.0010"}'
BLOCK = '{"e":"blockTrade","E":1672515782136,"s":"BNBBTC","t":12,"p":"0.0025","q":"10000","T":1672515782130,"m":true}'
SHUTDOWN = '{"e":"serverShutdown","E":1672515782136}'

BOOK = (D("61837.63"), D("3.78826"), D("61837.64"), D("1.54698"))
CLOSED = ExchangeBar(
    "BTCUSDT",
    "1m",
    datetime(2021, 4, 4, 20, 3, tzinfo=UTC),
    datetime(2021, 4, 4, 20, 4, tzinfo=UTC),
    D("57994.60"),
    D("58018.03"),
    D("57974.41"),
    D("57999.99"),
    D("23.067122"),
    D("1337913.58654308"),
    1020,
    D("11.413347"),
    D("661954.86510045"),
    745522651,
    745523670,
    True,
    1617566640068_000_000,
)
TICKER = Ticker(
    "BNBBTC", D("0.0025"), D("0.0010"), D("0.0026"), D("0.0009"), D(10000), D(18), 18151, 1672515782136_000_000
)

READINGS: list[tuple[str, Message]] = [
    (
        SPOT_TRADE,
        Trade("trade", "BTCUSDT", 1723161255342_000_000, "61837.63000000", "0.02000000", -1, 3735683259, 3735683259),
    ),
    (
        SPOT_TRADE_US,
        Trade("trade", "BTCUSDT", 1723161255342109_000, "61837.63000000", "0.02000000", 1, 3735683259, 3735683259),
    ),
    (USDM_TRADE, Trade("trade", "BTCUSDT", 1723161256321_000_000, "61800.30", "0.006", 1, 5266583935, 5266583935)),
    (USDM_INSURANCE, Trade("trade", "ETHUSDT", 1596034530235_000_000, "2366.55", "0.070", -1, 73701056, 73701056)),
    (COINM_TRADE, Trade("trade", "BTCUSD_PERP", 1723161257679_000_000, "61804.8", "4", 1, 849714402, 849714402)),
    (
        SPOT_AGGREGATE,
        Trade(
            "aggTrade",
            "BTCUSDT",
            1617566591314_000_000,
            "58001.03000000",
            "0.08620500",
            -1,
            745522877,
            745522880,
            4,
            665076760,
        ),
    ),
    (
        USDM_AGGREGATE,
        Trade("aggTrade", "CTKUSDT", 1626992741421_000_000, "1.01100", "10", 1, 23961322, 23961322, 1, 16599292),
    ),
    (SPOT_KLINE, CLOSED),
    (SPOT_BOOK, Quote("BTCUSDT", *BOOK, None)),
    (USDM_BOOK, Quote("SUSHIUSDT", D("7.6110"), D(2), D("7.6120"), D(297), 1626992741017_000_000)),
    (SPOT_TICKER, TICKER),
    (USDM_MARK, RawMessage("markPriceUpdate", "BTCUSDT", orjson.loads(USDM_MARK))),
    (FORCE_ORDER, RawMessage("forceOrder", None, orjson.loads(FORCE_ORDER))),
    (DEPTH, RawMessage("depthUpdate", "BNBBTC", orjson.loads(DEPTH))),
    (MINI, RawMessage("24hrMiniTicker", "BNBBTC", orjson.loads(MINI))),
    (BLOCK, RawMessage("blockTrade", "BNBBTC", orjson.loads(BLOCK))),  # their ids are a series of its own
    (SHUTDOWN, Notice("the server is about to shut down")),
]


@pytest.mark.parametrize("market", list(MARKETS))
@pytest.mark.parametrize(("payload", "meaning"), READINGS)
def test_each_payload_means_the_same_bare_combined_and_with_unknown_keys(
    market: str, payload: str, meaning: Message
) -> None:
    if market == "coinm" and isinstance(meaning, ExchangeBar):
        meaning = replace(meaning, quote_volume=None, taker_buy_quote_volume=None)  # there it is a base volume
    bare = orjson.loads(payload)
    for message in (bare, {"stream": "any@name", "data": bare}, {**bare, "zz": [1], "next": None}):
        expected = meaning._replace(message=message) if isinstance(meaning, RawMessage) else meaning
        assert list(MARKETS[market].read(message)) == [expected]


@pytest.mark.parametrize(
    ("payload", "meaning"),
    [
        ('{"result":null,"id":1}', [Ack(1)]),
        ('{"result":["btcusdt@trade"],"id":3}', [Ack(3)]),
        ('{"code":2,"msg":"Invalid request: method","id":7}', [Refusal(7, "Invalid request: method (code 2)")]),
        ('{"code":3,"msg":"Invalid JSON: expected value"}', [Refusal(None, "Invalid JSON: expected value (code 3)")]),
        ('{"error":{"code":-1121,"msg":"Invalid symbol."},"id":9}', [Refusal(9, "Invalid symbol. (code -1121)")]),
        ('{"result":null,"id":"mine"}', []),
        ('{"result":null}', []),
        ('{"e":"somethingNew","s":"BTCUSDT"}', []),
        ('{"stream":"btcusdt@new","data":[1,2]}', []),
        ("{}", []),
        ("[]", []),
        ("17", []),
        ("null", []),
    ],
)  # fmt: skip
def test_answers_come_in_two_shapes_and_what_is_unknown_means_nothing(payload: str, meaning: list[Message]) -> None:
    for exchange in MARKETS.values():
        assert list(exchange.read(orjson.loads(payload))) == meaning


def test_the_shutdown_notice_of_combined_connections_is_understood() -> None:
    message = {"stream": "!serverShutdown", "data": {"e": "serverShutdown", "E": 1672515782136}}
    assert list(SPOT.read(message)) == [Notice("the server is about to shut down")]


def test_the_taker_sold_where_the_buyer_was_the_maker() -> None:
    (sold,) = SPOT.read(orjson.loads(SPOT_TRADE))
    (bought,) = SPOT.read(orjson.loads(SPOT_TRADE_US))
    assert isinstance(sold, Trade)
    assert isinstance(bought, Trade)
    assert (sold.to_tick().side, bought.to_tick().side) == (TickSide.SELL, TickSide.BUY)
    assert sold._replace(side=0).to_tick().side is TickSide.UNKNOWN
    assert sold.to_tick().price == D("61837.63")


def test_an_aggregate_stands_for_its_trades() -> None:
    (one,) = SPOT.read(orjson.loads(SPOT_AGGREGATE))
    assert isinstance(one, Trade)
    tick = one.to_tick()
    assert (tick.trade_id, tick.last_trade_id, tick.trade_count) == (745522877, 745522880, 4)


def test_a_kline_in_microseconds_has_the_same_interval() -> None:
    message = orjson.loads(SPOT_KLINE)
    message["E"] = 1617566640068123
    message["k"]["t"], message["k"]["T"] = 1617566580000000, 1617566639999999
    (bar,) = SPOT.read(message)
    assert isinstance(bar, ExchangeBar)
    assert (bar.open_time, bar.close_time) == (CLOSED.open_time, CLOSED.close_time)
    assert bar.event_time_ns == 1617566640068123_000


def test_a_month_is_written_mo_and_a_kline_without_trades_has_no_ids() -> None:
    message = orjson.loads(SPOT_KLINE)
    message["k"] |= {"i": "1M", "n": 0, "f": -1, "L": -1, "x": False}
    (bar,) = SPOT.read(message)
    assert isinstance(bar, ExchangeBar)
    assert (bar.spec, bar.first_trade_id, bar.last_trade_id, bar.is_closed) == ("1mo", None, None, False)


def test_the_base_volume_of_a_coin_margined_kline_is_not_taken_for_a_quote_volume() -> None:
    (bar,) = COINM.read(orjson.loads(SPOT_KLINE))
    assert isinstance(bar, ExchangeBar)
    assert (bar.quote_volume, bar.taker_buy_quote_volume) == (None, None)
    assert (bar.volume, bar.taker_buy_volume) == (D("23.067122"), D("11.413347"))


@pytest.mark.parametrize(
    "change",
    [{"b": None}, {"b": 61837.63}, {"a": "61837,64"}, {"A": ""}],
)
def test_a_number_that_is_not_text_of_a_number_is_a_parse_error(change: dict[str, Any]) -> None:
    with pytest.raises(ParseError, match="is not a number"):
        list(SPOT.read(orjson.loads(SPOT_BOOK) | change))


def test_decimals_are_read_to_the_last_digit() -> None:
    assert decimal_of("0.10000000000000000000000001") == D("0.10000000000000000000000001")


@pytest.mark.parametrize("text", ["NaN", "sNaN", "Infinity", "-Infinity"])
def test_a_number_that_is_not_finite_is_a_parse_error(text: str) -> None:
    with pytest.raises(ParseError, match=f"'{text}' is not a number of at most 128 characters"):
        decimal_of(text)


# Times.


@pytest.mark.parametrize(
    ("message", "time_ns"),
    [
        ({"E": 1723161255343}, 1723161255343_000_000),
        ({"E": 1723161255343210}, 1723161255343210_000),
        ({"stream": "x", "data": {"E": 5}}, 5_000_000),
        ({"u": 1, "s": "BTCUSDT"}, None),
        ({"E": "1723161255343"}, None),
        ({"data": []}, None),
        ([], None),
        (3, None),
    ],
)
def test_the_event_time_is_milliseconds_or_microseconds_or_not_said(message: Any, time_ns: int | None) -> None:
    assert SPOT.event_time_ns(message) == time_ns


# Requests and routes.


def test_requests_name_streams_in_lower_case() -> None:
    streams = [("BTCUSDT", "trade"), ("ETHUSDT", "kline_1m")]
    assert [orjson.loads(frame) for frame in SPOT.subscribe(streams, 4)] == [
        {"method": "SUBSCRIBE", "params": ["btcusdt@trade", "ethusdt@kline_1m"], "id": 4}
    ]
    assert [orjson.loads(frame) for frame in SPOT.unsubscribe(streams[:1], 5)] == [
        {"method": "UNSUBSCRIBE", "params": ["btcusdt@trade"], "id": 5}
    ]


def test_usdm_serves_trades_and_klines_on_different_routes() -> None:
    assert USDM.url(["trade", "bookTicker"]) == "wss://fstream.binance.com/public/ws"
    assert USDM.url(["aggTrade", "kline_1m", "ticker"]) == "wss://fstream.binance.com/market/ws"
    assert USDM.url([]) == "wss://fstream.binance.com/public/ws"
    with pytest.raises(
        SubscriptionError, match=r"no single connection serves \['kline_\*', 'trade'\].*public/ws.*market/ws"
    ):
        USDM.url(["trade", "kline_1m"])


def test_spot_and_coinm_serve_everything_on_one_connection() -> None:
    channels = ["trade", "aggTrade", "kline_1m", "bookTicker", "ticker", "depth"]
    assert SPOT.url(channels) == "wss://stream.binance.com:9443/ws"
    assert COINM.url(channels) == "wss://dstream.binance.com/ws"


async def test_channels_of_different_routes_are_wanted_by_one_adapter() -> None:
    adapter = BinanceWebSocketAdapter(market="usdm")
    await adapter.subscribe(["BTCUSDT"], ["trade", "kline_1m"])
    assert adapter.active_subscriptions == {"BTCUSDT": {"trade", "kline_1m"}}
    assert sorted(streams for streams in adapter.carried if streams) == [
        [("BTCUSDT", "kline_1m")],
        [("BTCUSDT", "trade")],
    ]


async def test_with_a_url_of_ones_own_channels_may_be_mixed() -> None:
    adapter = BinanceWebSocketAdapter(market="usdm", url="ws://127.0.0.1:1/ws")
    await adapter.subscribe(["BTCUSDT"], ["trade", "kline_1m"])
    assert adapter.active_subscriptions == {"BTCUSDT": {"trade", "kline_1m"}}
    assert adapter.url == "ws://127.0.0.1:1/ws"


def test_the_route_follows_the_channel_that_bars_are_made_from() -> None:
    assert BinanceWebSocketAdapter(market="usdm").url == "wss://fstream.binance.com/public/ws"
    assert BinanceWebSocketAdapter(market="usdm", channel="aggTrade").url == "wss://fstream.binance.com/market/ws"


@pytest.mark.parametrize("channel", ["trades", "kline", "kline_", "kline_*", "", "aggTrade_1m"])
def test_an_unknown_channel_is_refused_with_the_known_ones(channel: str) -> None:
    with pytest.raises(SubscriptionError, match=r"unknown channel .*'trade', 'aggTrade', 'kline_\*'"):
        SPOT.check_channel(channel)


def test_known_channels_pass() -> None:
    for channel in ("trade", "aggTrade", "kline_1m", "bookTicker", "ticker", "depth", "depth5@100ms"):
        SPOT.check_channel(channel)


def test_ids_prove_completeness_except_those_of_futures_aggregates() -> None:
    assert {(name, one.ids("trade"), one.ids("aggTrade")) for name, one in MARKETS.items()} == {
        ("spot", "contiguous", "contiguous"),
        ("usdm", "contiguous", "sequenced"),
        ("coinm", "contiguous", "sequenced"),
        ("us", "contiguous", "contiguous"),
    }
    with pytest.raises(SubscriptionError, match="'bookTicker' is not a trade channel"):
        SPOT.ids("bookTicker")


def test_bars_cannot_be_made_from_a_channel_without_trades() -> None:
    with pytest.raises(
        SubscriptionError, match=r"'kline_1m' is not a trade channel; those are \['trade', 'aggTrade'\]"
    ):
        BinanceWebSocketAdapter(channel="kline_1m")


# Contracts.


@pytest.mark.parametrize(
    ("exchange", "symbol", "size"),
    [
        (COINM, "BTCUSD_PERP", D(100)),
        (COINM, "BTCUSD_240927", D(100)),
        (COINM, "ETHUSD_PERP", D(10)),
        (COINM, "DOGEUSD_PERP", D(10)),
        (USDM, "BTCUSD_PERP", None),
        (SPOT, "BTCUSDT", None),
    ],
)
def test_a_contract_is_100_dollars_of_bitcoin_and_10_of_anything_else(
    exchange: Any, symbol: str, size: Decimal | None
) -> None:
    assert exchange.contract_size(symbol) == size


def test_inverse_bars_count_contracts_and_dollars_and_have_no_vwap() -> None:
    session = Session(COINM, StreamConfig(bars="1m", close_by="trades"), Callbacks(), channel="trade")
    eth = COINM_TRADE.replace("BTCUSD_PERP", "ETHUSD_PERP").replace("61804.8", "2600.05")
    sold = COINM_TRADE.replace("849714402", "849714403").replace('"q":"4"', '"q":"3"').replace("false", "true")
    session.receive([COINM_TRADE.encode(), sold.encode(), eth.encode()], 0)
    btc_bar, eth_bar = session.flush(0)
    assert (btc_bar.volume, btc_bar.quote_volume) == (D(7), D(700))
    assert (btc_bar.taker_buy_volume, btc_bar.taker_buy_quote_volume) == (D(4), D(400))
    assert (eth_bar.volume, eth_bar.quote_volume) == (D(4), D(40))
    assert (btc_bar.inverse, btc_bar.vwap, eth_bar.vwap) == (True, None, None)
    assert btc_bar.close == D("61804.8")


# Names.


def test_exchanges_are_found_by_name_and_market_in_any_case() -> None:
    assert find_exchange("Binance") is SPOT
    assert find_exchange("binance", "USDM") is USDM
    assert EXCHANGES["binance"] == {"spot": SPOT, "usdm": USDM, "coinm": COINM, "us": US}
    with pytest.raises(UnknownExchangeError, match=r"^unknown exchange 'bitso'; known are binance, bybit, "):
        find_exchange("bitso")
    with pytest.raises(
        UnknownExchangeError, match=r"^binance: unknown market 'margin'; known are spot, usdm, coinm, us$"
    ):
        find_exchange("binance", "margin")
    with pytest.raises(
        UnknownExchangeError, match=r"^binance: unknown market 'margin'; known are spot, usdm, coinm, us$"
    ):
        BinanceWebSocketAdapter(market="margin")


def test_a_kline_is_never_a_tick() -> None:
    ticks: list[object] = []
    session = Session(
        SPOT, StreamConfig(bars="1m", close_by="trades"), Callbacks(on_tick=ticks.append), channel="trade"
    )
    session.receive([SPOT_KLINE.encode()] * 5, 0)
    assert (ticks, session.flush(0), session.stats.exchange_bars) == ([], [], 5)
    assert BinanceWebSocketAdapter().parse_message(orjson.loads(SPOT_KLINE)) is None
