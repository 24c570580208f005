from libc.stdint cimport int64_t

from fastbars._agg cimport BarKernel
from fastbars.kernel.batch cimport TickBatch
from fastbars.kernel.scaled cimport Written
from fastbars.ticks cimport TickData

cdef class TradeEntry:
    cdef BarKernel kernel
    cdef TickBatch single       # of one row
    cdef public Py_ssize_t rows_taken
    cdef public int64_t grace_ns
    cdef int take(self, str symbol, object time_ns, object price, object size, int sign, object trade_id,
                  object last_trade_id, object trade_count, object time_unit) except -1
    cdef bint take_ordinary(self, str symbol, int64_t time_ns, object price, object size, int sign, object trade_id) except -1
    cdef bint take_fields(self, TickData tick) except -1
    cdef bint write(self, str symbol, int64_t time_ns, const Written *price, const Written *size, int sign,
                    int64_t first_id, int64_t last_id, int64_t count) except -1
    cdef int fold(self) except -1

# That of a BarBuffer; a TypeError where it has none.
cdef TradeEntry entry_of(object buffer)
# None where nothing was issued.
cdef list fold_live(object buffer, TradeEntry entry, TickBatch batch)
cdef list pass_watermark(object buffer, TradeEntry entry, int64_t event_time_ns, int group)
