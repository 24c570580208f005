"""TickData: one trade as an object, as `on_tick`, `BarBuffer.add_tick` and `parse_message` use it.

To its users it is a frozen dataclass. Its numbers are C fields, scaled as the kernel takes them, from which the Decimals
that users see are made when they are asked for; a trade whose numbers fit no such field keeps them as objects.

Units: time_ns int64 nanoseconds since the Unix epoch, UTC; price quote units; volume base units (contracts on
inverse markets). For batches see `fastbars.kernel.batch.TickBatch`.
"""

import cython
from copyreg import __newobj__ as _newobj
from dataclasses import FrozenInstanceError, make_dataclass as _make_dataclass
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from operator import index as _to_index

from cpython.object cimport PyObject
from libc.stdint cimport int64_t

from fastbars.kernel.batch cimport TickBatch, is_doubtful, scale_of, sign_of
from fastbars.kernel.instruments cimport Scale
from fastbars.kernel.scaled cimport Written, decimal_of_written, read_written

from fastbars.errors import InvalidTickError
from fastbars.kernel.scaled import DECIMALS
from fastbars.times import EPOCH, to_nanoseconds

__all__ = ["EPOCH", "TickData", "TickSide", "to_datetime", "to_nanoseconds"]

cdef extern from "Python.h":
    long long PyLong_AsLongLongAndOverflow(object number, int *overflow) except? -1
    int PyObject_GenericSetAttr(object owner, object name, PyObject *value) except -1


