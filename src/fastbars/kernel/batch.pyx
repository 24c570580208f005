"""TickBatch: trades as columns of scaled integers, the one form in which they reach the kernel.

A batch carries the scales that its rows are written with. They are those of the instruments, unless a row needs more
decimals: then its symbol's rows have a wider scale in this batch alone, until a kernel has taken them. Nor do rows change
where the instruments' scales are widened by somebody else: the kernel brings them together with its bars.

Units: time_ns is int64 nanoseconds since the Unix epoch, UTC; price and size are mantissas at the scales of
`TickBatch.scales`; side is 1 where the taker bought, -1 where the taker sold, 0 where unknown.
"""

import numpy as np

from cpython.number cimport PyNumber_Index
from libc.stdint cimport int8_t, int32_t, int64_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

from fastbars.kernel.checks cimport (
    beyond_prices, not_positive, not_positive_of_trades, outside_counts, outside_numbers, outside_ranges, outside_sides,
    outside_symbols, outside_times,
)
from fastbars.kernel.instruments cimport Instrument, Instruments, Scale, are_equal, finer
from fastbars.kernel.limits cimport EARLIEST_NS, LATEST_NS, MAX_SCALE
from fastbars.kernel.scaled cimport HIGHEST, POWER_OF_TEN, magnitude, parse_number

from fastbars.errors import InvalidTickError, PrecisionError
from fastbars.kernel.scaled import to_text
from fastbars.times import (
    LARGEST_DOUBTFUL as _LARGEST_DOUBTFUL, SMALLEST_DOUBTFUL as _SMALLEST_DOUBTFUL, of_column as _of_column,
    to_nanoseconds as _to_nanoseconds,
)

SMALLEST_DOUBTFUL = _SMALLEST_DOUBTFUL
LARGEST_DOUBTFUL = _LARGEST_DOUBTFUL

# Counts of this size cannot overflow a 64-bit sum in a lifetime.
cdef int64_t MOST_COUNT = 281_474_976_710_656

_INT64 = np.dtype(np.int64)
_DTYPES = {
    "time_ns": _INT64,
    "symbol_id": np.dtype(np.int32),
    "price": _INT64,
    "size": _INT64,
    "side": np.dtype(np.int8),
    "first_id": _INT64,
    "last_id": _INT64,
    "count": _INT64,
    "sequence": _INT64,
}
_COPIED = ("symbol_id", "count")
_OPTIONAL = ("side", "first_id", "last_id", "count", "sequence")


cdef void *_address(object array) except? NULL:
    if array is None or array.size == 0:
        return NULL
    return <void *><size_t>array.ctypes.data


cdef int64_t _lowest(Rules rules) noexcept nogil:
    return -HIGHEST if rules.negative_prices else 1     # of prices


cdef object _owned(object array):
    # Written by compiled code alone: what `column` shows of it cannot be made writeable.
    array.flags.writeable = False
    return array


cdef void *_copied(char *memory, const void *column, Py_ssize_t size) noexcept:
    if column is NULL:
        return NULL
    memcpy(memory, column, size)
    return memory


