# The rules of imbalance and runs bars, fixed and adaptive: what a trade does to a path, as small functions without any state
# but what they are handed. docs/bar-kinds.md has the definition, with formulas.
#
# Nothing here depends on the scales of the symbol: what adaptive bars expect is kept in parts of the step, and rounded
# there, so that a symbol whose scales widen gets the same bars as one that had them from the beginning.
#
# Units: sums trades, sizes or price x size, as the step; expectations in parts of the step, of which it has PARTS.

from libc.stdint cimport int64_t, uint64_t

from fastbars.kernel.scaled cimport HIGHEST, add128, int128, less128

cdef enum:
    PART_BITS = 16
    PARTS = 65536
    MOST_PARTS = 262144         # 4 steps: no threshold, nor what a bar adds to an expectation, is further
    LEAST_PARTS = 16384         # a quarter of the step: no threshold is below
    DECAY = 8                   # a finished bar weighs an eighth, and each before it seven eighths of the one behind

cdef struct Flow:               # of imbalance and runs bars
    int128[2] sums              # of the open bar, and 0 where there is none: [0] sold, [1] bought
    int128 quote                # likewise: the quote sum of its trades, of those by value
    int64_t price               # of the last trade
    int64_t sign                # of the last trade; 0: not known yet
    int64_t begun               # there was a trade
    int64_t finished            # a bar has reached its threshold: there is an expectation
    int64_t[2] expected         # of imbalance [0], signed; of runs [0] sold, [1] bought


cdef inline int128 less_of(const int128 *a, const int128 *b) noexcept nogil:
    # a - b, where both are 0 or more.
    cdef int128 difference
    difference.lo = a.lo - b.lo
    difference.hi = a.hi - b.hi - (a.lo < b.lo)
    return difference


cdef inline int64_t sign_of(const Flow *flow, int64_t price, int side) noexcept nogil:
    # The side of the taker where it is known, else the tick rule.
    if side:
        return side
    if not flow.begun or price == flow.price:
        return flow.sign
    return 1 if price > flow.price else -1


cdef inline bint follow_flow(Flow *flow, int64_t price, int side, const int128 *amount) noexcept nogil:
    # Takes in a trade. True: a sum left its range.
    flow.sign = sign_of(flow, price, side)
    flow.begun = 1
    flow.price = price
    return flow.sign != 0 and add128(&flow.sums[flow.sign > 0], amount)


cdef inline int128 reached_by(const Flow *flow, bint runs) noexcept nogil:
    # |theta|
    cdef bint bought = less128(&flow.sums[0], &flow.sums[1])
    return flow.sums[bought] if runs else less_of(&flow.sums[bought], &flow.sums[not bought])


cdef inline int64_t parts_of(int128 amount, const int128 *step) noexcept nogil:
    # amount / step in parts, rounded down, MOST_PARTS at most. Nothing here leaves 128 bits.
    cdef int64_t parts = 0
    cdef int128 rest
    cdef int bit
    while not less128(&amount, step):
        parts += 1
        if parts << PART_BITS == MOST_PARTS:
            return MOST_PARTS
        amount = less_of(&amount, step)
    for bit in range(PART_BITS):
        parts <<= 1
        rest = less_of(step, &amount)
        if less128(&amount, &rest):
            add128(&amount, &amount)
        else:
            parts |= 1
            amount = less_of(&amount, &rest)
    return parts


cdef inline int64_t threshold_parts(const Flow *flow, bint runs) noexcept nogil:
    cdef int64_t parts
    if not flow.finished:
        return PARTS
    parts = max(flow.expected[0], flow.expected[1]) if runs else max(flow.expected[0], -flow.expected[0])
    return min(max(parts, LEAST_PARTS), MOST_PARTS)


cdef inline bint is_flow_full(const Flow *flow, const int128 *step, bint runs, bint adaptive) noexcept nogil:
    # In parts that are rounded down: whole thresholds of so many parts are reached by the same sums as exact ones. Only a
    # threshold of 4 steps is where parts end.
    cdef int128 reached = reached_by(flow, runs)
    if adaptive and flow.finished:
        return parts_of(reached, step) >= threshold_parts(flow, runs)
    return not less128(&reached, step)


cdef inline int64_t blended(int64_t expected, int64_t parts) noexcept nogil:
    # Rounded towards 0.
    cdef int64_t sum = (DECAY - 1) * expected + parts
    return sum // DECAY if sum >= 0 else -(-sum // DECAY)


cdef inline void expect(Flow *flow, const int128 *step, bint runs) noexcept nogil:
    # Takes in a bar that has reached its threshold.
    cdef int64_t[2] parts
    cdef int k
    if runs:
        parts[0], parts[1] = parts_of(flow.sums[0], step), parts_of(flow.sums[1], step)
    else:
        parts[0], parts[1] = parts_of(reached_by(flow, False), step), 0
        if less128(&flow.sums[1], &flow.sums[0]):
            parts[0] = -parts[0]
    for k in range(2):
        flow.expected[k] = blended(flow.expected[k], parts[k]) if flow.finished else parts[k]
    flow.finished = 1


cdef inline bint is_sound_flow(const Flow *flow, bint is_open) noexcept nogil:
    cdef int k
    for k in range(2):
        if flow.sums[k].hi < 0 or not -MOST_PARTS <= flow.expected[k] <= MOST_PARTS:
            return False
        if not is_open and (flow.sums[k].hi or flow.sums[k].lo) or not flow.finished and flow.expected[k]:
            return False
    if not is_open and (flow.quote.hi or flow.quote.lo) or not 0 <= flow.finished <= flow.begun:
        return False
    if not flow.begun:
        return flow.price == flow.sign == 0 and not is_open
    return flow.begun == 1 and -1 <= flow.sign <= 1 and -HIGHEST <= flow.price
