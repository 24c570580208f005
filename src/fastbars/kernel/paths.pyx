"""Path-driven bars: what fills one, in the order in which trades arrive.

A path-driven bar ends with the trade that fills it, which stays whole; the next trade begins the next bar. A rule says when
a bar is full; opening, closing, loss, scales and snapshots are the kernel's business, and the same for all of them.

To add a kind of bar: name it in `specs.py`, write its rule here and enter it at the end of this file, and tell the oracle of
the tests ("A bar kind" in docs/architecture.md). A rule that must remember more than the open bar holds (the last brick, a running
mean) gets `state_bytes` of memory for each symbol: all 0 before the first trade, put back where a batch is refused, saved
and restored in snapshots. Such a rule also says what a sound state is, as a snapshot can hold anything, and, where prices or
sizes are in it, how it follows wider scales. (Ticks, volumes and values are folded in by loops of their own, in
ordinary.pxd; all other kinds trade by trade.)

Units: steps at the scales of the symbol, as `StepUnit` says; states as their rule says.
"""

from libc.stdint cimport int64_t

from fastbars.kernel.passes cimport Columns
from fastbars.kernel.rules cimport TICK, VALUE, VOLUME, Rule
from fastbars.kernel.scaled cimport int128, less128
from fastbars.kernel.summary cimport Summary, count_of, total_of

from fastbars.errors import SpecError

cdef enum:
    MOST_KINDS = 16

cdef PathRule[MOST_KINDS] _RULES    # that of a kind is at kind - TICK
_KINDS = {}


cdef bint _is_count_reached(
    const Rule *rule, const Summary *bar, const int128 *step, void *state, const Columns *batch, Py_ssize_t row
) noexcept nogil:
    return count_of(bar) >= rule.step


cdef bint _is_volume_reached(
    const Rule *rule, const Summary *bar, const int128 *step, void *state, const Columns *batch, Py_ssize_t row
) noexcept nogil:
    cdef int128 volume = total_of(bar, True)
    return not less128(&volume, step)


cdef bint _is_value_reached(
    const Rule *rule, const Summary *bar, const int128 *step, void *state, const Columns *batch, Py_ssize_t row
) noexcept nogil:
    cdef int128 value = total_of(bar, False)
    return not less128(&value, step)


cdef const PathRule *path_rule_of(int kind) noexcept nogil:
    return &_RULES[kind - TICK]


cdef int path_kind_of(str kind) except -1:
    if kind not in _KINDS:
        raise SpecError(f"the kernel knows no bars of kind {kind!r}")
    return _KINDS[kind]


cdef int _enter(
    str kind, StepUnit step_unit, IsFull is_full, size_t state_bytes=0, WidenState widen=NULL, IsSound is_sound=NULL
) except -1:
    if len(_KINDS) == MOST_KINDS or state_bytes > MOST_STATE_BYTES or (state_bytes > 0 and is_sound is NULL):
        raise AssertionError(f"the rule of {kind} bars is one too many, too large, or cannot judge its own state")
    _RULES[len(_KINDS)] = PathRule(step_unit, is_full, state_bytes, widen, is_sound)
    _KINDS[kind] = TICK + len(_KINDS)
    return 0


# In the order of their numbers in rules.pxd; those without a number there come behind, in any order.
_enter("tick", TRADES, _is_count_reached)
_enter("volume", SIZES, _is_volume_reached)
_enter("value", QUOTES, _is_value_reached)
assert (_KINDS["tick"], _KINDS["volume"], _KINDS["value"]) == (TICK, VOLUME, VALUE)
