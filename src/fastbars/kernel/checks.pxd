# Columns of trades, checked.
#
# A column is checked without a branch, so that the compiler takes several rows at once: the sign bit of the result is
# set where the value, or its distance to a bound, is negative in any row. The additions wrap.

from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t


cdef inline uint64_t outside_symbols(const int32_t *column, Py_ssize_t rows, Py_ssize_t symbols) noexcept nogil:
    cdef uint32_t flaw = 0, largest = <uint32_t>(symbols - 1)
    cdef Py_ssize_t i
    for i in range(rows):
        flaw |= <uint32_t>column[i] | (largest - <uint32_t>column[i])
    return <uint64_t>flaw << 32


cdef inline uint64_t outside_times(
    const int64_t *column, Py_ssize_t rows, int64_t earliest, int64_t latest
) noexcept nogil:
    cdef uint64_t flaw = 0
    cdef Py_ssize_t i
    for i in range(rows):
        flaw |= (<uint64_t>column[i] - <uint64_t>earliest) | (<uint64_t>latest - <uint64_t>column[i])
    return flaw


cdef inline uint64_t not_positive(const int64_t *column, Py_ssize_t rows, uint64_t *bits) noexcept nogil:
    # Also gathers the bits that are set in any row.
    cdef uint64_t flaw = 0, seen = 0
    cdef Py_ssize_t i
    for i in range(rows):
        flaw |= <uint64_t>column[i] - 1
        seen |= <uint64_t>column[i]
    bits[0] |= seen
    return flaw | seen


cdef inline uint64_t not_positive_of_trades(
    const int64_t *column, const int64_t *sizes, Py_ssize_t rows, uint64_t *bits
) noexcept nogil:
    # The same of the rows that have a size.
    cdef uint64_t flaw = 0, seen = 0, traded
    cdef Py_ssize_t i
    for i in range(rows):
        traded = 0 - <uint64_t>(sizes[i] != 0)
        flaw |= (<uint64_t>column[i] - 1) & traded
        seen |= <uint64_t>column[i] & traded
    bits[0] |= seen
    return flaw | seen


cdef inline uint64_t beyond_prices(
    const int64_t *column, const int64_t *sizes, Py_ssize_t rows, uint64_t *bits
) noexcept nogil:
    # Of prices with a sign, in the rows that have a size: all but the lowest, which has no opposite. Gathers the bits
    # of them without their signs.
    cdef uint64_t seen = 0, price, sign
    cdef Py_ssize_t i
    for i in range(rows):
        price = <uint64_t>column[i]
        sign = 0 - (price >> 63)
        seen |= ((price ^ sign) - sign) & (0 - <uint64_t>(sizes[i] != 0))
    bits[0] |= seen
    return seen


cdef inline uint64_t outside_sides(const int8_t *column, Py_ssize_t rows) noexcept nogil:
    cdef uint8_t flaw = 0
    cdef Py_ssize_t i
    for i in range(rows):
        flaw |= (<uint8_t>column[i] + 1) | (1 - <uint8_t>column[i])
    return <uint64_t>flaw << 56


cdef inline uint64_t outside_counts(
    const int64_t *column, const int64_t *sizes, Py_ssize_t rows, int64_t most
) noexcept nogil:
    # A void row may say that it stands for none.
    cdef uint64_t flaw = 0
    cdef Py_ssize_t i
    for i in range(rows):
        flaw |= (<uint64_t>column[i] - 1) | (<uint64_t>(most - 1) - <uint64_t>column[i])
    if <int64_t>flaw >= 0:
        return flaw
    flaw = 0
    for i in range(rows):
        flaw |= (<uint64_t>column[i] - <uint64_t>(sizes[i] != 0)) | (<uint64_t>(most - 1) - <uint64_t>column[i])
    return flaw


cdef inline uint64_t outside_numbers(const int64_t *column, Py_ssize_t rows) noexcept nogil:
    # Ids: there is one more after the largest.
    cdef uint64_t flaw = 0
    cdef Py_ssize_t i
    for i in range(rows):
        flaw |= <uint64_t>column[i] | (<uint64_t>column[i] + 1)
    return flaw


cdef inline uint64_t outside_ranges(const int64_t *first, const int64_t *last, Py_ssize_t rows) noexcept nogil:
    # Of ids: 0 <= first <= last, and one more after the last.
    cdef uint64_t flaw = 0
    cdef Py_ssize_t i
    for i in range(rows):
        flaw |= <uint64_t>first[i] | (<uint64_t>last[i] - <uint64_t>first[i]) | (<uint64_t>last[i] + 1)
    return flaw
