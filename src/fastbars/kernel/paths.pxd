# Path-driven bars: what fills one. The rules themselves, and how to add one, are in paths.pyx.

from libc.stdint cimport int64_t

from fastbars.kernel.passes cimport Columns
from fastbars.kernel.rules cimport Rule
from fastbars.kernel.scaled cimport int128
from fastbars.kernel.summary cimport Summary

cdef enum StepUnit:             # what the step of a spec counts: at which scale a Slot has it
    TRADES                      # the step is that of the Rule
    PRICES
    SIZES
    QUOTES                      # price x size

cdef enum:
    MOST_STATE_BYTES = 256

# Whether the trade at `row`, which `bar` holds already, fills it: the bar ends with it. `step` is that of the spec at the
# symbol's scales, `state` what the rule keeps of the symbol from trade to trade.
ctypedef bint (*IsFull)(
    const Rule *rule, const Summary *bar, const int128 *step, void *state, const Columns *batch, Py_ssize_t row
) noexcept nogil
# Brings a state to scales that are larger by these factors. True: it does not fit, and may be anything.
ctypedef bint (*WidenState)(void *state, int64_t price_factor, int64_t size_factor, int64_t quote_factor) noexcept nogil
# Whether a state, read from a snapshot, is one that the rule can have left behind beside this open bar.
ctypedef bint (*IsSound)(const void *state, const Summary *bar) noexcept nogil

cdef struct PathRule:
    StepUnit step_unit
    IsFull is_full
    size_t state_bytes          # of each symbol, 0 before its first trade
    WidenState widen            # NULL: nothing in the state depends on scales
    IsSound is_sound

cdef const PathRule *path_rule_of(int kind) noexcept nogil
cdef int path_kind_of(str kind) except -1
