"""Rows of bars to bar objects: the boundary behind which numbers are `Decimal` and times are `datetime`.

Units: rows are those of `fastbars.kernel.rows.ROW_DTYPE`; times int64 ns since the epoch, UTC.
"""

from datetime import UTC as _utc
from decimal import Decimal
from types import MemberDescriptorType as _MemberDescriptor

from cpython.datetime cimport datetime, datetime_new, import_datetime
from cpython.object cimport PyObject, PyTypeObject
from libc.stdint cimport int64_t, uint64_t

from fastbars.kernel.instruments cimport Instruments
from fastbars.kernel.scaled cimport LOWEST, floor_mod, int128, int128_to_int
from fastbars.kernel.rows cimport Row, rows_of

from fastbars.kernel.scaled import to_decimal

import_datetime()

cdef extern from "Python.h":
    object PyObject_CallOneArg(object function, object argument)
    object PyUnicode_DecodeASCII(const char *text, Py_ssize_t size, const char *errors)
    ctypedef int (*descrsetfunc)(PyObject *, PyObject *, PyObject *) except -1
    ctypedef object (*allocfunc)(PyTypeObject *, Py_ssize_t)
    descrsetfunc setter_of "Py_TYPE_descr_set_of" (object)
    allocfunc PyType_GenericAlloc

cdef extern from * nogil:
    """
    #define Py_TYPE_descr_set_of(descriptor) (Py_TYPE(descriptor)->tp_descr_set)
    """

cdef enum:
    MAX_SCALE = 18

cdef object _Decimal = Decimal
cdef object _UTC = _utc
cdef object _ZERO = Decimal(0)
cdef int64_t DAY_US = 86_400_000_000

# In this order they are made and set.
FIELDS = (
    "symbol", "spec", "open_time", "close_time", "open", "high", "low", "close", "volume", "quote_volume", "trade_count",
    "taker_buy_volume", "taker_buy_quote_volume", "first_trade_id", "last_trade_id", "status", "revision", "close_reason",
    "inverse", "missing_count", "unpublished_count",
)


cdef object decimal_of(const int128 *value, int scale):
    # Text is the one fast way into a Decimal.
    cdef char text[48]
    cdef int at = 48, decimals = 0
    cdef uint64_t rest = value.lo
    if value.hi != 0 or scale > 38:
        return to_decimal(int128_to_int(value), scale)
    if rest == 0:
        return _ZERO
    while scale > 0 and rest % 10 == 0:
        rest //= 10
        scale -= 1
    while rest > 0 or decimals <= scale:
        if decimals == scale and scale > 0:
            at -= 1
            text[at] = b"."
        at -= 1
        text[at] = <char>(48 + rest % 10)
        rest //= 10
        decimals += 1
    return PyObject_CallOneArg(_Decimal, PyUnicode_DecodeASCII(&text[at], 48 - at, NULL))


cdef object price_of(int64_t mantissa, int scale):
    cdef int128 value = int128(<uint64_t>mantissa, -1 if mantissa < 0 else 0)
    return decimal_of(&value, scale)


