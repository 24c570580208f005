"""What venues are known to do, as the simulator does it, and how a stream takes it."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

import orjson
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

import fastbars
from fastbars import BarStatus, BaseWebSocketAdapter, StreamConfig
from fastbars.errors import SubscriptionError
from fastbars.exchanges import find_exchange
from fastbars.simulator import Fault, FaultKind, Faults, SimulatedExchange
from servers import MINUTE_MS, START_MS, TradeServer, keep_silent, refuse, until

QUICK = StreamConfig(reconnect_delay=0.01, reconnect_max_delay=0.01)


pytestmark = pytest.mark.usefixtures("no_task_is_left_behind")


async def ask(connection: ClientConnection, request: dict[str, Any], answers: int = 1) -> list[dict[str, Any]]:
    """The answers to a request, whatever data comes between them."""
    await connection.send(orjson.dumps(request).decode())
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(10):
        while len(found) < answers:
            message = orjson.loads(await connection.recv())
            if "op" in message or "method" in message:
                found.append(message)
    return found


# Kraken: one interval of candles a symbol and connection.


async def test_kraken_has_one_interval_of_candles_a_symbol_and_connection() -> None:
    def request(minutes: int, *symbols: str, method: str = "subscribe") -> dict[str, Any]:
        return {
            "method": method,
            "params": {"channel": "ohlc", "symbol": list(symbols), "interval": minutes},
            "req_id": 1,
        }

    async with SimulatedExchange("kraken", symbols=2, rate=1) as exchange, connect(exchange.url) as connection:
        one, two = exchange.symbols
        assert [a["success"] for a in await ask(connection, request(1, one))] == [True]
        refused, granted = await ask(connection, request(5, one, two), 2)
        assert (refused["error"], refused["symbol"]) == ("Already subscribed to one ohlc interval on this symbol", one)
        assert granted["success"]
        assert (await ask(connection, request(1, one)))[0]["success"] is False
        assert (await ask(connection, request(1, one, method="unsubscribe")))[0]["success"] is True
        assert (await ask(connection, request(5, one)))[0]["success"] is True


async def test_verifying_two_specs_on_kraken_spreads_their_candles_over_connections() -> None:
    seen: set[tuple[str, str]] = set()
    async with (
        SimulatedExchange("kraken", symbols=3, rate=200) as exchange,
        fastbars.stream(
            "kraken", exchange.symbols, ["1m", "5m", "15m"], url=exchange.url, config=QUICK, verify=True,
            on_exchange_bar=lambda candle: seen.add((candle.symbol, candle.spec)),
        ) as bars,
    ):  # fmt: skip
        assert len(bars.adapter.connections.supervisors) == 3
        assert bars.adapter.active_subscriptions == {
            symbol: {"trade", "ohlc_1", "ohlc_5", "ohlc_15"} for symbol in exchange.symbols
        }
        for supervisor in bars.adapter.connections.supervisors:
            held = [stream for stream in supervisor.subscriptions.desired if stream[1] != "trade"]
            assert len({symbol for symbol, _ in held}) == len(held)
            assert supervisor.is_whole
        await until(lambda: seen == {(symbol, spec) for symbol in exchange.symbols for spec in ("1m", "5m", "15m")})
        await bars.unsubscribe(exchange.symbols)
        assert (bars.adapter.active_subscriptions, len(bars.adapter.connections.supervisors)) == ({}, 1)
        await bars.subscribe(exchange.symbols[:1], ["ohlc_1"])
        await bars.subscribe(exchange.symbols[:1], ["ohlc_5"])  # while another connection holds the other one
        assert bars.adapter.active_subscriptions == {exchange.symbols[0]: {"ohlc_1", "ohlc_5"}}


async def test_one_connection_refuses_what_it_cannot_hold_together_and_keeps_what_it_has() -> None:
    adapter = BaseWebSocketAdapter(find_exchange("kraken"))
    await adapter.subscribe(["BTC/USD", "ETH/USD"], ["ohlc_1", "trade"])
    first = adapter.connections.first
    with pytest.raises(SubscriptionError, match="BTC/USD@ohlc_1 and BTC/USD@ohlc_5 need a connection each"):
        await first.subscribe([("ADA/USD", "ohlc_5"), ("BTC/USD", "ohlc_5")])
    assert adapter.active_subscriptions == {symbol: {"ohlc_1", "trade"} for symbol in ("BTC/USD", "ETH/USD")}
    await adapter.subscribe(["ADA/USD", "BTC/USD"], ["ohlc_5"])  # one goes elsewhere
    assert [list(each.subscriptions.desired)[4:] for each in adapter.connections.supervisors] == [[], []]
    assert {("BTC/USD", "ohlc_5")} <= adapter.connections.supervisors[1].subscriptions.desired.keys()
    await adapter.unsubscribe(["BTC/USD"], ["ohlc_1"])
    await first.subscribe([("BTC/USD", "ohlc_5")])


async def test_a_full_connection_is_no_place_for_a_second_interval() -> None:
    config = StreamConfig(streams_per_connection=2)
    async with (
        SimulatedExchange("kraken", symbols=2, rate=1) as exchange,
        fastbars.stream("kraken", [], ["1m"], url=exchange.url, config=config) as bars,
    ):
        one, two = exchange.symbols
        await bars.subscribe([one, two], ["ohlc_1"])
        await bars.subscribe([one], ["ohlc_5"])
        await bars.subscribe([two], ["ohlc_5", "trade"])
        assert bars.adapter.active_subscriptions == {one: {"ohlc_1", "ohlc_5"}, two: {"ohlc_1", "ohlc_5", "trade"}}
        assert all(len(each.subscriptions.desired) <= 2 for each in bars.adapter.connections.supervisors)


# Bybit: a request is refused as a whole.


async def test_bybit_refuses_a_whole_request_for_one_topic_that_is_held_and_what_is_too_long() -> None:
    def request(number: int, *topics: str) -> dict[str, Any]:
        return {"op": "subscribe", "args": list(topics), "req_id": str(number)}

    async with SimulatedExchange("bybit", symbols=2, rate=1) as exchange, connect(exchange.url) as connection:
        one, two = (f"publicTrade.{symbol}" for symbol in exchange.symbols)
        assert (await ask(connection, request(1, one)))[0]["success"] is True
        (again,) = await ask(connection, request(2, one, two))
        assert (again["success"], again["ret_msg"]) == (False, f"error:already subscribed,topic:{one}")
        assert (await ask(connection, request(3, two)))[0]["success"] is True  # it was not subscribed to before
        (many,) = await ask(connection, request(4, *(f"publicTrade.X{n}" for n in range(11))))
        assert (many["success"], many["ret_msg"]) == (False, "args size >10")
    async with SimulatedExchange("bybit", market="linear", symbols=1) as exchange, connect(exchange.url) as connection:
        (long,) = await ask(connection, request(1, *(f"publicTrade.X{n:020}" for n in range(700))))
        assert (long["success"], long["ret_msg"]) == (False, "args are too long")


async def test_what_a_connection_to_bybit_holds_already_is_found_out_and_the_rest_asked_for() -> None:
    async with SimulatedExchange("bybit", symbols=4, rate=100) as exchange:
        adapter = BaseWebSocketAdapter(find_exchange("bybit"), QUICK, url=exchange.url)
        await adapter.connect()
        await adapter.subscribe(exchange.symbols[1:3])
        adapter.connections.first.subscriptions.confirmed.clear()  # as where the ack of them was lost
        await adapter.subscribe(exchange.symbols)
        assert {symbol for symbol, _ in adapter.connections.first.subscriptions.confirmed} == set(exchange.symbols)
        await until(lambda: set(adapter.session.symbols) == set(exchange.symbols))
        await adapter.disconnect()


# Interactive Brokers: accounts first, a session, updates of nothing.


def gateway(url: str, **knobs: Any) -> BaseWebSocketAdapter:
    config = StreamConfig(close_by="trades", reconnect_delay=0.01, reconnect_max_delay=0.01, **knobs)
    return BaseWebSocketAdapter(find_exchange("interactive_brokers"), config, url=url)


async def test_the_gateway_serves_nothing_before_accounts_were_called_or_a_session_given() -> None:
    async with SimulatedExchange("interactive_brokers", symbols=1, rate=500) as exchange:
        (symbol,) = exchange.symbols
        async with connect(exchange.url) as connection:
            assert await connection.recv() == '{"message":"waiting for session"}'
            await connection.send(f'smd+{symbol}+{{"fields":["31"]}}')
            await connection.send("tic")
            assert orjson.loads(await connection.recv())["topic"] in ("tic", "system")  # and no data
            await connection.send('{"session":"abc"}')
            await connection.send(f'smd+{symbol}+{{"fields":["31"]}}')
            async with asyncio.timeout(10):
                while orjson.loads(await connection.recv()).get("topic") != f"smd+{symbol}":
                    pass


async def test_accounts_are_called_at_the_gateway_before_each_connection() -> None:
    calls: list[str] = []

    def note(connection: ServerConnection, request: Request) -> Response | None:
        calls.append(request.path)
        if request.path == "/v1/api/iserver/accounts":
            return connection.respond(HTTPStatus.OK, '{"accounts":[]}')
        return None

    async with TradeServer(keep_silent, process_request=note) as server:
        url = server.url.replace("/ws", "/v1/api/ws")
        adapter = gateway(url)
        await adapter.connect()
        await adapter.reconnect()
        await adapter.disconnect()
    assert calls == ["/v1/api/iserver/accounts", "/v1/api/ws"] * 2


async def test_a_gateway_that_does_not_answer_to_accounts_streams_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with TradeServer(keep_silent) as server:  # it knows no paths but that of the stream
        adapter = gateway(server.url, rest_url="http://user:secret@127.0.0.1:9")
        await adapter.connect()
        assert server.connections
        await adapter.disconnect()
    assert "not_asked_first" in caplog.text
    assert "secret" not in caplog.text


async def test_a_stream_from_the_gateway_gets_samples_and_no_errors() -> None:
    async with SimulatedExchange("interactive_brokers", symbols=2, rate=500) as exchange:
        adapter = gateway(exchange.url)
        await adapter.subscribe(exchange.symbols)
        await adapter.connect()
        await until(lambda: len(adapter.session.symbols) == 2 and adapter.session.stats.trades >= 4)
        stats = adapter.session.stats
        assert (stats.parse_errors, stats.unknown, stats.invalid_json) == (0, 0, 0)
        await adapter.disconnect()


class SessionServer(TradeServer):
    """A gateway that wants a session before it hears anything else."""

    def __init__(self) -> None:
        super().__init__(keep_silent, self.ask)
        self.heard: list[str] = []

    async def ask(self, connection: ServerConnection) -> None:
        for _ in range(3):
            await connection.send('{"message":"waiting for session"}')
        async for message in connection:
            self.heard.append(str(message))


async def test_a_configured_session_token_is_given_when_it_is_asked_for_and_subscriptions_are_made_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with SessionServer() as server:
        adapter = gateway(server.url, session_token="the-token")
        await adapter.subscribe(["41"])
        await adapter.connect()
        smd = 'smd+41+{"fields":["31","84","85","86","88","7059"]}'
        await until(lambda: server.heard[-1:] == [smd] and '{"session":"the-token"}' in server.heard)
        assert server.heard.count('{"session":"the-token"}') == 1  # however often it is asked for
        await adapter.subscribe(["42"])
        await until(lambda: any("smd+42" in heard for heard in server.heard))
        assert adapter.session.stats.control == 3
        await adapter.disconnect()
    assert "the-token" not in caplog.text
    assert "the-token" not in repr(adapter.config)


@pytest.mark.parametrize("token", ["", b"secret", 5])
def test_a_session_token_that_is_none_is_refused_and_not_shown(token: Any) -> None:
    with pytest.raises(ValueError, match=r"session_token must be a non-empty string or None$"):
        StreamConfig(session_token=token)


async def test_without_a_session_token_it_is_said_that_one_is_wanted(caplog: pytest.LogCaptureFixture) -> None:
    async with SessionServer() as server:
        adapter = gateway(server.url)
        await adapter.connect()
        assert adapter.session.stats.control == 3
        await adapter.disconnect()
    assert caplog.text.count("session_token_wanted") == 1
    assert server.heard == []


# Hyperliquid: a greeting that is no JSON, empty lists.


async def test_the_greeting_of_hyperliquid_and_empty_lists_of_trades_are_no_errors() -> None:
    async with SimulatedExchange("hyperliquid", symbols=2, rate=200) as exchange:
        async with connect(exchange.url) as connection:
            assert await connection.recv() == "Websocket connection established."
        async with fastbars.stream("hyperliquid", exchange.symbols, url=exchange.url, config=QUICK) as bars:
            await until(lambda: bars.stats().session.trades > 20)
            stats = bars.stats().session
            assert (stats.invalid_json, stats.unknown, stats.parse_errors) == (0, 0, 0)


# Coinbase: a product that is another one's market.


async def test_a_usdc_product_of_coinbase_is_acked_served_and_healed_as_its_market() -> None:
    faults = Faults(seed=1)
    async with SimulatedExchange("coinbase", symbols=["BTC-USD"], rate=200, faults=faults) as exchange:
        config = StreamConfig(rest_url=exchange.rest_url, grace=0.2, check_symbols=False)
        async with fastbars.stream("coinbase", ["btc-usdc"], "1s", url=exchange.url, config=config) as bars:
            issued = [await anext(bars)]
            faults.inject(Fault(FaultKind.DROP_TRADE, count=2))
            while not any(bar.status is BarStatus.HEALED for bar in issued):
                issued.append(await anext(bars))
            assert {bar.symbol for bar in issued} == {"BTC-USDC"}
            (supervisor,) = bars.adapter.connections.supervisors
            assert supervisor.subscriptions.confirmed == {("BTC-USDC", "market_trades")}
            healed = next(bar for bar in issued if bar.status is BarStatus.HEALED)
            candle = exchange.record.seconds("BTC-USD")[int(healed.open_time.timestamp()) * 1000]
            assert (healed.volume, healed.trade_count) == (candle.volume, candle.trade_count)


# Candles beside the bars, on any venue.


def kline(symbol: str, number: int = 0) -> bytes:
    opened = START_MS + number * MINUTE_MS
    k = (
        f'{{"t":{opened},"T":{opened + 59_999},"s":"{symbol}","i":"1m","f":1,"L":2,"o":"1","c":"1","h":"1","l":"1",'
        '"v":"1","n":1,"x":true,"q":"1","V":"1","Q":"1"}'
    )
    return f'{{"e":"kline","E":{opened},"s":"{symbol}","k":{k}}}'.encode()


async def test_candles_of_symbols_never_subscribed_are_not_kept_for_verification() -> None:
    config = StreamConfig(close_by="trades")
    async with (
        TradeServer() as server,
        fastbars.stream("binance", ["BTCUSDT"], "1m", url=server.url, config=config, verify=True) as bars,
    ):
        await server.send(*(kline(f"X{n}USDT") for n in range(100)), kline("BTCUSDT"))
        await until(lambda: bars.stats().session.exchange_bars == 101)
        assert bars._candles is not None
        assert list(bars._candles.verifier._latest) == [("binance", "spot", "BTCUSDT", "1m")]


async def test_a_refused_symbol_keeps_no_other_from_being_verified() -> None:
    async with (
        TradeServer(refuse("nosuch@trade")) as server,
        fastbars.stream("binance", ["BTCUSDT"], "1m", url=server.url, verify=True) as bars,
    ):
        with pytest.raises(SubscriptionError, match="NOSUCH@trade"):
            await bars.subscribe(["NOSUCH", "ETHUSDT"])
        assert bars.adapter.active_subscriptions == {symbol: {"trade", "kline_1m"} for symbol in ("BTCUSDT", "ETHUSDT")}
