/* The layout memory: the last message's shape as a list of bytes to expect and values to read.
 *
 * A message of the same shape needs no search for names. It is taken only where all but the values is the same,
 * byte for byte, as in a message that the general scanner took, and where each value is read by the same code; so both
 * give the same trades. At the first difference the general scanner starts over, and its message is remembered.
 *
 *     prefix: {"topic":" ? ","data":[      trade: {"T": ? ,"p":" ? "} , {"T": ...      suffix: ]}
 */
#ifndef FASTBARS_LAYOUT_H
#define FASTBARS_LAYOUT_H

#include "scan.h"

/* After this many misses in a row only one in 64 messages is worth remembering. */
enum { FB_PATIENCE = 8 };

#define FB_TRUE_WORD 0x65757274 /* "true" */

/* Two texts that a value can be, compared with one word each; 0 where they are no such two. */
static int fb_choice(const fb_plan *plan, fb_op *op) {
    const fb_literal *literal = plan->literals + op->key->literals;
    if (op->key->literal_count != 2)
        return 0;
    for (int i = 0; i < 2; i++, literal++) {
        if (op->in_text ? literal->kind != FB_TEXT || literal->length > 7 : literal->kind < FB_TRUE)
            return 0;
        unsigned bytes = literal->length + op->in_text;
        op->words[i] = literal->word | (op->in_text ? (uint64_t)'"' << 8 * literal->length : 0);
        op->masks[i] = bytes == 8 ? UINT64_MAX : ((uint64_t)1 << 8 * bytes) - 1;
        op->lengths[i] = literal->length;
        op->sides[i] = literal->side;
    }
    return 1;
}

/* Whether a key requires a text that begins as its one literal does. */
FB_INLINE int fb_has_prefix(const fb_plan *plan, const fb_key *key) {
    return key->role == FB_MATCH && key->literal_count == 1 && plan->literals[key->literals].kind == FB_PREFIX;
}

/* Values that are read up to where digits end, and up to a quote. */
FB_INLINE int fb_is_whole(const fb_op *op) {
    return op->kind == FB_NUMBER || op->kind == FB_TIME || op->kind == FB_WORD || (op->kind == FB_ID && !op->in_text);
}

FB_INLINE int fb_is_text(const fb_op *op) { return op->kind == FB_QUOTED || (op->kind == FB_ID && op->in_text); }

static void fb_set_kind(const fb_plan *plan, fb_op *op) {
    switch (op->role) {
    case FB_SYMBOL:
        op->kind = FB_NAME;
        break;
    case FB_PRICE:
    case FB_SIZE:
        op->kind = FB_DECIMAL;
        op->offset = op->role == FB_PRICE ? offsetof(fb_row, price) : offsetof(fb_row, size);
        break;
    case FB_TRADE_TIME:
    case FB_EVENT_TIME:
        op->unit = op->key->unit;
        op->kind = op->unit <= FB_MS_OR_US ? FB_TIME : FB_BY_ROLE;
        break;
    case FB_FIRST_ID:
    case FB_LAST_ID:
    case FB_COUNT:
    case FB_SEQUENCE:
        op->kind = FB_NUMBER;
        op->offset = op->role == FB_FIRST_ID ? offsetof(fb_row, first_id)
                     : op->role == FB_LAST_ID ? offsetof(fb_row, last_id)
                     : op->role == FB_COUNT   ? offsetof(fb_row, count)
                                              : offsetof(fb_row, sequence);
        break;
    case FB_SIDE:
        op->kind = fb_choice(plan, op) ? FB_CHOICE : FB_BY_ROLE;
        break;
    case FB_UNIQUE:
        op->kind = FB_ID;
        break;
    case FB_PASS_OVER:
        op->kind = op->in_text ? FB_QUOTED : FB_WORD;
        break;
    case FB_MATCH:
        op->kind = fb_has_prefix(plan, op->key) ? FB_QUOTED : FB_BY_ROLE; /* the prefix is among the bytes before it */
        break;
    default:
        op->kind = FB_BY_ROLE;
    }
}

