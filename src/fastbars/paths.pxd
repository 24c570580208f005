from fastbars.batch cimport TickBatch
from fastbars.closing cimport BarClosing
from fastbars.fold cimport Columns

cdef class BarPaths(BarClosing):
    cdef bint careful                   # each row is looked at alone: sums may overflow, or ids are sequenced
    cdef Py_ssize_t longest             # rows at hand whose sizes are sure to sum within 64 bits
    cdef void fold_path(self, int spec, TickBatch batch, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
    cdef Py_ssize_t fold_path_stretch(
        self, int spec, const Columns *columns, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
    cdef void fold_path_row(self, int spec, TickBatch batch, Py_ssize_t row) noexcept nogil
