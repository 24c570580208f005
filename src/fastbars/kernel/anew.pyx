"""What is kept of symbols whose ids began anew, or may be about to: older series, and trades that wait.

There are few of them, so they are kept apart from the ledger's lines.
"""

from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport calloc, free, realloc

from fastbars.kernel.limits cimport is_time
from fastbars.kernel.scaled cimport HIGHEST, LOWEST

# More than can have been counted: numbers below it can be added up without care.
cdef int64_t MOST_COUNTED = <int64_t>1 << 60


cdef Anew *new_anew(Renewed *renewed, int32_t symbol_id) noexcept nogil:
    cdef Anew *made = renewed.of[symbol_id]
    if made is NULL:
        made = <Anew *>calloc(1, sizeof(Anew))
        if made is not NULL:
            made.since_ns = LOWEST
            renewed.of[symbol_id] = made
            renewed.count += 1
    return made


cdef bint add_stray(Renewed *renewed, Waiting stray) noexcept nogil:
    cdef Py_ssize_t capacity
    cdef Waiting *grown
    if renewed.stray_count == renewed.stray_capacity:
        capacity = max(2 * renewed.stray_capacity, MOST_WAITING)
        grown = <Waiting *>realloc(renewed.strays, capacity * sizeof(Waiting))
        if grown is NULL:
            return False
        renewed.strays, renewed.stray_capacity = grown, capacity
    renewed.strays[renewed.stray_count] = stray
    renewed.stray_count += 1
    return True


cdef int64_t id_of_key(const Renewed *renewed, int32_t symbol_id, int64_t key) noexcept nogil:
    # The id that a bar shows. (Where a snapshot is damaged it may be any, but one that there can be.)
    cdef const Anew *anew = anew_of(renewed, symbol_id)
    cdef int32_t j
    if key >= 0 or anew is NULL:
        return max(key, <int64_t>0)
    for j in range(anew.series_count):
        if key <= anew.series[j].bar_limit:
            return max(key + anew.series[j].bar_offset, <int64_t>0)
    return 0


cdef bint is_sound(const Anew *anew, Py_ssize_t symbol_id) noexcept nogil:
    cdef const Waiting *waiting
    cdef const Series *series
    cdef int64_t limit = LOWEST, last = -1
    cdef int32_t j
    if not (0 <= anew.waiting_count <= MOST_WAITING and 0 <= anew.series_count <= MOST_SERIES and anew.passed >= 0):
        return False
    if (anew.since_ns == LOWEST) != (anew.series_count == 0) or not (
        (anew.since_ns == LOWEST or is_time(anew.since_ns)) and (anew.safe_ns == LOWEST or is_time(anew.safe_ns))
        and 0 <= anew.number < MOST_COUNTED and 0 <= anew.old_id < HIGHEST and 0 <= anew.new_id < HIGHEST
    ):
        return False
    for j in range(anew.series_count):
        series = &anew.series[j]
        if not (limit < series.limit < 0 and 0 < series.offset <= HIGHEST and 0 <= series.bar_offset <= HIGHEST
                and (series.bar_limit == LOWEST or series.bar_limit < 0)
                and (series.since_ns == LOWEST or is_time(series.since_ns)) and is_time(series.newest_ns)):
            return False
        limit = series.limit
    for j in range(anew.waiting_count):
        waiting = &anew.waiting[j]
        if not (waiting.symbol_id == symbol_id and last < waiting.first <= waiting.last < HIGHEST
                and is_time(waiting.time_ns) and 0 <= waiting.first_id <= waiting.last_id < HIGHEST
                and waiting.size >= 0 and waiting.price > LOWEST and -1 <= waiting.side <= 1
                and 0 <= waiting.count < MOST_COUNTED and 0 <= waiting.arrival < MOST_COUNTED):
            return False
        last = waiting.last
    return True


cdef void free_all(Anew **anew, Py_ssize_t symbols) noexcept:
    cdef Py_ssize_t i
    if anew is not NULL:
        for i in range(symbols):
            free(anew[i])
        free(anew)