static int fb_add_op(fb_plan *plan, int *count, int *used, const uint8_t *from, const uint8_t *to, const fb_seen *value) {
    fb_layout *layout = &plan->layout;
    ptrdiff_t length = to - from;
    if (*count >= FB_MOST_OPS || *used + length > FB_LAYOUT_SIZE)
        return 0;
    fb_op *op = layout->ops + (*count)++;
    memcpy(layout->text + *used, from, (size_t)length);
    memset(op, 0, sizeof *op);
    op->from = (uint16_t)*used;
    op->length = (uint16_t)length;
    op->kind = FB_ENDS;
    op->mask = length >= 8 ? UINT64_MAX : ((uint64_t)1 << 8 * length) - 1;
    op->word = fb_word(layout->text + *used) & op->mask;
    if (value) {
        op->role = value->role;
        op->in_text = value->in_text;
        op->key = value->key;
        fb_set_kind(plan, op);
        ptrdiff_t size = value->to - to, digits = 0;
        if (op->kind == FB_WORD && fb_opens(*to))
            op->kind = FB_BY_ROLE;
        while (digits < size && to[digits] >= '0' && to[digits] <= '9')
            digits++;
        if (fb_is_text(op) ? size <= FB_MOST_TEXT : fb_is_whole(op) && digits == size && size <= 15)
            op->digits = (uint8_t)size;
        if (op->kind == FB_WORD && !digits && size <= 5 && *value->from >= 'a') {
            op->spelled = (uint8_t)size;
            memcpy(op->words, value->from, (size_t)size);
        }
    }
    *used += (int)length;
    return 1;
}

/* A value that can be but one text is as good as the bytes around it. */
static int fb_is_fixed(const fb_plan *plan, const fb_seen *value) {
    return value->role == FB_MATCH && value->key->literal_count == 1 &&
           plan->literals[value->key->literals].kind != FB_PREFIX;
}

/* Whether a value has a known length: a text or a whole number as long as the last time, or true, false or null. */
FB_INLINE int fb_is_steady(const fb_op *op) {
    return (op->spelled || op->digits) && !op->varies && (fb_is_whole(op) || fb_is_text(op));
}

/* Joins the bytes around values of known length to strides, in blocks of 16 bytes. A byte x is right where
 * x - least <= above: 0 above for what never changes, 9 above '0' for a digit, 8 above '1' for the first of several, '\\'
 * above '#' in a text, any for what lies behind the stride. Nor may it be what `above` says: a text has no backslash. */
FB_APART void fb_build_strides(fb_layout *layout) {
    layout->stale = 0;
#if FB_SSE2
    int used = 0;
    for (int i = 0; i < layout->count; i++)
        layout->ops[i].blocks = 0;
    for (int i = 0; i < layout->count; i++) {
        fb_op *head = layout->ops + i;
        int length = 0, j = i, size;
        for (;; j++) {
            fb_op *op = layout->ops + j;
            int value = fb_is_steady(op) ? op->spelled + op->digits : 0;
            size = (length + op->length + value + 31) & ~15;
            if (used + size > FB_STRIDE_SIZE)
                return;
            memcpy(layout->least + used + length, layout->text + op->from, op->length);
            memset(layout->above + used + length, 0, op->length);
            length += op->length;
            if (!value)
                break;
            op->at = (uint16_t)length;
            op->built = op->digits;
            if (op->spelled) {
                memcpy(layout->least + used + length, &op->words[0], op->spelled);
                memset(layout->above + used + length, 0, op->spelled);
            } else if (fb_is_text(op)) {
                memset(layout->least + used + length, '#', op->digits);
                memset(layout->above + used + length, '\\', op->digits);
            } else {
                memset(layout->least + used + length, '0', op->digits);
                memset(layout->above + used + length, 9, op->digits);
                if (op->digits > 1) {
                    layout->least[used + length] = '1';
                    layout->above[used + length] = 8;
                }
            }
            length += value;
        }
        if (i == j && length <= 16) /* without a value in it, and as soon compared word by word */
            continue;
        size = (length + 15) & ~15;
        memset(layout->least + used + length, 0, (size_t)(size - length));
        memset(layout->above + used + length, 255, (size_t)(size - length));
        head->blocks = (uint8_t)(size / 16);
        head->first = (uint16_t)used;
        head->stride = (uint16_t)length;
        head->last = j;
        used += size;
        i = j;
    }
#endif
}

