"""Prices at or below zero, where the venue or the caller says so: exact as all others, and refused everywhere else."""

from __future__ import annotations

import copy
import pickle
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings, strategies as st
from websockets.asyncio.server import ServerConnection

from examples import examples
from fastbars import BarBuffer, BaseWebSocketAdapter, OHLCVBar, StreamConfig, TickData, aggregate
from fastbars.cli.output import csv_line
from fastbars.columnar.bar_batch import BarBatch
from fastbars.errors import InvalidTickError, PrecisionError
from fastbars.events import MarketDataEvent, Quote
from fastbars.exchanges import EXCHANGES, find_exchange
from fastbars.kernel.batch import TickBatch
from fastbars.kernel.instruments import Instruments
from fastbars.live import snapshots
from fastbars.live.callbacks import Callbacks
from fastbars.live.session import Session
from oracle import Trade
from servers import TradeServer, keep_silent, until
from strategies import (
    MINUTE,
    SECOND,
    Scenario,
    Watermark,
    buffer_for,
    expected,
    oracle_for,
    replay,
    scenarios,
)

T0 = 1_767_225_600 * SECOND  # a whole minute
LARGEST = 2**63 - 1
D = Decimal


def feed(*prices: str, ids: str = "none", **options: Any) -> list[Any]:
    """The bars of trades of size 2, one every 20 s."""
    buffer = BarBuffer("1m", ids=ids, negative_prices=True, **options)  # type: ignore[arg-type]
    bars: list[Any] = []
    for n, price in enumerate(prices):
        bars += buffer.add("CL", T0 + n * 20 * SECOND, price, "2", 1 if n % 2 else -1, n)
    return bars + buffer.flush_all()


# Exact.


@settings(max_examples=examples(100))
@given(scenarios(negative_prices=True))
def test_every_issued_bar_of_prices_with_a_sign_equals_the_oracle(scenario: Scenario) -> None:
    made = replay(buffer_for(scenario), scenario.events, scenario.cuts)
    assert made == expected(oracle_for(scenario), scenario.events)


@settings(max_examples=examples(30))
@given(scenarios(negative_prices=True, trades_only=True), st.frozensets(st.integers(0, 40)))
def test_bars_of_prices_with_a_sign_do_not_depend_on_how_trades_are_cut_into_batches(
    scenario: Scenario, cuts: frozenset[int]
) -> None:
    assert replay(buffer_for(scenario), scenario.events, cuts) == replay(buffer_for(scenario), scenario.events)


def test_oil_closes_below_zero() -> None:
    (bar,) = feed("1.5", "0", "-37.63")
    assert (bar.open, bar.high, bar.low, bar.close) == (D("1.5"), D("1.5"), D("-37.63"), D("-37.63"))
    assert (bar.volume, bar.quote_volume) == (6, D("-72.26"))
    assert (bar.taker_buy_volume, bar.taker_buy_quote_volume) == (2, 0)
    assert bar.vwap == D("-72.26") / 6


def test_a_price_of_zero_is_a_price() -> None:
    (bar,) = feed("0", "0")
    assert (bar.open, bar.high, bar.low, bar.close, bar.quote_volume, bar.vwap) == (0, 0, 0, 0, 0, 0)
    assert bar.trade_count == 2


def test_a_scale_widens_around_negative_prices() -> None:
    (bar,) = feed("-3", "-0.125", "-0.00001")
    assert (bar.open, bar.low, bar.high, bar.quote_volume) == (-3, -3, D("-0.00001"), D("-6.25002"))


def test_a_scale_that_a_negative_price_cannot_follow_is_refused() -> None:
    buffer = BarBuffer("1m", negative_prices=True)
    buffer.add("A", T0, -LARGEST, "1")
    with pytest.raises(PrecisionError, match=f"prices up to {LARGEST} were seen"):
        buffer.add("A", T0, "0.1", "1")
    buffer.instruments.add("B", 1)
    with pytest.raises(PrecisionError, match=r"price -922337203685477581 does not fit 64 bits with the 1 decimals"):
        buffer.add("B", T0, "-922337203685477581", "1")
    (bar,) = buffer.flush_all()
    assert (bar.low, bar.trade_count) == (D(-LARGEST), 1)


