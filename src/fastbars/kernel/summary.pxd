# A bar as the mergeable summary of the trades in it: how trades are added to one, and how two are merged.
#
# A field of a bar is added to in three places: by any trade (add_trade), by an ordinary one (add_ordinary) and by a stretch
# of those (add_stretch). The last two are where nearly all trades end, so they are written for the machine; their caller
# knows that no sum can leave 128 bits. A row without a size is void: its id is used up, and it adds nothing. Only batches
# that have such rows are folded in with `voids`, a constant of each loop.
#
# Units: times int64 ns since the epoch, UTC; prices and sizes mantissas; quote sums price x size.

from libc.math cimport fabs
from libc.stdint cimport int8_t, int64_t, uint64_t, uint8_t

from fastbars.kernel.passes cimport Columns, Seen, trades_of
from fastbars.kernel.scaled cimport (
    HIGHEST, LOWEST, NOTHING, add128, add128_int64, add128_product, add128_uint64, add128_wide, double128, int128, scale128,
    wide, wide_difference, wide_product, wide_sum, wide_zero,
)

cdef enum:
    SUMMARY_BYTES = 184         # sizeof(Summary), for the length of what holds one

    SOLD = 0                    # places in Summary.counts, by the side of the taker: side + 1
    UNSIDED = 1
    ALL = UNSIDED               # of a Row
    BOUGHT = 2

cdef struct Sums:
    int128 volume
    int128 quote

cdef struct Summary:        # the mergeable summary of a set of trades of one bar
    # What every trade reads and writes comes first: with the gate of a Slot before it, the first half of its lines.
    int64_t last_time       # largest trade time; of a time bar, where ids tell, that of void ids too
    int64_t last_id         # of the closing trade; its arrival number where ids prove nothing
    int64_t high
    int64_t low
    int64_t close
    int64_t largest         # size of the largest trade, a row that sums up several being one; 0: there is none
    Sums[2] sums            # [1] of the trades whose taker bought, [0] of the others; of a Row: [0] of all trades
    int64_t[3] counts       # trades whose taker sold, of unknown side, whose taker bought; of a Row: [ALL] of all trades
    int64_t last_trade_time # as last_time, of trades alone; LOWEST: there is none, or of a Row also: not known
    int64_t open_time
    int64_t close_time
    int64_t first_time      # smallest trade time
    int64_t first_id        # of the opening trade; its arrival number where ids prove nothing
    int64_t open


cdef inline void clear_bar(Summary *bar, int64_t open_time, int64_t close_time) noexcept nogil:
    # Field by field: a memset of this length becomes an instruction that costs more than all of them.
    bar.last_time = bar.last_id = bar.high = bar.last_trade_time = LOWEST
    bar.low = bar.first_time = bar.first_id = HIGHEST
    bar.close = bar.open = bar.largest = bar.counts[SOLD] = bar.counts[UNSIDED] = bar.counts[BOUGHT] = 0
    bar.sums[0].volume = bar.sums[0].quote = bar.sums[1].volume = bar.sums[1].quote = NOTHING
    bar.open_time = open_time
    bar.close_time = close_time


cdef inline int64_t count_of(const Summary *bar) noexcept nogil:
    # Trades; not of a Row, which has them in counts[ALL].
    return bar.counts[SOLD] + bar.counts[UNSIDED] + bar.counts[BOUGHT]


cdef inline int64_t known_sum(int64_t one, int64_t other) noexcept nogil:
    # Of two counts of a Row, each of which may not be known: then it is negative, and so is the sum.
    return -1 if one < 0 or other < 0 else one + other


cdef inline bint sum_sides(Summary *bar) noexcept nogil:
    # From the sums of an open bar or a record to those of a row. True: one leaves its range.
    bar.counts[ALL] = count_of(bar)
    return add128(&bar.sums[0].volume, &bar.sums[1].volume) | add128(&bar.sums[0].quote, &bar.sums[1].quote)


cdef inline int128 total_of(const Summary *bar, bint volume) noexcept nogil:
    # Of both sides: the volume, or else the quote sum.
    cdef int128 total = bar.sums[0].volume if volume else bar.sums[0].quote
    add128(&total, &bar.sums[1].volume if volume else &bar.sums[1].quote)
    return total


