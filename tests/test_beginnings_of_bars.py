"""Bars in progress that the stream began inside: their beginnings come from candles, exactly, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import event, given, settings as hypothesis_settings, strategies as st

import fastbars
from examples import examples
from fake_clock import FakeClockLoop
from fastbars import ExchangeBar, OHLCVBar, StreamConfig, clocks
from fastbars.exchanges import find_exchange
from fastbars.live.past.beginnings import Beginnings, _cover, _levels_of
from fastbars.live.past.candles import PastCandles
from fastbars.live.session import Session
from fastbars.simulator import SimulatedExchange
from fastbars.simulator.record import RecordedTrade
from fastbars.simulator.rest import RestFault
from fastbars.ticks import to_datetime

if TYPE_CHECKING:
    from fastbars.live.past.candles import CandleClient

HOUR_NS = 3_600 * 10**9


@asynccontextmanager
async def traded(exchange: str, market: str | None, before_s: float = 80.0, **given: Any) -> AsyncIterator[Any]:
    given = {"symbols": 2, "rate": 3.0, "seed": 3, "tick_s": 0.05, "record": True, "voids_per_minute": 0.0} | given
    async with SimulatedExchange(exchange, market=market, **given) as server:
        await asyncio.sleep(before_s)
        yield server


def config_of(server: SimulatedExchange, **given: Any) -> StreamConfig:
    values: dict[str, Any] = {"rest_url": server.rest_url, "repair": "candles", "backfill": 0.0, "api_key": "key"}
    return StreamConfig(**values | given)


async def watch(bars: fastbars.BarStream, seconds: float) -> list[tuple[float, OHLCVBar]]:
    """The updates of so many seconds, and when they came."""
    taken: list[tuple[float, OHLCVBar]] = []

    async def loop() -> None:
        async for bar in bars.updates(3.0):
            if bar.close_reason == "open":
                taken.append((asyncio.get_running_loop().time(), bar))

    taking = asyncio.create_task(loop())
    await asyncio.sleep(seconds)
    taking.cancel()
    await asyncio.wait([taking])
    return taken


def whole(trades: list[RecordedTrade], bar: OHLCVBar) -> OHLCVBar | None:
    """The bar made of the whole truth, up to the trade with which its volume is that of `bar`; None: there is none."""
    open_ms, volume, quote, count = round(bar.open_time.timestamp() * 1000), Decimal(0), Decimal(0), 0
    taker, high, low, first = Decimal(0), Decimal(0), Decimal("1e9"), None
    for trade in trades:
        if trade.time_ms < open_ms:
            continue
        first = trade.price if first is None else first
        volume, quote, count = volume + trade.size, quote + trade.size * trade.price, count + 1
        taker += Decimal(0) if trade.buyer_is_maker else trade.size
        high, low = max(high, trade.price), min(low, trade.price)
        if volume == bar.volume:
            return fastbars.OHLCVBar(
                bar.symbol, bar.spec, bar.open_time, bar.close_time, first, high, low, trade.price, volume, quote,
                count, taker,
            )  # fmt: skip
    return None


def assert_whole(
    trades: list[RecordedTrade], bar: OHLCVBar, *, inverse: bool = False, opens_before: bool = False
) -> None:
    truth = whole(trades, bar)
    assert truth is not None, f"no trades sum to {bar}"
    assert bar.close == truth.close
    if not opens_before:
        assert (bar.open, bar.high, bar.low) == (truth.open, truth.high, truth.low)
    if bar.quote_volume is not None and not inverse:
        assert bar.quote_volume == truth.quote_volume
    if bar.trade_count is not None:
        assert bar.trade_count == truth.trade_count
    if bar.taker_buy_volume is not None:
        assert bar.taker_buy_volume == truth.taker_buy_volume


@pytest.mark.parametrize(
    ("exchange", "market"),
    [
        ("binance", "spot"),
        ("binance", "coinm"),
        ("bybit", "linear"),
        ("hyperliquid", None),
        ("okx", "spot"),
        ("coinbase", None),
        ("kraken", None),
    ],
)
async def test_the_bar_in_progress_is_whole_once_the_candle_of_the_first_minute_has_closed(
    exchange: str, market: str | None
) -> None:
    async with traded(exchange, market) as server:
        begun_s = asyncio.get_running_loop().time()
        async with fastbars.stream(
            exchange, server.symbols, ["1m", "5m", "1h", "1d"], market=market, url=server.url, config=config_of(server)
        ) as bars:
            taken = await watch(bars, 110.0)
            current = [bars.current(symbol, spec) for symbol in server.symbols for spec in ("1h", "1d")]
        assert bars.adapter.session.intake.tap is None  # what saw the beginning has ended
        lacks = {"kraken": {"taker_buy_volume"}, "okx": {"trade_count", "taker_buy_volume"}}
        for at_s, bar in [*taken, *((0.0, bar) for bar in current if bar is not None)]:
            trades = server.record.trades(bar.symbol)
            if bar.status == "REPORTED":
                assert bar.spec != "1m"
                assert bar.close_reason == "open"
                assert_whole(trades, bar, inverse=market == "coinm", opens_before=exchange == "bybit")
                for name in lacks.get(exchange, ()):
                    assert getattr(bar, name) is None
            elif bar.spec in ("1h", "1d"):
                assert at_s - begun_s < 48.0 or exchange == "kraken", f"not whole yet: {bar}"
        assert {(bar.symbol, bar.spec) for bar in current if bar is not None and bar.status == "REPORTED"} == {
            (symbol, spec) for symbol in server.symbols for spec in ("1h", "1d")
        }
        partial = [bar for _, bar in taken if bar.spec == "1h" and bar.status == "PARTIAL"]
        if exchange in ("binance", "bybit"):  # others send trades of the minute before to whoever subscribes
            assert partial  # until then it says what it is


async def test_it_is_asked_for_only_where_somebody_looks_and_repair_is_allowed() -> None:
    async with traded("bybit", "linear", before_s=20.0) as server:
        options: dict[str, Any] = {"market": "linear", "url": server.url}
        config = config_of(server, repair="none")
        async with fastbars.stream("bybit", server.symbols, "1h", config=config, **options) as bars:
            assert {bar.status for _, bar in await watch(bars, 70.0)} == {"PARTIAL"}
            assert bars.adapter.session.intake.tap is None
        async with fastbars.stream("bybit", server.symbols, "1h", config=config_of(server), **options) as bars:
            await asyncio.sleep(140.0)
            assert bars.adapter.session.intake.tap is None  # what it saw is kept
            assert server.candles.requests == []
            first, other = server.symbols
            assert status_of(bars, first) == "PARTIAL"  # this asks for it
            await asyncio.sleep(5.0)
            assert status_of(bars, first) == "REPORTED"
            assert_whole(server.record.trades(first), current_of(bars, first), opens_before=True)
            assert status_of(bars, other) == "PARTIAL"


def current_of(bars: fastbars.BarStream, symbol: str) -> OHLCVBar:
    bar = bars.current(symbol, "1h")
    assert bar is not None
    return bar


def status_of(bars: fastbars.BarStream, symbol: str) -> str:
    return current_of(bars, symbol).status


async def test_what_is_missing_in_the_middle_is_never_passed_off_as_whole() -> None:
    async with (
        traded("bybit", "linear", before_s=20.0) as server,
        fastbars.stream(
            "bybit", server.symbols, "1h", market="linear", url=server.url, config=config_of(server)
        ) as bars,
    ):
        taken = await watch(bars, 70.0)
        assert taken[-1][1].status == "REPORTED"
        await bars.adapter.reconnect()
        await asyncio.sleep(20.0)
        assert {bar.status for _, bar in await watch(bars, 10.0)} == {"GAP"}


async def test_a_symbol_that_is_subscribed_to_later_has_its_beginning_too() -> None:
    async with traded("bybit", "linear", before_s=20.0) as server:
        first, later = server.symbols
        async with fastbars.stream(
            "bybit", [first], "1h", market="linear", url=server.url, config=config_of(server)
        ) as bars:
            await watch(bars, 130.0)
            assert bars.adapter.session.intake.tap is None
            await bars.subscribe([later])
            await watch(bars, 70.0)
            for symbol in server.symbols:
                assert status_of(bars, symbol) == "REPORTED"
                assert_whole(server.record.trades(symbol), current_of(bars, symbol), opens_before=True)


async def test_candles_that_are_late_or_refused_leave_the_bar_partial_until_they_come() -> None:
    async with traded("bybit", "linear", before_s=20.0, symbols=1) as server:
        assert server.candles is not None
        (symbol,) = server.symbols
        async with fastbars.stream(
            "bybit", [symbol], "1h", market="linear", url=server.url, config=config_of(server)
        ) as bars:
            server.candles.faults.extend([RestFault(status=503)] * 100)
            await watch(bars, 60.0)
            assert status_of(bars, symbol) == "PARTIAL"
            server.candles.faults.clear()
            await watch(bars, 60.0)
            assert status_of(bars, symbol) == "REPORTED"
            assert_whole(server.record.trades(symbol), current_of(bars, symbol), opens_before=True)


# Pieces.

CUTS = st.integers(0, 5_000_000).map(lambda minute: minute * 60 * 10**9)


@hypothesis_settings(max_examples=examples(100))
@given(CUTS, CUTS)
def test_a_span_is_covered_by_whole_candles_without_gap_or_overlap(one: int, other: int) -> None:
    since_ns, until_ns = sorted((one, other))
    levels = _levels_of(["1m", "3m", "1h", "4h", "1d", "1w", "1mo", "1s"])
    assert levels == [("1d", 24 * HOUR_NS), ("1h", HOUR_NS), ("1m", 60 * 10**9)]
    at_ns = since_ns
    pieces = _cover(since_ns, until_ns, levels)
    for level, first_ns, end_ns in pieces:
        assert first_ns == at_ns < end_ns
        assert first_ns % dict(levels)[level] == end_ns % dict(levels)[level] == 0
        at_ns = end_ns
    assert at_ns == until_ns
    assert len(pieces) <= 5


# Whatever comes, and whenever: exact, or PARTIAL.


class Exchange:
    """Candles made of every trade that there was, whenever it was delivered."""

    def __init__(self) -> None:
        self.trades: list[tuple[int, int]] = []  # ms, contracts
        self.history = SimpleNamespace(intervals={"1m": "1", "1h": "60"}, api=SimpleNamespace(url="rest"))

    async def past(self, symbol: str, spec: str, since_ns: int, until_ns: int) -> PastCandles:
        await asyncio.sleep(2.0)
        length_ns = {"1m": 60, "1h": 3_600}[spec] * 10**9
        candles = []
        for open_ns in range(since_ns, until_ns, length_ns):
            sizes = [size for ms, size in self.trades if open_ns <= ms * 10**6 < open_ns + length_ns]
            if sizes:
                times = to_datetime(open_ns), to_datetime(open_ns + length_ns)
                values: list[Any] = [*times, *[Decimal(1)] * 4, Decimal(sum(sizes)), *[None] * 6, True, None]
                candles.append(ExchangeBar(symbol, spec, *values))
        return PastCandles(candles, since_ns, until_ns)

    def whole(self, open_ms: int, border_ms: int, delivered: list[tuple[int, int]]) -> int:
        before = sum(size for ms, size in self.trades if open_ms <= ms < border_ms)
        return before + sum(size for ms, size in delivered if ms >= border_ms)


trade_steps = st.tuples(
    st.sampled_from([0.1, 1.0, 7.0, 20.0]),  # s until it is traded
    st.sampled_from([None, 0.0, 0.0, 0.0, 0.3, 5.0, 50.0]),  # s until it is delivered; None: before the start, if it is
    st.integers(1, 10**6),
)


@hypothesis_settings(max_examples=examples(40))
@given(st.integers(1, 400), st.lists(trade_steps, min_size=8, max_size=60), st.sampled_from(["bybit", "binance"]))
def test_a_bar_is_shown_exactly_with_its_beginning_or_as_it_is(
    before_s: int, steps: list[tuple[float, float | None, int]], exchange: str
) -> None:
    async def main() -> None:
        exchanges, delivered, reported = Exchange(), list[tuple[int, int]](), 0
        config = StreamConfig(bars=["5m", "1h"], repair="candles")
        session = Session(find_exchange(exchange), config, channel=find_exchange(exchange).default_channel)
        beginnings = session.past.beginnings = Beginnings(
            session.intake, config.specs, cast("CandleClient", exchanges), config.lateness, clocks.wall_ns
        )
        beginnings.want_all()
        running = asyncio.create_task(beginnings.run())
        for ago_s in range(before_s, 0, -7):
            exchanges.trades.append((clocks.wall_ns() // 10**6 - ago_s * 1000, ago_s))
        session.coverage.end_outage(clocks.steady_ns())
        waiting: list[tuple[float, int, int]] = []  # by when they are delivered

        async def pass_time(until_s: float) -> None:
            while waiting and min(waiting)[0] <= until_s:
                due_s, at_ms, size = min(waiting)
                waiting.remove((due_s, at_ms, size))
                await asyncio.sleep(max(0.0, due_s - clocks.steady_s()))
                delivered.append((at_ms, size))
                payload = message(exchange, len(delivered), at_ms, size)
                session.receive([payload], clocks.wall_ns(), clocks.steady_ns())
            await asyncio.sleep(max(0.0, until_s - clocks.steady_s()))

        for number, (wait_s, delay_s, size) in enumerate([*steps, (70.0, 0.0, 1), (70.0, 0.0, 1)]):
            await pass_time(clocks.steady_s() + wait_s)
            now_ms = clocks.wall_ns() // 10**6
            if delay_s is not None or number > 3:
                exchanges.trades.append((now_ms, size))
                waiting.append((clocks.steady_s() + (delay_s or 0.0), now_ms, size))
            await pass_time(clocks.steady_s())
            for spec in ("5m", "1h"):
                bar = session.current("BTCUSDT", spec)
                if bar is not None and bar.status == "REPORTED":
                    reported += 1
                    open_ms = round(bar.open_time.timestamp() * 1000)
                    borders = range(open_ms, now_ms + 1, 60_000)
                    assert int(bar.volume) in {exchanges.whole(open_ms, border, delivered) for border in borders}
                    assert int(bar.volume) >= exchanges.whole(open_ms, min(borders), delivered)
        running.cancel()
        await asyncio.wait([running])
        assert running.cancelled()
        event("reported" if reported else "never reported")

    with asyncio.Runner(loop_factory=FakeClockLoop) as runner:
        runner.run(main())


async def test_a_bar_that_holds_what_the_second_buffer_has_not_seen_stays_partial() -> None:
    exchanges, config = Exchange(), StreamConfig(bars="5m", repair="candles")
    session = Session(find_exchange("binance"), config, channel="trade")
    beginnings = session.past.beginnings = Beginnings(
        session.intake, config.specs, cast("CandleClient", exchanges), config.lateness, clocks.wall_ns
    )
    running = asyncio.create_task(beginnings.run())
    session.coverage.end_outage(clocks.steady_ns())
    begun_ms = clocks.wall_ns() // 10**6
    exchanges.trades = [(begun_ms + number, number) for number in range(1, 5)]
    for number in (1, 2, 4):
        now = clocks.wall_ns(), clocks.steady_ns()
        session.receive([message("binance", number, begun_ms + number, 1)], *now)
    buffer = session.intake.buffer
    assert buffer is not None
    healed = buffer.new_batch()
    healed.append("BTCUSDT", (begun_ms + 3) * 10**6, "1", "1", "buy", 3)
    buffer.heal(healed)
    for _ in range(150):
        await asyncio.sleep(1.0)
        bar = session.current("BTCUSDT", "5m")
        assert bar is not None
        assert (bar.status, bar.trade_count) == ("PARTIAL", 4)
    running.cancel()
    await asyncio.wait([running])


def message(exchange: str, number: int, time_ms: int, size: int) -> bytes:
    if exchange == "binance":
        return b'{"e":"trade","E":%d,"s":"BTCUSDT","t":%d,"p":"1","q":"%d","T":%d,"m":false,"M":true}' % (
            time_ms,
            number,
            size,
            time_ms,
        )
    return (
        b'{"topic":"publicTrade.BTCUSDT","ts":%d,"type":"snapshot","data":[{"i":"%d","T":%d,"p":"1","v":"%d","S":"Buy",'
        b'"s":"BTCUSDT","BT":false}]}' % (time_ms, 10**12 + number, time_ms, size)
    )
