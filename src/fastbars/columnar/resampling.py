"""Larger bars of smaller ones: which bars make up which, by the laws that bars merge and that the worst status wins.

The status of what has no bar is judged in `fastbars.columnar.folding`; docs/semantics.md has it as a table.
Units: times int64 ns since the epoch, UTC.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbars.columnar.folding import fold_bars
from fastbars.errors import PrecisionError, SpecError
from fastbars.kernel.fields import ROW_DTYPE
from fastbars.kernel.instruments import Instruments
from fastbars.specs import BarKind, BarSpec

Rows = npt.NDArray[Any]
Times = npt.NDArray[np.int64]

_LUMP = np.dtype((np.void, ROW_DTYPE.itemsize))


def intervals(spec: BarSpec, times: Times) -> tuple[Times, Times]:
    """Where the intervals of a time spec that hold these times begin and end: int64[n] each.

    Raises:
        ValueError: a time lies outside all that a zoned spec has.
    """
    kind, step, origin = spec.rule
    boundaries = spec.boundaries
    if boundaries is not None:
        places = np.searchsorted(boundaries, times, side="right")
        if len(times) and not 0 < places.min() <= places.max() < len(boundaries):
            raise ValueError(f"a time is outside the years for which bars of {spec} are known")
        return boundaries[places - 1], boundaries[places]
    if kind == "months":
        months = times.view("M8[ns]").astype("M8[M]").astype(np.int64)
        months -= months % step
        return _starts(months), _starts(months + step)
    opens = times - (times - origin) % step
    return opens, opens + step


def _has_bar(spec: BarSpec, times: Times) -> npt.NDArray[np.bool_]:
    # Whether these times are in a bar: not between two sessions.
    if spec.kind is not BarKind.SESSION:
        return np.ones(len(times), np.bool_)
    assert spec.boundaries is not None
    inside: npt.NDArray[np.bool_] = np.searchsorted(spec.boundaries, times, side="right") % 2 == 0
    return inside


def _starts(months: Times) -> Times:
    return months.astype("M8[M]").astype("M8[ns]").astype(np.int64)


def resampled(
    rows: Rows, instruments: Instruments, specs: Sequence[BarSpec], targets: Sequence[BarSpec], *, ids: bool
) -> Rows:
    """The rows of longer bars.

    Args:
        rows, instruments, specs, ids: of a BarBatch. Of a bar that is there more than once the highest revision counts.
        targets: of the longer bars, whose numbers the rows have.

    Returns:
        Rows in order of close time, then of the symbols, then of `targets`.

    Raises:
        SpecError: a spec depends on the path, or bars of no spec fit into those of a target.
        ValueError: a bar does not cover an interval of its spec. PrecisionError: a sum does not fit 128 bits.
    """
    for spec in targets:
        if not spec.is_timed:
            raise SpecError(f"bars of {spec} depend on the path of the trades: they are made of trades alone")
        if spec.features:
            raise SpecError(f"bars of {spec} have something inside, which is made of trades alone: resample without it")
    rows = np.ascontiguousarray(rows)
    timed = [number for number, spec in enumerate(specs) if spec.kind is BarKind.TIME]
    sources = {number: _latest(_of_spec(rows, number)) for number in timed}
    if len(rows) and not any(map(len, sources.values())):
        names = ", ".join(str(specs[number]) for number in np.unique(rows["spec"]))
        raise SpecError(
            f"bars of {names} depend on the path of the trades, or hold those of sessions alone: no longer ones can be"
            " made of them"
        )
    for number, own in sources.items():
        _check_intervals(own, specs[number], instruments)
    parts = []
    for number, target in enumerate(targets):
        left = np.zeros(len(instruments), np.bool_)
        for own in sources.values():
            left[own["symbol_id"]] = True
        # The longest that fit: the fewest to be folded.
        for source in sorted(timed, key=lambda place: -_length(specs[place])):
            own = sources[source]
            own = own[left[own["symbol_id"]]]
            if len(own) and _fits(specs[source], target, own):
                left[own["symbol_id"]] = False
                own = own[_has_bar(target, np.ascontiguousarray(own["open_time"]))]
                if len(own):
                    parts.append(_folded(own, target, number, ids, instruments))
        if left.any():
            symbol = int(left.argmax())
            held = np.unique(rows["spec"][rows["symbol_id"] == symbol]).tolist()
            raise SpecError(
                f"{instruments.label(symbol)}: no bars of {', '.join(str(specs[one]) for one in held)} make up whole"
                f" ones of {target}"
            )
    made = np.concatenate(parts) if parts else np.empty(0, ROW_DTYPE)
    made = made[np.lexsort((made["spec"], made["symbol_id"], made["close_time"]))]
    made["row"] = np.arange(len(made))
    return made


def _of_spec(rows: Rows, number: int) -> Rows:
    found: Rows = rows.view(_LUMP)[rows["spec"] == number].view(ROW_DTYPE)
    return found


def _latest(rows: Rows) -> Rows:
    # In order of symbol and time, the highest revision of each.
    rows = rows.view(_LUMP)[np.lexsort((rows["revision"], rows["open_time"], rows["symbol_id"]))].view(ROW_DTYPE)
    if len(rows):
        again = (rows["symbol_id"][1:] == rows["symbol_id"][:-1]) & (rows["open_time"][1:] == rows["open_time"][:-1])
        rows = rows[np.append(~again, True)]
    return np.ascontiguousarray(rows)


def _check_intervals(rows: Rows, spec: BarSpec, instruments: Instruments) -> None:
    opens, closes = intervals(spec, np.ascontiguousarray(rows["open_time"]))
    wrong = (opens != rows["open_time"]) | (closes != rows["close_time"])
    if wrong.any():
        row = rows[int(wrong.argmax())]
        opened, closed = (str(np.datetime64(int(row[name]), "ns")) for name in ("open_time", "close_time"))
        raise ValueError(
            f"{instruments.label(int(row['symbol_id']))} {spec}: a bar from {opened} to {closed} covers no such"
            " interval"
        )


def _length(spec: BarSpec) -> int:
    opens, closes = intervals(spec, np.zeros(1, np.int64))
    return int(closes[0] - opens[0])


def _fits(source: BarSpec, target: BarSpec, rows: Rows) -> bool:
    # Whether the intervals of the one make up whole ones of the other, wherever there are bars.
    if source.rule[0] == target.rule[0] == "time":
        (_, step, origin), (_, longer, begins) = source.rule, target.rule
        return longer % step == 0 and (begins - origin) % step == 0
    bounds = np.unique(np.concatenate(intervals(target, np.ascontiguousarray(rows["open_time"]))))
    return bool((intervals(source, bounds)[0] == bounds).all())


def _folded(rows: Rows, target: BarSpec, number: int, ids: bool, instruments: Instruments) -> Rows:
    opens, closes = intervals(target, np.ascontiguousarray(rows["open_time"]))
    symbols = rows["symbol_id"]
    other = symbols[1:] != symbols[:-1]
    starts = np.flatnonzero(np.append(True, other | (opens[1:] != opens[:-1])))
    begins = np.flatnonzero(np.append(True, other))
    of = np.searchsorted(begins, starts, side="right")
    ends = np.append(begins[1:], len(rows))
    series = np.ascontiguousarray(np.stack([begins[of - 1], ends[of - 1]], axis=1).reshape(-1), np.int64)
    numbered = rows.copy()
    numbered["row"] = np.arange(len(rows))
    try:
        return fold_bars(
            numbered, np.append(starts, len(rows)).astype(np.int64), series, opens[starts], closes[starts], number, ids
        )
    except PrecisionError as error:
        if error.row is None:
            raise
        row = numbered[error.row]
        opened = np.datetime64(int(row["open_time"]), "ns").astype("M8[s]")
        label = instruments.label(int(row["symbol_id"]))
        raise PrecisionError(f"{label} {target}, the bar with that of {opened}: {error}", error.row) from None
