"""Loops over rows of bars: to columns of numpy, and to those of Arrow (decimal128, texts) and back.

Units: a number is mantissa x 10**-scale; times int64 ns since the epoch.
"""

import numpy as np

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.math cimport NAN
from libc.stdint cimport int8_t, int32_t, int64_t, uint64_t, uint8_t
from libc.string cimport memcpy

from fastbars.kernel.limits cimport MAX_SCALE
from fastbars.kernel.places cimport is_unknown
from fastbars.kernel.rows cimport Row, rows_of
from fastbars.kernel.scaled cimport LOWEST, POWER_OF_TEN, int128, less128, scale128
from fastbars.kernel.summary cimport ALL

from fastbars.kernel import fields as _fields

cdef extern from "nearest.h" nogil:
    const int MOST_DECIMALS "FB_QUOTE_DECIMALS"
    double nearest "fb_nearest"(int128 mantissa, int scale)

cdef enum:
    MOST_PARTS = 64
    BLOCK = 64              # rows that stay in the nearest cache while column after column is taken from them

cdef enum Kind:
    TEXT                    # of a number of 4 bytes, or of one
    SHORT_TEXT
    LONG                    # as it stands, of 8 bytes or 4
    INT
    ID
    PRICE                   # to floats
    WHOLE
    LARGEST                 # likewise, 0: not known
    SUM
    MOMENT                  # to NaT

cdef struct Part:           # of a row, a column of the table
    Kind kind
    Py_ssize_t offset
    Py_ssize_t scale        # offset of its scale
    char *made
    const char *texts
    Py_ssize_t width        # of each text, in bytes
    Py_ssize_t count        # of texts


cdef void *_address(object array) except? NULL:
    return <void *><size_t>array.ctypes.data if array.size else NULL


def numpy_columns(rows, dict texts not None, bint ids):
    cdef object own = rows_of(rows)
    cdef Py_ssize_t start = 0, failed = -1, count = len(own)
    cdef const char *row = <const char *>_address(own)
    cdef Part[MOST_PARTS] parts
    cdef Part *failing = NULL
    cdef int at, used = 0
    cdef dict made = {}
    cdef list names = []        # they own the texts
    if len(_fields.FIELDS) > MOST_PARTS:
        raise ValueError(f"bars have {len(_fields.FIELDS)} fields, more than {MOST_PARTS}")
    for field, column in _fields.FIELDS.items():
        known = None
        if column.kind is _fields.FieldKind.NAME:
            known = np.array(texts[field] or ("",), np.str_)
            names.append(known)
            made[field] = np.empty(count, known.dtype)
        elif column.scale:
            made[field] = np.empty(count, np.float64)
        else:
            made[field] = np.empty(count, column.dtype)
        _take_part(&parts[used], column, made[field], known)
        if parts[used].kind == ID and not ids:
            made[field].fill(-1)
        else:
            used += 1
    with nogil:
        while start < count and failing is NULL:
            for at in range(used):
                failed = _fill(&parts[at], row, start, min(start + BLOCK, count))
                if failed >= 0:
                    failing = &parts[at]
                    break
            start += BLOCK
    if failing is not NULL:
        row += failed * sizeof(Row)
        if failing.kind == TEXT or failing.kind == SHORT_TEXT:
            raise IndexError(f"row {failed}: {_code(failing, row)} is outside the {failing.count} texts that there are")
        raise ValueError(f"row {failed}: scale {(<const int8_t *>row)[failing.scale]} is outside 0 to {MOST_DECIMALS}")
    return made


cdef int _take_part(Part *part, object column, object made, object texts) except -1:
    dtype, part.offset = _fields.ROW_DTYPE.fields[column.name]
    part.made = <char *>_address(made)
    part.scale = part.width = part.count = 0
    part.texts = NULL
    if column.kind is _fields.FieldKind.NAME:
        part.kind = SHORT_TEXT if dtype.itemsize == 1 else TEXT
        part.texts, part.width, part.count = <const char *>_address(texts), texts.itemsize, len(texts)
    elif column.scale:
        part.scale = _fields.ROW_DTYPE.fields[column.scale][1]
        part.kind = (
            PRICE if column.kind is _fields.FieldKind.PRICE else LARGEST if column.kind is _fields.FieldKind.LARGEST
            else SUM if column.dtype is _fields.INT128 else WHOLE)
    elif column.kind is _fields.FieldKind.MOMENT:
        part.kind = MOMENT
    elif column.kind is _fields.FieldKind.ID:
        part.kind = ID
    else:
        part.kind = INT if dtype.itemsize == sizeof(int32_t) else LONG
    return 0


