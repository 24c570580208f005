/* The general scanner: one JSON message in, the trades in it out, whatever the order of its keys.
 *
 * A plan is a small tree of nodes, one for each object on the way to the values that matter; what no node names is
 * validated and passed over. Every byte is checked: a message is taken only if it is JSON that orjson accepts too.
 * Anything else, and anything not exactly as the plan says, is left to Python (FB_LEAVE), which decides.
 *
 * Source: RFC 8259. Units: times int64 nanoseconds since the Unix epoch; prices and sizes value x 10**-decimals.
 */
#ifndef FASTBARS_SCAN_H
#define FASTBARS_SCAN_H

#include <stdlib.h>

#include "text.h"

enum {
    FB_PASS_OVER, /* a value that means nothing here */
    FB_CHILD,     /* an object, or an array of them, with a node of its own */
    FB_ENVELOPE,  /* the same, and the message proper begins inside */
    FB_SYMBOL,
    FB_PRICE,
    FB_SIZE,
    FB_TRADE_TIME,
    FB_FIRST_ID,
    FB_LAST_ID,
    FB_COUNT,
    FB_SEQUENCE,
    FB_SIDE,
    FB_EVENT_TIME,
    FB_MATCH,
    FB_SKIP,
    FB_UNIQUE,
};

enum { FB_MOST_KEYS = 24, FB_MOST_NODES = 8, FB_MOST_LITERALS = 48, FB_KEY_SIZE = 32, FB_LITERAL_SIZE = 48,
       FB_MOST_DEPTH = 64, FB_MOST_OPS = 64, FB_LAYOUT_SIZE = 1024, FB_MOST_COPY = 65536, FB_PADDING = 32,
       FB_STRIDE_SIZE = 2048, FB_MOST_ROWS = 65536, FB_MOST_TEXT = 255, FB_MOST_PARTS = 8 };

enum { FB_TEXT, FB_PREFIX, FB_TRUE, FB_FALSE };
enum { FB_LEAVE, FB_TAKEN, FB_NO_MEMORY };

typedef struct { /* what may stand as a value */
    uint8_t kind;
    uint8_t length;
    int8_t side; /* of a FB_SIDE literal */
    uint64_t word; /* its first eight bytes */
    uint8_t text[FB_LITERAL_SIZE];
} fb_literal;

typedef struct {
    uint64_t word; /* the first eight bytes of the name */
    uint8_t length;
    uint8_t role;
    uint8_t unit;        /* of a time */
    uint8_t child;       /* node of a FB_CHILD or FB_ENVELOPE */
    uint8_t literals, literal_count;
    uint8_t name[FB_KEY_SIZE];
} fb_key;

typedef struct {
    fb_key keys[FB_MOST_KEYS];
    uint32_t required; /* keys, a bit each, without which this is no trade message */
    uint8_t key_count;
    uint8_t is_trade, on_path; /* the trades are here, or further down */
    uint8_t buckets[64]; /* index of a key + 1, by a hash of its name */
} fb_node;

typedef struct { /* a trade, before its symbol's scales are known */
    const uint8_t *symbol;
    uint64_t symbol_hash;
    uint64_t symbol_words[2]; /* its first 16 bytes, the rest zeros */
    const uint8_t *key; /* where ids are unique only: its text as it stands */
    int64_t time_ns, price, size, first_id, last_id, count, sequence;
    uint32_t symbol_length, key_length;
    int8_t price_decimals, size_decimals, side, skipped;
} fb_row;

/* How a step reads its value: the ordinary text of one kind by a short way, anything else as the general scanner does. */
enum { FB_BY_ROLE, FB_ENDS, FB_NUMBER, FB_TIME, FB_DECIMAL, FB_NAME, FB_CHOICE, FB_WORD, FB_QUOTED, FB_ID };