cdef inline bint is_beyond(const Summary *bar) noexcept nogil:
    # Whether a sum over both sides leaves its range.
    cdef int128 volume = bar.sums[0].volume, quote = bar.sums[0].quote
    return add128(&volume, &bar.sums[1].volume) | add128(&quote, &bar.sums[1].quote)


cdef inline bint fits(const Summary *bar, int64_t price_factor) noexcept nogil:
    # Whether its prices stay within 64 bits at a scale that is so much larger.
    cdef int64_t most = HIGHEST // price_factor
    if not -most <= bar.close <= most:
        return False
    return bar.high == LOWEST or (-most <= bar.low and bar.high <= most and -most <= bar.open <= most)


cdef inline double volume_of(const Summary *bar) noexcept nogil:
    return double128(&bar.sums[0].volume) + double128(&bar.sums[1].volume)


cdef inline double quote_of(const Summary *bar) noexcept nogil:
    # Of both sides, signs apart.
    return fabs(double128(&bar.sums[0].quote)) + fabs(double128(&bar.sums[1].quote))


cdef inline bint add_trade(Summary *bar, const Columns *batch, Py_ssize_t i, int64_t contract, bint by_id) noexcept nogil:
    # True: a sum left its range. Open and close follow the order key: the id, or (time, arrival).
    cdef int64_t price = batch.price[i], size = batch.size[i], time = batch.time_ns[i]
    cdef int64_t paid = contract if contract else price
    cdef int64_t first, last
    cdef int side = batch.side[i & batch.side_mask]
    cdef Sums *sums = &bar.sums[side > 0]
    if by_id:
        first, last = batch.first_id[i], batch.last_id[i]
        if first < bar.first_id:
            bar.first_id, bar.open = first, price
        if last > bar.last_id:
            bar.last_id, bar.close = last, price
    else:
        if time < bar.first_time:
            bar.first_id, bar.open = batch.arrivals + i, price
        if time >= bar.last_time:
            bar.last_id, bar.close = batch.arrivals + i, price
    bar.first_time = min(bar.first_time, time)
    bar.last_time = max(bar.last_time, time)
    bar.last_trade_time = max(bar.last_trade_time, time)
    bar.high = max(bar.high, price)
    bar.low = min(bar.low, price)
    bar.largest = max(bar.largest, size)
    bar.counts[side + 1] += trades_of(batch, i)
    return add128_int64(&sums.volume, size) | add128_product(&sums.quote, paid, size) | is_beyond(bar)


cdef inline void begin_bar(
    Summary *bar, const Columns *batch, Py_ssize_t i, int64_t first, int64_t last, bint single, int64_t contract,
    int64_t open_time, int64_t close_time
) noexcept nogil:
    # As clear_bar and the trade at row i, which no sum can leave its range with.
    cdef int64_t price = batch.price[i], size = batch.size[i]
    cdef int side = batch.side[i & batch.side_mask]
    cdef bint taker = side > 0
    cdef Sums *own = &bar.sums[taker]
    cdef Sums *other = &bar.sums[1 - taker]
    bar.last_time = bar.last_trade_time = bar.first_time = batch.time_ns[i]
    bar.last_id = last
    bar.first_id = first
    bar.high = bar.low = bar.close = bar.open = price
    bar.largest = size
    bar.counts[SOLD] = bar.counts[UNSIDED] = bar.counts[BOUGHT] = 0
    bar.counts[side + 1] = 1 if single else trades_of(batch, i)
    other.volume = other.quote = own.quote = NOTHING
    own.volume.lo, own.volume.hi = <uint64_t>size, 0
    add128_wide(&own.quote, wide_product(contract if contract else price, size))
    bar.open_time, bar.close_time = open_time, close_time


cdef inline int64_t chosen(int64_t of_trade, int64_t of_void, int64_t size) noexcept nogil:
    # By arithmetic: as a condition it becomes a branch, and which rows are void cannot be guessed.
    return of_void ^ ((of_void ^ of_trade) & -<int64_t>(size != 0))


