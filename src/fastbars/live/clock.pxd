from libc.stdint cimport int64_t

cdef enum:
    BUCKETS = 113               # of the histogram of delays: eight an octave, from 1 ms to 16 s

cdef class ExchangeClock:
    cdef bint knows             # a message has told the time
    cdef int64_t best_ns        # of the window at hand
    cdef int64_t previous_ns    # of the one before; LOWEST where there was none
    cdef int64_t since_ns
    cdef bint leapt
    cdef bint has_met
    cdef int64_t met_wall_ns
    cdef int64_t met_steady_ns
    cdef int64_t at(self, int64_t steady_ns) noexcept
    cdef void meet(self, int64_t wall_ns, int64_t steady_ns) noexcept
    cpdef bint leaps(self, int64_t event_time_ns, int64_t now_ns) noexcept
    cpdef void observe(self, int64_t event_time_ns, int64_t steady_ns) noexcept

cdef class TradeDelays:
    cdef bint learns            # else the grace stays as it was given
    cdef readonly int64_t grace_ns
    cdef readonly int64_t samples
    cdef int64_t counts[BUCKETS]
    cdef int64_t total
    cdef int64_t until_look
    cpdef bint add(self, int64_t delay_ns) noexcept
    cdef bint look(self) noexcept
    cpdef int64_t quantile_ns(self, double share) noexcept

cdef int64_t difference(int64_t a, int64_t b) noexcept