#if FB_SSE2
FB_INLINE int fb_is_stride(const fb_layout *layout, const fb_op *op, const uint8_t *p) {
    const uint8_t *least = layout->least + op->first, *above = layout->above + op->first;
    __m128i right = _mm_set1_epi8(-1);
    for (int block = 0; block < op->blocks; block++, p += 16, least += 16, above += 16) {
        __m128i x = _mm_loadu_si128((const __m128i *)p), most = _mm_loadu_si128((const __m128i *)above);
        __m128i over = _mm_sub_epi8(x, _mm_loadu_si128((const __m128i *)least));
        right = _mm_and_si128(right, _mm_cmpeq_epi8(_mm_max_epu8(over, most), most));
        right = _mm_andnot_si128(_mm_cmpeq_epi8(x, most), right);
    }
    return _mm_movemask_epi8(right) == 0xFFFF;
}
#endif

/* Remembers the message that was just scanned. */
static void fb_learn(fb_plan *plan) {
    const uint8_t *at = plan->text;
    const uint8_t *part_ends[3] = {plan->trade_from, plan->trade_to, plan->end};
    int last[3] = {plan->seen_trade, plan->seen_suffix, plan->seen_count}, count = 0, used = 0, value = 0;
    fb_layout *layout = &plan->layout;
    layout->known = 0;
    if (plan->trade_arrays > 1 || !plan->trade_to)
        return;
    for (int part = 0; part < 3; part++) {
        if (part == 1)
            layout->trade = count;
        if (part == 2) {
            layout->suffix = count;
            at = plan->last_trade_to;
        }
        for (; value < last[part]; value++) {
            if (fb_is_fixed(plan, plan->seen + value))
                continue;
            const fb_seen *seen = plan->seen + value;
            const uint8_t *from = seen->from;
            if (seen->key && fb_has_prefix(plan, seen->key))
                from += plan->literals[seen->key->literals].length;
            if (!fb_add_op(plan, &count, &used, at, from, seen))
                return;
            at = seen->to;
        }
        if (!fb_add_op(plan, &count, &used, at, part_ends[part], NULL))
            return;
        at = part_ends[part];
    }
    layout->in_array = plan->in_array;
    layout->count = count;
    layout->known = 1;
    fb_build_strides(layout);
}

/* Whether these bytes are the text; eight more can be read of both. */
FB_INLINE int fb_same(const uint8_t *p, const uint8_t *text, int length) {
    for (; length > 8; length -= 8, p += 8, text += 8)
        if (fb_word(p) != fb_word(text))
            return 0;
    return (fb_word(p) ^ fb_word(text)) << (64 - 8 * length) == 0;
}

FB_INLINE int fb_is_digit(uint8_t c) { return (unsigned)c - '0' <= 9; }

/* The quote that ends a plain text; NULL: the text is not plain. Sixteen bytes more than up to `end` can be read. */
FB_INLINE const uint8_t *fb_quote(const uint8_t *p, const uint8_t *end) {
    for (; FB_LIKELY(p < end); p += 16) {
        unsigned n = (unsigned)fb_lowest_bit(fb_text_stops(p));
        if (n < 16)
            return FB_LIKELY(p[n] == '"') ? p + n : NULL;
    }
    return NULL;
}

