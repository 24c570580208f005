"""Ordinary trades into path-driven bars: the loops of ordinary.pxd, compiled for each kind that has one.

They stand apart from fold.pyx so that the loops of time bars are compiled the same whatever kinds there are.

Units: those of TickBatch.
"""

from fastbars.kernel.ordinary cimport fold_path_stretch, fold_rows
from fastbars.kernel.passes cimport Pass
from fastbars.kernel.rules cimport CUSUM, DELTA, RANGE, RENKO, TICK, VALUE, VOLUME, Rule
from fastbars.kernel.table cimport Slot


cdef Py_ssize_t fold_path(
    const Rule *rule, Slot *slots, char *states, Pass *run, bint by_id, Py_ssize_t start, Py_ssize_t stop
) noexcept nogil:
    # The ordinary rows from `start` on; returns the first one that is not. Kinds without a call here have none.
    if rule.kind == TICK:
        if run.has_voids:
            return fold_rows(TICK, rule.step, slots, states, &run.columns, start, stop, by_id, False, True, run.inverse, &run.seen)
        return fold_rows(TICK, rule.step, slots, states, &run.columns, start, stop, by_id, False, False, run.inverse, &run.seen)
    if rule.kind == VOLUME:
        if run.has_voids:
            return fold_rows(VOLUME, 0, slots, states, &run.columns, start, stop, by_id, False, True, run.inverse, &run.seen)
        return fold_rows(VOLUME, 0, slots, states, &run.columns, start, stop, by_id, False, False, run.inverse, &run.seen)
    if rule.kind == VALUE:
        if run.has_voids:
            return fold_rows(VALUE, 0, slots, states, &run.columns, start, stop, by_id, False, True, run.inverse, &run.seen)
        return fold_rows(VALUE, 0, slots, states, &run.columns, start, stop, by_id, False, False, run.inverse, &run.seen)
    if rule.kind == RANGE:
        if run.has_voids:
            return fold_rows(RANGE, 0, slots, states, &run.columns, start, stop, by_id, False, True, run.inverse, &run.seen)
        return fold_rows(RANGE, 0, slots, states, &run.columns, start, stop, by_id, False, False, run.inverse, &run.seen)
    if rule.kind == DELTA:
        if run.has_voids:
            return fold_rows(DELTA, 0, slots, states, &run.columns, start, stop, by_id, False, True, run.inverse, &run.seen)
        return fold_rows(DELTA, 0, slots, states, &run.columns, start, stop, by_id, False, False, run.inverse, &run.seen)
    if rule.kind == CUSUM:
        if run.has_voids:
            return fold_rows(CUSUM, 0, slots, states, &run.columns, start, stop, by_id, False, True, run.inverse, &run.seen)
        return fold_rows(CUSUM, 0, slots, states, &run.columns, start, stop, by_id, False, False, run.inverse, &run.seen)
    if rule.kind == RENKO:
        if run.has_voids:
            return fold_rows(RENKO, 0, slots, states, &run.columns, start, stop, by_id, False, True, run.inverse, &run.seen)
        return fold_rows(RENKO, 0, slots, states, &run.columns, start, stop, by_id, False, False, run.inverse, &run.seen)
    return start


cdef Py_ssize_t fold_stretch(
    const Rule *rule, Slot *slots, char *states, Pass *run, bint by_id, Py_ssize_t start, Py_ssize_t stop
) noexcept nogil:
    # Likewise, the ordinary rows of the symbol at `start`.
    if rule.kind == TICK:
        return fold_path_stretch(TICK, rule.step, slots, states, &run.columns, start, stop, by_id, run.has_voids, &run.seen)
    if rule.kind == VOLUME:
        return fold_path_stretch(VOLUME, 0, slots, states, &run.columns, start, stop, by_id, run.has_voids, &run.seen)
    if rule.kind == VALUE:
        return fold_path_stretch(VALUE, 0, slots, states, &run.columns, start, stop, by_id, run.has_voids, &run.seen)
    if rule.kind == RANGE:
        return fold_path_stretch(RANGE, 0, slots, states, &run.columns, start, stop, by_id, run.has_voids, &run.seen)
    if rule.kind == DELTA:
        return fold_path_stretch(DELTA, 0, slots, states, &run.columns, start, stop, by_id, run.has_voids, &run.seen)
    if rule.kind == CUSUM:
        return fold_path_stretch(CUSUM, 0, slots, states, &run.columns, start, stop, by_id, run.has_voids, &run.seen)
    if rule.kind == RENKO:
        return fold_path_stretch(RENKO, 0, slots, states, &run.columns, start, stop, by_id, run.has_voids, &run.seen)
    return start
