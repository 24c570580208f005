"""The bar-aggregation kernel: columns of trades in, columns of bars out. `BarKernel` is the one door to it.

Each symbol and spec has one open bar (a Slot) and a short list of closed ones that can still be amended
(Records). A trade is folded into the open bar, closes it, or, when it is late, amends the closed bar that
it belongs to; whatever changes about an issued bar is the same bar issued again with the next revision.

All bars are one Table (kernel/table.pyx), which every function of the kernel is passed; the state of one batch is
a Pass, on the stack of the call that folds it. A BarKernel owns the Table and makes the Passes: it checks its
arguments, saves the state that may have to be restored, and returns the rows that were issued.

A batch is all or nothing: its rows are checked before they are folded in. Where they are many, they are checked as
they are folded in, and where a bound cannot prove that no 128-bit sum overflows, sums are: the state is saved first
then, and restored on failure.

The bars of a symbol have a scale, and so have the rows of a batch (kernel/scales.pyx). A scale widens together with the
bars that it applies to, when a trade that needs it is folded in, and at no other time.

Units: times int64 ns since the epoch, UTC; prices and sizes mantissas at the instrument's scales; quote sums
at the sum of both scales.
"""

import cython
import numpy as np

from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from fastbars.kernel.amend cimport NOT_CLOSED, leave_out_ids, partial_beginnings, prove_beginning
from fastbars.kernel.anew cimport is_waiting
from fastbars.kernel.batch cimport BYTES_A_ROW, Rules, TickBatch
from fastbars.kernel.close cimport (
    BRIDGE, COVER, LOSE, UNCOVER, Change, change_coverage, close_until, current_bar, end_bars, heard_of, lose_trade,
    next_close_of,
)
from fastbars.kernel.coverage cimport LOST, UNWANTED, Gap, plain_gap
from fastbars.kernel.fold cimport begin_waiting, fold_batch, heal_batch
from fastbars.kernel.groups cimport earliest_close, expect_close, watermark_of
from fastbars.kernel.ids cimport Ledger
from fastbars.kernel.instruments cimport Instruments
from fastbars.kernel.limits cimport LATEST_NS, is_time
from fastbars.kernel.passes cimport Pass, begin_idle_pass, begin_pass, row_at
from fastbars.kernel.progress cimport Progress, issue_changed
from fastbars.kernel.restored cimport check_bars, check_times, follow_scales, raise_revisions
from fastbars.kernel.rows cimport IssuedRows, take_late, take_rows
from fastbars.kernel.scaled cimport HIGHEST, LOWEST
from fastbars.kernel.scales cimport (
    bound_apart, bring_row, follow_missing, follow_row, may_be_apart, widen_instruments,
)
from fastbars.kernel.table cimport BarTable, is_settled, is_shown, note_event, whole_number
from fastbars.kernel.trees cimport SpecTrees

from fastbars.errors import InvalidTickError, PrecisionError

cdef IssuedRows NO_ROWS = IssuedRows.__new__(IssuedRows)

# Sums below this cannot overflow 128 bits, rounding of the bound included.
cdef double SAFE_BOUND = 1.6e38
# Sums below this stay below SAFE_BOUND with one more trade, whatever its price and size.
cdef double SMALL_BOUND = 7e37

cdef int64_t MOST_TRADES = 1 << 60     # that one call says are lost

cdef enum:
    CHUNK_ROWS = 1 << 13        # of a long batch, which is searched for void rows while it is in the cache
    LONG_BATCH = 1024           # worth making room for, and releasing the interpreter lock
    LONG_STRETCH = 1 << 14      # rows whose sizes are assumed to sum within 64 bits until larger ones have come