/* The byte after a run of digits, or after a text. Where its length is that of the last message, the processor need not wait for it. */
FB_INLINE const uint8_t *fb_after(fb_layout *layout, fb_op *op, const uint8_t *p, unsigned digits) {
    if (op->varies)
        return p + digits;
    const uint8_t *after = p + op->digits;
    if (FB_UNLIKELY(digits != op->digits)) {
        op->varies = op->digits && layout->taken - op->changed < 8;
        layout->stale |= fb_is_whole(op) || fb_is_text(op);
        op->changed = layout->taken;
        op->digits = (uint8_t)digits;
        after = p + digits;
        FB_OPAQUE(after); /* else it is computed in both cases */
    }
    return after;
}

/* 0: the general scanner must judge. */
FB_INLINE int fb_put_time(fb_plan *plan, fb_row *row, const fb_op *op, int64_t value) {
    int64_t factor = op->unit == FB_MS ? 1000000 : op->unit == FB_US ? 1000 : op->unit == FB_NS ? 1 : value >= 100000000000000LL ? 1000 : 1000000;
    if (FB_UNLIKELY(value > FB_LATEST_NS / 1000000 && value > FB_LATEST_NS / factor))
        return 0;
    value *= factor;
    if (op->role == FB_TRADE_TIME) {
        row->time_ns = value;
    } else {
        if (!plan->has_event || value > plan->event_ns)
            plan->event_ns = value;
        plan->has_event = 1;
    }
    return 1;
}

/* A value, as the general scanner reads it. */
FB_APART const uint8_t *fb_take_any(fb_plan *plan, fb_row *row, const fb_op *op, const uint8_t *p) {
    int escaped;
    if (op->role == FB_MATCH && op->kind == FB_QUOTED) /* with escapes, which may spell what is required, or not */
        return NULL;
    if (op->role == FB_PASS_OVER)
        return op->in_text ? fb_string(p, plan->end, plan->limit, &escaped) : fb_any_value(plan, p, 1);
    return fb_take(plan, row, op->key, op->role, p, op->in_text);
}

