from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t

cdef struct Digest:
    uint64_t high
    uint64_t low                # odd; 0: an empty place

cdef struct Key:                # in a list, those of each symbol from the oldest to the newest
    Digest digest               # low 0: unused, in a list of its own through `newer`
    int64_t time_ns
    int32_t older               # -1: none
    int32_t newer

cdef struct SymbolKeys:
    int64_t newest_ns
    int32_t oldest              # -1: none
    int32_t newest
    int32_t count

cdef struct Taken:              # by the message at hand
    Digest digest
    int32_t symbol_id
    int32_t key

cdef struct SavedKey:
    Digest digest
    int64_t time_ns

cdef class RecentKeys:
    cdef Digest *table          # of all symbols
    cdef Py_ssize_t places
    cdef Key *keys
    cdef Py_ssize_t capacity
    cdef Py_ssize_t used        # of `keys`, those of `unused` among them
    cdef int32_t unused         # -1: none
    cdef SymbolKeys *symbols
    cdef Py_ssize_t symbol_count
    cdef Py_ssize_t count
    cdef Py_ssize_t least
    cdef Py_ssize_t most
    cdef int64_t window_ns
    cdef Taken *taken
    cdef Py_ssize_t taken_count
    cdef Py_ssize_t taken_capacity
    cdef void begin_message(self) noexcept
    cdef bint take(self, int32_t symbol_id, int64_t time_ns, const uint8_t *text, Py_ssize_t length) except -1
    cdef bint is_over(self, const SymbolKeys *own) noexcept
    cdef int append(self, int32_t symbol_id, Digest digest, int64_t time_ns) except -1
    cdef void forget(self, int32_t symbol_id, int32_t k) noexcept
    cdef void take_back(self) noexcept
    cdef Py_ssize_t find(self, Digest digest) noexcept
    cdef void remove(self, Digest digest) noexcept
    cdef int grow_table(self) except -1
    cdef int grow_symbols(self, Py_ssize_t count) except -1
    cdef void swap(self, RecentKeys other) noexcept
