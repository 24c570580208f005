"""Tests of subscribing: what the exchange is asked, how fast, and what its answers lead to."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson
import pytest

from fake_clock import FakeClockLoop, Stopwatch
from fastbars import BaseWebSocketAdapter, BinanceWebSocketAdapter, StreamConfig
from fastbars.errors import SubscriptionError, WSConnectionError
from fastbars.exchanges.binance import SPOT
from fastbars.exchanges.bybit import LINEAR
from fastbars.exchanges.declaration import Exchange, Limits
from fastbars.exchanges.hyperliquid import HYPERLIQUID
from fastbars.exchanges.messages import Ack, Message, Refusal
from fastbars.live.connections.connection import Connection
from fastbars.live.connections.limits import RateLimiter
from fastbars.live.connections.subscriptions import Subscriptions
from fastbars.live.session import Session
from servers import Answer, Request, TradeServer, acknowledge, keep_silent, refuse, trade, until

Stream = tuple[str, str]


@dataclass
class SmallExchange(Exchange):
    """An exchange with limits of a size that a test can reach; the dialect is Binance's."""

    limits: Limits
    name: str = "small"
    default_channel: str = "trade"
    address: str = "ws://127.0.0.1:1"

    channels = SPOT.channels

    def url(self, _: Iterable[str]) -> str:
        return self.address

    def subscribe(self, streams: Sequence[Stream], request_id: int) -> list[bytes]:
        return SPOT.subscribe(streams, request_id)

    def unsubscribe(self, streams: Sequence[Stream], request_id: int) -> list[bytes]:
        return SPOT.unsubscribe(streams, request_id)

    def parse(self, message: Any) -> Iterable[Message]:
        return SPOT.read(message)

    def event_time_ns(self, message: Any) -> int | None:
        return SPOT.event_time_ns(message)


class Wire:
    """Takes what `Subscriptions` sends and answers it in the next turn of the loop; no socket."""

    def __init__(
        self, answer: Answer = acknowledge, *, limits: Limits | None = None, ack_timeout: float = 10.0
    ) -> None:
        self.asked: list[list[str]] = []
        self.answer = answer
        self.subscriptions = Subscriptions(SmallExchange(limits or Limits(10, 4, 1000)), ack_timeout)

    async def send(self, payload: bytes) -> None:
        request = orjson.loads(payload)
        self.asked.append([request["method"], *request["params"]])
        answer = self.answer(request)
        if answer is not None:
            (message,) = SPOT.read(answer)
            assert isinstance(message, Ack | Refusal)
            asyncio.get_running_loop().call_soon(self.subscriptions.take_answer, message)

    async def subscribe(self, *symbols: str) -> None:
        streams = [(symbol, "trade") for symbol in symbols]
        self.subscriptions.want(streams)
        await self.subscriptions.subscribe(streams, self.send)

    def confirmed(self) -> list[str]:
        return sorted(symbol for symbol, _ in self.subscriptions.confirmed)

    def desired(self) -> list[str]:
        return [symbol for symbol, _ in self.subscriptions.desired]


async def test_streams_go_out_in_requests_of_the_allowed_size() -> None:
    wire = Wire()
    await wire.subscribe(*"ABCDEFGHI")
    assert [request[1:] for request in wire.asked] == [
        ["a@trade", "b@trade", "c@trade", "d@trade"],
        ["e@trade", "f@trade", "g@trade", "h@trade"],
        ["i@trade"],
    ]
    assert wire.confirmed() == wire.desired() == list("ABCDEFGHI")


async def test_what_is_confirmed_is_not_asked_for_again() -> None:
    wire = Wire()
    await wire.subscribe("A", "B")
    await wire.subscribe("B", "C")
    await wire.subscribe("A")
    await wire.subscriptions.subscribe(None, wire.send)
    assert wire.asked == [["SUBSCRIBE", "a@trade", "b@trade"], ["SUBSCRIBE", "c@trade"]]


