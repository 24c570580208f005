"""Path-driven bars: those that a number of trades, a volume or a value fills, in the order in which trades arrive."""

from libc.stdint cimport int64_t, uint64_t

from fastbars.kernel.batch cimport TickBatch
from fastbars.kernel.close cimport BarClosing
from fastbars.kernel.fold cimport Columns, Seen, begins_stretch, columns_of, fold_path_stretch, fold_rows, row_at
from fastbars.kernel.amend cimport BY_TRADE
from fastbars.kernel.scaled cimport int128, less128
from fastbars.kernel.table cimport Slot
from fastbars.kernel.summary cimport TICK, VALUE, VOLUME, Summary, add_trade, total_of


# The loop over ordinary trades, a function of its own for each kind of bar.

ctypedef Py_ssize_t (*PathLoop)(
    int64_t step, Slot *slots, const Columns *columns, Py_ssize_t start, Py_ssize_t stop, bint by_id, bint inverse,
    Seen *seen) noexcept nogil


cdef Py_ssize_t _fold_ticks(
    int64_t step, Slot *slots, const Columns *columns, Py_ssize_t start, Py_ssize_t stop, bint by_id, bint inverse,
    Seen *seen
) noexcept nogil:
    return fold_rows(TICK, step, slots, columns, start, stop, by_id, False, False, inverse, seen)


cdef Py_ssize_t _fold_volumes(
    int64_t step, Slot *slots, const Columns *columns, Py_ssize_t start, Py_ssize_t stop, bint by_id, bint inverse,
    Seen *seen
) noexcept nogil:
    return fold_rows(VOLUME, step, slots, columns, start, stop, by_id, False, False, inverse, seen)


cdef Py_ssize_t _fold_values(
    int64_t step, Slot *slots, const Columns *columns, Py_ssize_t start, Py_ssize_t stop, bint by_id, bint inverse,
    Seen *seen
) noexcept nogil:
    return fold_rows(VALUE, step, slots, columns, start, stop, by_id, False, False, inverse, seen)


cdef Py_ssize_t _fold_ticks_and_voids(
    int64_t step, Slot *slots, const Columns *columns, Py_ssize_t start, Py_ssize_t stop, bint by_id, bint inverse,
    Seen *seen
) noexcept nogil:
    return fold_rows(TICK, step, slots, columns, start, stop, by_id, False, True, inverse, seen)


cdef Py_ssize_t _fold_volumes_and_voids(
    int64_t step, Slot *slots, const Columns *columns, Py_ssize_t start, Py_ssize_t stop, bint by_id, bint inverse,
    Seen *seen
) noexcept nogil:
    return fold_rows(VOLUME, step, slots, columns, start, stop, by_id, False, True, inverse, seen)


cdef Py_ssize_t _fold_values_and_voids(
    int64_t step, Slot *slots, const Columns *columns, Py_ssize_t start, Py_ssize_t stop, bint by_id, bint inverse,
    Seen *seen
) noexcept nogil:
    return fold_rows(VALUE, step, slots, columns, start, stop, by_id, False, True, inverse, seen)


cdef PathLoop _loop_of(int kind, bint voids) noexcept nogil:
    if kind == TICK:
        return _fold_ticks_and_voids if voids else _fold_ticks
    if kind == VOLUME:
        return _fold_volumes_and_voids if voids else _fold_volumes
    return _fold_values_and_voids if voids else _fold_values


cdef Py_ssize_t _fold_stretch(
    int kind, int64_t step, Slot *slots, const Columns *columns, Py_ssize_t start, Py_ssize_t stop, bint by_id, bint voids,
    Seen *seen
) noexcept nogil:
    if kind == TICK:
        return fold_path_stretch(TICK, step, slots, columns, start, stop, by_id, voids, seen)
    if kind == VOLUME:
        return fold_path_stretch(VOLUME, step, slots, columns, start, stop, by_id, voids, seen)
    return fold_path_stretch(VALUE, step, slots, columns, start, stop, by_id, voids, seen)


cdef class BarPaths(BarClosing):
    cdef bint take_unchecked(self, TickBatch batch, Py_ssize_t row) noexcept nogil:
        # Looks at a row that is not ordinary, in a batch that is checked row by row. False: it breaks a rule.
        if not batch.is_valid(row, self.symbols):
            self.invalid = True
            return False
        if self.has_voids:
            self.seen.sizes |= <uint64_t>batch.size[row]
            if batch.size[row] == 0:
                return True
        else:
            self.seen.sizes |= <uint64_t>batch.size[row] - 1
        self.seen.prices |= <uint64_t>batch.price[row] - 1
        return True

    cdef Py_ssize_t fold_path(
        self, int spec, TickBatch batch, Py_ssize_t start, Py_ssize_t stop, bint asks
    ) noexcept nogil:
        # Returns the first row (of `places`, where there are some) whose id is not the next one, where it `asks`; else
        # stop.
        cdef Slot *slots = self.slots[spec]
        cdef Columns columns = columns_of(batch, self.places, self.arrivals, self.symbols, self.longest)
        cdef bint inverse = self.largest_contract > 0
        cdef int kind = self.rules[spec].kind
        cdef int64_t step = self.rules[spec].step
        cdef Py_ssize_t i = start, end, row
        cdef PathLoop fold_ordinary = _loop_of(kind, self.has_voids)
        while i < stop:
            if not self.careful:
                i = fold_ordinary(step, slots, &columns, i, stop, self.by_id, inverse, &self.seen)
                if i >= stop:
                    break
                if self.places is NULL and i + 2 < stop and begins_stretch(&columns, i):
                    end = _fold_stretch(kind, step, slots, &columns, i, stop, self.by_id, self.has_voids, &self.seen)
                    if end > i:
                        i = end
                        continue
            row = row_at(self.places, i)
            if self.unchecked and not self.take_unchecked(batch, row):
                break
            if asks and not self.ledger.takes_next(batch, row):
                return i
            self.fold_path_row(spec, batch, row)
            i += 1
        return stop

    cdef void fold_path_row(self, int spec, TickBatch batch, Py_ssize_t row) noexcept nogil:
        # Count, volume and value bars take trades as they arrive; the one that reaches the step is the last.
        cdef Slot *slot = &self.slots[spec][batch.symbol_id[row]]
        cdef Summary *bar = &slot.bar
        cdef int kind = self.rules[spec].kind
        cdef int128 total
        cdef bint reached
        cdef int64_t opened, first, last
        if batch.size[row] == 0:
            return
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
