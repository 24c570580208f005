"""RecentKeys: whether a trade was seen before, where its id is unique but no number that rises.

Units: keys, of which at most `limit` are remembered, the latest ones; times int64 nanoseconds.
"""

from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    #if defined(_MSC_VER) && !defined(__SIZEOF_INT128__)
    #include <intrin.h>
    static uint64_t fb_fold(uint64_t a, uint64_t b) {
        uint64_t high, low = _umul128(a, b, &high);
        return high ^ low;
    }
    #else
    static uint64_t fb_fold(uint64_t a, uint64_t b) {
        unsigned __int128 product = (unsigned __int128)a * b;
        return (uint64_t)(product >> 64) ^ (uint64_t)product;
    }
    #endif
    static void fb_mix(uint64_t *high, uint64_t *low, uint64_t word) {
        /* Two lanes of folded products with odd constants; a lane that a zero has emptied goes on from its rotation. */
        *high = ((*high << 23) | (*high >> 41)) ^ fb_fold(word ^ 0xC2B2AE3D27D4EB4FULL, *high + 0x9E3779B97F4A7C15ULL);
        *low = ((*low << 37) | (*low >> 27)) ^ fb_fold(word + 0xD6E8FEB86659FD93ULL, *low ^ 0xA0761D6478BD642FULL);
    }
    static void fb_mix_text(uint64_t *high, uint64_t *low, const uint8_t *text, size_t length) {
        uint64_t word;
        size_t left = length;
        for (; left >= 8; left -= 8, text += 8) {
            memcpy(&word, text, 8);
            fb_mix(high, low, word);
        }
        word = 0;
        memcpy(&word, text, left);
        fb_mix(high, low, word);
        fb_mix(high, low, length);
    }
    """
    void fb_mix(uint64_t *high, uint64_t *low, uint64_t word) nogil
    void fb_mix_text(uint64_t *high, uint64_t *low, const uint8_t *text, size_t length) nogil


cdef class RecentKeys:
    def __cinit__(self, Py_ssize_t limit=1 << 17):
        if limit < 1:
            raise ValueError(f"limit must be positive, got {limit}")
        self.limit = limit

    def __dealloc__(self):
        free(self.table)
        free(self.order)

    def __len__(self):
        return self.count

    def add(self, str symbol not None, str key not None, int64_t time_ns=0):
        cdef Py_ssize_t symbol_length, key_length
        cdef const char *symbol_text = PyUnicode_AsUTF8AndSize(symbol, &symbol_length)
        cdef const char *key_text = PyUnicode_AsUTF8AndSize(key, &key_length)
        return self.take(<const uint8_t *>symbol_text, symbol_length, time_ns, <const uint8_t *>key_text, key_length)

    cdef bint take(self, const uint8_t *symbol, Py_ssize_t symbol_length, int64_t time_ns, const uint8_t *key,
                   Py_ssize_t key_length) except -1:
        cdef Digest digest
        cdef Py_ssize_t place
        digest.high = 0x8EBC6AF09C88C6E3
        digest.low = 0x589965CC75374CC3
        fb_mix_text(&digest.high, &digest.low, symbol, <size_t>symbol_length)
        fb_mix(&digest.high, &digest.low, <uint64_t>time_ns)
        fb_mix_text(&digest.high, &digest.low, key, <size_t>key_length)
        digest.low |= 1  # never two zeros
        if self.count < self.limit and 2 * (self.count + 1) > self.places:
            self.grow()
        place = self.find(digest)
        if self.table[place].low:
            return False
        if self.count == self.limit:
            self.remove(self.order[self.at])
            place = self.find(digest)
        else:
            self.count += 1
        self.table[place] = digest
        self.order[self.at] = digest
        self.at = self.at + 1 if self.at + 1 < self.capacity else 0
        return True

    cdef void take_back(self, Py_ssize_t n) noexcept:
        # Forgets the latest n again, where the message that they came in is not taken after all.
        cdef Py_ssize_t k
        for k in range(min(n, self.count)):
            self.at = self.at - 1 if self.at else self.capacity - 1
            self.remove(self.order[self.at])
            self.count -= 1

    cdef Py_ssize_t find(self, Digest digest) noexcept:
        # Where it is, or the empty place where it would be.
        cdef Py_ssize_t place = <Py_ssize_t>(digest.high & <uint64_t>(self.places - 1))
        while self.table[place].low and not (self.table[place].high == digest.high
                                             and self.table[place].low == digest.low):
            place = (place + 1) & (self.places - 1)
        return place

    cdef void remove(self, Digest digest) noexcept:
        # Those behind it move up, so that no search ends too early.
        cdef Py_ssize_t hole = self.find(digest), place = hole, home
        if not self.table[hole].low:
            return
        while True:
            place = (place + 1) & (self.places - 1)
            if not self.table[place].low:
                break
            home = <Py_ssize_t>(self.table[place].high & <uint64_t>(self.places - 1))
            if ((place - home) & (self.places - 1)) >= ((place - hole) & (self.places - 1)):
                self.table[hole] = self.table[place]
                hole = place
        self.table[hole].high = self.table[hole].low = 0

    cdef int grow(self) except -1:
        # Twice the room; until the limit is reached the ring has not gone round.
        cdef Py_ssize_t places = 2 * self.places if self.places else 128, k
        cdef Py_ssize_t capacity = min(places // 2, self.limit)
        cdef Digest *table = <Digest *>calloc(places, sizeof(Digest))
        cdef Digest *order = <Digest *>calloc(capacity, sizeof(Digest))
        if table is NULL or order is NULL:
            free(table)
            free(order)
            raise MemoryError
        if self.count:
            memcpy(order, self.order, self.count * sizeof(Digest))
        free(self.table)
        free(self.order)
        self.table, self.order, self.places, self.capacity = table, order, places, capacity
        self.at = self.count if self.count < capacity else 0
        for k in range(self.count):
            self.table[self.find(order[k])] = order[k]
        return 0
