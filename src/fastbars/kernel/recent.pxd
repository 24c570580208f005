from libc.stdint cimport int64_t, uint8_t, uint64_t

cdef struct Digest:
    uint64_t high
    uint64_t low

cdef class RecentKeys:
    cdef Digest *table          # open addressing; two zeros are an empty place
    cdef Digest *order          # a ring: the latest `count` ones end before `at`
    cdef Py_ssize_t places
    cdef Py_ssize_t capacity
    cdef Py_ssize_t limit
    cdef Py_ssize_t count
    cdef Py_ssize_t at
    cdef bint take(self, const uint8_t *symbol, Py_ssize_t symbol_length, int64_t time_ns, const uint8_t *key,
                   Py_ssize_t key_length) except -1
    cdef void take_back(self, Py_ssize_t n) noexcept
    cdef Py_ssize_t find(self, Digest digest) noexcept
    cdef void remove(self, Digest digest) noexcept
    cdef int grow(self) except -1
