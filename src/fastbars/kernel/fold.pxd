from fastbars.kernel.passes cimport Pass
from fastbars.kernel.table cimport Table

cdef void fold_batch(Table *table, Pass *run, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
cdef void heal_batch(Table *table, Pass *run, Py_ssize_t rows) noexcept nogil
