/* Lines of CSV: where their fields end, and the numbers and words in them.
 *
 * The ends of all fields of a piece of text are found first, 64 bytes at a time, so that no field waits for the one before
 * it. There are FB_AROUND readable bytes before and behind the text. What is not in its usual form is refused (0), and read
 * again, slowly, by others.
 */
#ifndef FASTBARS_FIELDS_H
#define FASTBARS_FIELDS_H

#include "text.h"

enum { FB_AROUND = 64 };

/* A bit for each of 64 bytes that ends a field. To *lines the newlines are added; *quotes is not 0 where there is one. */
#if FB_SSE2
FB_INLINE uint64_t fb_ends_of_64(const uint8_t *p, uint8_t separator, __m128i *lines, __m128i *quotes) {
    const __m128i sep = _mm_set1_epi8((char)separator), newline = _mm_set1_epi8('\n'), quote = _mm_set1_epi8('"');
    __m128i count = _mm_setzero_si128();
    uint64_t ends = 0;
    for (int i = 0; i < 4; i++) {
        __m128i x = _mm_loadu_si128((const __m128i *)(p + 16 * i)), line = _mm_cmpeq_epi8(x, newline);
        *quotes = _mm_or_si128(*quotes, _mm_cmpeq_epi8(x, quote));
        count = _mm_sub_epi8(count, line);
        ends |= (uint64_t)(unsigned)_mm_movemask_epi8(_mm_or_si128(_mm_cmpeq_epi8(x, sep), line)) << 16 * i;
    }
    *lines = _mm_add_epi64(*lines, _mm_sad_epu8(count, _mm_setzero_si128()));
    return ends;
}
#else
/* High bits where a byte is zero, exactly. */
FB_INLINE uint64_t fb_zero_bytes(uint64_t x) { return ~(((x & ~FB_HIGHS) + ~FB_HIGHS) | x | ~FB_HIGHS); }
FB_INLINE uint64_t fb_ends_of_64(const uint8_t *p, uint8_t separator, uint64_t *lines, uint64_t *quotes) {
    uint64_t ends = 0;
    for (int i = 0; i < 8; i++) {
        uint64_t x = fb_word(p + 8 * i), line = fb_zero_bytes(x ^ (FB_ONES * '\n'));
        *quotes |= fb_zero_bytes(x ^ (FB_ONES * '"'));
        *lines += (line >> 7) * FB_ONES >> 56;
        ends |= (((fb_zero_bytes(x ^ (FB_ONES * separator)) | line) >> 7) * 0x0102040810204080ULL >> 56) << 8 * i;
    }
    return ends;
}
#endif

FB_INLINE int fb_bits_of(uint64_t x) {
    x -= (x >> 1) & 0x5555555555555555ULL;
    x = (x & 0x3333333333333333ULL) + ((x >> 2) & 0x3333333333333333ULL);
    return (int)(((x + (x >> 4)) & 0x0F0F0F0F0F0F0F0FULL) * FB_ONES >> 56);
}

/* Writes where the fields of whole lines begin, as places in the text, and behind them where the next one would: room is
 * needed for one more than there are bytes, and for FB_AROUND. Returns how many lines there are, if each has so many
 * columns and none has a quote; else -1. */
