"""Closed bars that can still be amended: late trades, proof, healing, their status, and when they are let go.

Those of a symbol and spec are a list of Records in order of time. A record is kept for `lateness` after its
close_time, and, up to the heal horizon, as long as a hole reaches into it or its end is not proven. Whatever changes
about one, a value, its status or the number of trades it lacks, is issued as its next revision.

Units: times int64 ns since the epoch, UTC.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t

from fastbars.kernel.batch cimport TickBatch
from fastbars.kernel.instruments cimport Instruments
from fastbars.kernel.ids cimport UNKNOWN, Ledger
from fastbars.kernel.scaled cimport HIGHEST, LOWEST
from fastbars.kernel.table cimport BarState, Past, Record, Slot
from fastbars.kernel.summary cimport FIXED, MONTHS, Summary, add_trade, clear_bar, interval_of

cdef enum:
    MOST_RECORDS = 1 << 20      # with more of them, none is kept for longer than lateness


cdef class BarRecords(BarState):
    def __cinit__(self, Instruments instruments not None, specs, Ledger ledger=None, bint proof=True,
                  int64_t lateness_ns=60_000_000_000, int64_t horizon_ns=3_600_000_000_000, bint fill=False):
        if not (0 <= lateness_ns < HIGHEST // 2 and 0 <= horizon_ns < HIGHEST // 2):
            raise ValueError(
                f"lateness {lateness_ns} ns and heal horizon {horizon_ns} ns are outside 0 to {HIGHEST // 2 - 1}")
        self.proof = proof and self.by_id
        self.lateness_ns = lateness_ns
        self.horizon_ns = max(horizon_ns, lateness_ns)
        self.fill = fill
        self.watermark_ns = LOWEST
        self.down_since_ns = HIGHEST
        self.down_until_ns = LOWEST
        self.overflow_row = -1

    cdef void overflowed(self, Py_ssize_t row) noexcept nogil:
        self.overflow_row = row if self.overflow_row < 0 else min(self.overflow_row, row)

    # The list.

    cdef void link(self, int spec, int symbol_id, int32_t before, int32_t r, int32_t behind) noexcept nogil:
        cdef Slot *slot = &self.slots[spec][symbol_id]
        self.records[r].next = behind
        if before >= 0:
            self.records[before].next = r
        else:
            slot.oldest = r
        if behind < 0:
            slot.newest = r

    cdef void evict(self, int spec, int symbol_id) noexcept nogil:
        # Lets go of the records whose time is over; the newest one stays, it may wait for its proof.
        cdef Slot *slot = &self.slots[spec][symbol_id]
        cdef Past *past = &self.pasts[spec][symbol_id]
        cdef Record *record
        cdef int32_t r = slot.oldest, before = -1, next
        cdef int64_t age_ns
        while r != slot.newest:
            record = &self.records[r]
            next = record.next
            age_ns = self.event_ns - record.bar.close_time
            if age_ns <= self.lateness_ns:
                return
            if self.is_held(symbol_id, record, age_ns):
                if age_ns <= self.horizon_ns and self.records_held < MOST_RECORDS:
                    before = r
                    r = next
                    continue
                past.let_go_ns = max(past.let_go_ns, record.bar.close_time)
            if before >= 0:
                self.records[before].next = next
            else:
                slot.oldest = next
            self.free_record_at(r)
            r = next
            # The next one closes a step later at least, and lies in no near cache.
            if self.rules[spec].kind == FIXED and age_ns - self.rules[spec].step <= self.lateness_ns:
                return

    cdef bint is_held(self, int symbol_id, const Record *record, int64_t age_ns) noexcept nogil:
        if not self.by_id:
            return False
        return record.flags & UNPROVEN or self.ledger.in_doubt(symbol_id, record.bar.open_time, record.bar.close_time)

    # Amending.

    cdef bint fold_late(self, int spec, TickBatch batch, Py_ssize_t row) noexcept nogil:
        # A trade older than the open bar amends the closed bar it belongs to, and no other. False: too late.
        cdef int32_t symbol_id = batch.symbol_id[row]
        cdef Slot *slot = &self.slots[spec][symbol_id]
        cdef const Past *past = &self.pasts[spec][symbol_id]
        cdef int64_t time = batch.time_ns[row], open_time, close_time, age_ns
        cdef int32_t r = slot.oldest, before = -1, behind
        cdef Record *record
        cdef bint late
        interval_of(&self.rules[spec], time, &open_time, &close_time)
        while r >= 0 and self.records[r].bar.open_time < open_time:
            before = r
            r = self.records[r].next
        if r >= 0 and self.records[r].bar.open_time != open_time:
            behind = r
            r = -1
        else:
            behind = -1
        age_ns = self.event_ns - close_time
        late = close_time <= past.let_go_ns
        if age_ns > self.lateness_ns and not late:
            # Of an old interval that has no record it must be certain that none was let go.
            late = not self.fills or age_ns > self.horizon_ns or (
                r < 0 and not self.ledger.was_reached(open_time, close_time)
            )
        if late:
            self.not_placed(row, spec)
            if r >= 0:
                self.records[r].flags |= LOST
                self.records[r].lost += batch.count[row] if batch.count is not NULL else 1
                self.revise(spec, symbol_id, r, False, row)
            return False
        if r >= 0:
            record = &self.records[r]
            if record.bar.count == 0:
                clear_bar(&record.bar, open_time, close_time)
        else:
            r = self.new_record()
            if r < 0:
                return False
            record = &self.records[r]
            clear_bar(&record.bar, open_time, close_time)
            record.revision = -1
            record.reason = BY_TRADE
            record.flags = START if open_time < past.start_ns else 0
            record.lost = 0
            if open_time <= past.lost_ns < close_time:
                record.flags |= LOST
            if self.is_down_in(open_time, close_time):
                record.flags |= DOWN
            if behind >= 0:
                record.flags |= self.records[behind].flags & UNPROVEN  # nothing came yet that proves its end either
            self.link(spec, symbol_id, before, r, behind)
        if add_trade(&record.bar, batch, row, slot.contract, self.by_id, self.arrivals + row):
            self.overflowed(row)
        if self.healing:
            record.flags |= FILLED | DIRTY
            return True
        if self.by_id and not self.fills:
            self.prove(spec, symbol_id, open_time, row)
        self.revise(spec, symbol_id, r, True, row)
        return True

    cdef void prove(self, int spec, int symbol_id, int64_t before_ns, Py_ssize_t row) noexcept nogil:
        # The next trade has come, and it belongs to a bar behind these: nothing of them is still to come.
        cdef Slot *slot = &self.slots[spec][symbol_id]
        cdef int32_t r = slot.oldest
        if not slot.unproven:
            return
        slot.unproven = before_ns != HIGHEST
        while r >= 0 and self.records[r].bar.open_time < before_ns:
            if self.records[r].flags & (UNPROVEN | END):
                self.records[r].flags &= ~(UNPROVEN | END)
                self.revise(spec, symbol_id, r, False, row)
            r = self.records[r].next

    cdef void revise(self, int spec, int symbol_id, int32_t r, bint changed, Py_ssize_t row) noexcept nogil:
        # Judges a record again, and issues it where it has `changed` or its status has. A new close goes on into
        # the flat bars behind it.
        cdef Record *record = &self.records[r]
        cdef Judgement judgement
        cdef int64_t close = record.bar.close
        while True:
            judgement = self.judge(spec, symbol_id, record)
            if record.bar.count == 0:
                changed |= self.flatten(record, close, judgement.status)
            if changed or judgement.status != record.status or (
                judgement.missing != record.missing or counted(judgement.unpublished) != record.unpublished
            ):
                take_judgement(record, judgement)
                record.revision += 1
                self.issue(spec, symbol_id, record, row)
            r = record.next
            close = record.bar.close
            if not self.fill or r < 0 or (
                self.records[r].bar.count or self.records[r].bar.open_time != record.bar.close_time
                or self.records[r].bar.close == close
            ):
                return
            record = &self.records[r]
            changed = False

    cdef void rejudge(self, int spec, int symbol_id, int64_t since, int64_t until, Py_ssize_t row) noexcept nogil:
        # A hole between two times was opened or has shrunk: what is known about closed bars it reaches may change.
        cdef int32_t r = self.slots[spec][symbol_id].oldest
        cdef Record *record
        cdef bint dirty
        while r >= 0 and self.healing:
            record = &self.records[r]
            if record.bar.open_time <= until and since < record.bar.close_time:
                record.flags |= FILLED
            r = record.next
        r = self.slots[spec][symbol_id].oldest
        while r >= 0:
            record = &self.records[r]
            dirty = record.flags & DIRTY
            if dirty or (record.bar.open_time <= until and since < record.bar.close_time):
                record.flags &= ~DIRTY
                self.revise(spec, symbol_id, r, dirty, row)
            r = record.next

    cdef Judgement judge(self, int spec, int symbol_id, const Record *record) noexcept nogil:
        cdef uint8_t flags = record.flags
        cdef int64_t missing = record.lost, unpublished = 0 if self.by_id else UNKNOWN
        cdef bint gap = flags & LOST
        if flags & DOWN and (not self.by_id or flags & UNPROVEN):
            gap = True
        if self.rules[spec].kind > MONTHS:
            gap |= self.slots[spec][symbol_id].broken
            missing = unpublished = UNKNOWN
        elif self.by_id and self.ledger.lacks(
            symbol_id, record.bar.open_time, record.bar.close_time, &missing, &unpublished
        ):
            gap = True
        if gap:
            # Without proof of both ends there may be more of them.
            if not self.proof or flags & (START | END | UNPROVEN):
                missing = UNKNOWN
            return Judgement(GAP, missing, unpublished)
        if flags & (START | END):
            return Judgement(PARTIAL, UNKNOWN, unpublished)
        if not self.proof:
            return Judgement(UNVERIFIABLE, UNKNOWN, unpublished)
        if flags & UNPROVEN:
            return Judgement(PROVISIONAL, UNKNOWN, unpublished)
        if self.rules[spec].kind <= MONTHS and unpublished != 0:
            return Judgement(PUBLISHED, 0, unpublished)
        return Judgement(HEALED if flags & FILLED else COMPLETE, 0, unpublished)

    cdef int64_t event_time(self, int tree, int symbol_id) noexcept nogil:
        cdef int root = self.trees[tree].root
        cdef int64_t newest_ns = max(self.pasts[root][symbol_id].newest_ns, self.slots[root][symbol_id].bar.last_time)
        return max(self.watermark_ns, newest_ns)

    cdef bint is_open(self, int spec, int symbol_id) noexcept nogil:
        cdef const Summary *bar = &self.slots[spec][symbol_id].bar
        return bar.open_time < bar.close_time if self.rules[spec].kind <= MONTHS else bar.count > 0

    cdef bint flatten(self, Record *record, int64_t close, uint8_t status) noexcept nogil:
        # Gives an empty bar its prices: the last close, or none (high is LOWEST) where trades may be missing. True:
        # they have changed. `close` is kept either way, for the empty bars behind it.
        cdef bint flat = self.fill and status != GAP
        if flat == (record.bar.high != LOWEST) and (record.bar.close == close or not flat):
            record.bar.close = close
            return False
        record.bar.close = close
        record.bar.open = close if flat else 0
        record.bar.high = close if flat else LOWEST
        record.bar.low = close if flat else HIGHEST
        return True

    cdef bint is_down_in(self, int64_t open_time, int64_t close_time) noexcept nogil:
        return open_time < self.down_until_ns and self.down_since_ns < close_time
