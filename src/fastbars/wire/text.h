/* The texts inside JSON: strings, digits, decimals and times, read eight bytes at a time and never past `limit`.
 *
 * Source: RFC 8259 (JSON), RFC 3629 (UTF-8), RFC 3339 (times). Units: times int64 nanoseconds since the Unix epoch.
 * What is refused here is not necessarily wrong; the caller then leaves the whole message to Python.
 */
#ifndef FASTBARS_TEXT_H
#define FASTBARS_TEXT_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernel_limits.h"

/* FB_PLAIN: for the tests, what processors without SSE2 run. */
#if !defined(FB_PLAIN) && (defined(__SSE2__) || defined(_M_X64))
#include <emmintrin.h>
#define FB_SSE2 1
#else
#define FB_SSE2 0
#endif

#if defined(_MSC_VER) && !defined(__clang__)
#include <intrin.h>
static __inline int fb_lowest_bit(uint64_t x) {
    unsigned long index;
    _BitScanForward64(&index, x);
    return (int)index;
}
#define FB_LIKELY(x) (x)
#define FB_UNLIKELY(x) (x)
#define FB_INLINE static __forceinline
#define FB_APART static __declspec(noinline)
#define FB_OPAQUE(x) (void)(x)
#define FB_FETCH_LINE(p) _mm_prefetch((const char *)(p), _MM_HINT_T0)
#else
#define fb_lowest_bit(x) __builtin_ctzll(x)
#define FB_LIKELY(x) __builtin_expect(!!(x), 1)
#define FB_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define FB_INLINE static inline __attribute__((always_inline))
#define FB_APART static __attribute__((noinline))
#define FB_OPAQUE(x) __asm__("" : "+r"(x)) /* what is computed from it is not decided by a branch on it */
#define FB_FETCH_LINE(p) __builtin_prefetch(p)
#endif

#define FB_MOST_DIGITS FB_MAX_SCALE
#define FB_ONES 0x0101010101010101ULL
#define FB_HIGHS 0x8080808080808080ULL

/* Entry n + 8 keeps the first n bytes of a word: none for n < 0, all for n > 8. */
static const uint64_t fb_first_bytes[25] = {
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFFULL, 0xFFFFULL, 0xFFFFFFULL, 0xFFFFFFFFULL, 0xFFFFFFFFFFULL, 0xFFFFFFFFFFFFULL,
    0xFFFFFFFFFFFFFFULL, UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX,
    UINT64_MAX, UINT64_MAX};

/* Eight bytes, the first in the lowest; zeros stand for what lies at `limit` and beyond. */
FB_INLINE uint64_t fb_load(const uint8_t *p, const uint8_t *limit) {
    uint64_t word = 0;
    if (FB_LIKELY(limit - p >= 8))
        memcpy(&word, p, 8);
    else if (limit > p)
        memcpy(&word, p, (size_t)(limit - p));
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    return word;
}

/* Eight bytes where it is known that so many may be read. */
FB_INLINE uint64_t fb_word(const uint8_t *p) {
    uint64_t word;
    memcpy(&word, p, 8);
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    return word;
}

/* High bits where a byte ends plain text: a quote, a backslash, a control character, or one beyond ASCII.
 * Only the lowest is certain: a borrow can mark bytes above it. */
FB_INLINE uint64_t fb_not_plain(uint64_t x) {
    uint64_t quote = x ^ (FB_ONES * '"'), backslash = x ^ (FB_ONES * '\\');
    return (((quote - FB_ONES) & ~quote) | ((backslash - FB_ONES) & ~backslash) | (x - FB_ONES * 0x20) | x) & FB_HIGHS;
}

/* High bits where a byte is no digit, given the bytes ^ '0'; again only the lowest is certain. */
FB_INLINE uint64_t fb_not_digits(uint64_t x) { return ((x + 0x7676767676767676ULL) | x) & FB_HIGHS; }

/* A bit for each of 16 bytes that is no digit, or that ends plain text; bit 16 is always set. */
#if FB_SSE2
FB_INLINE unsigned fb_digit_stops(const uint8_t *p) {
    __m128i x = _mm_sub_epi8(_mm_loadu_si128((const __m128i *)p), _mm_set1_epi8('0'));
    __m128i digits = _mm_cmpeq_epi8(_mm_min_epu8(x, _mm_set1_epi8(9)), x);
    return (unsigned)_mm_movemask_epi8(digits) ^ 0x1FFFFu;
}

