from libc.stdint cimport int32_t

from fastbars.kernel.batch cimport TickBatch
from fastbars.kernel.close cimport BarClosing
from fastbars.kernel.fold cimport Seen

cdef class BarPaths(BarClosing):
    # How the batch at hand is to be taken, by these bars and by those of time.
    cdef bint careful                   # each row is looked at alone: sums may overflow, or ids are sequenced
    cdef Py_ssize_t longest             # rows at hand whose sizes are sure to sum within 64 bits
    cdef bint unchecked                 # the batch at hand is checked row by row
    cdef Seen seen                      # of the batch at hand
    cdef bint invalid                   # a row of it breaks a rule
    cdef bint has_voids                 # some rows of it have no size: their ids are used up, and nothing was traded
    cdef const int32_t *places          # the rows of it to be folded in, ascending; NULL: all of them
    cdef bint take_unchecked(self, TickBatch batch, Py_ssize_t row) noexcept nogil
    cdef Py_ssize_t fold_path(
        self, int spec, TickBatch batch, Py_ssize_t start, Py_ssize_t stop, bint asks) noexcept nogil
    cdef void fold_path_row(self, int spec, TickBatch batch, Py_ssize_t row) noexcept nogil
