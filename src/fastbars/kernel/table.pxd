from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t
from libc.string cimport memset

from fastbars.kernel.batch cimport TickBatch
from fastbars.kernel.coverage cimport Coverage
from fastbars.kernel.groups cimport Groups, append_member, watermark_of
from fastbars.kernel.ids cimport Ids, Ledger
from fastbars.kernel.inside cimport Inside
from fastbars.kernel.instruments cimport Instruments, Scale
from fastbars.kernel.rows cimport Rows
from fastbars.kernel.rules cimport is_outside, is_time_kind
from fastbars.kernel.scaled cimport HIGHEST, LOWEST, int128
from fastbars.kernel.summary cimport SUMMARY_BYTES, Summary
from fastbars.kernel.tape cimport Tape
from fastbars.kernel.trees cimport Specs, SpecTrees

cdef enum:
    LINE_BYTES = 64
    SLOT_PADDING = -(SUMMARY_BYTES + 48) & (LINE_BYTES - 1)     # 48: what a Slot holds beside its bar

cdef struct Next:           # what the next trade of an open time bar is like, where it changes nothing but its sums
    int64_t limit           # earlier than its close_time; LOWEST where each trade has to be looked at alone
    int64_t id              # the id after the newest one, be that of a trade or void; with last_time a ledger's tip

cdef union Gate:            # what a trade must not reach, to change nothing but the sums of the open bar
    Next next               # time bars
    int128 step             # path-driven bars: that of the spec, at the symbol's scales (but for trades), and a mark
                            # in its sign, see `began_late`

cdef struct Slot:           # one symbol and spec: its open bar, and where its closed ones are
    # Four 64-byte lines: an ordinary trade touches the first three, the gate and most of the bar.
    Gate gate
    Summary bar             # while no time bar is open, open_time == close_time == end of the last one; anchored: the
                            # interval of the anchor, whether one is open or not
    int64_t contract        # of an inverse instrument: stands in for the price in quote sums; else 0
    int32_t oldest          # closed bars kept for amending: a list through Record.next; -1: none
    int32_t newest
    uint8_t flags           # of the open bar
    uint8_t never_opened    # no bar yet
    uint8_t path_lost       # path-driven: LOST_PATH, trades are missing from here on (anchored: in this interval);
                            # ENDED_PATH, anchored: bars of this interval were ended by the end of input
    Scale scale             # of these bars
    int8_t quote_scale
    uint8_t unproven        # some closed bars end behind Past.proven_ns
    uint8_t contained       # of an open time bar: the bars of all specs that it feeds are open around it
    uint8_t taped           # anchored: it has a tape, and no trade is ordinary
    int32_t index           # anchored: how many bars of this interval were closed
    uint8_t[SLOT_PADDING] unused    # up to a whole line

cdef struct Past:           # the rest that is known of a symbol and spec, seldom read
    int64_t newest_ns       # of a root: latest time of the trades that its tree has placed, but for the open bar; of all:
                            # latest time of a void id
    int64_t proven_ns       # as Line.proven_ns, as far as the closed bars are judged by it
    int64_t let_go_ns       # closed bars up to here were let go although they waited for trades
    int64_t evicted_ns      # no closed bar behind this time was let go
    int64_t reached_ns      # anchored: latest time of the closed bars of this interval

cdef enum:                  # Slot.path_lost
    WHOLE_PATH
    LOST_PATH
    ENDED_PATH

cdef struct Record:         # a closed bar that can still be amended
    Summary bar             # anchored: open_time is that of the anchor, close_time behind all that it is made of
    int64_t missing         # as it was issued last
    int32_t next
    int32_t previous        # not set of the oldest, so that letting that one go touches no other
    int32_t held            # of the oldest: up to this one all are kept for holes that reach into them; -1: not known
    int32_t revision
    int32_t unpublished     # as it was issued last
    uint8_t status
    uint8_t reason
    uint8_t flags
    uint8_t unused          # 0, so that equal records are equal bytes
    int32_t index           # anchored: its number within the interval
    int32_t padding         # 0

cdef struct Records:        # all closed bars that can still be amended
    Record *items
    int32_t count
    int32_t held            # of them in use
    int32_t free            # the unused ones: a list through Record.next
    Py_ssize_t capacity