FB_INLINE unsigned fb_text_stops(const uint8_t *p) {
    __m128i x = _mm_loadu_si128((const __m128i *)p);
    __m128i quotes = _mm_or_si128(_mm_cmpeq_epi8(x, _mm_set1_epi8('"')), _mm_cmpeq_epi8(x, _mm_set1_epi8('\\')));
    /* Signed: control characters and all beyond ASCII. */
    return (unsigned)_mm_movemask_epi8(_mm_or_si128(quotes, _mm_cmplt_epi8(x, _mm_set1_epi8(0x20)))) | 0x10000u;
}
#else
FB_INLINE unsigned fb_high_bits(uint64_t low, uint64_t high) {
    return (unsigned)(((low & FB_HIGHS) >> 7) * 0x0102040810204080ULL >> 56) |
           (unsigned)(((high & FB_HIGHS) >> 7) * 0x0102040810204080ULL >> 56) << 8 | 0x10000u;
}
FB_INLINE uint64_t fb_exactly_no_digits(uint64_t x) {
    x ^= FB_ONES * '0';
    return ((x & ~FB_HIGHS) + 0x7676767676767676ULL) | x;
}
/* High bits where a byte is not zero. */
FB_INLINE uint64_t fb_not_zero(uint64_t x) { return ((x & ~FB_HIGHS) + ~FB_HIGHS) | x; }
FB_INLINE uint64_t fb_exactly_not_plain(uint64_t x) {
    uint64_t control = ~((x & ~FB_HIGHS) + FB_ONES * 0x60);
    return ~fb_not_zero(x ^ (FB_ONES * '"')) | ~fb_not_zero(x ^ (FB_ONES * '\\')) | control | x;
}
FB_INLINE unsigned fb_digit_stops(const uint8_t *p) {
    return fb_high_bits(fb_exactly_no_digits(fb_word(p)), fb_exactly_no_digits(fb_word(p + 8)));
}
FB_INLINE unsigned fb_text_stops(const uint8_t *p) {
    return fb_high_bits(fb_exactly_not_plain(fb_word(p)), fb_exactly_not_plain(fb_word(p + 8)));
}
#endif

/* The number that eight digits (bytes ^ '0', the first in the lowest byte) stand for. */
FB_INLINE uint64_t fb_eight_digits(uint64_t x) {
    x = x * 10 + (x >> 8);
    return ((x & 0x000000FF000000FFULL) * 0x000F424000000064ULL +
            ((x >> 16) & 0x000000FF000000FFULL) * 0x0000271000000001ULL) >> 32;
}

/* The number that 1 to 8 digits at p stand for; eight bytes may be read. */
FB_INLINE uint64_t fb_few_digits(const uint8_t *p, unsigned n) {
    return fb_eight_digits((fb_word(p) ^ (FB_ONES * '0')) << (64 - 8 * n));
}

/* The number that 1 to 16 digits at p stand for; 16 bytes may be read. */
FB_INLINE uint64_t fb_sixteen_digits(const uint8_t *p, unsigned n) {
    if (n <= 8)
        return fb_few_digits(p, n);
    return fb_eight_digits(fb_word(p) ^ (FB_ONES * '0')) * fb_power_of_ten[n - 8] + fb_few_digits(p + 8, n - 8);
}

/* Whether these bytes begin as `text` does, which has eight bytes at least, of which `length` (1 to 8) count. */
FB_INLINE int fb_begins(uint64_t word, uint64_t text, int length) { return (word ^ text) << (64 - 8 * length) == 0; }

/* The byte after a run of digits. */
FB_INLINE const uint8_t *fb_skip_digits(const uint8_t *p, const uint8_t *limit) {
    for (;;) {
        uint64_t stop = fb_not_digits(fb_load(p, limit) ^ (FB_ONES * '0'));
        if (stop)
            return p + (fb_lowest_bit(stop) >> 3);
        p += 8;
    }
}

