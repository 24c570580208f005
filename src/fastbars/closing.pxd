from libc.stdint cimport int64_t, uint8_t

from fastbars.batch cimport TickBatch
from fastbars.state cimport BarState
from fastbars.summary cimport Summary

cdef enum:                      # CloseReason
    BY_TRADE
    BY_WATERMARK
    BY_CLOCK
    BY_GAP
    BY_END
    NOT_CLOSED

cdef class BarClosing(BarState):
    cdef readonly bint proof            # contiguous ids stand for every trade
    cdef readonly int64_t lateness_ns
    cdef readonly int64_t watermark_ns
    cdef bint sequenced                 # a batch with sequence numbers was seen
    cdef int64_t arrivals               # rows taken so far
    cdef int64_t event_ns               # event time of the symbol at hand, before the row at hand
    cdef double bound                   # no sum in here is larger
    cdef Py_ssize_t overflow_row
    cdef int settle(self) except -1
    cdef void overflowed(self, Py_ssize_t row) noexcept nogil
    cdef void roll(self, int spec, int symbol_id, int64_t time, Py_ssize_t row) noexcept nogil
    cdef void close(self, int spec, int symbol_id, Py_ssize_t row, uint8_t reason, uint8_t flags) noexcept nogil
    cdef bint fold_late(self, int spec, TickBatch batch, Py_ssize_t row) noexcept nogil
    cdef void rejudge(self, int spec, int symbol_id, int64_t since, int64_t until, Py_ssize_t row) noexcept nogil
    cdef uint8_t judge(self, int spec, int symbol_id, const Summary *bar, uint8_t flags) noexcept nogil
    cdef int64_t event_time(self, int tree, int symbol_id) noexcept nogil
    cdef bint is_open(self, int spec, int symbol_id) noexcept nogil
