cimport cython
from libc.stdint cimport int64_t

from fastbars.wire.walker cimport FrameWalker

# Called with its owner and the time of the read.
ctypedef bint (*end_function)(object owner, int64_t steady_ns) except -1


@cython.final
cdef class Ending:
    cdef object owner
    cdef end_function end

cdef Ending compiled_ending(object owner, end_function end)


@cython.final
cdef class Wakeup:
    cdef public FrameWalker walker      # None: the handshake is not over
    cdef public bint is_open
    cdef public Ending ending
    cdef public int64_t last_receive_ns
    cdef public bint last_read_was_full
    cdef object on_response
    cdef object on_payloads
    cdef object on_rest
    cdef list payloads
    cdef bint scans
    cdef bint rests
    cdef Py_ssize_t bytes_this_turn
