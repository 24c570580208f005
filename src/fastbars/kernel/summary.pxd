# A bar as the mergeable summary of the trades in it.
#
# Units: times int64 ns since the epoch, UTC; prices and sizes mantissas; quote sums price x size.

from libc.math cimport fabs
from libc.stdint cimport int64_t

from fastbars.kernel.passes cimport Columns, trades_of
from fastbars.kernel.scaled cimport (
    HIGHEST, LOWEST, NOTHING, add128, add128_int64, add128_product, double128, int128, scale128,
)

cdef struct Sums:
    int128 volume
    int128 quote

cdef struct Summary:        # the mergeable summary of a set of trades of one bar
    # What every trade reads and writes comes first: with the gate of a Slot before it, two 64-byte lines.
    int64_t last_time       # largest trade time; of a time bar, where ids tell, that of void ids too
    int64_t last_id         # of the closing trade; its arrival number where ids prove nothing
    int64_t high
    int64_t low
    int64_t close
    int64_t count           # trades
    Sums[2] sums            # [1] of the trades whose taker bought, [0] of the others; of a Row: [0] of all trades
    int64_t open_time
    int64_t close_time
    int64_t first_time      # smallest trade time
    int64_t first_id        # of the opening trade; its arrival number where ids prove nothing
    int64_t open


cdef inline void clear_bar(Summary *bar, int64_t open_time, int64_t close_time) noexcept nogil:
    # Field by field: a memset of this length becomes an instruction that costs more than all of them.
    bar.last_time = bar.last_id = bar.high = LOWEST
    bar.low = bar.first_time = bar.first_id = HIGHEST
    bar.close = bar.count = bar.open = 0
    bar.sums[0].volume = bar.sums[0].quote = bar.sums[1].volume = bar.sums[1].quote = NOTHING
    bar.open_time = open_time
    bar.close_time = close_time


cdef inline bint sum_sides(Summary *bar) noexcept nogil:
    # From the sums of an open bar or a record to those of a row. True: one leaves its range.
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
    cdef Sums *sums = &bar.sums[batch.side[i & batch.side_mask] > 0]
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
    bar.high = max(bar.high, price)
    bar.low = min(bar.low, price)
    bar.count += trades_of(batch, i)
    return add128_int64(&sums.volume, size) | add128_product(&sums.quote, paid, size) | is_beyond(bar)


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
    into.high = max(into.high, other.high)
    into.low = min(into.low, other.low)
    into.count += other.count
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
    cdef bint overflow = False
    cdef int side
    if bar.count == 0:
        # An interval without trades carries the close before it, which fits: it fits where it came from.
        bar.close *= price_factor
        if bar.high != LOWEST:
            bar.open = bar.high = bar.low = bar.close
        return False
    bar.open *= price_factor
    bar.high *= price_factor
    bar.low *= price_factor
    bar.close *= price_factor
    for side in range(2):
        overflow |= scale128(&bar.sums[side].volume, size_factor) | scale128(&bar.sums[side].quote, size_factor)
        overflow |= scale128(&bar.sums[side].quote, quote_factor)
    return overflow
