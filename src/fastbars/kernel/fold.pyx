"""Which trade goes into which bar: batches into the bars of all specs.

Nearly all rows are ordinary, and end in the loops of ordinary.pxd. Every other one is judged alone, at its place: what its
id says (ids.pyx), which bars it closes and opens (close.pyx), or which closed bar it amends (amend.pyx). So the bars that
come out do not depend on how trades were cut into batches.

Trades go to the root of each tree of time specs. The other specs of a tree get the closed bars of the one that feeds
them; a trade that the source holds in no open bar goes straight into the bar that it would have fed.

Units: those of TickBatch.
"""

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from fastbars.kernel.amend cimport (
    BY_TRADE, FILLED, add_inside_bar, fold_late, follow_proof, lands, note_safe, prove, recheck_held, rejudge,
)
from fastbars.kernel.anchored cimport fold_anchored, has_tape, heal_anchored, leave_anchored
from fastbars.kernel.anew cimport MOST_WAITING, Anew, Series, Waiting, add_stray, anew_of, is_waiting
from fastbars.kernel.batch cimport is_known
from fastbars.kernel.close cimport (
    LOSE, change_coverage, close_bar, cover_itself, issue_skipped, lose_late, pass_void, roll,
)
from fastbars.kernel.coverage cimport LOST, UNWANTED, begin_earlier, plain_gap
from fastbars.kernel.groups cimport Group, watermark_of
from fastbars.kernel.holes cimport Hole
from fastbars.kernel.ids cimport (
    AHEAD, DUPLICATE, FILLS, FORGOTTEN, NO_MEMORY, OVERLAP, Verdict, advance, catch_up, is_missing, is_newest, leave_missing,
    resolve, takes_next, was_seen,
)
from fastbars.kernel.inside cimport asks_inside
from fastbars.kernel.limits cimport LATEST_NS, is_time
from fastbars.kernel.ordinary cimport begins_stretch, fold_rows, fold_time_stretch, take_ordinary
from fastbars.kernel.ordinary_close cimport close_ordinary
from fastbars.kernel.passes cimport Columns, Pass, Seen, note_overflow, row_at
from fastbars.kernel.parts cimport fold_parts
from fastbars.kernel.path_loops cimport fold_path, fold_stretch
from fastbars.kernel.paths cimport Ending, follow, path_rule_of, plain_ending, shape
from fastbars.kernel.rows cimport not_placed
from fastbars.kernel.rules cimport FIXED, Rule, interval_of, is_time_kind, keeps_time
from fastbars.kernel.scaled cimport HIGHEST, LOWEST, int128, prefetch
from fastbars.kernel.series cimport (
    CONFIRMED, HELD, REPEATED, Wait, begin_series, hold, is_repeated, may_begin, older_series, stand_in, stop_ordinary, take_strays,
    waiting_of,
)
from fastbars.kernel.summary cimport Summary, add_trade, begin_bar, clear_bar
from fastbars.kernel.table cimport (
    LOST_PATH, Past, Record, Slot, Table, event_time, is_open, mark_begun_late, state_of, total_bar,
)
from fastbars.kernel.trees cimport Tree

# Ids from here on are checked one by one: the largest has no next one.
cdef int64_t LAST_IDS = HIGHEST - (1 << 48)
# How far outside the times of its hole a trade from REST may lie: as times are rounded.
cdef int64_t SLACK_NS = 1_000_000

cdef enum:
    SLOTS_AHEAD = 12
    ROWS_AHEAD = 6
    FEW_CLOSES = 16             # ordinary rows without a close between them: the loops of ordinary.pxd are faster there


