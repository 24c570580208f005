from libc.stdint cimport int64_t, uint8_t

from fastbars.batch cimport TickBatch
from fastbars.state cimport BarState, Slot
from fastbars.summary cimport Summary

cdef class BarKernel(BarState):
    cdef readonly bint proof            # contiguous ids stand for every trade
    cdef readonly int64_t lateness_ns
    cdef readonly int64_t watermark_ns
    cdef bint by_id
    cdef int64_t arrivals               # rows taken so far
    cdef double bound                   # no sum in here is larger
    cdef Py_ssize_t overflow_row
    cdef int fold(self, TickBatch batch) except -1
    cdef tuple take_folded(self)
    cdef void run(self, TickBatch batch) noexcept nogil
    cdef void take_unexpected(self, TickBatch batch, Py_ssize_t row) noexcept nogil
    cdef void fold_time(self, int spec, TickBatch batch, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
    cdef void fold_path(self, int spec, TickBatch batch, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
    cdef void fold_late(self, int spec, TickBatch batch, Py_ssize_t row) noexcept nogil
    cdef void roll(self, int spec, int symbol_id, int64_t time, Py_ssize_t row) noexcept nogil
    cdef void close(self, int spec, int symbol_id, Py_ssize_t row, uint8_t reason, uint8_t flags) noexcept nogil
    cdef void rejudge(self, int spec, int symbol_id, int64_t since, int64_t until, Py_ssize_t row) noexcept nogil
    cdef uint8_t judge(self, int spec, int symbol_id, const Summary *bar, uint8_t flags) noexcept nogil
    cdef int64_t event_time(self, const Slot *slot) noexcept nogil
