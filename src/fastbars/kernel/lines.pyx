"""Rows of bars to lines of text, CSV or JSON, without an object for a bar or a number.

The lines are those that `fastbars.cli.output` makes of bar objects, byte for byte.
Units: rows are those of `fastbars.kernel.rows.ROW_DTYPE`.
"""

from datetime import UTC as _utc
from decimal import Decimal
from operator import attrgetter as _attrgetter

from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.datetime cimport (
    datetime, datetime_day, datetime_hour, datetime_microsecond, datetime_minute, datetime_month, datetime_second,
    datetime_year, import_datetime,
)
from cpython.list cimport PyList_GET_ITEM
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.object cimport PyObject
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE

from fastbars.kernel.instruments cimport Instruments
from fastbars.kernel.places cimport (
    MOST_FIELDS, Moment, Place, check_row, is_unknown, moment_of, number_of, scale_of, whole,
)
from fastbars.kernel.rows cimport IssuedRows, Row, rows_of
from fastbars.kernel.scaled cimport DECIMAL_ROOM, HIGHEST, LOWEST, int128, write_decimal
from fastbars.kernel.summary cimport ALL

from fastbars.kernel import fields as _fields

cdef extern from "Python.h":
    object PyUnicode_DecodeUTF8(const char *text, Py_ssize_t size, const char *errors)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    void *PyUnicode_1BYTE_DATA(object text)

cdef extern from "decimal_text.h" nogil:
    const char *TWO_DIGITS "fb_two_digits"

import_datetime()

cdef object _UTC = _utc
cdef object _Decimal = Decimal

cdef enum Kind:
    IDENTITY        # the same in all rows
    NAME
    TIME
    PRICE
    AMOUNT
    LARGEST
    MOMENT
    ID
    COUNT
    KNOWN

cdef enum:
    MOST_TEXTS = 100_000        # kept as they are written
    VALUE_ROOM = DECIMAL_ROOM + 8

cdef dict KINDS = {
    _fields.FieldKind.NAME: NAME, _fields.FieldKind.TIME: TIME, _fields.FieldKind.PRICE: PRICE,
    _fields.FieldKind.SIZE: AMOUNT, _fields.FieldKind.QUOTE: AMOUNT, _fields.FieldKind.ID: ID,
    _fields.FieldKind.COUNT: COUNT, _fields.FieldKind.KNOWN: KNOWN, _fields.FieldKind.MOMENT: MOMENT,
    _fields.FieldKind.LARGEST: LARGEST,
}
# The fields that are texts: what their numbers are looked up in, in this order.
cdef tuple TEXTS = ("symbol", "spec", "status", "close_reason")


cdef inline char *write_whole(char *out, int64_t value) noexcept nogil:
    cdef int128 number = int128(<uint64_t>value, -1 if value < 0 else 0)
    return write_decimal(out, &number, 0)


cdef inline char *write_two(char *out, int value) noexcept nogil:
    memcpy(out, TWO_DIGITS + 2 * value, 2)
    return out + 2


cdef object _plain(object decimal):
    # Its text without an exponent: what format(decimal, "f") makes. Most have none anyway, and str() is faster.
    cdef str text = str(decimal)
    cdef const unsigned char *characters = <const unsigned char *>PyUnicode_1BYTE_DATA(text)
    cdef Py_ssize_t i
    for i in range(PyUnicode_GET_LENGTH(text)):
        if characters[i] > b"9":
            return format(decimal, "f")
    return text


