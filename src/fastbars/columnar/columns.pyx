"""Loops over columns of trades: texts, decimals and floats to scaled integers, symbols to ids.

Units: a number is mantissa x 10**-scale; times int64 ns since the epoch. A loop that meets a row it cannot take stops
there and returns its place, so that the caller can name row and column; -1 means that all went well.
"""

import numpy as np

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.long cimport PyLong_AsLongLongAndOverflow
from cpython.object cimport PyObject
from cpython.unicode cimport PyUnicode_AsEncodedString, PyUnicode_DATA, PyUnicode_DecodeUTF8, PyUnicode_GET_LENGTH
from libc.math cimport fabs, fma, rint
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint16_t, uint32_t, uint64_t, uint8_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcmp, memcpy

from fastbars.kernel.limits cimport MAX_SCALE
from fastbars.kernel.scaled cimport HIGHEST, LOWEST, PARSED, POWER_OF_TEN, magnitude, parse_number, parse_text

from fastbars.errors import InvalidTickError, PrecisionError


cdef extern from "Python.h":
    bint PyUnicode_IS_ASCII(object text)

cdef enum:
    FIXED                       # `width` bytes each, padded with zeros
    OFFSETS32                   # Arrow's string and large_string
    OFFSETS64
    VIEWS                       # Arrow's string_view: 16 bytes each


cdef const char *EMPTY = b""

cdef struct Buffer:
    const char *start
    Py_ssize_t size


cdef object _plain(object array, tuple dtypes):
    # A contiguous column of numpy's own with one of these dtypes.
    column = np.asarray(array)
    if column.ndim != 1 or column.dtype not in dtypes or not column.flags.c_contiguous or not column.flags.aligned:
        raise TypeError(f"a contiguous column of {' or '.join([dtype.__name__ for dtype in dtypes])} is needed, not of {column.dtype}")
    return column


cdef void *_address(object array) except? NULL:
    return <void *><size_t>array.ctypes.data if array.size else NULL