@pytest.mark.parametrize("rows", [1, 7, 2000])
def test_long_columns_of_prices_with_a_sign_are_as_exact_as_short_ones(rows: int) -> None:
    draw = np.random.default_rng(rows)
    prices = draw.integers(-(2**62), 2**62, rows)
    sizes = draw.integers(1, 2**40, rows)
    times = T0 + np.sort(draw.integers(0, 10 * MINUTE, rows))
    ids = np.arange(rows)
    sides = draw.integers(-1, 2, rows).astype(np.int8)
    made = aggregate(times, prices, sizes, trade_id=ids, side=sides, bars=["1m", "5m"], negative_prices=True).to_bars()
    for bar in made:
        since = int(bar.open_time.timestamp()) * SECOND
        until_ns = int(bar.close_time.timestamp()) * SECOND
        chosen = [i for i in range(rows) if since <= times[i] < until_ns]
        assert bar.quote_volume == sum(int(prices[i]) * int(sizes[i]) for i in chosen)
        assert bar.taker_buy_quote_volume == sum(int(prices[i]) * int(sizes[i]) for i in chosen if sides[i] > 0)
        assert (bar.low, bar.high) == (min(D(int(prices[i])) for i in chosen), max(D(int(prices[i])) for i in chosen))
        assert (bar.open, bar.close) == (D(int(prices[chosen[0]])), D(int(prices[chosen[-1]])))
    assert sum(bar.trade_count or 0 for bar in made) == 2 * rows


