"""RecentKeys: whether a trade was seen before, where its id is unique but no number that rises.

What an exchange sends again are the latest trades of a symbol: those that it replays when it is subscribed to or asked over
REST, and those of two connections that overlap. So keys are remembered symbol by symbol: the latest `least` ones of each,
however busy the others are, and beyond them those that are not older than `window_ns`, until there are `most` in all.

Units: keys; times int64 nanoseconds since the epoch, UTC.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy

from fastbars.kernel.limits cimport EARLIEST_NS, LATEST_NS, LONGEST_NS

cdef enum:
    LEAST_KEYS = 1024           # no exchange replays more: pages of 1,000 trades are the largest
    MOST_KEYS = 1 << 20
    MOST_SYMBOLS = 1 << 20

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
        uint64_t word;
        size_t left = length;
        for (; left >= 8; left -= 8, text += 8) {
            memcpy(&word, text, 8);
            fb_mix(high, low, word);
        }
        word = 0;
        memcpy(&word, text, left);
        fb_mix(high, low, word);
        fb_mix(high, low, length);
    }
    """
    void fb_mix(uint64_t *high, uint64_t *low, uint64_t word) nogil
    void fb_mix_text(uint64_t *high, uint64_t *low, const uint8_t *text, size_t length) nogil



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
        self.unused = -1

    def __dealloc__(self):
        free(self.table)
        free(self.keys)
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
        cdef Py_ssize_t place
        digest.high = 0x8EBC6AF09C88C6E3
        digest.low = 0x589965CC75374CC3
        fb_mix(&digest.high, &digest.low, <uint64_t>symbol_id)
        fb_mix(&digest.high, &digest.low, <uint64_t>time_ns)
        fb_mix_text(&digest.high, &digest.low, text, <size_t>length)
        digest.low |= 1  # never two zeros
        if 2 * (self.count + 1) > self.places:
            self.grow_table()
        place = self.find(digest)
        if self.table[place].low:
            return False
        if symbol_id >= self.symbol_count:
            self.grow_symbols(symbol_id + 1)
        own = &self.symbols[symbol_id]
        if own.newest_ns < time_ns <= LATEST_NS:
            own.newest_ns = time_ns
        if own.count >= self.least and self.is_over(own):
            while own.count >= self.least and self.is_over(own):
                self.forget(symbol_id, own.oldest)
            place = self.find(digest)
        self.table[place] = digest
        self.append(symbol_id, digest, time_ns)
        return True

    cdef bint is_over(self, const SymbolKeys *own) noexcept:
        # Whether a symbol that has its least number forgets its oldest key for a new one.
        cdef int64_t age_ns = own.newest_ns - max(EARLIEST_NS, min(self.keys[own.oldest].time_ns, LATEST_NS))
        return age_ns > self.window_ns or self.count >= self.most

    cdef int append(self, int32_t symbol_id, Digest digest, int64_t time_ns) except -1:
        # As the newest of its symbol; its digest is in the table.
        cdef SymbolKeys *own = &self.symbols[symbol_id]
        cdef int32_t k = self.unused
        cdef Py_ssize_t capacity
        cdef void *grown
        if k < 0 and self.used == self.capacity:
            capacity = max(<Py_ssize_t>64, 2 * self.capacity)
            grown = realloc(self.keys, capacity * sizeof(Key))
            if grown is NULL:
                self.remove(digest)
                raise MemoryError
            self.keys, self.capacity = <Key *>grown, capacity
        if self.taken_count == self.taken_capacity:
            capacity = max(<Py_ssize_t>64, 2 * self.taken_capacity)
            grown = realloc(self.taken, capacity * sizeof(Taken))
            if grown is NULL:
                self.remove(digest)
                raise MemoryError
            self.taken, self.taken_capacity = <Taken *>grown, capacity
        if k >= 0:
            self.unused = self.keys[k].newer
        else:
            k = <int32_t>self.used
            self.used += 1
        self.keys[k] = Key(digest, time_ns, own.newest, -1)
        if own.newest >= 0:
            self.keys[own.newest].newer = k
        else:
            own.oldest = k
        own.newest = k
        own.count += 1
        self.count += 1
        self.taken[self.taken_count] = Taken(digest, symbol_id, k)
        self.taken_count += 1
        return 0

    cdef void forget(self, int32_t symbol_id, int32_t k) noexcept:
        cdef SymbolKeys *own = &self.symbols[symbol_id]
        cdef Key *key = &self.keys[k]
        self.remove(key.digest)
        if key.older >= 0:
            self.keys[key.older].newer = key.newer
        else:
            own.oldest = key.newer
        if key.newer >= 0:
            self.keys[key.newer].older = key.older
        else:
            own.newest = key.older
        own.count -= 1
        self.count -= 1
        key.digest.low = 0
        key.newer = self.unused
        self.unused = k

    cdef void take_back(self) noexcept:
        # Forgets again what came in this message, which is not taken after all.
        cdef Taken *last
        while self.taken_count:
            self.taken_count -= 1
            last = &self.taken[self.taken_count]
            if self.keys[last.key].digest.low == last.digest.low and self.keys[last.key].digest.high == last.digest.high:
                self.forget(last.symbol_id, last.key)

    # The table: open addressing.

    cdef Py_ssize_t find(self, Digest digest) noexcept:
        # Where it is, or the empty place where it would be.
        cdef Py_ssize_t place = <Py_ssize_t>(digest.high & <uint64_t>(self.places - 1))
        while self.table[place].low and not (self.table[place].high == digest.high
                                             and self.table[place].low == digest.low):
            place = (place + 1) & (self.places - 1)
        return place

    cdef void remove(self, Digest digest) noexcept:
        # Those behind it move up, so that no search ends too early.
        cdef Py_ssize_t hole = self.find(digest), place = hole, home
        if not self.table[hole].low:
            return
        while True:
            place = (place + 1) & (self.places - 1)
            if not self.table[place].low:
                break
            home = <Py_ssize_t>(self.table[place].high & <uint64_t>(self.places - 1))
            if ((place - home) & (self.places - 1)) >= ((place - hole) & (self.places - 1)):
                self.table[hole] = self.table[place]
                hole = place
        self.table[hole].high = self.table[hole].low = 0

    cdef int grow_table(self) except -1:
        cdef Py_ssize_t places = 2 * self.places if self.places else 128, k
        cdef Digest *table = <Digest *>calloc(places, sizeof(Digest))
        if table is NULL:
            raise MemoryError
        free(self.table)
        self.table, self.places = table, places
        for k in range(self.used):
            if self.keys[k].digest.low:
                self.table[self.find(self.keys[k].digest)] = self.keys[k].digest
        return 0

    cdef int grow_symbols(self, Py_ssize_t count) except -1:
        cdef SymbolKeys *grown
        count = max(count, 2 * self.symbol_count)
        grown = <SymbolKeys *>realloc(self.symbols, count * sizeof(SymbolKeys))
        if grown is NULL:
            raise MemoryError
        self.symbols = grown
        while self.symbol_count < count:
            self.symbols[self.symbol_count] = SymbolKeys(EARLIEST_NS, -1, -1, 0)
            self.symbol_count += 1
        return 0

    # A snapshot, for another process of the same build.

    def dump(self, Py_ssize_t symbols):
        cdef Py_ssize_t s, at = 0, total = 0
        cdef int32_t k
        cdef int32_t *count
        cdef SavedKey *saved
        cdef bytes counts, keys
        _check_symbols(symbols)
        counts = PyBytes_FromStringAndSize(NULL, symbols * sizeof(int32_t))
        count = <int32_t *><char *>counts
        for s in range(symbols):
            count[s] = self.symbols[s].count if s < self.symbol_count else 0
            total += count[s]
        keys = PyBytes_FromStringAndSize(NULL, total * sizeof(SavedKey))
        saved = <SavedKey *><char *>keys
        for s in range(min(symbols, self.symbol_count)):
            k = self.symbols[s].oldest
            while k >= 0:
                saved[at] = SavedKey(self.keys[k].digest, self.keys[k].time_ns)
                at += 1
                k = self.keys[k].newer
        return {"key_counts": counts, "keys": keys}

    def load(self, parts not None, Py_ssize_t symbols):
        # Into a window of its own first: what is refused has changed nothing.
        cdef RecentKeys made = RecentKeys(self.least, self.most, self.window_ns)
        cdef const int32_t *count
        cdef const SavedKey *saved
        cdef Py_ssize_t s, i, place
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
        if total * <int64_t>sizeof(SavedKey) != len(keys) or total > self.most + symbols * self.least:
            raise ValueError(f"the snapshot has {len(keys)} bytes of ids where it says {total}")
        saved = <const SavedKey *><const char *><bytes>keys
        if symbols:
            made.grow_symbols(symbols)
        for s in range(symbols):
            for i in range(count[s]):
                if 2 * (made.count + 1) > made.places:
                    made.grow_table()
                place = made.find(saved.digest)
                if not saved.digest.low & 1 or made.table[place].low:
                    raise ValueError(f"the snapshot has an id of symbol {s} twice, or one that is none")
                made.begin_message()
                made.table[place] = saved.digest
                made.append(<int32_t>s, saved.digest, saved.time_ns)
                if made.symbols[s].newest_ns < saved.time_ns <= LATEST_NS:
                    made.symbols[s].newest_ns = saved.time_ns
                saved += 1
        self.swap(made)

    cdef void swap(self, RecentKeys other) noexcept:
        self.table, other.table = other.table, self.table
        self.keys, other.keys = other.keys, self.keys
        self.symbols, other.symbols = other.symbols, self.symbols
        self.places, other.places = other.places, self.places
        self.capacity, other.capacity = other.capacity, self.capacity
        self.used, other.used = other.used, self.used
        self.unused, other.unused = other.unused, self.unused
        self.symbol_count, other.symbol_count = other.symbol_count, self.symbol_count
        self.count, other.count = other.count, self.count
        self.taken_count = 0
