"""The kernel's state: the open bar of every symbol and spec, the closed ones that can still be amended.

It knows how to grow, to follow the instruments' scales, and to be saved and restored. Which trade goes where is the
kernel's business.
"""

import cython
import numpy as np

from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy, memset
from cpython.bytes cimport PyBytes_FromStringAndSize

from fastbars.kernel.batch cimport EARLIEST_NS, LATEST_NS, TickBatch
from fastbars.kernel.instruments cimport Instrument, Instruments
from fastbars.kernel.ids cimport Ledger
from fastbars.kernel.rows cimport BarRows, Row, grow_table
from fastbars.kernel.scaled cimport HIGHEST, LOWEST, POWER_OF_TEN, int128_from_int
from fastbars.kernel.summary cimport (
    FIXED, MONTHS, TICK, VALUE, VOLUME, ZONED, Rule, Summary, clear_bar, interval_of, is_beyond, is_within, merge_bar,
    quote_of, sum_sides, volume_of, widen_bar,
)

from fastbars.errors import SpecError

_DAY_NS = 86_400_000_000_000
cdef enum:
    LINE_BYTES = 64
    LONGEST_MONTHS = 1200
    MOST_LOADED = 1 << 30

cdef int64_t LONGEST_NS = 366 * 100 * 86_400_000_000_000

assert sizeof(Slot) % LINE_BYTES == 0 and sizeof(Gate) + 112 == 2 * LINE_BYTES

# For those who watch memory: an open bar of a symbol and spec, and a closed one that can still be amended.
SLOT_BYTES = sizeof(Slot) + sizeof(Past)
RECORD_BYTES = sizeof(Record)


_KINDS = {"time": FIXED, "zoned": ZONED, "months": MONTHS, "tick": TICK, "volume": VOLUME, "value": VALUE}


def _nests(inner, outer):
    # Whether intervals of `outer` are certain to be unions of such of `inner`.
    (kind, step, origin), (outer_kind, outer_step, outer_origin) = inner.rule, outer.rule
    if kind == "months":
        return outer_kind == "months" and outer_step % step == 0
    if kind == "zoned":
        return outer_kind == "zoned" and _are_among(outer.boundaries, inner.boundaries)
    if outer_kind == "zoned":
        return not ((outer.boundaries - origin) % step).any()
    if outer_kind == "months":
        return _DAY_NS % step == 0 and origin % step == 0
    return outer_step % step == 0 and (outer_origin - origin) % step == 0


cdef bint _are_among(times, others) except? False:
    within = times[(times > others[0]) & (times < others[len(others) - 1])]
    return np.isin(within, others).all()


cdef bytes bytes_of(dict parts, str name):
    # A part of a snapshot.
    part = parts.get(name)
    if type(part) is not bytes:
        raise ValueError(f"the snapshot has no {name}")
    return part


cdef void take_part(void *memory, bytes part) noexcept:
    if len(part):       # a table without entries may have no memory
        memcpy(memory, <const char *>part, len(part))


cdef int64_t whole_number(dict parts, str name, object value) except? -1:
    if type(value) is not int or not -(1 << 63) <= value < (1 << 63):
        raise ValueError(f"the snapshot's {name} hold something else than whole numbers of 64 bits")
    return value


cdef bint fits(const Summary *bar, int64_t price_factor) noexcept nogil:
    # Whether its prices stay within 64 bits at a scale that is so much larger.
    cdef int64_t most = HIGHEST // price_factor
    if not -most <= bar.close <= most:
        return False
    return bar.high == LOWEST or (-most <= bar.low and bar.high <= most and -most <= bar.open <= most)


cdef int _check_rule(const Rule *rule, object spec) except -1:
    # A spec is an object that anybody can make: what the loops divide by, and take for an interval, is checked here.
    cdef int64_t longest = LONGEST_MONTHS if rule.kind == MONTHS else LONGEST_NS
    if rule.kind <= TICK and rule.kind != ZONED and (
        rule.step < 1 or (rule.kind != TICK and rule.step > longest)
        or not -LONGEST_NS <= rule.origin <= LONGEST_NS
    ):
        raise SpecError(f"bar spec {spec} has a step of {rule.step} from {rule.origin}; it must be positive, and 100 years at most")
    return 0


