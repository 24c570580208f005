"""Rows and bars of one scale: rows are brought to the scale of their symbol's bars, or the bars to that of a row.

Nearly always both are at the instruments' scale, and nothing here is called. A batch whose rows are not has a trade with more
decimals than its symbol had, or is older than a widening, or bars had no room for a scale that was declared.

Units: prices and sizes mantissas at the scales at hand.
"""

from libc.stdint cimport int32_t, int64_t

from fastbars.kernel.batch cimport TickBatch, scale_of
from fastbars.kernel.fold cimport is_wanted
from fastbars.kernel.instruments cimport Scale, are_equal, finer
from fastbars.kernel.passes cimport Pass
from fastbars.kernel.scaled cimport HIGHEST, POWER_OF_TEN, magnitude
from fastbars.kernel.summary cimport fits
from fastbars.kernel.table cimport BarTable

from fastbars.errors import PrecisionError
from fastbars.kernel.scaled import to_text

# Above any other bound, where nothing is known.
cdef double INFINITE = 1e300


cdef double bound_apart(BarTable bars, TickBatch batch, double bound) except? -1:
    # No sum is above this before these rows, whatever scales they need; `bound` is what no sum is above now. Infinite where
    # bars or rows may have no room for a scale. Below 0: all rows are at the scales of their bars.
    cdef double found = -1
    cdef Py_ssize_t i
    cdef int32_t s
    cdef Scale scale, own
    cdef set known = set() if batch.length > 1 else None
    for i in range(batch.length):
        s = batch.symbol_id[i]
        scale, own = scale_of(batch, s), bars.table.slots[0][s].scale
        if are_equal(scale, own):
            continue
        if known is not None:
            if s in known:
                continue
            known.add(s)
        found = max(found, bound)
        if not are_equal(finer(scale, own), scale) or not bars.has_room(s, scale, &found):
            return INFINITE
    return found


cdef bint _has_decimals(BarTable bars, TickBatch batch, Py_ssize_t row) noexcept:
    # Whether the scale of its symbol's bars is fine enough for a row.
    cdef int32_t s = batch.symbol_id[row]
    cdef Scale scale = scale_of(batch, s), own = bars.table.slots[0][s].scale
    return not (
        (own.price < scale.price and batch.price[row] % POWER_OF_TEN[scale.price - own.price])
        or (own.size < scale.size and batch.size[row] % POWER_OF_TEN[scale.size - own.size]))


cdef bint bring_row(BarTable bars, TickBatch batch, Py_ssize_t row) except -1:
    # Writes a row at the scale of its symbol's bars. False: that has too few decimals.
    cdef int32_t s = batch.symbol_id[row]
    cdef Scale scale = scale_of(batch, s), own = bars.table.slots[0][s].scale
    cdef int64_t price_factor = POWER_OF_TEN[abs(own.price - scale.price)]
    cdef int64_t size_factor = POWER_OF_TEN[abs(own.size - scale.size)]
    if are_equal(own, scale):
        return True
    if not _has_decimals(bars, batch, row):
        return False
    if (own.price > scale.price and magnitude(batch.price[row]) > HIGHEST // price_factor) or (
        own.size > scale.size and batch.size[row] > HIGHEST // size_factor
    ):
        raise PrecisionError(
            f"{bars.instruments.label(s)}: row {row}: price mantissa {batch.price[row]} or size mantissa"
            f" {batch.size[row]} does not fit 64 bits with the decimals that this symbol has now", row)
    if own.price < scale.price:
        batch.price[row] //= price_factor
    else:
        batch.price[row] *= price_factor
    if own.size < scale.size:
        batch.size[row] //= size_factor
    else:
        batch.size[row] *= size_factor
    return True


cdef int follow_row(BarTable bars, TickBatch batch, Py_ssize_t row) except -1:
    # The bars of a symbol take the scale that a row needs, and no finer one. Else the row is refused, and they stay.
    cdef int32_t s = batch.symbol_id[row]
    cdef Scale scale = scale_of(batch, s), own = bars.table.slots[0][s].scale
    cdef int64_t price = batch.price[row], size = batch.size[row], most = 0
    cdef int k
    while scale.price > own.price and price % 10 == 0:
        price //= 10
        scale.price -= 1
    while scale.size > own.size and size % 10 == 0:
        size //= 10
        scale.size -= 1
    if bars.rescale(s, finer(scale, own)):
        return 0
    for k in range(bars.table.specs.count):
        if not fits(&bars.table.slots[k][s].bar, POWER_OF_TEN[max(scale.price - own.price, 0)]):
            most = max(most, max(bars.table.slots[k][s].bar.high, -bars.table.slots[k][s].bar.low))
    where = bars.instruments.label(s) + (f": row {row}" if batch.length > 1 else "")
    if most:
        raise PrecisionError(
            f"{where}: price {to_text(price, scale.price)} needs {scale.price} decimals, but prices up to"
            f" {to_text(most, own.price)} were seen and 64 bits hold at most {to_text(HIGHEST, scale.price)} there", row)
    raise PrecisionError(
        f"{where}: price {to_text(price, scale.price)} and size {to_text(size, scale.size)} need {scale.price} and"
        f" {scale.size} decimals, with which the sums of its open bar do not fit 128 bits", row)


cdef int follow_missing(BarTable bars, Pass *run, TickBatch batch) except -1:
    # Of trades from REST: those that are passed over widen nothing.
    cdef Py_ssize_t row
    for row in range(batch.length):
        if is_wanted(&bars.table, run, row) and not _has_decimals(bars, batch, row):
            follow_row(bars, batch, row)
    for row in range(batch.length):
        if is_wanted(&bars.table, run, row):
            bring_row(bars, batch, row)
    return 0


cdef int widen_instruments(BarTable bars, TickBatch batch) except -1:
    # To the scales that the bars have taken.
    cdef bint was_equal = bars.version == bars.instruments.version
    cdef Py_ssize_t i
    for i in range(batch.length):
        bars.instruments.widen(batch.symbol_id[i], bars.table.slots[0][batch.symbol_id[i]].scale)
    if was_equal:   # else there are changes that the bars have not followed yet
        bars.version = bars.instruments.version
    return 0