/* Reads digits, which go on from `digits` already in `value`. Returns how many there are then; -1: over 18. */
FB_INLINE int fb_digits(const uint8_t **at, const uint8_t *limit, uint64_t *value, int digits) {
    const uint8_t *p = *at;
    uint64_t v = *value;
    for (;;) {
        uint64_t x = fb_load(p, limit) ^ (FB_ONES * '0');
        uint64_t stop = fb_not_digits(x);
        if (!stop) {
            digits += 8;
            if (FB_UNLIKELY(digits > FB_MOST_DIGITS))
                return -1;
            v = v * 100000000ULL + fb_eight_digits(x);
            p += 8;
            continue;
        }
        int n = fb_lowest_bit(stop) >> 3;
        if (n) {
            digits += n;
            if (FB_UNLIKELY(digits > FB_MOST_DIGITS))
                return -1;
            v = v * fb_power_of_ten[n] + fb_eight_digits(x << (64 - 8 * n));
            p += n;
        }
        *at = p;
        *value = v;
        return digits;
    }
}

/* A non-negative integer of at most 18 digits, without leading zeros. */
FB_INLINE int fb_integer(const uint8_t **at, const uint8_t *limit, int64_t *value) {
    const uint8_t *start = *at;
    uint64_t v = 0;
    int digits = fb_digits(at, limit, &v, 0);
    if (FB_UNLIKELY(digits <= 0 || (digits > 1 && *start == '0')))
        return 0;
    *value = (int64_t)v;
    return 1;
}

/* A decimal that is not negative, value x 10**-decimals with 0 <= decimals <= 18, at most 18 digits in all. */
FB_INLINE int fb_decimal(const uint8_t **at, const uint8_t *limit, int json_number, int64_t *value, int *decimals) {
    const uint8_t *p = *at, *start = p;
    uint64_t v = 0;
    int whole = fb_digits(&p, limit, &v, 0), digits = whole;
    if (FB_UNLIKELY(whole <= 0 || (json_number && whole > 1 && *start == '0')))
        return 0;
    if (FB_LIKELY(p < limit && *p == '.')) {
        p++;
        digits = fb_digits(&p, limit, &v, whole);
        if (FB_UNLIKELY(digits <= whole))
            return 0;
    }
    int places = digits - whole;
    if (FB_UNLIKELY(p < limit && (*p == 'e' || *p == 'E'))) {
        int negative = 0, exponent = 0, written = 0;
        if (++p < limit && (*p == '-' || *p == '+'))
            negative = *p++ == '-';
        for (; p < limit && *p >= '0' && *p <= '9'; p++, written++) {
            if (written == 2)
                return 0;
            exponent = exponent * 10 + (*p - '0');
        }
        if (!written)
            return 0;
        places += negative ? exponent : -exponent;
        while (places > FB_MOST_DIGITS && v && v % 10 == 0) {
            v /= 10;
            places--;
        }
        if (places > FB_MOST_DIGITS || (places < 0 && digits - places > FB_MOST_DIGITS))
            return 0;
        if (places < 0) {
            v *= fb_power_of_ten[-places];
            places = 0;
        }
    }
    *at = p;
    *value = (int64_t)v;
    *decimals = v ? places : 0;
    return 1;
}

/* Beyond ASCII: the byte after one well-formed UTF-8 sequence; NULL if it is none. */
static const uint8_t *fb_utf8(const uint8_t *p, const uint8_t *end) {
    uint8_t first = *p;
    int more = first >= 0xF0 ? 3 : first >= 0xE0 ? 2 : 1;
    if (first < 0xC2 || first > 0xF4 || end - p <= more)
        return NULL;
    /* Overlong forms, surrogates, and what lies beyond U+10FFFF show in the second byte. */
    uint8_t low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
    uint8_t high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
    if (p[1] < low || p[1] > high)
        return NULL;
    for (int i = 2; i <= more; i++)
        if ((p[i] & 0xC0) != 0x80)
            return NULL;
    return p + more + 1;
}

/* The byte after an escape; NULL if it is none, or half of a surrogate pair, which Python judges. */
static const uint8_t *fb_escape(const uint8_t *p, const uint8_t *end) {
    if (end - p < 2)
        return NULL;
    switch (p[1]) {
    case '"': case '\\': case '/': case 'b': case 'f': case 'n': case 'r': case 't':
        return p + 2;
    case 'u':
        break;
    default:
        return NULL;
    }
    if (end - p < 6)
        return NULL;
    for (int i = 2; i < 6; i++) {
        uint8_t c = p[i], letter = c | 0x20;
        if (!((c >= '0' && c <= '9') || (letter >= 'a' && letter <= 'f')))
            return NULL;
    }
    if ((p[2] | 0x20) == 'd' && p[3] >= '8')
        return NULL;
    return p + 6;
}

