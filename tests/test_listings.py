"""How the exchanges' answers about their instruments are read: documented payloads, hostile ones, large ones."""

from __future__ import annotations

import threading
import time
from datetime import datetime
from decimal import Decimal

import orjson
import pytest
from hypothesis import given, strategies as st

from fastbars.errors import ParseError
from fastbars.exchanges import EXCHANGES, find_exchange
from fastbars.exchanges.instruments import instruments_of
from fastbars.exchanges.listing import Kind, Listed, Listing, split


def listed(symbol: str, status: str, kind: Kind | None = None, **fields: object) -> Listed:
    """A Listed, with decimals and times as their exchange writes them."""
    for name in ("price_tick", "size_step", "contract_size", "quote_volume", "contracts"):
        if name in fields:
            fields[name] = Decimal(str(fields[name]))
    for name in ("expiry", "listed"):
        if name in fields:
            moment = datetime.fromisoformat(f"{fields.pop(name)}+00:00")
            fields[f"{name}_ns"] = int(moment.timestamp()) * 10**9
    return Listed(symbol, status, kind, **fields)  # type: ignore[arg-type]


ANSWERS: dict[tuple[str, str], tuple[bytes, list[Listed]]] = {
    ("binance", "spot"): (
        b'{"timezone":"UTC","serverTime":1565246363776,"rateLimits":[{}],"exchangeFilters":[],"symbols":[{"symbol":'
        b'"ETHBTC","status":"TRADING","baseAsset":"ETH","quoteAsset":"BTC","filters":[{"filterType":"PRICE_FILTER",'
        b'"minPrice":"0.00000100","tickSize":"0.00001000"},{"filterType":"LOT_SIZE","stepSize":"0.00010000"}]},'
        b'{"status":"BREAK","permissionSets":[[]],"symbol":"LUNAUSDT"}],"sors":[{"baseAsset":"BTC","symbols":'
        b'["BTCUSDT"]}]}',
        [
            listed("ETHBTC", "TRADING", "spot", base="ETH", quote="BTC", price_tick="0.00001", size_step="0.0001"),
            listed("LUNAUSDT", "BREAK", "spot"),
        ],
    ),
    ("binance", "usdm"): (
        b'{"assets":[{"asset":"BTC"}],"symbols":[{"symbol":"BTCUSDT","pair":"BTCUSDT","contractType":"PERPETUAL",'
        b'"deliveryDate":4133404800000,"onboardDate":1569398400000,"status":"TRADING","baseAsset":"BTC","quoteAsset":'
        b'"USDT","marginAsset":"USDT","filters":[{"tickSize":"0.10","filterType":"PRICE_FILTER"},{"stepSize":"0.001",'
        b'"filterType":"LOT_SIZE"}]},{"symbol":"BTCUSDT_260925","contractType":"CURRENT_QUARTER","deliveryDate":'
        b'1790323200000,"onboardDate":"1774598400000","status":"TRADING","baseAsset":"BTC","quoteAsset":"USDT",'
        b'"marginAsset":"USDT","filters":[]},{"symbol":"SRMUSDT","status":"SETTLING","contractType":"","filters":null},'
        b'{"symbol":"AAPLUSDT","contractType":"TRADIFI_PERPETUAL","status":"PENDING_TRADING"}],"timezone":"UTC"}',
        [
            listed("BTCUSDT", "TRADING", "perpetual", base="BTC", quote="USDT", settle="USDT", price_tick="0.1",
                   size_step="0.001", inverse=False, listed="2019-09-25 08:00"),
            listed("BTCUSDT_260925", "TRADING", "future", base="BTC", quote="USDT", settle="USDT", inverse=False,
                   expiry="2026-09-25 08:00", listed="2026-03-27 08:00"),
            listed("SRMUSDT", "SETTLING"),
            listed("AAPLUSDT", "PENDING_TRADING", "perpetual"),
        ],
    ),
    ("binance", "coinm"): (
        b'{"exchangeFilters":[],"symbols":[{"filters":[{"tickSize":"0.1","filterType":"PRICE_FILTER"},{"stepSize":"1",'
        b'"filterType":"LOT_SIZE"}],"contractStatus":"TRADING","symbol":"BTCUSD_PERP","contractType":"PERPETUAL",'
        b'"contractSize":100,"baseAsset":"BTC","quoteAsset":"USD","marginAsset":"BTC","deliveryDate":4133404800000}]}',
        [
            listed("BTCUSD_PERP", "TRADING", "perpetual", base="BTC", quote="USD", settle="BTC", price_tick="0.1",
                   size_step="1", contract_size="100", inverse=True),
        ],
    ),
    ("binance", "us"): (
        b'{"symbols":[{"symbol":"BTCUSDT","status":"TRADING"}]}',
        [listed("BTCUSDT", "TRADING", "spot")],
    ),
    ("bybit", "spot"): (
        b'{"retCode":0,"retMsg":"OK","result":{"category":"spot","list":[{"symbol":"BTCUSDT","baseCoin":"BTC",'
        b'"quoteCoin":"USDT","innovation":"0","status":"Trading","marginTrading":"both","lotSizeFilter":{'
        b'"basePrecision":"0.000001","quotePrecision":"0.0000001"},"priceFilter":{"tickSize":"0.01"}}]}}',
        [listed("BTCUSDT", "Trading", "spot", base="BTC", quote="USDT", price_tick="0.01", size_step="0.000001")],
    ),
    ("bybit", "linear"): (
        b'{"retCode":0,"retMsg":"OK","result":{"category":"linear","list":[{"symbol":"BTCUSDT","contractType":'
        b'"LinearPerpetual","status":"Trading","baseCoin":"BTC","quoteCoin":"USDT","launchTime":"1585526400000",'
        b'"deliveryTime":"0","priceFilter":{"minPrice":"0.10","tickSize":"0.10"},"lotSizeFilter":{"qtyStep":"0.001"},'
        b'"settleCoin":"USDT","leverageFilter":{"minLeverage":"1"}},{"symbol":"BTC-25SEP26","contractType":'
        b'"LinearFutures","status":"Trading","baseCoin":"BTC","quoteCoin":"USDC","settleCoin":"USDC","deliveryTime":'
        b'"1790323200000"}],"nextPageCursor":"first%3DX"},"retExtInfo":{},"time":1707186451514}',
        [
            listed("BTCUSDT", "Trading", "perpetual", base="BTC", quote="USDT", settle="USDT", price_tick="0.1",
                   size_step="0.001", inverse=False, listed="2020-03-30 00:00"),
            listed("BTC-25SEP26", "Trading", "future", base="BTC", quote="USDC", settle="USDC", inverse=False,
                   expiry="2026-09-25 08:00"),
        ],
    ),
    ("bybit", "inverse"): (
        b'{"retCode":0,"result":{"category":"inverse","list":[{"symbol":"BTCUSD","contractType":"InversePerpetual",'
        b'"status":"Trading","baseCoin":"BTC","quoteCoin":"USD","settleCoin":"BTC","priceFilter":{"tickSize":"0.5"},'
        b'"lotSizeFilter":{"qtyStep":"1"}}],"nextPageCursor":""}}',
        [
            listed("BTCUSD", "Trading", "perpetual", base="BTC", quote="USD", settle="BTC", price_tick="0.5",
                   size_step="1", contract_size="1", inverse=True),
        ],
    ),
    ("okx", "spot"): (
        b'{"code":"0","data":[{"alias":"","instFamily":"","instId":"BTC-USDT","instType":"SPOT","state":"live",'
        b'"baseCcy":"BTC","quoteCcy":"USDT","settleCcy":"","ctVal":"","ctMult":"","ctType":"","tickSz":"0.1","lotSz":'
        b'"0.00000001","listTime":"1548133413000","expTime":"","uly":""},{"instType":"SWAP","instId":"BTC-USD-SWAP",'
        b'"uly":"BTC-USD","baseCcy":"","quoteCcy":"","settleCcy":"BTC","ctVal":"100","ctMult":"1","ctValCcy":"USD",'
        b'"ctType":"inverse","expTime":"","tickSz":"0.1","lotSz":"1","state":"suspend"},{"instType":"FUTURES",'
        b'"instId":"BTC-USDT-260925","uly":"BTC-USDT","settleCcy":"USDT","ctVal":"0.01","ctMult":"1","ctType":"linear",'
        b'"expTime":"1790323200000","state":"live"}],"msg":""}',
        [
            listed("BTC-USDT", "live", "spot", base="BTC", quote="USDT", price_tick="0.1", size_step="1E-8",
                   listed="2019-01-22 05:03:33"),
            listed("BTC-USD-SWAP", "suspend", "perpetual", base="BTC", quote="USD", settle="BTC", price_tick="0.1",
                   size_step="1", contract_size="100", inverse=True),
            listed("BTC-USDT-260925", "live", "future", base="BTC", quote="USDT", settle="USDT", contract_size="0.01",
                   inverse=False, expiry="2026-09-25 08:00"),
        ],
    ),
    ("coinbase", "spot"): (
        b'{"products":[{"product_id":"BTC-USDC","status":"online","is_disabled":false,"trading_disabled":false,'
        b'"cancel_only":false,"alias":"BTC-USD","alias_to":[],"product_type":"SPOT","base_currency_id":"BTC",'
        b'"quote_currency_id":"USDC","price_increment":"0.01","quote_increment":"0.01","base_increment":"0.00000001",'
        b'"approximate_quote_24h_volume":"1234567"},{"product_id":"BTC-USD","status":"online","alias":"",'
        b'"alias_to":["BTC-USDC"]},{"product_id":"XYO-USD","status":"online","trading_disabled":true,"alias":""},'
        b'{"product_id":"BIT-28NOV25-CDE","status":"","is_disabled":false,"product_type":"FUTURE","quote_currency_id":'
        b'"USD","base_currency_id":"","price_increment":"5","base_increment":"1","future_product_details":{'
        b'"contract_expiry":"2025-11-28T16:00:00Z","contract_size":"0.01","contract_root_unit":"BTC",'
        b'"contract_expiry_type":"EXPIRING"}}],"num_products":4}',
        [
            listed("BTC-USDC", "online", "spot", base="BTC", quote="USDC", price_tick="0.01", size_step="1E-8",
                   quote_volume="1234567"),
            listed("BTC-USD", "online"),
            listed("XYO-USD", "trading_disabled"),
            listed("BIT-28NOV25-CDE", "online", "future", base="BTC", quote="USD", settle="USD", price_tick="5",
                   size_step="1", contract_size="0.01", inverse=False, expiry="2025-11-28 16:00"),
        ],
    ),
    ("kraken", "spot"): (
        b'{"error":[],"result":{"XETHXXBT":{"altname":"ETHXBT","wsname":"ETH/XBT","leverage_buy":[2,3],"fees":[[0,'
        b'0.26]],"status":"online","base":"XETH","quote":"XXBT","tick_size":"0.00001","lot_decimals":8},"XDGUSD":{'
        b'"altname":"XDGUSD","wsname":"XDG/USD","status":"cancel_only"},"XBTUSD.d":{"altname":"XBTUSD.d","status":'
        b'"online"}}}',
        [
            listed("ETH/BTC", "online", "spot", base="ETH", quote="BTC", price_tick="0.00001", size_step="1E-8"),
            listed("DOGE/USD", "cancel_only", "spot", base="DOGE", quote="USD"),
        ],
    ),
    ("deribit", "inverse"): (
        b'{"jsonrpc":"2.0","result":[{"instrument_name":"BTC-PERPETUAL","is_active":true,"kind":"future",'
        b'"settlement_period":"perpetual","instrument_type":"reversed","base_currency":"BTC","quote_currency":"USD",'
        b'"settlement_currency":"BTC","tick_size":0.5,"min_trade_amount":10,"contract_size":10,"creation_timestamp":'
        b'1534167754000,"expiration_timestamp":32503708800000},{"instrument_name":"BTC_USDC-PERPETUAL","is_active":'
        b'true,"kind":"future","instrument_type":"linear"},{"instrument_name":"ETH-25DEC26","is_active":false,"kind":'
        b'"future","instrument_type":"reversed","expiration_timestamp":1798185600000,"tick_size_steps":[]}],"usIn":1}',
        [
            Listed(
                "BTC-PERPETUAL", "open", "perpetual", "BTC", "USD", "BTC", Decimal("0.5"), Decimal(10), Decimal(1),
                True, None, 1_534_167_754_000_000_000,
            ),
            Listed(
                "ETH-25DEC26", "closed", "future", contract_size=Decimal(1), inverse=True,
                expiry_ns=1_798_185_600_000_000_000,
            ),
        ],
    ),
    ("hyperliquid", "perp"): (
        b'{"universe":[{"szDecimals":5,"name":"BTC","maxLeverage":40},{"name":"MATIC","szDecimals":1,"isDelisted":'
        b'true}],"marginTables":[[50,{"marginTiers":[{"lowerBound":"0.0"}]}]]}',
        [
            listed("BTC", "listed", "perpetual", base="BTC", quote="USDC", settle="USDC", size_step="0.00001",
                   inverse=False),
            listed("MATIC", "isDelisted", "perpetual", base="MATIC", quote="USDC", settle="USDC", size_step="0.1",
                   inverse=False),
        ],
    ),
    ("hyperliquid", "spot"): (
        b'{"tokens":[{"name":"USDC","szDecimals":8,"index":0},{"name":"HYPE","szDecimals":2,"index":150}],"universe":['
        b'{"name":"@107","tokens":[150,0],"index":107,"isCanonical":false},{"name":"@9","tokens":[7,0],"index":9}]}',
        [
            listed("@107", "listed", "spot", base="HYPE", quote="USDC", size_step="0.01"),
            listed("@9", "listed", "spot", quote="USDC"),
        ],
    ),
}  # fmt: skip
# What was traded in 24 hours, and what it is worth in quote units of an instrument with that contract.
VOLUMES: dict[tuple[str, str], tuple[bytes, dict[str, str]]] = {
    ("binance", "spot"): (
        b'[{"symbol":"ETHBTC","volume":"8913.3","quoteVolume":"15.30","count":76}]',
        {"ETHBTC": "15.3"},
    ),
    ("binance", "usdm"): (b'[{"symbol":"BTCUSDT","volume":"8","quoteVolume":"500.5"}]', {"BTCUSDT": "500.5"}),
    ("binance", "coinm"): (b'[{"symbol":"BTCUSD_PERP","volume":"59","baseVolume":"0.6"}]', {"BTCUSD_PERP": "5900"}),
    ("bybit", "spot"): (
        b'{"retCode":0,"result":{"list":[{"symbol":"BTCUSDT","turnover24h":"7.5","volume24h":"2"}]}}',
        {"BTCUSDT": "7.5"},
    ),
    ("bybit", "linear"): (
        b'{"retCode":0,"result":{"list":[{"symbol":"BTCUSDT","turnover24h":"2352.94","volume24h":"49.17"}]}}',
        {"BTCUSDT": "2352.94"},
    ),
    ("bybit", "inverse"): (
        b'{"retCode":0,"result":{"list":[{"symbol":"BTCUSD","turnover24h":"0.2","volume24h":"4817"}]}}',
        {"BTCUSD": "4817"},
    ),
    ("okx", "spot"): (
        b'{"code":"0","msg":"","data":[{"instType":"SPOT","instId":"BTC-USDT","last":"100","vol24h":"3","volCcy24h":'
        b'"299"},{"instType":"SWAP","instId":"BTC-USD-SWAP","last":"100","vol24h":"40","volCcy24h":"39"},{"instType":'
        b'"FUTURES","instId":"BTC-USDT-260925","last":"101","vol24h":"700","volCcy24h":"7"}]}',
        {"BTC-USDT": "299", "BTC-USD-SWAP": "4000", "BTC-USDT-260925": "707"},
    ),
    ("kraken", "spot"): (
        b'{"error":[],"result":{"XETHXXBT":{"a":["1","1","1"],"c":["1","2"],"v":["1","10"],"p":["2","0.05"]},"XDGUSD":{'
        b'"v":["0","0"],"p":["0","0"]}}}',
        {"ETH/BTC": "0.5"},
    ),
    ("hyperliquid", "perp"): (
        b'[{"universe":[{"name":"BTC","szDecimals":5},{"name":"MATIC"}]},[{"dayNtlVlm":"1169046.29"},{"dayNtlVlm":"0"}]]',
        {"BTC": "1169046.29"},
    ),
    ("hyperliquid", "spot"): (
        b'[{"tokens":[],"universe":[{"name":"@107"}]},[{"coin":"@107","dayNtlVlm":"8906.0"}]]',
        {"@107": "8906"},
    ),
}