cdef object datetime_of(int64_t time_ns):
    # Days to a date as in the proleptic Gregorian calendar, the year counted from March.
    cdef int64_t micros = (time_ns - floor_mod(time_ns, 1000)) // 1000
    cdef int64_t rest = floor_mod(micros, DAY_US)
    cdef int64_t days = (micros - rest) // DAY_US + 719468
    cdef int64_t era_day = floor_mod(days, 146097)
    cdef int64_t era_year = (era_day - era_day // 1460 + era_day // 36524 - era_day // 146096) // 365
    cdef int64_t year_day = era_day - (365 * era_year + era_year // 4 - era_year // 100)
    cdef int64_t month = (5 * year_day + 2) // 153
    cdef int64_t day = year_day - (153 * month + 2) // 5 + 1
    cdef int64_t year = (days - era_day) // 146097 * 400 + era_year
    month = month + 3 if month < 10 else month - 9
    if month <= 2:
        year += 1
    return datetime_new(
        <int>year, <int>month, <int>day, <int>(rest // 3_600_000_000), <int>(rest // 60_000_000 % 60),
        <int>(rest // 1_000_000 % 60), <int>(rest % 1_000_000), _UTC)


cdef class BarMaker:
    cdef object bar
    cdef tuple descriptors
    cdef tuple statuses
    cdef tuple reasons

    def __cinit__(self, type bar not None, tuple statuses not None, tuple reasons not None):
        if bar.__base__ is not object:
            raise TypeError(f"{bar!r} is made field by field: it must have no base but object")
        self.bar = bar
        self.descriptors = tuple([bar.__dict__.get(name) for name in FIELDS])
        for name, descriptor in zip(FIELDS, self.descriptors):
            if type(descriptor) is not _MemberDescriptor:
                raise TypeError(f"{name} is not a slot of {bar!r}")
        self.statuses = statuses
        self.reasons = reasons

    def make(self, rows not None, Instruments instruments not None, tuple specs not None, bint ids):
        cdef object own = rows_of(rows)
        cdef Py_ssize_t i, count = len(own)
        cdef const Row *row
        cdef list bars = []
        cdef list symbols = instruments._symbols
        cdef int64_t opened_ns = 0, closed_ns = 0
        cdef object opened = None, closed = None
        if count == 0:
            return bars
        row = <const Row *><size_t>own.ctypes.data
        for i in range(count):
            self.check(row, i, len(symbols), len(specs))
            # Bars issued together often cover the same interval.
            if opened is None or row.bar.open_time != opened_ns:
                opened_ns = row.bar.open_time
                opened = datetime_of(opened_ns)
            if closed is None or row.bar.close_time != closed_ns:
                closed_ns = row.bar.close_time
                closed = datetime_of(closed_ns)
            bars.append(self.make_one(row, instruments, symbols, specs, opened, closed, ids))
            row += 1
        return bars

    cdef int check(self, const Row *row, Py_ssize_t i, Py_ssize_t symbols, Py_ssize_t specs) except -1:
        # Rows are an array, which anybody can make, write to, and put beside other instruments or specs.
        if not 0 <= row.symbol_id < symbols:
            raise IndexError(f"row {i}: symbol id {row.symbol_id} is outside the {symbols} symbols of the instruments")
        if not 0 <= row.spec < specs:
            raise IndexError(f"row {i}: spec {row.spec} is outside the {specs} bar specs")
        if row.status >= len(self.statuses) or row.reason >= len(self.reasons):
            raise ValueError(f"row {i}: there is no status {row.status} or reason {row.reason}")
        if not (0 <= row.price_scale <= 2 * MAX_SCALE and 0 <= row.size_scale <= 2 * MAX_SCALE
                and 0 <= row.quote_scale <= 2 * MAX_SCALE):
            raise ValueError(f"row {i}: a scale is outside 0 to {2 * MAX_SCALE}")
        return 0

    cdef object make_one(self, const Row *row, Instruments instruments, list symbols, tuple specs, object opened,
                         object closed, bint ids):
        cdef int scale = row.price_scale
        cdef bint traded = row.bar.count > 0
        cdef object open_ = None if row.bar.high == LOWEST else price_of(row.bar.open, scale)
        cdef object high = open_ if row.bar.high == row.bar.open or row.bar.high == LOWEST else price_of(row.bar.high, scale)
        cdef object low = open_ if row.bar.low == row.bar.open or row.bar.high == LOWEST else price_of(row.bar.low, scale)
        cdef object close = (
            high if row.bar.close == row.bar.high or row.bar.high == LOWEST else low if row.bar.close == row.bar.low
            else price_of(row.bar.close, scale)
        )
        cdef object made = PyType_GenericAlloc(<PyTypeObject *>self.bar, 0)
        self.put(made, 0, symbols[row.symbol_id])
        self.put(made, 1, specs[row.spec])
        self.put(made, 2, opened)
        self.put(made, 3, closed)
        self.put(made, 4, open_)
        self.put(made, 5, high)
        self.put(made, 6, low)
        self.put(made, 7, close)
        self.put(made, 8, decimal_of(&row.bar.sums[0].volume, row.size_scale))
        self.put(made, 9, decimal_of(&row.bar.sums[0].quote, row.quote_scale))
        self.put(made, 10, row.bar.count)
        self.put(made, 11, decimal_of(&row.bar.sums[1].volume, row.size_scale))
        self.put(made, 12, decimal_of(&row.bar.sums[1].quote, row.quote_scale))
        self.put(made, 13, row.bar.first_id if ids and traded else None)
        self.put(made, 14, row.bar.last_id if ids and traded else None)
        self.put(made, 15, self.statuses[row.status])
        self.put(made, 16, row.revision)
        self.put(made, 17, self.reasons[row.reason])
        self.put(made, 18, instruments.table[row.symbol_id].contract != 0)
        self.put(made, 19, row.missing if row.missing >= 0 else None)
        self.put(made, 20, row.unpublished if row.unpublished >= 0 else None)
        return made

    cdef inline int put(self, object bar, int field, object value) except -1:
        # Past the frozen class's own __setattr__, as `object.__setattr__` goes.
        cdef object descriptor = self.descriptors[field]
        return setter_of(descriptor)(<PyObject *>descriptor, <PyObject *>bar, <PyObject *>value)
