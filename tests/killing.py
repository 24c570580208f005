"""kill -9: streams with `state=` are killed at random moments and started again, and every bar that was seen is judged.

    python -m tests.killing --kills 200 --seed 7
    python -m tests.killing --seconds 600 --every 30 --faults

One process runs the exchanges of seven venues, and keeps the record of what they traded. A child for each venue streams
bars of one second, and appends each to a file before it asks for the next one, which is what confirms it. It is killed,
started again, and killed again; the last one of a venue ends in order. With `--faults` a fault a second befalls one of
the exchanges besides. The law is that of `coverage_law`, but for the statuses that are due to the kills themselves:

    whole    every bar whose status claims to be whole equals what was traded
    present  every interval with trades, from the first bar to the last, has a bar: GAP where it was lost
    single   no revision falls back, no revision is two bars, no bar has more trades than its interval
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import pickle
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from random import Random
from typing import Any

if __package__:  # run as a module: what it imports beside itself is found as pytest finds it
    sys.path.insert(0, str(Path(__file__).parent))

import fastbars
from coverage_law import Span, Truth, Venue, judge_bar, judge_presence, latest_of
from fastbars import OHLCVBar, StreamConfig
from fastbars.errors import WebSocketError
from fastbars.simulator import Fault, FaultKind, Faults, SimulatedExchange
from fastbars.streams import BarStream
from fastbars.ticks import to_nanoseconds
from servers import until

VENUES = (
    Venue("contiguous", "binance", "spot"),
    Venue("contiguous", "binance", "usdm"),
    Venue("unique", "bybit", "linear"),
    Venue("unique", "hyperliquid", "perp"),
    Venue("contiguous", "okx", "spot"),
    Venue("contiguous", "coinbase", "spot"),
    Venue("contiguous", "kraken", "spot"),
    Venue("contiguous", "deribit", "linear"),
)
SYMBOLS = 3
RATE = 15.0  # trades a second and venue
PACES_S = (0.0, 0.0, 0.05, 0.4)  # of consumers, for each bar
WELL_UNDER_WAY = 0.7  # of the children are killed only after their first bar
SETTLE_S = 8.0  # of the last child, which ends in order
# Whatever the client can know of. Who has no ids knows of no single trade that is missing, and of no silence for as
# long as it has not learned how often a symbol trades; a clock that is wrong makes every limit in time wrong.
FAULTS = tuple(
    kind
    for kind in FaultKind
    if kind not in (FaultKind.CLOCK, FaultKind.RENEW_IDS, FaultKind.MUTE, FaultKind.SILENT_SUBSCRIPTION)
)
FAULTS_WITHOUT_IDS = tuple(kind for kind in FAULTS if kind is not FaultKind.DROP_TRADE)
NEED_A_DROP = (
    FaultKind.REFUSE,
    FaultKind.NEVER_ACK,
    FaultKind.LATE_ACK,
    FaultKind.LOST_ACK,
    FaultKind.SLOW_ACK,
    FaultKind.SWAPPED_ACKS,
)


# A child.


def stream_bars(venue: Venue, places: tuple[str, str, list[str]], folder: str, pace_s: float) -> None:
    """Stream the bars of a venue into its file until asked to stop, or killed."""
    sys.stderr = open(f"{folder}/log", "a")  # noqa: SIM115 - for as long as the process lives
    asyncio.run(_stream_bars(venue, places, folder, pace_s))


async def _stream_bars(venue: Venue, places: tuple[str, str, list[str]], folder: str, pace_s: float) -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, _tell_where)
    url, rest_url, symbols = places
    config = StreamConfig(
        grace=0.3, lateness=2.0, heal_horizon=120.0, rest_url=rest_url, state=f"{folder}/state", state_interval=0.5,
        reconnect_delay=0.1, reconnect_max_delay=0.5, ban_delay=0.5, queue_size=10, check_symbols=False, api_key="key",
        ack_timeout=2.0, heartbeat_interval=1.0, heartbeat_timeout=4.0, connect_timeout=5.0, handover_overlap=0.5,
    )  # fmt: skip
    file = os.open(f"{folder}/bars", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    while True:
        stream = fastbars.stream(venue.exchange, symbols, "1s", market=venue.market, url=url, config=config)
        try:
            await _take_bars(stream, file, pace_s)
            return
        except WebSocketError as error:  # not entered, as a fault befell it
            print(f"not entered: {error!r}", file=sys.stderr, flush=True)
            await asyncio.sleep(0.2)


def _tell_where() -> None:
    for task in asyncio.all_tasks():
        task.print_stack(limit=4)
    sys.stderr.flush()


async def _take_bars(stream: BarStream, file: int, pace_s: float) -> None:
    stopping: list[asyncio.Task[None]] = []
    async with stream as bars:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, lambda: stopping.append(loop.create_task(bars.stop())))
        async for bar in bars:
            # In one call, so that a bar is in the file whole or not at all; only then is the next one asked for.
            content = pickle.dumps(bar)
            os.write(file, len(content).to_bytes(4, "little") + content)
            if pace_s and not stopping:
                await asyncio.sleep(pace_s)


def read_bars(path: Path) -> list[OHLCVBar]:
    """All bars of a file."""
    content, bars, at = path.read_bytes() if path.exists() else b"", [], 0
    while at < len(content):
        stop = at + 4 + int.from_bytes(content[at : at + 4], "little")
        bars.append(pickle.loads(content[at + 4 : stop]))
        at = stop
    return bars


# The parent.


@dataclass(frozen=True)
class Plan:
    """How often and when children are killed.

    Attributes:
        kills: of each venue.
        every_s: the mean time between two; None: many different times.
        faults: whether a fault a second befalls one of the exchanges.
    """

    kills: int
    every_s: float | None = None
    faults: bool = False

    def draw_life_s(self, random: Random) -> float:
        """How long the next child lives."""
        mean_s = self.every_s or random.choice((0.1, 0.5, 1.0, 2.0, 4.0))
        return mean_s * random.uniform(0.5, 1.5)


@dataclass
class Life:
    """What became of one venue."""

    venue: Venue
    kills: int = 0
    bars: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


async def kill_again_and_again(venue: Venue, plan: Plan, random: Random, folder: Path) -> Life:
    """Let one venue's children be killed as often as planned; judge all that they saw."""
    context: Any = multiprocessing.get_context("forkserver")
    life = Life(venue)
    seed = random.randrange(10**6)
    async with SimulatedExchange(
        venue.exchange, market=venue.market, symbols=SYMBOLS, rate=RATE, seed=seed, tick_s=0.02, faults=Faults(seed)
    ) as server:
        places = (server.url, server.rest_url, server.symbols)
        since_ms = server.record.now_ms()
        befalling = asyncio.create_task(_befall(server, venue, random.randrange(10**6))) if plan.faults else None
        for number in range(plan.kills + 1):
            is_last = number == plan.kills
            pace_s = 0.0 if is_last else random.choice(PACES_S)
            if is_last and befalling is not None:
                befalling.cancel()
            child: BaseProcess = context.Process(
                target=stream_bars, args=(venue, places, str(folder), pace_s), daemon=True
            )
            child.start()
            try:
                if not is_last:
                    if random.random() < WELL_UNDER_WAY:
                        await has_grown(folder / "bars", child)
                    await asyncio.sleep(plan.draw_life_s(random))
                    child.kill()
                    life.kills += 1
                elif await has_grown(folder / "bars", child):
                    await asyncio.sleep(SETTLE_S)
                    child.terminate()
                else:
                    os.kill(child.pid or 0, signal.SIGUSR1)
                    await asyncio.sleep(1.0)
                    child.kill()
                await asyncio.to_thread(child.join, 20.0)
                if is_last and child.exitcode != 0:
                    said = (folder / "log").read_text(errors="replace")[-3000:]
                    life.faults.append(f"crash: the last child ended with {child.exitcode}, and said: {said}")
            finally:
                child.kill()
            if random.random() < 0.3:
                await asyncio.sleep(random.choice((0.2, 1.5)))
        wanted = {symbol: [(since_ms, None)] for symbol in server.symbols}
        judge(life, read_bars(folder / "bars"), Truth(server, venue, wanted))
    return life


