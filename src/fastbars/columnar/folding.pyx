"""Bars folded into longer ones: the loop behind `BarBatch.resample`.

Units: rows are those of `fastbars.kernel.fields.ROW_DTYPE`; times int64 ns since the epoch, UTC.
"""

import numpy as np

from libc.stdint cimport int32_t, int64_t, uint8_t

from fastbars.kernel.limits cimport MAX_SCALE, NO_SUM, REPORTED_STATUS
from fastbars.kernel.places cimport is_unknown
from fastbars.kernel.rows cimport Row, rows_of
from fastbars.kernel.scaled cimport HIGHEST, LOWEST, NOTHING, POWER_OF_TEN, add128, int128, magnitude, scale128
from fastbars.kernel.summary cimport ALL, BOUGHT, SOLD, clear_bar, known_sum

from fastbars.bars import STATUSES as _STATUSES, BarStatus as _BarStatus
from fastbars.errors import PrecisionError

cdef uint8_t PUBLISHED = _STATUSES.index(_BarStatus.PUBLISHED)
cdef uint8_t PARTIAL = _STATUSES.index(_BarStatus.PARTIAL)
cdef uint8_t GAP = _STATUSES.index(_BarStatus.GAP)


cdef void *_address(object array) except? NULL:
    return <void *><size_t>array.ctypes.data if array.size else NULL


cdef inline bint _traded(const Row *row) noexcept nogil:
    return row.bar.counts[ALL] != 0       # negative: not known how many


cdef inline bint _follows(const Row *before, const Row *after) noexcept nogil:
    # Whether ids prove that no trade lies between two bars.
    return before.bar.last_id != LOWEST and after.bar.first_id != LOWEST and before.bar.last_id + 1 == after.bar.first_id


cdef inline bint _jumps(const Row *before, const Row *after) noexcept nogil:
    return before.bar.last_id != LOWEST and after.bar.first_id != LOWEST and before.bar.last_id + 1 != after.bar.first_id


cdef inline bint _add(int128 *total, const Row *row, const int128 *sum, int shift, bint *unknown) noexcept nogil:
    # True: it leaves its range.
    cdef int128 own = sum[0]
    cdef bint beyond = False
    if is_unknown(row, sum):
        unknown[0] = True
        return False
    while shift > 0:
        beyond |= scale128(&own, POWER_OF_TEN[min(shift, MAX_SCALE)])
        shift -= MAX_SCALE
    return beyond | add128(total, &own)


cdef inline int64_t _widened(int64_t price, int shift, bint *beyond) noexcept nogil:
    if magnitude(price) > HIGHEST // POWER_OF_TEN[shift]:
        beyond[0] = True
        return 0
    return price * POWER_OF_TEN[shift]


cdef struct Series:             # the bars of one symbol and spec, in order of time, and one stretch of them
    const Row *begin
    const Row *end
    const Row *start
    const Row *stop
    bint by_id


cdef uint8_t _status_of(const Series *series, int64_t open_time, int64_t close_time, bint *unsure) noexcept nogil:
    # The worst of the parts; and where an interval has no bar, what ids prove of it: `unsure` if not all.
    cdef const Row *row
    cdef const Row *before = NULL
    cdef int64_t covered = open_time
    cdef uint8_t worst = 0
    cdef bint missing = False
    row = series.start
    while row < series.stop:
        worst = max(worst, row.status)
        row += 1
    row = series.start - 1
    while row >= series.begin:      # the last that traded before
        if _traded(row):
            before = row
            break
        row -= 1
    row = series.start
    while row < series.stop:
        missing = missing or row.bar.open_time > covered
        covered = row.bar.close_time
        if _traded(row):
            if missing:
                worst = max(worst, _missing(series, before, row, unsure))
            missing = False
            before = row
        row += 1
    if covered < close_time:
        missing = True
    if missing:
        row = series.stop
        while row < series.end and not _traded(row):
            row += 1
        worst = max(worst, _missing(series, before, row if row < series.end else NULL, unsure))
    return worst


cdef inline uint8_t _missing(const Series *series, const Row *before, const Row *after, bint *unsure) noexcept nogil:
    # How good a bar is at most with an interval that has no bar, between two that traded.
    if series.by_id and before is not NULL and after is not NULL and _follows(before, after):
        return 0
    unsure[0] = True
    if not series.by_id or before is NULL or after is NULL:
        return PARTIAL
    return GAP if _jumps(before, after) and before >= series.start and after < series.stop else PARTIAL


