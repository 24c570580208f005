"""The trade-id ledger: which ids of a symbol were seen, what is missing, and between which times.

It knows ids, not bars. Ids rise by one from trade to trade (`contiguous`); a jump ahead opens a hole, a
trade inside a hole shrinks it, anything else that is old is a duplicate. A bar is in doubt while a hole
lies between two trades whose times reach into it.

The holes of a symbol are kept in order of ids (holes.pyx); past `most_holes` the oldest is forgotten, and the
bars it reached into stay in doubt for good.

Trades whose id is plainly the next one skip the ledger: the code that folds them in keeps the id and time of the
newest one of each symbol (its tip), and a line catches up with its tip before it is read.

A void id is used up as that of a trade is: the ledger makes no difference. Ids that the exchange's history leaves out for
good (unpublished) stay a hole, which is counted apart and no longer listed as missing. No bar is kept for it, and it is the
first to be forgotten: its ids count as seen then.

**Series.** Ids may begin anew. What is kept of the older series, holes and the ids in bars, is moved below all ids of the
latest one then: an id becomes a key, which is lower by the offset of its series. So keys ascend from series to series, and
everything here compares keys; of the latest series they are the ids themselves. Between two series lies a hole of its own
kind, the seam: nobody knows how many trades are missing there. When a series begins is told in series.pyx.

       ids        5000 .. 5999                      1 .. 40 ..
      keys     -5 .. older series .. -2 -1 | seam | 1 .. latest series ..
"""

import cython

from libc.stdint cimport int32_t, int64_t, uint32_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize

from fastbars.kernel.anew cimport Anew, Series, anew_of, free_all, is_sound as is_sound_anew, new_anew
from fastbars.kernel.holes cimport (
    MISSING, SEAM, UNPUBLISHED, Hole, Reaching, add_reaching, any_reaches, begin_holes, copy_holes, find_hole, insert_hole, kinds_of,
    list_holes, oldest_hole, remove_hole, replace_hole,
)
from fastbars.kernel.limits cimport LOWEST_KEY, is_time
from fastbars.kernel.passes cimport Pass, row_at
from fastbars.kernel.scaled cimport HIGHEST, LOWEST

cdef enum:
    MOST_HOLES = 4096

# Line.expected before the first trade: no id is negative.
cdef int64_t UNSEEN = -1
cdef int64_t NO_BASE = -1


cdef void _set_up(Line *line) noexcept nogil:
    line.expected = UNSEEN
    line.last_time_ns = line.proven_ns = LOWEST
    line.start = LOWEST
    line.start_ns = line.begun_ns = LOWEST
    line.forgotten = LOWEST
    line.forgotten_until_ns = LOWEST
    begin_holes(&line.holes)


# What is read from a snapshot.

cdef bytes _bytes_of(dict parts, str name):
    part = parts.get(name)
    if type(part) is not bytes:
        raise ValueError(f"the snapshot's ledger has no {name}")
    return part


cdef bint _is_sound(const Line *line, const Hole *holes, int32_t count) noexcept nogil:
    # Whether the loops that read a line can rely on it: times are valid, holes ascend and lie below `expected`.
    cdef const Hole *hole
    cdef int64_t behind = line.start
    cdef int32_t i
    if line.expected == UNSEEN:
        return count == 0
    if line.expected < 0 or not LOWEST_KEY <= line.start <= line.expected:
        return False
    if not (is_time(line.last_time_ns) and is_time(line.start_ns) and is_time(line.proven_ns) and line.forgotten <= line.expected
            and (line.begun_ns == LOWEST or is_time(line.begun_ns))
            and (line.forgotten_until_ns == LOWEST or is_time(line.forgotten_until_ns))):
        return False
    for i in range(count):
        hole = &holes[i]
        if not (behind <= hole.first <= hole.last < line.expected and 0 <= hole.kind <= SEAM
                and is_time(hole.since_ns) and is_time(hole.until_ns)):
            return False
        behind = hole.last + 1
    return True


