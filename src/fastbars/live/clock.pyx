"""ExchangeClock and TradeDelays: the exchange's time as seen from here, and how late trades come by it.

Units: int64 nanoseconds, where a name does not say otherwise.
"""

from libc.stdint cimport int64_t

from fastbars.kernel.scaled cimport HIGHEST, LOWEST

cdef int64_t WINDOW_NS = 30_000_000_000
cdef int64_t LEAP_NS = 3_600_000_000_000

cdef enum:
    EIGHTH_MS = 125_000         # an eighth of the first bucket, ns
    ENOUGH = 1000               # samples before a grace is learned
    EVERY = 128                 # samples between two looks
    MOST_SAMPLES = 1 << 16      # then all count half, so that what was long ago fades

cdef double QUANTILE = 0.999
cdef int64_t FIRST_GRACE_NS = 1_000_000_000
cdef int64_t LEAST_GRACE_NS = 50_000_000
cdef int64_t MOST_GRACE_NS = 10_000_000_000


cdef class ExchangeClock:
    def __cinit__(self):
        self.previous_ns = LOWEST

    cpdef bint leaps(self, int64_t event_time_ns, int64_t now_ns) noexcept:
        self.leapt = difference(event_time_ns, now_ns) > LEAP_NS and not self.leapt
        return self.leapt

    cpdef void observe(self, int64_t event_time_ns, int64_t steady_ns) noexcept:
        cdef int64_t offset_ns = difference(event_time_ns, steady_ns)
        if not self.knows or difference(steady_ns, self.since_ns) > WINDOW_NS:
            self.previous_ns = self.best_ns if self.knows else LOWEST
            self.best_ns = offset_ns
            self.since_ns = steady_ns
            self.knows = True
        elif offset_ns > self.best_ns:
            self.best_ns = offset_ns

    def now_ns(self, int64_t steady_ns):
        return exchange_time(self, steady_ns) if self.knows else None

    def note_wall(self, int64_t wall_ns, steady_ns):
        if steady_ns is not None:
            self.meet(wall_ns, steady_ns)

    cdef void meet(self, int64_t wall_ns, int64_t steady_ns) noexcept:
        self.has_met = True
        self.met_wall_ns = wall_ns
        self.met_steady_ns = steady_ns

    @property
    def offset_ns(self):
        if not self.has_met or not self.knows:
            return None
        return difference(exchange_time(self, self.met_steady_ns), self.met_wall_ns)


cdef class TradeDelays:
    def __cinit__(self, int64_t grace_ns=-1):
        self.learns = grace_ns < 0
        self.grace_ns = FIRST_GRACE_NS if self.learns else grace_ns
        self.until_look = ENOUGH

    cpdef bint add(self, int64_t delay_ns) noexcept:
        cdef int64_t eighths
        cdef int octave = 0, bucket = 0
        if delay_ns > MOST_GRACE_NS:
            return False
        if delay_ns > 8 * EIGHTH_MS:
            eighths = (delay_ns - 1) // EIGHTH_MS
            while eighths >> octave >= 16:
                octave += 1
            bucket = 8 * octave + <int>(eighths >> octave) - 7
        self.counts[bucket] += 1
        self.total += 1
        self.samples += 1
        self.until_look -= 1
        return self.until_look == 0 and self.look()

    cdef bint look(self) noexcept:
        cdef int64_t before_ns = self.grace_ns
        cdef int i
        self.until_look = EVERY
        if self.learns:
            self.grace_ns = max(LEAST_GRACE_NS, min(self.quantile_ns(QUANTILE), MOST_GRACE_NS))
        if self.total >= MOST_SAMPLES:
            self.total = 0
            for i in range(BUCKETS):
                self.counts[i] //= 2
                self.total += self.counts[i]
        return self.grace_ns != before_ns

    cpdef int64_t quantile_ns(self, double share) noexcept:
        cdef double left = share * self.total
        cdef int i
        if self.total == 0:
            return 0
        for i in range(BUCKETS):
            left -= self.counts[i]
            if left <= 0:
                return EIGHTH_MS * (<int64_t>(8 + i % 8) << i // 8)
        return 0
