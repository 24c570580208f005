"""Live streams over real sockets against the simulator and its REST API: what was missed is fetched."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import orjson
import pytest

import fastbars
from fastbars import OHLCVBar, StreamConfig
from fastbars.bars import BarStatus
from fastbars.errors import RestError, SnapshotError
from fastbars.exchanges import find_exchange
from fastbars.exchanges.messages import Trade
from fastbars.live import snapshots
from fastbars.live.healing import healer as healing
from fastbars.live.healing.healer import Healer
from fastbars.live.healing.upkeep import Upkeep
from fastbars.live.rest import Answer, RestClient
from fastbars.live.session import Session
from fastbars.simulator import SimulatedExchange
from fastbars.simulator.faults import Fault, FaultKind, Faults
from fastbars.simulator.rest import RestFault
from fastbars.ticks import to_nanoseconds
from servers import START_MS, trade, until

FIELDS = ("open", "high", "low", "close", "volume", "quote_volume", "trade_count", "first_trade_id", "last_trade_id")
VENUES = [("binance", "spot"), ("okx", "spot"), ("coinbase", "spot"), ("kraken", "spot"), ("deribit", "linear")]

Key = tuple[str, datetime]


def truth(exchange: SimulatedExchange, symbol: str, opened: datetime) -> tuple[object, ...]:
    """The fields of the second that begins at `opened`, from what the simulator traded."""
    open_ms = to_nanoseconds(opened) // 1_000_000
    trades = [one for one in exchange.record.trades(symbol) if open_ms <= one.time_ms < open_ms + 1000]
    prices = [one.price for one in trades]
    return (
        prices[0], max(prices), min(prices), prices[-1], sum(one.size for one in trades),
        sum(one.price * one.size for one in trades), len(trades), trades[0].trade_id, trades[-1].trade_id,
    )  # fmt: skip


def fields(bar: OHLCVBar) -> tuple[object, ...]:
    return tuple(getattr(bar, name) for name in FIELDS)


def of_status(bars: Mapping[Key, OHLCVBar], status: BarStatus) -> list[OHLCVBar]:
    return [bar for bar in bars.values() if bar.status is status]


@pytest.mark.parametrize(("name", "market"), VENUES)
async def test_bars_that_an_outage_has_torn_are_healed_and_equal_the_market(name: str, market: str) -> None:
    bars: dict[Key, OHLCVBar] = {}
    faults = Faults(1)
    async with SimulatedExchange(name, market=market, symbols=2, rate=400, faults=faults, seed=3) as exchange:
        config = StreamConfig(reconnect_delay=0.3, reconnect_max_delay=0.6, rest_url=exchange.rest_url, grace=0.2)
        stream = fastbars.stream(name, exchange.symbols, "1s", market=market, url=exchange.url, config=config)
        async with stream as feed:

            async def read() -> None:
                async for bar in feed:
                    bars[bar.symbol, bar.open_time] = bar

            reader = asyncio.create_task(read())
            await until(lambda: len(bars) >= 2)
            for _ in range(2):
                faults.inject(Fault(FaultKind.DROP_TRADE, count=3))
                faults.inject(Fault(FaultKind.REFUSE, count=2, status=503))
                exchange.abort_all()
                connections = feed.stats().connections
                await until(lambda: feed.stats().connections > connections)  # noqa: B023 it is waited for here
                # A second of each symbol that is torn, and one that is not: each outage tears bars of its own.
                back = len(bars)
                await until(lambda: len(bars) >= back + 4)  # noqa: B023
            await until(lambda: not feed.holes() and len(of_status(bars, BarStatus.HEALED)) >= 2, 20)
            await until(lambda: of_status(bars, BarStatus.GAP) == [])  # the last one's end is proven by the next trade
            healed = feed.healing()[0]
        await reader
    assert healed.trades >= 1
    for symbol in exchange.symbols:
        _, *inner, _ = [bars[key] for key in sorted(bars) if key[0] == symbol]  # it began and ended inside bars
        assert len(inner) >= 3
        assert [bar for bar in inner if not bar.is_complete] == []
    proven = [bar for bar in bars.values() if bar.is_complete and bar.trade_count]
    assert len(proven) >= 4
    for bar in proven:
        assert fields(bar) == truth(exchange, bar.symbol, bar.open_time)


async def test_past_trades_of_futures_are_asked_for_with_the_key() -> None:
    bars: list[OHLCVBar] = []
    faults = Faults(1)
    # One hole, and no beginning to look for: each request costs a twelfth of what the exchange allows in a minute.
    async with SimulatedExchange(market="usdm", symbols=1, rate=200, faults=faults, voids_per_minute=0.0) as exchange:
        config = StreamConfig(rest_url=exchange.rest_url, grace=0.2, backfill=0.0, api_key="key")
        stream = fastbars.stream(
            "binance", exchange.symbols, "1s", market="usdm", url=exchange.url, config=config, on_bars=bars.extend
        )
        async with stream:
            await until(lambda: len(bars) >= 2)
            faults.inject(Fault(FaultKind.DROP_TRADE, count=3))
            await until(lambda: any(bar.status is BarStatus.HEALED for bar in bars), 20)
        for bar in bars:
            assert not bar.is_complete or fields(bar) == truth(exchange, bar.symbol, bar.open_time)
        assert exchange.rest is not None
        assert {path.partition("?")[0] for path in exchange.rest.requests} == {"/fapi/v1/historicalTrades"}


async def test_aggregate_trades_that_an_outage_has_swallowed_are_fetched_by_their_own_numbers() -> None:
    bars: dict[Key, OHLCVBar] = {}
    faults = Faults(1)
    async with SimulatedExchange(market="usdm", symbols=1, rate=300, faults=faults, voids_per_minute=0.0) as exchange:
        (symbol,) = exchange.symbols
        config = StreamConfig(reconnect_delay=0.3, reconnect_max_delay=0.6, rest_url=exchange.rest_url, grace=0.2)
        stream = fastbars.stream(
            "binance", [symbol], "1s", market="usdm", channel="aggTrade", url=exchange.url, config=config
        )
        async with stream as feed:

            async def read() -> None:
                async for bar in feed:
                    bars[bar.symbol, bar.open_time] = bar

            reader = asyncio.create_task(read())
            await until(lambda: len(bars) >= 2)
            faults.inject(Fault(FaultKind.REFUSE, count=3, status=503))
            exchange.abort_all()
            await until(lambda: feed.stats().connections == 2)
            back = len(bars)
            await until(lambda: len(bars) >= back + 3 and not feed.holes() and feed.healing()[0].trades, 20)
        await reader
        _, *inner, _ = [bars[key] for key in sorted(bars)]
        assert len(inner) >= 4
        for bar in inner:
            assert fields(bar) == truth(exchange, symbol, bar.open_time)
    assert exchange.rest is not None
    assert any("/aggTrades?" in path for path in exchange.rest.requests)
    assert {bar.status for bar in inner} == {BarStatus.UNVERIFIABLE}


async def test_errors_empty_and_overlapping_answers_and_omitted_trades_cost_time_but_no_truth(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(healing, "_AGAIN_S", (0.5, 1.0, 2.0))
    bars: dict[Key, OHLCVBar] = {}
    faults = Faults(1)
    async with SimulatedExchange(symbols=1, rate=300, faults=faults, seed=5) as exchange:
        assert exchange.rest is not None
        exchange.rest.faults.extend(
            [RestFault(status=429, retry_after_s=0.2), RestFault(status=500), RestFault(empty=True),
             RestFault(overlap=40), RestFault(body=b"<html>")]
        )  # fmt: skip
        (symbol,) = exchange.symbols
        config = StreamConfig(
            reconnect_delay=0.3, reconnect_max_delay=0.6, rest_url=exchange.rest_url, grace=0.2, backfill=0.0
        )
        async with fastbars.stream("binance", [symbol], "1s", url=exchange.url, config=config) as feed:

            async def read() -> None:
                async for bar in feed:
                    bars[bar.symbol, bar.open_time] = bar

            reader = asyncio.create_task(read())
            await until(lambda: len(bars) >= 2)
            faults.inject(Fault(FaultKind.REFUSE, count=2, status=503))
            exchange.abort_all()
            await until(feed.holes)
            (hole,) = feed.holes()
            exchange.rest.omitted[symbol] = {hole.first}
            await until(lambda: [one for one in feed.holes() if one.first == one.last == hole.first], 20)
            await until(lambda: any(feed.holes().values()), 40)
            assert feed.holes() == {next(iter(feed.holes())): "the REST API did not return these trades"}
        await reader
    gaps = [bar for bar in bars.values() if bar.status is BarStatus.GAP and bar.missing_count == 1]
    for bar in bars.values():
        if bar.is_complete and bar.trade_count:
            assert fields(bar) == truth(exchange, bar.symbol, bar.open_time)
    for gap in gaps:
        assert (gap.trade_count or 0) + 1 == truth(exchange, symbol, gap.open_time)[6]


async def test_a_rest_client_reports_what_goes_wrong_and_fetches_what_is_there() -> None:
    async with SimulatedExchange(symbols=1, rate=100, record=True) as exchange:
        assert exchange.rest is not None
        client, hasty = RestClient(), RestClient(timeout_s=1.0)
        url = f"{exchange.rest_url}/api/v3/historicalTrades"
        query = {"symbol": exchange.symbols[0], "fromId": "0", "limit": "5"}
        await until(lambda: len(exchange.record.trades(exchange.symbols[0])) >= 5)
        answer = await client(url, query, {})
        assert (answer.status, len(orjson.loads(answer.body))) == (200, 5)
        exchange.rest.faults.append(RestFault(status=429, retry_after_s=7))
        assert (await client(url, query, {}))[:2] == (429, 7.0)
        exchange.rest.faults.append(RestFault(delay_s=2.0))
        with pytest.raises(RestError, match="historicalTrades"):
            await hasty(url, query, {})
        await hasty.close()
        await client.close()
        assert (await client(url, query, {})).status == 200
        await client.close()
    with pytest.raises(RestError):
        await client(url, query, {})
    await client.close()


async def test_a_stream_from_elsewhere_does_not_ask_the_exchanges_own_rest_address() -> None:
    session = Session(find_exchange("binance"), StreamConfig(bars="1m"), channel="trade")
    upkeep = Upkeep(session, "ws://user:secret@127.0.0.1:1/ws")
    upkeep.start()
    session.receive([trade(1, 0), trade(4, 5)], 0)
    await until(lambda: all(upkeep.holes().values()))
    (why,) = upkeep.holes().values()
    assert why == "the stream comes from ws://***@127.0.0.1:1/ws; set rest_url to the REST API to use"
    assert upkeep.stats.requests == 0
    await upkeep.stop()


# A million missing trades.


async def test_healing_a_million_trades_keeps_the_loop_going() -> None:
    count, page = 1_000_000, 1000
    exchange = find_exchange("binance")
    session = Session(exchange, StreamConfig(bars=["1s", "1m"]), channel="trade")
    step_ms = 600_000 / count
    session.receive([trade(0, 0)], 0)
    session.receive([trade(count + 1, 600_000)], 0)
    history = exchange.history("trade", has_key=False)
    assert history is not None

    async def get(url: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Answer:
        first = int(query["fromId"])
        rows = b",".join(
            b'{"id":%d,"price":"100.5","qty":"0.25","time":%d,"isBuyerMaker":true}' % (n, START_MS + int(n * step_ms))
            for n in range(first, min(first + page, count + 1))
        )
        return Answer(200, None, b"[%b]" % rows)

    delays: list[float] = []

    async def watch() -> None:
        while True:
            # Of this thread's own time: what other programs take does not count.
            before = time.thread_time()
            await asyncio.sleep(0)
            delays.append(time.thread_time() - before)

    async def no_wait(seconds: float) -> None:
        await asyncio.sleep(0)

    now = [0.0]

    def clock() -> float:
        now[0] += 1.0
        return now[0]

    healer = Healer(
        "binance spot", history, [session.repairs], get, now=clock, sleep=no_wait, exchange_time_ns=lambda: 0
    )
    gc.collect()
    gc.freeze()  # what the test suite has loaded is not looked through while this is measured
    watcher = asyncio.create_task(watch())
    while await healer.heal_due() is not None:
        pass
    watcher.cancel()
    assert session.buffer_stats.healed == count
    assert session.repairs.holes() == []
    assert len(delays) > 100
    assert sorted(delays)[-3] < 0.05  # twice, the machine may have stood still; a loop that is held up is so often


# Restarts.


RUN = """
import asyncio, sys
import fastbars
from fastbars import StreamConfig

