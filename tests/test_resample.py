"""Larger bars of smaller ones: the values are those of the trades, and the status is never better than the truth."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from examples import examples
from fastbars import BarBatch, BarStatus, OHLCVBar, PrecisionError, SpecError, aggregate, resample
from fastbars.bars import STATUSES
from fastbars.cli import main
from fastbars.cli.output import csv_line
from fastbars.columnar.lines import CSV_HEADER
from strategies import Scenario, buffer_for, replay, scenarios

LARGE = ("10s", "1m", "1h")
VALUES = (
    "exchange", "market", "open_time", "close_time", "open", "high", "low", "close", "volume", "quote_volume",
    "trade_count", "taker_buy_volume", "taker_buy_quote_volume", "first_trade_id", "last_trade_id",
)  # fmt: skip
NOT_PROVEN = (BarStatus.PARTIAL, BarStatus.GAP)

Key = tuple[str, str, datetime]


def latest(bars: Iterable[OHLCVBar]) -> dict[Key, OHLCVBar]:
    found: dict[Key, OHLCVBar] = {}
    for bar in bars:
        key = bar.symbol, bar.spec, bar.open_time
        if key not in found or found[key].revision < bar.revision:
            found[key] = bar
    return found


def values(bar: OHLCVBar) -> dict[str, Any]:
    return {name: getattr(bar, name) for name in VALUES}


@given(
    scenarios(specs=("1s",), ids=("contiguous", "none", "sequenced"), covers=True, lateness_s=(60, 10**6)),
    st.sampled_from(("skip", "fill")),
)
@settings(max_examples=examples(150))
def test_a_resampled_bar_is_never_better_than_the_truth(scenario: Scenario, empty: Any) -> None:
    # Bars that are let go stay as they were, though ids prove more later.
    scenario = scenario._replace(specs=("1s", *LARGE), empty=empty, heal_horizon_s=10**8)
    buffer = buffer_for(scenario)
    issued: list[OHLCVBar] = []
    buffer.on_bar = issued.append
    replay(buffer, scenario.events, scenario.cuts)
    truth = latest(issued)
    small = BarBatch.from_bars([bar for bar in issued if bar.spec == "1s"], instruments=buffer.instruments)
    for key, bar in latest(small.resample(LARGE)).items():
        # Of an interval without a bar nobody knows whether trades are missing in it: neither claims anything.
        if bar.status in NOT_PROVEN:
            continue
        if bar.trade_count == 0:  # nobody makes a bar of an interval only because its parts were proven empty
            continue
        true = truth[key]
        assert STATUSES.index(bar.status) >= STATUSES.index(true.status), (bar, true)
        assert values(bar) == values(true)


@given(st.data())
@settings(max_examples=examples(50))
def test_bars_of_trades_in_order_are_the_same_by_way_of_smaller_ones(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 60))
    steps = data.draw(st.lists(st.sampled_from((0, 1, 20, 61, 600, 4000, 90_000)), min_size=count, max_size=count))
    ids = data.draw(st.booleans())
    jumps = data.draw(st.lists(st.sampled_from((1,) * 9 + (2, 5)), min_size=count, max_size=count))
    start = data.draw(st.sampled_from((0, 1_743_200_000, 1_711_700_000, -86_400)))  # near changes of the clock
    rng = np.random.default_rng(count)
    columns: dict[str, Any] = {
        "time_ns": (start + np.cumsum(steps)) * 10**9,
        "price": [Decimal(int(price)).scaleb(-int(scale)) for price, scale in rng.integers(1, 9, (count, 2))],
        "size": [Decimal(int(size)).scaleb(-int(scale)) for size, scale in rng.integers(1, 9, (count, 2))],
        "side": rng.choice([1, -1, 0], count),
        "symbol": "S" if ids else [f"S{place}" for place in rng.integers(0, 3, count)],
        "trade_id": 7 + np.cumsum(jumps) if ids else None,
        "exchange": "x",
        "market": "y",
    }
    zoned = ("1d@America/New_York", "1d+17:00@Europe/Berlin", "1mo", "1w-07:00@America/New_York")
    specs = ["1h", "4h+01:00", data.draw(st.sampled_from(zoned))]
    small = aggregate(**columns, bars="1m", time_unit="ns")
    truth = latest(aggregate(**columns, bars=specs, time_unit="ns"))
    found = small.resample(specs)
    assert [bar.close_time for bar in found] == sorted(bar.close_time for bar in found)
    bars = latest(found)
    assert {key: values(bar) for key, bar in bars.items()} == {key: values(bar) for key, bar in truth.items()}
    for key, bar in bars.items():
        true = truth[key]
        assert STATUSES.index(bar.status) >= STATUSES.index(true.status)
        if ids:
            assert (bar.status, bar.missing_count) in ((true.status, true.missing_count), (true.status, None))
            assert bar.close_reason == true.close_reason
    # In two steps as in one.
    again = latest(small.resample("1h").resample(["1d@America/New_York"]))
    direct = latest(small.resample(["1d@America/New_York"]))
    assert {key: values(bar) for key, bar in again.items()} == {key: values(bar) for key, bar in direct.items()}


OPENED = datetime(2025, 3, 1, 10, tzinfo=UTC)
C, H, P, _, V, U, S, R, PART, G = STATUSES


def minute(place: int, status: BarStatus, first: int | None = None, last: int | None = None, **other: Any) -> OHLCVBar:
    opened = OPENED + timedelta(minutes=15 * place)
    price = Decimal(100 + place)
    fields: dict[str, Any] = {
        "open": price, "high": price + 1, "low": price - 1, "close": price + Decimal("0.5"), "volume": Decimal(2),
        "quote_volume": Decimal(200), "trade_count": 3, "taker_buy_volume": Decimal(1),
        "taker_buy_quote_volume": Decimal(100), "first_trade_id": first, "last_trade_id": last,
        "missing_count": 0 if status in (C, H, P) else 2 if status is G else None,
    }  # fmt: skip
    return OHLCVBar(
        "S", "15m", opened, opened + timedelta(minutes=15), status=status, exchange="x", market="y", **(fields | other)
    )


ROWS: list[tuple[str, list[tuple[int, BarStatus, int | None, int | None]], BarStatus]] = [
    # (what it shows, (quarter of the hour, status, first id, last id) of each part, status of the hour)
    ("every part is there", [(0, C, 1, 3), (1, C, 4, 6), (2, C, 7, 9), (3, C, 10, 12)], C),
    ("the worst wins", [(0, C, 1, 3), (1, H, 4, 6), (2, V, 7, 9), (3, C, 10, 12)], V),
    ("one lacks trades", [(0, C, 1, 3), (1, G, 4, 6), (2, C, 8, 9), (3, C, 10, 12)], G),
    ("ids show that nothing was traded", [(0, C, 1, 3), (2, C, 4, 6), (3, C, 7, 9)], C),
    ("ids show that trades are missing", [(0, C, 1, 3), (2, C, 6, 8), (3, C, 9, 9)], G),
    ("ids prove the beginning", [(-1, C, 1, 3), (2, C, 4, 6), (3, C, 7, 9)], C),
    ("ids prove the end", [(0, C, 1, 3), (1, C, 4, 6), (9, C, 7, 9)], C),
    ("nothing proves the beginning", [(1, C, 4, 6), (2, C, 7, 9), (3, C, 10, 12)], PART),
    ("nothing proves the end", [(0, C, 1, 3), (1, C, 4, 6)], PART),
    ("other trades lie before", [(-1, C, 1, 2), (1, C, 4, 6), (2, C, 7, 9), (3, C, 10, 12)], PART),
    ("void ids between neighbours", [(0, C, 1, 3), (1, C, 6, 6), (2, C, 7, 9), (3, C, 10, 12)], C),
    ("no ids, all are there", [(0, U, None, None), (1, U, None, None), (2, U, None, None), (3, U, None, None)], U),
    ("no ids, and one is not", [(0, U, None, None), (2, U, None, None), (3, U, None, None)], PART),
    ("sampled", [(0, S, None, None), (1, S, None, None), (2, S, None, None), (3, S, None, None)], S),
    ("a candle among them", [(0, C, 1, 3), (1, R, 4, 6), (2, C, 7, 9), (3, C, 10, 12)], R),
    ("a candle without ids", [(0, C, 1, 3), (1, R, None, None), (2, C, 7, 9), (3, C, 10, 12)], R),
    ("candles, and one is not there", [(0, R, None, None), (1, R, None, None), (3, R, None, None)], PART),
    ("a candle and a gap", [(0, R, None, None), (1, G, None, None), (2, C, 7, 9), (3, C, 10, 12)], G),
]  # fmt: skip


@pytest.mark.parametrize(("shows", "parts", "status"), ROWS, ids=[row[0] for row in ROWS])
def test_the_status_of_a_larger_bar(shows: str, parts: list[Any], status: BarStatus) -> None:
    bars = [minute(*part) for part in parts]
    found = {bar.open_time: bar for bar in BarBatch.from_bars(bars[::-1]).resample("1h")}
    hour = found[OPENED]
    inside = [bar for bar in bars if OPENED <= bar.open_time < OPENED + timedelta(hours=1)]
    assert hour.status is status
    assert hour.volume == 2 * len(inside)
    assert hour.trade_count == 3 * len(inside)
    assert (hour.open, hour.close) == (inside[0].open, inside[-1].close)
    assert (hour.first_trade_id, hour.last_trade_id) == (inside[0].first_trade_id, inside[-1].last_trade_id)
    assert hour.missing_count == (0 if status in (C, H, P) else 2 if shows == "one lacks trades" else None)


def test_what_a_candle_lacks_the_larger_bar_lacks() -> None:
    lacking: dict[str, Any] = {"quote_volume": None, "trade_count": None, "taker_buy_volume": None}
    bars = [minute(0, C, 1, 3), minute(1, R, **lacking), minute(2, C, 7, 9), minute(3, R)]
    (hour,) = BarBatch.from_bars(bars).resample("1h")
    assert (hour.status, hour.volume, hour.taker_buy_quote_volume) == (R, Decimal(8), Decimal(400))
    assert (hour.quote_volume, hour.trade_count, hour.taker_buy_volume) == (None, None, None)
    # Where trades are missing anyhow, the sums are of what is there.
    (hour,) = BarBatch.from_bars(bars[:3]).resample("1h")
    assert (hour.status, hour.quote_volume, hour.trade_count, hour.taker_buy_volume) == (
        PART,
        Decimal(400),
        7,
        Decimal(2),
    )
    assert (hour.high, hour.low) == (Decimal(103), Decimal(99))


def test_the_highest_revision_of_a_bar_counts() -> None:
    bars = [minute(place, C, 3 * place + 1, 3 * place + 3) for place in range(4)]
    stale = minute(1, V, 4, 4, revision=0, volume=Decimal(1), trade_count=1)
    revised = minute(1, H, 4, 6, revision=2)
    for given_bars in ([stale, *bars[:1], revised, *bars[2:]], [bars[0], revised, *bars[2:], stale]):
        (hour,) = BarBatch.from_bars(given_bars).resample("1h")
        assert (hour.status, hour.trade_count, hour.revision) == (H, 12, 2)


def test_an_hour_without_trades_has_no_prices_or_is_flat() -> None:
    nothing: dict[str, Any] = {
        "open": None, "high": None, "low": None, "close": None, "volume": Decimal(0), "quote_volume": Decimal(0),
        "trade_count": 0, "taker_buy_volume": Decimal(0), "taker_buy_quote_volume": Decimal(0),
    }  # fmt: skip
    (hour,) = BarBatch.from_bars([minute(place, G, **nothing) for place in range(4)]).resample("1h")
    assert (hour.status, hour.open, hour.volume, hour.first_trade_id) == (G, None, Decimal(0), None)
    flat = nothing | dict.fromkeys(("open", "high", "low", "close"), Decimal("7.25"))
    (hour,) = BarBatch.from_bars([minute(place, U, **flat) for place in range(4)]).resample("1h")
    assert (hour.status, hour.open, hour.high, hour.low, hour.close) == (U, *[Decimal("7.25")] * 4)
    (hour,) = BarBatch.from_bars([minute(0, U, **flat), *(minute(place, U) for place in (1, 2, 3))]).resample("1h")
    assert (hour.open, hour.high, hour.low) == (Decimal(101), Decimal(104), Decimal(100))


def test_the_longest_bars_that_fit_are_taken_symbol_by_symbol() -> None:
    quarters = [minute(place, C, 3 * place + 1, 3 * place + 3) for place in range(4)]
    half = replace(minute(0, C, 1, 3), symbol="T", spec="30m", close_time=OPENED + timedelta(minutes=30))
    found = BarBatch.from_bars([*quarters, half]).resample(["1h", "2h"])
    assert [(bar.symbol, bar.spec, bar.trade_count) for bar in found] == [
        ("S", "1h", 12), ("T", "1h", 3), ("S", "2h", 12), ("T", "2h", 3),
    ]  # fmt: skip
    same = BarBatch.from_bars(quarters).resample("15m")
    assert [values(bar) for bar in same] == [values(bar) for bar in quarters]
    assert [bar.status for bar in same] == [C] * 4


def test_what_does_not_make_up_larger_bars_is_refused() -> None:
    bars = BarBatch.from_bars([minute(0, C, 1, 3)])
    with pytest.raises(SpecError, match="x y S: no bars of 15m make up whole ones of 20m"):
        bars.resample("20m")
    with pytest.raises(SpecError, match=r"x y S: no bars of 15m make up whole ones of 1h\+00:10"):
        bars.resample("1h+00:10")
    with pytest.raises(SpecError, match="bars of tick:100 depend on the path of the trades: they are made of trades"):
        bars.resample("tick:100")
    path = aggregate([1, 2, 3], [1, 1, 1], [1, 1, 1], bars="tick:2")
    with pytest.raises(SpecError, match="bars of tick:2 depend on the path"):
        path.resample("1h")
    assert len(path[:0].resample("1h")) == 0
    odd = OHLCVBar("S", "15m", OPENED, OPENED + timedelta(minutes=16), None, None, None, None, Decimal(0))
    with pytest.raises(ValueError, match=r"S 15m: a bar from 2025-03-01T10:00.* covers no such interval"):
        BarBatch.from_bars([odd]).resample("1h")


def test_sums_that_do_not_fit_are_an_error_that_names_the_bar() -> None:
    largest = Decimal(2**126)
    bars = [minute(place, C, 3 * place + 1, 3 * place + 3, volume=largest) for place in range(4)]
    with pytest.raises(PrecisionError, match=r"x y S 1h, the bar with that of 2025-03-01T10:00:00: .*128 bits"):
        BarBatch.from_bars(bars).resample("1h")


def test_the_command_writes_what_the_method_makes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quarters = BarBatch.from_bars([minute(place, C, 3 * place + 1, 3 * place + 3) for place in range(-4, 12)])
    quarters.to_parquet(tmp_path / "quarters.parquet")
    expected = quarters.resample("1h,2h").to_bars()
    arguments = ["resample", str(tmp_path / "quarters.parquet"), "--bars", "1h,2h"]
    assert main([*arguments, "-o", str(tmp_path / "hours.parquet")]) == 0
    assert BarBatch.from_parquet(tmp_path / "hours.parquet").to_bars() == expected
    assert main([*arguments, "-o", str(tmp_path / "hours"), "--partition-by", "spec,symbol"]) == 0
    found = BarBatch.from_parquet(tmp_path / "hours", specs="2h")
    assert found.to_bars() == [bar for bar in expected if bar.spec == "2h"]
    assert main([*arguments, "--format", "csv"]) == 0
    assert capsys.readouterr().out.splitlines() == [CSV_HEADER, *map(csv_line, expected)]
    assert resample(tmp_path / "quarters.parquet", "1h,2h").to_bars() == expected
    assert resample(quarters.to_bars(), ["1h", "2h"]).to_bars() == expected
    for wrong, message in (
        (["--format", "parquet"], "--format parquet needs -o FILE"),
        (["--partition-by", "symbol"], "--partition-by needs -o FOLDER"),
        (["-o", str(tmp_path / "x.csv"), "--format", "table"], "--format table is for the terminal"),
        (["--market", "other", "-o", str(tmp_path / "x.xml")], "the suffix names no format"),
    ):
        assert main([*arguments, *wrong]) == 2
        assert message in capsys.readouterr().err
