"""Several venues in one stream: one iterator, each venue for itself; one that fails for good ends alone."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import fastbars
from fastbars import OHLCVBar, StreamConfig, VenueStreams
from fastbars.bar_stream import BarStream
from fastbars.cli import main
from fastbars.cli.options import make_parser
from fastbars.errors import SpecError, SubscriptionError, UnknownExchangeError, WSConnectionError
from fastbars.exchanges import find_exchange
from fastbars.live.stats import StreamStats, together
from fastbars.simulator import SimulatedExchange
from servers import MINUTE_MS, TradeServer, keep_silent, refuse, show, trade, trades, until
from test_cli import signalled, simulated

CONFIG = StreamConfig(close_by="trades", reconnect_delay=0.01, reconnect_max_delay=0.01, reconnect_attempts=1)
BOTH = {"binance": ["BTCUSDT"], "binance:us": ["BTCUSDT"]}


class Pair(NamedTuple):
    """Two venues, both of which write as Binance does."""

    spot: TradeServer
    us: TradeServer

    def stream(self, **options: Any) -> VenueStreams:
        urls = {"binance": self.spot.url, "binance:us": self.us.url}
        given: dict[str, Any] = {"url": urls, "config": CONFIG} | options
        return fastbars.stream(BOTH, **given)


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    async with TradeServer() as spot, TradeServer() as us:
        yield Pair(spot, us)


def marked(bars: list[OHLCVBar]) -> list[tuple[str, int | None]]:
    return [(bar.market, bar.last_trade_id) for bar in bars]


async def take(bars: Any, count: int) -> list[tuple[str, int | None]]:
    return marked([await anext(bars) for _ in range(count)])


async def rest_of(bars: Any) -> list[OHLCVBar]:
    return [bar async for bar in bars]


@pytest.mark.usefixtures("no_task_is_left_behind")
async def test_bars_of_all_venues_come_from_one_iterator_and_name_theirs(pair: Pair) -> None:
    seen: list[OHLCVBar] = []
    async with pair.stream(on_bar=seen.append, bars=["1m", "tick:2"]) as bars:
        await pair.spot.send(trade(1, 0), trade(2, 1))
        await pair.us.send(trade(71, 0, "90"), trade(72, MINUTE_MS, "91"))
        first, second, third = [await anext(bars) for _ in range(3)]
        assert {(bar.exchange, bar.market, bar.spec) for bar in (first, second, third)} == {
            ("binance", "spot", "tick:2"),
            ("binance", "us", "tick:2"),
            ("binance", "us", "1m"),
        }
        assert {id(bar) for bar in (first, second, third)} == {id(bar) for bar in seen}
        current = bars.current("btcusdt", "1m", venue="binance:us")
        assert current is not None
        assert show([current]) == ["23:55:00 1m 91 91 91 91 v1 n1 72-72 PARTIAL r0 open"]
        assert bars.current("ETHUSDT", "1m", venue="binance") is None
        with pytest.raises(UnknownExchangeError, match="unknown venue 'okx'; this stream has binance, binance:us"):
            bars.current("BTCUSDT", "1m", venue="okx")
        with pytest.raises(SpecError):
            bars.current("BTCUSDT", "2m", venue="binance")
        stats = bars.stats()
        assert (stats.session.trades, stats.buffer.bars, stats.connections, stats.symbols) == (4, 3, 2, 2)
        assert {name: one.session.trades for name, one in stats.venues.items()} == {"binance": 2, "binance:us": 2}
        assert (stats.state, bars.state, stats.failure) == ("connected", "connected", "")
        await bars.stop()
        assert sorted(marked([bar async for bar in bars])) == [("spot", 2), ("us", 72)]
    assert len(bars.healing()) == 2
    assert bars.holes() == {"binance": {}, "binance:us": {}}


@pytest.mark.usefixtures("no_task_is_left_behind")
async def test_one_that_fails_for_good_ends_alone_with_a_word_and_the_last_one_raises(pair: Pair) -> None:
    errors: list[Exception] = []
    states: list[str] = []
    async with pair.stream(on_error=errors.append, on_state=states.append) as bars:
        loop, updates = aiter(bars), bars.updates()
        await pair.spot.send(trade(1, 0), trade(2, MINUTE_MS))
        assert await take(loop, 1) == [("spot", 1)]
        await pair.us.send(trade(1, 0))
        await until(lambda: bars.stats().session.trades == 3)
        await pair.us.shut()
        await until(lambda: errors)
        assert "gave up after 1 attempts" in str(errors[0])
        assert "binance us" in str(errors[0]) or pair.us.url in str(errors[0])
        assert await take(loop, 1) == [("us", 1)]  # what was open is issued
        stats = bars.stats()
        assert (stats.state, stats.failure) == ("connected", "")
        assert stats.venues["binance:us"].failure == str(errors[0])
        await pair.spot.send(trade(3, 2 * MINUTE_MS))
        assert await take(loop, 1) == [("spot", 2)]
        with pytest.raises(WSConnectionError):
            await bars.subscribe({"binance:us": ["ETHUSDT"]})
        await pair.spot.shut()
        assert await take(loop, 1) == [("spot", 3)]
        with pytest.raises(WSConnectionError, match="gave up") as raised:
            await anext(loop)
        assert str(errors[0]) in str(raised.value)
        assert str(raised.value).count("gave up") == 2
        await until(lambda: len(errors) == 2)
        with pytest.raises(StopAsyncIteration):
            await anext(loop)
        assert bars.stats().failure.count("gave up") == 2
        with pytest.raises(WSConnectionError, match="gave up"):
            await rest_of(updates)
    assert states == ["connecting", "connected", "reconnecting", "connected", "reconnecting", "disconnected"]


@pytest.mark.usefixtures("no_task_is_left_behind")
async def test_one_that_was_stopped_or_closed_in_order_and_one_that_fails_end_the_iteration(pair: Pair) -> None:
    async with pair.stream(once=True) as bars:
        await pair.spot.send(trade(1, 0))
        await pair.us.send(trade(1, 0))
        await until(lambda: bars.stats().session.trades == 2)
        await pair.spot.close(1000)
        await pair.us.shut()
        assert sorted(marked([bar async for bar in bars])) == [("spot", 1), ("us", 1)]
        assert bars.venues["binance"].failure is None
        assert bars.venues["binance:us"].failure is not None


@pytest.mark.usefixtures("no_task_is_left_behind")
async def test_entering_connects_all_or_none_and_names_what_cannot_be(pair: Pair) -> None:
    await pair.us.shut()
    with pytest.raises(WSConnectionError) as raised:
        async with pair.stream():
            raise AssertionError("it was entered")
    assert "binance us" in str(raised.value) or pair.us.url in str(raised.value)
    await until(lambda: not pair.spot.connections)
    await pair.spot.shut()
    with pytest.raises(WSConnectionError) as raised:
        async with pair.stream():
            raise AssertionError("it was entered")
    assert [note.partition(":")[0] for note in raised.value.__notes__] == ["binance"]


@pytest.mark.usefixtures("no_task_is_left_behind")
async def test_a_symbol_that_one_venue_refuses_is_an_error_of_entering(pair: Pair) -> None:
    pair.us.answer = refuse("btcusdt@trade")
    bars = pair.stream()
    with pytest.raises(SubscriptionError, match="binance us"):
        async with bars:
            raise AssertionError("it was entered")
    await until(lambda: not pair.spot.connections)
    with pytest.raises(RuntimeError, match="entered before"):
        await bars.__aenter__()


@pytest.mark.usefixtures("no_task_is_left_behind")
async def test_entering_that_is_cancelled_leaves_nothing_behind(pair: Pair) -> None:
    pair.us.answer = keep_silent
    entering = asyncio.create_task(pair.stream().__aenter__())
    await until(lambda: pair.us.requests and pair.spot.connections)
    entering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await entering
    await until(lambda: not pair.spot.connections and not pair.us.connections)


@pytest.mark.usefixtures("no_task_is_left_behind")
async def test_symbols_are_subscribed_and_unsubscribed_by_venue(pair: Pair) -> None:
    async with pair.stream() as bars:
        await bars.subscribe({"binance:us": ["ETHUSDT", "solusdt"], "binance": ["ADAUSDT"]})
        assert pair.spot.streams == ["btcusdt@trade", "adausdt@trade"]
        assert pair.us.streams == ["btcusdt@trade", "ethusdt@trade", "solusdt@trade"]
        await bars.unsubscribe({"binance:us": ["BTCUSDT"]})
        assert sorted(bars.venues["binance:us"].adapter.active_subscriptions) == ["ETHUSDT", "SOLUSDT"]
        with pytest.raises(UnknownExchangeError, match="unknown venue 'kraken'"):
            await bars.subscribe({"binance": ["XRPUSDT"], "kraken": ["BTC/USD"]})
        with pytest.raises(TypeError, match="are given by venue"):
            await bars.subscribe(["XRPUSDT"])  # type: ignore[arg-type]
        pair.us.answer = pair.spot.answer = refuse("xrpusdt@trade")
        with pytest.raises(SubscriptionError, match="XRPUSDT") as raised:
            await bars.subscribe({"binance": ["XRPUSDT"], "binance:us": ["XRPUSDT"]})
        assert len(raised.value.__notes__) == 1
        assert "xrpusdt@trade" in pair.spot.streams


@pytest.mark.usefixtures("no_task_is_left_behind")
async def test_a_busy_venue_keeps_none_of_a_quiet_one_waiting_for_more_than_one_bar(pair: Pair) -> None:
    async with pair.stream(bars="tick:1") as bars:
        await pair.spot.send(*trades(1, 500))
        await until(lambda: bars.stats().session.trades == 500)
        loop = aiter(bars)
        assert await take(loop, 100) == [("spot", number) for number in range(1, 101)]
        await pair.us.send(*trades(1, 3))
        await until(lambda: bars.stats().session.trades == 503)
        following = await take(loop, 6)
        assert [market for market, _ in following].count("us") == 3
        assert all("us" in (one[0], other[0]) for one, other in pairwise(following))


@pytest.mark.usefixtures("no_task_is_left_behind")
async def test_a_slow_loop_stops_the_reading_of_each_venue_and_no_bar_is_lost(pair: Pair) -> None:
    config = StreamConfig(close_by="trades", queue_size=10)
    async with pair.stream(bars="tick:1", config=config) as bars:
        loop = aiter(bars)
        for number in range(1, 61):
            await pair.spot.send(trade(number, number))
            await pair.us.send(trade(number, number))
            await asyncio.sleep(0.01)
        assert {name: one.pauses for name, one in bars.stats().venues.items()} == {"binance": 1, "binance:us": 1}
        assert bars.stats().session.trades < 60
        given = await take(loop, 120)
        for market in ("spot", "us"):
            assert [number for one, number in given if one == market] == [*range(1, 61)]


@pytest.mark.usefixtures("no_task_is_left_behind")
async def test_updates_of_all_venues_come_behind_the_issued_bars_of_all(pair: Pair) -> None:
    shown: list[OHLCVBar] = []
    async with pair.stream(on_update=shown.append, updates=0.25) as bars:
        await pair.spot.send(trade(1, 0), trade(2, MINUTE_MS))
        await pair.us.send(trade(1, 0), trade(2, MINUTE_MS))
        await until(lambda: bars.stats().session.trades == 4)
        loop = bars.updates()
        given = [await anext(loop) for _ in range(4)]
        assert [bar.close_reason for bar in given] == ["trade", "trade", "open", "open"]
        assert {bar.market for bar in given[2:]} == {"spot", "us"}
        await asyncio.sleep(0.5)
        assert {bar.market for bar in shown} == {"spot", "us"}


def states_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.state"))


@pytest.mark.usefixtures("no_task_is_left_behind")
async def test_each_venue_has_its_state_file_and_what_was_not_confirmed_comes_again(pair: Pair, tmp_path: Path) -> None:
    config = StreamConfig(close_by="trades", state=str(tmp_path / "bars.state"))
    with contextlib.suppress(ZeroDivisionError):
        async with pair.stream(bars="tick:1", config=config) as bars:
            await pair.spot.send(*trades(1, 2))
            await pair.us.send(*trades(1, 1))
            await until(lambda: bars.stats().session.trades == 3)
            async for bar in bars:
                if bar.market == "us":
                    raise ZeroDivisionError
    assert states_in(tmp_path) == ["bars.binance-spot.state", "bars.binance-us.state"]
    async with pair.stream(bars="tick:1", config=config) as bars:
        assert await take(aiter(bars.venues["binance:us"]), 1) == [("us", 1)]
    own = {"binance:us": StreamConfig(close_by="trades", state=str(tmp_path / "mine.state"))}
    async with pair.stream(config=own):
        await pair.us.send(trade(9, 0))
        await asyncio.sleep(1.0)
    assert states_in(tmp_path) == ["bars.binance-spot.state", "bars.binance-us.state", "mine.state"]


@pytest.mark.usefixtures("no_task_is_left_behind")
async def test_one_recording_holds_all_and_replays_to_the_same_bars(pair: Pair, tmp_path: Path) -> None:
    async with pair.stream(bars=["1m", "tick:2"], record=tmp_path) as bars:
        await pair.spot.send(*trades(1, 5, step_ms=MINUTE_MS // 2))
        await pair.us.send(*trades(1, 4, step_ms=MINUTE_MS // 2))
        await until(lambda: bars.stats().session.trades == 9)
        await bars.stop()
        live = [bar async for bar in bars]
        assert bars.recording is not None
    replayed = list(fastbars.replay(tmp_path))
    for market in ("spot", "us"):
        assert [bar for bar in replayed if bar.market == market] == [bar for bar in live if bar.market == market]
    assert {bar.market for bar in replayed} == {"spot", "us"}


@pytest.mark.usefixtures("no_task_is_left_behind")
async def test_two_different_exchanges_are_verified_together() -> None:
    async with (
        SimulatedExchange("binance", symbols=["BTCUSDT", "ETHUSDT"], rate=300.0, record=True) as binance,
        SimulatedExchange("bybit", market="linear", symbols=["BTCUSDT"], rate=300.0, record=True) as bybit,
    ):
        urls = {"binance": binance.url, "bybit:linear": bybit.url}
        symbols = {"binance": ["BTCUSDT", "ETHUSDT"], "bybit:linear": ["BTCUSDT"]}
        async with fastbars.stream(symbols, bars="1s", url=urls) as bars:
            loop = aiter(bars)
            seen: list[OHLCVBar] = []
            while len({(bar.exchange, bar.symbol) for bar in seen}) < 3 or len(seen) < 12:
                seen.append(await anext(loop))
        assert {(bar.exchange, bar.market) for bar in seen} == {("binance", "spot"), ("bybit", "linear")}
        statuses = {bar.exchange: bar.status for bar in seen}
        assert statuses["bybit"] == "UNVERIFIABLE"
        assert bars.verification is None


def test_what_is_wrong_is_refused_at_once(tmp_path: Path) -> None:
    stream: Any = fastbars.stream
    with pytest.raises(ValueError, match="no venue is given"):
        stream({})
    with pytest.raises(ValueError, match="binance and binance:spot are one venue"):
        stream({"binance": ["BTCUSDT"], "binance:spot": ["ETHUSDT"]})
    with pytest.raises(UnknownExchangeError, match="unknown market 'swap'"):
        stream({"binance:swap": ["BTCUSDT"]})
    with pytest.raises(UnknownExchangeError, match="url: unknown venue 'okx'; given are binance"):
        stream({"binance": ["BTCUSDT"]}, url={"okx": "ws://localhost"})
    with pytest.raises(TypeError, match="of several venues are given together"):
        stream({"binance": ["BTCUSDT"]}, ["BTCUSDT"])
    with pytest.raises(TypeError, match="of several venues are given together"):
        stream({"binance": ["BTCUSDT"]}, market="usdm")
    with pytest.raises(TypeError, match="mappings only where several venues are given"):
        stream("binance", ["BTCUSDT"], url={"binance": "ws://localhost"})
    with pytest.raises(TypeError, match="symbols are missing"):
        stream("binance")
    with pytest.raises(TypeError, match="list of strings"):
        stream({"binance": "BTCUSDT"})
    with pytest.raises(SubscriptionError):
        stream({"binance": ["BTCUSDT"], "kraken": ["?"]}, record=tmp_path)
    with pytest.raises(TypeError, match="on_state must be a plain function"):
        stream({"binance": ["BTCUSDT"]}, on_state=asyncio.sleep)


@pytest.mark.usefixtures("no_task_is_left_behind")
async def test_it_cannot_be_iterated_over_before_it_is_entered() -> None:
    bars = fastbars.stream({"binance": ["BTCUSDT"]})
    for begin in (bars.__aiter__, bars.updates):
        with pytest.raises(RuntimeError, match="not connected"):
            begin()


def test_it_has_what_a_stream_of_one_venue_has() -> None:
    one, several = (
        {name for name, _ in inspect.getmembers(kind) if not name.startswith("_")} for kind in (BarStream, VenueStreams)
    )
    assert one - several == {"open_bars", "wait_ended"}  # with which it is made


def test_an_exchange_and_its_market_may_be_one_name() -> None:
    assert find_exchange("bybit:linear") is find_exchange("bybit", "linear")
    assert find_exchange("okx:spot@eea") is find_exchange("okx", "spot@eea")
    for wrong in ("binance:", ":spot", "binance:spot:x"):
        with pytest.raises(UnknownExchangeError):
            find_exchange(wrong)


def test_together_has_every_counter_of_each() -> None:
    counted = {
        "state",
        "session",
        "buffer",
        "latency_s",
        "event_time_ns",
        "lines",
        "clock_offset_s",
        "failure",
        "sinks",
        "venues",
    }
    largest = {"grace_s", "delay_p50_s", "delay_p999_s"}
    bars = fastbars.stream({"binance": ["BTCUSDT"], "okx": ["BTC-USDT"]})
    each = {name: one.stats() for name, one in bars.venues.items()}
    for field in fields(StreamStats):
        if field.name not in counted | largest:
            object.__setattr__(each["okx"], field.name, 5)
            object.__setattr__(each["binance"], field.name, 3)

    both = together(each)
    for field in fields(StreamStats):
        if field.name not in counted | largest:
            assert getattr(both, field.name) == 8, field.name


# The command.


def test_the_command_takes_other_venues_behind_and() -> None:
    options = make_parser().parse_args(
        [
            "stream",
            "binance",
            "BTCUSDT",
            "--and",
            "bybit:linear",
            "BTCUSDT",
            "ETHUSDT",
            "--bars",
            "1m",
            "--and",
            "okx",
            "X",
        ]
    )
    assert options.symbols == ["BTCUSDT"]
    assert options.others == [["bybit:linear", "BTCUSDT", "ETHUSDT"], ["okx", "X"]]
    assert make_parser().parse_args(["stream", "binance", "BTCUSDT"]).others == []


def test_the_command_streams_two_venues_until_it_is_interrupted(tmp_path: Path) -> None:
    output = tmp_path / "bars"

    def both_have_traded() -> bool:
        content = output.read_bytes() if output.exists() else b""
        return b"binance,spot,BTCUSDT,tick:5," in content and b"bybit,linear,BTCUSDT,tick:5," in content

    one = ["--symbols", "1", "--rate", "200"]
    with simulated(*one) as spot, simulated(*one, "--exchange", "bybit", "--market", "linear") as bybit:
        arguments = ["stream", "binance", "BTCUSDT", "--and", "bybit:linear", "BTCUSDT", "--bars", "tick:5,1mo"]
        urls = ["--url", spot, "--url", f"bybit:linear={bybit}"]
        with signalled(both_have_traded):
            assert main([*arguments, *urls, "--format", "csv", "-o", str(output)]) == 0
    head, *rows = [line.split(",") for line in output.read_text(encoding="utf-8").splitlines()]
    reason = head.index("close_reason")
    assert sorted((*row[:4], row[reason]) for row in rows if row[3] == "1mo") == [
        ("binance", "spot", "BTCUSDT", "1mo", "end"),
        ("bybit", "linear", "BTCUSDT", "1mo", "end"),
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--and bybit:linear", "--and bybit:linear: no symbols are given"),
        ("--and nowhere X", "unknown exchange 'nowhere'"),
        ("--and binance:spot ETHUSDT", "binance and binance:spot are one venue"),
        ("--and okx BTC-USDT --url kraken=ws://localhost", "url: unknown venue 'kraken'; given are binance, okx"),
        ("--url kraken=ws://localhost", "--url kraken=...: no such venue; given is binance"),
    ],
)
def test_what_is_wrong_with_the_command_is_one_line(
    arguments: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["stream", "binance", "BTCUSDT", *arguments.split()]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert message in captured.err
