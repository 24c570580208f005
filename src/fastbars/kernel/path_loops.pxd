from fastbars.kernel.passes cimport Pass
from fastbars.kernel.rules cimport Rule
from fastbars.kernel.table cimport Slot

cdef Py_ssize_t fold_path(
    const Rule *rule, Slot *slots, char *states, Pass *run, bint by_id, Py_ssize_t start, Py_ssize_t stop
) noexcept nogil
cdef Py_ssize_t fold_stretch(
    const Rule *rule, Slot *slots, char *states, Pass *run, bint by_id, Py_ssize_t start, Py_ssize_t stop
) noexcept nogil