static int fb_find_fields(const uint8_t *text, int length, uint8_t separator, int columns, uint16_t *begins) {
    uint16_t *to = begins + 1;
    int at, i;
#if FB_SSE2
    __m128i lines = _mm_setzero_si128(), quotes = lines;
#else
    uint64_t lines = 0, quotes = 0;
#endif
    begins[0] = 0;
    for (at = 0; at < length; at += 64) {
        uint64_t found = fb_ends_of_64(text + at, separator, &lines, &quotes);
        if (FB_UNLIKELY(at + 64 > length))
            found &= ~(uint64_t)0 >> (64 - (length - at));
        int count = fb_bits_of(found);
        /* As many as there usually are at most, without asking how many; those too many are overwritten. */
        for (i = 0; i < 8; i++) {
            to[i] = (uint16_t)(at + 1 + fb_lowest_bit(found | (uint64_t)1 << 63));
            found &= found - 1;
        }
        for (; FB_UNLIKELY(i < count); i++) {
            to[i] = (uint16_t)(at + 1 + fb_lowest_bit(found));
            found &= found - 1;
        }
        to += count;
    }
#if FB_SSE2
    int64_t newlines = (int64_t)_mm_cvtsi128_si32(lines) + _mm_cvtsi128_si32(_mm_srli_si128(lines, 8));
    int quoted = _mm_movemask_epi8(quotes) != 0;
#else
    int64_t newlines = (int64_t)lines;
    int quoted = quotes != 0;
#endif
    /* (Behind the text there are no newlines.) If there are as many newlines as rows, and each row ends with one, then no
     * other field does. */
    int64_t rows = (to - begins - 1) / columns;
    if (quoted || newlines != rows || rows * columns != to - begins - 1)
        return -1;
    int wrong = 0;
    for (int64_t row = 1; row <= rows; row++)
        wrong |= text[begins[row * columns] - 1] ^ '\n';
    return wrong ? -1 : (int)rows;
}

/* The number that n digits (0 to 16) before `end` stand for; *bad is not 0 where they are not digits. */
FB_INLINE uint64_t fb_digits_before(const uint8_t *end, ptrdiff_t n, uint64_t *bad) {
    uint64_t low = (fb_word(end - 8) ^ (FB_ONES * '0')) & ~fb_first_bytes[16 - n];
    uint64_t high = (fb_word(end - 16) ^ (FB_ONES * '0')) & ~fb_first_bytes[24 - n];
    *bad |= fb_not_digits(low) | fb_not_digits(high);
    return fb_eight_digits(high) * 100000000ULL + fb_eight_digits(low);
}

/* The same of at most 8. */
FB_INLINE uint64_t fb_few_digits_before(const uint8_t *end, ptrdiff_t n, uint64_t *bad) {
    uint64_t x = (fb_word(end - 8) ^ (FB_ONES * '0')) & ~fb_first_bytes[16 - n];
    *bad |= fb_not_digits(x);
    return fb_eight_digits(x);
}

/* A whole number of at most 19 digits. */
FB_INLINE int fb_whole_field(const uint8_t *p, const uint8_t *end, int64_t *value) {
    ptrdiff_t n = end - p;
    uint64_t bad = 0;
    if (FB_UNLIKELY((size_t)(n - 1) > 15)) {
        /* Nanoseconds have 19. */
        if (n < 17 || n > 18 + (*p < '9'))
            return 0;
        uint64_t first = fb_digits_before(end - 16, n - 16, &bad), rest = fb_digits_before(end, 16, &bad);
        *value = (int64_t)(first * 10000000000000000ULL + rest);
        return bad == 0;
    }
    *value = (int64_t)(n <= 8 ? fb_few_digits_before(end, n, &bad) : fb_digits_before(end, n, &bad));
    return bad == 0;
}

/* A decimal such as "94351.17000000", at *scale or, where it needs more, at the scale that it needs, which *scale
 * becomes. At most 8 digits on each side. */