cdef struct Terms:          # what a kernel was made with
    int64_t lateness_ns
    int64_t horizon_ns      # how long after its close_time a bar with a hole is kept
    bint by_id              # ids order the trades; else (time, arrival)
    bint proof              # contiguous ids stand for every trade
    bint fill               # intervals without trades are issued, flat

cdef struct Table:          # every bar of a kernel
    Specs specs
    Ids *ids                # NULL where ids prove nothing
    Coverage coverage
    Slot **slots            # [spec][symbol], on 64-byte lines
    Past **pasts            # [spec][symbol]
    char **states           # [spec] of path-driven bars: `state_bytes` of each symbol, what their rule keeps
    size_t *state_bytes     # [spec]
    Tape ***tapes           # [spec][symbol] of anchored specs: what may have to be cut again; NULL: nothing
    int64_t most_taped      # trades of a symbol and spec
    Py_ssize_t symbols      # slots in use of each spec
    int32_t *appeared       # symbols in order of their first trade
    Py_ssize_t appeared_count
    Records records
    Inside inside           # of bars whose specs ask for more than a summary
    Rows rows
    Terms terms
    bint sequenced          # a batch with sequence numbers was seen: the ledger counts those
    Groups groups
    int64_t largest_contract    # 0: no instrument is inverse
    int64_t arrivals        # rows taken so far
    int64_t duplicates
    int64_t voids           # rows of size 0 taken: their ids are used up, and nothing was traded
    int64_t healed          # trades taken from REST
    int64_t ordinary_closes # bars closed by ordinary_close.pxd
    # After a restart: bars that the process before may have issued begin with this revision, those that open up to a time.
    int32_t floor
    int64_t floor_until_ns  # HIGHEST until the first event; LOWEST: there was no restart
    int64_t floor_seen_ns   # the latest event of the snapshot: an earlier one after it, such as a late trade, tells nothing


cdef inline bint has_appeared(const Table *table, Py_ssize_t symbol_id) noexcept nogil:
    # Has had a bar. Not of every spec: trades from REST open none that is path-driven.
    cdef int k
    for k in range(table.specs.count):
        if not table.slots[k][symbol_id].never_opened:
            return True
    return False


cdef inline bint is_open(const Table *table, int spec, int symbol_id) noexcept nogil:
    cdef const Summary *bar = &table.slots[spec][symbol_id].bar
    return bar.open_time < bar.close_time if is_time_kind(table.specs.rules[spec].kind) else bar.largest > 0


cdef inline bint is_shown(const Table *table, int spec, int symbol_id) noexcept nogil:
    # A bar is open; not the time between two sessions.
    return is_open(table, spec, symbol_id) and not is_outside(
        &table.specs.rules[spec], table.slots[spec][symbol_id].bar.open_time)


cdef inline int64_t event_time(const Table *table, int tree, int symbol_id) noexcept nogil:
    cdef int root = table.specs.trees[tree].root
    return max(
        watermark_of(&table.groups, symbol_id), max(table.pasts[root][symbol_id].newest_ns, table.slots[root][symbol_id].bar.last_time))


cdef inline bint began_late(const Slot *slot) noexcept nogil:
    # Of a path-driven spec: its open bar has late trades alone, so that its last id is not the symbol's newest one, and
    # the id after it is a duplicate. The next trade that is not late ends this.
    return slot.gate.step.hi < 0


cdef inline void mark_begun_late(Slot *slot, bint late) noexcept nogil:
    slot.gate.step.hi = slot.gate.step.hi | LOWEST if late else slot.gate.step.hi & HIGHEST


cdef inline Tape *tape_of(const Table *table, int spec, Py_ssize_t symbol_id) noexcept nogil:
    return NULL if table.tapes[spec] is NULL else table.tapes[spec][symbol_id]


cdef inline void *state_of(const Table *table, int spec, Py_ssize_t symbol_id) noexcept nogil:
    return table.states[spec] + symbol_id * table.state_bytes[spec]


cdef inline void clear_state(Table *table, int spec, Py_ssize_t symbol_id) noexcept nogil:
    # As before the first trade: with it the path of a rule begins anew.
    memset(state_of(table, spec, symbol_id), 0, table.state_bytes[spec])


cdef inline void begin_record(Record *record, int32_t revision, uint8_t reason, uint8_t flags) noexcept nogil:
    # Its bar is there; what is not set here comes with the first judgement.
    record.revision = revision
    record.reason = reason
    record.flags = flags
    record.held = -1
    record.unused = 0
    record.index = -1
    record.padding = 0


