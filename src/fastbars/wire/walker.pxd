cimport cython
from libc.stdint cimport int64_t, uint8_t, uint64_t

from fastbars.wire.scanner cimport TradeScanner

cdef extern from "frames.h" nogil:
    enum:
        FB_CUT, FB_WHOLE, FB_OTHER
    ctypedef struct fb_frame:
        uint8_t first
        uint8_t header
        uint64_t length
    int fb_read_frame(const uint8_t *p, const uint8_t *end, fb_frame *frame)

@cython.final
cdef class FrameWalker:
    cdef TradeScanner scanner
    cdef object _on_message
    cdef object _hand_on
    cdef uint64_t max_size
    cdef readonly bint done         # everything is handed on from here on
    cdef bint fragmented            # within a message of several frames
    cdef int64_t handing            # bytes of the current frame still to be handed on
    cdef uint8_t *kept              # the beginning of a cut frame
    cdef Py_ssize_t kept_length
    cdef Py_ssize_t capacity
    cdef bint walking
    cdef int check_unused(self) except -1
    cdef int walk(self, const uint8_t *p, const uint8_t *end) except -1
    cdef int walk_on(self, const uint8_t *p, const uint8_t *end) except -1
    cdef Py_ssize_t complete(self, const uint8_t *p, const uint8_t *end) except -1
    cdef int begin_handing(self, const fb_frame *frame) except -1
    cdef int hand(self, const uint8_t *p, Py_ssize_t count) except -1
    cdef int hand_kept_on(self) except -1
    cdef int message(self, const uint8_t *p, const uint8_t *end, const uint8_t *limit) except -1
    cdef int keep(self, const uint8_t *p, Py_ssize_t count) except -1
    cdef void shrink(self) noexcept