async def test_one_refused_symbol_among_many_harms_no_other_and_is_named() -> None:
    wire = Wire(refuse("c@trade", "f@trade"))
    with pytest.raises(SubscriptionError) as refused:
        await wire.subscribe(*"ABCDEFGHI")
    assert str(refused.value) == (
        "small refused C@trade: Invalid symbol. (code -1121); F@trade: Invalid symbol. (code -1121)"
    )
    assert refused.value.symbols == ("C", "F")
    assert wire.confirmed() == wire.desired() == list("ABDEGHI")
    assert [len(request) - 1 for request in wire.asked] == [4, 1, 1, 1, 1, 4, 1, 1, 1, 1, 1]


async def test_a_single_refused_symbol_is_asked_for_once() -> None:
    wire = Wire(refuse("a@trade"))
    with pytest.raises(SubscriptionError, match="small refused A@trade"):
        await wire.subscribe("A")
    assert wire.asked == [["SUBSCRIBE", "a@trade"]]
    assert (wire.confirmed(), wire.desired()) == ([], [])


async def test_an_exchange_that_does_not_answer_is_asked_once_a_request_not_once_a_stream() -> None:
    wire = Wire(keep_silent, ack_timeout=0.05)
    with pytest.raises(SubscriptionError, match=r"refused A@trade: no answer within 0.05 s; B@trade: no") as silent:
        await wire.subscribe(*"ABCDEF")
    assert silent.value.symbols == tuple("ABCDEF")
    assert [request[1:] for request in wire.asked] == [
        ["a@trade", "b@trade", "c@trade", "d@trade"],
        ["e@trade", "f@trade"],
    ]


class BybitWire:
    """Bybit's answers: a request with one topic that is held already is refused as a whole."""

    def __init__(self, held: Iterable[str], *, names: bool = True) -> None:
        self.held = set(held)
        self.names = names
        self.asked: list[list[str]] = []
        self.subscriptions = Subscriptions(LINEAR, ack_timeout=5.0)

    async def send(self, frame: bytes) -> None:
        request = orjson.loads(frame)
        self.asked.append(request["args"])
        again = next((topic for topic in request["args"] if topic in self.held), None)
        reason = "" if again is None else f"error:already subscribed,topic:{again if self.names else ''}"
        answer = {"success": again is None, "ret_msg": reason, "req_id": request["req_id"], "op": request["op"]}
        self.held |= set(request["args"]) if again is None else set()
        for message in LINEAR.parse(answer):
            assert isinstance(message, Ack | Refusal)
            assert self.subscriptions.take_answer(message)


@pytest.mark.parametrize("names", [True, False])
@pytest.mark.parametrize("held", [[], ["A"], ["C"], ["A", "C"], ["A", "B", "C", "D"]])
async def test_topics_beside_one_that_is_held_already_are_asked_for_again(held: list[str], names: bool) -> None:
    wire = BybitWire([f"publicTrade.{symbol}" for symbol in held], names=names)
    streams = [(symbol, "publicTrade") for symbol in "ABCD"]
    wire.subscriptions.want(streams)
    await wire.subscriptions.subscribe(streams, wire.send)
    assert wire.held == {f"publicTrade.{symbol}" for symbol in "ABCD"}
    assert wire.subscriptions.confirmed == set(streams)
    if names:  # one request more for each that is held, not one for each of all
        assert len(wire.asked) == len(held) + (len(held) < 4)


async def test_a_topic_that_was_not_asked_for_confirms_nothing() -> None:
    wire = BybitWire([])
    streams = [(symbol, "publicTrade") for symbol in "AB"]
    wire.subscriptions.want(streams)

    async def send(frame: bytes) -> None:
        number = int(orjson.loads(frame)["req_id"])
        wire.subscriptions.take_answer(Refusal(number, "already subscribed", (("X", "publicTrade"),), held=True))

    with pytest.raises(SubscriptionError, match="already subscribed"):
        await wire.subscriptions.subscribe(streams, send)
    assert wire.subscriptions.confirmed == set()


