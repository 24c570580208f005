"""The law of anchored bars: whatever was lost and came back, the last revisions are those of a cut of the whole truth.

    python -m tests.path_law --scenarios 10000 --seed 7 [--only NUMBER]

A scenario draws the trades of one symbol over a few anchors, and how they come: from some trade on, with holes, out of
order, twice, in batches of any size, with restarts in between; holes are healed in pages, in any order. The truth is
cut in plain `Decimal`, by sorting and adding up. What lacked nothing in the end must be COMPLETE or HEALED, and nothing
else may claim that.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from random import Random
from typing import NamedTuple

from fastbars import BarBuffer, BarStatus, OHLCVBar, TickBatch, TickData
from fastbars.specs import BarSpec

SECOND_NS = 1_000_000_000
START_NS = 1_700_000_000 * SECOND_NS // (3600 * SECOND_NS) * 3600 * SECOND_NS
WHOLE = (BarStatus.COMPLETE, BarStatus.HEALED)
# Cut here in Decimal; kinds that have oracles of their own by a pass over the whole truth, in order.
SPECS = (
    "tick:7@10m",
    "volume:20@10m",
    "value:2000@5m",
    "tick:1@10m",
    "volume:3@1h",
    "volume:20@10m+flow+footprint:5",
    "range:50@10m",
    "renko:20@10m",
    "delta:100@1h",
    "cusum:30@10m",
    "imbalance:volume:100@10m",
    "runs:tick:4:adaptive@10m",
    "imbalance:value:3000:adaptive@1h",
    "volume:20:exact@10m",
    "value:3000:exact@5m",
)


class Trade(NamedTuple):
    """As the exchange made it."""

    number: int
    time_ns: int
    price: Decimal
    size: Decimal
    bought: bool


class Cut(NamedTuple):
    """A bar of the truth."""

    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    quote: Decimal
    bought: Decimal
    trades: int
    first: int
    last: int


@dataclass
class Scenario:
    """What is drawn."""

    number: int
    by_id: bool
    specs: tuple[str, ...]
    trades: list[Trade]
    start: int = 0  # the first trade that comes live
    lost: set[int] = field(default_factory=set)  # of those that should have come live
    reaches_back: bool = False


def anchor_of(spec: BarSpec, time_ns: int) -> int:
    """Where the interval of the anchor begins, of fixed anchors."""
    assert spec.anchor is not None
    _, step, origin = spec.anchor.rule
    return (time_ns - origin) // step * step + origin


def is_full(spec: BarSpec, held: list[Trade]) -> bool:
    """By the definition of the kind."""
    if spec.kind == "tick":
        return len(held) >= spec.step
    if spec.kind == "volume":
        return sum(trade.size for trade in held) >= spec.step
    return sum(trade.size * trade.price for trade in held) >= spec.step


def cut_of(held: list[Trade], by_id: bool) -> Cut:
    prices = [trade.price for trade in held]
    return Cut(
        prices[0], max(prices), min(prices), prices[-1], sum((trade.size for trade in held), Decimal(0)),
        sum((trade.size * trade.price for trade in held), Decimal(0)),
        sum((trade.size for trade in held if trade.bought), Decimal(0)), len(held),
        held[0].number if by_id else 0, held[-1].number if by_id else 0,
    )  # fmt: skip


def in_one_pass(text: str, trades: list[Trade], by_id: bool) -> dict[tuple[int, int], Cut]:
    """As `scratch`, by a buffer that gets all trades in order."""
    spec = BarSpec.parse(text)
    assert spec.anchor is not None
    ordered = trades if by_id else sorted(trades, key=lambda each: each.time_ns)
    bars: dict[tuple[int, int], Cut] = {}
    intervals: dict[int, list[Trade]] = {}
    for trade in ordered:
        intervals.setdefault(anchor_of(spec, trade.time_ns), []).append(trade)
    for anchor, inside in intervals.items():
        buffer = BarBuffer(text, lateness_s=0)
        made: list[OHLCVBar] = []
        places: list[int] = []
        for place, trade in enumerate(inside):
            # Times do not matter within an interval, but for their order.
            got = buffer.add("S", anchor + place, trade.price, trade.size, side="buy" if trade.bought else "sell")
            made += got
            places += [place] * len(got)
        if (current := buffer.current("S", text)) is not None:
            made.append(current)
            places.append(len(inside) - 1)
        for bar, place in zip(made, places, strict=True):
            assert bar.index is not None
            last = inside[place].number if by_id else 0
            bars[anchor, bar.index] = cut_from(bar, False)._replace(last=last)
    return bars


def scratch(text: str, trades: list[Trade], by_id: bool) -> dict[tuple[int, int], Cut]:
    """All bars of a spec, by (anchor, index), of the exchange's trades in its own order."""
    spec = BarSpec.parse(text)
    if spec.kind not in ("tick", "volume", "value") or spec.modifier:
        return in_one_pass(text, trades, by_id)
    intervals: dict[int, list[Trade]] = {}
    for trade in trades if by_id else sorted(trades, key=lambda each: each.time_ns):
        intervals.setdefault(anchor_of(spec, trade.time_ns), []).append(trade)
    bars: dict[tuple[int, int], Cut] = {}
    for anchor, inside in intervals.items():
        held: list[Trade] = []
        index = 0
        for trade in inside:
            held.append(trade)
            if is_full(spec, held):
                bars[anchor, index] = cut_of(held, by_id)
                held, index = [], index + 1
        if held:
            bars[anchor, index] = cut_of(held, by_id)
    return bars


