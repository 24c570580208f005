"""The compiled reader of CSV: bytes to columns, without an object or a float for a row.

Text is read where it lies in one buffer, up to the last newline; the line that is cut off there moves to the front, and the
next piece is written behind it. A field is read by a fast path for its usual form (`fields.h`), or else copied without
its quotes and read by `parse_text`, like any number of this library.

Units: times int64 ns since the epoch; prices and sizes at the scale of their block, the smallest that holds them.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memmove, memset

import numpy as np

from fastbars.archives.columns import TradeColumns
from fastbars.kernel.scaled cimport HIGHEST, MALFORMED, PARSED, POWER_OF_TEN, TOO_LARGE, ParseStatus, magnitude, parse_text

cdef extern from "fields.h" nogil:
    ctypedef struct fb_word_field:
        uint64_t text
        int length
        int sign
    enum:
        MOST_WORDS "FB_MOST_WORDS"
        AROUND "FB_AROUND"
    ctypedef struct fb_rows:
        const uint8_t *text
        const uint16_t *begins
        int columns
        int column
    int find_fields "fb_find_fields"(
        const uint8_t *text, int length, uint8_t separator, int columns, uint16_t *begins)
    bint side_field "fb_side_field"(
        const uint8_t *p, const uint8_t *end, fb_word_field *words, int count, int8_t *sign)
    int whole_column "fb_whole_column"(fb_rows rows, int count, int64_t *values)
    int time_column "fb_time_column"(
        fb_rows rows, int count, int64_t least, int64_t beyond, int64_t unit_ns, int64_t *values)
    int decimal_column "fb_decimal_column"(fb_rows rows, int count, int scale, int64_t *values)
    int side_column "fb_side_column"(fb_rows rows, int count, fb_word_field *words, int most, int8_t *values)
    int rfc3339 "fb_rfc3339"(const uint8_t **at, const uint8_t *end, int64_t *time_ns)

cdef enum:
    _BUFFER = 1 << 15
    _LONGEST_LINE = 1 << 14
    _TEXT = _LONGEST_LINE + _BUFFER + 1     # with a line that was cut off, and a newline
    _LONGEST_FIELD = 1024
    _MOST_COLUMNS = 64
    _LONGEST_STRETCH = 1 << 12    # rows that are read together
    _CACHED = 1024              # names of symbols, by a hash of their ends
    _MOST_SYMBOLS = 200_000
    _LONGEST_SYMBOL = 120       # in UTF-8

LONGEST_LINE = _LONGEST_LINE

cdef enum:                      # as `Role` in formats.py has them
    UNUSED, TIME, PRICE, SIZE, SIDE, TRADE_ID, FIRST_ID, LAST_ID, COUNT, SYMBOL

cdef enum Outcome:
    GOOD
    FULL                        # the block: no room, or none at the scale that a row needs
    NEW_SYMBOL
    BAD

cdef const char *NOT_PLAUSIBLE = "not plausible as a time in the unit that the file began with"

cdef struct Plan:
    int columns
    uint8_t roles[_MOST_COLUMNS]
    uint8_t separator
    int64_t unit_ns
    int64_t least               # of a time in that unit, and what is beyond the last
    int64_t most
    int64_t first_ns
    int64_t last_ns
    int words
    fb_word_field sides[MOST_WORDS]

cdef struct Number:             # a column of decimals
    int64_t *values
    int scale

cdef struct Target:             # the columns of a block
    bint widened                # by a row that it then had no room for
    Py_ssize_t rows
    Py_ssize_t room
    int64_t *time_ns
    int8_t *side
    int64_t *first_id
    int64_t *last_id
    int64_t *count
    int32_t *symbol
    Number price
    Number size

cdef struct Name:               # a symbol, where it was seen last
    uint32_t length
    int32_t id
    char text[_LONGEST_SYMBOL]

cdef struct Failure:
    int column
    const char *reason
    const uint8_t *field
    Py_ssize_t length

# What a field is made of that is not in its usual form.
cdef struct Field:
    Py_ssize_t length
    const uint8_t *behind
    uint8_t text[_LONGEST_FIELD + AROUND]


cdef const char *_odd_field(const uint8_t *p, uint8_t separator, Field *field) noexcept nogil:
    # A field without its quotes, and without spaces around it. Returns why it is none; NULL: it is one.
    cdef const uint8_t *end
    cdef Py_ssize_t start = 0
    field.length = 0
    if p[0] == b'"':
        p += 1
        while True:
            if p[0] == b'"':
                p += 1
                if p[0] != b'"':
                    break
            elif p[0] == b"\n":
                return "a line ends within quotes"
            if field.length == _LONGEST_FIELD:
                return "the field is too long"
            field.text[field.length] = p[0]
            field.length += 1
            p += 1
        field.behind = p
    else:
        end = p
        while end[0] != separator and end[0] != b"\n" and end[0] != b"\r":
            if end[0] == b'"':
                return "a quote within a field"
            end += 1
        if end - p > _LONGEST_FIELD:
            return "the field is too long"
        field.length = end - p
        memcpy(field.text, p, field.length)
        field.behind = end
    while field.length and (field.text[field.length - 1] == b" " or field.text[field.length - 1] == b"\t"):
        field.length -= 1
    while start < field.length and (field.text[start] == b" " or field.text[start] == b"\t"):
        start += 1
    field.length -= start
    memmove(field.text, field.text + start, field.length)
    return NULL


cdef const char *_number(const Field *field, int64_t *value, int *scale) noexcept nogil:
    cdef ParseStatus status = parse_text(<const char *>field.text, field.length, value, scale)
    if status == PARSED:
        return NULL
    if field.length == 0:
        return "it is empty"
    return ("not a finite decimal number" if status == MALFORMED else
            "it does not fit 64 bits" if status == TOO_LARGE else "it has more than 18 decimals")


cdef const char *_whole(const Field *field, int64_t *value) noexcept nogil:
    cdef int scale = 0
    cdef const char *reason = _number(field, value, &scale)
    if reason is NULL and scale:
        return "not a whole number"
    if reason is NULL and value[0] < 0:
        return "it is negative"
    return reason


cdef const char *_fraction(const Field *field, int64_t unit_ns, int64_t *time_ns) noexcept nogil:
    # A time with decimals, such as "1585180700.0647" s.
    cdef int64_t value = 0
    cdef int scale = 0
    cdef const char *reason = _number(field, &value, &scale)
    if reason is not NULL:
        return reason
    while scale and unit_ns % 10 == 0:
        unit_ns //= 10
        scale -= 1
    if scale:
        return "a time finer than nanoseconds"
    if value < 0 or value > HIGHEST // unit_ns:
        return NOT_PLAUSIBLE
    time_ns[0] = value * unit_ns
    return NULL


cdef const char *_text_time(Field *field, int64_t *time_ns) noexcept nogil:
    # RFC 3339, also with a space in the place of T, and with the zone +00:00 or none: UTC.
    cdef uint8_t *text = field.text
    cdef Py_ssize_t length = field.length
    cdef const uint8_t *at = text
    if not 19 <= length <= 40 or (text[10] != b"T" and text[10] != b" " and text[10] != b"D"):
        return "not a time"
    text[10] = b"T"
    if length > 6 and (memcmp(text + length - 6, b"+00:00", 6) == 0):
        length -= 6
    elif text[length - 1] == b"Z":
        length -= 1
    text[length] = b"Z"
    if not rfc3339(&at, text + length + 1, time_ns) or at != text + length + 1:
        return "not a time in UTC"
    return NULL


cdef bint _widen(Number *number, Py_ssize_t rows, int scale) noexcept nogil:
    # The rows so far at a finer scale. False: one does not fit there, and nothing has changed.
    cdef int64_t factor = POWER_OF_TEN[scale - number.scale]
    cdef int64_t most = HIGHEST // factor
    cdef Py_ssize_t i
    for i in range(rows):
        if magnitude(number.values[i]) > most:
            return False
    for i in range(rows):
        number.values[i] *= factor
    number.scale = scale
    return True


cdef inline bint _place(Number *number, Py_ssize_t row, int64_t value, int scale) noexcept nogil:
    # Writes a number of any scale. False: the block has no room for it at the scale that it needs.
    if scale > number.scale:
        if not _widen(number, row, scale):
            return False
    elif scale < number.scale:
        if magnitude(value) > HIGHEST // POWER_OF_TEN[number.scale - scale]:
            return False
        value *= POWER_OF_TEN[number.scale - scale]
    number.values[row] = value
    return True


cdef inline uint32_t _hash(const uint8_t *text, Py_ssize_t length) noexcept nogil:
    cdef uint64_t h = 0
    cdef Py_ssize_t i
    for i in range(length):
        h = (h ^ text[i]) * <uint64_t>16777619
    return <uint32_t>(h >> 20) % _CACHED


cdef Outcome _bad(Failure *failure, int column, const uint8_t *field, uint8_t separator, const char *reason) noexcept nogil:
    cdef const uint8_t *end = field
    while end[0] != b"\n" and end[0] != separator:
        end += 1
    failure.column, failure.field, failure.length, failure.reason = column, field, end - field, reason
    return BAD


cdef const char *_odd_value(
    Plan *plan, int role, const uint8_t *p, Field *field, int64_t *value, int *scale, int8_t *sign
) noexcept nogil:
    # What the fast path of a role has left.
    cdef const char *reason
    if role == UNUSED and p[0] != b'"':
        while p[0] != plan.separator and p[0] != b"\n" and p[0] != b"\r" and p[0] != b'"':
            p += 1
        field.behind = p
        return NULL
    reason = _odd_field(p, plan.separator, field)
    if reason is not NULL or role == UNUSED or role == SYMBOL:
        return reason
    if role == PRICE or role == SIZE:
        return _number(field, value, scale)
    if role == TIME:
        return _fraction(field, plan.unit_ns, value) if plan.unit_ns else _text_time(field, value)
    if role == SIDE:
        if not side_field(field.text, field.text + field.length, plan.sides, plan.words, sign):
            return "not a side"
        return NULL
    return _whole(field, value)


cdef Outcome _odd(
    Plan *plan, Target *target, const Name *names, Field *field, Failure *failure, int c, const uint8_t **at
) noexcept nogil:
    # A field that is not in its usual form, or not followed by what belongs there.
    cdef const uint8_t *p = at[0]
    cdef const uint8_t *end
    cdef int role = plan.roles[c], scale = 0
    cdef int64_t value = 0
    cdef int8_t sign = 0
    cdef const char *reason = _odd_value(plan, role, p, field, &value, &scale, &sign)
    cdef const Name *name
    if reason is not NULL:
        return _bad(failure, c, p, plan.separator, reason)
    end = field.behind
    if end[0] != plan.separator and end[0] != b"\n" and (end[0] != b"\r" or end[1] != b"\n"):
        return _bad(failure, c, p, plan.separator, "text behind a closing quote, or a carriage return alone")
    if c + 1 < plan.columns and end[0] != plan.separator:
        return _bad(failure, c, p, plan.separator, "the row has fewer columns than the first one")
    if c + 1 == plan.columns and end[0] == plan.separator:
        return _bad(failure, c, p, plan.separator, "the row has more columns than the first one")
    at[0] = end
    if role == PRICE:
        return GOOD if _place(&target.price, target.rows, value, scale) else FULL
    if role == SIZE:
        return GOOD if _place(&target.size, target.rows, value, scale) else FULL
    if role == TIME:
        if not plan.first_ns <= value < plan.last_ns:
            return _bad(failure, c, p, plan.separator, NOT_PLAUSIBLE)
        target.time_ns[target.rows] = value
    elif role == SIDE:
        target.side[target.rows] = sign
    elif role == TRADE_ID or role == FIRST_ID:
        target.first_id[target.rows] = value
    elif role == LAST_ID:
        target.last_id[target.rows] = value
    elif role == COUNT:
        target.count[target.rows] = value
    elif role == SYMBOL:
        name = &names[_hash(field.text, field.length)]
        if name.length != field.length or memcmp(name.text, field.text, field.length) or not field.length:
            failure.column = c
            return NEW_SYMBOL
        target.symbol[target.rows] = name.id
    return GOOD


cdef int _usual_rows(
    Plan *plan, Target *target, const Name *names, const uint8_t *text, const uint16_t *begins, int count
) noexcept nogil:
    # Reads rows column by column, each in a loop of its own. Returns how many, from the first on, are in their usual form.
    cdef fb_rows rows
    cdef Py_ssize_t at = target.rows
    cdef int c
    cdef uint8_t role
    rows.text, rows.begins, rows.columns = text, begins, plan.columns
    for c in range(plan.columns):
        role = plan.roles[c]
        rows.column = c
        if role == TIME:
            count = time_column(rows, count, plan.least, plan.most, plan.unit_ns, target.time_ns + at)
        elif role == PRICE:
            count = decimal_column(rows, count, target.price.scale, target.price.values + at)
        elif role == SIZE:
            count = decimal_column(rows, count, target.size.scale, target.size.values + at)
        elif role == SIDE:
            count = side_column(rows, count, plan.sides, plan.words, target.side + at)
        elif role == TRADE_ID or role == FIRST_ID:
            count = whole_column(rows, count, target.first_id + at)
        elif role == LAST_ID:
            count = whole_column(rows, count, target.last_id + at)
        elif role == COUNT:
            count = whole_column(rows, count, target.count + at)
        elif role == SYMBOL:
            count = _symbol_column(names, rows, count, target.symbol + at)
    return count


cdef int _symbol_column(const Name *names, fb_rows rows, int count, int32_t *values) noexcept nogil:
    cdef const uint16_t *place = rows.begins + rows.column
    cdef const uint8_t *p
    cdef const Name *name
    cdef Py_ssize_t length
    cdef int row
    for row in range(count):
        p = rows.text + place[0]
        length = <Py_ssize_t>place[1] - 1 - place[0]
        name = &names[_hash(p, length)]
        if name.length != length or memcmp(name.text, p, length) or length == 0:
            return row
        values[row] = name.id
        place += rows.columns
    return count


cdef Outcome _odd_row(
    Plan *plan, Target *target, const Name *names, Field *field, Failure *failure, const uint8_t **at
) noexcept nogil:
    # One line, in any form. Nothing counts before all of it is read.
    cdef const uint8_t *p = at[0]
    cdef Outcome outcome
    cdef int c
    for c in range(plan.columns):
        outcome = _odd(plan, target, names, field, failure, c, &p)
        if outcome != GOOD:
            return outcome
        p += 1
    at[0] = p + 1 if (p - 1)[0] == b"\r" else p
    return GOOD


cdef struct Text:               # what was read of it, and is not done
    uint8_t *allocated
    uint8_t *memory             # of it, the buffer
    uint16_t *begins            # of the fields in the buffer
    Py_ssize_t held             # bytes in the buffer
    Py_ssize_t whole            # of these, up to the last line's end
    Py_ssize_t at               # those before it are done
    int found                   # rows in the buffer; -1: there are quotes, blank lines or rows of another width
    int row                     # the first one that is not done
    int stretch                 # rows that are tried together


def _narrowed(values, scale):
    while scale > 0 and not (values % 10).any():
        values, scale = values // 10, scale - 1
    return values, scale


@cython.final
cdef class CsvParser:
    cdef Plan plan
    cdef Target target
    cdef Failure failure
    cdef Field field
    cdef Name *names
    cdef Text text
    cdef bytes piece
    cdef Py_ssize_t taken       # bytes of it that have been in the buffer
    cdef bint ended
    cdef dict columns
    cdef dict ids
    cdef list symbols
    cdef tuple named            # the same, as the last block had them
    cdef public Py_ssize_t lines
    cdef Py_ssize_t done        # rows of earlier blocks

    def __cinit__(self, roles, *, separator=b",", unit_ns, span_ns, sides, symbol, Py_ssize_t block_rows=32768):
        cdef Plan *plan = &self.plan
        if not 0 < len(roles) <= _MOST_COLUMNS:
            raise ValueError(f"a row has 1 to {_MOST_COLUMNS} columns, not {len(roles)}")
        plan.columns = len(roles)
        for place, role in enumerate(roles):
            plan.roles[<int>place] = role
        plan.separator = separator[0]
        plan.unit_ns = unit_ns
        plan.first_ns, plan.last_ns = span_ns
        if unit_ns:     # else none is within them
            plan.least, plan.most = -(-span_ns[0] // unit_ns), span_ns[1] // unit_ns
        self.target.room = block_rows
        self._take_sides(sides)
        self.names = <Name *>PyMem_Malloc(_CACHED * sizeof(Name))
        self.text.allocated = <uint8_t *>PyMem_Malloc(AROUND + _TEXT + AROUND)
        self.text.begins = <uint16_t *>PyMem_Malloc((_TEXT + 1 + AROUND) * sizeof(uint16_t))
        if self.names is NULL or self.text.allocated is NULL or self.text.begins is NULL:
            raise MemoryError
        memset(self.names, 0, _CACHED * sizeof(Name))
        memset(self.text.allocated, 0, AROUND + _TEXT + AROUND)
        self.text.memory = self.text.allocated + AROUND
        self.ids = {}
        self.text.stretch = 1
        self.symbols = [] if symbol is None else [symbol]
        self.named = ()
        self._begin()

    def __dealloc__(self):
        PyMem_Free(self.names)
        PyMem_Free(self.text.allocated)
        PyMem_Free(self.text.begins)

    cdef int _take_sides(self, object sides) except -1:
        cdef fb_word_field *word
        cdef bytes encoded
        spelled = dict.fromkeys((spelling, sign) for text, sign in sides.items()
                                for spelling in (text, text.title(), text.upper()))
        if len(spelled) > MOST_WORDS:
            raise ValueError(f"at most {MOST_WORDS} texts can be sides")
        # The longest first: "buyer" begins as "buy" does.
        for text, sign in sorted(spelled, key=lambda pair: -len(pair[0])):
            encoded = text.encode()
            if len(encoded) > 8:
                raise ValueError(f"{text!r} as a side has {len(encoded)} bytes, not at most 8")
            word = &self.plan.sides[self.plan.words]
            word.length, word.sign = len(encoded), sign
            word.text = int.from_bytes(encoded, "little")
            self.plan.words += 1
        # There are two at least; no field is a newline.
        while self.plan.words < 2:
            word = &self.plan.sides[self.plan.words]
            word.text, word.length = 10, -1
            self.plan.words += 1
        return 0

    cdef int _begin(self) except -1:
        # Memory for the next block.
        cdef Target *target = &self.target
        cdef uint8_t *roles = self.plan.roles
        cdef int64_t[::1] ints
        cdef int8_t[::1] bytes_
        cdef int32_t[::1] codes
        cdef Py_ssize_t room = target.room
        wanted = set(roles[:self.plan.columns])
        columns = {"time_ns": np.empty(room, np.int64), "price": np.empty(room, np.int64), "size": np.empty(room, np.int64)}
        ints = columns["time_ns"]
        target.time_ns = &ints[0]
        ints = columns["price"]
        target.price.values = &ints[0]
        ints = columns["size"]
        target.size.values = &ints[0]
        columns["side"] = np.empty(room, np.int8) if SIDE in wanted else np.zeros(room, np.int8)
        bytes_ = columns["side"]
        target.side = &bytes_[0]
        columns["symbol"] = np.empty(room, np.int32) if SYMBOL in wanted else np.zeros(room, np.int32)
        codes = columns["symbol"]
        target.symbol = &codes[0]
        for name, needed in (("first_id", FIRST_ID), ("last_id", LAST_ID), ("count", COUNT)):
            if needed in wanted or (needed == FIRST_ID and TRADE_ID in wanted):
                columns[name] = np.empty(room, np.int64)
        if "first_id" in columns:
            ints = columns["first_id"]
            target.first_id = &ints[0]
        if "last_id" in columns:
            ints = columns["last_id"]
            target.last_id = &ints[0]
        if "count" in columns:
            ints = columns["count"]
            target.count = &ints[0]
        target.rows = 0
        target.widened = False
        target.price.scale = target.size.scale = 0
        self.columns = columns
        return 0

    def feed(self, bytes piece not None):
        if self.ended or self.piece is not None:
            raise ValueError("the text has ended, or a block waits to be taken")
        self.piece, self.taken, self.ended = piece, 0, not piece
        return self.go_on()

    def go_on(self):
        cdef Outcome outcome = GOOD
        while self.piece is not None:
            if self.text.at == self.text.whole:
                if self.taken == len(self.piece) and (self.taken or self.text.at == self.text.held):
                    self.piece = None
                    break
                self._fill()
            with nogil:
                outcome = self._rows()
            if outcome == FULL:
                return True
            if outcome == BAD:
                self._fail()
            if outcome == NEW_SYMBOL:
                self._learn()
        return False

    def skip(self):
        if self.piece is None or self.text.at >= self.text.whole:
            raise RuntimeError("no line was refused")
        while self.text.memory[self.text.at] != b"\n":
            self.text.at += 1
        self.text.at += 1
        self.text.row += 1
        self.lines += 1
        return self.go_on()

    @property
    def can_skip(self):
        return self.piece is not None and self.text.at < self.text.whole

    cdef int _fill(self) except -1:
        # The next bytes of the piece, behind the line that was cut off.
        cdef Py_ssize_t size = min(len(self.piece) - self.taken, _BUFFER)
        self.text.held -= self.text.at
        if self.text.held > _LONGEST_LINE:
            raise ValueError((self.lines + 1, -1, bytes(self.text.memory[self.text.at:self.text.at + 60]),
                              f"more than {_LONGEST_LINE:,} bytes without a line end"))
        memmove(self.text.memory, self.text.memory + self.text.at, self.text.held)
        memcpy(self.text.memory + self.text.held, PyBytes_AS_STRING(self.piece) + self.taken, size)
        self.text.held += size
        self.taken += size
        if self.ended and self.text.held:
            self.text.memory[self.text.held] = b"\n"
            self.text.held += 1
        memset(self.text.memory + self.text.held, 0, AROUND)      # no newlines of earlier pieces
        self.text.at, self.text.row, self.text.whole = 0, 0, self.text.held
        while self.text.whole and self.text.memory[self.text.whole - 1] != b"\n":
            self.text.whole -= 1
        with nogil:
            self.text.found = find_fields(self.text.memory, <int>self.text.whole, self.plan.separator, self.plan.columns, self.text.begins)
        return 0

    cdef Outcome _rows(self) noexcept nogil:
        # All whole lines, as far as the block has room.
        cdef Target *target = &self.target
        cdef Plan *plan = &self.plan
        cdef const uint8_t *p = self.text.memory + self.text.at
        cdef const uint8_t *limit = self.text.memory + self.text.whole
        cdef const uint8_t *start
        cdef Outcome outcome = GOOD
        cdef int wanted, usual
        while p < limit and outcome == GOOD:
            if target.rows == target.room:
                outcome = FULL
                break
            if self.text.row < self.text.found:
                # Of as many rows as have lately been in their usual form.
                wanted = <int>min(self.text.found - self.text.row, target.room - target.rows, self.text.stretch)
                usual = _usual_rows(
                    plan, target, self.names, self.text.memory, self.text.begins + self.text.row * plan.columns, wanted)
                target.rows += usual
                self.lines += usual
                self.text.row += usual
                p = self.text.memory + self.text.begins[self.text.row * plan.columns]
                self.text.stretch = min(4 * self.text.stretch, _LONGEST_STRETCH) if usual == wanted else max(usual, 1)
                if usual == wanted:
                    continue
            if p[0] == b"\n" or (p[0] == b"\r" and p[1] == b"\n"):
                p += 1 if p[0] == b"\n" else 2
                self.lines += 1
                self.text.row += 1
                continue
            start = p
            outcome = _odd_row(plan, target, self.names, &self.field, &self.failure, &p)
            if outcome == GOOD and p - start > _LONGEST_LINE:
                outcome = _bad(&self.failure, -1, start, b"\n", "the line is too long")
            if outcome != GOOD:
                target.widened = outcome == FULL
                p = start
                break
            self.lines += 1
            self.text.row += 1
            target.rows += 1
        self.text.at = p - self.text.memory
        return outcome

    cdef int _learn(self) except -1:
        # The symbol of the row in hand, which `field` has.
        cdef Name *name
        text = bytes(self.field.text[:self.field.length])
        number = self.ids.get(text)
        if number is None:
            number = len(self.symbols)
            reason = "not a symbol" if not text else None
            if len(text) > _LONGEST_SYMBOL:
                reason = f"a symbol has at most {_LONGEST_SYMBOL} bytes, this one {len(text)}"
            if number == _MOST_SYMBOLS:
                reason = f"more than {_MOST_SYMBOLS:,} symbols"
            symbol = text.decode("utf-8", "replace")
            if symbol.encode() != text:
                reason = "not UTF-8"
            if reason is not None:
                raise ValueError((self.lines + 1, self.failure.column, text[:60], reason))
            self.ids[text] = number
            self.symbols.append(symbol)
        name = &self.names[_hash(self.field.text, self.field.length)]
        name.id, name.length = number, len(text)
        memcpy(name.text, self.field.text, self.field.length)
        return 0

    cdef int _fail(self) except -1:
        cdef Failure *failure = &self.failure
        value = bytes(failure.field[:min(failure.length, 60)])
        raise ValueError((self.lines + 1, failure.column, value, failure.reason.decode()))

    def block(self):
        cdef Py_ssize_t rows = self.target.rows
        cdef Py_ssize_t first = self.done + 1
        if not rows:
            return None
        if len(self.named) != len(self.symbols):
            self.named = tuple(self.symbols)
        price_scale, size_scale = self.target.price.scale, self.target.size.scale
        columns = self.columns
        if rows < self.target.room:
            columns = {name: column[:rows] for name, column in columns.items()}
        if self.target.widened:
            columns["price"], price_scale = _narrowed(columns["price"], price_scale)
            columns["size"], size_scale = _narrowed(columns["size"], size_scale)
        first_id = columns.get("first_id")
        self.done += rows
        self._begin()
        return TradeColumns(
            self.named, columns["symbol"], columns["time_ns"], columns["price"], price_scale, columns["size"],
            size_scale, columns["side"], first_id, columns.get("last_id", first_id), columns.get("count"), first)
