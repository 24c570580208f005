"""Path-driven bars: those that a number of trades, a volume or a value fills, in the order in which trades arrive."""

from libc.stdint cimport int64_t

from fastbars.batch cimport TickBatch
from fastbars.closing cimport BarClosing
from fastbars.fold cimport Columns, columns_of, fold_path_rows, fold_path_stretch
from fastbars.records cimport BY_TRADE
from fastbars.scaled cimport int128, less128
from fastbars.state cimport Slot
from fastbars.summary cimport TICK, VALUE, VOLUME, Summary, add_trade, total_of


cdef class BarPaths(BarClosing):
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
