"""Conversion of times of every kind to integer nanoseconds since the Unix epoch, UTC: exact, or an error.

A `datetime` must be aware. numpy and Arrow times without a time zone count as UTC.

Units: nanoseconds since the epoch, unless `time_unit` says what an integer counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from operator import index as to_index
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fastbars.errors import InvalidTickError

TimeUnit = Literal["s", "ms", "us", "ns"]
"""The unit of an integer time since the epoch."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
UNITS_NS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
_MICROSECOND = timedelta(microseconds=1)
_DATETIME64_NS = {**UNITS_NS, "m": 60 * 10**9, "h": 3600 * 10**9, "D": 86400 * 10**9}
EARLIEST_S, LATEST_S = 631_152_000, 4_102_444_800  # 1990 to 2100: times of trades are plausible

# Seconds mistaken for nanoseconds are times in the first seconds of 1970. Nothing was traded then, but tests and
# examples begin there: at whole milliseconds or, days later, whole seconds, which mistaken units hardly ever are.
# (unit, name, first, last, multiples of this are accepted)
_OTHER_UNITS = (
    ("s", "seconds", EARLIEST_S, LATEST_S, 1_000_000),
    ("ms", "milliseconds", EARLIEST_S * 10**3, LATEST_S * 10**3, 1_000_000),
    ("us", "microseconds", EARLIEST_S * 10**6, LATEST_S * 10**6, 1_000_000_000),
)
SMALLEST_DOUBTFUL, LARGEST_DOUBTFUL = _OTHER_UNITS[0][2], _OTHER_UNITS[-1][3]
_EARLIEST_NS = EARLIEST_S * 10**9


def to_nanoseconds(time: Any, time_unit: TimeUnit | None = None) -> int:
    """Nanoseconds since the epoch, exact.

    Args:
        time: an aware `datetime`, a pandas Timestamp (its nanoseconds are kept), a numpy datetime64 or an Arrow
            timestamp (UTC, where they name no zone), or an integer of any library.
        time_unit: what an integer counts; None: nanoseconds, and one that looks like another unit is refused.

    Raises:
        InvalidTickError: a naive datetime, NaT or null, or an integer that looks like another unit.
        TypeError: text, a float, a date, or anything else that is not a time.
    """
    if type(time) is int and time_unit is None:
        return check_unit(time) if SMALLEST_DOUBTFUL <= time <= LARGEST_DOUBTFUL else time
    if isinstance(time, datetime):
        return _of_datetime(time)
    if isinstance(time, np.ndarray) and time.ndim == 0:
        time = time[()]
    if isinstance(time, np.datetime64):
        return _of_datetime64(time)
    if hasattr(time, "as_py") and hasattr(time, "type"):
        return _of_arrow(time, time_unit)
    if not isinstance(time, bool | np.bool_):
        try:
            number = to_index(time)
        except TypeError:
            pass
        else:
            return check_unit(number) if time_unit is None else number * unit_ns(time_unit)
    shown = repr(time)
    raise TypeError(
        f"time {shown if len(shown) <= 60 else shown[:60] + '...'} is {_kind_of(time)}; a time is an aware datetime, a"
        " datetime64, or an integer of nanoseconds since the epoch"
    )


def unit_ns(time_unit: str) -> int:
    """Nanoseconds per unit. Raises ValueError for an unknown one."""
    if time_unit not in UNITS_NS:
        raise ValueError(f"time_unit {time_unit!r} is not one of {', '.join(UNITS_NS)}")
    return UNITS_NS[time_unit]


def check_unit(time_ns: int) -> int:
    """The same integer. Raises InvalidTickError where it looks like seconds, milliseconds or microseconds.

    It does if it would be a time from 1990 to 2100 in such a unit, and in nanoseconds is one of January or February
    1970 that is not a whole millisecond or (if it looks like microseconds) not a whole second.
    """
    if is_doubtful(time_ns):
        for unit, name, first, last, step in _OTHER_UNITS:
            if first <= time_ns <= last and time_ns % step:
                raise InvalidTickError(f"time {time_ns} {_looks_like(time_ns, unit, name)}")
    return time_ns


def is_doubtful(time_ns: int) -> bool:
    """Whether it may be meant in another unit than nanoseconds."""
    return bool(SMALLEST_DOUBTFUL <= time_ns <= LARGEST_DOUBTFUL)


def check_units(time_ns: npt.NDArray[np.int64], name: str = "time_ns") -> None:
    """The same for a column, which passes if some time in it can only be in nanoseconds: early in 1970, or before.

    Raises:
        InvalidTickError: with the first such row.
    """
    if not len(time_ns) or time_ns.min() > LARGEST_DOUBTFUL or time_ns.min() < SMALLEST_DOUBTFUL:
        return
    small = time_ns[time_ns < _EARLIEST_NS]
    inside = [(small >= first) & (small <= last) for _, _, first, last, _ in _OTHER_UNITS]
    if not np.logical_or.reduce(inside).all():
        return
    for row in np.flatnonzero(time_ns < _EARLIEST_NS).tolist():
        value = int(time_ns[row])
        for unit, unit_name, first, last, step in _OTHER_UNITS:
            if first <= value <= last and value % step:
                raise InvalidTickError(f"row {row}: {name} {value} {_looks_like(value, unit, unit_name)}", row)


