"""The coverage law, judged from outside: random lives of a stream beside what the exchange traded and sent.

    python -m tests.coverage_law --scenarios 10000 --seed 7
    python -m tests.coverage_law --seed 7 --only 1234

A scenario is one simulated exchange and one client on the fake clock, with a few of the things that go wrong between
the two, or that users do. The truth is taken from the simulator's record alone, and the client is used as users use it.
The law, for the highest revision of each bar:

    whole    A bar COMPLETE, HEALED or UNVERIFIABLE equals what the exchange traded in its interval. PUBLISHED may lack
             what the exchange's history leaves out, and nothing else. SAMPLED reaches as far as the samples do.
    honest   No bar is GAP, and none PARTIAL, that lies a grace inside a span in which connections carried its symbol
             undisturbed, where none of its trades, and none next to them, was lost. None is PROVISIONAL whose end the
             next trade has proven.
    present  An interval with trades, between the first bar of its symbol and the last one, has a bar, while the symbol
             is subscribed. (Trades lost under full coverage, between two others, may have none: ids alone tell.)
    single   No bar has more trades than its interval. Revisions rise; the same revision is the same bar.

Units: `_ms` on the exchange's clock, since the Unix epoch; `_s` from the start of a scenario.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import logging
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

if __package__:  # run as a module: what it imports beside itself is found as pytest finds it
    sys.path.insert(0, str(Path(__file__).parent))

import fastbars
from fake_clock import FakeClockLoop
from fastbars import OHLCVBar, StreamConfig
from fastbars.errors import SubscriptionError, WebSocketError
from fastbars.exchanges import TradeFields, find_exchange
from fastbars.exchanges.binance import Binance
from fastbars.exchanges.declaration import Exchange
from fastbars.live.shared import SHARED
from fastbars.simulator import Fault, FaultKind, Faults, SimulatedExchange
from fastbars.simulator.record import ConnectionRecord
from fastbars.simulator.rest import RestFault
from fastbars.streams import BarStream
from fastbars.ticks import to_nanoseconds
from servers import until as until_true

GRACE_S = 0.3
LATENESS_S = 2.0
STATE_INTERVAL_S = 1.0
TICK_S = 0.05
SETTLE_S = 9.0
PAUSES = 14  # between trades of a symbol, after which its rate is known: ten, and some that no check can tell apart
CHECK_MS = 500
HORIZON_S = 60.0
SLACK_MS = 400  # messages wait for others for up to 250 ms, and the simulator has a turn every 50 ms
MARGIN_MS = int(GRACE_S * 1000) + SLACK_MS
SPECS = ("1s", "5s")
NEVER = 1 << 62

Span = tuple[int, int]
Key = tuple[str, str, datetime]


@dataclass(frozen=True)
class _WithoutIds(Binance):
    """A venue whose trades have no ids at all."""

    def fields(self, channel: str) -> TradeFields | None:
        fields = super().fields(channel)
        return fields and dataclasses.replace(fields, first_id=None, last_id=None)


def _without_ids() -> Exchange:
    spot = find_exchange("binance", "spot")
    given = {one.name: getattr(spot, one.name) for one in dataclasses.fields(spot)}  # type: ignore[arg-type]
    return _WithoutIds(**{**given, "channels": {**given["channels"], "trade": "none"}, "histories": {}})


class Venue(NamedTuple):
    """One venue, and what its ids are."""

    ids: str
    exchange: str
    market: str
    channel: str | None = None


VENUES: dict[str, Sequence[Venue]] = {
    "contiguous": (
        Venue("contiguous", "binance", "spot"),
        Venue("contiguous", "binance", "usdm"),
        Venue("contiguous", "okx", "spot"),
        Venue("contiguous", "coinbase", "spot"),
        Venue("contiguous", "kraken", "spot"),
        Venue("contiguous", "deribit", "linear"),
    ),
    "sequenced": (Venue("sequenced", "binance", "usdm", "aggTrade"),),
    "unique": (Venue("unique", "hyperliquid", "perp"), Venue("unique", "bybit", "linear")),
    "none": (Venue("none", "binance", "spot", "trade"),),
    "sampled": (Venue("sampled", "interactive_brokers", "gateway"),),
}
NUMBERED = ("contiguous", "sequenced")


class Trade(NamedTuple):
    """One trade as the exchange made it."""

    trade_id: int
    time_ms: int
    price: Decimal
    size: Decimal


@dataclass
class Client:
    """One process of the user: a stream and the loop that takes its bars."""

    stream: BarStream
    taking: asyncio.Task[None] | None = None
    is_dead: bool = False  # what it still brings was never seen


@dataclass
class Scenario:
    """One life, and what was seen of it.

    Attributes:
        wanted: symbol -> spans in which the user wanted it; the last may be open.
        disturbed: spans in which the whole process, or its consumer, stood still.
        restarts_ms: when further processes began.
    """

    seed: int
    number: int
    random: Random
    venue: Venue
    folder: Path
    server: SimulatedExchange
    config: StreamConfig
    bars: list[OHLCVBar] = field(default_factory=list)
    events: Counter[str] = field(default_factory=Counter)
    log: list[str] = field(default_factory=list)
    wanted: dict[str, list[tuple[int, int | None]]] = field(default_factory=lambda: defaultdict(list))
    disturbed: list[Span] = field(default_factory=list)
    restarts_ms: list[int] = field(default_factory=list)
    pace_s: float = 0.0
    client: Client = field(init=False)

    @property
    def faults(self) -> Faults:
        """Those of the exchange."""
        assert self.server.faults is not None
        return self.server.faults

    def now_ms(self) -> int:
        """By the exchange's clock."""
        return self.server.record.now_ms()

    def note(self, event: str, detail: object = "") -> None:
        """Count an event, and keep it for whoever reads a failure."""
        self.events[event] += 1
        self.log.append(f"{self.now_ms()} {event} {detail}")

    # The client.

    def start(self) -> None:
        """Make a stream; it is entered later."""
        venue = self.venue
        exchange: Any = _without_ids() if venue.ids == "none" else venue.exchange
        stream = fastbars.stream(
            exchange, list(self.wanted) if self.bars else self.server.symbols, SPECS,
            market=None if venue.ids == "none" else venue.market, channel=venue.channel, url=self.server.url,
            config=self.config,
        )  # fmt: skip
        self.client = Client(stream)

    async def enter(self) -> None:
        """Connect and subscribe, as often as it takes."""
        if self.wanted:
            self.restarts_ms.append(self.now_ms())
        for _ in range(20):
            self.start()
            try:
                await self.client.stream.__aenter__()
            except (WebSocketError, OSError) as error:
                self.log.append(f"{self.now_ms()} not entered: {error}")
                await asyncio.sleep(0.5)
                continue
            for symbol in self.server.symbols:
                if not self.wanted[symbol] or self.wanted[symbol][-1][1] is not None:
                    self.wanted[symbol].append((self.now_ms(), None))
            self.client.taking = asyncio.create_task(self._take(self.client))
            return
        raise AssertionError("the stream could not be entered")

    async def _take(self, client: Client) -> None:
        async for bar in client.stream:
            if client.is_dead:
                continue
            self.bars.append(bar)
            if self.pace_s:
                await asyncio.sleep(self.pace_s)

    async def leave(self) -> None:
        """End the stream in order, and take what is left."""
        await self.client.stream.__aexit__(None, None, None)
        assert self.client.taking is not None
        await self.client.taking

    # What can happen. Each takes the symbols that it may befall.

    async def cut(self) -> None:
        self.faults.inject(Fault(FaultKind.DROP, count=0 if self.events["lagging"] else self.random.choice((0, 1))))

    async def closed(self) -> None:
        self.faults.inject(Fault(FaultKind.CLOSE, code=self.random.choice((1000, 1001, 1012, 4000))))

    async def cut_in_a_frame(self) -> None:
        self.faults.inject(FaultKind.CUT_OFF)

    async def cut_frames(self) -> None:
        self.faults.inject(Fault(FaultKind.CUT_FRAME, count=4))

    async def one_symbol_is_silent(self) -> None:
        busiest = max(self.server.symbols, key=lambda symbol: len(self.server.record.trades(symbol)))
        await self._learned()
        self.faults.inject(Fault(FaultKind.MUTE, count=0, symbol=busiest))

    async def all_are_silent(self) -> None:
        await self._learned()
        self.faults.inject(Fault(FaultKind.MUTE, count=0))

    async def _learned(self) -> None:
        # A process knows what is silence only where it has heard for a while how often a symbol trades.
        began_ms = self.restarts_ms[-1] if self.restarts_ms else 0
        if self.restarts_ms:
            await asyncio.sleep(max(0.0, (self.restarts_ms[-1] - self.now_ms()) / 1000 + 8.0))
        for _ in range(30):
            if all(self._pauses(symbol, began_ms) >= PAUSES for symbol in self.server.symbols):
                break
            await asyncio.sleep(1.0)

    def _pauses(self, symbol: str, since_ms: int) -> int:
        # Between its trades, as the client's checks can tell them apart.
        record = self.server.record
        if self.venue.ids == "sampled":
            times = [at_ms for name, at_ms, _ in record.samples if name == symbol]
        else:
            times = [trade.time_ms for trade in record.trades(symbol)]
        return len({at_ms // CHECK_MS for at_ms in times if at_ms > since_ms}) - 1

    async def stalled(self) -> None:
        self.faults.inject(Fault(FaultKind.STALL, seconds=self.random.choice((0.5, 2.0, 5.0))))

    async def lagging(self) -> None:
        self.faults.inject(Fault(FaultKind.LAG, seconds=self.random.choice((0.2, 0.8, 2.5, 4.0))))

    async def moved(self) -> None:
        self.faults.inject(Fault(FaultKind.LIFETIME, count=0, seconds=1.0))

    async def late_ack(self) -> None:
        await self._reconnect_with(FaultKind.LATE_ACK)

    async def slow_ack(self) -> None:
        await self._reconnect_with(FaultKind.SLOW_ACK)

    async def lost_ack(self) -> None:
        await self._reconnect_with(FaultKind.LOST_ACK)

    async def never_ack(self) -> None:
        await self._reconnect_with(FaultKind.NEVER_ACK)

    async def swapped_acks(self) -> None:
        await self._reconnect_with(FaultKind.SWAPPED_ACKS)

    async def silent_subscription(self) -> None:
        await self._learned()
        await self._reconnect_with(FaultKind.SILENT_SUBSCRIPTION)

    async def _reconnect_with(self, kind: FaultKind) -> None:
        self.faults.inject(Fault(kind, seconds=self.random.choice((0.1, 0.5, 0.9, 1.5))))
        self.faults.inject(FaultKind.DROP)

    async def refused_symbol(self) -> None:
        name = {"interactive_brokers": "999999"}.get(self.venue.exchange)
        name = name or self.server.symbols[0].replace("BTC", "NOSUCH")
        with suppress(SubscriptionError, WebSocketError):
            await self.client.stream.subscribe([name])
        await asyncio.sleep(0.5)
        with suppress(SubscriptionError, WebSocketError):
            await self.client.stream.unsubscribe([name])

    async def resubscribed(self) -> None:
        symbol = self.random.choice(self.server.symbols)
        now_ms = self.now_ms()
        since_ms, until_ms = self.wanted[symbol][-1]
        if until_ms is not None or self.events["lagging"]:
            return
        self.wanted[symbol][-1] = (since_ms, now_ms)
        with suppress(WebSocketError):
            await self.client.stream.unsubscribe([symbol])
        await asyncio.sleep(self.random.choice((0.0, 0.1, 0.6, 3.0)))
        for _ in range(10):
            try:
                await self.client.stream.subscribe([symbol])
            except WebSocketError as error:
                self.log.append(f"{self.now_ms()} not subscribed: {error}")
                await asyncio.sleep(0.5)
                continue
            self.wanted[symbol].append((self.now_ms(), None))
            return

    async def process_stopped(self) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, FakeClockLoop)
        before_ms = self.now_ms()
        loop.turn(self.random.choice((0.7, 3.0, 20.0, 70.0)))
        self.disturbed.append((before_ms, self.now_ms()))

    async def restarted(self) -> None:
        before_ms = self.now_ms()
        await self.leave()
        await asyncio.sleep(self.random.choice((0.0, 0.2, 1.0, 6.0)))
        await self.enter()
        self.disturbed.append((before_ms, self.now_ms()))

    async def killed(self) -> None:
        """What is on disk now is all that outlives the process; what it brings from now on nobody has seen."""
        before_ms = self.now_ms()
        kept = self.folder.with_suffix(".kept")
        shutil.copytree(self.folder, kept)
        self.client.is_dead = True
        await self.leave()
        shutil.rmtree(self.folder)
        for lock in kept.glob("*.lock"):
            lock.unlink()
        kept.rename(self.folder)
        await asyncio.sleep(self.random.choice((0.0, 0.2, 1.0, 6.0)))
        await self.enter()
        # Since the last snapshot.
        self.disturbed.append((before_ms - int((STATE_INTERVAL_S + 1.0) * 1000), self.now_ms()))

    async def late_trades(self) -> None:
        seconds = self.random.choice((0.2, 0.6, 1.5, 2.6, 4.0, 7.0))
        self.faults.inject(Fault(FaultKind.DELAY, count=self.random.randrange(1, 6), seconds=seconds))

    async def swapped(self) -> None:
        self.faults.inject(Fault(FaultKind.REORDER, count=3))

    async def sent_twice(self) -> None:
        self.faults.inject(Fault(FaultKind.DUPLICATE, count=5))

    async def missing_trades(self) -> None:
        self.faults.inject(Fault(FaultKind.DROP_TRADE, count=self.random.choice((1, 3, 12))))

    async def refused_trades(self) -> None:
        self.faults.inject(Fault(FaultKind.UNFIT_TRADE, count=self.random.choice((1, 1, 2, 30))))

    async def ids_begin_anew(self) -> None:
        # Long enough after the first trade: an id whose holder may have traded within the lateness is a repetition.
        symbol = self.random.choice(self.server.symbols)
        await until_true(lambda: self.server.record.trades(symbol))
        seen = self.server.record.trades(symbol)
        await asyncio.sleep(max(0.0, (seen[0].time_ms - self.now_ms()) / 1000 + LATENESS_S + 1.5))
        kinds = {"higher": None, "lower": max(seen[0].trade_id - 10**6, 1), "at 1": 1, "over again": seen[0].trade_id}
        kind = self.random.choice(list(kinds))
        self.note(f"ids begin anew: {kind}", symbol)
        self.faults.inject(Fault(FaultKind.RENEW_IDS, symbol=symbol, first_id=kinds[kind]))

    async def rest_fails(self) -> None:
        assert self.server.rest is not None
        for _ in range(self.random.randrange(1, 5)):
            self.server.rest.faults.append(
                self.random.choice(
                    (
                        RestFault(status=500), RestFault(status=429, retry_after_s=1.0), RestFault(empty=True),
                        RestFault(overlap=7), RestFault(body=b"{"), RestFault(delay_s=1.0),
                    )
                )
            )  # fmt: skip
        await self.cut()

    async def rest_lags(self) -> None:
        assert self.server.rest is not None
        self.server.rest.lag_ms = self.random.choice((300, 1500, 4000))
        await self.cut()

    async def rest_has_holes(self) -> None:
        assert self.server.rest is not None
        for symbol in self.server.symbols:
            seen = self.server.record.trades(symbol)
            if seen:
                first = seen[-1].trade_id + self.random.randrange(1, 4)
                self.server.rest.omitted.setdefault(symbol, set()).update(range(first, first + 3))
        self.faults.inject(Fault(FaultKind.DROP_TRADE, count=8))

    async def slow_consumer(self) -> None:
        self.pace_s = self.random.choice((0.05, 0.3, 1.0))
        self.disturbed.append((self.now_ms(), self.now_ms() + 4500))
        asyncio.get_running_loop().call_later(3.5, setattr, self, "pace_s", 0.0)


Act = Callable[[Scenario], Any]
OF_ALL: tuple[Act, ...] = (
    Scenario.cut,
    Scenario.closed,
    Scenario.cut_in_a_frame,
    Scenario.cut_frames,
    Scenario.one_symbol_is_silent,
    Scenario.all_are_silent,
    Scenario.stalled,
    Scenario.lagging,
    Scenario.moved,
    Scenario.late_ack,
    Scenario.slow_ack,
    Scenario.lost_ack,
    Scenario.never_ack,
    Scenario.swapped_acks,
    Scenario.silent_subscription,
    Scenario.refused_symbol,
    Scenario.resubscribed,
    Scenario.resubscribed,
    Scenario.process_stopped,
    Scenario.restarted,
    Scenario.killed,
    Scenario.killed,
    Scenario.slow_consumer,
)
# What cannot befall a kind of ids without anybody being able to know: a trade that is missing from the feed, or comes
# twice, where there are no ids.
OF_IDS: dict[str, tuple[Act, ...]] = {
    "contiguous": (
        Scenario.late_trades, Scenario.swapped, Scenario.sent_twice, Scenario.missing_trades, Scenario.refused_trades,
        Scenario.ids_begin_anew, Scenario.ids_begin_anew, Scenario.rest_fails, Scenario.rest_lags,
        Scenario.rest_has_holes,
    ),
    "sequenced": (
        Scenario.late_trades, Scenario.swapped, Scenario.sent_twice, Scenario.missing_trades, Scenario.refused_trades,
        Scenario.rest_fails, Scenario.rest_lags,
    ),
    "unique": (Scenario.late_trades, Scenario.swapped, Scenario.sent_twice, Scenario.refused_trades),
    "none": (Scenario.late_trades, Scenario.swapped, Scenario.refused_trades),
    "sampled": (),
}  # fmt: skip
# A silence shows where a symbol used to trade often.
NEED_MANY_TRADES = (Scenario.one_symbol_is_silent, Scenario.all_are_silent, Scenario.silent_subscription)


# The truth, from the simulator's record.


class Truth:
    """What the exchange traded, and how it was carried to the client."""

    def __init__(
        self,
        server: SimulatedExchange,
        venue: Venue,
        wanted: Mapping[str, Sequence[tuple[int, int | None]]],
        disturbed: Sequence[Span] = (),
        restarts_ms: Sequence[int] = (),
    ) -> None:
        self.server = server
        self.venue = venue
        self.wanted = wanted
        self._record = server.record
        self._stops = disturbed
        self._made_ms = {
            symbol: {trade.trade_id: trade.time_ms for trade in server.record.trades(symbol)}
            for symbol in server.symbols
        }
        self.trades: dict[str, list[Trade]] = {}
        self.lost: dict[str, set[int]] = {}  # places in `trades`
        self.unfit: dict[str, set[int]] = {}
        self.sent_ms: dict[str, list[int | None]] = {}  # of each trade; None: it was not, or that does not matter
        self.carried: dict[str, list[Span]] = {}
        self.steady: dict[str, list[Span]] = {}
        # Where acks prove nothing, a trade confirms, and nothing else.
        declared = find_exchange(venue.exchange, venue.market)
        acked_alone = declared.acks_prove and declared.acks != "none"
        self._restarts_ms = [0, *restarts_ms]
        suspected_ms = self._suspected_ms()
        for symbol in server.symbols:
            self._read_trades(symbol)
            carried = [
                span
                for connection in self._record.connections
                for span in self._carried_spans(connection, symbol, acked_alone)
            ]
            late = [span for connection in self._record.connections for span in _late_spans(connection)]
            self.carried[symbol] = _joined([*((since, until) for since, _, until in carried), *late])
            steady = [(since + MARGIN_MS, until - MARGIN_MS) for since, until, _ in carried]
            holes = [*disturbed, *self._absences(restarts_ms), *self._suspicions(symbol, suspected_ms)]
            self.steady[symbol] = _joined(piece for span in steady for piece in _without(span, holes))

    def _read_trades(self, symbol: str) -> None:
        record = self._record
        if self.venue.ids == "sampled":
            made = {(trade.trade_id): trade for trade in record.trades(symbol)}
            samples = [
                Trade(trade.trade_id, at_ms, made[trade.trade_id].price, made[trade.trade_id].size)
                for name, at_ms, trade in record.samples
                if name == symbol
            ]
            # Only what has changed is sent: one at the price of the sample before is none to whoever reads.
            changed = [sample for before, sample in pairwise(samples) if sample.price != before.price]
            self.trades[symbol] = samples[:1] + changed
            self.lost[symbol] = self.unfit[symbol] = set()
            self.sent_ms[symbol] = [None] * len(self.trades[symbol])
            return
        trades = self.trades[symbol] = [
            Trade(one.trade_id, one.time_ms, one.price, one.size) for one in record.trades(symbol)
        ]
        # When each was first sent; ids may come again in a later series, so places are matched in order.
        unfit = {number for connection in record.connections for number in connection.unfit.get(symbol, ())}
        sent: dict[int, list[int]] = defaultdict(list)
        for connection in record.connections:
            for number, at_ms in zip(connection.sent.get(symbol, ()), connection.sent_ms.get(symbol, ()), strict=True):
                sent[number].append(at_ms)
        self.sent_ms[symbol] = [None] * len(trades)
        lost = self.lost[symbol] = set()
        self.unfit[symbol] = set()
        for place, trade in enumerate(trades):
            times = [at_ms for at_ms in sent.get(trade.trade_id, ()) if at_ms >= trade.time_ms]
            if not times or min(times) - trade.time_ms > LATENESS_S * 1000 or trade.trade_id in unfit:
                lost.add(place)
            if trade.trade_id in unfit:
                self.unfit[symbol].add(place)
        if self.venue.ids not in NUMBERED:
            # What the exchange itself kept back from a connection that it served cannot be known without ids.
            # Nor what it sent when the bar could not be changed any more.
            kept_back = {number for connection in record.connections for number in connection.dropped.get(symbol, ())}
            self.sent_ms[symbol] = [
                min(sent[trade.trade_id]) if trade.trade_id in sent else NEVER if trade.trade_id in kept_back else None
                for trade in trades
            ]

    def _absences(self, restarts_ms: Sequence[int]) -> list[Span]:
        # A process knows of the one before it what that had heard by its last snapshot.
        times = sorted(at_ms for one in self._record.connections for sent in one.sent_ms.values() for at_ms in sent)
        ends = [one.events[-1].at_ms for one in self._record.connections if one.events[-1].what in ("left", "closed")]
        ended = [max((at_ms for at_ms in ends if at_ms <= began_ms), default=0) for began_ms in restarts_ms]
        saved_ms = int((STATE_INTERVAL_S + 1.0) * 1000)
        return [
            (_latest(times, at_ms - saved_ms), began_ms) for at_ms, began_ms in zip(ended, restarts_ms, strict=True)
        ]

    def _known_ms(self, connection: ConnectionRecord) -> int:
        """When the process of a connection first heard the exchange's clock: with its first trade of any symbol."""
        began_ms = max(at_ms for at_ms in self._restarts_ms if at_ms <= connection.events[0].at_ms)
        later = [one for one in self._record.connections if one.events[0].at_ms >= began_ms]
        return min((times[0] for one in later for times in one.sent_ms.values() if times), default=1 << 62)

    def _suspected_ms(self) -> list[int]:
        """When the client asked again for something that it had, without its user: it has noticed a silence."""
        times = set()
        for connection in self._record.connections:
            carried: set[str] = set()
            for event in connection.events:
                if event.what == "carried":
                    if event.symbol in carried:
                        times.add(event.at_ms)
                    carried.add(event.symbol)
                elif event.what == "ended" and event.symbol in carried:
                    ended_ms = [until for _, until in self.wanted.get(event.symbol, ()) if until is not None]
                    if all(abs(until - event.at_ms) > 2000 for until in ended_ms):
                        times.add(event.at_ms)
                elif event.what in ("stall", "lag", "mute") or (
                    event.what == "closed"
                    and not any(one.what in ("drop", "close", "cut_off") for one in connection.events)
                ):
                    times.add(event.at_ms)  # or it drops the connection
        return sorted(times)

    def _suspicions(self, symbol: str, suspected_ms: Sequence[int]) -> list[Span]:
        # Which symbols it suspects is not on record: any may be, from its last trade to the next. What a process finds
        # when it goes on after it has stood still may be so since before that.
        times = [trade.time_ms for trade in self.trades[symbol]]
        return [
            (
                _latest(
                    times, min([at_ms, *(since for since, until in self._stops if since <= at_ms <= until + 5000)])
                ),
                next((time_ms for time_ms in times if time_ms > at_ms), 1 << 62),
            )
            for at_ms in suspected_ms
        ]

    def _carried_spans(
        self, connection: ConnectionRecord, symbol: str, acked_alone: bool
    ) -> list[tuple[int, int, int]]:
        """The spans in which this connection carried the symbol: from, known until, and until."""
        sent = list(connection.sent_ms.get(symbol, ()))
        if self.venue.ids == "sampled":  # the first is no trade, but the price of the last one before
            for event in connection.events:
                if event.what == "carried" and event.symbol == symbol:
                    place = bisect_left(sent, event.at_ms)
                    del sent[place : place + 1]
        of_all = sorted(at_ms for times in connection.sent_ms.values() for at_ms in times)
        spans: list[tuple[int, int, int]] = []
        carried = acked = None  # since when
        for event in connection.events:
            if event.symbol not in ("", symbol):
                continue
            since_ms = None
            if carried is not None:
                first = bisect_left(sent, carried)
                traded = sent[first] if first < len(sent) else None
                started = [at_ms for at_ms in (acked if acked_alone else None, traded) if at_ms is not None]
                since_ms = max(min(started), carried) if started else None
            if event.what == "carried":
                if carried is not None and since_ms is not None:  # it was asked for again: it may have been silent
                    spans.append((since_ms, _latest(sent, event.at_ms), event.at_ms))
                carried = event.at_ms
            elif event.what == "acked":
                acked = event.at_ms if acked is None or carried is None else acked
            elif event.what in ("left", "closed", "ended", "drop", "close", "cut_off", "stall", "lag", "mute"):
                if since_ms is not None:
                    # A connection that is lost is known to have worked up to its last message.
                    end_ms = event.at_ms
                    if event.what != "left":
                        end_ms = _latest(sent if event.what in ("ended", "mute") else of_all, event.at_ms)
                        end_ms = min(end_ms, self._heard_ms(connection, event.at_ms))
                    spans.append((since_ms, end_ms, event.at_ms))
                carried = acked = None
        if carried is not None:
            first = bisect_left(sent, carried)
            started = [
                at_ms for at_ms in (acked if acked_alone else None, *sent[first : first + 1]) if at_ms is not None
            ]
            if started:
                now_ms = self._record.now_ms()
                spans.append((max(min(started), carried), _latest(of_all, now_ms), now_ms))
        known = self._known_ms(connection)
        return [(max(since, known), sure, until) for since, sure, until in spans if max(since, known) < until]

    def _heard_ms(self, connection: ConnectionRecord, at_ms: int) -> int:
        # The latest time that trades sent by then have; those that were late say nothing of the time since.
        latest_ms = 0
        for symbol, numbers in connection.sent.items():
            sent_ms = connection.sent_ms.get(symbol, ())
            place = bisect_left(sent_ms, at_ms + 1)
            times = self._made_ms[symbol]
            latest_ms = max([latest_ms, *(times.get(number, NEVER) for number in numbers[max(0, place - 10) : place])])
        return latest_ms

    def inside(self, symbol: str, open_ms: int, close_ms: int) -> list[Trade]:
        """The trades of an interval."""
        return [trade for trade in self.trades[symbol] if open_ms <= trade.time_ms < close_ms]

    def count_unknowable(self, symbol: str, open_ms: int, close_ms: int) -> int:
        """How many of the trades of an interval no client can know to be missing."""
        given_up_ms = close_ms + LATENESS_S * 1000
        # What was silent while the process stood still for longer than bars are kept is noticed too late.
        if self.venue.ids not in NUMBERED and any(
            since - 5000 <= close_ms and close_ms + HORIZON_S * 1000 < until + 5000 for since, until in self._stops
        ):
            return len(self.inside(symbol, open_ms, close_ms))
        return sum(
            open_ms <= trade.time_ms < close_ms
            and (self.is_short_silence(symbol, trade.time_ms) if sent_ms is None else sent_ms > given_up_ms)
            for trade, sent_ms in zip(self.trades[symbol], self.sent_ms[symbol], strict=True)
        )

    def is_short_silence(self, symbol: str, at_ms: int) -> bool:
        """Whether the client heard of the symbol again before its silence at a time stood out among its pauses."""
        connections = self._record.connections
        heard = sorted(sent_ms for one in connections for sent_ms in one.sent_ms.get(symbol, ()))
        place = bisect_left(heard, at_ms)
        if self.venue.ids in NUMBERED or place == 0:
            return False
        before = heard[:place]
        # It ends with the next trade, or with its subscription.
        ends = [
            event.at_ms
            for one in connections
            for event in one.events
            if event.what in ("ended", "left", "closed", "drop") and event.symbol in ("", symbol)
        ]
        end_ms = min([end_ms for end_ms in [*ends, *heard[place : place + 1]] if end_ms > before[-1]], default=NEVER)
        longest_ms = max((later - earlier for earlier, later in pairwise(before)), default=0)
        mean_ms = (before[-1] - before[0]) / max(1, len(before) - 1)
        return end_ms - before[-1] < max(1500, 3 * longest_ms, 5 * mean_ms) + 2 * CHECK_MS

    def is_near_loss(self, symbol: str, open_ms: int, close_ms: int) -> bool:
        """Whether a trade of the interval was lost, or one between its trades and those next to them."""
        trades, lost = self.trades[symbol], self.lost[symbol]
        for place in lost:
            before = next((trades[at].time_ms for at in range(place - 1, -1, -1) if at not in lost), 0)
            after = next((trades[at].time_ms for at in range(place + 1, len(trades)) if at not in lost), 1 << 62)
            if before < close_ms and after >= open_ms:
                return True
        for at_ms in self._record.voids(symbol).values():  # a void id that did not come leaves a hole as well
            if not self.is_steady(symbol, at_ms, at_ms + 1):
                place = bisect_left(trades, at_ms, key=lambda trade: trade.time_ms)
                before = trades[place - 1].time_ms if place else 0
                after = trades[place].time_ms if place < len(trades) else 1 << 62
                if before < close_ms and after >= open_ms:
                    return True
        renewed = self._record.renewals.get(symbol, ())
        for at_ms, _ in renewed:
            place = bisect_left([trade.time_ms for trade in trades], at_ms)
            span = [trades[at].time_ms for at in (place - 1, min(place + 2, len(trades) - 1)) if 0 <= at < len(trades)]
            if span and min(span) - 1000 < close_ms and max(span) + 1000 >= open_ms:
                return True
        return False

    def is_steady(self, symbol: str, open_ms: int, close_ms: int) -> bool:
        """Whether connections carried the symbol undisturbed throughout, a grace and more at either end."""
        return any(since <= open_ms and close_ms <= until for since, until in self.steady[symbol])

    def is_carried(self, symbol: str, open_ms: int, close_ms: int) -> bool:
        """Whether connections carried the symbol, though it may not be known of all of that time."""
        return any(since <= open_ms and close_ms <= until for since, until in self.carried[symbol])

    def is_proven(self, symbol: str, open_ms: int, close_ms: int) -> bool:
        """Whether the trade after the interval came on a connection that carried the symbol all the while."""
        trades, lost = self.trades[symbol], self.lost[symbol]
        place = bisect_left(trades, close_ms, key=lambda trade: trade.time_ms)
        after = next((trades[at].time_ms for at in range(place, len(trades)) if at not in lost), None)
        if after is None or self.is_near_loss(symbol, open_ms, after + 1):
            return False
        return self.is_steady(symbol, open_ms, after)

    def is_wanted(self, symbol: str, open_ms: int, close_ms: int) -> bool:
        """Whether the user wanted the symbol throughout, and had it for a grace before."""
        return any(
            since + MARGIN_MS <= open_ms and (until is None or close_ms <= until)
            for since, until in self.wanted.get(symbol, ())
        )


def _late_spans(connection: ConnectionRecord) -> list[Span]:
    # Where everything came late, or nothing: to the client that is a connection which carries its symbols.
    begun_ms = [event.at_ms for event in connection.events if event.what in ("lag", "mute", "stall")]
    return [(at_ms, max(at_ms, connection.events[-1].at_ms)) for at_ms in begun_ms]


def _latest(times: Sequence[int], before_ms: int) -> int:
    place = bisect_left(times, before_ms + 1)
    return times[place - 1] if place else 0


def _joined(spans: Iterable[Span]) -> list[Span]:
    joined: list[Span] = []
    for since, until in sorted(spans):
        if joined and since <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(until, joined[-1][1]))
        elif since < until:
            joined.append((since, until))
    return joined


