"""BarBuffer: settings, callbacks, counters, and the live path that refuses only the rows that are bad."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from examples import examples
from fastbars.bars import BarStatus, OHLCVBar
from fastbars.buffer import BarBuffer, BufferStats
from fastbars.errors import InvalidTickError, PrecisionError
from fastbars.kernel.batch import TickBatch
from fastbars.kernel.instruments import Instruments
from fastbars.ticks import TickData, TickSide

SECOND = 1_000_000_000
LARGEST = 2**63 - 1


def tick(second: float, trade_id: int | None = None, symbol: str = "A", price: int = 5) -> TickData:
    return TickData(symbol, round(second * SECOND), price, 1, "buy", trade_id)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ids": "some"}, "ids 'some' is not one of contiguous, sequenced, unique, none, sampled"),
        ({"grace_s": -1}, "grace -1 s, lateness 60.0 s and heal horizon 3600.0 s must not be negative"),
        ({"lateness_s": -0.5}, "grace 1.0 s, lateness -0.5 s and heal horizon 3600.0 s must not be negative"),
        ({"heal_horizon_s": -1}, "heal horizon -1 s must not be negative"),
        ({"empty": "flat"}, "empty 'flat' is not one of skip, fill"),
        ({"bars": []}, "no bar spec is given"),
    ],
)
def test_settings_that_make_no_sense_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BarBuffer(**arguments)


def test_a_trade_without_id_is_refused_where_ids_prove_completeness_and_taken_where_not() -> None:
    buffer = BarBuffer("1m", ids="contiguous", exchange="okx")
    with pytest.raises(InvalidTickError, match="okx A: the trade has no id"):
        buffer.add_tick(tick(0))
    assert buffer.stats == BufferStats()
    assert BarBuffer("1m").add_tick(tick(0)) == []


def test_every_issued_bar_goes_to_the_callbacks_before_it_is_returned() -> None:
    singles: list[OHLCVBar] = []
    lists: list[list[OHLCVBar]] = []
    buffer = BarBuffer(["1s", "2s"], on_bar=singles.append, on_bars=lists.append)
    assert buffer.add_tick(tick(0)) == []
    closed = buffer.add_tick(tick(2))
    ended = buffer.flush_all()
    assert [bar.spec for bar in closed] == [bar.spec for bar in ended] == ["1s", "2s"]
    assert singles == closed + ended
    assert lists == [closed, ended]
    assert buffer.stats.bars == 4


@pytest.mark.filterwarnings("ignore")
def test_a_callback_that_raises_is_counted_and_loses_no_bar() -> None:
    taken: list[OHLCVBar] = []

    def broken(bar: OHLCVBar) -> None:
        taken.append(bar)
        raise RuntimeError("the user's code")

    def broken_list(bars: list[OHLCVBar]) -> None:
        raise RuntimeError("the user's code")

    def broken_late(trade: TickData) -> None:
        raise RuntimeError("the user's code")

    buffer = BarBuffer("1s", lateness_s=0, on_bar=broken, on_bars=broken_list, on_late=broken_late)
    bars = buffer.add_tick(tick(0)) + buffer.add_tick(tick(1)) + buffer.add_tick(tick(2.5)) + buffer.add_tick(tick(1))
    assert taken == bars
    assert [bar.status for bar in bars] == ["PARTIAL", "UNVERIFIABLE", "GAP"]
    assert buffer.stats.callback_errors == 3 + 3 + 1


def test_a_late_trade_reaches_on_late_as_it_came_and_once_for_all_specs() -> None:
    late: list[TickData] = []
    buffer = BarBuffer(["1s", "2s", "1h"], ids="contiguous", lateness_s=0, on_late=late.append)
    buffer.add_tick(TickData("A", 0, "1.25", 1, trade_id=1))
    buffer.add_tick(TickData("A", 9 * SECOND, "1.250001", 1, trade_id=2))
    old = TickData("A", 3 * SECOND, "7.5", "0.25", TickSide.SELL, 3, 5)
    assert buffer.add_tick(old) == []
    assert late == [old]
    assert (buffer.stats.late, buffer.stats.trades) == (1, 2)


def test_a_callback_may_feed_the_buffer_again() -> None:
    bars: list[OHLCVBar] = []

    def answer(bar: OHLCVBar) -> None:
        bars.append(bar)
        if len(bars) == 1:
            buffer.add_tick(tick(9))

    buffer = BarBuffer("1s", on_bar=answer)
    buffer.add_tick(tick(0))
    buffer.add_tick(tick(5))
    assert [bar.open_time.second for bar in bars] == [0, 5]


def test_flushing_one_symbol_leaves_the_others_open() -> None:
    buffer = BarBuffer(["1m", "tick:9"])
    for symbol in ("B", "A"):
        buffer.add_tick(tick(0, symbol=symbol))
    assert buffer.flush_symbol("unknown") == []
    assert [(bar.symbol, bar.spec) for bar in buffer.flush_symbol("A")] == [("A", "1m"), ("A", "tick:9")]
    assert buffer.flush_symbol("A") == []
    assert [(bar.symbol, bar.spec) for bar in buffer.flush_all()] == [("B", "1m"), ("B", "tick:9")]


def test_bars_without_a_trade_come_in_order_of_first_appearance_then_of_the_specs() -> None:
    for close in ("flush_all", "advance_clock", "advance_watermark"):
        buffer = BarBuffer(["2s", "1s"])
        buffer.instruments.add("quiet")
        for symbol in ("B", "A"):
            buffer.add_tick(tick(0, symbol=symbol))
        bars = buffer.flush_all() if close == "flush_all" else getattr(buffer, close)(9 * SECOND)
        assert [(bar.symbol, bar.spec) for bar in bars] == [("B", "2s"), ("B", "1s"), ("A", "2s"), ("A", "1s")]


def test_next_close_says_when_a_watermark_or_clock_has_something_to_do() -> None:
    buffer = BarBuffer(["10s", "1m", "tick:5"], grace_s=2.5)
    assert buffer.next_close_ns == LARGEST
    buffer.add_tick(tick(3))
    assert buffer.next_close_ns == 12_500_000_000
    assert buffer.advance_clock(12_499_999_999) == []
    assert [bar.spec for bar in buffer.advance_clock(12_500_000_000)] == ["10s"]
    assert buffer.next_close_ns == 62_500_000_000
    assert [bar.spec for bar in buffer.advance_watermark(62_500_000_000)] == ["1m"]
    assert buffer.next_close_ns == LARGEST


def test_missing_ids_are_known_by_symbol_and_only_where_ids_are_followed() -> None:
    buffer, without = BarBuffer("1m", ids="contiguous"), BarBuffer("1m")
    for one in (buffer, without):
        for trade_id in (1, 5):
            one.add_tick(tick(0, trade_id))
    assert buffer.missing("A") == [(2, 4)]
    assert buffer.missing("unknown") == without.missing("A") == []


def test_a_scale_widened_before_a_bar_is_closed_without_a_trade_changes_no_value() -> None:
    buffer = BarBuffer(["1s", "volume:50"], ids="contiguous")
    buffer.instruments.add("A", 2, 2)
    buffer.add_tick(TickData("A", 0, "1.25", "0.75", trade_id=1))
    waiting = buffer.new_batch()
    waiting.append("A", 10 * SECOND, "1.2500000001", "0.7500001", 0, 2)
    (second,) = buffer.advance_watermark(5 * SECOND)
    (volume,) = buffer.flush_all()
    for bar in (second, volume):
        assert (bar.open, bar.volume, bar.quote_volume) == (Decimal("1.25"), Decimal("0.75"), Decimal("0.9375"))
    assert buffer.add_batch(waiting) == []
    (amended,) = buffer.add_tick(TickData("A", 1, "2", "1", trade_id=3))
    assert (amended.revision, amended.volume, amended.quote_volume) == (1, Decimal("1.75"), Decimal("2.9375"))


def test_a_lost_trade_reissues_a_bar_with_its_values_though_a_scale_was_widened() -> None:
    buffer = BarBuffer("1s")
    buffer.add_tick(TickData("A", 0, "1.25", 3))
    buffer.add_tick(TickData("A", SECOND, "1.25", 3))
    buffer.instruments.add("A", 9, 9)
    (bar,) = buffer.note_lost("A", 0)
    assert (bar.status, bar.open, bar.volume, bar.quote_volume) == (
        BarStatus.GAP,
        Decimal("1.25"),
        Decimal(3),
        Decimal("3.75"),
    )


# Sequenced messages.


def test_sequences_reveal_a_loss_but_prove_no_bar_complete() -> None:
    buffer = BarBuffer("1s", ids="sequenced")
    batch = buffer.new_batch()
    for second, trade_id, sequence in ((0, 70, 1), (1, 90, 2), (2, 95, 3), (3, 99, 5), (4, 100, 6)):
        batch.append("A", second * SECOND, 1, 1, 0, trade_id, sequence=sequence)
    bars = buffer.add_batch(batch)
    assert [(bar.first_trade_id, bar.status) for bar in bars] == [
        (70, "PARTIAL"), (90, "UNVERIFIABLE"), (95, "GAP"), (99, "GAP"),
    ]  # fmt: skip
    assert buffer.missing("A") == [(4, 4)]


# The live path.

CORRUPTIONS: list[dict[str, int]] = [
    {"price": 0}, {"size": -1}, {"time_ns": LARGEST}, {"side": 3}, {"symbol_id": 9}, {"last_id": -1}, {"count": 0},
]  # fmt: skip


@settings(max_examples=examples(100))
@given(
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from([None, None, None, *CORRUPTIONS])), max_size=12),
)
def test_the_live_path_refuses_only_the_bad_rows(rows: list[tuple[int, dict[str, int] | None]]) -> None:
    buffer, twin = BarBuffer(["1s", "tick:3"], ids="contiguous"), BarBuffer(["1s", "tick:3"], ids="contiguous")
    table, second, good = [], 0, []
    for number, (step, corruption) in enumerate(rows):
        second += step
        row = {
            "time_ns": second * SECOND, "symbol_id": 0, "price": 5, "size": 1, "side": 1,
            "first_id": number, "last_id": number, "count": 1,
        }  # fmt: skip
        good += [] if corruption else [row]
        table.append(row | (corruption or {}))
    for one in (buffer, twin):
        one.instruments.add("A")
    got = buffer.add_live(columns(buffer.instruments, table))
    wanted = []
    for row in table:
        if row in good:
            wanted += twin.add_batch(columns(twin.instruments, [row]))
        elif row["symbol_id"] == 0:
            wanted += twin.note_lost("A", row["time_ns"])
    assert got == wanted
    assert buffer.flush_all() == twin.flush_all()
    assert buffer.stats.refused == len(table) - len(good)
    assert buffer.stats.trades == len(good)
    assert buffer.missing("A") == twin.missing("A")


def columns(instruments: Instruments, table: list[dict[str, int]]) -> TickBatch:
    names = ("time_ns", "symbol_id", "price", "size", "side", "first_id", "last_id", "count")
    if not table:
        return TickBatch(instruments, counts=True)
    return TickBatch.from_columns(instruments, **{name: [row[name] for row in table] for name in names})


def test_a_row_refused_for_its_sum_flags_its_bar_where_no_id_will() -> None:
    buffer = BarBuffer("1s")
    batch = buffer.new_batch()
    for second, size in ((0, 1), (1, LARGEST), (1, LARGEST), (1, LARGEST), (2, 1)):
        batch.append("A", second * SECOND, LARGEST, size)
    bars = buffer.add_live(batch)
    assert [(bar.open_time.second, bar.trade_count, bar.status) for bar in bars] == [(0, 1, "PARTIAL"), (1, 2, "GAP")]
    assert bars[1].quote_volume == 2 * LARGEST**2
    assert (buffer.stats.refused, buffer.stats.trades) == (1, 4)


def test_an_error_that_names_no_row_is_raised_on_the_live_path_too() -> None:
    buffer = BarBuffer("1s")
    batch = TickBatch(Instruments(), ids=False)
    batch.append("A", 0, 1, 1)
    with pytest.raises(InvalidTickError, match="the batch belongs to other instruments than this kernel"):
        buffer.add_live(batch)
    assert buffer.stats == BufferStats()


def test_a_tick_that_does_not_fit_beside_its_symbol_is_refused_and_the_buffer_goes_on() -> None:
    buffer = BarBuffer("1s", exchange="okx")
    buffer.add_tick(TickData("A", 0, LARGEST, 1))
    with pytest.raises(PrecisionError, match=r"okx A: price 0\.5 needs 1 decimals"):
        buffer.add_tick(TickData("A", 0, "0.5", 1))
    buffer.add_tick(TickData("A", 0, 7, 1))
    (bar,) = buffer.flush_all()
    assert (bar.high, bar.low, bar.trade_count) == (Decimal(LARGEST), Decimal(7), 2)


def test_every_trade_is_in_one_of_the_first_four_counters() -> None:
    buffer = BarBuffer("1s", ids="contiguous", lateness_s=0)
    batch = buffer.new_batch()
    for second, first, last in ((0, 1, 1), (1, 2, 2), (1, 2, 2), (5, 3, 5), (5, 5, 6), (2, 6, 6), (6, 9, 9)):
        batch.append("A", second * SECOND, 1, 1, 0, first, last)
    buffer.add_live(batch)
    buffer.note_lost("A", 6 * SECOND)
    stats = buffer.stats
    assert (stats.trades, stats.duplicates, stats.late, stats.refused) == (4, 1, 2, 1)


def test_bars_of_sampled_prices_are_sampled_at_best_and_of_unique_ids_unverifiable() -> None:
    for ids, status in (("sampled", BarStatus.SAMPLED), ("unique", BarStatus.UNVERIFIABLE)):
        buffer = BarBuffer("1m", ids=ids)  # type: ignore[arg-type]
        issued = [bar for second in (30, 61, 121, 185) for bar in buffer.add_tick(tick(second))] + buffer.flush_all()
        assert [bar.status for bar in issued] == [BarStatus.PARTIAL, status, status, BarStatus.PARTIAL]
        assert {(bar.first_trade_id, bar.last_trade_id) for bar in issued} == {(None, None)}


def test_an_outage_flags_the_bars_it_reaches_into_where_no_id_would_reveal_a_loss() -> None:
    minute = 60_000_000_000
    buffer = BarBuffer("1m", ids="none")
    for symbol in ("A", "B"):
        for time_ns in (10, minute + 10):
            buffer.add_tick(TickData(symbol, time_ns, "1", "1"))
    assert buffer.note_outage(minute + 20, 2 * minute + 5, ["A", "unheard of"]) == []  # what it reaches is open still
    issued = [
        f"{bar.symbol} {bar.open_time:%M} {bar.status}"
        for symbol in ("A", "B")
        for time_ns in (2 * minute + 10, 3 * minute + 10, 4 * minute)
        for bar in buffer.add_tick(TickData(symbol, time_ns, "1", "1"))
    ]
    assert issued == ["A 01 GAP", "A 02 GAP", "A 03 UNVERIFIABLE", *[f"B 0{n} UNVERIFIABLE" for n in (1, 2, 3)]]
    (again,) = buffer.note_outage(3 * minute + 20, 3 * minute + 30, ["B"])
    assert (again.symbol, again.open_time.minute, again.status, again.revision) == ("B", 3, "GAP", 1)


def test_an_outage_is_left_to_the_ids_where_there_are_any() -> None:
    buffer = BarBuffer("1m", ids="contiguous")
    buffer.add_tick(TickData("A", 10, "1", "1", trade_id=1))
    assert buffer.note_outage(11, 12) == []
    (bar,) = buffer.add_tick(TickData("A", 60_000_000_000, "1", "1", trade_id=2))
    assert bar.status == "PARTIAL"


# One trade at a time, from text.


ADDED = st.lists(
    st.tuples(
        st.sampled_from(("A", "BB", "ÇC")),
        st.integers(0, 200),
        st.integers(1, 10**7),
        st.integers(0, 6),
        st.sampled_from((-1, 0, 1)),
    ),
    max_size=40,
)


@given(ADDED, st.sampled_from(("contiguous", "none")))
def test_trades_added_one_by_one_give_the_bars_of_one_batch(trades: list[Any], ids: Any) -> None:
    one, text, many = (BarBuffer(["1m", "tick:3"], ids=ids) for _ in range(3))
    batch = many.new_batch()
    bars: list[OHLCVBar] = []
    from_text: list[OHLCVBar] = []
    for number, (symbol, second, mantissa, scale, side) in enumerate(trades):
        price, time_ns = Decimal(mantissa).scaleb(-scale), second * 1_000_000_000
        name = {1: "buy", 0: "unknown", -1: "sell"}[side]
        bars += one.add_tick(TickData(symbol, time_ns, price, price, TickSide.of(side), number))
        from_text += text.add(symbol, time_ns, f"{price:f}", f"{price:f}".encode(), side=name, trade_id=number)
        batch.append(symbol, time_ns, price, price, side, number)
    assert bars == from_text
    in_one = many.add_batch(batch)
    assert sorted(map(repr, bars)) == sorted(map(repr, in_one))
    assert one.flush_all() == text.flush_all() == many.flush_all()
    assert one.stats == text.stats == many.stats
    assert one.rows_taken == len(trades)


def test_add_takes_text_bytes_int_and_decimal_and_every_way_to_say_a_side() -> None:
    buffer = BarBuffer("1m")
    sides: tuple[Any, ...] = ("buy", 1, TickSide.BUY, True, "sell", TickSide.UNKNOWN, 0)
    prices: tuple[Any, ...] = ("1.5", b"2.5", 3, Decimal("0.5"), "1", "1", "1")
    for number, (price, side) in enumerate(zip(prices, sides, strict=True)):
        assert buffer.add("A", number, price, "1", side) == []
    (bar,) = buffer.flush_all()
    assert [str(price) for price in (bar.open, bar.high, bar.low, bar.close)] == ["1.5", "3", "0.5", "1"]
    assert [str(volume) for volume in (bar.volume, bar.taker_buy_volume)] == ["7", "4"]


def test_add_tells_an_aggregated_trade_by_its_last_id_or_count() -> None:
    buffer = BarBuffer("1m", ids="contiguous")
    buffer.add("A", 0, "1", "1", trade_id=5, last_trade_id=8)
    buffer.add("A", 1, "1", "1", trade_id=9, last_trade_id=10, trade_count=2)
    (bar,) = buffer.flush_all()
    assert (bar.trade_count, bar.first_trade_id, bar.last_trade_id) == (6, 5, 10)


def test_the_list_that_add_returns_is_the_callers() -> None:
    buffer = BarBuffer("1m")
    nothing = buffer.add("A", 0, "1", "1")
    nothing.append("mine")  # type: ignore[arg-type]
    assert buffer.add("A", 1, "1", "1") == []


@pytest.mark.parametrize(
    ("trade", "error", "message"),
    [
        (("A", 0, 1.5, "1"), TypeError, "not float: 1.5"),
        (("A", 0, "x", "1"), PrecisionError, "A: 'x' is not a finite decimal number"),
        (("A", 0, "0", "1"), InvalidTickError, "A: price 0 is not positive"),
        (("A", 0, "1", "-1"), InvalidTickError, "A: size -1 is not positive"),
        (("A", 0.5, "1", "1"), TypeError, "float"),
        (("A", 5 * 10**18, "1", "1"), InvalidTickError, "time_ns 5000000000000000000 is not"),
        (("A", 0, "1", "1", "long"), InvalidTickError, "A: side 'long' is not buy, sell or unknown"),
        (("A", 0, "1", "1", 2), InvalidTickError, "A: side 2 is not buy"),
        (("A", 0, "1", "1", None), InvalidTickError, "A: side None is not buy"),
        (("A", 0, "1", "1", 10**30), InvalidTickError, "is not buy"),
        (("A", 0, "1", "1", 0, -1), InvalidTickError, "first_id -1 is not"),
        (("A", 0, "1", "1", 0, None), InvalidTickError, "A: the trade has no id"),
        ((None, 0, "1", "1"), TypeError, "symbol"),
        ((b"A", 0, "1", "1"), TypeError, "symbol"),
    ],
)
def test_a_trade_that_add_cannot_take_changes_nothing(
    trade: tuple[Any, ...], error: type[Exception], message: str
) -> None:
    options: dict[str, Any] = {} if len(trade) > 5 else {"trade_id": 8}
    buffer = BarBuffer("1m", ids="contiguous")
    buffer.add("A", 0, "1.25", "1", "buy", 7)
    before = buffer.stats.trades
    with pytest.raises(error, match=message):
        buffer.add(*trade, **options)
    assert buffer.stats.trades == before
    buffer.add("A", 1, "1.5", "1", "sell", 8)
    (bar,) = buffer.flush_all()
    assert (bar.trade_count, bar.high, bar.first_trade_id, bar.last_trade_id) == (2, Decimal("1.5"), 7, 8)


def test_late_trades_and_callbacks_work_for_single_trades() -> None:
    late: list[TickData] = []
    heard: list[OHLCVBar] = []
    buffer = BarBuffer("1m", lateness_s=0, on_late=late.append, on_bar=heard.append)
    buffer.add("A", 0, "1", "1")
    (first,) = buffer.add("A", 600_000_000_000, "2", "1")
    assert buffer.add("A", 1, "3", "1")[0].status is BarStatus.GAP
    assert [tick.price for tick in late] == [Decimal(3)]
    assert heard[0] == first
    assert (buffer.stats.trades, buffer.stats.late) == (2, 1)


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("spec", ["tick:3", "volume:900", "value:1000"])
@pytest.mark.parametrize("before", [[], [7]], ids=["before the first one", "in a hole"])
def test_a_path_driven_bar_that_a_late_trade_begins_counts_a_repeated_trade_once(
    spec: str, before: list[int], restart: bool
) -> None:
    def add(trade_id: int, last_trade_id: int | None = None, size: str = "1") -> list[OHLCVBar]:
        return buffer.add("X", 0, "1.5", size, 1, trade_id, last_trade_id)

    buffer = BarBuffer(spec, ids="contiguous")
    for trade_id in before:
        add(trade_id)
    assert len(add(10, 12, "900")) == 1
    assert add(9) == []  # the open bar's last id is the one before 10, which was taken already
    if restart:
        content = buffer.dump()
        buffer = BarBuffer(spec, ids="contiguous")
        buffer.load(content)
    for _ in range(2):
        assert add(10, 12, "900") == []
        assert add(9) == []
    assert buffer.stats.duplicates == 4
    add(13)
    assert [(bar.first_trade_id, bar.last_trade_id, bar.volume) for bar in buffer.flush_all()] == [(9, 13, Decimal(2))]


@pytest.mark.parametrize("size", ["0", "1"])
@pytest.mark.parametrize("specs", ["5s", "1s,5s", "5s,7s"])
def test_the_next_id_proves_a_bar_also_where_a_late_trade_has_opened_the_bar_after_it(specs: str, size: str) -> None:
    def add(second: int, trade_id: int, size: str = "1") -> list[OHLCVBar]:
        return [bar for bar in buffer.add("X", second * SECOND, "1", size, 0, trade_id) if bar.spec == "5s"]

    buffer = BarBuffer(specs.split(","), ids="contiguous", grace_s=0)
    add(0, 20)
    add(5, 21)
    (closed,) = [bar for bar in buffer.advance_watermark(10 * SECOND) if bar.spec == "5s"]
    assert closed.status == "PROVISIONAL"
    assert add(10, 19) == []  # from before the beginning: it proves nothing
    (proven,) = add(10, 22, size)
    assert (proven.open_time, proven.status, proven.revision) == (closed.open_time, "COMPLETE", 1)
    assert add(10, 23) == []
