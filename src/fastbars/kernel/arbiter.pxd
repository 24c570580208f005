from libc.stdint cimport int8_t, int32_t, int64_t, uint32_t

from fastbars.kernel.batch cimport TickBatch
from fastbars.kernel.instruments cimport Scale

cdef enum:
    LINES = 8

cdef struct Held:               # a row that waits for those before it
    int64_t since_ns
    int64_t time_ns
    int64_t price
    int64_t size
    int64_t first
    int64_t last
    int64_t first_id
    int64_t last_id
    int64_t count
    Scale scale
    int8_t side

cdef struct Arrival:            # where and when a trade came first
    int64_t id
    int64_t time_ns             # of the trade: where ids begin anew, another one can have the same id
    int64_t at_ns
    int32_t line
    uint32_t seen               # a bit for each line that has delivered it

cdef struct Symbol:
    int64_t expected            # the next id that goes on
    int64_t passed[LINES]  # the largest id of each line
    int64_t since_ns            # time of the first trade of its latest series of ids; LOWEST where they did not begin anew
    Arrival *arrivals
    Held *held                  # by id, from held_start on
    int32_t held_start
    int32_t held_count
    int32_t held_capacity

cdef struct Count:
    int64_t first
    int64_t again
    int64_t missed
    int64_t lead_ns
    int64_t led

cdef class Arbiter:
    cdef TickBatch out
    cdef Symbol *symbols
    cdef Py_ssize_t capacity
    cdef int lines
    cdef uint32_t all_seen      # a bit for each line
    cdef int64_t wait_ns
    cdef Count counts[LINES]
    cdef list waiting           # symbols with rows held back, in the order in which they began to wait
    cdef set turned             # symbols that began or ceased to wait since somebody took these
    cdef readonly Py_ssize_t held
    cdef readonly bint deferred  # rows were left out whose scale did not fit others of their symbol: call again
    cdef readonly int64_t duplicates
    cdef int _reserve(self, Py_ssize_t symbols) except -1
    cpdef TickBatch take(self, TickBatch batch, int line, int64_t now_ns)
    cpdef TickBatch expire(self, int64_t now_ns)
    cpdef bint holds(self, int symbol_id) noexcept
    cpdef int begin_anew(self, int symbol_id, int64_t expected, int64_t since_ns) except -1
    cdef int _begin(self, Py_ssize_t rows) except -1
    cdef int _place(self, TickBatch batch, Py_ssize_t row, int line, int64_t now_ns) except -1
    cdef int _judge(self, TickBatch batch, Py_ssize_t row, int line, int64_t now_ns) except -1
    cdef bint _arrives(
        self, Symbol *symbol, int64_t first, int64_t last, int64_t time_ns, int line, int64_t now_ns) except -1
    cdef int _hold(self, Symbol *symbol, int32_t s, Held held) except -1
    cdef int _release(self, int64_t now_ns) except -1
    cdef bint _pass_older(self, Symbol *symbol, int32_t s) except -1
    cdef bint _follow(self, Symbol *symbol, int32_t s) except -1
    cdef bint _next(self, Symbol *symbol, int32_t s) except -1
    cdef bint _put(self, int32_t s, const Held *held) except -1
    cdef int _copy(self, TickBatch batch, Py_ssize_t i) except -1