cdef void forget_oldest_hole(const Ids *ids, Line *line) noexcept nogil:
    cdef const Hole *oldest
    cdef int32_t at
    if line.holes.count > ids.most_holes:
        at = oldest_hole(&line.holes, 1 << UNPUBLISHED)     # its ids count as seen from here on
        if at < 0:
            oldest = &line.holes.nodes[oldest_hole(&line.holes, 0xff)].hole
            line.forgotten = max(line.forgotten, oldest.last + 1)
            line.forgotten_until_ns = max(line.forgotten_until_ns, max(oldest.since_ns, oldest.until_ns))
            remove_hole(&line.holes, oldest.first)
        else:
            remove_hole(&line.holes, line.holes.nodes[at].hole.first)


cdef inline void _note_newest(Line *line, int64_t time_ns) noexcept nogil:
    line.last_time_ns = time_ns
    line.proven_ns = max(line.proven_ns, time_ns)


cdef void catch_up(Ids *ids, int symbol_id) noexcept nogil:
    cdef int64_t next_id
    cdef Line *line = &ids.lines[symbol_id]
    if ids.tip_ids is NULL:
        return
    next_id = (<const int64_t *>(ids.tip_ids + symbol_id * ids.tip_stride))[0] + ids.tip_step
    if next_id > line.expected:
        line.expected = next_id
        _note_newest(line, (<const int64_t *>(ids.tip_times + symbol_id * ids.tip_stride))[0])


cdef inline int64_t _expected(const Ids *ids, int32_t symbol_id) noexcept nogil:
    # The next id, its tip included.
    if ids.tip_ids is NULL:
        return ids.lines[symbol_id].expected
    return max(
        ids.lines[symbol_id].expected, (<const int64_t *>(ids.tip_ids + symbol_id * ids.tip_stride))[0] + ids.tip_step)


cdef inline bint _is_apart(const Ids *ids, int32_t symbol_id, int64_t time_ns) noexcept nogil:
    # A row whose id alone does not say what it is: trades of its symbol wait, or it is older than the latest series.
    cdef const Anew *anew = anew_of(&ids.renewed, symbol_id)
    return anew is not NULL and (anew.waiting_count > 0 or time_ns < anew.since_ns)


cdef bint begins_with_first(const Ids *ids, int symbol_id) noexcept nogil:
    # The first id that a symbol has was seen: nothing was traded before it.
    return ids.lines[symbol_id].expected != UNSEEN and ids.lines[symbol_id].begun_ns == LOWEST


cdef bint takes_next(Ids *ids, const Pass *run, Py_ssize_t row) noexcept nogil:
    # Takes one row if it comes exactly next.
    cdef int32_t symbol_id = run.columns.symbol_id[row]
    catch_up(ids, symbol_id)
    if run.first[row] != ids.lines[symbol_id].expected or _is_apart(ids, symbol_id, run.columns.time_ns[row]):
        return False
    ids.lines[symbol_id].expected = run.last[row] + 1
    _note_newest(&ids.lines[symbol_id], run.columns.time_ns[row])
    return True