cdef char *write_moment(char *out, const Moment *at) noexcept nogil:
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
    cdef tuple members          # the objects that these are the texts of
    cdef tuple member_texts
    cdef object values_of
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
        self.members = statuses + reasons
        self.statuses, self.reasons = tuple(map(str.__str__, statuses)), tuple(map(str.__str__, reasons))
        self.member_texts = self.statuses + self.reasons
        self.values_of = _attrgetter(*fields) if len(fields) > 1 else None
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

    def line_of(self, bar not None):
        # In two passes: what needs Python, and how much room that takes; then all of it is written.
        cdef tuple values
        cdef list parts = [None] * self.count
        cdef Py_ssize_t needed = PyBytes_GET_SIZE(self.end)
        cdef object value, part
        cdef int at
        cdef char *text
        cdef char *end
        if self.values_of is None:
            return None
        values = self.values_of(bar)
        for at in range(self.count):
            value = <object>PyTuple_GET_ITEM(values, at)
            part = self.part_of(value, self.kinds[at], self.places[at].text)
            if part is None:
                return None
            parts[at] = part
            needed += PyBytes_GET_SIZE(<bytes>self.heads[at]) + VALUE_ROOM
            if type(part) is bytes:
                needed += PyBytes_GET_SIZE(part)
            elif type(part) is str:
                needed += PyUnicode_GET_LENGTH(part)
        text = <char *>PyMem_Malloc(needed)
        if text is NULL:
            raise MemoryError
        try:
            end = text
            for at in range(self.count):
                end = _write_bytes(end, <bytes>self.heads[at])
                part = <object>PyList_GET_ITEM(parts, at)
                if type(part) is bytes:
                    end = _write_bytes(end, part)
                elif type(part) is int:
                    end = write_whole(end, part)
                else:
                    end = self.write_quoted(end, part)
            end = _write_bytes(end, self.end)
            return PyUnicode_DecodeUTF8(text, end - text, b"surrogatepass")
        finally:
            PyMem_Free(text)

    cdef object part_of(self, object value, Kind kind, int text):
        # What of a value is written: bytes as they are, ASCII text of a decimal, an int, or a time. None: it is of
        # another type than those of a made bar, or out of its range.
        cdef int at
        if kind <= NAME:
            if type(value) is str:
                return self.name(value) if kind == IDENTITY or text == 0 else self.word(value)
            if kind == NAME and text >= 2:
                for at in range(<int>PyTuple_GET_SIZE(self.members)):
                    if PyTuple_GET_ITEM(self.members, at) == <PyObject *>value:
                        return self.word(<object>PyTuple_GET_ITEM(self.member_texts, at))
            return None
        if value is None:
            return self.none
        if kind == TIME or kind == MOMENT:
            return value if type(value) is datetime and (<datetime>value).tzinfo is _UTC else None
        if kind <= LARGEST:
            return _plain(value) if type(value) is _Decimal else None
        return value if type(value) is int and -HIGHEST <= value <= HIGHEST else None

    cdef char *write_quoted(self, char *out, object part) except NULL:
        # A decimal, or a time.
        cdef Py_ssize_t length
        cdef Moment at
        if self.quotes:
            out[0] = b'"'
            out += 1
        if type(part) is str:
            length = PyUnicode_GET_LENGTH(part)
            memcpy(out, PyUnicode_1BYTE_DATA(part), length)
            out += length
        else:
            at = Moment(
                datetime_year(part), datetime_month(part), datetime_day(part), datetime_hour(part), datetime_minute(part),
                datetime_second(part), datetime_microsecond(part))
            out = write_moment(out, &at)
        if self.quotes:
            out[0] = b'"'
            out += 1
        return out

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
        cdef bint numbered = ids and row.bar.counts[ALL] != 0
        cdef const Place *place
        cdef Kind kind
        cdef int128 number
        cdef Moment time
        cdef int at
        for at in range(self.count):
            place, kind = &self.places[at], self.kinds[at]
            out = _write_bytes(out, <bytes>self.heads[at])
            if kind <= NAME:
                out = _write_bytes(out, <bytes>parts[at])
            elif (
                (kind == PRICE and not priced) or (kind == ID and (not numbered or whole(row, place) == LOWEST))
                or (kind == KNOWN and whole(row, place) < 0) or (kind == LARGEST and whole(row, place) == 0)
                or (kind == MOMENT and row.bar.last_trade_time == LOWEST)
            ):
                out = _write_bytes(out, self.none)
            elif kind >= ID:
                out = write_whole(out, whole(row, place))
            else:
                if kind == AMOUNT:
                    number = number_of(row, place)
                    if is_unknown(row, &number):
                        out = _write_bytes(out, self.none)
                        continue
                if self.quotes:
                    out[0] = b'"'
                    out += 1
                if kind == TIME or kind == MOMENT:
                    time = moment_of(whole(row, place))
                    out = write_moment(out, &time)
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
