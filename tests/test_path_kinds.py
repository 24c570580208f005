"""The kinds of bars that end by their trades: range, renko, delta and cusum, against the oracle and by hand."""

from __future__ import annotations

import json
import pickle
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings, strategies as st

import fastbars
from examples import examples
from fastbars import BarBuffer, OHLCVBar
from fastbars.cli.output import csv_line, json_line
from fastbars.errors import PrecisionError
from fastbars.live.past.seam import Seam
from fastbars.live.reissues import EarlierBars
from fastbars.specs import parse_specs
from strategies import Scenario, buffer_for, expected, oracle_for, replay, scenarios

PAGE = Path(__file__).resolve().parents[1] / "docs" / "bar-kinds.md"
OF_PRICES = ("range:0.5", "range:300", "cusum:2.5", "cusum:20000", "renko:0.5", "renko:10", "renko:700.25")
KINDS = (*OF_PRICES, "renko:9000000000000000000", "cusum:0.000000000000000003", "delta:0.5", "delta:100")
BESIDE = ("tick:3", "volume:50", "5s", "1m")


@settings(max_examples=examples(200))
@given(st.booleans().flatmap(lambda negative: scenarios(KINDS + BESIDE, negative_prices=negative)), st.integers(0, 40))
def test_every_bar_equals_the_oracle_in_any_batches_and_with_a_snapshot_between(scenario: Scenario, cut: int) -> None:
    lines = expected(oracle_for(scenario), scenario.events)
    assert replay(buffer_for(scenario), scenario.events, scenario.cuts) == lines
    first = buffer_for(scenario)
    before = replay(first, scenario.events[:cut], scenario.cuts, flush=False)
    second = buffer_for(scenario._replace(contract_sizes=()))
    second.load(pickle.loads(pickle.dumps(first.dump())), continues=True)
    behind = frozenset(place - cut for place in scenario.cuts if place >= cut)
    assert before + replay(second, scenario.events[cut:], behind) == lines


def bars_of(spec: str, prices: list[str], sizes: list[str] | None = None, sides: list[int] | None = None) -> Any:
    columns: dict[str, Any] = {
        "price": prices,
        "size": sizes or ["1"] * len(prices),
        "side": sides or [0] * len(prices),
    }
    ids = list(range(1, len(prices) + 1))
    return fastbars.aggregate(ids, symbol="A", bars=spec, trade_id=ids, negative_prices=True, **columns)


def ended(spec: str, prices: list[str], sizes: list[str] | None = None, sides: list[int] | None = None) -> list[Any]:
    """Those that end by their trades."""
    return [bar for bar in bars_of(spec, prices, sizes, sides) if bar.close_reason == "trade"]


def prices_of(bar: OHLCVBar) -> tuple[Any, ...]:
    return bar.open, bar.high, bar.low, bar.close


def examples_of_the_page() -> dict[str, list[dict[str, str]]]:
    """Spec -> the rows of its table, by the names of the columns; that of what is said of a row is "ends"."""
    tables = re.findall(r"^`(\w+:[\d.]+)`, by hand:\n\n((?:\|.*\n)+)", PAGE.read_text(encoding="utf-8"), re.M)
    found = {}
    for spec, table in tables:
        head, _, *rows = [[cell.strip() for cell in line.strip("|").split(" |")] for line in table.splitlines()]
        found[spec] = [dict(zip([*head[:-1], "ends"], row, strict=True)) for row in rows]
    return found


@pytest.mark.parametrize("spec", ["range:5", "renko:10", "delta:5", "cusum:5"])
def test_the_example_that_the_page_works_out_by_hand_is_what_comes_out(spec: str) -> None:
    rows = examples_of_the_page()[spec]
    sides = [{"buy": 1, "sell": -1}.get(row.get("side", ""), 0) for row in rows]
    prices = [row.get("price", "100") for row in rows]
    bars = ended(spec, prices, [row.get("size", "1") for row in rows], sides)
    said = [(int(row["trade"]), number) for row in rows for number in re.findall(r"bar (\d+)", row["ends"])]
    assert [(str(n), bar.last_trade_id) for n, bar in enumerate(bars, 1) if bar.trade_count] == [
        (number, trade) for trade, number in said if bars[int(number) - 1].trade_count
    ]
    assert len(bars) == len(said) > 1