def listing_of(exchange: str, market: str) -> Listing:
    listing = find_exchange(exchange, market).listing
    assert listing is not None
    return listing


@pytest.mark.parametrize(("exchange", "market"), list(ANSWERS))
def test_the_documented_answer_of_each_exchange_is_read(exchange: str, market: str) -> None:
    body, wanted = ANSWERS[exchange, market]
    found, cursor = listing_of(exchange, market).parse(body)
    assert found == wanted
    assert cursor == ("first%3DX" if (exchange, market) == ("bybit", "linear") else "")


@pytest.mark.parametrize(("exchange", "market"), list(VOLUMES))
def test_what_was_traded_in_24_hours_is_known_in_quote_units(exchange: str, market: str) -> None:
    body, wanted = VOLUMES[exchange, market]
    listing = listing_of(exchange, market)
    assert listing.volumes is not None
    volumes = {one.symbol: one for one in listing.volumes.parse(body)[0]}
    found = instruments_of(find_exchange(exchange, market), listing, ANSWERS[exchange, market][1], volumes)
    assert {one.symbol: one.quote_volume for one in found if one.quote_volume is not None} == {
        symbol: Decimal(value) for symbol, value in wanted.items()
    }


@pytest.mark.parametrize(("exchange", "market"), list(ANSWERS))
def test_every_alias_of_a_listing_leads_back_to_its_symbol(exchange: str, market: str) -> None:
    # By rule, but for the spot pairs of Hyperliquid, whose names have none; Coinbase's futures have no alias.
    venue = find_exchange(exchange, market)
    found = instruments_of(venue, listing_of(exchange, market), ANSWERS[exchange, market][1])
    named = {one.alias: one.symbol for one in found if one.alias is not None}
    if (exchange, market) == ("hyperliquid", "spot"):
        assert named == {"HYPE/USDC": "@107"}
        return
    by_rule = {alias: symbol for alias, symbol in named.items() if "CDE" not in symbol}
    assert by_rule or market == "us"
    assert {alias: venue.exact_symbols([alias]) for alias in by_rule} == {
        alias: [symbol] for alias, symbol in by_rule.items()
    }


