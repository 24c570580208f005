"""The trade-id ledger: which ids of a symbol were seen, what is missing, and between which times.

It knows ids, not bars. Ids rise by one from trade to trade (`contiguous`); a jump ahead opens a hole, a
trade inside a hole shrinks it, anything else that is old is a duplicate. A bar is in doubt while a hole
lies between two trades whose times reach into it.

The holes of a symbol are few and kept sorted by id; past `most_holes` the oldest is forgotten, and the
bars it reached into stay in doubt for good.

Trades whose id is plainly the next one need not be asked for: whoever folds them in keeps the id and time of the
newest one of each symbol (its tip), and a line catches up with its tip before it is read.

A void id is used up as that of a trade is: the ledger makes no difference. Ids that the exchange's history leaves out for
good (unpublished) stay a hole, which is counted apart and no longer listed as missing. No bar is kept for it, and it is the
first to be forgotten: its ids count as seen then.
"""

from libc.stdint cimport int32_t, int64_t, uint32_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy, memmove
from cpython.bytes cimport PyBytes_FromStringAndSize

from fastbars.kernel.batch cimport EARLIEST_NS, LATEST_NS, TickBatch
from fastbars.kernel.scaled cimport HIGHEST, LOWEST

cdef enum:
    MOST_HOLES = 4096
    LIKELY = 8

# Line.expected before the first trade: no id is negative.
cdef int64_t UNSEEN = -1


cdef void _set_up(Line *line) noexcept nogil:
    line.expected = UNSEEN
    line.last_time_ns = LOWEST
    line.start = LOWEST
    line.start_ns = LOWEST
    line.forgotten = LOWEST
    line.forgotten_until_ns = LOWEST
    line.holes = NULL
    line.hole_count = 0
    line.hole_capacity = 0


cdef bint _insert(Line *line, int32_t place, Hole hole) noexcept nogil:
    cdef int32_t capacity
    cdef Hole *grown
    if line.hole_count == line.hole_capacity:
        capacity = 4 if line.hole_capacity == 0 else 2 * line.hole_capacity
        grown = <Hole *>realloc(line.holes, capacity * sizeof(Hole))
        if grown is NULL:
            return False
        line.holes = grown
        line.hole_capacity = capacity
    memmove(&line.holes[place + 1], &line.holes[place], (line.hole_count - place) * sizeof(Hole))
    line.holes[place] = hole
    line.hole_count += 1
    return True


cdef void _remove(Line *line, int32_t place) noexcept nogil:
    line.hole_count -= 1
    memmove(&line.holes[place], &line.holes[place + 1], (line.hole_count - place) * sizeof(Hole))


# What is read from a snapshot.

cdef bytes _bytes_of(dict parts, str name):
    part = parts.get(name)
    if type(part) is not bytes:
        raise ValueError(f"the snapshot's ledger has no {name}")
    return part


cdef bint _is_time(int64_t time_ns) noexcept nogil:
    return EARLIEST_NS <= time_ns <= LATEST_NS


cdef bint _is_sound(const Line *line) noexcept nogil:
    # Whether the loops that read a line can rely on it: times are valid, holes ascend and lie below `expected`.
    cdef const Hole *hole
    cdef int64_t behind = line.start
    cdef int32_t i
    if line.expected == UNSEEN:
        return line.hole_count == 0
    if line.expected < 0 or not 0 <= line.start <= line.expected:
        return False
    if not (_is_time(line.last_time_ns) and _is_time(line.start_ns) and line.forgotten <= line.expected
            and (line.forgotten_until_ns == LOWEST or _is_time(line.forgotten_until_ns))):
        return False
    for i in range(line.hole_count):
        hole = &line.holes[i]
        if not (behind <= hole.first <= hole.last < line.expected and 0 <= hole.unpublished <= 1
                and _is_time(hole.since_ns) and _is_time(hole.until_ns)):
            return False
        behind = hole.last + 1
    return True


cdef inline bint is_missing_in(const Hole *hole, int64_t open_time, int64_t close_time) noexcept nogil:
    return not hole.unpublished and min(hole.since_ns, hole.until_ns) < close_time and max(hole.since_ns, hole.until_ns) >= open_time