async def test_silence_after_a_refusal_is_the_fate_of_that_stream_alone() -> None:
    def answer(request: Request) -> Request | None:
        return None if request["params"] == ["b@trade"] else refuse("b@trade")(request)

    wire = Wire(answer, ack_timeout=0.5)
    with pytest.raises(SubscriptionError, match=r"^small refused B@trade: no answer within 0.5 s$"):
        await wire.subscribe("A", "B", "C")
    assert wire.confirmed() == ["A", "C"]


async def test_answers_are_related_by_id_in_whatever_order_they_come() -> None:
    wire = Wire(keep_silent, limits=Limits(10, 1, 1000))
    waiting = [asyncio.create_task(wire.subscriptions.unsubscribe([(symbol, "trade")], wire.send)) for symbol in "AB"]
    await until(lambda: len(wire.asked) == 2)
    assert not wire.subscriptions.take_answer(Ack(3))  # of no request under way
    assert not wire.subscriptions.take_answer(Refusal(None, "Invalid JSON"))
    assert wire.subscriptions.take_answer(Refusal(2, "no"))
    assert not wire.subscriptions.take_answer(Ack(2))  # answered already
    assert wire.subscriptions.take_answer(Ack(1))
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert results[0] is None
    assert str(results[1]) == "small refused to unsubscribe B@trade: no"


async def test_a_renewal_and_a_refresh_that_are_refused_name_the_streams() -> None:
    wire = Wire()
    await wire.subscribe("A", "B")
    wire.answer = refuse("b@trade")
    with pytest.raises(SubscriptionError, match=r"^small refused B@trade: ") as refreshed:
        await wire.subscriptions.refresh(wire.send)
    with pytest.raises(SubscriptionError, match=r"^small refused B@trade: ") as renewed:
        await wire.subscriptions.renew([("A", "trade"), ("B", "trade")], wire.send)
    assert refreshed.value.symbols == renewed.value.symbols == ("B",)


async def test_an_answer_that_comes_in_the_turn_in_which_time_is_up_counts() -> None:
    loop, wire = asyncio.get_running_loop(), Wire(keep_silent, ack_timeout=1.0)
    subscribing = asyncio.create_task(wire.subscribe("A"))
    await until(lambda: wire.asked)
    loop.call_at(0.0, wire.subscriptions.take_answer, Refusal(1, "delisted"))
    assert isinstance(loop, FakeClockLoop)
    loop.turn(1.2)  # both are due now, the answer first
    with pytest.raises(SubscriptionError, match=r"^small refused A@trade: delisted$"):
        await subscribing


async def test_unsubscribing_forgets_what_was_confirmed() -> None:
    wire = Wire()
    await wire.subscribe("A", "B")
    wire.subscriptions.drop([("A", "trade")])
    await wire.subscriptions.unsubscribe([("A", "trade")], wire.send)
    assert wire.confirmed() == wire.desired() == ["B"]
    assert wire.asked[-1] == ["UNSUBSCRIBE", "a@trade"]


async def test_a_lost_connection_ends_the_waiting_and_everything_stays_desired() -> None:
    wire = Wire(keep_silent)
    await_ack = asyncio.create_task(wire.subscribe("A", "B"))
    await until(lambda: wire.asked)
    wire.subscriptions.connection_lost()
    wire.subscriptions.connection_lost()
    with pytest.raises(WSConnectionError, match="small: the connection was lost"):
        await await_ack
    assert (wire.confirmed(), wire.desired()) == ([], ["A", "B"])


async def test_two_who_want_the_same_at_once_ask_once() -> None:
    wire = Wire()
    await asyncio.gather(wire.subscribe("A", "B"), wire.subscribe("A", "B"), wire.subscribe("B", "C"))
    assert wire.asked == [["SUBSCRIBE", "a@trade", "b@trade"], ["SUBSCRIBE", "c@trade"]]


