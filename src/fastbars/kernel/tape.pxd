# The trades of one symbol and spec from which its bars may have to be cut again, and the state that cutting begins with.
#
# Units: times int64 ns since the epoch, UTC; prices and sizes at the scales of the symbol's bars.

from libc.stdint cimport int32_t, int64_t, int8_t, uint8_t

from fastbars.kernel.passes cimport Columns
from fastbars.kernel.paths cimport MOST_STATE_BYTES, WidenState
from fastbars.kernel.summary cimport Summary

cdef struct Mark:               # what was before the first trade of a tape
    Summary bar                 # open, or empty; in the interval of its anchor
    int64_t reached_ns
    int32_t index
    uint8_t path_lost
    char[MOST_STATE_BYTES] state

cdef struct Tape:
    Mark mark
    int64_t *time_ns            # the columns lie in one block, this one first
    int64_t *price
    int64_t *size
    int64_t *first_id           # arrival numbers where ids prove nothing
    int64_t *last_id
    int64_t *count
    int8_t *side
    Py_ssize_t rows
    Py_ssize_t capacity
    int64_t since_ns            # the symbol's latest time when it began
    int64_t filled_from         # the lowest key of what was put in since bars were cut; HIGHEST: nothing
    int64_t opened_ns           # where the interval of its first trade begins
    bint whole                  # it begins with the symbol's first trade

cdef enum:
    ROW_BYTES = 6 * sizeof(int64_t) + sizeof(int8_t)

cdef Tape *new_tape() noexcept nogil
cdef void free_tape(Tape *tape) noexcept nogil
# False: there is no memory.
cdef bint put(Tape *tape, const Columns *batch, Py_ssize_t row, bint by_id) noexcept nogil
cdef bint sort_tape(Tape *tape, const int64_t *anchors) noexcept nogil
cdef bint is_sorted(const Tape *tape, const int64_t *anchors) noexcept nogil
cdef void cut_off(Tape *tape, Py_ssize_t rows) noexcept nogil
cdef bint tape_fits(
    const Tape *tape, WidenState widen_state, int64_t price_factor, int64_t size_factor, int64_t quote_factor) noexcept nogil
cdef void widen_tape(
    Tape *tape, WidenState widen_state, int64_t price_factor, int64_t size_factor, int64_t quote_factor) noexcept nogil
cdef void add_taped(const Tape *tape, int64_t contract, double *volume, double *quote) noexcept nogil
cdef void read_tape(const Tape *tape, Columns *columns) noexcept nogil
# Of all specs and symbols: tapes[spec] is NULL where a spec has none.
cdef void clear_tapes(Tape ***tapes, int specs, Py_ssize_t symbols) noexcept
cdef list pack_tapes(Tape ***tapes, int specs, Py_ssize_t symbols)
# As parts of a snapshot, and back.
cdef dict dump_tapes(Tape ***tapes, int specs, Py_ssize_t symbols)
cdef list dumped_tapes(dict parts)
cdef int put_tapes(Tape ***tapes, list packed, int specs, Py_ssize_t symbols) except -1
