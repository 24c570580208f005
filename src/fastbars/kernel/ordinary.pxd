# Ordinary trades: those that change nothing but the sums of their symbol's open bar. Which they are; how they are added
# stands in summary.pxd.
#
# This is where nearly all trades end, so it is written for the machine: a stretch of one symbol lives in
# registers, and the slots of the trades a few places ahead are fetched meanwhile. Whatever is not plainly ordinary is left
# to the kernel, row by row.
#
# Units: those of TickBatch.

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from fastbars.kernel.passes cimport Columns, Seen, trades_of
from fastbars.kernel.path_rules cimport (
    Cusum, Renko, delta_with, ends_cusum, ends_range, ends_renko, follow_cusum, is_delta,
)
from fastbars.kernel.rules cimport CUSUM, DELTA, RANGE, RENKO, TICK, VALUE, VOLUME, is_time_kind
from fastbars.kernel.scaled cimport add128_uint64, add128_wide, int128, less128, prefetch, wide_product
from fastbars.kernel.summary cimport Summary, add_any_stretch, add_ordinary, chosen, count_of, total_of
from fastbars.kernel.table cimport LINE_BYTES, Slot, began_late

cdef enum:
    PLACES_AHEAD = 12           # in the batch; the three lines of a slot take about as long to come
    SHORT_STRETCH = 8           # rows of one symbol after which more of them are looked at together
    CHUNK = 64
    FIRST_CHUNK = 16            # of a stretch of a path-driven bar: many end within it
    PATH_STRETCH = 256          # looked at twice: whether they fill the bar, and what they sum to

cdef struct Path:               # what tells whether the next trade ends an open path-driven bar; each kind has its own part
    int128 step                 # all but tick
    int64_t most                # tick: the step
    int64_t count               # tick
    int128 total                # volume, value; delta
    int64_t low                 # range
    int64_t high
    Cusum sums                  # cusum
    Renko last                  # renko


cdef inline void fetch(const Slot *slots, const Columns *batch, Py_ssize_t i) noexcept nogil:
    cdef const char *slot = <const char *>&slots[batch.symbol_id[i]]
    prefetch(slot)
    prefetch(slot + LINE_BYTES)
    prefetch(slot + 2 * LINE_BYTES)


cdef inline bint follows(const Columns *batch, Py_ssize_t i, bint by_id, bint single, int64_t limit) noexcept nogil:
    # Row i is as ordinary as the one before it, and of the same symbol.
    return (
        batch.symbol_id[i] == batch.symbol_id[i - 1] and batch.time_ns[i - 1] <= batch.time_ns[i] < limit
        and (not by_id or batch.first_id[i] == (batch.first_id if single else batch.last_id)[i - 1] + 1)
    )


cdef inline bint all_follow(
    const Columns *batch, Py_ssize_t start, Py_ssize_t stop, bint by_id, bint single, int64_t limit
) noexcept nogil:
    # The same of several rows, without a branch, so that the compiler takes more than one at once. Differences
    # wrap; a time that is older by more than they hold is too far below the limit then.
    cdef const uint64_t *times = <const uint64_t *>batch.time_ns
    cdef const uint32_t *symbols = <const uint32_t *>batch.symbol_id
    cdef const uint64_t *first_ids = <const uint64_t *>batch.first_id
    cdef const uint64_t *last_ids = <const uint64_t *>(batch.first_id if single else batch.last_id)
    cdef uint64_t late = 0, unexpected = 0
    cdef uint32_t other = 0
    cdef Py_ssize_t i
    for i in range(start, stop):
        late |= (times[i] - times[i - 1]) | (<uint64_t>limit - 1 - times[i])
    for i in range(start, stop):
        other |= symbols[i] ^ symbols[i - 1]
    if by_id:
        for i in range(start, stop):
            unexpected |= first_ids[i] - last_ids[i - 1] - 1
    return not other and not unexpected and <int64_t>late >= 0


