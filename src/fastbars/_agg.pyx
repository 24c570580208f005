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
from libc.stdlib cimport free, malloc

from fastbars.kernel.batch cimport BYTES_A_ROW, Rules, TickBatch
from fastbars.kernel.fold cimport (
    Columns, Seen, begins_stretch, columns_of, fold_rows, fold_time_stretch, row_at, take_ordinary,
)
from fastbars.kernel.ids cimport AHEAD, DUPLICATE, FILLS, FIRST, FORGOTTEN, NO_MEMORY, OVERLAP, Verdict
from fastbars.kernel.paths cimport BarPaths
from fastbars.kernel.amend cimport FILLED
from fastbars.kernel.scaled cimport HIGHEST, LOWEST, prefetch
from fastbars.kernel.table cimport Past, Slot
from fastbars.kernel.summary cimport FIXED, MONTHS, Summary, add_trade

from fastbars.errors import InvalidTickError, PrecisionError

# Ids from here on are looked at one by one: there is one more after each, but for the largest.
cdef int64_t LAST_IDS = HIGHEST - (1 << 48)
# How far outside the times of its hole a trade from REST can lie, where lateness allows more.
cdef int64_t LARGEST_SLACK_NS = 3_600_000_000_000
# Sums below this cannot overflow 128 bits, rounding of the bound included.
cdef double SAFE_BOUND = 1.6e38
# Sums below this stay below SAFE_BOUND with one more trade, whatever its price and size.
cdef double SMALL_BOUND = 7e37

cdef enum:
    ROWS_AHEAD = 8              # less than kernel/fold.pxd's PLACES_AHEAD
    CHUNK_ROWS = 1 << 13        # of a long batch, which is looked through for void rows while it is in the cache
    LONG_BATCH = 1024           # worth making room for, and handing the interpreter to others
    LONG_STRETCH = 1 << 14      # rows whose sizes are taken to sum within 64 bits until larger ones have come


# The loop over ordinary trades, a function of its own for each kind of batch.

ctypedef Py_ssize_t (*FoldLoop)(
    Slot *slots, const Columns *columns, Py_ssize_t start, Py_ssize_t stop, bint inverse, Seen *seen) noexcept nogil


cdef Py_ssize_t _fold_by_single_id(
    Slot *slots, const Columns *columns, Py_ssize_t start, Py_ssize_t stop, bint inverse, Seen *seen
) noexcept nogil:
    return fold_rows(FIXED, 0, slots, columns, start, stop, True, True, False, False, seen)


cdef Py_ssize_t _fold_by_id(
    Slot *slots, const Columns *columns, Py_ssize_t start, Py_ssize_t stop, bint inverse, Seen *seen
) noexcept nogil:
    return fold_rows(FIXED, 0, slots, columns, start, stop, True, False, False, inverse, seen)


cdef Py_ssize_t _fold_voids_by_single_id(
    Slot *slots, const Columns *columns, Py_ssize_t start, Py_ssize_t stop, bint inverse, Seen *seen
) noexcept nogil:
    return fold_rows(FIXED, 0, slots, columns, start, stop, True, True, True, False, seen)


cdef Py_ssize_t _fold_voids_by_id(
    Slot *slots, const Columns *columns, Py_ssize_t start, Py_ssize_t stop, bint inverse, Seen *seen
) noexcept nogil:
    return fold_rows(FIXED, 0, slots, columns, start, stop, True, False, True, inverse, seen)


cdef Py_ssize_t _fold_by_time(
    Slot *slots, const Columns *columns, Py_ssize_t start, Py_ssize_t stop, bint inverse, Seen *seen
) noexcept nogil:
    return fold_rows(FIXED, 0, slots, columns, start, stop, False, False, False, inverse, seen)


