"""Repair by candles: whatever was lost, no interval with trades stays without prices, and none passes for proven.

Sessions are fed by hand, on the fake clock; candles are made from all trades that there were, in plain `Decimal`.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from examples import examples
from fake_clock import START_WALL_NS, FakeClockLoop
from fastbars import OHLCVBar, StreamConfig, replay
from fastbars.bars import BarStatus, CloseReason, ExchangeBar
from fastbars.clocks import steady_ns, wall_ns
from fastbars.errors import RestError
from fastbars.exchanges import find_exchange
from fastbars.exchanges.messages import Trade
from fastbars.live.callbacks import Callbacks
from fastbars.live.past.candle_bars import CandleBars
from fastbars.live.past.candles import PastCandles
from fastbars.live.past.repairer import CandleRepairer, Place
from fastbars.live.session import Session
from fastbars.tapes import Recording
from fastbars.ticks import to_datetime, to_nanoseconds

SECOND_NS = 10**9
START_S = START_WALL_NS // SECOND_NS
LACKING = (BarStatus.GAP, BarStatus.PARTIAL)
Key = tuple[str, str, datetime]


@dataclass
class Market:
    """All trades that there were: (ms since the start, price, size) by id from 1; and the candles of them."""

    symbol: str = "BTCUSDT"
    identity: tuple[str, str] = ("bybit", "linear")
    trades: list[tuple[int, Decimal, Decimal]] = field(default_factory=list)
    asked: list[tuple[str, int, int]] = field(default_factory=list)  # spec, seconds since the start
    served: tuple[str, ...] = ("1s", "1m")
    errors: list[RestError] = field(default_factory=list)
    is_down: bool = False
    lags_s: float = 0.0
    reaches_s: int | None = None
    leaves_out: set[int] = field(default_factory=set)  # ids that its candles lack

    def trade(self, ms: int, price: str = "100", size: str = "1") -> int:
        self.trades.append((ms, Decimal(price), Decimal(size)))
        return len(self.trades)

    def inside(self, open_time: datetime, close_time: datetime) -> list[tuple[int, Decimal, Decimal]]:
        since_ms, until_ms = (int((to_nanoseconds(at) - START_WALL_NS) // 10**6) for at in (open_time, close_time))
        return [
            one
            for number, one in enumerate(self.trades, 1)
            if since_ms <= one[0] < until_ms and number not in self.leaves_out
        ]

    def candle(self, spec: str, open_time: datetime, close_time: datetime) -> ExchangeBar | None:
        trades = sorted(self.inside(open_time, close_time), key=lambda one: one[0])
        if not trades:
            return None
        prices = [price for _, price, _ in trades]
        return ExchangeBar(
            exchange=self.identity[0], market=self.identity[1], symbol=self.symbol, spec=spec, open_time=open_time,
            close_time=close_time, open=prices[0], high=max(prices), low=min(prices), close=prices[-1],
            volume=sum((size for _, _, size in trades), Decimal(0)), quote_volume=None, trade_count=len(trades),
            taker_buy_volume=None, taker_buy_quote_volume=None, first_trade_id=None, last_trade_id=None,
            is_closed=True, event_time_ns=None,
        )  # fmt: skip

    # As the engine of candles has it.

    async def past(self, symbol: str, spec: str, since_ns: int, until_ns: int) -> PastCandles:
        assert symbol == self.symbol
        self.asked.append((spec, since_ns // SECOND_NS - START_S, until_ns // SECOND_NS - START_S))
        await asyncio.sleep(0.05)
        if self.errors:
            raise self.errors.pop()
        if self.is_down:
            raise RestError("bybit: 503")
        length = {"1s": 1, "1m": 60}[spec]
        until_ns = min(until_ns, (wall_ns() - int(self.lags_s * 1e9)) // SECOND_NS // length * length * SECOND_NS)
        if self.reaches_s is not None:
            since_ns = max(since_ns, (START_S + self.reaches_s) * SECOND_NS)
        times = [to_datetime(at * SECOND_NS) for at in range(since_ns // SECOND_NS, until_ns // SECOND_NS, length)]
        made = [self.candle(spec, at, at + timedelta(seconds=length)) for at in times]
        return PastCandles([one for one in made if one is not None], since_ns, until_ns)


@dataclass
class Run:
    """A session, its repairer, and the bars that were issued."""

    market: Market
    session: Session
    repairer: CandleRepairer
    issued: list[OHLCVBar]
    healing: list[tuple[int, int]]  # spans that healing has not given up
    ids: bool

    @property
    def latest(self) -> dict[Key, OHLCVBar]:
        return {(bar.symbol, bar.spec, bar.open_time): bar for bar in self.issued}

    def seconds(self, spec: str = "1s") -> dict[int, tuple[str, int, int | None]]:
        """The last issue of each bar, by seconds since the start: status, revision, trades."""
        return {
            int(opened.timestamp()) - START_S: (str(bar.status), bar.revision, bar.trade_count)
            for (_, one, opened), bar in self.latest.items()
            if one == spec
        }

    def receive(self, number: int) -> None:
        ms, price, size = self.market.trades[number - 1]
        time_ms = START_S * 1000 + ms
        if self.ids:
            text = (
                f'{{"e":"trade","E":{time_ms},"s":"BTCUSDT","t":{number},"p":"{price}","q":"{size}","T":{time_ms},'
                f'"m":true,"M":true}}'
            )
        else:
            text = (
                f'{{"topic":"publicTrade.BTCUSDT","type":"snapshot","ts":{time_ms},"data":[{{"T":{time_ms},'
                f'"s":"BTCUSDT","S":"Buy","v":"{size}","p":"{price}","i":"id-{number}","BT":false}}]}}'
            )
        self.session.receive([text.encode()], wall_ns(), steady_ns())

    def heal(self, first: int, last: int) -> None:
        trades = []
        for number in range(first, last + 1):
            ms, price, size = self.market.trades[number - 1]
            at_ns = START_WALL_NS + ms * 10**6
            trades.append(Trade("trade", "BTCUSDT", at_ns, str(price), str(size), 1, number, number))
        self.session.repairs.heal("BTCUSDT", trades)

    async def pass_time(self, seconds: float, *, trades_every: float | None = None) -> None:
        """Let time pass, with trades in order where they come."""
        end_s = steady_ns() / 1e9 + seconds
        next_s = 0.0 if trades_every is None else steady_ns() / 1e9
        while steady_ns() / 1e9 < end_s:
            if trades_every is not None and steady_ns() / 1e9 >= next_s:
                self.receive(self.market.trade(ms_now()))
                next_s += trades_every
            await asyncio.sleep(min(0.1 if trades_every is None else trades_every, 0.5))
            self.session.advance_clock(steady_ns(), wall_ns(), feed_up=True)


def ms_now() -> int:
    return (wall_ns() - START_WALL_NS) // 10**6


@asynccontextmanager
async def running(
    specs: str | list[str] = "1s", *, ids: bool = False, market: Market | None = None, record: Recording | None = None,
    **options: Any,
) -> AsyncIterator[Run]:  # fmt: skip
    market = market or Market()
    issued: list[OHLCVBar] = []
    config = StreamConfig(bars=specs, repair="candles", grace=0.2, lateness=5.0, **options)
    if ids:
        market.identity = "binance", "spot"
    exchange = find_exchange("binance") if ids else find_exchange("bybit", "linear")
    session = Session(
        exchange, config, Callbacks(on_bars=issued.extend), channel="trade" if ids else "publicTrade",
        record=None if record is None else record.session,
    )  # fmt: skip
    healing: list[tuple[int, int]] = []
    repairer = CandleRepairer(
        exchange.name, session.delivery.earlier, session.report,
        CandleBars(market, dict.fromkeys(market.served, ""), settles_s=1.0),
        still_healed=lambda _: healing,
        horizon_s=config.heal_horizon, exchange_time_ns=wall_ns
    )  # fmt: skip
    task = asyncio.create_task(repairer.run())
    try:
        yield Run(market, session, repairer, issued, healing, ids)
    finally:
        task.cancel()
        await asyncio.wait([task])
    session.flush(wall_ns())


async def begin(run: Run, seconds: float = 3.0) -> None:
    """Trades, until bars are whole."""
    await run.pass_time(seconds, trades_every=0.3)


async def lose(run: Run, seconds: float = 2.0) -> None:
    """An outage, in which there are trades."""
    run.session.begin_outage(steady_ns())
    for _ in range(int(seconds / 0.4)):
        run.market.trade(ms_now(), "105", "2")
        await run.pass_time(0.4)
    run.session.end_outage(steady_ns())


def judge(run: Run, *, until_s: float) -> None:
    """The law of repair: nothing with trades is without prices, nothing passes for proven, revisions rise by one."""
    revisions: defaultdict[Key, list[int]] = defaultdict(list)
    for bar in run.issued:
        revisions[bar.symbol, bar.spec, bar.open_time].append(bar.revision)
        candle = run.market.candle(bar.spec, bar.open_time, bar.close_time)
        if bar.status is BarStatus.REPORTED:
            assert candle is not None
            for name in ("open", "high", "low", "close", "volume", "quote_volume", "trade_count", "first_trade_id"):
                assert getattr(bar, name) == getattr(candle, name), (name, bar, candle)
            assert bar.close_reason is CloseReason.CANDLE
            assert not bar.is_complete
    for key, seen in revisions.items():
        assert seen == list(range(len(seen))), (key, seen)
    latest = run.latest
    for key, bar in latest.items():
        if bar.close_reason is CloseReason.END:
            continue
        candle = run.market.candle(bar.spec, bar.open_time, bar.close_time)
        if bar.status in LACKING:
            assert candle is None, f"{key} stays {bar.status}, and there were {candle}"
        elif candle is not None and bar.status is not BarStatus.PROVISIONAL:
            assert (bar.open, bar.high, bar.low, bar.close) == (candle.open, candle.high, candle.low, candle.close), bar
            assert (bar.volume, bar.trade_count) == (candle.volume, candle.trade_count), bar
    # An interval with trades has a bar, from the first one that was received on.
    first = min(opened for _, _, opened in latest)
    for spec in {spec for _, spec, _ in latest}:
        of_spec = {opened for _, one, opened in latest if one == spec}
        length = timedelta(seconds={"1s": 1, "5s": 5, "7s": 7}[spec])
        for ms, _, _ in run.market.trades:
            at = to_datetime(START_WALL_NS + ms * 10**6)
            opened = at - (at - datetime(1970, 1, 1, tzinfo=UTC)) % length
            if opened >= first and opened + length <= to_datetime(START_WALL_NS + int(until_s * 1e9)):
                assert opened in of_spec, (spec, opened, ms)


# Without proof.


async def test_what_an_outage_has_torn_is_issued_from_the_candles() -> None:
    async with running(["1s", "5s"]) as run:
        await begin(run, 7)
        await lose(run)
        await run.pass_time(12, trades_every=0.3)
        assert run.seconds()[0][:2] == ("REPORTED", 1)  # it began inside
        assert run.seconds()[3][0] == "UNVERIFIABLE"
        torn = {second: one for second, one in run.seconds().items() if 7 <= second < 9}
        assert {status for status, _, _ in torn.values()} == {"REPORTED"}
        assert run.seconds("5s")[5][0] == "REPORTED"
        assert run.repairer.count().given_up == 0
        assert [spec for spec, _, _ in run.market.asked].count("1s") >= 2
    judge(run, until_s=18)


async def test_bars_that_follow_each_other_are_one_request() -> None:
    async with running() as run:
        await begin(run)
        run.market.is_down = True
        await lose(run, 4)
        await run.pass_time(2.5, trades_every=0.3)
        run.market.is_down = False
        run.market.asked.clear()
        await run.pass_time(30, trades_every=0.3)
        assert len(run.market.asked) <= 4
        assert max(until - since for _, since, until in run.market.asked) >= 3
    judge(run, until_s=38)


async def test_an_interval_in_which_the_exchange_has_no_trades_stays_without_prices() -> None:
    async with running() as run:
        await begin(run)
        run.session.begin_outage(steady_ns())
        await run.pass_time(3)
        run.session.end_outage(steady_ns())
        await run.pass_time(60, trades_every=0.5)
        empty = [bar for bar in run.latest.values() if bar.high is None]
        assert empty
        assert {str(bar.status) for bar in empty} == {"GAP"}
        assert {run.repairer.waiting()[Place(bar.symbol, bar.spec, bar.open_time)] for bar in empty} == {
            "the exchange has no trades in it"
        }
        assert run.repairer.count().given_up == len(empty)
        assert run.repairer.count().waiting == 0
    judge(run, until_s=60)


async def test_a_refused_answer_is_asked_for_again_and_given_up_in_the_end(caplog: pytest.LogCaptureFixture) -> None:
    async with running() as run:
        await begin(run)
        run.market.is_down = True
        await lose(run)
        await run.pass_time(3, trades_every=0.3)
        lacking = [place for place, why in run.repairer.waiting().items() if not why]
        assert lacking
        run.market.is_down = False
        await run.pass_time(90, trades_every=0.5)
        assert run.repairer.waiting() == {}
        run.market.is_down = True
        await lose(run)
        await run.pass_time(800, trades_every=0.5)
        assert set(run.repairer.waiting().values()) == {"bybit: 503"}
        run.market.errors, run.market.is_down = [RestError("bybit: unknown symbol", permanent=True)], False
        run.market.asked.clear()
        await lose(run, 0.4)
        await run.pass_time(30, trades_every=0.5)
        (refused,) = [place for place, why in run.repairer.waiting().items() if why == "bybit: unknown symbol"]
        second = int(refused.open_time.timestamp()) - START_S
        assert sum(since <= second < until for _, since, until in run.market.asked) == 1
    assert "bar_not_repaired" in caplog.text


async def test_a_candle_of_fewer_trades_than_came_is_not_taken() -> None:
    async with running(market=Market(lags_s=4)) as run:
        await begin(run)
        await lose(run)
        run.market.leaves_out = {number for number, one in enumerate(run.market.trades, 1) if one[1] == 100}
        await run.pass_time(60, trades_every=0.5)
        whys = run.repairer.waiting()
        assert any("were received" in why for why in whys.values())
        for place, why in whys.items():
            assert run.latest[place].status in LACKING, why
        assert run.repairer.count().waiting == 0


async def test_a_candle_that_the_exchange_finishes_late_is_waited_for() -> None:
    async with running(market=Market(lags_s=20)) as run:
        await begin(run)
        await lose(run)
        await run.pass_time(10, trades_every=0.5)
        assert run.repairer.count().waiting > 0
        await run.pass_time(110, trades_every=0.5)
        assert run.repairer.waiting() == {}
    judge(run, until_s=100)


async def test_candles_that_do_not_reach_back_are_given_up() -> None:
    async with running(market=Market(reaches_s=2)) as run:
        await begin(run, 10)
        assert run.seconds()[0] == ("PARTIAL", 0, 4)
        assert set(run.repairer.waiting().values()) == {"the exchange's candles do not reach so far back"}


async def test_other_intervals_are_made_of_smaller_candles_or_left() -> None:
    async with running(["7s", "tick:5", "1s"], market=Market(served=("1s",))) as run:
        await begin(run, 10)
        await lose(run)
        await run.pass_time(20, trades_every=0.3)
        assert "REPORTED" in {status for status, _, _ in run.seconds("7s").values()}
        assert "REPORTED" not in {status for status, _, _ in run.seconds("tick:5").values()}
    run.issued[:] = [bar for bar in run.issued if bar.spec != "tick:5"]
    judge(run, until_s=28)
    async with running(["7s", "1s"], market=Market(served=("1m",))) as run:
        await begin(run, 10)
        assert set(run.repairer.waiting().values()) == {
            "the exchange serves no candles of which bars of 7s can be made",
            "the exchange serves no candles of which bars of 1s can be made",
        }
        assert run.market.asked == []


async def test_a_late_trade_that_the_candle_has_changes_nothing_and_another_takes_it_back() -> None:
    async with running() as run:
        await begin(run)
        run.session.begin_outage(steady_ns())
        first, late = run.market.trade(ms_now()), run.market.trade(ms_now() + 1)
        opened = ms_now() // 1000
        run.session.end_outage(steady_ns())
        await run.pass_time(3.5, trades_every=0.5)
        assert run.seconds()[opened][0] == "REPORTED"
        issues, asked = len(run.issued), len(run.market.asked)
        run.receive(late)
        assert len(run.issued) == issues
        run.market.leaves_out = {first, late}
        run.receive(first)  # now more came than the candle, asked for again, has
        run.market.trades.append((run.market.trades[first - 1][0], Decimal(100), Decimal(100)))
        run.receive(len(run.market.trades))
        run.market.leaves_out.add(len(run.market.trades))
        await run.pass_time(60, trades_every=0.5)
        assert len(run.market.asked) > asked
        assert run.seconds()[opened][0] == "GAP"
        assert run.repairer.count().withdrawn == 1
        revisions = [bar.revision for bar in run.issued if int(bar.open_time.timestamp()) - START_S == opened]
        assert revisions == list(range(len(revisions)))


# With proof.


async def test_healing_goes_first_and_its_trades_replace_a_candle() -> None:
    async with running(ids=True) as run:
        await begin(run, 6)
        run.market.asked.clear()
        lost = [run.market.trade(ms_now(), "105") for _ in range(3)]
        opened = ms_now() // 1000
        run.healing.append((0, 2**62))
        await run.pass_time(20, trades_every=0.3)
        assert run.seconds()[opened][0] == "GAP"
        assert run.market.asked == []
        run.healing.clear()  # given up
        await run.pass_time(20, trades_every=0.3)
        assert run.seconds()[opened][0] == "REPORTED"
        run.heal(lost[0], lost[-1])
        assert run.seconds()[opened][0] == "HEALED"
    judge(run, until_s=40)


async def test_a_hole_that_is_older_than_the_horizon_is_repaired_by_its_candle() -> None:
    async with running(ids=True, heal_horizon=30.0) as run:
        await begin(run)
        run.market.trade(ms_now(), "105")
        opened = ms_now() // 1000
        run.healing.append((0, 2**62))  # it says that it still heals
        await run.pass_time(25, trades_every=0.5)
        assert run.seconds()[opened][0] == "GAP"
        await run.pass_time(30, trades_every=0.5)
        assert run.seconds()[opened][0] == "REPORTED"
    judge(run, until_s=50)


# Restart, and replay.


async def test_a_repairer_that_is_stopped_begins_again_with_what_is_lacking() -> None:
    async with running() as run:
        await begin(run)
        run.market.is_down = True
        await lose(run)
        await run.pass_time(4, trades_every=0.5)
    lacking = {place for place, why in run.repairer.waiting().items() if not why}
    assert lacking == set()  # nobody asks any more
    waiting = run.session.delivery.earlier.lacking()
    assert waiting
    run.market.is_down = False
    again = asyncio.create_task(run.repairer.run())
    await asyncio.sleep(5)
    again.cancel()
    await asyncio.wait([again])
    assert run.session.delivery.earlier.lacking() == []
    assert {run.latest[bar.symbol, bar.spec, bar.open_time].status for bar in waiting} == {BarStatus.REPORTED}


async def test_a_replay_makes_the_repaired_bars_again(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    recording.join()
    async with running(["1s", "5s"], record=recording) as run:
        await begin(run, 7)
        await lose(run)
        await run.pass_time(12, trades_every=0.3)
    await asyncio.to_thread(recording.leave)
    assert BarStatus.REPORTED in {bar.status for bar in run.issued}
    assert list(replay(tmp_path)) == run.issued
    sunk: list[OHLCVBar] = []
    others = replay(tmp_path).through(lambda buffer, rows: sunk.extend(buffer.bars_of(rows)))
    in_order: list[OHLCVBar] = []
    for bar in others:
        in_order += [*sunk, bar]
        sunk.clear()
    assert [*in_order, *sunk] == run.issued
    of_5s = [bar for bar in replay(tmp_path, bars=["5s"]) if bar.close_reason is not CloseReason.END]
    assert of_5s == [bar for bar in run.issued if bar.spec == "5s" and bar.close_reason is not CloseReason.END]


# Whatever is lost.


@dataclass(frozen=True)
class Plan:
    """What happens: seeded, so that an example is a few numbers."""

    seed: int
    ids: bool
    seconds: int = 14

    async def play(self) -> None:
        draw = random.Random(self.seed)
        market = Market(lags_s=draw.choice([0, 0, 3]))
        async with running(["1s", "5s"], ids=self.ids, market=market) as run:
            run.receive(market.trade(0))
            held: list[int] = []  # sent, and not received yet
            lost: list[int] = []
            is_down = False
            for _ in range(self.seconds * 4):
                await run.pass_time(0.25)
                market.is_down = draw.random() < 0.2
                chance = draw.random()
                if chance < 0.08 and not is_down:
                    is_down = True
                    run.session.begin_outage(steady_ns())
                elif chance < 0.2 and is_down:
                    is_down = False
                    run.session.end_outage(steady_ns())
                for _ in range(draw.randrange(3)):
                    number = market.trade(ms_now(), str(draw.randrange(90, 110)), str(draw.randrange(1, 5)))
                    if is_down:
                        lost.append(number)
                    elif self.ids and draw.random() < 0.15:
                        held.append(number)
                    else:
                        run.receive(number)
                if held and draw.random() < 0.5:
                    run.receive(held.pop(0))
                if self.ids and lost and draw.random() < 0.1:
                    number = lost.pop(draw.randrange(len(lost)))
                    run.heal(number, number)
            market.is_down = False
            if is_down:
                run.session.end_outage(steady_ns())
            await run.pass_time(200, trades_every=2.0)
            if self.ids:
                share = draw.choice([0.5, 1.0])
                for number in draw.sample(lost, round(share * len(lost))):
                    run.heal(number, number)
            await run.pass_time(5, trades_every=0.5)
            assert run.repairer.count().waiting == 0, run.repairer.waiting()
        judge(run, until_s=self.seconds + 150)


@given(st.integers(0, 2**32), st.booleans())
@settings(max_examples=examples(12))
def test_whatever_is_lost_intervals_with_trades_have_prices_and_none_passes_for_proven(seed: int, ids: bool) -> None:
    with asyncio.Runner(loop_factory=FakeClockLoop) as runner:
        runner.run(Plan(seed, ids).play())


def test_bars_of_a_time_zone_are_made_of_the_hours_in_them() -> None:
    candles = CandleBars(Market(), {"1h": "60", "1d": "D", "1w": "W"})
    asked = {spec: candles.asked_spec(spec) for spec in ("1d@America/New_York", "1d", "1w", "3d", "4h+01:00", "90s")}
    assert {spec: part for spec, (part, _) in asked.items()} == {
        "1d@America/New_York": "1h", "1d": "1d", "1w": "1w", "3d": "1d", "4h+01:00": "1h", "90s": None,
    }  # fmt: skip
    assert asked["90s"][1] == "the exchange serves no candles of which bars of 90s can be made"
    assert CandleBars(None, {}, why_none="not here").asked_spec("1m") == (None, "not here")
