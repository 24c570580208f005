"""How the exchanges' answers about their instruments are read: documented payloads, hostile ones, large ones."""

from __future__ import annotations

import threading
import time

import orjson
import pytest
from hypothesis import given, strategies as st

from fastbars.errors import ParseError
from fastbars.exchanges import EXCHANGES, find_exchange
from fastbars.exchanges.listing import Listed, Listing, split

ANSWERS: dict[tuple[str, str], tuple[bytes, list[Listed]]] = {
    ("binance", "spot"): (
        b'{"timezone":"UTC","serverTime":1565246363776,"rateLimits":[{}],"exchangeFilters":[],"symbols":[{"symbol":'
        b'"ETHBTC","status":"TRADING","baseAsset":"ETH","filters":[{"filterType":"PRICE_FILTER"}]},{"status":"BREAK",'
        b'"permissionSets":[[]],"symbol":"LUNAUSDT"}],"sors":[{"baseAsset":"BTC","symbols":["BTCUSDT"]}]}',
        [Listed("ETHBTC", "TRADING"), Listed("LUNAUSDT", "BREAK")],
    ),
    ("binance", "usdm"): (
        b'{"assets":[{"asset":"BTC"}],"symbols":[{"symbol":"BTCUSDT","pair":"BTCUSDT","contractType":"PERPETUAL",'
        b'"status":"TRADING"},{"symbol":"SRMUSDT","status":"SETTLING"}],"timezone":"UTC"}',
        [Listed("BTCUSDT", "TRADING"), Listed("SRMUSDT", "SETTLING")],
    ),
    ("binance", "coinm"): (
        b'{"exchangeFilters":[],"symbols":[{"filters":[],"contractStatus":"TRADING","symbol":"BTCUSD_PERP"}]}',
        [Listed("BTCUSD_PERP", "TRADING")],
    ),
    ("binance", "us"): (
        b'{"symbols":[{"symbol":"BTCUSDT","status":"TRADING"}]}',
        [Listed("BTCUSDT", "TRADING")],
    ),
    ("bybit", "linear"): (
        b'{"retCode":0,"retMsg":"OK","result":{"category":"linear","list":[{"symbol":"BTCUSDT","contractType":'
        b'"LinearPerpetual","status":"Trading","leverageFilter":{"minLeverage":"1"}}],"nextPageCursor":"first%3DX"},'
        b'"retExtInfo":{},"time":1707186451514}',
        [Listed("BTCUSDT", "Trading")],
    ),
    ("okx", "spot"): (
        b'{"code":"0","data":[{"alias":"","instFamily":"","instId":"BTC-USDT","instType":"SPOT","state":"live"}],'
        b'"msg":""}',
        [Listed("BTC-USDT", "live")],
    ),
    ("coinbase", "spot"): (
        b'{"products":[{"product_id":"BTC-USDC","status":"online","is_disabled":false,"trading_disabled":false,'
        b'"cancel_only":false,"alias":"BTC-USD","alias_to":[]},{"product_id":"BTC-USD","status":"online","alias":"",'
        b'"alias_to":["BTC-USDC"]},{"product_id":"XYO-USD","status":"online","trading_disabled":true,"alias":""},'
        b'{"product_id":"BIT-28NOV25-CDE","status":"","is_disabled":false}],"num_products":4}',
        [
            Listed("BTC-USDC", "online"),
            Listed("BTC-USD", "online"),
            Listed("XYO-USD", "trading_disabled"),
            Listed("BIT-28NOV25-CDE", "online"),
        ],
    ),
    ("kraken", "spot"): (
        b'{"error":[],"result":{"XETHXXBT":{"altname":"ETHXBT","wsname":"ETH/XBT","leverage_buy":[2,3],"fees":[[0,'
        b'0.26]],"status":"online"},"XDGUSD":{"altname":"XDGUSD","wsname":"XDG/USD","status":"cancel_only"},'
        b'"XBTUSD.d":{"altname":"XBTUSD.d","status":"online"}}}',
        [Listed("ETH/BTC", "online"), Listed("DOGE/USD", "cancel_only")],
    ),
    ("deribit", "inverse"): (
        b'{"jsonrpc":"2.0","result":[{"instrument_name":"BTC-PERPETUAL","is_active":true,"kind":"future","tick_size":'
        b'0.5},{"instrument_name":"ETH-25DEC26","is_active":false,"kind":"future","tick_size_steps":[]}],"usIn":1}',
        [Listed("BTC-PERPETUAL", "open"), Listed("ETH-25DEC26", "closed")],
    ),
    ("hyperliquid", "perp"): (
        b'{"universe":[{"szDecimals":5,"name":"BTC","maxLeverage":40},{"name":"MATIC","szDecimals":1,"isDelisted":'
        b'true}],"marginTables":[[50,{"marginTiers":[{"lowerBound":"0.0"}]}]]}',
        [Listed("BTC", "listed"), Listed("MATIC", "isDelisted")],
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
    assert cursor == ("first%3DX" if exchange == "bybit" else "")


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