def test_more_streams_than_a_connection_may_have_are_refused_before_anything_is_asked() -> None:
    subscriptions = Wire().subscriptions
    subscriptions.want([(symbol, "trade") for symbol in "ABCDEFGH"])
    with pytest.raises(SubscriptionError) as refused:
        subscriptions.want([(symbol, "trade") for symbol in "HIJK"])
    assert str(refused.value) == "small: 8 streams and 4 more are over the limit of 10 a connection"
    assert refused.value.symbols == tuple("HIJK")
    assert len(subscriptions.desired) == 8
    subscriptions.want([(symbol, "trade") for symbol in "HIJ"])
    assert len(subscriptions.desired) == 10


def test_an_unknown_channel_is_refused_before_anything_is_asked() -> None:
    subscriptions = Wire().subscriptions
    with pytest.raises(SubscriptionError, match="small: unknown channel 'nosuch'"):
        subscriptions.want([("A", "trade"), ("A", "nosuch")])
    assert subscriptions.desired == {}


async def test_a_rate_limiter_lets_a_burst_pass_and_then_no_more_than_the_limit_in_any_second() -> None:
    limiter = RateLimiter(10)
    watch, times = Stopwatch(), []
    for _ in range(21):
        await limiter.wait()
        times.append(watch.seconds)
    assert times == [0.0] * 10 + [1.05] * 10 + [2.1]  # a little over a second, for what the network does to distances


async def test_the_exchange_sees_no_more_requests_a_second_than_it_allows() -> None:
    exchange = SmallExchange(Limits(100, 1, 4))
    async with TradeServer() as server:
        adapter = BaseWebSocketAdapter(exchange, url=server.url)
        await adapter.connect()
        await asyncio.gather(*(adapter.subscribe([symbol]) for symbol in "ABCDEFGHI"))
        await adapter.disconnect()
        times = server.request_times_s
        assert server.streams == [f"{symbol}@trade" for symbol in "abcdefghi"]
    assert all(later - earlier > 1.0 for earlier, later in zip(times, times[4:], strict=False))


# Through the adapter and a real server.


def adapter_of(server: TradeServer, ack_timeout: float = 10.0, **options: Any) -> BinanceWebSocketAdapter:
    config = StreamConfig(ack_timeout=ack_timeout, reconnect_delay=0.01, reconnect_max_delay=0.01, close_by="trades")
    return BinanceWebSocketAdapter(config, url=server.url, **options)


async def test_what_was_wanted_before_connecting_is_subscribed_on_connecting() -> None:
    async with TradeServer() as server:
        adapter = adapter_of(server)
        await adapter.subscribe(["BTCUSDT"])
        await adapter.subscribe(["BTCUSDT", "ETHUSDT"], ["kline_1m", "bookTicker"])
        assert server.requests == []
        await adapter.connect()
        await until(lambda: server.requests)
        assert server.streams == [
            "btcusdt@trade",
            "btcusdt@kline_1m",
            "ethusdt@kline_1m",
            "btcusdt@bookTicker",
            "ethusdt@bookTicker",
        ]
        assert adapter.active_subscriptions == {
            "BTCUSDT": {"trade", "kline_1m", "bookTicker"},
            "ETHUSDT": {"kline_1m", "bookTicker"},
        }
        await adapter.disconnect()


async def test_a_refused_symbol_is_named_and_the_others_flow() -> None:
    async with TradeServer(refuse("nosuch@trade")) as server:
        adapter = adapter_of(server)
        await adapter.connect()
        with pytest.raises(SubscriptionError) as refused:
            await adapter.subscribe(["BTCUSDT", "NOSUCH", "ETHUSDT"])
        assert refused.value.symbols == ("NOSUCH",)
        assert adapter.active_subscriptions == {"BTCUSDT": {"trade"}, "ETHUSDT": {"trade"}}
        await server.send(trade(1, 0), trade(1, 0, symbol="ETHUSDT"))
        await until(lambda: adapter.session.stats.trades == 2)
        await adapter.disconnect()