async def main():
    url, rest_url, state, symbol, lines = sys.argv[1:]
    config = StreamConfig(rest_url=rest_url, state=state, state_interval=0.2, grace=0.2, lines=int(lines))
    async with fastbars.stream("binance", [symbol], "2s", url=url, config=config) as bars:
        async for bar in bars:
            print(bar.to_dict()["open_time"].timestamp(), bar.status, bar.trade_count, bar.revision, flush=True)

asyncio.run(main())
"""


async def run_until(
    script: Path, arguments: Sequence[str], bars: dict[float, list[str]], enough: Callable[[int], bool]
) -> None:
    """Run the program until it is killed, as kill -9 does, once what it printed, that many lines, is enough."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(script), *arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    printed = 0
    try:
        async with asyncio.timeout(60):
            while not enough(printed):
                line = (await process.stdout.readline()).decode().split()
                assert line, "it ended by itself"
                bars[float(line[0])] = line
                printed += 1
    finally:
        process.send_signal(signal.SIGKILL)
        # What it had printed before it was killed counts too: the next one goes on behind it.
        *whole_lines, _ = (await process.stdout.read()).decode().split("\n")
        bars.update((float(line.split()[0]), line.split()) for line in whole_lines)
        await process.wait()


def all_are_whole(bars: Mapping[float, list[str]]) -> bool:
    _, *later = sorted(bars)  # it began inside the first
    return all(bars[opened][1] in ("COMPLETE", "HEALED") for opened in later)


