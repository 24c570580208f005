/* The limits of what the kernel takes, in one place: `limits.pxd` and `limits.pyx` hand them to Cython and Python. */
#ifndef FASTBARS_LIMITS_H
#define FASTBARS_LIMITS_H

#include <stdint.h>

/* Years 1824 to 2115, to either side of the epoch: every interval that holds such a time (100 years at most), and the
 * difference of any two such times, lie within int64 nanoseconds. */
#define FB_LATEST_NS 4600000000000000000LL

#define FB_DAY_NS 86400000000000LL

/* The longest interval of a time bar: a hundred years. */
#define FB_LONGEST_NS (36600 * FB_DAY_NS)
#define FB_LONGEST_MONTHS 1200

/* Decimals of a price or a size, and digits that are sure to fit 64 bits with a sign. */
#define FB_MAX_SCALE 18

/* Where the ids of a symbol begin anew, those of its older series are moved below them, and never below this. */
#define FB_LOWEST_KEY (-(1LL << 61))

/* The number of the one status (REPORTED) whose rows may lack a count (then it is negative) or a sum (FB_NO_SUM). */
#define FB_REPORTED 7
/* The upper half of a sum that is not known, whose lower half is 0. */
#define FB_NO_SUM INT64_MIN
/* Price levels of a bar; one with more has no footprint. */
#define FB_MOST_LEVELS 2000

static const int64_t fb_power_of_ten[FB_MAX_SCALE + 1] = {
    1LL, 10LL, 100LL, 1000LL, 10000LL, 100000LL, 1000000LL, 10000000LL, 100000000LL, 1000000000LL,
    10000000000LL, 100000000000LL, 1000000000000LL, 10000000000000LL, 100000000000000LL,
    1000000000000000LL, 10000000000000000LL, 100000000000000000LL, 1000000000000000000LL};

#endif
