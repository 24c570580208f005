from libc.stdint cimport int64_t

from fastbars.kernel.scaled cimport HIGHEST, LOWEST

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


cdef inline int64_t difference(int64_t a, int64_t b) noexcept:
    # a - b, as far as an int64 reaches.
    if b < 0:
        return a - b if a <= HIGHEST + b else HIGHEST
    return a - b if a >= LOWEST + b else LOWEST


cdef inline int64_t exchange_time(ExchangeClock clock, int64_t steady_ns) noexcept:
    # Only where the clock `knows` it.
    return difference(steady_ns, -max(clock.best_ns, clock.previous_ns, LOWEST + 1))
