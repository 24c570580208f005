"""Series of trade ids: tells when the ids of a symbol begin anew, and moves what is kept of the older series below it.

Exchanges begin their ids anew: lower, or at 1, after a relisting or another engine. An id that was passed long ago then
comes with a time at which its own trade cannot have been made.

    one series --id passed, too late for its trade--> trades wait --next id of one that waits--> a new series
         ^                                              |  |  ^
         |                                              |  +--+ another such trade: it waits as well
         +--the old series goes on behind its time------+       (MOST_WAITING of them are a series)

A trade that waits is in no bar, and decides nothing. Each that the old series leaves behind is a stray: an old trade sent
again with a wrong time, which was seen before; or, where its id was never seen, one that is reported as late. What still
waits when the symbol's bars are ended is taken as a series: nobody has contradicted it.

Units: times int64 ns since the epoch, UTC.
"""

from libc.stdint cimport int32_t, int64_t

from fastbars.kernel.anew cimport MOST_SERIES, MOST_WAITING, Anew, Series, Waiting, anew_of, new_anew
from fastbars.kernel.holes cimport SEAM, Hole, find_hole, insert_hole, lower_ids, oldest_hole, remove_hole
from fastbars.kernel.ids cimport Line, forget_oldest_hole
from fastbars.kernel.inside cimport Inside, asks_inside, inside_of_record
from fastbars.kernel.limits cimport LOWEST_KEY
from fastbars.kernel.passes cimport Pass
from fastbars.kernel.paths cimport path_rule_of
from fastbars.kernel.rules cimport is_time_kind
from fastbars.kernel.scaled cimport HIGHEST, LOWEST
from fastbars.kernel.summary cimport Summary, is_within
from fastbars.kernel.table cimport Next, Record, Slot, Table, is_open, mark_begun_late, total_bar

cdef enum:
    MOST_LOOKS = 32             # at closed bars, to tell a duplicate at once
    MOST_PASSED = 1000          # trades of the old series, whatever their times, that show that it goes on

# Ids that trades of an older series can have beyond the newest one it had.
cdef int64_t ROOM = <int64_t>1 << 32
# No series begins anew behind an id from here on.
cdef int64_t LARGEST_ID = <int64_t>1 << 62

cdef struct Known:              # the next known key at or above one, and when its trade was made, at the latest
    int64_t at_least
    int64_t key
    int64_t time_ns


# Times of ids.

cdef inline void _consider(Known *known, int64_t key, int64_t time_ns) noexcept nogil:
    if key < known.at_least or key > known.key:
        return
    known.time_ns = max(known.time_ns, time_ns) if key == known.key else time_ns
    known.key = key


cdef inline void _consider_bar(Known *known, int64_t ledgers, const Summary *bar) noexcept nogil:
    # Its first id; that of the last one may be of a void id. (What the ledger knows it knows exactly.)
    if bar.largest and bar.first_id != ledgers:
        _consider(known, bar.first_id, bar.first_time)


cdef bint _is_too_late(Table *table, int32_t symbol_id, int64_t key, int64_t time_ns) noexcept nogil:
    # Whether a time is more than lateness later than the trade with this key can have been made: than the next one known at
    # or above it, of the ledger or of a bar that is kept.
    cdef const Line *line = &table.ids.lines[symbol_id]
    cdef int32_t at = find_hole(&line.holes, key - 1), r
    cdef int64_t before = time_ns - table.terms.lateness_ns if time_ns > LOWEST + table.terms.lateness_ns else LOWEST
    cdef Known known = Known(key, HIGHEST, LOWEST)
    cdef Summary bar
    cdef int64_t ledgers
    cdef int k
    if at >= 0:
        _consider(&known, line.holes.nodes[at].hole.first - 1, line.holes.nodes[at].hole.since_ns)
        _consider(&known, line.holes.nodes[at].hole.last + 1, line.holes.nodes[at].hole.until_ns)
        at = find_hole(&line.holes, line.holes.nodes[at].hole.last + 1)
        if at >= 0:     # of one id between two holes both tell, and a seam may tell a later time
            _consider(&known, line.holes.nodes[at].hole.first - 1, line.holes.nodes[at].hole.since_ns)
    _consider(&known, line.start, line.start_ns)
    _consider(&known, line.expected - 1, line.last_time_ns)
    if table.sequenced:         # the bars know no sequence numbers
        return known.time_ns < before and known.key < HIGHEST
    if known.time_ns >= before and not _is_any_between(table, symbol_id, key, known.key, before):
        return False
    ledgers = known.key
    for k in range(table.specs.count):
        if not is_time_kind(table.specs.rules[k].kind):
            continue
        if is_open(table, k, symbol_id):
            total_bar(table, k, symbol_id, &bar)
            _consider_bar(&known, ledgers, &bar)
        r = table.slots[k][symbol_id].oldest
        while r >= 0:
            _consider_bar(&known, ledgers, &table.records.items[r].bar)
            r = table.records.items[r].next
    return known.time_ns < before and known.key < HIGHEST