typedef struct { /* a step of a layout: these bytes, then a value */
    uint64_t word, mask;   /* the first eight of the bytes */
    uint16_t from, length; /* of the bytes, in the layout's text */
    uint8_t kind;
    uint8_t role;
    uint8_t in_text;
    uint8_t offset; /* of the value in a fb_row */
    uint8_t unit;
    uint8_t digits;   /* of the last value: bytes, of a whole number digits */
    uint8_t varies;   /* that number, or the word, changes from message to message */
    uint32_t changed; /* when it changed last */
    /* The bytes up to the first value of unknown length are compared at once: see fb_build_strides. */
    uint8_t built;       /* digits, or bytes of a text, that it has room for in a stride */
    uint8_t spelled;     /* true, false or null: so many bytes */
    uint8_t blocks;      /* 0: no stride begins here */
    uint16_t stride;     /* bytes */
    uint16_t first;      /* of its blocks in the layout's `least` and `above` */
    uint16_t at;         /* of the value within the stride */
    int last;            /* the step whose value is behind it */
    const fb_key *key;
    uint64_t words[2], masks[2]; /* of a choice of two, what stands behind a text included */
    uint8_t lengths[2];
    int8_t sides[2];
} fb_op;

typedef struct { /* the shape of the last message */
    fb_op ops[FB_MOST_OPS];
    int trade, suffix; /* where the parts begin; the first is the prefix */
    int in_array;      /* trades may be repeated */
    int known;
    int stale;      /* the strides are of other lengths than the last message had */
    int count;      /* of steps */
    uint32_t taken; /* messages */
    uint8_t least[FB_STRIDE_SIZE], above[FB_STRIDE_SIZE]; /* bytes of the strides: x - least <= above */
    uint8_t text[FB_LAYOUT_SIZE + 8];
} fb_layout;

typedef struct { /* a value seen while learning: where it stands */
    const uint8_t *from, *to;
    const fb_key *key;
    uint8_t role, in_text;
} fb_seen;

typedef struct {
    fb_node nodes[FB_MOST_NODES];
    fb_literal literals[FB_MOST_LITERALS];
    uint8_t node_count, literal_count;
    uint8_t json_numbers, integers_in_text, newest_first;
    uint8_t symbol_of_message, sequence_of_message; /* stand outside the trades */
    uint8_t has_ids, has_last_id, has_count, has_sequence, event_time_of_trade; /* what the plan declares */
    /* The message at hand. */
    const uint8_t *end, *limit;
    fb_row message; /* values that stand outside the trades */
    int64_t event_ns;
    int has_event, enveloped, trade_arrays;
    fb_row *rows;
    int row_count, row_capacity, no_memory;
    /* The layout memory. */
    fb_layout layout;
    int remembers, learning, paused, misses, seen_count, seen_trade, seen_suffix, in_array;
    int64_t learnt; /* messages that had to be scanned in general */
    int has_parts, keeps_whole; /* arrays and objects that are passed over are remembered by their parts; they are not */
    const uint8_t *text, *trade_from, *trade_to, *last_trade_to;
    fb_seen seen[FB_MOST_OPS];
    /* The caller's table of symbols, which is fetched as soon as a symbol is read: place number hash & mask. */
    const void *places;
    uint64_t place_mask;
    size_t place_size;
    uint8_t *copy; /* of a message behind which too little can be read; owned */
    size_t copy_size;
} fb_plan;

FB_INLINE unsigned fb_bucket(uint64_t word, unsigned length) {
    return (unsigned)(((word ^ length) * 0x9E3779B97F4A7C15ULL) >> 58);
}

/* The key of a node with this name; NULL: none. */
FB_INLINE const fb_key *fb_find_key(const fb_node *node, uint64_t word, const uint8_t *name, ptrdiff_t length) {
    for (unsigned at = fb_bucket(word, (unsigned)length); node->buckets[at]; at = (at + 1) & 63) {
        const fb_key *key = node->keys + node->buckets[at] - 1;
        if (key->word == word && key->length == length &&
            (length <= 8 || memcmp(key->name + 8, name + 8, (size_t)(length - 8)) == 0))
            return key;
    }
    return NULL;
}