async def test_a_symbol_refused_on_connecting_is_logged_and_no_longer_wanted(caplog: pytest.LogCaptureFixture) -> None:
    async with TradeServer(refuse("nosuch@trade")) as server:
        adapter = adapter_of(server)
        await adapter.subscribe(["BTCUSDT", "NOSUCH"])
        await adapter.connect()
        await until(lambda: adapter.active_subscriptions == {"BTCUSDT": {"trade"}})
        assert "subscription_refused exchange='binance spot' error='binance spot refused NOSUCH@trade" in caplog.text
        await adapter.disconnect()


async def test_a_subscription_that_is_not_confirmed_in_time_is_an_error() -> None:
    async with TradeServer(keep_silent) as server:
        adapter = adapter_of(server, ack_timeout=0.3)
        await adapter.connect()
        with pytest.raises(SubscriptionError, match=r"binance spot refused BTCUSDT@trade: no answer within 0.3 s"):
            await adapter.subscribe(["BTCUSDT"])
        assert adapter.active_subscriptions == {}
        await adapter.disconnect()


async def test_a_reconnect_whose_subscriptions_are_not_confirmed_is_tried_again_and_forgets_none() -> None:
    async with TradeServer() as server:
        adapter = adapter_of(server, ack_timeout=1.0)
        await adapter.connect()
        await adapter.subscribe(["BTCUSDT"])
        server.answer = keep_silent
        server.abort()
        await until(lambda: len(server.requests) == 2)  # not answered for 1 s, so that it connects once more
        server.answer = acknowledge
        await until(lambda: len(server.requests) == 3)
        assert adapter.connections.first.subscriptions.confirmed == {("BTCUSDT", "trade")}
        assert adapter.active_subscriptions == {"BTCUSDT": {"trade"}}
        assert adapter.stats().connections == 3
        await adapter.disconnect()


async def test_a_connection_lost_while_waiting_for_the_answer_keeps_the_wish() -> None:
    async with TradeServer(keep_silent) as server:
        adapter = adapter_of(server)
        await adapter.connect()
        subscribing = asyncio.create_task(adapter.subscribe(["BTCUSDT"]))
        await until(lambda: server.requests)
        server.answer = acknowledge
        server.abort()
        with pytest.raises(WSConnectionError, match="binance spot: the connection was lost"):
            await subscribing
        await until(lambda: len(server.requests) == 2)
        assert server.streams == ["btcusdt@trade", "btcusdt@trade"]
        assert adapter.active_subscriptions == {"BTCUSDT": {"trade"}}
        await adapter.disconnect()


async def test_a_coin_at_which_the_exchange_closes_the_connection_is_refused_and_the_others_flow() -> None:
    errors: list[Any] = []

    def answer(request: Request) -> Request | None:
        if request["subscription"]["coin"] == "NOSUCH":
            server.asking.transport.abort()
            return None
        return {"channel": "subscriptionResponse", "data": request}

    async with TradeServer(answer) as server:
        config = StreamConfig(reconnect_delay=0.01, reconnect_max_delay=0.01)
        adapter = BaseWebSocketAdapter(HYPERLIQUID, config, url=server.url, on_error=errors.append)
        await adapter.subscribe(["NOSUCH", "BTC", "ETH"])
        await adapter.connect()
        await until(lambda: errors)
        assert errors[0].symbols == ("NOSUCH",)
        assert "the exchange closed the connection each time it was asked for" in str(errors[0])
        assert adapter.is_connected
        assert {symbol for symbol, _ in adapter.streams} == {"BTC", "ETH"}
        assert len(adapter.connections.first.subscriptions.confirmed) == 2
        await adapter.disconnect()


async def test_an_exchange_that_answers_nothing_before_it_closes_costs_no_symbol() -> None:
    errors: list[Any] = []

    def answer(request: Request) -> Request | None:
        if len(server.accepted_s) < 10:
            server.asking.transport.abort()
            return None
        return {"channel": "subscriptionResponse", "data": request}

    async with TradeServer(answer) as server:
        config = StreamConfig(reconnect_delay=0.01, reconnect_max_delay=0.01)
        adapter = BaseWebSocketAdapter(HYPERLIQUID, config, url=server.url, on_error=errors.append)
        await adapter.subscribe(["BTC", "ETH"])
        await adapter.connect()
        await until(lambda: len(adapter.connections.first.subscriptions.confirmed) == 2)
        assert errors == []
        await adapter.disconnect()


