"""What a snapshot has put into a kernel's memory, looked at before anything relies on it.

A snapshot is read from a file, and a file can be anything: every place must be in range, every list must end, every
bar must be one that this kernel could have made. Whatever is not so is a ValueError that says what, of which symbol.

Units: times int64 ns since the epoch, UTC.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.stdlib cimport calloc, free

from fastbars.kernel.batch cimport EARLIEST_NS, LATEST_NS
from fastbars.kernel.instruments cimport Instrument
from fastbars.kernel.amend cimport DIRTY, GAP, NOT_CLOSED, BarRecords
from fastbars.kernel.scaled cimport HIGHEST, LOWEST, POWER_OF_TEN
from fastbars.kernel.table cimport LONGEST_NS, Past, Record, Slot, fits
from fastbars.kernel.summary cimport MONTHS, TICK, Rule, Summary, interval_of, is_beyond

# More trades than a lifetime has: numbers below it can be added up without care.
cdef int64_t MOST_TRADES = 1 << 60
# Of an open bar that takes trades without a look at the ledger: ids from there on are looked at one by one.
cdef int64_t LAST_TIP = HIGHEST - (1 << 47)
cdef enum:
    ALL_FLAGS = 2 * DIRTY - 1   # of a bar


cdef bint _is_time(int64_t time_ns) noexcept nogil:
    return EARLIEST_NS <= time_ns <= LATEST_NS


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
    cdef int side
    if bar.count == 0:
        for side in range(2):
            if bar.sums[side].volume.lo or bar.sums[side].volume.hi or bar.sums[side].quote.lo or bar.sums[side].quote.hi:
                return False
        return (
            (bar.last_time == LOWEST or _is_time(bar.last_time)) and bar.last_id < HIGHEST
            and (bar.high == LOWEST or bar.low == bar.high == bar.open == bar.close)
        )
    if not (0 < bar.count <= MOST_TRADES and 0 <= bar.first_id < HIGHEST and 0 <= bar.last_id < HIGHEST
            and (bar.first_id <= bar.last_id or not by_id)):
        return False
    if not EARLIEST_NS <= bar.first_time <= bar.last_time <= LATEST_NS:
        return False
    if not (bar.low <= bar.open <= bar.high and bar.low <= bar.close <= bar.high and bar.low > LOWEST):
        return False
    for side in range(2):
        if bar.sums[side].volume.hi < 0 or (bar.sums[side].quote.hi < 0 and bar.low >= 0):
            return False
    return not is_beyond(bar)


cdef bint _is_priced(BarRecords kernel, const Summary *bar) noexcept nogil:
    # No price at or below zero where the kernel takes none.
    return kernel.instruments.negative_prices or bar.low > 0


cdef bint _is_timed(const Rule *rule, const Summary *bar, bint by_id) noexcept nogil:
    # A time bar, with the trades of its interval.
    return _is_interval(rule, bar) and _is_sum(bar, by_id) and (
        bar.count == 0 or (bar.open_time <= bar.first_time and bar.last_time < bar.close_time)
    )


cdef bint _is_scaled(const Slot *slot, const Slot *first, const Instrument *own) noexcept nogil:
    # Scales are those of the instrument or, where it was widened since, smaller ones; the same in all specs.
    return (
        0 <= slot.price_scale <= own.price_scale and 0 <= slot.size_scale <= own.size_scale
        and slot.quote_scale == slot.size_scale + (own.contract_scale if own.contract else slot.price_scale)
        and slot.price_scale == first.price_scale and slot.size_scale == first.size_scale
        and slot.contract == own.contract
    )


cdef bint _is_slot(const Rule *rule, const Slot *slot, int64_t factor, bint by_id) noexcept nogil:
    cdef const Summary *bar = &slot.bar
    if slot.fresh > 1 or slot.broken > 1 or slot.unproven > 1 or slot.contained > 1 or slot.flags > ALL_FLAGS:
        return False
    if not fits(bar, factor):
        return False
    if rule.kind > MONTHS:
        return (
            slot.oldest == slot.newest == -1 and bar.open_time == bar.close_time == LOWEST and _is_sum(bar, by_id)
            and not (slot.fresh and bar.count) and not (rule.kind == TICK and bar.count >= rule.step)
        )
    if slot.gate.next.id != LOWEST and not 0 <= slot.gate.next.id <= (
        HIGHEST if slot.gate.next.limit == LOWEST else LAST_TIP
    ):
        return False
    if bar.open_time < bar.close_time:
        return (
            not slot.fresh and _is_timed(rule, bar, by_id)
            and (slot.gate.next.limit == LOWEST or slot.gate.next.limit == bar.close_time)
        )
    return (
        bar.open_time == bar.close_time and slot.gate.next.limit == LOWEST and bar.count == 0 and _is_sum(bar, by_id)
        and (_is_bound(bar.open_time) if not slot.fresh else bar.open_time == LOWEST and slot.oldest == slot.newest == -1)
    )


cdef bint _is_record(const Rule *rule, const Record *record, int64_t factor, bint by_id) noexcept nogil:
    return (
        _is_timed(rule, &record.bar, by_id) and fits(&record.bar, factor) and 0 <= record.lost <= MOST_TRADES
        and record.missing >= -1 and record.unpublished >= -1 and record.revision >= 0
        and record.status <= GAP and record.reason <= NOT_CLOSED and record.flags <= ALL_FLAGS
    )


cdef bint _is_past(const Rule *rule, const Past *past) noexcept nogil:
    return (past.newest_ns == LOWEST or _is_time(past.newest_ns)) and (
        past.start_ns == HIGHEST or _is_bound(past.start_ns) or (rule.kind > MONTHS and past.start_ns == LOWEST)
    ) and (past.let_go_ns == LOWEST or _is_bound(past.let_go_ns))


cdef int32_t _list_records(BarRecords kernel, int spec, Py_ssize_t s, uint8_t *listed, int64_t factor) noexcept nogil:
    # Marks the records of a slot; returns how many. -1: a place is wrong, or listed twice, or a record is none.
    cdef const Slot *slot = &kernel.slots[spec][s]
    cdef int32_t r = slot.oldest, last = -1, count = 0
    while r >= 0:
        if r >= kernel.record_count or listed[r] or not _is_record(
            &kernel.rules[spec], &kernel.records[r], factor, kernel.by_id
        ) or not _is_priced(kernel, &kernel.records[r].bar):
            return -1
        if last >= 0 and kernel.records[r].bar.open_time <= kernel.records[last].bar.open_time:
            return -1
        listed[r] = 1
        count += 1
        last = r
        r = kernel.records[r].next
    return count if slot.newest == last and r == -1 else -1


cdef int check_bars(BarRecords kernel) except -1:
    # Slots, their records, the free ones, and the symbols that appeared.
    cdef uint8_t *listed = <uint8_t *>calloc(kernel.record_count + kernel.symbols + 1, 1)
    if listed is NULL:
        raise MemoryError
    try:
        _check_slots(kernel, listed)
        _check_rest(kernel, listed, listed + kernel.record_count)
    finally:
        free(listed)
    return 0


cdef int _check_slots(BarRecords kernel, uint8_t *listed) except -1:
    cdef const Instrument *own
    cdef const Slot *slot
    cdef Summary total
    cdef int64_t factor
    cdef int32_t found, held = 0
    cdef Py_ssize_t s
    cdef int k, t, j
    cdef bint timed
    for s in range(kernel.symbols):
        own = &kernel.instruments.table[s]
        for k in range(kernel.width):
            slot = &kernel.slots[k][s]
            if not _is_scaled(slot, &kernel.slots[0][s], own):
                raise ValueError(f"the snapshot's scales of {kernel.instruments.label(s)} are not those of the symbol")
            factor = POWER_OF_TEN[own.price_scale - slot.price_scale]
            if not _is_slot(&kernel.rules[k], slot, factor, kernel.by_id) or not _is_priced(kernel, &slot.bar) or not (
                _is_past(&kernel.rules[k], &kernel.pasts[k][s])
            ):
                raise ValueError(
                    f"the snapshot's open bar of {kernel.instruments.label(s)} {kernel.specs[k]} contradicts itself")
            found = _list_records(kernel, k, s, listed, factor)
            if found < 0:
                raise ValueError(
                    f"the snapshot's closed bars of {kernel.instruments.label(s)} {kernel.specs[k]} contradict each other")
            held += found
        for k in range(kernel.width):
            if kernel.total(k, s, &total):
                raise ValueError(f"the snapshot's sums of {kernel.instruments.label(s)} {kernel.specs[k]} exceed 128 bits")
        for t in range(kernel.tree_count):
            # Ages are told from the time of the latest trade, which whoever has bars must have.
            timed = _is_time(kernel.pasts[kernel.trees[t].root][s].newest_ns) or _is_time(
                kernel.slots[kernel.trees[t].root][s].bar.last_time)
            for j in range(kernel.trees[t].start, kernel.trees[t].stop):
                if not timed and not kernel.slots[kernel.order[j]][s].fresh:
                    raise ValueError(f"the snapshot has bars of {kernel.instruments.label(s)}, but no time of a trade")
    if held != kernel.records_held:
        raise ValueError(f"the snapshot has {held} closed bars where it says {kernel.records_held}")
    return 0


cdef int _check_rest(BarRecords kernel, uint8_t *listed, uint8_t *appeared) except -1:
    cdef int32_t r = kernel.free_record, left = kernel.record_count - kernel.records_held
    cdef Py_ssize_t i, s
    while r >= 0:
        if r >= kernel.record_count or listed[r]:
            raise ValueError("the snapshot's list of free records does not end, or leads elsewhere")
        listed[r] = 1
        left -= 1
        r = kernel.records[r].next
    if left or r != -1:
        raise ValueError("the snapshot has records that are neither free nor anybody's")
    for i in range(kernel.appeared_count):
        s = kernel.appeared[i]
        if not 0 <= s < kernel.symbols or appeared[s]:
            raise ValueError(f"the snapshot's list of symbols that traded names {s} wrongly")
        appeared[s] = 1
    for s in range(kernel.symbols):
        if appeared[s] == kernel.slots[0][s].fresh:
            raise ValueError(f"the snapshot does not say whether {kernel.instruments.label(s)} traded")
    return 0


cdef int check_times(
    BarRecords kernel, int64_t watermark_ns, int64_t down_since_ns, int64_t down_until_ns, int64_t arrivals, int64_t healed
) except -1:
    cdef Py_ssize_t s
    cdef int k
    if watermark_ns > LATEST_NS or not 0 <= arrivals <= MOST_TRADES or not 0 <= healed <= MOST_TRADES:
        raise ValueError("the snapshot's watermark or counters are out of range")
    if down_since_ns == HIGHEST:
        if down_until_ns != LOWEST:
            raise ValueError("the snapshot has the end of an outage without its beginning")
    elif not _is_time(down_since_ns) or down_until_ns <= down_since_ns:
        raise ValueError("the snapshot's outage ends before it begins")
    for k in range(kernel.width):
        for s in range(kernel.symbols):
            if kernel.rules[k].kind <= MONTHS and kernel.slots[k][s].bar.open_time < kernel.slots[k][s].bar.close_time < (
                kernel.next_close_ns
            ):
                raise ValueError(f"the snapshot's open bar of {kernel.instruments.label(s)} would be closed too late")
    return 0


cdef int follow_scales(BarRecords kernel) except -1:
    # Steps at the scales of the slots; the scales of symbols that were widened since are followed with the next batch.
    cdef Instrument *own
    cdef Slot *slot
    cdef int64_t factor
    cdef Py_ssize_t s
    cdef int32_t r
    cdef int k
    for s in range(kernel.symbols):
        own = &kernel.instruments.table[s]
        for k in range(kernel.width):
            slot = &kernel.slots[k][s]
            factor = POWER_OF_TEN[own.price_scale - slot.price_scale]
            if slot.price_scale != own.price_scale or slot.size_scale != own.size_scale:
                kernel.unfit.add(s)
            if kernel.rules[k].kind > TICK:
                kernel.take_threshold(k, slot)
            # The bars' prices bound how far a scale can widen, as those of their trades did.
            if slot.bar.high != LOWEST:
                own.max_price = max(own.max_price, max(slot.bar.high, -slot.bar.low) * factor)
            r = slot.oldest
            while r >= 0:
                if kernel.records[r].bar.high != LOWEST:
                    own.max_price = max(
                        own.max_price, max(kernel.records[r].bar.high, -kernel.records[r].bar.low) * factor)
                r = kernel.records[r].next
    return 0
