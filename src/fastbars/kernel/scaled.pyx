"""Scaled decimals: text, Decimal and int <-> (int64 mantissa, scale), exact or a PrecisionError.

A scaled decimal is mantissa x 10**-scale with an int64 mantissa and 0 <= scale <= MAX_SCALE (18). `parse` finds the
smallest such scale, so "61837.63000000" is (6183763, 2). Nothing here passes through a float.
"""

from decimal import Context, Decimal, InvalidOperation
from operator import index as _index

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdlib cimport abs
from libc.string cimport memset

from fastbars.kernel.limits cimport MAX_SCALE

from fastbars.errors import PrecisionError

cdef enum:
    _MOST_DECIMALS = 128        # of anything that is made to a Decimal: the kernel has 36, Arrow 38
    _MOST_BITS = 512
    _MAX_TEXT = 128

MAX_TEXT = _MAX_TEXT

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL
    object PyObject_CallOneArg(object function, object argument)
    object PyUnicode_DecodeASCII(const char *text, Py_ssize_t size, const char *errors)
    bint PyUnicode_IS_COMPACT_ASCII(object text)
    void *PyUnicode_DATA(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    long long PyLong_AsLongLongAndOverflow(object number, int *overflow) except? -1

cdef extern from "decimal_layout.h":
    ctypedef struct fb_decimal:
        pass
    bint read_decimal "fb_read_decimal"(object value, uint64_t *coefficient, int64_t *exponent, int *negative)

# Wide enough for every sum the kernel can hold (39 digits), so that scaling never rounds. Every field is given: those left
# out would be what the caller made of `decimal.DefaultContext`.
DECIMALS = Context(
    prec=200, rounding="ROUND_HALF_EVEN", Emin=-999_999, Emax=999_999, capitals=1, clamp=0, flags=[],
    traps=[InvalidOperation])
cdef object _scaleb = DECIMALS.scaleb
cdef object _create = DECIMALS.create_decimal
cdef object _ZERO = Decimal(0)


cdef bint _layout_is_known() except -1:
    # Whether a Decimal of this Python is laid out as decimal_layout.h has it.
    cdef uint64_t coefficient = 0
    cdef int64_t exponent = 0
    cdef int negative = 0
    if Decimal.__basicsize__ != sizeof(fb_decimal):
        return False
    for text in ("0", "-0.00", "61837.630", "-1E+30", "9999999999999999999E-7", "1E-300", "10000000000000000000", "NaN",
                 "sNaN5", "-Infinity"):
        value = Decimal(text)
        sign, digits, power = value.as_tuple()
        is_read = read_decimal(value, &coefficient, &exponent, &negative)
        if is_read != (value.is_finite() and len(digits) < 20) or (
            is_read and (negative, coefficient, exponent) != (sign, int("".join(map(str, digits))), power)
        ):
            return False
    return True


cdef bint _LAYOUT_IS_KNOWN = _layout_is_known()
cdef object _Decimal = Decimal


cdef ParseStatus parse_text(const char *text, Py_ssize_t length, int64_t *mantissa, int *scale) noexcept nogil:
    cdef Written number
    cdef ParseStatus status = _parse_digits(text, length, &number)
    if status == MALFORMED:     # or it has a sign, an exponent, or many digits
        status = _parse_any(text, length, &number)
    if status == PARSED:
        mantissa[0] = number.mantissa
        scale[0] = number.scale
    return status


cdef inline ParseStatus _parse_digits(const char *text, Py_ssize_t length, Written *number) noexcept nogil:
    # Of what nearly every number is: up to 18 digits, and a point or none. MALFORMED: it is something else.
    cdef uint64_t value = 0
    cdef Py_ssize_t i, digits = length, whole = length
    cdef unsigned int digit
    cdef int decimals
    if length > MAX_SCALE + 1:
        return MALFORMED
    for i in range(length):
        digit = <unsigned int><unsigned char>text[i] - 48
        if digit <= 9:
            value = value * 10 + digit
        elif text[i] == b"." and whole == length:
            whole, digits = i, length - 1
        else:
            return MALFORMED
    if digits < 1 or digits > MAX_SCALE:
        return MALFORMED
    decimals = <int>(digits - whole)
    number.exponent = -decimals
    if value == 0:
        decimals = 0
    while decimals > 0 and value % 10 == 0:
        value //= 10
        decimals -= 1
    number.mantissa = <int64_t>value
    number.scale = decimals
    return PARSED


cdef ParseStatus _parse_any(const char *text, Py_ssize_t length, Written *number) noexcept nogil:
    # Digits go into `value` only up to the last digit that is not a zero; zeros wait in `zeros` until a
    # later digit proves them significant. So trailing zeros never cost range or scale.
    cdef Py_ssize_t i = 0
    cdef bint negative = False, point = False, any_digit = False
    cdef uint64_t value = 0
    cdef int digit
    cdef long exponent = 0, written = 0
    cdef bint exponent_negative = False
    cdef Py_ssize_t zeros = 0, decimals = 0
    cdef unsigned char c
    if length <= 0 or length > _MAX_TEXT:
        return MALFORMED
    if text[0] == b"-" or text[0] == b"+":
        negative = text[0] == b"-"
        i = 1
    while i < length:
        c = <unsigned char>text[i]
        if b"0" <= c <= b"9":
            any_digit = True
            digit = c - 48
            if point:
                decimals += 1
            if digit == 0:
                if value != 0:
                    zeros += 1
            else:
                while zeros > 0:
                    if value > <uint64_t>922337203685477580:
                        return TOO_LARGE
                    value *= 10
                    zeros -= 1
                if value > <uint64_t>922337203685477580:
                    return TOO_LARGE
                value = value * 10 + digit
                if value > <uint64_t>9223372036854775807:
                    return TOO_LARGE
        elif c == b"." and not point:
            point = True
        else:
            break
        i += 1
    if not any_digit:
        return MALFORMED
    if i < length:
        if text[i] != b"e" and text[i] != b"E":
            return MALFORMED
        i += 1
        if i < length and (text[i] == b"-" or text[i] == b"+"):
            exponent_negative = text[i] == b"-"
            i += 1
        if i == length:
            return MALFORMED
        while i < length:
            c = <unsigned char>text[i]
            if not b"0" <= c <= b"9":
                return MALFORMED
            if written < 100000:
                written = written * 10 + (c - 48)
            i += 1
        exponent = -written if exponent_negative else written
    number.exponent = <int>(exponent - decimals)
    if value == 0:
        number.mantissa = 0
        number.scale = 0
        return PARSED
    # The number is value x 10**exponent from here on.
    exponent = exponent - decimals + zeros
    if exponent < -MAX_SCALE:
        return TOO_MANY_DECIMALS
    while exponent > 0:
        if value > <uint64_t>922337203685477580:
            return TOO_LARGE
        value *= 10
        exponent -= 1
    if value > <uint64_t>9223372036854775807:
        return TOO_LARGE
    number.mantissa = -<int64_t>value if negative else <int64_t>value
    number.scale = <int>-exponent
    return PARSED


cdef inline bint _scaled_of(uint64_t coefficient, int64_t exponent, bint negative, Written *number) noexcept nogil:
    cdef int64_t scale = -exponent
    if not -MOST_EXPONENT <= exponent <= MOST_EXPONENT or (coefficient == 0 and negative):
        return False
    number.exponent = <int>exponent
    if coefficient == 0:
        scale = 0
    while scale > 0 and coefficient % 10 == 0:
        coefficient //= 10
        scale -= 1
    while scale < 0 and coefficient <= <uint64_t>HIGHEST // 10:
        coefficient *= 10
        scale += 1
    if not 0 <= scale <= MAX_SCALE or coefficient > <uint64_t>HIGHEST:
        return False
    number.mantissa = -<int64_t>coefficient if negative else <int64_t>coefficient
    number.scale = <int>scale
    return True


cdef bint read_written(object value, Written *number) except -1:
    # Of an ordinary number: text, an int or a Decimal that fits 64 bits. False: it is another, or none.
    cdef object shown = value
    cdef const char *text
    cdef Py_ssize_t length
    cdef uint64_t coefficient = 0
    cdef int64_t exponent = 0
    cdef int overflow = 0, negative = 0
    if type(value) is int:
        number.mantissa = PyLong_AsLongLongAndOverflow(value, &overflow)
        number.scale = number.exponent = 0
        return overflow == 0 and number.mantissa != LOWEST
    if type(value) is _Decimal:
        if _LAYOUT_IS_KNOWN and read_decimal(value, &coefficient, &exponent, &negative):
            return _scaled_of(coefficient, exponent, negative, number)
        shown = str(value)
    elif type(value) is not str:
        return False
    if not PyUnicode_IS_COMPACT_ASCII(shown):
        return False
    text = <const char *>PyUnicode_DATA(shown)
    length = PyUnicode_GET_LENGTH(shown)
    if _parse_digits(text, length, number) == PARSED:
        return True
    # A zero below zero is a Decimal of its own.
    return _parse_any(text, length, number) == PARSED and (
        -MOST_EXPONENT <= number.exponent <= MOST_EXPONENT and (number.mantissa != 0 or text[0] != b"-"))


cdef object decimal_of_written(const Written *number):
    # With the exponent that it was given with.
    cdef char text[32 + MOST_EXPONENT]
    cdef int at = 21, end = 21, zeros = -number.exponent - number.scale, exponent
    cdef uint64_t rest = <uint64_t>magnitude(number.mantissa)
    if rest == 0:
        zeros = 0
    while zeros < 0:
        rest //= 10
        zeros += 1
    while True:
        at -= 1
        text[at] = <char>(48 + rest % 10)
        rest //= 10
        if rest == 0:
            break
    if number.mantissa < 0:
        at -= 1
        text[at] = b"-"
    if zeros > 0:
        memset(text + end, b"0", zeros)
        end += zeros
    if number.exponent != 0:
        exponent = abs(number.exponent)
        text[end] = b"E"
        text[end + 1] = b"-" if number.exponent < 0 else b"+"
        text[end + 2] = <char>(48 + exponent // 100)
        text[end + 3] = <char>(48 + exponent // 10 % 10)
        text[end + 4] = <char>(48 + exponent % 10)
        end += 5
    return PyObject_CallOneArg(_create, PyUnicode_DecodeASCII(text + at, end - at, NULL))


cdef (int64_t, int) parse_number(object value) except *:
    cdef Written number
    cdef const char *text
    cdef Py_ssize_t length
    cdef int64_t mantissa = 0
    cdef int scale = 0
    cdef ParseStatus status
    cdef object as_text = value
    if read_written(value, &number):
        return number.mantissa, number.scale
    if isinstance(value, str):
        text = PyUnicode_AsUTF8AndSize(value, &length)
    elif isinstance(value, bytes):
        text = PyBytes_AS_STRING(value)
        length = PyBytes_GET_SIZE(value)
    elif isinstance(value, Decimal) or (hasattr(value, "__index__") and not isinstance(value, bool)):
        if not isinstance(value, (Decimal, int)):
            value = _index(value)   # of another library, such as numpy's
        if isinstance(value, int) and value.bit_length() > 64:
            raise PrecisionError(f"an integer of {value.bit_length()} bits does not fit a 64-bit mantissa")
        as_text = str(value)
        text = PyUnicode_AsUTF8AndSize(as_text, &length)
    else:
        raise TypeError(
            f"a number is given as str, bytes, int or Decimal, not {type(value).__name__}: {value!r}"
            " (a float has already lost digits)"
        )
    status = parse_text(text, length, &mantissa, &scale)
    if status == PARSED:
        return mantissa, scale
    shown = repr(value if len(as_text) <= 48 else as_text[:48] + type(as_text)(b"..." if isinstance(as_text, bytes) else "..."))
    if status == MALFORMED:
        if length > _MAX_TEXT:
            raise PrecisionError(f"{shown} has {length} characters, the limit is {_MAX_TEXT}")
        raise PrecisionError(f"{shown} is not a finite decimal number")
    if status == TOO_MANY_DECIMALS:
        raise PrecisionError(f"{shown} needs more than {MAX_SCALE} decimals")
    raise PrecisionError(f"{shown} does not fit a 64-bit mantissa (at most 9223372036854775807 without the point)")


def parse(value):
    return parse_number(value)


def to_scaled(value, int scale):
    cdef int64_t mantissa
    cdef int own
    if not 0 <= scale <= MAX_SCALE:
        raise PrecisionError(f"scale {scale} is outside 0 to {MAX_SCALE}")
    mantissa, own = parse_number(value)
    if own > scale:
        raise PrecisionError(f"{value!r} needs {own} decimals, the scale is fixed at {scale}")
    result = int(mantissa) * int(POWER_OF_TEN[scale - own])
    if not -(1 << 63) <= result < (1 << 63):
        raise PrecisionError(
            f"{value!r} does not fit at scale {scale}: the largest magnitude there is"
            f" {to_text(HIGHEST, scale)}"
        )
    return result


def to_decimal(mantissa, int scale):
    if type(mantissa) is not int:
        mantissa = _index(mantissa)
    if not -_MOST_DECIMALS <= scale <= _MOST_DECIMALS or mantissa.bit_length() > _MOST_BITS:
        raise PrecisionError(
            f"a number of {mantissa.bit_length()} bits at scale {scale} is beyond {_MOST_BITS} bits and {_MOST_DECIMALS} decimals")
    if mantissa == 0:
        return Decimal(0)
    while scale > 0 and mantissa % 10 == 0:
        mantissa //= 10
        scale -= 1
    return _scaleb(Decimal(mantissa), -scale)


cdef object decimal_of(const int128 *value, int scale):
    # Text is the one fast way into a Decimal, and through a context a faster one than through the class: no arguments to
    # be parsed, no context to be looked up.
    cdef char[DECIMAL_ROOM] text
    if value.lo == 0 and value.hi == 0:
        return _ZERO
    return PyObject_CallOneArg(_create, PyUnicode_DecodeASCII(text, write_decimal(text, value, scale) - text, NULL))


def to_text(mantissa, int scale):
    return format(to_decimal(mantissa, scale), "f")


cdef object int128_to_int(const int128 *value):
    return (int(value.hi) << 64) | int(value.lo)


cdef int int128_from_int(object value, int128 *result) except -1:
    if not -(1 << 127) <= value < (1 << 127):
        raise PrecisionError(f"{value} does not fit 128 bits")
    result.lo = <uint64_t>(value & 0xFFFFFFFFFFFFFFFF)
    result.hi = <int64_t>(value >> 64)
    return 0
