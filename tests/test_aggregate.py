"""fastbars.aggregate: arrays in, bars out; against the oracle, over every kind of column, and with bad input."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import example, given, settings, strategies as st

import fastbars
from examples import examples
from fastbars import BarBatch, InvalidTickError, PrecisionError, SpecError, aggregate
from fastbars._agg import BarKernel
from fastbars.bars import BAR_FIELDS
from fastbars.columnar.columns import Encoder, Texts, first_unsorted, narrow_decimals, round_floats
from fastbars.kernel.batch import TickBatch
from fastbars.kernel.ids import Ledger
from fastbars.kernel.instruments import Instruments
from fastbars.specs import parse_specs
from oracle import Oracle, Trade
from strategies import SYMBOLS, line_of

SECOND = 1_000_000_000
START = 1_723_161_240 * SECOND


def expected(trades: list[Trade], specs: list[str], ids: bool) -> list[Any] | None:
    """What the oracle gives; None where a trade's id says that it is older than its time, so that it is in no bar."""
    oracle = Oracle(specs, "contiguous" if ids else "none")
    lines = [line for trade in trades for line in oracle.add(trade)] + oracle.flush()
    return None if oracle.late else lines


def columns_of(trades: list[Trade], ids: bool) -> dict[str, Any]:
    columns: dict[str, Any] = {
        "time_ns": np.array([trade.time_ns for trade in trades], np.int64),
        "price": [str(trade.price) for trade in trades],
        "size": np.array([trade.size for trade in trades], object),
        "symbol": np.array([trade.symbol for trade in trades], object),
        "side": np.array([trade.side for trade in trades], np.int8),
    }
    if ids:
        columns["trade_id"] = np.array([trade.first_id for trade in trades], np.int64)
    return columns


@st.composite
def feeds(draw: st.DrawFn) -> list[Trade]:
    """Trades in order of time; ids a symbol mostly contiguous, with holes, fills and repetitions."""
    steps = draw(
        st.lists(
            st.tuples(
                st.sampled_from(SYMBOLS),
                st.sampled_from((0, 0, 1, 5, 20, 61, 3_700)),
                st.integers(1, 10**6),
                st.integers(0, 4),
                st.integers(1, 10**6),
                st.sampled_from((-1, 0, 1)),
                st.sampled_from((0,) * 9 + (1, 3, -1, -2)),
            ),
            min_size=1,
            max_size=50,
        )
    )
    now = draw(st.sampled_from((START, 0, -7_200 * SECOND)))
    following = dict.fromkeys(SYMBOLS, 10)
    trades = []
    for symbol, seconds, price, scale, size, side, shift in steps:
        now += seconds * SECOND
        number = max(following[symbol] + shift, 0)
        following[symbol] = max(following[symbol], number + 1)
        trades.append(
            Trade(symbol, now, Decimal(price).scaleb(-scale), Decimal(size).scaleb(-scale), side, number, number)
        )
    return trades


SPECS = st.lists(
    st.sampled_from(("1s", "1m", "5m", "1h", "1d", "tick:3", "volume:500")), min_size=1, max_size=3, unique=True
)