cdef inline Py_ssize_t stretch_from(
    const Columns *batch, Py_ssize_t start, Py_ssize_t stop, bint by_id, bint single, int64_t limit
) noexcept nogil:
    # The first row behind `start` that is not an ordinary one of the same symbol.
    cdef Py_ssize_t i = start + 1, short = min(start + SHORT_STRETCH, stop)
    while i < short:
        if not follows(batch, i, by_id, single, limit):
            return i
        i += 1
    while i + CHUNK <= stop and all_follow(batch, i, i + CHUNK, by_id, single, limit):
        i += CHUNK
    while i < stop and follows(batch, i, by_id, single, limit):
        i += 1
    return i


cdef inline bint begins_stretch(const Columns *batch, Py_ssize_t i) noexcept nogil:
    # Three rows of one symbol are worth adding up in registers.
    return batch.symbol_id[i + 2] == batch.symbol_id[i] and batch.symbol_id[i + 1] == batch.symbol_id[i]


cdef inline bint take_ordinary(
    Slot *slots, const Columns *batch, Py_ssize_t i, bint by_id, bint single, bint voids, bint inverse, Seen *seen
) noexcept nogil:
    # Adds row i if it is ordinary: no older than the last trade of the open bar, inside its interval, and, where ids
    # order the trades, with the next one.
    cdef Slot *slot
    cdef int64_t id
    if <uint32_t>batch.symbol_id[i] >= batch.symbols:
        return False
    slot = &slots[batch.symbol_id[i]]
    if batch.time_ns[i] < slot.bar.last_time or batch.time_ns[i] >= slot.gate.next.limit or (
        by_id and batch.first_id[i] != slot.gate.next.id
    ):
        return False
    id = slot.gate.next.id if single else batch.last_id[i] if by_id else batch.arrivals + i
    add_ordinary(&slot.bar, batch, i, id, single, True, voids, slot.contract if inverse else 0, seen)
    if by_id:
        slot.gate.next.id = id + 1
    return True


cdef inline Py_ssize_t fold_time_stretch(
    Slot *slots, const Columns *columns, Py_ssize_t start, Py_ssize_t stop, bint by_id, bint single, bint voids,
    bint inverse, Seen *all_seen
) noexcept nogil:
    # The ordinary rows of the symbol at `start`; returns the first row behind them, or start.
    cdef Columns batch = columns[0]
    cdef Seen seen = all_seen[0]
    cdef Slot *slot
    cdef Py_ssize_t end
    if not take_ordinary(slots, &batch, start, by_id, single, voids, inverse, &seen):
        return start
    slot = &slots[batch.symbol_id[start]]
    end = stretch_from(&batch, start, min(stop, start + batch.longest), by_id, single, slot.gate.next.limit)
    if end > start + 1:
        if by_id:
            slot.gate.next.id = (batch.first_id if single else batch.last_id)[end - 1] + 1
        add_any_stretch(
            &slot.bar, &batch, start + 1, end, by_id, single, True, voids, slot.contract if inverse else 0, &seen)
    all_seen[0] = seen
    return end


cdef inline Path path_of(int kind, int64_t step, const Slot *slot, const char *states, Py_ssize_t symbol_id) noexcept nogil:
    # A copy: where the loops write to it, the compiler need not fear for the bar.
    cdef const Summary *bar = &slot.bar
    cdef Path path
    path.step = slot.gate.step
    path.most = step
    if kind == TICK:
        path.count = count_of(bar)
    elif kind == VOLUME or kind == VALUE:
        path.total = total_of(bar, kind == VOLUME)
    elif kind == RANGE:
        path.low, path.high = bar.low, bar.high
    elif kind == DELTA:
        path.total = (<const int128 *>states)[symbol_id]
    elif kind == CUSUM:
        path.sums = (<const Cusum *>states)[symbol_id]
    elif kind == RENKO:
        path.last = (<const Renko *>states)[symbol_id]
    return path


