"""Rows of bars to bar objects: the boundary behind which numbers are `Decimal` and times are `datetime`.

Units: rows are those of `fastbars.kernel.rows.ROW_DTYPE`; times int64 ns since the epoch, UTC.
"""

from datetime import UTC as _utc
from types import MemberDescriptorType as _MemberDescriptor

from cpython.datetime cimport datetime, datetime_new, import_datetime
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_INCREF
from cpython.sequence cimport PySequence_Fast_GET_ITEM
from libc.stdint cimport int64_t

from fastbars.kernel.instruments cimport Instruments
from fastbars.kernel.places cimport MOST_FIELDS, Moment, Place, check_row, is_unknown, moment_of, number_of, scale_of, whole
from fastbars.kernel.rows cimport IssuedRows, Row, rows_of
from fastbars.kernel.scaled cimport LOWEST, decimal_of, int128
from fastbars.kernel.summary cimport ALL

from fastbars.kernel import fields as _fields

import_datetime()

cdef extern from "Python.h":
    ctypedef object (*allocfunc)(PyTypeObject *, Py_ssize_t)
    allocfunc PyType_GenericAlloc

cdef object _UTC = _utc


cdef object datetime_of(int64_t time_ns):
    cdef Moment at = moment_of(time_ns)
    return datetime_new(at.year, at.month, at.day, at.hour, at.minute, at.second, at.micro, _UTC)


# The fields that are texts, in the order in which `make` has them at hand.
cdef tuple TEXTS = ("symbol", "spec", "status", "close_reason")

cdef struct Group:          # of places
    int start
    int stop


