from libc.stdint cimport int32_t, int64_t, uint8_t

from fastbars.kernel.batch cimport TickBatch
from fastbars.kernel.ids cimport UNKNOWN
from fastbars.kernel.table cimport BarState, Record

cdef enum:                      # flags of a bar
    START = 1                   # the stream began inside it
    END = 2                     # the stream ended inside it
    UNPROVEN = 4                # closed by watermark or clock: the next trade will prove its end
    DOWN = 8                    # the feed was down inside it
    LOST = 16                   # a trade of it was refused, or came too late
    FILLED = 32                 # trades that it lacked, or might have lacked, came from REST
    DIRTY = 64                  # amended, and not issued again yet

cdef enum:                      # BarStatus, worst last
    COMPLETE
    HEALED
    PUBLISHED
    PROVISIONAL
    UNVERIFIABLE
    SAMPLED
    PARTIAL
    GAP

cdef enum:                      # CloseReason
    BY_TRADE
    BY_WATERMARK
    BY_CLOCK
    BY_GAP
    BY_END
    NOT_CLOSED

cdef struct Judgement:
    uint8_t status
    int64_t missing             # trades that the bar lacks; UNKNOWN where ids do not tell
    int64_t unpublished         # ids that the exchange's history leaves out; likewise

cdef inline int32_t counted(int64_t unpublished) noexcept nogil:
    return <int32_t>unpublished if unpublished <= 0x7fffffff else UNKNOWN  # more than a row has room for


cdef inline void take_judgement(Record *record, Judgement judgement) noexcept nogil:
    record.status, record.missing = judgement.status, judgement.missing
    record.unpublished = counted(judgement.unpublished)


cdef class BarRecords(BarState):
    cdef readonly bint proof            # contiguous ids stand for every trade
    cdef readonly bint fill             # intervals without trades are issued, flat
    cdef readonly int64_t lateness_ns
    cdef readonly int64_t horizon_ns    # how long after its close_time a bar with a hole is kept
    cdef readonly int64_t watermark_ns
    cdef readonly int64_t healed        # trades taken from REST
    cdef int64_t down_since_ns          # when the feed was down last: HIGHEST where it never was
    cdef int64_t down_until_ns          # HIGHEST while it is
    cdef int64_t arrivals               # rows taken so far
    cdef int64_t event_ns               # event time of the symbol at hand, before the row at hand
    cdef bint fills                     # the row at hand lies in a known hole
    cdef bint healing                   # the batch at hand is from REST
    cdef Py_ssize_t overflow_row
    cdef void overflowed(self, Py_ssize_t row) noexcept nogil
    cdef void link(self, int spec, int symbol_id, int32_t before, int32_t r, int32_t behind) noexcept nogil
    cdef void evict(self, int spec, int symbol_id) noexcept nogil
    cdef bint is_held(self, int symbol_id, const Record *record, int64_t age_ns) noexcept nogil
    cdef bint flatten(self, Record *record, int64_t close, uint8_t status) noexcept nogil
    cdef bint is_down_in(self, int64_t open_time, int64_t close_time) noexcept nogil
    cdef bint fold_late(self, int spec, TickBatch batch, Py_ssize_t row) noexcept nogil
    cdef void prove(self, int spec, int symbol_id, int64_t before_ns, Py_ssize_t row) noexcept nogil
    cdef void revise(self, int spec, int symbol_id, int32_t r, bint changed, Py_ssize_t row) noexcept nogil
    cdef void rejudge(self, int spec, int symbol_id, int64_t since, int64_t until, Py_ssize_t row) noexcept nogil
    cdef Judgement judge(self, int spec, int symbol_id, const Record *record) noexcept nogil
    cdef int64_t event_time(self, int tree, int symbol_id) noexcept nogil
    cdef bint is_open(self, int spec, int symbol_id) noexcept nogil
