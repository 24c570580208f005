"""The simulator's dialects, each heard by the adapter of its exchange over a real socket.

The candles that bars are compared with were computed by the simulator in plain Decimal, by no code of the library's.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import orjson
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

import fastbars
from fastbars import ExchangeBar, OHLCVBar, StreamConfig
from fastbars.bars import BarStatus
from fastbars.errors import SubscriptionError, TapeError, UnknownExchangeError
from fastbars.exchanges import EXCHANGES, find_exchange
from fastbars.live.connections.adapter import BaseWebSocketAdapter
from fastbars.live.connections.symbol_check import SymbolCheck
from fastbars.simulator import SimulatedExchange
from fastbars.simulator.dialect import Dialect, time_text
from fastbars.simulator.dialects import dialects, find_dialect
from fastbars.simulator.market import SimulatedTrade
from fastbars.simulator.rest import RestFault, SimulatedHistory, SimulatedListing
from servers import until

MARKETS = [(name, market) for name, dialect in dialects().items() for market in dialect.namings]
CANDLES = {
    "binance": "kline_1m", "bybit": "kline.1", "hyperliquid": "candle_1m", "okx": "candle1m", "coinbase": "candles",
    "kraken": "ohlc_1", "deribit": "chart.trades.1",
}  # fmt: skip
QUOTES = {
    "binance": "bookTicker", "bybit": "orderbook.1", "hyperliquid": "bbo", "okx": "bbo-tbt", "coinbase": "ticker",
    "kraken": "ticker", "interactive_brokers": "smd", "deribit": "quote",
}  # fmt: skip
TICKERS = {
    "binance": "ticker", "bybit": "tickers", "okx": "tickers", "coinbase": "ticker", "kraken": "ticker",
    "deribit": "ticker.100ms",
}  # fmt: skip


DERIBIT = "/api/v2/public/get_last_trades_by_instrument"


def simulated(exchange: str, market: str | None = None, **options: Any) -> SimulatedExchange:
    options = {"symbols": 3, "rate": 300.0, "record": True, **options}
    return SimulatedExchange(exchange, market=market, **options)


def second(bar: OHLCVBar) -> int:
    return int(bar.open_time.timestamp() * 1000)


def test_every_exchange_and_market_has_a_dialect() -> None:
    assert set(MARKETS) == {(name, market) for name, markets in EXCHANGES.items() for market in markets}
    with pytest.raises(UnknownExchangeError, match="no dialect of 'bitso'; known are binance, bybit"):
        find_dialect("bitso")


@pytest.mark.parametrize("exchange", [name for name in dialects() if name != "interactive_brokers"])
async def test_bars_of_each_dialect_equal_the_simulators_candles(exchange: str) -> None:
    await asyncio.gather(*(compare_bars(exchange, market) for market in find_dialect(exchange).namings))


async def compare_bars(exchange: str, market: str) -> None:
    bars: list[OHLCVBar] = []
    async with simulated(exchange, market) as server:
        symbols = server.symbols
        stream = fastbars.stream(
            exchange, symbols, "1s", market=market, url=server.url, on_bars=bars.extend,
            config=StreamConfig(close_by="trades"),
        )  # fmt: skip
        whole = (
            BarStatus.COMPLETE
            if find_exchange(exchange, market).ids(find_exchange(exchange, market).default_channel) == "contiguous"
            else BarStatus.UNVERIFIABLE
        )
        async with stream:
            await until(lambda: sum(bar.status is whole for bar in bars) >= 6)
        record = server.record
        stats = stream.stats()
    assert stats.session.parse_errors == stats.session.unknown == stats.session.invalid_json == 0
    assert stats.buffer.late == stats.buffer.refused == 0
    compared = 0
    for bar in bars:
        if bar.status is not whole:
            assert bar.status is BarStatus.PARTIAL
            continue
        candle = record.seconds(bar.symbol)[second(bar)]
        assert (bar.open, bar.high, bar.low, bar.close) == (candle.open, candle.high, candle.low, candle.close)
        assert (bar.volume, bar.taker_buy_volume, bar.trade_count) == (
            candle.volume, candle.taker_volume, candle.trade_count,
        )  # fmt: skip
        if market not in ("coinm", "inverse", "derivatives"):  # there the candle's amount is in base units, rounded
            assert (bar.quote_volume, bar.taker_buy_quote_volume) == (candle.amount, candle.taker_amount)
        if whole is BarStatus.COMPLETE:
            assert (bar.first_trade_id, bar.last_trade_id) == (candle.first_id, candle.last_id)
        compared += 1
    assert compared >= 6
    (connection,) = record.connections
    counted = stats.session.trades + stats.session.duplicates
    assert sum(len(ids) for ids in connection.sent.values()) >= counted > 0
    assert set(connection.subscribed) != set()
    assert connection.most_streams >= 3


async def test_samples_of_the_gateway_are_what_it_sent() -> None:
    ticks: list[Any] = []
    bars: list[OHLCVBar] = []
    events: list[Any] = []
    async with simulated("interactive_brokers", rate=100.0) as server:
        stream = fastbars.stream(
            "interactive_brokers", server.symbols, "1s", url=server.url, on_tick=ticks.append, on_bars=bars.extend,
            on_event=events.append, config=StreamConfig(close_by="trades"),
        )  # fmt: skip
        async with stream:
            await until(lambda: sum(bar.status is BarStatus.SAMPLED for bar in bars) >= 3)
        record = server.record
    for symbol in server.symbols:
        trades = {(trade.price, trade.size) for trade in record.trades(symbol)}
        assert {(tick.price, tick.volume) for tick in ticks if tick.symbol == symbol} <= trades
    assert {bar.status for bar in bars} == {BarStatus.PARTIAL, BarStatus.SAMPLED}
    assert any(isinstance(event.data, fastbars.Quote) for event in events)


@pytest.mark.parametrize("exchange", list(QUOTES))
async def test_candles_quotes_and_tickers_of_each_dialect_are_understood(exchange: str) -> None:
    venue = find_exchange(exchange)
    events: list[Any] = []
    raw: list[Any] = []
    adapter: BaseWebSocketAdapter | None = None
    kinds = {name: channel for name, table in (("candle", CANDLES), ("quote", QUOTES), ("ticker", TICKERS))
             if (channel := table.get(exchange)) is not None}  # fmt: skip
    async with simulated(exchange) as server:
        adapter = BaseWebSocketAdapter(
            venue, StreamConfig(close_by="trades"), on_event=events.append, on_message=raw.append, url=server.url
        )
        await adapter.connect()
        try:
            await adapter.subscribe(server.symbols, list(dict.fromkeys(kinds.values())))
            wanted = {"candle": ExchangeBar, "quote": fastbars.Quote, "ticker": fastbars.Ticker}
            await until(lambda: all(any(isinstance(event.data, wanted[kind]) for event in events) for kind in kinds))
            stats = adapter.stats().session
        finally:
            await adapter.disconnect()
    assert stats.parse_errors == stats.unknown == stats.invalid_json == 0
    assert [message for message in raw if message.kind != "smd"] == []  # the gateway's previous close
    assert {event.symbol for event in events} <= set(server.symbols)


@pytest.mark.parametrize("exchange", [name for name in dialects() if name not in ("interactive_brokers", "binance")])
async def test_a_dialect_refuses_an_unknown_symbol_and_serves_the_others(exchange: str) -> None:
    venue = find_exchange(exchange)
    async with simulated(exchange) as server:
        adapter = BaseWebSocketAdapter(venue, StreamConfig(close_by="trades", ack_timeout=2.0), url=server.url)
        await adapter.connect()
        try:
            unknown = server.symbols[0].replace("BTC", "NONE")
            with pytest.raises(SubscriptionError) as refused:
                await adapter.subscribe([*server.symbols, unknown])
            assert refused.value.symbols == (unknown,)
            assert set(adapter.active_subscriptions) == set(server.symbols)
            await until(lambda: adapter.session.stats.trades > 20)
            await adapter.unsubscribe(server.symbols)
            assert adapter.active_subscriptions == {}
        finally:
            await adapter.disconnect()
    assert len(server.record.connections) == 1


def suffixed(symbol: str, base: str) -> str:
    return symbol.replace("BTC", base)


@pytest.mark.parametrize(("exchange", "market"), [each for each in MARKETS if each[0] != "interactive_brokers"])
async def test_each_market_lists_its_instruments_and_refuses_the_others_by_that(exchange: str, market: str) -> None:
    venue = find_exchange(exchange, market)
    first = simulated(exchange, market).symbols[0]
    halted, delisted, unknown = (suffixed(first, base) for base in ("BTCH", "BTCD", "BTCN"))
    async with simulated(exchange, market, halted=[halted], delisted=[delisted]) as server:
        config = StreamConfig(close_by="trades", rest_url=server.rest_url, heal=False)
        adapter = BaseWebSocketAdapter(venue, config, url=server.url)
        await adapter.connect()
        try:
            with pytest.raises(SubscriptionError) as refused:
                await adapter.subscribe([halted, *server.symbols, delisted, unknown])
            assert refused.value.symbols == (halted, delisted, unknown)
            assert "nearest: " in str(refused.value)
            assert set(adapter.active_subscriptions) == set(server.symbols)
            await until(lambda: adapter.session.stats.trades > 20)
        finally:
            await adapter.disconnect()
    assert len(server.listing.requests) == 1
    asked = b"".join(payload for _, payload in server.record.connections[0].requests)
    assert not any(name.lower().encode() in asked.lower() for name in (halted, delisted, unknown))


async def test_the_listing_of_bybit_has_pages_except_on_spot() -> None:
    for market, requests in (("linear", 3), ("spot", 1)):
        async with simulated("bybit", market, symbols=2500, rate=10.0) as server:
            check = SymbolCheck(find_exchange("bybit", market), StreamConfig(rest_url=server.rest_url))
            assert await check.refused(server.symbols) == {}
            assert list(await check.refused(["NONEUSDT"])) == ["NONEUSDT"]
        assert len(server.listing.requests) == requests


async def test_a_listing_with_faults_costs_a_warning_and_the_stream_starts(caplog: pytest.LogCaptureFixture) -> None:
    async with simulated("hyperliquid") as server:
        server.listing.faults.append(RestFault(status=429, retry_after_s=9.0))
        config = StreamConfig(rest_url=server.rest_url, close_by="trades")
        async with fastbars.stream("hyperliquid", server.symbols, url=server.url, config=config) as bars:
            await until(lambda: bars.stats().session.trades > 20)
        assert server.listing.requests == ['/info {"type":"meta"}']
    assert caplog.text.count("symbols_not_checked") == 1
    assert "HTTP 429" in caplog.text


@pytest.mark.parametrize("market", ["spot", "usdm", "coinm", "us"])
async def test_a_name_that_binance_acknowledges_and_never_sends_is_reported_beside_one_that_trades(market: str) -> None:
    errors: list[Exception] = []
    async with simulated("binance", market) as server:
        config = StreamConfig(never_heard_after=0.5, stale_interval=0.05, close_by="trades")
        symbols, unknown = server.symbols[:1], suffixed(server.symbols[0], "NONE")
        bars = fastbars.stream(
            "binance", [*symbols, unknown], market=market, url=server.url, config=config, on_error=errors.append
        )
        async with bars:
            await until(lambda: errors)
            trades = bars.stats().session.trades
            await until(lambda: bars.stats().session.trades > trades + 20)
            assert bars.adapter.session.missing(symbols[0]) == []
        assert len(server.record.connections) == 1
    assert isinstance(errors[0], SubscriptionError)
    assert errors[0].symbols == (unknown,)


@pytest.mark.parametrize("exchange", ["hyperliquid", "coinbase", "kraken"])
async def test_history_comes_again_after_a_reconnect_and_counts_once(exchange: str) -> None:
    config = StreamConfig(close_by="trades", reconnect_delay=0.01)
    async with simulated(exchange, rate=50.0) as server:  # slow enough for the history to reach back over the outage
        stream = fastbars.stream(exchange, server.symbols, "1s", url=server.url, config=config)
        async with stream:
            await until(lambda: stream.stats().session.trades > 50)
            server.abort_all()
            await until(lambda: stream.stats().connections == 2)
            before = stream.stats().session.trades
            await until(lambda: stream.stats().session.trades > before + 50)
        stats = stream.stats()
    assert stats.session.duplicates + stats.buffer.duplicates > 0
    distinct = sum(len(server.record.sent(symbol)) for symbol in server.symbols)
    assert stats.buffer.trades <= distinct


# Requests, as each exchange answers them.


async def talk(url: str, *messages: str) -> list[Any]:
    """Send messages one by one; returns the first answer to each, what the exchange sends by itself passed over."""
    answers: list[Any] = []
    async with connect(url) as client:
        for message in messages:
            await client.send(message)
            text = await client.recv()
            while any(sign in str(text) for sign in ('"hb"', "waiting for session", "Websocket connection")):
                text = await client.recv()
            answers.append(text if text == "pong" else orjson.loads(text))
    return answers


def subset(whole: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    return {key: whole.get(key) for key in part}


@pytest.mark.parametrize(
    ("exchange", "message", "answer"),
    [
        ("bybit", '{"op":"ping"}', {"success": True, "ret_msg": "pong", "op": "ping"}),
        ("bybit", '{"op":"nonsense"}', {"success": False, "op": "nonsense"}),
        ("bybit", "nonsense", {"success": False}),
        ("bybit", '{"op":"subscribe","args":[],"req_id":"3"}', {"success": False, "req_id": "3"}),
        ("bybit", '{"op":"subscribe","args":["publicTrade.X"],"req_id":"3"}', {"success": False, "req_id": "3"}),
        ("bybit", '{"op":"unsubscribe","args":["publicTrade.X"],"req_id":"3"}', {"success": True, "req_id": "3"}),
        ("hyperliquid", '{"method":"ping"}', {"channel": "pong"}),
        ("hyperliquid", "nonsense", {"channel": "error"}),
        (
            "hyperliquid",
            '{"method":"unsubscribe","subscription":{"type":"trades","coin":"BTC"}}',
            {"channel": "error", "data": 'Already unsubscribed: {"type":"trades","coin":"BTC"}'},
        ),
        ("interactive_brokers", "tic", {"topic": "tic"}),
        ("interactive_brokers", "nonsense", {"topic": "error"}),
        ("okx", '{"op":"login"}', {"event": "error", "code": "60012"}),
        (
            "okx",
            '{"op":"subscribe","args":[{"channel":"trades-all","instId":"X"}]}',
            {"event": "error", "msg": "Wrong URL or channel:trades-all,instId:X doesn't exist."},
        ),
        ("coinbase", "nonsense", {"type": "error"}),
        ("coinbase", '{"type":"subscribe","channel":"market_trades","product_ids":[]}', {"type": "error"}),
        ("coinbase", '{"type":"subscribe","channel":"heartbeats"}', {"channel": "subscriptions"}),
        ("kraken", '{"method":"ping","req_id":9}', {"method": "pong", "req_id": 9}),
        ("kraken", "nonsense", {"success": False, "error": "Malformed request"}),
        (
            "kraken",
            '{"method":"subscribe","params":{"channel":"trade","symbol":["X/Y"]},"req_id":2}',
            {"success": False, "symbol": "X/Y", "req_id": 2},
        ),
        ("deribit", "nonsense", {"jsonrpc": "2.0", "error": {"message": "Parse error", "code": -32700}}),
        (
            "deribit", '{"jsonrpc":"2.0","id":4,"method":"x"}',
            {"id": 4, "error": {"message": "Method not found", "code": -32601}},
        ),
        ("deribit", '{"jsonrpc":"2.0","id":0,"method":"public/test"}', {"id": 0, "result": {"version": "1.2.26"}}),
        (
            "deribit",
            '{"jsonrpc":"2.0","id":6,"method":"public/subscribe","params":{"channels":["trades.X.100ms","quote.X"]}}',
            {"id": 6, "result": []},
        ),
        (
            "deribit", '{"jsonrpc":"2.0","id":6,"method":"public/subscribe","params":{}}',
            {"id": 6, "error": {"message": "Invalid params", "code": -32602}},
        ),
    ],
)  # fmt: skip
async def test_what_is_no_good_request_is_answered_as_the_exchange_does(
    exchange: str, message: str, answer: dict[str, Any]
) -> None:
    async with simulated(exchange, rate=0.0) as server:
        (heard,) = await talk(server.url, message)
    assert subset(heard, answer) == answer


async def test_a_bare_ping_is_answered_by_a_bare_pong() -> None:
    async with simulated("okx", rate=0.0) as server:
        assert await talk(server.url, "ping") == ["pong"]


async def test_the_gateway_and_coinbase_and_kraken_send_heartbeats_of_their_own() -> None:
    for exchange, frames in (
        ("interactive_brokers", ["tic"]),
        ("coinbase", ['{"type":"subscribe","channel":"heartbeats"}']),
        ("kraken", ['{"method":"subscribe","params":{"channel":"trade","symbol":["BTC/USD"]}}']),
    ):
        async with simulated(exchange, rate=0.0) as server, connect(server.url) as client:
            for frame in frames:
                await client.send(frame)
            texts = [await client.recv() for _ in range(1 + 2 * len(frames))]
        assert any("hb" in str(text) or "heartbeat" in str(text) for text in texts)


async def test_a_client_that_is_silent_for_too_long_is_closed() -> None:
    for exchange in ("bybit", "okx", "hyperliquid", "coinbase"):
        async with simulated(exchange, rate=0.0, silence_s=0.1) as server, connect(server.url) as client:
            async for message in client:
                assert "established" in str(message)  # the greeting of some
            assert (client.close_code, client.close_reason) == (1001, "silence")


async def test_coinbase_waits_for_a_first_request_and_for_no_other() -> None:
    async with simulated("coinbase", rate=0.0, silence_s=0.1) as server, connect(server.url) as client:
        await client.send('{"type":"subscribe","channel":"market_trades","product_ids":["BTC-USD"]}')
        await client.recv()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.recv(), 0.3)


async def test_coinbase_sends_past_trades_before_it_acknowledges() -> None:
    async with simulated("coinbase", rate=2_000.0, symbols=["BTC-USD"]) as server:
        await until(lambda: len(server.record.trades("BTC-USD")) > 1_500)  # more than wait for the next message
        async with connect(server.url) as client:
            await client.send('{"type":"subscribe","channel":"market_trades","product_ids":["BTC-USD"]}')
            first, second, third = [orjson.loads(await client.recv()) for _ in range(3)]
    assert [each["channel"] for each in (first, second, third)] == ["market_trades", "subscriptions", "market_trades"]
    assert [each["events"][0].get("type") for each in (first, third)] == ["snapshot", "update"]
    assert len(first["events"][0]["trades"]) == 100
    numbers = [int(trade["trade_id"]) for each in (third, first) for trade in each["events"][0]["trades"]]
    assert numbers == list(range(numbers[0], numbers[-1] - 1, -1))  # newest first, and none between the two


@pytest.mark.parametrize(("asked", "kind"), [("true", "snapshot"), ("false", "update")])
async def test_kraken_sends_past_trades_only_where_they_are_asked_for(asked: str, kind: str) -> None:
    async with simulated("kraken", rate=2_000.0, symbols=["BTC/USD"]) as server:
        await until(lambda: len(server.record.trades("BTC/USD")) > 100)
        async with connect(server.url) as client:
            params = f'{{"channel":"trade","symbol":["BTC/USD"],"snapshot":{asked}}}'
            await client.send(f'{{"method":"subscribe","params":{params}}}')
            messages = [orjson.loads(await client.recv()) for _ in range(4)]
    assert next(each["type"] for each in messages if each.get("channel") == "trade") == kind


@pytest.mark.parametrize(
    ("path", "channel", "event"),
    [
        ("/business", "trades-all", "subscribe"), ("/public", "trades-all", "error"),
        ("/public", "trades", "subscribe"), ("/business", "trades", "error"),
        ("/business", "candle1m", "subscribe"), ("/public", "candle1m", "error"),
        ("", "trades-all", "subscribe"), ("", "trades", "subscribe"),
    ],
)  # fmt: skip
async def test_okx_refuses_a_channel_on_the_path_of_others(path: str, channel: str, event: str) -> None:
    async with simulated("okx", rate=0.0, symbols=["BTC-USDT"]) as server:
        request = f'{{"op":"subscribe","args":[{{"channel":"{channel}","instId":"BTC-USDT"}}]}}'
        (answer,) = await talk(server.url + path, request)
    assert answer["event"] == event
    assert event == "subscribe" or answer["code"] == "60018"


# REST, without sockets.


def history_of(exchange: str, market: str, symbols: list[str], count: int = 3) -> tuple[SimulatedHistory, Dialect]:
    """Trades 1 to `count` of each symbol, one a second."""
    kind = find_dialect(exchange)
    dialect = kind(market, kind.list_market(market, symbols)[1])
    trades = {
        symbol: [SimulatedTrade(place, n, n * 1000, 100, 5, False) for n in range(1, count + 1)]
        for place, symbol in enumerate(symbols)
    }
    return SimulatedHistory(dialect.past_trades, trades.__getitem__), dialect


@pytest.mark.parametrize(("market", "path"), [("usdm", "/fapi/v1"), ("coinm", "/dapi/v1"), ("us", "/api/v3")])
def test_binance_serves_past_trades_by_id_to_those_with_a_key_except_on_spot(market: str, path: str) -> None:
    history, _ = history_of("binance", market, ["BTCUSDT"])
    target = f"{path}/historicalTrades?symbol=BTCUSDT&fromId=2"
    refused = history.answer(target)
    assert refused is not None
    assert (refused.status, orjson.loads(refused.body)["code"]) == (401, -2014)
    answer = history.answer(target, headers={"X-MBX-APIKEY": "key"})
    assert answer is not None
    assert [trade["id"] for trade in orjson.loads(answer.body)] == [2, 3]
    latest = history.answer(f"{path}/trades?symbol=BTCUSDT&limit=1")
    assert latest is not None
    assert [trade["id"] for trade in orjson.loads(latest.body)] == [3]
    spot, _ = history_of("binance", "spot", ["BTCUSDT"])
    answer = spot.answer("/api/v3/historicalTrades?symbol=BTCUSDT&limit=2")  # the newest, without an id
    assert answer is not None
    assert [trade["id"] for trade in orjson.loads(answer.body)] == [2, 3]


def test_unknown_symbols_are_refused_over_rest_in_the_words_of_the_exchange() -> None:
    for exchange, market, symbol, target, status, sign in (
        ("binance", "spot", "BTCUSDT", "/api/v3/historicalTrades?symbol=NONE&fromId=1", 400, b"-1121"),
        ("okx", "spot", "BTC-USDT", "/api/v5/market/history-trades?instId=NONE&after=1", 200, b"51001"),
        ("kraken", "spot", "BTC/USD", "/0/public/Trades?pair=NONE&since=0&count=5", 200, b"EQuery:Unknown asset pair"),
        ("deribit", "inverse", "BTC-PERPETUAL", f"{DERIBIT}?instrument_name=NONE&start_seq=1", 200, b"13020"),
    ):
        answer = history_of(exchange, market, [symbol])[0].answer(target)
        assert answer is not None
        assert answer.status == status
        assert sign in answer.body


def test_kraken_answers_with_the_letters_that_mark_the_class_of_older_assets() -> None:
    symbols = ["BTC/USD", "SOL/USD", "DOGE/USD"]
    history, dialect = history_of("kraken", "spot", symbols)
    keys = []
    for pair in ("XBTUSD", "SOLUSD", "XDGUSD"):
        answer = history.answer(f"/0/public/Trades?pair={pair}&since=1000000000&count=1")
        assert answer is not None
        (key, rows), (_, last) = orjson.loads(answer.body)["result"].items()
        assert ([row[6] for row in rows], last) == ([2], "2000000000")
        keys.append(key)
    assert keys == ["XXBTZUSD", "SOLUSD", "XDGUSD"]
    listing = SimulatedListing(dialect.list_instruments, dict.fromkeys(symbols, "trading"))
    answer = listing.answer("/0/public/AssetPairs")
    assert answer is not None
    assert list(orjson.loads(answer.body)["result"]) == keys


async def test_a_dialect_has_its_own_paths_and_no_others() -> None:
    async with simulated("bybit", "linear", rate=0.0) as server:
        assert server.url.endswith("/v5/public/linear")
        with pytest.raises(InvalidStatus, match="404"):
            await connect(server.url.replace("linear", "option"))


def test_tapes_are_served_in_binances_dialect_only() -> None:
    with pytest.raises((UnknownExchangeError, TapeError), match="no tapes are served in the dialect of okx"):
        SimulatedExchange("okx", tapes=["x"])


def test_nothing_is_recorded_unless_it_was_asked_for() -> None:
    with pytest.raises(RuntimeError, match="record=True"):
        _ = SimulatedExchange("okx").record


@pytest.mark.parametrize("time_ms", [0, 951_782_400_123, 1_709_164_800_000, 1_767_225_599_999, 4_102_444_800_000])
def test_times_are_written_by_the_calendar(time_ms: int) -> None:
    moment = datetime.fromtimestamp(time_ms // 1000, UTC)
    expected = f"{moment:%Y-%m-%dT%H:%M:%S}.{time_ms % 1000:03}"
    assert time_text(time_ms) == f"{expected}000Z"
    assert time_text(time_ms, 9) == f"{expected}000000Z"


async def test_bybits_klines_open_at_the_previous_close_and_the_new_one_comes_with_the_old() -> None:
    dialect = find_dialect("bybit")
    _, instruments = dialect.list_market("linear", ["BTCUSDT"])
    writer = dialect("linear", instruments)
    stream = writer.find_stream("kline.1.BTCUSDT")  # type: ignore[attr-defined]
    from fastbars.simulator.candles import Candle

    first = replace(Candle.flat(Decimal(10)), trade_count=1, high=Decimal(12), close=Decimal(11), volume=Decimal(5))
    later = replace(Candle.flat(Decimal(15)), trade_count=1, volume=Decimal(1))
    venue = find_exchange("bybit", "linear")
    payloads = [
        writer.kline(stream, first, 60_000, 120_000, closed=True),
        writer.kline(stream, later, 120_000, 121_000, closed=False),
    ]
    read = [item for payload in payloads for item in venue.read(venue.loads(payload or b""))]
    bars = [bar for bar in read if isinstance(bar, ExchangeBar)]
    assert [[int(price) for price in (bar.open, bar.high, bar.low, bar.close)] for bar in bars] == [
        [10, 12, 10, 11],
        [11, 11, 11, 11],
        [11, 15, 11, 15],
    ]
    assert [bar.is_closed for bar in bars] == [True, False, False]


@pytest.mark.real_clock
async def test_the_command_simulates_any_exchange() -> None:
    import sys

    command = [
        sys.executable,
        "-m",
        "fastbars",
        "simulate",
        "--exchange",
        "bybit",
        "--market",
        "linear",
        "--symbols",
        "2",
    ]
    process = await asyncio.create_subprocess_exec(*command, "--rate", "500", stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        url = (await asyncio.wait_for(process.stdout.readline(), 20)).decode().strip()
        assert url.endswith("/v5/public/linear")
        arguments = [
            "stream",
            "bybit",
            "BTCUSDT",
            "--market",
            "linear",
            "--url",
            url,
            "--bars",
            "1s",
            "--format",
            "jsonl",
        ]
        reader = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "fastbars", *arguments, stdout=asyncio.subprocess.PIPE
        )
        assert reader.stdout is not None
        try:
            lines = [orjson.loads(await asyncio.wait_for(reader.stdout.readline(), 20)) for _ in range(5)]
        finally:
            reader.terminate()
            await reader.wait()
        assert [line["symbol"] for line in lines] == ["BTCUSDT"] * 5
        assert lines[-1]["status"] == "UNVERIFIABLE"  # within a grace of the ack they are PARTIAL
    finally:
        process.terminate()
        await process.wait()
