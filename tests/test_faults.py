"""Faults on demand: each does what it says to a client, is counted, and the record tells the truth about it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import orjson
import pytest
import trustme
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus

import fastbars
from fake_clock import Stopwatch
from fastbars import StreamConfig
from fastbars.simulator import Fault, FaultKind, Faults, SimulatedExchange
from fastbars.simulator.dialects import dialects
from servers import until

SYMBOL = "BTCUSDT"
SUBSCRIBE = '{"method":"SUBSCRIBE","params":["btcusdt@trade"],"id":1}'


@asynccontextmanager
async def faulty(exchange: str = "binance", rate: float = 500.0, **options: Any) -> AsyncIterator[SimulatedExchange]:
    options = {"symbols": 1, "faults": Faults(seed=5), **options}
    async with asyncio.timeout(90), SimulatedExchange(exchange, rate=rate, **options) as server:
        yield server


def inject(server: SimulatedExchange, kind: FaultKind, **options: Any) -> None:
    assert server.faults is not None
    server.faults.inject(Fault(kind, **options))


def applied(server: SimulatedExchange, kind: FaultKind) -> int:
    assert server.faults is not None
    return server.faults.applied[kind]


def what(server: SimulatedExchange, symbol: str = SYMBOL) -> list[str]:
    """What the record says happened to a symbol on the first connection."""
    return [event.what for event in server.record.connections[0].events if event.symbol in ("", symbol)]


@asynccontextmanager
async def subscribed(server: SimulatedExchange) -> AsyncIterator[ClientConnection]:
    async with connect(server.url, max_size=2**25, close_timeout=0.2) as client:
        await client.send(SUBSCRIBE)
        assert orjson.loads(await client.recv()) == {"result": None, "id": 1}
        yield client


async def trades(client: ClientConnection, count: int) -> list[dict[str, Any]]:
    """The next trades; what is none is passed over."""
    found: list[dict[str, Any]] = []
    while len(found) < count:
        try:
            message = orjson.loads(await client.recv(decode=False))
        except orjson.JSONDecodeError:
            continue
        if isinstance(message, dict) and message.get("e") == "trade":
            found.append(message)
    return found


async def drain(client: ClientConnection, into: list[Any] | None = None) -> None:
    """Receive until the connection ends, which raises."""
    while True:
        message = await client.recv(decode=False)
        if into is not None:
            into.append(orjson.loads(message))


def ids(messages: list[dict[str, Any]]) -> list[int]:
    return [message["t"] for message in messages]


def rises_by_one(numbers: list[int]) -> bool:
    return all(before + 1 == after for before, after in pairwise(numbers))


# Connections.


async def test_a_drop_cuts_the_connection_without_a_close_frame() -> None:
    async with faulty() as server, subscribed(server) as client:
        inject(server, FaultKind.DROP)
        with pytest.raises(ConnectionClosedError) as closed:
            await trades(client, 10**6)
        assert closed.value.rcvd is None
        assert applied(server, FaultKind.DROP) == 1
        assert server.record.connections[0].closed_s is not None


async def test_a_close_has_the_code_that_was_asked_for_and_befalls_as_many_as_were_asked_for() -> None:
    async with faulty() as server, subscribed(server) as first, subscribed(server) as second:
        inject(server, FaultKind.CLOSE, code=1008, count=0)
        for client in (first, second):
            with pytest.raises(ConnectionClosed) as closed:
                await trades(client, 10**6)
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, "fault")


async def test_a_stall_sends_nothing_and_answers_no_ping_and_goes_on_where_it_stopped() -> None:
    async with faulty() as server, subscribed(server) as client:
        before = await trades(client, 5)
        inject(server, FaultKind.STALL, seconds=2.0)
        await until(lambda: applied(server, FaultKind.STALL))
        watch = Stopwatch()
        pong = asyncio.ensure_future(await client.ping())
        while not pong.done():
            before += await trades(client, 1)
        assert 2.0 - 0.01 <= watch.seconds <= 2.0 + 0.01  # the market has a turn every 5 ms
        assert rises_by_one(ids(before + await trades(client, 5)))


async def test_a_lifetime_is_announced_and_ends_the_connection() -> None:
    async with faulty("okx", symbols=["BTC-USDT"]) as server, connect(server.url) as client:
        await client.send('{"op":"subscribe","args":[{"channel":"trades-all","instId":"BTC-USDT"}]}')
        await client.recv()
        inject(server, FaultKind.LIFETIME, seconds=0.2)
        messages: list[Any] = []
        with pytest.raises(ConnectionClosed) as closed:
            await drain(client, messages)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1001, "lifetime")
        assert [message["code"] for message in messages if message.get("event") == "notice"] == ["64008"]


async def test_every_connection_has_the_lifetime_that_the_exchange_was_made_with() -> None:
    async with faulty(lifetime_s=0.4) as server, connect(f"{server.url}/btcusdt@trade") as client:
        messages: list[Any] = []
        with pytest.raises(ConnectionClosed) as closed:
            await drain(client, messages)
        assert [message for message in messages if message["e"] == "serverShutdown"]
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.reason == "lifetime"


async def test_a_clock_that_is_off_moves_event_times_and_not_trade_times() -> None:
    async with faulty() as server, subscribed(server) as client:
        (before,) = await trades(client, 1)
        assert abs(before["E"] - before["T"]) < 1_000
        inject(server, FaultKind.CLOCK, seconds=-90.0)
        await until(lambda: applied(server, FaultKind.CLOCK))
        after = before
        while after["E"] > after["T"] - 1_000:  # some were on their way
            (after,) = await trades(client, 1)
        assert -91_000 < after["E"] - after["T"] < -89_000
        assert after["T"] >= before["T"]


# Handshakes.


@pytest.mark.parametrize("status", [403, 418, 429, 503])
async def test_a_refused_handshake_has_its_status_and_says_when_to_come_again(status: int) -> None:
    async with faulty() as server:
        inject(server, FaultKind.REFUSE, status=status, retry_after_s=7, count=2)
        for _ in range(2):
            with pytest.raises(InvalidStatus) as refused:
                await connect(server.url)
            assert refused.value.response.status_code == status
            assert refused.value.response.headers["Retry-After"] == "7"
        async with subscribed(server):
            pass
        assert [each for _, each in server.record.refused] == [status, status]


async def test_tls_fails_where_the_exchange_does_not_speak_it_or_has_a_certificate_of_its_own() -> None:
    async with faulty() as server:
        with pytest.raises((ssl.SSLError, OSError, ConnectionClosed, EOFError)):
            await connect(server.url.replace("ws://", "wss://"), open_timeout=2)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority = trustme.CA()
    authority.issue_cert("127.0.0.1").configure_cert(context)
    async with faulty(ssl=context) as server:
        assert server.url.startswith("wss://")
        with pytest.raises(ssl.SSLCertVerificationError):
            await connect(server.url)
        trusting = ssl.create_default_context()
        authority.configure_trust(trusting)
        async with connect(server.url, ssl=trusting) as client:
            await client.send(SUBSCRIBE)
            assert len(await trades(client, 3)) == 3


# Messages.


async def test_a_delayed_message_comes_after_those_behind_it() -> None:
    async with faulty() as server, subscribed(server) as client:
        inject(server, FaultKind.DELAY, seconds=1.0)
        numbers = ids(await trades(client, 20))
        while all(before < number for before, number in pairwise(numbers)):
            numbers += ids(await trades(client, 20))
        numbers += ids(await trades(client, 20))
        late = [number for number, before in zip(numbers[1:], numbers, strict=False) if number < before]
        assert len(late) == 1
        assert rises_by_one(sorted(numbers))


async def test_duplicates_come_twice_and_are_recorded_twice() -> None:
    async with faulty() as server:
        inject(server, FaultKind.DUPLICATE, count=3)
        async with subscribed(server) as client:
            numbers = ids(await trades(client, 60))
        assert len(numbers) - len(set(numbers)) == 3
        assert rises_by_one(list(dict.fromkeys(numbers)))
        sent = server.record.connections[0].sent[SYMBOL]
        assert sent[: len(numbers)] == numbers


async def test_reordered_messages_change_places_and_none_is_lost() -> None:
    async with faulty(rate=5_000.0) as server:
        inject(server, FaultKind.REORDER)
        async with subscribed(server) as client:
            numbers = ids(await trades(client, 200))
        swapped = [(a, b) for a, b in pairwise(numbers) if b < a]
        assert [a - b for a, b in swapped] == [1]
        assert rises_by_one(sorted(numbers))


async def test_a_dropped_trade_is_missing_and_recorded_as_dropped() -> None:
    async with faulty() as server, subscribed(server) as client:
        numbers = ids(await trades(client, 1))
        inject(server, FaultKind.DROP_TRADE, count=2)
        await until(lambda: applied(server, FaultKind.DROP_TRADE) == 2)
        dropped = sorted(server.record.connections[0].dropped[SYMBOL])
        while numbers[-1] < dropped[-1]:
            numbers += ids(await trades(client, 1))
        assert len(dropped) == 2
        assert sorted(set(range(numbers[0], numbers[-1])) - set(numbers)) == dropped


async def test_one_trade_of_many_in_a_message_is_dropped_and_the_others_stay() -> None:
    async with faulty("bybit", rate=20_000.0, symbols=[SYMBOL]) as server, connect(server.url) as client:
        await client.send('{"op":"subscribe","args":["publicTrade.BTCUSDT"],"req_id":"1"}')
        await client.recv()
        inject(server, FaultKind.DROP_TRADE)
        await until(lambda: applied(server, FaultKind.DROP_TRADE))
        (dropped,) = server.record.connections[0].dropped[SYMBOL]
        seen: list[int] = []
        while len(seen) < 2_000 or seen[-1] < dropped:
            seen += [trade["seq"] for trade in orjson.loads(await client.recv())["data"]]
        assert sorted(set(range(seen[0], seen[-1] + 1)) - set(seen)) == ([dropped] if dropped > seen[0] else [])


async def test_cut_frames_are_put_together_again_by_the_client() -> None:
    async with faulty() as server:
        inject(server, FaultKind.CUT_FRAME, count=20)
        async with subscribed(server) as client:
            assert rises_by_one(ids(await trades(client, 60)))
        assert applied(server, FaultKind.CUT_FRAME) == 20


@pytest.mark.parametrize("kind", [FaultKind.GARBAGE, FaultKind.BINARY, FaultKind.OVERSIZE, FaultKind.HALF_VALID])
async def test_messages_that_are_none_come_between_the_others_and_cost_no_trade(kind: FaultKind) -> None:
    async with faulty() as server:
        inject(server, kind, size_bytes=2**21)
        strange: list[str | bytes] = []
        numbers: list[int] = []
        async with subscribed(server) as client:
            while len(numbers) < 60:
                payload = await client.recv()
                try:
                    message = orjson.loads(payload)
                    numbers.append(message["t"])
                except (orjson.JSONDecodeError, KeyError, TypeError):
                    strange.append(payload)
        (one,) = strange
        assert rises_by_one(numbers)
        assert isinstance(one, bytes) == (kind is FaultKind.BINARY)
        assert (len(one) > 2**21) == (kind is FaultKind.OVERSIZE)
        if kind is FaultKind.HALF_VALID:
            assert str(one).startswith('{"e":"trade"'[: len(one)])


async def test_an_aggregate_trade_is_missing_with_all_trades_in_it() -> None:
    async with faulty() as server, connect(f"{server.url}/btcusdt@aggTrade") as client:
        inject(server, FaultKind.DROP_TRADE, count=20)
        seen: list[dict[str, Any]] = []
        while len(seen) < 60 or applied(server, FaultKind.DROP_TRADE) < 20:
            seen.append(orjson.loads(await client.recv(decode=False)))
        record = server.record.connections[0]
        assert seen[-1]["a"] - seen[0]["a"] + 1 >= len(seen)
        covered = {number for one in seen for number in range(one["f"], one["l"] + 1)}
        assert covered <= set(record.sent[SYMBOL])
        assert not covered & set(record.dropped[SYMBOL])
        assert len(record.dropped[SYMBOL]) > 20


# Requests.


async def test_a_request_that_is_never_acknowledged_is_not_obeyed_either() -> None:
    async with faulty() as server, connect(server.url) as client:
        inject(server, FaultKind.NEVER_ACK)
        await client.send(SUBSCRIBE)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.recv(), 0.2)
        await client.send(SUBSCRIBE)
        assert orjson.loads(await client.recv()) == {"result": None, "id": 1}
        assert len(await trades(client, 3)) == 3


async def test_a_late_ack_comes_late_and_before_the_first_trade() -> None:
    async with faulty() as server, connect(server.url) as client:
        inject(server, FaultKind.LATE_ACK, seconds=0.3)
        watch = Stopwatch()
        await client.send(SUBSCRIBE)
        assert orjson.loads(await client.recv()) == {"result": None, "id": 1}
        assert watch.seconds == 0.3
        assert len(await trades(client, 3)) == 3


async def test_a_silent_subscription_is_acknowledged_and_sends_nothing() -> None:
    async with faulty() as server, connect(server.url) as client:
        inject(server, FaultKind.SILENT_SUBSCRIPTION)
        await client.send(SUBSCRIBE)
        assert orjson.loads(await client.recv()) == {"result": None, "id": 1}
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.recv(), 0.2)
        assert server.record.connections[0].sent == {}


async def test_a_lost_ack_is_none_though_the_request_was_executed() -> None:
    async with faulty() as server, connect(server.url) as client:
        inject(server, FaultKind.LOST_ACK)
        await client.send(SUBSCRIBE)
        assert orjson.loads(await client.recv())["e"] == "trade"
        assert what(server) == ["opened", "lost_ack", "carried"]


async def test_a_slow_ack_comes_behind_the_first_trades() -> None:
    async with faulty() as server, connect(server.url) as client:
        inject(server, FaultKind.SLOW_ACK, seconds=0.3)
        watch = Stopwatch()
        await client.send(SUBSCRIBE)
        seen = [orjson.loads(await client.recv())]
        while "id" not in seen[-1]:
            seen.append(orjson.loads(await client.recv()))
        assert 0.3 <= watch.seconds <= 0.3 + 0.01
        assert rises_by_one(ids(seen[:-1]))
        assert what(server) == ["opened", "slow_ack", "carried", "acked"]


async def test_a_swapped_ack_comes_behind_that_of_the_next_request_and_without_one_after_a_while() -> None:
    other = SUBSCRIBE.replace("btc", "eth").replace("1", "2")
    async with faulty(symbols=["BTCUSDT", "ETHUSDT"]) as server, connect(server.url) as client:
        inject(server, FaultKind.SWAPPED_ACKS, seconds=9.0)
        await client.send(SUBSCRIBE)
        await client.send(other)
        answers: list[int] = []
        while len(answers) < 2:
            message = orjson.loads(await client.recv())
            answers += [message["id"]] if "id" in message else []
        assert answers == [2, 1]
        inject(server, FaultKind.SWAPPED_ACKS, seconds=0.5)
        watch = Stopwatch()
        await client.send(SUBSCRIBE.replace("SUB", "UNSUB").replace("1", "3"))
        while "id" not in (message := orjson.loads(await client.recv())):
            pass
        assert message["id"] == 3
        assert 0.5 <= watch.seconds <= 0.5 + 0.01


# Silence, lag, and what no bar can hold.


async def test_a_muted_symbol_brings_nothing_until_it_is_subscribed_again_while_acks_and_others_come() -> None:
    both = '{"method":"SUBSCRIBE","params":["btcusdt@trade","ethusdt@trade"],"id":1}'
    async with faulty(symbols=["BTCUSDT", "ETHUSDT"]) as server, connect(server.url) as client:
        await client.send(both)
        await client.recv()
        inject(server, FaultKind.MUTE, count=0, symbol="ETHUSDT")
        await until(lambda: applied(server, FaultKind.MUTE))
        seen = await trades(client, 300)
        assert {message["s"] for message in seen[-250:]} == {"BTCUSDT"}
        await client.send(both)
        seen = await trades(client, 300)
        assert {message["s"] for message in seen} == {"BTCUSDT", "ETHUSDT"}
        assert what(server, "ETHUSDT") == ["opened", "acked", "carried", "mute", "acked", "carried"]
        assert what(server, "BTCUSDT") == ["opened", "acked", "carried", "acked", "carried"]


async def test_a_lagging_connection_brings_everything_late_and_in_order() -> None:
    async with faulty() as server, subscribed(server) as client:
        before = await trades(client, 5)
        inject(server, FaultKind.LAG, seconds=0.5)
        await until(lambda: applied(server, FaultKind.LAG))
        watch = Stopwatch()
        seen = before + await trades(client, 100)
        assert rises_by_one(ids(seen))
        await client.send(SUBSCRIBE.replace("SUB", "UNSUB"))
        watch = Stopwatch()
        while "id" not in orjson.loads(await client.recv()):
            pass
        assert watch.seconds == pytest.approx(0.5, abs=0.01)


async def test_a_connection_that_is_cut_off_ends_in_the_middle_of_a_message_that_was_not_sent() -> None:
    async with faulty() as server, subscribed(server) as client:
        seen = await trades(client, 5)
        inject(server, FaultKind.CUT_OFF)
        with pytest.raises(ConnectionClosedError) as closed:
            await drain(client, seen)
        assert closed.value.rcvd is None
        assert server.record.connections[0].sent[SYMBOL] == ids(seen)


async def test_a_trade_that_no_bar_can_hold_has_a_price_of_19_decimals_and_is_recorded_as_such() -> None:
    async with faulty() as server, subscribed(server) as client:
        inject(server, FaultKind.UNFIT_TRADE, count=2)
        seen = await trades(client, 50)
        assert rises_by_one(ids(seen))
        unfit = [message for message in seen if len(message["p"].partition(".")[2]) == 19]
        assert ids(unfit) == server.record.connections[0].unfit[SYMBOL]
        assert len(unfit) == 2


@pytest.mark.parametrize("first_id", [1, None])
async def test_ids_that_begin_anew_go_on_from_there_and_the_history_holds_what_has_one_order(
    first_id: int | None,
) -> None:
    async with faulty() as server, subscribed(server) as client:
        before = ids(await trades(client, 20))
        inject(server, FaultKind.RENEW_IDS, symbol=SYMBOL, first_id=first_id)
        await until(lambda: server.record.renewals[SYMBOL])
        ((at_ms, first),) = server.record.renewals[SYMBOL]
        numbers = before + ids(await trades(client, 400))
        place = numbers.index(first)
        assert rises_by_one(numbers[:place])
        assert rises_by_one(numbers[place:])
        assert first == 1 if first_id == 1 else first > numbers[place - 1] + 10**5
        assert at_ms <= server.record.now_ms()
        served = [one.trade_id for one in server.record.history(SYMBOL)]
        assert served == sorted(served)
        assert (served[0] == first) == (first_id == 1)
        assert len(server.record.trades(SYMBOL)) >= len(numbers)


async def test_a_history_that_lags_lacks_the_latest_trades() -> None:
    async with faulty() as server:
        assert server.rest is not None
        await asyncio.sleep(3.0)
        target = f"/api/v3/historicalTrades?symbol={SYMBOL}&limit=1"
        for lag_ms in (0, 1000, 2500):
            server.rest.lag_ms = lag_ms
            answer = server.rest.answer(target)
            assert answer is not None
            (newest,) = orjson.loads(answer.body)
            until_ms = server.record.now_ms() - lag_ms
            expected = [one.trade_id for one in server.record.history(SYMBOL) if one.time_ms < until_ms or not lag_ms]
            assert newest["id"] == expected[-1]


# Scripts, and the record.


def test_a_script_is_the_same_for_the_same_seed_and_about_as_dense_as_asked_for() -> None:
    scripts = [Faults(seed).schedule(100.0, 1.0) for seed in (1, 1, 2)]
    assert scripts[0] == scripts[1] != scripts[2]
    assert 80 < len(scripts[0]) < 120
    assert all(0 < at_s < 100 for at_s, _ in scripts[0])
    assert {fault.kind for _, fault in Faults(3).schedule(1_000.0, 1.0)} == set(FaultKind)
    only = Fault(FaultKind.CLOSE, code=1011)
    assert {fault for _, fault in Faults(1).schedule(10.0, 1.0, [only])} == {only}


async def test_a_script_runs_in_its_own_time() -> None:
    async with faulty() as server, subscribed(server) as client:
        script = [(0.1, Fault(FaultKind.DUPLICATE)), (0.2, Fault(FaultKind.GARBAGE)), (0.3, Fault(FaultKind.DROP))]
        await server.run_script(script)
        with pytest.raises(ConnectionClosed):
            await drain(client)
        assert server.faults is not None
        assert server.faults.injected == {FaultKind.DUPLICATE: 1, FaultKind.GARBAGE: 1, FaultKind.DROP: 1}
        async with subscribed(server):  # what came too late for the first connection befalls this one
            assert server.faults is not None
            assert server.faults.applied == server.faults.injected


async def test_a_fault_waits_until_there_is_something_to_befall() -> None:
    async with faulty() as server:
        inject(server, FaultKind.DROP)
        inject(server, FaultKind.DUPLICATE)
        await asyncio.sleep(0.05)
        assert (applied(server, FaultKind.DROP), applied(server, FaultKind.DUPLICATE)) == (0, 0)
        async with connect(server.url) as client:
            with pytest.raises(ConnectionClosed):
                await client.recv()
        assert applied(server, FaultKind.DROP) == 1


async def test_the_record_has_every_trade_and_what_each_connection_asked_for_and_was_sent() -> None:
    async with faulty(symbols=[SYMBOL, "ETHUSDT"]) as server:
        async with subscribed(server) as client:
            numbers = ids(await trades(client, 50))
        await until(lambda: server.record.connections[0].closed_s is not None)
        (connection,) = server.record.connections
        assert (connection.number, connection.path) == (0, "/ws")
        assert [payload for _, payload in connection.requests] == [SUBSCRIBE.encode()]
        assert list(connection.subscribed) == ["btcusdt@trade"]
        assert connection.most_streams == 1
        assert connection.sent[SYMBOL][:50] == numbers
        assert "ETHUSDT" not in connection.sent
        known = [trade.trade_id for trade in server.record.trades(SYMBOL)]
        assert set(connection.sent[SYMBOL]) <= set(known)
        assert rises_by_one(known)
        assert server.record.sent("ETHUSDT") == set()
        assert server.record.trades("ETHUSDT")


SURVIVED = [
    Fault(FaultKind.DROP), Fault(FaultKind.CLOSE), Fault(FaultKind.DUPLICATE, count=5), Fault(FaultKind.REORDER),
    Fault(FaultKind.DROP_TRADE), Fault(FaultKind.CUT_FRAME, count=5), Fault(FaultKind.GARBAGE), Fault(FaultKind.BINARY),
    Fault(FaultKind.HALF_VALID), Fault(FaultKind.DELAY, seconds=0.1), Fault(FaultKind.REFUSE, status=503),
    Fault(FaultKind.LATE_ACK, seconds=0.1), Fault(FaultKind.LIFETIME, seconds=0.2), Fault(FaultKind.STALL, seconds=0.2),
]  # fmt: skip


async def live_through(exchange: str, seconds: float) -> None:
    async with faulty(exchange, symbols=3, faults=Faults(seed=11), rate=600.0) as server:
        assert server.faults is not None
        config = StreamConfig(close_by="trades", reconnect_delay=0.01, circuit_breaker_threshold=1_000)
        stream = fastbars.stream(exchange, server.symbols, "1s", url=server.url, config=config)
        async with stream:
            await server.run_script(server.faults.schedule(seconds, 0.15, SURVIVED))
            await until(lambda: stream.adapter.is_connected)
            before = stream.stats().session.trades
            await until(lambda: stream.stats().session.trades > before + 5)
        stats, applied = stream.stats(), server.faults.applied
        counted = stats.session.trades - stats.buffer.duplicates  # those with numbers; the others were not taken
        assert stats.buffer.trades + stats.buffer.late == counted > 0
        sent = sum(len(server.record.sent(symbol)) for symbol in server.symbols)
        has_ids = exchange != "interactive_brokers"  # elsewhere a trade that comes twice counts twice
        every = sum(len(numbers) for connection in server.record.connections for numbers in connection.sent.values())
        assert counted <= (sent if has_ids else every)
        # Only what was handed to a socket just before its end can be missing.
        ends = sum(applied[kind] for kind in (FaultKind.DROP, FaultKind.CLOSE, FaultKind.LIFETIME)) + 1
        assert not has_ids or sent - counted <= 150 * ends
        assert stats.buffer.refused == 0
        assert sum(applied.values()) >= 15


async def test_a_stream_of_each_venue_lives_through_a_script_of_faults_and_accounts_for_its_trades() -> None:
    await asyncio.gather(*(live_through(exchange, 4.0) for exchange in dialects()))
