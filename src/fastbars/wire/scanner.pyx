"""TradeScanner: raw messages in, rows of a TickBatch out; what it does not take is left to Python.

The scanning itself is in scan.h (any key order) and layout.h (the last message's shape); here the declaration of the
exchange becomes their plan, and trades get their symbol's id and scales.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memchr, memcmp, memcpy

from fastbars.kernel.batch cimport TickBatch
from fastbars.kernel.instruments cimport Instrument, Instruments
from fastbars.kernel.recent cimport RecentKeys
from fastbars.kernel.scaled cimport HIGHEST

import orjson

from fastbars.errors import FastbarsError
from fastbars.kernel.scaled import to_text

_ROLES = {
    "symbol": FB_SYMBOL, "price": FB_PRICE, "size": FB_SIZE, "time": FB_TRADE_TIME, "first_id": FB_FIRST_ID,
    "last_id": FB_LAST_ID, "trade_count": FB_COUNT, "sequence": FB_SEQUENCE, "side": FB_SIDE,
    "event_time": FB_EVENT_TIME, "key": FB_UNIQUE,
}
_UNITS = ("ms", "us", "ns", "ms or us", "s", "rfc3339")  # numbered as in text.h
_MOST_SPELLINGS = 1_000_000


class _Node:
    # An object of a message, before it becomes a fb_node: name -> (role, unit, literals) or _Node.
    def __init__(self):
        self.keys = {}
        self.is_trade = False
        self.optional = set()

    def child(self, path):
        node = self
        for name in path:
            below = node.keys.setdefault(name, _Node())
            if not isinstance(below, _Node):
                raise ValueError(f"{name!r} of {path} is declared as a value and as an object")
            node = below
        return node

    def add(self, name, role, unit=0, literals=(), optional=False):
        if name in self.keys:
            raise ValueError(f"{name!r} is declared twice")
        self.keys[name] = (role, unit, literals)
        if optional:
            self.optional.add(name)

    @property
    def on_path(self):
        return self.is_trade or any(isinstance(key, _Node) and key.on_path for key in self.keys.values())

    @property
    def required(self):
        return {name for name, key in self.keys.items()
                if (key.on_path or key.required if isinstance(key, _Node) else name not in self.optional)}


def _alternatives(literals):
    return literals if isinstance(literals, tuple) else (literals,)


def _tree(fields):
    root = _Node()
    trade = root.child(fields.trades)
    trade.is_trade = True

    def place(key):
        if isinstance(key, str):
            return trade, key
        *above, last = key
        return root.child(above), last

    for name, role in _ROLES.items():
        key = getattr(fields, name)
        if key is None or (name == "event_time" and key == fields.time):
            continue
        node, last = place(key)
        unit = _UNITS.index(fields.time_unit if name == "time" else fields.event_time_unit)
        literals = [(fields.buy, 1), (fields.sell, -1)] if name == "side" else ()
        node.add(last, role, unit, literals, optional=name == "event_time")
    for key, literals in fields.match.items():
        node, last = place(key)
        node.add(last, FB_MATCH, literals=[(literal, 0) for literal in _alternatives(literals)])
    for key, literals in fields.skip.items():
        trade.add(key, FB_SKIP, literals=[(literal, 0) for literal in _alternatives(literals)], optional=True)
    return root


cdef inline bint keeps_rules(const fb_row *row, bint by_id) noexcept:
    # A price and a size; or, where ids tell, no size, which leaves the id void. Else Python says what is wrong.
    return not ((row.price == 0) & (row.size != 0)) and not ((row.size == 0) & (not by_id))


@cython.final
cdef class TradeScanner:
    def __dealloc__(self):
        if self.plan is not NULL:
            free(self.plan.rows)
        free(self.plan)
        free(self.table)

    def __cinit__(self, fields, TickBatch batch not None, new_symbol, RecentKeys recent=None, *,
                  bint remembers=True):
        cdef fb_plan *plan = <fb_plan *>calloc(1, sizeof(fb_plan))
        if plan is NULL:
            raise MemoryError
        self.plan = plan
        self.batch = batch
        self._new_symbol = new_symbol
        self.has_key = fields.key is not None
        self.recent = RecentKeys() if recent is None and self.has_key else recent
        self._spellings = []
        self._hashes = []
        self._grow(64)
        plan.json_numbers = fields.json_numbers
        plan.integers_in_text = fields.integers_in_text
        plan.newest_first = fields.newest_first
        plan.symbol_of_message = not isinstance(fields.symbol, str)
        plan.sequence_of_message = fields.sequence is not None and not isinstance(fields.sequence, str)
        plan.has_ids = fields.has_ids
        self.derives_first_id = fields.has_ids and fields.first_id is None
        self.needs_commit = self.has_key or self.derives_first_id
        plan.has_last_id = fields.last_id is not None
        plan.has_count = fields.trade_count is not None
        plan.has_sequence = fields.sequence is not None
        plan.event_time_of_trade = fields.event_time == fields.time
        root = _tree(fields)
        # With values deeper than the trade itself a layout could not tell whose they are.
        plan.remembers = remembers and not (root.is_trade and any(isinstance(k, _Node) for k in root.keys.values()))
        if fields.envelope is None:
            self._lay(root)
            return
        if fields.envelope in root.keys:
            raise ValueError(f"{fields.envelope!r} is declared as envelope and as a key within")
        outer = _Node()
        outer.__dict__.update(root.__dict__, keys=dict(root.keys))
        self._lay(outer, fields.envelope, root)

    def _lay(self, node, envelope=None, inner=None):
        # Turns a node and all below it into fb_nodes; returns its index.
        cdef fb_plan *plan = self.plan
        cdef int index = plan.node_count
        cdef fb_node *own = &plan.nodes[index]
        if index == FB_MOST_NODES:
            raise ValueError(f"more than {FB_MOST_NODES} objects are declared")
        if len(node.keys) >= FB_MOST_KEYS:
            raise ValueError(f"an object has {len(node.keys)} declared keys, the limit is {FB_MOST_KEYS - 1}")
        plan.node_count += 1
        own.is_trade = node.is_trade
        own.on_path = node.on_path
        required = node.required
        for name, key in node.keys.items():
            if isinstance(key, _Node):
                self._add_key(index, name, FB_CHILD, child=self._lay(key))
            else:
                role, unit, literals = key
                self._add_key(index, name, role, unit, literals)
            if name in required:
                own.required |= <uint32_t>1 << (own.key_count - 1)
        if envelope is not None:
            self._add_key(index, envelope, FB_ENVELOPE, child=self._lay(inner))
        return index

    def _add_key(self, int index, str name, int role, int unit=0, literals=(), int child=0):
        cdef fb_plan *plan = self.plan
        cdef fb_node *node = &plan.nodes[index]
        cdef fb_key *key = &node.keys[node.key_count]
        cdef bytes encoded = name.encode()
        cdef Py_ssize_t length = len(encoded)
        cdef unsigned place
        cdef int byte
        if not 0 < length <= FB_KEY_SIZE or not encoded.isascii() or b'"' in encoded or b"\\" in encoded:
            raise ValueError(f"the name {name!r} is not ASCII of 1 to {FB_KEY_SIZE} bytes without escapes")
        memcpy(key.name, PyBytes_AS_STRING(encoded), length)
        for byte in range(<int>min(length, 8)):
            key.word |= <uint64_t>key.name[byte] << (8 * byte)
        key.length = <uint8_t>length
        key.role = <uint8_t>role
        key.unit = <uint8_t>unit
        key.child = <uint8_t>child
        key.literals = plan.literal_count
        for literal, side in literals:
            self._add_literal(literal, side)
        key.literal_count = plan.literal_count - key.literals
        place = fb_bucket(key.word, <unsigned>length)
        while node.buckets[place]:
            place = (place + 1) & 63
        node.key_count += 1
        node.buckets[place] = node.key_count

    def _add_literal(self, literal, int8_t side):
        cdef fb_plan *plan = self.plan
        cdef fb_literal *own = &plan.literals[plan.literal_count]
        cdef bytes text
        cdef int byte
        if plan.literal_count == FB_MOST_LITERALS:
            raise ValueError(f"more than {FB_MOST_LITERALS} literals are declared")
        if isinstance(literal, bool):
            own.kind = FB_TRUE if literal else FB_FALSE
            text = b"true" if literal else b"false"
        else:
            own.kind = FB_PREFIX if literal.endswith("*") else FB_TEXT
            text = literal.rstrip("*").encode()
        if len(text) > FB_LITERAL_SIZE:
            raise ValueError(f"the literal {literal!r} is longer than {FB_LITERAL_SIZE} bytes")
        memcpy(own.text, PyBytes_AS_STRING(text), len(text))
        for byte in range(<int>min(len(text), 8)):
            own.word |= <uint64_t>own.text[byte] << (8 * byte)
        own.length = <uint8_t>len(text)
        own.side = side
        plan.literal_count += 1

    def scan(self, bytes payload not None):
        cdef const uint8_t *text = <const uint8_t *>PyBytes_AS_STRING(payload)
        cdef const uint8_t *end = text + PyBytes_GET_SIZE(payload)
        return self.take(text, end, end) == 1

    def forget(self, symbol_ids):
        # By their spellings in messages; the ids themselves stay the instruments'.
        cdef set ids = set(symbol_ids)
        cdef set gone = set()
        cdef Py_ssize_t i
        cdef list spellings = [], hashes = []
        for i in range(self.places):
            if self.table[i].symbol_id >= 0 and self.table[i].symbol_id in ids:
                gone.add(<size_t>self.table[i].text)
                self.table[i].symbol_id = -1
                self.table[i].length = 0  # nothing of the text is read any more
                self.table[i].words[0] = self.table[i].words[1] = 0
        if not gone:
            return
        kept = self._spellings  # until the table holds none of its texts
        for text, spelled in zip(self._spellings, self._hashes):
            if <size_t>PyBytes_AS_STRING(text) not in gone:
                spellings.append(text)
                hashes.append(spelled)
        self._spellings, self._hashes = spellings, hashes
        self._grow(self.places)
        del kept

    def take_counts(self):
        counts = self.message_count, self.byte_count, self.trade_count
        self.message_count = self.byte_count = self.trade_count = 0
        return counts

    def take_event_time(self):
        if not self.has_event:
            return None
        self.has_event = False
        return self.event_ns

    cdef int take(self, const uint8_t *payload, const uint8_t *end, const uint8_t *limit) except -1:
        # 1: its trades are in the batch. 0: it is Python's, and left no trace.
        if self.scanning:
            raise RuntimeError("the scanner is at work: what it asked for a symbol gave it another message")
        if self.batch.folding:
            self.batch.check_unused()
        if not fb_scan(self.plan, payload, end, limit):
            if self.plan.no_memory:
                raise MemoryError
            return 0
        if not self.commit_one() and not self.commit():
            return 0
        self.message_count += 1
        self.byte_count += end - payload
        return 1

    cdef bint commit_one(self) noexcept:
        # The ordinary message: one trade, of a known symbol, with ids that are numbers or none. False: `commit` it.
        cdef fb_plan *plan = self.plan
        cdef const fb_row *row = plan.rows
        cdef const fb_row *symbol = &plan.message if plan.symbol_of_message else row
        cdef TickBatch batch = self.batch
        cdef Py_ssize_t at = batch.length
        cdef int64_t count = 1, last_id, price, size
        cdef int64_t *first_ids
        cdef int64_t *last_ids
        cdef int64_t *counts
        cdef int64_t *sequences
        cdef int8_t *sides
        cdef int symbol_id
        cdef Instrument *own
        if (plan.row_count != 1 or self.needs_commit or row.skipped or at == 0 or at >= batch.capacity
                or batch.rescaled != batch.instruments.rescaled or row.first_id < 0):
            return False
        last_id = row.last_id if plan.has_last_id else row.first_id
        if plan.has_count:
            count = row.count
        elif plan.has_ids:
            count = last_id - row.first_id + 1
        first_ids = batch.first_id
        last_ids = batch.last_id
        counts = batch.count
        sequences = batch.sequence
        sides = batch.side
        symbol_id = self.find(symbol)
        if symbol_id < 0 or count < 1 or (counts is NULL and count != 1) or (first_ids is not NULL and not plan.has_ids):
            return False
        own = &batch.instruments.table[symbol_id]
        size = row.size
        if not keeps_rules(row, first_ids is not NULL):
            return False
        # Of a void row the price means nothing. No branch: which rows are void cannot be guessed.
        price = row.price if size else 0
        if not (fb_rescale(&price, row.price_decimals if size else own.price_scale, own.price_scale)
                and fb_rescale(&size, row.size_decimals if size else own.size_scale, own.size_scale)):
            return False
        own.max_price = max(price, own.max_price)
        own.max_size = max(size, own.max_size)
        batch.time_ns[at] = row.time_ns
        batch.symbol_id[at] = symbol_id
        batch.price[at] = price
        batch.size[at] = size
        if sides is not NULL:
            sides[at] = row.side
        if first_ids is not NULL:
            first_ids[at] = row.first_id
            last_ids[at] = last_id
        if counts is not NULL:
            counts[at] = count
        if sequences is not NULL:
            if not plan.has_sequence:
                sequences[at] = row.first_id
            else:
                sequences[at] = plan.message.sequence if plan.sequence_of_message else row.sequence
        batch.length = at + 1
        self.first_row = at
        self.trade_count += 1
        if plan.has_event or plan.event_time_of_trade:
            self.has_event = True
            self.event_ns = plan.event_ns if plan.has_event else row.time_ns
        return True

    cdef int commit(self) except -1:
        cdef fb_plan *plan = self.plan
        cdef TickBatch batch = self.batch
        cdef Instruments instruments = batch.instruments
        cdef Py_ssize_t first_row = batch.length, at = first_row
        cdef int64_t count, first_id, last_id, price, size, event_ns = 0, previous_id = 0
        cdef int k, n = plan.row_count, symbol_id
        cdef const fb_row *row
        cdef const fb_row *symbol
        cdef Py_ssize_t known = 0, remembered = 0
        cdef bint any_row = False
        cdef Instrument *own
        self.first_row = first_row
        if batch.first_id is not NULL and not plan.has_ids:
            return 0
        if at == 0:
            batch.rescaled = instruments.rescaled
        elif batch.rescaled != instruments.rescaled:
            return 0
        if at + n > batch.capacity:
            batch._reserve(at + n)
        for k in range(n):
            row = &plan.rows[n - 1 - k if plan.newest_first else k]
            if row.skipped:
                continue
            symbol = &plan.message if plan.symbol_of_message else row
            if self.has_key:
                # Python puts a message's trades in time order, and reads escapes.
                if any_row and row.time_ns < event_ns:
                    break
                if memchr(symbol.symbol, b'\\', symbol.symbol_length) is not NULL:
                    break
            first_id = row.first_id
            last_id = row.last_id if plan.has_last_id else first_id
            if plan.has_count:
                count = row.count
                if self.derives_first_id:
                    first_id = last_id - count + 1
            else:
                count = last_id - first_id + 1 if plan.has_ids else 1
            if first_id < previous_id:
                break
            previous_id = first_id
            if count < 1 or (batch.count is NULL and count != 1) or not keeps_rules(row, batch.first_id is not NULL):
                break
            if self.has_key:
                if not self.recent.take(symbol.symbol, symbol.symbol_length, row.time_ns, row.key,
                                        row.key_length):
                    known += 1
                    any_row = True
                    event_ns = row.time_ns
                    continue
                remembered += 1
            symbol_id = self.find(symbol)
            price = row.price if row.size else 0
            size = row.size
            if symbol_id < 0 or not (
                fb_rescale(&price, row.price_decimals if size else 0, instruments.table[symbol_id].price_scale)
                and fb_rescale(&size, row.size_decimals, instruments.table[symbol_id].size_scale)
            ):
                symbol_id = self.fit(symbol, row, &price, &size)
                if symbol_id < 0:
                    break  # Python refuses that one trade, and says why
            own = &instruments.table[symbol_id]
            if price > own.max_price:
                own.max_price = price
            if size > own.max_size:
                own.max_size = size
            batch.time_ns[at] = row.time_ns
            batch.symbol_id[at] = symbol_id
            batch.price[at] = price
            batch.size[at] = size
            if batch.side is not NULL:
                batch.side[at] = row.side
            if batch.first_id is not NULL:
                batch.first_id[at] = first_id
                batch.last_id[at] = last_id
            if batch.count is not NULL:
                batch.count[at] = count
            if batch.sequence is not NULL:
                if not plan.has_sequence:
                    batch.sequence[at] = first_id
                else:
                    batch.sequence[at] = plan.message.sequence if plan.sequence_of_message else row.sequence
            if not any_row or row.time_ns > event_ns:
                event_ns = row.time_ns
            any_row = True
            at += 1
            batch.length = at
        else:
            if any_row:
                self.trade_count += at - first_row
                self.duplicate_count += known
                if plan.has_event or plan.event_time_of_trade:
                    self.has_event = True
                    self.event_ns = plan.event_ns if plan.has_event else event_ns
                return 1
        if self.has_key:
            self.recent.take_back(remembered)
        batch.length = first_row
        return 0

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

    cdef int fit(self, const fb_row *symbol, const fb_row *row, int64_t *price, int64_t *size) except? -1:
        # The rare way: a new symbol, or more decimals than it had. -1 without an error: Python must refuse the trade.
        cdef int symbol_id = self.find(symbol), price_scale = row.price_decimals, size_scale = row.size_decimals
        price[0] = row.price if row.size else 0
        size[0] = row.size
        fb_strip(price, &price_scale)
        fb_strip(size, &size_scale)
        price_text, size_text = to_text(price[0], price_scale), to_text(size[0], size_scale)
        try:
            if symbol_id < 0:
                symbol_id = self.spell(symbol)
            self.batch._fit(symbol_id, price, price_scale, size, size_scale, price_text, size_text)
        except FastbarsError:
            return -1
        return symbol_id

    cdef int spell(self, const fb_row *row) except -1:
        # A symbol never met in this spelling: Python knows what it is.
        cdef bytes text = row.symbol[: row.symbol_length]
        cdef int symbol_id
        cdef uint64_t place
        self.scanning = True
        try:
            symbol_id = self._new_symbol(orjson.loads(b'"' + text + b'"'))
        finally:
            self.scanning = False
        if not 0 <= symbol_id < self.batch.instruments.count:
            raise IndexError(f"symbol id {symbol_id} is outside the {self.batch.instruments.count} of the batch")
        if len(self._spellings) >= _MOST_SPELLINGS:
            return symbol_id
        if 4 * len(self._spellings) > self.places:
            self._grow(4 * self.places)
        self._spellings.append(text)
        place = row.symbol_hash & <uint64_t>(self.places - 1)
        while self.table[place].symbol_id >= 0:
            place = (place + 1) & <uint64_t>(self.places - 1)
        self.table[place] = Spelling(
            row.symbol_words, <const uint8_t *>PyBytes_AS_STRING(text), row.symbol_length, symbol_id
        )
        self._hashes.append(row.symbol_hash)
        return symbol_id

    cdef int _grow(self, Py_ssize_t places) except -1:
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
        for text, spelled in zip(self._spellings, self._hashes):
            i = old_places[<size_t>PyBytes_AS_STRING(text)]
            place = <uint64_t>spelled & <uint64_t>(places - 1)
            while table[place].symbol_id >= 0:
                place = (place + 1) & <uint64_t>(places - 1)
            table[place] = old[i]
        free(old)
        self.table = table
        self.places = places
        self.plan.places = table
        self.plan.place_mask = <uint64_t>(places - 1)
        self.plan.place_size = sizeof(Spelling)
        return 0