def _checked_boundaries(spec):
    boundaries = np.ascontiguousarray(spec.boundaries, np.int64)
    if boundaries.flags.writeable:
        boundaries = boundaries.copy()
    if boundaries.ndim != 1 or len(boundaries) < 2 or boundaries[0] > EARLIEST_NS or boundaries[len(boundaries) - 1] <= LATEST_NS or not (
        np.diff(boundaries) > 0
    ).all():
        raise SpecError(f"the boundaries of bar spec {spec} do not ascend from before {EARLIEST_NS} to behind {LATEST_NS}")
    return boundaries


@cython.no_gc_clear     # the ledger must be there when the tips that it reads are freed
cdef class BarState(BarRows):
    def __cinit__(self, Instruments instruments not None, specs, Ledger ledger=None, *_, **__):
        cdef int k
        self.instruments = instruments
        self.ledger = ledger
        self.specs = tuple(specs)
        self.next_close_ns = HIGHEST
        self.free_record = -1
        self.blank = True
        self.widenings = len(instruments.widened)
        self.unfit = set()
        self.boundaries = []
        if not self.specs:
            raise ValueError("at least one bar spec is needed")
        if ledger is not None:
            if ledger.is_taken:
                raise ValueError("the ledger belongs to another kernel")
            ledger.is_taken = True
        self.rules = <Rule *>calloc(len(self.specs), sizeof(Rule))
        self.slots = <Slot **>calloc(len(self.specs), sizeof(Slot *))
        self.blocks = <void **>calloc(len(self.specs), sizeof(void *))
        self.pasts = <Past **>calloc(len(self.specs), sizeof(Past *))
        if self.rules is NULL or self.slots is NULL or self.blocks is NULL or self.pasts is NULL:
            raise MemoryError
        for k, spec in enumerate(self.specs):
            kind, step, origin = spec.rule
            boundaries = _checked_boundaries(spec) if kind == "zoned" else None
            self.rules[k] = Rule(_KINDS[kind], step, origin, NULL, 0)
            _check_rule(&self.rules[k], spec)
            if boundaries is not None:
                self.boundaries.append(boundaries)
                self.rules[k].boundaries = <const int64_t *><size_t>boundaries.ctypes.data
                self.rules[k].boundary_count = len(boundaries)
            self.width = k + 1
        self.by_id = ledger is not None
        self.plant()

    def __dealloc__(self):
        cdef int k
        if self.ledger is not None:
            self.ledger.tip_ids = NULL
        if self.blocks is not NULL:
            for k in range(self.width):
                free(self.blocks[k])
        if self.pasts is not NULL:
            for k in range(self.width):
                free(self.pasts[k])
        free(self.blocks)
        free(self.pasts)
        free(self.slots)
        free(self.rules)
        free(self.order)
        free(self.behind)
        free(self.source)
        free(self.trees)
        free(self.appeared)
        free(self.records)

    cdef int plant(self) except -1:
        # Which time spec is fed by which: each by the longest one that nests in it.
        cdef int k, place = 0
        self.order = <int *>calloc(self.width, sizeof(int))
        self.behind = <int *>calloc(self.width, sizeof(int))
        self.source = <int *>calloc(self.width, sizeof(int))
        self.trees = <Tree *>calloc(self.width, sizeof(Tree))
        if self.order is NULL or self.behind is NULL or self.source is NULL or self.trees is NULL:
            raise MemoryError
        for k in range(self.width):
            self.source[k] = -1
        timed = [k for k in range(self.width) if self.rules[k].kind <= MONTHS]
        timed.sort(key=lambda k: (self.rules[k].kind, self.rules[k].step, -self.rules[k].boundary_count))
        for number, k in enumerate(timed):
            for other in timed[:number]:
                if _nests(self.specs[other], self.specs[k]):
                    self.source[k] = other
        for k in timed:
            if self.source[k] < 0:
                self.trees[self.tree_count] = Tree(k, place, self.put_in_order(k, place, timed))
                place = self.trees[self.tree_count].stop
                self.tree_count += 1
        return 0

    cdef int put_in_order(self, int spec, int place, list timed) except -1:
        # From `place` on: the spec and all that it feeds. Returns the place behind them.
        cdef int k, at = place
        self.order[place] = spec
        place += 1
        for k in timed:
            if self.source[k] == spec:
                place = self.put_in_order(k, place, timed)
        self.behind[at] = place
        return place

    cdef int grow(self, int spec, Py_ssize_t capacity) except -1:
        cdef void *block
        cdef Slot *slots
        cdef void *grown = realloc(self.pasts[spec], capacity * sizeof(Past))
        if grown is NULL:
            raise MemoryError
        self.pasts[spec] = <Past *>grown
        block = malloc(capacity * sizeof(Slot) + LINE_BYTES)
        if block is NULL:
            raise MemoryError
        slots = <Slot *>((<size_t>block + LINE_BYTES - 1) // LINE_BYTES * LINE_BYTES)
        if self.symbols:
            memcpy(slots, self.slots[spec], self.symbols * sizeof(Slot))
            if self.ledger is not None and self.ledger.tip_times == <const char *>&self.slots[spec][0].bar.last_time:
                self.ledger.tip_ids += <const char *>slots - <const char *>self.slots[spec]
                self.ledger.tip_times = <const char *>&slots[0].bar.last_time
        free(self.blocks[spec])
        self.blocks[spec] = block
        self.slots[spec] = slots
        return 0

    cdef int reserve(self) except -1:
        cdef Py_ssize_t count = self.instruments.count
        cdef Py_ssize_t capacity = self.capacity
        cdef void *grown
        cdef int k
        if count == self.symbols:
            return 0
        if count > capacity:
            capacity = max(count, 2 * capacity, 16)
            grown = realloc(self.appeared, capacity * sizeof(int32_t))
            if grown is NULL:
                raise MemoryError
            self.appeared = <int32_t *>grown
            for k in range(self.width):
                self.grow(k, capacity)
            self.capacity = capacity
        if self.ledger is not None:
            self.ledger.reserve(count)
        self.set_up(self.symbols, count)
        self.symbols = count
        return 0

    cdef int set_up(self, Py_ssize_t start, Py_ssize_t stop) except -1:
        cdef Py_ssize_t s
        cdef Slot *slot
        cdef Slot blank
        cdef int k
        memset(&blank, 0, sizeof(Slot))
        clear_bar(&blank.bar, LOWEST, LOWEST)
        blank.gate.next = Next(LOWEST, LOWEST)
        blank.oldest = blank.newest = -1
        blank.fresh = 1
        for k in range(self.width):
            for s in range(start, stop):
                slot = &self.slots[k][s]
                slot[0] = blank
                slot.contract = self.instruments.table[s].contract
                self.pasts[k][s] = Past(LOWEST, HIGHEST, LOWEST, LOWEST)
                self.take_scales(k, s)
        return 0

    cdef int take_scales(self, int spec, Py_ssize_t s) except -1:
        cdef Instrument *own = &self.instruments.table[s]
        cdef Slot *slot = &self.slots[spec][s]
        cdef int kind = self.rules[spec].kind
        self.largest_contract = max(self.largest_contract, own.contract)
        slot.price_scale = own.price_scale
        slot.size_scale = own.size_scale
        slot.quote_scale = own.size_scale + (own.contract_scale if own.contract else own.price_scale)
        if kind != VOLUME and kind != VALUE:
            return 0
        self.take_threshold(spec, slot)
        return 0

    cdef int take_threshold(self, int spec, Slot *slot) except -1:
        # Of volume and value bars: the step, at the scales of the slot.
        scale = slot.quote_scale if self.rules[spec].kind == VALUE else slot.size_scale
        numerator, denominator = self.specs[spec].step.as_integer_ratio()
        # A step beyond 128 bits is never reached: the sum leaves its range first, and says so.
        int128_from_int(max(1, min(-(-numerator * 10**scale // denominator), (1 << 127) - 1)), &slot.gate.threshold)
        return 0

    cdef int rescale(self) except -1:
        # Brings the sums of the symbols whose scales were widened to the new ones. True: some changed.
        if self.widenings == len(self.instruments.widened) and not self.unfit:
            return False
        symbols = self.unfit.union(self.instruments.widened[self.widenings :])
        self.widenings = len(self.instruments.widened)
        self.unfit = {s for s in symbols if not self.rescale_symbol(s)}
        return True

    cdef bint rescale_symbol(self, Py_ssize_t s) except? False:
        # False: an open bar does not fit, and nothing was changed. Closed bars that do not fit are let go.
        cdef Instrument *own = &self.instruments.table[s]
        cdef Slot *slot
        cdef Summary copy
        cdef bint trial
        cdef int k
        cdef int32_t r
        cdef int64_t price_factor, size_factor, quote_factor
        price_factor = POWER_OF_TEN[own.price_scale - self.slots[0][s].price_scale]
        size_factor = POWER_OF_TEN[own.size_scale - self.slots[0][s].size_scale]
        quote_factor = 1 if own.contract else price_factor
        for trial in (True, False):
            for k in range(self.width):
                slot = &self.slots[k][s]
                if trial:
                    self.total(k, s, &copy)
                    if not fits(&slot.bar, price_factor) or (
                        widen_bar(&copy, price_factor, size_factor, quote_factor) or is_beyond(&copy)
                    ):
                        return False
                    continue
                widen_bar(&slot.bar, price_factor, size_factor, quote_factor)
                slot.contract = own.contract
                r = slot.oldest
                while r >= 0 and fits(&self.records[r].bar, price_factor) and not widen_bar(
                    &self.records[r].bar, price_factor, size_factor, quote_factor
                ) and not is_beyond(&self.records[r].bar):
                    r = self.records[r].next
                if r >= 0:
                    while slot.oldest >= 0:
                        r = slot.oldest
                        slot.oldest = self.records[r].next
                        self.pasts[k][s].let_go_ns = self.records[r].bar.close_time
                        self.free_record_at(r)
                    slot.newest = -1
                self.take_scales(k, s)
        return True

    cdef bint total(self, int spec, Py_ssize_t s, Summary *bar) noexcept nogil:
        # The open bar with all that will be merged into it. True: a sum leaves its range.
        cdef const Summary *part
        cdef int source = self.source[spec]
        cdef bint overflow = False
        bar[0] = self.slots[spec][s].bar
        while source >= 0:
            part = &self.slots[source][s].bar
            if not is_within(part, bar):
                break
            overflow |= merge_bar(bar, part, self.by_id)
            source = self.source[source]
        return overflow | is_beyond(bar)

    cdef double largest(self) noexcept nogil:
        # Signs apart: no sum is larger, nor is any on the way to it.
        cdef double largest = 0
        cdef double volume, quote
        cdef Summary bar
        cdef Py_ssize_t s
        cdef int32_t r
        cdef int k, source
        for k in range(self.width):
            for s in range(self.symbols):
                bar = self.slots[k][s].bar
                volume, quote = volume_of(&bar), quote_of(&bar)
                source = self.source[k]
                while source >= 0 and is_within(&self.slots[source][s].bar, &bar):
                    volume += volume_of(&self.slots[source][s].bar)
                    quote += quote_of(&self.slots[source][s].bar)
                    source = self.source[source]
                largest = max(largest, max(volume, quote))
                r = self.slots[k][s].oldest
                while r >= 0:
                    largest = max(largest, max(volume_of(&self.records[r].bar), quote_of(&self.records[r].bar)))
                    r = self.records[r].next
        return largest

    cdef Py_ssize_t size(self) noexcept nogil:
        # Bytes to copy when the state is saved.
        if self.blank:
            return 0
        return self.width * self.symbols * (sizeof(Slot) + sizeof(Past)) + self.record_count * sizeof(Record)

    cdef int save(self) except -1:
        cdef int k
        if self.blank:
            return 0
        slots = [PyBytes_FromStringAndSize(<char *>self.slots[k], self.symbols * sizeof(Slot)) for k in range(self.width)]
        pasts = [PyBytes_FromStringAndSize(<char *>self.pasts[k], self.symbols * sizeof(Past)) for k in range(self.width)]
        self.saved = (
            slots,
            pasts,
            PyBytes_FromStringAndSize(<char *>self.records, self.record_count * sizeof(Record)),
            (self.record_count, self.records_held, self.free_record, self.appeared_count, self.next_close_ns,
             self.duplicates, self.voids),
        )
        if self.ledger is not None:
            self.ledger.save()
        return 0

    cdef int forget_saved(self) except -1:
        self.saved = None
        if self.ledger is not None:
            self.ledger.forget_saved()
        return 0

    cdef int restore(self) except -1:
        cdef int k
        if self.blank:
            self.set_up(0, self.symbols)
            self.record_count = self.records_held = self.appeared_count = 0
            self.free_record = -1
            self.next_close_ns = HIGHEST
            self.duplicates = self.voids = 0
            if self.ledger is not None:
                self.ledger.clear()
            return 0
        slots, pasts, records, counters = self.saved
        for k in range(self.width):
            take_part(self.pasts[k], pasts[k])
            take_part(self.slots[k], slots[k])
        take_part(self.records, records)
        (self.record_count, self.records_held, self.free_record, self.appeared_count, self.next_close_ns,
         self.duplicates, self.voids) = counters
        if self.ledger is not None:
            self.ledger.restore()
        return 0

    # A snapshot, for another process: memory as it is, so that it fits the same build alone.

    def dump(self):
        cdef int k
        self.check_unused()
        self.reserve()
        parts = {
            "layout": [sizeof(Slot), sizeof(Past), sizeof(Record), self.width, self.symbols],
            "counters": [self.record_count, self.records_held, self.free_record, self.appeared_count,
                         self.next_close_ns, self.duplicates, self.voids],
            "appeared": PyBytes_FromStringAndSize(<char *>self.appeared, self.appeared_count * sizeof(int32_t)),
            "records": PyBytes_FromStringAndSize(<char *>self.records, self.record_count * sizeof(Record)),
        }
        for k in range(self.width):
            parts[f"slots{k}"] = PyBytes_FromStringAndSize(<char *>self.slots[k], self.symbols * sizeof(Slot))
            parts[f"pasts{k}"] = PyBytes_FromStringAndSize(<char *>self.pasts[k], self.symbols * sizeof(Past))
        if self.ledger is not None:
            for k in range(self.symbols):
                self.ledger.catch_up(k)
            parts.update(self.ledger.dump(self.symbols))
        return parts

    cdef int take_memory(self, dict parts) except -1:
        # The memory of a snapshot, in the place of a blank state. Its sizes are checked, what stands in it is not.
        cdef int64_t[7] counters
        cdef int k, i
        layout = [sizeof(Slot), sizeof(Past), sizeof(Record), self.width, self.symbols]
        if parts.get("layout") != layout:
            raise ValueError(f"the snapshot's layout {parts.get('layout')} is not that of this build, {layout}")
        given = parts.get("counters")
        if type(given) is not list or len(given) != 7:
            raise ValueError("the snapshot has no counters")
        for i in range(7):
            counters[i] = whole_number(parts, "counters", given[i])
        if not (0 <= counters[0] <= MOST_LOADED and 0 <= counters[1] <= counters[0] and -1 <= counters[2] < counters[0]
                and 0 <= counters[3] <= self.symbols and counters[5] >= 0 and counters[6] >= 0):
            raise ValueError(f"the snapshot's counters {given} contradict each other")
        sizes = {"appeared": counters[3] * sizeof(int32_t), "records": counters[0] * sizeof(Record)}
        for k in range(self.width):
            sizes[f"slots{k}"] = self.symbols * sizeof(Slot)
            sizes[f"pasts{k}"] = self.symbols * sizeof(Past)
        for name, size in sizes.items():
            if len(bytes_of(parts, name)) != size:
                raise ValueError(f"the snapshot's {name} have {len(parts[name])} bytes, not {size}")
        if self.record_capacity < counters[0] and not grow_table(
            <void **>&self.records, &self.record_capacity, sizeof(Record), counters[0]
        ):
            raise MemoryError
        take_part(self.records, parts["records"])
        take_part(self.appeared, parts["appeared"])
        for k in range(self.width):
            take_part(self.slots[k], parts[f"slots{k}"])
            take_part(self.pasts[k], parts[f"pasts{k}"])
        self.record_count, self.records_held = <int32_t>counters[0], <int32_t>counters[1]
        self.free_record, self.appeared_count = <int32_t>counters[2], counters[3]
        self.next_close_ns, self.duplicates, self.voids = counters[4], counters[5], counters[6]
        return 0

    cdef void make_room(self, TickBatch batch, Py_ssize_t more) noexcept nogil:
        # For what a long batch is likely to close, and `more` bars: tables that double while they are filled are copied
        # as often, and memory that is not needed has to be fetched from the operating system all the same. A guess:
        # where it is wrong, or there is no memory, they grow when they are full.
        cdef Py_ssize_t bars = 0, records = self.records_held
        cdef int64_t first = batch.time_ns[0], last = batch.time_ns[batch.length - 1]
        cdef int64_t since, until, open_time, close_time, ended
        cdef int k
        if not EARLIEST_NS <= first <= last <= LATEST_NS:
            return
        for k in range(self.width):
            if self.rules[k].kind <= MONTHS:
                interval_of(&self.rules[k], first, &since, &until)
                interval_of(&self.rules[k], last, &open_time, &close_time)
                ended = min((open_time - since) // (close_time - open_time), batch.length) * self.symbols
                bars += ended
                records += min(ended, 2 * self.symbols)
        bars = min(bars, batch.length) + more
        if self.row_capacity < bars:
            grow_table(<void **>&self.rows, &self.row_capacity, sizeof(Row), bars)
        if self.record_capacity < records:
            grow_table(<void **>&self.records, &self.record_capacity, sizeof(Record), records)

    cdef void issue(self, int spec, int symbol_id, const Record *record, Py_ssize_t row) noexcept nogil:
        cdef Slot *slot = &self.slots[spec][symbol_id]
        cdef Row *issued = self.new_row(row, spec)
        if issued is NULL:
            return
        issued.bar = record.bar
        sum_sides(&issued.bar)
        issued.missing, issued.unpublished = record.missing, record.unpublished
        issued.symbol_id = symbol_id
        issued.revision = record.revision
        issued.status = record.status
        issued.reason = record.reason
        issued.price_scale = slot.price_scale
        issued.size_scale = slot.size_scale
        issued.quote_scale = slot.quote_scale

    cdef int32_t new_record(self) noexcept nogil:
        cdef int32_t r = self.free_record
        self.records_held += 1
        if r >= 0:
            self.free_record = self.records[r].next
            return r
        if self.record_count == self.record_capacity and not grow_table(
            <void **>&self.records, &self.record_capacity, sizeof(Record), 0
        ):
            self.no_memory = True
            self.records_held -= 1
            return -1
        self.record_count += 1
        return self.record_count - 1

    cdef void free_record_at(self, int32_t record) noexcept nogil:
        self.records_held -= 1
        self.records[record].next = self.free_record
        self.free_record = record

    @property
    def is_blank(self):
        return self.blank and self.appeared_count == 0 and self.record_count == 0

    @property
    def trade_times_ns(self):
        self.check_unused()
        cdef Py_ssize_t i
        cdef int k = self.trees[0].root if self.tree_count else 0
        times = np.empty(self.symbols, np.int64)
        cdef int64_t *out = <int64_t *><size_t>times.ctypes.data
        for i in range(self.symbols):
            out[i] = max(self.pasts[k][i].newest_ns, self.slots[k][i].bar.last_time)
        return times