cdef class TickBatch:
    def __cinit__(self, Instruments instruments not None, *_, **__):
        # So that a batch that was never initialised has no rows either, and no room for one.
        self.instruments = instruments
        self.version = instruments.version
        self._columns = {}

    def __dealloc__(self):
        free(self.own_scales)
        free(self.own_symbols)

    def __init__(self, Instruments instruments not None, bint ids=True, bint counts=False, bint sequences=False):
        if self._columns:
            raise TypeError("a batch cannot be initialised twice")
        names = ["time_ns", "symbol_id", "price", "size", "side"]
        if ids:
            names += ["first_id", "last_id"]
        if counts:
            names.append("count")
        if sequences:
            names.append("sequence")
        self.instruments = instruments
        begin(self)
        self.capacity = 256
        self._columns = {name: _owned(np.empty(256, _DTYPES[name])) for name in names}
        self._attach()

    @staticmethod
    def from_columns(Instruments instruments not None, **columns):
        time_unit = columns.pop("time_unit", None)
        times = columns.get("time_ns")
        if times is not None:
            columns["time_ns"] = _of_column(times, time_unit)
        side = columns.get("side")
        if side is not None and np.asarray(side).dtype.kind == "b":
            columns["side"] = np.where(side, 1, -1).astype(np.int8)
        return TickBatch.noted(instruments, columns)

    @staticmethod
    def noted(Instruments instruments not None, dict columns not None):
        cdef TickBatch batch = TickBatch.wrap(instruments, columns)
        batch.note_traded()
        return batch

    @staticmethod
    def wrap(Instruments instruments not None, dict columns not None):
        cdef TickBatch batch = TickBatch.__new__(TickBatch, instruments)
        unknown = columns.keys() - _DTYPES.keys()
        if unknown:
            raise TypeError(f"unknown columns {sorted(unknown)}; known are {list(_DTYPES)}")
        given = {name: array for name, array in columns.items() if array is not None}
        missing = [name for name in _DTYPES if name not in given and name not in _OPTIONAL]
        if missing:
            raise TypeError(f"columns {missing} are missing")
        if ("first_id" in given) != ("last_id" in given):
            raise TypeError("first_id and last_id are given together or not at all")
        batch._columns = {}
        length = None
        for name, values in given.items():
            array = np.asarray(values)
            if array.ndim != 1:
                raise InvalidTickError(f"column {name} has {array.ndim} dimensions, not 1")
            if length is not None and len(array) != length:
                raise InvalidTickError(f"column {name} has {len(array)} rows, the columns before it have {length}")
            length = len(array)
            if array.dtype.kind not in "iu":
                raise InvalidTickError(f"column {name} has dtype {array.dtype}, it must hold integers")
            dtype = _DTYPES[name]
            if array.dtype != dtype:
                bounds = np.iinfo(dtype)
                wrong = (array < bounds.min) | (array > bounds.max) if len(array) else np.zeros(0, bool)
                if wrong.any():
                    row = int(wrong.argmax())
                    raise InvalidTickError(
                        f"row {row}: {name} {array[row]} is outside {bounds.min} to {bounds.max}", row
                    )
            if name == "last_id" and values is given["first_id"]:
                # One column stays one: the kernel has a shorter way for rows of one id each.
                batch._columns[name] = batch._columns["first_id"]
                continue
            # Symbol ids index memory and counts are summed unchecked: these must be copies that no one else can change.
            batch._columns[name] = (np.array if name in _COPIED else np.ascontiguousarray)(array, dtype)
        batch.length = length
        batch.borrows = True
        batch.capacity = 0  # the memory is the caller's: an append copies it first
        batch._attach()
        batch.count_by_ids()
        return batch

    cdef int count_by_ids(self) except -1:
        # A row with several ids stands for as many trades, unless its count is given.
        cdef int64_t[::1] counts
        cdef Py_ssize_t i
        if self.count is not NULL or self.last_id == self.first_id:
            return 0
        for i in range(self.length):
            if 0 <= self.first_id[i] < self.last_id[i] < HIGHEST:   # others are refused
                break
        else:
            return 0
        array = np.ones(self.length, np.int64)
        counts = array
        for i in range(self.length):
            if 0 <= self.first_id[i] < self.last_id[i] < HIGHEST:
                counts[i] = self.last_id[i] - self.first_id[i] + 1
        self._columns["count"] = array
        self.count = <int64_t *>_address(array)
        return 0

    cdef TickBatch own_copy(self):
        # The same rows in memory that nobody else can change.
        cdef TickBatch batch = TickBatch.__new__(TickBatch, self.instruments)
        batch._columns = {name: _owned(np.array(array[: self.length])) for name, array in self._columns.items()}
        batch.length = self.length
        batch.capacity = self.length
        batch._attach()
        batch.take_scales(self)
        return batch

    cdef void copy_rows(self, TickBatch batch, char *memory) noexcept:
        # Copies rows that are at the instruments' scales into memory of BYTES_A_ROW each, to be folded in at once; no
        # numpy array is made.
        cdef Py_ssize_t size = batch.length * sizeof(int64_t)
        self.instruments, self.length, self.version = batch.instruments, batch.length, batch.version
        forget_scales(self)
        self.time_ns = <int64_t *>_copied(memory, batch.time_ns, size)
        self.price = <int64_t *>_copied(memory + size, batch.price, size)
        self.size = <int64_t *>_copied(memory + 2 * size, batch.size, size)
        self.first_id = <int64_t *>_copied(memory + 3 * size, batch.first_id, size)
        # Equal columns stay one: the kernel has a shorter way for them.
        self.last_id = self.first_id if batch.last_id == batch.first_id else (
            <int64_t *>_copied(memory + 4 * size, batch.last_id, size))
        self.count = <int64_t *>_copied(memory + 5 * size, batch.count, size)
        self.sequence = <int64_t *>_copied(memory + 6 * size, batch.sequence, size)
        self.symbol_id = <int32_t *>_copied(memory + 7 * size, batch.symbol_id, size // 2)
        self.side = <int8_t *>_copied(memory + 7 * size + size // 2, batch.side, size // 8)

    cdef int check_unused(self) except -1:
        if self.folding:
            raise RuntimeError("the batch is being folded in by another thread and cannot be changed meanwhile")
        return 0

    # Scales.

    cdef int catch_up(self) except -1:
        # Scales have changed since these rows were written: they keep theirs.
        cdef Scale before
        if self.version == self.instruments.version:
            return 0
        if self.length:
            for symbol_id, before.price, before.size in self.instruments.changes[self.version :]:
                if (symbol_id >= self.own_capacity or self.own_scales[<int>symbol_id].price == OF_INSTRUMENT) and (
                    not are_equal(before, self.instruments.table[<int>symbol_id].scale)
                ):
                    self.set_scale(symbol_id, before)
        self.version = self.instruments.version
        return 0

    cdef int set_scale(self, int symbol_id, Scale scale) except -1:
        cdef Py_ssize_t capacity, i
        cdef Scale *scales
        cdef int32_t *symbols
        if symbol_id >= self.own_capacity:
            capacity = max(<Py_ssize_t>symbol_id + 1, 2 * self.own_capacity)
            symbols = <int32_t *>realloc(self.own_symbols, capacity * sizeof(int32_t))
            if symbols is NULL:
                raise MemoryError
            self.own_symbols = symbols
            scales = <Scale *>realloc(self.own_scales, capacity * sizeof(Scale))
            if scales is NULL:
                raise MemoryError
            self.own_scales = scales
            for i in range(self.own_capacity, capacity):
                scales[i] = Scale(OF_INSTRUMENT, OF_INSTRUMENT)
            self.own_capacity = capacity
        if self.own_scales[symbol_id].price == OF_INSTRUMENT:
            self.own_symbols[self.own_count] = symbol_id
            self.own_count += 1
        self.own_scales[symbol_id] = scale
        return 0

    cdef bint rescale(self, int symbol_id, Scale scale) except -1:
        # Brings the rows of a symbol to a scale that is as fine in both at least. False: one has no room, and nothing
        # has changed.
        cdef Scale own = scale_of(self, symbol_id)
        cdef int64_t price_factor = POWER_OF_TEN[scale.price - own.price]
        cdef int64_t size_factor = POWER_OF_TEN[scale.size - own.size]
        cdef Py_ssize_t i, rows = self.length if self.instruments.table[symbol_id].traded else 0
        for i in range(rows):
            if self.symbol_id[i] == symbol_id and (
                magnitude(self.price[i]) > HIGHEST // price_factor or magnitude(self.size[i]) > HIGHEST // size_factor
            ):
                return False
        self.set_scale(symbol_id, scale)
        for i in range(rows):
            if self.symbol_id[i] == symbol_id:
                self.price[i] *= price_factor
                self.size[i] *= size_factor
        return True

    cdef bint bring(self, int symbol_id, int64_t *price, int64_t *size, Scale scale) except -1:
        # Brings price and size, given at `scale`, to the scale of the symbol's rows here, and those rows to a finer one if
        # need be. False: 64 bits have no room for one of them, and nothing has changed.
        cdef Scale own = scale_of(self, symbol_id), common = finer(own, scale)
        cdef int64_t price_factor = POWER_OF_TEN[common.price - scale.price]
        cdef int64_t size_factor = POWER_OF_TEN[common.size - scale.size]
        if magnitude(price[0]) > HIGHEST // price_factor or magnitude(size[0]) > HIGHEST // size_factor:
            return False
        if not are_equal(own, common) and not self.rescale(symbol_id, common):
            return False
        price[0] *= price_factor
        size[0] *= size_factor
        return True

    cdef int no_room(self, int symbol_id, Scale scale, int64_t price, int64_t size, object price_given,
                     object size_given) except -1:
        # Says why `bring` has found none.
        cdef Scale own = scale_of(self, symbol_id)
        cdef int64_t most_price = 0, most_size = 0
        cdef Py_ssize_t i
        for i in range(self.length):
            if self.symbol_id[i] == symbol_id:
                most_price = max(most_price, magnitude(self.price[i]))
                most_size = max(most_size, magnitude(self.size[i]))
        for name, value, given, needed, kept, most in (
            ("price", price, price_given, scale.price, own.price, most_price),
            ("size", size, size_given, scale.size, own.size, most_size),
        ):
            label, wide = self.instruments.label(symbol_id), max(needed, kept)
            if abs(value) * 10 ** (wide - needed) > HIGHEST:
                raise PrecisionError(
                    f"{label}: {name} {given} does not fit 64 bits with the {wide} decimals that this symbol's {name}s"
                    f" have: at most {to_text(HIGHEST, wide)}")
            if most * 10 ** (wide - kept) > HIGHEST:
                raise PrecisionError(
                    f"{label}: {name} {given} needs {needed} decimals, but {name}s up to {to_text(most, kept)} were seen"
                    f" and 64 bits hold at most {to_text(HIGHEST, wide)} there")
        raise AssertionError("there is room")

    def scales(self, symbol):
        cdef Scale own
        self.catch_up()
        own = scale_of(self, self.instruments.id(symbol))
        return own.price, own.size

    cdef int take_scales(self, TickBatch batch) except -1:
        # As those of the batch that these rows come from.
        cdef Py_ssize_t i
        batch.catch_up()
        self.version = batch.version
        for i in range(batch.own_count):
            self.set_scale(batch.own_symbols[i], batch.own_scales[batch.own_symbols[i]])
        return 0

    cdef int note_traded(self) except -1:
        cdef Py_ssize_t i
        for i in range(self.length):
            if 0 <= self.symbol_id[i] < self.instruments.count:
                self.instruments.table[self.symbol_id[i]].traded = True
        return 0

    cdef int _attach(self) except -1:
        columns = self._columns
        if not columns:
            raise TypeError("TickBatch.__init__ was not called")
        self.time_ns = <int64_t *>_address(columns["time_ns"])
        self.symbol_id = <int32_t *>_address(columns["symbol_id"])
        self.price = <int64_t *>_address(columns["price"])
        self.size = <int64_t *>_address(columns["size"])
        self.side = <int8_t *>_address(columns.get("side"))
        self.first_id = <int64_t *>_address(columns.get("first_id"))
        self.last_id = <int64_t *>_address(columns.get("last_id"))
        self.count = <int64_t *>_address(columns.get("count"))
        self.sequence = <int64_t *>_address(columns.get("sequence"))
        return 0

    cdef double check(self, Rules rules, int64_t *largest_size, bint *voids) noexcept nogil:
        # At least the largest price x the largest size; below 0 where a row breaks a rule. `voids`: some have no size.
        cdef uint64_t prices = <uint64_t>rules.largest_contract, sizes = 0, flaw
        voids[0] = <int64_t>not_positive(self.size, self.length, &sizes) < 0
        if <int64_t>sizes < 0 or (voids[0] and not rules.by_id):
            return -1
        if rules.negative_prices:
            flaw = beyond_prices(self.price, self.size, self.length, &prices)
        elif voids[0]:
            flaw = not_positive_of_trades(self.price, self.size, self.length, &prices)
        else:
            flaw = not_positive(self.price, self.length, &prices)
        flaw |= outside_symbols(self.symbol_id, self.length, rules.symbols) | outside_times(
            self.time_ns, self.length, EARLIEST_NS, LATEST_NS)
        if self.has_flaw(False) or <int64_t>flaw < 0:
            return -1
        largest_size[0] = max(<int64_t>sizes, 1)
        # No value is above the bits that are set in any.
        return <double>prices * <double>sizes

    cdef bint lacks_size(self, const int32_t *places, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
        # Whether a row (of `places`, where there are some) has no size, or a negative one.
        cdef uint64_t flaw = 0
        cdef const uint64_t *sizes = <const uint64_t *>self.size
        cdef Py_ssize_t i
        if places is NULL:
            for i in range(start, stop):
                flaw |= sizes[i] - 1
        else:
            for i in range(start, stop):
                flaw |= sizes[places[i]] - 1
        return <int64_t>flaw < 0

    cdef int64_t count_voids(self, const int32_t *places, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
        cdef int64_t count = 0
        cdef Py_ssize_t i
        for i in range(start, stop):
            count += self.size[i if places is NULL else places[i]] == 0
        return count

    cdef bint has_flaw(self, bint by_id) noexcept nogil:
        # In the columns that not every batch has; `by_id`: but for what a trade shows by having the next id.
        cdef uint64_t flaw = 0
        if self.side is not NULL:
            flaw |= outside_sides(self.side, self.length)
        if self.count is not NULL:
            flaw |= outside_counts(self.count, self.size, self.length, MOST_COUNT)
        if self.first_id is not NULL and self.last_id != self.first_id:
            flaw |= outside_ranges(self.first_id, self.last_id, self.length)
        elif self.first_id is not NULL and not by_id:
            flaw |= outside_numbers(self.first_id, self.length)
        if self.sequence is not NULL:
            flaw |= outside_numbers(self.sequence, self.length)
        return <int64_t>flaw < 0

    cdef double check_row(self, Rules rules, int64_t *largest_size, bint *voids) noexcept nogil:
        # As `check`, for the one row there is.
        voids[0] = self.size[0] == 0 and rules.by_id
        if (self.price[0] < _lowest(rules) or self.size[0] <= 0) and not voids[0]:
            return -1
        if not is_known(
            self.symbol_id[0], rules.symbols, self.time_ns[0], 0 if self.first_id is NULL else self.first_id[0],
            0 if self.first_id is NULL else self.last_id[0]
        ) or (
            (self.side is not NULL and not -1 <= self.side[0] <= 1)
            or (self.count is not NULL and not (0 if voids[0] else 1) <= self.count[0] < MOST_COUNT)
            or (self.first_id is not NULL and self.last_id[0] < self.first_id[0])
            or (self.sequence is not NULL and not 0 <= self.sequence[0] < HIGHEST)
        ):
            return -1
        largest_size[0] = max(self.size[0], 1)
        return <double>(magnitude(self.price[0]) | rules.largest_contract) * <double>self.size[0]

    cdef bint is_valid(self, Py_ssize_t row, Py_ssize_t symbols) noexcept nogil:
        if self.first_id is NULL:
            return is_known(self.symbol_id[row], symbols, self.time_ns[row], 0, 0)
        return is_known(self.symbol_id[row], symbols, self.time_ns[row], self.first_id[row], self.last_id[row])

    cdef int refuse(self, Rules rules) except -1:
        # Raises for the first row that breaks a rule.
        cdef Py_ssize_t i
        cdef int32_t s
        cdef bint void
        for i in range(self.length):
            s = self.symbol_id[i]
            void = rules.by_id and self.size[i] == 0
            if s < 0 or s >= rules.symbols:
                raise InvalidTickError(f"row {i}: symbol id {s} is outside 0 to {rules.symbols - 1}", i)
            if self.size[i] <= 0 and not void:
                self._refuse(i, "size", self.size[i], "at least 1")
            if self.price[i] < _lowest(rules) and not void:
                self._refuse(i, "price", self.price[i], f"at least {_lowest(rules)}")
            if self.time_ns[i] < EARLIEST_NS or self.time_ns[i] > LATEST_NS:
                self._refuse(i, "time_ns", self.time_ns[i], f"{EARLIEST_NS} to {LATEST_NS}")
            if self.side is not NULL and (self.side[i] < -1 or self.side[i] > 1):
                self._refuse(i, "side", self.side[i], "1, 0 or -1")
            if self.count is not NULL and (self.count[i] < (0 if void else 1) or self.count[i] >= MOST_COUNT):
                self._refuse(i, "count", self.count[i], f"1 to {MOST_COUNT - 1}")
            if self.first_id is not NULL:
                if self.first_id[i] < 0:
                    self._refuse(i, "first_id", self.first_id[i], "at least 0")
                if self.last_id[i] < self.first_id[i] or self.last_id[i] == HIGHEST:
                    self._refuse(i, "last_id", self.last_id[i], f"{self.first_id[i]} (first_id) to {HIGHEST - 1}")
            if self.sequence is not NULL and (self.sequence[i] < 0 or self.sequence[i] == HIGHEST):
                self._refuse(i, "sequence", self.sequence[i], f"0 to {HIGHEST - 1}")
        raise AssertionError("every row keeps the rules")

    def _refuse(self, Py_ssize_t row, str name, value, str valid):
        label = self.instruments.label(self.symbol_id[row])
        raise InvalidTickError(f"{label}: row {row}: {name} {value} is not {valid}", row)

    cdef int _reserve(self, Py_ssize_t rows) except -1:
        if rows > self.capacity:
            self.check_unused()
            capacity = max(rows, 2 * self.capacity, 256)
            for name, array in self._columns.items():
                grown = np.empty(capacity, array.dtype)
                grown[: self.length] = array[: self.length]
                self._columns[name] = _owned(grown)
            self.capacity = capacity
            self._attach()
            self.borrows = False
        return 0

    cpdef int append(self, str symbol, object time_ns, object price, object size, object side=0,
                     object first_id=None, object last_id=None, object count=0, object sequence=None,
                     object time_unit=None) except -1:
        cdef int64_t time = self.time_of(symbol, time_ns, time_unit)
        cdef int sign
        if type(side) is int:
            if not -1 <= side <= 1:
                raise InvalidTickError(f"{self.instruments.venue} {symbol}: side {side} is not 1, 0 or -1".lstrip())
            sign = side
        else:
            sign = sign_of(f"{self.instruments.venue} {symbol}".lstrip(), side)
        return self.append_trade(symbol, time, price, size, sign, first_id, last_id, count, sequence)

    cdef int64_t time_of(self, str symbol, object time_ns, object time_unit) except? -1:
        cdef int64_t time
        if type(time_ns) is int and (time_unit is None or time_unit == "ns"):
            time = time_ns
            if time_unit is not None or not is_doubtful(time):
                return time
        return _checked_time(self.instruments.venue, symbol, time_ns, time_unit)

    cdef int append_trade(self, str symbol, int64_t time, object price, object size, int sign, object first_id,
                          object last_id, object count, object sequence) except -1:
        # PyNumber_Index accepts only integers: an id that is a float has already lost digits.
        cdef int64_t trades = PyNumber_Index(count)
        cdef int64_t price_mantissa, size_mantissa
        cdef int price_scale, size_scale
        cdef Scale scale
        cdef int64_t first = 0, last = 0, order = 0
        cdef int symbol_id
        cdef Instrument *own
        cdef Py_ssize_t row
        if self.folding:
            self.check_unused()
        if self.length >= self.capacity:
            self._reserve(self.length + 1)  # first: a column without rows has no address, as one that is not kept
        try:
            price_mantissa, price_scale = parse_number(price)
            size_mantissa, size_scale = parse_number(size)
        except PrecisionError as error:
            raise PrecisionError(f"{self.instruments.venue} {symbol}: {error}".lstrip()) from None
        if size_mantissa == 0 and self.first_id is not NULL:
            price_mantissa, price_scale = 0, 0  # a void id: its price means nothing
        elif size_mantissa <= 0 or (price_mantissa <= 0 and not self.instruments.negative_prices):
            wrong_price = price_mantissa <= 0 and not self.instruments.negative_prices
            name, value = ("price", price) if wrong_price else ("size", size)
            raise InvalidTickError(f"{self.instruments.venue} {symbol}: {name} {value} is not positive".lstrip())
        if self.first_id is not NULL:
            if first_id is None:
                raise InvalidTickError(f"{self.instruments.venue} {symbol}: the trade has no id".lstrip())
            first = PyNumber_Index(first_id)
            last = first if last_id is None else PyNumber_Index(last_id)
        elif trades == 0 and first_id is not None and last_id is not None:
            # They are not kept, but say how many trades the row stands for.
            first, last = PyNumber_Index(first_id), PyNumber_Index(last_id)
        if self.sequence is not NULL:
            order = first if sequence is None else PyNumber_Index(sequence)
        if trades == 0:
            trades = <int64_t>(<uint64_t>last - <uint64_t>first + 1)  # wraps where the ids are refused all the same
        if self.count is NULL and trades != 1:
            raise InvalidTickError(f"{self.instruments.venue} {symbol}: this batch has no count column".lstrip())
        row = self.length  # after the last call of foreign code, which may have changed it
        if row >= self.capacity:
            self._reserve(row + 1)
        if row == 0:
            begin(self)
        elif self.version != self.instruments.version:
            self.catch_up()
        symbol_id = self.instruments.find(symbol)
        own = &self.instruments.table[symbol_id]
        scale = Scale(<int8_t>price_scale, <int8_t>size_scale)
        if (self.own_count or not are_equal(scale, own.scale)) and not self.bring(
            symbol_id, &price_mantissa, &size_mantissa, scale
        ):
            self.no_room(symbol_id, scale, price_mantissa, size_mantissa, price, size)
        own.traded = True
        write_row(self, row, symbol_id, time, price_mantissa, size_mantissa, <int8_t>sign, first, last, trades, order)
        return 0

    def clear(self):
        self.check_unused()
        begin(self)

    def without(self, Py_ssize_t row):
        if not 0 <= row < self.length:
            raise IndexError(f"row {row} is outside 0 to {self.length - 1}")
        return self._taken_from({name: np.delete(self.column(name), row) for name in self._columns})

    def part(self, Py_ssize_t start, Py_ssize_t stop):
        return self._taken_from({name: self.column(name)[start:stop] for name in self._columns})

    def _taken_from(self, dict columns):
        cdef TickBatch batch = TickBatch.noted(self.instruments, columns)
        batch.take_scales(self)
        return batch

    def column(self, str name):
        if name not in _DTYPES:
            raise KeyError(f"unknown column {name!r}; known are {list(_DTYPES)}")
        array = self._columns.get(name)
        if array is None:
            return None
        view = array[: self.length]
        view.flags.writeable = False
        return view

    def __len__(self):
        return self.length

    def __reduce__(self):
        cdef Py_ssize_t i
        self.catch_up()
        columns = {name: self.column(name).copy() for name in self._columns}
        own = [
            (s, self.own_scales[<int>s].price, self.own_scales[<int>s].size)
            for s in sorted([self.own_symbols[i] for i in range(self.own_count)])]
        return _restored, (self.instruments, columns, own)


def _restored(Instruments instruments not None, dict columns not None, list scales not None):
    # Rebuilds a batch from `TickBatch.__reduce__`, with memory of its own, at the scales that it had.
    cdef TickBatch batch = TickBatch.noted(instruments, columns)
    cdef int symbol, price, size
    for symbol, price, size in scales:
        if not (0 <= symbol < instruments.count and 0 <= price <= MAX_SCALE and 0 <= size <= MAX_SCALE):
            raise ValueError(f"a pickle of a batch has scales {price} and {size} of symbol {symbol}")
        batch.set_scale(symbol, Scale(<int8_t>price, <int8_t>size))
    return batch


cdef object _checked_time(str exchange, str symbol, object time, object time_unit):
    try:
        return _to_nanoseconds(time, time_unit)
    except InvalidTickError as error:
        raise InvalidTickError(f"{exchange} {symbol}: {error}".lstrip()) from None
    except TypeError as error:
        raise TypeError(f"{exchange} {symbol}: {error}".lstrip()) from None


cdef int sign_of(object label, object side) except -2:
    cdef object text
    cdef int sign
    if type(side) is int:
        sign = 1 if side == 1 else -1 if side == -1 else 0
        if sign == side:
            return sign
    elif isinstance(side, str):
        if side == "buy":
            return 1
        if side == "sell":
            return -1
        text = side.lower()
        if text == "buy":
            return 1
        if text == "sell":
            return -1
        if text == "unknown":
            return 0
    elif isinstance(side, (bool, np.bool_)):
        return 1 if side else -1
    elif hasattr(side, "__index__"):
        number = PyNumber_Index(side)
        if -1 <= number <= 1:
            return number
    raise InvalidTickError(
        f"{label}: side {side!r} is not buy, sell or unknown, nor 1, -1 or 0, nor True (the taker bought) or False")


def side_sign(label, side):
    return sign_of(label, side)
