"""ScanPlan: the declaration of an exchange's trade messages as the tables that the scanner follows."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport int8_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

_ROLES = {
    "symbol": FB_SYMBOL, "price": FB_PRICE, "size": FB_SIZE, "time": FB_TRADE_TIME, "first_id": FB_FIRST_ID,
    "last_id": FB_LAST_ID, "trade_count": FB_COUNT, "sequence": FB_SEQUENCE, "side": FB_SIDE,
    "event_time": FB_EVENT_TIME, "key": FB_UNIQUE,
}
_UNITS = ("ms", "us", "ns", "ms or us", "s", "rfc3339")  # numbered as in text.h


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


@cython.final
cdef class ScanPlan:
    def __dealloc__(self):
        if self.c is not NULL:
            free(self.c.rows)
            free(self.c.copy)
        free(self.c)

    def __cinit__(self, fields, *, bint remembers=True):
        cdef fb_plan *plan = <fb_plan *>calloc(1, sizeof(fb_plan))
        if plan is NULL:
            raise MemoryError
        self.c = plan
        self.has_key = fields.key is not None
        self.derives_first_id = fields.has_ids and fields.first_id is None
        plan.json_numbers = fields.json_numbers
        plan.integers_in_text = fields.integers_in_text
        plan.newest_first = fields.newest_first
        plan.symbol_of_message = not isinstance(fields.symbol, str)
        plan.sequence_of_message = fields.sequence is not None and not isinstance(fields.sequence, str)
        plan.has_ids = fields.has_ids
        plan.has_last_id = fields.last_id is not None
        plan.has_count = fields.trade_count is not None
        plan.has_sequence = fields.sequence is not None
        plan.event_time_of_trade = fields.event_time == fields.time
        root = _tree(fields)
        # With values deeper than the trade itself a layout could not tell whose they are.
        plan.remembers = remembers and not (root.is_trade and any(isinstance(k, _Node) for k in root.keys.values()))
        if fields.envelope is None:
            self.lay(root, None, None)
            return
        if fields.envelope in root.keys:
            raise ValueError(f"{fields.envelope!r} is declared as envelope and as a key within")
        outer = _Node()
        outer.__dict__.update(root.__dict__, keys=dict(root.keys))
        self.lay(outer, fields.envelope, root)

    cdef int lay(self, node, envelope, inner) except -1:
        # Turns a node and all below it into fb_nodes; returns its index.
        cdef fb_plan *plan = self.c
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
                self.add_key(index, name, FB_CHILD, 0, (), self.lay(key, None, None))
            else:
                role, unit, literals = key
                self.add_key(index, name, role, unit, literals, 0)
            if name in required:
                own.required |= <uint32_t>1 << (own.key_count - 1)
        if envelope is not None:
            self.add_key(index, envelope, FB_ENVELOPE, 0, (), self.lay(inner, None, None))
        return index

    cdef int add_key(self, int index, str name, int role, int unit, literals, int child) except -1:
        cdef fb_plan *plan = self.c
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
            self.add_literal(literal, side)
        key.literal_count = plan.literal_count - key.literals
        place = fb_bucket(key.word, <unsigned>length)
        while node.buckets[place]:
            place = (place + 1) & 63
        node.key_count += 1
        node.buckets[place] = node.key_count
        return 0

    cdef int add_literal(self, literal, int8_t side) except -1:
        cdef fb_plan *plan = self.c
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
        return 0