cdef bint _is_any_between(
    const Table *table, int32_t symbol_id, int64_t first, int64_t stop, int64_t before_ns
) noexcept nogil:
    # Whether a time bar that is kept, and began early enough, has its first id between two.
    cdef const Record *records = table.records.items
    cdef const Slot *slot
    cdef int64_t first_id
    cdef int32_t r
    cdef int k, source
    for k in range(table.specs.count):
        if not is_time_kind(table.specs.rules[k].kind):
            continue
        slot = &table.slots[k][symbol_id]
        if slot.bar.open_time < before_ns:
            first_id, source = slot.bar.first_id, table.specs.source[k]
            while source >= 0 and is_within(&table.slots[source][symbol_id].bar, &slot.bar):
                first_id = min(first_id, table.slots[source][symbol_id].bar.first_id)
                source = table.specs.source[source]
            if first <= first_id < stop:
                return True
        r = slot.oldest
        while r >= 0 and records[r].bar.open_time < before_ns:
            if first <= records[r].bar.first_id < stop:
                return True
            r = records[r].next
    return False


# Trades that wait.

cdef bint may_begin(Table *table, const Pass *run, Py_ssize_t row) noexcept nogil:
    # An id that is not above the newest one, with a time that is too late for it. (The line has caught up.)
    cdef int32_t s = run.columns.symbol_id[row]
    cdef const Line *line = &table.ids.lines[s]
    return run.first[row] < line.expected <= LARGEST_ID and not run.healing and _is_too_late(
        table, s, min(run.last[row], line.expected - 1), run.columns.time_ns[row])


cdef bint is_repeated(const Table *table, const Pass *run, Py_ssize_t row) noexcept nogil:
    # A trade of the open bar that was seen before, by a few looks: no id is missing, and it is not too late to be that
    # trade (`_is_too_late`). False: it may be one all the same.
    cdef int32_t s = run.columns.symbol_id[row], r
    cdef int64_t first = run.columns.first_id[row], time_ns = run.columns.time_ns[row]
    cdef int64_t before = time_ns - table.terms.lateness_ns if time_ns > LOWEST + table.terms.lateness_ns else LOWEST
    cdef const Line *line = &table.ids.lines[s]
    cdef const Slot *slot = &table.slots[table.specs.trees[0].root][s]
    cdef const Record *records = table.records.items
    cdef int k, left = MOST_LOOKS
    if table.ids.renewed.count or line.holes.count or slot.gate.next.limit == LOWEST or slot.gate.next.id > LARGEST_ID or (
        first <= max(line.start, slot.bar.first_id) or first < line.forgotten
        or (slot.bar.last_time if slot.gate.next.id > line.expected else line.last_time_ns) < before
    ):
        return False
    for k in range(table.specs.count):      # their open bars begin with the same id as this one, or earlier
        r = table.slots[k][s].oldest
        while r >= 0 and records[r].bar.open_time < before:
            left -= 1
            if records[r].bar.first_id >= first or left == 0:
                return False
            r = records[r].next
    return True


cdef Waiting waiting_of(const Pass *run, Py_ssize_t row) noexcept nogil:
    cdef Waiting made
    made.first, made.last = run.first[row], run.last[row]
    made.time_ns = run.columns.time_ns[row]
    made.price, made.size = run.columns.price[row], run.columns.size[row]
    made.first_id, made.last_id = run.columns.first_id[row], run.columns.last_id[row]
    made.count = 1 if run.columns.count is NULL else run.columns.count[row]
    made.arrival = run.columns.arrivals + row
    made.symbol_id = run.columns.symbol_id[row]
    made.side = run.columns.side[row & run.columns.side_mask]
    return made


cdef void stand_in(Pass *own, const Pass *run, const Waiting *waiting, Py_ssize_t row) noexcept nogil:
    # A pass in which another trade stands at the place of a row.
    own[0] = run[0]
    own.columns.time_ns = &waiting.time_ns - row
    own.columns.symbol_id = &waiting.symbol_id - row
    own.columns.price = &waiting.price - row
    own.columns.size = &waiting.size - row
    own.columns.side = &waiting.side - row
    own.columns.side_mask = -1
    own.columns.first_id = &waiting.first_id - row
    own.columns.last_id = &waiting.last_id - row
    own.columns.count = &waiting.count - row
    own.columns.places = NULL
    own.columns.arrivals = waiting.arrival - row
    own.first = &waiting.first - row
    own.last = &waiting.last - row
    own.single = False


