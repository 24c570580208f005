"""RecentKeys: whether a trade was seen before, where its id is unique but no number that rises.

What an exchange sends again are the latest trades of a symbol: those that it replays when it is subscribed to or asked over
REST, and those of two connections that overlap. So keys are remembered symbol by symbol: the latest `least` ones of each,
however busy the others are, and beyond them those that are not older than `window_ns`, until there are `most` in all.

A symbol's trades come in the order of their times, but for a few. So a later one than all before is new without a search, and
any other is searched for among those of its time. Only where times have gone back, or many trades are of one time, has the
symbol a table, until the last such key is forgotten.

Units: keys; times int64 nanoseconds since the epoch, UTC.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc

from fastbars.kernel.limits cimport EARLIEST_NS, LATEST_NS, LONGEST_NS
from fastbars.kernel.scaled cimport prefetch

cdef enum:
    LEAST_KEYS = 1024           # no exchange replays more: pages of 1,000 trades are the largest
    MOST_KEYS = 1 << 20
    MOST_SYMBOLS = 1 << 20
    CROWD = 128                 # keys of one time, beyond which they are not searched one by one

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    #if defined(_MSC_VER) && !defined(__SIZEOF_INT128__)
    #include <intrin.h>
    static uint64_t fb_fold(uint64_t a, uint64_t b) {
        uint64_t high, low = _umul128(a, b, &high);
        return high ^ low;
    }
    #else
    static uint64_t fb_fold(uint64_t a, uint64_t b) {
        unsigned __int128 product = (unsigned __int128)a * b;
        return (uint64_t)(product >> 64) ^ (uint64_t)product;
    }
    #endif
    static void fb_mix(uint64_t *high, uint64_t *low, uint64_t word) {
        /* Two lanes of folded products with odd constants; a lane that a zero has emptied goes on from its rotation. */
        *high = ((*high << 23) | (*high >> 41)) ^ fb_fold(word ^ 0xC2B2AE3D27D4EB4FULL, *high + 0x9E3779B97F4A7C15ULL);
        *low = ((*low << 37) | (*low >> 27)) ^ fb_fold(word + 0xD6E8FEB86659FD93ULL, *low ^ 0xA0761D6478BD642FULL);
    }
    static void fb_mix_text(uint64_t *high, uint64_t *low, const uint8_t *text, size_t length) {
        uint64_t word = 0;
        size_t left = length;
        for (; left >= 8; left -= 8, text += 8) {
            memcpy(&word, text, 8);
            fb_mix(high, low, word);
        }
        word = 0;
        for (; left; left--)
            word = word << 8 | text[left - 1];
        fb_mix(high, low, word);
        fb_mix(high, low, length);
    }
    """
    void fb_mix(uint64_t *high, uint64_t *low, uint64_t word) nogil
    void fb_mix_text(uint64_t *high, uint64_t *low, const uint8_t *text, size_t length) nogil



cdef uint64_t HALF = 0xFFFFFFFF


# The table of a symbol: open addressing, with twice as many places as its ring has. A place has half of a digest, whose lowest
# bits are its home, and where in the ring the key is, + 1; 0: it is empty.

cdef int64_t place_of(const SymbolKeys *own, Digest digest) noexcept:
    # Where it is, or the empty place where it would be.
    cdef uint64_t mask = <uint64_t>(2 * own.capacity - 1), place = digest.high & mask, entry
    cdef const Digest *other
    while True:
        entry = own.table[place]
        if entry == 0:
            break
        if entry >> 32 == digest.high & HALF:
            other = &own.keys[(entry & HALF) - 1].digest
            if other.high == digest.high and other.low == digest.low:
                break
        place = (place + 1) & mask
    return <int64_t>place


cdef void note_place(SymbolKeys *own, int64_t number) noexcept:
    cdef uint64_t at = <uint64_t>(number & (own.capacity - 1))
    cdef Digest digest = own.keys[at].digest
    own.table[place_of(own, digest)] = (digest.high & HALF) << 32 | (at + 1)


cdef void forget_place(SymbolKeys *own, Digest digest) noexcept:
    # Those behind it move up, so that no search ends too early.
    cdef uint64_t mask = <uint64_t>(2 * own.capacity - 1), hole = <uint64_t>place_of(own, digest), place = hole, home
    while True:
        place = (place + 1) & mask
        if own.table[place] == 0:
            break
        home = own.table[place] >> 32 & mask
        if ((place - home) & mask) >= ((place - hole) & mask):
            own.table[hole] = own.table[place]
            hole = place
    own.table[hole] = 0


cdef int need_table(SymbolKeys *own) except -1:
    cdef int64_t number
    if own.table is NULL:
        own.table = <uint64_t *>calloc(2 * own.capacity, sizeof(uint64_t))
        if own.table is NULL:
            raise MemoryError
        for number in range(own.first, own.next):
            note_place(own, number)
    return 0


cdef inline Key *key_of(const SymbolKeys *own, int64_t number) noexcept:
    return &own.keys[number & (own.capacity - 1)]