@pytest.mark.real_clock
@pytest.mark.parametrize(("lines", "kills"), [(1, 3), (2, 2)])
async def test_a_bar_that_kill_9_has_interrupted_comes_out_whole(lines: int, kills: int, tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(RUN)
    bars: dict[float, list[str]] = {}
    async with SimulatedExchange(symbols=1, rate=200, record=True, seed=11) as exchange:
        (symbol,) = exchange.symbols
        arguments = [exchange.url, exchange.rest_url, str(tmp_path / "state"), symbol, str(lines)]
        for _ in range(kills):
            await run_until(script, arguments, bars, lambda printed: printed == 3)
            await asyncio.sleep(0.5)
        await run_until(script, arguments, bars, lambda printed: min(printed, len(bars)) >= 6 and all_are_whole(bars))
        counts: dict[float, int] = {}
        for one in exchange.record.trades(symbol):
            opened = one.time_ms // 2000 * 2.0
            counts[opened] = counts.get(opened, 0) + 1
    first = min(bars)
    assert bars[first][1] in ("PARTIAL", "HEALED")  # as REST has trades from before it, or not
    whole = [opened for opened in sorted(counts) if first < opened + (bars[first][1] == "HEALED") <= max(bars)]
    assert len(whole) >= 4
    assert {opened: int(bars[opened][2]) for opened in whole} == {opened: counts[opened] for opened in whole}
    assert "HEALED" in {bars[opened][1] for opened in whole}


async def test_a_snapshot_of_another_exchange_is_refused_when_the_stream_is_made(tmp_path: Path) -> None:
    path = tmp_path / "state"
    async with SimulatedExchange(symbols=1, rate=200, record=True) as exchange:
        config = StreamConfig(state=path, state_interval=0.1, heal=False)
        async with fastbars.stream("binance", exchange.symbols, "1s", url=exchange.url, config=config) as bars:
            await anext(bars)
        assert os.listdir(tmp_path) == ["state"]
    with pytest.raises(SnapshotError, match="its exchange is 'binance', not 'okx'"):
        fastbars.stream("okx", ["BTC-USDT"], "1s", config=config)
    assert [name[:14] for name in os.listdir(tmp_path)] == ["state.refused-"]


async def test_stopping_waits_for_the_snapshot_that_is_being_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on, loop = asyncio.Event(), threading.Event(), asyncio.get_running_loop()
    steps: list[str] = []

    def slowly(path: Path, pieces: Sequence[bytes]) -> None:
        steps.append("begun")
        loop.call_soon_threadsafe(begun.set)
        assert go_on.wait(30)
        path.write_bytes(b"".join(pieces))
        steps.append("ended")

    monkeypatch.setattr(snapshots, "write", slowly)
    config = StreamConfig(state=tmp_path / "state", state_interval=0.01, heal=False)
    session = Session(find_exchange("binance"), config, channel="trade")
    session.receive([trade(1, 0)], 0)
    upkeep = Upkeep(session)
    upkeep.start()
    await begun.wait()
    stopping = asyncio.create_task(upkeep.stop())
    await asyncio.sleep(0)
    assert steps == ["begun"]
    go_on.set()
    await stopping
    assert steps == ["begun", "ended"] * 2  # the last one holds what has come since


def test_trades_of_the_rest_api_that_cannot_be_represented_fill_nothing_else_wrongly() -> None:
    session = Session(find_exchange("binance"), StreamConfig(bars="1m", close_by="trades"), channel="trade")
    session.receive([trade(1, 0), trade(5, 3)], 0)
    rows = [Trade("trade", "BTCUSDT", START_MS * 10**6, price, "1", 1, number, number)
            for number, price in ((2, "100"), (3, "1e400"), (4, "101"))]  # fmt: skip
    session.repairs.heal("BTCUSDT", rows)
    assert [hole[1:3] for hole in session.repairs.holes()] == [(3, 3)]
    (bar,) = session.receive([trade(6, 60_001)], 0).bars
    assert (bar.status, bar.trade_count, bar.volume) == (BarStatus.GAP, 4, Decimal(4))
