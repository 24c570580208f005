"""The kernel's state: the open bar of every symbol and spec, the closed ones that can still be amended.

It knows how to grow, to follow the instruments' scales, to be saved and restored, and to hand out what was
issued. Which trade goes where is the kernel's business.
"""

import numpy as np

from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy, memset
from cpython.bytes cimport PyBytes_FromStringAndSize

from fastbars.instruments cimport Instrument, Instruments
from fastbars.ledger cimport Ledger
from fastbars.scaled cimport HIGHEST, LOWEST, POWER_OF_TEN, double128, int128_from_int
from fastbars.summary cimport FIXED, MONTHS, TICK, VALUE, VOLUME, ZONED, Rule, Summary, clear_bar, widen_bar

ROW_DTYPE = np.dtype(
    [(name, np.int64) for name in (
        "open_time", "close_time", "first_time", "last_time", "open", "high", "low", "close",
        "first_id", "last_id", "count")]
    + [(name, [("lo", np.uint64), ("hi", np.int64)]) for name in (
        "volume", "quote_volume", "taker_volume", "taker_quote_volume")]
    + [("row", np.int64), ("symbol_id", np.int32), ("spec", np.int32), ("revision", np.int32),
       ("status", np.uint8), ("reason", np.uint8), ("price_scale", np.int8), ("size_scale", np.int8),
       ("quote_scale", np.int8), ("", np.void, 7)]
)
assert ROW_DTYPE.itemsize == sizeof(Row)

# Most batches close nothing, and an empty structured array takes microseconds to make.
NO_ROWS = np.empty(0, ROW_DTYPE)
NO_ROWS.flags.writeable = False


_KINDS = {"time": FIXED, "zoned": ZONED, "months": MONTHS, "tick": TICK, "volume": VOLUME, "value": VALUE}


cdef bint _grow(void **memory, Py_ssize_t *capacity, size_t item) noexcept nogil:
    # Doubles a table. False: there is no memory, and the table is as it was.
    cdef Py_ssize_t wanted = max(2 * capacity[0], <Py_ssize_t>64)
    cdef void *grown = realloc(memory[0], wanted * item)
    if grown is NULL:
        return False
    memory[0] = grown
    capacity[0] = wanted
    return True


