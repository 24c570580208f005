"""The soak: 500 symbols on 8 exchanges, a fault every second, and every trade accounted for at the end.

    python tools/soak.py --seconds 60 --seed 1

Beside it streams of seven venues are killed with SIGKILL every 30 s, under faults as well (see `tests/killing.py`).

The exchanges run in a separate process, so that the memory measured is the client's; what they really traded and
sent is compared with the bars at the end. The exit status is 1 if anything is wrong.

Units: seconds; times of trades in ms since the Unix epoch.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from array import array
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from decimal import Decimal
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import IO, Any

import fastbars
from fastbars import ConnectionState, OHLCVBar, StreamConfig
from fastbars.exchanges import find_exchange
from fastbars.simulator import Fault, FaultKind, Faults, SimulatedExchange
from fastbars.streams import BarStream

VENUES = (
    ("binance", "spot"),
    ("binance", "usdm"),
    ("binance", "us"),
    ("bybit", "linear"),
    ("hyperliquid", "perp"),
    ("interactive_brokers", "gateway"),
    ("okx", "spot"),
    ("coinbase", "spot"),
    ("kraken", "spot"),
    ("deribit", "linear"),
)
SILENT = "NOSUCHUSDT"  # Binance confirms it, and never sends anything
SYMBOLS = 500
RATE = 200.0  # trades a second and exchange
BAR_MS = 5_000
RECENT_KEYS = 1024  # of each symbol
SETTLE_S = 12.0  # at the end, without faults
CONFIG = StreamConfig(
    heartbeat_interval=0.5,
    heartbeat_timeout=2.0,
    reconnect_delay=0.1,
    reconnect_max_delay=1.0,
    ban_delay=1.0,
    ack_timeout=2.5,
    stale_interval=0.25,
    stale_after=3.0,
    handover_overlap=1.0,
    handover_timeout=3.0,
    streams_per_connection=25,
    lateness=10.0,
)
# Faults of handshakes and requests need a new one: the connection is dropped as well.
_NEEDS_A_DROP = (
    FaultKind.REFUSE,
    FaultKind.NEVER_ACK,
    FaultKind.LATE_ACK,
    FaultKind.LOST_ACK,
    FaultKind.SLOW_ACK,
    FaultKind.SWAPPED_ACKS,
    FaultKind.SILENT_SUBSCRIPTION,
)
_FIXES = {
    FaultKind.STALL: {"seconds": 3.0},
    FaultKind.LIFETIME: {"seconds": 2.0},
    FaultKind.LATE_ACK: {"seconds": 0.5},
}
# A bar with one of these statuses is promised to hold every trade that came, and no other.
WHOLE = ("COMPLETE", "PROVISIONAL", "HEALED", "UNVERIFIABLE")

Row = tuple[str, int, int | None, int | None, str, str, str, str, str]


@dataclass
class Truth:
    """What one exchange did: candles by (symbol, open time), times by id, void ids, trades' ids sent and taken away."""

    candles: dict[tuple[str, int], tuple[str, str, str, str, str, int]]
    times_ms: dict[str, tuple[int, array[int]]]
    voids: dict[str, set[int]]
    sent: dict[str, set[int]]
    dropped: dict[str, set[int]]
    injected: Counter[str]
    applied: Counter[str]


# The exchanges' process.


def serve_exchanges(pipe: Connection, seconds: float, seed: int) -> None:
    """Run all exchanges and their faults until asked to stop; then send their records."""
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # it warns of each write to a lost connection
    asyncio.run(_serve_exchanges(pipe, seconds, seed))


async def _serve_exchanges(pipe: Connection, seconds: float, seed: int) -> None:
    async with AsyncExitStack() as stack:
        servers = []
        for index, (name, market) in enumerate(VENUES):
            count = SYMBOLS // len(VENUES) + (index < SYMBOLS % len(VENUES))
            server = SimulatedExchange(
                name, market=market, symbols=count, rate=RATE, seed=seed + index, faults=Faults(seed + index)
            )
            servers.append(await stack.enter_async_context(server))
        pipe.send([(server.url, server.symbols) for server in servers])
        await asyncio.to_thread(pipe.recv)  # everything is subscribed
        await _inject(servers, seconds, Random(seed))
        pipe.send(None)
        await asyncio.to_thread(pipe.recv)  # everything is closed
        pipe.send([truth_of(server) for server in servers])


