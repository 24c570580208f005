"""Footprints and flow: against the oracle, over batches, late trades, healing, scales and snapshots."""

from __future__ import annotations

import asyncio
import pickle
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings, strategies as st

import fastbars
from examples import examples
from fastbars import BarBatch, BarBuffer, InvalidTickError, PrecisionError, SpecError, StreamConfig, aggregate
from fastbars.bars import BAR_FIELDS, FEATURE_FIELDS, BarSpec, FootprintLevel, OHLCVBar
from fastbars.kernel.batch import TickBatch
from fastbars.live.delivery_log import decoded, encoded
from fastbars.simulator import SimulatedExchange
from fastbars.simulator.faults import Fault, FaultKind, Faults
from servers import until
from strategies import FEATURED_SPECS, Scenario, buffer_for, expected, oracle_for, replay, scenarios
from test_venue_tapes import TAPES

SECOND = 1_000_000_000
T0 = 1_767_225_600 * SECOND
SPECS = (*FEATURED_SPECS, "1s", "1m", "tick:3")
D = Decimal


@settings(max_examples=examples(150))
@given(scenarios(specs=SPECS, covers=True))
def test_what_is_inside_every_issued_bar_equals_the_oracle(scenario: Scenario) -> None:
    assert replay(buffer_for(scenario), scenario.events, scenario.cuts) == expected(
        oracle_for(scenario), scenario.events
    )


@settings(max_examples=examples(50))
@given(scenarios(specs=SPECS, covers=True), st.integers(0, 40))
def test_a_snapshot_takes_along_what_is_inside_open_and_closed_bars(scenario: Scenario, cut: int) -> None:
    whole, first, second = (buffer_for(scenario) for _ in range(3))
    events, others = scenario.events[:cut], scenario.events[cut:]
    issued = replay(whole, scenario.events, scenario.cuts | {cut - 1})
    before = replay(first, events, scenario.cuts, flush=False)
    second.load(pickle.loads(pickle.dumps(first.dump())), continues=True)
    assert before + replay(second, others, frozenset(place - cut for place in scenario.cuts)) == issued


