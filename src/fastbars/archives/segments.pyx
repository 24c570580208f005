"""Sums up rows of an archive in segments: stretches with contiguous ids, of one day and of one bucket of ids.

A segment is to the rows of a file what a bar is to trades: a summary that merges. What a check needs to know follows
from them, so that no row is kept. Units: times int64 ns since the epoch; days since the epoch; ids in buckets of 4,096.
"""

import numpy as np

from libc.stdint cimport int8_t, int64_t, uint64_t

from fastbars.kernel.scaled cimport POWER_OF_TEN

cdef enum:
    BUCKET_BITS = 12
    WIDTH = 11
    TIME_DIGITS = 9             # of a nanosecond
    MOST_DIGITS = 18
    MOST_IDS = 1_000_000        # that one row can stand for

cdef int64_t DAY_NS = 86_400_000_000_000

BUCKET = 1 << BUCKET_BITS

SEGMENT = np.dtype([
    ("first", "i8"), ("last", "i8"), ("since", "i8"), ("until", "i8"), ("row", "i8"), ("rows", "i8"), ("voids", "i8"),
    ("backs", "i8"), ("day", "i8"), ("digest", "u8"),
    ("own", "i8"),
])

# Of 5**k the inverse modulo 2**64, and of 10**k the largest multiple's quotient: a number is a multiple of 10**k where
# its product with the first, rotated right by k, is at most the second. A division would take ten times as long.
cdef uint64_t INVERSE[19]
cdef uint64_t LARGEST[19]

for _k in range(19):
    INVERSE[_k] = pow(5**_k, -1, 2**64)
    LARGEST[_k] = (2**64 - 1) // 10**_k


cdef inline uint64_t magnitude_of(int64_t value) noexcept nogil:
    return <uint64_t> value if value >= 0 else 0 - <uint64_t> value


cdef inline bint divides(int k, uint64_t value) noexcept nogil:
    cdef uint64_t product = value * INVERSE[k]
    if k:
        product = (product >> k) | (product << (64 - k))
    return product <= LARGEST[k]


cdef inline int common(int k, int64_t value) noexcept nogil:
    # The largest power of ten, at most k, that divides the value.
    cdef uint64_t magnitude = magnitude_of(value)
    while k and not divides(k, magnitude):
        k -= 1
    return k


cdef inline uint64_t mixed(uint64_t x) noexcept nogil:
    # The last steps of splitmix64.
    x = (x ^ (x >> 30)) * <uint64_t> 0xBF58476D1CE4E5B9
    x = (x ^ (x >> 27)) * <uint64_t> 0x94D049BB133111EB
    return x ^ (x >> 31)


cdef inline int64_t day_of(int64_t time_ns) noexcept nogil:
    cdef int64_t day = time_ns // DAY_NS
    return day - 1 if time_ns < day * DAY_NS else day


def segments(
    const int64_t[::1] time_ns not None,
    const int64_t[::1] price not None,
    int price_scale,
    const int64_t[::1] size not None,
    int size_scale,
    const int8_t[::1] side,
    const int64_t[::1] first_id,
    const int64_t[::1] last_id,
    const int64_t[::1] count,
    int64_t first_row,
    int64_t before_ns,
):
    cdef Py_ssize_t n = time_ns.shape[0], i, used = 0, room = n // 64 + 16
    for length in (
        price.shape[0], size.shape[0], n if side is None else side.shape[0],
        n if first_id is None else first_id.shape[0], n if last_id is None else last_id.shape[0],
        n if count is None else count.shape[0],
    ):
        if length != n:
            raise ValueError(f"columns have {n} and {length} rows")
    if not (0 <= price_scale <= MOST_DIGITS and 0 <= size_scale <= MOST_DIGITS):
        raise ValueError(f"scales {price_scale} and {size_scale} are not from 0 to {MOST_DIGITS}")
    made = np.empty((room, WIDTH), np.int64)
    cdef int64_t[:, ::1] table = made
    cdef int64_t *segment = NULL
    cdef bint has_ids = first_id is not None, has_last = last_id is not None
    cdef bint has_side = side is not None, has_count = count is not None
    # To 18 decimals, modulo 2**64: the same number has the same digest at whatever scale it is written.
    cdef uint64_t price_factor = POWER_OF_TEN[MOST_DIGITS - price_scale]
    cdef uint64_t size_factor = POWER_OF_TEN[MOST_DIGITS - size_scale]
    cdef int price_zeros = price_scale, size_zeros = size_scale, time_zeros = TIME_DIGITS
    cdef int64_t time, first = -1, last = -1, day_since = 1, day_until = 0, bucket = -1, wrong = 0
    cdef uint64_t content
    for i in range(n):
        time = time_ns[i]
        if has_ids:
            first = last = first_id[i]
            if has_last:
                last = last_id[i]
                if last < first or last - first > MOST_IDS:
                    last = first
                    wrong += 1
        if (
            segment == NULL or time < day_since or time > day_until
            or (has_ids and (<uint64_t> first != <uint64_t> segment[1] + 1 or first >> BUCKET_BITS != bucket))
        ):
            if used == room:
                room *= 2
                grown = np.empty((room, WIDTH), np.int64)
                grown[:used] = made
                made = grown
                table = made
            segment = &table[used, 0]
            used += 1
            day_since = day_of(time) * DAY_NS
            day_until = day_since + (DAY_NS - 1)
            bucket = first >> BUCKET_BITS
            segment[0] = first
            segment[2] = time
            segment[4] = first_row + i
            segment[5] = segment[6] = segment[7] = segment[9] = 0
            segment[8] = day_since // DAY_NS
            segment[10] = last
        segment[1] = last
        segment[3] = time
        segment[5] += 1
        segment[6] += size[i] == 0
        segment[7] += time < before_ns
        before_ns = time
        content = (
            <uint64_t> first * <uint64_t> 0x9E3779B97F4A7C15
            + <uint64_t> time * <uint64_t> 0xC2B2AE3D27D4EB4F
            + <uint64_t> price[i] * price_factor * <uint64_t> 0x165667B19E3779F9
            + <uint64_t> size[i] * size_factor * <uint64_t> 0x27D4EB2F165667C5
            + <uint64_t> last * <uint64_t> 0x85EBCA77C2B2AE63
        )
        if has_side:
            content += <uint64_t> side[i] * <uint64_t> 0xD6E8FEB86659FD93
        if has_count:
            content += <uint64_t> count[i] * <uint64_t> 0xA0761D6478BD642F
        segment[9] = <int64_t> (<uint64_t> segment[9] + mixed(content))
        if not divides(price_zeros, magnitude_of(price[i])):
            price_zeros = common(price_zeros, price[i])
        if not divides(size_zeros, magnitude_of(size[i])):
            size_zeros = common(size_zeros, size[i])
        if not divides(time_zeros, magnitude_of(time)):
            time_zeros = common(time_zeros, time)
    return (
        made[:used].view(SEGMENT).reshape(used), before_ns, wrong,
        (TIME_DIGITS - time_zeros, price_scale - price_zeros, size_scale - size_zeros),
    )
