# Rows: bars as they are issued.

from libc.stdint cimport int8_t, int32_t, int64_t, uint32_t, uint8_t
from libc.stdlib cimport realloc
from libc.string cimport memset

from fastbars.kernel.scaled cimport int128
from fastbars.kernel.summary cimport Summary

cdef extern from "pages.h" nogil:
    void use_large_pages "fb_use_large_pages"(void *memory, size_t size)
    bint offer_pages "fb_offer_pages"(void *memory, size_t size)

cdef struct Row:            # a bar as it is issued
    Summary bar
    int64_t row             # of the trade in the batch that caused it
    int64_t missing         # trades that it lacks; -1: not known
    int32_t symbol_id
    int32_t spec
    int32_t revision
    int32_t unpublished     # ids in it that the exchange's history leaves out; -1: not known
    int32_t inside          # 1 + the number of its Shown; 0: its spec asks for nothing inside it
    int32_t index           # its number within the interval of its anchor; -1: it has none
    uint8_t status
    uint8_t reason
    int8_t price_scale
    int8_t size_scale
    int8_t quote_scale
    uint8_t[3] unused       # 0, so that equal rows are equal bytes

cdef struct ShownLevel:     # one price level of an issued bar
    int64_t number
    int128[3] volumes       # of trades whose taker sold, of unknown side, whose taker bought

cdef struct Shown:          # what is inside an issued bar (inside.pxd)
    int64_t first           # of its levels, in ascending order
    int64_t count           # of its levels; -1: it has no footprint
    int128 delta
    int128 highest
    int128 lowest
    uint32_t[8] squares
    uint8_t unordered
    uint8_t[7] unused       # 0

cdef struct ShownTable:
    Shown *items
    Py_ssize_t count
    Py_ssize_t capacity
    ShownLevel *levels
    Py_ssize_t level_count
    Py_ssize_t level_capacity

cdef struct Late:           # a row that found no bar: refused by the ledger (spec -1) or beyond lateness
    int64_t row
    int32_t spec

cdef struct Rows:           # bars issued, and trades that found no bar, since the last take
    Row *items
    Py_ssize_t count
    Py_ssize_t capacity
    Py_ssize_t touched      # rows whose memory has been written to
    Late *late
    Py_ssize_t late_count
    Py_ssize_t late_capacity
    int64_t last_key        # of the last row: what orders them
    int width               # specs
    bint ordered            # they are in the order of the trades that caused them, then of the specs
    ShownTable shown        # of the rows that have something inside
    bint no_memory          # there was none for a row, or for a record: the kernel's state is undefined

# Makes room for so many rows, while there are none: in memory of earlier ones, if some is kept. (By the interpreter lock.)
cdef void reserve_rows(Rows *rows, Py_ssize_t least) noexcept
# The next one, for a bar of `spec` that the trade at `row` caused. NULL: there is no memory.
cdef Row *new_row(Rows *rows, int64_t row, int spec) noexcept nogil
cdef void not_placed(Rows *rows, Py_ssize_t row, int spec) noexcept nogil

cdef class IssuedRows:      # what was taken: bars, text or columns are made of it
    cdef Row *rows
    cdef Py_ssize_t count
    cdef Py_ssize_t capacity
    cdef Py_ssize_t touched
    cdef object columns         # the array over them; None: nobody has asked for it
    cdef bint is_shared         # their memory belongs to the array
    cdef readonly object inside # (SHOWN_DTYPE, LEVEL_DTYPE) arrays; None: no row has anything inside

# The rows in the order of the trades that caused them, then of the specs; without trades they are `numbered`.
cdef IssuedRows take_rows(Rows *rows, bint numbered)
cdef list take_late(Rows *rows)
cdef void free_rows(Rows *rows) noexcept


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


cdef inline Row *add_row(Rows *rows, int64_t row, int spec) noexcept nogil:
    # As new_row, where there is room.
    cdef int64_t key = row * rows.width + spec
    cdef Row *issued = &rows.items[rows.count]
    issued.row = row
    issued.spec = spec
    issued.inside = 0
    issued.index = -1
    memset(issued.unused, 0, sizeof(issued.unused))
    rows.ordered = rows.count == 0 or (rows.ordered and rows.last_key <= key)
    rows.last_key = key
    rows.count += 1
    return issued


cdef object rows_of(object rows)    # as a numpy array laid out as Row; ValueError if it is not
