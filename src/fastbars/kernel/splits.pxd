# Trades that are split, so that each bar has exactly the step: what of a trade goes into which bar.
#
# A trade fills the open bar with the part that this one lacks, then as many whole bars as it can, and the rest begins the next one.
# By volume a part is so much size, and pays price x size. By value it is so much of what the trade pays, which need not be a
# whole unit of size: sizes are then rounded down, counted from the beginning of the trade, to PART_DECIMALS decimals, and
# the last part has what is left. So the parts of a trade sum up to it, in size and in value, to the last digit, and depend
# on nothing but the trade, the step, and what the open bar holds.
#
# Units: sizes and prices mantissas at the scales of the symbol; values price x size.

from libc.stdint cimport int64_t

from fastbars.kernel.passes cimport Columns, trades_of
from fastbars.kernel.scaled cimport NOTHING, POWER_OF_TEN, add128, add128_int64, add128_product, int128, less128, less_by128, quotient128
from fastbars.kernel.summary cimport Summary, is_beyond, total_of

cdef enum:
    MOST_PARTS = 100            # of one trade: the last one takes all that is left, so that no size can issue bars without number
    PART_DECIMALS = 6           # of sizes, where values are split; the sizes of a symbol have as many at least

cdef enum SplitBy:              # how the trades of a kind are split
    WHOLE                       # not at all
    BY_SIZE
    BY_VALUE

cdef struct Split:              # a trade, and what of it is in bars
    int64_t paid                # for a unit of size: the price, or the contract size of an inverse instrument
    int64_t size
    int128 value
    int64_t size_left
    int128 value_left
    int parts                   # that there are so far

cdef struct Part:
    int64_t size
    int128 value


cdef inline Split begin_split(const Columns *batch, Py_ssize_t i, int64_t contract) noexcept nogil:
    cdef Split split
    split.paid = contract if contract else batch.price[i]
    split.size = split.size_left = batch.size[i]
    split.value = NOTHING
    add128_product(&split.value, split.paid, split.size)
    split.value_left = split.value
    split.parts = 0
    return split


cdef inline bint take_part(
    Split *split, SplitBy by, const Summary *bar, const int128 *step, int size_scale, Part *part, bint *ended
) noexcept nogil:
    # The part that goes into a bar; True: the bar is full with it. `ended`: nothing is left.
    cdef int128 held = total_of(bar, by == BY_SIZE), left = split.value_left, reached = held, room, taken
    cdef int64_t unit
    cdef bint fills
    split.parts += 1
    if by == BY_SIZE:
        left = NOTHING
        add128_int64(&left, split.size_left)
    add128(&reached, &left)     # where it leaves its range, so does the bar
    fills = not less128(&reached, step)
    if split.parts == MOST_PARTS or not less128(step, &reached):
        part.size, part.value = split.size_left, split.value_left
        ended[0] = True
        return fills
    ended[0] = False
    if not less128(&held, step):    # no such bar is left open; a snapshot may say that one is
        part.size, part.value = 0, NOTHING
        return True
    room = less_by128(step, held)
    if by == BY_SIZE:
        part.size = <int64_t>room.lo
        part.value = NOTHING
        add128_product(&part.value, split.paid, part.size)
    else:
        # There is more to be paid than there is room: what is paid for a unit is above 0.
        unit = POWER_OF_TEN[size_scale - PART_DECIMALS]
        taken = less_by128(&split.value, split.value_left)
        add128(&taken, &room)
        part.size = quotient128(&taken, split.paid) // unit * unit - (split.size - split.size_left)
        part.value = room
    split.size_left -= part.size
    split.value_left = less_by128(&split.value_left, part.value)
    return True


cdef inline bint add_part(Summary *bar, const Columns *batch, Py_ssize_t i, const Part *part) noexcept nogil:
    # As `add_trade` without ids: the trade counts in every bar that has a part of it, with its whole size as the largest.
    cdef int64_t price = batch.price[i], time = batch.time_ns[i]
    cdef int side = batch.side[i & batch.side_mask]
    if time < bar.first_time:
        bar.first_id = batch.arrivals + i
    if time >= bar.last_time:
        bar.last_id = batch.arrivals + i
    bar.first_time = min(bar.first_time, time)
    bar.last_time = max(bar.last_time, time)
    bar.last_trade_time = max(bar.last_trade_time, time)
    bar.high = max(bar.high, price)
    bar.low = min(bar.low, price)
    bar.largest = max(bar.largest, batch.size[i])
    bar.counts[side + 1] += trades_of(batch, i)
    return add128_int64(&bar.sums[side > 0].volume, part.size) | add128(&bar.sums[side > 0].quote, &part.value) | is_beyond(bar)
