# One pass over a batch: how its rows are read, how they are to be taken, and what came of it.
#
# A Pass lives on the stack of the call that folds a batch, and every function that the call comes to is handed it: what is
# true of one batch alone stands nowhere else.
#
# Units: those of TickBatch.

from libc.stdint cimport int8_t, int32_t, int64_t, uint32_t, uint64_t

from fastbars.kernel.batch cimport TickBatch
from fastbars.kernel.scaled cimport LOWEST

cdef struct Columns:            # a batch, as the loops read it
    const int64_t *time_ns
    const int32_t *symbol_id
    const int64_t *price
    const int64_t *size
    const int8_t *side
    const int64_t *first_id     # where ids do not order the trades, these two are not read
    const int64_t *last_id
    const int64_t *count        # NULL: one trade a row
    const int32_t *places       # the rows to be folded in, ascending; NULL: all of them
    Py_ssize_t side_mask        # 0 where there is no side column: one unknown side for all
    int64_t arrivals            # arrival number of row 0
    uint32_t symbols            # symbol ids from here on are unknown
    Py_ssize_t longest          # rows whose sizes are sure to sum within 64 bits

cdef struct Seen:               # of prices and sizes, each less 1: the bits set in any; the highest: one is not positive
    # (with `voids` sizes are as they are: the highest bit says that one is negative)
    uint64_t prices
    uint64_t sizes

cdef struct Cut:                # bars of a symbol and spec that are cut again
    Py_ssize_t cause            # the row of the batch that it is for
    int32_t at                  # the closed bar that is to be met next; -1: none is left
    int64_t healed_from         # bars with this key, or later ones, were healed; HIGHEST: none
    bint silent                 # nothing is compared or issued: what was cut long ago is passed over

cdef struct Pass:
    Columns columns
    const int64_t *first        # what the ledger counts: the ids of a row, or its sequence number
    const int64_t *last
    Seen seen
    int64_t event_ns            # event time of the symbol at hand, before the row at hand
    Py_ssize_t overflow_row     # the first row with which a sum leaves its range; -1: none does
    bint single                 # each row has one id, and no instrument is inverse
    bint inverse                # some instrument is
    bint has_voids              # some rows have no size: their ids are used up, and nothing was traded
    bint careful                # each row is looked at alone: sums may overflow, or the ledger counts sequence numbers
    bint unchecked              # rows are checked as they are folded in
    bint invalid                # a row breaks a rule
    bint healing                # the batch is from REST
    bint fills                  # the row at hand lies in a known hole
    bint waited                 # it has waited for others of its series
    Cut *cut                    # NULL: trades are folded in as they come

cdef extern from * nogil:
    """
    static const int8_t fb_unknown_side = 0;
    """
    const int8_t UNKNOWN_SIDE "fb_unknown_side"


cdef inline void begin_pass(
    Pass *run, TickBatch batch, const int32_t *places, int64_t arrivals, Py_ssize_t symbols, bint by_id, bint inverse
) noexcept nogil:
    cdef Columns *columns = &run.columns
    columns.time_ns = batch.time_ns
    columns.symbol_id = batch.symbol_id
    columns.price = batch.price
    columns.size = batch.size
    columns.side = &UNKNOWN_SIDE if batch.side is NULL else batch.side
    columns.side_mask = 0 if batch.side is NULL else -1
    columns.first_id = batch.first_id
    columns.last_id = batch.last_id
    columns.count = batch.count
    columns.places = places
    columns.arrivals = arrivals
    columns.symbols = <uint32_t>symbols
    columns.longest = 0
    run.first = batch.first_id if batch.sequence is NULL else batch.sequence
    run.last = batch.last_id if batch.sequence is NULL else batch.sequence
    run.seen = Seen(0, 0)
    run.event_ns = LOWEST
    run.overflow_row = -1
    run.single = by_id and batch.last_id == batch.first_id and batch.count is NULL and not inverse
    run.inverse = inverse
    run.cut = NULL
    run.has_voids = run.careful = run.unchecked = run.invalid = run.healing = run.fills = run.waited = False


cdef inline void begin_idle_pass(Pass *run) noexcept nogil:
    # For what happens without a trade. (The columns are not read.)
    run.event_ns = LOWEST
    run.overflow_row = -1
    run.healing = run.fills = run.waited = False
    run.cut = NULL


cdef inline Py_ssize_t row_at(const int32_t *places, Py_ssize_t at) noexcept nogil:
    return at if places is NULL else places[at]


cdef inline int64_t trades_of(const Columns *batch, Py_ssize_t i) noexcept nogil:
    # A row stands for several trades where the exchange sums them up.
    return 1 if batch.count is NULL else batch.count[i]


cdef inline void note_overflow(Pass *run, Py_ssize_t row) noexcept nogil:
    run.overflow_row = row if run.overflow_row < 0 else min(run.overflow_row, row)
