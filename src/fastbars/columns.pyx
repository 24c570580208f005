"""Loops over whole columns: texts, decimals and floats to scaled integers, symbols to ids, bars to decimal128.

Units: a number is mantissa x 10**-scale; times int64 ns since the epoch. A loop that meets a row it cannot take stops
there and returns its place, so that the caller can name row and column; -1 means that all went well.
"""

import numpy as np

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.math cimport fabs, fma, isfinite, rint
from libc.stdint cimport int8_t, int32_t, int64_t, uint32_t, uint64_t, uint8_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy

from fastbars.rows cimport Row
from fastbars.scaled cimport HIGHEST, PARSED, POWER_OF_TEN, int128, less128, parse_text, scale128

from fastbars.rows import ROW_DTYPE as _ROW_DTYPE

cdef enum:
    FIXED                       # `width` bytes each, padded with zeros
    OFFSETS32                   # Arrow's string and large_string
    OFFSETS64
    VIEWS                       # Arrow's string_view: 16 bytes each


cdef void *_address(object array) except? NULL:
    return <void *><size_t>array.ctypes.data if array.size else NULL


cdef class Texts:
    cdef readonly Py_ssize_t length
    cdef int layout
    cdef Py_ssize_t width
    cdef const char *data
    cdef const int32_t *offsets32
    cdef const int64_t *offsets64
    cdef const char **buffers
    cdef object owners          # of the memory pointed into

    def __dealloc__(self):
        free(self.buffers)

    @staticmethod
    def fixed(array):
        cdef Texts texts = Texts.__new__(Texts)
        array = np.ascontiguousarray(array)
        texts.layout, texts.width, texts.length = FIXED, array.dtype.itemsize, len(array)
        texts.data = <const char *>_address(array)
        texts.owners = array
        return texts

    @staticmethod
    def offsets(places, data, Py_ssize_t start, Py_ssize_t length):
        cdef Texts texts = Texts.__new__(Texts)
        texts.layout = OFFSETS32 if places.dtype == np.int32 else OFFSETS64
        texts.length = length
        texts.data = <const char *>_address(data)
        if texts.layout == OFFSETS32:
            texts.offsets32 = <const int32_t *>_address(places) + start
        else:
            texts.offsets64 = <const int64_t *>_address(places) + start
        texts.owners = (places, data)
        return texts

    @staticmethod
    def views(views, list data, Py_ssize_t start, Py_ssize_t length):
        cdef Texts texts = Texts.__new__(Texts)
        cdef Py_ssize_t i
        texts.layout, texts.length = VIEWS, length
        texts.data = <const char *>_address(views) + 16 * start
        texts.buffers = <const char **>calloc(len(data) + 1, sizeof(char *))
        if texts.buffers is NULL:
            raise MemoryError
        for i in range(len(data)):
            texts.buffers[i] = <const char *>_address(data[i])
        texts.owners = (views, data)
        return texts

    cdef inline const char *at(self, Py_ssize_t i, Py_ssize_t *length) noexcept nogil:
        cdef const char *start
        cdef const int32_t *view
        cdef Py_ssize_t size
        if self.layout == OFFSETS32:
            length[0] = self.offsets32[i + 1] - self.offsets32[i]
            return self.data + self.offsets32[i]
        if self.layout == OFFSETS64:
            length[0] = self.offsets64[i + 1] - self.offsets64[i]
            return self.data + self.offsets64[i]
        if self.layout == VIEWS:
            view = <const int32_t *>(self.data + 16 * i)
            length[0] = view[0]
            return <const char *>(view + 1) if view[0] <= 12 else self.buffers[view[2]] + view[3]
        start = self.data + self.width * i
        size = self.width
        while size > 0 and start[size - 1] == 0:
            size -= 1
        length[0] = size
        return start

    def __len__(self):
        return self.length

    def __getitem__(self, Py_ssize_t i):
        cdef Py_ssize_t length
        cdef const char *start
        if not 0 <= i < self.length:
            raise IndexError(f"text {i} is outside 0 to {self.length - 1}")
        start = self.at(i, &length)
        return PyBytes_FromStringAndSize(start, length)

    def numbers(self, int64_t[::1] mantissa not None, int8_t[::1] scale not None):
        # -1, or the first row that is no positive number of 64 bits and 18 decimals at most.
        cdef Py_ssize_t i, length
        cdef const char *start
        cdef int own = 0
        cdef Py_ssize_t failed = -1
        if len(mantissa) != self.length or len(scale) != self.length:
            raise ValueError("columns differ in length")
        with nogil:
            for i in range(self.length):
                start = self.at(i, &length)
                if parse_text(start, length, &mantissa[i], &own) != PARSED or mantissa[i] <= 0:
                    failed = i
                    break
                scale[i] = <int8_t>own
        return failed


