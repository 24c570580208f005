from libc.stdint cimport int64_t, uint8_t

from fastbars.kernel.passes cimport Columns, Pass
from fastbars.kernel.table cimport Table

# A trade into the bars of an anchored spec, in order.
cdef void step_into(
    Table *table, Pass *run, int spec, int symbol_id, const Columns *batch, Py_ssize_t row, Py_ssize_t cause) noexcept nogil
cdef void close_anchored(Table *table, Pass *run, int spec, int symbol_id, Py_ssize_t cause, uint8_t reason) noexcept nogil
cdef void begin_tape(Table *table, int spec, int symbol_id) noexcept nogil
cdef void tape_trade(Table *table, const Pass *run, int spec, Py_ssize_t row) noexcept nogil
cdef void review_tape(Table *table, int spec, int symbol_id) noexcept nogil
cdef void lose_tape(Table *table, int spec, int symbol_id) noexcept nogil
cdef void lead_astray(Table *table, int spec, int symbol_id, int64_t time_ns, Py_ssize_t cause) noexcept nogil
cdef void cut_again(
    Table *table, const Pass *run, int spec, int symbol_id, Py_ssize_t cause, bint healing) noexcept nogil