def draw(number: int, seed: int) -> tuple[Scenario, Random]:
    """A scenario, and what draws on while it runs."""
    random = Random(f"{seed}-{number}")
    by_id = random.random() < 0.8
    time_ns = START_NS + random.randrange(3600) * SECOND_NS
    trades = []
    for place in range(random.randrange(5, 120)):
        time_ns += (0 if by_id else 1_000_000) + random.choice(
            (0, 0, 1, 1_000, 1_000, 20_000, random.randrange(200_000))
        ) * 1_000_000
        back_ns = random.choice((0, 0, 0, 0, 1_000_000, 30_000_000)) if by_id else 0
        size = Decimal(random.randrange(1, 900)).scaleb(-random.choice((0, 1, 2, 2)))
        trades.append(
            Trade(
                place + 5, time_ns - back_ns, Decimal(random.randrange(900, 1100)).scaleb(-random.choice((0, 1, 1))),
                size, random.random() < 0.5,
            )
        )  # fmt: skip
    specs = tuple(random.sample(SPECS, random.randrange(1, 4)))
    if random.random() < 0.5:
        specs = (*specs, *random.sample(("1m", "1s", "tick:5", "5m"), random.randrange(1, 3)))
    made = Scenario(number, by_id, specs, trades)
    made.start = random.choice((0, 0, random.randrange(len(trades))))
    made.reaches_back = by_id and random.random() < 0.7
    if by_id:
        for _ in range(random.randrange(4)):
            first = random.randrange(made.start, len(trades))
            made.lost |= set(range(max(first, made.start + 1), min(first + random.randrange(1, 9), len(trades) - 1)))
    return made, random


class Run:
    """A buffer, what it is given, and what it issued last of each bar."""

    def __init__(self, made: Scenario, random: Random) -> None:
        self.made, self.random = made, random
        self.buffer = self._new()
        self.latest: dict[tuple[str, int, int], OHLCVBar] = {}
        self.healed: set[int] = set()
        self.retracted = self.restarts = 0

    def _new(self) -> BarBuffer:
        return BarBuffer(
            list(self.made.specs), ids="contiguous" if self.made.by_id else "none", lateness_s=60,
            heal_horizon_s=7200, first_id=self.made.trades[0].number if self.made.by_id else None,
        )  # fmt: skip

    def note(self, bars: list[OHLCVBar]) -> None:
        for bar in bars:
            if bar.index is None:
                continue
            key = bar.spec, self.anchor(bar), bar.index
            if (before := self.latest.get(key)) is not None:
                assert bar.revision > before.revision, (key, before, bar)
                same = bar == before or (
                    cut_from(bar, self.made.by_id) == cut_from(before, self.made.by_id)
                    and (bar.status, bar.missing_count, bar.close_reason, bar.open_time, bar.close_time)
                    == (before.status, before.missing_count, before.close_reason, before.open_time, before.close_time)
                )
                assert not same, ("issued again, the same", bar)
            if bar.status is BarStatus.RETRACTED:
                self.retracted += 1
            self.latest[key] = bar

    def anchor(self, bar: OHLCVBar) -> int:
        return anchor_of(BarSpec.parse(bar.spec), round(bar.open_time.timestamp() * 1000) * 1_000_000)

    def tick(self, trade: Trade) -> TickData:
        return TickData(
            "S", trade.time_ns, trade.price, trade.size, "buy" if trade.bought else "sell",
            trade.number if self.made.by_id else None,
        )  # fmt: skip

    def deliver(self, trades: list[Trade]) -> None:
        while trades:
            size = self.random.choice((1, 1, 2, 5, 30))
            part, trades = trades[:size], trades[size:]
            if len(part) == 1:
                self.note(self.buffer.add_tick(self.tick(part[0])))
            else:
                batch = self.buffer.new_batch()
                for trade in part:
                    batch.append(
                        "S", trade.time_ns, str(trade.price), str(trade.size), 1 if trade.bought else -1,
                        trade.number if self.made.by_id else None,
                    )  # fmt: skip
                self.note(self.buffer.add_batch(batch))

    def heal(self, trades: list[Trade]) -> None:
        batch: TickBatch = self.buffer.new_batch()
        for trade in trades:
            batch.append("S", trade.time_ns, str(trade.price), str(trade.size), 1 if trade.bought else -1, trade.number)
        self.note(self.buffer.heal(batch))
        self.healed |= {trade.number for trade in trades}

    def restart(self) -> None:
        dumped = self.buffer.dump()
        self.buffer = self._new()
        self.buffer.load(dumped)
        self.restarts += 1


