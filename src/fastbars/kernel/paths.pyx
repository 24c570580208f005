"""Path-driven bars: what fills one, in the order in which trades arrive.

A path-driven bar ends with the trade that fills it, which stays whole; the next trade begins the next bar. A rule says when
a bar is full; opening, closing, loss, scales and snapshots are the kernel's business, and the same for all of them.

To add a kind of bar: name it in `specs.py`, write its rule here and enter it at the end of this file, and tell the oracle of
the tests; docs/add-a-bar-kind.md does it step by step. A rule that must remember more than the open bar holds (the last
brick, a running mean) gets `state_bytes` of memory for each symbol: all 0 before the first trade (the first `of_bar` bytes of it: of
each bar), put back where a batch is refused, saved and restored in snapshots. Such a rule also says what a sound state is, as a snapshot can hold anything, and, where prices or
sizes are in it, how it follows wider scales. A rule may also shape the bar that it ends, and have it followed by bars without
trades (`Ending`). What it looks at is the bar, its state and the trade, and nothing else: bars are cut again by calling it
again. (Kinds with a number in rules.pxd have loops of their own, in ordinary.pxd, for trades that end no bar; all others are
folded in trade by trade.)

Units: steps at the scales of the symbol, as `StepUnit` says; states as their rule says.
"""

from libc.stdint cimport int8_t, int64_t, uint64_t

from fastbars.kernel.flow_rules cimport Flow, expect, follow_flow, is_flow_full, is_sound_flow, less_of
from fastbars.kernel.instruments cimport Scale
from fastbars.kernel.passes cimport Columns, trades_of
from fastbars.kernel.path_rules cimport (
    MOST_BRICKS, Cusum, Move, Renko, begin_renko, delta_with, ends_cusum, ends_range, ends_renko, follow_cusum, is_delta,
    move_renko,
)
from fastbars.kernel.rules cimport CUSUM, DELTA, RANGE, RENKO, TICK, VALUE, VOLUME, Rule
from fastbars.kernel.scaled cimport HIGHEST, LOWEST, NOTHING, add128, int128, less128, magnitude, scale128
from fastbars.kernel.splits cimport BY_SIZE, BY_VALUE, PART_DECIMALS, WHOLE, SplitBy
from fastbars.kernel.summary cimport Summary, count_of, total_of

from fastbars.errors import SpecError

cdef enum:
    MOST_KINDS = 32

cdef PathRule[MOST_KINDS] _RULES    # that of a kind is at kind - TICK
_KINDS = {}
cdef int _FIRST_FLOW = 0                # the kind of imbalance:tick


cdef bint _is_count_reached(
    const Rule *rule, const Summary *bar, const int128 *step, void *state, const Columns *batch, Py_ssize_t row, Ending *ending
) noexcept nogil:
    return count_of(bar) >= rule.step


cdef bint _is_volume_reached(
    const Rule *rule, const Summary *bar, const int128 *step, void *state, const Columns *batch, Py_ssize_t row, Ending *ending
) noexcept nogil:
    cdef int128 volume = total_of(bar, True)
    return not less128(&volume, step)


cdef bint _is_value_reached(
    const Rule *rule, const Summary *bar, const int128 *step, void *state, const Columns *batch, Py_ssize_t row, Ending *ending
) noexcept nogil:
    cdef int128 value = total_of(bar, False)
    return not less128(&value, step)


cdef bint _is_range_reached(
    const Rule *rule, const Summary *bar, const int128 *step, void *state, const Columns *batch, Py_ssize_t row, Ending *ending
) noexcept nogil:
    return ends_range(bar.high, bar.low, batch.price[row], step)


cdef bint _is_delta_reached(
    const Rule *rule, const Summary *bar, const int128 *step, void *state, const Columns *batch, Py_ssize_t row, Ending *ending
) noexcept nogil:
    cdef int128 *delta = <int128 *>state
    cdef int side = batch.side[row & batch.side_mask]
    delta[0] = delta_with(delta, batch.size[row], side)
    return is_delta(delta, step)


cdef bint _widen_delta(void *state, int64_t price_factor, int64_t size_factor, int64_t quote_factor) noexcept nogil:
    return scale128(<int128 *>state, size_factor)


cdef bint _is_sound_delta(const void *state, const Summary *bar) noexcept nogil:
    # From all that was not bought being sold, to none of it.
    cdef int128 delta = (<const int128 *>state)[0], least = delta
    return not less128(&bar.sums[1].volume, &delta) and not (
        add128(&least, &bar.sums[0].volume) or less128(&least, &bar.sums[1].volume))


cdef bint _is_cusum_reached(
    const Rule *rule, const Summary *bar, const int128 *step, void *state, const Columns *batch, Py_ssize_t row, Ending *ending
) noexcept nogil:
    cdef Cusum *sums = <Cusum *>state
    cdef bint ends = ends_cusum(sums, batch.price[row], step)
    follow_cusum(sums, batch.price[row], step)
    return ends


