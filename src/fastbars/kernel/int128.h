/* Signed 128-bit sums for scaled decimals: the few operations that the kernel needs.
 *
 * The value lives in two 64-bit words, so that its layout is the same for every compiler and for numpy
 * (fields lo, hi). Every operation that can leave the range returns 1 and leaves *acc unspecified; the
 * caller throws the work away.
 */
#ifndef FASTBARS_INT128_H
#define FASTBARS_INT128_H

#include <stdint.h>

typedef struct {
    uint64_t lo;
    int64_t hi;
} fb_int128;

#if defined(__GNUC__)
#define FB_RARE(condition) __builtin_expect((condition), 0)
#else
#define FB_RARE(condition) (condition)
#endif

static const fb_int128 fb_nothing = {0, 0};

#if defined(__SIZEOF_INT128__)

static inline __int128 fb_get(const fb_int128 *a) {
    return (__int128)(((unsigned __int128)(uint64_t)a->hi << 64) | a->lo);
}

static inline void fb_put(fb_int128 *a, __int128 v) {
    a->lo = (uint64_t)v;
    a->hi = (int64_t)((unsigned __int128)v >> 64);
}

static inline int fb_add(fb_int128 *acc, const fb_int128 *b) {
    __int128 sum;
    int overflow = __builtin_add_overflow(fb_get(acc), fb_get(b), &sum);
    fb_put(acc, sum);
    return overflow;
}

static inline int fb_add_int64(fb_int128 *acc, int64_t b) {
    __int128 sum;
    int overflow = __builtin_add_overflow(fb_get(acc), (__int128)b, &sum);
    fb_put(acc, sum);
    return overflow;
}

/* *acc += a * b */
static inline int fb_add_product(fb_int128 *acc, int64_t a, int64_t b) {
    __int128 sum;
    int overflow = __builtin_add_overflow(fb_get(acc), (__int128)a * b, &sum);
    fb_put(acc, sum);
    return overflow;
}

/* *acc *= factor */
static inline int fb_scale(fb_int128 *acc, int64_t factor) {
    __int128 product;
    int overflow = __builtin_mul_overflow(fb_get(acc), (__int128)factor, &product);
    fb_put(acc, product);
    return overflow;
}

static inline int fb_less(const fb_int128 *a, const fb_int128 *b) { return fb_get(a) < fb_get(b); }

/* a - b, which is known not to overflow */
static inline fb_int128 fb_less_by(const fb_int128 *a, fb_int128 b) {
    fb_int128 difference;
    fb_put(&difference, fb_get(a) - fb_get(&b));
    return difference;
}

/* a / b, of which is known that a >= 0, b > 0, and the quotient fits 63 bits */
static inline int64_t fb_quotient(const fb_int128 *a, int64_t b) { return (int64_t)(fb_get(a) / b); }

static inline double fb_double(const fb_int128 *a) { return (double)fb_get(a); }

/* A sum that stays in registers, of which it is known that it cannot overflow. */
typedef unsigned __int128 fb_wide;

static inline fb_wide fb_wide_zero(void) { return 0; }

static inline fb_wide fb_wide_product(int64_t a, int64_t b) { return (fb_wide)((__int128)a * b); }

static inline fb_wide fb_wide_sum(fb_wide a, fb_wide b) { return a + b; }

static inline fb_wide fb_wide_difference(fb_wide a, fb_wide b) { return a - b; }

static inline void fb_add_wide(fb_int128 *acc, fb_wide b) {
    /* In words: GCC takes acc through memory and back otherwise. */
    uint64_t lo = acc->lo + (uint64_t)b;
    acc->hi = (int64_t)((uint64_t)acc->hi + (uint64_t)(b >> 64) + (lo < acc->lo));
    acc->lo = lo;
}

#elif defined(_MSC_VER) && defined(_M_X64)

#include <intrin.h>