static int fb_scan_layout(fb_plan *plan, const uint8_t *payload) {
    fb_layout *layout = &plan->layout;
    const uint8_t *p = payload, *end = plan->end, *at;
    fb_op *op = layout->ops, *trade = op + layout->trade, *suffix = op + layout->suffix;
    fb_row *row = &plan->message;
    unsigned stops, n;
    fb_restart(plan);
    layout->taken++;
    if (FB_UNLIKELY(layout->stale)) /* it stands for the lengths that it was built for */
        fb_build_strides(layout);
    for (;; op++) {
#if FB_SSE2
        if (FB_LIKELY(op->blocks) && FB_LIKELY(end - p >= op->stride) && FB_LIKELY(fb_is_stride(layout, op, p))) {
            const fb_op *last = layout->ops + op->last;
            const uint8_t *start = p;
            p += op->stride;
            for (; op < last; op++) {
                if (op->kind == FB_WORD || op->kind == FB_QUOTED)
                    continue;
                if (op->kind == FB_ID) {
                    row->key = start + op->at;
                    row->key_length = op->built;
                    continue;
                }
                int64_t value = (int64_t)fb_sixteen_digits(start + op->at, op->built);
                if (op->kind == FB_NUMBER)
                    *(int64_t *)((char *)row + op->offset) = value;
                else if (FB_UNLIKELY(!fb_put_time(plan, row, op, value)))
                    return 0;
            }
            goto value;
        }
#endif
        if (FB_UNLIKELY(end - p < op->length) || FB_UNLIKELY(((fb_word(p) ^ op->word) & op->mask) != 0))
            return 0;
        if (op->length > 8 && !fb_same(p + 8, layout->text + op->from + 8, op->length - 8))
            return 0;
        p += op->length;
    value:
        at = p;
        switch (op->kind) {
        case FB_ENDS:
            if (op >= suffix)
                return p == end;
            if (op < trade) {
                if (!fb_room(plan))
                    return 0;
                fb_begin(plan);
                row = plan->rows + plan->row_count;
                continue;
            }
            plan->row_count++;
            if (layout->in_array && p < end && *p == ',') {
                if (!fb_room(plan))
                    return 0;
                p++;
                fb_begin(plan);
                row = plan->rows + plan->row_count;
                op = trade - 1;
            } else {
                row = &plan->message;
            }
            continue;
        case FB_NUMBER:
            n = (unsigned)fb_lowest_bit(fb_digit_stops(p));
            if (FB_UNLIKELY(n - 1 > 14 || (*p == '0' && n > 1)))
                break;
            *(int64_t *)((char *)row + op->offset) = (int64_t)fb_sixteen_digits(p, n);
            p = fb_after(layout, op, p, n);
            continue;
        case FB_TIME:
            n = (unsigned)fb_lowest_bit(fb_digit_stops(p));
            if (FB_UNLIKELY(n - 1 > 14 || *p == '0' || !fb_put_time(plan, row, op, (int64_t)fb_sixteen_digits(p, n))))
                break;
            p = fb_after(layout, op, p, n);
            continue;
        case FB_DECIMAL: {
            stops = fb_digit_stops(p);
            unsigned whole = (unsigned)fb_lowest_bit(stops), all;
            stops &= stops - 1;
            if (FB_UNLIKELY(whole - 1 > 7 || p[whole] != '.'))
                break;
            all = (unsigned)fb_lowest_bit(stops); /* bit 16 is set: whole is at most 8 */
            n = all - whole - 1;
            if (FB_UNLIKELY(all > 15 || n - 1 > 7 || (p[all] | 0x20) == 'e' || (!op->in_text && *p == '0' && whole > 1)))
                break;
            uint64_t value = fb_few_digits(p, whole) * (uint64_t)fb_power_of_ten[n] + fb_few_digits(p + whole + 1, n);
            *(int64_t *)((char *)row + op->offset) = (int64_t)value;
            *(op->role == FB_PRICE ? &row->price_decimals : &row->size_decimals) = (int8_t)n;
            p = fb_after(layout, op, p, all);
            continue;
        }
        case FB_NAME:
            n = (unsigned)fb_lowest_bit(fb_text_stops(p));
            if (FB_UNLIKELY(n - 1 > 14 || p[n] != '"'))
                break;
            row->symbol_words[0] = fb_word(p) & fb_first_bytes[n + 8];
            row->symbol_words[1] = fb_word(p + 8) & fb_first_bytes[n];
            row->symbol = p;
            row->symbol_length = n;
            row->symbol_hash = fb_hash_symbol(row, NULL, NULL);
            fb_fetch(plan, row->symbol_hash);
            p = fb_after(layout, op, p, n);
            continue;
        case FB_CHOICE: {
            uint64_t word = fb_word(p);
            int first = ((word ^ op->words[0]) & op->masks[0]) == 0, second = ((word ^ op->words[1]) & op->masks[1]) == 0;
            FB_OPAQUE(first);
            FB_OPAQUE(second);
            if (FB_UNLIKELY(!(first | second)))
                break;
            row->side = op->sides[!first];
            p += op->lengths[!first];
            continue;
        }
        case FB_WORD:
            n = (unsigned)fb_lowest_bit(fb_digit_stops(p));
            if (op->spelled) {
                if ((fb_word(p) ^ op->words[0]) << (64 - 8 * op->spelled) == 0) {
                    p += op->spelled;
                    continue;
                }
                layout->stale |= !op->varies; /* no stride may stand for it any more */
                op->varies = 1;
            }
            if (n - 1 <= 14 && *p != '0' && p[n] != '.' && (p[n] | 0x20) != 'e') {
                p = fb_after(layout, op, p, n);
                continue;
            }
            if ((fb_word(p) & 0xFFFFFFFF) == FB_TRUE_WORD) {
                p += 4;
                continue;
            }
            if (fb_opens(*p))
                return 0;
            p = fb_any_value(plan, p, 1);
            if (FB_UNLIKELY(!p))
                return 0;
            continue;
        case FB_ID:
            if (!op->in_text) {
                n = (unsigned)fb_lowest_bit(fb_digit_stops(p));
                if (FB_UNLIKELY(n - 1 > 15 || (*p == '0' && n > 1) || (n == 16 && fb_is_digit(p[16]))))
                    break;
                row->key = p;
                row->key_length = n;
                p = fb_after(layout, op, p, n);
                continue;
            }
            /* fall through */
        case FB_QUOTED: {
            const uint8_t *quote = fb_quote(p, end);
            if (FB_UNLIKELY(!quote))
                break;
            n = (unsigned)(quote - p);
            if (op->kind == FB_ID) {
                if (FB_UNLIKELY(n - 1 > FB_MOST_TEXT - 1))
                    break;
                row->key = p;
                row->key_length = n;
            }
            p = FB_LIKELY(n <= FB_MOST_TEXT) ? fb_after(layout, op, p, n) : quote;
            continue;
        }
        default:
            break;
        }
        p = fb_take_any(plan, row, op, at);
        if (FB_UNLIKELY(!p))
            return 0;
    }
}

