# Rows: bars as they are issued.

from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t
from libc.stdlib cimport realloc

from fastbars.kernel.summary cimport Summary

cdef extern from "pages.h" nogil:
    void use_large_pages "fb_use_large_pages"(void *memory, size_t size)

cdef struct Row:            # a bar as it is issued
    Summary bar
    int64_t row             # of the trade in the batch that caused it
    int64_t missing         # trades that it lacks; -1: not known
    int32_t symbol_id
    int32_t spec
    int32_t revision
    int32_t unpublished     # ids in it that the exchange's history leaves out; -1: not known
    uint8_t status
    uint8_t reason
    int8_t price_scale
    int8_t size_scale
    int8_t quote_scale
    uint8_t[3] unused       # 0, so that equal rows are equal bytes

cdef struct Late:           # a row that found no bar: refused by the ledger (spec -1) or beyond lateness
    int64_t row
    int32_t spec

cdef class BarRows:
    cdef int width                  # specs
    cdef Row *rows                  # bars issued since the last take
    cdef Py_ssize_t row_count
    cdef Py_ssize_t row_capacity
    cdef bint ordered               # they are in the order of the trades that caused them, then of the specs
    cdef int64_t last_key           # of the last one: what orders them
    cdef Late *late
    cdef Py_ssize_t late_count
    cdef Py_ssize_t late_capacity
    cdef bint no_memory
    cdef bint busy                  # a thread is at work in here, which may have given up the interpreter lock
    cdef int check_unused(self) except -1
    cdef Row *new_row(self, int64_t row, int spec) noexcept nogil
    cdef void not_placed(self, Py_ssize_t row, int spec) noexcept nogil
    cdef object take(self, bint numbered=*)
    cdef object taken(self, bint numbered)
    cdef list take_late(self)


cdef inline bint grow_table(void **memory, Py_ssize_t *capacity, size_t item, Py_ssize_t least) noexcept nogil:
    # Doubles a table, at least. False: there is no memory, and the table is as it was.
    cdef Py_ssize_t wanted = max(2 * capacity[0], max(least, 64))
    cdef void *grown = realloc(memory[0], wanted * item)
    if grown is NULL:
        return False
    use_large_pages(grown, wanted * item)
    memory[0] = grown
    capacity[0] = wanted
    return True


cdef object rows_of(object rows)    # as an array whose memory is that of Rows; an error where it is none
