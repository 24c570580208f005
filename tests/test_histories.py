"""What the exchanges' REST APIs are asked, and how their answers are read: documented payloads, field by field."""

from __future__ import annotations

import json
from decimal import Context, Decimal, Inexact, Rounded, localcontext
from pathlib import Path

import orjson
import pytest

from fastbars.errors import ParseError
from fastbars.exchanges import EXCHANGES, find_exchange
from fastbars.exchanges.coinbase import ADVANCED
from fastbars.exchanges.deribit import INVERSE as DERIBIT
from fastbars.exchanges.history import History, Hole, Page, read_page
from fastbars.exchanges.kraken import SPOT as KRAKEN
from fastbars.exchanges.messages import Trade
from fastbars.exchanges.okx import OKX

HOLE = Hole("BTCUSDT", 100, 4099, 1_699_999_999_500_000_000, 1_700_000_060_250_000_000)


def binance(market: str, channel: str = "trade", *, has_key: bool = False) -> History:
    history = find_exchange("binance", market).history(channel, has_key=has_key)
    assert history is not None
    return history


def test_binance_spot_asks_for_a_thousand_trades_from_an_id_on() -> None:
    history = binance("spot")
    assert history.api.url == "https://api.binance.com"
    request = history.request(HOLE, history.begin(HOLE))
    assert request == ("/api/v3/historicalTrades", {"symbol": "BTCUSDT", "fromId": "100", "limit": "1000"}, 25.0, None)
    (trade,) = history.parse("BNBBTC", orjson.dumps([
        {"id": 28457, "price": "4.00000100", "qty": "12.00000000", "quoteQty": "48.000012", "time": 1499865549590,
         "isBuyerMaker": True, "isBestMatch": True}])).trades  # fmt: skip
    wanted = Trade("trade", "BNBBTC", 1_499_865_549_590_000_000, "4.00000100", "12.00000000", -1, 28457, 28457)
    assert trade == wanted


def test_holes_of_spot_aggregates_are_filled_by_single_trades() -> None:
    body = b'[{"id":5,"price":"4","qty":"2","time":1,"isBuyerMaker":false}]'
    assert binance("spot", "aggTrade").parse("A", body).trades == [
        Trade("aggTrade", "A", 1_000_000, "4", "2", 1, 5, 5, 1)
    ]


@pytest.mark.parametrize(("market", "prefix"), [("usdm", "/fapi/v1"), ("coinm", "/dapi/v1")])
def test_futures_serve_history_with_a_key_and_the_latest_trades_without(market: str, prefix: str) -> None:
    with_key, without = binance(market, has_key=True), binance(market)
    assert with_key.key_header == "X-MBX-APIKEY"
    assert with_key.request(HOLE, 100)[:2] == (
        f"{prefix}/historicalTrades",
        {"symbol": "BTCUSDT", "fromId": "100", "limit": "500"},
    )
    assert without.key_header is None
    assert without.request(HOLE, 100)[:2] == (f"{prefix}/trades", {"symbol": "BTCUSDT", "limit": "1000"})
    assert "ADL" in with_key.omits
    assert "api_key" in without.omits


def test_holes_between_futures_aggregates_go_by_their_own_number() -> None:
    history = binance("usdm", "aggTrade")
    assert history.request(HOLE, 100)[:2] == (
        "/fapi/v1/aggTrades",
        {"symbol": "BTCUSDT", "fromId": "100", "limit": "1000"},
    )
    body = b'[{"a":26129,"p":"0.01633102","q":"4.70443515","f":27781,"l":27783,"T":1498793709153,"m":true}]'
    page = history.parse("A", body)
    assert page.trades == [
        Trade("aggTrade", "A", 1_498_793_709_153_000_000, "0.01633102", "4.70443515", -1, 27781, 27783, 3, 26129)
    ]
    assert history.follow(Hole("A", 26100, 26200, 0, 0), 26129, page) == 26130


def test_binance_us_needs_a_key() -> None:
    assert (binance("us").api.url, binance("us").key_header) == ("https://api.binance.us", "X-MBX-APIKEY")


def test_okx_pages_backwards_by_id() -> None:
    (history,) = OKX.histories["trades-all"]
    hole = HOLE._replace(symbol="BTC-USDT")
    assert history.request(hole, history.begin(hole))[:2] == (
        "/api/v5/market/history-trades",
        {"instId": "BTC-USDT", "type": "1", "after": "4100", "limit": "100"},
    )
    body = orjson.dumps({"code": "0", "msg": "", "data": [
        {"instId": "BTC-USDT", "side": "sell", "sz": "0.00001", "px": "29963.2", "tradeId": "4099",
         "ts": "1654161646974"},
        {"instId": "BTC-USDT", "side": "buy", "sz": "0.03", "px": "29964.1", "tradeId": "4098", "ts": "1654161641568"},
    ]})  # fmt: skip
    page = history.parse("BTC-USDT", body)
    assert page.trades == [
        Trade("trades-all", "BTC-USDT", 1_654_161_641_568_000_000, "29964.1", "0.03", 1, 4098, 4098),
        Trade("trades-all", "BTC-USDT", 1_654_161_646_974_000_000, "29963.2", "0.00001", -1, 4099, 4099),
    ]
    assert history.follow(hole, 4100, page) == 4098
    with pytest.raises(ParseError, match="Requests too frequent"):
        history.parse("BTC-USDT", b'{"code":"50011","msg":"Requests too frequent","data":[]}')


