"""Progress: which open bars have changed since one reader was shown them, known by reading them, so that no trade pays for it.

What a reader was shown of a bar is kept as a few numbers: a trade changes its count, a hole, its healing or a loss its status or
what it lacks, and the next bar begins elsewhere. Units: times int64 ns since the epoch, UTC.
"""

import cython

from libc.stdint cimport int32_t
from libc.stdlib cimport free, realloc
from libc.string cimport memset

from fastbars.kernel.close cimport current_bar
from fastbars.kernel.rows cimport Row
from fastbars.kernel.summary cimport ALL
from fastbars.kernel.table cimport Table, is_shown


@cython.final
cdef class Progress:
    def __dealloc__(self):
        free(self.shown)

    def forget(self, Py_ssize_t symbol_id, int spec):
        if 0 <= symbol_id < self.capacity and 0 <= spec < self.width:
            self.shown[symbol_id * self.width + spec].count = 0

    cdef int make_room(self, Py_ssize_t symbols, int width) except -1:
        cdef Py_ssize_t capacity = max(symbols, 2 * self.capacity)
        cdef Shown *grown
        if self.width not in (0, width):
            raise ValueError(f"this progress is of a kernel with {self.width} specs, not {width}")
        self.width = width
        if symbols <= self.capacity:
            return 0
        grown = <Shown *>realloc(self.shown, capacity * width * sizeof(Shown))
        if grown is NULL:
            raise MemoryError
        memset(&grown[self.capacity * width], 0, (capacity - self.capacity) * width * sizeof(Shown))
        self.shown, self.capacity = grown, capacity
        return 0


cdef Py_ssize_t issue_changed(Table *table, Progress progress, Py_ssize_t first, Py_ssize_t look, Py_ssize_t most) except -1:
    cdef int width = table.specs.count
    cdef Py_ssize_t pair = first, end = min(table.symbols * width, first + look), s
    cdef int spec
    progress.make_room(table.symbols, width)
    while pair < end and table.rows.count < most:
        s, spec = pair // width, <int>(pair % width)
        if is_shown(table, spec, <int>s):
            current_bar(table, spec, <int>s, s)
            if table.rows.no_memory:
                break
            if not _is_new(&progress.shown[pair], &table.rows.items[table.rows.count - 1]):
                table.rows.count -= 1
        pair += 1
    return pair


cdef bint _is_new(Shown *shown, const Row *row) noexcept:
    if not row.bar.counts[ALL] or (
        shown.count == row.bar.counts[ALL] and shown.open_time == row.bar.open_time and shown.first_id == row.bar.first_id
        and shown.missing == row.missing and shown.unpublished == row.unpublished and shown.status == row.status
    ):
        return False
    shown[0] = Shown(row.bar.open_time, row.bar.first_id, row.bar.counts[ALL], row.missing, row.unpublished, row.status)
    return True
