"""Rows of bars to lines of text, CSV or JSON, without an object for a bar or a number.

The lines are those that `fastbars.cli.output` makes of bar objects, byte for byte.
Units: rows are those of `fastbars.kernel.rows.ROW_DTYPE`.
"""

from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc

from fastbars.kernel.instruments cimport Instruments
from fastbars.kernel.places cimport (
    MOST_FIELDS, Moment, Place, check_row, moment_of, number_of, scale_of, whole,
)
from fastbars.kernel.rows cimport IssuedRows, Row, rows_of
from fastbars.kernel.scaled cimport DECIMAL_ROOM, LOWEST, int128, write_decimal

from fastbars.kernel import fields as _fields

cdef extern from "Python.h":
    object PyUnicode_DecodeUTF8(const char *text, Py_ssize_t size, const char *errors)

cdef extern from "decimal_text.h" nogil:
    const char *TWO_DIGITS "fb_two_digits"

cdef enum Kind:
    IDENTITY        # the same in all rows
    NAME
    TIME
    PRICE
    AMOUNT
    ID
    COUNT
    KNOWN

cdef enum:
    MOST_TEXTS = 100_000        # kept as they are written
    VALUE_ROOM = DECIMAL_ROOM + 8

cdef dict KINDS = {
    _fields.FieldKind.NAME: NAME, _fields.FieldKind.TIME: TIME, _fields.FieldKind.PRICE: PRICE,
    _fields.FieldKind.SIZE: AMOUNT, _fields.FieldKind.QUOTE: AMOUNT, _fields.FieldKind.ID: ID,
    _fields.FieldKind.COUNT: COUNT, _fields.FieldKind.KNOWN: KNOWN,
}
# The fields that are texts: what their numbers are looked up in, in this order.
cdef tuple TEXTS = ("symbol", "spec", "status", "close_reason")


cdef inline char *write_whole(char *out, int64_t value) noexcept nogil:
    cdef int128 number = int128(<uint64_t>value, -1 if value < 0 else 0)
    return write_decimal(out, &number, 0)


cdef inline char *write_two(char *out, int value) noexcept nogil:
    memcpy(out, TWO_DIGITS + 2 * value, 2)
    return out + 2