@pytest.mark.parametrize(
    "value",
    ["", "0", "-1", "NaN", "Infinity", "1E+99999999", "1e-99999999", "9" * 1000, None, True, [], {"a": 1}, 1e300],
)
def test_what_is_said_of_an_instrument_and_is_no_number_is_unknown(value: object) -> None:
    item = {
        "symbol": "AB",
        "status": "TRADING",
        "contractType": "PERPETUAL",
        "deliveryDate": value,
        "onboardDate": value,
    }
    filters = [{"filterType": "PRICE_FILTER", "tickSize": value}, {"filterType": "LOT_SIZE", "stepSize": value}]
    body = orjson.dumps({"symbols": [item | {"filters": filters, "contractSize": value, "baseAsset": "a\x00b"}]})
    assert listing_of("binance", "usdm").parse(body)[0] == [Listed("AB", "TRADING", "perpetual")]


def test_an_answer_that_is_read_in_one_piece_is_bounded() -> None:
    with pytest.raises(ParseError, match="has 2097154 bytes, the limit is 2097152"):
        listing_of("hyperliquid", "perp").parse(b'"' + b"A" * 2**21 + b'"')


def test_every_market_declares_a_listing_except_interactive_brokers() -> None:
    without = [name for name, markets in EXCHANGES.items() for one in markets.values() if one.listing is None]
    assert without == ["interactive_brokers"]