cdef class Texts:
    cdef readonly Py_ssize_t length
    cdef int layout
    cdef Py_ssize_t width
    cdef const char *data
    cdef const int32_t *offsets32
    cdef const int64_t *offsets64
    cdef Py_ssize_t size        # of `data`, where offsets lead into it
    cdef Buffer *buffers
    cdef Py_ssize_t buffer_count
    cdef object owners          # of the memory pointed into

    def __dealloc__(self):
        free(self.buffers)

    @staticmethod
    def fixed(array):
        cdef Texts texts = Texts.__new__(Texts)
        array = np.ascontiguousarray(array)
        if array.dtype.kind != "S" or array.ndim != 1:
            raise TypeError(f"texts are a column of bytes, not of {array.dtype} with {array.ndim} dimensions")
        texts.layout, texts.width, texts.length = FIXED, array.dtype.itemsize, len(array)
        texts.data = <const char *>_address(array)
        texts.owners = array
        return texts

    @staticmethod
    def offsets(places, data, Py_ssize_t start, Py_ssize_t length):
        cdef Texts texts = Texts.__new__(Texts)
        places, data = _plain(places, (np.int32, np.int64)), _plain(data, (np.uint8,))
        if start < 0 or length < 0 or (length and length >= len(places) - start):
            raise IndexError(f"{length} texts from {start} on need {length} + 1 offsets behind it, not {len(places)} in all")
        texts.layout = OFFSETS32 if places.dtype == np.int32 else OFFSETS64
        texts.length = length
        texts.size = len(data)
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
        views, data = _plain(views, (np.uint8,)), [_plain(each, (np.uint8,)) for each in data]
        if start < 0 or length < 0 or length > len(views) // 16 - start:
            raise IndexError(f"{length} views from {start} on, of {len(views) // 16}")
        texts.layout, texts.length = VIEWS, length
        texts.data = <const char *>_address(views) + 16 * start
        texts.buffers = <Buffer *>calloc(len(data) + 1, sizeof(Buffer))
        if texts.buffers is NULL:
            raise MemoryError
        texts.buffer_count = len(data)
        for i in range(len(data)):
            texts.buffers[i] = Buffer(<const char *>_address(data[i]), len(data[i]))
        texts.owners = (views, data)
        return texts

    cdef inline const char *at(self, Py_ssize_t i, Py_ssize_t *length) noexcept nogil:
        # Length -1: it leads out of its buffer. Checked here, as the owner of the arrays may change them at any time.
        cdef const char *start
        cdef int32_t[4] view
        cdef int64_t first, behind
        cdef Py_ssize_t size
        if self.layout == OFFSETS32 or self.layout == OFFSETS64:
            first = self.offsets32[i] if self.layout == OFFSETS32 else self.offsets64[i]
            behind = self.offsets32[i + 1] if self.layout == OFFSETS32 else self.offsets64[i + 1]
            length[0] = behind - first if 0 <= first <= behind <= self.size else -1
            return self.data + first if length[0] > 0 else EMPTY
        if self.layout == VIEWS:
            memcpy(view, self.data + 16 * i, 16)
            length[0] = view[0]
            if 0 <= view[0] <= 12:
                return self.data + 16 * i + 4
            if view[0] < 0 or not 0 <= view[2] < self.buffer_count or view[3] < 0 or (
                <int64_t>view[3] + view[0] > self.buffers[view[2]].size
            ):
                length[0] = -1
                return EMPTY
            return self.buffers[view[2]].start + view[3]
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
        if length < 0:
            raise InvalidTickError(f"text {i} leads out of its buffer", i)
        return PyBytes_FromStringAndSize(start, length)

    def numbers(self, int64_t[::1] mantissa not None, int8_t[::1] scale not None, bint signed=False):
        # -1, or the first row that is negative (unless `signed`), or no number of 64 bits and 18 decimals at most.
        cdef Py_ssize_t i, length
        cdef const char *start
        cdef int own = 0
        cdef Py_ssize_t failed = -1
        if len(mantissa) != self.length or len(scale) != self.length:
            raise ValueError("columns differ in length")
        with nogil:
            for i in range(self.length):
                start = self.at(i, &length)
                if parse_text(start, length, &mantissa[i], &own) != PARSED or (mantissa[i] < 0 and not signed):
                    failed = i
                    break
                scale[i] = <int8_t>own
        return failed


cdef struct Key:            # of a text: itself where it has up to 16 bytes, else its hash
    uint64_t first
    uint64_t second
    Py_ssize_t length

cdef struct Slot:
    Key key                 # of length -1: free
    int32_t id