def to_datetime(time_ns):
    return EPOCH + timedelta(microseconds=time_ns // 1000)


class TickSide(StrEnum):
    """Which side took liquidity."""

    BUY = "buy"
    SELL = "sell"
    UNKNOWN = "unknown"

    @classmethod
    def _missing_(cls, value):
        # As exchanges write it: "Buy", "SELL".
        return next((side for side in cls if isinstance(value, str) and side.value == value.lower()), None)

    @classmethod
    def of(cls, sign):
        """The side with this sign."""
        return cls.BUY if sign > 0 else cls.SELL if sign < 0 else cls.UNKNOWN

    @property
    def sign(self):
        """1 the taker bought, -1 the taker sold, 0 unknown."""
        return 1 if self is TickSide.BUY else -1 if self is TickSide.SELL else 0


cdef object _BUY = TickSide.BUY, _SELL = TickSide.SELL, _UNKNOWN = TickSide.UNKNOWN
cdef object _Decimal = Decimal
cdef object _NOT_GIVEN = object()
cdef enum:
    NO_ROOM = -1                # in Written.scale: the number fits no 64 bits

# What dataclasses and type checkers look for in a class.
_FIELDS = [
    ("symbol", "str"), ("time_ns", "int"), ("price", "Decimal"), ("volume", "Decimal"), ("side", "TickSide"),
    ("trade_id", "int | None"), ("last_trade_id", "int | None"), ("trade_count", "int")]
_NAMES = tuple(name for name, _ in _FIELDS)
_AS_DATACLASS = _make_dataclass("TickData", _FIELDS, frozen=True, slots=True, init=False)


cdef object side_of(int sign):
    return _BUY if sign > 0 else _SELL if sign < 0 else _UNKNOWN


cdef bint _as_int64(object value, int64_t *number) except -1:
    # False: it is no int, or beyond 64 bits.
    cdef int overflow = 0
    if type(value) is not int:
        return False
    number[0] = PyLong_AsLongLongAndOverflow(value, &overflow)
    return overflow == 0


cdef object _checked(str name, object symbol, object value, bint void, bint signed):
    # Any number as a Decimal.
    if isinstance(value, float):
        raise TypeError(f"{symbol}: {name} {value!r} is a float, which has already lost digits; give Decimal or text")
    try:
        number = Decimal(value, DECIMALS)
    except InvalidOperation:
        raise InvalidTickError(f"{symbol}: {name} {value!r} is not a number") from None
    except TypeError:
        try:
            number = Decimal(_to_index(value))  # an integer of numpy's, or another library's
        except TypeError:
            raise TypeError(
                f"{symbol}: {name} {value!r} is {type(value).__name__}; give Decimal, int or text"
            ) from None
    if not number.is_finite() or (not signed and (number < 0 or (number == 0 and not void))):
        raise InvalidTickError(f"{symbol}: {name} {value} is not {'finite' if signed else 'positive'}")
    return number


cdef object _read(str name, object symbol, object value, bint void, bint signed, Written *number):
    # Into `number`; returns the Decimal, where there is one already.
    if read_written(value, number) and (number.mantissa > 0 or signed or (number.mantissa == 0 and void)):
        return value if type(value) is _Decimal else None
    value = _checked(name, symbol, value, void, signed)
    if not read_written(value, number):
        number.scale = NO_ROOM
    return value


cdef object _time_of(object symbol, object timestamp, object time_unit):
    try:
        return to_nanoseconds(timestamp, time_unit)
    except InvalidTickError as error:
        raise InvalidTickError(f"{symbol}: {error}") from None
    except TypeError as error:
        raise TypeError(f"{symbol}: {error}") from None


cdef tuple _time_given(object timestamp, object price, object volume, object time_unit, object time_ns):
    # A trade is made with `timestamp` or with `time_ns`, as `dataclasses.replace` does.
    if time_ns is _NOT_GIVEN:
        for name, value in (("timestamp", timestamp), ("price", price), ("volume", volume)):
            if value is _NOT_GIVEN:
                raise TypeError(f"TickData() is missing its {name}")
    if timestamp is not _NOT_GIVEN or time_unit is not None:
        raise TypeError("TickData() takes a timestamp, in its time_unit, or time_ns, not both")
    for name, value in (("price", price), ("volume", volume)):
        if value is _NOT_GIVEN:
            raise TypeError(f"TickData() is missing its {name}")
    return time_ns, "ns"


@cython.freelist(16)
cdef class TickData:
    # The first lines are what `inspect.signature` reads.
    """TickData(symbol, timestamp, price, volume, side='unknown', trade_id=None, last_trade_id=None, trade_count=None, *, \
time_unit=None, negative_prices=False)
--

One trade, or several that the exchange reported as one: frozen, compared by value, prices and volumes as Decimal.
"""

    def __init__(self, symbol, timestamp=_NOT_GIVEN, price=_NOT_GIVEN, volume=_NOT_GIVEN, side=_UNKNOWN, trade_id=None,
                 last_trade_id=None, trade_count=None, *, time_unit=None, bint negative_prices=False, time_ns=_NOT_GIVEN):
        cdef TickFields *own = &self.fields
        cdef bint fits, is_void, has_id = trade_id is not None
        if self.state != BLANK:
            raise TypeError("a TickData cannot be initialised twice")
        if time_ns is not _NOT_GIVEN or timestamp is _NOT_GIVEN or price is _NOT_GIVEN or volume is _NOT_GIVEN:
            timestamp, time_unit = _time_given(timestamp, price, volume, time_unit, time_ns)
        if last_trade_id is None:
            last_trade_id = trade_id
        own.has_first_id, own.has_last_id = has_id, last_trade_id is not None
        fits = (not has_id or _as_int64(trade_id, &own.first_id)) and (
            last_trade_id is None or _as_int64(last_trade_id, &own.last_id))
        if trade_count is None and fits and (not has_id or own.first_id == own.last_id):
            own.count = 1
        else:
            if trade_count is None:
                trade_count = 1 if not has_id or last_trade_id is None else last_trade_id - trade_id + 1
            fits &= _as_int64(trade_count, &own.count)
        self.volume_given = _read("volume", symbol, volume, has_id, False, &own.size)
        is_void = own.size.mantissa == 0 if own.size.scale != NO_ROOM else not self.volume_given
        if is_void:
            own.count, trade_count = 0, None
        elif trade_count is not None and trade_count < 1:
            raise InvalidTickError(f"{symbol}: trade ids {trade_id} to {last_trade_id}, count {trade_count}")
        if not (type(timestamp) is int and time_unit is None and _as_int64(timestamp, &own.time_ns) and (
            not is_doubtful(own.time_ns)
        )):
            timestamp = _time_of(symbol, timestamp, time_unit)
            fits &= _as_int64(timestamp, &own.time_ns)
        self.price_given = _read("price", symbol, price, is_void, negative_prices, &own.price)
        if side is _UNKNOWN:
            own.side = 0
        elif side is _BUY or (type(side) is str and side == "buy"):
            own.side = 1
        elif side is _SELL or (type(side) is str and side == "sell"):
            own.side = -1
        else:
            own.side = TickSide(side).sign if isinstance(side, str) else sign_of(symbol, side)
        self.symbol = symbol
        self.state = IN_FIELDS
        if not fits or own.price.scale == NO_ROOM or own.size.scale == NO_ROOM:
            self.given = (
                symbol, timestamp, self.price, self.volume, side_of(own.side), trade_id, last_trade_id,
                own.count if trade_count is None else trade_count)
            self.state = AS_OBJECTS

    cdef object as_object(self, int place):
        # A field that the C fields do not have.
        if self.state == BLANK:
            raise AttributeError(f"{type(self).__name__}.__init__ was not called")
        return self.given[place]

    @property
    def time_ns(self):
        return self.fields.time_ns if self.state == IN_FIELDS else self.as_object(1)

    @property
    def price(self):
        if self.price_given is None:
            if self.state != IN_FIELDS:
                return self.as_object(2)
            self.price_given = decimal_of_written(&self.fields.price)
        return self.price_given

    @property
    def volume(self):
        if self.volume_given is None:
            if self.state != IN_FIELDS:
                return self.as_object(3)
            self.volume_given = decimal_of_written(&self.fields.size)
        return self.volume_given

    @property
    def side(self):
        return side_of(self.fields.side) if self.state == IN_FIELDS else self.as_object(4)

    @property
    def trade_id(self):
        if self.state != IN_FIELDS:
            return self.as_object(5)
        return self.fields.first_id if self.fields.has_first_id else None

    @property
    def last_trade_id(self):
        if self.state != IN_FIELDS:
            return self.as_object(6)
        return self.fields.last_id if self.fields.has_last_id else None

    @property
    def trade_count(self):
        return self.fields.count if self.state == IN_FIELDS else self.as_object(7)

    @property
    def row(self):
        return (
            self.symbol, self.time_ns, self.price, self.volume, self.side.sign, self.trade_id, self.last_trade_id,
            self.trade_count)

    @property
    def timestamp(self):
        return to_datetime(self.time_ns)

    def __eq__(self, other):
        cdef TickFields *a = &self.fields
        cdef TickFields *b
        if type(other) is not type(self):
            return NotImplemented
        if self.state != IN_FIELDS or (<TickData>other).state != IN_FIELDS:
            return self.__getstate__() == (<TickData>other).__getstate__()
        b = &(<TickData>other).fields
        return (
            a.time_ns == b.time_ns and are_equal(&a.price, &b.price) and are_equal(&a.size, &b.size) and a.side == b.side
            and a.has_first_id == b.has_first_id and (a.first_id == b.first_id or not a.has_first_id)
            and a.has_last_id == b.has_last_id and (a.last_id == b.last_id or not a.has_last_id)
            and a.count == b.count and self.symbol == (<TickData>other).symbol)

    def __hash__(self):
        return hash(tuple(self.__getstate__()))

    def __repr__(self):
        values = ", ".join([f"{name}={getattr(self, name)!r}" for name in _NAMES])
        return f"{type(self).__qualname__}({values})"

    def __setattr__(self, name, value):
        if type(self) is TickData or name in _NAMES:
            raise FrozenInstanceError(f"cannot assign to field {name!r}")
        PyObject_GenericSetAttr(self, name, <PyObject *>value)

    def __delattr__(self, name):
        if type(self) is TickData or name in _NAMES:
            raise FrozenInstanceError(f"cannot delete field {name!r}")
        PyObject_GenericSetAttr(self, name, NULL)

    # Pickles are those of the dataclass that this once was.

    def __reduce__(self):
        return _newobj, (type(self),), self.__getstate__()

    def __getstate__(self):
        return [getattr(self, name) for name in _NAMES]

    def __setstate__(self, state):
        symbol, time_ns, price, volume, side, trade_id, last_trade_id, trade_count = state
        TickData.__init__(
            self, symbol, time_ns, price, volume, side, trade_id, last_trade_id, trade_count, time_unit="ns",
            negative_prices=True)

    def __replace__(self, **changes):
        return type(self)(**dict(zip(_NAMES, self.__getstate__())) | {"negative_prices": True} | changes)

    __slots__ = __match_args__ = _NAMES
    __dataclass_fields__ = _AS_DATACLASS.__dataclass_fields__
    __dataclass_params__ = _AS_DATACLASS.__dataclass_params__
    __annotations__ = dict(_FIELDS)


cdef inline bint are_equal(const Written *a, const Written *b) noexcept:
    return a.mantissa == b.mantissa and a.scale == b.scale


def tick_of(TickBatch batch not None, Py_ssize_t row):
    cdef TickData tick
    cdef TickFields *own
    cdef Scale scale
    cdef int symbol_id
    if not 0 <= row < batch.length:
        raise IndexError(f"row {row} is outside 0 to {batch.length - 1}")
    batch.catch_up()
    symbol_id = batch.symbol_id[row]
    tick = TickData.__new__(TickData)
    own = &tick.fields
    tick.symbol = batch.instruments.symbol(symbol_id)
    scale = scale_of(batch, symbol_id)
    own.time_ns = batch.time_ns[row]
    strip(batch.price[row], scale.price, &own.price)
    strip(batch.size[row], scale.size, &own.size)
    own.side = 0 if batch.side is NULL else batch.side[row]
    if batch.first_id is not NULL:
        own.has_first_id = own.has_last_id = True
        own.first_id, own.last_id = batch.first_id[row], batch.last_id[row]
    own.count = 0 if own.size.mantissa == 0 else 1 if batch.count is NULL else batch.count[row]
    tick.state = IN_FIELDS
    return tick


cdef inline void strip(int64_t mantissa, int scale, Written *number) noexcept:
    while scale > 0 and mantissa % 10 == 0:
        mantissa //= 10
        scale -= 1
    number.mantissa, number.scale, number.exponent = mantissa, scale, -scale