@cython.final
@cython.no_gc_clear     # no reference cycle can lead back to it
cdef class BarKernel:
    def __cinit__(self, Instruments instruments not None, specs, Ledger ledger=None, bint proof=True,
                  int64_t lateness_ns=60_000_000_000, int64_t horizon_ns=3_600_000_000_000, bint fill=False,
                 int64_t recut_trades=200_000):
        if not (0 <= lateness_ns < HIGHEST // 2 and 0 <= horizon_ns < HIGHEST // 2):
            raise ValueError(
                f"lateness {lateness_ns} ns and heal horizon {horizon_ns} ns are outside 0 to {HIGHEST // 2 - 1}")
        self.bars = BarTable(instruments, SpecTrees(specs), ledger)
        self.instruments = instruments
        self.ledger = ledger
        self.by_id = ledger is not None
        self.table = &self.bars.table
        self.table.terms.proof = proof and self.by_id
        self.table.terms.lateness_ns = lateness_ns
        self.table.terms.horizon_ns = max(horizon_ns, lateness_ns)
        self.table.terms.fill = fill
        self.table.most_taped = recut_trades
        self.longest_unchecked = LONG_STRETCH

    def __dealloc__(self):
        free(self.copy_memory)

    cdef int check_unused(self) except -1:
        if self.busy:
            raise RuntimeError(
                "this kernel is in use: another thread, or a callback, has called it meanwhile; give each thread a BarBuffer"
                " of its own, or guard it with a lock")
        return 0

    # Batches.

    def update(self, TickBatch batch not None, bint ends=False, const int32_t[::1] places=None):
        cdef Py_ssize_t closed
        cdef int64_t arrivals = self.table.arrivals
        cdef const int32_t[::1] own
        self.check_unused()
        if places is not None and len(places) == 0:
            self.table.arrivals += batch.length
            batch, places = batch.part(0, 0), None
        if places is not None:
            own = _checked_places(batch, places)
        if ends and batch.length:
            self.settle()
            self.bars.make_room(batch, self.table.specs.count * self.table.symbols)
        if places is None:
            self.fold(batch)
        else:
            self.fold_places(batch, &own[0], len(own))
        if not ends:
            return self.take_folded()
        # Behind all rows: first what trades that waited have closed, by their own numbers, then what the end closes.
        self.begin_series(None, arrivals - self.table.arrivals)
        closed = self.table.rows.count
        end_bars(self.table, None, 2 * self.table.arrivals)
        rows, late = self.take_folded()
        (<IssuedRows>rows).number(closed)
        return rows, late

    def heal(self, TickBatch batch not None):
        cdef int64_t healed = self.table.healed
        cdef Py_ssize_t i
        self.check_unused()
        if not self.by_id:
            raise InvalidTickError("trades without ids fill no hole")
        for i in range(1, batch.length):
            if batch.symbol_id[i] != batch.symbol_id[0]:
                raise InvalidTickError("trades that heal are of one symbol at a time", i)
        try:
            self.fold_places(batch, NULL, batch.length, True)
        except BaseException:
            self.table.healed = healed
            raise
        return self.take_folded()

    cdef bint has_folded(self) noexcept:
        # Whether the last fold issued a bar, or could not place a trade.
        return self.table.rows.count > 0 or self.table.rows.late_count > 0 or (
            self.by_id and self.table.ids.renewed.begun != self.begun_before)

    cdef tuple take_folded(self):
        # The rows that it issued, and the trades that it could not place.
        if self.by_id:
            self.begun_before = self.table.ids.renewed.begun
        return self.take(False), take_late(&self.table.rows)

    cdef IssuedRows take(self, bint numbered):
        if self.table.rows.count == 0:
            return NO_ROWS
        self.busy = True        # a garbage collection may run other Python code
        try:
            return take_rows(&self.table.rows, numbered)
        finally:
            self.busy = False

    cdef int fold(self, TickBatch batch) except -1:
        if self.busy:
            self.check_unused()
        if batch.length == 1 and not batch.borrows and self.bound < SMALL_BOUND:
            return self.fold_rows(batch, NULL, 1, False)   # holds the interpreter lock, saves nothing, calls no Python code
        return self.fold_places(batch, NULL, batch.length)

    cdef int fold_places(
        self, TickBatch batch, const int32_t *places, Py_ssize_t count, bint healing=False
    ) except -1:
        self.check_unused()
        if batch.borrows and batch.length < LONG_BATCH and not may_be_apart(self.bars, batch):
            batch = self.copy_of(batch)
        self.busy = batch.folding = True
        if self.ledger is not None:
            self.ledger.busy = True
        try:
            return self.fold_rows(batch, places, count, healing)
        finally:
            self.busy = batch.folding = False
            if self.ledger is not None:
                self.ledger.busy = False

    cdef TickBatch copy_of(self, TickBatch batch):
        # The rows that are checked must be the rows that are folded in, and the owner of borrowed memory can change it.
        if self.copy_memory is NULL:
            self.copy_memory = <char *>malloc(LONG_BATCH * BYTES_A_ROW)
            if self.copy_memory is NULL:
                raise MemoryError
            self.copy = TickBatch.__new__(TickBatch, batch.instruments)
        self.copy.copy_rows(batch, self.copy_memory)
        return self.copy

    cdef int fold_rows(self, TickBatch batch, const int32_t *places, Py_ssize_t count, bint healing) except -1:
        # Those at `count` places; all of them, where `places` is NULL.
        if batch.instruments is not self.instruments:
            raise InvalidTickError("the batch belongs to other instruments than this kernel")
        self.forget_folded()
        if batch.length == 0:
            return 0
        if self.by_id and batch.first_id is NULL:
            raise InvalidTickError("ids are to prove completeness, but the batch has no first_id column")
        self.settle()
        if may_be_apart(self.bars, batch):
            return self.fold_apart(batch, places, count, healing)
        return self.fold_alike(batch, places, count, healing)

    cdef int fold_alike(self, TickBatch batch, const int32_t *places, Py_ssize_t count, bint healing) except -1:
        # Rows at the scales of their bars.
        cdef Pass run
        cdef double bound, largest
        cdef int64_t largest_size
        cdef bint voids = False
        cdef Rules rules
        if batch.length >= LONG_BATCH:
            self.bars.make_room(batch, 0)
            # (The bits gathered from prices as they are folded in bound only prices without a sign.)
            if batch.length > self.bars.size() and not healing and batch.sequence is NULL and not self.table.sequenced and (
                not self.instruments.negative_prices and self.fold_unchecked(batch, places, count)
            ):
                return 0
            if batch.borrows:       # see copy_of
                batch = batch.own_copy()
        rules = Rules(self.table.symbols, self.table.largest_contract, self.by_id, self.instruments.negative_prices)
        if batch.length == 1:
            largest = batch.check_row(rules, &largest_size, &voids)
        elif batch.length < LONG_BATCH:
            largest = batch.check(rules, &largest_size, &voids)
        else:
            with nogil:
                largest = batch.check(rules, &largest_size, &voids)
        if largest < 0:
            batch.refuse(rules)
        bound = self.bound + batch.length * largest
        if bound > SAFE_BOUND:
            self.bars.save()
        self.begin(&run, batch, places, healing)
        run.careful = self.table.sequenced or bound > SAFE_BOUND
        run.columns.longest = min(batch.length, <Py_ssize_t>(HIGHEST // largest_size))
        run.has_voids = voids
        if voids and not healing:
            self.table.voids += batch.count_voids(places, 0, count)
        if healing:
            run.healing = True
            heal_batch(self.table, &run, batch.length)
        elif batch.length == 1:  # not worth releasing the interpreter lock
            fold_batch(self.table, &run, 0, 1)
        else:
            with nogil:
                fold_batch(self.table, &run, 0, count)
        if run.overflow_row >= 0:
            self.bars.restore()
        if bound > SAFE_BOUND:
            self.bars.forget_saved()
        if run.overflow_row >= 0:
            self.refuse_sum(batch, run.overflow_row)
        self.longest_unchecked = min(self.longest_unchecked, <Py_ssize_t>(HIGHEST // largest_size))
        return self.finish(batch, bound)

    cdef int fold_apart(self, TickBatch batch, const int32_t *places, Py_ssize_t count, bint healing) except -1:
        # Rows at other scales than their bars: each is rescaled to theirs in its turn. Before a row that needs more
        # decimals, the rows before it are folded in and the bars widened: as if each row had come alone. Where the
        # bars cannot be widened, the row is refused, and with it the batch: nothing has changed.
        cdef Pass run
        cdef Py_ssize_t i, start = 0
        cdef double bound, largest
        cdef int64_t largest_size
        cdef bint voids = False
        cdef Rules rules
        batch.catch_up()
        if batch is not self.copy and (batch.borrows or batch.length > 1):
            batch = batch.own_copy()    # its rows are rewritten
        rules = Rules(self.table.symbols, self.table.largest_contract, self.by_id, self.instruments.negative_prices)
        largest = batch.check(rules, &largest_size, &voids)
        if largest < 0:
            batch.refuse(rules)
        bound = bound_apart(self.bars, batch, self.bound)
        if bound < 0:
            return self.fold_alike(batch, places, count, healing)
        bound += batch.length * largest
        self.busy = True
        try:
            if bound > SAFE_BOUND:      # else nothing fails any more
                self.bars.save()
            self.begin(&run, batch, places, healing)
            run.careful = self.table.sequenced or bound > SAFE_BOUND
            run.columns.longest = min(batch.length, <Py_ssize_t>(HIGHEST // largest_size))
            run.has_voids = voids
            run.healing = healing
            if healing:
                follow_missing(self.bars, &run, batch)
                heal_batch(self.table, &run, batch.length)
            else:
                if voids:
                    self.table.voids += batch.count_voids(places, 0, count)
                for i in range(count):
                    if not bring_row(self.bars, batch, row_at(places, i)):
                        fold_batch(self.table, &run, start, i)
                        start = i
                        follow_row(self.bars, batch, row_at(places, i))
                        bring_row(self.bars, batch, row_at(places, i))
                with nogil:
                    fold_batch(self.table, &run, start, count)
            if run.overflow_row >= 0:
                self.refuse_sum(batch, run.overflow_row)
        except BaseException:
            if self.bars.saved is not None or self.bars.blank:
                self.bars.restore()
            self.table.rows.count = self.table.rows.late_count = 0
            raise
        finally:
            self.busy = False
            self.bars.forget_saved()
        if batch.length == 1:           # it may be the caller's batch, which is reused
            batch.set_scale(batch.symbol_id[0], self.table.slots[0][batch.symbol_id[0]].scale)
        widen_instruments(self.bars, batch)
        return self.finish(batch, bound)

    cdef int refuse_sum(self, TickBatch batch, Py_ssize_t row) except -1:
        raise PrecisionError(
            f"{self.instruments.label(batch.symbol_id[row])}: with row {row} (price mantissa {batch.price[row]}, size mantissa"
            f" {batch.size[row]}) the volume or quote volume of a bar leaves 128 bits", row)

    cdef void forget_folded(self) noexcept:
        self.table.rows.count = self.table.rows.late_count = 0
        if self.by_id:
            self.table.ids.renewed.stray_count = 0

    cdef int settle(self) except -1:
        # Makes room for new symbols, and follows widened scales.
        if is_settled(self.bars):
            return 0
        self.bars.reserve()
        self.bound = max(self.bound, self.bars.follow_instruments())    # the others are as they were
        return 0

    cdef void begin(self, Pass *run, TickBatch batch, const int32_t *places, bint healing=False) noexcept:
        # Nothing is refused any more, or all has been saved.
        if batch.sequence is not NULL and not self.table.sequenced:
            self.bars.count_sequences()
        if not healing:
            note_event(self.table, batch.time_ns[row_at(places, 0)])
        begin_pass(
            run, batch, places, self.table.arrivals, self.table.symbols, self.by_id, self.table.largest_contract > 0)

    cdef int finish(self, TickBatch batch, double bound) except -1:
        if self.table.rows.no_memory:
            raise MemoryError("the kernel ran out of memory; its state is undefined, start anew")
        self.bars.blank = False
        self.bound = bound if bound <= SAFE_BOUND else self.bars.largest()
        self.table.arrivals += batch.length
        return 0

    cdef bint fold_unchecked(self, TickBatch batch, const int32_t *places, Py_ssize_t count) except? False:
        # A long batch is read from memory once: it is checked as it is folded in, which is worth a copy of the state.
        # False: a row may break a rule, or a sum might overflow, and the state is as it was.
        cdef Pass run
        cdef double bound
        cdef Py_ssize_t start = 0, end
        self.bars.save()
        self.begin(&run, batch, places)
        run.unchecked = True
        run.columns.longest = self.longest_unchecked
        with nogil:
            run.invalid = batch.has_flaw(self.by_id)
            while start < count and not run.invalid:
                end = min(start + CHUNK_ROWS, count) if self.by_id else count
                run.has_voids = self.by_id and batch.lacks_size(places, start, end)
                if run.has_voids:
                    self.table.voids += batch.count_voids(places, start, end)
                fold_batch(self.table, &run, start, end)
                start = end
        bound = self.bound + (<double>(run.seen.prices | self.table.largest_contract) + 1) * (
            <double>run.seen.sizes + 1) * batch.length
        if not self.table.rows.no_memory and (
            run.invalid or bound > SAFE_BOUND or run.seen.prices >> 62
            or run.seen.sizes >= <uint64_t>(HIGHEST // run.columns.longest)
        ):
            self.bars.restore()
            self.bars.forget_saved()
            self.table.rows.count = self.table.rows.late_count = 0
            return False
        self.bars.forget_saved()
        self.finish(batch, bound)
        return True

    # Without a trade.

    def close_until(self, int64_t time_ns, int reason, int group=0):
        self.check_group(group)
        if not 0 <= reason <= NOT_CLOSED:
            raise ValueError(f"reason {reason} is outside 0 to {NOT_CLOSED}")
        note_event(self.table, time_ns)
        if time_ns < self.table.groups.items[group].next_close_ns:
            return NO_ROWS
        self.table.rows.count = 0
        close_until(self.table, time_ns, <uint8_t>reason, group)
        return self.take(True)

    def flush(self, symbol_id=None):
        self.check_unused()
        self.settle()
        self.forget_folded()
        self.begin_series(symbol_id, self.table.arrivals)
        end_bars(self.table, symbol_id, 0)
        return self.take(True)

    def late(self):
        self.check_unused()
        return take_late(&self.table.rows)

    cdef int begin_series(self, object symbol_id, int64_t arrivals) except -1:
        # Trades that still wait for others of their series (of one symbol) are one. `arrivals`: that of row 0.
        cdef Pass run
        cdef Py_ssize_t s
        if not self.by_id or not self.table.ids.renewed.waiting:
            return 0
        memset(&run, 0, sizeof(Pass))
        begin_idle_pass(&run)
        run.inverse = self.table.largest_contract > 0
        for s in range(self.table.symbols):
            if is_waiting(&self.table.ids.renewed, <int32_t>s) and (symbol_id is None or symbol_id == s):
                begin_waiting(
                    self.table, &run, <int32_t>s, self.table.ids.renewed.of[s].waiting[0].arrival - arrivals)
        return 0

    def stray(self, Py_ssize_t place):
        self.check_unused()
        if not self.by_id or not 0 < place <= self.table.ids.renewed.stray_count:
            raise IndexError(f"there is no stray trade {place}")
        stray = self.table.ids.renewed.strays[place - 1]
        return (
            self.instruments.symbol(stray.symbol_id), stray.time_ns, (stray.price, stray.price_scale),
            (stray.size, stray.size_scale), stray.side, stray.first_id, stray.last_id, stray.count, stray.arrival)

    def current(self, int symbol_id, int spec):
        self.check_unused()
        if not (0 <= symbol_id < self.instruments.count and 0 <= spec < self.table.specs.count):
            raise IndexError(
                f"symbol id {symbol_id} or spec {spec} is outside the {self.instruments.count} and {self.table.specs.count}")
        self.settle()
        self.table.rows.count = 0
        if is_shown(self.table, spec, symbol_id):
            current_bar(self.table, spec, symbol_id, 0)
        return self.take(False)

    def changed(self, Progress progress not None, Py_ssize_t first, Py_ssize_t look, Py_ssize_t most):
        cdef Py_ssize_t behind
        self.check_unused()
        self.settle()
        self.table.rows.count = 0
        behind = issue_changed(self.table, progress, max(first, 0), look, most)
        return self.take(False), behind if behind < self.table.symbols * self.table.specs.count else -1

    # Coverage. Each returns the rows that it issues, those of the first symbol first.

    def cover(self, symbol_ids, int64_t from_ns):
        return self.change(symbol_ids, COVER, plain_gap(from_ns, HIGHEST, 0))

    def uncover(self, symbol_ids, int64_t since_ns, bint lost=True):
        return self.change(symbol_ids, UNCOVER, plain_gap(since_ns, HIGHEST, LOST if lost else UNWANTED))

    def lose(self, symbol_ids, int64_t since_ns, int64_t until_ns, int64_t trades=0):
        cdef Gap gap = plain_gap(since_ns, until_ns, LOST)
        if not 0 <= trades <= MOST_TRADES:
            raise ValueError(f"{trades} lost trades are outside 0 to {MOST_TRADES}")
        gap.trades = trades
        return self.change(symbol_ids, LOSE, gap)

    def bridge(self, symbol_ids, int64_t since_ns, int64_t until_ns):
        return self.change(symbol_ids, BRIDGE, plain_gap(since_ns, until_ns, 0))

    def feed_down(self, int64_t time_ns, int64_t up_ns=HIGHEST):
        # Of those that are wanted; of each since the last that was heard of it, if that is behind `up_ns`.
        cdef int64_t heard_ns
        cdef Py_ssize_t s
        self.check_unused()
        if self.table.coverage.is_down:
            return NO_ROWS
        self.table.coverage.is_down = True
        self.begin_change([])
        for s in range(self.table.symbols):
            if self.table.coverage.covers[s].open_kind != UNWANTED:
                heard_ns = max(up_ns, heard_of(self.table, <int>s))
                if heard_ns == LOWEST:
                    heard_ns = time_ns
                change_coverage(self.table, <int>s, UNCOVER, plain_gap(min(time_ns, heard_ns), HIGHEST, LOST), s)
        return self.end_change()

    def feed_up(self, int64_t time_ns):
        cdef Py_ssize_t s
        self.check_unused()
        if not self.table.coverage.is_down:
            return NO_ROWS
        self.table.coverage.is_down = False
        lost = [s for s in range(self.table.symbols) if self.table.coverage.covers[s].open_kind == LOST]
        return self.cover(lost, time_ns)

    def note_lost(self, int symbol_id, int64_t time_ns):
        self.begin_change([symbol_id])
        lose_trade(self.table, symbol_id, time_ns, 0)
        return self.end_change()

    cdef object change(self, symbol_ids, Change change, Gap gap):
        cdef const int32_t[::1] symbols = self.begin_change(symbol_ids)
        cdef Py_ssize_t i
        for i in range(len(symbols)):
            change_coverage(self.table, symbols[i], change, gap, i)
        return self.end_change()

    def gaps(self, int symbol_id):
        cdef int32_t g
        self.check_unused()
        if not 0 <= symbol_id < self.instruments.count:
            raise IndexError(f"symbol id {symbol_id} is outside the {self.instruments.count}")
        self.settle()
        own = self.table.coverage.covers[symbol_id]
        found = []
        g = own.oldest
        while g >= 0:
            gap = self.table.coverage.gaps[g]
            found.append((gap.since_ns, gap.until_ns, gap.kind == LOST))
            g = gap.next
        if own.open_kind:
            found.append((own.open_since_ns, HIGHEST, own.open_kind == LOST))
        return found

    cdef object begin_change(self, symbol_ids):
        # The symbols as an array, all of them known.
        self.check_unused()
        symbols = np.array(symbol_ids, np.int32, ndmin=1)
        if symbols.ndim != 1:
            raise ValueError(f"symbol ids have {symbols.ndim} dimensions, not one")
        if len(symbols) and not (0 <= symbols.min() and symbols.max() < self.instruments.count):
            raise IndexError(f"a symbol id is outside the {self.instruments.count}")
        self.settle()
        self.table.rows.count = 0
        return symbols

    cdef object end_change(self):
        if self.table.rows.no_memory or self.table.coverage.no_memory:
            raise MemoryError("the kernel ran out of memory; its state is undefined, start anew")
        self.bars.blank &= self.table.symbols == 0
        return self.take(True)

    @property
    def covers_itself(self):
        return bool(self.table.coverage.covers_itself)

    @covers_itself.setter
    def covers_itself(self, bint covers_itself):
        self.check_unused()
        self.table.coverage.covers_itself = covers_itself

    cpdef int advance_watermark(self, int64_t time_ns, int group=0) except -1:
        # One beyond every valid trade time says no more than that.
        self.check_group(group)
        note_event(self.table, time_ns)
        self.table.groups.items[group].watermark_ns = max(
            self.table.groups.items[group].watermark_ns, min(time_ns, LATEST_NS))
        return 0

    # Groups of symbols.

    cdef int check_group(self, int group) except -1:
        self.check_unused()
        if not 0 <= group < self.table.groups.count:
            raise IndexError(f"group {group} is outside the {self.table.groups.count}")
        return 0

    def add_group(self):
        self.check_unused()
        self.bars.add_group()
        return self.table.groups.count - 1

    def set_group(self, symbol_ids not None, int group):
        cdef int s
        self.check_group(group)
        self.settle()
        given = [int(s) for s in symbol_ids]
        for s in given:
            self.check_symbol(s)
        for s in given:
            self.bars.assign(s, group)
            expect_close(&self.table.groups, s, next_close_of(self.table, s))

    def restart_group(self, int group, int64_t watermark_ns):
        cdef Py_ssize_t s
        self.check_group(group)
        for s in range(self.table.symbols):
            if self.table.groups.members[s].group == group:
                raise ValueError(f"group {group} still has {self.instruments.label(s)}")
        self.table.groups.items[group].watermark_ns = min(watermark_ns, LATEST_NS)
        self.table.groups.items[group].next_close_ns = HIGHEST

    def group_of(self, int symbol_id):
        self.check_unused()
        self.settle()
        self.check_symbol(symbol_id)
        return self.table.groups.members[symbol_id].group

    def next_close_in(self, int group):
        self.check_group(group)
        return self.table.groups.items[group].next_close_ns

    def watermark_of(self, int symbol_id):
        self.check_unused()
        self.settle()
        self.check_symbol(symbol_id)
        return watermark_of(&self.table.groups, symbol_id)

    cpdef int hold(self, int symbol_id, bint held) except -1:
        self.check_unused()
        self.settle()
        self.check_symbol(symbol_id)
        self.table.groups.members[symbol_id].held = held
        if not held:    # it was left out of what closes next
            expect_close(&self.table.groups, symbol_id, next_close_of(self.table, symbol_id))
        return 0

    cdef int check_symbol(self, int symbol_id) except -1:
        if not 0 <= symbol_id < self.instruments.count:
            raise IndexError(f"symbol id {symbol_id} is outside the {self.instruments.count}")
        return 0

    # What becomes known later about closed bars.

    def beginning(self, int symbol_id, int64_t longest_ns):
        self.check_unused()
        if not self.proves(symbol_id):
            return []
        line = self.table.ids.lines[symbol_id]
        if line.start < 0:      # of a series that has ended: the ids that REST has now are others
            return []
        return [
            (line.start, line.start_ns, open_time)
            for open_time in sorted(partial_beginnings(self.table, symbol_id, longest_ns))
        ]

    def reach_back(self, int symbol_id, int64_t trade_id, int64_t time_ns):
        self.check_unused()
        if not self.proves(symbol_id):
            return self.take(False)
        if not (-1 <= trade_id < HIGHEST and is_time(time_ns)):     # -1: before the first id of all
            raise InvalidTickError(
                f"{self.instruments.label(symbol_id)}: no trade has the id {trade_id} and the time {time_ns} ns")
        self.settle()
        self.table.rows.count = 0
        prove_beginning(self.table, symbol_id, trade_id, time_ns)
        return self.take(False)

    def leave_out(self, int symbol_id, ranges not None):
        self.check_unused()
        if not self.by_id or self.table.sequenced or not 0 <= symbol_id < self.table.symbols:
            return self.take(False)
        given = [(int(a), int(b)) for a, b in ranges]
        for a, b in given:
            if not 0 <= a <= b < HIGHEST:
                raise InvalidTickError(f"{self.instruments.label(symbol_id)}: there are no ids from {a} to {b}")
        self.settle()
        self.table.rows.count = 0
        leave_out_ids(self.table, symbol_id, given)
        return self.take(False)

    cdef bint proves(self, int symbol_id) noexcept:
        # The trade ids of this symbol stand for all of its trades, and some have come.
        return self.table.terms.proof and not self.table.sequenced and 0 <= symbol_id < self.table.symbols

    # A snapshot, for another process of the same build.

    def dump(self, dict recycled=None):
        self.check_unused()
        parts = self.bars.dump(recycled)
        parts["times"] = [
            self.table.arrivals, self.table.healed, bool(self.table.sequenced), bool(self.table.coverage.is_down)]
        return parts

    def load(self, dict parts not None, bint continues=False):
        self.check_unused()
        if not self.is_blank:
            raise ValueError("a snapshot can be loaded only into a kernel without trades")
        self.bars.reserve()
        given = parts.get("times")
        if type(given) is not list or len(given) != 4:
            raise ValueError("the snapshot has no times")
        arrivals, healed = [whole_number("times", each) for each in given[:2]]
        sequenced, is_down = given[2:]
        if type(is_down) is not bool:
            raise ValueError("the snapshot does not say whether the feed was up")
        if type(sequenced) is not bool or (sequenced and not self.by_id):
            raise ValueError("the snapshot does not say whether its messages were numbered")
        try:
            self.bars.take_memory(parts)
            check_bars(self.bars)
            check_times(self.bars, arrivals, healed)
            if self.ledger is not None:
                self.ledger.load(parts, self.table.symbols)
        except BaseException:
            self.bars.restore()      # to what it was before: blank
            self.bars.clear_groups()
            raise
        self.table.coverage.is_down = is_down
        self.table.arrivals, self.table.healed, self.table.sequenced = arrivals, healed, sequenced
        self.bars.point_tips()
        follow_scales(self.bars)
        self.bars.version = self.instruments.version
        self.bars.blank = False
        self.bound = self.bars.largest()
        if not continues:
            raise_revisions(self.bars)

    # Settings, and counters.

    @property
    def specs(self):
        return self.bars.trees.specs

    @property
    def proof(self):
        return bool(self.table.terms.proof)

    @property
    def fill(self):
        return bool(self.table.terms.fill)

    @property
    def lateness_ns(self):
        return self.table.terms.lateness_ns

    @property
    def horizon_ns(self):
        return self.table.terms.horizon_ns

    @property
    def groups(self):
        return self.table.groups.count

    @property
    def next_close_ns(self):
        return earliest_close(&self.table.groups)

    @property
    def duplicates(self):
        return self.table.duplicates

    @property
    def voids(self):
        return self.table.voids

    @property
    def begun(self):
        return self.table.ids.renewed.begun if self.by_id else 0

    @property
    def healed(self):
        return self.table.healed

    @property
    def ordinary_closes(self):
        return self.table.ordinary_closes

    @property
    def footprints_lost(self):
        return self.table.inside.lost

    @property
    def is_blank(self):
        return bool(self.bars.blank and self.table.appeared_count == 0 and self.table.records.count == 0)

    @property
    def trade_times_ns(self):
        cdef Py_ssize_t i
        cdef int k = self.table.specs.trees[0].root if self.table.specs.tree_count else 0
        self.check_unused()
        times = np.empty(self.table.symbols, np.int64)
        cdef int64_t[::1] out = times
        for i in range(self.table.symbols):
            out[i] = max(self.table.pasts[k][i].newest_ns, self.table.slots[k][i].bar.last_time)
        return times


cdef object _checked_places(TickBatch batch, const int32_t[::1] places):
    # A copy, which the caller cannot change while it is used.
    cdef Py_ssize_t i, count = len(places)
    cdef bint falls = False
    cdef const int32_t[::1] own
    if batch.sequence is not NULL:
        raise InvalidTickError("a batch with sequence numbers must be folded in whole")
    own = np.array(places)
    for i in range(1, count):
        falls |= own[i] <= own[i - 1]
    if falls or own[0] < 0 or own[count - 1] >= batch.length:
        raise IndexError(f"places must ascend, and be rows of the batch's {batch.length}")
    return own
