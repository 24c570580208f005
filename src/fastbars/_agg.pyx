"""The bar-aggregation kernel: columns of trades in, columns of bars out.

Each symbol and spec has one open bar (a Slot) and a short list of closed ones that can still be amended
(Records). A trade is folded into the open bar, closes it, or, when it is late, amends the closed bar that
it belongs to; whatever changes about an issued bar is the same bar issued again with the next revision.
Every row that is more than the next trade of an open bar is judged alone, so the bars that come out do not
depend on how trades were cut into batches.

Time specs whose intervals nest form a tree (BarState.trees). Its root takes the trades; a bar of the others
is made of closed bars of its source and the running one, by the law that bars merge. A trade that the source
holds in no open bar goes straight into the bar that it feeds.

A batch is all or nothing: its rows are checked before they are folded in. Where they are many, they are checked as
they are folded in, and where a bound cannot prove that no 128-bit sum overflows, sums are: the state is saved first
then, and restored on failure.

Units: times int64 ns since the epoch, UTC; prices and sizes mantissas at the instrument's scales; quote sums
at the sum of both scales.
"""

import numpy as np

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

from fastbars.batch cimport TickBatch
from fastbars.closing cimport BY_TRADE, END, FILLED, START, BarClosing
from fastbars.fold cimport Columns, Seen, begins_stretch, columns_of, fold_path_rows, fold_path_stretch, fold_time_rows, fold_time_stretch
from fastbars.ledger cimport AHEAD, DUPLICATE, FILLS, FIRST, FORGOTTEN, NO_MEMORY, OVERLAP, Ledger, Verdict
from fastbars.scaled cimport HIGHEST, LOWEST, POWER_OF_TEN, int128, less128, prefetch
from fastbars.state cimport Past, Row, Slot
from fastbars.summary cimport MONTHS, TICK, VALUE, VOLUME, Summary, add_trade, is_within, merge_bar, total_of, widen_bar

from fastbars.errors import InvalidTickError, PrecisionError
from fastbars.state import ROW_DTYPE as _ROW_DTYPE

# Ids from here on are looked at one by one: there is one more after each, but for the largest.
cdef int64_t LAST_IDS = HIGHEST - (1 << 48)
# How far outside the times of its hole a trade from REST can lie, where lateness allows more.
cdef int64_t LARGEST_SLACK_NS = 3_600_000_000_000
# Sums below this cannot overflow 128 bits, rounding of the bound included.
cdef double SAFE_BOUND = 1.6e38

cdef enum:
    ROWS_AHEAD = 8              # less than fold.pxd's PLACES_AHEAD
    LONG_STRETCH = 1 << 14
    LONG_BATCH = 1024           # of which the check is worth handing the interpreter to others


# The loop over ordinary trades, a function of its own for each kind of batch.

ctypedef Py_ssize_t (*FoldLoop)(
    Slot *slots, const Columns *columns, Py_ssize_t start, Py_ssize_t stop, bint inverse, Seen *seen) noexcept nogil


cdef Py_ssize_t _fold_by_single_id(
    Slot *slots, const Columns *columns, Py_ssize_t start, Py_ssize_t stop, bint inverse, Seen *seen
) noexcept nogil:
    return fold_time_rows(slots, columns, start, stop, True, True, False, seen)


cdef Py_ssize_t _fold_by_id(
    Slot *slots, const Columns *columns, Py_ssize_t start, Py_ssize_t stop, bint inverse, Seen *seen
) noexcept nogil:
    return fold_time_rows(slots, columns, start, stop, True, False, inverse, seen)


cdef Py_ssize_t _fold_by_time(
    Slot *slots, const Columns *columns, Py_ssize_t start, Py_ssize_t stop, bint inverse, Seen *seen
) noexcept nogil:
    return fold_time_rows(slots, columns, start, stop, False, False, inverse, seen)


