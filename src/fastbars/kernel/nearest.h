/* The float nearest to a 128-bit mantissa x 10**-scale, ties to even: exact for every mantissa and 0 <= scale <= 36.
 *
 * mantissa / 10**scale is mantissa / 5**scale, apart from a power of two. Both sides are shifted so far to the left that
 * the quotient has just 64 bits; what is left of the division only matters by being zero or not.
 */
#ifndef FASTBARS_NEAREST_H
#define FASTBARS_NEAREST_H

#include <stdint.h>
#include <string.h>

#include "int128.h"
#include "kernel_limits.h"

enum { FB_QUOTE_DECIMALS = 2 * FB_MAX_SCALE };

/* 10**n, exact as a float up to here. */
static const double fb_float_power[23] = {
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22};

typedef struct {
    uint64_t hi, lo;
} fb_bits;

static inline int fb_left_zeros(uint64_t word) {
#if defined(__GNUC__)
    return __builtin_clzll(word);
#else
    int zeros = 0;
    for (; !(word >> 63); word <<= 1) zeros++;
    return zeros;
#endif
}

/* Until the highest bit is set; returns by how many places. Not of zero. */
static inline int fb_shift_up(fb_bits *a) {
    int zeros;
    if (!a->hi) {
        zeros = fb_left_zeros(a->lo);
        a->hi = a->lo << zeros;
        a->lo = 0;
        return 64 + zeros;
    }
    zeros = fb_left_zeros(a->hi);
    if (zeros) {
        a->hi = a->hi << zeros | a->lo >> (64 - zeros);
        a->lo <<= zeros;
    }
    return zeros;
}

static inline int fb_bits_less(fb_bits a, fb_bits b) { return a.hi != b.hi ? a.hi < b.hi : a.lo < b.lo; }

/* 5**n, shifted to the left until the highest bit is set, and by how many places. */
static const fb_bits fb_power_of_five[FB_QUOTE_DECIMALS + 1] = {
    {0x8000000000000000, 0x0000000000000000}, {0xa000000000000000, 0x0000000000000000},
    {0xc800000000000000, 0x0000000000000000}, {0xfa00000000000000, 0x0000000000000000},
    {0x9c40000000000000, 0x0000000000000000}, {0xc350000000000000, 0x0000000000000000},
    {0xf424000000000000, 0x0000000000000000}, {0x9896800000000000, 0x0000000000000000},
    {0xbebc200000000000, 0x0000000000000000}, {0xee6b280000000000, 0x0000000000000000},
    {0x9502f90000000000, 0x0000000000000000}, {0xba43b74000000000, 0x0000000000000000},
    {0xe8d4a51000000000, 0x0000000000000000}, {0x9184e72a00000000, 0x0000000000000000},
    {0xb5e620f480000000, 0x0000000000000000}, {0xe35fa931a0000000, 0x0000000000000000},
    {0x8e1bc9bf04000000, 0x0000000000000000}, {0xb1a2bc2ec5000000, 0x0000000000000000},
    {0xde0b6b3a76400000, 0x0000000000000000}, {0x8ac7230489e80000, 0x0000000000000000},
    {0xad78ebc5ac620000, 0x0000000000000000}, {0xd8d726b7177a8000, 0x0000000000000000},
    {0x878678326eac9000, 0x0000000000000000}, {0xa968163f0a57b400, 0x0000000000000000},
    {0xd3c21bcecceda100, 0x0000000000000000}, {0x84595161401484a0, 0x0000000000000000},
    {0xa56fa5b99019a5c8, 0x0000000000000000}, {0xcecb8f27f4200f3a, 0x0000000000000000},
    {0x813f3978f8940984, 0x4000000000000000}, {0xa18f07d736b90be5, 0x5000000000000000},
    {0xc9f2c9cd04674ede, 0xa400000000000000}, {0xfc6f7c4045812296, 0x4d00000000000000},
    {0x9dc5ada82b70b59d, 0xf020000000000000}, {0xc5371912364ce305, 0x6c28000000000000},
    {0xf684df56c3e01bc6, 0xc732000000000000}, {0x9a130b963a6c115c, 0x3c7f400000000000},
    {0xc097ce7bc90715b3, 0x4b9f100000000000},
};
static const int fb_shift_of_five[FB_QUOTE_DECIMALS + 1] = {
    127, 125, 123, 121, 118, 116, 114, 111, 109, 107, 104, 102, 100, 97, 95, 93, 90, 88, 86, 83, 81, 79, 76,
    74, 72, 69, 67, 65, 62, 60, 58, 56, 53, 51, 49, 46, 44};

/* The quotient of `value` (less than `divisor`) x 2**64 and `divisor`; *rest: whether anything is left. */
static inline uint64_t fb_long_division(fb_bits value, fb_bits divisor, int *rest) {
    uint64_t quotient = 0;
    int i;
    for (i = 0; i < 64; i++) {
        int over = (int)(value.hi >> 63);
        value.hi = value.hi << 1 | value.lo >> 63;
        value.lo <<= 1;
        quotient <<= 1;
        if (over || !fb_bits_less(value, divisor)) {
            value.hi -= divisor.hi + (value.lo < divisor.lo);
            value.lo -= divisor.lo;
            quotient |= 1;
        }
    }
    *rest = (value.hi | value.lo) != 0;
    return quotient;
}

static double fb_nearest_of_many(fb_int128 mantissa, int scale) {
    int negative = mantissa.hi < 0, up, rest, lost = 0;
    fb_bits value = {(uint64_t)mantissa.hi, mantissa.lo}, divisor = fb_power_of_five[scale];
    uint64_t quotient, kept, half, bits, exponent;
    double power, result;
    if (negative) {
        value.hi = ~value.hi + (value.lo == 0);
        value.lo = ~value.lo + 1;
    }
    if (!(value.hi | value.lo)) return 0.0;
    up = fb_shift_up(&value);
    if (!fb_bits_less(value, divisor)) {
        lost = (int)(value.lo & 1);
        value.lo = value.lo >> 1 | value.hi << 63;
        value.hi >>= 1;
        up--;
    }
#if defined(__SIZEOF_INT128__)
    if (!divisor.lo) { /* 5**27 at most */
        unsigned __int128 whole = (unsigned __int128)value.hi << 64 | value.lo;
        quotient = (uint64_t)(whole / divisor.hi);
        rest = quotient * divisor.hi != (uint64_t)whole;
    } else
#endif
        quotient = fb_long_division(value, divisor, &rest);
    rest |= lost;
    kept = quotient >> 11;
    half = quotient & 0x7ff;
    kept += half > 0x400 || (half == 0x400 && (rest || (kept & 1)));
    exponent = (uint64_t)(1023 + 11 - 64 + fb_shift_of_five[scale] - up - scale);
    bits = exponent << 52;
    memcpy(&power, &bits, sizeof power);
    result = (double)kept * power;
    return negative ? -result : result;
}

static inline double fb_nearest(fb_int128 mantissa, int scale) {
    /* A float divided by a float is the nearest one where both are exact: below 2**53, and up to 10**22. */
    if (mantissa.hi == 0 && !(mantissa.lo >> 53) && scale <= 22) {
        return (double)(int64_t)mantissa.lo / fb_float_power[scale];
    }
    return fb_nearest_of_many(mantissa, scale);
}

#endif
