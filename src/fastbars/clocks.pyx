"""The two clocks of this machine, read here and nowhere else: a steady one for waiting, the wall's for the time of day.

A test holds both and turns them by hand, so that what takes an hour is over at once and what takes 0.4 s takes exactly that.

Units: int64 nanoseconds; of the steady clock since an unknown moment, of the wall's since the Unix epoch.
"""

from libc.stdint cimport int64_t

import time

cdef extern from *:
    """
    #include <stdint.h>
    #if defined(__linux__)
    #include <time.h>
    static int64_t fb_clock_ns(clockid_t clock) {
        struct timespec now;
        clock_gettime(clock, &now);
        return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    }
    #define FB_STEADY_NS() fb_clock_ns(CLOCK_MONOTONIC)
    #define FB_WALL_NS() fb_clock_ns(CLOCK_REALTIME)
    enum { FB_HAS_CLOCKS = 1 };
    #else
    #define FB_STEADY_NS() 0
    #define FB_WALL_NS() 0
    enum { FB_HAS_CLOCKS = 0 };
    #endif
    """
    int64_t FB_STEADY_NS()
    int64_t FB_WALL_NS()
    bint FB_HAS_CLOCKS

cdef bint is_held = False
cdef int64_t held_steady_ns = 0
cdef int64_t held_wall_ns = 0


cpdef int64_t steady_ns() except? -1:
    if is_held:
        return held_steady_ns
    return FB_STEADY_NS() if FB_HAS_CLOCKS else time.monotonic_ns()


cpdef int64_t wall_ns() except? -1:
    if is_held:
        return held_wall_ns
    return FB_WALL_NS() if FB_HAS_CLOCKS else time.time_ns()


def steady_s():
    return steady_ns() / 1e9


def hold(int64_t steady_ns, int64_t wall_ns):
    global is_held, held_steady_ns, held_wall_ns
    held_steady_ns = steady_ns
    held_wall_ns = wall_ns
    is_held = True


def release():
    global is_held
    is_held = False
