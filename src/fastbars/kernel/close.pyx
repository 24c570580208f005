"""A bar's life: when it is opened and closed, by a trade, by time or by the end; and intervals without trades.

A closed bar becomes a Record. So does an interval without trades where empty intervals are filled, or where the feed
was down in it: flat at the last close where it is known that nothing was traded, else without prices.

Units: times int64 ns since the epoch, UTC.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t

from fastbars.kernel.amend cimport (
    BY_END, BY_GAP, BY_TRADE, DOWN, END, LOST, NOT_CLOSED, START, UNPROVEN, Judgement, evict, flatten, judge, link, prove,
    take_judgement,
)
from fastbars.kernel.groups cimport Group, append_member, expect_all_at_once, expect_close, link_members
from fastbars.kernel.ids cimport catch_up, in_doubt
from fastbars.kernel.limits cimport EARLIEST_NS, LATEST_NS
from fastbars.kernel.passes cimport Pass, begin_idle_pass
from fastbars.kernel.rules cimport interval_of, is_time_kind
from fastbars.kernel.scaled cimport HIGHEST, LOWEST
from fastbars.kernel.summary cimport Summary, clear_bar, is_within, merge_bar
from fastbars.kernel.table cimport (
    Outage, Past, Record, Slot, Table, begin_record, event_time, has_appeared, is_down_in, is_open, issue, new_record, total_bar,
)

cdef enum:
    MOST_EMPTY = 100_000        # intervals without trades that one call issues for a symbol and spec


# Opening and closing.


cdef void roll(Table *table, Pass *run, int spec, int symbol_id, int64_t time, Py_ssize_t row) noexcept nogil:
    # Closes the bar that `time` has left behind, if one is open, and opens the one it lies in.
    cdef Slot *slot = &table.slots[spec][symbol_id]
    cdef int64_t open_time = LOWEST, close_time = LOWEST
    cdef bint timed = is_time_kind(table.specs.rules[spec].kind)
    cdef bint ended = not is_open(table, spec, symbol_id) and slot.flags & END
    if timed:
        interval_of(&table.specs.rules[spec], time, &open_time, &close_time)
    if is_open(table, spec, symbol_id):
        close_bar(table, run, spec, symbol_id, row, BY_TRADE, 0)
    if not run.fills:
        # This trade is the proof that bars closed early by watermark, clock or flush were waiting for.
        prove(table, spec, symbol_id, HIGHEST, row)
    if timed:
        if not ended:
            pass_time(table, run, spec, symbol_id, open_time, BY_TRADE, 0, row)
        expect_close(&table.groups, symbol_id, close_time)
    clear_bar(&slot.bar, open_time, close_time)
    slot.flags = DOWN if timed and is_down_in(table, open_time, close_time) else 0
    slot.contained = 1      # until it is found that it is not
    if slot.never_opened:
        if not has_appeared(table, symbol_id):
            table.appeared[table.appeared_count] = symbol_id
            table.appeared_count += 1
            if not table.groups.unlinked:
                append_member(&table.groups, symbol_id)
        slot.never_opened = 0
        table.pasts[spec][symbol_id].start_ns = open_time
        if timed and table.terms.by_id and table.ids.lines[symbol_id].start_ns < open_time:
            table.pasts[spec][symbol_id].start_ns = table.ids.lines[symbol_id].start_ns + 1    # a void id came first
        else:
            slot.flags |= START


cdef void close_bar(
    Table *table, Pass *run, int spec, int symbol_id, Py_ssize_t row, uint8_t reason, uint8_t flags
) noexcept nogil:
    # The bars that feed this one were closed before it; event_ns is that of the symbol.
    cdef Slot *slot = &table.slots[spec][symbol_id]
    cdef Record closed
    cdef Record *record = &closed
    cdef Judgement judgement
    cdef Past *past
    cdef int32_t r = -1
    cdef int k
    cdef bint timed = is_time_kind(table.specs.rules[spec].kind)
    if timed:
        flags = without_proof(table, spec, symbol_id, slot.bar.close_time, flags)
        r = new_record(table)
        if r < 0:
            return
        record = &table.records.items[r]
        if slot.bar.open_time <= table.pasts[spec][symbol_id].lost_ns < slot.bar.close_time:
            flags |= LOST
    else:
        slot.bar.open_time, slot.bar.close_time = slot.bar.first_time, slot.bar.last_time
    record.bar = slot.bar
    begin_record(record, 0, reason, slot.flags | flags)
    judgement = judge(table, spec, symbol_id, record)
    take_judgement(record, judgement)
    issue(table, spec, symbol_id, record, row)
    past = &table.pasts[spec][symbol_id]
    past.newest_ns = max(past.newest_ns, slot.bar.last_time)
    if table.terms.by_id and table.specs.source[spec] < 0:
        catch_up(table.ids, symbol_id)
    if not timed:
        clear_bar(&slot.bar, LOWEST, LOWEST)
        return
    for k in range(table.specs.count):
        if table.specs.source[k] == spec and is_within(&slot.bar, &table.slots[k][symbol_id].bar):
            merge_bar(&table.slots[k][symbol_id].bar, &slot.bar, table.terms.by_id)
    slot.gate.next.limit = LOWEST
    slot.flags = 0
    clear_bar(&slot.bar, record.bar.close_time, record.bar.close_time)
    slot.unproven |= (record.flags & (UNPROVEN | END)) != 0
    link(table, spec, symbol_id, slot.newest, r, -1)
    evict(table, spec, symbol_id, run.event_ns)


# Intervals without trades.

cdef void pass_time(
    Table *table, Pass *run, int spec, int symbol_id, int64_t until, uint8_t reason, uint8_t flags, Py_ssize_t row
) noexcept nogil:
    # Time has passed up to `until`, and no bar is open: issues the empty intervals that are to be issued.
    cdef Slot *slot = &table.slots[spec][symbol_id]
    cdef int64_t open_time, close_time
    cdef bint down
    cdef uint8_t own
    cdef int left = MOST_EMPTY
    while left and next_empty(table, spec, symbol_id, &open_time, &close_time) and close_time <= until:
        left -= 1
        down = is_down_in(table, open_time, close_time)
        # Where a trade behind it came with the next id, it is proven that the feed missed nothing.
        own = without_proof(table, spec, symbol_id, close_time, flags)
        if table.terms.fill or own & UNPROVEN or not table.terms.by_id or in_doubt(table.ids, symbol_id, open_time, close_time):
            issue_empty(
                table, run, spec, symbol_id, open_time, close_time, BY_GAP if down and reason != BY_TRADE else reason,
                own | (DOWN if down else 0), row)
        clear_bar(&slot.bar, close_time, close_time)


cdef void pass_void(Table *table, Pass *run, int tree, int symbol_id, int64_t time, Py_ssize_t row) noexcept nogil:
    # The id is used up, which proves what the next trade would prove: bars before its interval are over.
    cdef Summary *bar = &table.slots[table.specs.trees[tree].root][symbol_id].bar
    cdef Past *past
    cdef int64_t open_time, close_time
    cdef int j, k
    if run.fills:
        return
    if bar.open_time <= time < bar.close_time:
        bar.last_time = max(bar.last_time, time)
    for j in range(table.specs.trees[tree].start, table.specs.trees[tree].stop):
        k = table.specs.order[j]
        past = &table.pasts[k][symbol_id]
        past.newest_ns = max(past.newest_ns, time)
        interval_of(&table.specs.rules[k], time, &open_time, &close_time)
        prove(table, k, symbol_id, open_time, row)


cdef uint8_t without_proof(const Table *table, int spec, int symbol_id, int64_t close_time, uint8_t flags) noexcept nogil:
    # A bar that no trade closes has no proof of its end, unless a void id behind it has come.
    if table.terms.by_id and is_time_kind(table.specs.rules[spec].kind) and table.pasts[spec][symbol_id].newest_ns >= close_time:
        return flags & ~(UNPROVEN | END)
    return flags


cdef bint next_empty(const Table *table, int spec, int symbol_id, int64_t *open_time, int64_t *close_time) noexcept nogil:
    # The next interval that is issued if it stays empty; False: there is none.
    cdef const Slot *slot = &table.slots[spec][symbol_id]
    if slot.never_opened or slot.newest < 0 or is_open(table, spec, symbol_id) or slot.flags & END:
        return False
    if slot.bar.close_time > LATEST_NS:     # no trade can be as late, and the interval behind it may not fit 64 bits
        return False
    interval_of(&table.specs.rules[spec], slot.bar.close_time, open_time, close_time)
    if table.terms.fill:
        return True
    if close_time[0] <= table.outage.since_ns:
        if table.outage.since_ns == HIGHEST:
            return False
        interval_of(&table.specs.rules[spec], table.outage.since_ns, open_time, close_time)
    return open_time[0] < table.outage.until_ns


cdef void issue_empty(
    Table *table, Pass *run, int spec, int symbol_id, int64_t open_time, int64_t close_time, uint8_t reason, uint8_t flags,
    Py_ssize_t row,
) noexcept nogil:
    cdef Slot *slot = &table.slots[spec][symbol_id]
    cdef Past *past = &table.pasts[spec][symbol_id]
    cdef int32_t r = new_record(table)
    cdef Record *record
    cdef Judgement judgement
    if r < 0:
        return
    record = &table.records.items[r]
    clear_bar(&record.bar, open_time, close_time)
    if open_time <= past.lost_ns < close_time:
        flags |= LOST
    begin_record(record, 0, reason, flags)
    judgement = judge(table, spec, symbol_id, record)
    take_judgement(record, judgement)
    flatten(table, record, table.records.items[slot.newest].bar.close, record.status)
    issue(table, spec, symbol_id, record, row)
    slot.unproven |= (flags & UNPROVEN) != 0
    link(table, spec, symbol_id, slot.newest, r, -1)
    evict(table, spec, symbol_id, run.event_ns)


# Without a trade.

cdef void close_until(Table *table, int64_t time_ns, uint8_t reason, int32_t group) noexcept nogil:
    # Closes what ends at or before a time that a watermark or a clock has passed for the symbols of a group. Rows count
    # symbols, in the order in which they appeared.
    cdef Pass run
    cdef uint8_t flags = UNPROVEN | (DOWN if reason == BY_GAP else 0)
    cdef int64_t open_time, close_time
    cdef Group *own = &table.groups.items[group]
    cdef Py_ssize_t i = -1
    cdef int j, k, t, s
    begin_idle_pass(&run)
    if table.groups.unlinked:
        link_members(&table.groups, table.appeared, table.appeared_count)
    own.next_close_ns = HIGHEST
    s = own.first
    while s >= 0:
        i += 1
        for t in range(0 if table.groups.members[s].held else table.specs.tree_count):
            run.event_ns = event_time(table, t, s)
            for j in range(table.specs.trees[t].start, table.specs.trees[t].stop):
                k = table.specs.order[j]
                if is_open(table, k, s) and table.slots[k][s].bar.close_time <= time_ns:
                    close_bar(table, &run, k, s, i, reason, flags)
                if is_open(table, k, s):
                    own.next_close_ns = min(own.next_close_ns, table.slots[k][s].bar.close_time)
                    continue
                pass_time(table, &run, k, s, time_ns, reason, UNPROVEN, i)
                if next_empty(table, k, s, &open_time, &close_time):
                    own.next_close_ns = min(own.next_close_ns, close_time)
        s = table.groups.members[s].next


cdef int64_t next_close_of(const Table *table, int32_t symbol_id) noexcept nogil:
    # Of a symbol that came to a group, or whose trades are held no longer: up to when nothing of it closes.
    cdef int64_t earliest = HIGHEST, open_time, close_time
    cdef int k
    for k in range(table.specs.count):
        if not is_time_kind(table.specs.rules[k].kind):
            continue
        if is_open(table, k, symbol_id):
            earliest = min(earliest, table.slots[k][symbol_id].bar.close_time)
        elif next_empty(table, k, symbol_id, &open_time, &close_time):
            earliest = min(earliest, close_time)
    return earliest


cdef int end_bars(Table *table, object symbol_id, Py_ssize_t behind) except -1:
    # Those of one symbol, or of all; they are issued behind so many rows of a batch.
    cdef Pass run
    cdef Py_ssize_t i
    cdef int j, k, t
    begin_idle_pass(&run)
    for i in range(table.appeared_count):
        if symbol_id is not None and table.appeared[i] != symbol_id:
            continue
        for t in range(table.specs.tree_count):
            run.event_ns = event_time(table, t, table.appeared[i])
            for j in range(table.specs.trees[t].start, table.specs.trees[t].stop):
                if is_open(table, table.specs.order[j], table.appeared[i]):
                    close_bar(table, &run, table.specs.order[j], table.appeared[i], behind + i, BY_END, END)
                table.slots[table.specs.order[j]][table.appeared[i]].flags = END     # until its next trade
        for k in range(table.specs.count):
            if not is_time_kind(table.specs.rules[k].kind) and is_open(table, k, table.appeared[i]):
                close_bar(table, &run, k, table.appeared[i], behind + i, BY_END, END)
    return 0



cdef void current_bar(Table *table, int spec, int symbol_id) noexcept nogil:
    # Issues the open bar as it is now.
    cdef Record record
    cdef Judgement judgement
    cdef const Slot *slot = &table.slots[spec][symbol_id]
    total_bar(table, spec, symbol_id, &record.bar)
    begin_record(
        &record, 0, NOT_CLOSED, slot.flags | without_proof(table, spec, symbol_id, slot.bar.close_time, UNPROVEN))
    if not is_time_kind(table.specs.rules[spec].kind):
        record.bar.open_time, record.bar.close_time = record.bar.first_time, record.bar.last_time
    elif record.bar.open_time <= table.pasts[spec][symbol_id].lost_ns < record.bar.close_time:
        record.flags |= LOST
    judgement = judge(table, spec, symbol_id, &record)
    take_judgement(&record, judgement)
    issue(table, spec, symbol_id, &record, 0)


# When the feed is down.

cdef void begin_outage(Table *table, int64_t time_ns) noexcept nogil:
    if table.outage.since_ns < HIGHEST and table.outage.until_ns == HIGHEST:
        return
    table.outage = Outage(max(EARLIEST_NS, min(time_ns, LATEST_NS)), HIGHEST)   # no trade is beyond
    expect_all_at_once(&table.groups, LOWEST)   # quiet symbols have intervals to be issued now


cdef void end_outage(Table *table, int64_t time_ns) noexcept nogil:
    cdef Slot *slot
    cdef Py_ssize_t i
    cdef int k
    if table.outage.until_ns != HIGHEST:
        return
    table.outage.until_ns = max(time_ns, table.outage.since_ns + 1)
    for i in range(table.appeared_count):
        for k in range(table.specs.count):
            slot = &table.slots[k][table.appeared[i]]
            if not is_time_kind(table.specs.rules[k].kind):
                slot.path_lost |= not table.terms.by_id
            elif is_open(table, k, table.appeared[i]) and is_down_in(table, slot.bar.open_time, slot.bar.close_time):
                slot.flags |= DOWN