cdef void fold_batch(Table *table, Pass *run, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    # The ledger tells which ids are the next ones where the bars cannot: they do not know sequence numbers, nor, if they
    # are path-driven, void ids.
    cdef Py_ssize_t end
    cdef int k, t
    cdef int trees = table.specs.tree_count
    cdef bint ledger_tells = table.sequenced or (not trees and (run.has_voids or table.voids > 0))
    while start < stop:
        # Up to the first row whose id is not the next one: the first tree, or spec, tells by its own bars.
        if ledger_tells:
            end = advance(table.ids, run, start, stop)
        else:
            end = _fold_spec(
                table, run, table.specs.trees[0].root if trees else 0, 0 if trees else -1, start, stop, table.terms.by_id)
        if run.invalid:
            return
        for t in range(0 if ledger_tells else 1, trees):
            _fold_spec(table, run, table.specs.trees[t].root, t, start, end, False)
        for k in range(0 if ledger_tells or trees else 1, table.specs.count):
            if not is_time_kind(table.specs.rules[k].kind):
                _fold_spec(table, run, k, -1, start, end, False)
        if end < stop:
            if ledger_tells and run.unchecked and not _is_valid(run, row_at(run.columns.places, end)):
                return
            _fold_unexpected(table, run, row_at(run.columns.places, end))
            end += 1
        start = end


cdef bint is_wanted(Table *table, const Pass *run, Py_ssize_t row) noexcept nogil:
    # Whether a trade from REST lies in a hole, by its id and by its time: with another unit, or garbage for a time, it would
    # fill the hole and change a bar that lacks nothing.
    cdef Waiting old
    old = waiting_of(run, row)
    _to_keys(table, &old)
    return is_missing(table.ids, old.symbol_id, old.first, old.last, old.time_ns, SLACK_NS)


cdef bint has_place(const Table *table, Pass *run, Py_ssize_t row) noexcept nogil:
    # Whether some time bar can take a trade. (Without time specs there is nothing that could not.)
    cdef int t
    for t in range(table.specs.tree_count):
        if lands(table, run, t, row):
            return True
    return table.specs.tree_count == 0 or has_tape(table, run.columns.symbol_id[row])


cdef bint takes_any(const Table *table) noexcept nogil:
    # Whether path-driven bars, which take every trade, are among the specs, or ids do not stand for every trade.
    cdef int trees = table.specs.tree_count
    return not table.terms.proof or table.sequenced or trees == 0 or table.specs.trees[trees - 1].stop < table.specs.count


cdef void heal_batch(Table *table, Pass *run, Py_ssize_t rows) noexcept nogil:
    # Trades of one symbol, from REST. Those in holes are folded in; the others have come meanwhile, or were not asked
    # for. Each bar that changes is issued once, whatever the number of its trades. Path-driven bars without an anchor stay as they are.
    cdef const Columns *batch = &run.columns
    cdef const Hole *touched = &table.ids.touched
    cdef int32_t s = batch.symbol_id[0]
    cdef int64_t since = HIGHEST, until = LOWEST
    cdef Summary *bar
    cdef Waiting old
    cdef Pass own
    cdef Pass *taken
    cdef Py_ssize_t row
    cdef int k, t
    run.fills = True
    catch_up(table.ids, s)
    for row in range(rows):
        if not is_wanted(table, run, row):
            continue
        note_safe(table, s)
        taken = run
        if anew_of(&table.ids.renewed, s) is not NULL:
            old = waiting_of(run, row)
            if _to_keys(table, &old):
                stand_in(&own, run, &old, row)
                taken = &own
        if resolve(table.ids, taken, row) == NO_MEMORY:
            table.rows.no_memory = True
            return
        if batch.size[row] != 0 and not has_place(table, taken, row):
            table.rows.no_memory |= not leave_missing(table.ids, taken, row)
            continue
        _recheck_all_held(table, s)
        since = min(since, min(batch.time_ns[row], min(touched.since_ns, touched.until_ns)))
        until = max(until, max(batch.time_ns[row], max(touched.since_ns, touched.until_ns)))
        if batch.size[row] == 0:
            continue
        table.healed += 1
        for t in range(table.specs.tree_count):
            _fold_time_row(table, taken, t, row)
        for k in range(table.specs.count if table.specs.anchored else 0):
            if table.specs.rules[k].anchor is not NULL:
                fold_anchored(table, taken, k, row, True, False)
        run.overflow_row = taken.overflow_row
    heal_anchored(table, run, s, rows)
    for k in range(table.specs.count):
        if table.specs.rules[k].anchor is not NULL:
            rejudge(table, k, s, since, until, False, rows)
        if not is_time_kind(table.specs.rules[k].kind):
            continue
        bar = &table.slots[k][s].bar
        if is_open(table, k, s) and bar.open_time <= until and since < bar.close_time:
            table.slots[k][s].flags |= FILLED
        rejudge(table, k, s, since, until, True, rows)
        if since <= until:
            issue_skipped(table, k, s, since, until, rows)
    if is_waiting(&table.ids.renewed, s):
        stop_ordinary(table, s)


cdef void _recheck_all_held(Table *table, int symbol_id) noexcept nogil:
    # The hole `touched` has shrunk, and bars may be let go before they are judged again.
    cdef int k
    for k in range(table.specs.count):
        recheck_held(table, k, symbol_id, min(table.ids.touched.since_ns, table.ids.touched.until_ns))


# Rows whose ids are the next ones, or of which ids say nothing.

cdef Py_ssize_t _fold_spec(
    Table *table, Pass *run, int spec, int tree, Py_ssize_t start, Py_ssize_t stop, bint asks
) noexcept nogil:
    # Into a tree of time specs, by its root, or into one path-driven spec (tree -1). Returns the first row (of `places`,
    # where there are some) whose id is not the next one, where it `asks`; else stop.
    cdef Slot *slots = table.slots[spec]
    cdef const Rule *rule = &table.specs.rules[spec]
    cdef const Columns *batch = &run.columns
    cdef Py_ssize_t i = start, end, row
    cdef bint detailed = asks_inside(&table.inside, spec)
    while i < stop:
        if not run.careful and not detailed:
            if i + 1 < stop or tree < 0 or batch.places is not NULL:
                if tree >= 0:
                    i = _fold_ordinary(slots, run, table.terms.by_id, i, stop)
                else:
                    i = fold_path(rule, slots, table.states[spec], run, table.terms.by_id, i, stop)
                if i >= stop:
                    break
                if batch.places is NULL and i + 2 < stop and begins_stretch(batch, i):
                    if tree >= 0:
                        end = _fold_stretch(slots, run, table.terms.by_id, i, stop)
                    else:
                        end = fold_stretch(rule, slots, table.states[spec], run, table.terms.by_id, i, stop)
                    if end > i:
                        i = end
                        continue
            if tree >= 0 and _take_older(table, run, tree, row_at(batch.places, i), asks):
                i += 1
                continue
            if tree >= 0:
                end = _fold_closes(table, run, tree, i, stop)
                if end > i:
                    i = end
                    continue
        row = row_at(batch.places, i)
        if run.unchecked and not _is_valid(run, row):
            break
        if asks and tree >= 0 and batch.time_ns[row] < slots[batch.symbol_id[row]].bar.open_time and not (
            takes_any(table) or batch.size[row] == 0 or lands(table, run, tree, row)
        ):
            catch_up(table.ids, batch.symbol_id[row])
            return i
        if asks and not takes_next(table.ids, run, row):
            return i
        if tree >= 0:
            _fold_time_row(table, run, tree, row)
        else:
            _fold_path_row(table, run, spec, row, False, False)
        i += 1
    return stop


cdef bint _take_older(Table *table, Pass *run, int tree, Py_ssize_t row, bint asks) noexcept nogil:
    # A trade with the next id that is older than the last one, but not than the open bar; or one that was seen before, where
    # no other specs have to be kept from it. False: it is neither, or it cannot be told at once.
    cdef const Columns *batch = &run.columns
    cdef const Tree *own = &table.specs.trees[tree]
    cdef int32_t s = batch.symbol_id[row]
    cdef int64_t time = batch.time_ns[row]
    cdef Slot *slot
    cdef Past *past
    if <uint32_t>s >= batch.symbols:
        return False
    slot = &table.slots[own.root][s]
    if asks and batch.last_id[row] < slot.gate.next.id:
        if own.stop - own.start < table.specs.count or not is_time(time) or not is_repeated(table, run, row):
            return False
        table.duplicates += 1
        table.voids -= batch.size[row] == 0
    else:
        if not slot.bar.open_time <= time < slot.gate.next.limit or batch.size[row] == 0 or (
            table.terms.by_id and (batch.first_id[row] != slot.gate.next.id or batch.last_id[row] >= LAST_IDS)
        ) or (asks and (table.ids.renewed.count or not takes_next(table.ids, run, row))):
            return False
        add_trade(&slot.bar, batch, row, slot.contract, table.terms.by_id)
        past = &table.pasts[own.root][s]
        past.newest_ns = max(past.newest_ns, time)
        if table.terms.by_id:
            slot.gate.next.id = batch.last_id[row] + 1
    if batch.size[row] or not run.has_voids:
        run.seen.prices |= <uint64_t>batch.price[row] - 1
    run.seen.sizes |= <uint64_t>batch.size[row] - (0 if run.has_voids else 1)
    return True


cdef Py_ssize_t _fold_closes(Table *table, Pass *run, int tree, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    # Rows into a tree of time specs, as long as they are ordinary or close ordinary bars, and bars are few trades apart.
    if run.has_voids:
        return _fold_some_closes(table, run, tree, start, stop, table.terms.by_id, run.single, True, run.inverse)
    if run.single:
        return _fold_some_closes(table, run, tree, start, stop, True, True, False, False)
    if table.terms.by_id:
        return _fold_some_closes(table, run, tree, start, stop, True, False, False, run.inverse)
    return _fold_some_closes(table, run, tree, start, stop, False, False, False, run.inverse)


cdef inline Py_ssize_t _fold_some_closes(
    Table *table, Pass *run, int tree, Py_ssize_t start, Py_ssize_t stop, bint by_id, bint single, bint voids, bint inverse
) noexcept nogil:
    cdef Columns batch = run.columns
    cdef Slot *slots = table.slots[table.specs.trees[tree].root]
    cdef Seen seen = run.seen
    cdef Py_ssize_t i = start, row
    cdef int few = 0
    while i < stop and few < FEW_CLOSES:
        row = row_at(batch.places, i)
        if i + SLOTS_AHEAD < stop:
            _fetch_slot(slots, &batch, row_at(batch.places, i + SLOTS_AHEAD))
            _fetch_rest(table, tree, slots, &batch, row_at(batch.places, i + ROWS_AHEAD), by_id)
        if take_ordinary(slots, &batch, row, by_id, single, voids, inverse, &seen):
            few += 1
            i += 1
            if batch.places is NULL and i + 2 < stop and begins_stretch(&batch, i - 1) and batch.time_ns[i + 1] < (
                slots[batch.symbol_id[i]].gate.next.limit
            ):
                break
            continue
        if not _begin_next(table, run, tree, slots, &batch, row, by_id, single, voids, inverse):
            break
        seen.prices |= <uint64_t>batch.price[row] - 1
        seen.sizes |= <uint64_t>batch.size[row] - (0 if voids else 1)
        few = 0
        i += 1
    run.seen = seen
    return i


cdef inline bint _begin_next(
    Table *table, Pass *run, int tree, Slot *slots, const Columns *batch, Py_ssize_t row, bint by_id, bint single, bint voids,
    bint inverse
) noexcept nogil:
    # A trade that closes the open bar of the root, an ordinary close, and opens the next one. False: it is not such a trade.
    cdef const Tree *own = &table.specs.trees[tree]
    cdef int32_t s = batch.symbol_id[row]
    cdef int64_t time = batch.time_ns[row], open_time, close_time, id, event_ns
    cdef Slot *slot
    cdef Summary *bar
    cdef Past *past
    cdef Group *group = table.groups.items
    cdef bint feeds = own.stop - own.start > 1
    if <uint32_t>s >= batch.symbols:
        return False
    slot = &slots[s]
    bar = &slot.bar
    if slot.gate.next.limit == LOWEST or not slot.gate.next.limit <= time <= LATEST_NS or not slot.contained or (
        (voids and batch.size[row] == 0) or (by_id and batch.first_id[row] != slot.gate.next.id)
    ):
        return False
    past = &table.pasts[own.root][s]
    event_ns = max(past.newest_ns, bar.last_time)
    if table.groups.count == 1:     # no symbol has seen a later watermark elsewhere
        event_ns = max(event_ns, group.watermark_ns)
    else:
        event_ns = max(event_ns, watermark_of(&table.groups, s))
        group = &table.groups.items[table.groups.members[s].group]
    if not close_ordinary(table, own.root, s, by_id, feeds, time, event_ns, row, group, &open_time, &close_time):
        return False
    id = slot.gate.next.id if single else batch.last_id[row] if by_id else batch.arrivals + row
    begin_bar(
        bar, batch, row, batch.first_id[row] if by_id else id, id, single, slot.contract if inverse else 0, open_time, close_time)
    past.newest_ns = max(past.newest_ns, time)
    slot.gate.next.limit = close_time
    if by_id:
        slot.gate.next.id = id + 1
        if id >= LAST_IDS:
            slot.gate.next.limit = LOWEST
    if feeds:
        run.event_ns = event_ns
        _follow_root(table, run, tree, group, row)
    return True


cdef void _follow_root(Table *table, Pass *run, int tree, Group *group, Py_ssize_t row) noexcept nogil:
    # An ordinary bar of the root was closed, and fed to those around it: closes those that end with it.
    cdef const Tree *own = &table.specs.trees[tree]
    cdef const int *subtree_end = table.specs.subtree_end
    cdef int32_t s = run.columns.symbol_id[row]
    cdef int64_t time = run.columns.time_ns[row], open_time, close_time
    cdef Slot *slot
    cdef int j = own.start + 1, k
    while j < own.stop:
        k = table.specs.order[j]
        slot = &table.slots[k][s]
        if time >= slot.bar.close_time:
            if close_ordinary(
                table, k, s, table.terms.by_id, subtree_end[j] > j + 1, time, run.event_ns, row, group, &open_time, &close_time
            ):
                clear_bar(&slot.bar, open_time, close_time)
            else:
                roll(table, run, k, s, time, row)
        elif slot.unproven and table.terms.by_id:
            prove(table, k, s, time, row)
        elif slot.contained:
            j = subtree_end[j]
            continue
        j += 1


cdef Py_ssize_t _fold_ordinary(Slot *slots, Pass *run, bint by_id, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    # The ordinary rows of time bars from `start` on; returns the first one that is not. One loop, compiled for each of these
    # calls with the constants that it is given.
    cdef const Columns *batch = &run.columns
    cdef Seen *seen = &run.seen
    if run.single:
        if run.has_voids:
            return fold_rows(FIXED, 0, slots, NULL, batch, start, stop, True, True, True, False, seen)
        return fold_rows(FIXED, 0, slots, NULL, batch, start, stop, True, True, False, False, seen)
    if by_id:
        if run.has_voids:
            return fold_rows(FIXED, 0, slots, NULL, batch, start, stop, True, False, True, run.inverse, seen)
        return fold_rows(FIXED, 0, slots, NULL, batch, start, stop, True, False, False, run.inverse, seen)
    return fold_rows(FIXED, 0, slots, NULL, batch, start, stop, False, False, False, run.inverse, seen)


cdef Py_ssize_t _fold_stretch(Slot *slots, Pass *run, bint by_id, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    # Likewise, the ordinary rows of the symbol at `start`.
    if run.single:
        return fold_time_stretch(slots, &run.columns, start, stop, True, True, run.has_voids, False, &run.seen)
    return fold_time_stretch(slots, &run.columns, start, stop, by_id, False, run.has_voids, True, &run.seen)


cdef bint _is_valid(Pass *run, Py_ssize_t row) noexcept nogil:
    # Checks a row that is not ordinary, in a batch that is checked row by row. False: it breaks a rule.
    cdef const Columns *batch = &run.columns
    if not is_known(
        batch.symbol_id[row], batch.symbols, batch.time_ns[row], batch.first_id[row] if batch.first_id is not NULL else 0,
        batch.last_id[row] if batch.last_id is not NULL else 0
    ):
        run.invalid = True
        return False
    if run.has_voids:
        run.seen.sizes |= <uint64_t>batch.size[row]
        if batch.size[row] == 0:
            return True
    else:
        run.seen.sizes |= <uint64_t>batch.size[row] - 1
    run.seen.prices |= <uint64_t>batch.price[row] - 1
    return True


cdef inline void _fetch_slot(const Slot *slots, const Columns *batch, Py_ssize_t row) noexcept nogil:
    cdef const Slot *slot = &slots[batch.symbol_id[row]]
    prefetch(slot)
    prefetch(&slot.bar.sums)
    prefetch(&slot.bar.counts)
    prefetch(&slot.bar.open)


cdef inline void _fetch_rest(
    const Table *table, int tree, const Slot *slots, const Columns *batch, Py_ssize_t row, bint by_id
) noexcept nogil:
    # Where a trade will close a bar of the root: what that needs beside its slot. Of the records that is the oldest, which is
    # let go, and becomes the newest of the next close.
    cdef const Tree *own = &table.specs.trees[tree]
    cdef int32_t s = batch.symbol_id[row]
    cdef const Slot *slot
    cdef const Record *record
    cdef const Record *items = table.records.items
    cdef int j, k
    if <uint32_t>s >= batch.symbols or batch.time_ns[row] < slots[s].gate.next.limit:
        return
    slot = &slots[s]
    prefetch(&table.pasts[own.root][s])
    prefetch(&table.coverage.covers[s].lost_until_ns)
    if table.groups.count > 1:
        prefetch(&table.groups.members[s])
    if by_id:
        prefetch(&table.ids.lines[s].begun_ns)
        prefetch(&table.ids.lines[s].holes.count)
    if slot.oldest >= 0:
        record = &items[slot.oldest]
        prefetch(record)
        prefetch(&record.bar.sums)
        prefetch(&record.bar.counts)
        prefetch(&record.next)
        prefetch(&items[slot.newest].next)
    for j in range(own.start + 1, own.stop):
        k = table.specs.order[j]
        if table.specs.source[k] == own.root:
            _fetch_slot(table.slots[k], batch, row)


# One row, whatever it is.

cdef bint _to_keys(Table *table, Waiting *row) noexcept nogil:
    # Of a trade of an older series: its ids become keys. False: it is one of the latest.
    cdef int32_t j = older_series(table, row.symbol_id, row.last, row.time_ns)
    cdef const Series *series
    if j < 0:
        return False
    series = &table.ids.renewed.of[row.symbol_id].series[j]
    row.first -= series.offset
    row.last -= series.offset
    row.first_id -= series.bar_offset
    row.last_id -= series.bar_offset
    return True


cdef void _fold_unexpected(Table *table, Pass *run, Py_ssize_t row) noexcept nogil:
    # A trade whose id is not the next one, or does not say alone what it is.
    cdef int32_t s = run.columns.symbol_id[row]
    cdef Anew *anew = anew_of(&table.ids.renewed, s)
    cdef Waiting old
    cdef Pass own
    cdef Wait became
    if anew is not NULL:
        old = waiting_of(run, row)
        if _to_keys(table, &old):
            stand_in(&own, run, &old, row)
            _fold_known(table, &own, row)
            run.overflow_row = own.overflow_row
            return
        if anew.waiting_count and run.first[row] >= table.ids.lines[s].expected:
            _drop_strays(table, run, row)
    if may_begin(table, run, row):
        note_safe(table, s)
        became = hold(table, run, row)
        if became == CONFIRMED:
            begin_waiting(table, run, s, row)
        elif became == REPEATED:
            table.duplicates += 1
            table.voids -= run.columns.size[row] == 0
        elif became != HELD and run.columns.size[row]:
            not_placed(&table.rows, row, -1)
        return
    if anew is NULL and was_seen(table.ids, s, run.first[row], run.last[row]):
        table.duplicates += 1       # as `_fold_known` would find, which looks at more
        table.voids -= run.columns.size[row] == 0
        return
    _fold_known(table, run, row)


cdef void _drop_strays(Table *table, const Pass *run, Py_ssize_t row) noexcept nogil:
    # The old series goes on with a row.
    cdef Waiting[MOST_WAITING] strays
    cdef int32_t i
    for i in range(take_strays(table, run, row, strays)):
        if was_seen(table.ids, strays[i].symbol_id, strays[i].first, strays[i].last):
            table.duplicates += 1
            table.voids -= strays[i].size == 0
        elif strays[i].size:
            _keep_stray(table, strays[i])
            not_placed(&table.rows, row, -1 - <int>table.ids.renewed.stray_count)


cdef void _keep_stray(Table *table, Waiting stray) noexcept nogil:
    # For the report: it is of no batch any more.
    stray.price_scale = table.slots[0][stray.symbol_id].scale.price
    stray.size_scale = table.slots[0][stray.symbol_id].scale.size
    if not add_stray(&table.ids.renewed, stray):
        table.rows.no_memory = True


cdef void begin_waiting(Table *table, Pass *run, int32_t symbol_id, Py_ssize_t row) noexcept nogil:
    # The trades of a symbol that wait are a new series, and are folded in by their ids.
    cdef Anew *anew = table.ids.renewed.of[symbol_id]
    cdef const Hole *touched = &table.ids.touched
    cdef Waiting[MOST_WAITING] waiting
    cdef Pass own
    cdef Hole seam
    cdef int32_t i, count = anew.waiting_count
    cdef Py_ssize_t late
    cdef int k
    for i in range(count):
        waiting[i] = anew.waiting[i]
    anew.waiting_count = 0
    table.ids.renewed.waiting -= 1
    begin_series(table, symbol_id, &waiting[0])
    seam = touched[0]
    for k in range(table.specs.count):
        if keeps_time(&table.specs.rules[k]):
            rejudge(
                table, k, symbol_id, min(seam.since_ns, seam.until_ns), max(seam.since_ns, seam.until_ns), False, row)
        else:
            table.slots[k][symbol_id].path_lost = LOST_PATH
    leave_anchored(table, symbol_id)
    for i in range(count):
        table.ids.touched = seam
        stand_in(&own, run, &waiting[i], row)
        own.waited = True
        late = table.rows.late_count
        _fold_known(table, &own, row)
        run.overflow_row = own.overflow_row
        if table.rows.late_count > late:    # it is not the row at hand that came too late
            _keep_stray(table, waiting[i])
            while late < table.rows.late_count:
                table.rows.late[late].spec = -1 - <int32_t>table.ids.renewed.stray_count
                late += 1


cdef void _fold_known(Table *table, Pass *run, Py_ssize_t row) noexcept nogil:
    # A row of which its id says what it is.
    cdef const Columns *batch = &run.columns
    cdef const Hole *touched = &table.ids.touched
    cdef int32_t s = batch.symbol_id[row]
    cdef int64_t time = batch.time_ns[row], since, until
    cdef int k, t
    cdef bint void = batch.size[row] == 0, needs_place = not (void or run.waited or takes_any(table))
    cdef bint waits = is_waiting(&table.ids.renewed, s)
    cdef Verdict verdict
    if needs_place and is_newest(table.ids, run, row) and not has_place(table, run, row):
        _refuse_late(table, run, row)
        return
    note_safe(table, s)
    verdict = resolve(table.ids, run, row)
    # Where times run backwards, a trade inside a hole makes what is left of it reach further in time.
    since = min(time, min(touched.since_ns, touched.until_ns))
    until = max(time, max(touched.since_ns, touched.until_ns))
    if verdict == DUPLICATE:
        table.duplicates += 1
        table.voids -= void
        return
    if verdict == OVERLAP or verdict == FORGOTTEN:
        if not void:    # a void id loses nothing
            not_placed(&table.rows, row, -1)
        return
    if verdict == NO_MEMORY:
        table.rows.no_memory = True
        return
    run.fills = verdict == FILLS
    if needs_place and run.fills and not has_place(table, run, row):
        table.rows.no_memory |= not leave_missing(table.ids, run, row)
        run.fills = False
        _refuse_late(table, run, row)
        return
    if run.fills:
        _recheck_all_held(table, s)
    if verdict == AHEAD:
        for k in range(table.specs.count):
            if keeps_time(&table.specs.rules[k]):
                follow_proof(table, k, s)
                rejudge(table, k, s, since, until, False, row)
    for t in range(table.specs.tree_count):
        _fold_time_row(table, run, t, row)
    run.fills = False
    for k in range(table.specs.count):
        if not is_time_kind(table.specs.rules[k].kind):
            if table.specs.rules[k].anchor is NULL and (
                verdict == AHEAD or (verdict == FILLS and (not void or touched.first <= touched.last))
            ):
                table.slots[k][s].path_lost = LOST_PATH
            _fold_path_row(table, run, k, row, verdict == FILLS, verdict == AHEAD)
    if verdict == FILLS:
        for k in range(table.specs.count):
            rejudge(table, k, s, since, until, False, row)
    if waits:
        stop_ordinary(table, s)


cdef void _refuse_late(Table *table, Pass *run, Py_ssize_t row) noexcept nogil:
    # It came too late for every bar: its id stays missing.
    cdef int64_t time = run.columns.time_ns[row]
    cdef int k
    for k in range(table.specs.count):
        not_placed(&table.rows, row, k)
    change_coverage(table, run.columns.symbol_id[row], LOSE, plain_gap(time, time, LOST), row)


cdef void _fold_time_row(Table *table, Pass *run, int tree, Py_ssize_t row) noexcept nogil:
    # Into the bars of all specs of a tree.
    cdef const Columns *batch = &run.columns
    cdef const Tree *own = &table.specs.trees[tree]
    cdef int32_t s = batch.symbol_id[row]
    cdef int64_t time = batch.time_ns[row]
    cdef Slot *slot
    cdef Past *past
    cdef const Summary *feeding
    cdef Summary total
    cdef bint placed = False, proved = False, fed, rolled, late
    cdef int j = own.start, k
    if not run.healing:
        cover_itself(table, s, time)
    run.event_ns = event_time(table, tree, s)
    if batch.size[row] == 0:
        pass_void(table, run, tree, s, time, row)
        _set_gate(table, run, tree, row)
        return
    while j < own.stop:
        k = table.specs.order[j]
        slot = &table.slots[k][s]
        feeding = NULL if table.specs.source[k] < 0 else &table.slots[table.specs.source[k]][s].bar
        fed = feeding is not NULL and feeding.open_time <= time < feeding.close_time
        j += 1
        if time < slot.bar.open_time and not _begins_earlier(table, k, s, time):
            late = not fold_late(table, run, k, row)
            placed |= not late
            if late:
                lose_late(table, run, k, row)
            if fed:
                _note_not_contained(table, k, s)
            continue
        placed = True
        rolled = time >= slot.bar.close_time
        if rolled:
            roll(table, run, k, s, time, row)
        elif slot.unproven and table.terms.by_id and not run.fills:
            # A late trade has opened this bar, which proves nothing of those before it.
            prove(table, k, s, time, row)
            proved = True
        if not fed and add_trade(&slot.bar, batch, row, slot.contract, table.terms.by_id):
            note_overflow(run, row)
        if not fed and asks_inside(&table.inside, k):
            add_inside_bar(table, k, s, -1, batch, row)
        if run.healing:
            slot.flags |= FILLED
        if run.careful and total_bar(table, k, s, &total):
            note_overflow(run, row)
        if not rolled and not proved and slot.contained and not run.healing and not run.careful:
            j = table.specs.subtree_end[j - 1]      # it is in all of them, with this bar
    if placed:
        past = &table.pasts[own.root][s]
        past.newest_ns = max(past.newest_ns, time)
    _set_gate(table, run, tree, row)


cdef bint _begins_earlier(Table *table, int spec, int symbol_id, int64_t time) noexcept nogil:
    # The symbol began with a refused trade, which was later than this one: no bar is behind it.
    cdef Slot *slot = &table.slots[spec][symbol_id]
    cdef int64_t open_time, close_time
    if is_open(table, spec, symbol_id) or slot.newest >= 0 or table.pasts[spec][symbol_id].newest_ns != LOWEST:
        return False
    interval_of(&table.specs.rules[spec], time, &open_time, &close_time)
    clear_bar(&slot.bar, open_time, open_time)
    begin_earlier(&table.coverage, symbol_id, time)
    return True


cdef void _note_not_contained(Table *table, int spec, int symbol_id) noexcept nogil:
    # The open bar of `spec` is behind the one that feeds it: a flush ended it early, or time without trades was cut.
    while table.specs.source[spec] >= 0:
        spec = table.specs.source[spec]
        table.slots[spec][symbol_id].contained = 0


cdef void _set_gate(Table *table, const Pass *run, int tree, Py_ssize_t row) noexcept nogil:
    # Up to where a trade needs no look at the ledger, nor at the bars that the root feeds, behind this row.
    cdef Slot *root = &table.slots[table.specs.trees[tree].root][run.columns.symbol_id[row]]
    if table.terms.by_id and not run.fills and not table.sequenced:
        root.gate.next.id = run.columns.last_id[row] + 1
    root.gate.next.limit = LOWEST
    if table.coverage.covers_itself and table.coverage.covers[run.columns.symbol_id[row]].open_kind == UNWANTED:
        return      # the next trade may cover the symbol
    if not root.bar.open_time < root.bar.close_time or not root.contained or (
        table.terms.by_id and (root.gate.next.id > LAST_IDS or root.unproven)
    ):
        return
    root.gate.next.limit = root.bar.close_time


cdef void _fold_path_row(Table *table, Pass *run, int spec, Py_ssize_t row, bint late, bint ahead) noexcept nogil:
    # Path-driven bars take trades as they arrive; the one that fills a bar is its last.
    cdef const Columns *batch = &run.columns
    cdef const Rule *rule = &table.specs.rules[spec]
    cdef int32_t s = batch.symbol_id[row]
    cdef Slot *slot = &table.slots[spec][s]
    cdef Summary *bar = &slot.bar
    cdef int64_t opened, first, last
    cdef int128 step
    cdef Ending ending
    if rule.anchor is not NULL:
        fold_anchored(table, run, spec, row, late, ahead)
        return
    if batch.size[row] == 0:
        return
    if bar.largest == 0:
        cover_itself(table, s, batch.time_ns[row])
        roll(table, run, spec, s, batch.time_ns[row], row)
        mark_begun_late(slot, late)
    elif not late:
        mark_begun_late(slot, False)
    step = slot.gate.step
    step.hi &= HIGHEST
    if path_rule_of(rule.kind).splits:
        fold_parts(table, run, spec, row, &step)
        return
    opened = bar.open if bar.largest else batch.price[row]
    first, last = bar.first_id, bar.last_id
    if add_trade(bar, batch, row, slot.contract, False):
        note_overflow(run, row)
    if asks_inside(&table.inside, spec):
        add_inside_bar(table, spec, s, -1, batch, row)
    bar.open, bar.close = opened, batch.price[row]
    if table.terms.by_id:
        bar.first_id = min(first, batch.first_id[row])
        bar.last_id = max(last, batch.last_id[row])
    ending = plain_ending()
    if not path_rule_of(rule.kind).is_full(rule, bar, &step, state_of(table, spec, s), batch, row, &ending):
        if ending.beyond:
            note_overflow(run, row)
        return
    if ending.shaped:
        shape(bar, ending.open, ending.close)
    close_bar(table, run, spec, s, row, BY_TRADE)
    while ending.empty > 0:
        follow(bar, &ending, batch.time_ns[row], batch.last_id[row] if table.terms.by_id else batch.arrivals + row)
        close_bar(table, run, spec, s, row, BY_TRADE)