cdef class BarKernel(BarClosing):
    def __cinit__(self):
        self.longest_unchecked = LONG_STRETCH

    def update(self, TickBatch batch not None, bint ends=False):
        cdef Py_ssize_t closed
        if ends:
            self.settle()
            self.make_room(batch, self.width * self.symbols)
        self.fold(batch)
        if not ends:
            return self.take_folded()
        closed = self.row_count
        self.end_bars(None, batch.length)
        rows, late = self.take_folded()
        if len(rows) > closed:
            rows["row"][closed:] = np.arange(len(rows) - closed)
        return rows, late

    cdef tuple take_folded(self):
        # What the last fold issued, and the trades that it could not place.
        late = [(self.late[i].row, self.late[i].spec) for i in range(self.late_count)]
        return self.take(), late

    cdef int fold(self, TickBatch batch) except -1:
        cdef double bound, largest
        cdef int64_t largest_size
        cdef Py_ssize_t failed
        if batch.instruments is not self.instruments:
            raise InvalidTickError("the batch belongs to other instruments than this kernel")
        self.row_count = self.late_count = 0
        if batch.length == 0:
            return 0
        if batch.rescaled != self.instruments.rescaled:
            raise InvalidTickError("a scale was widened after this batch was built; build it again")
        if self.by_id and batch.first_id is NULL:
            raise InvalidTickError("ids are to prove completeness, but the batch has no first_id column")
        self.settle()
        if self.unfit:
            for i in range(batch.length):
                if batch.symbol_id[i] in self.unfit:
                    raise PrecisionError(
                        f"{self.instruments.label(batch.symbol_id[i])}: row {i}: the sums of its open bar do not fit 128"
                        " bits with the decimals that this symbol's trades need now", i)
        if batch.sequence is not NULL and not self.sequenced:
            self.follow_tips()
        self.make_room(batch, 0)
        if (
            self.tree_count and not self.sequenced and not self.healing and batch.length > self.size()
            and self.fold_unchecked(batch)
        ):
            return 0
        if batch.length == 1:
            largest = batch.check_row(self.symbols, self.largest_contract, &largest_size)
        elif batch.length < LONG_BATCH:
            largest = batch.check(self.symbols, self.largest_contract, &largest_size)
        else:
            with nogil:
                largest = batch.check(self.symbols, self.largest_contract, &largest_size)
        if largest < 0:
            batch.refuse(self.symbols)
        bound = self.bound + batch.length * largest
        self.careful = self.sequenced or bound > SAFE_BOUND
        self.longest = min(batch.length, <Py_ssize_t>(HIGHEST // largest_size))
        if bound > SAFE_BOUND:
            self.save()
        self.overflow_row = -1
        if self.healing:
            self.heal_rows(batch)
        elif batch.length == 1:  # not worth handing the interpreter to others
            self.run(batch, 0, 1)
        else:
            with nogil:
                self.run(batch, 0, batch.length)
        failed = self.overflow_row
        if failed >= 0:
            self.restore()
        self.forget_saved()
        if failed >= 0:
            symbol_id = batch.symbol_id[failed]
            raise PrecisionError(
                f"{self.instruments.label(symbol_id)}: with row {failed} (price mantissa {batch.price[failed]}, size mantissa"
                f" {batch.size[failed]}) the volume or quote volume of a bar leaves 128 bits", failed)
        self.longest_unchecked = min(self.longest_unchecked, <Py_ssize_t>(HIGHEST // largest_size))
        return self.finish(batch, bound)

    cdef int finish(self, TickBatch batch, double bound) except -1:
        if self.no_memory:
            raise MemoryError("the kernel ran out of memory; its state is undefined, start anew")
        self.blank = False
        self.bound = bound if bound <= SAFE_BOUND else self.largest()
        self.arrivals += batch.length
        return 0

    cdef bint fold_unchecked(self, TickBatch batch) except? False:
        # A long batch is read from memory once: it is checked as it is folded in, which is worth a copy of the state.
        # False: a row may break a rule, or a sum might overflow, and the state is as it was.
        cdef double bound
        self.save()
        self.unchecked = True
        self.invalid = self.careful = False
        self.seen = Seen(0, 0)
        self.longest = self.longest_unchecked
        with nogil:
            self.invalid = batch.has_flaw(self.by_id)
            if not self.invalid:
                self.run(batch, 0, batch.length)
        self.unchecked = False
        bound = self.bound + (<double>(self.seen.prices | self.largest_contract) + 1) * (
            <double>self.seen.sizes + 1) * batch.length
        if not self.no_memory and (
            self.invalid or bound > SAFE_BOUND or self.seen.prices >> 62
            or self.seen.sizes >= <uint64_t>(HIGHEST // self.longest)
        ):
            self.restore()
            self.forget_saved()
            self.row_count = self.late_count = 0
            return False
        self.forget_saved()
        self.finish(batch, bound)
        return True

    def heal(self, TickBatch batch not None):
        cdef int64_t healed = self.healed
        cdef Py_ssize_t i
        if not self.by_id:
            raise InvalidTickError("trades without ids fill no hole")
        for i in range(1, batch.length):
            if batch.symbol_id[i] != batch.symbol_id[0]:
                raise InvalidTickError("trades that heal are of one symbol at a time", i)
        self.healing = True
        try:
            return self.update(batch)
        except BaseException:
            self.healed = healed
            raise
        finally:
            self.healing = self.fills = False

    def beginning(self, int symbol_id, int64_t longest_ns):
        cdef const Past *past
        cdef int32_t r
        cdef int k
        cdef bint partial
        if not self.proof or self.sequenced or not 0 <= symbol_id < self.symbols:
            return []
        opened = set()
        line = self.ledger.lines[symbol_id]
        for k in range(self.width):
            past = &self.pasts[k][symbol_id]
            if self.rules[k].kind > MONTHS or past.start_ns == HIGHEST or line.start_ns - past.start_ns > longest_ns:
                continue
            partial = self.is_open(k, symbol_id) and self.slots[k][symbol_id].flags & START
            r = self.slots[k][symbol_id].oldest
            while r >= 0 and not partial:
                partial = self.records[r].flags & START and not self.records[r].flags & END
                r = self.records[r].next
            if partial:
                opened.add(past.start_ns)
        return [(line.start, line.start_ns, open_time) for open_time in sorted(opened)]

    def reach_back(self, int symbol_id, int64_t trade_id, int64_t time_ns):
        cdef Slot *slot
        cdef Past *past
        cdef int32_t r
        cdef int64_t until
        cdef int k
        if not self.proof or self.sequenced or not 0 <= symbol_id < self.symbols:
            return self.take()
        self.settle()
        self.row_count = 0
        self.note_safe(symbol_id)
        until = self.ledger.lines[symbol_id].start_ns
        if time_ns > until or not self.ledger.reach_back(symbol_id, trade_id, time_ns):
            return self.take()
        for k in range(self.width):
            slot, past = &self.slots[k][symbol_id], &self.pasts[k][symbol_id]
            if self.rules[k].kind > MONTHS or past.start_ns <= time_ns:
                continue
            past.start_ns = time_ns + 1
            if self.is_open(k, symbol_id) and slot.bar.open_time > time_ns and slot.flags & START:
                slot.flags = (slot.flags & ~START) | FILLED
            r = slot.oldest
            while r >= 0:
                if self.records[r].bar.open_time > time_ns and self.records[r].flags & START:
                    self.records[r].flags = (self.records[r].flags & ~START) | FILLED
                r = self.records[r].next
            if self.ledger.touched.first > self.ledger.touched.last:
                self.rejudge(k, symbol_id, time_ns, until, 0)
        return self.take()

    cdef int follow_tips(self) except -1:
        # From here on the ledger counts sequence numbers, which the bars do not know.
        for symbol_id in range(self.symbols):
            self.ledger.catch_up(symbol_id)
        self.ledger.tips = NULL
        self.sequenced = True
        return 0

    cdef void run(self, TickBatch batch, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
        cdef Py_ssize_t end
        cdef int k, t, asked = 0
        while start < stop:
            # Up to the first row whose id is not the next one: the first tree tells by its own bars.
            end = stop
            if self.ledger is not None:
                if self.tree_count and not self.sequenced:
                    end = self.fold_tree(0, batch, start, stop, True)
                    asked = 1
                else:
                    end = self.ledger.advance(batch, start, stop)
            elif self.tree_count:
                self.fold_tree(0, batch, start, stop, False)
                asked = 1
            if self.invalid:
                return
            for t in range(asked, self.tree_count):
                self.fold_tree(t, batch, start, end, False)
            for k in range(self.width):
                if self.rules[k].kind > MONTHS:
                    self.fold_path(k, batch, start, end)
            if end < stop:
                self.take_unexpected(batch, end)
                end += 1
            start = end

    cdef void take_unexpected(self, TickBatch batch, Py_ssize_t row) noexcept nogil:
        # A trade whose id is not the next one.
        cdef int32_t s = batch.symbol_id[row]
        cdef Verdict verdict = self.resolve(batch, row)
        # Where times run backwards, a trade inside a hole makes what is left of it reach further in time.
        cdef int64_t time = batch.time_ns[row]
        cdef int64_t since = min(time, min(self.ledger.touched.since_ns, self.ledger.touched.until_ns))
        cdef int64_t until = max(time, max(self.ledger.touched.since_ns, self.ledger.touched.until_ns))
        cdef int k, t
        if verdict == DUPLICATE:
            self.duplicates += 1
            return
        if verdict == OVERLAP or verdict == FORGOTTEN:
            self.not_placed(row, -1)
            return
        if verdict == NO_MEMORY:
            self.no_memory = True
            return
        if verdict == AHEAD:
            for k in range(self.width):
                self.rejudge(k, s, since, until, row)
        self.fills = verdict == FILLS
        for t in range(self.tree_count):
            self.fold_row(t, batch, row)
        self.fills = False
        for k in range(self.width):
            if self.rules[k].kind > MONTHS:
                if verdict != FIRST:
                    self.slots[k][s].broken = 1
                self.fold_path(k, batch, row, row + 1)
        if verdict == FILLS:
            for k in range(self.width):
                self.rejudge(k, s, since, until, row)

    cdef void heal_rows(self, TickBatch batch) noexcept nogil:
        # Those that lie in holes are taken; the others have come meanwhile, or nobody asked for them. Each bar that
        # changes is issued once, whatever the number of its trades. Path-driven bars stay as they are.
        cdef int32_t s = batch.symbol_id[0]
        cdef int64_t since = HIGHEST, until = LOWEST
        cdef Summary *bar
        cdef Py_ssize_t row
        cdef int k, t
        self.fills = True
        for row in range(batch.length):
            if not self.ledger.is_missing(batch, row, min(self.lateness_ns, LARGEST_SLACK_NS)):
                continue
            if self.resolve(batch, row) == NO_MEMORY:
                self.no_memory = True
                return
            since = min(since, min(batch.time_ns[row], min(self.ledger.touched.since_ns, self.ledger.touched.until_ns)))
            until = max(until, max(batch.time_ns[row], max(self.ledger.touched.since_ns, self.ledger.touched.until_ns)))
            self.healed += 1
            for t in range(self.tree_count):
                self.fold_row(t, batch, row)
        for k in range(self.width):
            if self.rules[k].kind > MONTHS:
                continue
            bar = &self.slots[k][s].bar
            if self.is_open(k, s) and bar.open_time <= until and since < bar.close_time:
                self.slots[k][s].flags |= FILLED
            self.rejudge(k, s, since, until, batch.length)

    cdef Verdict resolve(self, TickBatch batch, Py_ssize_t row) noexcept nogil:
        self.note_safe(batch.symbol_id[row])
        return self.ledger.resolve(batch, row)

    cdef void note_safe(self, int symbol_id) noexcept nogil:
        # No bar that closes later than this was let go.
        cdef int t
        self.ledger.safe_ns = LOWEST
        for t in range(self.tree_count):
            self.ledger.safe_ns = max(self.ledger.safe_ns, self.event_time(t, symbol_id) - self.lateness_ns)

    # Time bars.

    cdef Py_ssize_t fold_tree(
        self, int tree, TickBatch batch, Py_ssize_t start, Py_ssize_t stop, bint asks
    ) noexcept nogil:
        # Returns the first row whose id is not the next one, where it `asks`; else stop.
        cdef Slot *slots = self.slots[self.trees[tree].root]
        cdef Columns columns = columns_of(batch, self.arrivals, self.symbols, self.longest)
        cdef bint inverse = self.largest_contract > 0
        cdef Py_ssize_t i = start, end
        cdef bint single = self.by_id and batch.last_id == batch.first_id and batch.count is NULL and not inverse
        cdef Fetched fetched = Fetched(start, start)
        cdef FoldLoop fold_ordinary = _fold_by_time
        if self.by_id:
            fold_ordinary = _fold_by_id
        if single:
            fold_ordinary = _fold_by_single_id
        while i < stop:
            if not self.careful:
                i = fold_ordinary(slots, &columns, i, stop, inverse, &self.seen)
                if i >= stop:
                    break
                if i + 2 < stop and begins_stretch(&columns, i):
                    end = fold_time_stretch(slots, &columns, i, stop, self.by_id, single, &self.seen)
                    if end > i:
                        i = end
                        continue
            if self.unchecked:
                if not batch.is_valid(i, self.symbols):
                    self.invalid = True
                    break
                self.seen.prices |= <uint64_t>batch.price[i] - 1
                self.seen.sizes |= <uint64_t>batch.size[i] - 1
            self.fetch_ahead(tree, batch, i, &fetched, stop)
            if asks and not self.ledger.takes_next(batch, i):
                return i
            self.fold_row(tree, batch, i)
            i += 1
        return stop

    cdef void fetch_ahead(
        self, int tree, TickBatch batch, Py_ssize_t row, Fetched *fetched, Py_ssize_t stop
    ) noexcept nogil:
        # Bars close in swarms: where one does, what the next ones need besides is fetched while it is worked on.
        cdef const Slot *slots = self.slots[self.trees[tree].root]
        cdef Py_ssize_t far = min(row + ROWS_AHEAD, stop), near = min(row + ROWS_AHEAD // 2, stop), i
        for i in range(max(fetched.slots, row), far):
            if <uint32_t>batch.symbol_id[i] < <uint32_t>self.symbols and (
                batch.time_ns[i] >= slots[batch.symbol_id[i]].gate.limit
            ):
                self.fetch_rest(tree, batch.symbol_id[i])
        for i in range(max(fetched.records, row), near):
            if <uint32_t>batch.symbol_id[i] < <uint32_t>self.symbols and (
                batch.time_ns[i] >= slots[batch.symbol_id[i]].gate.limit
            ):
                self.fetch_records(&slots[batch.symbol_id[i]])
        fetched[0] = Fetched(max(fetched.slots, far), max(fetched.records, near))

    cdef void fetch_rest(self, int tree, int symbol_id) noexcept nogil:
        cdef int j
        cdef const Slot *root = &self.slots[self.trees[tree].root][symbol_id]
        cdef const Slot *slot
        prefetch(&self.pasts[self.trees[tree].root][symbol_id])
        if self.by_id:
            prefetch(&self.ledger.lines[symbol_id])
        prefetch(&root.bar.open_time)
        for j in range(self.trees[tree].start + 1, self.trees[tree].stop):
            slot = &self.slots[self.order[j]][symbol_id]
            if self.source[self.order[j]] == self.trees[tree].root or root.bar.last_time == LOWEST:
                prefetch(&slot.bar.open_time)
                prefetch(slot)
                prefetch(&slot.bar.sums[0].volume.hi)

    cdef void fetch_records(self, const Slot *slot) noexcept nogil:
        if slot.oldest >= 0:
            prefetch(&self.records[slot.oldest].bar.close_time)
            prefetch(&self.records[slot.oldest].next)
            prefetch(&self.records[slot.newest].next)

    cdef void fold_row(self, int tree, TickBatch batch, Py_ssize_t row) noexcept nogil:
        # One trade, whatever it is, into the bars of all specs of a tree.
        cdef int32_t s = batch.symbol_id[row]
        cdef int64_t time = batch.time_ns[row]
        cdef Slot *slot
        cdef Past *past
        cdef const Summary *feeding
        cdef Summary total
        cdef bint placed = False, fed, rolled
        cdef int j = self.trees[tree].start, k
        self.event_ns = self.event_time(tree, s)
        while j < self.trees[tree].stop:
            k = self.order[j]
            slot = &self.slots[k][s]
            feeding = NULL if self.source[k] < 0 else &self.slots[self.source[k]][s].bar
            fed = feeding is not NULL and feeding.open_time <= time < feeding.close_time
            j += 1
            if time < slot.bar.open_time:
                placed |= self.fold_late(k, batch, row)
                if fed:
                    self.note_not_contained(k, s)
                continue
            placed = True
            rolled = time >= slot.bar.close_time
            if rolled:
                self.roll(k, s, time, row)
            if not fed and add_trade(&slot.bar, batch, row, slot.contract, self.by_id, self.arrivals + row):
                self.overflowed(row)
            if self.healing:
                slot.flags |= FILLED
            if self.careful and self.total(k, s, &total):
                self.overflowed(row)
            if not rolled and slot.contained and not self.healing and not self.careful:
                j = self.behind[j - 1]      # it is in all of them, with this bar
        if placed:
            past = &self.pasts[self.trees[tree].root][s]
            past.newest_ns = max(past.newest_ns, time)
        self.set_limit(tree, s)

    cdef void note_not_contained(self, int spec, int symbol_id) noexcept nogil:
        # The open bar of `spec` is behind the one that feeds it: a flush ended it early, or time without trades was cut.
        while self.source[spec] >= 0:
            spec = self.source[spec]
            self.slots[spec][symbol_id].contained = 0

    cdef void set_limit(self, int tree, int symbol_id) noexcept nogil:
        # Up to where a trade needs no look at the ledger, nor at the bars that the root feeds.
        cdef Slot *root = &self.slots[self.trees[tree].root][symbol_id]
        root.gate.limit = LOWEST
        if not root.bar.open_time < root.bar.close_time or not root.contained:
            return
        if self.by_id and (
            root.bar.last_id + 1 != self.ledger.lines[symbol_id].expected or root.bar.last_id > LAST_IDS
        ):
            return
        root.gate.limit = root.bar.close_time

    # Path-driven bars.

    cdef void fold_path(self, int spec, TickBatch batch, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
        cdef Slot *slots = self.slots[spec]
        cdef Columns columns = columns_of(batch, self.arrivals, self.symbols, self.longest)
        cdef bint inverse = self.largest_contract > 0
        cdef int kind = self.rules[spec].kind
        cdef int64_t step = self.rules[spec].step
        cdef Py_ssize_t i = start
        while i < stop:
            if not self.careful:
                i = self.fold_path_stretch(spec, &columns, i, stop)
                if kind == TICK:
                    i = fold_path_rows(TICK, step, slots, &columns, i, stop, self.by_id, inverse)
                elif kind == VOLUME:
                    i = fold_path_rows(VOLUME, step, slots, &columns, i, stop, self.by_id, inverse)
                else:
                    i = fold_path_rows(VALUE, step, slots, &columns, i, stop, self.by_id, inverse)
                if i >= stop:
                    break
            self.fold_path_row(spec, batch, i)
            i += 1

    cdef Py_ssize_t fold_path_stretch(
        self, int spec, const Columns *columns, Py_ssize_t start, Py_ssize_t stop
    ) noexcept nogil:
        # The rows of one symbol that come next: with few symbols, whole bars.
        cdef Slot *slot
        cdef int kind = self.rules[spec].kind
        cdef int64_t step = self.rules[spec].step
        cdef Py_ssize_t i = start, end
        while i + 1 < stop and columns.symbol_id[i] == columns.symbol_id[i + 1]:
            slot = &self.slots[spec][columns.symbol_id[i]]
            if kind == TICK:
                end = fold_path_stretch(TICK, step, slot, columns, i, stop, self.by_id, slot.contract)
            elif kind == VOLUME:
                end = fold_path_stretch(VOLUME, step, slot, columns, i, stop, self.by_id, slot.contract)
            else:
                end = fold_path_stretch(VALUE, step, slot, columns, i, stop, self.by_id, slot.contract)
            if end == i:
                break
            i = end
        return i

    cdef void fold_path_row(self, int spec, TickBatch batch, Py_ssize_t row) noexcept nogil:
        # Count, volume and value bars take trades as they arrive; the one that reaches the step is the last.
        cdef Slot *slot = &self.slots[spec][batch.symbol_id[row]]
        cdef Summary *bar = &slot.bar
        cdef int kind = self.rules[spec].kind
        cdef int128 total
        cdef bint reached
        cdef int64_t opened, first, last
        if bar.count == 0:
            self.roll(spec, batch.symbol_id[row], batch.time_ns[row], row)
        opened = bar.open if bar.count else batch.price[row]
        first, last = bar.first_id, bar.last_id
        if add_trade(bar, batch, row, slot.contract, False, self.arrivals + row):
            self.overflowed(row)
        bar.open, bar.close = opened, batch.price[row]
        if self.by_id:
            bar.first_id = min(first, batch.first_id[row])
            bar.last_id = max(last, batch.last_id[row])
        if kind == TICK:
            reached = bar.count >= self.rules[spec].step
        else:
            total = total_of(bar, kind == VOLUME)
            reached = not less128(&total, &slot.gate.threshold)
        if reached:
            self.close(spec, batch.symbol_id[row], row, BY_TRADE, 0)


def merge_rows(rows, others, bint by_id):
    cdef Row mine, other
    cdef Py_ssize_t i
    cdef size_t target, source
    merged = np.array(rows, dtype=_ROW_DTYPE)
    others = np.ascontiguousarray(others, dtype=_ROW_DTYPE)
    if len(merged) != len(others):
        raise ValueError(f"{len(merged)} bars cannot be merged with {len(others)}")
    for i in range(len(merged)):
        target = <size_t>merged.ctypes.data + i * sizeof(Row)
        source = <size_t>others.ctypes.data + i * sizeof(Row)
        memcpy(&mine, <void *>target, sizeof(Row))
        memcpy(&other, <void *>source, sizeof(Row))
        _to_scale(&other, mine.price_scale, mine.size_scale, mine.quote_scale)
        _to_scale(&mine, other.price_scale, other.size_scale, other.quote_scale)
        if merge_bar(&mine.bar, &other.bar, by_id):
            raise PrecisionError(f"row {i}: the merged sums do not fit 128 bits", i)
        mine.status = max(mine.status, other.status)
        mine.missing = mine.missing + other.missing if mine.missing >= 0 and other.missing >= 0 else -1
        mine.revision = max(mine.revision, other.revision)
        memcpy(<void *>target, &mine, sizeof(Row))
    return merged


cdef int _to_scale(Row *row, int price_scale, int size_scale, int quote_scale) except -1:
    # Widens `row` to scales that are larger than its own.
    cdef int price_shift = max(price_scale - row.price_scale, 0)
    cdef int size_shift = max(size_scale - row.size_scale, 0)
    cdef int quote_shift = max(quote_scale - row.quote_scale, 0)
    if row.bar.high > HIGHEST // POWER_OF_TEN[price_shift] or quote_shift < size_shift or widen_bar(
        &row.bar, POWER_OF_TEN[price_shift], POWER_OF_TEN[size_shift], POWER_OF_TEN[quote_shift - size_shift]
    ):
        raise PrecisionError(
            f"a bar with {row.price_scale} decimals of price and {row.size_scale} of size does not fit with"
            f" {price_scale} and {size_scale}"
        )
    row.price_scale += price_shift
    row.size_scale += size_shift
    row.quote_scale += quote_shift
    return 0
