from libc.stdint cimport int64_t

cdef struct Instrument:
    int64_t max_price           # largest mantissas ever accepted, signs apart, at the current scales:
    int64_t max_size            # what bounds a widening
    int64_t contract            # contract size of an inverse contract, 0 for all others
    signed char price_scale
    signed char size_scale
    signed char contract_scale

cdef class Instruments:
    cdef Instrument *table
    cdef Py_ssize_t capacity
    cdef readonly Py_ssize_t count
    cdef readonly str exchange
    cdef readonly bint negative_prices  # prices may be zero or negative
    cdef list widened           # ids in the order in which their scales or contract sizes changed
    cdef readonly int rescaled  # grows with every widening of a symbol that has trades
    cdef dict _ids
    cdef list _symbols
    cdef int find(self, str symbol) except -1
    cdef int widen(self, int symbol_id, int price_scale, int size_scale, object price, object size) except -1
