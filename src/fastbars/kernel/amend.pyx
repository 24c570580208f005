"""Closed bars that can still be amended: late trades, proof, healing, their status, and when they are let go.

Those of a symbol and spec are a list of Records in order of time. A record is kept for `lateness` after its
close_time, and, up to the heal horizon, as long as a hole reaches into it or its end is not proven. Whatever changes
about one, a value, its status or the number of trades it lacks, is issued as its next revision.

Units: times int64 ns since the epoch, UTC.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t

from fastbars.kernel.ids cimport UNKNOWN, in_doubt, lacks, leave_out, reach_back, was_reached
from fastbars.kernel.passes cimport Columns, Pass, note_overflow, trades_of
from fastbars.kernel.rows cimport not_placed
from fastbars.kernel.rules cimport FIXED, interval_of, is_time_kind
from fastbars.kernel.scaled cimport HIGHEST, LOWEST
from fastbars.kernel.summary cimport add_trade, clear_bar
from fastbars.kernel.table cimport (
    Past, Record, Slot, Table, begin_record, event_time, free_record, is_down_in, is_open, issue, new_record,
)

cdef enum:
    MOST_RECORDS = 1 << 20      # with more of them, none is kept for longer than lateness


# The list.


cdef void link(Table *table, int spec, int symbol_id, int32_t before, int32_t r, int32_t behind) noexcept nogil:
    cdef Record *records = table.records.items
    cdef Slot *slot = &table.slots[spec][symbol_id]
    records[r].next = behind
    if before >= 0:
        records[before].next = r
    else:
        slot.oldest = r
    if behind < 0:
        slot.newest = r


cdef void evict(Table *table, int spec, int symbol_id, int64_t event_ns) noexcept nogil:
    # Lets go of the records whose time is over; the newest one stays, it may wait for its proof.
    cdef Record *records = table.records.items
    cdef Slot *slot = &table.slots[spec][symbol_id]
    cdef Past *past = &table.pasts[spec][symbol_id]
    cdef Record *record
    cdef int32_t r = slot.oldest, before = -1, next
    cdef int64_t age_ns
    while r != slot.newest:
        record = &records[r]
        next = record.next
        age_ns = event_ns - record.bar.close_time
        if age_ns <= table.terms.lateness_ns:
            return
        if is_held(table, symbol_id, record, age_ns):
            if age_ns <= table.terms.horizon_ns and table.records.held < MOST_RECORDS:
                before = r
                r = next
                continue
            past.let_go_ns = max(past.let_go_ns, record.bar.close_time)
        if before >= 0:
            records[before].next = next
        else:
            slot.oldest = next
        free_record(table, r)
        r = next
        # The next one closes at least a step later; not reading it saves a cache miss.
        if table.specs.rules[spec].kind == FIXED and age_ns - table.specs.rules[spec].step <= table.terms.lateness_ns:
            return


cdef bint is_held(const Table *table, int symbol_id, const Record *record, int64_t age_ns) noexcept nogil:
    if not table.terms.by_id:
        return False
    return record.flags & UNPROVEN or in_doubt(table.ids, symbol_id, record.bar.open_time, record.bar.close_time)


# Amending.

cdef bint fold_late(Table *table, Pass *run, int spec, Py_ssize_t row) noexcept nogil:
    # A trade older than the open bar amends the closed bar it belongs to, and no other. False: too late.
    cdef const Columns *batch = &run.columns
    cdef int32_t symbol_id = batch.symbol_id[row]
    cdef Slot *slot = &table.slots[spec][symbol_id]
    cdef const Past *past = &table.pasts[spec][symbol_id]
    cdef int64_t time = batch.time_ns[row], open_time, close_time, age_ns
    cdef int32_t r = slot.oldest, before = -1, behind
    cdef Record *record
    cdef bint late
    interval_of(&table.specs.rules[spec], time, &open_time, &close_time)
    while r >= 0 and table.records.items[r].bar.open_time < open_time:
        before = r
        r = table.records.items[r].next
    if r >= 0 and table.records.items[r].bar.open_time != open_time:
        behind = r
        r = -1
    else:
        behind = -1
    age_ns = run.event_ns - close_time
    late = close_time <= past.let_go_ns
    if age_ns > table.terms.lateness_ns and not late:
        # An old interval without a record can be amended only if it is certain that none was let go.
        late = not (run.fills or run.waited) or age_ns > table.terms.horizon_ns or (
            r < 0 and not was_reached(table.ids, open_time, close_time)
        )
    if late:
        not_placed(&table.rows, row, spec)
        if r >= 0:
            table.records.items[r].flags |= LOST
            table.records.items[r].lost += trades_of(batch, row)
            revise(table, spec, symbol_id, r, False, row)
        return False
    if r >= 0:
        record = &table.records.items[r]
        if record.bar.count == 0:
            clear_bar(&record.bar, open_time, close_time)
    else:
        r = new_record(table)
        if r < 0:
            return False
        record = &table.records.items[r]
        clear_bar(&record.bar, open_time, close_time)
        begin_record(record, -1, BY_TRADE, START if open_time < past.start_ns else 0)
        if open_time <= past.lost_ns < close_time:
            record.flags |= LOST
        if is_down_in(table, open_time, close_time):
            record.flags |= DOWN
        if behind >= 0:
            record.flags |= table.records.items[behind].flags & UNPROVEN  # its end is no more proven than theirs
        link(table, spec, symbol_id, before, r, behind)
    if add_trade(&record.bar, batch, row, slot.contract, table.terms.by_id):
        note_overflow(run, row)
    if run.healing:
        record.flags |= FILLED | DIRTY
        return True
    if table.terms.by_id and not run.fills:
        prove(table, spec, symbol_id, open_time, row)
    revise(table, spec, symbol_id, r, True, row)
    return True


cdef void prove(Table *table, int spec, int symbol_id, int64_t before_ns, Py_ssize_t row) noexcept nogil:
    # The next trade belongs to a later bar, which proves that these have ended.
    cdef Record *records = table.records.items
    cdef Slot *slot = &table.slots[spec][symbol_id]
    cdef int32_t r = slot.oldest
    if not slot.unproven:
        return
    slot.unproven = 0
    while r >= 0:
        if records[r].flags & (UNPROVEN | END):
            if records[r].bar.open_time < before_ns:
                records[r].flags &= ~(UNPROVEN | END)
                revise(table, spec, symbol_id, r, False, row)
            else:
                slot.unproven = 1
        r = records[r].next


cdef void revise(Table *table, int spec, int symbol_id, int32_t r, bint changed, Py_ssize_t row) noexcept nogil:
    # Judges a record again, and issues it where it has `changed` or its status has. A new close is carried
    # on into the flat bars after it.
    cdef Record *records = table.records.items
    cdef Record *record = &records[r]
    cdef Judgement judgement
    cdef int64_t close = record.bar.close
    while True:
        judgement = judge(table, spec, symbol_id, record)
        if record.bar.count == 0:
            changed |= flatten(table, record, close, judgement.status)
        if changed or judgement.status != record.status or (
            judgement.missing != record.missing or counted(judgement.unpublished) != record.unpublished
        ):
            take_judgement(record, judgement)
            record.revision += 1
            issue(table, spec, symbol_id, record, row)
        r = record.next
        close = record.bar.close
        if not table.terms.fill or r < 0 or (
            records[r].bar.count or records[r].bar.open_time != record.bar.close_time
            or records[r].bar.close == close
        ):
            return
        record = &records[r]
        changed = False


cdef void rejudge(
    Table *table, int spec, int symbol_id, int64_t since, int64_t until, bint heals, Py_ssize_t row
) noexcept nogil:
    # A hole between two times was opened or has shrunk: what is known about closed bars it reaches may change. Where it
    # `heals`, trades from REST have shrunk it.
    cdef Record *records = table.records.items
    cdef int32_t r = table.slots[spec][symbol_id].oldest
    cdef Record *record
    cdef bint dirty
    while r >= 0 and heals:
        record = &records[r]
        if record.bar.open_time <= until and since < record.bar.close_time:
            record.flags |= FILLED
        r = record.next
    r = table.slots[spec][symbol_id].oldest
    while r >= 0:
        record = &records[r]
        dirty = record.flags & DIRTY
        if dirty or (record.bar.open_time <= until and since < record.bar.close_time):
            record.flags &= ~DIRTY
            revise(table, spec, symbol_id, r, dirty, row)
        r = record.next


cdef Judgement judge(const Table *table, int spec, int symbol_id, const Record *record) noexcept nogil:
    cdef uint8_t flags = record.flags
    cdef int64_t missing = record.lost, unpublished = 0 if table.terms.by_id else UNKNOWN
    cdef bint gap = flags & LOST
    if flags & DOWN and (not table.terms.by_id or flags & UNPROVEN):
        gap = True
    if not is_time_kind(table.specs.rules[spec].kind):
        gap |= table.slots[spec][symbol_id].path_lost
        missing = unpublished = UNKNOWN
    elif table.terms.by_id and lacks(
        table.ids, symbol_id, record.bar.open_time, record.bar.close_time, &missing, &unpublished
    ):
        gap = True
    if gap:
        # Unless both ends are proven, more may be missing.
        if not table.terms.proof or flags & (START | END | UNPROVEN):
            missing = UNKNOWN
        return Judgement(GAP, missing, unpublished)
    if flags & (START | END):
        return Judgement(PARTIAL, UNKNOWN, unpublished)
    if not table.terms.proof:
        return Judgement(UNVERIFIABLE, UNKNOWN, unpublished)
    if flags & UNPROVEN:
        return Judgement(PROVISIONAL, UNKNOWN, unpublished)
    if is_time_kind(table.specs.rules[spec].kind) and unpublished != 0:
        return Judgement(PUBLISHED, 0, unpublished)
    return Judgement(HEALED if flags & FILLED else COMPLETE, 0, unpublished)


cdef bint flatten(const Table *table, Record *record, int64_t close, uint8_t status) noexcept nogil:
    # Gives an empty bar its prices: the last close, or none (high is LOWEST) where trades may be missing. True:
    # they have changed. `close` is kept either way, for the empty bars behind it.
    cdef bint flat = table.terms.fill and status != GAP
    if flat == (record.bar.high != LOWEST) and (record.bar.close == close or not flat):
        record.bar.close = close
        return False
    record.bar.close = close
    record.bar.open = close if flat else 0
    record.bar.high = close if flat else LOWEST
    record.bar.low = close if flat else HIGHEST
    return True


# Without a trade.

cdef void note_safe(const Table *table, int symbol_id) noexcept nogil:
    # Notes for the holes opened next: no bar that closes later than this was let go.
    cdef int t
    cdef int64_t event_ns
    table.ids.safe_ns = LOWEST
    for t in range(table.specs.tree_count):
        event_ns = event_time(table, t, symbol_id)
        if event_ns > LOWEST + table.terms.lateness_ns:
            table.ids.safe_ns = max(table.ids.safe_ns, event_ns - table.terms.lateness_ns)


cdef void mark_lost(Table *table, int symbol_id, int64_t time_ns) noexcept nogil:
    # A trade of this time was refused: marks the bars that lack it as LOST.
    cdef Record *records = table.records.items
    cdef Slot *slot
    cdef Past *past
    cdef int32_t r
    cdef int k
    for k in range(table.specs.count):
        slot = &table.slots[k][symbol_id]
        if not is_time_kind(table.specs.rules[k].kind):
            slot.path_lost = 1
            continue
        past = &table.pasts[k][symbol_id]
        if is_open(table, k, symbol_id) and slot.bar.open_time <= past.lost_ns < slot.bar.close_time:
            slot.flags |= LOST
        past.lost_ns = time_ns
        r = slot.oldest
        while r >= 0:
            if records[r].bar.open_time <= time_ns < records[r].bar.close_time:
                records[r].flags |= LOST
            r = records[r].next
        rejudge(table, k, symbol_id, time_ns, time_ns, False, 0)


cdef set partial_beginnings(const Table *table, int symbol_id, int64_t longest_ns):
    # The open_times of the bars in which the symbol's stream began, and whose beginning could still be proven.
    cdef const Record *records = table.records.items
    cdef const Past *past
    cdef int32_t r
    cdef int k
    cdef bint partial
    cdef int64_t start_ns = table.ids.lines[symbol_id].start_ns
    opened = set()
    for k in range(table.specs.count):
        past = &table.pasts[k][symbol_id]
        if not is_time_kind(table.specs.rules[k].kind) or past.start_ns == HIGHEST or (
            table.ids.lines[symbol_id].expected < 0 or start_ns - past.start_ns > longest_ns
        ):
            continue
        partial = is_open(table, k, symbol_id) and table.slots[k][symbol_id].flags & START
        r = table.slots[k][symbol_id].oldest
        while r >= 0 and not partial:
            partial = records[r].flags & START and not records[r].flags & END
            r = records[r].next
        if partial:
            opened.add(past.start_ns)
    return opened


cdef int prove_beginning(Table *table, int symbol_id, int64_t trade_id, int64_t time_ns) except -1:
    # A trade before the symbol's first one is known: bars that open after it have a proven beginning.
    cdef Record *records = table.records.items
    cdef Slot *slot
    cdef Past *past
    cdef int32_t r
    cdef int64_t until = table.ids.lines[symbol_id].start_ns
    cdef int k
    note_safe(table, symbol_id)
    if time_ns > until or not reach_back(table.ids, symbol_id, trade_id, time_ns):
        return 0
    for k in range(table.specs.count):
        slot, past = &table.slots[k][symbol_id], &table.pasts[k][symbol_id]
        if not is_time_kind(table.specs.rules[k].kind) or past.start_ns <= time_ns:
            continue
        past.start_ns = time_ns + 1
        if is_open(table, k, symbol_id) and slot.bar.open_time > time_ns and slot.flags & START:
            slot.flags = (slot.flags & ~START) | FILLED
        r = slot.oldest
        while r >= 0:
            if records[r].bar.open_time > time_ns and records[r].flags & START:
                records[r].flags = (records[r].flags & ~START) | FILLED
            r = records[r].next
        if table.ids.touched.first > table.ids.touched.last:
            rejudge(table, k, symbol_id, time_ns, until, False, 0)
    return 0


cdef int leave_out_ids(Table *table, int symbol_id, list ranges) except -1:
    # The exchange's history leaves these ids out: missing ones become unpublished.
    cdef int64_t first, last, since = HIGHEST, until = LOWEST
    cdef int k
    for first, last in ranges:
        if leave_out(table.ids, symbol_id, first, last):
            since, until = min(since, table.ids.touched.since_ns), max(until, table.ids.touched.until_ns)
    for k in range(table.specs.count):
        if since <= until and is_time_kind(table.specs.rules[k].kind):
            rejudge(table, k, symbol_id, since, until, False, 0)
    return 0