def cut_from(bar: OHLCVBar, by_id: bool) -> Cut:
    """Its values, as those of the truth."""
    values = (
        bar.open, bar.high, bar.low, bar.close, bar.volume, bar.quote_volume, bar.taker_buy_volume, bar.trade_count,
        (bar.first_trade_id or 0) if by_id else 0, (bar.last_trade_id or 0) if by_id else 0,
    )  # fmt: skip
    assert None not in values
    return Cut(*values)  # type: ignore[arg-type]


def is_same(bar: OHLCVBar, cut: Cut, by_id: bool) -> bool:
    """Whether a bar is the true one; its ids count where the truth has them, and the bar has trades of its own."""
    own = cut_from(bar, by_id)
    return own == cut._replace(first=cut.first or own.first, last=cut.last if bar.trade_count else own.last)


def play(made: Scenario, random: Random) -> Run:
    """All that comes, with pages of REST and restarts between."""
    run = Run(made, random)
    live = made.trades[made.start :]
    order = sorted(
        (place for place in range(len(live)) if place + made.start not in made.lost),
        key=lambda place: place + (random.choice((0, 0, 0, 2.5, 5.5)) if place else 0),
    )
    coming = [live[place] for place in order]
    if not made.by_id:  # late by no more than what is waited for
        coming = sorted(live, key=lambda trade: trade.time_ns + random.choice((0, 0, 0, 30)) * SECOND_NS)
    for _ in range(random.choice((0, 0, 3))):
        if made.by_id and coming:
            place = random.randrange(len(coming))
            coming.insert(min(len(coming), place + random.randrange(1, 4)), coming[place])
    back = made.trades[: made.start] if made.reaches_back else []
    pages: list[list[Trade]] = []
    lost = [made.trades[place] for place in sorted(made.lost)]
    healed = back + lost
    while healed:
        size = random.randrange(1, 9)
        pages.append(healed[:size])
        healed = healed[size:]
    if random.random() < 0.5:
        random.shuffle(pages)
    reached = not back
    waiting: list[list[Trade]] = []
    while coming or pages or waiting:
        if coming and (random.random() < 0.7 or not pages):
            size = random.randrange(1, 20)
            run.deliver(coming[:size])
            coming = coming[size:]
            if not reached and random.random() < 0.5:
                run.note(run.buffer.reach_back("S", back[0].number - 1, START_NS - 7200 * SECOND_NS))
                reached = True
        elif pages:
            if not reached and run.buffer.next_id("S") is not None:
                run.note(run.buffer.reach_back("S", back[0].number - 1, START_NS - 7200 * SECOND_NS))
                reached = True
            page = pages.pop(0)
            if missing := [trade for trade in page if is_in(trade.number, run.buffer.missing("S"))]:
                run.heal(missing)
            if len(missing) < len(page) and coming:  # its hole has not opened yet
                waiting.append([trade for trade in page if trade not in missing])
        if not pages and waiting:
            pages, waiting = waiting, []
            if not coming and not any(is_in(trade.number, run.buffer.missing("S")) for page in pages for trade in page):
                break
        if random.random() < 0.1:
            run.restart()
    return run


def is_in(number: int, missing: list[tuple[int, int]]) -> bool:
    return any(first <= number <= last for first, last in missing)