cdef class Ledger:
    def __cinit__(self, int most_holes=MOST_HOLES):
        if most_holes < 1:
            raise ValueError(f"most_holes {most_holes} is less than 1")
        self.lines = NULL
        self.capacity = 0
        self.spare = NULL
        self.spare_count = 0
        self.most_holes = most_holes
        self.safe_ns = LOWEST
        self.tip_ids = NULL

    def __dealloc__(self):
        cdef Py_ssize_t i
        for i in range(self.capacity):
            free(self.lines[i].holes)
        free(self.lines)
        self.forget_saved()

    cdef int check_unused(self) except -1:
        if self.busy:
            raise RuntimeError("the ledger's kernel is in use by another thread")
        return 0

    cdef int reserve(self, Py_ssize_t symbols) except -1:
        cdef Py_ssize_t i, capacity
        cdef Line *grown
        if symbols > self.capacity:
            capacity = max(symbols, 2 * self.capacity)
            grown = <Line *>realloc(self.lines, capacity * sizeof(Line))
            if grown is NULL:
                raise MemoryError
            self.lines = grown
            for i in range(self.capacity, capacity):
                _set_up(&grown[i])
            self.capacity = capacity
        return 0

    cdef void catch_up(self, int symbol_id) noexcept nogil:
        cdef int64_t next_id
        cdef Line *line = &self.lines[symbol_id]
        if self.tip_ids is NULL:
            return
        next_id = (<const int64_t *>(self.tip_ids + symbol_id * self.tip_stride))[0] + self.tip_step
        if next_id > line.expected:
            line.expected = next_id
            line.last_time_ns = (<const int64_t *>(self.tip_times + symbol_id * self.tip_stride))[0]

    cdef bint takes_next(self, TickBatch batch, Py_ssize_t row) noexcept nogil:
        # Takes one row if it comes exactly next.
        return self.advance(batch, NULL, self.capacity, row, row + 1) > row

    cdef Py_ssize_t advance(
        self, TickBatch batch, const int32_t *places, Py_ssize_t symbols, Py_ssize_t start, Py_ssize_t stop
    ) noexcept nogil:
        # Takes the rows (of `places`, where there are some) that come exactly next; returns the first one that does not,
        # or is of no symbol, or stop.
        cdef const int64_t *first = batch.sequence if batch.sequence is not NULL else batch.first_id
        cdef const int64_t *last = batch.sequence if batch.sequence is not NULL else batch.last_id
        cdef Line *line
        cdef Py_ssize_t at = start, i, before
        cdef int64_t expected
        cdef const int64_t *tip
        cdef int32_t symbol_id
        while at < stop:
            i = at if places is NULL else places[at]
            symbol_id = batch.symbol_id[i]
            if <uint32_t>symbol_id >= <uint32_t>symbols:
                return at
            line = &self.lines[symbol_id]
            expected = line.expected
            if self.tip_ids is not NULL:
                tip = <const int64_t *>(self.tip_ids + symbol_id * self.tip_stride)
                expected = max(expected, tip[0] + self.tip_step)
            if first[i] != expected:
                self.catch_up(symbol_id)
                return at
            before = i
            at += 1
            while at < stop:
                i = at if places is NULL else places[at]
                if batch.symbol_id[i] != symbol_id or first[i] != last[before] + 1:
                    break
                before = i
                at += 1
            line.expected = last[before] + 1
            line.last_time_ns = batch.time_ns[before]
        return stop

    cdef Verdict resolve(self, TickBatch batch, Py_ssize_t row) noexcept nogil:
        cdef int64_t first = (batch.sequence if batch.sequence is not NULL else batch.first_id)[row]
        cdef int64_t last = (batch.sequence if batch.sequence is not NULL else batch.last_id)[row]
        cdef int64_t time = batch.time_ns[row]
        cdef Line *line = &self.lines[batch.symbol_id[row]]
        cdef Hole hole, behind
        cdef int32_t low
        if line.expected == UNSEEN:
            line.expected = last + 1
            line.last_time_ns = time
            line.start = first
            line.start_ns = time
            return FIRST
        if first == line.expected:
            line.expected = last + 1
            line.last_time_ns = time
            return NEXT
        if first > line.expected:
            hole = Hole(line.expected, first - 1, line.last_time_ns, time, self.safe_ns, 0)
            self.opened += 1
            if not _insert(line, line.hole_count, hole):
                return NO_MEMORY
            self.bound(line)
            line.expected = last + 1
            line.last_time_ns = time
            self.touched = hole
            return AHEAD
        if last < line.start:
            # Older than the beginning: nothing was promised, but what lies between is now missing.
            hole = Hole(last + 1, line.start - 1, time, line.start_ns, self.safe_ns, 0)
            self.touched = hole
            if hole.first <= hole.last:
                if not _insert(line, 0, hole):
                    return NO_MEMORY
                self.bound(line)
            line.start = first
            line.start_ns = time
            return FILLS
        low = self.find_hole(line, first)
        if low == line.hole_count or line.holes[low].first > last:
            if first < line.start or last >= line.expected:
                return OVERLAP
            return FORGOTTEN if first < line.forgotten else DUPLICATE
        hole = line.holes[low]
        if first < hole.first or last > hole.last:
            return OVERLAP
        self.touched = hole
        behind = Hole(last + 1, hole.last, time, hole.until_ns, hole.safe_ns, hole.unpublished)
        if not min(hole.since_ns, hole.until_ns) <= time <= max(hole.since_ns, hole.until_ns):
            # What is left of it reaches further, to bars that may have been let go.
            behind.safe_ns = max(behind.safe_ns, self.safe_ns)
            line.holes[low].safe_ns = behind.safe_ns
        if first > hole.first:
            line.holes[low].last = first - 1
            line.holes[low].until_ns = time
            if behind.first <= behind.last:
                if not _insert(line, low + 1, behind):
                    return NO_MEMORY
                self.bound(line)
        elif behind.first <= behind.last:
            line.holes[low] = behind
        else:
            _remove(line, low)
        return FILLS

    cdef bint reach_back(self, int symbol_id, int64_t last_id, int64_t time_ns) except -1:
        # A trade before the beginning is known: what lies between them is a hole. That trade itself is in no bar, so
        # that whoever reaches further back has it in the next hole. False: it is no such trade.
        cdef Line *line = &self.lines[symbol_id]
        if line.expected == UNSEEN or last_id >= line.start:
            return False
        self.touched = Hole(last_id + 1, line.start - 1, time_ns, line.start_ns, self.safe_ns, 0)
        if self.touched.first <= self.touched.last:
            if not _insert(line, 0, self.touched):
                raise MemoryError
            self.opened += 1
            self.bound(line)
        line.start = last_id + 1
        line.start_ns = time_ns
        return True

    cdef bint leave_out(self, int symbol_id, int64_t first, int64_t last) except -1:
        # What is missing of these ids is unpublished from here on, and `touched` reaches over all holes that had some of
        # it. False: nothing was missing.
        cdef Line *line = &self.lines[symbol_id]
        cdef Hole hole, part
        cdef int32_t i = self.find_hole(line, first)
        cdef bint found = False
        self.touched.since_ns, self.touched.until_ns = HIGHEST, LOWEST
        while i < line.hole_count and line.holes[i].first <= last:
            hole = line.holes[i]
            i += 1
            if hole.unpublished:
                continue
            found = self.has_unpublished = True
            self.touched.since_ns = min(self.touched.since_ns, min(hole.since_ns, hole.until_ns))
            self.touched.until_ns = max(self.touched.until_ns, max(hole.since_ns, hole.until_ns))
            part = hole
            part.first, part.last = max(hole.first, first), min(hole.last, last)
            part.unpublished = 1
            part.safe_ns = HIGHEST  # no bar is kept for it
            line.holes[i - 1] = part
            if hole.first < part.first:
                if not _insert(line, i - 1, hole):
                    raise MemoryError
                line.holes[i - 1].last = part.first - 1
                i += 1
            if part.last < hole.last:
                if not _insert(line, i, hole):
                    raise MemoryError
                line.holes[i].first = part.last + 1
        while line.hole_count > self.most_holes:
            self.bound(line)
        return found

    cdef void bound(self, Line *line) noexcept nogil:
        cdef Hole *oldest
        cdef int32_t i
        if line.hole_count > self.most_holes:
            if self.has_unpublished:
                for i in range(line.hole_count):
                    if line.holes[i].unpublished:  # its ids count as seen from here on
                        _remove(line, i)
                        return
            oldest = &line.holes[0]
            line.forgotten = max(line.forgotten, oldest.last + 1)
            line.forgotten_until_ns = max(line.forgotten_until_ns, max(oldest.since_ns, oldest.until_ns))
            _remove(line, 0)

    cdef bint in_doubt(self, int symbol_id, int64_t open_time, int64_t close_time) noexcept nogil:
        # Does a hole reach into [open_time, close_time)? Times may run backwards while ids go on.
        cdef Line *line = &self.lines[symbol_id]
        cdef int32_t i
        if open_time <= line.forgotten_until_ns:
            return True
        # Bars are asked about one after the other: the hole that reaches into one, or one of the next, is likely to
        # reach into the bar behind it too.
        for i in range(self.likely, min(self.likely + LIKELY, line.hole_count)):
            if is_missing_in(&line.holes[i], open_time, close_time):
                self.likely = i
                return True
        for i in range(line.hole_count):
            if is_missing_in(&line.holes[i], open_time, close_time):
                self.likely = i
                return True
        return False

    cdef bint lacks(
        self, int symbol_id, int64_t open_time, int64_t close_time, int64_t *missing, int64_t *unpublished
    ) noexcept nogil:
        # Likewise, but for holes of unpublished ids. Adds up how many trades are missing in it, and how many ids are
        # unpublished: UNKNOWN where such a hole reaches over its border.
        cdef Line *line = &self.lines[symbol_id]
        cdef const Hole *hole
        cdef int64_t since, until
        cdef int32_t i
        cdef bint lacking = False, known = open_time > line.forgotten_until_ns, published = True
        for i in range(line.hole_count):
            hole = &line.holes[i]
            since = min(hole.since_ns, hole.until_ns)
            until = max(hole.since_ns, hole.until_ns)
            if not (since < close_time and until >= open_time):
                continue
            if hole.unpublished:
                unpublished[0] += hole.last - hole.first + 1
                published &= open_time <= since and until < close_time
            else:
                lacking = True
                missing[0] += hole.last - hole.first + 1
                known &= open_time <= since and until < close_time
        if open_time <= line.forgotten_until_ns or not known:
            missing[0] = UNKNOWN
        if not published:
            unpublished[0] = UNKNOWN
        return lacking or open_time <= line.forgotten_until_ns

    cdef bint was_reached(self, int64_t open_time, int64_t close_time) noexcept nogil:
        # Whether the hole at hand reached into an interval all the time since its bar was, or would have been, closed.
        return (
            min(self.touched.since_ns, self.touched.until_ns) < close_time
            and max(self.touched.since_ns, self.touched.until_ns) >= open_time
            and close_time >= self.touched.safe_ns
        )

    cdef int32_t find_hole(self, const Line *line, int64_t first) noexcept nogil:
        # Place of the first hole that ends at `first` or behind it.
        cdef int32_t low = 0, high = line.hole_count, middle
        while low < high:
            middle = (low + high) // 2
            if line.holes[middle].last < first:
                low = middle + 1
            else:
                high = middle
        return low

    cdef bint is_missing(self, TickBatch batch, Py_ssize_t row, int64_t slack_ns) noexcept nogil:
        # Whether all ids of a row lie in one hole, and its time not much outside of it: with another unit, or garbage,
        # it would fill the hole and be in no bar.
        cdef int64_t first = (batch.sequence if batch.sequence is not NULL else batch.first_id)[row]
        cdef int64_t last = (batch.sequence if batch.sequence is not NULL else batch.last_id)[row]
        cdef const Line *line = &self.lines[batch.symbol_id[row]]
        cdef int32_t place = self.find_hole(line, first)
        cdef const Hole *hole = &line.holes[place]
        return place < line.hole_count and hole.first <= first and last <= hole.last and (
            min(hole.since_ns, hole.until_ns) - slack_ns <= batch.time_ns[row]
            and batch.time_ns[row] <= max(hole.since_ns, hole.until_ns) + slack_ns
        )

    def holes(self, int symbol_id, int64_t first=0, int64_t last=HIGHEST, bint unpublished=False):
        cdef int32_t i
        cdef const Line *line
        self.check_unused()
        if not 0 <= symbol_id < self.capacity:
            return []
        line = &self.lines[symbol_id]
        found = []
        i = self.find_hole(line, first)
        while i < line.hole_count and line.holes[i].first <= last:
            if line.holes[i].unpublished == unpublished:
                found.append((line.holes[i].first, line.holes[i].last, line.holes[i].since_ns, line.holes[i].until_ns))
            i += 1
        return found

    cdef void clear(self) noexcept nogil:
        cdef Py_ssize_t i
        for i in range(self.capacity):
            free(self.lines[i].holes)
            _set_up(&self.lines[i])

    cdef int save(self) except -1:
        cdef Py_ssize_t i
        self.forget_saved()
        self.spare = <Line *>calloc(max(self.capacity, 1), sizeof(Line))
        if self.spare is NULL:
            raise MemoryError
        self.spare_count = self.capacity
        for i in range(self.capacity):
            self.spare[i] = self.lines[i]
            self.spare[i].holes = NULL
        for i in range(self.capacity):
            if self.lines[i].hole_capacity > 0:
                self.spare[i].holes = <Hole *>malloc(self.lines[i].hole_capacity * sizeof(Hole))
                if self.spare[i].holes is NULL:
                    self.forget_saved()
                    raise MemoryError
                memcpy(self.spare[i].holes, self.lines[i].holes, self.lines[i].hole_count * sizeof(Hole))
        return 0

    cdef void restore(self) noexcept:
        cdef Py_ssize_t i
        for i in range(self.capacity):
            free(self.lines[i].holes)
        free(self.lines)
        self.lines = self.spare
        self.capacity = self.spare_count
        self.spare = NULL
        self.spare_count = 0

    cdef void forget_saved(self) noexcept:
        cdef Py_ssize_t i
        for i in range(self.spare_count):
            free(self.spare[i].holes)
        free(self.spare)
        self.spare = NULL
        self.spare_count = 0

    def dump(self, Py_ssize_t symbols):
        cdef Py_ssize_t i
        self.check_unused()
        if not 0 <= symbols <= self.capacity:
            raise IndexError(f"the ledger has {self.capacity} symbols, not {symbols}")
        cdef Line line
        lines, holes = [], []
        for i in range(symbols):
            line = self.lines[i]
            holes.append(PyBytes_FromStringAndSize(<char *>line.holes, line.hole_count * sizeof(Hole)))
            line.holes = NULL
            lines.append(PyBytes_FromStringAndSize(<char *>&line, sizeof(Line)))
        return {"lines": b"".join(lines), "holes": b"".join(holes), "ledger": [sizeof(Line), sizeof(Hole), self.opened]}

    def load(self, dict parts not None, Py_ssize_t symbols):
        cdef Py_ssize_t i, at = 0
        cdef int64_t total = 0
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
        self.reserve(symbols)
        lines = <Line *>malloc(max(symbols, <Py_ssize_t>1) * sizeof(Line))
        if lines is NULL:
            raise MemoryError
        memcpy(lines, <const char *>given, len(given))
        for i in range(symbols):
            lines[i].holes = NULL
        try:
            for i in range(symbols):
                if not 0 <= lines[i].hole_count <= self.most_holes:
                    raise ValueError(f"the snapshot's ledger has {lines[i].hole_count} holes of symbol {i}")
                total += lines[i].hole_count
            if total * <int64_t>sizeof(Hole) != len(holes):
                raise ValueError("the snapshot's ledger has other holes than it says")
            for i in range(symbols):
                lines[i].hole_capacity = max(lines[i].hole_count, <int32_t>1)
                lines[i].holes = <Hole *>malloc(lines[i].hole_capacity * sizeof(Hole))
                if lines[i].holes is NULL:
                    raise MemoryError
                memcpy(lines[i].holes, <const char *>holes + at, lines[i].hole_count * sizeof(Hole))
                at += lines[i].hole_count * sizeof(Hole)
                if not _is_sound(&lines[i]):
                    raise ValueError(f"the snapshot's ledger of symbol {i} contradicts itself")
            for i in range(symbols):  # nothing fails from here on
                free(self.lines[i].holes)
                self.lines[i] = lines[i]
                lines[i].holes = NULL
            self.opened = counters[2]
            self.has_unpublished = True  # there may be some in what was read
        finally:
            for i in range(symbols):
                free(lines[i].holes)
            free(lines)

    def missing(self, int symbol_id):
        self.check_unused()
        if not 0 <= symbol_id < self.capacity:
            return []
        line = &self.lines[symbol_id]
        return [
            (line.holes[i].first, line.holes[i].last) for i in range(line.hole_count) if not line.holes[i].unpublished
        ]

    def expected(self, int symbol_id):
        self.check_unused()
        if not 0 <= symbol_id < self.capacity or self.lines[symbol_id].expected == UNSEEN:
            return None
        self.catch_up(symbol_id)
        return self.lines[symbol_id].expected