async def test_subscribing_over_a_connection_that_is_being_closed_is_a_connection_error() -> None:
    async with TradeServer() as server:
        adapter = adapter_of(server)
        await adapter.connect()
        connection = adapter.connections.first.pair.current
        assert connection is not None
        connection.drop("the test drops it")  # the supervisor learns of it in one of the next turns of the loop
        with pytest.raises(WSConnectionError, match="the connection was lost"):
            await adapter.subscribe(["BTCUSDT"])
        assert adapter.active_subscriptions == {"BTCUSDT": {"trade"}}
        await until(lambda: server.streams == ["btcusdt@trade"])
        await adapter.disconnect()


async def test_subscribing_behind_a_close_frame_is_a_connection_error() -> None:
    async with TradeServer() as server:
        adapter = adapter_of(server)
        await adapter.connect()
        (connection,) = adapter.connections.up
        assert connection.socket is not None
        closing = asyncio.create_task(connection.socket.close())
        await asyncio.sleep(0)  # the close frame goes out
        with pytest.raises(WSConnectionError, match="binance spot: the connection was lost"):
            await adapter.subscribe(["BTCUSDT"])
        await closing
        await until(lambda: server.streams == ["btcusdt@trade"])
        await adapter.disconnect()


async def test_a_request_over_no_connection_is_a_connection_error() -> None:
    exchange = SmallExchange(Limits(10, 4, 1000))
    session = Session(exchange, StreamConfig())
    connection = Connection(session, "ws://127.0.0.1:1", Subscriptions(exchange, 0.05), print, print)
    with pytest.raises(WSConnectionError, match="small: not connected"):
        await connection.send(b"{}")


async def test_unsubscribing_ends_the_open_bar_where_no_trade_channel_is_left() -> None:
    bars: list[str] = []
    async with TradeServer() as server:
        adapter = adapter_of(server, on_bar=lambda bar: bars.append(f"{bar.symbol} {bar.status} {bar.close_reason}"))
        await adapter.connect()
        await adapter.subscribe(["BTCUSDT", "ETHUSDT"], ["trade", "kline_1m"])
        await server.send(trade(1, 0), trade(1, 0, symbol="ETHUSDT"))
        await until(lambda: adapter.session.stats.trades == 2)
        await adapter.unsubscribe(["BTCUSDT"], ["kline_1m"])
        assert bars == []
        await adapter.unsubscribe(["BTCUSDT"])
        assert bars == ["BTCUSDT PARTIAL end"]
        await adapter.unsubscribe(["BTCUSDT"])  # nothing is left to ask for
        assert [request["params"] for request in server.requests if request["method"] == "UNSUBSCRIBE"] == [
            ["btcusdt@kline_1m"],
            ["btcusdt@trade"],
        ]
        assert adapter.active_subscriptions == {"ETHUSDT": {"trade", "kline_1m"}}
        await adapter.disconnect()


async def test_symbols_and_channels_are_lists_not_one_text() -> None:
    adapter = BinanceWebSocketAdapter()
    for symbols, channels in (("BTCUSDT", []), (["BTCUSDT"], "trade")):
        with pytest.raises(TypeError, match=r"must be (a list|lists) of strings"):
            await adapter.subscribe(symbols, channels)


