from libc.stdint cimport int64_t, uint8_t

cdef extern from "kernel_limits.h" nogil:
    const int64_t LATEST_NS "FB_LATEST_NS"      # times: no trade is later,
    const int64_t EARLIEST_NS "-FB_LATEST_NS"   # and none earlier
    const int64_t DAY_NS "FB_DAY_NS"
    const int64_t LONGEST_NS "FB_LONGEST_NS"    # intervals of time bars
    const int64_t LONGEST_MONTHS "FB_LONGEST_MONTHS"
    const int MAX_SCALE "FB_MAX_SCALE"          # decimals of a price or a size
    const uint8_t REPORTED_STATUS "FB_REPORTED"
    const int64_t NO_SUM "FB_NO_SUM"
    const int MOST_LEVELS "FB_MOST_LEVELS"      # of a footprint
    const int64_t LOWEST_KEY "FB_LOWEST_KEY"    # ids of older series are moved down: never further


cdef inline bint is_time(int64_t time_ns) noexcept nogil:
    return EARLIEST_NS <= time_ns <= LATEST_NS
