from libc.stdint cimport int32_t

from fastbars.kernel.batch cimport TickBatch
from fastbars.kernel.ids cimport Verdict
from fastbars.kernel.paths cimport BarPaths
from fastbars.kernel.table cimport Slot

cdef struct Fetched:            # up to which row of a batch, the slots' last lines and the records
    Py_ssize_t slots
    Py_ssize_t records

cdef class BarKernel(BarPaths):
    cdef Py_ssize_t place_count         # of `places`
    cdef Py_ssize_t longest_unchecked   # likewise, unless their sizes are larger than those before
    cdef char *copy_memory              # of a short batch whose memory is the caller's
    cdef TickBatch copy
    cdef TickBatch copy_of(self, TickBatch batch)
    cdef int fold(self, TickBatch batch) except -1
    cdef int fold_alone(self, TickBatch batch) except -1
    cdef bint fold_unchecked(self, TickBatch batch) except? False
    cdef int finish(self, TickBatch batch, double bound) except -1
    cdef tuple update_places(self, TickBatch batch, bint ends, const int32_t[::1] places)
    cdef tuple take_folded(self)
    cdef int follow_tips(self) except -1
    cdef void run(self, TickBatch batch, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
    cdef void take_unexpected(self, TickBatch batch, Py_ssize_t row) noexcept nogil
    cdef Py_ssize_t fold_tree(
        self, int tree, TickBatch batch, Py_ssize_t start, Py_ssize_t stop, bint asks) noexcept nogil
    cdef void fetch_ahead(
        self, int tree, TickBatch batch, Py_ssize_t at, Fetched *fetched, Py_ssize_t stop) noexcept nogil
    cdef void fetch_rest(self, int tree, int symbol_id) noexcept nogil
    cdef void fetch_records(self, const Slot *slot) noexcept nogil
    cdef void fold_row(self, int tree, TickBatch batch, Py_ssize_t row) noexcept nogil
    cdef void note_not_contained(self, int spec, int symbol_id) noexcept nogil
    cdef void set_limit(self, int tree, TickBatch batch, Py_ssize_t row) noexcept nogil
    cdef void heal_rows(self, TickBatch batch) noexcept nogil
    cdef Verdict resolve(self, TickBatch batch, Py_ssize_t row) noexcept nogil