def test_a_listing_shares_its_budget_with_the_history_of_its_market() -> None:
    for markets in EXCHANGES.values():
        for exchange in markets.values():
            history = exchange.history(exchange.default_channel, has_key=True)
            if history is not None and exchange.listing is not None:
                asked, listed = (
                    (one.api.budget_name, one.api.weight_per_minute, one.api.url) for one in (history, exchange.listing)
                )
                assert asked == listed


@pytest.mark.parametrize(
    ("market", "body", "why"),
    [
        (("bybit", "spot"), b'{"retCode":10001,"retMsg":"no","result":{"list":[]}}', "no (code 10001)"),
        (("okx", "spot"), b'{"code":"51000","msg":"bad","data":[]}', "bad (code 51000)"),
        (("kraken", "spot"), b'{"error":["EGeneral:x"],"result":{}}', "EGeneral"),
        (("binance", "spot"), b'{"code":-1003,"msg":"Too many requests"}', "no complete list of instruments"),
        (("binance", "spot"), b'{"symbols":[{"symbol":"A","status":"TRADING"}', "no complete list of instruments"),
        (("binance", "spot"), b'{"symbols":[{"symbol":7,"status":"TRADING"}]}', "'7' is not a symbol"),
        (("binance", "spot"), b'{"symbols":[{"symbol":"' + b"A" * 101 + b'"}]}', "is not a symbol"),
        (("binance", "spot"), b'{"symbols":[{"a":"' + b"A" * 2**18 + b'"}]}', "an instrument has 262152 bytes"),
        (("binance", "spot"), b'{"b":"' + b"A" * 2**22 + b'","symbols":[]}', "more than 4194304 bytes apart"),
        (("binance", "spot"), b'{"symbols":[' + b"{}," * 200_001 + b"{}]}", "more than 200000 instruments"),
        (("binance", "spot"), b"[" * 100, "nested deeper than 32"),
        (("binance", "spot"), b"", "no complete list of instruments"),
    ],
)
def test_an_answer_that_is_broken_or_too_large_is_an_error(market: tuple[str, str], body: bytes, why: str) -> None:
    with pytest.raises(ParseError) as broken:
        listing_of(*market).parse(body)
    assert why in str(broken.value)


