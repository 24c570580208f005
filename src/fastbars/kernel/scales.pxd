from fastbars.kernel.batch cimport TickBatch
from fastbars.kernel.passes cimport Pass
from fastbars.kernel.table cimport BarTable


cdef inline bint may_be_apart(BarTable bars, TickBatch batch) noexcept:
    # Whether some rows may be at another scale than the bars of their symbols.
    return batch.version != bars.instruments.version or batch.own_count > 0 or bool(bars.unfit)


cdef double bound_apart(BarTable bars, TickBatch batch, double bound) except? -1
cdef bint bring_row(BarTable bars, TickBatch batch, Py_ssize_t row) except -1
cdef int follow_row(BarTable bars, TickBatch batch, Py_ssize_t row) except -1
cdef int follow_missing(BarTable bars, Pass *run, TickBatch batch) except -1
cdef int widen_instruments(BarTable bars, TickBatch batch) except -1
