"""History, then live, through sockets: each venue of the simulator, which has traded for a while before that."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import fastbars
import fastbars.past_bars
from fastbars import BarStatus, BarStream, OHLCVBar, StreamConfig
from fastbars.errors import HistoryError
from fastbars.simulator import SimulatedExchange
from fastbars.simulator.record import RecordedTrade
from fastbars.simulator.rest import RestFault
from fastbars.ticks import to_nanoseconds

PROVEN = (BarStatus.COMPLETE, BarStatus.HEALED, BarStatus.PUBLISHED)
SERVING_TRADES = [("binance", "spot"), ("okx", "spot"), ("coinbase", "spot"), ("kraken", "spot")]


def latest(bars: Sequence[OHLCVBar]) -> dict[tuple[str, str], list[OHLCVBar]]:
    """The last issue of each bar, by symbol and spec, in the order in which they were first issued."""
    found: dict[tuple[str, str], dict[Any, OHLCVBar]] = defaultdict(dict)
    for bar in bars:
        own = found[bar.symbol, bar.spec]
        if bar.open_time in own:
            assert bar.revision > own[bar.open_time].revision, f"issued twice: {bar}"
        else:
            assert not own or bar.open_time > max(own), f"out of order: {bar}"
        own[bar.open_time] = bar
    return {lane: list(own.values()) for lane, own in found.items()}


def cut(trades: Sequence[RecordedTrade], length_ms: int) -> dict[int, tuple[Decimal, Decimal, Decimal, Decimal, int]]:
    """Open time in ms -> open, high, low, close and count, of all that was traded."""
    found: dict[int, list[RecordedTrade]] = defaultdict(list)
    for trade in trades:
        found[trade.time_ms // length_ms * length_ms].append(trade)
    return {
        open_ms: (own[0].price, max(t.price for t in own), min(t.price for t in own), own[-1].price, len(own))
        for open_ms, own in found.items()
    }


@asynccontextmanager
async def traded(exchange: str, market: str | None, *, before_s: float = 33.3, **given: Any) -> AsyncIterator[Any]:
    given = {"symbols": 2, "rate": 20.0, "seed": 3, "tick_s": 0.05, "record": True, "voids_per_minute": 0.0} | given
    async with SimulatedExchange(exchange, market=market, **given) as server:
        await asyncio.sleep(before_s)
        yield server


async def take(bars: BarStream, seconds: float) -> list[OHLCVBar]:
    """Whatever a stream brings in this time, and at its end."""
    taken: list[OHLCVBar] = []

    async def loop() -> None:
        async for bar in bars:
            taken.append(bar)

    async with bars:
        taking = asyncio.create_task(loop())
        await asyncio.sleep(seconds)
    await taking
    return taken


def settings(server: SimulatedExchange, **given: Any) -> dict[str, Any]:
    return {"url": server.url, "config": StreamConfig(rest_url=server.rest_url, api_key="key", **given)}


@pytest.mark.parametrize(("exchange", "market"), SERVING_TRADES)
async def test_trades_of_the_past_and_live_ones_are_one_series(exchange: str, market: str) -> None:
    async with traded(exchange, market) as server:
        began_ms = server.record.now_ms()
        stream = fastbars.stream(
            exchange, server.symbols, ["1s", "5s"], market=market, history=20, history_from="trades", **settings(server)
        )
        bars = latest(await take(stream, 45.0 if exchange == "kraken" else 9.0))  # few requests are allowed there
    assert stream.history is not None
    assert stream.history.failed == {}
    for symbol in server.symbols:
        for spec, length_ms in (("1s", 1000), ("5s", 5000)):
            truth, own = cut(server.record.trades(symbol), length_ms), bars[symbol, spec]
            opens = [round(bar.open_time.timestamp() * 1000) for bar in own]
            since_ms = (began_ms // length_ms - 20) * length_ms
            assert opens == [open_ms for open_ms in sorted(truth) if since_ms <= open_ms <= opens[-1]]
            for open_ms, bar in list(zip(opens, own, strict=True))[:-1]:  # the end of the stream closed the last
                assert (bar.open, bar.high, bar.low, bar.close, bar.trade_count) == truth[open_ms]
                assert bar.status in PROVEN or open_ms == min(truth), bar


async def test_history_that_cannot_be_had_leaves_live_bars_and_says_why() -> None:
    errors: list[Exception] = []
    async with traded("binance", "spot") as server:
        assert server.rest is not None
        server.rest.faults.extend([RestFault(status=400)] * 40)
        stream = fastbars.stream(
            "binance", server.symbols, "1s", history="10s", history_from="trades", on_error=errors.append,
            **settings(server),
        )  # fmt: skip
        bars = latest(await take(stream, 6.0))
    assert {bar.symbol for own in bars.values() for bar in own} == set(server.symbols)
    assert all(len(own) >= 4 for own in bars.values())
    assert stream.history is not None
    assert set(stream.history.failed) == set(server.symbols)
    assert stream.history.lanes_open == 0
    assert {error.symbol for error in errors if isinstance(error, HistoryError)} == set(server.symbols)


async def test_a_restart_goes_on_behind_the_last_bar_delivered(tmp_path: Any) -> None:
    taken: list[OHLCVBar] = []
    async with traded("binance", "spot", symbols=1, rate=8.0) as server:
        for _ in range(2):
            stream = fastbars.stream(
                "binance", server.symbols, "1s", history="15s", history_from="trades",
                **settings(server, state=tmp_path / "state"),
            )  # fmt: skip
            taken += await take(stream, 5.0)
            await asyncio.sleep(7.0)
        truth = cut(server.record.trades(server.symbols[0]), 1000)
    ((_, own),) = latest(taken).items()
    opens = [round(bar.open_time.timestamp() * 1000) for bar in own]
    assert opens == [open_ms for open_ms in sorted(truth) if opens[0] <= open_ms <= opens[-1]]
    assert {bar.status for bar in own} <= set(PROVEN)
    assert sum(to_nanoseconds(bar.close_time) > 0 for bar in taken) < len(own) + 12  # few are issued again


async def test_a_recording_replays_to_the_same_bars_in_the_same_order(tmp_path: Path) -> None:
    issued: list[OHLCVBar] = []
    async with traded("binance", "spot", before_s=20.0, rate=8.0) as server:
        stream = fastbars.stream(
            "binance", server.symbols, ["1s", "5s", "tick:7"], history="15s", history_from="trades",
            record=tmp_path / "run", on_bars=issued.extend, **settings(server),
        )  # fmt: skip
        await take(stream, 7.0)
    assert stream.history is not None
    assert stream.history.bars > 20
    assert list(fastbars.replay(tmp_path / "run")) == issued


# The past alone.


@pytest.mark.parametrize(("exchange", "market"), SERVING_TRADES)
async def test_the_past_alone_is_that_of_the_truth_and_is_continued_where_it_was_left(
    exchange: str, market: str
) -> None:
    async with traded(exchange, market, before_s=40.0, rate=10.0) as server:
        config = StreamConfig(rest_url=server.rest_url, api_key="key")
        seen: list[fastbars.past_bars.Progress] = []
        past = fastbars.history(
            exchange, server.symbols, ["1s", "5s"], last="20s", market=market, history_from="trades", config=config,
            on_progress=seen.append,
        )  # fmt: skip
        began = dict(past.position)
        bars = [bar async for batch in past for bar in batch.to_bars()]
        assert seen[-1].bars == len(bars)
        await asyncio.sleep(6.0)
        later = fastbars.history(
            exchange, server.symbols, ["1s", "5s"], past.position, market=market, history_from="trades", config=config
        )
        bars += [bar async for batch in later for bar in batch.to_bars()]
        ended = later.position
    for symbol in server.symbols:
        for spec, length_ms in (("1s", 1000), ("5s", 5000)):
            truth = cut(server.record.trades(symbol), length_ms)
            own = {
                round(bar.open_time.timestamp() * 1000): bar
                for bar in bars if (bar.symbol, bar.spec) == (symbol, spec)
            }  # fmt: skip
            since_ms, until_ms = (round(at[symbol, spec].timestamp() * 1000) for at in (began, ended))
            assert sorted(own) == [at for at in sorted(truth) if since_ms <= at and at + length_ms <= until_ms]
            for open_ms, bar in own.items():
                assert (bar.open, bar.high, bar.low, bar.close, bar.trade_count) == truth[open_ms]
                assert bar.status in (*PROVEN, BarStatus.PROVISIONAL)


@pytest.mark.real_clock
async def test_the_past_is_taken_in_a_plain_loop_while_an_event_loop_runs() -> None:
    async with traded("binance", "spot", before_s=2.2, rate=200.0, tick_s=0.01) as server:
        config = StreamConfig(rest_url=server.rest_url)
        past = fastbars.history(
            "binance", server.symbols, "1s", last=3, until=datetime.now(UTC), history_from="trades", config=config
        )
        batch = await asyncio.to_thread(past.to_batch)
        assert set(batch["symbol"]) == set(server.symbols)


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({}, ValueError, "give since="),
        ({"since": 1, "last": 5}, ValueError, "not both"),
        ({"last": 0}, ValueError, "last=0 bars"),
        ({"last": "yesterday"}, ValueError, "last='yesterday'"),
        ({"last": True}, TypeError, "last=True"),
        ({"last": 500, "bars": "tick:100"}, fastbars.SpecError, "counts intervals"),
        ({"last": "9999d"}, ValueError, "the limit is 1,000,000"),
        ({"last": "1d", "history_from": "archive"}, ValueError, "'archive'"),
        ({"last": "1d", "exchange": "bybit", "history_from": "trades"}, fastbars.SpecError, "serves no past trades"),
        ({"last": "1d", "exchange": "bybit", "bars": "tick:5"}, fastbars.SpecError, "no history of tick:5"),
        ({"last": "1d", "exchange": "bybit", "bars": "7s"}, fastbars.SpecError, "no history of 7s"),
        ({"since": {}}, ValueError, "position without BTCUSDT 1m"),
    ],
)
def test_nonsense_is_an_error_at_once(given: dict[str, Any], error: type[Exception], said: str) -> None:
    given = {"exchange": "binance", "symbols": ["BTCUSDT"], "bars": "1m"} | given
    with pytest.raises(error, match=said):
        fastbars.history(**given)


def test_a_stream_refuses_a_history_that_it_cannot_ask_for() -> None:
    with pytest.raises(ValueError, match="set StreamConfig"):
        fastbars.stream("binance", ["BTCUSDT"], url="ws://127.0.0.1:1", history=5)
    with pytest.raises(ValueError, match="needs history= or since="):
        fastbars.stream("binance", ["BTCUSDT"], history_from="trades")