@given(feeds(), SPECS, st.booleans())
def test_arrays_give_the_bars_that_the_oracle_gives(trades: list[Trade], specs: list[str], ids: bool) -> None:
    wanted = expected(trades, specs, ids)
    if wanted is None:
        with pytest.raises(InvalidTickError, match="its trade id is too old"):
            aggregate(**columns_of(trades, ids), bars=specs)
        return
    made = aggregate(**columns_of(trades, ids), bars=specs)
    assert [line_of(bar) for bar in made] == wanted


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("ids", [True, False])
@pytest.mark.parametrize("specs", [["1s", "5s", "1m"], ["tick:7", "volume:100"], ["1m", "tick:2", "7s"]])
def test_long_columns_give_the_same_rows_in_blocks(
    monkeypatch: pytest.MonkeyPatch, specs: list[str], ids: bool, seed: int
) -> None:
    # Blocks of 1,500 rows end anywhere.
    draw = np.random.default_rng(seed)
    rows, symbols = 12_000, 150
    symbol = np.minimum(draw.geometric(0.03, rows), symbols) - 1
    columns: dict[str, Any] = {
        "time_ns": draw.integers(0, 2, rows).cumsum() * (SECOND // 50), "symbol": symbol,
        "price": draw.integers(1, 1000, rows), "size": draw.integers(1, 50, rows), "side": draw.integers(-1, 2, rows),
    }  # fmt: skip
    if ids:
        number = np.zeros(rows, np.int64)
        for each in range(symbols):
            number[symbol == each] = np.arange(np.count_nonzero(symbol == each))
        columns["trade_id"] = number + draw.choice([0, 0, 0, 0, 0, 0, 0, 1], rows)  # holes and duplicates
    whole = aggregate(**columns, bars=specs)
    monkeypatch.setattr("fastbars.columnar.arrays._BLOCK", 1500)
    assert aggregate(**columns, bars=specs).rows.tobytes() == whole.rows.tobytes()


def test_of_several_errors_the_earliest_row_is_named() -> None:
    rows = 5000
    columns: dict[str, Any] = {
        "time_ns": np.arange(rows) * SECOND, "symbol": np.arange(rows) % 7, "price": np.ones(rows, int),
        "size": np.ones(rows, int), "side": np.zeros(rows, int),
    }  # fmt: skip
    for column, value in (("size", -1), ("price", 0), ("side", 3)):
        columns[column] = columns[column].copy()
        columns[column][[4001, 4002, 4004]] = value
        with pytest.raises(InvalidTickError) as raised:
            aggregate(**columns)
        assert raised.value.row == 4001
        columns[column][4001:4005] = 1


def test_a_kernel_takes_the_rows_at_places_alone() -> None:
    instruments = Instruments()
    for name in "AB":
        instruments.add(name)
    rows = np.arange(3000)
    columns = {
        "time_ns": rows * SECOND, "symbol_id": rows % 2, "price": rows + 1, "size": rows + 1, "first_id": rows // 2,
        "last_id": rows // 2,
    }  # fmt: skip
    kernels = [BarKernel(instruments, parse_specs("1m,tick:11"), Ledger()) for _ in range(2)]
    batch = TickBatch.from_columns(instruments, **columns)
    odd = np.arange(1, 3000, 2, dtype=np.int32)
    for places in (odd[::-1], np.array([1, 1], np.int32), np.array([5, 3000], np.int32), np.array([-1, 2], np.int32)):
        with pytest.raises(IndexError, match="places must ascend, and be rows of the batch's 3000"):
            kernels[0].update(batch, places=np.ascontiguousarray(places))
    placed, _ = kernels[0].update(batch, True, odd)
    alone, _ = kernels[1].update(TickBatch.from_columns(instruments, **{k: v[1::2] for k, v in columns.items()}), True)
    ended = placed["reason"] == alone["reason"]
    assert ended.all()
    assert len(placed) > 150
    by_trade = placed["reason"] == 0
    assert (placed["row"][by_trade] == odd[alone["row"][by_trade]]).all()
    for field in ("open", "high", "low", "close", "count", "first_id", "last_id", "symbol_id", "spec", "status"):
        assert (placed[field] == alone[field]).all()
    empty = BarKernel(instruments, parse_specs("1m"), Ledger())
    assert len(empty.update(batch, True, odd[:0])[0]) == 0


@given(feeds(), st.randoms(use_true_random=False), st.booleans())
def test_sorting_brings_trades_into_order_of_time_and_keeps_that_of_equal_times(
    trades: list[Trade], random: Any, ids: bool
) -> None:
    random.shuffle(trades)
    ordered = sorted(trades, key=lambda trade: trade.time_ns)
    # Ids that a shuffle has turned around can lie in other bars; what the oracle says of that order holds.
    wanted = expected(ordered, ["1m"], ids)
    if wanted is None:
        with pytest.raises(InvalidTickError, match="its trade id is too old"):
            aggregate(**columns_of(trades, ids), bars="1m", sort=True)
        return
    made = aggregate(**columns_of(trades, ids), bars="1m", sort=True)
    assert [line_of(bar) for bar in made] == wanted


def test_more_rows_than_a_block_give_the_same_bars_as_one_batch() -> None:
    rows = 300_000
    draw = np.random.default_rng(7)
    symbols = draw.integers(0, 7, rows)
    columns: dict[str, Any] = {
        "time_ns": START + np.arange(rows) * SECOND // 100,
        "price": draw.integers(1, 10**6, rows),
        "size": draw.integers(1, 10**6, rows),
        "symbol": symbols,
        "side": draw.integers(-1, 2, rows).astype(np.int8),
        "price_scale": 2,
        "size_scale": 5,
    }
    made = aggregate(**columns)
    buffer = fastbars.BarBuffer("1m")
    for symbol in range(7):
        buffer.instruments.add(str(symbol), 2, 5)
    batch = fastbars.TickBatch.from_columns(
        buffer.instruments,
        time_ns=columns["time_ns"],
        symbol_id=symbols,
        price=columns["price"],
        size=columns["size"],
        side=columns["side"],
    )
    assert made.to_bars() == buffer.add_batch(batch) + buffer.flush_all()


# Every kind of column.

PRICES = ("1.50", "100", "0.25", "7")
SIZES = ("2", "0.001", "30", "1")
TIMES = [START + second * SECOND for second in (0, 1, 61, 122)]
NAMES = ("A", "longer than twelve bytes", "A", "ÇC")


def bars(**columns: Any) -> list[Any]:
    given = {"time_ns": TIMES, "price": list(PRICES), "size": list(SIZES), "symbol": list(NAMES), **columns}
    return aggregate(**given).to_bars()


def duckdb_connection() -> Any:
    return pytest.importorskip("duckdb", reason="DuckDB has no wheel for musl").connect()


def query(text: str) -> Any:
    frame = pl.DataFrame({"t": TIMES, "p": PRICES, "q": SIZES, "s": NAMES})
    return duckdb_connection().register("frame", frame.to_arrow()).sql(text)


DECIMALS = [Decimal(price) for price in PRICES]
PRICE_COLUMNS: dict[str, Any] = {
    "numpy text": np.array(PRICES),
    "numpy bytes": np.array(PRICES, "S"),
    "numpy objects": np.array(PRICES, object),
    "numpy strings": np.array(PRICES, np.dtypes.StringDType()),
    "list of Decimal": DECIMALS,
    "list of bytes": [price.encode() for price in PRICES],
    "polars text": pl.Series(PRICES),
    "polars categories": pl.Series(PRICES, dtype=pl.Categorical),
    "polars decimal": pl.Series(DECIMALS, dtype=pl.Decimal(38, 18)),
    "polars slice": pl.Series(["9", *PRICES, "9"])[1:-1],
    "pandas text": pd.Series(PRICES),
    "pandas objects": pd.Series(DECIMALS, dtype=object),
    "pandas decimal": pd.Series(DECIMALS, dtype=pd.ArrowDtype(pa.decimal128(20, 4))),
    "pyarrow text": pa.array(PRICES),
    "pyarrow large text": pa.array(PRICES, pa.large_string()),
    "pyarrow chunks": pa.chunked_array([PRICES[:1], [], PRICES[1:]]),
    "pyarrow dictionary": pa.array(PRICES).dictionary_encode(),
    "pyarrow slice": pa.array(["9", *PRICES, "9"])[1:-1],
    "pyarrow decimal": pa.array(DECIMALS, pa.decimal128(38, 30)),
    "pyarrow decimal slice": pa.array([Decimal(9), *DECIMALS], pa.decimal128(10, 2))[1:],
    "pyarrow decimal32": pa.array(DECIMALS, pa.decimal32(5, 2)),
    "pyarrow decimal64": pa.array(DECIMALS, pa.decimal64(12, 2)),
    "duckdb decimal": lambda: query("select p::decimal(18, 3) as p from frame"),
    "duckdb text": lambda: query("select p from frame"),
}
SYMBOL_COLUMNS: dict[str, Any] = {
    "numpy text": np.array(NAMES),
    "numpy objects": np.array(NAMES, object),
    "polars text": pl.Series(NAMES),
    "polars categories": pl.Series(NAMES, dtype=pl.Categorical),
    "polars enum": pl.Series(NAMES, dtype=pl.Enum(sorted(set(NAMES)))),
    "pandas categories": pd.Series(NAMES, dtype="category"),
    "pyarrow chunks": pa.chunked_array([NAMES[:2], NAMES[2:]]),
    "pyarrow dictionaries": pa.chunked_array([pa.array(part).dictionary_encode() for part in (NAMES[:2], NAMES[2:])]),
    "duckdb text": lambda: query("select s from frame"),
}  # fmt: skip
INSTANTS = pd.Series(pd.to_datetime(TIMES, unit="ns"))
TIME_COLUMNS: dict[str, Any] = {
    "list": TIMES,
    "numpy datetime64 ns": np.array(TIMES, "datetime64[ns]"),
    "numpy datetime64 s": np.array(TIMES, "datetime64[ns]").astype("datetime64[s]"),
    "numpy uint64": np.array(TIMES, np.uint64),
    "pandas": INSTANTS,
    "pandas in Berlin": INSTANTS.dt.tz_localize("UTC").dt.tz_convert("Europe/Berlin"),
    "polars ms": pl.Series(TIMES).cast(pl.Datetime("ns")).cast(pl.Datetime("ms")),
    "polars us in Tokyo": pl.Series(TIMES).cast(pl.Datetime("ns", "UTC")).cast(pl.Datetime("us", "Asia/Tokyo")),
    "pyarrow s": pa.array([time // SECOND for time in TIMES], pa.timestamp("s")),
    "duckdb": lambda: query("select make_timestamp_ns(t) as t from frame"),
}  # fmt: skip


@pytest.mark.parametrize("column", PRICE_COLUMNS.values(), ids=PRICE_COLUMNS)
def test_prices_are_read_from_every_kind_of_column(column: Any) -> None:
    column = column() if callable(column) else column
    assert bars(price=column) == bars()


@pytest.mark.parametrize("column", SYMBOL_COLUMNS.values(), ids=SYMBOL_COLUMNS)
def test_symbols_are_read_from_every_kind_of_column(column: Any) -> None:
    column = column() if callable(column) else column
    assert bars(symbol=column) == bars()
    assert [bar.symbol for bar in bars(symbol=column)] == ["A", "A", "longer than twelve bytes", "ÇC"]


@pytest.mark.parametrize("column", TIME_COLUMNS.values(), ids=TIME_COLUMNS)
def test_times_are_read_from_every_kind_of_column(column: Any) -> None:
    column = column() if callable(column) else column
    assert bars(time_ns=column) == bars()


@pytest.mark.parametrize("make", [np.array, pl.Series, pd.Series, pa.array])
def test_mantissas_sides_and_ids_are_read_from_every_library(make: Callable[..., Any]) -> None:
    made = bars(
        price=make(np.array([150, 10000, 25, 700])),
        price_scale=2,
        size=make(np.array([2000, 1, 30000, 1000], np.uint32)),
        size_scale=3,
        side=make(np.array([1, -1, 0, 1], np.int8)),
        trade_id=make(np.array([7, 3, 8, 9])),
    )
    plain = bars(side=[1, -1, 0, 1], trade_id=[7, 3, 8, 9])
    assert made == plain
    assert [(bar.first_trade_id, bar.taker_buy_volume) for bar in made] == [(7, 2), (8, 0), (3, 0), (9, 1)]


def test_integer_symbols_are_named_by_their_numbers_dense_or_sparse() -> None:
    assert {bar.symbol for bar in bars(symbol=np.array([3, 0, 3, 5], np.uint8))} == {"0", "3", "5"}
    assert {bar.symbol for bar in bars(symbol=[10**15, 7, 7, 10**15])} == {str(10**15), "7"}
    assert {bar.symbol for bar in bars(symbol="BTC-USD")} == {"BTC-USD"}
    assert {bar.symbol for bar in bars(symbol=None)} == {""}


def test_each_symbol_has_the_decimals_that_it_needs() -> None:
    big, small = str(2**63 - 1), "0.000000000000000001"
    made = bars(price=[big, small, big, "1.5"], size=[small, big, "1", "1"], symbol=["BIG", "SMALL", "BIG", "OTHER"])
    assert {(bar.symbol, bar.close) for bar in made} >= {("BIG", Decimal(big))}
    assert {(bar.symbol, bar.low) for bar in made} >= {("SMALL", Decimal(small))}


def test_strided_and_read_only_arrays_are_read_where_they_lie() -> None:
    wide = np.zeros((4, 2), np.int64)
    wide[:, 0] = [15, 1000, 3, 70]
    strided = wide[:, 0]
    frozen = strided.copy()
    frozen.flags.writeable = False
    swapped = frozen.astype(">i8")
    assert bars(price=strided) == bars(price=frozen) == bars(price=swapped) == bars(price=[15, 1000, 3, 70])
    assert wide[:, 0].tolist() == [15, 1000, 3, 70]


def test_empty_columns_give_no_bars() -> None:
    empties: list[Any] = [[], np.array([], np.int64), pl.Series([], dtype=pl.Int64), pa.array([], pa.int64())]
    for empty in empties:
        made = aggregate(empty, empty, empty, symbol=empty, side=empty, trade_id=empty)
        assert len(made) == 0
        assert made.to_bars() == []
        assert made.to_polars().shape == (0, len(BAR_FIELDS))
    assert len(aggregate([], [], [], price_scale=2)) == 0


# Floats.


@given(
    st.floats(min_value=1e-19, max_value=9e18, allow_nan=False)
    | st.builds(lambda n, s: (n + 0.5) / 10**s, st.integers(0, 10**15), st.integers(0, 9)),
    st.integers(0, 18),
)
@example(0.5, 0)
@example(1.5, 0)
@example(2.675, 2)
@example(4503599627370497.5, 0)
@example(9007199254740993.0, 1)
@example(0.000000000000000001, 18)
def test_a_float_is_rounded_as_its_exact_value_ties_to_even(value: float, scale: int) -> None:
    exact = Fraction(value) * 10**scale
    wanted = round(exact)  # Fraction rounds ties to even
    mantissa = np.zeros(1, np.int64)
    failed = round_floats(np.array([value]), scale, mantissa)
    if wanted >= 9_223_372_036_854_700_000:
        assert failed == 0 or mantissa[0] == wanted
    else:
        assert failed == -1
        assert mantissa[0] == wanted


def test_floats_are_rounded_only_where_a_scale_says_so() -> None:
    floats = [float(price) for price in PRICES]
    assert bars(price=floats, price_scale=2) == bars()
    assert (
        bars(price=pl.Series(floats), price_scale=2)
        == bars(price=np.array(floats, np.float32), price_scale=2)
        == bars()
    )
    with pytest.raises(TypeError, match="price holds floats, which have already lost digits; give price_scale"):
        bars(price=floats)
    for wrong in (float("nan"), float("inf"), 1e17):
        with pytest.raises(PrecisionError, match=r"row 2: price .* does not fit 64 bits with 2 decimals") as raised:
            bars(price=[1.0, 2.0, wrong, 3.0], price_scale=2)
        assert raised.value.row == 2
    with pytest.raises(InvalidTickError, match="row 1: price 0 is not"):
        bars(price=[1.0, 0.001, 1.0, 1.0], price_scale=2)


# Decimals.


@given(st.integers(1, 10**38 - 1), st.integers(0, 38), st.integers(0, 30))
@example(2**63 - 1, 18, 20)
@example(2**63, 0, 0)
def test_a_decimal_is_taken_at_its_smallest_scale_or_refused(mantissa: int, scale: int, zeros: int) -> None:
    mantissa = mantissa // 10**zeros * 10**zeros or 10**zeros
    data = np.frombuffer(mantissa.to_bytes(16, "little"), np.uint8)
    made, scales = np.zeros(1, np.int64), np.zeros(1, np.int8)
    failed = narrow_decimals(data, 16, scale, made, scales, np.zeros(1, np.int32))
    value = Fraction(mantissa, 10**scale)
    smallest = next(own for own in range(39) if (value * 10**own).denominator == 1)
    if smallest <= 18 and value * 10**smallest < 2**63:
        assert (failed, made[0], scales[0]) == (-1, value * 10**smallest, smallest)
    else:
        assert failed == 0


# Symbols.


@given(st.lists(st.text(max_size=20), max_size=60), st.integers(0, 60))
def test_texts_become_ids_in_order_of_first_occurrence(texts: list[str], cut: int) -> None:
    encoder = Encoder()
    ids: list[int] = []
    for part in (texts[:cut], texts[cut:]):
        array = pa.array(part, pa.string())
        data = np.frombuffer(array.buffers()[2] or b"", np.uint8)
        places = np.frombuffer(array.buffers()[1], np.int32) if part else np.zeros(1, np.int32)
        into = np.zeros(len(part), np.int32)
        encoder.encode(Texts.offsets(places, data, 0, len(part)), into)
        ids += into.tolist()
    known = list(dict.fromkeys(texts))
    assert [name.decode() for name in encoder.names] == known
    assert ids == [known.index(text) for text in texts]


def test_many_symbols_keep_their_ids_while_the_table_grows() -> None:
    names = [f"S{number}" for number in range(5_000)]
    texts = Texts.fixed(np.array(names * 2, "S"))
    ids = np.zeros(10_000, np.int32)
    Encoder().encode(texts, ids)
    assert ids.tolist() == list(range(5_000)) * 2
    assert (len(texts), texts[4_999]) == (10_000, b"S4999")
    with pytest.raises(IndexError, match="text 10000 is outside"):
        texts[10_000]


def test_the_first_step_back_in_time_is_found_wherever_it_is() -> None:
    for rows in (2, 4_095, 4_096, 4_097, 9_000):
        for place in {1, rows // 2, rows - 1} - {0}:
            times = np.arange(rows)
            times[place:] -= 2
            assert first_unsorted(times) == place
        assert first_unsorted(np.zeros(rows, np.int64)) == -1
    assert first_unsorted(np.zeros(0, np.int64)) == -1


# Bad input: one clear error, with the row.


def masked(values: list[int], row: int) -> Any:
    return np.ma.array(np.array(values), mask=np.arange(len(values)) == row)


@pytest.mark.parametrize(
    ("columns", "error", "message", "row"),
    [
        ({"price": ["1"] * 3}, InvalidTickError, "column price has 3 rows, time_ns has 4", None),
        ({"side": [1]}, InvalidTickError, "column side has 1 rows, time_ns has 4", None),
        ({"symbol": ["A"] * 5}, InvalidTickError, "column symbol has 5 rows", None),
        ({"symbol": [1] * 5}, InvalidTickError, "column symbol has 5 rows", None),
        ({"price": np.ones((4, 1), int)}, InvalidTickError, "column price has 2 dimensions", None),
        ({"price": [True] * 4}, InvalidTickError, "column price has dtype bool", None),
        ({"price": np.array(TIMES, "datetime64[ns]")}, InvalidTickError, "column price holds times", None),
        ({"price": ["1", "2", "x", "3"]}, PrecisionError, "row 2: price b'x' is not a finite decimal number", 2),
        ({"price": ["1", "2", "", "3"]}, PrecisionError, "row 2: price b'' is not a finite", 2),
        ({"price": ["1", "-2", "3", "4"]}, InvalidTickError, "row 1: price -2 is not positive", 1),
        ({"price": pa.array(["1", "0", "3", "4"])}, InvalidTickError, "row 1: price 0 is not at least 1", 1),
        ({"price": [1, 2, 0, 4]}, InvalidTickError, "row 2: price 0 is not at least 1", 2),
        ({"size": [1, 2, 3, -4]}, InvalidTickError, "row 3: size -4 is not at least 1", 3),
        ({"size": pa.array([Decimal(1), Decimal(-1), None, None])}, InvalidTickError, "row 2: size is null", 2),
        ({"size": pa.array([Decimal(1)] * 3 + [Decimal(-1)])}, InvalidTickError, "row 3: size -1 is not positive", 3),
        ({"price": [None, "1", "1", "1"]}, TypeError, "row 0: price: a number is given as", None),
        ({"price": ["1", "2", 1.5, "3"]}, TypeError, "row 2: price: .*float", None),
        ({"price": ["1", "1.234", "1", "1"], "price_scale": 2}, PrecisionError, "row 1: price needs 3 decimals", 1),
        ({"price": [1] * 4, "price_scale": 19}, PrecisionError, "price_scale 19 is outside 0 to 18", None),
        ({"price": [1] * 4, "price_scale": -1}, PrecisionError, "price_scale -1 is outside 0 to 18", None),
        ({"price": ["9223372036854775808", "1", "1", "1"]}, PrecisionError, "row 0: price .* does not fit", 0),
        (
            {"price": ["9223372036854775807", "1", "0.1", "1"]}, PrecisionError,
            "^A: row 0: price .*does not fit at scale 1", 0,
        ),
        ({"price": np.array([1, 2, 2**63, 4], np.uint64)}, InvalidTickError, "row 2: price 9.* is beyond 64 bits", 2),
        ({"time_ns": [0, 1, 3, 2]}, InvalidTickError, "row 3: time_ns 2 is earlier than 3 in the row before", 3),
        ({"time_ns": ["a"] * 4}, InvalidTickError, "column time_ns holds texts", None),
        ({"time_ns": [0.5] * 4}, InvalidTickError, "column time_ns holds floats", None),
        ({"time_ns": [0, 1, 2, 5 * 10**18]}, InvalidTickError, "row 3: time_ns 5000000000000000000 is not", 3),
        (
            {"time_ns": np.array(["2024-01-01", "NaT"] * 2, "M8[s]")}, InvalidTickError, "row 1: time_ns is NaT", 1,
        ),
        (
            {"time_ns": np.array([0, 1, 2, 2**40], "M8[s]")}, InvalidTickError, "row 3: time_ns .* beyond 64", 3,
        ),
        ({"time_ns": np.array([0] * 4, "M8[ps]")}, InvalidTickError, "the unit is ns, us, ms, s, m, h or D", None),
        ({"symbol": [0, 1, -1, 2]}, InvalidTickError, "row 2: symbol id -1 is negative", 2),
        ({"symbol": ["A", None, "A", "A"]}, InvalidTickError, "row 1: symbol None is not text", 1),
        ({"symbol": pl.Series(["A", None, "A", "A"])}, InvalidTickError, "row 1: symbol is null", 1),
        ({"symbol": [b"\xff"] * 4}, InvalidTickError, "is not UTF-8", None),
        ({"symbol": [1.5] * 4}, InvalidTickError, "column symbol holds floats", None),
        ({"symbol": pa.array([[1]] * 4)}, InvalidTickError, "column symbol has the Arrow type", None),
        ({"price": pa.array([Decimal(1)] * 4, pa.decimal256(50, 2))}, InvalidTickError, "is decimal256", None),
        (
            {"price": pl.DataFrame({"a": [1], "b": [2]})}, InvalidTickError, "price is a table of 2 columns", None,
        ),
        ({"side": [0, 2, 0, 0]}, InvalidTickError, "row 1: side 2 is not 1, 0 or -1", 1),
        ({"side": [0, 0, 300, 0]}, InvalidTickError, "row 2: side 300 is outside", 2),
        ({"side": ["buy", "sell", "bought", "x"]}, InvalidTickError, "row 2: side 'bought' is not buy, sell", 2),
        ({"side": [True, "buy", -1, 7]}, InvalidTickError, "row 3: side 7 is not buy, sell or unknown, nor 1", 3),
        ({"side": [1.0] * 4}, InvalidTickError, "column side holds floats, it must hold integers, booleans", None),
        ({"side": [True, None, True, False]}, InvalidTickError, "row 1: side None is not buy", 1),
        ({"trade_id": [True] * 4}, InvalidTickError, "column trade_id has dtype bool", None),
        ({"symbol": np.array([True] * 4)}, InvalidTickError, "column symbol has dtype bool", None),
        ({"price": masked([1] * 4, 2)}, InvalidTickError, "row 2: price is masked", 2),
        ({"time_ns": masked(TIMES, 1)}, InvalidTickError, "row 1: time_ns is masked", 1),
        ({"price": np.array([1, 2, 2**63, 4], ">u8")}, InvalidTickError, "row 2: price 9.* is beyond 64 bits", 2),
        ({"time_ns": [2**70, 0, 0, 0]}, InvalidTickError, "row 0: time_ns 1180591620717411303424 is beyond 64", 0),
        ({"trade_id": [1, 2, -3, 4]}, InvalidTickError, "row 2: first_id -3 is not at least 0", 2),
        ({"trade_id": [1.0] * 4}, InvalidTickError, "column trade_id holds floats", None),
        ({"bars": "1x"}, SpecError, "bar spec '1x' is not known", None),
    ],
)  # fmt: skip
def test_bad_columns_have_one_clear_error(
    columns: dict[str, Any], error: type[Exception], message: str, row: int | None
) -> None:
    with pytest.raises(error, match=message) as raised:
        bars(**columns)
    assert getattr(raised.value, "row", None) == row


def test_an_error_far_into_the_columns_names_its_row_as_given() -> None:
    rows = 200_000
    columns: dict[str, Any] = {
        "time_ns": np.arange(rows) * SECOND,
        "price": np.ones(rows, int),
        "size": np.ones(rows, int),
        "symbol": np.arange(rows) % 5,
    }
    columns["price"][[150_003, 170_002]] = 0
    with pytest.raises(InvalidTickError, match="row 150003: price 0 is not at least 1") as raised:
        aggregate(**columns)
    assert raised.value.row == 150_003
    columns["time_ns"] = columns["time_ns"][::-1]
    with pytest.raises(InvalidTickError, match=r"row 170002 as given") as raised:
        aggregate(**columns, sort=True)
    assert raised.value.row == 170_002


# Bars as a table.


def a_batch(**columns: Any) -> BarBatch:
    return aggregate(TIMES, list(PRICES), list(SIZES), symbol=list(NAMES), **columns)


def rows_of(made: BarBatch) -> list[dict[str, Any]]:
    return [
        {**bar.to_dict(), "status": str(bar.status), "close_reason": str(bar.close_reason)} for bar in made.to_bars()
    ]


def table_of(made: BarBatch) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pa.table(made).to_pylist()
    for row in rows:
        row["open_time"], row["close_time"] = row["open_time"].to_pydatetime(), row["close_time"].to_pydatetime()
    return rows


@pytest.mark.parametrize("ids", [None, [5, 1, 6, 1]], ids=["without ids", "with ids"])
@pytest.mark.parametrize("part", [slice(None), slice(1, 3), slice(None, None, -2), slice(0, 0)])
def test_the_table_holds_what_the_objects_hold(ids: Any, part: slice) -> None:
    made = a_batch(trade_id=ids, bars=["1m", "tick:2"])[part]
    assert table_of(made) == rows_of(made)
    frame = made.to_polars()
    assert frame.columns == list(fastbars.bars.BAR_FIELDS)
    assert frame.drop("open_time", "close_time").to_dicts() == [
        {name: value for name, value in row.items() if name not in ("open_time", "close_time")} for row in rows_of(made)
    ]
    assert frame["open_time"].dtype == pl.Datetime("ns", "UTC")


def test_polars_and_pandas_take_a_batch() -> None:
    made = a_batch()
    closes = [bar.close for bar in made]
    assert pl.DataFrame(made)["close"].to_list() == closes
    assert pd.DataFrame.from_arrow(made)["close"].tolist() == closes
    frame = made.to_pandas()
    assert frame["close"].tolist() == closes
    assert str(frame["close"].dtype) == "decimal128(38, 2)[pyarrow]"


def test_a_table_of_another_schema_is_cast_by_whoever_asks_for_it() -> None:
    made = a_batch()
    schema = pa.table(made).schema
    wanted = schema.set(6, pa.field("open", pa.decimal128(38, 4))).set(2, pa.field("symbol", pa.string()))
    assert pa.RecordBatchReader.from_stream(made, schema=schema).read_all().num_rows == len(made)
    table = pa.table(made).cast(wanted)
    assert table["open"].to_pylist() == [bar.open for bar in made]


def test_duckdb_takes_a_batch() -> None:
    made = a_batch()
    connection = duckdb_connection()
    closes = [bar.close for bar in made]
    assert connection.execute("select close from made").fetchall() == [(close,) for close in closes]
    total = connection.execute("select sum(quote_volume) from made").fetchall()
    assert total == [(sum(bar.quote_volume or 0 for bar in made),)]


def test_a_column_has_the_largest_scale_of_its_bars() -> None:
    schema = pa.table(a_batch()).schema
    assert schema.field("open").type == pa.decimal128(38, 2)
    assert schema.field("volume").type == pa.decimal128(38, 3)
    assert schema.field("open_time").type == pa.timestamp("ns", "UTC")
    assert schema.field("symbol").type == pa.large_string()


def test_a_column_of_more_than_38_digits_is_an_error_that_names_it() -> None:
    huge = str(2**63 - 1)
    made = aggregate([0, 1], [huge, "0.000000000000000001"], [huge, "0.000000000000000001"], symbol=["A", "B"])
    with pytest.raises(PrecisionError, match="row 0: column quote_volume has 36 decimals, and with them"):
        made.to_polars()
    assert made.to_bars()[0].quote_volume == Decimal((2**63 - 1) ** 2)
    assert made[:1].to_polars()["quote_volume"].to_list() == [Decimal((2**63 - 1) ** 2)]


def test_numpy_gets_the_nearest_floats_and_plain_columns() -> None:
    made = a_batch(trade_id=[5, 1, 6, 1], side=[1, 1, 1, 1])
    columns = made.to_numpy()
    assert list(columns) == list(fastbars.bars.BAR_FIELDS)
    assert columns["symbol"].tolist() == [bar.symbol for bar in made]
    assert columns["status"].tolist() == [bar.status for bar in made]
    assert columns["open_time"].tolist() == [int(bar.open_time.timestamp()) * SECOND for bar in made]
    assert columns["first_trade_id"].tolist() == [bar.first_trade_id for bar in made]
    for name in ("open", "volume", "quote_volume", "taker_buy_quote_volume"):
        assert columns[name].tolist() == [float(getattr(bar, name)) for bar in made]
    assert a_batch().to_numpy()["last_trade_id"].tolist() == [-1, -1, -1, -1]
    assert aggregate([], [], []).to_numpy()["symbol"].tolist() == []


@given(
    st.lists(st.tuples(st.integers(1, 2**63 - 1), st.integers(1, 2**63 - 1)), min_size=1, max_size=5),
    st.integers(0, 18),
)
@settings(max_examples=examples(60))
def test_numpy_floats_are_the_nearest_to_the_exact_values(pairs: list[tuple[int, int]], scale: int) -> None:
    prices: npt.NDArray[np.int64] = np.array([price for price, _ in pairs])
    sizes: npt.NDArray[np.int64] = np.array([size for _, size in pairs])
    made = aggregate(np.arange(len(pairs)) * 60 * SECOND, prices, sizes, price_scale=scale, size_scale=18)
    columns = made.to_numpy()
    for name in ("open", "volume", "quote_volume"):
        assert columns[name].tolist() == [float(Fraction(getattr(bar, name))) for bar in made]
