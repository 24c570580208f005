"""Trades into anchored bars: in order, or to where they belong, with the bars behind them cut again (recut.pyx).

Units: those of TickBatch.
"""

from libc.stdint cimport int32_t, int64_t

from fastbars.kernel.amend cimport BY_ANCHOR, prove
from fastbars.kernel.close cimport cover_itself, lose_late
from fastbars.kernel.ids cimport begins_with_first
from fastbars.kernel.inside cimport asks_inside
from fastbars.kernel.passes cimport Columns, Pass
from fastbars.kernel.recut cimport begin_tape, cut_again, lead_astray, lose_tape, review_tape, step_into, tape_trade
from fastbars.kernel.rows cimport not_placed
from fastbars.kernel.scaled cimport HIGHEST, LOWEST
from fastbars.kernel.summary cimport Summary
from fastbars.kernel.table cimport LOST_PATH, Past, Record, Slot, Table, mark_begun_late, tape_of
from fastbars.kernel.tape cimport Tape


cdef void fold_anchored(Table *table, Pass *run, int spec, Py_ssize_t row, bint fills, bint ahead) noexcept nogil:
    cdef const Columns *batch = &run.columns
    cdef int32_t s = batch.symbol_id[row]
    cdef int64_t time = batch.time_ns[row], newest
    cdef bint by_id = table.terms.by_id
    cdef Slot *slot = &table.slots[spec][s]
    cdef Past *past = &table.pasts[spec][s]
    if batch.size[row] == 0:
        if not fills and not slot.never_opened:
            prove(table, spec, s, time, row)
        _note_filled(table, run, spec, s, row, fills)
        return
    if not run.healing:
        cover_itself(table, s, time)
    newest = max(past.newest_ns, slot.bar.last_time)
    if fills:
        if not slot.taped or precedes_mark(table.tapes[spec][s], time, batch.first_id[row]):
            lead_astray(table, spec, s, time, row)
            return
        tape_trade(table, run, spec, row)
        _note_filled(table, run, spec, s, row, fills)
        return
    if slot.never_opened:
        if not by_id or not begins_with_first(table.ids, s) or asks_inside(&table.inside, spec):
            begin_tape(table, spec, s)
    elif time < slot.bar.open_time or (not by_id and time < newest) or is_over(table, spec, s, time):
        if not slot.taped or time < newest - table.terms.lateness_ns:
            not_placed(&table.rows, row, spec)
            if by_id:
                lead_astray(table, spec, s, time, row)
            else:
                lose_late(table, run, spec, row)
            return
        tape_trade(table, run, spec, row)
        cut_again(table, run, spec, s, row, False)
        review_tape(table, spec, s)
        return
    elif ahead or (by_id and time >= slot.bar.close_time):
        # What is missing, or comes from before the border, goes in front of this trade.
        begin_tape(table, spec, s)
    elif slot.bar.largest == 0 and asks_inside(&table.inside, spec):
        begin_tape(table, spec, s)      # a bar of which more than sums is kept can be cut again as a whole only
    if slot.taped:
        tape_trade(table, run, spec, row)
    step_into(table, run, spec, s, batch, row, row)
    mark_begun_late(slot, False)
    if slot.taped:
        review_tape(table, spec, s)


cdef bint precedes_mark(const Tape *tape, int64_t time, int64_t first_id) noexcept nogil:
    # Whether a trade belongs before all that can be cut again.
    cdef const Summary *bar = &tape.mark.bar
    return not tape.whole and (time < bar.open_time or (bar.largest > 0 and first_id < bar.last_id))


cdef bint is_over(const Table *table, int spec, int32_t symbol_id, int64_t time) noexcept nogil:
    # Whether the interval of a trade was closed by a clock before it came.
    cdef const Slot *slot = &table.slots[spec][symbol_id]
    cdef const Record *last
    if slot.bar.largest or slot.newest < 0 or time >= slot.bar.close_time:
        return False
    last = &table.records.items[slot.newest]
    return last.reason == BY_ANCHOR and last.bar.open_time == slot.bar.open_time


cdef void _note_filled(
    Table *table, const Pass *run, int spec, int32_t symbol_id, Py_ssize_t row, bint fills
) noexcept nogil:
    # A hole has shrunk: bars are cut again, now or behind the whole answer.
    cdef Tape *tape = tape_of(table, spec, symbol_id)
    if not fills or tape is NULL:
        return
    tape.filled_from = min(tape.filled_from, run.columns.first_id[row])
    if not run.healing:
        cut_again(table, run, spec, symbol_id, row, False)
        review_tape(table, spec, symbol_id)


cdef bint has_tape(const Table *table, int32_t symbol_id) noexcept nogil:
    cdef int k
    for k in range(table.specs.count if table.specs.anchored else 0):
        if table.slots[k][symbol_id].taped:
            return True
    return False


cdef void heal_anchored(Table *table, const Pass *run, int32_t symbol_id, Py_ssize_t row) noexcept nogil:
    cdef Tape *tape
    cdef int k
    for k in range(table.specs.count if table.specs.anchored else 0):
        tape = tape_of(table, k, symbol_id)
        if tape is not NULL and tape.filled_from != HIGHEST:
            cut_again(table, run, k, symbol_id, row, True)
            review_tape(table, k, symbol_id)


cdef void leave_anchored(Table *table, int32_t symbol_id) noexcept nogil:
    cdef int k
    for k in range(table.specs.count if table.specs.anchored else 0):
        if table.specs.rules[k].anchor is not NULL:
            lose_tape(table, k, symbol_id)
            table.slots[k][symbol_id].path_lost = LOST_PATH
