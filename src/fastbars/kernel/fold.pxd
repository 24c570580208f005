from libc.stdint cimport int32_t

from fastbars.kernel.passes cimport Pass
from fastbars.kernel.table cimport Table

cdef void fold_batch(Table *table, Pass *run, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
cdef void heal_batch(Table *table, Pass *run, Py_ssize_t rows) noexcept nogil
# Of a trade from REST: whether it is missing.
cdef bint is_wanted(Table *table, const Pass *run, Py_ssize_t row) noexcept nogil
cdef void begin_waiting(Table *table, Pass *run, int32_t symbol_id, Py_ssize_t row) noexcept nogil
