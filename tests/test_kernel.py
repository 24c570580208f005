"""The kernel equals the oracle for any feed: every issued bar, its values, status, revision and order."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, example, given, settings, strategies as st

from examples import examples
from fastbars._agg import BarKernel
from fastbars.buffer import BarBuffer
from fastbars.errors import InvalidTickError, PrecisionError
from fastbars.kernel.batch import TickBatch
from fastbars.kernel.ids import Ledger
from fastbars.kernel.instruments import Instruments
from fastbars.specs import parse_specs
from fastbars.ticks import TickData
from oracle import Line, Oracle, Trade
from strategies import (
    MINUTE,
    PATH_SPECS,
    SECOND,
    SYMBOLS,
    TIME_SPECS,
    Clock,
    Event,
    Flush,
    Heal,
    Scenario,
    Watermark,
    buffer_for,
    expected,
    line_of,
    oracle_for,
    replay,
    scenarios,
)


def feed(*rows: tuple[float, int]) -> tuple[Event, ...]:
    """Trades of one symbol from (seconds, id), the price being the id."""
    return tuple(Trade("A", round(s * SECOND), Decimal(i), Decimal(1), 1, i, i) for s, i in rows)


# A fill whose own time lies ahead makes the rest of its hole reach into a bar that it had not reached before.
FILL_AHEAD_IN_TIME = Scenario(("1s",), "contiguous", 0, 0, feed((0, 28), (0, 31), (1, 32), (2, 33), (2, 30)))
# A tick bar whose trades come out of id order keeps the ids of both ends.
PATH_OUT_OF_ORDER = Scenario(("tick:3",), "contiguous", 0, 0, feed((0, 20), (0, 19), (1, 25)))
# What comes too late for a bar that is GAP already changes nothing about it.
LATE_FOR_A_GAP = Scenario(
    ("1s",), "contiguous", 0, 0.5, feed((0, 1), (1, 2), (1, 5), (2.1, 6), (3.7, 7), (1.5, 3), (1.6, 4), (6, 8))
)
# A late trade can still be the newest of its symbol, where the bar after it has not opened.
NEWEST_AFTER_THE_CLOCK = Scenario(
    ("1s",), "none", 0, 0.5, (*feed((0, 1), (1, 2)), Trade("B", 0, Decimal(1), Decimal(1)), *feed((1.9, 3), (0.9, 4)))
)

# A fill that leaves the close as it was changes the flat bar behind it no earlier than the bars before.
FILL_BEFORE_A_FLAT_BAR = Scenario(
    ("1s",), "contiguous", 0, 0,
    tuple(
        Trade(symbol, second * SECOND, Decimal(1), Decimal(1), 0, trade_id, trade_id)
        for symbol, second, trade_id in (
            ("BB", 0, 20), ("A", 1, 54), ("A", 3, 55), ("BB", 3, 22), ("BB", 3, 23), ("BB", 1, 21)
        )
    ),
    empty="fill",
)  # fmt: skip


# The newest id of an older series, between a hole and the seam behind it: what is known of its time is known of both.
BEFORE_A_SEAM = Scenario(
    ("tick:1",), "contiguous", 0, 0,
    (*feed((0, 20), (1, 20)), Flush(None), *feed((1, 21), (-1, 22), (0, 22))),
)  # fmt: skip


@given(scenarios())
@example(FILL_BEFORE_A_FLAT_BAR)
@example(BEFORE_A_SEAM)
@example(FILL_AHEAD_IN_TIME)
@example(PATH_OUT_OF_ORDER)
@example(LATE_FOR_A_GAP)
@example(NEWEST_AFTER_THE_CLOCK)
def test_every_issued_bar_equals_the_oracle(scenario: Scenario) -> None:
    late: list[TickData] = []
    buffer, oracle = buffer_for(scenario, late), oracle_for(scenario)
    assert replay(buffer, scenario.events, scenario.cuts) == expected(oracle, scenario.events)
    # A stray and the trade that left it behind are reported together, in either order.
    assert sorted((tick.symbol, tick.time_ns, tick.price, tick.volume) for tick in late) == sorted(
        (trade.symbol, trade.time_ns, trade.price, trade.size) for trade in oracle.late
    )
    trades = sum(isinstance(event, Trade) for event in scenario.events)
    assert buffer.stats.late == len(oracle.late)
    assert buffer.stats.duplicates == oracle.duplicates
    assert buffer.stats.void_ids == oracle.voids
    assert buffer.stats.trades == trades - len(oracle.late) - oracle.duplicates - oracle.voids
    for symbol in SYMBOLS:
        assert buffer.missing(symbol) == (oracle.missing(symbol) if scenario.ids == "contiguous" else [])


@pytest.mark.parametrize("spec", TIME_SPECS + PATH_SPECS)
@settings(max_examples=examples(12))
@given(st.data())
def test_every_kind_of_spec_equals_the_oracle(spec: str, data: st.DataObject) -> None:
    scenario = data.draw(scenarios(specs=(spec,), most_specs=1))
    assert replay(buffer_for(scenario), scenario.events, scenario.cuts) == expected(
        oracle_for(scenario), scenario.events
    )


@given(scenarios(), st.frozensets(st.integers(0, 40)), st.frozensets(st.integers(0, 40)))
def test_the_result_does_not_depend_on_how_trades_are_cut_into_batches(
    scenario: Scenario, cuts: frozenset[int], others: frozenset[int]
) -> None:
    whole = replay(buffer_for(scenario), scenario.events)
    assert replay(buffer_for(scenario), scenario.events, cuts) == whole
    assert replay(buffer_for(scenario), scenario.events, cuts | others) == whole
    assert replay(buffer_for(scenario), scenario.events, frozenset(range(41))) == whole


# Void ids behind the last trade of a path-driven bar are known to the ledger alone.
VOIDS_BEHIND_A_PATH = Scenario(
    ("1s", "tick:3"), "contiguous", 0, 0,
    (*feed((0, 20)), Trade("A", 0, Decimal(1), Decimal(0), 0, 21, 24, 4), Watermark(0), *feed((0, 21))),
)  # fmt: skip

HEALED_BEFORE_A_TRADE = Scenario(
    ("tick:1", "1s"), "contiguous", 0, 0,
    (*(Trade("A", 0, Decimal(1), Decimal(0), 0, number, number, 1) for number in (20, 12)),
     Heal((Trade("A", 0, Decimal(1), Decimal(1), 0, 14, 14, 1),))),
)  # fmt: skip

OPEN_BEHIND_A_CLOSED_BAR = Scenario(
    ("5s", "1s"), "contiguous", 0, 0,
    (*feed((3.5, 20), (86.5, 21)), Clock(91_750_000_000, True), *feed((89.5, 22))),
)  # fmt: skip


@given(scenarios(most_specs=4))
@example(VOIDS_BEHIND_A_PATH)
@example(HEALED_BEFORE_A_TRADE)
@example(OPEN_BEHIND_A_CLOSED_BAR)
def test_several_specs_at_once_give_the_bars_of_each_alone(scenario: Scenario) -> None:
    # Where a flush, or a clock while the feed is down, ends the coverage depends on the bars of all specs.
    ends = [event for event in scenario.events if isinstance(event, Flush) or getattr(event, "feed_up", True) is False]
    scenario = scenario._replace(events=tuple(event for event in scenario.events if event not in ends))
    all_of_them = buffer_for(scenario)
    together = replay(all_of_them, scenario.events, scenario.cuts, flush=False)
    # Where one spec can still take a late trade, its id has come; where none can, it is missing.
    assume(scenario.ids == "none" or all_of_them.stats.late == 0)
    for spec in scenario.specs:
        buffer = buffer_for(scenario._replace(specs=(spec,)))
        lines = replay(buffer, scenario.events, flush=False)
        # How old an id is, the bars that are kept tell too: with more of them ids are seen sooner to begin anew.
        if all_of_them.stats.series == buffer.stats.series == 0:
            assert [line for line in together if line.spec == spec] == lines


@given(scenarios(most_specs=4, trades_only=True, most_events=20))
def test_bars_come_in_the_order_of_the_trades_that_caused_them_then_of_the_specs(scenario: Scenario) -> None:
    one_by_one, at_once = buffer_for(scenario), buffer_for(scenario)
    wanted: list[Line] = []
    for event in scenario.events:
        issued = replay_without_flush(one_by_one, [event])
        places = [scenario.specs.index(line.spec) for line in issued]
        assert places == sorted(places)
        wanted += issued
    assert replay_without_flush(at_once, scenario.events) == wanted


def replay_without_flush(buffer: BarBuffer, events: list[Event] | tuple[Event, ...]) -> list[Line]:
    batch = buffer.new_batch()
    for event in events:
        assert isinstance(event, Trade)
        batch.append(*event, time_unit="ns")
    return [line_of(bar) for bar in buffer.add_batch(batch)]


@given(scenarios(specs=TIME_SPECS, trades_only=True, lateness_s=(9 * 10**9,)))
def test_the_last_revision_of_a_time_bar_holds_exactly_the_trades_of_its_interval(scenario: Scenario) -> None:
    buffer, oracle = buffer_for(scenario), oracle_for(scenario)
    lines = replay(buffer, scenario.events, scenario.cuts)
    expected(oracle, scenario.events)
    assume(not oracle.late)  # for more than 73 years no bar waits
    last = {(line.symbol, line.spec, line.open_time): line for line in lines}
    placed = [trade for trades in oracle.accepted.values() for trade in trades if trade.size]
    for spec in scenario.specs:
        bars = [line for line in last.values() if line.spec == spec]
        assert sum(line.trade_count for line in bars) == sum(trade.trade_count for trade in placed)
        for line in bars:
            inside = [
                trade
                for trade in placed
                if trade.symbol == line.symbol
                and line.open_time.timestamp() * SECOND <= trade.time_ns < line.close_time.timestamp() * SECOND
            ]
            assert line.trade_count == sum(trade.trade_count for trade in inside)
            if not inside:
                continue
            assert line.high == max(trade.price for trade in inside)
            assert line.low == min(trade.price for trade in inside)


@given(scenarios(ids=("contiguous",), trades_only=True, lateness_s=(9 * 10**9,)))
def test_revisions_count_up_from_zero_and_each_one_changes_something(scenario: Scenario) -> None:
    history: dict[tuple[str, str, object], list[Line]] = {}
    for line in replay(buffer_for(scenario), scenario.events, scenario.cuts):
        if ":" not in line.spec:
            history.setdefault((line.symbol, line.spec, line.open_time), []).append(line)
    for lines in history.values():
        assert [line.revision for line in lines] == list(range(len(lines)))
        for before, after in pairwise(lines):
            assert before._replace(revision=0) != after._replace(revision=0)


@given(scenarios(specs=TIME_SPECS, ids=("contiguous",), trades_only=True, lateness_s=(9 * 10**9,)))
def test_ids_prove_a_complete_bar(scenario: Scenario) -> None:
    # Where times rise with the ids, whatever the order of arrival, a COMPLETE bar has no room for another trade.
    trades = [event for event in scenario.events if isinstance(event, Trade)]
    numbers = {symbol: sorted({trade.first_id for trade in trades if trade.symbol == symbol}) for symbol in SYMBOLS}
    times = sorted(trade.time_ns for trade in trades)
    events = [trade._replace(time_ns=times[numbers[trade.symbol].index(trade.first_id)]) for trade in trades]
    lines, oracle = replay(buffer_for(scenario), events, scenario.cuts), oracle_for(scenario)
    expected(oracle, events)
    last = {(line.symbol, line.spec, line.open_time): line for line in lines}
    for line in last.values():
        if line.status == "COMPLETE" and line.trade_count:
            assert line.first_trade_id is not None
            assert line.last_trade_id is not None
            ids = range(line.first_trade_id, line.last_trade_id + 1)
            voids = [row for row in oracle.accepted[line.symbol] if not row.size and row.first_id in ids]
            assert line.trade_count == len(ids) - sum(row.trade_count for row in voids)


# A batch that fails.

BAD_ROWS = {
    "price": {"price": 0},
    "size": {"size": -3},
    "time_ns": {"time_ns": 2**63 - 1},
    "side": {"side": 2},
    "count": {"count": 0},
    "first_id": {"first_id": -1},
    "last_id": {"last_id": 2**63 - 1},
    "symbol id": {"symbol_id": 99},
}
GOOD_ROW = {
    "time_ns": 0, "symbol_id": 0, "price": 1, "size": 1, "side": 0, "first_id": 7, "last_id": 7, "count": 1,
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_ROWS)
@settings(max_examples=examples(15))
@given(scenario=scenarios(most_events=25), at=st.integers(0, 25), place=st.integers(0, 5), rows=st.integers(1, 6))
def test_a_failing_batch_changes_nothing_and_names_the_row(
    name: str, scenario: Scenario, at: int, place: int, rows: int
) -> None:
    from fastbars.errors import InvalidTickError
    from fastbars.kernel.batch import TickBatch

    buffer, twin = buffer_for(scenario), buffer_for(scenario)
    for one in (buffer, twin):
        one.instruments.add("A")
    before, after = scenario.events[:at], scenario.events[at:]
    lines = without_the_end(buffer, before)
    assert lines == without_the_end(twin, before)
    place = min(place, rows - 1)
    table = [dict(GOOD_ROW, first_id=7 + i, last_id=7 + i) for i in range(rows)]
    table[place] |= BAD_ROWS[name]
    columns = {key: [row[key] for row in table] for key in GOOD_ROW}
    with pytest.raises(InvalidTickError, match=f"row {place}: {name}") as caught:
        buffer.add_batch(TickBatch.from_columns(buffer.instruments, **columns))
    assert caught.value.row == place
    assert buffer.stats == twin.stats
    assert replay(buffer, after) == replay(twin, after)


def without_the_end(buffer: BarBuffer, events: tuple[Event, ...]) -> list[Line]:
    bars: list[Line] = []
    for event in events:
        bars += replay_without_flush(buffer, [event]) if isinstance(event, Trade) else []
    return bars


@given(
    scenario=scenarios(most_events=25, ids=("contiguous",), trades_only=True),
    at=st.integers(0, 25),
    cuts=st.frozensets(st.integers(0, 40)),
)
def test_a_sum_that_leaves_128_bits_names_its_row_and_leaves_the_state_unchanged(
    scenario: Scenario, at: int, cuts: frozenset[int]
) -> None:
    # No market trades 9e18 x 9e18; what came before in the same batch must be undone with it.
    scenario = scenario._replace(specs=("1y", "tick:1000", *scenario.specs), contract_sizes=())
    scenario = scenario._replace(specs=tuple(dict.fromkeys(scenario.specs)))
    buffer, twin = buffer_for(scenario), buffer_for(scenario)
    before, after = scenario.events[:at], scenario.events[at:]
    assert without_the_end(buffer, before) == without_the_end(twin, before)
    batch = buffer.new_batch()
    for event in after:
        assert isinstance(event, Trade)
        batch.append(*event, time_unit="ns")
    rows = len(batch)
    largest = Decimal(2**63 - 1)
    for number in range(4):
        batch.append("monster", 0, largest, largest, 1, number)
    for one in (buffer, twin):
        one.instruments.add("monster")
    with pytest.raises(PrecisionError, match=f"monster: with row {rows + 2} ") as caught:
        buffer.add_batch(batch)
    assert caught.value.row == rows + 2
    assert buffer.stats == twin.stats
    assert buffer.missing("A") == twin.missing("A")
    assert replay(buffer, after, cuts) == replay(twin, after)


def test_the_largest_sum_that_fits_is_exact_and_one_more_is_refused() -> None:
    buffer = BarBuffer(["1m", "tick:100"], ids="contiguous")
    largest = 2**63 - 1
    for number in range(2):
        buffer.add_tick(TickData("A", 0, largest, largest, "buy", number))
    rest = 2**127 - 1 - 2 * largest**2
    buffer.add_tick(TickData("A", 0, largest, rest // largest, "buy", 2))
    buffer.add_tick(TickData("A", 0, 1, rest % largest, "buy", 3))
    with pytest.raises(PrecisionError, match=r"A: with row 0 .* leaves 128 bits"):
        buffer.add_tick(TickData("A", 0, 1, 1, "buy", 4))
    minute, ticks = buffer.flush_all()
    assert minute.quote_volume == ticks.quote_volume == minute.taker_buy_quote_volume == 2**127 - 1
    assert minute.volume == 2 * largest + rest // largest + rest % largest
    assert minute.trade_count == 4


def test_an_overflow_in_a_closed_bar_leaves_it_as_it_was() -> None:
    buffer = BarBuffer("1m")
    for second in (0, 1):
        buffer.add_tick(TickData("A", second * SECOND, 2**63 - 1, 2**63 - 1))
    (closed,) = buffer.add_tick(TickData("A", MINUTE, 1, 1))
    with pytest.raises(PrecisionError, match="A: with row 0 "):
        buffer.add_tick(TickData("A", 30 * SECOND, 2**63 - 1, 2**63 - 1))
    (amended,) = buffer.add_tick(TickData("A", 40 * SECOND, 1, 1))
    assert amended.revision == 1
    assert amended.volume == closed.volume + 1
    assert amended.quote_volume == 2 * (2**63 - 1) ** 2 + 1


# Scales.


@given(
    scenarios(trades_only=True, lateness_s=(10**6,), markets=("plain", "widening")),
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9), st.integers(0, 9)), max_size=6),
)
def test_widening_a_scale_changes_no_value_of_any_bar(
    scenario: Scenario, widenings: list[tuple[int, int, int]]
) -> None:
    buffer, lines = buffer_for(scenario), []
    step = 1 + len(scenario.events) // (len(widenings) + 1)
    for number in range(len(widenings) + 1):
        lines += without_the_end(buffer, scenario.events[number * step : (number + 1) * step])
        if number < len(widenings):
            place, price_scale, size_scale = widenings[number]
            buffer.instruments.add(SYMBOLS[place], price_scale, size_scale)
    lines += [line_of(bar) for bar in buffer.flush_all()]
    assert lines == expected(oracle_for(scenario), scenario.events)


def test_open_and_closed_bars_follow_a_widened_scale_exactly() -> None:
    buffer = BarBuffer(["1s", "1m", "volume:5"], ids="contiguous")
    oracle = Oracle(["1s", "1m", "volume:5"], "contiguous")
    rows = [
        Trade("A", 0, Decimal(3), Decimal(2), 1, 1, 1),
        Trade("A", SECOND, Decimal("3.5"), Decimal("0.25"), 1, 2, 2),
        Trade("A", SECOND, Decimal("3.500000001"), Decimal("0.000000000001"), -1, 3, 3),
        Trade("A", 0, Decimal(4), Decimal("2.749999999999"), 1, 4, 4),
        Trade("A", 2 * SECOND, Decimal("0.000000000001"), Decimal(1), 0, 5, 5),
    ]
    assert [line_of(bar) for row in rows for bar in buffer.add_tick(tick(row))] + [
        line_of(bar) for bar in buffer.flush_all()
    ] == expected(oracle, rows)
    assert buffer.instruments.scales("A") == (12, 12)


def tick(row: Trade) -> TickData:
    side = {1: "buy", -1: "sell", 0: "unknown"}[row.side]
    return TickData(row.symbol, row.time_ns, row.price, row.size, side, row.first_id, row.last_id, row.trade_count)


def test_an_open_bar_that_cannot_follow_a_scale_refuses_only_the_trades_that_need_it() -> None:
    buffer = BarBuffer("1m")
    for _ in range(19):
        buffer.add_tick(TickData("A", 0, 9 * 10**17, 10**18))
    buffer.instruments.add("A", price_scale=1)
    with pytest.raises(PrecisionError, match=r"A: price 0\.5 and size 1 need .* the sums of its open bar do") as caught:
        buffer.add_tick(TickData("A", 1, "0.5", 1))
    assert caught.value.row == 0
    assert buffer.add_tick(TickData("B", 0, 1, 1)) == []
    assert buffer.add_tick(TickData("A", 1, 1, 1)) == []
    (bar,) = buffer.flush_symbol("A")
    assert (bar.trade_count, bar.high, bar.volume) == (20, Decimal(9 * 10**17), Decimal(19 * 10**18 + 1))
    assert bar.quote_volume == 171 * 10**35 + 1
    assert buffer.add_tick(TickData("A", 2 * MINUTE, "0.5", 1)) == []


def test_a_closed_bar_that_cannot_follow_a_scale_is_let_go_and_what_comes_for_it_is_late() -> None:
    late: list[TickData] = []
    buffer = BarBuffer("1m", on_late=late.append)
    for _ in range(20):
        buffer.add_tick(TickData("A", 0, 9 * 10**17, 10**18))
    (closed,) = buffer.add_tick(TickData("A", MINUTE, 1, 1))
    assert closed.quote_volume == 18 * 10**36
    assert buffer.add_tick(TickData("A", MINUTE, "1.5", 1)) == []
    assert buffer.add_tick(TickData("A", 1, "2.5", 1)) == []
    assert [tick.price for tick in late] == [Decimal("2.5")]
    (open_bar,) = buffer.flush_all()
    assert (open_bar.quote_volume, open_bar.volume) == (Decimal("2.5"), Decimal(2))


def test_a_step_beyond_128_bits_disturbs_no_other_bar() -> None:
    buffer = BarBuffer(["1m", "value:1000000"])
    buffer.add_tick(TickData("A", 0, 2, 1))
    buffer.add_tick(TickData("B", 0, "0.1", 1))
    fine = Decimal("1.000000000000000001")
    assert buffer.add_tick(TickData("A", 0, fine, fine)) == []
    assert buffer.add_tick(TickData("B", 0, "0.02", 1)) == []
    for bar in buffer.flush_symbol("A"):
        assert bar.quote_volume == Decimal("3.000000000000000002000000000000000001")
        assert bar.close_reason == "end"
    for bar in buffer.flush_symbol("B"):
        assert (bar.quote_volume, bar.close_reason) == (Decimal("0.12"), "end")


def test_bars_of_hundreds_of_symbols_equal_the_oracle() -> None:
    # A fixed mixture, larger than what Hypothesis draws: growth of every table, 300 symbols in turn.
    rows = [
        Trade(
            f"S{(i * 37) % 300}",
            (i * 11_000_000) - (i % 7) * 400_000_000,
            Decimal(1000 + (i * i) % 977) / 100,
            Decimal(1 + i % 13),
            (i % 3) - 1,
            i // 300,
            i // 300,
        )
        for i in range(3000)
    ]
    scenario = Scenario(("1s", "5s", "tick:4"), "contiguous", 1, 2, tuple(rows), frozenset(range(0, 3000, 211)))
    assert replay(buffer_for(scenario), scenario.events, scenario.cuts) == expected(
        oracle_for(scenario), scenario.events
    )


@pytest.mark.parametrize("times", ["1s,1m,", ""], ids=["with time bars", "without"])
@pytest.mark.parametrize("counted", [False, True], ids=["one trade a row", "several trades a row"])
@pytest.mark.parametrize("by_id", [True, False], ids=["ids", "no ids"])
@settings(max_examples=examples(10))
@given(seed=st.integers(0, 2**32 - 1), longest_run=st.sampled_from((1, 3, 40, 700)))
def test_rows_of_a_long_batch_are_byte_for_byte_those_of_its_trades_one_by_one(
    by_id: bool, counted: bool, times: str, seed: int, longest_run: int
) -> None:
    # Long runs of a symbol, and thousands of issued rows, go ways of their own.
    draw = np.random.default_rng(seed)
    runs = draw.integers(1, longest_run + 1, 3000)
    symbol_id = np.repeat(draw.integers(0, 3, 3000), runs)[:3000].astype(np.int32)
    count = draw.integers(1, 5, 3000) if counted else np.ones(3000, np.int64)
    last_id = np.zeros(3000, np.int64)
    for symbol in range(3):
        last_id[symbol_id == symbol] = count[symbol_id == symbol].cumsum()
    if draw.integers(0, 2):  # a duplicate or a hole here and there
        last_id += draw.choice([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, -1, 1], 3000) * (last_id > 5)
    columns = {
        "time_ns": draw.choice([-1, 0, 0, 0, 1, 20], 3000).cumsum() * 10**8 + 10**18,
        "symbol_id": symbol_id,
        "price": draw.integers(1, 100, 3000),
        "size": draw.integers(1, 100, 3000),
        "side": draw.choice(np.array([-1, 1], np.int8), 3000),
        "first_id": last_id - count + 1,
        "last_id": last_id,
    }
    if counted:
        columns["count"] = count
    else:
        columns["first_id"] = columns["last_id"]
    specs = parse_specs(times + "tick:2,tick:90,volume:20000,value:1000000")
    kernels = []
    for _ in range(2):
        instruments = Instruments()
        for name in "ABC":
            instruments.add(name, 0, 0)
        kernels.append(BarKernel(instruments, specs, Ledger() if by_id else None, by_id))
    rows, late = kernels[0].update(TickBatch.wrap(kernels[0].instruments, columns))
    one_by_one, late_one_by_one = [], []
    for i in range(3000):
        batch = TickBatch.wrap(kernels[1].instruments, {name: column[i : i + 1] for name, column in columns.items()})
        more, more_late = kernels[1].update(batch)
        one_by_one += [(row, i) for row in more]
        late_one_by_one += [(i, spec) for _, spec in more_late]
    assert len(rows) > 1024
    for got, (row, i) in zip(rows, one_by_one, strict=True):
        assert got["row"] == i
        wanted = row.copy()
        wanted["row"] = i
        assert got.tobytes() == wanted.tobytes()
    # Trades that waited, and are strays, are numbered from -2 down in each batch.
    assert [(row, max(spec, -2)) for row, spec in late] == [(row, max(spec, -2)) for row, spec in late_one_by_one]
    assert kernels[0].flush().array().tobytes() == kernels[1].flush().array().tobytes()


@pytest.mark.parametrize("price", [0, 2**62], ids=["a row that breaks a rule", "a sum beyond 128 bits"])
def test_a_refused_batch_of_numbered_messages_leaves_the_ids_in_charge(price: int) -> None:
    instruments = Instruments("demo")
    instruments.add("A")
    kernel = BarKernel(instruments, parse_specs("1h"), Ledger())

    def columns(first_id: int, rows: int) -> dict[str, npt.NDArray[Any]]:
        ids = np.arange(first_id, first_id + rows)
        ones = np.ones(rows, np.int64)
        return {"time_ns": ids * SECOND, "symbol_id": np.zeros(rows, np.int32), "price": ones, "size": ones,
                "first_id": ids, "last_id": ids}  # fmt: skip

    kernel.update(TickBatch.from_columns(instruments, **columns(1, 3)))
    wrong = columns(4, 12) | {"sequence": np.arange(12), "price": np.full(12, price), "size": np.full(12, 2**62)}
    before = kernel.dump()
    with pytest.raises((InvalidTickError, PrecisionError)):
        kernel.update(TickBatch.from_columns(instruments, **wrong))
    assert kernel.dump() == before
    issued, _ = kernel.update(TickBatch.from_columns(instruments, **columns(4, 3)), True)
    assert kernel.ledger is not None
    assert (kernel.ledger.missing(0), kernel.ledger.expected(0)) == ([], 7)
    assert list(issued["count"]) == [6]
