"""FrameWalker: the bytes of a connection in, its data messages out, without an object for each. Sans-I/O.

Whole data frames are read where they lie. All other bytes are handed on exactly as they came, in order, to the
protocol library, and the walker continues after them:

    between frames --whole data frame--> read it             --> between frames
                   --any other frame---> hand its bytes on   --> between frames, as long as `hand_on` says so
                   --cut frame---------> keep it             --> the next chunk completes it

Source: https://datatracker.ietf.org/doc/html/rfc6455#section-5
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

from fastbars.wire.scanner cimport TradeScanner

cdef uint64_t LONGEST = <uint64_t>1 << 62
# A kept frame's buffer larger than this is given back once the frame is read.
cdef Py_ssize_t KEPT_BYTES = 65_536


@cython.final
cdef class FrameWalker:
    def __cinit__(self, on_message, hand_on, TradeScanner scanner=None, max_size=None):
        self._on_message = on_message
        self._hand_on = hand_on
        self.scanner = scanner
        self.max_size = LONGEST if max_size is None else min(max_size, LONGEST)

    def __dealloc__(self):
        free(self.kept)

    @property
    def kept_bytes(self):
        return self.kept_length

    @property
    def buffer_bytes(self):
        return self.capacity

    def feed(self, data):
        # Anything but bytes is copied: its owner could change it meanwhile.
        cdef bytes chunk = data if type(data) is bytes else bytes(memoryview(data))
        cdef const uint8_t *start = <const uint8_t *>PyBytes_AS_STRING(chunk)
        self.walk(start, start + PyBytes_GET_SIZE(chunk))

    def stop(self):
        self.check_unused()
        if not self.done:
            self.done = True
            if self.kept_length:
                self.hand_kept_on()

    cdef int check_unused(self) except -1:
        if self.walking:
            raise RuntimeError("the walker is busy: a callback has fed it more bytes")
        return 0

    cdef int walk(self, const uint8_t *p, const uint8_t *end) except -1:
        self.check_unused()
        self.walking = True
        try:
            return self.walk_on(p, end)
        finally:
            self.walking = False

    cdef int walk_on(self, const uint8_t *p, const uint8_t *end) except -1:
        cdef fb_frame frame
        cdef int kind
        cdef Py_ssize_t count
        while p < end:
            if self.done:
                self._hand_on(PyBytes_FromStringAndSize(<const char *>p, end - p))
                return 0
            if self.handing:
                count = min(self.handing, end - p)
                self.handing -= count
                self.hand(p, count)
                p += count
                continue
            if self.kept_length:
                p += self.complete(p, end)
                continue
            kind = fb_read_frame(p, end, &frame)
            if kind == FB_WHOLE and not self.fragmented and frame.length <= self.max_size:
                count = frame.header + <Py_ssize_t>frame.length
                if end - p >= count:
                    self.message(p + frame.header, p + count, end)
                    p += count
                    continue
                kind = FB_CUT
            if kind == FB_CUT:
                self.keep(p, end - p)
                return 0
            self.begin_handing(&frame)
        return 0

    cdef Py_ssize_t complete(self, const uint8_t *p, const uint8_t *end) except -1:
        # Adds to the kept frame what it lacks; returns how many bytes of the chunk that took.
        cdef fb_frame frame
        cdef Py_ssize_t taken = 0, lacks
        cdef int kind = fb_read_frame(self.kept, self.kept + self.kept_length, &frame)
        while kind == FB_CUT:
            if p + taken == end:
                return taken
            self.keep(p + taken, 1)
            taken += 1
            kind = fb_read_frame(self.kept, self.kept + self.kept_length, &frame)
        if kind == FB_OTHER or self.fragmented or frame.length > self.max_size:
            self.begin_handing(&frame)
            self.handing -= self.kept_length
            self.hand_kept_on()
            return taken
        lacks = frame.header + <Py_ssize_t>frame.length - self.kept_length
        lacks = min(lacks, end - p - taken)
        self.keep(p + taken, lacks)
        if self.kept_length == frame.header + <Py_ssize_t>frame.length:
            lacks += taken
            try:
                self.message(self.kept + frame.header, self.kept + self.kept_length, self.kept + self.kept_length)
            finally:
                self.kept_length = 0
                self.shrink()
            return lacks
        return taken + lacks

    cdef int begin_handing(self, const fb_frame *frame) except -1:
        cdef int opcode = frame.first & 0x0F
        self.handing = frame.header + <int64_t>min(frame.length, LONGEST)
        if opcode == 0:
            self.fragmented = not frame.first & 0x80
        elif opcode <= 2 and not frame.first & 0x80:
            self.fragmented = True
        return 0

    cdef int hand(self, const uint8_t *p, Py_ssize_t count) except -1:
        if not self._hand_on(PyBytes_FromStringAndSize(<const char *>p, count)):
            self.done = True
        return 0

    cdef int hand_kept_on(self) except -1:
        cdef bytes kept = PyBytes_FromStringAndSize(<const char *>self.kept, self.kept_length)
        self.kept_length = 0
        self.shrink()
        if not self._hand_on(kept):
            self.done = True
        return 0

    cdef int message(self, const uint8_t *p, const uint8_t *end, const uint8_t *limit) except -1:
        if self.scanner is None or not self.scanner.take(p, end, limit):
            self._on_message(PyBytes_FromStringAndSize(<const char *>p, end - p))
        return 0

    cdef int keep(self, const uint8_t *p, Py_ssize_t count) except -1:
        cdef Py_ssize_t capacity = max(self.kept_length + count, min(2 * self.capacity, 2 * self.kept_length), 256)
        cdef uint8_t *grown
        if self.kept_length + count > self.capacity:
            grown = <uint8_t *>realloc(self.kept, capacity)
            if grown is NULL:
                raise MemoryError
            self.kept = grown
            self.capacity = capacity
        memcpy(self.kept + self.kept_length, p, count)
        self.kept_length += count
        return 0

    cdef void shrink(self) noexcept:
        if self.capacity > KEPT_BYTES:
            free(self.kept)
            self.kept = NULL
            self.capacity = 0