cdef int _fold(Row *made, const Series *series, bint unsure) except -1:
    cdef const Row *row
    cdef int64_t price, high, low
    cdef int price_scale = 0, size_scale = 0, quote_scale = 0
    cdef bint by_id = series.by_id, first = True, beyond = False, untimed = False
    cdef bint[4] lacks
    cdef int shift
    cdef int64_t missing = 0, unpublished = 0, count = 0, uncounted = 0
    cdef int128 volume = NOTHING, quote = NOTHING, taker_volume = NOTHING, taker_quote = NOTHING
    lacks[0] = lacks[1] = lacks[2] = lacks[3] = False
    row = series.start
    while row < series.stop:
        price_scale, size_scale = max(price_scale, row.price_scale), max(size_scale, row.size_scale)
        quote_scale = max(quote_scale, row.quote_scale)
        if _traded(row) and (row.bar.first_id == LOWEST or row.bar.last_id == LOWEST):
            by_id = False       # their order is that of their intervals
        made.revision = max(made.revision, row.revision)
        made.reason = row.reason
        missing = -1 if missing < 0 or row.missing < 0 else missing + row.missing
        unpublished = -1 if unpublished < 0 or row.unpublished < 0 else unpublished + row.unpublished
        row += 1
    if max(price_scale, size_scale) > MAX_SCALE or quote_scale > 2 * MAX_SCALE:
        raise ValueError(f"scales {price_scale}, {size_scale} and {quote_scale} are out of range")
    made.price_scale, made.size_scale, made.quote_scale = price_scale, size_scale, quote_scale
    row = series.start
    while row < series.stop:
        shift = price_scale - row.price_scale
        if not _traded(row):
            if first and row.bar.high != LOWEST:    # flat at the last close, until there is a trade
                price = _widened(row.bar.close, shift, &beyond)
                made.bar.open = made.bar.high = made.bar.low = made.bar.close = price
            row += 1
            continue
        if first or (by_id and row.bar.first_id < made.bar.first_id):
            made.bar.first_id, made.bar.open = row.bar.first_id, _widened(row.bar.open, shift, &beyond)
        if first or not by_id or row.bar.last_id > made.bar.last_id:
            made.bar.last_id, made.bar.close = row.bar.last_id, _widened(row.bar.close, shift, &beyond)
        high, low = _widened(row.bar.high, shift, &beyond), _widened(row.bar.low, shift, &beyond)
        made.bar.high = high if first else max(made.bar.high, high)
        made.bar.low = low if first else min(made.bar.low, low)
        made.bar.first_time = min(made.bar.first_time, row.bar.first_time)
        made.bar.last_time = max(made.bar.last_time, row.bar.last_time)
        untimed = untimed or row.bar.last_trade_time == LOWEST
        made.bar.last_trade_time = max(made.bar.last_trade_time, row.bar.last_trade_time)
        if row.bar.counts[ALL] < 0:
            uncounted += 1
        else:
            count += row.bar.counts[ALL]
        shift = size_scale - row.size_scale
        made.bar.counts[SOLD] = known_sum(made.bar.counts[SOLD], row.bar.counts[SOLD])
        made.bar.counts[BOUGHT] = known_sum(made.bar.counts[BOUGHT], row.bar.counts[BOUGHT])
        if made.bar.largest < 0 or row.bar.largest == 0:
            made.bar.largest = -1               # not known
        else:
            made.bar.largest = max(made.bar.largest, _widened(row.bar.largest, shift, &beyond))
        beyond |= _add(&volume, row, &row.bar.sums[0].volume, shift, &lacks[0])
        beyond |= _add(&taker_volume, row, &row.bar.sums[1].volume, shift, &lacks[1])
        shift = quote_scale - row.quote_scale
        beyond |= _add(&quote, row, &row.bar.sums[0].quote, shift, &lacks[2])
        beyond |= _add(&taker_quote, row, &row.bar.sums[1].quote, shift, &lacks[3])
        first = False
        row += 1
    if untimed:
        made.bar.last_trade_time = LOWEST
    if beyond:
        raise PrecisionError("a price does not fit 64 bits, or a sum 128 bits, with the decimals of all of them", series.start.row)
    if made.status == REPORTED_STATUS:
        # As in a candle: what a part lacks, the whole lacks.
        volume = int128(0, NO_SUM) if lacks[0] else volume
        taker_volume = int128(0, NO_SUM) if lacks[1] else taker_volume
        quote = int128(0, NO_SUM) if lacks[2] else quote
        taker_quote = int128(0, NO_SUM) if lacks[3] else taker_quote
        made.bar.counts[ALL] = -1 if uncounted else count
    else:
        made.bar.counts[ALL] = count + uncounted      # at least one trade in each
    made.bar.largest = max(made.bar.largest, 0)
    made.bar.sums[0].volume, made.bar.sums[0].quote = volume, quote
    made.bar.sums[1].volume, made.bar.sums[1].quote = taker_volume, taker_quote
    made.missing = 0 if made.status <= PUBLISHED else missing if made.status == GAP and not unsure else -1
    made.unpublished = <int32_t>unpublished if unpublished <= 0x7fffffff else -1
    return 0


def fold_bars(
    rows, const int64_t[::1] starts not None, const int64_t[::1] series not None, const int64_t[::1] opens not None,
    const int64_t[::1] closes not None, int spec, bint by_id
):
    # Rows in order of symbol and time; stretches of them, each to one bar of `spec`; where the symbol of each begins.
    cdef object own = rows_of(rows)
    cdef Py_ssize_t i, count = len(opens), total = len(own)
    cdef const Row *first = <const Row *>_address(own)
    cdef Row *made
    cdef Series part
    cdef bint unsure
    if len(starts) != count + 1 or len(closes) != count or len(series) != 2 * count:
        raise ValueError("columns differ in length")
    folded = np.zeros(count, own.dtype)
    made = <Row *>_address(folded)
    for i in range(count):
        if not 0 <= series[2 * i] <= starts[i] < starts[i + 1] <= series[2 * i + 1] <= total:
            raise IndexError(f"stretch {i} lies outside its series")
        part = Series(first + series[2 * i], first + series[2 * i + 1], first + starts[i], first + starts[i + 1], by_id)
        clear_bar(&made.bar, opens[i], closes[i])
        made.row = i
        made.symbol_id = part.start.symbol_id
        made.spec = spec
        made.index = -1
        unsure = False
        made.status = _status_of(&part, opens[i], closes[i], &unsure)
        _fold(made, &part, unsure)
        made += 1
    return folded
