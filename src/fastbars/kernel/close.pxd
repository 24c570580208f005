from libc.stdint cimport int64_t, uint8_t

from fastbars.kernel.amend cimport BarRecords

cdef class BarClosing(BarRecords):
    cdef bint sequenced                 # a batch with sequence numbers was seen
    cdef double bound                   # no sum in here is larger
    cdef int settle(self) except -1
    cdef void roll(self, int spec, int symbol_id, int64_t time, Py_ssize_t row) noexcept nogil
    cdef void close(self, int spec, int symbol_id, Py_ssize_t row, uint8_t reason, uint8_t flags) noexcept nogil
    cdef void pass_time(
        self, int spec, int symbol_id, int64_t until, uint8_t reason, uint8_t flags, Py_ssize_t row) noexcept nogil
    cdef void pass_void(self, int tree, int symbol_id, int64_t time, Py_ssize_t row) noexcept nogil
    cdef uint8_t without_proof(self, int spec, int symbol_id, int64_t close_time, uint8_t flags) noexcept nogil
    cdef bint next_empty(self, int spec, int symbol_id, int64_t *open_time, int64_t *close_time) noexcept nogil
    cdef void issue_empty(
        self, int spec, int symbol_id, int64_t open_time, int64_t close_time, uint8_t reason, uint8_t flags,
        Py_ssize_t row) noexcept nogil
    cdef int end_bars(self, object symbol_id, Py_ssize_t behind) except -1
    cpdef int advance_watermark(self, int64_t time_ns) except -1
    cdef void note_safe(self, int symbol_id) noexcept nogil