cdef bint _widen_cusum(void *state, int64_t price_factor, int64_t size_factor, int64_t quote_factor) noexcept nogil:
    cdef Cusum *sums = <Cusum *>state
    if max(magnitude(sums.lowest), magnitude(sums.highest)) > HIGHEST // price_factor:
        return True
    sums.lowest *= price_factor
    sums.highest *= price_factor
    return False


cdef bint _is_sound_cusum(const void *state, const Summary *bar) noexcept nogil:
    cdef const Cusum *sums = <const Cusum *>state
    if not sums.begun:
        return sums.lowest == sums.highest == 0 and bar.largest == 0
    return sums.begun == 1 and LOWEST < sums.lowest <= sums.highest and (
        bar.largest == 0 or sums.lowest <= bar.close <= sums.highest)


cdef bint _is_brick_left(
    const Rule *rule, const Summary *bar, const int128 *step, void *state, const Columns *batch, Py_ssize_t row, Ending *ending
) noexcept nogil:
    cdef Renko *last = <Renko *>state
    cdef Move move
    if not last.begun:
        begin_renko(last, batch.price[row], step)
        return False
    if not ends_renko(last, batch.price[row], step):
        return False
    move_renko(last, batch.price[row], step, &move)
    ending.shaped = True
    ending.open = move.open
    if move.bricks <= MOST_BRICKS:
        ending.close, ending.step, ending.empty = move.open + move.step, move.step, <int64_t>move.bricks - 1
    else:
        ending.close = last.top if move.step > 0 else last.bottom
    return True


cdef bint _widen_renko(void *state, int64_t price_factor, int64_t size_factor, int64_t quote_factor) noexcept nogil:
    # The end from which no brick leads into the range of prices may leave it.
    cdef Renko *last = <Renko *>state
    cdef int64_t most = HIGHEST // price_factor
    if last.bottom > most or last.top < -most:
        return True
    last.bottom = last.bottom * price_factor if last.bottom >= -most else -HIGHEST
    last.top = last.top * price_factor if last.top <= most else HIGHEST
    return False


cdef bint _is_sound_renko(const void *state, const Summary *bar) noexcept nogil:
    cdef const Renko *last = <const Renko *>state
    if not last.begun:
        return last.bottom == last.top == 0 and bar.largest == 0
    return last.begun == 1 and LOWEST < last.bottom <= last.top


cdef bint _is_flow_reached(
    const Rule *rule, const Summary *bar, const int128 *step, void *state, const Columns *batch, Py_ssize_t row, Ending *ending
) noexcept nogil:
    # Of all twelve kinds, in the order in which they are entered.
    cdef Flow *flow = <Flow *>state
    cdef int number = rule.kind - _FIRST_FLOW
    cdef int measure = number // 4
    cdef bint runs = number & 2, adaptive = number & 1
    cdef int128 amount = NOTHING, quote, own_step = step[0]
    if measure == 0:
        amount.lo = <uint64_t>trades_of(batch, row)
        own_step.lo, own_step.hi = <uint64_t>rule.step, 0
    elif measure == 1:
        amount.lo = <uint64_t>batch.size[row]
    else:
        # What the bar has got by the trade, also on inverse markets. Of negative prices its magnitude: money has no sign.
        quote = total_of(bar, False)
        amount = less_of(&quote, &flow.quote) if less128(&flow.quote, &quote) else less_of(&flow.quote, &quote)
        flow.quote = quote
    ending.beyond = follow_flow(flow, batch.price[row], batch.side[row & batch.side_mask], &amount)
    if ending.beyond or not is_flow_full(flow, &own_step, runs, adaptive):
        return False
    if adaptive:
        expect(flow, &own_step, runs)
    return True


cdef bint _widen_flow(void *state, int64_t price_factor, int64_t first_factor, int64_t second_factor) noexcept nogil:
    cdef Flow *flow = <Flow *>state
    cdef bint beyond = magnitude(flow.price) > HIGHEST // price_factor
    cdef int k
    if not beyond:
        flow.price *= price_factor
    for k in range(2):
        beyond |= scale128(&flow.sums[k], first_factor) or scale128(&flow.sums[k], second_factor)
    return beyond | (scale128(&flow.quote, first_factor) or scale128(&flow.quote, second_factor))


cdef bint _widen_tick_flow(void *state, int64_t price_factor, int64_t size_factor, int64_t quote_factor) noexcept nogil:
    return _widen_flow(state, price_factor, 1, 1)


cdef bint _widen_volume_flow(void *state, int64_t price_factor, int64_t size_factor, int64_t quote_factor) noexcept nogil:
    return _widen_flow(state, price_factor, size_factor, 1)


cdef bint _widen_value_flow(void *state, int64_t price_factor, int64_t size_factor, int64_t quote_factor) noexcept nogil:
    return _widen_flow(state, price_factor, size_factor, quote_factor)


