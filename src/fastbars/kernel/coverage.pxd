from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.string cimport memset


cdef enum:                      # kinds of gaps, as bits
    UNWANTED = 1                # nobody's time: the user had not begun, or has ended
    LOST = 2                    # trades may be missing

cdef enum:
    EVERY_SPEC = -1             # Gap.spec

cdef struct Gap:                # a span of exchange time that is over and was not covered
    int64_t since_ns
    int64_t until_ns            # both inclusive
    int64_t trades              # that bars lack though their ids are known; 0: none, or nobody knows
    int32_t next
    int32_t spec                # whose bars it concerns: those of others can have a trade that came too late for this one
    uint8_t kind
    uint8_t blocked             # while gaps are fused: not with the next one
    uint8_t[6] unused           # 0

cdef struct Cover:              # one symbol
    int64_t open_since_ns       # since when it is not covered, where it is not
    int64_t begun_ns            # time of its first trade, or refused trade; HIGHEST: none yet
    int64_t lost_until_ns       # no LOST gap reaches further; LOWEST: there is none
    int32_t oldest              # gaps that are over: a list through Gap.next, in order of their beginning; -1: none
    int32_t count
    int32_t most                # with more of them, some are fused
    uint8_t open_kind           # 0: covered now
    uint8_t[3] unused           # 0

cdef struct Coverage:           # of all symbols
    Cover *covers
    Gap *gaps
    int32_t count
    int32_t held                # of them in use
    int32_t free                # the unused ones: a list through Gap.next
    Py_ssize_t capacity
    bint covers_itself          # a symbol's first trade covers it, and a flush ends that
    bint is_down                # since `feed_down`, until `feed_up`
    bint no_memory              # there was none for a gap: the state is undefined

cdef struct Span:               # of time, both ends inclusive; what a change of the ledger concerns
    int64_t since_ns
    int64_t until_ns            # before since_ns: nothing has changed


cdef inline bint affects(const Gap *gap, int spec, int64_t open_time, int64_t close_time) noexcept nogil:
    # A bar [open_time, close_time).
    return gap.since_ns < close_time and gap.until_ns >= open_time and (gap.spec == EVERY_SPEC or gap.spec == spec)


cdef inline bint is_down_before(const Coverage *coverage, int symbol_id, int64_t time_ns) noexcept nogil:
    # Whether not every trade is received now, nor was just before this time.
    return coverage.covers[symbol_id].open_kind == LOST and coverage.covers[symbol_id].open_since_ns < time_ns


cdef inline bint is_plain(const Gap *gap) noexcept nogil:
    # It says no more than that trades may be missing: of those, what overlaps is one.
    return gap.kind == LOST and gap.trades == 0 and gap.spec == EVERY_SPEC


cdef inline Gap plain_gap(int64_t since_ns, int64_t until_ns, uint8_t kind) noexcept nogil:
    cdef Gap gap
    memset(&gap, 0, sizeof(Gap))
    gap.since_ns, gap.until_ns = since_ns, until_ns
    gap.spec, gap.kind = EVERY_SPEC, kind
    return gap


cdef void begin_cover(Cover *own) noexcept nogil
cdef void begin_earlier(Coverage *coverage, int symbol_id, int64_t time_ns) noexcept nogil
# The kinds of the gaps that affect [open_time, close_time), and last until `after` at least.
cdef uint8_t kinds_in(
    const Coverage *coverage, int symbol_id, int spec, int64_t open_time, int64_t close_time, int64_t after) noexcept nogil
# Whether it lacks trades whose ids are known; adds up how many, -1 where that cannot be told.
cdef bint lacks_trades(
    const Coverage *coverage, int symbol_id, int spec, int64_t open_time, int64_t close_time, int64_t *missing
) noexcept nogil
# Up to when nobody wanted what affects [open_time, close_time); HIGHEST: there is no end to it.
cdef int64_t unwanted_until(
    const Coverage *coverage, int symbol_id, int spec, int64_t open_time, int64_t close_time) noexcept nogil
cdef Span cover(Coverage *coverage, int symbol_id, int64_t from_ns) noexcept nogil
cdef Span uncover(Coverage *coverage, int symbol_id, int64_t since_ns, uint8_t kind) noexcept nogil
cdef Span lose(Coverage *coverage, int symbol_id, Gap gap) noexcept nogil
cdef Span bridge(Coverage *coverage, int symbol_id, int64_t since_ns, int64_t until_ns) noexcept nogil
cdef void prune(Coverage *coverage, int symbol_id, int64_t before_ns) noexcept nogil
cdef void fuse(Coverage *coverage, int symbol_id, int32_t most) noexcept nogil
cdef int check_coverage(const Coverage *coverage, Py_ssize_t symbols, int specs) except -1