cdef class Encoder:
    cdef readonly list names    # bytes, in the order in which they first occurred
    cdef int32_t *table         # open addressing: ids, -1 where free
    cdef uint64_t *hashes       # of each id
    cdef Py_ssize_t size        # of the table, a power of two

    def __cinit__(self):
        self.names = []
        self.grow(1024)

    def __dealloc__(self):
        free(self.table)
        free(self.hashes)

    cdef int grow(self, Py_ssize_t size) except -1:
        cdef int32_t *table = <int32_t *>malloc(size * sizeof(int32_t))
        cdef uint64_t *hashes = <uint64_t *>malloc(size // 2 * sizeof(uint64_t))
        cdef Py_ssize_t i
        cdef int32_t s
        if table is NULL or hashes is NULL:
            free(table)
            free(hashes)
            raise MemoryError
        for i in range(size):
            table[i] = -1
        for s in range(<int32_t>len(self.names)):
            hashes[s] = self.hashes[s]
            i = <Py_ssize_t>(hashes[s] & <uint64_t>(size - 1))
            while table[i] >= 0:
                i = (i + 1) & (size - 1)
            table[i] = s
        free(self.table)
        free(self.hashes)
        self.table, self.hashes, self.size = table, hashes, size
        return 0

    def encode(self, Texts texts not None, int32_t[::1] ids not None):
        cdef Py_ssize_t i, at, length
        cdef const char *start
        cdef uint64_t hashed
        cdef int32_t s
        cdef bytes name
        if len(ids) != texts.length:
            raise ValueError("columns differ in length")
        for i in range(texts.length):
            start = texts.at(i, &length)
            hashed = _hash(start, length)
            at = <Py_ssize_t>(hashed & <uint64_t>(self.size - 1))
            while True:
                s = self.table[at]
                if s < 0:
                    if 2 * (len(self.names) + 1) > self.size:
                        self.grow(2 * self.size)
                        at = <Py_ssize_t>(hashed & <uint64_t>(self.size - 1))
                        continue
                    s = <int32_t>len(self.names)
                    self.names.append(PyBytes_FromStringAndSize(start, length))
                    self.hashes[s] = hashed
                    self.table[at] = s
                    break
                if self.hashes[s] == hashed:
                    name = <bytes>self.names[s]
                    if PyBytes_GET_SIZE(name) == length and memcmp(PyBytes_AS_STRING(name), start, length) == 0:
                        break
                at = (at + 1) & (self.size - 1)
            ids[i] = s


cdef inline uint64_t _hash(const char *text, Py_ssize_t length) noexcept nogil:
    # FNV-1a over words of 8 bytes, the last one padded, then mixed.
    cdef uint64_t hashed = 14695981039346656037U ^ <uint64_t>length
    cdef uint64_t word
    while length > 0:
        word = 0
        memcpy(&word, text, min(length, 8))
        hashed = (hashed ^ word) * <uint64_t>1099511628211
        hashed ^= hashed >> 29
        text += 8
        length -= 8
    return hashed ^ (hashed >> 32)


def first_unsorted(const int64_t[::1] time_ns not None):
    cdef Py_ssize_t i, start = 1, stop, length = len(time_ns)
    cdef int backwards = 0
    with nogil:
        while start < length and not backwards:
            stop = min(start + 4096, length)
            for i in range(start, stop):
                backwards |= time_ns[i] < time_ns[i - 1]
            if not backwards:
                start = stop
        if backwards:
            while time_ns[start] >= time_ns[start - 1]:
                start += 1
    return start if backwards else -1


def round_floats(const double[::1] values not None, int scale, int64_t[::1] mantissa not None):
    # To the nearest, ties to even, of the float's exact value x 10**scale: the rounded product and what it lost.
    cdef Py_ssize_t i, failed = -1
    cdef double factor = <double>POWER_OF_TEN[scale]
    cdef double product, lost, whole, over
    with nogil:
        for i in range(len(values)):
            product = values[i] * factor
            if not isfinite(product) or fabs(product) >= 9.2233720368547e18:
                failed = i
                break
            lost = fma(values[i], factor, -product)
            whole = rint(product)
            over = product - whole
            mantissa[i] = <int64_t>whole
            if over == 0.5 and lost > 0:
                mantissa[i] += 1
            elif over == -0.5 and lost < 0:
                mantissa[i] -= 1
            elif over == 0:
                mantissa[i] += <int64_t>rint(lost)
    return failed


def narrow_decimals(const uint8_t[::1] data not None, int width, int scale, int64_t[::1] mantissa not None,
                    int8_t[::1] scales not None):
    # Arrow decimals of 4, 8 or 16 bytes to the smallest scale that holds each.
    cdef Py_ssize_t i, failed = -1
    cdef int32_t narrow
    cdef int64_t low
    cdef uint32_t[4] limbs
    cdef uint32_t[4] tenth
    cdef int own
    with nogil:
        for i in range(len(mantissa)):
            own = scale
            if width == 16:
                memcpy(limbs, &data[16 * i], 16)
                if limbs[3] >> 31:
                    failed = i
                    break
                # What does not fit 64 bits must end in zeros that do not count.
                while (limbs[3] or limbs[2] or limbs[1] >> 31 or own > 18) and own > 0:
                    if _divide_by_ten(limbs, tenth):
                        break
                    memcpy(limbs, tenth, 16)
                    own -= 1
                if limbs[3] or limbs[2] or limbs[1] >> 31:
                    failed = i
                    break
                low = <int64_t>(<uint64_t>limbs[1] << 32 | limbs[0])
            elif width == 8:
                memcpy(&low, &data[8 * i], 8)
            else:
                memcpy(&narrow, &data[4 * i], 4)
                low = narrow
            if low <= 0:
                failed = i
                break
            while own > 0 and low % 10 == 0:
                low //= 10
                own -= 1
            if own > 18:
                failed = i
                break
            mantissa[i] = low
            scales[i] = <int8_t>own
    return failed


cdef inline uint32_t _divide_by_ten(const uint32_t *limbs, uint32_t *tenth) noexcept nogil:
    cdef uint64_t rest = 0
    cdef int k
    for k in range(3, -1, -1):
        rest = rest << 32 | limbs[k]
        tenth[k] = <uint32_t>(rest // 10)
        rest %= 10
    return <uint32_t>rest


def align(int64_t[::1] mantissa not None, const int8_t[::1] scales not None, const int32_t[::1] symbol_id,
          int8_t[::1] symbol_scales not None):
    # Brings every row to the largest scale of its symbol, in place. symbol_id None: there is one symbol.
    cdef Py_ssize_t i, failed = -1
    cdef int64_t factor
    cdef bint one = symbol_id is None
    cdef int32_t s
    with nogil:
        for i in range(len(mantissa)):
            s = 0 if one else symbol_id[i]
            symbol_scales[s] = max(symbol_scales[s], scales[i])
        for i in range(len(mantissa)):
            s = 0 if one else symbol_id[i]
            if scales[i] != symbol_scales[s]:
                factor = POWER_OF_TEN[symbol_scales[s] - scales[i]]
                if mantissa[i] > HIGHEST // factor:
                    failed = i
                    break
                mantissa[i] *= factor
    return failed


def decimal_column(rows, str name, int scale):
    # (uint64[n, 2], -1): decimal128 mantissas at `scale`; or None and the row that needs more than 38 digits.
    cdef Py_ssize_t i, failed = -1, count = len(rows)
    cdef const Row *row
    cdef int128 value
    cdef int128 limit = int128(0x098A224000000000U, 0x4B3B4CA85A86C47A)
    cdef int field = ("open", "high", "low", "close", "volume", "taker_volume", "quote_volume", "taker_quote_volume").index(name)
    cdef int shift
    cdef uint64_t[:, ::1] made
    if rows.dtype != _ROW_DTYPE or not rows.flags.c_contiguous:
        raise ValueError(f"rows are a contiguous array of ROW_DTYPE, not of {rows.dtype}")
    column = np.empty((count, 2), np.uint64)
    made = column
    row = <const Row *>_address(rows)
    with nogil:
        for i in range(count):
            if field < 4:
                value.lo = <uint64_t>(
                    row.bar.open if field == 0 else row.bar.high if field == 1 else row.bar.low if field == 2
                    else row.bar.close)
                value.hi = 0
                shift = scale - row.price_scale
            elif field < 6:
                value = row.bar.sums[0 if field == 4 else 1].volume
                shift = scale - row.size_scale
            else:
                value = row.bar.sums[0 if field == 6 else 1].quote
                shift = scale - row.quote_scale
            while shift > 0:
                if scale128(&value, POWER_OF_TEN[min(shift, 18)]):
                    failed = i
                    break
                shift -= 18
            if failed >= 0 or not less128(&value, &limit):
                failed = i
                break
            made[i, 0] = value.lo
            made[i, 1] = <uint64_t>value.hi
            row += 1
    return (column, -1) if failed < 0 else (None, failed)


def text_column(const int64_t[::1] codes not None, list names not None):
    # (int64[n + 1] offsets, uint8 data): the name of each code, as Arrow's large_string holds it.
    cdef Py_ssize_t i, count = len(codes)
    cdef int64_t total = 0
    cdef bytes name
    cdef int64_t[::1] places
    cdef uint8_t[::1] data
    offsets = np.zeros(count + 1, np.int64)
    places = offsets
    for i in range(count):
        total += PyBytes_GET_SIZE(<bytes>names[codes[i]])
        places[i + 1] = total
    characters = np.empty(total, np.uint8)
    data = characters
    for i in range(count):
        name = <bytes>names[codes[i]]
        if PyBytes_GET_SIZE(name):
            memcpy(&data[places[i]], PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name))
    return offsets, characters