cdef inline int32_t first_revision(const Table *table, int64_t open_time) noexcept nogil:
    return table.floor if open_time <= table.floor_until_ns else 0


cdef inline void note_event(Table *table, int64_t time_ns) noexcept nogil:
    # The first one after a restart tells up to when the process before can have issued bars.
    if table.floor_until_ns == HIGHEST and time_ns > table.floor_seen_ns:
        table.floor_until_ns = time_ns


cdef inline int64_t age_at(int64_t close_time, int64_t event_ns) noexcept nogil:
    # How much event time is behind the end of a bar; LOWEST where there is none, or it is out of range.
    return LOWEST if close_time > 0 and event_ns < LOWEST + close_time else event_ns - close_time


cdef inline void appear(Table *table, int symbol_id) noexcept nogil:
    # It has had a bar, or is to have one; called before the first slot says so.
    if not has_appeared(table, symbol_id):
        table.appeared[table.appeared_count] = symbol_id
        table.appeared_count += 1
        if not table.groups.unlinked:
            append_member(&table.groups, symbol_id)


# The open bar with all that will be merged into it. True: a sum leaves its range.
cdef bint total_bar(const Table *table, int spec, Py_ssize_t symbol_id, Summary *bar) noexcept nogil
cdef int32_t new_record(Table *table) noexcept nogil        # -1: there is no memory
cdef void free_record(Table *table, int32_t r) noexcept nogil
cdef void issue(Table *table, int spec, int symbol_id, const Record *record, Py_ssize_t row) noexcept nogil
cdef int64_t whole_number(str name, object value) except? -1


cdef class BarTable:            # owns the memory of a Table
    cdef Table table
    cdef Instruments instruments
    cdef Ledger ledger              # None where ids prove nothing
    cdef SpecTrees trees
    cdef void **blocks              # the memory that slots lie in
    cdef Py_ssize_t capacity
    cdef int version                # of the instruments, whose scales the bars have followed
    cdef set unfit                  # symbols whose open bars cannot: theirs are at a coarser scale than the instruments
    cdef object saved
    cdef bint blank                 # no trade was taken, and nothing noted
    cdef int allocate(self) except -1
    cdef int grow(self, int spec, Py_ssize_t capacity) except -1
    cdef void point_tips(self) noexcept
    cdef void count_sequences(self) noexcept
    cdef int set_up(self, Py_ssize_t start, Py_ssize_t stop) except -1
    cdef int reserve(self) except -1
    cdef int take_scale(self, int spec, Py_ssize_t symbol_id, Scale scale) except -1
    cdef int take_step(self, int spec, Slot *slot) except -1
    cdef double follow_instruments(self) except? -1
    cdef bint rescale(self, Py_ssize_t symbol_id, Scale scale) except? False
    cdef bint widen_waiting(self, Py_ssize_t s, int64_t price_factor, int64_t size_factor, bint trial) noexcept nogil
    cdef void add_waiting(self, Py_ssize_t s, double *volume, double *quote) noexcept nogil
    cdef bint has_room(self, Py_ssize_t symbol_id, Scale scale, double *largest) noexcept nogil
    cdef double largest(self) noexcept nogil
    cdef double largest_of(self, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
    cdef Py_ssize_t size(self) noexcept nogil
    cdef int add_group(self) except -1
    cdef void clear_groups(self) noexcept
    cdef int assign(self, Py_ssize_t symbol_id, int32_t group) except -1
    cdef int save(self) except -1
    cdef int restore(self) except -1
    cdef int forget_saved(self) except -1
    cdef dict copy_parts(self, dict recycled=*)
    cdef int put_parts(self, dict parts) except -1
    cdef list counters(self)
    cdef list closings(self)
    cdef int put_counters(self, list counters) except -1
    cdef list layout(self)
    cdef dict dump(self, dict recycled=*)
    cdef int take_memory(self, dict parts) except -1
    cdef void make_room(self, TickBatch batch, Py_ssize_t more) noexcept


cdef inline bint is_settled(BarTable bars) noexcept:
    # The table knows all symbols, and its sums are at the scales that they have now.
    return bars.table.symbols == bars.instruments.count and bars.version == bars.instruments.version and not bars.unfit
