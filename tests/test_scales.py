"""Scales widen together with the bars that they apply to: a trade that is refused leaves no trace."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from time import perf_counter
from typing import Any

import pytest
from hypothesis import example, given, settings, strategies as st

from fastbars import BarBuffer, InvalidTickError, PrecisionError, TickData
from fastbars.bars import OHLCVBar
from fastbars.exchanges import binance
from fastbars.exchanges.messages import Trade
from fastbars.live.config import StreamConfig
from fastbars.live.session import Session
from servers import START_MS, trade

SECOND, MINUTE = 10**9, 60 * 10**9
LARGEST = 2**63 - 1
FINE = "1.000000000000000001"
WIDE = "9000000000000000000"


def values(bar: OHLCVBar | None, *names: str) -> list[Any]:
    return [getattr(bar, name) for name in names]


def full(**options: Any) -> BarBuffer:
    """A buffer whose open bar has no room for sums with eighteen decimals."""
    buffer = BarBuffer("1h", ids="contiguous", **options)
    for trade_id in (1, 2, 3):
        buffer.add("X", trade_id * SECOND, "9", WIDE, 0, trade_id)
    return buffer


def add(buffer: BarBuffer, trade_id: int, price: str) -> list[OHLCVBar]:
    return buffer.add("X", trade_id * SECOND, price, "1", 0, trade_id)


def add_tick(buffer: BarBuffer, trade_id: int, price: str) -> list[OHLCVBar]:
    return buffer.add_tick(TickData("X", trade_id * SECOND, price, "1", 0, trade_id))


def add_batch(buffer: BarBuffer, trade_id: int, price: str) -> list[OHLCVBar]:
    batch = buffer.new_batch()
    batch.append("Y", trade_id * SECOND, "0.5", "1", 0, trade_id)
    batch.append("X", trade_id * SECOND, price, "1", 0, trade_id)
    return buffer.add_batch(batch)


def heal(buffer: BarBuffer, trade_id: int, price: str) -> list[OHLCVBar]:
    if not buffer.missing("X"):
        add(buffer, 100, "9")
    batch = buffer.new_batch()
    batch.append("X", trade_id * SECOND, price, "1", 0, trade_id)
    return buffer.heal(batch)


ENTRIES = pytest.mark.parametrize("entry", [add, add_tick, add_batch, heal])


@ENTRIES
def test_one_refused_trade_does_not_shut_its_symbol(entry: Callable[[BarBuffer, int, str], list[OHLCVBar]]) -> None:
    buffer = full()
    with pytest.raises(PrecisionError, match=f"X.*: price {FINE} and size 1 need 18 and 0 decimals"):
        entry(buffer, 4, FINE)
    assert buffer.instruments.scales("X") == (0, 0)
    for trade_id in (4, 5):
        entry(buffer, trade_id, "8")
    bar = buffer.current("X", "1h")
    assert values(bar, "trade_count", "low", "high") == [5 + (entry is heal), 8, 9]


@ENTRIES
def test_a_snapshot_behind_a_refused_trade_has_the_bars_values(
    entry: Callable[[BarBuffer, int, str], list[OHLCVBar]],
) -> None:
    buffer, other = full(), BarBuffer("1h", ids="contiguous")
    with pytest.raises(PrecisionError):
        entry(buffer, 4, FINE)
    other.load(buffer.dump(), continues=True)
    for one in (buffer, other):
        entry(one, 4, "9")
    assert buffer.current("X", "1h") == other.current("X", "1h")


def test_a_refused_batch_leaves_bars_scales_and_ids_as_they_were() -> None:
    buffer = full()
    before = buffer.dump()
    batch = buffer.new_batch()
    for symbol, trade_id, price in (("X", 4, "0.5"), ("Z", 1, "0.25"), ("X", 5, "7"), ("X", 6, FINE), ("Z", 2, "3")):
        batch.append(symbol, trade_id * SECOND, price, "1", 0, trade_id)
    with pytest.raises(PrecisionError, match="X: row 3: price") as caught:
        buffer.add_batch(batch)
    assert caught.value.row == 3
    after = buffer.dump()
    assert after["instruments"] == [("X", 0, 0, None), ("Z", 0, 0, None)]
    assert after["slots0"][: len(before["slots0"])] == before["slots0"]
    assert (after["records"], after["counters"], after["times"]) == (
        before["records"], before["counters"], before["times"],
    )  # fmt: skip
    assert buffer.current("Z", "1h") is None
    bars = buffer.add_live(batch)
    assert bars == []
    assert (buffer.stats.refused, buffer.missing("X")) == (1, [])
    assert buffer.instruments.scales("X") == (1, 0)


def test_a_trade_refused_for_another_reason_bounds_no_scale() -> None:
    buffer = BarBuffer("1m", ids="contiguous")
    buffer.add("X", 0, "1", "1", 0, 1)
    with pytest.raises(InvalidTickError, match="time_ns"):
        buffer.add("X", LARGEST, str(LARGEST), str(LARGEST), 0, 2)
    with pytest.raises(InvalidTickError, match="time_ns"):
        buffer.add("X", LARGEST, "0.000000000000000001", "0.000000000000000001", 0, 2)
    assert buffer.instruments.scales("X") == (0, 0)
    buffer.add("X", 0, "1.5", "0.000000001", 0, 2)
    buffer.add("X", 0, str(LARGEST // 10), "1", 0, 3)
    bar = buffer.current("X", "1m")
    assert values(bar, "high", "volume") == [LARGEST // 10, Decimal("2.000000001")]


def test_a_price_that_is_in_no_bar_any_more_bounds_no_scale() -> None:
    buffer = BarBuffer("1s", ids="contiguous", lateness_s=0)
    buffer.add("X", 0, str(LARGEST), "1", 0, 1)
    for trade_id in (2, 3):
        buffer.add("X", trade_id * SECOND, "5", "1", 0, trade_id)
    buffer.add("X", 3 * SECOND, FINE, "1", 0, 4)
    (bar,) = buffer.flush_all()
    assert values(bar, "high", "low") == [5, Decimal(FINE)]


def test_rows_of_a_batch_that_share_no_scale_with_a_refused_one_are_taken() -> None:
    buffer = full()
    batch = buffer.new_batch()
    for trade_id, price in ((4, "8"), (5, FINE), (6, "7"), (7, "6.5")):
        batch.append("X", trade_id * SECOND, price, "1", 0, trade_id)
    buffer.add_live(batch)
    bar = buffer.current("X", "1h")
    assert values(bar, "trade_count", "low", "close") == [6, Decimal("6.5"), Decimal("6.5")]
    assert (buffer.stats.refused, buffer.missing("X")) == (1, [(5, 5)])
    assert buffer.instruments.scales("X") == (1, 0)


@pytest.mark.parametrize(
    ("symbol", "time_ns", "price"), [("X", LARGEST, "1"), ("Y", SECOND, "1.5")], ids=["a rule", "decimals"]
)
def test_a_refused_row_behind_another_one_lets_none_escape(symbol: str, time_ns: int, price: str) -> None:
    buffer = BarBuffer("1h", ids="contiguous")
    for trade_id in (1, 2):  # a third would exceed 128 bits
        buffer.add("X", trade_id * SECOND, str(LARGEST), str(LARGEST), 0, trade_id)
    buffer.add("Y", SECOND, str(LARGEST), "1", 0, 1)
    batch = buffer.new_batch()
    batch.append("X", 3 * SECOND, str(LARGEST), str(LARGEST), 0, 3)
    batch.append(symbol, time_ns, price, "1", 0, 4 if symbol == "X" else 2)
    batch.append("Z", 4 * SECOND, "5", "1", 0, 1)
    buffer.add_live(batch)
    assert (buffer.stats.refused, buffer.stats.trades) == (2, 4)
    assert values(buffer.current("Z", "1h"), "close") == [5]


def test_bars_that_cannot_follow_a_declared_scale_cost_the_other_symbols_nothing() -> None:
    symbols = [f"S{number}" for number in range(5000)]

    def fastest_s(declares: bool) -> float:
        buffer = full()
        for symbol in symbols:
            buffer.add(symbol, SECOND, "1.5", "1", 0, 1)
        if declares:
            buffer.instruments.add("X", price_scale=18)
        took = []
        for round_number in range(20):
            start = perf_counter()
            for symbol in symbols[:10]:
                buffer.add(symbol, 2 * SECOND, "1.5", "1", 0, 2 + round_number)
            took.append(perf_counter() - start)
        return min(took)

    # By a look at the bars of all symbols before each trade it took 100 times as long.
    assert fastest_s(declares=True) < 20 * fastest_s(declares=False)


NUMBERS = ("1", "7", "0.5", "0.25", "1234.5678", "60000", FINE, "0.000000000000000001", WIDE, str(LARGEST))
ROWS = st.lists(
    st.tuples(
        st.sampled_from("AB"),
        st.sampled_from([0, 1, SECOND, MINUTE]),
        st.sampled_from(NUMBERS),
        st.sampled_from(NUMBERS),
    ),
    max_size=14,
)


def fed(rows: list[tuple[str, int, str, str]], cuts: frozenset[int], ids: Any) -> tuple[Any, ...]:
    buffer = BarBuffer(["1s", "1m", "tick:2", "volume:3"], ids=ids, lateness_s=5)
    bars: list[OHLCVBar] = []
    batch, now = buffer.new_batch(), 0
    for number, (symbol, step, price, size) in enumerate(rows):
        now += step
        if number in cuts:
            bars += buffer.add_live(batch)
            batch.clear()
        row: Any = (symbol, now, price, size, 0, number, None, 0, None, "ns")
        try:
            try:
                batch.append(*row)
            except PrecisionError:
                bars += buffer.add_live(batch)
                batch.clear()
                batch.append(*row)
        except PrecisionError:
            bars += buffer.add_live(batch)
            batch.clear()
            bars += buffer.note_lost(symbol, now)
    bars += buffer.add_live(batch)
    bars += buffer.flush_all()
    return bars, buffer.stats.refused, buffer.stats.trades


@settings(max_examples=300)
@given(ROWS, st.frozensets(st.integers(0, 14)), st.sampled_from(["contiguous", "none"]))
@example([("A", 0, "9", WIDE)] * 3 + [("A", 1, FINE, "1"), ("A", 1, "60000", "1")], frozenset(), "contiguous")
def test_how_trades_are_cut_into_batches_decides_on_no_scale(
    rows: list[tuple[str, int, str, str]], cuts: frozenset[int], ids: str
) -> None:
    assert fed(rows, cuts, ids) == fed(rows, frozenset(range(len(rows))), ids)


def test_a_snapshot_of_bars_that_a_declared_scale_has_no_room_for_is_loaded_as_it_was() -> None:
    buffer, other = full(), BarBuffer("1h", ids="contiguous")
    buffer.instruments.add("X", 18, 18)
    add(buffer, 4, "8")
    other.load(buffer.dump(), continues=True)
    assert other.current("X", "1h") == buffer.current("X", "1h")
    for one in (buffer, other):
        add(one, 5, "7")
        with pytest.raises(PrecisionError, match="the sums of its open bar do not fit"):
            add(one, 6, FINE)
        (bar,) = one.add("X", 3600 * SECOND, "0.5", "1", 0, 6)
        assert values(bar, "trade_count", "low", "high", "volume") == [5, 7, 9, 3 * int(WIDE) + 2]


def test_a_snapshot_that_is_refused_widens_nothing() -> None:
    buffer = BarBuffer("1m")
    buffer.add("X", 0, str(LARGEST), "0.125")
    other = BarBuffer("1m")
    other.instruments.add("X", 2, 1)
    content = buffer.dump() | {"counters": [0]}
    with pytest.raises(ValueError, match="no counters"):
        other.load(content, continues=True)
    assert other.instruments.scales("X") == (2, 1)
    other.load(buffer.dump(), continues=True)
    bar = other.current("X", "1m")
    assert values(bar, "high", "volume") == [LARGEST, Decimal("0.125")]


def test_buffers_that_share_their_instruments_keep_their_bars_apart() -> None:
    first = full()
    second = BarBuffer("1h", ids="contiguous", instruments=first.instruments)
    second.add("X", 0, FINE, "0.5", 0, 1)
    add(first, 4, "8")
    with pytest.raises(PrecisionError):
        add(first, 5, FINE)
    (one,), (other,) = first.flush_all(), second.flush_all()
    assert values(one, "low", "trade_count", "volume") == [8, 4, 3 * int(WIDE) + 1]
    assert values(other, "open", "volume") == [Decimal(FINE), Decimal("0.5")]


# Live.


def feed(session: Session, number: int, line: int, *messages: bytes) -> list[OHLCVBar]:
    steady_ns = SECOND + number * 1_000_000
    return session.receive(list(messages), START_MS * 1_000_000 + steady_ns, steady_ns, line=line).bars


def test_a_snapshot_taken_while_a_trade_with_more_decimals_is_held_has_the_bars_values() -> None:
    config = StreamConfig(bars="1m", lines=2)
    first, second = (Session(binance.SPOT, config, channel="trade") for _ in range(2))
    for number, (trade_id, ms) in enumerate([(1, 0), (2, 60_000)]):
        for line in (0, 1):
            feed(first, number, line, trade(trade_id, ms, "100.5"))
    feed(first, 5, 0, trade(4, 61_000, "100.55"))
    second.load(first.dump() or {}, 0)
    bars: list[OHLCVBar] = []
    for number, (trade_id, ms, price) in enumerate(
        [(3, 60_500, "100.5"), (4, 61_000, "100.55"), (5, 120_000, "100.5")]
    ):
        for line in (0, 1):
            bars += feed(second, number, line, trade(trade_id, ms, price))
    bar = [bar for bar in bars if bar.first_trade_id == 2][-1]
    assert values(bar, "open", "high", "quote_volume") == [Decimal("100.5"), Decimal("100.55"), Decimal("301.55")]


@pytest.mark.parametrize("lines", [1, 2])
def test_of_trades_that_arrive_together_only_the_one_without_room_is_refused(lines: int) -> None:
    session = Session(binance.SPOT, StreamConfig(bars="1h", lines=lines), channel="trade")
    for number in (1, 2, 3):
        for line in range(lines):
            feed(session, number, line, trade(number, number, "9", WIDE))
    late = [trade(5, 5, FINE), trade(6, 6, "60000"), trade(7, 7, "8.5")]
    if lines == 2:
        feed(session, 4, 0, *late)
        for line in (1, 0):
            feed(session, 5, line, trade(4, 4, "7"))
    else:
        feed(session, 4, 0, trade(4, 4, "7"), *late)
    (bar,) = session.flush(0)
    assert values(bar, "trade_count", "high", "low", "close") == [6, 60000, 7, Decimal("8.5")]
    assert session.missing("BTCUSDT") == [(5, 5)]
    assert session.buffer_stats.refused == 1


def test_what_rest_answers_changes_no_scale_unless_it_is_missing_and_taken() -> None:
    session = Session(binance.SPOT, StreamConfig(bars="1h"), channel="trade")
    for number in (1, 2, 3, 9):
        feed(session, number, 0, trade(number, number, "9", WIDE))

    def answer(*rows: tuple[int, str]) -> list[Trade]:
        return [
            Trade("trade", "BTCUSDT", (START_MS + number) * 10**6, price, "1", 1, number, number, 1)
            for number, price in rows
        ]

    session.repairs.heal("BTCUSDT", answer((3, FINE), (4, "60000"), (5, FINE), (6, "60001"), (7, "8.25")))
    assert session.missing("BTCUSDT") == [(5, 5), (8, 8)]
    (bar,) = session.flush(0)
    assert values(bar, "trade_count", "high", "low") == [7, 60001, Decimal("8.25")]
    assert bar.volume == 4 * int(WIDE) + 3


def test_a_message_that_breaks_behind_a_trade_with_more_decimals_leaves_the_scale() -> None:
    session = Session(binance.SPOT, StreamConfig(bars="1h"), channel="trade")
    for number in (1, 2, 3):
        feed(session, number, 0, trade(number, number, "9", WIDE))
    feed(session, 4, 0, trade(4, 4, FINE).replace(b'"q":"1"', b'"q":"x"'), trade(4, 4, "60000"))
    feed(session, 5, 0, trade(5, 5, "8"))
    (bar,) = session.flush(0)
    assert values(bar, "trade_count", "high", "low") == [5, 60000, 8]
    assert session.missing("BTCUSDT") == []


def test_ticks_of_late_trades_have_the_values_of_their_batch() -> None:
    late: list[TickData] = []
    buffer = BarBuffer("1s", lateness_s=0, on_late=late.append)
    buffer.add("X", 10 * SECOND, "1.5", "1")
    batch = buffer.new_batch()
    batch.append("X", 0, "2.5", "0.25")
    batch.append("X", 10 * SECOND, "1.125", "0.0625")
    buffer.add_batch(batch)
    assert [(tick.price, tick.volume) for tick in late] == [(Decimal("2.5"), Decimal("0.25"))]
