from libc.stdint cimport int32_t, int64_t, uint8_t

from fastbars.kernel.passes cimport Pass
from fastbars.kernel.table cimport Table

cdef void roll(Table *table, Pass *run, int spec, int symbol_id, int64_t time, Py_ssize_t row) noexcept nogil
cdef void close_bar(
    Table *table, Pass *run, int spec, int symbol_id, Py_ssize_t row, uint8_t reason, uint8_t flags) noexcept nogil
cdef void pass_void(Table *table, Pass *run, int tree, int symbol_id, int64_t time, Py_ssize_t row) noexcept nogil
cdef void close_until(Table *table, int64_t time_ns, uint8_t reason, int32_t group) noexcept nogil
cdef int64_t next_close_of(const Table *table, int32_t symbol_id) noexcept nogil
cdef int end_bars(Table *table, object symbol_id, Py_ssize_t behind) except -1
cdef void current_bar(Table *table, int spec, int symbol_id) noexcept nogil
cdef void begin_outage(Table *table, int64_t time_ns) noexcept nogil
cdef void end_outage(Table *table, int64_t time_ns) noexcept nogil
