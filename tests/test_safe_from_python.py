"""No call from Python reads or writes memory that is not its own, whatever it is given."""

from __future__ import annotations

import copy
import importlib
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from declared import FIELDS
from fastbars import BarBuffer, Instruments, TickBatch, aggregate
from fastbars._agg import BarKernel
from fastbars.bars import OHLCVBar
from fastbars.columnar.bar_batch import BarBatch
from fastbars.columnar.capsules import ArrowData, ArrowType
from fastbars.columnar.columns import (
    Encoder,
    Texts,
    align,
    narrow_decimals,
    narrow_letters,
    numbers_of_objects,
    round_floats,
)
from fastbars.columnar.tables import text_column
from fastbars.entry import TradeEntry, add, add_batch
from fastbars.errors import InvalidTickError, PrecisionError, SpecError
from fastbars.kernel.arbiter import Arbiter
from fastbars.kernel.ids import Ledger
from fastbars.kernel.objects import BarMaker
from fastbars.kernel.recent import RecentKeys
from fastbars.kernel.rows import ROW_DTYPE, merge_rows
from fastbars.kernel.scaled import to_decimal, to_text
from fastbars.live.intake import Feed, Intake
from fastbars.specs import parse_specs
from fastbars.ticks import TickData
from fastbars.wire.scanner import TradeScanner
from fastbars.wire.wakeup import Ending
from fastbars.wire.walker import FrameWalker
from odd_calls import MODULES

SECOND = 1_000_000_000
ODD_CALLS = Path(__file__).with_name("odd_calls.py")