cdef class Encoder:
    cdef list texts             # bytes, in the order in which they first occurred
    cdef const char **starts    # of each of them
    cdef Slot *table            # open addressing
    cdef Py_ssize_t size        # of the table, a power of two
    cdef int bits

    def __cinit__(self):
        self.texts = []
        self.grow(11)

    def __dealloc__(self):
        free(self.table)
        free(self.starts)

    @property
    def names(self):
        return self.texts.copy()

    cdef int grow(self, int bits) except -1:
        cdef Py_ssize_t i, size = <Py_ssize_t>1 << bits
        cdef Slot *before = self.table
        cdef Slot *table
        cdef const char **starts = <const char **>realloc(self.starts, size // 4 * sizeof(char *))
        if starts is NULL:
            raise MemoryError
        self.starts = starts
        table = <Slot *>malloc(size * sizeof(Slot))
        if table is NULL:
            raise MemoryError
        for i in range(size):
            table[i].key.length = -1
        self.table, self.bits, size, self.size = table, bits, self.size, size
        for i in range(size):
            if before[i].key.length >= 0:
                self.free_slot(&before[i].key)[0] = before[i]
        free(before)
        return 0

    cdef inline Py_ssize_t place_of(self, const Key *key) noexcept nogil:
        cdef uint64_t hashed = (key.first ^ <uint64_t>key.length) * <uint64_t>0x9E3779B97F4A7C15 + key.second
        return <Py_ssize_t>((hashed ^ hashed >> 32) * <uint64_t>0xD6E8FEB86659FD93 >> (64 - self.bits))

    cdef Slot *free_slot(self, const Key *key) noexcept:
        cdef Py_ssize_t at = self.place_of(key)
        while self.table[at].key.length >= 0:
            at = (at + 1) & (self.size - 1)
        return &self.table[at]

    cdef inline int32_t find(self, const Key *key, const char *start) noexcept nogil:
        # The id of a text, -1 if it has none yet.
        cdef Py_ssize_t at = self.place_of(key)
        cdef const Slot *slot = &self.table[at]
        while slot.key.length >= 0:
            if slot.key.first == key.first and slot.key.second == key.second and slot.key.length == key.length and (
                key.length <= 16 or memcmp(self.starts[slot.id], start, key.length) == 0
            ):
                return slot.id
            at = (at + 1) & (self.size - 1)
            slot = &self.table[at]
        return -1

    cdef int32_t add(self, const Key *key, const char *start) except -1:
        cdef bytes name = PyBytes_FromStringAndSize(start, key.length)
        cdef int32_t s = <int32_t>len(self.texts)
        cdef Slot *slot
        if 4 * (len(self.texts) + 1) > self.size:
            self.grow(self.bits + 1)
        self.texts.append(name)
        self.starts[s] = PyBytes_AS_STRING(name)
        slot = self.free_slot(key)
        slot.key, slot.id = key[0], s
        return s

    def encode(self, Texts texts not None, int32_t[::1] ids not None):
        cdef Py_ssize_t i = 0
        cdef Key key
        cdef const char *start
        if len(ids) != texts.length:
            raise ValueError("columns differ in length")
        if texts.length == 0:
            return
        while True:
            with nogil:
                i = self.encode_known(texts, i, &ids[0])
            if i == texts.length:
                return
            start = texts.at(i, &key.length)
            if key.length < 0:
                raise InvalidTickError(f"text {i} leads out of its buffer", i)
            _take_key(start, &key)
            # Not known a moment ago; the owner of the texts may have changed them since.
            ids[i] = self.find(&key, start)
            if ids[i] < 0:
                ids[i] = self.add(&key, start)
            i += 1

    cdef Py_ssize_t encode_known(self, Texts texts, Py_ssize_t i, int32_t *ids) noexcept nogil:
        # From row i to the first whose text is not known, or none.
        cdef Key key
        cdef const char *start
        while i < texts.length:
            start = texts.at(i, &key.length)
            if key.length < 0:
                break
            _take_key(start, &key)
            ids[i] = self.find(&key, start)
            if ids[i] < 0:
                break
            i += 1
        return i

    def encode_objects(self, values not None, int32_t[::1] ids not None):
        cdef bint listed = type(values) is list or type(values) is tuple
        cdef object own = values if listed else np.ascontiguousarray(values, object)
        cdef PyObject **items = NULL if listed else <PyObject **>_address(own)
        cdef object value, text
        cdef Py_ssize_t i
        cdef Key key
        cdef const char *start
        cdef int32_t s
        if len(ids) != len(own) or not (listed or own.ndim == 1):
            raise ValueError("columns differ in length")
        for i in range(len(ids)):
            if listed:
                if i >= len(own):       # an allocation collects garbage, which may run code that shortens it
                    return i
                value = own[i]
            elif items[i] is NULL:      # numpy's None
                return i
            else:
                value = <object>items[i]
            text = value
            if isinstance(value, str) and PyUnicode_IS_ASCII(value):
                start, key.length = <const char *>PyUnicode_DATA(value), PyUnicode_GET_LENGTH(value)
            elif isinstance(value, (str, bytes)):
                if isinstance(value, str):
                    text = PyUnicode_AsEncodedString(value, "utf-8", "surrogatepass")
                start, key.length = PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text)
            else:
                return i
            _take_key(start, &key)
            s = self.find(&key, start)
            if s < 0:
                if isinstance(value, bytes):
                    try:
                        PyUnicode_DecodeUTF8(start, key.length, NULL)
                    except UnicodeDecodeError:
                        return i
                s = self.add(&key, start)
            ids[i] = s
        return -1