/* The closing quote of a string, given the byte after its opening one; NULL where it is not well-formed.
 * `escaped` is set where it holds a backslash. */
static const uint8_t *fb_odd_string(const uint8_t *p, const uint8_t *end, int *escaped) {
    while (p < end) {
        if (*p == '"')
            return p;
        if (*p < 0x20)
            return NULL;
        if (*p == '\\') {
            *escaped = 1;
            p = fb_escape(p, end);
        } else if (*p >= 0x80) {
            p = fb_utf8(p, end);
        } else {
            p++;
        }
        if (!p)
            return NULL;
    }
    return NULL;
}

FB_INLINE const uint8_t *fb_string(const uint8_t *p, const uint8_t *end, const uint8_t *limit, int *escaped) {
    for (;;) {
        uint64_t stop = fb_not_plain(fb_load(p, limit));
        if (FB_LIKELY(stop)) {
            p += fb_lowest_bit(stop) >> 3;
            break;
        }
        p += 8;
        if (FB_UNLIKELY(p >= end))
            return NULL;
    }
    if (FB_UNLIKELY(p >= end))
        return NULL;
    return FB_LIKELY(*p == '"') ? p : fb_odd_string(p, end, escaped);
}

/* The byte after any JSON number; NULL where it is none, or so large or small that Python must judge. */
static const uint8_t *fb_any_number(const uint8_t *p, const uint8_t *end) {
    const uint8_t *start = p;
    if (p < end && *p == '-')
        p++;
    if (p >= end || *p < '0' || *p > '9')
        return NULL;
    if (*p == '0' && p + 1 < end && p[1] >= '0' && p[1] <= '9')
        return NULL;
    while (p < end && *p >= '0' && *p <= '9')
        p++;
    if (p < end && *p == '.') {
        const uint8_t *point = p++;
        while (p < end && *p >= '0' && *p <= '9')
            p++;
        if (p == point + 1)
            return NULL;
    }
    if (p < end && (*p == 'e' || *p == 'E')) {
        p++;
        if (p < end && (*p == '-' || *p == '+'))
            p++;
        const uint8_t *digits = p;
        while (p < end && *p >= '0' && *p <= '9')
            p++;
        if (p == digits || p - digits > 2)
            return NULL;
    }
    return p - start > 200 ? NULL : p;
}

/* Two digits at p as a number; -1 where there are none. */
FB_INLINE int fb_two(const uint8_t *p) {
    unsigned tens = p[0] - (unsigned)'0', ones = p[1] - (unsigned)'0';
    return tens > 9 || ones > 9 ? -1 : (int)(tens * 10 + ones);
}

