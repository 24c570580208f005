from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t

cdef struct Digest:
    uint64_t high
    uint64_t low                # odd

cdef struct Key:
    Digest digest
    int64_t time_ns

cdef struct SymbolKeys:
    Key *keys                   # a ring, in the order in which they came: number n is at n & (capacity - 1)
    int64_t capacity            # 0, or a power of two
    int64_t first               # number of the oldest: so many were forgotten
    int64_t next                # number of the next one
    int64_t newest_ns
    # Where keys are that are not in the order of their times, or many of one time; NULL: there are none. See place_of.
    uint64_t *table
    int64_t odd                 # number of the last key for which there is a table

cdef class RecentKeys:
    cdef SymbolKeys *symbols
    cdef Py_ssize_t symbol_count
    cdef Py_ssize_t count
    cdef Py_ssize_t least
    cdef Py_ssize_t most
    cdef int64_t window_ns
    cdef int32_t *taken         # symbols of the keys that the message at hand has brought
    cdef Py_ssize_t taken_count
    cdef Py_ssize_t taken_capacity
    cdef void begin_message(self) noexcept
    cdef bint take(self, int32_t symbol_id, int64_t time_ns, const uint8_t *text, Py_ssize_t length) except -1
    cdef bint is_over(self, const SymbolKeys *own) noexcept
    cdef int append(self, int32_t symbol_id, Digest digest, int64_t time_ns) except -1
    cdef void take_back(self) noexcept
    cdef int grow_symbols(self, Py_ssize_t count) except -1
    cdef void swap(self, RecentKeys other) noexcept
