"""Decimals of bars as the 128-bit numbers of Arrow's decimal columns.

Units: a number is mantissa x 10**-scale.
"""

from libc.stdint cimport int64_t, uint8_t

from fastbars.kernel.limits cimport MAX_SCALE
from fastbars.kernel.scaled cimport NOTHING, POWER_OF_TEN, Written, add128_product, int128, read_written


def read_mantissas(list bars not None, str name not None, int scale, int64_t[:, ::1] out not None,
                   uint8_t[::1] known not None):
    cdef Py_ssize_t i
    cdef Written number
    cdef int128 wide
    cdef object value
    if len(out) != len(bars) or out.shape[1] != 2 or len(known) != len(bars):
        raise ValueError("columns differ in length")
    for i in range(len(out)):
        if i >= len(bars):      # an attribute may be a property, which runs code that shortens it
            return i
        value = getattr(bars[i], name)
        wide = NOTHING
        known[i] = value is not None
        if value is not None:
            if not read_written(value, &number) or not 0 <= scale - number.scale <= MAX_SCALE:
                return i
            if add128_product(&wide, number.mantissa, POWER_OF_TEN[scale - number.scale]):
                return i
        out[i, 0], out[i, 1] = <int64_t>wide.lo, wide.hi
    return -1
