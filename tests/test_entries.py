"""Every way in gives the same bars: `add`, `add_tick`, `add_batch` of rows and of columns, and `aggregate`."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import example, given, settings, strategies as st

from fastbars import BarBuffer, InvalidTickError, TickBatch, TickData, aggregate
from fastbars.bars import BarStatus, OHLCVBar
from fastbars.id_policy import IdPolicy, Ids

SECOND = 10**9
POLICIES: tuple[Ids, ...] = get_args(Ids)
SPECS = ["1s", "tick:4", "volume:5"]

# symbol, milliseconds since the one before, price, size, side, ids in the row, ids left out before it, count given
Row = tuple[str, int, str, str, int, int, int, int]
ROWS = st.lists(
    st.tuples(
        st.sampled_from("AB"), st.sampled_from((0, 1, 400, 1000)), st.sampled_from(("1", "2.5", "3")),
        st.sampled_from(("1", "0.25")), st.sampled_from((-1, 0, 1)), st.integers(1, 5), st.integers(0, 1),
        st.sampled_from((0, 0, 1, 2)),
    ),
    max_size=12,
)  # fmt: skip


def trades(rows: list[Row]) -> list[Any]:
    """(symbol, time_ns, price, size, side, first id, last id, count or 0) of each."""
    made, now, expected = [], 1_700_000_000 * SECOND, dict.fromkeys("AB", 1)
    for symbol, step_ms, price, size, side, ids, skipped, count in rows:
        now += step_ms * 1_000_000
        first = expected[symbol] + skipped
        expected[symbol] = first + ids
        made.append((symbol, now, price, size, side, first, first + ids - 1, count))
    return made


def add(buffer: BarBuffer, rows: list[Any]) -> list[OHLCVBar]:
    return [bar for row in rows for bar in buffer.add(*row)]


def add_tick(buffer: BarBuffer, rows: list[Any]) -> list[OHLCVBar]:
    ticks = [tick_of(*row) for row in rows]
    return [bar for tick in ticks for bar in buffer.add_tick(tick)]


def tick_of(symbol: str, time_ns: int, price: str, size: str, side: int, first: int, last: int, count: int) -> TickData:
    return TickData(symbol, time_ns, price, size, side, first, last, count or None, time_unit="ns")


def add_rows(buffer: BarBuffer, rows: list[Any]) -> list[OHLCVBar]:
    batch = buffer.new_batch()
    for row in rows:
        batch.append(*row)
    return buffer.add_batch(batch)


def add_columns(buffer: BarBuffer, rows: list[Any]) -> list[OHLCVBar]:
    columns = as_columns(rows)
    if not buffer.policy.numbered:
        columns["count"] = np.where(
            columns["count"] > 0, columns["count"], columns["last_id"] - columns["first_id"] + 1
        )
        del columns["first_id"], columns["last_id"]
    elif buffer.policy.counts_messages:
        columns["sequence"] = columns["first_id"]
    if "first_id" in columns and not columns["count"].any():
        del columns["count"]  # as many as ids
    elif "first_id" in columns:
        columns["count"] = np.where(
            columns["count"] > 0, columns["count"], columns["last_id"] - columns["first_id"] + 1
        )
    for symbol in dict.fromkeys(row[0] for row in rows):
        buffer.instruments.add(symbol, 1, 2)
    columns["symbol_id"] = np.array([buffer.instruments.id(row[0]) for row in rows], np.int32)
    return buffer.add_batch(TickBatch.from_columns(buffer.instruments, **columns, time_unit="ns"))


def counts_of(columns: dict[str, Any]) -> Any:
    return np.where(columns["count"] > 0, columns["count"], columns["last_id"] - columns["first_id"] + 1)


def as_columns(rows: list[Any]) -> dict[str, Any]:
    return {
        "time_ns": np.array([row[1] for row in rows], np.int64),
        "price": np.array([int(Decimal(row[2]) * 10) for row in rows], np.int64),
        "size": np.array([int(Decimal(row[3]) * 100) for row in rows], np.int64),
        "side": np.array([row[4] for row in rows], np.int8),
        "first_id": np.array([row[5] for row in rows], np.int64),
        "last_id": np.array([row[6] for row in rows], np.int64),
        "count": np.array([row[7] for row in rows], np.int64),
    }


@settings(max_examples=120)
@given(ROWS, st.sampled_from(POLICIES))
@example([("A", 0, "1", "1", 1, 5, 0, 0)], "none")
def test_every_entry_gives_the_same_bars_of_aggregated_trades(rows: list[Row], ids: Ids) -> None:
    given_rows = trades(rows)
    outcomes = []
    for entry in (add, add_tick, add_rows, add_columns):
        buffer = BarBuffer(SPECS, ids=ids)
        bars = entry(buffer, given_rows)
        outcomes.append((bars + buffer.flush_all(), buffer.stats))
    assert outcomes[1:] == outcomes[:-1]


@settings(max_examples=80)
@given(ROWS, st.booleans())
@example([("A", 0, "1", "1", 1, 5, 0, 0)], False)
def test_aggregate_gives_those_bars_too(rows: list[Row], numbered: bool) -> None:
    given_rows = trades(rows)
    columns = as_columns(given_rows)
    counts = counts_of(columns)
    ids: dict[str, Any] = {"trade_count": counts}
    if numbered:
        ids = {"trade_id": columns["first_id"], "last_trade_id": columns["last_id"]}
        ids |= {"trade_count": counts} if columns["count"].any() else {}
    made = aggregate(
        columns["time_ns"], [row[2] for row in given_rows], [row[3] for row in given_rows], bars=SPECS,
        symbol=[row[0] for row in given_rows], side=columns["side"], time_unit="ns", **ids,
    ).to_bars()  # fmt: skip
    buffer = BarBuffer(SPECS, ids="contiguous" if numbered else "none")
    bars = add(buffer, given_rows) + buffer.flush_all()

    def key(bar: OHLCVBar) -> tuple[Any, ...]:
        return (bar.symbol, bar.spec, bar.open_time, bar.close_time, bar.revision, bar.trade_count, str(bar))

    assert sorted(made, key=key) == sorted(bars, key=key)


@pytest.mark.parametrize("ids", POLICIES)
def test_an_aggregated_trade_counts_its_ids_by_every_entry(ids: Ids) -> None:
    row = ("A", 1, "1", "1", 1, 1, 5, 0)
    for entry in (add, add_tick, add_rows, add_columns):
        buffer = BarBuffer("1m", ids=ids)
        entry(buffer, [row])
        (bar,) = buffer.flush_all()
        shown = (1, 5) if buffer.policy.numbered else (None, None)
        assert (bar.trade_count, bar.taker_buy_volume, bar.first_trade_id, bar.last_trade_id) == (5, 1, *shown)


@pytest.mark.parametrize("entry", [add, add_rows])
@pytest.mark.parametrize("ids", POLICIES)
def test_ids_that_run_backwards_are_refused_by_every_entry(
    entry: Callable[[BarBuffer, list[Any]], list[OHLCVBar]], ids: Ids
) -> None:
    buffer = BarBuffer("1m", ids=ids)
    with pytest.raises(InvalidTickError):
        entry(buffer, [("A", 1, "1", "1", 1, 9, 5, 0)])
    assert buffer.flush_all() == []


def test_last_ids_without_first_ones_are_refused() -> None:
    with pytest.raises(TypeError, match="last_trade_id needs trade_id"):
        aggregate([0], [1], [1], last_trade_id=[5])


def test_sorted_aggregated_trades_keep_their_ids() -> None:
    made = aggregate([SECOND, 0], ["2", "1"], ["1", "1"], trade_id=[4, 1], last_trade_id=[9, 3], sort=True).to_bars()
    assert [(bar.trade_count, bar.first_trade_id, bar.last_trade_id) for bar in made] == [(9, 1, 9)]


# What a name stands for.


def test_what_each_name_of_ids_stands_for() -> None:
    known = [IdPolicy.of(name) for name in POLICIES]
    assert [(one.name, one.numbered, one.proves, one.deduplicates, one.counts_messages, one.best) for one in known] == [
        ("contiguous", True, True, True, False, BarStatus.COMPLETE),
        ("sequenced", True, False, True, True, BarStatus.UNVERIFIABLE),
        ("unique", False, False, True, False, BarStatus.UNVERIFIABLE),
        ("none", False, False, False, False, BarStatus.UNVERIFIABLE),
        ("sampled", False, False, False, False, BarStatus.SAMPLED),
    ]


def test_a_name_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="ids 'some' is not one of contiguous, sequenced, unique, none, sampled"):
        BarBuffer(ids="some")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="ids 5 is not one of"):
        BarBuffer(ids=5)  # type: ignore[arg-type]


@pytest.mark.parametrize("ids", POLICIES)
def test_a_bar_in_progress_shows_the_ids_and_the_status_that_a_closed_one_does(ids: Ids) -> None:
    buffer = BarBuffer("1m", ids=ids)
    buffer.add("A", 0, "1", "1", 1, 70)
    buffer.flush_all()
    assert buffer.current("A", "1m") is None
    closed = []
    for trade_id, second in ((71, 60), (72, 120), (73, 121)):
        closed += buffer.add("A", second * SECOND, "1", "1", 1, trade_id)
    shown = buffer.current("A", "1m")
    closed += buffer.add("A", 180 * SECOND, "1", "1", 1, 74)
    assert shown is not None
    assert (closed[-1].first_trade_id, closed[-1].last_trade_id) == (shown.first_trade_id, shown.last_trade_id)
    assert (shown.first_trade_id is None) == (not buffer.policy.numbered)
    assert closed[-1].status == buffer.policy.best
    assert shown.status == (buffer.policy.best if not buffer.policy.proves else BarStatus.PROVISIONAL)
