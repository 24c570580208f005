"""The law of history: whatever the race between live bars, pages of the past and loss, the series is that of the truth.

    python -m tests.history_law --scenarios 10000 --seed 7
    python -m tests.history_law --seed 7 --only 1234

A scenario is one exchange that trades from long before to long after a stream begins, one session that is fed from some
moment on, and a REST API, on the fake clock and without sockets. Pages come late, fail, lag behind the market and leave
trades out; the feed loses trades, is down for a while, or the process is restarted or killed. For each symbol and spec:

    one      Bars are issued in order of time; of one bar, revisions rise.
    whole    The last issue of each bar that says so equals the truth: COMPLETE, HEALED, UNVERIFIABLE, REPORTED; a
             PUBLISHED one lacks what the history leaves out. No other has more than its interval.
    present  From the beginning of the history to the last bar every interval with trades has a bar. One without trades
             has none, unless live trades may have been lost there.
    proven   Bars of trades are proven, those of candles REPORTED or better; worse is only what live trades were lost of
             for good, and a bar that the end of the stream has closed.
    paths    Path-driven bars have every trade once, in order; those that are not cut by the seam are whole.

Units: `_ms` on the exchange's clock, since the Unix epoch; `_s` from the start of a scenario.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import logging
import multiprocessing
import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import orjson

if __package__:  # run as a module: what it imports beside itself is found as pytest finds it
    sys.path.insert(0, str(Path(__file__).parent))

from fake_clock import FakeClockLoop
from fastbars import OHLCVBar, StreamConfig, clocks
from fastbars.bars import ExchangeBar
from fastbars.errors import RestError
from fastbars.exchanges import TradeFields, find_exchange
from fastbars.exchanges.binance import Binance
from fastbars.exchanges.candles import CandleAsk, CandleHistory, CandlePaging
from fastbars.exchanges.declaration import Exchange
from fastbars.exchanges.history import History, Page, Paging
from fastbars.exchanges.messages import Trade, make_candle
from fastbars.exchanges.rest_api import RestApi
from fastbars.live.callbacks import Callbacks
from fastbars.live.delivery_log import Logged
from fastbars.live.healing.healer import Healer
from fastbars.live.past.keeper import PastKeeper
from fastbars.live.past.plan import make_plan
from fastbars.live.past.spans import Reach
from fastbars.live.rest import Answer
from fastbars.live.session import Session
from fastbars.live.shared import SHARED
from fastbars.live.snapshots import pack, unpack
from fastbars.ticks import to_datetime, to_nanoseconds
from servers import trade as message

SECOND_MS = 1000
HEALS_MS = 3 * SECOND_MS
PROVEN = ("COMPLETE", "HEALED", "PUBLISHED")
WHOLE = ("COMPLETE", "HEALED", "UNVERIFIABLE", "REPORTED")
GRACE_S = 0.3
AFTER_S = 14.0  # quiet for healing and history before a scenario is judged
PAGINGS = (Paging.FORWARD_BY_ID, Paging.BACKWARD_BY_ID, Paging.BACKWARD_BY_TIME, Paging.FORWARD_BY_CURSOR)
_API = RestApi("https://rest.example", 600_000.0)


class Made(NamedTuple):
    """One trade as the exchange made it."""

    trade_id: int
    time_ms: int
    price: Decimal
    size: Decimal
    sells: bool = False  # its taker did


@dataclass
class World:
    """One exchange, and what is done to whoever asks it.

    Attributes:
        trades: symbol -> all that it ever trades, by id.
        omitted: ids that its history leaves out.
        lag_ms: how long after its time a trade, or the end of a candle, is in the REST API.
        latency_s: of an answer, at most.
        failing: share of answers that fail.
        is_broken: every answer fails for good.
    """

    random: Random
    ids: str
    paging: Paging
    page_size: int
    leaves_out: bool
    has_candles: bool
    trades: dict[str, list[Made]] = field(default_factory=dict)
    omitted: set[int] = field(default_factory=set)
    lag_ms: int = 0
    latency_s: float = 0.0
    failing: float = 0.0
    is_broken: bool = False

    def exchange(self) -> Exchange:
        """Its declaration: the messages of one that there is, with a REST API of its own."""
        spot = find_exchange("binance", "spot")
        given = {one.name: getattr(spot, one.name) for one in dataclasses.fields(spot)}  # type: ignore[arg-type]
        history = History(
            _API, "/trades/{symbol}", self.paging, self.page_size,
            lambda _, position, hole: {"position": str(position), "since": str(min(hole.since_ns, hole.until_ns))},
            partial(_read_trades, has_cursor=self.paging is Paging.FORWARD_BY_CURSOR), weight=1.0,
            leaves_out_ids=self.leaves_out, latest=lambda _: {},
        )  # fmt: skip
        given["candle_history"] = None
        if self.has_candles:
            given["candle_history"] = CandleHistory(
                _API, "/candles/{symbol}", 40, {"1s": "1", "5s": "5"}, _query_candles, _read_candles, weight=1.0,
                paging=self.random.choice((CandlePaging.FORWARD, CandlePaging.BACKWARD, CandlePaging.WINDOWS)),
                settles_s=self.lag_ms / 1000,
            )  # fmt: skip
        if self.ids == "none":
            return _WithoutIds(**{**given, "channels": {**given["channels"], "trade": "none"}, "histories": {}})
        return Binance(**{**given, "histories": {"trade": (history,)}})

    def now_ms(self) -> int:
        """The exchange's clock."""
        return clocks.wall_ns() // 10**6

    async def __call__(
        self, url: str, query: Mapping[str, str], _headers: Mapping[str, str], _body: bytes | None = None
    ) -> Answer:
        """Answer a request."""
        await asyncio.sleep(self.random.random() * self.latency_s)
        if self.is_broken:
            raise RestError("it is broken", permanent=True)
        if self.random.random() < self.failing:
            if self.random.random() < 0.5:
                raise RestError("no answer")
            return Answer(500, None, b"{}")
        kind, symbol = url.rsplit("/", 2)[1:]
        rows = self._trades(symbol, query) if kind == "trades" else self._candles(symbol, query)
        answer = Answer(200, None, orjson.dumps(rows))
        await asyncio.sleep(self.random.random() * self.latency_s)
        return answer

    async def close(self) -> None:
        """Nothing is open."""

    def _trades(self, symbol: str, query: Mapping[str, str]) -> list[Any]:
        there = [
            one for one in self.trades[symbol]
            if one.time_ms < self.now_ms() - self.lag_ms and one.trade_id not in self.omitted
        ]  # fmt: skip
        if "position" not in query:
            return [_row(one) for one in there[-self.page_size :]]
        position = int(query["position"])
        if self.paging is Paging.FORWARD_BY_ID:
            page = [one for one in there if one.trade_id >= position][: self.page_size]
        elif self.paging is Paging.BACKWARD_BY_ID:
            page = [one for one in there if one.trade_id < position][-self.page_size :]
        elif self.paging is Paging.BACKWARD_BY_TIME:
            since = int(query["since"])
            page = [one for one in there if since // 10**6 <= one.time_ms <= position // 10**6][-self.page_size :]
        else:
            page = [one for one in there if one.time_ms * 10**6 > position]
            stop = self.page_size
            while stop < len(page) and page[stop].time_ms == page[stop - 1].time_ms:
                stop += 1
            page = page[:stop]
        return [_row(one) for one in page]

    def _candles(self, symbol: str, query: Mapping[str, str]) -> list[Any]:
        length_ms, since, until, limit = (int(query[name]) for name in ("length", "since", "until", "limit"))
        found: dict[int, list[Made]] = defaultdict(list)
        for one in self.trades[symbol]:
            if one.time_ms < self.now_ms():
                found[one.time_ms // length_ms * length_ms].append(one)
        rows = [
            [open_ms, str(own[0].price), str(max(t.price for t in own)), str(min(t.price for t in own)),
             str(own[-1].price), str(sum(t.size for t in own)), len(own)]
            for open_ms, own in sorted(found.items())
            if since <= open_ms * 10**6 < until and open_ms + length_ms <= self.now_ms() - self.lag_ms
        ]  # fmt: skip
        return rows[-limit:] if query["paging"] == "b" else rows[:limit]


def _row(one: Made) -> list[Any]:
    return [one.trade_id, one.time_ms, str(one.price), str(one.size), -1 if one.sells else 1]


def _read_trades(symbol: str, body: bytes, *, has_cursor: bool) -> Page:
    trades = [
        Trade("trade", symbol, time_ms * 10**6, price, size, side, number, number)
        for number, time_ms, price, size, side in orjson.loads(body)
    ]
    return Page(trades, trades[-1].time_ns if trades and has_cursor else None)


def _query_candles(ask: CandleAsk) -> Mapping[str, str]:
    return {
        "length": str(int(ask.interval) * SECOND_MS), "since": str(ask.since_ns), "until": str(ask.until_ns),
        "limit": str(ask.limit), "paging": "f",
    }  # fmt: skip


def _read_candles(ask: CandleAsk, body: bytes) -> Sequence[ExchangeBar]:
    found = []
    for open_ms, *prices, volume, count in orjson.loads(body):
        bar = make_candle(ask.symbol, ask.spec, open_ms * 10**6, prices, volume, trade_count=count)
        assert isinstance(bar, ExchangeBar)
        found.append(bar)
    return found


@dataclass(frozen=True)
class _WithoutIds(Binance):
    """Trades have no ids at all."""

    def fields(self, channel: str) -> TradeFields | None:
        fields = super().fields(channel)
        return fields and dataclasses.replace(fields, first_id=None, last_id=None)


@dataclass
class Verdict:
    """What a scenario came to."""

    seed: int
    number: int
    title: str = ""
    faults: list[str] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    log: list[str] = field(default_factory=list)
    history: str = ""


@dataclass
class Scenario:
    """One life of a stream.

    Attributes:
        history_s: how far back its history reaches; 0: it has none.
        bars: as issued.
        lost_ms: spans in which live trades were lost.
        began_ms: when the stream began.
        late: how much later than others a trade comes, ms; doubled: those that come once more.
        waiting: messages that are late, and when they are due, ms.
        restarted_ms: when the process before ended, until the first message has come.
    """

    random: Random
    world: World
    config: StreamConfig
    history_from: str | None
    history_s: int
    verdict: Verdict
    bars: list[OHLCVBar] = field(default_factory=list)
    lost_ms: list[tuple[int, int]] = field(default_factory=list)
    began_ms: int = 0
    session: Session = field(init=False)
    keeper: PastKeeper | None = None
    healer: Healer = field(init=False)
    tasks: list[asyncio.Task[Any]] = field(default_factory=list)
    next_place: dict[str, int] = field(default_factory=dict)
    is_down: bool = False
    restarts: bool = False
    heard_ms: int = 0
    open_lanes: set[tuple[str, str]] = field(
        default_factory=set
    )  # at the end of the stream, which joins them as they are
    dropped: set[tuple[str, int]] = field(default_factory=set)
    heard: set[tuple[str, int]] = field(default_factory=set)  # trades that came live, and that the process knows
    late: dict[tuple[str, int], int] = field(default_factory=dict)
    doubled: set[tuple[str, int]] = field(default_factory=set)
    waiting: list[tuple[int, bytes]] = field(default_factory=list)
    restarted_ms: int | None = None
    kept_heard: frozenset[tuple[str, int]] = frozenset()
    kept: tuple[dict[str, Any], int] | None = None  # the last snapshot, and how many bars were issued by then

    def note(self, event: str) -> None:
        """Count an event."""
        self.verdict.events[event] += 1
        self.verdict.log.append(f"{self.world.now_ms() - self.began_ms} {event}")

    def make(self) -> None:
        """A process: a session, its healer, and what brings its history."""
        exchange = self.world.exchange()
        self.session = Session(exchange, self.config, Callbacks(on_bars=self.bars.extend), channel="trade")
        if self.kept is not None:
            content, _ = self.kept
            self.session.delivery.hold()
            self.session.delivery.load(content)
            self.session.delivery.join(self._logged())
            self.session.load(content | self.session.delivery.dump(1)(), clocks.wall_ns())
            self.session.notifier.begin(clocks.wall_ns())

    def _logged(self) -> Logged:
        assert self.kept is not None
        first = self.kept[1]
        later = self.bars[first:]
        return Logged(
            stream="one", next_log=1, bars=dict(enumerate(later, first)), confirmed={"callbacks": len(self.bars)}
        )

    def begin(self) -> None:
        """Start it."""
        exchange, config = self.session.exchange, self.config
        if self.history_s:
            plan = make_plan(exchange, "trade", config.specs, self.history_from, has_key=True)
            reach = Reach.of(f"{self.history_s}s", None)
            assert reach is not None
            self.keeper = PastKeeper(self.session, plan, reach, get=self.world, is_healing=self._is_healing)  # type: ignore[arg-type]
            self.keeper.want(list(self.world.trades))
            self.keeper.start()
        self.healer = Healer(
            exchange.name, exchange.history("trade", has_key=True), [self.session.repairs], self.world,  # type: ignore[arg-type]
            horizon_s=config.heal_horizon, exchange_time_ns=clocks.wall_ns,
            limiter=SHARED.rest_limiter(_API.budget_name, _API.weight_per_minute),
        )  # fmt: skip
        self.session.wake_healer = self.healer.wake
        self.tasks = [asyncio.create_task(self.healer.run()), asyncio.create_task(self._pass_time())]

    def _is_healing(self, symbol: str) -> bool:
        return any(hole not in self.healer.reasons for hole in self.session.repairs.holes(symbol))

    async def end(self) -> None:
        """Stop it, in order."""
        if self.keeper is not None:
            await self.keeper.stop()
        for task in self.tasks:
            task.cancel()
        await asyncio.wait(self.tasks)

    async def _pass_time(self) -> None:
        while True:
            await asyncio.sleep(0.1)
            self.session.advance_clock(clocks.steady_ns(), clocks.wall_ns(), feed_up=not self.is_down)

    # The feed.

    def feed(self) -> None:
        """Send what was traded since it was last called, where the feed is up."""
        now_ms = self.world.now_ms()
        payloads = [late for late in self.waiting if late[0] <= now_ms]
        self.waiting = [late for late in self.waiting if late[0] > now_ms]
        for symbol, trades in self.world.trades.items():
            place = self.next_place[symbol]
            while place < len(trades) and trades[place].time_ms < now_ms:
                one = trades[place]
                place += 1
                if self.is_down:
                    continue
                if (symbol, one.trade_id) in self.dropped:
                    self.lost_ms.append((one.time_ms, one.time_ms))
                    continue
                self.heard.add((symbol, one.trade_id))
                text = message(
                    one.trade_id, one.time_ms, str(one.price), str(one.size), symbol=symbol, maker=one.sells, start_ms=0
                )
                if (symbol, one.trade_id) in self.doubled:
                    self.waiting.append((one.time_ms + 700, text))
                late_ms = self.late.get((symbol, one.trade_id))
                if late_ms is None:
                    payloads.append((one.time_ms, text))
                else:
                    self.waiting.append((one.time_ms + late_ms, text))
            self.next_place[symbol] = place
        if payloads:
            payloads.sort(key=lambda each: each[0])
            self.heard_ms = payloads[-1][0]
            self._receive(payloads)

    def _receive(self, payloads: Sequence[tuple[int, bytes]]) -> None:
        self.session.receive([text for _, text in payloads], clocks.wall_ns(), clocks.steady_ns())
        if self.restarted_ms is not None:  # a process knows the exchange's clock by its first message
            self.session.end_outage(clocks.steady_ns())
            self.lost_ms.append((self.restarted_ms - 5000, self.world.now_ms() + 1500))
            self.restarted_ms = None

    def hurry(self) -> None:
        """Send what is late: the connection that has it ends."""
        if self.waiting:
            self._receive(sorted(self.waiting))
            self.waiting = []

    async def live(self, seconds: float) -> None:
        """Be fed for so long."""
        until_s = clocks.steady_s() + seconds
        while clocks.steady_s() < until_s:
            await asyncio.sleep(0.05)
            self.feed()

    async def outage(self) -> None:
        """The feed is down for a while."""
        self.note("outage")
        self.hurry()
        since_ms = self.heard_ms
        self.is_down = True
        self.session.begin_outage(clocks.steady_ns())
        await self.live(self.random.choice((0.3, 1.2, 3.0)))
        self.is_down = False
        self.session.end_outage(clocks.steady_ns())
        self.lost_ms.append((since_ms - 1500, self.world.now_ms() + 1500))

    async def restart(self) -> None:
        """The process ends, by order or by a kill, and another one begins."""
        kills = self.kept is not None and self.random.random() < 0.5
        self.note("killed" if kills else "restarted")
        self.hurry()
        since_ms = self.world.now_ms()
        await self.end()
        if not kills:
            self.save()
        await self.down(self.random.choice((0.2, 2.0, 6.0)))
        if self.kept is None:  # nothing has traded, so that nothing was saved
            self.bars.clear()
            self.began_ms = self.world.now_ms()
        self.heard = set(self.kept_heard)
        self.make()
        self.begin()
        self.lost_ms.append((since_ms - 5000, self.world.now_ms() + 1500))
        self.restarted_ms = since_ms

    async def down(self, seconds: float) -> None:
        """Nobody is there."""
        await asyncio.sleep(seconds)
        for symbol, trades in self.world.trades.items():
            while (
                self.next_place[symbol] < len(trades) and trades[self.next_place[symbol]].time_ms < self.world.now_ms()
            ):
                self.next_place[symbol] += 1

    def save(self) -> None:
        """Take a snapshot."""
        content = self.session.dump()
        if content is not None:
            self.note("snapshot")
            number = self.session.delivery.next_number
            self.kept_heard = frozenset(self.heard)
            self.kept = unpack(pack({**content, **self.session.delivery.dump(1)()})), len(self.bars)
            assert number >= 0


# The truth.


class Cut(NamedTuple):
    """A bar of the truth."""

    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    trades: int


def cut(trades: Sequence[Made], length_ms: int) -> dict[int, Cut]:
    """Open time in ms -> the bar of all that was traded."""
    found: dict[int, list[Made]] = defaultdict(list)
    for one in trades:
        found[one.time_ms // length_ms * length_ms].append(one)
    return {
        open_ms: Cut(
            own[0].price, max(t.price for t in own), min(t.price for t in own), own[-1].price,
            sum((t.size for t in own), Decimal(0)), len(own),
        )
        for open_ms, own in found.items()
    }  # fmt: skip


def judge(scenario: Scenario, symbol: str, spec: str) -> list[str]:
    """What is wrong with the bars of one symbol and spec."""
    bars = [bar for bar in scenario.bars if (bar.symbol, bar.spec) == (symbol, spec)]
    if spec.startswith("tick"):
        return judge_path(scenario, symbol, spec, bars)
    length_ms = int(spec.removesuffix("s")) * SECOND_MS
    where, faults = f"{spec} of {symbol}", list[str]()
    last: dict[int, OHLCVBar] = {}
    for bar in bars:
        open_ms = to_nanoseconds(bar.open_time) // 10**6
        if open_ms in last:
            before = last[open_ms]
            if bar.revision <= before.revision and bar != before:
                faults.append(f"one: {where}: {bar} after {before}")
        elif last and open_ms < max(last) and not _is_all_dropped(scenario, symbol, open_ms, length_ms):
            faults.append(f"one: {where}: {bar} after a later one, {to_datetime(max(last) * 10**6)}")
        last[open_ms] = bar
    world = scenario.world
    truth = cut(world.trades[symbol], length_ms)
    since_ms = (scenario.began_ms - scenario.history_s * SECOND_MS) // length_ms * length_ms
    fills = scenario.config.empty == "fill"
    if not last:
        # Of what came after its beginning, a stream that has heard nothing knows nothing.
        is_open = (symbol, spec) in scenario.open_lanes
        until_ms = scenario.began_ms - length_ms if is_open else world.now_ms() - 8 * SECOND_MS
        wanted = [open_ms for open_ms in truth if since_ms <= open_ms < until_ms]
        return [*faults, f"present: {where}: no bar at all, of {len(wanted)}"] if wanted else faults
    if min(last) < since_ms:
        faults.append(f"present: {where}: a bar at {min(last)}, before {since_ms}")
    ended = max(last)  # closed by the end
    for open_ms, bar in sorted(last.items()):
        scenario.verdict.statuses[bar.status] += 1
        true, is_lossy = truth.get(open_ms), _is_lossy(scenario, open_ms, length_ms)
        has = Cut(bar.open, bar.high, bar.low, bar.close, bar.volume, bar.trade_count or 0)  # type: ignore[arg-type]
        if true is None:
            flat = fills and bar.open is not None and bar.open == bar.close and not bar.volume
            if not flat and not (bar.open is None and (is_lossy or fills)):
                faults.append(f"present: {where}: nothing was traded in {bar}")
            continue
        left_out = sum(1 for one in _inside(world, symbol, open_ms, length_ms) if one.trade_id in world.omitted)
        if bar.status in WHOLE and has != true:
            faults.append(f"whole: {where}: {bar} is {has}, the truth {true}")
        if has.trades > true.trades or (bar.status == "PUBLISHED" and has.trades < true.trades - left_out):
            faults.append(f"whole: {where}: {bar} has {has.trades} of {true.trades} trades")
        worst = bar.status in ("PARTIAL", "GAP", "PROVISIONAL")
        known_ms = HEALS_MS if bar.status == "GAP" else SECOND_MS  # before the end, by the next trade that came
        if bar.status in ("PROVISIONAL", "GAP") and not any(
            open_ms + length_ms <= one.time_ms < world.now_ms() - known_ms and (symbol, one.trade_id) in scenario.heard
            for one in world.trades[symbol]
        ):
            continue
        if worst and open_ms < ended and not _may_be_bad(scenario, symbol, spec, open_ms, length_ms):
            faults.append(f"proven: {where}: {bar}")
    first = min(truth.keys() & set(range(since_ms, ended, length_ms)), default=ended)
    for open_ms in range(min(first, ended), ended, length_ms):
        if (symbol, spec) in scenario.open_lanes and open_ms + length_ms > scenario.began_ms:
            break
        if open_ms in truth and open_ms not in last and not _is_skipped_loss(scenario, symbol, open_ms, length_ms):
            faults.append(f"present: {where}: no bar at {open_ms - scenario.began_ms} of {truth[open_ms]}")
    return faults


def _inside(world: World, symbol: str, open_ms: int, length_ms: int) -> list[Made]:
    return [one for one in world.trades[symbol] if open_ms <= one.time_ms < open_ms + length_ms]


def _is_lossy(scenario: Scenario, open_ms: int, length_ms: int) -> bool:
    return any(since_ms < open_ms + length_ms and until_ms >= open_ms for since_ms, until_ms in scenario.lost_ms)


def _is_all_dropped(scenario: Scenario, symbol: str, open_ms: int, length_ms: int) -> bool:
    # Then there is a bar only once healing has found them.
    inside = _inside(scenario.world, symbol, open_ms, length_ms)
    return bool(inside) and all((symbol, one.trade_id) in scenario.dropped for one in inside)


def _is_skipped_loss(scenario: Scenario, symbol: str, open_ms: int, length_ms: int) -> bool:
    # None of its trades came live, and the history of trades leaves them all out: nobody can have them. Candles do, of
    # what was traded before the stream began.
    if scenario.world.ids == "none" or (scenario.history_from == "candles" and open_ms < scenario.began_ms):
        return False
    return all(
        (symbol, one.trade_id) not in scenario.heard and one.trade_id in scenario.world.omitted
        for one in _inside(scenario.world, symbol, open_ms, length_ms)
    )


def _may_be_bad(scenario: Scenario, symbol: str, spec: str, open_ms: int, length_ms: int) -> bool:
    world = scenario.world
    is_lossy = _is_lossy(scenario, open_ms, length_ms)
    if world.is_broken or (symbol, spec) in scenario.open_lanes:
        return True
    if world.ids == "none":
        return is_lossy
    first = next(one for one in world.trades[symbol] if one.trade_id not in world.omitted)
    if open_ms <= first.time_ms:  # nobody can know that it was the first
        return True
    return not world.leaves_out and any(
        one.trade_id in world.omitted for one in _inside(world, symbol, open_ms - length_ms, 3 * length_ms)
    )


def judge_path(scenario: Scenario, symbol: str, spec: str, bars: Sequence[OHLCVBar]) -> list[str]:
    """The same of path-driven bars."""
    if scenario.world.ids == "none" or scenario.lost_ms or scenario.world.omitted or scenario.world.is_broken:
        return []  # ids are what tells which trades they have
    faults, step = list[str](), int(spec.partition(":")[2])
    last: dict[int, OHLCVBar] = {}
    for bar in bars:
        assert bar.first_trade_id is not None
        last[bar.first_trade_id] = bar
    expected: int | None = None
    since_ms = scenario.began_ms - scenario.history_s * SECOND_MS
    for number, bar in sorted(last.items()):
        if expected is not None and number != expected:
            faults.append(f"paths: {spec} of {symbol}: {bar} begins with {number}, not {expected}")
        assert bar.last_trade_id is not None
        expected = bar.last_trade_id + 1
        if bar.status == "COMPLETE" and bar.trade_count != step:
            faults.append(f"paths: {spec} of {symbol}: {bar} has {bar.trade_count} trades")
    wanted = [one for one in scenario.world.trades[symbol] if one.time_ms > since_ms]  # it is rounded down
    if last and min(last) > wanted[0].trade_id:
        faults.append(f"paths: {spec} of {symbol}: they begin with {min(last)}, not {wanted[0].trade_id}")
    bad = [bar for bar in last.values() if bar.status not in PROVEN]
    if len(bad) > 4:  # the first one, both at the seam, and the last
        faults.append(f"paths: {spec} of {symbol}: {len(bad)} are not proven: {bad[1]}")
    return faults


# Lives.


def begin(seed: int, number: int) -> Scenario:
    """Draw a scenario."""
    draw = Random(f"{seed}:{number}")
    ids = draw.choice(("contiguous", "contiguous", "contiguous", "none"))
    has_candles = ids == "none" or draw.random() < 0.6
    world = World(
        draw, ids, draw.choice(PAGINGS), page_size=draw.choice((3, 7, 25, 100)), leaves_out=False,
        has_candles=has_candles,
        lag_ms=draw.choice((0, 0, 200, 900)), latency_s=draw.choice((0.0, 0.05, 0.4, 1.5)),
        failing=draw.choice((0.0, 0.0, 0.2)),
    )  # fmt: skip
    if world.paging in (
        Paging.BACKWARD_BY_TIME,
        Paging.FORWARD_BY_CURSOR,
    ):  # by time, a page needs more than one time has
        world.page_size = max(world.page_size, 25)
    if ids == "contiguous" and world.paging is Paging.FORWARD_BY_ID and draw.random() < 0.4:
        world.leaves_out = True
    before_s, after_s = draw.choice((8.0, 25.0, 40.0)), 26.0 + AFTER_S
    start_ms = 1_723_161_240_000 - int(before_s * 1000)
    for place in range(draw.choice((1, 1, 2))):
        rate, at_ms = draw.choice((0.4, 2.0, 6.0)), float(start_ms)
        number_ = draw.randrange(1, 10**9)
        trades = world.trades[("BTCUSDT", "ETHUSDT")[place]] = list[Made]()
        while at_ms < start_ms + (before_s + after_s) * 1000:
            at_ms += draw.expovariate(rate / 2) * 1000
            for _ in range(draw.choice((1, 1, 2, 4))):
                price, size = Decimal(draw.randrange(9_000, 11_000)) / 100, Decimal(draw.randrange(1, 500)) / 100
                trades.append(Made(number_, int(at_ms), price, size))
                if world.leaves_out and draw.random() < 0.03:
                    world.omitted.add(number_)
                number_ += 1
    sources: list[str | None] = [None]
    if ids != "none":
        sources.append("trades")
    if has_candles:
        sources.append("candles")
    history_from = draw.choice(sources)
    specs: tuple[str, ...] = ("1s", "5s")
    if ids != "none" and draw.random() < 0.3 and history_from != "candles":
        specs = ("1s", "5s", "tick:5")
    config = StreamConfig(
        bars=specs, grace=GRACE_S, lateness=20.0, heal_horizon=60.0, empty=draw.choice(("skip", "skip", "fill")),
        backfill=draw.choice((0.0, 60.0)), check_symbols=False,
    )  # fmt: skip
    verdict = Verdict(seed, number, f"{ids} {world.paging.name} {history_from} {specs[-1]} {config.empty}")
    return Scenario(draw, world, config, history_from, draw.choice((3, 10, 30)), verdict)


async def live(scenario: Scenario) -> Verdict:
    """Live it to its end, and judge it."""
    draw, world = scenario.random, scenario.world
    await asyncio.sleep(draw.random() * 3.0)
    scenario.began_ms = scenario.heard_ms = world.now_ms()
    scenario.next_place = dict.fromkeys(world.trades, 0)
    await scenario.down(0.0)
    for symbol, trades in world.trades.items():
        place = scenario.next_place[symbol]
        for _ in range(draw.choice((0, 0, 1, 2))):
            if world.ids == "none":
                break
            soon = [at for at in range(place, len(trades)) if trades[at].time_ms < scenario.began_ms + 9 * SECOND_MS]
            at = draw.choice(soon or [place])
            scenario.dropped.update((symbol, one.trade_id) for one in trades[at : at + draw.randrange(1, 4)])
    scenario.make()
    scenario.begin()
    acts = draw.sample([scenario.outage, scenario.restart], k=draw.choice((0, 0, 1, 2)))
    if not scenario.restarts:
        acts = [act for act in acts if act != scenario.restart]
    await scenario.live(draw.choice((0.2, 1.5, 4.0)))
    for act in acts:
        if draw.random() < 0.5:
            scenario.save()
        await scenario.live(draw.choice((0.0, 0.7, 3.0)))
        await act()
        await scenario.live(draw.choice((0.2, 2.5)))
    await scenario.live(AFTER_S + 4.0)
    world.latency_s = world.failing = 0.0
    await scenario.live(AFTER_S / 2)
    assert scenario.keeper is not None
    stats = scenario.keeper.snapshot()
    scenario.open_lanes = set(scenario.session.past.seam.lanes())
    await scenario.end()
    scenario.session.flush(clocks.wall_ns())
    verdict = scenario.verdict
    verdict.events[f"from {scenario.history_from}"] += 1
    verdict.events["history bars"] += stats.bars
    for why in stats.failed.values():
        verdict.faults.append(f"failed: {why}")
    verdict.history = "\n".join(
        f"{to_nanoseconds(bar.open_time) // 10**6 - scenario.began_ms:7d} {bar}" for bar in scenario.bars
    )
    for symbol in world.trades:
        for spec in map(str, scenario.config.specs):
            verdict.faults += judge(scenario, symbol, spec)
    return verdict


def run_one(seed: int, number: int, *, restarts: bool = False) -> Verdict:
    """Run one scenario on a loop of its own."""
    random.seed(f"{seed}:{number}")
    with asyncio.Runner(loop_factory=FakeClockLoop) as runner:
        scenario = begin(seed, number)
        scenario.restarts = restarts
        try:
            return runner.run(live(scenario))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this scenario's result
            scenario.verdict.faults.append(f"crash: {type(error).__name__}: {error}")
            return scenario.verdict
        finally:
            SHARED.reset()


def _run_quietly(job: tuple[int, int, bool]) -> Verdict:
    logging.disable(logging.CRITICAL)
    return run_one(*job[:2], restarts=job[2])


def main() -> int:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenarios", type=int, default=500)
    parser.add_argument("--first", type=int, default=0, help="number of the first scenario")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, help="run this scenario alone, and print all of it")
    parser.add_argument("--restarts", action="store_true", help="processes end and begin again as well")
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    if options.only is not None:
        verdict = run_one(options.seed, options.only, restarts=options.restarts)
        print(verdict.history)
        print("\n".join([verdict.title, *verdict.log, *verdict.faults]))
        print(dict(verdict.statuses), dict(verdict.events))
        return bool(verdict.faults)
    began = time.monotonic()
    statuses, events, failed, bars = Counter[str](), Counter[str](), list[Verdict](), 0
    jobs = [
        (options.seed, number, options.restarts) for number in range(options.first, options.first + options.scenarios)
    ]
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        for verdict in pool.imap_unordered(_run_quietly, jobs, chunksize=8):
            statuses += verdict.statuses
            events += verdict.events
            bars += sum(verdict.statuses.values())
            if verdict.faults:
                failed.append(verdict)
    print(f"{len(jobs)} scenarios, {bars} bars, {time.monotonic() - began:.0f} s")
    for title, counter in (("statuses", statuses), ("events", events)):
        print(f"{title}: " + ", ".join(f"{name} {count}" for name, count in counter.most_common()))
    print(f"failed: {len(failed)} {dict(Counter(one.faults[0].split(':')[0] for one in failed))}")
    for one in failed[:100]:
        print(f"  --seed {one.seed} --only {one.number} {one.title} {dict(one.events)}: {one.faults[0][:300]}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
