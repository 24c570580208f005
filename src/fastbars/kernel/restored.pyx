"""Checks what a snapshot has put into a kernel's memory, before anything relies on it.

A snapshot is read from a file, and a file can be anything: every place must be in range, every list must end, every
bar must be one that this kernel could have made. Whatever is not so is a ValueError that says what, of which symbol.

Units: times int64 ns since the epoch, UTC.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.stdlib cimport calloc, free

from fastbars.kernel.coverage cimport check_coverage
from fastbars.kernel.instruments cimport Instrument, are_equal
from fastbars.kernel.amend cimport ASTRAY, BY_CANDLE, BY_TRADE, GAP, NOT_CLOSED, REPORTED, RETRACTED
from fastbars.kernel.inside cimport Inside, asks_inside, inside_of_record, is_sound_inside, unuse_others
from fastbars.kernel.limits cimport EARLIEST_NS, LATEST_NS, LONGEST_NS, is_time
from fastbars.kernel.scaled cimport HIGHEST, LOWEST
from fastbars.kernel.paths cimport PathRule, path_rule_of
from fastbars.kernel.rules cimport TICK, Rule, interval_of, is_outside, is_time_kind
from fastbars.kernel.summary cimport BOUGHT, SOLD, UNSIDED, Summary, count_of, fits, is_beyond
from fastbars.kernel.table cimport ENDED_PATH, BarTable, Past, Record, Slot, Table, event_time, has_appeared, state_of, tape_of, total_bar
from fastbars.kernel.tape cimport Mark, Tape

# More trades than a lifetime has: numbers below it can be added up without care.
cdef int64_t MOST_TRADES = 1 << 60
# The highest id of an open bar that takes trades without asking the ledger: later ids are checked one by one.
cdef int64_t LAST_TIP = HIGHEST - (1 << 47)
cdef enum:
    REVISIONS = 1000            # of a bar, between two snapshots: more than a process issues
    MOST_REVISION = 1 << 30
    ALL_FLAGS = 2 * ASTRAY - 1     # of a bar


cdef bint _is_bound(int64_t time_ns) noexcept nogil:
    # Where an interval can begin or end.
    return EARLIEST_NS - LONGEST_NS <= time_ns <= LATEST_NS + LONGEST_NS


cdef bint _is_interval(const Rule *rule, const Summary *bar) noexcept nogil:
    cdef int64_t open_time, close_time
    if not EARLIEST_NS - LONGEST_NS <= bar.open_time <= LATEST_NS:
        return False
    interval_of(rule, bar.open_time, &open_time, &close_time)
    return bar.open_time == open_time and bar.close_time == close_time


cdef bint _is_sum(const Summary *bar, bint by_id) noexcept nogil:
    # What a set of trades can come to, or none.
    cdef int64_t count = count_of(bar)
    cdef int side
    if min(bar.counts[SOLD], min(bar.counts[UNSIDED], bar.counts[BOUGHT])) < 0 or max(
        bar.counts[SOLD], max(bar.counts[UNSIDED], bar.counts[BOUGHT])
    ) > MOST_TRADES:
        return False
    if count == 0:
        for side in range(2):
            if bar.sums[side].volume.lo or bar.sums[side].volume.hi or bar.sums[side].quote.lo or bar.sums[side].quote.hi:
                return False
        return (
            (bar.last_time == LOWEST or is_time(bar.last_time)) and bar.last_id < HIGHEST
            and (bar.high == LOWEST or bar.low == bar.high == bar.open == bar.close)
            and bar.largest == 0 and bar.last_trade_time == LOWEST
        )
    # (Ids of older series are below 0.)
    if not (count <= MOST_TRADES and 0 < bar.largest and bar.first_id < HIGHEST and bar.last_id < HIGHEST
            and (LOWEST < bar.first_id <= bar.last_id if by_id else 0 <= min(bar.first_id, bar.last_id))):
        return False
    if not EARLIEST_NS <= bar.first_time <= bar.last_trade_time <= bar.last_time <= LATEST_NS:
        return False
    if not (bar.low <= bar.open <= bar.high and bar.low <= bar.close <= bar.high and bar.low > LOWEST):
        return False
    for side in range(2):
        if bar.sums[side].volume.hi < 0 or (bar.sums[side].quote.hi < 0 and bar.low >= 0):
            return False
    return not is_beyond(bar)


cdef bint _is_priced(BarTable bars, const Summary *bar) noexcept nogil:
    # No price at or below zero where the instruments take none.
    return bars.instruments.negative_prices or bar.low > 0


cdef bint _is_timed(const Rule *rule, const Summary *bar, bint by_id) noexcept nogil:
    # A time bar, with the trades of its interval.
    return _is_interval(rule, bar) and _is_sum(bar, by_id) and (
        bar.largest == 0 or (bar.open_time <= bar.first_time and bar.last_time < bar.close_time)
    )


cdef bint _is_scaled(const Slot *slot, const Slot *first, const Instrument *own) noexcept nogil:
    # Scales are those of the instrument or, where it was widened since, smaller ones; the same in all specs.
    return (
        0 <= slot.scale.price <= own.scale.price and 0 <= slot.scale.size <= own.scale.size
        and slot.quote_scale == slot.scale.size + (own.contract_scale if own.contract else slot.scale.price)
        and are_equal(slot.scale, first.scale)
        and slot.contract == own.contract
    )


cdef bint _is_anchored(const Rule *rule, const Slot *slot) noexcept nogil:
    # Of an anchored spec: its interval, with the bar in it.
    if slot.never_opened:
        return slot.bar.open_time == slot.bar.close_time == LOWEST and slot.oldest == slot.newest == -1 and slot.index == 0
    if is_outside(rule.anchor, slot.bar.open_time):
        return slot.bar.largest == 0
    return _is_interval(rule.anchor, &slot.bar) and (
        slot.bar.largest == 0 or (slot.bar.open_time <= slot.bar.first_time and slot.bar.last_time < slot.bar.close_time))


cdef bint _is_brick(const Summary *bar) noexcept nogil:
    # A bar without trades that opens and closes at prices of its own.
    cdef Summary empty = bar[0]
    empty.high, empty.low = LOWEST, HIGHEST
    return LOWEST < bar.low <= min(bar.open, bar.close) and max(bar.open, bar.close) <= bar.high and bar.first_time == bar.last_time and (
        _is_sum(&empty, True))


cdef bint _is_anchored_record(const Rule *rule, const Record *record, bint by_id) noexcept nogil:
    # Of an anchored spec: from the anchor's beginning to behind its last trade, or to the anchor's end.
    cdef int64_t open_time, close_time
    if not (_is_brick(&record.bar) if record.bar.largest == 0 else _is_sum(&record.bar, by_id)) or not EARLIEST_NS - LONGEST_NS <= record.bar.open_time <= LATEST_NS:
        return False
    interval_of(rule.anchor, record.bar.open_time, &open_time, &close_time)
    return record.bar.open_time == open_time <= record.bar.first_time and record.bar.last_time < close_time and record.index >= 0 and (
        record.bar.last_time < record.bar.close_time <= close_time if record.reason == BY_TRADE else record.bar.close_time == close_time)


cdef bint _is_slot(const Rule *rule, const Slot *slot, bint by_id) noexcept nogil:
    cdef const Summary *bar = &slot.bar
    if slot.never_opened > 1 or slot.path_lost > ENDED_PATH or slot.taped > 1 or slot.index < 0 or slot.unproven > 1 or slot.contained > 1 or slot.flags > ALL_FLAGS:
        return False
    if not fits(bar, 1):
        return False
    if not is_time_kind(rule.kind):
        return (
            (_is_anchored(rule, slot) if rule.anchor is not NULL else (
                slot.oldest == slot.newest == -1 and bar.open_time == LOWEST and slot.index == 0 and not slot.taped
                and bar.close_time == (LATEST_NS + 1 if bar.largest else LOWEST)))
            and _is_sum(bar, by_id) and slot.path_lost <= ENDED_PATH
            and not (slot.never_opened and bar.largest) and not (rule.kind == TICK and count_of(bar) >= rule.step)
        )
    if slot.gate.next.id != LOWEST and not 0 <= slot.gate.next.id <= (
        HIGHEST if slot.gate.next.limit == LOWEST else LAST_TIP
    ):
        return False
    if bar.open_time < bar.close_time:
        return (
            not slot.never_opened and _is_timed(rule, bar, by_id)
            and (slot.gate.next.limit == LOWEST or slot.gate.next.limit == bar.close_time)
        )
    return (
        bar.open_time == bar.close_time and slot.gate.next.limit == LOWEST and bar.largest == 0 and _is_sum(bar, by_id)
        and (_is_bound(bar.open_time) if not slot.never_opened else bar.open_time == LOWEST and slot.oldest == slot.newest == -1)
    )


cdef bint _is_record(const Rule *rule, const Record *record, bint by_id) noexcept nogil:
    return (
        (_is_anchored_record(rule, record, by_id) if rule.anchor is not NULL else (
            _is_timed(rule, &record.bar, by_id) and not is_outside(rule, record.bar.open_time) and record.index == -1))
        and fits(&record.bar, 1)
        and record.missing >= -1 and record.unpublished >= -1 and record.revision >= 0
        and record.status <= GAP and record.status != REPORTED and (record.status != RETRACTED or rule.anchor is not NULL) and record.reason <= NOT_CLOSED
        and record.reason != BY_CANDLE and record.flags <= ALL_FLAGS
    )


cdef bint _is_past(const Past *past) noexcept nogil:
    return (past.newest_ns == LOWEST or is_time(past.newest_ns)) and (
        past.proven_ns == LOWEST or is_time(past.proven_ns)
    ) and (past.reached_ns == LOWEST or is_time(past.reached_ns)) and (past.let_go_ns == LOWEST or _is_bound(past.let_go_ns)) and (
        past.evicted_ns == LOWEST or _is_bound(past.evicted_ns))


cdef bint _is_state(const Table *table, int spec, Py_ssize_t s) noexcept nogil:
    return table.state_bytes[spec] == 0 or path_rule_of(table.specs.rules[spec].kind).is_sound(
        state_of(table, spec, s), &table.slots[spec][s].bar)


cdef bint _follows(const Record *record, const Record *before) noexcept nogil:
    return record.bar.open_time > before.bar.open_time or (
        record.bar.open_time == before.bar.open_time and record.index > before.index)


cdef int32_t _list_records(BarTable bars, int spec, Py_ssize_t s, uint8_t *listed) noexcept nogil:
    # Marks the records of a slot, and links them backwards, which a snapshot is not asked for; returns how many. -1: a place
    # is wrong, or listed twice, or a record is none.
    cdef Table *table = &bars.table
    cdef const Slot *slot = &table.slots[spec][s]
    cdef int32_t r = slot.oldest, last = -1, count = 0
    while r >= 0:
        if r >= table.records.count or listed[r] or not _is_record(
            &table.specs.rules[spec], &table.records.items[r], table.terms.by_id
        ) or not _is_priced(bars, &table.records.items[r].bar):
            return -1
        if last >= 0 and not _follows(&table.records.items[r], &table.records.items[last]):
            return -1
        listed[r] = 1
        count += 1
        table.records.items[r].previous, table.records.items[r].held = last, -1
        last = r
        r = table.records.items[r].next
    return count if slot.newest == last and r == -1 else -1


cdef int check_bars(BarTable bars) except -1:
    # Slots, their records, the free ones, and the symbols that appeared.
    cdef const Table *table = &bars.table
    cdef uint8_t *listed = <uint8_t *>calloc(table.records.count + table.symbols + 1, 1)
    if listed is NULL:
        raise MemoryError
    try:
        _check_slots(bars, listed)
        _check_rest(bars, listed, listed + table.records.count)
        _check_inside(bars, listed)
        _check_tapes(bars)
    finally:
        free(listed)
    check_coverage(&table.coverage, table.symbols, table.specs.count)
    return 0


cdef bint _is_mark(const Table *table, int spec, const Mark *mark) noexcept nogil:
    cdef const Rule *anchor = table.specs.rules[spec].anchor
    cdef const Summary *bar = &mark.bar
    if mark.index < 0 or mark.path_lost > ENDED_PATH or not fits(bar, 1) or not _is_sum(bar, table.terms.by_id):
        return False
    if mark.reached_ns != LOWEST and not is_time(mark.reached_ns):
        return False
    if bar.open_time == bar.close_time:
        return bar.open_time == LOWEST and bar.largest == 0
    if is_outside(anchor, bar.open_time):
        return bar.largest == 0
    return _is_interval(anchor, bar) and (
        bar.largest == 0 or (bar.open_time <= bar.first_time and bar.last_time < bar.close_time))


cdef bint _is_tape(BarTable bars, int spec, const Tape *tape) noexcept nogil:
    # Trades that this kernel can have taken, and the state before them.
    cdef const Table *table = &bars.table
    cdef const PathRule *rule = path_rule_of(table.specs.rules[spec].kind)
    cdef Py_ssize_t i
    if not _is_mark(table, spec, &tape.mark) or not _is_priced(bars, &tape.mark.bar) or (
        rule.state_bytes and not rule.is_sound(tape.mark.state, &tape.mark.bar)
    ):
        return False
    if (tape.since_ns != LOWEST and not is_time(tape.since_ns)) or (tape.rows and not _is_bound(tape.opened_ns)):
        return False
    for i in range(tape.rows):
        if not is_time(tape.time_ns[i]) or tape.size[i] <= 0 or tape.price[i] == LOWEST or not -1 <= tape.side[i] <= 1 or (
            not 0 < tape.count[i] <= MOST_TRADES or tape.last_id[i] == HIGHEST or not LOWEST < tape.first_id[i] <= tape.last_id[i]
        ):
            return False
        if tape.price[i] <= 0 and not bars.instruments.negative_prices:
            return False
    return True


cdef int _check_tapes(BarTable bars) except -1:
    cdef const Table *table = &bars.table
    cdef const Tape *tape
    cdef Py_ssize_t s
    cdef int k
    for k in range(table.specs.count):
        for s in range(table.symbols):
            tape = tape_of(table, k, s)
            if table.slots[k][s].taped != (tape is not NULL) or (tape is not NULL and not _is_tape(bars, k, tape)):
                raise ValueError(f"the snapshot's tape of {bars.instruments.label(s)} {bars.trees.specs[k]} contradicts itself")
    return 0


cdef int _check_inside(BarTable bars, const uint8_t *listed) except -1:
    # Of each bar what is inside it, and of no two the same.
    cdef Table *table = &bars.table
    cdef Inside *inside = &table.inside
    cdef uint8_t *seen
    cdef Py_ssize_t s
    cdef int32_t r
    cdef int k
    cdef bint sound
    if inside.features is NULL:
        return 0
    seen = <uint8_t *>calloc(inside.detail_count + inside.level_count + 1, 1)
    if seen is NULL:
        raise MemoryError
    try:
        for k in range(table.specs.count):
            if not asks_inside(inside, k):
                continue
            for s in range(table.symbols):
                sound = is_sound_inside(
                    inside, k, inside.of_slots[k][s], &table.slots[k][s].bar, seen, seen + inside.detail_count)
                r = table.slots[k][s].oldest
                while sound and r >= 0:
                    sound = is_sound_inside(
                        inside, k, inside_of_record(inside, r), &table.records.items[r].bar, seen, seen + inside.detail_count)
                    r = table.records.items[r].next
                if not sound:
                    raise ValueError(
                        f"what the snapshot has inside the bars of {bars.instruments.label(s)} {bars.trees.specs[k]} is not"
                        " of their trades")
        for r in range(inside.records):
            if r >= table.records.count or not listed[r]:
                inside.of_records[r] = -1
        unuse_others(inside, seen, seen + inside.detail_count)
    finally:
        free(seen)
    return 0


cdef int _check_slots(BarTable bars, uint8_t *listed) except -1:
    cdef const Table *table = &bars.table
    cdef const Instrument *own
    cdef const Slot *slot
    cdef Summary total
    cdef int32_t found, held = 0
    cdef Py_ssize_t s
    cdef int k
    for s in range(table.symbols):
        own = &bars.instruments.table[s]
        for k in range(table.specs.count):
            slot = &table.slots[k][s]
            if not _is_scaled(slot, &table.slots[0][s], own):
                raise ValueError(f"the snapshot's scales of {bars.instruments.label(s)} are not those of the symbol")
            if not _is_slot(&table.specs.rules[k], slot, table.terms.by_id) or not _is_priced(bars, &slot.bar) or not (
                _is_past(&table.pasts[k][s])
            ):
                raise ValueError(
                    f"the snapshot's open bar of {bars.instruments.label(s)} {bars.trees.specs[k]} contradicts itself")
            if not _is_state(table, k, s):
                raise ValueError(
                    f"the snapshot's state of {bars.instruments.label(s)} {bars.trees.specs[k]} is not one of its rule")
            found = _list_records(bars, k, s, listed)
            if found < 0:
                raise ValueError(
                    f"the snapshot's closed bars of {bars.instruments.label(s)} {bars.trees.specs[k]} contradict each other")
            held += found
        for k in range(table.specs.count):
            if total_bar(table, k, s, &total):
                raise ValueError(f"the snapshot's sums of {bars.instruments.label(s)} {bars.trees.specs[k]} exceed 128 bits")
    if held != table.records.held:
        raise ValueError(f"the snapshot has {held} closed bars where it says {table.records.held}")
    return 0


cdef int _check_rest(BarTable bars, uint8_t *listed, uint8_t *appeared) except -1:
    cdef const Table *table = &bars.table
    cdef int32_t r = table.records.free, left = table.records.count - table.records.held
    cdef Py_ssize_t i, s
    while r >= 0:
        if r >= table.records.count or listed[r]:
            raise ValueError("the snapshot's list of free records does not end, or leads elsewhere")
        listed[r] = 1
        left -= 1
        r = table.records.items[r].next
    if left or r != -1:
        raise ValueError("the snapshot has records that are neither free nor anybody's")
    for i in range(table.appeared_count):
        s = table.appeared[i]
        if not 0 <= s < table.symbols or appeared[s]:
            raise ValueError(f"the snapshot's list of symbols that traded names {s} wrongly")
        appeared[s] = 1
    for s in range(table.symbols):
        if bool(appeared[s]) != has_appeared(table, s):
            raise ValueError(f"the snapshot does not say whether {bars.instruments.label(s)} traded")
    return 0


cdef int check_times(BarTable bars, int64_t arrivals, int64_t healed) except -1:
    cdef const Table *table = &bars.table
    cdef Py_ssize_t s
    cdef int k
    if not 0 <= arrivals <= MOST_TRADES or not 0 <= healed <= MOST_TRADES:
        raise ValueError("the snapshot's counters are out of range")
    for s in range(table.groups.count):
        if table.groups.items[s].watermark_ns > LATEST_NS:
            raise ValueError(f"the snapshot's watermark {table.groups.items[s].watermark_ns} ns is out of range")
    for s in range(table.symbols):
        if table.groups.members[s].floor_ns > LATEST_NS:
            raise ValueError(f"the snapshot's watermark of {bars.instruments.label(s)} is out of range")
    for k in range(table.specs.count):
        for s in range(table.symbols):
            if is_time_kind(table.specs.rules[k].kind) and table.slots[k][s].bar.open_time < table.slots[k][s].bar.close_time < (
                table.groups.items[table.groups.members[s].group].next_close_ns
            ):
                raise ValueError(f"the snapshot's open bar of {bars.instruments.label(s)} would be closed too late")
    return 0


cdef int follow_scales(BarTable bars) except -1:
    # Steps at the scales of the slots; symbols whose scales were widened since are followed with the next batch.
    cdef Table *table = &bars.table
    cdef Py_ssize_t s
    cdef int k
    for s in range(table.symbols):
        if not are_equal(table.slots[0][s].scale, bars.instruments.table[s].scale):
            bars.unfit.add(s)
        for k in range(table.specs.count):
            bars.take_step(k, &table.slots[k][s])
    return 0


cdef void raise_revisions(BarTable bars) noexcept:
    # Above all that the process before may have issued since this snapshot.
    cdef Table *table = &bars.table
    cdef int64_t highest = table.floor
    cdef Py_ssize_t i
    cdef int t
    cdef int32_t r
    for r in range(table.records.count):
        highest = max(highest, table.records.items[r].revision)
    table.floor = <int32_t>min((highest // REVISIONS + 1) * REVISIONS, <int64_t>MOST_REVISION)
    table.floor_until_ns = HIGHEST
    table.floor_seen_ns = LOWEST
    for i in range(table.groups.count):
        table.floor_seen_ns = max(table.floor_seen_ns, table.groups.items[i].watermark_ns)
    for i in range(table.appeared_count):
        for t in range(table.specs.tree_count):
            table.floor_seen_ns = max(table.floor_seen_ns, event_time(table, t, table.appeared[i]))
    for r in range(table.records.count):
        table.records.items[r].revision = table.floor - 1