cdef class BarMaker:
    # The fields lie kind by kind, so that no field of an object is asked for its kind.
    cdef object bar
    cdef tuple statuses
    cdef tuple reasons
    cdef Place[MOST_FIELDS] places
    cdef int count              # of places
    cdef Group identity
    cdef Group names
    cdef Group times
    cdef Group prices
    cdef Group sizes
    cdef Group quotes
    cdef Group ids
    cdef Group counts           # those that may not be known among them: then they are negative
    cdef Group moments
    cdef Group largest
    cdef Group inverse

    def __cinit__(self, type bar not None, tuple statuses not None, tuple reasons not None):
        if bar.__base__ is not object:
            raise TypeError(f"{bar!r} is made field by field: it must have no base but object")
        self.bar = bar
        self.statuses = statuses
        self.reasons = reasons
        self.identity = Group(0, len(_fields.IDENTITY))
        for field in _fields.IDENTITY:
            self.add_place(Place(0, 0, 0, 0, 0), field)
        self.names = self.group(_fields.FieldKind.NAME)
        self.times = self.group(_fields.FieldKind.TIME)
        self.prices = self.group(_fields.FieldKind.PRICE)
        self.sizes = self.group(_fields.FieldKind.SIZE)
        self.quotes = self.group(_fields.FieldKind.QUOTE)
        self.ids = self.group(_fields.FieldKind.ID)
        self.counts = self.group(_fields.FieldKind.COUNT)
        self.counts.stop = self.group(_fields.FieldKind.KNOWN).stop
        self.moments = self.group(_fields.FieldKind.MOMENT)
        self.largest = self.group(_fields.FieldKind.LARGEST)
        self.inverse = Group(self.count, self.count + 1)
        self.add_place(Place(0, 0, 0, 0, 0), "inverse")
        # Behind it: what stands in no row, and is None.
        for field in getattr(bar, "__slots__", ()):
            if field not in _fields.FIELDS and field not in _fields.IDENTITY and field != "inverse":
                self.add_place(Place(0, 0, 0, 0, 0), field)
        self.inverse.stop = self.count

    cdef Group group(self, object kind) except *:
        cdef int start = self.count
        for column in _fields.FIELDS.values():
            if column.kind is kind:
                dtype, offset = _fields.ROW_DTYPE.fields[column.name]
                scale = _fields.ROW_DTYPE.fields[column.scale][1] if column.scale else 0
                text = TEXTS.index(column.field) if kind is _fields.FieldKind.NAME else 0
                self.add_place(Place(offset, dtype.itemsize, scale, 0, text), column.field)
        return Group(start, self.count)

    cdef int add_place(self, Place place, str field) except -1:
        slot = self.bar.__dict__.get(field)
        if type(slot) is not _MemberDescriptor or slot.__objclass__ is not self.bar:
            raise TypeError(f"{field} is not a slot of {self.bar!r}")
        if self.count == MOST_FIELDS:
            raise TypeError(f"{self.bar!r} has more than {MOST_FIELDS} fields")
        place.slot = slot_offset(slot)
        self.places[self.count] = place
        self.count += 1
        return 0

    def make(self, rows not None, Instruments instruments not None, tuple specs not None, bint ids):
        cdef object own
        if type(rows) is IssuedRows:
            return self.make_all((<IssuedRows>rows).rows, (<IssuedRows>rows).count, instruments, specs, ids)
        own = rows_of(rows)
        return self.make_all(<const Row *><size_t>own.ctypes.data, len(own), instruments, specs, ids)

    cdef list make_all(self, const Row *row, Py_ssize_t count, Instruments instruments, tuple specs, bint ids):
        cdef Py_ssize_t i
        cdef list bars = []
        cdef list symbols = instruments._symbols
        cdef int64_t[MOST_FIELDS] times_ns
        cdef int64_t time_ns
        cdef list times = [None] * (self.times.stop - self.times.start)
        cdef tuple identity = (instruments.exchange, instruments.market)  # in the order of IDENTITY
        cdef PyObject *texts[4]
        cdef int at
        if count == 0:
            return bars
        texts[0], texts[1] = <PyObject *>symbols, <PyObject *>specs
        texts[2], texts[3] = <PyObject *>self.statuses, <PyObject *>self.reasons
        for i in range(count):
            check_row(row, i, len(symbols), len(specs), len(self.statuses), len(self.reasons))
            # Bars issued together often cover the same interval.
            for at in range(self.times.stop - self.times.start):
                time_ns = whole(row, &self.places[self.times.start + at])
                if i == 0 or time_ns != times_ns[at]:
                    times_ns[at] = time_ns
                    times[at] = datetime_of(time_ns)
            bars.append(self.make_one(row, identity, texts, times, instruments.table[row.symbol_id].contract != 0, ids))
            row += 1
        return bars

    cdef object make_one(
        self, const Row *row, tuple identity, PyObject **texts, list times, bint inverse, bint ids):
        cdef object made = PyType_GenericAlloc(<PyTypeObject *>self.bar, 0)
        cdef bint priced = row.bar.high != LOWEST
        cdef bint numbered = ids and row.bar.counts[ALL] != 0
        cdef const Place *places = self.places
        cdef int128 size
        cdef int64_t number
        cdef int at
        for at in range(self.identity.start, self.identity.stop):
            self.put(made, at, identity[at - self.identity.start])
        for at in range(self.names.start, self.names.stop):
            number = whole(row, &places[at])
            self.put(made, at, <object>PySequence_Fast_GET_ITEM(<object>texts[places[at].text], number))
        for at in range(self.times.start, self.times.stop):
            self.put(made, at, times[at - self.times.start])
        if priced:
            self.put_decimals(made, row, self.prices)
        else:
            for at in range(self.prices.start, self.prices.stop):
                self.put(made, at, None)
        self.put_decimals(made, row, self.sizes)
        self.put_decimals(made, row, self.quotes)
        for at in range(self.ids.start, self.ids.stop):
            number = whole(row, &places[at])
            self.put(made, at, number if numbered and number != LOWEST else None)
        for at in range(self.counts.start, self.counts.stop):
            number = whole(row, &places[at])
            self.put(made, at, number if number >= 0 else None)
        for at in range(self.moments.start, self.moments.stop):
            self.put(made, at, None if row.bar.last_trade_time == LOWEST else datetime_of(whole(row, &places[at])))
        for at in range(self.largest.start, self.largest.stop):
            if whole(row, &places[at]):
                size = number_of(row, &places[at])
                self.put(made, at, decimal_of(&size, scale_of(row, &places[at])))
            else:
                self.put(made, at, None)
        self.put(made, self.inverse.start, inverse)
        for at in range(self.inverse.start + 1, self.inverse.stop):
            self.put(made, at, None)
        return made

    cdef int put_decimals(self, object made, const Row *row, Group group) except -1:
        # Of one scale. Most bars have some that are equal, and share an object: flat ones, and those of one taker's side.
        cdef int128[MOST_FIELDS] numbers
        cdef PyObject *decimals[MOST_FIELDS]
        cdef object decimal
        cdef int at, other
        for at in range(group.start, group.stop):
            numbers[at] = number_of(row, &self.places[at])
            other = group.start
            while numbers[other].lo != numbers[at].lo or numbers[other].hi != numbers[at].hi:
                other += 1
            if other < at:
                decimal = <object>decimals[other]
            elif is_unknown(row, &numbers[at]):
                decimal = None
            else:
                decimal = decimal_of(&numbers[at], scale_of(row, &self.places[at]))
            decimals[at] = <PyObject *>decimal
            self.put(made, at, decimal)
        return 0

    cdef inline void put(self, object bar, int at, object value) noexcept:
        # Past the frozen class's own __setattr__, into a slot that is still empty.
        Py_INCREF(value)
        (<PyObject **>(<char *><PyObject *>bar + self.places[at].slot))[0] = <PyObject *>value
