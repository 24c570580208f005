"""Rows: bars as they are issued, one after the other, and handed over as IssuedRows.

Units: times int64 ns since the epoch, UTC; prices, sizes and quote sums mantissas at the scales of each row.
"""

import cython
import numpy as np

from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc, qsort, realloc
from libc.string cimport memcpy
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_FromStringAndSize

from fastbars.kernel.limits cimport MAX_SCALE, REPORTED_STATUS
from fastbars.kernel.scaled cimport HIGHEST, LOWEST, POWER_OF_TEN
from fastbars.kernel.summary cimport ALL, BOUGHT, SOLD, known_sum, merge_bar, widen_bar

from fastbars.errors import PrecisionError
from fastbars.kernel.fields import LEVEL_DTYPE as _LEVEL_DTYPE, ROW_DTYPE, SHOWN_DTYPE as _SHOWN_DTYPE

cdef enum:
    MANY_ROWS = 1024            # so many are handed over where they are; fewer are copied
    LEAST_KEPT = 1 << 20        # bytes of rows, whose memory is worth keeping
    MOST_KEPT = 1 << 28

assert (ROW_DTYPE.itemsize, _SHOWN_DTYPE.itemsize, _LEVEL_DTYPE.itemsize) == (sizeof(Row), sizeof(Shown), sizeof(ShownLevel))

# New memory costs up to twice of what is written to it: the system clears each page first. So that of rows which nobody has any
# more is kept for the next ones: one block, under the interpreter lock, whose pages the system may take back at any time.
cdef struct Kept:
    Row *items
    Py_ssize_t capacity
    Py_ssize_t touched

cdef Kept _kept = Kept(NULL, 0, 0)


cdef void _leave(Row *items, Py_ssize_t capacity, Py_ssize_t touched) noexcept:
    global _kept
    if items is NULL:
        return
    if not LEAST_KEPT <= touched * <Py_ssize_t>sizeof(Row) <= MOST_KEPT or not offer_pages(items, touched * sizeof(Row)):
        free(items)
        return
    free(_kept.items)
    _kept = Kept(items, capacity, touched)


cdef void reserve_rows(Rows *rows, Py_ssize_t least) noexcept:
    global _kept
    if rows.capacity >= least:
        return
    # (Not for a few rows, which may be held for long.)
    if rows.count == 0 and _kept.capacity >= least and _kept.touched <= 4 * least:
        free(rows.items)
        rows.items, rows.capacity, rows.touched = _kept.items, _kept.capacity, _kept.touched
        _kept = Kept(NULL, 0, 0)
        return
    grow_table(<void **>&rows.items, &rows.capacity, sizeof(Row), least)


@cython.final
@cython.internal
cdef class _Memory:
    # That of issued rows of which somebody has an array.
    cdef Row *rows
    cdef Py_ssize_t count
    cdef Py_ssize_t capacity
    cdef Py_ssize_t touched

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.rows, self.count * sizeof(Row), 0, flags)

    def __dealloc__(self):
        _leave(self.rows, self.capacity, self.touched)


@cython.final
cdef class IssuedRows:
    def __dealloc__(self):
        if not self.is_shared:      # (`columns` can be gone: a garbage collection clears it first)
            _leave(self.rows, self.capacity, self.touched)

    def array(self):
        # An empty structured array takes microseconds to make, and most batches close nothing: none is made before this.
        cdef _Memory memory
        if self.columns is None:
            if self.count:
                memory = _Memory()
                memory.rows, memory.count, self.is_shared = self.rows, self.count, True
                memory.capacity, memory.touched = self.capacity, self.touched
                self.columns = np.frombuffer(memory, ROW_DTYPE)
            else:
                self.columns = np.empty(0, ROW_DTYPE)
        return self.columns

    def __array__(self, dtype=None, copy=None):
        return self.array() if dtype is None and not copy else np.array(self.array(), dtype)

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return self.array()[index]

    def __iter__(self):
        return iter(self.array())

    def number(self, Py_ssize_t first):
        cdef Py_ssize_t i
        for i in range(max(first, 0), self.count):
            self.rows[i].row = i - max(first, 0)


cdef void free_rows(Rows *rows) noexcept:
    _leave(rows.items, rows.capacity, rows.touched)
    free(rows.late)
    free(rows.shown.items)
    free(rows.shown.levels)
    rows.items, rows.late, rows.shown.items, rows.shown.levels = NULL, NULL, NULL, NULL


cdef Row *new_row(Rows *rows, int64_t row, int spec) noexcept nogil:
    if rows.count == rows.capacity and not grow_table(<void **>&rows.items, &rows.capacity, sizeof(Row), 0):
        rows.no_memory = True
        return NULL
    return add_row(rows, row, spec)


