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
#   no hole reaches the bar, and none     ids lack nothing: COMPLETE, or        judged by where the holes are
#   that is forgotten could               PARTIAL where they begin in it
#   covered, and no LOST gap that could   coverage says nothing of it, nor of   judged by the gaps; intervals without trades
#   reach the bar                         the time between it and the trade     are issued
#   no sessions                           every interval has a bar              outside of them none is issued
#   no flags, not empty                   not healed, no prices to carry on     as flags say
#   nothing is to be filled               no flat bars up to the trade          they are issued
#   there is room                         no table has to grow                  it grows
#
# Units: times int64 ns since the epoch, UTC.

from libc.stdint cimport int32_t, int64_t

from fastbars.kernel.amend cimport BY_TRADE, COMPLETE, PARTIAL, UNVERIFIABLE, evict
from fastbars.kernel.coverage cimport Cover, kinds_in
from fastbars.kernel.groups cimport Group
from fastbars.kernel.holes cimport UNPUBLISHED, any_reaches, kinds_of
from fastbars.kernel.ids cimport UNKNOWN, Line
from fastbars.kernel.rows cimport Row, add_row
from fastbars.kernel.rules cimport FIXED, SESSIONS, Rule, interval_of
from fastbars.kernel.scaled cimport LOWEST
from fastbars.kernel.summary cimport Summary, is_within, merge_bar, sum_sides
from fastbars.kernel.table cimport Past, Record, Records, Slot, Table, age_at, begin_record, first_revision


cdef inline bint may_reach(const Line *line, const Summary *bar) noexcept nogil:
    # Whether a hole in the ids, or ids that were not published, has anything to do with a bar.
    return line.forgotten_until_ns >= bar.open_time or (line.holes.count and (
        kinds_of(&line.holes) >> UNPUBLISHED & 1 or any_reaches(&line.holes, bar.open_time, bar.close_time)))


cdef inline bint close_ordinary(
    Table *table, int spec, int32_t symbol_id, bint by_id, bint feeds, int64_t time, int64_t event_ns, Py_ssize_t row,
    Group *group, int64_t *open_time, int64_t *close_time
) noexcept nogil:
    # Closes the open bar of a spec, if that is ordinary, and tells the interval of the next one, which the caller opens. The
    # trade at `row` is behind the bar, and has the next id; `event_ns` is the time of the symbol before it, `group` its own.
    # (What is read more than once is in variables of its own: for all that the compiler knows, any store changes the table.)
    cdef Slot *slot = &table.slots[spec][symbol_id]
    cdef const Summary *bar = &slot.bar
    cdef const Rule *rule = &table.specs.rules[spec]
    cdef const Cover *cover = &table.coverage.covers[symbol_id]
    cdef const Line *line = NULL
    cdef Records *records = &table.records
    cdef Record *items = records.items
    cdef Past *past = &table.pasts[spec][symbol_id]
    cdef Record *record
    cdef Row *issued
    cdef int64_t opened = bar.open_time, closed = bar.close_time, closes = closed + rule.step, forgotten_ns = LOWEST
    cdef int64_t age_ns, step = rule.step if rule.kind == FIXED else 0
    cdef bint begun, holes = False
    cdef int32_t r = records.free, newest = slot.newest, oldest
    cdef int k
    if rule.kind == SESSIONS or slot.flags or slot.unproven or bar.largest == 0 or cover.open_kind or cover.lost_until_ns >= opened:
        return False
    if by_id:
        line = &table.ids.lines[symbol_id]
        if table.ids.renewed.count or may_reach(line, bar):
            return False
        holes = line.holes.count > 0
        forgotten_ns = line.forgotten_until_ns
        begun = line.begun_ns < opened
    else:
        begun = not kinds_in(&table.coverage, symbol_id, spec, opened, closed, LOWEST)
    if table.rows.count == table.rows.capacity or (r < 0 and records.count == records.capacity):
        return False
    open_time[0], close_time[0] = closed, closes
    if not step or time >= closes:
        interval_of(rule, time, open_time, close_time)
        if table.terms.fill and open_time[0] != closed:
            return False
    issued = add_row(&table.rows, row, spec)
    issued.bar = bar[0]
    sum_sides(&issued.bar)
    if r >= 0:
        records.free = items[r].next
    else:
        r = records.count
        records.count += 1
    records.held += 1
    record = &items[r]
    record.bar = bar[0]
    record.next = -1
    record.previous = newest
    begin_record(record, first_revision(table, opened), BY_TRADE, 0)
    record.unpublished = issued.unpublished = 0 if by_id else UNKNOWN
    if begun and table.terms.proof:
        record.status = issued.status = COMPLETE
        record.missing = issued.missing = 0
    else:
        record.status = issued.status = UNVERIFIABLE if begun else PARTIAL
        record.missing = issued.missing = UNKNOWN
    issued.symbol_id = symbol_id
    issued.revision = record.revision
    issued.reason = BY_TRADE
    issued.price_scale, issued.size_scale, issued.quote_scale = slot.scale.price, slot.scale.size, slot.quote_scale
    past.newest_ns = max(past.newest_ns, bar.last_time)
    if by_id:
        past.proven_ns = max(past.proven_ns, time)
    if feeds:
        for k in range(table.specs.count):
            if table.specs.source[k] == spec and is_within(bar, &table.slots[k][symbol_id].bar):
                merge_bar(&table.slots[k][symbol_id].bar, bar, by_id)
    slot.newest = r
    if newest >= 0:
        items[newest].next = r
        oldest = slot.oldest
    else:
        slot.oldest = oldest = r
    # As `evict`: all closed bars are proven, and only holes can hold one.
    while oldest != r:
        record = &items[oldest]
        age_ns = age_at(record.bar.close_time, event_ns)
        if age_ns <= table.terms.lateness_ns:
            break
        if holes or record.bar.open_time <= forgotten_ns or record.held >= 0:
            evict(table, spec, symbol_id, event_ns)
            break
        past.evicted_ns = max(past.evicted_ns, record.bar.close_time)
        slot.oldest = record.next
        record.next = records.free
        records.free = oldest
        records.held -= 1
        oldest = slot.oldest
        if step and age_ns - step <= table.terms.lateness_ns:
            break
    group.next_close_ns = min(group.next_close_ns, close_time[0])
    table.ordinary_closes += 1
    return True