def _looks_like(time: int, unit: str, name: str) -> str:
    shown = (EPOCH + timedelta(microseconds=time * UNITS_NS[unit] // 1000)).isoformat(sep=" ", timespec="seconds")
    return (
        f"looks like {name} ({shown}); pass time_unit={unit!r}, or give nanoseconds (time_unit='ns' takes it as it is)"
    )


def of_column(times: Any, time_unit: TimeUnit | None) -> npt.NDArray[Any]:
    """A column as a numpy array in nanoseconds; one of another kind is returned as it is, for the caller to refuse.

    Raises:
        InvalidTickError: naming the row. TypeError: an object that is not a time.
    """
    array = np.asarray(times)
    kind = array.dtype.kind if array.ndim == 1 else ""
    if kind == "M":
        return of_datetimes(array)
    if kind == "O":
        return of_objects(array, time_unit)
    if kind not in ("i", "u"):
        return array
    made = scale_up(array, 1 if time_unit is None else unit_ns(time_unit), "time_ns")
    if time_unit is None:
        check_units(made)
    return made


def of_datetimes(array: npt.NDArray[Any], name: str = "time_ns") -> npt.NDArray[np.int64]:
    """A datetime64 array, of any unit and byte order, as nanoseconds.

    Raises:
        InvalidTickError: NaT, with its row; a unit below ns or above days; beyond 64 bits.
    """
    unit, count = np.datetime_data(array.dtype)
    if unit not in _DATETIME64_NS:
        raise InvalidTickError(f"column {name} has dtype {array.dtype}; the unit is ns, us, ms, s, m, h or D")
    missing = np.isnat(array)
    if missing.any():
        row = int(missing.argmax())
        raise InvalidTickError(f"row {row}: {name} is NaT", row)
    return scale_up(
        array.astype(array.dtype.newbyteorder("="), copy=False).view(np.int64), _DATETIME64_NS[unit] * count, name
    )


def of_objects(
    values: Iterable[Any], time_unit: TimeUnit | None, name: str = "time_ns", row: int = 0
) -> npt.NDArray[np.int64]:
    """Objects, each a time as `to_nanoseconds` takes it. Errors name the row, which is counted from `row`."""
    times = []
    for place, value in enumerate(values, row):
        try:
            time = to_nanoseconds(value, time_unit)
        except InvalidTickError as error:
            raise InvalidTickError(f"row {place}: {name}: {error}", place) from None
        except TypeError as error:
            raise TypeError(f"row {place}: {name}: {error}") from None
        if not -(2**63) <= time < 2**63:
            raise InvalidTickError(f"row {place}: {name} {value} is beyond 64 bits", place)
        times.append(time)
    return np.array(times, np.int64)


def scale_up(values: npt.NDArray[Any], factor: int, name: str, row: int = 0) -> npt.NDArray[np.int64]:
    """Integers times a factor, as int64. Raises InvalidTickError for a row beyond 64 bits, counted from `row`."""
    unsigned = values.dtype.kind == "u" and values.dtype.itemsize == 8
    if (unsigned or factor > 1) and len(values):
        most = (2**63 - 1) // factor
        if values.max() > most or (not unsigned and values.min() < -most):
            wrong = values > most if unsigned else (values > most) | (values < -most)
            place = int(wrong.argmax())
            raise InvalidTickError(f"row {row + place}: {name} {values[place]} is beyond 64 bits", row + place)
    whole = np.ascontiguousarray(values, np.int64)
    return whole if factor == 1 else whole * factor


def _of_datetime(time: datetime) -> int:
    if time != time:  # noqa: PLR0124 pandas' NaT is a datetime, and equals nothing
        raise InvalidTickError("time is NaT")
    if time.utcoffset() is None:
        raise InvalidTickError(f"{time.isoformat()} has no time zone; times are aware, in UTC")
    # pandas' Timestamp adds nanoseconds to its base class, whose arithmetic ignores them.
    plain = time.to_pydatetime(warn=False) if hasattr(time, "to_pydatetime") else time
    return (plain - EPOCH) // _MICROSECOND * 1000 + int(getattr(time, "nanosecond", 0))


def _of_datetime64(time: np.datetime64) -> int:
    if np.isnat(time):
        raise InvalidTickError("time is NaT")
    unit, count = np.datetime_data(time.dtype)
    if unit not in _DATETIME64_NS:
        raise InvalidTickError(f"time {time} has the unit {unit}; the unit is ns, us, ms, s, m, h or D")
    return int(time.astype(np.int64)) * _DATETIME64_NS[unit] * count


def _of_arrow(time: Any, time_unit: TimeUnit | None) -> int:
    kind = str(time.type)
    if not getattr(time, "is_valid", True):
        raise InvalidTickError(f"time is null ({kind})")
    unit = kind.removeprefix("timestamp[").partition(",")[0].rstrip("]")
    if kind.startswith("timestamp[") and unit in UNITS_NS:
        return int(time.value) * UNITS_NS[unit]
    return to_nanoseconds(time.as_py(), time_unit)


def _kind_of(time: Any) -> str:
    if isinstance(time, str | bytes):
        return "text: datetime.fromisoformat reads it"
    if isinstance(time, float | np.floating):
        return "a float, which has lost digits"
    if isinstance(time, date):
        return "a date"
    return type(time).__name__