def test_the_lowest_sum_that_fits_is_exact_and_one_less_is_refused() -> None:
    buffer = BarBuffer(["1m", "5m"], negative_prices=True)
    for _ in range(2):
        buffer.add("A", T0, -LARGEST, LARGEST, -1)
    rest = 2**127 - 2 * LARGEST**2
    buffer.add("A", T0, -LARGEST, rest // LARGEST, -1)
    buffer.add("A", T0, -1, rest % LARGEST, -1)
    with pytest.raises(PrecisionError, match=r"A: with row 0 .* leaves 128 bits"):
        buffer.add("A", T0, -1, 1, -1)
    buffer.add("A", T0 + 1, LARGEST, 4, -1)
    bars = buffer.flush_all()
    assert [bar.quote_volume for bar in bars] == [-(2**127) + 4 * LARGEST] * 2
    assert [bar.trade_count for bar in bars] == [5, 5]


def test_sums_that_cancel_out_are_bounded_by_what_went_into_them() -> None:
    # The five minutes come to nothing, each minute of them is near the end of 128 bits.
    buffer = BarBuffer(["1m", "5m"], negative_prices=True, lateness_s=3600)
    batch = buffer.new_batch()
    for n, price in enumerate((LARGEST, -LARGEST) * 2):
        batch.append("A", T0 + n * MINUTE, price, LARGEST, -1)
    bars: list[Any] = buffer.add_batch(batch)
    with pytest.raises(PrecisionError, match="leaves 128 bits"):
        buffer.add_batch(_huge(buffer, T0 + 4 * MINUTE, -LARGEST, 3))
    bars += buffer.add_batch(_huge(buffer, T0 + 4 * MINUTE, -LARGEST, 1))
    bars += buffer.flush_all()
    assert [(bar.spec, bar.quote_volume) for bar in bars] == [
        *(("1m", price * LARGEST) for price in (LARGEST, -LARGEST, LARGEST, -LARGEST, -LARGEST)),
        ("5m", -(LARGEST**2)),
    ]


def _huge(buffer: BarBuffer, time_ns: int, price: int, rows: int) -> TickBatch:
    batch = buffer.new_batch()
    for _ in range(rows):
        batch.append("A", time_ns, price, LARGEST, -1)
    return batch


# Bars.


def test_an_interval_without_trades_is_flat_at_a_negative_close() -> None:
    buffer = BarBuffer("1m", negative_prices=True, empty="fill", grace_s=0)
    buffer.add("A", T0, "-5", "1")
    bars: list[Any] = buffer.advance_clock(T0 + 3 * MINUTE)
    assert [(bar.open, bar.high, bar.low, bar.close, bar.trade_count) for bar in bars] == [
        (-5, -5, -5, -5, 1), (-5, -5, -5, -5, 0), (-5, -5, -5, -5, 0)
    ]  # fmt: skip
    widened = buffer.add("A", T0 + 3 * MINUTE, "-0.5", "1") + buffer.flush_all()
    assert [bar.close for bar in widened] == [D("-0.5")]


def test_a_gap_without_prices_has_none_beside_negative_ones() -> None:
    buffer = BarBuffer("1m", negative_prices=True, grace_s=0)
    buffer.add("A", T0, "-5", "1")
    buffer.advance_clock(T0 + MINUTE)
    bars = buffer.advance_clock(T0 + 2 * MINUTE, feed_up=False)
    bars += buffer.advance_clock(T0 + 3 * MINUTE, feed_up=False)
    empty = [bar for bar in bars if not bar.trade_count]
    assert empty
    assert {(bar.open, bar.high, bar.low, bar.close) for bar in empty} == {(None,) * 4}


def test_a_value_bar_ends_when_the_sum_with_its_signs_reaches_the_step() -> None:
    buffer = BarBuffer("value:10", negative_prices=True)
    closed = []
    for n, price in enumerate(("6", "-3", "6", "2", "-1")):
        closed += buffer.add("A", T0 + n, price, "1")
    assert [(bar.quote_volume, bar.trade_count) for bar in closed] == [(D(11), 4)]
    assert [(bar.quote_volume, bar.trade_count) for bar in buffer.flush_all()] == [(D(-1), 1)]


def test_bars_of_negative_prices_merge() -> None:
    times = [T0, T0 + 1, T0 + 2, T0 + 3]
    whole = aggregate(times, ["-1", "0.25", "-8", "3"], ["1"] * 4, symbol="A", negative_prices=True)
    parts = [
        aggregate(times[k : k + 2], ["-1", "0.25", "-8", "3"][k : k + 2], ["1"] * 2, symbol="A", negative_prices=True)
        for k in (0, 2)
    ]
    (merged,), (bar,) = parts[0].merge(parts[1]).to_bars(), whole.to_bars()
    assert (merged.open, merged.high, merged.low, merged.close) == (bar.open, bar.high, bar.low, bar.close)
    assert (merged.low, merged.quote_volume, merged.vwap) == (D(-8), D("-5.75"), D("-1.4375"))


def test_a_negative_price_that_does_not_fit_the_wider_scale_is_not_merged() -> None:
    deep = aggregate([T0], ["-900000000000000000"], ["1"], symbol="A", negative_prices=True)
    fine = aggregate([T0], ["0.001"], ["1"], symbol="A", negative_prices=True)
    for one, other in ((deep, fine), (fine, deep)):
        with pytest.raises(PrecisionError, match="does not fit with 3 and 0"):
            one.merge(other)


def bars_batch() -> BarBatch:
    return aggregate(
        [T0, T0 + 1, T0 + MINUTE], ["-1.5", "2", "-0.125"], ["3", "1", "1"], side=[1, 0, 1], symbol="A",
        negative_prices=True,
    )  # fmt: skip


def test_negative_numbers_are_right_in_numpy() -> None:
    columns = bars_batch().to_numpy()
    assert columns["open"].tolist() == [-1.5, -0.125]
    assert columns["high"].tolist() == [2, -0.125]
    assert columns["low"].tolist() == [-1.5, -0.125]
    assert columns["quote_volume"].tolist() == [-2.5, -0.125]
    assert columns["taker_buy_quote_volume"].tolist() == [-4.5, -0.125]


def test_negative_numbers_are_right_in_arrow() -> None:
    table = pa.table(bars_batch())
    assert table["low"].to_pylist() == [D("-1.5"), D("-0.125")]
    assert table["close"].to_pylist() == [2, D("-0.125")]
    assert table["quote_volume"].to_pylist() == [D("-2.5"), D("-0.125")]
    assert table["taker_buy_quote_volume"].to_pylist() == [D("-4.5"), D("-0.125")]


def test_negative_sums_beyond_38_digits_are_no_arrow_decimals() -> None:
    times = [T0] * 2
    fits = aggregate(times[:1], [-(10**18)], [10**18], negative_prices=True)
    assert pa.table(fits)["quote_volume"].to_pylist() == [-(10**36)]
    beyond = aggregate(times, [-LARGEST] * 2, [LARGEST] * 2, negative_prices=True)
    with pytest.raises(PrecisionError, match="more than the 38 digits"):
        pa.table(beyond)


def test_negative_numbers_are_right_in_csv() -> None:
    line = csv_line(bars_batch().to_bars()[0])
    assert ",-1.5,2,-1.5,2,4,-2.5," in line


def test_a_bar_of_negative_prices_may_have_a_negative_quote_volume_and_no_other_may() -> None:
    (bar,) = feed("-1")
    fields: dict[str, Any] = {
        name: getattr(bar, name) for name in ("symbol", "spec", "open_time", "close_time", "volume", "trade_count")
    }
    prices: dict[str, Any] = dict.fromkeys(("open", "high", "low", "close"), D(-1))
    assert OHLCVBar(**fields, **prices, quote_volume=D(-2)).vwap == -1
    with pytest.raises(ValueError, match=r"quote volume \(-2\)"):
        OHLCVBar(**fields, **prices | dict.fromkeys(prices, D(1)), quote_volume=D(-2))


# Columns.


@pytest.mark.parametrize(
    "column",
    [
        ["-1.5", "0", "2", "-0.25"],
        [D("-1.5"), D(0), D(2), D("-0.25")],
        np.array(["-1.5", "0", "2", "-0.25"]),
        pa.array([D("-1.5"), D(0), D(2), D("-0.25")]),
        pa.array([D("-1.5"), D(0), D(2), D("-0.25")], pa.decimal128(30, 20)),
        pa.array([D("-1.5"), D(0), D(2), D("-0.25")], pa.decimal64(9, 4)),
        pa.array([D("-1.5"), D(0), D(2), D("-0.25")], pa.decimal32(9, 4)),
        pa.array(["-1.5", "0", "2", "-0.25"]),
        pa.array(["-1.5", "0", "2", "-0.25"]).dictionary_encode(),
    ],
    ids=lambda column: str(getattr(column, "type", type(column).__name__)),
)
def test_columns_of_any_type_may_hold_prices_at_or_below_zero(column: Any) -> None:
    made: Any = aggregate(
        [T0 + n for n in range(4)],
        column,
        ["1"] * 4,
        symbol=["A", "B", "A", "B"],
        negative_prices=True,
    )
    assert [(bar.symbol, bar.open, bar.high, bar.low, bar.close) for bar in made.to_bars()] == [
        ("A", D("-1.5"), 2, D("-1.5"), 2), ("B", 0, 0, D("-0.25"), D("-0.25"))
    ]  # fmt: skip


def test_floats_and_mantissas_may_be_at_or_below_zero() -> None:
    times = [T0, T0 + 1, T0 + 2]
    for prices in (np.array([-37.63, 0.0, -2.125]), [-37630, 0, -2125]):
        (bar,) = aggregate(times, prices, [1, 1, 1], price_scale=3, negative_prices=True).to_bars()
        assert (bar.open, bar.high, bar.close) == (D("-37.63"), D(0), D("-2.125"))
    halves = aggregate(times[:2], np.array([-2.5, -3.5]), [1, 1], price_scale=0, negative_prices=True)
    assert [(bar.open, bar.close) for bar in halves.to_bars()] == [(D(-2), D(-4))]  # ties to even


def test_a_negative_size_is_refused_all_the_same() -> None:
    with pytest.raises(InvalidTickError, match="row 0: size -1 is not positive"):
        aggregate([T0], ["-1"], ["-1"], negative_prices=True)
    with pytest.raises(InvalidTickError, match="row 0: size -1 is not at least 1"):
        aggregate([T0], [-1], [-1], negative_prices=True)
    buffer = BarBuffer("1m", negative_prices=True)
    for size in ("0", "-1"):
        with pytest.raises(InvalidTickError, match=f"A: size {size} is not positive"):
            buffer.add("A", T0, "-1", size)
    assert buffer.flush_all() == []


@pytest.mark.parametrize("rows", [1, 2, 3000])
def test_the_lowest_mantissa_is_no_price(rows: int) -> None:
    prices = np.full(rows, -1, np.int64)
    prices[rows - 1] = -(2**63)
    message = f"row {rows - 1}: price {-(2**63)} is not at least {-LARGEST}"
    with pytest.raises(InvalidTickError, match=message):
        aggregate(np.full(rows, T0), prices, np.ones(rows, np.int64), negative_prices=True)
    with pytest.raises(PrecisionError, match="does not fit a 64-bit mantissa"):
        aggregate([T0], pa.array([D(-(2**63))], pa.decimal128(20, 0)), ["1"], negative_prices=True)


def test_void_ids_stand_between_prices_with_a_sign() -> None:
    buffer = BarBuffer("1m", ids="contiguous", negative_prices=True)
    rows = [(-1, "-4", "1"), (0, "-3", "2"), (1, "7", "0"), (2, "-5", "2"), (60, "1", "1")]
    batch = buffer.new_batch()
    for n, (second, price, size) in enumerate(rows):
        batch.append("A", T0 + second * SECOND, price, size, 1, n)
    bars: list[Any] = buffer.add_batch(batch)
    assert [(bar.status, bar.open, bar.high, bar.low, bar.close, bar.quote_volume) for bar in bars] == [
        ("PARTIAL", -4, -4, -4, -4, -4), ("COMPLETE", -3, -3, -5, -5, -16)
    ]  # fmt: skip
    assert buffer.stats.void_ids == 1


# Trades as objects.


def test_a_tick_carries_such_a_price_where_it_is_asked_for() -> None:
    tick = TickData("CL", T0, "-37.63", 2, "sell", negative_prices=True)
    assert tick.price == D("-37.63")
    assert copy.copy(tick) == pickle.loads(pickle.dumps(tick)) == tick
    buffer = BarBuffer("1m", negative_prices=True)
    buffer.add_tick(tick)
    assert [bar.quote_volume for bar in buffer.flush_all()] == [D("-75.26")]
    with pytest.raises(InvalidTickError, match=r"CL: price -37\.63 is not positive"):
        BarBuffer("1m").add_tick(tick)
    for price in ("NaN", "Infinity"):
        with pytest.raises(InvalidTickError, match=f"CL: price {price} is not finite"):
            TickData("CL", T0, price, 1, negative_prices=True)


def test_a_late_trade_at_a_negative_price_is_told() -> None:
    late: list[TickData] = []
    buffer = BarBuffer("1m", negative_prices=True, lateness_s=0, on_late=late.append)
    buffer.add("A", T0, "-1", "1")
    buffer.add("A", T0 + 5 * MINUTE, "-2", "1")
    buffer.add("A", T0 + 1, "-3.5", "1")
    assert [(tick.price, tick.time_ns) for tick in late] == [(D("-3.5"), T0 + 1)]


# Snapshots and copies.


@settings(max_examples=examples(30))
@given(scenarios(negative_prices=True), st.integers(0, 40))
def test_a_buffer_with_prices_of_any_sign_goes_on_from_its_snapshot(scenario: Scenario, cut: int) -> None:
    buffer, twin = buffer_for(scenario), buffer_for(scenario)
    assert replay(buffer, scenario.events[:cut], flush=False) == replay(twin, scenario.events[:cut], flush=False)
    after = buffer_for(scenario)
    after.load(snapshots.unpack(snapshots.pack(buffer.dump())), continues=True)
    assert replay(after, scenario.events[cut:]) == replay(twin, scenario.events[cut:])


def test_a_snapshot_of_prices_with_a_sign_is_refused_by_a_buffer_without() -> None:
    content = BarBuffer("1m", negative_prices=True).dump()
    with pytest.raises(ValueError, match="its negative_prices are True, not False"):
        BarBuffer("1m").load(content)
    with pytest.raises(ValueError, match="its negative_prices are False, not True"):
        BarBuffer("1m", negative_prices=True).load(BarBuffer("1m").dump())
    with pytest.raises(ValueError, match="its negative_prices are 1, not True"):
        BarBuffer("1m", negative_prices=True).load(content | {"negative_prices": 1})


@pytest.mark.parametrize("closed", [False, True])
def test_a_snapshot_with_a_price_below_zero_that_says_it_has_none_is_refused(closed: bool) -> None:
    buffer = BarBuffer("1m", negative_prices=True)
    buffer.add("A", T0, "-1", "1")
    buffer.add("A", T0 + closed * MINUTE, "5", "1")
    with pytest.raises(ValueError, match=r"bars? of A 1m contradicts? "):
        BarBuffer("1m").load(buffer.dump() | {"negative_prices": False})


def test_a_widening_after_a_snapshot_minds_the_lowest_price() -> None:
    buffer = BarBuffer("1m", negative_prices=True)
    buffer.add("A", T0, -LARGEST, "1")
    after = BarBuffer("1m", negative_prices=True)
    after.load(buffer.dump(), continues=True)
    with pytest.raises(PrecisionError, match=f"prices up to {LARGEST} were seen"):
        after.add("A", T0, "0.5", "1")


def test_a_copy_and_a_pickle_take_such_prices_too() -> None:
    buffer = BarBuffer("1m", negative_prices=True)
    buffer.add("A", T0, "-1", "1")
    for twin in (copy.copy(buffer), pickle.loads(pickle.dumps(buffer))):
        twin.add("A", T0, "-2", "1")
        assert [(bar.open, bar.close) for bar in twin.flush_all()] == [(-1, -2)]
    assert copy.copy(buffer.instruments).negative_prices


# Refused everywhere else.


@pytest.mark.parametrize("price", ["0", "-1", "-37.63", "-0.0"])
def test_such_a_price_is_refused_where_nobody_said_so(price: str) -> None:
    with pytest.raises(InvalidTickError, match=f"A: price {price} is not positive"):
        BarBuffer("1m").add("A", T0, price, "1")
    with pytest.raises(InvalidTickError, match=r"price .* is not (positive|at least 1)"):
        aggregate([T0], [price], ["1"])
    with pytest.raises(InvalidTickError, match=f"A: price {price} is not positive"):
        TickData("A", T0, price, "1")


def test_an_inverse_contract_is_refused_beside_negative_prices() -> None:
    instruments = Instruments("own", negative_prices=True)
    with pytest.raises(
        PrecisionError, match="own BTCUSD: an inverse contract, of size 100, has no price at or below zero"
    ):
        instruments.add("BTCUSD", contract_size="100")
    assert "BTCUSD" not in instruments


def test_instruments_that_are_given_say_so_themselves() -> None:
    assert BarBuffer("1m", instruments=Instruments(negative_prices=True)).add("A", T0, "-1", "1") == []
    with pytest.raises(ValueError, match=r"negative_prices=True needs Instruments\(negative_prices=True\)"):
        BarBuffer("1m", instruments=Instruments(), negative_prices=True)


# Live.


def sample(text: str, time_ns: int) -> bytes:
    return f'{{"conid":41,"_updated":{time_ns // 1_000_000},{text},"topic":"smd+41"}}'.encode()


def test_interactive_brokers_alone_declares_negative_prices() -> None:
    declared = {name for name, markets in EXCHANGES.items() for one in markets.values() if one.negative_prices}
    assert declared == {"interactive_brokers"}


async def test_a_stream_from_the_gateway_takes_prices_below_zero() -> None:
    ticks: list[TickData] = []
    bars: list[Any] = []
    events: list[MarketDataEvent] = []
    messages = [
        sample('"31":"10.01","7059":"1"', T0 - MINUTE),
        sample('"31":"0.00"', T0),
        sample('"31":"-37.63","84":"-38","88":"1","86":"-37","85":"2"', T0 + SECOND),
        sample('"31":"-1,300.5","7059":"2"', T0 + 2 * SECOND),
        sample('"31":"C-37.63"', T0 + 3 * SECOND),
        sample('"31":"1"', T0 + MINUTE),
    ]

    async def serve(connection: ServerConnection) -> None:
        async for request in connection:
            if str(request).startswith("smd+41"):
                for message in messages:
                    await connection.send(message.decode())

    async with TradeServer(keep_silent, serve) as server:
        config = StreamConfig(close_by="trades")
        adapter = BaseWebSocketAdapter(
            find_exchange("interactive_brokers"),
            config,
            url=server.url,
            on_tick=ticks.append,
            on_bar=bars.append,
            on_event=events.append,
        )
        await adapter.subscribe(["41"])
        await adapter.connect()
        await until(lambda: len(bars) >= 2)
        stats = adapter.session.stats
        await adapter.disconnect()
    assert [tick.price for tick in ticks] == [D("10.01"), 0, D("-37.63"), D("-1300.5"), 1]
    bar = bars[1]
    assert (bar.open, bar.high, bar.low, bar.close, bar.volume) == (0, 0, D("-1300.5"), D("-1300.5"), 4)
    # All of this came at once: what the gateway sends is sure to be all only from a grace later on.
    assert (bar.quote_volume, bar.status) == (D("-2638.63"), "PARTIAL")
    quotes = [event.data for event in events if isinstance(event.data, Quote)]
    assert [(quote.bid, quote.ask) for quote in quotes] == [(D(-38), D(-37))]
    assert stats.parse_errors == 0


def binance(price: str, trade_id: int, time_ns: int) -> bytes:
    ms = time_ns // 1_000_000
    return (
        f'{{"e":"trade","E":{ms},"s":"BTCUSDT","t":{trade_id},"p":"{price}","q":"2","T":{ms},"m":true,"M":true}}'
    ).encode()


@pytest.mark.parametrize("told", [False, True])
def test_any_exchange_can_declare_them_and_all_others_refuse_them(told: bool) -> None:
    usual = find_exchange("binance", "spot")
    signed = copy.copy(usual)
    object.__setattr__(signed, "negative_prices", True)  # as a class that declares it would have it
    found = []
    for exchange in (signed, usual):
        bars: list[Any] = []
        ticks: list[TickData] = []
        callbacks = Callbacks(on_bar=bars.append, on_tick=ticks.append if told else None)
        session = Session(exchange, StreamConfig(bars="1m", close_by="trades"), callbacks)
        for n, price in enumerate(("1", "-1.5", "0", "-2", "3")):
            session.receive([binance(price, n + 1, T0 + n * 15 * SECOND)], 0)
        found += [(bar.open, bar.low, bar.close, bar.trade_count, bar.status) for bar in bars]
        assert session.buffer_stats.refused == (3 if exchange is usual else 0)
    assert found == [(1, -2, -2, 4, "PARTIAL"), (1, 1, 1, 1, "GAP")]


def test_a_watermark_and_late_trades_find_their_bars_below_zero() -> None:
    scenario = Scenario(
        ("1m", "5m"), "none", 0, 60,
        (
            Trade("A", T0, D(-1), D(1)), Watermark(T0 + MINUTE), Trade("A", T0 + MINUTE, D(0), D(1)),
            Trade("A", T0 + 1, D(-2), D(3), 1),
        ),
        negative_prices=True,
    )  # fmt: skip
    assert replay(buffer_for(scenario), scenario.events) == expected(oracle_for(scenario), scenario.events)
