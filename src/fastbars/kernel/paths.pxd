# Path-driven bars: what fills one. The rules themselves, and how to add one, are in paths.pyx.

from libc.stdint cimport int64_t

from fastbars.kernel.instruments cimport Scale
from fastbars.kernel.passes cimport Columns
from fastbars.kernel.rules cimport Rule
from fastbars.kernel.scaled cimport HIGHEST, LOWEST, int128
from fastbars.kernel.splits cimport SplitBy
from fastbars.kernel.summary cimport Summary

cdef enum StepUnit:             # what the step of a spec counts: at which scale a Slot has it
    TRADES                      # the step is that of the Rule
    PRICES
    GRID                        # as PRICES; bars open and close at multiples of it, so prices have its decimals at least
    SIZES
    QUOTES                      # price x size

cdef enum:
    MOST_STATE_BYTES = 256

cdef struct Ending:             # what a rule may say of a bar beside that it is full: `plain_ending`, unless it does
    bint shaped                 # it opens and closes at these prices, not at those of its trades
    int64_t open
    int64_t close
    int64_t step                # bars without trades follow it: each opens at the close before, and closes so much higher
    int64_t empty               # how many
    bint beyond                 # a sum of the rule left its range: the batch is refused

# Whether the trade at `row`, which `bar` holds already, fills it: the bar ends with it, and `ending` may say how. `step` is that
# of the spec at the symbol's scales, `state` what the rule keeps of the symbol from trade to trade.
ctypedef bint (*IsFull)(
    const Rule *rule, const Summary *bar, const int128 *step, void *state, const Columns *batch, Py_ssize_t row, Ending *ending
) noexcept nogil
# Brings a state to scales that are larger by these factors. True: it does not fit, and may be anything.
ctypedef bint (*WidenState)(void *state, int64_t price_factor, int64_t size_factor, int64_t quote_factor) noexcept nogil
# Whether a state, read from a snapshot, is one that the rule can have left behind beside this open bar.
ctypedef bint (*IsSound)(const void *state, const Summary *bar) noexcept nogil

cdef struct PathRule:
    StepUnit step_unit
    SplitBy splits              # whether trades are split, so that bars have exactly the step; then there is nothing to ask
    IsFull is_full
    size_t state_bytes          # of each symbol, 0 before its first trade
    size_t of_bar               # so many bytes of it, the first, are of the open bar: 0 when that has ended, whatever ended it
    bint whole_step             # the sizes of a symbol have the decimals of the step at least, so that it is not rounded
    WidenState widen            # NULL: nothing in the state depends on scales
    IsSound is_sound

cdef inline Ending plain_ending() noexcept nogil:
    return Ending(False, 0, 0, 0, 0, False)


cdef inline void shape(Summary *bar, int64_t opened, int64_t closed) noexcept nogil:
    bar.open, bar.close = opened, closed
    bar.high = max(bar.high, max(opened, closed))
    bar.low = min(bar.low, min(opened, closed))


cdef inline void follow(Summary *bar, Ending *ending, int64_t time, int64_t key) noexcept nogil:
    # The next bar without trades: it has the time of the trade that it follows from, whose key tells where it stands.
    bar.first_time = bar.last_time = time
    bar.last_id = key
    bar.high, bar.low = LOWEST, HIGHEST
    shape(bar, ending.close, ending.close + ending.step)
    ending.close += ending.step
    ending.empty -= 1


cdef const PathRule *path_rule_of(int kind) noexcept nogil
# That the bars of a symbol have at least, where the step has so many decimals.
cdef Scale least_scale_of(int kind, int decimals) noexcept nogil
cdef int path_kind_of(str kind) except -1