FB_INLINE const uint8_t *fb_space(const uint8_t *p, const uint8_t *end) {
    while (p < end && FB_UNLIKELY(*p <= ' ') && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t'))
        p++;
    return p;
}

/* The byte after a positive integer of at most 18 digits, as nearly all numbers passed over are; NULL: it is no such number. */
FB_INLINE const uint8_t *fb_short_integer(const uint8_t *p, const uint8_t *end, const uint8_t *limit) {
    if (p >= end || *p < '1' || *p > '9')
        return NULL;
    const uint8_t *after = fb_skip_digits(p, limit);
    return after < end && after - p <= FB_MOST_DIGITS && *after != '.' && (*after | 0x20) != 'e' ? after : NULL;
}

/* The byte after a value of any kind; NULL where it is not JSON, or Python must judge. */
static const uint8_t *fb_any_value(const fb_plan *plan, const uint8_t *p, int depth) {
    const uint8_t *end = plan->end;
    int escaped;
    if (FB_UNLIKELY(p >= end))
        return NULL;
    const uint8_t *after = fb_short_integer(p, end, plan->limit);
    if (after)
        return after;
    switch (*p) {
    case '"':
        p = fb_string(p + 1, end, plan->limit, &escaped);
        return p ? p + 1 : NULL;
    case 't':
        return end - p >= 4 && memcmp(p, "true", 4) == 0 ? p + 4 : NULL;
    case 'f':
        return end - p >= 5 && memcmp(p, "false", 5) == 0 ? p + 5 : NULL;
    case 'n':
        return end - p >= 4 && memcmp(p, "null", 4) == 0 ? p + 4 : NULL;
    case '{': case '[':
        break;
    default:
        return fb_any_number(p, end);
    }
    if (depth >= FB_MOST_DEPTH)
        return NULL;
    uint8_t open = *p, close = open == '{' ? '}' : ']';
    p = fb_space(p + 1, end);
    if (p < end && *p == close)
        return p + 1;
    for (;;) {
        if (open == '{') {
            if (p >= end || *p != '"' || !(p = fb_string(p + 1, end, plan->limit, &escaped)))
                return NULL;
            p = fb_space(p + 1, end);
            if (p >= end || *p != ':')
                return NULL;
            p = fb_space(p + 1, end);
        }
        if (!(p = fb_any_value(plan, p, depth + 1)))
            return NULL;
        p = fb_space(p, end);
        if (p >= end)
            return NULL;
        if (*p == close)
            return p + 1;
        if (*p != ',')
            return NULL;
        p = fb_space(p + 1, end);
    }
}

/* Of a symbol as it is spelled: its first 16 bytes as words, then all others. */
FB_INLINE uint64_t fb_hash_symbol(const fb_row *row, const uint8_t *more, const uint8_t *to) {
    uint64_t hash = (row->symbol_words[0] ^ row->symbol_words[0] >> 29) * 0x9E3779B97F4A7C15ULL;
    hash = (hash ^ hash >> 32 ^ row->symbol_words[1]) * 0x9E3779B97F4A7C15ULL;
    for (; FB_UNLIKELY(more < to); more++)
        hash = (hash ^ *more) * 0x9E3779B97F4A7C15ULL;
    return hash ^ hash >> 32;
}

FB_INLINE void fb_fetch(const fb_plan *plan, uint64_t hash) {
    if (plan->places)
        FB_FETCH_LINE((const uint8_t *)plan->places + (hash & plan->place_mask) * plan->place_size);
}

/* A symbol's text, up to the closing quote, and a hash of it as it is spelled. */
FB_INLINE const uint8_t *fb_symbol(const fb_plan *plan, const uint8_t *p, fb_row *row) {
    int escaped;
    const uint8_t *start = p;
    p = fb_string(p, plan->end, plan->limit, &escaped);
    if (FB_UNLIKELY(!p || p == start || p - start > 255))
        return NULL;
    ptrdiff_t n = p - start, most = n < 16 ? n : 16;
    row->symbol_words[0] = fb_load(start, plan->limit) & fb_first_bytes[most + 8];
    row->symbol_words[1] = fb_load(start + 8, plan->limit) & fb_first_bytes[most];
    row->symbol = start;
    row->symbol_length = (uint32_t)n;
    row->symbol_hash = fb_hash_symbol(row, start + 16, p);
    fb_fetch(plan, row->symbol_hash);
    return p;
}

/* A text, true or false that must be one of a key's literals; which one it is, or NULL. */
FB_INLINE const fb_literal *fb_find_literal(const fb_plan *plan, const fb_key *key, const uint8_t **at, int in_text) {
    const uint8_t *p = *at, *stop = p;
    const fb_literal *literal = plan->literals + key->literals, *last = literal + key->literal_count;
    int escaped = 0;
    uint64_t word = fb_load(p, plan->limit);
    if (in_text && (!(stop = fb_string(p, plan->end, plan->limit, &escaped)) || escaped))
        return NULL;
    for (; literal < last; literal++) {
        ptrdiff_t length = literal->length;
        if (in_text) {
            if (literal->kind <= FB_PREFIX && (literal->kind == FB_TEXT ? stop - p == length : stop - p >= length) &&
                (length == 0 || fb_begins(word, literal->word, length < 8 ? (int)length : 8)) &&
                (length <= 8 || memcmp(p, literal->text, (size_t)length) == 0)) {
                *at = stop;
                return literal;
            }
        } else if (literal->kind >= FB_TRUE && plan->end - p >= length && fb_begins(word, literal->word, (int)length)) {
            *at = p + length;
            return literal;
        }
    }
    return NULL;
}

/* Reads the value of a key into the row. In text: p stands after the opening quote, and stops at the closing one. */
FB_INLINE const uint8_t *fb_take(fb_plan *plan, fb_row *row, const fb_key *key, unsigned role, const uint8_t *p,
                                 int in_text) {
    const uint8_t *end = plan->end, *limit = plan->limit;
    const fb_literal *literal;
    const uint8_t *after;
    int64_t time_ns;
    int decimals = 0, escaped = 0;
    switch (role) {
    case FB_SYMBOL:
        return in_text ? fb_symbol(plan, p, row) : NULL;
    case FB_PRICE:
        if ((!in_text && !plan->json_numbers) || !fb_decimal(&p, limit, !in_text, &row->price, &decimals))
            return NULL;
        row->price_decimals = (int8_t)decimals;
        return p;
    case FB_SIZE:
        if ((!in_text && !plan->json_numbers) || !fb_decimal(&p, limit, !in_text, &row->size, &decimals))
            return NULL;
        row->size_decimals = (int8_t)decimals;
        return p;
    case FB_TRADE_TIME:
        if (in_text != plan->integers_in_text && key->unit != FB_RFC3339)
            return NULL;
        return fb_time(&p, end, limit, key->unit, in_text, &row->time_ns) ? p : NULL;
    case FB_EVENT_TIME:
        if ((in_text != plan->integers_in_text && key->unit != FB_RFC3339) ||
            !fb_time(&p, end, limit, key->unit, in_text, &time_ns) || time_ns > FB_LATEST_NS)
            return NULL;
        if (!plan->has_event || time_ns > plan->event_ns)
            plan->event_ns = time_ns;
        plan->has_event = 1;
        return p;
    case FB_FIRST_ID:
        return in_text == plan->integers_in_text && fb_integer(&p, limit, &row->first_id) ? p : NULL;
    case FB_LAST_ID:
        return in_text == plan->integers_in_text && fb_integer(&p, limit, &row->last_id) ? p : NULL;
    case FB_COUNT:
        return in_text == plan->integers_in_text && fb_integer(&p, limit, &row->count) ? p : NULL;
    case FB_SEQUENCE:
        return in_text == plan->integers_in_text && fb_integer(&p, limit, &row->sequence) ? p : NULL;
    case FB_UNIQUE:
        row->key = p;
        p = in_text ? fb_string(p, end, limit, &escaped) : fb_integer(&p, limit, &time_ns) ? p : NULL;
        if (!p || escaped || p == row->key || p - row->key > 255)
            return NULL;
        row->key_length = (uint32_t)(p - row->key);
        return p;
    case FB_SIDE:
        if (!(literal = fb_find_literal(plan, key, &p, in_text)))
            return NULL;
        row->side = literal->side;
        return p;
    case FB_MATCH:
        return fb_find_literal(plan, key, &p, in_text) ? p : NULL;
    case FB_SKIP: /* p stands before the value, also of a text: whatever it is, it is allowed */
        after = fb_any_value(plan, p, 0);
        in_text = p < end && *p == '"';
        p += in_text;
        row->skipped |= after && fb_find_literal(plan, key, &p, in_text) != NULL;
        return after;
    default:
        return NULL;
    }
}

static void fb_note(fb_plan *plan, const uint8_t *from, const uint8_t *to, const fb_key *key, unsigned role, int in_text) {
    if (plan->paused)
        return;
    if (plan->seen_count >= FB_MOST_OPS - 3) {
        plan->learning = 0;
        return;
    }
    plan->seen[plan->seen_count++] = (fb_seen){from, to, key, (uint8_t)role, (uint8_t)in_text};
}

FB_INLINE int fb_opens(uint8_t c) { return c == '{' || c == '['; }

/* Notes what stands within an array or object that is passed over, value by value: its brackets and names are bytes as
 * all others. 0: it is noted as a whole, being of many parts, or of another shape each time. */
static int fb_note_parts(fb_plan *plan, const uint8_t *p, const uint8_t *to) {
    int count = plan->seen_count, escaped = 0;
    if (plan->keeps_whole || plan->paused)
        return plan->paused;
    while (p < to) {
        const uint8_t *from = p, *after;
        if (*p == '"') {
            p = fb_string(p + 1, to, plan->limit, &escaped);
            if (!p)
                break;
            after = fb_space(++p, to);
            if (after < to && *after == ':')
                continue;
            fb_note(plan, from + 1, p - 1, NULL, FB_PASS_OVER, 1);
        } else if (fb_opens(*p) || *p == ']' || *p == '}' || *p == ',' || *p == ':' || *p <= ' ') {
            p++;
            continue;
        } else {
            while (p < to && *p != ',' && *p != ']' && *p != '}' && *p > ' ')
                p++;
            fb_note(plan, from, p, NULL, FB_PASS_OVER, 0);
        }
        if (!plan->learning || plan->seen_count - count > FB_MOST_PARTS)
            break;
    }
    if (p == to && !escaped) {
        plan->has_parts = 1;
        return 1;
    }
    plan->seen_count = count;
    return 0;
}

/* Makes room for two more trades: a bare root and the message in its envelope may both have begun one. */
static int fb_room(fb_plan *plan) {
    if (FB_LIKELY(plan->row_count + 2 <= plan->row_capacity))
        return 1;
    int capacity = plan->row_capacity ? 2 * plan->row_capacity : 64;
    fb_row *grown = capacity > FB_MOST_ROWS ? NULL : (fb_row *)realloc(plan->rows, (size_t)capacity * sizeof(fb_row));
    if (!grown) {
        plan->no_memory = capacity <= FB_MOST_ROWS;
        return 0;
    }
    plan->rows = grown;
    plan->row_capacity = capacity;
    return 1;
}

FB_INLINE void fb_begin(fb_plan *plan) {
    fb_row *row = plan->rows + plan->row_count;
    row->side = row->skipped = 0;
    row->first_id = 0;
}

static const uint8_t *fb_object(fb_plan *plan, const uint8_t *p, int node_index, int depth);

/* The byte after a child's value: an object, or, on the way to the trades, an array of them. */
static const uint8_t *fb_child(fb_plan *plan, const uint8_t *p, int node_index, int depth) {
    const uint8_t *end = plan->end;
    const fb_node *node = plan->nodes + node_index;
    if (p < end && *p == '{')
        return fb_object(plan, p, node_index, depth);
    if (p >= end || *p != '[' || !node->on_path)
        return NULL;
    if (node->is_trade) {
        plan->trade_arrays++;
        plan->in_array = 1;
    }
    p = fb_space(p + 1, end);
    for (int element = 0;; element++) {
        if (element && !node->is_trade) /* what stands once a message would stand twice */
            return NULL;
        if (!(p = fb_object(plan, p, node_index, depth)))
            return NULL;
        p = fb_space(p, end);
        if (p >= end)
            return NULL;
        if (*p == ']')
            return p + 1;
        if (*p != ',')
            return NULL;
        p = fb_space(p + 1, end);
    }
}

/* The byte after an object that a node describes. A name that is spelled with escapes or stands twice is Python's. */
static const uint8_t *fb_object(fb_plan *plan, const uint8_t *p, int node_index, int depth) {
    const uint8_t *end = plan->end, *limit = plan->limit, *object = p;
    const fb_node *node = plan->nodes + node_index;
    uint32_t seen = 0;
    int enveloped = 0;
    if (p >= end || *p != '{')
        return NULL;
    if (node->is_trade) {
        if (!fb_room(plan))
            return NULL;
        fb_begin(plan);
        if (!plan->trade_from) {
            plan->trade_from = p;
            plan->seen_trade = plan->seen_count;
        } else if (plan->row_count) {
            plan->paused = 1; /* as the first trade; the layout has it already */
        }
    }
    p = fb_space(p + 1, end);
    for (;;) {
        if (p >= end || *p != '"')
            return NULL;
        const uint8_t *name = ++p;
        uint64_t word = fb_load(p, limit), stop = fb_not_plain(word);
        if (FB_LIKELY(stop)) {
            int n = fb_lowest_bit(stop) >> 3;
            p += n;
            word = n ? word << (64 - 8 * n) >> (64 - 8 * n) : 0;
            if (p >= end || *p != '"')
                return NULL;
        } else {
            int escaped = 0;
            p = fb_string(p + 8, end, limit, &escaped);
            if (!p || escaped)
                return NULL;
        }
        const fb_key *key = fb_find_key(node, word, name, p - name);
        p = fb_space(p + 1, end);
        if (p >= end || *p != ':')
            return NULL;
        p = fb_space(p + 1, end);
        if (p >= end)
            return NULL;
        if (!key) {
            const uint8_t *from = p;
            int in_text = *p == '"';
            if (!(p = fb_any_value(plan, p, depth + 1)))
                return NULL;
            if (FB_UNLIKELY(plan->learning) && !(fb_opens(*from) && fb_note_parts(plan, from, p)))
                fb_note(plan, from + in_text, p - in_text, NULL, FB_PASS_OVER, in_text);
        } else {
            uint32_t bit = 1u << (key - node->keys);
            if (FB_UNLIKELY(seen & bit))
                return NULL;
            seen |= bit;
            if (key->role == FB_CHILD || key->role == FB_ENVELOPE) {
                if (key->role == FB_ENVELOPE) {
                    enveloped = 1;
                    plan->trade_from = NULL; /* a bare root may have begun one */
                    if (*p != '{')
                        return NULL;
                }
                if (!(p = fb_child(plan, p, key->child, depth + 1)))
                    return NULL;
            } else {
                fb_row *row = node->is_trade ? plan->rows + plan->row_count : &plan->message;
                const uint8_t *from = p;
                int in_text = *p == '"' && key->role != FB_SKIP;
                p = fb_take(plan, row, key, key->role, p + in_text, in_text);
                if (!p || (in_text && (p >= end || *p != '"')))
                    return NULL;
                if (FB_UNLIKELY(plan->learning))
                    fb_note(plan, from + in_text, p, key, key->role, in_text);
                p += in_text;
            }
        }
        p = fb_space(p, end);
        if (p >= end)
            return NULL;
        if (*p == '}')
            break;
        if (*p != ',')
            return NULL;
        p = fb_space(p + 1, end);
    }
    p++;
    if (enveloped) /* nothing but the envelope may mean anything here */
        return (seen & (seen - 1)) == 0 ? p : NULL;
    if ((seen & node->required) != node->required)
        return NULL;
    if (node->is_trade) {
        plan->row_count++;
        plan->last_trade_to = p;
        if (plan->trade_from == object) {
            plan->trade_to = p;
            plan->seen_suffix = plan->seen_count;
        }
        plan->paused = 0;
    }
    return p;
}

FB_INLINE void fb_restart(fb_plan *plan) {
    plan->row_count = plan->has_event = 0;
}

/* Trades into plan->rows, in the order of the message; 0: Python reads this message. */
static int fb_scan_any(fb_plan *plan, const uint8_t *payload) {
    const uint8_t *p = fb_space(payload, plan->end);
    fb_restart(plan);
    plan->trade_arrays = plan->seen_count = plan->in_array = plan->paused = 0;
    plan->trade_from = plan->trade_to = NULL;
    plan->text = payload;
    p = fb_object(plan, p, 0, 0);
    return p && fb_space(p, plan->end) == plan->end && plan->row_count > 0;
}

#endif