/* "2023-10-06T17:35:55.440295Z", with 0 to 9 decimals of a second. */
static int fb_rfc3339(const uint8_t **at, const uint8_t *end, int64_t *time_ns) {
    static const uint8_t lengths[13] = {0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    const uint8_t *p = *at;
    if (end - p < 20 || p[4] != '-' || p[7] != '-' || p[10] != 'T' || p[13] != ':' || p[16] != ':')
        return 0;
    int century = fb_two(p), year = fb_two(p + 2), month = fb_two(p + 5), day = fb_two(p + 8);
    int hour = fb_two(p + 11), minute = fb_two(p + 14), second = fb_two(p + 17);
    if (century < 19 || century > 21 || year < 0 || month < 1 || month > 12 || hour < 0 || hour > 23 || minute < 0 ||
        minute > 59 || second < 0 || second > 59)
        return 0;
    year += 100 * century;
    int leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    if (day < 1 || day > lengths[month] + (leap && month == 2) || year < 1900 || year > 2100)
        return 0;
    /* Days since 1970-01-01, counted in years that begin with March. */
    int y = month <= 2 ? year - 1 : year, m = month <= 2 ? month + 9 : month - 3;
    int64_t days = 365LL * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719468;
    int64_t fraction = 0;
    p += 19;
    if (*p == '.') {
        const uint8_t *point = p++;
        for (; p < end && *p >= '0' && *p <= '9'; p++)
            fraction = fraction * 10 + (*p - '0'), fraction = p - point > 9 ? -1 : fraction;
        if (p == point + 1 || p - point > 10)
            return 0;
        fraction *= fb_power_of_ten[9 - (p - point - 1)];
    }
    if (p >= end || *p != 'Z')
        return 0;
    *time_ns = ((days * 24 + hour) * 60 + minute) * 60000000000LL + second * 1000000000LL + fraction;
    *at = p + 1;
    return 1;
}

enum { FB_MS, FB_US, FB_NS, FB_MS_OR_US, FB_S, FB_RFC3339 };

/* A time in one of the units above; `in_text` where it stands in quotes. */
FB_INLINE int fb_time(const uint8_t **at, const uint8_t *end, const uint8_t *limit, int unit, int in_text,
                      int64_t *time_ns) {
    int64_t value, factor;
    int places;
    if (FB_UNLIKELY(unit == FB_RFC3339))
        return in_text && fb_rfc3339(at, end, time_ns);
    if (FB_UNLIKELY(unit == FB_S)) {
        if (!fb_decimal(at, limit, !in_text, &value, &places) || !value)
            return 0;
        while (places > 9 && value % 10 == 0) {
            value /= 10;
            places--;
        }
        if (places > 9)
            return 0;
        factor = fb_power_of_ten[9 - places];
    } else {
        if (!fb_integer(at, limit, &value))
            return 0;
        factor = unit == FB_MS ? 1000000 : unit == FB_US ? 1000 : unit == FB_NS ? 1 : value >= 100000000000000LL ? 1000 : 1000000;
    }
    if (FB_UNLIKELY(value > INT64_MAX / factor))
        return 0;
    *time_ns = value * factor;
    return 1;
}

/* Divides by 10**n where that leaves no rest: 10**n = 2**n * 5**n, and 5**n has an inverse modulo 2**64. The rotated
 * product is at most (2**64 - 1) / 10**n exactly where there is no rest, and then it is the quotient. */
static const uint64_t fb_inverse_of_five[19] = {
    0x1ULL, 0xCCCCCCCCCCCCCCCDULL, 0x8F5C28F5C28F5C29ULL, 0x1CAC083126E978D5ULL, 0xD288CE703AFB7E91ULL,
    0x5D4E8FB00BCBE61DULL, 0x790FB65668C26139ULL, 0xE5032477AE8D46A5ULL, 0xC767074B22E90E21ULL,
    0x8E47CE423A2E9C6DULL, 0x4FA7F60D3ED61F49ULL, 0xFEE64690C913975ULL, 0x3662E0E1CF503EB1ULL,
    0xA47A2CF9F6433FBDULL, 0x54186F653140A659ULL, 0x7738164770402145ULL, 0xE4A4D1417CD9A041ULL,
    0xC75429D9E5C5200DULL, 0xC1773B91FAC10669ULL};
static const uint64_t fb_most_quotient[19] = {
    0xFFFFFFFFFFFFFFFFULL, 0x1999999999999999ULL, 0x28F5C28F5C28F5CULL, 0x4189374BC6A7EFULL, 0x68DB8BAC710CBULL,
    0xA7C5AC471B47ULL, 0x10C6F7A0B5EDULL, 0x1AD7F29ABCAULL, 0x2AF31DC461ULL, 0x44B82FA09ULL, 0x6DF37F67ULL,
    0xAFEBFF0ULL, 0x1197998ULL, 0x1C25C2ULL, 0x2D093ULL, 0x480EULL, 0x734ULL, 0xB8ULL, 0x12ULL};

FB_INLINE int fb_divide_by_ten(uint64_t *value, int n) {
    uint64_t product = *value * fb_inverse_of_five[n];
    uint64_t quotient = n ? product >> n | product << (64 - n) : product;
    if (quotient > fb_most_quotient[n])
        return 0;
    *value = quotient;
    return 1;
}

/* Brings value x 10**-decimals to x 10**-scale; 0, and *value as it was, where that is not exact in 63 bits. */
FB_INLINE int fb_rescale(int64_t *value, int decimals, int scale) {
    if (decimals > scale) {
        uint64_t v = (uint64_t)*value;
        if (!fb_divide_by_ten(&v, decimals - scale))
            return 0;
        *value = (int64_t)v;
    } else if (decimals < scale) {
        int64_t factor = fb_power_of_ten[scale - decimals];
        if ((uint64_t)*value > fb_most_quotient[scale - decimals] / 2)
            return 0;
        *value *= factor;
    }
    return 1;
}

/* The same value with as few decimals as it needs. */
static inline void fb_strip(int64_t *value, int *decimals) {
    while (*decimals > 0 && *value % 10 == 0) {
        *value /= 10;
        --*decimals;
    }
}

#endif
