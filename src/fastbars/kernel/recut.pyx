"""Anchored bars: how they are cut, and cut again where trades came that they lack.

They are cut in order, by id or, where ids prove nothing, by (time, arrival), anew with each interval of the anchor. While
trades are missing before them a tape keeps the trades, and a mark the state before its first one (tape.pyx). When they have
come the tape is cut from there by the same code, and what comes of it is compared with what was issued, by (anchor, index).

A closed bar is kept as a record, like a time bar, with the interval that it is judged by: from the beginning of its anchor
to behind its last trade or, where it was not filled, to the anchor's end.

Units: times int64 ns since the epoch, UTC.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, memset

from fastbars.kernel.amend cimport (
    ASTRAY, BY_ANCHOR, BY_END, BY_TRADE, FILLED, FIRST, GAP, PARTIAL, RETRACTED, Judgement, add_inside_bar, evict, follow_proof, judge,
    keep_inside, link, one_before, prove, revise, take_judgement,
)
from fastbars.kernel.groups cimport expect_close, watermark_of
from fastbars.kernel.inside cimport asks_inside, release_inside
from fastbars.kernel.holes cimport MISSING, SEAM, kinds_of, oldest_hole
from fastbars.kernel.ids cimport Line, begins_with_first, in_doubt
from fastbars.kernel.passes cimport Columns, Pass, Cut, begin_idle_pass, note_overflow
from fastbars.kernel.paths cimport Ending, follow, path_rule_of, plain_ending, shape
from fastbars.kernel.rules cimport Rule, interval_of, is_outside
from fastbars.kernel.scaled cimport HIGHEST, LOWEST, int128
from fastbars.kernel.splits cimport Part, Split, SplitBy, add_part, begin_split, take_part
from fastbars.kernel.summary cimport Summary, add_trade, clear_bar
from fastbars.kernel.table cimport (
    ENDED_PATH, LOST_PATH, WHOLE_PATH, Past, Record, Slot, Table, appear, begin_record, clear_state, first_revision, free_record, issue,
    new_record, state_of, tape_of,
)
from fastbars.kernel.tape cimport Mark, Tape, cut_off, free_tape, new_tape, put, read_tape, sort_tape

cdef enum:
    FEW_TAPED = 64              # trades of a tape that is not worth shortening


cdef void step_into(
    Table *table, Pass *run, int spec, int symbol_id, const Columns *batch, Py_ssize_t row, Py_ssize_t cause
) noexcept nogil:
    cdef const Rule *rule = &table.specs.rules[spec]
    cdef Slot *slot = &table.slots[spec][symbol_id]
    cdef Summary *bar = &slot.bar
    cdef int64_t opened, first, last
    cdef int128 step = slot.gate.step
    cdef Ending ending = plain_ending()
    cdef int64_t key = batch.last_id[row] if table.terms.by_id or run.cut is not NULL else batch.arrivals + row
    if slot.never_opened or batch.time_ns[row] >= bar.close_time:
        _begin_interval(table, run, spec, symbol_id, batch.time_ns[row], cause)
    elif slot.unproven and table.terms.by_id and run.cut is NULL:
        prove(table, spec, symbol_id, batch.time_ns[row], cause)
    if is_outside(rule.anchor, bar.open_time):
        return
    step.hi &= HIGHEST
    if path_rule_of(rule.kind).splits:
        _step_parts(table, run, spec, symbol_id, batch, row, cause, &step)
        return
    opened = bar.open if bar.largest else batch.price[row]
    first, last = bar.first_id, bar.last_id
    if add_trade(bar, batch, row, slot.contract, False):
        note_overflow(run, cause)
    if asks_inside(&table.inside, spec):
        add_inside_bar(table, spec, symbol_id, -1, batch, row)
    bar.open, bar.close = opened, batch.price[row]
    if table.terms.by_id or run.cut is not NULL:
        bar.first_id = min(first, batch.first_id[row])
        bar.last_id = max(last, batch.last_id[row])
    if not path_rule_of(rule.kind).is_full(rule, bar, &step, state_of(table, spec, symbol_id), batch, row, &ending):
        if ending.beyond:
            note_overflow(run, cause)
        return
    if ending.shaped:
        shape(bar, ending.open, ending.close)
    close_anchored(table, run, spec, symbol_id, cause, BY_TRADE)
    while ending.empty > 0:
        follow(bar, &ending, batch.time_ns[row], key)
        close_anchored(table, run, spec, symbol_id, cause, BY_TRADE)


cdef void _step_parts(
    Table *table, Pass *run, int spec, int symbol_id, const Columns *batch, Py_ssize_t row, Py_ssize_t cause, const int128 *step
) noexcept nogil:
    # The trade into as many bars as it fills (splits.pxd).
    cdef Slot *slot = &table.slots[spec][symbol_id]
    cdef Summary *bar = &slot.bar
    cdef SplitBy by = path_rule_of(table.specs.rules[spec].kind).splits
    cdef Split split = begin_split(batch, row, slot.contract)
    cdef int64_t opened, first, last
    cdef Part part
    cdef bint full, ended = False
    while not ended:
        full = take_part(&split, by, bar, step, slot.scale.size, &part, &ended)
        opened = bar.open if bar.largest else batch.price[row]
        first, last = bar.first_id, bar.last_id
        if add_part(bar, batch, row, &part):
            note_overflow(run, cause)
        bar.open, bar.close = opened, batch.price[row]
        if table.terms.by_id or run.cut is not NULL:
            bar.first_id = min(first, batch.first_id[row])
            bar.last_id = max(last, batch.last_id[row])
        if full:
            close_anchored(table, run, spec, symbol_id, cause, BY_TRADE)


cdef void _begin_interval(
    Table *table, Pass *run, int spec, int symbol_id, int64_t time, Py_ssize_t cause
) noexcept nogil:
    # The one of the anchor in which a time lies, behind the one at hand.
    cdef Slot *slot = &table.slots[spec][symbol_id]
    cdef int64_t open_time, close_time
    if table.terms.by_id and run.cut is NULL:
        prove(table, spec, symbol_id, time, cause)
    if slot.bar.largest:
        close_anchored(table, run, spec, symbol_id, cause, BY_ANCHOR)
    interval_of(table.specs.rules[spec].anchor, time, &open_time, &close_time)
    clear_bar(&slot.bar, open_time, close_time)
    slot.index = 0
    slot.path_lost = WHOLE_PATH
    table.pasts[spec][symbol_id].reached_ns = LOWEST
    clear_state(table, spec, symbol_id)
    if run.cut is not NULL:
        return
    expect_close(&table.groups, symbol_id, close_time)
    if slot.never_opened:
        appear(table, symbol_id)
        slot.never_opened = 0


cdef void close_anchored(Table *table, Pass *run, int spec, int symbol_id, Py_ssize_t cause, uint8_t reason) noexcept nogil:
    # Filled (BY_TRADE), or ended before that.
    cdef Slot *slot = &table.slots[spec][symbol_id]
    cdef Past *past = &table.pasts[spec][symbol_id]
    cdef Record made
    cdef Record *record
    cdef Judgement judgement
    cdef int32_t r
    cdef bint ended
    made.bar = slot.bar
    past.reached_ns = max(past.reached_ns, slot.bar.last_time)
    if reason == BY_TRADE:      # (times may run backwards while ids go on)
        made.bar.close_time = past.reached_ns + 1
    begin_record(
        &made, first_revision(table, slot.bar.first_time), reason,
        ASTRAY if slot.path_lost == LOST_PATH else FIRST if slot.path_lost == ENDED_PATH or reason == BY_END else 0)
    made.index = slot.index
    if run.cut is NULL and table.terms.by_id:
        follow_proof(table, spec, symbol_id)
    past.newest_ns = max(past.newest_ns, slot.bar.last_time)
    slot.index += 1
    clear_bar(&slot.bar, slot.bar.open_time, slot.bar.close_time)
    if path_rule_of(table.specs.rules[spec].kind).of_bar:
        memset(state_of(table, spec, symbol_id), 0, path_rule_of(table.specs.rules[spec].kind).of_bar)
    if run.cut is not NULL:
        if not run.cut.silent:
            _meet(table, run, spec, symbol_id, &made)
        _forget_inside(table, spec, symbol_id)
        return
    if slot.newest >= 0 and not _precedes(&table.records.items[slot.newest], &made):
        _revive(table, spec, symbol_id, &made, cause)
        return
    ended = not table.terms.by_id or reason == BY_TRADE or made.bar.close_time <= past.proven_ns
    judgement = judge(table, spec, symbol_id, &made)
    take_judgement(&made, judgement)
    if table.terms.by_id and ended and not slot.taped and slot.oldest < 0 and not in_doubt(
        table.ids, symbol_id, made.bar.open_time, made.bar.close_time
    ):
        issue(table, spec, symbol_id, &made, cause)     # nothing more will be known of it
        past.evicted_ns = max(past.evicted_ns, made.bar.close_time)
        _forget_inside(table, spec, symbol_id)
        return
    r = new_record(table)
    if r < 0:
        return
    record = &table.records.items[r]
    record[0] = made
    _keep_inside(table, spec, symbol_id, r)
    issue(table, spec, symbol_id, record, cause)
    slot.unproven |= not ended
    link(table, spec, symbol_id, slot.newest, r, -1)
    evict(table, spec, symbol_id, max(watermark_of(&table.groups, symbol_id), past.newest_ns))


# What is inside bars, of specs that ask for it. (A mark has none, so that tapes of such specs begin where a bar does.)

cdef void _keep_inside(Table *table, int spec, int symbol_id, int32_t r) noexcept nogil:
    # It goes with the bar into a record, in place of what was there.
    if asks_inside(&table.inside, spec):
        if r < table.inside.records:
            release_inside(&table.inside, &table.inside.of_records[r])
        keep_inside(table, spec, symbol_id, r)


cdef void _forget_inside(Table *table, int spec, int symbol_id) noexcept nogil:
    if asks_inside(&table.inside, spec):
        release_inside(&table.inside, &table.inside.of_slots[spec][symbol_id])


# What is kept.

cdef void begin_tape(Table *table, int spec, int symbol_id) noexcept nogil:
    # Before the trade at hand.
    cdef Slot *slot = &table.slots[spec][symbol_id]
    cdef Tape *tape
    if slot.taped or (slot.bar.largest and asks_inside(&table.inside, spec)):
        return
    tape = new_tape()
    if tape is NULL:
        table.rows.no_memory = True
        return
    _note(table, spec, symbol_id, &tape.mark)
    tape.whole = slot.never_opened
    tape.since_ns = max(table.pasts[spec][symbol_id].newest_ns, slot.bar.last_time)
    table.tapes[spec][symbol_id] = tape
    slot.taped = 1


cdef void _end_tape(Table *table, int spec, int symbol_id) noexcept nogil:
    free_tape(table.tapes[spec][symbol_id])
    table.tapes[spec][symbol_id] = NULL
    table.slots[spec][symbol_id].taped = 0


cdef void lose_tape(Table *table, int spec, int symbol_id) noexcept nogil:
    # What is missing cannot be put in any more: bars that lack something stay as they are.
    cdef Slot *slot = &table.slots[spec][symbol_id]
    cdef Record *records = table.records.items
    cdef int32_t r = slot.oldest
    while r >= 0:
        if records[r].status == GAP or records[r].status == PARTIAL:
            records[r].flags |= ASTRAY
        r = records[r].next
    if not slot.never_opened and is_in_doubt(table, spec, symbol_id):
        slot.path_lost = LOST_PATH
    if slot.taped:
        _end_tape(table, spec, symbol_id)


cdef void lead_astray(Table *table, int spec, int symbol_id, int64_t time_ns, Py_ssize_t cause) noexcept nogil:
    # A trade came too late for its place: the bars of its interval that are kept lack it.
    cdef Record *records = table.records.items
    cdef int64_t open_time, close_time
    cdef int32_t r = table.slots[spec][symbol_id].oldest
    cdef Slot *slot = &table.slots[spec][symbol_id]
    cdef Tape *tape = tape_of(table, spec, symbol_id)
    interval_of(table.specs.rules[spec].anchor, time_ns, &open_time, &close_time)
    if slot.bar.open_time == open_time:
        slot.path_lost = LOST_PATH
    if tape is not NULL and tape.mark.bar.open_time == open_time:
        tape.mark.path_lost = LOST_PATH
    while r >= 0:
        if records[r].bar.open_time == open_time:
            records[r].flags |= ASTRAY
            revise(table, spec, symbol_id, r, False, cause)
        r = records[r].next


cdef bint is_in_doubt(const Table *table, int spec, int symbol_id) noexcept nogil:
    # Whether trades may be missing in the interval at hand.
    cdef const Summary *bar = &table.slots[spec][symbol_id].bar
    if not table.terms.by_id:
        return False
    return table.ids.lines[symbol_id].begun_ns >= bar.open_time or in_doubt(
        table.ids, symbol_id, bar.open_time, bar.close_time)


cdef int64_t first_missing(const Table *table, int symbol_id) noexcept nogil:
    # The lowest id that may still come; HIGHEST: none is missing.
    cdef const Line *line = &table.ids.lines[symbol_id]
    cdef int32_t at
    if not kinds_of(&line.holes) & (1 << MISSING | 1 << SEAM):
        return HIGHEST
    at = oldest_hole(&line.holes, 1 << MISSING | 1 << SEAM)
    return HIGHEST if at < 0 else line.holes.nodes[at].hole.first


cdef bint is_needed(const Table *table, int spec, int symbol_id, const Tape *tape, int64_t time) noexcept nogil:
    if not table.terms.by_id or tape.filled_from != HIGHEST or first_missing(table, symbol_id) != HIGHEST:
        return True
    if table.slots[spec][symbol_id].unproven:   # a clock has closed a bar, and trades of its interval may be behind
        return True
    if tape.whole and table.ids.lines[symbol_id].begun_ns >= tape.opened_ns:
        return True
    return time - table.terms.lateness_ns <= tape.since_ns and not tape.whole


cdef void tape_trade(Table *table, const Pass *run, int spec, Py_ssize_t row) noexcept nogil:
    # Keeps a trade where a tape is kept.
    cdef int32_t s = run.columns.symbol_id[row]
    cdef Tape *tape = table.tapes[spec][s]
    cdef int64_t close_time
    if not put(tape, &run.columns, row, table.terms.by_id):
        table.rows.no_memory = True
    elif tape.rows == 1:
        interval_of(table.specs.rules[spec].anchor, tape.time_ns[0], &tape.opened_ns, &close_time)


cdef void review_tape(Table *table, int spec, int symbol_id) noexcept nogil:
    # Behind a trade: lets go of what is not needed any more, or is too much.
    cdef Tape *tape = table.tapes[spec][symbol_id]
    cdef int64_t time = max(table.pasts[spec][symbol_id].newest_ns, table.slots[spec][symbol_id].bar.last_time)
    cdef bint whole_bars = asks_inside(&table.inside, spec) and table.slots[spec][symbol_id].bar.largest > 0
    if not table.terms.by_id:
        if tape.rows >= FEW_TAPED and time - tape.time_ns[tape.rows // 2] > table.terms.lateness_ns:
            _pass_over(table, spec, symbol_id, tape, time - table.terms.lateness_ns)
        elif tape.rows > table.most_taped:
            _pass_over(table, spec, symbol_id, tape, tape.time_ns[tape.rows // 2] + 1)
        return
    if not whole_bars and not is_needed(table, spec, symbol_id, tape, time):
        _end_tape(table, spec, symbol_id)
    elif tape.rows > table.most_taped or (tape.since_ns > LOWEST + HIGHEST // 2 and time - tape.since_ns > table.terms.horizon_ns) or (
        tape.since_ns == LOWEST and time - tape.time_ns[0] > table.terms.horizon_ns
    ):
        lose_tape(table, spec, symbol_id)


# Cutting again.

cdef bint _precedes(const Record *record, const Record *other) noexcept nogil:
    return record.bar.open_time < other.bar.open_time or (
        record.bar.open_time == other.bar.open_time and record.index < other.index)


cdef int32_t _first_from(const Table *table, const Slot *slot, const Mark *mark) noexcept nogil:
    # The first closed bar that was not closed before a mark.
    cdef const Record *records = table.records.items
    cdef int32_t r = slot.newest, from_r = -1
    while r >= 0 and not (
        records[r].bar.open_time < mark.bar.open_time
        or (records[r].bar.open_time == mark.bar.open_time and records[r].index < mark.index)
    ):
        from_r = r
        r = -1 if r == slot.oldest else records[r].previous
    return from_r


cdef void _load(Table *table, int spec, int symbol_id, const Mark *mark) noexcept nogil:
    cdef Slot *slot = &table.slots[spec][symbol_id]
    slot.bar = mark.bar
    slot.index = mark.index
    slot.path_lost = mark.path_lost
    table.pasts[spec][symbol_id].reached_ns = mark.reached_ns
    memcpy(state_of(table, spec, symbol_id), mark.state, table.state_bytes[spec])


cdef void _note(const Table *table, int spec, int symbol_id, Mark *mark) noexcept nogil:
    cdef const Slot *slot = &table.slots[spec][symbol_id]
    mark.bar = slot.bar
    mark.index = slot.index
    mark.path_lost = slot.path_lost
    mark.reached_ns = table.pasts[spec][symbol_id].reached_ns
    memcpy(mark.state, state_of(table, spec, symbol_id), table.state_bytes[spec])


cdef void _pass_over(Table *table, int spec, int symbol_id, Tape *tape, int64_t before_ns) noexcept nogil:
    # Takes the trades before a time into the mark.
    cdef Mark own
    cdef Cut cut
    cdef Pass run
    cdef Py_ssize_t i = 0, passed = 0
    cdef bint asks = asks_inside(&table.inside, spec)
    cdef int32_t inside = -1
    _begin_cut(&run, &cut, tape, 0)
    cut.silent = True
    _note(table, spec, symbol_id, &own)
    if asks:
        inside = table.inside.of_slots[spec][symbol_id]
        table.inside.of_slots[spec][symbol_id] = -1
    _load(table, spec, symbol_id, &tape.mark)
    while i < tape.rows and tape.time_ns[i] < before_ns:
        step_into(table, &run, spec, symbol_id, &run.columns, i, 0)
        i += 1
        if not asks or table.slots[spec][symbol_id].bar.largest == 0:
            _note(table, spec, symbol_id, &tape.mark)
            passed = i
    _forget_inside(table, spec, symbol_id)
    if asks:
        table.inside.of_slots[spec][symbol_id] = inside
    _load(table, spec, symbol_id, &own)
    cut_off(tape, passed)


cdef void _begin_cut(Pass *run, Cut *cut, const Tape *tape, Py_ssize_t cause) noexcept nogil:
    memset(run, 0, sizeof(Pass))
    begin_idle_pass(run)
    read_tape(tape, &run.columns)
    cut.cause = cause
    cut.at = -1
    cut.healed_from = HIGHEST
    cut.silent = False
    run.cut = cut


cdef bint _put_in_order(const Table *table, int spec, Tape *tape) noexcept nogil:
    # By id within the intervals of the anchor, or by time and arrival. False: there is no memory.
    cdef int64_t *anchors
    cdef int64_t close_time
    cdef Py_ssize_t i
    cdef bint done
    if not table.terms.by_id:
        return sort_tape(tape, NULL)
    anchors = <int64_t *>malloc(max(tape.rows, 1) * sizeof(int64_t))
    if anchors is NULL:
        return False
    for i in range(tape.rows):
        interval_of(table.specs.rules[spec].anchor, tape.time_ns[i], &anchors[i], &close_time)
    done = sort_tape(tape, anchors)
    free(anchors)
    return done


cdef void cut_again(
    Table *table, const Pass *run, int spec, int symbol_id, Py_ssize_t cause, bint healing
) noexcept nogil:
    cdef Slot *slot = &table.slots[spec][symbol_id]
    cdef Tape *tape = table.tapes[spec][symbol_id]
    cdef Record *records
    cdef Cut cut
    cdef Pass own
    cdef Mark mark
    cdef int64_t missing = HIGHEST, live_open = slot.bar.open_time
    cdef int32_t r = slot.newest, next
    cdef Py_ssize_t i, marked = -1
    cdef uint8_t ended = BY_TRADE
    cdef bint asks = asks_inside(&table.inside, spec), passed = False
    if not _put_in_order(table, spec, tape):
        table.rows.no_memory = True
        return
    if slot.bar.largest == 0 and r >= 0 and table.records.items[r].bar.open_time == live_open and (
        table.records.items[r].reason != BY_TRADE
    ):
        ended = table.records.items[r].reason   # time has closed the last bar
    _begin_cut(&own, &cut, tape, cause)
    if healing:
        cut.healed_from = tape.filled_from
    cut.at = _first_from(table, slot, &tape.mark)
    if table.terms.by_id:
        missing = first_missing(table, symbol_id)
    _load(table, spec, symbol_id, &tape.mark)
    _forget_inside(table, spec, symbol_id)
    for i in range(tape.rows):
        passed |= tape.first_id[i] > missing
        if asks:
            if not passed and slot.bar.largest == 0:
                _note(table, spec, symbol_id, &mark)
                marked = i
        elif marked < 0 and passed:
            _note(table, spec, symbol_id, &mark)
            marked = i
        step_into(table, &own, spec, symbol_id, &own.columns, i, cause)
    if slot.bar.largest and slot.bar.open_time < live_open:
        ended = BY_ANCHOR
    if slot.bar.largest and ended != BY_TRADE:
        close_anchored(table, &own, spec, symbol_id, cause, ended)
    records = table.records.items
    while cut.at >= 0:
        next = records[cut.at].next
        _retract(table, spec, symbol_id, cut.at, cause)
        cut.at = next
    tape.filled_from = HIGHEST
    if table.terms.by_id and marked > 0 and not (tape.whole and table.ids.lines[symbol_id].begun_ns >= tape.opened_ns):
        tape.mark = mark
        tape.whole = False
        tape.since_ns = tape.time_ns[marked - 1]
        cut_off(tape, marked)
    expect_close(&table.groups, symbol_id, slot.bar.close_time)
    if own.overflow_row >= 0:
        note_overflow(<Pass *>run, own.overflow_row)


cdef void _meet(Table *table, Pass *run, int spec, int symbol_id, const Record *made) noexcept nogil:
    # Compares a bar that was cut again with the one that was issued.
    cdef Cut *cut = run.cut
    cdef Slot *slot = &table.slots[spec][symbol_id]
    cdef Record *record
    cdef Judgement judgement
    cdef int32_t r, next
    cdef bint changed, healed = made.bar.last_id >= cut.healed_from     # if it is another one now
    while cut.at >= 0 and _precedes(&table.records.items[cut.at], made):
        next = table.records.items[cut.at].next
        _retract(table, spec, symbol_id, cut.at, cut.cause)
        cut.at = next
    if cut.at >= 0 and not _precedes(made, &table.records.items[cut.at]):
        record = &table.records.items[cut.at]
        record.bar.close_time = made.bar.close_time     # which nobody is shown, as is the key of a bar without trades
        if made.bar.largest == 0:
            record.bar.last_id = made.bar.last_id
        changed = record.reason != made.reason or memcmp(&record.bar, &made.bar, sizeof(Summary)) != 0
        record.bar = made.bar
        record.reason = made.reason
        _keep_inside(table, spec, symbol_id, cut.at)
        changed |= record.status == RETRACTED
        healed &= changed or record.status == GAP or record.status == PARTIAL
        record.flags = (record.flags & FILLED) | made.flags | (FILLED if healed else 0)
        revise(table, spec, symbol_id, cut.at, changed, cut.cause)
        cut.at = record.next
        return
    if not table.terms.by_id and made.bar.close_time <= table.pasts[spec][symbol_id].evicted_ns:
        return                  # it was let go (by ids none is, as long as there is a tape)
    r = new_record(table)
    if r < 0:
        return
    record = &table.records.items[r]
    record[0] = made[0]
    _keep_inside(table, spec, symbol_id, r)
    record.flags |= FILLED if healed else 0
    judgement = judge(table, spec, symbol_id, record)
    take_judgement(record, judgement)
    issue(table, spec, symbol_id, record, cut.cause)
    link(table, spec, symbol_id, one_before(table, slot, cut.at), r, cut.at)
    slot.unproven |= table.terms.by_id and made.reason != BY_TRADE and (
        made.bar.close_time > table.pasts[spec][symbol_id].proven_ns)


cdef void _retract(Table *table, int spec, int symbol_id, int32_t r, Py_ssize_t cause) noexcept nogil:
    # It is kept as long as others of its time, since there may be a bar of its number again.
    cdef Record *record = &table.records.items[r]
    if record.status == RETRACTED:
        return
    record.status = RETRACTED
    record.revision += 1
    issue(table, spec, symbol_id, record, cause)


cdef void _revive(Table *table, int spec, int symbol_id, const Record *made, Py_ssize_t cause) noexcept nogil:
    # There is a bar of the number of one that was retracted.
    cdef Slot *slot = &table.slots[spec][symbol_id]
    cdef Record *records = table.records.items
    cdef int32_t r = slot.newest
    while r != slot.oldest and _precedes(made, &records[r]):
        r = records[r].previous
    records[r].bar = made.bar
    records[r].reason = made.reason
    records[r].flags = made.flags
    _keep_inside(table, spec, symbol_id, r)
    slot.unproven |= table.terms.by_id and made.reason != BY_TRADE and (
        made.bar.close_time > table.pasts[spec][symbol_id].proven_ns)
    revise(table, spec, symbol_id, r, True, cause)
