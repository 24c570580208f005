from libc.stdint cimport int32_t, int64_t

from fastbars.kernel.anew cimport Anew, Renewed
from fastbars.kernel.holes cimport Hole, Holes
from fastbars.kernel.passes cimport Pass

cdef struct Line:               # one symbol
    int64_t expected            # the next id; UNSEEN before the first trade
    int64_t last_time_ns        # time of the trade before `expected`
    int64_t proven_ns           # the latest time of an id that came as the newest: up to here ids tell what is missing
    int64_t start               # ids below were never promised: the stream began here
    int64_t start_ns            # time of the trade with id `start`
    int64_t begun_ns            # ids prove the beginning of bars that open later: the lowest `start_ns` so far, or
                                # LOWEST: `start` is the first id of all
    int64_t forgotten           # ids below may lie in a hole that is no longer kept
    int64_t forgotten_until_ns  # bars that open at or before this time may lack trades of such a hole
    Holes holes

cdef enum Verdict:
    NEXT        # exactly the expected id
    FIRST       # first trade of the symbol
    AHEAD       # ids before it are missing: a hole was opened
    FILLS       # lies in a known hole, which has shrunk
    DUPLICATE   # was here before
    OVERLAP     # partly here before: neither new nor a duplicate
    FORGOTTEN   # older than the holes that are kept: it cannot be told whether it was here before
    NO_MEMORY

cdef enum:
    UNKNOWN = -1                # how many trades a bar lacks, where ids do not tell

cdef struct Ids:                # the ids of all symbols
    Line *lines
    Py_ssize_t capacity
    # Of the trades that were folded in without asking: the id after the newest one of each symbol, but for `tip_step`, and
    # its time; `tip_stride` bytes apart. NULL: all trades were asked for.
    const char *tip_ids
    const char *tip_times
    size_t tip_stride
    int64_t tip_step
    int64_t begun_before_ns     # Line.begun_ns before the last FILLS
    Hole touched                # of the last AHEAD or FILLS: the hole as it was opened, or before it shrank
    int64_t safe_ns             # of the holes that are opened from now on
    int64_t opened              # holes so far, so that who heals them sees new ones
    int32_t most_holes
    int64_t base                # the first id that a symbol has; NO_BASE: not known
    Renewed renewed


cdef void catch_up(Ids *ids, int symbol_id) noexcept nogil
cdef bint begins_with_first(const Ids *ids, int symbol_id) noexcept nogil
cdef bint takes_next(Ids *ids, const Pass *run, Py_ssize_t row) noexcept nogil
cdef Py_ssize_t advance(Ids *ids, const Pass *run, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
cdef Verdict resolve(Ids *ids, const Pass *run, Py_ssize_t row) noexcept nogil
cdef bint is_missing(
    Ids *ids, int32_t symbol_id, int64_t first, int64_t last, int64_t time_ns, int64_t slack_ns) noexcept nogil
cdef bint was_seen(const Ids *ids, int32_t symbol_id, int64_t first, int64_t last) noexcept nogil
cdef void forget_oldest_hole(const Ids *ids, Line *line) noexcept nogil
cdef bint is_newest(const Ids *ids, const Pass *run, Py_ssize_t row) noexcept nogil
cdef bint leave_missing(Ids *ids, const Pass *run, Py_ssize_t row) noexcept nogil
cdef bint reach_back(Ids *ids, int symbol_id, int64_t last_id, int64_t time_ns) except -1
cdef bint leave_out(Ids *ids, int symbol_id, int64_t first, int64_t last) except -1
cdef bint in_doubt(const Ids *ids, int symbol_id, int64_t open_time, int64_t close_time) noexcept nogil
cdef bint lacks(
    const Ids *ids, int symbol_id, int64_t open_time, int64_t close_time, int64_t below, int64_t *missing,
    int64_t *unpublished) noexcept nogil
cdef bint was_reached(const Ids *ids, int64_t open_time, int64_t close_time) noexcept nogil

cdef class Ledger:
    cdef Ids ids
    cdef Line *spare            # what `restore` goes back to
    cdef Py_ssize_t spare_count
    cdef Anew **spare_anew
    cdef int64_t spare_begun
    cdef bint is_taken          # by a kernel
    cdef bint busy              # that is at work
    cdef int check_unused(self) except -1
    cdef int reserve(self, Py_ssize_t symbols) except -1
    cdef void clear(self) noexcept nogil
    cdef int save(self) except -1
    cdef void restore(self) noexcept
    cdef void forget_saved(self) noexcept
    cdef list _older_holes(self, int symbol_id, int64_t first, int64_t last)
    cdef bint _knows_series(self, const Line *line, Py_ssize_t symbol_id) noexcept
    cdef int _take_anew(self, bytes given, Py_ssize_t symbols) except -1
