"""Sets of ids as ascending ranges: int64[n, 2], first and last, both inclusive; two that touch are one range."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Ranges = npt.NDArray[np.int64]

NONE: Ranges = np.empty((0, 2), np.int64)


def ranges_of(pairs: Iterable[tuple[int, int]]) -> Ranges:
    """The set of these ids, in whatever order."""
    return union([np.array(list(pairs), np.int64).reshape(-1, 2)])[0]


def union(parts: Iterable[Ranges]) -> tuple[Ranges, Ranges]:
    """(ids in any of these, those that are in several), of parts that need neither order nor disjointness."""
    table = np.concatenate([NONE, *parts])
    if len(table) < 2:
        return table, NONE
    if not (table[1:, 0] >= table[:-1, 0]).all():
        table = table[np.argsort(table[:, 0], kind="stable")]
    first, last = table[:, 0], table[:, 1]
    reached = np.maximum.accumulate(last)
    again = first[1:] <= reached[:-1]
    doubles = np.stack([first[1:][again], np.minimum(last[1:][again], reached[:-1][again])], 1)
    return _joined(table, reached), _joined(doubles, np.maximum.accumulate(doubles[:, 1]))


def _joined(table: Ranges, reached: npt.NDArray[np.int64]) -> Ranges:
    # Ranges in order of their first ids, and the greatest id up to each.
    starts = np.flatnonzero(np.concatenate([[True], table[1:, 0] - 1 > reached[:-1]])[: len(table)])
    ends = np.append(starts[1:], len(table))[: len(starts)] - 1
    return np.stack([table[starts, 0], reached[ends]], 1)


def count(ranges: Ranges) -> int:
    """How many ids are in the ranges."""
    return int((ranges[:, 1] - ranges[:, 0]).sum()) + len(ranges)


def between(ranges: Ranges) -> Ranges:
    """The ids that the set lacks between its first and its last."""
    return np.stack([ranges[:-1, 1] + 1, ranges[1:, 0] - 1], 1) if len(ranges) > 1 else NONE


def without(ranges: Ranges, others: Ranges) -> Ranges:
    """The ids of one set that are not in the other."""
    if not len(ranges) or not len(others):
        return ranges
    least, most = min(ranges[0, 0], others[0, 0]) - 1, max(ranges[-1, 1], others[-1, 1]) + 1
    firsts = np.concatenate([[least], others[:, 1] + 1])
    lasts = np.concatenate([others[:, 0] - 1, [most]])
    gaps = np.stack([firsts, lasts], 1)
    return common(ranges, gaps[gaps[:, 0] <= gaps[:, 1]])


def common(ranges: Ranges, others: Ranges) -> Ranges:
    """The ids that are in both sets."""
    if not len(ranges) or not len(others):
        return NONE
    # For each range the others that overlap it lie side by side.
    start = np.searchsorted(others[:, 1], ranges[:, 0], "left")
    stop = np.searchsorted(others[:, 0], ranges[:, 1], "right")
    found = np.maximum(stop - start, 0)
    mine = np.repeat(np.arange(len(ranges)), found)
    theirs = np.arange(found.sum()) - np.repeat(np.cumsum(found) - found, found) + np.repeat(start, found)
    return np.stack([np.maximum(ranges[mine, 0], others[theirs, 0]), np.minimum(ranges[mine, 1], others[theirs, 1])], 1)


def holds(ranges: Ranges, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """For each id, whether it is in the set."""
    if not len(ranges):
        return np.zeros(len(ids), bool)
    place = np.searchsorted(ranges[:, 0], ids, "right") - 1
    found: npt.NDArray[np.bool_] = (place >= 0) & (ids <= ranges[np.maximum(place, 0), 1])
    return found
