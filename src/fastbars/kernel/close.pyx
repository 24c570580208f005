"""A bar's life: when it is opened and closed, by a trade, by time or by the end; and intervals without trades.

A closed bar becomes a Record. So does an interval without trades where it may have lacked some (a LOST gap in the coverage reaches
it, and no id proves that it was empty), which has no prices; and, where empty intervals are filled, one that was covered or is
proven, flat at the last close. What nobody wanted is not issued. This is asked when time passes, and again, of time that has
passed, when a gap is added to it.

Units: times int64 ns since the epoch, UTC.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.string cimport memset

from fastbars.kernel.amend cimport (
    BY_ANCHOR, BY_CLOCK, BY_END, BY_GAP, ASTRAY, BY_TRADE, FIRST, NOT_CLOSED, UNPRICED, Judgement, bound_gaps, evict, first_behind, flatten, follow_proof, is_lost, judge,
    keep_inside, link, one_before, prove, rejudge, take_judgement,
)
from fastbars.kernel.coverage cimport (
    EVERY_SPEC, LOST, UNWANTED, Cover, Coverage, Gap, Span, bridge, cover, is_down_before, kinds_in, lose, plain_gap, uncover, unwanted_until,
)
from fastbars.kernel.groups cimport Group, expect_close, link_members, watermark_of
from fastbars.kernel.ids cimport begins_with_first, catch_up
from fastbars.kernel.inside cimport asks_inside, release_inside
from fastbars.kernel.limits cimport LATEST_NS, is_time
from fastbars.kernel.passes cimport Pass, begin_idle_pass, trades_of
from fastbars.kernel.paths cimport path_rule_of
from fastbars.kernel.recut cimport begin_tape, close_anchored, lose_tape
from fastbars.kernel.rules cimport bar_interval_of, interval_of, is_outside, is_time_kind, keeps_time
from fastbars.kernel.scaled cimport HIGHEST, LOWEST
from fastbars.kernel.summary cimport Summary, clear_bar, is_within, merge_bar
from fastbars.kernel.table cimport (
    ENDED_PATH, LOST_PATH, WHOLE_PATH, Past, Record, Slot, Table, appear, begin_record, event_time, first_revision, is_open, issue, new_record, state_of, total_bar,
)

cdef enum:
    MOST_EMPTY = 100_000        # intervals without trades that one call issues for a symbol and spec


# Opening and closing.


cdef void roll(Table *table, Pass *run, int spec, int symbol_id, int64_t time, Py_ssize_t row) noexcept nogil:
    # Closes the bar that `time` has left behind, if one is open, and opens the one it lies in.
    cdef Slot *slot = &table.slots[spec][symbol_id]
    cdef int64_t open_time = LOWEST, close_time = LATEST_NS + 1
    cdef bint timed = is_time_kind(table.specs.rules[spec].kind)
    if timed:
        interval_of(&table.specs.rules[spec], time, &open_time, &close_time)
        if table.terms.by_id and not run.fills:
            # This trade is the proof that bars closed early by watermark, clock or flush were waiting for.
            prove(table, spec, symbol_id, time, row)
    if is_open(table, spec, symbol_id):
        close_bar(table, run, spec, symbol_id, row, BY_TRADE)
    if timed:
        if slot.bar.close_time < open_time:
            pass_time(table, run, spec, symbol_id, open_time, BY_TRADE, row)
        expect_close(&table.groups, symbol_id, close_time)
    clear_bar(&slot.bar, open_time, close_time)
    slot.flags = 0 if timed else slot.flags & FIRST
    slot.contained = 1      # until it is found that it is not
    if slot.never_opened:
        appear(table, symbol_id)
        slot.never_opened = 0
        if not timed and not (table.terms.by_id and begins_with_first(table.ids, symbol_id)):
            slot.flags = FIRST


cdef void close_bar(Table *table, Pass *run, int spec, int symbol_id, Py_ssize_t row, uint8_t reason) noexcept nogil:
    # The bars that feed this one were closed before it; event_ns is that of the symbol.
    cdef Slot *slot = &table.slots[spec][symbol_id]
    cdef Past *past = &table.pasts[spec][symbol_id]
    cdef Record closed
    cdef Record *record = &closed
    cdef Judgement judgement
    cdef int32_t r = -1
    cdef int k
    cdef bint timed = is_time_kind(table.specs.rules[spec].kind)
    if timed and is_outside(&table.specs.rules[spec], slot.bar.open_time):
        leave_outside(table, run, spec, symbol_id)
        return
    if timed:
        if table.terms.by_id and (reason != BY_TRADE or run.fills):
            follow_proof(table, spec, symbol_id)
        r = new_record(table)
        if r < 0:
            return
        record = &table.records.items[r]
    else:
        slot.bar.open_time, slot.bar.close_time = slot.bar.first_time, slot.bar.last_time
    record.bar = slot.bar
    if timed and asks_inside(&table.inside, spec):
        keep_inside(table, spec, symbol_id, r)
    begin_record(record, first_revision(table, record.bar.open_time), reason, slot.flags)
    judgement = judge(table, spec, symbol_id, record)
    take_judgement(record, judgement)
    issue(table, spec, symbol_id, record, row)
    past.newest_ns = max(past.newest_ns, slot.bar.last_time)
    if table.terms.by_id and table.specs.source[spec] < 0:
        catch_up(table.ids, symbol_id)
    slot.flags = 0
    if not timed:
        if asks_inside(&table.inside, spec):
            release_inside(&table.inside, &table.inside.of_slots[spec][symbol_id])
        clear_bar(&slot.bar, LOWEST, LOWEST)
        if path_rule_of(table.specs.rules[spec].kind).of_bar:
            memset(state_of(table, spec, symbol_id), 0, path_rule_of(table.specs.rules[spec].kind).of_bar)
        return
    for k in range(table.specs.count):
        if table.specs.source[k] == spec and is_within(&slot.bar, &table.slots[k][symbol_id].bar):
            merge_bar(&table.slots[k][symbol_id].bar, &slot.bar, table.terms.by_id)
    slot.gate.next.limit = LOWEST
    clear_bar(&slot.bar, record.bar.close_time, record.bar.close_time)
    slot.unproven |= table.terms.by_id and record.bar.close_time > past.proven_ns
    link(table, spec, symbol_id, slot.newest, r, -1)
    evict(table, spec, symbol_id, run.event_ns)


cdef void leave_outside(Table *table, const Pass *run, int spec, int symbol_id) noexcept nogil:
    # What was open is the time between two sessions, with the trades in it: nothing is issued, nor kept.
    cdef Slot *slot = &table.slots[spec][symbol_id]
    cdef Past *past = &table.pasts[spec][symbol_id]
    past.newest_ns = max(past.newest_ns, slot.bar.last_time)
    if table.terms.by_id and table.specs.source[spec] < 0:
        catch_up(table.ids, symbol_id)
    slot.flags = 0
    slot.gate.next.limit = LOWEST
    if asks_inside(&table.inside, spec):
        release_inside(&table.inside, &table.inside.of_slots[spec][symbol_id])
    clear_bar(&slot.bar, slot.bar.close_time, slot.bar.close_time)
    evict(table, spec, symbol_id, run.event_ns)


# Intervals without trades.

cdef void pass_time(
    Table *table, Pass *run, int spec, int symbol_id, int64_t until, uint8_t reason, Py_ssize_t row
) noexcept nogil:
    # Time has passed up to `until`, and no bar is open: issues the empty intervals that are to be issued.
    cdef Slot *slot = &table.slots[spec][symbol_id]
    cdef int64_t open_time, close_time
    cdef bint lost
    cdef int left = MOST_EMPTY
    while left and next_empty(table, spec, symbol_id, &open_time, &close_time) and close_time <= until:
        left -= 1
        lost = is_lost(table, spec, symbol_id, open_time, close_time)
        if lost or table.terms.fill:
            issue_empty(
                table, spec, symbol_id, slot.newest, -1, open_time, close_time,
                BY_GAP if lost and reason != BY_TRADE else reason, row)
            evict(table, spec, symbol_id, run.event_ns)
        clear_bar(&slot.bar, close_time, close_time)


cdef void pass_void(Table *table, Pass *run, int tree, int symbol_id, int64_t time, Py_ssize_t row) noexcept nogil:
    # The id is used up, which proves what the next trade would prove: bars before its interval are over.
    cdef Summary *bar = &table.slots[table.specs.trees[tree].root][symbol_id].bar
    cdef Past *past
    cdef int j, k
    if run.fills:
        return
    if bar.open_time <= time < bar.close_time:
        bar.last_time = max(bar.last_time, time)
    for j in range(table.specs.trees[tree].start, table.specs.trees[tree].stop):
        k = table.specs.order[j]
        past = &table.pasts[k][symbol_id]
        past.newest_ns = max(past.newest_ns, time)
        prove(table, k, symbol_id, time, row)


cdef bint has_close(const Table *table, int spec, int symbol_id) noexcept nogil:
    # Of the last closed bar, for an interval without trades behind it.
    cdef const Slot *slot = &table.slots[spec][symbol_id]
    return slot.newest >= 0 and not table.records.items[slot.newest].flags & UNPRICED


cdef bint next_empty(const Table *table, int spec, int symbol_id, int64_t *open_time, int64_t *close_time) noexcept nogil:
    # The next interval that may have to be issued if it stays empty; False: there is none.
    cdef const Slot *slot = &table.slots[spec][symbol_id]
    cdef int64_t until, opened, closes
    cdef uint8_t kinds
    if slot.never_opened or is_open(table, spec, symbol_id):
        return False
    if slot.bar.close_time > LATEST_NS:     # no trade can be as late, and the interval behind it may not fit 64 bits
        return False
    if not table.terms.fill or not has_close(table, spec, symbol_id):
        return next_lost(table, spec, symbol_id, slot.bar.close_time, open_time, close_time)
    if not bar_interval_of(&table.specs.rules[spec], slot.bar.close_time, open_time, close_time):
        return False
    while True:
        kinds = kinds_in(&table.coverage, symbol_id, spec, open_time[0], close_time[0], LOWEST)
        if kinds != UNWANTED:
            return True
        until = unwanted_until(&table.coverage, symbol_id, spec, open_time[0], close_time[0])
        if max(until, close_time[0]) > LATEST_NS:
            return False
        if not bar_interval_of(&table.specs.rules[spec], until, &opened, &closes) or (
            opened <= open_time[0] and not bar_interval_of(&table.specs.rules[spec], close_time[0], &opened, &closes)
        ):
            return False
        open_time[0], close_time[0] = opened, closes


cdef bint next_lost(
    const Table *table, int spec, int symbol_id, int64_t since, int64_t *open_time, int64_t *close_time
) noexcept nogil:
    # The first interval from `since` on that a LOST gap reaches, and that ids do not plainly prove.
    cdef const Cover *own = &table.coverage.covers[symbol_id]
    cdef const Gap *gap
    cdef int64_t opened, closes
    cdef int32_t g
    cdef bint found = False
    if since > LATEST_NS or (own.open_kind != LOST and own.lost_until_ns < since):
        return False
    if table.terms.by_id and table.ids.lines[symbol_id].holes.count == 0 and (
        table.ids.lines[symbol_id].forgotten_until_ns < since and table.ids.lines[symbol_id].begun_ns < since
    ):
        since = max(since, table.pasts[spec][symbol_id].proven_ns)
    g = own.oldest
    while g >= 0:
        gap = &table.coverage.gaps[g]
        g = gap.next
        if gap.kind != LOST or gap.until_ns < since or (gap.spec != EVERY_SPEC and gap.spec != spec):
            continue
        if not bar_interval_of(&table.specs.rules[spec], max(since, gap.since_ns), &opened, &closes) or opened > gap.until_ns:
            continue
        if not (found and open_time[0] <= opened):
            open_time[0], close_time[0] = opened, closes
            found = True
    if own.open_kind == LOST:
        if bar_interval_of(&table.specs.rules[spec], max(since, own.open_since_ns), &opened, &closes) and not (
            found and open_time[0] <= opened
        ):
            open_time[0], close_time[0] = opened, closes
            found = True
    return found


cdef int32_t issue_empty(
    Table *table, int spec, int symbol_id, int32_t before, int32_t behind, int64_t open_time, int64_t close_time,
    uint8_t reason, Py_ssize_t row,
) noexcept nogil:
    # Between two closed bars, or behind the newest. Returns it; -1: there is no memory.
    cdef Slot *slot = &table.slots[spec][symbol_id]
    cdef int32_t r = new_record(table)
    cdef Record *record
    cdef Judgement judgement
    cdef bint priced = before >= 0 and not table.records.items[before].flags & UNPRICED
    if r < 0:
        return -1
    record = &table.records.items[r]
    clear_bar(&record.bar, open_time, close_time)
    begin_record(record, first_revision(table, open_time), reason, 0 if priced else UNPRICED)
    judgement = judge(table, spec, symbol_id, record)
    take_judgement(record, judgement)
    flatten(table, record, table.records.items[before].bar.close if priced else 0, record.status)
    issue(table, spec, symbol_id, record, row)
    slot.unproven |= table.terms.by_id and close_time > table.pasts[spec][symbol_id].proven_ns
    link(table, spec, symbol_id, before, r, behind)
    return r


cdef void issue_skipped(
    Table *table, int spec, int symbol_id, int64_t since, int64_t until, Py_ssize_t row
) noexcept nogil:
    # Intervals between two times that were skipped, and turn out to be lost. Where a bar may have been let go, nothing is
    # issued: it may have been one of these.
    cdef Slot *slot = &table.slots[spec][symbol_id]
    cdef Past *past = &table.pasts[spec][symbol_id]
    cdef Record *records
    cdef int64_t open_time, close_time
    cdef int32_t before = -1, behind = -1
    cdef int left = MOST_EMPTY
    if slot.never_opened:
        return
    since = max(max(since, table.coverage.covers[symbol_id].begun_ns), max(past.evicted_ns, past.let_go_ns))
    while left and since <= until and next_lost(table, spec, symbol_id, since, &open_time, &close_time):
        if open_time > until or close_time > slot.bar.open_time:
            break
        if left == MOST_EMPTY:
            behind = first_behind(table, slot, open_time)
            before = one_before(table, slot, behind)
        left -= 1
        since = close_time
        records = table.records.items
        while behind >= 0 and records[behind].bar.open_time < open_time:
            before = behind
            behind = records[behind].next
        if (behind < 0 or records[behind].bar.open_time != open_time) and is_lost(
            table, spec, symbol_id, open_time, close_time
        ):
            before = issue_empty(table, spec, symbol_id, before, behind, open_time, close_time, BY_GAP, row)
            if before < 0:
                return
    if left < MOST_EMPTY:
        evict(table, spec, symbol_id, event_time(table, tree_of(table, spec), symbol_id))


cdef int tree_of(const Table *table, int spec) noexcept nogil:
    cdef int tree = 0
    while table.specs.source[spec] >= 0:
        spec = table.specs.source[spec]
    while table.specs.trees[tree].root != spec:
        tree += 1
    return tree


# Without a trade.

cdef void close_until(Table *table, int64_t time_ns, uint8_t reason, int32_t group) noexcept nogil:
    # Closes what ends at or before a time that a watermark or a clock has passed for the symbols of a group. Rows count
    # symbols, in the order in which they appeared.
    cdef Pass run
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
                    close_bar(
                        table, &run, k, s, i,
                        BY_GAP if reason == BY_CLOCK and is_down_before(
                            &table.coverage, s, table.slots[k][s].bar.close_time) else reason)
                if is_open(table, k, s):
                    own.next_close_ns = min(own.next_close_ns, table.slots[k][s].bar.close_time)
                    continue
                pass_time(table, &run, k, s, time_ns, reason, i)
                if next_empty(table, k, s, &open_time, &close_time):
                    own.next_close_ns = min(own.next_close_ns, close_time)
        for k in range(0 if table.groups.members[s].held or not table.specs.anchored else table.specs.count):
            if table.specs.rules[k].anchor is NULL or table.slots[k][s].bar.largest == 0:
                continue
            if table.slots[k][s].bar.close_time <= time_ns:
                begin_tape(table, k, s)     # a trade that comes behind the clock cuts the interval again
                close_anchored(table, &run, k, s, i, BY_ANCHOR)
            else:
                own.next_close_ns = min(own.next_close_ns, table.slots[k][s].bar.close_time)
        s = table.groups.members[s].next


cdef int64_t next_close_of(const Table *table, int32_t symbol_id) noexcept nogil:
    # Of a symbol that came to a group, or whose trades are held no longer: up to when nothing of it closes.
    cdef int64_t earliest = HIGHEST, open_time, close_time
    cdef int k
    for k in range(table.specs.count):
        if not keeps_time(&table.specs.rules[k]):
            continue
        if is_open(table, k, symbol_id):
            earliest = min(earliest, table.slots[k][symbol_id].bar.close_time)
        elif is_time_kind(table.specs.rules[k].kind) and next_empty(table, k, symbol_id, &open_time, &close_time):
            earliest = min(earliest, close_time)
    return earliest


cdef int end_bars(Table *table, object symbol_id, Py_ssize_t behind) except -1:
    # Those of one symbol, or of all; they are issued behind so many rows of a batch. Until its next trade, nobody wants more.
    cdef Pass run
    cdef Py_ssize_t i
    cdef int32_t s
    cdef int j, k, t
    begin_idle_pass(&run)
    for i in range(table.appeared_count):
        s = table.appeared[i]
        if symbol_id is not None and s != symbol_id:
            continue
        if table.coverage.covers[s].open_kind != UNWANTED:
            change_coverage(table, s, UNCOVER, plain_gap(end_of(table, s), HIGHEST, UNWANTED), behind + i)
        for t in range(table.specs.tree_count):
            run.event_ns = event_time(table, t, s)
            for j in range(table.specs.trees[t].start, table.specs.trees[t].stop):
                if is_open(table, table.specs.order[j], s):
                    close_bar(table, &run, table.specs.order[j], s, behind + i, BY_END)
        for k in range(table.specs.count):
            if table.specs.rules[k].anchor is not NULL:
                end_anchored(table, &run, k, s, behind + i)
            elif not is_time_kind(table.specs.rules[k].kind) and is_open(table, k, s):
                close_bar(table, &run, k, s, behind + i, BY_END)
        mark_paths(table, s, UNWANTED)
    return 0


cdef void end_anchored(Table *table, Pass *run, int spec, int symbol_id, Py_ssize_t row) noexcept nogil:
    # The bars behind, up to the anchor's next interval, do not begin where they would have begun.
    cdef Slot *slot = &table.slots[spec][symbol_id]
    if slot.never_opened:
        return
    lose_tape(table, spec, symbol_id)
    if slot.bar.largest:
        close_anchored(table, run, spec, symbol_id, row, BY_END)
    if slot.path_lost == WHOLE_PATH:
        slot.path_lost = ENDED_PATH


cdef int64_t heard_of(const Table *table, int symbol_id) noexcept nogil:
    # The latest time that was heard of a symbol: its event time, also where no bar goes by time.
    cdef int64_t last = watermark_of(&table.groups, symbol_id)
    cdef int k
    for k in range(table.specs.count):
        last = max(last, max(table.slots[k][symbol_id].bar.last_time, table.pasts[k][symbol_id].newest_ns))
    return last


cdef int64_t end_of(const Table *table, int symbol_id) noexcept nogil:
    # Up to when a symbol that ends now was covered: its event time, or the last interval that is over; but not the end of
    # an open bar, which time has not passed.
    cdef int64_t last = heard_of(table, symbol_id), open_until = HIGHEST
    cdef const Slot *slot
    cdef int k
    for k in range(table.specs.count):
        slot = &table.slots[k][symbol_id]
        if not is_time_kind(table.specs.rules[k].kind):
            continue
        if is_open(table, k, symbol_id):
            open_until = min(open_until, slot.bar.close_time - 1)
        else:
            last = max(last, slot.bar.close_time)
    return min(last, open_until)


cdef void current_bar(Table *table, int spec, int symbol_id, Py_ssize_t row) noexcept nogil:
    # Issues the open bar as it is now.
    cdef Record record
    cdef Judgement judgement
    cdef const Slot *slot = &table.slots[spec][symbol_id]
    cdef uint8_t flags = slot.flags
    total_bar(table, spec, symbol_id, &record.bar)
    if keeps_time(&table.specs.rules[spec]):
        if table.terms.by_id:
            follow_proof(table, spec, symbol_id)
    else:
        record.bar.open_time, record.bar.close_time = record.bar.first_time, record.bar.last_time
    if table.specs.rules[spec].anchor is not NULL:
        flags |= ASTRAY if slot.path_lost == LOST_PATH else FIRST if slot.path_lost == ENDED_PATH else 0
    begin_record(&record, first_revision(table, record.bar.first_time if table.specs.rules[spec].anchor is not NULL else (
        record.bar.open_time)), NOT_CLOSED, flags)
    record.index = slot.index
    judgement = judge(table, spec, symbol_id, &record)
    take_judgement(&record, judgement)
    issue(table, spec, symbol_id, &record, row)


# Changes of the coverage.

cdef void change_coverage(Table *table, int symbol_id, Change change, Gap gap, Py_ssize_t row) noexcept nogil:
    # Judges again the bars that it concerns, and issues intervals that were skipped and are lost now.
    cdef Coverage *coverage = &table.coverage
    cdef uint8_t open_kind = coverage.covers[symbol_id].open_kind
    cdef Span span
    cdef int k
    if change == COVER:
        span = cover(coverage, symbol_id, gap.since_ns)
    elif change == UNCOVER:
        span = uncover(coverage, symbol_id, gap.since_ns, gap.kind)
    elif change == LOSE:
        span = lose(coverage, symbol_id, gap)
    else:
        span = bridge(coverage, symbol_id, gap.since_ns, gap.until_ns)
    if span.until_ns < span.since_ns:
        return
    for k in range(table.specs.tree_count):     # the next trade may begin the coverage anew
        table.slots[table.specs.trees[k].root][symbol_id].gate.next.limit = LOWEST
    if change == LOSE:
        mark_paths(table, symbol_id, LOST)
    elif change != BRIDGE and open_kind != coverage.covers[symbol_id].open_kind:
        mark_paths(table, symbol_id, open_kind)
        mark_paths(table, symbol_id, UNWANTED & coverage.covers[symbol_id].open_kind)
    for k in range(table.specs.count):
        if keeps_time(&table.specs.rules[k]):
            if table.terms.by_id:
                follow_proof(table, k, symbol_id)
            rejudge(table, k, symbol_id, span.since_ns, span.until_ns, False, row)
            if is_time_kind(table.specs.rules[k].kind) and (change == UNCOVER or change == LOSE):
                issue_skipped(table, k, symbol_id, span.since_ns, span.until_ns, row)
    bound_gaps(table, symbol_id)
    expect_close(&table.groups, symbol_id, next_close_of(table, symbol_id))


cdef void mark_paths(Table *table, int symbol_id, uint8_t kind) noexcept nogil:
    # A gap of this kind is over, or nobody wants more. Where ids prove nothing, path-driven bars cannot know what was traded.
    cdef Slot *slot
    cdef int k
    if table.terms.by_id or table.coverage.covers[symbol_id].begun_ns == HIGHEST:
        return
    for k in range(table.specs.count):
        slot = &table.slots[k][symbol_id]
        if keeps_time(&table.specs.rules[k]):
            continue
        if kind == LOST:
            slot.path_lost = LOST_PATH
        elif kind == UNWANTED:
            slot.flags |= FIRST


cdef void cover_itself(Table *table, int symbol_id, int64_t time) noexcept nogil:
    # Without a connection a trade, or a refused one, begins the coverage that nobody else begins; not one that was on its way
    # when it ended.
    cdef Cover *own = &table.coverage.covers[symbol_id]
    if table.coverage.covers_itself and own.open_kind == UNWANTED and time >= own.open_since_ns:
        cover(&table.coverage, symbol_id, time)
        expect_close(&table.groups, symbol_id, next_close_of(table, symbol_id))
    if own.begun_ns == HIGHEST:
        own.begun_ns = time


cdef void lose_trade(Table *table, int symbol_id, int64_t time, Py_ssize_t row) noexcept nogil:
    # A trade was refused. It begins a symbol as one that is taken does, so that its interval is issued.
    cdef Gap gap = plain_gap(time, time, LOST)
    cdef Slot *slot
    cdef int64_t open_time, close_time
    cdef int k
    if not is_time(time):
        return
    gap.trades = not table.terms.by_id      # else its id stays missing
    cover_itself(table, symbol_id, time)
    for k in range(table.specs.count):
        slot = &table.slots[k][symbol_id]
        if is_time_kind(table.specs.rules[k].kind) and slot.never_opened:
            appear(table, symbol_id)
            interval_of(&table.specs.rules[k], time, &open_time, &close_time)
            clear_bar(&slot.bar, open_time, open_time)
            slot.never_opened = 0
    change_coverage(table, symbol_id, LOSE, gap, row)
    expect_close(&table.groups, symbol_id, next_close_of(table, symbol_id))


cdef void lose_late(Table *table, Pass *run, int spec, Py_ssize_t row) noexcept nogil:
    # The trade came too late for its bar of a spec.
    cdef int32_t symbol_id = run.columns.symbol_id[row]
    cdef int64_t time = run.columns.time_ns[row]
    cdef Gap gap = plain_gap(time, time, LOST)
    gap.spec, gap.trades = spec, trades_of(&run.columns, row)
    lose(&table.coverage, symbol_id, gap)
    if not run.healing:         # else each bar is issued once, at the end
        if table.terms.by_id and not run.fills:
            prove(table, spec, symbol_id, time, row)
        rejudge(table, spec, symbol_id, time, time, False, row)
        if is_time_kind(table.specs.rules[spec].kind):
            issue_skipped(table, spec, symbol_id, time, time, row)
    bound_gaps(table, symbol_id)