cdef void stop_ordinary(Table *table, int32_t symbol_id) noexcept nogil:
    # While trades wait, each one of their symbol is looked at alone.
    cdef int k, t
    for t in range(table.specs.tree_count):
        table.slots[table.specs.trees[t].root][symbol_id].gate.next.limit = LOWEST
    for k in range(table.specs.count):
        if not is_time_kind(table.specs.rules[k].kind):
            mark_begun_late(&table.slots[k][symbol_id], True)


cdef Wait hold(Table *table, const Pass *run, Py_ssize_t row) noexcept nogil:
    cdef int32_t s = run.columns.symbol_id[row], place, i
    cdef Waiting made = waiting_of(run, row)
    cdef Anew *anew = new_anew(&table.ids.renewed, s)
    if anew is NULL:
        table.rows.no_memory = True
        return HELD
    place = anew.waiting_count
    while place > 0 and anew.waiting[place - 1].first > made.first:
        place -= 1
    if place and anew.waiting[place - 1].last >= made.first:
        return REPEATED if made.last <= anew.waiting[place - 1].last else ENTANGLED
    if place < anew.waiting_count and made.last >= anew.waiting[place].first:
        return ENTANGLED
    if anew.waiting_count == 0:
        table.ids.renewed.waiting += 1
        anew.safe_ns = table.ids.safe_ns
        anew.passed = 0
        stop_ordinary(table, s)
    i = anew.waiting_count
    while i > place:
        anew.waiting[i] = anew.waiting[i - 1]
        i -= 1
    anew.waiting[place] = made
    anew.waiting_count += 1
    if anew.waiting_count == MOST_WAITING or (place and anew.waiting[place - 1].last + 1 == made.first) or (
        place + 1 < anew.waiting_count and made.last + 1 == anew.waiting[place + 1].first
    ):
        return CONFIRMED
    return HELD


cdef int32_t take_strays(Table *table, const Pass *run, Py_ssize_t row, Waiting *strays) noexcept nogil:
    # The old series goes on with a row: takes away the trades that it has left behind; returns how many.
    cdef Anew *anew = table.ids.renewed.of[run.columns.symbol_id[row]]
    cdef int32_t i, taken = 0, kept = 0
    anew.passed += 1
    for i in range(anew.waiting_count):
        if anew.waiting[i].time_ns < run.columns.time_ns[row] or anew.passed >= MOST_PASSED:
            strays[taken] = anew.waiting[i]
            taken += 1
        else:
            anew.waiting[kept] = anew.waiting[i]
            kept += 1
    anew.waiting_count = kept
    if taken and kept == 0:
        table.ids.renewed.waiting -= 1
    return taken


# Series.

cdef int32_t older_series(Table *table, int32_t symbol_id, int64_t last, int64_t time_ns) noexcept nogil:
    # Which of the older series a trade belongs to; -1: to the latest one. It is older than that one's first trade, and not
    # too late for its id there.
    cdef const Anew *anew = anew_of(&table.ids.renewed, symbol_id)
    cdef int32_t j
    cdef int64_t key
    if anew is NULL or time_ns >= anew.since_ns:
        return -1
    j = anew.series_count
    while j > 0:
        j -= 1
        if j and time_ns < anew.series[j].since_ns:
            continue
        key = last - anew.series[j].offset
        if LOWEST_KEY < key <= anew.series[j].limit and not _is_too_late(table, symbol_id, key, time_ns):
            return j
    return -1


cdef inline int64_t _moved(int64_t key, int64_t shift) noexcept nogil:
    return max(key - shift, LOWEST_KEY)


cdef inline void _move_bar(Summary *bar, int64_t shift) noexcept nogil:
    if bar.largest:
        bar.first_id, bar.last_id = _moved(bar.first_id, shift), _moved(bar.last_id, shift)


cdef inline void _move_order(Inside *inside, int32_t d, int64_t shift) noexcept nogil:
    if d >= 0:
        inside.details[d].order = _moved(inside.details[d].order, shift)


cdef void _raise_bar(Summary *bar, int64_t least) noexcept nogil:
    if bar.largest:
        bar.first_id, bar.last_id = max(bar.first_id, least), max(bar.last_id, least)


cdef int64_t _newest_in_bars(const Table *table, int32_t symbol_id) noexcept nogil:
    cdef int64_t newest = -1
    cdef int32_t r
    cdef int k
    for k in range(table.specs.count):
        newest = max(newest, table.slots[k][symbol_id].bar.last_id)
        r = table.slots[k][symbol_id].oldest
        while r >= 0:
            newest = max(newest, table.records.items[r].bar.last_id)
            r = table.records.items[r].next
    return newest