cdef inline void keep_path(int kind, const Path *path, char *states, Py_ssize_t symbol_id) noexcept nogil:
    # What the rule remembers of the trades that it took in. (Of renko bars an ordinary trade changes nothing.)
    if kind == DELTA:
        (<int128 *>states)[symbol_id] = path.total
    elif kind == CUSUM:
        (<Cusum *>states)[symbol_id] = path.sums


cdef inline bint ends(int kind, Path *path, const Columns *batch, Py_ssize_t i, bint voids, int64_t contract) noexcept nogil:
    # Whether the bar ends with this trade, which is taken in if not. (It had not before, so a void row never ends it.)
    cdef int64_t count, price = batch.price[i], size = batch.size[i]
    cdef int128 total
    if kind == TICK:
        count = trades_of(batch, i)
        path.count += chosen(count, 0, size) if voids else count
        return path.count >= path.most
    if kind == VOLUME:
        add128_uint64(&path.total, <uint64_t>size)
        return not less128(&path.total, &path.step)
    if kind == VALUE:
        add128_wide(&path.total, wide_product(contract if contract else price, size))
        return not less128(&path.total, &path.step)
    if voids and size == 0:
        return False        # its price is none
    if kind == RANGE:
        if ends_range(path.high, path.low, price, &path.step):
            return True
        path.low, path.high = min(path.low, price), max(path.high, price)
        return False
    if kind == DELTA:
        total = delta_with(&path.total, size, batch.side[i & batch.side_mask])
        if is_delta(&total, &path.step):
            return True
        path.total = total
        return False
    if kind == CUSUM:
        if ends_cusum(&path.sums, price, &path.step):
            return True
        follow_cusum(&path.sums, price, &path.step)
        return False
    return ends_renko(&path.last, price, &path.step)


cdef inline bint continues_path(
    int kind, const Slot *slot, const Columns *batch, Py_ssize_t i, bint by_id, bint voids
) noexcept nogil:
    # Not the first trade of its bar, in order, and with the next id. (Where there may be void rows it is known that the ids
    # are the next ones; the mark of a bar that began late makes steps of tick, volume and value bars ones that any trade
    # reaches, and would make those of other kinds ones that none does.)
    return not (
        slot.bar.largest == 0 or batch.time_ns[i] < slot.bar.last_time or batch.time_ns[i] >= slot.bar.close_time or slot.taped
        or (by_id and not voids and batch.first_id[i] != slot.bar.last_id + 1)
        or ((by_id and not voids or kind > VALUE) and began_late(slot))
    )


cdef inline bint take_path_ordinary(
    int kind, int64_t step, Slot *slots, char *states, const Columns *batch, Py_ssize_t i, bint by_id, bint voids, bint inverse,
    Seen *seen
) noexcept nogil:
    # Adds row i if it is ordinary.
    cdef Slot *slot
    cdef int64_t contract
    cdef Path path
    if <uint32_t>batch.symbol_id[i] >= batch.symbols:
        return False
    slot = &slots[batch.symbol_id[i]]
    contract = slot.contract if inverse else 0
    if not continues_path(kind, slot, batch, i, by_id, voids):
        return False
    path = path_of(kind, step, slot, states, batch.symbol_id[i])
    if ends(kind, &path, batch, i, voids, contract):
        return False
    keep_path(kind, &path, states, batch.symbol_id[i])
    add_ordinary(
        &slot.bar, batch, i, batch.last_id[i] if by_id else batch.arrivals + i, False, False, voids, contract, seen)
    return True


cdef inline bint take(
    int kind, int64_t step, Slot *slots, char *states, const Columns *batch, Py_ssize_t i, bint by_id, bint single, bint voids,
    bint inverse, Seen *seen
) noexcept nogil:
    # Adds row i if it is ordinary for bars of this kind.
    if is_time_kind(kind):
        return take_ordinary(slots, batch, i, by_id, single, voids, inverse, seen)
    return take_path_ordinary(kind, step, slots, states, batch, i, by_id, voids, inverse, seen)


