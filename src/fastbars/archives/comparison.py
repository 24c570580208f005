"""Looks closely at rows of few ids: reads files again and says which rows came twice, and which differ.

Only ids that ledgers have found doubtful come here. Rows are held a bounded number of ids at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastbars.archives import ranges
from fastbars.archives.columns import TradeColumns
from fastbars.archives.ledger import DAY_NS
from fastbars.archives.ranges import Ranges

__all__ = ["Place", "Verdict", "compare", "days_of", "rows_at", "rows_of"]

MOST_IDS = 250_000  # held at once, of each source
MOST_ROWS = 2_000_000  # likewise; what a file has beyond that of the same ids is not looked at
ROW = np.dtype([
    ("first", "i8"), ("last", "i8"), ("time", "i8"), ("price", "i8"), ("price_scale", "i1"), ("size", "i8"),
    ("size_scale", "i1"), ("side", "i1"), ("count", "i8"), ("source", "i4"), ("file", "i4"), ("row", "i8"),
])  # fmt: skip
_CONTENT = ("last", "time", "price", "price_scale", "size", "size_scale", "side", "count")
_NO_ROWS: npt.NDArray[Any] = np.empty(0, ROW)


class Place(NamedTuple):
    """Rows of one symbol in one file, of one series of ids.

    Attributes:
        source, file: numbers that the caller gives; sources are compared with each other.
        rows: numbers of the first row and of the one behind the last.
        ids: those that are there.
        read: reads the blocks of this symbol anew.
    """

    source: int
    file: int
    rows: tuple[int, int]
    ids: Ranges
    read: Callable[[], Iterable[TradeColumns]]


class Verdict(NamedTuple):
    """What became of doubtful ids; each is a table of rows (ROW), those that the finding is about.

    Attributes:
        repeated: came before in the same source, with the same content.
        conflicting: came before in the same source, with other content.
        differing: another source has other content.
        explained: ids of the rows in `repeated` and `conflicting`.
    """

    repeated: npt.NDArray[Any]
    conflicting: npt.NDArray[Any]
    differing: npt.NDArray[Any]

    @property
    def explained(self) -> Ranges:
        """Ids of rows that came again under the same first id; others overlap."""
        again = np.concatenate([self.repeated, self.conflicting])
        return ranges.union([np.stack([again["first"], again["last"]], 1)])[0]


def compare(places: Sequence[Place], wanted: Ranges) -> Verdict:
    """Read the rows of these ids again, and compare those that have the same first id."""
    parts = [_compared(rows_at(places, some)) for some in _slices(wanted)]
    return Verdict(*(np.concatenate([_NO_ROWS, *(part[i] for part in parts)]) for i in range(3)))


def rows_of(block: TradeColumns, places: npt.NDArray[np.intp], source: int = 0, file: int = 0) -> npt.NDArray[Any]:
    """Rows of a block as a table whose numbers are comparable, at whatever scale they are written."""
    table = np.empty(len(places), ROW)
    first, last, count = block.first_id, block.last_id, block.count
    table["first"] = -1 if first is None else first[places]
    table["last"] = -1 if last is None else last[places]
    table["time"], table["side"] = block.time_ns[places], block.side[places]
    table["price"], table["price_scale"] = _shortest(block.price[places], block.price_scale)
    table["size"], table["size_scale"] = _shortest(block.size[places], block.size_scale)
    table["count"] = 0 if count is None else count[places]
    table["source"], table["file"] = source, file
    table["row"] = block.first_row + places
    return table


def days_of(rows: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """The day of each row, since the epoch."""
    days: npt.NDArray[np.int64] = rows["time"] // DAY_NS
    return days


def same(rows: npt.NDArray[Any], others: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """For each row, whether it has the content of the other."""
    equal = np.ones(len(rows), bool)
    for name in _CONTENT:
        equal &= rows[name] == others[name]
    return equal


def _slices(wanted: Ranges) -> Iterator[Ranges]:
    # Parts of at most MOST_IDS ids.
    held: list[tuple[int, int]] = []
    room = MOST_IDS
    for first, last in wanted.tolist():
        at = first
        while at <= last:
            until = min(last, at + room - 1)
            held.append((at, until))
            room -= until - at + 1
            at = until + 1
            if not room:
                yield np.array(held, np.int64)
                held, room = [], MOST_IDS
    if held:
        yield np.array(held, np.int64)


def rows_at(places: Sequence[Place], wanted: Ranges) -> npt.NDArray[Any]:
    """Read all rows of these ids (ROW[n]), which must be few."""
    parts = [_NO_ROWS]
    held = 0
    for place in places:
        if not len(ranges.common(place.ids, wanted)):
            continue
        since, until = place.rows
        for block in place.read():
            if block.first_row >= until or held > MOST_ROWS:
                break
            assert block.first_id is not None
            found = np.flatnonzero(ranges.holds(wanted, block.first_id))
            numbers = block.first_row + found
            parts.append(rows_of(block, found[(numbers >= since) & (numbers < until)], place.source, place.file))
            held += len(parts[-1])
    return np.concatenate(parts)


def _compared(rows: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    if not len(rows):
        return rows, rows, rows
    rows = rows[np.lexsort((rows["row"], rows["file"], rows["source"], rows["first"]))]
    of_id = np.concatenate([[True], rows["first"][1:] != rows["first"][:-1]])
    of_source = of_id | np.concatenate([[True], rows["source"][1:] != rows["source"][:-1]])
    numbers = np.arange(len(rows))
    leaders = rows[np.maximum.accumulate(np.where(of_source, numbers, 0))]
    equal = same(rows, leaders)
    heads = rows[of_source]
    firsts = np.maximum.accumulate(np.where(of_id[of_source], np.arange(len(heads)), 0))
    return rows[equal & ~of_source], rows[~equal], heads[~same(heads, heads[firsts])]


def _shortest(mantissa: npt.NDArray[np.int64], scale: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int8]]:
    # Without trailing zeros.
    mantissa = mantissa.copy()
    scales = np.full(len(mantissa), scale, np.int8)
    left = np.flatnonzero((mantissa % 10 == 0) & (scales > 0))
    while len(left):
        mantissa[left] //= 10
        scales[left] -= 1
        left = left[(mantissa[left] % 10 == 0) & (scales[left] > 0)]
    return mantissa, scales
