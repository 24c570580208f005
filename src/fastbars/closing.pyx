"""Closing bars, and what becomes of the closed ones: amended, proven, healed, judged again, let go.

A closed bar is a Record; those of a symbol and spec are a list in order of time. A record is kept for `lateness`
after its close_time, and, up to the heal horizon, as long as a hole reaches into it or its end is not proven.
Whatever changes about one, a value, its status or the number of trades it lacks, is issued as its next revision.

An interval without trades becomes a record of its own where empty intervals are filled, or where the feed was
down in it: flat at the last close where it is known that nothing was traded, else without prices.

Units: times int64 ns since the epoch, UTC.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t

from fastbars.batch cimport TickBatch
from fastbars.instruments cimport Instruments
from fastbars.ledger cimport UNKNOWN, Ledger
from fastbars.scaled cimport HIGHEST, LOWEST
from fastbars.state cimport BarState, Past, Record, Slot
from fastbars.summary cimport MONTHS, Summary, add_trade, clear_bar, interval_of, is_within, merge_bar

from fastbars.state import NO_ROWS as _NO_ROWS

cdef enum:
    MOST_RECORDS = 1 << 20      # with more of them, none is kept for longer than lateness
    MOST_EMPTY = 100_000        # intervals without trades that one call issues for a symbol and spec

# A watermark beyond every valid trade time says no more than this.
cdef int64_t LATEST_NS = 4_600_000_000_000_000_000


cdef class BarClosing(BarState):
    def __init__(self, Instruments instruments not None, specs, Ledger ledger=None, bint proof=True,
                 int64_t lateness_ns=60_000_000_000, int64_t horizon_ns=3_600_000_000_000, bint fill=False):
        super().__init__(instruments, specs, ledger)
        if lateness_ns < 0 or horizon_ns < 0:
            raise ValueError(f"lateness {lateness_ns} ns and heal horizon {horizon_ns} ns must not be negative")
        self.proof = proof and self.by_id
        self.lateness_ns = lateness_ns
        self.horizon_ns = max(horizon_ns, lateness_ns)
        self.fill = fill
        self.watermark_ns = LOWEST
        self.down_since_ns = HIGHEST
        self.down_until_ns = LOWEST
        self.overflow_row = -1

    cdef int settle(self) except -1:
        # Makes room for new symbols, and follows widened scales.
        self.reserve()
        if self.rescale():
            self.bound = self.largest()
        if self.by_id and self.tree_count and not self.sequenced:
            self.ledger.tips = <const char *>&self.slots[self.trees[0].root][0].bar.last_time
            self.ledger.tip_stride = sizeof(Slot)
        return 0

    # A snapshot, for another process of the same build.

    def dump(self):
        parts = BarState.dump(self)
        parts["times"] = [self.watermark_ns, self.down_since_ns, self.down_until_ns, self.arrivals, self.healed,
                          self.sequenced]
        return parts

    def load(self, dict parts not None):
        BarState.load(self, parts)
        (self.watermark_ns, self.down_since_ns, self.down_until_ns, self.arrivals, self.healed,
         self.sequenced) = parts["times"]
        self.bound = self.largest()

    # Opening and closing.

    cdef void overflowed(self, Py_ssize_t row) noexcept nogil:
        self.overflow_row = row if self.overflow_row < 0 else min(self.overflow_row, row)

    cdef void roll(self, int spec, int symbol_id, int64_t time, Py_ssize_t row) noexcept nogil:
        # Closes the bar that `time` has left behind, if one is open, and opens the one it lies in.
        cdef Slot *slot = &self.slots[spec][symbol_id]
        cdef int64_t open_time = LOWEST, close_time = LOWEST
        cdef bint timed = self.rules[spec].kind <= MONTHS
        cdef bint ended = not self.is_open(spec, symbol_id) and slot.flags & END
        if timed:
            interval_of(&self.rules[spec], time, &open_time, &close_time)
        if self.is_open(spec, symbol_id):
            self.close(spec, symbol_id, row, BY_TRADE, 0)
        if not self.fills:
            # This trade is the proof that bars closed early by watermark, clock or flush were waiting for.
            self.prove(spec, symbol_id, HIGHEST, row)
        if timed:
            if not ended:
                self.pass_time(spec, symbol_id, open_time, BY_TRADE, 0, row)
            self.next_close_ns = min(self.next_close_ns, close_time)
        clear_bar(&slot.bar, open_time, close_time)
        slot.flags = DOWN if timed and self.is_down_in(open_time, close_time) else 0
        slot.contained = 1      # until it is found that it is not
        if slot.fresh:
            slot.fresh = 0
            slot.flags |= START
            self.pasts[spec][symbol_id].start_ns = open_time
            if spec == 0:
                self.appeared[self.appeared_count] = symbol_id
                self.appeared_count += 1

    cdef void close(self, int spec, int symbol_id, Py_ssize_t row, uint8_t reason, uint8_t flags) noexcept nogil:
        # The bars that feed this one were closed before it; event_ns is that of the symbol.
        cdef Slot *slot = &self.slots[spec][symbol_id]
        cdef Record closed
        cdef Record *record = &closed
        cdef Judgement judgement
        cdef Past *past
        cdef int32_t r = -1
        cdef int k
        cdef bint timed = self.rules[spec].kind <= MONTHS
        if timed:
            r = self.new_record()
            if r < 0:
                return
            record = &self.records[r]
            if slot.bar.open_time <= self.pasts[spec][symbol_id].lost_ns < slot.bar.close_time:
                flags |= LOST
        else:
            slot.bar.open_time, slot.bar.close_time = slot.bar.first_time, slot.bar.last_time
        record.bar = slot.bar
        record.revision = 0
        record.reason = reason
        record.flags = slot.flags | flags
        record.lost = 0
        judgement = self.judge(spec, symbol_id, record)
        record.status, record.missing = judgement.status, judgement.missing
        self.issue(spec, symbol_id, record, row)
        past = &self.pasts[spec][symbol_id]
        past.newest_ns = max(past.newest_ns, slot.bar.last_time)
        if not timed:
            clear_bar(&slot.bar, LOWEST, LOWEST)
            return
        for k in range(self.width):
            if self.source[k] == spec and is_within(&slot.bar, &self.slots[k][symbol_id].bar):
                merge_bar(&self.slots[k][symbol_id].bar, &slot.bar, self.by_id)
        if self.by_id and self.source[spec] < 0:
            self.ledger.catch_up(symbol_id)
        slot.gate.limit = LOWEST
        slot.flags = 0
        clear_bar(&slot.bar, record.bar.close_time, record.bar.close_time)
        slot.unproven |= (record.flags & (UNPROVEN | END)) != 0
        self.link(spec, symbol_id, slot.newest, r, -1)
        self.evict(spec, symbol_id)

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

    cdef bint is_held(self, int symbol_id, const Record *record, int64_t age_ns) noexcept nogil:
        if not self.by_id:
            return False
        return record.flags & UNPROVEN or self.ledger.in_doubt(symbol_id, record.bar.open_time, record.bar.close_time)

    # Intervals without trades.

    cdef void pass_time(
        self, int spec, int symbol_id, int64_t until, uint8_t reason, uint8_t flags, Py_ssize_t row
    ) noexcept nogil:
        # Time has passed up to `until`, and no bar is open: issues the empty intervals that are to be issued.
        cdef Slot *slot = &self.slots[spec][symbol_id]
        cdef int64_t open_time, close_time
        cdef bint down
        cdef int left = MOST_EMPTY
        while left and self.next_empty(spec, symbol_id, &open_time, &close_time) and close_time <= until:
            left -= 1
            down = self.is_down_in(open_time, close_time)
            # Where a trade behind it came with the next id, it is proven that the feed missed nothing.
            if self.fill or flags & UNPROVEN or not self.by_id or self.ledger.in_doubt(symbol_id, open_time, close_time):
                self.issue_empty(
                    spec, symbol_id, open_time, close_time, BY_GAP if down and reason != BY_TRADE else reason,
                    flags | (DOWN if down else 0), row)
            clear_bar(&slot.bar, close_time, close_time)

    cdef bint next_empty(self, int spec, int symbol_id, int64_t *open_time, int64_t *close_time) noexcept nogil:
        # The next interval that is issued if it stays empty; False: there is none.
        cdef const Slot *slot = &self.slots[spec][symbol_id]
        if slot.fresh or slot.newest < 0 or self.is_open(spec, symbol_id) or slot.flags & END:
            return False
        interval_of(&self.rules[spec], slot.bar.close_time, open_time, close_time)
        if self.fill:
            return True
        if close_time[0] <= self.down_since_ns:
            if self.down_since_ns == HIGHEST:
                return False
            interval_of(&self.rules[spec], self.down_since_ns, open_time, close_time)
        return open_time[0] < self.down_until_ns

    cdef void issue_empty(
        self, int spec, int symbol_id, int64_t open_time, int64_t close_time, uint8_t reason, uint8_t flags,
        Py_ssize_t row,
    ) noexcept nogil:
        cdef Slot *slot = &self.slots[spec][symbol_id]
        cdef Past *past = &self.pasts[spec][symbol_id]
        cdef int32_t r = self.new_record()
        cdef Record *record
        cdef Judgement judgement
        if r < 0:
            return
        record = &self.records[r]
        clear_bar(&record.bar, open_time, close_time)
        if open_time <= past.lost_ns < close_time:
            flags |= LOST
        record.revision = 0
        record.reason = reason
        record.flags = flags
        record.lost = 0
        judgement = self.judge(spec, symbol_id, record)
        record.status, record.missing = judgement.status, judgement.missing
        self.flatten(record, self.records[slot.newest].bar.close, record.status)
        self.issue(spec, symbol_id, record, row)
        slot.unproven |= (flags & UNPROVEN) != 0
        self.link(spec, symbol_id, slot.newest, r, -1)
        self.evict(spec, symbol_id)

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
            if changed or judgement.status != record.status or judgement.missing != record.missing:
                record.status, record.missing = judgement.status, judgement.missing
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
        cdef int64_t missing = record.lost
        cdef bint gap = flags & LOST
        if flags & DOWN and (not self.by_id or flags & UNPROVEN):
            gap = True
        if self.rules[spec].kind > MONTHS:
            gap |= self.slots[spec][symbol_id].broken
            missing = UNKNOWN
        elif self.by_id and self.ledger.lacks(symbol_id, record.bar.open_time, record.bar.close_time, &missing):
            gap = True
        if gap:
            # Without proof of both ends there may be more of them.
            return Judgement(GAP, UNKNOWN if not self.proof or flags & (START | END | UNPROVEN) else missing)
        if flags & (START | END):
            return Judgement(PARTIAL, UNKNOWN)
        if not self.proof:
            return Judgement(UNVERIFIABLE, UNKNOWN)
        if flags & UNPROVEN:
            return Judgement(PROVISIONAL, UNKNOWN)
        return Judgement(HEALED if flags & FILLED else COMPLETE, 0)

    cdef int64_t event_time(self, int tree, int symbol_id) noexcept nogil:
        cdef int root = self.trees[tree].root
        cdef int64_t newest_ns = max(self.pasts[root][symbol_id].newest_ns, self.slots[root][symbol_id].bar.last_time)
        return max(self.watermark_ns, newest_ns)

    cdef bint is_open(self, int spec, int symbol_id) noexcept nogil:
        cdef const Summary *bar = &self.slots[spec][symbol_id].bar
        return bar.open_time < bar.close_time if self.rules[spec].kind <= MONTHS else bar.count > 0

    # Without a trade.

    def close_until(self, int64_t time_ns, int reason):
        cdef uint8_t flags = UNPROVEN | (DOWN if reason == BY_GAP else 0)
        cdef int64_t open_time, close_time
        cdef Py_ssize_t i
        cdef int j, k, t, s
        if time_ns < self.next_close_ns:
            return _NO_ROWS
        self.row_count = 0
        self.next_close_ns = HIGHEST
        for i in range(self.appeared_count):
            s = self.appeared[i]
            for t in range(self.tree_count):
                self.event_ns = self.event_time(t, s)
                for j in range(self.trees[t].start, self.trees[t].stop):
                    k = self.order[j]
                    if self.is_open(k, s) and self.slots[k][s].bar.close_time <= time_ns:
                        self.close(k, s, i, reason, flags)
                    if self.is_open(k, s):
                        self.next_close_ns = min(self.next_close_ns, self.slots[k][s].bar.close_time)
                        continue
                    self.pass_time(k, s, time_ns, reason, UNPROVEN, i)
                    if self.next_empty(k, s, &open_time, &close_time):
                        self.next_close_ns = min(self.next_close_ns, close_time)
        return self.take(True)

    def flush(self, symbol_id=None):
        self.row_count = 0
        self.end_bars(symbol_id, 0)
        return self.take(True)

    cdef int end_bars(self, object symbol_id, Py_ssize_t behind) except -1:
        # Those of one symbol, or of all; they are issued behind so many rows of a batch.
        cdef Py_ssize_t i
        cdef int j, k, t
        for i in range(self.appeared_count):
            if symbol_id is not None and self.appeared[i] != symbol_id:
                continue
            for t in range(self.tree_count):
                self.event_ns = self.event_time(t, self.appeared[i])
                for j in range(self.trees[t].start, self.trees[t].stop):
                    if self.is_open(self.order[j], self.appeared[i]):
                        self.close(self.order[j], self.appeared[i], behind + i, BY_END, END)
                    self.slots[self.order[j]][self.appeared[i]].flags = END     # until its next trade
            for k in range(self.width):
                if self.rules[k].kind > MONTHS and self.is_open(k, self.appeared[i]):
                    self.close(k, self.appeared[i], behind + i, BY_END, END)
        return 0

    def current(self, int symbol_id, int spec):
        cdef Record record
        cdef Judgement judgement
        cdef const Slot *slot
        if not (0 <= symbol_id < self.instruments.count and 0 <= spec < self.width):
            raise IndexError(f"symbol id {symbol_id} or spec {spec} is outside the {self.instruments.count} and {self.width}")
        self.settle()
        self.row_count = 0
        if not self.is_open(spec, symbol_id):
            return _NO_ROWS
        slot = &self.slots[spec][symbol_id]
        self.total(spec, symbol_id, &record.bar)
        record.revision = 0
        record.reason = NOT_CLOSED
        record.flags = slot.flags | UNPROVEN
        if self.rules[spec].kind > MONTHS:
            record.bar.open_time, record.bar.close_time = record.bar.first_time, record.bar.last_time
        elif record.bar.open_time <= self.pasts[spec][symbol_id].lost_ns < record.bar.close_time:
            record.flags |= LOST
        record.lost = 0
        judgement = self.judge(spec, symbol_id, &record)
        record.status, record.missing = judgement.status, judgement.missing
        self.issue(spec, symbol_id, &record, 0)
        return self.take()

    def feed_down(self, int64_t time_ns):
        if self.down_since_ns < HIGHEST and self.down_until_ns == HIGHEST:
            return
        self.down_since_ns = min(time_ns, HIGHEST - 1)
        self.down_until_ns = HIGHEST
        self.next_close_ns = LOWEST     # quiet symbols have intervals to be issued now

    def feed_up(self, int64_t time_ns):
        cdef Slot *slot
        cdef Py_ssize_t i
        cdef int k
        if self.down_until_ns != HIGHEST:
            return
        self.down_until_ns = max(time_ns, self.down_since_ns + 1)
        for i in range(self.appeared_count):
            for k in range(self.width):
                slot = &self.slots[k][self.appeared[i]]
                if self.rules[k].kind > MONTHS:
                    slot.broken |= not self.by_id
                elif self.is_open(k, self.appeared[i]) and self.is_down_in(slot.bar.open_time, slot.bar.close_time):
                    slot.flags |= DOWN

    cpdef int advance_watermark(self, int64_t time_ns) except -1:
        self.watermark_ns = max(self.watermark_ns, min(time_ns, LATEST_NS))
        return 0

    def note_lost(self, int symbol_id, int64_t time_ns):
        cdef Slot *slot
        cdef Past *past
        cdef int32_t r
        cdef int k
        self.settle()
        self.blank = False
        self.row_count = 0
        for k in range(self.width):
            slot = &self.slots[k][symbol_id]
            if self.rules[k].kind > MONTHS:
                slot.broken = 1
                continue
            past = &self.pasts[k][symbol_id]
            if self.is_open(k, symbol_id) and slot.bar.open_time <= past.lost_ns < slot.bar.close_time:
                slot.flags |= LOST
            past.lost_ns = time_ns
            r = slot.oldest
            while r >= 0:
                if self.records[r].bar.open_time <= time_ns < self.records[r].bar.close_time:
                    self.records[r].flags |= LOST
                r = self.records[r].next
            self.rejudge(k, symbol_id, time_ns, time_ns, 0)
        return self.take()
