# A rule: what ends a bar. The intervals of time bars.
#
# Units: times int64 ns since the epoch, UTC.

from libc.stdint cimport int64_t

from fastbars.kernel.limits cimport DAY_NS
from fastbars.kernel.scaled cimport floor_mod

cdef enum:                  # Rule.kind
    FIXED                   # intervals of `step` ns, aligned to `origin`
    ZONED                   # intervals between neighbours in `boundaries`: the calendar of a time zone
    SESSIONS                # likewise, and every other one, from the first on, is outside: it has no bar
    MONTHS                  # intervals of `step` calendar months, UTC; the last kind of time bar
    TICK                    # path-driven from here on (kernel/paths.pyx)
    VOLUME
    VALUE
    RANGE
    DELTA
    CUSUM
    RENKO

cdef struct Rule:           # a bar spec, as the kernel needs it
    int kind
    int64_t step            # ns, months, or trades; of other path-driven bars each symbol's Slot has it, at its scales
    int64_t origin          # ns
    const int64_t *boundaries   # ascending, of ZONED and SESSIONS: from before all valid times to behind them
    Py_ssize_t boundary_count
    const Rule *anchor          # of a path-driven rule: with whose intervals it begins anew; NULL: it never does


cdef inline bint is_time_kind(int kind) noexcept nogil:
    # Its bars cover intervals of time; the others end by the trades in them.
    return kind <= MONTHS


cdef inline bint keeps_time(const Rule *rule) noexcept nogil:
    # Its bars lie in intervals of time, by which they are judged: time bars, and those with an anchor.
    return is_time_kind(rule.kind) or rule.anchor is not NULL


cdef inline int64_t day_of_month_start(int64_t months) noexcept nogil:
    # Days from the epoch to the first day of the month that lies `months` months after January 1970.
    # The year is counted from March, so that the leap day comes last.
    cdef int64_t march = months + 1970 * 12 - 2
    cdef int64_t year = (march - floor_mod(march, 12)) // 12
    cdef int64_t month = floor_mod(march, 12)
    cdef int64_t era_year = floor_mod(year, 400)
    return (
        (year - era_year) // 400 * 146097 + era_year * 365 + era_year // 4 - era_year // 100
        + (153 * month + 2) // 5 - 719468
    )


cdef inline Py_ssize_t place_of(const Rule *rule, int64_t time) noexcept nogil:
    # The boundary at which the interval of a time begins; of several at one time the last.
    cdef Py_ssize_t below = 0, above = rule.boundary_count - 1, middle
    while above - below > 1:
        middle = (below + above) // 2
        if rule.boundaries[middle] <= time:
            below = middle
        else:
            above = middle
    return below


cdef inline bint is_outside(const Rule *rule, int64_t time) noexcept nogil:
    # Whether a time lies between two sessions: trades there are taken, and belong to no bar.
    return rule.kind == SESSIONS and not place_of(rule, time) & 1


cdef inline void interval_of(const Rule *rule, int64_t time, int64_t *open_time, int64_t *close_time) noexcept nogil:
    cdef int64_t day, months
    cdef Py_ssize_t place
    if rule.kind == FIXED:
        open_time[0] = time - floor_mod(time - rule.origin, rule.step)
        close_time[0] = open_time[0] + rule.step
        return
    if rule.kind <= SESSIONS:
        place = place_of(rule, time)
        open_time[0] = rule.boundaries[place]
        close_time[0] = rule.boundaries[place + 1]
        return
    day = (time - floor_mod(time, DAY_NS)) // DAY_NS
    months = (day * 400 - floor_mod(day * 400, 146097)) // 146097 * 12
    months -= 12
    while day_of_month_start(months + 1) <= day:
        months += 1
    months -= floor_mod(months, rule.step)
    open_time[0] = day_of_month_start(months) * DAY_NS
    close_time[0] = day_of_month_start(months + rule.step) * DAY_NS


cdef inline bint bar_interval_of(const Rule *rule, int64_t time, int64_t *open_time, int64_t *close_time) noexcept nogil:
    # The interval of a time, or, outside of sessions, of the next one. False: there is none.
    interval_of(rule, time, open_time, close_time)
    if not is_outside(rule, open_time[0]):
        return True
    if close_time[0] == rule.boundaries[rule.boundary_count - 1]:
        return False
    interval_of(rule, close_time[0], open_time, close_time)
    return True
