from fastbars.kernel.passes cimport Pass
from fastbars.kernel.scaled cimport int128
from fastbars.kernel.table cimport Table

# The trade at a row into bars of a spec that splits trades, the first of which is open.
cdef void fold_parts(Table *table, Pass *run, int spec, Py_ssize_t row, const int128 *step) noexcept nogil
