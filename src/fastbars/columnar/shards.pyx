"""Shares: splits the trades among threads by symbol, and merges their bars into one order again."""

import numpy as np

from libc.stdint cimport int32_t, int64_t, uint32_t, uint8_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from fastbars.kernel.amend cimport BY_END
from fastbars.kernel.rows cimport Row, rows_of

from fastbars.kernel.rows import ROW_DTYPE as _ROW_DTYPE

cdef struct Run:            # the rows of one share that are left of the array at hand
    const Row *row
    Py_ssize_t left
    int64_t key             # of the first of them: what orders them


def rows_of_share(const int32_t[::1] symbol_id not None, const uint8_t[::1] share_of not None, int share,
                  int32_t[::1] places not None, int64_t[::1] appeared not None, int64_t first_row):
    # The number of rows that belong to a share: `places` gets them, `appeared` the first of each symbol.
    cdef const uint8_t *shares = &share_of[0]
    cdef int32_t *place
    cdef const int32_t *symbol
    cdef uint32_t symbols = <uint32_t>len(appeared)
    cdef uint8_t wanted = <uint8_t>share
    cdef Py_ssize_t i, n = 0, rows = len(symbol_id)
    cdef int32_t s
    if len(share_of) != len(appeared) + 1 or len(places) <= rows or rows >= 1 << 31:
        raise ValueError("a share is needed for each symbol and one for all else, and a place more than there are rows")
    if rows == 0:
        return 0
    place, symbol = &places[0], &symbol_id[0]
    with nogil:
        for i in range(rows):   # no branch: whose the next trade is cannot be guessed
            place[n] = <int32_t>i
            n += shares[min(<uint32_t>symbol[i], symbols)] == wanted
        for i in range(n):
            s = symbol[place[i]]
            if <uint32_t>s < symbols and appeared[s] < 0:
                appeared[s] = first_row + place[i]
    return n


def merge_shares(list shares not None, const int64_t[::1] appeared not None, Py_ssize_t trades, int width):
    cdef list checked = [[_rows_of(rows, appeared) for rows in arrays] for arrays in shares]
    cdef Py_ssize_t i, ended = 0, total = sum([len(rows) for arrays in checked for rows in arrays])
    cdef int k, best, count = len(checked)
    cdef Row *row
    cdef Run *runs = <Run *>calloc(max(count, 1), sizeof(Run))
    if runs is NULL:
        raise MemoryError
    merged = np.empty(total, _ROW_DTYPE)
    waiting = [iter(arrays) for arrays in checked]
    row = <Row *><size_t>merged.ctypes.data
    try:
        for k in range(count):
            _fill(&runs[k], waiting[k], appeared, trades, width)
        for i in range(total):
            best = -1
            for k in range(count):
                if runs[k].left and (best < 0 or runs[k].key < runs[best].key):
                    best = k
            memcpy(&row[i], runs[best].row, sizeof(Row))
            if row[i].reason == BY_END:
                row[i].row = ended
                ended += 1
            runs[best].row += 1
            runs[best].left -= 1
            _fill(&runs[best], waiting[best], appeared, trades, width)
    finally:
        free(runs)
    return merged


cdef object _rows_of(object rows, const int64_t[::1] appeared):
    cdef object own = rows_of(rows)
    symbols = own["symbol_id"]
    if len(own) and not 0 <= symbols.min() <= symbols.max() < len(appeared):
        raise IndexError(f"rows of symbols {symbols.min()} to {symbols.max()}, of which there are {len(appeared)}")
    return own


cdef int _fill(Run *run, object waiting, const int64_t[::1] appeared, Py_ssize_t trades, int width) except -1:
    # From the next array that has rows, where the one at hand is used up; `shares` keeps their memory.
    while run.left == 0:
        rows = next(waiting, None)
        if rows is None:
            return 0
        run.row, run.left = <const Row *><size_t>rows.ctypes.data, len(rows)
    run.key = _key(run.row, appeared, trades, width)
    return 0


cdef int64_t _key(const Row *row, const int64_t[::1] appeared, Py_ssize_t trades, int width) noexcept:
    # What trades closed comes first, in their order; then what those closed that had to wait until the end; then what the
    # end closed, in order of the symbols' first trades.
    if row.reason == BY_END:
        return (2 * trades + appeared[row.symbol_id]) * width + row.spec
    return row.row * width + row.spec
