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

/* After this many misses in a row only one in 16 messages is worth remembering. */
enum { FB_PATIENCE = 8 };

static int fb_add_op(fb_plan *plan, int *count, int *used, const uint8_t *from, const uint8_t *to, const fb_seen *value) {
    fb_layout *layout = &plan->layout;
    ptrdiff_t length = to - from;
    if (*count >= FB_MOST_OPS || *used + length > FB_LAYOUT_SIZE)
        return 0;
    fb_op *op = layout->ops + (*count)++;
    memcpy(layout->text + *used, from, (size_t)length);
    *op = (fb_op){(uint16_t)*used, (uint16_t)length, 0, 0, 1, NULL};
    if (value) {
        op->role = value->role;
        op->in_text = value->in_text;
        op->key = value->key;
        op->ends = 0;
    }
    *used += (int)length;
    return 1;
}

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
            if (!fb_add_op(plan, &count, &used, at, plan->seen[value].from, plan->seen + value))
                return;
            at = plan->seen[value].to;
        }
        if (!fb_add_op(plan, &count, &used, at, part_ends[part], NULL))
            return;
        at = part_ends[part];
    }
    layout->in_array = plan->in_array;
    layout->known = 1;
}

FB_INLINE int fb_same(const uint8_t *p, const uint8_t *limit, const uint8_t *text, int length) {
    for (; length >= 8; length -= 8, p += 8, text += 8) {
        uint64_t word;
        memcpy(&word, text, 8);
        uint64_t here = 0;
        if (FB_UNLIKELY(limit - p < 8))
            return 0;
        memcpy(&here, p, 8);
        if (here != word)
            return 0;
    }
    if (!length)
        return 1;
    if (FB_LIKELY(limit - p >= 8)) {
        uint64_t word, here;
        memcpy(&word, text, 8);
        memcpy(&here, p, 8);
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        word = __builtin_bswap64(word);
        here = __builtin_bswap64(here);
#endif
        return (word ^ here) << (64 - 8 * length) == 0;
    }
    return limit - p >= length && memcmp(p, text, (size_t)length) == 0;
}

static int fb_scan_layout(fb_plan *plan, const uint8_t *payload) {
    const fb_layout *layout = &plan->layout;
    const uint8_t *p = payload, *end = plan->end, *limit = plan->limit;
    const fb_op *op = layout->ops, *trade = op + layout->trade, *suffix = op + layout->suffix;
    fb_row *row = &plan->message;
    fb_restart(plan);
    for (;; op++) {
        if (!fb_same(p, limit, layout->text + op->from, op->length))
            return 0;
        p += op->length;
        if (FB_UNLIKELY(p > end))
            return 0;
        const uint8_t *at = p;
        if (op->ends) {
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
        }
        if (op->role == FB_PASS_OVER) {
            int escaped;
            if (op->in_text)
                p = fb_string(p, end, limit, &escaped);
            else if (FB_UNLIKELY(!(p = fb_short_integer(p, end, limit))))
                p = fb_any_value(plan, at, 1);
        } else {
            p = fb_take(plan, row, op->key, op->role, p, op->in_text);
        }
        if (FB_UNLIKELY(!p || p >= end || (op->in_text && *p != '"')))
            return 0;
    }
}

/* Trades into plan->rows, in the order of the message; 0: Python reads this message. Bytes up to `limit` may be read. */
static int fb_scan(fb_plan *plan, const uint8_t *payload, const uint8_t *end, const uint8_t *limit) {
    plan->end = end;
    plan->limit = limit;
    plan->no_memory = 0;
    if (FB_LIKELY(plan->layout.known) && FB_LIKELY(fb_scan_layout(plan, payload))) {
        plan->misses = 0;
        return 1;
    }
    plan->learning = plan->remembers && (plan->misses < FB_PATIENCE || plan->misses % 16 == 0);
    if (!fb_scan_any(plan, payload))
        return 0;
    plan->misses++;
    if (plan->learning)
        fb_learn(plan);
    return 1;
}

#endif