@pytest.mark.parametrize("seed", range(4))
def test_no_call_with_odd_arguments_ends_the_process(seed: int, tmp_path: Path) -> None:
    log = tmp_path / "calls"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(ODD_CALLS), str(seed), "2500"],
        env=os.environ | {"ODD_CALLS_LOG": str(log)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    last = log.read_text().splitlines()[-1:] if log.exists() else []
    assert done.returncode == 0, (last, done.stderr[-2000:])
    returned, raised = map(int, done.stdout.split())
    assert returned > 400
    assert raised > 400


def instruments_of(*symbols: str) -> Instruments:
    instruments = Instruments("x")
    for symbol in symbols:
        instruments.add(symbol)
    return instruments


def columns(rows: int, **others: Any) -> dict[str, Any]:
    ids = np.arange(rows)
    return {
        "time_ns": ids * SECOND,
        "symbol_id": np.zeros(rows, np.int32),
        "price": np.full(rows, 5),
        "size": np.full(rows, 1),
        "first_id": ids,
        "last_id": ids,
        **others,
    }


def bars_of(rows: int = 5) -> BarBatch:
    return aggregate(time_ns=np.arange(rows) * SECOND, price=np.full(rows, 5), size=np.full(rows, 1), bars="1s")


@pytest.mark.parametrize("number", [-1, 1, 10**6])
def test_the_label_of_no_symbol_is_an_index_error(number: int) -> None:
    instruments = instruments_of("S")
    assert instruments.label(0) == "x S"
    with pytest.raises(IndexError, match=f"symbol id {number} is outside 0 to 0"):
        instruments.label(number)


def test_bars_beside_other_instruments_or_fewer_specs_are_refused() -> None:
    rows = bars_of().rows
    with pytest.raises(IndexError, match="symbol id 0 is outside the 0 symbols"):
        BarBatch(rows, Instruments(), parse_specs("1s"), ids=False).to_bars()
    with pytest.raises(IndexError, match="spec 0 is outside the 0 bar specs"):
        BarBatch(rows, instruments_of("A"), (), ids=False).to_bars()
    wrong = rows.copy()
    wrong["status"] = 200
    with pytest.raises(ValueError, match="there is no status 200"):
        BarBatch(wrong, instruments_of("A"), parse_specs("1s"), ids=False).to_bars()
    wrong = rows.copy()
    wrong["price_scale"] = -1
    with pytest.raises(ValueError, match="a scale is outside"):
        BarBatch(wrong, instruments_of("A"), parse_specs("1s"), ids=False).to_bars()


class Pretender:
    """Looks like the rows of a kernel, and has none."""

    dtype = ROW_DTYPE

    class flags:  # noqa: N801 as numpy has it
        c_contiguous = True

    class ctypes:  # noqa: N801 likewise
        data = 64

    def __len__(self) -> int:
        return 3


def test_rows_that_only_look_like_an_array_are_refused() -> None:
    maker = BarMaker(OHLCVBar, ("COMPLETE",), ("trade",))
    odd: Sequence[Any] = (Pretender(), np.zeros((2, 2), ROW_DTYPE), np.zeros(4, ROW_DTYPE)[::2], np.zeros(3))
    for rows in odd:
        with pytest.raises(ValueError, match="rows are a contiguous array of ROW_DTYPE"):
            maker.make(rows, Instruments(), (), False)


def test_rows_with_scales_that_none_has_do_not_merge() -> None:
    rows = bars_of().rows.copy()
    rows["size_scale"] = -100
    with pytest.raises(ValueError, match="size_scale -100 is outside 0 to 18"):
        merge_rows(rows, bars_of().rows, False)


def bare(kind: Any, *arguments: object) -> Any:
    """An object whose `__init__` was never called."""
    return kind.__new__(kind, *arguments)


UNMADE: list[Callable[[], object]] = [
    *(
        partial(bare, kind)
        for kind in (TickBatch, BarKernel, BarMaker, TradeScanner, FrameWalker, Intake, Feed, Arbiter)
    ),
    lambda: bare(BarBuffer).add("A", 0, "1", "1"),
    lambda: bare(BarBuffer).add_live(TickBatch(Instruments())),
    lambda: bare(BarBuffer).advance_watermark(5),
    lambda: add_batch(bare(TradeEntry), TickBatch(Instruments())),
    lambda: bare(TickBatch, Instruments()).append("A", 0, "1", "1"),
    lambda: Intake(print).fold(0, None),
]


@pytest.mark.parametrize("use", UNMADE)
def test_what_was_never_initialised_is_a_type_error(use: Callable[[], object]) -> None:
    with pytest.raises(TypeError):
        use()


class Borrowed:
    """Its attribute is the slot of another class, whose objects have another layout."""

    entry = vars(BarBuffer)["entry"]


class Kept:
    """Keeps an entry as an ordinary attribute."""

    def __init__(self, entry: object) -> None:
        self.entry = entry


class Slotted(BarBuffer):
    """A subclass, whose objects have the slot at the same place."""

    __slots__ = ("other",)


def test_an_entry_is_found_in_a_slot_or_an_attribute_and_nowhere_else() -> None:
    def rows_after_one(buffer: Any, entry: TradeEntry) -> int:
        add(buffer, "A", entry.rows_taken, "1", "1")
        return entry.rows_taken

    buffers = [BarBuffer("1m"), Slotted("1m"), BarBuffer("1m")]
    assert [rows_after_one(buffer, buffer.entry) for buffer in buffers] == [1, 1, 1]
    assert rows_after_one(Kept(buffers[0].entry), buffers[0].entry) == 2
    for wrong in (Borrowed(), Kept(None), Kept(5), object(), None):
        with pytest.raises(TypeError, match=r"__init__ was not called|doesn't apply to a 'Borrowed' object"):
            add(wrong, "A", 0, "1", "1")
    del buffers[1].entry
    with pytest.raises(TypeError, match=r"Slotted\.__init__ was not called"):
        buffers[1].add("A", 0, "1", "1")
    assert rows_after_one(buffers[0], buffers[0].entry) == 3


def test_what_needs_nothing_works_without_an_init() -> None:
    keys = RecentKeys.__new__(RecentKeys)
    assert [keys.add(0, "1"), keys.add(0, "1")] == [True, False]
    assert Ledger.__new__(Ledger).missing(5) == []


def test_nothing_is_initialised_twice() -> None:
    batch = TickBatch(instruments_of("A"))
    batch.append("A", 0, "1", "1", first_id=1)
    with pytest.raises(TypeError, match="a batch cannot be initialised twice"):
        batch.__init__(batch.instruments)  # type: ignore[misc]
    buffer = BarBuffer("1m")
    with pytest.raises(TypeError, match="an entry cannot be initialised twice"):
        buffer.entry.__init__(BarKernel(Instruments(), parse_specs("1s")), TickBatch(Instruments()), 0)  # type: ignore[misc]
    keys = RecentKeys(2, 2)
    keys.__init__(50)  # type: ignore[misc]
    assert [keys.add(0, str(number)) for number in (1, 2, 3, 1)] == [True] * 4
    assert len(keys) == 2


def test_a_ledger_belongs_to_one_kernel() -> None:
    ledger = Ledger()
    BarKernel(Instruments(), parse_specs("1s"), ledger)
    with pytest.raises(ValueError, match="belongs to another kernel"):
        BarKernel(Instruments(), parse_specs("1s"), ledger)


class Spec:
    """A bar spec that nobody parsed."""

    def __init__(self, *rule: Any, boundaries: Any = None) -> None:
        self.rule = rule
        self.boundaries = boundaries


@pytest.mark.parametrize(
    "spec",
    [
        Spec("time", 0, 0),
        Spec("time", -5, 0),
        Spec("time", 2**62, 0),
        Spec("time", 5, 2**62),
        Spec("tick", 0, 0),
        Spec("months", 0, 0),
        Spec("months", 10**6, 0),
        Spec("zoned", 0, 0, boundaries=np.array([5, 3, 4])),
        Spec("zoned", 0, 0, boundaries=np.array([2**62])),
    ],
)
def test_a_rule_that_no_spec_has_is_refused(spec: Spec) -> None:
    with pytest.raises(SpecError):
        BarKernel(Instruments(), [spec])


def test_a_symbol_outside_the_instruments_is_refused_by_every_door() -> None:
    instruments = instruments_of("A")
    kernel = BarKernel(instruments, parse_specs("1s"), Ledger())
    for symbol_id in (-1, 1, 2**30):
        with pytest.raises(IndexError):
            kernel.note_lost(symbol_id, 0)
        with pytest.raises(IndexError):
            kernel.current(symbol_id, 0)
        assert kernel.beginning(symbol_id, 5) == []
        assert len(kernel.reach_back(symbol_id, 1, 0)) == 0
        assert kernel.ledger is not None
        assert (kernel.ledger.holes(symbol_id), kernel.ledger.expected(symbol_id)) == ([], None)
    batch = TickBatch.from_columns(instruments, **columns(3, symbol_id=np.array([0, 7, -2], np.int32)))
    with pytest.raises(InvalidTickError, match="row 1: symbol id 7 is outside 0 to 0"):
        kernel.update(batch)
    arbiter = Arbiter(TickBatch(instruments, counts=True), 2, 0)
    assert len(arbiter.take(batch, 0, 0)) == 3  # for the kernel to refuse
    assert kernel.ledger is not None
    with pytest.raises(IndexError, match="the ledger has"):
        kernel.ledger.dump(10**6)


def test_places_outside_the_batch_are_refused() -> None:
    kernel = BarKernel(instruments_of("A"), parse_specs("1s"), None)
    batch = TickBatch.from_columns(kernel.instruments, **columns(3))
    for places in ([-1], [3], [0, 0], [2, 1]):
        with pytest.raises(IndexError, match="places must ascend"):
            kernel.update(batch, False, np.array(places, np.int32))


def test_a_trade_entry_needs_a_batch_with_its_columns() -> None:
    instruments = Instruments()
    kernel = BarKernel(instruments, parse_specs("1s"))
    for batch in (TickBatch(instruments), TickBatch(Instruments(), counts=True)):
        with pytest.raises(ValueError, match="the batch"):
            TradeEntry(kernel, batch, 0)


# Columns.


def test_texts_that_lead_out_of_their_buffer_are_refused() -> None:
    data = np.frombuffer(b"A5.5", np.uint8)
    places = np.array([0, 1, 4], np.int32)
    texts = Texts.offsets(places, data, 0, 2)
    assert [texts[0], texts[1]] == [b"A", b"5.5"]
    places[2] = 2**30  # whoever made the array changes it afterwards
    with pytest.raises(ValueError, match="text 1 leads out of its buffer"):
        texts[1]
    with pytest.raises(ValueError, match="leads out of its buffer"):
        Encoder().encode(texts, np.zeros(2, np.int32))
    assert texts.numbers(np.zeros(2, np.int64), np.zeros(2, np.int8)) == 0
    with pytest.raises(IndexError, match="need 3 \\+ 1 offsets"):
        Texts.offsets(places, data, 0, 3)
    view = np.zeros(16, np.uint8)
    view[:4] = np.array([100], np.int32).view(np.uint8)
    with pytest.raises(ValueError, match="leads out"):
        Texts.views(view, [data], 0, 1)[0]
    with pytest.raises(TypeError, match="texts are a column of bytes"):
        Texts.fixed(np.array([object()]))


def test_columns_of_other_lengths_or_scales_are_refused() -> None:
    mantissa, scales, symbols = np.zeros(3, np.int64), np.zeros(3, np.int8), np.array([0, 9, 0], np.int32)
    with pytest.raises(ValueError, match="a symbol outside 0 to 0"):
        align(mantissa, scales, symbols, np.zeros(1, np.int8))
    with pytest.raises(ValueError, match="a scale is outside 0 to 18"):
        align(mantissa, scales - 100, None, np.zeros(1, np.int8))
    with pytest.raises(ValueError, match="scale 99 is outside"):
        round_floats(np.zeros(3), 99, mantissa)
    with pytest.raises(ValueError, match="columns differ in length"):
        narrow_decimals(np.zeros(16, np.uint8), 16, 2, mantissa, scales, symbols)
    with pytest.raises(ValueError, match="symbol id -1 is negative"):
        narrow_decimals(np.zeros(48, np.uint8), 16, 2, mantissa, scales, symbols - 1)
    with pytest.raises(ValueError, match="columns differ in length"):
        Encoder().encode_objects(np.array(["A"], object), symbols)
    with pytest.raises(ValueError, match="columns differ in length"):
        numbers_of_objects(np.array(["1"], object), mantissa, scales)
    with pytest.raises(ValueError, match="columns differ in length"):
        narrow_letters(np.zeros(3, np.uint32), np.zeros(2, np.uint8))
    with pytest.raises(IndexError, match="code 2 is outside the 1 names"):
        text_column(np.array([0, 2]), [b"A"])
    with pytest.raises(TypeError, match="names are bytes, not str"):
        text_column(np.array([0]), ["A"])  # type: ignore[list-item]


def test_numbers_too_large_for_text_are_refused_at_once() -> None:
    assert to_decimal(0, 100) == Decimal(0)
    for scale in (2**31 - 1, -(2**31)):
        with pytest.raises(PrecisionError, match="is beyond"):
            to_decimal(0, scale)
        with pytest.raises(PrecisionError, match="is beyond"):
            to_text(10, scale)


# What is called in between.


def test_a_scanner_is_not_given_a_message_by_what_it_asks_for_a_symbol() -> None:
    instruments = Instruments("x")
    message = b'{"e":"trade","E":1,"s":"A","t":1,"p":"1","q":"2","T":1723161254087,"m":true,"M":true}'
    nested: list[str] = []

    def number_of(symbol: str) -> int:
        try:
            scanner.scan(message)
        except RuntimeError as error:
            nested.append(str(error))
        return instruments.add(symbol)

    scanner = TradeScanner(FIELDS["binance trade"], TickBatch(instruments), number_of)
    assert scanner.scan(message)
    assert len(nested) == 1
    wrong = TradeScanner(FIELDS["binance trade"], TickBatch(instruments), lambda _: 10**6)
    with pytest.raises(IndexError, match="symbol id 1000000 is outside"):
        wrong.scan(message)


def test_a_walker_is_not_given_bytes_by_what_it_hands_on() -> None:
    nested: list[str] = []

    def hand_on(payload: bytes) -> None:
        try:
            walker.feed(b"\x81\x02no")
        except RuntimeError as error:
            nested.append(str(error))

    walker = FrameWalker(hand_on, lambda _: True)
    walker.feed(memoryview(bytearray(b"\x81\x02hi")))
    assert len(nested) == 1


def test_an_index_that_changes_the_batch_meanwhile_does_no_harm() -> None:
    batch = TickBatch(instruments_of("A"), counts=True)

    class Clearing:
        def __index__(self) -> int:
            batch.append("A", 1, "1", "1", first_id=7)
            return 9

    batch.append("A", 2, "1", "1", first_id=Clearing())  # type: ignore[arg-type]
    first_ids = batch.column("first_id")
    assert first_ids is not None
    assert first_ids.tolist() == [7, 9]


# Threads, and memory that others can change.


def test_a_buffer_that_another_thread_uses_is_refused_and_goes_on_afterwards() -> None:
    buffer = BarBuffer(["1s", "5s"], ids="contiguous", instruments=instruments_of("A"))
    rows = 3_000_000
    batch = TickBatch.from_columns(buffer.instruments, **columns(rows, time_ns=np.arange(rows) * 1000))
    refused: list[str] = []
    worker = threading.Thread(target=buffer.add_batch, args=(batch,))
    worker.start()
    while worker.is_alive():
        for use in (
            lambda: buffer.current("A", "1s"),
            lambda: buffer.missing("A"),
            lambda: buffer.trade_times_ns,
            buffer.dump,
            lambda: buffer.add("A", 5, "1", "1", trade_id=2**40),
            batch.clear,
            buffer.flush_all,
        ):
            if not worker.is_alive():
                break
            try:
                use()
            except RuntimeError as error:
                refused.append(str(error))
            if refused:
                continue
        if refused:
            break
    worker.join()
    assert refused
    assert any("in use" in text or "by another thread" in text for text in refused)
    bar = buffer.current("A", "5s")
    assert bar is not None
    assert (bar.trade_count or 0) >= 1
    assert buffer.stats.trades >= rows


def test_arrays_changed_after_they_were_wrapped_make_no_sum_wrap() -> None:
    instruments = instruments_of("A")
    for rows in (10, 5000):
        kernel = BarKernel(instruments, parse_specs("1d"), None)
        price, size = np.full(rows, 5), np.full(rows, 1)
        symbols = np.zeros(rows, np.int32)
        given = columns(rows, price=price, size=size, symbol_id=symbols)
        batch = TickBatch.from_columns(instruments, **given | {"first_id": None, "last_id": None})
        assert np.shares_memory(price, batch.column("price"))
        symbols[:] = 10**6  # these are copied: they are places in memory
        price[:] = 2**62
        size[:] = 2**62
        with pytest.raises(PrecisionError, match="leaves 128 bits"):
            kernel.update(batch)
        price[:], size[:] = 7, 2
        kernel.update(batch)
        (row,) = kernel.flush()
        assert (row["high"], row["count"], row["volume"]["lo"]) == (7, rows, 2 * rows)


def test_a_price_larger_than_noted_keeps_its_symbol_from_widening_wrongly() -> None:
    instruments = instruments_of("A")
    kernel = BarKernel(instruments, parse_specs("1d"), None)
    price = np.full(3, 5)
    batch = TickBatch.from_columns(instruments, **columns(3, price=price))
    price[:] = 2**61
    kernel.update(batch)
    instruments.add("A", 4)  # by what was noted, prices of 5 can have four more decimals
    with pytest.raises(PrecisionError, match=f"price 0.0005 needs 4 decimals, but prices up to {2**61} were seen"):
        kernel.update(TickBatch.from_columns(instruments, **columns(3)))
    kernel.update(TickBatch.from_columns(instruments, **columns(3, price=np.full(3, 70_000), size=np.full(3, 1))))
    assert kernel.flush()[["high", "low", "count"]].tolist() == [(2**61, 7, 6)]


def test_what_a_batch_shows_of_its_columns_cannot_be_made_writeable() -> None:
    batch = TickBatch(instruments_of("A"))
    batch.append("A", 0, "1", "1", first_id=1)
    shown = batch.column("symbol_id")
    assert shown is not None
    with pytest.raises(ValueError, match="WRITEABLE"):
        shown.flags.writeable = True


def test_a_dump_after_new_symbols_reads_what_is_there_now() -> None:
    buffer = BarBuffer("1m", ids="contiguous")
    for trade_id in range(1, 4):
        buffer.add_tick(TickData("A", trade_id, "5", "1", trade_id=trade_id))
    for number in range(200):  # the table of open bars moves
        buffer.instruments.add(f"N{number}")
    content = buffer.dump()
    again = BarBuffer("1m", ids="contiguous")
    again.load(content)
    assert again.add_tick(TickData("A", 60 * SECOND, "5", "1", trade_id=4))[0].trade_count == 3
    assert again.missing("A") == []


def test_an_arrow_array_that_nothing_was_read_into_is_empty() -> None:
    data = bare(ArrowData)
    assert (data.length, data.offset, data.has_buffer(0)) == (0, 0, False)
    for use in (data.variadic, data.dictionary, partial(data.buffer, 0, 8), partial(data.child, 0)):
        with pytest.raises(InvalidTickError, match="an Arrow array of type ''"):
            use()


def test_no_compiled_class_takes_a_state_that_nobody_checks() -> None:
    classes = [
        value
        for name in MODULES
        for value in vars(importlib.import_module(f"fastbars.{name}")).values()
        if isinstance(value, type) and value.__module__ == f"fastbars.{name}"
    ]
    assert BarKernel in classes
    assert TradeEntry in classes
    assert [kind for kind in classes if hasattr(kind, "__setstate_cython__")] == []


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_what_cannot_be_copied_says_so(duplicate: Callable[[object], object]) -> None:
    kernel = BarKernel(instruments_of("A"), parse_specs("1m"))
    for one in (kernel, bare(TradeEntry), Ending(lambda _: False), Encoder(), bare(ArrowType)):
        with pytest.raises(TypeError, match="pickle"):
            duplicate(one)