cdef inline void _take_key(const char *text, Key *key) noexcept nogil:
    # The text of a key whose length is set, padded with zeros; no byte beyond it is read: its first and its last bytes
    # may overlap, and then are the same.
    cdef Py_ssize_t length = key.length
    cdef uint32_t low, high
    key.second = 0
    if length > 16:
        key.first = _hash(text, length)
    elif length >= 8:
        memcpy(&key.first, text, 8)
        if length > 8:
            memcpy(&key.second, text + length - 8, 8)
            key.second >>= 8 * (16 - length)
    elif length >= 4:
        memcpy(&low, text, 4)
        memcpy(&high, text + length - 4, 4)
        key.first = low | <uint64_t>high << 8 * (length - 4)
    elif length > 0:
        key.first = (
            <uint64_t><uint8_t>text[0]
            | <uint64_t><uint8_t>text[length // 2] << 8 * (length // 2)
            | <uint64_t><uint8_t>text[length - 1] << 8 * (length - 1))
    else:
        key.first = 0


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


ctypedef fused Code:
    int8_t
    uint8_t
    int16_t
    uint16_t
    int32_t
    uint32_t
    int64_t
    uint64_t


def first_outside(const Code[::1] codes not None, Py_ssize_t count):
    # The first code that is none of 0 to count - 1; -1: there is none.
    cdef Py_ssize_t i, start = 0, stop, length = len(codes)
    cdef int outside = 0
    with nogil:
        while start < length:
            stop = min(start + 4096, length)
            for i in range(start, stop):
                outside |= <uint64_t>codes[i] >= <uint64_t>count    # a negative one becomes a large one
            if outside:
                break
            start = stop
        while start < length and <uint64_t>codes[start] < <uint64_t>count:
            start += 1
    return start if start < length else -1


def look_up(const Code[::1] codes not None, const int32_t[::1] places not None, int32_t[::1] ids not None):
    cdef Py_ssize_t i, failed = -1
    cdef uint64_t code, count = <uint64_t>len(places)
    if len(ids) != len(codes):
        raise ValueError("columns differ in length")
    with nogil:
        for i in range(len(ids)):
            code = <uint64_t>codes[i]
            if code >= count:
                failed = i
                break
            ids[i] = places[<Py_ssize_t>code]
    if failed >= 0:
        raise IndexError(f"row {failed}: its code is outside 0 to {len(places) - 1}")


def number_anew(int32_t[::1] ids not None, Py_ssize_t count):
    # Those of 0 to count - 1 that occur, ascending; `ids` become their places among them.
    cdef Py_ssize_t i, at
    cdef uint32_t each
    cdef bint inside = True
    cdef uint8_t[::1] seen
    cdef int32_t[::1] places
    if not 0 <= count <= 1 << 31:
        raise ValueError(f"{count} ids")
    marks = np.zeros(count, np.uint8)
    seen = marks
    with nogil:
        for i in range(len(ids)):
            each = <uint32_t>ids[i]
            if each >= <uint64_t>count:
                inside = False
                break
            seen[<Py_ssize_t>each] = 1
    used = np.flatnonzero(marks)
    if not inside:
        raise ValueError(f"an id is outside 0 to {count - 1}")
    if len(used) < count:
        numbers = np.zeros(count, np.int32)
        numbers[used] = np.arange(len(used))
        places = numbers
        for i in range(len(ids)):
            at = ids[i]
            if not 0 <= at < count:     # the owner has changed it since
                raise ValueError(f"an id is outside 0 to {count - 1}")
            ids[i] = places[at]
    return used


def narrow_letters(const uint32_t[::1] letters not None, uint8_t[::1] narrow not None):
    # Whether all are ASCII; then they stand in `narrow`.
    cdef Py_ssize_t i, start = 0, stop, count = len(letters)
    cdef uint32_t all_bits = 0
    if len(narrow) != count:
        raise ValueError("columns differ in length")
    with nogil:
        while start < count and all_bits < 128:
            stop = min(start + 4096, count)
            for i in range(start, stop):
                all_bits |= letters[i]
                narrow[i] = <uint8_t>letters[i]
            start = stop
    return all_bits < 128


def integers_of(values not None):
    # Of a list or tuple whose items are all of type int, and of 64 bits; None: it is another, or empty.
    cdef object item
    cdef int64_t[::1] made
    cdef Py_ssize_t i, count
    cdef int beyond = 0
    if type(values) is not list and type(values) is not tuple or not len(values) or type(values[0]) is not int:
        return None
    count = len(values)
    array = np.empty(count, np.int64)
    made = array
    for i in range(count):
        if i >= len(values):
            return None
        item = values[i]
        if type(item) is not int:
            return None
        made[i] = PyLong_AsLongLongAndOverflow(item, &beyond)
        if beyond:
            return None
    return array


def numbers_of_objects(values not None, int64_t[::1] mantissa not None, int8_t[::1] scale not None, bint signed=False):
    # As Texts.numbers: -1, or the first that is no such number.
    cdef object own = np.ascontiguousarray(values, object)
    cdef object value
    cdef int where
    cdef Py_ssize_t i = 0
    if own.ndim != 1 or len(mantissa) != len(own) or len(scale) != len(own):
        raise ValueError("columns differ in length")
    try:
        for value in own:
            mantissa[i], where = parse_number(value)
            scale[i] = <int8_t>where
            if mantissa[i] < 0 and not signed:
                return i
            i += 1
    except (PrecisionError, TypeError):
        return i
    return -1


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
    cdef double factor, product, lost, whole, over
    cdef double middle = 6755399441055744.0     # 1.5 x 2**52: what is added to it is rounded to a whole number
    if not 0 <= scale <= MAX_SCALE or len(mantissa) != len(values):
        raise ValueError(f"scale {scale} is outside 0 to {MAX_SCALE}, or columns differ in length")
    factor = <double>POWER_OF_TEN[scale]
    with nogil:
        for i in range(len(values)):
            product = values[i] * factor
            if fabs(product) < 1125899906842624.0:
                # Below 2**50 what the product lost is less than an eighth: it matters where the rest is a half.
                whole = (product + middle) - middle
                if fabs(product - whole) != 0.5:
                    mantissa[i] = <int64_t>whole
                    continue
            elif not (fabs(product) < 9.2233720368547e18):
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
                    int8_t[::1] scales not None, const int32_t[::1] symbol_id not None, bint signed=False):
    # Arrow decimals of 4, 8 or 16 bytes to the smallest scale that holds each, or to one that its symbol needs anyhow.
    cdef Py_ssize_t i, failed = -1
    cdef int8_t[::1] needed         # by the rows of each symbol so far
    cdef int32_t first = 0, last = 0, s
    cdef uint64_t[2] words
    cdef int64_t factor
    cdef int32_t narrow
    cdef int64_t low
    cdef uint32_t[4] limbs
    cdef uint32_t[4] tenth
    cdef int own
    cdef bint negative
    if width not in (4, 8, 16) or not 0 <= scale <= 76:
        raise ValueError(f"decimals of {width} bytes and {scale} digits behind the point")
    if len(data) != width * len(mantissa) or len(scales) != len(mantissa) or len(symbol_id) != len(mantissa):
        raise ValueError("columns differ in length")
    for i in range(len(symbol_id)):
        first, last = min(first, symbol_id[i]), max(last, symbol_id[i])
    if first < 0:
        raise ValueError(f"symbol id {first} is negative")
    needed = np.zeros(last + 1, np.int8)
    with nogil:
        for i in range(len(mantissa)):
            own = scale
            s = symbol_id[i]
            if width == 16:
                memcpy(words, &data[16 * i], 16)
                low = <int64_t>words[0] if words[1] == 0 else -1
            elif width == 8:
                memcpy(&low, &data[8 * i], 8)
            else:
                memcpy(&narrow, &data[4 * i], 4)
                low = narrow
            if low >= 0 and scale <= MAX_SCALE and 0 <= s <= last:  # the ids may have changed by now
                factor = POWER_OF_TEN[scale - needed[s]]
                mantissa[i] = low if factor == 1 else low // factor
                if factor == 1 or mantissa[i] * factor == low:
                    scales[i] = needed[s]
                    continue
            if width == 16:
                memcpy(limbs, &data[16 * i], 16)
                negative = limbs[3] >> 31
                if negative:
                    _negate(limbs)
                # What does not fit 64 bits must end in zeros that do not count.
                while (limbs[3] or limbs[2] or limbs[1] >> 31 or own > MAX_SCALE) and own > 0:
                    if _divide_by_ten(limbs, tenth):
                        break
                    memcpy(limbs, tenth, 16)
                    own -= 1
                if limbs[3] or limbs[2] or limbs[1] >> 31:
                    failed = i
                    break
                low = <int64_t>(<uint64_t>limbs[1] << 32 | limbs[0])
            else:
                if low == LOWEST:
                    failed = i
                    break
                negative = low < 0
                low = magnitude(low)
            if negative and not signed:
                failed = i
                break
            while own > 0 and low % 10 == 0:
                low //= 10
                own -= 1
            if own > MAX_SCALE:
                failed = i
                break
            mantissa[i] = -low if negative else low
            scales[i] = <int8_t>own
            if 0 <= s <= last:
                needed[s] = max(needed[s], <int8_t>own)
    return failed


