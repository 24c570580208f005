"""TradeScanner: raw messages in, rows of a TickBatch out; what it does not take is left to Python.

The scanning itself is in scan.h (any key order) and layout.h (the last message's shape), after the plan that plan.pyx makes
of the exchange's declaration; here trades get their symbol's id and scales.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int8_t, int64_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memchr, memcmp, memcpy

from fastbars.kernel.batch cimport TickBatch, begin, scale_of, write_row
from fastbars.kernel.instruments cimport Instruments, Scale
from fastbars.kernel.recent cimport RecentKeys
from fastbars.wire.plan cimport ScanPlan, fb_plan, fb_rescale, fb_row, fb_scan, fb_strip

import orjson

from fastbars.errors import FastbarsError

_MOST_SPELLINGS = 1_000_000


cdef inline bint keeps_rules(const fb_row *row, bint by_id) noexcept:
    # A price and a size; or, where trades have ids, size 0, which makes the id void. Else Python says what is wrong.
    return not ((row.price == 0) & (row.size != 0)) and not ((row.size == 0) & (not by_id))


cdef inline int64_t sequence_of(const fb_plan *plan, const fb_row *row, int64_t first_id) noexcept:
    # The number of the message, of the trade, or, where neither has one, its id.
    if not plan.has_sequence:
        return first_id
    return plan.message.sequence if plan.sequence_of_message else row.sequence


@cython.final
cdef class Spellings:
    # A symbol's bytes as they stand in messages -> its id.
    def __dealloc__(self):
        free(self.table)

    def __cinit__(self, ScanPlan plan not None, Instruments instruments not None, new_symbol):
        self.plan = plan
        self.instruments = instruments
        self.new_symbol = new_symbol
        self.texts = []
        self.hashes = []
        self.grow(64)

    cdef inline int find(self, const fb_row *row) noexcept:
        # The id of a symbol met before in this spelling; -1: it was not.
        cdef uint64_t place = row.symbol_hash & <uint64_t>(self.places - 1)
        cdef const Spelling *own
        while True:
            own = &self.table[place]
            if ((own.length ^ row.symbol_length) | (own.words[0] ^ row.symbol_words[0])
                    | (own.words[1] ^ row.symbol_words[1])) == 0:
                if own.length <= 16 or memcmp(own.text, row.symbol, own.length) == 0:
                    return own.symbol_id
            if own.symbol_id < 0:
                return -1
            place = (place + 1) & <uint64_t>(self.places - 1)

    cdef int add(self, const fb_row *row) except -1:
        # A symbol never met in this spelling: Python knows what it is.
        cdef bytes text = row.symbol[: row.symbol_length]
        cdef int symbol_id
        cdef uint64_t place
        self.asking = True
        try:
            symbol_id = self.new_symbol(orjson.loads(b'"' + text + b'"'))
        finally:
            self.asking = False
        if not 0 <= symbol_id < self.instruments.count:
            raise IndexError(f"symbol id {symbol_id} is outside the {self.instruments.count} of the batch")
        if len(self.texts) >= _MOST_SPELLINGS:
            return symbol_id
        if 4 * len(self.texts) > self.places:
            self.grow(4 * self.places)
        self.texts.append(text)
        place = row.symbol_hash & <uint64_t>(self.places - 1)
        while self.table[place].symbol_id >= 0:
            place = (place + 1) & <uint64_t>(self.places - 1)
        self.table[place] = Spelling(
            row.symbol_words, <const uint8_t *>PyBytes_AS_STRING(text), row.symbol_length, symbol_id
        )
        self.hashes.append(row.symbol_hash)
        return symbol_id

    cdef int forget(self, set ids) except -1:
        # By their spellings in messages; the ids themselves stay the instruments'.
        cdef set gone = set()
        cdef Py_ssize_t i
        cdef list texts = [], hashes = []
        for i in range(self.places):
            if self.table[i].symbol_id >= 0 and self.table[i].symbol_id in ids:
                gone.add(<size_t>self.table[i].text)
                self.table[i].symbol_id = -1
                self.table[i].length = 0  # nothing of the text is read any more
                self.table[i].words[0] = self.table[i].words[1] = 0
        if not gone:
            return 0
        kept = self.texts  # until the table holds none of its texts
        for text, spelled in zip(self.texts, self.hashes):
            if <size_t>PyBytes_AS_STRING(text) not in gone:
                texts.append(text)
                hashes.append(spelled)
        self.texts, self.hashes = texts, hashes
        self.grow(self.places)
        del kept
        return 0

    cdef int grow(self, Py_ssize_t places) except -1:
        cdef Spelling *old = self.table
        cdef Spelling *table = <Spelling *>calloc(places, sizeof(Spelling))
        cdef Py_ssize_t i
        cdef uint64_t place
        if table is NULL:
            raise MemoryError
        for i in range(places):
            table[i].symbol_id = -1
        old_places = {}
        for i in range(self.places):
            if old[i].symbol_id >= 0:
                old_places[<size_t>old[i].text] = i
        for text, spelled in zip(self.texts, self.hashes):
            i = old_places[<size_t>PyBytes_AS_STRING(text)]
            place = <uint64_t>spelled & <uint64_t>(places - 1)
            while table[place].symbol_id >= 0:
                place = (place + 1) & <uint64_t>(places - 1)
            table[place] = old[i]
        free(old)
        self.table = table
        self.places = places
        self.plan.c.places = table
        self.plan.c.place_mask = <uint64_t>(places - 1)
        self.plan.c.place_size = sizeof(Spelling)
        return 0


@cython.final
cdef class TradeScanner:
    def __cinit__(self, fields, TickBatch batch not None, new_symbol, RecentKeys recent=None, *,
                  bint remembers=True):
        self.plan = ScanPlan(fields, remembers=remembers)
        self.needs_commit = self.plan.has_key or self.plan.derives_first_id
        self.batch = batch
        self.recent = RecentKeys() if recent is None and self.plan.has_key else recent
        self.spellings = Spellings(self.plan, batch.instruments, new_symbol)

    def scan(self, bytes payload not None):
        cdef const uint8_t *text = <const uint8_t *>PyBytes_AS_STRING(payload)
        cdef const uint8_t *end = text + PyBytes_GET_SIZE(payload)
        return self.take(text, end, end) == 1

    def forget(self, symbol_ids):
        self.spellings.forget(set(symbol_ids))

    def take_counts(self):
        counts = self.message_count, self.byte_count, self.trade_count
        self.message_count = self.byte_count = self.trade_count = 0
        return counts

    @property
    def learnt_count(self):
        return self.plan.c.learnt

    def take_event_time(self):
        if not self.has_event:
            return None
        self.has_event = False
        return self.event_ns

    cdef int take(self, const uint8_t *payload, const uint8_t *end, const uint8_t *limit) except -1:
        # 1: its trades are in the batch. 0: Python must read it, and nothing was changed.
        if self.spellings.asking:
            raise RuntimeError("the scanner is busy: new_symbol has given it another message")
        if self.batch.folding:
            self.batch.check_unused()
        if not fb_scan(self.plan.c, payload, end, limit):
            if self.plan.c.no_memory:
                raise MemoryError
            return 0
        if not self.commit_one() and not self.commit():
            return 0
        self.message_count += 1
        self.byte_count += end - payload
        return 1

    cdef bint commit_one(self) noexcept:
        # The ordinary message: one trade, of a known symbol, with ids that are numbers or none. False: `commit` it.
        cdef fb_plan *plan = self.plan.c
        cdef const fb_row *row = plan.rows
        cdef const fb_row *symbol = &plan.message if plan.symbol_of_message else row
        cdef TickBatch batch = self.batch
        cdef Py_ssize_t at = batch.length
        cdef int64_t count = 1, last_id, price, size
        cdef int symbol_id
        cdef Scale own
        if (plan.row_count != 1 or self.needs_commit or row.skipped or at >= batch.capacity or row.first_id < 0):
            return False
        if at == 0:
            begin(batch)
        elif batch.version != batch.instruments.version:
            return False
        last_id = row.last_id if plan.has_last_id else row.first_id
        if plan.has_count:
            count = row.count
        elif plan.has_ids:
            count = last_id - row.first_id + 1
        symbol_id = self.spellings.find(symbol)
        if symbol_id < 0 or count < 1 or (batch.count is NULL and count != 1) or (
            batch.first_id is not NULL and not plan.has_ids
        ):
            return False
        own = scale_of(batch, symbol_id)
        size = row.size
        if not keeps_rules(row, batch.first_id is not NULL):
            return False
        # The price of a void row means nothing. No branch: which rows are void is unpredictable.
        price = row.price if size else 0
        if not (fb_rescale(&price, row.price_decimals if size else own.price, own.price)
                and fb_rescale(&size, row.size_decimals if size else own.size, own.size)):
            return False
        batch.instruments.table[symbol_id].traded = True
        write_row(
            batch, at, symbol_id, row.time_ns, price, size, row.side, row.first_id, last_id, count,
            0 if batch.sequence is NULL else sequence_of(plan, row, row.first_id))
        self.first_row = at
        self.trade_count += 1
        if plan.has_event or plan.event_time_of_trade:
            self.has_event = True
            self.event_ns = plan.event_ns if plan.has_event else row.time_ns
        return True

    cdef int commit(self) except -1:
        cdef fb_plan *plan = self.plan.c
        cdef TickBatch batch = self.batch
        cdef Instruments instruments = batch.instruments
        cdef Py_ssize_t first_row = batch.length, at = first_row
        cdef int64_t count, first_id, last_id, price, size, event_ns = 0, previous_id = 0
        cdef int k, n = plan.row_count, symbol_id
        cdef const fb_row *row
        cdef const fb_row *symbol
        cdef Py_ssize_t known = 0
        cdef bint any_row = False
        cdef Scale own
        self.first_row = first_row
        if self.plan.has_key:
            self.recent.begin_message()
        if batch.first_id is not NULL and not plan.has_ids:
            return 0
        if at == 0:
            begin(batch)
        elif batch.version != instruments.version:
            batch.catch_up()
        if at + n > batch.capacity:
            batch._reserve(at + n)
        for k in range(n):
            row = &plan.rows[n - 1 - k if plan.newest_first else k]
            if row.skipped:
                continue
            symbol = &plan.message if plan.symbol_of_message else row
            if self.plan.has_key:
                # Python puts a message's trades in time order, and reads escapes: see below.
                if any_row and row.time_ns < event_ns:
                    break
            first_id = row.first_id
            last_id = row.last_id if plan.has_last_id else first_id
            if plan.has_count:
                count = row.count
                if self.plan.derives_first_id:
                    first_id = last_id - count + 1
            else:
                count = last_id - first_id + 1 if plan.has_ids else 1
            if first_id < previous_id:
                break
            previous_id = first_id
            if count < 1 or (batch.count is NULL and count != 1) or not keeps_rules(row, batch.first_id is not NULL):
                break
            symbol_id = self.spellings.find(symbol)
            if self.plan.has_key:
                if symbol_id < 0:
                    if memchr(symbol.symbol, b'\\', symbol.symbol_length) is not NULL:
                        break   # so that no spelling with an escape is ever known here
                    symbol_id = self.spell(symbol)
                    if symbol_id < 0:
                        break
                if not self.recent.take(symbol_id, row.time_ns, row.key, row.key_length):
                    known += 1
                    any_row = True
                    event_ns = row.time_ns
                    continue
            price = row.price if row.size else 0
            size = row.size
            if symbol_id >= 0:
                own = scale_of(batch, symbol_id)
            if symbol_id < 0 or not (
                fb_rescale(&price, row.price_decimals if size else 0, own.price)
                and fb_rescale(&size, row.size_decimals, own.size)
            ):
                symbol_id = self.fit(symbol, row, &price, &size)
                if symbol_id < 0:
                    break  # Python refuses that one trade, and says why
            instruments.table[symbol_id].traded = True
            write_row(
                batch, at, symbol_id, row.time_ns, price, size, row.side, first_id, last_id, count,
                0 if batch.sequence is NULL else sequence_of(plan, row, first_id))
            if not any_row or row.time_ns > event_ns:
                event_ns = row.time_ns
            any_row = True
            at += 1
        else:
            if any_row:
                self.trade_count += at - first_row
                self.duplicate_count += known
                if plan.has_event or plan.event_time_of_trade:
                    self.has_event = True
                    self.event_ns = plan.event_ns if plan.has_event else event_ns
                return 1
        if self.plan.has_key:
            self.recent.take_back()
        batch.length = first_row
        return 0

    cdef int fit(self, const fb_row *symbol, const fb_row *row, int64_t *price, int64_t *size) except? -1:
        # The rare case: a new symbol, or more decimals than it had. -1 without an error: Python must refuse the trade.
        cdef int symbol_id = self.spellings.find(symbol), price_scale = row.price_decimals, size_scale = row.size_decimals
        price[0] = row.price if row.size else 0
        size[0] = row.size
        fb_strip(price, &price_scale)
        fb_strip(size, &size_scale)
        if symbol_id < 0:
            symbol_id = self.spell(symbol)
            if symbol_id < 0:
                return -1
        if not self.batch.bring(symbol_id, price, size, Scale(<int8_t>price_scale, <int8_t>size_scale)):
            return -1
        return symbol_id

    cdef int spell(self, const fb_row *symbol) except? -1:
        # The id of a symbol that is new in this spelling; -1 without an error: Python must say what is wrong with it.
        cdef int symbol_id
        try:
            symbol_id = self.spellings.add(symbol)
        except FastbarsError:
            return -1
        if self.batch.version != self.batch.instruments.version:
            self.batch.catch_up()
        return symbol_id