cdef inline void add_ordinary(
    Summary *bar, const Columns *batch, Py_ssize_t i, int64_t id, bint single, bint timed, bint voids, int64_t contract,
    Seen *seen
) noexcept nogil:
    # Open, first id and first time stay. No branch that the trades decide: high and low by selection, the side's sums
    # by their place; a void row has the last close for its price, so that it changes none.
    cdef int64_t size = batch.size[i]
    cdef int64_t price = chosen(batch.price[i], bar.close, size) if voids else batch.price[i]
    cdef wide quote = wide_product(contract if contract else price, size)
    cdef int64_t side = batch.side[i & batch.side_mask]
    cdef Sums *sums = &bar.sums[side > 0]
    add128_wide(&sums.quote, quote)
    add128_uint64(&sums.volume, <uint64_t>size)
    seen.prices |= <uint64_t>price - 1
    if voids:
        seen.sizes |= <uint64_t>size
        bar.last_time = batch.time_ns[i] if timed else chosen(batch.time_ns[i], bar.last_time, size)
        bar.last_trade_time = chosen(batch.time_ns[i], bar.last_trade_time, size)
        bar.last_id = chosen(id, bar.last_id, size)
    else:
        seen.sizes |= <uint64_t>size - 1
        bar.last_time = bar.last_trade_time = batch.time_ns[i]
        bar.last_id = id
    bar.high = max(bar.high, price)
    bar.low = min(bar.low, price)
    bar.largest = max(bar.largest, size)
    bar.close = price
    if voids:
        bar.counts[side + 1] += chosen(1 if single or batch.count is NULL else batch.count[i], 0, size)
    else:
        bar.counts[side + 1] += 1 if single or batch.count is NULL else batch.count[i]


cdef inline void count_sides(Summary *bar, const int8_t *sides, Py_ssize_t rows) noexcept nogil:
    # In blocks whose counts fit a byte, so that the compiler takes sixteen rows at once.
    cdef Py_ssize_t start = 0, stop, i
    cdef uint8_t sold, bought
    while start < rows:
        stop = min(start + 240, rows)
        sold = bought = 0
        for i in range(start, stop):
            sold += sides[i] < 0
        for i in range(start, stop):
            bought += sides[i] > 0
        bar.counts[SOLD] += sold
        bar.counts[BOUGHT] += bought
        bar.counts[UNSIDED] += stop - start - sold - bought
        start = stop


cdef inline void add_stretch(
    Summary *bar, const Columns *batch, Py_ssize_t start, Py_ssize_t stop, bint by_id, bint single, bint timed, bint voids,
    int64_t contract, bint sided, Seen *seen
) noexcept nogil:
    # As add_ordinary, for rows of one symbol; what they sum to stays in registers until the end.
    cdef const int64_t *prices = batch.price
    cdef const int64_t *sizes = batch.size
    cdef const int8_t *sides = batch.side
    cdef int64_t price, paid, size, taker, close = bar.close, high = bar.high, low = bar.low    # close: of void rows
    cdef int64_t largest = bar.largest, trades
    cdef uint64_t volume = 0, taker_volume = 0
    cdef wide quote = wide_zero(), taker_quote = wide_zero()
    cdef Py_ssize_t i, last = stop - 1      # of the rows that traded
    for i in range(start, stop):
        price, size = prices[i], sizes[i]
        if voids:
            price = chosen(price, close, size)
        seen.sizes |= <uint64_t>size - (0 if voids else 1)
        taker = -<int64_t>(sides[i] > 0) if sided else 0
        paid = contract if contract else price
        high = max(high, price)
        low = min(low, price)
        largest = max(largest, size)
        volume += <uint64_t>size
        quote = wide_sum(quote, wide_product(paid, size))
        # A second product is cheaper than a mask over two words.
        taker_volume += <uint64_t>(size & taker)
        taker_quote = wide_sum(taker_quote, wide_product(paid, size & taker))
    if voids:
        while last >= start and sizes[last] == 0:
            last -= 1
    if timed:
        bar.last_time = batch.time_ns[stop - 1]
    elif last >= start:
        bar.last_time = batch.time_ns[last]
    if last >= start:
        bar.last_trade_time = batch.time_ns[last]
        bar.last_id = (batch.first_id if single else batch.last_id)[last] if by_id else batch.arrivals + last
        bar.close = prices[last]
    bar.high = high
    bar.low = low
    bar.largest = largest
    seen.prices |= (<uint64_t>high - 1) | (<uint64_t>low - 1)
    if voids or not (single or batch.count is NULL):
        for i in range(start, stop):
            trades = 1 if single or batch.count is NULL else batch.count[i]
            bar.counts[(sides[i] if sided else 0) + 1] += 0 if voids and sizes[i] == 0 else trades
    elif sided:
        count_sides(bar, &sides[start], stop - start)
    else:
        bar.counts[UNSIDED] += stop - start
    add128_uint64(&bar.sums[0].volume, volume - taker_volume)
    add128_uint64(&bar.sums[1].volume, taker_volume)
    add128_wide(&bar.sums[0].quote, wide_difference(quote, taker_quote))
    add128_wide(&bar.sums[1].quote, taker_quote)


