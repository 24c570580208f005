"""The limits of what the kernel takes (kernel_limits.h), for Python.

Units: LATEST_NS int64 nanoseconds since the epoch, UTC; LONGEST_NS nanoseconds; MAX_SCALE decimals.
"""

# By their names in the .pxd, which Cython code knows them by.
globals().update(
    LATEST_NS=LATEST_NS, LONGEST_NS=LONGEST_NS, LONGEST_MONTHS=LONGEST_MONTHS, MAX_SCALE=MAX_SCALE,
    REPORTED_STATUS=REPORTED_STATUS, NO_SUM=NO_SUM, MOST_LEVELS=MOST_LEVELS)