async def test_a_channel_served_elsewhere_gets_a_connection_there_and_the_one_that_carries_nothing_goes() -> None:
    async with TradeServer() as public, TradeServer() as market:
        exchange = type(SPOT)(
            "routed",
            SPOT.channels,
            {public.url: ("trade", "bookTicker"), market.url: ("aggTrade", "kline_*")},
            SPOT.limits,
        )
        adapter = BaseWebSocketAdapter(exchange, StreamConfig(reconnect_delay=0.01))
        await adapter.connect()
        assert public.connections
        await adapter.subscribe(["BTCUSDT"], ["kline_1m"])
        assert (public.streams, market.streams) == ([], ["btcusdt@kline_1m"])
        assert not public.connections
        await adapter.subscribe(["BTCUSDT"], ["aggTrade"])
        assert market.streams == ["btcusdt@kline_1m", "btcusdt@aggTrade"]
        await adapter.subscribe(["BTCUSDT"], ["trade"])
        assert public.streams == ["btcusdt@trade"]
        assert (len(public.accepted_s), len(market.accepted_s)) == (2, 1)
        assert adapter.stats().connections == 3
        await adapter.unsubscribe(["BTCUSDT"], ["trade"])
        assert not public.connections
        assert len(market.connections) == 1
        await adapter.disconnect()


async def test_bars_of_another_trade_channel_connect_to_its_route_at_once() -> None:
    async with TradeServer() as public, TradeServer() as market:
        routes = {public.url: ("trade",), market.url: ("aggTrade",)}
        exchange = type(SPOT)("routed", SPOT.channels, routes, SPOT.limits)
        adapter = BaseWebSocketAdapter(exchange, channel="aggTrade")
        await adapter.connect()
        await adapter.subscribe(["BTCUSDT"])
        assert (public.accepted_s, market.streams) == ([], ["btcusdt@aggTrade"])
        assert len(market.accepted_s) == 1
        await adapter.disconnect()


# Acks that name streams.


class NamingWire:
    """Sends go nowhere; the test gives the answers. Acks name streams."""

    def __init__(self, acks: Literal["request", "streams", "none"] = "streams", ack_timeout: float = 5.0) -> None:
        exchange = SmallExchange(Limits(10, 4, 1000))
        exchange.acks = acks
        self.frames: list[bytes] = []
        self.subscriptions = Subscriptions(exchange, ack_timeout)

    async def send(self, payload: bytes) -> None:
        self.frames.append(payload)

    def start(self, *symbols: str) -> asyncio.Task[None]:
        streams = [(symbol, "trade") for symbol in symbols]
        self.subscriptions.want(streams)
        return asyncio.create_task(self.subscriptions.subscribe(streams, self.send))

    def named(self, *symbols: str) -> tuple[Stream, ...]:
        return tuple((symbol, "trade") for symbol in symbols)


async def test_acks_that_name_streams_confirm_them_one_by_one() -> None:
    wire = NamingWire()
    task = wire.start("A", "B")
    await until(lambda: wire.frames)
    assert not wire.subscriptions.take_answer(Ack(streams=wire.named("C")))
    assert not wire.subscriptions.take_answer(Ack(streams=wire.named("A"), ended=True))
    assert wire.subscriptions.take_answer(Ack(streams=wire.named("A")))
    assert not task.done()
    assert wire.subscriptions.take_answer(Ack(streams=wire.named("B")))
    await task
    assert wire.subscriptions.confirmed == {("A", "trade"), ("B", "trade")}


async def test_a_refusal_that_names_a_stream_leaves_the_others_of_its_request_alone() -> None:
    wire = NamingWire("request")
    task = wire.start("A", "B", "C")
    await until(lambda: wire.frames)
    assert wire.subscriptions.take_answer(Refusal(1, "no such symbol", wire.named("B")))
    assert wire.subscriptions.take_answer(Ack(1, wire.named("A")))
    assert wire.subscriptions.take_answer(Ack(1, wire.named("C")))
    with pytest.raises(SubscriptionError, match=r"small refused B@trade: no such symbol$"):
        await task
    assert wire.subscriptions.confirmed == {("A", "trade"), ("C", "trade")}
    assert len(wire.frames) == 1


async def test_a_stream_that_no_ack_names_got_no_answer() -> None:
    wire = NamingWire(ack_timeout=0.5)
    task = wire.start("A", "B")
    await until(lambda: wire.frames)
    wire.subscriptions.take_answer(Ack(streams=wire.named("A")))
    with pytest.raises(SubscriptionError, match=r"small refused B@trade: no answer within 0\.5 s$"):
        await task
    assert wire.subscriptions.confirmed == {("A", "trade")}