def finish(run: Run) -> None:
    """A trade far behind, which proves all before it."""
    made = run.made
    last = made.trades[-1]
    made.trades.append(Trade(last.number + 1, last.time_ns + 7200 * SECOND_NS, Decimal(1), Decimal(1), True))
    run.deliver(made.trades[-1:])


def wrong(run: Run) -> Iterator[str]:
    """What contradicts the truth."""
    made = run.made
    missing = run.buffer.missing("S") if made.by_id else []
    known = {trade.number for trade in made.trades if not is_in(trade.number, missing)}
    if not made.reaches_back:
        known -= {trade.number for trade in made.trades[: made.start]}
    for text in made.specs:
        spec = BarSpec.parse(text)
        if spec.anchor is None:
            continue
        truth = scratch(text, made.trades, made.by_id)
        own = {key[1:]: bar for key, bar in run.latest.items() if key[0] == text}
        last_anchor = max((key[0] for key in own), default=0)
        for key, cut in truth.items():
            anchor, _ = key
            inside = [trade for trade in made.trades if anchor_of(spec, trade.time_ns) == anchor]
            before = [trade for trade in inside if trade.number <= cut.last or not made.by_id]
            lacks = [trade.number for trade in before if trade.number not in known]
            if lacks:
                continue
            bar = own.get(key)
            if bar is None:
                if anchor <= last_anchor:
                    yield f"{text} {key}: no bar of {cut}"
                continue
            if not is_same(bar, cut, made.by_id):
                yield f"{text} {key}: {bar} is not {cut}"
            elif made.by_id and not bar.is_complete and bar.status is not BarStatus.PROVISIONAL:
                if not may_be_doubtful(run, spec, anchor):
                    yield f"{text} {key}: lacks nothing, and is {bar.status}: {bar}"
            elif not made.by_id and bar.status not in (BarStatus.UNVERIFIABLE, BarStatus.PARTIAL):
                yield f"{text} {key}: {bar.status}: {bar}"
        for key, bar in own.items():
            absent = [
                trade for trade in made.trades if trade.number not in known and anchor_of(spec, trade.time_ns) == key[0]
            ]
            if absent and (not made.by_id or not may_be_doubtful(run, spec, key[0])):
                continue  # it began behind them; or the neighbours of the hole are of other intervals: ids cannot tell
            if bar.is_complete and key not in truth:
                yield f"{text} {key}: claims to be whole, and is no bar: {bar}"
            if bar.is_complete and key in truth and not is_same(bar, truth[key], made.by_id):
                yield f"{text} {key}: claims to be whole, and is not {truth[key]}: {bar}"
            if not made.by_id and key not in truth and bar.status is not BarStatus.RETRACTED:
                yield f"{text} {key}: is no bar: {bar}"


def may_be_doubtful(run: Run, spec: BarSpec, anchor: int) -> bool:
    """Where a hole reaches into the interval in time, ids cannot tell that none of its trades is of this one."""
    assert spec.anchor is not None
    behind = anchor + spec.anchor.rule[1]
    if (
        not run.made.reaches_back
        and run.made.start
        and anchor_of(spec, run.made.trades[run.made.start].time_ns) == anchor
    ):
        return True  # the last trade of the interval before is not known
    return any(
        min(since, until) < behind and max(since, until) >= anchor for _, _, since, until in run.buffer.holes("S")
    )


def check(number: int, seed: int) -> tuple[list[str], Run]:
    made, random = draw(number, seed)
    run = play(made, random)
    finish(run)
    return list(wrong(run)), run


def main() -> None:
    """Plays scenarios, and says which fail."""
    parser = argparse.ArgumentParser(prog="python -m tests.path_law")
    parser.add_argument("--scenarios", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int)
    options = parser.parse_args()
    failed = retracted = restarts = bars = 0
    for number in range(options.scenarios) if options.only is None else [options.only]:
        try:
            found, run = check(number, options.seed)
        except Exception as error:
            failed += 1
            print(f"--seed {options.seed} --only {number}: {error!r}"[:400])
            if options.only is not None:
                raise
            continue
        bars += len(run.latest)
        retracted += run.retracted
        restarts += run.restarts
        if found:
            failed += 1
            print(f"--seed {options.seed} --only {number}: {len(found)}: {found[0]}"[:500])
        if options.only is not None:
            print(run.made, *found, *run.latest.values(), sep="\n")
    print(f"{options.scenarios} scenarios, {bars} bars, {retracted} retracted, {restarts} restarts, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