cdef void _forget_series(Table *table, int32_t symbol_id, Anew *anew) noexcept nogil:
    # The oldest one: bars that began in it begin, as far as is known, with the next series.
    cdef int64_t least = anew.series[0].bar_limit
    cdef int32_t j, r
    cdef int k
    for j in range(1, anew.series_count):
        anew.series[j - 1] = anew.series[j]
    anew.series_count -= 1
    if least == LOWEST:
        return
    for k in range(table.specs.count):
        _raise_bar(&table.slots[k][symbol_id].bar, least + 2)
        r = table.slots[k][symbol_id].oldest
        while r >= 0:
            _raise_bar(&table.records.items[r].bar, least + 2)
            r = table.records.items[r].next


cdef void begin_series(Table *table, int32_t symbol_id, const Waiting *first) noexcept nogil:
    # The ids begin anew with this trade, which comes next: keys of all that is kept are moved below it. What may be missing
    # between the series is a seam (`touched`).
    cdef Line *line = &table.ids.lines[symbol_id]
    cdef Anew *anew = table.ids.renewed.of[symbol_id]
    cdef Slot *slot
    cdef Hole seam
    cdef int64_t newest = line.expected - 1, since = line.last_time_ns
    cdef int64_t shift = newest + 2 + ROOM, bar_shift = shift
    cdef int32_t at, j, r
    cdef int k, t
    cdef bint detailed
    if table.sequenced:
        bar_shift = _newest_in_bars(table, symbol_id)
        bar_shift = bar_shift + 2 + ROOM if first.first_id <= bar_shift < LARGEST_ID else 0
    for t in range(table.specs.tree_count):
        k = table.specs.trees[t].root
        since = max(since, max(table.pasts[k][symbol_id].newest_ns, table.slots[k][symbol_id].bar.last_time))
    while anew.series_count and (anew.series_count == MOST_SERIES or anew.series[0].limit < LOWEST_KEY + shift or (
        anew.series[0].offset > HIGHEST - shift or anew.series[0].bar_offset > HIGHEST - bar_shift
    )):
        _forget_series(table, symbol_id, anew)
    for j in range(anew.series_count):
        anew.series[j].limit -= shift
        anew.series[j].offset += shift
        anew.series[j].bar_offset += bar_shift
        if anew.series[j].bar_limit > LOWEST:
            anew.series[j].bar_limit = _moved(anew.series[j].bar_limit, bar_shift)
    anew.series[anew.series_count] = Series(
        shift, -2, bar_shift, -2 if bar_shift else LOWEST, anew.since_ns, line.last_time_ns)
    anew.series_count += 1
    anew.since_ns = first.time_ns
    anew.old_id, anew.new_id = newest, first.first
    table.ids.renewed.begun += 1
    anew.number = table.ids.renewed.begun

    at = oldest_hole(&line.holes, 0xff)
    while at >= 0 and _moved(line.holes.nodes[at].hole.last, shift) <= LOWEST_KEY:
        line.forgotten_until_ns = max(
            line.forgotten_until_ns, max(line.holes.nodes[at].hole.since_ns, line.holes.nodes[at].hole.until_ns))
        remove_hole(&line.holes, line.holes.nodes[at].hole.first)
        at = oldest_hole(&line.holes, 0xff)
    lower_ids(&line.holes, shift, LOWEST_KEY)
    line.start = _moved(line.start, shift)
    if line.forgotten > LOWEST:
        line.forgotten = _moved(line.forgotten, shift)
    seam = Hole(newest + 1 - shift, first.first - 1, since, first.time_ns, anew.safe_ns, SEAM)
    if not insert_hole(&line.holes, seam):
        table.rows.no_memory = True
        return
    forget_oldest_hole(table.ids, line)
    table.ids.touched = seam
    line.expected = first.first

    for k in range(table.specs.count):
        slot = &table.slots[k][symbol_id]
        _move_bar(&slot.bar, bar_shift)
        detailed = asks_inside(&table.inside, k)
        if detailed:
            _move_order(&table.inside, table.inside.of_slots[k][symbol_id], bar_shift)
        r = slot.oldest
        while r >= 0:
            _move_bar(&table.records.items[r].bar, bar_shift)
            if detailed:
                _move_order(&table.inside, inside_of_record(&table.inside, r), bar_shift)
            r = table.records.items[r].next
    for t in range(table.specs.tree_count):
        table.slots[table.specs.trees[t].root][symbol_id].gate.next = Next(LOWEST, LOWEST)