cdef bint holds(SymbolKeys *own, Digest digest, int64_t time_ns) except -1:
    cdef int64_t low, high, middle, number
    cdef const Key *key
    if own.next == own.first:
        return False
    if own.table is not NULL:
        return own.table[place_of(own, digest)] != 0
    if time_ns > key_of(own, own.next - 1).time_ns:
        return False
    low, high = own.first, own.next - 1
    if time_ns == key_of(own, own.next - 1).time_ns:
        low = own.next
    while low < high:                   # to the first one of a later time
        middle = low + (high - low) // 2
        if key_of(own, middle).time_ns <= time_ns:
            low = middle + 1
        else:
            high = middle
    for number in range(low - 1, own.first - 1, -1):
        key = key_of(own, number)
        if key.time_ns != time_ns:
            break
        if key.digest.high == digest.high and key.digest.low == digest.low:
            return True
        if low - number > CROWD:
            need_table(own)
            own.odd = own.next
            return own.table[place_of(own, digest)] != 0
    return False


cdef int widen(SymbolKeys *own) except -1:
    cdef int64_t capacity = max(<int64_t>16, 2 * own.capacity), number
    cdef Key *keys
    if capacity >= 1 << 31:
        raise MemoryError
    keys = <Key *>malloc(capacity * sizeof(Key))
    if keys is NULL:
        raise MemoryError
    for number in range(own.first, own.next):
        keys[number & (capacity - 1)] = key_of(own, number)[0]
    free(own.keys)
    free(own.table)
    had_table = own.table is not NULL
    own.keys, own.capacity, own.table = keys, capacity, NULL
    if had_table:
        need_table(own)
    return 0


cdef void forget_oldest(SymbolKeys *own) noexcept:
    if own.table is not NULL:
        forget_place(own, key_of(own, own.first).digest)
    own.first += 1
    if own.table is not NULL and own.first > own.odd:
        free(own.table)
        own.table = NULL


cdef int _check_symbols(Py_ssize_t symbols) except -1:
    if not 0 <= symbols <= MOST_SYMBOLS:
        raise IndexError(f"{symbols} symbols are outside 0 to {MOST_SYMBOLS}")
    return 0