def some_trades(count: int, symbols: int = 3, seed: int = 1) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    return {
        "time_ns": T0 + np.sort(random.integers(0, count * SECOND // 10, count)),
        "price": 10_000 + np.cumsum(random.integers(-3, 4, count)),
        "size": random.integers(1, 10**9, count),
        "side": random.integers(-1, 2, count),
        "symbol": [f"S{number}" for number in random.integers(0, symbols, count)],
        "price_scale": 2,
        "size_scale": 5,
    }


def check_sums(bar: OHLCVBar) -> None:
    """The levels of a footprint sum to the bar, to the digit."""
    assert bar.footprint is not None
    assert sum(level.buy_volume for level in bar.footprint) == bar.taker_buy_volume
    assert sum(level.volume for level in bar.footprint) == bar.volume
    assert [level.price for level in bar.footprint] == sorted({level.price for level in bar.footprint})
    assert bar.low is not None
    assert bar.high is not None
    assert bar.footprint[0].price <= bar.low
    assert bar.footprint[-1].price <= bar.high
    most = max(level.volume for level in bar.footprint)
    assert bar.point_of_control == next(level.price for level in bar.footprint if level.volume == most)


def test_the_other_fields_of_a_bar_do_not_depend_on_its_features() -> None:
    # Across blocks of rows, several symbols, and with all specs beside each other.
    trades = some_trades(70_000)
    plain = aggregate(**trades, bars="30s,1m,tick:1000")
    featured = aggregate(**trades, bars="1m,30s+flow+footprint:0.05,1m+footprint:0.5,tick:1000+flow,30s,tick:1000")

    def fields(batch: BarBatch, spec: str) -> list[tuple[Any, ...]]:
        return [tuple(getattr(bar, name) for name in BAR_FIELDS if name != "spec") for bar in batch if bar.spec == spec]

    assert fields(featured, "30s") == fields(plain, "30s") == fields(featured, "30s+flow+footprint:0.05")
    assert fields(featured, "1m") == fields(plain, "1m") == fields(featured, "1m+footprint:0.5")
    assert fields(featured, "tick:1000") == fields(plain, "tick:1000") == fields(featured, "tick:1000+flow")
    for bar in featured:
        if "footprint" in bar.spec:
            check_sums(bar)
        if "flow" in bar.spec:
            assert bar.delta is not None
            assert bar.delta_low is not None
            assert bar.delta_high is not None
            assert bar.delta_low <= bar.delta <= bar.delta_high
        assert (bar.delta is None) == ("flow" not in bar.spec)


def test_live_and_in_arrays_the_same_is_inside() -> None:
    trades = some_trades(3000)
    specs = "5s+footprint:0.05+flow,tick:50+footprint:1"
    buffer = BarBuffer(specs)
    live = []
    for row in range(3000):
        live += buffer.add(
            trades["symbol"][row], int(trades["time_ns"][row]), D(int(trades["price"][row])).scaleb(-2),
            D(int(trades["size"][row])).scaleb(-5), int(trades["side"][row]),
        )  # fmt: skip
    live += buffer.flush_all()
    made = aggregate(**trades, bars=specs).to_bars()

    def inside(bars: list[OHLCVBar]) -> list[Any]:
        keys = ("symbol", "spec", "open_time", *FEATURE_FIELDS)
        return sorted((tuple(getattr(bar, name) for name in keys) for bar in bars), key=lambda key: key[:3])

    assert inside(live) == inside(made)


def test_a_worked_example_of_flow() -> None:
    # 3 bought at 10, 1 sold at 12, 4 sold at 11, 2 of unknown side at 10.
    bar = aggregate(
        [0, 1, 2, 3],
        ["10", "12", "11", "10"],
        ["3", "1", "4", "2"],
        side=[1, -1, -1, 0],
        bars="1m+flow",
        time_unit="ns",
    )[0]
    assert (bar.delta, bar.delta_high, bar.delta_low) == (D(-2), D(3), D(-2))
    # vwap 106 / 10; mean square 3*100 + 144 + 4*121 + 2*100 = 1128 / 10; variance 112.8 - 112.36 = 0.44.
    assert bar.vwap == D("10.6")
    assert bar.vwap_deviation == D("0.6633249580710799698229865473")


def test_a_late_trade_leaves_the_footprint_whole_and_the_extremes_of_delta_unknown() -> None:
    buffer = BarBuffer("1m+flow+footprint:1")
    for second, side in ((0, 1), (20, 1), (70, 1)):
        bars = buffer.add("A", second * SECOND, "10", "1", side)
    assert [(bar.delta_high, bar.revision) for bar in bars] == [(D(2), 0)]
    (amended,) = buffer.add("A", 10 * SECOND, "12.5", "3", -1)
    assert (amended.revision, amended.delta, amended.delta_high, amended.delta_low) == (1, D(-1), None, None)
    check_sums(amended)
    assert amended.footprint == (FootprintLevel(D(10), D(2), D(0), D(0)), FootprintLevel(D(12), D(0), D(3), D(0)))


def test_levels_reach_below_zero_and_a_step_may_be_finer_or_larger_than_prices() -> None:
    prices = ["-1.5", "-1", "-0.5", "0", "0.5", "1.25"]
    cases: tuple[tuple[str, list[Any]], ...] = (
        ("1", [-2, -1, 0, 1]), ("0.001", ["-1.5", "-1", "-0.5", "0", "0.5", "1.25"]), ("1000", [-1000, 0]),
        ("0.75", ["-1.5", "-0.75", "0", "0.75"]), ("9000000000000000000", ["-9000000000000000000", 0]),
    )  # fmt: skip
    for step, expected_levels in cases:
        bar = aggregate(range(6), prices, ["1"] * 6, bars=f"1m+footprint:{step}", negative_prices=True, time_unit="ns")[
            0
        ]
        assert [level.price for level in bar.footprint or ()] == [D(price) for price in expected_levels]
        check_sums(bar)


def test_a_bar_with_too_many_levels_has_no_footprint_and_is_untouched() -> None:
    prices = [100 + place * 7 % 2003 for place in range(2001)]
    made = aggregate(
        range(0, 2001 * 10, 10), prices, [1] * 2001, price_scale=0, size_scale=0, bars="1m+footprint:1+flow,1m",
        time_unit="ns",
    )  # fmt: skip
    featured, plain = made
    assert (featured.footprint, featured.point_of_control) == (None, None)
    assert featured.vwap_deviation is not None
    assert [getattr(featured, name) for name in BAR_FIELDS[4:]] == [getattr(plain, name) for name in BAR_FIELDS[4:]]
    whole = aggregate(
        range(0, 2000 * 10, 10), prices[:2000], [1] * 2000, price_scale=0, size_scale=0, bars="1m+footprint:1",
        time_unit="ns",
    )[0]  # fmt: skip
    assert len(whole.footprint or ()) == 2000
    check_sums(whole)
    buffer = BarBuffer("1m+footprint:1,1m", ids="contiguous")
    for number, price in enumerate([*prices, 5]):
        buffer.add("A", T0 + number, price, 1, 1, number)
    assert buffer.stats.footprints_lost == 1
    with pytest.raises(InvalidTickError):
        buffer.add("A", T0, -1, 1, 1, 9000)
    other = BarBuffer("1m+footprint:1,1m", ids="contiguous")
    other.load(buffer.dump(), continues=True)
    assert [bar.footprint for bar in other.flush_all()] == [None, None]
    assert other.stats.footprints_lost == 1


def test_arrow_has_what_is_inside_as_nested_lists() -> None:
    batch = aggregate(**some_trades(2000), bars="5s+flow+footprint:0.05,1m")
    table = pa.table(batch)
    assert table.column_names == [*BAR_FIELDS, "footprint", "point_of_control", *FEATURE_FIELDS[1:]]
    bars = batch.to_bars()
    for name in ("point_of_control", "delta", "delta_high", "delta_low"):
        assert table[name].to_pylist() == [getattr(bar, name) for bar in bars]
    levels = [
        None if bar.footprint is None else [dict(zip(level._fields, level, strict=True)) for level in bar.footprint]
        for bar in bars
    ]
    assert table["footprint"].to_pylist() == levels
    assert [None if value is None else float(value) for value in table["vwap_deviation"].to_pylist()] == pytest.approx(
        [None if bar.vwap_deviation is None else float(bar.vwap_deviation) for bar in bars]
    )
    assert batch.to_polars().filter(pl.col("spec") != "1m")["footprint"].list.len().min() >= 1
    assert "footprint" not in pa.table(aggregate(**some_trades(20), bars="1m")).column_names
    assert pa.table(aggregate([], [], [], bars="1m+footprint:1"))["footprint"].to_pylist() == []


def test_batches_of_parts_merge_to_the_batch_of_the_whole() -> None:
    trades = some_trades(4000)
    spec = "5s+flow+footprint:0.05"
    whole = aggregate(**trades, bars=spec)
    parts = [
        aggregate(
            **{name: value[part] if hasattr(value, "__len__") else value for name, value in trades.items()}, bars=spec
        )
        for part in (slice(0, 2111), slice(2111, 4000))
    ]

    def inside(bars: Any) -> dict[Any, Any]:
        return {(bar.symbol, bar.open_time): [getattr(bar, name) for name in FEATURE_FIELDS] for bar in bars}

    assert inside(parts[0].merge(parts[1])) == inside(parts[1].merge(parts[0])) == inside(whole)
    assert inside(BarBatch.from_bars(whole)) == inside(whole)
    assert BarBatch.from_bars(whole[:7]).to_bars() == whole[:7].to_bars() == whole.to_bars()[:7]
    assert pickle.loads(pickle.dumps(whole[5:9])).to_bars() == whole.to_bars()[5:9]
    kept = whole.merge(aggregate([10**12], ["1"], ["2"], symbol="S9", bars=spec, time_unit="ns"))
    assert inside(kept)["S9", kept[-1].open_time][1] == 0
    assert {**inside(kept), **inside(whole)} == inside(kept)


def test_bars_with_something_inside_come_back_from_the_delivery_log() -> None:
    for bar in aggregate(**some_trades(300), bars="5s+flow+footprint:0.05"):
        line = encoded(bar)
        assert decoded(orjson.loads(line)) == bar
    values = orjson.loads(line)
    values[-5] = [["1", "2", "3", "x"]]
    with pytest.raises(ValueError, match="footprint"):
        decoded(values)


@pytest.mark.parametrize("part", ["levels", "details", "details_of_records", "details0"])
def test_a_snapshot_with_damage_inside_is_refused(part: str) -> None:
    buffer = BarBuffer("5s+flow+footprint:0.05")
    trades = some_trades(200, symbols=2)
    buffer.add_batch(batch_of(buffer, trades))
    state = buffer.dump()
    content = np.frombuffer(state[part], np.uint8)
    refused = 0
    random = np.random.default_rng(3)
    for _ in range(60):
        damaged = content.copy()
        place = random.integers(0, len(damaged))
        damaged[place] ^= 1 << random.integers(0, 8)
        other = BarBuffer("5s+flow+footprint:0.05")
        try:
            other.load({**state, part: damaged.tobytes()}, continues=True)
        except ValueError:
            refused += 1
        else:  # a number that nothing contradicts, or memory that is not in use
            other.add_batch(batch_of(other, some_trades(50, symbols=2, seed=2)))
            other.flush_all()
    assert refused


def batch_of(buffer: BarBuffer, trades: dict[str, Any]) -> Any:
    batch = buffer.new_batch()
    for time, price, size, side, symbol in zip(
        trades["time_ns"], trades["price"], trades["size"], trades["side"], trades["symbol"], strict=True
    ):
        batch.append(symbol, int(time), D(int(price)).scaleb(-2), D(int(size)).scaleb(-5), int(side))
    return batch


def test_features_are_written_behind_any_spec() -> None:
    spec = BarSpec.parse("1d+17:00@America/New_York+footprint:0.50+flow")
    assert spec.features == ("flow", "footprint:0.5")
    assert str(spec) == "1d+17:00@America/New_York+flow+footprint:0.5"
    assert BarSpec.parse(str(spec)) == pickle.loads(pickle.dumps(spec)) == spec
    assert str(BarSpec.parse("tick:100+flow")) == "tick:100+flow"
    assert BarSpec.parse("1m").features == ()
    assert BarSpec.parse("1m+flow") != BarSpec.parse("1m")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1m+foo", "feature 'foo' is not known"), ("1m+footprint", "feature 'footprint'"),
        ("1m+footprint:0", "positive step"), ("1m+flow+flow", "given twice"), ("1m+flow:3", "'flow:3' is not known"),
        ("1m+footprint:1+footprint:2", "given twice"), ("1m+footprint:1.2.3", "feature 'footprint:1.2.3'"),
        ("1m+", "not known"),
    ],
)  # fmt: skip
def test_a_feature_that_there_is_not_is_an_error_that_says_so(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        BarSpec.parse(text)


@pytest.mark.parametrize("name", list(TAPES))
def test_footprints_of_recorded_trades_sum_to_their_bars(name: str, tapes: Path) -> None:
    path, exchange, market, _, _, count = TAPES[name]
    bars = list(fastbars.replay(tapes / path, exchange, "1m+footprint:0.5+flow,1m,tick:7+footprint:10", market=market))
    plain = {(bar.symbol, bar.open_time, bar.revision): bar for bar in bars if bar.spec == "1m"}
    traded = 0
    for bar in bars:
        if bar.spec == "1m":
            continue
        check_sums(bar)
        if bar.spec.startswith("1m"):
            same = plain[bar.symbol, bar.open_time, bar.revision]
            assert [getattr(bar, field) for field in BAR_FIELDS[4:]] == [
                getattr(same, field) for field in BAR_FIELDS[4:]
            ]
            traded += bar.trade_count or 0 if bar.revision == 0 else 0
    assert traded == count


async def test_footprints_of_a_stream_are_healed_and_equal_the_market() -> None:
    bars: dict[Any, OHLCVBar] = {}
    faults = Faults(1)
    async with SimulatedExchange("binance", symbols=1, rate=300, faults=faults, seed=3) as exchange:
        config = StreamConfig(reconnect_delay=0.3, reconnect_max_delay=0.6, rest_url=exchange.rest_url, grace=0.2)
        stream = fastbars.stream("binance", exchange.symbols, "1s+flow+footprint:0.5", url=exchange.url, config=config)
        async with stream as feed:

            async def read() -> None:
                async for bar in feed:
                    bars[bar.open_time] = bar

            reader = asyncio.create_task(read())
            await until(lambda: len(bars) >= 2)
            faults.inject(Fault(FaultKind.DROP_TRADE, count=3))
            exchange.abort_all()
            await until(lambda: len(bars) >= 6)
            await until(lambda: not feed.holes() and any(bar.status == "HEALED" for bar in bars.values()), 20)
            await until(lambda: not any(bar.status == "GAP" for bar in bars.values()))
        await reader
    proven = [bar for bar in bars.values() if bar.is_complete and bar.trade_count]
    assert len(proven) >= 3
    for bar in proven:
        check_sums(bar)
        first, last = bar.first_trade_id or 0, bar.last_trade_id or 0
        trades = [one for one in exchange.record.trades(bar.symbol) if first <= one.trade_id <= last]
        levels: dict[Decimal, Decimal] = {}
        for one in trades:
            levels[one.price // D("0.5") * D("0.5")] = levels.get(one.price // D("0.5") * D("0.5"), D(0)) + one.size
        assert {level.price: level.volume for level in bar.footprint or ()} == levels
        assert (bar.delta_high is None) <= (bar.status == "HEALED")


def test_a_refused_batch_leaves_what_is_inside_as_it_was() -> None:
    # A long batch is checked while it is folded in; of sums near the end of 128 bits each row is looked at.
    spec = "5s+flow+footprint:0.05,tick:7+footprint:1"
    trades = some_trades(30_000, symbols=1)
    for spoil in (
        {"size": np.where(np.arange(30_000) == 29_990, 0, trades["size"])},
        {"size": np.where(np.arange(30_000) > 20_000, 2**63 - 1, 1), "price": np.full(30_000, 2**62)},
    ):
        buffer, twin = BarBuffer(spec), BarBuffer(spec)
        for one in (buffer, twin):
            one.add_batch(batch_of(one, some_trades(20, symbols=1, seed=5)))
            one.instruments.add("S0", 2, 5)
        before = buffer.dump()
        columns = {name: trades[name] for name in ("time_ns", "price", "size", "side")} | spoil
        symbol_id = np.zeros(30_000, np.int32)
        with pytest.raises((InvalidTickError, PrecisionError)):
            buffer.add_batch(TickBatch.from_columns(buffer.instruments, symbol_id=symbol_id, **columns))
        after = buffer.dump()
        assert {name: part for name, part in after.items() if before[name] != part} == {}
        more = some_trades(300, symbols=1, seed=6)
        issued = [one.add_batch(batch_of(one, more)) + one.flush_all() for one in (buffer, twin)]
        assert issued[0] == issued[1]
        for bar in issued[0]:
            check_sums(bar)
