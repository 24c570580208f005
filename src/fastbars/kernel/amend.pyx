"""Closed bars that can still be amended: late trades, proof, healing, their status, and when they are let go.

What is known of a bar is one function, `judge`, of two ledgers: ids (ids.pyx) and coverage (coverage.pyx).

The closed bars of a symbol and spec are a list of Records in order of time. A record is kept for `lateness` after its
close_time, and, up to the heal horizon, as long as a hole reaches into it or its end is not proven. Whatever changes
about one, a value, its status or the number of trades it lacks, is issued as its next revision.

Units: times int64 ns since the epoch, UTC.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t

from fastbars.kernel.coverage cimport EVERY_SPEC, LOST, UNWANTED, Cover, Gap, affects, fuse, kinds_in, lacks_trades, prune
from fastbars.kernel.ids cimport UNKNOWN, Line, catch_up, in_doubt, lacks, leave_out, reach_back, was_reached
from fastbars.kernel.inside cimport add_inside, asks_inside, place_of_record
from fastbars.kernel.limits cimport EARLIEST_NS
from fastbars.kernel.passes cimport Columns, Pass, note_overflow
from fastbars.kernel.rows cimport not_placed
from fastbars.kernel.rules cimport FIXED, bar_interval_of, interval_of, is_outside, is_time_kind, keeps_time
from fastbars.kernel.scaled cimport HIGHEST, LOWEST
from fastbars.kernel.summary cimport Summary, add_trade, clear_bar
from fastbars.kernel.table cimport (
    Past, Record, Slot, Table, age_at, begin_record, event_time, first_revision, free_record, is_open, issue, new_record,
    tape_of,
)
from fastbars.kernel.trees cimport Tree

cdef enum:
    MOST_RECORDS = 1 << 20      # with more of them, none is kept for longer than lateness


# The list.


cdef void link(Table *table, int spec, int symbol_id, int32_t before, int32_t r, int32_t behind) noexcept nogil:
    cdef Record *records = table.records.items
    cdef Slot *slot = &table.slots[spec][symbol_id]
    records[r].previous = before
    records[r].next = behind
    if behind < 0:
        slot.newest = r
    else:
        records[behind].previous = r
        recheck_held(table, spec, symbol_id, records[r].bar.open_time)
    if before >= 0:
        records[before].next = r
    else:
        slot.oldest = r


cdef int32_t first_behind(const Table *table, const Slot *slot, int64_t time_ns) noexcept nogil:
    # The first closed bar that ends later than a time, or -1. Most who ask mean one of the newest.
    cdef const Record *records = table.records.items
    cdef int32_t r = slot.newest
    if r < 0 or records[r].bar.close_time <= time_ns:
        return -1
    while r != slot.oldest and records[records[r].previous].bar.close_time > time_ns:
        r = records[r].previous
    return r


cdef int32_t one_before(const Table *table, const Slot *slot, int32_t r) noexcept nogil:
    return slot.newest if r < 0 else -1 if r == slot.oldest else table.records.items[r].previous


cdef void recheck_held(Table *table, int spec, int symbol_id, int64_t since) noexcept nogil:
    # A hole that reaches so far back has shrunk, or a bar was put in there: whether bars are held is asked anew.
    cdef Record *records = table.records.items
    cdef int32_t oldest = table.slots[spec][symbol_id].oldest
    if oldest >= 0 and records[oldest].held >= 0 and records[records[oldest].held].bar.close_time > since:
        records[oldest].held = -1


cdef void evict(Table *table, int spec, int symbol_id, int64_t event_ns) noexcept nogil:
    # Lets go of the records whose time is over; the newest one stays, it may wait for its proof. Those that are kept for
    # holes all come first, and are looked at once.
    cdef Record *records = table.records.items
    cdef Slot *slot = &table.slots[spec][symbol_id]
    cdef Past *past = &table.pasts[spec][symbol_id]
    cdef Record *record
    cdef int32_t r = slot.oldest, before = -1, next
    cdef int64_t age_ns, proven_ns
    if r == slot.newest:
        return
    if records[r].held >= 0 and table.records.held < MOST_RECORDS:
        before = let_go_of_held(table, spec, symbol_id, event_ns)
        r = slot.oldest if before < 0 else records[before].next
    proven_ns = proven_until(table, spec, symbol_id)
    while r != slot.newest:
        record = &records[r]
        next = record.next
        age_ns = age_at(record.bar.close_time, event_ns)
        if age_ns <= table.terms.lateness_ns:
            break
        if record.bar.close_time > proven_ns or (table.terms.by_id and (
            in_doubt(table.ids, symbol_id, record.bar.open_time, record.bar.close_time)
            or tape_of(table, spec, symbol_id) is not NULL
        )):
            if age_ns <= table.terms.horizon_ns and table.records.held < MOST_RECORDS:
                if record.bar.close_time > proven_ns:   # so do all behind it
                    break
                before = r
                r = next
                continue
            past.let_go_ns = max(past.let_go_ns, record.bar.close_time)
        past.evicted_ns = max(past.evicted_ns, record.bar.close_time)
        if before >= 0:
            records[before].next = next
            records[next].previous = before
        else:
            slot.oldest = next
        free_record(table, r)
        r = next
        # The next one closes at least a step later; not reading it saves a cache miss.
        if table.specs.rules[spec].kind == FIXED and age_ns - table.specs.rules[spec].step <= table.terms.lateness_ns:
            break
    if before >= 0:
        records[slot.oldest].held = before


cdef int32_t let_go_of_held(Table *table, int spec, int symbol_id, int64_t event_ns) noexcept nogil:
    # Of those that are known to be held: the ones that are beyond the horizon. Returns the last one that is left, or -1.
    cdef Record *records = table.records.items
    cdef Slot *slot = &table.slots[spec][symbol_id]
    cdef Past *past = &table.pasts[spec][symbol_id]
    cdef int32_t r = slot.oldest, last = records[r].held
    while age_at(records[r].bar.close_time, event_ns) > table.terms.horizon_ns:
        past.let_go_ns = max(past.let_go_ns, records[r].bar.close_time)
        past.evicted_ns = max(past.evicted_ns, records[r].bar.close_time)
        slot.oldest = records[r].next
        free_record(table, r)
        if r == last:
            return -1
        r = slot.oldest
    return last


cdef int64_t proven_until(const Table *table, int spec, int symbol_id) noexcept nogil:
    # More may become known about bars that end later than late trades. Where ids prove nothing, that is until the symbol's
    # next trade: that it has been silent, and since when, is found out late.
    if table.terms.by_id:
        return table.pasts[spec][symbol_id].proven_ns
    while table.specs.source[spec] >= 0:
        spec = table.specs.source[spec]
    return max(table.pasts[spec][symbol_id].newest_ns, table.slots[spec][symbol_id].bar.last_time)


# Amending.

cdef bint lands(const Table *table, Pass *run, int tree, Py_ssize_t row) noexcept nogil:
    # Whether a bar of a tree can take a trade, open or closed.
    cdef const Tree *own = &table.specs.trees[tree]
    cdef int32_t symbol_id = run.columns.symbol_id[row], before, r, behind
    cdef int64_t open_time, close_time
    cdef int j, k
    run.event_ns = event_time(table, tree, symbol_id)
    for j in range(own.start, own.stop):
        k = table.specs.order[j]
        if run.columns.time_ns[row] >= table.slots[k][symbol_id].bar.open_time:
            return True
        interval_of(&table.specs.rules[k], run.columns.time_ns[row], &open_time, &close_time)
        if is_outside(&table.specs.rules[k], open_time):
            return True
        r = find_record(table, &table.slots[k][symbol_id], open_time, &before, &behind)
        if not is_too_late(table, run, k, symbol_id, open_time, close_time, r >= 0):
            return True
    return False


cdef int32_t find_record(
    const Table *table, const Slot *slot, int64_t open_time, int32_t *before, int32_t *behind
) noexcept nogil:
    # The closed bar of an interval, or -1, and those between which it lies.
    cdef int32_t r = first_behind(table, slot, open_time)
    before[0] = one_before(table, slot, r)
    behind[0] = -1
    if r >= 0 and table.records.items[r].bar.open_time != open_time:
        behind[0] = r
        return -1
    return r


cdef bint is_too_late(
    const Table *table, const Pass *run, int spec, int symbol_id, int64_t open_time, int64_t close_time, bint kept
) noexcept nogil:
    # An old interval without a record can be amended only if it is certain that none was let go.
    cdef const Past *past = &table.pasts[spec][symbol_id]
    cdef int64_t age_ns = age_at(close_time, run.event_ns)
    if close_time <= past.let_go_ns:
        return True
    if age_ns <= table.terms.lateness_ns:
        return False
    return not (run.fills or run.waited) or age_ns > table.terms.horizon_ns or (
        not kept and close_time <= max(past.evicted_ns, table.coverage.covers[symbol_id].begun_ns)
        and not was_reached(table.ids, open_time, close_time)
    )


cdef void keep_inside(Table *table, int spec, int symbol_id, int32_t r) noexcept nogil:
    # What is inside the open bar goes with it into a record.
    cdef int32_t *kept = place_of_record(&table.inside, r)
    if kept is NULL:
        table.rows.no_memory = True
        return
    kept[0] = table.inside.of_slots[spec][symbol_id]
    table.inside.of_slots[spec][symbol_id] = -1



cdef void add_inside_bar(
    Table *table, int spec, int symbol_id, int32_t r, const Columns *batch, Py_ssize_t row
) noexcept nogil:
    cdef int32_t *place = &table.inside.of_slots[spec][symbol_id] if r < 0 else place_of_record(&table.inside, r)
    cdef int64_t first = batch.time_ns[row], last = batch.time_ns[row]
    if not is_time_kind(table.specs.rules[spec].kind):
        first, last = 0, 0          # in the order in which they arrive
    elif table.terms.by_id:
        first, last = batch.first_id[row], batch.last_id[row]
    if place is NULL or not add_inside(
        &table.inside, spec, place, batch, row, table.slots[spec][symbol_id].scale.price, first, last
    ):
        table.rows.no_memory = True


cdef bint fold_late(Table *table, Pass *run, int spec, Py_ssize_t row) noexcept nogil:
    # A trade older than the open bar amends the closed bar it belongs to, and no other; outside of sessions none. False: too
    # late.
    cdef const Columns *batch = &run.columns
    cdef int32_t symbol_id = batch.symbol_id[row]
    cdef Slot *slot = &table.slots[spec][symbol_id]
    cdef int64_t time = batch.time_ns[row], open_time, close_time
    cdef int32_t r, before, behind
    cdef Record *record
    interval_of(&table.specs.rules[spec], time, &open_time, &close_time)
    if is_outside(&table.specs.rules[spec], open_time):
        if table.terms.by_id and not run.fills:
            prove(table, spec, symbol_id, time, row)
        return True
    r = find_record(table, slot, open_time, &before, &behind)
    if is_too_late(table, run, spec, symbol_id, open_time, close_time, r >= 0):
        not_placed(&table.rows, row, spec)
        return False
    if r >= 0:
        record = &table.records.items[r]
        if record.bar.largest == 0:
            clear_bar(&record.bar, open_time, close_time)
            record.flags &= ~UNPRICED
    else:
        r = new_record(table)
        if r < 0:
            return False
        record = &table.records.items[r]
        clear_bar(&record.bar, open_time, close_time)
        begin_record(record, first_revision(table, open_time) - 1, BY_TRADE, 0)
        if run.fills:
            follow_proof(table, spec, symbol_id)
        slot.unproven |= table.terms.by_id and close_time > table.pasts[spec][symbol_id].proven_ns
        link(table, spec, symbol_id, before, r, behind)
    if add_trade(&record.bar, batch, row, slot.contract, table.terms.by_id):
        note_overflow(run, row)
    if asks_inside(&table.inside, spec):
        add_inside_bar(table, spec, symbol_id, r, batch, row)
    record.flags |= DIRTY
    if run.healing:
        record.flags |= FILLED
        return True
    if table.terms.by_id and not run.fills:
        prove(table, spec, symbol_id, time, row)
    if record.flags & DIRTY:
        record.flags &= ~DIRTY
        revise(table, spec, symbol_id, r, True, row)
    return True


cdef void follow_proof(Table *table, int spec, int symbol_id) noexcept nogil:
    # Up to where the ids of the open bar prove it. (Closed ones that wait for proof were judged with each new id.)
    cdef Past *past = &table.pasts[spec][symbol_id]
    catch_up(table.ids, symbol_id)
    past.proven_ns = max(past.proven_ns, table.ids.lines[symbol_id].proven_ns)


cdef void prove(Table *table, int spec, int symbol_id, int64_t time_ns, Py_ssize_t row) noexcept nogil:
    # An id of this time came as the newest, which proves what ended before, and that nothing is missing up to it.
    cdef Record *records = table.records.items
    cdef Slot *slot = &table.slots[spec][symbol_id]
    cdef Past *past = &table.pasts[spec][symbol_id]
    cdef int64_t before = past.proven_ns
    cdef int32_t r
    cdef bint dirty
    if time_ns <= before:
        return
    past.proven_ns = time_ns
    if not slot.unproven:
        return
    slot.unproven = 0
    r = first_behind(table, slot, before)
    while r >= 0:
        dirty = records[r].flags & DIRTY
        records[r].flags &= ~DIRTY
        revise(table, spec, symbol_id, r, dirty, row)
        if records[r].bar.close_time > time_ns:
            slot.unproven = 1
        r = records[r].next


cdef void revise(Table *table, int spec, int symbol_id, int32_t r, bint changed, Py_ssize_t row) noexcept nogil:
    # Judges a record again, and issues it where it has `changed` or its status has. A new close is carried
    # on into the flat bars after it.
    cdef Record *records = table.records.items
    cdef Record *record = &records[r]
    cdef Judgement judgement
    cdef int64_t close = record.bar.close
    if record.status == RETRACTED and not changed:
        return
    while True:
        judgement = judge(table, spec, symbol_id, record)
        if record.bar.largest == 0 and is_time_kind(table.specs.rules[spec].kind):
            changed |= flatten(table, record, close, judgement.status)
        if changed or judgement.status != record.status or (
            judgement.missing != record.missing or counted(judgement.unpublished) != record.unpublished
        ):
            take_judgement(record, judgement)
            record.revision += 1
            issue(table, spec, symbol_id, record, row)
        r = record.next
        close = record.bar.close
        # (A bar without a price is no reason to take that of the next one away: it may have come between them.)
        if not table.terms.fill or r < 0 or record.flags & UNPRICED or not is_time_kind(table.specs.rules[spec].kind) or (
            records[r].bar.largest or not is_next(table, spec, &record.bar, &records[r].bar)
            or (records[r].bar.close == close and not records[r].flags & UNPRICED)
        ):
            return
        record = &records[r]
        record.flags &= ~UNPRICED
        changed = False


cdef bint is_next(const Table *table, int spec, const Summary *bar, const Summary *other) noexcept nogil:
    # Whether no interval that has a bar lies between that of a bar and that of one behind it.
    cdef int64_t open_time, close_time
    if other.open_time == bar.close_time:
        return True
    return bar_interval_of(&table.specs.rules[spec], bar.close_time, &open_time, &close_time) and (
        other.open_time == open_time)


cdef void rejudge(
    Table *table, int spec, int symbol_id, int64_t since, int64_t until, bint heals, Py_ssize_t row
) noexcept nogil:
    # A hole between two times was opened or has shrunk: what is known about closed bars it reaches may change. Where it
    # `heals`, trades from REST have shrunk it.
    # (A bar with trades from REST that it was not issued with is one of them.)
    cdef Record *records = table.records.items
    cdef int32_t first = first_behind(table, &table.slots[spec][symbol_id], since), r = first
    cdef bint dirty
    while r >= 0 and records[r].bar.open_time <= until and heals:
        records[r].flags |= FILLED
        r = records[r].next
    r = first
    while r >= 0 and records[r].bar.open_time <= until:
        dirty = records[r].flags & DIRTY
        records[r].flags &= ~DIRTY
        revise(table, spec, symbol_id, r, dirty, row)
        r = records[r].next


# What is known of a bar.
#
#                               ids prove (by_id)                                 they prove nothing
#   GAP        a hole reaches into it; it lacks trades whose ids are known;       a LOST gap reaches it
#              a LOST gap reaches what ids do not prove of it
#   PARTIAL    ids begin in it or behind it; an UNWANTED gap reaches what         an UNWANTED gap reaches it
#              follows the newest id
#   else       sequence numbers: UNVERIFIABLE; end not proven: PROVISIONAL;       UNVERIFIABLE
#              ids unpublished: PUBLISHED; HEALED; COMPLETE


cdef Judgement judge(const Table *table, int spec, int symbol_id, const Record *record) noexcept nogil:
    cdef int64_t open_time = record.bar.open_time, close_time = record.bar.close_time
    cdef uint8_t kinds
    if not keeps_time(&table.specs.rules[spec]):
        return judge_path(table, spec, symbol_id, record)
    if table.terms.by_id:
        return judge_by_id(table, spec, symbol_id, record)
    kinds = kinds_in(&table.coverage, symbol_id, spec, open_time, close_time, LOWEST)
    if record.flags & FIRST:
        kinds |= UNWANTED
    return Judgement(GAP if kinds & LOST else PARTIAL if kinds else UNVERIFIABLE, UNKNOWN, UNKNOWN)


cdef Judgement judge_by_id(const Table *table, int spec, int symbol_id, const Record *record) noexcept nogil:
    cdef const Line *line = &table.ids.lines[symbol_id]
    cdef int64_t open_time = record.bar.open_time, close_time = record.bar.close_time
    cdef int64_t proven_ns = table.pasts[spec][symbol_id].proven_ns
    cdef int64_t missing = 0, unpublished = 0
    cdef bint begun = line.expected >= 0 and line.begun_ns < open_time
    cdef bint filled = record.reason == BY_TRADE and table.specs.rules[spec].anchor is not NULL    # by its last trade
    cdef bint ended = filled or proven_ns >= close_time
    cdef bint gap = lacks(
        table.ids, symbol_id, open_time, HIGHEST if filled else close_time, record.bar.last_id if filled else HIGHEST, &missing,
        &unpublished)
    cdef uint8_t kinds = 0
    if table.specs.rules[spec].anchor is NULL:      # else what came too late is known by its flag
        gap |= lacks_trades(&table.coverage, symbol_id, spec, open_time, close_time, &missing)
    if not ended:
        kinds = kinds_in(&table.coverage, symbol_id, spec, open_time, close_time, proven_ns)
    if not begun:
        kinds |= LOST & kinds_in(
            &table.coverage, symbol_id, spec, open_time, min(close_time, line.begun_ns + 1), LOWEST)
    if record.flags & ASTRAY and begun:
        return Judgement(GAP, UNKNOWN, UNKNOWN)
    if record.flags & FIRST:
        kinds |= UNWANTED
    if gap or kinds & LOST:
        if not table.terms.proof or not begun or not ended:     # more may be missing
            missing = UNKNOWN
        return Judgement(GAP, missing, unpublished)
    if not begun or kinds & UNWANTED:
        return Judgement(PARTIAL, UNKNOWN, unpublished)
    if not table.terms.proof:
        return Judgement(UNVERIFIABLE, UNKNOWN, unpublished)
    if not ended:
        return Judgement(PROVISIONAL, UNKNOWN, unpublished)
    if unpublished != 0:
        return Judgement(PUBLISHED, 0, unpublished)
    return Judgement(HEALED if record.flags & FILLED else COMPLETE, 0, unpublished)


cdef Judgement judge_path(const Table *table, int spec, int symbol_id, const Record *record) noexcept nogil:
    # What was lost on the path before it is lost for all that follows.
    cdef uint8_t kind = 0 if table.terms.by_id else table.coverage.covers[symbol_id].open_kind
    if table.slots[spec][symbol_id].path_lost or kind == LOST:
        return Judgement(GAP, UNKNOWN, UNKNOWN)
    if record.flags & FIRST or record.reason == BY_END or (kind == UNWANTED and not table.coverage.covers_itself):
        return Judgement(PARTIAL, UNKNOWN, UNKNOWN)
    if not table.terms.proof:
        return Judgement(UNVERIFIABLE, UNKNOWN, UNKNOWN)
    if record.reason == NOT_CLOSED:
        return Judgement(PROVISIONAL, UNKNOWN, UNKNOWN)
    return Judgement(COMPLETE, 0, UNKNOWN)


cdef bint is_lost(const Table *table, int spec, int symbol_id, int64_t open_time, int64_t close_time) noexcept nogil:
    # Of an interval without trades: a LOST gap reaches it, and no id proves that it was empty.
    cdef int64_t after = LOWEST
    if table.terms.by_id and not in_doubt(table.ids, symbol_id, open_time, close_time):
        if table.ids.lines[symbol_id].begun_ns < open_time:
            after = table.pasts[spec][symbol_id].proven_ns
            if after >= close_time:
                return False
    return LOST & kinds_in(&table.coverage, symbol_id, spec, open_time, close_time, after)


cdef bint flatten(const Table *table, Record *record, int64_t close, uint8_t status) noexcept nogil:
    # Gives an empty bar its prices: the last close, or none (high is LOWEST) where trades may be missing. True:
    # they have changed. `close` is kept either way, for the empty bars behind it.
    cdef bint flat = table.terms.fill and status != GAP and not record.flags & UNPRICED
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


# How many gaps a symbol has.

cdef void bound_gaps(Table *table, int symbol_id) noexcept nogil:
    # Forgets those that no bar can ask for any more, and fuses the oldest where there are many; never such that one reaches a
    # bar that neither of the two reached. (There can be as many, then, as there are bars between them.)
    cdef Cover *own = &table.coverage.covers[symbol_id]
    cdef int32_t count
    cdef int k
    prune(&table.coverage, symbol_id, asked_since(table, symbol_id))
    if own.count <= own.most:
        return
    while True:
        count = own.count
        block_gaps(table, symbol_id)
        fuse(&table.coverage, symbol_id, own.most)
        if own.count <= own.most or own.count == count:
            break
    own.most = max(own.most, 2 * own.count)    # so that this is not done again at once


cdef int64_t asked_since(const Table *table, int symbol_id) noexcept nogil:
    # No bar that opens before is kept, or open, or can still be made by a late trade.
    cdef int64_t since = HIGHEST, event_ns, open_time, close_time
    cdef int64_t age_ns = table.terms.horizon_ns if table.terms.by_id else table.terms.lateness_ns
    cdef const Slot *slot
    cdef int j, k, t
    for t in range(table.specs.tree_count):
        event_ns = event_time(table, t, symbol_id)
        if event_ns <= EARLIEST_NS + age_ns:
            return LOWEST
        for j in range(table.specs.trees[t].start, table.specs.trees[t].stop):
            k = table.specs.order[j]
            slot = &table.slots[k][symbol_id]
            if slot.never_opened:
                return LOWEST
            interval_of(&table.specs.rules[k], event_ns - age_ns - 1, &open_time, &close_time)
            since = min(since, min(open_time, slot.bar.open_time))
            if slot.oldest >= 0:
                since = min(since, table.records.items[slot.oldest].bar.open_time)
    for k in range(table.specs.count if table.specs.anchored else 0):
        if table.specs.rules[k].anchor is not NULL:
            slot = &table.slots[k][symbol_id]
            if slot.never_opened:
                return LOWEST
            since = min(since, slot.bar.open_time)
            if slot.oldest >= 0:
                since = min(since, table.records.items[slot.oldest].bar.open_time)
            if tape_of(table, k, symbol_id) is not NULL:
                since = min(since, tape_of(table, k, symbol_id).mark.bar.open_time)
    return since


cdef void block_gaps(Table *table, int symbol_id) noexcept nogil:
    # Marks the gaps that cannot be fused with the next one: a bar would be reached that neither reaches.
    cdef Gap *gaps = table.coverage.gaps
    cdef Gap fused
    cdef int32_t g = table.coverage.covers[symbol_id].oldest, next, start, r
    cdef int k
    while g >= 0:
        gaps[g].blocked = 0
        g = gaps[g].next
    for k in range(table.specs.count):
        if not keeps_time(&table.specs.rules[k]):
            continue
        start = table.slots[k][symbol_id].oldest
        g = table.coverage.covers[symbol_id].oldest
        while g >= 0 and gaps[g].next >= 0:
            next = gaps[g].next
            fused = gaps[g]
            fused.until_ns = max(fused.until_ns, gaps[next].until_ns)
            if fused.spec != gaps[next].spec:
                fused.spec = EVERY_SPEC
            while start >= 0 and table.records.items[start].bar.close_time <= fused.since_ns:
                start = table.records.items[start].next
            r = start
            while r >= 0 and table.records.items[r].bar.open_time <= fused.until_ns and not gaps[g].blocked:
                gaps[g].blocked = is_between(&fused, &gaps[g], &gaps[next], k, &table.records.items[r].bar)
                r = table.records.items[r].next
            if is_open(table, k, symbol_id) and not gaps[g].blocked:
                gaps[g].blocked = is_between(&fused, &gaps[g], &gaps[next], k, &table.slots[k][symbol_id].bar)
            g = next


cdef bint is_between(
    const Gap *fused, const Gap *gap, const Gap *next, int spec, const Summary *bar
) noexcept nogil:
    return affects(fused, spec, bar.open_time, bar.close_time) and not (
        affects(gap, spec, bar.open_time, bar.close_time) or affects(next, spec, bar.open_time, bar.close_time))


# Beginnings.

cdef set partial_beginnings(const Table *table, int symbol_id, int64_t longest_ns):
    # The open_times of the bars in which the symbol's ids begin, and whose beginning could still be proven.
    cdef const Line *line = &table.ids.lines[symbol_id]
    cdef const Record *record
    cdef int32_t r, before, behind
    cdef int64_t open_time, close_time
    cdef int k
    opened = set()
    for k in range(table.specs.count):
        if not keeps_time(&table.specs.rules[k]) or line.expected < 0 or line.begun_ns == LOWEST:
            continue
        if table.specs.rules[k].anchor is not NULL:
            interval_of(table.specs.rules[k].anchor, line.begun_ns, &open_time, &close_time)
            if line.begun_ns - open_time <= longest_ns and tape_of(table, k, symbol_id) is not NULL:
                opened.add(open_time)
            continue
        interval_of(&table.specs.rules[k], line.begun_ns, &open_time, &close_time)
        if line.begun_ns - open_time > longest_ns or is_outside(&table.specs.rules[k], open_time):
            continue
        r = find_record(table, &table.slots[k][symbol_id], open_time, &before, &behind)
        if is_open(table, k, symbol_id) and table.slots[k][symbol_id].bar.open_time == open_time:
            opened.add(open_time)
        elif r >= 0:
            record = &table.records.items[r]
            # One that the end has closed stays PARTIAL.
            if record.reason != BY_END or record.bar.close_time <= table.pasts[k][symbol_id].proven_ns:
                opened.add(open_time)
    return opened


cdef int prove_beginning(Table *table, int symbol_id, int64_t trade_id, int64_t time_ns) except -1:
    # A trade before the symbol's first one is known: bars that open after it have a proven beginning.
    cdef Record *records = table.records.items
    cdef Slot *slot
    cdef int32_t r
    cdef int64_t until = table.ids.lines[symbol_id].start_ns
    cdef int k
    note_safe(table, symbol_id)
    if time_ns > until or not reach_back(table.ids, symbol_id, trade_id, time_ns):
        return 0
    for k in range(table.specs.count):
        slot = &table.slots[k][symbol_id]
        if not keeps_time(&table.specs.rules[k]):
            continue
        if is_open(table, k, symbol_id) and time_ns < slot.bar.open_time <= until:
            slot.flags |= FILLED
        r = first_behind(table, slot, time_ns)
        while r >= 0 and records[r].bar.open_time <= until:
            if time_ns < records[r].bar.open_time:
                records[r].flags |= FILLED
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
        if since <= until and keeps_time(&table.specs.rules[k]):
            recheck_held(table, k, symbol_id, since)
            rejudge(table, k, symbol_id, since, until, False, 0)
    return 0