cdef inline Py_ssize_t _code(const Part *part, const char *row) noexcept nogil:
    row += part.offset
    return (<const uint8_t *>row)[0] if part.kind == SHORT_TEXT else (<const int32_t *>row)[0]


cdef Py_ssize_t _fill(const Part *part, const char *row, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    # The rows from `start` to `stop`: -1, or the first whose text or scale there is not.
    cdef Py_ssize_t i, code
    cdef int64_t mantissa
    cdef int scale
    cdef const int128 *sum
    cdef int64_t *longs = <int64_t *>part.made
    cdef double *floats = <double *>part.made
    row += start * sizeof(Row)
    for i in range(start, stop):
        if part.kind == LONG:
            longs[i] = (<const int64_t *>(row + part.offset))[0]
        elif part.kind == MOMENT:
            longs[i] = LOWEST if (<const Row *>row).bar.last_trade_time == LOWEST else (
                (<const int64_t *>(row + part.offset))[0])
        elif part.kind == INT:
            (<int32_t *>part.made)[i] = (<const int32_t *>(row + part.offset))[0]
        elif part.kind == ID:
            longs[i] = (<const int64_t *>(row + part.offset))[0]
            if (<const Row *>row).bar.counts[ALL] == 0 or longs[i] == LOWEST:
                longs[i] = -1
        elif part.kind == TEXT or part.kind == SHORT_TEXT:
            code = _code(part, row)
            if not 0 <= code < part.count:
                return i
            memcpy(part.made + i * part.width, part.texts + code * part.width, part.width)
        else:
            scale = (<const int8_t *>row)[part.scale]
            if not 0 <= scale <= MOST_DECIMALS:
                return i
            if part.kind == SUM:
                sum = <const int128 *>(row + part.offset)
                floats[i] = NAN if is_unknown(<const Row *>row, sum) else nearest(sum[0], scale)
            elif part.kind == PRICE and (<const Row *>row).bar.high == LOWEST:  # there are no prices
                floats[i] = NAN
            else:
                mantissa = (<const int64_t *>(row + part.offset))[0]
                floats[i] = NAN if part.kind == LARGEST and mantissa == 0 else nearest(int128(<uint64_t>mantissa, -1 if mantissa < 0 else 0), scale)
        row += sizeof(Row)
    return -1


def decimal_column(rows, str field, int scale):
    # (uint64[n, 2], -1): decimal128 mantissas at `scale`; or None and the row that needs more than 38 digits.
    cdef object own = rows_of(rows)
    cdef Py_ssize_t i, failed = -1, count = len(own)
    cdef const Row *row
    cdef const char *at
    cdef int64_t mantissa
    cdef int128 value
    cdef int128 limit = int128(0x098A224000000000U, 0x4B3B4CA85A86C47A)
    cdef int128 opposite = int128(0xF675DDC000000000U, -0x4B3B4CA85A86C47B)
    cdef Py_ssize_t offset, scale_offset
    cdef bint wide, price
    cdef int shift
    cdef uint64_t[:, ::1] made
    column = _fields.FIELDS.get(field)
    if column is None or not column.scale:
        raise ValueError(f"{field!r} is neither a price nor a sum of bars")
    if not 0 <= scale <= 38:
        raise ValueError(f"scale {scale} is outside 0 to 38")
    offset, scale_offset = _fields.ROW_DTYPE.fields[column.name][1], _fields.ROW_DTYPE.fields[column.scale][1]
    wide, price = column.dtype is _fields.INT128, column.kind is _fields.FieldKind.PRICE
    values = np.empty((count, 2), np.uint64)
    made = values
    row = <const Row *>_address(own)
    with nogil:
        for i in range(count):
            at = <const char *>row
            if wide:
                value = (<const int128 *>(at + offset))[0]
                if is_unknown(row, &value):
                    value = int128(0, 0)
            else:
                mantissa = (<const int64_t *>(at + offset))[0]
                if price and row.bar.high == LOWEST:    # there are no prices
                    mantissa = 0
                value = int128(<uint64_t>mantissa, -1 if mantissa < 0 else 0)
            shift = scale - (<const int8_t *>at)[scale_offset]
            if shift < 0 and _narrow(&value, -shift) != -shift:
                failed = i
            while shift > 0:
                if scale128(&value, POWER_OF_TEN[min(shift, MAX_SCALE)]):
                    failed = i
                    break
                shift -= MAX_SCALE
            if failed >= 0 or not less128(&value, &limit) or not less128(&opposite, &value):
                failed = i
                break
            made[i, 0] = value.lo
            made[i, 1] = <uint64_t>value.hi
            row += 1
    return (values, -1) if failed < 0 else (None, failed)


def text_column(const int64_t[::1] codes not None, list names not None):
    # (int64[n + 1] offsets, uint8 data): the name of each code, as Arrow's large_string holds it.
    cdef Py_ssize_t i, count = len(codes)
    cdef int64_t total = 0
    cdef bytes name
    cdef int64_t[::1] places
    cdef uint8_t[::1] data
    for each in names:
        if type(each) is not bytes:
            raise TypeError(f"names are bytes, not {type(each).__name__}")
    names = names.copy()
    offsets = np.zeros(count + 1, np.int64)
    places = offsets
    codes = np.array(codes)     # read twice: the owner must not change them in between
    for i in range(count):
        if not 0 <= codes[i] < len(names):
            raise IndexError(f"row {i}: code {codes[i]} is outside the {len(names)} names")
        total += PyBytes_GET_SIZE(<bytes>names[codes[i]])
        places[i + 1] = total
    characters = np.empty(total, np.uint8)
    data = characters
    for i in range(count):
        name = <bytes>names[codes[i]]
        if PyBytes_GET_SIZE(name):
            memcpy(&data[places[i]], PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name))
    return offsets, characters