def test_the_values_of_the_examples_of_the_page() -> None:
    first, second = ended("range:5", ["100", "103", "98", "99", "112"])
    assert prices_of(first) == (100, 103, 98, 98)
    assert prices_of(second) == (99, 112, 99, 112)
    one, two, three = ended("renko:10", ["103", "119", "121", "101", "88"], ["1", "1", "2", "1", "3"])
    assert (*prices_of(one), one.volume) == (110, 121, 103, 120, 4)
    assert (*prices_of(two), two.volume) == (110, 110, 88, 100, 4)
    assert (*prices_of(three), three.volume, three.trade_count) == (100, 100, 90, 90, 0, 0)
    one, two = ended("delta:5", ["100"] * 5, ["3", "1", "9", "4", "5"], [1, -1, 0, 1, -1])
    assert (one.volume, one.taker_buy_volume, two.volume, two.taker_buy_volume) == (17, 7, 5, 0)


def test_a_brick_that_follows_has_no_trades_and_says_so_in_every_form(tmp_path: Path) -> None:
    batch = bars_of("renko:10", ["105", "141.5"], ["1", "2"])
    bars = list(batch)
    assert [prices_of(bar) for bar in bars] == [
        (110, Decimal("141.5"), 105, 120),
        (120, 130, 120, 130),
        (130, 140, 130, 140),
    ]
    assert [(bar.volume, bar.trade_count, bar.quote_volume) for bar in bars] == [(3, 2, 388), (0, 0, 0), (0, 0, 0)]
    for bar in bars[1:]:
        assert (bar.first_trade_id, bar.last_trade_id, bar.first_trade_time, bar.last_trade_time) == (None,) * 4
        assert (bar.largest_trade, bar.vwap, bar.buy_count, bar.close_reason) == (None, None, 0, "trade")
        assert bar.open_time == bar.close_time == bars[0].close_time
        assert bar.status == "COMPLETE"
        assert json.loads(json_line(bar))["trade_count"] == 0
        assert f",{bar.open},{bar.high},{bar.low},{bar.close},0," in csv_line(bar)
    table = pa.table(batch)
    assert table["trade_count"].to_pylist() == [2, 0, 0]
    assert table["close"].to_pylist() == [120, 130, 140]
    assert table["last_trade_id"].to_pylist() == [2, None, None]
    batch.to_parquet(tmp_path / "bars.parquet")
    assert list(fastbars.BarBatch.from_parquet(tmp_path / "bars.parquet")) == bars
    assert list(fastbars.BarBatch.from_bars(bars)) == bars


def test_a_move_of_more_than_100_bricks_is_one_bar_and_the_next_brick_begins_where_it_ends() -> None:
    up = ended("renko:1", ["0", "100"])
    assert [bar.trade_count for bar in up] == [2] + [0] * 99
    assert [(bar.open, bar.close) for bar in up] == [(n, n + 1) for n in range(100)]
    further, down, back = ended("renko:1", ["0", "101.5", "-1000000", "-999998"])
    assert (prices_of(further), further.trade_count) == ((0, Decimal("101.5"), 0, 101), 2)
    assert prices_of(down) == (100, 100, -1000000, -1000000)
    assert prices_of(back) == (-999999, -999998, -999999, -999998)


def test_the_farthest_move_there_is_over_the_smallest_bricks_is_one_bar() -> None:
    highest = str(2**63 - 1)
    for start, end in ((highest, f"-{highest}"), (f"-{highest}", highest)):
        (bar,) = ended("renko:1", [start, end])
        assert (bar.open, bar.close) == (Decimal(start), Decimal(end))
        assert ended("cusum:1", [start, end])[0].trade_count == 2
        assert ended("range:1", [start, end])[0].trade_count == 2
    # Ends of a brick that 64 bits do not hold are never reached, in either direction.
    for price in (highest, f"-{highest}", "0", "1"):
        assert ended("renko:9223372036854775000", [price, price]) == []


