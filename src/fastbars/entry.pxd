from libc.stdint cimport int64_t

from fastbars._agg cimport BarKernel
from fastbars.kernel.batch cimport TickBatch

cdef class TradeEntry:
    cdef BarKernel kernel
    cdef TickBatch single       # of one row
    cdef public Py_ssize_t rows_taken
    cdef public int64_t grace_ns
    cdef int take(self, str symbol, object time_ns, object price, object size, int sign, object trade_id,
                  object last_trade_id, object trade_count, object time_unit) except -1
    cdef bint take_text(self, str symbol, int64_t time_ns, str price, str size, int sign, object trade_id) except -1

# That of a BarBuffer; a TypeError where it has none.
cdef TradeEntry entry_of(object buffer)
# None where nothing was issued.
cdef list fold_live(object buffer, TradeEntry entry, TickBatch batch)
cdef list pass_watermark(object buffer, TradeEntry entry, int64_t event_time_ns, int group)
