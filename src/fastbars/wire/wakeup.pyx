"""Wakeup: one read of the socket, from its bytes to its end; in the ordinary case without a Python frame.

    a read --messages were left for Python---------------> on_payloads(them)
           --the scanner took all, and the ending is done-> nothing: no Python frame, no object
           --the scanner took all, and there is more to it> on_payloads([])

All of it happens before the read returns, so that whatever the loop runs next sees an up-to-date session.

Units: times int64 nanoseconds.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport int64_t, uint8_t

from fastbars.clocks cimport steady_ns

cdef enum:
    FULL_READ = 65_536          # bytes: a read as long may have left some behind in the socket
    BYTES_A_TURN = 200_000      # after so many without a pause the loop gets its turn, for timers and other sockets


cdef bint call_python(object owner, int64_t steady_ns) except -1:
    return owner(steady_ns)


@cython.final
cdef class Ending:
    def __cinit__(self, function):
        self.owner = function
        self.end = call_python

    def finish(self, int64_t steady_ns):
        return self.end(self.owner, steady_ns)


cdef Ending compiled_ending(object owner, end_function end):
    cdef Ending ending = Ending(owner)
    ending.end = end
    return ending


@cython.final
cdef class Wakeup:
    def __cinit__(self, list payloads not None, on_response, on_payloads, on_rest, *, Ending ending=None,
                  bint scans=False, bint rests=False):
        self.payloads = payloads
        self.on_response = on_response
        self.on_payloads = on_payloads
        self.on_rest = on_rest
        self.ending = ending
        self.scans = scans
        self.rests = rests
        self.last_receive_ns = steady_ns()

    def receive(self, data):
        cdef Py_ssize_t size = len(data)
        cdef const uint8_t *start
        cdef FrameWalker walker = self.walker
        self.last_receive_ns = steady_ns()
        self.last_read_was_full = size >= FULL_READ
        if walker is None:
            self.on_response(data)
        else:
            if not self.is_open:
                walker.stop()
            if type(data) is bytes:
                start = <const uint8_t *>PyBytes_AS_STRING(data)
                walker.walk(start, start + size)
            else:
                walker.feed(data)
        if self.payloads:
            payloads = self.payloads.copy()
            self.payloads.clear()
            self.on_payloads(payloads)
        elif self.scans and (self.ending is None or not self.ending.end(self.ending.owner, self.last_receive_ns)):
            self.on_payloads([])
        if self.last_read_was_full:
            self.bytes_this_turn += size
            if self.bytes_this_turn >= BYTES_A_TURN:
                self.bytes_this_turn = 0
                self.on_rest(True)
        else:
            self.bytes_this_turn = 0
            if self.rests and walker is not None:
                self.on_rest(False)