cdef class RecentKeys:
    def __cinit__(self, Py_ssize_t least=LEAST_KEYS, Py_ssize_t most=MOST_KEYS, int64_t window_ns=60_000_000_000):
        if not 1 <= least <= most <= 1 << 30:
            raise ValueError(f"least {least} and most {most} must be positive, in this order, and 2**30 at most")
        if not 0 <= window_ns <= LONGEST_NS:
            raise ValueError(f"window {window_ns} ns is outside 0 to {LONGEST_NS}")
        self.least, self.most, self.window_ns = least, most, window_ns

    def __dealloc__(self):
        cdef Py_ssize_t s
        for s in range(self.symbol_count):
            free(self.symbols[s].keys)
            free(self.symbols[s].table)
        free(self.symbols)
        free(self.taken)

    def __len__(self):
        return self.count

    def add(self, int32_t symbol_id, str key not None, int64_t time_ns=0):
        cdef Py_ssize_t length
        cdef const char *text = PyUnicode_AsUTF8AndSize(key, &length)
        if not 0 <= symbol_id < MOST_SYMBOLS:
            raise IndexError(f"symbol id {symbol_id} is outside 0 to {MOST_SYMBOLS - 1}")
        self.begin_message()
        return self.take(symbol_id, time_ns, <const uint8_t *>text, length)

    cdef void begin_message(self) noexcept:
        self.taken_count = 0

    cdef bint take(self, int32_t symbol_id, int64_t time_ns, const uint8_t *text, Py_ssize_t length) except -1:
        # False: it is remembered already.
        cdef Digest digest
        cdef SymbolKeys *own
        digest.high = 0x8EBC6AF09C88C6E3
        digest.low = 0x589965CC75374CC3
        fb_mix(&digest.high, &digest.low, <uint64_t>symbol_id)
        fb_mix(&digest.high, &digest.low, <uint64_t>time_ns)
        fb_mix_text(&digest.high, &digest.low, text, <size_t>length)
        digest.low |= 1
        if symbol_id >= self.symbol_count:
            self.grow_symbols(symbol_id + 1)
        own = &self.symbols[symbol_id]
        if holds(own, digest, time_ns):
            return False
        if own.newest_ns < time_ns <= LATEST_NS:
            own.newest_ns = time_ns
        while own.next - own.first >= self.least and self.is_over(own):
            forget_oldest(own)
            self.count -= 1
        self.append(symbol_id, digest, time_ns)
        return True

    cdef bint is_over(self, const SymbolKeys *own) noexcept:
        # Whether a symbol that has its least number forgets its oldest key for a new one.
        cdef int64_t age_ns = own.newest_ns - max(EARLIEST_NS, min(key_of(own, own.first).time_ns, LATEST_NS))
        return age_ns > self.window_ns or self.count >= self.most

    cdef int append(self, int32_t symbol_id, Digest digest, int64_t time_ns) except -1:
        # As the newest of its symbol.
        cdef SymbolKeys *own = &self.symbols[symbol_id]
        cdef Py_ssize_t capacity
        cdef void *grown
        if own.next - own.first == own.capacity:
            widen(own)
        if own.next > own.first and time_ns < key_of(own, own.next - 1).time_ns:
            need_table(own)
            own.odd = own.next
        if self.taken_count == self.taken_capacity:
            capacity = max(<Py_ssize_t>64, 2 * self.taken_capacity)
            grown = realloc(self.taken, capacity * sizeof(int32_t))
            if grown is NULL:
                raise MemoryError
            self.taken, self.taken_capacity = <int32_t *>grown, capacity
        key_of(own, own.next)[0] = Key(digest, time_ns)
        if own.table is not NULL:
            note_place(own, own.next)
        own.next += 1
        prefetch(key_of(own, own.next + 4))     # where one that comes soon is written
        self.count += 1
        self.taken[self.taken_count] = symbol_id
        self.taken_count += 1
        return 0

    cdef void take_back(self) noexcept:
        # Forgets again what came in this message, which is not taken after all: the newest of their symbols.
        cdef SymbolKeys *own
        while self.taken_count:
            self.taken_count -= 1
            own = &self.symbols[self.taken[self.taken_count]]
            if own.next > own.first:    # else it was forgotten meanwhile
                own.next -= 1
                self.count -= 1
                if own.table is not NULL:
                    forget_place(own, key_of(own, own.next).digest)

    cdef int grow_symbols(self, Py_ssize_t count) except -1:
        cdef SymbolKeys *grown
        count = max(count, 2 * self.symbol_count)
        grown = <SymbolKeys *>realloc(self.symbols, count * sizeof(SymbolKeys))
        if grown is NULL:
            raise MemoryError
        self.symbols = grown
        while self.symbol_count < count:
            self.symbols[self.symbol_count] = SymbolKeys(NULL, 0, 0, 0, EARLIEST_NS, NULL, 0)
            self.symbol_count += 1
        return 0

    # A snapshot, for another process of the same build.

    def dump(self, Py_ssize_t symbols):
        cdef Py_ssize_t s, at = 0, total = 0
        cdef int64_t number
        cdef int32_t *count
        cdef Key *saved
        cdef bytes counts, keys
        _check_symbols(symbols)
        counts = PyBytes_FromStringAndSize(NULL, symbols * sizeof(int32_t))
        count = <int32_t *><char *>counts
        for s in range(symbols):
            count[s] = <int32_t>(self.symbols[s].next - self.symbols[s].first) if s < self.symbol_count else 0
            total += count[s]
        keys = PyBytes_FromStringAndSize(NULL, total * sizeof(Key))
        saved = <Key *><char *>keys
        for s in range(min(symbols, self.symbol_count)):
            for number in range(self.symbols[s].first, self.symbols[s].next):
                saved[at] = key_of(&self.symbols[s], number)[0]
                at += 1
        return {"key_counts": counts, "keys": keys}

    def load(self, parts not None, Py_ssize_t symbols):
        # Into a window of its own first: what is refused has changed nothing.
        cdef RecentKeys made = RecentKeys(self.least, self.most, self.window_ns)
        cdef const int32_t *count
        cdef const Key *saved
        cdef Py_ssize_t s, i
        cdef int64_t total = 0
        _check_symbols(symbols)
        counts, keys = parts.get("key_counts"), parts.get("keys")
        if type(counts) is not bytes or type(keys) is not bytes or len(counts) != symbols * sizeof(int32_t):
            raise ValueError("the snapshot does not say which ids were seen")
        count = <const int32_t *><const char *><bytes>counts
        for s in range(symbols):
            if count[s] < 0:
                raise ValueError(f"the snapshot has {count[s]} ids of symbol {s}")
            total += count[s]
        if total * <int64_t>sizeof(Key) != len(keys) or total > self.most + symbols * self.least:
            raise ValueError(f"the snapshot has {len(keys)} bytes of ids where it says {total}")
        saved = <const Key *><const char *><bytes>keys
        if symbols:
            made.grow_symbols(symbols)
        for s in range(symbols):
            for i in range(count[s]):
                if not saved.digest.low & 1 or holds(&made.symbols[s], saved.digest, saved.time_ns):
                    raise ValueError(f"the snapshot has an id of symbol {s} twice, or one that is none")
                made.begin_message()
                made.append(<int32_t>s, saved.digest, saved.time_ns)
                if made.symbols[s].newest_ns < saved.time_ns <= LATEST_NS:
                    made.symbols[s].newest_ns = saved.time_ns
                saved += 1
        self.swap(made)

    cdef void swap(self, RecentKeys other) noexcept:
        self.symbols, other.symbols = other.symbols, self.symbols
        self.symbol_count, other.symbol_count = other.symbol_count, self.symbol_count
        self.count, other.count = other.count, self.count
        self.taken_count = 0