cdef void not_placed(Rows *rows, Py_ssize_t row, int spec) noexcept nogil:
    if rows.late_count == rows.late_capacity and not grow_table(
        <void **>&rows.late, &rows.late_capacity, sizeof(Late), 0
    ):
        rows.no_memory = True
        return
    rows.late[rows.late_count] = Late(row, spec)
    rows.late_count += 1


cdef struct Place:          # of a row, and what orders it
    int64_t key
    Py_ssize_t place


cdef int _compare(const void *one, const void *other) noexcept nogil:
    cdef const Place *a = <const Place *>one
    cdef const Place *b = <const Place *>other
    if a.key != b.key:
        return -1 if a.key < b.key else 1
    return -1 if a.place < b.place else 1


cdef IssuedRows take_rows(Rows *rows, bint numbered):
    cdef Py_ssize_t count = rows.count
    cdef Row *taken
    cdef IssuedRows issued = IssuedRows.__new__(IssuedRows)
    if count == 0:
        return issued
    rows.touched = max(rows.touched, count)
    # (Where more of the memory was written to earlier, few rows would hold much of it.)
    if rows.ordered and count >= MANY_ROWS and 4 * count >= rows.touched:
        if rows.touched * <Py_ssize_t>sizeof(Row) < LEAST_KEPT:
            taken = <Row *>realloc(rows.items, count * sizeof(Row))
            if taken is not NULL:
                rows.items, rows.capacity, rows.touched = taken, count, count
        issued.rows, issued.capacity, issued.touched = rows.items, rows.capacity, rows.touched
        rows.items = NULL       # `issued` owns it from here on
        rows.capacity = rows.touched = 0
    else:
        issued.rows = <Row *>malloc(count * sizeof(Row))
        if issued.rows is NULL:
            raise MemoryError
        issued.capacity = issued.touched = count
        if rows.ordered:
            memcpy(issued.rows, rows.items, count * sizeof(Row))
        else:
            _put_in_order(rows, issued.rows)
    issued.count = count
    if rows.shown.count:
        # (Rows that were taken back left theirs behind, which no row asks for.)
        issued.inside = (
            np.frombuffer(PyBytes_FromStringAndSize(<char *>rows.shown.items, rows.shown.count * sizeof(Shown)), _SHOWN_DTYPE),
            np.frombuffer(PyBytes_FromStringAndSize(<char *>rows.shown.levels, rows.shown.level_count * sizeof(ShownLevel)), _LEVEL_DTYPE))
        rows.shown.count = rows.shown.level_count = 0
    rows.count = 0
    if numbered:
        issued.number(0)
    return issued


cdef int _put_in_order(const Rows *rows, Row *taken) except -1:
    cdef Py_ssize_t i
    cdef Place *order = <Place *>malloc(rows.count * sizeof(Place))
    if order is NULL:
        raise MemoryError
    for i in range(rows.count):
        order[i] = Place(rows.items[i].row * rows.width + rows.items[i].spec, i)
    qsort(order, rows.count, sizeof(Place), _compare)
    for i in range(rows.count):
        taken[i] = rows.items[order[i].place]
    free(order)
    return 0


cdef list take_late(Rows *rows):
    late = [(rows.late[i].row, rows.late[i].spec) for i in range(rows.late_count)]
    rows.late_count = 0
    return late


cdef object rows_of(object rows):
    # An array of numpy's own, whatever was given: a subclass, or what only looks like an array, can say anything.
    array = (<IssuedRows>rows).array() if type(rows) is IssuedRows else np.asarray(rows)
    dtype = array.dtype
    # (Comparing two structured dtypes takes microseconds.)
    if array.ndim != 1 or not (dtype is ROW_DTYPE or dtype == ROW_DTYPE) or not array.flags.c_contiguous:
        what = "ROW_DTYPE" if dtype == ROW_DTYPE else "another dtype"
        raise ValueError(f"rows are a contiguous array of ROW_DTYPE with one dimension, not {array.ndim} of {what}")
    return np.array(array) if <size_t>array.ctypes.data % sizeof(int64_t) else array