def test_a_price_on_the_grid_is_both_lines_around_it_also_below_zero() -> None:
    assert [(bar.open, bar.close) for bar in ended("renko:10", ["100", "90"])] == [(100, 90)]
    assert [(bar.open, bar.close) for bar in ended("renko:10", ["100", "110"])] == [(100, 110)]
    assert [(bar.open, bar.close) for bar in ended("renko:10", ["-95", "-80.0", "-79.9", "-99.9", "-100"])] == [
        (-90, -80),
        (-90, -100),
    ]


def test_bricks_have_the_decimals_of_their_step_where_prices_have_fewer() -> None:
    batch = ended("renko:0.25", ["1", "2"])
    assert [(bar.open, bar.close) for bar in batch] == [
        (Decimal(1 + n * Decimal("0.25")), 1 + (n + 1) * Decimal("0.25")) for n in range(4)
    ]
    buffer = BarBuffer("renko:0.000000000000000001", ids="contiguous")
    buffer.add("A", 0, "9", 1, trade_id=1)
    with pytest.raises(PrecisionError, match=r"A: price .* 18 decimals"):
        buffer.add("A", 0, "10", 1, trade_id=2)
    assert buffer.add("A", 0, "9.000000000000000001", 1, trade_id=2)[0].close == Decimal("9.000000000000000001")


@pytest.mark.parametrize("spec", ["cusum:5", "renko:5"])
def test_a_scale_with_which_what_a_rule_remembers_does_not_fit_is_refused_and_changes_nothing(spec: str) -> None:
    buffer = BarBuffer(spec, ids="contiguous", negative_prices=True)
    prices = ["9000000000000000000", "8000000000000000000"]
    issued = [bar for n, price in enumerate(prices) for bar in buffer.add("A", n, price, 1, trade_id=n)]
    assert len(issued) == 1
    with pytest.raises(PrecisionError, match="A"):
        buffer.add("A", 2, "1.5", 1, trade_id=2)
    (bar,) = buffer.add("A", 2, "1", 1, trade_id=2)
    assert bar.trade_count == bar.low == 1


def test_trades_of_unknown_side_never_end_a_delta_bar() -> None:
    assert ended("delta:1", ["1"] * 4, ["5"] * 4) == []


def test_a_delta_begins_anew_with_each_bar_also_after_a_flush() -> None:
    buffer = BarBuffer("delta:5", ids="contiguous")
    assert buffer.add("A", 0, 1, 4, "buy", trade_id=1) == []
    assert [bar.close_reason for bar in buffer.flush_all()] == ["end"]
    assert buffer.add("A", 1, 1, 4, "buy", trade_id=2) == []
    assert [bar.volume for bar in buffer.add("A", 2, 1, 1, "buy", trade_id=3)] == [5]


STATES = {
    "delta:5": [np.array([2, 0], np.uint64), np.array([2**64 - 1, 2**64 - 1], np.uint64)],
    "cusum:5": [np.array([3, 2, 1]), np.array([-(2**63), 2, 1]), np.array([0, 0, 2]), np.array([2, 3, 1])],
    "renko:5": [np.array([3, 2, 1]), np.array([-(2**63), 2, 1]), np.array([0, 0, 2]), np.array([1, 0, 0])],
}


@pytest.mark.parametrize(("spec", "state"), [(spec, state) for spec, states in STATES.items() for state in states])
def test_a_state_that_no_trades_can_have_left_is_refused(spec: str, state: Any) -> None:
    buffer = BarBuffer(spec, ids="contiguous")
    buffer.add("A", 0, 1, 1, "buy", trade_id=1)
    dumped = buffer.dump()
    assert len(dumped["states0"]) == len(state.tobytes())
    BarBuffer(spec, ids="contiguous").load(dict(dumped))
    dumped["states0"] = state.tobytes()
    with pytest.raises(ValueError, match=f"state of A {spec} is not one of its rule"):
        BarBuffer(spec, ids="contiguous").load(dumped)