async def _inject(servers: list[SimulatedExchange], seconds: float, random: Random) -> None:
    started_s = time.monotonic()
    kinds = [kind for kind in FaultKind if kind is not FaultKind.RENEW_IDS]  # the verdict counts ids
    for second in range(1, int(seconds)):
        await asyncio.sleep(max(0.0, started_s + second - time.monotonic()))
        if second % len(kinds) == 1:
            random.shuffle(kinds)  # each occurs, in random order
        kind = kinds[second % len(kinds)]
        options: dict[str, Any] = dict(_FIXES.get(kind, {}))
        if kind is FaultKind.REFUSE:
            options = {"status": random.choice((418, 429, 500, 503)), "retry_after_s": random.choice((None, 1))}
        elif kind is FaultKind.CLOCK:
            options = {"seconds": random.uniform(-1.0, 1.0)}
        elif kind is FaultKind.CLOSE:
            options = {"code": random.choice((1000, 1001, 4000, 1012, 1013))}
        faults = random.choice(servers).faults
        assert faults is not None
        faults.inject(Fault(kind, **options))
        if kind in _NEEDS_A_DROP:
            faults.inject(FaultKind.DROP)


def truth_of(server: SimulatedExchange) -> Truth:
    """The record of one exchange as plain values."""
    record, faults = server.record, server.faults
    assert faults is not None
    candles: dict[tuple[str, int], list[Any]] = {}
    times_ms: dict[str, tuple[int, array[int]]] = {}
    for symbol in server.symbols:
        trades = record.trades(symbol)
        by_id = sorted(({trade.trade_id: trade.time_ms for trade in trades} | record.voids(symbol)).items())
        times_ms[symbol] = (next(iter(by_id), (0, 0))[0], array("q", [time_ms for _, time_ms in by_id]))
        for trade in trades:
            key = (symbol, trade.time_ms // BAR_MS * BAR_MS)
            candle = candles.get(key)
            if candle is None:
                candles[key] = [trade.price, trade.price, trade.price, trade.price, trade.size, 1]
            else:
                candle[1] = max(candle[1], trade.price)
                candle[2] = min(candle[2], trade.price)
                candle[3] = trade.price
                candle[4] += trade.size
                candle[5] += 1
    dropped: dict[str, set[int]] = {}
    for connection in record.connections:
        for symbol, numbers in connection.dropped.items():
            dropped.setdefault(symbol, set()).update(numbers)
    return Truth(
        {key: (*map(str, candle[:5]), candle[5]) for key, candle in candles.items()},
        times_ms,
        {symbol: set(record.voids(symbol)) for symbol in server.symbols},
        {symbol: record.sent(symbol) for symbol in server.symbols},
        dropped,
        Counter({str(kind): count for kind, count in faults.injected.items()}),
        Counter({str(kind): count for kind, count in faults.applied.items()}),
    )


# The client's process.


@dataclass
class Venue:
    """One exchange as the client sees it; its bars go to a file, so as not to count as memory."""

    name: str
    market: str
    stream: BarStream
    file: IO[str]
    late: Counter[str]  # by symbol
    outages: list[tuple[float, float]]  # wall clock
    missing: dict[str, list[tuple[int, int]]] = field(default_factory=dict)

    async def consume(self) -> None:
        """Write every bar to the file."""
        async for bar in self.stream:
            self.file.write(json.dumps(row_of(bar)) + "\n")

    @property
    def ids(self) -> str:
        """What its trade ids are."""
        exchange = find_exchange(self.name, self.market)
        return exchange.ids(exchange.default_channel)

    def is_back(self) -> bool:
        """Whether every connection is up, and everything desired is confirmed."""
        return all(supervisor.is_whole for supervisor in self.stream.adapter.connections.supervisors)

    def latest(self) -> dict[tuple[str, int], list[Any]]:
        """(symbol, open time in ms) -> the last revision of each bar."""
        self.file.flush()
        self.file.seek(0)
        rows = [json.loads(line) for line in self.file]
        return {(row[0], row[1]): row[2:] for row in rows}


def row_of(bar: OHLCVBar) -> list[Any]:
    """A bar as plain values."""
    values = [None if value is None else str(value) for value in (bar.open, bar.high, bar.low, bar.close, bar.volume)]
    open_ms = int(bar.open_time.timestamp() * 1000)
    return [bar.symbol, open_ms, str(bar.status), bar.trade_count, bar.first_trade_id, bar.last_trade_id, *values]


@dataclass
class Verdict:
    """The outcome for one exchange's trades.

    Attributes:
        sent: by the exchange, from the first trade in a bar to the last one.
        in_bars: in the last revision of some bar.
        missing: known to be missing; every bar they belong to says so.
        late: came too late for their bars, which say so.
        lost: neither of these. doubled: in bars more often than once.
        wrong: bars that promise to be whole, and differ from the exchange's own trades.
    """

    bars: int = 0
    gaps: int = 0
    sent: int = 0
    in_bars: int = 0
    missing: int = 0
    late: int = 0
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    examples: list[str] = field(default_factory=list)


def judge(venue: Venue, truth: Truth) -> Verdict:
    """Compare the bars with the exchange's record."""
    ids = venue.ids
    verdict = Verdict(late=sum(venue.late.values()))
    latest = venue.latest()
    by_symbol: dict[str, dict[int, list[Any]]] = {}
    for (symbol, open_ms), bar in latest.items():
        by_symbol.setdefault(symbol, {})[open_ms] = bar
    verdict.bars = len(latest)
    verdict.gaps = sum(bar[0] == "GAP" for bar in latest.values())
    verdict.in_bars = sum(bar[1] for bar in latest.values())
    for symbol, bars in by_symbol.items():
        last_traded_ms = max((open_ms for open_ms, bar in bars.items() if bar[1]), default=None)
        for open_ms, bar in bars.items():
            if open_ms == max(bars) and bar[0] != "COMPLETE":
                continue  # closed at the end of the run: later trades were not waited for
            if open_ms == last_traded_ms and bar[0] == "PROVISIONAL":
                continue  # whole up to its last id only: bars without trades followed, and nothing proved its end
            judge_bar(verdict, ids, symbol, open_ms, bar, truth)
        if ids == "contiguous":
            judge_ids(verdict, venue, symbol, bars, truth)
        elif ids != "sampled":
            judge_log(verdict, venue, symbol, bars, truth)
    return verdict


def judge_bar(verdict: Verdict, ids: str, symbol: str, open_ms: int, bar: list[Any], truth: Truth) -> None:
    """A bar that promises to be whole equals the exchange's own, to the last digit."""
    status, count, _, _, *values = bar
    if status == "SAMPLED" and (symbol, open_ms) in truth.candles:
        high, low = map(Decimal, truth.candles[symbol, open_ms][1:3])
        # A sample has the time it was taken at, by a clock that is off at times, so it may belong to the bar before or
        # after; the first one after a subscription is the price that was last traded, however long before.
        early_ms = open_ms - BAR_MS
        before_ms = max((at for name, at in truth.candles if name == symbol and at < early_ms), default=open_ms)
        for neighbour_ms in (before_ms, early_ms, open_ms + BAR_MS):
            neighbour = truth.candles.get((symbol, neighbour_ms))
            if neighbour is not None:
                high, low = max(high, Decimal(neighbour[1])), min(low, Decimal(neighbour[2]))
        wrong = not (low <= Decimal(values[2]) and Decimal(values[1]) <= high)
    elif status in WHOLE:
        candle = truth.candles.get((symbol, open_ms))
        first_id, times = truth.times_ms[symbol]
        taken = [i for i in truth.dropped.get(symbol, ()) if times[i - first_id] // BAR_MS * BAR_MS == open_ms]
        if candle is None:
            wrong = count > 0
        elif taken and ids != "contiguous":
            wrong = not candle[5] - len(taken) <= count <= candle[5]  # the client cannot know of those
        else:
            wrong = (count, *map(Decimal, values)) != (candle[5], *map(Decimal, candle[:5]))
    else:
        return
    if wrong:
        verdict.wrong += 1
        verdict.examples.append(f"{symbol} {open_ms} {bar} is not {truth.candles.get((symbol, open_ms))}")


def judge_ids(verdict: Verdict, venue: Venue, symbol: str, bars: dict[int, list[Any]], truth: Truth) -> None:
    """Contiguous ids: every id from the first to the last is in a bar, or known to be missing where a bar says GAP."""
    numbered = [bar for bar in bars.values() if bar[2] is not None]
    if not numbered:
        return
    first, last = min(bar[2] for bar in numbered), max(bar[3] for bar in numbered)
    missing = {number for start, stop in venue.missing.get(symbol, []) for number in range(start, stop + 1)}
    in_bars = sum(bar[1] for bar in bars.values())
    voids = sum(first <= number <= last for number in truth.voids[symbol] - missing)
    left = last - first + 1 - len(missing) - in_bars - voids - venue.late[symbol]
    verdict.sent += sum(first <= number <= last for number in truth.sent[symbol])
    verdict.missing += len(missing)
    verdict.lost += max(0, left)
    verdict.doubled += max(0, -left)
    first_id, times = truth.times_ms[symbol]
    for number in missing:
        bar = bars.get(times[number - first_id] // BAR_MS * BAR_MS)
        if bar is not None and bar[0] in WHOLE:
            verdict.lost += 1
            verdict.examples.append(f"{symbol}: {number} is missing, and its bar is {bar}")
    if not venue.late[symbol]:
        judge_gaps(verdict, venue, symbol, bars, first_id, times)


def judge_gaps(
    verdict: Verdict, venue: Venue, symbol: str, bars: dict[int, list[Any]], first_id: int, times: array[int]
) -> None:
    """No bar is GAP that ids prove whole: missing ids lie between two times that reach into each, but for the last.

    No id proves where the bar begins that holds the symbol's first trade of all; an outage in it makes it GAP.
    """
    spans = [
        (times[max(start - 1 - first_id, 0)], times[min(stop + 1 - first_id, len(times) - 1)])
        for start, stop in venue.missing.get(symbol, [])
    ]
    last_ms = max(open_ms for open_ms, bar in bars.items() if bar[1])
    for open_ms, bar in bars.items():
        if bar[0] == "GAP" and bar[1] and bar[2] != first_id and open_ms < last_ms and not any(
            since < open_ms + BAR_MS and until >= open_ms for since, until in spans
        ):  # fmt: skip
            verdict.wrong += 1
            verdict.examples.append(f"{symbol} {open_ms}: nothing is missing in {bar}")


def judge_log(verdict: Verdict, venue: Venue, symbol: str, bars: dict[int, list[Any]], truth: Truth) -> None:
    """Other ids: the exchange's record decides; what it sent is in a bar, or there was an outage."""
    first_id, times = truth.times_ms[symbol]
    starts, stops = min(bars), max(bars)
    sent: Counter[int] = Counter(times[number - first_id] // BAR_MS * BAR_MS for number in truth.sent[symbol])
    for open_ms, count in sent.items():
        if not starts < open_ms < stops:
            continue
        verdict.sent += count
        bar = bars.get(open_ms)
        if bar is None and not in_outage(venue, open_ms):
            verdict.lost += count
            verdict.examples.append(f"{symbol} {open_ms}: {count} trades sent, and there is no bar")
        elif bar is None or bar[0] == "GAP":
            verdict.missing += max(0, count - (0 if bar is None else bar[1]))
        elif bar[0] in WHOLE:
            verdict.lost += max(0, count - bar[1])
        candle = truth.candles[symbol, open_ms]
        verdict.doubled += 0 if bar is None else max(0, bar[1] - candle[5])


def in_outage(venue: Venue, open_ms: int) -> bool:
    """Whether a connection was down in this interval, or shortly before or after.

    What the exchange wrote while a connection was stalled, until that was given up, counts as sent.
    """
    start, stop = open_ms / 1000 - 10.0, (open_ms + BAR_MS) / 1000 + 10.0
    return any(since < stop and until > start for since, until in venue.outages)


class Memory:
    """Resident memory of this process over time, after a garbage collection.

    A connection that has ended is a cycle of some hundred objects, which would be collected late.
    """

    def __init__(self) -> None:
        self.samples: list[tuple[float, float]] = []

    async def watch(self) -> None:
        """Take a sample once a second."""
        page = os.sysconf("SC_PAGE_SIZE")
        while True:
            gc.collect()
            resident = int(Path("/proc/self/statm").read_text().split()[1]) * page  # noqa: ASYNC240
            self.samples.append((time.monotonic(), resident / 1024))
            await asyncio.sleep(1.0)

    def slope(self) -> tuple[float, float, float]:
        """(KiB a second, its standard error, mean in KiB) of the last two thirds."""
        samples = self.samples[len(self.samples) // 3 :]
        count = len(samples)
        mean_t = sum(at for at, _ in samples) / count
        mean_m = sum(size for _, size in samples) / count
        spread = sum((at - mean_t) ** 2 for at, _ in samples)
        slope = sum((at - mean_t) * (size - mean_m) for at, size in samples) / spread
        rest = sum((size - mean_m - slope * (at - mean_t)) ** 2 for at, size in samples)
        return slope, (rest / max(1, count - 2) / spread) ** 0.5, mean_m


def leftovers() -> Counter[str]:
    """Tasks, sockets and timers of this process."""
    gc.collect()
    timers = [thing for thing in gc.get_objects() if type(thing).__name__ == "TimerHandle" and not thing.cancelled()]
    sockets = sum(link.startswith("socket:") for link in _links())
    return Counter(tasks=len(asyncio.all_tasks()), sockets=sockets, timers=len(timers))


def _links() -> Iterator[str]:
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            yield os.readlink(f"/proc/self/fd/{descriptor}")
        except OSError:
            continue


def stream_of(name: str, market: str, url: str, symbols: list[str], file: IO[str]) -> Venue:
    """A stream of one exchange that records outages and late trades."""
    down: list[float] = []
    late: Counter[str] = Counter()
    outages: list[tuple[float, float]] = []

    def on_state(state: ConnectionState) -> None:
        if state is ConnectionState.RECONNECTING and not down:
            down.append(time.time())
        elif state is ConnectionState.CONNECTED and down:
            outages.append((down.pop(), time.time()))

    silent = [SILENT] if name == "binance" else []
    stream = fastbars.stream(
        name, [*symbols, *silent], "5s", market=market, url=url, config=CONFIG, on_state=on_state,
        on_late=lambda tick: late.update([tick.symbol]),
    )  # fmt: skip
    return Venue(name, market, stream, file, late, outages)


async def soak(seconds: float, seed: int, folder: Path) -> bool:
    """Run the soak. Returns whether nothing was wrong."""
    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe()
    process = context.Process(target=serve_exchanges, args=(theirs, seconds - SETTLE_S, seed), daemon=True)
    process.start()
    try:
        places = await asyncio.to_thread(pipe.recv)
        before = leftovers()
        memory = Memory()
        watching = asyncio.create_task(memory.watch())
        venues = await _stream_all(places, folder, pipe)
        watching.cancel()
        await asyncio.wait([watching])
        left = leftovers() - before
        deadline = time.monotonic() + 5.0
        while left and time.monotonic() < deadline:  # what was stopped may need a few more turns of the loop
            await asyncio.sleep(0.1)
            left = leftovers() - before
        pipe.send(None)
        truths = await asyncio.to_thread(pipe.recv)
    finally:
        process.join(10)
        process.kill()
    return report(venues, truths, memory, left)


async def _stream_all(places: list[Any], folder: Path, pipe: Connection) -> list[Venue]:
    venues: list[Venue] = []
    async with AsyncExitStack() as stack:
        for (name, market), (url, symbols) in zip(VENUES, places, strict=True):
            venues.append(stream_of(name, market, url, symbols, (folder / f"{name}-{market}").open("w+")))
        await asyncio.gather(*(stack.enter_async_context(venue.stream) for venue in venues))
        consuming = [asyncio.create_task(venue.consume()) for venue in venues]
        for venue in venues:
            session = venue.stream.adapter.session
            if venue.ids == "unique":  # fill its window of keys, or its growth would look like a leak
                for symbol_id in range(len(session.symbols)):
                    for number in range(RECENT_KEYS):
                        session._admission._recent.add(symbol_id, str(number))
        pipe.send(None)
        await asyncio.to_thread(pipe.recv)  # the last fault was injected
        deadline = time.monotonic() + SETTLE_S
        while True:
            away = [venue for venue in venues if not venue.is_back()]
            if time.monotonic() > deadline + 30 or (not away and time.monotonic() > deadline - SETTLE_S / 2):
                break
            await asyncio.sleep(0.1)
        for venue in away:
            print(f"{venue.name} {venue.market}: not all connections are back", file=sys.stderr)
            venue.outages.append((-1.0, -1.0))
        for venue in venues:
            asked = [symbol for symbol, _ in venue.stream.adapter.streams if symbol != SILENT]
            await venue.stream.stop()  # trades are taken until the sockets are shut
            for symbol in asked:
                venue.missing[symbol] = venue.stream.adapter.session.missing(symbol)
        await asyncio.gather(*consuming)
    return venues


def report(venues: list[Venue], truths: list[Truth], memory: Memory, left: Counter[str]) -> bool:
    """Print the results. Returns whether nothing was wrong."""
    injected: Counter[str] = Counter()
    applied: Counter[str] = Counter()
    good = True
    print(f"{'':28}{'bars':>8}{'GAP':>6}{'sent':>9}{'in bars':>9}{'missing':>9}{'late':>6}{'lost':>6}{'doubled':>9}"
          f"{'wrong':>7}{'connects':>10}{'handovers':>11}{'renewed':>9}")  # fmt: skip
    totals: Counter[str] = Counter()
    for venue, truth in zip(venues, truths, strict=True):
        injected += truth.injected
        applied += truth.applied
        verdict, stats = judge(venue, truth), venue.stream.stats()
        venue.file.close()
        totals.update(lost=verdict.lost, doubled=verdict.doubled, wrong=verdict.wrong)
        back = (-1.0, -1.0) not in venue.outages
        if venue.name == "binance" and not stats.never_heard:
            good = False
            verdict.examples.insert(0, f"{SILENT} is silent, and that was not reported")
        good &= back and not (verdict.lost or verdict.doubled or verdict.wrong) and verdict.bars > 0
        v = verdict
        print(f"{venue.name + ' ' + venue.market:28}{v.bars:>8}{v.gaps:>6}{v.sent:>9}{v.in_bars:>9}{v.missing:>9}"
              f"{v.late:>6}{v.lost:>6}{v.doubled:>9}{v.wrong:>7}{stats.connections:>10}{stats.handovers:>11}"
              f"{stats.resubscriptions:>9}")  # fmt: skip
        for example in verdict.examples[:5]:
            print("   ", example)
    if os.environ.get("SOAK_SAMPLES"):
        print([round(size) for _, size in memory.samples[::5]])
    slope, error, mean = memory.slope()
    duration = memory.samples[-1][0] - memory.samples[0][0]
    flat = slope <= 3 * error or slope * duration < 0.05 * mean
    good &= flat and not left
    total = sum(injected.values())
    print(f"faults injected {total}, applied {sum(applied.values())}, survived {total if good else '?'}:"
          f" {', '.join(f'{kind} {count}' for kind, count in sorted(injected.items()))}")  # fmt: skip
    print(f"trades lost {totals['lost']}, doubled {totals['doubled']}, wrong bars {totals['wrong']}")
    print(f"memory {mean / 1024:.1f} MiB, slope {slope:+.2f} +- {error:.2f} KiB/s ({'flat' if flat else 'GROWING'})")
    print(f"left behind: {dict(left) or 'nothing'}")
    print("PASSED" if good else "FAILED")
    return good


def start_killing(seconds: float, seed: int) -> subprocess.Popen[bytes]:
    """Let streams of their own be killed meanwhile, each four times at least."""
    every_s = min(30.0, seconds / 5)
    harness = Path(__file__).resolve().parents[1] / "tests" / "killing.py"
    options = ["--seconds", str(seconds), "--every", str(every_s), "--seed", str(seed), "--faults"]
    return subprocess.Popen([sys.executable, str(harness), *options])


def main() -> int:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600.0, help="how long, 30 at least")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if options.seconds < 30:
        parser.error("--seconds must be 30 at least")
    killing = start_killing(options.seconds, options.seed)
    try:
        with tempfile.TemporaryDirectory() as folder:
            good = fastbars.run(soak(options.seconds, options.seed, Path(folder)))
        return 0 if killing.wait(options.seconds) == 0 and good else 1
    finally:
        killing.terminate()


if __name__ == "__main__":
    sys.exit(main())
