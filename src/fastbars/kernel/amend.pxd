from libc.stdint cimport int32_t, int64_t, uint8_t

from fastbars.kernel.ids cimport UNKNOWN
from fastbars.kernel.passes cimport Columns, Pass
from fastbars.kernel.table cimport Record, Slot, Table

cdef enum:                      # flags of a bar
    FIRST = 1                   # path-driven: it began after time that nobody wanted; anchored: input ended in its interval
    FILLED = 2                  # trades that it lacked, or might have lacked, came from REST
    DIRTY = 4                   # amended, and not issued again yet
    UNPRICED = 8                # without trades, and no trade before it whose price it could have
    ASTRAY = 16                 # anchored: cut where trades were missing that cannot be put in any more

cdef enum:                      # BarStatus, worst last
    COMPLETE
    HEALED
    PUBLISHED
    RETRACTED                   # with what is known now there is no such bar
    PROVISIONAL
    UNVERIFIABLE
    SAMPLED
    REPORTED                    # of bars that are candles: the kernel gives it to none (and knows it as REPORTED_STATUS)
    PARTIAL
    GAP

cdef enum:                      # CloseReason
    BY_TRADE
    BY_WATERMARK
    BY_CLOCK
    BY_GAP
    BY_END
    BY_CANDLE                   # as REPORTED
    BY_ANCHOR                   # the interval in which it was cut is over
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


cdef void link(Table *table, int spec, int symbol_id, int32_t before, int32_t r, int32_t behind) noexcept nogil
# The first closed bar that ends later than a time, and the one before a place in the list; -1: none.
cdef int32_t first_behind(const Table *table, const Slot *slot, int64_t time_ns) noexcept nogil
cdef int32_t one_before(const Table *table, const Slot *slot, int32_t r) noexcept nogil
cdef void recheck_held(Table *table, int spec, int symbol_id, int64_t since) noexcept nogil
cdef void evict(Table *table, int spec, int symbol_id, int64_t event_ns) noexcept nogil
cdef bint flatten(const Table *table, Record *record, int64_t close, uint8_t status) noexcept nogil
cdef bint lands(const Table *table, Pass *run, int tree, Py_ssize_t row) noexcept nogil
cdef void keep_inside(Table *table, int spec, int symbol_id, int32_t r) noexcept nogil
# Adds a trade to what is inside the open bar of a spec, or record `r`, whose summary it was added to.
cdef void add_inside_bar(
    Table *table, int spec, int symbol_id, int32_t r, const Columns *batch, Py_ssize_t row
) noexcept nogil
cdef bint fold_late(Table *table, Pass *run, int spec, Py_ssize_t row) noexcept nogil
cdef void revise(Table *table, int spec, int symbol_id, int32_t r, bint changed, Py_ssize_t row) noexcept nogil
cdef void follow_proof(Table *table, int spec, int symbol_id) noexcept nogil
cdef void prove(Table *table, int spec, int symbol_id, int64_t time_ns, Py_ssize_t row) noexcept nogil
cdef void rejudge(
    Table *table, int spec, int symbol_id, int64_t since, int64_t until, bint heals, Py_ssize_t row) noexcept nogil
cdef Judgement judge(const Table *table, int spec, int symbol_id, const Record *record) noexcept nogil
cdef bint is_lost(const Table *table, int spec, int symbol_id, int64_t open_time, int64_t close_time) noexcept nogil
cdef void note_safe(const Table *table, int symbol_id) noexcept nogil
cdef void bound_gaps(Table *table, int symbol_id) noexcept nogil
cdef set partial_beginnings(const Table *table, int symbol_id, int64_t longest_ns)
cdef int prove_beginning(Table *table, int symbol_id, int64_t trade_id, int64_t time_ns) except -1
cdef int leave_out_ids(Table *table, int symbol_id, list ranges) except -1