@pytest.mark.parametrize("spec", KINDS)
def test_any_state_that_is_loaded_does_no_harm(spec: str) -> None:
    buffer = BarBuffer(spec, ids="contiguous", negative_prices=True)
    buffer.add("A", 0, 1, 1, "buy", trade_id=1)
    dumped = buffer.dump()
    loaded = 0
    extremes = np.array([0, 1, -1, 2**63 - 1, -(2**63) + 1])
    for one in extremes:
        for other in extremes:
            state = np.array([one, other, 1] if len(dumped["states0"]) > 16 else [one, other])
            buffer = BarBuffer(spec, ids="contiguous", negative_prices=True)
            try:
                buffer.load(dumped | {"states0": state.tobytes()[: len(dumped["states0"])]})
            except ValueError:
                continue
            loaded += 1
            for number, price in enumerate([9 * 10**16, -9 * 10**16, 0, 3]):
                assert len(buffer.add("A", 1, price, 1, "sell", trade_id=2 + number)) <= 100
    assert loaded


@pytest.mark.parametrize("spec", ["range:5", "renko:5", "delta:5", "cusum:5"])
def test_a_batch_that_is_refused_leaves_the_state_as_it_was(spec: str) -> None:
    buffer = BarBuffer(spec, ids="contiguous")
    batch = buffer.new_batch()
    for number, price in enumerate((100, 104)):
        batch.append("A", number, price, 2, 1, number, number)
    assert buffer.add_batch(batch) == []
    before = buffer.dump()
    batch.clear()
    batch.append("A", 2, 150, 2, 1, 2, 2)
    for number in range(3, 7):
        batch.append("A", number, 9 * 10**18, 9 * 10**18, 0, number, number)
    with pytest.raises(PrecisionError):
        buffer.add_batch(batch)
    assert buffer.dump()["states0"] == before["states0"]
    closing = {"range:5": 105, "renko:5": 105, "delta:5": 104, "cusum:5": 105}[spec]
    assert [bar.trade_count for bar in buffer.add("A", 2, closing, 1, "buy", trade_id=2)] == [3]


def test_bricks_of_one_trade_are_told_apart_by_whoever_keeps_bars() -> None:
    specs = parse_specs(["renko:10"])
    bars = ended("renko:10", ["105", "141", "149", "88"])
    assert [bar.trade_count for bar in bars] == [2, 0, 0, 2, 0, 0, 0]
    seam = Seam(EarlierBars(("", ""), specs, 60.0), ["renko:10"])
    seam.open(("A", "renko:10"), 0)
    assert seam.hold(bars) == []
    assert seam.join(("A", "renko:10")) == bars
    earlier = EarlierBars(("", ""), specs, 60.0)
    for bar in bars:
        earlier.add(bar)
    assert len(earlier) == len(bars)
    assert [earlier.judge(bar) for bar in bars] == [None] * len(bars)


@pytest.mark.parametrize("ids", [True, False])
def test_archives_give_the_bricks_that_one_batch_gives(tmp_path: Path, ids: bool) -> None:
    prices = [str(100 + (n * n * 7) % 63) for n in range(400)]
    times = [(1_700_000_000_000 + n // 3) * 1_000_000 for n in range(400)]
    columns = {"price": "price", "size": "size", "time": "time"} | ({"id": "number"} if ids else {})
    for part in (0, 1):
        rows = [f"{n},{prices[n]},1,{times[n]}" for n in range(200 * part, 200 * (part + 1))]
        text = "\n".join(["number,price,size,time", *rows, ""])
        (tmp_path / f"trades-{part}.csv").write_text(text, encoding="utf-8")
    files = [tmp_path / f"trades-{part}.csv" for part in (0, 1)]
    fastbars.archives.build(files, "renko:10", tmp_path / "bars.parquet", columns=columns, symbol="A", time_unit="ns")
    bars = list(fastbars.BarBatch.from_parquet(tmp_path / "bars.parquet"))
    batch = fastbars.aggregate(
        times, prices, ["1"] * 400, symbol="A", bars="renko:10", trade_id=range(400) if ids else None
    )
    assert sum(bar.trade_count == 0 for bar in batch) > 100
    assert [(bar.open_time, *prices_of(bar), bar.volume) for bar in bars] == [
        (bar.open_time, *prices_of(bar), bar.volume) for bar in batch
    ]