cdef bint _is_sound_part(const Flow *flow, const Summary *bar, const int128 *whole) noexcept nogil:
    # Whether what was bought and sold is no more than all there is; only trades whose sign is not known are in neither.
    cdef int128 both = flow.sums[0]
    return is_sound_flow(flow, bar.largest > 0) and not (flow.quote.lo or flow.quote.hi) and (
        bar.largest == 0 or flow.price == bar.close and not add128(&both, &flow.sums[1]) and not less128(whole, &both))


cdef bint _is_sound_tick_flow(const void *state, const Summary *bar) noexcept nogil:
    cdef int128 count = NOTHING
    count.lo = <uint64_t>count_of(bar)
    return _is_sound_part(<const Flow *>state, bar, &count)


cdef bint _is_sound_volume_flow(const void *state, const Summary *bar) noexcept nogil:
    cdef int128 volume = total_of(bar, True)
    return _is_sound_part(<const Flow *>state, bar, &volume)


cdef bint _is_sound_value_flow(const void *state, const Summary *bar) noexcept nogil:
    cdef const Flow *flow = <const Flow *>state
    cdef int128 quote = total_of(bar, False)
    return is_sound_flow(flow, bar.largest > 0) and (
        bar.largest == 0 or flow.price == bar.close and flow.quote.lo == quote.lo and flow.quote.hi == quote.hi)


cdef const PathRule *path_rule_of(int kind) noexcept nogil:
    return &_RULES[kind - TICK]


cdef Scale least_scale_of(int kind, int decimals) noexcept nogil:
    cdef const PathRule *rule = path_rule_of(kind)
    cdef Scale scale = Scale(0, 0)
    if rule.step_unit == GRID:
        scale.price = <int8_t>decimals
    elif rule.splits:
        scale.size = <int8_t>max(decimals, PART_DECIMALS if rule.splits == BY_VALUE else 0)
    elif rule.whole_step:
        scale.size = <int8_t>decimals
    return scale


cdef int path_kind_of(str kind) except -1:
    if kind not in _KINDS:
        raise SpecError(f"the kernel knows no bars of kind {kind!r}")
    return _KINDS[kind]


cdef int _enter(
    str kind, StepUnit step_unit, IsFull is_full, size_t state_bytes=0, WidenState widen=NULL, IsSound is_sound=NULL,
    size_t of_bar=0, SplitBy splits=WHOLE, bint whole_step=False
) except -1:
    if len(_KINDS) == MOST_KINDS or state_bytes > MOST_STATE_BYTES or (state_bytes > 0 and is_sound is NULL):
        raise AssertionError(f"the rule of {kind} bars is one too many, too large, or cannot judge its own state")
    _RULES[len(_KINDS)] = PathRule(step_unit, splits, is_full, state_bytes, of_bar, whole_step, widen, is_sound)
    _KINDS[kind] = TICK + len(_KINDS)
    return 0


# In the order of their numbers in rules.pxd; those without a number there come behind, in any order.
_enter("tick", TRADES, _is_count_reached)
_enter("volume", SIZES, _is_volume_reached)
_enter("value", QUOTES, _is_value_reached)
_enter("range", PRICES, _is_range_reached)
_enter("delta", SIZES, _is_delta_reached, sizeof(int128), _widen_delta, _is_sound_delta, of_bar=sizeof(int128))
_enter("cusum", PRICES, _is_cusum_reached, sizeof(Cusum), _widen_cusum, _is_sound_cusum)
_enter("renko", GRID, _is_brick_left, sizeof(Renko), _widen_renko, _is_sound_renko)
_enter("volume:exact", SIZES, NULL, 0, NULL, NULL, 0, BY_SIZE)
_enter("value:exact", QUOTES, NULL, 0, NULL, NULL, 0, BY_VALUE)
_FIRST_FLOW = TICK + len(_KINDS)


cdef int _enter_flow(str measure, StepUnit unit, WidenState widen, IsSound is_sound) except -1:
    for kind in ("imbalance", "runs"):
        for modifier in ("", ":adaptive"):
            _enter(
                f"{kind}:{measure}{modifier}", unit, _is_flow_reached, sizeof(Flow), widen, is_sound,
                3 * sizeof(int128), WHOLE, modifier != "" and unit != TRADES)
    return 0


_enter_flow("tick", TRADES, _widen_tick_flow, _is_sound_tick_flow)
_enter_flow("volume", SIZES, _widen_volume_flow, _is_sound_volume_flow)
_enter_flow("value", QUOTES, _widen_value_flow, _is_sound_value_flow)
assert list(_KINDS.items())[:7] == [
    ("tick", TICK), ("volume", VOLUME), ("value", VALUE), ("range", RANGE), ("delta", DELTA), ("cusum", CUSUM), ("renko", RENKO),
]
