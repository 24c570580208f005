from libc.stdint cimport int32_t, int64_t

from fastbars.kernel.anew cimport Waiting
from fastbars.kernel.passes cimport Pass
from fastbars.kernel.table cimport Table

cdef enum Wait:                 # what became of a trade that may begin a new series
    HELD                        # it waits
    CONFIRMED                   # it waits no more, nor do the others: they are one series
    REPEATED                    # it waits already
    ENTANGLED                   # some of its ids wait already, others do not

cdef bint is_repeated(const Table *table, const Pass *run, Py_ssize_t row) noexcept nogil
cdef bint may_begin(Table *table, const Pass *run, Py_ssize_t row) noexcept nogil
cdef Wait hold(Table *table, const Pass *run, Py_ssize_t row) noexcept nogil
cdef int32_t take_strays(Table *table, const Pass *run, Py_ssize_t row, Waiting *strays) noexcept nogil
cdef int32_t older_series(Table *table, int32_t symbol_id, int64_t last, int64_t time_ns) noexcept nogil
cdef void begin_series(Table *table, int32_t symbol_id, const Waiting *first) noexcept nogil
cdef void stop_ordinary(Table *table, int32_t symbol_id) noexcept nogil
cdef Waiting waiting_of(const Pass *run, Py_ssize_t row) noexcept nogil
cdef void stand_in(Pass *own, const Pass *run, const Waiting *waiting, Py_ssize_t row) noexcept nogil