cdef inline Py_ssize_t fold_some(
    int kind, int64_t step, Slot *slots, char *states, const Columns *columns, Py_ssize_t start, Py_ssize_t stop, bint by_id,
    bint single, bint voids, bint inverse, bint placed, Seen *all_seen
) noexcept nogil:
    cdef Columns batch = columns[0]
    cdef Seen seen = all_seen[0]
    cdef Py_ssize_t i = start, row
    while i < stop - PLACES_AHEAD:
        row = batch.places[i] if placed else i
        if not placed and begins_stretch(&batch, i):
            break
        fetch(slots, &batch, batch.places[i + PLACES_AHEAD] if placed else i + PLACES_AHEAD)
        if not take(kind, step, slots, states, &batch, row, by_id, single, voids, inverse, &seen):
            break
        i += 1
    while stop - PLACES_AHEAD <= i < stop:
        row = batch.places[i] if placed else i
        if (not placed and i + 2 < stop and begins_stretch(&batch, i)) or not take(
            kind, step, slots, states, &batch, row, by_id, single, voids, inverse, &seen
        ):
            break
        i += 1
    all_seen[0] = seen
    return i


cdef inline Py_ssize_t fold_rows(
    int kind, int64_t step, Slot *slots, char *states, const Columns *columns, Py_ssize_t start, Py_ssize_t stop, bint by_id,
    bint single, bint voids, bint inverse, Seen *seen
) noexcept nogil:
    # Returns the first row that is not ordinary or begins a stretch of its symbol, or stop. Where only the rows at
    # some places are to be folded in there are no stretches, and these numbers count places.
    if columns.places is NULL:
        return fold_some(kind, step, slots, states, columns, start, stop, by_id, single, voids, inverse, False, seen)
    return fold_some(kind, step, slots, states, columns, start, stop, by_id, single, voids, inverse, True, seen)


cdef inline Py_ssize_t fold_path_stretch(
    int kind, int64_t step, Slot *slots, char *states, const Columns *columns, Py_ssize_t start, Py_ssize_t stop, bint by_id,
    bint voids, Seen *all_seen
) noexcept nogil:
    # As fold_time_stretch. By chunks, so that short bars do not pay for rows behind their end.
    cdef Columns batch = columns[0]
    cdef Seen seen = all_seen[0]
    cdef Slot *slot
    cdef Path path
    cdef int64_t limit
    cdef int32_t s = batch.symbol_id[start]
    cdef Py_ssize_t i = start + 1, chunk_end = start + FIRST_CHUNK, chunk
    if <uint32_t>s >= batch.symbols:
        return start
    slot = &slots[s]
    if not continues_path(kind, slot, &batch, start, by_id, voids):
        return start
    path = path_of(kind, step, slot, states, s)
    if ends(kind, &path, &batch, start, voids, slot.contract):
        return start
    limit = slot.bar.close_time
    stop = min(stop, start + min(batch.longest, PATH_STRETCH))
    if kind == TICK and batch.count is NULL and not voids:
        stop = min(stop, start + step - path.count)
    while i < stop:
        chunk = min(stop, chunk_end)
        chunk_end += CHUNK
        if not all_follow(&batch, i, chunk, by_id, False, limit):
            stop = i
            while stop < chunk and follows(&batch, stop, by_id, False, limit):
                stop += 1
            chunk = stop
        if kind == TICK and batch.count is NULL and not voids:
            i = chunk
            continue
        while i < chunk and not ends(kind, &path, &batch, i, voids, slot.contract):
            i += 1
        if i < chunk:
            break
    keep_path(kind, &path, states, s)
    add_any_stretch(&slot.bar, &batch, start, i, by_id, False, False, voids, slot.contract, &seen)
    all_seen[0] = seen
    return i