cdef class BarState:
    def __init__(self, Instruments instruments not None, specs, Ledger ledger=None):
        cdef int k
        if self.rules is not NULL:
            raise TypeError("a kernel is initialised once")
        self.instruments = instruments
        self.ledger = ledger
        self.specs = tuple(specs)
        self.next_close_ns = HIGHEST
        self.free_record = -1
        self.widenings = len(instruments.widened)
        self.unfit = set()
        self.boundaries = []
        if not self.specs:
            raise ValueError("at least one bar spec is needed")
        self.rules = <Rule *>calloc(len(self.specs), sizeof(Rule))
        self.slots = <Slot **>calloc(len(self.specs), sizeof(Slot *))
        if self.rules is NULL or self.slots is NULL:
            raise MemoryError
        for k, spec in enumerate(self.specs):
            kind, step, origin = spec.rule
            boundaries = spec.boundaries
            self.rules[k] = Rule(_KINDS[kind], step, origin, NULL, 0)
            if boundaries is not None:
                self.boundaries.append(boundaries)
                self.rules[k].boundaries = <const int64_t *><size_t>boundaries.ctypes.data
                self.rules[k].boundary_count = len(boundaries)
            self.width = k + 1

    def __dealloc__(self):
        cdef int k
        if self.slots is not NULL:
            for k in range(self.width):
                free(self.slots[k])
        free(self.slots)
        free(self.rules)
        free(self.appeared)
        free(self.records)
        free(self.rows)
        free(self.late)

    cdef int reserve(self) except -1:
        cdef Py_ssize_t s, count = self.instruments.count
        cdef Py_ssize_t capacity = self.capacity
        cdef Instrument *own
        cdef Slot *slot
        cdef void *grown
        cdef int k
        if count > capacity:
            capacity = max(count, 2 * capacity, 16)
            grown = realloc(self.appeared, capacity * sizeof(int32_t))
            if grown is NULL:
                raise MemoryError
            self.appeared = <int32_t *>grown
            for k in range(self.width):
                grown = realloc(self.slots[k], capacity * sizeof(Slot))
                if grown is NULL:
                    raise MemoryError
                self.slots[k] = <Slot *>grown
            self.capacity = capacity
        for s in range(self.symbols, count):
            own = &self.instruments.table[s]
            for k in range(self.width):
                slot = &self.slots[k][s]
                memset(slot, 0, sizeof(Slot))
                clear_bar(&slot.bar, LOWEST, LOWEST)
                slot.contract = own.contract
                slot.newest_ns = slot.lost_ns = slot.let_go_ns = LOWEST
                slot.start_ns = HIGHEST
                slot.oldest = slot.newest = -1
                slot.fresh = 1
            for k in range(self.width):
                self.take_scales(k, s)
            self.symbols = s + 1
        if self.ledger is not None:
            self.ledger.reserve(count)
        return 0

    cdef int take_scales(self, int spec, Py_ssize_t s) except -1:
        cdef Instrument *own = &self.instruments.table[s]
        cdef Slot *slot = &self.slots[spec][s]
        cdef int kind = self.rules[spec].kind
        slot.price_scale = own.price_scale
        slot.size_scale = own.size_scale
        slot.quote_scale = own.size_scale + (own.contract_scale if own.contract else own.price_scale)
        if kind != VOLUME and kind != VALUE:
            return 0
        scale = slot.quote_scale if kind == VALUE else slot.size_scale
        numerator, denominator = self.specs[spec].step.as_integer_ratio()
        # A step beyond 128 bits is never reached: the sum leaves its range first, and says so.
        int128_from_int(min(-(-numerator * 10**scale // denominator), (1 << 127) - 1), &slot.threshold)
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
                copy = slot.bar
                if widen_bar(&copy, price_factor, size_factor, quote_factor):
                    return False
                if trial:
                    continue
                slot.bar = copy
                slot.contract = own.contract
                r = slot.oldest
                while r >= 0 and not widen_bar(&self.records[r].bar, price_factor, size_factor, quote_factor):
                    r = self.records[r].next
                if r >= 0:
                    while slot.oldest >= 0:
                        r = slot.oldest
                        slot.oldest = self.records[r].next
                        slot.let_go_ns = self.records[r].bar.close_time
                        self.free_record_at(r)
                    slot.newest = -1
                self.take_scales(k, s)
        return True

    cdef double largest(self) noexcept nogil:
        cdef double largest = 0
        cdef Py_ssize_t s
        cdef int32_t r
        cdef int k
        for k in range(self.width):
            for s in range(self.symbols):
                largest = max(largest, double128(&self.slots[k][s].bar.quote), double128(&self.slots[k][s].bar.volume))
                r = self.slots[k][s].oldest
                while r >= 0:
                    largest = max(largest, double128(&self.records[r].bar.quote), double128(&self.records[r].bar.volume))
                    r = self.records[r].next
        return largest

    cdef int save(self) except -1:
        cdef int k
        slots = [PyBytes_FromStringAndSize(<char *>self.slots[k], self.symbols * sizeof(Slot)) for k in range(self.width)]
        self.saved = (
            slots,
            PyBytes_FromStringAndSize(<char *>self.records, self.record_count * sizeof(Record)),
            (self.record_count, self.free_record, self.appeared_count, self.next_close_ns, self.duplicates),
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
        slots, records, counters = self.saved
        for k in range(self.width):
            memcpy(self.slots[k], <const char *>(<bytes>slots[k]), len(slots[k]))
        memcpy(self.records, <const char *>(<bytes>records), len(records))
        self.record_count, self.free_record, self.appeared_count, self.next_close_ns, self.duplicates = counters
        if self.ledger is not None:
            self.ledger.restore()
        return 0

    cdef void issue(self, int spec, int symbol_id, const Record *record, Py_ssize_t row) noexcept nogil:
        cdef Slot *slot = &self.slots[spec][symbol_id]
        cdef Row *issued
        if self.row_count == self.row_capacity and not _grow(<void **>&self.rows, &self.row_capacity, sizeof(Row)):
            self.no_memory = True
            return
        issued = &self.rows[self.row_count]
        issued.bar = record.bar
        issued.row = row
        issued.symbol_id = symbol_id
        issued.spec = spec
        issued.revision = record.revision
        issued.status = record.status
        issued.reason = record.reason
        issued.price_scale = slot.price_scale
        issued.size_scale = slot.size_scale
        issued.quote_scale = slot.quote_scale
        self.row_count += 1

    cdef void not_placed(self, Py_ssize_t row, int spec) noexcept nogil:
        if self.late_count == self.late_capacity and not _grow(<void **>&self.late, &self.late_capacity, sizeof(Late)):
            self.no_memory = True
            return
        self.late[self.late_count] = Late(row, spec)
        self.late_count += 1

    cdef int32_t new_record(self) noexcept nogil:
        cdef int32_t r = self.free_record
        if r >= 0:
            self.free_record = self.records[r].next
            return r
        if self.record_count == self.record_capacity and not _grow(
            <void **>&self.records, &self.record_capacity, sizeof(Record)
        ):
            self.no_memory = True
            return -1
        self.record_count += 1
        return self.record_count - 1

    cdef void free_record_at(self, int32_t record) noexcept nogil:
        self.records[record].next = self.free_record
        self.free_record = record

    @property
    def trade_times_ns(self):
        cdef Py_ssize_t i
        cdef Slot *slot
        times = np.empty(self.symbols, np.int64)
        cdef int64_t *out = <int64_t *><size_t>times.ctypes.data
        for i in range(self.symbols):
            slot = &self.slots[0][i]
            out[i] = max(slot.newest_ns, slot.bar.last_time)
        return times

    cdef object take(self):
        # In the order of the trades that caused them, then of the specs.
        if self.row_count == 0:
            return NO_ROWS
        rows = np.empty(self.row_count, ROW_DTYPE)
        memcpy(<void *><size_t>rows.ctypes.data, self.rows, self.row_count * sizeof(Row))
        if self.width > 1:
            rows = rows[np.lexsort((rows["spec"], rows["row"]))]
        self.row_count = 0
        return rows