cdef inline void add_any_stretch(
    Summary *bar, const Columns *batch, Py_ssize_t start, Py_ssize_t stop, bint by_id, bint single, bint timed, bint voids,
    int64_t contract, Seen *seen
) noexcept nogil:
    # By the loop that does no more than these rows ask for.
    if batch.side_mask and voids:
        add_stretch(bar, batch, start, stop, by_id, single, timed, True, contract, True, seen)
    elif batch.side_mask:
        add_stretch(bar, batch, start, stop, by_id, single, timed, False, contract, True, seen)
    elif voids:
        add_stretch(bar, batch, start, stop, by_id, single, timed, True, contract, False, seen)
    else:
        add_stretch(bar, batch, start, stop, by_id, single, timed, False, contract, False, seen)


cdef inline bint merge_bar(Summary *into, const Summary *other, bint by_id) noexcept nogil:
    # The law that bars merge: order keys choose open and close, the rest are extremes and sums. True: a sum left its
    # range.
    if by_id:
        if other.first_id < into.first_id:
            into.first_id, into.open = other.first_id, other.open
        if other.last_id > into.last_id:
            into.last_id, into.close = other.last_id, other.close
    else:
        if other.first_time < into.first_time or (
            other.first_time == into.first_time and other.first_id < into.first_id
        ):
            into.first_id, into.open = other.first_id, other.open
        if other.last_time > into.last_time or (
            other.last_time == into.last_time and other.last_id > into.last_id
        ):
            into.last_id, into.close = other.last_id, other.close
    into.first_time = min(into.first_time, other.first_time)
    into.last_time = max(into.last_time, other.last_time)
    into.last_trade_time = max(into.last_trade_time, other.last_trade_time)
    into.high = max(into.high, other.high)
    into.low = min(into.low, other.low)
    into.largest = max(into.largest, other.largest)
    into.counts[SOLD] += other.counts[SOLD]
    into.counts[UNSIDED] += other.counts[UNSIDED]
    into.counts[BOUGHT] += other.counts[BOUGHT]
    return (
        add128(&into.sums[0].volume, &other.sums[0].volume) | add128(&into.sums[0].quote, &other.sums[0].quote)
        | add128(&into.sums[1].volume, &other.sums[1].volume) | add128(&into.sums[1].quote, &other.sums[1].quote)
    )


cdef inline bint is_within(const Summary *inner, const Summary *outer) noexcept nogil:
    # Both are open time bars, and the interval of the one lies in that of the other.
    return (
        inner.open_time < inner.close_time
        and outer.open_time <= inner.open_time and inner.close_time <= outer.close_time
    )


cdef inline bint widen_bar(Summary *bar, int64_t price_factor, int64_t size_factor, int64_t quote_factor) noexcept nogil:
    cdef bint overflow = bar.largest > HIGHEST // size_factor
    cdef int side
    if bar.largest == 0 and bar.counts[SOLD] == bar.counts[ALL] == bar.counts[BOUGHT] == 0:
        # An interval without trades carries the close before it, which fits: it fits where it came from.
        bar.close *= price_factor
        if bar.high != LOWEST:
            bar.open, bar.high, bar.low = bar.open * price_factor, bar.high * price_factor, bar.low * price_factor
        return False
    bar.open *= price_factor
    bar.high *= price_factor
    bar.low *= price_factor
    bar.close *= price_factor
    bar.largest = 0 if overflow else bar.largest * size_factor
    for side in range(2):
        overflow |= scale128(&bar.sums[side].volume, size_factor) | scale128(&bar.sums[side].quote, size_factor)
        overflow |= scale128(&bar.sums[side].quote, quote_factor)
    return overflow
