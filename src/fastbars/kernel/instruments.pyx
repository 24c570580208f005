"""Instruments: the symbols of one market: symbol <-> id, and each one's price scale, size scale and contract size.

A scale says how many decimals the mantissas of columns and bars have. It only ever widens: where whoever owns the symbols
says so (`add`), and when a kernel has taken a trade that needs more decimals, in one step with that kernel's bars. A batch
that holds such a trade has the wider scale for itself until then, so that a trade that is refused has changed nothing.

Units: a price is mantissa x 10**-price_scale quote units, a size mantissa x 10**-size_scale base units
(contracts on inverse markets).
"""

from libc.stdint cimport int64_t
from libc.stdlib cimport free, realloc

from fastbars.kernel.limits cimport MAX_SCALE
from fastbars.kernel.scaled cimport parse_number

from fastbars.errors import PrecisionError
from fastbars.kernel.scaled import to_decimal, to_text


cdef class Instruments:
    def __cinit__(self, str exchange not None="", bint negative_prices=False, str market not None=""):
        self.exchange = exchange
        self.market = market
        self.venue = f"{exchange} {market}".strip()
        self.negative_prices = negative_prices
        self.table = NULL
        self.capacity = 0
        self.count = 0
        self.changes = []
        self.version = 0
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
        self.table[self.count] = Instrument(0, Scale(0, 0), 0, 0)
        self._ids[symbol] = self.count
        self._symbols.append(symbol)
        self.count += 1
        return <int>self.count - 1

    cdef int widen(self, int symbol_id, Scale scale) except -1:
        cdef Instrument *own = &self.table[symbol_id]
        scale = finer(own.scale, scale)
        if not are_equal(own.scale, scale):
            self.note_change(symbol_id)
            own.scale = scale
        return 0

    cdef int note_change(self, int symbol_id) except -1:
        cdef Scale before = self.table[symbol_id].scale
        self.changes.append((symbol_id, before.price, before.size))
        self.version += 1
        return 0

    def __len__(self):
        return self.count

    def __contains__(self, symbol):
        return symbol in self._ids

    def label(self, Py_ssize_t symbol_id):
        return f"{self.venue} {self.symbol(symbol_id)}".lstrip()

    def add(self, str symbol not None, int price_scale=0, int size_scale=0, contract_size=None):
        cdef Py_ssize_t symbol_id
        cdef int64_t contract = 0
        cdef int contract_scale = 0
        if not 0 <= price_scale <= MAX_SCALE or not 0 <= size_scale <= MAX_SCALE:
            raise PrecisionError(
                f"{self.venue} {symbol}: scales ({price_scale}, {size_scale}) are outside 0 to {MAX_SCALE}".lstrip()
            )
        if contract_size is not None:
            contract, contract_scale = parse_number(contract_size)
            if contract <= 0:
                raise PrecisionError(f"{self.venue} {symbol}: contract size {contract_size} is not positive".lstrip())
            if self.negative_prices:
                raise PrecisionError(
                    f"{self.venue} {symbol}: an inverse contract, of size {contract_size}, has no price at or below zero;"
                    " it needs instruments without negative_prices".lstrip())
        known = symbol in self._ids
        symbol_id = self.find(symbol)
        if contract > 0 and (
            self.table[symbol_id].contract != contract or self.table[symbol_id].contract_scale != contract_scale
        ):
            if self.table[symbol_id].traded:
                raise PrecisionError(f"{self.label(symbol_id)}: the contract size is set before the first trade")
            if known:
                self.note_change(symbol_id)
            self.table[symbol_id].contract = contract
            self.table[symbol_id].contract_scale = contract_scale
        if known:
            self.widen(symbol_id, Scale(price_scale, size_scale))
        else:
            self.table[symbol_id].scale = Scale(price_scale, size_scale)
        return symbol_id

    def id(self, str symbol):
        return self._ids[symbol]

    def symbol(self, Py_ssize_t symbol_id):
        if not 0 <= symbol_id < self.count:
            raise IndexError(f"symbol id {symbol_id} is outside 0 to {self.count - 1}")
        return self._symbols[symbol_id]

    def scales(self, symbol):
        cdef Instrument *own = &self.table[<Py_ssize_t>self._ids[symbol]]
        return own.scale.price, own.scale.size

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
            rows.append((self._symbols[i], own.scale.price, own.scale.size, contract, own.traded))
        return _restored, (self.exchange, rows, self.negative_prices, self.market)


def _restored(str exchange not None, list rows not None, bint negative_prices=False, str market not None=""):
    # Rebuilds instruments from `__reduce__`, checked as symbols that are added one by one.
    cdef Instruments instruments = Instruments(exchange, negative_prices, market)
    cdef Py_ssize_t symbol_id
    for symbol, price_scale, size_scale, contract, traded in rows:
        if type(symbol) is not str or symbol in instruments:
            raise ValueError(f"a pickle of instruments names {symbol!r} twice, or it is no symbol")
        symbol_id = instruments.add(symbol, price_scale, size_scale, contract)
        instruments.table[symbol_id].traded = bool(traded)
    return instruments
