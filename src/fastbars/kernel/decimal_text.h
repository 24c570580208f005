/* Scaled decimals as text: the one place where digits are written.
 *
 * Plain notation, no zeros behind the last digit that counts, "0" for nothing: what format(Decimal, "f") makes of the same
 * number without those zeros. Whatever shows a number of a bar comes from here: Decimals, CSV, JSON.
 */
#ifndef FASTBARS_DECIMAL_TEXT_H
#define FASTBARS_DECIMAL_TEXT_H

#include <stdint.h>
#include <string.h>
#include "int128.h"

/* The longest has a sign, 39 digits and a point, or "-0." and 36 of them; digits are copied 40 at a time. */
#define FB_DECIMAL_BYTES 48
#define FB_DECIMAL_ROOM (FB_DECIMAL_BYTES + 40)
#define FB_MOST_DECIMALS 36

static const char fb_two_digits[] =
    "00010203040506070809101112131415161718192021222324252627282930313233343536373839404142434445464748495051525354555657"
    "5859606162636465666768697071727374757677787980818283848586878889909192939495969798" "99";

/* Writes the digits of `value` in front of `end`; returns where they begin. Of 0 there are none. */
static inline char *fb_write_digits(char *end, uint64_t value) {
    while (value >= 100) {
        end -= 2;
        memcpy(end, fb_two_digits + 2 * (value % 100), 2);
        value /= 100;
    }
    if (value >= 10) {
        end -= 2;
        memcpy(end, fb_two_digits + 2 * value, 2);
    } else if (value > 0) {
        *--end = (char)('0' + value);
    }
    return end;
}

/* The same for 128 bits, nine digits at a time. */
static inline char *fb_write_wide_digits(char *end, uint64_t hi, uint64_t lo) {
    uint32_t limbs[4] = {(uint32_t)lo, (uint32_t)(lo >> 32), (uint32_t)hi, (uint32_t)(hi >> 32)};
    while (limbs[3] | limbs[2]) {
        uint64_t rest = 0;
        char *start = end - 9;
        int k;
        for (k = 3; k >= 0; k--) {
            rest = rest << 32 | limbs[k];
            limbs[k] = (uint32_t)(rest / 1000000000u);
            rest %= 1000000000u;
        }
        end = fb_write_digits(end, rest);
        while (end > start) {
            *--end = '0';
        }
    }
    return fb_write_digits(end, (uint64_t)limbs[1] << 32 | limbs[0]);
}

/* Writes value x 10**-scale, 0 <= scale <= FB_MOST_DECIMALS, into `out`, which has FB_DECIMAL_ROOM bytes; returns its end. */
static inline char *fb_write_decimal(char *out, const fb_int128 *value, int scale) {
    char digits[40 + 40];
    char *end = digits + 40, *start;
    uint64_t lo = value->lo, hi = (uint64_t)value->hi;
    int count, whole;
    if (value->hi < 0) {
        *out++ = '-';
        lo = ~lo + 1;
        hi = ~hi + (lo == 0);
    }
    start = hi ? fb_write_wide_digits(end, hi, lo) : fb_write_digits(end, lo);
    if (start == end) {
        *out = '0';
        return out + 1;
    }
    while (scale > 0 && end[-1] == '0') {
        end--;
        scale--;
    }
    count = (int)(end - start);
    if (scale == 0) {
        memcpy(out, start, 40);
        return out + count;
    }
    whole = count - scale;
    if (whole > 0) {
        memcpy(out, start, 40);
        out += whole;
        *out++ = '.';
        memcpy(out, start + whole, 40);
        return out + scale;
    }
    memcpy(out, "0.000000000000000000000000000000000000000", 40);
    out += 2 - whole;
    memcpy(out, start, 40);
    return out + count;
}

#endif