async def has_grown(path: Path, child: BaseProcess) -> bool:
    """Wait until the child has brought a bar, however busy the machine is. Returns whether it has."""
    before = _size(path)
    with suppress(TimeoutError):
        await until(lambda: _size(path) > before or child.exitcode is not None, timeout_s=20.0)
    return _size(path) > before


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


async def _befall(server: SimulatedExchange, venue: Venue, seed: int) -> None:
    """Inject a fault now and then: with seven venues, about one a second in all."""
    random, faults = Random(seed), server.faults
    assert faults is not None
    while True:
        await asyncio.sleep(random.uniform(0.5, 1.5) * len(VENUES))
        kind = random.choice(FAULTS if venue.ids == "contiguous" else FAULTS_WITHOUT_IDS)
        seconds = {FaultKind.STALL: 3.0, FaultKind.LIFETIME: 2.0}.get(kind, 0.5)
        faults.inject(Fault(kind, seconds=seconds, status=random.choice((429, 500, 503))))
        if kind in NEED_A_DROP:
            faults.inject(FaultKind.DROP)


def judge(life: Life, bars: list[OHLCVBar], truth: Truth) -> None:
    """Hold the bars that were seen against what was traded."""
    latest, faults = latest_of(bars, again=True)
    life.faults += faults
    intervals: dict[str, list[Span]] = defaultdict(list)
    for (symbol, _, _), bar in latest.items():
        open_ms, close_ms = (to_nanoseconds(at) // 10**6 for at in (bar.open_time, bar.close_time))
        intervals[symbol].append((open_ms, close_ms))
        life.statuses[str(bar.status)] += 1
        fault = judge_bar(truth, bar, open_ms, close_ms)
        if fault:
            life.faults.append(f"{fault} {bar!r} [{open_ms}, {close_ms})")
    for symbol, found in intervals.items():
        life.faults += judge_presence(truth, symbol, "1s", found)
    life.bars = len(latest)
    if not latest:
        life.faults.append("present: no bar at all")


def _prepare_children() -> None:
    """Start the process that children are forked from, with all imports done: they would take most of a short life."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(Path(__file__).parent), before]))
    try:
        forkserver.set_forkserver_preload(["killing"])
        forkserver.ensure_running()
    finally:
        os.environ.pop("PYTHONPATH")
        if before is not None:
            os.environ["PYTHONPATH"] = before


async def kill_all(plan: Plan, seed: int) -> list[Life]:
    """Kill as planned, all venues side by side."""
    _prepare_children()
    async with AsyncExitStack() as stack:
        running = []
        for place, venue in enumerate(VENUES):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            running.append(kill_again_and_again(venue, plan, Random(f"{seed}:{place}"), folder))
        return list(await asyncio.gather(*running))


def main() -> int:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="of all venues together")
    parser.add_argument("--seconds", type=float, help="kill for so long instead")
    parser.add_argument(
        "--every", type=float, default=30.0, help="seconds between two kills of a venue, with --seconds"
    )
    parser.add_argument("--faults", action="store_true", help="a fault a second, too")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    began = time.monotonic()
    if options.seconds is None:
        plan = Plan(-(-options.kills // len(VENUES)), faults=options.faults)
    else:
        kills = max(1, int((options.seconds - SETTLE_S) / (options.every + 1.0)))
        plan = Plan(kills, every_s=options.every, faults=options.faults)
    lives = asyncio.run(kill_all(plan, options.seed))
    for life in lives:
        statuses = ", ".join(f"{status} {count}" for status, count in life.statuses.most_common())
        print(f"{life.venue.exchange} {life.venue.market}: {life.kills} kills, {life.bars} bars: {statuses}")
        for fault in life.faults[:10]:
            print("   ", fault[:600])
    failed = sum(bool(life.faults) for life in lives)
    verdict = "FAILED" if failed else "PASSED"
    print(f"{sum(life.kills for life in lives)} kills in {time.monotonic() - began:.0f} s: {verdict}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
