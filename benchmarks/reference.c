/* Plain C from the same columns to the same 1-minute bars: the floor that the kernel is measured against.
 *
 * Two 64-byte lines a symbol hold the open bar, and a closed one is written with all fields that a row of the kernel has.
 * It checks what a careful hand-written program would (late trades, ids that are not the next one) and counts them, but
 * amends, proves and validates nothing, and its volumes have 64 bits. Two variants: one treats a stretch of one symbol
 * inside one bar as a unit, one goes trade by trade without a branch that the trades decide, and fetches the symbol of a
 * trade a few places ahead.
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
    int64_t first_time, first_id, open, last_time;
} __attribute__((aligned(64))) state;

typedef struct {
    int64_t last_time, last_id, high, low, close, count;
    __int128 volume, quote, taker_volume, taker_quote;
    int64_t open_time, close_time, first_time, first_id, open, row, missing;
    int32_t symbol, spec, revision, unpublished;
    uint8_t status, reason;
    int8_t price_scale, size_scale, quote_scale;
    uint8_t unused[3];
} bar;

typedef struct {
    const int64_t *time, *price, *size, *id;
    const int32_t *symbol;
    const int8_t *side;
    int64_t rows;
} columns;

int64_t state_bytes(void) { return sizeof(state); }
int64_t bar_bytes(void) { return sizeof(bar); }

static inline void issue(const state *s, int32_t symbol, int64_t row, int reason, bar *out) {
    out->last_time = s->last_time;
    out->last_id = s->last_id;
    out->high = s->high;
    out->low = s->low;
    out->close = s->close;
    out->count = s->count;
    out->volume = s->volume;
    out->quote = s->quote;
    out->taker_volume = s->taker_volume;
    out->taker_quote = s->taker_quote;
    out->open_time = s->close_time - STEP;
    out->close_time = s->close_time;
    out->first_time = s->first_time;
    out->first_id = s->first_id;
    out->open = s->open;
    out->row = row;
    out->missing = 0;
    out->symbol = symbol;
    out->spec = out->revision = out->unpublished = 0;
    out->status = 0;
    out->reason = (uint8_t)reason;
    out->price_scale = 2;
    out->size_scale = 5;
    out->quote_scale = 7;
    memset(out->unused, 0, sizeof out->unused);
}

static inline void begin(state *s, const columns *c, int64_t i) {
    s->first_time = c->time[i];
    s->close_time = c->time[i] - c->time[i] % STEP + STEP;
    s->open = s->high = s->low = c->price[i];
    s->first_id = c->id[i];
    s->volume = s->taker_volume = s->count = 0;
    s->quote = s->taker_quote = 0;
}

/* Each returns the number of bars that closed; problems[0] counts late trades, problems[1] ids that are not the next one. */
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
                issue(s, c->symbol[i], i, 0, &out[bars++]);
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
        s->last_time = c->time[i];
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
                issue(s, symbol, i, 0, &out[bars++]);
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
        s->last_time = c->time[i - 1];
        s->count += i - start;
        s->volume += volume;
        s->taker_volume += taker_volume;
        s->quote += quote;
        s->taker_quote += taker_quote;
    }
    return bars;
}

/* What the end of the input closes, behind the `bars` that are there; returns how many there are then. */
int64_t flush(const state *states, int64_t symbols, int64_t rows, int64_t bars, bar *out) {
    for (int64_t symbol = 0; symbol < symbols; symbol++)
        if (states[symbol].count) issue(&states[symbol], (int32_t)symbol, rows, 1, &out[bars++]);
    return bars;
}
