cimport cython
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from fastbars.kernel.batch cimport TickBatch
from fastbars.kernel.instruments cimport Instruments
from fastbars.kernel.recent cimport RecentKeys
from fastbars.wire.plan cimport ScanPlan, fb_plan, fb_row

cdef struct Spelling:           # a symbol's bytes as they stand in messages, and its id
    uint64_t words[2]           # the first 16 bytes, the rest zeros
    const uint8_t *text         # all of them; owned by Spellings.texts
    uint32_t length
    int32_t symbol_id           # -1: an empty place

@cython.final
cdef class Spellings:
    cdef ScanPlan plan          # fetches the place of a symbol while the message is still read
    cdef Instruments instruments
    cdef object new_symbol
    cdef bint asking            # Python is asked for a symbol
    cdef list texts
    cdef list hashes
    cdef Spelling *table
    cdef Py_ssize_t places
    cdef int find(self, const fb_row *row) noexcept
    cdef int add(self, const fb_row *row) except -1
    cdef int forget(self, set ids) except -1
    cdef int grow(self, Py_ssize_t places) except -1

@cython.final
cdef class TradeScanner:
    cdef ScanPlan plan
    cdef TickBatch batch
    cdef RecentKeys recent
    cdef Spellings spellings
    cdef bint needs_commit      # no message is an ordinary one
    cdef readonly Py_ssize_t first_row
    # What was taken since the counts were last taken.
    cdef int64_t message_count
    cdef int64_t byte_count
    cdef int64_t trade_count
    cdef int64_t duplicate_count
    cdef int64_t event_ns
    cdef bint has_event
    cdef int take(self, const uint8_t *payload, const uint8_t *end, const uint8_t *limit) except -1
    cdef bint commit_one(self) noexcept
    cdef int commit(self) except -1
    cdef int spell(self, const fb_row *symbol) except? -1
    cdef int fit(self, const fb_row *symbol, const fb_row *row, int64_t *price, int64_t *size) except? -1
