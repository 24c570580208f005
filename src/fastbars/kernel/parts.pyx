"""A trade into several bars, each of which has exactly the step (splits.pxd says what of it goes into which)."""

from libc.stdint cimport int32_t, int64_t

from fastbars.kernel.amend cimport BY_TRADE
from fastbars.kernel.close cimport close_bar, roll
from fastbars.kernel.passes cimport Columns, Pass, note_overflow
from fastbars.kernel.paths cimport path_rule_of
from fastbars.kernel.scaled cimport int128
from fastbars.kernel.splits cimport Part, Split, SplitBy, add_part, begin_split, take_part
from fastbars.kernel.summary cimport Summary
from fastbars.kernel.table cimport Slot, Table


cdef void fold_parts(Table *table, Pass *run, int spec, Py_ssize_t row, const int128 *step) noexcept nogil:
    cdef const Columns *batch = &run.columns
    cdef SplitBy by = path_rule_of(table.specs.rules[spec].kind).splits
    cdef int32_t s = batch.symbol_id[row]
    cdef Slot *slot = &table.slots[spec][s]
    cdef Summary *bar = &slot.bar
    cdef Split split = begin_split(batch, row, slot.contract)
    cdef Part part
    cdef int64_t opened, first, last
    cdef bint full, ended = False
    while not ended:
        full = take_part(&split, by, bar, step, slot.scale.size, &part, &ended)
        opened = bar.open if bar.largest else batch.price[row]
        first, last = bar.first_id, bar.last_id
        if add_part(bar, batch, row, &part):
            note_overflow(run, row)
        bar.open, bar.close = opened, batch.price[row]
        if table.terms.by_id:
            bar.first_id = min(first, batch.first_id[row])
            bar.last_id = max(last, batch.last_id[row])
        if full:
            close_bar(table, run, spec, s, row, BY_TRADE)
        if not ended:
            roll(table, run, spec, s, batch.time_ns[row], row)