cdef inline void _negate(uint32_t *limbs) noexcept nogil:
    cdef uint64_t carry = 1
    cdef int k
    for k in range(4):
        carry += <uint32_t>~limbs[k]
        limbs[k] = <uint32_t>carry
        carry >>= 32


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
    cdef int8_t smallest = 0, largest = 0
    cdef int32_t s, first = 0, last = 0
    if len(scales) != len(mantissa) or len(symbol_scales) < 1 or not (one or len(symbol_id) == len(mantissa)):
        raise ValueError("columns differ in length")
    for i in range(len(scales)):
        smallest, largest = min(smallest, scales[i]), max(largest, scales[i])
    for i in range(len(symbol_scales)):
        smallest, largest = min(smallest, symbol_scales[i]), max(largest, symbol_scales[i])
    if not one:
        for i in range(len(symbol_id)):
            first, last = min(first, symbol_id[i]), max(last, symbol_id[i])
    if smallest < 0 or largest > MAX_SCALE or first < 0 or last >= len(symbol_scales):
        raise ValueError(f"a scale is outside 0 to {MAX_SCALE}, or a symbol outside 0 to {len(symbol_scales) - 1}")
    with nogil:
        for i in range(len(mantissa)):
            s = 0 if one else symbol_id[i]
            symbol_scales[s] = max(symbol_scales[s], scales[i])
        for i in range(len(mantissa)):
            s = 0 if one else symbol_id[i]
            if scales[i] != symbol_scales[s]:
                factor = POWER_OF_TEN[symbol_scales[s] - scales[i]]
                if magnitude(mantissa[i]) > HIGHEST // factor:
                    failed = i
                    break
                mantissa[i] *= factor
    return failed