cdef class BarKernel(BarPaths):
    def __cinit__(self):
        self.longest_unchecked = LONG_STRETCH

    def __dealloc__(self):
        free(self.copy_memory)

    def update(self, TickBatch batch not None, bint ends=False, const int32_t[::1] places=None):
        cdef Py_ssize_t closed
        self.check_unused()
        if places is not None:
            return self.update_places(batch, ends, places)
        if ends and batch.length:
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

    cdef tuple update_places(self, TickBatch batch, bint ends, const int32_t[::1] places):
        cdef Py_ssize_t i, count = len(places)
        cdef const int32_t[::1] own
        cdef const int32_t *place = NULL
        cdef bint falls = False
        self.check_unused()
        if batch.sequence is not NULL:
            raise InvalidTickError("rows that carry sequence numbers are folded in all together")
        if count == 0:
            self.arrivals += batch.length
            return self.update(batch.part(0, 0), ends)
        own = np.array(places)      # nobody else can change these while they are used
        place = &own[0]
        for i in range(1, count):
            falls |= place[i] <= place[i - 1]
        if falls or place[0] < 0 or place[count - 1] >= batch.length:
            raise IndexError(f"places must ascend, and be rows of the batch's {batch.length}")
        self.places, self.place_count = place, count
        try:
            return self.update(batch, ends)
        finally:
            self.places = NULL

    cdef tuple take_folded(self):
        # What the last fold issued, and the trades that it could not place.
        return self.take(), self.take_late()

    cdef int fold(self, TickBatch batch) except -1:
        if self.busy:
            self.check_unused()
        if batch.length == 1 and not batch.borrows and self.bound < SMALL_BOUND:
            return self.fold_alone(batch)   # keeps the interpreter lock, saves nothing, and calls nobody
        if batch.borrows and batch.length < LONG_BATCH:
            batch = self.copy_of(batch)
        self.busy = batch.folding = True
        if self.ledger is not None:
            self.ledger.busy = True
        try:
            return self.fold_alone(batch)
        finally:
            self.busy = batch.folding = False
            if self.ledger is not None:
                self.ledger.busy = False

    cdef TickBatch copy_of(self, TickBatch batch):
        # What is checked before it is folded in must be what is folded in, and those whose memory it is can change it.
        if self.copy_memory is NULL:
            self.copy_memory = <char *>malloc(LONG_BATCH * BYTES_A_ROW)
            if self.copy_memory is NULL:
                raise MemoryError
            self.copy = TickBatch.__new__(TickBatch, batch.instruments)
        self.copy.copy_rows(batch, self.copy_memory)
        return self.copy

    cdef int fold_alone(self, TickBatch batch) except -1:
        cdef double bound, largest
        cdef int64_t largest_size
        cdef Py_ssize_t failed
        cdef bint voids = False
        cdef Rules rules
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
        if batch.length >= LONG_BATCH:
            self.make_room(batch, 0)
            # (What is seen of prices as they are folded in tells nothing of those with a sign.)
            if batch.length > self.size() and not self.sequenced and not self.healing and (
                not self.instruments.negative_prices and self.fold_unchecked(batch)
            ):
                return 0
            if batch.borrows:       # see copy_of
                batch = batch.own_copy()
        rules = Rules(self.symbols, self.largest_contract, self.by_id, self.instruments.negative_prices)
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
        self.careful = self.sequenced or bound > SAFE_BOUND
        self.longest = min(batch.length, <Py_ssize_t>(HIGHEST // largest_size))
        if bound > SAFE_BOUND:
            self.save()
        self.overflow_row = -1
        self.invalid = False
        self.has_voids = voids
        if voids and not self.healing:
            self.voids += batch.count_voids(self.places, 0, batch.length if self.places is NULL else self.place_count)
        if self.healing:
            self.heal_rows(batch)
        elif batch.length == 1:  # not worth handing the interpreter to others
            self.run(batch, 0, 1)
        else:
            with nogil:
                self.run(batch, 0, batch.length if self.places is NULL else self.place_count)
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
        cdef Py_ssize_t start = 0, end, stop = batch.length if self.places is NULL else self.place_count
        self.save()
        self.unchecked = True
        self.invalid = self.careful = False
        self.seen = Seen(0, 0)
        self.longest = self.longest_unchecked
        with nogil:
            self.invalid = batch.has_flaw(self.by_id)
            while start < stop and not self.invalid:
                end = min(start + CHUNK_ROWS, stop) if self.by_id else stop
                self.has_voids = self.by_id and batch.lacks_size(self.places, start, end)
                if self.has_voids:
                    self.voids += batch.count_voids(self.places, start, end)
                self.run(batch, start, end)
                start = end
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
        self.check_unused()
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

    cdef int follow_tips(self) except -1:
        # From here on the ledger counts sequence numbers, which the bars do not know.
        for symbol_id in range(self.symbols):
            self.ledger.catch_up(symbol_id)
        self.ledger.tip_ids = self.ledger.tip_times = NULL
        self.sequenced = True
        return 0

    cdef void run(self, TickBatch batch, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
        cdef Py_ssize_t end
        cdef int k, t
        cdef bint ledger_tells = self.sequenced or (not self.tree_count and (self.has_voids or self.voids > 0))
        while start < stop:
            # Up to the first row whose id is not the next one: the first tree, or spec, tells by its own bars.
            if ledger_tells:
                end = self.ledger.advance(batch, self.places, self.symbols, start, stop)
            elif self.tree_count:
                end = self.fold_tree(0, batch, start, stop, self.by_id)
            else:
                end = self.fold_path(0, batch, start, stop, self.by_id)
            if self.invalid:
                return
            for t in range(0 if ledger_tells else 1, self.tree_count):
                self.fold_tree(t, batch, start, end, False)
            for k in range(0 if ledger_tells or self.tree_count else 1, self.width):
                if self.rules[k].kind > MONTHS:
                    self.fold_path(k, batch, start, end, False)
            if end < stop:
                if ledger_tells and self.unchecked and not self.take_unchecked(batch, row_at(self.places, end)):
                    return
                self.take_unexpected(batch, row_at(self.places, end))
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
        cdef bint void = batch.size[row] == 0
        if verdict == DUPLICATE:
            self.duplicates += 1
            self.voids -= void
            return
        if verdict == OVERLAP or verdict == FORGOTTEN:
            if not void:    # of which nothing would be lost
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
                if verdict == AHEAD or (verdict == FILLS and (
                    not void or self.ledger.touched.first <= self.ledger.touched.last
                )):
                    self.slots[k][s].broken = 1
                self.fold_path_row(k, batch, row)
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
            if batch.size[row] == 0:
                continue
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

    # Time bars.

    cdef Py_ssize_t fold_tree(
        self, int tree, TickBatch batch, Py_ssize_t start, Py_ssize_t stop, bint asks
    ) noexcept nogil:
        # Returns the first row (of `places`, where there are some) whose id is not the next one, where it `asks`; else
        # stop.
        cdef Slot *slots = self.slots[self.trees[tree].root]
        cdef Columns columns = columns_of(batch, self.places, self.arrivals, self.symbols, self.longest)
        cdef bint inverse = self.largest_contract > 0
        cdef Py_ssize_t i = start, end, row
        cdef bint single = self.by_id and batch.last_id == batch.first_id and batch.count is NULL and not inverse
        cdef Fetched fetched = Fetched(start, start)
        cdef FoldLoop fold_ordinary = _fold_by_time
        if self.by_id:
            fold_ordinary = _fold_voids_by_id if self.has_voids else _fold_by_id
        if single:
            fold_ordinary = _fold_voids_by_single_id if self.has_voids else _fold_by_single_id
        while i < stop:
            if not self.careful:
                if i + 1 == stop and self.places is NULL and not self.has_voids and take_ordinary(
                    slots, &columns, i, self.by_id, False, False, inverse, &self.seen
                ):
                    break
                i = fold_ordinary(slots, &columns, i, stop, inverse, &self.seen)
                if i >= stop:
                    break
                if self.places is NULL and i + 2 < stop and begins_stretch(&columns, i):
                    end = fold_time_stretch(slots, &columns, i, stop, self.by_id, single, self.has_voids, &self.seen)
                    if end > i:
                        i = end
                        continue
            row = row_at(self.places, i)
            if self.unchecked and not self.take_unchecked(batch, row):
                break
            self.fetch_ahead(tree, batch, i, &fetched, stop)
            if asks and not self.ledger.takes_next(batch, row):
                return i
            self.fold_row(tree, batch, row)
            i += 1
        return stop

    cdef void fetch_ahead(
        self, int tree, TickBatch batch, Py_ssize_t at, Fetched *fetched, Py_ssize_t stop
    ) noexcept nogil:
        # Bars close in swarms: where one does, what the next ones need besides is fetched while it is worked on.
        cdef const Slot *slots = self.slots[self.trees[tree].root]
        cdef Py_ssize_t far = min(at + ROWS_AHEAD, stop), near = min(at + ROWS_AHEAD // 2, stop), i, row
        for i in range(max(fetched.slots, at), far):
            row = row_at(self.places, i)
            if <uint32_t>batch.symbol_id[row] < <uint32_t>self.symbols and (
                batch.time_ns[row] >= slots[batch.symbol_id[row]].gate.next.limit
            ):
                self.fetch_rest(tree, batch.symbol_id[row])
        for i in range(max(fetched.records, at), near):
            row = row_at(self.places, i)
            if <uint32_t>batch.symbol_id[row] < <uint32_t>self.symbols and (
                batch.time_ns[row] >= slots[batch.symbol_id[row]].gate.next.limit
            ):
                self.fetch_records(&slots[batch.symbol_id[row]])
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
            prefetch(&self.records[slot.oldest])
            prefetch(&self.records[slot.oldest].bar.sums)
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
        if batch.size[row] == 0:
            self.pass_void(tree, s, time, row)
            self.set_limit(tree, batch, row)
            return
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
        self.set_limit(tree, batch, row)

    cdef void note_not_contained(self, int spec, int symbol_id) noexcept nogil:
        # The open bar of `spec` is behind the one that feeds it: a flush ended it early, or time without trades was cut.
        while self.source[spec] >= 0:
            spec = self.source[spec]
            self.slots[spec][symbol_id].contained = 0

    cdef void set_limit(self, int tree, TickBatch batch, Py_ssize_t row) noexcept nogil:
        # Up to where a trade needs no look at the ledger, nor at the bars that the root feeds, behind this row.
        cdef Slot *root = &self.slots[self.trees[tree].root][batch.symbol_id[row]]
        if self.by_id and not self.fills and not self.sequenced:
            root.gate.next.id = batch.last_id[row] + 1
        root.gate.next.limit = LOWEST
        if not root.bar.open_time < root.bar.close_time or not root.contained or (
            self.by_id and root.gate.next.id > LAST_IDS
        ):
            return
        root.gate.next.limit = root.bar.close_time
