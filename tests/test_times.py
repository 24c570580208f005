"""Times as people hand them in: every kind and byte order, to the nanosecond, the same at every entry."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, strategies as st

from fastbars import BarBuffer, Instruments, InvalidTickError, TickBatch, TickData, aggregate
from fastbars.ticks import to_nanoseconds
from fastbars.times import LARGEST_DOUBTFUL, SMALLEST_DOUBTFUL, check_units

NS = 1_735_689_600_123_456_789
EXACT_MS = NS // 10**6 * 10**6
NEW_YORK = timezone(timedelta(hours=-5))
ENTRIES: dict[str, Callable[[Any], int]] = {}


def entry(function: Callable[[Any], int]) -> Callable[[Any], int]:
    ENTRIES[function.__name__] = function
    return function


@entry
def scalar(time: Any) -> int:
    return to_nanoseconds(time)


@entry
def tick(time: Any) -> int:
    return TickData("X", time, "1", "1").time_ns


@entry
def add(time: Any) -> int:
    buffer = BarBuffer("tick:1")
    (bar,) = buffer.add("X", time, "1", "1")
    times = buffer.trade_times_ns
    assert bar.open_time == bar.close_time
    return int(times[0])


@entry
def append(time: Any) -> int:
    batch = TickBatch(Instruments(), ids=False)
    batch.append("X", time, "1", "1")
    column = batch.column("time_ns")
    assert column is not None
    return int(column[0])


@entry
def column(time: Any) -> int:
    rows = aggregate([time], ["1"], ["1"], bars="tick:1").rows
    return int(rows["open_time"][0])


@entry
def columns(time: Any) -> int:
    instruments = Instruments()
    instruments.add("X")
    batch = TickBatch.from_columns(instruments, time_ns=[time], symbol_id=[0], price=[1], size=[1])
    made = batch.column("time_ns")
    assert made is not None
    return int(made[0])


entries = pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
AWARE = datetime(2025, 1, 1, 0, 0, 0, 123_456, tzinfo=UTC)
TIMES: dict[str, tuple[Any, int]] = {
    "int": (NS, NS),
    "numpy int64": (np.int64(NS), NS),
    "numpy uint64": (np.uint64(NS), NS),
    "datetime": (AWARE, NS // 1000 * 1000),
    "datetime elsewhere": (AWARE.astimezone(NEW_YORK), NS // 1000 * 1000),
    "pandas": (pd.Timestamp(NS, tz="UTC"), NS),
    "pandas in New York": (pd.Timestamp(NS, tz="UTC").tz_convert("America/New_York"), NS),
    "pandas of ms": (pd.Timestamp(NS, tz="UTC").as_unit("ms"), EXACT_MS),
    "numpy ns": (np.datetime64(NS, "ns"), NS),
    "numpy us": (np.datetime64(NS // 1000, "us"), NS // 1000 * 1000),
    "numpy ms": (np.datetime64(EXACT_MS // 10**6, "ms"), EXACT_MS),
    "numpy s": (np.datetime64(NS // 10**9, "s"), NS // 10**9 * 10**9),
    "numpy days": (np.datetime64("2025-01-01", "D"), 1_735_689_600 * 10**9),
    "numpy 10 ms": (np.datetime64(EXACT_MS // 10**7, ("ms", 10)), EXACT_MS // 10**7 * 10**7),
    "before 1970": (datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), -1000),
}


@entries
@pytest.mark.parametrize(("time", "expected"), TIMES.values(), ids=TIMES)
def test_a_time_is_the_same_nanosecond_at_every_entry(entry: Callable[[Any], int], time: Any, expected: int) -> None:
    assert entry(time) == expected


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
def test_arrow_timestamps_are_times_alone_and_in_columns(unit: str, zone: str | None) -> None:
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    array = pa.array([1_735_689_600 * per_second], pa.timestamp(unit, zone))
    expected = 1_735_689_600 * 10**9
    assert to_nanoseconds(array[0]) == TickData("X", array[0], "1", "1").time_ns == expected
    assert aggregate(array, ["1"], ["1"]).rows["open_time"].tolist() == [expected]
    with pytest.raises(InvalidTickError, match="time is null"):
        to_nanoseconds(pa.scalar(None, pa.timestamp(unit, zone)))


@entries
@pytest.mark.parametrize(
    ("time", "error", "message"),
    [
        (datetime(2025, 1, 1), InvalidTickError, "has no time zone; times are aware"),  # noqa: DTZ001
        (pd.NaT, InvalidTickError, "NaT"),
        (np.datetime64("NaT", "ns"), InvalidTickError, "NaT"),
        (np.datetime64(5, "ps"), InvalidTickError, "the unit is ns, us, ms, s, m, h or D"),
        (np.datetime64("2025-01", "M"), InvalidTickError, "the unit is ns, us, ms, s, m, h or D"),
        (1_735_689_600, InvalidTickError, "looks like seconds (2025-01-01 00:00:00+00:00); pass time_unit='s'"),
        (1_735_689_600_000, InvalidTickError, "looks like milliseconds (2025-01-01 00:00:00+00:00)"),
        (1_735_689_600_000_000, InvalidTickError, "looks like microseconds (2025-01-01 00:00:00+00:00); pass"),
        (np.int64(1_735_689_600_123), InvalidTickError, "looks like milliseconds"),
    ],
)  # fmt: skip
def test_what_is_no_certain_time_is_refused_at_every_entry(
    entry: Callable[[Any], int], time: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        entry(time)


@pytest.mark.parametrize("name", [name for name in ENTRIES if name not in ("column", "columns")])
@pytest.mark.parametrize(
    ("time", "message"),
    [
        ("2025-01-01T00:00:00Z", "is text: datetime.fromisoformat reads it"),
        (b"2025", "is text"),
        (1735689600.5, "is a float, which has lost digits"),
        (np.float64(1.5), "is a float"),
        (date(2025, 1, 1), "is a date"),
        (Decimal("1735689600.5"), "is Decimal"),
        (True, "is bool"),
        (np.bool_(True), "is bool"),
        (None, "is NoneType"),
        (timedelta(1), "is timedelta"),
        (np.timedelta64(1, "s"), "is timedelta64"),
        ("x" * 10_000, "'xxx"),
    ],
)
def test_what_is_no_time_is_a_type_error_that_says_what_a_time_is(name: str, time: Any, message: str) -> None:
    with pytest.raises(TypeError, match="a time is an aware datetime, a datetime64, or an integer") as raised:
        ENTRIES[name](time)
    assert message in str(raised.value)
    assert len(str(raised.value)) < 250


@pytest.mark.parametrize("unit", ["ns", "us", "ms", "s"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_datetimes_of_either_byte_order_are_the_same_times(unit: str, order: str) -> None:
    times = np.array(["2025-01-01T00:00:00", "2025-01-01T00:01:01"], f"{order}M8[{unit}]")
    expected = [1_735_689_600 * 10**9, 1_735_689_660 * 10**9]
    assert aggregate(times, ["1", "2"], ["1", "1"]).rows["open_time"].tolist() == expected
    assert aggregate(times[::-1], ["1", "2"], ["1", "1"], sort=True).rows["open_time"].tolist() == expected
    integers = times.astype("M8[ns]").view(np.int64).astype(f"{order}i8")
    assert aggregate(integers, ["1", "2"], ["1", "1"]).rows["open_time"].tolist() == expected
    instruments = Instruments()
    instruments.add("X")
    batch = TickBatch.from_columns(instruments, time_ns=times, symbol_id=[0, 0], price=[1, 2], size=[1, 1])
    made = batch.column("time_ns")
    assert made is not None
    assert made.tolist() == [1_735_689_600 * 10**9, 1_735_689_661 * 10**9]


INDEX = pd.DatetimeIndex(["2025-01-01 00:00:00", "2025-01-01 00:00:30.000000001", "2025-01-01 00:01:00"])
COLUMNS: dict[str, Any] = {
    "index": INDEX,
    "UTC index": INDEX.tz_localize("UTC"),
    "New York index": INDEX.tz_localize("UTC").tz_convert("America/New_York"),
    "New York series": INDEX.tz_localize("UTC").tz_convert("America/New_York").to_series(),
    "list of Timestamps": list(INDEX.tz_localize("UTC")),
    "array of objects": np.array(list(INDEX.tz_localize("UTC")), object),
    "series of objects": pd.Series(list(INDEX.tz_localize("UTC")), dtype=object),
    "arrow series": pd.Series(INDEX.tz_localize("UTC"), dtype=pd.ArrowDtype(pa.timestamp("ns", "UTC"))),
    "arrow index": pd.Index(INDEX.tz_localize("UTC"), dtype=pd.ArrowDtype(pa.timestamp("ns", "UTC"))),
    "list of datetime64": list(INDEX.to_numpy()),
    "mixed datetime64": [np.datetime64("2025-01-01", "D"), *INDEX.to_numpy()[1:]],
    "polars": pl.Series(INDEX.to_numpy()),
    "arrow dictionary": pa.array(INDEX).dictionary_encode(),
    "tuple of integers": tuple(INDEX.as_unit("ns").asi8.tolist()),
}


@pytest.mark.parametrize("times", COLUMNS.values(), ids=COLUMNS)
def test_columns_of_times_of_every_kind_keep_their_nanoseconds(times: Any) -> None:
    made = aggregate(times, ["1", "2", "3"], ["1", "1", "1"], bars="tick:1").rows["open_time"]
    assert made.tolist() == INDEX.as_unit("ns").asi8.tolist()


def test_a_zoned_column_of_coarse_unit_is_read_without_a_detour() -> None:
    index = pd.DatetimeIndex(["2025-01-01", "2900-01-01"]).as_unit("s").tz_localize("Europe/Berlin")
    assert aggregate(index[:1], ["1"], ["1"]).rows["open_time"].tolist() == [1_735_686_000 * 10**9]
    with pytest.raises(InvalidTickError, match=r"row 1: time_ns .* is beyond 64 bits") as raised:
        aggregate(index, ["1", "1"], ["1", "1"])
    assert raised.value.row == 1


@pytest.mark.parametrize(
    "times",
    [
        [AWARE, AWARE, datetime(2025, 1, 1)],  # noqa: DTZ001
        [AWARE, AWARE, None],
        [AWARE, AWARE, pd.NaT],
        [AWARE, AWARE, "2025-01-01"],
        [NS, AWARE, 1.5],
        [NS, NS, 1_735_689_600_123],
        np.array([NS, NS, np.iinfo(np.int64).min]).astype("M8[ns]"),
        np.array([NS, NS, np.iinfo(np.int64).min]).astype(">M8[ns]"),
        pd.DatetimeIndex([AWARE, AWARE, pd.NaT]),
        pd.Series([AWARE, AWARE, pd.NaT]),
        pa.array([AWARE, AWARE, None], pa.timestamp("us", "UTC")),
        pl.Series([AWARE, AWARE, None]),
    ],
)
def test_the_row_of_a_time_that_is_none_is_named(times: Any) -> None:
    with pytest.raises((InvalidTickError, TypeError), match=r"^row 2: time_ns"):
        aggregate(times, ["1"] * 3, ["1"] * 3, sort=True)


@pytest.mark.parametrize(("unit", "per_second"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
def test_integers_count_what_time_unit_says(unit: Any, per_second: int) -> None:
    times = [1_735_689_600 * per_second, 1_735_689_660 * per_second]
    expected = [1_735_689_600 * 10**9, 1_735_689_660 * 10**9]
    two = ["1", "2"]
    for times_given in (
        times,
        np.array(times),
        np.array(times, ">u8"),
        pl.Series(times),
        pa.array(times),
        pd.Series(times),
    ):
        assert aggregate(times_given, two, two, time_unit=unit).rows["open_time"].tolist() == expected
    assert TickData("X", times[0], "1", "1", time_unit=unit).time_ns == expected[0]
    batch = TickBatch(Instruments(), ids=False)
    batch.append("X", times[0], "1", "1", time_unit=unit)
    made = batch.column("time_ns")
    assert made is not None
    assert made.tolist() == expected[:1]
    instruments = Instruments()
    instruments.add("X")
    wrapped = TickBatch.from_columns(
        instruments, time_ns=times, symbol_id=[0, 0], price=[1, 2], size=[1, 1], time_unit=unit
    ).column("time_ns")
    assert wrapped is not None
    assert wrapped.tolist() == expected


def test_a_unit_that_is_none_and_one_that_overflows_are_refused() -> None:
    for call in (
        lambda: aggregate([1], ["1"], ["1"], time_unit="minutes"),  # type: ignore[arg-type]
        lambda: TickData("X", 1, "1", "1", time_unit="minutes"),  # type: ignore[arg-type]
        lambda: TickBatch(Instruments(), ids=False).append("X", 1, "1", "1", time_unit="minutes"),  # type: ignore[arg-type]
    ):
        with pytest.raises(ValueError, match="time_unit 'minutes' is not one of s, ms, us, ns"):
            call()
    with pytest.raises(InvalidTickError, match="row 1: time_ns 1735689600000 is beyond 64 bits") as raised:
        aggregate([1_735_689_600, 1_735_689_600_000], ["1", "1"], ["1", "1"], time_unit="s")
    assert raised.value.row == 1


def test_a_time_given_as_nanoseconds_on_purpose_is_never_doubted() -> None:
    doubtful = 1_735_689_600_123
    tick = TickData("X", doubtful, "1", "1", time_unit="ns")
    buffer = BarBuffer("1m")
    buffer.add_tick(tick)
    assert [bar.open_time.minute for bar in buffer.flush_all()] == [28]
    assert aggregate([doubtful], ["1"], ["1"], time_unit="ns")[0].open_time.minute == 28


DAY_MS = 1_735_689_600_000 + np.arange(5) * 86_400_000


@pytest.mark.parametrize(
    ("times", "row", "message"),
    [
        (DAY_MS, 0, "looks like milliseconds (2025-01-01"),
        (DAY_MS // 1000, 0, "looks like seconds (2025-01-01"),
        (DAY_MS * 1000, 0, "looks like microseconds (2025-01-01"),
        # Binance's archives changed from ms to us with 2025: two files one behind the other.
        (np.array([1_735_689_599_999, 1_735_689_600_000_000]), 0, "looks like milliseconds (2024-12-31"),
        (np.array([1_735_689_599_999, NS]), 0, "looks like milliseconds (2024-12-31"),
        (np.array([1_735_000_000_000, 1_735_689_600_001]), 1, "looks like milliseconds (2025-01-01"),
    ],
)
def test_a_column_of_another_unit_is_refused_by_its_first_row(times: Any, row: int, message: str) -> None:
    for times_given in (
        times,
        times.tolist(),
        times.astype(">i8"),
        pl.Series(times),
        pa.array(times),
        pd.Series(times),
    ):
        with pytest.raises(InvalidTickError, match=re.escape(message)) as raised:
            aggregate(times_given, ["1"] * len(times), ["1"] * len(times))
        assert raised.value.row == row
        assert "pass time_unit=" in str(raised.value)


@pytest.mark.parametrize(
    "times",
    [
        [0, 1, 2],
        [1_000_000_000, 2_000_000_000],
        [0, 1_735_689_600_123],
        [60_000_000_000, 1_735_689_600_000],
        list(range(0, 3_600 * 10**9, 10**9 // 7)),
        [1_200_000_000_000, 1_800_000_000_000],
        [20 * 86_400 * 10**9, 21 * 86_400 * 10**9],
        [-5, 1_735_689_601],
        [NS, NS + 1],
        [4_200_000_000_000_001],
    ],
)
def test_a_column_that_can_be_nanoseconds_alone_is_taken(times: list[int]) -> None:
    made = aggregate(times, np.ones(len(times), int), np.ones(len(times), int), bars="tick:1")
    assert made.rows["open_time"].tolist() == times


@given(st.datetimes(datetime(1990, 1, 2), datetime(2099, 12, 31)), st.sampled_from([(1, 6), (10**3, 6), (10**6, 9)]))  # noqa: DTZ001
def test_any_time_since_1990_in_another_unit_is_doubted(moment: datetime, unit: tuple[int, int]) -> None:
    per_second, digits = unit
    value = int(moment.replace(tzinfo=UTC).timestamp() * 10**6) * per_second // 10**6
    if value % 10**digits:
        with pytest.raises(InvalidTickError, match="looks like"):
            to_nanoseconds(value)
        with pytest.raises(InvalidTickError, match=r"row 0: time_ns .* looks like"):
            check_units(np.array([value, value + 1]))


@entries
def test_every_entry_doubts_the_same_range(entry: Callable[[Any], int]) -> None:
    for doubtful in (SMALLEST_DOUBTFUL, LARGEST_DOUBTFUL - 1):
        with pytest.raises(InvalidTickError, match="looks like"):
            entry(doubtful)
    for certain in (SMALLEST_DOUBTFUL - 1, LARGEST_DOUBTFUL + 1):
        assert entry(certain) == certain


# Sides.


@pytest.mark.parametrize(
    ("side", "sign"),
    [
        (True, 1), (False, -1), (np.bool_(True), 1), (np.bool_(False), -1), (1, 1), (-1, -1), (0, 0), (np.int8(-1), -1),
        ("buy", 1), ("sell", -1), ("unknown", 0), ("Buy", 1), ("SELL", -1),
    ],
)  # fmt: skip
def test_a_side_is_the_takers_at_every_entry(side: Any, sign: int) -> None:
    assert TickData("X", 0, "1", "1", side).side.sign == sign
    buffer = BarBuffer("1m")
    buffer.add("X", 0, "1", "2", side)
    bought = 2 if sign == 1 else 0
    assert [bar.taker_buy_volume for bar in buffer.flush_all()] == [bought]
    batch = TickBatch(Instruments(), ids=False)
    batch.append("X", 0, "1", "1", side)
    made = batch.column("side")
    assert made is not None
    assert made.tolist() == [sign]
    for sides in ([side], np.array([side], object), pa.array([side.item() if isinstance(side, np.generic) else side])):
        assert [bar.taker_buy_volume for bar in aggregate([0], ["1"], ["2"], side=sides)] == [bought]


@pytest.mark.parametrize("side", ["bid", "", 2, -2, 10**30, 0.5, None, b"buy"])
def test_a_side_that_is_none_is_refused(side: Any) -> None:
    with pytest.raises(InvalidTickError, match="X: side"):
        BarBuffer("1m").add("X", 0, "1", "1", side)
    with pytest.raises(ValueError, match=r"side|TickSide"):
        TickData("X", 0, "1", "1", side)


IS_BUYER_MAKER = [True, False, True, False]
SIDE_COLUMNS: dict[str, Any] = {
    "booleans": [False, True, False, True],
    "numpy": ~np.array(IS_BUYER_MAKER),
    "pandas": ~pd.Series(IS_BUYER_MAKER),
    "pandas boolean": ~pd.Series(IS_BUYER_MAKER, dtype="boolean"),
    "polars": ~pl.Series(IS_BUYER_MAKER),
    "pyarrow": pa.array([False, True, False, True]),
    "pyarrow slice": pa.array([True] * 13 + [False, True, False, True])[13:],
    "pyarrow chunks": pa.chunked_array([[False, True], [], [False, True]]),
    "bool8": pa.array([False, True, False, True]).cast(pa.int8()).cast(pa.bool8()),
    "texts": ["sell", "buy", "sell", "buy"],
    "capitals": np.array(["SELL", "BUY", "Sell", "Buy"]),
    "categories": pd.Series(["sell", "buy", "sell", "buy"], dtype=pd.CategoricalDtype(["x", "buy", "sell"])),
    "bytes": [b"sell", b"buy", b"sell", b"buy"],
    "signs": [-1, 1, -1, 1],
    "mixed": [-1, True, "sell", "buy"],
}


@pytest.mark.parametrize("side", SIDE_COLUMNS.values(), ids=SIDE_COLUMNS)
def test_a_column_of_sides_is_signs_booleans_or_texts(side: Any) -> None:
    made = aggregate([0, 1, 2, 3], ["1"] * 4, ["1", "2", "4", "8"], side=side)
    assert [bar.taker_buy_volume for bar in made] == [10]


@pytest.mark.parametrize(("time_unit", "factor"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
def test_a_buffer_takes_single_times_of_every_unit(time_unit: Any, factor: int) -> None:
    buffer = BarBuffer("1m")
    assert buffer.add("X", 1_735_689_600 * factor, "1", "2", time_unit=time_unit) == []
    (bar,) = buffer.add("X", 1_735_689_660 * factor, 1, 2, "buy", time_unit=time_unit)
    assert bar.open_time == datetime(2025, 1, 1, tzinfo=UTC)
