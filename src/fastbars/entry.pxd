from libc.stdint cimport int64_t

from fastbars._agg cimport BarKernel
from fastbars.kernel.batch cimport TickBatch

cdef class TradeEntry:
    cdef BarKernel kernel
    cdef TickBatch single       # of one row
    cdef public Py_ssize_t rows_taken
    cdef public int64_t grace_ns
    cdef int check_made(self) except -1
    cdef list take(self, str symbol, object time_ns, object price, object size, int sign, object trade_id,
                   object last_trade_id, object trade_count, object time_unit)
    cdef bint take_text(self, str symbol, int64_t time_ns, str price, str size, int sign, object trade_id) except -1
    cdef list issue_folded(self, TickBatch batch)
    # None where nothing was issued.
    cdef list fold_live(self, TickBatch batch)
    cdef list pass_watermark(self, int64_t event_time_ns)