def merge_rows(rows, others, bint by_id):
    cdef Row mine, other
    cdef Py_ssize_t i
    cdef size_t target, source
    cdef int quote_scale
    cdef int64_t sold, bought
    cdef bint largest, timed
    merged = np.array(rows, dtype=ROW_DTYPE)
    others = np.array(others, dtype=ROW_DTYPE)
    if merged.ndim != 1 or others.ndim != 1:
        raise ValueError(f"bars to be merged are columns of one dimension, not of {merged.ndim} and {others.ndim}")
    if len(merged) != len(others):
        raise ValueError(f"{len(merged)} bars cannot be merged with {len(others)}")
    check_scales(merged)
    check_scales(others)
    _check_mergeable(merged, by_id)
    _check_mergeable(others, by_id)
    for i in range(len(merged)):
        target = <size_t>merged.ctypes.data + i * sizeof(Row)
        source = <size_t>others.ctypes.data + i * sizeof(Row)
        memcpy(&mine, <void *>target, sizeof(Row))
        memcpy(&other, <void *>source, sizeof(Row))
        # What a sum of quotes is widened by where sizes are, whatever its scale was.
        quote_scale = max(mine.quote_scale + max(other.size_scale - mine.size_scale, 0),
                          other.quote_scale + max(mine.size_scale - other.size_scale, 0))
        _to_scale(&other, mine.price_scale, mine.size_scale, quote_scale)
        _to_scale(&mine, other.price_scale, other.size_scale, quote_scale)
        sold = known_sum(mine.bar.counts[SOLD], other.bar.counts[SOLD])
        bought = known_sum(mine.bar.counts[BOUGHT], other.bar.counts[BOUGHT])
        largest, timed = _has_largest(&mine) and _has_largest(&other), _has_times(&mine) and _has_times(&other)
        if merge_bar(&mine.bar, &other.bar, by_id):
            raise PrecisionError(f"row {i}: the merged sums do not fit 128 bits", i)
        # What is not known of one is not known of both: bars made by hand need not say it.
        mine.bar.counts[SOLD], mine.bar.counts[BOUGHT] = sold, bought
        if not largest:
            mine.bar.largest = 0
        if not timed:
            mine.bar.last_trade_time = LOWEST
        mine.status = max(mine.status, other.status)
        mine.missing = mine.missing + other.missing if mine.missing >= 0 and other.missing >= 0 else -1
        mine.unpublished = _sum_of(mine.unpublished, other.unpublished)
        mine.revision = max(mine.revision, other.revision)
        memcpy(<void *>target, &mine, sizeof(Row))
    return merged


cdef bint _has_largest(const Row *row) noexcept nogil:
    return row.bar.largest != 0 or row.bar.counts[ALL] == 0


cdef bint _has_times(const Row *row) noexcept nogil:
    return row.bar.last_trade_time != LOWEST or row.bar.counts[ALL] == 0


cdef int32_t _sum_of(int64_t unpublished, int64_t others) noexcept nogil:
    # -1: not known, or too many for a row to count.
    return -1 if unpublished < 0 or others < 0 or unpublished + others > 0x7fffffff else <int32_t>(unpublished + others)


cdef int _check_mergeable(rows, bint by_id) except -1:
    wrong = rows["status"] == REPORTED_STATUS
    if wrong.any():
        raise ValueError(f"row {int(wrong.argmax())}: a REPORTED bar is no set of trades, and does not merge")
    wrong = (rows["count"] > 0) & (rows["first_id"] == LOWEST if by_id else False)
    if wrong.any():
        raise ValueError(f"row {int(wrong.argmax())}: it has no trade ids to merge by")
    return 0


def check_scales(rows):
    # Whether a kernel can have issued this row; rows are arrays, which users can write to.
    for name, most in (("price_scale", MAX_SCALE), ("size_scale", MAX_SCALE), ("quote_scale", 2 * MAX_SCALE)):
        wrong = (rows[name] < 0) | (rows[name] > most)
        if wrong.any():
            row = int(wrong.argmax())
            raise ValueError(f"row {row}: {name} {rows[name][row]} is outside 0 to {most}")


cdef int _to_scale(Row *row, int price_scale, int size_scale, int quote_scale) except -1:
    # Widens `row` to scales that are larger than its own.
    cdef int price_shift = max(price_scale - row.price_scale, 0)
    cdef int size_shift = max(size_scale - row.size_scale, 0)
    cdef int quote_shift = max(quote_scale - row.quote_scale, 0)
    cdef int64_t most = HIGHEST // POWER_OF_TEN[price_shift]
    # (Without prices high is the lowest and low the highest.)
    if row.bar.high > most or row.bar.low < -most or quote_shift < size_shift or widen_bar(
        &row.bar, POWER_OF_TEN[price_shift], POWER_OF_TEN[size_shift], POWER_OF_TEN[quote_shift - size_shift]
    ):
        raise PrecisionError(
            f"a bar with {row.price_scale} decimals of price and {row.size_scale} of size does not fit with"
            f" {price_scale} and {size_scale}"
        )
    row.price_scale += price_shift
    row.size_scale += size_shift
    row.quote_scale += quote_shift
    return 0
