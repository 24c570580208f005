from libc.stdint cimport int32_t, int64_t

from fastbars.kernel.batch cimport TickBatch
from fastbars.kernel.close cimport Change
from fastbars.kernel.coverage cimport Gap
from fastbars.kernel.ids cimport Ledger
from fastbars.kernel.instruments cimport Instruments
from fastbars.kernel.passes cimport Pass
from fastbars.kernel.rows cimport IssuedRows
from fastbars.kernel.table cimport BarTable, Table

cdef class BarKernel:
    cdef readonly Instruments instruments
    cdef readonly Ledger ledger         # None where ids prove nothing
    cdef BarTable bars
    cdef Table *table                   # that of `bars`
    cdef bint by_id
    cdef bint busy                      # a thread is at work in here, which may have given up the interpreter lock
    cdef int64_t begun_before           # how often ids had begun anew when what was folded was taken last
    cdef double bound                   # no sum in here is larger
    cdef Py_ssize_t longest_unchecked   # rows of a batch that is not checked yet whose sizes are likely to sum within 64 bits
    cdef char *copy_memory              # of a short batch whose memory is the caller's
    cdef TickBatch copy
    cdef int check_unused(self) except -1
    cdef bint has_folded(self) noexcept
    cdef tuple take_folded(self)
    cdef IssuedRows take(self, bint numbered)
    cdef int fold(self, TickBatch batch) except -1
    cdef int fold_places(self, TickBatch batch, const int32_t *places, Py_ssize_t count, bint healing=*) except -1
    cdef TickBatch copy_of(self, TickBatch batch)
    cdef int fold_rows(self, TickBatch batch, const int32_t *places, Py_ssize_t count, bint healing) except -1
    cdef int fold_alike(self, TickBatch batch, const int32_t *places, Py_ssize_t count, bint healing) except -1
    cdef int fold_apart(self, TickBatch batch, const int32_t *places, Py_ssize_t count, bint healing) except -1
    cdef int refuse_sum(self, TickBatch batch, Py_ssize_t row) except -1
    cdef void forget_folded(self) noexcept
    cdef int begin_series(self, object symbol_id, int64_t arrivals) except -1
    cdef int settle(self) except -1
    cdef void begin(self, Pass *run, TickBatch batch, const int32_t *places, bint healing=*) noexcept
    cdef int finish(self, TickBatch batch, double bound) except -1
    cdef bint fold_unchecked(self, TickBatch batch, const int32_t *places, Py_ssize_t count) except? False
    cdef object change(self, symbol_ids, Change change, Gap gap)
    cdef object begin_change(self, symbol_ids)
    cdef object end_change(self)
    cpdef int advance_watermark(self, int64_t time_ns, int group=*) except -1
    cdef int check_group(self, int group) except -1
    cdef int check_symbol(self, int symbol_id) except -1
    cpdef int hold(self, int symbol_id, bint held) except -1
    cdef bint proves(self, int symbol_id) noexcept
