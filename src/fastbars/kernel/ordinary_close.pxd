# Ordinary closes: of time bars of which nothing is in doubt, by the trade that opens the next one.
#
# Where bars have few trades this is where most of the time goes, so it is one short way, compiled as a whole into the loop
# that takes it (fold.pyx). It judges nothing: a few loads tell that the judgement, what is let go, and the intervals behind
# can only be what is written here. Whatever is not plainly ordinary is left, unchanged, to the general way (`roll` in
# close.pyx), which does the same, to the last byte of a snapshot.
#
#   ordinary                              because                               else
#   the gate of the root is set           it is open, and all that it feeds     trades of the symbol wait; nobody wants them;
#                                         is open around it; nothing closed     a closed bar waits for proof; ids near the end
#                                         waits for proof
#   the trade has the next id             it proves that the bar is over        a hole opens or shrinks, a duplicate
#   no ids of any symbol began anew       ids are ids, not keys                 anew.pxd
#   no hole, and none forgotten that      ids lack nothing: COMPLETE, or        judged by where the holes are
#   could reach the bar                   PARTIAL where they begin in it
#   covered, and no LOST gap that could   coverage says nothing of it, nor of   judged by the gaps; intervals without trades
#   reach the bar                         the time between it and the trade     are issued
#   no flags, not empty                   not healed, no prices to carry on     as flags say
#   nothing is to be filled               no flat bars up to the trade          they are issued
#   there is room                         no table has to grow                  it grows
#
# Units: times int64 ns since the epoch, UTC.

from libc.stdint cimport int32_t, int64_t, uint8_t

from fastbars.kernel.amend cimport BY_TRADE, COMPLETE, PARTIAL, UNVERIFIABLE, evict
from fastbars.kernel.coverage cimport Cover, kinds_in
from fastbars.kernel.groups cimport expect_close
from fastbars.kernel.ids cimport UNKNOWN, Line
from fastbars.kernel.rows cimport Row, add_row
from fastbars.kernel.rules cimport FIXED, Rule, interval_of
from fastbars.kernel.scaled cimport LOWEST
from fastbars.kernel.summary cimport Summary, is_within, merge_bar, sum_sides
from fastbars.kernel.table cimport Past, Record, Records, Slot, Table, age_at, begin_record, first_revision


cdef inline bint close_ordinary(
    Table *table, int spec, int32_t symbol_id, int64_t time, int64_t event_ns, Py_ssize_t row, int64_t *open_time,
    int64_t *close_time
) noexcept nogil:
    # Closes the open bar of a spec, if that is ordinary, and tells the interval of the next one, which the caller opens. The
    # trade at `row` is behind the bar, and has the next id; `event_ns` is the time of the symbol before it.
    cdef Slot *slot = &table.slots[spec][symbol_id]
    cdef Summary *bar = &slot.bar
    cdef const Rule *rule = &table.specs.rules[spec]
    cdef const Cover *cover = &table.coverage.covers[symbol_id]
    cdef Records *records = &table.records
    cdef const Line *line = NULL
    cdef Past *past
    cdef Record *record
    cdef Row *issued
    cdef int64_t forgotten_ns = LOWEST, age_ns
    cdef bint begun
    cdef int32_t r, oldest
    cdef int k
    if slot.flags or slot.unproven or bar.count == 0 or cover.open_kind or cover.lost_until_ns >= bar.open_time:
        return False
    if table.terms.by_id:
        line = &table.ids.lines[symbol_id]
        if line.holes.count or line.forgotten_until_ns >= bar.open_time or table.ids.renewed.count:
            return False
        forgotten_ns = line.forgotten_until_ns
        begun = line.begun_ns < bar.open_time
    else:
        begun = not kinds_in(&table.coverage, symbol_id, spec, bar.open_time, bar.close_time, LOWEST)
    if table.rows.count == table.rows.capacity or (records.free < 0 and records.count == records.capacity):
        return False
    open_time[0], close_time[0] = bar.close_time, bar.close_time + rule.step
    if rule.kind != FIXED or time >= close_time[0]:
        interval_of(rule, time, open_time, close_time)
        if table.terms.fill and open_time[0] != bar.close_time:
            return False
    r = records.free
    if r >= 0:
        records.free = records.items[r].next
    else:
        r = records.count
        records.count += 1
    records.held += 1
    record = &records.items[r]
    record.bar = bar[0]
    record.next = -1
    record.previous = slot.newest
    begin_record(record, first_revision(table, bar.open_time), BY_TRADE, 0)
    record.status = PARTIAL if not begun else COMPLETE if table.terms.proof else UNVERIFIABLE
    record.missing = 0 if begun and table.terms.proof else UNKNOWN
    record.unpublished = 0 if table.terms.by_id else UNKNOWN
    issued = add_row(&table.rows, row, spec)
    issued.bar = bar[0]
    sum_sides(&issued.bar)
    issued.missing, issued.unpublished = record.missing, record.unpublished
    issued.symbol_id = symbol_id
    issued.revision = record.revision
    issued.status, issued.reason = record.status, BY_TRADE
    issued.price_scale, issued.size_scale, issued.quote_scale = slot.scale.price, slot.scale.size, slot.quote_scale
    past = &table.pasts[spec][symbol_id]
    past.newest_ns = max(past.newest_ns, bar.last_time)
    if table.terms.by_id:
        past.proven_ns = max(past.proven_ns, time)
    for k in range(table.specs.count):
        if table.specs.source[k] == spec and is_within(bar, &table.slots[k][symbol_id].bar):
            merge_bar(&table.slots[k][symbol_id].bar, bar, table.terms.by_id)
    if slot.newest >= 0:
        records.items[slot.newest].next = r
    else:
        slot.oldest = r
    slot.newest = r
    # As `evict`: all closed bars are proven, and only a forgotten hole can hold one.
    oldest = slot.oldest
    while oldest != r:
        record = &records.items[oldest]
        age_ns = age_at(record.bar.close_time, event_ns)
        if age_ns <= table.terms.lateness_ns:
            break
        if record.bar.open_time <= forgotten_ns or record.held >= 0:
            evict(table, spec, symbol_id, event_ns)
            break
        past.evicted_ns = max(past.evicted_ns, record.bar.close_time)
        slot.oldest = record.next
        record.next = records.free
        records.free = oldest
        records.held -= 1
        oldest = slot.oldest
        if rule.kind == FIXED and age_ns - rule.step <= table.terms.lateness_ns:
            break
    expect_close(&table.groups, symbol_id, close_time[0])
    table.ordinary_closes += 1
    return True
