from libc.stdint cimport int8_t, int64_t, uint8_t

cdef struct Scale:              # decimals of a symbol's prices and sizes
    int8_t price
    int8_t size

cdef struct Instrument:
    int64_t contract            # contract size of an inverse contract, 0 for all others
    Scale scale
    int8_t contract_scale
    uint8_t traded              # a batch has had a row of it

cdef class Instruments:
    cdef Instrument *table
    cdef Py_ssize_t capacity
    cdef readonly Py_ssize_t count
    # Which market's symbols these are: bars name both.
    cdef readonly str exchange
    cdef readonly str market
    cdef readonly str venue             # "exchange market", before the symbol in error messages
    cdef readonly bint negative_prices  # prices may be zero or negative
    # (id, scale before) of each change of a known symbol's scale or contract size. Who keeps numbers at a symbol's scale
    # remembers the version at which it read the table, and finds here what has changed since.
    cdef list changes
    cdef readonly int version           # how many there are
    cdef dict _ids
    cdef list _symbols
    cdef int find(self, str symbol) except -1
    cdef int widen(self, int symbol_id, Scale scale) except -1
    cdef int note_change(self, int symbol_id) except -1

cdef inline bint are_equal(Scale a, Scale b) noexcept nogil:
    return a.price == b.price and a.size == b.size


cdef inline Scale finer(Scale a, Scale b) noexcept nogil:
    # The coarsest scale that has the decimals of both.
    return Scale(max(a.price, b.price), max(a.size, b.size))
