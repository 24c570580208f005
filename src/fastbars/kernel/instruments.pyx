"""Instruments: symbol <-> id, and each symbol's own price scale, size scale and contract size.

Units: a price is mantissa x 10**-price_scale quote units, a size mantissa x 10**-size_scale base units
(contracts on inverse markets). A scale only ever widens, exactly, when a trade needs more decimals.
"""

from libc.stdint cimport int64_t
from libc.stdlib cimport free, realloc

from fastbars.kernel.scaled cimport HIGHEST, POWER_OF_TEN, parse_number

from fastbars.errors import PrecisionError
from fastbars.kernel.scaled import to_decimal, to_text

cdef enum:
    MAX_SCALE = 18


cdef class Instruments:
    def __cinit__(self, str exchange not None="", bint negative_prices=False):
        self.exchange = exchange
        self.negative_prices = negative_prices
        self.table = NULL
        self.capacity = 0
        self.count = 0
        self.widened = []
        self.rescaled = 0
        self._ids = {}
        self._symbols = []

    def __dealloc__(self):
        free(self.table)

    cdef int find(self, str symbol) except -1:
        cdef object known = self._ids.get(symbol)
        cdef Instrument *grown
        cdef Py_ssize_t capacity
        if known is not None:
            return known
        if self.count == self.capacity:
            capacity = 64 if self.capacity == 0 else 2 * self.capacity
            grown = <Instrument *>realloc(self.table, capacity * sizeof(Instrument))
            if grown is NULL:
                raise MemoryError
            self.table = grown
            self.capacity = capacity
        self.table[self.count] = Instrument(0, 0, 0, 0, 0, 0)
        self._ids[symbol] = self.count
        self._symbols.append(symbol)
        self.count += 1
        return <int>self.count - 1

    cdef int widen(self, int symbol_id, int price_scale, int size_scale, object price, object size) except -1:
        cdef Instrument *own = &self.table[symbol_id]
        cdef int price_shift = price_scale - own.price_scale
        cdef int size_shift = size_scale - own.size_scale
        if own.max_price > HIGHEST // POWER_OF_TEN[max(price_shift, 0)]:
            raise PrecisionError(
                f"{self.label(symbol_id)}: price {price} needs {price_scale} decimals, but prices up to"
                f" {to_text(own.max_price, own.price_scale)} were seen and 64 bits hold at most"
                f" {to_text(HIGHEST, price_scale)} there"
            )
        if own.max_size > HIGHEST // POWER_OF_TEN[max(size_shift, 0)]:
            raise PrecisionError(
                f"{self.label(symbol_id)}: size {size} needs {size_scale} decimals, but sizes up to"
                f" {to_text(own.max_size, own.size_scale)} were seen and 64 bits hold at most"
                f" {to_text(HIGHEST, size_scale)} there"
            )
        if price_shift <= 0 and size_shift <= 0:
            return 0
        if price_shift > 0:
            own.price_scale = price_scale
            own.max_price *= POWER_OF_TEN[price_shift]
        if size_shift > 0:
            own.size_scale = size_scale
            own.max_size *= POWER_OF_TEN[size_shift]
        self.widened.append(symbol_id)
        if own.max_price > 0 or own.max_size > 0:
            self.rescaled += 1
        return 0

    def __len__(self):
        return self.count

    def __contains__(self, symbol):
        return symbol in self._ids

    def label(self, Py_ssize_t symbol_id):
        return f"{self.exchange} {self.symbol(symbol_id)}".lstrip()

    def add(self, str symbol not None, int price_scale=0, int size_scale=0, contract_size=None):
        cdef Py_ssize_t symbol_id
        cdef int64_t contract = 0
        cdef int contract_scale = 0
        if not 0 <= price_scale <= MAX_SCALE or not 0 <= size_scale <= MAX_SCALE:
            raise PrecisionError(
                f"{self.exchange} {symbol}: scales ({price_scale}, {size_scale}) are outside 0 to {MAX_SCALE}".lstrip()
            )
        if contract_size is not None:
            contract, contract_scale = parse_number(contract_size)
            if contract <= 0:
                raise PrecisionError(f"{self.exchange} {symbol}: contract size {contract_size} is not positive".lstrip())
            if self.negative_prices:
                raise PrecisionError(
                    f"{self.exchange} {symbol}: an inverse contract, of size {contract_size}, has no price at or below zero;"
                    " it needs instruments without negative_prices".lstrip())
        symbol_id = self.find(symbol)
        if contract > 0:
            if self.table[symbol_id].max_size > 0 and (
                self.table[symbol_id].contract != contract or self.table[symbol_id].contract_scale != contract_scale
            ):
                raise PrecisionError(f"{self.label(symbol_id)}: the contract size is set before the first trade")
            self.table[symbol_id].contract = contract
            self.table[symbol_id].contract_scale = contract_scale
            self.widened.append(symbol_id)
        self.widen(symbol_id, price_scale, size_scale, "scale", "scale")
        return symbol_id

    def id(self, str symbol):
        return self._ids[symbol]

    def symbol(self, Py_ssize_t symbol_id):
        if not 0 <= symbol_id < self.count:
            raise IndexError(f"symbol id {symbol_id} is outside 0 to {self.count - 1}")
        return self._symbols[symbol_id]

    def scales(self, symbol):
        cdef Instrument *own = &self.table[<Py_ssize_t>self._ids[symbol]]
        return own.price_scale, own.size_scale

    def contract_size(self, symbol):
        cdef Instrument *own = &self.table[<Py_ssize_t>self._ids[symbol]]
        return to_decimal(own.contract, own.contract_scale) if own.contract else None

    @property
    def symbols(self):
        return tuple(self._symbols)

    def __reduce__(self):
        cdef Py_ssize_t i
        cdef Instrument *own
        rows = []
        for i in range(self.count):
            own = &self.table[i]
            contract = to_text(own.contract, own.contract_scale) if own.contract else None
            rows.append(
                (self._symbols[i], own.price_scale, own.size_scale, contract, own.max_price, own.max_size))
        return _restored, (self.exchange, rows, self.rescaled, self.negative_prices)


def _restored(str exchange not None, list rows not None, int rescaled, bint negative_prices=False):
    # What `__reduce__` told, checked as symbols are that come one by one.
    cdef Instruments instruments = Instruments(exchange, negative_prices)
    cdef Py_ssize_t symbol_id
    cdef int64_t max_price, max_size
    for symbol, price_scale, size_scale, contract, price, size in rows:
        if type(symbol) is not str or symbol in instruments:
            raise ValueError(f"a pickle of instruments names {symbol!r} twice, or it is no symbol")
        max_price, max_size = price, size
        if max_price < 0 or max_size < 0:
            raise ValueError(f"{symbol}: largest price {price} or size {size} of a pickle is negative")
        symbol_id = instruments.add(symbol, price_scale, size_scale, contract)
        instruments.table[symbol_id].max_price = max_price
        instruments.table[symbol_id].max_size = max_size
    if rescaled < 0:
        raise ValueError(f"{rescaled} widenings of a pickle are negative")
    instruments.rescaled = rescaled
    return instruments
