"""No false COMPLETE, ever: random lives of a stream, with everything that can go wrong, beside what was truly traded.

A world is a simulated market, a network that drops, repeats, delays and disconnects, a REST API with faults, and a
process that is killed and goes on from its last snapshot. Session, kernel, healer, pages and snapshots are the real
ones; time is a number. HYPOTHESIS_PROFILE says how many lives are lived.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode, urlsplit

from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from examples import examples
from fastbars.bars import OHLCVBar
from fastbars.exchanges import find_exchange
from fastbars.live import snapshots
from fastbars.live.callbacks import Callbacks
from fastbars.live.config import StreamConfig
from fastbars.live.healing.healer import Healer
from fastbars.live.rest import Answer
from fastbars.live.session import Session
from fastbars.simulator.dialects import find_dialect
from fastbars.simulator.market import SimulatedMarket, SimulatedTrade
from fastbars.simulator.rest import RestFault, SimulatedHistory
from fastbars.ticks import to_nanoseconds
from servers import START_MS, trade

STEP_MS = 100
SYMBOLS = 3
SPOT = find_exchange("binance")
HISTORY = SPOT.history("trade", has_key=False)
# What was seen in all lives, for whoever runs many of them.
SEEN: Counter[str] = Counter()

Key = tuple[str, str, datetime]


class World:
    """Market, network, REST API and process; `live` lets time pass."""

    def __init__(self, seed: int, rate: float, empty: Any) -> None:
        self.now_ms = 0
        self.wall_offset_ns = 0
        dialect = find_dialect("binance")
        market, self.instruments = dialect.list_market("spot", SYMBOLS)
        self.market = SimulatedMarket(self.instruments, rate, seed, START_MS)
        self.traded: dict[str, list[SimulatedTrade]] = {one.symbol: [] for one in self.instruments}
        self.rest = SimulatedHistory(dialect(market, self.instruments).past_trades, self.traded.__getitem__)
        self.config = StreamConfig(bars=["1s", "5s"], grace=0.5, lateness=2.0, heal_horizon=40.0, empty=empty)
        self.connected = True
        self.reconnects_ms = 0
        self.under_way: list[tuple[int, int, bytes]] = []
        self.sent = 0
        self.drop = self.repeat = 0
        self.delays_ms: list[int] = []
        self.bars: dict[Key, OHLCVBar] = {}
        self.saved: bytes | None = None
        self.begin()

    # The process.

    def begin(self) -> None:
        self.session = Session(SPOT, self.config, Callbacks(on_bar=self.note), channel="trade")
        if self.saved is not None:
            self.session.load(snapshots.unpack(self.saved), 0)
        self.healer = Healer(
            "binance spot", HISTORY, [self.session.repairs], self.get, horizon_s=40.0, now=lambda: self.now_ms / 1000,
            sleep=self.sleep, exchange_time_ns=lambda: (START_MS + self.now_ms) * 10**6,
        )  # fmt: skip

    def note(self, bar: OHLCVBar) -> None:
        self.bars[bar.symbol, bar.spec, bar.open_time] = bar

    def save(self) -> None:
        content = self.session.dump()
        self.saved = self.saved if content is None else snapshots.pack(content)

    def kill(self, away_ms: int) -> None:
        self.begin()
        self.disconnect(away_ms)

    # The network.

    def disconnect(self, away_ms: int) -> None:
        if self.connected:
            self.session.begin_outage(self.steady_ns)
        self.connected = False
        self.reconnects_ms = self.now_ms + away_ms
        self.under_way.clear()

    def send(self, one: SimulatedTrade) -> None:
        instrument = self.instruments[one.instrument]
        if self.drop > 0:
            self.drop -= 1
            return
        payload = trade(
            one.trade_id, one.time_ms - START_MS,
            instrument.price_text(one.price_ticks), instrument.size_text(one.size_steps),
            symbol=instrument.symbol, maker=one.buyer_is_maker, event_ms=self.now_ms,
        )  # fmt: skip
        times = 2 if self.repeat > 0 else 1
        self.repeat -= 1
        for _ in range(times):
            self.sent += 1
            delay_ms = self.delays_ms.pop() if self.delays_ms else 0
            self.under_way.append((self.now_ms + delay_ms, self.sent, payload))

    # The REST API.

    async def get(self, url: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Answer:
        answer = self.rest.answer(f"{urlsplit(url).path}?{urlencode(query)}")
        assert answer is not None
        assert headers == {}
        if answer.delay_s:
            await self.sleep(answer.delay_s)
        return Answer(answer.status, answer.retry_after_s, answer.body)

    async def sleep(self, seconds: float) -> None:
        # Whoever waits lets live data go on.
        self.flow(round(seconds * 1000))

    # Time.

    @property
    def steady_ns(self) -> int:
        return self.now_ms * 10**6 + 77

    @property
    def wall_ns(self) -> int:
        return (START_MS + self.now_ms) * 10**6 + self.wall_offset_ns

    def flow(self, passed_ms: int) -> None:
        end_ms = self.now_ms + passed_ms
        while self.now_ms < end_ms:
            self.now_ms = min(self.now_ms + STEP_MS, end_ms)
            trades = self.market.advance(START_MS + self.now_ms)
            for one in trades:
                self.traded[self.instruments[one.instrument].symbol].append(one)
                if self.connected:
                    self.send(one)
            if not self.connected and self.now_ms >= self.reconnects_ms:
                self.connected = True
                self.session.end_outage(self.steady_ns)
            arrived = sorted(message for message in self.under_way if message[0] <= self.now_ms)
            self.under_way = [message for message in self.under_way if message[0] > self.now_ms]
            if arrived:
                self.session.receive([payload for _, _, payload in arrived], self.wall_ns, self.steady_ns)
            if self.session.clock_is_due(self.steady_ns):
                self.session.advance_clock(self.steady_ns, self.wall_ns, feed_up=self.connected)

    def live(self, passed_ms: int) -> None:
        end_ms = self.now_ms + passed_ms
        while self.now_ms < end_ms:
            self.flow(min(500, end_ms - self.now_ms))
            _LOOP.run_until_complete(self.healer.heal_due())

    # The truth.

    def check(self) -> None:
        grids = {one.symbol: one for one in self.instruments}
        for bar in self.bars.values():
            opened_ms = to_nanoseconds(bar.open_time) // 10**6
            closed_ms = to_nanoseconds(bar.close_time) // 10**6
            trades = [one for one in self.traded[bar.symbol] if opened_ms <= one.time_ms < closed_ms]
            SEEN[str(bar.status)] += 1
            assert bar.trade_count is not None
            assert bar.trade_count <= len(trades)
            if bar.missing_count is not None:
                SEEN["counted"] += bar.status == "GAP"
                assert bar.missing_count == len(trades) - bar.trade_count, (bar, len(trades))
            if not bar.is_complete:
                assert bar.status in ("GAP", "PARTIAL", "PROVISIONAL"), bar
                assert bar.status == "GAP" or bar.missing_count is None
                continue
            assert bar.missing_count == 0
            assert bar.trade_count == len(trades), (bar, len(trades))
            if not trades:
                assert (bar.volume, bar.first_trade_id) == (Decimal(0), None)
                continue
            tick, step = grids[bar.symbol].tick_size, grids[bar.symbol].step_size
            prices = [one.price_ticks * tick for one in trades]
            assert (bar.open, bar.high, bar.low, bar.close) == (prices[0], max(prices), min(prices), prices[-1])
            assert bar.volume == sum(one.size_steps for one in trades) * step
            assert bar.quote_volume == sum(one.price_ticks * one.size_steps for one in trades) * tick * step
            assert bar.taker_buy_volume == sum(one.size_steps for one in trades if not one.buyer_is_maker) * step
            assert (bar.first_trade_id, bar.last_trade_id) == (trades[0].trade_id, trades[-1].trade_id)


_LOOP = asyncio.new_event_loop()
AWAY_MS = st.sampled_from((100, 300, 1000, 2700, 6000, 13_000, 30_000))


class Lives(RuleBasedStateMachine):
    """One life is one example."""

    world: World

    @initialize(
        seed=st.integers(0, 10**6), rate=st.sampled_from((3.0, 15.0, 60.0)), empty=st.sampled_from(("skip", "fill"))
    )
    def begin(self, seed: int, rate: float, empty: str) -> None:
        self.world = World(seed, rate, empty)
        self.world.live(1500)

    @rule(passed_ms=st.sampled_from((100, 700, 1500, 4000)))
    def time_passes(self, passed_ms: int) -> None:
        self.world.live(passed_ms)

    @rule(count=st.integers(1, 12))
    def trades_are_dropped(self, count: int) -> None:
        self.world.drop = count
        self.world.live(300)

    @rule(count=st.integers(1, 5))
    def trades_come_twice(self, count: int) -> None:
        self.world.repeat = count
        self.world.live(300)

    @rule(delays_ms=st.lists(st.sampled_from((0, 0, 150, 700, 1900, 2600, 5000, 9000)), min_size=2, max_size=12))
    def trades_change_places_within_and_beyond_lateness(self, delays_ms: list[int]) -> None:
        self.world.delays_ms = delays_ms
        self.world.live(300)

    @rule(away_ms=AWAY_MS)
    def the_connection_is_lost(self, away_ms: int) -> None:
        self.world.disconnect(away_ms)
        self.world.live(200)

    @rule(
        faults=st.lists(
            st.sampled_from(
                (
                    RestFault(status=500), RestFault(status=429, retry_after_s=3.0), RestFault(status=418),
                    RestFault(empty=True), RestFault(overlap=7), RestFault(body=b"{"), RestFault(delay_s=1.0),
                )
            ),
            min_size=1, max_size=8,
        )
    )  # fmt: skip
    def rest_fails(self, faults: list[RestFault]) -> None:
        self.world.rest.faults.extend(faults)

    @rule(place=st.integers(0, SYMBOLS - 1), count=st.integers(1, 4))
    def rest_does_not_have_what_is_dropped_next(self, place: int, count: int) -> None:
        symbol = self.world.instruments[place].symbol
        trades = self.world.traded[symbol]
        if trades:
            next_id = trades[-1].trade_id + 1
            self.world.rest.omitted.setdefault(symbol, set()).update(range(next_id, next_id + count))
            self.world.drop = 4 * count
            self.world.live(700)

    @rule(step_s=st.sampled_from((-7200, -1, 2, 86_400)))
    def the_wall_clock_is_set(self, step_s: int) -> None:
        self.world.wall_offset_ns += step_s * 10**9

    @rule()
    def a_snapshot_is_taken(self) -> None:
        self.world.save()

    @rule(away_ms=AWAY_MS)
    def the_process_is_killed(self, away_ms: int) -> None:
        self.world.kill(away_ms)
        self.world.live(200)

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        self.world.rest.faults.clear()
        self.world.live(35_000 if not self.world.connected else 6_000)
        SEEN["lives"] += 1
        self.world.check()


def test_no_life_has_a_false_complete_bar_and_together_they_have_seen_every_status_that_matters() -> None:
    SEEN.clear()
    run_state_machine_as_test(
        Lives,
        settings=settings(
            max_examples=examples(500),
            stateful_step_count=20,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert min(SEEN[status] for status in ("COMPLETE", "HEALED", "GAP", "PARTIAL", "PROVISIONAL", "counted")) > 0