static inline int fb_add(fb_int128 *acc, const fb_int128 *b) {
    int64_t before = acc->hi;
    unsigned char carry = _addcarry_u64(0, acc->lo, b->lo, &acc->lo);
    uint64_t hi;
    _addcarry_u64(carry, (uint64_t)before, (uint64_t)b->hi, &hi);
    acc->hi = (int64_t)hi;
    return ((before ^ acc->hi) & (b->hi ^ acc->hi)) < 0;
}

static inline int fb_add_int64(fb_int128 *acc, int64_t b) {
    fb_int128 wide;
    wide.lo = (uint64_t)b;
    wide.hi = b < 0 ? -1 : 0;
    return fb_add(acc, &wide);
}

static inline int fb_add_product(fb_int128 *acc, int64_t a, int64_t b) {
    fb_int128 product;
    product.lo = (uint64_t)_mul128(a, b, &product.hi);
    return fb_add(acc, &product);
}

/* factor > 0 */
static inline int fb_scale(fb_int128 *acc, int64_t factor) {
    uint64_t carry, low;
    int64_t top;
    acc->lo = _umul128(acc->lo, (uint64_t)factor, &carry);
    low = (uint64_t)_mul128(acc->hi, factor, &top);
    top += _addcarry_u64(0, low, carry, &low); /* top: of 192 bits, which hold every product */
    acc->hi = (int64_t)low;
    return top != (acc->hi >> 63);
}

static inline int fb_less(const fb_int128 *a, const fb_int128 *b) {
    return a->hi != b->hi ? a->hi < b->hi : a->lo < b->lo;
}

static inline fb_int128 fb_less_by(const fb_int128 *a, fb_int128 b) {
    fb_int128 difference;
    unsigned char borrow = _subborrow_u64(0, a->lo, b.lo, &difference.lo);
    uint64_t hi;
    _subborrow_u64(borrow, (uint64_t)a->hi, (uint64_t)b.hi, &hi);
    difference.hi = (int64_t)hi;
    return difference;
}

static inline int64_t fb_quotient(const fb_int128 *a, int64_t b) {
    uint64_t remainder;
    return (int64_t)_udiv128((uint64_t)a->hi, a->lo, (uint64_t)b, &remainder);
}

static inline double fb_double(const fb_int128 *a) {
    return (double)a->hi * 18446744073709551616.0 + (double)a->lo;
}

typedef fb_int128 fb_wide;

static inline fb_wide fb_wide_zero(void) {
    fb_wide zero = {0, 0};
    return zero;
}

static inline fb_wide fb_wide_product(int64_t a, int64_t b) {
    fb_wide product;
    product.lo = (uint64_t)_mul128(a, b, &product.hi);
    return product;
}

static inline fb_wide fb_wide_sum(fb_wide a, fb_wide b) {
    fb_add(&a, &b);
    return a;
}

static inline fb_wide fb_wide_difference(fb_wide a, fb_wide b) {
    fb_wide difference;
    unsigned char borrow = _subborrow_u64(0, a.lo, b.lo, &difference.lo);
    uint64_t hi;
    _subborrow_u64(borrow, (uint64_t)a.hi, (uint64_t)b.hi, &hi);
    difference.hi = (int64_t)hi;
    return difference;
}

static inline void fb_add_wide(fb_int128 *acc, fb_wide b) { fb_add(acc, &b); }

#else
#error "fastbars needs a compiler with 128-bit integers (GCC, Clang) or MSVC on x86-64"
#endif

/* *acc += b, where that is known not to overflow */
static inline void fb_add_uint64(fb_int128 *acc, uint64_t b) {
    acc->lo += b;
    if (FB_RARE(acc->lo < b)) acc->hi++; /* cheaper than a carry that is always added */
}

/* Fetches the cache line at `address` for writing, some time before it is needed. */
#if defined(__GNUC__)
#define FB_PREFETCH(address) __builtin_prefetch((address), 1)
#else
#define FB_PREFETCH(address) _mm_prefetch((const char *)(address), 3)
#endif

static inline int64_t fb_floor_mod(int64_t a, int64_t n) {
    int64_t r = a % n;
    return r < 0 ? r + n : r;
}

#endif