FB_INLINE int fb_decimal_field(const uint8_t *p, const uint8_t *end, int *scale, int64_t *value) {
    ptrdiff_t n = end - p;
    uint64_t bad = 0;
    unsigned point = fb_digit_stops(end - 16) & 0xFFFFu;
    int s = *scale;
    if (FB_UNLIKELY((size_t)(n - 1) > 16 || s > 8))
        return 0;
    point &= ~0u << (n < 16 ? 16 - n : 0);
    if (FB_UNLIKELY(point == 0)) {
        if (n > 8)
            return 0;
        *value = (int64_t)(fb_few_digits_before(end, n, &bad) * (uint64_t)fb_power_of_ten[s]);
        return bad == 0;
    }
    const uint8_t *at = end - 16 + fb_lowest_bit(point);
    ptrdiff_t decimals = end - at - 1, whole = at - p;
    if (FB_UNLIKELY((point & (point - 1)) || *at != '.' || (size_t)(decimals - 1) > 7 || (size_t)(whole - 1) > 7))
        return 0;
    uint64_t x = (fb_word(at + 1) ^ (FB_ONES * '0')) & fb_first_bytes[decimals + 8];
    if (FB_UNLIKELY(x & ~fb_first_bytes[s + 8])) {
        do
            s++;
        while (x & ~fb_first_bytes[s + 8]);
        *scale = s;
    }
    uint64_t fraction = s ? fb_eight_digits(x << (64 - 8 * s)) : 0;
    *value = (int64_t)(fb_few_digits_before(at, whole, &bad) * (uint64_t)fb_power_of_ten[s] + fraction);
    return bad == 0;
}

/* A word that a column may hold, and what it stands for. */
typedef struct {
    uint64_t text;
    int length, sign;
} fb_word_field;

enum { FB_MOST_WORDS = 48 };

/* One of the words, of which the file's two usual ones come to the front. */
FB_INLINE int fb_side_field(const uint8_t *p, const uint8_t *end, fb_word_field *words, int count, int8_t *sign) {
    uint64_t x = fb_word(p) & fb_first_bytes[(end - p > 8 ? 8 : end - p) + 8];
    unsigned first = x == words[0].text, place = first ^ 1;
    FB_OPAQUE(place); /* which of two it is cannot be predicted */
    if (FB_UNLIKELY(!(first | (x == words[1].text)))) {
        int i = 2;
        while (i < count && x != words[i].text)
            i++;
        if (i >= count)
            return 0;
        fb_word_field found = words[i];
        words[i] = words[1];
        words[1] = words[0];
        words[0] = found;
        place = 0;
    }
    *sign = (int8_t)words[place].sign;
    return end - p == words[place].length;
}

/* One column of some rows. Each returns how many of them, from the first on, are in their usual form. */

typedef struct {
    const uint8_t *text;
    const uint16_t *begins; /* of the first row's fields */
    int columns, column;
} fb_rows;

/* (The last field of a line may have a carriage return behind it.) */
#define FB_EACH_FIELD(ROWS, COUNT)                                                                                            \
    const uint8_t *text = (ROWS).text;                                                                                        \
    const uint16_t *place = (ROWS).begins + (ROWS).column;                                                                    \
    const int columns = (ROWS).columns, is_last = (ROWS).column + 1 == columns;                                               \
    const uint8_t *p, *end;                                                                                                   \
    int row;                                                                                                                  \
    for (row = 0; row < (COUNT) && (p = text + place[0], end = text + place[1] - 1,                                           \
                                    end -= is_last && end > p && end[-1] == '\r', 1); row++, place += columns)

static int fb_whole_column(fb_rows rows, int count, int64_t *values) {
    FB_EACH_FIELD(rows, count) {
        if (FB_UNLIKELY(!fb_whole_field(p, end, values + row)))
            break;
    }
    return row;
}

static int fb_time_column(fb_rows rows, int count, int64_t least, int64_t beyond, int64_t unit_ns, int64_t *values) {
    FB_EACH_FIELD(rows, count) {
        int64_t value;
        if (FB_UNLIKELY(!fb_whole_field(p, end, &value) || value < least || value >= beyond))
            break;
        values[row] = value * unit_ns;
    }
    return row;
}

static int fb_decimal_column(fb_rows rows, int count, int scale, int64_t *values) {
    int own = scale;
    FB_EACH_FIELD(rows, count) {
        if (FB_UNLIKELY(!fb_decimal_field(p, end, &own, values + row) || own != scale))
            break;
    }
    return row;
}

static int fb_side_column(fb_rows rows, int count, fb_word_field *words, int most, int8_t *values) {
    FB_EACH_FIELD(rows, count) {
        if (FB_UNLIKELY(!fb_side_field(p, end, words, most, values + row)))
            break;
    }
    return row;
}

#endif