cdef Py_ssize_t advance(Ids *ids, const Pass *run, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    # Takes the rows (of `places`, where there are some) that come exactly next; returns the first one that does not,
    # or is of no symbol, or stop.
    cdef const int32_t *symbols = run.columns.symbol_id
    cdef const int32_t *places = run.columns.places
    cdef Line *line
    cdef Py_ssize_t at = start, i, before
    cdef int64_t latest
    cdef int32_t symbol_id
    while at < stop:
        i = row_at(places, at)
        symbol_id = symbols[i]
        if <uint32_t>symbol_id >= run.columns.symbols:
            return at
        line = &ids.lines[symbol_id]
        if run.first[i] != _expected(ids, symbol_id) or _is_apart(ids, symbol_id, run.columns.time_ns[i]):
            catch_up(ids, symbol_id)
            return at
        before = i
        latest = run.columns.time_ns[i]
        at += 1
        while at < stop:
            i = row_at(places, at)
            if symbols[i] != symbol_id or run.first[i] != run.last[before] + 1 or (
                ids.renewed.count and _is_apart(ids, symbol_id, run.columns.time_ns[i])
            ):
                break
            before = i
            latest = max(latest, run.columns.time_ns[i])
            at += 1
        line.expected = run.last[before] + 1
        line.last_time_ns = run.columns.time_ns[before]
        line.proven_ns = max(line.proven_ns, latest)
    return stop


cdef Verdict resolve(Ids *ids, const Pass *run, Py_ssize_t row) noexcept nogil:
    cdef int64_t first = run.first[row]
    cdef int64_t last = run.last[row]
    cdef int64_t time = run.columns.time_ns[row]
    cdef Line *line = &ids.lines[run.columns.symbol_id[row]]
    cdef Hole hole, front, behind
    cdef int32_t at
    if line.expected == UNSEEN:
        line.expected = last + 1
        _note_newest(line, time)
        line.start = first
        # Before the first id there is no trade: the beginning of every bar is proven.
        line.start_ns, line.begun_ns = time, LOWEST if first == ids.base else time
        return FIRST
    if first == line.expected:
        line.expected = last + 1
        _note_newest(line, time)
        return NEXT
    if first > line.expected:
        hole = Hole(line.expected, first - 1, line.last_time_ns, time, ids.safe_ns, MISSING)
        ids.opened += 1
        if not insert_hole(&line.holes, hole):
            return NO_MEMORY
        forget_oldest_hole(ids, line)
        line.expected = last + 1
        _note_newest(line, time)
        ids.touched = hole
        return AHEAD
    if last < line.start:
        # Older than the beginning: the ids in between are missing from now on.
        hole = Hole(last + 1, line.start - 1, time, line.start_ns, ids.safe_ns, MISSING)
        ids.touched = hole
        if hole.first <= hole.last:
            if not insert_hole(&line.holes, hole):
                return NO_MEMORY
            forget_oldest_hole(ids, line)
        line.start = first
        line.start_ns = time
        ids.begun_before_ns = line.begun_ns
        line.begun_ns = min(line.begun_ns, time)
        return FILLS
    at = find_hole(&line.holes, first)
    if at < 0 or line.holes.nodes[at].hole.first > last:
        if first < line.start or last >= line.expected:
            return OVERLAP
        return FORGOTTEN if first < line.forgotten else DUPLICATE
    hole = line.holes.nodes[at].hole
    if first < hole.first or last > hole.last:
        return OVERLAP
    ids.touched = hole
    if hole.kind == SEAM:
        return _enter_seam(ids, run.columns.symbol_id[row], first, last, time)
    front = behind = hole
    front.last, front.until_ns = first - 1, time
    behind.first, behind.since_ns = last + 1, time
    if not min(hole.since_ns, hole.until_ns) <= time <= max(hole.since_ns, hole.until_ns):
        # What is left of it reaches further, to bars that may have been let go.
        front.safe_ns = behind.safe_ns = max(hole.safe_ns, ids.safe_ns)
    if front.first <= front.last:
        replace_hole(&line.holes, hole.first, &front)
        if behind.first <= behind.last:
            if not insert_hole(&line.holes, behind):
                return NO_MEMORY
            forget_oldest_hole(ids, line)
    elif behind.first <= behind.last:
        replace_hole(&line.holes, hole.first, &behind)
    else:
        remove_hole(&line.holes, hole.first)
    return FILLS


cdef Verdict _enter_seam(
    Ids *ids, int32_t symbol_id, int64_t first, int64_t last, int64_t time_ns
) noexcept nogil:
    # (The seam is `touched`.) A trade of the older series behind its newest one so far, or of the later series before its
    # first one: the seam is shorter from here on, and what lies between this trade and its series is missing. One key of a
    # seam is nobody's.
    cdef Line *line = &ids.lines[symbol_id]
    cdef Anew *anew = ids.renewed.of[symbol_id]
    cdef Hole seam = ids.touched, missing
    cdef int32_t j = anew.series_count - 1
    if not min(seam.since_ns, seam.until_ns) <= time_ns <= max(seam.since_ns, seam.until_ns):
        seam.safe_ns = max(seam.safe_ns, ids.safe_ns)
    while j > 0 and anew.series[j].limit >= seam.last:
        j -= 1
    if last <= anew.series[j].limit:
        missing = Hole(seam.first, first - 1, anew.series[j].newest_ns, time_ns, seam.safe_ns, MISSING)
        seam.first, seam.since_ns = last + 1, max(seam.since_ns, time_ns)
        anew.series[j].newest_ns = time_ns
    else:
        missing = Hole(last + 1, seam.last, time_ns, seam.until_ns, seam.safe_ns, MISSING)
        seam.last, seam.until_ns = first - 1, time_ns
    replace_hole(&line.holes, ids.touched.first, &seam)
    if missing.first <= missing.last:
        if not insert_hole(&line.holes, missing):
            return NO_MEMORY
        forget_oldest_hole(ids, line)
    return FILLS


cdef bint was_seen(const Ids *ids, int32_t symbol_id, int64_t first, int64_t last) noexcept nogil:
    # All of these ids, of the latest series.
    cdef const Line *line = &ids.lines[symbol_id]
    cdef int32_t at = find_hole(&line.holes, first)
    return max(line.start, line.forgotten) <= first and last < line.expected and (
        at < 0 or line.holes.nodes[at].hole.first > last
    )


cdef bint is_newest(const Ids *ids, const Pass *run, Py_ssize_t row) noexcept nogil:
    # Whether a row's ids are behind all that have come, of a symbol that has some.
    cdef int64_t expected = _expected(ids, run.columns.symbol_id[row])
    return expected != UNSEEN and run.first[row] >= expected


cdef bint leave_missing(Ids *ids, const Pass *run, Py_ssize_t row) noexcept nogil:
    # No bar can take the trade that has just shrunk the hole `touched`: undoes that. False: there is no memory.
    cdef Line *line = &ids.lines[run.columns.symbol_id[row]]
    cdef Hole hole = ids.touched
    cdef int32_t at
    if run.last[row] < hole.first:      # older than the beginning
        remove_hole(&line.holes, hole.first)
        line.start, line.start_ns, line.begun_ns = hole.last + 1, hole.until_ns, ids.begun_before_ns
        return True
    at = find_hole(&line.holes, hole.first)
    while at >= 0 and line.holes.nodes[at].hole.last <= hole.last:
        remove_hole(&line.holes, line.holes.nodes[at].hole.first)
        at = find_hole(&line.holes, hole.first)
    return insert_hole(&line.holes, hole)


cdef bint reach_back(Ids *ids, int symbol_id, int64_t last_id, int64_t time_ns) except -1:
    # A trade before the beginning is known: what lies between them is a hole. That trade itself is in no bar, so
    # that whoever reaches further back has it in the next hole. False: it is no such trade.
    cdef Line *line = &ids.lines[symbol_id]
    if line.expected == UNSEEN or last_id >= line.start:
        return False
    ids.touched = Hole(last_id + 1, line.start - 1, time_ns, line.start_ns, ids.safe_ns, MISSING)
    if ids.touched.first <= ids.touched.last:
        if not insert_hole(&line.holes, ids.touched):
            raise MemoryError
        ids.opened += 1
        forget_oldest_hole(ids, line)
    line.start = last_id + 1
    line.start_ns = time_ns
    line.begun_ns = min(line.begun_ns, time_ns)
    return True


cdef bint leave_out(Ids *ids, int symbol_id, int64_t first, int64_t last) except -1:
    # What is missing of these ids is unpublished from here on, and `touched` reaches over all holes that had some of
    # it. False: nothing was missing.
    cdef Line *line = &ids.lines[symbol_id]
    cdef Hole hole, part, rest
    cdef int32_t at = find_hole(&line.holes, first)
    cdef bint found = False
    ids.touched.since_ns, ids.touched.until_ns = HIGHEST, LOWEST
    while at >= 0 and line.holes.nodes[at].hole.first <= last:
        hole = line.holes.nodes[at].hole
        if hole.kind == MISSING:
            found = True
            ids.touched.since_ns = min(ids.touched.since_ns, min(hole.since_ns, hole.until_ns))
            ids.touched.until_ns = max(ids.touched.until_ns, max(hole.since_ns, hole.until_ns))
            part = hole
            part.first, part.last = max(hole.first, first), min(hole.last, last)
            part.kind = UNPUBLISHED
            part.safe_ns = HIGHEST  # no bar is kept for it
            replace_hole(&line.holes, hole.first, &part)
            rest = hole
            rest.last = part.first - 1
            if rest.first <= rest.last and not insert_hole(&line.holes, rest):
                raise MemoryError
            rest = hole
            rest.first = part.last + 1
            if rest.first <= rest.last and not insert_hole(&line.holes, rest):
                raise MemoryError
        at = find_hole(&line.holes, hole.last + 1)
    while line.holes.count > ids.most_holes:
        forget_oldest_hole(ids, line)
    return found


cdef bint in_doubt(const Ids *ids, int symbol_id, int64_t open_time, int64_t close_time) noexcept nogil:
    # Does a hole reach into [open_time, close_time)?
    cdef const Line *line = &ids.lines[symbol_id]
    return open_time <= line.forgotten_until_ns or any_reaches(&line.holes, open_time, close_time)


cdef bint lacks(
    const Ids *ids, int symbol_id, int64_t open_time, int64_t close_time, int64_t below, int64_t *missing, int64_t *unpublished
) noexcept nogil:
    # Likewise, but for holes of unpublished ids, and for those that begin at an id or behind it. Adds up how many trades are missing in it, and how many ids are
    # unpublished: UNKNOWN where such a hole reaches over its border.
    cdef const Line *line = &ids.lines[symbol_id]
    cdef Reaching found = Reaching(0, 0, False, True, True)
    cdef bint forgotten = open_time <= line.forgotten_until_ns
    add_reaching(&line.holes, open_time, close_time, below, &found)
    missing[0] = UNKNOWN if forgotten or not found.known else missing[0] + found.missing
    unpublished[0] = unpublished[0] + found.unpublished if found.published else UNKNOWN
    return found.lacking or forgotten


cdef bint was_reached(const Ids *ids, int64_t open_time, int64_t close_time) noexcept nogil:
    # Whether the hole at hand reached into an interval all the time since its bar was, or would have been, closed.
    return (
        min(ids.touched.since_ns, ids.touched.until_ns) < close_time
        and max(ids.touched.since_ns, ids.touched.until_ns) >= open_time
        and close_time >= ids.touched.safe_ns
    )


cdef bint is_missing(
    Ids *ids, int32_t symbol_id, int64_t first, int64_t last, int64_t time_ns, int64_t slack_ns
) noexcept nogil:
    # Whether all these ids lie in one hole, which is `touched` then, and the time of their trades not much outside of it.
    cdef const Line *line = &ids.lines[symbol_id]
    cdef int32_t at = find_hole(&line.holes, first)
    cdef const Hole *hole
    if at < 0:
        return False
    hole = &line.holes.nodes[at].hole
    if not (hole.kind != SEAM and hole.first <= first and last <= hole.last):
        return False
    ids.touched = hole[0]
    return (
        min(hole.since_ns, hole.until_ns) - slack_ns <= time_ns <= max(hole.since_ns, hole.until_ns) + slack_ns
    )


@cython.final
cdef class Ledger:
    def __cinit__(self, int most_holes=MOST_HOLES, first_id=None):
        if most_holes < 1:
            raise ValueError(f"most_holes {most_holes} is less than 1")
        if first_id is not None and first_id < 0:
            raise ValueError(f"first_id {first_id} is negative")
        self.ids.base = NO_BASE if first_id is None else first_id
        self.ids.lines = NULL
        self.ids.capacity = 0
        self.spare = NULL
        self.spare_count = 0
        self.ids.most_holes = most_holes
        self.ids.safe_ns = LOWEST
        self.ids.tip_ids = NULL
        self.ids.renewed.of = self.spare_anew = NULL
        self.ids.renewed.strays = NULL

    def __dealloc__(self):
        cdef Py_ssize_t i
        for i in range(self.ids.capacity):
            free(self.ids.lines[i].holes.nodes)
        free(self.ids.lines)
        free_all(self.ids.renewed.of, self.ids.capacity)
        free(self.ids.renewed.strays)
        self.forget_saved()

    cdef int check_unused(self) except -1:
        if self.busy:
            raise RuntimeError("the ledger's kernel is in use by another thread")
        return 0

    cdef int reserve(self, Py_ssize_t symbols) except -1:
        cdef Py_ssize_t i, capacity
        cdef Line *grown
        cdef Anew **anew
        if symbols > self.ids.capacity:
            capacity = max(symbols, 2 * self.ids.capacity)
            grown = <Line *>realloc(self.ids.lines, capacity * sizeof(Line))
            if grown is NULL:
                raise MemoryError
            self.ids.lines = grown
            for i in range(self.ids.capacity, capacity):
                _set_up(&grown[i])
            anew = <Anew **>realloc(self.ids.renewed.of, capacity * sizeof(Anew *))
            if anew is NULL:
                raise MemoryError
            self.ids.renewed.of = anew
            for i in range(self.ids.capacity, capacity):
                anew[i] = NULL
            self.ids.capacity = capacity
        return 0

    @property
    def opened(self):
        return self.ids.opened

    def holes(self, int symbol_id, int64_t first=0, int64_t last=HIGHEST, bint unpublished=False):
        cdef int32_t at
        cdef Hole hole
        cdef const Line *line
        self.check_unused()
        if not 0 <= symbol_id < self.ids.capacity:
            return []
        line = &self.ids.lines[symbol_id]
        kind = UNPUBLISHED if unpublished else MISSING
        found = []
        at = find_hole(&line.holes, first)
        while at >= 0 and line.holes.nodes[at].hole.first <= last:
            hole = line.holes.nodes[at].hole
            if hole.kind == kind:
                found.append((hole.first, hole.last, hole.since_ns, hole.until_ns))
            at = find_hole(&line.holes, hole.last + 1)
        if kind == MISSING and line.start < 0:
            found += self._older_holes(symbol_id, first, last)
        return found

    cdef list _older_holes(self, int symbol_id, int64_t first, int64_t last):
        # Those of the series before the latest one, by its ids; where the latest has come that far, its ids mean others.
        cdef const Line *line = &self.ids.lines[symbol_id]
        cdef const Anew *anew = self.ids.renewed.of[symbol_id]
        cdef const Series *series
        cdef Hole hole
        cdef int32_t at
        cdef int64_t low, high
        found = []
        if anew is NULL or anew.series_count == 0:
            return found
        catch_up(&self.ids, symbol_id)
        series = &anew.series[anew.series_count - 1]
        at = oldest_hole(&line.holes, 0xff)
        while at >= 0 and line.holes.nodes[at].hole.first <= series.limit:
            hole = line.holes.nodes[at].hole
            at = find_hole(&line.holes, hole.last + 1)
            if anew.series_count > 1 and hole.first <= anew.series[anew.series_count - 2].limit:
                continue
            low, high = hole.first + series.offset, hole.last + series.offset
            if hole.kind == MISSING and max(line.expected, first) <= low <= last:
                found.append((low, high, hole.since_ns, hole.until_ns))
        return found

    cdef void clear(self) noexcept nogil:
        cdef Py_ssize_t i
        for i in range(self.ids.capacity):
            free(self.ids.lines[i].holes.nodes)
            _set_up(&self.ids.lines[i])
            free(self.ids.renewed.of[i])
            self.ids.renewed.of[i] = NULL
        self.ids.renewed.count = self.ids.renewed.waiting = 0
        self.ids.renewed.begun = self.ids.renewed.stray_count = 0

    cdef int save(self) except -1:
        cdef Py_ssize_t i
        self.forget_saved()
        self.spare = <Line *>calloc(max(self.ids.capacity, 1), sizeof(Line))
        if self.spare is NULL:
            raise MemoryError
        self.spare_count = self.ids.capacity
        for i in range(self.ids.capacity):
            self.spare[i] = self.ids.lines[i]
            begin_holes(&self.spare[i].holes)
        for i in range(self.ids.capacity):
            if not copy_holes(&self.spare[i].holes, &self.ids.lines[i].holes):
                self.forget_saved()
                raise MemoryError
        self.spare_begun = self.ids.renewed.begun
        if self.ids.renewed.count:
            self.spare_anew = <Anew **>calloc(max(self.ids.capacity, 1), sizeof(Anew *))
            for i in range(self.ids.capacity):
                if self.spare_anew is not NULL and self.ids.renewed.of[i] is not NULL:
                    self.spare_anew[i] = <Anew *>malloc(sizeof(Anew))
                    if self.spare_anew[i] is not NULL:
                        self.spare_anew[i][0] = self.ids.renewed.of[i][0]
                if self.spare_anew is NULL or (self.spare_anew[i] is NULL and self.ids.renewed.of[i] is not NULL):
                    self.forget_saved()
                    raise MemoryError
        return 0

    cdef void restore(self) noexcept:
        cdef Py_ssize_t i
        for i in range(self.ids.capacity):
            free(self.ids.lines[i].holes.nodes)
        free(self.ids.lines)
        for i in range(self.ids.capacity):      # those of before the batch: others are new with it
            free(self.ids.renewed.of[i])
            self.ids.renewed.of[i] = NULL
        self.ids.renewed.count = self.ids.renewed.waiting = 0
        for i in range(self.spare_count):
            if self.spare_anew is not NULL and self.spare_anew[i] is not NULL:
                self.ids.renewed.of[i] = self.spare_anew[i]
                self.ids.renewed.count += 1
                self.ids.renewed.waiting += self.spare_anew[i].waiting_count > 0
        free(self.spare_anew)
        self.spare_anew = NULL
        self.ids.renewed.begun, self.ids.renewed.stray_count = self.spare_begun, 0
        self.ids.lines = self.spare
        self.ids.capacity = self.spare_count
        self.spare = NULL
        self.spare_count = 0

    cdef void forget_saved(self) noexcept:
        cdef Py_ssize_t i
        for i in range(self.spare_count):
            free(self.spare[i].holes.nodes)
        free_all(self.spare_anew, self.spare_count)
        self.spare_anew = NULL
        free(self.spare)
        self.spare = NULL
        self.spare_count = 0

    def dump(self, Py_ssize_t symbols):
        cdef Py_ssize_t i
        self.check_unused()
        if not 0 <= symbols <= self.ids.capacity:
            raise IndexError(f"the ledger has {self.ids.capacity} symbols, not {symbols}")
        cdef Line line
        cdef bytes listed
        lines, holes, anew = [], [], []
        for i in range(symbols):
            if self.ids.renewed.of[i] is not NULL:
                anew.append(PyBytes_FromStringAndSize(<char *>&i, sizeof(i)))
                anew.append(PyBytes_FromStringAndSize(<char *>self.ids.renewed.of[i], sizeof(Anew)))
            line = self.ids.lines[i]
            listed = PyBytes_FromStringAndSize(NULL, line.holes.count * sizeof(Hole))
            list_holes(&line.holes, <Hole *>PyBytes_AS_STRING(listed))
            holes.append(listed)
            line.holes.nodes = NULL
            line.holes.root = line.holes.free = -1
            line.holes.capacity = 0
            lines.append(PyBytes_FromStringAndSize(<char *>&line, sizeof(Line)))
        parts = {"lines": b"".join(lines), "holes": b"".join(holes), "ledger": [sizeof(Line), sizeof(Hole), self.ids.opened]}
        if anew:    # mostly no ids ever began anew
            parts |= {"series": b"".join(anew), "begun": self.ids.renewed.begun}
        return parts

    def load(self, dict parts not None, Py_ssize_t symbols):
        cdef Py_ssize_t i
        cdef int64_t total = 0
        cdef int32_t h, count
        cdef const Hole *listed
        cdef Line *lines
        cdef bytes given = _bytes_of(parts, "lines"), holes = _bytes_of(parts, "holes")
        self.check_unused()
        counters = parts.get("ledger")
        if type(counters) is not list or counters[:2] != [sizeof(Line), sizeof(Hole)] or len(counters) != 3 or (
            symbols < 0 or len(given) != symbols * sizeof(Line)
        ):
            raise ValueError("the snapshot's ledger is not laid out as that of this build")
        if type(counters[2]) is not int or not 0 <= counters[2] < 1 << 62:
            raise ValueError("the snapshot's ledger does not say how many holes there were")
        series, begun = parts.get("series", b""), parts.get("begun", 0)
        if type(series) is not bytes or type(begun) is not int or not 0 <= begun < 1 << 62:
            raise ValueError("the snapshot's ledger does not say which ids began anew")
        self.reserve(symbols)
        lines = <Line *>malloc(max(symbols, <Py_ssize_t>1) * sizeof(Line))
        if lines is NULL:
            raise MemoryError
        memcpy(lines, <const char *>given, len(given))
        for i in range(symbols):
            lines[i].holes.nodes = NULL
        try:
            for i in range(symbols):
                if not 0 <= lines[i].holes.count <= self.ids.most_holes:
                    raise ValueError(f"the snapshot's ledger has {lines[i].holes.count} holes of symbol {i}")
                total += lines[i].holes.count
            if total * <int64_t>sizeof(Hole) != len(holes):
                raise ValueError("the snapshot's ledger has other holes than it says")
            listed = <const Hole *><const char *>holes
            for i in range(symbols):
                count = lines[i].holes.count
                begin_holes(&lines[i].holes)
                if not _is_sound(&lines[i], listed, count):
                    raise ValueError(f"the snapshot's ledger of symbol {i} contradicts itself")
                for h in range(count):
                    if not insert_hole(&lines[i].holes, listed[h]):
                        raise MemoryError
                listed += count
            self._take_anew(series, symbols)
            for i in range(symbols):
                if not self._knows_series(&lines[i], i):
                    self.clear()
                    raise ValueError(f"the snapshot's series of symbol {i} are not those of its ids")
            self.ids.renewed.begun = begun
            for i in range(symbols):  # nothing fails from here on
                free(self.ids.lines[i].holes.nodes)
                self.ids.lines[i] = lines[i]
                lines[i].holes.nodes = NULL
            self.ids.opened = counters[2]
        finally:
            for i in range(symbols):
                free(lines[i].holes.nodes)
            free(lines)

    cdef bint _knows_series(self, const Line *line, Py_ssize_t symbol_id) noexcept:
        # Whoever has ids of older series has these.
        cdef const Anew *anew = self.ids.renewed.of[symbol_id]
        cdef bint older = LOWEST < line.start < 0 or kinds_of(&line.holes) & 1 << SEAM
        return not older or (anew is not NULL and anew.series_count > 0)

    cdef int _take_anew(self, bytes given, Py_ssize_t symbols) except -1:
        # Of a snapshot: the symbols whose ids began anew, or may be about to; for each its number and an Anew.
        cdef Py_ssize_t at, s, behind = -1, each = sizeof(Py_ssize_t) + sizeof(Anew)
        cdef Anew anew
        if len(given) % each:
            raise ValueError("the snapshot's series are not laid out as those of this build")
        for at in range(0, len(given), each):
            memcpy(&s, <const char *>given + at, sizeof(s))
            memcpy(&anew, <const char *>given + at + sizeof(s), sizeof(Anew))
            if not behind < s < symbols or not is_sound_anew(&anew, s):
                self.clear()
                raise ValueError(f"the snapshot's series of symbol {s} contradict each other")
            if new_anew(&self.ids.renewed, <int32_t>s) is NULL:
                raise MemoryError
            self.ids.renewed.of[s][0] = anew
            self.ids.renewed.waiting += anew.waiting_count > 0
            behind = s
        return 0

    def missing(self, int symbol_id):
        return [(first, last) for first, last, _, _ in self.holes(symbol_id)]

    @property
    def begun(self):
        return self.ids.renewed.begun

    def begun_since(self, int64_t number):
        cdef Py_ssize_t i
        self.check_unused()
        found = []
        for i in range(self.ids.capacity if self.ids.renewed.count else 0):
            if self.ids.renewed.of[i] is not NULL and self.ids.renewed.of[i].number > number:
                catch_up(&self.ids, i)
                found.append((
                    self.ids.renewed.of[i].number, i, self.ids.renewed.of[i].old_id, self.ids.renewed.of[i].new_id,
                    self.ids.lines[i].expected, self.ids.renewed.of[i].since_ns))
        return [each[1:] for each in sorted(found)]

    def expected(self, int symbol_id):
        self.check_unused()
        if not 0 <= symbol_id < self.ids.capacity or self.ids.lines[symbol_id].expected == UNSEEN:
            return None
        catch_up(&self.ids, symbol_id)
        return self.ids.lines[symbol_id].expected
