"""The coverage ledger: in which spans of exchange time not every trade of a symbol would have been received.

It knows gaps, not bars. A symbol is covered but for its gaps: those that are over are a short list, and one may be open. A new
symbol has one, open since ever, which nobody minds (UNWANTED). Four things change a symbol's coverage:

    covered --uncover--> open gap --cover--> covered       the gap is over, and stays
    lose                                                    a gap that is over already; of no length where it is one trade
    bridge                                                  nothing was missed in between: LOST gaps shrink

A gap concerns every bar that it overlaps; that of a trade which came too late for the bar of one spec, only that bar.

Units: times int64 ns since the epoch, UTC.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from fastbars.kernel.limits cimport EARLIEST_NS, LATEST_NS, is_time
from fastbars.kernel.rows cimport grow_table
from fastbars.kernel.scaled cimport HIGHEST, LOWEST

cdef enum:
    MOST_GAPS = 64              # of a symbol, but for those that bars keep apart

cdef int64_t MOST_TRADES = 1 << 60


cdef void begin_cover(Cover *own) noexcept nogil:
    memset(own, 0, sizeof(Cover))
    own.open_since_ns, own.open_kind = LOWEST, UNWANTED
    own.begun_ns = HIGHEST
    own.lost_until_ns = LOWEST
    own.oldest = -1
    own.most = MOST_GAPS


cdef void begin_earlier(Coverage *coverage, int symbol_id, int64_t time_ns) noexcept nogil:
    # It began with a refused trade, whose time was later than that of its first one.
    cdef Cover *own = &coverage.covers[symbol_id]
    if coverage.covers_itself and own.oldest >= 0 and coverage.gaps[own.oldest].since_ns == LOWEST:
        coverage.gaps[own.oldest].until_ns = min(coverage.gaps[own.oldest].until_ns, time_ns)


# What it says.

cdef uint8_t kinds_in(
    const Coverage *coverage, int symbol_id, int spec, int64_t open_time, int64_t close_time, int64_t after
) noexcept nogil:
    cdef const Cover *own = &coverage.covers[symbol_id]
    cdef const Gap *gap
    cdef uint8_t kinds = 0
    cdef int32_t g = own.oldest
    if own.open_kind and own.open_since_ns < close_time:
        kinds |= own.open_kind
    while g >= 0:
        gap = &coverage.gaps[g]
        if gap.since_ns >= close_time:
            break
        if gap.until_ns >= after and affects(gap, spec, open_time, close_time):
            kinds |= gap.kind
        g = gap.next
    return kinds


cdef bint lacks_trades(
    const Coverage *coverage, int symbol_id, int spec, int64_t open_time, int64_t close_time, int64_t *missing
) noexcept nogil:
    cdef const Gap *gap
    cdef int32_t g = coverage.covers[symbol_id].oldest
    cdef bint lacking = False
    if coverage.covers[symbol_id].lost_until_ns < open_time:
        return False
    while g >= 0 and coverage.gaps[g].since_ns < close_time:
        gap = &coverage.gaps[g]
        if gap.trades and affects(gap, spec, open_time, close_time):
            lacking = True
            if missing[0] >= 0 and open_time <= gap.since_ns and gap.until_ns < close_time:
                missing[0] += gap.trades
            else:
                missing[0] = -1
        g = gap.next
    return lacking


cdef int64_t unwanted_until(
    const Coverage *coverage, int symbol_id, int spec, int64_t open_time, int64_t close_time
) noexcept nogil:
    cdef const Cover *own = &coverage.covers[symbol_id]
    cdef int64_t until = open_time
    cdef int32_t g = own.oldest
    if own.open_kind == UNWANTED and own.open_since_ns < close_time:
        return HIGHEST
    while g >= 0:
        if coverage.gaps[g].kind == UNWANTED and affects(&coverage.gaps[g], spec, open_time, close_time):
            until = max(until, coverage.gaps[g].until_ns)
        g = coverage.gaps[g].next
    return until


# The list.

cdef int32_t _new_gap(Coverage *coverage) noexcept nogil:
    cdef int32_t g = coverage.free
    if g >= 0:
        coverage.free = coverage.gaps[g].next
    elif coverage.count < coverage.capacity or grow_table(
        <void **>&coverage.gaps, &coverage.capacity, sizeof(Gap), 0
    ):
        g = coverage.count
        coverage.count += 1
    else:
        coverage.no_memory = True
        return -1
    coverage.held += 1
    return g


cdef void _remove(Coverage *coverage, Cover *own, int32_t before, int32_t g) noexcept nogil:
    if before >= 0:
        coverage.gaps[before].next = coverage.gaps[g].next
    else:
        own.oldest = coverage.gaps[g].next
    coverage.gaps[g].next = coverage.free
    coverage.free = g
    coverage.held -= 1
    own.count -= 1


cdef void _insert(Coverage *coverage, Cover *own, Gap gap) noexcept nogil:
    cdef int32_t g = _new_gap(coverage), before = -1, behind = own.oldest
    if g < 0:
        return
    while behind >= 0 and coverage.gaps[behind].since_ns <= gap.since_ns:
        before = behind
        behind = coverage.gaps[behind].next
    gap.next = behind
    gap.blocked = 0
    coverage.gaps[g] = gap
    if before >= 0:
        coverage.gaps[before].next = g
    else:
        own.oldest = g
    own.count += 1
    if gap.kind == LOST:
        own.lost_until_ns = max(own.lost_until_ns, gap.until_ns)


cdef int64_t _within_times(int64_t time_ns) noexcept nogil:
    return max(EARLIEST_NS, min(time_ns, LATEST_NS))    # no trade is beyond


# The four changes.

cdef Span cover(Coverage *coverage, int symbol_id, int64_t from_ns) noexcept nogil:
    # An open gap ends at `from_ns`, never before it began.
    cdef Cover *own = &coverage.covers[symbol_id]
    cdef Gap gap
    if not own.open_kind:
        return Span(HIGHEST, LOWEST)
    gap = plain_gap(own.open_since_ns, max(_within_times(from_ns), own.open_since_ns), own.open_kind)
    own.open_kind = 0
    own.open_since_ns = 0
    if gap.kind == LOST:
        _add_lost(coverage, own, gap)
    else:
        _insert(coverage, own, gap)
    return Span(gap.until_ns, HIGHEST)


cdef Span uncover(Coverage *coverage, int symbol_id, int64_t since_ns, uint8_t kind) noexcept nogil:
    # While a gap of the same kind is open, an earlier beginning extends it. One of the other kind ends where this one begins;
    # but time that was never wanted is not lost.
    cdef Cover *own = &coverage.covers[symbol_id]
    cdef int64_t before = own.open_since_ns
    since_ns = _within_times(since_ns)
    if own.open_kind == kind:
        if since_ns >= before:
            return Span(HIGHEST, LOWEST)
        own.open_since_ns = since_ns
        return Span(since_ns, before)
    if own.open_kind:
        if kind == LOST and own.begun_ns == HIGHEST:
            return Span(HIGHEST, LOWEST)
        since_ns = max(since_ns, before)
        cover(coverage, symbol_id, since_ns)
    own.open_kind, own.open_since_ns = kind, since_ns
    return Span(since_ns, HIGHEST)


cdef Span lose(Coverage *coverage, int symbol_id, Gap gap) noexcept nogil:
    cdef Cover *own = &coverage.covers[symbol_id]
    cdef Gap *other
    cdef int32_t g
    gap.since_ns, gap.until_ns = _within_times(gap.since_ns), _within_times(gap.until_ns)
    if gap.since_ns > gap.until_ns:
        return Span(HIGHEST, LOWEST)
    gap.kind = LOST
    if is_plain(&gap):
        # (Where it is known already, ids may have shown meanwhile that it is so: bars are judged again.)
        _add_lost(coverage, own, gap)
        return Span(gap.since_ns, gap.until_ns)
    g = own.oldest
    while g >= 0:       # one more trade, just as the last one
        other = &coverage.gaps[g]
        if other.since_ns == gap.since_ns and other.until_ns == gap.until_ns and (
            other.spec == gap.spec and other.kind == LOST and other.trades > 0 and gap.trades > 0
        ):
            other.trades = min(other.trades + gap.trades, MOST_TRADES)
            return Span(gap.since_ns, gap.until_ns)
        g = other.next
    _insert(coverage, own, gap)
    return Span(gap.since_ns, gap.until_ns)


cdef void _add_lost(Coverage *coverage, Cover *own, Gap gap) noexcept nogil:
    # As one with those that it overlaps, if none of them says as much.
    cdef Gap *other
    cdef int32_t g = own.oldest, before = -1, next
    while g >= 0:
        other = &coverage.gaps[g]
        next = other.next
        if is_plain(other) and other.since_ns <= gap.until_ns and other.until_ns >= gap.since_ns:
            if other.since_ns <= gap.since_ns and other.until_ns >= gap.until_ns:
                return
            gap.since_ns, gap.until_ns = min(gap.since_ns, other.since_ns), max(gap.until_ns, other.until_ns)
            _remove(coverage, own, before, g)
        else:
            before = g
        g = next
    _insert(coverage, own, gap)


cdef Span bridge(Coverage *coverage, int symbol_id, int64_t since_ns, int64_t until_ns) noexcept nogil:
    # Trades that are known to be lost stay so.
    cdef Cover *own = &coverage.covers[symbol_id]
    cdef Gap gap
    cdef Gap *other
    cdef int32_t g, before, next
    cdef Span span = Span(HIGHEST, LOWEST)
    since_ns, until_ns = _within_times(since_ns), _within_times(until_ns)
    if since_ns > until_ns:
        return span
    if own.open_kind == LOST and own.open_since_ns <= until_ns:
        span = Span(max(since_ns, own.open_since_ns), until_ns)
        if own.open_since_ns < since_ns:
            _insert(coverage, own, plain_gap(own.open_since_ns, since_ns - 1, LOST))
        own.open_since_ns = min(until_ns + 1, LATEST_NS)
    g, before = own.oldest, -1
    while g >= 0:
        other = &coverage.gaps[g]
        next = other.next
        if not (is_plain(other) and other.since_ns <= until_ns and other.until_ns >= since_ns):
            before = g
            g = next
            continue
        gap = other[0]
        span = Span(min(span.since_ns, max(gap.since_ns, since_ns)), max(span.until_ns, min(gap.until_ns, until_ns)))
        if gap.since_ns < since_ns and since_ns > EARLIEST_NS:
            other.until_ns = since_ns - 1
            before = g
        else:
            _remove(coverage, own, before, g)
        if gap.until_ns > until_ns:
            gap.since_ns = until_ns + 1
            _insert(coverage, own, gap)
            g, before = own.oldest, -1      # the list has changed; what was bridged is not found again
            continue
        g = next
    _find_lost_until(coverage, own)
    return span


cdef void _find_lost_until(Coverage *coverage, Cover *own) noexcept nogil:
    cdef int32_t g = own.oldest
    own.lost_until_ns = LOWEST
    while g >= 0:
        if coverage.gaps[g].kind == LOST:
            own.lost_until_ns = max(own.lost_until_ns, coverage.gaps[g].until_ns)
        g = coverage.gaps[g].next


# Bounds.

cdef void prune(Coverage *coverage, int symbol_id, int64_t before_ns) noexcept nogil:
    # Nobody asks for what was over before then.
    cdef Cover *own = &coverage.covers[symbol_id]
    cdef int32_t g = own.oldest, before = -1, next
    while g >= 0 and coverage.gaps[g].since_ns < before_ns:
        next = coverage.gaps[g].next
        if coverage.gaps[g].until_ns < before_ns:
            _remove(coverage, own, before, g)
        else:
            before = g
        g = next


cdef void fuse(Coverage *coverage, int symbol_id, int32_t most) noexcept nogil:
    # The oldest neighbours that are not `blocked` become one, until no more than `most` are left; none twice.
    cdef Cover *own = &coverage.covers[symbol_id]
    cdef Gap *gap
    cdef Gap *other
    cdef int32_t g = own.oldest
    while g >= 0 and coverage.gaps[g].next >= 0 and own.count > most:
        gap = &coverage.gaps[g]
        if not gap.blocked:
            other = &coverage.gaps[gap.next]
            gap.until_ns = max(gap.until_ns, other.until_ns)
            gap.trades = min(gap.trades + other.trades, MOST_TRADES)
            gap.kind = max(gap.kind, other.kind)
            if gap.spec != other.spec:
                gap.spec = EVERY_SPEC
            if gap.kind == LOST:
                own.lost_until_ns = max(own.lost_until_ns, gap.until_ns)
            _remove(coverage, own, g, gap.next)
        g = gap.next


# What a snapshot has put there.

cdef int check_coverage(const Coverage *coverage, Py_ssize_t symbols, int specs) except -1:
    # Every list ends, every gap is one that this kernel could have made, and none belongs to two symbols.
    cdef uint8_t *listed = <uint8_t *>calloc(coverage.count + 1, 1)
    cdef const Cover *own
    cdef int32_t held = 0, g, left
    cdef Py_ssize_t s
    if listed is NULL:
        raise MemoryError
    try:
        for s in range(symbols):
            own = &coverage.covers[s]
            g = _list_gaps(coverage, own, specs, listed)
            if g < 0 or not _is_cover(own) or g != own.count:
                raise ValueError(f"the snapshot's coverage of symbol {s} contradicts itself")
            held += g
        if held != coverage.held:
            raise ValueError(f"the snapshot has {held} gaps where it says {coverage.held}")
        g, left = coverage.free, coverage.count - coverage.held
        while g >= 0:
            if g >= coverage.count or listed[g]:
                raise ValueError("the snapshot's list of free gaps does not end, or leads elsewhere")
            listed[g] = 1
            left -= 1
            g = coverage.gaps[g].next
        if left or g != -1:
            raise ValueError("the snapshot has gaps that are neither free nor anybody's")
    finally:
        free(listed)
    return 0


cdef bint _is_cover(const Cover *own) noexcept nogil:
    if own.open_kind == 0:
        if own.open_since_ns != 0:
            return False
    elif own.open_kind > LOST or not (own.open_since_ns == LOWEST or is_time(own.open_since_ns)):
        return False
    return (
        (own.begun_ns == HIGHEST or is_time(own.begun_ns)) and (own.lost_until_ns == LOWEST or is_time(own.lost_until_ns))
        and own.most >= MOST_GAPS
    )


cdef int32_t _list_gaps(
    const Coverage *coverage, const Cover *own, int specs, uint8_t *listed
) noexcept nogil:
    # Marks the gaps of a symbol; returns how many. -1: a place is wrong, or listed twice, or a gap is none.
    cdef const Gap *gap
    cdef int64_t last = LOWEST
    cdef int32_t g = own.oldest, count = 0
    while g >= 0:
        if g >= coverage.count or listed[g]:
            return -1
        gap = &coverage.gaps[g]
        if not (
            EVERY_SPEC <= gap.spec < specs and 0 < gap.kind <= LOST and 0 <= gap.trades <= MOST_TRADES and gap.blocked <= 1
            and (gap.since_ns == LOWEST or is_time(gap.since_ns)) and is_time(gap.until_ns)
            and last <= gap.since_ns <= gap.until_ns
            and (gap.kind == UNWANTED or gap.until_ns <= own.lost_until_ns)
        ):
            return -1
        listed[g] = 1
        count += 1
        last = gap.since_ns
        g = gap.next
    return count if g == -1 else -1