def test_deribit_goes_forward_by_the_number_of_the_trade() -> None:
    (history,) = DERIBIT.histories["trades.100ms"]
    hole = HOLE._replace(symbol="BTC-PERPETUAL")
    assert history.request(hole, history.begin(hole))[:2] == (
        "/api/v2/public/get_last_trades_by_instrument",
        {"instrument_name": "BTC-PERPETUAL", "start_seq": "100", "count": "1000", "sorting": "asc"},
    )
    body = (
        b'{"jsonrpc":"2.0","result":{"trades":[{"trade_seq":4001,"trade_id":"9","timestamp":1590480022768,'
        b'"tick_direction":3,"price":8950.10000000000001,"instrument_name":"BTC-PERPETUAL","direction":"buy",'
        b'"amount":1e1}],"has_more":true},"usIn":1}'
    )
    page = history.parse("BTC-PERPETUAL", body)
    assert page.trades == [
        Trade("trades.100ms", "BTC-PERPETUAL", 1_590_480_022_768_000_000, "8950.10000000000001", "1e1", 1, 4001, 4001)
    ]
    assert history.follow(hole, 100, page) == 4002
    for wrong in (
        b'{"jsonrpc":"2.0","error":{"code":13020}}',
        body.replace(b"[{", b"{"),
        body.replace(b"BTC-", b"ETH-"),
    ):
        with pytest.raises(ParseError):
            read_page(history, "BTC-PERPETUAL", wrong)


def test_coinbase_goes_backwards_by_time_and_its_side_is_the_makers() -> None:
    (history,) = ADVANCED.histories["market_trades"]
    hole = HOLE._replace(symbol="BTC-USD")
    assert history.request(hole, history.begin(hole))[:2] == (
        "/api/v3/brokerage/market/products/BTC-USD/ticker",
        {"limit": "1000", "start": "1699999999", "end": "1700000061"},
    )
    body = orjson.dumps({"trades": [
        {"trade_id": "4099", "product_id": "BTC-USD", "price": "140.91", "size": "4", "side": "BUY",
         "time": "2021-05-31T09:59:59.123456789Z", "bid": "", "ask": ""}], "best_bid": "1"})  # fmt: skip
    assert history.parse("BTC-USD", body).trades == [
        Trade("market_trades", "BTC-USD", 1_622_455_199_123_456_789, "140.91", "4", -1, 4099, 4099)
    ]


def test_kraken_follows_a_cursor_and_reads_times_without_losing_digits() -> None:
    (history,) = KRAKEN.histories["trade"]
    hole = HOLE._replace(symbol="BTC/USD")
    assert history.request(hole, history.begin(hole))[:2] == (
        "/0/public/Trades",
        {"pair": "XBTUSD", "since": "1699999999499999999", "count": "1000"},
    )
    body = (
        b'{"error":[],"result":{"XXBTZUSD":[["30243.40000","0.34507674",1688669597.8277369,"b","m","",4098]],'
        b'"last":"1688671969993150842"}}'
    )
    page = history.parse("BTC/USD", body)
    assert page == Page(
        [Trade("trade", "BTC/USD", 1_688_669_597_827_736_900, "30243.40000", "0.34507674", 1, 4098, 4098)],
        1_688_671_969_993_150_842,
    )
    assert history.follow(hole, 0, page) == 1_688_671_969_993_150_842
    with pytest.raises(ParseError, match="Unknown asset pair"):
        history.parse("BTC/USD", b'{"error":["EQuery:Unknown asset pair"]}')


def test_times_of_kraken_keep_their_digits_under_any_decimal_context() -> None:
    (history,) = KRAKEN.histories["trade"]
    row = b'["1.5","2",1688669597.8277369,"b","m","",7]'
    body = b'{"error":[],"result":{"XXBTZUSD":[' + row + b'],"last":"1688671969993150842"}}'
    for context in (Context(prec=3), Context(prec=5, traps=[Inexact, Rounded])):
        with localcontext(context):
            (trade,) = history.parse("BTC/USD", body).trades
            assert trade.time_ns == 1_688_669_597_827_736_900


def test_recorded_kraken_trades_keep_every_digit(tapes: Path) -> None:
    (path,) = (tapes / "kraken_rest_pair").glob("*trades*.json")
    rows = json.loads(path.read_text())
    body = orjson.dumps({"error": [], "result": {"XBTUSDT": rows, "last": "5"}})
    trades = KRAKEN.histories["trade"][0].parse("BTC/USDT", body).trades
    assert len(trades) == len(rows)
    assert [one.first_id for one in trades] == [row[6] for row in rows]
    assert [Decimal(one.time_ns) / 10**9 for one in trades] == [Decimal(row[2]) for row in rows]


@pytest.mark.parametrize("number", [4.5, "4.5x", None])
def test_a_price_that_is_no_number_in_text_fills_no_hole(number: object) -> None:
    body = orjson.dumps([{"id": 5, "price": number, "qty": "2", "time": 1, "isBuyerMaker": False}])
    with pytest.raises(ParseError):
        binance("spot").parse("A", body)


def test_an_answer_that_is_no_list_is_refused() -> None:
    with pytest.raises(ParseError, match="not a list"):
        binance("spot").parse("A", b'{"code":-1121,"msg":"Invalid symbol."}')


def test_every_history_stands_for_a_channel_that_proves_by_ids() -> None:
    for markets in EXCHANGES.values():
        for exchange in markets.values():
            for channel in exchange.histories:
                assert exchange.ids(channel) in ("contiguous", "sequenced")
    assert find_exchange("binance").history("bookTicker", has_key=True) is None
