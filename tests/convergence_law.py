"""The law of convergence: bars that are functions of the exchange's trades are the same, whoever cuts them.

    python -m tests.convergence_law --scenarios 10000 --seed 7
    python -m tests.convergence_law --seed 7 --only 1234
    python -m tests.convergence_law --kinds tick,volume

A scenario is one exchange and two processes that begin at different times, on the fake clock and without sockets. Each
has losses of its own: trades that never come, come late, come twice; connections that are down; restarts and kills,
with and without a snapshot; a beginning inside an anchor. The truth is cut from scratch from what the exchange traded,
in plain Decimal. Time bars and anchored ones are judged alike: a time bar is the only bar of an anchor as long as
itself. For the last revision of each bar:

    whole    A bar that says so (COMPLETE, HEALED, UNVERIFIABLE) is the bar of that number in its anchor's truth.
    healed   Where all that an anchor lacked could be had, its bars are whole, as many as the truth has, and none more.
    agree    What both processes call whole is equal, field by field.
    one      Revisions of a bar rise, and what was retracted had been issued.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import multiprocessing
import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from decimal import Decimal
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import NamedTuple

if __package__:  # run as a module: what it imports beside itself is found as pytest finds it
    sys.path.insert(0, str(Path(__file__).parent))

from fake_clock import FakeClockLoop
from fastbars import OHLCVBar, StreamConfig, clocks
from fastbars.errors import SpecError
from fastbars.exchanges.history import Paging
from fastbars.live.shared import SHARED
from fastbars.specs import BarSpec
from fastbars.ticks import to_nanoseconds
from history_law import PAGINGS, SECOND_MS, Made, Scenario, Verdict, World

WHOLE = ("COMPLETE", "HEALED", "UNVERIFIABLE")
GRACE_S = 0.3
LATENESS_S = 3.0
HEALS_MS = 3 * SECOND_MS
LIVED_S = 17.0
AFTER_S = 7.0  # quiet for healing before a scenario is judged
ANCHORS_S = (5, 10)
START_MS = 1_723_161_240_000  # by the fake clock
# Not of the truth: how a bar came to be what it is.
_OF_ITS_LIFE = ("status", "revision", "close_reason", "inverse", "unpublished_count")

Ends = Callable[[Sequence[Made], Decimal], list[int]]


# The truth.


class Cut(NamedTuple):
    """A bar of the truth."""

    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    quote_volume: Decimal
    trade_count: int
    buy_count: int
    taker_buy_volume: Decimal
    first_ms: int
    last_ms: int
    largest_trade: Decimal
    first_id: int | None
    last_id: int | None


def _ends_of_sums(of_trade: Callable[[Made], Decimal]) -> Ends:
    """Behind each trade that brings the sum since the end before to the step."""

    def ends(trades: Sequence[Made], step: Decimal) -> list[int]:
        found, sums = [0], [Decimal(0), *accumulate(map(of_trade, trades))]
        for place in range(1, len(sums)):
            if sums[place] - sums[found[-1]] >= step:
                found.append(place)
        return found[1:]

    return ends


KINDS: dict[str, tuple[str, Ends]] = {  # kind -> a step that a few trades reach, and where its bars end
    "tick": ("4", _ends_of_sums(lambda _: Decimal(1))),
    "volume": ("9.5", _ends_of_sums(lambda one: one.size)),
    "value": ("950", _ends_of_sums(lambda one: one.price * one.size)),
}


def cut(spec: str, trades: Sequence[Made], *, has_ids: bool) -> dict[tuple[int, int], Cut]:
    """(beginning of the anchor in ms, number in it) -> bar, of all trades there are, in order."""
    head, _, anchor = spec.rpartition("@")
    kind, _, step = head.partition(":")
    length_ms = int(anchor.removesuffix("s")) * SECOND_MS
    inside: dict[int, list[Made]] = defaultdict(list)
    for one in trades:
        inside[one.time_ms // length_ms * length_ms].append(one)
    bars = {}
    for anchor_ms, own in inside.items():
        ends = KINDS[kind][1](own, Decimal(step)) if kind else []
        if len(own) not in ends:
            ends = [*ends, len(own)]
        for number, (since, until) in enumerate(zip([0, *ends], ends, strict=False)):
            bars[anchor_ms, number] = _bar_of(own[since:until], has_ids=has_ids)
    return bars


def _bar_of(own: Sequence[Made], *, has_ids: bool) -> Cut:
    bought = [one for one in own if not one.sells]
    prices, zero = [one.price for one in own], Decimal(0)
    return Cut(
        prices[0], max(prices), min(prices), prices[-1], sum((one.size for one in own), zero),
        sum((one.price * one.size for one in own), zero), len(own), len(bought),
        sum((one.size for one in bought), zero), min(one.time_ms for one in own), max(one.time_ms for one in own),
        max(one.size for one in own), own[0].trade_id if has_ids else None, own[-1].trade_id if has_ids else None,
    )  # fmt: skip


def _has(bar: OHLCVBar) -> Cut:
    assert bar.first_trade_time is not None
    assert bar.last_trade_time is not None
    return Cut(
        bar.open, bar.high, bar.low, bar.close, bar.volume, bar.quote_volume, bar.trade_count, bar.buy_count,  # type: ignore[arg-type]
        bar.taker_buy_volume, to_nanoseconds(bar.first_trade_time) // 10**6,  # type: ignore[arg-type]
        to_nanoseconds(bar.last_trade_time) // 10**6, bar.largest_trade, bar.first_trade_id, bar.last_trade_id,  # type: ignore[arg-type]
    )  # fmt: skip


# Two lives.


@dataclass
class Pair:
    """Two processes of one exchange.

    Attributes:
        specs: as the truth is told them: a time bar of 5 s is "@5s".
        backfills: whether a beginning inside an anchor is reached back to.
    """

    random: Random
    world: World
    specs: tuple[str, ...]
    config: StreamConfig
    verdict: Verdict
    lives: list[Scenario] = field(default_factory=list)

    @property
    def backfills(self) -> bool:
        """Whether a beginning inside an anchor is reached back to."""
        return self.config.backfill > 0 and self.world.ids != "none"


def kinds_there_are(wanted: Iterable[str] = KINDS) -> tuple[str, ...]:
    """Those of these kinds that can be anchored."""
    found = []
    for kind in wanted:
        try:
            BarSpec.parse(f"{kind}:{KINDS[kind][0]}@5s")
        except SpecError:
            continue
        found.append(kind)
    return tuple(found)


def begin(seed: int, number: int, kinds: Sequence[str]) -> Pair:
    """Draw a scenario."""
    draw = Random(f"{seed}:{number}")
    ids = draw.choice(("contiguous", "contiguous", "contiguous", "none"))
    world = World(
        draw, ids, draw.choice(PAGINGS), page_size=draw.choice((7, 25, 100)), leaves_out=False, has_candles=False,
        lag_ms=draw.choice((0, 0, 200, 900)), latency_s=draw.choice((0.0, 0.05, 0.4)),
        failing=draw.choice((0.0, 0.0, 0.2)), is_broken=draw.random() < 0.1,
    )  # fmt: skip
    if world.paging in (Paging.BACKWARD_BY_TIME, Paging.FORWARD_BY_CURSOR):  # a page needs more than one time has
        world.page_size = max(world.page_size, 25)
    before_s = 12.0
    for symbol in ("BTCUSDT", "ETHUSDT")[: draw.choice((1, 1, 2))]:
        number_, rate, at_ms = draw.randrange(1, 10**9), draw.choice((1.0, 3.0, 6.0)), START_MS - before_s * 1000
        trades = world.trades[symbol] = list[Made]()
        while at_ms < START_MS + (4.0 + LIVED_S + AFTER_S) * 1000:
            at_ms += 1 + draw.expovariate(rate / 2) * 1000
            # Without ids, trades of one time have no order but that in which they come: there is one of each time.
            for _ in range(1 if ids == "none" else draw.choice((1, 1, 2, 4))):
                price, size = Decimal(draw.randrange(9_000, 11_000)) / 100, Decimal(draw.randrange(1, 500)) / 100
                trades.append(Made(number_, int(at_ms), price, size, draw.random() < 0.5))
                number_ += 1
    drawn = draw.sample(kinds, k=min(2, len(kinds)))
    specs = ("@5s", *(f"{kind}:{KINDS[kind][0]}@{draw.choice(ANCHORS_S)}s" for kind in drawn))
    config = StreamConfig(
        bars=[spec.removeprefix("@") for spec in specs], grace=GRACE_S, lateness=LATENESS_S, heal_horizon=60.0,
        backfill=draw.choice((0.0, 60.0, 60.0)), check_symbols=False,
    )  # fmt: skip
    verdict = Verdict(seed, number, f"{ids} {world.paging.name} {' '.join(specs)} backfill={config.backfill}")
    pair = Pair(draw, world, specs, config, verdict)
    pair.lives = [Scenario(draw, world, config, None, 0, Verdict(seed, number)) for _ in range(2)]
    return pair


async def _live(pair: Pair, place: int) -> None:
    draw, world, life = pair.random, pair.world, pair.lives[place]
    await asyncio.sleep(draw.random() * 2.0 + place * draw.choice((0.0, 1.5, 5.0)))
    life.began_ms = life.heard_ms = world.now_ms()
    life.next_place = dict.fromkeys(world.trades, 0)
    await life.down(0.0)
    for symbol, trades in world.trades.items():
        soon = [one for one in trades if life.began_ms <= one.time_ms < life.began_ms + 12 * SECOND_MS]
        if not soon:
            continue
        if world.ids != "none":  # else nobody could know
            for _ in range(draw.choice((0, 1, 2))):
                at = draw.randrange(len(soon))
                life.dropped.update((symbol, one.trade_id) for one in soon[at : at + draw.randrange(1, 6)])
            life.doubled.update(
                (symbol, one.trade_id) for one in draw.sample(soon, k=draw.randrange(min(3, len(soon))))
            )
        for one in draw.sample(soon, k=draw.randrange(min(4, len(soon)))):
            life.late[symbol, one.trade_id] = draw.choice((90, 400, 1200))
    life.make()
    life.begin()
    acts = draw.sample([life.outage, life.restart], k=draw.choice((0, 1, 2)))
    if world.ids == "none":  # without connections, a session that was restored does not know what it lost
        acts = [act for act in acts if act != life.restart]
    await life.live(draw.choice((1.5, 4.0)))
    for act in acts:
        if draw.random() < 0.5:
            life.save()
        await life.live(draw.choice((0.0, 0.7, 3.0)))
        await act()
        await life.live(draw.choice((0.2, 2.5)))
    await life.live(max(0.0, START_MS / 1000 + LIVED_S - clocks.wall_ns() / 1e9))


async def live(pair: Pair) -> Verdict:
    """Live both lives to their end, and judge them."""
    world, verdict = pair.world, pair.verdict
    await asyncio.gather(*(_live(pair, place) for place in range(2)))
    world.latency_s = world.failing = 0.0
    await asyncio.gather(*(life.live(AFTER_S) for life in pair.lives))
    for life in pair.lives:
        await life.end()
        life.session.flush(clocks.wall_ns())
        verdict.events += life.verdict.events
        verdict.events["dropped"] += len(life.dropped)
        verdict.events["late"] += len(life.late)
        verdict.log += life.verdict.log
    verdict.history = "\n".join(
        f"process {place} {to_nanoseconds(bar.open_time) // 10**6 - START_MS:7d} {bar} {bar.close_reason}"
        for place, life in enumerate(pair.lives)
        for bar in life.bars
    )
    for symbol in world.trades:
        for spec in pair.specs:
            verdict.faults += judge(pair, symbol, spec)
    return verdict


def judge(pair: Pair, symbol: str, spec: str) -> list[str]:
    """What is wrong with the bars of one symbol and spec."""
    faults = list[str]()
    truth = cut(spec, pair.world.trades[symbol], has_ids=pair.world.ids != "none")
    anchors = sorted({anchor_ms for anchor_ms, _ in truth})
    numbers = Counter(anchor_ms for anchor_ms, _ in truth)
    both = []
    for place, life in enumerate(pair.lives):
        where = f"process {place}, {spec} of {symbol}"
        last = _last_of(life, symbol, spec, where, faults)
        both.append(last)
        for key, bar in sorted(last.items()):
            pair.verdict.statuses[bar.status] += 1
            if bar.status in WHOLE and (_has(bar) if bar.trade_count else None) != truth.get(key):
                faults.append(f"whole: {where}: {_at(key)}: {bar} is not the truth's {truth.get(key)}")
        length_ms = _length_ms(spec)
        for anchor_ms in anchors:
            if not _can_be_whole(pair, life, symbol, anchor_ms, length_ms):
                continue
            pair.verdict.events["anchors to be whole"] += 1
            own = {number: bar for (at_ms, number), bar in last.items() if at_ms == anchor_ms}
            if sorted(own) != list(range(numbers[anchor_ms])):
                faults.append(
                    f"healed: {where}: {_at((anchor_ms, 0))} has bars {sorted(own)}, the truth {numbers[anchor_ms]}"
                )
            bad = [bar for bar in own.values() if bar.status not in WHOLE]
            if bad:
                faults.append(f"healed: {where}: {_at((anchor_ms, 0))}: {len(bad)} are not whole: {bad[0]}")
    first, second = both
    for key in first.keys() & second.keys():
        if first[key].status in WHOLE and second[key].status in WHOLE:
            pair.verdict.events["bars compared"] += 1
            for one in fields(OHLCVBar):
                values = getattr(first[key], one.name), getattr(second[key], one.name)
                if one.name not in _OF_ITS_LIFE and values[0] != values[1]:
                    faults.append(f"agree: {spec} of {symbol}: {_at(key)}: {one.name} is {values[0]} and {values[1]}")
    return faults


def _at(key: tuple[int, int]) -> str:
    return f"bar {key[1]} of {key[0] - START_MS}"


def _length_ms(spec: str) -> int:
    return int(spec.rpartition("@")[2].removesuffix("s")) * SECOND_MS


def _last_of(life: Scenario, symbol: str, spec: str, where: str, faults: list[str]) -> dict[tuple[int, int], OHLCVBar]:
    """The last revision of each bar that there still is."""
    last: dict[tuple[int, int], OHLCVBar] = {}
    gone = set[tuple[int, int]]()
    for bar in life.bars:
        if (bar.symbol, bar.spec) != (symbol, spec.removeprefix("@")):
            continue
        key = _key(bar, spec)
        before = last.get(key)
        if before is not None and bar.revision <= before.revision and bar != before:
            faults.append(f"one: {where}: {bar} after {before}")
        if bar.status == "RETRACTED" and before is None:
            faults.append(f"one: {where}: {bar} had never been issued")
        (gone.add if bar.status == "RETRACTED" else gone.discard)(key)
        last[key] = bar
    return {key: bar for key, bar in last.items() if key not in gone}


def _key(bar: OHLCVBar, spec: str) -> tuple[int, int]:
    if spec.startswith("@"):
        return to_nanoseconds(bar.open_time) // 10**6, 0
    assert bar.index is not None
    length_ms = int(spec.rpartition("@")[2].removesuffix("s")) * SECOND_MS
    return to_nanoseconds(bar.open_time) // 10**6 // length_ms * length_ms, bar.index


def _can_be_whole(pair: Pair, life: Scenario, symbol: str, anchor_ms: int, length_ms: int) -> bool:
    """Whether this process can come to have all that was traded in an anchor, and to know it."""
    world = pair.world
    trades, until_ms = world.trades[symbol], anchor_ms + length_ms
    ended_ms = world.now_ms()
    if until_ms + HEALS_MS > ended_ms or until_ms <= life.began_ms:
        return False
    if not any(
        until_ms <= one.time_ms < ended_ms - HEALS_MS and (symbol, one.trade_id) in life.heard for one in trades
    ):
        return False  # nothing has come that could prove its end
    heard = [place for place, one in enumerate(trades) if (symbol, one.trade_id) in life.heard]
    # Of a symbol that began after the snapshot a killed process leaves nothing: there it begins anew.
    first_ms = trades[heard[0]].time_ms
    if world.ids == "none":
        lost = any(since <= until_ms and anchor_ms <= until for since, until in life.lost_ms)
        return anchor_ms > first_ms + GRACE_S * 1000 + 100 and not lost
    if until_ms <= first_ms:
        return False
    if first_ms >= anchor_ms:  # the process began inside it, or no trade before it has come
        return pair.backfills and not world.is_broken and anchor_ms > trades[0].time_ms
    # Where nothing can be fetched, none may be missing from the last trade before it to the first behind it.
    before = max(place for place in heard if trades[place].time_ms < anchor_ms)
    behind = min(place for place in heard if trades[place].time_ms >= until_ms)
    return not world.is_broken or set(heard) >= set(range(before, behind))


def run_one(seed: int, number: int, kinds: Sequence[str]) -> Verdict:
    """Run one scenario on a loop of its own."""
    random.seed(f"{seed}:{number}")
    with asyncio.Runner(loop_factory=FakeClockLoop) as runner:
        pair = begin(seed, number, kinds)
        try:
            return runner.run(live(pair))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this scenario's result
            pair.verdict.faults.append(f"crash: {type(error).__name__}: {error}")
            return pair.verdict
        finally:
            SHARED.reset()


def _run_quietly(job: tuple[int, int, tuple[str, ...]]) -> Verdict:
    logging.disable(logging.CRITICAL)
    return run_one(*job)


def main() -> int:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenarios", type=int, default=500)
    parser.add_argument("--first", type=int, default=0, help="number of the first scenario")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, help="run this scenario alone, and print all of it")
    parser.add_argument("--kinds", default=",".join(kinds_there_are()), help="of anchored bars, beside time bars")
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    kinds = kinds_there_are(filter(None, options.kinds.split(",")))
    if options.only is not None:
        verdict = run_one(options.seed, options.only, kinds)
        print("\n".join([verdict.history, verdict.title, *verdict.log, *verdict.faults]))
        print(dict(verdict.statuses), dict(verdict.events))
        return bool(verdict.faults)
    began = time.monotonic()
    statuses, events, failed = Counter[str](), Counter[str](), list[Verdict]()
    jobs = [(options.seed, number, kinds) for number in range(options.first, options.first + options.scenarios)]
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        for verdict in pool.imap_unordered(_run_quietly, jobs, chunksize=8):
            statuses += verdict.statuses
            events += verdict.events
            failed += [verdict] if verdict.faults else []
    print(
        f"{len(jobs)} scenarios of {', '.join(kinds)}, {sum(statuses.values())} bars, {time.monotonic() - began:.0f} s"
    )
    for title, counter in (("statuses", statuses), ("events", events)):
        print(f"{title}: " + ", ".join(f"{name} {count}" for name, count in counter.most_common()))
    print(f"failed: {len(failed)} {dict(Counter(one.faults[0].split(':')[0] for one in failed))}")
    for one in failed[:100]:
        print(f"  --seed {one.seed} --only {one.number} {one.title}: {one.faults[0][:300]}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
