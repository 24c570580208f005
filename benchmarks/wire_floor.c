/* The floor: a blocking C program that receives, walks, scans and aggregates 1-minute bars of Binance spot trades.
 *
 * Build: cc -O3 -I src/fastbars -I src/fastbars/wire -o floor wire_floor.c. Run: floor PORT general|layout|walk.
 * Prints CPU nanoseconds, messages, closed bars. It shares the library's frame header, scanners and digits, checks
 * no ids, amends no late bar and knows one interval, so it does less than the library does.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "frames.h"
#include "int128.h"
#include "layout.h"

enum { PLACES = 4096, BUFFER = 262144 };

typedef struct {
    int64_t minute, open, high, low, close, volume, taker, count, first_id, last_id;
    fb_int128 quote, taker_quote;
    int price_scale, size_scale;
    uint64_t hash;
    uint32_t length;
    uint64_t words[2]; /* all names here have at most 16 bytes */
} bar;

static bar bars[PLACES];
static fb_plan plan;

static int64_t cpu_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void add_literal(fb_key *key, int kind, const char *text, int side) {
    fb_literal *literal = plan.literals + plan.literal_count++;
    literal->kind = (uint8_t)kind;
    literal->length = (uint8_t)strlen(text);
    literal->side = (int8_t)side;
    memcpy(literal->text, text, literal->length);
    memcpy(&literal->word, text, literal->length < 8 ? literal->length : 8);
    key->literal_count++;
}

static fb_key *add_key(const char *name, int role, int unit) {
    fb_node *node = plan.nodes;
    fb_key *key = node->keys + node->key_count;
    key->length = (uint8_t)strlen(name);
    memcpy(key->name, name, key->length);
    memcpy(&key->word, name, key->length < 8 ? key->length : 8);
    key->role = (uint8_t)role;
    key->unit = (uint8_t)unit;
    key->literals = plan.literal_count;
    node->required |= 1u << node->key_count++;
    unsigned place = fb_bucket(key->word, key->length);
    while (node->buckets[place])
        place = (place + 1) & 63;
    node->buckets[place] = node->key_count;
    return key;
}

static void fold(const fb_row *row, int64_t *closed) {
    uint64_t place = row->symbol_hash & (PLACES - 1);
    bar *b;
    for (;; place = (place + 1) & (PLACES - 1)) {
        b = bars + place;
        if (b->hash == row->symbol_hash && b->length == row->symbol_length &&
            b->words[0] == row->symbol_words[0] && b->words[1] == row->symbol_words[1])
            break;
        if (!b->length) {
            b->hash = row->symbol_hash;
            b->length = row->symbol_length;
            memcpy(b->words, row->symbol_words, sizeof b->words);
            b->price_scale = 2;
            b->size_scale = 5;
            b->minute = -1;
            break;
        }
    }
    int64_t price = row->price, size = row->size;
    if (!fb_rescale(&price, row->price_decimals, b->price_scale) || !fb_rescale(&size, row->size_decimals, b->size_scale))
        return;
    int64_t minute = row->time_ns / 60000000000LL;
    if (minute != b->minute) {
        *closed += b->minute >= 0;
        b->minute = minute;
        b->open = b->high = b->low = price;
        b->volume = b->taker = b->count = 0;
        b->first_id = row->first_id;
        b->quote = b->taker_quote = (fb_int128){0, 0};
    }
    if (price > b->high)
        b->high = price;
    if (price < b->low)
        b->low = price;
    b->close = price;
    b->volume += size;
    fb_add_product(&b->quote, price, size);
    b->count++;
    b->last_id = row->first_id;
    if (row->side > 0) {
        b->taker += size;
        fb_add_product(&b->taker_quote, price, size);
    }
}

int main(int count, char **arguments) {
    static uint8_t buffer[BUFFER];
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (count < 3)
        return 2;
    address.sin_port = htons((uint16_t)atoi(arguments[1]));
    int walk_only = strcmp(arguments[2], "walk") == 0;
    int s = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(s, (struct sockaddr *)&address, sizeof address))
        return 1;
    plan.node_count = 1;
    plan.nodes[0].is_trade = plan.nodes[0].on_path = 1;
    plan.has_ids = 1;
    plan.places = bars;
    plan.place_mask = PLACES - 1;
    plan.place_size = sizeof(bar);
    plan.remembers = strcmp(arguments[2], "layout") == 0;
    add_literal(add_key("e", FB_MATCH, 0), FB_TEXT, "trade", 0);
    add_key("s", FB_SYMBOL, 0);
    add_key("p", FB_PRICE, 0);
    add_key("q", FB_SIZE, 0);
    add_key("T", FB_TRADE_TIME, FB_MS_OR_US);
    add_key("E", FB_EVENT_TIME, FB_MS_OR_US);
    add_key("t", FB_FIRST_ID, 0);
    fb_key *side = add_key("m", FB_SIDE, 0);
    add_literal(side, FB_FALSE, "false", 1);
    add_literal(side, FB_TRUE, "true", -1);
    static const char request[] = "GET / HTTP/1.1\r\nSec-WebSocket-Key: x\r\n\r\n";
    if (write(s, request, sizeof request - 1) < 0 || read(s, buffer, BUFFER) <= 0)
        return 1;
    int64_t start = cpu_ns(), messages = 0, closed = 0;
    if (write(s, "go", 2) < 0)
        return 1;
    uint8_t *end = buffer;
    for (;;) {
        ssize_t got = recv(s, end, (size_t)(buffer + BUFFER - end), 0);
        if (got <= 0)
            break;
        end += got;
        uint8_t *p = buffer;
        fb_frame frame;
        int kind;
        while ((kind = fb_read_frame(p, end, &frame)) != FB_CUT && (uint64_t)(end - p) >= frame.header + frame.length) {
            if (frame.first == 0x88)
                goto done;
            const uint8_t *payload = p + frame.header, *stop = payload + frame.length;
            if (walk_only) {
                messages += frame.length > 2; /* the first one says nothing */
            } else if (fb_scan(&plan, payload, stop, end)) {
                messages++;
                for (int i = 0; i < plan.row_count; i++)
                    fold(plan.rows + i, &closed);
            }
            p += frame.header + frame.length;
        }
        memmove(buffer, p, (size_t)(end - p));
        end -= p - buffer;
    }
done:
    printf("{\"cpu_ns\":%lld,\"messages\":%lld,\"bars\":%lld}\n", (long long)(cpu_ns() - start), (long long)messages,
           (long long)closed);
    close(s);
    return 0;
}
