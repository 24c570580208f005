"""Indexing of a BarBatch: turns an index into row numbers that are certain to be inside the batch."""

from __future__ import annotations

from operator import index as to_index
from typing import Any

import numpy as np
import numpy.typing as npt


def places_of(index: Any, count: int) -> int | npt.NDArray[np.intp]:
    """The place, or places, of 0 to count - 1 that an index means, as numpy, pandas and polars take it.

    Args:
        index: an integer, or one dimension of integers (negative ones count from the end) or of `count` booleans.
        count: how many there are.

    Raises:
        IndexError: outside, or a mask of another length. TypeError: anything else, floats above all.
    """
    if not isinstance(index, bool | np.bool_ | np.ndarray):
        try:
            return _place(to_index(index), count)
        except TypeError:
            pass
    if isinstance(index, tuple | bool | np.bool_) or not (hasattr(index, "__len__") or hasattr(index, "__array__")):
        raise TypeError(
            f"bars are chosen by an integer, a slice, a list or array of integers or booleans, or a column's name, not"
            f" by {type(index).__name__}"
        )
    array = np.asarray(index)
    if array.ndim == 0 and array.dtype.kind in "iu":
        return _place(int(array), count)
    if array.ndim != 1:
        raise TypeError(f"bars are chosen by one dimension of integers or booleans, not by {array.ndim}")
    kind = array.dtype.kind
    if not array.size and (kind in "biu" or not isinstance(index, np.ndarray)):
        if kind == "b" and count:
            raise IndexError(f"a mask of 0 booleans does not fit {count} bars")
        return np.empty(0, np.intp)
    if kind == "b":
        if len(array) != count:
            raise IndexError(f"a mask of {len(array)} booleans does not fit {count} bars")
        return np.flatnonzero(array)
    if kind == "O":  # integers beyond 64 bits among them, or things that are no integers
        if any(isinstance(value, bool | np.bool_) for value in array):
            raise TypeError("integers and booleans cannot be mixed to choose bars")
        return np.array([_place(to_index(value), count) for value in array], np.intp)
    if kind not in "iu":
        raise TypeError(f"bars are chosen by integers or booleans, not by an array of {array.dtype}")
    wrong = array >= count if kind == "u" else (array < -count) | (array >= count)
    if wrong.any():
        _place(int(array[wrong.argmax()]), count)
    places = array.astype(np.intp)
    return np.where(places < 0, places + count, places)


def _place(index: int, count: int) -> int:
    if not -count <= index < count:
        raise IndexError(f"bar {index} is outside a batch of {count}")
    return index + count if index < 0 else index
