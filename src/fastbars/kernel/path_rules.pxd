# The rules of range, delta, cusum and renko bars: what a trade does to a path, as small functions without any state but
# what they are handed.
#
# `ends_...` tells whether a trade would end the open bar, and changes nothing. What a rule remembers takes in every trade, those
# that end a bar too: `delta_with` and `follow_cusum`; of renko bars only the first trade of a path (`begin_renko`) and
# those that end a bar (`move_renko`) change anything. A trade that stands for several has one price: its count says nothing.
#
# Units: prices and sizes mantissas at the scales of the symbol; `step` at that of prices (delta: of sizes), positive.

from libc.stdint cimport int64_t, uint8_t, uint64_t

from fastbars.kernel.scaled cimport HIGHEST, LOWEST, add128_int64, floor_mod, int128, less128

cdef enum:
    MOST_BRICKS = 100           # of one trade; a longer move is one bar, so that no price can issue bars without number

cdef struct Cusum:              # of cusum bars
    # The sums of Lopez de Prado's filter are S+ = price - lowest and S- = price - highest, so that they never round, nor
    # leave their range: each sum of differences that is cut off at 0 is the way from the extreme since it was last 0.
    int64_t lowest              # price since S+ was reset last
    int64_t highest             # price since S- was reset last
    uint8_t begun               # there was a trade

cdef struct Renko:              # of renko bars: the last brick; before the first one, the cell of the grid that holds the
    int64_t bottom              # first price, both ends of which are that price where it lies on the grid
    int64_t top
    uint8_t begun

cdef struct Move:               # over bricks
    int64_t open                # of the first one
    int64_t step                # of each: below 0 where the price falls
    uint64_t bricks


cdef inline uint64_t way(int64_t low, int64_t high) noexcept nogil:
    # From a price to one that is not below it: all there are fit.
    return <uint64_t>high - <uint64_t>low


cdef inline bint is_far(int64_t low, int64_t high, const int128 *step) noexcept nogil:
    # Whether the way from one price up to another is a step at least.
    return low < high and step.hi == 0 and way(low, high) >= step.lo


# range: high - low reaches the step. The rule remembers nothing: the bar has both.

cdef inline bint ends_range(int64_t high, int64_t low, int64_t price, const int128 *step) noexcept nogil:
    return is_far(min(low, price), max(high, price), step)


# delta: what takers bought less what they sold within the bar reaches the step, in either direction.

cdef inline int128 delta_with(const int128 *delta, int64_t size, int side) noexcept nogil:
    # By a product: as a condition the side becomes a branch, and it cannot be guessed.
    cdef int128 sum = delta[0]
    add128_int64(&sum, size * ((side > 0) - (side < 0)))
    return sum


cdef inline bint is_delta(const int128 *delta, const int128 *step) noexcept nogil:
    # Whether its magnitude reaches the step. Likewise by arithmetic: all bits of `sign` are set where it is below 0.
    cdef uint64_t sign = -<uint64_t>(delta.hi < 0)
    cdef int128 sum
    sum.lo = (delta.lo ^ sign) - sign
    sum.hi = <int64_t>((<uint64_t>delta.hi ^ sign) + (sign & <uint64_t>(delta.lo == 0)))
    return not less128(&sum, step)


cdef inline bint ends_delta(const int128 *delta, int64_t size, int side, const int128 *step) noexcept nogil:
    cdef int128 sum = delta_with(delta, size, side)
    return is_delta(&sum, step)


# cusum: the symmetric CUSUM filter on differences of prices; the sum that reaches the step is reset, the other one stays.

cdef inline bint ends_cusum(const Cusum *sums, int64_t price, const int128 *step) noexcept nogil:
    return sums.begun and (is_far(sums.lowest, price, step) or is_far(price, sums.highest, step))


cdef inline void follow_cusum(Cusum *sums, int64_t price, const int128 *step) noexcept nogil:
    cdef bint up = sums.begun and is_far(sums.lowest, price, step)
    cdef bint down = sums.begun and is_far(price, sums.highest, step)
    sums.lowest = price if up or not sums.begun else min(sums.lowest, price)
    sums.highest = price if down or not sums.begun else max(sums.highest, price)
    sums.begun = 1


# renko: the price reaches the far end of the cell above the last brick, or below it.

cdef inline bint ends_renko(const Renko *last, int64_t price, const int128 *step) noexcept nogil:
    return last.begun and step.lo <= <uint64_t>HIGHEST and (
        is_far(last.top, price, step) or is_far(price, last.bottom, step))


cdef inline void begin_renko(Renko *last, int64_t price, const int128 *step) noexcept nogil:
    # An end that 64 bits do not hold is one that no price reaches: the nearest one is as good.
    cdef int64_t above
    last.begun = 1
    last.bottom = last.top = price
    if step.hi or step.lo > <uint64_t>HIGHEST:
        return      # nor is any other
    above = floor_mod(price, <int64_t>step.lo)
    if above:
        last.bottom = price - above if price >= -HIGHEST + above else -HIGHEST
        above = <int64_t>step.lo - above
        last.top = price + above if price <= HIGHEST - above else HIGHEST


cdef inline void move_renko(Renko *last, int64_t price, const int128 *step, Move *move) noexcept nogil:
    # Of a trade that ends a bar: the bricks that it moves over.
    cdef int64_t close
    cdef bint up = price > last.top
    move.bricks = (way(last.top, price) if up else way(price, last.bottom)) // step.lo
    move.step = <int64_t>step.lo if up else -<int64_t>step.lo
    move.open = last.top if up else last.bottom
    close = <int64_t>(<uint64_t>move.open + move.bricks * <uint64_t>move.step)
    last.bottom = close - move.step if up else close
    last.top = close if up else close - move.step