cdef char *write_time(char *out, int64_t time_ns) noexcept nogil:
    cdef Moment at = moment_of(time_ns)
    out = write_two(write_two(out, at.year // 100), at.year % 100)
    out[0] = b"-"
    out = write_two(out + 1, at.month)
    out[0] = b"-"
    out = write_two(out + 1, at.day)
    out[0] = b"T"
    out = write_two(out + 1, at.hour)
    out[0] = b":"
    out = write_two(out + 1, at.minute)
    out[0] = b":"
    out = write_two(out + 1, at.second)
    if at.micro:
        out[0] = b"."
        out = write_two(out + 1, at.micro // 10_000)
        out = write_two(write_two(out, at.micro // 100 % 100), at.micro % 100)
    out[0] = b"Z"
    return out + 1


cdef class LineMaker:
    cdef tuple statuses
    cdef tuple reasons
    cdef object encode_name     # str -> bytes, as they stand in a line
    cdef object encode_word
    cdef dict names             # those that were encoded
    cdef dict words
    cdef tuple heads            # what stands before each field
    cdef bytes end
    cdef bytes none
    cdef bint quotes            # decimals and times
    cdef Place[MOST_FIELDS] places
    cdef Kind[MOST_FIELDS] kinds
    cdef int count

    def __cinit__(self, tuple fields not None, tuple heads not None, bytes end not None, bytes none not None, bint quotes,
                  encode_name, encode_word, tuple statuses not None, tuple reasons not None):
        if len(fields) > MOST_FIELDS or len(heads) != len(fields):
            raise ValueError(f"{len(fields)} fields with {len(heads)} heads are not up to {MOST_FIELDS} of both")
        for head in heads:
            if type(head) is not bytes:
                raise TypeError(f"a head is bytes, not {type(head).__name__}")
        self.heads, self.end, self.none, self.quotes = heads, end, none, quotes
        self.encode_name, self.encode_word = encode_name, encode_word
        self.statuses, self.reasons = statuses, reasons
        self.names, self.words = {}, {}
        for field in fields:
            self.kinds[self.count] = IDENTITY
            self.places[self.count] = Place(0, 0, 0, 0, 0)
            if field in _fields.IDENTITY:
                self.places[self.count].text = _fields.IDENTITY.index(field)
            else:
                column = _fields.FIELDS[field]
                dtype, offset = _fields.ROW_DTYPE.fields[column.name]
                scale = _fields.ROW_DTYPE.fields[column.scale][1] if column.scale else 0
                text = TEXTS.index(field) if column.kind is _fields.FieldKind.NAME else 0
                self.kinds[self.count] = KINDS[column.kind]
                self.places[self.count] = Place(offset, dtype.itemsize, scale, 0, text)
            self.count += 1

    def make(self, rows not None, Instruments instruments not None, tuple specs not None, bint ids):
        cdef object own
        if type(rows) is IssuedRows:
            return self.make_all((<IssuedRows>rows).rows, (<IssuedRows>rows).count, instruments, specs, ids)
        own = rows_of(rows)
        return self.make_all(<const Row *><size_t>own.ctypes.data, len(own), instruments, specs, ids)

    cdef list make_all(self, const Row *row, Py_ssize_t count, Instruments instruments, tuple specs, bint ids):
        cdef list lines = []
        cdef Py_ssize_t i, room, needed
        cdef int at
        cdef char *text
        cdef char *end
        cdef list parts = [None] * self.count
        cdef list identity = [self.name(instruments.exchange), self.name(instruments.market)]
        room = 0
        text = NULL
        try:
            for i in range(count):
                check_row(row, i, len(instruments._symbols), len(specs), len(self.statuses), len(self.reasons))
                needed = PyBytes_GET_SIZE(self.end)
                for at in range(self.count):
                    needed += PyBytes_GET_SIZE(<bytes>self.heads[at]) + VALUE_ROOM
                    if self.kinds[at] == IDENTITY:
                        parts[at] = identity[self.places[at].text]
                        needed += PyBytes_GET_SIZE(<bytes>parts[at])
                    elif self.kinds[at] == NAME:
                        parts[at] = self.text_of(row, &self.places[at], instruments, specs)
                        needed += PyBytes_GET_SIZE(<bytes>parts[at])
                if needed > room:
                    PyMem_Free(text)
                    room = needed + needed // 2
                    text = <char *>PyMem_Malloc(room)
                    if text is NULL:
                        raise MemoryError
                end = self.write(text, row, parts, ids)
                lines.append(PyUnicode_DecodeUTF8(text, end - text, b"surrogatepass"))
                row += 1
        finally:
            PyMem_Free(text)
        return lines

    cdef bytes text_of(self, const Row *row, const Place *place, Instruments instruments, tuple specs):
        cdef int64_t number = whole(row, place)
        if place.text == 0:
            return self.name(instruments._symbols[number])
        if place.text == 1:
            return self.word(specs[number])
        return self.word(self.statuses[number] if place.text == 2 else self.reasons[number])

    cdef bytes name(self, object text):
        cdef object known = self.names.get(text)
        if known is None:
            known = self.encode_name(text)
            if len(self.names) >= MOST_TEXTS:
                self.names.clear()
            self.names[text] = known
        return known

    cdef bytes word(self, object text):
        cdef object known = self.words.get(text)
        if known is None:
            known = self.encode_word(text)
            if len(self.words) >= MOST_TEXTS:
                self.words.clear()
            self.words[text] = known
        return known

    cdef char *write(self, char *out, const Row *row, list parts, bint ids) noexcept:
        cdef bint priced = row.bar.high != LOWEST
        cdef bint numbered = ids and row.bar.count > 0
        cdef const Place *place
        cdef Kind kind
        cdef int128 number
        cdef int at
        for at in range(self.count):
            place, kind = &self.places[at], self.kinds[at]
            out = _write_bytes(out, <bytes>self.heads[at])
            if kind <= NAME:
                out = _write_bytes(out, <bytes>parts[at])
            elif (kind == PRICE and not priced) or (kind == ID and not numbered) or (kind == KNOWN and whole(row, place) < 0):
                out = _write_bytes(out, self.none)
            elif kind >= ID:
                out = write_whole(out, whole(row, place))
            else:
                if self.quotes:
                    out[0] = b'"'
                    out += 1
                if kind == TIME:
                    out = write_time(out, whole(row, place))
                else:
                    number = number_of(row, place)
                    out = write_decimal(out, &number, scale_of(row, place))
                if self.quotes:
                    out[0] = b'"'
                    out += 1
        return _write_bytes(out, self.end)


cdef inline char *_write_bytes(char *out, bytes text) noexcept:
    memcpy(out, PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))
    return out + PyBytes_GET_SIZE(text)
