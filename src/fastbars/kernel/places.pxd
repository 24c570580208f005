# Where a row has a field, and how its values are read: for all that is made of rows.

from libc.stdint cimport int32_t, int64_t, int8_t, uint64_t, uint8_t

from fastbars.kernel.limits cimport MAX_SCALE, NO_SUM, REPORTED_STATUS
from fastbars.kernel.rows cimport Row
from fastbars.kernel.scaled cimport floor_mod, int128

cdef enum:
    MOST_FIELDS = 64

cdef struct Place:
    Py_ssize_t offset
    Py_ssize_t width        # bytes
    Py_ssize_t scale        # offset of its scale, where it has one
    Py_ssize_t slot         # offset in an object
    int text                # whose texts its numbers stand for, of TEXTS

cdef struct Moment:         # UTC
    int year
    int month
    int day
    int hour
    int minute
    int second
    int micro


cdef inline int64_t whole(const Row *row, const Place *place) noexcept nogil:
    cdef const char *at = <const char *>row + place.offset
    if place.width == sizeof(int64_t):
        return (<const int64_t *>at)[0]
    return (<const int32_t *>at)[0] if place.width == sizeof(int32_t) else (<const uint8_t *>at)[0]


cdef inline int scale_of(const Row *row, const Place *place) noexcept nogil:
    return (<const int8_t *>row)[place.scale]


cdef inline int128 number_of(const Row *row, const Place *place) noexcept nogil:
    # A price, the size of one trade, or a sum.
    cdef int64_t number
    if place.width == sizeof(int128):
        return (<const int128 *>(<const char *>row + place.offset))[0]
    number = whole(row, place)
    return int128(<uint64_t>number, -1 if number < 0 else 0)


cdef inline bint is_unknown(const Row *row, const int128 *sum) noexcept nogil:
    return row.status == REPORTED_STATUS and sum.hi == NO_SUM and sum.lo == 0


cdef inline Moment moment_of(int64_t time_ns) noexcept nogil:
    # Days to a date as in the proleptic Gregorian calendar, the year counted from March. What is below a microsecond is
    # left out, as a datetime has no place for it.
    cdef int64_t hour_us = 60 * 60 * 1_000_000LL
    cdef int64_t day_us = 24 * hour_us
    cdef int64_t micros = (time_ns - floor_mod(time_ns, 1000)) // 1000
    cdef int64_t rest = floor_mod(micros, day_us)
    cdef int64_t days = (micros - rest) // day_us + 719468
    cdef int64_t era_day = floor_mod(days, 146097)
    cdef int64_t era_year = (era_day - era_day // 1460 + era_day // 36524 - era_day // 146096) // 365
    cdef int64_t year_day = era_day - (365 * era_year + era_year // 4 - era_year // 100)
    cdef int64_t month = (5 * year_day + 2) // 153
    cdef int64_t day = year_day - (153 * month + 2) // 5 + 1
    cdef int64_t year = (days - era_day) // 146097 * 400 + era_year
    month = month + 3 if month < 10 else month - 9
    return Moment(
        <int>year + (month <= 2), <int>month, <int>day, <int>(rest // hour_us), <int>(rest // 60_000_000 % 60),
        <int>(rest // 1_000_000 % 60), <int>(rest % 1_000_000))


cdef inline int check_row(
    const Row *row, Py_ssize_t i, Py_ssize_t symbols, Py_ssize_t specs, Py_ssize_t statuses, Py_ssize_t reasons
) except -1:
    # Rows are an array, which users can make, write to, and combine with other instruments or specs.
    if not 0 <= row.symbol_id < symbols:
        raise IndexError(f"row {i}: symbol id {row.symbol_id} is outside the {symbols} symbols of the instruments")
    if not 0 <= row.spec < specs:
        raise IndexError(f"row {i}: spec {row.spec} is outside the {specs} bar specs")
    if row.status >= statuses or row.reason >= reasons:
        raise ValueError(f"row {i}: there is no status {row.status} or reason {row.reason}")
    if not (0 <= row.price_scale <= 2 * MAX_SCALE and 0 <= row.size_scale <= 2 * MAX_SCALE
            and 0 <= row.quote_scale <= 2 * MAX_SCALE):
        raise ValueError(f"row {i}: a scale is outside 0 to {2 * MAX_SCALE}")
    return 0
