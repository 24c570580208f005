cimport cython
from libc.stdint cimport int8_t, int64_t, uint8_t, uint32_t, uint64_t

cdef extern from "layout.h" nogil:
    enum:
        FB_CHILD, FB_ENVELOPE, FB_SYMBOL, FB_PRICE, FB_SIZE, FB_TRADE_TIME, FB_FIRST_ID, FB_LAST_ID
        FB_COUNT, FB_SEQUENCE, FB_SIDE, FB_EVENT_TIME, FB_MATCH, FB_SKIP, FB_UNIQUE
        FB_MOST_KEYS, FB_MOST_NODES, FB_MOST_LITERALS, FB_KEY_SIZE, FB_LITERAL_SIZE
        FB_TEXT, FB_PREFIX, FB_TRUE, FB_FALSE
    const int64_t FB_LATEST_NS
    ctypedef struct fb_literal:
        uint8_t kind
        uint8_t length
        int8_t side
        uint64_t word
        uint8_t text[48]
    ctypedef struct fb_key:
        uint64_t word
        uint8_t length
        uint8_t role
        uint8_t unit
        uint8_t child
        uint8_t literals
        uint8_t literal_count
        uint8_t name[32]
    ctypedef struct fb_node:
        fb_key keys[24]
        uint32_t required
        uint8_t key_count
        uint8_t is_trade
        uint8_t on_path
        uint8_t buckets[64]
    ctypedef struct fb_row:
        const uint8_t *symbol
        uint64_t symbol_hash
        uint64_t symbol_words[2]
        const uint8_t *key
        int64_t time_ns
        int64_t price
        int64_t size
        int64_t first_id
        int64_t last_id
        int64_t count
        int64_t sequence
        uint32_t symbol_length
        uint32_t key_length
        int8_t price_decimals
        int8_t size_decimals
        int8_t side
        int8_t skipped
    ctypedef struct fb_plan:
        fb_node nodes[8]
        fb_literal literals[48]
        uint8_t node_count
        uint8_t literal_count
        uint8_t json_numbers
        uint8_t integers_in_text
        uint8_t newest_first
        uint8_t symbol_of_message
        uint8_t sequence_of_message
        uint8_t has_ids
        uint8_t has_last_id
        uint8_t has_count
        uint8_t has_sequence
        uint8_t event_time_of_trade
        fb_row message
        int64_t event_ns
        int has_event
        fb_row *rows
        int row_count
        int no_memory
        int remembers
        int64_t learnt
        uint8_t *copy
        const void *places
        uint64_t place_mask
        size_t place_size
    unsigned fb_bucket(uint64_t word, unsigned length)
    int fb_scan(fb_plan *plan, const uint8_t *payload, const uint8_t *end, const uint8_t *limit)
    bint fb_rescale(int64_t *value, int decimals, int scale)
    void fb_strip(int64_t *value, int *decimals)


@cython.final
cdef class ScanPlan:
    cdef fb_plan *c
    cdef bint has_key               # trades are known by unique keys
    cdef bint derives_first_id      # from the last one and the number of trades
    cdef int lay(self, node, envelope, inner) except -1
    cdef int add_key(self, int index, str name, int role, int unit, literals, int child) except -1
    cdef int add_literal(self, literal, int8_t side) except -1
