from libc.stdint cimport int32_t, int64_t, uint8_t

from fastbars.kernel.table cimport Table

cdef struct Shown:          # of an open bar: what no change of it leaves as it is; count 0: nothing was shown
    int64_t open_time
    int64_t first_id
    int64_t count
    int64_t missing
    int32_t unpublished
    uint8_t status

cdef class Progress:
    cdef Shown *shown           # [symbol][spec]
    cdef Py_ssize_t capacity    # symbols
    cdef int width              # specs
    cdef int make_room(self, Py_ssize_t symbols, int width) except -1

# Issues open bars that are not as they were shown last: of the pairs of a symbol and a spec from `first` on (symbol x specs + spec),
# at most `look`, until there are `most` rows. Returns the pair behind the last one looked at.
cdef Py_ssize_t issue_changed(Table *table, Progress progress, Py_ssize_t first, Py_ssize_t look, Py_ssize_t most) except -1