@pytest.mark.parametrize("body", [b'"\\' * 2**19, b'"' * 2**19, b"[]" * 2**19, b'"a":' * 2**18, b'{"a":[],' * 2**18])
def test_no_answer_takes_longer_than_in_proportion_to_its_length(body: bytes) -> None:
    started = time.process_time()
    with pytest.raises(ParseError):
        split(body, ("symbols",))
    assert time.process_time() - started < 8.0


@pytest.mark.parametrize(
    "text", [b'\\"' * 2**22, b"\\" * 2**22, b"A" * (2**22 + 1), b'\\"' * 2**22 + b'"', b'A\\"' * 2**22 + b'"']
)
def test_a_text_that_is_too_long_is_refused_without_being_read(text: bytes) -> None:
    body = b'{"symbols":[{"symbol":"' + text + b'"}]}'
    started = time.process_time()
    with pytest.raises(ParseError, match="a string in the answer is too long or unterminated"):
        split(body, ("symbols",))
    # 8 MB of escapes took half a second in one piece, and 400 MB.
    assert time.process_time() - started < 0.1


@pytest.mark.parametrize("text", ["\\u5e01" * 4000, "A" * 2**17, 'a"' * 4000, "\\" * 4000])
def test_texts_of_an_ordinary_length_are_read(text: str) -> None:
    body = orjson.dumps({"symbols": [{"symbol": "A", "note": text}, {"symbol": "B"}]})
    if text.startswith("\\u"):
        body = body.replace(b"\\\\u", b"\\u")
    rest, places = split(body, ("symbols",))
    assert rest == {"symbols": []}
    assert [orjson.loads(body[start:stop])["symbol"] for start, stop in places] == ["A", "B"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(st.text(max_size=3), JSON, max_size=3),
    st.dictionaries(st.text(max_size=3), JSON, max_size=3),
    st.lists(st.dictionaries(st.text(max_size=3), JSON, max_size=3), max_size=4),
    st.sampled_from([0, orjson.OPT_INDENT_2]),
)
def test_a_split_answer_has_the_same_items_as_the_decoded_one(
    before: dict[str, object], behind: dict[str, object], items: list[dict[str, object]], option: int
) -> None:
    answer = {**before, "result": {**before, "list": items, **behind}, **behind}
    decoded = orjson.loads(body := orjson.dumps(answer, option=option))
    if not isinstance(decoded["result"], dict) or decoded["result"].get("list") != items:
        return  # a key drawn has taken its place
    rest, places = split(body, ("result", "list"))
    assert [orjson.loads(body[start:stop]) for start, stop in places] == items
    decoded["result"]["list"] = []
    assert rest == decoded


def test_a_large_listing_is_read_without_holding_other_threads() -> None:
    one = {"symbol": "", "status": "TRADING", "filters": [{"filterType": "PRICE_FILTER", "minPrice": "0.01"}] * 30}
    body = orjson.dumps({"symbols": [one | {"symbol": f"S{number}USDT"} for number in range(8000)]})
    assert len(body) > 10 * 2**20

    def longest_wait_s() -> float:
        found: list[Listed] = []
        reader = threading.Thread(target=lambda: found.extend(listing_of("binance", "spot").parse(body)[0]))
        longest_s = 0.0
        reader.start()
        while reader.is_alive():
            before_s = time.perf_counter()
            time.sleep(0.001)
            longest_s = max(longest_s, time.perf_counter() - before_s)
        assert len(found) == 8000
        return longest_s

    # To decode it in one piece takes longer than that; other processes may hold this one up now and then.
    assert any(longest_wait_s() < 0.05 for _ in range(10))