/* Room for a message of this size, and for what is read behind it. */
FB_APART int fb_copy_room(fb_plan *plan, size_t size) {
    size_t room = plan->copy_size ? plan->copy_size : 1024;
    while (room <= size)
        room *= 2;
    uint8_t *grown = size > FB_MOST_COPY ? NULL : (uint8_t *)realloc(plan->copy, room + FB_PADDING);
    if (!grown)
        return 0;
    plan->copy = grown;
    plan->copy_size = room;
    return 1;
}

/* As fb_scan_layout, with enough to read behind the message. */
static int fb_scan_known(fb_plan *plan, const uint8_t *payload) {
    const uint8_t *end = plan->end, *limit = plan->limit;
    size_t size = (size_t)(end - payload);
    if (FB_LIKELY(limit - end >= FB_PADDING))
        return fb_scan_layout(plan, payload);
    if (FB_UNLIKELY(size >= plan->copy_size) && !fb_copy_room(plan, size)) /* 0 bytes too: there is none at first */
        return 0;
    memcpy(plan->copy, payload, size);
    memset(plan->copy + size, 0, FB_PADDING);
    plan->end = plan->copy + size;
    plan->limit = plan->end + FB_PADDING;
    if (fb_scan_layout(plan, plan->copy))
        return 1;
    plan->end = end;
    plan->limit = limit;
    return 0;
}

/* Trades into plan->rows, in the order of the message; 0: Python reads this message. Bytes up to `limit` may be read. */
static int fb_scan(fb_plan *plan, const uint8_t *payload, const uint8_t *end, const uint8_t *limit) {
    plan->end = end;
    plan->limit = limit;
    plan->no_memory = 0;
    if (FB_LIKELY(plan->layout.known) && FB_LIKELY(fb_scan_known(plan, payload))) {
        plan->misses = 0;
        return 1;
    }
    if (plan->misses >= FB_PATIENCE) { /* shapes change all the time: to compare with the last one is in vain */
        if (plan->has_parts) { /* perhaps but those of what is passed over: that need not be of any shape */
            plan->has_parts = plan->misses = 0;
            plan->keeps_whole = 1;
        }
        plan->layout.known = 0;
    }
    plan->learning = plan->remembers && (plan->misses < FB_PATIENCE || plan->misses % 64 == 0);
    if (!fb_scan_any(plan, payload))
        return 0;
    plan->misses++;
    plan->learnt++;
    if (plan->learning)
        fb_learn(plan);
    return 1;
}

#endif
