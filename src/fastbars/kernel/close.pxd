from libc.stdint cimport int32_t, int64_t, uint8_t

from fastbars.kernel.coverage cimport Gap
from fastbars.kernel.passes cimport Pass
from fastbars.kernel.table cimport Table

cdef enum Change:               # of a symbol's coverage
    COVER
    UNCOVER
    LOSE
    BRIDGE

cdef void roll(Table *table, Pass *run, int spec, int symbol_id, int64_t time, Py_ssize_t row) noexcept nogil
cdef void close_bar(Table *table, Pass *run, int spec, int symbol_id, Py_ssize_t row, uint8_t reason) noexcept nogil
cdef void pass_void(Table *table, Pass *run, int tree, int symbol_id, int64_t time, Py_ssize_t row) noexcept nogil
cdef void close_until(Table *table, int64_t time_ns, uint8_t reason, int32_t group) noexcept nogil
cdef int64_t heard_of(const Table *table, int symbol_id) noexcept nogil
cdef int64_t next_close_of(const Table *table, int32_t symbol_id) noexcept nogil
cdef int end_bars(Table *table, object symbol_id, Py_ssize_t behind) except -1
cdef void current_bar(Table *table, int spec, int symbol_id, Py_ssize_t row) noexcept nogil
cdef void issue_skipped(Table *table, int spec, int symbol_id, int64_t since, int64_t until, Py_ssize_t row) noexcept nogil
cdef void change_coverage(Table *table, int symbol_id, Change change, Gap gap, Py_ssize_t row) noexcept nogil
cdef void cover_itself(Table *table, int symbol_id, int64_t time) noexcept nogil
cdef void lose_trade(Table *table, int symbol_id, int64_t time, Py_ssize_t row) noexcept nogil
cdef void lose_late(Table *table, Pass *run, int spec, Py_ssize_t row) noexcept nogil