def _without(span: Span, holes: Sequence[Span]) -> list[Span]:
    pieces = [span]
    for since, until in holes:
        low, high = since - MARGIN_MS, until + MARGIN_MS
        pieces = [
            piece
            for start, end in pieces
            for piece in ((start, min(end, low)), (max(start, high), end))
            if piece[0] < piece[1]
        ]
    return pieces


# The law.


@dataclass
class Verdict:
    """What one scenario came to."""

    seed: int
    number: int
    venue: Venue
    statuses: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)


def judge(scenario: Scenario) -> Verdict:
    """Hold the bars of a scenario against the record of its exchange."""
    truth = Truth(scenario.server, scenario.venue, scenario.wanted, scenario.disturbed, scenario.restarts_ms)
    verdict = Verdict(scenario.seed, scenario.number, scenario.venue, events=scenario.events, log=scenario.log)
    latest, verdict.faults = latest_of(
        # Where a consumer was behind, what it took after the end of the stream was not confirmed.
        scenario.bars,
        again=bool(scenario.events["killed"] or (scenario.events["restarted"] and scenario.events["slow_consumer"])),
    )
    by_symbol: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    for (symbol, spec, _), bar in latest.items():
        open_ms, close_ms = (to_nanoseconds(at) // 10**6 for at in (bar.open_time, bar.close_time))
        verdict.statuses[str(bar.status)] += 1
        if symbol not in truth.trades:
            verdict.faults.append(f"single: a bar of a symbol that was refused: {bar}")
            continue
        by_symbol[symbol, spec].append((open_ms, close_ms))
        fault = judge_bar(truth, bar, open_ms, close_ms) or judge_honesty(truth, bar, open_ms, close_ms)
        if fault:
            verdict.faults.append(f"{fault} {bar!r} [{open_ms}, {close_ms})")
    for (symbol, spec), intervals in by_symbol.items():
        verdict.faults += judge_presence(truth, symbol, spec, intervals)
    return verdict


def latest_of(bars: Iterable[OHLCVBar], *, again: bool) -> tuple[dict[Key, OHLCVBar], list[str]]:
    """The highest revision of each bar, and what is wrong with the order in which they came.

    Args:
        bars: as they were taken.
        again: what was taken and not confirmed may come once more, as it was.
    """
    faults: list[str] = []
    latest: dict[Key, OHLCVBar] = {}
    seen: dict[Key, dict[int, OHLCVBar]] = defaultdict(dict)
    for bar in bars:
        key = (bar.symbol, bar.spec, bar.open_time)
        same = seen[key].get(bar.revision)
        if same is not None and same != bar:
            faults.append(f"single: revision {bar.revision} twice: {same!r} {same.close_reason} and {bar!r}")
        elif same is not None and not again:
            faults.append(f"single: delivered twice: {bar!r}")
        if same is None and seen[key] and bar.revision < max(seen[key]):
            faults.append(f"single: the revision falls back from {max(seen[key])}: {bar!r}")
        seen[key][bar.revision] = bar
        latest[key] = seen[key][max(seen[key])]
    return latest, faults


def judge_bar(truth: Truth, bar: OHLCVBar, open_ms: int, close_ms: int) -> str:
    """What a bar says of itself that is not true; "" if all is."""
    ids, status = truth.venue.ids, str(bar.status)
    trades = truth.inside(bar.symbol, open_ms, close_ms)
    assert bar.trade_count is not None
    if ids == "sampled":
        trades = [trade for trade in trades if not truth.is_short_silence(bar.symbol, trade.time_ms)]
        if status == "SAMPLED" and trades:
            low, high = min(trade.price for trade in trades), max(trade.price for trade in trades)
            if bar.trade_count == 0 or bar.low is None or bar.high is None or bar.low > low or bar.high < high:
                return f"whole: lacks a sample; {len(trades)} from {low} to {high} were sent:"
    elif bar.trade_count > len(trades):
        return f"single: {bar.trade_count} trades, and there were {len(trades)}:"
    elif status in ("COMPLETE", "HEALED", "UNVERIFIABLE", "PUBLISHED"):
        fault = _compare(bar, trades, ids, _omitted(truth, bar.symbol) if status == "PUBLISHED" else set())
        unknowable = truth.count_unknowable(bar.symbol, open_ms, close_ms)
        if fault and not len(trades) - unknowable <= bar.trade_count < len(trades):
            return f"whole: {fault}:"
    elif (
        status == "GAP"
        and bar.missing_count is not None
        and not _has_odd_ids(truth, bar.symbol)
        and bar.missing_count != len(trades) - bar.trade_count
    ):
        return f"whole: {len(trades) - bar.trade_count} trades are missing, not {bar.missing_count}:"
    return ""


def judge_honesty(truth: Truth, bar: OHLCVBar, open_ms: int, close_ms: int) -> str:
    """Why a bar should not say that something may be missing; "" if it may."""
    if str(bar.status) == "PROVISIONAL" and truth.is_proven(bar.symbol, open_ms, close_ms):
        return "honest: PROVISIONAL, and the next trade has come:"
    if str(bar.status) not in ("GAP", "PARTIAL") or not truth.is_steady(bar.symbol, open_ms, close_ms):
        return ""
    if str(bar.status) == "PARTIAL" and truth.venue.ids in NUMBERED and not _trades_before(truth, bar.symbol, open_ms):
        return ""  # no id proves its beginning
    if truth.is_near_loss(bar.symbol, open_ms, close_ms):
        return ""
    return f"honest: {bar.status}, and nothing was lost:"


def _trades_before(truth: Truth, symbol: str, open_ms: int) -> bool:
    since_ms = truth.wanted[symbol][0][0] if truth.wanted.get(symbol) else 1 << 62
    return any(since_ms < trade.time_ms < open_ms for trade in truth.trades[symbol])


def _omitted(truth: Truth, symbol: str) -> set[int]:
    assert truth.server.rest is not None
    return set(truth.server.rest.omitted.get(symbol, ()))


def _has_odd_ids(truth: Truth, symbol: str) -> bool:
    record = truth.server.record
    return bool(record.voids(symbol) or record.renewals.get(symbol)) or truth.venue.ids != "contiguous"


def _compare(bar: OHLCVBar, trades: Sequence[Trade], ids: str, omitted: set[int]) -> str:
    """How a bar that claims to be whole differs from its trades; "" if it does not."""
    assert bar.trade_count is not None
    if omitted and len(trades) != bar.trade_count:
        left_out = [trade for trade in trades if trade.trade_id in omitted]
        if len(trades) - bar.trade_count > len(left_out):
            return f"{len(trades) - bar.trade_count} trades are not in it, {len(left_out)} are left out by REST"
        return ""
    if bar.trade_count != len(trades):
        return f"{bar.trade_count} trades of {len(trades)}"
    if not trades:
        return "" if bar.volume == 0 else "a volume without trades"
    prices = [trade.price for trade in trades]
    volume, quote_volume = sum(trade.size for trade in trades), sum(trade.price * trade.size for trade in trades)
    first_ms, last_ms = min(trade.time_ms for trade in trades), max(trade.time_ms for trade in trades)
    opens, closes = {prices[0]}, {prices[-1]}
    if ids != "contiguous":  # trades of one time may have come in another order
        opens = {trade.price for trade in trades if trade.time_ms == first_ms}
        closes = {trade.price for trade in trades if trade.time_ms == last_ms}
    given = (bar.high, bar.low, bar.volume, bar.quote_volume)
    if given != (max(prices), min(prices), volume, quote_volume) or bar.open not in opens or bar.close not in closes:
        return f"it is {prices[0]} {max(prices)} {min(prices)} {prices[-1]} v{volume}"
    return ""


def judge_presence(truth: Truth, symbol: str, spec: str, intervals: Sequence[Span]) -> list[str]:
    """The intervals with trades that have no bar."""
    length_ms = int(spec.removesuffix("s")) * 1000
    there = {open_ms for open_ms, _ in intervals}
    places: dict[int, list[int]] = defaultdict(list)
    for place, trade in enumerate(truth.trades[symbol]):
        places[trade.time_ms // length_ms * length_ms].append(place)
    faults = []
    for open_ms, found in sorted(places.items()):
        if open_ms in there or not min(there) < open_ms < max(there):
            continue
        if not truth.is_wanted(symbol, open_ms, open_ms + length_ms):
            continue
        lost = truth.lost[symbol] - truth.unfit[symbol]
        is_carried = truth.is_carried(symbol, open_ms, open_ms + length_ms)
        if truth.venue.ids in NUMBERED and is_carried and all(place in lost for place in found):
            continue  # lost under full coverage, between two others
        if all(truth.is_short_silence(symbol, truth.trades[symbol][place].time_ms) for place in found):
            continue
        faults.append(f"present: no {spec} bar of {symbol} at {open_ms}, with {len(found)} trades")
    return faults


# Lives.


def begin(seed: int, number: int, folder: Path) -> tuple[Scenario, list[tuple[float, Act]]]:
    """Draw a scenario: the venue, the settings, and what happens when."""
    draw = Random(f"{seed}:{number}")
    venue = draw.choice(VENUES[draw.choice(("contiguous", *VENUES))])  # those have most that can happen to them
    rate = draw.choice((2.0, 8.0, 8.0, 30.0))
    acts = [draw.choice((*OF_ALL, *OF_IDS[venue.ids] * 2)) for _ in range(draw.choice((1, 1, 2, 3)))]
    if any(act in NEED_MANY_TRADES for act in acts):
        rate = max(rate, 30.0)
    server = SimulatedExchange(
        venue.exchange, market=venue.market, symbols=draw.choice((1, 2, 3)), rate=rate,
        seed=draw.randrange(10**6), tick_s=TICK_S, faults=Faults(draw.randrange(10**6)),
        clock_offset_s=draw.choice((0.0, 0.0, -3.0, 0.7, 40.0)),
        voids_per_minute=0.0 if venue.channel == "aggTrade" else None,
    )  # fmt: skip
    can_share = venue.ids not in ("none", "sampled")
    config = StreamConfig(
        grace=GRACE_S, lateness=LATENESS_S, heal_horizon=HORIZON_S, empty=draw.choice(("skip", "fill")),
        state=folder / "state", state_interval=STATE_INTERVAL_S, reconnect_delay=0.1, reconnect_max_delay=0.5,
        ban_delay=0.5, ack_timeout=1.0, stale_interval=0.25, stale_after=1.5, stale_factor=5.0, heartbeat_interval=1.0,
        heartbeat_timeout=3.0, handover_overlap=0.5, handover_timeout=2.0, connect_timeout=3.0, api_key="key",
        session_token="token" if venue.exchange == "interactive_brokers" else None,
        lines=draw.choice((1, 1, 2)) if can_share else 1,
        streams_per_connection=draw.choice((None, None, 1)),
        connection_lifetime=draw.choice((None, None, 7.0)),
        queue_size=draw.choice((10, 10_000)),
        check_symbols=draw.choice((True, False)),
        backfill=draw.choice((0.0, 60.0)),
    )  # fmt: skip
    at_s = draw.choice((0.5, 4.0, 7.0, 7.0)) if not any(act in NEED_MANY_TRADES for act in acts) else 8.0
    script = []
    for act in acts:
        script.append((at_s, act))
        at_s += draw.choice((0.2, 1.3, 4.0, 7.0))
    return Scenario(seed, number, draw, venue, folder, server, config), script


async def live(seed: int, number: int, folder: Path) -> Verdict:
    """Live one scenario to its end, and judge it."""
    scenario, script = begin(seed, number, folder)
    scenario.events[f"ids: {scenario.venue.ids}"] += 1
    if scenario.config.lines > 1:
        scenario.events["two lines"] += 1
    async with scenario.server as server:
        scenario.config = dataclasses.replace(scenario.config, rest_url=server.rest_url)
        scenario.log.append(f"{scenario.now_ms()} {scenario.venue} {server.symbols} {scenario.config}")
        await scenario.enter()
        now_s = 0.0
        for at_s, act in script:
            await asyncio.sleep(max(0.0, at_s - now_s))
            now_s = max(now_s, at_s)
            scenario.note(act.__name__)
            await act(scenario)
        await asyncio.sleep(SETTLE_S)
        assert server.rest is not None
        server.rest.faults.clear()
        server.rest.lag_ms = 0
        if scenario.events["lagging"]:  # what is under way at the end of a stream is lost, and nobody can know of it
            await scenario.cut()
        await asyncio.sleep(SETTLE_S)
        await scenario.leave()
        for connection in server.record.connections:
            scenario.log += [
                f"{event.at_ms} - connection {connection.number} {event.what} {event.symbol}"
                for event in connection.events
            ]
        scenario.log.sort(key=lambda line: int(line.split(" ", 1)[0]))
        return judge(scenario)


def run_one(seed: int, number: int) -> Verdict:
    """Run one scenario on a loop of its own."""
    random.seed(f"{seed}:{number}")  # delays are drawn by the client
    place = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=place) as folder, asyncio.Runner(loop_factory=FakeClockLoop) as runner:
        try:
            (Path(folder) / "state").mkdir()
            return runner.run(live(seed, number, Path(folder) / "state"))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this scenario's result
            scenario, _ = begin(seed, number, Path(folder))
            return Verdict(seed, number, scenario.venue, faults=[f"crash: {type(error).__name__}: {error}"])
        finally:
            SHARED.reset()


@dataclass
class Tally:
    """What many scenarios came to."""

    scenarios: int = 0
    bars: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    failed: list[Verdict] = field(default_factory=list)

    def add(self, verdict: Verdict) -> None:
        """Count one scenario."""
        self.scenarios += 1
        self.bars += sum(verdict.statuses.values())
        self.statuses += verdict.statuses
        self.events += verdict.events
        if verdict.faults:
            self.failed.append(verdict)

    def report(self, seconds: float) -> str:
        """Lines for whoever ran them."""
        lines = [f"{self.scenarios} scenarios, {self.bars} bars, {seconds:.0f} s"]
        for title, counter in (("statuses", self.statuses), ("events", self.events)):
            lines += [f"{title}: " + ", ".join(f"{name} {count}" for name, count in counter.most_common())]
        kinds = Counter(fault.split(":")[0] for verdict in self.failed for fault in verdict.faults[:1])
        lines.append(f"failed: {len(self.failed)} {dict(kinds)}")
        for verdict in self.failed[:200]:
            head = f"  --seed {verdict.seed} --only {verdict.number}  {verdict.venue.exchange} {verdict.venue.ids}"
            acts = [name for name in verdict.events if ":" not in name and name != "two lines"]
            lines.append(f"{head} {acts}: {verdict.faults[0][:330]}")
        return "\n".join(lines)


def _run_quietly(job: tuple[int, int]) -> Verdict:
    logging.disable(logging.CRITICAL)
    return run_one(*job)


def main() -> int:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenarios", type=int, default=500)
    parser.add_argument("--first", type=int, default=0, help="number of the first scenario")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, help="run this scenario alone, and print all of it")
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    if options.only is not None:
        verdict = run_one(options.seed, options.only)
        print("\n".join([*verdict.log, *verdict.faults]))
        print(dict(verdict.statuses), dict(verdict.events))
        return bool(verdict.faults)
    tally, began = Tally(), time.monotonic()
    jobs = [(options.seed, number) for number in range(options.first, options.first + options.scenarios)]
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        for verdict in pool.imap_unordered(_run_quietly, jobs, chunksize=8):
            tally.add(verdict)
    print(tally.report(time.monotonic() - began))
    return bool(tally.failed)


if __name__ == "__main__":
    sys.exit(main())
