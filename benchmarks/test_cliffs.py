"""Costs that must not grow: with the number of symbols, of holes, of bars that are kept, or with how trades arrive.

Ratios are of the same trades, or of the same work at the other end of the scale, in one run; nanoseconds are those of
benchmarks/yardstick.py. `--full`: longer runs, every step of each scale, and an hour of 3,000 symbols.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks import market
from benchmarks.yardstick import HELD, Work, assert_ns, assert_ratio
from fastbars import BarBuffer, Instruments, StreamConfig, TickBatch
from fastbars._agg import BarKernel
from fastbars.exchanges import find_exchange
from fastbars.kernel.ids import Ledger
from fastbars.kernel.table import RECORD_BYTES, SLOT_BYTES
from fastbars.live.intake import Feed
from fastbars.live.session import Session
from fastbars.specs import parse_specs
from fastbars.wire.wakeup import Wakeup
from fastbars.wire.walker import FrameWalker

SECOND = 1_000_000_000
BY_WATERMARK = 1
SIX_SPECS = "1s,5s,1m,5m,15m,1h"
BLOCK = 1000
SYMBOLS_KNOWN = 50_000
SYMBOLS_ADDED = 500
HOLES = 4096


@pytest.fixture
def is_full(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--full"))


def instruments_of(symbols: int) -> Instruments:
    instruments = Instruments("bench")
    for symbol in range(symbols):
        instruments.add(f"S{symbol}", market.PRICE_SCALE, market.SIZE_SCALE)
    return instruments


def batches(instruments: Instruments, trades: market.Columns, block: int = BLOCK) -> list[TickBatch]:
    starts = range(0, len(trades["time_ns"]), block)
    return [
        TickBatch.wrap(instruments, {name: column[start : start + block] for name, column in trades.items()})
        for start in starts
    ]


def folding(trades: market.Columns, symbols: int, specs: str = "1m") -> Work:
    """Folds the trades into a new kernel, block by block."""
    instruments = instruments_of(symbols)
    parts = batches(instruments, trades)

    def work() -> None:
        kernel = BarKernel(instruments, parse_specs(specs), Ledger())
        for part in parts:
            kernel.update(part)

    return work


def with_ids_left_out(trades: market.Columns, share: float) -> market.Columns:
    """The id before such a share of the trades is missing."""
    jumps = (np.random.default_rng(3).random(len(trades["symbol_id"])) < share).astype(np.int64)
    order = np.argsort(trades["symbol_id"], kind="stable")
    added = np.empty_like(jumps)
    added[order] = np.cumsum(jumps[order])
    ids = trades["first_id"] + added
    return trades | {"first_id": ids, "last_id": ids}


# Symbols.


def names_of(symbols: int) -> list[str]:
    return [f"N{number:07}" for number in range(symbols)]


def test_the_first_trade_of_a_symbol_costs_the_same_at_the_last_one() -> None:
    start = market.START_NS
    crowded = BarBuffer(SIX_SPECS.split(","), ids="contiguous")
    for name in names_of(SYMBOLS_KNOWN):
        crowded.add(name, start, "100.12", "0.0123", trade_id=5)
    fresh: Iterator[int] = count()
    new_names = [f"M{number:07}" for number in range(60 * SYMBOLS_ADDED)]

    def at_the_last() -> None:
        first = next(fresh) * SYMBOLS_ADDED
        for name in new_names[first : first + SYMBOLS_ADDED]:
            crowded.add(name, start, "100.12", "0.0123", trade_id=5)

    def at_the_first() -> None:
        buffer = BarBuffer(SIX_SPECS.split(","), ids="contiguous")
        for name in new_names[:SYMBOLS_ADDED]:
            buffer.add(name, start, "100.12", "0.0123", trade_id=5)

    assert_ns(f"a symbol's first trade, {SYMBOLS_KNOWN:,} known", at_the_last, SYMBOLS_ADDED, 8000, rounds=5)
    assert_ratio(f"the same, the {SYMBOLS_KNOWN:,}th and the first", at_the_last, at_the_first, 1.7, rounds=5)


def frame(payload: bytes) -> bytes:
    return b"\x81\x7e" + len(payload).to_bytes(2, "big") + payload


def test_the_first_trade_of_a_symbol_in_a_session_costs_the_same_at_the_last_one() -> None:
    session = Session(
        find_exchange("binance", "spot"), StreamConfig(bars=SIX_SPECS.split(","), close_by="clock"), channel="trade"
    )
    feed = Feed(session.intake)
    feed.note_data(1)
    wakeup = Wakeup(
        [], lambda _: None, lambda payloads: session.receive(payloads, 1, 1), print, ending=feed.ending, scans=True
    )
    wakeup.walker = FrameWalker(lambda _: None, lambda _: True, session.scanner)
    wakeup.is_open = True
    frames = [
        frame(
            b'{"e":"trade","E":1700000000000,"s":"%bUSDT","t":5,"p":"100.12000000","q":"0.01230000","T":1700000000000,'
            b'"m":true,"M":true}' % name.encode()
        )
        for name in names_of(SYMBOLS_KNOWN + 30 * SYMBOLS_ADDED)
    ]
    for each in frames[:SYMBOLS_KNOWN]:
        wakeup.receive(each)
    fresh = count()

    def work() -> None:
        first = SYMBOLS_KNOWN + next(fresh) * SYMBOLS_ADDED
        for each in frames[first : first + SYMBOLS_ADDED]:
            wakeup.receive(each)

    assert_ns(f"a symbol's first trade in a session, {SYMBOLS_KNOWN:,} known", work, SYMBOLS_ADDED, 8000, rounds=5)
    assert session.stats.trades >= SYMBOLS_KNOWN + SYMBOLS_ADDED


# Holes.


@pytest.mark.parametrize(("share", "limit"), [(0.001, 200), (0.01, 200), (0.1, 200), (1.0, 1000)])
@pytest.mark.parametrize(("symbols", "specs"), [(1, "1m"), (20, "1s"), (20, SIX_SPECS)])
def test_a_trade_costs_little_whatever_is_missing(
    symbols: int, specs: str, share: float, limit: float, is_full: bool
) -> None:
    """A share of 1: every second one is missing."""
    trades = 200_000 if is_full else 20_000
    columns = with_ids_left_out(market.drawn(trades, symbols, 1000), share)
    missing = "every second" if share == 1 else f"{share:.1%}"
    name = f"{missing} missing, {symbols} symbols, {specs}"
    assert_ns(name, folding(columns, symbols, specs), trades, limit, rounds=3)


def one_symbol(ids: list[int], start_ns: int, step_ns: int) -> market.Columns:
    rows = len(ids)
    given = np.array(ids, np.int64)
    return {
        "time_ns": start_ns + np.arange(rows, dtype=np.int64) * step_ns,
        "symbol_id": np.zeros(rows, np.int32),
        "price": np.full(rows, 10_000),
        "size": np.full(rows, 7),
        "side": np.ones(rows, np.int8),
        "first_id": given,
        "last_id": given,
    }


def with_open_holes(holes: int, tail: list[int]) -> Work:
    """Each call makes one more pass of rows with the ids of `tail`, which begin behind the last one."""
    instruments = instruments_of(1)
    kernel = BarKernel(instruments, parse_specs("1s"), Ledger())
    kernel.update(
        TickBatch.wrap(
            instruments, one_symbol([3 * number for number in range(holes + 1)], market.START_NS, SECOND // 8)
        )
    )
    behind, now = 3 * holes, market.START_NS + (holes + 1) * SECOND // 8
    parts = []
    for _ in range(40):
        parts.append(TickBatch.wrap(instruments, one_symbol([behind + each for each in tail], now, SECOND // 8)))
        behind, now = behind + max(tail), now + len(tail) * SECOND // 8
    taken = iter(parts)
    return lambda: kernel.update(next(taken))


def test_thousands_of_open_holes_cost_no_more_than_one() -> None:
    tail = list(range(1, 2001))  # in order: eight of them to a bar
    many, one = with_open_holes(HOLES, tail), with_open_holes(1, tail)
    assert_ratio(f"{HOLES:,} holes open, trades in order", many, one, 1.3, rounds=7)


# Bars that are kept.


def passing_time(trades: market.Columns, symbols: int, specs: str, lateness_s: int, block: int) -> Work:
    """As `folding`, and the watermark follows."""
    instruments = instruments_of(symbols)
    parts = batches(instruments, trades, block)
    times = [int(each) for each in trades["time_ns"][::block]]

    def work() -> None:
        kernel = BarKernel(instruments, parse_specs(specs), Ledger(), True, lateness_s * SECOND)
        for part, time_ns in zip(parts, times, strict=True):
            kernel.update(part)
            kernel.close_until(time_ns - SECOND, BY_WATERMARK)

    return work


def evenly(symbols: int, seconds: int, rate: int) -> market.Columns:
    return market.columns(seconds * rate, symbols, seconds / 60)


def test_lateness_costs_nothing(is_full: bool) -> None:
    symbols, rate = 20, 20
    seconds = 8000 if is_full else 4200
    trades = evenly(symbols, seconds, rate)
    shortest = passing_time(trades, symbols, "1s", 60, rate)
    for lateness_s in (600, 2000, 3600) if is_full else (3600,):
        longest = passing_time(trades, symbols, "1s", lateness_s, rate)
        assert_ratio(f"1s bars, lateness {lateness_s:,} s and 60 s", longest, shortest, 1.3, rounds=3)


@pytest.mark.parametrize(
    ("late_s", "lateness_s", "limit"),
    [
        (30, 3600, 1.5),
        # The aim is 1.5. A bar among thousands that are kept is found by walking there from the newest, 10 ns a bar.
        (1800, 3600, 26),  # only with --full, as the next one
        # The aim is 1.5. Each trade that comes too late for every bar opens a gap, and all gaps of a symbol are a list.
        (100, 60, 12),
    ],
)
def test_a_late_trade_costs_little_more_among_thousands_of_bars(
    late_s: int, lateness_s: int, limit: float, is_full: bool
) -> None:
    if limit > 2 and not is_full:
        pytest.skip("takes seconds: with --full")
    symbols, rate = 20, 20
    trades = evenly(symbols, 4200, rate)
    late = np.arange(len(trades["time_ns"])) % 10 == 3
    given = trades | {"time_ns": trades["time_ns"] - late * late_s * SECOND}
    name = f"1s bars, lateness {lateness_s:,} s, a tenth late by {late_s:,} s"
    in_order = passing_time(trades, symbols, "1s", lateness_s, rate)
    assert_ratio(name, passing_time(given, symbols, "1s", lateness_s, rate), in_order, limit, rounds=1)


# How trades arrive.


def arriving(how: str, share: float, trades: int) -> market.Columns:
    columns = market.drawn(trades, 500, 100)
    draw = np.random.default_rng(5)
    if how.startswith("late"):
        late_s = int(how.removeprefix("late by "))
        chosen = draw.random(trades) < share
        return columns | {"time_ns": columns["time_ns"] - chosen * late_s * SECOND}
    if how == "duplicates":
        again = np.sort(np.r_[np.arange(trades), draw.choice(trades, int(trades * share), replace=False)])
        return {name: column[again] for name, column in columns.items()}
    turned = np.arange(trades).reshape(-1, 10)[:, ::-1].ravel()  # newest first, ten to a message
    return {name: column[turned] for name, column in columns.items()}


@pytest.mark.parametrize(
    ("how", "share", "limit"),
    [
        ("late by 2", 0.01, 1.5),
        ("late by 2", 0.1, 1.5),
        ("late by 30", 0.01, 1.5),
        (
            "late by 30",
            0.1,
            1.9,
        ),  # the aim is 1.5; half of these issue the next revision of a closed bar, a row of 208 bytes
        ("duplicates", 0.5, 1.85),  # the aim is 1.5; which row is a duplicate cannot be guessed
        ("newest first", 1, 1.5),
    ],
)
def test_trades_out_of_order_cost_little_more(how: str, share: float, limit: float, is_full: bool) -> None:
    trades = 500_000 if is_full else 100_000
    given = arriving(how, share, trades)
    rows = len(given["time_ns"])
    out_of_order, in_order = folding(given, 500), folding(market.drawn(trades, 500, 100), 500)
    assert_ratio(f"{how}, {share:.0%}, a row", out_of_order, in_order, limit * rows / trades, rounds=5)


# Everything at once.


def resident_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) / 256


def zipf(symbols: int, seconds: int, rate: int, ids: npt.NDArray[np.int64], start_ns: int, seed: int) -> market.Columns:
    weights = 1 / np.arange(1, symbols + 1) ** 0.7
    draw = np.random.default_rng(seed)
    trades = seconds * rate
    symbol_id = draw.choice(symbols, trades, p=weights / weights.sum()).astype(np.int32)
    order = np.argsort(symbol_id, kind="stable")
    counts = np.bincount(symbol_id, minlength=symbols)
    own = np.empty(trades, np.int64)
    own[order] = np.arange(trades) - np.repeat(np.cumsum(counts) - counts, counts) + ids[symbol_id[order]]
    ids += counts
    return {
        "time_ns": start_ns + np.arange(trades, dtype=np.int64) * (SECOND // rate),
        "symbol_id": symbol_id,
        "price": 6_000_000 + draw.integers(-50, 50, trades),
        "size": draw.integers(1, 1_000_000, trades),
        "side": draw.choice(np.array([-1, 1], np.int8), trades),
        "first_id": own,
        "last_id": own,
    }


def test_three_thousand_symbols_and_six_specs(is_full: bool) -> None:
    symbols, rate, wakeup = 3000, 5000, 500
    instruments = instruments_of(symbols)
    kernel = BarKernel(instruments, parse_specs(SIX_SPECS), Ledger())
    ids = np.zeros(symbols, np.int64)
    minutes = 60 if is_full else 1
    before, grown = 0.0, []

    def feed(parts: list[TickBatch], times: list[int]) -> None:
        for part, time_ns in zip(parts, times, strict=True):
            kernel.update(part)
            kernel.close_until(time_ns - SECOND, BY_WATERMARK)

    def minute(number: int, seconds: int = 60) -> tuple[list[TickBatch], list[int]]:
        trades = zipf(symbols, seconds, rate, ids, market.START_NS + number * 60 * SECOND, number)
        return batches(instruments, trades, wakeup), [int(each) for each in trades["time_ns"][wakeup - 1 :: wakeup]]

    for number in range(minutes):
        parts, times = minute(number)
        before = before or resident_mib()
        feed(parts, times)
        grown.append(resident_mib() - before)
    if is_full:
        HELD.append(f"| 3,000 symbols, six specs, memory after an hour | {grown[-1]:.0f} MiB | 64 |")
        assert grown[-1] <= 64
        assert grown[-1] - grown[9] <= 4
    parts, times = minute(minutes, 40)
    several = len(parts) // 40
    pieces = iter([(parts[at : at + several], times[at : at + several]) for at in range(0, len(parts), several)])
    assert_ns("3,000 symbols, six specs, a trade", lambda: feed(*next(pieces)), several * wakeup, 300)


def test_the_memory_of_bars() -> None:
    symbols, seconds = 3000, 75
    assert SLOT_BYTES <= 304
    assert RECORD_BYTES <= 240
    instruments = instruments_of(symbols)
    kernel = BarKernel(instruments, parse_specs("1s"), Ledger(), True, 60 * SECOND)
    trades = market.columns(symbols * seconds, symbols, seconds / 60)
    trades["symbol_id"] = np.tile(np.arange(symbols, dtype=np.int32), seconds)
    trades["first_id"] = trades["last_id"] = np.repeat(np.arange(seconds, dtype=np.int64), symbols)
    parts = batches(instruments, trades, symbols)
    for part in parts:
        kernel.update(part)
    state = sum(len(part) for part in kernel.dump().values() if type(part) is bytes) / 2**20
    most = symbols * (SLOT_BYTES + 62 * RECORD_BYTES + 256) / 2**20  # 256: ids and coverage of a symbol
    HELD.append(f"| state of 3,000 symbols, 1s, lateness 60 s | {state:.0f} MiB | {most:.0f} |")
    assert state <= most
