/* Plain C from the same columns to the same 1-minute bars: the floor that the kernel is measured against.
 *
 * Two 64-byte lines a symbol hold all fields of the open bar. It checks what a careful hand-written program
 * would (late trades, ids that are not the next one) and counts them, but amends, proves and validates nothing.
 * Two variants: one treats a stretch of one symbol inside one bar as a unit, one goes trade by trade without
 * a branch that the trades decide, and fetches the symbol of a trade a few places ahead.
 */
#include <stdint.h>
#include <string.h>

#define STEP 60000000000LL
#define AHEAD 12

#if defined(_MSC_VER)
#error "the reference needs GCC or Clang"
#endif

typedef struct {
    int64_t close_time, last_id, high, low, close, volume, taker_volume, count;
    __int128 quote, taker_quote;
    int64_t open_time, first_id, open, unused;
} __attribute__((aligned(64))) state;

typedef struct {
    int64_t open_time, close_time, open, high, low, close, first_id, last_id, count, volume, taker_volume;
    int32_t symbol, row;
    __int128 quote, taker_quote;
} bar;

typedef struct {
    const int64_t *time, *price, *size, *id;
    const int32_t *symbol;
    const int8_t *side;
    int64_t rows;
} columns;

int64_t state_bytes(void) { return sizeof(state); }
int64_t bar_bytes(void) { return sizeof(bar); }

static void issue(const state *s, int32_t symbol, int64_t row, bar *out) {
    out->open_time = s->open_time;
    out->close_time = s->close_time;
    out->open = s->open;
    out->high = s->high;
    out->low = s->low;
    out->close = s->close;
    out->first_id = s->first_id;
    out->last_id = s->last_id;
    out->count = s->count;
    out->volume = s->volume;
    out->taker_volume = s->taker_volume;
    out->quote = s->quote;
    out->taker_quote = s->taker_quote;
    out->symbol = symbol;
    out->row = (int32_t)row;
}

static void begin(state *s, const columns *c, int64_t i) {
    s->open_time = c->time[i] - c->time[i] % STEP;
    s->close_time = s->open_time + STEP;
    s->open = s->high = s->low = c->price[i];
    s->first_id = c->id[i];
    s->volume = s->taker_volume = s->count = 0;
    s->quote = s->taker_quote = 0;
}

/* Returns the number of bars; problems[0] counts late trades, problems[1] ids that are not the next one. */
int64_t by_trade(state *states, const columns *c, bar *out, int64_t *problems) {
    int64_t bars = 0, i;
    for (i = 0; i < c->rows; i++) {
        state *s = &states[c->symbol[i]];
        int64_t price = c->price[i], size = c->size[i], taker = -(int64_t)(c->side[i] > 0);
        __int128 quote = (__int128)price * size;
        __builtin_prefetch(&states[c->symbol[i + AHEAD < c->rows ? i + AHEAD : i]], 1);
        __builtin_prefetch((char *)&states[c->symbol[i + AHEAD < c->rows ? i + AHEAD : i]] + 64, 1);
        if (__builtin_expect(c->time[i] >= s->close_time, 0)) {
            if (s->count) {
                problems[1] += c->id[i] != s->last_id + 1;
                issue(s, c->symbol[i], i, &out[bars++]);
            }
            begin(s, c, i);
        } else {
            if (__builtin_expect(c->time[i] < s->close_time - STEP, 0)) {
                problems[0]++;
                continue;
            }
            if (__builtin_expect(c->id[i] != s->last_id + 1, 0)) problems[1]++;
        }
        s->high = price > s->high ? price : s->high;
        s->low = price < s->low ? price : s->low;
        s->close = price;
        s->last_id = c->id[i];
        s->count++;
        s->volume += size;
        s->quote += quote;
        s->taker_volume += size & taker;
        s->taker_quote += quote & (__int128)taker;
    }
    return bars;
}

int64_t by_stretch(state *states, const columns *c, bar *out, int64_t *problems) {
    int64_t bars = 0, i = 0;
    while (i < c->rows) {
        int32_t symbol = c->symbol[i];
        state *s = &states[symbol];
        int64_t start = i, high, low, volume = 0, taker_volume = 0, since, until, next;
        __int128 quote = 0, taker_quote = 0;
        if (c->time[i] >= s->close_time) {
            if (s->count) {
                problems[1] += c->id[i] != s->last_id + 1;
                issue(s, symbol, i, &out[bars++]);
            }
            begin(s, c, i);
        } else if (c->time[i] < s->close_time - STEP) {
            problems[0]++;
            i++;
            continue;
        } else if (c->id[i] != s->last_id + 1) {
            problems[1]++;
        }
        high = s->high;
        low = s->low;
        since = s->close_time - STEP;
        until = s->close_time;
        next = c->id[i];
        do {
            int64_t price = c->price[i], size = c->size[i], taker = -(int64_t)(c->side[i] > 0);
            __int128 product = (__int128)price * size;
            high = price > high ? price : high;
            low = price < low ? price : low;
            volume += size;
            quote += product;
            taker_volume += size & taker;
            taker_quote += product & (__int128)taker;
            next++;
            i++;
        } while (i < c->rows && c->symbol[i] == symbol && c->id[i] == next && c->time[i] >= since && c->time[i] < until);
        s->high = high;
        s->low = low;
        s->close = c->price[i - 1];
        s->last_id = c->id[i - 1];
        s->count += i - start;
        s->volume += volume;
        s->taker_volume += taker_volume;
        s->quote += quote;
        s->taker_quote += taker_quote;
    }
    return bars;
}