async def test_an_ack_of_everything_held_confirms_what_is_in_it_and_ends_what_is_not() -> None:
    wire = NamingWire()
    task = wire.start("A", "B")
    await until(lambda: wire.frames)
    assert wire.subscriptions.take_answer(Ack(streams=wire.named("A", "B", "C"), whole=True))
    await task
    ending = asyncio.create_task(wire.subscriptions.unsubscribe(wire.named("A", "B"), wire.send))
    await until(lambda: len(wire.frames) == 2)
    wire.subscriptions.take_answer(Ack(streams=wire.named("A"), whole=True))
    assert not ending.done()
    wire.subscriptions.take_answer(Ack(whole=True))
    await ending
    assert wire.subscriptions.confirmed == set()


async def test_a_refusal_that_names_nothing_belongs_to_the_oldest_request_where_acks_name_streams() -> None:
    wire = NamingWire()
    task = wire.start("A")
    await until(lambda: wire.frames)
    assert wire.subscriptions.take_answer(Refusal(None, "what is that"))
    with pytest.raises(SubscriptionError, match="A@trade: what is that"):
        await task
    assert not NamingWire("request").subscriptions.take_answer(Refusal(None, "what is that"))


async def test_without_acks_a_request_is_granted_once_it_is_sent() -> None:
    wire = NamingWire("none")
    await wire.start("A", "B")
    assert wire.subscriptions.confirmed == {("A", "trade"), ("B", "trade")}


async def test_where_the_exchange_counts_all_connections_together_they_share_the_throttle() -> None:
    async with TradeServer() as server:
        exchange = SmallExchange(Limits(100, 1, 4, requests_shared=True))
        adapters = [BaseWebSocketAdapter(exchange, url=server.url) for _ in range(3)]
        for adapter in adapters:
            await adapter.connect()
        await asyncio.gather(*(adapter.subscribe([symbol]) for adapter in adapters for symbol in "ABC"))
        for adapter in adapters:
            await adapter.disconnect()
        times = server.request_times_s
    assert len(times) == 9
    assert all(later - earlier > 1.0 for earlier, later in zip(times, times[4:], strict=False))


async def test_subscriptions_that_the_exchange_forgets_are_made_again_in_time() -> None:
    async with TradeServer() as server:
        exchange = SmallExchange(Limits(100, 10, 1000, subscription_lifetime_s=0.5))
        adapter = BaseWebSocketAdapter(exchange, url=server.url)
        await adapter.connect()
        await adapter.subscribe(["A", "B"])
        await until(lambda: len(server.requests) == 3)
        assert [request["params"] for request in server.requests] == [["a@trade", "b@trade"]] * 3
        first, second, third = server.request_times_s
        assert [round(second - first, 6), round(third - second, 6)] == [0.4, 0.4]  # of the half second each lives
        assert (len(server.accepted_s), len(adapter.connections.first.subscriptions.confirmed)) == (1, 2)
        await adapter.disconnect()


async def test_a_request_is_no_larger_than_the_exchange_allows() -> None:
    wire = Wire(limits=Limits(100, 50, 1000, request_bytes=100))
    await wire.subscribe(*"ABCDEFGHIJKLM")
    assert [name for request in wire.asked for name in request[1:]] == [f"{symbol}@trade" for symbol in "abcdefghijklm"]
    sizes = [len(SPOT.subscribe([(s.split("@")[0], "trade") for s in request[1:]], 1)[0]) for request in wire.asked]
    assert max(sizes) <= 100
    assert len(sizes) == 4


async def test_requests_an_hour_are_counted_by_connection() -> None:
    wire = Wire(limits=Limits(100, 1, 1000, requests_per_hour=2))
    await wire.subscribe("A", "B")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await wire.subscribe("C")
    assert len(wire.asked) == 2
