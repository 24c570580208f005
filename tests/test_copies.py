"""Pickles, copies and other processes: what users hold comes out as it went in, or is refused."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from decimal import Decimal
from functools import partial
from typing import Any

import numpy as np
import pytest

import fastbars
from fastbars import BarBatch, BarBuffer, BarSpec, Instruments, OHLCVBar, SpecError, TickBatch, TickData
from fastbars.bars import BarKind

SECOND = 1_000_000_000


def through_pickle(protocol: int, thing: Any) -> Any:
    return pickle.loads(pickle.dumps(thing, protocol))


COPIERS: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    **{f"pickle {number}": partial(through_pickle, number) for number in range(pickle.HIGHEST_PROTOCOL + 1)},
}
copiers = pytest.mark.parametrize("copier", COPIERS.values(), ids=COPIERS)


def some_bars(symbol: str = "A") -> BarBatch:
    times = [second * SECOND for second in (0, 1, 61, 122)]
    return fastbars.aggregate(
        times, ["1.50", "100", "0.25", "7"], ["2", "0.001", "30", "1"], symbol=[symbol, "B", symbol, symbol],
        trade_id=[7, 1, 8, 10], bars=["1m", "tick:2"],
    )  # fmt: skip


def fed_buffer(trades: int = 5, **settings: Any) -> BarBuffer:
    buffer = BarBuffer("1m,tick:3", ids="contiguous", exchange="okx", **settings)
    buffer.instruments.add("INV", contract_size="0.1")
    for number in range(trades):
        buffer.add("X", number * 20 * SECOND, f"1.{number}", "1", 1, number)
    return buffer


@copiers
def test_a_batch_of_bars_comes_out_as_it_went_in(copier: Callable[[BarBatch], BarBatch]) -> None:
    batch = some_bars()
    made = copier(batch)
    assert made.to_bars() == batch.to_bars()
    assert made.rows.tobytes() == batch.rows.tobytes()
    assert (made.specs, made.ids, made.instruments.symbols) == (batch.specs, batch.ids, batch.instruments.symbols)
    part = batch[::-2]
    assert copier(part).to_bars() == part.to_bars()
    assert len(pickle.dumps(batch[:1])) < len(pickle.dumps(batch))


@copiers
def test_instruments_keep_scales_contract_sizes_and_which_symbols_have_traded(
    copier: Callable[[Instruments], Instruments],
) -> None:
    buffer = BarBuffer("1m", exchange="okx")
    instruments = buffer.instruments
    instruments.add("INV", contract_size="0.1")
    buffer.add("X", 0, str(2**62), "1.25")
    made = copier(instruments)
    assert made is not instruments
    assert (made.symbols, made.exchange) == (("INV", "X"), "okx")
    assert (made.scales("X"), made.contract_size("INV"), made.contract_size("X")) == ((0, 2), Decimal("0.1"), None)
    with pytest.raises(fastbars.PrecisionError, match="okx X: the contract size is set before the first trade"):
        made.add("X", contract_size=1)
    made.add("Y")
    assert "Y" not in instruments


@copiers
def test_a_copied_buffer_goes_on_as_the_original_would(copier: Callable[[BarBuffer], BarBuffer]) -> None:
    buffer = fed_buffer(grace_s=3.0, lateness_s=5.0, empty="fill")
    made = copier(buffer)
    assert made.stats == buffer.stats
    assert (made.grace_ns, made.next_close_ns) == (buffer.grace_ns, buffer.next_close_ns)
    assert made.current("X", "1m") == buffer.current("X", "1m")
    closed = made.add("X", 100 * SECOND, "0.000001", "1", 1, 5)  # a scale widens, of the copy alone
    assert buffer.instruments.scales("X") == (1, 0)
    assert buffer.add("X", 100 * SECOND, "0.000001", "1", 1, 5) == closed
    for trade in (("X", 400 * SECOND, "3", "1", -1, 7), ("X", 401 * SECOND, "3", "1", -1, 6)):
        assert made.add(*trade) == buffer.add(*trade)
    assert made.missing("X") == buffer.missing("X") == []
    assert made.flush_all() == buffer.flush_all() != []


@copiers
def test_a_copied_buffer_keeps_its_callbacks(copier: Callable[[BarBuffer], BarBuffer]) -> None:
    made = copier(fed_buffer(0, on_bar=heard))
    assert made.on_bar is heard
    assert (made.on_bars, made.on_late) == (None, None)


def heard(bar: OHLCVBar) -> None:
    """A callback that pickle can name."""


class CountingBuffer(BarBuffer):
    """A subclass with arguments and attributes of its own."""

    def __init__(self, label: str) -> None:
        super().__init__("1s")
        self.label = label


@copiers
def test_a_subclass_of_a_buffer_keeps_what_it_added(copier: Callable[[CountingBuffer], CountingBuffer]) -> None:
    buffer = CountingBuffer("mine")
    buffer.add("X", 0, "1", "1")
    made = copier(buffer)
    assert type(made) is CountingBuffer
    assert made.label == "mine"
    assert made.flush_all() == buffer.flush_all()


def test_a_buffer_and_its_batches_stay_of_one_mind_in_one_pickle() -> None:
    buffer = BarBuffer("1m")
    batch = buffer.new_batch()
    batch.append("X", 0, "1.5", "1")
    buffer, batch = pickle.loads(pickle.dumps((buffer, batch)))
    assert batch.instruments is buffer.instruments
    buffer.add_batch(batch)
    assert [bar.close for bar in buffer.flush_all()] == [Decimal("1.5")]


@copiers
def test_a_batch_of_trades_has_its_own_memory_when_copied(copier: Callable[[TickBatch], TickBatch]) -> None:
    instruments = Instruments()
    batch = TickBatch(instruments, counts=True)
    batch.append("X", 5, "1.5", "2", -1, 3, 4)
    made = copier(batch)
    batch.clear()
    batch.append("X", 6, "9.5", "2", -1, 8)
    for name, value in (("time_ns", 5), ("price", 15), ("size", 2), ("side", -1), ("first_id", 3), ("last_id", 4)):
        column = made.column(name)
        assert column is not None
        assert column.tolist() == [value]
    made.append("X", 7, "2", "1", 1, 9)
    assert len(made) == 2


def test_an_empty_copy_still_asks_for_ids() -> None:
    made = pickle.loads(pickle.dumps(TickBatch(Instruments())))
    with pytest.raises(fastbars.InvalidTickError, match="X: the trade has no id"):
        made.append("X", 0, "1", "1")
    made.append("X", 0, "1", "1", 0, 3)
    assert made.column("first_id").tolist() == [3]


@copiers
def test_a_batch_built_before_a_widening_keeps_its_scales(copier: Callable[[Any], Any]) -> None:
    buffer = BarBuffer("1m")
    batch = buffer.new_batch()
    batch.append("X", 0, "1", "1")
    buffer.add("X", 0, "1.25", "1")
    batch.append("Y", 0, "0.5", "1")
    buffer, made = copier((buffer, batch))
    assert (made.scales("X"), made.scales("Y"), made.instruments.scales("X")) == ((0, 0), (1, 0), (2, 0))
    buffer.add_batch(made)
    assert [(bar.symbol, bar.high, bar.close) for bar in buffer.flush_all()] == [
        ("X", Decimal("1.25"), 1), ("Y", Decimal("0.5"), Decimal("0.5")),
    ]  # fmt: skip


@copiers
def test_bars_ticks_and_specs_come_out_as_they_went_in(copier: Callable[[Any], Any]) -> None:
    bar = some_bars()[0]
    tick = TickData("X", 123, "1.5", "2", "sell", 5, 9, 4)
    specs = [BarSpec.parse(text) for text in ("1m", "3d-07:00@America/New_York", "volume:0.5", "1mo+01:00")]
    assert copier(bar) == bar
    assert copier(bar).inverse == bar.inverse
    assert copier(tick) == tick
    assert [copier(spec) for spec in specs] == specs


# What a pickle holds is checked as anything else that comes from outside.


def test_a_pickle_of_nonsense_is_refused_when_it_is_loaded() -> None:
    reduced: Any = Instruments().__reduce__()
    rebuild, (exchange, *_) = reduced
    row = ("X", 1, 1, None, True)
    assert rebuild(exchange, [row]).scales("X") == (1, 1)
    for wrong, message in (
        ([row, row], "names 'X' twice"),
        ([(5, *row[1:])], "or it is no symbol"),
        ([("X", 19, 1, None, True)], "outside 0 to 18"),
        ([("X", 1, 1, "-1", True)], "contract size -1 is not positive"),
    ):
        with pytest.raises(ValueError, match=message):
            rebuild(exchange, wrong)
    reduced = TickBatch(Instruments()).__reduce__()
    rebuild, (instruments, columns, _) = reduced
    for scales in ((0, 1, 1), (-1, 1, 1), (0, -1, 1)):
        with pytest.raises(ValueError, match="a pickle of a batch has scales"):
            rebuild(instruments, columns, [scales])
    rebuild, values = some_bars()[0].__reduce__()
    high = 1 + list(OHLCVBar.__dataclass_fields__).index("high")
    with pytest.raises(ValueError, match=r"High .* must be >="):
        rebuild(*values[:high], Decimal("0.01"), *values[high + 1 :])


@pytest.mark.parametrize(
    "spec",
    [
        (BarKind.TIME, Decimal(0), "m"),
        (BarKind.TIME, Decimal(-1), "m"),
        (BarKind.TIME, Decimal("0.5"), "m"),
        (BarKind.TIME, Decimal("NaN"), "m"),
        (BarKind.TIME, 1.0, "m"),
        (BarKind.TIME, Decimal(1), "fortnight"),
        (BarKind.TIME, Decimal(1), ""),
        (BarKind.TIME, Decimal(1201), "mo"),
        (BarKind.TIME, Decimal(1), "m", "Europe/Berlin"),
        (BarKind.TIME, Decimal(1), "d", "", 7 * 86400),
        (BarKind.TICK, Decimal(0)),
        (BarKind.TICK, Decimal("1.5")),
        (BarKind.VOLUME, Decimal(-1)),
        (BarKind.VALUE, Decimal("1e-19")),
        (BarKind.TICK, Decimal(1), "m"),
        ("day", Decimal(1)),
    ],
)
def test_a_spec_that_no_kernel_can_follow_cannot_be_built(spec: tuple[Any, ...]) -> None:
    with pytest.raises(SpecError, match=r"^bar spec of "):
        BarSpec(*spec)


# Other processes.


def a_day(number: int) -> BarBatch:
    return some_bars(f"DAY{number}")


def continued(buffer: BarBuffer) -> tuple[BarBuffer, list[OHLCVBar]]:
    return buffer, buffer.add("X", 100 * SECOND, "5", "1", 1, 5)


@pytest.mark.parametrize("start", ["spawn", "fork"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_bars_and_buffers_go_through_worker_processes(start: str) -> None:
    if start not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {start} on this platform")
    with ProcessPoolExecutor(2, multiprocessing.get_context(start)) as pool:
        days = list(pool.map(a_day, range(2)))
        there, closed = pool.submit(continued, fed_buffer()).result(timeout=60)
    assert [day.to_bars() for day in days] == [a_day(0).to_bars(), a_day(1).to_bars()]
    time_bars = [day[np.flatnonzero(day.rows["spec"] == 0)] for day in days]
    merged = time_bars[0].merge(time_bars[1])
    assert merged.instruments.symbols == ("DAY0", "B", "DAY1")
    here = fed_buffer()
    assert closed == continued(here)[1]
    assert there.flush_all() == here.flush_all()