cdef inline unsigned int _tenth(int128 *value) noexcept nogil:
    # Of what is not negative; returns the rest. In words: not every compiler divides 128 bits.
    cdef uint64_t above = <uint64_t>value.hi, middle, below
    if above == 0:
        below = value.lo % 10
        value.lo //= 10
        return <unsigned int>below
    value.hi = <int64_t>(above // 10)
    middle = (above % 10) << 32 | value.lo >> 32
    below = (middle % 10) << 32 | (value.lo & <uint64_t>0xFFFFFFFFU)
    value.lo = (middle // 10) << 32 | below // 10
    return <unsigned int>(below % 10)


cdef inline void _negate(int128 *value) noexcept nogil:
    value.lo = ~value.lo + 1
    value.hi = <int64_t>(~<uint64_t>value.hi + (value.lo == 0))


cdef int _narrow(int128 *value, int most) noexcept nogil:
    # Divides by ten, up to `most` times, while nothing is left over; returns how often.
    cdef bint negative = value.hi < 0
    cdef int done = 0
    cdef int128 tried
    if value.lo == 0 and value.hi == 0:
        return most
    if negative:
        _negate(value)
    while done < most:
        tried = value[0]
        if _tenth(&tried) != 0:
            break
        value[0] = tried
        done += 1
    if negative:
        _negate(value)
    return done


def decimals_of(rows, str field, int least):
    # The fewest decimals, `least` or more, that all values of a price or sum need.
    cdef object own = rows_of(rows)
    cdef Py_ssize_t i, count = len(own)
    cdef const char *at = <const char *>_address(own)
    cdef Py_ssize_t offset, scale_offset
    cdef bint wide, price
    cdef int64_t mantissa
    cdef int128 value
    cdef int scale, most = least
    column = _fields.FIELDS.get(field)
    if column is None or not column.scale:
        raise ValueError(f"{field!r} is neither a price nor a sum of bars")
    offset, scale_offset = _fields.ROW_DTYPE.fields[column.name][1], _fields.ROW_DTYPE.fields[column.scale][1]
    wide, price = column.dtype is _fields.INT128, column.kind is _fields.FieldKind.PRICE
    with nogil:
        for i in range(count):
            scale = (<const int8_t *>at)[scale_offset]
            if scale > most and not (price and (<const Row *>at).bar.high == LOWEST):
                if wide:
                    value = (<const int128 *>(at + offset))[0]
                else:
                    mantissa = (<const int64_t *>(at + offset))[0]
                    value = int128(<uint64_t>mantissa, -1 if mantissa < 0 else 0)
                if not (wide and is_unknown(<const Row *>at, &value)):
                    most = scale - _narrow(&value, scale - most)
            at += sizeof(Row)
    return most


cdef enum:
    MOST_COLUMNS = 4            # of one scale

cdef struct Target:
    const uint64_t *values
    Py_ssize_t offset
    bint wide


def fill_decimals(rows, tuple fields not None, tuple values not None, int scale, const int8_t[::1] least not None, int most):
    # Prices or sums of one scale in a row: decimal128 mantissas at `scale`. Each row gets the smallest scale, from its
    # `least` up, that holds all of its values. -1, or the first row for which there is none up to `most`.
    cdef object own = rows_of(rows)
    cdef Py_ssize_t i, count = len(own), failed = -1
    cdef Py_ssize_t scale_offset = 0
    cdef char *row = <char *>_address(own)
    cdef Target[MOST_COLUMNS] targets
    cdef int128[MOST_COLUMNS] numbers
    cdef int128 tried
    cdef int used = len(fields), at, narrowed, shift, own_scale
    cdef bint fits
    if own is not rows or not own.flags.writeable or not 0 < used <= MOST_COLUMNS or len(values) != used:
        raise ValueError(f"{used} fields with {len(values)} columns do not fill rows")
    if not 0 <= scale <= 2 * MOST_DECIMALS or not 0 <= most <= MOST_DECIMALS or len(least) != count:
        raise ValueError(f"scale {scale} or {most} is out of range, or columns differ in length")
    for at in range(used):
        column = _fields.FIELDS[fields[at]]
        array = values[at]
        if array.dtype != np.uint64 or array.shape != (count, 2) or not array.flags.c_contiguous:
            raise ValueError(f"{fields[at]}: {count} decimals are an array of {count} pairs of uint64")
        targets[at].values = <const uint64_t *>_address(array)
        targets[at].offset = _fields.ROW_DTYPE.fields[column.name][1]
        targets[at].wide = column.dtype is _fields.INT128
        scale_offset = _fields.ROW_DTYPE.fields[column.scale][1]
    with nogil:
        for i in range(count):
            narrowed = scale - max(<int>least[i], 0)
            for at in range(used):
                numbers[at] = int128(targets[at].values[2 * i], <int64_t>targets[at].values[2 * i + 1])
                if narrowed > 0:
                    tried = numbers[at]
                    narrowed = _narrow(&tried, narrowed)
            own_scale = scale - narrowed
            fits = own_scale <= most
            for at in range(used):
                if narrowed > 0:
                    _narrow(&numbers[at], narrowed)
                shift = -narrowed
                while fits and shift > 0:
                    fits = not scale128(&numbers[at], POWER_OF_TEN[min(shift, MAX_SCALE)])
                    shift -= MAX_SCALE
                if targets[at].wide:
                    (<int128 *>(row + targets[at].offset))[0] = numbers[at]
                else:
                    fits = fits and numbers[at].hi == (-1 if numbers[at].lo >> 63 else 0) and (
                        <int64_t>numbers[at].lo != LOWEST)
                    (<int64_t *>(row + targets[at].offset))[0] = <int64_t>numbers[at].lo
            if not fits:
                failed = i
                break
            (<int8_t *>row)[scale_offset] = <int8_t>own_scale
            row += sizeof(Row)
    return failed
