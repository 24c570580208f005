from libc.stdint cimport int32_t

from fastbars.kernel.passes cimport Pass
from fastbars.kernel.table cimport Table

# A row into the bars of an anchored spec. It `fills` a known hole, or ids before it are missing (`ahead`).
cdef void fold_anchored(Table *table, Pass *run, int spec, Py_ssize_t row, bint fills, bint ahead) noexcept nogil
# Whether trades of the past can be put into bars that end by their trades.
cdef bint has_tape(const Table *table, int32_t symbol_id) noexcept nogil
# Behind the trades of one answer from REST.
cdef void heal_anchored(Table *table, const Pass *run, int32_t symbol_id, Py_ssize_t row) noexcept nogil
# The ids of a symbol begin anew.
cdef void leave_anchored(Table *table, int32_t symbol_id) noexcept nogil
